/* SPDX-License-Identifier: Apache-2.0 */
/* What the two ends of a key tell each other (proto/qnet/v1/keys.proto).
 *
 *   A                                         B
 *   durable; STORED? -----------------------> not durable yet: no answer
 *          <----------------------- STORED?   durable
 *   READY; STORED  -------------------------> READY
 *   taken, durable; TAKEN ------------------> (still READY here)
 *          <------------------------- TAKEN   taken, durable; forgets
 *   forgets
 *
 * Between two incarnations notes arrive once and in order. When either end is a new process, both send a digest of what
 * they have; what an earlier life of the other made and the digest does not have is gone there, and given up here. A
 * question about a key that an earlier life of ours may have made has a definite answer, too: STORED or GONE. So
 * nothing is left that only one end could hand out. */
#include <string.h>

#include "base/canary.h"
#include "node/keys.h"

#define DIGEST_IDS 2000 /* A message: 34 kB. */

static int send_key_message(struct qn_node *node, uint16_t peer, Qnet__V1__KeyMessage *message) {
    Qnet__V1__Envelope envelope = QNET__V1__ENVELOPE__INIT;
    envelope.body_case = QNET__V1__ENVELOPE__BODY_KEY;
    envelope.key = message;
    return node_send(node, peer, &envelope);
}

static void send_note(struct qn_node *node, uint16_t peer, const uint8_t id[16], Qnet__V1__KeyNote *note) {
    Qnet__V1__KeyMessage message = QNET__V1__KEY_MESSAGE__INIT;
    note->id = (ProtobufCBinaryData){QN_STORE_ID_BYTES, (uint8_t *)(uintptr_t)id};
    message.body_case = QNET__V1__KEY_MESSAGE__BODY_NOTE;
    message.note = note;
    send_key_message(node, peer, &message); /* If the channel is full: the nag timer, or the next digest. */
}

void keys_tell(struct qn_node *node, const struct key *key, Qnet__V1__KeyStage stage, bool question, int reason) {
    Qnet__V1__KeyNote note = QNET__V1__KEY_NOTE__INIT;
    note.stage = stage;
    note.question = question;
    note.made_with = key->made_with;
    note.reason = (uint32_t)-reason;
    if (stage == QNET__V1__KEY_STAGE__KEY_STAGE_STORED)
        note.check = (ProtobufCBinaryData){sizeof key->record.check, (uint8_t *)(uintptr_t)key->record.check};
    send_note(node, key->record.peer, key->record.id, &note);
}

/* ---- notes ---- */

void keys_deny(struct qn_node *node, uint16_t peer, const uint8_t id[16], int reason) {
    Qnet__V1__KeyNote note = QNET__V1__KEY_NOTE__INIT;
    note.stage = QNET__V1__KEY_STAGE__KEY_STAGE_GONE;
    note.reason = (uint32_t)-reason;
    send_note(node, peer, id, &note);
}

static void on_peer_stored(struct qn_node *node, uint16_t from, struct key *key, const Qnet__V1__KeyNote *m) {
    if (m->check.len != sizeof key->record.check || memcmp(m->check.data, key->record.check, m->check.len) != 0) {
        node_event(node, LEVEL_ERROR, "keys_differ", node_name(node, from), "two ends stored different keys; dropped");
        keys_drop(node, key->record.id, -QN_EVERIFY);
        return;
    }
    key->peer_has = true;
    if (m->question && key->state != KEY_WRITING) keys_tell(node, key, QNET__V1__KEY_STAGE__KEY_STAGE_STORED, false, 0);
    key_advance(node, key);
}

static void on_peer_gone(struct qn_node *node, uint16_t from, struct key *key, int reason) {
    if (key->initial) {
        node_event(node, LEVEL_WARNING, "no_initial_secret", node_name(node, from),
                   "it was not given the initial secret that this node has");
        return;
    }
    key->peer_taken = true;
    if (key->state == KEY_WRITING)
        key->doomed = true;
    else if (key->state < KEY_TAKING)
        key_forget(node, key, -reason);
    else
        key_advance(node, key);
}

static void on_note(struct qn_node *node, uint16_t from, const Qnet__V1__KeyNote *m) {
    if (m->id.len != QN_STORE_ID_BYTES) return;
    struct key *key = keys_find(node, m->id.data, m->id.len);
    if (key != NULL && key->record.peer != from) return; /* A key of another pair of nodes is not its business. */
    if (key == NULL) {
        if (m->stage == QNET__V1__KEY_STAGE__KEY_STAGE_STORED && m->question &&
            (m->made_with != node->incarnation || keys_was_refused(node, m->id.data) || !bb84_is_with(node, from)))
            if (!QN_CANARY(14)) keys_deny(node, from, m->id.data, -QN_ENOT_FOUND);
        return; /* Otherwise it may still come here. */
    }
    switch (m->stage) {
    case QNET__V1__KEY_STAGE__KEY_STAGE_STORED:
        on_peer_stored(node, from, key, m);
        break;
    case QNET__V1__KEY_STAGE__KEY_STAGE_TAKEN:
        key->peer_has = key->peer_taken = true;
        key_advance(node, key);
        break;
    case QNET__V1__KEY_STAGE__KEY_STAGE_GONE:
        on_peer_gone(node, from, key, m->reason > 0 && m->reason < 1000 ? (int)m->reason : QN_ENOT_FOUND);
        break;
    default:
        break;
    }
}

