/* SPDX-License-Identifier: Apache-2.0 */
/* In this process: the arithmetic of states, and whole nodes without sockets. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "cluster.h"
#include "network.h"
#include "qnet/v1/app.pb-c.h"
#include "sim/state.h"

/* ---- kernels ---- */

/* None of these can fail but for want of memory. */
static void must(int rc) {
    if (rc < 0) abort();
}

struct kernel {
    struct qn_state *state;
    struct qn_rng rng;
    unsigned calls;
};

static const double weights[4] = {0.9, 0.05, 0.03, 0.02};

static struct qn_state *new_pair(void) {
    struct qn_state *pair;
    must(qn_state_new_bell_diagonal(weights, &pair));
    return pair;
}

static void create(void *context) {
    (void)context;
    qn_state_free(new_pair());
}

static void decay(void *context) {
    struct kernel *kernel = context;
    qn_state_t1t2(kernel->state, kernel->calls++ & 1, 1e-6, 1, 0.5, &kernel->rng);
}

static void gate(void *context) {
    struct kernel *kernel = context;
    must(qn_state_gate(kernel->state, QN_GATE_CNOT, (const size_t[]){0, 1}, NULL));
}

static void swap(void *context) {
    struct kernel *kernel = context;
    struct qn_state *pair;
    must(qn_state_swap_kernel(new_pair(), 1, new_pair(), 0, qn_rng_double(&kernel->rng), &pair));
    qn_state_free(pair);
}

/* Inside and across by turns, so that every outcome stays possible. */
static void bell(void *context) {
    struct kernel *kernel = context;
    size_t a = kernel->calls++ & 1;
    must(qn_state_bell_measure(kernel->state, a, a + 1, qn_rng_double(&kernel->rng)));
}

static void measure(void *context) {
    static const double axes[2][3] = {{0, 0, 1}, {1, 0, 0}};
    struct kernel *kernel = context;
    unsigned i = kernel->calls++;
    must(qn_state_measure(kernel->state, i & 1, axes[i >> 1 & 1], qn_rng_double(&kernel->rng)));
}

int bench_engine(struct bench *bench) {
    static const struct {
        const char *name;
        void (*once)(void *context);
        size_t qubits;
        const char *note;
    } kernels[] = {
        {"state-create-pair", create, 2, "one processor: malloc; created and freed"},
        {"state-t1t2", decay, 2, "one processor; one qubit of a pair"},
        {"state-cnot", gate, 2, "one processor; on a pair"},
        {"state-swap", swap, 2, "one processor: malloc; two pairs created, one freed"},
        {"state-measure", measure, 2, "one processor; one qubit of two"},
        {"state-bell-measure", bell, 4, "one processor; two qubits of four"},
    };
    for (size_t i = 0; i < sizeof kernels / sizeof kernels[0]; i++) {
        struct kernel kernel = {.state = NULL};
        qn_rng_init(&kernel.rng, 1, "bench", i);
        must(qn_state_new_zero(kernels[i].qubits, &kernel.state));
        double rate = bench_rate(bench, kernels[i].once, &kernel, 4096);
        bench_row(bench, kernels[i].name, rate, "/s", "", kernels[i].note);
        qn_state_free(kernel.state);
    }
    return 0;
}

/* ---- whole nodes ---- */

struct simulation {
    struct cluster *cluster;
    uint64_t pairs;
    bool is_idle, failed;
};

static void on_reply(void *context, uint16_t node, uint64_t client, const Qnet__V1__ControlResponse *response) {
    struct simulation *simulation = context;
    (void)node, (void)client;
    if (response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_ERROR) simulation->failed = true;
    if (response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_PAIR_SUMMARY)
        simulation->pairs += response->pair_summary->delivered;
    if (!response->more) simulation->is_idle = true;
}

static void ask_pairs(struct simulation *simulation) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__PairRequest body = QNET__V1__PAIR_REQUEST__INIT;
    char peer[] = "n2";
    body.peer = peer;
    body.number = 1000;
    body.timeout_ns = UINT64_C(1000000000000);
    body.measure = body.quiet = true;
    body.axes = QNET__V1__AXES_SET__AXES_SET_XYZ;
    request.id = 1;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_PAIR;
    request.pair = &body;
    simulation->is_idle = false;
    cluster_request(simulation->cluster, 0, 1, &request);
}

static int simulate(struct bench *bench, struct simulation *simulation) {
    double start_s = bench_now_s(), took_s = 0;
    cluster_run_until(simulation->cluster, 1000000000); /* Sessions and routes. */
    uint64_t before = cluster_steps(simulation->cluster);
    while (took_s < bench->seconds && !simulation->failed) {
        if (simulation->is_idle) ask_pairs(simulation);
        for (int i = 0; i < 1000 && !simulation->is_idle; i++)
            if (!cluster_step(simulation->cluster)) return bench_fail(bench, "the simulation stands still");
        took_s = bench_now_s() - start_s;
    }
    if (simulation->failed || simulation->pairs == 0) return bench_fail(bench, "no pairs in the simulation");
    const char *note = "one processor: three nodes, packing, unpacking, the queue";
    bench_row(bench, "sim-events", (double)(cluster_steps(simulation->cluster) - before) / took_s, "events/s", "",
              note);
    bench_row(bench, "sim-pairs", (double)simulation->pairs / took_s, "pairs/s", "", "the same, over one repeater");
    return 0;
}

int bench_sim(struct bench *bench) {
    char yaml[2048];
    struct qn_topology topology;
    struct qn_buf diagnostics = {0};
    network_chain_yaml(yaml, sizeof yaml, 3);
    int rc = qn_topology_parse("bench", yaml, strlen(yaml), &topology, &diagnostics);
    qn_buf_release(&diagnostics);
    if (rc < 0) return bench_fail(bench, "the topology is not understood");
    struct simulation simulation = {.is_idle = true};
    struct cluster_config config = {
        .topology = &topology, .seed = 1, .latency_ns = 10000, .context = &simulation, .on_reply = on_reply};
    must(cluster_new(&config, &simulation.cluster));
    rc = simulate(bench, &simulation);
    cluster_free(simulation.cluster);
    qn_topology_release(&topology);
    return rc;
}
