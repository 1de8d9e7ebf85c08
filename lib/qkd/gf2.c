/* SPDX-License-Identifier: Apache-2.0 */
#include "qkd/gf2.h"

#include <stdbool.h>

/* ---- Portable: carry-less multiplication out of integer multiplication, with three holes between bits so that carries
 * fall into them (T. Pornin, BearSSL, ctmul64). The high half is the low half of the reversed operands' product. */

static uint64_t multiply_low(uint64_t x, uint64_t y) {
    uint64_t x_part[4], y_part[4], product = 0;
    for (unsigned i = 0; i < 4; i++) {
        x_part[i] = x & 0x1111111111111111ull << i;
        y_part[i] = y & 0x1111111111111111ull << i;
    }
    for (unsigned i = 0; i < 4; i++) {
        uint64_t sum = 0;
        for (unsigned j = 0; j < 4; j++) sum ^= x_part[j] * y_part[(i - j) & 3];
        product |= sum & 0x1111111111111111ull << i;
    }
    return product;
}

static uint64_t reverse(uint64_t x) {
    x = (x >> 1 & 0x5555555555555555ull) | (x & 0x5555555555555555ull) << 1;
    x = (x >> 2 & 0x3333333333333333ull) | (x & 0x3333333333333333ull) << 2;
    x = (x >> 4 & 0x0f0f0f0f0f0f0f0full) | (x & 0x0f0f0f0f0f0f0f0full) << 4;
    return __builtin_bswap64(x);
}

static void portable_multiply(uint64_t a, uint64_t b, uint64_t ret_product[2]) {
    ret_product[0] = multiply_low(a, b);
    ret_product[1] = reverse(multiply_low(reverse(a), reverse(b))) >> 1;
}

static void portable_add(uint64_t *to, const uint64_t *a, const uint64_t *b, size_t words) {
    for (size_t i = 0; i < words; i++) to[i] = a[i] ^ b[i];
}

/* Diagonal i is the sum of x[j] t[s - 1 + i - j] over j, two words; its low word belongs to output i - 1 and its high
 * one to output i. */
static void portable_middle(uint64_t *to, const uint64_t *t, const uint64_t *x, size_t s) {
    for (size_t i = 0; i <= s; i++) {
        uint64_t sum[2] = {0}, product[2];
        for (size_t j = 0; j < s; j++) {
            portable_multiply(x[j], t[s - 1 + i - j], product);
            sum[0] ^= product[0];
            sum[1] ^= product[1];
        }
        if (i > 0) to[i - 1] ^= sum[0];
        if (i < s) to[i] = sum[1];
    }
}

static const struct qn_gf2 portable = {"portable", portable_multiply, portable_add, portable_middle};

#ifdef __x86_64__
#include <immintrin.h>

#define PCLMUL __attribute__((target("pclmul,sse4.1")))

static PCLMUL void pclmul_multiply(uint64_t a, uint64_t b, uint64_t ret_product[2]) {
    __m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)a), _mm_cvtsi64_si128((long long)b), 0);
    _mm_storeu_si128((__m128i *)(void *)ret_product, product);
}

static PCLMUL __m128i load2(const uint64_t *words) { return _mm_loadu_si128((const __m128i *)(const void *)words); }

/* Eight diagonals at a time: four registers for the even ones, four for the odd ones. */
static PCLMUL void pclmul_diagonals(const uint64_t *t, const uint64_t *x, size_t s, __m128i sum[8]) {
    for (int i = 0; i < 8; i++) sum[i] = _mm_setzero_si128();
    for (size_t j = 0; j < s; j++) {
        __m128i factor = _mm_loadl_epi64((const __m128i *)(const void *)(x + j));
        for (int i = 0; i < 8; i += 2) {
            __m128i pair = load2(t + s + (size_t)i - j);
            sum[i] = _mm_xor_si128(sum[i], _mm_clmulepi64_si128(pair, factor, 0x00));
            sum[i + 1] = _mm_xor_si128(sum[i + 1], _mm_clmulepi64_si128(pair, factor, 0x01));
        }
    }
}

static PCLMUL void pclmul_middle(uint64_t *to, const uint64_t *t, const uint64_t *x, size_t s) {
    __m128i before = _mm_setzero_si128(), sum[8]; /* Diagonal 0, then 1 .. 8, 9 .. 16, ... */
    for (size_t j = 0; j < s; j++)
        before = _mm_xor_si128(
            before, _mm_clmulepi64_si128(_mm_loadl_epi64((const __m128i *)(const void *)(x + j)),
                                         _mm_loadl_epi64((const __m128i *)(const void *)(t + s - 1 - j)), 0));
    for (size_t i = 0; i < s; i += 8) {
        pclmul_diagonals(t + i, x, s, sum);
        for (size_t k = 0; k < 8; k++) {
            to[i + k] = (uint64_t)_mm_extract_epi64(before, 1) ^ (uint64_t)_mm_cvtsi128_si64(sum[k]);
            before = sum[k];
        }
    }
}

