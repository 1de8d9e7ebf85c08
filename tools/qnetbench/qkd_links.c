/* SPDX-License-Identifier: Apache-2.0 */
/* How memory and rate of a node grow with its links and with the size of blocks: one detector, a source a link, all of
 * them making keys at once. The peak is that of the process's life, so each row has daemons of its own. */
#include <stdio.h>
#include <string.h>

#include "bench.h"
#include "network.h"

#define TIMEOUT_NS UINT64_C(100000000000000000)
#define WAIT_S 120 /* For the slowest answer, besides several times what a row may take. */

struct totals {
    double clicks, secret, blocks;
};

static void take(struct totals *totals, const Qnet__V1__ControlResponse *response) {
    if (response->body_case != QNET__V1__CONTROL_RESPONSE__BODY_BB84_BLOCK) return;
    totals->clicks += (double)response->bb84_block->clicks;
    totals->secret += (double)response->bb84_block->secret;
    totals->blocks++;
}

/* Asks every source for so many blocks, then waits for all: answers queue up at the sockets meanwhile. */
static int run_all(struct network *network, uint32_t blocks, struct totals *totals, double *took_s) {
    struct bench *bench = network->bench;
    double start_s = bench_now_s();
    uint64_t deadline_ns = client_now_ns() + (uint64_t)((WAIT_S + 10 * bench->seconds) * 1e9);
    *totals = (struct totals){0};
    for (size_t i = 1; i < network->n_nodes; i++) {
        Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
        Qnet__V1__Bb84Request body = QNET__V1__BB84_REQUEST__INIT;
        body.peer = network->nodes[0].name;
        body.blocks = blocks;
        body.timeout_ns = TIMEOUT_NS;
        request.body_case = QNET__V1__CONTROL_REQUEST__BODY_BB84;
        request.bb84 = &body;
        if (client_send(&network->nodes[i].client, &request) < 0) return bench_fail(bench, "a request cannot be sent");
    }
    for (size_t i = 1; i < network->n_nodes; i++) {
        const Qnet__V1__ControlResponse *response;
        do {
            if (client_next(&network->nodes[i].client, deadline_ns, &response) < 0)
                return bench_fail(bench, "%s: %s", network->nodes[i].name, network->nodes[i].client.error);
            if (response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_ERROR)
                return bench_fail(bench, "%s: %s", network->nodes[i].name, response->error->message);
            take(totals, response);
        } while (response->more);
    }
    *took_s = bench_now_s() - start_s;
    return 0;
}

static int row(struct bench *bench, unsigned n_links, int exponent) {
    char yaml[2048], name[32], note[160], cpu[128] = "";
    struct network network;
    struct totals totals;
    double took_s, blocks = 1;
    size_t len = (size_t)snprintf(yaml, sizeof yaml,
                                  "version: 1\nnetwork: bench\ntime_scale: 100000\nnodes:\n  n0: {role: detector, "
                                  "efficiency: 50%%, dark_rate: 100Hz, gate_window: 1ns}\n");
    for (unsigned i = 1; i <= n_links; i++)
        len += (size_t)snprintf(yaml + len, sizeof yaml - len,
                                "  n%u: {role: source, source: weak-coherent, clock: 2.5GHz}\n", i);
    len += (size_t)snprintf(yaml + len, sizeof yaml - len, "links:\n");
    for (unsigned i = 1; i <= n_links; i++)
        len += (size_t)snprintf(yaml + len, sizeof yaml - len,
                                "  l%u: {between: [n%u, n0], kind: bb84, length: 10km, misalignment: 0.5%%, protocol: "
                                "one-decoy, block_size: 1e%d}\n",
                                i, i, exponent);
    if (network_up(&network, bench, yaml) < 0) return -1;
    int rc = run_all(&network, 1, &totals, &took_s); /* Tells how many last bench->seconds. */
    if (rc == 0) blocks = bench->seconds / took_s + 1;
    if (blocks > 100) blocks = 100; /* Within what the store takes of one peer. */
    network_cpu_start(&network);
    if (rc == 0) rc = run_all(&network, (uint32_t)blocks, &totals, &took_s);
    if (n_links < 4) network_cpu_text(&network, cpu, sizeof cpu);
    double peak_mib = network_node_peak_mib(&network, 0), source_mib = network_node_peak_mib(&network, 1);
    network_down(&network);
    if (rc < 0) return rc;
    snprintf(name, sizeof name, "links-%u-1e%d", n_links, exponent);
    snprintf(note, sizeof note, "peak; %.1f Mclick/s, %.3g secret bit/s in all; a source %.0f MiB; %.0f blocks",
             totals.clicks / took_s / 1e6, totals.secret / took_s, source_mib, totals.blocks);
    bench_row(bench, name, peak_mib, "MiB", cpu, note);
    return 0;
}

int bench_qkd_links(struct bench *bench) {
    for (unsigned n = 1; n <= 8; n *= 2)
        for (int exponent = 6; exponent <= 7; exponent++)
            if (row(bench, n, exponent) < 0) return -1;
    return row(bench, 1, 8);
}
