/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QNETSIM_CLUSTER_H
#define QN_QNETSIM_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "node/node.h"
#include "qnet/v1/control.pb-c.h"

/* All nodes of a topology in one process on virtual time: the same node code as the daemon, driven by one event queue.
 * The same seed gives the same run, byte for byte. Nodes can crash, come back, and be stopped for a while; sessions can
 * break and be slow. */

struct cluster;
struct disk;

struct cluster_config {
    const struct qn_topology *topology; /* Borrowed. */
    uint64_t seed;                      /* Of latencies and secrets; physics uses the topology's. */
    uint64_t latency_ns;                /* Of every session, one way, besides the links' own delay. */
    uint64_t jitter_ns;                 /* Up to this much more, at random; each session stays in order. */
    unsigned threads;                   /* For jobs, as nodes are told; how long jobs take does not depend on it. */
    uint64_t job_ns;                    /* A job takes up to this long, at random. */
    uint64_t store_ns;                  /* A change of a key store is durable up to so much later. */
    uint64_t silence_ns;                /* Its neighbours give up a paused node's sessions after so long; 0: never. */
    uint64_t notice_ns;                 /* Its neighbours notice a node's crash up to this much later. */
    const struct qn_initial_secret *(*secrets)(void *context, uint16_t node,
                                               size_t *ret_len); /* Of a node at its start. May be NULL. */
    bool check; /* qn_node_check after every step, and no qubit hosted twice. */
    bool trace; /* Keep a hash of all that happens. */
    void *context;
    void (*on_reply)(void *context, uint16_t node, uint64_t client,
                     const Qnet__V1__ControlResponse *response);      /* May be NULL. */
    void (*on_event)(void *context, const Qnet__V1__EventInfo *info); /* May be NULL. */
    void (*on_step)(void *context, uint16_t node,
                    const struct qn_event *event); /* After each step of a node. May be NULL. */
};

int cluster_new(const struct cluster_config *config,
                struct cluster **ret_cluster); /* All sessions come up at time 0. */
void cluster_free(struct cluster *cluster);

uint64_t cluster_now(const struct cluster *cluster);
uint64_t cluster_steps(const struct cluster *cluster);
uint64_t cluster_trace(const struct cluster *cluster);                      /* Hash of all that has happened. */
struct qn_node *cluster_node(const struct cluster *cluster, uint16_t node); /* NULL while it is down. */
uint64_t cluster_incarnation(const struct cluster *cluster, uint16_t node); /* Of its present or last life. */
bool cluster_is_paused(const struct cluster *cluster, uint16_t node);

bool cluster_step(struct cluster *cluster);                        /* The next event; false if there is none. */
void cluster_run_until(struct cluster *cluster, uint64_t time_ns); /* Everything up to then; time is then that. */
/* Steps until `done` says so, or `limit_ns` has passed, or nothing is left; returns what `done` says. */
bool cluster_run_while(struct cluster *cluster, bool (*done)(void *context), void *context, uint64_t limit_ns);

/* False: the node is down. What a paused node is asked waits for it. */
bool cluster_request(struct cluster *cluster, uint16_t node, uint64_t client, const Qnet__V1__ControlRequest *request);
bool cluster_client_gone(struct cluster *cluster, uint16_t node, uint64_t client);

/* The session of two neighbours, as a cable would be: cut, or not (besides what operators have cut). */
void cluster_cut(struct cluster *cluster, uint16_t a, uint16_t b, enum qn_plane_id plane, bool cut);
void cluster_slow(struct cluster *cluster, uint16_t a, uint16_t b, enum qn_plane_id plane, uint64_t extra_ns);
bool cluster_session_is_up(const struct cluster *cluster, uint16_t a, uint16_t b, enum qn_plane_id plane);

/* kill -9: of what it sent last, some arrives; then its neighbours notice. What operators cut there is forgotten. */
void cluster_crash(struct cluster *cluster, uint16_t node);
void cluster_start(struct cluster *cluster, uint16_t node); /* A new incarnation with empty memories. */
/* The node's key store survives its crashes. While its disk is full nothing becomes durable. */
void cluster_fill_disk(struct cluster *cluster, uint16_t node, bool full);
const struct disk *cluster_disk(const struct cluster *cluster, uint16_t node);
/* SIGSTOP and SIGCONT: the node gets nothing and no time passes for it; afterwards all that has waited comes at once.
 */
void cluster_pause(struct cluster *cluster, uint16_t node);
void cluster_resume(struct cluster *cluster, uint16_t node);

#endif
