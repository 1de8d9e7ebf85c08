/* SPDX-License-Identifier: Apache-2.0 */
#include "plane_cluster.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "plane/internal.h"

struct cluster_frame {
    struct cluster_frame *next;
    uint32_t life;    /* Of the sender. */
    uint32_t to_life; /* That the sender meant, if it knew. */
    size_t len;       /* 0: that life is over, */
    bool hello;       /* or has begun. */
    uint8_t bytes[];
};

/* ---- queues ---- */

static void queue_push(struct cluster_queue *queue, uint32_t life, uint32_t to_life, const uint8_t *bytes, size_t len) {
    struct cluster_frame *frame = malloc(sizeof *frame + len);
    assert(frame != NULL);
    frame->next = NULL;
    frame->life = life;
    frame->to_life = to_life;
    frame->len = len;
    frame->hello = false;
    if (len > 0) memcpy(frame->bytes, bytes, len);
    if (queue->first == NULL)
        queue->first = frame;
    else
        queue->last->next = frame;
    queue->last = frame;
    queue->n++;
}

static void queue_push_hello(struct cluster_queue *queue, uint32_t life) {
    queue_push(queue, life, QN_LIFE_UNKNOWN, (const uint8_t *)"", 1);
    queue->last->hello = true;
}

static struct cluster_frame *queue_pop(struct cluster_queue *queue) {
    struct cluster_frame *frame = queue->first;
    queue->first = frame->next;
    queue->n--;
    return frame;
}

static void queue_keep(struct cluster_queue *queue, size_t n, bool news) { /* The first n only; news of ends, too? */
    struct cluster_queue kept = {0};
    while (queue->first != NULL) {
        struct cluster_frame *frame = queue_pop(queue);
        if (frame->hello && kept.n < n)
            queue_push_hello(&kept, frame->life);
        else if (kept.n < n || (news && frame->len == 0))
            queue_push(&kept, frame->life, frame->to_life, frame->bytes, frame->len);
        free(frame);
    }
    *queue = kept;
}

/* ---- life ---- */

void cluster_meet_all(struct plane_cluster *cluster) {
    for (uint16_t i = 0; i < cluster->n; i++)
        for (uint16_t k = 0; k < cluster->n; k++)
            if (i != k && cluster->planes[i] != NULL && cluster->planes[k] != NULL)
                qn_plane_meet(cluster->planes[i], k, cluster->lives[k]);
}

struct plane_cluster *cluster_new(uint16_t n, uint64_t seed) {
    struct plane_cluster *cluster = calloc(1, sizeof *cluster);
    assert(cluster != NULL && n <= CLUSTER_MAX);
    cluster->n = n;
    cluster->seed = seed;
    qn_rng_init(&cluster->rng, seed, "schedule", 0);
    for (uint16_t i = 0; i < n; i++) {
        struct qn_plane_config config = {.self = i, .n_nodes = n, .seed = seed, .first_sequence = 1};
        int rc = qn_plane_new(&config, &cluster->planes[i]);
        assert(rc == 0);
    }
    cluster_meet_all(cluster);
    return cluster;
}

void cluster_free(struct plane_cluster *cluster) {
    for (uint16_t i = 0; i < cluster->n; i++) {
        qn_plane_free(cluster->planes[i]);
        for (uint16_t k = 0; k < cluster->n; k++) queue_keep(&cluster->queues[i][k], 0, false);
    }
    free(cluster);
}

/* Whoever is written to for the first time answers. */
static void make_contact(struct plane_cluster *cluster, uint16_t node) {
    bool unmet[CLUSTER_MAX] = {false};
    qn_plane_mark_unmet(cluster->planes[node], unmet);
    for (uint16_t i = 0; i < cluster->n; i++)
        if (unmet[i] && cluster->planes[i] != NULL && cluster->contacted[node][i] != cluster->lives[i] + 1) {
            queue_push_hello(&cluster->queues[i][node], cluster->lives[i]);
            cluster->contacted[node][i] = cluster->lives[i] + 1;
        }
}

