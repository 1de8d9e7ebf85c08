/* SPDX-License-Identifier: Apache-2.0 */
/* Clicks sampled against the closed forms. Every instruction set gives the same bytes. */
#include "pulses_support.h"

/* ---- Sampling ---- */

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

Test(detect, agrees_with_the_closed_forms) {
    struct qn_receiver unlike = bright;
    struct qn_source eight = source_of(8);
    struct qn_receiver faint = quiet;
    faint.transmittance = 1e-5;
    struct qn_optics optics = optics_of(yuan, quiet, (struct qn_attack){0});
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
        struct qn_receiver receiver = quiet;
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
    struct qn_receiver receiver = quiet;
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
    struct qn_receiver receiver = i % 2 ? quiet : bright;
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
    struct qn_receiver receiver = quiet;
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
