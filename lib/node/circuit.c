/* SPDX-License-Identifier: Apache-2.0 */
/* Network layer: end-to-end pairs over a chain of links (after Kozlowski, Dahlberg, Wehner 2020, arXiv:2010.02575).
 *
 * The head sends CircuitSetup along the path; each node sets memory aside; the tail answers CircuitReady, and on its
 * way back every node asks for pairs on the link towards the tail. Inner nodes swap as soon as they hold a pair on each
 * side (first come, first swapped) and keep the outcome; they drop pairs older than the cut-off. Each end sends
 * CircuitTrack along the path for every pair it holds: at each inner node the track moves on to the pair's partner and
 * takes the swap's outcome and the next link pair's frame with it, or waits until the swap is done, or comes back as
 * CircuitExpire. A pair exists end to end, at each end, when the other end's track has arrived: only then is its
 * partner and its frame known.
 *
 * A circuit's states: setting up -> ready -> closed. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/canary.h"
#include "node/circuit.h"

#define CIRCUITS_MAX 1024
#define SHARE_MAX 1024

struct circuit *circuit_find(const struct qn_node *node, uint64_t id) {
    return qn_map_get(&node->circuit_of, id);
}

/* ---- life ---- */

static void on_patience(void *context, struct qn_timer *timer);
static void on_lifetime(void *context, struct qn_timer *timer);

static struct circuit *circuit_new(struct qn_node *node, uint64_t id) {
    if (node->circuit_of.len >= CIRCUITS_MAX) return NULL;
    struct circuit *circuit = calloc(1, sizeof *circuit);
    if (circuit == NULL) return NULL;
    circuit->node = node;
    circuit->id = id;
    circuit->patience.fire = on_patience;
    circuit->lifetime.fire = on_lifetime;
    for (int i = 0; i < 2; i++) {
        circuit->sides[i].node = circuit->sides[i].link = QN_NO_NODE;
        list_init(&circuit->sides[i].waiting);
    }
    if (qn_map_put(&node->circuit_of, id, circuit) < 0) {
        free(circuit);
        return NULL;
    }
    list_append(&node->circuits, &circuit->link);
    return circuit;
}

static void free_records(struct side *side, int which) {
    size_t i = 0;
    for (void *value; qn_map_next(&side->records, &i, NULL, &value);) {
        struct record *record = value;
        if (which == 1 && record->has[0]) continue; /* Freed with the other side's. */
        free(record);
    }
    qn_map_release(&side->records);
}

static void destroy(struct qn_node *node, struct circuit *circuit, int error, const char *detail, bool tell_links) {
    circuit->closing = true;
    for (int i = 0; i < 2; i++) {
        struct link_request *request = circuit->sides[i].request;
        circuit->sides[i].request = NULL;
        if (request == NULL) continue;
        request->circuit = NULL;
        link_cancel(node, request, error, detail, tell_links);
    }
    if (circuit->role == INNER && !(QN_CANARY(11) && error < 0)) memory_give(node, 2 * circuit->share);
    size_t i = 0;
    for (void *value; qn_map_next(&node->pairs, &i, NULL, &value);) { /* Measured pairs that wait for their track. */
        struct pair *pair = value;
        if (pair->circuit != circuit) continue;
        pair->circuit = NULL;
        if (pair->state != PAIR_USABLE && pair->request == NULL) {
            pair_free(node, pair, true);
            i = 0;
        }
    }
    free_records(&circuit->sides[1], 1);
    free_records(&circuit->sides[0], 0);
    qn_timers_clear(&node->timers, &circuit->patience);
    qn_timers_clear(&node->timers, &circuit->lifetime);
    qn_map_remove(&node->circuit_of, circuit->id);
    list_remove(&circuit->link);
    free(circuit);
}

