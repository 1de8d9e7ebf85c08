/* SPDX-License-Identifier: Apache-2.0 */
/* Gains, error rates and detectors of QKD against the figures of data/check-values.json and samples, at five standard
 * deviations. */
#include "bell_support.h"

/* ---- qkd ---- */

static struct qn_expected pulses_expected(enum qn_emission emission, double mean, struct qn_receiver receiver,
                                          struct qn_attack attack) {
    struct qn_source source = {.emission = emission, .n = 1, .mean = {mean}, .probability = {1}, .test_basis = 0.5};
    struct qn_optics optics;
    struct qn_expected expected;
    cr_assert_eq(qn_source_settle(&source), 0);
    cr_assert_eq(qn_optics_init(&optics, &source, &receiver, &attack), 0);
    qn_expect(&optics, &expected);
    return expected;
}

static void intercept_resend(struct value *value) {
    double fraction = param(value, "fraction");
    struct qn_receiver receiver = {
        .transmittance = 0.1, .efficiency = {1, 1}, .kept = 1, .test_basis = 0.5, .pixels = 1};
    if (json_object_get(value->params, "e_d") != NULL) receiver.misalignment = param(value, "e_d");
    struct qn_expected expected =
        pulses_expected(QN_EMIT_SINGLE, 1, receiver, (struct qn_attack){QN_ATTACK_INTERCEPT, .fraction = fraction});
    for (int basis = 0; basis < 2; basis++)
        same(value->name, "QBER", expected.error[basis][0] / expected.gain[basis][0], stated(value, "QBER"));
    json_object_del(value->left, "QBER");
    if (json_object_get(value->left, "eve_knows_bit_prob") == NULL) return;
    struct qn_rng rng = rng_for(value);
    struct tally knows = {0};
    while (knows.n < 20000) { /* What she measures, or a guess: right if her basis is. */
        bool knows_bit = qn_rng_double(&rng) < fraction && qn_rng_below(&rng, 2) == 0;
        tally_add(&knows, knows_bit || qn_rng_below(&rng, 2) == 0);
    }
    tally_expect(value, "eve_knows_bit_prob", &knows, stated(value, "eve_knows_bit_prob"));
    json_object_del(value->left, "eve_knows_bit_prob");
}

static void breidbart(struct value *value) {
    struct qn_state *state;
    cr_assert_eq(qn_state_new_zero(1, &state), 0);
    double right = qn_state_probability(state, 0, (const double[3]){M_SQRT1_2, 0, M_SQRT1_2});
    qn_state_free(state);
    expect(value, "eve_correct_prob", right);
    expect(value, "QBER",
           2 * right * (1 - right)); /* She sends on along her axis; the detector reads that as well as she. */
}

static void sift_ratio(struct value *value) {
    enum { CLICKS = 100000, ROOM = CLICKS + 4 * QN_DETECT_BATCH };
    static uint32_t offset[ROOM];
    static uint64_t basis[ROOM / 64 + 1], bit[ROOM / 64 + 1], sent[ROOM / 64 + 1];
    static const uint8_t key[32] = {1};
    struct qn_source source = {.emission = QN_EMIT_SINGLE, .n = 1, .mean = {1}, .probability = {1}, .test_basis = 0.5};
    struct qn_receiver receiver = {
        .transmittance = 0.5, .efficiency = {1, 1}, .kept = 1, .test_basis = 0.5, .pixels = 1};
    struct qn_optics optics;
    struct qn_detections found = {.offset = offset, .basis = basis, .bit = bit, .cap = ROOM / 64 * 64};
    struct qn_detector *detector = qn_detector_new();
    struct qn_stream stream;
    struct tally sifted = {0};
    uint64_t next = 0;
    cr_assert_eq(qn_source_settle(&source), 0);
    cr_assert_eq(qn_optics_init(&optics, &source, &receiver, &(struct qn_attack){0}), 0);
    qn_detector_start(detector, &optics, key, 1, 0);
    qn_detector_run(detector, 0, &next, 2 * CLICKS + 4000, &found);
    qn_detector_free(detector);
    cr_assert_geq(found.len, CLICKS);
    qn_stream_init(&stream, key);
    qn_choices_at(&stream, &source, 0, offset, CLICKS, &(struct qn_choice_planes){.basis = sent});
    for (size_t i = 0; i < CLICKS; i++) tally_add(&sifted, !((basis[i / 64] ^ sent[i / 64]) >> (i % 64) & 1));
    tally_expect(value, "sifted_fraction", &sifted, stated(value, "sifted_fraction"));
    json_object_del(value->left, "sifted_fraction");
}

