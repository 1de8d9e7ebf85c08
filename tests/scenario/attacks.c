/* SPDX-License-Identifier: Apache-2.0 */
/* Attacks on keys, switched on while the network runs: each shows in the observables that were predicted for it, and in
 * no others, and gives no key where it must not. Figures: see lib/link/attack.h. */
#include <stdio.h>
#include <string.h>

#include "network.h"

#define LINKS "links:\n  qkd: {between: [laser, bob], kind: bb84, "

static const char decoys[] =
    "version: 1\nnetwork: keys\nnodes:\n  laser: {role: source}\n  bob: {role: detector}\n" LINKS
    "length: 10km, preset: yuan2018}\n";
static const char gys_50km[] =
    "version: 1\nnetwork: keys\nnodes:\n  laser: {role: source}\n  bob: {role: detector}\n" LINKS
    "length: 50km, preset: gys}\n";
static const char plain_50km[] = "version: 1\nnetwork: keys\nnodes:\n  laser: {role: source, source: weak-coherent, "
                                 "mean_photons: 0.48, clock: 2MHz}\n"
                                 "  bob: {role: detector, efficiency: 4.5%, dark_rate: 850Hz, gate_window: 1ns}\n" LINKS
                                 "length: 50km, loss: 0.21dB/km, misalignment: 3.3%}\n";

#define PULSES 30000000

struct run {
    struct network *network;
    uint64_t client;
    const Qnet__V1__ControlResponse *response;
    const Qnet__V1__Bb84Block *block; /* The last. */
};

static struct run attacked(const char *yaml, uint64_t seed, const char *attack, double fraction, double ratio,
                           uint64_t pulses, uint32_t blocks) {
    struct run run = {.network = network_new_with_secret(yaml, seed, 0, 4096)};
    network_attack(run.network, "bob", "qkd", attack, fraction, ratio);
    run.client = network_ask_bb84_pulses(run.network, "laser", "bob", blocks, pulses);
    run.response = network_wait(run.network, run.client, 100000);
    for (size_t i = 0; i < run.network->n_answers; i++)
        if (run.network->answers[i].client == run.client &&
            run.network->answers[i].response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_BB84_BLOCK)
            run.block = run.network->answers[i].response->bb84_block;
    cr_assert_not_null(run.block, "%s: %s", attack,
                       run.response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_ERROR ? run.response->error->message
                                                                                         : "no block");
    return run;
}

/* The alarm of that name, or NULL. */
static const Qnet__V1__QkdAlarm *alarm_of(const struct run *run, const char *observable) {
    for (size_t i = 0; i < run->block->account->n_alarms; i++)
        if (strcmp(run->block->account->alarms[i]->observable, observable) == 0) return run->block->account->alarms[i];
    return NULL;
}

static void expect_quiet(const struct run *run, const char *what) {
    cr_assert_eq(run->block->account->n_alarms, 0, "%s: alarm: %s", what,
                 run->block->account->n_alarms > 0 ? run->block->account->alarms[0]->observable : "");
}

static double rate(const struct run *run, bool test_basis, double *ret_sigma) { /* Errors. */
    double n = 0, m = 0;
    for (size_t k = 0; k < run->block->account->n_intensities; k++) {
        const Qnet__V1__Bb84Intensity *at = run->block->account->intensities[k];
        n += (double)(test_basis ? at->test_clicks : at->key_clicks);
        m += (double)(test_basis ? at->test_errors : at->key_errors);
    }
    cr_assert_gt(n, 100);
    *ret_sigma = sqrt((m + 1) * (1 - m / n)) / n;
    return m / n;
}

static void expect_rate(const struct run *run, const char *what, bool test_basis, double expected) {
    double sigma, seen = rate(run, test_basis, &sigma);
    cr_assert(fabs(seen - expected) < 5 * sigma, "%s: %s basis: %.4f wrong, expected %.4f +- %.4f", what,
              test_basis ? "test" : "key", seen, expected, sigma);
}

static void end(struct run *run) { network_free(run->network); }

/* ---- on the pulses ---- */

