/* SPDX-License-Identifier: Apache-2.0 */
#include "network.h"

#include "base/rng.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void mix(struct network *network, const void *bytes, size_t len) { /* FNV-1a */
    for (const uint8_t *at = bytes; len > 0; len--, at++)
        network->trace = (network->trace ^ *at) * UINT64_C(0x100000001b3);
}

static void on_reply(void *context, uint16_t node, uint64_t client, const Qnet__V1__ControlResponse *response) {
    struct network *network = context;
    (void)node;
    size_t len = qnet__v1__control_response__get_packed_size(response);
    uint8_t *bytes = malloc(len + 1);
    qnet__v1__control_response__pack(response, bytes);
    mix(network, bytes, len);
    network->answers = realloc(network->answers, (network->n_answers + 1) * sizeof *network->answers);
    network->answers[network->n_answers++] =
        (struct answer){client, qnet__v1__control_response__unpack(NULL, len, bytes)};
    free(bytes);
    if (!response->more && client == network->waiting_for)
        network->last = network->answers[network->n_answers - 1].response;
}

static void on_step(void *context, uint16_t node, const struct qn_event *event) {
    struct network *network = context;
    if (network->on_step != NULL) network->on_step(network, node, event);
}

static void on_event(void *context, const Qnet__V1__EventInfo *info) {
    struct network *network = context;
    mix(network, &info->t_ns, sizeof info->t_ns);
    mix(network, info->text, strlen(info->text));
    if (network->n_events == network->cap_events) {
        network->cap_events = network->cap_events == 0 ? 256 : 2 * network->cap_events;
        network->events = realloc(network->events, network->cap_events * sizeof *network->events);
    }
    struct event *event = &network->events[network->n_events++];
    event->t_ns = info->t_ns;
    snprintf(event->node, sizeof event->node, "%s", info->node);
    snprintf(event->code, sizeof event->code, "%s", info->code);
    snprintf(event->subject, sizeof event->subject, "%s", info->subject);
    snprintf(event->text, sizeof event->text, "%s", info->text);
}

unsigned network_events(const struct network *network, const char *node, const char *code) {
    unsigned n = 0;
    for (size_t i = 0; i < network->n_events; i++)
        n += strcmp(network->events[i].code, code) == 0 && (node == NULL || strcmp(network->events[i].node, node) == 0);
    return n;
}

#define SECRET_MAX 65536

/* The same bytes at both ends of each pair of nodes, and others for each pair. */
static const struct qn_initial_secret *secrets_of(void *context, uint16_t node, size_t *ret_len) {
    struct network *network = context;
    size_t n = 0;
    for (uint16_t peer = 0; peer < network->topology.n_nodes && network->secret_len > 0; peer++) {
        if (peer == node || (network->secret_of != QN_NO_NODE && network->secret_of != node)) continue;
        uint8_t *bytes =
            network->secrets[n].bytes != NULL ? (uint8_t *)(uintptr_t)network->secrets[n].bytes : malloc(SECRET_MAX);
        struct qn_rng rng;
        qn_rng_init(&rng, 1, "secret", (uint64_t)(node < peer ? node : peer) << 16 | (node < peer ? peer : node));
        for (size_t i = 0; i < network->secret_len; i++) bytes[i] = (uint8_t)qn_rng_u64(&rng);
        network->secrets[n++] = (struct qn_initial_secret){peer, bytes, network->secret_len};
    }
    *ret_len = n;
    return network->secrets;
}

struct pace {
    uint64_t jitter_ns, job_ns;
    unsigned threads;
};

static struct network *make(const char *yaml, uint64_t seed, struct pace pace, bool check, size_t secret_len,
                            uint16_t secret_of) {
    struct network *network = calloc(1, sizeof *network);
    struct qn_buf diagnostics = {0};
    cr_assert_geq(sodium_init(), 0);
    int rc = qn_topology_parse("test.yaml", yaml, strlen(yaml), &network->topology, &diagnostics);
    cr_assert_eq(rc, 0, "%.*s", (int)diagnostics.len, (const char *)diagnostics.data);
    qn_buf_release(&diagnostics);
    network->topology.seed = seed;
    network->trace = UINT64_C(0xcbf29ce484222325);
    network->secret_len = secret_len;
    network->secret_of = secret_of;
    network->secrets = calloc(network->topology.n_nodes, sizeof *network->secrets);
    struct cluster_config config = {.topology = &network->topology,
                                    .seed = seed,
                                    .latency_ns = 1000,
                                    .jitter_ns = pace.jitter_ns,
                                    .job_ns = pace.job_ns,
                                    .threads = pace.threads,
                                    .check = check,
                                    .context = network,
                                    .secrets = secrets_of,
                                    .on_reply = on_reply,
                                    .on_event = on_event,
                                    .on_step = on_step};
    cr_assert_eq(cluster_new(&config, &network->cluster), 0);
    cluster_run_until(network->cluster, 1000000);
    return network;
}