static struct qn_wcp wcp_of(const struct value *value, double length_km) {
    return (struct qn_wcp){
        .transmittance = param(value, "eta_Bob") * qn_fibre_transmittance(length_km, param(value, "alpha_dB_km"), 0),
        .vacuum_yield = param(value, "Y0"),
        .misalignment = param(value, "e_d"),
    };
}

static void gys(struct value *value) {
    double mean = param(value, "mu");
    struct qn_wcp wcp = wcp_of(value, param(value, "L_km"));
    struct qn_receiver receiver = {.transmittance = wcp.transmittance,
                                   .misalignment = wcp.misalignment,
                                   .efficiency = {1, 1},
                                   .dark = {wcp.vacuum_yield / 2, wcp.vacuum_yield / 2},
                                   .kept = 1,
                                   .test_basis = 0.5,
                                   .pixels = 1};
    struct qn_expected expected = pulses_expected(QN_EMIT_COHERENT, mean, receiver, (struct qn_attack){0});
    expect(value, "Q_MQZL", qn_wcp_gain(&wcp, mean));
    expect(value, "E_MQZL", qn_wcp_qber(&wcp, mean));
    expect(value, "Q_exact_two_detector", expected.gain[0][0]);
    expect(value, "E_exact_two_detector", expected.error[1][0] / expected.gain[1][0]);
}

static void gys_published(struct value *value) {
    struct qn_wcp wcp = wcp_of(value, param(value, "L_km"));
    double qber = qn_wcp_qber(&wcp, param(value, "mu"));
    expect(value, "QBER_model", qber);
    expect_near(value, "QBER_published", qber, 0.002);
}

static void decoy_best_mean(struct value *value) {
    double mean = qn_wcp_best_mean(param(value, "e_d"), param(value, "f_EC"));
    expect(value, "mu_opt", mean);
    expect_near(value, "published", mean, 0.01);
}

struct decoy {
    double gain, qber, single_yield, single_qber, rate;
};

static struct decoy decoy_of(const struct value *value, double length_km, double decoy) {
    struct qn_wcp wcp = wcp_of(value, length_km);
    double mean = param(value, "mu"), signal = qn_wcp_gain(&wcp, mean);
    struct decoy out = {.gain = qn_wcp_gain(&wcp, decoy), .qber = qn_wcp_qber(&wcp, decoy)};
    qn_wcp_decoy_bounds(mean, signal, decoy, out.gain, out.qber, wcp.vacuum_yield, &out.single_yield, &out.single_qber);
    out.rate =
        qn_wcp_key_rate(mean, signal, qn_wcp_qber(&wcp, mean), out.single_yield, out.single_qber, param(value, "f_EC"));
    return out;
}

