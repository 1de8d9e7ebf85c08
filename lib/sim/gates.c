/* SPDX-License-Identifier: Apache-2.0 */
/* Gates. On a tensor a gate is its action on Pauli matrices by conjugation: a one-qubit gate turns the (X, Y, Z) part
 * of one index, the two-qubit Clifford gates permute entries with signs (Gottesman, quant-ph/9807006). */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "sim/internal.h"

#define R 0.70710678118654752440 /* sqrt(1/2) */

struct gate1 {
    double bloch[9];          /* What it does to (x, y, z), row-major; exact for Clifford gates. */
    double complex matrix[4]; /* The unitary, up to a phase. */
};

static const struct gate1 named[] = {
    [QN_GATE_X] = {{1, 0, 0, 0, -1, 0, 0, 0, -1}, {0, 1, 1, 0}},
    [QN_GATE_Y] = {{-1, 0, 0, 0, 1, 0, 0, 0, -1}, {0, -I, I, 0}},
    [QN_GATE_Z] = {{-1, 0, 0, 0, -1, 0, 0, 0, 1}, {1, 0, 0, -1}},
    [QN_GATE_H] = {{0, 0, 1, 0, -1, 0, 1, 0, 0}, {R, R, R, -R}},
    [QN_GATE_S] = {{0, -1, 0, 1, 0, 0, 0, 0, 1}, {1, 0, 0, I}},
    [QN_GATE_SDG] = {{0, 1, 0, -1, 0, 0, 0, 0, 1}, {1, 0, 0, -I}},
    [QN_GATE_T] = {{R, -R, 0, R, R, 0, 0, 0, 1}, {1, 0, 0, R + R *I}},
    [QN_GATE_TDG] = {{R, R, 0, -R, R, 0, 0, 0, 1}, {1, 0, 0, R - R *I}},
    [QN_GATE_SX] = {{1, 0, 0, 0, 0, -1, 0, 1, 0}, {0.5 + 0.5 * I, 0.5 - 0.5 * I, 0.5 - 0.5 * I, 0.5 + 0.5 * I}},
};

size_t qn_gate_qubits(enum qn_gate gate) {
    if (gate >= QN_GATE_X && gate <= QN_GATE_ROT) return 1;
    return gate >= QN_GATE_CNOT && gate <= QN_GATE_ISWAP ? 2 : 0;
}

size_t qn_gate_args(enum qn_gate gate) { return gate == QN_GATE_ROT ? 4 : gate == QN_GATE_CPHASE ? 1 : 0; }

static inline void turn_at(double *t, size_t stride, const double m[9]) {
    double x = t[stride], y = t[2 * stride], z = t[3 * stride];
    t[stride] = m[0] * x + m[1] * y + m[2] * z;
    t[2 * stride] = m[3] * x + m[4] * y + m[5] * z;
    t[3 * stride] = m[6] * x + m[7] * y + m[8] * z;
}

/* Two shapes of one loop: long inner runs are what the compiler makes vectors of, runs of one are what it makes slow.
 */
static void turn(struct qn_state *state, size_t qubit, const double matrix[9]) {
    size_t stride = tensor_stride(state, qubit), size = tensor_size(state->n);
    double m[9];
    memcpy(m, matrix, sizeof m); /* Cannot alias the tensor. */
    if (stride == 1) {
        for (size_t at = 0; at < size; at += 4) turn_at(state->data + at, 1, m);
        return;
    }
    for (size_t block = 0; block < size; block += 4 * stride)
        for (size_t at = block; at < block + stride; at++) turn_at(state->data + at, stride, m);
}

static void apply1(struct qn_state *state, size_t qubit, const struct gate1 *gate) {
    if (state->trajectory)
        qn_trajectory_apply(state, qubit, gate->matrix);
    else
        turn(state, qubit, gate->bloch);
}

/* exp(-i angle/2 n.sigma), and Rodrigues' formula for what it does to the Bloch vector. */
static struct gate1 rotation(const double n[3], double angle) {
    double c = cos(angle), s = sin(angle), d = 1 - c, half_c = cos(angle / 2), half_s = sin(angle / 2);
    return (struct gate1){
        .bloch = {c + d * n[0] * n[0], d * n[0] * n[1] - s * n[2], d * n[0] * n[2] + s * n[1],
                  d * n[1] * n[0] + s * n[2], c + d * n[1] * n[1], d * n[1] * n[2] - s * n[0],
                  d * n[2] * n[0] - s * n[1], d * n[2] * n[1] + s * n[0], c + d * n[2] * n[2]},
        .matrix = {__builtin_complex(half_c, -half_s * n[2]), __builtin_complex(-half_s * n[1], -half_s * n[0]),
                   __builtin_complex(half_s * n[1], -half_s * n[0]), __builtin_complex(half_c, half_s * n[2])},
    };
}

static int rotate_about(struct qn_state *state, size_t qubit, const double args[4]) {
    double largest = fmax(fabs(args[0]), fmax(fabs(args[1]), fabs(args[2])));
    if (!(largest > 0) || isnan(args[0] + args[1] + args[2]) || !isfinite(largest) || !isfinite(args[3]))
        return -QN_EINVAL;
    double n[3] = {args[0] / largest, args[1] / largest, args[2] / largest}; /* Squares of these cannot overflow. */
    double length = sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2]);
    for (int i = 0; i < 3; i++) n[i] /= length;
    struct gate1 gate = rotation(n, args[3]);
    apply1(state, qubit, &gate);
    return 0;
}

