/* SPDX-License-Identifier: Apache-2.0 */
/* The hosting protocol under random schedules: safety after every step, completion at the end, and quantum statistics
 * that do not depend on who hosts what or which message comes first. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../support/plane_cluster.h"
#include "base/err.h"
#include "link/link.h"

#define OP(name) QNET__V1__OP_KIND__OP_KIND_##name
#define HALF_PI 1.57079632679489661923

static void werner(double fidelity, double ret_tensor[16]) {
    double w = (4 * fidelity - 1) / 3;
    for (size_t i = 0; i < 16; i++) ret_tensor[i] = 0;
    ret_tensor[0] = 1;
    ret_tensor[5] = ret_tensor[15] = w;
    ret_tensor[10] = -w;
}

/* Fidelity with (I x X^(bell >> 1) Z^(bell & 1)) Phi+. */
static double fidelity(const double t[16], uint32_t bell) {
    double x = (bell & 1) != 0 ? -1 : 1, z = (bell & 2) != 0 ? -1 : 1;
    return (1 + x * t[5] - x * z * t[10] + z * t[15]) / 4;
}

static struct qn_plane_op single(enum _Qnet__V1__OpKind kind, qn_qubit q, uint64_t tag) {
    return (struct qn_plane_op){.kind = kind, .qubits = {q}, .n_qubits = 1, .tag = tag};
}

static struct qn_plane_op joint(enum _Qnet__V1__OpKind kind, qn_qubit a, qn_qubit b, uint64_t tag) {
    return (struct qn_plane_op){.kind = kind, .qubits = {a, b}, .n_qubits = 2, .tag = tag};
}

static struct qn_plane_op measure(qn_qubit q, double x, double y, double z, uint64_t tag) {
    return (struct qn_plane_op){
        .kind = OP(MEASURE), .qubits = {q}, .n_qubits = 1, .args = {x, y, z}, .n_args = 3, .tag = tag};
}

static uint64_t pick(struct plane_cluster *c, uint64_t n) { return qn_rng_below(&c->rng, n); }

/* ---- programs: operations submitted at random moments, in order at each node ---- */

struct step {
    uint16_t node;
    struct qn_plane_op op;
    int after; /* Tag whose result it waits for; -1: none. */
};

enum { STEPS_MAX = 96 };
struct program {
    struct step steps[STEPS_MAX];
    bool started[STEPS_MAX];
    size_t n;
};

static void add(struct program *p, uint16_t node, struct qn_plane_op op, int after) {
    cr_assert_lt(p->n, STEPS_MAX);
    op.tag = p->n;
    p->steps[p->n++] = (struct step){node, op, after};
}

static bool may_start(const struct plane_cluster *c, const struct program *p, size_t i) {
    const struct step *s = &p->steps[i];
    if (p->started[i] || c->planes[s->node] == NULL) return false;
    if (s->after >= 0 && !c->results[s->after].done) return false;
    for (size_t k = 0; k < i; k++) /* Earlier steps on the same qubits first. */
        if (!p->started[k] && p->steps[k].node == s->node) return false;
    for (size_t k = 0; k < s->op.n_qubits; k++)
        if (!qn_plane_is_owned(c->planes[s->node], s->op.qubits[k])) return false;
    return true;
}

static size_t run(struct plane_cluster *c, struct program *p, unsigned crashes, double crash_p) {
    size_t n_steps = 0;
    for (;; n_steps++) {
        size_t ready[STEPS_MAX], n_ready = 0, n_flying = cluster_in_flight(c);
        for (size_t i = 0; i < p->n; i++)
            if (may_start(c, p, i)) ready[n_ready++] = i;
        if (n_ready + n_flying == 0) break;
        if (crashes > 0 && qn_rng_double(&c->rng) < crash_p) {
            uint16_t victim = (uint16_t)pick(c, c->n);
            if (c->planes[victim] != NULL) {
                cluster_crash(c, victim);
                crashes--;
                continue;
            }
        }
        size_t chosen = (size_t)pick(c, n_ready + n_flying);
        if (chosen < n_ready) {
            size_t i = ready[chosen];
            p->started[i] = true;
            int rc = cluster_submit(c, p->steps[i].node, &p->steps[i].op);
            cr_assert_eq(rc, 0, "submit: %d", rc);
        } else
            cluster_deliver(c);
        cluster_check(c);
        cr_assert_lt(n_steps, 20000, "livelock");
    }
    cluster_check_final(c);
    return n_steps;
}

