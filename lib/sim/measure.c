/* SPDX-License-Identifier: Apache-2.0 */
/* Measurement, and what makes states smaller. */
#include <assert.h>
#include <stdlib.h>

#include "base/err.h"
#include "sim/internal.h"

static const double x_axis[3] = {1, 0, 0}, z_axis[3] = {0, 0, 1};

/* The entry of axis.sigma, by the place of the entry of I. */
static double along(const double *t, size_t stride, const double axis[3]) {
    return axis[0] * t[stride] + axis[1] * t[2 * stride] + axis[2] * t[3 * stride];
}

double qn_state_probability(const struct qn_state *state, size_t qubit, const double axis[3]) {
    assert(qubit < state->n);
    if (state->trajectory) return (1 + qn_trajectory_expect(state, qubit, axis)) / 2;
    return (1 + along(state->data, tensor_stride(state, qubit), axis)) / 2;
}

static void project(struct qn_state *state, size_t qubit, const double axis[3], int outcome) {
    double sign = outcome == 0 ? 1 : -1;
    size_t stride = tensor_stride(state, qubit);
    double twice_p = 1 + sign * along(state->data, stride, axis);
    for (size_t k = 0; k < tensor_size(state->n - 1); k++) {
        double *t = state->data + open_digit(k, stride);
        t[0] = (t[0] + sign * along(t, stride, axis)) / twice_p; /* k = 0 is divided by itself: exactly 1. */
        for (size_t i = 0; i < 3; i++) t[(i + 1) * stride] = sign * axis[i] * t[0];
    }
}

int qn_state_measure(struct qn_state *state, size_t qubit, const double axis[3], double u) {
    int outcome = u < probability_round(qn_state_probability(state, qubit, axis)) ? 0 : 1;
    if (state->trajectory)
        qn_trajectory_project(state, qubit, axis, outcome);
    else
        project(state, qubit, axis, outcome);
    return outcome;
}

/* Four times the weight of a Bell state, by the XX, YY and ZZ of the pair. */
static double four_p(const double correlation[3], int bell) {
    const double *sign = qn_bell_sign[bell];
    return 1 + sign[0] * correlation[0] + sign[1] * correlation[1] + sign[2] * correlation[2];
}

static int choose_bell(const double correlation[3], double u) {
    double p[4];
    for (int i = 0; i < 4; i++) p[i] = probability_round(four_p(correlation, i) / 4);
    int bell = 0;
    while (bell < 3 && u >= p[bell]) u -= p[bell++];
    while (bell > 0 && p[bell] <= 0) bell--; /* The rounded weights may sum to a little less than 1. */
    return bell;
}

static int trajectory_bell(struct qn_state *state, size_t a, size_t b, double u) {
    double t[16];
    qn_trajectory_pair(state, a, b, t);
    int bell = choose_bell((const double[3]){t[5], t[10], t[15]}, u);
    qn_trajectory_gate2(state, QN_GATE_CNOT, a, b, 0); /* Takes the Bell states to (|0> +- |1>) x |0 or 1>. */
    qn_trajectory_project(state, a, x_axis, bell & 1);
    qn_trajectory_project(state, b, z_axis, bell >> 1);
    qn_trajectory_gate2(state, QN_GATE_CNOT, a, b, 0);
    return bell;
}

int qn_state_bell_measure(struct qn_state *state, size_t a, size_t b, double u) {
    assert(a < state->n && b < state->n && a != b);
    if (state->trajectory) return trajectory_bell(state, a, b, u);
    size_t sa = tensor_stride(state, a), sb = tensor_stride(state, b), both = sa + sb;
    const double correlation[3] = {state->data[both], state->data[2 * both], state->data[3 * both]};
    int bell = choose_bell(correlation, u);
    const double *sign = qn_bell_sign[bell];
    double weight = four_p(correlation, bell);
    for (size_t k = 0; k < tensor_size(state->n - 2); k++) {
        double *t = state->data + open_two_digits(k, sa, sb);
        double v = (t[0] + sign[0] * t[both] + sign[1] * t[2 * both] + sign[2] * t[3 * both]) / weight;
        for (size_t i = 0; i < 4; i++)
            for (size_t j = 0; j < 4; j++) t[i * sa + j * sb] = 0;
        t[0] = v;
        for (size_t i = 0; i < 3; i++) t[(i + 1) * both] = sign[i] * v;
    }
    return bell;
}

void qn_state_reset(struct qn_state *state, size_t qubit, struct qn_rng *rng) {
    assert(qubit < state->n);
    if (state->trajectory) {
        if (qn_state_measure(state, qubit, z_axis, qn_rng_double(rng)) == 1) qn_trajectory_pauli(state, qubit, 1);
        return;
    }
    size_t stride = tensor_stride(state, qubit);
    for (size_t k = 0; k < tensor_size(state->n - 1); k++) {
        double *t = state->data + open_digit(k, stride);
        t[stride] = t[2 * stride] = 0;
        t[3 * stride] = t[0];
    }
}

/* Nobody sees the outcome of measuring a qubit that is thrown away, so a trajectory may measure it: on average that is
 * the partial trace. Where the rest fits a tensor the trace itself is taken. */
void qn_state_remove(struct qn_state *state, size_t qubit, struct qn_rng *rng) {
    assert(state->n > 1 && qubit < state->n);
    if (state->trajectory) {
        if (state->n == QN_STATE_TENSOR + 1)
            qn_trajectory_to_tensor(state, qubit);
        else
            qn_trajectory_drop(state, qubit, qn_state_measure(state, qubit, z_axis, qn_rng_double(rng)));
        return;
    }
    size_t stride = tensor_stride(state, qubit);
    for (size_t k = 0; k < tensor_size(state->n - 1); k++) state->data[k] = state->data[open_digit(k, stride)];
    state->n--;
}

/* P(m) = 1/4 sum_k A[0][k] D_m[k] B[k][0] and R = A D_m B / 4 P(m) with D_m = diag(1, XX, YY, ZZ of Bell state m), for
 * any two-qubit states A (kept qubit first) and B (measured qubit first). */
int qn_state_swap_kernel(struct qn_state *a, size_t x, struct qn_state *b, size_t y, double u,
                         struct qn_state **ret_state) {
    if (a == b || a->n != 2 || b->n != 2 || x > 1 || y > 1) return -QN_EINVAL;
    struct qn_state *rest = qn_state_alloc(2, false);
    if (rest == NULL) return -QN_ENOMEM;
    size_t a_kept = tensor_stride(a, 1 - x), a_measured = tensor_stride(a, x);
    size_t b_kept = tensor_stride(b, 1 - y), b_measured = tensor_stride(b, y);
    double correlation[3];
    for (size_t k = 0; k < 3; k++) correlation[k] = a->data[(k + 1) * a_measured] * b->data[(k + 1) * b_measured];
    int bell = choose_bell(correlation, u);
    const double *sign = qn_bell_sign[bell];
    double weight = four_p(correlation, bell);
    for (size_t i = 0; i < 4; i++) {
        const double *from = a->data + i * a_kept;
        const double row[4] = {from[0], sign[0] * from[a_measured], sign[1] * from[2 * a_measured],
                               sign[2] * from[3 * a_measured]};
        for (size_t j = 0; j < 4; j++) {
            const double *column = b->data + j * b_kept;
            rest->data[4 * i + j] = (row[0] * column[0] + row[1] * column[b_measured] +
                                     row[2] * column[2 * b_measured] + row[3] * column[3 * b_measured]) /
                                    weight;
        }
    }
    free(a);
    free(b);
    *ret_state = rest;
    return bell;
}
