/* SPDX-License-Identifier: Apache-2.0 */
/* The engine against explicit unitaries on state vectors, and against closed formulas. */
#include <complex.h>
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#include "base/err.h"
#include "sim/state.h"

/* ---- reference: a plain state vector, qubit 0 most significant ---- */

struct vec {
    size_t n;
    double complex v[1 << 11];
};

static void apply(struct vec *s, const size_t *q, size_t k, const double complex *u) {
    size_t dim = (size_t)1 << k;
    for (size_t at = 0; at < (size_t)1 << s->n; at++) {
        size_t mask = 0;
        for (size_t i = 0; i < k; i++) mask |= (size_t)1 << (s->n - 1 - q[i]);
        if ((at & mask) != 0) continue;
        double complex in[4], out[4] = {0};
        size_t place[4];
        for (size_t b = 0; b < dim; b++) {
            place[b] = at;
            for (size_t i = 0; i < k; i++)
                if ((b >> (k - 1 - i)) & 1) place[b] |= (size_t)1 << (s->n - 1 - q[i]);
            in[b] = s->v[place[b]];
        }
        for (size_t r = 0; r < dim; r++)
            for (size_t c = 0; c < dim; c++) out[r] += u[r * dim + c] * in[c];
        for (size_t b = 0; b < dim; b++) s->v[place[b]] = out[b];
    }
}

static const double complex pauli[4][4] = {{1, 0, 0, 1}, {0, 1, 1, 0}, {0, -I, I, 0}, {1, 0, 0, -1}};

static double expect(const struct vec *s, const unsigned *paulis) {
    static struct vec copy;
    copy = *s;
    for (size_t q = 0; q < s->n; q++)
        if (paulis[q] != 0) apply(&copy, &q, 1, pauli[paulis[q]]);
    double complex sum = 0;
    for (size_t i = 0; i < (size_t)1 << s->n; i++) sum += conj(s->v[i]) * copy.v[i];
    return creal(sum);
}

static void unitary(enum qn_gate gate, const double *args, double complex u[16]) {
    double r = sqrt(0.5);
    const double complex one[][4] = {[QN_GATE_X] = {0, 1, 1, 0}, [QN_GATE_Y] = {0, -I, I, 0}, [QN_GATE_Z] = {1, 0, 0, -1},
                                     [QN_GATE_H] = {r, r, r, -r}, [QN_GATE_S] = {1, 0, 0, I}, [QN_GATE_SDG] = {1, 0, 0, -I},
                                     [QN_GATE_T] = {1, 0, 0, cexp(I * M_PI / 4)}, [QN_GATE_TDG] = {1, 0, 0, cexp(-I * M_PI / 4)},
                                     [QN_GATE_SX] = {(1 + I) / 2, (1 - I) / 2, (1 - I) / 2, (1 + I) / 2}};
    for (int i = 0; i < 16; i++) u[i] = 0;
    if (gate < QN_GATE_ROT) {
        for (int i = 0; i < 4; i++) u[i] = one[gate][i];
    } else if (gate == QN_GATE_ROT) {
        double len = sqrt(args[0] * args[0] + args[1] * args[1] + args[2] * args[2]), c = cos(args[3] / 2), s = sin(args[3] / 2);
        for (int i = 0; i < 4; i++) {
            u[i] = c * pauli[0][i];
            for (int k = 0; k < 3; k++) u[i] -= I * s * args[k] / len * pauli[k + 1][i];
        }
    } else {
        u[0] = u[5] = u[10] = u[15] = 1;
        if (gate == QN_GATE_CNOT) u[10] = u[15] = 0, u[11] = u[14] = 1;
        if (gate == QN_GATE_CZ) u[15] = -1;
        if (gate == QN_GATE_CY) u[10] = u[15] = 0, u[11] = -I, u[14] = I;
        if (gate == QN_GATE_CPHASE) u[15] = cexp(I * args[0]);
        if (gate == QN_GATE_SWAP) u[5] = u[10] = 0, u[6] = u[9] = 1;
        if (gate == QN_GATE_ISWAP) u[5] = u[10] = 0, u[6] = u[9] = I;
    }
}

static void random_circuit(struct qn_state *state, struct vec *ref, struct qn_rng *rng, int length) {
    for (int i = 0; i < length; i++) {
        enum qn_gate gate = (enum qn_gate)(1 + qn_rng_below(rng, QN_GATE_ISWAP));
        size_t n = qn_gate_qubits(gate), q[2] = {(size_t)qn_rng_below(rng, ref->n), 0};
        do q[1] = (size_t)qn_rng_below(rng, ref->n);
        while (q[1] == q[0]);
        double args[4];
        for (int k = 0; k < 4; k++) args[k] = qn_rng_normal(rng);
        double complex u[16];
        unitary(gate, args, u);
        apply(ref, q, n, u);
        cr_assert_eq(qn_state_gate(state, gate, q, args), 0);
    }
}

