/* SPDX-License-Identifier: Apache-2.0 */
/* What users ask of one node that needs no other: its state, lists, gates on its qubits, faults on its links, waiting.
 */
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/internal.h"

#define GATE_STEPS_MAX 256

static char *borrow(const char *text) { return (char *)(uintptr_t)text; } /* protobuf-c's strings are not const. */

static void send(struct qn_node *node, uint64_t client, uint64_t id, bool more,
                 Qnet__V1__ControlResponse__BodyCase which, void *body) {
    Qnet__V1__ControlResponse response = QNET__V1__CONTROL_RESPONSE__INIT;
    response.body_case = which;
    response.status = body; /* All members of the union are pointers. */
    node_reply(node, client, id, more, &response);
}

static void finish(struct qn_node *node, uint64_t client, uint64_t id) { /* The end of a list. */
    send(node, client, id, false, QNET__V1__CONTROL_RESPONSE__BODY__NOT_SET, NULL);
}

/* ---- state ---- */

static void fill_peer(const struct qn_node *node, uint16_t i, Qnet__V1__PeerInfo *info) {
    qnet__v1__peer_info__init(info);
    const struct neighbour *neighbour = node_neighbour(node, i);
    const struct remote *remote = &node->remotes[i];
    info->name = borrow(node_name(node, i));
    info->role = borrow(qn_role_name(node->topology->nodes[i].role));
    info->neighbour = neighbour != NULL;
    info->classical_up = neighbour != NULL && neighbour->up[QN_CLASSICAL];
    info->quantum_up = neighbour != NULL && neighbour->up[QN_QUANTUM];
    info->incarnation = i == node->self ? node->incarnation : remote->incarnation;
    for (int plane = 0; plane < 2; plane++) info->queued_bytes += remote->ways[plane].channel.queued_bytes;
}

static void on_status(struct qn_node *node, uint64_t client, uint64_t id) {
    Qnet__V1__StatusInfo status = QNET__V1__STATUS_INFO__INIT;
    const char *why;
    status.node = borrow(node_name(node, node->self));
    status.network = borrow(node->topology->name);
    status.role = borrow(qn_role_name(node->hardware->role));
    status.software = node->software;
    status.ready = qn_node_is_ready(node, &why);
    status.not_ready_because = borrow(why);
    status.now_ns = node->now_ns;
    status.time_scale = node->topology->time_scale;
    status.incarnation = node->incarnation;
    status.memories_used = node->memories_used;
    status.memories_total = node->hardware->memories;
    status.pairs = (uint32_t)node->n_delivered;
    status.keys = (uint32_t)node->n_keys;
    status.key_bits = node->key_bits;
    status.hosted_groups = (uint32_t)qn_plane_n_groups(node->plane);
    status.requests = (uint32_t)node->request_of.len;
    status.uptime_ns = node->now_ns - node->started_ns;
    Qnet__V1__PeerInfo *peers = calloc(node->n_neighbours + 1, sizeof *peers);
    Qnet__V1__PeerInfo **pointers = calloc(node->n_neighbours + 1, sizeof(Qnet__V1__PeerInfo *));
    if (peers != NULL && pointers != NULL) {
        status.peers = pointers;
        for (size_t i = 0; i < node->n_neighbours; i++) {
            fill_peer(node, node->neighbours[i].id, &peers[i]);
            pointers[status.n_peers++] = &peers[i];
        }
    }
    send(node, client, id, false, QNET__V1__CONTROL_RESPONSE__BODY_STATUS, &status);
    free(peers);
    free(pointers);
}

static bool session_with(const struct qn_node *node, uint16_t other) {
    const struct neighbour *neighbour = node_neighbour(node, other);
    return neighbour != NULL && neighbour->up[QN_CLASSICAL] && neighbour->up[QN_QUANTUM];
}

