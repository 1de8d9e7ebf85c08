/* SPDX-License-Identifier: Apache-2.0 */
/* A node as a function: an event comes in, the protocols run, actions go out.
 *
 * A step takes the event to whoever it is for, fires the timers that are due, hands out what the node has sent to
 * itself, and carries out what the quantum plane has produced, until nothing is left to do at this instant. Work is
 * bounded: what one event may cause is bounded by the queues' limits. */
#include "node/node.h"

#include <assert.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/internal.h"
#include "node/keys.h"

#define SCRATCH_LEAST 4096 /* So that an answer of usual length is not lost for want of memory. */

/* As if it were lost on the way: channels send again, users time out. */
static void drop(struct qn_node *node, const struct qn_action *action) {
    node->n_dropped++;
    if (action->job != NULL) action->job->free(action->job);
}

static struct qn_action *append_action(struct qn_node *node, const struct qn_action *action) { /* NULL: dropped. */
    struct qn_actions *actions = &node->actions;
    if (actions->len == actions->cap) {
        size_t cap = actions->cap == 0 ? 64 : actions->cap * 2;
        struct qn_action *list = realloc(actions->list, cap * sizeof *list);
        if (list == NULL) {
            drop(node, action);
            return NULL;
        }
        actions->list = list;
        actions->cap = cap;
    }
    actions->list[actions->len] = *action;
    return &actions->list[actions->len++];
}

void node_act(struct qn_node *node, struct qn_action action, const void *bytes, size_t len) {
    action.offset = node->actions.bytes.len;
    action.len = len;
    if (qn_buf_append(&node->actions.bytes, bytes, len) < 0)
        drop(node, &action);
    else
        append_action(node, &action);
}

void node_act_kept(struct qn_node *node, struct qn_action action, struct qn_channel_item *item, const uint8_t *bytes,
                   size_t len) {
    if (node->n_kept == node->cap_kept) {
        size_t cap = node->cap_kept == 0 ? 16 : node->cap_kept * 2;
        struct qn_channel_item **kept = realloc(node->kept, cap * sizeof(struct qn_channel_item *));
        if (kept == NULL) {
            drop(node, &action);
            return;
        }
        node->kept = kept;
        node->cap_kept = cap;
    }
    action.kept = bytes;
    action.len = len;
    if (append_action(node, &action) == NULL) return;
    qn_channel_keep(item);
    node->kept[node->n_kept++] = item;
}

static void clear_actions(struct qn_node *node) {
    if (node->wipe_actions) sodium_memzero(node->actions.bytes.data, node->actions.bytes.len);
    node->wipe_actions = false;
    node->actions.len = node->actions.bytes.len = 0;
    while (node->n_kept > 0) qn_channel_drop(node->kept[--node->n_kept]);
}

void node_event(struct qn_node *node, unsigned level, const char *code, const char *subject, const char *format, ...) {
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    Qnet__V1__EventInfo info = QNET__V1__EVENT_INFO__INIT;
    info.t_ns = node->now_ns;
    info.node = (char *)(uintptr_t)node_name(node, node->self);
    info.code = (char *)(uintptr_t)code;
    info.subject = (char *)(uintptr_t)subject;
    info.text = text;
    info.level = level;
    uint8_t packed[640];
    size_t len = qnet__v1__event_info__get_packed_size(&info);
    if (len > sizeof packed) return;
    qnet__v1__event_info__pack(&info, packed);
    node_act(node, (struct qn_action){.type = QN_ACTION_EVENT}, packed, len);
}

void node_timer(struct qn_node *node, struct qn_timer *timer, uint64_t due_ns) {
    if (qn_timers_set(&node->timers, timer, due_ns) < 0) abort(); /* What is never late would never be answered. */
}

const char *node_name(const struct qn_node *node, uint16_t id) {
    return id < node->topology->n_nodes ? node->topology->nodes[id].name : "?";
}

const char *link_name(const struct qn_node *node, uint16_t link) {
    return link < node->topology->n_links ? node->topology->links[link].name : "?";
}