static void all_done(const struct plane_cluster *c, const struct program *p) {
    for (size_t i = 0; i < p->n; i++) cr_assert(c->results[i].done && c->results[i].error == 0, "operation %zu", i);
}

/* ---- T1: swap chains ---- */

static void swap_chain(uint64_t seed, uint16_t repeaters, bool racing, double noise) {
    uint16_t n = (uint16_t)(repeaters + 2);
    struct plane_cluster *c = cluster_new(n, seed);
    double tensor[16], f = .9;
    werner(f, tensor);
    qn_qubit qubits[CLUSTER_MAX][2];
    uint16_t order[CLUSTER_MAX];
    for (uint16_t i = 0; i + 1 < n; i++) order[i] = i;
    for (size_t i = (size_t)n - 1; i > 1; i--) { /* Group ids in random order. */
        size_t k = (size_t)pick(c, i);
        uint16_t x = order[i - 1];
        order[i - 1] = order[k];
        order[k] = x;
    }
    for (uint16_t k = 0; k + 1 < n; k++) {
        uint16_t i = order[k], maker = racing ? (uint16_t)pick(c, n) : (uint16_t)(i + pick(c, 2));
        cluster_pair(c, maker, i, (uint16_t)(i + 1), tensor, qubits[i]);
    }
    if (!racing) cluster_run(c);
    struct program p = {0};
    for (uint16_t i = 1; i + 1 < n; i++) {
        struct qn_plane_op swap = joint(OP(BELL), qubits[i - 1][1], qubits[i][0], 0);
        swap.depolarise = noise;
        add(&p, i, swap, -1);
    }
    run(c, &p, 0, 0);
    all_done(c, &p);
    uint32_t frame = 0;
    for (size_t i = 0; i < p.n; i++) frame ^= c->results[i].outcome;
    double t[16];
    cluster_inspect(c, (qn_qubit[]){qubits[0][0], qubits[n - 2][1]}, 2, 0, t);
    double expected = (1 + 3 * pow((4 * f - 1) / 3, repeaters + 1) * pow(1 - noise, repeaters)) / 4;
    cr_assert_float_eq(fidelity(t, frame), expected, 1e-9, "seed %llu: %.12f", (unsigned long long)seed,
                       fidelity(t, frame));
    cluster_free(c);
}

Test(plane, swap_chains_are_exact_in_every_run) {
    for (uint16_t repeaters = 1; repeaters <= 3; repeaters++)
        for (uint64_t seed = 0; seed < 300; seed++) {
            swap_chain(seed, repeaters, false, 0);
            swap_chain(seed, repeaters, true, .1);
        }
}

/* ---- T2: CHSH ---- */

static double chsh_sum(const double sum[4], const double n[4], double *ret_error) {
    double s = 0, variance = 0;
    for (size_t k = 0; k < 4; k++) {
        double e = sum[k] / n[k];
        s += k == 3 ? -e : e;
        variance += (1 - e * e) / n[k];
    }
    *ret_error = sqrt(variance);
    return s;
}

Test(plane, chsh_is_violated_while_messages_race) {
    const double h = sqrt(.5);
    const double a[2][3] = {{0, 0, 1}, {1, 0, 0}}, b[2][3] = {{h, 0, h}, {-h, 0, h}};
    double tensor[16];
    werner(1, tensor);
    for (int swapped = 0; swapped < 2; swapped++) {
        double sum[4] = {0}, n[4] = {0};
        for (uint64_t seed = 0; seed < 12000; seed++) {
            struct plane_cluster *c = cluster_new(3, seed);
            qn_qubit q[2][2];
            size_t x = (size_t)pick(c, 2), y = (size_t)pick(c, 2);
            struct program p = {0};
            uint16_t first = (uint16_t)pick(c, 2);
            for (uint16_t k = 0; k < 2; k++) {
                uint16_t i = k ^ first;
                if (swapped)
                    cluster_settled_pair(c, (uint16_t)(i + pick(c, 2)), i, (uint16_t)(i + 1), tensor, q[i]);
                else if (i == 0)
                    cluster_settled_pair(c, (uint16_t)(pick(c, 2) * 2), 0, 2, tensor, q[0]);
            }
            add(&p, 0, measure(q[0][0], a[x][0], a[x][1], a[x][2], 0), -1);
            add(&p, 2, measure(swapped ? q[1][1] : q[0][1], b[y][0], b[y][1], b[y][2], 0), -1);
            if (swapped) add(&p, 1, joint(OP(BELL), q[0][1], q[1][0], 0), -1);
            run(c, &p, 0, 0);
            all_done(c, &p);
            if (!swapped || c->results[2].outcome == 0) { /* Without a frame to correct. */
                sum[2 * x + y] += c->results[0].outcome == c->results[1].outcome ? 1 : -1;
                n[2 * x + y]++;
            }
            cluster_free(c);
        }
        double error, s = chsh_sum(sum, n, &error);
        cr_assert_float_eq(s, 2 * sqrt(2), 5 * error, "swapped %d: %f +- %f", swapped, s, error);
    }
}

