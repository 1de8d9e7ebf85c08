/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QKD_SIFT_H
#define QN_QKD_SIFT_H

#include <stddef.h>
#include <stdint.h>

#include "qkd/bits.h"

/* Sifting (Bennett and Brassard, Theor. Comput. Sci. 560, 7, 2014, reprint of 1984), with decoys (Lo, Ma and Chen, PRL
 * 94, 230504, 2005): the detector tells where it clicked and in which basis, never the bit; the source, once it has all
 * of that, answers which clicks were in its own basis and of which intensity those were. Bits of equal bases are split:
 * those of the key basis Z (0) become key, those of the test basis X (1) are compared in the open.
 *
 *   detector: qn_sift_encode, a piece at a time            -> positions, bases
 *   source:   qn_sift_decode; qn_sift_match                -> answer
 *   detector: qn_sift_read                                    then both have a struct qn_sifted
 *
 * Whole trains at a time, in words: the cost is a few instructions a click. */

/* Clicks of a piece, a multiple of 64, and bytes of its positions. */
enum { QN_SIFT_PIECE_CLICKS = 49152, QN_SIFT_PIECE_BYTES = 56 * 1024 };

/* Appends the positions of clicks [first, first + *ret_count) of `n`, as many as make a piece: the first as LEB128,
 * then differences (a piece stands alone). Offsets rise strictly. -QN_ENOMEM, -QN_ELIMIT. */
int qn_sift_encode(const uint32_t *offset, size_t first, size_t n, struct qn_buf *ret_positions, size_t *ret_count);
/* From outside: exactly `count` positions in shortest-form LEB128, rising strictly, the first not below `least`, all
 * below `pulses`; anything else is -QN_EPROTOCOL. */
int qn_sift_decode(const uint8_t *positions, size_t len, size_t count, uint64_t least, uint64_t pulses,
                   uint32_t *ret_offset);

enum { QN_SIFT_PLANES = 2 }; /* Up to four intensities. */

/* What is left of a train. Planes hold the number of the intensity of each bit, lowest bit first; all-zero is valid. */
struct qn_sifted {
    struct qn_bits key, test;
    struct qn_bits key_plane[QN_SIFT_PLANES], test_plane[QN_SIFT_PLANES];
};
void qn_sifted_release(struct qn_sifted *sifted); /* Wipes. */

/* The source's side. `bases`: what the detector told; `basis`, `bit` and `plane`: its own choices at those clicks.
 * Appends the answer, packed as Bb84Sift.bits, and fills *ret_sifted (empty before). -QN_ENOMEM, -QN_ELIMIT. */
int qn_sift_match(const struct qn_bits *bases, const struct qn_bits *basis, const struct qn_bits *bit,
                  const struct qn_bits *plane, unsigned n_planes, struct qn_buf *ret_answer,
                  struct qn_sifted *ret_sifted);
/* The detector's side, from what the source sent. -QN_EPROTOCOL unless it is as long as it must be. */
int qn_sift_read(const struct qn_bits *bases, const struct qn_bits *bits, unsigned n_planes, const uint8_t *answer,
                 size_t len, struct qn_sifted *ret_sifted);

/* How many bits have intensity k, and how many of those are 1 in `where` (NULL: all). */
uint64_t qn_sift_count(const struct qn_bits plane[QN_SIFT_PLANES], unsigned n_planes, size_t len, unsigned k,
                       const struct qn_bits *where);

#endif
