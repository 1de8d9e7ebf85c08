/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_LINK_DETECTOR_H
#define QN_LINK_DETECTOR_H

/* Threshold detectors: closed forms. */
double qn_dark_probability(double rate_hz, double window_s); /* Of a dark count in one window. */
/* A detector blind for `dead_s` after each count, however many photons come meanwhile (not paralysable). */
double qn_dead_time_rate(double rate_hz, double dead_s);                 /* Of the counts. */
double qn_dead_time_variance(double rate_hz, double dead_s, double t_s); /* Of their number in t_s. */
/* Gated: of a click, if one brings another in the next gate with probability `afterpulse`. */
double qn_afterpulse_probability(double click, double afterpulse);
double qn_jitter_kept(double sigma_s, double gate_s); /* Share of a Gaussian arrival inside its gate. */

#endif
