/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/rng.h"
#include "qkd/reconcile.h"

/* Two keys that differ at random places, and what it took to make them equal. */
struct run {
    struct qn_bits source, detector;
    size_t errors, left; /* Places that differ, before and after. */
    struct qn_reconcile_report report;
    unsigned rounds;
};

static void run_keys(struct run *run, size_t len, double qber, uint64_t seed) {
    struct qn_rng rng;
    qn_rng_init(&rng, seed, "reconcile", len);
    *run = (struct run){0};
    for (size_t i = 0; i < len; i += 64)
        cr_assert_eq(qn_bits_append_word(&run->source, qn_rng_u64(&rng), len - i < 64 ? (unsigned)(len - i) : 64), 0);
    cr_assert_eq(qn_bits_copy(&run->detector, &run->source), 0);
    for (size_t i = 0; i < len && qber > 0; i++)
        if (qn_rng_double(&rng) < qber) qn_bits_flip(&run->detector, i);
    run->errors = qn_bits_distance(&run->source, &run->detector);
}

static void run_release(struct run *run) {
    qn_bits_release(&run->source);
    qn_bits_release(&run->detector);
}

/* A round: everything that can be asked is asked, then everything is answered. */
static void play_round(struct qn_reconcile *reconcile, struct qn_reconcile_source *source) {
    struct qn_buf asks[64] = {0};
    uint32_t counts[64];
    size_t n = 0;
    for (;; n++) {
        cr_assert_lt(n, 64);
        cr_assert_eq(qn_reconcile_ask(reconcile, &asks[n], &counts[n]), 0);
        if (counts[n] == 0) break;
        cr_assert_leq(asks[n].len, QN_RECONCILE_MESSAGE_BYTES);
        cr_assert_leq(qn_bits_bytes(counts[n]), QN_RECONCILE_MESSAGE_BYTES);
    }
    cr_assert_gt(n, 0);
    for (size_t i = 0; i < n; i++) {
        struct qn_buf answers = {0};
        cr_assert_eq(qn_reconcile_answer(source, asks[i].data, asks[i].len, counts[i], &answers), 0);
        cr_assert_eq(qn_reconcile_tell(reconcile, answers.data, answers.len, counts[i]), 0);
        qn_buf_release(&answers);
    }
    for (size_t i = 0; i < n; i++) qn_buf_release(&asks[i]);
}

static void run_method(struct run *run, const struct qn_reconcile_config *config) {
    struct qn_reconcile *reconcile = NULL;
    struct qn_reconcile_source *source = NULL;
    struct qn_bits key = {0};
    cr_assert_eq(qn_reconcile_new(config, &run->detector, &reconcile), 0);
    cr_assert_eq(qn_reconcile_source_new(config, &run->source, &source), 0);
    for (; !qn_reconcile_is_done(reconcile); run->rounds++) play_round(reconcile, source);
    cr_assert_eq(qn_reconcile_key(reconcile, &key), 0);
    cr_assert_eq(key.len, run->source.len);
    run->left = qn_bits_distance(&key, &run->source);
    qn_reconcile_get_report(reconcile, &run->report);
    cr_assert_eq(run->report.disclosed, qn_reconcile_source_disclosed(source));
    cr_assert_eq(run->report.corrected, qn_bits_distance(&key, &run->detector));
    cr_assert_eq(run->report.bits, key.len);
    cr_assert_leq(run->report.rounds, run->rounds);
    qn_bits_release(&key);
    qn_reconcile_free(reconcile);
    qn_reconcile_source_free(source);
}

Test(reconcile, every_method_makes_keys_equal) {
    for (unsigned method = 1; method < QN_RECONCILE_METHODS; method++) {
        for (unsigned i = 0; i < 3; i++) {
            struct run run;
            run_keys(&run, 100003, 0.01 + 0.03 * i, i);
            struct qn_reconcile_config config = {.method = (enum qn_reconcile_method)method, .qber = 0.01 + 0.03 * i};
            run_method(&run, &config);
            double f = qn_reconcile_efficiency(&run.report);
            printf("# %s at %.0f %%: f %.3f in %u rounds, %u frames\n", qn_reconcile_name(config.method),
                   100 * config.qber, f, run.rounds, run.report.frames);
            cr_assert_leq(run.left, 4); /* A strip of the published ones may fail. */
            cr_assert(f > 1 && f < 1.3);
            cr_assert_gt(run.report.frames, 0);
            run_release(&run);
        }
    }
}

