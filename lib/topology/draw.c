/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>

#include "topology/internal.h"

/* Drawings for Graphviz and Mermaid: a shape for each role, quantum links solid (bb84 with its direction), classical
 * ones dashed. A link through a station is drawn as two halves. */

static void put_link_label(struct writer *writer, const struct qn_topo_link *link, const char *line_break) {
    put(writer, "%s%s%s %s", link->name, line_break, quantity_write(link->length_km, QN_DIM_LENGTH_KM, 0).s,
        qn_link_kind_name(link->kind));
}

static void put_dot_node(struct writer *writer, const struct qn_topo_node *node) {
    static const char *const shapes[] = {[QN_ROLE_SOURCE] = "house",
                                         [QN_ROLE_REPEATER] = "box",
                                         [QN_ROLE_DETECTOR] = "hexagon",
                                         [QN_ROLE_MEMORY] = "ellipse"};
    put(writer, "  \"%s\" [shape=%s, tooltip=\"%s\"", node->name, shapes[node->role], qn_role_name(node->role));
    if (!isnan(node->x) && !isnan(node->y))
        put(writer, ", pos=\"%s,%s!\"", quantity_write(node->x, QN_DIM_NONE, 0).s,
            quantity_write(node->y, QN_DIM_NONE, 0).s);
    put(writer, "];\n");
}

int qn_topology_emit_dot(const struct qn_topology *topology, struct qn_buf *out) {
    static const char *const styles[] = {
        [QN_LINK_ENTANGLEMENT] = "solid", [QN_LINK_BB84] = "solid, dir=forward", [QN_LINK_CLASSICAL] = "dashed"};
    struct writer writer = writer_start(out);
    put(&writer, "graph \"%s\" {\n  node [fontname=\"sans-serif\"];\n  edge [fontname=\"sans-serif\", fontsize=10];\n",
        topology->name);
    for (size_t i = 0; i < topology->n_nodes; i++) put_dot_node(&writer, &topology->nodes[i]);
    for (size_t i = 0; i < topology->n_links; i++) {
        const struct qn_topo_link *link = &topology->links[i];
        const char *a = topology->nodes[link->a].name, *b = topology->nodes[link->b].name;
        const char *first_end = link->via == QN_NO_NODE ? b : topology->nodes[link->via].name;
        put(&writer, "  \"%s\" -- \"%s\" [style=%s, label=\"", a, first_end, styles[link->kind]);
        put_link_label(&writer, link, "\\n");
        put(&writer, "\"];\n");
        if (link->via != QN_NO_NODE) put(&writer, "  \"%s\" -- \"%s\" [style=%s];\n", first_end, b, styles[link->kind]);
    }
    put(&writer, "}\n");
    return writer_end(&writer);
}

int qn_topology_emit_mermaid(const struct qn_topology *topology, struct qn_buf *out) {
    static const char *const shapes[][2] = {[QN_ROLE_SOURCE] = {"([", "])"},
                                            [QN_ROLE_REPEATER] = {"[", "]"},
                                            [QN_ROLE_DETECTOR] = {"{{", "}}"},
                                            [QN_ROLE_MEMORY] = {"((", "))"}};
    static const char *const lines[] = {
        [QN_LINK_ENTANGLEMENT] = "---", [QN_LINK_BB84] = "-->", [QN_LINK_CLASSICAL] = "-.-"};
    struct writer writer = writer_start(out);
    put(&writer, "graph LR\n");
    /* Numbers as identifiers, since some names ("end") are words of Mermaid. */
    for (size_t i = 0; i < topology->n_nodes; i++) {
        const struct qn_topo_node *node = &topology->nodes[i];
        put(&writer, "  n%zu%s\"%s\"%s\n", i, shapes[node->role][0], node->name, shapes[node->role][1]);
    }
    for (size_t i = 0; i < topology->n_links; i++) {
        const struct qn_topo_link *link = &topology->links[i];
        bool is_direct = link->via == QN_NO_NODE;
        put(&writer, "  n%u %s|\"", link->a, lines[link->kind]);
        put_link_label(&writer, link, "<br/>");
        put(&writer, "\"| n%u\n", is_direct ? link->b : link->via);
        if (!is_direct) put(&writer, "  n%u %s n%u\n", link->via, lines[link->kind], link->b);
    }
    return writer_end(&writer);
}
