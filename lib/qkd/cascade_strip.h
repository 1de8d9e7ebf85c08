/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QKD_CASCADE_STRIP_H
#define QN_QKD_CASCADE_STRIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "qkd/bits.h"
#include "qkd/cascade_plan.h"

/* The strips of the correcting end of Cascade, and what answers do to them; private to lib/qkd. cascade.c turns their
 * questions into messages.
 *
 * Many keys are corrected side by side, so that a strip has left the caches when its answers come. What is done for
 * all strips of a message is therefore done in stages (tell, flip, advance), in each of which loads do not wait for one
 * another. */

/* 64 positions of a pass. */
struct cell {
    uint64_t bits;  /* Our key in the order of the pass, as corrected so far; not before the pass is opened. */
    uint64_t known; /* A segment starts here: the source told the parity of the bits before. */
    uint64_t told;  /* That parity. */
    uint64_t odd;   /* The segment that starts here differs from the source's, and no search is on its way in it. */
};

/* The error is in [low, high); the question is for the parity up to its middle. */
struct search {
    uint32_t low_told; /* 2 low + the source's parity up to low; of checks, too. */
    uint32_t high;
};

static inline uint32_t search_low(struct search search) { return search.low_told / 2; }
static inline uint32_t search_middle(struct search search) {
    return search_low(search) + (search.high - search_low(search)) / 2;
}

struct strip {
    struct cell *cells;      /* Borrowed; cells_per_pass for each pass. */
    struct search *searches; /* Owned; low rises. */
    uint32_t n_searches, cap;
    uint16_t opened; /* Passes opened; n_passes + 1 when the checks are, too. */
    uint16_t pass;   /* What is asked: a pass, or n_passes + check. */
    bool opening, done;
    bool total;    /* Source's parity of the strip. */
    uint8_t parts; /* Searches of a pass: enum plan_parts, how they are told. */
    uint32_t n_choices;
    uint64_t *choices;   /* Borrowed; which blocks, or which halves: n_choices bits. */
    uint32_t odd_checks; /* A bit a check. */
    uint32_t rounds;     /* Sets of answers it has had. */
    uint64_t *flipped;   /* Borrowed; bits corrected, in the strip's order. */
    uint64_t *touched;   /* Borrowed; touched_words for each pass: words in which something may be odd. */
    uint32_t n_odd[PLAN_MAX_PASSES];
};

struct flip { /* An error found, at `at` in the order of what its strip asked; x: in the strip's order. */
    uint32_t strip, at, x;
};

struct strip_kernels; /* The inner loops; those for this machine, or for any. */
const struct strip_kernels *strip_best_kernels(bool portable);

struct strips {
    struct plan plan;
    const struct strip_kernels *kernels;
    size_t cells_per_pass, touched_words;
    struct strip *strip; /* plan.strips of them, each with its first question. */
    struct cell *cells;
    uint64_t *flipped, *touched, *choices;
    struct search *opened; /* Room for the searches that opening a pass starts. */
    struct flip *flips;    /* Found, not yet made. */
    size_t n_flips, flips_cap;
    uint64_t corrected;
};

static inline struct cell *pass_cells(const struct strips *strips, const struct strip *strip, unsigned pass) {
    return strip->cells + pass * strips->cells_per_pass;
}

/* Copies the key. -QN_EINVAL, -QN_ENOMEM. `portable`: without the instructions this machine may have (tests). */
int strips_init(struct strips *strips, const struct qn_cascade_config *config, const struct qn_bits *key,
                bool portable);
void strips_release(struct strips *strips); /* Wipes. */

/* How many answers the strip's question wants: those of opening strip->pass, or one a search. */
static inline uint32_t strip_questions(const struct strips *strips, const struct strip *strip) {
    return strip->opening ? plan_opening(&strips->plan, strip->pass) : strip->n_searches;
}

/* The stages, each for all strips of a message. On errors give up. */
void strip_prefetch(const struct strips *strips, uint32_t s);
/* Applies the answers from `at` on; errors found are noted. -QN_ENOMEM. */
int strip_tell(struct strips *strips, uint32_t s, const uint8_t *answers, uint32_t at);
/* Makes the flips noted, in all passes. -QN_EPROTOCOL: a bit would have to be wrong twice. */
int strips_flip(struct strips *strips);
/* Finds what to ask next, or sets done. -QN_ENOMEM, -QN_EPROTOCOL. */
int strip_advance(struct strips *strips, uint32_t s);

int strips_key(const struct strips *strips, struct qn_bits *ret_key); /* A copy as it stands. -QN_ENOMEM. */

#endif
