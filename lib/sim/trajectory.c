/* SPDX-License-Identifier: Apache-2.0 */
/* Pure states of more than QN_STATE_TENSOR qubits, and the ways to and from tensors. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "sim/internal.h"

/* Visits the amplitudes whose bit of this qubit is 0. */
#define FOR_ZEROS(state, stride, at)                                                          \
    for (size_t hi_ = 0, size_ = amplitude_count(state); hi_ < size_; hi_ += 2 * (stride))     \
        for (size_t at = hi_; at < hi_ + (stride); at++)

static void apply1(struct qn_state *state, size_t qubit, const double complex m[4]) {
    double complex *v = amplitudes(state);
    size_t stride = amplitude_stride(state, qubit);
    FOR_ZEROS(state, stride, at) {
        double complex zero = v[at], one = v[at + stride];
        v[at] = m[0] * zero + m[1] * one;
        v[at + stride] = m[2] * zero + m[3] * one;
    }
}

void trajectory_rotate(struct qn_state *state, size_t qubit, const struct rotation *r) {
    double complex i_sin = I * r->sin_half;
    const double complex m[4] = {r->cos_half - i_sin * r->axis[2], -i_sin * (r->axis[0] - I * r->axis[1]),
                                 -i_sin * (r->axis[0] + I * r->axis[1]), r->cos_half + i_sin * r->axis[2]};
    apply1(state, qubit, m);
}

void trajectory_pauli(struct qn_state *state, size_t qubit, unsigned pauli) {
    static const double complex m[4][4] = {{1, 0, 0, 1}, {0, 1, 1, 0}, {0, -I, I, 0}, {1, 0, 0, -1}};
    apply1(state, qubit, m[pauli]);
}

void trajectory_gate2(struct qn_state *state, enum qn_gate gate, size_t a, size_t b, double angle) {
    double complex *v = amplitudes(state), phase = cexp(I * angle);
    size_t sa = amplitude_stride(state, a), sb = amplitude_stride(state, b);
    for (size_t at = 0; at < amplitude_count(state); at++) {
        if ((at & sa) != 0 || (at & sb) != 0) continue;
        double complex *v01 = &v[at + sb], *v10 = &v[at + sa], *v11 = &v[at + sa + sb], keep;
        switch (gate) {
        case QN_GATE_CNOT:
            keep = *v10;
            *v10 = *v11;
            *v11 = keep;
            break;
        case QN_GATE_CY:
            keep = *v10;
            *v10 = -I * *v11;
            *v11 = I * keep;
            break;
        case QN_GATE_CZ: *v11 = -*v11; break;
        case QN_GATE_CPHASE: *v11 *= phase; break;
        case QN_GATE_SWAP:
            keep = *v01;
            *v01 = *v10;
            *v10 = keep;
            break;
        default: /* ISWAP */
            keep = *v01;
            *v01 = I * *v10;
            *v10 = I * keep;
        }
    }
}

double trajectory_expect(const struct qn_state *state, size_t qubit, const double axis[3]) {
    const double complex *v = amplitudes_const(state);
    size_t stride = amplitude_stride(state, qubit);
    double z = 0;
    double complex off = 0; /* sum of conj(v0) v1: <X> = 2 Re, <Y> = 2 Im */
    FOR_ZEROS(state, stride, at) {
        double complex zero = v[at], one = v[at + stride];
        z += creal(zero) * creal(zero) + cimag(zero) * cimag(zero) - creal(one) * creal(one) - cimag(one) * cimag(one);
        off += conj(zero) * one;
    }
    return axis[0] * 2 * creal(off) + axis[1] * 2 * cimag(off) + axis[2] * z;
}

static void normalise(struct qn_state *state) {
    double norm = 0;
    size_t len = 2 * amplitude_count(state);
    for (size_t i = 0; i < len; i++) norm += state->data[i] * state->data[i];
    double scale = norm > 0 ? 1 / sqrt(norm) : 1;
    for (size_t i = 0; i < len; i++) state->data[i] *= scale;
}

void trajectory_project(struct qn_state *state, size_t qubit, const double axis[3], int outcome) {
    double sign = outcome == 0 ? 0.5 : -0.5;
    const double complex m[4] = {0.5 + sign * axis[2], sign * (axis[0] - I * axis[1]), sign * (axis[0] + I * axis[1]),
                                 0.5 - sign * axis[2]};
    apply1(state, qubit, m);
    normalise(state);
}

void trajectory_damp(struct qn_state *state, size_t qubit, double gamma, double u) {
    static const double z[3] = {0, 0, 1};
    double one = (1 - trajectory_expect(state, qubit, z)) / 2;
    const double complex jump[4] = {0, 1, 0, 0}, stay[4] = {1, 0, 0, sqrt(1 - gamma)};
    apply1(state, qubit, u < gamma * one ? jump : stay);
    normalise(state);
}

/* ---- tensors ---- */

