/* SPDX-License-Identifier: Apache-2.0 */
/* Pulses with decoys: the stream of choices, the chances of outcomes against a simulation photon by photon, sampling
 * against the closed forms, attacks against what they are known to do. Every instruction set gives the same bytes.
 * Random tests are bounded at five standard deviations; their seed is SEED. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/rng.h"
#include "link/detect.h"
#include "link/fast.h"
#include "link/observe.h"
#include "link/wcp.h"

#define SEED 11
static const uint8_t key[32] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2, 6, 4};

static void near(const char *what, double actual, double expected, double margin) {
    cr_assert(fabs(actual - expected) <= margin, "%s is %.10g, not within %g of %.10g (seed %d)", what, actual, margin,
              expected, SEED);
}

/* `hits` of `n`, each with chance p. */
static void within(const char *what, double hits, double n, double p) {
    double sigma = sqrt(n * p * (1 - p));
    cr_assert(fabs(hits - n * p) <= 5 * sigma + 1, "%s: %g of %g, expected %g +- %g (seed %d)", what, hits, n, n * p,
              sigma, SEED);
}

/* ---- AES ---- */

/* NIST SP 800-38A, F.1.1, and the last round key of FIPS 197, A.1. */
Test(aes, matches_the_standard) {
    static const uint8_t secret[16] = {0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6,
                                       0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf, 0x4f, 0x3c};
    static const uint8_t last[16] = {0xd0, 0x14, 0xf9, 0xa8, 0xc9, 0xee, 0x25, 0x89,
                                     0xe1, 0x3f, 0x0c, 0xc8, 0xb6, 0x63, 0x0c, 0xa6};
    static const struct {
        uint64_t low, high;
        uint32_t words[4];
    } vectors[] = {
        {0x11e45ca3461cc830, 0xef520a1a19c1fbe5, {0x7fcdb143, 0x23ce8e59, 0xe3001b88, 0x880603ed}},
        {0x179b4fdf45249ff6, 0x10376ce67b412bad, {0x5e780c7b, 0x3fade827, 0x71202382, 0xd45d7204}},
    };
    struct qn_aes aes;
    qn_aes_init(&aes, secret);
    cr_assert_eq(memcmp(aes.round_key[10], last, 16), 0);
    for (size_t i = 0; qn_aes_set_at(i) != NULL; i++)
        for (size_t v = 0; v < 2; v++) {
            static const uint32_t offset[4] = {0, 1, 2, 3};
            uint32_t words[4];
            qn_aes_set_at(i)->words(&aes, vectors[v].high, vectors[v].low * 4, offset, 4, words);
            cr_assert_eq(memcmp(words, vectors[v].words, sizeof words), 0, "%s", qn_aes_set_at(i)->name);
        }
}

Test(aes, is_the_same_by_every_instruction_set) {
    struct qn_aes aes;
    struct qn_rng rng;
    qn_rng_init(&rng, SEED, "aes", 0);
    for (size_t n = 0; n < 80; n++) {
        uint64_t first = qn_rng_u64(&rng) >> (1 + qn_rng_below(&rng, 60)), nonce = qn_rng_u64(&rng);
        uint32_t offset[80], words[80], other[81];
        uint8_t secret[16];
        for (size_t i = 0; i < 16; i++) secret[i] = (uint8_t)qn_rng_u64(&rng);
        for (size_t i = 0; i < n; i++)
            offset[i] =
                i % 7 == 0 ? UINT32_MAX - (uint32_t)i % 4 : (uint32_t)(qn_rng_u64(&rng) >> qn_rng_below(&rng, 60));
        qn_aes_init(&aes, secret);
        qn_aes_set_at(0)->words(&aes, nonce, first, offset, n, words);
        for (size_t s = 1; qn_aes_set_at(s) != NULL; s++) {
            other[n] = 0xdeadbeef;
            qn_aes_set_at(s)->words(&aes, nonce, first, offset, n, other);
            cr_assert_eq(memcmp(words, other, n * sizeof *words), 0, "%s, %zu words", qn_aes_set_at(s)->name, n);
            cr_assert_eq(other[n], 0xdeadbeef);
        }
    }
}

/* ---- Choices ---- */

static struct qn_source source_of(unsigned n) {
    struct qn_source source = {.n = n, .test_basis = 0.2};
    for (unsigned k = 0; k < n; k++) {
        source.mean[k] = 0.9 / (1 + k);
        source.probability[k] = (k == 0 ? 1 - (n - 1) * 0.1 : 0.1);
    }
    cr_assert_eq(qn_source_settle(&source), 0);
    return source;
}

Test(source, rounds_to_what_32_bits_can_say) {
    struct qn_source source = {.n = 3, .mean = {0.5, 0.1, 0}, .probability = {0.7, 0.29999, 1e-9}, .test_basis = 0.1};
    cr_assert_eq(qn_source_settle(&source), 0);
    double sum = 0;
    for (unsigned k = 0; k < 3; k++) sum += source.probability[k];
    cr_assert_eq(sum, 1);
    cr_assert_eq(source.probability[2], 1.0 / 65536);
    near("probability", source.probability[1], 0.29999, 1.0 / 65536);
    near("basis", source.test_basis, 0.1, 1.0 / 32768);
    struct qn_source again = source;
    cr_assert_eq(qn_source_settle(&again), 0);
    cr_assert_eq(memcmp(&again, &source, sizeof source), 0);
}

Test(source, refuses_what_makes_no_sense) {
    const struct qn_source good = {.n = 2, .mean = {0.5, 0.1}, .probability = {0.5, 0.5}, .test_basis = 0.5};
    struct qn_source bad[9];
    for (size_t i = 0; i < 9; i++) bad[i] = good;
    bad[0].n = 0;
    bad[1].n = 9;
    bad[2].probability[0] = 0.6;
    bad[3].probability[1] = 0;
    bad[4].mean[0] = -1;
    bad[5].mean[1] = NAN;
    bad[6].test_basis = 1.1;
    bad[7].emission = QN_EMIT_SINGLE;
    bad[7].mean[0] = 2;
    bad[8].emission = QN_EMIT_HERALDED; /* Without a herald. */
    for (size_t i = 0; i < 9; i++) {
        struct qn_source before = bad[i];
        cr_assert_eq(qn_source_settle(&bad[i]), -QN_EINVAL, "%zu", i);
        cr_assert_eq(memcmp(&before, &bad[i], sizeof before), 0);
    }
}

