/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "topology/internal.h"
#include "topology/values.h"

/* Walks mappings along a table: which keys are there, and what their values say. */

struct place place_of(const struct reader *reader, uint32_t value) {
    return reader->tree.values[value].at;
}

struct owner owner_of(const char *what, const char *name) {
    struct owner owner;
    snprintf(owner.s, sizeof(owner.s), "%s %s", what, quote(name).s);
    return owner;
}

static bool is_nothing(const struct reader *reader, uint32_t value) {
    const struct tree_value *v = &reader->tree.values[value];
    return v->kind == TREE_SCALAR && v->is_plain && tree_text(&reader->tree, value)[0] == '\0';
}

/* Must `value` be a mapping? Reports anything else but nothing at all. */
static bool is_mapping(struct reader *reader, const char *owner, uint32_t value) {
    enum tree_kind kind = reader->tree.values[value].kind;
    if (kind == TREE_MAPPING || is_nothing(reader, value)) return true;
    if (kind != TREE_BAD)
        diag_error(reader->diags, place_of(reader, value), "%s is a %s; valid: a mapping, {key: value, ...}", owner,
                   kind == TREE_SEQUENCE ? "list" : "text");
    return false;
}

static bool is_allowed(const struct field *field, bool is_defaults) {
    return !is_defaults || !(field->flags & FIELD_ENTRY_ONLY);
}

static const struct field *field_find(const struct table *table, const char *key) {
    for (size_t i = 0; i < table->len; i++)
        if (strcmp(table->fields[i].key, key) == 0) return &table->fields[i];
    return NULL;
}

static void report_key(struct reader *reader, const struct table *table, const char *owner, uint32_t key,
                       bool is_defaults) {
    const char *names[TABLE_MAX], *text = tree_text(&reader->tree, key);
    char where[160];
    size_t n = 0;
    if (is_defaults && field_find(table, text) != NULL) {
        diag_error(reader->diags, place_of(reader, key), "key %s has no place in %s: give it to each %s", quote(text).s,
                   owner, table->what);
        return;
    }
    for (size_t i = 0; i < table->len; i++)
        if (is_allowed(&table->fields[i], is_defaults)) names[n++] = table->fields[i].key;
    snprintf(where, sizeof(where), " in %s", owner);
    diag_unknown(reader->diags, place_of(reader, key), "key", text, where, names, n);
}

bool slots_fill(struct reader *reader, const struct table *table, const char *owner, uint32_t mapping, bool is_defaults,
                struct slots *slots) {
    *slots = (struct slots){0};
    if (!is_mapping(reader, owner, mapping)) return false;
    const struct tree_value *values = reader->tree.values;
    for (uint32_t key = values[mapping].first; key != 0; key = values[values[key].next].next) {
        if (values[key].kind == TREE_BAD) continue;
        if (values[key].kind != TREE_SCALAR) {
            diag_error(reader->diags, values[key].at, "a key of %s is a collection; valid: a name", owner);
            continue;
        }
        const struct field *field = field_find(table, tree_text(&reader->tree, key));
        if (field == NULL || !is_allowed(field, is_defaults)) {
            report_key(reader, table, owner, key, is_defaults);
            continue;
        }
        size_t slot = (size_t)(field - table->fields);
        if (slots->key[slot] != 0) {
            diag_error(reader->diags, values[key].at, "duplicate key \"%s\" in %s: first given at line %u", field->key,
                       owner, place_of(reader, slots->key[slot]).line);
            continue;
        }
        slots->key[slot] = key;
        slots->value[slot] = values[key].next;
    }
    return true;
}

/* One scalar into the draft. */
static bool scalar_apply(struct reader *reader, const struct field *field, uint32_t value, void *draft) {
    const char *text = tree_text(&reader->tree, value);
    struct place at = place_of(reader, value);
    void *target = (char *)draft + field->offset;
    if (is_nothing(reader, value)) {
        diag_error(reader->diags, at, "key \"%s\" has no value", field->key);
        return false;
    }
    switch (field->type) {
    case FIELD_WORD:
        return word_read(reader->diags, at, field, text, target);
    case FIELD_COUNT:
        return count_read(reader->diags, at, field, text, target);
    case FIELD_SEED:
        return seed_read(reader->diags, at, field, text, target);
    case FIELD_NAME:
        return name_read(reader->diags, at, field->key, text, target);
    case FIELD_ADDRESS:
        return address_read(reader->diags, at, field, text, target);
    case FIELD_KEY:
        return key_read(reader->diags, at, field, text, target);
    case FIELD_TIME_NS:
        return time_ns_read(reader->diags, at, field, text, target);
    case FIELD_QUANTITY:
        if (!number_read(reader->diags, at, field, text, target)) return false;
        if (field->also != 0) memcpy((char *)draft + field->also, target, sizeof(double));
        return true;
    case FIELD_LIST:
    case FIELD_NODE: /* Read by link.c, when the nodes are known. */
    case FIELD_ENDS:
    case FIELD_SECTION:
        break;
    }
    return true;
}

