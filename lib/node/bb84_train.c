/* SPDX-License-Identifier: Apache-2.0 */
/* A train of pulses: sent, detected, sifted, tested. The source sends one train after the other, at its clock, and
 * never more at once than both ends have room for, so that a detector that cannot follow slows it down. */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/bb84.h"

#define PIECE_BYTES 49152 /* Of answers and test bits in one message. */
#define TEST_LEAST 1000   /* Compared bits that are enough to give up on a block before its end. */

/* ---- life ---- */

struct train *bb84_train_new(struct block *block, uint32_t number, enum train_step step) {
    struct session *session = block->session;
    struct train *train = calloc(1, sizeof *train);
    struct bb84_data *data = calloc(1, sizeof *data);
    if (train == NULL || data == NULL) {
        free(train);
        free(data);
        return NULL;
    }
    *train = (struct train){.block = block, .number = number, .step = step, .data = data};
    train->rank = block->rank = ++session->node->bb84->n_trains;
    list_append(&block->trains, &train->link);
    session->trains_at_once++;
    data->classes = bb84_classes(&session->parameters);
    data->pairs = bb84_is_of_pairs(session);
    data->planes = data->classes > 2 ? 2 : data->classes > 1 ? 1 : 0;
    uint64_t first = number * session->train_pulses, left = session->block_pulses - first;
    data->pulses = left < session->train_pulses ? left : session->train_pulses;
    return train;
}

void bb84_train_free(struct train *train) {
    struct session *session = train->block->session;
    qn_timers_clear(&session->node->timers, &train->arrival);
    while (train->first != NULL) {
        struct input *next = train->first->next;
        free(train->first);
        train->first = next;
    }
    if (train->step != TRAIN_DONE) session->trains_at_once--;
    bb84_data_free(train->data);
    list_remove(&train->link);
    free(train);
}

/* ---- transmission ---- */

static void on_arrival(void *context, struct qn_timer *timer) { /* The last pulse of the train is at the detector. */
    struct qn_node *node = context;
    struct train *train = CONTAINER_OF(timer, struct train, arrival);
    const struct session *session = train->block->session;
    const struct neighbour *neighbour = node_neighbour(node, session->peer);
    if (neighbour == NULL || !neighbour->up[QN_QUANTUM]) return; /* Dark: sent again when the fibre is back. */
    Qnet__V1__PulseTrain message = QNET__V1__PULSE_TRAIN__INIT;
    Qnet__V1__Photon photon = QNET__V1__PHOTON__INIT;
    message.link = session->link_index;
    message.origin = node->self;
    message.session = session->id;
    message.block = train->block->number;
    message.train = train->number;
    message.pulses = train->data->pulses;
    message.stream_key = (ProtobufCBinaryData){sizeof train->data->stream_key, train->data->stream_key};
    message.start_ns = (int64_t)node->now_ns;
    photon.body_case = QNET__V1__PHOTON__BODY_TRAIN;
    photon.train = &message;
    node_send_photon(node, session->peer, &photon);
}

static void emit(struct train *train) {
    struct session *session = train->block->session;
    struct qn_node *node = session->node;
    const struct qn_topo_link *link = &node->topology->links[session->link_index];
    double duration = (double)train->data->pulses / session->parameters.clock_hz;
    uint64_t start = session->busy_until_ns > node->now_ns ? session->busy_until_ns : node->now_ns;
    session->busy_until_ns = start + (uint64_t)node_duration(duration);
    train->arrival.fire = on_arrival;
    node_timer(node, &train->arrival,
               session->busy_until_ns + (uint64_t)node_duration(link->length_km / link->light_speed_km_s));
}

uint64_t bb84_trains_of_block(const struct session *session) {
    return (session->block_pulses + session->train_pulses - 1) / session->train_pulses;
}

/* Of a block the corrected bits are kept: where trains must be few, so must blocks. Of small ones it takes more to have
 * as many trains. */