Test(gates, tensor_agrees_with_explicit_unitaries) {
    struct qn_rng rng;
    qn_rng_init(&rng, 1, "gates", 0);
    for (size_t n = 2; n <= 4; n++)
        for (int run = 0; run < 20; run++) {
            struct qn_state *state;
            static struct vec ref;
            ref = (struct vec){.n = n, .v = {1}};
            cr_assert_eq(qn_state_new_zero(n, &state), 0);
            random_circuit(state, &ref, &rng, 40);
            size_t len;
            const double *t = qn_state_data(state, &len);
            for (size_t i = 0; i < len; i++) {
                unsigned p[4];
                for (size_t q = 0; q < n; q++) p[q] = (unsigned)(i >> (2 * (n - 1 - q)) & 3);
                cr_assert_float_eq(t[i], expect(&ref, p), 1e-12, "n %zu entry %zu", n, i);
            }
            qn_state_free(state);
        }
}

Test(gates, trajectory_agrees_with_explicit_unitaries) {
    struct qn_rng rng;
    qn_rng_init(&rng, 2, "gates", 0);
    struct qn_state *state;
    static struct vec ref;
    ref = (struct vec){.n = 8, .v = {1}};
    cr_assert_eq(qn_state_new_zero(8, &state), 0);
    cr_assert(qn_state_is_trajectory(state));
    random_circuit(state, &ref, &rng, 300);
    for (size_t a = 0; a < 8; a++)
        for (size_t b = 0; b < 8; b++) {
            if (a == b) continue;
            double t[16];
            qn_state_pair_tensor(state, a, b, t);
            for (unsigned i = 0; i < 16; i++) {
                unsigned p[8] = {0};
                p[a] = i >> 2;
                p[b] = i & 3;
                cr_assert_float_eq(t[i], expect(&ref, p), 1e-10);
            }
        }
    qn_state_free(state);
}

/* ---- measurement ---- */

static struct qn_state *random_pair(struct qn_rng *rng) { /* Two of three qubits of a random pure state: mixed, not Bell-diagonal. */
    struct qn_state *state;
    static struct vec ref;
    ref = (struct vec){.n = 3, .v = {1}};
    cr_assert_eq(qn_state_new_zero(3, &state), 0);
    random_circuit(state, &ref, rng, 30);
    qn_state_remove(state, 1, rng);
    return state;
}

Test(bell, measurement_names_the_state) {
    for (int bell = 0; bell < 4; bell++) {
        double p[4] = {0};
        p[bell] = 1;
        struct qn_state *state;
        cr_assert_eq(qn_state_new_bell_diagonal(p, &state), 0);
        cr_assert_float_eq(qn_state_fidelity(state, 0, 1, bell), 1, 1e-12);
        cr_assert_eq(qn_state_bell_measure(state, 0, 1, 0.999), bell);
        cr_assert_eq(qn_state_bell_measure(state, 1, 0, 0.001), bell);
        /* Index: bit 0 is the frame's Z, bit 1 its X, on the second qubit of Phi+. */
        size_t q = 1;
        if ((bell & 1) != 0) qn_state_gate(state, QN_GATE_Z, &q, NULL);
        if ((bell & 2) != 0) qn_state_gate(state, QN_GATE_X, &q, NULL);
        cr_assert_float_eq(qn_state_fidelity(state, 0, 1, 0), 1, 1e-12);
        qn_state_free(state);
    }
}

Test(bell, swap_kernel_is_merge_measure_remove) {
    struct qn_rng rng;
    qn_rng_init(&rng, 3, "swap", 0);
    for (int run = 0; run < 400; run++) {
        struct qn_state *a = random_pair(&rng), *b = random_pair(&rng), *whole, *other, *kernel;
        size_t x = (size_t)qn_rng_below(&rng, 2), y = (size_t)qn_rng_below(&rng, 2);
        double u = qn_rng_double(&rng);
        cr_assert_eq(qn_state_copy(a, &whole), 0);
        cr_assert_eq(qn_state_copy(b, &other), 0);
        cr_assert_eq(qn_state_merge(&whole, other, &rng), 0);
        int m = qn_state_bell_measure(whole, x, 2 + y, u);
        qn_state_remove(whole, 2 + y, &rng);
        qn_state_remove(whole, x, &rng);
        cr_assert_eq(qn_state_swap_kernel(a, x, b, y, u, &kernel), m);
        size_t len;
        const double *expected = qn_state_data(whole, &len), *got = qn_state_data(kernel, &len);
        cr_assert_eq(len, 16);
        for (size_t i = 0; i < 16; i++) cr_assert_float_eq(got[i], expected[i], 1e-10, "run %d", run);
        qn_state_free(whole);
        qn_state_free(kernel);
    }
}