Test(source, planes_are_the_choices) {
    enum { N = 1100 };
    struct qn_stream stream;
    qn_stream_init(&stream, key);
    struct qn_rng rng;
    qn_rng_init(&rng, SEED, "planes", 0);
    uint32_t offset[N];
    for (size_t i = 0; i < N; i++) offset[i] = (uint32_t)qn_rng_u64(&rng); /* In any order. */
    for (unsigned n = 1; n <= QN_INTENSITIES_MAX; n++) {
        struct qn_source source = source_of(n);
        size_t len = n == 1 ? 0 : n == 2 ? 64 : n == 3 ? N : 1 + qn_rng_below(&rng, N);
        uint64_t first = UINT64_C(1) << 40, plane[5][N / 64 + 2];
        memset(plane, 0xa5, sizeof plane);
        const struct qn_choice_planes planes = {plane[0], plane[1], {plane[2], plane[3], plane[4]}};
        qn_choices_at(&stream, &source, first, offset, len, &planes);
        for (size_t i = 0; i < len; i++) {
            struct qn_choice choice = qn_choice_at(&stream, &source, first + offset[i]);
            unsigned intensity = 0;
            for (unsigned b = 0; b < 3 && n > 1u << b; b++) intensity |= (plane[2 + b][i / 64] >> (i % 64) & 1) << b;
            cr_assert_eq(plane[0][i / 64] >> (i % 64) & 1, choice.bit);
            cr_assert_eq(plane[1][i / 64] >> (i % 64) & 1, choice.basis);
            cr_assert_eq(intensity, choice.intensity);
            cr_assert_lt(choice.intensity, n);
        }
        size_t words = (len + 63) / 64;
        for (unsigned p = 0; p < 2; p++) {
            if (len % 64 != 0) cr_assert_eq(plane[p][words - 1] >> (len % 64), 0u);
            cr_assert_eq(plane[p][words], 0xa5a5a5a5a5a5a5a5u);
        }
    }
}

Test(source, chooses_as_often_as_it_says) {
    enum { N = 200000 };
    struct qn_source source = {.n = 3, .mean = {0.5, 0.1, 0}, .probability = {0.7, 0.25, 0.05}, .test_basis = 0.1};
    cr_assert_eq(qn_source_settle(&source), 0);
    struct qn_stream stream;
    qn_stream_init(&stream, key);
    double count[3][2][2] = {{{0}}};
    static uint32_t offset[N];
    static uint64_t plane[4][N / 64];
    for (uint32_t i = 0; i < N; i++) offset[i] = i;
    const struct qn_choice_planes planes = {plane[0], plane[1], {plane[2], plane[3], NULL}};
    qn_choices_at(&stream, &source, 0, offset, N, &planes);
    for (size_t i = 0; i < N; i++) {
        unsigned bit[4];
        for (unsigned p = 0; p < 4; p++) bit[p] = plane[p][i / 64] >> (i % 64) & 1;
        count[bit[2] | bit[3] << 1][bit[1]][bit[0]]++;
    }
    for (unsigned i = 0; i < 12; i++) {
        double basis = i >> 1 & 1 ? source.test_basis : 1 - source.test_basis;
        within("choice", count[i >> 2][i >> 1 & 1][i & 1], N, source.probability[i >> 2] * basis / 2);
    }
}

/* The bytes both ends agree on, in case they run different releases. */
Test(source, stream_is_a_format) {
    struct qn_source source = source_of(4);
    struct qn_stream stream;
    qn_stream_init(&stream, key);
    uint64_t sum = 0;
    for (uint64_t i = 0; i < 64; i++) {
        struct qn_choice choice = qn_choice_at(&stream, &source, i * i * i * 1000003);
        sum = sum * 31 + choice.intensity * 4u + choice.basis * 2u + choice.bit;
    }
    cr_assert_eq(sum, UINT64_C(0x51008e0caa334493), "%#lx", sum);
}

/* Photon numbers and their generating function are of one distribution. */
Test(source, photon_numbers_add_up) {
    struct qn_source sources[] = {
        {.emission = QN_EMIT_COHERENT, .n = 1, .mean = {0.6}, .probability = {1}},
        {.emission = QN_EMIT_SINGLE, .n = 1, .mean = {0.7}, .probability = {1}},
        {.emission = QN_EMIT_HERALDED,
         .n = 1,
         .mean = {0.4},
         .probability = {1},
         .herald_efficiency = 0.3,
         .herald_dark = 0.01},
    };
    for (size_t i = 0; i < 3; i++) {
        cr_assert_eq(qn_source_settle(&sources[i]), 0);
        for (double z = 0; z <= 1; z += 0.25) {
            double sum = 0;
            for (unsigned n = 0; n < 80; n++) sum += qn_source_photons(&sources[i], 0, n) * pow(z, n);
            near("generating function", qn_source_generating(&sources[i], 0, z), sum, 1e-12);
        }
    }
    near("multi", qn_source_multi(&sources[0], 0), 1 - exp(-0.6) * 1.6, 1e-14);
    cr_assert_eq(qn_source_multi(&sources[1], 0), 0);
    sources[0].mean[0] = 1e-8;
    near("multi", qn_source_multi(&sources[0], 0) / 0.5e-16, 1, 1e-7);
    struct qn_source pairs = {
        .emission = QN_EMIT_HERALDED, .n = 1, .mean = {0.05}, .probability = {1}, .herald_efficiency = 0.5};
    near("multi", qn_source_multi(&pairs, 0), 0.07029478458049887, 1e-14); /* Sixty times a laser's of that mean. */
    pairs.mean[0] = 0.100001;
    double above = qn_source_multi(&pairs, 0);
    pairs.mean[0] = 0.099999; /* Either way of adding up. */
    near("multi", qn_source_multi(&pairs, 0) / above, 1, 5e-5);
    /* A good herald leaves no vacuum; a faint pump leaves no pairs. */
    struct qn_source ideal = {
        .emission = QN_EMIT_HERALDED, .n = 1, .mean = {1e-4}, .probability = {1}, .herald_efficiency = 1};
    near("vacuum", qn_source_photons(&ideal, 0, 0), 0, 1e-12);
    near("single", qn_source_photons(&ideal, 0, 1), 1, 1.1e-4);
}

/* ---- Photon by photon ---- */

static bool chance(struct qn_rng *rng, double p) { return qn_rng_double(rng) < p; }

static unsigned photons_of(const struct qn_source *source, unsigned intensity, struct qn_rng *rng) {
    double mean = source->mean[intensity];
    if (source->emission == QN_EMIT_SINGLE) return chance(rng, mean);
    if (source->emission == QN_EMIT_COHERENT) return (unsigned)qn_rng_poisson(rng, mean);
    for (;;) { /* Pairs, until the herald clicks. */
        unsigned n = (unsigned)qn_rng_geometric(rng, 1 / (1 + mean)) - 1;
        bool click = chance(rng, source->herald_dark);
        for (unsigned i = 0; i < n; i++) click |= chance(rng, source->herald_efficiency);
        if (click) return n;
    }
}

/* Which detectors see light or a dark count. */
static unsigned look(const struct qn_receiver *r, unsigned photons, double transmittance, const double weaker[2],
                     unsigned basis, unsigned bit, unsigned measured, struct qn_rng *rng) {
    unsigned seen = 0;
    for (unsigned i = 0; i < photons; i++) {
        unsigned to = basis == measured ? bit ^ chance(rng, r->misalignment) : chance(rng, 0.5);
        if (chance(rng, transmittance * r->kept * r->efficiency[to] * weaker[to])) seen |= 1u << to;
    }
    for (unsigned d = 0; d < 2; d++)
        if (chance(rng, r->dark[d])) seen |= 1u << d;
    return seen;
}

