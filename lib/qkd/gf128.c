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
 * sum is folded once. `powers`: from the highest down. */
static PCLMUL void four_at_a_time(uint64_t value[2], const uint64_t powers[4][2], const uint8_t *bytes, size_t blocks) {
    for (; blocks >= 4; blocks -= 4, bytes += 64) {
        __m128i low = _mm_setzero_si128(), cross = low, high = low;
        for (int i = 0; i < 4; i++) {
            __m128i block = load(bytes + 16 * i), power = load(powers[i]);
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

#define VPCLMUL __attribute__((target("vpclmulqdq,avx512f,avx512bw,avx512dq,avx512vl,pclmul,sse4.1")))
#define INLINE static inline __attribute__((always_inline))

enum { WIDE_STEP = 16, WIDE_LEAST = 128 }; /* Blocks; with fewer, the powers cost more than they save. */

INLINE VPCLMUL __m128i sum_of_lanes(__m512i x) {
    __m256i half = _mm256_xor_si256(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
    return _mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

/* The same with sixteen, four in a register. `powers`: from the highest down. */
static VPCLMUL void sixteen_at_a_time(uint64_t value[2], const uint64_t powers[WIDE_STEP][2], const uint8_t *bytes,
                                      size_t blocks) {
    __m512i power[4];
    for (int i = 0; i < 4; i++) power[i] = _mm512_loadu_si512(powers[4 * i]);
    for (; blocks >= WIDE_STEP; blocks -= WIDE_STEP, bytes += 16 * WIDE_STEP) {
        __m512i lows = _mm512_setzero_si512(), crosses = lows, highs = lows;
        for (int i = 3; i >= 0; i--) { /* The one that waits for the last value comes last. */
            __m512i block = _mm512_loadu_si512(bytes + 64 * i);
            if (i == 0) block = _mm512_xor_si512(block, _mm512_zextsi128_si512(load(value)));
            lows = _mm512_xor_si512(lows, _mm512_clmulepi64_epi128(block, power[i], 0x00));
            highs = _mm512_xor_si512(highs, _mm512_clmulepi64_epi128(block, power[i], 0x11));
            crosses = _mm512_ternarylogic_epi64(crosses, _mm512_clmulepi64_epi128(block, power[i], 0x01),
                                                _mm512_clmulepi64_epi128(block, power[i], 0x10), 0x96);
        }
        __m128i cross = sum_of_lanes(crosses);
        __m128i low = _mm_xor_si128(sum_of_lanes(lows), _mm_slli_si128(cross, 8));
        __m128i high = _mm_xor_si128(sum_of_lanes(highs), _mm_srli_si128(cross, 8));
        const uint64_t product[4] = {(uint64_t)_mm_cvtsi128_si64(low), (uint64_t)_mm_extract_epi64(low, 1),
                                     (uint64_t)_mm_cvtsi128_si64(high), (uint64_t)_mm_extract_epi64(high, 1)};
        gf128_fold(product, value);
    }
}

/* p^n .. p */
static void powers_down(const struct qn_gf2 *gf2, const uint64_t point[2], uint64_t (*powers)[2], int n) {
    powers[n - 1][0] = point[0];
    powers[n - 1][1] = point[1];
    for (int i = n - 2; i >= 0; i--) {
        powers[i][0] = powers[i + 1][0];
        powers[i][1] = powers[i + 1][1];
        gf128_multiply_by(gf2, powers[i], point);
    }
}
#endif

void gf128_horner(const struct qn_gf2 *gf2, uint64_t value[2], const uint64_t point[2], const uint8_t *bytes,
                  size_t blocks) {
#ifdef __x86_64__
    if (gf2 == qn_gf2_at(2) && blocks >= WIDE_LEAST) {
        uint64_t powers[WIDE_STEP][2];
        powers_down(gf2, point, powers, WIDE_STEP);
        sixteen_at_a_time(value, (const uint64_t(*)[2])powers, bytes, blocks);
        bytes += blocks / WIDE_STEP * WIDE_STEP * 16;
        blocks %= WIDE_STEP;
    }
    if (gf2 != qn_gf2_at(0) && blocks >= 8) { /* Every set but the first is of machines with the instruction. */
        uint64_t powers[4][2];
        powers_down(gf2, point, powers, 4);
        four_at_a_time(value, (const uint64_t(*)[2])powers, bytes, blocks);
        bytes += blocks / 4 * 64;
        blocks %= 4;
    }
#endif
    one_by_one(gf2, value, point, bytes, blocks);
}
