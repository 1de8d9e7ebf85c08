/* SPDX-License-Identifier: Apache-2.0 */
#include "qkd/hash.h"

#include <sodium.h>

#include "qkd/gf128.h"
#include "qkd/pack.h"

void qn_hash(const uint8_t seed[QN_HASH_SEED_BYTES], const struct qn_bits *key, uint8_t ret_tag[QN_HASH_BYTES]) {
    const struct qn_gf2 *gf2 = qn_gf2_best();
    uint64_t point[2] = {load_le64(seed), load_le64(seed + 8)}, value[2] = {0};
    size_t words = qn_bits_words(key->len);
    size_t whole = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? words / 2 * 2 : 0; /* Words that are bytes in order. */
    gf128_horner(gf2, value, point, (const uint8_t *)key->words, whole / 2);
    for (size_t w = whole; w < words; w += 2) {
        value[0] ^= key->words[w];
        if (w + 1 < words) value[1] ^= key->words[w + 1];
        gf128_multiply_by(gf2, value, point);
    }
    value[0] ^= key->len;
    gf128_multiply_by(gf2, value, point);
    store_le64(ret_tag, value[0]);
    store_le64(ret_tag + 8, value[1]);
    sodium_memzero(value, sizeof value);
}
