/* SPDX-License-Identifier: Apache-2.0 */
#include "qkd/fft.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

/* ---- The field, for tables. GF(2^8) is that of GF2P8MULB; then y^2 + y = CANTOR[7] adjoins y = CANTOR[8], and so on.
 */

static const uint32_t CANTOR[32] = {0x1,        0xbc,       0x5c,      0xc,       0xae,       0x5a,       0xe,
                                    0x84,       0x100,      0xbcc0,    0x5c90,    0xc26,      0xaed8,     0x5a4c,
                                    0xef6,      0x8494,     0x10000,   0xbcc0c6,  0x5c90e0,   0xc267c,    0xaed828,
                                    0x5a4cae,   0xef670,    0x84949e,  0x10084e8, 0xbcc0b37e, 0x5c9044c4, 0xc261694,
                                    0xaed8d694, 0x5a4c3fe0, 0xef6095e, 0x849414b6};

uint32_t fft_cantor(unsigned i) { return CANTOR[i]; }

static uint64_t multiply(uint64_t a, uint64_t b, unsigned bits) {
    if (bits == 8) {
        uint64_t product = 0;
        for (int i = 7; i >= 0; i--) {
            product = product << 1 ^ (product >> 7) * 0x11b;
            product ^= a & (0 - (b >> i & 1));
        }
        return product;
    }
    unsigned half = bits / 2;
    uint64_t mask = (1ull << half) - 1, a0 = a & mask, a1 = a >> half, b0 = b & mask, b1 = b >> half;
    uint64_t low = multiply(a0, b0, half), high = multiply(a1, b1, half);
    uint64_t both = multiply(a0 ^ a1, b0 ^ b1, half);
    return (low ^ multiply(high, CANTOR[half - 1], half)) | (both ^ low) << half;
}

uint64_t fft_field_multiply(uint64_t a, uint64_t b) { return multiply(a, b, 64); }

/* ---- Tables. */

/* What multiplication by c in GF(2^16) needs: the bytes c0, c1, d c1, c0 + c1; d as in y^2 + y = d. */
static void pack16(uint8_t out[4], uint64_t c) {
    out[0] = (uint8_t)c;
    out[1] = (uint8_t)(c >> 8);
    out[2] = (uint8_t)multiply(c >> 8, CANTOR[7], 8);
    out[3] = out[0] ^ out[1];
}

/* And in GF(2^32): the same of the same. */
static void pack32(uint8_t out[16], uint64_t c) {
    uint64_t low = c & 0xffff, high = c >> 16;
    pack16(out, low);
    pack16(out + 4, high);
    pack16(out + 8, multiply(high, CANTOR[15], 16));
    pack16(out + 12, low ^ high);
}

static void make_twiddles(struct fft_plan *plan) {
    for (unsigned byte = 0; byte < 3; byte++) {
        for (unsigned value = 0; value < 256; value++) {
            uint64_t sum = 0;
            for (unsigned bit = 0; bit < 8; bit++)
                if (value >> bit & 1) sum ^= CANTOR[8 * byte + bit + 1];
            pack32(plan->twiddle[byte][value], sum);
        }
    }
    for (unsigned i = 0; i < 6; i++) {
        unsigned distance = 1u << i;
        for (unsigned lane = 0; lane < FFT_LANES; lane++) {
            plan->upper[i][lane] = (uint8_t)(lane | distance);
            plan->lower[i][lane] = (uint8_t)(lane & ~distance);
            if (lane & distance) plan->upper_mask[i] |= 1ull << lane;
            plan->lane_twiddle[i][lane] = plan->twiddle[0][lane >> (i + 1)][0];
        }
    }
}

/* Inverse of 64 columns over GF(2). */
static void invert(const uint64_t columns[64], uint64_t ret_inverse[64]) {
    uint64_t left[64], right[64];
    memcpy(left, columns, sizeof left);
    for (unsigned i = 0; i < 64; i++) right[i] = 1ull << i;
    for (unsigned bit = 0; bit < 64; bit++) { /* Column operations, until left is the identity. */
        unsigned pivot = bit;
        while (pivot < 64 && !(left[pivot] >> bit & 1)) pivot++;
        assert(pivot < 64);
        uint64_t swap = left[bit];
        left[bit] = left[pivot];
        left[pivot] = swap;
        swap = right[bit];
        right[bit] = right[pivot];
        right[pivot] = swap;
        for (unsigned i = 0; i < 64; i++) {
            if (i == bit || !(left[i] >> bit & 1)) continue;
            left[i] ^= left[bit];
            right[i] ^= right[bit];
        }
    }
    memcpy(ret_inverse, right, sizeof right);
}

