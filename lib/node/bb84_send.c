/* SPDX-License-Identifier: Apache-2.0 */
/* Messages out, and the proof of who said them. Each end keeps, for each block and direction, a running hash of every
 * message of post-processing; the closing messages carry its tag (qkd/auth.h), with a pad from the pool of the two
 * nodes. A transcript begins with how the session was opened, so what was agreed on is covered, too.
 *
 * What the channel to a node has no room for waits here, in order, a queue a node: one that is slow must not hold up
 * what is for others. How much that can be is bounded by the trains under way. */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "node/bb84.h"

#define ENVELOPE_FIELD QNET__V1__ENVELOPE__BODY_QKD
#define PREPARED 0xff /* Kind of the opening in a transcript. */

/* ---- the queue ---- */

static void post(struct qn_node *node, uint16_t to, const uint8_t *bytes, size_t len) {
    struct letters *queue = &node->bb84->letters[to];
    if (queue->first == NULL && node_send_packed(node, to, ENVELOPE_FIELD, bytes, len) != -QN_EBUSY) return;
    struct letter *letter = malloc(sizeof *letter + len);
    if (letter == NULL) return; /* The block stands still until its deadline. */
    *letter = (struct letter){.len = len};
    memcpy(letter->bytes, bytes, len);
    if (queue->last != NULL)
        queue->last->next = letter;
    else
        queue->first = letter;
    queue->last = letter;
}

static void drop_first(struct letters *queue) {
    struct letter *letter = queue->first;
    queue->first = letter->next;
    if (queue->first == NULL) queue->last = NULL;
    sodium_memzero(letter->bytes, letter->len);
    free(letter);
}

void bb84_on_room(struct qn_node *node, uint16_t peer) {
    struct letters *queue = &node->bb84->letters[peer];
    while (queue->first != NULL &&
           node_send_packed(node, peer, ENVELOPE_FIELD, queue->first->bytes, queue->first->len) != -QN_EBUSY)
        drop_first(queue);
}

void bb84_drop_letters(struct qn_node *node, uint16_t to) {
    while (node->bb84->letters[to].first != NULL) drop_first(&node->bb84->letters[to]);
}

/* ---- packing ---- */

static const struct qn_buf *pack(struct qn_node *node, const Qnet__V1__QkdMessage *message) {
    struct qn_buf *packed = &node->bb84->packed;
    packed->len = 0;
    size_t len = qnet__v1__qkd_message__get_packed_size(message);
    if (qn_buf_reserve(packed, len) < 0) return packed;
    packed->len = qnet__v1__qkd_message__pack(message, packed->data);
    return packed;
}

static Qnet__V1__QkdMessage message_of(Qnet__V1__QkdMessage__BodyCase which, void *body) {
    Qnet__V1__QkdMessage message = QNET__V1__QKD_MESSAGE__INIT;
    message.body_case = which;
    message.start = body; /* All members of the union are pointers. */
    return message;
}

static void note_said(struct session *session, struct block *block, Qnet__V1__QkdMessage__BodyCase which,
                      const uint8_t *bytes, size_t len) {
    if (block != NULL && session->parameters.authenticated) qn_auth_add(&block->said, (uint8_t)which, bytes, len);
    if (which == QNET__V1__QKD_MESSAGE__BODY_START || which == QNET__V1__QKD_MESSAGE__BODY_ACCEPT)
        qn_buf_append(&session->opening, bytes, len);
}

void bb84_say(struct session *session, struct block *block, Qnet__V1__QkdMessage__BodyCase which, void *body) {
    struct qn_node *node = session->node;
    Qnet__V1__QkdMessage message = message_of(which, body);
    if (node->bb84->letters[session->peer].first == NULL) { /* Straight to where it is sent from. */
        struct qn_channel_item *item;
        size_t len = qnet__v1__qkd_message__get_packed_size(&message);
        uint8_t *bytes = node_send_room(node, session->peer, ENVELOPE_FIELD, len, &item);
        if (bytes != NULL) {
            qnet__v1__qkd_message__pack(&message, bytes);
            note_said(session, block, which, bytes, len);
            node_send_filled(node, session->peer, item);
            return;
        }
    }
    const struct qn_buf *packed = pack(node, &message);
    note_said(session, block, which, packed->data, packed->len);
    post(node, session->peer, packed->data, packed->len);
}

void bb84_heard(struct session *session, struct block *block, const Qnet__V1__QkdMessage *message,
                const ProtobufCBinaryData *packed) {
    if (block != NULL && !session->parameters.authenticated) return;
    ProtobufCBinaryData bytes = packed != NULL ? *packed : (ProtobufCBinaryData){0};
    if (bytes.len == 0) {
        const struct qn_buf *again = pack(session->node, message);
        bytes = (ProtobufCBinaryData){again->len, again->data};
    }
    if (block != NULL)
        qn_auth_add(&block->heard, (uint8_t)message->body_case, bytes.data, bytes.len);
    else
        qn_buf_append(&session->opening, bytes.data, bytes.len);
}