/* One pulse through Eve, with her own hands. `shares`: what she lets pass when she splits. */
static unsigned pulse_by_hand(const struct qn_optics *o, const double shares[2], unsigned intensity, unsigned basis,
                              unsigned bit, unsigned measured, struct qn_rng *rng) {
    const struct qn_receiver *r = &o->receiver;
    const struct qn_attack *attack = &o->attack;
    unsigned photons = photons_of(&o->source, intensity, rng);
    double transmittance = r->transmittance, weaker[2] = {1, 1};
    if (attack->kind != QN_ATTACK_NONE && chance(rng, attack->fraction)) switch (attack->kind) {
        case QN_ATTACK_INTERCEPT:
        case QN_ATTACK_INTERCEPT_KEY: {
            unsigned eve = attack->kind == QN_ATTACK_INTERCEPT ? chance(rng, 0.5) : 0;
            if (eve != basis) bit = chance(rng, 0.5);
            basis = eve;
            break;
        }
        case QN_ATTACK_SPLIT:
            transmittance = 1;
            if (photons == 1)
                photons = chance(rng, shares[0]);
            else if (photons > 1)
                photons = chance(rng, shares[1]) ? photons - 1 : 0;
            break;
        case QN_ATTACK_BLIND: {
            double eve_sees = transmittance * r->kept * (r->efficiency[0] + r->efficiency[1]) / 2;
            unsigned eve = chance(rng, 0.5), clicks = 0;
            if (attack->boost) eve_sees = fmin(1, 2 * eve_sees);
            for (unsigned i = 0; i < photons; i++) clicks += chance(rng, eve_sees);
            unsigned reads = eve == basis ? bit : chance(rng, 0.5);
            return clicks > 0 && eve == measured ? 1u << reads : 0;
        }
        case QN_ATTACK_TIME_SHIFT:
            weaker[chance(rng, attack->evenly / 2) ? 0 : 1] = 1 / attack->ratio;
            break;
        case QN_ATTACK_CUT:
            photons = 0;
            break;
        default:
            break;
        }
    return look(r, photons, transmittance, weaker, basis, bit, measured, rng);
}

static const struct qn_receiver bright = {.transmittance = 0.6,
                                          .misalignment = 0.05,
                                          .efficiency = {0.8, 0.6},
                                          .dark = {0.01, 0.03},
                                          .kept = 0.9,
                                          .test_basis = 0.3,
                                          .pixels = 1};

static struct qn_optics optics_of(struct qn_source source, struct qn_receiver receiver, struct qn_attack attack) {
    struct qn_optics optics;
    cr_assert_eq(qn_source_settle(&source), 0);
    cr_assert_eq(qn_optics_init(&optics, &source, &receiver, &attack), 0);
    return optics;
}

Test(optics, agree_with_photons_by_hand) {
    enum { PULSES = 12000 };
    const struct qn_source coherent = {.n = 2, .mean = {1.5, 0.3}, .probability = {0.5, 0.5}, .test_basis = 0.5};
    struct qn_source single = {.emission = QN_EMIT_SINGLE, .n = 1, .mean = {0.9}, .probability = {1}};
    struct qn_source heralded = {.emission = QN_EMIT_HERALDED,
                                 .n = 1,
                                 .mean = {0.8},
                                 .probability = {1},
                                 .herald_efficiency = 0.4,
                                 .herald_dark = 0.01};
    const struct {
        struct qn_source source;
        struct qn_attack attack;
    } cases[] = {
        {coherent, {0}},
        {single, {0}},
        {heralded, {0}},
        {coherent, {.kind = QN_ATTACK_INTERCEPT, .fraction = 0.7}},
        {heralded, {.kind = QN_ATTACK_INTERCEPT_KEY, .fraction = 1}},
        {coherent, {.kind = QN_ATTACK_BLIND, .fraction = 0.8}},
        {single, {.kind = QN_ATTACK_BLIND, .fraction = 1, .boost = true}},
        {coherent, {.kind = QN_ATTACK_TIME_SHIFT, .fraction = 0.9, .ratio = 4, .evenly = 0.5}},
        {coherent, {.kind = QN_ATTACK_BEAM_SPLIT, .fraction = 1}},
        {coherent, {.kind = QN_ATTACK_CUT}},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct qn_optics optics = optics_of(cases[c].source, bright, cases[c].attack);
        const double none[2] = {0};
        struct qn_rng rng;
        qn_rng_init(&rng, SEED, "by hand", c);
        for (unsigned i = 0; i < 8 * optics.source.n; i++) {
            unsigned k = i >> 3, basis = i >> 2 & 1, bit = i >> 1 & 1, measured = i & 1;
            double counts[4] = {0};
            for (int n = 0; n < PULSES; n++) counts[pulse_by_hand(&optics, none, k, basis, bit, measured, &rng)]++;
            for (unsigned o = 0; o < 4; o++)
                within(qn_attack_name(cases[c].attack.kind), counts[o], PULSES,
                       optics.chance[k][basis][bit][measured][o]);
        }
    }
}

/* The shares are the attack's own; its gain says whether they are right. */
Test(optics, splitting_keeps_the_gain_of_the_signal) {
    enum { PULSES = 12000 };
    const struct qn_source source = {.n = 2, .mean = {1.5, 0.3}, .probability = {0.5, 0.5}, .test_basis = 0.5};
    static const double links[] = {0.3, 0.01};
    for (size_t l = 0; l < 2; l++) {
        struct qn_receiver receiver = bright;
        receiver.transmittance = links[l];
        receiver.efficiency[1] = receiver.efficiency[0];
        receiver.dark[0] = receiver.dark[1] = 1e-4;
        struct qn_optics honest = optics_of(source, receiver, (struct qn_attack){0});
        struct qn_optics split =
            optics_of(source, receiver, (struct qn_attack){.kind = QN_ATTACK_SPLIT, .fraction = 1});
        struct qn_expected before, after;
        qn_expect(&honest, &before);
        qn_expect(&split, &after);
        near("gain of the signal", after.gain[0][0], before.gain[0][0], 1e-9);
        near("error of the signal", after.error[0][0] / after.gain[0][0], before.error[0][0] / before.gain[0][0], 0.02);
        cr_assert_lt(after.gain[0][1], 0.95 * before.gain[0][1]);
        /* By hand, with the share that gives the same gain: found by trying. */
        double shares[2] = {0, 0}, step = 0.25;
        struct qn_rng rng;
        qn_rng_init(&rng, SEED, "split", l);
        double total = 1;
        for (int i = 0; i < 40; i++, step /= 2) {
            shares[1] = fmin(total, 1);
            shares[0] = fmax(total - 1, 0);
            double gain = 0;
            for (unsigned n = 0; n < 30; n++) {
                double p = qn_source_photons(&honest.source, 0, n), passes = n == 1 ? shares[0] : shares[1];
                double y = receiver.kept * receiver.efficiency[0];
                gain += p * (n == 0 ? 0 : n == 1 ? passes * y : passes * (1 - pow(1 - y, n - 1)));
            }
            double dark = 1 - (1 - receiver.dark[0]) * (1 - receiver.dark[1]);
            total += gain + dark - gain * dark < before.gain[0][0] ? 2 * step : -2 * step;
        }
        for (unsigned k = 0; k < 2; k++) {
            double counts[4] = {0};
            for (int n = 0; n < PULSES; n++) counts[pulse_by_hand(&split, shares, k, 0, 1, 0, &rng)]++;
            for (unsigned o = 0; o < 4; o++) within("split", counts[o], PULSES, split.chance[k][0][1][0][o]);
        }
    }
}

