/* SPDX-License-Identifier: Apache-2.0 */
/* One run: faults and work, then no more faults and everything must finish, then everything must work as if new. */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chaos.h"

#define MS UINT64_C(1000000)
#define S UINT64_C(1000000000)

bool chance(struct qn_rng *rng, double p) { return qn_rng_double(rng) < p; }

uint64_t between(struct qn_rng *rng, uint64_t low, uint64_t high) { return low + qn_rng_below(rng, high - low + 1); }

uint64_t spread(struct qn_rng *rng, uint64_t low, uint64_t high) {
    uint64_t top = high;
    while (top / 2 >= low && chance(rng, 0.5)) top /= 2; /* Without exp(): the same under every library. */
    return between(rng, top / 2 >= low ? top / 2 : low, top);
}

void *grow(void *items, size_t *cap, size_t n, size_t size) {
    if (n < *cap) return items;
    *cap = n < 32 ? 64 : 2 * n;
    void *more = realloc(items, *cap * size);
    if (more == NULL) abort();
    return more;
}

void chaos_log(const struct chaos *chaos, const char *format, ...) {
    if (!chaos->options.trace) return;
    va_list args;
    va_start(args, format);
    printf("[%12.6f] ", chaos->cluster != NULL ? (double)cluster_now(chaos->cluster) * 1e-9 : 0);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
}

void chaos_fail(const struct chaos *chaos, const char *format, ...) {
    va_list args;
    fflush(stdout);
    va_start(args, format);
    fprintf(stderr, "chaos: after %.6f s: ", chaos->cluster != NULL ? (double)cluster_now(chaos->cluster) * 1e-9 : 0);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    abort(); /* main.c prints the line that repeats it. */
}

static void make_network(struct chaos *chaos) {
    struct qn_buf diagnostics = {0};
    chaos->yaml = network_random(chaos->options.seed, &chaos->ideal);
    int rc = qn_topology_parse("chaos.yaml", chaos->yaml, strlen(chaos->yaml), &chaos->topology, &diagnostics);
    if (rc < 0) chaos_fail(chaos, "%.*s\n%s", (int)diagnostics.len, (const char *)diagnostics.data, chaos->yaml);
    if (chaos->options.trace) printf("%s", chaos->yaml);
    qn_buf_release(&diagnostics);
    struct qn_rng rng;
    qn_rng_init(&rng, chaos->options.seed, "machine", 0);
    struct cluster_config config = {.topology = &chaos->topology,
                                    .seed = chaos->options.seed,
                                    .latency_ns = spread(&rng, 1000, 5 * MS),
                                    .jitter_ns = spread(&rng, 1000, 50 * MS),
                                    .job_ns = spread(&rng, 1000, 100 * MS),
                                    .store_ns = spread(&rng, 1000, 500 * MS),
                                    .silence_ns = spread(&rng, 500, 15000) * MS,
                                    .notice_ns = spread(&rng, 1000, 2000 * MS),
                                    .check = true,
                                    .trace = true,
                                    .context = chaos,
                                    .on_reply = judge_reply,
                                    .on_event = judge_event,
                                    .on_step = judge_step};
    chaos->full_ns = calloc(chaos->topology.n_nodes, sizeof *chaos->full_ns);
    chaos->lives = calloc(chaos->topology.n_nodes, sizeof *chaos->lives);
    chaos->incarnations = calloc(chaos->topology.n_nodes, sizeof *chaos->incarnations);
    chaos->declared = calloc(chaos->topology.n_nodes, sizeof *chaos->declared);
    chaos->crashed = calloc(chaos->topology.n_nodes, sizeof *chaos->crashed);
    if (chaos->full_ns == NULL || chaos->lives == NULL || chaos->incarnations == NULL || chaos->declared == NULL ||
        chaos->crashed == NULL || cluster_new(&config, &chaos->cluster) < 0)
        abort();
}

