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
    uint32_t preset;  /* And the preset; 0 for none. */
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

static bool gives(const struct link_reading *reading, enum link_field field) {
    return reading->own.value[field] != 0 || reading->reader->link_defaults.value[field] != 0;
}

/* Where to point for a field: at its value, wherever it is given, else at the link. */
static struct place place_given(const struct link_reading *reading, enum link_field field) {
    uint32_t value = field == LINK_PRESET ? reading->preset : reading->own.value[field];
    if (value == 0) value = reading->reader->link_defaults.value[field];
    return place_of(reading->reader, value != 0 ? value : reading->entry->key);
}

/* The protocol follows from the number of intensities, unless it is given; then intensities of another protocol, that
 * come from the preset, are dropped. */
static void settle_protocol(struct link_reading *reading, enum qn_protocol preset) {
    struct qn_topo_link *link = &reading->draft.link;
    if (gives(reading, LINK_PROTOCOL)) {
        if (link->protocol != preset && !gives(reading, LINK_INTENSITIES)) link->intensities.n = 0;
        if (link->protocol != preset && !gives(reading, LINK_PROBABILITIES)) link->probabilities.n = 0;
    } else if (gives(reading, LINK_INTENSITIES)) {
        uint32_t n = link->intensities.n;
        link->protocol = n <= 1 ? QN_PROTOCOL_PLAIN : n == 2 ? QN_PROTOCOL_ONE_DECOY : QN_PROTOCOL_TWO_DECOY;
    }
    if (link->intensities.n == 1 && link->probabilities.n == 0) link->probabilities = (struct qn_topo_list){1, {1}};
}

static void check_intensities(struct link_reading *reading) {
    const struct qn_topo_link *link = &reading->draft.link;
    const struct qn_topo_list *list = &link->intensities;
    struct diags *diags = reading->reader->diags;
    struct place at = place_given(reading, LINK_INTENSITIES);
    uint32_t wanted = (uint32_t)link->protocol + 1;
    if (list->n == 0) return;
    if (list->n != wanted) {
        diag_error(diags, at, "%s has %u intensities with protocol %s; valid: %u, strongest first", reading->owner.s,
                   list->n, protocol_words[link->protocol], wanted);
        return;
    }
    for (uint32_t i = 1; i < list->n; i++) {
        if (list->value[i] < list->value[i - 1]) continue;
        diag_error(diags, at, "intensity %s of %s does not lie below %s; valid: strongest first",
                   quantity_write(list->value[i], QN_DIM_NONE, 0).s, reading->owner.s,
                   quantity_write(list->value[i - 1], QN_DIM_NONE, 0).s);
        return;
    }
    if (list->n < 3 && list->value[list->n - 1] == 0)
        diag_error(diags, at, "%s sends vacuum with protocol %s; valid: above 0, or three intensities",
                   reading->owner.s, protocol_words[link->protocol]);
    if (list->n == 3 && list->value[0] <= list->value[1] + list->value[2])
        diag_error(diags, at, "the strongest intensity of %s is not above the sum of the others; valid: above %s",
                   reading->owner.s, quantity_write(list->value[1] + list->value[2], QN_DIM_NONE, 0).s);
}

static void check_probabilities(struct link_reading *reading) {
    const struct qn_topo_link *link = &reading->draft.link;
    const struct qn_topo_list *list = &link->probabilities;
    struct diags *diags = reading->reader->diags;
    if (list->n != link->intensities.n) {
        enum link_field field = gives(reading, LINK_PROBABILITIES) ? LINK_PROBABILITIES : LINK_INTENSITIES;
        diag_error(diags, place_given(reading, field), "%s has %u intensities and %u probabilities; valid: as many",
                   reading->owner.s, link->intensities.n, list->n);
        return;
    }
    double sum = 0;
    for (uint32_t i = 0; i < list->n; i++) sum += list->value[i];
    if (list->n > 0 && !(sum > 0.999 && sum < 1.001))
        diag_error(diags, place_given(reading, LINK_PROBABILITIES), "the probabilities of %s sum to %s; valid: 1",
                   reading->owner.s, quantity_write(sum, QN_DIM_NONE, 0).s);
}

