/* SPDX-License-Identifier: Apache-2.0 */
/* FIPS 197, Advanced Encryption Standard (2001). The counter mode is that of NIST SP 800-38A with a block of two
 * little-endian numbers. */
#include "base/aes.h"

#include <sodium.h>
#include <stdbool.h>
#include <string.h>

static const uint8_t sbox[256] = {
    0x63, 0x7c, 0x77, 0x7b, 0xf2, 0x6b, 0x6f, 0xc5, 0x30, 0x01, 0x67, 0x2b, 0xfe, 0xd7, 0xab, 0x76, 0xca, 0x82, 0xc9,
    0x7d, 0xfa, 0x59, 0x47, 0xf0, 0xad, 0xd4, 0xa2, 0xaf, 0x9c, 0xa4, 0x72, 0xc0, 0xb7, 0xfd, 0x93, 0x26, 0x36, 0x3f,
    0xf7, 0xcc, 0x34, 0xa5, 0xe5, 0xf1, 0x71, 0xd8, 0x31, 0x15, 0x04, 0xc7, 0x23, 0xc3, 0x18, 0x96, 0x05, 0x9a, 0x07,
    0x12, 0x80, 0xe2, 0xeb, 0x27, 0xb2, 0x75, 0x09, 0x83, 0x2c, 0x1a, 0x1b, 0x6e, 0x5a, 0xa0, 0x52, 0x3b, 0xd6, 0xb3,
    0x29, 0xe3, 0x2f, 0x84, 0x53, 0xd1, 0x00, 0xed, 0x20, 0xfc, 0xb1, 0x5b, 0x6a, 0xcb, 0xbe, 0x39, 0x4a, 0x4c, 0x58,
    0xcf, 0xd0, 0xef, 0xaa, 0xfb, 0x43, 0x4d, 0x33, 0x85, 0x45, 0xf9, 0x02, 0x7f, 0x50, 0x3c, 0x9f, 0xa8, 0x51, 0xa3,
    0x40, 0x8f, 0x92, 0x9d, 0x38, 0xf5, 0xbc, 0xb6, 0xda, 0x21, 0x10, 0xff, 0xf3, 0xd2, 0xcd, 0x0c, 0x13, 0xec, 0x5f,
    0x97, 0x44, 0x17, 0xc4, 0xa7, 0x7e, 0x3d, 0x64, 0x5d, 0x19, 0x73, 0x60, 0x81, 0x4f, 0xdc, 0x22, 0x2a, 0x90, 0x88,
    0x46, 0xee, 0xb8, 0x14, 0xde, 0x5e, 0x0b, 0xdb, 0xe0, 0x32, 0x3a, 0x0a, 0x49, 0x06, 0x24, 0x5c, 0xc2, 0xd3, 0xac,
    0x62, 0x91, 0x95, 0xe4, 0x79, 0xe7, 0xc8, 0x37, 0x6d, 0x8d, 0xd5, 0x4e, 0xa9, 0x6c, 0x56, 0xf4, 0xea, 0x65, 0x7a,
    0xae, 0x08, 0xba, 0x78, 0x25, 0x2e, 0x1c, 0xa6, 0xb4, 0xc6, 0xe8, 0xdd, 0x74, 0x1f, 0x4b, 0xbd, 0x8b, 0x8a, 0x70,
    0x3e, 0xb5, 0x66, 0x48, 0x03, 0xf6, 0x0e, 0x61, 0x35, 0x57, 0xb9, 0x86, 0xc1, 0x1d, 0x9e, 0xe1, 0xf8, 0x98, 0x11,
    0x69, 0xd9, 0x8e, 0x94, 0x9b, 0x1e, 0x87, 0xe9, 0xce, 0x55, 0x28, 0xdf, 0x8c, 0xa1, 0x89, 0x0d, 0xbf, 0xe6, 0x42,
    0x68, 0x41, 0x99, 0x2d, 0x0f, 0xb0, 0x54, 0xbb, 0x16,
};

/* ---- Portable ---- */

