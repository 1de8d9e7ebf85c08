/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QKD_SIFT_WITH_H
#define QN_QKD_SIFT_WITH_H

#include <stdbool.h>

#include "qkd/sift.h"

/* For tests: sifting without the instructions this machine may have. */
int qn_sift_encode_with(const uint32_t *offset, size_t first, size_t n, struct qn_buf *ret_positions, size_t *ret_count,
                        bool portable);
int qn_sift_decode_with(const uint8_t *positions, size_t len, size_t count, uint64_t least, uint64_t pulses,
                        uint32_t *ret_offset, bool portable);
int qn_sift_match_with(const struct qn_bits *bases, const struct qn_bits *basis, const struct qn_bits *bit,
                       const struct qn_bits *plane, unsigned n_planes, struct qn_buf *ret_answer,
                       struct qn_sifted *ret_sifted, bool portable);
int qn_sift_read_with(const struct qn_bits *bases, const struct qn_bits *bits, unsigned n_planes, const uint8_t *answer,
                      size_t len, struct qn_sifted *ret_sifted, bool portable);

#endif
