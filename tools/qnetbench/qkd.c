/* SPDX-License-Identifier: Apache-2.0 */
/* Whole pipelines of published links between two daemons, from pulses to stored keys: how much faster than the laser
 * they run. The emulated clock runs so fast that it never is what one waits for. */
#include <stdio.h>
#include <string.h>

#include "bench.h"
#include "network.h"

#define TIMEOUT_NS UINT64_C(100000000000000000)
#define STORE_BITS 4e8 /* Of a daemon's store, less a margin. */

struct totals {
    double pulses, clicks, sifted, secret;
};

static int take(void *context, const Qnet__V1__ControlResponse *response) {
    struct totals *totals = context;
    if (response->body_case != QNET__V1__CONTROL_RESPONSE__BODY_BB84_BLOCK) return 0;
    const Qnet__V1__Bb84Block *block = response->bb84_block;
    totals->pulses += (double)block->pulses;
    totals->clicks += (double)block->clicks;
    totals->sifted += (double)block->sifted;
    totals->secret += (double)block->secret;
    return 0;
}

static int run_blocks(struct network *network, uint32_t blocks, struct totals *totals, double *took_s) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__Bb84Request body = QNET__V1__BB84_REQUEST__INIT;
    *totals = (struct totals){0};
    body.peer = network->nodes[1].name;
    body.blocks = blocks;
    body.timeout_ns = TIMEOUT_NS;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_BB84;
    request.bb84 = &body;
    double start_s = bench_now_s();
    int rc = network_call(network, 0, &request, take, totals);
    *took_s = bench_now_s() - start_s;
    return rc;
}

static int link_rows(struct bench *bench, const char *preset, double km, double clock_hz) {
    char yaml[512], cpu[128], name[64], note[160];
    struct network network;
    struct totals totals;
    double took_s;
    snprintf(yaml, sizeof yaml,
             "version: 1\nnetwork: bench\ntime_scale: 100000\nnodes:\n  n0: {role: source}\n  n1: {role: detector}\n"
             "links:\n  l0: {between: [n0, n1], kind: bb84, length: %gkm, preset: %s}\n",
             km, preset);
    if (network_up(&network, bench, yaml) < 0) return -1;
    int rc = run_blocks(&network, 1, &totals, &took_s); /* Tells how many last bench->seconds. */
    double blocks = bench->seconds / took_s + 1, most = totals.secret > 0 ? STORE_BITS / totals.secret - 2 : 1000;
    if (blocks > most) blocks = most;
    network_cpu_start(&network);
    if (rc == 0) rc = run_blocks(&network, blocks > 1 ? (uint32_t)blocks : 1, &totals, &took_s);
    network_cpu_text(&network, cpu, sizeof cpu);
    double rss_mib = network_node_rss_mib(&network, 1), laser_s = totals.pulses / clock_hz;
    network_down(&network);
    if (rc < 0) return rc;
    snprintf(name, sizeof name, "qkd-%s-%gkm", preset, km);
    snprintf(note, sizeof note, "x real time; %.1f Mclick/s, %.3g secret bit/s; as the link has it %.3g; %.0f MiB",
             totals.clicks / took_s / 1e6, totals.secret / took_s, totals.secret / laser_s, rss_mib);
    bench_row(bench, name, laser_s / took_s, "", cpu, note);
    return 0;
}

int bench_qkd(struct bench *bench) {
    static const struct {
        const char *preset;
        double clock_hz;
    } presets[] = {{"yuan2018", 1e9}, {"li2023", 2.5e9},     {"rusca2018", 1e9},
                   {"lim2014", 1e9},  {"boaron2018", 2.5e9}, {"gys", 2e6}};
    static const double lengths[] = {0, 10, 50, 100};
    for (size_t p = 0; p < sizeof presets / sizeof presets[0]; p++)
        for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++)
            if (link_rows(bench, presets[p].preset, lengths[l], presets[p].clock_hz) < 0) return -1;
    return 0;
}
