/* SPDX-License-Identifier: Apache-2.0 */
/* Ways through the network. Every node computes them from the same topology, so all agree. */
#include <math.h>
#include <stdlib.h>

#include "link/bell.h"
#include "node/internal.h"

static uint64_t half(uint64_t delay_ns, bool through_station) { return through_station ? delay_ns / 2 : delay_ns; }

/* Classical delay between two neighbours: of the quickest link that joins them. */
static uint64_t delay_between(const struct qn_topology *topology, uint16_t x, uint16_t y) {
    uint64_t best = UINT64_MAX;
    for (size_t i = 0; i < topology->n_links; i++) {
        const struct qn_topo_link *link = &topology->links[i];
        bool station = link->via != QN_NO_NODE;
        bool joins = station ? (link->via == x && (link->a == y || link->b == y)) ||
                                   (link->via == y && (link->a == x || link->b == x))
                             : (link->a == x && link->b == y) || (link->a == y && link->b == x);
        uint64_t delay = half(link->classical_delay_ns, station);
        if (joins && delay < best) best = delay;
    }
    return best;
}

struct edges {       /* Neighbours of node x: to[first[x]] up to to[first[x + 1]]. */
    uint32_t *first; /* n_nodes + 1 */
    uint16_t *to;
};

static void count_edge(uint32_t *count, uint16_t x, uint16_t y) {
    count[x + 1]++;
    count[y + 1]++;
}

static int edges_init(const struct qn_topology *topology, struct edges *ret_edges) { /* Neighbours of each node. */
    struct edges edges = {calloc(topology->n_nodes + 2, sizeof *edges.first),
                          calloc(topology->n_links * 4 + 1, sizeof *edges.to)};
    uint32_t *fill = calloc(topology->n_nodes + 1, sizeof *fill);
    if (edges.first == NULL || edges.to == NULL || fill == NULL) {
        free(edges.first);
        free(edges.to);
        free(fill);
        return -QN_ENOMEM;
    }
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < topology->n_links; i++) {
            const struct qn_topo_link *link = &topology->links[i];
            uint16_t ends[2][2] = {{link->a, link->via == QN_NO_NODE ? link->b : link->via}, {link->via, link->b}};
            for (int e = 0; e < (link->via == QN_NO_NODE ? 1 : 2); e++) {
                uint16_t x = ends[e][0], y = ends[e][1];
                if (pass == 0)
                    count_edge(edges.first, x, y);
                else {
                    edges.to[edges.first[x] + fill[x]++] = y;
                    edges.to[edges.first[y] + fill[y]++] = x;
                }
            }
        }
        if (pass == 0)
            for (size_t i = 0; i < topology->n_nodes; i++) edges.first[i + 1] += edges.first[i];
    }
    free(fill);
    *ret_edges = edges;
    return 0;
}

void route_release(struct qn_node *node) {
    if (node->edges == NULL) return;
    free(node->edges->first);
    free(node->edges->to);
    free(node->edges);
}

/* Breadth first from this node; ties go to the neighbour found first. */
static int search(struct qn_node *node, bool (*is_open)(void *context, uint16_t x, uint16_t y), void *context,
                  uint16_t *ret_hops, void (*reached)(struct qn_node *node, uint16_t from, uint16_t to)) {
    const struct edges *edges = node->edges;
    size_t n = node->topology->n_nodes, head = 0, tail = 0;
    uint16_t *queue = calloc(n, sizeof *queue);
    if (queue == NULL) return -QN_ENOMEM;
    for (size_t i = 0; i < n; i++) ret_hops[i] = QN_NO_NODE;
    queue[tail++] = node->self;
    ret_hops[node->self] = node->self;
    while (head < tail) {
        uint16_t x = queue[head++];
        for (uint32_t e = edges->first[x]; e < edges->first[x + 1]; e++) {
            uint16_t y = edges->to[e];
            if (ret_hops[y] != QN_NO_NODE || (is_open != NULL && !is_open(context, x, y))) continue;
            ret_hops[y] = x == node->self ? y : ret_hops[x];
            if (reached != NULL) reached(node, x, y);
            queue[tail++] = y;
        }
    }
    ret_hops[node->self] = QN_NO_NODE;
    free(queue);
    return (int)tail;
}