void cluster_collect(struct plane_cluster *cluster, uint16_t node) {
    struct qn_plane *plane = cluster->planes[node];
    struct qn_plane_arrival arrival;
    struct qn_plane_result result;
    struct qn_plane_out out;
    while (qn_plane_next_birth(plane, &arrival)) cluster->n_arrivals++;
    while (qn_plane_next_result(plane, &result)) {
        assert(result.tag < CLUSTER_RESULTS && !cluster->results[result.tag].done);
        cluster->results[result.tag] = (struct cluster_result){true, result.outcome, result.error};
    }
    while (qn_plane_next_out(plane, &out)) {
        assert(out.to < cluster->n && out.to != node);
        cluster->n_frames++;
        if (cluster->planes[out.to] != NULL)
            queue_push(&cluster->queues[node][out.to], cluster->lives[node],
                       plane->down[out.to] ? QN_LIFE_UNKNOWN : plane->lives[out.to].present, out.bytes, out.len);
    }
    make_contact(cluster, node);
}

void cluster_pair(struct plane_cluster *cluster, uint16_t maker, uint16_t a, uint16_t b, const double tensor[16],
                  qn_qubit ret_qubits[2]) {
    struct qn_plane *plane = cluster->planes[maker];
    struct qn_birth births[2] = {{.owner = a}, {.owner = b}};
    struct qn_state *state;
    uint64_t group;
    double will[2][3];
    int rc = qn_state_new_pair(tensor, &state);
    assert(rc == 0);
    for (size_t i = 0; i < 2; i++) qn_state_bloch(state, i, will[i]);
    qn_plane_set_time(plane, ++cluster->clock << 10);
    rc = qn_plane_create(plane, births, 2, state, ret_qubits, &group);
    assert(rc == 0);
    for (size_t i = 0; i < 2; i++) {
        rc = qn_plane_announce(plane, ret_qubits[i], births[i].owner, group, 0, will[i], 0, 0, 0, 0);
        assert(rc == 0);
    }
    cluster_collect(cluster, maker);
}

void cluster_settled_pair(struct plane_cluster *cluster, uint16_t maker, uint16_t a, uint16_t b,
                          const double tensor[16], qn_qubit ret_qubits[2]) {
    cluster_pair(cluster, maker, a, b, tensor, ret_qubits);
    cluster_run(cluster);
}

int cluster_submit(struct plane_cluster *cluster, uint16_t node, const struct qn_plane_op *op) {
    qn_plane_set_time(cluster->planes[node], ++cluster->clock << 10); /* What is resurrected is younger. */
    int rc = qn_plane_submit(cluster->planes[node], op);
    cluster_collect(cluster, node);
    return rc;
}

/* ---- schedule ---- */

size_t cluster_in_flight(const struct plane_cluster *cluster) {
    size_t n = 0;
    for (uint16_t i = 0; i < cluster->n; i++)
        for (uint16_t k = 0; k < cluster->n; k++) n += cluster->queues[i][k].n > 0 ? 1 : 0;
    return n;
}

static void hash_frame(struct plane_cluster *cluster, uint16_t from, uint16_t to, const struct cluster_frame *frame) {
    uint64_t hash = cluster->transcript * 31 + from * CLUSTER_MAX + to;
    for (size_t i = 0; i < frame->len; i++) hash = (hash ^ frame->bytes[i]) * UINT64_C(0x100000001b3);
    cluster->transcript = hash;
}

static int deliver(struct plane_cluster *cluster, uint16_t from, uint16_t to, bool mutate) {
    struct cluster_frame *frame = queue_pop(&cluster->queues[from][to]);
    struct qn_plane *plane = cluster->planes[to];
    int rc = 0;
    qn_plane_set_time(plane, ++cluster->clock << 10);
    hash_frame(cluster, from, to, frame);
    for (uint64_t n = mutate && frame->len > 0 ? 1 + qn_rng_below(&cluster->rng, 3) : 0; n > 0; n--)
        frame->bytes[qn_rng_below(&cluster->rng, frame->len)] ^= (uint8_t)(1 << qn_rng_below(&cluster->rng, 8));
    if (frame->len == 0)
        qn_plane_on_down(plane, from, frame->life);
    else if (is_gone(plane, from, frame->life))
        ; /* A message from the dead: somebody who asked for a qubit has told us meanwhile. */
    else if (frame->hello)
        qn_plane_meet(plane, from, frame->life);
    else if (frame->to_life == QN_LIFE_UNKNOWN || frame->to_life == cluster->lives[to]) {
        qn_plane_meet(plane, from, frame->life);
        Qnet__V1__PlaneMessage *message = qnet__v1__plane_message__unpack(NULL, frame->len, frame->bytes);
        assert(message != NULL || mutate);
        rc = message == NULL ? -QN_EPROTOCOL : qn_plane_on_message(plane, from, message);
        if (message != NULL) qnet__v1__plane_message__free_unpacked(message, NULL);
    }
    free(frame);
    cluster_collect(cluster, to);
    return rc;
}

