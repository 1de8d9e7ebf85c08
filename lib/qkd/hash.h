/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QKD_HASH_H
#define QN_QKD_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "qkd/bits.h"

/* Verification: after reconciliation the detector sends a random seed and this hash of its key, the source compares.
 * Polynomial over GF(2^128), x^128 + x^7 + x^2 + x + 1, evaluated at the seed: the key's 128-bit pieces (least
 * significant bit first, the last padded with zeros), then its length in bits. Different keys of n bits, chosen before
 * the seed, give the same tag with probability at most (n/128 + 2) / 2^128: 2^-115 for a million bits (Wegman and
 * Carter, JCSS 22, 265, 1981). The tag is public: it costs QN_HASH_BYTES * 8 bits of the key. */
enum { QN_HASH_BYTES = 16, QN_HASH_SEED_BYTES = 16 };

void qn_hash(const uint8_t seed[QN_HASH_SEED_BYTES], const struct qn_bits *key, uint8_t ret_tag[QN_HASH_BYTES]);

#endif
