/* SPDX-License-Identifier: Apache-2.0 */
/* Gates on Pauli tensors: a Clifford gate permutes entries with signs, a rotation turns the (X, Y, Z) part of one index. */
#include <assert.h>
#include <math.h>

#include "base/err.h"
#include "sim/internal.h"

#define ROOT_HALF 0.70710678118654752440
#define COS_EIGHTH 0.92387953251128675613 /* of pi/8 */
#define SIN_EIGHTH 0.38268343236508977173

static const struct rotation named[] = {
    [QN_GATE_X] = {{1, 0, 0}, -1, 0, 0, 1},
    [QN_GATE_Y] = {{0, 1, 0}, -1, 0, 0, 1},
    [QN_GATE_Z] = {{0, 0, 1}, -1, 0, 0, 1},
    [QN_GATE_H] = {{ROOT_HALF, 0, ROOT_HALF}, -1, 0, 0, 1},
    [QN_GATE_S] = {{0, 0, 1}, 0, 1, ROOT_HALF, ROOT_HALF},
    [QN_GATE_SDG] = {{0, 0, 1}, 0, -1, ROOT_HALF, -ROOT_HALF},
    [QN_GATE_T] = {{0, 0, 1}, ROOT_HALF, ROOT_HALF, COS_EIGHTH, SIN_EIGHTH},
    [QN_GATE_TDG] = {{0, 0, 1}, ROOT_HALF, -ROOT_HALF, COS_EIGHTH, -SIN_EIGHTH},
    [QN_GATE_SX] = {{1, 0, 0}, 0, 1, ROOT_HALF, ROOT_HALF},
};

size_t qn_gate_qubits(enum qn_gate gate) {
    if (gate >= QN_GATE_X && gate <= QN_GATE_ROT) return 1;
    return gate >= QN_GATE_CNOT && gate <= QN_GATE_ISWAP ? 2 : 0;
}

size_t qn_gate_args(enum qn_gate gate) { return gate == QN_GATE_ROT ? 4 : gate == QN_GATE_CPHASE ? 1 : 0; }

static void rotate(struct qn_state *state, size_t qubit, const struct rotation *r) {
    const double *n = r->axis, c = r->cos1, s = r->sin1, d = 1 - c;
    const double m[9] = {c + d * n[0] * n[0],        d * n[0] * n[1] - s * n[2], d * n[0] * n[2] + s * n[1],
                         d * n[1] * n[0] + s * n[2], c + d * n[1] * n[1],        d * n[1] * n[2] - s * n[0],
                         d * n[2] * n[0] - s * n[1], d * n[2] * n[1] + s * n[0], c + d * n[2] * n[2]};
    size_t stride = tensor_stride(state, qubit);
    FOR_BLOCKS(state, stride, at) {
        double *t = state->data + at, x = t[stride], y = t[2 * stride], z = t[3 * stride];
        t[stride] = m[0] * x + m[1] * y + m[2] * z;
        t[2 * stride] = m[3] * x + m[4] * y + m[5] * z;
        t[3 * stride] = m[6] * x + m[7] * y + m[8] * z;
    }
}

static int rotate_any(struct qn_state *state, size_t qubit, const double *args) {
    double length = sqrt(args[0] * args[0] + args[1] * args[1] + args[2] * args[2]);
    if (!(length > 1e-12) || !isfinite(length) || !isfinite(args[3])) return -QN_EINVAL;
    struct rotation r = {{args[0] / length, args[1] / length, args[2] / length},
                         cos(args[3]), sin(args[3]), cos(args[3] / 2), sin(args[3] / 2)};
    if (state->trajectory) trajectory_rotate(state, qubit, &r);
    else rotate(state, qubit, &r);
    return 0;
}

/* Where the entry (i, j) of a CNOT's or CZ's (control, target) digits goes, and its sign. Both gates undo themselves. */
struct clifford {
    unsigned char to[16];
    signed char sign[16];
};
static const struct clifford cnot = {{0, 1, 14, 15, 5, 4, 11, 10, 9, 8, 7, 6, 12, 13, 2, 3},
                                     {1, 1, 1, 1, 1, 1, 1, -1, 1, 1, -1, 1, 1, 1, 1, 1}};
static const struct clifford cz = {{0, 13, 14, 3, 7, 10, 9, 4, 11, 6, 5, 8, 12, 1, 2, 15},
                                   {1, 1, 1, 1, 1, 1, -1, 1, 1, -1, 1, 1, 1, 1, 1, 1}};
static const struct clifford swap = {{0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15},
                                     {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}};