/* A list of scalars, or one, which is a list of one. */
static bool list_apply(struct reader *reader, const struct field *field, uint32_t value, void *draft) {
    const struct tree_value *values = reader->tree.values, *v = &values[value];
    struct qn_topo_list list = {0};
    if (v->kind == TREE_BAD) return false;
    if (v->kind == TREE_MAPPING || is_nothing(reader, value) || (v->kind == TREE_SEQUENCE && v->n_children == 0)) {
        diag_error(reader->diags, v->at, "%s is %s; valid: a list, %s: [value, value]", field->key,
                   v->kind == TREE_MAPPING ? "a mapping" : "empty", field->key);
        return false;
    }
    bool is_right = true;
    uint32_t item = v->kind == TREE_SEQUENCE ? v->first : value;
    for (; item != 0; item = v->kind == TREE_SEQUENCE ? values[item].next : 0) {
        if (values[item].kind == TREE_SCALAR) {
            if (!list_item_read(reader->diags, values[item].at, field, tree_text(&reader->tree, item), &list))
                is_right = false;
        } else {
            if (values[item].kind != TREE_BAD)
                diag_error(reader->diags, values[item].at, "a value of %s is a collection; valid: a number",
                           field->key);
            is_right = false;
        }
        if (list.n == QN_TOPO_LIST_MAX && !is_right) break;
    }
    if (is_right) memcpy((char *)draft + field->offset, &list, sizeof(list));
    return is_right;
}

static bool is_scalar(struct reader *reader, const struct field *field, uint32_t value) {
    enum tree_kind kind = reader->tree.values[value].kind;
    if (kind == TREE_SCALAR) return true;
    if (kind != TREE_BAD)
        diag_error(reader->diags, place_of(reader, value), "%s is a %s; valid: one value", field->key,
                   kind == TREE_SEQUENCE ? "list" : "mapping");
    return false;
}

uint64_t slots_apply(struct reader *reader, const struct table *table, const struct slots *slots, unsigned parts,
                     void *draft) {
    uint64_t wrong = 0;
    for (size_t i = 0; i < table->len; i++) {
        const struct field *field = &table->fields[i];
        if (slots->value[i] == 0 || field->type == FIELD_SECTION || field->type == FIELD_ENDS) continue;
        if (field->part != 0 && !(field->part & parts)) continue;
        if (field->type == FIELD_LIST) {
            if (!list_apply(reader, field, slots->value[i], draft)) wrong |= UINT64_C(1) << i;
            continue;
        }
        if (!is_scalar(reader, field, slots->value[i]) || !scalar_apply(reader, field, slots->value[i], draft))
            wrong |= UINT64_C(1) << i;
    }
    return wrong;
}

void slots_move(struct slots *from, struct slots *to, size_t slot) {
    to->key[slot] = from->key[slot];
    to->value[slot] = from->value[slot];
    from->key[slot] = from->value[slot] = 0;
}

void slots_require(struct reader *reader, const struct table *table, const struct slots *slots, const char *owner,
                   struct place at) {
    for (size_t i = 0; i < table->len; i++) {
        const struct field *field = &table->fields[i];
        if (!(field->flags & FIELD_REQUIRED) || slots->key[i] != 0) continue;
        struct qn_buf valid = {0};
        int rc = 0;
        for (size_t w = 0; field->words != NULL && field->words[w] != NULL && rc == 0; w++)
            rc = qn_buf_printf(&valid, "%s%s", w == 0 ? "" : ", ", field->words[w]);
        if (rc < 0) reader->diags->rc = rc;
        diag_error(reader->diags, at, "%s has no key \"%s\"; valid: %.*s", owner, field->key,
                   valid.len == 0 ? (int)strlen(field->help) : (int)valid.len,
                   valid.len == 0 ? field->help : (const char *)valid.data);
        qn_buf_release(&valid);
    }
}

