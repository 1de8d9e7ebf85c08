/* SPDX-License-Identifier: Apache-2.0 */
/* What users do: requests of every kind to random nodes, changes of mind, and, when all faults are over, requests that
 * must succeed. */
#include <math.h>
#include <string.h>

#include "chaos.h"
#include "link/observe.h"
#include "node/keys.h"

#define MS UINT64_C(1000000)
#define HOUR UINT64_C(3600000000000)

static uint16_t any_node(struct chaos *chaos) { return (uint16_t)qn_rng_below(&chaos->load, chaos->topology.n_nodes); }

static char *name_of(const struct chaos *chaos, uint16_t node) { return chaos->topology.nodes[node].name; }

static void send(struct chaos *chaos, uint16_t node, Qnet__V1__ControlRequest__BodyCase which, void *body,
                 uint64_t id) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    request.id = id;
    request.body_case = which;
    request.status = body; /* All members of the union are pointers. */
    cluster_request(chaos->cluster, node, id, &request);
}

/* ---- pairs and states ---- */

static void pairs(struct chaos *chaos, uint16_t node, uint16_t peer, uint32_t number, bool measure,
                  uint64_t timeout_ns) {
    Qnet__V1__PairRequest m = QNET__V1__PAIR_REQUEST__INIT;
    uint64_t id;
    struct ask *ask = judge_ask(chaos, measure ? ASK_MEASURE : ASK_KEEP, node, timeout_ns, &id);
    if (ask == NULL) return;
    ask->must_succeed = chaos->calm;
    ask->peer = peer;
    ask->number = number;
    m.peer = name_of(chaos, peer);
    m.number = number;
    m.measure = measure;
    m.timeout_ns = timeout_ns;
    m.axes = QNET__V1__AXES_SET__AXES_SET_XYZ;
    m.quiet = chance(&chaos->load, 0.5);
    m.cutoff_ns = timeout_ns >= HOUR ? HOUR : 0; /* Whoever must succeed does not throw pairs away. */
    if (timeout_ns < HOUR && chance(&chaos->load, 0.1))
        ask->min_fidelity = m.min_fidelity = 0.3 + 0.6 * qn_rng_double(&chaos->load);
    send(chaos, node, QNET__V1__CONTROL_REQUEST__BODY_PAIR, &m, id);
}

static void teleport(struct chaos *chaos, uint16_t node, uint16_t peer, uint32_t number, uint64_t timeout_ns,
                     bool tomography) {
    Qnet__V1__TeleportRequest m = QNET__V1__TELEPORT_REQUEST__INIT;
    uint64_t id;
    struct ask *ask = judge_ask(chaos, ASK_TELEPORT, node, timeout_ns, &id);
    if (ask == NULL) return;
    ask->must_succeed = chaos->calm;
    ask->peer = peer;
    ask->number = number;
    ask->theta = m.theta = chance(&chaos->load, 0.5) ? 0 : M_PI * qn_rng_double(&chaos->load);
    m.peer = name_of(chaos, peer);
    m.phi = 6 * qn_rng_double(&chaos->load);
    m.number = number;
    m.tomography = tomography;
    m.timeout_ns = timeout_ns;
    send(chaos, node, QNET__V1__CONTROL_REQUEST__BODY_TELEPORT, &m, id);
}

static int bb84_link(const struct chaos *chaos, uint16_t a, uint16_t b) {
    for (size_t i = 0; i < chaos->topology.n_links; i++) {
        const struct qn_topo_link *link = &chaos->topology.links[i];
        if (link->kind == QN_LINK_BB84 && ((link->a == a && link->b == b) || (link->a == b && link->b == a)))
            return (int)i;
    }
    return -1;
}

