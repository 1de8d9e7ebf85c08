/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_LINK_FAST_H
#define QN_LINK_FAST_H

#include <stddef.h>
#include <stdint.h>

#include "link/source.h"

/* The inner loops of detect.c, by the thousand; private to lib/link. Every set gives the same, under every compiler:
 * integers, and doubles without libm or fused operations. Arrays hold a multiple of FAST_LANES. */

enum { FAST_LANES = 8 };

struct fast_rng { /* Eight generators side by side: xoshiro256**, see base/rng.h. */
    uint64_t s[4][FAST_LANES];
};
void fast_rng_init(struct fast_rng *rng, const char *purpose, uint64_t seed, uint64_t index);

enum { FAST_LOG_STEPS = 16 };
struct fast_gaps { /* Gaps between candidates. */
    double mean;   /* -1 / ln(1 - chance of a candidate); 0 if there is one in every pulse. */
    double inverse[FAST_LOG_STEPS], log[FAST_LOG_STEPS];
};
void fast_gaps_init(struct fast_gaps *gaps, double mean);

enum { FAST_CELLS = QN_INTENSITIES_MAX * 4, FAST_COLUMNS = 8 };
/* What a click is, in four bits. */
enum { CLICK_BASIS = 1, CLICK_BIT = 2, CLICK_BOTH = 4, CLICK = 8 };
/* Alias tables, by intensity, basis, bit of the pulse: the low three bits of a draw choose the column; the draw being
 * below the entry, it is what the entry says in bits 0 to 3, else what it says in bits 4 to 7. */
struct fast_outcomes {
    uint64_t entry[FAST_CELLS][FAST_COLUMNS];
};

struct fast_set {
    const char *name;
    void (*fill)(struct fast_rng *rng, uint64_t *out, size_t n);
    /* Positions of candidates in [*at, end), one for each draw (whose upper 53 bits count); returns how many there are,
     * and moves *at behind the last, or to `end` if the next one is not before it. end - *at <= 2^32. */
    size_t (*positions)(const struct fast_gaps *gaps, const uint64_t *draw, size_t n, uint64_t *at, uint64_t end,
                        uint64_t *position);
    /* Of n candidates those that click: their offsets from `base`, and what they are. `word` are the source's choices,
     * `which` draws for the tables; the lowest bit of `coin` is the bit of a double click. Returns how many; may write
     * up to n, rounded up to FAST_LANES. */
    size_t (*keep)(const struct qn_source *source, const struct fast_outcomes *outcomes, const uint64_t *position,
                   const uint32_t *word, const uint64_t *which, const uint64_t *coin, size_t n, uint64_t base,
                   uint32_t *offset, uint8_t *code);
    /* Bit i of each result is a bit of code[i]: basis, bit, both. */
    void (*split)(const uint8_t code[64], uint64_t ret[3]);
};
const struct fast_set *
fast_set_at(size_t i); /* What this machine can run, the portable one first; NULL past the end. */
const struct fast_set *fast_set_best(void);

struct qn_detector;
/* For tests: other sets than the best. After qn_detector_start. */
void fast_detector_use(struct qn_detector *detector, const struct fast_set *set, const struct qn_aes_set *aes);

#endif
