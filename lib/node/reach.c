/* SPDX-License-Identifier: Apache-2.0 */
/* Who can be reached (R0). Each node tells its neighbours which of its own neighbours it has no session with (Reach),
 * they pass it on, and so everybody knows which sessions of the network are up. Hosting messages take the shortest way
 * over those; protocol messages keep their route, which is part of the emulated network. A network whose sessions are
 * all up says nothing.
 *
 * A node that no way leads to is lost. One that is lost for longer than node_dead_after, and that something here waits
 * for or shares qubits with, is declared dead (lives.c). Nobody is declared dead for being away without being missed.
 */
#include <stdlib.h>
#include <string.h>

#include "node/internal.h"

/* ---- what is told ---- */

static void send_reach(struct qn_node *node, const struct neighbour *to, const struct remote *about) {
    const struct reach *reach = &about->reach;
    Qnet__V1__Reach m = QNET__V1__REACH__INIT;
    Qnet__V1__Envelope envelope = QNET__V1__ENVELOPE__INIT;
    uint32_t *lost = malloc((reach->n + 1) * sizeof *lost);
    if (lost == NULL) return;
    for (size_t i = 0; i < reach->n; i++) lost[i] = reach->lost[i];
    m.node = about->id;
    m.incarnation = reach->incarnation;
    m.version = reach->version;
    m.lost = lost;
    m.n_lost = reach->n;
    envelope.body_case = QNET__V1__ENVELOPE__BODY_REACH;
    envelope.reach = &m;
    for (int plane = 0; plane < 2; plane++)
        if (to->up[plane] && transport_send_now(node, to->id, (enum qn_plane_id)plane, &envelope)) break;
    free(lost);
}

static void flood(struct qn_node *node, const struct remote *about, uint16_t except) {
    for (size_t i = 0; i < node->n_neighbours; i++)
        if (node->neighbours[i].id != except) send_reach(node, &node->neighbours[i], about);
}

void reach_forget(struct remote *remote) {
    free(remote->reach.lost);
    remote->reach = (struct reach){0};
}

static bool note(struct remote *remote, uint64_t incarnation, uint64_t version, const uint16_t *lost, size_t n) {
    uint16_t *copy = malloc((n + 1) * sizeof *copy);
    if (copy == NULL) return false;
    if (n > 0) memcpy(copy, lost, n * sizeof *copy);
    reach_forget(remote);
    remote->reach = (struct reach){incarnation, version, copy, n};
    return true;
}

/* Tells the others when what this node sees of its neighbours has changed. At the start they have a moment to come.
 * `again`: a classical session came up after the quantum one; what goes only by the former may go now. */
static void tell_own(struct qn_node *node, bool again) {
    struct remote *self = &node->remotes[node->self];
    uint16_t *lost = malloc((node->n_neighbours + 1) * sizeof *lost);
    if (lost == NULL) return;
    size_t n = 0;
    bool early = node->now_ns - node->started_ns < node->resend_ns;
    for (size_t i = 0; i < node->n_neighbours; i++) {
        const struct neighbour *neighbour = &node->neighbours[i];
        bool up = neighbour->up[QN_CLASSICAL] || neighbour->up[QN_QUANTUM];
        if (!up && (neighbour->was_up || !early)) lost[n++] = neighbour->id;
    }
    bool same = n == self->reach.n && (n == 0 || memcmp(lost, self->reach.lost, n * sizeof *lost) == 0);
    if ((!same || (again && self->reach.version > 0)) &&
        note(self, node->incarnation, self->reach.version + 1, lost, n))
        flood(node, self, node->self);
    free(lost);
}

/* ---- ways ---- */

static bool says_lost(const struct qn_node *node, uint16_t who, uint16_t whom) {
    const struct reach *reach = &node->remotes[who].reach;
    for (size_t i = 0; i < reach->n; i++)
        if (reach->lost[i] == whom) return true;
    return false;
}

static bool is_open(void *context, uint16_t x, uint16_t y) { /* May there be a session between these neighbours? */
    const struct qn_node *node = context;
    if (x == node->self || y == node->self) {
        const struct neighbour *neighbour = node_neighbour(node, x == node->self ? y : x);
        return neighbour->up[QN_CLASSICAL] || neighbour->up[QN_QUANTUM];
    }
    return !says_lost(node, x, y) && !says_lost(node, y, x);
}

static void watch(struct qn_node *node) { /* Until the first lost node has been away for too long. */
    uint64_t due = QN_NEVER;
    for (size_t i = 0; i < node->topology->n_nodes; i++) {
        uint64_t check = node->remotes[i].check_ns;
        if (node->remotes[i].lost && check < due) due = check;
    }
    if (due == QN_NEVER)
        qn_timers_clear(&node->timers, &node->watch);
    else
        node_timer(node, &node->watch, due > node->now_ns ? due : node->now_ns);
}

/* `fresh`: a neighbour whose session has just come up; what went its way before may be lost. */
static void update(struct qn_node *node, uint16_t fresh) {
    size_t n = node->topology->n_nodes;
    uint16_t *hops = malloc((n + 1) * sizeof *hops);
    if (hops == NULL) return;
    int reached = route_open(node, is_open, node, hops);
    for (size_t i = 0; i < n && reached >= 0; i++) {
        struct remote *remote = &node->remotes[i];
        bool moved = remote->host_hop != hops[i] || (hops[i] != QN_NO_NODE && hops[i] == fresh);
        bool lost = hops[i] == QN_NO_NODE && i != node->self;
        remote->host_hop = hops[i];
        if (lost && !remote->lost) {
            remote->lost_ns = node->now_ns;
            remote->check_ns = node->now_ns + node->dead_after_ns;
        }
        remote->lost = lost;
        if (moved && !lost) transport_repeat(node, &remote->ways[QN_QUANTUM]);
    }
    if (reached >= 0) node->n_reached = (uint32_t)reached;
    free(hops);
    watch(node);
}

