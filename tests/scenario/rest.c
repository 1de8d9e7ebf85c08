/* SPDX-License-Identifier: Apache-2.0 */
/* Whenever a user, a deadline or a refusal ends something, nothing of it is left over at any node. */
#include <stdio.h>
#include <string.h>

#include "network.h"
#include "node/node.h"
#include "plane/plane.h"
#include "qnet/v1/app.pb-c.h"

#define MS UINT64_C(1000000)
#define XYZ QNET__V1__AXES_SET__AXES_SET_XYZ

static const char triangle[] = /* Messages between the ends go another way than those with the station. */
    "version: 1\nnetwork: rest\nnodes:\n  a: {role: memory, memories: 4}\n  r: {role: repeater, memories: 4}\n"
    "  b: {role: memory, memories: 4}\n  m: {role: detector}\nlinks:\n"
    "  ar: {between: [a, r], via: m, fidelity: 1, probability: 50%, length: 40km}\n"
    "  rb: {between: [r, b], via: m, fidelity: 1, probability: 50%, length: 40km}\n"
    "  control: {between: [a, r], kind: classical, length: 5km}\n"
    "  control-2: {between: [r, b], kind: classical, length: 5km}\n";

static void discard_all(struct network *network, const char *node) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__DiscardRequest discard = QNET__V1__DISCARD_REQUEST__INIT;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_DISCARD;
    request.discard = &discard;
    discard.all = true;
    network_ask(network, node, &request);
}

static void cancel(struct network *network, const char *node, uint64_t client) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__CancelRequest m = QNET__V1__CANCEL_REQUEST__INIT;
    request.id = 2;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_CANCEL;
    request.cancel = &m;
    m.id = 1;
    cluster_request(network->cluster, network_node(network, node), client, &request);
}

static void run_for(struct network *network, uint64_t ns) {
    cluster_run_until(network->cluster, cluster_now(network->cluster) + ns);
}

static void expect_rest(struct network *network, const char *what, unsigned variant) {
    run_for(network, 20000 * MS);
    for (size_t i = 0; i < network->topology.n_nodes; i++) discard_all(network, network->topology.nodes[i].name);
    run_for(network, 5000 * MS);
    for (uint16_t i = 0; i < network->topology.n_nodes; i++) {
        const struct qn_node *node = cluster_node(network->cluster, i);
        const char *left;
        cr_assert(qn_node_is_idle(node, &left), "%s %u: left at %s: %s", what, variant, network->topology.nodes[i].name,
                  left);
        cr_assert_eq(qn_node_memories_used(node), 0, "%s %u: %s holds %u memories", what, variant,
                     network->topology.nodes[i].name, qn_node_memories_used(node));
        cr_assert_eq(qn_plane_n_groups(qn_node_plane(node)), 0, "%s %u: %s hosts a state", what, variant,
                     network->topology.nodes[i].name);
    }
}

Test(rest, a_request_ends_at_any_time_and_nothing_is_left) {
    static const char *const peers[2] = {"r", "b"};
    for (unsigned i = 0; i < 200; i++) {
        struct network *network = network_new(triangle, 900 + i, i % 4 < 2 ? 0 : 300000, true);
        const char *peer = peers[i % 2];
        uint64_t client = i % 3 == 0   ? network_ask_pairs(network, "a", peer, 50, XYZ, 0, 20)
                          : i % 3 == 1 ? network_ask_keep(network, "a", peer, 3, 20)
                                       : network_ask_teleport(network, "a", peer, 1, 1, 10);
        run_for(network, i * 20000);
        cancel(network, "a", client);
        expect_rest(network, "cancelled after steps of 20 us:", i);
        network_free(network);
    }
}

Test(rest, a_deadline_passes_at_either_end_of_a_slow_channel) {
    for (unsigned i = 0; i < 60; i++) {
        struct network *network = network_new(triangle, 1200 + i, 100000, true);
        static const char *const nodes[3] = {"a", "r", "m"};
        network_fault(network, nodes[i % 3], i % 3 == 1 ? "rb" : "ar", QNET__V1__FAULT_KIND__FAULT_KIND_DELAY, 3e6);
        if (i % 2 == 0)
            network_ask_keep(network, "a", "b", 2, 0.0003 * i);
        else
            network_ask_pairs(network, "a", "r", 10, XYZ, 0, 0.0003 * i);
        expect_rest(network, "deadline after steps of 0.3 ms:", i);
        network_free(network);
    }
}