/* Between a density matrix and a tensor, both with one base-4 digit a qubit: 2 row + column, or I X Y Z. */
static void to_pauli(double complex *t, size_t n) {
    for (size_t stride = 1; stride < (size_t)1 << (2 * n); stride *= 4)
        for (size_t hi = 0; hi < (size_t)1 << (2 * n); hi += 4 * stride)
            for (size_t at = hi; at < hi + stride; at++) {
                double complex a = t[at], b = t[at + stride], c = t[at + 2 * stride], d = t[at + 3 * stride];
                t[at] = a + d;
                t[at + stride] = b + c;
                t[at + 2 * stride] = I * (b - c);
                t[at + 3 * stride] = a - d;
            }
}

static void from_pauli(double complex *t, size_t n) {
    for (size_t stride = 1; stride < (size_t)1 << (2 * n); stride *= 4)
        for (size_t hi = 0; hi < (size_t)1 << (2 * n); hi += 4 * stride)
            for (size_t at = hi; at < hi + stride; at++) {
                double complex i = t[at], x = t[at + stride], y = t[at + 2 * stride], z = t[at + 3 * stride];
                t[at] = (i + z) / 2;
                t[at + stride] = (x - I * y) / 2;
                t[at + 2 * stride] = (x + I * y) / 2;
                t[at + 3 * stride] = (i - z) / 2;
            }
}

static size_t interleave(size_t row, size_t column, size_t n) { /* Digits 2 row + column, most significant first. */
    size_t index = 0;
    for (size_t q = n; q-- > 0;) index = index << 2 | (row >> q & 1) << 1 | (column >> q & 1);
    return index;
}

static size_t without_bit(size_t index, size_t bit) { return (index >> (bit + 1)) << bit | (index & (((size_t)1 << bit) - 1)); }

void trajectory_trace_to_tensor(struct qn_state *state, size_t qubit) {
    size_t n = state->n, rest = n - 1, bit = n - 1 - qubit, count = amplitude_count(state);
    double complex rho[1 << (2 * QN_STATE_TENSOR)];
    memset(rho, 0, sizeof rho[0] << (2 * rest));
    const double complex *v = amplitudes_const(state);
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < count; j++)
            if ((i >> bit & 1) == (j >> bit & 1))
                rho[interleave(without_bit(i, bit), without_bit(j, bit), rest)] += v[i] * conj(v[j]);
    to_pauli(rho, rest);
    for (size_t i = 0; i < tensor_size(rest); i++) state->data[i] = creal(rho[i]);
    state->n = rest;
    state->trajectory = false;
}

void trajectory_drop(struct qn_state *state, size_t qubit, int outcome) {
    double complex *v = amplitudes(state);
    size_t stride = amplitude_stride(state, qubit), to = 0, skip = outcome == 0 ? 0 : stride;
    FOR_ZEROS(state, stride, at) v[to++] = v[at + skip];
    state->n--;
}

void trajectory_pair(const struct qn_state *state, size_t a, size_t b, double ret_tensor[16]) {
    const double complex *v = amplitudes_const(state);
    size_t sa = amplitude_stride(state, a), sb = amplitude_stride(state, b);
    double complex rho[16] = {0};
    for (size_t at = 0; at < amplitude_count(state); at++) {
        if ((at & sa) != 0 || (at & sb) != 0) continue;
        const double complex w[4] = {v[at], v[at + sb], v[at + sa], v[at + sa + sb]};
        for (size_t r = 0; r < 4; r++)
            for (size_t c = 0; c < 4; c++) rho[interleave(r, c, 2)] += w[r] * conj(w[c]);
    }
    to_pauli(rho, 2);
    for (size_t i = 0; i < 16; i++) ret_tensor[i] = creal(rho[i]);
}

/* rho = L L^+ by Cholesky with pivots; each column of L is a pure state with its weight, so drawing one is exact. */
int tensor_sample_pure(const struct qn_state *tensor, struct qn_rng *rng, double complex *ret) {
    size_t n = tensor->n, d = (size_t)1 << n;
    double complex *work = malloc((d * d + d * d) * sizeof *work), *rho = work + d * d;
    if (work == NULL) return -QN_ENOMEM;
    for (size_t i = 0; i < d * d; i++) work[i] = tensor->data[i];
    from_pauli(work, n);
    for (size_t r = 0; r < d; r++)
        for (size_t c = 0; c < d; c++) rho[r * d + c] = work[interleave(r, c, n)];
    double u = qn_rng_double(rng), left = 1;
    for (size_t step = 0; step < d; step++) {
        size_t pivot = 0;
        for (size_t i = 1; i < d; i++)
            if (creal(rho[i * d + i]) > creal(rho[pivot * d + pivot])) pivot = i;
        double root = sqrt(fmax(creal(rho[pivot * d + pivot]), 1e-300)), weight = 0;
        for (size_t i = 0; i < d; i++) {
            ret[i] = rho[i * d + pivot] / root;
            weight += creal(ret[i] * conj(ret[i]));
        }
        left -= weight;
        if (u < weight || left < 1e-12 || step + 1 == d) break;
        u -= weight;
        for (size_t i = 0; i < d; i++)
            for (size_t j = 0; j < d; j++) rho[i * d + j] -= ret[i] * conj(ret[j]);
    }
    double norm = 0;
    for (size_t i = 0; i < d; i++) norm += creal(ret[i] * conj(ret[i]));
    for (size_t i = 0; i < d; i++) ret[i] /= sqrt(norm);
    free(work);
    return 0;
}
