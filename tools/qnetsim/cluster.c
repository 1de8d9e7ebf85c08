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
#include "disk.h"
#include "plane/plane.h"
#include "queue.h"

struct session { /* One plane between two neighbours, by (lower, higher). */
    bool cut, up;
    bool cut_by[2]; /* By an operator, at the lower and at the higher. */
    uint64_t epoch;
    uint64_t last_due_ns[2];
    uint64_t extra_ns;
};

struct life {             /* One node: its present life. */
    struct qn_node *node; /* NULL: down. */
    uint64_t incarnation, wake_ns, number;
    struct disk disk; /* Over all lives. */
    bool store_due, store_fault;
    bool paused;
    uint64_t pauses;      /* How often. */
    struct item *waiting; /* What has come while it was paused, in order. */
    size_t n_waiting, cap_waiting;
};

struct cluster {
    struct cluster_config config;
    uint64_t now_ns, steps, trace;
    size_t n;
    struct life *lives;
    struct qn_map sessions; /* (plane, lower, higher) -> session */
    struct queue queue;
    struct qn_rng rng, faults;
    struct qn_map hosted; /* Of check_all; kept for its table. */
};

/* ---- checks and traces ---- */

static void mix(struct cluster *cluster, const void *bytes, size_t len) { /* FNV-1a */
    for (const uint8_t *at = bytes; len > 0 && cluster->config.trace; len--, at++)
        cluster->trace = (cluster->trace ^ *at) * UINT64_C(0x100000001b3);
}

/* Do both count the same nodes as alive? If not, each may have kept a qubit that the other has, too, until they meet.
 */
static bool agree(const struct cluster *cluster, const struct life *one, const struct life *other) {
    for (uint16_t i = 0; i < cluster->n; i++)
        if (qn_node_gave_up(one->node, i, cluster->lives[i].incarnation) !=
            qn_node_gave_up(other->node, i, cluster->lives[i].incarnation))
            return false;
    return true;
}

struct census {
    struct cluster *cluster;
    struct life *host;
};

static void visit(void *context, qn_qubit qubit, uint16_t owner, uint64_t group, bool frozen) {
    struct census *census = context;
    struct qn_map *seen = &census->cluster->hosted;
    (void)owner;
    (void)group;
    if (frozen) return;
    const struct life *other = qn_map_get(seen, qubit);
    assert((other == NULL || !agree(census->cluster, census->host, other)) && "a qubit is hosted by two processes");
    qn_map_put(seen, qubit, census->host);
}

static void check_all(struct cluster *cluster, uint16_t stepped) {
    qn_node_check(cluster->lives[stepped].node);
    if (cluster->hosted.cap > 0) memset(cluster->hosted.slots, 0, cluster->hosted.cap * sizeof *cluster->hosted.slots);
    cluster->hosted.len = 0;
    for (size_t i = 0; i < cluster->n; i++) {
        struct census census = {cluster, &cluster->lives[i]};
        if (census.host->node != NULL) qn_plane_each_hosted(qn_node_plane(census.host->node), visit, &census);
    }
}

/* ---- sessions ---- */

static void step(struct cluster *cluster, uint16_t node, struct qn_event event);

static struct session *session_of(const struct cluster *cluster, uint16_t a, uint16_t b, enum qn_plane_id plane) {
    uint16_t low = a < b ? a : b, high = a < b ? b : a;
    return qn_map_get(&cluster->sessions, (uint64_t)plane << 32 | (uint64_t)low << 16 | high);
}

static uint64_t jitter(struct qn_rng *rng, uint64_t most_ns) {
    return most_ns > 0 ? qn_rng_below(rng, most_ns + 1) : 0;
}

