/* SPDX-License-Identifier: Apache-2.0 */
#include "topology/topology.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "base/err.h"
#include "topology/internal.h"

/* The defaults are read once for themselves, so that what is wrong in them is reported once; the wrong ones are then
 * forgotten, and applying the rest to an entry cannot fail. */
static void defaults_section(struct reader *reader, uint32_t mapping, const struct table *table, const char *owner,
                             void *scratch, struct slots *slots) {
    if (mapping == 0 || !slots_fill(reader, table, owner, mapping, true, slots)) return;
    uint64_t wrong = slots_apply(reader, table, slots, ~0u, scratch);
    for (size_t i = 0; i < table->len; i++)
        if (wrong & UINT64_C(1) << i) slots->key[i] = slots->value[i] = 0;
}

enum defaults_field { DEFAULTS_NODE, DEFAULTS_LINK };
static const struct field defaults_fields[] = {
    [DEFAULTS_NODE] = {"node", FIELD_SECTION, .help = "Values for nodes."},
    [DEFAULTS_LINK] = {"link", FIELD_SECTION, .help = "Values for links."},
};
static const struct table defaults_table = {"defaults", defaults_fields, 2};

static void defaults_read(struct reader *reader) {
    uint32_t mapping = reader->root_slots.value[ROOT_DEFAULTS];
    struct slots slots;
    if (mapping == 0 || !slots_fill(reader, &defaults_table, "defaults", mapping, false, &slots)) return;
    struct node_draft node = {0};
    struct link_draft link = {0};
    defaults_section(reader, slots.value[DEFAULTS_NODE], &node_table, "defaults of node", &node,
                     &reader->node_defaults);
    defaults_section(reader, slots.value[DEFAULTS_LINK], &link_table, "defaults of link", &link,
                     &reader->link_defaults);
}

/* Of a file of another version nothing else can be said, so this comes before everything. */
static bool is_known_version(struct reader *reader) {
    const struct tree_value *values = reader->tree.values;
    if (values[0].kind != TREE_MAPPING) return true; /* To be reported as that. */
    struct slots version = {0};
    for (uint32_t key = values[0].first; key != 0; key = values[values[key].next].next) {
        if (values[key].kind != TREE_SCALAR || strcmp(tree_text(&reader->tree, key), "version") != 0) continue;
        version.value[ROOT_VERSION] = values[key].next;
        return slots_apply(reader, &root_table, &version, 0, &reader->root) == 0;
    }
    return true;
}

static int network_read(struct reader *reader) {
    struct root_draft *root = &reader->root;
    *root = (struct root_draft){.topology = {.seed = 1, .time_scale = 1, .node_dead_after_s = 30}};
    if (!is_known_version(reader)) return 0;
    if (!slots_fill(reader, &root_table, "the file", 0, false, &reader->root_slots)) return 0;
    slots_require(reader, &root_table, &reader->root_slots, "the file", place_of(reader, 0));
    (void)slots_apply(reader, &root_table, &reader->root_slots, 0, root);
    defaults_read(reader);
    int rc = nodes_read(reader);
    if (rc == 0) rc = links_read(reader);
    if (rc == 0) rc = network_check(reader);
    return rc;
}

static int digest_compute(struct qn_topology *topology) {
    struct qn_buf text = {0};
    int rc = emit_canonical(topology, false, &text);
    if (rc == 0) (void)crypto_generichash(topology->digest, sizeof(topology->digest), text.data, text.len, NULL, 0);
    qn_buf_release(&text);
    return rc;
}

static void reader_release(struct reader *reader) {
    tree_release(&reader->tree);
    section_release(&reader->nodes);
    section_release(&reader->links);
    free(reader->is_broken);
    free(reader->origins);
    free(reader->privates);
    qn_topology_release(&reader->root.topology);
}

int qn_topology_parse(const char *file_name, const char *text, size_t len, struct qn_topology *ret_topology,
                      struct qn_buf *diagnostics) {
    struct diags diags = {0};
    struct reader reader = {.diags = &diags};
    size_t start = diagnostics->len;
    int rc = tree_read(&reader.tree, text, len, &diags);
    if (rc == 0) rc = network_read(&reader);
    if (rc == 0 && diags.errors > 0) rc = -QN_EPARSE;
    if (rc == 0) rc = digest_compute(&reader.root.topology);
    if (rc == 0 || rc == -QN_EPARSE) {
        int written = diags_write(&diags, file_name, diagnostics);
        if (written < 0) rc = written;
    }
    if (rc == 0) {
        *ret_topology = reader.root.topology;
        reader.root.topology = (struct qn_topology){0};
    } else if (rc != -QN_EPARSE) {
        diagnostics->len = start;
    }
    diags_release(&diags);
    reader_release(&reader);
    return rc;
}

void qn_topology_release(struct qn_topology *topology) {
    free(topology->nodes);
    free(topology->links);
    *topology = (struct qn_topology){0};
}

int qn_topology_find_node(const struct qn_topology *topology, const char *name) {
    for (size_t i = 0; i < topology->n_nodes; i++)
        if (strcmp(topology->nodes[i].name, name) == 0) return (int)i;
    return -QN_EUNKNOWN_NODE;
}

int qn_topology_find_link(const struct qn_topology *topology, const char *name) {
    for (size_t i = 0; i < topology->n_links; i++)
        if (strcmp(topology->links[i].name, name) == 0) return (int)i;
    return -QN_EUNKNOWN_LINK;
}

const char *qn_role_name(enum qn_role role) { return role_words[role]; }
const char *qn_link_kind_name(enum qn_link_kind kind) { return kind_words[kind]; }

bool qn_topology_is_neighbour(const struct qn_topology *topology, uint16_t a, uint16_t b) {
    if (a == b) return false;
    for (size_t i = 0; i < topology->n_links; i++) {
        const struct qn_topo_link *link = &topology->links[i];
        bool has_a = link->a == a || link->b == a || link->via == a;
        bool has_b = link->a == b || link->b == b || link->via == b;
        if (has_a && has_b) return true;
    }
    return false;
}
