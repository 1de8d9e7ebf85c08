/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QKD_AMPLIFY_WITH_H
#define QN_QKD_AMPLIFY_WITH_H

#include "qkd/amplify.h"
#include "qkd/fft.h"
#include "qkd/gf2.h"

/* qn_amplify_rows with a chosen method and inner loops, so that tests can compare them all; private to lib/qkd. One of
 * gf2 and fft is NULL. */
int qn_amplify_with(const struct qn_gf2 *gf2, const struct fft_kernels *fft, const struct qn_bits *key,
                    const uint8_t seed[QN_AMPLIFY_SEED_BYTES], size_t first, size_t bits, struct qn_bits *ret_key);

/* out = words key_words .. key_words + out_words - 1 of key x diagonal; -QN_ENOMEM. */
int toeplitz_fft(const struct fft_kernels *fft, const uint64_t *key, size_t key_words, const uint64_t *diagonal,
                 size_t diagonal_words, uint64_t *out, size_t out_words);

#endif
