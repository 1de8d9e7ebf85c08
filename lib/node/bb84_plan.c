/* SPDX-License-Identifier: Apache-2.0 */
#include "node/bb84_plan.h"

#include <math.h>

#include "base/err.h"

#define INEFFICIENCY 1.16 /* What the literature assumes; reconciliation here does better. */
#define WEAKEST 2e-4      /* Of three intensities: what an intensity modulator leaves of a pulse (Lim et al., 2014). */

static struct qn_plan_link plan_link(const struct qn_receiver *receiver) {
    double efficiency = (receiver->efficiency[0] + receiver->efficiency[1]) / 2;
    double a = receiver->afterpulse, d0 = receiver->dark[0], d1 = receiver->dark[1];
    return (struct qn_plan_link){
        .transmittance = receiver->transmittance * receiver->kept * efficiency,
        .vacuum_yield = d0 + d1 - d0 * d1,
        .misalignment = receiver->misalignment,
        .background = a / (1 - a),
        .dead_pulses = receiver->dead_pulses,
        .dead_share = receiver->dead_scope == QN_DEAD_RECEIVER ? 1 : 0.5 / receiver->pixels,
        .inefficiency = INEFFICIENCY,
    };
}

static double hundredths(double x) { return round(x * 100) / 100; }

/* Settings that a person could have written. */
static void settings_round(struct qn_plan *plan) {
    struct qn_decoy *source = &plan->source;
    plan->key_basis = hundredths(plan->key_basis);
    for (unsigned k = 0; k < 2; k++) source->mean[k] = fmax(hundredths(source->mean[k]), 0.01);
    double rest = 1;
    for (unsigned k = 0; k + 1 < source->n; k++) {
        source->probability[k] = fmax(hundredths(source->probability[k]), 0.01);
        rest -= source->probability[k];
    }
    source->probability[source->n - 1] = rest;
}

int bb84_plan(const struct qn_topology *topology, const struct qn_topo_link *link, double block_size,
              struct qn_source *ret_source, struct qn_receiver *ret_receiver, struct qn_plan *ret_plan) {
    struct qn_finite_terms terms = {.eps_sec = link->eps_sec, .eps_cor = link->eps_cor};
    bool is_chosen = qn_source_from(topology, link, ret_source);
    qn_receiver_from(topology, link, ret_receiver);
    *ret_plan = (struct qn_plan){.key_basis = 1 - ret_receiver->test_basis,
                                 .block_size = link->block_size > 0 ? link->block_size : block_size};
    if (link->protocol == QN_PROTOCOL_PLAIN) return 0;
    struct qn_plan_link channel = plan_link(ret_receiver);
    ret_plan->source.n = link->protocol == QN_PROTOCOL_ONE_DECOY ? 2 : 3;
    if (!is_chosen) {
        (void)qn_plan_optimise(&channel, &terms, WEAKEST, ret_plan);
        settings_round(ret_plan);
        if (link->key_basis > 0) ret_plan->key_basis = link->key_basis;
    }
    for (unsigned k = 0; k < ret_plan->source.n && link->intensities.n > 0; k++) {
        ret_plan->source.mean[k] = link->intensities.value[k];
        ret_plan->source.probability[k] = link->probabilities.value[k];
    }
    ret_source->n = ret_plan->source.n;
    ret_source->test_basis = 1 - ret_plan->key_basis;
    for (unsigned k = 0; k < ret_source->n; k++) {
        ret_source->mean[k] = ret_plan->source.mean[k];
        ret_source->probability[k] = ret_plan->source.probability[k];
    }
    int rc = qn_source_settle(ret_source);
    if (rc < 0) return rc;
    ret_receiver->test_basis = ret_source->test_basis; /* Settling has rounded. */
    ret_plan->key_basis = 1 - ret_source->test_basis;
    for (unsigned k = 0; k < ret_source->n; k++) ret_plan->source.probability[k] = ret_source->probability[k];
    qn_plan_evaluate(&channel, &terms, ret_plan);
    return ret_plan->rate > 0 ? 0 : -QN_ENO_KEY;
}
