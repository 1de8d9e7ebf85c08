/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_TESTS_UNIT_SIM_SUPPORT_H
#define QN_TESTS_UNIT_SIM_SUPPORT_H

#include "sim_reference.h"

/* What the engine's tests share: random states in both forms, comparison with the reference, and means at 5 sigma. */

static const double x_axis[3] = {1, 0, 0}, y_axis[3] = {0, 1, 0}, z_axis[3] = {0, 0, 1};
static const double almost_one = 1 - 0x1.0p-53; /* The largest draw. */

static inline struct qn_state *tensor_of(const struct ref *ref) {
    static double t[1 << (2 * QN_STATE_TENSOR)];
    size_t len = (size_t)1 << (2 * ref->n);
    for (size_t i = 0; i < len; i++) t[i] = ref_expect(ref, i);
    struct qn_state *state;
    cr_assert_eq(qn_state_from_data(ref->n, false, t, len, &state), 0);
    return state;
}

static inline struct qn_state *random_trajectory(size_t n, struct ref *ref, struct qn_rng *rng) { /* ref may be NULL. */
    size_t d = (size_t)1 << n;
    static double data[2 << QN_STATE_MAX];
    double norm = 0;
    for (size_t i = 0; i < 2 * d; i++) {
        data[i] = qn_rng_normal(rng);
        norm += data[i] * data[i];
    }
    for (size_t i = 0; i < 2 * d; i++) data[i] /= sqrt(norm);
    if (ref != NULL) {
        ref->n = n;
        ref->d = d;
        for (size_t i = 0; i < d * d; i++) {
            size_t r = 2 * (i / d), c = 2 * (i % d);
            ref->rho[i] = (data[r] + I * data[r + 1]) * (data[c] - I * data[c + 1]);
        }
    }
    struct qn_state *state;
    cr_assert_eq(qn_state_from_data(n, true, data, 2 * d, &state), 0);
    return state;
}

static inline void assert_same(const struct qn_state *state, const struct ref *ref, const char *what) {
    size_t len;
    const double *data = qn_state_data(state, &len);
    cr_assert_eq(qn_state_size(state), ref->n, "%s", what);
    if (!qn_state_is_trajectory(state)) {
        cr_assert_eq(data[0], 1, "%s: not exactly normalised", what);
        for (size_t i = 0; i < len; i++)
            cr_assert_float_eq(data[i], ref_expect(ref, i), 1e-12, "%s: n %zu entry %zu", what, ref->n, i);
        return;
    }
    for (size_t i = 0; i < ref->d * ref->d; i++) { /* As a density matrix: the phase is nobody's business. */
        size_t r = 2 * (i / ref->d), c = 2 * (i % ref->d);
        double complex got = (data[r] + I * data[r + 1]) * (data[c] - I * data[c + 1]);
        cr_assert(cabs(got - ref->rho[i]) < 1e-12, "%s: n %zu element %zu", what, ref->n, i);
    }
}

struct mean {
    double sum, squares;
    int count;
};

static inline void sample(struct mean *m, double x) {
    m->sum += x;
    m->squares += x * x;
    m->count++;
}

static inline void assert_mean(const struct mean *m, double expected, const char *what, int seed) {
    double mean = m->sum / m->count, variance = fmax(m->squares / m->count - mean * mean, 0);
    double bound = 5 * sqrt(variance / m->count) + 1e-9;
    cr_assert(fabs(mean - expected) < bound, "seed %d, %s: %g, expected %g +- %g", seed, what, mean, expected, bound);
}

static inline void random_axis(double axis[3], struct qn_rng *rng) {
    double length = 0;
    for (int i = 0; i < 3; i++) {
        axis[i] = qn_rng_normal(rng);
        length += axis[i] * axis[i];
    }
    for (int i = 0; i < 3; i++) axis[i] /= sqrt(length);
}

static inline void two_qubits(size_t q[2], size_t n, struct qn_rng *rng) {
    q[0] = (size_t)qn_rng_below(rng, n);
    q[1] = (q[0] + 1 + (size_t)qn_rng_below(rng, n - 1)) % n;
}

#endif
