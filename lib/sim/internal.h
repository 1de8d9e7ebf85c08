/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_SIM_INTERNAL_H
#define QN_SIM_INTERNAL_H

#include <complex.h>

#include "sim/state.h"

/* The numbers lie behind the header. A state only shrinks in place; whatever grows makes a new one. data[0] of a tensor
 * is exactly 1 at all times. */
struct qn_state {
    size_t n;
    bool trajectory;
    double data[]; /* 4^n of a Pauli tensor, or 2^n complex amplitudes. */
};

struct qn_state *qn_state_alloc(size_t n, bool trajectory); /* Numbers not set. NULL: out of memory. */

/* XX, YY and ZZ of the Bell states, by index. */
extern const double qn_bell_sign[4][3];

/* A probability as a multiple of 2^-40. Every draw compares against one, so that hosts which did the same arithmetic in
 * another order still agree on the outcome. */
static inline double probability_round(double p) { return (double)(int64_t)(p * 0x1.0p40 + 0.5) * 0x1.0p-40; }

/* ---- Places in a tensor: index digits 0 I, 1 X, 2 Y, 3 Z; a qubit's digit moves in steps of its stride ---- */

static inline size_t tensor_size(size_t n) { return (size_t)1 << (2 * n); }

static inline size_t tensor_stride(const struct qn_state *state, size_t qubit) {
    return (size_t)1 << (2 * (state->n - 1 - qubit));
}

/* Opens a gap of one zero digit at `stride`: as k counts, visits every place where that qubit's digit is I. */
static inline size_t open_digit(size_t k, size_t stride) { return ((k & ~(stride - 1)) << 2) | (k & (stride - 1)); }

static inline size_t open_two_digits(size_t k, size_t stride_a, size_t stride_b) {
    bool a_is_low = stride_a < stride_b; /* The low gap first: it shifts the place of the high one. */
    return open_digit(open_digit(k, a_is_low ? stride_a : stride_b), a_is_low ? stride_b : stride_a);
}

/* ---- Places among amplitudes: the same, with bits ---- */

static inline size_t amplitude_count(const struct qn_state *state) { return (size_t)1 << state->n; }

static inline size_t amplitude_stride(const struct qn_state *state, size_t qubit) {
    return (size_t)1 << (state->n - 1 - qubit);
}

static inline size_t open_bit(size_t k, size_t stride) { return ((k & ~(stride - 1)) << 1) | (k & (stride - 1)); }

static inline size_t open_two_bits(size_t k, size_t stride_a, size_t stride_b) {
    bool a_is_low = stride_a < stride_b;
    return open_bit(open_bit(k, a_is_low ? stride_a : stride_b), a_is_low ? stride_b : stride_a);
}

static inline double complex *amplitudes(struct qn_state *state) { return (double complex *)(void *)state->data; }

static inline const double complex *amplitudes_const(const struct qn_state *state) {
    return (const double complex *)(const void *)state->data;
}

/* Product of finite numbers. The operator also repairs infinities, at several times the cost. */
static inline double complex times(double complex a, double complex b) {
    return __builtin_complex(creal(a) * creal(b) - cimag(a) * cimag(b), creal(a) * cimag(b) + cimag(a) * creal(b));
}

static inline double norm2(double complex a) { return creal(a) * creal(a) + cimag(a) * cimag(a); }

/* ---- trajectory.c: pure states ---- */

void qn_trajectory_apply(struct qn_state *state, size_t qubit, const double complex m[4]); /* Any 2 x 2, row-major. */
void qn_trajectory_pauli(struct qn_state *state, size_t qubit, unsigned pauli);            /* 1 X, 2 Y, 3 Z */
void qn_trajectory_gate2(struct qn_state *state, enum qn_gate gate, size_t a, size_t b, double angle);
double qn_trajectory_expect(const struct qn_state *state, size_t qubit, const double axis[3]); /* <axis.sigma> */
void qn_trajectory_project(struct qn_state *state, size_t qubit, const double axis[3], int outcome);
void qn_trajectory_damp(struct qn_state *state, size_t qubit, double gamma, double u);
void qn_trajectory_drop(struct qn_state *state, size_t qubit, int outcome); /* The qubit is in |outcome>. */

/* ---- convert.c: from one form to the other ---- */

void qn_trajectory_pair(const struct qn_state *state, size_t a, size_t b, double ret_tensor[16]);
/* Traces the qubit out of QN_STATE_TENSOR + 1; the state becomes a tensor of the others, in place. */
void qn_trajectory_to_tensor(struct qn_state *state, size_t qubit);
/* 2^n amplitudes of a pure state, drawn so that its average is the tensor's state. 0 or -QN_ENOMEM. */
int qn_tensor_sample(const struct qn_state *tensor, struct qn_rng *rng, double complex *ret_amplitudes);

#endif