static uint16_t other_on_link(const struct qn_node *node,
                              const struct qn_topo_link *link) { /* The neighbour of this link. */
    if (link->via == QN_NO_NODE) return link->a == node->self ? link->b : link->a;
    return link->via == node->self ? link->a : link->via;
}

static void list_links(struct qn_node *node, uint64_t client, uint64_t id) {
    for (size_t i = 0; i < node->topology->n_links; i++) {
        const struct qn_topo_link *link = &node->topology->links[i];
        const struct link_state *state = &node->links[i];
        if (!state->mine) continue;
        Qnet__V1__LinkInfo info = QNET__V1__LINK_INFO__INIT;
        const struct neighbour *neighbour = node_neighbour(node, other_on_link(node, link));
        info.name = borrow(link->name);
        info.kind = borrow(qn_link_kind_name(link->kind));
        info.a = borrow(node_name(node, link->a));
        info.b = borrow(node_name(node, link->b));
        info.via = borrow(link->via == QN_NO_NODE ? "" : node_name(node, link->via));
        info.up = link->via == node->self ? session_with(node, link->a) && session_with(node, link->b)
                                          : session_with(node, other_on_link(node, link));
        info.length_km = link->length_km;
        info.success_probability = state->plan.probability;
        info.cycle_s = (double)state->plan.cycle_ns * 1e-9;
        info.fidelity = state->plan.fidelity;
        info.pairs = state->pairs;
        info.attempts = state->attempts;
        info.qber = state->qber;
        info.eve = state->eve;
        info.sifted_bits = state->sifted_bits;
        info.secret_bits = state->secret_bits;
        if (neighbour != NULL) {
            info.cut_classical = neighbour->cut[QN_CLASSICAL];
            info.cut_quantum = neighbour->cut[QN_QUANTUM];
            info.extra_delay_ns = neighbour->extra_delay_ns;
        }
        send(node, client, id, true, QNET__V1__CONTROL_RESPONSE__BODY_LINK, &info);
    }
}

static void list_pairs(struct qn_node *node, uint64_t client, uint64_t id) {
    for (struct list *item = node->delivered.next; item != &node->delivered; item = item->next) {
        Qnet__V1__PairInfo info;
        pair_describe(node, CONTAINER_OF(item, struct pair, queue), &info);
        send(node, client, id, true, QNET__V1__CONTROL_RESPONSE__BODY_PAIR, &info);
    }
}

static void fill_key(const struct qn_node *node, const struct key *key, Qnet__V1__KeyInfo *info) {
    qnet__v1__key_info__init(info);
    info->id = (ProtobufCBinaryData){sizeof key->id, (uint8_t *)(uintptr_t)key->id};
    info->check = (ProtobufCBinaryData){sizeof key->check, (uint8_t *)(uintptr_t)key->check};
    info->peer = borrow(node_name(node, key->peer));
    info->bits = (uint32_t)(key->len * 8);
    info->made_ns = key->made_ns;
    info->qber = key->qber;
}

static void on_list(struct qn_node *node, uint64_t client, uint64_t id, Qnet__V1__ListKind kind) {
    switch (kind) {
    case QNET__V1__LIST_KIND__LIST_KIND_NODES:
        for (size_t i = 0; i < node->topology->n_nodes; i++) {
            Qnet__V1__PeerInfo info;
            fill_peer(node, (uint16_t)i, &info);
            send(node, client, id, true, QNET__V1__CONTROL_RESPONSE__BODY_PEER, &info);
        }
        break;
    case QNET__V1__LIST_KIND__LIST_KIND_LINKS:
        list_links(node, client, id);
        break;
    case QNET__V1__LIST_KIND__LIST_KIND_PAIRS:
        list_pairs(node, client, id);
        break;
    case QNET__V1__LIST_KIND__LIST_KIND_KEYS:
        for (struct list *item = node->keys.next; item != &node->keys; item = item->next) {
            Qnet__V1__KeyInfo info;
            fill_key(node, CONTAINER_OF(item, struct key, link), &info);
            send(node, client, id, true, QNET__V1__CONTROL_RESPONSE__BODY_KEY, &info);
        }
        break;
    default:
        node_reply_error(node, client, id, -QN_EINVAL, "unknown list");
        return;
    }
    finish(node, client, id);
}

