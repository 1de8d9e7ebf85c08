/* SPDX-License-Identifier: Apache-2.0 */
#include "node/keys.h"

#include <assert.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#define PENDING_BYTES_MAX ((uint64_t)64 << 20)
#define TAKE_WAIT_WALL_S 5 /* In resend times, each of which is a second of wall time. */

struct pending {
    struct list link;
    uint64_t number;
    enum qn_store_kind kind;
    size_t len;
    uint8_t id[16];
};

struct outgoing {
    struct list link;
    struct qn_store_op *op;
};

/* ---- changes ---- */

struct qn_store_op *qn_store_op_new(enum qn_store_kind kind, const struct qn_store_record *record,
                                    const uint8_t *material) {
    size_t len = material != NULL ? record->len : 0;
    struct qn_store_op *op = malloc(sizeof *op + len);
    if (op == NULL) return NULL;
    *op = (struct qn_store_op){.kind = kind, .record = *record};
    op->record.material = material != NULL ? op->bytes : NULL;
    if (len > 0) memcpy(op->bytes, material, len);
    return op;
}

void qn_store_op_free(struct qn_store_op *op) {
    if (op == NULL) return;
    if (op->record.material != NULL) sodium_memzero(op->bytes, op->record.len);
    free(op);
}

static void *must(void *memory) { /* A change that is forgotten half-way would be worse than the end of the process. */
    if (memory == NULL) abort();
    return memory;
}

void keys_change(struct qn_node *node, enum qn_store_kind kind, struct key *key, uint64_t used,
                 const uint8_t *material) {
    struct keys *keys = node->keys;
    struct pending *pending = must(calloc(1, sizeof *pending));
    struct outgoing *outgoing = must(calloc(1, sizeof *outgoing));
    outgoing->op = must(qn_store_op_new(kind, &key->record, material));
    outgoing->op->record.used = used;
    outgoing->op->number = pending->number = keys->next_number++;
    pending->kind = kind;
    pending->len = material != NULL ? key->record.len : 0;
    keys->pending_bytes += pending->len;
    memcpy(pending->id, key->record.id, sizeof pending->id);
    list_append(&keys->pending, &pending->link);
    list_append(&keys->outbox, &outgoing->link);
}

void keys_flush(struct qn_node *node) {
    struct list *outbox = &node->keys->outbox;
    while (!list_is_empty(outbox)) {
        struct outgoing *outgoing = CONTAINER_OF(outbox->next, struct outgoing, link);
        size_t before = node->actions.len;
        node_act(node, (struct qn_action){.type = QN_ACTION_STORE, .store = outgoing->op}, NULL, 0);
        if (node->actions.len == before) return; /* No memory: with the next step. */
        list_remove(&outgoing->link);
        free(outgoing);
    }
}

/* ---- the index ---- */

static uint64_t index_of(const uint8_t *id) {
    uint64_t index;
    memcpy(&index, id, sizeof index);
    return index;
}

struct key *keys_find(const struct qn_node *node, const uint8_t *id, size_t len) {
    if (len != QN_STORE_ID_BYTES) return NULL;
    struct key *key = qn_map_get(&node->keys->by_id, index_of(id));
    return key != NULL && memcmp(key->record.id, id, len) == 0 ? key : NULL;
}

const char *key_state_name(const struct key *key) {
    static const char *const names[] = {"writing", "stored", "ready", "taking", "taken"};
    return names[key->state];
}

static void count(struct qn_node *node, const struct key *key, int sign) { /* Of READY keys; before and after. */
    if (key->state != KEY_READY || key->record.purpose != QN_STORE_KEY) return;
    node->keys->n_ready += (size_t)sign;
    node->keys->bits_ready += (size_t)sign * key->record.len * 8;
}

static void set_state(struct qn_node *node, struct key *key, enum key_state state) {
    count(node, key, -1);
    key->state = state;
    count(node, key, 1);
}