static void decoy_distance(struct value *value) {
    double low[3] = {0, 0, 0}, high[3] = {300, 300, 300};
    for (int step = 0; step < 60; step++) {
        double at[3];
        for (int i = 0; i < 3; i++) at[i] = (low[i] + high[i]) / 2;
        struct qn_wcp limit = wcp_of(value, at[0]), single = wcp_of(value, at[2]);
        bool is_alive[3] = {qn_wcp_key_rate_limit(&limit, param(value, "mu"), param(value, "f_EC")) > 0,
                            decoy_of(value, at[1], 0.05).rate > 0, qn_wcp_single_qber(&single) < 0.25};
        for (int i = 0; i < 3; i++) *(is_alive[i] ? &low[i] : &high[i]) = at[i];
    }
    expect(value, "L_max_km_infinite_decoy", low[0]);
    expect(value, "L_max_km_weak_vacuum_nu0.05", low[1]);
    expect(value, "L_where_e1_25pct", low[2]);
    expect_near(value, "published_infinite", low[0], 0.6);
    expect_near(value, "published_weak_vacuum", low[1], 0.6);
    expect_near(value, "published_upper_bound_km", low[2], 0.6);
}

static void decoy_weak_vacuum(struct value *value) {
    double length = param(value, "L_km"), mean = param(value, "mu");
    struct qn_wcp wcp = wcp_of(value, length);
    struct decoy decoy = decoy_of(value, length, param(value, "nu"));
    expect(value, "Q_mu", qn_wcp_gain(&wcp, mean));
    expect(value, "E_mu", qn_wcp_qber(&wcp, mean));
    expect(value, "Q_nu", decoy.gain);
    expect(value, "E_nu", decoy.qber);
    expect(value, "Y1_lower", decoy.single_yield);
    expect(value, "e1_upper", decoy.single_qber);
    expect(value, "Y1_true", qn_wcp_single_yield(&wcp));
    expect(value, "e1_true", qn_wcp_single_qber(&wcp));
    expect(value, "R_weak_vacuum_per_pulse", decoy.rate);
    expect(value, "R_infinite", qn_wcp_key_rate_limit(&wcp, mean, param(value, "f_EC")));
}

static void dead_time(struct value *value) {
    double rate = param(value, "rate_in_Hz"), dead = param(value, "dead_time_s"),
           counts = qn_dead_time_rate(rate, dead);
    double sd = sqrt(qn_dead_time_variance(rate, dead, 1));
    expect(value, "rate_out_Hz", counts);
    expect(value, "se_counts_1s", sd);
    struct qn_rng rng = rng_for(value);
    double sampled = -1; /* The one after the end. */
    for (double t = 0; t < 1; sampled++) t += (sampled >= 0 ? dead : 0) + qn_rng_exponential(&rng) / rate;
    near(value->name, "sampled", sampled, counts, 5 * sd);
}

static void jitter(struct value *value) {
    double sigma = param(value, "sigma_s"), gate = param(value, "gate_full_s"), kept = qn_jitter_kept(sigma, gate);
    expect(value, "fraction_in_gate", kept);
    struct qn_rng rng = rng_for(value);
    struct tally inside = {0};
    while (inside.n < 100000) tally_add(&inside, fabs(sigma * qn_rng_normal(&rng)) < gate / 2);
    tally_expect(value, "sampled", &inside, kept);
}

static void afterpulse(struct value *value) {
    double click = param(value, "p_click"), after = param(value, "p_afterpulse_next_gate");
    expect(value, "rate", qn_afterpulse_probability(click, after));
    /* Clearer where it is strong. */
    struct qn_rng rng = rng_for(value);
    struct tally clicks = {0};
    bool clicked = false;
    while (clicks.n < 1000000) {
        clicked = qn_rng_double(&rng) < 0.1 || (clicked && qn_rng_double(&rng) < 0.4);
        tally_add(&clicks, clicked);
    }
    /* Neighbours are correlated: the variance of the mean is (1 + r) / (1 - r) times larger, r = 0.4 * 0.9. */
    near(value->name, "sampled", clicks.sum / clicks.n, qn_afterpulse_probability(0.1, 0.4),
         5 * sqrt(0.13 * 2.2 / clicks.n));
}

