/* SPDX-License-Identifier: Apache-2.0 */
/* The published variants of Cascade against the figures of cascade-cpp and against a reference of its rules. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/rng.h"
#include "cascade_reference.h"
#include "keys.h"
#include "qkd/cascade.h"
#include "qkd/cascade_plan.h"
#include "qkd/estimate.h"

enum { STRIP = 10000, STRIPS_AT_ONCE = 10, POINTS = 7, MOST_ERRORS = STRIP / 4 };

/* Published by cascade-cpp, from 10,000 runs of 10,000 bits: f, and the frame error rate. Where that is below the
 * resolution, 1e-3 is meant. That of biconf and yanetal is 1e-3 and 2e-3, but looks at half of the bits and at one set
 * of shuffles (lib/qkd/README.md); 2e-3 (at high rates) and 3e-3 are what the reference has. */
static const double published_qber[POINTS] = {0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.11};
static const struct published_row {
    enum qn_cascade_variant variant;
    const char *name;
    double f[POINTS], fer;
    size_t strips; /* Of the suite's sample. Of some, what is disclosed varies much. */
} published_rows[] = {
    {QN_CASCADE_ORIGINAL, "original", {1.134, 1.143, 1.159, 1.174, 1.185, 1.217, 1.242}, 1.4e-3, 200},
    {QN_CASCADE_BICONF, "biconf", {1.129, 1.101, 1.090, 1.086, 1.093, 1.107, 1.114}, 2e-3, 300},
    {QN_CASCADE_YANETAL, "yanetal", {1.123, 1.095, 1.084, 1.078, 1.077, 1.097, 1.095}, 3e-3, 300},
    {QN_CASCADE_OPTION3, "option3", {1.141, 1.111, 1.100, 1.091, 1.106, 1.114, 1.129}, 1e-3, 200},
    {QN_CASCADE_OPTION4, "option4", {1.141, 1.111, 1.100, 1.091, 1.106, 1.114, 1.129}, 1e-3, 100},
    {QN_CASCADE_OPTION7, "option7", {1.172, 1.122, 1.098, 1.152, 1.114, 1.095, 1.154}, 1e-3, 300},
    {QN_CASCADE_OPTION8, "option8", {1.156, 1.160, 1.131, 1.141, 1.110, 1.259, 1.267}, 1e-3, 300},
};

/* As many errors in each strip as its rate says, at random places. */
struct strips {
    struct qn_bits source, detector;
    uint32_t n_errors, errors[STRIPS_AT_ONCE][MOST_ERRORS];
};

static void make_strips(struct strips *strips, size_t count, double qber, struct qn_rng *rng) {
    strips->source = random_key(rng, count * STRIP);
    strips->detector = (struct qn_bits){0};
    strips->n_errors = (uint32_t)(STRIP * qber + 0.5);
    cr_assert_eq(qn_bits_copy(&strips->detector, &strips->source), 0);
    for (size_t s = 0; s < count; s++) {
        for (uint32_t e = 0; e < strips->n_errors;) {
            uint32_t x = (uint32_t)qn_rng_below(rng, STRIP);
            size_t i = s * STRIP + x;
            if (qn_bits_get(&strips->source, i) != qn_bits_get(&strips->detector, i)) continue;
            qn_bits_flip(&strips->detector, i);
            strips->errors[s][e++] = x;
        }
    }
}

struct outcome {
    uint64_t disclosed;
    uint32_t rounds;
    size_t wrong_bits, wrong_strips;
};

static void correct_strips(const struct qn_cascade_config *config, const struct strips *strips,
                           struct outcome *ret_outcome) {
    struct qn_cascade *cascade = NULL;
    struct qn_cascade_source *source = NULL;
    cr_assert_eq(qn_cascade_new(config, &strips->detector, &cascade), 0);
    cr_assert_eq(qn_cascade_source_new(config, &strips->source, &source), 0);
    while (!qn_cascade_is_done(cascade)) {
        struct qn_buf questions = {0}, answers = {0};
        uint32_t count;
        cr_assert_eq(qn_cascade_ask(cascade, &questions, &count), 0);
        cr_assert_eq(qn_cascade_answer(source, questions.data, questions.len, count, &answers), 0);
        cr_assert_eq(qn_cascade_tell(cascade, answers.data, answers.len, count), 0);
        qn_buf_release(&questions);
        qn_buf_release(&answers);
    }
    *ret_outcome =
        (struct outcome){.disclosed = qn_cascade_source_disclosed(source), .rounds = qn_cascade_rounds(cascade)};
    struct qn_bits key = {0};
    cr_assert_eq(qn_cascade_key(cascade, &key), 0);
    for (size_t start = 0; start < key.len; start += STRIP) {
        size_t wrong = 0;
        for (size_t i = start; i < start + STRIP; i++) wrong += qn_bits_get(&key, i) != qn_bits_get(&strips->source, i);
        ret_outcome->wrong_bits += wrong;
        ret_outcome->wrong_strips += wrong > 0;
    }
    qn_bits_release(&key);
    qn_cascade_free(cascade);
    qn_cascade_source_free(source);
}