static uint64_t rows_of(const uint8_t columns[8]) {
    uint64_t rows = 0;
    for (unsigned i = 0; i < 8; i++)
        for (unsigned j = 0; j < 8; j++) rows |= (uint64_t)(columns[j] >> i & 1) << (8 * (7 - i) + j);
    return rows;
}

/* Bit i of a piece stands for the power i of an element whose first 64 powers are a basis. */
static void make_embedding(struct fft_plan *plan) {
    uint64_t power[64], inverse[64];
    power[0] = 1;
    for (unsigned i = 1; i < 64; i++) power[i] = fft_field_multiply(power[i - 1], 1ull << 32);
    invert(power, inverse);
    for (unsigned to = 0; to < 8; to++) {
        for (unsigned from = 0; from < 8; from++) {
            for (unsigned bit = 0; bit < 8; bit++) {
                if (from < 4) plan->embed[to][from][bit] = (uint8_t)(power[8 * from + bit] >> (8 * to));
                plan->extract[to][from][bit] = (uint8_t)(inverse[8 * from + bit] >> (8 * to));
            }
            if (from < 4) plan->embed_rows[to][from] = rows_of(plan->embed[to][from]);
            plan->extract_rows[to][from] = rows_of(plan->extract[to][from]);
        }
    }
}

/* a[to + i] += a[from + i] for i < count, in every run of `run` of the lanes. */
static void add_step(struct fft_plan *plan, unsigned *n, unsigned to, unsigned from, unsigned count, unsigned run) {
    for (unsigned lane = 0; lane < FFT_LANES; lane++) {
        unsigned i = lane % run;
        bool takes = i >= to && i < to + count;
        plan->step_from[*n][lane] = (uint8_t)(takes ? lane + from - to : lane);
        if (takes) plan->step_mask[*n] |= 1ull << lane;
    }
    ++*n;
}

/* Of 16 coefficients, as change_basis in fft_kernels.inc does it for more. */
static void make_steps(struct fft_plan *plan) {
    unsigned n = 0;
    add_step(plan, &n, 8, 14, 2, 16); /* Expansion in powers of x^4 + x: by (x^4 + x)^2, then by x^4 + x. */
    add_step(plan, &n, 2, 8, 6, 16);
    add_step(plan, &n, 4, 7, 1, 8);
    add_step(plan, &n, 1, 4, 3, 8);
    add_step(plan, &n, 8, 12, 4, 16); /* By x^2 + x, of that expansion and of its coefficients. */
    add_step(plan, &n, 4, 8, 4, 16);
    add_step(plan, &n, 2, 3, 1, 4);
    add_step(plan, &n, 1, 2, 1, 4);
    assert(n == 8);
}

void fft_plan_init(struct fft_plan *plan) {
    *plan = (struct fft_plan){0};
    make_twiddles(plan);
    make_embedding(plan);
    make_steps(plan);
}

/* ---- Steps: as change_basis and transform in fft_kernels.inc, but of rows, and written down. */

struct step_list {
    struct fft_step *steps;
    size_t count;
};

static void put_steps(struct step_list *list, unsigned to, unsigned from, unsigned count, uint32_t times) {
    for (unsigned i = 0; i < count && times != 0; i++) {
        assert(list->count < FFT_STEPS_MAX);
        list->steps[list->count++] = (struct fft_step){(uint8_t)(to + i), (uint8_t)(from + i), (uint8_t)times};
    }
}

/* Rows first, first + step, ...: 2^log2 of them, each standing for `step` rows side by side. */
static void basis_steps(struct step_list *list, unsigned first, unsigned step, unsigned log2) {
    if (log2 <= 1) return;
    unsigned i = 1;
    while (2 * i < log2) i *= 2;
    for (unsigned j = log2 - i; j-- > 0;) {
        unsigned middle = step << (i + j), shift = step << j;
        for (unsigned at = first; at < first + (step << log2); at += 2 * middle) {
            put_steps(list, at + middle, at + 2 * middle - shift, shift, 1);
            put_steps(list, at + shift, at + middle, middle - shift, 1);
        }
    }
    basis_steps(list, first, step << i, log2 - i);
    for (unsigned part = 0; part < 1u << (log2 - i); part++) basis_steps(list, first + part * (step << i), step, i);
}