static void bb84(struct chaos *chaos, uint16_t node, uint16_t peer, uint64_t timeout_ns) {
    Qnet__V1__Bb84Request m = QNET__V1__BB84_REQUEST__INIT;
    uint64_t id;
    int link = bb84_link(chaos, node, peer);
    struct ask *ask = judge_ask(chaos, ASK_BB84, node, timeout_ns, &id);
    if (ask == NULL) return;
    ask->must_succeed = chaos->calm;
    ask->peer = peer;
    m.peer = name_of(chaos, peer);
    m.blocks = chaos->calm ? 1 : (uint32_t)between(&chaos->load, 1, 3);
    m.timeout_ns = timeout_ns;
    m.qber_limit = chaos->calm ? 0.25 : 0;
    if (link >= 0) { /* Enough clicks for a key, and no more: the time goes into the protocol. */
        struct qn_source source;
        struct qn_receiver receiver;
        struct qn_optics optics;
        struct qn_expected expected;
        const struct qn_attack none = {0};
        (void)qn_source_from(&chaos->topology, &chaos->topology.links[link], &source);
        qn_receiver_from(&chaos->topology, &chaos->topology.links[link], &receiver);
        qn_optics_init(&optics, &source, &receiver, &none);
        qn_expect(&optics, &expected);
        double pulses = (double)spread(&chaos->load, 2000, 40000) / expected.click;
        m.block_pulses = pulses < 1e8 ? (uint64_t)pulses + 1 : 100000000;
    }
    send(chaos, node, QNET__V1__CONTROL_REQUEST__BODY_BB84, &m, id);
}

/* ---- gates ---- */

static struct pair *any_pair(struct chaos *chaos, const struct qn_node *node) { /* That a user holds. */
    if (node->n_delivered == 0) return NULL;
    const struct list *item = node->delivered.next;
    for (uint64_t skip = qn_rng_below(&chaos->load, node->n_delivered); skip > 0; skip--) item = item->next;
    struct pair *pair = CONTAINER_OF(item, struct pair, queue);
    return pair->qubit != 0 ? pair : NULL;
}

static struct pair *partner_of(const struct chaos *chaos, uint16_t node, const struct pair *pair) {
    const struct qn_node *there = pair->peer != QN_NO_NODE ? cluster_node(chaos->cluster, pair->peer) : NULL;
    if (there == NULL) return NULL;
    for (const struct list *item = there->delivered.next; item != &there->delivered; item = item->next) {
        struct pair *other = CONTAINER_OF(item, struct pair, queue);
        if (other->circuit_id == pair->circuit_id && other->id == pair->id && other->peer == node && other->qubit != 0)
            return other;
    }
    return NULL;
}

static uint64_t gate(struct chaos *chaos, uint16_t node, const Qnet__V1__GateStep *steps, size_t n) {
    Qnet__V1__GateRequest m = QNET__V1__GATE_REQUEST__INIT;
    Qnet__V1__GateStep copies[16], *pointers[16];
    uint64_t id, timeout_ns = chaos->calm ? HOUR : spread(&chaos->load, 200, 8000) * MS;
    struct ask *ask = judge_ask(chaos, ASK_GATE, node, timeout_ns, &id);
    if (ask == NULL) return 0;
    ask->must_succeed = chaos->calm;
    for (size_t i = 0; i < n; i++) {
        copies[i] = steps[i];
        pointers[i] = &copies[i];
        ask->two_qubits = ask->two_qubits || steps[i].n_qubits == 2;
    }
    m.steps = pointers;
    m.n_steps = n;
    m.timeout_ns = timeout_ns;
    send(chaos, node, QNET__V1__CONTROL_REQUEST__BODY_GATE, &m, id);
    return id;
}

static double axes[3][3] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}};

static Qnet__V1__GateStep step_of(uint32_t kind, uint64_t *qubits, size_t n, int axis) {
    Qnet__V1__GateStep step = QNET__V1__GATE_STEP__INIT;
    step.kind = kind;
    step.qubits = qubits;
    step.n_qubits = n;
    if (axis >= 0) {
        step.args = axes[axis];
        step.n_args = 3;
    }
    return step;
}

static void prepare(struct chaos *chaos, uint16_t node) {
    if (chaos->topology.nodes[node].memories == 0 && chance(&chaos->load, 0.9)) return;
    Qnet__V1__GateStep steps[2] = {QNET__V1__GATE_STEP__INIT, QNET__V1__GATE_STEP__INIT};
    gate(chaos, node, steps, chaos->calm ? 1 : (size_t)between(&chaos->load, 1, 2));
}

