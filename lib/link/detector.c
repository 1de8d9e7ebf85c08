/* SPDX-License-Identifier: Apache-2.0 */
/* Dead time: renewal theory, Mueller, Nucl. Instrum. Methods 112, 47 (1973). Afterpulses: the stationary state of the
 * Markov chain in which a click repeats itself in the next gate; on the effect, Zhang, Itzler, Zbinden and Pan, Light
 * Sci. Appl. 4, e286 (2015). */
#include "link/detector.h"

#include <math.h>

double qn_dark_probability(double rate_hz, double window_s) { return -expm1(-rate_hz * window_s); }

double qn_dead_time_rate(double rate_hz, double dead_s) { return rate_hz / (1 + rate_hz * dead_s); }

double qn_dead_time_variance(double rate_hz, double dead_s, double t_s) {
    double loss = 1 + rate_hz * dead_s;
    return rate_hz * t_s / (loss * loss * loss);
}

double qn_afterpulse_probability(double click, double afterpulse) { return click / (1 - afterpulse * (1 - click)); }

double qn_jitter_kept(double sigma_s, double gate_s) { return sigma_s > 0 ? erf(gate_s / (2 * M_SQRT2 * sigma_s)) : 1; }
