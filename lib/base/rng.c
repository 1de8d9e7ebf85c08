/* SPDX-License-Identifier: Apache-2.0 */
#include "base/rng.h"

#include <assert.h>
#include <math.h>

static uint64_t splitmix(uint64_t *x) {
    uint64_t z = (*x += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void qn_rng_init(struct qn_rng *rng, uint64_t seed, const char *purpose, uint64_t index) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a of the purpose. */
    for (const char *c = purpose; *c != '\0'; c++) hash = (hash ^ (uint8_t)*c) * UINT64_C(0x100000001b3);
    uint64_t x = seed;
    x = splitmix(&x) ^ hash;
    x = splitmix(&x) ^ index;
    for (int i = 0; i < 4; i++) rng->s[i] = splitmix(&x);
}

static uint64_t rotl(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }

uint64_t qn_rng_u64(struct qn_rng *rng) {
    uint64_t *s = rng->s, result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

double qn_rng_double(struct qn_rng *rng) { return (double)(qn_rng_u64(rng) >> 11) * 0x1.0p-53; }

uint64_t qn_rng_below(struct qn_rng *rng, uint64_t bound) {
    assert(bound > 0);
    uint64_t threshold = (0 - bound) % bound, x; /* Numbers below it would be drawn once too often. */
    do x = qn_rng_u64(rng);
    while (x < threshold);
    return x % bound;
}

double qn_rng_exponential(struct qn_rng *rng) { return -log1p(-qn_rng_double(rng)); }

double qn_rng_normal(struct qn_rng *rng) { /* Marsaglia and Bray's polar method; the second number is not kept. */
    double x, y, r;
    do {
        x = 2 * qn_rng_double(rng) - 1;
        y = 2 * qn_rng_double(rng) - 1;
        r = x * x + y * y;
    } while (r >= 1 || r == 0);
    return x * sqrt(-2 * log(r) / r);
}

uint64_t qn_rng_geometric(struct qn_rng *rng, double p) {
    assert(p > 0);
    if (p >= 1) return 1;
    double k = floor(log1p(-qn_rng_double(rng)) / log1p(-p));
    return k >= 0x1.0p63 ? UINT64_MAX : 1 + (uint64_t)k;
}

/* Hormann's BTRS (Computing 46, 191, 1993) needs n p >= 10; below, successes are found by geometric gaps. */
static uint64_t binomial_btrs(struct qn_rng *rng, double n, double p) {
    double r = p / (1 - p), npq = n * p * (1 - p), root = sqrt(npq);
    double b = 1.15 + 2.53 * root, a = -0.0873 + 0.0248 * b + 0.01 * p, c = n * p + 0.5;
    double alpha = (2.83 + 5.1 / b) * root, vr = 0.92 - 4.2 / b, mode = floor((n + 1) * p);
    for (;;) {
        double v = qn_rng_double(rng), u = qn_rng_double(rng) - 0.5, us = 0.5 - fabs(u);
        double k = floor((2 * a / us + b) * u + c);
        if (us >= 0.07 && v <= vr) return (uint64_t)k;
        if (k < 0 || k > n) continue;
        v = log(v * alpha / (a / (us * us) + b));
        /* log of the ratio of the probabilities of k and of the mode. */
        double bound =
            lgamma(mode + 1) + lgamma(n - mode + 1) - lgamma(k + 1) - lgamma(n - k + 1) + (k - mode) * log(r);
        if (v <= bound) return (uint64_t)k;
    }
}

uint64_t qn_rng_binomial(struct qn_rng *rng, uint64_t n, double p) {
    if (n == 0 || p <= 0) return 0;
    if (p >= 1) return n;
    if (p > 0.5) return n - qn_rng_binomial(rng, n, 1 - p);
    if ((double)n * p >= 10) return binomial_btrs(rng, (double)n, p);
    uint64_t hits = 0;
    for (uint64_t at = 0;;) {
        uint64_t gap = qn_rng_geometric(rng, p);
        if (gap > n - at) return hits;
        at += gap;
        hits++;
    }
}

uint64_t qn_rng_poisson(struct qn_rng *rng, double mean) {
    assert(mean >= 0 && mean < 700); /* exp(-mean) must not vanish; larger means are sums of smaller ones. */
    double p = exp(-mean), u = qn_rng_double(rng);
    uint64_t k = 0;
    while (u >= p && k < 2000) {
        u -= p;
        k++;
        p *= mean / (double)k;
    }
    return k;
}