static void send(struct cluster *cluster, uint16_t from, const struct qn_action *action, const uint8_t *bytes) {
    struct session *session = session_of(cluster, from, action->peer, action->plane);
    if (session == NULL || !session->up || cluster->lives[action->peer].node == NULL) return;
    uint64_t due = cluster->now_ns + cluster->config.latency_ns + session->extra_ns;
    due += jitter(&cluster->rng, cluster->config.jitter_ns);
    uint64_t *last = &session->last_due_ns[from < action->peer ? 0 : 1];
    if (due < *last) due = *last;
    *last = due;
    struct item item = {.due_ns = due,
                        .kind = ITEM_MESSAGE,
                        .node = action->peer,
                        .peer = from,
                        .plane = action->plane,
                        .epoch = session->epoch,
                        .len = action->len};
    item.bytes = malloc(action->len);
    if (item.bytes == NULL) abort();
    memcpy(item.bytes, bytes, action->len);
    queue_push(&cluster->queue, item);
}

static void wait_for(struct cluster *cluster, struct life *life, struct item item) { /* Until the node goes on. */
    if (life->n_waiting == life->cap_waiting) {
        life->cap_waiting = life->cap_waiting == 0 ? 16 : life->cap_waiting * 2;
        life->waiting = realloc(life->waiting, life->cap_waiting * sizeof *life->waiting);
        if (life->waiting == NULL) abort();
    }
    (void)cluster;
    life->waiting[life->n_waiting++] = item;
}

static void notice(struct cluster *cluster, uint16_t node, uint16_t peer, enum qn_plane_id plane, bool up) {
    struct life *life = &cluster->lives[node];
    if (life->node == NULL) return;
    if (life->paused && !up) {
        wait_for(cluster, life, (struct item){.kind = ITEM_SESSION_DOWN, .node = node, .peer = peer, .plane = plane});
        return;
    }
    step(cluster, node,
         (struct qn_event){.type = up ? QN_EVENT_SESSION_UP : QN_EVENT_SESSION_DOWN,
                           .plane = plane,
                           .peer = peer,
                           .incarnation = cluster->lives[peer].incarnation,
                           .error = -QN_ECLOSED});
}

static void set_up(struct cluster *cluster, uint16_t a, uint16_t b, enum qn_plane_id plane, bool up) {
    struct session *session = session_of(cluster, a, b, plane);
    if (session == NULL || session->up == up) return;
    session->up = up;
    session->epoch++;
    notice(cluster, a, b, plane, up);
    notice(cluster, b, a, plane, up);
}

static bool may_be_up(const struct cluster *cluster, uint16_t a, uint16_t b, const struct session *session) {
    const struct life *one = &cluster->lives[a], *other = &cluster->lives[b];
    return !session->cut && !session->cut_by[0] && !session->cut_by[1] && one->node != NULL && other->node != NULL &&
           !one->paused && !other->paused;
}

static void reconnect(struct cluster *cluster, uint16_t a, uint16_t b, enum qn_plane_id plane) {
    queue_push(&cluster->queue,
               (struct item){.due_ns = cluster->now_ns + jitter(&cluster->faults, cluster->config.jitter_ns),
                             .kind = ITEM_SESSION_UP,
                             .node = a,
                             .peer = b,
                             .plane = plane});
}

void cluster_cut(struct cluster *cluster, uint16_t a, uint16_t b, enum qn_plane_id plane, bool cut) {
    struct session *session = session_of(cluster, a, b, plane);
    if (session == NULL) return;
    session->cut = cut;
    if (cut)
        set_up(cluster, a, b, plane, false);
    else
        reconnect(cluster, a, b, plane);
}

static void cut_by_operator(struct cluster *cluster, uint16_t node, uint16_t peer, enum qn_plane_id plane, bool cut) {
    struct session *session = session_of(cluster, node, peer, plane);
    if (session == NULL) return;
    session->cut_by[node < peer ? 0 : 1] = cut;
    if (cut)
        set_up(cluster, node, peer, plane, false);
    else
        reconnect(cluster, node, peer, plane);
}