static uint32_t load32(const uint8_t *bytes) {
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static void store32(uint8_t *bytes, uint32_t word) {
    for (int i = 0; i < 4; i++) bytes[i] = (uint8_t)(word >> (8 * i));
}

static uint32_t rotate(uint32_t x, unsigned n) { return x >> n | x << (32 - n); } /* To the right. */

/* Of four bytes at once: times 2 in GF(2^8). */
static uint32_t twice(uint32_t x) { return (x & 0x7f7f7f7fu) << 1 ^ (x >> 7 & 0x01010101u) * 0x1bu; }

static uint32_t mix_column(uint32_t x) {
    uint32_t two = twice(x), three = two ^ x; /* 2 a + 3 b + c + d, for each byte and its three followers. */
    return two ^ rotate(three, 8) ^ rotate(x, 16) ^ rotate(x, 24);
}

/* SubBytes and ShiftRows: row r of column c comes from column c + r. */
static uint32_t shifted_column(const uint32_t state[4], unsigned c) {
    uint32_t column = 0;
    for (unsigned r = 0; r < 4; r++) column |= (uint32_t)sbox[state[(c + r) % 4] >> (8 * r) & 0xff] << (8 * r);
    return column;
}

static void encrypt(const struct qn_aes *aes, uint32_t state[4]) {
    uint32_t next[4];
    for (unsigned c = 0; c < 4; c++) state[c] ^= load32(aes->round_key[0] + 4 * c);
    for (unsigned round = 1; round <= 10; round++) {
        for (unsigned c = 0; c < 4; c++) {
            next[c] = shifted_column(state, c);
            if (round < 10) next[c] = mix_column(next[c]);
            next[c] ^= load32(aes->round_key[round] + 4 * c);
        }
        memcpy(state, next, sizeof next);
    }
}

static void portable_words(const struct qn_aes *aes, uint64_t nonce, uint64_t first, const uint32_t *offset, size_t n,
                           uint32_t *out) {
    for (size_t i = 0; i < n; i++) {
        uint64_t index = first + offset[i], block = index / 4;
        uint32_t state[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)nonce, (uint32_t)(nonce >> 32)};
        encrypt(aes, state);
        out[i] = state[index % 4];
    }
}

static const struct qn_aes_set portable = {"portable", portable_words};

/* ---- x86-64 ---- */

#ifdef __x86_64__
#include <cpuid.h>
#include <immintrin.h>

#define NARROW __attribute__((target("aes,sse4.1")))
#define NARROW_AT_ONCE 8

static NARROW void aesni_words(const struct qn_aes *aes, uint64_t nonce, uint64_t first, const uint32_t *offset,
                               size_t n, uint32_t *out) {
    __m128i key[11];
    for (int r = 0; r < 11; r++) key[r] = _mm_loadu_si128((const __m128i *)(const void *)aes->round_key[r]);
    for (size_t i = 0; i < n; i += NARROW_AT_ONCE) {
        size_t some = n - i < NARROW_AT_ONCE ? n - i : NARROW_AT_ONCE;
        uint32_t blocks[NARROW_AT_ONCE][4];
        __m128i state[NARROW_AT_ONCE];
        for (size_t j = 0; j < NARROW_AT_ONCE; j++) {
            uint64_t at = first + offset[i + (j < some ? j : 0)];
            state[j] = _mm_xor_si128(_mm_set_epi64x((long long)nonce, (long long)(at / 4)), key[0]);
        }
        for (int r = 1; r < 10; r++)
            for (size_t j = 0; j < NARROW_AT_ONCE; j++) state[j] = _mm_aesenc_si128(state[j], key[r]);
        for (size_t j = 0; j < NARROW_AT_ONCE; j++)
            _mm_storeu_si128((__m128i *)(void *)blocks[j], _mm_aesenclast_si128(state[j], key[10]));
        for (size_t j = 0; j < some; j++) out[i + j] = blocks[j][(first + offset[i + j]) % 4];
    }
}

static const struct qn_aes_set aesni = {"aesni", aesni_words};

#define WIDE __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,vaes,aes,sse4.1")))

/* Sixteen places a register; four registers of four blocks belong to it. Register k has the blocks of places k, 4 + k,
 * 8 + k, 12 + k, so that each place is in the same quarter as its block, and each result ends up in its place. */
enum { WIDE_PLACES = 16, WIDE_AT_ONCE = 2 };

struct wide_counter {
    __m512i key[11], start; /* start: (0, nonce) and the first key, four times. */
    uint32_t low, shift;    /* (first / 4), its lower half; first % 4. */
};

#define INLINE static inline __attribute__((always_inline))

/* The blocks of 16 places, with the first key; and which words are wanted. */
INLINE WIDE __m512i wide_begin(const struct wide_counter *c, const uint32_t *offset, __m512i state[4]) {
    __m512i at = _mm512_add_epi32(_mm512_loadu_si512(offset), _mm512_set1_epi32((int)c->shift));
    __mmask16 carry = _mm512_cmplt_epu32_mask(at, _mm512_set1_epi32((int)c->shift));
    __m512i block = _mm512_add_epi32(_mm512_srli_epi32(at, 2), _mm512_set1_epi32((int)c->low));
    block = _mm512_mask_add_epi32(block, carry, block, _mm512_set1_epi32(1 << 30));
    block = _mm512_xor_si512(block, _mm512_shuffle_epi32(c->key[0], _MM_PERM_AAAA));
    state[0] = _mm512_mask_shuffle_epi32(c->start, 0x1111, block, _MM_PERM_AAAA);
    state[1] = _mm512_mask_shuffle_epi32(c->start, 0x1111, block, _MM_PERM_BBBB);
    state[2] = _mm512_mask_shuffle_epi32(c->start, 0x1111, block, _MM_PERM_CCCC);
    state[3] = _mm512_mask_shuffle_epi32(c->start, 0x1111, block, _MM_PERM_DDDD);
    return at;
}

