/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_LINK_FAST_H
#define QN_LINK_FAST_H

#include <stddef.h>
#include <stdint.h>

/* Random numbers and gaps by the thousand, for detect.c. The same under every compiler and instruction set: integers,
 * and doubles without libm. */

enum { FAST_LANES = 8 };

struct fast_rng { /* Eight generators side by side: xoshiro256**, see base/rng.h. */
    uint64_t s[4][FAST_LANES];
};
void fast_rng_init(struct fast_rng *rng, uint64_t seed, uint64_t index);
void fast_rng_fill(struct fast_rng *rng, uint64_t *out, size_t n); /* n: a multiple of FAST_LANES. */

enum { FAST_LOG_STEPS = 256 };
struct fast_log {
    double inverse[FAST_LOG_STEPS], log[FAST_LOG_STEPS];
};
void fast_log_init(struct fast_log *table);
/* gap[i] = floor(-ln(u) mean), u uniform in (0, 1) from the upper 52 bits of draw[i]; at most 2^62. n: a multiple of
 * FAST_LANES. */
void fast_gaps(const struct fast_log *table, const uint64_t *draw, size_t n, double mean, uint64_t *gap);

#endif