static struct key *key_new(struct qn_node *node, const struct qn_store_record *record, const uint8_t *material) {
    struct keys *keys = node->keys;
    struct key *key = calloc(1, sizeof *key);
    if (key == NULL) return NULL;
    key->record = *record;
    key->record.material = NULL;
    if (record->purpose == QN_STORE_PAD && material != NULL) {
        key->pads = malloc(record->len);
        if (key->pads == NULL) {
            free(key);
            return NULL;
        }
        memcpy(key->pads, material, record->len);
    }
    if (qn_map_put(&keys->by_id, index_of(record->id), key) < 0) {
        free(key->pads);
        free(key);
        return NULL;
    }
    list_append(&keys->list, &key->link);
    keys->of_peer[record->peer].n++;
    keys->of_peer[record->peer].bytes += record->len;
    return key;
}

static void key_free(struct qn_node *node, struct key *key) {
    count(node, key, -1);
    node->keys->of_peer[key->record.peer].n--;
    node->keys->of_peer[key->record.peer].bytes -= key->record.len;
    list_remove(&key->link);
    qn_map_remove(&node->keys->by_id, index_of(key->record.id));
    if (key->pads != NULL) sodium_memzero(key->pads, key->record.len);
    free(key->pads);
    free(key);
}

/* ---- making ---- */

bool keys_was_refused(const struct qn_node *node, const uint8_t id[16]) {
    size_t n = node->keys->n_refused < KEYS_REFUSED ? node->keys->n_refused : KEYS_REFUSED;
    for (size_t i = 0; i < n; i++)
        if (memcmp(node->keys->refused[i], id, 16) == 0) return true;
    return false;
}

static int add(struct qn_node *node, enum qn_store_purpose purpose, uint16_t peer, const uint8_t id[16],
               const uint8_t check[8], double qber, const uint8_t *bytes, size_t len) {
    struct keys *keys = node->keys;
    const struct key_quota *quota = &keys->of_peer[peer];
    if (keys->fault != 0 || keys->pending_bytes + len > PENDING_BYTES_MAX) return -QN_ESTORE;
    if (len == 0 || len > QN_STORE_KEY_MAX || qn_map_get(&keys->by_id, index_of(id)) != NULL) return -QN_EINVAL;
    if (quota->n >= KEYS_PER_PEER || quota->bytes + len > KEY_BYTES_PER_PEER) return -QN_ELIMIT;
    struct qn_store_record record = {
        .peer = peer, .purpose = purpose, .state = QN_STORE_HELD, .qber = qber, .len = len};
    memcpy(record.id, id, sizeof record.id);
    memcpy(record.check, check, sizeof record.check);
    struct key *key = key_new(node, &record, bytes);
    if (key == NULL) return -QN_ENOMEM;
    key->made_ns = node->now_ns;
    key->made_with = node->remotes[peer].incarnation;
    keys_change(node, QN_STORE_PUT, key, 0, bytes);
    if (keys->ttl_ns > 0 && keys->expiry.slot == 0) node_timer(node, &keys->expiry, key->made_ns + keys->ttl_ns);
    return 0;
}

void keys_refuse(struct qn_node *node, uint16_t peer, const uint8_t id[16], int error) {
    if (keys_find(node, id, QN_STORE_ID_BYTES) != NULL) return;
    memcpy(node->keys->refused[node->keys->n_refused++ % KEYS_REFUSED], id, 16);
    keys_deny(node, peer, id, error);
}

int keys_add(struct qn_node *node, enum qn_store_purpose purpose, uint16_t peer, const uint8_t id[16],
             const uint8_t check[8], double qber, const uint8_t *bytes, size_t len) {
    int rc = add(node, purpose, peer, id, check, qber, bytes, len);
    if (rc < 0) keys_refuse(node, peer, id, rc);
    return rc;
}

void key_forget(struct qn_node *node, struct key *key, int error) {
    bool was_open = key->state < KEY_READY;
    uint8_t id[16];
    uint16_t peer = key->record.peer;
    memcpy(id, key->record.id, sizeof id);
    struct request *taker = key->taker != 0 ? request_find(node, key->taker) : NULL;
    if (key->state < KEY_TAKING && error != 0) node->keys->n_burned++;
    keys_change(node, QN_STORE_ERASE, key, 0, NULL);
    key_free(node, key);
    if (taker != NULL) request_fail(taker, error, "the key is gone: %s", qn_err_what(error));
    if (was_open) bb84_on_key(node, peer, id, error);
}

