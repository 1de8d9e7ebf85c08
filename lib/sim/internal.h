/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_SIM_INTERNAL_H
#define QN_SIM_INTERNAL_H

#include <complex.h>

#include "sim/state.h"

/* The numbers lie behind the header. A state only shrinks in place; whatever grows makes a new one. */
struct qn_state {
    size_t n;
    bool trajectory;
    double data[]; /* 4^n of a Pauli tensor, or 2^n complex amplitudes. */
};

/* Index digits of a tensor: 0 I, 1 X, 2 Y, 3 Z. A qubit's digit moves in steps of `stride`; the blocks of the other digits
 * are visited by FOR_BLOCKS, `at` being the place where the qubit's digit is 0. */
static inline size_t tensor_size(size_t n) { return (size_t)1 << (2 * n); }
static inline size_t tensor_stride(const struct qn_state *state, size_t qubit) { return (size_t)1 << (2 * (state->n - 1 - qubit)); }
#define FOR_BLOCKS(state, stride, at)                                                    \
    for (size_t hi_ = 0, size_ = tensor_size((state)->n); hi_ < size_; hi_ += 4 * (stride)) \
        for (size_t at = hi_; at < hi_ + (stride); at++)

static inline size_t amplitude_count(const struct qn_state *state) { return (size_t)1 << state->n; }
static inline size_t amplitude_stride(const struct qn_state *state, size_t qubit) { return (size_t)1 << (state->n - 1 - qubit); }
static inline double complex *amplitudes(struct qn_state *state) { return (double complex *)(void *)state->data; }
static inline const double complex *amplitudes_const(const struct qn_state *state) { return (const double complex *)(const void *)state->data; }

struct qn_state *state_alloc(size_t n, bool trajectory); /* Numbers not set. NULL: out of memory. */

/* A rotation exp(-i angle/2 axis.sigma), by the cosine and sine of its angle and half angle. */
struct rotation {
    double axis[3], cos1, sin1, cos_half, sin_half;
};
void trajectory_rotate(struct qn_state *state, size_t qubit, const struct rotation *rotation);
void trajectory_pauli(struct qn_state *state, size_t qubit, unsigned pauli); /* 1 X, 2 Y, 3 Z */
void trajectory_gate2(struct qn_state *state, enum qn_gate gate, size_t a, size_t b, double angle);
double trajectory_expect(const struct qn_state *state, size_t qubit, const double axis[3]); /* <axis.sigma> */
void trajectory_project(struct qn_state *state, size_t qubit, const double axis[3], int outcome);
void trajectory_damp(struct qn_state *state, size_t qubit, double gamma, double u);
void trajectory_pair(const struct qn_state *state, size_t a, size_t b, double ret_tensor[16]);
/* Reduced tensor of all qubits but one: the state (n <= QN_STATE_TENSOR + 1) becomes a tensor of n - 1 qubits, in place. */
void trajectory_trace_to_tensor(struct qn_state *state, size_t qubit);
void trajectory_drop(struct qn_state *state, size_t qubit, int outcome); /* The qubit is in |outcome>: leaves it out. */
/* A pure state drawn so that its average is the tensor's state. */
int tensor_sample_pure(const struct qn_state *tensor, struct qn_rng *rng, double complex *ret_amplitudes);

double state_round(double p); /* Probability to a multiple of 2^-40. */

#endif