/* ---- Sampling ---- */

static struct qn_detections room(size_t cap) {
    struct qn_detections out = {.cap = cap};
    out.offset = calloc(cap, sizeof *out.offset);
    out.basis = calloc(cap / 64, sizeof *out.basis);
    out.bit = calloc(cap / 64, sizeof *out.bit);
    cr_assert(out.offset != NULL && out.basis != NULL && out.bit != NULL);
    return out;
}

static void room_free(struct qn_detections *out) {
    free(out->offset);
    free(out->basis);
    free(out->bit);
}

static void count(const struct qn_optics *optics, const struct qn_detections *out, double pulses,
                  struct qn_observed *ret) {
    struct qn_stream stream;
    qn_stream_init(&stream, key);
    size_t words = (out->len + 63) / 64;
    uint64_t *plane = calloc(5 * words + 1, sizeof *plane);
    const struct qn_choice_planes planes = {
        plane, plane + words, {plane + 2 * words, plane + 3 * words, plane + 4 * words}};
    qn_choices_at(&stream, &optics->source, 0, out->offset, out->len, &planes);
    ret->pulses += pulses;
    for (size_t i = 0; i < out->len; i++) {
        size_t w = i / 64, b = i % 64;
        cr_assert(i == 0 || out->offset[i] > out->offset[i - 1]);
        unsigned basis = out->basis[w] >> b & 1, bit = out->bit[w] >> b & 1, k = 0;
        for (unsigned p = 0; p < 3 && optics->source.n > 1u << p; p++)
            k |= (unsigned)(planes.intensity[p][w] >> b & 1) << p;
        ret->clicks[basis]++;
        ret->ones[basis] += bit;
        if ((planes.basis[w] >> b & 1) != basis) continue;
        ret->n[basis][k]++;
        ret->m[basis][k] += (planes.bit[w] >> b & 1) != bit;
    }
    for (unsigned basis = 0; basis < 2; basis++) ret->doubles[basis] += out->doubles[basis];
    free(plane);
}

/* Nothing that can be counted differs from the closed form. Returns the largest deviation that is left aside. */
static double expect_agreement(const char *name, const struct qn_optics *optics, uint64_t pulses,
                               double doubles_slack) {
    struct qn_detections out = room(qn_detections_bound(optics, pulses));
    struct qn_detector *detector = qn_detector_new();
    struct qn_observed observed = {0};
    struct qn_expected expected;
    for (uint64_t train = 0; train < 2; train++) {
        uint64_t next = 0;
        out.len = 0;
        out.doubles[0] = out.doubles[1] = 0;
        qn_detector_start(detector, optics, key, SEED, train);
        qn_detector_run(detector, 0, &next, pulses, &out);
        cr_assert_eq(next, pulses, "%s stopped", name);
        count(optics, &out, (double)pulses, &observed);
    }
    qn_expect(optics, &expected);
    struct qn_deviation deviations[QN_DEVIATIONS_MAX];
    size_t n = qn_deviations(&expected, &observed, (const bool[2]){true, true}, 0, deviations);
    cr_assert_gt(n, 4u);
    double aside = 0;
    for (size_t i = 0; i < n; i++) {
        const struct qn_deviation *d = &deviations[i];
        bool is_rough = strcmp(d->name, "doubles") == 0 && fabs(d->observed / d->expected - 1) < doubles_slack;
        if (is_rough) aside = fmax(aside, fabs(d->z));
        cr_assert(is_rough || fabs(d->z) < 5, "%s: %s of basis %u, intensity %u is %g, expected %g +- %g (seed %d)",
                  name, d->name, d->basis, d->intensity, d->observed, d->expected, d->sigma, SEED);
    }
    qn_detector_free(detector);
    room_free(&out);
    return aside;
}

static const struct qn_source yuan = {
    .n = 2, .mean = {0.357, 0.084}, .probability = {0.759, 0.241}, .test_basis = 0.098};
static const struct qn_source lim = {
    .n = 3, .mean = {0.43, 0.2, 2e-4}, .probability = {0.4, 0.4, 0.2}, .test_basis = 0.25};
static const struct qn_receiver good = {.transmittance = 0.277,
                                        .misalignment = 0.03,
                                        .efficiency = {1, 1},
                                        .dark = {1e-6, 1e-6},
                                        .kept = 1,
                                        .test_basis = 0.098,
                                        .pixels = 1};

#define MANY 2000000

Test(detect, agrees_with_the_closed_forms) {
    struct qn_receiver unlike = bright;
    struct qn_source eight = source_of(8);
    struct qn_receiver faint = good;
    faint.transmittance = 1e-5;
    struct qn_optics optics = optics_of(yuan, good, (struct qn_attack){0});
    expect_agreement("yuan", &optics, MANY, 0);
    optics = optics_of(lim, unlike, (struct qn_attack){0});
    expect_agreement("unlike detectors", &optics, MANY / 10, 0);
    optics = optics_of(eight, unlike, (struct qn_attack){0});
    expect_agreement("eight intensities", &optics, MANY / 10, 0);
    optics = optics_of(yuan, faint, (struct qn_attack){0});
    expect_agreement("faint", &optics, UINT64_C(1) << 32, 0);
    for (int kind = QN_ATTACK_INTERCEPT; kind <= QN_ATTACK_CUT; kind++) {
        struct qn_attack attack = {.kind = (enum qn_attack_kind)kind, .fraction = 0.6, .ratio = 3, .evenly = 0.4};
        optics = optics_of(lim, bright, attack);
        expect_agreement(qn_attack_name(attack.kind), &optics, MANY / 20, 0);
    }
}

/* Dead time and afterpulses, in all combinations. Whether both detectors see at once is approximate: see observe.c. */
Test(detect, agrees_with_renewal_theory) {
    static const struct {
        uint32_t dead, pixels;
        double afterpulse;
        enum qn_dead_scope scope;
        double slack, transmittance;
    } cases[] = {
        {0, 1, 0.3, QN_DEAD_PIXEL, 0, 1},        {2, 1, 0.3, QN_DEAD_RECEIVER, 0, 1},
        {0, 1, 0.1, QN_DEAD_PIXEL, 0, 0.277},    {20, 1, 0, QN_DEAD_PIXEL, 0.1, 0.277},
        {20, 8, 0, QN_DEAD_PIXEL, 0.1, 0.277},   {3, 2, 0.05, QN_DEAD_PIXEL, 0.1, 0.277},
        {20, 8, 0.3, QN_DEAD_PIXEL, 0.1, 0.277}, {5, 64, 0.02, QN_DEAD_PIXEL, 0.1, 0.277},
        {20, 1, 0, QN_DEAD_RECEIVER, 0, 0.277},  {7, 1, 0.1, QN_DEAD_RECEIVER, 0, 0.277},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct qn_receiver receiver = good;
        char name[64];
        receiver.dead_pulses = cases[c].dead;
        receiver.pixels = cases[c].pixels;
        receiver.afterpulse = cases[c].afterpulse;
        receiver.dead_scope = cases[c].scope;
        receiver.efficiency[1] = 0.7;
        receiver.transmittance = cases[c].transmittance;
        snprintf(name, sizeof name, "dead %u, %u pixels, afterpulse %g", cases[c].dead, cases[c].pixels,
                 cases[c].afterpulse);
        struct qn_optics optics = optics_of(yuan, receiver, (struct qn_attack){0});
        expect_agreement(name, &optics, MANY / 2, cases[c].slack);
    }
}

