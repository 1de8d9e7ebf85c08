/* SPDX-License-Identifier: Apache-2.0 */
/* The crash matrix: every role of every protocol dies after every step it takes, until the protocol is over before it
 * can. Whoever lives on is answered, by the right cause; what he holds is what physics leaves; and when the dead one is
 * back, as a new life, everything works again.
 *
 * A step is a message, a request, a timer or a session that a node deals with; of what it has sent last, a random
 * beginning arrives. Odd runs start the dead node again at once, even ones only after it has been declared dead. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "network.h"
#include "plane/plane.h"
#include "qnet/v1/app.pb-c.h"
#include "qnet/v1/plane.pb-c.h"

#define XYZ QNET__V1__AXES_SET__AXES_SET_XYZ
#define SECOND UINT64_C(1000000000)
#define DEAD_AFTER "2s"
#define TIMEOUT_S 20
#define STEPS_MAX 3000

struct scenario {
    const char *name, *yaml, *nodes; /* Roles, by name, with blanks between. */
    uint64_t (*ask)(struct network *network);
    const char *head, *tail;
    bool keys; /* No pairs to look at; with initial secrets. */
    double fidelity;
};

struct times { /* From a crash, in emulated seconds; the longest of each. */
    double detection, answer, service;
};

struct victim {
    uint16_t node;
    uint64_t steps, crash_at;
    bool armed;
};

static struct victim victim; /* Of the run at hand. */

static void on_step(struct network *network, uint16_t node, const struct qn_event *event) {
    (void)network;
    (void)event;
    if (victim.armed && node == victim.node) victim.steps++;
}

/* ---- what is asked ---- */

static uint64_t ask_link(struct network *network) { return network_ask_keep(network, "a", "b", 3, TIMEOUT_S); }
static uint64_t ask_measured(struct network *network) {
    return network_ask_pairs(network, "a", "b", 40, XYZ, 0, TIMEOUT_S);
}
static uint64_t ask_swap(struct network *network) { return network_ask_keep(network, "a", "c", 3, TIMEOUT_S); }
static uint64_t ask_teleport(struct network *network) { return network_ask_teleport(network, "a", "c", 1.1, 0.4, 5); }
static uint64_t ask_key(struct network *network) {
    return network_ask_bb84_pulses(network, "laser", "receiver", 2, 40000);
}

static uint64_t ask_key_of_pairs(struct network *network) { return network_ask_bb84_pulses(network, "a", "c", 1, 24); }

#define HEAD "version: 1\nnetwork: matrix\nnode_dead_after: " DEAD_AFTER "\n"
#define ENDS "  a: {role: memory, memories: 8}\n  b: {role: memory, memories: 8}\n"
#define CHAIN_OF(fidelity)                                                                                             \
    HEAD "defaults: {link: {model: ideal, fidelity: " fidelity                                                         \
         ", probability: 50%, length: 1km, attempt_time: 10us}}\n"                                                     \
         "nodes:\n  a: {role: memory, memories: 8}\n  r: {role: repeater, memories: 8}\n"                              \
         "  c: {role: memory, memories: 8}\nlinks:\n  ar: {between: [a, r]}\n  rc: {between: [r, c]}\n"
#define CHAIN CHAIN_OF("0.95")
#define LONG_CHAIN                                                                                                     \
    HEAD "defaults: {link: {model: ideal, fidelity: 0.95, probability: 50%, length: 1km, attempt_time: 10us}}\n"       \
         "nodes:\n  c: {role: memory, memories: 8}\n  q: {role: repeater, memories: 8}\n"                              \
         "  r: {role: repeater, memories: 8}\n  a: {role: memory, memories: 8}\nlinks:\n  ar: {between: [a, r]}\n"     \
         "  rq: {between: [r, q]}\n  qc: {between: [q, c]}\n"