static size_t blocks_most(const struct session *session) {
    size_t most = session->trains_most / (TRAINS_AT_ONCE / BLOCKS_AT_ONCE);
    size_t small = session->trains_most / bb84_trains_of_block(session);
    if (small > SMALL_BLOCKS_AT_ONCE) small = SMALL_BLOCKS_AT_ONCE;
    if (small > most && !bb84_is_of_pairs(session)) most = small;
    return most < 1 ? 1 : most;
}

/* Where a number of secret bits is wanted, not many more are made. */
static bool wants_block(const struct session *session) {
    if (session->blocks_begun >= BLOCKS_MAX) return false;
    if (session->blocks_wanted != 0) return session->blocks_begun < session->blocks_wanted;
    uint64_t over = session->blocks_begun - session->n_blocks, coming = 0;
    if (session->n_blocks >= BLOCKS_AT_ONCE) {
        if (over == 0) return false;
        coming = session->secret / over * session->n_blocks;
    }
    return session->secret < session->secret_wanted && coming < session->secret_wanted - session->secret;
}

static struct block *open_block(struct session *session) { /* The one that still has trains to send, or a new one. */
    struct list *last = session->blocks.prev;
    if (last != &session->blocks) {
        struct block *block = CONTAINER_OF(last, struct block, link);
        if (block->begun < block->n_trains && block->verdict == 0) return block;
    }
    if (!wants_block(session) || session->n_blocks >= blocks_most(session)) return NULL;
    return bb84_block_new(session, ++session->blocks_begun);
}

static size_t reconcile_at_once(const struct session *session) {
    const struct neighbour *peer = node_neighbour(session->node, session->peer);
    double round_s = peer != NULL ? 2e-9 * (double)(peer->delay_ns + peer->extra_delay_ns) : 0;
    double more = round_s * RECONCILE_PER_S;
    return RECONCILE_AT_ONCE + (more < TRAINS_AT_ONCE ? (size_t)more : TRAINS_AT_ONCE);
}

/* The oldest that may be reconciled now, or NULL. */
static struct train *next_ready(const struct session *session) {
    struct train *ready = NULL;
    size_t n = 0;
    for (struct list *b = session->blocks.next; b != &session->blocks; b = b->next) {
        struct block *block = CONTAINER_OF(b, struct block, link);
        for (struct list *t = block->trains.next; t != &block->trains; t = t->next) {
            struct train *train = CONTAINER_OF(t, struct train, link);
            if (train->step == TRAIN_RECONCILING || train->step == TRAIN_VERIFYING) n++;
            if (train->step == TRAIN_READY && ready == NULL) ready = train;
        }
    }
    return n < reconcile_at_once(session) ? ready : NULL;
}

/* One train after the other is finished, rather than all of them at the same time: then those that are behind are
 * detected and sifted meanwhile, and both processors always have something to do. */
static void reconcile_ready(struct session *session) {
    struct qn_node *node = session->node;
    uint16_t peer = session->peer;
    uint32_t id = session->id;
    struct train *train;
    while (session != NULL && (train = next_ready(session)) != NULL) {
        bb84_reconcile_begin(train);
        session = bb84_find_session(node, peer, id);
    }
}

static void send_trains(struct session *session) {
    while (session->accepted && session->trains_at_once < session->trains_most && !session->asks_pairs) {
        struct block *block = open_block(session);
        struct train *train = block != NULL ? bb84_train_new(block, block->begun, TRAIN_SENT) : NULL;
        if (train == NULL) return;
        block->begun++;
        if (bb84_is_of_pairs(session)) { /* Comes back when they are measured. */
            bb84_pairs_ask(train);
            return;
        }
        qn_csprng_bytes(&session->node->secret, train->data->stream_key, sizeof train->data->stream_key);
        bb84_source(session, &train->data->optics.source);
        emit(train);
    }
}

void bb84_pump(struct session *session) {
    struct qn_node *node = session->node;
    uint16_t peer = session->peer;
    uint32_t id = session->id;
    reconcile_ready(session);
    session = bb84_find_session(node, peer, id);
    if (session != NULL) send_trains(session);
}

