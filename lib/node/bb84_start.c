/* SPDX-License-Identifier: Apache-2.0 */
/* How QKD sessions begin. Whichever end was asked by a user starts; the other agrees to the parameters, or says why
 * not. */
#include <stdlib.h>

#include "node/bb84.h"
#include "node/keys.h"

#define SESSIONS_MAX 64
#define QBER_LIMIT 0.11
#define BELL_SHARE_DEFAULT 0.2 /* When the key rests on it. */

/* ---- sessions ---- */

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

/* ---- starting ---- */

static void let_go_of_session(struct request *request) { /* The user's request ends before the session did. */
    struct session *session = request->extra;
    if (session == NULL) return;
    int error = bb84_is_of_pairs(session) && request->error < 0 ? request->error : -QN_ECANCELLED;
    bb84_say_abort(session, 0, error, 0, "given up by the user, the deadline, or because no pairs come");
    bb84_session_free(session);
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

void bb84_send_start(struct session *session) {
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
        bb84_send_start(session);
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

void bb84_send_accept(struct session *session) {
    Qnet__V1__QkdAccept accept = QNET__V1__QKD_ACCEPT__INIT;
    Qnet__V1__QkdPad pad;
    struct pad_ref ref;
    if (session->parameters.authenticated) {
        int rc = take_hash_key(session, &pad, &ref);
        session->wants_pad = rc == -QN_EBUSY;
        if (rc == -QN_EBUSY) return;
        if (rc < 0) {
            bb84_say_abort(session, 0, -QN_EPADS, 0, "nothing is left to authenticate with");
            bb84_session_free(session);
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

void bb84_on_start(struct qn_node *node, uint16_t from, const Qnet__V1__QkdMessage *message) {
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
        bb84_session_free(session);
        return;
    }
    if (bb84_parameters_take(session, m->parameters) < 0) {
        refuse(node, from, m, -QN_EREJECTED, "intensities or bases out of range");
        bb84_session_free(session);
        return;
    }
    if (session->parameters.authenticated && m->hash_key == NULL) { /* It will ask again when it has one. */
        bb84_session_free(session);
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
        bb84_session_free(session);
        return;
    }
    bb84_heard(session, NULL, message, NULL);
    bb84_send_accept(session);
}

void bb84_on_accept(struct session *session, const Qnet__V1__QkdMessage *message) {
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
