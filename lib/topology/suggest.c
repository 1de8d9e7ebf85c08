/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "topology/internal.h"

#define LONGEST 64

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* Steps from a to b: insert, delete, replace, swap neighbours (optimal string alignment). Case is no difference.
 * Anything above `limit` is returned as limit + 1. */
static size_t edit_distance(const char *a, size_t n_a, const char *b, size_t n_b, size_t limit) {
    size_t rows[3][LONGEST + 1];
    size_t *before = rows[0], *above = rows[1], *row = rows[2];
    for (size_t j = 0; j <= n_b; j++) above[j] = j;
    for (size_t i = 1; i <= n_a; i++) {
        size_t best = row[0] = i;
        for (size_t j = 1; j <= n_b; j++) {
            int x = tolower((unsigned char)a[i - 1]), y = tolower((unsigned char)b[j - 1]);
            size_t steps = least(least(above[j], row[j - 1]) + 1, above[j - 1] + (x != y));
            if (i > 1 && j > 1 && x == tolower((unsigned char)b[j - 2]) && y == tolower((unsigned char)a[i - 2]))
                steps = least(steps, before[j - 2] + 1);
            row[j] = steps;
            best = least(best, steps);
        }
        if (best > limit) return limit + 1;
        size_t *oldest = before;
        before = above;
        above = row;
        row = oldest;
    }
    return above[n_b];
}

const char *suggest(const char *text, const char *const *names, size_t n_names) {
    size_t len = strlen(text);
    if (len == 0 || len > LONGEST) return NULL;
    size_t limit = len < 3 ? len - 1 : len / 3 + (len < 6); /* About a third of the letters may be wrong. */
    const char *nearest = NULL, *longer = NULL;
    for (size_t i = 0; i < n_names; i++) {
        size_t n = strlen(names[i]);
        if (longer == NULL && len >= 2 && strncasecmp(text, names[i], len) == 0) longer = names[i];
        if (n > LONGEST || n > len + limit || len > n + limit) continue;
        size_t steps = edit_distance(text, len, names[i], n, limit);
        if (steps > limit) continue;
        nearest = names[i];
        if (steps == 0) break;
        limit = steps - 1;
    }
    return nearest != NULL ? nearest : longer; /* "linear" for "linear-optics" */
}

/* The names are spread through the structs, so they are compared one by one; the nearest so far is always first. */
static const char *suggest_among(const char *text, const char *first, size_t stride, size_t n) {
    const char *nearest = NULL;
    for (size_t i = 0; i < n; i++) {
        const char *pair[2] = {nearest, first + i * stride};
        nearest = nearest == NULL ? suggest(text, pair + 1, 1) : suggest(text, pair, 2);
    }
    return nearest;
}

const char *qn_topology_suggest_node(const struct qn_topology *topology, const char *name) {
    if (topology->n_nodes == 0) return NULL;
    return suggest_among(name, topology->nodes[0].name, sizeof(topology->nodes[0]), topology->n_nodes);
}

const char *qn_topology_suggest_link(const struct qn_topology *topology, const char *name) {
    if (topology->n_links == 0) return NULL;
    return suggest_among(name, topology->links[0].name, sizeof(topology->links[0]), topology->n_links);
}