void cluster_slow(struct cluster *cluster, uint16_t a, uint16_t b, enum qn_plane_id plane, uint64_t extra_ns) {
    struct session *session = session_of(cluster, a, b, plane);
    if (session != NULL) session->extra_ns = extra_ns;
}

bool cluster_session_is_up(const struct cluster *cluster, uint16_t a, uint16_t b, enum qn_plane_id plane) {
    const struct session *session = session_of(cluster, a, b, plane);
    return session != NULL && session->up;
}

/* ---- nodes ---- */

static void reply(struct cluster *cluster, uint16_t node, uint64_t client, const uint8_t *bytes, size_t len) {
    Qnet__V1__ControlResponse *response = qnet__v1__control_response__unpack(NULL, len, bytes);
    assert(response != NULL);
    mix(cluster, bytes, len);
    if (cluster->config.on_reply != NULL) cluster->config.on_reply(cluster->config.context, node, client, response);
    qnet__v1__control_response__free_unpacked(response, NULL);
}

static void report(struct cluster *cluster, const uint8_t *bytes, size_t len) {
    mix(cluster, bytes, len);
    if (cluster->config.on_event == NULL) return;
    Qnet__V1__EventInfo *info = qnet__v1__event_info__unpack(NULL, len, bytes);
    assert(info != NULL);
    cluster->config.on_event(cluster->config.context, info);
    qnet__v1__event_info__free_unpacked(info, NULL);
}

static void arm(struct cluster *cluster, uint16_t node) {
    struct life *life = &cluster->lives[node];
    if (life->node == NULL) return;
    uint64_t deadline = qn_node_deadline_ns(life->node);
    if (deadline == QN_NEVER || deadline >= life->wake_ns) return;
    life->wake_ns = deadline;
    queue_push(&cluster->queue, (struct item){.due_ns = deadline < cluster->now_ns ? cluster->now_ns : deadline,
                                              .kind = ITEM_WAKE,
                                              .node = node,
                                              .epoch = life->number});
}

#define DISK_RETRY_NS 100000000

static void commit_later(struct cluster *cluster, uint16_t node, uint64_t after_ns) {
    struct life *life = &cluster->lives[node];
    if (life->store_due) return;
    life->store_due = true;
    queue_push(
        &cluster->queue,
        (struct item){.due_ns = cluster->now_ns + after_ns, .kind = ITEM_STORE, .node = node, .epoch = life->number});
}

/* All that waits is one transaction, as in the daemon. */
static void commit(struct cluster *cluster, uint16_t node) {
    struct life *life = &cluster->lives[node];
    life->store_due = false;
    if (life->disk.full != life->store_fault) {
        life->store_fault = life->disk.full;
        step(cluster, node,
             (struct qn_event){.type = QN_EVENT_STORE_FAULT, .error = life->store_fault ? -QN_ESTORE : 0});
    }
    if (life->disk.full) {
        commit_later(cluster, node, DISK_RETRY_NS);
        return;
    }
    for (size_t n = life->disk.n_waiting; n > 0; n--) {
        struct qn_buf taken = {0};
        struct qn_store_op *op = disk_commit(&life->disk, cluster->now_ns, &taken);
        step(cluster, node,
             (struct qn_event){.type = QN_EVENT_STORED, .number = op->number, .bytes = taken.data, .len = taken.len});
        qn_buf_release(&taken);
        qn_store_op_free(op);
    }
}

static void reconnect_all(struct cluster *cluster, uint16_t node);

/* Its life was declared over: sessions end, and begin again under the new one. */
static void start_anew(struct cluster *cluster, uint16_t node, uint64_t incarnation) {
    for (uint16_t peer = 0; peer < cluster->n; peer++)
        for (int plane = 0; plane < 2; plane++) set_up(cluster, node, peer, (enum qn_plane_id)plane, false);
    cluster->lives[node].incarnation = incarnation;
    reconnect_all(cluster, node);
}

