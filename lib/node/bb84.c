/* SPDX-License-Identifier: Apache-2.0 */
/* QKD sessions between a source and a detector: how they begin and end, and which message goes where. Whichever end was
 * asked by a user starts. The order of messages and the states of trains and blocks are in proto/README.md; a message
 * that does not fit the state of its train or block is dropped. */
#include "node/bb84.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/keys.h"

#define SESSIONS_MAX 64
#define QBER_LIMIT 0.11
#define BELL_SHARE_DEFAULT 0.2 /* When the key rests on it. */

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

static void session_free(struct session *session) {
    while (!list_is_empty(&session->blocks)) bb84_block_free(CONTAINER_OF(session->blocks.next, struct block, link));
    session->node->bb84->n_sessions--;
    list_remove(&session->link);
    qn_buf_release(&session->opening);
    qn_buf_release(&session->replayed);
    sodium_memzero(session, sizeof *session);
    free(session);
}

/* Memory is for all sessions of a node. Those that run already keep what they were given, so all of them together have
 * less than 64 (1 + 1/2 + ... + 1/n). */
static size_t share_of_trains(const struct qn_node *node) {
    size_t share = TRAINS_OF_NODE / (node->bb84->n_sessions + 1);
    return share < TRAINS_AT_ONCE_LEAST ? TRAINS_AT_ONCE_LEAST : share > TRAINS_AT_ONCE ? TRAINS_AT_ONCE : share;
}

/* What the other end has told. */
static void share_room(struct session *session, uint32_t theirs) {
    if (theirs > 0 && theirs < session->trains_most) session->trains_most = theirs;
}

static struct session *session_new(struct qn_node *node, uint16_t peer, uint32_t id, uint16_t link, bool pairs) {
    if (node->bb84->n_sessions >= SESSIONS_MAX) return NULL;
    struct session *session = calloc(1, sizeof *session);
    if (session == NULL) return NULL;
    session->node = node;
    session->peer = peer;
    session->id = id;
    session->link_index = session->asked_link = link;
    session->is_source = node->topology->links[link].a == node->self;
    session->trains_most = share_of_trains(node);
    if (pairs)
        bb84_parameters_of_pairs(node, peer, &session->parameters);
    else
        bb84_parameters_from(node, link, &session->parameters);
    list_init(&session->blocks);
    list_append(&node->bb84->sessions, &session->link);
    node->bb84->n_sessions++;
    return session;
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
    session_free(session);
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
    session_free(session);
    request_finish(request);
}

/* ---- starting ---- */

static void let_go_of_session(struct request *request) { /* The user's request ends before the session did. */
    struct session *session = request->extra;
    if (session == NULL) return;
    int error = bb84_is_of_pairs(session) && request->error < 0 ? request->error : -QN_ECANCELLED;
    bb84_say_abort(session, 0, error, 0, "given up by the user, the deadline, or because no pairs come");
    session_free(session);
}

static void on_timeout(struct request *request) {
    const struct session *session = request->extra;
    const struct qn_node *node = request->node;
    const struct neighbour *peer = session != NULL ? node_neighbour(node, session->peer) : NULL;
    int error = -QN_ETIMEOUT;
    const char *why = "pulses or messages come too slowly";
    if (peer != NULL && !peer->up[QN_CLASSICAL])
        error = -QN_EPEER_DOWN, why = "the classical channel is down";
    else if (peer != NULL && !peer->up[QN_QUANTUM])
        error = -QN_EPEER_DOWN, why = "the quantum channel is down: no photons arrive";
    else if (session != NULL && session->wants_pad)
        error = -QN_ESTORE,
        why = "no pads: does the other end have the same initial secret, and can its store be written?";
    else if (session != NULL && !session->accepted)
        why = "the other end did not answer";
    else if (session != NULL && bb84_is_of_pairs(session))
        why = bb84_pairs_obstacle(session, request, &error);
    double block_s = session != NULL && session->accepted && !bb84_is_of_pairs(session)
                         ? (double)session->block_pulses / session->parameters.clock_hz
                         : 0;
    if (error == -QN_ETIMEOUT && block_s > 0)
        request_fail(request, error, "%u blocks done when the deadline passed; the pulses of one take %.3g s",
                     request->delivered, block_s);
    else
        request_fail(request, error, "%u blocks done when the deadline passed; %s", request->delivered, why);
}