static void check_protocol(struct link_reading *reading) {
    const struct qn_topo_link *link = &reading->draft.link;
    struct diags *diags = reading->reader->diags;
    const struct qn_topo_node *source = node_at(reading, link->a);
    check_intensities(reading);
    check_probabilities(reading);
    if (source->source != QN_SOURCE_WEAK_COHERENT && (link->protocol != QN_PROTOCOL_PLAIN || link->intensities.n > 0))
        diag_error(diags,
                   place_given(reading, gives(reading, LINK_PROTOCOL)      ? LINK_PROTOCOL
                                        : gives(reading, LINK_INTENSITIES) ? LINK_INTENSITIES
                                                                           : LINK_PRESET),
                   "%s has intensities or decoys, and \"%s\" is no laser (source: %s); valid: source: weak-coherent",
                   reading->owner.s, source->name, source_words[source->source]);
    if (link->aperture_km > 0 && link->beam_waist_km == 0 && link->divergence_rad == 0)
        diag_error(diags, place_given(reading, LINK_APERTURE),
                   "%s is in free space with a beam of no width; valid: beam_waist or divergence above 0",
                   reading->owner.s);
    if (link->aperture_km == 0 && (link->beam_waist_km > 0 || link->divergence_rad > 0))
        diag_error(diags, place_given(reading, link->beam_waist_km > 0 ? LINK_BEAM_WAIST : LINK_DIVERGENCE),
                   "%s has a beam but no telescope to catch it; valid: aperture above 0", reading->owner.s);
}

/* The ends of a preset's link have its hardware, where they give none themselves. A node with two links has one. */
static void preset_reach_ends(struct link_reading *reading) {
    struct reader *reader = reading->reader;
    enum preset preset = reading->draft.preset;
    const struct qn_topo_link *link = &reading->draft.link;
    for (int i = 0; i < 2; i++) {
        uint16_t node = i == 0 ? link->a : link->b;
        struct node_origin *origin = &reader->origins[node];
        if (origin->preset != PRESET_NONE && origin->preset != preset) {
            diag_error(reader->diags, place_given(reading, LINK_PRESET),
                       "node \"%s\" would have the hardware of %s by %s, but has that of %s by link \"%s\"; valid: one "
                       "preset a node",
                       node_at(reading, node)->name, preset_words[preset], reading->owner.s,
                       preset_words[origin->preset], reader->links.list[origin->link].name);
            continue;
        }
        origin->preset = preset;
        origin->link = reading->entry->index;
        preset_fill_node(node_at(reading, node), preset, i == 0, origin->given);
    }
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
                                 .emission_efficiency = 1,
                                 .eps_sec = 1e-9,
                                 .eps_cor = 1e-15};
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
    slots_move(&reading.own, &head, LINK_PRESET);
    if (head.value[LINK_PRESET] == 0) head.value[LINK_PRESET] = reader->link_defaults.value[LINK_PRESET];
    reading.own.key[LINK_PRESET] = head.key[LINK_PRESET];
    reading.preset = head.value[LINK_PRESET];
    head.value[LINK_KIND] = 0;
    uint64_t wrong = slots_apply(reader, &link_table, &head, parts, &reading.draft);
    preset_fill_link(link, reading.draft.preset);
    enum qn_protocol preset_protocol = link->protocol;
    (void)slots_apply(reader, &link_table, &reader->link_defaults, parts, &reading.draft);
    wrong |= slots_apply(reader, &link_table, &reading.own, ~0u, &reading.draft);
    if (has_kind) {
        via_read(&reading, has_ends);
        reading.own.key[LINK_VIA] = 0; /* Has been judged. */
        slots_drop_idle(reader, &link_table, &reading.own, parts, reading.owner.s, &reading.draft);
    }
    if (has_kind && is_judged && wrong == 0) {
        if (link->kind == QN_LINK_ENTANGLEMENT) check_entanglement(&reading);
        if (link->kind == QN_LINK_BB84) {
            settle_bb84(&reading);
            if (reading.draft.preset != PRESET_NONE) preset_reach_ends(&reading);
            settle_protocol(&reading, preset_protocol);
            check_protocol(&reading);
        }
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
