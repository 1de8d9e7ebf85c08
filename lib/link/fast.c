/* SPDX-License-Identifier: Apache-2.0 */
#include "link/fast.h"

#include <stdbool.h>
#include <string.h>

#include "base/rng.h"
#include "link/choices.h"

void fast_rng_init(struct fast_rng *rng, const char *purpose, uint64_t seed, uint64_t index) {
    for (unsigned lane = 0; lane < FAST_LANES; lane++) {
        struct qn_rng one;
        qn_rng_init(&one, seed, purpose, index * FAST_LANES + lane);
        for (unsigned i = 0; i < 4; i++) rng->s[i][lane] = one.s[i];
    }
}

/* ln x for x in [1, 2]: 2 artanh((x - 1) / (x + 1)), to the last bits. Only the four operations, so always the same. */
static double log_series(double x) {
    double z = (x - 1) / (x + 1), square = z * z, power = z, sum = 0;
    for (int i = 1; i < 60; i += 2) {
        sum += power / i;
        power *= square;
    }
    return 2 * sum;
}

void fast_gaps_init(struct fast_gaps *gaps, double mean) {
    gaps->mean = mean;
    for (unsigned i = 0; i < FAST_LOG_STEPS; i++) {
        double middle = 1 + (i + 0.5) / FAST_LOG_STEPS;
        gaps->inverse[i] = 1 / middle;
        gaps->log[i] = log_series(middle);
    }
}

/* ---- Portable ---- */

static uint64_t rotate(uint64_t x, unsigned k) { return x << k | x >> (64 - k); }

static void plain_fill(struct fast_rng *rng, uint64_t *out, size_t n) {
    struct fast_rng state = *rng;
    for (size_t i = 0; i < n; i += FAST_LANES) {
        for (unsigned j = 0; j < FAST_LANES; j++) {
            uint64_t s0 = state.s[0][j], s1 = state.s[1][j], s2 = state.s[2][j] ^ s0, s3 = state.s[3][j] ^ s1;
            out[i + j] = rotate(s1 * 5, 7) * 9;
            state.s[1][j] = s1 ^ s2;
            state.s[0][j] = s0 ^ s3;
            state.s[2][j] = s2 ^ s1 << 17;
            state.s[3][j] = rotate(s3, 45);
        }
    }
    *rng = state;
}

#define LN2 0.69314718055994530942
#define GAP_MAX 0x1p40 /* Beyond every stretch; a thousand of them still add up. */

/* floor(-ln(u) mean) for u = x / 2^53 with an odd x = 2^e m: -ln u = (53 - e) ln 2 - ln m, where m = middle (1 + r) and
 * |r| < 2^-5, so that the series is good to 10^-14. */
static uint64_t gap_of(const struct fast_gaps *gaps, uint64_t draw) {
    uint64_t bits, mantissa;
    double u = (double)(int64_t)(draw >> 11 | 1), m;
    memcpy(&bits, &u, sizeof bits);
    mantissa = (bits & UINT64_C(0x000fffffffffffff)) | UINT64_C(0x3ff0000000000000);
    memcpy(&m, &mantissa, sizeof m);
    unsigned step = (unsigned)(bits >> 48) & (FAST_LOG_STEPS - 1);
    double left = (double)((1023 + 53) - (int64_t)(bits >> 52)), r = m * gaps->inverse[step] - 1;
    double series = 1.0 / 7 - r * (1.0 / 8);
    series = 1.0 / 6 - r * series;
    series = 1.0 / 5 - r * series;
    series = 1.0 / 4 - r * series;
    series = 1.0 / 3 - r * series;
    series = 1.0 / 2 - r * series;
    series = 1.0 - r * series;
    double value = ((left * LN2 - gaps->log[step]) - r * series) * gaps->mean;
    if (!(value > 0)) value = 0; /* Rounding, next to u = 1. */
    if (!(value < GAP_MAX)) value = GAP_MAX;
    return (uint64_t)(int64_t)value;
}

