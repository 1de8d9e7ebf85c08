/* SPDX-License-Identifier: Apache-2.0 */
/* Heralded links against the figures of data/check-values.json, their plans in each placement, and the clicks of BB84
 * pulses against a simulation photon by photon. Random tests are bounded at five standard deviations. */
#include "values.h"

#include <sodium.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/rng.h"
#include "link/detector.h"
#include "link/link.h"
#include "link/pulse.h"

#define SEED 5
#define CASES(table) (table), sizeof(table) / sizeof *(table)
static const uint8_t key[32] = {4, 8, 15, 16, 23, 42};

/* ---- heralding ---- */

enum { A, B, STATION };

/* Two memories and a station that is there if the placement needs one; detectors at b and at the station. */
struct network {
    struct qn_topo_node nodes[3];
    struct qn_topo_link link;
    struct qn_topology topology;
};

static void network_init(struct network *network, enum qn_placement placement, enum qn_link_model model,
                         double length_km) {
    *network = (struct network){
        .link = {.b = B,
                 .via = placement == QN_PLACE_SENDER_RECEIVER ? QN_NO_NODE : STATION,
                 .model = model,
                 .placement = placement,
                 .length_km = length_km,
                 .loss_db_km = 0.2,
                 .light_speed_km_s = 2e5,
                 .fidelity = 0.9,
                 .probability = 0.5,
                 .attempt_s = 1e-6,
                 .visibility = 1,
                 .alpha = 0.1,
                 .emission_efficiency = 1},
        .topology = {.n_nodes = 3, .n_links = 1},
    };
    network->nodes[B].detector_efficiency = network->nodes[STATION].detector_efficiency = 1;
    network->topology.nodes = network->nodes;
    network->topology.links = &network->link;
}

/* Fidelity with a Bell state, from its signs of XX, YY, ZZ. */
static double tensor_fidelity(const double t[16], int bell) {
    static const double sign[4][3] = {{1, -1, 1}, {-1, 1, 1}, {1, 1, -1}, {-1, -1, -1}};
    return (t[0] + sign[bell][0] * t[5] + sign[bell][1] * t[10] + sign[bell][2] * t[15]) / 4;
}

/* Whatever the placement: chances add up, the tensors are states of the fidelity stated, diagonal but for one
 * coherence. */
static struct qn_link_plan plan_of(const struct network *network) {
    struct qn_link_plan plan;
    cr_assert_eq(qn_link_plan(&network->topology, &network->link, &plan), 0);
    double sum = 0;
    for (int bell = 0; bell < 4; bell++) {
        sum += plan.bell_weight[bell];
        if (plan.bell_weight[bell] == 0) continue;
        const double *t = plan.tensor[bell];
        same("plan", "trace", t[0], 1);
        same("plan", "fidelity", tensor_fidelity(t, bell), plan.fidelity);
        for (int other = 0; other < 4; other++) cr_assert_geq(tensor_fidelity(t, other), -1e-12);
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 4; j++)
                if (i != j && !(i % 3 == 0 && j % 3 == 0)) cr_assert_eq(t[4 * i + j], 0);
    }
    same("plan", "weights", sum, 1);
    cr_assert_eq(plan.goodness, plan.fidelity);
    cr_assert_geq(plan.cycle_ns, 1);
    return plan;
}

static void single_ideal(struct value *value) {
    double alpha = param(value, "alpha"), eta = param(value, "eta");
    struct qn_herald herald = qn_single_click(alpha, alpha, eta, eta, 1, 0, 0),
                     faint = qn_single_click(alpha, alpha, 1e-12, 1e-12, 1, 0, 0);
    double rest = (herald.rho[0] + herald.rho[3]) / 2, other = (herald.rho[1] + herald.rho[2]) / 2 - herald.coherence;
    expect(value, "P_success", herald.probability);
    expect(value, "F", herald.fidelity);
    expect(value, "F_small_eta_limit", faint.fidelity);
    expect_array(value, "bell_diag_IXYZ_about_PsiPlus_frame", (const double[4]){herald.fidelity, rest, rest, other}, 4);
}

