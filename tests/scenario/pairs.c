/* SPDX-License-Identifier: Apache-2.0 */
/* Entanglement on links and over chains, on virtual time with random delays. */
#include <stdio.h>

#include "link/bell.h"
#include "link/link.h"
#include "network.h"
#include "plane/plane.h"
#include "qnet/v1/app.pb-c.h"
#include "qnet/v1/plane.pb-c.h"

#define XYZ QNET__V1__AXES_SET__AXES_SET_XYZ
#define CHSH QNET__V1__AXES_SET__AXES_SET_CHSH
#define IDEAL "model: ideal, fidelity: 0.95, probability: 50%, length: 1km, attempt_time: 10us"

Test(pairs, measured_directly_on_one_link) {
    struct network *network = network_chain(0, IDEAL, "", 1, 5000);
    expect_pairs(network_wait(network, network_ask_pairs(network, "n0", "n1", 20000, XYZ, 0, 60), 60), 20000, 0.95,
                 "seed 1, from n0");
    expect_pairs(network_wait(network, network_ask_pairs(network, "n1", "n0", 20000, XYZ, 0, 60), 60), 20000, 0.95,
                 "seed 1, from n1");
    network_free(network);
}

Test(pairs, violate_the_bell_inequality_as_predicted) {
    for (unsigned repeaters = 0; repeaters < 2; repeaters++) {
        struct network *network = network_chain(repeaters, IDEAL, "", 2 + repeaters, 5000);
        char last[8];
        snprintf(last, sizeof last, "n%u", repeaters + 1);
        const Qnet__V1__ControlResponse *response =
            network_wait(network, network_ask_pairs(network, "n0", last, 8000, CHSH, 0, 120), 120);
        cr_assert_eq(response->body_case, QNET__V1__CONTROL_RESPONSE__BODY_PAIR_SUMMARY);
        double error, s = chsh_of(response->pair_summary, &error),
                      expected = qn_chsh_werner(qn_chain_fidelity(0.95, repeaters));
        cr_assert(fabs(s - expected) < 5 * error, "seed %u: S = %.4f +- %.4f, expected %.4f", 2 + repeaters, s, error,
                  expected);
        network_free(network);
    }
}

Test(pairs, swapped_over_one_to_four_repeaters_follow_the_werner_formula) {
    for (unsigned repeaters = 1; repeaters <= 4; repeaters++) {
        struct network *network = network_chain(repeaters, IDEAL, "", 10 + repeaters, 20000);
        char last[8], what[32];
        snprintf(last, sizeof last, "n%u", repeaters + 1);
        snprintf(what, sizeof what, "seed %u, %u repeaters", 10 + repeaters, repeaters);
        expect_pairs(network_wait(network, network_ask_pairs(network, "n0", last, 6000, XYZ, 0, 300), 300), 6000,
                     qn_chain_fidelity(0.95, repeaters), what);
        network_free(network);
    }
}

Test(pairs, kept_pairs_have_the_exact_state_wherever_it_is_hosted) {
    for (uint64_t seed = 20; seed < 40; seed++) {
        struct network *network = network_chain(
            1 + (unsigned)seed % 3, "model: ideal, fidelity: 0.97, probability: 30%, length: 2km, attempt_time: 10us",
            "", seed, 50000);
        char last[8];
        snprintf(last, sizeof last, "n%zu", network->topology.n_nodes - 1);
        uint64_t client = network_ask_keep(network, "n0", last, 5, 60);
        const Qnet__V1__ControlResponse *response = network_wait(network, client, 60);
        cr_assert_eq(response->body_case, QNET__V1__CONTROL_RESPONSE__BODY_PAIR_SUMMARY);
        cluster_run_until(network->cluster, cluster_now(network->cluster) + 100000000);
        for (size_t i = 0; i < 5; i++) {
            const Qnet__V1__PairInfo *pair = network_pair(network, client, i);
            uint64_t qubits[2] = {pair->qubit, network_partner(network, last, pair)};
            double tensor[16], best = -1;
            for (uint16_t node = 0; node < network->topology.n_nodes; node++)
                if (qn_plane_inspect(qn_node_plane(cluster_node(network->cluster, node)), qubits, 2,
                                     cluster_now(network->cluster), tensor) == 0)
                    best = (1 + tensor[5] - tensor[10] + tensor[15]) / 4;
            cr_assert_float_eq(best, qn_chain_fidelity(0.97, 1 + (unsigned)seed % 3), 1e-9, "seed %lu pair %zu: %.12f",
                               (unsigned long)seed, i, best);
        }
        network_free(network);
    }
}

Test(pairs, however_many_requests_come_one_after_the_other) { /* More than a station keeps. */
    struct network *network = network_chain(0, IDEAL, "", 45, 0);
    for (int i = 0; i < 1500; i++)
        cr_assert_eq(
            network_wait(network,
                         network_ask_pairs(network, i % 2 == 0 ? "n0" : "n1", i % 2 == 0 ? "n1" : "n0", 1, XYZ, 0, 5),
                         5)
                ->body_case,
            QNET__V1__CONTROL_RESPONSE__BODY_PAIR_SUMMARY, "request %d", i);
    for (int i = 0; i < 20; i++) {
        uint64_t client = network_ask_keep(network, "n0", "n1", 1, 5);
        cr_assert_eq(network_wait(network, client, 5)->body_case, QNET__V1__CONTROL_RESPONSE__BODY_PAIR_SUMMARY,
                     "kept pair %d", i);
        uint64_t theirs = network_partner(network, "n1", network_pair(network, client, 0)),
                 mine = network_pair(network, client, 0)->qubit;
        network_gate(network, "n0", QNET__V1__OP_KIND__OP_KIND_DISCARD, &mine, 1, NULL, 0);
        network_gate(network, "n1", QNET__V1__OP_KIND__OP_KIND_DISCARD, &theirs, 1, NULL, 0);
    }
    network_free(network);
}