void bb84_send_again(struct session *session) { /* The same pulses: nobody has seen them. */
    if (bb84_is_of_pairs(session)) return;      /* The link layer sees to those. */
    for (struct list *b = session->blocks.next; b != &session->blocks; b = b->next) {
        struct block *block = CONTAINER_OF(b, struct block, link);
        for (struct list *t = block->trains.next; t != &block->trains; t = t->next) {
            struct train *train = CONTAINER_OF(t, struct train, link);
            if (train->step == TRAIN_SENT && train->arrival.slot == 0 && train->pieces_seen == 0) emit(train);
        }
    }
}

/* ---- detection ---- */

void bb84_send_detections(struct train *train) {
    struct session *session = train->block->session;
    struct bb84_data *data = train->data;
    size_t pieces = data->pieces.len / sizeof(struct bb84_piece), at = 0;
    struct block *block = train->block;
    train->step = TRAIN_SIFTING;
    if (data->bell.count > 0) bb84_say_bell(train);
    block->pulses += data->pulses;
    block->clicks += data->clicks;
    for (int basis = 0; basis < 2; basis++) {
        block->observed.clicks[basis] += data->basis_clicks[basis];
        block->observed.ones[basis] += data->ones[basis];
        block->observed.doubles[basis] += data->doubles[basis];
    }
    for (size_t i = 0; i < pieces; i++) {
        Qnet__V1__QkdDetections message = QNET__V1__QKD_DETECTIONS__INIT;
        struct bb84_piece piece;
        memcpy(&piece, data->pieces.data + i * sizeof piece, sizeof piece);
        message.session = session->id;
        message.block = block->number;
        message.train = train->number;
        message.piece = (uint32_t)i;
        message.pieces = (uint32_t)pieces;
        message.clicks = piece.count;
        message.positions = (ProtobufCBinaryData){piece.len, qn_buf_at(&data->out, at)};
        message.bases = (ProtobufCBinaryData){piece.bases_len, qn_buf_at(&data->out, at + piece.len)};
        message.first_pair = data->first_pair;
        at += piece.len + piece.bases_len;
        bb84_say(session, block, QNET__V1__QKD_MESSAGE__BODY_DETECTIONS, &message);
    }
    qn_buf_release(&data->out);
}

struct train *bb84_train_heard_of(struct session *session, uint32_t number, uint32_t train) {
    if (session->is_source || number == 0 || number > BLOCKS_MAX || session->trains_at_once >= 2 * TRAINS_AT_ONCE)
        return NULL;
    struct block *block = bb84_find_block(session, number);
    if (block == NULL) {
        if (number <= session->blocks_begun || session->n_blocks > 2 * SMALL_BLOCKS_AT_ONCE) return NULL;
        block = bb84_block_new(session, number);
        session->blocks_begun = number;
    }
    if (block == NULL || train >= block->n_trains || bb84_find_train(block, train) != NULL) return NULL;
    return bb84_train_new(block, train, TRAIN_DETECTING);
}

void bb84_on_train(struct qn_node *node, uint16_t from, const Qnet__V1__PulseTrain *m) {
    struct session *session = bb84_find_session(node, from, m->session);
    if (session == NULL || bb84_is_of_pairs(session) || m->link != session->link_index || m->stream_key.len != 32)
        return;
    struct train *train = bb84_train_heard_of(session, m->block, m->train);
    if (train == NULL) return;
    struct bb84_data *data = train->data;
    memcpy(data->stream_key, m->stream_key.data, sizeof data->stream_key);
    bb84_optics(session, &data->optics);
    data->seed = node->topology->seed ^ qn_rng_u64(&node->physics);
    data->index = (uint64_t)m->block << 32 | m->train;
    bb84_work_train(train, bb84_detect, bb84_send_detections);
}

/* ---- sifting ---- */

