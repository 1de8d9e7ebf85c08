/* SPDX-License-Identifier: Apache-2.0 */
#include "qkd/ldpc_decode.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

enum { CLIP = 31, CERTAIN = 127, MAX_SWEEPS = 80, PATIENCE = 12 };

struct ldpc_decoder {
    int8_t *posterior; /* 64 a column, turned by turn[column]. */
    int8_t *messages;  /* From checks, 64 an edge, turned as the check sees them; or the kernel's own form of them. */
    int8_t *inputs;    /* Of one row, 128 an edge. */
    uint8_t *turn;     /* As the last row of the column sees it: so each row leaves it to the next. */
    struct hop {
        uint32_t column;     /* Bytes. */
        uint8_t turn, plane; /* From how the row before left it; see struct ldpc_edge. */
    } * hops;                /* An edge each. */
    uint8_t order[128];      /* 0 .. 63, twice. */
    uint8_t scale[64];       /* Worth of a check by the least worth of its bits. */
    uint64_t *hard, *parity;
    size_t bytes;
};

static size_t widest_row(const struct ldpc_code *code) {
    size_t most = 0;
    for (uint32_t r = 0; r < code->rows; r++)
        if (code->row_start[r + 1] - code->row_start[r] > most) most = code->row_start[r + 1] - code->row_start[r];
    return most;
}

int ldpc_decoder_new(const struct ldpc_code *code, struct ldpc_decoder **ret_decoder) {
    size_t words = code->words, checks = code->checks;
    size_t head = (sizeof(struct ldpc_decoder) + 63) / 64 * 64;
    size_t messages = (size_t)code->n_edges * code->planes + 2 * code->checks; /* Two more a check in either form. */
    size_t bytes = head + 64 * (words + messages + 2 * widest_row(code)) + 8 * (words + checks) +
                   sizeof(struct hop) * (size_t)code->n_edges + code->columns;
    bytes = (bytes + 63) / 64 * 64;
    struct ldpc_decoder *d = aligned_alloc(64, bytes);
    if (d == NULL) return -QN_ENOMEM;
    memset(d, 0, sizeof *d);
    for (int i = 0; i < 128; i++) d->order[i] = (uint8_t)(i & 63);
    d->bytes = bytes;
    d->posterior = (int8_t *)d + head;
    d->messages = d->posterior + 64 * words;
    d->inputs = d->messages + 64 * messages;
    d->hard = (uint64_t *)(void *)(d->inputs + 128 * widest_row(code));
    d->parity = d->hard + words;
    d->hops = (struct hop *)(void *)(d->parity + checks);
    d->turn = (uint8_t *)(d->hops + code->n_edges);
    for (uint32_t e = 0; e < code->n_edges; e++) d->turn[code->edges[e].column] = code->edges[e].shift;
    for (uint32_t e = 0; e < code->n_edges; e++) {
        const struct ldpc_edge *edge = &code->edges[e];
        d->hops[e] = (struct hop){.column = 64u * edge->column * code->planes, .plane = edge->plane};
        d->hops[e].turn = (uint8_t)((edge->shift - d->turn[edge->column]) & 63);
        d->turn[edge->column] = edge->shift;
    }
    *ret_decoder = d;
    return 0;
}

void ldpc_decoder_free(struct ldpc_decoder *d) {
    if (d == NULL) return;
    sodium_memzero(d, d->bytes);
    free(d);
}

/* ---- Sweeps: for each row, what its bits say without this check; the least of them, without one's own, is what the
 * check says. */

static inline int8_t saturate(int value) { return (int8_t)(value > 127 ? 127 : value < -128 ? -128 : value); }

/* Where a check of plane p finds the bits of an edge. */
static inline size_t place(const struct hop *hop, uint32_t p, uint32_t planes) {
    return hop->column + 64 * (size_t)((p + hop->plane) & (planes - 1));
}

