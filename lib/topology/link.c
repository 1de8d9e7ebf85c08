/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "topology/internal.h"

/* One link: its ends first, since its kind follows from them; then the defaults for that kind; then its own. */

struct link_reading {
    struct reader *reader;
    const struct named *entry;
    struct owner owner;
    struct slots own;
    struct link_draft draft;
    uint32_t ends[2]; /* Values in the tree that name a and b. */
};

static struct qn_topo_node *node_at(const struct link_reading *reading, uint16_t index) {
    return &reading->reader->root.topology.nodes[index];
}

static bool node_named(struct link_reading *reading, uint32_t value, uint16_t *ret_index) {
    struct reader *reader = reading->reader;
    const struct tree_value *v = &reader->tree.values[value];
    if (v->kind == TREE_BAD) return false;
    if (v->kind != TREE_SCALAR) {
        diag_error(reader->diags, v->at, "an end of %s is a collection; valid: the name of a node", reading->owner.s);
        return false;
    }
    const char *name = tree_text(&reader->tree, value);
    const struct named *node = section_find(&reader->nodes, name);
    if (node == NULL) {
        diag_unknown(reader->diags, v->at, "node", name, "", reader->nodes.names, reader->nodes.len);
        return false;
    }
    *ret_index = (uint16_t)node->index;
    return true;
}

static bool ends_read(struct link_reading *reading) {
    struct reader *reader = reading->reader;
    struct qn_topo_link *link = &reading->draft.link;
    uint32_t between = reading->own.value[LINK_BETWEEN];
    if (between == 0) return false;
    const struct tree_value *list = &reader->tree.values[between];
    if (list->kind == TREE_BAD) return false;
    if (list->kind != TREE_SEQUENCE || list->n_children != 2) {
        diag_error(reader->diags, list->at, "%s needs two ends; valid: between: [node, node]", reading->owner.s);
        return false;
    }
    reading->ends[0] = list->first;
    reading->ends[1] = reader->tree.values[list->first].next;
    bool has_a = node_named(reading, reading->ends[0], &link->a);
    bool has_b = node_named(reading, reading->ends[1], &link->b);
    if (!has_a || !has_b) return false;
    if (link->a == link->b) {
        diag_error(reader->diags, place_of(reader, reading->ends[1]),
                   "%s ends where it starts, at \"%s\"; valid: two different nodes", reading->owner.s,
                   node_at(reading, link->a)->name);
        return false;
    }
    return true;
}

static bool has_parts(const struct link_reading *reading, uint16_t node, unsigned parts) {
    return (node_parts(node_at(reading, node)) & parts) == parts;
}

static bool joins_roles(const struct link_reading *reading, enum qn_role one, enum qn_role other) {
    enum qn_role a = node_at(reading, reading->draft.link.a)->role, b = node_at(reading, reading->draft.link.b)->role;
    return (a == one && b == other) || (a == other && b == one);
}

static bool kind_guess(struct link_reading *reading) {
    struct qn_topo_link *link = &reading->draft.link;
    if (joins_roles(reading, QN_ROLE_SOURCE, QN_ROLE_DETECTOR)) {
        link->kind = QN_LINK_BB84;
        return true;
    }
    if (has_parts(reading, link->a, NODE_MEMORY) && has_parts(reading, link->b, NODE_MEMORY)) {
        link->kind = QN_LINK_ENTANGLEMENT;
        return true;
    }
    diag_error(
        reading->reader->diags, place_of(reading->reader, reading->own.value[LINK_BETWEEN]),
        "%s joins a %s and a %s, from which its kind does not follow; valid: kind: entanglement, bb84 or classical",
        reading->owner.s, qn_role_name(node_at(reading, link->a)->role), qn_role_name(node_at(reading, link->b)->role));
    return false;
}

static void check_entanglement(struct link_reading *reading) {
    const struct qn_topo_link *link = &reading->draft.link;
    struct diags *diags = reading->reader->diags;
    for (int i = 0; i < 2; i++) {
        const struct qn_topo_node *end = node_at(reading, i == 0 ? link->a : link->b);
        if (end->memories > 0) continue;
        diag_error(diags, place_of(reading->reader, reading->ends[i]),
                   "node \"%s\" (%s) has no memories, and %s needs them; valid: role memory or repeater, or memories: "
                   "1 or more",
                   end->name, qn_role_name(end->role), reading->owner.s);
    }
    if (link->via == QN_NO_NODE && link->model != QN_MODEL_IDEAL && !has_parts(reading, link->b, NODE_DETECTOR))
        diag_error(diags, place_of(reading->reader, reading->ends[1]),
                   "node \"%s\" has no detectors for the photons of %s; valid: efficiency above 0, or via: a detector",
                   node_at(reading, link->b)->name, reading->owner.s);
}

static bool sends_pulses(const struct link_reading *reading, uint16_t node) {
    return has_parts(reading, node, NODE_SOURCE) && node_at(reading, node)->source != QN_SOURCE_PAIRS;
}

