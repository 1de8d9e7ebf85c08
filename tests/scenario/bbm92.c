/* SPDX-License-Identifier: Apache-2.0 */
/* Keys from entangled pairs, on one link and over repeaters: error rates as the states predict, equal keys at both
 * ends, a reason in numbers where there is none, and nothing left of what was given up. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "link/bell.h"
#include "link/link.h"
#include "network.h"
#include "qkd/finite.h"
#include "qnet/v1/envelope.pb-c.h"
#include "qnet/v1/plane.pb-c.h"

#define LINK "model: ideal, fidelity: %g, probability: 50%%, length: 1km, attempt_time: 10us"

/* n0 .. n<repeaters + 1>, all with initial secrets. */
static struct network *chain(unsigned repeaters, double fidelity, uint64_t seed, bool check) {
    char yaml[2048];
    int n = snprintf(yaml, sizeof yaml, "version: 1\nnetwork: pairs\ndefaults: {link: {" LINK "}}\nnodes:\n", fidelity);
    for (unsigned i = 0; i <= repeaters + 1; i++)
        n += snprintf(yaml + n, sizeof yaml - (size_t)n, "  n%u: {role: %s, memories: 64}\n", i,
                      i == 0 || i == repeaters + 1 ? "memory" : "repeater");
    n += snprintf(yaml + n, sizeof yaml - (size_t)n, "links:\n");
    for (unsigned i = 0; i <= repeaters; i++)
        n += snprintf(yaml + n, sizeof yaml - (size_t)n, "  l%u: {between: [n%u, n%u]}\n", i, i, i + 1);
    return check ? network_new_with_secret(yaml, seed, 5000, 4096) : network_new_unchecked(yaml, seed, 5000, 4096);
}

static ProtobufCBinaryData take(struct network *network, const char *node, ProtobufCBinaryData id) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__KeyTakeRequest body = QNET__V1__KEY_TAKE_REQUEST__INIT;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_KEY_TAKE;
    request.key_take = &body;
    body.key_id = id;
    const Qnet__V1__ControlResponse *response = network_wait(network, network_ask(network, node, &request), 10);
    cr_assert_eq(response->body_case, QNET__V1__CONTROL_RESPONSE__BODY_KEY, "%s does not have the key", node);
    return response->key->material;
}

static void expect_rate(uint64_t seed, const char *basis, uint64_t errors, uint64_t n, double p) {
    double sigma = sqrt((double)n * p * (1 - p));
    cr_assert(fabs((double)errors - (double)n * p) < 5 * sigma,
              "seed %lu: %lu errors of %lu in the %s basis, expected %.1f +- %.1f", (unsigned long)seed,
              (unsigned long)errors, (unsigned long)n, basis, (double)n * p, sigma);
}

/* Initial secrets of two nodes that have not met in this life are not known to be at both ends. */
static void expect_nothing_left(struct network *network, bool have_met) {
    cluster_run_until(network->cluster, cluster_now(network->cluster) + UINT64_C(4000000000));
    for (uint16_t i = 0; i < network->topology.n_nodes; i++) {
        const struct qn_node *node = cluster_node(network->cluster, i);
        const char *left;
        if (node == NULL) continue;
        cr_assert(qn_node_is_idle(node, &left) || (!have_met && strncmp(left, "keys", 4) == 0), "left at %s: %s",
                  network->topology.nodes[i].name, left);
        cr_assert_eq(qn_node_memories_used(node), 0, "%s holds memories", network->topology.nodes[i].name);
    }
}