static inline __attribute__((always_inline)) uint32_t sweep_row(const struct ldpc_code *code, struct ldpc_decoder *d,
                                                                uint32_t row, uint32_t plane, uint64_t syndrome) {
    uint8_t least[64], second[64], sign[64];
    uint32_t first = code->row_start[row], end = code->row_start[row + 1], planes = code->planes, odd = 0;
    memset(least, CLIP, sizeof least);
    memset(second, CLIP, sizeof second);
    for (int i = 0; i < 64; i++) sign[i] = syndrome >> i & 1;
    for (uint32_t e = first; e < end; e++) {
        int8_t *input = d->inputs + 64 * (size_t)(e - first), both[128];
        const int8_t *message = d->messages + 64 * ((size_t)e * planes + plane);
        memcpy(both, d->posterior + place(&d->hops[e], plane, planes), 64);
        memcpy(both + 64, both, 64);
        const int8_t *turned = both + d->hops[e].turn;
        for (int i = 0; i < 64; i++) {
            int8_t value = saturate(turned[i] - message[i]);
            uint8_t worth = (uint8_t)(value < 0 ? -value : value);
            uint8_t above = worth > least[i] ? worth : least[i];
            input[i] = value;
            sign[i] ^= value < 0;
            least[i] = worth < least[i] ? worth : least[i];
            second[i] = above < second[i] ? above : second[i];
        }
    }
    uint8_t most[64], own[64];
    for (int i = 0; i < 64; i++) {
        odd += sign[i];
        own[i] = d->scale[second[i]];
        most[i] = d->scale[least[i]];
        most[i] = (uint8_t)(most[i] - (second[i] == least[i] && most[i] > 0));
    }
    for (uint32_t e = first; e < end; e++) {
        const int8_t *input = d->inputs + 64 * (size_t)(e - first);
        int8_t *message = d->messages + 64 * ((size_t)e * planes + plane);
        int8_t *posterior = d->posterior + place(&d->hops[e], plane, planes);
        for (int i = 0; i < 64; i++) {
            uint8_t worth = (uint8_t)(input[i] < 0 ? -input[i] : input[i]);
            int said = worth <= least[i] ? own[i] : most[i];
            if (sign[i] ^ (input[i] < 0)) said = -said;
            message[i] = (int8_t)said;
            posterior[i] = saturate(input[i] + said);
        }
    }
    return odd;
}

static inline __attribute__((always_inline)) uint32_t sweep_rows(const struct ldpc_code *code, struct ldpc_decoder *d,
                                                                 const uint64_t *syndrome) {
    uint32_t odd = 0;
    for (uint32_t row = 0; row < code->rows; row++)
        for (uint32_t p = 0; p < code->planes; p++)
            odd += sweep_row(code, d, row, p, syndrome[(size_t)row * code->planes + p]);
    return odd;
}

static uint32_t portable_sweep(const struct ldpc_code *code, struct ldpc_decoder *d, const uint64_t *syndrome) {
    return sweep_rows(code, d, syndrome);
}

static void portable_start(const struct ldpc_code *code, struct ldpc_decoder *d, const uint64_t *words,
                           const uint64_t *known) {
    memset(d->messages, 0, 64 * (size_t)code->n_edges * code->planes);
    for (uint32_t c = 0; c < code->words; c++) {
        unsigned turn = d->turn[c / code->planes];
        uint64_t word = ldpc_rotate(words[c], turn), certain = ldpc_rotate(known[c], turn);
        for (unsigned i = 0; i < 64; i++) {
            int worth = certain >> i & 1 ? CERTAIN : code->channel;
            d->posterior[64 * (size_t)c + i] = (int8_t)(word >> i & 1 ? -worth : worth);
        }
    }
}