static const struct scenario scenarios[] = {
    {"link over a midpoint",
     HEAD "nodes:\n" ENDS "  m: {role: detector}\nlinks:\n  ab: {between: [a, b], via: m, model: double-click, "
          "emission_efficiency: 80%, length: 1km, attempt_time: 1us}\n",
     "a b m", ask_link, "a", "b", false, 1},
    {"link from a source",
     HEAD "nodes:\n" ENDS "  s: {role: source, source: pairs}\nlinks:\n  ab: {between: [a, b], via: s, fidelity: 0.95, "
          "probability: 50%, length: 1km, attempt_time: 1us}\n",
     "a b s", ask_link, "a", "b", false, 0.95},
    {"pairs measured directly",
     HEAD "nodes:\n" ENDS "  m: {role: detector}\nlinks:\n  ab: {between: [a, b], via: m, model: double-click, "
          "emission_efficiency: 80%, length: 1km, attempt_time: 1us}\n",
     "a b m", ask_measured, "a", "b", false, 1},
    {"swap", CHAIN, "a r c", ask_swap, "a", "c", false, 0},
    {"two swaps", LONG_CHAIN, "a r q c", ask_swap, "a", "c", false, 0},
    {"teleport", CHAIN, "a r c", ask_teleport, "a", "c", false, 0},
    {"bb84",
     HEAD "nodes:\n  laser: {role: source, source: single-photon, clock: 10MHz}\n  receiver: {role: detector, "
          "efficiency: 80%}\nlinks:\n  k: {between: [laser, receiver], kind: bb84, length: 1km}\n",
     "laser receiver", ask_key, "laser", "receiver", true, 0},
    {"bbm92", CHAIN_OF("1"), "a r c", ask_key_of_pairs, "a", "c", true, 0},
};

/* ---- one run ---- */

static bool is_answered(const struct network *network, uint64_t client) {
    for (size_t i = 0; i < network->n_answers; i++)
        if (network->answers[i].client == client && !network->answers[i].response->more) return true;
    return false;
}

static const Qnet__V1__ControlResponse *answer_to(const struct network *network, uint64_t client) {
    for (size_t i = 0; i < network->n_answers; i++)
        if (network->answers[i].client == client && !network->answers[i].response->more)
            return network->answers[i].response;
    return NULL;
}

static void run(struct network *network, double seconds) {
    cluster_run_until(network->cluster, cluster_now(network->cluster) + (uint64_t)(seconds * 1e9));
}

static double since(const struct network *network, uint64_t then) {
    return (double)(cluster_now(network->cluster) - then) * 1e-9;
}

/* The dead one is to blame, and is named. */
static void expect_cause(const struct scenario *scenario, const char *dead, uint64_t n,
                         const Qnet__V1__ControlResponse *response) {
    if (response->body_case != QNET__V1__CONTROL_RESPONSE__BODY_ERROR) return;
    const Qnet__V1__Error *error = response->error;
    bool right = strcmp(error->code, "peer_down") == 0 || strcmp(error->code, "unreachable") == 0;
    cr_assert(right && strstr(error->message, dead) != NULL, "%s, %s dies after step %lu: %s: %s", scenario->name, dead,
              (unsigned long)n, error->code, error->message);
}

static const Qnet__V1__ControlResponse *list_pairs(struct network *network, const char *node, uint64_t *ret_client) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__ListRequest m = QNET__V1__LIST_REQUEST__INIT;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_LIST;
    request.list = &m;
    m.kind = QNET__V1__LIST_KIND__LIST_KIND_PAIRS;
    *ret_client = network_ask(network, node, &request);
    return network_wait(network, *ret_client, 1);
}

static const Qnet__V1__PairInfo *pair_of(const struct network *network, uint64_t client, size_t i) {
    for (size_t k = 0; k < network->n_answers; k++)
        if (network->answers[k].client == client &&
            network->answers[k].response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_PAIR && i-- == 0)
            return network->answers[k].response->pair;
    return NULL;
}

static bool inspect(const struct network *network, const uint64_t *qubits, size_t n, double *ret_tensor) {
    for (uint16_t i = 0; i < network->topology.n_nodes; i++) {
        const struct qn_node *node = cluster_node(network->cluster, i);
        if (node != NULL &&
            qn_plane_inspect(qn_node_plane(node), qubits, n, cluster_now(network->cluster), ret_tensor) == 0)
            return true;
    }
    return false;
}

/* Whoever lives has halves with exact marginals; of a pair both of whose ends live, nothing is lost, whoever made it;
 * but if no way led from one end to the other for too long, they have given each other up (`apart`). */