static void on_key_take(struct qn_node *node, uint64_t client, uint64_t id, const Qnet__V1__KeyTakeRequest *m) {
    struct key *key = keys_find(node, m->key_id.data, m->key_id.len);
    if (key == NULL) {
        node_reply_error(node, client, id, -QN_ENOT_FOUND, "no key with this id; it may have been taken");
        return;
    }
    Qnet__V1__KeyInfo info;
    fill_key(node, key, &info);
    info.material = (ProtobufCBinaryData){key->len, key->bytes};
    send(node, client, id, false, QNET__V1__CONTROL_RESPONSE__BODY_KEY, &info);
    sodium_memzero(node->scratch.data, node->scratch.len); /* The reply was packed there. */
    key_free(node, key);
}

static void on_discard(struct qn_node *node, uint64_t client, uint64_t id, const Qnet__V1__DiscardRequest *m) {
    size_t n = 0;
    for (struct list *item = node->delivered.next, *next; item != &node->delivered; item = next) {
        next = item->next;
        struct pair *pair = CONTAINER_OF(item, struct pair, queue);
        if (!m->all && pair->qubit != m->pair) continue;
        pair_free(node, pair, true);
        n++;
    }
    if (n == 0 && !m->all)
        node_reply_error(node, client, id, -QN_ENOT_FOUND, "this node holds no pair with that qubit");
    else
        finish(node, client, id);
}

/* ---- gates ---- */

struct gates { /* request->extra: a list of operations, one after the other. */
    struct qn_plane_op ops[GATE_STEPS_MAX];
    size_t n_ops, next;
    uint32_t outcomes[GATE_STEPS_MAX];
    size_t n_outcomes;
    uint64_t made[GATE_STEPS_MAX];
    size_t n_made;
};

static void free_gates(struct request *request) { free(request->extra); }

static void run_gates(struct request *request);

static bool ends_qubits(enum _Qnet__V1__OpKind kind) {
    return kind == QNET__V1__OP_KIND__OP_KIND_MEASURE || kind == QNET__V1__OP_KIND__OP_KIND_BELL ||
           kind == QNET__V1__OP_KIND__OP_KIND_DISCARD;
}

static bool has_outcome(enum _Qnet__V1__OpKind kind) {
    return kind == QNET__V1__OP_KIND__OP_KIND_MEASURE || kind == QNET__V1__OP_KIND__OP_KIND_BELL ||
           kind == QNET__V1__OP_KIND__OP_KIND_PROJECT;
}

static void on_gate_done(struct qn_node *node, struct node_op *op, uint32_t outcome, int error) {
    struct request *request = request_find(node, (uint64_t)(uintptr_t)op->owner);
    if (request == NULL) return;
    struct gates *gates = request->extra;
    const struct qn_plane_op *done = &gates->ops[gates->next];
    if (error < 0) {
        request_fail(request, error, "step %zu", gates->next + 1);
        return;
    }
    if (has_outcome(done->kind)) gates->outcomes[gates->n_outcomes++] = outcome;
    gates->next++;
    run_gates(request);
}