static bool choose(struct plane_cluster *cluster, uint16_t *ret_from, uint16_t *ret_to) {
    size_t n = cluster_in_flight(cluster);
    if (n == 0) return false;
    size_t chosen = (size_t)qn_rng_below(&cluster->rng, n);
    for (uint16_t i = 0; i < cluster->n; i++)
        for (uint16_t k = 0; k < cluster->n; k++)
            if (cluster->queues[i][k].n > 0 && chosen-- == 0) {
                *ret_from = i;
                *ret_to = k;
                return true;
            }
    return false;
}

/* Those that were written to while they were down answer when they are back. */
static void contact_all(struct plane_cluster *cluster) {
    for (uint16_t i = 0; i < cluster->n; i++)
        if (cluster->planes[i] != NULL) make_contact(cluster, i);
}

bool cluster_knows(const struct plane_cluster *cluster, uint16_t node, uint16_t other) {
    return node == other || (cluster->planes[node]->lives[other].present == cluster->lives[other] &&
                             !cluster->planes[node]->down[other]);
}

bool cluster_deliver(struct plane_cluster *cluster) {
    uint16_t from, to;
    if (!choose(cluster, &from, &to)) return false;
    int rc = deliver(cluster, from, to, false);
    assert(rc == 0);
    contact_all(cluster);
    return true;
}

void cluster_deliver_from(struct plane_cluster *cluster, uint16_t from, uint16_t to) {
    int rc = deliver(cluster, from, to, false);
    assert(rc == 0);
}

bool cluster_deliver_mutated(struct plane_cluster *cluster, size_t *refused, size_t *harmless) {
    uint16_t from, to;
    if (!choose(cluster, &from, &to)) return false;
    int rc = deliver(cluster, from, to, true);
    assert(rc == 0 || rc == -QN_EPROTOCOL);
    if (rc < 0)
        ++*refused;
    else
        ++*harmless;
    qn_plane_check(cluster->planes[to]);
    return true;
}

void cluster_run(struct plane_cluster *cluster) {
    for (size_t steps = 0; cluster_deliver(cluster); steps++) {
        cluster_check(cluster);
        assert(steps < 20000); /* Livelock. */
    }
}

void cluster_crash(struct plane_cluster *cluster, uint16_t node) {
    qn_plane_free(cluster->planes[node]);
    cluster->planes[node] = NULL;
    for (uint16_t i = 0; i < cluster->n; i++) cluster->contacted[node][i] = 0;
    for (uint16_t i = 0; i < cluster->n; i++) {
        queue_keep(&cluster->queues[i][node], 0, false);
        struct cluster_queue *sent = &cluster->queues[node][i];
        bool alive = i != node && cluster->planes[i] != NULL;
        queue_keep(sent, alive ? (size_t)qn_rng_below(&cluster->rng, sent->n + 1) : 0, alive);
        if (alive) queue_push(sent, cluster->lives[node], QN_LIFE_UNKNOWN, NULL, 0);
    }
}

void cluster_rejoin(struct plane_cluster *cluster, uint16_t node) {
    assert(cluster->planes[node] == NULL);
    struct qn_plane_config config = {.self = node,
                                     .n_nodes = cluster->n,
                                     .seed = cluster->seed,
                                     .first_sequence = (uint64_t)++cluster->lives[node] << 33 | 1};
    int rc = qn_plane_new(&config, &cluster->planes[node]);
    assert(rc == 0);
    for (uint16_t i = 0; i < cluster->n; i++) /* It is told of all that was before. */
        for (uint32_t life = 0; i != node && life < cluster->lives[i] + (cluster->planes[i] == NULL ? 1u : 0u); life++)
            qn_plane_on_down(cluster->planes[node], i, life);
    for (uint16_t i = 0; i < cluster->n; i++)
        if (i != node && cluster->planes[i] != NULL) queue_push_hello(&cluster->queues[node][i], cluster->lives[node]);
    /* Its neighbours, two of the others, learn of it before it can speak to anyone. */
    for (uint16_t i = 1, n = 0; i < cluster->n && n < 2; i++) {
        uint16_t neighbour = (uint16_t)((node + i) % cluster->n);
        if (cluster->planes[neighbour] == NULL) continue;
        while (cluster->queues[node][neighbour].n > 0) {
            int rc_neighbour = deliver(cluster, node, neighbour, false);
            assert(rc_neighbour == 0);
        }
        n++;
    }
    cluster_collect(cluster, node);
}

