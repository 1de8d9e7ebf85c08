/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "topology/internal.h"

/* One node: its role and profile first, since they decide what it has; then the defaults for that hardware; then its
 * own. */

static bool is_given(const struct slots *slots, enum node_field field) { return slots->value[field] != 0; }

/* Hardware that the entry adds to its role's by giving the number that makes it. */
static unsigned own_parts(const struct slots *own) {
    unsigned parts = 0;
    if (is_given(own, NODE_MEMORIES)) parts |= NODE_MEMORY;
    if (is_given(own, NODE_EFFICIENCY)) parts |= NODE_DETECTOR;
    if (is_given(own, NODE_SOURCE_KIND) || is_given(own, NODE_CLOCK)) parts |= NODE_SOURCE;
    return parts;
}

/* T2 <= 2 T1, as relaxation alone gives T2 = 2 T1. A T2 that only comes from the profile gives way. */
static void check_decay(struct reader *reader, const struct slots *own, const char *owner, struct qn_topo_node *node) {
    const struct slots *defaults = &reader->node_defaults;
    double most = 2 * node->t1_s;
    if (node->t1_s == 0 || (node->t2_s > 0 && node->t2_s <= most)) return;
    if (!is_given(own, NODE_T2) && !is_given(defaults, NODE_T2)) {
        node->t2_s = most;
        return;
    }
    uint32_t blamed = is_given(own, NODE_T2)   ? own->value[NODE_T2]
                      : is_given(own, NODE_T1) ? own->value[NODE_T1]
                                               : defaults->value[NODE_T2];
    diag_error(reader->diags, place_of(reader, blamed),
               "%s has t2 %s with t1 %s, which no memory can; valid: t2 up to 2 t1, %s", owner,
               node->t2_s == 0 ? "0 (no decay)" : quantity_write(node->t2_s, QN_DIM_TIME_S, 0).s,
               quantity_write(node->t1_s, QN_DIM_TIME_S, 0).s, quantity_write(most, QN_DIM_TIME_S, 0).s);
}

static void check_drawing(struct reader *reader, const struct slots *own, const char *owner) {
    if (is_given(own, NODE_X) == is_given(own, NODE_Y)) return;
    enum node_field given = is_given(own, NODE_X) ? NODE_X : NODE_Y;
    diag_error(reader->diags, place_of(reader, own->key[given]), "%s has %s without %s; valid: both or none", owner,
               node_table.fields[given].key, given == NODE_X ? "y" : "x");
}

/* Remembers addresses and key, to compare them with those of all other nodes. */
static void note_privates(struct reader *reader, const struct named *entry, const struct slots *own, uint64_t wrong,
                          struct qn_topo_node *node) {
    for (enum node_field i = NODE_CLASSICAL; i <= NODE_KEY; i++) {
        if (!is_given(own, i) || (wrong & UINT64_C(1) << i)) continue;
        const struct field *field = &node_table.fields[i];
        struct private *private = &reader->privates[reader->n_privates++];
        *private = (struct private){.node = entry, .field = field, .value = own->value[i]};
        if (i == NODE_KEY) {
            node->has_key = true;
            private->key = node->public_key;
        } else {
            private->address = (const struct qn_address *)((const char *)node + field->offset);
        }
    }
}

static void note_origin(struct reader *reader, const struct named *entry, const struct slots *own) {
    uint64_t given = 0;
    for (size_t i = 0; i < node_table.len; i++)
        if (own->value[i] != 0 || reader->node_defaults.value[i] != 0) given |= UINT64_C(1) << i;
    reader->origins[entry->index].given = given;
}

/* Returns false if the node has errors that would mislead those who judge its links. */
static bool node_read(struct reader *reader, const struct named *entry, struct qn_topo_node *ret_node) {
    struct owner owner = owner_of("node", entry->name);
    struct slots own, head = {0};
    struct node_draft draft = {.node = {.x = NAN, .y = NAN}};
    size_t len = strlen(entry->name);
    memcpy(draft.node.name, entry->name, len < QN_NAME_MAX ? len : QN_NAME_MAX);

    if (!slots_fill(reader, &node_table, owner.s, entry->value, false, &own)) return false;
    slots_require(reader, &node_table, &own, owner.s, place_of(reader, entry->key));
    bool has_role = own.key[NODE_ROLE] != 0;
    slots_move(&own, &head, NODE_ROLE);
    slots_move(&own, &head, NODE_PROFILE);
    if (!is_given(&head, NODE_PROFILE)) head.value[NODE_PROFILE] = reader->node_defaults.value[NODE_PROFILE];
    uint64_t wrong = slots_apply(reader, &node_table, &head, 0, &draft);
    has_role = has_role && wrong == 0;

    unsigned parts = role_parts(draft.node.role) | own_parts(&own);
    if (parts & NODE_SOURCE) parts |= NODE_MEAN | NODE_HERALD;
    profile_fill(&draft.node, draft.profile, parts);
    (void)slots_apply(reader, &node_table, &reader->node_defaults, parts, &draft);
    wrong |= slots_apply(reader, &node_table, &own, ~0u, &draft);
    note_origin(reader, entry, &own);
    if (has_role && wrong == 0) {
        profile_settle(&draft.node);
        slots_drop_idle(reader, &node_table, &own, node_parts(&draft.node), owner.s, &draft);
        if (node_parts(&draft.node) & NODE_MEMORY) check_decay(reader, &own, owner.s, &draft.node);
    }
    check_drawing(reader, &own, owner.s);
    *ret_node = draft.node;
    note_privates(reader, entry, &own, wrong, ret_node);
    return has_role && wrong == 0;
}

int nodes_read(struct reader *reader) {
    struct qn_topology *topology = &reader->root.topology;
    int rc = section_read(reader, ROOT_NODES, "node", QN_MAX_NODES, &reader->nodes);
    if (rc < 0) return rc;
    const struct section *section = &reader->nodes;
    topology->nodes = calloc(section->len + 1, sizeof(*topology->nodes));
    reader->is_broken = calloc(section->len + 1, sizeof(*reader->is_broken));
    reader->origins = calloc(section->len + 1, sizeof(*reader->origins));
    reader->privates = calloc(section->len * 4 + 1, sizeof(*reader->privates));
    if (topology->nodes == NULL || reader->is_broken == NULL || reader->privates == NULL ||
        reader->origins == NULL)
        return -QN_ENOMEM;
    topology->n_nodes = section->len;
    if (section->len == 0 && reader->root_slots.key[ROOT_NODES] != 0 && reader->diags->errors == 0)
        diag_error(reader->diags, place_of(reader, reader->root_slots.key[ROOT_NODES]),
                   "no nodes; valid: at least one, name: {role: ...}");
    for (size_t i = 0; i < section->len; i++)
        reader->is_broken[i] = !node_read(reader, &section->list[i], &topology->nodes[i]);
    return 0;
}