/* The wanted word of each block, in the place's order. */
INLINE WIDE __m512i wide_end(const __m512i state[4], __m512i at) {
    __m512 words = _mm512_maskz_permutevar_ps(0x1111, _mm512_castsi512_ps(state[0]), at);
    words = _mm512_mask_permutevar_ps(words, 0x2222, _mm512_castsi512_ps(state[1]), at);
    words = _mm512_mask_permutevar_ps(words, 0x4444, _mm512_castsi512_ps(state[2]), at);
    words = _mm512_mask_permutevar_ps(words, 0x8888, _mm512_castsi512_ps(state[3]), at);
    return _mm512_castps_si512(words);
}

INLINE WIDE void vaes_some(const struct wide_counter *c, const uint32_t *offset, uint32_t *out) {
    __m512i state[WIDE_AT_ONCE * 4], at[WIDE_AT_ONCE];
    for (int i = 0; i < WIDE_AT_ONCE; i++) at[i] = wide_begin(c, offset + WIDE_PLACES * i, state + 4 * i);
    for (int r = 1; r < 10; r++)
        for (int j = 0; j < WIDE_AT_ONCE * 4; j++) state[j] = _mm512_aesenc_epi128(state[j], c->key[r]);
    for (int j = 0; j < WIDE_AT_ONCE * 4; j++) state[j] = _mm512_aesenclast_epi128(state[j], c->key[10]);
    for (int i = 0; i < WIDE_AT_ONCE; i++) _mm512_storeu_si512(out + WIDE_PLACES * i, wide_end(state + 4 * i, at[i]));
}

static WIDE void vaes_words(const struct qn_aes *aes, uint64_t nonce, uint64_t first, const uint32_t *offset, size_t n,
                            uint32_t *out) {
    enum { SOME = WIDE_PLACES * WIDE_AT_ONCE };
    struct wide_counter counter = {.shift = first % 4, .low = (uint32_t)(first / 4)};
    if (counter.low > UINT32_MAX - (1 << 30)) { /* A block's number could pass into its upper half. */
        aesni_words(aes, nonce, first, offset, n, out);
        return;
    }
    counter.start = _mm512_broadcast_i32x4(_mm_set_epi64x((long long)nonce, (long long)(first / 4 >> 32 << 32)));
    for (int r = 0; r < 11; r++)
        counter.key[r] = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)aes->round_key[r]));
    counter.start = _mm512_xor_si512(counter.start, counter.key[0]);
    size_t i = 0;
    for (; i + SOME <= n; i += SOME) vaes_some(&counter, offset + i, out + i);
    if (i < n) {
        uint32_t rest[SOME] = {0}, words[SOME];
        memcpy(rest, offset + i, (n - i) * sizeof *rest);
        vaes_some(&counter, rest, words);
        memcpy(out + i, words, (n - i) * sizeof *out);
    }
}

static const struct qn_aes_set vaes = {"vaes", vaes_words};

static bool has_aesni(void) { return __builtin_cpu_supports("aes") && __builtin_cpu_supports("sse4.1"); }
static bool has_vaes(void) {
    if (!has_aesni() || !__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return false;
#ifdef __clang__ /* Version 14 does not know the name; asking the processor takes microseconds in a virtual machine.   \
                  */
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c >> 9 & 1);
#else
    return __builtin_cpu_supports("vaes");
#endif
}
#endif

const struct qn_aes_set *qn_aes_set_at(size_t i) {
    if (i == 0) return &portable;
#ifdef __x86_64__
    if (i == 1 && has_aesni()) return &aesni;
    if (i == 2 && has_vaes()) return &vaes;
#endif
    return NULL;
}

void qn_aes_words(const struct qn_aes *aes, uint64_t nonce, uint64_t first, const uint32_t *offset, size_t n,
                  uint32_t *out) {
    aes->set->words(aes, nonce, first, offset, n, out);
}

void qn_aes_init(struct qn_aes *aes, const uint8_t key[16]) {
    uint32_t words[44], constant = 1;
    for (unsigned i = 0; i < 44; i++) {
        if (i < 4) {
            words[i] = load32(key + 4 * i);
            continue;
        }
        uint32_t last = words[i - 1];
        if (i % 4 == 0) {
            last = rotate(last, 8);
            uint32_t changed = 0;
            for (unsigned b = 0; b < 4; b++) changed |= (uint32_t)sbox[last >> (8 * b) & 0xff] << (8 * b);
            last = changed ^ constant;
            constant = twice(constant);
        }
        words[i] = words[i - 4] ^ last;
    }
    for (unsigned i = 0; i < 44; i++) store32(aes->round_key[i / 4] + 4 * (i % 4), words[i]);
    sodium_memzero(words, sizeof words);
    aes->set = &portable;
    for (size_t i = 1; qn_aes_set_at(i) != NULL; i++) aes->set = qn_aes_set_at(i);
}

void qn_aes_release(struct qn_aes *aes) { sodium_memzero(aes, sizeof *aes); }