static void single_noisy(struct value *value) {
    double alpha = param(value, "alpha"), eta = param(value, "eta");
    struct qn_herald herald =
        qn_single_click(alpha, alpha, eta, eta, param(value, "V"), param(value, "p_dark_per_detector_per_window"), 0);
    expect(value, "P_success", herald.probability);
    expect(value, "F", herald.fidelity);
    expect_array(value, "rho_diag_00_01_10_11", herald.rho, 4);
    expect(value, "coherence_01_10", herald.coherence);
}

static void single_asymmetric(struct value *value) {
    struct qn_herald herald = qn_single_click(param(value, "alpha_A"), param(value, "alpha_B"), param(value, "eta_A"),
                                              param(value, "eta_B"), param(value, "V"), param(value, "p_dark"), 0);
    expect(value, "P_success", herald.probability);
    expect(value, "F", herald.fidelity);
}

static void double_click(struct value *value) {
    double eta = param(value, "eta_each_arm");
    struct qn_herald herald = qn_double_click(eta, eta, param(value, "V"), param(value, "p_dark"));
    expect(value, "P_success", herald.probability);
    expect(value, "F", herald.fidelity);
}

static void double_rate(struct value *value) {
    struct network network;
    network_init(&network, QN_PLACE_MIDPOINT, QN_MODEL_DOUBLE_CLICK, param(value, "L_km"));
    network.nodes[STATION].detector_efficiency = param(value, "eta_det_and_coupling");
    network.link.attempt_s = param(value, "t_prep_s");
    struct qn_link_plan plan = plan_of(&network);
    double cycle_s = (double)plan.cycle_ns * 1e-9;
    expect(value, "p", plan.probability);
    expect(value, "rate_Hz", plan.probability / cycle_s);
    expect(value, "mean_time_s", cycle_s / plan.probability);
}

static void single_rate(struct value *value) {
    struct network network;
    network_init(&network, QN_PLACE_MIDPOINT, QN_MODEL_SINGLE_CLICK, param(value, "L_km"));
    network.nodes[B].detector_efficiency = network.nodes[STATION].detector_efficiency = param(value, "eta_d");
    struct qn_link_plan plan = plan_of(&network);
    expect(value, "p_midpoint", plan.probability);
    expect(value, "rate_midpoint_Hz", plan.probability / ((double)plan.cycle_ns * 1e-9));
    network.link.placement = QN_PLACE_SENDER_RECEIVER;
    plan = plan_of(&network);
    expect(value, "sender_receiver_attempt_time_s", (double)plan.cycle_ns * 1e-9);
    expect(value, "p_sr_one_arm_eta_L_other_eta_d_exact", plan.probability);
}

static void single_published(struct value *value) {
    double alpha[2], rate[2], eta = param(value, "p_det");
    numbers(value, json_object_get(value->params, "alpha"), alpha, 2);
    numbers(value, json_object_get(value->left, "rate_Hz"), rate, 2);
    for (int i = 0; i < 2; i++) {
        double actual = qn_single_click(alpha[i], alpha[i], eta, eta, 1, 0, 0).probability / param(value, "attempt_s");
        near(value->name, "rate_Hz", actual, rate[i], 0.25 * rate[i]);
    }
    json_object_del(value->left, "rate_Hz");
}

static void linear_optics(struct value *value) {
    struct network network;
    network_init(&network, QN_PLACE_MIDPOINT, QN_MODEL_DOUBLE_CLICK, 0);
    struct qn_link_plan plan = plan_of(&network);
    expect(value, "P_success", plan.probability);
    cr_assert_eq(plan.bell_weight[2], 0.5); /* Psi+ and Psi- are identified. */
    cr_assert_eq(plan.bell_weight[3], 0.5);
    json_object_del(value->left, "identified");
}

Test(link, closed_forms_match_the_figures) {
    static const struct value_case cases[] = {
        {"single_click_ideal_", single_ideal},
        {"single_click_alpha", single_noisy},
        {"single_click_asymmetric", single_asymmetric},
        {"double_click_eta", double_click},
        {"double_click_rate_", double_rate},
        {"single_click_rate_", single_rate},
        {"humphreys2018_rate_order", single_published},
        {"bsm_linear_optics", linear_optics},
    };
    values_check("link", CASES(cases), 21);
}

