/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster.h"

#include <assert.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/map.h"
#include "base/rng.h"
#include "plane/plane.h"

enum kind { MESSAGE, WAKE, SESSION_UP };

struct item { /* In the queue: something that happens to a node. */
    uint64_t due_ns, order;
    enum kind kind;
    uint16_t node, peer;
    enum qn_plane_id plane;
    uint64_t epoch; /* Of the session: what a cut swallows. */
    uint8_t *bytes; /* Owned. */
    size_t len;
};

struct session { /* One plane between two neighbours, by (lower, higher). */
    bool cut, up;
    uint64_t epoch;
    uint64_t last_due_ns[2];
};

struct cluster {
    struct cluster_config config;
    uint64_t now_ns, next_order, steps;
    size_t n;
    struct qn_node **nodes;
    uint64_t *incarnations, *wake_ns;
    struct qn_map sessions; /* (plane, lower, higher) -> session */
    struct item *heap;
    size_t len, cap;
    struct qn_rng rng;
};

/* ---- the queue ---- */

static bool before(const struct item *a, const struct item *b) {
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->order < b->order;
}

static void queue(struct cluster *cluster, struct item item) {
    if (cluster->len == cluster->cap) {
        cluster->cap = cluster->cap == 0 ? 1024 : cluster->cap * 2;
        cluster->heap = realloc(cluster->heap, cluster->cap * sizeof *cluster->heap);
        if (cluster->heap == NULL) abort(); /* A simulator without memory cannot go on. */
    }
    item.order = cluster->next_order++;
    size_t i = cluster->len++;
    while (i > 0 && before(&item, &cluster->heap[(i - 1) / 2])) {
        cluster->heap[i] = cluster->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    cluster->heap[i] = item;
}

static struct item pop(struct cluster *cluster) {
    struct item top = cluster->heap[0], last = cluster->heap[--cluster->len];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= cluster->len) break;
        if (child + 1 < cluster->len && before(&cluster->heap[child + 1], &cluster->heap[child])) child++;
        if (!before(&cluster->heap[child], &last)) break;
        cluster->heap[i] = cluster->heap[child];
        i = child;
    }
    cluster->heap[i] = last;
    return top;
}

/* ---- nodes ---- */

static void step(struct cluster *cluster, uint16_t node, struct qn_event event);

static struct session *session_of(const struct cluster *cluster, uint16_t a, uint16_t b, enum qn_plane_id plane) {
    uint16_t low = a < b ? a : b, high = a < b ? b : a;
    return qn_map_get(&cluster->sessions, (uint64_t)plane << 32 | (uint64_t)low << 16 | high);
}

static void send(struct cluster *cluster, uint16_t from, const struct qn_action *action, const uint8_t *bytes) {
    struct session *session = session_of(cluster, from, action->peer, action->plane);
    if (session == NULL || !session->up) return;
    uint64_t due = cluster->now_ns + cluster->config.latency_ns;
    if (cluster->config.jitter_ns > 0) due += qn_rng_below(&cluster->rng, cluster->config.jitter_ns + 1);
    uint64_t *last = &session->last_due_ns[from < action->peer ? 0 : 1];
    if (due < *last) due = *last;
    *last = due;
    struct item item = {.due_ns = due,
                        .kind = MESSAGE,
                        .node = action->peer,
                        .peer = from,
                        .plane = action->plane,
                        .epoch = session->epoch,
                        .len = action->len};
    item.bytes = malloc(action->len);
    if (item.bytes == NULL) abort();
    memcpy(item.bytes, bytes, action->len);
    queue(cluster, item);
}

static void set_up(struct cluster *cluster, uint16_t a, uint16_t b, enum qn_plane_id plane, bool up) {
    struct session *session = session_of(cluster, a, b, plane);
    if (session == NULL || session->up == up) return;
    session->up = up;
    session->epoch++;
    enum qn_event_type type = up ? QN_EVENT_SESSION_UP : QN_EVENT_SESSION_DOWN;
    step(cluster, a,
         (struct qn_event){
             .type = type, .plane = plane, .peer = b, .incarnation = cluster->incarnations[b], .error = -QN_ECLOSED});
    step(cluster, b,
         (struct qn_event){
             .type = type, .plane = plane, .peer = a, .incarnation = cluster->incarnations[a], .error = -QN_ECLOSED});
}

void cluster_cut(struct cluster *cluster, uint16_t a, uint16_t b, enum qn_plane_id plane, bool cut) {
    struct session *session = session_of(cluster, a, b, plane);
    if (session == NULL) return;
    session->cut = cut;
    if (cut)
        set_up(cluster, a, b, plane, false);
    else
        queue(cluster,
              (struct item){.due_ns = cluster->now_ns, .kind = SESSION_UP, .node = a, .peer = b, .plane = plane});
}