static size_t plain_positions(const struct fast_gaps *gaps, const uint64_t *draw, size_t n, uint64_t *at, uint64_t end,
                              uint64_t *position) {
    uint64_t next = *at;
    for (size_t i = 0; i < n; i++) {
        position[i] = next + gap_of(gaps, draw[i]);
        if (position[i] >= end) {
            *at = end;
            return i;
        }
        next = position[i] + 1;
    }
    *at = next;
    return n;
}

static size_t plain_keep(const struct qn_source *source, const struct fast_outcomes *outcomes, const uint64_t *position,
                         const uint32_t *word, const uint64_t *which, const uint64_t *coin, size_t n, uint64_t base,
                         uint32_t *offset, uint8_t *code) {
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned cell = choice_intensity(source, word[i]) << 2 | (unsigned)choice_basis(source, word[i]) << 1;
        uint64_t entry = outcomes->entry[cell | (word[i] & 1)][which[i] & (FAST_COLUMNS - 1)];
        uint64_t is = which[i] < entry ? entry : entry >> 4;
        is ^= (is & CLICK_BOTH) >> 1 & coin[i] << 1;
        offset[kept] = (uint32_t)(position[i] - base);
        code[kept] = is & 15;
        kept += is >> 3 & 1;
    }
    return kept;
}

static void plain_split(const uint8_t code[64], uint64_t ret[3]) {
    for (unsigned shift = 0; shift < 3; shift++) {
        ret[shift] = 0;
        for (unsigned i = 0; i < 64; i += 8) {
            uint64_t eight;
            memcpy(&eight, code + i, sizeof eight);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
            eight = __builtin_bswap64(eight);
#endif
            eight = eight >> shift & UINT64_C(0x0101010101010101);
            ret[shift] |= (eight * UINT64_C(0x0102040810204080) >> 56) << i;
        }
    }
}

static const struct fast_set plain = {"portable", plain_fill, plain_positions, plain_keep, plain_split};

/* ---- AVX-512 ---- */

#ifdef __x86_64__
#include <immintrin.h>

#define WIDE __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw")))

static WIDE void wide_fill(struct fast_rng *rng, uint64_t *out, size_t n) {
    __m512i s0 = _mm512_loadu_si512(rng->s[0]), s1 = _mm512_loadu_si512(rng->s[1]);
    __m512i s2 = _mm512_loadu_si512(rng->s[2]), s3 = _mm512_loadu_si512(rng->s[3]);
    for (size_t i = 0; i < n; i += FAST_LANES) {
        __m512i five = _mm512_add_epi64(s1, _mm512_slli_epi64(s1, 2)), turned = _mm512_rol_epi64(five, 7);
        _mm512_storeu_si512(out + i, _mm512_add_epi64(turned, _mm512_slli_epi64(turned, 3)));
        __m512i shifted = _mm512_slli_epi64(s1, 17);
        s2 = _mm512_xor_si512(s2, s0);
        s3 = _mm512_xor_si512(s3, s1);
        s1 = _mm512_xor_si512(s1, s2);
        s0 = _mm512_xor_si512(s0, s3);
        s2 = _mm512_xor_si512(s2, shifted);
        s3 = _mm512_rol_epi64(s3, 45);
    }
    _mm512_storeu_si512(rng->s[0], s0);
    _mm512_storeu_si512(rng->s[1], s1);
    _mm512_storeu_si512(rng->s[2], s2);
    _mm512_storeu_si512(rng->s[3], s3);
}

/* Multiplication and subtraction stay apart, as in the portable code. */
static inline __attribute__((always_inline)) WIDE __m512d wide_step(__m512d series, __m512d r, double constant) {
    return _mm512_sub_pd(_mm512_set1_pd(constant), _mm512_mul_pd(r, series));
}

