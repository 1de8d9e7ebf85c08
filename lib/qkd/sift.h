/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QKD_SIFT_H
#define QN_QKD_SIFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "qkd/bits.h"

/* Sifting (Bennett and Brassard, Theor. Comput. Sci. 560, 7, 2014, reprint of 1984): the detector tells where it
 * clicked and in which basis, never the bit; the source answers which clicks were in its own basis. The bits of the
 * others are dropped at both ends, and a sample nobody could foresee is compared in the open and dropped too.
 *
 *   detector: qn_sift_fit + qn_sift_encode, a part at a time      -> positions, bases
 *   source:   qn_sift_decode into clicks, qn_sift_match           -> matches       (its key grows)
 *   detector: qn_sift_keep                                                          (its key grows)
 *   both:     qn_sample_select with the source's seed, qn_sample_split; the detector sends its sample, the source
 * counts qn_bits_distance. */

enum { QN_SIFT_PART_BYTES = 48 * 1024 }; /* Positions and bases of a part together take no more than this. */

/* How many clicks from `first` on fit one part: at least 1 if there are any, so a caller can count its parts
 * beforehand. */
size_t qn_sift_fit(const uint64_t *positions, size_t first, size_t count);
/* Appends clicks [first, first + count). Positions: the first as LEB128, then differences (a part stands alone). Bases:
 * a bit a click, from the basis string of all clicks. Positions rise strictly; asserted. -QN_ENOMEM, -QN_ELIMIT. */
int qn_sift_encode(const uint64_t *positions, const struct qn_bits *bases, size_t first, size_t count,
                   struct qn_buf *ret_positions, struct qn_buf *ret_bases);

/* What a source knows of a block's clicks so far. All-zero is valid and empty. */
struct qn_clicks {
    uint64_t *positions; /* Owned; strictly rising. */
    size_t len, cap;
    struct qn_bits bases; /* 0 Z, 1 X. */
};

/* Appends a part from the peer. -QN_EPROTOCOL, and nothing appended, unless it is exactly `count` clicks in
 * shortest-form LEB128, rising strictly (also from the part before), below `pulses`, with a basis each. */
int qn_sift_decode(struct qn_clicks *clicks, const uint8_t *positions, size_t positions_len, const uint8_t *bases,
                   size_t bases_len, size_t count, uint64_t pulses);
void qn_clicks_release(struct qn_clicks *clicks);

/* The source's choices for a pulse: bit 0 the bit, bit 1 the basis. */
typedef unsigned qn_sift_choice(const void *context, uint64_t position);

/* For clicks [first, first + count): appends to `matches` whether the bases agree, and to `key` the source's bit of
 * those that do. -QN_ENOMEM: either may have grown. */
int qn_sift_match(const struct qn_clicks *clicks, size_t first, size_t count, qn_sift_choice *choice,
                  const void *context, struct qn_bits *matches, struct qn_bits *key);
/* The detector's side: appends its bits of clicks [first, first + count) that match. -QN_EPROTOCOL for a bitmap of the
 * wrong length. */
int qn_sift_keep(const struct qn_bits *bits, size_t first, size_t count, const uint8_t *matches, size_t matches_len,
                 struct qn_bits *key);

/* The places to compare: `count` of `len`, every subset equally likely under a secret uniform seed (R. Floyd's
 * sampling; Bentley, CACM 30, 754, 1987; drawn with ChaCha20). The seed must be drawn after the detections are fixed.
 * Sets *ret_mask. */
int qn_sample_select(const uint8_t seed[32], size_t len, size_t count, struct qn_bits *ret_mask);
/* How many to compare: the fraction rounded to nearest, at most `len`; 0 for a fraction not above 0 or not a number. */
size_t qn_sample_size(size_t len, double fraction);
/* Moves the masked bits of `key` to the end of `sample`; `key` keeps the rest in order. */
int qn_sample_split(struct qn_bits *key, const struct qn_bits *mask, struct qn_bits *sample);

#endif
