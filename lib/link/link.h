/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_LINK_LINK_H
#define QN_LINK_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/rng.h"
#include "topology/topology.h"

/* What one entanglement link does, computed once from the topology: chance, time and state of a heralded pair.
 * Formulas and papers: physics.md B.6, Barrett and Kok PRA 71 060310 (2005); Cabrillo et al. PRA 59 1025 (1999). */
struct qn_link_plan {
    double probability;      /* Success of one attempt. */
    uint64_t cycle_ns;       /* Time of one attempt, at least 1. */
    uint64_t herald_a_ns;    /* Herald's way from the station to a and to b. */
    uint64_t herald_b_ns;
    uint64_t photon_a_ns;    /* Photon's way. */
    uint64_t photon_b_ns;
    double fidelity;         /* Of the heralded state with its Bell state. */
    double bell_weight[4];   /* Chance that the herald names each Bell index. */
    double tensor[4][16];    /* Two-qubit Pauli tensor (a first) for each Bell index heralded; not corrected. */
    double goodness;         /* Estimate told to the ends: fidelity. */
};

/* -QN_EUNSUPPORTED if the link is not an entanglement link. */
int qn_link_plan(const struct qn_topology *topology, const struct qn_topo_link *link, struct qn_link_plan *ret_plan);

/* Closed forms (each cites its source in the .c). */
double qn_fibre_transmittance(double length_km, double loss_db_km, double insertion_loss_db);
struct qn_herald { double probability, fidelity, rho[4], coherence; /* P00 P01 P10 P11 / P, |01><10| coherence / P */ };
struct qn_herald qn_single_click(double alpha_a, double alpha_b, double eta_a, double eta_b, double visibility, double dark, double phase_sigma);
struct qn_herald qn_double_click(double eta_a, double eta_b, double visibility, double dark);

#endif