static int find_link(const struct qn_node *node, uint16_t peer) {
    for (size_t i = 0; i < node->topology->n_links; i++) {
        const struct qn_topo_link *link = &node->topology->links[i];
        if (link->kind == QN_LINK_BB84 &&
            ((link->a == node->self && link->b == peer) || (link->b == node->self && link->a == peer)))
            return (int)i;
    }
    return -QN_EUNSUPPORTED;
}

/* The key of this end's tags, and its name for the other. 0, or what pads_take says. */
static int take_hash_key(struct session *session, Qnet__V1__QkdPad *message, struct pad_ref *ref) {
    int rc = pads_take(session->node, session->peer, sizeof session->said_key, session->said_key, ref);
    if (rc < 0) return rc;
    qnet__v1__qkd_pad__init(message);
    message->id = (ProtobufCBinaryData){sizeof ref->id, ref->id};
    message->offset = ref->offset;
    session->pad_bits += sizeof session->said_key * 8;
    return 0;
}

static void send_start(struct session *session) {
    Qnet__V1__QkdStart start = QNET__V1__QKD_START__INIT;
    Qnet__V1__QkdParameters parameters;
    Qnet__V1__QkdPad pad;
    struct pad_ref ref;
    bb84_parameters_pack(&session->parameters, &parameters);
    if (session->parameters.authenticated) {
        int rc = take_hash_key(session, &pad, &ref);
        bool asked = session->wants_pad;
        session->wants_pad = rc == -QN_EBUSY;
        if (rc == -QN_EBUSY && asked) return;
        if (rc < 0 && rc != -QN_EBUSY) {
            bb84_session_fail(session, -QN_EPADS, "nothing is left to authenticate with");
            return;
        }
        if (rc == 0) start.hash_key = &pad; /* Else this only asks whether the ends agree. */
    }
    start.request = session->request;
    start.link = session->link_index;
    start.session = session->id;
    start.secret_bits = session->secret_wanted;
    start.blocks = session->blocks_wanted;
    start.block_pulses = session->block_pulses;
    start.train_pulses = session->train_pulses;
    start.qber_limit = session->qber_limit;
    start.parameters = &parameters;
    start.trains_at_once = (uint32_t)session->trains_most;
    session->opening.len = 0;
    bb84_say(session, NULL, QNET__V1__QKD_MESSAGE__BODY_START, &start);
}

static void choose_and_start(struct session *session) {
    int rc = bb84_is_of_pairs(session) ? bb84_pairs_choose(session)
                                       : bb84_choose_sizes(session, session->block_pulses_asked);
    if (rc == -QN_ENO_ROUTE)
        bb84_session_fail(session, rc, "over entanglement links");
    else if (rc < 0)
        bb84_session_fail(session, -QN_ELIMIT,
                          "a block of so many pulses is too large on this link; ask for smaller ones");
    else
        send_start(session);
}

static void on_choice(struct session *session, const struct bb84_choice *choice) {
    bb84_choice_use(session, choice);
    choose_and_start(session);
}