static void expect_key(unsigned repeaters, double fidelity, uint64_t seed, bool from_last, uint64_t pairs) {
    struct network *network = chain(repeaters, fidelity, seed, false);
    char last[8];
    snprintf(last, sizeof last, "n%u", repeaters + 1);
    const char *head = from_last ? last : "n0", *far = from_last ? "n0" : last;
    uint64_t client = network_ask_bb84_pulses(network, head, far, 1, pairs);
    const Qnet__V1__Bb84Summary *summary = network_summary(network_wait(network, client, 10000));
    const Qnet__V1__Bb84Block *block = network_block(network, client, 0);
    const Qnet__V1__Bb84Intensity *seen = block->account->intensities[0];
    double weights[4], zxy[3];
    qn_bell_werner(qn_chain_fidelity(fidelity, repeaters), weights);
    qn_bell_qber(weights, zxy);
    cr_assert_str_eq(block->account->bound, "pairs");
    cr_assert_eq(block->failed[0], '\0', "seed %lu: %s", (unsigned long)seed, block->account->detail);
    cr_assert_eq(block->pulses, pairs);
    cr_assert_eq(block->clicks, pairs);
    expect_rate(seed, "key", seen->key_errors, seen->key_clicks, zxy[0]);
    expect_rate(seed, "test", seen->test_errors, seen->test_clicks, zxy[1]);
    cr_assert_float_eq(summary->expected_qber, zxy[1], 1e-9);
    /* Both bases at each end by themselves: the shares of both are those of one chance. */
    double x = sqrt((double)seen->test_clicks / (double)pairs), z = sqrt((double)seen->key_clicks / (double)pairs);
    cr_assert(fabs(x + z - 1) < 5 / sqrt((double)pairs), "seed %lu: %.3f in X, %.3f in Z", (unsigned long)seed, x, z);
    cr_assert_gt(block->secret, pairs / 20);
    cr_assert(block->account->authenticated);
    cluster_run_until(network->cluster, cluster_now(network->cluster) + 1000000000);
    ProtobufCBinaryData a = take(network, head, block->key_id), b = take(network, far, block->key_id);
    cr_assert_eq(a.len, b.len);
    cr_assert_eq(8 * a.len, block->secret - block->account->pool_bits);
    cr_assert_eq(memcmp(a.data, b.data, a.len), 0, "seed %lu: keys differ", (unsigned long)seed);
    expect_nothing_left(network, true);
    network_free(network);
}

Test(bbm92, makes_equal_keys_on_one_link) {
    expect_key(0, 0.98, 900, false, 20000);
    expect_key(0, 0.98, 901, true, 300000); /* Three trains. */
}

Test(bbm92, makes_equal_keys_over_a_repeater) {
    expect_key(1, 0.98, 902, false, 20000);
    expect_key(1, 0.98, 903, true, 20000);
}

/* Psi+ or Psi-, as heralded: the frame turns outcomes. */
Test(bbm92, makes_equal_keys_whatever_the_frame) {
    static const char yaml[] =
        "version: 1\nnetwork: frames\nnodes:\n  a: {role: memory}\n  b: {role: memory}\n"
        "  m: {role: detector, efficiency: 90%, dark_rate: 100Hz, gate_window: 10ns}\n"
        "links:\n  ab: {between: [a, b], via: m, model: double-click, visibility: 97%, emission_efficiency: 80%, "
        "length: 2km, attempt_time: 1us}\n";
    struct network *network = network_new_unchecked(yaml, 906, 5000, 4096);
    struct qn_link_plan plan;
    cr_assert_eq(qn_link_plan(&network->topology, &network->topology.links[0], &plan), 0);
    double xx = 0, zz = 0;
    for (unsigned bell = 0; bell < 4; bell++) {
        xx += plan.bell_weight[bell] * plan.tensor[bell][5] * (bell % 2 == 1 ? -1 : 1);
        zz += plan.bell_weight[bell] * plan.tensor[bell][15] * (bell / 2 == 1 ? -1 : 1);
    }
    cr_assert(plan.bell_weight[2] > 0.1 && plan.bell_weight[3] > 0.1);
    uint64_t client = network_ask_bb84_pulses(network, "b", "a", 1, 40000);
    const Qnet__V1__Bb84Summary *summary = network_summary(network_wait(network, client, 1000));
    const Qnet__V1__Bb84Block *block = network_block(network, client, 0);
    const Qnet__V1__Bb84Intensity *seen = block->account->intensities[0];
    cr_assert_float_eq(summary->expected_qber, (1 - xx) / 2, 1e-9);
    expect_rate(906, "key", seen->key_errors, seen->key_clicks, (1 - zz) / 2);
    expect_rate(906, "test", seen->test_errors, seen->test_clicks, (1 - xx) / 2);
    cr_assert_gt(block->secret, 2000);
    network_free(network);
}

