/* SPDX-License-Identifier: Apache-2.0 */
/* Single click: Cabrillo, Cirac, Garcia-Fernandez and Zoller, PRA 59, 1025 (1999); demonstrated by Humphreys et al.,
 * Nature 558, 268 (2018). Double click: Barrett and Kok, PRA 71, 060310 (2005). Both are extended here to unequal arms,
 * threshold detectors with dark counts and partial distinguishability: exact in the photon number, a herald being
 * exactly one click in each window. Placements: Jones, Kim, Rakher, Kwiat and Ladd, New J. Phys. 18, 083015 (2016). */
#include "link/link.h"

#include <assert.h>
#include <math.h>

#include "base/err.h"
#include "link/bell.h"
#include "link/detector.h"

double qn_fibre_transmittance(double length_km, double loss_db_km, double insertion_loss_db) {
    return pow(10, -(loss_db_km * length_km + insertion_loss_db) / 10);
}

/* Chances of exactly one click in a window, by what was sent. */
struct window {
    double none; /* No photon: one dark count. */
    double one_a, one_b;
    double both; /* Photons from a and b, which bunch as far as they are indistinguishable. */
};

static struct window window_of(double eta_a, double eta_b, double visibility, double dark) {
    double quiet = 1 - dark, none = 2 * dark * quiet;
    return (struct window){
        .none = none,
        .one_a = eta_a * quiet + (1 - eta_a) * none,
        .one_b = eta_b * quiet + (1 - eta_b) * none,
        .both = (eta_a * eta_b * (1 + visibility) / 2 + eta_a * (1 - eta_b) + eta_b * (1 - eta_a)) * quiet +
                (1 - eta_a) * (1 - eta_b) * none,
    };
}

/* From the unnormalised populations and coherence of a success. */
static struct qn_herald herald_of(const double rho[4], double coherence) {
    struct qn_herald herald = {.probability = rho[0] + rho[1] + rho[2] + rho[3]};
    if (!(herald.probability > 0)) return (struct qn_herald){0};
    for (int i = 0; i < 4; i++) herald.rho[i] = rho[i] / herald.probability;
    herald.coherence = coherence / herald.probability;
    herald.fidelity = (herald.rho[1] + herald.rho[2]) / 2 + herald.coherence;
    return herald;
}

struct qn_herald qn_single_click(double alpha_a, double alpha_b, double eta_a, double eta_b, double visibility,
                                 double dark, double phase_sigma) {
    struct window w = window_of(eta_a, eta_b, visibility, dark);
    double dim_a = 1 - alpha_a, dim_b = 1 - alpha_b;
    double rho[4] = {dim_a * dim_b * w.none, dim_a * alpha_b * w.one_b, alpha_a * dim_b * w.one_a,
                     alpha_a * alpha_b * w.both};
    /* Only a photon that did arrive, and no dark count with it, leaves its origin unknown. */
    double coherence = sqrt(alpha_a * dim_a * alpha_b * dim_b * eta_a * eta_b * visibility) * (1 - dark);
    return herald_of(rho, coherence * exp(-phase_sigma * phase_sigma / 2));
}

struct qn_herald qn_double_click(double eta_a, double eta_b, double visibility, double dark) {
    struct window w = window_of(eta_a, eta_b, visibility, dark);
    /* Each memory is in either state with chance 1/2, and emits in the first window or the second accordingly. */
    double differ = w.one_a * w.one_b / 4, same = w.both * w.none / 4, quiet = 1 - dark;
    return herald_of((const double[4]){same, differ, differ, same}, eta_a * eta_b * visibility * quiet * quiet / 4);
}

/* Tr[rho s_i x s_j], the s being I, X, Y, Z. */
static void herald_tensor(const struct qn_herald *herald, double sign, double ret[16]) {
    const double *p = herald->rho;
    ret[0] = 1;
    ret[3] = p[0] - p[1] + p[2] - p[3];
    ret[12] = p[0] + p[1] - p[2] - p[3];
    ret[15] = p[0] - p[1] - p[2] + p[3];
    ret[5] = ret[10] = 2 * sign * herald->coherence;
}