static struct qn_state *werner(double f) {
    struct qn_state *state;
    cr_assert_eq(qn_state_new_bell_diagonal((const double[4]){f, (1 - f) / 3, (1 - f) / 3, (1 - f) / 3}, &state), 0);
    return state;
}

Test(bell, teleport_has_the_fidelity_of_the_formula) {
    struct qn_rng rng;
    qn_rng_init(&rng, 4, "teleport", 0);
    for (int run = 0; run < 100; run++) {
        double n[3], len = 0;
        for (int i = 0; i < 3; i++) {
            n[i] = qn_rng_normal(&rng);
            len += n[i] * n[i];
        }
        for (int i = 0; i < 3; i++) n[i] /= sqrt(len);
        struct qn_state *state, *pair = werner(0.9);
        cr_assert_eq(qn_state_new_bloch(n, &state), 0);
        cr_assert_eq(qn_state_merge(&state, pair, &rng), 0);
        int m = qn_state_bell_measure(state, 0, 1, qn_rng_double(&rng));
        size_t q = 2;
        if ((m & 1) != 0) qn_state_gate(state, QN_GATE_Z, &q, NULL);
        if ((m & 2) != 0) qn_state_gate(state, QN_GATE_X, &q, NULL);
        cr_assert_float_eq(qn_state_probability(state, 2, n), (2 * 0.9 + 1) / 3, 1e-12);
        qn_state_free(state);
    }
}

Test(bell, distillation_as_dejmps_says) { /* Deutsch et al., PRL 77, 2818 (1996) */
    struct qn_rng rng;
    qn_rng_init(&rng, 5, "dejmps", 0);
    double f = 0.8, e = (1 - f) / 3, n = (f + e) * (f + e) + 4 * e * e, expected = (f * f + e * e) / n;
    int kept = 0;
    const int runs = 4000;
    for (int run = 0; run < runs; run++) {
        struct qn_state *state = werner(f); /* Qubits: a1 b1 a2 b2. */
        cr_assert_eq(qn_state_merge(&state, werner(f), &rng), 0);
        for (size_t q = 0; q < 4; q++) qn_state_gate(state, QN_GATE_ROT, &q, (const double[4]){1, 0, 0, q % 2 == 0 ? M_PI / 2 : -M_PI / 2});
        qn_state_gate(state, QN_GATE_CNOT, (const size_t[2]){0, 2}, NULL);
        qn_state_gate(state, QN_GATE_CNOT, (const size_t[2]){1, 3}, NULL);
        static const double z[3] = {0, 0, 1};
        int a = qn_state_measure(state, 2, z, qn_rng_double(&rng)), b = qn_state_measure(state, 3, z, qn_rng_double(&rng));
        if (a == b) {
            kept++;
            cr_assert_float_eq(qn_state_fidelity(state, 0, 1, 0), expected, 1e-12);
        }
        qn_state_free(state);
    }
    cr_assert(fabs(kept - runs * n) < 5 * sqrt(runs * n * (1 - n)), "seed 5: kept %d of %d, expected %g", kept, runs, runs * n);
}

/* ---- noise ---- */

Test(noise, t1_t2_as_the_formula_and_in_any_steps) {
    double t = 0.1, t1 = 1.0, t2 = 0.5, g = 1 - exp(-t / t1);
    struct qn_state *once, *steps;
    cr_assert_eq(qn_state_new_bell_diagonal((const double[4]){1, 0, 0, 0}, &once), 0);
    cr_assert_eq(qn_state_copy(once, &steps), 0);
    for (size_t q = 0; q < 2; q++) {
        qn_state_t1t2(once, q, t, t1, t2, NULL);
        for (int i = 0; i < 10; i++) qn_state_t1t2(steps, q, t / 10, t1, t2, NULL);
    }
    cr_assert_float_eq(qn_state_fidelity(once, 0, 1, 0), (1 - g + g * g) / 2 + exp(-2 * t / t2) / 2, 1e-12);
    cr_assert_float_eq(qn_state_fidelity(once, 0, 1, 0), 0.7921066905388303, 1e-9);
    cr_assert_float_eq(qn_state_fidelity(steps, 0, 1, 0), qn_state_fidelity(once, 0, 1, 0), 1e-12);
    qn_state_free(once);
    qn_state_free(steps);
}