/* ---- T3: GHZ by fusion ---- */

static int ghz_parity(uint64_t seed, const char *bases) {
    const double axes[2][3] = {{1, 0, 0}, {0, 1, 0}};
    struct plane_cluster *c = cluster_new(3, seed);
    double tensor[16];
    werner(1, tensor);
    qn_qubit q[2][2];
    uint16_t first = (uint16_t)pick(c, 2);
    for (uint16_t k = 0; k < 2; k++) {
        uint16_t i = k ^ first;
        cluster_settled_pair(c, (uint16_t)(i + pick(c, 2)), i, (uint16_t)(i + 1), tensor, q[i]);
    }
    const double *x[3];
    for (size_t i = 0; i < 3; i++) x[i] = axes[bases[i] == 'Y'];
    struct program p = {0};
    add(&p, 1, joint(OP(CNOT), q[0][1], q[1][0], 0), -1);
    add(&p, 1, measure(q[1][0], 0, 0, 1, 0), -1);
    add(&p, 1, measure(q[0][1], x[1][0], x[1][1], x[1][2], 0), -1);
    add(&p, 0, measure(q[0][0], x[0][0], x[0][1], x[0][2], 0), -1);
    add(&p, 2, measure(q[1][1], x[2][0], x[2][1], x[2][2], 0), -1);
    run(c, &p, 0, 0);
    all_done(c, &p);
    uint32_t parity = c->results[2].outcome ^ c->results[3].outcome ^ c->results[4].outcome;
    if (bases[2] == 'Y') parity ^= c->results[1].outcome; /* X on the third party turns Y round. */
    cluster_free(c);
    return parity == 0 ? 1 : -1;
}

Test(plane, ghz_parities_are_exact_in_every_run) {
    for (uint64_t seed = 0; seed < 500; seed++) {
        cr_assert_eq(ghz_parity(seed, "XXX"), 1, "seed %llu", (unsigned long long)seed);
        cr_assert_eq(ghz_parity(seed, "XYY"), -1, "seed %llu", (unsigned long long)seed);
        cr_assert_eq(ghz_parity(seed, "YXY"), -1, "seed %llu", (unsigned long long)seed);
        cr_assert_eq(ghz_parity(seed, "YYX"), -1, "seed %llu", (unsigned long long)seed);
    }
}

/* ---- T4: teleportation ---- */

Test(plane, teleportation_through_a_werner_pair_is_exact_in_every_run) {
    const double f = .9, w = (4 * f - 1) / 3, axis[3] = {.36, .48, .8};
    double tensor[16];
    werner(f, tensor);
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct plane_cluster *c = cluster_new(2, seed);
        qn_qubit q[2], psi;
        double angle = 6.28 * qn_rng_double(&c->rng), before[4], after[4];
        cluster_settled_pair(c, (uint16_t)pick(c, 2), 0, 1, tensor, q);
        cr_assert_eq(qn_plane_prepare(c->planes[0], 0, (struct qn_memory){0, 0}, &psi), 0);
        struct program p = {0};
        struct qn_plane_op turn = single(OP(ROT), psi, 0);
        turn.n_args = 4;
        for (size_t i = 0; i < 3; i++) turn.args[i] = axis[i];
        turn.args[3] = angle;
        add(&p, 0, turn, -1);
        run(c, &p, 0, 0);
        cluster_inspect(c, &psi, 1, 0, before);
        add(&p, 0, joint(OP(BELL), psi, q[0], 0), -1);
        run(c, &p, 0, 0);
        all_done(c, &p);
        uint32_t bell = c->results[1].outcome;
        cluster_inspect(c, &q[1], 1, 0, after);
        double x = (bell & 1) != 0 ? -1 : 1, z = (bell & 2) != 0 ? -1 : 1;
        cr_assert_float_eq(after[1], x * w * before[1], 1e-9, "seed %llu", (unsigned long long)seed);
        cr_assert_float_eq(after[2], x * z * w * before[2], 1e-9);
        cr_assert_float_eq(after[3], z * w * before[3], 1e-9);
        cluster_free(c);
    }
}