/* No two clicks of a receiver closer than its dead time, and some as close. */
Test(detect, dead_time_keeps_clicks_apart) {
    struct qn_receiver receiver = good;
    receiver.dead_pulses = 9;
    receiver.dead_scope = QN_DEAD_RECEIVER;
    struct qn_optics optics = optics_of(yuan, receiver, (struct qn_attack){0});
    struct qn_detections out = room(qn_detections_bound(&optics, MANY / 10));
    struct qn_detector *detector = qn_detector_new();
    uint64_t next = 0;
    uint32_t least = UINT32_MAX;
    qn_detector_start(detector, &optics, key, SEED, 0);
    qn_detector_run(detector, 0, &next, MANY / 10, &out);
    for (size_t i = 1; i < out.len; i++)
        if (out.offset[i] - out.offset[i - 1] < least) least = out.offset[i] - out.offset[i - 1];
    cr_assert_eq(least, 10u);
    qn_detector_free(detector);
    room_free(&out);
}

/* Gaps are geometric: the chance of j pulses in between, for every small j and for all the others. */
Test(detect, gaps_are_geometric) {
    struct qn_source source = {.emission = QN_EMIT_SINGLE, .n = 1, .mean = {1}, .probability = {1}, .test_basis = 0.5};
    static const double gains[] = {0.9, 0.2, 0.003, 1, 0.032, 0.03};
    for (size_t g = 0; g < 6; g++) {
        struct qn_receiver receiver = {
            .transmittance = gains[g], .efficiency = {1, 1}, .kept = 1, .test_basis = 0.5, .pixels = 1};
        struct qn_optics optics = optics_of(source, receiver, (struct qn_attack){0});
        uint64_t pulses = (uint64_t)(300000 / gains[g]), next = 0;
        struct qn_detections out = room(qn_detections_bound(&optics, pulses));
        struct qn_detector *detector = qn_detector_new();
        double counts[33] = {0}, gain = gains[g];
        qn_detector_start(detector, &optics, key, SEED, g);
        qn_detector_run(detector, 0, &next, pulses, &out);
        uint32_t unit = gain < 0.01 ? 32 : 1; /* Gaps in units, for rare clicks. */
        for (size_t i = 1; i < out.len; i++) {
            uint32_t gap = (out.offset[i] - out.offset[i - 1] - 1) / unit;
            counts[gap < 32 ? gap : 32]++;
        }
        double rest = 1, none = pow(1 - gain, unit);
        for (unsigned j = 0; j < 32; j++, rest *= none)
            within("gap", counts[j], (double)out.len - 1, rest * (1 - none));
        within("long gap", counts[32], (double)out.len - 1, rest);
        qn_detector_free(detector);
        room_free(&out);
    }
}

/* ---- The same bytes ---- */

static uint64_t sum_of(const struct qn_detections *out) {
    uint64_t sum = out->len + 7 * out->doubles[0] + 11 * out->doubles[1];
    for (size_t i = 0; i < out->len; i++) {
        uint64_t bits = (out->basis[i / 64] >> (i % 64) & 1) * 2 + (out->bit[i / 64] >> (i % 64) & 1);
        sum = (sum ^ (out->offset[i] * 4u + bits)) * UINT64_C(0x100000001b3);
    }
    return sum;
}

static struct qn_optics optics_number(unsigned i) {
    struct qn_receiver receiver = i % 2 ? good : bright;
    if (i >= 2) {
        receiver.dead_pulses = 5;
        receiver.pixels = 4;
        receiver.afterpulse = 0.05;
    }
    return optics_of(i % 2 ? yuan : lim, receiver, (struct qn_attack){0});
}

Test(detect, gives_the_same_bytes_by_every_instruction_set) {
    static const uint64_t sums[] = {UINT64_C(0x1dbda7f8e5058391), UINT64_C(0xfc571eca8f608614),
                                    UINT64_C(0xcc76ffef565ecd49), UINT64_C(0x8721cca626e160e6)};
    for (unsigned i = 0; i < 4; i++) {
        struct qn_optics optics = optics_number(i);
        struct qn_detections out = room(qn_detections_bound(&optics, 60000));
        struct qn_detector *detector = qn_detector_new();
        for (size_t s = 0; fast_set_at(s) != NULL; s++)
            for (size_t a = 0; qn_aes_set_at(a) != NULL; a++) {
                uint64_t next = 1000;
                out.len = 0;
                out.doubles[0] = out.doubles[1] = 0;
                qn_detector_start(detector, &optics, key, SEED, i);
                fast_detector_use(detector, fast_set_at(s), qn_aes_set_at(a));
                qn_detector_run(detector, 1000, &next, 60000, &out);
                cr_assert_eq(sum_of(&out), sums[i], "%u by %s and %s: %#lx, %zu clicks", i, fast_set_at(s)->name,
                             qn_aes_set_at(a)->name, sum_of(&out), out.len);
            }
        qn_detector_free(detector);
        room_free(&out);
    }
}

/* The parts of a set, where whole trains would not come across everything. */

Test(fast, chances_are_no_less_than_wanted) {
    struct fast_chance chance;
    for (double p = 1.0 / 32; p < 1; p *= 1.01) {
        fast_chance_init(&chance, p);
        double is = chance.numerator / (double)(1u << chance.bits);
        cr_assert(is >= p && is <= 1 && is < p + 0.02, "%g is %g", p, is);
    }
    for (unsigned i = 0; i < 3; i++) { /* Whatever the last bit is. */
        fast_chance_init(&chance, 0.25 + 1e-16 * i);
        cr_assert(chance.numerator == 1 && chance.bits == 2);
    }
    fast_chance_init(&chance, 1);
    cr_assert(chance.numerator == 1 && chance.bits == 0);
}

