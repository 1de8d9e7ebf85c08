/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_LINK_SOURCE_H
#define QN_LINK_SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include "base/aes.h"

/* A source of BB84 pulses: what it chooses from, and its choices. The choices of a train are a keyed stream with random
 * access, AES-128 in counter mode, 32 bits a pulse: intensity (16 bits), basis (15), bit (1). Nothing is stored for
 * pulses that nobody detects, and what is announced of one pulse tells nothing of another. */

enum { QN_INTENSITIES_MAX = 8, QN_INTENSITY_PLANES = 3 };

enum qn_emission {
    QN_EMIT_COHERENT, /* Weak laser pulses of random phase: Poisson photon numbers. */
    QN_EMIT_SINGLE,   /* One photon with probability `mean` (at most 1), else none. */
    QN_EMIT_HERALDED, /* Parametric down-conversion, one mode, of `mean` pairs: thermal, given the herald's click. */
};

struct qn_source {
    enum qn_emission emission;
    unsigned n;                             /* Intensities, 1 to QN_INTENSITIES_MAX. Vacuum is a mean of 0. */
    double mean[QN_INTENSITIES_MAX];        /* Photons (pairs) of a pulse. */
    double probability[QN_INTENSITIES_MAX]; /* Exact: multiples of 2^-16 that sum to 1. */
    double test_basis;                      /* Chance of basis 1 (X, the test basis); exact: a multiple of 2^-15. */
    double herald_efficiency, herald_dark;  /* QN_EMIT_HERALDED only. */
    uint16_t above[QN_INTENSITIES_MAX];     /* Intensity k if the 16 bits are >= above[k] and < above[k + 1]. */
    uint16_t test_below;                    /* Basis 1 if the 15 bits are below. */
};

/* Fills in the last two from the others, and rounds probabilities and test_basis to what 32 bits can express; every
 * intensity keeps at least 2^-16. -QN_EINVAL: nothing set. */
int qn_source_settle(struct qn_source *source);
/* Chance of n photons in a pulse, and the generating function E[z^n], 0 <= z <= 1. */
double qn_source_photons(const struct qn_source *source, unsigned intensity, unsigned n);
double qn_source_multi(const struct qn_source *source, unsigned intensity); /* Chance of two or more. */
double qn_source_generating(const struct qn_source *source, unsigned intensity, double z);

struct qn_stream { /* The choices of one train. */
    struct qn_aes aes;
    uint64_t nonce;
};
void qn_stream_init(struct qn_stream *stream, const uint8_t key[32]); /* Bytes 0-15: AES key; 16-23: nonce. */
void qn_stream_release(struct qn_stream *stream);                     /* Wipes. */

struct qn_choice {
    uint8_t intensity, basis, bit;
};
struct qn_choice qn_choice_at(const struct qn_stream *stream, const struct qn_source *source, uint64_t pulse);

/* The choices at pulses first + offset[i], i < n, as bit planes: choice i is bit i % 64 of word i / 64; the unused bits
 * of the last word are 0. Each plane has (n + 63) / 64 words. Planes of intensity that log2(source->n) does not need,
 * and any plane whose pointer is NULL, are not written. Offsets in any order. */
struct qn_choice_planes {
    uint64_t *bit, *basis, *intensity[QN_INTENSITY_PLANES]; /* Intensity: lowest bit first. */
};
void qn_choices_at(const struct qn_stream *stream, const struct qn_source *source, uint64_t first,
                   const uint32_t *offset, size_t n, const struct qn_choice_planes *planes);

#endif