static void run_gates(struct request *request) {
    struct qn_node *node = request->node;
    struct gates *gates = request->extra;
    if (gates->next == gates->n_ops) {
        Qnet__V1__GateResult result = QNET__V1__GATE_RESULT__INIT;
        result.outcomes = gates->outcomes;
        result.n_outcomes = gates->n_outcomes;
        result.qubits = gates->made;
        result.n_qubits = gates->n_made;
        send(node, request->client, request->id, false, QNET__V1__CONTROL_RESPONSE__BODY_GATE, &result);
        request_finish(request);
        return;
    }
    const struct qn_plane_op *op = &gates->ops[gates->next];
    int rc = node_operate(node, op, (void *)(uintptr_t)request->number, 0, on_gate_done);
    if (rc < 0) {
        request_fail(request, rc, "step %zu: the qubits must be held by this node", gates->next + 1);
        return;
    }
    for (size_t i = 0; ends_qubits(op->kind) && i < op->n_qubits; i++) {
        struct pair *pair = pair_of_qubit(node, op->qubits[i]);
        if (pair != NULL)
            pair_free(node, pair, false);
        else
            memory_give(node, 1); /* Prepared by the user. */
    }
}

/* Axis names for people: 1 number is an axis index, 3 are a vector. */
static int fill_step(const Qnet__V1__GateStep *step, struct qn_plane_op *op) {
    *op = (struct qn_plane_op){
        .kind = (enum _Qnet__V1__OpKind)step->kind, .n_qubits = step->n_qubits, .n_args = step->n_args};
    size_t want = step->kind < QNET__V1__OP_KIND__OP_KIND_MEASURE ? qn_gate_qubits((enum qn_gate)step->kind)
                  : step->kind == QNET__V1__OP_KIND__OP_KIND_BELL ? 2
                                                                  : 1;
    if (want == 0 || step->n_qubits != want || step->n_args > 4 || step->kind > QNET__V1__OP_KIND__OP_KIND_IDLE)
        return -QN_EINVAL;
    for (size_t i = 0; i < want; i++) op->qubits[i] = step->qubits[i];
    for (size_t i = 0; i < step->n_args; i++) {
        if (!isfinite(step->args[i])) return -QN_EINVAL;
        op->args[i] = step->args[i];
    }
    if (step->kind < QNET__V1__OP_KIND__OP_KIND_MEASURE)
        return step->n_args == qn_gate_args((enum qn_gate)step->kind) ? 0 : -QN_EINVAL;
    if (step->kind != QNET__V1__OP_KIND__OP_KIND_MEASURE && step->kind != QNET__V1__OP_KIND__OP_KIND_PROJECT) return 0;
    double length = sqrt(op->args[0] * op->args[0] + op->args[1] * op->args[1] + op->args[2] * op->args[2]);
    if (step->n_args != 3 || !(length > 1e-9)) return -QN_EINVAL;
    for (int i = 0; i < 3; i++) op->args[i] /= length;
    return 0;
}

static bool is_mine_to_touch(const struct qn_node *node, qn_qubit qubit) { /* Not one that a protocol is still using. */
    const struct pair *pair = pair_of_qubit(node, qubit);
    return qn_plane_is_owned(node->plane, qubit) && (pair == NULL || pair->state == PAIR_USABLE);
}

static void on_gate(struct qn_node *node, uint64_t client, uint64_t id, const Qnet__V1__GateRequest *m) {
    if (m->n_steps == 0 || m->n_steps > GATE_STEPS_MAX) {
        node_reply_error(node, client, id, -QN_EINVAL, "1 to %d steps", GATE_STEPS_MAX);
        return;
    }
    struct request *request = request_new(node, client, id, REQUEST_GATE, m->timeout_ns);
    struct gates *gates = request == NULL ? NULL : calloc(1, sizeof *gates);
    if (gates == NULL) {
        if (request != NULL) request_fail(request, -QN_ENOMEM, "%s", "");
        return;
    }
    request->extra = gates;
    request->free_extra = free_gates;
    for (size_t i = 0; i < m->n_steps; i++) { /* All are checked before any is done. */
        const Qnet__V1__GateStep *step = m->steps[i];
        if (step->kind == 0) continue;
        if (fill_step(step, &gates->ops[gates->n_ops++]) < 0) {
            request_fail(request, -QN_EINVAL, "step %zu: unknown gate, or the wrong number of qubits or arguments",
                         i + 1);
            return;
        }
        for (size_t k = 0; k < step->n_qubits; k++)
            if (!is_mine_to_touch(node, step->qubits[k])) {
                request_fail(request, -QN_ENOT_FOUND, "step %zu: this node holds no qubit 0x%llx", i + 1,
                             (unsigned long long)step->qubits[k]);
                return;
            }
    }
    for (size_t i = 0; i < m->n_steps; i++) {
        if (m->steps[i]->kind != 0) continue;
        struct qn_memory memory = {node->hardware->t1_s, node->hardware->t2_s};
        qn_qubit qubit;
        if (!memory_take(node)) {
            request_fail(request, -QN_EMEMORY_FULL, "step %zu", i + 1);
            return;
        }
        if (qn_plane_prepare(node->plane, node->now_ns, memory, &qubit) < 0) {
            memory_give(node, 1);
            request_fail(request, -QN_ENOMEM, "step %zu", i + 1);
            return;
        }
        gates->made[gates->n_made++] = qubit;
    }
    run_gates(request);
}

