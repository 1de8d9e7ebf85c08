/* SPDX-License-Identifier: Apache-2.0 */
/* The inner loops of sampling with AVX-512. */
#include "link/fast.h"

#include <stdbool.h>
#include <string.h>

#include "link/choices.h"

#ifdef __x86_64__
#include <immintrin.h>

#define WIDE __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,bmi2,popcnt")))
#define WIDER __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,avx512vbmi2,bmi2,popcnt")))
#define INLINE static inline __attribute__((always_inline))

/* ---- Random bits ---- */

struct state {
    __m512i s[4];
};

INLINE WIDE struct state state_load(const struct fast_rng *rng) {
    struct state state;
    for (int i = 0; i < 4; i++) state.s[i] = _mm512_loadu_si512(rng->s[i]);
    return state;
}

INLINE WIDE void state_store(const struct state *state, struct fast_rng *rng) {
    for (int i = 0; i < 4; i++) _mm512_storeu_si512(rng->s[i], state->s[i]);
}

INLINE WIDE __m512i exclusive_or(__m512i a, __m512i b, __m512i c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }

INLINE WIDE __m512i state_next(struct state *state) {
    __m512i s0 = state->s[0], s1 = state->s[1], s2 = state->s[2], s3 = _mm512_xor_si512(state->s[3], s1);
    __m512i five = _mm512_add_epi64(s1, _mm512_slli_epi64(s1, 2)), turned = _mm512_rol_epi64(five, 7);
    state->s[0] = _mm512_xor_si512(s0, s3);
    state->s[1] = exclusive_or(s1, s2, s0);
    state->s[2] = exclusive_or(s2, s0, _mm512_slli_epi64(s1, 17));
    state->s[3] = _mm512_rol_epi64(s3, 45);
    return _mm512_add_epi64(turned, _mm512_slli_epi64(turned, 3));
}

static WIDE void wide_fill(struct fast_rng *rng, uint64_t *out, size_t n) {
    struct state state = state_load(rng);
    for (size_t i = 0; i < n; i += FAST_LANES) _mm512_storeu_si512(out + i, state_next(&state));
    state_store(&state, rng);
}

static WIDE void wide_masks(struct fast_rng *rng, const struct fast_chance *chance, uint64_t *mask, size_t n) {
    struct state state = state_load(rng);
    uint64_t select[FAST_BITS_MAX];
    for (unsigned b = 0; b < chance->bits; b++) select[b] = chance->numerator >> b & 1 ? ~UINT64_C(0) : 0;
    for (size_t i = 0; i < n; i += FAST_LANES) {
        __m512i bits = _mm512_set1_epi64(chance->bits == 0 ? -1 : 0);
        for (unsigned b = 0; b < chance->bits; b++) /* Majority: OR where select is 1, AND where it is 0. */
            bits = _mm512_ternarylogic_epi64(bits, state_next(&state), _mm512_set1_epi64((long long)select[b]), 0xe8);
        _mm512_storeu_si512(mask + i, bits);
    }
    state_store(&state, rng);
}

/* ---- Positions ---- */

static WIDE size_t wide_ones(const uint64_t *mask, size_t *words, uint32_t base, size_t cap, uint32_t *position) {
    const __m512i sixteen = _mm512_set1_epi32(16);
    __m512i places = _mm512_add_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                                      _mm512_set1_epi32((int)base));
    size_t n = 0, w = 0;
    for (; w < *words && n + 64 <= cap; w++)
        for (unsigned part = 0; part < 64; part += 16) {
            __mmask16 some = (__mmask16)(mask[w] >> part);
            _mm512_storeu_si512(position + n, _mm512_maskz_compress_epi32(some, places));
            n += (unsigned)__builtin_popcount(some);
            places = _mm512_add_epi32(places, sixteen);
        }
    *words = w;
    return n;
}

INLINE WIDER void store_16(__m128i places, uint32_t base, uint32_t *position) {
    _mm512_storeu_si512(position, _mm512_add_epi32(_mm512_cvtepu8_epi32(places), _mm512_set1_epi32((int)base)));
}

