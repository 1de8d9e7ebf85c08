/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_TESTS_UNIT_SIM_REFERENCE_H
#define QN_TESTS_UNIT_SIM_REFERENCE_H

#include <complex.h>
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sim/state.h"

/* What the engine is compared with: a density matrix, changed by explicit Kraus operators and nothing clever. Shares no
 * code with the engine. Qubit 0 is the most significant bit of a row. */
#define REF_MAX 7

struct ref {
    size_t n, d;
    double complex rho[1 << (2 * REF_MAX)];
};

/* Matrices of up to two qubits, row-major. */
struct op {
    double complex m[16];
};

static const double complex ref_pauli[4][4] = {{1, 0, 0, 1}, {0, 1, 1, 0}, {0, -I, I, 0}, {1, 0, 0, -1}};

static inline size_t ref_mask(const struct ref *r, size_t qubit) { return (size_t)1 << (r->n - 1 - qubit); }

/* out = K in, K acting on the k qubits q. */
static inline void ref_left(const struct ref *r, const size_t *q, size_t k, const double complex *m,
                            const double complex *in, double complex *out) {
    size_t dim = (size_t)1 << k;
    for (size_t row = 0; row < r->d; row++) {
        size_t sub = 0, rest = row;
        for (size_t i = 0; i < k; i++) {
            sub = sub << 1 | ((row & ref_mask(r, q[i])) != 0);
            rest &= ~ref_mask(r, q[i]);
        }
        for (size_t column = 0; column < r->d; column++) {
            double complex sum = 0;
            for (size_t s = 0; s < dim; s++) {
                size_t from = rest;
                for (size_t i = 0; i < k; i++)
                    if ((s >> (k - 1 - i)) & 1) from |= ref_mask(r, q[i]);
                sum += m[sub * dim + s] * in[from * r->d + column];
            }
            out[row * r->d + column] = sum;
        }
    }
}

static inline void ref_dagger(const struct ref *r, double complex *m) {
    for (size_t i = 0; i < r->d; i++)
        for (size_t j = 0; j <= i; j++) {
            double complex a = m[i * r->d + j], b = m[j * r->d + i];
            m[i * r->d + j] = conj(b);
            m[j * r->d + i] = conj(a);
        }
}

/* rho = sum of K rho K^+ */
static inline void ref_channel(struct ref *r, const size_t *q, size_t k, const struct op *ops, size_t n_ops) {
    size_t len = r->d * r->d;
    double complex *half = malloc(len * sizeof *half), *term = malloc(len * sizeof *term);
    double complex *sum = calloc(len, sizeof *sum);
    for (size_t o = 0; o < n_ops; o++) {
        ref_left(r, q, k, ops[o].m, r->rho, half);
        ref_dagger(r, half); /* (K rho)^+ = rho K^+ */
        ref_left(r, q, k, ops[o].m, half, term);
        for (size_t i = 0; i < len; i++) sum[i] += term[i];
    }
    memcpy(r->rho, sum, len * sizeof *sum);
    free(half);
    free(term);
    free(sum);
}

static inline double ref_normalise(struct ref *r) { /* Returns the trace before. */
    double trace = 0;
    for (size_t i = 0; i < r->d; i++) trace += creal(r->rho[i * r->d + i]);
    for (size_t i = 0; i < r->d * r->d; i++) r->rho[i] /= trace;
    return trace;
}

/* A random state of the given rank: 1 is pure, 2^n as mixed as they come. */
static inline void ref_random(struct ref *r, size_t n, size_t rank, struct qn_rng *rng) {
    r->n = n;
    r->d = (size_t)1 << n;
    memset(r->rho, 0, r->d * r->d * sizeof r->rho[0]);
    for (size_t k = 0; k < rank; k++) {
        double complex v[1 << REF_MAX];
        for (size_t i = 0; i < r->d; i++) v[i] = qn_rng_normal(rng) + I * qn_rng_normal(rng);
        for (size_t i = 0; i < r->d * r->d; i++) r->rho[i] += v[i / r->d] * conj(v[i % r->d]);
    }
    ref_normalise(r);
}

/* Tr[rho P], P the product of Pauli matrices with one base-4 digit a qubit, qubit 0 the most significant. */
static inline double ref_expect(const struct ref *r, size_t digits) {
    double complex sum = 0;
    for (size_t row = 0; row < r->d; row++) {
        double complex factor = 1;
        size_t column = row;
        for (size_t q = 0; q < r->n; q++) {
            size_t digit = digits >> (2 * (r->n - 1 - q)) & 3, bit = (row & ref_mask(r, q)) != 0;
            if (digit == 1 || digit == 2) column ^= ref_mask(r, q);
            factor *= ref_pauli[digit][2 * bit + (digit == 1 || digit == 2 ? 1 - bit : bit)];
        }
        sum += factor * r->rho[column * r->d + row];
    }
    return creal(sum);
}

static inline void ref_trace_out(struct ref *r, size_t qubit) {
    static struct ref out;
    size_t mask = ref_mask(r, qubit), low = mask - 1;
    out.n = r->n - 1;
    out.d = r->d / 2;
    for (size_t i = 0; i < out.d; i++)
        for (size_t j = 0; j < out.d; j++) {
            size_t row = (i & ~low) << 1 | (i & low), column = (j & ~low) << 1 | (j & low);
            out.rho[i * out.d + j] = r->rho[row * r->d + column] + r->rho[(row | mask) * r->d + (column | mask)];
        }
    *r = out;
}

/* ---- the operators of the engine's vocabulary, from their definitions ---- */

