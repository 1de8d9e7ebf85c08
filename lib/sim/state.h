/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_SIM_STATE_H
#define QN_SIM_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"

/* The joint state of up to QN_STATE_MAX qubits; qubits are named by position 0..n-1, in the order they were merged.
 * Up to QN_STATE_TENSOR qubits: Pauli tensor t[i0..in-1] = Tr[rho s_i0 x .. x s_in-1] (index 0 most significant, 4^n
 * real numbers, t[0] = 1), exact for mixed states and every channel. Above: a pure state (2^n amplitudes, qubit 0 most
 * significant) and quantum trajectories, whose statistics are exact (Dalibard, Castin, Molmer, PRL 68, 580, 1992).
 * QN_STATE_MAX is what fits one frame on the wire. */
#define QN_STATE_TENSOR 6
#define QN_STATE_MAX 11

struct qn_state;

enum qn_gate {
    QN_GATE_X = 1,
    QN_GATE_Y,
    QN_GATE_Z,
    QN_GATE_H,
    QN_GATE_S,
    QN_GATE_SDG,
    QN_GATE_T,
    QN_GATE_TDG,
    QN_GATE_SX,
    QN_GATE_ROT, /* args: axis x, y, z (any length but 0), angle in radians; exp(-i angle/2 n.sigma). */
    QN_GATE_CNOT,
    QN_GATE_CZ,
    QN_GATE_CY,
    QN_GATE_SWAP,
    QN_GATE_CPHASE, /* args: angle; diag(1, 1, 1, e^{i angle}). */
    QN_GATE_ISWAP,
};
/* The numbers above are those of the protocol's OpKind (proto/qnet/v1/plane.proto). */

/* Bell states by index: 0 Phi+, 1 Phi-, 2 Psi+, 3 Psi-; bit 0 is the Z of the frame, bit 1 its X:
 * state = (I x X^(b>>1) Z^(b&1)) Phi+ up to phase. A Bell measurement's outcome is the same index. */

/* All constructors: 0, -QN_ENOMEM, -QN_EINVAL; *ret_state is the caller's, unchanged on failure. */
int qn_state_new_zero(size_t n, struct qn_state **ret_state);                   /* |0..0>, n >= 1 */
int qn_state_new_bloch(const double bloch[3], struct qn_state **ret_state);     /* One qubit; |bloch| <= 1. */
int qn_state_new_pair(const double tensor[16], struct qn_state **ret_state);    /* Two qubits, 4 x 4 row-major. */
int qn_state_new_bell_diagonal(const double p[4], struct qn_state **ret_state); /* Weights by Bell index. */
int qn_state_copy(const struct qn_state *state, struct qn_state **ret_state);
void qn_state_free(struct qn_state *state); /* NULL is fine. */

size_t qn_state_size(const struct qn_state *state);
bool qn_state_is_trajectory(const struct qn_state *state);

/* *state becomes state x other, other's qubits last; other is freed on success (both untouched on failure: -QN_ELIMIT
 * above QN_STATE_MAX). A draw is made from `rng` when the product goes from tensor to trajectory. */
int qn_state_merge(struct qn_state **state, struct qn_state *other, struct qn_rng *rng);

int qn_state_gate(struct qn_state *state, enum qn_gate gate, const size_t *qubits, const double *args);
size_t qn_gate_qubits(enum qn_gate gate); /* 1 or 2; 0 if there is no such gate. */
size_t qn_gate_args(enum qn_gate gate);

/* Noise. `rng` is used only by trajectories. lambda is the weight of the untouched state: rho -> lambda rho +
 * (1-lambda) I/d. */
void qn_state_depolarise1(struct qn_state *state, size_t qubit, double lambda, struct qn_rng *rng);
void qn_state_depolarise2(struct qn_state *state, size_t a, size_t b, double lambda, struct qn_rng *rng);
/* Amplitude damping then dephasing over dt (physics.md B.5); t1 or t2 of 0 or infinity: no such decay; T2 <= 2 T1 is
 * the caller's duty. */
void qn_state_t1t2(struct qn_state *state, size_t qubit, double dt_s, double t1_s, double t2_s, struct qn_rng *rng);
void qn_state_pauli_channel(struct qn_state *state, size_t qubit, const double p[4],
                            struct qn_rng *rng); /* I, X, Y, Z. */

/* Measurements: axis is a unit vector; u in [0, 1) chooses the outcome: 0 (+axis) if u < P(+), compared after rounding
 * P to 2^-40 so that the order of arithmetic cannot flip outcomes. `measure` leaves the qubit in its eigenstate. */
int qn_state_measure(struct qn_state *state, size_t qubit, const double axis[3], double u);
double qn_state_probability(const struct qn_state *state, size_t qubit, const double axis[3]); /* P(+axis) */
/* Bell measurement of a and b, leaving them in that Bell state; 0..3. */
int qn_state_bell_measure(struct qn_state *state, size_t a, size_t b, double u);
void qn_state_reset(struct qn_state *state, size_t qubit, struct qn_rng *rng); /* To |0>. */
/* Traces the qubit out; the positions above move down by one. The last qubit cannot be removed: free the state instead.
 */
void qn_state_remove(struct qn_state *state, size_t qubit, struct qn_rng *rng);

/* Swap without building the four-qubit tensor: Bell-measures qubit x of one two-qubit state with qubit y of another;
 * *ret_state holds the two others (a's first). a and b are freed on success. Returns the outcome 0..3 or -QN_E*. */
int qn_state_swap_kernel(struct qn_state *a, size_t x, struct qn_state *b, size_t y, double u,
                         struct qn_state **ret_state);

/* Simulator's view, for tests and the wire. */
void qn_state_bloch(const struct qn_state *state, size_t qubit, double ret_bloch[3]);
double qn_state_fidelity(const struct qn_state *state, size_t a, size_t b,
                         int bell); /* Of the reduced pair with that Bell state. */
void qn_state_pair_tensor(const struct qn_state *state, size_t a, size_t b, double ret_tensor[16]);

/* The numbers of the state, for the wire: 4^n of a tensor, 2 * 2^n of a trajectory (real, imaginary). Borrowed. */
const double *qn_state_data(const struct qn_state *state, size_t *ret_len);
/* Checks that the numbers can be a state (finite, normalised, |t| <= 1): -QN_EPROTOCOL if not. */
int qn_state_from_data(size_t n, bool trajectory, const double *data, size_t len, struct qn_state **ret_state);

#endif