static WIDER size_t wider_ones(const uint64_t *mask, size_t *words, uint32_t base, size_t cap, uint32_t *position) {
    static const uint8_t numbers[64] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                                        16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
                                        32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47,
                                        48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};
    const __m512i all = _mm512_loadu_si512(numbers);
    size_t n = 0, w = 0;
    for (; w < *words && n + 64 <= cap; w++, base += 64) {
        __m512i places = _mm512_maskz_compress_epi8(mask[w], all);
        unsigned count = (unsigned)__builtin_popcountll(mask[w]);
        store_16(_mm512_castsi512_si128(places), base, position + n);
        if (count > 16) {
            store_16(_mm512_extracti32x4_epi32(places, 1), base, position + n + 16);
            store_16(_mm512_extracti32x4_epi32(places, 2), base, position + n + 32);
            store_16(_mm512_extracti32x4_epi32(places, 3), base, position + n + 48);
        }
        n += count;
    }
    *words = w;
    return n;
}

/* Multiplication and subtraction stay apart, as in the portable code. */
INLINE WIDE __m512d wide_step(__m512d series, __m512d r, double constant) {
    return _mm512_sub_pd(_mm512_set1_pd(constant), _mm512_mul_pd(r, series));
}

INLINE WIDE __m512i wide_gaps(const struct fast_gaps *gaps, __m512i draw) {
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
    __m512d value = _mm512_sub_pd(_mm512_mul_pd(left, _mm512_set1_pd(FAST_LN2)), log);
    value = _mm512_mul_pd(_mm512_sub_pd(value, _mm512_mul_pd(r, series)), _mm512_set1_pd(gaps->mean));
    value = _mm512_min_pd(_mm512_max_pd(value, _mm512_setzero_pd()), _mm512_set1_pd(FAST_GAP_MAX));
    return _mm512_cvttpd_epi64(value);
}

static WIDE size_t wide_positions(const struct fast_gaps *gaps, const uint64_t *draw, size_t n, uint64_t first,
                                  uint64_t *at, uint64_t end, uint32_t *position) {
    const __m512i lanes = _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0), zero = _mm512_setzero_si512();
    __m512i next = _mm512_set1_epi64((long long)(*at - first)), limit = _mm512_set1_epi64((long long)(end - first));
    for (size_t i = 0; i < n; i += FAST_LANES) {
        __m512i sum = wide_gaps(gaps, _mm512_loadu_si512(draw + i));
        sum = _mm512_add_epi64(sum, _mm512_alignr_epi64(sum, zero, 7));
        sum = _mm512_add_epi64(sum, _mm512_alignr_epi64(sum, zero, 6));
        sum = _mm512_add_epi64(sum, _mm512_alignr_epi64(sum, zero, 4));
        sum = _mm512_add_epi64(_mm512_add_epi64(sum, lanes), next);
        _mm256_storeu_si256((__m256i *)(void *)(position + i), _mm512_cvtepi64_epi32(sum));
        unsigned beyond = _mm512_cmpge_epu64_mask(sum, limit);
        if (beyond != 0) {
            *at = end;
            return i + (unsigned)__builtin_ctz(beyond);
        }
        next = _mm512_add_epi64(_mm512_permutexvar_epi64(_mm512_set1_epi64(7), sum), _mm512_set1_epi64(1));
    }
    *at = first + (uint64_t)_mm_cvtsi128_si64(_mm512_castsi512_si128(next));
    return n;
}

/* ---- Clicks ---- */

enum { KEEP = 32 }; /* Candidates at once, in 16 bits each. */

struct tables {
    __m512i odd_words, even_words; /* Which of two registers of words' halves: the upper, the lower. */
    __m512i entry[QN_INTENSITIES_MAX], above[QN_INTENSITIES_MAX], test_last;
    __mmask32 any_test;
    unsigned n;
};

INLINE WIDE void tables_load(const struct qn_source *source, const struct fast_outcomes *outcomes, struct tables *t) {
    uint16_t even[KEEP], odd[KEEP];
    for (unsigned i = 0; i < KEEP; i++) {
        even[i] = (uint16_t)(2 * i);
        odd[i] = (uint16_t)(2 * i + 1);
    }
    t->even_words = _mm512_loadu_si512(even);
    t->odd_words = _mm512_loadu_si512(odd);
    t->n = source->n;
    for (unsigned k = 0; k < source->n; k++) {
        t->entry[k] = _mm512_loadu_si512(outcomes->entry[4 * k]);
        t->above[k] = _mm512_set1_epi16((short)source->above[k]);
    }
    t->any_test = source->test_below > 0 ? ~(__mmask32)0 : 0;
    t->test_last = _mm512_set1_epi16((short)(2 * source->test_below - 1)); /* With the bit, which is the lowest. */
}

/* Outcomes of 32 candidates, in the low three bits; those of `ret_ties` are not decided. A register is one intensity's
 * table: four choices of eight columns. */