/* ---- T5: distillation (DEJMPS) with both ends acting at once ---- */

static void add_dejmps(struct program *p, uint16_t node, qn_qubit keep, qn_qubit spend, double sign) {
    const qn_qubit both[2] = {keep, spend};
    for (size_t i = 0; i < 2; i++) {
        struct qn_plane_op turn = single(OP(ROT), both[i], 0);
        turn.args[0] = 1;
        turn.args[3] = sign * HALF_PI;
        turn.n_args = 4;
        add(p, node, turn, -1);
    }
    add(p, node, joint(OP(CNOT), keep, spend, 0), -1);
    add(p, node, measure(spend, 0, 0, 1, 0), -1);
}

Test(plane, distillation_from_both_ends_at_once_is_exact) {
    const double f = .8, e = (1 - f) / 3;
    const double yield = (f + e) * (f + e) + 4 * e * e, expected = (f * f + e * e) / yield;
    double tensor[16], kept = 0, n = 2000;
    werner(f, tensor);
    for (uint64_t seed = 0; seed < (uint64_t)n; seed++) {
        struct plane_cluster *c = cluster_new(2, seed);
        qn_qubit q[2][2];
        uint16_t first = (uint16_t)pick(c, 2);
        for (uint16_t k = 0; k < 2; k++) cluster_settled_pair(c, (uint16_t)pick(c, 2), 0, 1, tensor, q[k ^ first]);
        struct program p = {0};
        for (uint16_t node = 0; node < 2; node++) add_dejmps(&p, node, q[0][node], q[1][node], node == 0 ? 1 : -1);
        run(c, &p, 0, 0);
        all_done(c, &p);
        if (c->results[3].outcome == c->results[7].outcome) {
            double t[16];
            cluster_inspect(c, (qn_qubit[]){q[0][0], q[0][1]}, 2, 0, t);
            cr_assert_float_eq(fidelity(t, 0), expected, 1e-9, "seed %llu", (unsigned long long)seed);
            kept++;
        }
        cluster_free(c);
    }
    cr_assert_float_eq(kept / n, yield, 5 * sqrt(yield * (1 - yield) / n), "%f, not %f", kept / n, yield);
}

/* ---- T6: a crash anywhere leaves the others' marginals as they were, on average ---- */

/* Not Bell-diagonal: <Z> of the first is .1, of the second -.3. */
static const double lopsided[16] = {1, 0, 0, -.3, 0, .7, 0, 0, 0, 0, .7, 0, .1, 0, 0, -.6};

Test(plane, a_crash_leaves_marginals_alone) {
    for (uint16_t victim = 0; victim < 3; victim++) {
        double sum[2] = {0}, square[2] = {0}, n = 3000;
        for (uint64_t seed = 0; seed < (uint64_t)n; seed++) {
            struct plane_cluster *c = cluster_new(3, seed);
            qn_qubit q[2][2];
            uint16_t first = (uint16_t)pick(c, 2);
            for (uint16_t k = 0; k < 2; k++) {
                uint16_t i = k ^ first;
                cluster_settled_pair(c, (uint16_t)(i + pick(c, 2)), i, (uint16_t)(i + 1), lopsided, q[i]);
            }
            struct qn_plane_op swap = joint(OP(BELL), q[0][1], q[1][0], 0);
            cluster_submit(c, 1, &swap);
            for (bool crashed = false;;) {
                if (!crashed && (qn_rng_double(&c->rng) < .12 || cluster_in_flight(c) == 0)) {
                    crashed = true;
                    cluster_crash(c, victim);
                }
                if (!cluster_deliver(c) && crashed) break;
                cluster_check(c);
            }
            cluster_check_final(c);
            for (uint16_t end = 0; end < 2; end++) {
                double t[4];
                if (c->planes[2 * end] == NULL) continue;
                cluster_inspect(c, &q[end][end], 1, 0, t);
                sum[end] += t[3];
                square[end] += t[3] * t[3];
            }
            cluster_free(c);
        }
        for (size_t end = 0; end < 2; end++) {
            if (victim == 2 * end) continue;
            double mean = sum[end] / n, error = sqrt(fmax(square[end] / n - mean * mean, 0) / n) + 1e-9;
            cr_assert_float_eq(mean, end == 0 ? .1 : -.3, 5 * error, "victim %d end %zu: %f +- %f", victim, end, mean,
                               error);
        }
    }
}

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