int64_t node_duration(double seconds) {
    return seconds <= 0 ? 0 : seconds >= 9e9 ? INT64_MAX : (int64_t)(seconds * 1e9);
}

static int init_links(struct qn_node *node) {
    const struct qn_topology *topology = node->topology;
    node->links = calloc(topology->n_links + 1, sizeof *node->links);
    if (node->links == NULL) return -QN_ENOMEM;
    for (size_t i = 0; i < topology->n_links; i++) {
        const struct qn_topo_link *link = &topology->links[i];
        struct link_state *state = &node->links[i];
        state->mine = link->a == node->self || link->b == node->self || link->via == node->self;
        state->qber = -1;
        state->planned = link->kind == QN_LINK_ENTANGLEMENT && qn_link_plan(topology, link, &state->plan) == 0;
    }
    return station_init(node);
}

/* Numbers of different incarnations must differ: 15 bits of the incarnation on top of a counter. */
int node_begin_life(struct qn_node *node) {
    uint64_t epoch = node->incarnation & 0x7fff;
    struct qn_plane_config config = {
        .self = node->self,
        .n_nodes = (uint16_t)node->topology->n_nodes,
        .rank = node->hardware->role == QN_ROLE_MEMORY ? 0 : 1,
        .seed = node->topology->seed,
        .first_sequence = epoch << 33 | 1,
        .now_ns = node->now_ns,
    };
    struct qn_plane *plane;
    qn_csprng_bytes(&node->secret, config.secret, sizeof config.secret);
    int rc = qn_plane_new(&config, &plane);
    sodium_memzero(config.secret, sizeof config.secret);
    if (rc < 0) return rc;
    qn_plane_free(node->plane);
    node->plane = plane;
    node->next_create = (uint32_t)(epoch << 17);
    node->next_circuit = node->next_request = (uint64_t)node->self << 48 | epoch << 33 | 1;
    transport_start(node);
    lives_tell_plane(node);
    station_start(node);
    return 0;
}

int qn_node_new(const struct qn_node_config *config, struct qn_node **ret_node) {
    assert(config->self < config->topology->n_nodes && config->incarnation != 0);
    struct qn_node *node = calloc(1, sizeof *node);
    if (node == NULL) return -QN_ENOMEM;
    const struct qn_topology *topology = node->topology = config->topology;
    node->self = config->self;
    node->hardware = &topology->nodes[config->self];
    node->incarnation = config->incarnation;
    node->now_ns = node->started_ns = config->now_ns;
    node->resend_ns = config->resend_ns;
    node->threads = config->threads;
    node->public_seed = config->public_seed;
    snprintf(node->software, sizeof node->software, "%s", config->software);
    struct list *lists[] = {&node->ops, &node->link_requests, &node->delivered, &node->circuits, &node->requests};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) list_init(lists[i]);
    sodium_mlock(&node->secret, sizeof node->secret); /* Not into swap; if the limit forbids it, as before. */
    qn_csprng_init(&node->secret, config->secret);
    qn_rng_init(&node->physics, topology->seed, "physics", config->self);
    qn_rng_init(&node->choices, topology->seed, "choices", config->self);
    int rc = qn_timers_reserve(&node->timers, 64); /* More than a node needs to begin. */
    if (rc == 0) rc = qn_buf_reserve(&node->scratch, SCRATCH_LEAST);
    if (rc == 0) rc = qn_arena_init(&node->arena, QN_ARENA_SIZE);
    if (rc == 0) rc = qn_arena_init(&node->request_arena, QN_ARENA_SIZE);
    if (rc == 0) rc = transport_init(node);
    if (rc == 0) rc = init_links(node);
    if (rc == 0) rc = node_begin_life(node);
    if (rc == 0) rc = bb84_init(node);
    if (rc == 0) rc = keys_init(node, config);
    if (rc < 0) {
        qn_node_free(node);
        return rc;
    }
    *ret_node = node;
    return 0;
}

