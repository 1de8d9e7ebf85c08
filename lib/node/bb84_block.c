/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of one BB84 block, from its pulses to a stored key (see bb84.c). Long ones run as jobs. */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/bb84.h"
#include "node/keys.h"
#include "qkd/estimate.h"

#define WINDOW 3
#define PARTS_MAX 1024

struct job {
    struct qn_job base;
    struct bb84_data *data;
    void (*run)(struct bb84_data *data);
    void (*then)(struct qn_node *node, struct session *session, struct block *block);
    uint64_t peer_session;
    uint32_t block;
    uint16_t peer;
};

/* ---- jobs ---- */

static void job_run(struct qn_job *base) {
    struct job *job = (struct job *)(void *)base;
    job->run(job->data);
}

static void job_free(struct qn_job *base) {
    struct job *job = (struct job *)(void *)base;
    bb84_data_free(job->data);
    free(job);
}

static void work(struct block *block, void (*run)(struct bb84_data *),
                 void (*then)(struct qn_node *, struct session *, struct block *)) {
    struct qn_node *node = block->session->node;
    struct job *job = malloc(sizeof *job);
    if (job == NULL) {
        bb84_block_fail(block, -QN_ENOMEM, "out of memory");
        return;
    }
    *job = (struct job){.base = {job_run, job_free, ++node->next_job},
                        .data = block->data,
                        .run = run,
                        .then = then,
                        .peer_session = block->session->id,
                        .block = block->number,
                        .peer = block->session->peer};
    block->data = NULL;
    node_act(node, (struct qn_action){.type = QN_ACTION_JOB, .job = &job->base}, NULL, 0);
}

void bb84_on_job(struct qn_node *node, struct qn_job *base) {
    struct job *job = (struct job *)(void *)base;
    struct session *session = bb84_find_session(node, job->peer, (uint32_t)job->peer_session);
    struct block *block = session != NULL ? bb84_find_block(session, job->block) : NULL;
    if (block == NULL || block->data != NULL) { /* Given up meanwhile. */
        job_free(base);
        return;
    }
    block->data = job->data;
    void (*then)(struct qn_node *, struct session *, struct block *) = job->then;
    free(job);
    if (block->data->error < 0)
        bb84_block_fail(block, block->data->error, qn_err_what(block->data->error));
    else
        then(node, session, block);
}

/* ---- transmission ---- */

static void on_train_end(void *context,
                         struct qn_timer *timer) { /* The last pulse of the train has reached the detector. */
    struct qn_node *node = context;
    struct block *block = CONTAINER_OF(timer, struct block, train);
    struct session *session = block->session;
    const struct neighbour *neighbour = node_neighbour(node, session->peer);
    if (neighbour == NULL || !neighbour->up[QN_QUANTUM]) return; /* Dark: begun again when the fibre is back. */
    Qnet__V1__PulseTrain train = QNET__V1__PULSE_TRAIN__INIT;
    Qnet__V1__Photon photon = QNET__V1__PHOTON__INIT;
    train.link = session->link_index;
    train.origin = node->self;
    train.session = session->id;
    train.block = block->number;
    train.pulses = session->block_pulses;
    train.stream_key = (ProtobufCBinaryData){32, block->data->stream_key};
    train.start_ns = (int64_t)node->now_ns;
    photon.body_case = QNET__V1__PHOTON__BODY_TRAIN;
    photon.train = &train;
    node_send_photon(node, session->peer, &photon);
}

void bb84_emit(struct session *session, struct block *block) {
    struct qn_node *node = session->node;
    const struct qn_topo_link *link = &node->topology->links[session->link_index];
    qn_csprng_bytes(&node->secret, block->data->stream_key, 32);
    double duration = (double)session->block_pulses / node->hardware->clock_hz;
    uint64_t start = session->busy_until_ns > node->now_ns ? session->busy_until_ns : node->now_ns;
    session->busy_until_ns = start + (uint64_t)node_duration(duration);
    block->train.fire = on_train_end;
    node_timer(node, &block->train,
               session->busy_until_ns + (uint64_t)node_duration(link->length_km / link->light_speed_km_s));
}