/* ---- random networks ---- */

static void shuffle(struct plane_cluster *c, qn_qubit *list, size_t n) {
    for (size_t i = n; i > 1; i--) {
        size_t k = (size_t)pick(c, i);
        qn_qubit x = list[i - 1];
        list[i - 1] = list[k];
        list[k] = x;
    }
}

static void random_program(struct plane_cluster *c, struct program *p, uint16_t node, qn_qubit *list, size_t n) {
    shuffle(c, list, n);
    while (n >= 2 && qn_rng_double(&c->rng) < .85 && p->n + 8 < STEPS_MAX) {
        qn_qubit x = list[n - 1], y = list[n - 2];
        n -= 2;
        if (pick(c, 3) == 0)
            add(p, node, joint(OP(BELL), x, y, 0), -1);
        else {
            add(p, node, joint(OP(CNOT), x, y, 0), -1);
            if (pick(c, 2) == 0) add(p, node, measure(x, 0, 0, 1, 0), -1);
            list[n++] = y;
        }
    }
    for (size_t i = 0; i < n && p->n + 2 < STEPS_MAX; i++)
        if (qn_rng_double(&c->rng) < .4)
            add(p, node, pick(c, 4) == 0 ? single(OP(H), list[i], 0) : measure(list[i], 1, 0, 0, 0), -1);
}

static uint64_t random_network(uint64_t seed, unsigned crashes, bool racing) {
    struct qn_rng rng;
    qn_rng_init(&rng, seed, "network", crashes);
    uint16_t n = (uint16_t)(4 + qn_rng_below(&rng, 5));
    struct plane_cluster *c = cluster_new(n, seed);
    qn_qubit lists[CLUSTER_MAX][40];
    size_t lens[CLUSTER_MAX] = {0};
    double tensor[16];
    werner(.9, tensor);
    size_t n_pairs = (size_t)(n - 1) + (size_t)pick(c, (uint64_t)n + 2);
    for (size_t k = 0; k < n_pairs; k++) {
        uint16_t ends[2] = {(uint16_t)pick(c, n), 0};
        ends[1] = (uint16_t)((ends[0] + 1 + pick(c, (uint64_t)n - 1)) % n);
        qn_qubit q[2];
        cluster_pair(c, racing ? (uint16_t)pick(c, n) : ends[pick(c, 2)], ends[0], ends[1], tensor, q);
        for (size_t i = 0; i < 2; i++) lists[ends[i]][lens[ends[i]]++] = q[i];
    }
    if (!racing) cluster_run(c);
    struct program p = {0};
    for (uint16_t i = 0; i < n; i++) random_program(c, &p, i, lists[i], lens[i]);
    run(c, &p, crashes, .01);
    for (size_t i = 0; i < p.n; i++) {
        if (crashes > 0 && !c->results[i].done) continue;
        cr_assert(c->results[i].done, "seed %llu: operation %zu", (unsigned long long)seed, i);
        cr_assert(c->results[i].error == 0 || c->results[i].error == -QN_ELIMIT);
    }
    uint64_t transcript = c->transcript;
    cluster_free(c);
    return transcript;
}

static void random_networks(uint64_t n, unsigned crashes, bool racing) {
    const char *from = getenv("QN_TEST_SEED"), *runs = getenv("QN_TEST_RUNS");
    uint64_t first = from == NULL ? 0 : strtoull(from, NULL, 0),
             last = first + (runs == NULL ? n : strtoull(runs, NULL, 0));
    for (uint64_t seed = first; seed < last; seed++) {
        if (getenv("QN_TEST_TRACE") != NULL) fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
        random_network(seed, crashes, racing);
    }
}

/* ---- crashes and new lives ---- */

static void new_pair(struct plane_cluster *c, struct program *p) { /* By one that has met both, as stations have. */
    uint16_t maker = (uint16_t)pick(c, c->n), a = (uint16_t)pick(c, c->n), b = (uint16_t)pick(c, c->n);
    if (a == b || c->planes[maker] == NULL || c->planes[a] == NULL || c->planes[b] == NULL) return;
    if (!cluster_knows(c, maker, a) || !cluster_knows(c, maker, b)) return;
    double tensor[16];
    qn_qubit q[2];
    werner(.9, tensor);
    cluster_pair(c, maker, a, b, tensor, q);
    if (p->n + 2 > STEPS_MAX) return;
    add(p, a, measure(q[0], 0, 0, 1, 0), -1);
    add(p, b, measure(q[1], 0, 0, 1, 0), -1);
}