/* Both halves of a pair, along the same axis: without noise, and if nobody died, the outcomes agree. */
static void measure_both(struct chaos *chaos, uint16_t node, struct pair *pair) {
    struct pair *other = partner_of(chaos, node, pair);
    if (other == NULL) return;
    uint16_t peer = pair->peer;
    uint64_t qubits[2] = {pair->qubit, other->qubit},
             born = pair->since_ns < other->since_ns ? pair->since_ns : other->since_ns;
    bool fresh = qn_map_get(&chaos->touched, qubits[0]) == NULL && qn_map_get(&chaos->touched, qubits[1]) == NULL;
    int axis = chance(&chaos->load, 0.5) ? 0 : 2;
    Qnet__V1__GateStep here = step_of(QNET__V1__OP_KIND__OP_KIND_MEASURE, &qubits[0], 1, axis),
                       there = step_of(QNET__V1__OP_KIND__OP_KIND_MEASURE, &qubits[1], 1, axis);
    size_t next = chaos->n_asks;
    uint64_t one = gate(chaos, node, &here, 1);
    if (one != 0 && fresh) { /* The answer may have come already. */
        chaos->asks[one].born_ns = born;
        chaos->asks[one].peer = peer;
        chaos->asks[one].partner = next + 1;
    }
    uint64_t two = gate(chaos, peer, &there, 1);
    if (one != 0 && two == 0) chaos->asks[one].partner = 0;
    if (one != 0 && two != 0 && fresh) {
        if (two != one + 1) chaos_fail(chaos, "the harness lost count");
        chaos->asks[two].born_ns = born;
        chaos->asks[two].peer = node;
        chaos->asks[two].partner = one;
        judge_both(chaos, &chaos->asks[two]);
    }
}

static void touch(struct chaos *chaos, uint64_t qubit) { qn_map_put(&chaos->touched, qubit, chaos); }

static void gates(struct chaos *chaos, uint16_t id) {
    const struct qn_node *node = cluster_node(chaos->cluster, id);
    struct pair *pair = node != NULL ? any_pair(chaos, node) : NULL;
    uint64_t draw = qn_rng_below(&chaos->load, 10);
    if (node != NULL && (pair == NULL || draw < 2)) {
        prepare(chaos, id);
    } else if (pair != NULL && draw < 6) {
        measure_both(chaos, id, pair);
    } else if (pair != NULL && draw < 8) {
        uint64_t qubit = pair->qubit;
        touch(chaos, qubit);
        static const uint32_t kinds[] = {QNET__V1__OP_KIND__OP_KIND_H, QNET__V1__OP_KIND__OP_KIND_X,
                                         QNET__V1__OP_KIND__OP_KIND_IDLE};
        Qnet__V1__GateStep step = step_of(kinds[qn_rng_below(&chaos->load, 3)], &qubit, 1, -1);
        gate(chaos, id, &step, 1);
    } else if (pair != NULL) {
        const struct pair *other = any_pair(chaos, node);
        if (other == NULL || other == pair) return;
        uint64_t qubits[2] = {pair->qubit, other->qubit};
        touch(chaos, qubits[0]);
        touch(chaos, qubits[1]);
        bool bell = chance(&chaos->load, 0.3);
        Qnet__V1__GateStep step =
            step_of(bell ? QNET__V1__OP_KIND__OP_KIND_BELL : QNET__V1__OP_KIND__OP_KIND_CNOT, qubits, 2, -1);
        gate(chaos, id, &step, 1);
    }
}

/* ---- the rest ---- */

static void discard_all(struct chaos *chaos, uint16_t node) {
    Qnet__V1__DiscardRequest m = QNET__V1__DISCARD_REQUEST__INIT;
    uint64_t id;
    if (judge_ask(chaos, ASK_DISCARD, node, 0, &id) == NULL) return;
    m.all = true;
    send(chaos, node, QNET__V1__CONTROL_REQUEST__BODY_DISCARD, &m, id);
}