static void plan_herald(const struct qn_herald *herald, struct qn_link_plan *plan) {
    plan->probability = herald->probability;
    plan->fidelity = herald->fidelity;
    for (int bell = 2; bell < 4; bell++) { /* Psi+, Psi-: all that linear optics tells apart. */
        plan->bell_weight[bell] = 0.5;
        herald_tensor(herald, bell == 2 ? 1 : -1, plan->tensor[bell]);
    }
}

static void plan_werner(double fidelity, double probability, struct qn_link_plan *plan) {
    double p[4], t[3];
    qn_bell_werner(fidelity, p);
    qn_bell_correlations(p, t);
    plan->probability = probability;
    plan->fidelity = fidelity;
    plan->bell_weight[0] = 1;
    plan->tensor[0][0] = 1;
    for (int i = 0; i < 3; i++) plan->tensor[0][5 * (i + 1)] = t[i];
}

static uint64_t ns_of(double seconds) {
    assert(seconds >= 0 && seconds < 1e9);
    return (uint64_t)(seconds * 1e9 + 0.5);
}

static uint64_t later(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* From an end to the station, over this share of the link. */
static double arm_transmittance(const struct qn_topo_link *link, double share) {
    double fibre = qn_fibre_transmittance(link->length_km * share, link->loss_db_km, link->insertion_loss_db * share);
    return fibre * link->emission_efficiency;
}

static void plan_clicks(const struct qn_topology *topology, const struct qn_topo_link *link, double eta_a, double eta_b,
                        struct qn_link_plan *plan) {
    bool is_between = link->placement == QN_PLACE_MIDPOINT && link->via != QN_NO_NODE;
    const struct qn_topo_node *analyser = &topology->nodes[is_between ? link->via : link->b];
    double dark = qn_dark_probability(analyser->dark_rate_hz, analyser->gate_window_s);
    eta_a *= analyser->detector_efficiency;
    eta_b *= analyser->detector_efficiency;
    struct qn_herald herald;
    if (link->model == QN_MODEL_DOUBLE_CLICK) {
        herald = qn_double_click(eta_a, eta_b, link->visibility, dark);
    } else {
        /* The arm of b is never the worse: b is dimmed until either photon is as likely to be the one that clicked. */
        double alpha_b = eta_b > 0 ? link->alpha * eta_a / eta_b : link->alpha;
        herald = qn_single_click(link->alpha, alpha_b, eta_a, eta_b, link->visibility, dark, 0);
    }
    plan_herald(&herald, plan);
}

int qn_link_plan(const struct qn_topology *topology, const struct qn_topo_link *link, struct qn_link_plan *ret_plan) {
    if (link->kind != QN_LINK_ENTANGLEMENT) return -QN_EUNSUPPORTED;
    assert(link->light_speed_km_s > 0);
    double share_a = link->placement == QN_PLACE_SENDER_RECEIVER ? 1 : 0.5, share_b = 1 - share_a;
    double eta_a = arm_transmittance(link, share_a), eta_b = arm_transmittance(link, share_b);
    struct qn_link_plan plan = {0};

    if (link->placement == QN_PLACE_SOURCE)
        plan_werner(link->fidelity, link->probability * eta_a * eta_b, &plan);
    else if (link->model == QN_MODEL_IDEAL)
        plan_werner(link->fidelity, link->probability, &plan);
    else
        plan_clicks(topology, link, eta_a, eta_b, &plan);
    if (!(plan.probability > 0)) return -QN_EUNSUPPORTED;
    plan.goodness = plan.fidelity;

    double light_s = link->length_km / link->light_speed_km_s;
    plan.photon_a_ns = plan.herald_a_ns = ns_of(light_s * share_a);
    plan.photon_b_ns = plan.herald_b_ns = ns_of(light_s * share_b);
    uint64_t way = later(plan.photon_a_ns, plan.photon_b_ns);
    /* A pair source must first hear from the memories. */
    uint64_t ways = link->placement == QN_PLACE_SOURCE ? 3 : 2;
    plan.cycle_ns = later(ns_of(link->attempt_s) + ways * way, 1);
    *ret_plan = plan;
    return 0;
}
