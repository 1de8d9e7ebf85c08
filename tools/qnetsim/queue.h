/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QNETSIM_QUEUE_H
#define QN_QNETSIM_QUEUE_H

#include "node/node.h"

/* The cluster's event queue: a heap by (time, order of coming), so that runs repeat. */

enum item_kind {
    ITEM_MESSAGE,      /* plane, peer: one envelope from a neighbour */
    ITEM_WAKE,         /* The node's own deadline. */
    ITEM_JOB,          /* Its thread pool is done with a job. */
    ITEM_STORE,        /* Its key store makes durable what waits. */
    ITEM_REQUEST,      /* client, bytes */
    ITEM_CLIENT_GONE,  /* client */
    ITEM_SESSION_UP,   /* plane, peer: both ends may have a session again */
    ITEM_SESSION_LOST, /* plane, peer: the node notices that its peer is dead, or silent */
    ITEM_SESSION_DOWN, /* plane, peer: only in what waits for a paused node */
};

struct item { /* Something that happens to a node. */
    uint64_t due_ns, order;
    enum item_kind kind;
    uint16_t node, peer;
    enum qn_plane_id plane;
    uint64_t epoch;     /* Of the session, or of the node's life: what a break or a crash swallows. */
    uint64_t client;    /* Or the number of the pause that makes a session be lost. */
    struct qn_job *job; /* Owned. */
    uint8_t *bytes;     /* Owned. */
    size_t len;
};
void item_free(struct item *item); /* What it owns. */

struct queue {
    struct item *heap;
    size_t len, cap;
    uint64_t next_order;
};
void queue_push(struct queue *queue, struct item item); /* Takes what it owns. Ends the process without memory. */
struct item queue_pop(struct queue *queue);             /* Of a queue that is not empty. */
void queue_release(struct queue *queue);

#endif