static void carry_out(struct cluster *cluster, uint16_t node, const struct qn_action *action, const uint8_t *bytes) {
    switch (action->type) {
    case QN_ACTION_SEND:
        send(cluster, node, action, bytes);
        break;
    case QN_ACTION_REPLY:
        reply(cluster, node, action->client, bytes, action->len);
        break;
    case QN_ACTION_EVENT:
        report(cluster, bytes, action->len);
        break;
    case QN_ACTION_CUT:
        cut_by_operator(cluster, node, action->peer, action->plane, action->on);
        break;
    case QN_ACTION_JOB:
        action->job->run(action->job);
        queue_push(&cluster->queue,
                   (struct item){.due_ns = cluster->now_ns + jitter(&cluster->rng, cluster->config.job_ns),
                                 .kind = ITEM_JOB,
                                 .node = node,
                                 .epoch = cluster->lives[node].number,
                                 .job = action->job});
        break;
    case QN_ACTION_STORE:
        disk_push(&cluster->lives[node].disk, action->store);
        commit_later(cluster, node, jitter(&cluster->rng, cluster->config.store_ns));
        break;
    case QN_ACTION_INCARNATION:
        start_anew(cluster, node, action->incarnation);
        break;
    case QN_ACTION_STOPPED:
        break;
    }
}

static void step(struct cluster *cluster, uint16_t node, struct qn_event event) {
    struct life *life = &cluster->lives[node];
    const struct qn_actions *actions;
    event.now_ns = cluster->now_ns;
    cluster->steps++;
    uint64_t what[4] = {event.now_ns, node, (uint64_t)event.type, event.peer};
    mix(cluster, what, sizeof what);
    mix(cluster, event.bytes, event.len);
    qn_node_step(life->node, &event, &actions);
    /* Carrying out an action may step this node again, which reuses the list: take it over first. */
    size_t n = actions->len;
    struct qn_action few[32], *list = n <= 32 ? few : malloc(n * sizeof *list);
    size_t len = 0, at = 0;
    for (size_t i = 0; i < n; i++) len += actions->list[i].len;
    uint8_t *bytes = malloc(len + 1);
    if (list == NULL || bytes == NULL) abort();
    for (size_t i = 0; i < n; i++) {
        list[i] = actions->list[i];
        if (list[i].len > 0) memcpy(bytes + at, qn_action_bytes(actions, &list[i]), list[i].len);
        at += list[i].len;
    }
    at = 0;
    for (size_t i = 0; i < n; i++) {
        carry_out(cluster, node, &list[i], bytes + at);
        at += list[i].len;
    }
    if (list != few) free(list);
    free(bytes);
    arm(cluster, node);
    if (cluster->config.check) check_all(cluster, node);
    if (cluster->config.on_step != NULL) cluster->config.on_step(cluster->config.context, node, &event);
}

static void happen(struct cluster *cluster, struct item *item) { /* Takes what the item owns. */
    struct life *life = &cluster->lives[item->node];
    struct qn_event event = {
        .plane = item->plane, .peer = item->peer, .bytes = item->bytes, .len = item->len, .client = item->client};
    switch (item->kind) {
    case ITEM_MESSAGE:
        event.type = QN_EVENT_ENVELOPE;
        break;
    case ITEM_REQUEST:
        event.type = QN_EVENT_REQUEST;
        break;
    case ITEM_CLIENT_GONE:
        event.type = QN_EVENT_CLIENT_GONE;
        break;
    case ITEM_JOB:
        event.type = QN_EVENT_JOB;
        event.job = item->job;
        item->job = NULL;
        break;
    case ITEM_STORE:
        commit(cluster, item->node);
        item_free(item);
        return;
    case ITEM_SESSION_DOWN:
        event.type = QN_EVENT_SESSION_DOWN;
        event.error = -QN_ECLOSED;
        break;
    default:
        life->wake_ns = QN_NEVER;
        event.type = QN_EVENT_TIME;
        break;
    }
    step(cluster, item->node, event);
    item_free(item);
}