Test(bbm92, gives_no_key_when_fidelity_is_too_low) {
    struct network *network =
        chain(1, 0.95, 904, false); /* 0.903 end to end: 6.4 % errors, too many for so few pairs. */
    uint64_t client = network_ask_bb84_pulses(network, "n0", "n2", 1, 6000);
    cr_assert_eq(network_summary(network_wait(network, client, 1000))->secret, 0);
    const Qnet__V1__Bb84Block *block = network_block(network, client, 0);
    cr_assert_str_eq(block->failed, "no_key");
    cr_assert_gt(strlen(block->account->detail), 20);
    cr_assert_not_null(strpbrk(block->account->detail, "0123456789"), "%s", block->account->detail);
    expect_nothing_left(network, true);
    network_free(network);
    network = chain(0, 0.7, 905, true); /* 20 % errors. */
    const Qnet__V1__ControlResponse *response =
        network_wait(network, network_ask_bb84_pulses(network, "n1", "n0", 1, 20000), 1000);
    expect_error(response, "qber");
    cr_assert_not_null(strstr(response->error->message, "limit"), "%s", response->error->message);
    expect_nothing_left(network, true);
    network_free(network);
}

static uint64_t ask_with_bell(struct network *network, uint64_t pairs) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__Bb84Request body = QNET__V1__BB84_REQUEST__INIT;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_BB84;
    request.bb84 = &body;
    body.peer = (char *)(uintptr_t) "n0";
    body.blocks = 1;
    body.block_pulses = pairs;
    body.bell_share = 0.2;
    body.qber_limit = 0.3;
    body.timeout_ns = UINT64_C(10000000000000);
    return network_ask(network, "n1", &request);
}

Test(bbm92, tests_bells_inequality_on_a_share_of_the_pairs) {
    struct network *network = chain(0, 0.98, 920, false);
    uint64_t client = ask_with_bell(network, 200000); /* Two trains. */
    cr_assert_gt(network_summary(network_wait(network, client, 1000))->secret, 10000);
    const Qnet__V1__Bb84Block *block = network_block(network, client, 0);
    double n = (double)block->bell_pairs;
    cr_assert(fabs(n - 40000) < 5 * sqrt(200000 * 0.2 * 0.8), "%g pairs", n);
    cr_assert_eq(block->clicks + block->bell_pairs, block->pulses);
    cr_assert(fabs(block->bell_s - qn_chsh_werner(0.98)) < 5 * block->bell_error, "seed 920: S = %g +- %g",
              block->bell_s, block->bell_error);
    cr_assert(block->bell_error > 0.005 && block->bell_error < 0.05);
    expect_nothing_left(network, true);
    network_free(network);
    network = chain(0, 0.72, 921, true); /* S = 1.77. */
    const Qnet__V1__ControlResponse *response = network_wait(network, ask_with_bell(network, 20000), 1000);
    expect_error(response, "bell");
    cr_assert_not_null(strstr(response->error->message, "S = 1."), "%s", response->error->message);
    expect_nothing_left(network, true);
    network_free(network);
}

/* The key's length is what S alone says; both ends come to the same. */
Test(bbm92, makes_a_device_independent_key) {
    for (int i = 0; i < 2; i++) {
        struct network *network = chain(0, 0.99, 922, false);
        Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
        Qnet__V1__Bb84Request body = QNET__V1__BB84_REQUEST__INIT;
        request.body_case = QNET__V1__CONTROL_REQUEST__BODY_BB84;
        request.bb84 = &body;
        body.peer = (char *)(uintptr_t) "n0";
        body.blocks = 1;
        body.block_pulses = i == 0 ? 0 : 3000; /* Chosen; or too few. */
        body.device_independent = true;
        body.timeout_ns = UINT64_C(10000000000000);
        uint64_t client = network_ask(network, "n1", &request);
        const Qnet__V1__Bb84Summary *summary = network_summary(network_wait(network, client, 10000));
        const Qnet__V1__Bb84Block *block = network_block(network, client, 0);
        const Qnet__V1__Bb84Account *account = block->account;
        cr_assert_str_eq(account->bound, "device-independent");
        if (i == 1) {
            cr_assert_str_eq(block->failed, "no_key");
            cr_assert_not_null(strstr(account->detail, "exceed 2"), "%s", account->detail);
        } else {
            double n = account->single_clicks, s = block->bell_s;
            cr_assert_eq(block->pulses, 200000);
            cr_assert(fabs(s - qn_chsh_werner(0.99)) < 5 * block->bell_error, "seed 922: S = %g", s);
            double asymptotic = n * (1 - qn_bell_chi(s)) - (double)block->disclosed;
            cr_assert_lt((double)block->secret, asymptotic);
            cr_assert_gt((double)block->secret, asymptotic / 4);
            cr_assert_eq(block->secret, summary->secret);
            cluster_run_until(network->cluster, cluster_now(network->cluster) + 1000000000);
            ProtobufCBinaryData a = take(network, "n0", block->key_id), b = take(network, "n1", block->key_id);
            cr_assert(a.len == b.len && memcmp(a.data, b.data, a.len) == 0);
        }
        expect_nothing_left(network, true);
        network_free(network);
    }
}