void bb84_start(struct qn_node *node, uint64_t client, uint64_t id, const Qnet__V1__Bb84Request *m) {
    int peer = node_name_to_peer(node, client, id, m->peer);
    if (peer < 0) return;
    int link =
        m->pairs || m->bell_share > 0 || m->device_independent ? -QN_EUNSUPPORTED : find_link(node, (uint16_t)peer);
    bool pairs = link < 0;
    if (pairs) link = bb84_pairs_link(node, (uint16_t)peer);
    if (link < 0) {
        node_reply_error(node, client, id, -QN_EUNSUPPORTED,
                         "no bb84 link joins %s and %s, and no entanglement links lead there",
                         node_name(node, node->self), m->peer);
        return;
    }
    if (!(m->qber_limit >= 0 && m->qber_limit <= 0.5) || m->blocks > BLOCKS_MAX || m->block_pulses > BLOCK_PULSES_MAX ||
        m->method >= QN_RECONCILE_METHODS || !(m->bell_share >= 0 && m->bell_share <= BELL_SHARE_MAX)) {
        node_reply_error(node, client, id, -QN_EINVAL,
                         "qber_limit is 0 to 0.5, blocks at most %d, block_pulses at most 1e15, method one of those "
                         "there are, bell_share 0 to 0.25",
                         BLOCKS_MAX);
        return;
    }
    struct request *request = request_new(node, client, id, REQUEST_BB84, m->timeout_ns);
    struct session *session =
        request == NULL ? NULL
                        : session_new(node, (uint16_t)peer, ++node->bb84->next_session << 1 | (node->self > peer),
                                      (uint16_t)link, pairs);
    if (session == NULL) {
        if (request != NULL) request_fail(request, -QN_EBUSY, "too many BB84 sessions");
        return;
    }
    session->request = request->number;
    session->asked_here = true;
    session->secret_wanted = m->secret_bits != 0 || m->blocks != 0 ? m->secret_bits : 1;
    session->blocks_wanted = m->blocks;
    session->qber_limit = m->qber_limit > 0 ? m->qber_limit : QBER_LIMIT;
    session->parameters.method = (enum qn_reconcile_method)m->method;
    session->block_pulses_asked = m->block_pulses;
    request->peer = (uint16_t)peer;
    request->extra = session;
    request->free_extra = let_go_of_session;
    request->on_timeout = on_timeout;
    if (pairs) session->is_source = true;
    session->parameters.bell_share = pairs ? m->bell_share : 0;
    if (m->device_independent) session->parameters.bound = BB84_BOUND_BELL;
    if (m->device_independent && m->bell_share == 0) session->parameters.bell_share = BELL_SHARE_DEFAULT;
    if (session->parameters.open && !pairs)
        bb84_work_choice(session, on_choice);
    else
        choose_and_start(session);
}

/* ---- being asked ---- */

static void refuse(struct qn_node *node, uint16_t to, const Qnet__V1__QkdStart *m, int error, const char *detail) {
    struct session nobody = {.node = node, .peer = to, .id = m->session};
    Qnet__V1__QkdAccept accept = QNET__V1__QKD_ACCEPT__INIT;
    accept.request = m->request;
    accept.session = m->session;
    accept.error = (uint32_t)-error;
    accept.detail = (char *)(uintptr_t)detail;
    bb84_say(&nobody, NULL, QNET__V1__QKD_MESSAGE__BODY_ACCEPT, &accept);
    qn_buf_release(&nobody.opening);
}

static void send_accept(struct session *session) {
    Qnet__V1__QkdAccept accept = QNET__V1__QKD_ACCEPT__INIT;
    Qnet__V1__QkdPad pad;
    struct pad_ref ref;
    if (session->parameters.authenticated) {
        int rc = take_hash_key(session, &pad, &ref);
        session->wants_pad = rc == -QN_EBUSY;
        if (rc == -QN_EBUSY) return;
        if (rc < 0) {
            bb84_say_abort(session, 0, -QN_EPADS, 0, "nothing is left to authenticate with");
            session_free(session);
            return;
        }
        accept.hash_key = &pad;
    }
    accept.session = session->id;
    accept.trains_at_once = (uint32_t)session->trains_most;
    session->accepted = true;
    bb84_say(session, NULL, QNET__V1__QKD_MESSAGE__BODY_ACCEPT, &accept);
    if (session->is_source) bb84_pump(session);
}

static bool is_sane(const Qnet__V1__QkdStart *m) {
    return m->parameters != NULL && m->block_pulses > 0 && m->block_pulses <= BLOCK_PULSES_MAX && m->train_pulses > 0 &&
           m->train_pulses <= TRAIN_PULSES_MAX && m->block_pulses / m->train_pulses < TRAINS_MAX &&
           m->qber_limit >= 0 && m->qber_limit <= 0.5 && m->blocks <= BLOCKS_MAX &&
           m->parameters->method < QN_RECONCILE_METHODS;
}