/* CNOT, CZ, CY and SWAP undo themselves, so each of them exchanges entries in couples: 4 * first digit + second digit
 * of one and of the other. The last couple of a controlled gate changes sign as well. */
struct exchange {
    unsigned char couple[6][2];
    double last_sign;
};

enum { II, IX, IY, IZ, XI, XX, XY, XZ, YI, YX, YY, YZ, ZI, ZX, ZY, ZZ };
static const struct exchange cnot = {{{IY, ZY}, {IZ, ZZ}, {XI, XX}, {YI, YX}, {XY, YZ}, {XZ, YY}}, -1};
static const struct exchange cz = {{{IX, ZX}, {IY, ZY}, {XI, XZ}, {YI, YZ}, {XX, YY}, {XY, YX}}, -1};
static const struct exchange cy = {{{IX, ZX}, {IZ, ZZ}, {XI, XY}, {YI, YY}, {XZ, YX}, {XX, YZ}}, -1};
static const struct exchange swap = {{{IX, XI}, {IY, YI}, {IZ, ZI}, {XY, YX}, {YZ, ZY}, {XZ, ZX}}, 1};

static size_t place(unsigned char digits, size_t sa, size_t sb) {
    return (size_t)(digits >> 2) * sa + (size_t)(digits & 3) * sb;
}

static void exchange(struct qn_state *state, size_t a, size_t b, const struct exchange *gate) {
    size_t sa = tensor_stride(state, a), sb = tensor_stride(state, b), from[6], to[6];
    for (int i = 0; i < 6; i++) {
        from[i] = place(gate->couple[i][0], sa, sb);
        to[i] = place(gate->couple[i][1], sa, sb);
    }
    for (size_t k = 0; k < tensor_size(state->n - 2); k++) {
        double *t = state->data + open_two_digits(k, sa, sb);
        for (int i = 0; i < 5; i++) {
            double keep = t[from[i]];
            t[from[i]] = t[to[i]];
            t[to[i]] = keep;
        }
        double keep = t[from[5]];
        t[from[5]] = gate->last_sign * t[to[5]];
        t[to[5]] = gate->last_sign * keep;
    }
}

/* exp(-i angle/2 Z x Z): turns XI and YZ into each other, and so on, as a rotation about Z turns X and Y. */
static void turn_zz(struct qn_state *state, size_t a, size_t b, double angle) {
    static const unsigned char planes[4][2] = {{XI, YZ}, {XZ, YI}, {IX, ZY}, {ZX, IY}};
    size_t sa = tensor_stride(state, a), sb = tensor_stride(state, b);
    double c = cos(angle), s = sin(angle);
    for (size_t k = 0; k < tensor_size(state->n - 2); k++) {
        double *t = state->data + open_two_digits(k, sa, sb);
        for (int i = 0; i < 4; i++) {
            double *x = t + place(planes[i][0], sa, sb), *y = t + place(planes[i][1], sa, sb), x0 = *x;
            *x = c * x0 - s * *y;
            *y = c * *y + s * x0;
        }
    }
}

static void tensor_gate2(struct qn_state *state, enum qn_gate gate, size_t a, size_t b, double angle) {
    switch (gate) {
    case QN_GATE_CNOT:
        exchange(state, a, b, &cnot);
        break;
    case QN_GATE_CZ:
        exchange(state, a, b, &cz);
        break;
    case QN_GATE_CY:
        exchange(state, a, b, &cy);
        break;
    case QN_GATE_SWAP:
        exchange(state, a, b, &swap);
        break;
    case QN_GATE_ISWAP: /* SWAP, CZ, then S on both. */
        exchange(state, a, b, &swap);
        exchange(state, a, b, &cz);
        turn(state, a, named[QN_GATE_S].bloch);
        turn(state, b, named[QN_GATE_S].bloch);
        break;
    case QN_GATE_CPHASE: { /* diag(1, 1, 1, e^it) = Rz(t/2) x Rz(t/2) . exp(it/4 Z x Z) up to a phase. */
        struct gate1 half = rotation((const double[3]){0, 0, 1}, angle / 2);
        turn(state, a, half.bloch);
        turn(state, b, half.bloch);
        turn_zz(state, a, b, -angle / 2);
        break;
    }
    default:
        assert(false);
    }
}

int qn_state_gate(struct qn_state *state, enum qn_gate gate, const size_t *qubits, const double *args) {
    size_t n = qn_gate_qubits(gate);
    if (n == 0) return -QN_EINVAL;
    for (size_t i = 0; i < n; i++)
        if (qubits[i] >= state->n) return -QN_EINVAL;
    assert(args != NULL || qn_gate_args(gate) == 0);
    if (gate == QN_GATE_ROT) return rotate_about(state, qubits[0], args);
    if (n == 1) {
        apply1(state, qubits[0], &named[gate]);
        return 0;
    }
    double angle = gate == QN_GATE_CPHASE ? args[0] : 0;
    if (qubits[0] == qubits[1] || !isfinite(angle)) return -QN_EINVAL;
    if (state->trajectory)
        qn_trajectory_gate2(state, gate, qubits[0], qubits[1], angle);
    else
        tensor_gate2(state, gate, qubits[0], qubits[1], angle);
    return 0;
}