struct network *network_new(const char *yaml, uint64_t seed, uint64_t jitter_ns, bool check) {
    return make(yaml, seed, (struct pace){.jitter_ns = jitter_ns}, check, 0, QN_NO_NODE);
}

struct network *network_new_with_secret(const char *yaml, uint64_t seed, uint64_t jitter_ns, size_t secret_len) {
    return make(yaml, seed, (struct pace){.jitter_ns = jitter_ns}, true, secret_len, QN_NO_NODE);
}

struct network *network_new_unchecked(const char *yaml, uint64_t seed, uint64_t jitter_ns, size_t secret_len) {
    return make(yaml, seed, (struct pace){.jitter_ns = jitter_ns}, false, secret_len, QN_NO_NODE);
}

struct network *network_new_with_half_a_secret(const char *yaml, uint64_t seed) {
    return make(yaml, seed, (struct pace){0}, true, 4096, 0);
}

struct network *network_new_with_threads(const char *yaml, uint64_t seed, unsigned threads, uint64_t job_ns) {
    return make(yaml, seed, (struct pace){.job_ns = job_ns, .threads = threads}, true, 4096, QN_NO_NODE);
}

struct network *network_chain(unsigned repeaters, const char *link, const char *node, uint64_t seed,
                              uint64_t jitter_ns) {
    char yaml[4096];
    int n = snprintf(yaml, sizeof yaml, "version: 1\nnetwork: chain\ndefaults: {node: {%s}, link: {%s}}\nnodes:\n",
                     node, link);
    for (unsigned i = 0; i <= repeaters + 1; i++)
        n += snprintf(yaml + n, sizeof yaml - (size_t)n, "  n%u: {role: %s, memories: 64}\n", i,
                      i == 0 || i == repeaters + 1 ? "memory" : "repeater");
    n += snprintf(yaml + n, sizeof yaml - (size_t)n, "links:\n");
    for (unsigned i = 0; i <= repeaters; i++)
        n += snprintf(yaml + n, sizeof yaml - (size_t)n, "  l%u: {between: [n%u, n%u]}\n", i, i, i + 1);
    return network_new(yaml, seed, jitter_ns, false);
}

void network_free(struct network *network) {
    cluster_free(network->cluster);
    for (size_t i = 0; i < network->n_answers; i++)
        qnet__v1__control_response__free_unpacked(network->answers[i].response, NULL);
    for (size_t i = 0; i < network->topology.n_nodes; i++) free((void *)(uintptr_t)network->secrets[i].bytes);
    free(network->secrets);
    free(network->answers);
    free(network->events);
    qn_topology_release(&network->topology);
    free(network);
}

uint16_t network_node(const struct network *network, const char *name) {
    int node = qn_topology_find_node(&network->topology, name);
    cr_assert_geq(node, 0, "%s", name);
    return (uint16_t)node;
}

uint64_t network_ask(struct network *network, const char *node, Qnet__V1__ControlRequest *request) {
    uint64_t client = ++network->next_client;
    request->id = 1;
    cluster_request(network->cluster, network_node(network, node), client, request);
    return client;
}

static bool is_answered(void *context) { return ((struct network *)context)->last != NULL; }

const Qnet__V1__ControlResponse *network_wait(struct network *network, uint64_t client, double seconds) {
    network->last = NULL;
    network->waiting_for = client;
    for (size_t i = 0; i < network->n_answers; i++)
        if (network->answers[i].client == client && !network->answers[i].response->more)
            network->last = network->answers[i].response;
    bool done = cluster_run_while(network->cluster, is_answered, network, (uint64_t)(seconds * 1e9));
    cr_assert(done, "seed %lu: no answer to request %lu within %g s", (unsigned long)network->topology.seed,
              (unsigned long)client, seconds);
    for (uint16_t i = 0; i < network->topology.n_nodes; i++)
        if (cluster_node(network->cluster, i) != NULL) qn_node_check(cluster_node(network->cluster, i));
    return network->last;
}

#define ASK(which, WHICH, type)                                                                                        \
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;                                                \
    Qnet__V1__##type m = which;                                                                                        \
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_##WHICH

uint64_t network_ask_pairs(struct network *network, const char *node, const char *peer, uint32_t number, uint32_t axes,
                           double min_fidelity, double timeout_s) {
    ASK(QNET__V1__PAIR_REQUEST__INIT, PAIR, PairRequest);
    request.pair = &m;
    m.peer = (char *)(uintptr_t)peer;
    m.number = number;
    m.measure = true;
    m.quiet = true;
    m.axes = axes;
    m.min_fidelity = min_fidelity;
    m.timeout_ns = (uint64_t)(timeout_s * 1e9);
    return network_ask(network, node, &request);
}

