/* SPDX-License-Identifier: Apache-2.0 */
/* What the two ends of a QKD link must agree on. */
#include <criterion/criterion.h>
#include <string.h>

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
