/* SPDX-License-Identifier: Apache-2.0 */
#include "qkd/cascade_plan.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "qkd/pack.h"

enum { LANES = 64 };

/* Of the tuned variant. Two passes and then random subsets (BICONF): a third pass of larger blocks was slower and no
 * better. First blocks smaller than the usual 0.8/Q, and second ones that grow only fivefold, cost half a percent of
 * efficiency and save a third of the round trips. Twenty subsets leave a wrong strip undetected once in a million. */
static const double FIRST_BLOCK = 0.6, SECOND_BLOCK = 3.0, FAST_SECOND_BLOCK = 1.5; /* Times 1/Q. */
enum { CHECKS = 26, STREAK = 10, TUNED_STRIP = 16384, PUBLISHED_STRIP = 10000 };

/* No libm. */
static uint32_t above(double size) { return size < PLAN_MAX_STRIP ? (uint32_t)size + 1 : PLAN_MAX_STRIP; }
static uint32_t round_up(double size) {
    return size < PLAN_MAX_STRIP ? (uint32_t)size + ((uint32_t)size < size) : PLAN_MAX_STRIP;
}

static uint32_t power_of_two(double at_least) {
    uint32_t power = 1;
    while (power < at_least && power < PLAN_MAX_STRIP) power *= 2;
    return power;
}

/* The power of two whose square is at least that. */
static uint32_t power_of_two_root(double at_least) {
    uint32_t power = 1;
    while ((double)power * power < at_least && power < PLAN_MAX_STRIP) power *= 2;
    return power;
}

/* Block sizes as published; what is not set is half a strip. Returns how many. */
static unsigned published_blocks(enum qn_cascade_variant variant, double qber, uint32_t size[PLAN_MAX_PASSES]) {
    switch (variant) {
    case QN_CASCADE_ORIGINAL:
        size[0] = round_up(0.73 / qber);
        for (unsigned p = 1; p < 4; p++) size[p] = 2 * size[p - 1];
        return 4;
    case QN_CASCADE_BICONF:
        size[0] = round_up(0.92 / qber);
        size[1] = 3 * size[0];
        return 2;
    case QN_CASCADE_YANETAL:
        size[0] = round_up(0.80 / qber);
        size[1] = 5 * size[0];
        return 10;
    case QN_CASCADE_OPTION7:
        size[0] = power_of_two(1 / qber);
        size[1] = 4 * size[0];
        return 14;
    case QN_CASCADE_OPTION8:
        size[0] = power_of_two(0.70710678118654752 / qber);
        size[1] = power_of_two_root(0.70710678118654752 / qber * 4096);
        size[2] = 4096;
        return 14;
    default:
        size[0] = round_up(1 / qber);
        size[1] = 2 * size[0];
        return 16;
    }
}

/* Block sizes of the passes; those that would not cut the strip are left out. */
static void choose_blocks(struct plan *plan, enum qn_cascade_variant variant, double qber) {
    uint32_t size[PLAN_MAX_PASSES];
    unsigned count;
    for (unsigned p = 0; p < PLAN_MAX_PASSES; p++) size[p] = (plan->strip + 1) / 2;
    if (variant < QN_CASCADE_ORIGINAL) {
        count = 2;
        size[0] = above(FIRST_BLOCK / qber);
        size[1] = above((variant == QN_CASCADE_TUNED ? SECOND_BLOCK : FAST_SECOND_BLOCK) / qber);
        plan->n_checks = CHECKS;
    } else {
        count = published_blocks(variant, qber, size);
        plan->is_published = true;
        if (variant == QN_CASCADE_BICONF) {
            plan->streak = STREAK;
            plan->n_checks = PLAN_MAX_STREAK_CHECKS;
        }
    }
    if (plan->n_checks >= plan->strip) plan->n_checks = plan->strip - 1;
    for (unsigned p = 0; p < count; p++) {
        uint32_t block = size[p] >= plan->strip ? plan->strip : size[p];
        if (p > 0 && block >= plan->strip) continue;
        struct plan_pass *pass = &plan->pass[plan->n_passes++];
        pass->block = block;
        pass->blocks = (plan->strip + block - 1) / block;
    }
}