/* ---- life ---- */

static int start(struct cluster *cluster, uint16_t i) {
    struct life *life = &cluster->lives[i];
    struct qn_rng rng;
    life->number++;
    qn_rng_init(&rng, cluster->config.seed, "secret", life->number == 1 ? i : (life->number - 1) << 16 | i);
    struct qn_node_config node = {.topology = cluster->config.topology,
                                  .self = i,
                                  .resend_ns = 1000000000,
                                  .now_ns = cluster->now_ns,
                                  .public_seed = true,
                                  .threads = cluster->config.threads,
                                  .software = "qnetsim"};
    node.incarnation = life->incarnation = qn_rng_u64(&rng) | 1;
    for (size_t k = 0; k < sizeof node.secret; k++) node.secret[k] = (uint8_t)qn_rng_u64(&rng);
    life->wake_ns = QN_NEVER;
    life->paused = life->store_due = life->store_fault = false;
    struct qn_store_record *restored = disk_restore(&life->disk, cluster->now_ns);
    node.restored = restored;
    node.n_restored = life->disk.len;
    if (cluster->config.secrets != NULL)
        node.secrets = cluster->config.secrets(cluster->config.context, i, &node.n_secrets);
    int rc = qn_node_new(&node, &life->node);
    free(restored);
    return rc;
}

static void add_sessions(struct cluster *cluster, uint16_t a) {
    for (uint16_t b = (uint16_t)(a + 1); b < cluster->n; b++) {
        if (!qn_topology_is_neighbour(cluster->config.topology, a, b)) continue;
        for (int plane = 0; plane < 2; plane++) {
            struct session *session = calloc(1, sizeof *session);
            if (session == NULL ||
                qn_map_put(&cluster->sessions, (uint64_t)plane << 32 | (uint64_t)a << 16 | b, session) < 0)
                abort();
            queue_push(&cluster->queue,
                       (struct item){.kind = ITEM_SESSION_UP, .node = a, .peer = b, .plane = (enum qn_plane_id)plane});
        }
    }
}

int cluster_new(const struct cluster_config *config, struct cluster **ret_cluster) {
    struct cluster *cluster = calloc(1, sizeof *cluster);
    if (cluster == NULL) return -QN_ENOMEM;
    cluster->config = *config;
    cluster->n = config->topology->n_nodes;
    cluster->trace = UINT64_C(0xcbf29ce484222325);
    cluster->lives = calloc(cluster->n, sizeof *cluster->lives);
    int rc = cluster->lives == NULL ? -QN_ENOMEM : 0;
    qn_rng_init(&cluster->rng, config->seed, "latency", 0);
    qn_rng_init(&cluster->faults, config->seed, "faults", 0);
    for (uint16_t i = 0; rc == 0 && i < cluster->n; i++) rc = start(cluster, i);
    if (rc < 0) {
        cluster_free(cluster);
        return rc;
    }
    for (uint16_t a = 0; a < cluster->n; a++) add_sessions(cluster, a);
    *ret_cluster = cluster;
    return 0;
}

static void end(struct life *life) {
    for (size_t i = 0; i < life->n_waiting; i++) item_free(&life->waiting[i]);
    life->n_waiting = 0;
    qn_node_free(life->node);
    life->node = NULL;
    life->paused = false;
}

void cluster_free(struct cluster *cluster) {
    if (cluster == NULL) return;
    for (size_t i = 0; cluster->lives != NULL && i < cluster->n; i++) {
        end(&cluster->lives[i]);
        disk_release(&cluster->lives[i].disk);
        free(cluster->lives[i].waiting);
    }
    queue_release(&cluster->queue);
    size_t i = 0;
    for (void *session; qn_map_next(&cluster->sessions, &i, NULL, &session);) free(session);
    qn_map_release(&cluster->sessions);
    qn_map_release(&cluster->hosted);
    free(cluster->lives);
    free(cluster);
}

