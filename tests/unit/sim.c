/* SPDX-License-Identifier: Apache-2.0 */
/* The engine against a naive density matrix (sim_reference.h), against itself in its other form, and against the values
 * of check-values.json that are statements about states. */
#include "base/err.h"
#include "sim_reference.h"
#include "sim_support.h"
#include "sim_values.h"

/* ---- gates ---- */

Test(gates, on_tensors_conjugate_by_the_unitary) {
    struct qn_rng rng;
    qn_rng_init(&rng, 1, "gates", 0);
    for (size_t n = 1; n <= 4; n++)
        for (int gate = QN_GATE_X; gate <= QN_GATE_ISWAP; gate++)
            for (size_t pair = 0; pair < n * n; pair++) {
                size_t q[2] = {pair / n, pair % n}, k = qn_gate_qubits((enum qn_gate)gate);
                if ((k == 2) == (q[0] == q[1])) continue;
                static struct ref ref;
                ref_random(&ref, n, 3, &rng);
                struct qn_state *state = tensor_of(&ref);
                double args[4];
                for (int i = 0; i < 4; i++) args[i] = 3 * qn_rng_normal(&rng);
                struct op u = op_gate((enum qn_gate)gate, args);
                ref_channel(&ref, q, k, &u, 1);
                cr_assert_eq(qn_state_gate(state, (enum qn_gate)gate, q, args), 0);
                char what[32];
                snprintf(what, sizeof what, "gate %d on %zu, %zu", gate, q[0], q[1]);
                assert_same(state, &ref, what);
                qn_state_free(state);
            }
}

Test(gates, on_trajectories_apply_the_unitary) {
    struct qn_rng rng;
    qn_rng_init(&rng, 2, "gates", 0);
    static struct ref ref;
    struct qn_state *state = random_trajectory(7, &ref, &rng);
    for (int step = 0; step < 64; step++) {
        enum qn_gate gate = (enum qn_gate)(1 + step % QN_GATE_ISWAP);
        size_t q[2];
        two_qubits(q, 7, &rng);
        double args[4];
        for (int i = 0; i < 4; i++) args[i] = qn_rng_normal(&rng);
        struct op u = op_gate(gate, args);
        ref_channel(&ref, q, qn_gate_qubits(gate), &u, 1);
        cr_assert_eq(qn_state_gate(state, gate, q, args), 0);
        char what[32];
        snprintf(what, sizeof what, "gate %d on %zu, %zu", (int)gate, q[0], q[1]);
        assert_same(state, &ref, what);
    }
    qn_state_free(state);
}

Test(gates, clifford_circuits_leave_no_residue) {
    struct qn_rng rng;
    qn_rng_init(&rng, 3, "gates", 0);
    static const enum qn_gate clifford[] = {QN_GATE_X,    QN_GATE_Y,   QN_GATE_Z,    QN_GATE_H,
                                            QN_GATE_S,    QN_GATE_SDG, QN_GATE_SX,   QN_GATE_CZ,
                                            QN_GATE_CNOT, QN_GATE_CY,  QN_GATE_SWAP, QN_GATE_ISWAP};
    struct qn_state *state;
    cr_assert_eq(qn_state_new_zero(5, &state), 0);
    for (int step = 0; step < 500; step++) {
        size_t q[2];
        two_qubits(q, 5, &rng);
        qn_state_gate(state, clifford[qn_rng_below(&rng, sizeof clifford / sizeof clifford[0])], q, NULL);
    }
    size_t len;
    const double *t = qn_state_data(state, &len);
    for (size_t i = 0; i < len; i++) cr_assert(t[i] == 0 || fabs(t[i]) == 1, "entry %zu is %.17g", i, t[i]);
    qn_state_free(state);
}