static void reply(struct cluster *cluster, uint16_t node, uint64_t client, const uint8_t *bytes, size_t len) {
    Qnet__V1__ControlResponse *response = qnet__v1__control_response__unpack(NULL, len, bytes);
    assert(response != NULL);
    if (cluster->config.on_reply != NULL) cluster->config.on_reply(cluster->config.context, node, client, response);
    qnet__v1__control_response__free_unpacked(response, NULL);
}

static void report(struct cluster *cluster, const uint8_t *bytes, size_t len) {
    if (cluster->config.on_event == NULL) return;
    Qnet__V1__EventInfo *info = qnet__v1__event_info__unpack(NULL, len, bytes);
    assert(info != NULL);
    cluster->config.on_event(cluster->config.context, info);
    qnet__v1__event_info__free_unpacked(info, NULL);
}

struct hosted_check {
    struct qn_map seen;
};

static void visit(void *context, qn_qubit qubit, uint16_t owner, uint64_t group, bool frozen) {
    struct hosted_check *check = context;
    (void)owner;
    (void)group;
    if (frozen) return;
    assert(qn_map_get(&check->seen, qubit) == NULL && "a qubit is hosted by two processes");
    qn_map_put(&check->seen, qubit, check);
}

static void check_all(const struct cluster *cluster) {
    struct hosted_check check = {0};
    for (size_t i = 0; i < cluster->n; i++) {
        qn_node_check(cluster->nodes[i]);
        qn_plane_each_hosted(qn_node_plane(cluster->nodes[i]), visit, &check);
    }
    qn_map_release(&check.seen);
}

static void arm(struct cluster *cluster, uint16_t node) {
    uint64_t deadline = qn_node_deadline_ns(cluster->nodes[node]);
    if (deadline == QN_NEVER || deadline >= cluster->wake_ns[node]) return;
    cluster->wake_ns[node] = deadline;
    queue(cluster,
          (struct item){.due_ns = deadline < cluster->now_ns ? cluster->now_ns : deadline, .kind = WAKE, .node = node});
}

static void step(struct cluster *cluster, uint16_t node, struct qn_event event) {
    const struct qn_actions *actions;
    event.now_ns = cluster->now_ns;
    cluster->steps++;
    qn_node_step(cluster->nodes[node], &event, &actions);
    /* Carrying out an action may step this node again, which reuses the list: take it over first. */
    size_t n = actions->len;
    struct qn_action few[32], *list = n <= 32 ? few : malloc(n * sizeof *list);
    uint8_t *bytes = malloc(actions->bytes.len + 1);
    if (list == NULL || bytes == NULL) abort();
    if (n > 0) memcpy(list, actions->list, n * sizeof *list);
    if (actions->bytes.len > 0) memcpy(bytes, actions->bytes.data, actions->bytes.len);
    for (size_t i = 0; i < n; i++) {
        const struct qn_action *action = &list[i];
        switch (action->type) {
        case QN_ACTION_SEND:
            send(cluster, node, action, bytes + action->offset);
            break;
        case QN_ACTION_REPLY:
            reply(cluster, node, action->client, bytes + action->offset, action->len);
            break;
        case QN_ACTION_EVENT:
            report(cluster, bytes + action->offset, action->len);
            break;
        case QN_ACTION_CUT:
            cluster_cut(cluster, node, action->peer, action->plane, action->on);
            break;
        case QN_ACTION_JOB:
            action->job->run(action->job);
            step(cluster, node, (struct qn_event){.type = QN_EVENT_JOB, .job = action->job});
            break;
        case QN_ACTION_STOPPED:
            break;
        }
    }
    if (list != few) free(list);
    free(bytes);
    arm(cluster, node);
    if (cluster->config.check) check_all(cluster);
}

/* ---- life ---- */

