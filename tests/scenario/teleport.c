/* SPDX-License-Identifier: Apache-2.0 */
/* Teleported states by tomography: six cardinal and ten random ones, over a link and over a repeater. */
#include "base/rng.h"
#include "link/bell.h"
#include <stdio.h>

#include "network.h"

static void teleport(struct network *network, const char *to, double theta, double phi, uint32_t number,
                     double pair_fidelity) {
    const Qnet__V1__ControlResponse *response =
        network_wait(network, network_ask_teleport(network, "n0", to, theta, phi, number), 120);
    cr_assert_eq(response->body_case, QNET__V1__CONTROL_RESPONSE__BODY_TELEPORT_SUMMARY, "%s",
                 response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_ERROR ? response->error->message : "?");
    const Qnet__V1__TeleportSummary *summary = response->teleport_summary;
    double expected = qn_teleport_fidelity(pair_fidelity);
    cr_assert_eq(summary->done, number);
    cr_assert(fabs(summary->fidelity - expected) < 5 * summary->standard_error,
              "seed %lu: state (%.3f, %.3f): %.4f +- %.4f, expected %.4f", (unsigned long)network->topology.seed, theta,
              phi, summary->fidelity, summary->standard_error, expected);
    cr_assert_float_eq(summary->predicted, expected, 1e-6);
}

static void teleport_all(unsigned repeaters, uint64_t seed) {
    struct network *network = network_chain(
        repeaters, "model: ideal, fidelity: 0.95, probability: 50%, length: 1km, attempt_time: 10us", "", seed, 10000);
    char last[8];
    snprintf(last, sizeof last, "n%u", repeaters + 1);
    const double cardinal[6][2] = {
        {0, 0}, {M_PI, 0}, {M_PI / 2, 0}, {M_PI / 2, M_PI}, {M_PI / 2, M_PI / 2}, {M_PI / 2, -M_PI / 2}};
    for (int i = 0; i < 6; i++)
        teleport(network, last, cardinal[i][0], cardinal[i][1], 900, qn_chain_fidelity(0.95, repeaters));
    struct qn_rng rng;
    qn_rng_init(&rng, seed, "states", 0);
    for (int i = 0; i < 10; i++)
        teleport(network, last, acos(2 * qn_rng_double(&rng) - 1), 2 * M_PI * qn_rng_double(&rng), 900,
                 qn_chain_fidelity(0.95, repeaters));
    network_free(network);
}

Test(teleport, over_a_link) { teleport_all(0, 100); }
Test(teleport, over_a_repeater) { teleport_all(1, 101); }
