/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/err.h"
#include "topology/internal.h"

/* YAML through libyaml's events, which carry exact places, instead of its own document type, which does not keep the
 * difference between an alias and what it stands for. Of YAML only mappings, sequences and texts are left: anchors,
 * aliases, tags and further documents are refused, since they let a small file mean a large one or a different one. */

#define DEPTH_MAX 8
#define VALUES_MAX (1u << 20) /* The largest canonical file has about 900,000. */

struct open {
    uint32_t value; /* The collection being read. */
    uint32_t last;  /* Its newest child; 0 while there is none. */
};

struct builder {
    struct tree *tree;
    struct diags *diags;
    struct open stack[DEPTH_MAX];
    size_t depth;
};

static struct place place_from(yaml_mark_t mark) {
    return (struct place){(uint32_t)mark.line + 1, (uint32_t)mark.column + 1};
}

static int text_keep(struct tree *tree, const char *text, size_t len, size_t *ret_offset) {
    int rc = qn_buf_reserve(&tree->pool, len + 1);
    if (rc < 0) return rc;
    *ret_offset = tree->pool.len;
    if (len > 0) (void)qn_buf_append(&tree->pool, text, len);
    return qn_buf_append(&tree->pool, "", 1);
}

static int value_add(struct builder *builder, const struct tree_value *value, uint32_t *ret_index) {
    struct tree *tree = builder->tree;
    if (tree->len == VALUES_MAX) {
        diag_error(builder->diags, value->at, "too many values: a file holds at most %u", VALUES_MAX);
        return -QN_EPARSE;
    }
    if (tree->len == tree->cap) {
        size_t cap = tree->cap == 0 ? 256 : tree->cap * 2;
        struct tree_value *values = realloc(tree->values, cap * sizeof(*values));
        if (values == NULL) return -QN_ENOMEM;
        tree->values = values;
        tree->cap = cap;
    }
    uint32_t index = (uint32_t)tree->len++;
    tree->values[index] = *value;
    if (builder->depth > 0) {
        struct open *parent = &builder->stack[builder->depth - 1];
        if (parent->last == 0)
            tree->values[parent->value].first = index;
        else
            tree->values[parent->last].next = index;
        tree->values[parent->value].n_children++;
        parent->last = index;
    }
    *ret_index = index;
    return 0;
}

static void refuse_extras(struct builder *builder, struct place at, const yaml_char_t *anchor, const yaml_char_t *tag) {
    if (anchor != NULL)
        diag_error(builder->diags, at,
                   "anchor %s: anchors and aliases are not supported; write the value out, or use defaults",
                   quote((const char *)anchor).s);
    if (tag != NULL && strcmp((const char *)tag, "!") != 0)
        diag_error(builder->diags, at, "tag %s: tags are not supported; write the value alone",
                   quote((const char *)tag).s);
}

static int on_scalar(struct builder *builder, const yaml_event_t *event) {
    struct tree_value value = {.kind = TREE_SCALAR, .at = place_from(event->start_mark)};
    const char *text = (const char *)event->data.scalar.value;
    size_t len = event->data.scalar.length;
    uint32_t index;
    refuse_extras(builder, value.at, event->data.scalar.anchor, event->data.scalar.tag);
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] >= 0x20 && text[i] != 0x7F) continue;
        diag_error(builder->diags, value.at,
                   "text with a line break or control character; valid: printable text on one line");
        value.kind = TREE_BAD;
        break;
    }
    value.is_plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    int rc = text_keep(builder->tree, text, value.kind == TREE_BAD ? 0 : len, &value.text);
    return rc < 0 ? rc : value_add(builder, &value, &index);
}

static int on_alias(struct builder *builder, const yaml_event_t *event) {
    struct tree_value value = {.kind = TREE_BAD, .at = place_from(event->start_mark)};
    uint32_t index;
    diag_error(builder->diags, value.at,
               "alias %s: anchors and aliases are not supported; write the value out, or use defaults",
               quote((const char *)event->data.alias.anchor).s);
    int rc = text_keep(builder->tree, "", 0, &value.text);
    return rc < 0 ? rc : value_add(builder, &value, &index);
}

