/* SPDX-License-Identifier: Apache-2.0 */
/* Channels: exact on tensors, sampled Kraus operators on trajectories. T1/T2 as in physics.md B.5 (the order and formula of
 * NetSquid's T1T2NoiseModel, Coopmans et al., Commun. Phys. 4, 164, 2021). */
#include <math.h>

#include "sim/internal.h"

void qn_state_depolarise1(struct qn_state *state, size_t qubit, double lambda, struct qn_rng *rng) {
    double p = (1 - lambda) / 4;
    qn_state_pauli_channel(state, qubit, (const double[4]){1 - 3 * p, p, p, p}, rng);
}

void qn_state_depolarise2(struct qn_state *state, size_t a, size_t b, double lambda, struct qn_rng *rng) {
    if (lambda == 1) return;
    if (state->trajectory) {
        if (qn_rng_double(rng) < lambda) return;
        uint64_t pauli = qn_rng_below(rng, 16);
        if (pauli >> 2 != 0) trajectory_pauli(state, a, (unsigned)(pauli >> 2));
        if ((pauli & 3) != 0) trajectory_pauli(state, b, (unsigned)(pauli & 3));
        return;
    }
    size_t sa = tensor_stride(state, a), sb = tensor_stride(state, b);
    for (size_t i = 0; i < tensor_size(state->n); i++)
        if ((i / sa & 3) != 0 || (i / sb & 3) != 0) state->data[i] *= lambda;
}

void qn_state_pauli_channel(struct qn_state *state, size_t qubit, const double p[4], struct qn_rng *rng) {
    if (p[0] == 1) return;
    if (state->trajectory) {
        double u = qn_rng_double(rng);
        unsigned pauli = 0;
        while (pauli < 3 && u >= p[pauli]) u -= p[pauli++];
        if (pauli != 0) trajectory_pauli(state, qubit, pauli);
        return;
    }
    double x = p[0] + p[1] - p[2] - p[3], y = p[0] - p[1] + p[2] - p[3], z = p[0] - p[1] - p[2] + p[3];
    size_t stride = tensor_stride(state, qubit);
    FOR_BLOCKS(state, stride, at) {
        state->data[at + stride] *= x;
        state->data[at + 2 * stride] *= y;
        state->data[at + 3 * stride] *= z;
    }
}

static double decay(double dt_s, double t_s) { return t_s > 0 && isfinite(t_s) ? exp(-dt_s / t_s) : 1; }

void qn_state_t1t2(struct qn_state *state, size_t qubit, double dt_s, double t1_s, double t2_s, struct qn_rng *rng) {
    if (!(dt_s > 0)) return;
    double e1 = decay(dt_s, t1_s), e2 = decay(dt_s, t2_s);
    if (!(t2_s > 0) || !isfinite(t2_s)) e2 = sqrt(e1); /* No dephasing of its own: T2 = 2 T1. */
    if (e1 == 1 && e2 == 1) return;
    if (state->trajectory) {
        trajectory_damp(state, qubit, 1 - e1, qn_rng_double(rng));
        double dephasing = (1 - e2 / sqrt(e1)) / 2;
        if (qn_rng_double(rng) < dephasing) trajectory_pauli(state, qubit, 3);
        return;
    }
    size_t stride = tensor_stride(state, qubit);
    FOR_BLOCKS(state, stride, at) {
        double *t = state->data + at;
        t[stride] *= e2;
        t[2 * stride] *= e2;
        t[3 * stride] = e1 * t[3 * stride] + (1 - e1) * t[0];
    }
}