static void portable_hard(const struct ldpc_code *code, struct ldpc_decoder *d) {
    for (uint32_t c = 0; c < code->words; c++) {
        uint64_t word = 0;
        for (unsigned i = 0; i < 64; i++) word |= (uint64_t)(d->posterior[64 * (size_t)c + i] < 0) << i;
        d->hard[c] = ldpc_rotate(word, 0u - d->turn[c / code->planes]);
    }
}

static const struct ldpc_kernels portable = {"portable", portable_start, portable_sweep, portable_hard};

#ifdef __x86_64__
#include <immintrin.h>

/* ---- AVX2: 64 numbers are two vectors. */

#define HALF __attribute__((target("avx2")))

static inline HALF __m256i half_load(const void *from) { return _mm256_loadu_si256(from); }
static inline HALF void half_store(void *to, __m256i v) { _mm256_storeu_si256(to, v); }

/* Bytes of which bit 7 is each bit's. */
static inline HALF __m256i half_spread(uint32_t bits) {
    const __m256i byte = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3,
                                          3, 3, 3, 3, 3, 3);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
    __m256i spread = _mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), byte);
    return _mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit);
}

/* d->scale of numbers up to CLIP. */
static inline HALF __m256i half_scale(const struct ldpc_decoder *d, __m256i worth) {
    __m256i low = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)d->scale));
    __m256i high = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(d->scale + 16)));
    return _mm256_blendv_epi8(_mm256_shuffle_epi8(low, worth), _mm256_shuffle_epi8(high, worth),
                              _mm256_cmpgt_epi8(worth, _mm256_set1_epi8(15)));
}

static inline HALF uint32_t half_row(const struct ldpc_code *code, struct ldpc_decoder *d, uint32_t row, uint32_t plane,
                                     uint64_t syndrome) {
    const __m256i one = _mm256_set1_epi8(1);
    uint32_t first = code->row_start[row], width = code->row_start[row + 1] - first, planes = code->planes;
    const struct hop *hops = d->hops + first;
    int8_t *messages = d->messages + 64 * ((size_t)first * planes + plane), *inputs = d->inputs;
    /* Twice in a row, to be read from where it turns to; all first, as it takes a while until that can be read. */
    for (uint32_t e = 0; e < width; e++) {
        const int8_t *posterior = d->posterior + place(&hops[e], plane, planes);
        for (int h = 0; h < 4; h++) half_store(inputs + 128 * (size_t)e + 32 * h, half_load(posterior + 32 * (h % 2)));
    }
    __m256i least[2], second[2], most[2], own[2], sign[2], value[2];
    for (int h = 0; h < 2; h++) {
        least[h] = second[h] = _mm256_set1_epi8(CLIP);
        sign[h] = half_spread((uint32_t)(syndrome >> (32 * h)));
    }
    for (uint32_t e = 0; e < width; e++) {
        int8_t *input = inputs + 128 * (size_t)e;
        const int8_t *message = messages + 64 * (size_t)e * planes;
        for (int h = 0; h < 2; h++)
            value[h] = _mm256_subs_epi8(half_load(input + hops[e].turn + 32 * h), half_load(message + 32 * h));
        for (int h = 0; h < 2; h++) {
            __m256i worth = _mm256_abs_epi8(value[h]); /* 128 of -128. */
            half_store(input + 32 * h, value[h]);
            sign[h] = _mm256_xor_si256(sign[h], value[h]);
            second[h] = _mm256_min_epu8(second[h], _mm256_max_epu8(worth, least[h]));
            least[h] = _mm256_min_epu8(least[h], worth);
        }
    }
    for (int h = 0; h < 2; h++) {
        own[h] = half_scale(d, second[h]);
        most[h] = half_scale(d, least[h]);
        most[h] = _mm256_subs_epu8(most[h], _mm256_and_si256(_mm256_cmpeq_epi8(second[h], least[h]), one));
    }
    for (uint32_t e = 0; e < width; e++) {
        int8_t *message = messages + 64 * (size_t)e * planes,
               *posterior = d->posterior + place(&hops[e], plane, planes);
        for (int h = 0; h < 2; h++) {
            __m256i input = half_load(inputs + 128 * (size_t)e + 32 * h), worth = _mm256_abs_epi8(input);
            __m256i is_least = _mm256_cmpeq_epi8(_mm256_min_epu8(worth, least[h]), worth);
            __m256i said = _mm256_blendv_epi8(most[h], own[h], is_least);
            said = _mm256_sign_epi8(said, _mm256_or_si256(_mm256_xor_si256(sign[h], input), one));
            half_store(message + 32 * h, said);
            half_store(posterior + 32 * h, _mm256_adds_epi8(input, said));
        }
    }
    return (uint32_t)(__builtin_popcount((unsigned)_mm256_movemask_epi8(sign[0])) +
                      __builtin_popcount((unsigned)_mm256_movemask_epi8(sign[1])));
}

