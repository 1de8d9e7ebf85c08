/* SPDX-License-Identifier: Apache-2.0 */
/* Error correction of one train: the detector asks, the source answers, until the detector has no question left and
 * sends a hash of its bits. Each message's work is a job if there is much of it, and done at once if there is little:
 * most round trips are short ones. Trains run side by side, which hides the wait for each round trip. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/bb84.h"

#define INPUTS_MAX 4096
#define INLINE_QUESTIONS 4096 /* Far below a millisecond of work, at either end. */
#define HISTORY_LEAST 100000  /* Corrected bits from which their error rate is a better guess than the test basis'. */

/* ---- beginning ---- */

static enum qn_reconcile_method choose_method(const struct train *train) {
    const struct session *session = train->block->session;
    const struct bb84_data *data = train->data;
    if (session->parameters.method != QN_RECONCILE_AUTO) return session->parameters.method;
    const struct neighbour *peer = node_neighbour(session->node, session->peer);
    struct qn_reconcile_situation situation = {.qber = (double)(data->expected_errors + 1) /
                                                       (double)(data->expected_of + 2),
                                               .bits = data->sifted.key.len,
                                               .rtt_ns = peer != NULL ? 2 * (peer->delay_ns + peer->extra_delay_ns) : 0,
                                               .blocks = (unsigned)session->trains_at_once,
                                               .load = fmax(session->node->load, data->peer_load)};
    return qn_reconcile_choose(&situation);
}

static void send_reconcile(struct train *train) { /* Ready for the first question. */
    const struct bb84_data *data = train->data;
    Qnet__V1__QkdReconcile message = QNET__V1__QKD_RECONCILE__INIT;
    message.session = train->block->session->id;
    message.block = train->block->number;
    message.train = train->number;
    message.method = data->method;
    message.errors = data->expected_errors;
    message.compared = data->expected_of;
    message.seed = (ProtobufCBinaryData){sizeof data->seed_bytes, (uint8_t *)(uintptr_t)data->seed_bytes};
    bb84_say(train->block->session, train->block, QNET__V1__QKD_MESSAGE__BODY_RECONCILE, &message);
}

void bb84_reconcile_begin(struct train *train) {
    struct block *block = train->block;
    struct session *session = block->session;
    struct bb84_data *data = train->data;
    if (data->expected_of < HISTORY_LEAST) {
        data->expected_errors = bb84_sum(block->counts.test_m);
        data->expected_of = bb84_sum(block->counts.test_n);
    }
    data->method = block->method = choose_method(train);
    qn_csprng_bytes(&session->node->secret, data->seed_bytes, sizeof data->seed_bytes);
    train->step = TRAIN_RECONCILING;
    bb84_work_train(train, bb84_start_answering, send_reconcile);
}

/* ---- questions and answers ---- */

static void send_verify(struct train *train) {
    struct block *block = train->block;
    struct session *session = block->session;
    struct bb84_data *data = train->data;
    Qnet__V1__QkdVerify message = QNET__V1__QKD_VERIFY__INIT;
    message.session = session->id;
    message.block = block->number;
    message.train = train->number;
    message.seed = (ProtobufCBinaryData){sizeof data->hash_seed, data->hash_seed};
    message.tag = (ProtobufCBinaryData){sizeof data->tag, data->tag};
    message.errors = data->counts.key_m;
    message.n_errors = data->classes;
    message.failed_frames = data->failed_frames;
    session->key_errors += data->corrected;
    session->key_compared += data->sifted.key.len;
    bb84_count_corrected(block, data->counts.key_m, data->classes);
    block->failed_frames += data->failed_frames;
    block->disclosed += data->disclosed;
    bb84_say(session, block, QNET__V1__QKD_MESSAGE__BODY_VERIFY, &message);
    bb84_train_done(train);
}

static void asked(struct train *train) {
    struct block *block = train->block;
    struct bb84_data *data = train->data;
    const uint8_t *at = data->out.data;
    for (size_t i = 0; i < data->pieces.len; i += sizeof(struct bb84_piece)) {
        struct bb84_piece piece;
        memcpy(&piece, data->pieces.data + i, sizeof piece);
        Qnet__V1__QkdAsk message = QNET__V1__QKD_ASK__INIT;
        message.session = block->session->id;
        message.block = block->number;
        message.train = train->number;
        message.count = piece.count;
        message.questions = (ProtobufCBinaryData){piece.len, (uint8_t *)(uintptr_t)at};
        bb84_say(block->session, block, QNET__V1__QKD_MESSAGE__BODY_ASK, &message);
        at += piece.len;
    }
    if (data->reconciled) send_verify(train);
}

static void answered(struct train *train) {
    struct block *block = train->block;
    struct bb84_data *data = train->data;
    Qnet__V1__QkdTell message = QNET__V1__QKD_TELL__INIT;
    message.session = block->session->id;
    message.block = block->number;
    message.train = train->number;
    message.count = data->in_count;
    message.answers = (ProtobufCBinaryData){data->out.len, data->out.data};
    bb84_say(block->session, block, QNET__V1__QKD_MESSAGE__BODY_TELL, &message);
}

