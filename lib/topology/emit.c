/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <math.h>
#include <sodium.h>
#include <string.h>

#include "base/err.h"
#include "topology/internal.h"

/* The canonical form: one line a node or link, every number that has an effect, in the order of the tables. */

struct writer writer_start(struct qn_buf *out) {
    return (struct writer){out, out->len, 0};
}

void put(struct writer *writer, const char *format, ...) {
    if (writer->rc < 0) return;
    va_list args;
    va_start(args, format);
    writer->rc = qn_buf_vprintf(writer->out, format, args);
    va_end(args);
}

int writer_end(struct writer *writer) {
    if (writer->rc < 0) writer->out->len = writer->start;
    return writer->rc;
}

/* Names that other readers of YAML would take for a number or a truth value go in quotes. */
static bool needs_quotes(const char *name) {
    static const char *const words[] = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strcmp(name, words[i]) == 0) return true;
    return name[0] < 'a';
}

static void put_name(struct writer *writer, const char *name) {
    const char *mark = needs_quotes(name) ? "\"" : "";
    put(writer, "%s%s%s", mark, name, mark);
}

static void put_key(struct writer *writer, const uint8_t key[32]) {
    char text[sodium_base64_ENCODED_LEN(32, sodium_base64_VARIANT_ORIGINAL)];
    put(writer, "\"%s\"", sodium_bin2base64(text, sizeof(text), key, 32, sodium_base64_VARIANT_ORIGINAL));
}

static void put_address(struct writer *writer, const struct qn_address *address) {
    bool is_v6 = strchr(address->host, ':') != NULL;
    put(writer, "\"%s%s%s:%u\"", is_v6 ? "[" : "", address->host, is_v6 ? "]" : "", address->port);
}

static void put_node_name(struct writer *writer, const struct qn_topology *topology, uint16_t node) {
    put_name(writer, topology->nodes[node].name);
}

static void put_value(struct writer *writer, const struct qn_topology *topology, const struct field *field,
                      const void *value) {
    unsigned word;
    uint32_t count;
    uint64_t whole;
    double number;
    uint16_t node;
    switch (field->type) {
    case FIELD_WORD:
        memcpy(&word, value, sizeof(word));
        put(writer, "%s", field->words[word]);
        break;
    case FIELD_COUNT:
        memcpy(&count, value, sizeof(count));
        put(writer, "%" PRIu32, count);
        break;
    case FIELD_SEED:
        memcpy(&whole, value, sizeof(whole));
        put(writer, "%" PRIu64, whole);
        break;
    case FIELD_TIME_NS:
        memcpy(&whole, value, sizeof(whole));
        put(writer, "%s", quantity_write((double)whole, field->dimension, 9).s);
        break;
    case FIELD_QUANTITY:
        memcpy(&number, value, sizeof(number));
        put(writer, "%s", quantity_write(number, field->dimension, 0).s);
        break;
    case FIELD_NAME:
        put_name(writer, value);
        break;
    case FIELD_ADDRESS:
        put_address(writer, value);
        break;
    case FIELD_KEY:
        put_key(writer, value);
        break;
    case FIELD_NODE:
        memcpy(&node, value, sizeof(node));
        put_node_name(writer, topology, node);
        break;
    case FIELD_ENDS: /* a and b, which lie side by side. */
        memcpy(&node, value, sizeof(node));
        put(writer, "[");
        put_node_name(writer, topology, node);
        put(writer, ", ");
        memcpy(&node, (const char *)value + sizeof(node), sizeof(node));
        put_node_name(writer, topology, node);
        put(writer, "]");
        break;
    case FIELD_LIST: {
        const struct qn_topo_list *list = value;
        for (uint32_t i = 0; i < list->n; i++)
            put(writer, "%s%s", i == 0 ? "[" : ", ", quantity_write(list->value[i], field->dimension, 0).s);
        put(writer, "]");
        break;
    }
    case FIELD_SECTION:
        break;
    }
}
_Static_assert(offsetof(struct qn_topo_link, b) == offsetof(struct qn_topo_link, a) + sizeof(uint16_t),
               "see FIELD_ENDS");

/* Values that mean that nothing was given. */
static bool is_absent(const struct field *field, const void *draft) {
    const void *value = (const char *)draft + field->offset;
    double number;
    uint16_t node;
    switch (field->type) {
    case FIELD_ADDRESS:
        return ((const struct qn_address *)value)->port == 0;
    case FIELD_KEY:
        return !((const struct node_draft *)draft)->node.has_key;
    case FIELD_QUANTITY:
        memcpy(&number, value, sizeof(number));
        return isnan(number);
    case FIELD_NODE:
        memcpy(&node, value, sizeof(node));
        return node == QN_NO_NODE;
    case FIELD_LIST:
        return ((const struct qn_topo_list *)value)->n == 0;
    case FIELD_SECTION:
        return true;
    default:
        return false;
    }
}

static void put_fields(struct writer *writer, const struct qn_topology *topology, const struct table *table,
                       const void *draft, unsigned parts, bool with_private) {
    const char *separator = "{";
    for (size_t i = 0; i < table->len; i++) {
        const struct field *field = &table->fields[i];
        bool has_effect = field->part == 0 || (field->part & parts) || (field->flags & FIELD_ALWAYS);
        if (!has_effect || (field->flags & FIELD_INPUT_ONLY) || is_absent(field, draft)) continue;
        if ((field->flags & FIELD_PRIVATE) && !with_private) continue;
        put(writer, "%s%s: ", separator, field->key);
        put_value(writer, topology, field, (const char *)draft + field->offset);
        separator = ", ";
    }
    put(writer, "}\n");
}

int emit_canonical(const struct qn_topology *topology, bool with_private, struct qn_buf *out) {
    struct writer writer = writer_start(out);
    const struct root_draft root = {.topology = *topology, .version = 1};
    for (size_t i = ROOT_VERSION; i < ROOT_DEFAULTS; i++) {
        if ((root_table.fields[i].flags & FIELD_PRIVATE) && !with_private) continue;
        put(&writer, "%s: ", root_table.fields[i].key);
        put_value(&writer, topology, &root_table.fields[i], (const char *)&root + root_table.fields[i].offset);
        put(&writer, "\n");
    }
    put(&writer, "nodes:\n");
    for (size_t i = 0; i < topology->n_nodes; i++) {
        const struct node_draft draft = {.node = topology->nodes[i]};
        put(&writer, "  ");
        put_name(&writer, draft.node.name);
        put(&writer, ": ");
        put_fields(&writer, topology, &node_table, &draft, node_parts(&draft.node), with_private);
    }
    put(&writer, "links:\n");
    for (size_t i = 0; i < topology->n_links; i++) {
        const struct link_draft draft = {.link = topology->links[i]};
        put(&writer, "  ");
        put_name(&writer, draft.link.name);
        put(&writer, ": ");
        put_fields(&writer, topology, &link_table, &draft, LINK_PART(draft.link.kind), with_private);
    }
    return writer_end(&writer);
}

int qn_topology_emit_yaml(const struct qn_topology *topology, struct qn_buf *out) {
    return emit_canonical(topology, true, out);
}