static const struct qn_gf2 pclmul = {"pclmul", pclmul_multiply, portable_add, pclmul_middle};

#define WIDE __attribute__((target("avx512f,avx512bw,vpclmulqdq,pclmul,sse4.1")))

static WIDE void wide_add(uint64_t *to, const uint64_t *a, const uint64_t *b, size_t words) {
    size_t i = 0;
    for (; i + 8 <= words; i += 8)
        _mm512_storeu_si512(to + i, _mm512_xor_si512(_mm512_loadu_si512(a + i), _mm512_loadu_si512(b + i)));
    for (; i < words; i++) to[i] = a[i] ^ b[i];
}

/* The sum of x[j] t[s - 1 - j]: eight products a step, t reversed to meet x. */
static WIDE __m128i wide_first_diagonal(const uint64_t *t, const uint64_t *x, size_t s) {
    const __m512i backwards = _mm512_set_epi64(0, 1, 2, 3, 4, 5, 6, 7);
    __m512i sum = _mm512_setzero_si512();
    for (size_t j = 0; j < s; j += 8) {
        __m512i a = _mm512_loadu_si512(x + j);
        __m512i b = _mm512_permutexvar_epi64(backwards, _mm512_loadu_si512(t + s - 8 - j));
        sum = _mm512_ternarylogic_epi64(sum, _mm512_clmulepi64_epi128(a, b, 0x00), _mm512_clmulepi64_epi128(a, b, 0x11),
                                        0x96);
    }
    __m128i low = _mm_xor_si128(_mm512_castsi512_si128(sum), _mm512_extracti32x4_epi32(sum, 1));
    return _mm_xor_si128(low, _mm_xor_si128(_mm512_extracti32x4_epi32(sum, 2), _mm512_extracti32x4_epi32(sum, 3)));
}

/* All diagonals but the first, eight a register pair. Eight words of t at offset 8 (b - q) - r serve every block b of
 * the output with word 8 q + r of x, so they are loaded once for all of these. `blocks` is a constant after inlining.
 */
static inline __attribute__((always_inline)) WIDE void wide_blocks(uint64_t *to, const uint64_t *t, const uint64_t *x,
                                                                   size_t s, int blocks) {
    __m512i even[4], odd[4], factor[4];
    for (int b = 0; b < blocks; b++) even[b] = odd[b] = _mm512_setzero_si512();
    for (int r = 0; r < 8; r++) {
        for (int q = 0; q < blocks; q++) factor[q] = _mm512_set1_epi64((long long)x[8 * q + r]);
        const uint64_t *at = t + s - (size_t)r;
#pragma GCC unroll 8
        for (int c = 1 - blocks; c < blocks; c++) {
            __m512i words = _mm512_loadu_si512(at + 8 * c);
#pragma GCC unroll 4
            for (int b = 0; b < blocks; b++) {
                int q = b - c;
                if (q < 0 || q >= blocks) continue;
                even[b] = _mm512_xor_si512(even[b], _mm512_clmulepi64_epi128(words, factor[q], 0x00));
                odd[b] = _mm512_xor_si512(odd[b], _mm512_clmulepi64_epi128(words, factor[q], 0x01));
            }
        }
    }
    /* Even diagonals cover words 2l and 2l + 1; odd ones are a word later, so the last spills into the next block. */
    uint64_t spill = (uint64_t)_mm_extract_epi64(wide_first_diagonal(t, x, s), 1);
    for (int b = 0; b < blocks; b++) {
        uint64_t later[8];
        _mm512_storeu_si512(to + 8 * b, even[b]);
        _mm512_storeu_si512(later, odd[b]);
        to[8 * b] ^= spill;
        for (int i = 0; i < 7; i++) to[8 * b + i + 1] ^= later[i];
        spill = later[7];
    }
}

static WIDE void wide_middle(uint64_t *to, const uint64_t *t, const uint64_t *x, size_t s) {
    switch (s / 8) {
    case 1:
        wide_blocks(to, t, x, s, 1);
        break;
    case 2:
        wide_blocks(to, t, x, s, 2);
        break;
    case 3:
        wide_blocks(to, t, x, s, 3);
        break;
    default:
        wide_blocks(to, t, x, s, 4);
        break;
    }
}

static const struct qn_gf2 wide = {"vpclmul", pclmul_multiply, wide_add, wide_middle};

static bool has_pclmul(void) { return __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1"); }
static bool has_wide(void) {
    return has_pclmul() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("vpclmulqdq");
}
#endif

const struct qn_gf2 *qn_gf2_at(size_t index) {
    if (index == 0) return &portable;
#ifdef __x86_64__
    if (index == 1 && has_pclmul()) return &pclmul;
    if (index == 2 && has_wide()) return &wide;
#endif
    return NULL;
}

const struct qn_gf2 *qn_gf2_best(void) {
    size_t index = 0;
    while (qn_gf2_at(index + 1) != NULL) index++;
    return qn_gf2_at(index);
}
