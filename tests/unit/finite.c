/* SPDX-License-Identifier: Apache-2.0 */
/* Finite keys: golden vectors computed by independent code, the conditions under which there is none, and the rates
 * over distance of the papers' figures, settings optimised. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "qkd/estimate.h"
#include "qkd/finite.h"
#include "qkd/plan.h"

/* To the digits that are written down. */
#define SAME(actual, expected, digits)                                                                                 \
    cr_assert(fabs((actual) - (expected)) <= 0.5001 * pow(10, -(digits)), #actual " is %.12g, not %.12g", actual,      \
              expected)

/* ---- Golden vectors ---- */

static const struct qn_decoy two = {3, {0.41, 0.22, 2e-4}, {0.38, 0.44, 0.18}};
static const struct qn_decoy_counts two_counts = {.key_n = {6155560, 3834511, 9929},
                                                  .key_m = {156522, 102078, 4290},
                                                  .test_n = {191696, 119414, 309},
                                                  .test_m = {4874, 3179, 134}};
static const struct qn_decoy one = {2, {0.47, 0.15}, {0.69, 0.31}};
static const struct qn_decoy_counts one_counts = {
    .key_n = {8745067, 1254933}, .key_m = {87469, 12558}, .test_n = {162615, 23336}, .test_m = {1626, 234}};

static double leak_of(const struct qn_decoy_counts *counts) {
    double n = 0, m = 0;
    for (int k = 0; k < QN_DECOYS_MAX; k++) {
        n += (double)counts->key_n[k];
        m += (double)counts->key_m[k];
    }
    return 1.16 * qn_binary_entropy(m / n) * n;
}

Test(finite, two_decoys_match_the_golden_vector) {
    struct qn_finite_terms terms = {.eps_sec = 1e-10, .eps_cor = 1e-15, .disclosed = 2034935};
    struct qn_finite f;
    qn_finite_decoy(&two, &two_counts, &terms, &f);
    SAME(leak_of(&two_counts), 2034935.1867, 4);
    SAME(f.tau0, 0.785259369755, 12);
    SAME(f.tau1, 0.181116521415, 12);
    SAME(f.delta_key, 11417.174205, 6);
    SAME(f.delta_test, 2014.796467, 6);
    SAME(f.delta_error, 326.678854, 6);
    cr_assert_eq(f.key_s0, 0); /* Clamped. */
    SAME(f.key_s1, 6528089.201055, 6);
    SAME(f.test_s1, 175151.659952, 6);
    SAME(f.test_v1, 9063.002050, 6);
    SAME(f.ratio, 0.0517437406, 10);
    SAME(f.gamma, 0.0050803016, 10);
    SAME(f.phi, 0.0568240422, 10);
    SAME(f.key_error, 0.026289, 6);
    SAME(f.secrecy_bits, 225.669590, 6);
    SAME(f.correctness_bits, 50.828921, 6);
    SAME(f.exact, 2438446.3500 + 0.1867, 4);
    cr_assert_eq(f.verdict, QN_FINITE_KEY);
    cr_assert_eq(f.length, 2438446u);
}

Test(finite, one_decoy_matches_the_golden_vector) {
    struct qn_finite_terms terms = {.eps_sec = 1e-9, .eps_cor = 1e-15, .disclosed = 937408};
    struct qn_finite f;
    qn_finite_decoy(&one, &one_counts, &terms, &f);
    SAME(leak_of(&one_counts), 937408.0017, 4);
    SAME(f.tau0, 0.698071037807, 12);
    SAME(f.tau1, 0.242711156508, 12);
    cr_assert_eq(f.key_s0, 0);
    SAME(f.key_s0_most, 93159.7727, 4);
    SAME(f.key_s1, 5881078.5890, 4);
    SAME(f.test_s0_most, 4967.5445, 4);
    SAME(f.test_s1, 87340.6122, 4);
    SAME(f.test_v1, 2877.2517, 4);
    SAME(f.ratio, 0.0329428847, 10);
    SAME(f.gamma, 0.0055249386, 10);
    SAME(f.phi, 0.0384678233, 10);
    SAME(f.key_error, 0.01000270, 8);
    SAME(f.secrecy_bits, 204.871682, 6);
    SAME(f.exact, 3560052.4845 + 0.0017, 4);
    cr_assert_eq(f.length, 3560052u);
}