static HALF uint32_t half_sweep(const struct ldpc_code *code, struct ldpc_decoder *d, const uint64_t *syndrome) {
    uint32_t odd = 0;
    for (uint32_t row = 0; row < code->rows; row++)
        for (uint32_t p = 0; p < code->planes; p++)
            odd += half_row(code, d, row, p, syndrome[(size_t)row * code->planes + p]);
    return odd;
}

static HALF void half_hard(const struct ldpc_code *code, struct ldpc_decoder *d) {
    for (uint32_t c = 0; c < code->words; c++) {
        const int8_t *posterior = d->posterior + 64 * (size_t)c;
        uint64_t low = (uint32_t)_mm256_movemask_epi8(half_load(posterior));
        uint64_t high = (uint32_t)_mm256_movemask_epi8(half_load(posterior + 32));
        d->hard[c] = ldpc_rotate(low | high << 32, 0u - d->turn[c / code->planes]);
    }
}

static const struct ldpc_kernels half = {"avx2", portable_start, half_sweep, half_hard};

/* ---- AVX-512. */

#define WIDE __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi")))

/* What a check said, in a fourth of the room, which is what bounds the speed: to the bits that were least certain
 * `own`, to the others `most`; and to which of them with a minus. */
struct said {
    uint64_t least, minus;
};
struct worths {
    int8_t most[64], own[64];
};

static struct worths *worths_of(struct ldpc_decoder *d) { return (struct worths *)(void *)d->messages; }
static struct said *said_of(const struct ldpc_code *code, struct ldpc_decoder *d) {
    return (struct said *)(void *)(d->messages + sizeof(struct worths) * code->checks);
}

