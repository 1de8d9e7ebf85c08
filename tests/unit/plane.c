/* SPDX-License-Identifier: Apache-2.0 */
/* The hosting protocol under random schedules: safety after every step, completion at the end, and quantum statistics
 * that do not depend on who hosts what or which message comes first. */
#include "plane_support.h"

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