uint64_t network_ask_keep(struct network *network, const char *node, const char *peer, uint32_t number,
                          double timeout_s) {
    ASK(QNET__V1__PAIR_REQUEST__INIT, PAIR, PairRequest);
    request.pair = &m;
    m.peer = (char *)(uintptr_t)peer;
    m.number = number;
    m.timeout_ns = (uint64_t)(timeout_s * 1e9);
    return network_ask(network, node, &request);
}

uint64_t network_ask_teleport(struct network *network, const char *node, const char *peer, double theta, double phi,
                              uint32_t number) {
    ASK(QNET__V1__TELEPORT_REQUEST__INIT, TELEPORT, TeleportRequest);
    request.teleport = &m;
    m.peer = (char *)(uintptr_t)peer;
    m.theta = theta;
    m.phi = phi;
    m.number = number;
    m.tomography = true;
    return network_ask(network, node, &request);
}

uint64_t network_ask_bb84_pulses(struct network *network, const char *node, const char *peer, uint32_t blocks,
                                 uint64_t pulses) {
    ASK(QNET__V1__BB84_REQUEST__INIT, BB84, Bb84Request);
    request.bb84 = &m;
    m.peer = (char *)(uintptr_t)peer;
    m.blocks = blocks;
    m.block_pulses = pulses;
    m.timeout_ns = UINT64_C(10000000000000);
    return network_ask(network, node, &request);
}

const Qnet__V1__Bb84Block *network_block(const struct network *network, uint64_t client, size_t index) {
    for (size_t i = 0; i < network->n_answers; i++)
        if (network->answers[i].client == client &&
            network->answers[i].response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_BB84_BLOCK && index-- == 0)
            return network->answers[i].response->bb84_block;
    cr_assert_fail("no such block");
    return NULL;
}

const Qnet__V1__Bb84Summary *network_summary(const Qnet__V1__ControlResponse *response) {
    cr_assert_eq(response->body_case, QNET__V1__CONTROL_RESPONSE__BODY_BB84_SUMMARY, "%s",
                 response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_ERROR ? response->error->message : "?");
    return response->bb84_summary;
}

void network_attack(struct network *network, const char *node, const char *link, const char *attack, double fraction,
                    double ratio) {
    ASK(QNET__V1__FAULT_REQUEST__INIT, FAULT, FaultRequest);
    request.fault = &m;
    m.link = (char *)(uintptr_t)link;
    m.kind = QNET__V1__FAULT_KIND__FAULT_KIND_ATTACK;
    m.attack = (char *)(uintptr_t)attack;
    m.value = fraction;
    m.ratio = ratio;
    const Qnet__V1__ControlResponse *response = network_wait(network, network_ask(network, node, &request), 1);
    cr_assert_eq(response->body_case, QNET__V1__CONTROL_RESPONSE__BODY__NOT_SET, "%s: %s", attack,
                 response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_ERROR ? response->error->message : "?");
}

uint64_t network_ask_bb84(struct network *network, const char *node, const char *peer, uint32_t blocks,
                          double qber_limit) {
    ASK(QNET__V1__BB84_REQUEST__INIT, BB84, Bb84Request);
    request.bb84 = &m;
    m.peer = (char *)(uintptr_t)peer;
    m.blocks = blocks;
    m.qber_limit = qber_limit;
    return network_ask(network, node, &request);
}

void network_fault(struct network *network, const char *node, const char *link, Qnet__V1__FaultKind kind,
                   double value) {
    ASK(QNET__V1__FAULT_REQUEST__INIT, FAULT, FaultRequest);
    request.fault = &m;
    m.link = (char *)(uintptr_t)link;
    m.kind = kind;
    m.value = value;
    const Qnet__V1__ControlResponse *response = network_wait(network, network_ask(network, node, &request), 1);
    cr_assert_neq(response->body_case, QNET__V1__CONTROL_RESPONSE__BODY_ERROR);
}

