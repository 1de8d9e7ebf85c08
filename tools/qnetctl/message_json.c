/* SPDX-License-Identifier: Apache-2.0 */
#include "message_json.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

json_t *bytes_to_json(const uint8_t *bytes, size_t len) {
    char *text = malloc(2 * len + 1);
    if (text == NULL) return NULL;
    text[0] = '\0';
    for (size_t i = 0; i < len; i++) snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    json_t *value = json_string(text);
    free(text);
    return value;
}

static json_t *identifier_to_json(uint64_t id) {
    char text[24];
    snprintf(text, sizeof text, "0x%" PRIx64, id);
    return json_string(text);
}

static json_t *double_to_json(double value) { return isfinite(value) ? json_real(value) : json_null(); }

static json_t *text_to_json(const char *text) {
    json_t *value = json_string(text);
    return value != NULL ? value : json_string("?"); /* Not UTF-8. */
}

/* `at` points at one value, as it lies in the message or in the array of a repeated field. */
static json_t *value_to_json(ProtobufCType type, const void *at) {
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_ENUM:
        return json_integer(*(const int32_t *)at);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return json_integer(*(const uint32_t *)at);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return json_integer(*(const int64_t *)at);
    case PROTOBUF_C_TYPE_UINT64: {
        uint64_t value = *(const uint64_t *)at;
        return value <= INT64_MAX ? json_integer((json_int_t)value) : json_real((double)value);
    }
    case PROTOBUF_C_TYPE_FIXED64:
        return identifier_to_json(*(const uint64_t *)at);
    case PROTOBUF_C_TYPE_FLOAT:
        return double_to_json((double)*(const float *)at);
    case PROTOBUF_C_TYPE_DOUBLE:
        return double_to_json(*(const double *)at);
    case PROTOBUF_C_TYPE_BOOL:
        return json_boolean(*(const protobuf_c_boolean *)at);
    case PROTOBUF_C_TYPE_STRING:
        return text_to_json(*(const char *const *)at);
    case PROTOBUF_C_TYPE_BYTES:
        return bytes_to_json(((const ProtobufCBinaryData *)at)->data, ((const ProtobufCBinaryData *)at)->len);
    case PROTOBUF_C_TYPE_MESSAGE:
        return message_to_json(*(const ProtobufCMessage *const *)at);
    }
    return NULL;
}

static size_t value_size(ProtobufCType type) {
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_ENUM:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return sizeof(uint32_t);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return sizeof(uint64_t);
    case PROTOBUF_C_TYPE_FLOAT:
        return sizeof(float);
    case PROTOBUF_C_TYPE_DOUBLE:
        return sizeof(double);
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    }
    return 0;
}

static json_t *array_to_json(ProtobufCType type, const char *items, size_t n) {
    json_t *array = json_array();
    for (size_t i = 0; i < n; i++)
        if (json_array_append_new(array, value_to_json(type, items + i * value_size(type))) < 0) {
            json_decref(array);
            return NULL;
        }
    return array;
}

json_t *message_to_json(const ProtobufCMessage *message) {
    const char *base = (const char *)message;
    json_t *object = json_object();
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        const void *at = base + field->offset, *quantifier = base + field->quantifier_offset;
        bool is_pointer = field->type == PROTOBUF_C_TYPE_MESSAGE || field->type == PROTOBUF_C_TYPE_STRING;
        json_t *value;
        if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) && *(const uint32_t *)quantifier != field->id) continue;
        if (field->label == PROTOBUF_C_LABEL_REPEATED)
            value = array_to_json(field->type, *(const char *const *)at, *(const size_t *)quantifier);
        else if (is_pointer && *(const void *const *)at == NULL)
            continue;
        else
            value = value_to_json(field->type, at);
        if (json_object_set_new(object, field->name, value) < 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}
