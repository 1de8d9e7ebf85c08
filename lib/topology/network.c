/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "topology/internal.h"

/* What no single entry of the file shows. */

static int private_content(const struct private *a, const struct private *b) {
    if ((a->address == NULL) != (b->address == NULL)) return a->address == NULL ? -1 : 1;
    if (a->address == NULL) return memcmp(a->key, b->key, 32);
    if (a->address->port != b->address->port) return a->address->port < b->address->port ? -1 : 1;
    return strcasecmp(a->address->host, b->address->host);
}

static int private_compare(const void *left, const void *right) {
    const struct private *a = left, *b = right;
    int order = private_content(a, b);
    return order != 0 ? order : (a->value > b->value) - (a->value < b->value);
}

static void check_privates(struct reader *reader) {
    if (reader->n_privates == 0) return;
    qsort(reader->privates, reader->n_privates, sizeof(*reader->privates), private_compare);
    for (size_t i = 1, first = 0; i < reader->n_privates; i++) {
        const struct private *a = &reader->privates[first], *b = &reader->privates[i];
        if (private_content(a, b) != 0) {
            first = i;
            continue;
        }
        diag_error(reader->diags, place_of(reader, b->value),
                   "%s of node %s is already taken by %s of node %s at line %u; valid: %s", b->field->key,
                   quote(b->node->name).s, a->field->key, quote(a->node->name).s, place_of(reader, a->value).line,
                   b->address == NULL ? "a key of its own for each node" : "another port or host");
    }
}

static uint16_t root_of(uint16_t *parents, uint16_t node) {
    while (parents[node] != node) {
        parents[node] = parents[parents[node]];
        node = parents[node];
    }
    return node;
}

/* The lowest index becomes the root, so each part is named after its first node. */
static void join(uint16_t *parents, uint16_t a, uint16_t b) {
    a = root_of(parents, a);
    b = root_of(parents, b);
    if (a < b)
        parents[b] = a;
    else
        parents[a] = b;
}

static int check_connected(struct reader *reader) {
    const struct qn_topology *topology = &reader->root.topology;
    uint16_t *parents = calloc(topology->n_nodes, 2 * sizeof(*parents));
    if (parents == NULL) return -QN_ENOMEM;
    uint16_t *sizes = parents + topology->n_nodes;
    for (size_t i = 0; i < topology->n_nodes; i++) parents[i] = (uint16_t)i;
    for (size_t i = 0; i < topology->n_links; i++) {
        const struct qn_topo_link *link = &topology->links[i];
        join(parents, link->a, link->b);
        if (link->via != QN_NO_NODE) join(parents, link->a, link->via);
    }
    for (size_t i = 0; i < topology->n_nodes; i++) sizes[root_of(parents, (uint16_t)i)]++;
    for (size_t i = 1; i < topology->n_nodes; i++) {
        struct place at = place_of(reader, reader->nodes.list[i].key);
        if (parents[i] != i) continue;
        if (sizes[i] == 1)
            diag_warning(reader->diags, at, "node \"%s\" has no link to the rest of the network",
                         topology->nodes[i].name);
        else
            diag_warning(reader->diags, at, "node \"%s\" and %d more have no link to the rest of the network",
                         topology->nodes[i].name, sizes[i] - 1);
    }
    free(parents);
    return 0;
}

int network_check(struct reader *reader) {
    check_privates(reader);
    return reader->diags->errors == 0 ? check_connected(reader) : 0;
}
