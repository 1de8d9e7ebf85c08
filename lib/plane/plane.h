/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_PLANE_PLANE_H
#define QN_PLANE_PLANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"
#include "qnet/v1/plane.pb-c.h"
#include "sim/state.h"

/* One process's part of the quantum plane: the joint states it hosts, the qubits it owns, and the hosting protocol
 * (rules R1 to R9 and R13, lib/plane/README.md) that lets every node operate on its own qubits wherever their state is.
 * Pure: messages in, messages and results out. Messages between two nodes must arrive in order and exactly once. */

struct qn_plane;
typedef uint64_t qn_qubit; /* origin node << 48 | sequence; 0 is no qubit. */

struct qn_plane_config {
    uint16_t self;
    uint16_t n_nodes;
    uint8_t rank;            /* 0..15: groups drift to lower ranks. */
    uint64_t seed;           /* Physics draws. */
    uint8_t secret[32];      /* Draws of outcomes that are to be secret; new for each life. */
    uint64_t first_sequence; /* Of qubit and operation ids. Bits 33 to 47 are this life's number: see qn_plane_meet. */
    uint64_t now_ns;
};

int qn_plane_new(const struct qn_plane_config *config, struct qn_plane **ret_plane);
void qn_plane_free(struct qn_plane *plane);
void qn_plane_set_time(struct qn_plane *plane, uint64_t now_ns); /* For the birth part of group ids only. */

struct qn_memory {
    double t1_s, t2_s;
}; /* 0: no decay. */

/* A new qubit in |0>, owned and hosted here. */
int qn_plane_prepare(struct qn_plane *plane, uint64_t now_ns, struct qn_memory memory, qn_qubit *ret_qubit);

/* New qubits made by this process (a station, a source, an emitting memory) for the given owners, in one joint state
 * (taken on success). Custody moves to an owner as the rules say; the caller tells the owners with `Born`
 * (qn_plane_born fills it). */
struct qn_birth {
    uint16_t owner;
    uint64_t touched_ns;
    struct qn_memory memory;
};
int qn_plane_create(struct qn_plane *plane, const struct qn_birth *births, size_t n, struct qn_state *state,
                    qn_qubit *ret_qubits, uint64_t *ret_group);
/* Sends Born to the owner of `qubit` (queued as a message; a local owner gets it as an arrival, see
 * qn_plane_next_birth). The last arguments are copied into the message. */
int qn_plane_announce(struct qn_plane *plane, qn_qubit qubit, uint16_t owner, uint64_t group, uint64_t touched_ns,
                      const double will[3], uint32_t link, uint32_t origin, uint32_t create_id, uint64_t sequence);

/* Operations by the owner. All qubits must be owned here and alive. The result comes from qn_plane_next_result with
 * `tag`, perhaps before the call returns to the loop (when all is local), perhaps after messages. One outstanding
 * operation a qubit; further ones wait in order. */
struct qn_plane_op {
    enum _Qnet__V1__OpKind kind;
    qn_qubit qubits[2];
    size_t n_qubits;
    uint64_t time_ns; /* Owner's clock. */
    double args[4];
    size_t n_args;
    double depolarise; /* 1 - lambda. */
    double readout_error;
    bool secret; /* Whoever knows the seed must not know the outcome: it becomes a bit of a key. */
    uint64_t tag;
};
int qn_plane_submit(struct qn_plane *plane,
                    const struct qn_plane_op *op); /* -QN_ENOT_FOUND, -QN_EINVAL, -QN_ENOMEM, -QN_ELIMIT */

struct qn_plane_result {
    uint64_t tag;
    uint32_t outcome;
    int error; /* 0, -QN_ELOST, -QN_ELIMIT */
};
bool qn_plane_next_result(struct qn_plane *plane, struct qn_plane_result *ret_result);