Test(attacks, interception_shows_in_both_bases) {
    static const double fractions[] = {0, 0.1, 0.2};
    double honest[2] = {0};
    for (int i = 0; i < 3; i++) {
        struct run run = attacked(decoys, 400 + (uint64_t)i, "intercept", fractions[i], 1, PULSES, 1);
        double sigma;
        for (int basis = 0; basis < 2; basis++) {
            if (i == 0) honest[basis] = rate(&run, basis, &sigma);
            if (i == 0) cr_assert(fabs(honest[basis] - 0.03) < 5 * sigma + 0.0005);
            expect_rate(&run, "intercept", basis, 0.03 + fractions[i] * (0.25 - 0.03 / 2));
        }
        if (i == 0)
            expect_quiet(&run, "nobody");
        else
            cr_assert_not_null(alarm_of(&run, "qber"));
        end(&run);
    }
    struct run run = attacked(decoys, 403, "intercept", 0.5, 1, PULSES, 1);
    expect_error(run.response, "qber");
    cr_assert_eq(run.block->secret, 0);
    cr_assert(fabs(run.block->qber - (0.03 + 0.5 * (0.25 - 0.015))) < 0.01);
    cr_assert_not_null(alarm_of(&run, "qber"));
    end(&run);
}

Test(attacks, interception_in_the_key_basis_shows_in_the_other) {
    struct run run = attacked(decoys, 410, "intercept-key", 0.1, 1, PULSES, 1);
    expect_rate(&run, "intercept-key", false, 0.03);
    expect_rate(&run, "intercept-key", true, 0.03 + 0.1 * (0.5 - 0.03));
    cr_assert_not_null(alarm_of(&run, "qber"));
    cr_assert_eq(alarm_of(&run, "qber")->basis, 1);
    end(&run);
    run = attacked(decoys, 411, "intercept-key", 1, 1, PULSES, 1);
    expect_error(run.response, "qber");
    end(&run);
}

Test(attacks, photon_number_splitting_shows_in_the_decoys_only) {
    struct run honest = attacked(gys_50km, 420, "none", 0, 1, 2000000000, 1);
    struct run run = attacked(gys_50km, 421, "photon-number-splitting", 1, 1, 2000000000, 1);
    expect_quiet(&honest, "nobody");
    expect_rate(&run, "photon-number-splitting", true, honest.block->qber);
    const Qnet__V1__Bb84Intensity *signal = run.block->account->intensities[0],
                                  *decoy = run.block->account->intensities[1];
    double ratio = (double)decoy->key_clicks / decoy->probability / ((double)signal->key_clicks / signal->probability);
    cr_assert(fabs(ratio - 0.050) < 0.005, "decoys click %.4f times as often as signals, expected 0.050", ratio);
    signal = honest.block->account->intensities[0];
    decoy = honest.block->account->intensities[1];
    ratio = (double)decoy->key_clicks / decoy->probability / ((double)signal->key_clicks / signal->probability);
    cr_assert(fabs(ratio - 0.209) < 0.005, "honest: %.4f, expected 0.209", ratio);
    cr_assert_eq(run.block->secret, 0);
    cr_assert_not_null(alarm_of(&run, "gain"));
    cr_assert_null(alarm_of(&run, "qber"));
    cr_assert_gt(honest.block->account->single_clicks, 0);
    cr_assert_eq(run.block->account->single_clicks, 0, "no click is known to come from one photon");
    end(&honest);
    end(&run);
}

Test(attacks, photon_number_splitting_is_not_seen_without_decoys) {
    struct run honest = attacked(plain_50km, 430, "none", 0, 1, 200000000, 1);
    struct run run = attacked(plain_50km, 431, "photon-number-splitting", 1, 1, 200000000, 1);
    /* Only fewer double clicks tell of it, where both detectors are watched so closely. */
    for (size_t i = 0; i < run.block->account->n_alarms; i++)
        cr_assert_str_eq(run.block->account->alarms[i]->observable, "doubles");
    expect_rate(&run, "photon-number-splitting", true, 0.033);
    double a = (double)honest.block->clicks, b = (double)run.block->clicks;
    cr_assert(fabs(a - b) < 5 * sqrt(a + b), "%.0f clicks, honest %.0f", b, a);
    end(&honest);
    end(&run);
}

Test(attacks, blinding_shows_in_what_is_missing) {
    struct run run = attacked(decoys, 440, "blinding", 1, 1, PULSES, 1);
    double sigma;
    cr_assert(rate(&run, false, &sigma) < 0.035, "errors do not rise");
    cr_assert_not_null(alarm_of(&run, "gain"));
    cr_assert_not_null(alarm_of(&run, "doubles"));
    cr_assert_eq(alarm_of(&run, "doubles")->observed, 0);
    cr_assert(alarm_of(&run, "qber") == NULL || alarm_of(&run, "qber")->observed < alarm_of(&run, "qber")->expected);
    end(&run);
}

