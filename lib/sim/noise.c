/* SPDX-License-Identifier: Apache-2.0 */
/* Channels: exact on tensors; on trajectories one Kraus operator is drawn (Dalibard, Castin, Molmer, PRL 68, 580,
 * 1992). T1/T2: amplitude damping, then dephasing, in the order and by the formula of NetSquid's T1T2NoiseModel
 * (Coopmans et al., Commun. Phys. 4, 164, 2021). */
#include <assert.h>
#include <math.h>

#include "sim/internal.h"

static double decay(double dt_s, double t_s) { return t_s > 0 && isfinite(t_s) ? exp(-dt_s / t_s) : 1; }

void qn_state_t1t2(struct qn_state *state, size_t qubit, double dt_s, double t1_s, double t2_s, struct qn_rng *rng) {
    assert(qubit < state->n);
    if (!(dt_s > 0)) return;
    double e1 = decay(dt_s, t1_s), e2 = decay(dt_s, t2_s);
    if (!(t2_s > 0) || !isfinite(t2_s)) e2 = sqrt(e1); /* No dephasing of its own: T2 = 2 T1. */
    if (e1 == 1 && e2 == 1) return;
    if (state->trajectory) {
        qn_trajectory_damp(state, qubit, 1 - e1, qn_rng_double(rng));
        /* Full damping leaves no coherence to dephase. */
        double dephased = e1 > 0 ? (1 - e2 / sqrt(e1)) / 2 : 0;
        if (qn_rng_double(rng) < probability_round(dephased)) qn_trajectory_pauli(state, qubit, 3);
        return;
    }
    size_t stride = tensor_stride(state, qubit);
    for (size_t k = 0; k < tensor_size(state->n - 1); k++) {
        double *t = state->data + open_digit(k, stride);
        t[stride] *= e2;
        t[2 * stride] *= e2;
        t[3 * stride] = e1 * t[3 * stride] + (1 - e1) * t[0];
    }
}

void qn_state_pauli_channel(struct qn_state *state, size_t qubit, const double p[4], struct qn_rng *rng) {
    assert(qubit < state->n);
    if (p[0] == 1) return;
    if (state->trajectory) {
        double u = qn_rng_double(rng);
        unsigned pauli = 0;
        while (pauli < 3 && u >= p[pauli]) u -= p[pauli++];
        if (pauli != 0) qn_trajectory_pauli(state, qubit, pauli);
        return;
    }
    double x = p[0] + p[1] - p[2] - p[3], y = p[0] - p[1] + p[2] - p[3], z = p[0] - p[1] - p[2] + p[3];
    size_t stride = tensor_stride(state, qubit);
    for (size_t k = 0; k < tensor_size(state->n - 1); k++) {
        double *t = state->data + open_digit(k, stride);
        t[stride] *= x;
        t[2 * stride] *= y;
        t[3 * stride] *= z;
    }
}

void qn_state_depolarise1(struct qn_state *state, size_t qubit, double lambda, struct qn_rng *rng) {
    double p = (1 - lambda) / 4;
    qn_state_pauli_channel(state, qubit, (const double[4]){1 - 3 * p, p, p, p}, rng);
}

void qn_state_depolarise2(struct qn_state *state, size_t a, size_t b, double lambda, struct qn_rng *rng) {
    assert(a < state->n && b < state->n && a != b);
    if (lambda == 1) return;
    if (state->trajectory) { /* I/4 is the even mixture of the 16 Pauli products. */
        if (qn_rng_double(rng) < lambda) return;
        unsigned product = (unsigned)qn_rng_below(rng, 16);
        if (product >> 2 != 0) qn_trajectory_pauli(state, a, product >> 2);
        if ((product & 3) != 0) qn_trajectory_pauli(state, b, product & 3);
        return;
    }
    size_t sa = tensor_stride(state, a), sb = tensor_stride(state, b);
    for (size_t k = 0; k < tensor_size(state->n - 2); k++) {
        double *t = state->data + open_two_digits(k, sa, sb), untouched = t[0];
        for (size_t i = 0; i < 4; i++)
            for (size_t j = 0; j < 4; j++) t[i * sa + j * sb] *= lambda;
        t[0] = untouched;
    }
}