static void send_tear(struct qn_node *node, uint16_t to, uint64_t id, int error, const char *detail) {
    Qnet__V1__CircuitTear tear = QNET__V1__CIRCUIT_TEAR__INIT;
    Qnet__V1__Envelope envelope = body(QNET__V1__ENVELOPE__BODY_CIRCUIT_TEAR);
    tear.circuit = id;
    tear.error = (uint32_t)-error;
    tear.detail = (char *)(uintptr_t)detail;
    envelope.circuit_tear = &tear;
    node_send(node, to, &envelope);
}

static void send_refuse(struct qn_node *node, uint16_t to, uint64_t id, int error, const char *detail, uint16_t who) {
    Qnet__V1__CircuitRefuse refuse = QNET__V1__CIRCUIT_REFUSE__INIT;
    Qnet__V1__Envelope envelope = body(QNET__V1__ENVELOPE__BODY_CIRCUIT_REFUSE);
    refuse.circuit = id;
    refuse.error = (uint32_t)-error;
    refuse.detail = (char *)(uintptr_t)detail;
    refuse.node = who;
    envelope.circuit_refuse = &refuse;
    node_send(node, to, &envelope);
}

void circuit_close(struct qn_node *node, struct circuit *circuit, int error, const char *detail, bool tell) {
    if (tell && circuit->sides[1].node != QN_NO_NODE)
        send_tear(node, circuit->sides[1].node, circuit->id, error, detail);
    if (circuit->request != NULL) circuit->request->circuit = NULL;
    destroy(node, circuit, error, detail, true);
}

/* Something on this node ends the circuit: both neighbours and the user learn why. */
static void fail(struct qn_node *node, struct circuit *circuit, int error, const char *detail, uint16_t who) {
    struct request *request = circuit->request;
    char text[200];
    snprintf(text, sizeof text, "%s", detail);
    if (circuit->sides[0].node != QN_NO_NODE) send_refuse(node, circuit->sides[0].node, circuit->id, error, text, who);
    if (circuit->sides[1].node != QN_NO_NODE) send_tear(node, circuit->sides[1].node, circuit->id, error, text);
    if (request != NULL) request->circuit = NULL;
    destroy(node, circuit, error, text, true);
    if (request != NULL) request_on_circuit_closed(node, request, error, text);
}

static void on_lifetime(void *context, struct qn_timer *timer) {
    struct circuit *circuit = CONTAINER_OF(timer, struct circuit, lifetime);
    if (circuit->role != HEAD) destroy(context, circuit, -QN_ETIMEOUT, "the circuit outlived its request", true);
}

static void on_patience(void *context, struct qn_timer *timer) {
    struct circuit *circuit = CONTAINER_OF(timer, struct circuit, patience);
    uint16_t next = circuit->sides[1].node;
    if (circuit->ready || node_can_reach(circuit->node, next)) return;
    char text[128];
    uint16_t hop = circuit->node->remotes[next].next_hop;
    snprintf(text, sizeof text, "no classical session with %s%s%s", node_name(circuit->node, hop),
             hop != next ? ", on the way to " : "", hop != next ? node_name(circuit->node, next) : "");
    fail(context, circuit, -QN_EPEER_DOWN, text, circuit->node->self);
}

static uint64_t patience_ns(const struct qn_node *node) { return (uint64_t)(2e9 * node->topology->time_scale); }

/* ---- set-up ---- */

