/* SPDX-License-Identifier: Apache-2.0 */
/* The counts of a block and what they are worth: which bound applies, how long the key is, and where every bit went.
 * Both ends compute this from the same counts. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "node/bb84.h"
#include "qkd/estimate.h"

#define CHECK_BITS 64 /* Of the digest by which the store sees that both ends have the same key; one a key stored. */

uint64_t bb84_sum(const uint64_t counts[QN_DECOYS_MAX]) {
    uint64_t sum = 0;
    for (unsigned k = 0; k < QN_DECOYS_MAX; k++) sum += counts[k];
    return sum;
}

static double rate(uint64_t part, uint64_t all) { return all > 0 ? (double)part / (double)all : 0; }

double bb84_test_qber(const struct block *block) {
    return rate(bb84_sum(block->counts.test_m), bb84_sum(block->counts.test_n));
}

double bb84_key_qber(const struct block *block) {
    return rate(bb84_sum(block->counts.key_m), bb84_sum(block->counts.key_n));
}

void bb84_count_sifted(struct block *block, const struct bb84_data *data) {
    for (unsigned k = 0; k < data->classes; k++) {
        block->counts.key_n[k] += data->counts.key_n[k];
        block->counts.test_n[k] += data->counts.test_n[k];
        block->counts.test_m[k] += data->counts.test_m[k];
        block->observed.n[0][k] = block->counts.key_n[k];
        block->observed.n[1][k] = block->counts.test_n[k];
        block->observed.m[1][k] = block->counts.test_m[k];
    }
}

void bb84_count_corrected(struct block *block, const uint64_t *errors, size_t n) {
    for (size_t k = 0; k < n; k++) {
        block->counts.key_m[k] += errors[k];
        block->observed.m[0][k] = block->counts.key_m[k];
    }
}

/* How many errors there were in pieces that were dropped is not known; one decoy's bound of the vacuum needs it, at
 * most. */
static struct qn_decoy_counts counts_at_most(const struct block *block) {
    struct qn_decoy_counts counts = block->counts;
    for (unsigned k = 0; k < QN_DECOYS_MAX; k++) {
        uint64_t right = counts.key_n[k] > counts.key_m[k] ? counts.key_n[k] - counts.key_m[k] : 0;
        counts.key_m[k] += block->dropped_bits < right ? block->dropped_bits : right;
    }
    return counts;
}

/* Without decoys: the bits whose pulse may have held several photons are given up. */
static void tagged(struct block *block, const struct qn_finite_terms *terms) {
    struct qn_finite *bounds = &block->bounds;
    uint64_t key = bb84_sum(block->counts.key_n), test = bb84_sum(block->counts.test_n);
    struct qn_source source;
    bb84_source(block->session, &source);
    double multi = qn_source_multi(&source, 0), clicks = rate(block->clicks, block->pulses);
    double share = multi < clicks ? multi / clicks : 1;
    struct qn_secret secret = {.bits = key,
                               .error_upper =
                                   qn_qber_upper_rest(test, bb84_sum(block->counts.test_m), key, terms->eps_sec),
                               .disclosed = terms->disclosed,
                               .tag_bits = terms->extra + (uint64_t)ceil(log2(2 / terms->eps_cor)),
                               .epsilon = terms->eps_sec,
                               .tagged = share};
    *bounds = (struct qn_finite){.key_total = (double)key,
                                 .test_total = (double)test,
                                 .error_total = (double)bb84_sum(block->counts.test_m),
                                 .key_s1 = (double)key * (1 - share),
                                 .phi = share < 1 ? secret.error_upper / (1 - share) : 1,
                                 .key_error = bb84_key_qber(block),
                                 .leak = (double)(terms->disclosed + terms->extra)};
    bounds->length = qn_secret_length(&secret);
    bounds->verdict = key == 0              ? QN_FINITE_NO_COUNTS
                      : test == 0           ? QN_FINITE_NO_TEST
                      : share >= 1          ? QN_FINITE_NO_SINGLES
                      : bounds->phi >= 0.5  ? QN_FINITE_ERRORS
                      : bounds->length == 0 ? QN_FINITE_TOO_SHORT
                                            : QN_FINITE_KEY;
}

uint64_t bb84_secret_bits(struct block *block, uint64_t disclosed) {
    const struct bb84_parameters *parameters = &block->session->parameters;
    uint64_t key_bits = bb84_sum(block->counts.key_n), tag = (uint64_t)ceil(log2(1 / parameters->epsilon_correct));
    uint64_t keys = key_bits / 8 / QN_STORE_KEY_MAX + 2; /* At most, one for the pool included. */
    block->tag_bits = (uint64_t)block->n_trains * QN_HASH_BYTES * 8 + keys * CHECK_BITS;
    if (bb84_wrong_most(block) > 0) block->tag_bits += block->n_trains;                   /* Which of them are wrong, */
    block->tag_bits += (uint64_t)block->n_wrong * WRONG_PIECES * (QN_HASH_BYTES * 8 + 1); /* and which pieces. */
    const struct qn_decoy_counts counts = counts_at_most(block);
    struct qn_finite_terms terms = {.eps_sec = parameters->epsilon_secret,
                                    .eps_cor = parameters->epsilon_correct,
                                    .disclosed = disclosed + block->dropped_bits,
                                    .extra = block->tag_bits - tag};
    struct qn_bell_counts bell = {.key = key_bits, .errors = bb84_sum(block->counts.test_m)};
    for (int i = 0; i < 4; i++) {
        bell.trials[i] = block->bell_trials[i / 2][i % 2];
        bell.sums[i] = block->bell_sums[i / 2][i % 2];
    }
    struct qn_pair_counts pairs = {key_bits, bb84_sum(block->counts.test_n), bb84_sum(block->counts.test_m)};
    switch (parameters->bound) {
    case BB84_BOUND_ONE_DECOY:
        qn_finite_decoy(&parameters->decoy, &counts, &terms, &block->bounds);
        break;
    case BB84_BOUND_TWO_DECOYS:
        qn_finite_decoy(&parameters->decoy, &block->counts, &terms, &block->bounds);
        break;
    case BB84_BOUND_TAGGED:
        tagged(block, &terms);
        break;
    case BB84_BOUND_SINGLE:
    case BB84_BOUND_PAIRS:
        qn_finite_pairs(&pairs, &terms, &block->bounds);
        break;
    case BB84_BOUND_BELL:
        qn_finite_device_independent(&bell, &terms, &block->bounds);
        break;
    }
    uint64_t bits = block->bounds.length / 8 * 8; /* Keys are whole bytes. */
    if (bits > 0) return bits;
    struct qn_buf text = {0};
    block->verdict = -QN_ENO_KEY;
    if (qn_finite_explain(&block->bounds, &text) == 0)
        snprintf(block->detail, sizeof block->detail, "%.*s", (int)text.len, (const char *)text.data);
    qn_buf_release(&text);
    return 0;
}