static void on_start(struct qn_node *node, uint16_t from, const Qnet__V1__QkdMessage *message) {
    const Qnet__V1__QkdStart *m = message->start;
    if (m->link >= node->topology->n_links || bb84_find_session(node, from, m->session) != NULL) return;
    const struct qn_topo_link *link = &node->topology->links[m->link];
    char differences[400];
    bool bell = m->parameters != NULL && m->parameters->bound == BB84_BOUND_BELL;
    bool pairs = bell || (m->parameters != NULL && m->parameters->bound == BB84_BOUND_PAIRS);
    int here = pairs ? bb84_pairs_link(node, from) : (int)m->link; /* Of the path, this end's link. */
    bool is_joined = link->kind == QN_LINK_BB84 &&
                     ((link->a == node->self && link->b == from) || (link->b == node->self && link->a == from));
    if (!(pairs ? here >= 0 && m->train_pulses <= TRAIN_PAIRS_MAX : is_joined) || !is_sane(m)) {
        refuse(node, from, m, -QN_EREJECTED, "no such link, or a number out of range");
        return;
    }
    struct session *session = session_new(node, from, m->session, (uint16_t)here, pairs);
    if (session == NULL) {
        refuse(node, from, m, -QN_EBUSY, "too many BB84 sessions");
        return;
    }
    if (pairs) session->is_source = false;
    if (bell) session->parameters.bound = BB84_BOUND_BELL;
    session->asked_link = (uint16_t)m->link;
    if (!bb84_parameters_agree(&session->parameters, m->parameters, differences, sizeof differences)) {
        node_event(node, LEVEL_WARNING, "bb84_refused", node_name(node, from), "the ends differ: %s", differences);
        refuse(node, from, m, -QN_EREJECTED, differences);
        session_free(session);
        return;
    }
    if (bb84_parameters_take(session, m->parameters) < 0) {
        refuse(node, from, m, -QN_EREJECTED, "intensities or bases out of range");
        session_free(session);
        return;
    }
    if (session->parameters.authenticated && m->hash_key == NULL) { /* It will ask again when it has one. */
        session_free(session);
        return;
    }
    session->secret_wanted = m->secret_bits;
    session->blocks_wanted = m->blocks;
    session->block_pulses = m->block_pulses;
    session->train_pulses = m->train_pulses;
    session->qber_limit = m->qber_limit;
    share_room(session, m->trains_at_once);
    session->parameters.method = (enum qn_reconcile_method)m->parameters->method;
    if (session->parameters.authenticated && bb84_open_hash_key(session, m->hash_key) < 0) {
        refuse(node, from, m, -QN_EAUTH, "the initial secrets of the two ends differ, or a pad was used twice");
        session_free(session);
        return;
    }
    bb84_heard(session, NULL, message, NULL);
    send_accept(session);
}

static void on_accept(struct session *session, const Qnet__V1__QkdMessage *message) {
    const Qnet__V1__QkdAccept *m = message->accept;
    if (session->accepted || !session->asked_here) return;
    if (m->error != 0) {
        bb84_session_fail(session, -(int)m->error, m->detail);
        return;
    }
    if (session->parameters.authenticated && bb84_open_hash_key(session, m->hash_key) < 0) {
        bb84_say_abort(session, 0, -QN_EAUTH, 0, "the initial secrets of the two ends differ");
        bb84_session_fail(session, -QN_EAUTH, "the initial secrets of the two ends differ, or a pad was used twice");
        return;
    }
    session->accepted = true;
    share_room(session, m->trains_at_once);
    bb84_heard(session, NULL, message, NULL);
    if (session->is_source) bb84_pump(session);
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
        on_start(node, from, m);
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
        on_accept(session, m);
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
            send_start(session);
        else
            send_accept(session);
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
        session_free(CONTAINER_OF(node->bb84->sessions.next, struct session, link));
    for (uint16_t i = 0; node->bb84->letters != NULL && i < node->topology->n_nodes; i++) bb84_drop_letters(node, i);
    free(node->bb84->letters);
    qn_buf_release(&node->bb84->packed);
    qn_buf_release(&node->bb84->relayed.kept);
    free(node->bb84);
    node->bb84 = NULL;
}