static void expect_physics(struct network *network, const struct scenario *scenario, const char *dead, uint64_t n,
                           bool apart) {
    const char *ends[2] = {scenario->head, scenario->tail};
    uint64_t lists[2] = {0, 0};
    for (int end = 0; end < 2; end++) {
        if (strcmp(ends[end], dead) == 0) continue;
        list_pairs(network, ends[end], &lists[end]);
        for (size_t i = 0;; i++) {
            const Qnet__V1__PairInfo *pair = pair_of(network, lists[end], i);
            double t[4];
            if (pair == NULL) break;
            if (strcmp(pair->state, "pending") == 0 || !inspect(network, &pair->qubit, 1, t)) continue;
            if (strstr(scenario->name, "teleport") != NULL) continue; /* It may hold what was sent. */
            for (int k = 1; k < 4; k++)
                cr_assert_float_eq(t[k], 0, 1e-9, "%s, %s dies after step %lu: %s is left with (%g, %g, %g)",
                                   scenario->name, dead, (unsigned long)n, ends[end], t[1], t[2], t[3]);
        }
    }
    for (size_t i = 0; lists[0] != 0 && lists[1] != 0 && !apart; i++) {
        const Qnet__V1__PairInfo *mine = pair_of(network, lists[0], i), *theirs;
        if (mine == NULL) break;
        for (size_t k = 0; (theirs = pair_of(network, lists[1], k)) != NULL; k++) {
            if (theirs->circuit != mine->circuit || theirs->sequence != mine->sequence) continue;
            if (strcmp(mine->state, "usable") != 0 || strcmp(theirs->state, "usable") != 0) continue;
            double t[16];
            uint64_t both[2] = {mine->qubit, theirs->qubit};
            if (scenario->fidelity == 0 && strcmp(scenario->name, "teleport") == 0) continue;
            cr_assert(inspect(network, both, 2, t), "%s, %s dies after step %lu: a pair of the living was torn apart",
                      scenario->name, dead, (unsigned long)n);
            double f = (1 + t[5] - t[10] + t[15]) / 4;
            cr_assert(f > 0.8, "%s, %s dies after step %lu: fidelity %g", scenario->name, dead, (unsigned long)n, f);
        }
    }
}

static void discard_all(struct network *network, const char *node) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__DiscardRequest m = QNET__V1__DISCARD_REQUEST__INIT;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_DISCARD;
    request.discard = &m;
    m.all = true;
    network_wait(network, network_ask(network, node, &request), 1);
}

static void expect_nothing_left(struct network *network, const struct scenario *scenario, const char *dead,
                                uint64_t n) {
    for (size_t i = 0; i < network->topology.n_nodes; i++) {
        const char *name = network->topology.nodes[i].name;
        const struct qn_plane *plane = qn_node_plane(cluster_node(network->cluster, (uint16_t)i));
        Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
        Qnet__V1__StatusRequest m = QNET__V1__STATUS_REQUEST__INIT;
        request.body_case = QNET__V1__CONTROL_REQUEST__BODY_STATUS;
        request.status = &m;
        const Qnet__V1__StatusInfo *status = network_wait(network, network_ask(network, name, &request), 1)->status;
        cr_assert(
            status->memories_used == 0 && status->requests == 0 && status->hosted_groups == 0 &&
                qn_plane_n_pending(plane) == 0 && qn_plane_n_owned(plane) == 0,
            "%s, %s dies after step %lu: %s is left with %u memories, %u requests, %u states, %zu operations, %zu "
            "qubits",
            scenario->name, dead, (unsigned long)n, name, status->memories_used, status->requests,
            status->hosted_groups, qn_plane_n_pending(plane), qn_plane_n_owned(plane));
    }
}

static double last_event(const struct network *network, const char *code, uint64_t after_ns) {
    double last = 0;
    for (size_t i = 0; i < network->n_events; i++)
        if (network->events[i].t_ns >= after_ns && strcmp(network->events[i].code, code) == 0)
            last = (double)(network->events[i].t_ns - after_ns) * 1e-9;
    return last;
}

static void longest(double *at, double seconds) {
    if (seconds > *at) *at = seconds;
}

