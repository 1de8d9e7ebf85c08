/* SPDX-License-Identifier: Apache-2.0 */
/* BB84 (Bennett and Brassard 1984) between a source and a detector, in blocks.
 *
 *   source                                   detector
 *      <---- Bb84Start / Bb84Accept ---->                 whichever end was asked starts
 *   PulseTrain  ~~~~~ quantum port ~~~~~~~>  detect
 *      <------------- Bb84Detections ------               positions and bases, never bits
 *   Bb84Sift  ---------------------------->               same basis?, and the sample to compare
 *      <------------- Bb84Sample ----------
 *   Bb84Estimate (or Bb84Abort: QBER) ---->
 *      <------------- Bb84ParityAsk -------               Cascade, until the detector has no question left
 *   Bb84ParityTell ----------------------->
 *      <------------- Bb84Verify ----------               hash of the reconciled key
 *   Bb84Amplify -------------------------->
 *   Bb84Stored <-------------------------->               equal digests: the key may be used
 *
 * A block's states are the names of `enum step`; a message that does not fit the state of its block is dropped. Work on
 * a block's data runs on the thread pool, one step a block at a time; a message that needs the data meanwhile waits in
 * the block's inbox. Several blocks are under way at once. */
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/bb84.h"
#include "node/keys.h"
#include "qkd/estimate.h"

#define SESSIONS_MAX 64
#define SIFTED_PER_BLOCK 100000.0
#define SECURITY_BITS 33 /* 1e-10 */

/* ---- sessions and blocks ---- */

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

static void block_free(struct block *block) {
    struct qn_node *node = block->session->node;
    list_remove(&block->link); /* First: bb84_on_key must not find it. */
    const struct key *key = block->step == WAIT_STORED ? keys_find(node, block->key_id, sizeof block->key_id) : NULL;
    if (key != NULL && key->state < KEY_READY) keys_drop(node, block->key_id, -QN_ECANCELLED);
    qn_timers_clear(&block->session->node->timers, &block->train);
    while (block->first != NULL) {
        struct input *next = block->first->next;
        free(block->first);
        block->first = next;
    }
    bb84_data_free(block->data);
    free(block);
}

static void session_free(struct session *session) {
    while (!list_is_empty(&session->blocks)) block_free(CONTAINER_OF(session->blocks.next, struct block, link));
    session->node->bb84->n_sessions--;
    list_remove(&session->link);
    free(session);
}

static struct session *session_new(struct qn_node *node, uint16_t peer, uint32_t id, uint16_t link) {
    if (node->bb84->n_sessions >= SESSIONS_MAX) return NULL;
    struct session *session = calloc(1, sizeof *session);
    if (session == NULL) return NULL;
    session->node = node;
    session->peer = peer;
    session->id = id;
    session->link_index = link;
    session->is_source = node->topology->links[link].a == node->self;
    list_init(&session->blocks);
    list_append(&node->bb84->sessions, &session->link);
    node->bb84->n_sessions++;
    return session;
}

struct block *bb84_block_new(struct session *session, uint32_t number, enum step step) {
    struct block *block = calloc(1, sizeof *block);
    struct bb84_data *data = calloc(1, sizeof *data);
    if (block == NULL || data == NULL) {
        free(block);
        free(data);
        return NULL;
    }
    block->session = session;
    block->number = number;
    block->step = step;
    block->data = data;
    data->pulses = block->pulses = session->block_pulses;
    data->sample_fraction = session->sample_fraction;
    data->epsilon = session->epsilon;
    list_append(&session->blocks, &block->link);
    return block;
}

void bb84_send_body(struct session *session, Qnet__V1__Bb84Message__BodyCase which, void *body) {
    Qnet__V1__Bb84Message message = QNET__V1__BB84_MESSAGE__INIT;
    Qnet__V1__Envelope envelope = QNET__V1__ENVELOPE__INIT;
    message.body_case = which;
    message.start = body; /* All members of the union are pointers. */
    envelope.body_case = QNET__V1__ENVELOPE__BODY_BB84;
    envelope.bb84 = &message;
    node_send(session->node, session->peer, &envelope);
}

