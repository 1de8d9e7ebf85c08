/* SPDX-License-Identifier: Apache-2.0 */
/* Measurement, and what makes states smaller. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "sim/internal.h"

/* XX, YY, ZZ of the Bell states by index. */
static const double bell_sign[4][3] = {{1, -1, 1}, {-1, 1, 1}, {1, 1, -1}, {-1, -1, -1}};

double qn_state_probability(const struct qn_state *state, size_t qubit, const double axis[3]) {
    if (state->trajectory) return (1 + trajectory_expect(state, qubit, axis)) / 2;
    size_t stride = tensor_stride(state, qubit);
    return (1 + axis[0] * state->data[stride] + axis[1] * state->data[2 * stride] + axis[2] * state->data[3 * stride]) / 2;
}

static void project(struct qn_state *state, size_t qubit, const double axis[3], int outcome, double p) {
    double sign = outcome == 0 ? 1 : -1, scale = 0.5 / p;
    size_t stride = tensor_stride(state, qubit);
    FOR_BLOCKS(state, stride, at) {
        double *t = state->data + at;
        double m = scale * (t[0] + sign * (axis[0] * t[stride] + axis[1] * t[2 * stride] + axis[2] * t[3 * stride]));
        t[0] = m;
        for (size_t i = 0; i < 3; i++) t[(i + 1) * stride] = sign * axis[i] * m;
    }
}

int qn_state_measure(struct qn_state *state, size_t qubit, const double axis[3], double u) {
    double p = qn_state_probability(state, qubit, axis);
    int outcome = u < state_round(p) ? 0 : 1;
    if (state->trajectory) trajectory_project(state, qubit, axis, outcome);
    else project(state, qubit, axis, outcome, outcome == 0 ? p : 1 - p);
    return outcome;
}

static int choose_bell(const double tensor[16], double u, double *ret_p) {
    double p[4];
    for (int m = 0; m < 4; m++)
        p[m] = state_round((1 + bell_sign[m][0] * tensor[5] + bell_sign[m][1] * tensor[10] + bell_sign[m][2] * tensor[15]) / 4);
    int m = 0;
    while (m < 3 && u >= p[m]) u -= p[m++];
    while (m > 0 && p[m] <= 0) m--; /* Rounding left a rest. */
    *ret_p = p[m];
    return m;
}

static int trajectory_bell(struct qn_state *state, size_t a, size_t b, double u) {
    double tensor[16], p;
    static const double z[3] = {0, 0, 1}, x[3] = {1, 0, 0};
    trajectory_pair(state, a, b, tensor);
    int m = choose_bell(tensor, u, &p);
    trajectory_gate2(state, QN_GATE_CNOT, a, b, 0); /* Phi+- -> +- on a, 0 on b; Psi+-: 1 on b. */
    trajectory_project(state, a, x, m & 1);
    trajectory_project(state, b, z, m >> 1);
    trajectory_gate2(state, QN_GATE_CNOT, a, b, 0);
    return m;
}

int qn_state_bell_measure(struct qn_state *state, size_t a, size_t b, double u) {
    if (state->trajectory) return trajectory_bell(state, a, b, u);
    double tensor[16], p;
    qn_state_pair_tensor(state, a, b, tensor);
    int m = choose_bell(tensor, u, &p);
    const double *s = bell_sign[m];
    size_t sa = tensor_stride(state, a), sb = tensor_stride(state, b), size = tensor_size(state->n);
    /* The exact weight, not the rounded one, normalises. */
    double weight = (1 + s[0] * tensor[5] + s[1] * tensor[10] + s[2] * tensor[15]) / 4;
    for (size_t at = 0; at < size; at++) {
        if ((at / sa & 3) != 0 || (at / sb & 3) != 0) continue;
        double *t = state->data + at, v = t[0];
        for (size_t i = 1; i < 4; i++) v += s[i - 1] * t[i * (sa + sb)];
        v /= 4 * weight;
        for (size_t k = 1; k < 16; k++) t[(k >> 2) * sa + (k & 3) * sb] = 0;
        t[0] = v;
        for (size_t i = 1; i < 4; i++) t[i * (sa + sb)] = s[i - 1] * v;
    }
    return m;
}

void qn_state_reset(struct qn_state *state, size_t qubit, struct qn_rng *rng) {
    static const double z[3] = {0, 0, 1};
    if (state->trajectory) {
        if (qn_state_measure(state, qubit, z, qn_rng_double(rng)) == 1) trajectory_pauli(state, qubit, 1);
        return;
    }
    size_t stride = tensor_stride(state, qubit);
    FOR_BLOCKS(state, stride, at) {
        double *t = state->data + at;
        t[stride] = t[2 * stride] = 0;
        t[3 * stride] = t[0];
    }
}

void qn_state_remove(struct qn_state *state, size_t qubit, struct qn_rng *rng) {
    static const double z[3] = {0, 0, 1};
    if (state->trajectory) {
        if (state->n <= QN_STATE_TENSOR + 1) trajectory_trace_to_tensor(state, qubit);
        else trajectory_drop(state, qubit, qn_state_measure(state, qubit, z, qn_rng_double(rng)));
        return;
    }
    size_t stride = tensor_stride(state, qubit), to = 0;
    FOR_BLOCKS(state, stride, at) state->data[to++] = state->data[at];
    state->n--;
}

int qn_state_swap_kernel(struct qn_state *a, size_t x, struct qn_state *b, size_t y, double u, struct qn_state **ret_state) {
    if (a->n != 2 || b->n != 2 || a->trajectory || b->trajectory || x > 1 || y > 1) return -QN_EINVAL;
    struct qn_state *result = state_alloc(2, false);
    if (result == NULL) return -QN_ENOMEM;
    /* A[i][k]: kept qubit of a, measured one; B[k][j]: measured qubit of b, kept one. */
    size_t ai = x == 1 ? 4 : 1, ak = x == 1 ? 1 : 4, bk = y == 0 ? 4 : 1, bj = y == 0 ? 1 : 4;
    double joint[16] = {0};
    for (size_t k = 0; k < 4; k++) joint[5 * k] = a->data[k * ak] * b->data[k * bk];
    double p;
    int m = choose_bell(joint, u, &p);
    const double d[4] = {1, bell_sign[m][0], bell_sign[m][1], bell_sign[m][2]};
    double weight = 0;
    for (size_t k = 0; k < 4; k++) weight += d[k] * joint[5 * k];
    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < 4; j++) {
            double sum = 0;
            for (size_t k = 0; k < 4; k++) sum += a->data[i * ai + k * ak] * d[k] * b->data[k * bk + j * bj];
            result->data[4 * i + j] = sum / weight;
        }
    free(a);
    free(b);
    *ret_state = result;
    return m;
}
