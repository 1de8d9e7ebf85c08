/* SPDX-License-Identifier: Apache-2.0 */
/* What must always hold, and whether anything is left to do. For tests and the simulator. */
#include <assert.h>

#include "node/bb84.h"
#include "node/keys.h"

/* Memory is counted, not allocated: whoever has taken some must account for it. What is left over are qubits that the
 * user has prepared. */
static uint32_t memories_accounted(const struct qn_node *node) {
    uint32_t used;
    circuit_check(node, &used);
    for (const struct list *item = node->link_requests.next; item != &node->link_requests; item = item->next) {
        const struct link_request *request = CONTAINER_OF(item, struct link_request, link);
        size_t pairs = 0;
        for (const struct list *p = request->pairs.next; p != &request->pairs; p = p->next) pairs++;
        assert(request->measure || pairs <= request->holding);
        assert(request->holding <= request->budget || request->measure);
        if (!request->prepaid) used += request->holding;
    }
    size_t i = 0;
    for (void *value; qn_map_next(&node->pairs, &i, NULL, &value);) {
        const struct pair *pair = value;
        if (pair->takes_memory && pair->request == NULL) used++;
        if (pair->qubit != 0) assert(pair_of_qubit(node, pair->qubit) == pair);
    }
    return used;
}

void qn_node_check(const struct qn_node *node) {
    qn_plane_check(node->plane);
    assert(node->memories_used <= node->hardware->memories);
    assert(memories_accounted(node) <= node->memories_used);
    size_t delivered = 0;
    for (const struct list *item = node->delivered.next; item != &node->delivered; item = item->next) delivered++;
    assert(delivered == node->n_delivered);
    for (size_t i = 0; i < node->topology->n_nodes; i++) {
        const struct key_quota *quota = &node->keys->of_peer[i];
        assert(quota->n <= KEYS_PER_PEER && quota->bytes <= KEY_BYTES_PER_PEER);
    }
    request_check(node);
    transport_check(node);
}

static bool keys_are_settled(const struct qn_node *node) { /* Each at both ends, or taken, or gone. */
    if (!list_is_empty(&node->keys->pending) || !list_is_empty(&node->keys->outbox)) return false;
    for (const struct list *item = node->keys->list.next; item != &node->keys->list; item = item->next) {
        const struct key *key = CONTAINER_OF(item, struct key, link);
        if (key->state != KEY_READY && key->state != KEY_TAKEN) return false;
    }
    return true;
}

bool qn_node_is_idle(const struct qn_node *node, const char **ret_what) {
    const struct {
        bool busy;
        const char *what;
    } all[] = {{!qn_plane_is_idle(node->plane), "the quantum plane"},
               {!list_is_empty(&node->ops), "operations on qubits"},
               {node->request_of.len > 0, "requests of users"},
               {node->circuit_of.len > 0, "circuits"},
               {!list_is_empty(&node->link_requests), "requests for pairs of a link"},
               {station_n_requests(node) > 0, "requests at a station"},
               {node->pairs.len > node->n_delivered, "pairs that are not delivered"},
               {teleport_n_offers(node) > 0, "offers of states"},
               {node->bb84->n_sessions > 0, "BB84 sessions"},
               {!keys_are_settled(node), "keys that are not at both ends"},
               {!transport_is_idle(node), "messages that are not acknowledged"}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i].busy) {
            *ret_what = all[i].what;
            return false;
        }
    *ret_what = "";
    return true;
}

uint32_t qn_node_memories_used(const struct qn_node *node) { return node->memories_used; }