void bb84_begin_blocks(struct session *session) {
    while (session->accepted) {
        size_t under_way = 0;
        for (struct list *item = session->blocks.next; item != &session->blocks; item = item->next) under_way++;
        bool more = session->blocks_wanted != 0 ? session->blocks_begun < session->blocks_wanted
                                                : session->secret < session->secret_wanted;
        if (!more || under_way >= WINDOW || session->blocks_begun >= BLOCKS_MAX) return;
        struct block *block = bb84_block_new(session, ++session->blocks_begun, WAIT_DETECTIONS);
        if (block == NULL) return;
        bb84_emit(session, block);
    }
}

static void send_detections(struct qn_node *node, struct session *session, struct block *block) {
    (void)node;
    struct bb84_data *data = block->data;
    block->clicks = data->n_found;
    block->step = WAIT_SIFT;
    for (size_t part = 0; part < data->n_parts; part++) {
        Qnet__V1__Bb84Detections detections = QNET__V1__BB84_DETECTIONS__INIT;
        size_t first = data->part_first[part], count = data->part_first[part + 1] - first;
        struct qn_buf positions = {0}, bases = {0};
        if (qn_sift_encode(data->positions, &data->bases, first, count, &positions, &bases) == 0) {
            detections.session = session->id;
            detections.block = block->number;
            detections.pulses = data->pulses;
            detections.clicks = (uint32_t)count;
            detections.part = (uint32_t)part;
            detections.parts = (uint32_t)data->n_parts;
            detections.positions = (ProtobufCBinaryData){positions.len, positions.data};
            detections.bases = (ProtobufCBinaryData){bases.len, bases.data};
            bb84_send_body(session, QNET__V1__BB84_MESSAGE__BODY_DETECTIONS, &detections);
        }
        qn_buf_release(&positions);
        qn_buf_release(&bases);
    }
}

void bb84_on_train(struct qn_node *node, uint16_t from, const Qnet__V1__PulseTrain *m) {
    struct session *session = bb84_find_session(node, from, m->session);
    if (session == NULL || session->is_source || m->link != session->link_index || m->stream_key.len != 32 ||
        m->pulses == 0 || m->pulses > PULSES_MAX || bb84_find_block(session, m->block) != NULL || m->block > BLOCKS_MAX)
        return;
    size_t under_way = 0;
    for (struct list *item = session->blocks.next; item != &session->blocks; item = item->next) under_way++;
    struct block *block = under_way > 2 * WINDOW ? NULL : bb84_block_new(session, m->block, DETECTING);
    if (block == NULL) return;
    struct bb84_data *data = block->data;
    data->pulses = block->pulses = m->pulses;
    memcpy(data->stream_key, m->stream_key.data, 32);
    qn_pulse_channel_from(node->topology, &node->topology->links[m->link], node->links[m->link].eve, &data->channel);
    qn_rng_init(&data->rng, node->topology->seed ^ qn_rng_u64(&node->physics), "clicks", m->block);
    work(block, bb84_detect, send_detections);
}

/* ---- sifting and estimation ---- */

static void send_sift(struct qn_node *node, struct session *session, struct block *block) {
    struct bb84_data *data = block->data;
    block->step = WAIT_SAMPLE;
    block->clicks = data->clicks.len;
    qn_csprng_bytes(&node->secret, data->sample_seed, sizeof data->sample_seed);
    for (size_t part = 0; part < data->n_parts; part++) {
        Qnet__V1__Bb84Sift sift = QNET__V1__BB84_SIFT__INIT;
        size_t first = data->part_first[part], count = data->part_first[part + 1] - first;
        struct qn_buf matches = {0};
        if (qn_bits_to_bytes(&data->matches, first, count, &matches) == 0) {
            sift.session = session->id;
            sift.block = block->number;
            sift.part = (uint32_t)part;
            sift.parts = (uint32_t)data->n_parts;
            sift.matches = (ProtobufCBinaryData){matches.len, matches.data};
            if (part == 0) sift.sample_seed = (ProtobufCBinaryData){sizeof data->sample_seed, data->sample_seed};
            bb84_send_body(session, QNET__V1__BB84_MESSAGE__BODY_SIFT, &sift);
        }
        qn_buf_release(&matches);
    }
}