/* The head is cut off: its path gives the circuit up by itself, and tells the stations. */
Test(rest, a_circuit_outlives_its_head) {
    struct network *network = network_new(triangle, 1299, 0, true);
    network_ask_keep(network, "a", "b", 3, 1);
    run_for(network, MS / 2);
    cluster_cut(network->cluster, network_node(network, "a"), network_node(network, "r"), QN_CLASSICAL, true);
    cluster_cut(network->cluster, network_node(network, "a"), network_node(network, "m"), QN_CLASSICAL, true);
    run_for(network, 10000 * MS);
    cluster_cut(network->cluster, network_node(network, "a"), network_node(network, "r"), QN_CLASSICAL, false);
    cluster_cut(network->cluster, network_node(network, "a"), network_node(network, "m"), QN_CLASSICAL, false);
    expect_rest(network, "cut", 0);
    network_free(network);
}

/* The receiver's user gives its pairs back while states arrive in them: not those, which are not its yet. */
Test(rest, a_pair_that_waits_for_its_correction_is_not_the_users) {
    struct network *network = network_new(triangle, 1300, 0, true);
    network_fault(network, "a", "control", QNET__V1__FAULT_KIND__FAULT_KIND_DELAY, 1e6); /* Corrections are late. */
    uint64_t client = network_ask_teleport(network, "a", "r", 0, 0, 40);
    for (int i = 0; i < 2000; i++) {
        run_for(network, 50000);
        discard_all(network, "r");
    }
    const Qnet__V1__ControlResponse *response = network_wait(network, client, 20);
    cr_assert_eq(response->body_case, QNET__V1__CONTROL_RESPONSE__BODY_TELEPORT_SUMMARY);
    cr_assert_eq(response->teleport_summary->sums[2], (int32_t)response->teleport_summary->trials[2]);
    expect_rest(network, "teleport", 0);
    network_free(network);
}

Test(rest, what_a_failed_request_has_prepared_is_given_back) {
    struct network *network = network_new(triangle, 1301, 0, true);
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__GateRequest m = QNET__V1__GATE_REQUEST__INIT;
    Qnet__V1__GateStep steps[5], *pointers[5];
    for (size_t i = 0; i < 5; i++) {
        qnet__v1__gate_step__init(&steps[i]);
        pointers[i] = &steps[i];
    }
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_GATE;
    request.gate = &m;
    m.steps = pointers;
    m.n_steps = 5;
    expect_error(network_wait(network, network_ask(network, "a", &request), 1), "memory_full");
    expect_error(network_wait(network, network_ask(network, "m", &request), 1), "unsupported");
    expect_rest(network, "gates", 0);
    network_free(network);
}

/* Whoever is asked to stop between the two ends' storing of a key: neither keeps one that the other does not have. */
Test(rest, a_key_that_only_one_end_has_made_goes) {
    static const char yaml[] =
        "version: 1\nnetwork: keys\nnodes:\n  laser: {role: source, source: single-photon, clock: 100MHz}\n"
        "  bob: {role: detector, efficiency: 80%, dark_rate: 100Hz, gate_window: 1ns}\n"
        "links:\n  qkd: {between: [laser, bob], length: 10km, loss: 0.2dB/km, misalignment: 1%, block_size: 20000}\n";
    uint64_t took = 0;
    for (unsigned i = 0; i < 40; i++) { /* The first is not cancelled, the others the earlier before its end. */
        struct network *network = network_new(yaml, 1400, 0, true);
        network_fault(network, "laser", "qkd", QNET__V1__FAULT_KIND__FAULT_KIND_DELAY, 2e7);
        uint64_t before = cluster_now(network->cluster), client = network_ask_bb84(network, "bob", "laser", 1, 0);
        if (i == 0) {
            network_wait(network, client, 60);
            took = cluster_now(network->cluster) - before;
        } else {
            run_for(network, took - i * 4 * MS);
            cancel(network, "bob", client);
        }
        expect_rest(network, "BB84 cancelled after steps of 4 ms:", i);
        network_free(network);
    }
}

#define IDEAL "model: ideal, fidelity: 1, probability: 100%, length: 1km"

static uint64_t keep_one(struct network *network, const char *node, const char *peer, uint64_t *ret_theirs) {
    uint64_t client = network_ask_keep(network, node, peer, 1, 10);
    network_wait(network, client, 20);
    const Qnet__V1__PairInfo *pair = network_pair(network, client, 0);
    if (ret_theirs != NULL) *ret_theirs = network_partner(network, peer, pair);
    return pair->qubit;
}

static void measure(struct network *network, const char *node, uint64_t qubit) { /* It must be answered. */
    static const double z[3] = {0, 0, 1};
    network_gate(network, node, QNET__V1__OP_KIND__OP_KIND_MEASURE, &qubit, 1, z, 3);
}

/* A node that was never there with a life that is over learns of its end all the same, if only from the next life: n0
 * waits for its word on where a qubit may be. */