void bb84_say_abort(struct session *session, uint32_t block, int error, double qber, const char *detail) {
    Qnet__V1__QkdAbort abort = QNET__V1__QKD_ABORT__INIT;
    abort.session = session->id;
    abort.block = block;
    abort.error = (uint32_t)-error;
    abort.qber = qber;
    abort.detail = (char *)(uintptr_t)detail;
    bb84_say(session, NULL, QNET__V1__QKD_MESSAGE__BODY_ABORT, &abort);
}

/* ---- tags ---- */

void bb84_transcripts_begin(struct session *session, struct block *block) {
    if (!session->parameters.authenticated) return;
    qn_auth_init(&block->said, session->said_key);
    qn_auth_init(&block->heard, session->heard_key);
    qn_auth_add(&block->said, PREPARED, session->opening.data, session->opening.len);
    qn_auth_add(&block->heard, PREPARED, session->opening.data, session->opening.len);
}

static void fill_pad(Qnet__V1__QkdPad *message, struct pad_ref *ref) {
    qnet__v1__qkd_pad__init(message);
    message->id = (ProtobufCBinaryData){sizeof ref->id, ref->id};
    message->offset = ref->offset;
}

static int read_pad(struct session *session, const Qnet__V1__QkdPad *message, size_t len, uint8_t *ret_pad) {
    struct pad_ref ref = {.offset = message != NULL ? message->offset : 0};
    if (message == NULL || message->id.len != sizeof ref.id) return -QN_EAUTH;
    memcpy(ref.id, message->id.data, sizeof ref.id);
    return pads_open(session->node, session->peer, &ref, len, ret_pad) < 0 ? -QN_EAUTH : 0;
}

int bb84_say_tagged(struct session *session, struct block *block, Qnet__V1__QkdMessage__BodyCase which, void *body,
                    Qnet__V1__QkdTag **tag) {
    Qnet__V1__QkdMessage message = message_of(which, body);
    Qnet__V1__QkdTag filled = QNET__V1__QKD_TAG__INIT;
    Qnet__V1__QkdPad pad_message;
    uint8_t pad[QN_AUTH_TAG_BYTES], value[QN_AUTH_TAG_BYTES];
    struct pad_ref ref;
    *tag = NULL;
    if (session->parameters.authenticated) {
        int rc = pads_take(session->node, session->peer, sizeof pad, pad, &ref);
        if (rc < 0) return rc;
        const struct qn_buf *packed = pack(session->node, &message);
        qn_auth_add(&block->said, (uint8_t)which, packed->data, packed->len);
        block->forgery += qn_auth_bound(&block->said, sizeof value);
        qn_auth_tag(&block->said, pad, value, sizeof value);
        sodium_memzero(pad, sizeof pad);
        fill_pad(&pad_message, &ref);
        filled.pad = &pad_message;
        filled.tag = (ProtobufCBinaryData){sizeof value, value};
        *tag = &filled;
        block->pad_bits += sizeof value * 8;
    }
    const struct qn_buf *packed = pack(session->node, &message);
    post(session->node, session->peer, packed->data, packed->len);
    *tag = NULL;
    return 0;
}

int bb84_heard_tagged(struct session *session, struct block *block, const Qnet__V1__QkdMessage *message,
                      Qnet__V1__QkdTag **tag) {
    if (!session->parameters.authenticated) return 0;
    Qnet__V1__QkdTag *given = *tag;
    uint8_t pad[QN_AUTH_TAG_BYTES];
    *tag = NULL;
    const struct qn_buf *packed = pack(session->node, message);
    *tag = given;
    qn_auth_add(&block->heard, (uint8_t)message->body_case, packed->data, packed->len);
    block->forgery += qn_auth_bound(&block->heard, QN_AUTH_TAG_BYTES);
    if (given == NULL || given->tag.len != QN_AUTH_TAG_BYTES) return -QN_EAUTH;
    int rc = read_pad(session, given->pad, sizeof pad, pad);
    if (rc < 0) return rc;
    block->pad_bits += sizeof pad * 8;
    bool right = qn_auth_check(&block->heard, pad, given->tag.data, given->tag.len);
    sodium_memzero(pad, sizeof pad);
    return right ? 0 : -QN_EAUTH;
}

int bb84_open_hash_key(struct session *session, const Qnet__V1__QkdPad *pad) {
    return read_pad(session, pad, sizeof session->heard_key, session->heard_key);
}