/* Knowing errors by intensity can only help; not knowing them still gives key. */
Test(finite, total_errors_give_a_shorter_key) {
    struct qn_finite_terms terms = {.eps_sec = 1e-9, .eps_cor = 1e-15, .disclosed = 937408};
    struct qn_decoy_counts counts = one_counts;
    struct qn_finite f, g;
    qn_finite_decoy(&one, &counts, &terms, &f);
    counts.key_m[0] += counts.key_m[1];
    counts.key_m[1] = 0;
    qn_finite_decoy_total(&one, &counts, &terms, &g);
    cr_assert_eq(g.verdict, QN_FINITE_KEY);
    cr_assert_lt(g.length, f.length);
    cr_assert_gt(g.length, f.length / 2);
    cr_assert_eq(g.key_s0_most, 2 * (100027 + f.delta_key));
}

/* ---- No key ---- */

static void expect_no_key(const struct qn_decoy *source, const struct qn_decoy_counts *counts,
                          const struct qn_finite_terms *terms, enum qn_finite_verdict verdict, const char *says) {
    struct qn_finite f;
    struct qn_buf text = {0};
    qn_finite_decoy(source, counts, terms, &f);
    cr_assert_eq(f.verdict, verdict, "%s, not %s", qn_finite_verdict_name(f.verdict), qn_finite_verdict_name(verdict));
    cr_assert_eq(f.length, 0u);
    cr_assert_eq(qn_finite_explain(&f, &text), 0);
    cr_assert_eq(qn_buf_append(&text, "", 1), 0);
    cr_assert_not_null(strstr((char *)text.data, says), "%s", (char *)text.data);
    qn_buf_release(&text);
}

Test(finite, gives_no_key_and_says_which_bound_failed) {
    const struct qn_finite_terms terms = {.eps_sec = 1e-10, .eps_cor = 1e-15, .disclosed = 2034935};
    struct qn_finite_terms other = terms;
    struct qn_decoy_counts counts = two_counts;
    counts.test_m[1] = counts.test_n[1] / 2; /* v1/s1 >= 1/2 */
    expect_no_key(&two, &counts, &terms, QN_FINITE_ERRORS, "wrong in half of the cases");
    counts = two_counts;
    other.disclosed = 9000000; /* ell < 0: never a negative length. */
    expect_no_key(&two, &counts, &other, QN_FINITE_TOO_SHORT, "cost more");
    other.disclosed = 0;
    other.phase_limit = 0.05;
    expect_no_key(&two, &counts, &other, QN_FINITE_PHASE_LIMIT, "above the limit");
    memset(counts.test_n, 0, sizeof counts.test_n);
    memset(counts.test_m, 0, sizeof counts.test_m);
    expect_no_key(&two, &counts, &terms, QN_FINITE_NO_TEST, "test basis");
    counts = two_counts;
    counts.key_n[1] = 100000; /* Photon-number splitting: the decoy clicks too rarely. */
    counts.key_m[1] = 100;
    expect_no_key(&two, &counts, &terms, QN_FINITE_NO_SINGLES, "single photon");
    memset(&counts, 0, sizeof counts);
    expect_no_key(&two, &counts, &terms, QN_FINITE_NO_COUNTS, "no detections");
}

