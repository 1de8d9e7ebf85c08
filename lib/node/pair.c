/* SPDX-License-Identifier: Apache-2.0 */
/* Halves of pairs that this node holds, and the quantum memories they take. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "link/bell.h"
#include "node/internal.h"

uint64_t pair_key(uint16_t link, uint64_t sequence) {
    return (uint64_t)link << 48 | (sequence & UINT64_C(0xffffffffffff));
}

struct pair *pair_find(const struct qn_node *node, uint16_t link, uint64_t sequence) {
    return qn_map_get(&node->pairs, pair_key(link, sequence));
}

struct pair *pair_find_or_new(struct qn_node *node, uint16_t link, uint64_t sequence) {
    struct pair *pair = pair_find(node, link, sequence);
    if (pair != NULL) return pair;
    pair = calloc(1, sizeof *pair);
    if (pair == NULL) return NULL;
    pair->node = node;
    pair->link = link;
    pair->sequence = sequence;
    pair->peer = QN_NO_NODE;
    list_init(&pair->queue);
    list_init(&pair->of_request);
    if (qn_map_put(&node->pairs, pair_key(link, sequence), pair) < 0) {
        free(pair);
        return NULL;
    }
    return pair;
}

struct pair *pair_of_qubit(const struct qn_node *node, qn_qubit qubit) {
    return qn_map_get(&node->qubits, qubit);
}

void pair_bind(struct qn_node *node, struct pair *pair, qn_qubit qubit) {
    pair->qubit = qubit;
    if (qn_map_put(&node->qubits, qubit, pair) < 0) abort(); /* The qubit is ours already; see lib/plane/README.md. */
}

bool memory_take(struct qn_node *node) {
    if (node->memories_used >= node->hardware->memories) return false;
    node->memories_used++;
    return true;
}

void memory_give(struct qn_node *node, uint32_t n) {
    assert(node->memories_used >= n);
    node->memories_used -= n;
    if (n > 0) node->wake_links = true;
}

void pair_give_memory(struct qn_node *node, struct pair *pair) {
    if (pair->qubit != 0) qn_map_remove(&node->qubits, pair->qubit);
    pair->qubit = 0;
    if (pair->takes_memory) memory_give(node, 1);
    pair->takes_memory = false;
    if (pair->request != NULL) {
        struct link_request *request = pair->request;
        list_remove(&pair->of_request);
        pair->request = NULL;
        assert(request->holding > 0);
        request->holding--;
        node->wake_links = true;
    }
}

void pair_detach(struct qn_node *node, struct pair *pair) {
    if (pair->request == NULL) return;
    list_remove(&pair->of_request);
    pair->request->holding--;
    pair->request = NULL;
    node->wake_links = true;
}

void pair_free(struct qn_node *node, struct pair *pair, bool discard_qubit) {
    if (discard_qubit && pair->qubit != 0) node_discard_qubit(node, pair->qubit);
    pair_give_memory(node, pair);
    if (pair->teleport != 0) teleport_on_pair_gone(node, pair);
    if (pair->state == PAIR_USABLE) node->n_delivered--;
    list_remove(&pair->queue);
    qn_timers_clear(&node->timers, &pair->cutoff);
    qn_map_remove(&node->pairs, pair_key(pair->link, pair->sequence));
    free(pair);
}

/* The user keeps the near half, which is what it was, on its own; but it is a pair no more. */
void pair_on_peer_gone(struct qn_node *node, uint16_t peer) {
    unsigned n = 0;
    for (struct list *item = node->delivered.next; item != &node->delivered; item = item->next) {
        struct pair *pair = CONTAINER_OF(item, struct pair, queue);
        if (pair->peer != peer || pair->lost) continue;
        pair->lost = true;
        n++;
    }
    if (n > 0)
        node_event(node, LEVEL_WARNING, "pairs_lost", node_name(node, peer),
                   "%u pairs have lost their far halves; discard them to free their memories", n);
}

/* Werner parameter after decay in both memories: z falls with T1, x and y with T2 (physics.md B.5, twirled). */
double pair_fidelity_now(const struct qn_node *node, const struct pair *pair) {
    if (pair->lost) return 0.25; /* A product, with whatever state at the other end. */
    double w = qn_werner_parameter(pair->goodness), age = (double)(node->now_ns - pair->since_ns) * 1e-9;
    if (node->now_ns < pair->since_ns) return pair->goodness;
    const struct qn_topo_node *ends[2] = {node->hardware, NULL};
    if (pair->peer != QN_NO_NODE) ends[1] = &node->topology->nodes[pair->peer];
    double rate1 = 0, rate2 = 0;
    for (int i = 0; i < 2; i++) {
        if (ends[i] == NULL) continue;
        if (ends[i]->t1_s > 0) rate1 += 1 / ends[i]->t1_s;
        if (ends[i]->t2_s > 0) rate2 += 1 / ends[i]->t2_s;
    }
    return qn_werner_fidelity(w * (exp(-age * rate1) + 2 * exp(-age * rate2)) / 3);
}

bool frame_flips(uint32_t bell, uint8_t axis) {
    bool z = (bell & 1) != 0, x = (bell & 2) != 0;
    switch (axis) {
    case 0:
        return z;
    case 1:
        return z != x;
    case 2:
        return x;
    default:
        return false;
    }
}