/* Whoever waits for an operation is told, so that it lets go of what it keeps for it. */
void node_abandon_ops(struct qn_node *node, int error) {
    while (!list_is_empty(&node->ops)) {
        struct node_op *op = CONTAINER_OF(node->ops.next, struct node_op, link);
        list_remove(&op->link);
        if (op->done != NULL) op->done(node, op, 0, error);
        free(op);
    }
}

void qn_node_free(struct qn_node *node) {
    if (node == NULL) return;
    request_release_all(node);
    teleport_release_all(node);
    bb84_release(node);
    circuit_release_all(node);
    node_abandon_ops(node, -QN_ESHUTDOWN);
    link_free_all(node);
    size_t i = 0;
    for (void *pair; qn_map_next(&node->pairs, &i, NULL, &pair);) free(pair);
    keys_release(node);
    station_release(node);
    transport_release(node);
    free(node->links);
    qn_map_release(&node->pairs);
    qn_map_release(&node->qubits);
    qn_map_release(&node->circuit_of);
    qn_map_release(&node->request_of);
    qn_plane_free(node->plane);
    qn_arena_release(&node->arena);
    qn_arena_release(&node->request_arena);
    qn_csprng_release(&node->secret);
    sodium_munlock(&node->secret, sizeof node->secret);
    qn_timers_release(&node->timers);
    clear_actions(node);
    free(node->kept);
    free(node->actions.list);
    qn_buf_release(&node->actions.bytes);
    free(node);
}

static void begin_stop(struct qn_node *node) {
    if (node->stopping) return;
    node->stopping = true;
    node_event(node, LEVEL_INFO, "stopping", node_name(node, node->self), "handing over hosted states");
    while (!list_is_empty(&node->requests)) {
        struct request *request = CONTAINER_OF(node->requests.next, struct request, link);
        request_fail(request, -QN_ESHUTDOWN, "the node is stopping");
    }
}

static void settle(struct qn_node *node) {
    for (;;) {
        node_flush_plane(node);
        struct qn_timer *timer = qn_timers_pop(&node->timers, node->now_ns);
        if (timer != NULL) {
            timer->fire(node, timer);
            continue;
        }
        if (node->local_first != NULL) {
            transport_deliver_local(node);
            continue;
        }
        if (node->wake_links) {
            node->wake_links = false;
            link_wake_all(node);
            continue;
        }
        break;
    }
    if (node->stopping && !node->stopped && (qn_plane_leave(node->plane) || lives_alone(node))) {
        node_flush_plane(node);
        node->stopped = true;
        node_act(node, (struct qn_action){.type = QN_ACTION_STOPPED}, NULL, 0);
    }
    node_flush_plane(node);
    control_check_waits(node);
    keys_flush(node);
}

int qn_node_step(struct qn_node *node, const struct qn_event *event, const struct qn_actions **ret_actions) {
    assert(event->now_ns >= node->now_ns);
    node->now_ns = event->now_ns;
    clear_actions(node);
    *ret_actions = &node->actions;
    qn_plane_set_time(node->plane, node->now_ns);
    int rc = 0;
    switch (event->type) {
    case QN_EVENT_TIME:
        break;
    case QN_EVENT_SESSION_UP:
        transport_on_session(node, event->plane, event->peer, true, event->incarnation);
        if (event->plane == QN_QUANTUM) link_on_quantum_up(node, event->peer);
        station_on_session(node);
        bb84_on_session(node, event->peer, event->plane, true);
        break;
    case QN_EVENT_SESSION_DOWN:
        transport_on_session(node, event->plane, event->peer, false, 0);
        station_on_session(node);
        bb84_on_session(node, event->peer, event->plane, false);
        break;
    case QN_EVENT_ENVELOPE:
        rc = transport_on_envelope(node, event->plane, event->peer, event->bytes, event->len);
        if (rc < 0) node->n_protocol_errors++;
        break;
    case QN_EVENT_REQUEST:
        control_on_request(node, event->client, event->bytes, event->len);
        break;
    case QN_EVENT_CLIENT_GONE:
        request_client_gone(node, event->client);
        break;
    case QN_EVENT_JOB:
        bb84_on_job(node, event->job);
        break;
    case QN_EVENT_PEER_GONE:
        lives_replaced(node, event->peer, event->incarnation, event->error == -QN_ESHUTDOWN);
        break;
    case QN_EVENT_STOP:
        begin_stop(node);
        break;
    case QN_EVENT_STORED:
        keys_on_stored(node, event);
        break;
    case QN_EVENT_STORE_FAULT:
        keys_on_fault(node, event->error);
        break;
    case QN_EVENT_SECRET:
        keys_on_secret(node, event);
        break;
    }
    settle(node);
    return rc;
}

