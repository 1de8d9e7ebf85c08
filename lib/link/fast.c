/* SPDX-License-Identifier: Apache-2.0 */
#include "link/fast.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "link/choices.h"
#include "link/receiver.h"

void fast_rng_init(struct fast_rng *rng, const char *purpose, uint64_t seed, uint64_t index) {
    for (unsigned lane = 0; lane < FAST_LANES; lane++) {
        struct qn_rng one;
        qn_rng_init(&one, seed, purpose, index * FAST_LANES + lane);
        for (unsigned i = 0; i < 4; i++) rng->s[i][lane] = one.s[i];
    }
}

/* A bit more costs 512 pulses about as much as a candidate. A chance that is a hair above a multiple is that multiple,
 * so that libm's last bit does not matter. */
void fast_chance_init(struct fast_chance *chance, double p) {
    double least = INFINITY;
    for (unsigned bits = 0; bits <= FAST_BITS_MAX; bits++) {
        double steps = (double)(1u << bits), numerator = ceil(p * steps * (1 - 1e-12));
        double cost = bits + 512 * numerator / steps;
        if (cost >= least) continue;
        least = cost;
        *chance = (struct fast_chance){.numerator = (uint32_t)numerator, .bits = bits};
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

/* From the lowest bit of the numerator up: with a random bit, a 1 makes chance c (1 + c) / 2, a 0 makes it c / 2. */
static void plain_masks(struct fast_rng *rng, const struct fast_chance *chance, uint64_t *mask, size_t n) {
    for (size_t i = 0; i < n; i += FAST_LANES) {
        for (unsigned j = 0; j < FAST_LANES; j++) mask[i + j] = chance->bits == 0 ? ~UINT64_C(0) : 0;
        for (unsigned b = 0; b < chance->bits; b++) {
            uint64_t draw[FAST_LANES];
            plain_fill(rng, draw, FAST_LANES);
            for (unsigned j = 0; j < FAST_LANES; j++)
                mask[i + j] = chance->numerator >> b & 1 ? mask[i + j] | draw[j] : mask[i + j] & draw[j];
        }
    }
}

static size_t plain_ones(const uint64_t *mask, size_t *words, uint32_t base, size_t cap, uint32_t *position) {
    size_t n = 0, w = 0;
    for (; w < *words && n + 64 <= cap; w++, base += 64)
        for (uint64_t left = mask[w]; left != 0; left &= left - 1)
            position[n++] = base + (uint32_t)__builtin_ctzll(left);
    *words = w;
    return n;
}

/* floor(-ln(u) mean) for u = x / 2^53 with an odd x = 2^e m: -ln u = (53 - e) ln 2 - ln m, where m = middle (1 + r) and
 * |r| < 2^-5, so that the series is good to 10^-14. */
uint64_t fast_gap(const struct fast_gaps *gaps, uint64_t draw) {
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
    double value = ((left * FAST_LN2 - gaps->log[step]) - r * series) * gaps->mean;
    if (!(value > 0)) value = 0; /* Rounding, next to u = 1. */
    if (!(value < FAST_GAP_MAX)) value = FAST_GAP_MAX;
    return (uint64_t)(int64_t)value;
}

static size_t plain_positions(const struct fast_gaps *gaps, const uint64_t *draw, size_t n, uint64_t first,
                              uint64_t *at, uint64_t end, uint32_t *position) {
    uint64_t next = *at;
    for (size_t i = 0; i < n; i++) {
        next += fast_gap(gaps, draw[i]);
        if (next >= end) {
            *at = end;
            return i;
        }
        position[i] = (uint32_t)(next++ - first);
    }
    *at = next;
    return n;
}

unsigned fast_outcome(const struct qn_source *source, const struct fast_outcomes *outcomes, uint32_t word,
                      unsigned draw, struct qn_rng *ties) {
    unsigned choice = choice_intensity(source, word) * 4 + choice_basis(source, word) * 2u + (word & 1);
    unsigned column = draw % FAST_COLUMNS, entry = outcomes->entry[choice][column];
    bool below = draw / FAST_COLUMNS < entry / FAST_COLUMNS;
    if (draw / FAST_COLUMNS == entry / FAST_COLUMNS) below = qn_rng_u64(ties) < outcomes->rest[choice][column];
    return below ? column : entry % FAST_COLUMNS;
}

static void plain_keep(const struct qn_source *source, const struct fast_outcomes *outcomes, const uint32_t *position,
                       const uint32_t *word, const uint64_t *draw, const uint64_t *coin, size_t n, struct qn_rng *ties,
                       uint32_t *ret_position, struct fast_clicks *ret) {
    *ret = (struct fast_clicks){0};
    for (size_t i = 0; i < n; i++) {
        unsigned outcome =
            fast_outcome(source, outcomes, word[i], (unsigned)(draw[i / 4] >> (16 * (i % 4)) & 0xffff), ties);
        if (outcome % 4 == QN_OUTCOME_NONE) continue;
        uint64_t both = outcome % 4 == QN_OUTCOME_BOTH, basis = outcome / 4;
        uint64_t bit = both ? coin[i / 64] >> (i % 64) & 1 : outcome % 4 == QN_OUTCOME_1;
        ret->basis[ret->n / 64] |= basis << (ret->n % 64);
        ret->bit[ret->n / 64] |= bit << (ret->n % 64);
        ret->both[ret->n / 64] |= both << (ret->n % 64);
        ret->doubles[basis] += both;
        ret_position[ret->n++] = position[i];
    }
}

static void plain_planes(const struct qn_source *source, const uint32_t word[64], uint64_t ret[FAST_PLANES]) {
    for (unsigned p = 0; p < FAST_PLANES; p++) ret[p] = 0;
    for (unsigned i = 0; i < 64; i++) {
        unsigned intensity = choice_intensity(source, word[i]);
        ret[0] |= (uint64_t)(word[i] & 1) << i;
        ret[1] |= (uint64_t)choice_basis(source, word[i]) << i;
        for (unsigned b = 0; b < QN_INTENSITY_PLANES; b++) ret[2 + b] |= (uint64_t)(intensity >> b & 1) << i;
    }
}

static const struct fast_set plain = {
    "portable", plain_fill, plain_masks, plain_ones, plain_positions, plain_keep, plain_planes,
};

const struct fast_set *fast_set_at(size_t i) {
    if (i == 0) return &plain;
    return fast_wide_at(i - 1);
}

const struct fast_set *fast_set_best(void) {
    const struct fast_set *best = &plain;
    for (size_t i = 0; fast_wide_at(i) != NULL; i++) best = fast_wide_at(i);
    return best;
}