void bb84_send_abort(struct session *session, uint32_t block, int error, double qber, const char *detail) {
    Qnet__V1__Bb84Abort abort = QNET__V1__BB84_ABORT__INIT;
    abort.session = session->id;
    abort.block = block;
    abort.error = (uint32_t)-error;
    abort.qber = qber;
    abort.detail = (char *)(uintptr_t)detail;
    bb84_send_body(session, QNET__V1__BB84_MESSAGE__BODY_ABORT, &abort);
}

/* ---- answers to the user ---- */

double bb84_qber_of(uint64_t errors, uint64_t sampled) { return sampled > 0 ? (double)errors / (double)sampled : 0; }

static double expected_qber(const struct session *session) {
    struct qn_pulse_channel channel;
    const struct qn_node *node = session->node;
    qn_pulse_channel_from(node->topology, &node->topology->links[session->link_index],
                          node->links[session->link_index].eve, &channel);
    return qn_pulse_qber(&channel);
}

static void tell_block(struct session *session, const struct block *block, const char *failed) {
    struct request *request = session->request != 0 ? request_find(session->node, session->request) : NULL;
    if (request == NULL) return;
    Qnet__V1__Bb84Block info = QNET__V1__BB84_BLOCK__INIT;
    Qnet__V1__ControlResponse response = QNET__V1__CONTROL_RESPONSE__INIT;
    double qber = bb84_qber_of(block->errors, block->sampled), h = qn_binary_entropy(qber);
    info.block = block->number;
    info.pulses = block->pulses;
    info.clicks = block->clicks;
    info.sifted = block->sifted;
    info.sampled = block->sampled;
    info.qber = qber;
    info.disclosed = block->disclosed;
    info.efficiency = h > 0 && block->sifted > block->sampled
                          ? (double)block->disclosed / (h * (double)(block->sifted - block->sampled))
                          : 0;
    info.secret = block->secret;
    if (block->secret > 0)
        info.key_id = (ProtobufCBinaryData){sizeof block->key_id, (uint8_t *)(uintptr_t)block->key_id};
    info.failed = (char *)(uintptr_t)failed;
    response.body_case = QNET__V1__CONTROL_RESPONSE__BODY_BB84_BLOCK;
    response.bb84_block = &info;
    node_reply(session->node, request->client, request->id, true, &response);
}