uint64_t qn_node_deadline_ns(const struct qn_node *node) { return qn_timers_next(&node->timers); }

const char *qn_node_violation(const struct qn_node *node) { return node->violation != NULL ? node->violation : ""; }

bool qn_node_is_ready(const struct qn_node *node, const char **ret_why) {
    static const char *const why[2] = {"a classical session is down", "a quantum session is down"};
    *ret_why = "";
    if (node->stopping) {
        *ret_why = "stopping";
        return false;
    }
    if (node->keys->fault != 0) {
        *ret_why = "the key store cannot be written";
        return false;
    }
    for (size_t i = 0; i < node->n_neighbours; i++)
        for (int plane = 0; plane < 2; plane++)
            if (!node->neighbours[i].up[plane]) {
                *ret_why = why[plane];
                return false;
            }
    return true;
}

const struct qn_plane *qn_node_plane(const struct qn_node *node) { return node->plane; }

/* ---- operations on qubits ---- */

#define HALF_ROOT 0.70710678118654752440
const double node_axes[5][3] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {HALF_ROOT, 0, HALF_ROOT}, {-HALF_ROOT, 0, HALF_ROOT}};

int node_operate(struct qn_node *node, const struct qn_plane_op *wanted, void *owner, uint64_t number,
                 void (*done)(struct qn_node *, struct node_op *, uint32_t, int)) {
    struct node_op *op = malloc(sizeof *op);
    if (op == NULL) return -QN_ENOMEM;
    *op = (struct node_op){.done = done, .owner = owner, .number = number};
    struct qn_plane_op filled = *wanted;
    filled.tag = (uint64_t)(uintptr_t)op;
    filled.time_ns = node->now_ns;
    bool gate = filled.kind < QNET__V1__OP_KIND__OP_KIND_MEASURE;
    if (filled.n_qubits == 2)
        filled.depolarise = node->hardware->gate2_error;
    else if (gate)
        filled.depolarise = node->hardware->gate1_error;
    if (!gate) filled.readout_error = node->hardware->readout_error;
    list_append(&node->ops, &op->link);
    int rc = qn_plane_submit(node->plane, &filled);
    if (rc < 0) {
        list_remove(&op->link);
        free(op);
    }
    return rc;
}

void node_discard_qubit(struct qn_node *node, qn_qubit qubit) {
    struct qn_plane_op op = {.kind = QNET__V1__OP_KIND__OP_KIND_DISCARD, .qubits = {qubit}, .n_qubits = 1};
    node_operate(node, &op, NULL, 0, NULL);
}

void node_flush_plane(struct qn_node *node) {
    struct qn_plane_result result;
    struct qn_plane_arrival arrival;
    bool again = true;
    while (again) {
        again = false;
        while (qn_plane_next_birth(node->plane, &arrival)) {
            link_on_birth(node, &arrival);
            again = true;
        }
        while (qn_plane_next_result(node->plane, &result)) {
            struct node_op *op = (struct node_op *)(uintptr_t)result.tag;
            list_remove(&op->link);
            if (op->done != NULL) op->done(node, op, result.outcome, result.error);
            free(op);
            again = true;
        }
    }
    transport_send_plane(node);
}