INLINE WIDE __m512i wide_outcomes(const struct tables *t, const uint32_t *word, __m512i draw, __mmask32 *ret_ties) {
    __m512i first = _mm512_loadu_si512(word), second = _mm512_loadu_si512(word + KEEP / 2);
    __m512i low = _mm512_permutex2var_epi16(first, t->even_words, second);
    __m512i high = _mm512_permutex2var_epi16(first, t->odd_words, second);
    __mmask32 test = _mm512_mask_cmple_epu16_mask(t->any_test, low, t->test_last);
    const __m512i column = _mm512_set1_epi16(FAST_COLUMNS - 1);
    __m512i bit = _mm512_and_si512(_mm512_slli_epi16(low, 3), _mm512_set1_epi16(8));
    __m512i place = _mm512_ternarylogic_epi64(draw, column, bit, 0xea); /* draw & column | bit */
    place = _mm512_mask_add_epi16(place, test, place, _mm512_set1_epi16(16));
    __m512i entry = _mm512_permutexvar_epi16(place, t->entry[0]);
    for (unsigned k = 1; k < t->n; k++)
        entry = _mm512_mask_permutexvar_epi16(entry, _mm512_cmpge_epu16_mask(high, t->above[k]), place, t->entry[k]);
    __mmask32 below = _mm512_cmplt_epu16_mask(draw, _mm512_andnot_si512(column, entry));
    *ret_ties = _mm512_cmple_epu16_mask(_mm512_xor_si512(draw, entry), column);
    return _mm512_mask_mov_epi16(entry, below, draw);
}

/* Outcomes of a batch as bits: those of the low two bits and of the third; and which are not decided. */
struct marks {
    uint64_t one[FAST_BATCH / 64], two[FAST_BATCH / 64], basis[FAST_BATCH / 64], tied[FAST_BATCH / 64];
};

/* No calls in here: they would push everything out of the registers. */
static WIDE void wide_marks(const struct qn_source *source, const struct fast_outcomes *outcomes, const uint32_t *word,
                            const uint64_t *draw, size_t n, struct marks *ret) {
    struct tables tables;
    tables_load(source, outcomes, &tables);
    for (size_t i = 0; i < n; i += KEEP) {
        __mmask32 tied;
        __m512i outcome = wide_outcomes(&tables, word + i, _mm512_loadu_si512(draw + i / 4), &tied);
        uint32_t one = _mm512_test_epi16_mask(outcome, _mm512_set1_epi16(1));
        uint32_t two = _mm512_test_epi16_mask(outcome, _mm512_set1_epi16(2));
        uint32_t basis = _mm512_test_epi16_mask(outcome, _mm512_set1_epi16(4));
        memcpy((uint8_t *)ret->one + i / 8, &one, sizeof one);
        memcpy((uint8_t *)ret->two + i / 8, &two, sizeof two);
        memcpy((uint8_t *)ret->basis + i / 8, &basis, sizeof basis);
        memcpy((uint8_t *)ret->tied + i / 8, &tied, sizeof tied);
    }
}

/* `used`: of the last word. */
static void marks_decide(const struct qn_source *source, const struct fast_outcomes *outcomes, const uint32_t *word,
                         const uint64_t *draw, size_t words, uint64_t used, struct qn_rng *ties, struct marks *marks) {
    for (size_t w = 0; w < words; w++)
        for (uint64_t left = marks->tied[w] & (w + 1 < words ? ~UINT64_C(0) : used); left != 0; left &= left - 1) {
            uint64_t bit = left & (0 - left);
            size_t i = 64 * w + (unsigned)__builtin_ctzll(left);
            unsigned which = (unsigned)(draw[i / 4] >> 16 * (i % 4)) & 0xffff;
            unsigned is = fast_outcome(source, outcomes, word[i], which, ties);
            marks->one[w] = (marks->one[w] & ~bit) | (is & 1 ? bit : 0);
            marks->two[w] = (marks->two[w] & ~bit) | (is & 2 ? bit : 0);
            marks->basis[w] = (marks->basis[w] & ~bit) | (is & 4 ? bit : 0);
        }
}

/* Bits one after the other, without reading back what was written. */
struct packed {
    uint64_t *to, part;
};

INLINE void packed_add(struct packed *packed, size_t at, uint64_t bits, unsigned count) {
    uint64_t word = packed->part | bits << (at % 64), next = bits >> 1 >> (63 - at % 64);
    uint64_t is_full = 0 - (uint64_t)((at % 64 + count) / 64); /* A branch would be a coin to predict. */
    packed->to[at / 64] = word;
    packed->part = word ^ ((word ^ next) & is_full);
}

