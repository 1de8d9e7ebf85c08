/* SPDX-License-Identifier: Apache-2.0 */
#include "secret_pairs.h"

#include <stdlib.h>
#include <string.h>

static void add(struct secret_pairs *pairs, uint16_t a, uint16_t b, size_t len) {
    pairs->list[pairs->len++] = (struct secret_pair){a < b ? a : b, a < b ? b : a, len};
}

static int compare(const void *one, const void *other) { /* The longer secret first. */
    const struct secret_pair *x = one, *y = other;
    if (x->a != y->a) return x->a < y->a ? -1 : 1;
    if (x->b != y->b) return x->b < y->b ? -1 : 1;
    return (x->len < y->len) - (x->len > y->len);
}

static bool is_end(const struct qn_topology *topology, uint16_t node) {
    return topology->nodes[node].role != QN_ROLE_REPEATER;
}

/* Marks whom `from` reaches over entanglement links with only repeaters between. `queue`: of n_nodes. */
static void reach(const struct qn_topology *topology, uint16_t from, bool *marks, uint16_t *queue) {
    size_t head = 0, tail = 0;
    memset(marks, 0, topology->n_nodes * sizeof *marks);
    marks[from] = true;
    queue[tail++] = from;
    while (head < tail) {
        uint16_t x = queue[head++];
        if (x != from && is_end(topology, x)) continue;
        for (size_t i = 0; i < topology->n_links; i++) {
            const struct qn_topo_link *link = &topology->links[i];
            if (link->kind != QN_LINK_ENTANGLEMENT || (link->a != x && link->b != x)) continue;
            uint16_t y = link->a == x ? link->b : link->a;
            if (!marks[y]) queue[tail++] = y;
            marks[y] = true;
        }
    }
}

/* Of those over repeaters; with `pairs` NULL they are only counted. */
static size_t each_far(const struct qn_topology *topology, bool *marks, uint16_t *queue, struct secret_pairs *pairs) {
    size_t n = 0;
    for (uint16_t a = 0; a < topology->n_nodes; a++) {
        if (!is_end(topology, a)) continue;
        reach(topology, a, marks, queue);
        for (uint16_t b = (uint16_t)(a + 1); b < topology->n_nodes; b++) {
            if (!marks[b] || !is_end(topology, b)) continue;
            n++;
            if (pairs != NULL) add(pairs, a, b, SECRET_BYTES_FAR);
        }
    }
    return n;
}

int secret_pairs_find(const struct ctl *ctl, const struct qn_topology *topology, struct secret_pairs *ret_pairs) {
    bool *marks = calloc(topology->n_nodes + 1, sizeof *marks);
    uint16_t *queue = calloc(topology->n_nodes + 1, sizeof *queue);
    struct secret_pairs pairs = {.list = calloc(topology->n_links + SECRET_PAIRS_MAX + 1, sizeof *pairs.list)};
    int status = marks == NULL || queue == NULL || pairs.list == NULL ? ctl_no_memory(ctl) : STATUS_OK;
    if (status == STATUS_OK) {
        for (size_t i = 0; i < topology->n_links; i++)
            add(&pairs, topology->links[i].a, topology->links[i].b, SECRET_BYTES_MAX);
        size_t far = each_far(topology, marks, queue, NULL);
        if (far <= SECRET_PAIRS_MAX)
            each_far(topology, marks, queue, &pairs);
        else
            pairs.left_out = far;
        qsort(pairs.list, pairs.len, sizeof *pairs.list, compare);
        size_t n = 0;
        for (size_t i = 0; i < pairs.len; i++)
            if (i == 0 || pairs.list[i].a != pairs.list[n - 1].a || pairs.list[i].b != pairs.list[n - 1].b)
                pairs.list[n++] = pairs.list[i];
        pairs.len = n;
        if (pairs.left_out > 0)
            ctl_warn(ctl,
                     "%zu pairs of nodes make keys over repeaters, more than %d: they share no initial secret, and "
                     "their keys are not authenticated; share one where it is wanted: qnetctl lab share A B",
                     pairs.left_out, SECRET_PAIRS_MAX);
        *ret_pairs = pairs;
    } else {
        free(pairs.list);
    }
    free(marks);
    free(queue);
    return status;
}

void secret_pairs_release(struct secret_pairs *pairs) {
    free(pairs->list);
    *pairs = (struct secret_pairs){0};
}