Test(fast, masks_and_places_are_the_same_by_every_set) {
    enum { WORDS = 64 };
    static const double chances[] = {1, 0.97, 0.7, 0.4, 0.09, 0.04};
    for (size_t c = 0; c < sizeof chances / sizeof *chances; c++)
        for (size_t s = 0; fast_set_at(s) != NULL; s++) {
            const struct fast_set *sets[] = {fast_set_at(0), fast_set_at(s)};
            uint64_t mask[2][WORDS];
            static uint32_t place[2][64 * WORDS + FAST_SLACK];
            struct fast_chance chance;
            fast_chance_init(&chance, chances[c]);
            for (size_t cap = 0; cap <= 64 * WORDS; cap += 500) {
                size_t words[2] = {WORDS, WORDS}, n[2], ones = 0;
                for (int i = 0; i < 2; i++) {
                    struct fast_rng rng;
                    fast_rng_init(&rng, "masks", SEED, c);
                    sets[i]->masks(&rng, &chance, mask[i], WORDS);
                    n[i] = sets[i]->ones(mask[i], &words[i], 4000000000u, cap, place[i]);
                }
                cr_assert_eq(memcmp(mask[0], mask[1], sizeof mask[0]), 0, "%s", sets[1]->name);
                cr_assert(n[0] == n[1] && words[0] == words[1] && n[0] <= cap, "%s", sets[1]->name);
                cr_assert_eq(memcmp(place[0], place[1], n[0] * sizeof *place[0]), 0, "%s", sets[1]->name);
                for (size_t i = 0; i < words[0] * 64; i++) {
                    if (!(mask[0][i / 64] >> (i % 64) & 1)) continue;
                    cr_assert_eq(place[0][ones++], 4000000000u + (uint32_t)i);
                }
                cr_assert_eq(ones, n[0]);
                cr_assert(words[0] == WORDS || n[0] + 64 > cap);
            }
        }
}

/* With ties, which are rare otherwise. */
Test(fast, keeping_is_the_same_by_every_set) {
    struct qn_rng rng;
    qn_rng_init(&rng, SEED, "keep", 0);
    for (size_t round = 0; round < 300; round++) {
        struct qn_source source = source_of(1 + (unsigned)round % QN_INTENSITIES_MAX);
        if (round % 10 == 8) source.test_below = 0;
        if (round % 10 == 9) source.test_below = 32768;
        struct fast_outcomes outcomes;
        size_t n = round < 100 ? round : 1 + qn_rng_below(&rng, FAST_BATCH);
        static uint32_t place[FAST_BATCH + FAST_SLACK], word[FAST_BATCH + FAST_SLACK];
        static uint32_t kept[2][FAST_BATCH + FAST_SLACK];
        static uint64_t draw[FAST_BATCH / 4], coin[FAST_BATCH / 64];
        unsigned bound[FAST_COLUMNS]; /* The same for all choices, so that it is easy to meet. */
        for (size_t c = 0; c < FAST_COLUMNS; c++) bound[c] = (unsigned)qn_rng_below(&rng, 1 << FAST_COLUMN_BITS) * 8;
        for (size_t i = 0; i < FAST_CHOICES; i++)
            for (size_t c = 0; c < FAST_COLUMNS; c++) {
                outcomes.entry[i][c] = (uint16_t)(bound[c] + qn_rng_below(&rng, 8));
                outcomes.rest[i][c] = qn_rng_u64(&rng);
            }
        for (size_t i = 0; i < FAST_BATCH / 64; i++) coin[i] = qn_rng_u64(&rng);
        memset(draw, 0, sizeof draw);
        for (size_t i = 0; i < FAST_BATCH; i++) {
            uint64_t one = qn_rng_u64(&rng) & 0xffff;
            place[i] = (uint32_t)qn_rng_u64(&rng);
            word[i] = (uint32_t)qn_rng_u64(&rng);
            if (qn_rng_below(&rng, 3) == 0) one = bound[one % 8] + one % 8;
            draw[i / 4] |= one << (16 * (i % 4));
        }
        for (size_t s = 1; fast_set_at(s) != NULL; s++) {
            const struct fast_set *sets[] = {fast_set_at(0), fast_set_at(s)};
            struct fast_clicks clicks[2];
            struct qn_rng ties[2];
            for (int i = 0; i < 2; i++) {
                qn_rng_init(&ties[i], SEED, "ties", round);
                memset(&clicks[i], 0xa5, sizeof clicks[i]);
                sets[i]->keep(&source, &outcomes, place, word, draw, coin, n, &ties[i], kept[i], &clicks[i]);
            }
            size_t words = (clicks[0].n + 63) / 64 * sizeof(uint64_t);
            cr_assert_eq(clicks[0].n, clicks[1].n, "%s", sets[1]->name);
            cr_assert_eq(memcmp(kept[0], kept[1], clicks[0].n * sizeof *kept[0]), 0, "%s", sets[1]->name);
            cr_assert_eq(memcmp(clicks[0].basis, clicks[1].basis, words), 0, "%s", sets[1]->name);
            cr_assert_eq(memcmp(clicks[0].bit, clicks[1].bit, words), 0, "%s", sets[1]->name);
            cr_assert_eq(memcmp(clicks[0].both, clicks[1].both, words), 0, "%s", sets[1]->name);
            cr_assert_eq(memcmp(clicks[0].doubles, clicks[1].doubles, sizeof clicks[0].doubles), 0);
            cr_assert_eq(qn_rng_u64(&ties[0]), qn_rng_u64(&ties[1]), "%s", sets[1]->name);
        }
    }
}

Test(fast, planes_are_the_same_by_every_set) {
    struct qn_rng rng;
    qn_rng_init(&rng, SEED, "planes of sets", 0);
    for (unsigned n = 1; n <= QN_INTENSITIES_MAX; n++)
        for (int32_t below = -1; below < 3; below++) {
            struct qn_source source = source_of(n);
            uint32_t word[64];
            uint64_t plain[FAST_PLANES], other[FAST_PLANES];
            if (below >= 0) source.test_below = (uint16_t)(16384 * below);
            for (size_t i = 0; i < 64; i++) word[i] = (uint32_t)qn_rng_u64(&rng);
            for (unsigned k = 1; k < n; k++) word[k] = (uint32_t)source.above[k] << 16; /* Just so. */
            word[20] = 2u * source.test_below - (source.test_below > 0);
            word[21] = 2u * source.test_below % 65536;
            fast_set_at(0)->planes(&source, word, plain);
            for (size_t s = 1; fast_set_at(s) != NULL; s++) {
                fast_set_at(s)->planes(&source, word, other);
                cr_assert_eq(memcmp(plain, other, sizeof plain), 0, "%s, %u intensities", fast_set_at(s)->name, n);
            }
        }
}

/* However little room there is. */
Test(detect, goes_on_where_it_stopped) {
    enum { PULSES = 100000 };
    for (unsigned i = 0; i < 4; i++) {
        struct qn_optics optics = optics_number(i);
        struct qn_detections all = room(qn_detections_bound(&optics, PULSES)),
                             some = room(i < 2 ? QN_DETECT_BATCH : 64);
        struct qn_detector *detector = qn_detector_new();
        uint64_t next = 0;
        size_t seen = 0, parts = 0;
        qn_detector_start(detector, &optics, key, SEED, i);
        qn_detector_run(detector, 0, &next, PULSES, &all);
        qn_detector_start(detector, &optics, key, SEED, i);
        for (next = 0; next < PULSES; parts++) {
            some.len = 0;
            qn_detector_run(detector, 0, &next, PULSES, &some);
            for (size_t j = 0; j < some.len; j++, seen++) {
                cr_assert_eq(some.offset[j], all.offset[seen]);
                cr_assert_eq(some.basis[j / 64] >> (j % 64) & 1, all.basis[seen / 64] >> (seen % 64) & 1);
                cr_assert_eq(some.bit[j / 64] >> (j % 64) & 1, all.bit[seen / 64] >> (seen % 64) & 1);
            }
            if (some.len % 64 != 0) cr_assert_eq(some.bit[some.len / 64] >> (some.len % 64), 0u);
        }
        cr_assert_eq(seen, all.len);
        cr_assert_gt(parts, 5u);
        cr_assert_eq(some.doubles[0], all.doubles[0]);
        qn_detector_free(detector);
        room_free(&all);
        room_free(&some);
    }
}