static void poisson_source(struct value *value) {
    double mean = param(value, "mu"), p[3] = {qn_wcp_photons(mean, 0), qn_wcp_photons(mean, 1)}, pairs = 0;
    p[2] = 1 - p[0] - p[1];
    for (unsigned n = 2; n < 40; n++) pairs += n * (n - 1) * qn_wcp_photons(mean, n);
    struct qn_rng rng = rng_for(value);
    struct tally seen[3] = {0};
    while (seen[0].n < 1000000) {
        uint64_t n = qn_rng_poisson(&rng, mean);
        for (uint64_t k = 0; k < 3; k++) tally_add(&seen[k], k < 2 ? n == k : n >= 2);
    }
    for (int k = 0; k < 3; k++) tally_expect(value, "sampled", &seen[k], p[k]);
    expect(value, "P0", p[0]);
    expect(value, "P1", p[1]);
    expect(value, "P_ge2", p[2]);
    expect(value, "g2", pairs / (mean * mean));
}

static void fibre(struct value *value) {
    struct qn_topo_node nodes[2] = {0};
    struct qn_topology topology = {.nodes = nodes, .n_nodes = 2};
    struct qn_topo_link link = {.b = 1,
                                .via = QN_NO_NODE,
                                .length_km = param(value, "L_km"),
                                .light_speed_km_s = 2e5,
                                .probability = 1,
                                .fidelity = 1};
    struct qn_link_plan plan;
    cr_assert_eq(qn_link_plan(&topology, &link, &plan), 0);
    expect(value, "delay_s_at_2e5km_s", (double)plan.photon_a_ns * 1e-9);
    expect(value, "eta", qn_fibre_transmittance(param(value, "L_km"), param(value, "alpha_dB_km"), 0));
}

static void spdc_polarised(struct value *value) {
    struct qn_spdc source = {.lambda = param(value, "lambda_half_mean_pairs"),
                             .eta_a = param(value, "eta_A"),
                             .eta_b = param(value, "eta_B"),
                             .vacuum_a = param(value, "Y0A"),
                             .vacuum_b = param(value, "Y0B"),
                             .misalignment = param(value, "e_d")};
    expect(value, "Q_coincidence", qn_spdc_gain(&source));
    expect(value, "E", qn_spdc_qber(&source));
    double gain = 0; /* Pair number by pair number. */
    for (unsigned n = 0; n < 100; n++)
        gain += qn_spdc_polarised(source.lambda, n) * (1 - (1 - source.vacuum_a) * pow(1 - source.eta_a, n)) *
                (1 - (1 - source.vacuum_b) * pow(1 - source.eta_b, n));
    same(value->name, "sum over pairs", gain, qn_spdc_gain(&source));
}

static void spdc_thermal(struct value *value) {
    double mean = param(value, "mean_pairs");
    expect(value, "P0", qn_spdc_thermal(mean, 0));
    expect(value, "P1", qn_spdc_thermal(mean, 1));
    expect(value, "P2", qn_spdc_thermal(mean, 2));
    expect(value, "CAR_no_dark_small_eta_limit", qn_spdc_car(mean));
}

Test(qkd, closed_forms_match_the_figures) {
    static const struct value_case cases[] = {
        {"bb84_intercept_resend_", intercept_resend},
        {"bb84_ir_plus_misalign_", intercept_resend},
        {"bb84_breidbart", breidbart},
        {"bb84_sift_ratio", sift_ratio},
        {"gys_gain_qber_", gys},
        {"gys_published_", gys_published},
        {"decoy_mu_opt_gys", decoy_best_mean},
        {"decoy_max_distance_gys", decoy_distance},
        {"decoy_weak_vacuum_", decoy_weak_vacuum},
        {"detector_dead_time", dead_time},
        {"detector_jitter_gate", jitter},
        {"detector_afterpulse_gated", afterpulse},
        {"poisson_source_", poisson_source},
        {"fibre_loss_", fibre},
        {"spdc_pol_", spdc_polarised},
        {"spdc_single_mode_thermal", spdc_thermal},
    };
    values_check("qkd", CASES(cases), 32);
}
