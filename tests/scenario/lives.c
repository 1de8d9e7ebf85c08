/* SPDX-License-Identifier: Apache-2.0 */
/* Lives of nodes: who is declared dead, when and by whom, what becomes of one that was only away, and ways round what
 * is cut. */
#include <stdio.h>
#include <string.h>

#include "network.h"
#include "plane/plane.h"
#include "qnet/v1/app.pb-c.h"
#include "qnet/v1/plane.pb-c.h"

#define XYZ QNET__V1__AXES_SET__AXES_SET_XYZ
#define MEASURE QNET__V1__OP_KIND__OP_KIND_MEASURE
#define SECOND UINT64_C(1000000000)
#define DEAD_AFTER 5 /* Seconds, in the networks below. */

static const double x_axis[3] = {1, 0, 0}, z_axis[3] = {0, 0, 1};

static struct network *network_of(const char *nodes, const char *links, uint64_t seed) {
    char yaml[4096];
    snprintf(yaml, sizeof yaml,
             "version: 1\nnetwork: lives\nnode_dead_after: %ds\n"
             "defaults: {link: {model: ideal, fidelity: 1.0, probability: 100%%, length: 1km}}\nnodes:\n%slinks:\n%s",
             DEAD_AFTER, nodes, links);
    return network_new(yaml, seed, 1000, true);
}

static struct network *pair_network(uint64_t seed) {
    return network_of("  a: {role: memory, memories: 8}\n  b: {role: memory, memories: 8}\n",
                      "  ab: {between: [a, b]}\n", seed);
}

static struct network *chain_network(uint64_t seed) {
    return network_of("  a: {role: memory, memories: 8}\n  r: {role: repeater, memories: 8}\n"
                      "  c: {role: memory, memories: 8}\n",
                      "  ar: {between: [a, r]}\n  rc: {between: [r, c]}\n", seed);
}

static void run(struct network *network, double seconds) {
    cluster_run_until(network->cluster, cluster_now(network->cluster) + (uint64_t)(seconds * 1e9));
}

static void cut(struct network *network, const char *one, const char *other, bool on) {
    for (int plane = 0; plane < 2; plane++)
        cluster_cut(network->cluster, network_node(network, one), network_node(network, other), (enum qn_plane_id)plane,
                    on);
}

static uint64_t life(const struct network *network, const char *name) {
    return cluster_incarnation(network->cluster, network_node(network, name));
}

static uint64_t ask_gate(struct network *network, const char *node, uint32_t kind, uint64_t qubit, const double *axis,
                         double timeout_s) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__GateRequest m = QNET__V1__GATE_REQUEST__INIT;
    Qnet__V1__GateStep step = QNET__V1__GATE_STEP__INIT, *steps[1] = {&step};
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_GATE;
    request.gate = &m;
    m.steps = steps;
    m.n_steps = 1;
    m.timeout_ns = (uint64_t)(timeout_s * 1e9);
    step.kind = kind;
    step.qubits = &qubit;
    step.n_qubits = 1;
    step.args = (double *)(uintptr_t)axis;
    step.n_args = axis != NULL ? 3 : 0;
    return network_ask(network, node, &request);
}

static const Qnet__V1__ControlResponse *declare_dead(struct network *network, const char *node, const char *whom) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__DeclareDeadRequest m = QNET__V1__DECLARE_DEAD_REQUEST__INIT;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_DECLARE_DEAD;
    request.declare_dead = &m;
    m.node = (char *)(uintptr_t)whom;
    return network_wait(network, network_ask(network, node, &request), 1);
}

static void keep_pair(struct network *network, const char *head, const char *tail, uint64_t ret_qubits[2]) {
    uint64_t client = network_ask_keep(network, head, tail, 1, 10);
    cr_assert_eq(network_wait(network, client, 10)->body_case, QNET__V1__CONTROL_RESPONSE__BODY_PAIR_SUMMARY);
    const Qnet__V1__PairInfo *pair = network_pair(network, client, 0);
    ret_qubits[0] = pair->qubit;
    ret_qubits[1] = network_partner(network, tail, pair);
}

static bool hosts(const struct network *network, const char *node, uint64_t qubit) {
    double tensor[4];
    const struct qn_node *n = cluster_node(network->cluster, network_node(network, node));
    return n != NULL && qn_plane_inspect(qn_node_plane(n), &qubit, 1, cluster_now(network->cluster), tensor) == 0;
}