Test(gates, refuse_what_makes_no_sense) {
    struct qn_state *state;
    cr_assert_eq(qn_state_new_zero(2, &state), 0);
    const size_t fine[2] = {0, 1}, same[2] = {1, 1}, beyond[2] = {0, 2};
    cr_assert_eq(qn_state_gate(state, (enum qn_gate)0, fine, NULL), -QN_EINVAL);
    cr_assert_eq(qn_state_gate(state, (enum qn_gate)(QN_GATE_ISWAP + 1), fine, NULL), -QN_EINVAL);
    cr_assert_eq(qn_gate_qubits((enum qn_gate)(QN_GATE_ISWAP + 1)), 0);
    cr_assert_eq(qn_state_gate(state, QN_GATE_CNOT, same, NULL), -QN_EINVAL);
    cr_assert_eq(qn_state_gate(state, QN_GATE_CNOT, beyond, NULL), -QN_EINVAL);
    cr_assert_eq(qn_state_gate(state, QN_GATE_H, &beyond[1], NULL), -QN_EINVAL);
    cr_assert_eq(qn_state_gate(state, QN_GATE_CPHASE, fine, (const double[1]){NAN}), -QN_EINVAL);
    static const double bad[][4] = {{0, 0, 0, 1}, {NAN, 0, 1, 1}, {0, NAN, 0, 1}, {INFINITY, 0, 0, 1}, {1, 0, 0, NAN}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_assert_eq(qn_state_gate(state, QN_GATE_ROT, fine, bad[i]), -QN_EINVAL, "axis %zu", i);
    cr_assert_eq(qn_state_probability(state, 0, z_axis), 1);
    /* Any other length is fine: a quarter turn about x, twice there and twice back. */
    for (int i = 0; i < 4; i++)
        cr_assert_eq(
            qn_state_gate(state, QN_GATE_ROT, fine, (const double[4]){i < 2 ? 1e-200 : -1e200, 0, 0, M_PI / 2}), 0);
    cr_assert_float_eq(qn_state_probability(state, 0, z_axis), 1, 1e-12);
    qn_state_free(state);
}

/* ---- noise ---- */

enum channel { T1T2, PAULI, DEPOLARISE1, DEPOLARISE2, RESET, N_CHANNELS };
static const double pauli_weights[4] = {0.6, 0.1, 0.2, 0.1};

static void apply_channel(struct qn_state *state, enum channel channel, const size_t q[2], struct qn_rng *rng) {
    switch (channel) {
    case T1T2:
        qn_state_t1t2(state, q[0], 0.4, 1.1, 0.7, rng);
        break;
    case PAULI:
        qn_state_pauli_channel(state, q[0], pauli_weights, rng);
        break;
    case DEPOLARISE1:
        qn_state_depolarise1(state, q[0], 0.7, rng);
        break;
    case DEPOLARISE2:
        qn_state_depolarise2(state, q[0], q[1], 0.6, rng);
        break;
    default:
        qn_state_reset(state, q[0], rng);
    }
}

static void ref_apply_channel(struct ref *ref, enum channel channel, const size_t q[2]) {
    switch (channel) {
    case T1T2:
        ref_t1t2(ref, q[0], 0.4, 1.1, 0.7);
        break;
    case PAULI:
        ref_pauli_channel(ref, q[0], pauli_weights);
        break;
    case DEPOLARISE1:
        ref_pauli_channel(ref, q[0], (const double[4]){0.775, 0.075, 0.075, 0.075});
        break;
    case DEPOLARISE2:
        ref_depolarise2(ref, q[0], q[1], 0.6);
        break;
    default:
        ref_reset(ref, q[0]);
    }
}

Test(noise, on_tensors_is_the_sum_of_its_kraus_operators) {
    struct qn_rng rng;
    qn_rng_init(&rng, 10, "noise", 0);
    for (size_t n = 2; n <= 4; n++)
        for (int channel = 0; channel < N_CHANNELS; channel++)
            for (int run = 0; run < 4; run++) {
                static struct ref ref;
                ref_random(&ref, n, 2, &rng);
                struct qn_state *state = tensor_of(&ref);
                size_t q[2];
                two_qubits(q, n, &rng);
                apply_channel(state, (enum channel)channel, q, NULL); /* A tensor needs no draws. */
                ref_apply_channel(&ref, (enum channel)channel, q);
                assert_same(state, &ref, (const char *[]){"t1t2", "pauli", "depol1", "depol2", "reset"}[channel]);
                qn_state_free(state);
            }
}

Test(noise, on_trajectories_averages_to_the_same) {
    struct qn_rng rng;
    const int seed = 11, runs = 2000;
    qn_rng_init(&rng, (uint64_t)seed, "noise", 0);
    for (int channel = 0; channel < N_CHANNELS; channel++) {
        static struct ref ref;
        struct qn_state *start = random_trajectory(7, &ref, &rng), *state;
        size_t q[2];
        two_qubits(q, 7, &rng);
        ref_apply_channel(&ref, (enum channel)channel, q);
        struct mean means[16] = {{0}};
        for (int run = 0; run < runs; run++) {
            double t[16];
            cr_assert_eq(qn_state_copy(start, &state), 0);
            apply_channel(state, (enum channel)channel, q, &rng);
            qn_state_pair_tensor(state, q[0], q[1], t);
            for (int i = 0; i < 16; i++) sample(&means[i], t[i]);
            qn_state_free(state);
        }
        for (size_t i = 0; i < 16; i++) {
            size_t digits = (i >> 2) << (2 * (6 - q[0])) | (i & 3) << (2 * (6 - q[1]));
            assert_mean(&means[i], ref_expect(&ref, digits),
                        (const char *[]){"t1t2", "pauli", "d1", "d2", "reset"}[channel], seed);
        }
        qn_state_free(start);
    }
}

Test(noise, complete_depolarising_of_a_trajectory_is_uniform) {
    struct qn_rng rng;
    const int seed = 13, runs = 8000;
    qn_rng_init(&rng, (uint64_t)seed, "noise", 0);
    struct qn_state *state;
    cr_assert_eq(qn_state_new_zero(7, &state), 0);
    struct mean seen[4] = {{0}};
    for (int run = 0; run < runs; run++) { /* From |00> again each time. */
        for (size_t q = 0; q < 2; q++) qn_state_reset(state, q, &rng);
        qn_state_depolarise2(state, 0, 1, 0, &rng);
        int outcome = 2 * qn_state_measure(state, 0, z_axis, 0.5) + qn_state_measure(state, 1, z_axis, 0.5);
        for (int i = 0; i < 4; i++) sample(&seen[i], outcome == i);
    }
    for (int i = 0; i < 4; i++) assert_mean(&seen[i], 0.25, "outcome", seed);
    qn_state_free(state);
}

Test(noise, t1t2_may_be_applied_in_any_steps) {
    struct qn_state *once, *steps;
    cr_assert_eq(qn_state_new_bloch((const double[3]){0.6, 0.3, -0.5}, &once), 0);
    cr_assert_eq(qn_state_copy(once, &steps), 0);
    qn_state_t1t2(once, 0, 0.1, 1, 0.5, NULL);
    for (int i = 0; i < 10; i++) qn_state_t1t2(steps, 0, 0.01, 1, 0.5, NULL);
    double a[3], b[3];
    qn_state_bloch(once, 0, a);
    qn_state_bloch(steps, 0, b);
    for (int i = 0; i < 3; i++) cr_assert_float_eq(a[i], b[i], 1e-14);
    /* Without T1 only x and y decay; without T2, T2 = 2 T1; for ever after, the ground state. */
    qn_state_t1t2(once, 0, 0.2, INFINITY, 0.5, NULL);
    qn_state_bloch(once, 0, a);
    cr_assert_float_eq(a[0], b[0] * exp(-0.4), 1e-14);
    cr_assert_float_eq(a[2], b[2], 1e-14);
    qn_state_t1t2(steps, 0, 0.2, 0.5, 0, NULL);
    qn_state_bloch(steps, 0, a);
    cr_assert_float_eq(a[1], b[1] * exp(-0.2), 1e-14);
    cr_assert_float_eq(a[2], 1 - (1 - b[2]) * exp(-0.4), 1e-14);
    qn_state_t1t2(steps, 0, 1e9, 0.5, 0.5, NULL);
    cr_assert_eq(qn_state_probability(steps, 0, z_axis), 1);
    qn_state_free(once);
    qn_state_free(steps);
    /* The same on a trajectory: |+> of seven, after an age. */
    struct qn_rng rng;
    qn_rng_init(&rng, 12, "noise", 0);
    struct qn_state *state = random_trajectory(7, NULL, &rng);
    for (size_t q = 0; q < 7; q++) qn_state_t1t2(state, q, 1e9, 0.5, 0.5, &rng);
    for (size_t q = 0; q < 7; q++) cr_assert_float_eq(qn_state_probability(state, q, z_axis), 1, 1e-12);
    qn_state_free(state);
}

/* ---- measurement ---- */

static void measure_and_compare(struct qn_state *state, struct ref *ref, struct qn_rng *rng) {
    static struct ref after;
    double axis[3], u = qn_rng_double(rng);
    size_t q[2] = {(size_t)qn_rng_below(rng, ref->n), 0};
    random_axis(axis, rng);
    after = *ref;
    double p = ref_measure(&after, q[0], axis, 0);
    cr_assert_float_eq(qn_state_probability(state, q[0], axis), p, 1e-12);
    int outcome = qn_state_measure(state, q[0], axis, u);
    cr_assert_eq(outcome, u < p ? 0 : 1);
    ref_measure(ref, q[0], axis, outcome);
    assert_same(state, ref, "measurement");
    if (ref->n == 1) return;
    two_qubits(q, ref->n, rng);
    u = qn_rng_double(rng);
    int expected = -1;
    for (double below = 0; expected < 3 && u >= below;) {
        after = *ref;
        below += ref_bell_measure(&after, q[0], q[1], ++expected);
    }
    cr_assert_eq(qn_state_bell_measure(state, q[0], q[1], u), expected);
    ref_bell_measure(ref, q[0], q[1], expected);
    assert_same(state, ref, "Bell measurement");
    cr_assert_float_eq(qn_state_fidelity(state, q[0], q[1], expected), 1, 1e-12);
}

Test(measure, collapses_as_the_projectors_say) {
    struct qn_rng rng;
    qn_rng_init(&rng, 20, "measure", 0);
    static struct ref ref;
    for (int run = 0; run < 160; run++) {
        ref_random(&ref, 1 + (size_t)run % 4, 1 + (size_t)run % 3, &rng);
        struct qn_state *state = tensor_of(&ref);
        measure_and_compare(state, &ref, &rng);
        qn_state_free(state);
    }
    for (int run = 0; run < 8; run++) {
        struct qn_state *state = random_trajectory(7, &ref, &rng);
        measure_and_compare(state, &ref, &rng);
        qn_state_free(state);
    }
}

Test(measure, rounding_does_not_flip_outcomes) {
    for (int i = -2; i <= 2; i++) {
        struct qn_state *state;
        cr_assert_eq(qn_state_new_bloch((const double[3]){0, 0, i * 1e-15}, &state), 0);
        cr_assert_eq(qn_state_measure(state, 0, z_axis, 0.5), 1);
        qn_state_free(state);
        cr_assert_eq(qn_state_new_bloch((const double[3]){0, 0, i * 1e-15}, &state), 0);
        cr_assert_eq(qn_state_measure(state, 0, z_axis, 0.5 - 0x1.0p-53), 0);
        qn_state_free(state);
        double e = i * 1e-15;
        cr_assert_eq(qn_state_new_bell_diagonal((const double[4]){0.25 + e, 0.25 - e, 0.25 - e, 0.25 + e}, &state), 0);
        cr_assert_eq(qn_state_bell_measure(state, 0, 1, 0.25), 1);
        qn_state_free(state);
    }
}

Test(measure, names_the_bell_states) {
    for (int bell = 0; bell < 4; bell++) {
        double p[4] = {0};
        p[bell] = 1;
        struct qn_state *state;
        cr_assert_eq(qn_state_new_bell_diagonal(p, &state), 0);
        for (int other = 0; other < 4; other++)
            cr_assert_eq(qn_state_fidelity(state, 0, 1, other), other == bell ? 1 : 0);
        cr_assert_eq(qn_state_bell_measure(state, 0, 1, almost_one), bell);
        cr_assert_eq(qn_state_bell_measure(state, 1, 0, 0), bell);
        size_t second = 1; /* The index is the frame: bit 0 its Z, bit 1 its X. */
        if ((bell & 1) != 0) qn_state_gate(state, QN_GATE_Z, &second, NULL);
        if ((bell & 2) != 0) qn_state_gate(state, QN_GATE_X, &second, NULL);
        cr_assert_eq(qn_state_fidelity(state, 0, 1, 0), 1);
        qn_state_free(state);
    }
}

Test(measure, swap_kernel_is_merge_bell_measure_remove) {
    struct qn_rng rng;
    qn_rng_init(&rng, 21, "swap", 0);
    for (int run = 0; run < 400; run++) {
        static struct ref ref;
        ref_random(&ref, 2, 2, &rng);
        struct qn_state *a = tensor_of(&ref), *whole, *other, *kernel;
        ref_random(&ref, 2, 3, &rng);
        struct qn_state *b = tensor_of(&ref);
        size_t x = (size_t)run & 1, y = (size_t)run >> 1 & 1;
        double u = qn_rng_double(&rng);
        cr_assert_eq(qn_state_copy(a, &whole), 0);
        cr_assert_eq(qn_state_copy(b, &other), 0);
        cr_assert_eq(qn_state_merge(&whole, other, NULL), 0);
        int bell = qn_state_bell_measure(whole, x, 2 + y, u);
        qn_state_remove(whole, 2 + y, NULL);
        qn_state_remove(whole, x, NULL);
        cr_assert_eq(qn_state_swap_kernel(a, x, b, y, u, &kernel), bell);
        double expected[16], got[16];
        qn_state_pair_tensor(whole, 0, 1, expected);
        qn_state_pair_tensor(kernel, 0, 1, got);
        cr_assert_eq(got[0], 1);
        for (int i = 0; i < 16; i++) cr_assert_float_eq(got[i], expected[i], 1e-12, "run %d entry %d", run, i);
        qn_state_free(whole);
        qn_state_free(kernel);
    }
}

/* ---- size: merging, removing, and the two forms ---- */

Test(size, merge_appends_and_remove_traces_out) {
    struct qn_rng rng;
    qn_rng_init(&rng, 30, "size", 0);
    static struct ref a, b;
    ref_random(&a, 2, 2, &rng);
    ref_random(&b, 3, 2, &rng);
    struct qn_state *state = tensor_of(&a);
    cr_assert_eq(qn_state_merge(&state, tensor_of(&b), &rng), 0);
    size_t len;
    const double *t = qn_state_data(state, &len);
    cr_assert_eq(len, 1024);
    for (size_t i = 0; i < len; i++) cr_assert_float_eq(t[i], ref_expect(&a, i >> 6) * ref_expect(&b, i & 63), 1e-12);
    qn_state_free(state);
    for (size_t n = 2; n <= 4; n++)
        for (size_t q = 0; q < n; q++) {
            ref_random(&a, n, 2, &rng);
            state = tensor_of(&a);
            qn_state_remove(state, q, NULL);
            ref_trace_out(&a, q);
            assert_same(state, &a, "remove");
            qn_state_free(state);
        }
    for (size_t q = 0; q < 7; q++) { /* From a trajectory of 7 to a tensor of 6: exact. */
        state = random_trajectory(7, &a, &rng);
        qn_state_remove(state, q, &rng);
        cr_assert_not(qn_state_is_trajectory(state));
        ref_trace_out(&a, q);
        assert_same(state, &a, "remove to tensor");
        qn_state_free(state);
    }
}

Test(size, merge_beyond_the_limit_touches_nothing) {
    struct qn_rng rng;
    qn_rng_init(&rng, 31, "size", 0);
    struct qn_state *six, *other, *before;
    cr_assert_eq(qn_state_new_zero(6, &six), 0);
    cr_assert_eq(qn_state_new_zero(6, &other), 0);
    before = six;
    cr_assert_eq(qn_state_merge(&six, other, &rng), -QN_ELIMIT);
    cr_assert(six == before && qn_state_size(six) == 6 && qn_state_size(other) == 6);
    qn_state_remove(other, 0, &rng);
    cr_assert_eq(qn_state_merge(&six, other, &rng), 0);
    cr_assert_eq(qn_state_size(six), QN_STATE_MAX);
    qn_state_free(six);
}

Test(size, going_to_a_trajectory_keeps_the_average) {
    struct qn_rng rng;
    const int seed = 32, runs = 1500;
    qn_rng_init(&rng, (uint64_t)seed, "size", 0);
    static const size_t rank[] = {1, 2, 16};
    for (size_t k = 0; k < 3; k++) {
        static struct ref ref;
        ref_random(&ref, 4, rank[k], &rng);
        struct qn_state *start = tensor_of(&ref);
        struct mean means[256] = {{0}};
        for (int run = 0; run < runs; run++) {
            struct qn_state *state, *rest;
            cr_assert_eq(qn_state_copy(start, &state), 0);
            cr_assert_eq(qn_state_new_zero(3, &rest), 0);
            cr_assert_eq(qn_state_merge(&state, rest, &rng), 0);
            cr_assert(qn_state_is_trajectory(state));
            for (int i = 0; i < 3; i++) qn_state_remove(state, 4, &rng);
            cr_assert_not(qn_state_is_trajectory(state));
            size_t len;
            const double *t = qn_state_data(state, &len);
            cr_assert_eq(len, 256);
            for (size_t i = 0; i < len; i++) sample(&means[i], t[i]);
            qn_state_free(state);
        }
        for (size_t i = 0; i < 256; i++) assert_mean(&means[i], ref_expect(&ref, i), "promotion", seed);
        qn_state_free(start);
    }
}

Test(size, a_trajectory_that_loses_a_qubit_averages_to_the_rest) {
    struct qn_rng rng;
    const int seed = 33, runs = 2000;
    qn_rng_init(&rng, (uint64_t)seed, "size", 0);
    struct qn_state *start = random_trajectory(9, NULL, &rng);
    double expected[16], t[16];
    struct mean means[16] = {{0}};
    qn_state_pair_tensor(start, 1, 6, expected);
    for (int run = 0; run < runs; run++) {
        struct qn_state *state;
        cr_assert_eq(qn_state_copy(start, &state), 0);
        qn_state_remove(state, 4, &rng);
        cr_assert(qn_state_is_trajectory(state));
        qn_state_pair_tensor(state, 1, 5, t); /* 6 moved down to 5. */
        for (int i = 0; i < 16; i++) sample(&means[i], t[i]);
        qn_state_free(state);
    }
    for (int i = 0; i < 16; i++) assert_mean(&means[i], expected[i], "remove", seed);
    qn_state_free(start);
}

/* The same noisy circuit on four qubits, alone and among seven. The fourth is measured at the end. */
static void noisy_circuit(struct qn_state *state, uint64_t circuit, struct qn_rng *draws) {
    struct qn_rng plan;
    qn_rng_init(&plan, circuit, "circuit", 0);
    for (int step = 0; step < 30; step++) {
        size_t q[2];
        two_qubits(q, 4, &plan);
        double args[4];
        for (int i = 0; i < 4; i++) args[i] = qn_rng_normal(&plan);
        if (step % 4 == 3)
            apply_channel(state, (enum channel)qn_rng_below(&plan, N_CHANNELS), q, draws);
        else
            qn_state_gate(state, (enum qn_gate)(1 + qn_rng_below(&plan, QN_GATE_ISWAP)), q, args);
    }
}

Test(size, tensors_and_trajectories_agree_on_random_circuits) {
    struct qn_rng rng;
    const int seed = 34, runs = 800;
    qn_rng_init(&rng, (uint64_t)seed, "size", 0);
    for (uint64_t circuit = 0; circuit < 5; circuit++) {
        struct qn_state *state;
        double expected[16], t[16];
        cr_assert_eq(qn_state_new_zero(4, &state), 0);
        noisy_circuit(state, circuit, NULL);
        qn_state_pair_tensor(state, 0, 2, expected);
        double p = qn_state_probability(state, 3, x_axis);
        qn_state_free(state);
        struct mean means[16] = {{0}}, outcomes = {0};
        for (int run = 0; run < runs; run++) {
            cr_assert_eq(qn_state_new_zero(7, &state), 0);
            noisy_circuit(state, circuit, &rng);
            qn_state_pair_tensor(state, 0, 2, t);
            for (int i = 0; i < 16; i++) sample(&means[i], t[i]);
            sample(&outcomes, qn_state_measure(state, 3, x_axis, qn_rng_double(&rng)));
            qn_state_free(state);
        }
        for (int i = 0; i < 16; i++) assert_mean(&means[i], expected[i], "pair", seed);
        assert_mean(&outcomes, 1 - p, "outcome", seed);
    }
}

Test(size, ghz_parities_of_six_and_of_ten) {
    struct qn_rng rng;
    qn_rng_init(&rng, 35, "ghz", 0);
    for (size_t n = 6; n <= 10; n += 4)
        for (int run = 0; run < 60; run++) {
            struct qn_state *state;
            cr_assert_eq(qn_state_new_zero(n, &state), 0);
            qn_state_gate(state, QN_GATE_H, (const size_t[1]){0}, NULL);
            for (size_t q = 1; q < n; q++) qn_state_gate(state, QN_GATE_CNOT, (const size_t[2]){q - 1, q}, NULL);
            int parity = 0, zeros = 0, kind = run % 3; /* XX..X = +1, YYX..X = -1, all Z equal */
            for (size_t q = n; q-- > 0;) {
                const double *axis = kind == 2 ? z_axis : kind == 1 && q < 2 ? y_axis : x_axis;
                int outcome = qn_state_measure(state, q, axis, qn_rng_double(&rng));
                parity ^= outcome;
                zeros += outcome == 0;
                if (q > 0) qn_state_remove(state, q, &rng);
            }
            if (kind == 2)
                cr_assert(zeros == 0 || zeros == (int)n, "seed 35: n %zu", n);
            else
                cr_assert_eq(parity, kind, "seed 35: n %zu kind %d", n, kind);
            qn_state_free(state);
        }
}

/* ---- numbers from outside ---- */

Test(data, constructors_refuse_what_cannot_be_a_state) {
    struct qn_state *const untouched = (struct qn_state *)(void *)&(char){0}, *state = untouched;
    cr_assert_eq(qn_state_new_zero(0, &state), -QN_EINVAL);
    cr_assert_eq(qn_state_new_zero(QN_STATE_MAX + 1, &state), -QN_EINVAL);
    cr_assert_eq(qn_state_new_bloch((const double[3]){0.8, 0.8, 0}, &state), -QN_EINVAL);
    cr_assert_eq(qn_state_new_bloch((const double[3]){0, NAN, 0}, &state), -QN_EINVAL);
    cr_assert_eq(qn_state_new_bell_diagonal((const double[4]){0.9, 0.2, 0, 0}, &state), -QN_EINVAL);
    cr_assert_eq(qn_state_new_bell_diagonal((const double[4]){1.1, -0.1, 0, 0}, &state), -QN_EINVAL);
    cr_assert_eq(qn_state_new_bell_diagonal((const double[4]){1, NAN, 0, 0}, &state), -QN_EINVAL);
    cr_assert_eq(qn_state_new_pair((const double[16]){0.5}, &state), -QN_EINVAL);
    cr_assert_eq(qn_state_new_pair((const double[16]){1, 1, 1}, &state), 0); /* Purity at its limit... */
    qn_state_free(state);
    state = untouched;
    double t[16] = {1, 1, 1, 1, 1}; /* ...and beyond. */
    cr_assert_eq(qn_state_new_pair(t, &state), -QN_EINVAL);
    cr_assert_eq(qn_state_from_data(2, false, t, 16, &state), -QN_EPROTOCOL);
    cr_assert_eq(qn_state_from_data(2, false, (const double[16]){1, [3] = NAN}, 16, &state), -QN_EPROTOCOL);
    cr_assert_eq(qn_state_from_data(2, false, (const double[16]){1, [3] = -1.5}, 16, &state), -QN_EPROTOCOL);
    cr_assert_eq(qn_state_from_data(2, false, (const double[16]){0.5}, 16, &state), -QN_EPROTOCOL);
    cr_assert_eq(qn_state_from_data(2, false, (const double[16]){1}, 15, &state), -QN_EPROTOCOL);
    cr_assert_eq(qn_state_from_data(2, true, (const double[16]){1}, 8, &state), -QN_EPROTOCOL);
    cr_assert_eq(qn_state_from_data(0, false, (const double[1]){1}, 1, &state), -QN_EPROTOCOL);
    static double amplitudes[2 << (QN_STATE_MAX + 1)] = {1};
    cr_assert_eq(qn_state_from_data(12, true, amplitudes, 2 << 12, &state), -QN_EPROTOCOL);
    amplitudes[9] = 0.5;
    cr_assert_eq(qn_state_from_data(7, true, amplitudes, 2 << 7, &state), -QN_EPROTOCOL);
    amplitudes[9] = NAN;
    cr_assert_eq(qn_state_from_data(7, true, amplitudes, 2 << 7, &state), -QN_EPROTOCOL);
    cr_assert(state == untouched);
}

Test(data, survives_a_journey_bit_by_bit) {
    struct qn_rng rng;
    qn_rng_init(&rng, 40, "data", 0);
    static struct ref ref;
    ref_random(&ref, 3, 2, &rng);
    struct qn_state *states[2] = {tensor_of(&ref), random_trajectory(8, NULL, &rng)}, *arrived;
    for (int i = 0; i < 2; i++) {
        size_t len, arrived_len;
        const double *data = qn_state_data(states[i], &len);
        cr_assert_eq(len, i == 0 ? 64 : 512);
        cr_assert_eq(qn_state_from_data(qn_state_size(states[i]), i == 1, data, len, &arrived), 0);
        const double *copy = qn_state_data(arrived, &arrived_len);
        cr_assert(arrived_len == len && memcmp(copy, data, len * sizeof *data) == 0);
        qn_state_free(states[i]);
        qn_state_free(arrived);
    }
    qn_state_free(NULL);
}

/* ---- check-values.json ---- */

TestSuite(values, .init = load_values, .fini = free_values);

Test(values, swap) {
    for_values("swap_chain_werner", 3, check_swap_chain);
    for_values("swap_bell_diagonal", 1, check_swap_bell_diagonal);
    for_values("swap_imperfect_bsm", 1, check_swap_imperfect);
}

Test(values, distillation) { /* Deutsch et al., PRL 77, 2818 (1996); Bennett et al., PRL 76, 722 (1996) */
    for_values("dejmps_iter", 3, check_distillation_rounds);
    for_values("bbpssw_iter", 3, check_distillation_rounds);
    for_values("dejmps_readout_error", 1, check_distillation_once);
    for_values("dejmps_unequal", 1, check_distillation_once);
}

Test(values, memory) {
    for_values("memory_T1T2", 4, check_memory);
    for_values("depolarising_gate_1q", 1, check_gate_noise);
}

Test(values, applications) {
    for_values("teleport", 5, check_teleport);
    for_values("chsh_werner", 6, check_chsh);
    for_values("chsh_bd_max", 1, check_chsh_bell_diagonal);
    for_values("qber_bell_diagonal", 1, check_qber);
    for_values("superdense", 2, check_superdense);
}

Test(values, ghz) {
    for_values("ghz3_teleported", 1, check_ghz_teleported);
    for_values("ghz4_teleported", 2, check_ghz_teleported);
    for_values("ghz5_teleported", 1, check_ghz_teleported);
    for_values("ghz3_mermin", 1, check_mermin);
    for_values("ghz3_fusion", 1, check_fusion);
}