/* Messages. A message that breaks the protocol is -QN_EPROTOCOL and changes nothing. `message` is borrowed. */
int qn_plane_on_message(struct qn_plane *plane, uint16_t from, const Qnet__V1__PlaneMessage *message);
struct qn_plane_out {
    uint16_t to;
    const uint8_t *bytes;
    size_t len;
}; /* A packed PlaneMessage, borrowed until the next call of next_out. */
bool qn_plane_next_out(struct qn_plane *plane, struct qn_plane_out *ret_out);

/* Qubits that were born elsewhere for us (or here, for ourselves), and outcomes of qubits measured on emission. */
struct qn_plane_arrival {
    qn_qubit qubit;
    uint32_t link, origin, create_id;
    uint64_t sequence;
    uint64_t touched_ns;
};
bool qn_plane_next_birth(struct qn_plane *plane, struct qn_plane_arrival *ret_arrival);
/* Sets the memory and the clock of a qubit that has just arrived (owner's side; nothing decays before). Travels as IDLE
 * with args t1_s, t2_s, in order with the operations on the qubit. */
int qn_plane_claim(struct qn_plane *plane, qn_qubit qubit, uint64_t now_ns, struct qn_memory memory);

/* Graceful exit (R13): queues the hand-over of every group with remote members. True when nothing is left to hand over:
 * call it again, while messages flow, until then. */
bool qn_plane_leave(struct qn_plane *plane);
/* Lives of nodes (R0). Each incarnation of a node has a number below 2^15, unlike those of its last few; every id it
 * makes carries it, and so does whatever is said of it, so that old news is not taken for news of the next life.
 * A life has been heard of; messages from it follow. */
#define QN_LIFE_UNKNOWN UINT32_MAX
void qn_plane_meet(struct qn_plane *plane, uint16_t node, uint32_t life);
/* This life is over, and all it sent has been handed in: its qubits are traced out, and operations that needed it go on
 * with what is left (R10, R11). QN_LIFE_UNKNOWN: whichever it was. */
void qn_plane_on_down(struct qn_plane *plane, uint16_t node, uint32_t life);
/* A life of a node that was never met, but is not over, and of which others have told; or QN_LIFE_UNKNOWN. */
uint32_t qn_plane_heard_of(const struct qn_plane *plane, uint16_t node);
/* Marks (by node) whom this process shares qubits with or waits for; and only those that an operation waits for. */
void qn_plane_mark_needed(const struct qn_plane *plane, bool *marks);
/* And with whom contact must be made: messages wait for lives that qn_plane_meet has not named. Returns whether any;
 * marks may be NULL. */
bool qn_plane_mark_unmet(const struct qn_plane *plane, bool *marks);
void qn_plane_mark_awaited(const struct qn_plane *plane, bool *marks);

/* Numbers for status, and checks. */
size_t qn_plane_n_groups(const struct qn_plane *plane);
size_t qn_plane_n_owned(const struct qn_plane *plane);
size_t qn_plane_n_pending(const struct qn_plane *plane);
/* Nothing waits: no operation, shipment, message or result. Own qubits and hosted groups do not count. */
bool qn_plane_is_idle(const struct qn_plane *plane);
bool qn_plane_is_owned(const struct qn_plane *plane, qn_qubit qubit);
/* Simulator's view, for tests: the reduced Pauli tensor of one (4 numbers) or two (16) hosted qubits after decay up to
 * now_ns; -QN_ENOT_FOUND if they are not hosted here (in one group). */
int qn_plane_inspect(const struct qn_plane *plane, const qn_qubit *qubits, size_t n, uint64_t now_ns,
                     double *ret_tensor);
/* Asserts I1..I6 as far as one process can see; a test cluster checks the rest across processes with
 * qn_plane_each_hosted. */
void qn_plane_check(const struct qn_plane *plane);
void qn_plane_each_hosted(const struct qn_plane *plane,
                          void (*visit)(void *context, qn_qubit qubit, uint16_t owner, uint64_t group, bool frozen),
                          void *context);

#endif