void bb84_on_detections(struct qn_node *node, struct session *session, struct block *block,
                        const Qnet__V1__Bb84Detections *m) {
    (void)node;
    struct bb84_data *data = block->data;
    if (!session->is_source || block->step != WAIT_DETECTIONS || data == NULL) return;
    bool fits = m->parts > 0 && m->parts <= PARTS_MAX && m->part == block->parts_seen &&
                m->pulses == session->block_pulses && (data->n_parts == 0 || data->n_parts == m->parts);
    if (fits && data->part_first == NULL) data->part_first = calloc(m->parts + 1, sizeof *data->part_first);
    if (!fits || data->part_first == NULL ||
        qn_sift_decode(&data->clicks, m->positions.data, m->positions.len, m->bases.data, m->bases.len, m->clicks,
                       m->pulses) < 0) {
        bb84_block_fail(block, -QN_EPROTOCOL, "malformed detections");
        return;
    }
    data->n_parts = m->parts;
    data->part_first[++block->parts_seen] = data->clicks.len;
    if (block->parts_seen < m->parts) return;
    block->parts_seen = 0;
    block->step = MATCHING;
    work(block, bb84_match, send_sift);
}

static void send_sample(struct qn_node *node, struct session *session, struct block *block) {
    (void)node;
    struct bb84_data *data = block->data;
    block->sifted = data->sifted;
    block->sampled = data->sampled;
    block->step = WAIT_ESTIMATE;
    Qnet__V1__Bb84Sample sample = QNET__V1__BB84_SAMPLE__INIT;
    struct qn_buf bits = {0};
    if (qn_bits_to_bytes(&data->sample, 0, data->sample.len, &bits) == 0) {
        sample.session = session->id;
        sample.block = block->number;
        sample.parts = 1;
        sample.count = (uint32_t)data->sample.len;
        sample.bits = (ProtobufCBinaryData){bits.len, bits.data};
        bb84_send_body(session, QNET__V1__BB84_MESSAGE__BODY_SAMPLE, &sample);
    }
    qn_buf_release(&bits);
}

void bb84_on_sift(struct qn_node *node, struct session *session, struct block *block, const Qnet__V1__Bb84Sift *m) {
    (void)node;
    struct bb84_data *data = block->data;
    if (session->is_source || block->step != WAIT_SIFT || data == NULL) return;
    bool fits = m->parts == data->n_parts && m->part == block->parts_seen && (m->part != 0 || m->sample_seed.len == 32);
    size_t first = fits ? data->part_first[m->part] : 0, count = fits ? data->part_first[m->part + 1] - first : 0;
    if (!fits || qn_sift_keep(&data->bits, first, count, m->matches.data, m->matches.len, &data->key) < 0) {
        bb84_block_fail(block, -QN_EPROTOCOL, "malformed sifting");
        return;
    }
    if (m->part == 0) memcpy(data->sample_seed, m->sample_seed.data, 32);
    if (++block->parts_seen < m->parts) return;
    block->step = MATCHING;
    work(block, bb84_take_sample, send_sample);
}

static void serve_inbox(struct block *block);

static void answering_ready(struct qn_node *node, struct session *session, struct block *block) {
    (void)node;
    (void)session;
    serve_inbox(block);
}

static void compare_sample(struct qn_node *node, struct session *session, struct block *block) {
    struct bb84_data *data = block->data;
    block->sifted = data->sifted;
    block->sampled = data->sampled;
    struct qn_bits theirs = {0};
    if (qn_bits_append_bytes(&theirs, data->in.data, data->in.len, data->in_count) < 0 ||
        theirs.len != data->sample.len) {
        qn_bits_release(&theirs);
        bb84_block_fail(block, -QN_EPROTOCOL, "malformed sample");
        return;
    }
    data->errors = block->errors = qn_bits_distance(&theirs, &data->sample);
    qn_bits_release(&theirs);
    double qber = bb84_qber_of(block->errors, block->sampled);
    node->links[session->link_index].qber = qber;
    if (block->sampled == 0) {
        bb84_block_fail(block, -QN_ENO_KEY, "no bits left to compare: too few detections");
        return;
    }
    if (qber > session->qber_limit) {
        char text[160];
        snprintf(text, sizeof text, "QBER %.2f %% of %llu compared bits, the limit is %.2f %%", 100 * qber,
                 (unsigned long long)block->sampled, 100 * session->qber_limit);
        node_event(node, LEVEL_WARNING, "qber_abort", link_name(node, session->link_index), "%s", text);
        bb84_block_fail(block, -QN_EQBER, text);
        return;
    }
    Qnet__V1__Bb84Estimate estimate = QNET__V1__BB84_ESTIMATE__INIT;
    qn_csprng_bytes(&node->secret, data->shuffle_seed, sizeof data->shuffle_seed);
    estimate.session = session->id;
    estimate.block = block->number;
    estimate.sampled = (uint32_t)block->sampled;
    estimate.errors = (uint32_t)block->errors;
    estimate.shuffle_seed = (ProtobufCBinaryData){sizeof data->shuffle_seed, data->shuffle_seed};
    block->step = RECONCILING;
    bb84_send_body(session, QNET__V1__BB84_MESSAGE__BODY_ESTIMATE, &estimate);
    work(block, bb84_start_answering, answering_ready);
}