static void forward_setup(struct qn_node *node, struct circuit *circuit) {
    uint32_t path[ROUTE_MAX_HOPS + 1], links[ROUTE_MAX_HOPS];
    for (size_t i = 0; i <= circuit->n_links; i++) path[i] = circuit->path[i];
    for (size_t i = 0; i < circuit->n_links; i++) links[i] = circuit->links[i];
    Qnet__V1__CircuitSetup setup = QNET__V1__CIRCUIT_SETUP__INIT;
    Qnet__V1__Envelope envelope = body(QNET__V1__ENVELOPE__BODY_CIRCUIT_SETUP);
    setup.circuit = circuit->id;
    setup.path = path;
    setup.n_path = circuit->n_links + 1;
    setup.links = links;
    setup.n_links = circuit->n_links;
    setup.link_fidelity = circuit->link_fidelity;
    setup.cutoff_ns = circuit->cutoff_ns;
    setup.number = circuit->number;
    setup.request = circuit->user_request;
    setup.measure = circuit->measure;
    setup.axes_seed = circuit->axes_seed;
    setup.axes_set = circuit->axes_set;
    setup.min_fidelity = circuit->min_fidelity;
    setup.lifetime_ns = circuit->lifetime_ns;
    setup.keep_frame = circuit->keep_frame;
    Qnet__V1__QkdPairs qkd = QNET__V1__QKD_PAIRS__INIT;
    qkd.session = circuit->qkd.session;
    qkd.block = circuit->qkd.block;
    qkd.train = circuit->qkd.train;
    if (circuit->qkd.is_set) setup.qkd = &qkd;
    envelope.circuit_setup = &setup;
    node_send(node, circuit->sides[1].node, &envelope);
    node_timer(node, &circuit->patience, node->now_ns + patience_ns(node));
}

static void set_place(struct circuit *circuit, size_t place) {
    circuit->place = place;
    circuit->role = place == 0 ? HEAD : place == circuit->n_links ? TAIL : INNER;
    if (place > 0) {
        circuit->sides[0].node = circuit->path[place - 1];
        circuit->sides[0].link = circuit->links[place - 1];
    }
    if (place < circuit->n_links) {
        circuit->sides[1].node = circuit->path[place + 1];
        circuit->sides[1].link = circuit->links[place];
    }
}

int circuit_open(struct qn_node *node, uint16_t peer, struct request *request, struct circuit **ret_circuit) {
    struct route route;
    int rc = route_entanglement(node, peer, &route);
    if (rc < 0) return rc;
    request->hops = (uint32_t)route.n_links;
    request->predicted = route.fidelity;
    if (request->min_fidelity > route.fidelity) return -QN_EFIDELITY;
    if (node->hardware->memories == 0) return -QN_EUNSUPPORTED;
    struct circuit *circuit = circuit_new(node, node->next_circuit++);
    if (circuit == NULL) return -QN_EBUSY;
    circuit->n_links = route.n_links;
    memcpy(circuit->path, route.nodes, sizeof circuit->path);
    memcpy(circuit->links, route.links, sizeof circuit->links);
    set_place(circuit, 0);
    circuit->number = request->wanted;
    circuit->fidelity = route.fidelity;
    circuit->min_fidelity = request->min_fidelity;
    circuit->measure = request->measured;
    circuit->axes_set = request->axes_set;
    circuit->qkd = request->qkd;
    circuit->keep_frame = request->kind == REQUEST_TELEPORT;
    circuit->axes_seed = qn_rng_u64(&node->choices);
    qn_rng_init(&circuit->axes_rng, qn_rng_u64(&node->choices), "axes", 0);
    circuit->user_request = request->number;
    circuit->cutoff_ns = request->cutoff_ns;
    circuit->lifetime_ns = request->timeout_ns + request->timeout_ns / 4 + patience_ns(node);
    circuit->request = request;
    forward_setup(node, circuit);
    *ret_circuit = circuit;
    return 0;
}

static bool setup_is_valid(const struct qn_node *node, uint16_t from, const Qnet__V1__CircuitSetup *m,
                           size_t *ret_place) {
    if (m->n_links == 0 || m->n_links > ROUTE_MAX_HOPS || m->n_path != m->n_links + 1) return false;
    size_t place = 0;
    for (size_t i = 0; i < m->n_path; i++) {
        if (m->path[i] >= node->topology->n_nodes) return false;
        if (m->path[i] == node->self) place = i;
    }
    for (size_t i = 0; i < m->n_links; i++) {
        if (m->links[i] >= node->topology->n_links || !node->links[m->links[i]].planned) return false;
        const struct qn_topo_link *link = &node->topology->links[m->links[i]];
        uint32_t x = m->path[i], y = m->path[i + 1];
        if (!((link->a == x && link->b == y) || (link->a == y && link->b == x))) return false;
    }
    *ret_place = place;
    return place > 0 && m->path[place - 1] == from && m->circuit >> 48 == m->path[0];
}

