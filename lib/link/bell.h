/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_LINK_BELL_H
#define QN_LINK_BELL_H

/* Bell-diagonal and Werner algebra: closed forms (physics.md B.4, B.5, B.7, B.8; papers in the .c). Weights p[4] are in the
 * order Phi+, Psi+, Psi-, Phi- = I, X, Y, Z on one half. Fidelities are with Phi+. */
double qn_werner_parameter(double fidelity);                     /* w = (4F-1)/3 */
double qn_werner_fidelity(double w);
void qn_bell_werner(double fidelity, double ret_p[4]);
void qn_bell_swap(const double p[4], const double q[4], double ret[4]);
void qn_bell_swap_noisy(const double p[4], const double q[4], double depolarise, double readout, double ret[4]);
double qn_chain_fidelity(double link_fidelity, unsigned repeaters);
double qn_bbpssw(double fidelity, double *ret_probability);      /* Fidelity after one round. */
double qn_dejmps(const double p[4], const double q[4], double ret[4]); /* Probability of success. */
double qn_teleport_fidelity(double pair_fidelity);               /* (2F+1)/3 */
double qn_chsh_werner(double fidelity);                          /* 2 sqrt2 (4F-1)/3 */
double qn_chsh_max(const double p[4]);
void qn_bell_qber(const double p[4], double ret_zxy[3]);
void qn_memory_fidelity(double t_s, double t1_s, double t2_s, double *ret_phi_both, double *ret_psi_both, double *ret_phi_one);
double qn_binary_entropy(double x);
double qn_wait_max_geometric(unsigned n, double p);              /* Mean of the largest of n geometric waits. */
double qn_wait_coherence(double p, double x);                    /* E[x^|k1-k2|] */
double qn_wait_cutoff(double p, unsigned cutoff);                /* Mean attempts for two links, both restarted at the cut-off. */

#endif