void bb84_send_answer(struct train *train) {
    struct session *session = train->block->session;
    struct bb84_data *data = train->data;
    size_t pieces = data->out.len == 0 ? 1 : (data->out.len + PIECE_BYTES - 1) / PIECE_BYTES;
    train->step = TRAIN_TESTING;
    train->pieces_seen = 0;
    struct block *block = train->block;
    for (size_t i = 0; i < pieces; i++) {
        Qnet__V1__QkdSift message = QNET__V1__QKD_SIFT__INIT;
        size_t at = i * PIECE_BYTES, len = data->out.len - at < PIECE_BYTES ? data->out.len - at : PIECE_BYTES;
        message.session = session->id;
        message.block = block->number;
        message.train = train->number;
        message.piece = (uint32_t)i;
        message.pieces = (uint32_t)pieces;
        message.bits = (ProtobufCBinaryData){len, qn_buf_at(&data->out, at)};
        bb84_say(session, block, QNET__V1__QKD_MESSAGE__BODY_SIFT, &message);
    }
    qn_buf_release(&data->out);
    qn_buf_release(&data->in);
}

static bool is_next_piece(struct train *train, uint32_t piece, uint32_t pieces) {
    return pieces > 0 && pieces <= BB84_PIECES_MAX && piece == train->pieces_seen && piece < pieces;
}

/* All pieces but the last are about as long as the first. It is only a guess: if it fails, they grow. */
static void expect(struct qn_buf *in, uint32_t pieces, size_t len) { (void)qn_buf_reserve(in, pieces * len); }

void bb84_on_detections(struct train *train, const Qnet__V1__QkdDetections *m) {
    struct bb84_data *data = train->data;
    if (!train->block->session->is_source || train->step != TRAIN_SENT || data == NULL) return;
    struct bb84_piece piece = {m->positions.len, m->bases.len, m->clicks};
    bool too_many = data->pairs && data->clicks + m->clicks > data->pulses;
    if (!is_next_piece(train, m->piece, m->pieces) || m->clicks > m->positions.len || too_many) {
        bb84_block_fail(train->block, -QN_EPROTOCOL, "malformed detections");
        return;
    }
    if (m->piece == 0) expect(&data->in, m->pieces, m->positions.len + m->bases.len);
    if (qn_buf_append(&data->in, m->positions.data, m->positions.len) < 0 ||
        qn_buf_append(&data->in, m->bases.data, m->bases.len) < 0 ||
        qn_buf_append(&data->pieces, &piece, sizeof piece) < 0) {
        bb84_block_fail(train->block, -QN_ENOMEM, "");
        return;
    }
    data->clicks += m->clicks;
    if (++train->pieces_seen < m->pieces) return;
    if (data->pairs) {
        data->first_pair = m->first_pair;
        train->all_told = true;
        bb84_pairs_advance(train);
        return;
    }
    train->step = TRAIN_SIFTING;
    bb84_work_train(train, bb84_match, bb84_send_answer);
}

static void send_test(struct train *train) {
    struct session *session = train->block->session;
    struct bb84_data *data = train->data;
    size_t pieces = data->out.len == 0 ? 1 : (data->out.len + PIECE_BYTES - 1) / PIECE_BYTES;
    train->step = TRAIN_TESTING;
    bb84_count_sifted(train->block, data);
    for (size_t i = 0; i < pieces; i++) {
        Qnet__V1__QkdTest message = QNET__V1__QKD_TEST__INIT;
        size_t at = i * PIECE_BYTES, len = data->out.len - at < PIECE_BYTES ? data->out.len - at : PIECE_BYTES;
        message.session = session->id;
        message.block = train->block->number;
        message.train = train->number;
        message.piece = (uint32_t)i;
        message.pieces = (uint32_t)pieces;
        message.count = (uint32_t)data->sifted.test.len;
        message.bits = (ProtobufCBinaryData){len, qn_buf_at(&data->out, at)};
        message.errors = session->key_errors;
        message.compared = session->key_compared;
        message.load = bb84_load_said(session->node);
        bb84_say(session, train->block, QNET__V1__QKD_MESSAGE__BODY_TEST, &message);
    }
    qn_bits_release(&data->sifted.test); /* Told: of no more use. */
    qn_buf_release(&data->out);
}