Test(link, phase_noise_takes_coherence_only) {
    struct qn_herald still = qn_single_click(0.1, 0.1, 0.01, 0.01, 0.9, 1e-5, 0),
                     shaken = qn_single_click(0.1, 0.1, 0.01, 0.01, 0.9, 1e-5, 0.5);
    same("phase", "probability", shaken.probability, still.probability);
    same("phase", "coherence", shaken.coherence, still.coherence * exp(-0.125));
    same("phase", "fidelity", still.fidelity - shaken.fidelity, still.coherence - shaken.coherence);
}

/* Loss on one side only: the side that clicked is bright, and it is a that is named first. */
Test(link, tells_whose_photon_it_was) {
    struct qn_herald herald = qn_single_click(0.3, 0.2, 0.5, 0, 1, 0, 0);
    same("one arm", "01", herald.rho[1], 0);
    same("one arm", "10", herald.rho[2], 0.8);
    same("one arm", "11", herald.rho[3], 0.2);
    herald = qn_single_click(0.3, 0.2, 0, 0.5, 1, 0, 0);
    same("other arm", "01", herald.rho[1], 0.7);
    same("other arm", "10", herald.rho[2], 0);
}

Test(plan, of_an_ideal_link_is_what_it_was_told) {
    struct network network;
    network_init(&network, QN_PLACE_SENDER_RECEIVER, QN_MODEL_IDEAL, 20);
    struct qn_link_plan plan = plan_of(&network);
    cr_assert_eq(plan.probability, 0.5);
    cr_assert_eq(plan.fidelity, 0.9);
    cr_assert_eq(plan.bell_weight[0], 1);
    cr_assert_eq(plan.photon_a_ns, 100000);
    cr_assert_eq(plan.herald_a_ns, 100000);
    cr_assert_eq(plan.photon_b_ns, 0);
    cr_assert_eq(plan.herald_b_ns, 0);
    cr_assert_eq(plan.cycle_ns, 201000);
}

/* 20 km at 0.2 dB/km and 4 dB of insertion: 8 dB, half of it on each arm. */
Test(plan, of_a_midpoint_halves_way_and_loss) {
    struct network network;
    network_init(&network, QN_PLACE_MIDPOINT, QN_MODEL_DOUBLE_CLICK, 20);
    network.link.insertion_loss_db = 4;
    network.link.emission_efficiency = 0.5;
    network.link.visibility = 0.9;
    network.nodes[B].detector_efficiency = 0.01; /* Not the ones asked. */
    network.nodes[STATION].detector_efficiency = 0.8;
    network.nodes[STATION].dark_rate_hz = 1e4;
    network.nodes[STATION].gate_window_s = 1e-9;
    struct qn_link_plan plan = plan_of(&network);
    double eta = pow(10, -0.4) * 0.5 * 0.8;
    struct qn_herald herald = qn_double_click(eta, eta, 0.9, qn_dark_probability(1e4, 1e-9));
    same("midpoint", "probability", plan.probability, herald.probability);
    same("midpoint", "fidelity", plan.fidelity, herald.fidelity);
    cr_assert_eq(plan.photon_a_ns, 50000);
    cr_assert_eq(plan.photon_b_ns, 50000);
    cr_assert_eq(plan.herald_b_ns, 50000);
    cr_assert_eq(plan.cycle_ns, 101000);
    network.link.via = QN_NO_NODE; /* An analyser halfway that is no node of its own has the detectors stated at b. */
    network.nodes[B] = network.nodes[STATION];
    same("midpoint", "without a station", plan_of(&network).probability, plan.probability);
}