/* One keystream a purpose; the nonce says which: the number of a pass, but 0, which is not shuffled, for checks. */
static void keystream(const uint8_t seed[32], uint64_t purpose, uint8_t *out, size_t len) {
    uint8_t nonce[crypto_stream_chacha20_NONCEBYTES];
    store_le64(nonce, purpose);
    crypto_stream_chacha20(out, len, nonce, seed);
}

/* Fisher and Yates; the multiply's bias is below 2^-16 and of no consequence, as long as both ends have the same. */
static int make_shuffle(struct plan_pass *pass, uint32_t strip, const uint8_t seed[32], unsigned purpose) {
    uint8_t *random = malloc(4 * (size_t)strip);
    pass->from = malloc(strip * sizeof *pass->from);
    pass->to = malloc(strip * sizeof *pass->to);
    if (random == NULL || pass->from == NULL || pass->to == NULL) {
        free(random);
        return -QN_ENOMEM;
    }
    keystream(seed, purpose, random, 4 * (size_t)strip);
    for (uint32_t i = 0; i < strip; i++) pass->from[i] = (uint16_t)i;
    for (uint32_t i = strip - 1; i > 0; i--) {
        const uint8_t *r = random + 4 * (size_t)i;
        uint64_t number = r[0] | (uint64_t)r[1] << 8 | (uint64_t)r[2] << 16 | (uint64_t)r[3] << 24;
        uint32_t j = (uint32_t)(number * (i + 1) >> 32);
        uint16_t swap = pass->from[i];
        pass->from[i] = pass->from[j];
        pass->from[j] = swap;
    }
    for (uint32_t i = 0; i < strip; i++) pass->to[pass->from[i]] = (uint16_t)i;
    free(random);
    return 0;
}

static int make_masks(struct plan *plan, const uint8_t seed[32]) {
    if (plan->n_checks == 0) return 0;
    size_t count = plan->n_checks * plan->words;
    plan->masks = malloc(count * sizeof *plan->masks);
    if (plan->masks == NULL) return -QN_ENOMEM;
    keystream(seed, 0, (uint8_t *)plan->masks, count * sizeof *plan->masks);
    uint64_t last = plan->strip % 64 == 0 ? ~0ull : (1ull << plan->strip % 64) - 1;
    for (size_t w = 0; w < count; w++) {
        uint8_t bytes[8];
        memcpy(bytes, &plan->masks[w], sizeof bytes);
        uint64_t mask = load_le64(bytes);
        if (plan->streak > 0 && w / plan->words % 2 == 1) mask = ~plan->masks[w - plan->words]; /* The rest. */
        plan->masks[w] = mask & ((w + 1) % plan->words == 0 ? last : ~0ull);
    }
    return 0;
}

int plan_init(struct plan *plan, const struct qn_cascade_config *config, size_t len) {
    *plan = (struct plan){.len = len, .sum = plan_best_sum(false)};
    if (len > QN_CASCADE_MAX_BITS || (unsigned)config->variant > QN_CASCADE_OPTION8) return -QN_EINVAL;
    if (len == 0) return 0;
    size_t longest = config->strip_bits;
    if (longest == 0) longest = config->variant < QN_CASCADE_ORIGINAL ? TUNED_STRIP : PUBLISHED_STRIP;
    if (longest > PLAN_MAX_STRIP) longest = PLAN_MAX_STRIP;
    plan->strips = (uint32_t)((len + longest - 1) / longest);
    plan->strip = (uint32_t)((len + plan->strips - 1) / plan->strips);
    plan->words = qn_bits_words(plan->strip);
    double qber = config->qber > 1e-6 ? config->qber : 1e-6; /* Not a number, too. */
    choose_blocks(plan, config->variant, qber < 0.25 ? qber : 0.25);

    int rc = make_masks(plan, config->seed);
    for (unsigned p = 1; rc == 0 && p < plan->n_passes; p++)
        rc = make_shuffle(&plan->pass[p], plan->strip, config->seed, p);
    if (rc < 0) plan_release(plan);
    return rc;
}

void plan_release(struct plan *plan) {
    for (unsigned p = 0; p < PLAN_MAX_PASSES; p++) {
        free(plan->pass[p].from);
        free(plan->pass[p].to);
    }
    free(plan->masks);
    *plan = (struct plan){0};
}