/* False: the protocol was over before the victim had taken so many steps. */
static bool run_once(const struct scenario *scenario, const char *dead, uint64_t n, uint64_t seed,
                     struct times *times) {
    struct network *network = network_new_with_secret(scenario->yaml, seed, 2000, scenario->keys ? 4096 : 0);
    network->on_step = on_step;
    victim = (struct victim){.node = network_node(network, dead), .crash_at = n, .armed = true};
    uint64_t client = scenario->ask(network), limit = cluster_now(network->cluster) + 60 * SECOND;
    bool head_dies = strcmp(scenario->head, dead) == 0;
    while (victim.steps < n && !is_answered(network, client) && cluster_now(network->cluster) < limit)
        cr_assert(cluster_step(network->cluster), "%s: nothing goes on", scenario->name);
    bool over = victim.steps < n;
    victim.armed = false;
    uint64_t then = cluster_now(network->cluster);
    if (!over) {
        bool at_once = n % 2 == 1;
        cluster_crash(network->cluster, victim.node);
        if (at_once) {
            run(network, 0.01);
            cluster_start(network->cluster, victim.node);
        }
        if (!head_dies) {
            while (!is_answered(network, client) && since(network, then) < 2 * TIMEOUT_S)
                cr_assert(cluster_step(network->cluster), "%s: nothing goes on", scenario->name);
            cr_assert(is_answered(network, client), "%s, %s dies after step %lu: no answer", scenario->name, dead,
                      (unsigned long)n);
            longest(&times->answer, since(network, then));
            expect_cause(scenario, dead, n, answer_to(network, client));
        }
        run(network, 6);
        longest(&times->detection, last_event(network, "peer_gone", then));
        if (!scenario->keys) expect_physics(network, scenario, dead, n, !at_once);
        uint64_t back = cluster_now(network->cluster);
        if (!at_once) {
            cluster_start(network->cluster, victim.node);
            run(network, 3); /* Those who gave each other up meanwhile meet again. */
        }
        if (!scenario->keys)
            for (size_t i = 0; i < network->topology.n_nodes; i++)
                discard_all(network, network->topology.nodes[i].name);
        const Qnet__V1__ControlResponse *response = network_wait(network, scenario->ask(network), 60);
        cr_assert_neq(response->body_case, QNET__V1__CONTROL_RESPONSE__BODY_ERROR, "%s, %s dies after step %lu: %s",
                      scenario->name, dead, (unsigned long)n,
                      response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_ERROR ? response->error->message : "");
        longest(&times->service, since(network, back));
        run(network, 1);
        if (!scenario->keys)
            for (size_t i = 0; i < network->topology.n_nodes; i++)
                discard_all(network, network->topology.nodes[i].name);
        run(network, 30);
        expect_nothing_left(network, scenario, dead, n);
    }
    network_free(network);
    return !over;
}

static uint64_t number(const char *variable, uint64_t otherwise) {
    const char *text = getenv(variable);
    return text == NULL ? otherwise : strtoull(text, NULL, 0);
}

/* QN_TEST_RUNS: schedules of each cell (5). A failure is repeated with QN_TEST_VICTIM, QN_TEST_STEP and QN_TEST_SEED.
 */
static void matrix(size_t which) {
    const struct scenario *scenario = &scenarios[which];
    const char *only = getenv("QN_TEST_VICTIM");
    char nodes[64], *save = NULL;
    snprintf(nodes, sizeof nodes, "%s", scenario->nodes);
    for (char *dead = strtok_r(nodes, " ", &save); dead != NULL; dead = strtok_r(NULL, " ", &save)) {
        struct times times = {0};
        uint64_t first = number("QN_TEST_SEED", 0), runs = number("QN_TEST_RUNS", 5), cells = 0;
        if (only != NULL && strcmp(only, dead) != 0) continue;
        for (uint64_t seed = first; seed < first + runs; seed++) {
            uint64_t n = number("QN_TEST_STEP", 1);
            if (getenv("QN_TEST_TRACE") != NULL) fprintf(stderr, "# seed %lu\n", (unsigned long)seed);
            while (n < STEPS_MAX && run_once(scenario, dead, n, seed << 16 | n, &times)) n++;
            cr_assert_lt(n, STEPS_MAX);
            cr_assert_gt(n, 3, "%s: %s took no part", scenario->name, dead);
            cells += n - 1;
        }
        fprintf(stderr,
                "# %s: %s dies after each of %lu steps; noticed by all within %.3f s, answered within %.3f s, full "
                "service %.3f s after it may come back\n",
                scenario->name, dead, (unsigned long)cells, times.detection, times.answer, times.service);
    }
}

Test(crash_matrix, link_over_a_midpoint) { matrix(0); }
Test(crash_matrix, link_from_a_source) { matrix(1); }
Test(crash_matrix, pairs_measured_directly) { matrix(2); }
Test(crash_matrix, swap) { matrix(3); }
Test(crash_matrix, two_swaps) { matrix(4); }
Test(crash_matrix, teleport) { matrix(5); }
Test(crash_matrix, bb84) { matrix(6); }
Test(crash_matrix, bbm92) { matrix(7); } /* From pairs over a repeater; authenticated. */