/* The state of asymmetric arms with darks is that of the closed form, element by element, and a comes first. */
Test(plan, of_an_analyser_at_b_is_asymmetric) {
    struct network network;
    network_init(&network, QN_PLACE_SENDER_RECEIVER, QN_MODEL_SINGLE_CLICK, 50);
    network.link.visibility = 0.8;
    network.nodes[B].detector_efficiency = 0.6;
    network.nodes[B].dark_rate_hz = 1e5;
    network.nodes[B].gate_window_s = 1e-8;
    struct qn_link_plan plan = plan_of(&network);
    struct qn_herald herald = qn_single_click(0.1, 0.01, 0.06, 0.6, 0.8, qn_dark_probability(1e5, 1e-8), 0);
    same("sender", "probability", plan.probability, herald.probability);
    for (int bell = 2; bell < 4; bell++) {
        const double *t = plan.tensor[bell], *rho = herald.rho;
        cr_assert_neq(t[3], t[12]);
        same("sender", "00", (t[0] + t[3] + t[12] + t[15]) / 4, rho[0]);
        same("sender", "01", (t[0] - t[3] + t[12] - t[15]) / 4, rho[1]);
        same("sender", "10", (t[0] + t[3] - t[12] - t[15]) / 4, rho[2]);
        same("sender", "11", (t[0] - t[3] - t[12] + t[15]) / 4, rho[3]);
        same("sender", "coherence", (t[5] + t[10]) / 4, bell == 2 ? herald.coherence : -herald.coherence);
    }
    cr_assert_eq(plan.cycle_ns, 501000);
}

Test(plan, of_a_double_click_keeps_the_weight_of_darks) {
    struct network network;
    network_init(&network, QN_PLACE_SENDER_RECEIVER, QN_MODEL_DOUBLE_CLICK, 50);
    network.nodes[B].dark_rate_hz = 1e6;
    network.nodes[B].gate_window_s = 1e-8;
    struct qn_link_plan plan = plan_of(&network);
    struct qn_herald herald = qn_double_click(0.1, 1, 1, qn_dark_probability(1e6, 1e-8));
    cr_assert_gt(herald.rho[0], 0.001);
    same("darks", "equal bits", (1 + plan.tensor[2][15]) / 2, herald.rho[0] + herald.rho[3]);
}

Test(plan, of_a_pair_source_waits_for_both_memories) {
    struct network network;
    network_init(&network, QN_PLACE_SOURCE, QN_MODEL_IDEAL, 20);
    network.link.emission_efficiency = 0.5;
    struct qn_link_plan plan = plan_of(&network);
    same("source", "probability", plan.probability, 0.5 * pow(10, -0.4) * 0.25);
    cr_assert_eq(plan.fidelity, 0.9);
    cr_assert_eq(plan.photon_a_ns, 50000);
    cr_assert_eq(plan.herald_a_ns, 50000);
    cr_assert_eq(plan.cycle_ns, 151000);
}

Test(plan, lasts_at_least_a_nanosecond) {
    struct network network;
    network_init(&network, QN_PLACE_SENDER_RECEIVER, QN_MODEL_IDEAL, 0);
    network.link.attempt_s = 0;
    cr_assert_eq(plan_of(&network).cycle_ns, 1);
}

Test(plan, is_refused_where_there_are_no_pairs) {
    struct network network;
    struct qn_link_plan plan = {.cycle_ns = 7};
    network_init(&network, QN_PLACE_SENDER_RECEIVER, QN_MODEL_IDEAL, 1);
    network.link.kind = QN_LINK_BB84;
    cr_assert_eq(qn_link_plan(&network.topology, &network.link, &plan), -QN_EUNSUPPORTED);
    network.link.kind = QN_LINK_ENTANGLEMENT;
    network.link.model = QN_MODEL_DOUBLE_CLICK;
    network.nodes[B].detector_efficiency = 0; /* Never clicks. */
    cr_assert_eq(qn_link_plan(&network.topology, &network.link, &plan), -QN_EUNSUPPORTED);
    cr_assert_eq(plan.cycle_ns, 7);
}

/* ---- pulses ---- */

struct count {
    uint64_t clicks, sifted, wrong, wrong_unsifted, bit_is_basis;
};

static void within(const char *what, uint64_t hits, uint64_t n, double p) {
    double mean = (double)n * p, sd = sqrt((double)n * p * (1 - p));
    cr_assert(fabs((double)hits - mean) <= 5 * sd + 1e-9, "seed %d: %s: %lu of %lu, not %g", SEED, what, hits, n, mean);
}