static int on_start(struct builder *builder, const yaml_event_t *event) {
    bool is_mapping = event->type == YAML_MAPPING_START_EVENT;
    struct tree_value value = {.kind = is_mapping ? TREE_MAPPING : TREE_SEQUENCE, .at = place_from(event->start_mark)};
    if (builder->depth == DEPTH_MAX) {
        diag_error(builder->diags, value.at, "nested too deeply: at most %d levels", DEPTH_MAX);
        return -QN_EPARSE;
    }
    if (is_mapping)
        refuse_extras(builder, value.at, event->data.mapping_start.anchor, event->data.mapping_start.tag);
    else
        refuse_extras(builder, value.at, event->data.sequence_start.anchor, event->data.sequence_start.tag);
    uint32_t index;
    int rc = value_add(builder, &value, &index);
    if (rc == 0) builder->stack[builder->depth++] = (struct open){index, 0};
    return rc;
}

/* One event. 1 when there is nothing more to read. */
static int on_event(struct builder *builder, const yaml_event_t *event) {
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return on_scalar(builder, event);
    case YAML_ALIAS_EVENT:
        return on_alias(builder, event);
    case YAML_MAPPING_START_EVENT:
    case YAML_SEQUENCE_START_EVENT:
        return on_start(builder, event);
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        builder->depth--;
        return 0;
    case YAML_DOCUMENT_START_EVENT:
        if (builder->tree->len == 0) return 0;
        diag_error(builder->diags, place_from(event->start_mark), "second document: a file describes one network");
        return 1;
    case YAML_STREAM_END_EVENT:
        return 1;
    default:
        return 0;
    }
}

static void report_syntax(struct diags *diags, const yaml_parser_t *parser, const char *text, size_t len) {
    struct place at = place_from(parser->problem_mark);
    const char *problem = parser->problem == NULL ? "unreadable" : parser->problem;
    if (parser->error == YAML_READER_ERROR) { /* Has an offset instead of a mark. */
        at = (struct place){1, 1};
        for (size_t i = 0; i < parser->problem_offset && i < len; i++) {
            if (text[i] == '\n')
                at = (struct place){at.line + 1, 1};
            else if (((unsigned char)text[i] & 0xC0) != 0x80)
                at.column++;
        }
        diag_error(diags, at, "not valid YAML: %s; valid: UTF-8 text", problem);
    } else if (parser->context != NULL) {
        diag_error(diags, at, "not valid YAML: %s %s that starts at line %zu", problem, parser->context,
                   parser->context_mark.line + 1);
    } else {
        diag_error(diags, at, "not valid YAML: %s", problem);
    }
}

static int events_read(struct builder *builder, yaml_parser_t *parser, const char *text, size_t len) {
    for (int rc = 0; rc == 0;) {
        yaml_event_t event;
        if (!yaml_parser_parse(parser, &event)) {
            if (parser->error == YAML_MEMORY_ERROR) return -QN_ENOMEM;
            report_syntax(builder->diags, parser, text, len);
            return -QN_EPARSE;
        }
        rc = on_event(builder, &event);
        yaml_event_delete(&event);
        if (rc < 0) return rc;
    }
    if (builder->tree->len > 0) return 0;
    diag_error(builder->diags, (struct place){1, 1}, "the file is empty; valid: version, network, nodes, links");
    return -QN_EPARSE;
}

int tree_read(struct tree *tree, const char *text, size_t len, struct diags *diags) {
    struct builder builder = {.tree = tree, .diags = diags};
    yaml_parser_t parser;
    if (len > QN_TOPOLOGY_BYTES_MAX) {
        diag_error(diags, (struct place){1, 1}, "the file has %zu bytes: at most %u", len, QN_TOPOLOGY_BYTES_MAX);
        return -QN_EPARSE;
    }
    if (len >= 3 &&
        memcmp(text, "\xEF\xBB\xBF", 3) == 0) { /* A byte order mark would shift the first line's columns. */
        text += 3;
        len -= 3;
    }
    if (!yaml_parser_initialize(&parser)) return -QN_ENOMEM;
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    int rc = events_read(&builder, &parser, text, len);
    yaml_parser_delete(&parser);
    return rc;
}

void tree_release(struct tree *tree) {
    free(tree->values);
    qn_buf_release(&tree->pool);
    *tree = (struct tree){0};
}
