/* SPDX-License-Identifier: Apache-2.0 */
/* Random networks: 2 to 9 nodes of all roles, links of all kinds, hardware of all profiles, as a file that is parsed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chaos.h"

enum { NODES_MAX = 9 };

struct draft {
    struct qn_rng rng;
    bool ideal;
    size_t n, n_links;
    enum qn_role roles[NODES_MAX];
    bool source[NODES_MAX]; /* Sends BB84. */
    bool pairs[NODES_MAX];  /* Is a source of pairs. */
    struct qn_buf out;
};

static const char *const roles[] = {"source", "repeater", "detector", "memory"};

static bool has_memory(const struct draft *d, size_t i) {
    return d->roles[i] == QN_ROLE_MEMORY || d->roles[i] == QN_ROLE_REPEATER;
}

static void node(struct draft *d, size_t i) {
    static const char *const profiles[] = {"ideal", "nv", "trapped-ion", "atomic-ensemble", "photonic"};
    uint64_t draw = qn_rng_below(&d->rng, 20);
    d->roles[i] = draw < 8    ? QN_ROLE_MEMORY
                  : draw < 14 ? QN_ROLE_REPEATER
                  : draw < 17 ? QN_ROLE_SOURCE
                              : QN_ROLE_DETECTOR;
    qn_buf_printf(&d->out, "  n%zu: {role: %s", i, roles[d->roles[i]]);
    if (!d->ideal) qn_buf_printf(&d->out, ", profile: %s", profiles[qn_rng_below(&d->rng, 5)]);
    if (has_memory(d, i)) {
        unsigned least = d->roles[i] == QN_ROLE_REPEATER ? 2 : 1;
        qn_buf_printf(&d->out, ", memories: %u", (unsigned)between(&d->rng, least, 16));
        if (!d->ideal && chance(&d->rng, 0.5))
            qn_buf_printf(&d->out, ", t1: %ums, t2: %ums", (unsigned)spread(&d->rng, 50, 10000),
                          (unsigned)spread(&d->rng, 10, 90));
        if (d->roles[i] == QN_ROLE_REPEATER && chance(&d->rng, 0.2))
            qn_buf_printf(&d->out, ", cutoff: %ums", (unsigned)between(&d->rng, 200, 3000));
    }
    if (d->roles[i] == QN_ROLE_SOURCE && chance(&d->rng, 0.3)) {
        d->pairs[i] = true;
        qn_buf_printf(&d->out, ", source: pairs, clock: 1MHz");
    } else if (d->roles[i] == QN_ROLE_SOURCE || (has_memory(d, i) && chance(&d->rng, 0.15))) {
        d->source[i] = true;
        if (d->ideal || chance(&d->rng, 0.6))
            qn_buf_printf(&d->out, ", source: single-photon, clock: 100MHz");
        else
            qn_buf_printf(&d->out, ", source: weak-coherent, clock: 1GHz, mean_photons: 0.3");
    }
    qn_buf_printf(&d->out, "}\n");
}

static size_t station_for(struct draft *d, size_t a, size_t b) { /* d->n: none. */
    size_t found[NODES_MAX], n = 0;
    for (size_t i = 0; i < d->n; i++)
        if (i != a && i != b && (d->roles[i] == QN_ROLE_DETECTOR || d->pairs[i])) found[n++] = i;
    return n > 0 && chance(&d->rng, 0.5) ? found[qn_rng_below(&d->rng, n)] : d->n;
}

static void entanglement(struct draft *d, size_t a, size_t b) {
    size_t via = station_for(d, a, b);
    bool pairs = via < d->n && d->pairs[via];
    uint64_t model = d->ideal || pairs ? 0 : qn_rng_below(&d->rng, 4);
    qn_buf_printf(&d->out, "  l%zu: {between: [n%zu, n%zu], kind: entanglement", d->n_links++, a, b);
    if (via < d->n) qn_buf_printf(&d->out, ", via: n%zu", via);
    qn_buf_printf(&d->out, ", length: %um, attempt_time: %uus", (unsigned)spread(&d->rng, 10, 50000),
                  (unsigned)spread(&d->rng, 5, 1000));
    if (model == 2)
        qn_buf_printf(&d->out, ", model: double-click, visibility: %u%%", (unsigned)between(&d->rng, 85, 100));
    else if (model == 3)
        qn_buf_printf(&d->out, ", model: single-click, alpha: %u%%", (unsigned)between(&d->rng, 2, 20));
    else if (d->ideal)
        qn_buf_printf(&d->out, ", fidelity: 1, probability: %u%%", (unsigned)spread(&d->rng, 5, 100));
    else
        qn_buf_printf(&d->out, ", fidelity: %u%%, probability: %u%%", (unsigned)between(&d->rng, 80, 100),
                      (unsigned)spread(&d->rng, 1, 100));
    qn_buf_printf(&d->out, "}\n");
}

static void join(struct draft *d, size_t a, size_t b) { /* By a link that suits both. */
    bool forth = d->source[a] && d->roles[b] != QN_ROLE_SOURCE, back = d->source[b] && d->roles[a] != QN_ROLE_SOURCE;
    if (has_memory(d, a) && has_memory(d, b) && !(forth && chance(&d->rng, 0.3)) && chance(&d->rng, 0.93)) {
        entanglement(d, a, b);
        return;
    }
    qn_buf_printf(&d->out, "  l%zu: {between: [n%zu, n%zu], length: %um, ", d->n_links++, forth || !back ? a : b,
                  forth || !back ? b : a, (unsigned)spread(&d->rng, 10, 50000));
    if (forth || back)
        qn_buf_printf(&d->out, "kind: bb84, misalignment: %s}\n", d->ideal ? "0" : chance(&d->rng, 0.8) ? "1%" : "3%");
    else
        qn_buf_printf(&d->out, "kind: classical}\n");
}

char *network_random(uint64_t seed, bool *ret_ideal) {
    struct draft d = {0};
    qn_rng_init(&d.rng, seed, "network", 0);
    d.ideal = chance(&d.rng, 0.4);
    d.n = (size_t)between(&d.rng, 2, NODES_MAX);
    qn_buf_printf(&d.out, "version: 1\nnetwork: chaos\nseed: %llu\nnode_dead_after: %ums\nnodes:\n",
                  (unsigned long long)seed, (unsigned)spread(&d.rng, 500, 30000));
    for (size_t i = 0; i < d.n; i++) node(&d, i);
    qn_buf_printf(&d.out, "links:\n");
    bool whole = chance(&d.rng, 0.97); /* Else parts may be left that no link joins. */
    for (size_t i = 1; i < d.n; i++)
        if (whole || chance(&d.rng, 0.7)) join(&d, i, (size_t)qn_rng_below(&d.rng, i));
    for (uint64_t more = qn_rng_below(&d.rng, d.n); more > 0; more--) {
        size_t a = (size_t)qn_rng_below(&d.rng, d.n), b = (size_t)qn_rng_below(&d.rng, d.n);
        if (a != b) join(&d, a, b);
    }
    if (d.n_links == 0) join(&d, 1, 0);
    qn_buf_append(&d.out, "", 1);
    *ret_ideal = d.ideal;
    return (char *)d.out.data;
}
