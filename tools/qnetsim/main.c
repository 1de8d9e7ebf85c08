/* SPDX-License-Identifier: Apache-2.0 */
/* qnetsim runs a whole network and a scenario in one process on virtual time and prints what happens, a line an event.
 * Same files and seed: the same lines, byte for byte. */
#include <errno.h>
#include <getopt.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "cluster.h"
#include "scenario.h"

static const char usage[] =
    "usage: qnetsim [options] TOPOLOGY SCENARIO\n"
    "Runs a network on virtual time. One line an event on standard output; the same seed gives the same lines.\n"
    "  --seed N         of latencies and secrets (default: the topology's); physics follows the topology's seed\n"
    "  --latency TIME   of every session, one way (default 10us)\n"
    "  --jitter TIME    up to this much more, at random (default 0)\n"
    "  --check          assert the invariants of every node after every step\n"
    "  --stats          at the end, steps and rate on standard error\n"
    "  --help, --version\n"
    "A scenario is a text file, a command a line; tools/qnetsim/README.md lists them:\n"
    "  at 0ms on alice pairs bob 1000 chsh\n"
    "  end 10s\n";

static char *read_file(const char *path, size_t *ret_len) {
    FILE *file = fopen(path, "rb");
    char *text = NULL;
    size_t len = 0, cap = 0;
    if (file == NULL) return NULL;
    for (;;) {
        if (len == cap) {
            cap = cap == 0 ? 65536 : cap * 2;
            char *more = realloc(text, cap);
            if (more == NULL) break;
            text = more;
        }
        size_t n = fread(text + len, 1, cap - len, file);
        if (n == 0) break;
        len += n;
    }
    fclose(file);
    *ret_len = len;
    return text;
}

static int load_topology(const char *path, struct qn_topology *ret_topology) {
    size_t len;
    char *text = read_file(path, &len);
    if (text == NULL) {
        fprintf(stderr, "qnetsim: error: %s: %s\n", path, strerror(errno));
        return 2;
    }
    struct qn_buf diagnostics = {0};
    int rc = qn_topology_parse(path, text, len, ret_topology, &diagnostics);
    fwrite(diagnostics.data, 1, diagnostics.len, stderr);
    qn_buf_release(&diagnostics);
    free(text);
    return rc < 0 ? 2 : 0;
}

static bool parse_time(const char *text, uint64_t *ret_ns) {
    double seconds;
    const char *why;
    if (qn_quantity_parse(text, QN_DIM_TIME_S, &seconds, &why) < 0 || !(seconds >= 0 && seconds < 1e9)) {
        fprintf(stderr, "qnetsim: error: \"%s\" is not a time; write 10us or 1.5ms\n", text);
        return false;
    }
    *ret_ns = (uint64_t)(seconds * 1e9 + 0.5);
    return true;
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},   {"latency", required_argument, NULL, 'l'},
        {"jitter", required_argument, NULL, 'j'}, {"check", no_argument, NULL, 'c'},
        {"stats", no_argument, NULL, 't'},        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},      {0}};
    struct cluster_config config = {.latency_ns = 10000};
    bool seeded = false, stats = false;
    for (int c; (c = getopt_long(argc, argv, "hv", options, NULL)) != -1;) {
        char *end;
        switch (c) {
        case 's':
            config.seed = strtoull(optarg, &end, 0);
            seeded = *optarg != '\0' && *end == '\0';
            if (!seeded) {
                fprintf(stderr, "qnetsim: error: \"%s\" is not a number\n", optarg);
                return 2;
            }
            break;
        case 'l':
            if (!parse_time(optarg, &config.latency_ns)) return 2;
            break;
        case 'j':
            if (!parse_time(optarg, &config.jitter_ns)) return 2;
            break;
        case 'c':
            config.check = true;
            break;
        case 't':
            stats = true;
            break;
        case 'h':
            fputs(usage, stdout);
            return 0;
        case 'v':
            puts("qnetsim " QN_VERSION);
            return 0;
        default:
            fputs("try qnetsim --help\n", stderr);
            return 2;
        }
    }
    if (argc - optind != 2) {
        fputs(usage, stderr);
        return 2;
    }
    if (sodium_init() < 0) return 1;
    struct qn_topology topology = {0};
    int rc = load_topology(argv[optind], &topology);
    if (rc != 0) return rc;
    config.topology = &topology;
    if (!seeded) config.seed = topology.seed;
    size_t len;
    char *text = read_file(argv[optind + 1], &len);
    struct scenario *scenario = NULL;
    if (text == NULL) fprintf(stderr, "qnetsim: error: %s: %s\n", argv[optind + 1], strerror(errno));
    rc = text == NULL ? 2 : scenario_parse(argv[optind + 1], text, len, &topology, stderr, &scenario);
    if (rc == 0) {
        struct timespec before, after;
        clock_gettime(CLOCK_MONOTONIC, &before);
        uint64_t steps = 0;
        rc = scenario_run(scenario, &config, stdout, &steps);
        clock_gettime(CLOCK_MONOTONIC, &after);
        double took = (double)(after.tv_sec - before.tv_sec) + 1e-9 * (double)(after.tv_nsec - before.tv_nsec);
        if (stats)
            fprintf(stderr, "%llu node events in %.3f s: %.0f/s\n", (unsigned long long)steps, took,
                    (double)steps / took);
    }
    scenario_free(scenario);
    free(text);
    qn_topology_release(&topology);
    return rc;
}