static struct count clicks_count(const struct qn_pulse_channel *channel, uint64_t pulses, uint64_t stream) {
    enum { BATCH = 4096 };
    static struct qn_click clicks[BATCH];
    struct count count = {0};
    struct qn_rng rng;
    qn_rng_init(&rng, SEED, "clicks", stream);
    for (uint64_t at = 0; at < pulses;) {
        size_t n = qn_pulse_detect(channel, key, at, pulses, &rng, clicks, BATCH, &at);
        for (size_t i = 0; i < n; i++) {
            struct qn_pulse pulse = qn_pulse_at(key, clicks[i].position);
            bool is_sifted = pulse.basis == clicks[i].basis;
            count.clicks++;
            count.sifted += is_sifted;
            count.wrong += is_sifted && pulse.bit != clicks[i].bit;
            count.wrong_unsifted += !is_sifted && pulse.bit != clicks[i].bit;
            count.bit_is_basis += clicks[i].bit == clicks[i].basis;
        }
    }
    return count;
}

static void sampled_as_closed(const struct qn_pulse_channel *channel, uint64_t pulses, uint64_t stream) {
    struct count count = clicks_count(channel, pulses, stream);
    within("gain", count.clicks, pulses, qn_pulse_gain(channel));
    within("sifted", count.sifted, count.clicks, 0.5);
    within("wrong", count.wrong, count.sifted, qn_pulse_qber(channel));
    within("wrong in the other basis", count.wrong_unsifted, count.clicks - count.sifted, 0.5);
    within("bits, whatever the basis", count.bit_is_basis, count.clicks, 0.5);
}

Test(pulse, clicks_have_the_gain_and_errors_of_the_closed_forms) {
    static const double eves[] = {0, 0.1, 0.5, 1}, means[] = {0, 0.48};
    for (size_t e = 0; e < 4; e++)
        for (size_t m = 0; m < 2; m++)
            for (int dense = 0; dense < 2; dense++) {
                struct qn_pulse_channel channel = {.transmittance = dense ? 0.3 : 3e-4,
                                                   .mean_photons = means[m],
                                                   .dark = dense ? 0.01 : 1e-5,
                                                   .misalignment = 0.033,
                                                   .eve = eves[e]};
                sampled_as_closed(&channel, (uint64_t)(2e5 / qn_pulse_gain(&channel)), 4 * e + 2 * m + (size_t)dense);
            }
}

/* Gobby, Yuan and Shields's system: the sampler itself, over as many pulses as give 2e5 clicks. */
static void gys(struct value *value) {
    struct qn_pulse_channel channel = {.transmittance =
                                           param(value, "eta_Bob") *
                                           qn_fibre_transmittance(param(value, "L_km"), param(value, "alpha_dB_km"), 0),
                                       .mean_photons = param(value, "mu"),
                                       .dark = param(value, "Y0") / 2,
                                       .misalignment = param(value, "e_d")};
    double gain = stated(value, "Q_exact_two_detector"), qber = stated(value, "E_exact_two_detector");
    uint64_t pulses = (uint64_t)(2e5 / gain);
    struct count count = clicks_count(&channel, pulses, (uint64_t)param(value, "L_km"));
    within(value->name, count.clicks, pulses, gain);
    within(value->name, count.wrong, count.sifted, qber);
    json_object_clear(value->left); /* The closed forms are compared in bell.c. */
}

Test(pulse, clicks_match_the_figures) {
    static const struct value_case cases[] = {{"gys_gain_qber_", gys}};
    values_check("qkd", CASES(cases), 9);
}

/* One pulse the long way: photons, loss, Eve's beam splitter between two perfect detectors, the detector's, and darks.
 */
static bool pulse_by_hand(const struct qn_pulse_channel *channel, struct qn_pulse pulse, uint8_t basis,
                          struct qn_rng *rng, uint8_t *ret_bit) {
    if (qn_rng_double(rng) < channel->eve) {
        uint8_t eve_basis = (uint8_t)qn_rng_below(rng, 2);
        if (eve_basis != pulse.basis)
            pulse = (struct qn_pulse){.bit = (uint8_t)qn_rng_below(rng, 2), .basis = eve_basis};
    }
    uint64_t photons = channel->mean_photons > 0 ? qn_rng_poisson(rng, channel->mean_photons) : 1;
    bool clicks[2] = {qn_rng_double(rng) < channel->dark, qn_rng_double(rng) < channel->dark};
    for (; photons > 0; photons--) {
        if (qn_rng_double(rng) >= channel->transmittance) continue;
        double flip = basis == pulse.basis ? channel->misalignment : 0.5;
        clicks[pulse.bit ^ (qn_rng_double(rng) < flip)] = true;
    }
    *ret_bit = clicks[0] && clicks[1] ? (uint8_t)qn_rng_below(rng, 2) : clicks[1];
    return clicks[0] || clicks[1];
}