Test(rest, a_node_tells_of_its_earlier_lives) {
    struct network *network = network_chain(1, IDEAL, "", 1500, 0);
    uint64_t qubit = keep_one(network, "n0", "n1", NULL);
    cluster_crash(network->cluster, 1);
    cluster_crash(network->cluster, 2);
    run_for(network, 1000 * MS);
    cluster_start(network->cluster, 2);
    run_for(network, 1000 * MS);
    cluster_start(network->cluster, 1);
    run_for(network, 1000 * MS);
    measure(network, "n0", qubit);
    expect_rest(network, "restarts", 0);
    network_free(network);
}

static void live_often(struct network *network, const char *name, int lives) {
    for (int i = 0; i < lives; i++) {
        cluster_crash(network->cluster, network_node(network, name));
        run_for(network, 50 * MS);
        cluster_start(network->cluster, network_node(network, name));
        run_for(network, 50 * MS);
    }
}

/* Of a node that dies often its peers remember so much and no more: what one has forgotten is not news for ever to
 * those who remember something else. */
Test(rest, many_lives_are_told_of_once) {
    struct network *network = network_new(triangle, 1502, 0, true);
    uint16_t m = network_node(network, "m");
    live_often(network, "r", 40);
    for (int away = 1; away >= 0; away--) {
        for (uint16_t i = 0; i < m; i++)
            for (int plane = 0; plane < 2; plane++)
                cluster_cut(network->cluster, i, m, (enum qn_plane_id)plane, away == 1);
        if (away == 1) live_often(network, "r", 40);
        uint64_t steps = cluster_steps(network->cluster), end = cluster_now(network->cluster) + 1000 * MS;
        while (cluster_now(network->cluster) < end && cluster_steps(network->cluster) < steps + 5000)
            if (!cluster_step(network->cluster)) break;
        cr_assert_lt(cluster_steps(network->cluster), steps + 5000, "the news go round for ever");
    }
    expect_rest(network, "many lives", 0);
    network_free(network);
}

/* n0 knows that n2's life is over, and of the next one only that it hosts its qubit. */
Test(rest, a_host_that_was_not_met_yet_is_asked) {
    struct network *network = network_chain(1, IDEAL, "", 1501, 0);
    uint64_t mine, theirs;
    mine = keep_one(network, "n0", "n2", &theirs);
    measure(network, "n2", theirs);
    measure(network, "n0", mine);
    cluster_crash(network->cluster, 2);
    run_for(network, 1000 * MS);
    cluster_start(network->cluster, 2);
    run_for(network, 1000 * MS);
    measure(network, "n0", keep_one(network, "n0", "n2", NULL));
    expect_rest(network, "a new life", 0);
    network_free(network);
}

/* What n2 has sent to n0 before it hears that an earlier life of n0 is over may have come to the present one. */
Test(rest, old_news_do_not_break_the_channel_to_the_next_life) {
    struct network *network = network_chain(1, IDEAL, "", 1503, 0);
    for (int plane = 0; plane < 2; plane++) cluster_slow(network->cluster, 1, 2, (enum qn_plane_id)plane, 100 * MS);
    cluster_crash(network->cluster, 0);
    run_for(network, 1000 * MS);
    cluster_start(network->cluster, 0);
    run_for(network, 10 * MS);
    const Qnet__V1__ControlResponse *response =
        network_wait(network, network_ask_teleport(network, "n2", "n0", 0, 0, 3), 29);
    cr_assert_eq(response->body_case, QNET__V1__CONTROL_RESPONSE__BODY_TELEPORT_SUMMARY, "%s",
                 response->error->message);
    expect_rest(network, "old news", 0);
    network_free(network);
}

/* A node that was fenced still knows which lives were over before, for those who ask it where a qubit is. */
Test(rest, a_fenced_node_remembers_who_is_dead) {
    struct network *network = network_chain(2, IDEAL, "", 1504, 0);
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__DeclareDeadRequest m = QNET__V1__DECLARE_DEAD_REQUEST__INIT;
    measure(network, "n0", keep_one(network, "n0", "n3", NULL)); /* All have met. */
    cluster_crash(network->cluster, 3);
    cluster_start(network->cluster, 3);
    run_for(network, 1000 * MS);
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_DECLARE_DEAD;
    request.declare_dead = &m;
    m.node = (char *)(uintptr_t) "n2";
    network_wait(network, network_ask(network, "n1", &request), 1);
    run_for(network, 1000 * MS);
    uint64_t qubit = keep_one(network, "n0", "n1", NULL);
    cluster_crash(network->cluster, 1);
    cluster_start(network->cluster, 1);
    run_for(network, 1000 * MS);
    measure(network, "n0", qubit);
    expect_rest(network, "fenced", 0);
    network_free(network);
}
