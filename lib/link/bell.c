/* SPDX-License-Identifier: Apache-2.0 */
/* Werner: Phys. Rev. A 40, 4277 (1989). Swapping: Briegel, Duer, Cirac and Zoller, PRL 81, 5932 (1998), and with noise
 * Duer et al., PRA 59, 169 (1999). BBPSSW: Bennett et al., PRL 76, 722 (1996). DEJMPS: Deutsch et al., PRL 77, 2818
 * (1996). Teleportation: Horodecki, Horodecki and Horodecki, PRA 60, 1888 (1999). CHSH: Horodecki, Horodecki and
 * Horodecki, Phys. Lett. A 200, 340 (1995). Waiting: Bernardes, Praxmeyer and van Loock, PRA 83, 012323 (2011);
 * cut-off: Collins et al., PRL 98, 060502 (2007). */
#include "link/bell.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "link/internal.h"

double qn_werner_parameter(double fidelity) { return (4 * fidelity - 1) / 3; }

double qn_werner_fidelity(double w) { return (1 + 3 * w) / 4; }

void qn_bell_werner(double fidelity, double ret_p[4]) {
    ret_p[0] = fidelity;
    for (int i = 1; i < 4; i++) ret_p[i] = (1 - fidelity) / 3;
}

void qn_bell_correlations(const double p[4], double ret_xyz[3]) {
    ret_xyz[0] = p[0] + p[1] - p[2] - p[3];
    ret_xyz[1] = p[1] + p[3] - p[0] - p[2];
    ret_xyz[2] = p[0] + p[3] - p[1] - p[2];
}

double qn_bell_entropy(const double p[4]) {
    double sum = 0;
    for (int i = 0; i < 4; i++) sum += entropy_term(p[i]);
    return sum;
}

/* The errors of both pairs multiply as Pauli matrices do, and in the order I, X, Y, Z that product is XOR of the
 * indices. */
void qn_bell_swap(const double p[4], const double q[4], double ret[4]) {
    double r[4] = {0};
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) r[i ^ j] += p[i] * q[j];
    memcpy(ret, r, sizeof r);
}

void qn_bell_swap_noisy(const double p[4], const double q[4], double depolarise, double readout, double ret[4]) {
    /* A bit misread is a correction with the wrong Pauli: one bit stands for X, one for Z, both for Y. */
    double right = 1 - readout, misread[4] = {right * right, readout * right, readout * readout, readout * right}, r[4];
    qn_bell_swap(p, q, r);
    qn_bell_swap(r, misread, r);
    for (int i = 0; i < 4; i++) ret[i] = (1 - depolarise) * r[i] + depolarise / 4;
}

double qn_chain_fidelity(double link_fidelity, unsigned repeaters) {
    return qn_werner_fidelity(pow(qn_werner_parameter(link_fidelity), repeaters + 1.0));
}

double qn_bbpssw(double fidelity, double *ret_probability) {
    double f = fidelity, e = (1 - f) / 3, n = f * f + 2 * f * e + 5 * e * e;
    *ret_probability = n;
    return (f * f + e * e) / n;
}

double qn_dejmps(const double p[4], const double q[4], double ret[4]) { return qn_dejmps_noisy(p, q, 0, ret); }

double qn_dejmps_noisy(const double p[4], const double q[4], double readout, double ret[4]) {
    /* The two true outcomes are equal if both pairs are of {I, Y} or both of {X, Z}. Reading errors on both sides leave
     * the comparison right with this weight; the kept pair is as the true outcomes say. */
    double right = (1 - readout) * (1 - readout) + readout * readout, wrong = 1 - right;
    double equal[4] = {p[0] * q[0] + p[2] * q[2], p[1] * q[1] + p[3] * q[3], p[1] * q[3] + p[3] * q[1],
                       p[0] * q[2] + p[2] * q[0]};
    double unequal[4] = {p[0] * q[1] + p[2] * q[3], p[1] * q[0] + p[3] * q[2], p[1] * q[2] + p[3] * q[0],
                         p[0] * q[3] + p[2] * q[1]};
    double r[4], sum = 0;
    for (int i = 0; i < 4; i++) {
        r[i] = right * equal[i] + wrong * unequal[i];
        sum += r[i];
    }
    assert(sum > 0);
    for (int i = 0; i < 4; i++) ret[i] = r[i] / sum;
    return sum;
}

