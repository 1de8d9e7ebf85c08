/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_TEST_PULSES_SUPPORT_H
#define QN_TEST_PULSES_SUPPORT_H

/* Pulses, receivers and room for clicks. Random tests are bounded at five standard deviations; their seed is SEED. */

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/rng.h"
#include "link/detect.h"
#include "link/fast.h"
#include "link/observe.h"
#include "link/wcp.h"

#define SEED 11
static const uint8_t key[32] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2, 6, 4};

static inline void near(const char *what, double actual, double expected, double margin) {
    cr_assert(fabs(actual - expected) <= margin, "%s is %.10g, not within %g of %.10g (seed %d)", what, actual, margin,
              expected, SEED);
}

/* `hits` of `n`, each with chance p. */
static inline void within(const char *what, double hits, double n, double p) {
    double sigma = sqrt(n * p * (1 - p));
    cr_assert(fabs(hits - n * p) <= 5 * sigma + 1, "%s: %g of %g, expected %g +- %g (seed %d)", what, hits, n, n * p,
              sigma, SEED);
}

static inline struct qn_source source_of(unsigned n) {
    struct qn_source source = {.n = n, .test_basis = 0.2};
    for (unsigned k = 0; k < n; k++) {
        source.mean[k] = 0.9 / (1 + k);
        source.probability[k] = (k == 0 ? 1 - (n - 1) * 0.1 : 0.1);
    }
    cr_assert_eq(qn_source_settle(&source), 0);
    return source;
}

static inline bool chance(struct qn_rng *rng, double p) { return qn_rng_double(rng) < p; }

static const struct qn_receiver bright = {.transmittance = 0.6,
                                          .misalignment = 0.05,
                                          .efficiency = {0.8, 0.6},
                                          .dark = {0.01, 0.03},
                                          .kept = 0.9,
                                          .test_basis = 0.3,
                                          .pixels = 1};

static inline struct qn_optics optics_of(struct qn_source source, struct qn_receiver receiver,
                                         struct qn_attack attack) {
    struct qn_optics optics;
    cr_assert_eq(qn_source_settle(&source), 0);
    cr_assert_eq(qn_optics_init(&optics, &source, &receiver, &attack), 0);
    return optics;
}

static inline struct qn_detections room(size_t cap) {
    struct qn_detections out = {.cap = cap};
    out.offset = calloc(cap, sizeof *out.offset);
    out.basis = calloc(cap / 64, sizeof *out.basis);
    out.bit = calloc(cap / 64, sizeof *out.bit);
    cr_assert(out.offset != NULL && out.basis != NULL && out.bit != NULL);
    return out;
}

static inline void room_free(struct qn_detections *out) {
    free(out->offset);
    free(out->basis);
    free(out->bit);
}

static inline void count(const struct qn_optics *optics, const struct qn_detections *out, double pulses,
                         struct qn_observed *ret) {
    struct qn_stream stream;
    qn_stream_init(&stream, key);
    size_t words = (out->len + 63) / 64;
    uint64_t *plane = calloc(5 * words + 1, sizeof *plane);
    const struct qn_choice_planes planes = {
        plane, plane + words, {plane + 2 * words, plane + 3 * words, plane + 4 * words}};
    qn_choices_at(&stream, &optics->source, 0, out->offset, out->len, &planes);
    ret->pulses += pulses;
    for (size_t i = 0; i < out->len; i++) {
        size_t w = i / 64, b = i % 64;
        cr_assert(i == 0 || out->offset[i] > out->offset[i - 1]);
        unsigned basis = out->basis[w] >> b & 1, bit = out->bit[w] >> b & 1, k = 0;
        for (unsigned p = 0; p < 3 && optics->source.n > 1u << p; p++)
            k |= (unsigned)(planes.intensity[p][w] >> b & 1) << p;
        ret->clicks[basis]++;
        ret->ones[basis] += bit;
        if ((planes.basis[w] >> b & 1) != basis) continue;
        ret->n[basis][k]++;
        ret->m[basis][k] += (planes.bit[w] >> b & 1) != bit;
    }
    for (unsigned basis = 0; basis < 2; basis++) ret->doubles[basis] += out->doubles[basis];
    free(plane);
}

static const struct qn_source lim = {
    .n = 3, .mean = {0.43, 0.2, 2e-4}, .probability = {0.4, 0.4, 0.2}, .test_basis = 0.25};

static const struct qn_receiver quiet = {.transmittance = 0.277,
                                         .misalignment = 0.03,
                                         .efficiency = {1, 1},
                                         .dark = {1e-6, 1e-6},
                                         .kept = 1,
                                         .test_basis = 0.098,
                                         .pixels = 1};

#define MANY 2000000

#endif