static void release_strips(struct strips *strips) {
    qn_bits_release(&strips->source);
    qn_bits_release(&strips->detector);
}

/* Half a percent, and 5 sigma of the sample: within two percent where strips are alike, but strips of option 8 vary by
 * up to 18. QN_CASCADE_RUNS=10000 is the published sample, and then two percent must hold at every point. */
static void compare_with_published(const struct published_row *row, size_t point, size_t n_strips) {
    static struct strips strips;
    double qber = published_qber[point], per_run = STRIPS_AT_ONCE * STRIP * qn_binary_entropy(qber);
    double sum = 0, squares = 0, wrong = 0, runs = (double)(n_strips / STRIPS_AT_ONCE);
    uint32_t rounds = 0;
    struct qn_rng rng;
    qn_rng_init(&rng, 100 + point, row->name, 0);
    for (size_t run = 0; run < n_strips / STRIPS_AT_ONCE; run++) {
        struct qn_cascade_config config = {
            .variant = row->variant, .qber = qber, .seed = {(uint8_t)point, 9, (uint8_t)run, (uint8_t)(run >> 8)}};
        struct outcome outcome;
        make_strips(&strips, STRIPS_AT_ONCE, qber, &rng);
        correct_strips(&config, &strips, &outcome);
        double f = (double)outcome.disclosed / per_run;
        sum += f;
        squares += f * f;
        wrong += (double)outcome.wrong_strips;
        if (outcome.rounds > rounds) rounds = outcome.rounds;
        release_strips(&strips);
    }
    double f = sum / runs, sigma = sqrt((squares / runs - f * f) / (runs - 1)), off = f / row->f[point] - 1;
    printf("# %s, Q %4.1f %%: f %.4f +- %.4f (published %.3f, %+.1f %%), at most %u rounds, %.0f of %zu strips wrong\n",
           row->name, 100 * qber, f, sigma, row->f[point], 100 * off, rounds, wrong, n_strips);
    double allowed = 0.005 + 5 * sigma, most_wrong = row->fer * (double)n_strips;
    cr_expect_lt(fabs(off), allowed, "%s at %g: %+.4f, seed %zu", row->name, qber, off, 100 + point);
    if (n_strips >= 10000) cr_expect_lt(fabs(off), 0.02, "%s at %g", row->name, qber);
    cr_expect_leq(wrong, most_wrong + 5 * sqrt(most_wrong) + 1, "%s at %g", row->name, qber);
}

Test(cascade, variants_are_as_efficient_as_published, .timeout = 3600) {
    const char *runs = getenv("QN_CASCADE_RUNS");
    for (size_t v = 0; v < sizeof published_rows / sizeof published_rows[0]; v++)
        for (size_t point = 0; point < POINTS; point++)
            compare_with_published(&published_rows[v], point,
                                   runs != NULL ? strtoul(runs, NULL, 10) : published_rows[v].strips);
}

/* Question for question: with the same shuffles as many parities in as many messages, and the same errors stay. Not of
 * BICONF, whose random halves are chosen in another way. */
Test(cascade, published_variants_ask_what_the_reference_asks) {
    static struct strips strips;
    struct qn_rng rng;
    qn_rng_init(&rng, 4, "cascade", 0);
    for (size_t v = 0; v < sizeof published_rows / sizeof published_rows[0]; v++) {
        enum qn_cascade_variant variant = published_rows[v].variant;
        for (size_t i = 0; variant != QN_CASCADE_BICONF && i < 3 * POINTS; i++) {
            double qber = published_qber[i % POINTS];
            struct qn_cascade_config config = {.variant = variant, .qber = qber, .seed = {(uint8_t)i, 4}};
            struct plan plan;
            struct outcome outcome;
            struct cascade_reference reference;
            make_strips(&strips, 1, qber, &rng);
            correct_strips(&config, &strips, &outcome);

            cr_assert_eq(plan_init(&plan, &config, STRIP), 0);
            const uint16_t *orders[16] = {NULL};
            for (unsigned p = 0; p < plan.n_passes; p++) orders[p] = plan.pass[p].from;
            cascade_reference_run(variant, STRIP, strips.errors[0], strips.n_errors, qber, orders, &rng, &reference);
            cr_assert_eq(outcome.disclosed, reference.asked, "%s %zu", published_rows[v].name, i);
            cr_assert_eq(outcome.rounds, reference.messages, "%s %zu", published_rows[v].name, i);
            cr_assert_eq(outcome.wrong_bits, reference.left, "%s %zu", published_rows[v].name, i);
            plan_release(&plan);
            release_strips(&strips);
        }
    }
}
