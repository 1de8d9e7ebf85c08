/* SPDX-License-Identifier: Apache-2.0 */
/* What users ask of one node that needs no other: its state, lists, gates on its qubits, faults on its links, waiting.
 */
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/internal.h"
#include "node/keys.h"

static char *borrow(const char *text) { return (char *)(uintptr_t)text; } /* protobuf-c's strings are not const. */

void control_send(struct qn_node *node, uint64_t client, uint64_t id, bool more,
                  Qnet__V1__ControlResponse__BodyCase which, void *body) {
    Qnet__V1__ControlResponse response = QNET__V1__CONTROL_RESPONSE__INIT;
    response.body_case = which;
    response.status = body; /* All members of the union are pointers. */
    node_reply(node, client, id, more, &response);
}

static void finish(struct qn_node *node, uint64_t client, uint64_t id) { /* The end of a list. */
    control_send(node, client, id, false, QNET__V1__CONTROL_RESPONSE__BODY__NOT_SET, NULL);
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
    status.keys = (uint32_t)node->keys->n_ready;
    status.key_bits = node->keys->bits_ready;
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
    control_send(node, client, id, false, QNET__V1__CONTROL_RESPONSE__BODY_STATUS, &status);
    free(peers);
    free(pointers);
}

bool node_session_with(const struct qn_node *node, uint16_t other) {
    const struct neighbour *neighbour = node_neighbour(node, other);
    return neighbour != NULL && neighbour->up[QN_CLASSICAL] && neighbour->up[QN_QUANTUM];
}

uint16_t link_neighbour(const struct qn_node *node, const struct qn_topo_link *link) { /* The neighbour of this link. */
    if (link->via == QN_NO_NODE) return link->a == node->self ? link->b : link->a;
    return link->via == node->self ? link->a : link->via;
}

static void list_links(struct qn_node *node, uint64_t client, uint64_t id) {
    for (size_t i = 0; i < node->topology->n_links; i++) {
        const struct qn_topo_link *link = &node->topology->links[i];
        const struct link_state *state = &node->links[i];
        if (!state->mine) continue;
        Qnet__V1__LinkInfo info = QNET__V1__LINK_INFO__INIT;
        const struct neighbour *neighbour = node_neighbour(node, link_neighbour(node, link));
        info.name = borrow(link->name);
        info.kind = borrow(qn_link_kind_name(link->kind));
        info.a = borrow(node_name(node, link->a));
        info.b = borrow(node_name(node, link->b));
        info.via = borrow(link->via == QN_NO_NODE ? "" : node_name(node, link->via));
        info.up = link->via == node->self ? node_session_with(node, link->a) && node_session_with(node, link->b)
                                          : node_session_with(node, link_neighbour(node, link));
        info.length_km = link->length_km;
        info.success_probability = state->plan.probability;
        info.cycle_s = (double)state->plan.cycle_ns * 1e-9;
        info.fidelity = state->plan.fidelity;
        info.pairs = state->pairs;
        info.attempts = state->attempts;
        info.qber = state->qber;
        info.eve = state->eve;
        info.attack = borrow(bb84_attack_name(state));
        info.sifted_bits = state->sifted_bits;
        info.secret_bits = state->secret_bits;
        if (neighbour != NULL) {
            info.cut_classical = neighbour->cut[QN_CLASSICAL];
            info.cut_quantum = neighbour->cut[QN_QUANTUM];
            info.extra_delay_ns = neighbour->extra_delay_ns;
        }
        control_send(node, client, id, true, QNET__V1__CONTROL_RESPONSE__BODY_LINK, &info);
    }
}

static void list_pairs(struct qn_node *node, uint64_t client, uint64_t id) {
    for (struct list *item = node->delivered.next; item != &node->delivered; item = item->next) {
        Qnet__V1__PairInfo info;
        pair_describe(node, CONTAINER_OF(item, struct pair, queue), &info);
        control_send(node, client, id, true, QNET__V1__CONTROL_RESPONSE__BODY_PAIR, &info);
    }
}

void control_fill_key(const struct qn_node *node, const struct key *key, Qnet__V1__KeyInfo *info) {
    const struct qn_store_record *record = &key->record;
    qnet__v1__key_info__init(info);
    info->id = (ProtobufCBinaryData){sizeof record->id, (uint8_t *)(uintptr_t)record->id};
    info->check = (ProtobufCBinaryData){sizeof record->check, (uint8_t *)(uintptr_t)record->check};
    info->peer = borrow(node_name(node, record->peer));
    info->bits = (uint32_t)(record->len * 8);
    info->made_ns = key->made_ns;
    info->qber = record->qber;
    info->state = borrow(key_state_name(key));
    if (node->keys->ttl_ns > 0) info->expires_ns = key->made_ns + node->keys->ttl_ns;
}

static void list_keys(struct qn_node *node, uint64_t client, uint64_t id) { /* Those that users may have. */
    for (struct list *item = node->keys->list.next; item != &node->keys->list; item = item->next) {
        const struct key *key = CONTAINER_OF(item, struct key, link);
        if (key->record.purpose != QN_STORE_KEY || key->state > KEY_READY) continue;
        Qnet__V1__KeyInfo info;
        control_fill_key(node, key, &info);
        control_send(node, client, id, true, QNET__V1__CONTROL_RESPONSE__BODY_KEY, &info);
    }
}