void keys_drop(struct qn_node *node, const uint8_t id[16], int error) {
    struct key *key = keys_find(node, id, QN_STORE_ID_BYTES);
    if (key == NULL || key->state >= KEY_TAKING) return;
    keys_tell(node, key, QNET__V1__KEY_STAGE__KEY_STAGE_GONE, false, error);
    key_forget(node, key, error);
}

static void start_taking(struct qn_node *node, struct key *key) {
    set_state(node, key, KEY_TAKING);
    keys_change(node, QN_STORE_TAKE, key, 0, NULL);
}

void key_advance(struct qn_node *node, struct key *key) {
    if (key->state == KEY_STORED && key->peer_has) {
        set_state(node, key, KEY_READY);
        if (key->record.purpose == QN_STORE_PAD)
            pads_on_ready(node, key);
        else if (key->taker != 0)
            start_taking(node, key);
        bb84_on_key(node, key->record.peer, key->record.id, 0);
    } else if (key->state == KEY_TAKEN && key->peer_taken)
        key_forget(node, key, 0);
}

/* ---- what has become durable ---- */

static void on_put(struct qn_node *node, struct key *key) {
    if (key->doomed) {
        key_forget(node, key, -QN_EREJECTED);
        return;
    }
    set_state(node, key, KEY_STORED);
    keys_tell(node, key, QNET__V1__KEY_STAGE__KEY_STAGE_STORED, true, 0);
    if (node->keys->nag.slot == 0) node_timer(node, &node->keys->nag, node->now_ns + 5 * node->resend_ns);
    key_advance(node, key);
}

static void hand_out(struct qn_node *node, struct key *key, const struct qn_event *event) {
    struct request *request = key->taker != 0 ? request_find(node, key->taker) : NULL;
    key->taker = 0;
    if (request == NULL || event->len != key->record.len) { /* Whoever asked is gone. */
        node->keys->n_burned++;
        node_event(node, LEVEL_WARNING, "key_burned", node_name(node, key->record.peer),
                   "taken, but nobody was there to receive it");
        if (request != NULL) request_fail(request, -QN_ESTORE, "the key could not be read back");
        return;
    }
    Qnet__V1__KeyInfo info;
    control_fill_key(node, key, &info);
    info.material = (ProtobufCBinaryData){event->len, (uint8_t *)(uintptr_t)event->bytes};
    control_send(node, request->client, request->id, false, QNET__V1__CONTROL_RESPONSE__BODY_KEY, &info);
    sodium_memzero(node->scratch.data, node->scratch.len); /* The reply was packed there. */
    node->wipe_actions = true;
    node->keys->n_taken++;
    request_finish(request);
}

static void on_take(struct qn_node *node, struct key *key, const struct qn_event *event) {
    set_state(node, key, KEY_TAKEN);
    key->record.state = QN_STORE_TAKEN;
    hand_out(node, key, event);
    keys_tell(node, key, QNET__V1__KEY_STAGE__KEY_STAGE_TAKEN, false, 0);
    key_advance(node, key);
}

void keys_on_stored(struct qn_node *node, const struct qn_event *event) {
    struct keys *keys = node->keys;
    if (list_is_empty(&keys->pending)) return;
    struct pending *pending = CONTAINER_OF(keys->pending.next, struct pending, link);
    assert(pending->number == event->number); /* The driver keeps the order. */
    struct key *key = keys_find(node, pending->id, sizeof pending->id);
    enum qn_store_kind kind = pending->kind;
    keys->pending_bytes -= pending->len;
    list_remove(&pending->link);
    free(pending);
    if (key == NULL) return; /* Given up meanwhile: its ERASE follows. */
    if (kind == QN_STORE_PUT && key->state == KEY_WRITING) on_put(node, key);
    if (kind == QN_STORE_TAKE && key->state == KEY_TAKING) on_take(node, key, event);
    if (kind == QN_STORE_USE) pads_on_used(node, key);
}