static inline WIDE uint32_t wide_row(const struct ldpc_code *code, struct ldpc_decoder *d, uint32_t row, uint32_t plane,
                                     uint64_t syndrome) {
    const __m512i zero = _mm512_setzero_si512(), scale = _mm512_loadu_si512(d->scale);
    const uint8_t *order = d->order;
    int8_t *posterior = d->posterior, *inputs = d->inputs;
    uint32_t first = code->row_start[row], width = code->row_start[row + 1] - first, planes = code->planes;
    const struct hop *hops = d->hops + first; /* Kept here, for stores of bytes might change what d has. */
    struct said *said = said_of(code, d) + (size_t)first * planes + (size_t)plane * width;
    struct worths *worths = worths_of(d) + (size_t)row * planes + plane;
    __m512i most = _mm512_load_si512(worths->most), own = _mm512_load_si512(worths->own);
    __m512i least = _mm512_set1_epi8(CLIP), second = least, sign = _mm512_movm_epi8(syndrome);
    for (uint32_t e = 0; e < width; e++) {
        __m512i turned = _mm512_permutexvar_epi8(_mm512_loadu_si512(order + hops[e].turn),
                                                 _mm512_load_si512(posterior + place(&hops[e], plane, planes)));
        __m512i message = _mm512_mask_blend_epi8(said[e].least, most, own);
        message = _mm512_mask_sub_epi8(message, said[e].minus, zero, message);
        __m512i value = _mm512_subs_epi8(turned, message), worth = _mm512_abs_epi8(value); /* 128 of -128. */
        _mm512_store_si512(inputs + 64 * (size_t)e, value);
        sign = _mm512_xor_si512(sign, value);
        second = _mm512_min_epu8(second, _mm512_max_epu8(worth, least));
        least = _mm512_min_epu8(least, worth);
    }
    most = _mm512_permutexvar_epi8(least, scale);
    own = _mm512_permutexvar_epi8(second, scale);
    most = _mm512_mask_subs_epu8(most, _mm512_cmpeq_epu8_mask(second, least), most, _mm512_set1_epi8(1));
    _mm512_store_si512(worths->most, most);
    _mm512_store_si512(worths->own, own);
    for (uint32_t e = 0; e < width; e++) {
        __m512i value = _mm512_load_si512(inputs + 64 * (size_t)e);
        __mmask64 is_least = _mm512_cmple_epu8_mask(_mm512_abs_epi8(value), least);
        __mmask64 minus = _mm512_movepi8_mask(_mm512_xor_si512(sign, value));
        __m512i message = _mm512_mask_blend_epi8(is_least, most, own);
        message = _mm512_mask_sub_epi8(message, minus, zero, message);
        said[e] = (struct said){is_least, minus};
        _mm512_store_si512(posterior + place(&hops[e], plane, planes), _mm512_adds_epi8(value, message));
    }
    return (uint32_t)__builtin_popcountll(_mm512_movepi8_mask(sign));
}

static WIDE uint32_t wide_sweep(const struct ldpc_code *code, struct ldpc_decoder *d, const uint64_t *syndrome) {
    uint32_t odd = 0;
    for (uint32_t row = 0; row < code->rows; row++)
        for (uint32_t p = 0; p < code->planes; p++)
            odd += wide_row(code, d, row, p, syndrome[(size_t)row * code->planes + p]);
    return odd;
}

static WIDE void wide_start(const struct ldpc_code *code, struct ldpc_decoder *d, const uint64_t *words,
                            const uint64_t *known) {
    const __m512i zero = _mm512_setzero_si512(), certain = _mm512_set1_epi8(CERTAIN);
    const __m512i channel = _mm512_set1_epi8((char)code->channel);
    memset(worths_of(d), 0, sizeof(struct worths) * code->checks);
    memset(said_of(code, d), 0, sizeof(struct said) * (size_t)code->n_edges * code->planes);
    for (uint32_t c = 0; c < code->words; c++) {
        unsigned turn = d->turn[c / code->planes];
        __m512i worth = _mm512_mask_mov_epi8(channel, ldpc_rotate(known[c], turn), certain);
        worth = _mm512_mask_sub_epi8(worth, ldpc_rotate(words[c], turn), zero, worth);
        _mm512_store_si512(d->posterior + 64 * (size_t)c, worth);
    }
}

static WIDE void wide_hard(const struct ldpc_code *code, struct ldpc_decoder *d) {
    for (uint32_t c = 0; c < code->words; c++)
        d->hard[c] = ldpc_rotate(_mm512_movepi8_mask(_mm512_load_si512(d->posterior + 64 * (size_t)c)),
                                 0u - d->turn[c / code->planes]);
}

static const struct ldpc_kernels wide = {"avx512", wide_start, wide_sweep, wide_hard};

static bool has_wide(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi");
}
#endif

const struct ldpc_kernels *ldpc_kernels_at(size_t index) {
    if (index == 0) return &portable;
#ifdef __x86_64__
    if (index == 1 && __builtin_cpu_supports("avx2")) return &half;
    if (index == 2 && has_wide()) return &wide;
#endif
    return NULL;
}

