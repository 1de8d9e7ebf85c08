/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QKD_AMPLIFY_H
#define QN_QKD_AMPLIFY_H

#include <stddef.h>
#include <stdint.h>

#include "qkd/bits.h"

enum { QN_AMPLIFY_SEED_BYTES = 32, QN_AMPLIFY_MAX_BITS = 1 << 27, QN_AMPLIFY_ROWS_GRAIN = 512 };

/* Privacy amplification: multiplies the key of n bits by a random m x n Toeplitz matrix,
 *     out[j] = XOR over i of key[i] & d[j - i + n],
 * where d is the ChaCha20 keystream of the seed (nonce 0, least significant bit first; d[0] is not used). Toeplitz
 * matrices are 2-universal (Krawczyk, CRYPTO 94), so the leftover hash lemma applies; expanding a short public seed
 * makes that computational in the seed alone. The seed may be sent in the clear, but only once the key is fixed.
 *
 * Long keys are multiplied by additive Fourier transforms (amplify_fft.c), with time nearly proportional to n; short
 * ones, and those on machines without GFNI, by about (n/64)^1.58 carry-less multiplications, a Karatsuba-like three-way
 * split of Toeplitz matrices (Fan and Hasan, IEEE Trans. Comput. 56, 224, 2007). What is fastest here is chosen at run
 * time; the result is always the same. Memory while it runs: up to 3 MB for 10^6 bits, 10 MB for 10^7, 70 MB for 10^8.
 *
 * Sets *ret_key (wiped first; may not be `key`). -QN_EINVAL if bits > key->len or beyond the limit, -QN_ENOMEM. */
int qn_amplify(const struct qn_bits *key, const uint8_t seed[QN_AMPLIFY_SEED_BYTES], size_t bits,
               struct qn_bits *ret_key);

/* Rows first .. first + bits - 1 alone; first is a multiple of QN_AMPLIFY_ROWS_GRAIN, else -QN_EINVAL. Calls for
 * different rows may run side by side on different threads; two halves take about two thirds of the time of all each.
 */
int qn_amplify_rows(const struct qn_bits *key, const uint8_t seed[QN_AMPLIFY_SEED_BYTES], size_t first, size_t bits,
                    struct qn_bits *ret_key);

#endif
