/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting times of links and repeaters against the figures of data/check-values.json and samples, at five standard
 * deviations. */
#include "bell_support.h"

/* ---- wait ---- */

static uint64_t largest_of(unsigned n, double p, struct qn_rng *rng) {
    uint64_t largest = 0;
    for (unsigned i = 0; i < n; i++) {
        uint64_t wait = qn_rng_geometric(rng, p);
        if (wait > largest) largest = wait;
    }
    return largest;
}

static void wait_largest(struct value *value) {
    unsigned n = (unsigned)param(value, "n");
    double p = param(value, "p"), mean = qn_wait_max_geometric(n, p), harmonic = 0, moment = 0;
    expect(value, "mean", mean);
    for (unsigned k = 1; k <= n; k++) harmonic += 1.0 / k;
    expect(value, "harmonic_approx", harmonic / p);
    for (unsigned k = 0; k < 40 / p; k++) moment += (2 * k + 1) * (1 - pow(qn_wait_within(p, k), n));
    double sd = sqrt(moment - mean * mean);
    expect(value, "sd", sd);
    struct qn_rng rng = rng_for(value);
    struct tally tally = {0};
    while (tally.n < 10000) tally_add(&tally, (double)largest_of(n, p, &rng));
    tally_expect(value, "sampled", &tally, mean);
}

static void wait_three_halves(struct value *value) {
    double p = param(value, "p"), ratio = qn_wait_max_geometric(2, p) / qn_wait_max_geometric(1, p);
    same(value->name, "exact", ratio, (3 - 2 * p) / (2 - p));
    expect(value, "ratio_E_max2_over_E1", ratio);
}

static void wait_restart(struct value *value) {
    double p = param(value, "p"), swap = param(value, "p_swap"), mean = qn_wait_max_geometric(2, p) / swap;
    expect(value, "mean_attempts", mean);
    struct qn_rng rng = rng_for(value);
    struct tally tally = {0};
    while (tally.n < 10000) {
        uint64_t attempts = 0;
        do attempts += largest_of(2, p, &rng);
        while (qn_rng_double(&rng) >= swap);
        tally_add(&tally, (double)attempts);
    }
    tally_expect(value, "sampled", &tally, mean);
}

static void wait_repeaters(struct value *value) {
    double length = param(value, "L_km"), loss = param(value, "alpha_dB_km"), detector = param(value, "eta_d");
    for (unsigned repeaters = 0; repeaters <= 7; repeaters = 2 * repeaters + 1) {
        unsigned links = repeaters + 1;
        double span = length / links, eta = detector * qn_fibre_transmittance(span / 2, loss, 0), harmonic = 0;
        double p = qn_double_click(eta, eta, 1, 0).probability, attempts_hz = 2e5 / span;
        double rate = attempts_hz / qn_wait_max_geometric(links, p);
        for (unsigned k = 1; k <= links; k++) harmonic += 1.0 / k;
        char key[64];
        if (repeaters == 0) {
            expect(value, "direct_Hz", rate);
            continue;
        }
        snprintf(key, sizeof key, "%u_repeaters_Hz_parallel_then_swap", repeaters);
        expect(value, key, rate);
        snprintf(key, sizeof key, "%u_repeaters_harmonic_approx_Hz", repeaters);
        expect(value, key, attempts_hz * p / harmonic);
    }
}

static void wait_dephasing(struct value *value) {
    double p = param(value, "p"), x = exp(-2 * param(value, "T_attempt_s") / param(value, "T2_s")), pair[4];
    double coherence = qn_wait_coherence(p, x);
    qn_bell_werner(param(value, "F_link"), pair);
    qn_bell_swap(pair, pair, pair);
    qn_bell_swap(pair, (const double[4]){(1 + coherence) / 2, 0, 0, (1 - coherence) / 2}, pair);
    expect(value, "E_coherence_factor", coherence);
    expect(value, "F_end_mean", pair[0]);
    expect_array(value, "out_IXYZ_mean", pair, 4);
    expect(value, "N", 10000);
    struct qn_rng rng = rng_for(value);
    struct tally tally = {0};
    while (tally.n < 10000) {
        double a = (double)qn_rng_geometric(&rng, p), b = (double)qn_rng_geometric(&rng, p);
        tally_add(&tally, pow(x, fabs(a - b)));
    }
    tally_expect(value, "sampled", &tally, coherence);
}

static void wait_within(struct value *value) {
    expect(value, "P_second_within_cutoff",
           qn_wait_within(param(value, "p"), (unsigned)param(value, "cutoff_attempts")));
}

static void wait_cutoff(struct value *value) {
    double p = param(value, "p");
    unsigned cutoff = (unsigned)param(value, "cutoff_attempts");
    double mean = qn_wait_cutoff(p, cutoff);
    expect(value, "mean_attempts", mean);
    struct qn_rng rng = rng_for(value);
    struct tally tally = {0};
    while (tally.n < 10000) {
        uint64_t attempts = 0, first, second;
        for (;;) {
            uint64_t a = qn_rng_geometric(&rng, p), b = qn_rng_geometric(&rng, p);
            first = a < b ? a : b;
            second = a < b ? b : a;
            if (second - first <= cutoff) break;
            attempts += first + cutoff;
        }
        tally_add(&tally, (double)(attempts + second));
    }
    tally_expect(value, "sampled", &tally, mean);
}

static void wait_one(struct value *value) {
    double p = param(value, "p"), mean = qn_wait_max_geometric(1, p);
    expect(value, "mean", mean);
    expect(value, "sd", sqrt(1 - p) / p);
    struct qn_rng rng = rng_for(value);
    struct tally tally = {0};
    while (tally.n < 10000) tally_add(&tally, (double)qn_rng_geometric(&rng, p));
    tally_expect(value, "sampled", &tally, mean);
}

Test(wait, closed_forms_match_the_figures) {
    static const struct value_case cases[] = {
        {"wait_max_geom_", wait_largest},
        {"wait_three_halves", wait_three_halves},
        {"repeater1_prob_swap_", wait_restart},
        {"repeater_vs_direct_", wait_repeaters},
        {"repeater1_wait_dephasing_", wait_dephasing},
        {"cutoff_success_prob", wait_within},
        {"repeater1_cutoff_mean_time", wait_cutoff},
        {"geometric_skip", wait_one},
    };
    values_check("wait", CASES(cases), 16);
}

/* The sum below p = 0.01 is an expansion: it must meet the alternating sum, which is exact while n is small. */
Test(wait, largest_is_the_same_by_both_sums) {
    static const double chances[] = {1e-6, 1e-3, 0.00999, 0.01001, 0.3, 0.999, 1};
    for (size_t i = 0; i < sizeof chances / sizeof *chances; i++)
        for (unsigned n = 1; n <= 8; n++) {
            double p = chances[i], sum = 0, choose = 1;
            for (unsigned k = 1; k <= n; k++) {
                choose = choose * (n - k + 1) / k;
                sum += (k % 2 != 0 ? choose : -choose) / qn_wait_within(p, k);
            }
            near("largest", "mean", qn_wait_max_geometric(n, p), sum, 1e-9 * sum);
        }
}