static inline struct op op_gate(enum qn_gate gate, const double *args) {
    double r = sqrt(0.5), len;
    struct op identity = {.m = {[0] = 1, [5] = 1, [10] = 1, [15] = 1}}, u = {.m = {0}};
    switch (gate) {
    case QN_GATE_X:
        return (struct op){{0, 1, 1, 0}};
    case QN_GATE_Y:
        return (struct op){{0, -I, I, 0}};
    case QN_GATE_Z:
        return (struct op){{1, 0, 0, -1}};
    case QN_GATE_H:
        return (struct op){{r, r, r, -r}};
    case QN_GATE_S:
        return (struct op){{1, 0, 0, I}};
    case QN_GATE_SDG:
        return (struct op){{1, 0, 0, -I}};
    case QN_GATE_T:
        return (struct op){{1, 0, 0, cexp(I * M_PI / 4)}};
    case QN_GATE_TDG:
        return (struct op){{1, 0, 0, cexp(-I * M_PI / 4)}};
    case QN_GATE_SX:
        return (struct op){{(1 + I) / 2, (1 - I) / 2, (1 - I) / 2, (1 + I) / 2}};
    case QN_GATE_ROT:
        len = sqrt(args[0] * args[0] + args[1] * args[1] + args[2] * args[2]);
        for (int i = 0; i < 4; i++) {
            u.m[i] = cos(args[3] / 2) * ref_pauli[0][i];
            for (int k = 0; k < 3; k++) u.m[i] -= I * sin(args[3] / 2) * args[k] / len * ref_pauli[k + 1][i];
        }
        return u;
    case QN_GATE_CNOT:
        return (struct op){{[0] = 1, [5] = 1, [11] = 1, [14] = 1}};
    case QN_GATE_CZ:
        return (struct op){{[0] = 1, [5] = 1, [10] = 1, [15] = -1}};
    case QN_GATE_CY:
        return (struct op){{[0] = 1, [5] = 1, [11] = -I, [14] = I}};
    case QN_GATE_SWAP:
        return (struct op){{[0] = 1, [6] = 1, [9] = 1, [15] = 1}};
    case QN_GATE_ISWAP:
        return (struct op){{[0] = 1, [6] = I, [9] = I, [15] = 1}};
    case QN_GATE_CPHASE:
        identity.m[15] = cexp(I * args[0]);
        return identity;
    }
    cr_assert_fail("no gate %d", (int)gate);
    return identity;
}

static inline struct op op_product(double weight, unsigned left, unsigned right) { /* weight * left x right */
    struct op op;
    for (int r = 0; r < 4; r++)
        for (int c = 0; c < 4; c++)
            op.m[4 * r + c] = weight * ref_pauli[left][r / 2 * 2 + c / 2] * ref_pauli[right][r % 2 * 2 + c % 2];
    return op;
}

static inline void ref_pauli_channel(struct ref *r, size_t q, const double p[4]) {
    struct op ops[4];
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < 4; i++) ops[k].m[i] = sqrt(p[k]) * ref_pauli[k][i];
    ref_channel(r, &q, 1, ops, 4);
}

static inline void ref_depolarise2(struct ref *r, size_t a, size_t b, double lambda) {
    struct op ops[16];
    for (unsigned k = 0; k < 16; k++)
        ops[k] = op_product(sqrt(k == 0 ? lambda + (1 - lambda) / 16 : (1 - lambda) / 16), k >> 2, k & 3);
    ref_channel(r, (const size_t[2]){a, b}, 2, ops, 16);
}

static inline void ref_t1t2(struct ref *r, size_t q, double dt, double t1, double t2) { /* physics.md B.5 */
    double g = 1 - exp(-dt / t1), pz = (1 - exp(-dt * (1 / t2 - 1 / (2 * t1)))) / 2;
    ref_channel(r, &q, 1, (const struct op[2]){{{1, 0, 0, sqrt(1 - g)}}, {{0, sqrt(g), 0, 0}}}, 2);
    ref_pauli_channel(r, q, (const double[4]){1 - pz, 0, 0, pz});
}

static inline void ref_reset(struct ref *r, size_t q) {
    ref_channel(r, &q, 1, (const struct op[2]){{{1, 0, 0, 0}}, {{0, 1, 0, 0}}}, 2);
}

/* Projects on the outcome and returns its probability. */
static inline double ref_measure(struct ref *r, size_t q, const double axis[3], int outcome) {
    struct op p;
    for (int i = 0; i < 4; i++) {
        p.m[i] = ref_pauli[0][i] / 2;
        for (int k = 0; k < 3; k++) p.m[i] += (outcome == 0 ? 0.5 : -0.5) * axis[k] * ref_pauli[k + 1][i];
    }
    ref_channel(r, &q, 1, &p, 1);
    return ref_normalise(r);
}

static inline double ref_bell_measure(struct ref *r, size_t a, size_t b, int bell) {
    /* (I x X^(b>>1) Z^(b&1)) (|00> + |11>) / sqrt(2) */
    double complex v[4] = {sqrt(0.5), 0, 0, (bell & 1) != 0 ? -sqrt(0.5) : sqrt(0.5)};
    if ((bell & 2) != 0) {
        v[1] = v[0];
        v[2] = v[3];
        v[0] = v[3] = 0;
    }
    struct op p;
    for (int i = 0; i < 16; i++) p.m[i] = v[i / 4] * conj(v[i % 4]);
    ref_channel(r, (const size_t[2]){a, b}, 2, &p, 1);
    return ref_normalise(r);
}

#endif
