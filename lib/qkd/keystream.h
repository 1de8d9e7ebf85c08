/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QKD_KEYSTREAM_H
#define QN_QKD_KEYSTREAM_H

#include <stddef.h>
#include <stdint.h>

/* The ChaCha20 keystream of a seed with nonce 0 (D. J. Bernstein's variant: 64-bit counter and nonce), as little-endian
 * words; private to lib/qkd. It is libsodium's, but where there is AVX-512 sixteen blocks are made side by side, four
 * times as fast: the expanded seed is as long as key and secret key together. */
enum { KEYSTREAM_SEED_BYTES = 32, KEYSTREAM_BLOCK = 8 /* Words. */ };

/* Words first .. first + count - 1; fewer than 2^34. */
void keystream(const uint8_t seed[KEYSTREAM_SEED_BYTES], size_t first, uint64_t *ret_words, size_t count);
/* The same without the instructions this machine may have, for tests. */
void keystream_portable(const uint8_t seed[KEYSTREAM_SEED_BYTES], size_t first, uint64_t *ret_words, size_t count);

#endif
