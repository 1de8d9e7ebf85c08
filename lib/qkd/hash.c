/* SPDX-License-Identifier: Apache-2.0 */
#include "qkd/hash.h"

#include <sodium.h>

#include "qkd/gf2.h"
#include "qkd/pack.h"

/* value = value * point in GF(2^128), by Karatsuba; then x^128 = x^7 + x^2 + x + 1 folds the high half down. */
static void multiply_by(const struct qn_gf2 *gf2, uint64_t value[2], const uint64_t point[2]) {
    uint64_t low[2], high[2], cross[2];
    gf2->multiply(value[0], point[0], low);
    gf2->multiply(value[1], point[1], high);
    gf2->multiply(value[0] ^ value[1], point[0] ^ point[1], cross);
    uint64_t w0 = low[0], w1 = low[1] ^ cross[0] ^ low[0] ^ high[0];
    uint64_t w2 = high[0] ^ cross[1] ^ low[1] ^ high[1], w3 = high[1];
    w2 ^= w3 >> 63 ^ w3 >> 62 ^ w3 >> 57; /* What the fold of w3 pushes beyond 128 bits. */
    value[0] = w0 ^ w2 ^ w2 << 1 ^ w2 << 2 ^ w2 << 7;
    value[1] = w1 ^ w3 ^ w3 << 1 ^ w3 << 2 ^ w3 << 7 ^ w2 >> 63 ^ w2 >> 62 ^ w2 >> 57;
}

void qn_hash(const uint8_t seed[QN_HASH_SEED_BYTES], const struct qn_bits *key, uint8_t ret_tag[QN_HASH_BYTES]) {
    const struct qn_gf2 *gf2 = qn_gf2_best();
    uint64_t point[2] = {load_le64(seed), load_le64(seed + 8)}, value[2] = {0};
    size_t words = qn_bits_words(key->len);
    for (size_t w = 0; w < words; w += 2) {
        value[0] ^= key->words[w];
        if (w + 1 < words) value[1] ^= key->words[w + 1];
        multiply_by(gf2, value, point);
    }
    value[0] ^= key->len;
    multiply_by(gf2, value, point);
    store_le64(ret_tag, value[0]);
    store_le64(ret_tag + 8, value[1]);
    sodium_memzero(value, sizeof value);
}