void cluster_touch_all(struct plane_cluster *cluster) {
    for (uint16_t i = 0; i < cluster->n; i++) {
        struct qn_plane *plane = cluster->planes[i];
        size_t at = 0, n = 0;
        qn_qubit owned[256];
        for (void *value; plane != NULL && qn_map_next(&plane->qubits, &at, NULL, &value);)
            if (((const struct qubit *)value)->owned && n < 256) owned[n++] = ((const struct qubit *)value)->id;
        for (size_t k = 0; k < n; k++) qn_plane_claim(plane, owned[k], 0, (struct qn_memory){0, 0});
        if (plane != NULL) cluster_collect(cluster, i);
    }
    cluster_run(cluster);
}

/* ---- checks ---- */

struct census {
    const struct plane_cluster *cluster;
    struct qn_map hosted; /* Qubit: the plane that has it, active or on probation. */
    struct qn_map good;   /* Group with a member of its host. */
    uint16_t node;
    bool at_rest;
};

static void count(void *context, qn_qubit qubit, uint16_t owner, uint64_t group, bool frozen) {
    struct census *census = context;
    struct qn_plane *plane = census->cluster->planes[census->node];
    if (census->at_rest) {
        assert(!frozen);
        assert(census->cluster->planes[owner] != NULL); /* The dead own nothing. */
    }
    if (frozen) return;
    assert(qn_map_get(&census->hosted, qubit) == NULL); /* I1 */
    must_put(&census->hosted, qubit, plane);
    if (owner == census->node) must_put(&census->good, group, plane);
}

static void check_i2(void *context, qn_qubit qubit, uint16_t owner, uint64_t group, bool frozen) {
    struct census *census = context;
    (void)qubit, (void)owner, (void)frozen;
    assert(qn_map_get(&census->good, group) == census->cluster->planes[census->node]);
}

static void check_owned(const struct plane_cluster *cluster, const struct qn_plane *plane,
                        const struct census *census) {
    size_t i = 0;
    for (void *value; qn_map_next(&plane->qubits, &i, NULL, &value);) {
        const struct qubit *q = value;
        if (q->owned) assert(qn_map_get(&census->hosted, q->id) != NULL);
        assert(q->inquiry == NULL);
    }
    (void)cluster;
}

static void take_census(const struct plane_cluster *cluster, bool at_rest) {
    struct census census = {.cluster = cluster, .at_rest = at_rest};
    for (uint16_t i = 0; i < cluster->n; i++) {
        if (cluster->planes[i] == NULL) continue;
        census.node = i;
        qn_plane_check(cluster->planes[i]);
        qn_plane_each_hosted(cluster->planes[i], count, &census);
    }
    for (uint16_t i = 0; i < cluster->n && at_rest; i++) {
        const struct qn_plane *plane = cluster->planes[i];
        if (plane == NULL) continue;
        census.node = i;
        assert(qn_plane_n_pending(plane) == 0);
        assert(plane->awaited == NULL);
        assert(plane->withheld == NULL);
        assert(plane->early == NULL);
        assert(plane->n_deferred == 0 && plane->probation.len == 0 && plane->frozen.len == 0);
        qn_plane_each_hosted(plane, check_i2, &census);
        check_owned(cluster, plane, &census);
    }
    qn_map_release(&census.hosted);
    qn_map_release(&census.good);
}

void cluster_check(const struct plane_cluster *cluster) { take_census(cluster, false); }

void cluster_check_final(const struct plane_cluster *cluster) {
    assert(cluster_in_flight(cluster) == 0);
    take_census(cluster, true);
}

size_t cluster_n_records(const struct plane_cluster *cluster, uint16_t node) {
    return cluster->planes[node]->qubits.len;
}

int cluster_host_of(const struct plane_cluster *cluster, qn_qubit qubit) {
    for (uint16_t i = 0; i < cluster->n; i++)
        if (cluster->planes[i] != NULL && qubit_is_hosted(qubit_find(cluster->planes[i], qubit))) return i;
    return -1;
}

void cluster_inspect(const struct plane_cluster *cluster, const qn_qubit *qubits, size_t n, uint64_t now_ns,
                     double *ret_tensor) {
    int host = cluster_host_of(cluster, qubits[0]);
    assert(host >= 0);
    int rc = qn_plane_inspect(cluster->planes[host], qubits, n, now_ns, ret_tensor);
    assert(rc == 0);
}