void bb84_on_sample(struct qn_node *node, struct session *session, struct block *block, const Qnet__V1__Bb84Sample *m) {
    (void)node;
    if (!session->is_source || block->step != WAIT_SAMPLE || block->data == NULL) return;
    block->data->in.len = 0;
    block->data->in_count = m->count;
    if (qn_buf_append(&block->data->in, m->bits.data, m->bits.len) < 0) return;
    block->step = MATCHING;
    work(block, bb84_take_sample, compare_sample);
}

/* ---- reconciliation ---- */

static void asked(struct qn_node *node, struct session *session, struct block *block);

void bb84_on_estimate(struct qn_node *node, struct session *session, struct block *block,
                      const Qnet__V1__Bb84Estimate *m) {
    if (session->is_source || block->step != WAIT_ESTIMATE || block->data == NULL || m->shuffle_seed.len != 32) return;
    if (m->sampled != block->sampled || m->errors > m->sampled) {
        bb84_block_fail(block, -QN_EPROTOCOL, "the source compared another sample");
        return;
    }
    block->errors = block->data->errors = m->errors;
    node->links[session->link_index].qber = bb84_qber_of(m->errors, m->sampled);
    memcpy(block->data->shuffle_seed, m->shuffle_seed.data, 32);
    block->step = RECONCILING;
    work(block, bb84_start_asking, asked);
}

static void send_verify(struct qn_node *node, struct session *session, struct block *block) {
    (void)node;
    struct bb84_data *data = block->data;
    Qnet__V1__Bb84Verify verify = QNET__V1__BB84_VERIFY__INIT;
    verify.session = session->id;
    verify.block = block->number;
    verify.seed = (ProtobufCBinaryData){sizeof data->hash_seed, data->hash_seed};
    verify.tag = (ProtobufCBinaryData){sizeof data->tag, data->tag};
    verify.disclosed = (uint32_t)data->disclosed;
    verify.corrected = (uint32_t)data->corrected;
    block->disclosed = data->disclosed;
    block->step = WAIT_AMPLIFY;
    bb84_send_body(session, QNET__V1__BB84_MESSAGE__BODY_VERIFY, &verify);
}

static void asked(struct qn_node *node, struct session *session, struct block *block) {
    struct bb84_data *data = block->data;
    const uint8_t *at = data->out.data;
    for (size_t i = 0; i < data->lengths.len; i += sizeof(struct bb84_piece)) {
        struct bb84_piece piece;
        memcpy(&piece, data->lengths.data + i, sizeof piece);
        Qnet__V1__Bb84ParityAsk question = QNET__V1__BB84_PARITY_ASK__INIT;
        question.session = session->id;
        question.block = block->number;
        question.round = ++block->round;
        question.count = piece.count;
        question.ranges = (ProtobufCBinaryData){piece.len, (uint8_t *)(uintptr_t)at};
        bb84_send_body(session, QNET__V1__BB84_MESSAGE__BODY_ASK, &question);
        at += piece.len;
    }
    if (data->reconciled) {
        qn_csprng_bytes(&node->secret, data->hash_seed, sizeof data->hash_seed);
        work(block, bb84_hash_key, send_verify);
        return;
    }
    serve_inbox(block);
}

