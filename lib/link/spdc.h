/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_LINK_SPDC_H
#define QN_LINK_SPDC_H

/* Photon pairs from parametric down-conversion: closed forms. */
double qn_spdc_thermal(double mean, unsigned n);     /* One mode: chance of n pairs. */
double qn_spdc_car(double mean);                     /* One mode: coincidences to accidentals, no darks, much loss. */
double qn_spdc_polarised(double lambda, unsigned n); /* Polarisation-entangled, mean 2 lambda: chance of n pairs. */

/* Both halves of polarisation-entangled pairs measured in equal bases. */
struct qn_spdc {
    double lambda; /* Half the mean number of pairs. */
    double eta_a, eta_b;
    double vacuum_a, vacuum_b; /* Chance of a click without light, both detectors of that side. */
    double misalignment;
};
double qn_spdc_gain(const struct qn_spdc *source); /* Chance of a coincidence. */
double qn_spdc_qber(const struct qn_spdc *source);

#endif
