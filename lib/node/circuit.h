/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_NODE_CIRCUIT_H
#define QN_NODE_CIRCUIT_H

/* What circuit.c (life, set-up) and track.c (pairs, swaps, tracks) share. */

#include "node/internal.h"

enum role { HEAD, INNER, TAIL };

struct record { /* What became of a pair at an inner node; found by the sequence of either side. */
    uint64_t sequence[2];
    bool has[2]; /* The side's pair is known. */
    uint32_t bell[2];
    double w[2]; /* Werner parameters when swapped. */
    bool swapped, expired;
    uint32_t outcome;
    bool parked[2], passed[2]; /* Tracks: [0] coming from the head's side, [1] from the tail's. */
    Qnet__V1__CircuitTrack track[2];
};

struct side { /* Towards the head (0) and towards the tail (1). */
    uint16_t node, link;
    struct link_request *request;
    struct list waiting;   /* Pairs not yet swapped. */
    struct qn_map records; /* By sequence. */
};

struct circuit {
    struct list link;
    struct qn_node *node;
    uint64_t id;
    enum role role;
    uint16_t path[ROUTE_MAX_HOPS + 1], links[ROUTE_MAX_HOPS];
    size_t n_links, place; /* place: of this node on the path. */
    struct side sides[2];
    uint32_t share; /* Memory set aside for each side of an inner node. */
    uint32_t number, delivered;
    uint64_t expired; /* At the ends: pairs to be made again. */
    uint64_t cutoff_ns, lifetime_ns, user_request;
    double link_fidelity, min_fidelity, fidelity;
    bool measure, ready, keep_frame, closing;
    uint32_t axes_set;
    struct qkd_ref qkd;
    uint64_t axes_seed;
    struct qn_rng axes_rng;
    struct request *request; /* At the head. */
    struct qn_timer patience, lifetime;
};

static inline Qnet__V1__Envelope body(Qnet__V1__Envelope__BodyCase which) {
    Qnet__V1__Envelope envelope = QNET__V1__ENVELOPE__INIT;
    envelope.body_case = which;
    return envelope;
}

#endif
