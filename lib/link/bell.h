/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_LINK_BELL_H
#define QN_LINK_BELL_H

/* Bell-diagonal and Werner algebra: closed forms (papers in the .c). Weights p[4] are in the order Phi+, Psi+, Psi-,
 * Phi- = I, X, Y, Z on one half, which is not the order of Bell indices. Fidelities are with Phi+. */
double qn_werner_parameter(double fidelity); /* w = (4F-1)/3 */
double qn_werner_fidelity(double w);
void qn_bell_werner(double fidelity, double ret_p[4]);
void qn_bell_correlations(const double p[4], double ret_xyz[3]); /* <XX>, <YY>, <ZZ> */
double qn_bell_entropy(const double p[4]);                       /* Bits. */

/* Swapping with a perfect Bell measurement, or with one after a two-qubit depolarising channel (`depolarise` is the
 * weight of the mixed state) and with each bit read wrongly with probability `readout`. `ret` may be p or q, here and
 * below. */
void qn_bell_swap(const double p[4], const double q[4], double ret[4]);
void qn_bell_swap_noisy(const double p[4], const double q[4], double depolarise, double readout, double ret[4]);
double qn_chain_fidelity(double link_fidelity, unsigned repeaters);

/* Distillation of two pairs into one. DEJMPS keeps p and measures q; returns the probability of success. */
double qn_bbpssw(double fidelity, double *ret_probability); /* Fidelity after one round. */
double qn_dejmps(const double p[4], const double q[4], double ret[4]);
double qn_dejmps_noisy(const double p[4], const double q[4], double readout, double ret[4]);

double qn_teleport_fidelity(double pair_fidelity); /* (2F+1)/3 */
double qn_chsh_werner(double fidelity);            /* 2 sqrt2 (4F-1)/3 */
double qn_chsh_max(const double p[4]);
void qn_bell_qber(const double p[4], double ret_zxy[3]);

/* Fidelity of a stored pair: with Phi+ or Psi+ (whichever it was) if both halves wait, with Phi+ if one waits. Times of
 * 0: no such decay; T2 <= 2 T1 is the caller's duty. */
void qn_memory_fidelity(double t_s, double t1_s, double t2_s, double *ret_phi_both, double *ret_psi_both,
                        double *ret_phi_one);
/* The Pauli channel with the same diagonal (I, X, Y, Z). */
void qn_memory_twirl(double t_s, double t1_s, double t2_s, double ret_p[4]);

/* Waiting, in attempts; p is the chance of one attempt, in (0, 1]. */
double qn_wait_max_geometric(unsigned n, double p); /* Mean of the largest of n geometric waits. */
double qn_wait_within(double p, unsigned attempts); /* Chance of success within so many. */
double qn_wait_coherence(double p, double x);       /* E[x^|k1-k2|] */
double qn_wait_cutoff(double p, unsigned cutoff);   /* Mean attempts for two links, both restarted at the cut-off. */

#endif