static void answered(struct qn_node *node, struct session *session, struct block *block) {
    (void)node;
    struct bb84_data *data = block->data;
    Qnet__V1__Bb84ParityTell tell = QNET__V1__BB84_PARITY_TELL__INIT;
    tell.session = session->id;
    tell.block = block->number;
    tell.round = ++block->round;
    tell.count = data->in_count;
    tell.parities = (ProtobufCBinaryData){data->out.len, data->out.data};
    bb84_send_body(session, QNET__V1__BB84_MESSAGE__BODY_TELL, &tell);
    serve_inbox(block);
}

static void serve_inbox(struct block *block) {
    struct input *input = block->first;
    if (input == NULL || block->data == NULL || block->step != RECONCILING) return;
    block->first = input->next;
    if (block->first == NULL) block->last = NULL;
    block->n_inputs--;
    struct bb84_data *data = block->data;
    data->in.len = 0;
    data->in_count = input->count;
    int rc = qn_buf_append(&data->in, input->bytes, input->len);
    free(input);
    if (rc < 0)
        bb84_block_fail(block, rc, "out of memory");
    else if (block->session->is_source)
        work(block, bb84_go_on_answering, answered);
    else
        work(block, bb84_go_on_asking, asked);
}

void bb84_on_parity(struct block *block, const ProtobufCBinaryData *bytes, uint32_t count) {
    if (block->step != RECONCILING) return;
    struct input *input = block->n_inputs >= 1024 ? NULL : malloc(sizeof *input + bytes->len);
    if (input == NULL) {
        bb84_block_fail(block, -QN_EBUSY, "too many parity messages at once");
        return;
    }
    *input = (struct input){.count = count, .len = bytes->len};
    if (bytes->len > 0) memcpy(input->bytes, bytes->data, bytes->len);
    if (block->last != NULL)
        block->last->next = input;
    else
        block->first = input;
    block->last = input;
    block->n_inputs++;
    serve_inbox(block);
}

/* ---- verification, amplification, storing ---- */

static void compare_checks(struct block *block) {
    if (!block->stored_here || !block->stored_there) return;
    if (memcmp(block->check, block->peer_check, sizeof block->check) == 0) {
        bb84_block_done(block);
        return;
    }
    keys_drop(block->session->node, block->key_id, -QN_EVERIFY);
    bb84_block_fail(block, -QN_EVERIFY, "the final keys differ");
}

static void tell_stored(struct block *block) {
    Qnet__V1__Bb84Stored stored = QNET__V1__BB84_STORED__INIT;
    block->stored_here = true;
    stored.session = block->session->id;
    stored.block = block->number;
    stored.key_id = (ProtobufCBinaryData){sizeof block->key_id, block->key_id};
    stored.check = (ProtobufCBinaryData){sizeof block->check, block->check};
    bb84_send_body(block->session, QNET__V1__BB84_MESSAGE__BODY_STORED, &stored);
    compare_checks(block);
}

static void store(struct qn_node *node, struct session *session, struct block *block) {
    struct bb84_data *data = block->data;
    struct qn_buf bytes = {0};
    block->secret = data->secret_bits;
    block->step = WAIT_STORED;
    if (block->secret == 0 || qn_bits_to_bytes(&data->secret, 0, data->secret.len, &bytes) < 0) {
        tell_stored(block);
        return;
    }
    uint8_t name[32 + 12];
    memcpy(name, data->amplify_seed, 32);
    memcpy(name + 32, &session->id, 4);
    memcpy(name + 36, &block->number, 4);
    uint32_t link = session->link_index;
    memcpy(name + 40, &link, 4);
    crypto_generichash(block->key_id, sizeof block->key_id, name, sizeof name, NULL, 0);
    uint8_t digest[32];
    crypto_generichash(digest, sizeof digest, bytes.data, bytes.len, block->key_id, sizeof block->key_id);
    memcpy(block->check, digest, sizeof block->check);
    int rc = keys_add(node, QN_STORE_KEY, session->peer, block->key_id, block->check,
                      bb84_qber_of(block->errors, block->sampled), bytes.data, bytes.len);
    sodium_memzero(bytes.data, bytes.len);
    qn_buf_release(&bytes);
    if (rc == -QN_ELIMIT)
        bb84_block_fail(block, rc, "the key store is full; take keys first");
    else if (rc < 0)
        bb84_block_fail(block, rc, "the key could not be stored");
    /* bb84_on_key goes on when the key is safe at both ends. */
}