/* Makes `a` the source, whichever way round the file has it. */
static void settle_bb84(struct link_reading *reading) {
    struct qn_topo_link *link = &reading->draft.link;
    struct diags *diags = reading->reader->diags;
    if (sends_pulses(reading, link->a) && has_parts(reading, link->b, NODE_DETECTOR)) return;
    if (sends_pulses(reading, link->b)) {
        uint16_t end = link->a;
        link->a = link->b;
        link->b = end;
        uint32_t value = reading->ends[0];
        reading->ends[0] = reading->ends[1];
        reading->ends[1] = value;
    }
    const struct qn_topo_node *a = node_at(reading, link->a), *b = node_at(reading, link->b);
    if (!sends_pulses(reading, link->a))
        diag_error(diags, place_of(reading->reader, reading->own.value[LINK_BETWEEN]),
                   "%s is bb84, and neither \"%s\" nor \"%s\" sends single pulses; valid: an end with source: "
                   "single-photon or weak-coherent",
                   reading->owner.s, a->name, b->name);
    else if (!has_parts(reading, link->b, NODE_DETECTOR))
        diag_error(diags, place_of(reading->reader, reading->ends[1]),
                   "node \"%s\" (%s) has no detectors, and %s needs them; valid: role detector, or efficiency above 0",
                   b->name, qn_role_name(b->role), reading->owner.s);
}

static void via_read(struct link_reading *reading, bool has_ends) {
    struct qn_topo_link *link = &reading->draft.link;
    struct reader *reader = reading->reader;
    uint32_t value = reading->own.value[LINK_VIA];
    uint16_t via = 0;
    if (value == 0 || reader->tree.values[value].kind != TREE_SCALAR || !node_named(reading, value, &via)) return;
    const struct qn_topo_node *station = node_at(reading, via);
    struct place at = place_of(reader, value);
    if (link->kind != QN_LINK_ENTANGLEMENT) {
        diag_error(reader->diags, at, "%s is %s and has no station; valid: via only with kind: entanglement",
                   reading->owner.s, qn_link_kind_name(link->kind));
    } else if (has_ends && (via == link->a || via == link->b)) {
        diag_error(reader->diags, at, "%s goes via its own end \"%s\"; valid: a third node", reading->owner.s,
                   station->name);
    } else if (reader->is_broken[via]) {
        return;
    } else if (station->role == QN_ROLE_DETECTOR) {
        link->placement = QN_PLACE_MIDPOINT;
    } else if (station->role == QN_ROLE_SOURCE && station->source == QN_SOURCE_PAIRS) {
        link->placement = QN_PLACE_SOURCE;
    } else {
        diag_error(reader->diags, at,
                   "node \"%s\" (%s%s) cannot be the station of %s; valid: a detector, or a source with source: pairs",
                   station->name, qn_role_name(station->role), station->role == QN_ROLE_SOURCE ? " without pairs" : "",
                   reading->owner.s);
    }
    link->via = via;
}

static struct qn_topo_link link_preset(void) {
    return (struct qn_topo_link){.via = QN_NO_NODE,
                                 .loss_db_km = 0.2,
                                 .light_speed_km_s = 2e5,
                                 .fidelity = 1,
                                 .probability = 1,
                                 .attempt_s = 10e-6,
                                 .visibility = 1,
                                 .alpha = 0.1,
                                 .emission_efficiency = 1};
}

static void link_read(struct reader *reader, const struct named *entry, struct qn_topo_link *ret_link) {
    struct link_reading reading = {
        .reader = reader, .entry = entry, .owner = owner_of("link", entry->name), .draft = {.link = link_preset()}};
    struct qn_topo_link *link = &reading.draft.link;
    struct slots head = {0};
    size_t len = strlen(entry->name);
    memcpy(link->name, entry->name, len < QN_NAME_MAX ? len : QN_NAME_MAX);

    if (!slots_fill(reader, &link_table, reading.owner.s, entry->value, false, &reading.own)) return;
    slots_require(reader, &link_table, &reading.own, reading.owner.s, place_of(reader, entry->key));
    bool has_ends = ends_read(&reading);
    bool is_judged = has_ends && !reader->is_broken[link->a] && !reader->is_broken[link->b];
    bool is_kind_given = reading.own.key[LINK_KIND] != 0;
    slots_move(&reading.own, &head, LINK_KIND);
    bool has_kind = is_kind_given ? slots_apply(reader, &link_table, &head, 0, &reading.draft) == 0
                                  : is_judged && kind_guess(&reading);

    unsigned parts = has_kind ? LINK_PART(link->kind) : 0;
    (void)slots_apply(reader, &link_table, &reader->link_defaults, parts, &reading.draft);
    uint64_t wrong = slots_apply(reader, &link_table, &reading.own, ~0u, &reading.draft);
    if (has_kind) {
        via_read(&reading, has_ends);
        reading.own.key[LINK_VIA] = 0; /* Has been judged. */
        slots_drop_idle(reader, &link_table, &reading.own, parts, reading.owner.s, &reading.draft);
    }
    if (has_kind && is_judged && wrong == 0) {
        if (link->kind == QN_LINK_ENTANGLEMENT) check_entanglement(&reading);
        if (link->kind == QN_LINK_BB84) settle_bb84(&reading);
    }
    if (reading.own.value[LINK_CLASSICAL_DELAY] == 0 && reader->link_defaults.value[LINK_CLASSICAL_DELAY] == 0)
        link->classical_delay_ns = (uint64_t)(link->length_km / link->light_speed_km_s * 1e9 + 0.5);
    *ret_link = *link;
}

int links_read(struct reader *reader) {
    struct qn_topology *topology = &reader->root.topology;
    int rc = section_read(reader, ROOT_LINKS, "link", QN_MAX_LINKS, &reader->links);
    if (rc < 0) return rc;
    topology->links = calloc(reader->links.len + 1, sizeof(*topology->links));
    if (topology->links == NULL) return -QN_ENOMEM;
    topology->n_links = reader->links.len;
    for (size_t i = 0; i < reader->links.len; i++) link_read(reader, &reader->links.list[i], &topology->links[i]);
    return 0;
}
