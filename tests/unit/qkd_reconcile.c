/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/rng.h"
#include "keys.h"
#include "qkd/reconcile.h"

/* Two keys that differ at random places, and what it took to make them equal. */
struct run {
    struct key_pair keys;
    size_t left; /* Places that differ afterwards. */
    struct qn_reconcile_report report;
    unsigned rounds;
};

static void run_keys(struct run *run, size_t len, double qber, uint64_t seed) {
    *run = (struct run){0};
    key_pair_make(&run->keys, "reconcile", len, qber, seed);
}

static int ask(void *corrector, struct qn_buf *question, uint32_t *ret_count) {
    return qn_reconcile_ask(corrector, question, ret_count);
}

static int answer(void *source, const uint8_t *question, size_t len, uint32_t count, struct qn_buf *answer) {
    return qn_reconcile_answer(source, question, len, count, answer);
}

static int tell(void *corrector, const uint8_t *answer, size_t len, uint32_t count) {
    return qn_reconcile_tell(corrector, answer, len, count);
}

static struct reconciling ends_of(struct qn_reconcile *corrector, struct qn_reconcile_source *source) {
    return (struct reconciling){ask, answer, tell, QN_RECONCILE_MESSAGE_BYTES, corrector, source};
}

static void run_method(struct run *run, const struct qn_reconcile_config *config) {
    struct qn_reconcile *reconcile = NULL;
    struct qn_reconcile_source *source = NULL;
    struct qn_bits key = {0};
    cr_assert_eq(qn_reconcile_new(config, &run->keys.detector, &reconcile), 0);
    cr_assert_eq(qn_reconcile_source_new(config, &run->keys.source, &source), 0);
    struct reconciling ends = ends_of(reconcile, source);
    for (; !qn_reconcile_is_done(reconcile); run->rounds++) play_round(&ends);
    cr_assert_eq(qn_reconcile_key(reconcile, &key), 0);
    cr_assert_eq(key.len, run->keys.source.len);
    run->left = qn_bits_distance(&key, &run->keys.source);
    qn_reconcile_get_report(reconcile, &run->report);
    cr_assert_eq(run->report.disclosed, qn_reconcile_source_disclosed(source));
    cr_assert_eq(run->report.corrected, qn_bits_distance(&key, &run->keys.detector));
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
            key_pair_release(&run.keys);
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
        key_pair_release(&run.keys);
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
        {{0.02, 1000000, 1000000, 1, 0.9}, QN_RECONCILE_LDPC},
        {{0.02, 1000000, 1000000, 1, 1}, QN_RECONCILE_LDPC_FAST}, /* All threads have something to do, ... */
        {{0.10, 1000000, 1000000, 1, 1.4}, QN_RECONCILE_LDPC_FAST},
        {{0.02, 1000000, 1000000, 1, 1.5}, QN_RECONCILE_CASCADE_FAST}, /* ... and half as much waits. */
        {{0, 0, 0, 0, 0}, QN_RECONCILE_CASCADE},
        {{NAN, 1000000, 1, 1, NAN}, QN_RECONCILE_CASCADE},
        {{NAN, 1000000, UINT64_MAX, 1, NAN}, QN_RECONCILE_CASCADE_FAST},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        cr_assert_eq(qn_reconcile_choose(&cases[i].situation), cases[i].method, "case %zu: %s", i,
                     qn_reconcile_name(qn_reconcile_choose(&cases[i].situation)));
}
