/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of the hosting protocol one by one: order, repetition, death of hosts and owners, limits, rubbish. */
#include "plane_support.h"

/* ---- single rules ---- */

static struct plane_cluster *two_nodes(uint64_t seed, uint16_t maker, qn_qubit ret_qubits[2]) {
    struct plane_cluster *c = cluster_new(2, seed);
    double tensor[16];
    werner(1, tensor);
    cluster_settled_pair(c, maker, 0, 1, tensor, ret_qubits);
    return c;
}

Test(plane, operations_on_one_qubit_keep_their_order) {
    qn_qubit q[2];
    struct plane_cluster *c = two_nodes(1, 0, q);
    struct qn_plane_op ops[] = {{.kind = OP(RESET), .tag = 0}, {.kind = OP(H), .tag = 1}, {.kind = OP(Z), .tag = 2}};
    for (size_t i = 0; i < 3; i++) {
        ops[i].qubits[0] = q[1];
        ops[i].n_qubits = 1;
        cr_assert_eq(cluster_submit(c, 1, &ops[i]), 0);
    }
    struct qn_plane_op last = measure(q[1], 1, 0, 0, 3);
    cr_assert_eq(cluster_submit(c, 1, &last), 0);
    cr_assert_eq(cluster_submit(c, 1, &last), -QN_ENOT_FOUND, "it will be gone");
    cluster_run(c);
    cr_assert(c->results[3].done && c->results[3].outcome == 1, "Z H |0> is |->");
    cluster_check_final(c);
    cluster_free(c);
}

static void send(struct plane_cluster *c, uint16_t to, uint16_t from, Qnet__V1__Operation *op) { /* Whatever its id. */
    Qnet__V1__PlaneMessage message = QNET__V1__PLANE_MESSAGE__INIT;
    Qnet__V1__OpRequest request = QNET__V1__OP_REQUEST__INIT;
    request.op = op;
    message.body_case = QNET__V1__PLANE_MESSAGE__BODY_OP;
    message.op = &request;
    cr_assert_eq(qn_plane_on_message(c->planes[to], from, &message), 0);
}

static size_t count_results(struct plane_cluster *c, uint16_t node, uint32_t *ret_outcome) {
    struct qn_plane_out out;
    size_t n = 0;
    while (qn_plane_next_out(c->planes[node], &out)) {
        Qnet__V1__PlaneMessage *m = qnet__v1__plane_message__unpack(NULL, out.len, out.bytes);
        cr_assert(m != NULL && m->body_case == QNET__V1__PLANE_MESSAGE__BODY_RESULT);
        *ret_outcome = m->result->outcome;
        qnet__v1__plane_message__free_unpacked(m, NULL);
        n++;
    }
    return n;
}

Test(plane, an_operation_sent_again_is_answered_again_but_done_once) {
    qn_qubit q[2];
    struct plane_cluster *c = two_nodes(1, 0, q);
    const uint64_t me = UINT64_C(1) << 48;
    int64_t when = 0;
    double t[4], up[3] = {0, 0, 1};
    uint32_t first = 9, again = 9;
    Qnet__V1__Operation reset = QNET__V1__OPERATION__INIT, hadamard = reset, look = reset;
    reset.id = me + 1000, hadamard.id = me + 1001, look.id = me + 1002;
    reset.kind = OP(RESET), hadamard.kind = OP(H), look.kind = OP(MEASURE);
    look.n_args = 3, look.args = up;
    Qnet__V1__Operation *const all[] = {&reset, &hadamard, &look};
    for (size_t i = 0; i < 3; i++) {
        all[i]->requester = 1;
        all[i]->n_qubits = all[i]->n_times_ns = 1;
        all[i]->qubits = &q[1];
        all[i]->times_ns = &when;
    }
    send(c, 0, 1, &reset);
    send(c, 0, 1, &hadamard);
    send(c, 0, 1, &hadamard);
    cr_assert_eq(count_results(c, 0, &first), 3);
    send(c, 0, 1, &reset); /* Older than what was done since. */
    cr_assert_eq(count_results(c, 0, &first), 0);
    cluster_inspect(c, &q[1], 1, 0, t);
    cr_assert_float_eq(t[1], 1, 1e-12);
    send(c, 0, 1, &look);
    cr_assert_eq(count_results(c, 0, &first), 1);
    send(c, 0, 1, &look);
    cr_assert_eq(count_results(c, 0, &again), 1);
    cr_assert_eq(first, again);
    cluster_free(c);
}

