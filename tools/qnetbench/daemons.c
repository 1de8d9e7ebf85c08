/* SPDX-License-Identifier: Apache-2.0 */
/* Rates and latencies of real daemons, seen from the control socket, on networks whose physics takes no time. */
#include <stdio.h>
#include <string.h>

#include "network.h"
#include "qnet/v1/app.pb-c.h"
#include "qnet/v1/plane.pb-c.h"

#define TIMEOUT_NS UINT64_C(600000000000)
#define NUMBER_MAX 10000000 /* The most a request may ask for. */

static const char ends_note[] = "processors of the nodes: wire, state and protocol";
static const char wake_note[] = "processes waking each other";
static const char chain_note[] = "at most 64 pairs a side of a repeater at once, times the round trip; processors";

/* ---- starting ---- */

int bench_start(struct bench *bench) {
    struct samples up = {0};
    double rss_mib = 0;
    int rc = 0;
    for (int i = 0; i < 5 && rc == 0; i++) {
        struct network network;
        rc = network_chain_up(&network, bench, 2);
        if (rc < 0) break;
        samples_add(&up, network.up_s);
        rss_mib = network_node_rss_mib(&network, 0);
        network_down(&network);
    }
    if (rc == 0) {
        bench_row(bench, "start-to-ready", samples_quantile(&up, 0.5) * 1e3, "ms", "",
                  "two nodes: spawn, keys, dial, handshakes; median of 5");
        bench_row(bench, "idle-memory", rss_mib, "MiB", "", "one node, resident, libraries included");
    }
    samples_release(&up);
    return rc;
}

/* ---- requests of a number of things ---- */

struct job {
    struct network *network;
    Qnet__V1__ControlRequest request;
    uint32_t *number; /* In the request's body. */
    uint32_t done;    /* By the last call. */
};

static int take_summary(void *context, const Qnet__V1__ControlResponse *response) {
    struct job *job = context;
    if (response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_PAIR_SUMMARY)
        job->done = response->pair_summary->delivered;
    if (response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_TELEPORT_SUMMARY)
        job->done = response->teleport_summary->done;
    return 0;
}

static int run_job(struct job *job, uint32_t number) {
    *job->number = number;
    job->done = 0;
    if (network_call(job->network, 0, &job->request, take_summary, job) < 0) return -1;
    return job->done == number ? 0 : bench_fail(job->network->bench, "%u of %u done", job->done, number);
}

/* One request big enough to last: the number grows until it takes about bench->seconds. */
static int batch_row(struct job *job, const char *name, const char *unit, uint32_t first, const char *note) {
    struct bench *bench = job->network->bench;
    double number = first, took_s;
    char cpu[128];
    for (;;) {
        network_cpu_start(job->network);
        double start_s = bench_now_s();
        if (run_job(job, (uint32_t)number) < 0) return -1;
        took_s = bench_now_s() - start_s;
        network_cpu_text(job->network, cpu, sizeof cpu);
        if (took_s >= bench->seconds * 0.6 || number >= NUMBER_MAX) break;
        double growth = bench->seconds / took_s;
        number *= growth > 20 ? 20 : growth;
        if (number > NUMBER_MAX) number = NUMBER_MAX;
    }
    bench_row(bench, name, number / took_s, unit, cpu, note);
    return 0;
}

/* Requests for one, each when the one before is answered. */
static int single_rows(struct job *job, const char *rate_name, const char *unit, const char *p50_name,
                       const char *p99_name) {
    struct bench *bench = job->network->bench;
    struct samples latencies = {0};
    char cpu[128];
    int rc = 0;
    network_cpu_start(job->network);
    double start_s = bench_now_s(), now_s = start_s;
    while (rc == 0 && now_s - start_s < bench->seconds) {
        double sent_s = now_s;
        rc = run_job(job, 1);
        now_s = bench_now_s();
        samples_add(&latencies, now_s - sent_s);
    }
    network_cpu_text(job->network, cpu, sizeof cpu);
    if (rc == 0 && rate_name != NULL)
        bench_row(bench, rate_name, (double)latencies.n / (now_s - start_s), unit, cpu, wake_note);
    if (rc == 0) bench_row(bench, p50_name, samples_quantile(&latencies, 0.5) * 1e6, "us", cpu, wake_note);
    if (rc == 0) bench_row(bench, p99_name, samples_quantile(&latencies, 0.99) * 1e6, "us", cpu, wake_note);
    samples_release(&latencies);
    return rc;
}

