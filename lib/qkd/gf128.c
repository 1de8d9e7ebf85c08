/* SPDX-License-Identifier: Apache-2.0 */
#include "qkd/gf128.h"

#include "qkd/pack.h"

static void one_by_one(const struct qn_gf2 *gf2, uint64_t value[2], const uint64_t point[2], const uint8_t *bytes,
                       size_t blocks) {
    for (; blocks > 0; blocks--, bytes += 16) {
        value[0] ^= load_le64(bytes);
        value[1] ^= load_le64(bytes + 8);
        gf128_multiply_by(gf2, value, point);
    }
}

#ifdef __x86_64__
#include <immintrin.h>

#define PCLMUL __attribute__((target("pclmul,sse4.1")))

static PCLMUL __m128i load(const void *bytes) { return _mm_loadu_si128(bytes); }

/* Four blocks a step, as (value + b0) p^4 + b1 p^3 + b2 p^2 + b3 p: the products do not wait for each other, and their
 * sum is folded once. */
static PCLMUL void four_at_a_time(uint64_t value[2], const uint64_t powers[4][2], const uint8_t *bytes, size_t blocks) {
    for (; blocks >= 4; blocks -= 4, bytes += 64) {
        __m128i low = _mm_setzero_si128(), cross = low, high = low;
        for (int i = 0; i < 4; i++) {
            __m128i block = load(bytes + 16 * i), power = load(powers[3 - i]);
            if (i == 0) block = _mm_xor_si128(block, load(value));
            low = _mm_xor_si128(low, _mm_clmulepi64_si128(block, power, 0x00));
            high = _mm_xor_si128(high, _mm_clmulepi64_si128(block, power, 0x11));
            cross = _mm_xor_si128(cross, _mm_clmulepi64_si128(block, power, 0x01));
            cross = _mm_xor_si128(cross, _mm_clmulepi64_si128(block, power, 0x10));
        }
        low = _mm_xor_si128(low, _mm_slli_si128(cross, 8));
        high = _mm_xor_si128(high, _mm_srli_si128(cross, 8));
        const uint64_t product[4] = {(uint64_t)_mm_cvtsi128_si64(low), (uint64_t)_mm_extract_epi64(low, 1),
                                     (uint64_t)_mm_cvtsi128_si64(high), (uint64_t)_mm_extract_epi64(high, 1)};
        gf128_fold(product, value);
    }
}
#endif

void gf128_horner(const struct qn_gf2 *gf2, uint64_t value[2], const uint64_t point[2], const uint8_t *bytes,
                  size_t blocks) {
#ifdef __x86_64__
    if (gf2 != qn_gf2_at(0) && blocks >= 8) { /* Every set but the first is of machines with the instruction. */
        uint64_t powers[4][2] = {{point[0], point[1]}};
        for (int i = 1; i < 4; i++) {
            powers[i][0] = powers[i - 1][0];
            powers[i][1] = powers[i - 1][1];
            gf128_multiply_by(gf2, powers[i], point);
        }
        four_at_a_time(value, (const uint64_t(*)[2])powers, bytes, blocks);
        bytes += blocks / 4 * 64;
        blocks %= 4;
    }
#endif
    one_by_one(gf2, value, point, bytes, blocks);
}
