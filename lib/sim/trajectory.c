/* SPDX-License-Identifier: Apache-2.0 */
/* Pure states of more than QN_STATE_TENSOR qubits. */
#include <assert.h>
#include <math.h>

#include "sim/internal.h"

void qn_trajectory_apply(struct qn_state *state, size_t qubit, const double complex m[4]) {
    double complex *amplitude = amplitudes(state);
    size_t stride = amplitude_stride(state, qubit);
    for (size_t k = 0; k < amplitude_count(state) / 2; k++) {
        double complex *v = amplitude + open_bit(k, stride), zero = v[0], one = v[stride];
        v[0] = times(m[0], zero) + times(m[1], one);
        v[stride] = times(m[2], zero) + times(m[3], one);
    }
}

void qn_trajectory_pauli(struct qn_state *state, size_t qubit, unsigned pauli) {
    static const double complex matrix[4][4] = {{1, 0, 0, 1}, {0, 1, 1, 0}, {0, -I, I, 0}, {1, 0, 0, -1}};
    qn_trajectory_apply(state, qubit, matrix[pauli]);
}

/* Exchanges two amplitudes, each multiplied by a phase. */
static void cross(double complex *v, double complex *w, double complex to_v, double complex to_w) {
    double complex keep = *v;
    *v = times(to_v, *w);
    *w = times(to_w, keep);
}

void qn_trajectory_gate2(struct qn_state *state, enum qn_gate gate, size_t a, size_t b, double angle) {
    size_t sa = amplitude_stride(state, a), sb = amplitude_stride(state, b);
    double complex phase = __builtin_complex(cos(angle), sin(angle));
    for (size_t k = 0; k < amplitude_count(state) / 4; k++) {
        double complex *v = amplitudes(state) + open_two_bits(k, sa, sb);
        switch (gate) {
        case QN_GATE_CNOT:
            cross(&v[sa], &v[sa + sb], 1, 1);
            break;
        case QN_GATE_CY:
            cross(&v[sa], &v[sa + sb], -I, I);
            break;
        case QN_GATE_CZ:
            v[sa + sb] = -v[sa + sb];
            break;
        case QN_GATE_CPHASE:
            v[sa + sb] = times(phase, v[sa + sb]);
            break;
        case QN_GATE_SWAP:
            cross(&v[sa], &v[sb], 1, 1);
            break;
        case QN_GATE_ISWAP:
            cross(&v[sa], &v[sb], I, I);
            break;
        default:
            assert(false);
        }
    }
}

double qn_trajectory_expect(const struct qn_state *state, size_t qubit, const double axis[3]) {
    size_t stride = amplitude_stride(state, qubit);
    double z = 0;
    double complex coherence = 0; /* Sum of conj(v0) v1, which is (<X> + i <Y>) / 2. */
    for (size_t k = 0; k < amplitude_count(state) / 2; k++) {
        const double complex *v = amplitudes_const(state) + open_bit(k, stride);
        z += norm2(v[0]) - norm2(v[stride]);
        coherence += times(conj(v[0]), v[stride]);
    }
    return axis[0] * 2 * creal(coherence) + axis[1] * 2 * cimag(coherence) + axis[2] * z;
}

static void normalise(struct qn_state *state) {
    double norm = 0;
    for (size_t i = 0; i < 2 * amplitude_count(state); i++) norm += state->data[i] * state->data[i];
    double scale = 1 / sqrt(norm);
    for (size_t i = 0; i < 2 * amplitude_count(state); i++) state->data[i] *= scale;
}

void qn_trajectory_project(struct qn_state *state, size_t qubit, const double axis[3], int outcome) {
    double half = outcome == 0 ? 0.5 : -0.5; /* (I +- axis.sigma) / 2 */
    const double complex projector[4] = {0.5 + half * axis[2], __builtin_complex(half * axis[0], -half * axis[1]),
                                         __builtin_complex(half * axis[0], half * axis[1]), 0.5 - half * axis[2]};
    qn_trajectory_apply(state, qubit, projector);
    normalise(state);
}

void qn_trajectory_damp(struct qn_state *state, size_t qubit, double gamma, double u) {
    static const double z_axis[3] = {0, 0, 1};
    double excited = (1 - qn_trajectory_expect(state, qubit, z_axis)) / 2;
    const double complex decayed[4] = {0, 1, 0, 0}, stayed[4] = {1, 0, 0, sqrt(1 - gamma)};
    qn_trajectory_apply(state, qubit, u < probability_round(gamma * excited) ? decayed : stayed);
    normalise(state);
}

void qn_trajectory_drop(struct qn_state *state, size_t qubit, int outcome) {
    double complex *v = amplitudes(state);
    size_t stride = amplitude_stride(state, qubit), kept = outcome == 0 ? 0 : stride;
    for (size_t k = 0; k < amplitude_count(state) / 2; k++) v[k] = v[open_bit(k, stride) + kept];
    state->n--;
}
