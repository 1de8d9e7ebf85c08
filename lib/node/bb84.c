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

#include "node/bb84_work.h"
#include "node/internal.h"
#include "qkd/estimate.h"

#define WINDOW 3
#define BLOCKS_MAX 100000
#define PULSES_MAX 1000000000
#define PARTS_MAX 1024
#define SESSIONS_MAX 64
#define SIFTED_PER_BLOCK 100000.0
#define SECURITY_BITS 33 /* 1e-10 */

enum step {
    WAIT_TRAIN,
    DETECTING,
    WAIT_DETECTIONS,
    MATCHING,
    WAIT_SIFT,
    WAIT_SAMPLE,
    WAIT_ESTIMATE,
    RECONCILING,
    WAIT_AMPLIFY,
    AMPLIFYING,
    WAIT_STORED,
    DONE
};

struct input { /* A parity message that waits for the block's data. */
    struct input *next;
    uint32_t count;
    size_t len;
    uint8_t bytes[];
};

struct session;

struct block {
    struct list link;
    struct session *session;
    uint32_t number;
    enum step step;
    struct bb84_data *data; /* NULL while a job has it. */
    struct input *first, *last;
    size_t n_inputs;
    uint32_t parts_seen;
    uint32_t round, told; /* Detector: questions sent and answered. */
    bool stored_here, stored_there, verified;
    uint8_t key_id[16], check[8], peer_check[8];
    uint64_t sifted, sampled, errors, clicks, disclosed, secret, pulses;
    struct qn_timer train; /* Source: the last pulse has arrived. */
};

struct session {
    struct list link;
    struct qn_node *node;
    uint32_t id;
    uint64_t request; /* The number of the user's request, at the end that was asked; else 0. */
    uint64_t peer_request;
    uint16_t peer, link_index;
    bool is_source, accepted, asked_here;
    uint64_t secret_wanted, block_pulses;
    uint32_t blocks_wanted, blocks_begun, blocks_done;
    double qber_limit, sample_fraction, epsilon;
    struct list blocks;
    uint64_t busy_until_ns; /* The laser sends one train after the other. */
    uint64_t sifted, secret, sampled, errors;
};

struct bb84 {
    struct list sessions;
    size_t n_sessions;
    uint32_t next_session;
};

struct job {
    struct qn_job base;
    struct bb84_data *data;
    void (*run)(struct bb84_data *data);
    void (*then)(struct qn_node *node, struct session *session, struct block *block);
    uint64_t peer_session;
    uint32_t block;
    uint16_t peer;
};

/* ---- sessions and blocks ---- */

static struct session *find_session(const struct qn_node *node, uint16_t peer, uint32_t id) {
    for (struct list *item = node->bb84->sessions.next; item != &node->bb84->sessions; item = item->next) {
        struct session *session = CONTAINER_OF(item, struct session, link);
        if (session->peer == peer && session->id == id) return session;
    }
    return NULL;
}

static struct block *find_block(const struct session *session, uint32_t number) {
    for (struct list *item = session->blocks.next; item != &session->blocks; item = item->next) {
        struct block *block = CONTAINER_OF(item, struct block, link);
        if (block->number == number) return block;
    }
    return NULL;
}