Test(detect, nothing_clicks_in_the_dark_without_darks) {
    struct qn_receiver receiver = good;
    receiver.dark[0] = receiver.dark[1] = 0;
    for (int dead = 0; dead < 2; dead++) {
        receiver.dead_pulses = (uint32_t)dead;
        struct qn_optics optics = optics_of(yuan, receiver, (struct qn_attack){.kind = QN_ATTACK_CUT});
        struct qn_detections out = room(QN_DETECT_BATCH);
        struct qn_detector *detector = qn_detector_new();
        uint64_t next = 5;
        qn_detector_start(detector, &optics, key, SEED, 0);
        qn_detector_run(detector, 5, &next, UINT64_C(1) << 32, &out);
        cr_assert_eq(next, UINT64_C(1) << 32);
        cr_assert_eq(out.len, 0u);
        qn_detector_free(detector);
        room_free(&out);
    }
}

/* ---- What attacks are known to do ---- */

static const struct qn_source gys = {.n = 3, .mean = {0.48, 0.1, 0}, .probability = {0.5, 0.3, 0.2}, .test_basis = 0.5};

static struct qn_expected expected_of(struct qn_source source, double km, double misalignment,
                                      struct qn_attack attack) {
    struct qn_receiver receiver = {.transmittance = pow(10, -0.021 * km),
                                   .misalignment = misalignment,
                                   .efficiency = {0.045, 0.045},
                                   .dark = {0.85e-6, 0.85e-6},
                                   .kept = 1,
                                   .test_basis = 0.5,
                                   .pixels = 1};
    struct qn_optics optics = optics_of(source, receiver, attack);
    struct qn_expected expected;
    qn_expect(&optics, &expected);
    return expected;
}

Test(attack, intercepting_adds_the_known_errors) {
    static const struct {
        double fraction, misalignment, error;
    } rows[] = {{1, 0, 0.25},        {1, 0.01, 0.255},   {0.44, 0, 0.11},
                {0.1, 0.01, 0.0345}, {0.2, 0.01, 0.059}, {0.44, 0.01, 0.1178}};
    struct qn_source single = {.emission = QN_EMIT_SINGLE, .n = 1, .mean = {1}, .probability = {1}, .test_basis = 0.5};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct qn_attack attack = {.kind = QN_ATTACK_INTERCEPT, .fraction = rows[i].fraction};
        struct qn_expected e = expected_of(single, 0, rows[i].misalignment, attack);
        near("error", e.error[0][0] / e.gain[0][0], rows[i].error, 1e-4);
        near("error", e.error[1][0] / e.gain[1][0], rows[i].error, 1e-4);
        attack.kind = QN_ATTACK_INTERCEPT_KEY;
        e = expected_of(single, 0, rows[i].misalignment, attack);
        near("error of the key basis", e.error[0][0] / e.gain[0][0], rows[i].misalignment, 1e-4);
        near("error of the test basis", e.error[1][0] / e.gain[1][0],
             rows[i].misalignment + rows[i].fraction * (0.5 - rows[i].misalignment), 1e-4);
    }
}

/* GYS: Q_nu/Q_mu and the bound of Y1 from vacuum and weak decoys, honest and split. */
Test(attack, splitting_shows_in_the_decoys_only) {
    static const struct {
        double km, honest, split, y_honest, y_split;
    } rows[] = {{20, .2092, .1670, 1.66e-2, 1.18e-2},
                {50, .2092, .0501, 3.90e-3, -3.8e-4},
                {100, .2161, .0586, 3.49e-4, -3.2e-5}};
    for (size_t i = 0; i < 3; i++) {
        const struct qn_attack split = {.kind = QN_ATTACK_SPLIT, .fraction = 1};
        struct qn_expected e[2] = {expected_of(gys, rows[i].km, 0.033, (struct qn_attack){0}),
                                   expected_of(gys, rows[i].km, 0.033, split)};
        near("Q_mu", e[1].gain[0][0], e[0].gain[0][0], 1e-9);
        near("honest ratio", e[0].gain[0][1] / e[0].gain[0][0], rows[i].honest, 2e-4);
        near("split ratio", e[1].gain[0][1] / e[1].gain[0][0], rows[i].split, 2e-4);
        near("error", e[1].error[0][0] / e[1].gain[0][0], e[0].error[0][0] / e[0].gain[0][0], 1e-3);
        for (int a = 0; a < 2; a++) {
            double yield, qber, wanted = a == 0 ? rows[i].y_honest : rows[i].y_split;
            qn_wcp_decoy_bounds(0.48, e[a].gain[0][0], 0.1, e[a].gain[0][1], 0, e[a].gain[0][2], &yield, &qber);
            near("Y1", yield, wanted, 0.02 * fabs(wanted));
        }
    }
}

Test(attack, blinding_leaves_no_darks_errors_or_doubles) {
    struct qn_expected honest = expected_of(gys, 50, 0.033, (struct qn_attack){0});
    struct qn_expected blind = expected_of(gys, 50, 0.033, (struct qn_attack){.kind = QN_ATTACK_BLIND, .fraction = 1});
    struct qn_expected boost =
        expected_of(gys, 50, 0.033, (struct qn_attack){.kind = QN_ATTACK_BLIND, .fraction = 1, .boost = true});
    for (int basis = 0; basis < 2; basis++) {
        near("half the gain", blind.gain[basis][0] / honest.gain[basis][0], 0.5, 0.002);
        near("all the gain", boost.gain[basis][0] / honest.gain[basis][0], 1, 0.002);
        cr_assert_eq(blind.gain[basis][2], 0);
        cr_assert_eq(blind.error[basis][0], 0);
        cr_assert_eq(blind.doubles[basis], 0);
        cr_assert_gt(honest.gain[basis][2], 1e-6);
    }
}

Test(attack, time_shift_unbalances_the_bits) {
    static const double ratios[] = {2, 4, 10};
    struct qn_source single = {.emission = QN_EMIT_SINGLE, .n = 1, .mean = {1}, .probability = {1}, .test_basis = 0.5};
    for (size_t i = 0; i < 3; i++) {
        double r = ratios[i];
        struct qn_attack attack = {.kind = QN_ATTACK_TIME_SHIFT, .fraction = 1, .ratio = r};
        struct qn_expected e = expected_of(single, 0, 0, attack);
        near("share of zeros", 1 - e.ones[0] / e.clicks[0], r / (1 + r), 1e-3);
        near("error", e.error[0][0] / e.gain[0][0], 0, 1e-4);
        attack.evenly = 1;
        e = expected_of(single, 0, 0, attack);
        near("share of zeros", e.ones[0] / e.clicks[0], 0.5, 1e-9);
    }
}

