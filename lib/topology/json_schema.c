/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "topology/internal.h"

/* JSON Schema draft-07 of the file, for editors. It knows what one value may be; what values together may be (ends that
 * exist, t2 <= 2 t1) only the parser knows. */

#define NAME_PATTERN "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
#define NUMBER_PATTERN "[0-9]+(\\\\.[0-9]+)?([eE][-+]?[0-9]{1,4})?"
#define ZERO_PATTERN "0+(\\\\.0+)?"
#define ADDRESS_PATTERN "^(\\\\[[0-9a-fA-F:.]+\\\\]|[A-Za-z0-9._-]{1,63}):[1-9][0-9]{0,4}$"
#define KEY_PATTERN "^([0-9a-fA-F]{64}|[A-Za-z0-9+/]{43}=)$"

static void put_words(struct writer *writer, const char *const *words) {
    put(writer, "\"enum\": [");
    for (size_t i = 0; words[i] != NULL; i++) put(writer, "%s\"%s\"", i == 0 ? "" : ", ", words[i]);
    put(writer, "]");
}

static void put_range(struct writer *writer, double min, double max) {
    put(writer, "\"minimum\": %s, \"maximum\": %s", quantity_write(min, QN_DIM_NONE, 0).s,
        quantity_write(max, QN_DIM_NONE, 0).s);
}

/* A number where no unit is needed, or a text with one; some readers of YAML take 1e-6 for a text too. */
static void put_quantity(struct writer *writer, const struct field *field) {
    const struct dimension *dimension = dimension_of(field->dimension);
    put(writer, "\"anyOf\": [");
    if (!dimension->needs_unit) {
        put(writer, "{\"type\": \"number\", ");
        put_range(writer, field->min, field->max);
        put(writer, "}, ");
    } else if (field->min <= 0) {
        put(writer, "{\"const\": 0}, ");
    }
    put(writer, "{\"type\": \"string\", \"pattern\": \"^(%s%s" NUMBER_PATTERN " *(",
        field->min <= 0 ? ZERO_PATTERN "|" : "", field->min < 0 ? "-?" : "");
    for (const struct unit *unit = dimension->units; unit->name != NULL; unit++)
        put(writer, "%s%s", unit == dimension->units ? "" : "|", unit->name);
    put(writer, "))$\"}]");
}

static void put_type(struct writer *writer, const struct field *field) {
    switch (field->type) {
    case FIELD_WORD:
        put_words(writer, field->words);
        break;
    case FIELD_COUNT:
        put(writer, "\"type\": \"integer\", ");
        put_range(writer, field->min, field->max);
        break;
    case FIELD_SEED:
        put(writer, "\"type\": \"integer\", \"minimum\": 0");
        break;
    case FIELD_QUANTITY:
    case FIELD_TIME_NS:
        put_quantity(writer, field);
        break;
    case FIELD_LIST:
        put(writer, "\"anyOf\": [{\"type\": \"array\", \"minItems\": 1, \"maxItems\": %d, \"items\": {",
            QN_TOPO_LIST_MAX);
        put_quantity(writer, field);
        put(writer, "}}, {");
        put_quantity(writer, field);
        put(writer, "}]");
        break;
    case FIELD_NAME:
    case FIELD_NODE:
        put(writer, "\"type\": \"string\", \"pattern\": \"" NAME_PATTERN "\"");
        break;
    case FIELD_ADDRESS:
        put(writer, "\"type\": \"string\", \"pattern\": \"" ADDRESS_PATTERN "\"");
        break;
    case FIELD_KEY:
        put(writer, "\"type\": \"string\", \"pattern\": \"" KEY_PATTERN "\"");
        break;
    case FIELD_ENDS:
        put(writer, "\"type\": \"array\", \"minItems\": 2, \"maxItems\": 2, "
                    "\"items\": {\"type\": \"string\", \"pattern\": \"" NAME_PATTERN "\"}");
        break;
    case FIELD_SECTION:
        break;
    }
}