void bb84_on_sift(struct train *train, const Qnet__V1__QkdSift *m) {
    struct bb84_data *data = train->data;
    if (train->block->session->is_source || train->step != TRAIN_SIFTING || data == NULL) return;
    if (!is_next_piece(train, m->piece, m->pieces)) {
        bb84_block_fail(train->block, -QN_EPROTOCOL, "malformed sifting");
        return;
    }
    if (m->piece == 0) expect(&data->in, m->pieces, m->bits.len);
    if (qn_buf_append(&data->in, m->bits.data, m->bits.len) < 0) {
        bb84_block_fail(train->block, -QN_ENOMEM, "");
        return;
    }
    if (++train->pieces_seen == m->pieces) bb84_work_train(train, bb84_keep, send_test);
}

/* ---- the test basis ---- */

/* E91: all of the block's pairs that were measured for it. False: the session is over. */
static bool judge_bell(struct block *block) {
    struct session *session = block->session;
    double s, error;
    uint64_t n = bb84_bell(block, &s, &error);
    if (session->parameters.bell_share == 0 || s > 2) return true;
    char text[160];
    snprintf(text, sizeof text, "S = %.3f +- %.3f of %llu pairs; not above 2", s, error, (unsigned long long)n);
    node_event(session->node, LEVEL_WARNING, "bell_abort", node_name(session->node, session->peer), "%s", text);
    bb84_block_fail(block, -QN_EBELL, text);
    return false;
}

static void judge_test(struct train *train) {
    struct block *block = train->block;
    struct session *session = block->session;
    block->pulses += train->data->pulses;
    block->clicks += train->data->clicks;
    for (int basis = 0; basis < 2; basis++) block->observed.clicks[basis] += train->data->basis_clicks[basis];
    bb84_count_sifted(block, train->data);
    for (int i = 0; i < 4; i++) {
        block->bell_trials[i / 2][i % 2] += train->data->bell.trials[i / 2][i % 2];
        block->bell_sums[i / 2][i % 2] += train->data->bell.sums[i / 2][i % 2];
    }
    double qber = bb84_test_qber(block);
    uint64_t compared = bb84_sum(block->counts.test_n);
    session->node->links[session->link_index].qber = qber;
    bool all = block->begun == block->n_trains;
    for (struct list *t = block->trains.next; t != &block->trains && all; t = t->next) {
        const struct train *other = CONTAINER_OF(t, const struct train, link);
        if (other != train && other->step <= TRAIN_TESTING) all = false;
    }
    if (qber > session->qber_limit && (all || compared >= TEST_LEAST)) {
        char text[160];
        bb84_judge(block, false);
        bb84_raise(block);
        snprintf(text, sizeof text, "QBER %.2f %% of %llu compared bits, the limit is %.2f %%", 100 * qber,
                 (unsigned long long)compared, 100 * session->qber_limit);
        node_event(session->node, LEVEL_WARNING, "qber_abort", link_name(session->node, session->link_index), "%s",
                   text);
        bb84_block_fail(block, -QN_EQBER, text);
        return;
    }
    if (all && !judge_bell(block)) return;
    train->step = TRAIN_READY;
    reconcile_ready(session);
}

void bb84_on_test(struct train *train, const Qnet__V1__QkdTest *m) {
    struct bb84_data *data = train->data;
    struct session *session = train->block->session;
    if (!session->is_source || train->step != TRAIN_TESTING || data == NULL) return;
    if (!is_next_piece(train, m->piece, m->pieces)) {
        bb84_block_fail(train->block, -QN_EPROTOCOL, "malformed test bits");
        return;
    }
    if (qn_buf_append(&data->in, m->bits.data, m->bits.len) < 0) {
        bb84_block_fail(train->block, -QN_ENOMEM, "");
        return;
    }
    if (++train->pieces_seen < m->pieces) return;
    data->in_count = m->count;
    data->peer_load = m->load / 1000.0;
    if (m->errors <= m->compared) {
        data->expected_errors = m->errors;
        data->expected_of = m->compared;
    }
    bb84_work_train(train, bb84_compare, judge_test);
}