/* Visits every place where the digits of both qubits are 0. */
#define FOR_PAIR_BLOCKS(state, sa, sb, at)                                                              \
    for (size_t large_ = (sa) > (sb) ? (sa) : (sb), small_ = (sa) > (sb) ? (sb) : (sa), hi_ = 0,        \
                size_ = tensor_size((state)->n);                                                        \
         hi_ < size_; hi_ += 4 * large_)                                                                \
        for (size_t mid_ = hi_; mid_ < hi_ + large_; mid_ += 4 * small_)                                \
            for (size_t at = mid_; at < mid_ + small_; at++)

static void permute(struct qn_state *state, size_t a, size_t b, const struct clifford *gate) {
    size_t sa = tensor_stride(state, a), sb = tensor_stride(state, b);
    FOR_PAIR_BLOCKS(state, sa, sb, at) {
        double v[16];
        for (size_t k = 0; k < 16; k++) v[k] = state->data[at + (k >> 2) * sa + (k & 3) * sb];
        for (size_t k = 0; k < 16; k++)
            state->data[at + (size_t)(gate->to[k] >> 2) * sa + (size_t)(gate->to[k] & 3) * sb] = gate->sign[k] * v[k];
    }
}

/* exp(-i phi/2 Z x Z): turns XI and YZ into each other, and so on, as Rz turns X and Y. */
static void rotate_zz(struct qn_state *state, size_t a, size_t b, double phi) {
    static const unsigned char planes[4][2] = {{4, 11}, {7, 8}, {1, 14}, {13, 2}}; /* XI YZ, XZ YI, IX ZY, ZX IY */
    size_t sa = tensor_stride(state, a), sb = tensor_stride(state, b);
    double c = cos(phi), s = sin(phi);
    FOR_PAIR_BLOCKS(state, sa, sb, at) {
        for (int p = 0; p < 4; p++) {
            double *x = &state->data[at + (size_t)(planes[p][0] >> 2) * sa + (size_t)(planes[p][0] & 3) * sb];
            double *y = &state->data[at + (size_t)(planes[p][1] >> 2) * sa + (size_t)(planes[p][1] & 3) * sb];
            double x0 = *x, y0 = *y;
            *x = c * x0 - s * y0;
            *y = c * y0 + s * x0;
        }
    }
}

static void tensor_gate2(struct qn_state *state, enum qn_gate gate, size_t a, size_t b, double angle) {
    switch (gate) {
    case QN_GATE_CNOT: permute(state, a, b, &cnot); break;
    case QN_GATE_CZ: permute(state, a, b, &cz); break;
    case QN_GATE_SWAP: permute(state, a, b, &swap); break;
    case QN_GATE_CY: /* S on the target turns a CNOT into a CY. */
        rotate(state, b, &named[QN_GATE_SDG]);
        permute(state, a, b, &cnot);
        rotate(state, b, &named[QN_GATE_S]);
        break;
    case QN_GATE_ISWAP: /* SWAP, CZ, then S on both. */
        permute(state, a, b, &swap);
        permute(state, a, b, &cz);
        rotate(state, a, &named[QN_GATE_S]);
        rotate(state, b, &named[QN_GATE_S]);
        break;
    default: { /* CPHASE: diag(1,1,1,e^it) = Rz(t/2) x Rz(t/2) . exp(it/4 ZZ) up to a phase. */
        struct rotation half = {{0, 0, 1}, cos(angle / 2), sin(angle / 2), cos(angle / 4), sin(angle / 4)};
        rotate(state, a, &half);
        rotate(state, b, &half);
        rotate_zz(state, a, b, -angle / 2);
    }
    }
}

int qn_state_gate(struct qn_state *state, enum qn_gate gate, const size_t *qubits, const double *args) {
    size_t n = qn_gate_qubits(gate);
    if (n == 0) return -QN_EINVAL;
    for (size_t i = 0; i < n; i++)
        if (qubits[i] >= state->n) return -QN_EINVAL;
    if (n == 2) {
        if (qubits[0] == qubits[1]) return -QN_EINVAL;
        double angle = gate == QN_GATE_CPHASE ? args[0] : 0;
        if (!isfinite(angle)) return -QN_EINVAL;
        if (state->trajectory) trajectory_gate2(state, gate, qubits[0], qubits[1], angle);
        else tensor_gate2(state, gate, qubits[0], qubits[1], angle);
        return 0;
    }
    if (gate == QN_GATE_ROT) return rotate_any(state, qubits[0], args);
    if (state->trajectory) trajectory_rotate(state, qubits[0], &named[gate]);
    else rotate(state, qubits[0], &named[gate]);
    return 0;
}