static void measure_way(struct qn_node *node, uint16_t from, uint16_t to) {
    struct remote *remote = &node->remotes[to];
    remote->hops = (uint16_t)(node->remotes[from].hops + 1);
    remote->path_delay_ns = node->remotes[from].path_delay_ns + delay_between(node->topology, from, to);
}

int route_hops(struct qn_node *node) {
    const struct qn_topology *topology = node->topology;
    node->edges = calloc(1, sizeof *node->edges);
    uint16_t *hops = calloc(topology->n_nodes, sizeof *hops);
    int rc = node->edges == NULL || hops == NULL ? -QN_ENOMEM : edges_init(topology, node->edges);
    if (rc == 0) rc = search(node, NULL, NULL, hops, measure_way);
    for (size_t i = 0; i < topology->n_nodes && rc >= 0; i++) node->remotes[i].next_hop = hops[i];
    for (size_t i = 0; i < node->n_neighbours && rc >= 0; i++)
        node->neighbours[i].delay_ns = delay_between(topology, node->self, node->neighbours[i].id);
    free(hops);
    return rc < 0 ? rc : 0;
}

int route_open(struct qn_node *node, bool (*is_open)(void *context, uint16_t x, uint16_t y), void *context,
               uint16_t *ret_hops) {
    return search(node, is_open, context, ret_hops, NULL);
}

/* What an imperfect Bell measurement leaves of the Werner parameter (Duer, Briegel et al. 1999; physics.md B.4). */
static double swap_factor(const struct qn_topo_node *node) {
    double eta = 1 - node->readout_error;
    return (1 - node->gate2_error) * (4 * eta * eta - 1) / 3;
}

int route_entanglement(const struct qn_node *node, uint16_t to, struct route *ret_route) {
    const struct qn_topology *topology = node->topology;
    size_t n = topology->n_nodes;
    struct best {
        double w; /* Product of the Werner parameters. */
        uint16_t hops, from, link;
    } *best = calloc(n, sizeof *best);
    if (best == NULL) return -QN_ENOMEM;
    for (size_t i = 0; i < n; i++) best[i] = (struct best){.hops = UINT16_MAX};
    best[node->self] = (struct best){.w = 1, .hops = 0};
    /* Bellman and Ford: at most ROUTE_MAX_HOPS rounds over the links. */
    bool changed = true;
    for (int round = 0; changed && round < ROUTE_MAX_HOPS; round++) {
        changed = false;
        for (size_t l = 0; l < topology->n_links; l++) {
            if (!node->links[l].planned) continue;
            const struct qn_topo_link *link = &topology->links[l];
            for (int way = 0; way < 2; way++) {
                uint16_t x = way == 0 ? link->a : link->b, y = way == 0 ? link->b : link->a;
                bool passes = x == node->self || topology->nodes[x].role == QN_ROLE_REPEATER;
                if (best[x].hops != round || !passes) continue;
                double w = best[x].w * qn_werner_parameter(node->links[l].plan.fidelity);
                if (x != node->self) w *= swap_factor(&topology->nodes[x]);
                struct best next = {w, (uint16_t)(round + 1), x, (uint16_t)l};
                if (next.hops < best[y].hops || (next.hops == best[y].hops && next.w > best[y].w)) {
                    best[y] = next;
                    changed = true;
                }
            }
        }
    }
    int rc = -QN_ENO_ROUTE;
    if (best[to].hops != UINT16_MAX && to != node->self) {
        struct route route = {.n_links = best[to].hops, .fidelity = qn_werner_fidelity(best[to].w)};
        uint16_t at = to;
        for (size_t i = route.n_links; i > 0; i--) {
            route.nodes[i] = at;
            route.links[i - 1] = best[at].link;
            at = best[at].from;
        }
        route.nodes[0] = node->self;
        *ret_route = route;
        rc = 0;
    }
    free(best);
    return rc;
}