/* ---- digests ---- */

static uint8_t stage_of(const struct key *key) {
    if (key->state == KEY_WRITING) return QNET__V1__KEY_STAGE__KEY_STAGE_WRITING;
    return key->state == KEY_TAKEN ? QNET__V1__KEY_STAGE__KEY_STAGE_TAKEN : QNET__V1__KEY_STAGE__KEY_STAGE_STORED;
}

static void send_digest(struct qn_node *node, uint16_t peer, bool answer) {
    uint8_t ids[DIGEST_IDS * QN_STORE_ID_BYTES], stages[DIGEST_IDS];
    Qnet__V1__KeyMessage message = QNET__V1__KEY_MESSAGE__INIT;
    Qnet__V1__KeyDigest digest = QNET__V1__KEY_DIGEST__INIT;
    message.body_case = QNET__V1__KEY_MESSAGE__BODY_DIGEST;
    message.digest = &digest;
    digest.first = true;
    digest.answer = answer;
    digest.ids.data = ids;
    digest.stages.data = stages;
    for (const struct list *item = node->keys->list.next; item != &node->keys->list; item = item->next) {
        const struct key *key = CONTAINER_OF(item, const struct key, link);
        if (key->record.peer != peer) continue;
        memcpy(ids + digest.ids.len, key->record.id, QN_STORE_ID_BYTES);
        stages[digest.stages.len] = stage_of(key);
        digest.ids.len += QN_STORE_ID_BYTES;
        if (++digest.stages.len < DIGEST_IDS) continue;
        send_key_message(node, peer, &message);
        digest.first = false;
        digest.ids.len = digest.stages.len = 0;
    }
    digest.last = true;
    send_key_message(node, peer, &message);
}

void keys_on_incarnation(struct qn_node *node, uint16_t peer) {
    if (node->keys->of_peer[peer].n > 0) send_digest(node, peer, false);
}

static void read_one(struct qn_node *node, uint16_t from, const uint8_t *id, uint8_t stage) {
    struct key *key = keys_find(node, id, QN_STORE_ID_BYTES);
    if (key == NULL || key->record.peer != from) return;
    key->seen = true;
    if (stage == QNET__V1__KEY_STAGE__KEY_STAGE_WRITING) return;
    key->peer_has = true;
    if (stage == QNET__V1__KEY_STAGE__KEY_STAGE_TAKEN) key->peer_taken = true;
    if (key->state != KEY_TAKEN) key_advance(node, key); /* What may be forgotten is so at the end of the list. */
}

/* The list is complete: what an earlier life of the peer had made and is not in it is gone there. */
static void give_up_unseen(struct qn_node *node, uint16_t from) {
    uint64_t incarnation = node->remotes[from].incarnation;
    for (struct list *item = node->keys->list.next, *next; item != &node->keys->list; item = next) {
        next = item->next;
        struct key *key = CONTAINER_OF(item, struct key, link);
        if (key->record.peer != from || key->initial) continue;
        bool gone = !key->seen && key->made_with != incarnation && key->state != KEY_WRITING;
        key->seen = false;
        if (gone) key->peer_taken = true;
        if (gone && key->state < KEY_TAKING)
            key_forget(node, key, -QN_ENOT_FOUND);
        else
            key_advance(node, key);
    }
}

static void on_digest(struct qn_node *node, uint16_t from, const Qnet__V1__KeyDigest *m) {
    if (m->ids.len != m->stages.len * QN_STORE_ID_BYTES) return;
    if (m->first)
        for (struct list *item = node->keys->list.next; item != &node->keys->list; item = item->next) {
            struct key *key = CONTAINER_OF(item, struct key, link);
            if (key->record.peer == from) key->seen = false;
        }
    for (size_t i = 0; i < m->stages.len; i++)
        read_one(node, from, m->ids.data + i * QN_STORE_ID_BYTES, m->stages.data[i]);
    if (!m->last) return;
    give_up_unseen(node, from);
    if (!m->answer) send_digest(node, from, true);
}

void keys_on_message(struct qn_node *node, uint16_t from, const Qnet__V1__KeyMessage *m) {
    if (m->body_case == QNET__V1__KEY_MESSAGE__BODY_NOTE) on_note(node, from, m->note);
    if (m->body_case == QNET__V1__KEY_MESSAGE__BODY_DIGEST) on_digest(node, from, m->digest);
}