size_t fft_steps(unsigned log2, struct fft_step *ret_steps) {
    struct step_list list = {ret_steps, 0};
    assert(log2 <= FFT_STEPS_MAX_LOG2);
    basis_steps(&list, 0, 1, log2);
    for (unsigned half = (1u << log2) / 2; half > 0; half /= 2) {
        for (unsigned block = 0; block * 2 * half < 1u << log2; block++) {
            uint32_t times = 0;
            for (unsigned bit = 0; block >> bit; bit++) times ^= CANTOR[bit + 1] & (0 - (block >> bit & 1));
            for (unsigned i = 0; i < half; i++) {
                unsigned low = block * 2 * half + i;
                put_steps(&list, low, low + half, 1, times);
                put_steps(&list, low + half, low, 1, 1);
            }
        }
    }
    return list.count;
}

/* ---- Kernels: the same code with two kinds of vector. */

/* Portable: eight words; bytes multiply bit by bit, side by side. */
#define TARGET
#define KERNELS "portable"
#define NAME(x) portable_##x
#define VECTOR struct portable_vector
struct portable_vector {
    uint64_t w[8];
};

static inline VECTOR portable_load(const void *from) {
    VECTOR v;
    memcpy(&v, from, sizeof v);
    return v;
}

static inline void portable_store(void *to, VECTOR v) { memcpy(to, &v, sizeof v); }

static inline VECTOR portable_add(VECTOR a, VECTOR b) {
    for (int i = 0; i < 8; i++) a.w[i] ^= b.w[i];
    return a;
}

static inline void portable_add_tail(uint8_t *to, const uint8_t *from, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) to[i] ^= from[i];
}

static inline VECTOR portable_times(VECTOR a, VECTOR b) {
    const uint64_t ones = 0x0101010101010101ull;
    VECTOR product;
    for (int i = 0; i < 8; i++) {
        uint64_t x = a.w[i], y = b.w[i], sum = 0;
        for (int bit = 0; bit < 8; bit++) {
            uint64_t set = y >> bit & ones, carry = x >> 7 & ones;
            sum ^= x & ((set << 8) - set);
            x = (x & ~(ones << 7)) << 1 ^ carry ^ carry << 1 ^ carry << 3 ^ carry << 4;
        }
        product.w[i] = sum;
    }
    return product;
}

static inline VECTOR portable_splat(uint8_t byte) {
    VECTOR v;
    for (int i = 0; i < 8; i++) v.w[i] = byte * 0x0101010101010101ull;
    return v;
}

static inline VECTOR portable_permute(uint64_t mask, const uint8_t from[FFT_LANES], VECTOR v) {
    uint8_t in[FFT_LANES], out[FFT_LANES];
    memcpy(in, &v, sizeof v);
    for (int i = 0; i < FFT_LANES; i++) out[i] = (uint8_t)(in[from[i]] & (0 - (mask >> i & 1)));
    memcpy(&v, out, sizeof v);
    return v;
}

static inline VECTOR portable_map(VECTOR v, const uint8_t columns[8], uint64_t rows) {
    const uint64_t ones = 0x0101010101010101ull;
    (void)rows;
    for (int i = 0; i < 8; i++) {
        uint64_t sum = 0;
        for (int bit = 0; bit < 8; bit++) {
            uint64_t set = v.w[i] >> bit & ones;
            sum ^= columns[bit] * ones & ((set << 8) - set);
        }
        v.w[i] = sum;
    }
    return v;
}

static inline void portable_split(const uint32_t *pieces, VECTOR bytes[4]) {
    uint8_t out[4][FFT_LANES];
    for (int i = 0; i < FFT_LANES; i++)
        for (int b = 0; b < 4; b++) out[b][i] = (uint8_t)(pieces[i] >> (8 * b));
    memcpy(bytes, out, sizeof out);
}

static inline void portable_join(uint64_t *coefficients, const VECTOR bytes[8]) {
    uint8_t in[8][FFT_LANES];
    memcpy(in, bytes, sizeof in);
    for (int i = 0; i < FFT_LANES; i++) {
        coefficients[i] = 0;
        for (int b = 0; b < 8; b++) coefficients[i] |= (uint64_t)in[b][i] << (8 * b);
    }
}

#include "qkd/fft_kernels.inc"
#undef TARGET
#undef NAME
#undef VECTOR
#undef KERNELS

#ifdef __x86_64__
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,gfni")))
#define KERNELS "gfni"
#define NAME(x) wide_##x
#define VECTOR __m512i

