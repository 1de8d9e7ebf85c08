/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_NODE_NODE_H
#define QN_NODE_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/timer.h"
#include "node/store.h"
#include "topology/topology.h"
#include "wire/session.h"

/* A node: a function from an event to actions. Time and randomness are inputs; the daemon, the simulator, the tests and
 * the fuzzers drive the same code. Times are emulated nanoseconds since the network's epoch. */

struct qn_node;

struct qn_initial_secret { /* What two nodes were given to authenticate their first keys. */
    uint16_t peer;
    const uint8_t *bytes; /* 16 that name it, then pads for either direction. */
    size_t len;
};

struct qn_node_config {
    const struct qn_topology *topology; /* Borrowed for the node's life. */
    uint16_t self;
    uint64_t incarnation;
    uint64_t now_ns;
    uint8_t secret[32];                     /* Seeds the secret random numbers (keys). */
    bool public_seed;                       /* It was made from a seed that others know: keys are repeatable. */
    unsigned threads;                       /* How many jobs the driver runs at a time; 0: unknown. */
    uint64_t resend_ns;                     /* Emulated time after which unacknowledged messages are sent again. */
    const char *software;                   /* "qnetd 0.1.0" */
    const struct qn_store_record *restored; /* What the driver's store has; in the order made. Copied. */
    size_t n_restored;
    const struct qn_initial_secret *secrets; /* Copied. */
    size_t n_secrets;
};

int qn_node_new(const struct qn_node_config *config, struct qn_node **ret_node);
void qn_node_free(struct qn_node *node);

/* Work of more than about a millisecond. `run` touches only the job, so any thread may call it; the driver then gives
 * the job back with QN_EVENT_JOB, on its own thread. A driver that stops early calls `free`. What was begun first
 * should be finished first: of jobs that wait for a thread, the one with the lowest rank goes next. No result depends
 * on it. */
struct qn_job {
    void (*run)(struct qn_job *job);
    void (*free)(struct qn_job *job);
    uint64_t id;
    uint64_t rank;
    struct qn_job *next; /* The driver's. */
};

enum qn_event_type {
    QN_EVENT_TIME,         /* Only time has passed. */
    QN_EVENT_SESSION_UP,   /* plane, peer, incarnation */
    QN_EVENT_SESSION_DOWN, /* plane, peer, error */
    QN_EVENT_ENVELOPE,     /* plane, peer, bytes: one packed Envelope from a neighbour */
    QN_EVENT_REQUEST,      /* client, bytes: one packed ControlRequest */
    QN_EVENT_CLIENT_GONE,  /* client */
    QN_EVENT_JOB,          /* job (taken) */
    QN_EVENT_PEER_GONE,    /* peer, incarnation: over; error -QN_ESHUTDOWN: it has stopped; 0: a newer one was met */
    QN_EVENT_STOP,         /* Begin an orderly end. */
    QN_EVENT_STORED,       /* number: this change is durable, as all before it; bytes: the key, of a TAKE */
    QN_EVENT_SECRET,      /* peer, bytes: an initial secret, given while the node runs. One that is known is no news. */
    QN_EVENT_STORE_FAULT, /* error: changes cannot be made durable; 0: they can again */
};

struct qn_event {
    enum qn_event_type type;
    uint64_t now_ns; /* Never goes back. */
    enum qn_plane_id plane;
    uint16_t peer;
    uint64_t incarnation;
    int error;
    const uint8_t *bytes; /* Borrowed for the call. */
    size_t len;
    uint64_t client;
    struct qn_job *job;
    uint64_t number;
};

enum qn_action_type {
    QN_ACTION_SEND,  /* plane, peer (a neighbour), bytes: one packed Envelope. Dropped by the driver if the session is
                        down. */
    QN_ACTION_REPLY, /* client, bytes: one packed ControlResponse */
    QN_ACTION_EVENT, /* bytes: one packed EventInfo, for the log and whoever listens */
    QN_ACTION_JOB,   /* job (taken by the driver) */
    QN_ACTION_CUT,   /* plane, peer, on: close the session with this neighbour and keep it closed, or allow it again */
    QN_ACTION_STORE, /* store (taken by the driver): make it durable, after all before it */
    QN_ACTION_STOPPED,     /* The orderly end is complete. */
    QN_ACTION_INCARNATION, /* incarnation: the old life of this node was declared dead; end all sessions, and open them
                              anew under this one */
};

struct qn_action {
    enum qn_action_type type;
    enum qn_plane_id plane;
    uint16_t peer;
    bool on;
    uint64_t incarnation;
    uint64_t client;
    const uint8_t *kept; /* The bytes; NULL if they are in qn_actions.bytes: use qn_action_bytes. */
    size_t offset, len;
    struct qn_job *job;
    struct qn_store_op *store;
};

struct qn_actions {
    struct qn_action *list;
    size_t len, cap;
    struct qn_buf bytes;
};

static inline const uint8_t *qn_action_bytes(const struct qn_actions *actions, const struct qn_action *action) {
    if (action->kept != NULL || action->len == 0) return action->kept;
    return actions->bytes.data + action->offset;
}

/* Borrowed until the next step. Fails only with -QN_ENOMEM or -QN_EPROTOCOL (the peer's bytes are wrong: close the
 * session); the actions are valid on failure too. */
int qn_node_step(struct qn_node *node, const struct qn_event *event, const struct qn_actions **ret_actions);
const char *
qn_node_violation(const struct qn_node *node); /* What was wrong at the last -QN_EPROTOCOL; constant text. */
uint64_t
qn_node_deadline_ns(const struct qn_node *node); /* Step again by then; QN_NEVER if only an event can wake it. */

/* For the operations port; never fails but for memory. */
int qn_node_metrics(const struct qn_node *node, struct qn_buf *out);     /* Prometheus text, without process metrics. */
bool qn_node_is_ready(const struct qn_node *node, const char **ret_why); /* All neighbours up on both planes. */

/* Asserts what must always hold; for tests and the simulator. */
void qn_node_check(const struct qn_node *node);
/* True if nothing is under way or kept for others: no request, circuit, credit, operation, or message without its
 * acknowledgement. Otherwise *ret_what names the first thing found. What the user holds (pairs, keys) does not count.
 */
bool qn_node_is_idle(const struct qn_node *node, const char **ret_what);
uint32_t qn_node_memories_used(const struct qn_node *node);

/* Has this node given up that life of another? (Two that differ in this may both keep a qubit, for as long.) */
bool qn_node_gave_up(const struct qn_node *node, uint16_t peer, uint64_t incarnation);

/* Simulator's view of its part of the quantum plane. */
struct qn_plane;
const struct qn_plane *qn_node_plane(const struct qn_node *node);

#endif
