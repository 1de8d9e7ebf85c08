/* SPDX-License-Identifier: Apache-2.0 */
#include "qkd/estimate.h"

#include <math.h>

double qn_binary_entropy(double x) {
    if (!(x > 0 && x < 1)) return 0;
    return -(x * log2(x) + (1 - x) * log1p(-x) / M_LN2);
}

/* The continued fraction of the incomplete beta function, by Lentz's method (Numerical Recipes, 6.4). */
static double beta_fraction(double a, double b, double x) {
    const double tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1);
    if (fabs(d) < tiny) d = tiny;
    d = 1 / d;
    double h = d;
    for (int m = 1; m <= 100000; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        d = 1 + even * d;
        c = 1 + even / c;
        if (fabs(d) < tiny) d = tiny;
        if (fabs(c) < tiny) c = tiny;
        d = 1 / d;
        h *= d * c;
        d = 1 + odd * d;
        c = 1 + odd / c;
        if (fabs(d) < tiny) d = tiny;
        if (fabs(c) < tiny) c = tiny;
        d = 1 / d;
        h *= d * c;
        if (fabs(d * c - 1) < 1e-15) break;
    }
    return h;
}

/* lgamma itself writes a global sign. */
static double log_gamma(double x) {
    int sign;
    return lgamma_r(x, &sign);
}

/* I_x(a, b), 0 < x < 1. */
static double incomplete_beta(double a, double b, double x) {
    double front = exp(log_gamma(a + b) - log_gamma(a) - log_gamma(b) + a * log(x) + b * log1p(-x));
    if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(a, b, x) / a;
    return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

double qn_qber_upper(uint64_t sampled, uint64_t errors, double epsilon) {
    if (errors >= sampled) return 1;
    /* P(at most `errors` of `sampled`) = I_{1-p}(sampled - errors, errors + 1) falls with p: find where it is epsilon.
     */
    double low = (double)errors / (double)sampled, high = 1;
    for (int i = 0; i < 100; i++) {
        double p = (low + high) / 2;
        if (p <= low || p >= high) break;
        double tail = incomplete_beta((double)(sampled - errors), (double)errors + 1, 1 - p);
        if (tail > epsilon)
            low = p;
        else
            high = p;
    }
    return high;
}

double qn_qber_upper_rest(uint64_t sampled, uint64_t errors, uint64_t remaining, double epsilon) {
    if (sampled == 0 || remaining == 0) return 1;
    double k = (double)sampled, n = (double)remaining;
    double upper = (double)errors / k + sqrt((n + k) * (k + 1) * log(1 / epsilon) / (n * k * k));
    return upper < 1 ? upper : 1;
}

uint64_t qn_secret_length(const struct qn_secret *secret) {
    double untagged = 1 - secret->tagged;
    if (!(untagged > 0 && untagged <= 1) || !(secret->error_upper >= 0) || !(secret->epsilon > 0)) return 0;
    double error = secret->error_upper / untagged;
    if (error >= 0.5) return 0;
    double length = (double)secret->bits * untagged * (1 - qn_binary_entropy(error)) - (double)secret->disclosed -
                    (double)secret->tag_bits + 2 * log2(secret->epsilon);
    return length >= 1 ? (uint64_t)length : 0;
}