static void on_inspect(struct qn_node *node, uint64_t client, uint64_t id, const Qnet__V1__InspectRequest *m) {
    qn_qubit qubits[2] = {m->qubit, m->other};
    double tensor[16];
    size_t n = m->other != 0 ? 2 : 1;
    int rc = qn_plane_inspect(node->plane, qubits, n, node->now_ns, tensor);
    if (rc < 0) {
        node_reply_error(node, client, id, rc, "not hosted by this node (in one state); try the other holder");
        return;
    }
    Qnet__V1__InspectInfo info = QNET__V1__INSPECT_INFO__INIT;
    info.tensor = tensor;
    info.n_tensor = n == 2 ? 16 : 4;
    info.host = node->self;
    send(node, client, id, false, QNET__V1__CONTROL_RESPONSE__BODY_INSPECT, &info);
}

/* ---- faults ---- */

static void cut(struct qn_node *node, struct neighbour *neighbour, enum qn_plane_id plane, bool on) {
    if (neighbour->cut[plane] == on) return;
    neighbour->cut[plane] = on;
    node_act(node, (struct qn_action){.type = QN_ACTION_CUT, .plane = plane, .peer = neighbour->id, .on = on}, NULL, 0);
    node_event(node, LEVEL_WARNING, on ? "cut" : "restored", node_name(node, neighbour->id), "%s",
               plane == QN_CLASSICAL ? "classical" : "quantum");
}

static int apply_fault(struct qn_node *node, uint16_t link, const Qnet__V1__FaultRequest *m,
                       struct neighbour *neighbour) {
    switch (m->kind) {
    case QNET__V1__FAULT_KIND__FAULT_KIND_CUT_QUANTUM:
        cut(node, neighbour, QN_QUANTUM, true);
        return 0;
    case QNET__V1__FAULT_KIND__FAULT_KIND_CUT_CLASSICAL:
        cut(node, neighbour, QN_CLASSICAL, true);
        return 0;
    case QNET__V1__FAULT_KIND__FAULT_KIND_RESTORE_QUANTUM:
        cut(node, neighbour, QN_QUANTUM, false);
        return 0;
    case QNET__V1__FAULT_KIND__FAULT_KIND_RESTORE_CLASSICAL:
        cut(node, neighbour, QN_CLASSICAL, false);
        return 0;
    case QNET__V1__FAULT_KIND__FAULT_KIND_DELAY:
        if (!(m->value >= 0 && m->value <= 3.6e12)) return -QN_EINVAL;
        neighbour->extra_delay_ns = (uint64_t)m->value;
        return 0;
    case QNET__V1__FAULT_KIND__FAULT_KIND_EVE:
        if (!(m->value >= 0 && m->value <= 1)) return -QN_EINVAL;
        node->links[link].eve = m->value;
        return 0;
    case QNET__V1__FAULT_KIND__FAULT_KIND_CLEAR:
        cut(node, neighbour, QN_QUANTUM, false);
        cut(node, neighbour, QN_CLASSICAL, false);
        neighbour->extra_delay_ns = 0;
        node->links[link].eve = 0;
        return 0;
    default:
        return -QN_EINVAL;
    }
}

