/* SPDX-License-Identifier: Apache-2.0 */
#include "link/fast.h"

#include <string.h>

#include "base/rng.h"

/* Written as loops over lanes that compilers vectorise, and compiled once more for AVX-512. */
#define INLINE static inline __attribute__((always_inline))

void fast_rng_init(struct fast_rng *rng, uint64_t seed, uint64_t index) {
    for (unsigned lane = 0; lane < FAST_LANES; lane++) {
        struct qn_rng one;
        qn_rng_init(&one, seed, "clicks", index * FAST_LANES + lane);
        for (unsigned i = 0; i < 4; i++) rng->s[i][lane] = one.s[i];
    }
}

INLINE uint64_t rotate(uint64_t x, unsigned k) { return x << k | x >> (64 - k); }

INLINE void rng_fill(struct fast_rng *rng, uint64_t *out, size_t n) {
    struct fast_rng state = *rng;
    for (size_t i = 0; i < n; i += FAST_LANES) {
        for (unsigned j = 0; j < FAST_LANES; j++) {
            uint64_t s0 = state.s[0][j], s1 = state.s[1][j], s2 = state.s[2][j], s3 = state.s[3][j];
            out[i + j] = rotate(s1 * 5, 7) * 9;
            s2 ^= s0;
            s3 ^= s1;
            state.s[1][j] = s1 ^ s2;
            state.s[0][j] = s0 ^ s3;
            state.s[2][j] = s2 ^ s1 << 17;
            state.s[3][j] = rotate(s3, 45);
        }
    }
    *rng = state;
}

/* ln x for x in [1, 2]: 2 artanh((x - 1) / (x + 1)), to the last bits. Only the four operations, so always the same. */
static double log_series(double x) {
    double z = (x - 1) / (x + 1), square = z * z, power = z, sum = 0;
    for (int i = 1; i < 60; i += 2) {
        sum += power / i;
        power *= square;
    }
    return 2 * sum;
}

void fast_log_init(struct fast_log *table) {
    for (unsigned i = 0; i < FAST_LOG_STEPS; i++) {
        double middle = 1 + (i + 0.5) / FAST_LOG_STEPS;
        table->inverse[i] = 1 / middle;
        table->log[i] = log_series(middle);
    }
}

#define LN2 0.69314718055994530942

/* u = x / 2^53 for an odd x = 2^e m: -ln u = (53 - e) ln 2 - ln m, with m = middle (1 + r), |r| < 2^-9. */
INLINE void gaps(const struct fast_log *table, const uint64_t *draw, size_t n, double mean, uint64_t *gap) {
    for (size_t i = 0; i < n; i++) {
        uint64_t x = draw[i] >> 11 | 1, bits, step, one = UINT64_C(0x3ff0000000000000);
        double u = (double)(int64_t)x, m;
        memcpy(&bits, &u, sizeof bits);
        step = bits >> 44 & (FAST_LOG_STEPS - 1);
        one |= bits & UINT64_C(0x000fffffffffffff);
        memcpy(&m, &one, sizeof m);
        double left = (double)((int64_t)(1023 + 53) - (int64_t)(bits >> 52));
        double r = m * table->inverse[step] - 1;
        double series = r - r * r * (0.5 - r * (1.0 / 3 - r * (0.25 - r * (0.2 - r * (1.0 / 6)))));
        double value = (left * LN2 - table->log[step] - series) * mean;
        value = value < 0 ? 0 : value; /* Rounding, next to u = 1. */
        value = value > 0x1p62 ? 0x1p62 : value;
        gap[i] = (uint64_t)(int64_t)value;
    }
}

#ifdef __x86_64__
#define WIDE __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,prefer-vector-width=512")))
static WIDE void rng_fill_wide(struct fast_rng *rng, uint64_t *out, size_t n) { rng_fill(rng, out, n); }
static WIDE void gaps_wide(const struct fast_log *table, const uint64_t *draw, size_t n, double mean, uint64_t *gap) {
    gaps(table, draw, n, mean, gap);
}
static int is_wide(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
}
#endif

void fast_rng_fill(struct fast_rng *rng, uint64_t *out, size_t n) {
#ifdef __x86_64__
    if (is_wide()) {
        rng_fill_wide(rng, out, n);
        return;
    }
#endif
    rng_fill(rng, out, n);
}

void fast_gaps(const struct fast_log *table, const uint64_t *draw, size_t n, double mean, uint64_t *gap) {
#ifdef __x86_64__
    if (is_wide()) {
        gaps_wide(table, draw, n, mean, gap);
        return;
    }
#endif
    gaps(table, draw, n, mean, gap);
}