/* ---- pairs ---- */

static struct job pair_job(struct network *network, Qnet__V1__PairRequest *body) {
    struct job job = {.network = network, .request = QNET__V1__CONTROL_REQUEST__INIT, .number = &body->number};
    qnet__v1__pair_request__init(body);
    body->peer = network->nodes[network->n_nodes - 1].name;
    body->timeout_ns = TIMEOUT_NS;
    body->measure = true;
    body->axes = QNET__V1__AXES_SET__AXES_SET_XYZ;
    body->quiet = true;
    job.request.body_case = QNET__V1__CONTROL_REQUEST__BODY_PAIR;
    job.request.pair = body;
    return job;
}

int bench_pairs(struct bench *bench) {
    struct network network;
    Qnet__V1__PairRequest body;
    if (network_chain_up(&network, bench, 2) < 0) return -1;
    struct job job = pair_job(&network, &body);
    int rc = batch_row(&job, "pairs", "pairs/s", 200000, ends_note);
    if (rc == 0) rc = single_rows(&job, "pairs-one-by-one", "pairs/s", "pairs-one-p50", "pairs-one-p99");
    network_down(&network);
    return rc;
}

static int chain_row(struct bench *bench, const char *name, size_t n) {
    struct network network;
    Qnet__V1__PairRequest body;
    if (network_chain_up(&network, bench, n) < 0) return -1;
    struct job job = pair_job(&network, &body);
    int rc = batch_row(&job, name, "pairs/s", 2000, chain_note);
    network_down(&network);
    return rc;
}

int bench_chain(struct bench *bench) {
    int rc = chain_row(bench, "chain-1-repeater", 3);
    return rc == 0 ? chain_row(bench, "chain-3-repeaters", 5) : rc;
}

/* ---- teleportation ---- */

int bench_teleport(struct bench *bench) {
    struct network network;
    Qnet__V1__TeleportRequest body = QNET__V1__TELEPORT_REQUEST__INIT;
    if (network_chain_up(&network, bench, 2) < 0) return -1;
    struct job job = {.network = &network, .request = QNET__V1__CONTROL_REQUEST__INIT, .number = &body.number};
    body.peer = network.nodes[1].name;
    body.theta = 1;
    body.tomography = true; /* The receiver measures, so that its memories are free again. */
    body.timeout_ns = TIMEOUT_NS;
    job.request.body_case = QNET__V1__CONTROL_REQUEST__BODY_TELEPORT;
    job.request.teleport = &body;
    int rc = batch_row(&job, "teleports", "/s", 5000, ends_note);
    if (rc == 0) rc = single_rows(&job, NULL, NULL, "teleport-one-p50", "teleport-one-p99");
    network_down(&network);
    return rc;
}

/* ---- a qubit kept elsewhere ---- */

enum { KEPT = 100 };

struct kept {
    uint64_t qubits[KEPT];
    size_t n;
};

static int take_qubit(void *context, const Qnet__V1__ControlResponse *response) {
    struct kept *kept = context;
    if (response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_PAIR && kept->n < KEPT)
        kept->qubits[kept->n++] = response->pair->qubit;
    return 0;
}

static int measure(struct network *network, uint64_t qubit) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__GateRequest gate = QNET__V1__GATE_REQUEST__INIT;
    Qnet__V1__GateStep step = QNET__V1__GATE_STEP__INIT, *steps = &step;
    double z[3] = {0, 0, 1};
    step.kind = QNET__V1__OP_KIND__OP_KIND_MEASURE;
    step.qubits = &qubit;
    step.n_qubits = 1;
    step.args = z;
    step.n_args = 3;
    gate.steps = &steps;
    gate.n_steps = 1;
    gate.timeout_ns = TIMEOUT_NS;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_GATE;
    request.gate = &gate;
    return network_call(network, 0, &request, NULL, NULL);
}

