/* SPDX-License-Identifier: Apache-2.0 */
/* What the two ends of a QKD link must agree on. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "node/bb84.h"

static struct bb84_parameters sample(void) {
    return (struct bb84_parameters){.bound = BB84_BOUND_ONE_DECOY,
                                    .decoy = {.n = 2, .mean = {0.5, 0.15}, .probability = {0.75, 0.25}},
                                    .mean = 0.5,
                                    .test_basis = 0.125,
                                    .clock_hz = 1e9,
                                    .epsilon_secret = 1e-10,
                                    .epsilon_correct = 1e-15,
                                    .authenticated = true};
}

/* What an end with `ours` says of what one with `theirs` sends. */
static const char *difference(const struct bb84_parameters *ours, const struct bb84_parameters *theirs) {
    static char text[400];
    Qnet__V1__QkdParameters message;
    bb84_parameters_pack(theirs, &message);
    cr_assert_eq(bb84_parameters_agree(ours, &message, text, sizeof text), text[0] == '\0');
    return text;
}

Test(parameters, that_agree_are_not_named) {
    struct bb84_parameters ours = sample(), theirs = sample();
    theirs.method = QN_RECONCILE_LDPC; /* Whoever starts chooses. */
    cr_assert_str_eq(difference(&ours, &theirs), "");
}