Test(pulse, closed_forms_describe_photons) {
    enum { PULSES = 1000000 };
    static const struct qn_pulse_channel channels[] = {
        {.transmittance = 0.2, .mean_photons = 0.7, .dark = 0.02, .misalignment = 0.1, .eve = 0.4},
        {.transmittance = 0.9, .mean_photons = 3, .dark = 0.001, .misalignment = 0.02},
        {.transmittance = 0.5, .dark = 0.3, .misalignment = 0.3, .eve = 0.4},
        {.transmittance = 0.1, .dark = 0.4},
    };
    for (size_t c = 0; c < sizeof channels / sizeof *channels; c++) {
        struct qn_rng rng;
        struct count count = {0};
        uint64_t matched = 0, matched_clicks = 0;
        qn_rng_init(&rng, SEED, "photons", c);
        for (int i = 0; i < PULSES; i++) {
            struct qn_pulse pulse = {.bit = (uint8_t)qn_rng_below(&rng, 2), .basis = (uint8_t)qn_rng_below(&rng, 2)};
            uint8_t basis = (uint8_t)qn_rng_below(&rng, 2), bit;
            bool clicked = pulse_by_hand(&channels[c], pulse, basis, &rng, &bit);
            count.clicks += clicked;
            matched += basis == pulse.basis;
            matched_clicks += clicked && basis == pulse.basis;
            count.wrong += clicked && basis == pulse.basis && bit != pulse.bit;
        }
        within("gain", count.clicks, PULSES, qn_pulse_gain(&channels[c]));
        within("gain of equal bases", matched_clicks, matched, qn_pulse_gain(&channels[c]));
        within("errors", count.wrong, matched_clicks, qn_pulse_qber(&channels[c]));
    }
}

/* However the train is cut, and wherever a click falls in a block of the stream. */
Test(pulse, clicks_are_the_same_in_many_calls) {
    enum { MANY = 20000 };
    static struct qn_click all[MANY], some[MANY];
    static const double transmittances[] = {1, 0.3, 1e-4};
    for (size_t t = 0; t < 3; t++) {
        struct qn_pulse_channel channel = {.transmittance = transmittances[t], .misalignment = 0.1, .eve = 0.3};
        uint64_t pulses = (uint64_t)(9000 / transmittances[t]), next;
        struct qn_rng once, often;
        qn_rng_init(&once, SEED, "cut", t);
        often = once;
        size_t n = qn_pulse_detect(&channel, key, 0, pulses, &once, all, MANY, &next), m = 0;
        cr_assert_eq(next, pulses);
        cr_assert(n > 8000 && n < MANY);
        uint64_t at = 0;
        for (size_t max = 0; at < pulses; max = (max + 1) % 8) {
            size_t got = qn_pulse_detect(&channel, key, at, pulses, &often, some + m, max, &next);
            cr_assert(got <= max && next >= at);
            m += got;
            at = next;
        }
        cr_assert_eq(m, n);
        for (size_t i = 0; i < n; i++) {
            cr_assert(i == 0 || all[i].position > all[i - 1].position);
            cr_assert(all[i].position == some[i].position && all[i].bit == some[i].bit && all[i].basis == some[i].basis,
                      "click %zu", i);
        }
    }
}

/* Without noise, equal bases mean equal bits: the detector looks up what the source says it sent. */
Test(pulse, both_ends_read_one_stream) {
    enum { MANY = 20000 };
    static struct qn_click clicks[MANY];
    static const double transmittances[] = {1, 0.05, 1e-4, 1e-9};
    for (size_t t = 0; t < 4; t++) {
        struct qn_pulse_channel channel = {.transmittance = transmittances[t]};
        struct qn_rng rng;
        uint64_t next, sifted = 0;
        qn_rng_init(&rng, SEED, "stream", t);
        size_t n = qn_pulse_detect(&channel, key, 12345, UINT64_MAX, &rng, clicks, MANY, &next);
        cr_assert_eq(n, MANY);
        cr_assert_eq(next, clicks[n - 1].position + 1);
        for (size_t i = n; i-- > 0;) { /* Backwards: any order will do. */
            struct qn_pulse pulse = qn_pulse_at(key, clicks[i].position);
            if (pulse.basis != clicks[i].basis) continue;
            sifted++;
            cr_assert_eq(pulse.bit, clicks[i].bit, "pulse %lu", clicks[i].position);
        }
        within("sifted", sifted, n, 0.5);
    }
}