Test(pairs, over_every_kind_of_link) {
    static const char yaml[] =
        "version: 1\nnetwork: kinds\nnodes:\n  a: {role: memory, memories: 16}\n  b: {role: memory, memories: 16}\n"
        "  c: {role: memory, memories: 16}\n  d: {role: memory, memories: 16}\n"
        "  m: {role: detector, efficiency: 90%, dark_rate: 1kHz, gate_window: 100ns}\n  s: {role: source, source: "
        "pairs}\n"
        "links:\n  ab: {between: [a, b], via: m, model: double-click, visibility: 90%, emission_efficiency: 80%, "
        "length: 2km, attempt_time: 1us}\n"
        "  bc: {between: [b, c], via: s, fidelity: 0.93, probability: 50%, length: 2km, attempt_time: 1us}\n"
        "  cd: {between: [c, d], model: double-click, visibility: 85%, emission_efficiency: 80%, length: 1km, "
        "attempt_time: 1us}\n";
    struct network *network = network_new(yaml, 50, 2000, true);
    const char *ends[3][2] = {{"a", "b"}, {"b", "c"}, {"c", "d"}};
    for (int i = 0; i < 3; i++) {
        struct qn_link_plan plan;
        cr_assert_eq(qn_link_plan(&network->topology, &network->topology.links[i], &plan), 0);
        for (int way = 0; way < 2; way++)
            expect_pairs(network_wait(network,
                                      network_ask_pairs(network, ends[i][way], ends[i][1 - way], 3000, XYZ, 0, 300),
                                      300),
                         3000, plan.fidelity, ends[i][0]);
        uint64_t client = network_ask_keep(network, ends[i][0], ends[i][1], 4, 60);
        cr_assert_eq(network_wait(network, client, 60)->body_case, QNET__V1__CONTROL_RESPONSE__BODY_PAIR_SUMMARY);
        network_partner(network, ends[i][1], network_pair(network, client, 3));
    }
    network_free(network);
}

Test(pairs, fuse_into_ghz_states_with_exact_parities) {
    static const char yaml[] =
        "version: 1\nnetwork: ghz\ndefaults: {link: {model: ideal, fidelity: 1.0, probability: 100%, length: 1km}}\n"
        "nodes:\n  a: {role: memory}\n  b: {role: memory}\n  c: {role: memory}\nlinks:\n  ab: {between: [a, b]}\n  bc: "
        "{between: [b, c]}\n";
    static const double x[3] = {1, 0, 0}, y[3] = {0, 1, 0}, z[3] = {0, 0, 1};
    const double *bases[4][3] = {{x, x, x}, {x, y, y}, {y, x, y}, {y, y, x}};
    struct network *network = network_new(yaml, 60, 30000, true);
    for (int run = 0; run < 60; run++) {
        uint64_t left = network_ask_keep(network, "b", "a", 1, 10), right = network_ask_keep(network, "b", "c", 1, 10);
        network_wait(network, left, 10);
        network_wait(network, right, 10);
        const Qnet__V1__PairInfo *ba = network_pair(network, left, 0), *bc = network_pair(network, right, 0);
        uint64_t a = network_partner(network, "a", ba), c = network_partner(network, "c", bc),
                 both[2] = {ba->qubit, bc->qubit};
        network_gate(network, "b", QNET__V1__OP_KIND__OP_KIND_CNOT, both, 2, NULL, 0);
        uint32_t m = network_gate(network, "b", QNET__V1__OP_KIND__OP_KIND_MEASURE, &both[1], 1, z, 3);
        if (m != 0) network_gate(network, "c", QNET__V1__OP_KIND__OP_KIND_X, &c, 1, NULL, 0);
        const double **basis = bases[run % 4];
        uint32_t parity = network_gate(network, "a", QNET__V1__OP_KIND__OP_KIND_MEASURE, &a, 1, basis[0], 3) ^
                          network_gate(network, "b", QNET__V1__OP_KIND__OP_KIND_MEASURE, &both[0], 1, basis[1], 3) ^
                          network_gate(network, "c", QNET__V1__OP_KIND__OP_KIND_MEASURE, &c, 1, basis[2], 3);
        cr_assert_eq(parity, run % 4 == 0 ? 0 : 1, "seed 60, run %d", run);
    }
    network_free(network);
}

Test(pairs, the_same_seed_gives_the_same_run) {
    uint64_t trace[3];
    for (int i = 0; i < 3; i++) {
        struct network *network =
            network_chain(2, IDEAL ", visibility: 90%", "t1: 1s, t2: 0.5s", i < 2 ? 70 : 71, 20000);
        network_wait(network, network_ask_pairs(network, "n0", "n3", 300, XYZ, 0, 60), 60);
        trace[i] = network->trace;
        network_free(network);
    }
    cr_assert_eq(trace[0], trace[1]);
    cr_assert_neq(trace[0], trace[2]);
}