static void on_list(struct qn_node *node, uint64_t client, uint64_t id, Qnet__V1__ListKind kind) {
    switch (kind) {
    case QNET__V1__LIST_KIND__LIST_KIND_NODES:
        for (size_t i = 0; i < node->topology->n_nodes; i++) {
            Qnet__V1__PeerInfo info;
            fill_peer(node, (uint16_t)i, &info);
            control_send(node, client, id, true, QNET__V1__CONTROL_RESPONSE__BODY_PEER, &info);
        }
        break;
    case QNET__V1__LIST_KIND__LIST_KIND_LINKS:
        list_links(node, client, id);
        break;
    case QNET__V1__LIST_KIND__LIST_KIND_PAIRS:
        list_pairs(node, client, id);
        break;
    case QNET__V1__LIST_KIND__LIST_KIND_KEYS:
        list_keys(node, client, id);
        break;
    default:
        node_reply_error(node, client, id, -QN_EINVAL, "unknown list");
        return;
    }
    finish(node, client, id);
}

static void on_discard(struct qn_node *node, uint64_t client, uint64_t id, const Qnet__V1__DiscardRequest *m) {
    size_t n = 0;
    for (struct list *item = node->delivered.next, *next; item != &node->delivered; item = next) {
        next = item->next;
        struct pair *pair = CONTAINER_OF(item, struct pair, queue);
        if (pair->teleport != 0 || (!m->all && pair->qubit != m->pair)) continue;
        pair_free(node, pair, true);
        n++;
    }
    if (n == 0 && !m->all)
        node_reply_error(node, client, id, -QN_ENOT_FOUND, "this node holds no pair with that qubit");
    else
        finish(node, client, id);
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
        node->links[link].attack =
            (struct qn_attack){.kind = m->value > 0 ? QN_ATTACK_INTERCEPT : QN_ATTACK_NONE, .fraction = m->value};
        return 0;
    case QNET__V1__FAULT_KIND__FAULT_KIND_ATTACK:
        return bb84_attack(node, link, m);
    case QNET__V1__FAULT_KIND__FAULT_KIND_CLEAR:
        cut(node, neighbour, QN_QUANTUM, false);
        cut(node, neighbour, QN_CLASSICAL, false);
        neighbour->extra_delay_ns = 0;
        bb84_attack_end(node, link);
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
    bool on_pulses = m->kind == QNET__V1__FAULT_KIND__FAULT_KIND_EVE ||
                     (m->kind == QNET__V1__FAULT_KIND__FAULT_KIND_ATTACK && !bb84_attack_is_classical(m->attack));
    if (on_pulses && l->kind != QN_LINK_BB84) {
        node_reply_error(node, client, id, -QN_EUNSUPPORTED,
                         "an eavesdropper is modelled on bb84 links; on others, a tamperer: mitm or replay");
        return;
    }
    int rc = apply_fault(node, (uint16_t)link, m, node_neighbour(node, link_neighbour(node, l)));
    if (rc == 0 && l->via == node->self) rc = apply_fault(node, (uint16_t)link, m, node_neighbour(node, l->b));
    if (rc < 0)
        node_reply_error(node, client, id, rc, "unknown fault or value out of range");
    else
        finish(node, client, id);
}

/* ---- the word of an operator ---- */

static void on_declare_dead(struct qn_node *node, uint64_t client, uint64_t id, const Qnet__V1__DeclareDeadRequest *m) {
    int peer = node_name_to_peer(node, client, id, m->node);
    if (peer < 0) return;
    int rc = lives_declare(node, (uint16_t)peer, QNET__V1__DOWN_CAUSE__DOWN_CAUSE_DECLARED);
    if (rc < 0)
        node_reply_error(node, client, id, rc, "%s has heard of no life of %s that is not over yet",
                         node_name(node, node->self), m->node);
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
        return node->keys->n_ready >= waiting->number;
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
        gate_on_request(node, client, m->id, m->gate);
        break;
    case QNET__V1__CONTROL_REQUEST__BODY_FAULT:
        on_fault(node, client, m->id, m->fault);
        break;
    case QNET__V1__CONTROL_REQUEST__BODY_DECLARE_DEAD:
        on_declare_dead(node, client, m->id, m->declare_dead);
        break;
    case QNET__V1__CONTROL_REQUEST__BODY_WAIT:
        on_wait(node, client, m->id, m->wait);
        break;
    case QNET__V1__CONTROL_REQUEST__BODY_KEY_TAKE:
        keys_take(node, client, m->id, m->key_take->key_id.data, m->key_take->key_id.len);
        break;
    case QNET__V1__CONTROL_REQUEST__BODY_DISCARD:
        on_discard(node, client, m->id, m->discard);
        break;
    case QNET__V1__CONTROL_REQUEST__BODY_CANCEL:
        request_cancel(node, client, m->cancel->id);
        finish(node, client, m->id);
        break;
    case QNET__V1__CONTROL_REQUEST__BODY_INSPECT:
        gate_on_inspect(node, client, m->id, m->inspect);
        break;
    default:
        node_reply_error(node, client, m->id, -QN_EUNSUPPORTED, "unknown request");
        break;
    }
}