int plan_strips(const struct plan *plan, const struct qn_bits *key, uint64_t **ret_words) {
    uint64_t *words = calloc(plan->strips * plan->words + 1, sizeof *words);
    if (words == NULL) return -QN_ENOMEM;
    for (size_t s = 0; s < plan->strips; s++) {
        size_t start = s * plan->strip;
        size_t count = start >= key->len ? 0 : key->len - start < plan->strip ? key->len - start : plan->strip;
        for (size_t done = 0; done < count; done += 64) {
            uint64_t word = qn_bits_word(key, start + done);
            if (count - done < 64) word &= (1ull << (count - done)) - 1;
            words[s * plan->words + done / 64] = word;
        }
    }
    *ret_words = words;
    return 0;
}

/* Bit j of row i becomes bit i of row j (Warren, Hacker's Delight, 2nd ed., section 7-3). */
static void transpose(uint64_t rows[LANES]) {
    uint64_t mask = ~0ull >> 32;
    for (unsigned half = 32; half > 0; half /= 2, mask ^= mask << half) {
        for (unsigned i = 0; i < LANES; i = (i + half + 1) & ~half) {
            uint64_t swap = (rows[i] >> half ^ rows[i + half]) & mask;
            rows[i] ^= swap << half;
            rows[i + half] ^= swap;
        }
    }
}

/* 64 strips at once: `rows` holds a word a position, a bit of it a strip. A word moves as fast as a bit. */
static void shuffle_lanes(const struct plan *plan, const uint16_t *from, const uint64_t *in, uint64_t *out,
                          size_t lanes, uint64_t *rows) {
    for (size_t w = 0; w < plan->words; w++) {
        for (size_t lane = 0; lane < LANES; lane++) rows[64 * w + lane] = lane < lanes ? in[lane * plan->words + w] : 0;
        transpose(rows + 64 * w);
    }
    for (size_t w = 0; w < plan->words; w++) {
        uint64_t word[LANES] = {0};
        for (size_t i = 0; i < 64 && 64 * w + i < plan->strip; i++) word[i] = rows[from[64 * w + i]];
        transpose(word);
        for (size_t lane = 0; lane < lanes; lane++) out[lane * plan->words + w] = word[lane];
    }
}

int plan_shuffle(const struct plan *plan, unsigned pass, const uint64_t *in, uint64_t *out) {
    size_t total = plan->strips * plan->words;
    const uint16_t *from = plan->pass[pass].from;
    if (from == NULL) {
        memcpy(out, in, total * sizeof *out);
        return 0;
    }
    uint64_t *rows = malloc(plan->words * 64 * sizeof *rows);
    if (rows == NULL) return -QN_ENOMEM;
    for (size_t s = 0; s < plan->strips; s += LANES) {
        size_t lanes = plan->strips - s < LANES ? plan->strips - s : LANES;
        shuffle_lanes(plan, from, in + s * plan->words, out + s * plan->words, lanes, rows);
    }
    sodium_memzero(rows, plan->words * 64 * sizeof *rows);
    free(rows);
    return 0;
}

/* ---- sums of checks ---- */

static bool sum_portable(const uint64_t *a, const uint64_t *b, size_t words) {
    uint64_t sum = 0;
    for (size_t w = 0; w < words; w++) sum ^= a[w] & b[w];
    return __builtin_parityll(sum);
}

#ifdef __x86_64__
#include <immintrin.h>

__attribute__((target("avx2"))) static bool sum_avx2(const uint64_t *a, const uint64_t *b, size_t words) {
    __m256i sums = _mm256_setzero_si256();
    size_t w = 0;
    for (; w + 4 <= words; w += 4)
        sums = _mm256_xor_si256(sums, _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(const void *)(a + w)),
                                                       _mm256_loadu_si256((const __m256i *)(const void *)(b + w))));
    uint64_t part[4], sum = 0;
    _mm256_storeu_si256((__m256i *)(void *)part, sums);
    for (; w < words; w++) sum ^= a[w] & b[w];
    return __builtin_parityll(sum ^ part[0] ^ part[1] ^ part[2] ^ part[3]);
}
#endif

plan_sum *plan_best_sum(bool portable) {
#ifdef __x86_64__
    if (!portable && __builtin_cpu_supports("avx2")) return sum_avx2;
#endif
    (void)portable;
    return sum_portable;
}