/* An inner node sets the same memory aside for both sides, so that circuits cannot starve each other half-way. */
static int set_memory_aside(struct qn_node *node, struct circuit *circuit) {
    uint32_t free = node->hardware->memories - node->memories_used;
    uint32_t share = free / 4 > 0 ? free / 4 : free / 2;
    if (share > circuit->number) share = circuit->number;
    if (share > SHARE_MAX) share = SHARE_MAX;
    if (share == 0) return -QN_EMEMORY_FULL;
    circuit->share = share;
    node->memories_used += 2 * share;
    return 0;
}

void circuit_on_setup(struct qn_node *node, uint16_t from, const Qnet__V1__CircuitSetup *m) {
    size_t place;
    if (!setup_is_valid(node, from, m, &place)) {
        send_refuse(node, from, m->circuit, -QN_EPROTOCOL, "malformed path", node->self);
        return;
    }
    if (circuit_find(node, m->circuit) != NULL) return;
    int error = 0;
    const char *detail = "";
    struct circuit *circuit = NULL;
    bool tail = place == m->n_links;
    if (node->stopping)
        error = -QN_ESHUTDOWN, detail = "the node is stopping";
    else if (node->hardware->memories == 0)
        error = -QN_EUNSUPPORTED, detail = "it has no quantum memory";
    else if (!tail && node->hardware->role != QN_ROLE_REPEATER)
        error = -QN_EUNSUPPORTED, detail = "it does not swap";
    else if ((circuit = circuit_new(node, m->circuit)) == NULL)
        error = -QN_EBUSY, detail = "too many circuits";
    if (error < 0) {
        send_refuse(node, from, m->circuit, error, detail, node->self);
        return;
    }
    circuit->n_links = m->n_links;
    for (size_t i = 0; i < m->n_path; i++) circuit->path[i] = (uint16_t)m->path[i];
    for (size_t i = 0; i < m->n_links; i++) circuit->links[i] = (uint16_t)m->links[i];
    set_place(circuit, place);
    circuit->number = m->number;
    circuit->measure = m->measure;
    circuit->axes_set = m->axes_set;
    if (m->qkd != NULL) circuit->qkd = (struct qkd_ref){true, m->qkd->session, m->qkd->block, m->qkd->train, 0, 0};
    circuit->axes_seed = m->axes_seed;
    circuit->min_fidelity = m->min_fidelity;
    circuit->keep_frame = m->keep_frame;
    circuit->user_request = m->request;
    circuit->lifetime_ns = m->lifetime_ns;
    circuit->cutoff_ns = m->cutoff_ns;
    qn_rng_init(&circuit->axes_rng, m->axes_seed, "axes", 1);
    if (m->lifetime_ns != 0 && m->lifetime_ns < UINT64_MAX / 4)
        node_timer(node, &circuit->lifetime, node->now_ns + m->lifetime_ns);
    if (circuit->role == INNER) {
        if (set_memory_aside(node, circuit) < 0) {
            circuit->role = TAIL; /* Nothing was set aside. */
            fail(node, circuit, -QN_EMEMORY_FULL, "all its quantum memories are in use", node->self);
            return;
        }
        forward_setup(node, circuit);
        return;
    }
    int rc = m->qkd != NULL ? bb84_pairs_begin(node, circuit->path[0], m->qkd, m->number, &circuit->qkd) : 0;
    if (rc < 0) {
        fail(node, circuit, rc, "no keys are being made from these pairs", node->self);
        return;
    }
    circuit->ready = true;
    Qnet__V1__CircuitReady ready = QNET__V1__CIRCUIT_READY__INIT;
    Qnet__V1__Envelope envelope = body(QNET__V1__ENVELOPE__BODY_CIRCUIT_READY);
    ready.circuit = circuit->id;
    envelope.circuit_ready = &ready;
    node_send(node, from, &envelope);
}

