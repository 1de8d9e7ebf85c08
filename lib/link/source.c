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
#include "link/fast.h"

#define STEPS_INTENSITY 65536

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
    source->test_below = (uint16_t)lround(source->test_basis * CHOICE_BASIS_STEPS);
    source->test_basis = (double)source->test_below / CHOICE_BASIS_STEPS;
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
    uint32_t word, none = 0;
    qn_aes_words(&stream->aes, stream->nonce, pulse, &none, 1, &word);
    struct qn_choice choice = {.bit = word & 1, .basis = choice_basis(source, word)};
    choice.intensity = (uint8_t)choice_intensity(source, word);
    return choice;
}

/* ---- Many at once ---- */

void qn_choices_at(const struct qn_stream *stream, const struct qn_source *source, uint64_t first,
                   const uint32_t *offset, size_t n, const struct qn_choice_planes *planes) {
    enum { SOME = 1024 };
    const struct fast_set *set = fast_set_best();
    uint32_t words[SOME];
    uint64_t found[FAST_PLANES], *to[FAST_PLANES] = {planes->bit, planes->basis};
    for (unsigned b = 0; b < QN_INTENSITY_PLANES && source->n > 1u << b; b++) to[2 + b] = planes->intensity[b];
    for (size_t i = 0; i < n; i += SOME) {
        size_t some = n - i < SOME ? n - i : SOME;
        qn_aes_words(&stream->aes, stream->nonce, first, offset + i, some, words);
        for (size_t j = some; j % 64 != 0; j++) words[j] = 0;
        for (size_t j = 0; j < some; j += 64) {
            uint64_t used = some - j < 64 ? ~UINT64_C(0) >> (64 - (some - j)) : ~UINT64_C(0);
            set->planes(source, words + j, found);
            for (unsigned p = 0; p < FAST_PLANES; p++)
                if (to[p] != NULL) to[p][(i + j) / 64] = found[p] & used;
        }
    }
    sodium_memzero(words, sizeof words);
    sodium_memzero(found, sizeof found);
}