void cluster_crash(struct cluster *cluster, uint16_t node) {
    struct disk *disk = &cluster->lives[node].disk;
    if (cluster->lives[node].node == NULL) return;
    /* What was being written may be durable, although the node was not told. */
    if (disk->n_waiting > 0 && !disk->full && qn_rng_below(&cluster->faults, 2) == 0)
        for (size_t n = disk->n_waiting; n > 0; n--) {
            struct qn_buf taken = {0};
            qn_store_op_free(disk_commit(disk, cluster->now_ns, &taken));
            qn_buf_release(&taken);
        }
    disk_forget_waiting(disk);
    end(&cluster->lives[node]);
    for (uint16_t peer = 0; peer < cluster->n; peer++)
        for (int plane = 0; plane < 2; plane++) {
            struct session *session = session_of(cluster, node, peer, (enum qn_plane_id)plane);
            if (session == NULL) continue;
            session->cut_by[node < peer ? 0 : 1] = false;
            if (!session->up) continue;
            queue_push(&cluster->queue,
                       (struct item){.due_ns = cluster->now_ns + jitter(&cluster->faults, cluster->config.notice_ns),
                                     .kind = ITEM_SESSION_LOST,
                                     .node = peer,
                                     .peer = node,
                                     .plane = (enum qn_plane_id)plane,
                                     .epoch = session->epoch});
        }
}

static void reconnect_all(struct cluster *cluster, uint16_t node) {
    for (uint16_t peer = 0; peer < cluster->n; peer++)
        for (int plane = 0; plane < 2; plane++)
            if (session_of(cluster, node, peer, (enum qn_plane_id)plane) != NULL)
                reconnect(cluster, node, peer, (enum qn_plane_id)plane);
}

void cluster_start(struct cluster *cluster, uint16_t node) {
    if (cluster->lives[node].node != NULL) return;
    for (uint16_t peer = 0; peer < cluster->n; peer++) /* Now at the latest they have noticed. */
        for (int plane = 0; plane < 2; plane++) set_up(cluster, node, peer, (enum qn_plane_id)plane, false);
    if (start(cluster, node) < 0) abort();
    reconnect_all(cluster, node);
}

void cluster_fill_disk(struct cluster *cluster, uint16_t node, bool full) { cluster->lives[node].disk.full = full; }

const struct disk *cluster_disk(const struct cluster *cluster, uint16_t node) { return &cluster->lives[node].disk; }

void cluster_pause(struct cluster *cluster, uint16_t node) {
    struct life *life = &cluster->lives[node];
    if (life->node == NULL || life->paused) return;
    life->paused = true;
    life->pauses++;
    for (uint16_t peer = 0; peer < cluster->n && cluster->config.silence_ns > 0; peer++)
        for (int plane = 0; plane < 2; plane++) {
            const struct session *session = session_of(cluster, node, peer, (enum qn_plane_id)plane);
            if (session == NULL || !session->up) continue;
            queue_push(&cluster->queue, (struct item){.due_ns = cluster->now_ns + cluster->config.silence_ns,
                                                      .kind = ITEM_SESSION_LOST,
                                                      .node = peer,
                                                      .peer = node,
                                                      .plane = (enum qn_plane_id)plane,
                                                      .epoch = session->epoch,
                                                      .client = life->pauses});
        }
}

void cluster_resume(struct cluster *cluster, uint16_t node) {
    struct life *life = &cluster->lives[node];
    if (life->node == NULL || !life->paused) return;
    life->paused = false;
    struct item *waiting = life->waiting;
    size_t n = life->n_waiting;
    life->waiting = NULL;
    life->n_waiting = life->cap_waiting = 0;
    for (size_t i = 0; i < n; i++) happen(cluster, &waiting[i]);
    free(waiting);
    life->wake_ns = QN_NEVER;
    arm(cluster, node);
    reconnect_all(cluster, node);
}