static void on_fault(struct qn_node *node, uint64_t client, uint64_t id, const Qnet__V1__FaultRequest *m) {
    int link = qn_topology_find_link(node->topology, m->link);
    if (link < 0) {
        const char *near = qn_topology_suggest_link(node->topology, m->link);
        node_reply_error(node, client, id, link, "\"%.64s\"%s%s%s", m->link, near != NULL ? "; did you mean \"" : "",
                         near != NULL ? near : "", near != NULL ? "\"?" : "");
        return;
    }
    const struct qn_topo_link *l = &node->topology->links[link];
    if (!node->links[link].mine) {
        node_reply_error(node, client, id, -QN_EINVAL, "%s is not a link of this node; ask %s or %s", l->name,
                         node_name(node, l->a), node_name(node, l->b));
        return;
    }
    if (m->kind == QNET__V1__FAULT_KIND__FAULT_KIND_EVE && l->kind != QN_LINK_BB84) {
        node_reply_error(node, client, id, -QN_EUNSUPPORTED, "an eavesdropper is modelled on bb84 links");
        return;
    }
    int rc = apply_fault(node, (uint16_t)link, m, node_neighbour(node, other_on_link(node, l)));
    if (rc == 0 && l->via == node->self) rc = apply_fault(node, (uint16_t)link, m, node_neighbour(node, l->b));
    if (rc < 0)
        node_reply_error(node, client, id, rc, "unknown fault or value out of range");
    else
        finish(node, client, id);
}

/* ---- waiting ---- */

struct waiting {
    enum { WAIT_READY, WAIT_PEER_UP, WAIT_PEER_DOWN, WAIT_PAIRS, WAIT_KEYS } what;
    uint16_t peer;
    size_t number;
};

static void free_waiting(struct request *request) { free(request->extra); }

static bool is_met(const struct qn_node *node, const struct waiting *waiting) {
    const char *why;
    const struct neighbour *peer =
        waiting->what == WAIT_PEER_UP || waiting->what == WAIT_PEER_DOWN ? node_neighbour(node, waiting->peer) : NULL;
    bool up = peer != NULL && peer->up[QN_CLASSICAL] && peer->up[QN_QUANTUM];
    switch (waiting->what) {
    case WAIT_READY:
        return qn_node_is_ready(node, &why);
    case WAIT_PEER_UP:
        return up;
    case WAIT_PEER_DOWN:
        return !up;
    case WAIT_PAIRS:
        return node->n_delivered >= waiting->number;
    case WAIT_KEYS:
        return node->n_keys >= waiting->number;
    }
    return false;
}

static void wait_timeout(struct request *request) {
    const char *why = "";
    const struct waiting *waiting = request->extra;
    if (waiting->what == WAIT_READY) qn_node_is_ready(request->node, &why);
    request_fail(request, -QN_ETIMEOUT, "the condition is not met%s%s", why[0] != '\0' ? ": " : "", why);
}

static bool parse_condition(const struct qn_node *node, const char *text, struct waiting *ret) {
    char name[QN_NAME_MAX + 1], state[8];
    unsigned number;
    *ret = (struct waiting){0};
    if (strcmp(text, "ready") == 0) return true;
    if (sscanf(text, "pairs %u", &number) == 1)
        ret->what = WAIT_PAIRS;
    else if (sscanf(text, "keys %u", &number) == 1)
        ret->what = WAIT_KEYS;
    else if (sscanf(text, "peer %63s %7s", name, state) == 2) {
        int peer = qn_topology_find_node(node->topology, name);
        if (peer < 0 || node_neighbour(node, (uint16_t)peer) == NULL) return false;
        ret->peer = (uint16_t)peer;
        ret->what = strcmp(state, "up") == 0 ? WAIT_PEER_UP : WAIT_PEER_DOWN;
        return ret->what == WAIT_PEER_UP || strcmp(state, "down") == 0;
    } else
        return false;
    ret->number = number;
    return true;
}