Test(noise, trajectories_average_to_the_tensor) {
    struct qn_rng rng;
    qn_rng_init(&rng, 6, "trajectory", 0);
    double sum[3] = {0}, expected[3] = {0};
    const int runs = 4000;
    for (int run = -1; run < runs; run++) { /* run -1: the tensor, on the first two qubits alone. */
        struct qn_state *state;
        cr_assert_eq(qn_state_new_zero(run < 0 ? 2 : 7, &state), 0);
        qn_state_gate(state, QN_GATE_ROT, (const size_t[1]){0}, (const double[4]){0.3, 1, 0.2, 1.1});
        qn_state_gate(state, QN_GATE_CNOT, (const size_t[2]){0, 1}, NULL);
        qn_state_t1t2(state, 0, 0.3, 1, 0.7, &rng);
        qn_state_depolarise1(state, 1, 0.9, &rng);
        qn_state_depolarise2(state, 0, 1, 0.8, &rng);
        double t[16];
        qn_state_pair_tensor(state, 0, 1, t);
        for (int i = 0; i < 3; i++) *(run < 0 ? &expected[i] : &sum[i]) += t[i == 0 ? 5 : i == 1 ? 15 : 12];
        qn_state_free(state);
    }
    for (int i = 0; i < 3; i++) cr_assert(fabs(sum[i] / runs - expected[i]) < 5 / sqrt(runs), "seed 6: %g, expected %g", sum[i] / runs, expected[i]);
}

Test(noise, going_from_tensor_to_trajectory_and_back_keeps_the_average) {
    struct qn_rng rng;
    qn_rng_init(&rng, 7, "promotion", 0);
    double zz = 0, xx = 0;
    const int runs = 3000;
    for (int run = 0; run < runs; run++) {
        struct qn_state *state = werner(0.85), *rest;
        cr_assert_eq(qn_state_new_zero(6, &rest), 0);
        cr_assert_eq(qn_state_merge(&state, rest, &rng), 0);
        cr_assert(qn_state_is_trajectory(state));
        for (int i = 0; i < 3; i++) qn_state_remove(state, 3, &rng);
        cr_assert_not(qn_state_is_trajectory(state));
        double t[16];
        qn_state_pair_tensor(state, 0, 1, t);
        xx += t[5];
        zz += t[15];
        qn_state_free(state);
    }
    double w = (4 * 0.85 - 1) / 3;
    cr_assert(fabs(xx / runs - w) < 5 / sqrt(runs) && fabs(zz / runs - w) < 5 / sqrt(runs), "seed 7: %g %g, expected %g", xx / runs, zz / runs, w);
}

Test(ghz, parities_of_six_and_of_ten) {
    struct qn_rng rng;
    qn_rng_init(&rng, 8, "ghz", 0);
    static const double x[3] = {1, 0, 0}, y[3] = {0, 1, 0};
    for (size_t n = 6; n <= 10; n += 4)
        for (int run = 0; run < 50; run++) {
            struct qn_state *state;
            cr_assert_eq(qn_state_new_zero(n, &state), 0);
            qn_state_gate(state, QN_GATE_H, (const size_t[1]){0}, NULL);
            for (size_t q = 1; q < n; q++) qn_state_gate(state, QN_GATE_CNOT, (const size_t[2]){0, q}, NULL);
            int parity = 0, two_y = run % 2;
            for (size_t q = n; q-- > 0;) {
                parity ^= qn_state_measure(state, q, two_y && q < 2 ? y : x, qn_rng_double(&rng));
                if (q > 0) qn_state_remove(state, q, &rng);
            }
            cr_assert_eq(parity, two_y, "n %zu", n); /* XX..X = +1, YYX..X = -1 */
            qn_state_free(state);
        }
}

Test(data, refuses_what_cannot_be_a_state) {
    struct qn_state *state;
    double t[16] = {1};
    cr_assert_eq(qn_state_from_data(2, false, t, 16, &state), 0);
    qn_state_free(state);
    t[3] = NAN;
    cr_assert_eq(qn_state_from_data(2, false, t, 16, &state), -QN_EPROTOCOL);
    t[3] = 1.5;
    cr_assert_eq(qn_state_from_data(2, false, t, 16, &state), -QN_EPROTOCOL);
    t[3] = 0;
    t[0] = 0.5;
    cr_assert_eq(qn_state_from_data(2, false, t, 16, &state), -QN_EPROTOCOL);
    cr_assert_eq(qn_state_from_data(2, true, t, 8, &state), -QN_EPROTOCOL);
    cr_assert_eq(qn_state_from_data(12, true, t, 16, &state), -QN_EPROTOCOL);
    cr_assert_eq(qn_state_from_data(2, false, t, 15, &state), -QN_EPROTOCOL);
}