static void block_free(struct block *block) {
    qn_timers_clear(&block->session->node->timers, &block->train);
    while (block->first != NULL) {
        struct input *next = block->first->next;
        free(block->first);
        block->first = next;
    }
    bb84_data_free(block->data);
    list_remove(&block->link);
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

static struct block *block_new(struct session *session, uint32_t number, enum step step) {
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

static void send_body(struct session *session, Qnet__V1__Bb84Message__BodyCase which, void *body) {
    Qnet__V1__Bb84Message message = QNET__V1__BB84_MESSAGE__INIT;
    Qnet__V1__Envelope envelope = QNET__V1__ENVELOPE__INIT;
    message.body_case = which;
    message.start = body; /* All members of the union are pointers. */
    envelope.body_case = QNET__V1__ENVELOPE__BODY_BB84;
    envelope.bb84 = &message;
    node_send(session->node, session->peer, &envelope);
}

static void send_abort(struct session *session, uint32_t block, int error, double qber, const char *detail) {
    Qnet__V1__Bb84Abort abort = QNET__V1__BB84_ABORT__INIT;
    abort.session = session->id;
    abort.block = block;
    abort.error = (uint32_t)-error;
    abort.qber = qber;
    abort.detail = (char *)(uintptr_t)detail;
    send_body(session, QNET__V1__BB84_MESSAGE__BODY_ABORT, &abort);
}

/* ---- answers to the user ---- */

static double qber_of(uint64_t errors, uint64_t sampled) { return sampled > 0 ? (double)errors / (double)sampled : 0; }

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
    double qber = qber_of(block->errors, block->sampled), h = qn_binary_entropy(qber);
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
    summary.sifted = session->sifted;
    summary.secret = session->secret;
    summary.sampled = session->sampled;
    summary.errors = session->errors;
    summary.qber = qber_of(session->errors, session->sampled);
    summary.expected_qber = expected_qber(session);
    summary.elapsed_ns = session->node->now_ns - request->started_ns;
    response.body_case = QNET__V1__CONTROL_RESPONSE__BODY_BB84_SUMMARY;
    response.bb84_summary = &summary;
    node_reply(session->node, request->client, request->id, false, &response);
}

/* Ends the session at this end; the user who asked here is told why. */
static void session_fail(struct session *session, int error, const char *text) {
    struct qn_node *node = session->node;
    struct request *request = session->request != 0 ? request_find(node, session->request) : NULL;
    session->request = 0;
    if (request != NULL) {
        request->extra = NULL; /* The session needs no word to the peer any more. */
        request_fail(request, error, "%s", text);
    }
    session_free(session);
}

static void block_fail(struct block *block, int error, const char *text) {
    struct session *session = block->session;
    char copy[200];
    snprintf(copy, sizeof copy, "block %u: %s", block->number, text);
    send_abort(session, block->number, error, qber_of(block->errors, block->sampled), copy);
    tell_block(session, block, qn_err_name(error));
    session_fail(session, error, copy);
}

static bool is_enough(const struct session *session) {
    return session->blocks_wanted != 0 ? session->blocks_done >= session->blocks_wanted
                                       : session->secret >= session->secret_wanted;
}

static void begin_blocks(struct session *session);

static void block_done(struct block *block) {
    struct session *session = block->session;
    struct qn_node *node = session->node;
    struct link_state *link = &node->links[session->link_index];
    session->blocks_done++;
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
        send_abort(session, 0, 0, 0, "complete");
        session->request = 0;
        request->extra = NULL;
        session_free(session);
        request_finish(request);
        return;
    }
    if (session->is_source) begin_blocks(session);
}

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
        block_fail(block, -QN_ENOMEM, "out of memory");
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
    struct session *session = find_session(node, job->peer, (uint32_t)job->peer_session);
    struct block *block = session != NULL ? find_block(session, job->block) : NULL;
    if (block == NULL || block->data != NULL) { /* Given up meanwhile. */
        job_free(base);
        return;
    }
    block->data = job->data;
    void (*then)(struct qn_node *, struct session *, struct block *) = job->then;
    free(job);
    if (block->data->error < 0)
        block_fail(block, block->data->error, qn_err_what(block->data->error));
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

static void emit(struct session *session, struct block *block) {
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

static void begin_blocks(struct session *session) {
    while (session->accepted) {
        size_t under_way = 0;
        for (struct list *item = session->blocks.next; item != &session->blocks; item = item->next) under_way++;
        bool more = session->blocks_wanted != 0 ? session->blocks_begun < session->blocks_wanted
                                                : session->secret < session->secret_wanted;
        if (!more || under_way >= WINDOW || session->blocks_begun >= BLOCKS_MAX) return;
        struct block *block = block_new(session, ++session->blocks_begun, WAIT_DETECTIONS);
        if (block == NULL) return;
        emit(session, block);
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
            send_body(session, QNET__V1__BB84_MESSAGE__BODY_DETECTIONS, &detections);
        }
        qn_buf_release(&positions);
        qn_buf_release(&bases);
    }
}