static void random_lives(uint64_t seed, unsigned crashes) {
    struct qn_rng rng;
    qn_rng_init(&rng, seed, "lives", crashes);
    uint16_t n = (uint16_t)(3 + qn_rng_below(&rng, 4));
    struct plane_cluster *c = cluster_new(n, seed);
    qn_qubit lists[CLUSTER_MAX][40];
    size_t lens[CLUSTER_MAX] = {0};
    double tensor[16];
    werner(.9, tensor);
    for (size_t k = 0; k < (size_t)n + 1; k++) {
        uint16_t ends[2] = {(uint16_t)pick(c, n), 0};
        ends[1] = (uint16_t)((ends[0] + 1 + pick(c, (uint64_t)n - 1)) % n);
        qn_qubit q[2];
        cluster_pair(c, (uint16_t)pick(c, n), ends[0], ends[1], tensor, q);
        for (size_t i = 0; i < 2; i++) lists[ends[i]][lens[ends[i]]++] = q[i];
    }
    struct program p = {0};
    for (uint16_t i = 0; i < n; i++) random_program(c, &p, i, lists[i], lens[i]);
    for (size_t n_steps = 0;; n_steps++) {
        size_t ready[STEPS_MAX], n_ready = 0, n_flying = cluster_in_flight(c), n_down = 0;
        for (uint16_t i = 0; i < n; i++) n_down += c->planes[i] == NULL ? 1 : 0;
        for (size_t i = 0; i < p.n; i++)
            if (may_start(c, &p, i)) ready[n_ready++] = i;
        if (n_ready + n_flying == 0 && n_down == 0 && crashes == 0) break;
        uint16_t node = (uint16_t)pick(c, n);
        double what = qn_rng_double(&c->rng);
        if (crashes > 0 && c->planes[node] != NULL && (what < .02 || n_ready + n_flying == 0)) {
            cluster_crash(c, node);
            crashes--;
        } else if (c->planes[node] == NULL && (what < .2 || n_ready + n_flying == 0))
            cluster_rejoin(c, node);
        else if (what > .97)
            new_pair(c, &p);
        else if (n_ready + n_flying > 0) {
            size_t chosen = (size_t)pick(c, n_ready + n_flying);
            if (chosen < n_ready) {
                p.started[ready[chosen]] = true;
                cr_assert_eq(cluster_submit(c, p.steps[ready[chosen]].node, &p.steps[ready[chosen]].op), 0);
            } else
                cluster_deliver(c);
        }
        cluster_check(c);
        cr_assert_lt(n_steps, 40000, "seed %llu: livelock", (unsigned long long)seed);
    }
    cluster_touch_all(c); /* A qubit whose host died unnoticed is found out about when it is needed. */
    cluster_check_final(c);
    cluster_free(c);
}

Test(plane, random_networks_whose_nodes_come_back) {
    const char *from = getenv("QN_TEST_SEED"), *runs = getenv("QN_TEST_RUNS");
    uint64_t first = from == NULL ? 0 : strtoull(from, NULL, 0), n = runs == NULL ? 3000 : strtoull(runs, NULL, 0);
    for (uint64_t seed = first; seed < first + n; seed++) {
        if (getenv("QN_TEST_TRACE") != NULL) fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
        random_lives(seed, 1 + (unsigned)(seed % 3));
    }
}

Test(plane, random_networks) { random_networks(1500, 0, false); }
Test(plane, random_networks_of_racing_creation) { random_networks(1500, 0, true); }
Test(plane, random_networks_with_a_crash) { random_networks(4000, 1, false); }
Test(plane, random_networks_with_two_crashes) { random_networks(1500, 2, false); }
Test(plane, random_networks_with_crashes_during_creation) {
    random_networks(1000, 1, true);
    random_networks(1500, 2, true);
}

Test(plane, the_same_seed_gives_the_same_run) {
    for (uint64_t seed = 0; seed < 50; seed++)
        cr_assert_eq(random_network(seed, 1, true), random_network(seed, 1, true), "seed %llu",
                     (unsigned long long)seed);
}