static void on_wait(struct qn_node *node, uint64_t client, uint64_t id, const Qnet__V1__WaitRequest *m) {
    struct waiting parsed;
    if (!parse_condition(node, m->condition, &parsed)) {
        node_reply_error(node, client, id, -QN_EINVAL,
                         "\"%.64s\": valid are ready, peer NEIGHBOUR up|down, pairs N, keys N", m->condition);
        return;
    }
    struct request *request = request_new(node, client, id, REQUEST_WAIT, m->timeout_ns);
    if (request == NULL) return;
    request->extra = malloc(sizeof parsed);
    request->free_extra = free_waiting;
    request->on_timeout = wait_timeout;
    if (request->extra == NULL)
        request_fail(request, -QN_ENOMEM, "%s", "");
    else
        memcpy(request->extra, &parsed, sizeof parsed); /* control_check_waits answers at the end of this step. */
    node->n_waits++;
}

void control_check_waits(struct qn_node *node) {
    if (node->n_waits == 0) return;
    node->n_waits = 0;
    for (struct list *item = node->requests.next, *next; item != &node->requests; item = next) {
        next = item->next;
        struct request *request = CONTAINER_OF(item, struct request, link);
        if (request->kind != REQUEST_WAIT) continue;
        if (!is_met(node, request->extra)) {
            node->n_waits++;
            continue;
        }
        finish(node, request->client, request->id);
        request_finish(request);
    }
}

/* ---- dispatch ---- */

void control_on_request(struct qn_node *node, uint64_t client, const uint8_t *bytes, size_t len) {
    Qnet__V1__ControlRequest *m =
        qn_wire_unpack(&qnet__v1__control_request__descriptor, &node->request_arena, bytes, len);
    if (m == NULL) {
        node_reply_error(node, client, 0, -QN_EPARSE, "not a ControlRequest");
        return;
    }
    switch (m->body_case) {
    case QNET__V1__CONTROL_REQUEST__BODY_STATUS:
        on_status(node, client, m->id);
        break;
    case QNET__V1__CONTROL_REQUEST__BODY_LIST:
        on_list(node, client, m->id, m->list->kind);
        break;
    case QNET__V1__CONTROL_REQUEST__BODY_PAIR:
        request_start_pairs(node, client, m->id, m->pair);
        break;
    case QNET__V1__CONTROL_REQUEST__BODY_TELEPORT:
        teleport_start(node, client, m->id, m->teleport);
        break;
    case QNET__V1__CONTROL_REQUEST__BODY_BB84:
        bb84_start(node, client, m->id, m->bb84);
        break;
    case QNET__V1__CONTROL_REQUEST__BODY_GATE:
        on_gate(node, client, m->id, m->gate);
        break;
    case QNET__V1__CONTROL_REQUEST__BODY_FAULT:
        on_fault(node, client, m->id, m->fault);
        break;
    case QNET__V1__CONTROL_REQUEST__BODY_WAIT:
        on_wait(node, client, m->id, m->wait);
        break;
    case QNET__V1__CONTROL_REQUEST__BODY_KEY_TAKE:
        on_key_take(node, client, m->id, m->key_take);
        break;
    case QNET__V1__CONTROL_REQUEST__BODY_DISCARD:
        on_discard(node, client, m->id, m->discard);
        break;
    case QNET__V1__CONTROL_REQUEST__BODY_CANCEL:
        request_cancel(node, client, m->cancel->id);
        finish(node, client, m->id);
        break;
    case QNET__V1__CONTROL_REQUEST__BODY_INSPECT:
        on_inspect(node, client, m->id, m->inspect);
        break;
    default:
        node_reply_error(node, client, m->id, -QN_EUNSUPPORTED, "unknown request");
        break;
    }
}