const struct ldpc_kernels *ldpc_kernels_best(void) {
    size_t index = 0;
    while (ldpc_kernels_at(index + 1) != NULL) index++;
    return ldpc_kernels_at(index);
}

/* ---- All together. */

/* How many checks fail; the bits are left in d->hard. */
static uint32_t failing(const struct ldpc_kernels *kernels, const struct ldpc_code *code, struct ldpc_decoder *d,
                        const uint64_t *syndrome) {
    uint32_t count = 0;
    kernels->hard(code, d);
    ldpc_syndrome(code, d->hard, d->parity);
    for (uint32_t r = 0; r < code->checks; r++) count += (uint32_t)__builtin_popcountll(d->parity[r] ^ syndrome[r]);
    return count;
}

/* In 32nds, as the design was evolved. */
static void set_scale(const struct ldpc_code *code, struct ldpc_decoder *d, uint32_t fails) {
    uint32_t checks = 64 * code->checks, less = (2 * code->slope * fails + checks / 2) / checks;
    uint32_t scale = less > 26 ? 6 : 32 - less;
    for (unsigned worth = 0; worth < 64; worth++) d->scale[worth] = (uint8_t)((worth * scale + 16) / 32);
}

/* What the bits' worth is, less something for each check that fails: a decoder that is caught in a wrong pattern is
 * sure of it, and when few checks fail they show where. */
static void find_certainty(const struct ldpc_code *code, struct ldpc_decoder *d, const uint64_t *syndrome,
                           uint32_t fails_total, uint8_t *ret_certainty) {
    uint32_t planes = code->planes;
    for (uint32_t c = 0; c < code->words; c++) {
        for (unsigned i = 0; i < 64; i++) {
            int8_t value = d->posterior[64 * (size_t)c + ((i - d->turn[c / planes]) & 63)];
            ret_certainty[64 * (size_t)c + i] = (uint8_t)(value < 0 ? -(int)value : (int)value);
        }
    }
    uint8_t penalty = fails_total < 64 * code->checks / 12 ? 16 : 2;
    for (uint32_t r = 0; r < code->checks; r++) {
        uint64_t fails = d->parity[r] ^ syndrome[r];
        for (uint32_t e = code->row_start[r / planes]; fails != 0 && e < code->row_start[r / planes + 1]; e++) {
            const struct ldpc_edge *edge = &code->edges[e];
            size_t word = (size_t)edge->column * planes + ((r + edge->plane) & (planes - 1));
            for (uint64_t bits = ldpc_rotate(fails, 0u - edge->shift); bits != 0; bits &= bits - 1) {
                uint8_t *certainty = &ret_certainty[64 * word + (unsigned)__builtin_ctzll(bits)];
                *certainty = *certainty < penalty ? 0 : (uint8_t)(*certainty - penalty);
            }
        }
    }
}

unsigned ldpc_decode(const struct ldpc_kernels *kernels, const struct ldpc_code *code, struct ldpc_decoder *d,
                     const uint64_t *syndrome, const uint64_t *known, uint64_t *words, uint8_t *ret_certainty) {
    kernels->start(code, d, words, known);
    uint32_t odd = failing(kernels, code, d, syndrome), fewest = odd;
    unsigned waited = 0;
    for (unsigned sweep = 1; sweep <= MAX_SWEEPS && waited < PATIENCE; sweep++) {
        set_scale(code, d, odd);
        odd = kernels->sweep(code, d, syndrome);
        /* What the checks found while bits changed tells about when it pays to look at all of them. */
        if (odd <= code->checks && failing(kernels, code, d, syndrome) == 0) {
            memcpy(words, d->hard, code->words * sizeof *words);
            return sweep;
        }
        waited++;
        if (odd < fewest - fewest / 64) {
            fewest = odd;
            waited = 0;
        }
    }
    find_certainty(code, d, syndrome, failing(kernels, code, d, syndrome), ret_certainty);
    return 0;
}
