/* SPDX-License-Identifier: Apache-2.0 */
/* Heralded photons: the photon number of one arm of a single-mode squeezed vacuum, thermal, given a click of a
 * threshold detector on the other; e.g. Adachi, Yamamoto, Koashi and Imoto, PRL 99, 180503 (2007). */
#include "link/source.h"

#include <math.h>
#include <sodium.h>
#include <stdbool.h>
#include <string.h>

#include "base/err.h"
#include "link/choices.h"

#define STEPS_INTENSITY 65536
#define STEPS_BASIS 32768

static bool is_fraction(double x) { return x >= 0 && x <= 1; }

static bool is_valid(const struct qn_source *source) {
    if (source->n < 1 || source->n > QN_INTENSITIES_MAX || !is_fraction(source->test_basis)) return false;
    double sum = 0;
    for (unsigned k = 0; k < source->n; k++) {
        if (!(source->probability[k] > 0) || !(source->mean[k] >= 0 && source->mean[k] <= 100)) return false;
        if (source->emission == QN_EMIT_SINGLE && source->mean[k] > 1) return false;
        sum += source->probability[k];
    }
    if (source->emission == QN_EMIT_HERALDED &&
        (!is_fraction(source->herald_efficiency) || !is_fraction(source->herald_dark) ||
         !(source->herald_efficiency > 0 || source->herald_dark > 0)))
        return false;
    return fabs(sum - 1) < 1e-3;
}

int qn_source_settle(struct qn_source *source) {
    if (!is_valid(source)) return -QN_EINVAL;
    long steps[QN_INTENSITIES_MAX] = {0}, left = STEPS_INTENSITY;
    unsigned largest = 0;
    for (unsigned k = 0; k < source->n; k++) {
        steps[k] = lround(source->probability[k] * STEPS_INTENSITY);
        if (steps[k] < 1) steps[k] = 1;
        left -= steps[k];
        if (steps[k] > steps[largest]) largest = k;
    }
    steps[largest] += left; /* At most 1e-3 of rounding of the user's, and half a step each of ours. */
    for (long k = 0, above = 0; k < (long)source->n; k++) {
        source->above[k] = (uint16_t)above;
        source->probability[k] = (double)steps[k] / STEPS_INTENSITY;
        above += steps[k];
    }
    source->test_below = (uint16_t)lround(source->test_basis * STEPS_BASIS);
    source->test_basis = (double)source->test_below / STEPS_BASIS;
    return 0;
}

double qn_source_generating(const struct qn_source *source, unsigned intensity, double z) {
    double mean = source->mean[intensity];
    switch (source->emission) {
    case QN_EMIT_COHERENT:
        return exp(-mean * (1 - z));
    case QN_EMIT_SINGLE:
        return 1 - mean * (1 - z);
    case QN_EMIT_HERALDED: {
        /* Thermal numbers, less those the herald missed. */
        double quiet = 1 - source->herald_dark, missed = 1 - source->herald_efficiency;
        double silent = quiet / (1 + mean * (1 - missed)), all = 1 / (1 + mean * (1 - z));
        return (all - quiet / (1 + mean * (1 - z * missed))) / (1 - silent);
    }
    }
    return 1;
}

double qn_source_photons(const struct qn_source *source, unsigned intensity, unsigned n) {
    double mean = source->mean[intensity];
    switch (source->emission) {
    case QN_EMIT_COHERENT: {
        double p = exp(-mean);
        for (unsigned i = 1; i <= n; i++) p *= mean / i;
        return p;
    }
    case QN_EMIT_SINGLE:
        return n == 0 ? 1 - mean : n == 1 ? mean : 0;
    case QN_EMIT_HERALDED: {
        double quiet = 1 - source->herald_dark, missed = 1 - source->herald_efficiency;
        double silent = quiet / (1 + mean * (1 - missed)), x = mean / (1 + mean);
        return pow(x, n) / (1 + mean) * (1 - quiet * pow(missed, n)) / (1 - silent);
    }
    }
    return 0;
}

double qn_source_multi(const struct qn_source *source, unsigned intensity) {
    if (source->mean[intensity] > 0.1)
        return 1 - qn_source_photons(source, intensity, 0) - qn_source_photons(source, intensity, 1);
    double sum = 0; /* Differences would lose a faint source's few pairs. */
    for (unsigned n = 2; n < 40; n++) sum += qn_source_photons(source, intensity, n);
    return sum;
}

void qn_stream_init(struct qn_stream *stream, const uint8_t key[32]) {
    qn_aes_init(&stream->aes, key);
    stream->nonce = 0;
    for (unsigned i = 0; i < 8; i++) stream->nonce |= (uint64_t)key[16 + i] << (8 * i);
}

void qn_stream_release(struct qn_stream *stream) { sodium_memzero(stream, sizeof *stream); }

struct qn_choice qn_choice_at(const struct qn_stream *stream, const struct qn_source *source, uint64_t pulse) {
    uint32_t word;
    qn_aes_words(&stream->aes, stream->nonce, &pulse, 1, &word);
    struct qn_choice choice = {.bit = word & 1, .basis = choice_basis(source, word)};
    choice.intensity = (uint8_t)choice_intensity(source, word);
    return choice;
}

