/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QNETSIM_CLUSTER_H
#define QN_QNETSIM_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "node/node.h"
#include "qnet/v1/control.pb-c.h"

/* All nodes of a topology in one process on virtual time: the same node code as the daemon, driven by one event queue.
 * The same seed gives the same run, byte for byte. */

struct cluster;

struct cluster_config {
    const struct qn_topology *topology; /* Borrowed. */
    uint64_t seed;                      /* Of latencies and secrets; physics uses the topology's. */
    uint64_t latency_ns;                /* Of every session, one way, besides the links' own delay. */
    uint64_t jitter_ns;                 /* Up to this much more, at random; each session stays in order. */
    bool check;                         /* qn_node_check on every node after every step, and no qubit hosted twice. */
    void *context;
    void (*on_reply)(void *context, uint16_t node, uint64_t client,
                     const Qnet__V1__ControlResponse *response);      /* May be NULL. */
    void (*on_event)(void *context, const Qnet__V1__EventInfo *info); /* May be NULL. */
};

int cluster_new(const struct cluster_config *config,
                struct cluster **ret_cluster); /* All sessions come up at time 0. */
void cluster_free(struct cluster *cluster);

uint64_t cluster_now(const struct cluster *cluster);
uint64_t cluster_steps(const struct cluster *cluster);
struct qn_node *cluster_node(const struct cluster *cluster, uint16_t node);

bool cluster_step(struct cluster *cluster);                        /* The next event; false if there is none. */
void cluster_run_until(struct cluster *cluster, uint64_t time_ns); /* Everything up to then; time is then that. */
/* Steps until `done` says so, or `limit_ns` has passed, or nothing is left; returns what `done` says. */
bool cluster_run_while(struct cluster *cluster, bool (*done)(void *context), void *context, uint64_t limit_ns);

void cluster_request(struct cluster *cluster, uint16_t node, uint64_t client, const Qnet__V1__ControlRequest *request);
void cluster_cut(struct cluster *cluster, uint16_t a, uint16_t b, enum qn_plane_id plane,
                 bool cut); /* As a cable would be. */

#endif