double qn_teleport_fidelity(double pair_fidelity) { return (2 * pair_fidelity + 1) / 3; }

double qn_chsh_werner(double fidelity) { return 2 * M_SQRT2 * qn_werner_parameter(fidelity); }

double qn_chsh_max(const double p[4]) {
    double t[3], sum = 0, least = INFINITY;
    qn_bell_correlations(p, t);
    for (int i = 0; i < 3; i++) {
        sum += t[i] * t[i];
        least = fmin(least, t[i] * t[i]);
    }
    return 2 * sqrt(sum - least);
}

void qn_bell_qber(const double p[4], double ret_zxy[3]) {
    ret_zxy[0] = p[1] + p[2];
    ret_zxy[1] = p[3] + p[2];
    ret_zxy[2] = p[1] + p[3];
}

/* What T1 leaves of an excitation, and T2 of a coherence; without a T2, that which T1 leaves. */
static void decay(double t_s, double t1_s, double t2_s, double *ret_e1, double *ret_e2) {
    *ret_e1 = t1_s > 0 ? exp(-t_s / t1_s) : 1;
    *ret_e2 = t2_s > 0 ? exp(-t_s / t2_s) : sqrt(*ret_e1);
}

void qn_memory_fidelity(double t_s, double t1_s, double t2_s, double *ret_phi_both, double *ret_psi_both,
                        double *ret_phi_one) {
    double e1, e2;
    decay(t_s, t1_s, t2_s, &e1, &e2);
    double g = 1 - e1;
    *ret_phi_both = (1 - g + g * g) / 2 + e2 * e2 / 2;
    *ret_psi_both = (1 - g) / 2 + e2 * e2 / 2;
    *ret_phi_one = (1 - g / 2) / 2 + e2 / 2;
}

void qn_memory_twirl(double t_s, double t1_s, double t2_s, double ret_p[4]) {
    double e1, e2;
    decay(t_s, t1_s, t2_s, &e1, &e2);
    ret_p[1] = ret_p[2] = (1 - e1) / 4;
    ret_p[3] = (1 - e2) / 2 - ret_p[1];
    ret_p[0] = 1 - ret_p[1] - ret_p[2] - ret_p[3];
}

/* Sum over k of P(largest > k). For small p a geometric wait is an exponential one rounded up, and the sum is the
 * integral (harmonic number over rate) plus one half; the next term of Euler and Maclaurin is below rate^3 / 100 (n >
 * 1). The alternating sum of the textbooks cancels too much for many links. */
double qn_wait_max_geometric(unsigned n, double p) {
    assert(p > 0 && p <= 1);
    if (n <= 1) return n / p;
    double rate = -log1p(-p), sum = 0;
    if (p < 0.01) {
        for (unsigned k = n; k >= 1; k--) sum += 1.0 / k;
        return sum / rate + 0.5;
    }
    sum = 1;
    for (double k = 1, term = 1; term > 1e-16 * sum; k++) {
        term = -expm1(n * log1p(-exp(-rate * k)));
        sum += term;
    }
    return sum;
}

double qn_wait_within(double p, unsigned attempts) {
    if (attempts == 0) return 0;
    return -expm1(attempts * log1p(-p));
}

double qn_wait_coherence(double p, double x) { return p / (2 - p) * (1 + (1 - p) * x) / (1 - (1 - p) * x); }

double qn_wait_cutoff(double p, unsigned cutoff) {
    assert(p > 0 && p <= 1 && cutoff > 0);
    double any = p * (2 - p), both = p * p / any, second = qn_wait_within(p, cutoff);
    return (1 / any + (1 - both) * second / p) / (both + (1 - both) * second);
}