Test(attacks, time_shift_shows_in_the_balance_of_the_bits) {
    struct run run = attacked(decoys, 450, "time-shift", 1, 4, PULSES, 1);
    const Qnet__V1__QkdAlarm *alarm = alarm_of(&run, "balance");
    cr_assert_not_null(alarm);
    cr_assert(fabs(alarm->observed - 0.2) < 0.03, "ones: %.3f, expected about 1 / (1 + 4)", alarm->observed);
    expect_rate(&run, "time-shift", true, 0.03);
    end(&run);
}

Test(attacks, beam_splitting_and_drift_are_no_alarm) {
    struct run run = attacked(decoys, 460, "beam-splitting", 1, 1, PULSES, 1);
    expect_quiet(&run, "beam-splitting");
    cr_assert_gt(run.block->sifted, 0);
    end(&run);
    /* From 3 % to about 6 % in fifteen blocks of 30 ms. */
    run = attacked(decoys, 461, "drift", 1, 0.16, PULSES, 15);
    for (size_t i = 0, blocks = 0; i < run.network->n_answers; i++) {
        const Qnet__V1__ControlResponse *response = run.network->answers[i].response;
        if (response->body_case != QNET__V1__CONTROL_RESPONSE__BODY_BB84_BLOCK) continue;
        run.block = response->bb84_block;
        expect_quiet(&run, "drift");
        cr_assert(++blocks < 15 || run.block->qber > 0.05, "%.4f", run.block->qber);
    }
    end(&run);
}

Test(attacks, a_fibre_without_light_gives_noise_and_no_key) {
    struct run run = attacked(gys_50km, 470, "cut", 1, 1, 2000000000, 1);
    cr_assert_eq(run.block->secret, 0);
    cr_assert_not_null(alarm_of(&run, "gain"));
    cr_assert(fabs(run.block->qber - 0.5) < 0.1, "%.3f", run.block->qber);
    end(&run);
}

/* ---- on the classical channel ---- */

static size_t n_keys(struct network *network, const char *node) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__ListRequest list = QNET__V1__LIST_REQUEST__INIT;
    list.kind = QNET__V1__LIST_KIND__LIST_KIND_KEYS;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_LIST;
    request.list = &list;
    uint64_t client = network_ask(network, node, &request);
    size_t n = 0;
    network_wait(network, client, 1);
    for (size_t i = 0; i < network->n_answers; i++)
        n += network->answers[i].client == client &&
             network->answers[i].response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_KEY;
    return n;
}

Test(attacks, a_man_in_the_middle_is_found_out_at_either_end) {
    for (int i = 0; i < 5;
         i++) { /* Changes what the detector is told, or the source, or both; without tags: 2 and 3. */
        struct network *network = network_new_with_secret(decoys, 480 + (uint64_t)i, 0, i == 2 || i == 3 ? 0 : 4096);
        if (i % 2 == 0) network_attack(network, "bob", "qkd", "mitm", 1, 1);
        if (i % 2 == 1 || i == 4) network_attack(network, "laser", "qkd", "mitm", 1, 1);
        uint64_t client = network_ask_bb84_pulses(network, "laser", "bob", 1, i == 4 ? 10 * PULSES : PULSES);
        const Qnet__V1__ControlResponse *response = network_wait(network, client, 100000);
        if (i < 2 || i == 4) expect_error(response, "auth");
        cluster_run_until(network->cluster, cluster_now(network->cluster) + 60000000000);
        if (i != 3) cr_assert_eq(n_keys(network, "laser") + n_keys(network, "bob"), 0, "run %d", i);
        network_free(network);
    }
}

Test(attacks, a_replayed_verdict_is_refused) {
    struct network *network = network_new_with_secret(decoys, 490, 0, 4096);
    network_attack(network, "bob", "qkd", "replay", 1, 1);
    uint64_t client = network_ask_bb84_pulses(network, "laser", "bob", 2, PULSES);
    expect_error(network_wait(network, client, 100000), "auth");
    cluster_run_until(network->cluster, cluster_now(network->cluster) + 60000000000);
    cr_assert_eq(n_keys(network, "laser"), n_keys(network, "bob"));
    cr_assert_leq(n_keys(network, "bob"), 1, "that of the first block");
    network_free(network);
}
