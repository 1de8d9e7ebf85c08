/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QKD_GF128_H
#define QN_QKD_GF128_H

#include <stdint.h>

#include "qkd/gf2.h"

/* GF(2^128), x^128 + x^7 + x^2 + x + 1, least significant bit first; private to lib/qkd. */

/* A product of 256 bits, folded down by x^128 = x^7 + x^2 + x + 1. */
static inline void gf128_fold(const uint64_t product[4], uint64_t ret_value[2]) {
    uint64_t w2 = product[2], w3 = product[3];
    w2 ^= w3 >> 63 ^ w3 >> 62 ^ w3 >> 57; /* What the fold of w3 pushes beyond 128 bits. */
    ret_value[0] = product[0] ^ w2 ^ w2 << 1 ^ w2 << 2 ^ w2 << 7;
    ret_value[1] = product[1] ^ w3 ^ w3 << 1 ^ w3 << 2 ^ w3 << 7 ^ w2 >> 63 ^ w2 >> 62 ^ w2 >> 57;
}

/* value = value * point, by Karatsuba. */
static inline void gf128_multiply_by(const struct qn_gf2 *gf2, uint64_t value[2], const uint64_t point[2]) {
    uint64_t low[2], high[2], cross[2];
    gf2->multiply(value[0], point[0], low);
    gf2->multiply(value[1], point[1], high);
    gf2->multiply(value[0] ^ value[1], point[0] ^ point[1], cross);
    const uint64_t product[4] = {low[0], low[1] ^ cross[0] ^ low[0] ^ high[0], high[0] ^ cross[1] ^ low[1] ^ high[1],
                                 high[1]};
    gf128_fold(product, value);
}

/* value = (value + block) * point for each 16-byte block. */
void gf128_horner(const struct qn_gf2 *gf2, uint64_t value[2], const uint64_t point[2], const uint8_t *bytes,
                  size_t blocks);

#endif