int cluster_new(const struct cluster_config *config, struct cluster **ret_cluster) {
    struct cluster *cluster = calloc(1, sizeof *cluster);
    if (cluster == NULL) return -QN_ENOMEM;
    cluster->config = *config;
    cluster->n = config->topology->n_nodes;
    cluster->nodes = calloc(cluster->n, sizeof(struct qn_node *));
    cluster->incarnations = calloc(cluster->n, sizeof *cluster->incarnations);
    cluster->wake_ns = calloc(cluster->n, sizeof *cluster->wake_ns);
    if (cluster->nodes == NULL || cluster->incarnations == NULL || cluster->wake_ns == NULL) {
        cluster_free(cluster);
        return -QN_ENOMEM;
    }
    qn_rng_init(&cluster->rng, config->seed, "latency", 0);
    for (size_t i = 0; i < cluster->n; i++) {
        struct qn_rng rng;
        qn_rng_init(&rng, config->seed, "secret", i);
        struct qn_node_config node = {
            .topology = config->topology, .self = (uint16_t)i, .resend_ns = 1000000000, .software = "qnetsim"};
        node.incarnation = cluster->incarnations[i] = qn_rng_u64(&rng) | 1;
        for (size_t k = 0; k < sizeof node.secret; k++) node.secret[k] = (uint8_t)qn_rng_u64(&rng);
        int rc = qn_node_new(&node, &cluster->nodes[i]);
        if (rc < 0) {
            cluster_free(cluster);
            return rc;
        }
        cluster->wake_ns[i] = QN_NEVER;
    }
    for (uint16_t a = 0; a < cluster->n; a++)
        for (uint16_t b = (uint16_t)(a + 1); b < cluster->n; b++) {
            if (!qn_topology_is_neighbour(config->topology, a, b)) continue;
            for (int plane = 0; plane < 2; plane++) {
                struct session *session = calloc(1, sizeof *session);
                if (session == NULL ||
                    qn_map_put(&cluster->sessions, (uint64_t)plane << 32 | (uint64_t)a << 16 | b, session) < 0)
                    abort();
                queue(cluster,
                      (struct item){.kind = SESSION_UP, .node = a, .peer = b, .plane = (enum qn_plane_id)plane});
            }
        }
    *ret_cluster = cluster;
    return 0;
}

void cluster_free(struct cluster *cluster) {
    if (cluster == NULL) return;
    for (size_t i = 0; cluster->nodes != NULL && i < cluster->n; i++) qn_node_free(cluster->nodes[i]);
    for (size_t i = 0; i < cluster->len; i++) free(cluster->heap[i].bytes);
    size_t i = 0;
    for (void *session; qn_map_next(&cluster->sessions, &i, NULL, &session);) free(session);
    qn_map_release(&cluster->sessions);
    free(cluster->heap);
    free(cluster->nodes);
    free(cluster->incarnations);
    free(cluster->wake_ns);
    free(cluster);
}

uint64_t cluster_now(const struct cluster *cluster) { return cluster->now_ns; }
uint64_t cluster_steps(const struct cluster *cluster) { return cluster->steps; }
struct qn_node *cluster_node(const struct cluster *cluster, uint16_t node) {
    return cluster->nodes[node];
}

bool cluster_step(struct cluster *cluster) {
    if (cluster->len == 0) return false;
    struct item item = pop(cluster);
    assert(item.due_ns >= cluster->now_ns);
    cluster->now_ns = item.due_ns;
    const struct session *session;
    switch (item.kind) {
    case MESSAGE:
        session = session_of(cluster, item.node, item.peer, item.plane);
        if (session->epoch == item.epoch)
            step(cluster, item.node,
                 (struct qn_event){.type = QN_EVENT_ENVELOPE,
                                   .plane = item.plane,
                                   .peer = item.peer,
                                   .bytes = item.bytes,
                                   .len = item.len});
        free(item.bytes);
        break;
    case SESSION_UP:
        session = session_of(cluster, item.node, item.peer, item.plane);
        if (!session->cut) set_up(cluster, item.node, item.peer, item.plane, true);
        break;
    case WAKE:
        if (cluster->wake_ns[item.node] > item.due_ns) break; /* An earlier one took its place. */
        cluster->wake_ns[item.node] = QN_NEVER;
        step(cluster, item.node, (struct qn_event){.type = QN_EVENT_TIME});
        break;
    }
    return true;
}

void cluster_run_until(struct cluster *cluster, uint64_t time_ns) {
    while (cluster->len > 0 && cluster->heap[0].due_ns <= time_ns) cluster_step(cluster);
    if (cluster->now_ns < time_ns) cluster->now_ns = time_ns;
}

bool cluster_run_while(struct cluster *cluster, bool (*done)(void *context), void *context, uint64_t limit_ns) {
    uint64_t end = cluster->now_ns + limit_ns;
    while (!done(context) && cluster->len > 0 && cluster->heap[0].due_ns <= end) cluster_step(cluster);
    return done(context);
}

void cluster_request(struct cluster *cluster, uint16_t node, uint64_t client, const Qnet__V1__ControlRequest *request) {
    size_t len = qnet__v1__control_request__get_packed_size(request);
    uint8_t *bytes = malloc(len + 1);
    if (bytes == NULL) abort();
    qnet__v1__control_request__pack(request, bytes);
    step(cluster, node, (struct qn_event){.type = QN_EVENT_REQUEST, .client = client, .bytes = bytes, .len = len});
    free(bytes);
}