static void field_clear(const struct field *field, void *draft) {
    void *target = (char *)draft + field->offset;
    switch (field->type) {
    case FIELD_WORD:
        memset(target, 0, sizeof(unsigned));
        break;
    case FIELD_QUANTITY:
        memset(target, 0, sizeof(double));
        break;
    case FIELD_TIME_NS:
        memset(target, 0, sizeof(uint64_t));
        break;
    case FIELD_COUNT:
        memset(target, 0, sizeof(uint32_t));
        break;
    case FIELD_LIST:
        memset(target, 0, sizeof(struct qn_topo_list));
        break;
    default:
        break;
    }
}

void slots_drop_idle(struct reader *reader, const struct table *table, const struct slots *slots, unsigned parts,
                     const char *owner, void *draft) {
    for (size_t i = 0; i < table->len; i++) {
        const struct field *field = &table->fields[i];
        if (field->part == 0 || (field->part & parts) || (field->flags & FIELD_ALWAYS)) continue;
        if (!(field->flags & FIELD_INPUT_ONLY)) field_clear(field, draft);
        if (slots->key[i] != 0)
            diag_warning(reader->diags, place_of(reader, slots->key[i]),
                         "%s has no effect: %s has nothing it applies to", field->key, owner);
    }
}

static int named_compare(const void *left, const void *right) {
    const struct named *a = left, *b = right;
    int order = strcmp(a->name, b->name);
    return order != 0 ? order : (a->index > b->index) - (a->index < b->index);
}

static int named_compare_name(const void *left, const void *right) {
    return strcmp(((const struct named *)left)->name, ((const struct named *)right)->name);
}

const struct named *section_find(const struct section *section, const char *name) {
    const struct named wanted = {.name = name};
    if (section->len == 0) return NULL;
    return bsearch(&wanted, section->sorted, section->len, sizeof(wanted), named_compare_name);
}

void section_release(struct section *section) {
    free(section->list);
    free(section->sorted);
    free(section->names);
    *section = (struct section){0};
}

static void section_sort(struct reader *reader, const char *what, struct section *section) {
    if (section->len == 0) return;
    memcpy(section->sorted, section->list, section->len * sizeof(*section->list));
    qsort(section->sorted, section->len, sizeof(*section->sorted), named_compare);
    for (size_t i = 1, first = 0; i < section->len; i++) {
        if (strcmp(section->sorted[i].name, section->sorted[first].name) != 0)
            first = i;
        else
            diag_error(reader->diags, place_of(reader, section->sorted[i].key),
                       "duplicate %s %s: first given at line %u", what, quote(section->sorted[i].name).s,
                       place_of(reader, section->sorted[first].key).line);
    }
}

int section_read(struct reader *reader, enum root_field field, const char *what, size_t max, struct section *section) {
    uint32_t mapping = reader->root_slots.value[field];
    const struct tree_value *values = reader->tree.values;
    if (mapping == 0 || !is_mapping(reader, root_table.fields[field].key, mapping)) return 0;
    size_t len = values[mapping].n_children / 2;
    if (len > max) {
        diag_error(reader->diags, place_of(reader, mapping), "%zu %ss: at most %zu", len, what, max);
        return -QN_EPARSE;
    }
    section->list = calloc(len + 1, sizeof(*section->list)); /* + 1: calloc(0) may be NULL. */
    section->sorted = calloc(len + 1, sizeof(*section->sorted));
    section->names = calloc(len + 1, sizeof(*section->names));
    if (section->list == NULL || section->sorted == NULL || section->names == NULL) return -QN_ENOMEM;
    for (uint32_t key = values[mapping].first; key != 0; key = values[values[key].next].next) {
        char name[QN_NAME_MAX + 1];
        if (values[key].kind == TREE_BAD) continue;
        if (values[key].kind != TREE_SCALAR) {
            diag_error(reader->diags, values[key].at, "the name of a %s is a collection; valid: a name", what);
            continue;
        }
        const char *text = tree_text(&reader->tree, key);
        (void)name_read(reader->diags, values[key].at, what, text, name); /* A bad name can still be referred to. */
        section->list[section->len] = (struct named){text, key, values[key].next, (uint32_t)section->len};
        section->names[section->len] = text;
        section->len++;
    }
    section_sort(reader, what, section);
    return 0;
}