Test(plane, when_the_host_dies_a_qubit_is_what_its_owner_made_of_it) {
    qn_qubit q[2];
    double t[4];
    struct plane_cluster *c = two_nodes(1, 0, q);
    struct qn_plane_op ops[] = {single(OP(RESET), q[1], 0), single(OP(H), q[1], 1)};
    for (size_t i = 0; i < 2; i++) cr_assert_eq(cluster_submit(c, 1, &ops[i]), 0);
    cluster_run(c);
    cr_assert_eq(cluster_host_of(c, q[1]), 0);
    cluster_crash(c, 0);
    cluster_run(c);
    cluster_check_final(c);
    cluster_inspect(c, &q[1], 1, 0, t);
    cr_assert_float_eq(t[1], 1, 1e-9);
    cluster_free(c);
}

/* R12: a, b1, b2, c in one state. The outcomes of b1 and b2 fix c; when its host dies after they were seen, c is that.
 */
Test(plane, released_outcomes_outlive_the_host) {
    double tensor[16], t[4];
    werner(1, tensor);
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct plane_cluster *c = cluster_new(3, seed);
        qn_qubit q[2][2];
        for (uint16_t i = 0; i < 2; i++) cluster_settled_pair(c, 1, i, (uint16_t)(i + 1), tensor, q[i]);
        struct qn_plane_op ops[] = {joint(OP(CNOT), q[0][1], q[1][0], 0), measure(q[1][0], 0, 0, 1, 1),
                                    measure(q[0][1], 0, 0, 1, 2)};
        for (size_t i = 0; i < 3; i++) cr_assert_eq(cluster_submit(c, 1, &ops[i]), 0);
        cluster_run(c);
        cr_assert_eq(cluster_host_of(c, q[1][1]), 0, "handed over to the lowest owner");
        cluster_crash(c, 0);
        cluster_run(c);
        cluster_check_final(c);
        cluster_inspect(c, &q[1][1], 1, 0, t);
        double expected = c->results[1].outcome == c->results[2].outcome ? 1 : -1;
        cr_assert_float_eq(t[3], expected, 1e-9, "seed %llu: %f", (unsigned long long)seed, t[3]);
        cluster_free(c);
    }
}

/* Marginal <Z> of the far qubit after a swap of two pairs, given its outcome (tensors as in lib/sim; physics.md F.1).
 */
static double far_z(const double a[16], const double b[16], uint32_t outcome) {
    static const double d[4][4] = {{1, 1, -1, 1}, {1, -1, 1, 1}, {1, 1, 1, -1}, {1, -1, -1, -1}};
    double norm = 0, z = 0;
    for (size_t k = 0; k < 4; k++) {
        norm += a[k] * d[outcome][k] * b[4 * k];
        z += a[k] * d[outcome][k] * b[4 * k + 3];
    }
    return z / norm;
}

/* R12: pairs of a single-click link are not Bell-diagonal, so the outcome of a swap says something of the far qubit.
 * When the host of the state is lost after the outcome was released, the far qubit is what the outcome made of it. */