/* ---- secrecy and authentication ---- */

/* Epsilons are those of the file, over repeaters the least of the links'; smaller ones cost key. */
Test(bbm92, epsilons_are_the_files) {
    double secret[2];
    for (int i = 0; i < 2; i++) {
        char yaml[1024];
        snprintf(
            yaml, sizeof yaml,
            "version: 1\nnetwork: epsilons\ndefaults: {link: {" LINK "}}\nnodes:\n"
            "  n0: {role: memory, memories: 64}\n  n1: {role: repeater, memories: 64}\n"
            "  n2: {role: memory, memories: 64}\nlinks:\n  l0: {between: [n0, n1]%s}\n  l1: {between: [n1, n2]%s}\n",
            0.99, i == 0 ? "" : ", eps_sec: 1e-20", i == 0 ? "" : ", eps_cor: 1e-25");
        struct network *network = network_new_unchecked(yaml, 940, 0, 4096);
        uint64_t client = network_ask_bb84_pulses(network, "n2", "n0", 1, 14000);
        secret[i] = (double)network_summary(network_wait(network, client, 10000))->secret;
        const Qnet__V1__Bb84Account *account = network_block(network, client, 0)->account;
        cr_assert_eq(account->epsilon_secret, i == 0 ? 1e-9 : 1e-20);
        cr_assert_eq(account->epsilon_correct, i == 0 ? 1e-15 : 1e-25);
        network_free(network);
    }
    cr_assert_lt(secret[1], secret[0]);
}

static size_t n_keys(struct network *network, const char *node) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__ListRequest body = QNET__V1__LIST_REQUEST__INIT;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_LIST;
    request.list = &body;
    body.kind = QNET__V1__LIST_KIND__LIST_KIND_KEYS;
    uint64_t client = network_ask(network, node, &request);
    network_wait(network, client, 100);
    size_t n = 0;
    for (size_t i = 0; i < network->n_answers; i++)
        n += network->answers[i].client == client &&
             network->answers[i].response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_KEY;
    return n;
}

static bool has_alarm(const struct network *network, const char *said) {
    for (size_t i = 0; i < network->n_events; i++)
        if (strcmp(network->events[i].code, "alarm") == 0 && strstr(network->events[i].text, said) != NULL) return true;
    return false;
}

/* The relay changes what it passes on: to the one end, to the other, or in both directions; or says something old. */
Test(bbm92, a_relay_that_tampers_is_found_out) {
    static const struct {
        const char *link, *attack;
        uint32_t blocks;
    } runs[] = {{"l0", "mitm", 1}, {"l1", "mitm", 1}, {"l1", "replay", 2}};
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        struct network *network = chain(1, 0.98, 930 + i, false);
        network_attack(network, "n1", runs[i].link, runs[i].attack, 1, 1);
        uint64_t client = network_ask_bb84_pulses(network, "n0", "n2", runs[i].blocks, 14000);
        const Qnet__V1__ControlResponse *response = network_wait(network, client, 10000);
        expect_error(response, "auth");
        cr_assert_not_null(strstr(response->error->message, "n1"), "%s", response->error->message);
        cr_assert(has_alarm(network, "over n1"));
        expect_nothing_left(network, true);
        cr_assert_eq(n_keys(network, "n0"), runs[i].blocks - 1);
        cr_assert_eq(n_keys(network, "n2"), runs[i].blocks - 1);
        network_fault(network, "n1", runs[i].link, QNET__V1__FAULT_KIND__FAULT_KIND_CLEAR, 0); /* Honest again. */
        client = network_ask_bb84_pulses(network, "n0", "n2", 1, 14000);
        cr_assert_gt(network_summary(network_wait(network, client, 10000))->secret, 0);
        network_free(network);
    }
}

static unsigned n_secret, n_open;

static void count_measurements(struct network *network, uint16_t node, const struct qn_event *event) {
    (void)network, (void)node;
    if (event->type != QN_EVENT_ENVELOPE) return;
    Qnet__V1__Envelope *envelope = qnet__v1__envelope__unpack(NULL, event->len, event->bytes);
    if (envelope->body_case == QNET__V1__ENVELOPE__BODY_PLANE &&
        envelope->plane->body_case == QNET__V1__PLANE_MESSAGE__BODY_OP &&
        envelope->plane->op->op->kind == QNET__V1__OP_KIND__OP_KIND_MEASURE)
        *(envelope->plane->op->op->secret ? &n_secret : &n_open) += 1;
    qnet__v1__envelope__free_unpacked(envelope, NULL);
}