static void list(struct chaos *chaos, uint16_t node) {
    Qnet__V1__ListRequest m = QNET__V1__LIST_REQUEST__INIT;
    Qnet__V1__StatusRequest status = QNET__V1__STATUS_REQUEST__INIT;
    uint64_t id;
    if (judge_ask(chaos, ASK_LIST, node, 0, &id) == NULL) return;
    m.kind = (Qnet__V1__ListKind)between(&chaos->load, 0, 4);
    if (m.kind == 0)
        send(chaos, node, QNET__V1__CONTROL_REQUEST__BODY_STATUS, &status, id);
    else
        send(chaos, node, QNET__V1__CONTROL_REQUEST__BODY_LIST, &m, id);
}

static void wait_for(struct chaos *chaos, uint16_t node) {
    Qnet__V1__WaitRequest m = QNET__V1__WAIT_REQUEST__INIT;
    static const char *const conditions[] = {"ready", "pairs 1", "keys 1"};
    uint64_t id;
    uint64_t timeout_ns = spread(&chaos->load, 10, 8000) * MS;
    if (judge_ask(chaos, ASK_WAIT, node, timeout_ns, &id) == NULL) return;
    m.condition = (char *)(uintptr_t)conditions[qn_rng_below(&chaos->load, 3)];
    m.timeout_ns = timeout_ns;
    send(chaos, node, QNET__V1__CONTROL_REQUEST__BODY_WAIT, &m, id);
}

static void take_key(struct chaos *chaos, uint16_t id_of_node) {
    Qnet__V1__KeyTakeRequest m = QNET__V1__KEY_TAKE_REQUEST__INIT;
    const struct qn_node *node = cluster_node(chaos->cluster, id_of_node);
    uint64_t id;
    if (node == NULL || list_is_empty(&node->keys->list)) return;
    struct key *key = CONTAINER_OF(node->keys->list.next, struct key, link);
    uint8_t name[16];
    memcpy(name, key->record.id, sizeof name);
    if (judge_ask(chaos, ASK_KEY, id_of_node, 0, &id) == NULL) return;
    m.key_id = (ProtobufCBinaryData){sizeof name, name};
    send(chaos, id_of_node, QNET__V1__CONTROL_REQUEST__BODY_KEY_TAKE, &m, id);
}

static void change_mind(struct chaos *chaos) { /* About the youngest request that is open. */
    size_t i = chaos->n_asks > 0 ? chaos->n_asks - 1 : 0;
    while (i > 0 && (chaos->asks[i].state != OPEN || chaos->asks[i].kind > ASK_GATE || chaos->asks[i].client != i)) i--;
    if (i == 0) return;
    uint16_t node = chaos->asks[i].node;
    if (chance(&chaos->load, 0.5)) {
        Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
        Qnet__V1__CancelRequest m = QNET__V1__CANCEL_REQUEST__INIT;
        struct ask *ask = judge_ask(chaos, ASK_CANCEL, node, 0, &request.id);
        if (ask == NULL) return;
        ask->client = i;
        chaos->asks[i].cancelled = true;
        m.id = i;
        request.body_case = QNET__V1__CONTROL_REQUEST__BODY_CANCEL;
        request.cancel = &m;
        cluster_request(chaos->cluster, node, i, &request);
    } else if (cluster_node(chaos->cluster, node) != NULL && !cluster_is_paused(chaos->cluster, node)) {
        chaos->asks[i].state = LEFT;
        chaos->n_open--;
        cluster_client_gone(chaos->cluster, node, i);
    }
}

