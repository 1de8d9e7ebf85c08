/* SPDX-License-Identifier: Apache-2.0 */
/* Secret keys this node shares with others. Held in memory: they end with the process. */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "node/internal.h"

int keys_add(struct qn_node *node, uint16_t peer, const uint8_t id[16], const uint8_t check[8], double qber,
             const uint8_t *bytes, size_t len) {
    if (node->n_keys >= KEYS_MAX) return -QN_ELIMIT;
    if (keys_find(node, id, 16) != NULL) return -QN_EINVAL;
    struct key *key = calloc(1, sizeof *key + len);
    if (key == NULL) return -QN_ENOMEM;
    memcpy(key->id, id, sizeof key->id);
    memcpy(key->check, check, sizeof key->check);
    memcpy(key->bytes, bytes, len);
    key->peer = peer;
    key->made_ns = node->now_ns;
    key->qber = qber;
    key->len = len;
    list_append(&node->keys, &key->link);
    node->n_keys++;
    node->key_bits += len * 8;
    return 0;
}

struct key *keys_find(const struct qn_node *node, const uint8_t *id, size_t len) {
    if (len != 16) return NULL;
    for (struct list *item = node->keys.next; item != &node->keys; item = item->next) {
        struct key *key = CONTAINER_OF(item, struct key, link);
        if (memcmp(key->id, id, len) == 0) return key;
    }
    return NULL;
}

void key_free(struct qn_node *node, struct key *key) {
    node->n_keys--;
    node->key_bits -= key->len * 8;
    list_remove(&key->link);
    sodium_memzero(key, sizeof *key + key->len);
    free(key);
}