/* ---- events ---- */

void reach_on_session(struct qn_node *node, struct neighbour *neighbour, enum qn_plane_id plane, bool up) {
    if (up) {
        neighbour->was_up = true;
        lives_tell(node, neighbour->id, plane);
        for (size_t i = 0; i < node->topology->n_nodes; i++)
            if (node->remotes[i].reach.version > 0) send_reach(node, neighbour, &node->remotes[i]);
    }
    tell_own(node, up && plane == QN_CLASSICAL);
    update(node, up ? neighbour->id : QN_NO_NODE);
}

void reach_on_message(struct qn_node *node, uint16_t from, const Qnet__V1__Reach *m) {
    if (m->node >= node->topology->n_nodes || m->node == node->self || m->incarnation == 0 || m->version == 0) return;
    struct remote *remote = &node->remotes[m->node];
    struct reach *known = &remote->reach;
    if (lives_is_over(remote, m->incarnation) || m->n_lost > node->topology->n_nodes) return;
    if (remote->incarnation != 0 && remote->incarnation != m->incarnation) return; /* News of it will come first. */
    if (known->incarnation == m->incarnation && known->version >= m->version) return;
    uint16_t *lost = malloc((m->n_lost + 1) * sizeof *lost);
    if (lost == NULL) return;
    size_t n = 0;
    for (size_t i = 0; i < m->n_lost; i++)
        if (m->lost[i] < node->topology->n_nodes) lost[n++] = (uint16_t)m->lost[i];
    if (note(remote, m->incarnation, m->version, lost, n)) {
        flood(node, remote, from);
        update(node, QN_NO_NODE);
        for (size_t i = 0; i < node->topology->n_nodes; i++) /* A way may be whole again: no need to wait for timers. */
            if (node->remotes[i].ways[QN_CLASSICAL].channel.first != NULL)
                transport_repeat(node, &node->remotes[i].ways[QN_CLASSICAL]);
    }
    free(lost);
}

void reach_on_life_over(struct qn_node *node, struct remote *remote) {
    reach_forget(remote);
    tell_own(node, false);
    update(node, QN_NO_NODE);
}

/* ---- those who are missed ---- */

static void mark_missed(const struct qn_node *node, bool *marks) { /* Whom something here waits for, or counts on. */
    for (size_t i = 0; i < node->topology->n_nodes; i++)
        if (node->remotes[i].ways[QN_QUANTUM].channel.first != NULL) marks[i] = true;
    for (const struct list *item = node->delivered.next; item != &node->delivered; item = item->next)
        marks[CONTAINER_OF(item, struct pair, queue)->peer] = true;
    qn_plane_mark_needed(node->plane, marks);
    link_mark_peers(node, marks);
    circuit_mark_peers(node, marks);
    station_mark_peers(node, marks);
    teleport_mark_peers(node, marks);
    request_mark_peers(node, marks);
    bb84_mark_peers(node, marks);
}

/* The nearest first: who is behind it may only be cut off by its death, and is not the cause of what fails. */
static struct remote *nearest_due(struct qn_node *node) {
    struct remote *nearest = NULL;
    for (size_t i = 0; i < node->topology->n_nodes; i++) {
        struct remote *remote = &node->remotes[i];
        bool due = remote->lost && remote->check_ns <= node->now_ns;
        if (due && (nearest == NULL || remote->hops < nearest->hops)) nearest = remote;
    }
    return nearest;
}

static void on_watch(void *context, struct qn_timer *timer) {
    struct qn_node *node = context;
    (void)timer;
    bool *marks = calloc(node->topology->n_nodes, sizeof *marks);
    if (marks != NULL) mark_missed(node, marks);
    for (struct remote *remote; (remote = nearest_due(node)) != NULL;) {
        bool missed = marks != NULL && marks[remote->id];
        remote->check_ns = node->now_ns + (missed ? node->dead_after_ns : node->dead_after_ns / 4 + 1);
        if (missed) lives_declare(node, remote->id, QNET__V1__DOWN_CAUSE__DOWN_CAUSE_UNREACHABLE);
    }
    free(marks);
    watch(node);
}

static void on_started(void *context, struct qn_timer *timer) { /* Whoever has not come by now is missing. */
    (void)timer;
    tell_own(context, false);
}

void reach_start(struct qn_node *node) {
    double dead_after = node->topology->node_dead_after_s > 0 ? node->topology->node_dead_after_s : 30;
    dead_after *= node->topology->time_scale;
    node->dead_after_ns = dead_after < 9e9 ? (uint64_t)(dead_after * 1e9) + 1 : UINT64_MAX / 4;
    node->watch.fire = on_watch;
    node->gathered.fire = on_started;
    for (size_t i = 0; i < node->topology->n_nodes; i++) {
        struct remote *remote = &node->remotes[i];
        reach_forget(remote);
        remote->host_hop = QN_NO_NODE;
        remote->lost = i != node->self;
        remote->lost_ns = node->now_ns;
        remote->check_ns = node->now_ns + node->dead_after_ns;
    }
    node->n_reached = 1;
    node_timer(node, &node->gathered, node->now_ns + node->resend_ns);
    watch(node);
}
