/* SPDX-License-Identifier: Apache-2.0 */
#include "node/bb84_work.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "qkd/amplify.h"
#include "qkd/estimate.h"

#define CLICKS_MAX ((size_t)16 << 20)
#define CHECK_BITS 64 /* Of the digest by which both ends see that their keys are equal. */

void bb84_data_free(struct bb84_data *data) {
    if (data == NULL) return;
    free(data->found);
    free(data->positions);
    free(data->part_first);
    qn_clicks_release(&data->clicks);
    struct qn_bits *strings[] = {&data->bits, &data->bases, &data->matches, &data->key, &data->sample, &data->secret};
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++) qn_bits_release(strings[i]);
    qn_cascade_free(data->cascade);
    qn_cascade_source_free(data->source);
    qn_buf_release(&data->in);
    qn_buf_release(&data->out);
    qn_buf_release(&data->lengths);
    sodium_memzero(data, sizeof *data);
    free(data);
}

/* ---- transmission and sifting ---- */

static int cut_into_parts(struct bb84_data *data) {
    size_t at = 0;
    data->n_parts = 0;
    do { /* A block without clicks still is one part. */
        size_t *more = realloc(data->part_first, (data->n_parts + 2) * sizeof *more);
        if (more == NULL) return -QN_ENOMEM;
        data->part_first = more;
        data->part_first[data->n_parts++] = at;
        at += qn_sift_fit(data->positions, at, data->n_found);
        data->part_first[data->n_parts] = at;
    } while (at < data->n_found);
    return 0;
}

void bb84_detect(struct bb84_data *data) {
    size_t cap = 0;
    uint64_t at = 0;
    data->error = -QN_ENOMEM;
    while (at < data->pulses) {
        if (data->n_found == cap) {
            cap = cap == 0 ? 65536 : cap * 2;
            if (cap > CLICKS_MAX) {
                data->error = -QN_ELIMIT;
                return;
            }
            struct qn_click *more = realloc(data->found, cap * sizeof *more);
            if (more == NULL) return;
            data->found = more;
        }
        data->n_found += qn_pulse_detect(&data->channel, data->stream_key, at, data->pulses, &data->rng,
                                         data->found + data->n_found, cap - data->n_found, &at);
    }
    data->positions = malloc((data->n_found + 1) * sizeof *data->positions);
    if (data->positions == NULL) return;
    for (size_t i = 0; i < data->n_found; i++) {
        data->positions[i] = data->found[i].position;
        if (qn_bits_push(&data->bits, data->found[i].bit != 0) < 0 ||
            qn_bits_push(&data->bases, data->found[i].basis != 0) < 0)
            return;
    }
    sodium_memzero(data->stream_key, sizeof data->stream_key); /* The photons are gone. */
    data->error = cut_into_parts(data);
}

static unsigned choice(const void *context, uint64_t position) {
    const struct bb84_data *data = context;
    struct qn_pulse pulse = qn_pulse_at(data->stream_key, position);
    return (unsigned)pulse.bit | (unsigned)pulse.basis << 1;
}

void bb84_match(struct bb84_data *data) {
    data->error = qn_sift_match(&data->clicks, 0, data->clicks.len, choice, data, &data->matches, &data->key);
    data->sifted = data->key.len;
}

void bb84_take_sample(struct bb84_data *data) {
    struct qn_bits mask = {0};
    data->sifted = data->key.len;
    data->sampled = qn_sample_size(data->key.len, data->sample_fraction);
    data->error = qn_sample_select(data->sample_seed, data->key.len, data->sampled, &mask);
    if (data->error == 0) data->error = qn_sample_split(&data->key, &mask, &data->sample);
    qn_bits_release(&mask);
}

/* ---- reconciliation ---- */

static void plan(const struct bb84_data *data, struct qn_cascade_config *config) {
    *config = (struct qn_cascade_config){.variant = QN_CASCADE_TUNED};
    config->qber = (double)(data->errors + 1) / (double)(data->sampled + 2); /* Laplace: never 0. */
    memcpy(config->seed, data->shuffle_seed, sizeof config->seed);
}

static void ask(struct bb84_data *data) {
    data->out.len = data->lengths.len = 0;
    while (data->error == 0) {
        struct bb84_piece piece = {data->out.len, 0};
        data->error = qn_cascade_ask(data->cascade, &data->out, &piece.count);
        if (data->error < 0 || piece.count == 0) break;
        piece.len = data->out.len - piece.len;
        data->error = qn_buf_append(&data->lengths, &piece, sizeof piece);
    }
    data->reconciled = qn_cascade_is_done(data->cascade);
    if (!data->reconciled || data->error < 0) return;
    data->corrected = qn_cascade_corrected(data->cascade);
    data->disclosed = qn_cascade_disclosed(data->cascade);
    data->error = qn_cascade_key(data->cascade, &data->key);
}

void bb84_start_asking(struct bb84_data *data) {
    struct qn_cascade_config config;
    plan(data, &config);
    data->error = qn_cascade_new(&config, &data->key, &data->cascade);
    if (data->error == 0) ask(data);
}

void bb84_go_on_asking(struct bb84_data *data) {
    data->error = qn_cascade_tell(data->cascade, data->in.data, data->in.len, data->in_count);
    if (data->error == 0) ask(data);
}

void bb84_start_answering(struct bb84_data *data) {
    struct qn_cascade_config config;
    plan(data, &config);
    data->error = qn_cascade_source_new(&config, &data->key, &data->source);
}

void bb84_go_on_answering(struct bb84_data *data) {
    data->out.len = 0;
    data->error = qn_cascade_answer(data->source, data->in.data, data->in.len, data->in_count, &data->out);
    data->disclosed = qn_cascade_source_disclosed(data->source);
}

/* ---- verification and amplification ---- */

void bb84_hash_key(struct bb84_data *data) {
    qn_hash(data->hash_seed, &data->key, data->tag);
    data->error = 0;
}

uint64_t bb84_secret_length(const struct bb84_data *data, uint64_t disclosed) {
    struct qn_secret secret = {
        .bits = data->key.len,
        .error_upper = qn_qber_upper_rest(data->sampled, data->errors, data->key.len, data->epsilon),
        .disclosed = disclosed,
        .tag_bits = QN_HASH_BYTES * 8 + CHECK_BITS,
        .epsilon = data->epsilon,
        .tagged = data->tagged,
    };
    return qn_secret_length(&secret) / 8 * 8; /* Keys are whole bytes. */
}

void bb84_amplify(struct bb84_data *data) {
    data->error = qn_amplify(&data->key, data->amplify_seed, data->secret_bits, &data->secret);
}
