/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/arena.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/err.h"

#define MAX_DEPTH 8
#define MAX_FIELDS 20000 /* Bounds the time; the arena bounds the memory. */

static void *take(void *data, size_t size) {
    struct qn_arena *arena = data;
    size_t rounded = (size + 15) & ~(size_t)15;
    if (rounded < size || rounded > arena->size - arena->used) return NULL;
    void *at = arena->block + arena->used;
    arena->used += rounded;
    return at;
}

static void give_back(void *data, void *pointer) { /* All at once, when the arena is reset. */
    (void)data;
    (void)pointer;
}

int qn_arena_init(struct qn_arena *arena, size_t size) {
    uint8_t *block = malloc(size);
    if (block == NULL) return -QN_ENOMEM;
    *arena = (struct qn_arena){.allocator = {take, give_back, arena}, .block = block, .size = size};
    return 0;
}

void qn_arena_reset(struct qn_arena *arena) { arena->used = 0; }

void qn_arena_release(struct qn_arena *arena) {
    free(arena->block);
    *arena = (struct qn_arena){0};
}

/* ---- what protobuf-c does not check ----
 *
 * Release 1.4 calls itself for every level of nesting and allocates for every field before it looks inside, so both are
 * bounded here first. Types cannot nest without end (a test walks the descriptors); this holds if one ever does. */

static bool get_varint(const uint8_t **at, const uint8_t *end, uint64_t *ret_value) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && *at < end; shift += 7) {
        uint8_t byte = *(*at)++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

static bool check(const ProtobufCMessageDescriptor *type, const uint8_t *at, const uint8_t *end, unsigned depth,
                  unsigned *fields_left) {
    if (depth == 0) return false;
    while (at < end) {
        uint64_t tag, value;
        if (*fields_left == 0 || !get_varint(&at, end, &tag) || tag >> 3 == 0 || tag >> 32 != 0) return false;
        --*fields_left;
        switch (tag & 7) {
        case 0:
            if (!get_varint(&at, end, &value)) return false;
            break;
        case 1:
            if (end - at < 8) return false;
            at += 8;
            break;
        case 2: {
            if (!get_varint(&at, end, &value) || value > (uint64_t)(end - at)) return false;
            const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field(type, (unsigned)(tag >> 3));
            if (field != NULL && field->type == PROTOBUF_C_TYPE_MESSAGE &&
                !check(field->descriptor, at, at + value, depth - 1, fields_left))
                return false;
            at += value;
            break;
        }
        case 5:
            if (end - at < 4) return false;
            at += 4;
            break;
        default:
            return false;
        }
    }
    return true;
}

int qn_wire_check(const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t len, unsigned max_fields) {
    return check(type, bytes, bytes + len, MAX_DEPTH, &max_fields) ? 0 : -QN_EPROTOCOL;
}

/* Past a value of this wire type. False at the end, or if there is no such type. */
static bool skip(const uint8_t **at, const uint8_t *end, unsigned wire_type) {
    uint64_t value;
    size_t len = wire_type == 1 ? 8 : wire_type == 5 ? 4 : 0;
    if (wire_type == 0 || wire_type == 2) {
        if (!get_varint(at, end, &value)) return false;
        len = wire_type == 2 ? (size_t)value : 0;
    } else if (len == 0) {
        return false;
    }
    if (len > (size_t)(end - *at)) return false;
    *at += len;
    return true;
}

ProtobufCBinaryData qn_wire_only(const uint8_t *bytes, size_t len, uint32_t field) {
    ProtobufCBinaryData found = {0};
    const uint8_t *at = bytes, *end = bytes + len;
    for (unsigned n = 0; at < end;) {
        uint64_t tag;
        if (!get_varint(&at, end, &tag)) return (ProtobufCBinaryData){0};
        const uint8_t *value = at;
        if (!skip(&at, end, (unsigned)(tag & 7))) return (ProtobufCBinaryData){0};
        if (tag >> 3 != field) continue;
        if (++n > 1 || (tag & 7) != 2) return (ProtobufCBinaryData){0};
        uint64_t value_len;
        get_varint(&value, end, &value_len);
        found = (ProtobufCBinaryData){(size_t)value_len, (uint8_t *)(uintptr_t)value};
    }
    return found;
}

void *qn_wire_unpack(const ProtobufCMessageDescriptor *type, struct qn_arena *arena, const uint8_t *bytes, size_t len) {
    static const uint8_t nothing[1];
    if (bytes == NULL) bytes = nothing;
    qn_arena_reset(arena);
    if (qn_wire_check(type, bytes, len, MAX_FIELDS) < 0) return NULL;
    return protobuf_c_message_unpack(type, &arena->allocator, len, bytes);
}
