/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QKD_CASCADE_PLAN_H
#define QN_QKD_CASCADE_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "qkd/bits.h"
#include "qkd/cascade.h"

/* What both ends of Cascade agree on from the config alone; private to lib/qkd. */
enum { PLAN_MAX_PASSES = 16, PLAN_MAX_CHECKS = 32, PLAN_MAX_STREAK_CHECKS = 512, PLAN_MAX_STRIP = 1 << 16 };

struct plan_pass {
    uint32_t block, blocks; /* Bits of a block but the last; how many there are. */
    uint16_t *from,
        *to; /* Bit i of the pass is bit from[i] of the strip; to is the inverse. NULL: the strip's order. */
};

/* Parity of the bits of a that b has, too. */
typedef bool plan_sum(const uint64_t *a, const uint64_t *b, size_t words);
plan_sum *plan_best_sum(bool portable);

struct plan {
    size_t len;     /* Of the key. */
    uint32_t strip; /* Bits of a strip; zeros known to both fill the last one. */
    uint32_t strips;
    size_t words; /* Of a strip. */
    unsigned n_passes;
    struct plan_pass pass[PLAN_MAX_PASSES];
    bool is_published; /* See cascade_published.h. Asks also the parity of the last block, which follows from the
                          strip's. */
    unsigned streak; /* Checks are asked two by two, a random half and the rest, until so many pairs in a row agree; 0:
                        all at once. */
    unsigned n_checks;
    uint64_t *masks; /* n_checks subsets of a strip, `words` each. */
    plan_sum *sum;
};

int plan_init(struct plan *plan, const struct qn_cascade_config *config, size_t len);
void plan_release(struct plan *plan);

static inline const uint64_t *plan_mask(const struct plan *plan, unsigned check) {
    return plan->masks + check * plan->words;
}

/* Answers to opening a pass (from n_passes on: the checks, or the two of a pair). */
static inline uint32_t plan_opening(const struct plan *plan, unsigned pass) {
    if (pass >= plan->n_passes) return plan->streak > 0 ? 2 : plan->n_checks;
    return pass == 0 || plan->is_published ? plan->pass[pass].blocks : plan->pass[pass].blocks - 1;
}

/* How many openings there are: passes and what the checks take. */
static inline unsigned plan_openings(const struct plan *plan) {
    return plan->n_passes + (plan->streak > 0 ? plan->n_checks / 2 : plan->n_checks > 0);
}

/* How questions about parts of a pass are told; see cascade.h. */
enum plan_parts { PLAN_BLOCKS, PLAN_SEGMENTS, PLAN_HALVES, PLAN_PARTS };

static inline uint64_t plan_first_part(const struct plan *plan) {
    return 2 * ((uint64_t)plan->n_passes + plan->n_checks) + 2;
}

/* More parts than that are never asked about at once: errors found are no more than odd blocks were. */
static inline uint32_t plan_most_parts(const struct plan *plan) {
    uint32_t most = 0;
    for (unsigned p = 0; p < plan->n_passes; p++)
        if (plan->pass[p].blocks > most) most = plan->pass[p].blocks;
    return most;
}

/* All strips, `words` each, in the order of a pass; `in` and `out` differ. */
int plan_strips(const struct plan *plan, const struct qn_bits *key, uint64_t **ret_words);
int plan_shuffle(const struct plan *plan, unsigned pass, const uint64_t *in, uint64_t *out);

#endif