static void judge(struct train *train) { /* Source: its own tag is in data. */
    struct block *block = train->block;
    struct bb84_data *data = train->data;
    block->disclosed += data->disclosed;
    if (memcmp(train->verify.tag, data->tag, sizeof data->tag) != 0 && bb84_wrong(train)) return;
    bb84_train_done(train);
}

static void verify(struct train *train) { /* Source: all questions are answered. */
    memcpy(train->data->hash_seed, train->verify.seed, sizeof train->data->hash_seed);
    train->step = TRAIN_VERIFYING;
    bb84_work_train(train, bb84_hash_key, judge);
}

void bb84_serve(struct train *train) {
    bool is_source = train->block->session->is_source;
    void (*run)(struct bb84_data *) = is_source ? bb84_go_on_answering : bb84_go_on_asking;
    void (*then)(struct train *) = is_source ? answered : asked;
    while (train->first != NULL && train->data != NULL && train->step == TRAIN_RECONCILING) {
        struct input *input = train->first;
        struct bb84_data *data = train->data;
        train->first = input->next;
        if (train->first == NULL) train->last = NULL;
        train->n_inputs--;
        data->in.len = 0;
        data->in_count = input->count;
        size_t len = input->len;
        int rc = qn_buf_append(&data->in, input->bytes, len);
        free(input);
        if (rc < 0) {
            bb84_block_fail(train->block, rc, "");
            return;
        }
        /* Of LDPC a few bytes make a frame be decoded, or many bits be summed. */
        if (data->in_count > INLINE_QUESTIONS || data->method >= QN_RECONCILE_LDPC) {
            bb84_work_train(train, run, then);
            return;
        }
        run(data);
        if (data->error < 0) {
            bb84_block_fail(train->block, data->error, "");
            return;
        }
        bool last = data->reconciled;
        then(train);
        if (last) return; /* The block, and this train, may be gone. */
    }
    if (train->verify.is_here && train->first == NULL && train->data != NULL && train->step == TRAIN_RECONCILING)
        verify(train);
}

void bb84_on_parity(struct train *train, const ProtobufCBinaryData *bytes, uint32_t count) {
    if (train->step != TRAIN_RECONCILING) return;
    struct input *input = train->n_inputs >= INPUTS_MAX ? NULL : malloc(sizeof *input + bytes->len);
    if (input == NULL) {
        bb84_block_fail(train->block, -QN_EBUSY, "too many messages of reconciliation at once");
        return;
    }
    *input = (struct input){.count = count, .len = bytes->len};
    if (bytes->len > 0) memcpy(input->bytes, bytes->data, bytes->len);
    if (train->last != NULL)
        train->last->next = input;
    else
        train->first = input;
    train->last = input;
    train->n_inputs++;
    bb84_serve(train);
}

void bb84_on_reconcile(struct train *train, const Qnet__V1__QkdReconcile *m) {
    struct session *session = train->block->session;
    struct bb84_data *data = train->data;
    if (session->is_source || train->step != TRAIN_TESTING || data == NULL) return;
    if (m->seed.len != sizeof data->seed_bytes || m->errors > m->compared || m->method == QN_RECONCILE_AUTO ||
        m->method >= QN_RECONCILE_METHODS) {
        bb84_block_fail(train->block, -QN_EPROTOCOL, "malformed start of reconciliation");
        return;
    }
    data->method = train->block->method = (enum qn_reconcile_method)m->method;
    data->expected_errors = m->errors;
    data->expected_of = m->compared;
    memcpy(data->seed_bytes, m->seed.data, sizeof data->seed_bytes);
    qn_csprng_bytes(&session->node->secret, data->hash_seed, sizeof data->hash_seed); /* Not told before the end. */
    train->step = TRAIN_RECONCILING;
    bb84_work_train(train, bb84_start_asking, asked);
}

/* ---- verification ---- */

void bb84_on_verify(struct train *train, const Qnet__V1__QkdVerify *m) {
    struct block *block = train->block;
    unsigned classes = bb84_classes(&block->session->parameters);
    if (!block->session->is_source || train->step != TRAIN_RECONCILING || train->verify.is_here) return;
    if (m->seed.len != sizeof train->verify.seed || m->tag.len != sizeof train->verify.tag || m->n_errors != classes) {
        bb84_block_fail(block, -QN_EPROTOCOL, "malformed verification");
        return;
    }
    train->verify.is_here = true;
    memcpy(train->verify.seed, m->seed.data, sizeof train->verify.seed);
    memcpy(train->verify.tag, m->tag.data, sizeof train->verify.tag);
    bb84_count_corrected(block, m->errors, m->n_errors);
    block->failed_frames += m->failed_frames;
    bb84_serve(train);
}