Test(attack, a_cut_leaves_darks_and_beam_splitting_nothing) {
    struct qn_expected honest = expected_of(gys, 50, 0.033, (struct qn_attack){0});
    struct qn_expected cut = expected_of(gys, 50, 0.033, (struct qn_attack){.kind = QN_ATTACK_CUT});
    struct qn_expected tap =
        expected_of(gys, 50, 0.033, (struct qn_attack){.kind = QN_ATTACK_BEAM_SPLIT, .fraction = 1});
    near("gain", cut.gain[0][0], 1.7e-6, 1e-11);
    near("error", cut.error[0][0] / cut.gain[0][0], 0.5, 1e-9);
    cr_assert_eq(memcmp(&tap, &honest, sizeof tap), 0);
}

/* What moved is named, by how many sigma; an honest link gives no cause. */
Test(attack, is_seen_where_it_shows) {
    static const struct {
        struct qn_attack attack;
        const char *first;
    } cases[] = {
        {{.kind = QN_ATTACK_INTERCEPT, .fraction = 0.2}, "qber"},
        {{.kind = QN_ATTACK_SPLIT, .fraction = 1}, "gain"},
        {{.kind = QN_ATTACK_BLIND, .fraction = 1, .boost = true}, "qber"},
        {{.kind = QN_ATTACK_TIME_SHIFT, .fraction = 1, .ratio = 4}, "balance"},
        {{.kind = QN_ATTACK_CUT}, "gain"},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct qn_receiver receiver = good;
        receiver.transmittance = 0.1;
        struct qn_optics honest = optics_of(lim, receiver, (struct qn_attack){0});
        struct qn_optics optics = optics_of(lim, receiver, cases[c].attack);
        struct qn_expected expected;
        struct qn_observed observed = {0};
        struct qn_deviation found[QN_DEVIATIONS_MAX];
        struct qn_detections out = room(qn_detections_bound(&honest, MANY));
        struct qn_detector *detector = qn_detector_new();
        uint64_t next = 0;
        qn_expect(&honest, &expected);
        qn_detector_start(detector, &optics, key, SEED, c);
        qn_detector_run(detector, 0, &next, MANY, &out);
        count(&optics, &out, MANY, &observed);
        size_t n = qn_deviations(&expected, &observed, (const bool[2]){true, true}, 0, found);
        cr_assert_gt(n, 0u);
        bool is_named = false;
        for (size_t i = 0; i < n && fabs(found[i].z) > 8; i++) is_named |= strcmp(found[i].name, cases[c].first) == 0;
        cr_assert(is_named, "%s: most is %s by %g sigma", qn_attack_name(cases[c].attack.kind), found[0].name,
                  found[0].z);
        qn_detector_free(detector);
        room_free(&out);
    }
}

Test(attack, drift_turns_slowly) {
    near("start", qn_misalignment_after(0.01, 1e-3, 0), 0.01, 1e-12);
    near("later", qn_misalignment_after(0.01, 1e-3, 100), pow(sin(asin(0.1) + 0.1), 2), 1e-12);
    near("aligned", qn_misalignment_after(0.01, -1e-3, asin(0.1) * 1e3), 0, 1e-12);
}

/* ---- Decoys without statistics ---- */

/* Gobby, Yuan and Shields' parameters, mu = 0.48; vacuum and weak decoy 0.05. */
Test(wcp, gives_the_table_of_gys) {
    static const struct {
        double km, gain, qber, yield, single_qber, limit, rate;
    } rows[] = {
        {0, 2.1370e-2, .03304, 4.5002e-2, .03302, 2.5546e-3, 2.4142e-3},
        {20, 8.1802e-3, .03310, 1.7110e-2, .03305, 9.6245e-4, 9.0777e-4},
        {40, 3.1190e-3, .03325, 6.5062e-3, .03312, 3.6308e-4, 3.4209e-4},
        {60, 1.1880e-3, .03367, 2.4746e-3, .03332, 1.3607e-4, 1.2806e-4},
        {80, 4.5289e-4, .03475, 9.4188e-4, .03384, 4.9899e-5, 4.6847e-5},
        {100, 1.7326e-4, .03758, 3.5915e-4, .03521, 1.7184e-5, 1.6020e-5},
        {120, 6.6929e-5, .04486, 1.3760e-4, .03877, 4.8146e-6, 4.3686e-6},
        {130, 4.1920e-5, .05194, 8.5494e-5, .04229, 1.9557e-6, 1.6788e-6},
        {140, 2.6500e-5, .06296, 5.3367e-5, .04788, 2.4647e-7, 7.38e-8},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct qn_wcp wcp = {0.045 * pow(10, -0.021 * rows[i].km), 1.7e-6, 0.033};
        double gain = qn_wcp_gain(&wcp, 0.48), qber = qn_wcp_qber(&wcp, 0.48), yield, single;
        near("gain", gain, rows[i].gain, 1e-4 * rows[i].gain);
        near("qber", qber, rows[i].qber, 1e-5);
        near("Y1", qn_wcp_single_yield(&wcp), rows[i].yield, 1e-4 * rows[i].yield);
        near("e1", qn_wcp_single_qber(&wcp), rows[i].single_qber, 1e-5);
        near("R", qn_wcp_key_rate_limit(&wcp, 0.48, 1.22), rows[i].limit, 2e-3 * rows[i].limit);
        qn_wcp_decoy_bounds(0.48, gain, 0.05, qn_wcp_gain(&wcp, 0.05), qn_wcp_qber(&wcp, 0.05), 1.7e-6, &yield,
                            &single);
        near("R with decoys", qn_wcp_key_rate(0.48, gain, qber, yield, single, 1.22), rows[i].rate,
             5e-3 * rows[i].rate);
        /* A second weak decoy of (almost) nothing is vacuum. */
        double two_yield, two_single;
        qn_wcp_two_decoy_bounds(0.48, gain, 0.05, qn_wcp_gain(&wcp, 0.05), qn_wcp_qber(&wcp, 0.05), 1e-9,
                                qn_wcp_gain(&wcp, 1e-9), qn_wcp_qber(&wcp, 1e-9), &two_yield, &two_single);
        near("Y1 from two decoys", two_yield, yield, 1e-5 * yield);
        near("e1 from two decoys", two_single, single, 1e-4);
    }
}

/* How far one decoy without vacuum reaches. */
Test(wcp, one_decoy_reaches_as_far_as_known) {
    static const double decoys[] = {0.02, 0.05, 0.1}, reach[] = {90, 104, 111};
    for (size_t i = 0; i < 3; i++) {
        double km = 50;
        for (; km < 150; km += 0.5) {
            struct qn_wcp wcp = {0.045 * pow(10, -0.021 * km), 1.7e-6, 0.033};
            double gain = qn_wcp_gain(&wcp, 0.48), yield, single, d = decoys[i];
            qn_wcp_one_decoy_bounds(0.48, gain, d, qn_wcp_gain(&wcp, d), qn_wcp_qber(&wcp, d), &yield, &single);
            if (!(qn_wcp_key_rate(0.48, gain, qn_wcp_qber(&wcp, 0.48), yield, single, 1.22) > 0)) break;
        }
        near("reach", km, reach[i], 1);
    }
}
