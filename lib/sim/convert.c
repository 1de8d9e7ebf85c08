/* SPDX-License-Identifier: Apache-2.0 */
/* Between Pauli tensors and pure states, by way of density matrices. A density matrix is kept with one base-4 digit a
 * qubit, 2 row bit + column bit, so that each qubit goes to and from the basis I, X, Y, Z on its own. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "sim/internal.h"

/* From bits ..cba to digits ..0c0b0a, for up to 8 bits. */
static size_t spread(size_t bits) {
    bits = (bits | bits << 4) & 0x0f0f;
    bits = (bits | bits << 2) & 0x3333;
    return (bits | bits << 1) & 0x5555;
}

static size_t entry(size_t row, size_t column) { return spread(row) << 1 | spread(column); }

static void to_pauli(double complex *t, size_t n) {
    for (size_t stride = 1; stride < tensor_size(n); stride *= 4)
        for (size_t k = 0; k < tensor_size(n - 1); k++) {
            double complex *at = t + open_digit(k, stride);
            double complex e00 = at[0], e01 = at[stride], e10 = at[2 * stride], e11 = at[3 * stride], y = e01 - e10;
            at[0] = e00 + e11;
            at[stride] = e01 + e10;
            at[2 * stride] = __builtin_complex(-cimag(y), creal(y)); /* i y */
            at[3 * stride] = e00 - e11;
        }
}

static void from_pauli(double complex *t, size_t n) {
    for (size_t stride = 1; stride < tensor_size(n); stride *= 4)
        for (size_t k = 0; k < tensor_size(n - 1); k++) {
            double complex *at = t + open_digit(k, stride);
            double complex one = at[0], x = at[stride], y = at[2 * stride], z = at[3 * stride];
            double complex iy = __builtin_complex(-cimag(y), creal(y));
            at[0] = (one + z) / 2;
            at[stride] = (x - iy) / 2;
            at[2 * stride] = (x + iy) / 2;
            at[3 * stride] = (one - z) / 2;
        }
}

void qn_trajectory_pair(const struct qn_state *state, size_t a, size_t b, double ret_tensor[16]) {
    size_t sa = amplitude_stride(state, a), sb = amplitude_stride(state, b);
    double complex rho[16] = {0};
    for (size_t k = 0; k < amplitude_count(state) / 4; k++) {
        const double complex *v = amplitudes_const(state) + open_two_bits(k, sa, sb);
        const double complex part[4] = {v[0], v[sb], v[sa], v[sa + sb]};
        for (size_t row = 0; row < 4; row++)
            for (size_t column = 0; column < 4; column++)
                rho[entry(row, column)] += times(part[row], conj(part[column]));
    }
    to_pauli(rho, 2);
    for (size_t i = 0; i < 16; i++) ret_tensor[i] = creal(rho[i]);
}

void qn_trajectory_to_tensor(struct qn_state *state, size_t qubit) {
    const double complex *v = amplitudes_const(state);
    size_t stride = amplitude_stride(state, qubit), rest = state->n - 1, count = (size_t)1 << rest;
    double complex rho[1 << (2 * QN_STATE_TENSOR)];
    for (size_t row = 0; row < count; row++)
        for (size_t column = 0; column < count; column++) {
            const double complex *r = v + open_bit(row, stride), *c = v + open_bit(column, stride);
            rho[entry(row, column)] = times(r[0], conj(c[0])) + times(r[stride], conj(c[stride]));
        }
    to_pauli(rho, rest);
    state->n = rest;
    state->trajectory = false;
    for (size_t i = 0; i < tensor_size(rest); i++) state->data[i] = creal(rho[i]);
    state->data[0] = 1;
}

/* The largest place on the diagonal; rounded, so that equal ones are equal after any arithmetic. */
static size_t find_pivot(const double complex *rho, size_t d, double *ret_value) {
    size_t pivot = 0;
    double largest = 0;
    for (size_t i = 0; i < d; i++) {
        double value = probability_round(creal(rho[entry(i, i)]));
        if (value <= largest) continue;
        largest = value;
        pivot = i;
    }
    *ret_value = largest;
    return pivot;
}

/* rho = L L^+ by Cholesky's method with pivots. Each column of L is a pure state, its squared norm a weight, and rho is
 * their mixture: as good as the eigenvectors, cheaper, and unambiguous where eigenvalues coincide. Columns are computed
 * until the draw falls on one. */
int qn_tensor_sample(const struct qn_state *tensor, struct qn_rng *rng, double complex *ret_amplitudes) {
    size_t d = (size_t)1 << tensor->n;
    double complex *rho = malloc(d * d * sizeof *rho);
    if (rho == NULL) return -QN_ENOMEM;
    for (size_t i = 0; i < d * d; i++) rho[i] = tensor->data[i];
    from_pauli(rho, tensor->n);

    double u = qn_rng_double(rng), norm = 1;
    for (size_t step = 0; step < d; step++) {
        double largest;
        size_t pivot = find_pivot(rho, d, &largest);
        if (largest <= 0) break; /* All the weight was in the columns before; the draw fell into their rounding. */
        double root = sqrt(creal(rho[entry(pivot, pivot)]));
        norm = 0;
        for (size_t i = 0; i < d; i++) {
            ret_amplitudes[i] = rho[entry(i, pivot)] / root;
            norm += norm2(ret_amplitudes[i]);
        }
        double weight = probability_round(norm);
        if (u < weight) break;
        u -= weight;
        for (size_t i = 0; i < d; i++)
            for (size_t j = 0; j < d; j++) rho[entry(i, j)] -= times(ret_amplitudes[i], conj(ret_amplitudes[j]));
    }
    free(rho);
    double scale = 1 / sqrt(norm);
    for (size_t i = 0; i < d; i++) ret_amplitudes[i] *= scale;
    return 0;
}
