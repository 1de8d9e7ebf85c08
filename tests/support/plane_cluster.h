/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_TESTS_PLANE_CLUSTER_H
#define QN_TESTS_PLANE_CLUSTER_H

#include "base/map.h"
#include "base/rng.h"
#include "plane/plane.h"

/* Planes of several nodes in one process. Messages wait in one queue for each ordered pair of nodes; a seeded scheduler
 * delivers them in any order that keeps each queue's. Nothing here knows of time: what may race, does. */

enum { CLUSTER_MAX = 8, CLUSTER_RESULTS = 256 };

struct cluster_frame;
struct cluster_queue {
    struct cluster_frame *first, *last;
    size_t n;
};

struct cluster_result {
    bool done;
    uint32_t outcome;
    int error;
};

struct plane_cluster {
    uint16_t n;
    uint64_t seed;
    struct qn_plane *planes[CLUSTER_MAX];                  /* NULL: crashed. */
    uint32_t lives[CLUSTER_MAX];                           /* Present, or last. */
    uint32_t contacted[CLUSTER_MAX][CLUSTER_MAX];          /* Life + 1 that has answered. */
    struct cluster_queue queues[CLUSTER_MAX][CLUSTER_MAX]; /* From, to. */
    struct qn_rng rng;                                     /* The scheduler's. */
    uint64_t clock;                                        /* Of group ids: later groups have higher ids. */
    struct cluster_result results[CLUSTER_RESULTS];        /* By tag. */
    size_t n_frames, n_arrivals;                           /* Sent in all; births seen by owners. */
    uint64_t transcript;                                   /* Hash of every frame delivered, in order. */
};

struct plane_cluster *cluster_new(uint16_t n, uint64_t seed);
void cluster_free(struct plane_cluster *cluster);

/* A pair in the given Pauli tensor, made by `maker` for its two owners. */
void cluster_pair(struct plane_cluster *cluster, uint16_t maker, uint16_t a, uint16_t b, const double tensor[16],
                  qn_qubit ret_qubits[2]);
/* The same, told to everybody before anything else happens. */
void cluster_settled_pair(struct plane_cluster *cluster, uint16_t maker, uint16_t a, uint16_t b,
                          const double tensor[16], qn_qubit ret_qubits[2]);
int cluster_submit(struct plane_cluster *cluster, uint16_t node, const struct qn_plane_op *op);
void cluster_collect(struct plane_cluster *cluster, uint16_t node); /* After calling a plane directly. */

bool cluster_deliver(struct plane_cluster *cluster); /* One message of a random queue; false if all are empty. */
void cluster_deliver_from(struct plane_cluster *cluster, uint16_t from, uint16_t to); /* The next of that one. */
void cluster_run(struct plane_cluster *cluster);               /* Until all are empty, checking after each step. */
size_t cluster_in_flight(const struct plane_cluster *cluster); /* Queues that are not empty. */
/* The same with a few bits turned over; what the plane says of it is counted. Only the receiver is checked. */
bool cluster_deliver_mutated(struct plane_cluster *cluster, size_t *refused, size_t *harmless);
/* Ends a node: of what it sent to each other node, only a random beginning arrives, then the news of its end. */
void cluster_crash(struct plane_cluster *cluster, uint16_t node);
/* Has `node` met the present life of the other? Only then does it make qubits for it. */
bool cluster_knows(const struct plane_cluster *cluster, uint16_t node, uint16_t other);
void cluster_meet_all(struct plane_cluster *cluster); /* As neighbours do when their sessions come up. */
/* Starts it again, as a new life that has been told of every end so far. */
void cluster_rejoin(struct plane_cluster *cluster, uint16_t node);

void cluster_touch_all(struct plane_cluster *cluster);         /* An operation on every qubit, by its owner. */
void cluster_check(const struct plane_cluster *cluster);       /* Every plane, and I1 across them. */
void cluster_check_final(const struct plane_cluster *cluster); /* At rest: all done, each live qubit hosted once, I2. */
/* Reduced tensor wherever the qubits are; aborts if no process hosts them together. */
void cluster_inspect(const struct plane_cluster *cluster, const qn_qubit *qubits, size_t n, uint64_t now_ns,
                     double *ret_tensor);
size_t cluster_n_records(const struct plane_cluster *cluster, uint16_t node); /* Of qubits, of any kind. */
int cluster_host_of(const struct plane_cluster *cluster, qn_qubit qubit);     /* -1 if nobody has it, active. */

#endif
