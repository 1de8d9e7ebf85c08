/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_LINK_WCP_H
#define QN_LINK_WCP_H

/* Weak coherent pulses and decoy states, asymptotic: the closed forms of the literature, with which its figures are
 * drawn. They take the two detectors as one with twice the dark counts; link/observe.h has the exact forms. Ma, Qi,
 * Zhao and Lo, PRA 72, 012326 (2005); equations are numbered as there. */
struct qn_wcp {
    double transmittance; /* Fibre x receiver x detector. */
    double vacuum_yield;  /* Y0: chance of a click without light, both detectors. */
    double misalignment;
};

double qn_wcp_photons(double mean, unsigned n); /* Chance of n photons in a pulse. */
double qn_wcp_gain(const struct qn_wcp *channel, double mean);
double qn_wcp_qber(const struct qn_wcp *channel, double mean);
double qn_wcp_single_yield(const struct qn_wcp *channel); /* Y1, of pulses with one photon. */
double qn_wcp_single_qber(const struct qn_wcp *channel);  /* e1 */

/* From gain and error rate at two intensities, signal > decoy, and an exactly known Y0: a lower bound of Y1 (eq. 34)
 * and an upper bound of e1 (eq. 37). */
void qn_wcp_decoy_bounds(double signal, double signal_gain, double decoy, double decoy_gain, double decoy_qber,
                         double vacuum_yield, double *ret_yield, double *ret_qber);

/* The same from two weak decoys, strong + weak < signal, which also bound Y0 from below (eq. 21, 25). */
void qn_wcp_two_decoy_bounds(double signal, double signal_gain, double strong, double strong_gain, double strong_qber,
                             double weak, double weak_gain, double weak_qber, double *ret_yield, double *ret_qber);
/* From one decoy and no vacuum: Y0 is at most what the decoy's errors allow, and at least 0. */
void qn_wcp_one_decoy_bounds(double signal, double signal_gain, double decoy, double decoy_gain, double decoy_qber,
                             double *ret_yield, double *ret_qber);

/* Secret bits a pulse (eq. 1), half of the clicks being sifted away; negative if there are none. `inefficiency` is that
 * of error correction, 1 at Shannon's limit. The second takes Y1 and e1 as the channel has them: infinitely many
 * decoys. */
double qn_wcp_key_rate(double mean, double gain, double qber, double single_yield, double single_qber,
                       double inefficiency);
double qn_wcp_key_rate_limit(const struct qn_wcp *channel, double mean, double inefficiency);
/* The mean that gives most without dark counts, over a long fibre. */
double qn_wcp_best_mean(double misalignment, double inefficiency);

#endif