static void expect_service(struct network *network, const char *head,
                           const char *tail) { /* Pairs with what they owe. */
    expect_pairs(network_wait(network, network_ask_pairs(network, head, tail, 60, XYZ, 0, 30), 30), 60, 1, "service");
}

Test(lives, whoever_is_away_for_too_long_and_missed_is_dead) {
    for (uint64_t seed = 0; seed < 8; seed++) { /* The state is kept by either. */
        struct network *network = pair_network(700 + seed);
        const char *dies = seed % 2 == 0 ? "b" : "a", *stays = seed % 2 == 0 ? "a" : "b";
        uint64_t q[2];
        keep_pair(network, "a", "b", q);
        uint64_t mine = q[seed % 2 == 0 ? 0 : 1];
        cluster_crash(network->cluster, network_node(network, dies));
        /* Until it is known to be dead, operations wait (also where the state is: it would have to be handed over).
         * Their deadline says for whom. */
        const Qnet__V1__ControlResponse *response =
            network_wait(network, ask_gate(network, stays, MEASURE, mine, z_axis, 1), 2);
        expect_error(response, "unreachable");
        char what[64];
        snprintf(what, sizeof what, "substrate unreachable: %s;", dies);
        cr_assert_not_null(strstr(response->error->message, what), "%s", response->error->message);
        run(network, 2 * DEAD_AFTER);
        const struct qn_plane *plane = qn_node_plane(cluster_node(network->cluster, network_node(network, stays)));
        cr_assert_eq(qn_plane_n_pending(plane), 0);
        cr_assert_eq(qn_plane_n_groups(plane), 0, "seed %lu: the dead half is gone, and the other measured",
                     (unsigned long)seed);
        cluster_start(network->cluster, network_node(network, dies));
        expect_service(network, stays, dies);
        network_free(network);
    }
}

Test(lives, an_operation_goes_on_when_the_host_is_known_to_be_dead) {
    double sum = 0, n = 400;
    for (uint64_t seed = 0; seed < (uint64_t)n; seed++) {
        struct network *network = pair_network(1000 + seed);
        uint64_t q[2];
        keep_pair(network, "a", "b", q);
        bool at_a = hosts(network, "a", q[0]);
        cluster_crash(network->cluster, at_a ? 0 : 1);
        uint64_t before = cluster_now(network->cluster);
        const Qnet__V1__ControlResponse *response =
            network_wait(network, ask_gate(network, at_a ? "b" : "a", MEASURE, q[at_a ? 1 : 0], x_axis, 20), 20);
        cr_assert_eq(response->body_case, QNET__V1__CONTROL_RESPONSE__BODY_GATE);
        double took = (double)(cluster_now(network->cluster) - before) * 1e-9;
        cr_assert(took >= DEAD_AFTER && took < DEAD_AFTER + 0.1, "%g s", took);
        sum += response->gate->outcomes[0] == 0 ? 1 : -1;
        network_free(network);
    }
    cr_assert_float_eq(sum / n, 0, 5 / sqrt(n), "seeds 1000 to 1399: <X> = %g", sum / n);
}

Test(lives, who_is_not_missed_may_be_away_for_any_time) {
    struct network *network = pair_network(702);
    uint64_t before[2] = {life(network, "a"), life(network, "b")};
    cut(network, "a", "b", true);
    run(network, 20 * DEAD_AFTER);
    cut(network, "a", "b", false);
    run(network, 1);
    cr_assert_eq(life(network, "a"), before[0]);
    cr_assert_eq(life(network, "b"), before[1]);
    expect_service(network, "a", "b");
    network_free(network);
}