static void tell_summary(struct session *session, struct request *request) {
    Qnet__V1__Bb84Summary summary = QNET__V1__BB84_SUMMARY__INIT;
    Qnet__V1__ControlResponse response = QNET__V1__CONTROL_RESPONSE__INIT;
    summary.blocks = session->blocks_done;
    summary.aborted = session->aborted;
    summary.sifted = session->sifted;
    summary.secret = session->secret;
    summary.sampled = session->sampled;
    summary.errors = session->errors;
    summary.qber = bb84_qber_of(session->errors, session->sampled);
    summary.expected_qber = expected_qber(session);
    summary.elapsed_ns = session->node->now_ns - request->started_ns;
    response.body_case = QNET__V1__CONTROL_RESPONSE__BODY_BB84_SUMMARY;
    response.bb84_summary = &summary;
    node_reply(session->node, request->client, request->id, false, &response);
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

void bb84_block_fail(struct block *block, int error, const char *text) {
    struct session *session = block->session;
    char copy[200];
    snprintf(copy, sizeof copy, "block %u: %s", block->number, text);
    bb84_send_abort(session, block->number, error, bb84_qber_of(block->errors, block->sampled), copy);
    tell_block(session, block, qn_err_name(error));
    bb84_session_fail(session, error, copy);
}

static bool is_enough(const struct session *session) {
    return session->blocks_wanted != 0 ? session->blocks_done >= session->blocks_wanted
                                       : session->secret >= session->secret_wanted;
}

void bb84_block_done(struct block *block) {
    struct session *session = block->session;
    struct qn_node *node = session->node;
    struct link_state *link = &node->links[session->link_index];
    session->blocks_done++;
    if (block->secret == 0) session->aborted++;
    session->sifted += block->sifted;
    session->secret += block->secret;
    session->sampled += block->sampled;
    session->errors += block->errors;
    link->sifted_bits += block->sifted;
    link->secret_bits += block->secret;
    tell_block(session, block, block->secret > 0 ? "" : "no_key");
    block_free(block);
    struct request *request = session->request != 0 ? request_find(node, session->request) : NULL;
    if (request != NULL) request->delivered = session->blocks_done;
    if (is_enough(session) && list_is_empty(&session->blocks) && request != NULL) {
        tell_summary(session, request);
        bb84_send_abort(session, 0, 0, 0, "complete");
        session->request = 0;
        request->extra = NULL;
        session_free(session);
        request_finish(request);
        return;
    }
    if (session->is_source) bb84_begin_blocks(session);
}

/* ---- starting and ending ---- */

static void let_go_of_session(struct request *request) { /* The user's request ends before the session did. */
    struct session *session = request->extra;
    if (session == NULL) return;
    bb84_send_abort(session, 0, -QN_ECANCELLED, 0, "given up by the user or the deadline");
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
    else if (session != NULL && !session->accepted)
        why = "the other end did not answer";
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

static uint64_t choose_pulses(
    const struct session *session) { /* For about SIFTED_PER_BLOCK bits, but not more than 5 s of the laser. */
    const struct qn_node *node = session->node;
    const struct qn_topo_link *link = &node->topology->links[session->link_index];
    struct qn_pulse_channel channel;
    qn_pulse_channel_from(node->topology, link, node->links[session->link_index].eve, &channel);
    double gain = qn_pulse_gain(&channel), pulses = gain > 0 ? 2 * SIFTED_PER_BLOCK / gain : PULSES_MAX;
    double most = 5 * node->topology->nodes[link->a].clock_hz;
    if (pulses > most) pulses = most;
    return pulses > PULSES_MAX ? PULSES_MAX : pulses < 1000 ? 1000 : (uint64_t)pulses;
}

void bb84_start(struct qn_node *node, uint64_t client, uint64_t id, const Qnet__V1__Bb84Request *m) {
    int peer = node_name_to_peer(node, client, id, m->peer);
    if (peer < 0) return;
    int link = find_link(node, (uint16_t)peer);
    if (link < 0) {
        node_reply_error(node, client, id, link, "no bb84 link joins %s and %s", node_name(node, node->self), m->peer);
        return;
    }
    if (!(m->qber_limit >= 0 && m->qber_limit <= 0.5) || !(m->sample_fraction >= 0 && m->sample_fraction < 1) ||
        m->blocks > BLOCKS_MAX || m->block_pulses > PULSES_MAX) {
        node_reply_error(node, client, id, -QN_EINVAL,
                         "qber_limit is 0 to 0.5, sample_fraction 0 to 1, blocks at most %d, block_pulses at most %d",
                         BLOCKS_MAX, PULSES_MAX);
        return;
    }
    struct request *request = request_new(node, client, id, REQUEST_BB84, m->timeout_ns);
    struct session *session =
        request == NULL
            ? NULL
            : session_new(node, (uint16_t)peer, ++node->bb84->next_session << 1 | (node->self > peer), (uint16_t)link);
    if (session == NULL) {
        if (request != NULL) request_fail(request, -QN_EBUSY, "too many BB84 sessions");
        return;
    }
    session->request = request->number;
    session->asked_here = true;
    session->secret_wanted = m->secret_bits != 0 || m->blocks != 0 ? m->secret_bits : 1;
    session->blocks_wanted = m->blocks;
    session->block_pulses = m->block_pulses != 0 ? m->block_pulses : choose_pulses(session);
    session->qber_limit = m->qber_limit > 0 ? m->qber_limit : 0.11;
    session->sample_fraction = m->sample_fraction > 0 ? m->sample_fraction : 0.1;
    session->epsilon = ldexp(1, -SECURITY_BITS);
    request->peer = (uint16_t)peer;
    request->extra = session;
    request->free_extra = let_go_of_session;
    request->on_timeout = on_timeout;
    Qnet__V1__Bb84Start start = QNET__V1__BB84_START__INIT;
    start.request = request->number;
    start.link = (uint32_t)link;
    start.session = session->id;
    start.secret_bits = session->secret_wanted;
    start.blocks = session->blocks_wanted;
    start.block_pulses = session->block_pulses;
    start.qber_limit = session->qber_limit;
    start.sample_fraction = session->sample_fraction;
    start.security_bits = SECURITY_BITS;
    bb84_send_body(session, QNET__V1__BB84_MESSAGE__BODY_START, &start);
}

static void on_start(struct qn_node *node, uint16_t from, const Qnet__V1__Bb84Start *m) {
    if (m->link >= node->topology->n_links || bb84_find_session(node, from, m->session) != NULL) return;
    const struct qn_topo_link *link = &node->topology->links[m->link];
    bool ours = link->kind == QN_LINK_BB84 &&
                ((link->a == node->self && link->b == from) || (link->b == node->self && link->a == from));
    bool sane = ours && m->block_pulses > 0 && m->block_pulses <= PULSES_MAX && m->sample_fraction > 0 &&
                m->sample_fraction < 1 && m->qber_limit >= 0 && m->qber_limit <= 0.5 && m->security_bits >= 8 &&
                m->security_bits <= 256 && m->blocks <= BLOCKS_MAX;
    if (!sane) return;
    struct session *session = session_new(node, from, m->session, (uint16_t)m->link);
    if (session == NULL) return;
    session->peer_request = m->request;
    session->secret_wanted = m->secret_bits;
    session->blocks_wanted = m->blocks;
    session->block_pulses = m->block_pulses;
    session->qber_limit = m->qber_limit;
    session->sample_fraction = m->sample_fraction;
    session->epsilon = ldexp(1, -(int)m->security_bits);
    session->accepted = true;
    Qnet__V1__Bb84Accept accept = QNET__V1__BB84_ACCEPT__INIT;
    accept.request = m->request;
    accept.session = m->session;
    bb84_send_body(session, QNET__V1__BB84_MESSAGE__BODY_ACCEPT, &accept);
    if (session->is_source) bb84_begin_blocks(session);
}

static void on_abort(struct session *session, const Qnet__V1__Bb84Abort *m) {
    struct block *block = bb84_find_block(session, m->block);
    if (m->error == 0 || block == NULL) {
        bb84_session_fail(session, m->error == 0 ? -QN_ECANCELLED : -(int)m->error, m->detail);
        return;
    }
    if (m->error == QN_EQBER) {
        session->node->links[session->link_index].qber = m->qber;
        block->errors = (uint64_t)(m->qber * (double)block->sampled + 0.5);
    }
    tell_block(session, block, qn_err_name((int)m->error));
    bb84_session_fail(session, -(int)m->error, m->detail);
}

void bb84_on_message(struct qn_node *node, uint16_t from, const Qnet__V1__Bb84Message *m) {
    if (m->body_case == QNET__V1__BB84_MESSAGE__BODY_START) {
        on_start(node, from, m->start);
        return;
    }
    /* Every other body begins with (request or session, ...); its session and block are found first. */
    uint32_t id, number = 0;
    switch (m->body_case) {
    case QNET__V1__BB84_MESSAGE__BODY_ACCEPT:
        id = m->accept->session;
        break;
#define WHERE(CASE, field)                                                                                             \
    case QNET__V1__BB84_MESSAGE__BODY_##CASE:                                                                          \
        id = m->field->session;                                                                                        \
        number = m->field->block;                                                                                      \
        break
        WHERE(DETECTIONS, detections);
        WHERE(SIFT, sift);
        WHERE(SAMPLE, sample);
        WHERE(ESTIMATE, estimate);
        WHERE(ASK, ask);
        WHERE(TELL, tell);
        WHERE(VERIFY, verify);
        WHERE(AMPLIFY, amplify);
        WHERE(STORED, stored);
        WHERE(ABORT, abort);
#undef WHERE
    default:
        return;
    }
    struct session *session = bb84_find_session(node, from, id);
    if (session == NULL) return;
    struct block *block = bb84_find_block(session, number);
    if (m->body_case == QNET__V1__BB84_MESSAGE__BODY_ABORT) {
        on_abort(session, m->abort);
    } else if (m->body_case == QNET__V1__BB84_MESSAGE__BODY_ACCEPT) {
        if (m->accept->error != 0)
            bb84_session_fail(session, -(int)m->accept->error, m->accept->detail);
        else {
            session->accepted = true;
            if (session->is_source) bb84_begin_blocks(session);
        }
    } else if (block != NULL) {
        switch (m->body_case) {
        case QNET__V1__BB84_MESSAGE__BODY_DETECTIONS:
            bb84_on_detections(node, session, block, m->detections);
            break;
        case QNET__V1__BB84_MESSAGE__BODY_SIFT:
            bb84_on_sift(node, session, block, m->sift);
            break;
        case QNET__V1__BB84_MESSAGE__BODY_SAMPLE:
            bb84_on_sample(node, session, block, m->sample);
            break;
        case QNET__V1__BB84_MESSAGE__BODY_ESTIMATE:
            bb84_on_estimate(node, session, block, m->estimate);
            break;
        case QNET__V1__BB84_MESSAGE__BODY_ASK:
            if (session->is_source) bb84_on_parity(block, &m->ask->ranges, m->ask->count);
            break;
        case QNET__V1__BB84_MESSAGE__BODY_TELL:
            if (!session->is_source) bb84_on_parity(block, &m->tell->parities, m->tell->count);
            break;
        case QNET__V1__BB84_MESSAGE__BODY_VERIFY:
            bb84_on_verify(node, session, block, m->verify);
            break;
        case QNET__V1__BB84_MESSAGE__BODY_AMPLIFY:
            bb84_on_amplify(node, session, block, m->amplify);
            break;
        default:
            bb84_on_stored(node, session, block, m->stored);
            break;
        }
    }
}

void bb84_on_session(struct qn_node *node, uint16_t peer, enum qn_plane_id plane, bool up) {
    if (plane != QN_QUANTUM || !up) return;
    for (struct list *item = node->bb84->sessions.next; item != &node->bb84->sessions; item = item->next) {
        struct session *session = CONTAINER_OF(item, struct session, link);
        if (session->peer != peer || !session->is_source) continue;
        for (struct list *b = session->blocks.next; b != &session->blocks;
             b = b->next) { /* Lost trains: other pulses, same block. */
            struct block *block = CONTAINER_OF(b, struct block, link);
            if (block->step == WAIT_DETECTIONS && block->data != NULL && block->train.slot == 0 &&
                block->parts_seen == 0)
                bb84_emit(session, block);
        }
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
    for (struct list *item = node->bb84->sessions.next, *next; item != &node->bb84->sessions; item = next) {
        next = item->next;
        struct session *session = CONTAINER_OF(item, struct session, link);
        if (session->peer == peer) bb84_session_fail(session, -QN_EPEER_DOWN, node_name(node, peer));
    }
}

int bb84_init(struct qn_node *node) {
    node->bb84 = calloc(1, sizeof *node->bb84);
    if (node->bb84 == NULL) return -QN_ENOMEM;
    list_init(&node->bb84->sessions);
    node->bb84->next_session = (uint32_t)(node->incarnation & 0x7fff) << 15;
    return 0;
}

void bb84_release(struct qn_node *node) {
    if (node->bb84 == NULL) return;
    while (!list_is_empty(&node->bb84->sessions))
        session_free(CONTAINER_OF(node->bb84->sessions.next, struct session, link));
    free(node->bb84);
    node->bb84 = NULL;
}