/* Measurements whose outcomes become key draw from secret numbers; those of other pairs from the file's seed. */
Test(bbm92, outcomes_do_not_follow_the_files_seed) {
    struct network *network = chain(1, 0.98, 935, false);
    n_secret = n_open = 0;
    network->on_step = count_measurements;
    uint64_t client = network_ask_bb84_pulses(network, "n0", "n2", 1, 6000);
    network_summary(network_wait(network, client, 10000));
    cr_assert_eq(n_open, 0);
    cr_assert_gt(n_secret, 1000);
    cr_assert(network_block(network, client, 0)->account->public_seed, "the simulator is repeatable, and says so");
    expect_pairs(network_wait(network,
                              network_ask_pairs(network, "n0", "n2", 1000, QNET__V1__AXES_SET__AXES_SET_XYZ, 0, 100),
                              100),
                 1000, qn_chain_fidelity(0.98, 1), "pairs");
    cr_assert_gt(n_open, 10, "%u", n_open);
    network_free(network);
}

static ProtobufCBinaryData key_of_run(struct network *network) {
    uint64_t client = network_ask_bb84_pulses(network, "n0", "n2", 1, 14000);
    network_summary(network_wait(network, client, 10000));
    const Qnet__V1__Bb84Block *block = network_block(network, client, 0);
    cr_assert_gt(block->secret, block->account->pool_bits);
    cluster_run_until(network->cluster, cluster_now(network->cluster) + 1000000000);
    return take(network, "n0", block->key_id);
}

Test(bbm92, a_simulation_is_repeatable) {
    struct network *first = chain(1, 0.98, 936, false), *second = chain(1, 0.98, 936, false);
    ProtobufCBinaryData a = key_of_run(first), b = key_of_run(second);
    cr_assert_eq(a.len, b.len);
    cr_assert_gt(a.len, 50);
    cr_assert_eq(memcmp(a.data, b.data, a.len), 0);
    network_free(first);
    network_free(second);
}

/* A pool that is used up stops the making of keys, and says so; nothing is used twice. */
Test(bbm92, a_pool_that_is_used_up_stops_it) {
    struct network *network = chain(1, 0.98, 937, false);
    const Qnet__V1__ControlResponse *response = NULL;
    uint64_t left = UINT64_MAX;
    network->secret_len = 0;             /* Restarts bring none. */
    for (unsigned i = 0; i < 400; i++) { /* Too few pairs for a key, so that nothing comes back into the pool. */
        uint64_t client = network_ask_bb84_pulses(network, "n0", "n2", 1, 300);
        response = network_wait(network, client, 100);
        if (response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_ERROR) break;
        const Qnet__V1__Bb84Account *account = network_block(network, client, 0)->account;
        cr_assert_lt(account->pool_left, left);
        cr_assert_lt(account->net_bits, 0);
        left = account->pool_left;
    }
    expect_error(response, "pads");
    network_free(network);
}

/* Given up by its client, or with either end or the repeater dead, at many times. */
Test(bbm92, leaves_nothing_behind_when_it_is_given_up) {
    for (unsigned when = 0; when < 3; when++)
        for (unsigned who = 0; who < 4; who++) {
            struct network *network = chain(1, 0.98, 910 + when, true);
            uint64_t client = network_ask_bb84_pulses(network, "n0", "n2", 2, 1000);
            cluster_run_until(network->cluster,
                              cluster_now(network->cluster) + (UINT64_C(20000) << 4 * when)); /* 20 us to 5 ms. */
            if (who == 3)
                cluster_client_gone(network->cluster, 0, client);
            else
                cluster_crash(network->cluster, (uint16_t)who);
            cluster_run_until(network->cluster, cluster_now(network->cluster) + 1000000);
            if (who != 3) cluster_start(network->cluster, (uint16_t)who);
            if (who == 1 || who == 2)
                network_wait(network, client, 100); /* A key if it had hardly begun, or an error. */
            expect_nothing_left(network, false);
            client = network_ask_bb84_pulses(network, "n2", "n0", 1, 1000); /* And it works again. */
            network_summary(network_wait(network, client, 100));
            expect_nothing_left(network, true);
            network_free(network);
        }
}