Test(parameters, each_that_differs_is_named_with_both_values) {
    struct bb84_parameters ours = sample(), theirs = sample();
    theirs.decoy.mean[1] = 0.1;
    theirs.epsilon_secret = 1e-9;
    theirs.authenticated = false;
    cr_assert_str_eq(difference(&ours, &theirs), "intensity 2: 0.15 here, 0.1 there; epsilon of secrecy: 1e-10 here, "
                                                 "1e-09 there; initial secret: present here, missing there");
    theirs = sample();
    theirs.bound = BB84_BOUND_TWO_DECOYS;
    theirs.decoy = (struct qn_decoy){.n = 3, .mean = {0.5, 0.15, 0}, .probability = {0.5, 0.25, 0.25}};
    theirs.clock_hz = 2e9;
    theirs.test_basis = 0.25;
    theirs.epsilon_correct = 1e-12;
    const char *text = difference(&ours, &theirs);
    static const char *const names[] = {"bound: one decoy here, two decoys there",
                                        "intensities: 2 here, 3 there",
                                        "probability of intensity 1: 0.75 here, 0.5 there",
                                        "chance of the test basis: 0.125 here, 0.25 there",
                                        "clock: 1e+09 here",
                                        "epsilon of correctness"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        cr_assert_not_null(strstr(text, names[i]), "%s: %s", names[i], text);
}

Test(parameters, that_the_file_leaves_open_may_be_anything) {
    struct bb84_parameters ours = sample(), theirs = sample();
    ours.open = true;
    theirs.decoy.mean[1] = 0.1;
    theirs.mean = theirs.decoy.mean[0] = 0.6;
    theirs.test_basis = 0.3;
    cr_assert_str_eq(difference(&ours, &theirs), "");
    theirs.decoy.n = 1;
    cr_assert_not_null(strstr(difference(&ours, &theirs), "intensities: 2 here, 1 there"));
}

Test(parameters, more_than_fits_are_cut_off) {
    struct bb84_parameters ours = sample(), theirs = {0};
    Qnet__V1__QkdParameters message;
    char text[40];
    bb84_parameters_pack(&theirs, &message);
    cr_assert_not(bb84_parameters_agree(&ours, &message, text, sizeof text));
    cr_assert_lt(strlen(text), sizeof text);
}

/* ---- what trains that stay different cost ---- */

struct lossy {
    struct session session;
    struct block block;
    uint32_t wrong[25], pieces[25];
};

/* 10^9 pulses, a tenth of the photons detected, 1 % errors. */
static void fill(struct lossy *lossy, enum bb84_bound bound) {
    static const double mean[] = {0.5, 0.15, 0.0002}, probability[] = {0.5, 0.25, 0.25};
    *lossy = (struct lossy){.session = {.parameters = sample()}};
    lossy->session.parameters.bound = bound;
    unsigned n = lossy->session.parameters.decoy.n = bound == BB84_BOUND_ONE_DECOY ? 2 : 3;
    lossy->block = (struct block){
        .session = &lossy->session, .n_trains = 100, .wrong = lossy->wrong, .wrong_pieces = lossy->pieces};
    for (unsigned k = 0; k < n; k++) {
        double clicks = 1e9 * probability[k] * (0.1 * mean[k] + 1e-6);
        lossy->session.parameters.decoy.mean[k] = mean[k];
        lossy->session.parameters.decoy.probability[k] = n == 2 && k == 0 ? 0.75 : probability[k];
        if (n == 2 && k == 0) clicks *= 1.5;
        lossy->block.counts.key_n[k] = (uint64_t)(0.8 * clicks);
        lossy->block.counts.key_m[k] = (uint64_t)(0.008 * clicks);
        lossy->block.counts.test_n[k] = (uint64_t)(0.1 * clicks);
        lossy->block.counts.test_m[k] = (uint64_t)(0.001 * clicks);
    }
}

static const enum bb84_bound bounds[] = {BB84_BOUND_SINGLE, BB84_BOUND_ONE_DECOY, BB84_BOUND_TWO_DECOYS,
                                         BB84_BOUND_PAIRS};
enum { PIECES_COST = 32 * 129 }; /* Hashes, and which of them differ. */

/* As bits told in full; one decoy needs their errors, too, which are taken to be as many as there are bits. */
Test(wrong_trains, cost_all_bits_that_were_dropped) {
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        static struct lossy whole, lossy, told;
        fill(&whole, bounds[i]);
        fill(&lossy, bounds[i]);
        fill(&told, bounds[i]);
        uint64_t lost = 8 * 2500, all = bb84_secret_bits(&whole.block, 1000000);
        cr_assert_gt(all, 2000000, "bound %d: %s", bounds[i], whole.block.detail);
        cr_assert(bb84_wrong_add(&lossy.block, 17, 1));
        cr_assert(bb84_wrong_add(&lossy.block, 3, 1));
        lossy.block.dropped_bits = lost;
        if (bounds[i] == BB84_BOUND_ONE_DECOY)
            for (unsigned k = 0; k < 2; k++) told.block.counts.key_m[k] += lost;
        uint64_t cost = lost + 2 * PIECES_COST, left = bb84_secret_bits(&lossy.block, 1000000);
        cr_assert_eq(left, bb84_secret_bits(&told.block, 1000000 + cost));
        if (bounds[i] == BB84_BOUND_ONE_DECOY)
            cr_assert_lt(lossy.block.bounds.key_s1, whole.block.bounds.key_s1);
        else
            cr_assert_eq(left, all - cost);
        cr_assert_eq(bb84_sum(lossy.block.counts.key_m), bb84_sum(whole.block.counts.key_m), "as they were reported");
    }
}

/* One decoy's bound of the vacuum suffers most. */
Test(wrong_trains, leave_most_of_the_key) {
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        static struct lossy whole, lossy;
        fill(&whole, bounds[i]);
        fill(&lossy, bounds[i]);
        cr_assert(bb84_wrong_add(&lossy.block, 17, 1));
        lossy.block.dropped_bits = bb84_sum(lossy.block.counts.key_n) / 100 / 32;
        double all = (double)bb84_secret_bits(&whole.block, 1000000);
        double left = (double)bb84_secret_bits(&lossy.block, 1000000);
        printf("# %s: %.2f %% of the key lost\n", bb84_bound_name(bounds[i]), 100 * (1 - left / all));
        cr_assert_gt(left, 0.98 * all);
    }
}

