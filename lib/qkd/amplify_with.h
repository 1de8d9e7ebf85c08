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

/* out = rows 64 first .. 64 (first + out_words) - 1; first a multiple of 8. -QN_ENOMEM. */
int toeplitz_fft(const struct fft_kernels *fft, const struct qn_bits *key, const uint8_t seed[QN_AMPLIFY_SEED_BYTES],
                 size_t first, uint64_t *out, size_t out_words);

#endif
