/* SPDX-License-Identifier: Apache-2.0 */
#include "qkd/keystream.h"

#include <sodium.h>
#include <stdbool.h>
#include <string.h>

#include "qkd/pack.h"

/* Whole blocks. */
static void portable_blocks(const uint8_t *seed, size_t block, uint64_t *words, size_t blocks) {
    static const uint8_t nonce[crypto_stream_chacha20_NONCEBYTES];
    unsigned char *bytes = (unsigned char *)words;
    size_t len = blocks * KEYSTREAM_BLOCK * sizeof *words;
    memset(bytes, 0, len);
    crypto_stream_chacha20_xor_ic(bytes, bytes, len, nonce, block, seed);
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    for (size_t i = 0; i < blocks * KEYSTREAM_BLOCK; i++) words[i] = load_le64(bytes + 8 * i);
#endif
}

#ifdef __x86_64__
#include <immintrin.h>

#define WIDE __attribute__((target("avx512f")))
enum { SIDE = 16 };

static inline WIDE void quarter_round(__m512i *a, __m512i *b, __m512i *c, __m512i *d) {
    *a = _mm512_add_epi32(*a, *b);
    *d = _mm512_rol_epi32(_mm512_xor_si512(*d, *a), 16);
    *c = _mm512_add_epi32(*c, *d);
    *b = _mm512_rol_epi32(_mm512_xor_si512(*b, *c), 12);
    *a = _mm512_add_epi32(*a, *b);
    *d = _mm512_rol_epi32(_mm512_xor_si512(*d, *a), 8);
    *c = _mm512_add_epi32(*c, *d);
    *b = _mm512_rol_epi32(_mm512_xor_si512(*b, *c), 7);
}

/* Lane i of x[w] is word w of block i: to one block after the other. */
static inline WIDE void store_blocks(const __m512i x[16], uint64_t *words) {
    __m512i quarter[4][4]; /* [g][c]: lane l has words 4 g .. 4 g + 3 of block 4 l + c. */
    for (int g = 0; g < 4; g++) {
        __m512i a = _mm512_unpacklo_epi32(x[4 * g], x[4 * g + 1]), b = _mm512_unpackhi_epi32(x[4 * g], x[4 * g + 1]);
        __m512i c = _mm512_unpacklo_epi32(x[4 * g + 2], x[4 * g + 3]);
        __m512i d = _mm512_unpackhi_epi32(x[4 * g + 2], x[4 * g + 3]);
        quarter[g][0] = _mm512_unpacklo_epi64(a, c);
        quarter[g][1] = _mm512_unpackhi_epi64(a, c);
        quarter[g][2] = _mm512_unpacklo_epi64(b, d);
        quarter[g][3] = _mm512_unpackhi_epi64(b, d);
    }
    for (int c = 0; c < 4; c++) {
        __m512i low0 = _mm512_shuffle_i32x4(quarter[0][c], quarter[1][c], 0x88);
        __m512i low1 = _mm512_shuffle_i32x4(quarter[2][c], quarter[3][c], 0x88);
        __m512i high0 = _mm512_shuffle_i32x4(quarter[0][c], quarter[1][c], 0xdd);
        __m512i high1 = _mm512_shuffle_i32x4(quarter[2][c], quarter[3][c], 0xdd);
        _mm512_storeu_si512(words + 8 * c, _mm512_shuffle_i32x4(low0, low1, 0x88));
        _mm512_storeu_si512(words + 8 * (4 + c), _mm512_shuffle_i32x4(high0, high1, 0x88));
        _mm512_storeu_si512(words + 8 * (8 + c), _mm512_shuffle_i32x4(low0, low1, 0xdd));
        _mm512_storeu_si512(words + 8 * (12 + c), _mm512_shuffle_i32x4(high0, high1, 0xdd));
    }
}

static WIDE void wide_blocks(const uint8_t *seed, size_t block, uint64_t *words, size_t blocks) {
    static const uint32_t constants[4] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574}; /* "expand 32-byte k" */
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    __m512i start[16], x[16];
    for (int i = 0; i < 4; i++) start[i] = _mm512_set1_epi32((int)constants[i]);
    for (int i = 0; i < 8; i++) {
        int word;
        memcpy(&word, seed + 4 * i, sizeof word);
        start[4 + i] = _mm512_set1_epi32(word);
    }
    for (int i = 12; i < 16; i++) start[i] = _mm512_setzero_si512();
    for (; blocks >= SIDE; blocks -= SIDE, block += SIDE, words += SIDE * KEYSTREAM_BLOCK) {
        start[12] = _mm512_add_epi32(_mm512_set1_epi32((int)(uint32_t)block), lanes);
        for (int i = 0; i < 16; i++) x[i] = start[i];
        for (int round = 0; round < 20; round += 2) {
            for (int i = 0; i < 4; i++) quarter_round(&x[i], &x[4 + i], &x[8 + i], &x[12 + i]);
            for (int i = 0; i < 4; i++)
                quarter_round(&x[i], &x[4 + (i + 1) % 4], &x[8 + (i + 2) % 4], &x[12 + (i + 3) % 4]);
        }
        for (int i = 0; i < 16; i++) x[i] = _mm512_add_epi32(x[i], start[i]);
        store_blocks(x, words);
    }
    portable_blocks(seed, block, words, blocks);
}

static bool has_wide(void) { return __builtin_cpu_supports("avx512f"); }
#else
static void wide_blocks(const uint8_t *seed, size_t block, uint64_t *words, size_t blocks) {
    portable_blocks(seed, block, words, blocks);
}
static bool has_wide(void) { return false; }
#endif

static void make(const uint8_t *seed, size_t first, uint64_t *words, size_t count, bool wide) {
    while (count > 0) {
        size_t skip = first % KEYSTREAM_BLOCK, take = count / KEYSTREAM_BLOCK * KEYSTREAM_BLOCK;
        if (skip == 0 && take > 0) {
            (wide ? wide_blocks : portable_blocks)(seed, first / KEYSTREAM_BLOCK, words, take / KEYSTREAM_BLOCK);
        } else { /* Part of a block. */
            uint64_t block[KEYSTREAM_BLOCK];
            portable_blocks(seed, first / KEYSTREAM_BLOCK, block, 1);
            take = KEYSTREAM_BLOCK - skip < count ? KEYSTREAM_BLOCK - skip : count;
            memcpy(words, block + skip, take * sizeof *words);
        }
        words += take;
        first += take;
        count -= take;
    }
}

void keystream(const uint8_t seed[KEYSTREAM_SEED_BYTES], size_t first, uint64_t *ret_words, size_t count) {
    make(seed, first, ret_words, count, has_wide());
}

void keystream_portable(const uint8_t seed[KEYSTREAM_SEED_BYTES], size_t first, uint64_t *ret_words, size_t count) {
    make(seed, first, ret_words, count, false);
}