Test(plane, a_released_swap_of_single_click_pairs_outlives_the_host) {
    struct qn_herald herald = qn_single_click(.1, .1, 4e-4, 4e-4, .9, 0, 0);
    const double *p = herald.rho;
    double pair[16] = {1}, t[4], seen[4] = {9, 9, 9, 9};
    pair[3] = p[0] - p[1] + p[2] - p[3];
    pair[12] = p[0] + p[1] - p[2] - p[3];
    pair[15] = p[0] - p[1] - p[2] + p[3];
    pair[5] = pair[10] = 2 * herald.coherence;
    for (uint64_t seed = 0; seed < 400; seed++) {
        struct plane_cluster *c = cluster_new(3, seed);
        qn_qubit q[2][2];
        for (uint16_t i = 0; i < 2; i++)
            cluster_settled_pair(c, (uint16_t)(i + pick(c, 2)), i, (uint16_t)(i + 1), pair, q[i]);
        struct qn_plane_op swap = joint(OP(BELL), q[0][1], q[1][0], 0);
        cr_assert_eq(cluster_submit(c, 1, &swap), 0);
        while (!c->results[0].done) cr_assert(cluster_deliver(c));
        int host = cluster_host_of(c, q[1][1]);
        if (host == 2) { /* Its owner keeps it: nothing can be lost. */
            cluster_free(c);
            continue;
        }
        cr_assert_eq(host, 0, "handed over to the lowest owner");
        cluster_crash(c, 0);
        cluster_run(c);
        cluster_check_final(c);
        cluster_inspect(c, &q[1][1], 1, 0, t);
        uint32_t outcome = c->results[0].outcome;
        seen[outcome] = far_z(pair, pair, outcome);
        cr_assert_float_eq(t[3], seen[outcome], 1e-9, "seed %llu: outcome %u, <Z> %f, not %f", (unsigned long long)seed,
                           outcome, t[3], seen[outcome]);
        cluster_free(c);
    }
    for (uint32_t outcome = 0; outcome < 4; outcome++)
        cr_assert_float_eq(seen[outcome], outcome < 2 ? -0.020 : -0.177, 6e-3, "outcome %u: %f", outcome,
                           seen[outcome]);
}

Test(plane, submit_refuses_what_makes_no_sense) {
    qn_qubit q[2];
    struct plane_cluster *c = two_nodes(1, 0, q);
    struct qn_plane_op wrong[] = {measure(q[1], 0, 0, 1, 0),       measure(q[0], 0, 0, 0, 0),
                                  measure(q[0], NAN, 0, 1, 0),     single(OP(CNOT), q[0], 0),
                                  joint(OP(CNOT), q[0], q[0], 0),  single((enum _Qnet__V1__OpKind)17, q[0], 0),
                                  single(OP(UNSPECIFIED), q[0], 0)};
    cr_assert_eq(cluster_submit(c, 0, &wrong[0]), -QN_ENOT_FOUND, "another's qubit");
    for (size_t i = 1; i < sizeof wrong / sizeof *wrong; i++)
        cr_assert_eq(cluster_submit(c, 0, &wrong[i]), -QN_EINVAL, "%zu", i);
    wrong[1] = measure(q[0], 0, 0, 1, 0);
    wrong[1].readout_error = 1.5;
    cr_assert_eq(cluster_submit(c, 0, &wrong[1]), -QN_EINVAL);
    cr_assert_eq(qn_plane_n_pending(c->planes[0]), 0);
    cluster_free(c);
}

/* Of 64 outcomes of |0> along X, a bit each. */
static uint64_t outcomes_of(uint64_t seed, uint8_t secret, bool is_secret) {
    struct qn_plane_config config = {.n_nodes = 1, .seed = seed, .secret = {secret}, .first_sequence = 1};
    struct qn_plane *plane;
    struct qn_plane_result result;
    uint64_t bits = 0;
    cr_assert_eq(qn_plane_new(&config, &plane), 0);
    for (int i = 0; i < 64; i++) {
        struct qn_plane_op op = {.kind = QNET__V1__OP_KIND__OP_KIND_MEASURE,
                                 .n_qubits = 1,
                                 .args = {1, 0, 0},
                                 .n_args = 3,
                                 .secret = is_secret};
        cr_assert_eq(qn_plane_prepare(plane, 0, (struct qn_memory){0, 0}, &op.qubits[0]), 0);
        cr_assert_eq(qn_plane_submit(plane, &op), 0);
        cr_assert(qn_plane_next_result(plane, &result));
        bits = bits << 1 | result.outcome;
    }
    qn_plane_free(plane);
    return bits;
}