uint64_t cluster_now(const struct cluster *cluster) { return cluster->now_ns; }
uint64_t cluster_steps(const struct cluster *cluster) { return cluster->steps; }
uint64_t cluster_trace(const struct cluster *cluster) { return cluster->trace; }
struct qn_node *cluster_node(const struct cluster *cluster, uint16_t node) {
    return cluster->lives[node].node;
}
uint64_t cluster_incarnation(const struct cluster *cluster, uint16_t node) { return cluster->lives[node].incarnation; }
bool cluster_is_paused(const struct cluster *cluster, uint16_t node) { return cluster->lives[node].paused; }

/* ---- running ---- */

static void to_node(struct cluster *cluster, struct item *item) {
    struct life *life = &cluster->lives[item->node];
    if (life->node == NULL)
        item_free(item);
    else if (life->paused)
        wait_for(cluster, life, *item);
    else
        happen(cluster, item);
}

static bool is_lost(const struct life *peer, const struct item *item) { /* Dead, or still in that pause. */
    return peer->node == NULL || (peer->paused && peer->pauses == item->client);
}

bool cluster_step(struct cluster *cluster) {
    if (cluster->queue.len == 0) return false;
    struct item item = queue_pop(&cluster->queue);
    assert(item.due_ns >= cluster->now_ns);
    cluster->now_ns = item.due_ns;
    const struct session *session = session_of(cluster, item.node, item.peer, item.plane);
    const struct life *life = &cluster->lives[item.node];
    bool obsolete = false;
    switch (item.kind) {
    case ITEM_SESSION_UP:
        if (may_be_up(cluster, item.node, item.peer, session)) set_up(cluster, item.node, item.peer, item.plane, true);
        return true;
    case ITEM_SESSION_LOST:
        if (session->epoch == item.epoch && is_lost(&cluster->lives[item.peer], &item))
            set_up(cluster, item.node, item.peer, item.plane, false);
        return true;
    case ITEM_MESSAGE:
        obsolete = session->epoch != item.epoch;
        break;
    case ITEM_JOB:
    case ITEM_STORE:
        obsolete = life->number != item.epoch;
        break;
    case ITEM_WAKE: /* Another one may have taken its place. */
        obsolete = life->number != item.epoch || life->wake_ns > item.due_ns || life->paused;
        break;
    default:
        break;
    }
    if (obsolete)
        item_free(&item);
    else
        to_node(cluster, &item);
    return true;
}

void cluster_run_until(struct cluster *cluster, uint64_t time_ns) {
    while (cluster->queue.len > 0 && cluster->queue.heap[0].due_ns <= time_ns) cluster_step(cluster);
    if (cluster->now_ns < time_ns) cluster->now_ns = time_ns;
}

bool cluster_run_while(struct cluster *cluster, bool (*done)(void *context), void *context, uint64_t limit_ns) {
    uint64_t end_ns = cluster->now_ns + limit_ns;
    while (!done(context) && cluster->queue.len > 0 && cluster->queue.heap[0].due_ns <= end_ns) cluster_step(cluster);
    return done(context);
}

bool cluster_request(struct cluster *cluster, uint16_t node, uint64_t client, const Qnet__V1__ControlRequest *request) {
    if (cluster->lives[node].node == NULL) return false;
    size_t len = qnet__v1__control_request__get_packed_size(request);
    uint8_t *bytes = malloc(len + 1);
    if (bytes == NULL) abort();
    qnet__v1__control_request__pack(request, bytes);
    struct item item = {.kind = ITEM_REQUEST, .node = node, .client = client, .bytes = bytes, .len = len};
    to_node(cluster, &item);
    return true;
}

bool cluster_client_gone(struct cluster *cluster, uint16_t node, uint64_t client) {
    if (cluster->lives[node].node == NULL) return false;
    struct item item = {.kind = ITEM_CLIENT_GONE, .node = node, .client = client};
    to_node(cluster, &item);
    return true;
}