Test(lives, a_node_that_was_away_for_less_goes_on_as_it_was) {
    struct network *network = pair_network(703);
    uint64_t q[2], before[2] = {life(network, "a"), life(network, "b")};
    keep_pair(network, "a", "b", q);
    cut(network, "a", "b", true);
    uint64_t waits = ask_gate(network, hosts(network, "a", q[0]) ? "b" : "a", MEASURE,
                              hosts(network, "a", q[0]) ? q[1] : q[0], x_axis, 30);
    run(network, 0.8 * DEAD_AFTER);
    cut(network, "a", "b", false);
    const Qnet__V1__ControlResponse *response = network_wait(network, waits, 2);
    cr_assert_eq(response->body_case, QNET__V1__CONTROL_RESPONSE__BODY_GATE);
    uint32_t first = response->gate->outcomes[0];
    uint64_t other = hosts(network, "a", q[0]) ? q[0] : q[1];
    cr_assert_eq(network_gate(network, hosts(network, "a", other) ? "a" : "b", MEASURE, &other, 1, x_axis, 3), first);
    cr_assert_eq(life(network, "a"), before[0]);
    cr_assert_eq(life(network, "b"), before[1]);
    network_free(network);
}

static unsigned fenced(const struct network *network, const char *name) {
    return network_events(network, name, "fenced");
}

Test(lives, a_stopped_node_that_was_given_up_starts_anew) {
    struct network *network = chain_network(704);
    uint64_t q[2], old = life(network, "c");
    keep_pair(network, "a", "c", q);
    cluster_pause(network->cluster, network_node(network, "c"));
    cut(network, "r", "c", true); /* Its neighbours find it silent. */
    run(network, 2 * DEAD_AFTER);
    uint64_t late = ask_gate(network, "c", MEASURE, q[1], z_axis, 30); /* Asked of it while it is stopped. */
    cut(network, "r", "c", false);
    cluster_resume(network->cluster, network_node(network, "c"));
    run(network, 2);
    const Qnet__V1__ControlResponse *response = network_wait(network, late, 1);
    if (response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_ERROR) expect_error(response, "fenced");
    cr_assert_eq(fenced(network, "c"), 1);
    cr_assert_eq(fenced(network, "a") + fenced(network, "r"), 0);
    cr_assert_neq(life(network, "c"), old);
    cr_assert_eq(qn_plane_n_owned(qn_node_plane(cluster_node(network->cluster, 2))), 0);
    cr_assert_eq(qn_plane_n_groups(qn_node_plane(cluster_node(network->cluster, 2))), 0);
    network_gate(network, "a", MEASURE, &q[0], 1, z_axis, 3);
    expect_service(network, "a", "c");
    expect_service(network, "c", "a");
    network_free(network);
}

Test(lives, the_smaller_part_of_a_cut_network_gives_way) {
    struct network *network = chain_network(705);
    uint64_t q[2], before[3] = {life(network, "a"), life(network, "r"), life(network, "c")};
    keep_pair(network, "a", "c", q);
    keep_pair(network, "a", "r", (uint64_t[2]){0, 0});
    cut(network, "r", "c", true);
    run(network, 3 * DEAD_AFTER);
    cut(network, "r", "c", false);
    run(network, 3);
    cr_assert_eq(fenced(network, "a") + fenced(network, "r"), 0, "two of three were together");
    cr_assert_eq(fenced(network, "c"), 1);
    cr_assert_eq(life(network, "a"), before[0]);
    cr_assert_eq(life(network, "r"), before[1]);
    cr_assert_neq(life(network, "c"), before[2]);
    expect_service(network, "a", "c");
    network_free(network);
}

Test(lives, of_two_equal_parts_one_gives_way) {
    struct network *network = pair_network(706);
    uint64_t q[2];
    keep_pair(network, "a", "b", q);
    cut(network, "a", "b", true);
    run(network, 3 * DEAD_AFTER);
    cut(network, "a", "b", false);
    run(network, 3);
    cr_assert_eq(fenced(network, "a"), 0, "the lower index stands");
    cr_assert_eq(fenced(network, "b"), 1);
    expect_service(network, "a", "b");
    network_free(network);
}

Test(lives, a_pair_whose_far_half_is_gone_is_said_to_be_lost) {
    struct network *network = pair_network(711);
    uint64_t q[2];
    keep_pair(network, "a", "b", q);
    cluster_crash(network->cluster, 1);
    run(network, 2 * DEAD_AFTER);
    cr_assert_eq(network_events(network, "a", "pairs_lost"), 1);
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__ListRequest m = QNET__V1__LIST_REQUEST__INIT;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_LIST;
    request.list = &m;
    m.kind = QNET__V1__LIST_KIND__LIST_KIND_PAIRS;
    uint64_t client = network_ask(network, "a", &request);
    network_wait(network, client, 1);
    cr_assert_str_eq(network_pair(network, client, 0)->state, "lost");
    cr_assert_float_eq(network_pair(network, client, 0)->fidelity, 0.25, 1e-12);
    network_gate(network, "a", MEASURE, &q[0], 1, z_axis, 3); /* The near half is still there. */
    network_free(network);
}