static unsigned n_alike(uint64_t a, uint64_t b) { return 64 - (unsigned)__builtin_popcountll(a ^ b); }

Test(plane, outcomes_for_keys_follow_the_secret_and_others_the_seed) {
    cr_assert_eq(n_alike(outcomes_of(1, 7, false), outcomes_of(1, 8, false)), 64);
    cr_assert_eq(n_alike(outcomes_of(1, 7, true), outcomes_of(2, 7, true)), 64); /* Repeatable for who knows it. */
    unsigned alike = n_alike(outcomes_of(1, 7, true), outcomes_of(1, 8, true)),
             ones = n_alike(0, outcomes_of(1, 7, true));
    cr_assert(alike > 12 && alike < 52 && ones > 12 && ones < 52, "%u of 64 alike, %u zeros", alike,
              ones); /* 5 sigma. */
    alike = n_alike(outcomes_of(1, 7, true), outcomes_of(1, 7, false));
    cr_assert(alike > 12 && alike < 52, "%u of 64 alike", alike);
}

Test(plane, noise_acts_up_to_the_operation_by_the_owners_clock) {
    struct plane_cluster *c = cluster_new(1, 1);
    qn_qubit q;
    double t[4];
    cr_assert_eq(qn_plane_prepare(c->planes[0], 1000, (struct qn_memory){.5, .25}, &q), 0);
    struct qn_plane_op op = single(OP(H), q, 0);
    op.time_ns = 1000;
    cr_assert_eq(cluster_submit(c, 0, &op), 0);
    cluster_inspect(c, &q, 1, 1000 + 250000000, t);
    cr_assert_float_eq(t[1], exp(-1), 1e-12);
    cr_assert_float_eq(t[3], 1 - exp(-.5), 1e-12);
    cr_assert_eq(qn_plane_claim(c->planes[0], q, 1000000000, (struct qn_memory){0, 0}), 0);
    cluster_inspect(c, &q, 1, 5000000000, t);
    cr_assert_float_eq(t[1], 1, 1e-12, "a claimed qubit starts afresh");
    op = single(OP(IDLE), q, 1);
    op.time_ns = 2000000000;
    cr_assert_eq(cluster_submit(c, 0, &op), 0);
    op = measure(q, 1, 0, 0, 2);
    op.readout_error = 1;
    cr_assert_eq(cluster_submit(c, 0, &op), 0);
    cr_assert_eq(c->results[2].outcome, 1, "|+> misread");
    cluster_free(c);
}

Test(plane, merging_too_many_qubits_changes_nothing) {
    struct plane_cluster *c = cluster_new(1, 1);
    qn_qubit q[QN_STATE_MAX + 1];
    double t[16];
    for (size_t i = 0; i <= QN_STATE_MAX; i++)
        cr_assert_eq(qn_plane_prepare(c->planes[0], 0, (struct qn_memory){0, 0}, &q[i]), 0);
    for (size_t i = 0; i < QN_STATE_MAX; i++) {
        struct qn_plane_op op = joint(OP(CNOT), q[0], q[i + 1], i);
        cr_assert_eq(cluster_submit(c, 0, &op), 0);
        cr_assert_eq(c->results[i].error, i + 1 < QN_STATE_MAX ? 0 : -QN_ELIMIT);
    }
    cr_assert_eq(qn_plane_n_groups(c->planes[0]), 2);
    cr_assert(qn_plane_is_owned(c->planes[0], q[QN_STATE_MAX]));
    cluster_inspect(c, q, 2, 0, t);
    cr_assert_float_eq(t[15], 1, 1e-9);
    cluster_free(c);
}