static void disturb(struct chaos *chaos) {
    uint64_t end = cluster_now(chaos->cluster) + spread(&chaos->load, 500, 8000) * MS, work = 0, fault = UINT64_MAX;
    double work_rate = (double)spread(&chaos->load, 2, 30);
    if (chaos->fault_rate > 0) fault = (uint64_t)(qn_rng_double(&chaos->fault) / chaos->fault_rate * 2e9);
    for (;;) {
        uint64_t planned = fault_next_ns(chaos), next = work < fault ? work : fault;
        if (planned < next) next = planned;
        if (next > end) break;
        cluster_run_until(chaos->cluster, next);
        if (next == planned) {
            fault_due(chaos);
        } else if (next == work) {
            load_one(chaos);
            work = next + 1 + (uint64_t)(qn_rng_double(&chaos->load) / work_rate * 2e9);
        } else {
            fault_one(chaos);
            fault = next + 1 + (uint64_t)(qn_rng_double(&chaos->fault) / chaos->fault_rate * 2e9);
        }
    }
    cluster_run_until(chaos->cluster, end);
}

static bool is_answered(void *context) { return ((struct chaos *)context)->n_open == 0; }

/* When all who knew of a life have died as well, nobody can tell a distant node that it is over; it finds out, and lets
 * go of what belonged to it, when next it hears of the node. */
static void meet(struct chaos *chaos) {
    bool calm = chaos->calm;
    chaos->stats->late++;
    chaos->calm = false;
    load_meet(chaos);
    chaos->calm = calm;
    cluster_run_while(chaos->cluster, is_answered, chaos, 60 * S);
    load_release(chaos);
    for (uint64_t waited = 0; waited < 60 * S && !judge_is_quiet(chaos); waited += 100 * MS)
        cluster_run_until(chaos->cluster, cluster_now(chaos->cluster) + 100 * MS);
}

static void finish_all(struct chaos *chaos, uint64_t limit_ns) { /* Answers first, then silence. */
    if (!cluster_run_while(chaos->cluster, is_answered, chaos, limit_ns))
        for (size_t i = 1; i < chaos->n_asks; i++)
            if (chaos->asks[i].state == OPEN)
                chaos_fail(chaos, "request %zu of n%u is not answered", i, chaos->asks[i].node);
    for (uint64_t waited = 0; waited < 120 * S && !judge_is_quiet(chaos); waited += 100 * MS)
        cluster_run_until(chaos->cluster, cluster_now(chaos->cluster) + 100 * MS);
    if (chaos->n_ends > 0 && !judge_is_quiet(chaos)) meet(chaos);
    judge_quiet(chaos);
}

static void release(struct chaos *chaos) {
    load_release(chaos);
    finish_all(chaos, 60 * S);
    judge_empty(chaos);
    judge_keys(chaos);
}

static void chaos_free(struct chaos *chaos) {
    cluster_free(chaos->cluster);
    qn_topology_release(&chaos->topology);
    qn_map_release(&chaos->touched);
    free(chaos->asks);
    free(chaos->plans);
    free(chaos->prepared);
    free(chaos->ends);
    free(chaos->taken);
    free(chaos->full_ns);
    free(chaos->lives);
    free(chaos->incarnations);
    free(chaos->declared);
    free(chaos->crashed);
    free(chaos->yaml);
}

void chaos_run(const struct chaos_options *options, struct stats *stats, uint64_t *ret_trace) {
    struct chaos chaos = {.options = *options, .stats = stats};
    qn_rng_init(&chaos.load, options->seed, "load", 0);
    qn_rng_init(&chaos.fault, options->seed, "fault", 0);
    make_network(&chaos);
    fault_init(&chaos);
    disturb(&chaos);
    chaos_log(&chaos, "no more faults");
    fault_mend(&chaos);
    finish_all(&chaos, 60 * S);
    release(&chaos);
    chaos_log(&chaos, "everything must work");
    for (size_t i = 0; load_service(&chaos, i); i++) {
        finish_all(&chaos, 3700 * S);
        release(&chaos);
    }
    stats->runs++;
    stats->steps += cluster_steps(chaos.cluster);
    stats->emulated_s += cluster_now(chaos.cluster) / S;
    *ret_trace = cluster_trace(chaos.cluster);
    chaos_free(&chaos);
}
