/* SPDX-License-Identifier: Apache-2.0 */
/* Teleportation through a Bell-diagonal pair: Bowen and Bose, PRL 87, 267901 (2001). Superdense coding: Hiroshima, J.
 * Phys. A 34, 6907 (2001). Key: Shor and Preskill, PRL 85, 441 (2000); six-state: Lo, Quantum Inf. Comput. 1, 81
 * (2001); device-independent: Acin et al., PRL 98, 230501 (2007). */
#include "link/application.h"

#include <math.h>

#include "link/bell.h"
#include "link/internal.h"

void qn_teleport_by_axis(const double p[4], double ret_zxy[3]) {
    double z = p[0] + p[3], x = p[0] + p[1], y = p[0] + p[2];
    ret_zxy[0] = z;
    ret_zxy[1] = x;
    ret_zxy[2] = y;
}

double qn_superdense_bit_error(const double p[4]) { return (p[1] + p[3]) / 2 + p[2]; }

double qn_superdense_information(const double p[4]) { return 2 - qn_bell_entropy(p); }

double qn_key_fraction(double qber_z, double qber_x) { return 1 - entropy_of_bit(qber_z) - entropy_of_bit(qber_x); }

double qn_key_fraction_six_state(const double p[4]) { return 1 - qn_bell_entropy(p); }

double qn_key_fraction_device_independent(double qber, double s) {
    double sine = s > 2 ? sqrt(s * s / 4 - 1) : 0;
    return 1 - entropy_of_bit(qber) - entropy_of_bit((1 + sine) / 2);
}

double qn_ghz_fidelity(unsigned n, unsigned noisy, double w) {
    /* Populations: no qubit flipped, or all of them. Coherence: every channel keeps w of it. */
    double none = pow((1 + w) / 2, noisy), all = noisy == n ? pow((1 - w) / 2, n) : 0;
    return (none + all + pow(w, noisy)) / 2;
}

/* Two phase errors cancel; any other error shows. */
double qn_ghz_fused(const double p[4], const double q[4]) { return p[0] * q[0] + p[3] * q[3]; }