static int discard_all(struct network *network, size_t node) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__DiscardRequest discard = QNET__V1__DISCARD_REQUEST__INIT;
    discard.all = true;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_DISCARD;
    request.discard = &discard;
    return network_call(network, node, &request, NULL, NULL);
}

/* The station of a link without one in the middle is its second end, which keeps the states: n0 measures across. */
int bench_remote(struct bench *bench) {
    struct network network;
    struct samples latencies = {0};
    Qnet__V1__PairRequest body;
    if (network_chain_up(&network, bench, 2) < 0) return -1;
    struct job job = pair_job(&network, &body);
    body.measure = body.quiet = false;
    body.number = KEPT;
    double end_s = bench_now_s() + bench->seconds;
    int rc = 0;
    while (rc == 0 && bench_now_s() < end_s) {
        struct kept kept = {.n = 0};
        rc = network_call(&network, 0, &job.request, take_qubit, &kept);
        for (size_t i = 0; i < kept.n && rc == 0; i++) {
            double sent_s = bench_now_s();
            rc = measure(&network, kept.qubits[i]);
            samples_add(&latencies, bench_now_s() - sent_s);
        }
        if (rc == 0) rc = discard_all(&network, 1);
    }
    if (rc == 0) bench_row(bench, "remote-measure-p50", samples_quantile(&latencies, 0.5) * 1e6, "us", "", wake_note);
    samples_release(&latencies);
    network_down(&network);
    return rc;
}

/* ---- keys ---- */

static int take_blocks(void *context, const Qnet__V1__ControlResponse *response) {
    Qnet__V1__Bb84Summary *sum = context;
    if (response->body_case != QNET__V1__CONTROL_RESPONSE__BODY_BB84_SUMMARY) return 0;
    sum->blocks = response->bb84_summary->blocks;
    sum->sifted = response->bb84_summary->sifted;
    sum->secret = response->bb84_summary->secret;
    return 0;
}

int bench_bb84(struct bench *bench) {
    static const char yaml[] = "version: 1\nnetwork: bench\nnodes:\n"
                               "  n0: {role: source, source: single-photon, clock: 1GHz}\n"
                               "  n1: {role: detector}\nlinks:\n  l0: {between: [n0, n1], misalignment: 2%}\n";
    struct network network;
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__Bb84Request body = QNET__V1__BB84_REQUEST__INIT;
    Qnet__V1__Bb84Summary sum = QNET__V1__BB84_SUMMARY__INIT;
    char cpu[128];
    int rc = network_up(&network, bench, yaml);
    if (rc < 0) return -1;
    body.peer = network.nodes[1].name;
    body.block_pulses = 1000000;
    body.timeout_ns = TIMEOUT_NS;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_BB84;
    request.bb84 = &body;
    double took_s = 0, blocks = 2;
    for (int i = 0; i < 2 && rc == 0; i++) { /* The first tells how many blocks last bench->seconds. */
        body.blocks = (uint32_t)blocks;
        network_cpu_start(&network);
        double start_s = bench_now_s();
        rc = network_call(&network, 0, &request, take_blocks, &sum);
        took_s = bench_now_s() - start_s;
        network_cpu_text(&network, cpu, sizeof cpu);
        blocks = blocks * bench->seconds / took_s + 1;
    }
    network_down(&network);
    if (rc < 0) return rc;
    if (sum.secret == 0) return bench_fail(bench, "no secret bits");
    bench_row(bench, "bb84-sifted", (double)sum.sifted / took_s, "bit/s", cpu,
              "round trips of Cascade; worker threads");
    bench_row(bench, "bb84-secret", (double)sum.secret / took_s, "bit/s", cpu, "the same, less what was disclosed");
    return 0;
}