static inline TARGET __m512i wide_load(const void *from) { return _mm512_loadu_si512(from); }
static inline TARGET void wide_store(void *to, __m512i v) { _mm512_storeu_si512(to, v); }
static inline TARGET __m512i wide_add(__m512i a, __m512i b) { return _mm512_xor_si512(a, b); }
static inline TARGET void wide_add_tail(uint8_t *to, const uint8_t *from, size_t bytes) {
    __mmask64 mask = (1ull << bytes) - 1;
    _mm512_mask_storeu_epi8(to, mask, wide_add(_mm512_maskz_loadu_epi8(mask, to), _mm512_maskz_loadu_epi8(mask, from)));
}
static inline TARGET __m512i wide_times(__m512i a, __m512i b) { return _mm512_gf2p8mul_epi8(a, b); }
static inline TARGET __m512i wide_splat(uint8_t byte) { return _mm512_set1_epi8((char)byte); }
static inline TARGET __m512i wide_permute(uint64_t mask, const uint8_t from[FFT_LANES], __m512i v) {
    return _mm512_maskz_permutexvar_epi8(mask, wide_load(from), v);
}
static inline TARGET __m512i wide_map(__m512i v, const uint8_t columns[8], uint64_t rows) {
    (void)columns;
    return _mm512_gf2p8affine_epi64_epi8(v, _mm512_set1_epi64((long long)rows), 0);
}

/* Bytes of 16 pieces to four runs of 16; then a transpose of 4 x 4 such runs. */
static inline TARGET void wide_split(const uint32_t *pieces, __m512i bytes[4]) {
    const __m128i one = _mm_set_epi8(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    const __m512i lanes = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    __m512i row[4];
    for (int i = 0; i < 4; i++) {
        row[i] = _mm512_shuffle_epi8(wide_load(pieces + 16 * i), _mm512_broadcast_i32x4(one));
        row[i] = _mm512_permutexvar_epi32(lanes, row[i]);
    }
    __m512i a = _mm512_shuffle_i32x4(row[0], row[1], 0x44), b = _mm512_shuffle_i32x4(row[2], row[3], 0x44);
    __m512i c = _mm512_shuffle_i32x4(row[0], row[1], 0xee), d = _mm512_shuffle_i32x4(row[2], row[3], 0xee);
    bytes[0] = _mm512_shuffle_i32x4(a, b, 0x88);
    bytes[1] = _mm512_shuffle_i32x4(a, b, 0xdd);
    bytes[2] = _mm512_shuffle_i32x4(c, d, 0x88);
    bytes[3] = _mm512_shuffle_i32x4(c, d, 0xdd);
}

/* Lanes 8 r + 2 l + b go to place 16 l + 2 r + b, from where three rounds of interleaving leave them in order. */
static inline TARGET void wide_join(uint64_t *coefficients, const __m512i bytes[8]) {
    const __m512i first =
        _mm512_set_epi64(0x3938313029282120, 0x1918111009080100, 0x3938313029282120, 0x1918111009080100,
                         0x3938313029282120, 0x1918111009080100, 0x3938313029282120, 0x1918111009080100);
    const __m512i lane = _mm512_set_epi64(0x0606060606060606, 0x0606060606060606, 0x0404040404040404,
                                          0x0404040404040404, 0x0202020202020202, 0x0202020202020202, 0, 0);
    __m512i index = _mm512_add_epi8(first, lane), p[8], two[8], four[8];
    for (int i = 0; i < 8; i++) p[i] = _mm512_permutexvar_epi8(index, bytes[i]);
    for (int i = 0; i < 4; i++) {
        two[i] = _mm512_unpacklo_epi8(p[2 * i], p[2 * i + 1]);
        two[i + 4] = _mm512_unpackhi_epi8(p[2 * i], p[2 * i + 1]);
    }
    for (int half = 0; half < 8; half += 4)
        for (int i = 0; i < 2; i++) {
            four[half + i] = _mm512_unpacklo_epi16(two[half + 2 * i], two[half + 2 * i + 1]);
            four[half + i + 2] = _mm512_unpackhi_epi16(two[half + 2 * i], two[half + 2 * i + 1]);
        }
    for (int i = 0; i < 8; i += 2) {
        wide_store(coefficients + 8 * i, _mm512_unpacklo_epi32(four[i], four[i + 1]));
        wide_store(coefficients + 8 * i + 8, _mm512_unpackhi_epi32(four[i], four[i + 1]));
    }
}

#include "qkd/fft_kernels.inc"

static bool has_wide(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("gfni");
}
#endif

const struct fft_kernels *fft_at(size_t index) {
    if (index == 0) return &portable_kernels;
#ifdef __x86_64__
    if (index == 1 && has_wide()) return &wide_kernels;
#endif
    return NULL;
}

const struct fft_kernels *fft_best(void) {
    size_t index = 0;
    while (fft_at(index + 1) != NULL) index++;
    return fft_at(index);
}