static void put_help(struct writer *writer, const struct field *field) {
    put(writer, "\"description\": \"%s", field->help);
    if (field->fallback != NULL) put(writer, " Default: %s.", field->fallback);
    put(writer, "\"");
}

/* The keys of an entry, or of the defaults for such entries. */
static void put_entry(struct writer *writer, const char *name, const struct table *table, bool is_defaults) {
    put(writer, "    \"%s\": {\n      \"type\": [\"object\", \"null\"],\n      \"additionalProperties\": false,\n",
        name);
    const char *separator = "      \"required\": [";
    for (size_t i = 0; i < table->len && !is_defaults; i++) {
        if (!(table->fields[i].flags & FIELD_REQUIRED)) continue;
        put(writer, "%s\"%s\"", separator, table->fields[i].key);
        separator = ", ";
    }
    put(writer, "%s      \"properties\": {", is_defaults ? "" : "],\n");
    separator = "\n";
    for (size_t i = 0; i < table->len; i++) {
        const struct field *field = &table->fields[i];
        if (is_defaults && (field->flags & FIELD_ENTRY_ONLY)) continue;
        put(writer, "%s        \"%s\": {", separator, field->key);
        put_type(writer, field);
        put(writer, ", ");
        put_help(writer, field);
        put(writer, "}");
        separator = ",\n";
    }
    put(writer, "\n      }\n    }");
}

static void put_section(struct writer *writer, const struct field *field, const char *entry, size_t max) {
    put(writer, "    \"%s\": {\"type\": [\"object\", \"null\"], \"maxProperties\": %zu, ", field->key, max);
    put(writer, "\"propertyNames\": {\"pattern\": \"" NAME_PATTERN "\"}, ");
    put(writer, "\"additionalProperties\": {\"$ref\": \"#/definitions/%s\"}, ", entry);
    put_help(writer, field);
    put(writer, "}");
}

int qn_topology_emit_schema(struct qn_buf *out) {
    struct writer writer = writer_start(out);
    put(&writer, "{\n  \"$schema\": \"http://json-schema.org/draft-07/schema#\",\n  \"title\": \"qnetd network\",\n"
                 "  \"type\": \"object\",\n  \"additionalProperties\": false,\n"
                 "  \"required\": [\"version\", \"network\", \"nodes\"],\n  \"properties\": {\n");
    for (size_t i = ROOT_VERSION; i < ROOT_DEFAULTS; i++) {
        put(&writer, "    \"%s\": {", root_table.fields[i].key);
        put_type(&writer, &root_table.fields[i]);
        put(&writer, ", ");
        put_help(&writer, &root_table.fields[i]);
        put(&writer, "},\n");
    }
    put(&writer,
        "    \"defaults\": {\"type\": [\"object\", \"null\"], \"additionalProperties\": false, \"properties\": "
        "{\"node\": {\"$ref\": \"#/definitions/node-defaults\"}, \"link\": {\"$ref\": "
        "\"#/definitions/link-defaults\"}}, ");
    put_help(&writer, &root_table.fields[ROOT_DEFAULTS]);
    put(&writer, "},\n");
    put_section(&writer, &root_table.fields[ROOT_NODES], "node", QN_MAX_NODES);
    put(&writer, ",\n");
    put_section(&writer, &root_table.fields[ROOT_LINKS], "link", QN_MAX_LINKS);
    put(&writer, "\n  },\n  \"definitions\": {\n");
    put_entry(&writer, "node", &node_table, false);
    put(&writer, ",\n");
    put_entry(&writer, "link", &link_table, false);
    put(&writer, ",\n");
    put_entry(&writer, "node-defaults", &node_table, true);
    put(&writer, ",\n");
    put_entry(&writer, "link-defaults", &link_table, true);
    put(&writer, "\n  }\n}\n");
    return writer_end(&writer);
}
