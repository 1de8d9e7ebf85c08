/* SPDX-License-Identifier: Apache-2.0 */
/* One-time pads for authentication tags, from initial secrets and from keys set aside. Each end uses one half of a key
 * for what it sends, so the two never meet on the same bytes. Before bytes are used, the record says that they may have
 * been: a stretch of RESERVE bytes at a time, whose rest is lost in a crash. */
#include "node/keys.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define TAG 16       /* Bytes; what is left below that is of no use. */
#define RESERVE 1024 /* Bytes: 64 tags of 128 bits. */

static uint64_t half_of(const struct key *key) { return key->record.len / 2; }

/* Where the half of `sender` begins; the other node of the pair is the other. */
static uint64_t half_at(const struct qn_node *node, const struct key *key, bool ours) {
    bool lower = node->self < key->record.peer;
    return lower == ours ? 0 : half_of(key);
}

static bool is_pad_of(const struct key *key, uint16_t peer) {
    return key->record.purpose == QN_STORE_PAD && key->record.peer == peer && key->state == KEY_READY;
}

static void reserve(struct qn_node *node, struct key *key, uint64_t least) {
    if (key->reserving != 0 || key->record.used >= half_of(key)) return;
    uint64_t used = key->next + (least > RESERVE ? least : RESERVE);
    key->reserving = used < half_of(key) ? used : half_of(key);
    keys_change(node, QN_STORE_USE, key, key->reserving, NULL);
}

void pads_on_ready(struct qn_node *node, struct key *key) { reserve(node, key, 0); }

void pads_on_used(struct qn_node *node, struct key *key) {
    key->record.used = key->reserving;
    key->reserving = 0;
    bb84_on_pads(node, key->record.peer);
}

/* A key both halves of which are used is of no more use; that of an initial secret is remembered. */
static void finish(struct qn_node *node, struct key *key) {
    if (key->initial || key->next + TAG <= half_of(key) || key->floor + TAG <= half_of(key)) return;
    key_forget(node, key, 0);
}

int pads_take(struct qn_node *node, uint16_t peer, size_t len, uint8_t *ret_pad, struct pad_ref *ret_ref) {
    bool coming = false; /* Pads that are not yet known to be safe at both ends. */
    for (struct list *item = node->keys->list.next; item != &node->keys->list; item = item->next) {
        struct key *key = CONTAINER_OF(item, struct key, link);
        coming |= key->record.purpose == QN_STORE_PAD && key->record.peer == peer && key->state < KEY_READY;
        if (!is_pad_of(key, peer) || key->next + len > half_of(key)) continue;
        if (key->next + len > key->record.used) {
            reserve(node, key, len);
            return -QN_EBUSY;
        }
        memcpy(ret_pad, key->pads + half_at(node, key, true) + key->next, len);
        sodium_memzero(key->pads + half_at(node, key, true) + key->next, len);
        memcpy(ret_ref->id, key->record.id, sizeof ret_ref->id);
        ret_ref->offset = key->next;
        key->next += len;
        if (key->next + RESERVE / 2 > key->record.used) reserve(node, key, 0);
        finish(node, key);
        return 0;
    }
    return coming ? -QN_EBUSY : -QN_ENO_KEY;
}

int pads_open(struct qn_node *node, uint16_t peer, const struct pad_ref *ref, size_t len, uint8_t *ret_pad) {
    struct key *key = keys_find(node, ref->id, sizeof ref->id);
    if (key == NULL || key->record.purpose != QN_STORE_PAD || key->record.peer != peer || key->pads == NULL)
        return -QN_ENOT_FOUND;
    if (ref->offset < key->floor || ref->offset > half_of(key) || len > half_of(key) - ref->offset)
        return -QN_EPROTOCOL;
    memcpy(ret_pad, key->pads + half_at(node, key, false) + ref->offset, len);
    key->floor = ref->offset + len;
    finish(node, key);
    return 0;
}

uint64_t pads_left(const struct qn_node *node, uint16_t peer) {
    uint64_t left = 0;
    for (const struct list *item = node->keys->list.next; item != &node->keys->list; item = item->next) {
        const struct key *key = CONTAINER_OF(item, const struct key, link);
        if (is_pad_of(key, peer)) left += half_of(key) - key->next;
    }
    return left;
}

bool pads_exist(const struct qn_node *node, uint16_t peer) {
    for (const struct list *item = node->keys->list.next; item != &node->keys->list; item = item->next) {
        const struct key *key = CONTAINER_OF(item, const struct key, link);
        if (key->record.peer == peer && (key->initial || key->record.purpose == QN_STORE_PAD)) return true;
    }
    return false;
}