Test(lives, teleports_say_how_long_a_state_takes) {
    struct network *network = chain_network(712);
    const Qnet__V1__ControlResponse *response =
        network_wait(network, network_ask_teleport(network, "a", "c", 1, 1, 9), 30);
    cr_assert_eq(response->body_case, QNET__V1__CONTROL_RESPONSE__BODY_TELEPORT_SUMMARY);
    cr_assert_gt(response->teleport_summary->median_ns, 0);
    cr_assert_leq(response->teleport_summary->median_ns * 5, response->teleport_summary->elapsed_ns);
    network_free(network);
}

Test(lives, an_operator_may_declare_a_node_dead_that_still_runs) {
    struct network *network = chain_network(707);
    uint64_t q[2], old = life(network, "c");
    keep_pair(network, "a", "c", q);
    expect_error(declare_dead(network, "a", "nobody"), "unknown_node");
    cr_assert_neq(declare_dead(network, "r", "c")->body_case, QNET__V1__CONTROL_RESPONSE__BODY_ERROR);
    run(network, 1);
    cr_assert_eq(fenced(network, "c"), 1);
    cr_assert_neq(life(network, "c"), old);
    expect_service(network, "a", "c");
    network_free(network);
}

Test(lives, a_node_nobody_met_can_not_be_declared_dead) {
    struct network *network = pair_network(708);
    cluster_crash(network->cluster, 1);
    run(network, 1);
    cr_assert_neq(declare_dead(network, "a", "b")->body_case, QNET__V1__CONTROL_RESPONSE__BODY_ERROR);
    expect_error(declare_dead(network, "a", "b"), "not_found");
    network_free(network);
}

Test(lives, hosting_goes_round_a_cut) {
    struct network *network = network_of("  a: {role: memory, memories: 8}\n  b: {role: memory, memories: 8}\n"
                                         "  c: {role: memory, memories: 8}\n  d: {role: memory, memories: 8}\n",
                                         "  ab: {between: [a, b]}\n  bc: {between: [b, c]}\n  cd: {between: [c, d]}\n"
                                         "  da: {between: [d, a]}\n",
                                         709);
    for (int i = 0; i < 4; i++) {
        uint64_t q[2];
        keep_pair(network, "a", "b", q);
        cut(network, "a", "b", true);
        uint32_t one = network_gate(network, "a", MEASURE, &q[0], 1, x_axis, 3);
        cr_assert_eq(network_gate(network, "b", MEASURE, &q[1], 1, x_axis, 3), one);
        cut(network, "a", "b", false);
        run(network, 0.1);
    }
    uint64_t q[2]; /* And for as long as there is a way, nobody is dead. */
    keep_pair(network, "a", "b", q);
    cut(network, "a", "b", true);
    run(network, 4 * DEAD_AFTER);
    for (int i = 0; i < 4; i++) cr_assert_eq(fenced(network, network->topology.nodes[i].name), 0);
    uint32_t one = network_gate(network, "a", MEASURE, &q[0], 1, x_axis, 3);
    cr_assert_eq(network_gate(network, "b", MEASURE, &q[1], 1, x_axis, 3), one);
    network_free(network);
}

Test(lives, a_pair_outlives_the_repeater_that_made_it) {
    struct network *network = chain_network(710);
    for (int i = 0; i < 6; i++) {
        uint64_t q[2];
        keep_pair(network, "a", "c", q);
        cluster_crash(network->cluster, network_node(network, "r"));
        run(network, 0.2);
        cluster_start(network->cluster, network_node(network, "r"));
        run(network, 0.2);
        uint32_t one = network_gate(network, "a", MEASURE, &q[0], 1, x_axis, 3);
        cr_assert_eq(network_gate(network, "c", MEASURE, &q[1], 1, x_axis, 3), one);
    }
    expect_service(network, "a", "c");
    network_free(network);
}