static inline __attribute__((always_inline)) WIDE __m512i wide_gaps(const struct fast_gaps *gaps, __m512i draw) {
    __m512d u = _mm512_cvtepi64_pd(_mm512_or_si512(_mm512_srli_epi64(draw, 11), _mm512_set1_epi64(1)));
    __m512i bits = _mm512_castpd_si512(u), step = _mm512_srli_epi64(bits, 48);
    __m512d m =
        _mm512_castsi512_pd(_mm512_or_si512(_mm512_and_si512(bits, _mm512_set1_epi64(INT64_C(0x000fffffffffffff))),
                                            _mm512_set1_epi64(INT64_C(0x3ff0000000000000))));
    __m512d inverse = _mm512_permutex2var_pd(_mm512_loadu_pd(gaps->inverse), step, _mm512_loadu_pd(gaps->inverse + 8));
    __m512d log = _mm512_permutex2var_pd(_mm512_loadu_pd(gaps->log), step, _mm512_loadu_pd(gaps->log + 8));
    __m512d left = _mm512_cvtepi64_pd(_mm512_sub_epi64(_mm512_set1_epi64(1023 + 53), _mm512_srli_epi64(bits, 52)));
    __m512d r = _mm512_sub_pd(_mm512_mul_pd(m, inverse), _mm512_set1_pd(1));
    __m512d series = wide_step(_mm512_set1_pd(1.0 / 8), r, 1.0 / 7);
    series = wide_step(series, r, 1.0 / 6);
    series = wide_step(series, r, 1.0 / 5);
    series = wide_step(series, r, 1.0 / 4);
    series = wide_step(series, r, 1.0 / 3);
    series = wide_step(series, r, 1.0 / 2);
    series = wide_step(series, r, 1.0);
    __m512d value = _mm512_sub_pd(_mm512_mul_pd(left, _mm512_set1_pd(LN2)), log);
    value = _mm512_mul_pd(_mm512_sub_pd(value, _mm512_mul_pd(r, series)), _mm512_set1_pd(gaps->mean));
    value = _mm512_min_pd(_mm512_max_pd(value, _mm512_setzero_pd()), _mm512_set1_pd(GAP_MAX));
    return _mm512_cvttpd_epi64(value);
}

static WIDE size_t wide_positions(const struct fast_gaps *gaps, const uint64_t *draw, size_t n, uint64_t *at,
                                  uint64_t end, uint64_t *position) {
    const __m512i lanes = _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0), zero = _mm512_setzero_si512();
    __m512i next = _mm512_set1_epi64((long long)*at), limit = _mm512_set1_epi64((long long)end);
    for (size_t i = 0; i < n; i += FAST_LANES) {
        __m512i sum = wide_gaps(gaps, _mm512_loadu_si512(draw + i));
        sum = _mm512_add_epi64(sum, _mm512_alignr_epi64(sum, zero, 7));
        sum = _mm512_add_epi64(sum, _mm512_alignr_epi64(sum, zero, 6));
        sum = _mm512_add_epi64(sum, _mm512_alignr_epi64(sum, zero, 4));
        sum = _mm512_add_epi64(_mm512_add_epi64(sum, lanes), next);
        _mm512_storeu_si512(position + i, sum);
        unsigned beyond = _mm512_cmpge_epu64_mask(sum, limit);
        if (beyond != 0) {
            *at = end;
            return i + (unsigned)__builtin_ctz(beyond);
        }
        next = _mm512_add_epi64(_mm512_permutexvar_epi64(_mm512_set1_epi64(7), sum), _mm512_set1_epi64(1));
    }
    *at = (uint64_t)_mm_cvtsi128_si64(_mm512_castsi512_si128(next));
    return n;
}