void load_one(struct chaos *chaos) {
    uint16_t node = any_node(chaos), peer = any_node(chaos);
    uint64_t draw = qn_rng_below(&chaos->load, 100), timeout_ns = spread(&chaos->load, 100, 10000) * MS;
    struct route route;
    for (int tries = 0; tries < 8 && draw < 50; tries++) { /* Mostly what can be done at all. */
        if (peer != node && cluster_node(chaos->cluster, node) != NULL &&
            route_entanglement(cluster_node(chaos->cluster, node), peer, &route) == 0)
            break;
        node = any_node(chaos), peer = any_node(chaos);
    }
    if (draw < 50 && cluster_node(chaos->cluster, node) != NULL &&
        route_entanglement(cluster_node(chaos->cluster, node), peer, &route) < 0 && chance(&chaos->load, 0.9))
        return;
    if (peer == node) peer = (uint16_t)((node + 1) % chaos->topology.n_nodes);
    if (cluster_node(chaos->cluster, node) == NULL) return;
    if (draw < 20)
        pairs(chaos, node, peer, (uint32_t)spread(&chaos->load, 1, 6), false, timeout_ns);
    else if (draw < 38)
        pairs(chaos, node, peer, (uint32_t)spread(&chaos->load, 1, 100), true, timeout_ns);
    else if (draw < 50)
        teleport(chaos, node, peer, (uint32_t)spread(&chaos->load, 1, 12), timeout_ns, chance(&chaos->load, 0.7));
    else if (draw < 56) {
        if (bb84_link(chaos, node, peer) >= 0 || chance(&chaos->load, 0.1)) bb84(chaos, node, peer, timeout_ns);
    } else if (draw < 76)
        gates(chaos, node);
    else if (draw < 86)
        discard_all(chaos, node);
    else if (draw < 90)
        list(chaos, node);
    else if (draw < 92)
        wait_for(chaos, node);
    else if (draw < 95)
        take_key(chaos, node);
    else
        change_mind(chaos);
}

/* ---- when all faults are over ---- */

void load_release(struct chaos *chaos) {
    for (uint16_t node = 0; node < chaos->topology.n_nodes; node++) discard_all(chaos, node);
    for (size_t i = 0; i < chaos->n_prepared; i++) {
        struct user_qubit *held = &chaos->prepared[i];
        const struct qn_node *node = cluster_node(chaos->cluster, held->node);
        if (held->incarnation != cluster_incarnation(chaos->cluster, held->node) ||
            !qn_plane_is_owned(node->plane, held->qubit))
            continue;
        Qnet__V1__GateStep step = step_of(QNET__V1__OP_KIND__OP_KIND_DISCARD, &held->qubit, 1, -1);
        gate(chaos, held->node, &step, 1);
    }
    chaos->n_prepared = 0;
}

void load_meet(struct chaos *chaos) {
    struct route route;
    for (uint16_t a = 0; a < chaos->topology.n_nodes; a++)
        for (uint16_t b = 0; b < chaos->topology.n_nodes; b++)
            if (a != b && route_entanglement(cluster_node(chaos->cluster, a), b, &route) == 0)
                teleport(chaos, a, b, 1, 2000 * MS, true);
}

bool load_service(struct chaos *chaos, size_t i) {
    struct route route;
    uint16_t n = (uint16_t)chaos->topology.n_nodes;
    if (i >= 2 * (size_t)n + chaos->topology.n_links) return false;
    if (i >= 2 * (size_t)n) {
        const struct qn_topo_link *link = &chaos->topology.links[i - 2 * (size_t)n];
        if (link->kind == QN_LINK_BB84 && chance(&chaos->load, 0.5)) bb84(chaos, link->a, link->b, HOUR);
        return true;
    }
    uint16_t node = (uint16_t)(i / 2), peer = (uint16_t)((node + between(&chaos->load, 1, n - 1u)) % n);
    if (i % 2 == 0) {
        list(chaos, node);
        if (chaos->topology.nodes[node].memories > 0) prepare(chaos, node);
        return true;
    }
    uint64_t kind = qn_rng_below(&chaos->load, 3);
    if (route_entanglement(cluster_node(chaos->cluster, node), peer, &route) < 0) return true;
    if (kind == 2)
        teleport(chaos, node, peer, 3, HOUR, true);
    else
        pairs(chaos, node, peer, kind == 0 ? 1 : 5, kind == 1, HOUR);
    return true;
}
