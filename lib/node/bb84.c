/* SPDX-License-Identifier: Apache-2.0 */
/* QKD sessions between a source and a detector: how they end, and which message goes where. The order of messages and
 * the states of trains and blocks are in proto/README.md; a message that does not fit the state of its train or block
 * is dropped. */
#include "node/bb84.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- sessions ---- */

struct session *bb84_find_session(const struct qn_node *node, uint16_t peer, uint32_t id) {
    for (struct list *item = node->bb84->sessions.next; item != &node->bb84->sessions; item = item->next) {
        struct session *session = CONTAINER_OF(item, struct session, link);
        if (session->peer == peer && session->id == id) return session;
    }
    return NULL;
}

struct block *bb84_find_block(const struct session *session, uint32_t number) {
    for (struct list *item = session->blocks.next; item != &session->blocks; item = item->next) {
        struct block *block = CONTAINER_OF(item, struct block, link);
        if (block->number == number) return block;
    }
    return NULL;
}

struct train *bb84_find_train(const struct block *block, uint32_t number) { /* From the end: that is where work is. */
    for (struct list *item = block->trains.prev; item != &block->trains; item = item->prev) {
        struct train *train = CONTAINER_OF(item, struct train, link);
        if (train->number == number) return train;
    }
    return NULL;
}

void bb84_session_free(struct session *session) {
    while (!list_is_empty(&session->blocks)) bb84_block_free(CONTAINER_OF(session->blocks.next, struct block, link));
    session->node->bb84->n_sessions--;
    list_remove(&session->link);
    qn_buf_release(&session->opening);
    qn_buf_release(&session->replayed);
    sodium_memzero(session, sizeof *session);
    free(session);
}

/* Ends the session at this end; the user who asked here is told why. */
void bb84_session_fail(struct session *session, int error, const char *text) {
    struct qn_node *node = session->node;
    struct request *request = session->request != 0 ? request_find(node, session->request) : NULL;
    session->request = 0;
    if (request != NULL) {
        request->extra = NULL; /* The session needs no word to the peer any more. */
        request_fail(request, error, "%s", text);
    }
    bb84_session_free(session);
}

void bb84_session_done(struct session *session) {
    struct qn_node *node = session->node;
    struct request *request = session->request != 0 ? request_find(node, session->request) : NULL;
    bool enough = session->blocks_wanted != 0 ? session->blocks_done >= session->blocks_wanted
                                              : session->secret >= session->secret_wanted;
    if (request != NULL) request->delivered = session->blocks_done;
    if (!enough || request == NULL) {
        if (session->is_source) bb84_pump(session);
        return;
    }
    bb84_tell_summary(session, request);
    bb84_say_abort(session, 0, 0, 0, "complete");
    session->request = 0;
    request->extra = NULL;
    bb84_session_free(session);
    request_finish(request);
}

/* ---- ending ---- */

static void on_abort(struct session *session, const Qnet__V1__QkdAbort *m) {
    struct block *block = bb84_find_block(session, m->block);
    char text[480];
    if (m->error == 0 || block == NULL) {
        bb84_session_fail(session, m->error == 0 ? -QN_ECANCELLED : -(int)m->error, m->detail);
        return;
    }
    if (m->error == QN_EQBER) {
        session->node->links[session->link_index].qber = m->qber;
        uint64_t compared = bb84_sum(block->counts.test_n); /* Spread over the intensities, for the report. */
        for (unsigned k = 0; k < QN_DECOYS_MAX && compared > 0; k++)
            block->counts.test_m[k] = (uint64_t)(m->qber * (double)block->counts.test_n[k] + 0.5);
    }
    block->verdict = -(int)m->error;
    snprintf(block->detail, sizeof block->detail, "%s", m->detail);
    snprintf(text, sizeof text, "block %u%s%s", block->number, m->detail[0] != '\0' ? ": " : "", block->detail);
    bb84_tell_block(session, block);
    bb84_session_fail(session, -(int)m->error, text);
}

/* ---- messages ---- */