/* A bit a train, where any may be wrong. */
Test(wrong_trains, that_any_may_be_is_paid_for) {
    static struct lossy lossy;
    fill(&lossy, BB84_BOUND_TWO_DECOYS);
    lossy.block.n_trains = 3;
    bb84_secret_bits(&lossy.block, 0);
    uint64_t rest = lossy.block.tag_bits - 3 * 128;
    lossy.block.n_trains = 100;
    bb84_secret_bits(&lossy.block, 0);
    cr_assert_eq(lossy.block.tag_bits, rest + 100 * 128 + 100);
}

Test(wrong_trains, are_a_quarter_at_most_and_each_only_once) {
    static struct lossy lossy;
    fill(&lossy, BB84_BOUND_TWO_DECOYS);
    static const uint32_t order[] = {5, 99, 0, 6, 4};
    for (uint32_t i = 0; i < 5; i++) cr_assert(bb84_wrong_add(&lossy.block, order[i], 10 + i));
    static const uint32_t rising[] = {0, 4, 5, 6, 99}, pieces[] = {12, 14, 10, 13, 11};
    cr_assert_eq(memcmp(lossy.wrong, rising, sizeof rising), 0);
    cr_assert_eq(memcmp(lossy.pieces, pieces, sizeof pieces), 0);
    for (size_t i = 0; i < 5; i++) cr_assert_not(bb84_wrong_add(&lossy.block, order[i], 1));
    for (uint32_t train = 10; train < 30; train++) cr_assert(bb84_wrong_add(&lossy.block, train, 1));
    cr_assert_not(bb84_wrong_add(&lossy.block, 50, 1), "25 of 100 are");
    fill(&lossy, BB84_BOUND_TWO_DECOYS);
    lossy.block.n_trains = 3;
    cr_assert_not(bb84_wrong_add(&lossy.block, 0, 1), "of three trains none may be");
}

/* Pieces cover a key of any length once, and only the one that holds a wrong bit has another hash. */
Test(wrong_trains, are_cut_into_pieces) {
    static const uint8_t seed[QN_HASH_SEED_BYTES] = {7, 1};
    struct qn_rng rng;
    qn_rng_init(&rng, 5, "pieces", 0);
    for (size_t len = 0; len < 3000; len += 1 + len / 7) {
        struct qn_bits ours = {0}, theirs = {0};
        uint8_t tags[2][WRONG_PIECES * QN_HASH_BYTES];
        uint64_t dropped = 0;
        for (size_t i = 0; i < len; i++) cr_assert_eq(qn_bits_push(&ours, qn_rng_u64(&rng) & 1), 0);
        cr_assert_eq(qn_bits_copy(&theirs, &ours), 0);
        size_t wrong = len > 0 ? qn_rng_below(&rng, len) : 0;
        if (len > 0) qn_bits_flip(&theirs, wrong);
        cr_assert_eq(bb84_hash_pieces(&ours, seed, tags[0]), 0);
        cr_assert_eq(bb84_hash_pieces(&theirs, seed, tags[1]), 0);
        uint32_t pieces = 0;
        for (unsigned i = 0; i < WRONG_PIECES; i++)
            pieces |= (uint32_t)(memcmp(tags[0] + i * 16, tags[1] + i * 16, 16) != 0) << i;
        cr_assert_eq(__builtin_popcount(pieces), len > 0);
        cr_assert_eq(bb84_drop_pieces(&ours, pieces, &dropped), 0);
        cr_assert_eq(bb84_drop_pieces(&theirs, pieces, &dropped), 0);
        cr_assert(qn_bits_equal(&ours, &theirs), "%zu bits", len);
        cr_assert_eq(ours.len + dropped, len);
        cr_assert_leq(dropped, len / WRONG_PIECES + 1);
        cr_assert_eq(bb84_drop_pieces(&ours, UINT32_MAX, &dropped), 0);
        cr_assert_eq(ours.len, 0);
        qn_bits_release(&ours);
        qn_bits_release(&theirs);
    }
}