static WIDE void wide_keep(const struct qn_source *source, const struct fast_outcomes *outcomes,
                           const uint32_t *position, const uint32_t *word, const uint64_t *draw, const uint64_t *coin,
                           size_t n, struct qn_rng *ties, uint32_t *ret_position, struct fast_clicks *ret) {
    struct marks marks;
    struct packed bases = {ret->basis, 0}, bits = {ret->bit, 0}, doubles = {ret->both, 0};
    size_t kept = 0, words = (n + 63) / 64;
    uint64_t n_doubles = 0, n_test_doubles = 0;
    uint64_t used = n % 64 == 0 ? ~UINT64_C(0) : (UINT64_C(1) << (n % 64)) - 1;
    wide_marks(source, outcomes, word, draw, n, &marks);
    marks_decide(source, outcomes, word, draw, words, used, ties, &marks);
    for (size_t w = 0; w < words; w++) {
        uint64_t valid = w + 1 < words ? ~UINT64_C(0) : used, one = marks.one[w] & valid, two = marks.two[w] & valid;
        uint64_t click = one | two, both = one & two, basis = marks.basis[w];
        uint32_t *to = ret_position + kept;
        for (unsigned part = 0; part < 64; part += 16) {
            __mmask16 some = (__mmask16)(click >> part);
            _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(some, _mm512_loadu_si512(position + 64 * w + part)));
            to += (unsigned)__builtin_popcount(some);
        }
        unsigned count = (unsigned)(to - (ret_position + kept));
        packed_add(&bases, kept, _pext_u64(basis, click), count);
        packed_add(&bits, kept, _pext_u64(two & ~(both & ~coin[w]), click), count);
        packed_add(&doubles, kept, _pext_u64(both, click), count);
        n_doubles += (unsigned)__builtin_popcountll(both);
        n_test_doubles += (unsigned)__builtin_popcountll(both & basis);
        kept += count;
    }
    packed_add(&bases, kept, 0, 0);
    packed_add(&bits, kept, 0, 0);
    packed_add(&doubles, kept, 0, 0);
    ret->doubles[0] = n_doubles - n_test_doubles;
    ret->doubles[1] = n_test_doubles;
    ret->n = kept;
}

/* ---- Choices ---- */

INLINE WIDE uint64_t wide_at_least(const __m512i word[4], uint32_t bound) {
    uint64_t mask = 0;
    for (unsigned i = 0; i < 4; i++)
        mask |= (uint64_t)_mm512_cmpge_epu32_mask(word[i], _mm512_set1_epi32((int)bound)) << 16 * i;
    return mask;
}

/* The intensity: its bounds' masks are a thermometer, intensity k has the first k of them. */
static WIDE void wide_planes(const struct qn_source *source, const uint32_t word[64], uint64_t ret[FAST_PLANES]) {
    __m512i all[4], low[4];
    ret[0] = 0;
    for (unsigned i = 0; i < 4; i++) {
        all[i] = _mm512_loadu_si512(word + 16 * i);
        low[i] = _mm512_slli_epi32(all[i], 16);
        ret[0] |= (uint64_t)_mm512_test_epi32_mask(all[i], _mm512_set1_epi32(1)) << 16 * i;
    }
    ret[1] = ~UINT64_C(0);
    if (source->test_below < CHOICE_BASIS_STEPS) ret[1] = ~wide_at_least(low, (uint32_t)source->test_below << 17);
    uint64_t reached = 0;
    for (unsigned b = 0; b < QN_INTENSITY_PLANES; b++) ret[2 + b] = 0;
    for (unsigned k = source->n; k-- > 1;) {
        uint64_t from_here = wide_at_least(all, (uint32_t)source->above[k] << 16);
        for (unsigned b = 0; b < QN_INTENSITY_PLANES; b++)
            if (k >> b & 1) ret[2 + b] |= from_here & ~reached;
        reached = from_here;
    }
}

static const struct fast_set sets[] = {
    {"avx512", wide_fill, wide_masks, wide_ones, wide_positions, wide_keep, wide_planes},
    {"avx512vbmi2", wide_fill, wide_masks, wider_ones, wide_positions, wide_keep, wide_planes},
};

static bool has_wide(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("bmi2");
}

const struct fast_set *fast_wide_at(size_t i) {
    if (i == 0 && has_wide()) return &sets[0];
    if (i == 1 && has_wide() && __builtin_cpu_supports("avx512vbmi2")) return &sets[1];
    return NULL;
}
#else
const struct fast_set *fast_wide_at(size_t i) {
    (void)i;
    return NULL;
}
#endif