/* ---- Many at once ---- */

/* Bit i of each: whether words[i] is at least `bound`; is below it in its lower 16 bits without the last; is odd. */
struct masks {
    uint64_t (*at_least)(const uint32_t words[64], uint32_t bound);
    uint64_t (*basis)(const uint32_t words[64], uint32_t below);
    uint64_t (*odd)(const uint32_t words[64]);
};

static uint64_t plain_at_least(const uint32_t words[64], uint32_t bound) {
    uint64_t mask = 0;
    for (unsigned i = 0; i < 64; i++) mask |= (uint64_t)(words[i] >= bound) << i;
    return mask;
}
static uint64_t plain_basis(const uint32_t words[64], uint32_t below) {
    uint64_t mask = 0;
    for (unsigned i = 0; i < 64; i++) mask |= (uint64_t)((words[i] & 0xffff) >> 1 < below) << i;
    return mask;
}
static uint64_t plain_odd(const uint32_t words[64]) {
    uint64_t mask = 0;
    for (unsigned i = 0; i < 64; i++) mask |= (uint64_t)(words[i] & 1) << i;
    return mask;
}
static const struct masks plain = {plain_at_least, plain_basis, plain_odd};

#ifdef __x86_64__
#include <immintrin.h>
#define WIDE __attribute__((target("avx512f,avx512bw")))

static WIDE uint64_t wide_at_least(const uint32_t words[64], uint32_t bound) {
    uint64_t mask = 0;
    for (unsigned i = 0; i < 4; i++)
        mask |= (uint64_t)_mm512_cmpge_epu32_mask(_mm512_loadu_si512(words + 16 * i), _mm512_set1_epi32((int)bound))
                << 16 * i;
    return mask;
}
static WIDE uint64_t wide_basis(const uint32_t words[64], uint32_t below) {
    uint64_t mask = 0;
    for (unsigned i = 0; i < 4; i++) {
        __m512i low = _mm512_srli_epi32(_mm512_slli_epi32(_mm512_loadu_si512(words + 16 * i), 16), 17);
        mask |= (uint64_t)_mm512_cmplt_epu32_mask(low, _mm512_set1_epi32((int)below)) << 16 * i;
    }
    return mask;
}
static WIDE uint64_t wide_odd(const uint32_t words[64]) {
    uint64_t mask = 0;
    for (unsigned i = 0; i < 4; i++)
        mask |= (uint64_t)_mm512_test_epi32_mask(_mm512_loadu_si512(words + 16 * i), _mm512_set1_epi32(1)) << 16 * i;
    return mask;
}
static const struct masks wide = {wide_at_least, wide_basis, wide_odd};
#endif

static const struct masks *masks_best(void) {
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")) return &wide;
#endif
    return &plain;
}

/* One word of each plane. The masks of the bounds are a thermometer: intensity k has the first k of them. */
static void planes_write(const struct masks *masks, const struct qn_source *source, const uint32_t words[64],
                         uint64_t used, size_t at, const struct qn_choice_planes *planes) {
    if (planes->bit != NULL) planes->bit[at] = masks->odd(words) & used;
    if (planes->basis != NULL) planes->basis[at] = masks->basis(words, source->test_below) & used;
    uint64_t value[QN_INTENSITY_PLANES] = {0}, reached = 0;
    for (unsigned k = source->n; k-- > 1;) {
        uint64_t from_here = masks->at_least(words, (uint32_t)source->above[k] << 16) & used;
        for (unsigned b = 0; b < QN_INTENSITY_PLANES; b++)
            if (k >> b & 1) value[b] |= from_here & ~reached;
        reached = from_here;
    }
    for (unsigned b = 0; b < QN_INTENSITY_PLANES && source->n > 1u << b; b++)
        if (planes->intensity[b] != NULL) planes->intensity[b][at] = value[b];
}

void qn_choices_at(const struct qn_stream *stream, const struct qn_source *source, uint64_t first,
                   const uint32_t *offset, size_t n, const struct qn_choice_planes *planes) {
    enum { SOME = 1024 };
    const struct masks *masks = masks_best();
    uint64_t index[SOME];
    uint32_t words[SOME];
    for (size_t i = 0; i < n; i += SOME) {
        size_t some = n - i < SOME ? n - i : SOME;
        for (size_t j = 0; j < some; j++) index[j] = first + offset[i + j];
        qn_aes_words(&stream->aes, stream->nonce, index, some, words);
        for (size_t j = some; j % 64 != 0; j++) words[j] = 0;
        for (size_t j = 0; j < some; j += 64) {
            uint64_t used = some - j < 64 ? ~UINT64_C(0) >> (64 - (some - j)) : ~UINT64_C(0);
            planes_write(masks, source, words + j, used, (i + j) / 64, planes);
        }
    }
    sodium_memzero(words, sizeof words);
}