void bb84_on_key(struct qn_node *node, uint16_t peer, const uint8_t id[16], int error) {
    for (struct list *s = node->bb84->sessions.next; s != &node->bb84->sessions; s = s->next) {
        struct session *session = CONTAINER_OF(s, struct session, link);
        if (session->peer != peer) continue;
        for (struct list *b = session->blocks.next; b != &session->blocks; b = b->next) {
            struct block *block = CONTAINER_OF(b, struct block, link);
            if (block->step != WAIT_STORED || block->stored_here || memcmp(block->key_id, id, 16) != 0) continue;
            if (error == 0)
                tell_stored(block);
            else
                bb84_block_fail(block, error, "the key could not be kept at both ends");
            return;
        }
    }
}

void bb84_on_pads(struct qn_node *node, uint16_t peer) {
    (void)node;
    (void)peer;
}

void bb84_on_stored(struct qn_node *node, struct session *session, struct block *block, const Qnet__V1__Bb84Stored *m) {
    (void)node;
    (void)session;
    if (m->check.len != sizeof block->peer_check || block->stored_there || block->step < WAIT_AMPLIFY) return;
    memcpy(block->peer_check, m->check.data, sizeof block->peer_check);
    block->stored_there = true;
    compare_checks(block);
}

static void judge(struct qn_node *node, struct session *session,
                  struct block *block) { /* Source: its own tag is in data. */
    struct bb84_data *data = block->data;
    if (data->in.len != sizeof data->tag || sodium_memcmp(data->in.data, data->tag, sizeof data->tag) != 0) {
        bb84_block_fail(block, -QN_EVERIFY, "the reconciled keys differ");
        return;
    }
    double mean = node->hardware->source == QN_SOURCE_WEAK_COHERENT ? node->hardware->mean_photons : 0;
    data->tagged = mean > 0 ? qn_tagged_fraction(mean, (double)block->clicks / (double)block->pulses) : 0;
    data->secret_bits = bb84_secret_length(data, data->disclosed);
    block->disclosed = data->disclosed;
    qn_csprng_bytes(&node->secret, data->amplify_seed, sizeof data->amplify_seed);
    Qnet__V1__Bb84Amplify amplify = QNET__V1__BB84_AMPLIFY__INIT;
    amplify.session = session->id;
    amplify.block = block->number;
    amplify.verified = true;
    amplify.secret_bits = (uint32_t)data->secret_bits;
    amplify.seed = (ProtobufCBinaryData){sizeof data->amplify_seed, data->amplify_seed};
    block->step = AMPLIFYING;
    bb84_send_body(session, QNET__V1__BB84_MESSAGE__BODY_AMPLIFY, &amplify);
    work(block, bb84_amplify, store);
}

void bb84_on_verify(struct qn_node *node, struct session *session, struct block *block, const Qnet__V1__Bb84Verify *m) {
    (void)node;
    struct bb84_data *data = block->data;
    if (!session->is_source || block->step != RECONCILING || data == NULL || block->first != NULL) return;
    if (m->seed.len != sizeof data->hash_seed || m->tag.len != sizeof data->tag) {
        bb84_block_fail(block, -QN_EPROTOCOL, "malformed verification");
        return;
    }
    memcpy(data->hash_seed, m->seed.data, sizeof data->hash_seed);
    data->in.len = 0;
    if (qn_buf_append(&data->in, m->tag.data, m->tag.len) < 0) return;
    block->step = WAIT_AMPLIFY;
    work(block, bb84_hash_key, judge);
}

void bb84_on_amplify(struct qn_node *node, struct session *session, struct block *block,
                     const Qnet__V1__Bb84Amplify *m) {
    (void)node;
    struct bb84_data *data = block->data;
    if (session->is_source || block->step != WAIT_AMPLIFY || data == NULL) return;
    if (!m->verified || m->seed.len != sizeof data->amplify_seed || m->secret_bits > data->key.len ||
        m->secret_bits % 8 != 0) {
        bb84_block_fail(block, -QN_EPROTOCOL, "malformed amplification");
        return;
    }
    memcpy(data->amplify_seed, m->seed.data, sizeof data->amplify_seed);
    data->secret_bits = m->secret_bits;
    block->step = AMPLIFYING;
    work(block, bb84_amplify, store);
}
