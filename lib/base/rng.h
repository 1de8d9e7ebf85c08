/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_BASE_RNG_H
#define QN_BASE_RNG_H

#include <stdint.h>

/* Random numbers for physics: seeded, repeatable, not secret. xoshiro256** (Blackman and Vigna, ACM TOMS 47, 36, 2021),
 * seeded through SplitMix64. One generator a purpose, so that a draw added in one place does not shift another.
 * Key material never comes from here: see struct qn_csprng in base/csprng.h. */
struct qn_rng {
    uint64_t s[4];
};

/* The streams of different (purpose, index) are independent for the same seed. */
void qn_rng_init(struct qn_rng *rng, uint64_t seed, const char *purpose, uint64_t index);
uint64_t qn_rng_u64(struct qn_rng *rng);
double qn_rng_double(struct qn_rng *rng);                  /* In [0, 1), 53 bits. */
uint64_t qn_rng_below(struct qn_rng *rng, uint64_t bound); /* In [0, bound); bound > 0; unbiased. */
double qn_rng_normal(struct qn_rng *rng);                  /* Mean 0, standard deviation 1. */
double qn_rng_exponential(struct qn_rng *rng);             /* Mean 1. */
/* Trials up to and including the first success, at least 1; p in (0, 1]. UINT64_MAX if beyond the range. */
uint64_t qn_rng_geometric(struct qn_rng *rng, double p);
uint64_t qn_rng_binomial(struct qn_rng *rng, uint64_t n, double p); /* Successes among n trials. */
uint64_t qn_rng_poisson(struct qn_rng *rng, double mean);

#endif