static void fill_link_request(const struct circuit *circuit, struct link_request *request) {
    request->circuit = (struct circuit *)(uintptr_t)circuit;
    request->circuit_id = circuit->id;
    request->user_request = circuit->user_request;
    request->prepaid = circuit->role == INNER;
    request->budget = circuit->role == INNER ? circuit->share : UINT32_MAX;
    request->number = 0;
    request->min_fidelity = circuit->link_fidelity;
}

void circuit_on_ready(struct qn_node *node, uint16_t from, const Qnet__V1__CircuitReady *m) {
    struct circuit *circuit = circuit_find(node, m->circuit);
    if (circuit == NULL || circuit->sides[1].node != from || circuit->ready) return;
    circuit->ready = true;
    qn_timers_clear(&node->timers, &circuit->patience);
    struct link_request wanted = {0};
    fill_link_request(circuit, &wanted);
    int rc = link_create(node, circuit->sides[1].link, &wanted, &circuit->sides[1].request);
    if (rc < 0) {
        fail(node, circuit, rc, "cannot ask the link for pairs", node->self);
        return;
    }
    if (circuit->role != INNER) return;
    Qnet__V1__CircuitReady ready = QNET__V1__CIRCUIT_READY__INIT;
    Qnet__V1__Envelope envelope = body(QNET__V1__ENVELOPE__BODY_CIRCUIT_READY);
    ready.circuit = circuit->id;
    envelope.circuit_ready = &ready;
    node_send(node, circuit->sides[0].node, &envelope);
}

int circuit_accept_link(struct qn_node *node, struct circuit *circuit, uint16_t link, struct link_request *request) {
    (void)node;
    if (circuit->sides[0].link != link || circuit->sides[0].request != NULL) return -QN_EREJECTED;
    fill_link_request(circuit, request);
    circuit->sides[0].request = request;
    return 0;
}

uint64_t circuit_wants(const struct circuit *circuit, const struct link_request *request) {
    (void)request;
    if (circuit->closing) return 0;
    return circuit->role == INNER ? UINT64_MAX : circuit->number + circuit->expired;
}

void circuit_on_refuse(struct qn_node *node, uint16_t from, const Qnet__V1__CircuitRefuse *m) {
    struct circuit *circuit = circuit_find(node, m->circuit);
    if (circuit == NULL || circuit->sides[1].node != from) return;
    struct request *request = circuit->request;
    int error = -(int)m->error;
    char text[200];
    if (circuit->role == HEAD && m->node < node->topology->n_nodes &&
        strstr(m->detail, node_name(node, (uint16_t)m->node)) == NULL)
        snprintf(text, sizeof text, "%s: %s", node_name(node, (uint16_t)m->node), m->detail);
    else
        snprintf(text, sizeof text, "%s", m->detail);
    if (circuit->sides[0].node != QN_NO_NODE)
        send_refuse(node, circuit->sides[0].node, circuit->id, error, m->detail, (uint16_t)m->node);
    if (request != NULL) request->circuit = NULL;
    destroy(node, circuit, error, text, true);
    if (request != NULL) request_on_circuit_closed(node, request, error, text);
}

void circuit_on_tear(struct qn_node *node, uint16_t from, const Qnet__V1__CircuitTear *m) {
    struct circuit *circuit = circuit_find(node, m->circuit);
    if (circuit == NULL || circuit->sides[0].node != from) return;
    if (circuit->sides[1].node != QN_NO_NODE)
        send_tear(node, circuit->sides[1].node, circuit->id, -(int)m->error, m->detail);
    destroy(node, circuit, -(int)m->error, m->detail, true);
}