/* A peer may claim anything. */
Test(finite, refuses_what_the_proof_does_not_cover) {
    const struct qn_finite_terms good = {.eps_sec = 1e-10, .eps_cor = 1e-15};
    const struct qn_finite_terms bad[] = {{.eps_sec = 0, .eps_cor = 1e-15},
                                          {.eps_sec = 1, .eps_cor = 1e-15},
                                          {.eps_sec = NAN, .eps_cor = 1e-15},
                                          {.eps_sec = 1e-10, .eps_cor = -1},
                                          {.eps_sec = 1e-10, .eps_cor = 1e-15, .phase_limit = NAN}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        expect_no_key(&two, &two_counts, &bad[i], QN_FINITE_INVALID, "outside");
    const struct qn_decoy sources[] = {
        {1, {0.5}, {1}},
        {4, {0.5, 0.2, 0.1}, {0.5, 0.2, 0.2}},
        {3, {0.4, 0.3, 0.1}, {0.4, 0.4, 0.2}}, /* Not above the sum of the others. */
        {3, {0.4, 0.1, 0.1}, {0.4, 0.4, 0.2}},
        {3, {0.4, 0.1, 0}, {0.4, 0.4, 0.1}},
        {3, {0.4, 0.1, 0}, {1, 0, 0}},
        {2, {0.4, 0}, {0.5, 0.5}}, /* One decoy cannot be vacuum. */
        {2, {0.1, 0.4}, {0.5, 0.5}},
        {2, {NAN, 0.4}, {0.5, 0.5}},
    };
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
        expect_no_key(&sources[i], &two_counts, &good, QN_FINITE_INVALID, "outside");
    struct qn_decoy_counts counts = two_counts;
    counts.test_m[0] = counts.test_n[0] + 1;
    expect_no_key(&two, &counts, &good, QN_FINITE_INVALID, "outside");
    counts = two_counts;
    counts.key_n[0] = UINT64_MAX;
    expect_no_key(&two, &counts, &good, QN_FINITE_INVALID, "outside");
}

/* Any counts give a bound or a reason, and never more key than detections. */
Test(finite, never_gives_more_than_there_was) {
    uint64_t x = 12345;
    struct qn_finite_terms terms = {.eps_sec = 1e-9, .eps_cor = 1e-15};
    for (int round = 0; round < 20000; round++) {
        struct qn_decoy_counts counts;
        uint64_t total = 0;
        for (int k = 0; k < 3; k++) {
            uint64_t *n[2] = {counts.key_n, counts.test_n}, *m[2] = {counts.key_m, counts.test_m};
            for (int b = 0; b < 2; b++) {
                x = x * 6364136223846793005u + 1442695040888963407u;
                n[b][k] = (x >> 32) >> (x >> 20 & 31);
                m[b][k] = (x >> 8 & 0xfff) * n[b][k] >> (12 + (x >> 3 & 7));
            }
            total += counts.key_n[k];
        }
        struct qn_finite f;
        qn_finite_decoy(&two, &counts, &terms, &f);
        cr_assert(f.length <= total && (f.length > 0) == (f.verdict == QN_FINITE_KEY));
        cr_assert(isfinite(f.exact) && isfinite(f.phi) && f.key_s1 >= 0 && f.test_v1 >= 0);
        counts.key_n[2] = counts.key_m[2] = counts.test_n[2] = counts.test_m[2] = 0;
        qn_finite_decoy(&one, &counts, &terms, &f);
        cr_assert(f.length <= total && (f.length > 0) == (f.verdict == QN_FINITE_KEY));
        cr_assert(isfinite(f.exact) && isfinite(f.phi) && f.key_s1 >= 0 && f.test_v1 >= 0);
    }
}

/* ---- Pairs ---- */

Test(finite, pairs_pay_for_the_sample) {
    /* n = 80000, k = 20000, 200 errors, by hand: mu = sqrt(1e5 20001 ln(4e9) / (8e4 4e8)). */
    struct qn_pair_counts counts = {80000, 20000, 200};
    struct qn_finite_terms terms = {.eps_sec = 1e-9, .eps_cor = 1e-15, .disclosed = 8000, .extra = 3};
    struct qn_finite f;
    double mu = sqrt(1e5 * 20001 * log(4e9) / (8e4 * 4e8)), phi = 0.01 + mu;
    qn_finite_pairs(&counts, &terms, &f);
    SAME(f.gamma, mu, 12);
    SAME(f.phi, phi, 12);
    double h = -phi * log2(phi) - (1 - phi) * log2(1 - phi);
    SAME(f.exact, 80000 * (1 - h) - 8003 - log2(2 / (1e-18 * 1e-15)), 6);
    cr_assert_eq(f.length, (uint64_t)f.exact);
    counts.errors = 8000;
    qn_finite_pairs(&counts, &terms, &f);
    cr_assert_eq(f.verdict, QN_FINITE_TOO_SHORT);
    counts.errors = 20001;
    qn_finite_pairs(&counts, &terms, &f);
    cr_assert_eq(f.verdict, QN_FINITE_INVALID);
    counts = (struct qn_pair_counts){100, 0, 0};
    qn_finite_pairs(&counts, &terms, &f);
    cr_assert_eq(f.verdict, QN_FINITE_NO_TEST);
    counts = (struct qn_pair_counts){0, 100, 0};
    qn_finite_pairs(&counts, &terms, &f);
    cr_assert_eq(f.verdict, QN_FINITE_NO_COUNTS);
}

/* ---- Rates over distance ---- */

/* Lim et al., fig. 1: secret bits a pulse, eps_sec = 1e-15 a bit. 0: no key. */
Test(plan, two_decoys_reach_the_rates_of_lim) {
    static const double lengths[] = {0, 50, 100, 140, 150};
    static const struct {
        double n, rate[5];
    } rows[] = {
        {1e4, {2.08e-4, 1.88e-5, 9.9e-7, 0, 0}},
        {1e5, {1.308e-3, 1.236e-4, 1.040e-5, 5.28e-7, 1.18e-7}},
        {1e6, {3.193e-3, 3.049e-4, 2.755e-5, 2.580e-6, 1.104e-6}},
        {1e7, {5.355e-3, 5.139e-4, 4.766e-5, 5.364e-6, 2.635e-6}},
        {1e8, {7.398e-3, 7.128e-4, 6.747e-5, 8.244e-6, 4.294e-6}},
        {1e9, {9.203e-3, 8.897e-4, 8.537e-5, 1.090e-5, 5.861e-6}},
    };
    double at_100[6];
    for (size_t r = 0; r < 6; r++)
        for (size_t i = 0; i < 5; i++) {
            struct qn_plan_link link = {.transmittance = 0.1 * pow(10, -0.02 * lengths[i]),
                                        .vacuum_yield = 1.2e-6,
                                        .misalignment = 5e-3,
                                        .afterpulse = 0.04,
                                        .inefficiency = 1.16};
            struct qn_plan plan = {.source = {.n = 3}, .block_size = rows[r].n};
            struct qn_finite_terms terms = {.eps_sec = 1e-10, .eps_cor = 1e-15};
            int rc = 0;
            for (int again = 0; again < 3; again++) { /* eps_sec depends on the length it gives. */
                rc = qn_plan_optimise(&link, &terms, 2e-4, &plan);
                terms.eps_sec = 1e-15 * fmax(plan.finite.exact, 1);
            }
            cr_assert_eq(rc, rows[r].rate[i] > 0 ? 0 : -QN_ENO_KEY);
            cr_assert_float_eq(plan.rate, rows[r].rate[i], 0.02 * rows[r].rate[i], "n = %g, %g km: %g, not %g",
                               rows[r].n, lengths[i], plan.rate, rows[r].rate[i]);
            if (i == 2) at_100[r] = plan.rate;
        }
    cr_assert_float_eq(at_100[5] / at_100[3], 1.75, 0.05); /* As the text says. */
}

/* Rusca et al., fig. 2: bit/s at 1 GHz, 10^7 bits, dead time of 100 ns. */
Test(plan, one_decoy_reaches_the_rates_of_rusca) {
    static const double losses[] = {0, 5, 10, 15, 20, 26, 30, 40, 50, 60, 62, 66};
    static const double rates[] = {5.21e6, 3.77e6, 2.31e6, 1.13e6, 4.47e5, 1.24e5, 5.04e4, 5.07e3, 469, 17, 2.8, 0};
    for (size_t i = 0; i < sizeof losses / sizeof *losses; i++) {
        struct qn_plan_link link = {.transmittance = 0.5 * pow(10, -losses[i] / 10),
                                    .vacuum_yield = 1e-8,
                                    .misalignment = 0.01,
                                    .dead_pulses = 100,
                                    .dead_by_key = true,
                                    .inefficiency = 1.16};
        struct qn_plan plan = {.source = {.n = 2}, .block_size = 1e7};
        struct qn_finite_terms terms = {.eps_sec = 1e-9, .eps_cor = 1e-15};
        cr_assert_eq(qn_plan_optimise(&link, &terms, 0, &plan), rates[i] > 0 ? 0 : -QN_ENO_KEY);
        cr_assert_float_eq(plan.rate * 1e9, rates[i], 0.02 * rates[i], "%g dB: %g, not %g", losses[i], plan.rate * 1e9,
                           rates[i]);
    }
}

/* The other blocks whose rates are known. */
Test(plan, one_decoy_gains_with_the_block) {
    static const struct {
        double n, loss, rate;
    } rows[] = {{1e5, 20, 1.52e5}, {1e5, 40, 1.57e3}, {1e9, 20, 6.39e5},
                {1e9, 26, 1.85e5}, {1e9, 40, 7.71e3}, {1e9, 64, 1.06}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct qn_plan_link link = {.transmittance = 0.5 * pow(10, -rows[i].loss / 10),
                                    .vacuum_yield = 1e-8,
                                    .misalignment = 0.01,
                                    .dead_pulses = 100,
                                    .dead_by_key = true,
                                    .inefficiency = 1.16};
        struct qn_plan plan = {.source = {.n = 2}, .block_size = rows[i].n};
        struct qn_finite_terms terms = {.eps_sec = 1e-9, .eps_cor = 1e-15};
        cr_assert_eq(qn_plan_optimise(&link, &terms, 0, &plan), 0);
        cr_assert_float_eq(plan.rate * 1e9, rows[i].rate, 0.02 * rows[i].rate, "n = %g, %g dB: %g, not %g", rows[i].n,
                           rows[i].loss, plan.rate * 1e9, rows[i].rate);
    }
}

/* The settings that the counts are made for come back as counts. */
Test(plan, expects_the_counts_that_its_settings_give) {
    struct qn_plan_link link = {
        .transmittance = 0.001, .vacuum_yield = 1.2e-6, .misalignment = 5e-3, .afterpulse = 0.04, .inefficiency = 1.16};
    struct qn_plan plan = {.source = two, .key_basis = 0.85, .block_size = 1e7};
    struct qn_finite_terms terms = {.eps_sec = 1e-10, .eps_cor = 1e-15};
    qn_plan_evaluate(&link, &terms, &plan);
    cr_assert_float_eq(plan.pulses, 52438344577.0, 1e4); /* The golden vector is of this link. */
    for (int k = 0; k < 3; k++) {
        cr_assert_float_eq(plan.means.key_n[k], (double)two_counts.key_n[k], 1);
        cr_assert_float_eq(plan.means.test_m[k], (double)two_counts.test_m[k], 1);
    }
    cr_assert_float_eq(plan.rate, 4.650121e-5, 1e-8); /* Whole counts move the phase error a little. */
}

/* ---- Device-independent ---- */

static double asymptotic(double s, double qber) { return 1 - qn_binary_entropy(qber) - qn_bell_chi(s); }

/* Acin et al., PRL 98, 230501 (2007): r = 1 for S = 2 sqrt 2 without errors, critical error rate 7.1 %. The other
 * values are recomputed with independent code. */
Test(finite, knows_the_device_independent_rate) {
    double low = 0, high = 0.2;
    cr_assert_float_eq(asymptotic(2 * sqrt(2), 0), 1, 1e-12);
    cr_assert_float_eq(asymptotic(2, 0), 0, 1e-12);
    cr_assert_float_eq(asymptotic(2.5, 0.02), 0.3149950142585829, 1e-12);
    for (int i = 0; i < 60; i++) {
        double middle = (low + high) / 2;
        if (asymptotic(2 * sqrt(2) * (1 - 2 * middle), middle) > 0)
            low = middle;
        else
            high = middle;
    }
    cr_assert_float_eq(low, 0.0714917588, 1e-9);
    cr_assert_eq(qn_bell_chi(1), 1);
    cr_assert_eq(qn_bell_chi(-2.8), 1);
    cr_assert_eq(qn_bell_chi(3), 0);
}

static struct qn_bell_counts werner(double pairs, double qber, double bell, double test) {
    struct qn_bell_counts counts = {.key = (uint64_t)(pairs * (1 - bell) * (1 - test) * (1 - test))};
    for (int i = 0; i < 4; i++) {
        counts.trials[i] = (uint64_t)(pairs * bell * (i < 2 ? 1 - test : test) / 2);
        counts.sums[i] = (int64_t)((double)counts.trials[i] * (1 - 2 * qber) / sqrt(2)) * (i == 3 ? -1 : 1);
    }
    return counts;
}

/* Of 200,000 pairs with 1 % errors, a quarter of them tests and 10 % in the test basis. */
Test(finite, bounds_a_device_independent_key) {
    struct qn_bell_counts counts = werner(200000, 0.01, 0.25, 0.1);
    struct qn_finite_terms terms = {.eps_sec = 1e-9, .eps_cor = 1e-15, .disclosed = 11779, .extra = 512};
    struct qn_finite f;
    qn_finite_device_independent(&counts, &terms, &f);
    cr_assert_eq(f.verdict, QN_FINITE_KEY, "%s", qn_finite_verdict_name(f.verdict));
    cr_assert_float_eq(f.bell_s, 2 * sqrt(2) * 0.98, 1e-3);
    cr_assert_eq(f.length, 34090u); /* Recomputed with independent code: 34090.098 */
    double n = (double)counts.key;
    for (double size = 1e6; size <= 1e15; size *= 1e3) { /* More pairs, nearer to the asymptotic rate, from below. */
        counts = werner(size, 0.01, 0.25, 0.1);
        terms.disclosed = (uint64_t)((double)counts.key * qn_binary_entropy(0.01));
        qn_finite_device_independent(&counts, &terms, &f);
        n = (double)counts.key;
        cr_assert_lt(f.exact / n, asymptotic(2 * sqrt(2) * 0.98, 0.01));
    }
    cr_assert_float_eq(f.exact / n, asymptotic(2 * sqrt(2) * 0.98, 0.01), 1e-4);
}

Test(finite, gives_no_device_independent_key_and_says_why) {
    const struct qn_finite_terms terms = {.eps_sec = 1e-9, .eps_cor = 1e-15};
    struct qn_finite f;
    struct qn_buf text = {0};
    struct qn_bell_counts counts = werner(4000, 0.01, 0.25, 0.1); /* S cannot be told from 2. */
    qn_finite_device_independent(&counts, &terms, &f);
    cr_assert_eq(f.verdict, QN_FINITE_NO_BELL);
    cr_assert_eq(f.length, 0u);
    cr_assert_eq(qn_finite_explain(&f, &text), 0);
    cr_assert_eq(qn_buf_append(&text, "", 1), 0);
    cr_assert_not_null(strstr((char *)text.data, "exceed 2"), "%s", (char *)text.data);
    qn_buf_release(&text);
    counts = werner(1e6, 0.2, 0.25, 0.1); /* S = 1.7 */
    qn_finite_device_independent(&counts, &terms, &f);
    cr_assert_eq(f.verdict, QN_FINITE_NO_BELL);
    counts = werner(20000, 0, 0.25, 0.1); /* Too few to be worth it. */
    qn_finite_device_independent(&counts, &terms, &f);
    cr_assert_eq(f.verdict, QN_FINITE_TOO_SHORT);
    counts.trials[2] = 0;
    counts.sums[2] = 0;
    qn_finite_device_independent(&counts, &terms, &f);
    cr_assert_eq(f.verdict, QN_FINITE_NO_TEST);
    counts.sums[2] = 1; /* More than there were. */
    qn_finite_device_independent(&counts, &terms, &f);
    cr_assert_eq(f.verdict, QN_FINITE_INVALID);
    counts = werner(100, 0, 0.25, 0.1);
    qn_finite_device_independent(&counts, &terms, &f);
    cr_assert_eq(f.verdict, QN_FINITE_NO_COUNTS);
}