/* Where a message belongs. False for a body this release does not know. */
static bool find_place(const Qnet__V1__QkdMessage *m, uint32_t *ret_session, uint32_t *ret_block, int64_t *ret_train) {
    *ret_train = -1;
    *ret_block = 0;
    switch (m->body_case) {
    case QNET__V1__QKD_MESSAGE__BODY_ACCEPT:
        *ret_session = m->accept->session;
        return true;
#define OF_TRAIN(CASE, field)                                                                                          \
    case QNET__V1__QKD_MESSAGE__BODY_##CASE:                                                                           \
        *ret_session = m->field->session;                                                                              \
        *ret_block = m->field->block;                                                                                  \
        *ret_train = m->field->train;                                                                                  \
        return true
#define OF_BLOCK(CASE, field)                                                                                          \
    case QNET__V1__QKD_MESSAGE__BODY_##CASE:                                                                           \
        *ret_session = m->field->session;                                                                              \
        *ret_block = m->field->block;                                                                                  \
        return true
        OF_TRAIN(DETECTIONS, detections);
        OF_TRAIN(SIFT, sift);
        OF_TRAIN(TEST, test);
        OF_TRAIN(RECONCILE, reconcile);
        OF_TRAIN(ASK, ask);
        OF_TRAIN(TELL, tell);
        OF_TRAIN(VERIFY, verify);
        OF_TRAIN(BELL, bell);
        OF_TRAIN(SPLIT, split);
        OF_TRAIN(PIECES, pieces);
        OF_BLOCK(AMPLIFY, amplify);
        OF_BLOCK(CONFIRM, confirm);
        OF_BLOCK(ABORT, abort);
#undef OF_TRAIN
#undef OF_BLOCK
    default:
        return false;
    }
}

static void on_train_message(struct train *train, const Qnet__V1__QkdMessage *m) {
    bool is_source = train->block->session->is_source;
    switch (m->body_case) {
    case QNET__V1__QKD_MESSAGE__BODY_DETECTIONS:
        bb84_on_detections(train, m->detections);
        break;
    case QNET__V1__QKD_MESSAGE__BODY_BELL:
        bb84_on_bell(train, m->bell);
        break;
    case QNET__V1__QKD_MESSAGE__BODY_SPLIT:
        bb84_on_split(train);
        break;
    case QNET__V1__QKD_MESSAGE__BODY_PIECES:
        bb84_on_pieces(train, m->pieces);
        break;
    case QNET__V1__QKD_MESSAGE__BODY_SIFT:
        bb84_on_sift(train, m->sift);
        break;
    case QNET__V1__QKD_MESSAGE__BODY_TEST:
        bb84_on_test(train, m->test);
        break;
    case QNET__V1__QKD_MESSAGE__BODY_RECONCILE:
        bb84_on_reconcile(train, m->reconcile);
        break;
    case QNET__V1__QKD_MESSAGE__BODY_ASK:
        if (is_source) bb84_on_parity(train, &m->ask->questions, m->ask->count);
        break;
    case QNET__V1__QKD_MESSAGE__BODY_TELL:
        if (!is_source) bb84_on_parity(train, &m->tell->answers, m->tell->count);
        break;
    default:
        bb84_on_verify(train, m->verify);
        break;
    }
}

void bb84_on_message(struct qn_node *node, uint16_t from, Qnet__V1__QkdMessage *m, const ProtobufCBinaryData *packed) {
    uint32_t id, number;
    int64_t place;
    if (m->body_case == QNET__V1__QKD_MESSAGE__BODY_START) {
        bb84_on_start(node, from, m);
        return;
    }
    if (!find_place(m, &id, &number, &place)) return;
    struct session *session = bb84_find_session(node, from, id);
    if (session == NULL) return;
    bool is_changed = bb84_tamper(session, m);
    if (m->body_case == QNET__V1__QKD_MESSAGE__BODY_ABORT) {
        on_abort(session, m->abort);
        return;
    }
    if (m->body_case == QNET__V1__QKD_MESSAGE__BODY_ACCEPT) {
        bb84_on_accept(session, m);
        return;
    }
    struct block *block = bb84_find_block(session, number);
    if (block == NULL) return;
    if (m->body_case == QNET__V1__QKD_MESSAGE__BODY_AMPLIFY) {
        bb84_on_amplify(block, m);
    } else if (m->body_case == QNET__V1__QKD_MESSAGE__BODY_CONFIRM) {
        bb84_on_confirm(block, m);
    } else {
        bb84_heard(session, block, m, is_changed ? NULL : packed);
        struct train *train = bb84_find_train(block, (uint32_t)place);
        if (train != NULL) on_train_message(train, m);
    }
}