Test(pulse, stream_is_even_and_depends_on_all_of_the_key) {
    uint64_t n = 100000, bits = 0, bases = 0, both = 0, differ = 0;
    uint8_t other[32];
    memcpy(other, key, sizeof other);
    other[31] ^= 1;
    for (uint64_t i = 0; i < n; i++) {
        struct qn_pulse pulse = qn_pulse_at(key, i), strange = qn_pulse_at(other, i);
        cr_assert(pulse.bit <= 1 && pulse.basis <= 1);
        bits += pulse.bit;
        bases += pulse.basis;
        both += pulse.bit && pulse.basis;
        differ += pulse.bit != strange.bit;
    }
    within("bits", bits, n, 0.5);
    within("bases", bases, n, 0.5);
    within("both", both, n, 0.25);
    within("under another key", differ, n, 0.5);
}

/* The bytes both ends agreed on, in case they run different releases: ChaCha20 with a 64-bit nonce, block counter and
 * all. */
Test(pulse, stream_is_chacha20) {
    static const uint8_t nonce[8] = {'p', 'u', 'l', 's', 'e', 's', 0, 1};
    uint8_t bytes[64 * 20];
    cr_assert_eq(crypto_stream_chacha20(bytes, sizeof bytes, nonce, key), 0);
    for (uint64_t i = 0; i < 4 * sizeof bytes; i++) {
        struct qn_pulse pulse = qn_pulse_at(key, i);
        cr_assert_eq(pulse.bit, bytes[i / 4] >> (2 * (i % 4)) & 1);
        cr_assert_eq(pulse.basis, bytes[i / 4] >> (2 * (i % 4) + 1) & 1);
    }
}

Test(pulse, nothing_clicks_in_the_dark_without_darks) {
    struct qn_pulse_channel channel = {.mean_photons = 0.5};
    struct qn_click click;
    struct qn_rng rng;
    uint64_t next;
    qn_rng_init(&rng, SEED, "dark", 0);
    cr_assert_eq(qn_pulse_detect(&channel, key, 3, UINT64_MAX, &rng, &click, 1, &next), 0);
    cr_assert_eq(next, UINT64_MAX);
    cr_assert_eq(qn_pulse_gain(&channel), 0);
    cr_assert_eq(qn_pulse_qber(&channel), 0);
}

Test(pulse, channel_comes_from_the_topology) {
    struct network network;
    struct qn_pulse_channel channel;
    network_init(&network, QN_PLACE_SENDER_RECEIVER, QN_MODEL_IDEAL, 50);
    network.link.kind = QN_LINK_BB84;
    network.link.insertion_loss_db = 3;
    network.link.misalignment = 0.02;
    network.nodes[A].source = QN_SOURCE_WEAK_COHERENT;
    network.nodes[A].mean_photons = 0.4;
    network.nodes[B].detector_efficiency = 0.2;
    network.nodes[B].dark_rate_hz = 1000;
    network.nodes[B].gate_window_s = 1e-9;
    qn_pulse_channel_from(&network.topology, &network.link, 0.25, &channel);
    same("channel", "transmittance", channel.transmittance, 0.2 * pow(10, -1.3));
    same("channel", "dark", channel.dark, -expm1(-1e-6));
    cr_assert_eq(channel.mean_photons, 0.4);
    cr_assert_eq(channel.misalignment, 0.02);
    cr_assert_eq(channel.eve, 0.25);
    network.nodes[A].source = QN_SOURCE_SINGLE_PHOTON;
    qn_pulse_channel_from(&network.topology, &network.link, 0, &channel);
    cr_assert_eq(channel.mean_photons, 0);
}