/* ---- metrics ---- */

static int metric(struct qn_buf *out, const char *name, const char *type, const char *help, const char *labels,
                  double value) {
    int rc = help == NULL ? 0 : qn_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
    return rc < 0 ? rc : qn_buf_printf(out, "%s%s %.17g\n", name, labels, value);
}

int qn_node_metrics(const struct qn_node *node, struct qn_buf *out) {
    const struct {
        const char *name, *type, *help;
        double value;
    } plain[] = {
        {"qnetd_pairs_delivered_total", "counter", "End-to-end pairs delivered at this node.",
         (double)node->n_pairs_delivered},
        {"qnetd_pairs_expired_total", "counter", "Pairs discarded before delivery.", (double)node->n_expired},
        {"qnetd_swaps_total", "counter", "Entanglement swaps performed.", (double)node->n_swaps},
        {"qnetd_teleports_total", "counter", "States sent by teleportation.", (double)node->n_teleports},
        {"qnetd_keys_available", "gauge", "Secret keys in the store.", (double)node->n_keys},
        {"qnetd_key_bits_available", "gauge", "Bits of secret key in the store.", (double)node->key_bits},
        {"qnetd_memories_used", "gauge", "Quantum memories in use.", node->memories_used},
        {"qnetd_memories", "gauge", "Quantum memories of this node.", node->hardware->memories},
        {"qnetd_hosted_groups", "gauge", "Joint states kept by this process.", (double)qn_plane_n_groups(node->plane)},
        {"qnetd_requests_open", "gauge", "User requests not yet answered.", (double)node->request_of.len},
        {"qnetd_envelopes_relayed_total", "counter", "Envelopes passed on for others.", (double)node->n_relayed},
        {"qnetd_envelopes_dropped_total", "counter", "Envelopes that could not be queued or sent.",
         (double)node->n_dropped},
        {"qnetd_channel_resends_total", "counter", "Times a channel sent its unacknowledged messages again.",
         (double)node->n_resent},
        {"qnetd_protocol_errors_total", "counter", "Messages refused because they break the protocol.",
         (double)node->n_protocol_errors},
    };
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        int rc = metric(out, plain[i].name, plain[i].type, plain[i].help, "", plain[i].value);
        if (rc < 0) return rc;
    }
    static const char *const per_link[] = {"qnetd_link_up",           "qnetd_link_fidelity_ratio",
                                           "qnetd_link_qber_ratio",   "qnetd_pairs_generated_total",
                                           "qnetd_sifted_bits_total", "qnetd_secret_bits_total"};
    static const char *const help[] = {"1 when both sessions of the link are up.",
                                       "Fidelity of a fresh pair, by the model.",
                                       "Quantum bit error rate last measured.",
                                       "Heralded pairs of the link.",
                                       "BB84 bits after sifting.",
                                       "Secret bits made."};
    for (size_t k = 0; k < 6; k++) {
        bool first = true;
        for (size_t i = 0; i < node->topology->n_links; i++) {
            const struct link_state *state = &node->links[i];
            const struct qn_topo_link *link = &node->topology->links[i];
            if (!state->mine || (k == 1 && !state->planned) || (k == 2 && state->qber < 0)) continue;
            double values[6] = {session_with(node, other_on_link(node, link)) ? 1 : 0,
                                state->plan.fidelity,
                                state->qber,
                                (double)state->pairs,
                                (double)state->sifted_bits,
                                (double)state->secret_bits};
            char labels[QN_NAME_MAX + 16];
            snprintf(labels, sizeof labels, "{link=\"%s\"}", link->name);
            int rc = metric(out, per_link[k], k < 3 ? "gauge" : "counter", first ? help[k] : NULL, labels, values[k]);
            if (rc < 0) return rc;
            first = false;
        }
    }
    return 0;
}
