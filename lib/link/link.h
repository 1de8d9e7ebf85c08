/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_LINK_LINK_H
#define QN_LINK_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "topology/topology.h"

/* What one entanglement link does, computed once from the topology: chance, time and state of a heralded pair. The
 * station is the Bell-state analyser, or the pair source: at b, or halfway. States are as heralded, not corrected.
 * Whatever the link loses is shared by its two arms as its length is; each arm also loses at its end's emission (or
 * absorption) and, at an analyser, at the detectors.
 * An attempt lasts attempt_s, the longer photon's way, and the longer way of the news: that is L/c from a midpoint,
 * 2 L/c for an analyser at b, and 3/2 L/c for a pair source, which learns from both memories what arrived and tells
 * both. */
struct qn_link_plan {
    double probability;   /* Success of one attempt. */
    uint64_t cycle_ns;    /* Time of one attempt, at least 1. */
    uint64_t herald_a_ns; /* Herald's way from the station to a and to b. */
    uint64_t herald_b_ns;
    uint64_t photon_a_ns; /* Photon's way. */
    uint64_t photon_b_ns;
    double fidelity;       /* Of the heralded state with its Bell state. */
    double bell_weight[4]; /* Chance that the herald names each Bell index. */
    double tensor[4][16];  /* Two-qubit Pauli tensor (a first) by the Bell index heralded; 0 if it never is. */
    double goodness;       /* Estimate told to the ends: fidelity. */
};

/* -QN_EUNSUPPORTED if the link is not an entanglement link, or can never succeed. */
int qn_link_plan(const struct qn_topology *topology, const struct qn_topo_link *link, struct qn_link_plan *ret_plan);

/* Closed forms (each cites its source in the .c). */
double qn_fibre_transmittance(double length_km, double loss_db_km, double insertion_loss_db);

/* A heralded state: diagonal in |00>, |01>, |10>, |11> (a first, 1 is the bright state), and a coherence between |01>
 * and |10> whose sign is that of the herald, + for Psi+. Both heralds are equally likely. */
struct qn_herald {
    double probability, fidelity, rho[4], coherence;
};
/* alpha: population of the bright state. eta: whole efficiency of an arm. dark: per detector and window. phase_sigma:
 * of the optical phase between the arms, in radians. */
struct qn_herald qn_single_click(double alpha_a, double alpha_b, double eta_a, double eta_b, double visibility,
                                 double dark, double phase_sigma);
struct qn_herald qn_double_click(double eta_a, double eta_b, double visibility, double dark);

#endif