void circuit_on_link_closed(struct qn_node *node, struct circuit *circuit, int error, const char *detail) {
    for (int i = 0; i < 2; i++)
        circuit->sides[i].request = NULL; /* The closed one is gone; the other is cancelled below. */
    for (struct list *item = node->link_requests.next; item != &node->link_requests; item = item->next) {
        struct link_request *request = CONTAINER_OF(item, struct link_request, link);
        if (request->circuit == circuit)
            circuit->sides[request->link_index == circuit->sides[0].link ? 0 : 1].request = request;
    }
    if (circuit->closing) return;
    if (error == 0) return; /* The neighbour is done; its CircuitTear or CircuitRefuse follows. */
    char text[128];
    snprintf(text, sizeof text, "link: %s", detail);
    fail(node, circuit, error, text, node->self);
}

/* Only a node next to the dead one on the path ends the circuit; the others learn it from there. */
void circuit_on_peer_gone(struct qn_node *node, uint16_t peer) {
    for (struct list *item = node->circuits.next, *next; item != &node->circuits; item = next) {
        next = item->next;
        struct circuit *circuit = CONTAINER_OF(item, struct circuit, link);
        if (circuit->sides[1].node == peer &&
            !circuit->ready) { /* It never knew of the circuit: ask who comes after it. */
            forward_setup(node, circuit);
            continue;
        }
        if (circuit->sides[0].node != peer && circuit->sides[1].node != peer) continue;
        char text[128];
        snprintf(text, sizeof text, "%s went down", node_name(node, peer));
        fail(node, circuit, -QN_EPEER_DOWN, text, peer);
    }
}

const char *circuit_obstacle(const struct qn_node *node, const struct circuit *circuit, int *ret_error) {
    static const char *const no_answer =
        "the path did not answer the set-up: a node or a classical channel on it is down or slow";
    if (!node_can_reach(node, circuit->sides[1].node)) {
        *ret_error = -QN_EPEER_DOWN;
        return "the classical channel towards it is down";
    }
    if (!circuit->ready) return no_answer;
    if (circuit->sides[1].request != NULL && circuit->sides[1].request->granted == 0 &&
        node->memories_used >= node->hardware->memories) {
        *ret_error = -QN_EMEMORY_FULL;
        return "all quantum memories of this node are in use";
    }
    const struct neighbour *station = node_neighbour(node, link_station(node, circuit->sides[1].link));
    if (station != NULL && !station->up[QN_QUANTUM]) {
        *ret_error = -QN_EPEER_DOWN;
        return "the quantum channel of the first link is down";
    }
    return "pairs come too slowly, or the other end has no free memory";
}

int circuit_lost_node(const struct qn_node *node, const struct circuit *circuit) {
    for (size_t i = 0; i <= circuit->n_links; i++)
        if (node->remotes[circuit->path[i]].lost) return circuit->path[i];
    return -1;
}

void circuit_mark_peers(const struct qn_node *node, bool *marks) {
    for (const struct list *item = node->circuits.next; item != &node->circuits; item = item->next) {
        const struct circuit *circuit = CONTAINER_OF(item, struct circuit, link);
        for (int side = 0; side < 2; side++)
            if (circuit->sides[side].node != QN_NO_NODE) marks[circuit->sides[side].node] = true;
    }
}

void circuit_check(const struct qn_node *node, uint32_t *ret_memories) {
    assert(node->circuit_of.len <= CIRCUITS_MAX);
    *ret_memories = 0;
    for (const struct list *item = node->circuits.next; item != &node->circuits; item = item->next) {
        const struct circuit *circuit = CONTAINER_OF(item, struct circuit, link);
        assert(qn_map_get(&node->circuit_of, circuit->id) == circuit);
        if (circuit->role == INNER) *ret_memories += 2 * circuit->share;
    }
}

void circuit_release_all(struct qn_node *node) {
    while (!list_is_empty(&node->circuits)) {
        struct circuit *circuit = CONTAINER_OF(node->circuits.next, struct circuit, link);
        if (circuit->request != NULL) circuit->request->circuit = NULL;
        destroy(node, circuit, -QN_ESHUTDOWN, "", false);
    }
}