Test(reconcile, methods_have_names) {
    enum qn_reconcile_method method;
    for (unsigned i = 0; i < QN_RECONCILE_METHODS; i++) {
        cr_assert_eq(qn_reconcile_parse(qn_reconcile_name((enum qn_reconcile_method)i), &method), 0);
        cr_assert_eq(method, i);
    }
    cr_assert_eq(qn_reconcile_parse("cascade-", &method), -QN_EINVAL);
    cr_assert_str_eq(qn_reconcile_name((enum qn_reconcile_method)200), "unknown");
}

Test(reconcile, auto_must_have_been_resolved) {
    struct qn_bits key = {0};
    struct qn_reconcile *reconcile = NULL;
    struct qn_reconcile_source *source = NULL;
    for (unsigned i = 0; i < 2; i++) {
        struct qn_reconcile_config config = {.method = (enum qn_reconcile_method)(i * 77)};
        cr_assert_eq(qn_reconcile_new(&config, &key, &reconcile), -QN_EINVAL);
        cr_assert_eq(qn_reconcile_source_new(&config, &key, &source), -QN_EINVAL);
    }
    qn_reconcile_free(NULL);
    qn_reconcile_source_free(NULL);
}

Test(reconcile, an_empty_key_is_done_at_once) {
    for (unsigned method = 1; method < QN_RECONCILE_METHODS; method++) {
        struct run run;
        run_keys(&run, 0, 0, 0);
        run_method(&run, &(struct qn_reconcile_config){.method = (enum qn_reconcile_method)method, .qber = 0.02});
        cr_assert_eq(run.rounds, 0);
        cr_assert(isnan(qn_reconcile_efficiency(&run.report)));
        run_release(&run);
    }
}

Test(reconcile, chooses_by_error_rate_latency_and_load) {
    static const struct {
        struct qn_reconcile_situation situation;
        enum qn_reconcile_method method;
    } cases[] = {
        {{0.02, 1000000, 250000, 1, 0}, QN_RECONCILE_CASCADE}, /* 25 km: 50 ms of round trips. */
        {{0.02, 1000000, 400000, 1, 0}, QN_RECONCILE_CASCADE_FAST},
        {{0.02, 1000000, 1000000, 1, 0}, QN_RECONCILE_LDPC}, /* 100 km. */
        {{0.02, 1000000, 1000000, 130, 0.9},
         QN_RECONCILE_CASCADE},                                  /* 200 ms hidden by 416 ms of work on many blocks. */
        {{0.02, 100000000, 750000, 1, 0}, QN_RECONCILE_CASCADE}, /* Or on a large one. */
        {{0.02, 1000000, 1000000, 1, 0.27}, QN_RECONCILE_LDPC},  /* LDPC would take 0.76 of the processors, ... */
        {{0.02, 1000000, 1000000, 1, 0.30}, QN_RECONCILE_CASCADE_FAST}, /* ... 0.84. */
        {{0.10, 1000000, 1000000, 1, 0.7}, QN_RECONCILE_LDPC}, /* Cascade takes nearly as long at high error rates. */
        {{0, 0, 0, 0, 0}, QN_RECONCILE_CASCADE},
        {{NAN, 1000000, 1, 1, NAN}, QN_RECONCILE_CASCADE},
        {{NAN, 1000000, UINT64_MAX, 1, NAN}, QN_RECONCILE_CASCADE_FAST},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        cr_assert_eq(qn_reconcile_choose(&cases[i].situation), cases[i].method, "case %zu: %s", i,
                     qn_reconcile_name(qn_reconcile_choose(&cases[i].situation)));
}