void keys_on_fault(struct qn_node *node, int error) {
    if ((node->keys->fault != 0) == (error != 0)) return;
    node->keys->fault = error;
    if (error != 0)
        node_event(node, LEVEL_ERROR, "store_fault", node_name(node, node->self),
                   "the key store cannot be written: no key is acknowledged or handed out until it can");
    else
        node_event(node, LEVEL_INFO, "store_recovered", node_name(node, node->self), "the key store is written again");
}

/* ---- handing out ---- */

static void take_timeout(struct request *request) {
    struct qn_node *node = request->node;
    for (struct list *item = node->keys->list.next; item != &node->keys->list; item = item->next) {
        struct key *key = CONTAINER_OF(item, struct key, link);
        if (key->taker != request->number) continue;
        key->taker = 0;
        if (node->keys->fault != 0 || key->state != KEY_STORED)
            request_fail(request, -QN_ESTORE, "the key store cannot be written");
        else
            request_fail(request, -QN_EPEER_DOWN, "%s has not confirmed that it holds this key, too",
                         node_name(node, key->record.peer));
        return;
    }
    request_fail(request, -QN_ETIMEOUT, "%s", "");
}

void keys_take(struct qn_node *node, uint64_t client, uint64_t id, const uint8_t *key_id, size_t len) {
    struct key *key = keys_find(node, key_id, len);
    if (key == NULL || key->record.purpose != QN_STORE_KEY || key->state >= KEY_TAKING || key->taker != 0) {
        node_reply_error(node, client, id, -QN_ENOT_FOUND, "no key with this id; it may have been taken");
        return;
    }
    if (node->keys->fault != 0) {
        node_reply_error(node, client, id, -QN_ESTORE, "a key is handed out only when the record of it is safe");
        return;
    }
    struct request *request = request_new(node, client, id, REQUEST_KEY, (uint64_t)TAKE_WAIT_WALL_S * node->resend_ns);
    if (request == NULL) return;
    request->on_timeout = take_timeout;
    request->peer = key->record.peer;
    key->taker = request->number;
    if (key->state == KEY_READY) start_taking(node, key);
}

/* ---- time ---- */

static void expire(void *context, struct qn_timer *timer) {
    struct qn_node *node = context;
    struct keys *keys = node->keys;
    for (struct list *item = keys->list.next, *next; item != &keys->list; item = next) {
        next = item->next;
        struct key *key = CONTAINER_OF(item, struct key, link);
        /* Records of what was taken stay as long again: the other end has its own time to take it. */
        uint64_t end = key->made_ns + (key->state == KEY_TAKEN ? 2 : 1) * keys->ttl_ns;
        if (key->initial || key->state == KEY_TAKING || key->record.purpose == QN_STORE_PAD) continue;
        if (end > node->now_ns) {
            if (timer->slot == 0 || timer->due_ns > end) node_timer(node, timer, end);
            continue;
        }
        keys->n_expired++;
        keys_tell(node, key, QNET__V1__KEY_STAGE__KEY_STAGE_GONE, false, -QN_EEXPIRED);
        key_forget(node, key, key->state < KEY_TAKING ? -QN_EEXPIRED : 0);
    }
}

static void nag(void *context, struct qn_timer *timer) { /* Asks again about keys the other end has not confirmed. */
    struct qn_node *node = context;
    bool again = false;
    for (struct list *item = node->keys->list.next; item != &node->keys->list; item = item->next) {
        struct key *key = CONTAINER_OF(item, struct key, link);
        if (key->state != KEY_STORED || node->remotes[key->record.peer].incarnation == 0) continue;
        keys_tell(node, key, QNET__V1__KEY_STAGE__KEY_STAGE_STORED, true, 0);
        again |= !key->initial;
    }
    if (again) node_timer(node, timer, node->now_ns + 5 * node->resend_ns);
}

/* ---- begin and end ---- */

/* An initial secret is two shares of pads and, in front, 16 bytes that only name it. Once used it is remembered for
 * good, so that the same file never gives the same pads twice. */