void bb84_on_train(struct qn_node *node, uint16_t from, const Qnet__V1__PulseTrain *m) {
    struct session *session = find_session(node, from, m->session);
    if (session == NULL || session->is_source || m->link != session->link_index || m->stream_key.len != 32 ||
        m->pulses == 0 || m->pulses > PULSES_MAX || find_block(session, m->block) != NULL || m->block > BLOCKS_MAX)
        return;
    size_t under_way = 0;
    for (struct list *item = session->blocks.next; item != &session->blocks; item = item->next) under_way++;
    struct block *block = under_way > 2 * WINDOW ? NULL : block_new(session, m->block, DETECTING);
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
            send_body(session, QNET__V1__BB84_MESSAGE__BODY_SIFT, &sift);
        }
        qn_buf_release(&matches);
    }
}

static void on_detections(struct qn_node *node, struct session *session, struct block *block,
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
        block_fail(block, -QN_EPROTOCOL, "malformed detections");
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
        send_body(session, QNET__V1__BB84_MESSAGE__BODY_SAMPLE, &sample);
    }
    qn_buf_release(&bits);
}

static void on_sift(struct qn_node *node, struct session *session, struct block *block, const Qnet__V1__Bb84Sift *m) {
    (void)node;
    struct bb84_data *data = block->data;
    if (session->is_source || block->step != WAIT_SIFT || data == NULL) return;
    bool fits = m->parts == data->n_parts && m->part == block->parts_seen && (m->part != 0 || m->sample_seed.len == 32);
    size_t first = fits ? data->part_first[m->part] : 0, count = fits ? data->part_first[m->part + 1] - first : 0;
    if (!fits || qn_sift_keep(&data->bits, first, count, m->matches.data, m->matches.len, &data->key) < 0) {
        block_fail(block, -QN_EPROTOCOL, "malformed sifting");
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
        block_fail(block, -QN_EPROTOCOL, "malformed sample");
        return;
    }
    data->errors = block->errors = qn_bits_distance(&theirs, &data->sample);
    qn_bits_release(&theirs);
    double qber = qber_of(block->errors, block->sampled);
    node->links[session->link_index].qber = qber;
    if (block->sampled == 0) {
        block_fail(block, -QN_ENO_KEY, "no bits left to compare: too few detections");
        return;
    }
    if (qber > session->qber_limit) {
        char text[160];
        snprintf(text, sizeof text, "QBER %.2f %% of %llu compared bits, the limit is %.2f %%", 100 * qber,
                 (unsigned long long)block->sampled, 100 * session->qber_limit);
        node_event(node, LEVEL_WARNING, "qber_abort", link_name(node, session->link_index), "%s", text);
        block_fail(block, -QN_EQBER, text);
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
    send_body(session, QNET__V1__BB84_MESSAGE__BODY_ESTIMATE, &estimate);
    work(block, bb84_start_answering, answering_ready);
}

static void on_sample(struct qn_node *node, struct session *session, struct block *block,
                      const Qnet__V1__Bb84Sample *m) {
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

static void on_estimate(struct qn_node *node, struct session *session, struct block *block,
                        const Qnet__V1__Bb84Estimate *m) {
    if (session->is_source || block->step != WAIT_ESTIMATE || block->data == NULL || m->shuffle_seed.len != 32) return;
    if (m->sampled != block->sampled || m->errors > m->sampled) {
        block_fail(block, -QN_EPROTOCOL, "the source compared another sample");
        return;
    }
    block->errors = block->data->errors = m->errors;
    node->links[session->link_index].qber = qber_of(m->errors, m->sampled);
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
    send_body(session, QNET__V1__BB84_MESSAGE__BODY_VERIFY, &verify);
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
        send_body(session, QNET__V1__BB84_MESSAGE__BODY_ASK, &question);
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
    send_body(session, QNET__V1__BB84_MESSAGE__BODY_TELL, &tell);
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
        block_fail(block, rc, "out of memory");
    else if (block->session->is_source)
        work(block, bb84_go_on_answering, answered);
    else
        work(block, bb84_go_on_asking, asked);
}

static void on_parity(struct block *block, const ProtobufCBinaryData *bytes, uint32_t count) {
    if (block->step != RECONCILING) return;
    struct input *input = block->n_inputs >= 1024 ? NULL : malloc(sizeof *input + bytes->len);
    if (input == NULL) {
        block_fail(block, -QN_EBUSY, "too many parity messages at once");
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

static void store(struct qn_node *node, struct session *session, struct block *block) {
    struct bb84_data *data = block->data;
    Qnet__V1__Bb84Stored stored = QNET__V1__BB84_STORED__INIT;
    struct qn_buf bytes = {0};
    block->secret = data->secret_bits;
    block->step = WAIT_STORED;
    if (block->secret > 0 && qn_bits_to_bytes(&data->secret, 0, data->secret.len, &bytes) == 0) {
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
        int rc = keys_add(node, session->peer, block->key_id, block->check, qber_of(block->errors, block->sampled),
                          bytes.data, bytes.len);
        sodium_memzero(bytes.data, bytes.len);
        qn_buf_release(&bytes);
        if (rc < 0) {
            block_fail(block, rc, "the key store is full; take keys first");
            return;
        }
    }
    block->stored_here = true;
    stored.session = session->id;
    stored.block = block->number;
    stored.key_id = (ProtobufCBinaryData){sizeof block->key_id, block->key_id};
    stored.check = (ProtobufCBinaryData){sizeof block->check, block->check};
    send_body(session, QNET__V1__BB84_MESSAGE__BODY_STORED, &stored);
    if (block->stored_there) {
        if (memcmp(block->check, block->peer_check, sizeof block->check) == 0)
            block_done(block);
        else
            block_fail(block, -QN_EVERIFY, "the final keys differ");
    }
}

static void on_stored(struct qn_node *node, struct session *session, struct block *block,
                      const Qnet__V1__Bb84Stored *m) {
    (void)session;
    if (m->check.len != sizeof block->peer_check || block->stored_there || block->step < WAIT_AMPLIFY) return;
    memcpy(block->peer_check, m->check.data, sizeof block->peer_check);
    block->stored_there = true;
    if (!block->stored_here) return;
    if (memcmp(block->check, block->peer_check, sizeof block->check) == 0) {
        block_done(block);
        return;
    }
    struct key *key = keys_find(node, block->key_id, sizeof block->key_id);
    if (key != NULL) key_free(node, key);
    block_fail(block, -QN_EVERIFY, "the final keys differ");
}

static void judge(struct qn_node *node, struct session *session,
                  struct block *block) { /* Source: its own tag is in data. */
    struct bb84_data *data = block->data;
    if (data->in.len != sizeof data->tag || sodium_memcmp(data->in.data, data->tag, sizeof data->tag) != 0) {
        block_fail(block, -QN_EVERIFY, "the reconciled keys differ");
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
    send_body(session, QNET__V1__BB84_MESSAGE__BODY_AMPLIFY, &amplify);
    work(block, bb84_amplify, store);
}

static void on_verify(struct qn_node *node, struct session *session, struct block *block,
                      const Qnet__V1__Bb84Verify *m) {
    (void)node;
    struct bb84_data *data = block->data;
    if (!session->is_source || block->step != RECONCILING || data == NULL || block->first != NULL) return;
    if (m->seed.len != sizeof data->hash_seed || m->tag.len != sizeof data->tag) {
        block_fail(block, -QN_EPROTOCOL, "malformed verification");
        return;
    }
    memcpy(data->hash_seed, m->seed.data, sizeof data->hash_seed);
    data->in.len = 0;
    if (qn_buf_append(&data->in, m->tag.data, m->tag.len) < 0) return;
    block->step = WAIT_AMPLIFY;
    work(block, bb84_hash_key, judge);
}

static void on_amplify(struct qn_node *node, struct session *session, struct block *block,
                       const Qnet__V1__Bb84Amplify *m) {
    (void)node;
    struct bb84_data *data = block->data;
    if (session->is_source || block->step != WAIT_AMPLIFY || data == NULL) return;
    if (!m->verified || m->seed.len != sizeof data->amplify_seed || m->secret_bits > data->key.len ||
        m->secret_bits % 8 != 0) {
        block_fail(block, -QN_EPROTOCOL, "malformed amplification");
        return;
    }
    memcpy(data->amplify_seed, m->seed.data, sizeof data->amplify_seed);
    data->secret_bits = m->secret_bits;
    block->step = AMPLIFYING;
    work(block, bb84_amplify, store);
}

/* ---- starting and ending ---- */

static void let_go_of_session(struct request *request) { /* The user's request ends before the session did. */
    struct session *session = request->extra;
    if (session == NULL) return;
    send_abort(session, 0, -QN_ECANCELLED, 0, "given up by the user or the deadline");
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
    send_body(session, QNET__V1__BB84_MESSAGE__BODY_START, &start);
}

static void on_start(struct qn_node *node, uint16_t from, const Qnet__V1__Bb84Start *m) {
    if (m->link >= node->topology->n_links || find_session(node, from, m->session) != NULL) return;
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
    send_body(session, QNET__V1__BB84_MESSAGE__BODY_ACCEPT, &accept);
    if (session->is_source) begin_blocks(session);
}

static void on_abort(struct session *session, const Qnet__V1__Bb84Abort *m) {
    struct block *block = find_block(session, m->block);
    if (m->error == 0 || block == NULL) {
        session_fail(session, m->error == 0 ? -QN_ECANCELLED : -(int)m->error, m->detail);
        return;
    }
    if (m->error == QN_EQBER) {
        session->node->links[session->link_index].qber = m->qber;
        block->errors = (uint64_t)(m->qber * (double)block->sampled + 0.5);
    }
    tell_block(session, block, qn_err_name((int)m->error));
    session_fail(session, -(int)m->error, m->detail);
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
    struct session *session = find_session(node, from, id);
    if (session == NULL) return;
    struct block *block = find_block(session, number);
    if (m->body_case == QNET__V1__BB84_MESSAGE__BODY_ABORT) {
        on_abort(session, m->abort);
    } else if (m->body_case == QNET__V1__BB84_MESSAGE__BODY_ACCEPT) {
        if (m->accept->error != 0)
            session_fail(session, -(int)m->accept->error, m->accept->detail);
        else {
            session->accepted = true;
            if (session->is_source) begin_blocks(session);
        }
    } else if (block != NULL) {
        switch (m->body_case) {
        case QNET__V1__BB84_MESSAGE__BODY_DETECTIONS:
            on_detections(node, session, block, m->detections);
            break;
        case QNET__V1__BB84_MESSAGE__BODY_SIFT:
            on_sift(node, session, block, m->sift);
            break;
        case QNET__V1__BB84_MESSAGE__BODY_SAMPLE:
            on_sample(node, session, block, m->sample);
            break;
        case QNET__V1__BB84_MESSAGE__BODY_ESTIMATE:
            on_estimate(node, session, block, m->estimate);
            break;
        case QNET__V1__BB84_MESSAGE__BODY_ASK:
            if (session->is_source) on_parity(block, &m->ask->ranges, m->ask->count);
            break;
        case QNET__V1__BB84_MESSAGE__BODY_TELL:
            if (!session->is_source) on_parity(block, &m->tell->parities, m->tell->count);
            break;
        case QNET__V1__BB84_MESSAGE__BODY_VERIFY:
            on_verify(node, session, block, m->verify);
            break;
        case QNET__V1__BB84_MESSAGE__BODY_AMPLIFY:
            on_amplify(node, session, block, m->amplify);
            break;
        default:
            on_stored(node, session, block, m->stored);
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
                emit(session, block);
        }
    }
}

void bb84_on_peer_gone(struct qn_node *node, uint16_t peer) {
    for (struct list *item = node->bb84->sessions.next, *next; item != &node->bb84->sessions; item = next) {
        next = item->next;
        struct session *session = CONTAINER_OF(item, struct session, link);
        if (session->peer == peer) session_fail(session, -QN_EPEER_DOWN, node_name(node, peer));
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
