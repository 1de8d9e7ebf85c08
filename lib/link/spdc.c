/* SPDX-License-Identifier: Apache-2.0 */
/* Ma, Fung and Lo, PRA 76, 012307 (2007). */
#include "link/spdc.h"

#include <math.h>

double qn_spdc_thermal(double mean, unsigned n) { return pow(mean / (1 + mean), n) / (1 + mean); }

/* <n^2> / <n>^2 of the thermal distribution. */
double qn_spdc_car(double mean) { return 2 + 1 / mean; }

double qn_spdc_polarised(double lambda, unsigned n) {
    return (n + 1) * pow(lambda / (1 + lambda), n) / ((1 + lambda) * (1 + lambda));
}

/* Chance that no photon is counted on a side that sees each pair with this efficiency. */
static double dark_chance(double lambda, double eta) { return 1 / ((1 + eta * lambda) * (1 + eta * lambda)); }

static double either(const struct qn_spdc *source) {
    return source->eta_a + source->eta_b - source->eta_a * source->eta_b;
}

double qn_spdc_gain(const struct qn_spdc *source) {
    double quiet_a = 1 - source->vacuum_a, quiet_b = 1 - source->vacuum_b, lambda = source->lambda;
    return 1 - quiet_a * dark_chance(lambda, source->eta_a) - quiet_b * dark_chance(lambda, source->eta_b) +
           quiet_a * quiet_b * dark_chance(lambda, either(source));
}

double qn_spdc_qber(const struct qn_spdc *source) {
    double a = source->eta_a, b = source->eta_b, lambda = source->lambda;
    double paired =
        a * b * lambda * (1 + lambda) / ((1 + a * lambda) * (1 + b * lambda) * (1 + either(source) * lambda));
    return 0.5 - (1 - 2 * source->misalignment) * paired / qn_spdc_gain(source);
}
