/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_LINK_FAST_H
#define QN_LINK_FAST_H

#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"
#include "link/source.h"

/* The inner loops of detect.c and source.c, by the thousand; private to lib/link. Every set gives the same, under every
 * compiler: integers, and doubles without libm or fused operations. What is drawn comes in 64-bit words; draws of 16
 * bits are four in a word, the lowest first. */

enum {
    FAST_LANES = 8,
    FAST_SLACK = 64,
    FAST_BATCH = 1024
}; /* Candidates at once; arrays of them have the slack more. */

struct fast_rng { /* Eight generators side by side: xoshiro256**, see base/rng.h. */
    uint64_t s[4][FAST_LANES];
};
void fast_rng_init(struct fast_rng *rng, const char *purpose, uint64_t seed, uint64_t index);

/* A chance of `numerator` / 2^bits. */
enum { FAST_BITS_MAX = 16 };
struct fast_chance {
    uint32_t numerator;
    unsigned bits;
};
/* One that is at least p, such that drawing it and thinning it to p cost the least. */
void fast_chance_init(struct fast_chance *chance, double p);

enum { FAST_LOG_STEPS = 16 };
struct fast_gaps { /* Gaps between candidates. */
    double mean;   /* -1 / ln(1 - chance of a candidate); 0 if there is one in every pulse. */
    double inverse[FAST_LOG_STEPS], log[FAST_LOG_STEPS];
};
void fast_gaps_init(struct fast_gaps *gaps, double mean);

/* Alias tables by choice. A choice is intensity x 4 + basis x 2 + bit of the pulse. Of a draw of 16 bits the low three
 * choose the column; if the rest is below that of `entry`, the outcome is the column, if it is above, it is the low
 * three bits of `entry`; if they are the same (one in 8192), another 64-bit draw, from the generator for ties, decides:
 * below `rest` the column. An outcome is a detector's (enum qn_outcome), and 4 if its basis is 1. */
enum { FAST_CHOICES = QN_INTENSITIES_MAX * 4, FAST_COLUMNS = 8, FAST_COLUMN_BITS = 13 };
struct fast_outcomes {
    uint16_t entry[FAST_CHOICES][FAST_COLUMNS];
    uint64_t rest[FAST_CHOICES][FAST_COLUMNS];
};

/* Clicks: bit i of each is that of click i; beyond the last up to the end of its word they are 0. */
struct fast_clicks {
    size_t n;
    uint64_t doubles[2]; /* By the detector's basis. */
    uint64_t basis[FAST_BATCH / 64 + 2], bit[FAST_BATCH / 64 + 2], both[FAST_BATCH / 64 + 2];
};

enum { FAST_PLANES = 2 + QN_INTENSITY_PLANES };

struct fast_set {
    const char *name;
    void (*fill)(struct fast_rng *rng, uint64_t *out, size_t n); /* n: a multiple of FAST_LANES. */
    /* Bits that are 1 by chance; n words, a multiple of FAST_LANES. */
    void (*masks)(struct fast_rng *rng, const struct fast_chance *chance, uint64_t *mask, size_t n);
    /* Where they are: of the bits of words [0, *words) that are 1, base + number of the bit. Stops before a word that
     * might be more than `cap` of them; *words becomes how many were looked at. Returns how many there are. */
    size_t (*ones)(const uint64_t *mask, size_t *words, uint32_t base, size_t cap, uint32_t *position);
    /* Positions of candidates in [*at, end), less `first`, one for each draw (whose upper 53 bits count; n a multiple
     * of FAST_LANES); returns how many there are, and moves *at behind the last, or to `end` if the next one is not
     * before it. end - first <= 2^32. */
    size_t (*positions)(const struct fast_gaps *gaps, const uint64_t *draw, size_t n, uint64_t first, uint64_t *at,
                        uint64_t end, uint32_t *position);
    /* Of n <= FAST_BATCH candidates those that click. `word` are the source's choices, `draw` draws of 16 bits for the
     * tables; bit i of `coin` is the bit of a double click. */
    void (*keep)(const struct qn_source *source, const struct fast_outcomes *outcomes, const uint32_t *position,
                 const uint32_t *word, const uint64_t *draw, const uint64_t *coin, size_t n, struct qn_rng *ties,
                 uint32_t *ret_position, struct fast_clicks *ret);
    /* Of 64 choices: bit, basis, intensity (lowest bit first). */
    void (*planes)(const struct qn_source *source, const uint32_t word[64], uint64_t ret[FAST_PLANES]);
};
const struct fast_set *
fast_set_at(size_t i); /* What this machine can run, the portable one first; NULL past the end. */
const struct fast_set *fast_set_best(void);

/* Parts of the portable set, for what others leave to it. */
#define FAST_LN2 0.69314718055994530942
#define FAST_GAP_MAX 0x1p40 /* Beyond every stretch; a thousand of them still add up. */
uint64_t fast_gap(const struct fast_gaps *gaps, uint64_t draw);
/* The outcome of one candidate. */
unsigned fast_outcome(const struct qn_source *source, const struct fast_outcomes *outcomes, uint32_t word,
                      unsigned draw, struct qn_rng *ties);
const struct fast_set *fast_wide_at(size_t i); /* Sets of AVX-512. */

struct qn_detector;
/* For tests: other sets than the best. After qn_detector_start. */
void fast_detector_use(struct qn_detector *detector, const struct fast_set *set, const struct qn_aes_set *aes);

#endif