uint32_t network_gate(struct network *network, const char *node, uint32_t kind, const uint64_t *qubits, size_t n,
                      const double *args, size_t n_args) {
    ASK(QNET__V1__GATE_REQUEST__INIT, GATE, GateRequest);
    Qnet__V1__GateStep step = QNET__V1__GATE_STEP__INIT, *steps[1] = {&step};
    request.gate = &m;
    m.steps = steps;
    m.n_steps = 1;
    step.kind = kind;
    step.qubits = (uint64_t *)(uintptr_t)qubits;
    step.n_qubits = n;
    step.args = (double *)(uintptr_t)args;
    step.n_args = n_args;
    const Qnet__V1__ControlResponse *response = network_wait(network, network_ask(network, node, &request), 10);
    cr_assert_eq(response->body_case, QNET__V1__CONTROL_RESPONSE__BODY_GATE, "%s",
                 response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_ERROR ? response->error->message : "?");
    return response->gate->n_outcomes > 0 ? response->gate->outcomes[0] : 0;
}

const Qnet__V1__PairInfo *network_pair(const struct network *network, uint64_t client, size_t i) {
    for (size_t k = 0; k < network->n_answers; k++)
        if (network->answers[k].client == client &&
            network->answers[k].response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_PAIR && i-- == 0)
            return network->answers[k].response->pair;
    cr_assert_fail("no such pair");
    return NULL;
}

uint64_t network_partner(struct network *network, const char *node, const Qnet__V1__PairInfo *pair) {
    ASK(QNET__V1__LIST_REQUEST__INIT, LIST, ListRequest);
    request.list = &m;
    m.kind = QNET__V1__LIST_KIND__LIST_KIND_PAIRS;
    for (int tries = 0; tries < 100; tries++) { /* Its track may still be on its way. */
        uint64_t client = network_ask(network, node, &request);
        network_wait(network, client, 1);
        for (size_t k = 0; k < network->n_answers; k++) {
            const Qnet__V1__ControlResponse *r = network->answers[k].response;
            if (network->answers[k].client == client && r->body_case == QNET__V1__CONTROL_RESPONSE__BODY_PAIR &&
                r->pair->circuit == pair->circuit && r->pair->sequence == pair->sequence)
                return r->pair->qubit;
        }
        cluster_run_until(network->cluster, cluster_now(network->cluster) + 10000000);
    }
    cr_assert_fail("seed %lu: %s has no half of pair %lu", (unsigned long)network->topology.seed, node,
                   (unsigned long)pair->sequence);
    return 0;
}

static void sum_of(const Qnet__V1__PairSummary *summary, uint32_t a, uint32_t b, double *ret_mean, double *ret_n) {
    *ret_n = *ret_mean = 0;
    for (size_t i = 0; i < summary->n_sums; i++)
        if (summary->sums[i]->axis == a && summary->sums[i]->peer_axis == b) {
            *ret_n = (double)summary->sums[i]->trials;
            *ret_mean = (double)summary->sums[i]->sum / *ret_n;
        }
}

double fidelity_of(const Qnet__V1__PairSummary *summary, double *ret_error) {
    static const double sign[3] = {1, -1, 1};
    double f = 1, variance = 0;
    for (uint32_t axis = 0; axis < 3; axis++) {
        double mean, n;
        sum_of(summary, axis, axis, &mean, &n);
        f += sign[axis] * mean;
        variance += n > 0 ? (1 - mean * mean + 1 / n) / n : 1;
    }
    *ret_error = sqrt(variance) / 4;
    return f / 4;
}

double chsh_of(const Qnet__V1__PairSummary *summary, double *ret_error) { /* E(Z,+) + E(Z,-) + E(X,+) - E(X,-) */
    double s = 0, variance = 0;
    for (uint32_t a = 0; a < 2; a++)
        for (uint32_t b = 0; b < 2; b++) {
            double mean, n;
            sum_of(summary, a == 0 ? 2 : 0, 3 + b, &mean, &n);
            s += a == 1 && b == 1 ? -mean : mean;
            variance += n > 0 ? (1 - mean * mean) / n : 1;
        }
    *ret_error = sqrt(variance);
    return s;
}

void expect_error(const Qnet__V1__ControlResponse *response, const char *code) {
    cr_assert_eq(response->body_case, QNET__V1__CONTROL_RESPONSE__BODY_ERROR, "expected %s, got an answer", code);
    cr_assert_str_eq(response->error->code, code, "%s: %s", response->error->code, response->error->message);
}

void expect_pairs(const Qnet__V1__ControlResponse *response, uint32_t number, double fidelity, const char *what) {
    cr_assert_eq(response->body_case, QNET__V1__CONTROL_RESPONSE__BODY_PAIR_SUMMARY, "%s: %s", what,
                 response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_ERROR ? response->error->message : "?");
    const Qnet__V1__PairSummary *summary = response->pair_summary;
    cr_assert_eq(summary->delivered, number, "%s", what);
    double error, f = fidelity_of(summary, &error);
    cr_assert(fabs(f - fidelity) < 5 * error, "%s: fidelity %.4f +- %.4f, expected %.4f", what, f, error, fidelity);
}