static int add_initial(struct qn_node *node, const struct qn_initial_secret *secret) {
    struct qn_store_record record = {.peer = secret->peer, .purpose = QN_STORE_PAD, .state = QN_STORE_HELD};
    if (secret->len < QN_STORE_ID_BYTES + 32 || secret->len - QN_STORE_ID_BYTES > QN_STORE_KEY_MAX) return -QN_EINVAL;
    record.len = (secret->len - QN_STORE_ID_BYTES) & ~(size_t)1;
    crypto_generichash(record.id, sizeof record.id, secret->bytes, QN_STORE_ID_BYTES, NULL, 0);
    memcpy(record.check, record.id, sizeof record.check);
    struct key *key = keys_find(node, record.id, sizeof record.id);
    if (key == NULL) {
        const uint8_t *material = secret->bytes + QN_STORE_ID_BYTES;
        key = key_new(node, &record, material);
        if (key == NULL) return -QN_ENOMEM;
        key->made_ns = node->now_ns;
        keys_change(node, QN_STORE_PUT, key, 0, material);
    }
    key->initial = true;
    return 0;
}

void keys_on_secret(struct qn_node *node, const struct qn_event *event) {
    const struct qn_initial_secret secret = {event->peer, event->bytes, event->len};
    size_t known = node->keys->of_peer[event->peer].n;
    int rc = add_initial(node, &secret);
    if (rc < 0)
        node_event(node, LEVEL_ERROR, "secret_refused", node_name(node, event->peer), "%s", qn_err_what(rc));
    else if (node->keys->of_peer[event->peer].n > known)
        node_event(node, LEVEL_INFO, "secret_added", node_name(node, event->peer),
                   "%zu bytes to authenticate keys with", event->len);
}

static int restore(struct qn_node *node, const struct qn_store_record *record) {
    struct key *key = record->peer < node->topology->n_nodes ? key_new(node, record, record->material) : NULL;
    if (key == NULL) return record->peer < node->topology->n_nodes ? -QN_ENOMEM : 0;
    key->state = record->state == QN_STORE_TAKEN ? KEY_TAKEN : KEY_STORED;
    key->made_ns = node->now_ns > record->age_ns ? node->now_ns - record->age_ns : 0;
    key->next = record->used;
    return 0;
}

int keys_init(struct qn_node *node, const struct qn_node_config *config) {
    struct keys *keys = node->keys = calloc(1, sizeof *node->keys);
    if (keys == NULL) return -QN_ENOMEM;
    list_init(&keys->list);
    list_init(&keys->pending);
    list_init(&keys->outbox);
    keys->next_number = 1;
    keys->nag.fire = nag;
    keys->expiry.fire = expire;
    keys->ttl_ns = (uint64_t)node_duration(node->topology->key_ttl_s);
    keys->of_peer = calloc(node->topology->n_nodes, sizeof *keys->of_peer);
    if (keys->of_peer == NULL) return -QN_ENOMEM;
    int rc = 0;
    for (size_t i = 0; i < config->n_restored && rc == 0; i++) rc = restore(node, &config->restored[i]);
    for (size_t i = 0; i < config->n_secrets && rc == 0; i++) rc = add_initial(node, &config->secrets[i]);
    if (rc == 0 && keys->ttl_ns > 0 && !list_is_empty(&keys->list)) node_timer(node, &keys->expiry, node->now_ns);
    return rc;
}

void keys_release(struct qn_node *node) {
    struct keys *keys = node->keys;
    if (keys == NULL) return;
    while (keys->of_peer != NULL && !list_is_empty(&keys->list))
        key_free(node, CONTAINER_OF(keys->list.next, struct key, link));
    while (!list_is_empty(&keys->pending)) {
        struct pending *pending = CONTAINER_OF(keys->pending.next, struct pending, link);
        list_remove(&pending->link);
        free(pending);
    }
    while (!list_is_empty(&keys->outbox)) {
        struct outgoing *outgoing = CONTAINER_OF(keys->outbox.next, struct outgoing, link);
        list_remove(&outgoing->link);
        qn_store_op_free(outgoing->op);
        free(outgoing);
    }
    qn_map_release(&keys->by_id);
    free(keys->of_peer);
    free(keys);
    node->keys = NULL;
}