Test(plane, a_leaving_node_takes_only_its_own_qubits) {
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct plane_cluster *c = cluster_new(3, seed);
        qn_qubit q[2][2];
        double t[16], tensor[16];
        werner(.9, tensor);
        for (uint16_t i = 0; i < 2; i++) cluster_settled_pair(c, 1, i, (uint16_t)(i + 1), tensor, q[i]);
        struct qn_plane_op fuse = joint(OP(CZ), q[0][1], q[1][0], 0);
        cr_assert_eq(cluster_submit(c, 1, &fuse), 0);
        struct qn_plane_op idle = single(OP(IDLE), q[1][1], 1);
        cr_assert_eq(cluster_submit(c, 2, &idle), 0);
        while (!qn_plane_leave(c->planes[1])) {
            cluster_collect(c, 1);
            cluster_deliver(c);
            cluster_check(c);
        }
        cluster_collect(c, 1);
        cluster_run(c);
        cr_assert(c->results[1].done);
        for (uint16_t i = 0; i < 3; i += 2) qn_plane_on_down(c->planes[i], 1, 0);
        qn_plane_free(c->planes[1]);
        c->planes[1] = NULL;
        for (uint16_t i = 0; i < 3; i += 2) cluster_collect(c, i);
        cluster_run(c);
        cluster_check_final(c);
        cluster_inspect(c, (qn_qubit[]){q[0][0], q[1][1]}, 2, 0, t); /* Still one state, as it was. */
        cr_assert_float_eq(t[15], 0, 1e-9);
        cluster_free(c);
    }
}

Test(plane, old_records_are_dropped) {
    struct plane_cluster *c = cluster_new(3, 1);
    double tensor[16];
    werner(1, tensor);
    for (uint64_t i = 0; i < 70000; i++) { /* A station's tombstones, and results at a host that is not the owner. */
        qn_qubit q[2];
        cluster_pair(c, 2, 0, 1, tensor, q);
        while (cluster_deliver(c)) continue;
        for (uint16_t end = 2; end-- > 0;) {
            struct qn_plane_op op = measure(q[end], 0, 0, 1, end);
            cr_assert_eq(cluster_submit(c, end, &op), 0);
            while (cluster_deliver(c)) continue;
        }
        cr_assert_eq(c->results[0].outcome, c->results[1].outcome);
        c->results[0].done = c->results[1].done = false;
    }
    cluster_check_final(c);
    cr_assert_eq(cluster_n_records(c, 0), 65536);
    cr_assert_eq(cluster_n_records(c, 1), 0);
    cr_assert_eq(cluster_n_records(c, 2), 65536);
    cluster_free(c);
}

/* A peer that lies or stutters may ruin its own qubits, but cannot make us fail. */
Test(plane, rubbish_is_refused_or_harmless) {
    size_t refused = 0, harmless = 0;
    for (uint64_t seed = 0; seed < 1500; seed++) {
        struct plane_cluster *c = cluster_new(4, seed);
        double tensor[16];
        werner(.9, tensor);
        qn_qubit q[3][2];
        for (uint16_t i = 0; i < 3; i++) cluster_pair(c, (uint16_t)pick(c, 4), i, (uint16_t)(i + 1), tensor, q[i]);
        for (size_t n = 0; n < 60; n++) {
            for (uint16_t i = 1; i < 3; i++) {
                struct qn_plane_op op = joint(pick(c, 2) == 0 ? OP(BELL) : OP(CNOT), q[i - 1][1], q[i][0], 64 * i + n);
                if (pick(c, 4) == 0) cluster_submit(c, i, &op);
            }
            if (!cluster_deliver_mutated(c, &refused, &harmless)) break;
        }
        cluster_free(c);
    }
    cr_assert_gt(refused, 1000);
    cr_assert_gt(harmless, 1000);
}
