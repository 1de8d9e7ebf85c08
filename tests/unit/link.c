/* SPDX-License-Identifier: Apache-2.0 */
/* Heralded links against the figures of data/check-values.json, their plans in each placement, and the clicks of BB84
 * pulses against a simulation photon by photon. Random tests are bounded at five standard deviations. */
#include "values.h"

#include <stdlib.h>

#include "base/err.h"
#include "link/detect.h"
#include "link/detector.h"
#include "link/link.h"

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

/* Gobby, Yuan and Shields's system: the sampler itself, over as many pulses as give 2e5 clicks. More in pulses.c. */
static void gys(struct value *value) {
    enum { ROOM = 256 * 1024 };
    static uint32_t offset[ROOM];
    static uint64_t basis[ROOM / 64], bit[ROOM / 64], sent_basis[ROOM / 64], sent_bit[ROOM / 64];
    double dark = param(value, "Y0") / 2, eta = param(value, "eta_Bob");
    struct qn_source source = {.n = 1, .mean = {param(value, "mu")}, .probability = {1}, .test_basis = 0.5};
    struct qn_receiver receiver = {.transmittance =
                                       qn_fibre_transmittance(param(value, "L_km"), param(value, "alpha_dB_km"), 0),
                                   .misalignment = param(value, "e_d"),
                                   .efficiency = {eta, eta},
                                   .dark = {dark, dark},
                                   .kept = 1,
                                   .test_basis = 0.5,
                                   .pixels = 1};
    struct qn_optics optics;
    cr_assert_eq(qn_source_settle(&source), 0);
    cr_assert_eq(qn_optics_init(&optics, &source, &receiver, &(struct qn_attack){0}), 0);
    double gain = stated(value, "Q_exact_two_detector"), qber = stated(value, "E_exact_two_detector");
    uint64_t next = 0, pulses = (uint64_t)(2e5 / gain), sifted = 0, wrong = 0;
    if (pulses > UINT64_C(1) << 32) pulses = UINT64_C(1) << 32;
    struct qn_detections found = {.offset = offset, .basis = basis, .bit = bit, .cap = ROOM};
    struct qn_detector *detector = qn_detector_new();
    struct qn_stream stream;
    qn_detector_start(detector, &optics, key, SEED, (uint64_t)param(value, "L_km"));
    qn_detector_run(detector, 0, &next, pulses, &found);
    cr_assert_eq(next, pulses);
    qn_detector_free(detector);
    qn_stream_init(&stream, key);
    const struct qn_choice_planes planes = {.bit = sent_bit, .basis = sent_basis};
    qn_choices_at(&stream, &source, 0, offset, found.len, &planes);
    for (size_t w = 0; w < (found.len + 63) / 64; w++) {
        uint64_t used = found.len - 64 * w < 64 ? (UINT64_C(1) << (found.len - 64 * w)) - 1 : UINT64_MAX;
        uint64_t equal = ~(basis[w] ^ sent_basis[w]) & used;
        sifted += (unsigned)__builtin_popcountll(equal);
        wrong += (unsigned)__builtin_popcountll((bit[w] ^ sent_bit[w]) & equal);
    }
    double n = (double)found.len, sigma = sqrt(n), sigma_wrong = sqrt((double)sifted * qber * (1 - qber));
    near(value->name, "clicks", n, (double)pulses * gain, 5 * sigma);
    near(value->name, "wrong", (double)wrong, (double)sifted * qber, 5 * sigma_wrong);
    near(value->name, "sifted", (double)sifted, n / 2, 2.5 * sigma);
    json_object_clear(value->left); /* The closed forms are compared in bell.c. */
}

Test(pulse, clicks_match_the_figures) {
    static const struct value_case cases[] = {{"gys_gain_qber_", gys}};
    values_check("qkd", CASES(cases), 9);
}