static inline __attribute__((always_inline)) WIDE __m512i wide_cells(const struct qn_source *source, __m512i word) {
    __m512i high = _mm512_srli_epi64(word, 16), cell = _mm512_and_si512(word, _mm512_set1_epi64(1));
    __m512i low = _mm512_srli_epi64(_mm512_and_si512(word, _mm512_set1_epi64(0xffff)), 1);
    __mmask8 test = _mm512_cmplt_epu64_mask(low, _mm512_set1_epi64(source->test_below));
    cell = _mm512_mask_or_epi64(cell, test, cell, _mm512_set1_epi64(2));
    for (unsigned k = 1; k < source->n; k++) {
        __mmask8 reached = _mm512_cmpge_epu64_mask(high, _mm512_set1_epi64(source->above[k]));
        cell = _mm512_mask_add_epi64(cell, reached, cell, _mm512_set1_epi64(4));
    }
    return cell;
}

static WIDE size_t wide_keep(const struct qn_source *source, const struct fast_outcomes *outcomes,
                             const uint64_t *position, const uint32_t *word, const uint64_t *which,
                             const uint64_t *coin, size_t n, uint64_t base, uint32_t *offset, uint8_t *code) {
    size_t kept = 0;
    for (size_t i = 0; i < n; i += FAST_LANES) {
        __m512i draw = _mm512_loadu_si512(which + i);
        __m512i cell =
            wide_cells(source, _mm512_cvtepu32_epi64(_mm256_loadu_si256((const __m256i *)(const void *)(word + i))));
        __m512i column = _mm512_and_si512(draw, _mm512_set1_epi64(FAST_COLUMNS - 1));
        __m512i place = _mm512_or_si512(_mm512_slli_epi64(cell, 3), column);
        __m512i entry = _mm512_i64gather_epi64(place, outcomes->entry, 8);
        __mmask8 other = _mm512_cmpge_epu64_mask(draw, entry);
        __m512i is = _mm512_mask_srli_epi64(entry, other, entry, 4);
        __mmask8 both = _mm512_test_epi64_mask(is, _mm512_set1_epi64(CLICK_BOTH));
        __mmask8 head = _mm512_test_epi64_mask(_mm512_loadu_si512(coin + i), _mm512_set1_epi64(1));
        is = _mm512_mask_xor_epi64(is, both & head, is, _mm512_set1_epi64(CLICK_BIT));
        is = _mm512_and_si512(is, _mm512_set1_epi64(15));
        unsigned clicks = _mm512_test_epi64_mask(is, _mm512_set1_epi64(CLICK));
        if (n - i < FAST_LANES) clicks &= (1u << (n - i)) - 1;
        __m512i place_in_train = _mm512_sub_epi64(_mm512_loadu_si512(position + i), _mm512_set1_epi64((long long)base));
        _mm256_storeu_si256((__m256i *)(void *)(offset + kept),
                            _mm512_cvtepi64_epi32(_mm512_maskz_compress_epi64((__mmask8)clicks, place_in_train)));
        __m128i codes = _mm512_cvtepi64_epi8(_mm512_maskz_compress_epi64((__mmask8)clicks, is));
        _mm_storel_epi64((__m128i *)(void *)(code + kept), codes);
        kept += (unsigned)__builtin_popcount(clicks);
    }
    return kept;
}

static WIDE void wide_split(const uint8_t code[64], uint64_t ret[3]) {
    __m512i all = _mm512_loadu_si512(code);
    for (int shift = 0; shift < 3; shift++)
        ret[shift] = _mm512_test_epi8_mask(all, _mm512_set1_epi8((char)(1 << shift)));
}

static const struct fast_set wide = {"avx512", wide_fill, wide_positions, wide_keep, wide_split};

static bool has_wide(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
}
#endif

const struct fast_set *fast_set_at(size_t i) {
    if (i == 0) return &plain;
#ifdef __x86_64__
    if (i == 1 && has_wide()) return &wide;
#endif
    return NULL;
}

const struct fast_set *fast_set_best(void) {
    const struct fast_set *best = fast_set_at(1);
    return best != NULL ? best : &plain;
}