/* A node of protocol 1 asks for keys as they were made then: without decoys, and without proof of who speaks. */
void bb84_on_old_message(struct qn_node *node, uint16_t from, const Qnet__V1__Bb84Message *m) {
    if (m->body_case != QNET__V1__BB84_MESSAGE__BODY_START) return;
    Qnet__V1__Envelope envelope = QNET__V1__ENVELOPE__INIT;
    Qnet__V1__Bb84Message message = QNET__V1__BB84_MESSAGE__INIT;
    Qnet__V1__Bb84Accept accept = QNET__V1__BB84_ACCEPT__INIT;
    char detail[] = "this node makes keys with decoys and authentication only; update the other end";
    accept.request = m->start->request;
    accept.session = m->start->session;
    accept.error = QN_EVERSION;
    accept.detail = detail;
    message.body_case = QNET__V1__BB84_MESSAGE__BODY_ACCEPT;
    message.accept = &accept;
    envelope.body_case = QNET__V1__ENVELOPE__BODY_BB84;
    envelope.bb84 = &message;
    node_send(node, from, &envelope);
}

/* ---- the node ---- */

void bb84_on_session(struct qn_node *node, uint16_t peer, enum qn_plane_id plane, bool up) {
    if (plane != QN_QUANTUM || !up) return;
    for (struct list *item = node->bb84->sessions.next; item != &node->bb84->sessions; item = item->next) {
        struct session *session = CONTAINER_OF(item, struct session, link);
        if (session->peer == peer && session->is_source) bb84_send_again(session);
    }
}

static struct block *telling_block(const struct session *session) {
    for (struct list *b = session->blocks.next; b != &session->blocks; b = b->next) {
        struct block *block = CONTAINER_OF(b, struct block, link);
        if (block->step == BLOCK_TELLING) return block;
    }
    return NULL;
}

static void session_on_pads(struct session *session) {
    struct qn_node *node = session->node;
    uint16_t peer = session->peer;
    uint32_t id = session->id;
    if (session->wants_pad) {
        if (session->asked_here)
            bb84_send_start(session);
        else
            bb84_send_accept(session);
        return;
    }
    for (const struct block *last = NULL; session != NULL; session = bb84_find_session(node, peer, id)) {
        struct block *block = telling_block(session); /* Telling may end the block, and the session. */
        if (block == NULL || block == last) return;
        last = block;
        bb84_block_on_pads(block);
    }
}

void bb84_on_pads(struct qn_node *node, uint16_t peer) {
    for (struct list *s = node->bb84->sessions.next, *next; s != &node->bb84->sessions; s = next) {
        next = s->next;
        struct session *session = CONTAINER_OF(s, struct session, link);
        if (session->peer == peer && session->parameters.authenticated) session_on_pads(session);
    }
}

void bb84_mark_peers(const struct qn_node *node, bool *marks) {
    for (const struct list *item = node->bb84->sessions.next; item != &node->bb84->sessions; item = item->next)
        marks[CONTAINER_OF(item, struct session, link)->peer] = true;
}

bool bb84_is_with(const struct qn_node *node, uint16_t peer) {
    for (const struct list *item = node->bb84->sessions.next; item != &node->bb84->sessions; item = item->next)
        if (CONTAINER_OF(item, const struct session, link)->peer == peer) return true;
    return false;
}

void bb84_on_peer_gone(struct qn_node *node, uint16_t peer) {
    bb84_drop_letters(node, peer);
    for (struct list *item = node->bb84->sessions.next, *next; item != &node->bb84->sessions; item = next) {
        next = item->next;
        struct session *session = CONTAINER_OF(item, struct session, link);
        if (session->peer == peer) bb84_session_fail(session, -QN_EPEER_DOWN, node_name(node, peer));
    }
}

int bb84_init(struct qn_node *node) {
    node->bb84 = calloc(1, sizeof *node->bb84);
    if (node->bb84 == NULL) return -QN_ENOMEM;
    node->bb84->letters = calloc(node->topology->n_nodes, sizeof *node->bb84->letters);
    if (node->bb84->letters == NULL) return -QN_ENOMEM;
    list_init(&node->bb84->sessions);
    node->bb84->next_session = (uint32_t)(node->incarnation & 0x7fff) << 15;
    return 0;
}

void bb84_release(struct qn_node *node) {
    if (node->bb84 == NULL) return;
    while (node->bb84->letters != NULL && !list_is_empty(&node->bb84->sessions))
        bb84_session_free(CONTAINER_OF(node->bb84->sessions.next, struct session, link));
    for (uint16_t i = 0; node->bb84->letters != NULL && i < node->topology->n_nodes; i++) bb84_drop_letters(node, i);
    free(node->bb84->letters);
    qn_buf_release(&node->bb84->packed);
    qn_buf_release(&node->bb84->relayed.kept);
    free(node->bb84);
    node->bb84 = NULL;
}
