/* SPDX-License-Identifier: Apache-2.0 */
/* The messages as bytes: golden vectors of every message and field, and what must never be unpacked. */
#include <criterion/criterion.h>
#include <glob.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/rng.h"
#include "qnet/v1/control.pb-c.h"
#include "qnet/v1/envelope.pb-c.h"
#include "qnet/v1/session.pb-c.h"
#include "wire/arena.h"

#define PROTO_DIR QN_TEST_DATA "/../../../proto"
#define TYPES_MAX 128
#define FIELDS_MAX 64
#define BYTES_MAX 4096
#define DEPTH_MAX 8

/* ---- every type ---- */

static const ProtobufCMessageDescriptor *const roots[] = {
    &qnet__v1__hello__descriptor, &qnet__v1__session_control__descriptor, &qnet__v1__envelope__descriptor,
    &qnet__v1__control_request__descriptor, &qnet__v1__control_response__descriptor};

struct type {
    const ProtobufCMessageDescriptor *descriptor;
    unsigned n_vectors;
    bool seen[FIELDS_MAX]; /* Fields with a value in some vector. */
};

struct types {
    struct type types[TYPES_MAX];
    size_t n;
};

static struct type *find(struct types *types, const char *name) {
    for (size_t i = 0; i < types->n; i++)
        if (strcmp(types->types[i].descriptor->short_name, name) == 0) return &types->types[i];
    return NULL;
}

/* Adds a type and all it holds; the depth bounds recursion, which would be a failure anyway. */
static void add(struct types *types, const ProtobufCMessageDescriptor *descriptor, unsigned depth) {
    cr_assert_leq(depth, DEPTH_MAX, "%s nests too deep, or without end", descriptor->name);
    cr_assert_lt(descriptor->n_fields, FIELDS_MAX);
    if (find(types, descriptor->short_name) == NULL) {
        cr_assert_lt(types->n, TYPES_MAX);
        types->types[types->n++].descriptor = descriptor;
    }
    for (unsigned i = 0; i < descriptor->n_fields; i++)
        if (descriptor->fields[i].type == PROTOBUF_C_TYPE_MESSAGE)
            add(types, descriptor->fields[i].descriptor, depth + 1);
}

static void add_all(struct types *types) {
    *types = (struct types){0};
    for (size_t i = 0; i < sizeof roots / sizeof roots[0]; i++) add(types, roots[i], 1);
}

Test(messages, nest_to_a_bounded_depth) {
    struct types types;
    add_all(&types);
    cr_assert_gt(types.n, 80);
}

/* A message no root leads to is dead, and would escape the other tests. */
Test(messages, are_all_reachable) {
    struct types types;
    glob_t files;
    unsigned n = 0;
    add_all(&types);
    cr_assert_eq(glob(PROTO_DIR "/qnet/v1/*.proto", 0, NULL, &files), 0);
    cr_assert_eq(files.gl_pathc, 10);
    for (size_t i = 0; i < files.gl_pathc; i++) {
        char line[512], name[64];
        FILE *file = fopen(files.gl_pathv[i], "r");
        cr_assert_not_null(file);
        while (fgets(line, sizeof line, file) != NULL) {
            if (sscanf(line, "message %63[A-Za-z0-9]", name) != 1) continue;
            cr_assert_not_null(find(&types, name), "%s of %s", name, files.gl_pathv[i]);
            n++;
        }
        fclose(file);
    }
    cr_assert_eq(n, types.n);
    globfree(&files);
}

/* ---- golden vectors ---- */

struct vector {
    char name[64];
    uint8_t bytes[BYTES_MAX];
    size_t len;
};

static bool next_vector(FILE *file, struct vector *vector) {
    char line[2 * BYTES_MAX], hex[2 * BYTES_MAX];
    while (fgets(line, sizeof line, file) != NULL) {
        if (line[0] == '#') continue;
        cr_assert_eq(sscanf(line, "%63s %8191s", vector->name, hex), 2, "%s", line);
        vector->len = 0;
        if (strcmp(hex, "-") == 0) return true;
        cr_assert_eq(sodium_hex2bin(vector->bytes, BYTES_MAX, hex, strlen(hex), NULL, &vector->len, NULL), 0, "%s",
                     line);
        return true;
    }
    return false;
}

static FILE *open_vectors(void) {
    FILE *file = fopen(PROTO_DIR "/golden.txt", "r");
    cr_assert_not_null(file);
    return file;
}

static uint64_t varint(const uint8_t **at) {
    uint64_t value = 0;
    unsigned shift = 0;
    do value |= (uint64_t)(**at & 0x7f) << shift;
    while (shift += 7, (*(*at)++ & 0x80) != 0);
    return value;
}

/* Marks the fields present in bytes already known to be well-formed. */
static void mark(struct types *types, const ProtobufCMessageDescriptor *descriptor, const uint8_t *at, size_t len) {
    struct type *type = find(types, descriptor->short_name);
    for (const uint8_t *end = at + len; at < end;) {
        uint64_t tag = varint(&at);
        const ProtobufCFieldDescriptor *field =
            protobuf_c_message_descriptor_get_field(descriptor, (unsigned)(tag >> 3));
        cr_assert_not_null(field, "%s has no field %lu", descriptor->name, tag >> 3);
        type->seen[field - descriptor->fields] = true;
        if ((tag & 7) == 2) {
            size_t size = varint(&at);
            if (field->type == PROTOBUF_C_TYPE_MESSAGE) mark(types, field->descriptor, at, size);
            at += size;
        } else if ((tag & 7) == 0) {
            varint(&at);
        } else {
            at += (tag & 7) == 1 ? 8 : 4;
        }
    }
}

Test(messages, golden_vectors_survive_unpacking_and_packing) {
    struct types types;
    struct qn_arena arena;
    struct vector vector;
    uint8_t packed[BYTES_MAX];
    add_all(&types);
    cr_assert_eq(qn_arena_init(&arena, QN_ARENA_SIZE), 0);
    FILE *file = open_vectors();
    while (next_vector(file, &vector)) {
        struct type *type = find(&types, vector.name);
        cr_assert_not_null(type, "%s", vector.name);
        ProtobufCMessage *message = qn_wire_unpack(type->descriptor, &arena, vector.bytes, vector.len);
        cr_assert_not_null(message, "%s", vector.name);
        cr_assert_eq(message->n_unknown_fields, 0);
        cr_assert_eq(protobuf_c_message_get_packed_size(message), vector.len, "%s", vector.name);
        cr_assert_eq(protobuf_c_message_pack(message, packed), vector.len);
        if (vector.len > 0) cr_assert_arr_eq(packed, vector.bytes, vector.len, "%s", vector.name);
        mark(&types, type->descriptor, vector.bytes, vector.len);
        type->n_vectors++;
    }
    for (size_t i = 0; i < types.n; i++) {
        const struct type *type = &types.types[i];
        cr_assert_gt(type->n_vectors, 0, "no vector of %s", type->descriptor->name);
        for (unsigned f = 0; f < type->descriptor->n_fields; f++)
            cr_assert(type->seen[f], "no vector with %s.%s", type->descriptor->name, type->descriptor->fields[f].name);
    }
    fclose(file);
    qn_arena_release(&arena);
}

/* Whatever becomes of the bytes, unpacking refuses or gives a message that can be packed. Run with sanitizers. */
Test(messages, golden_vectors_with_random_changes_do_no_harm) {
    struct types types;
    struct qn_arena arena;
    struct vector vector;
    struct qn_rng rng;
    unsigned n_accepted = 0, n_refused = 0;
    add_all(&types);
    qn_rng_init(&rng, 1, "messages", 0);
    cr_assert_eq(qn_arena_init(&arena, QN_ARENA_SIZE), 0);
    FILE *file = open_vectors();
    while (next_vector(file, &vector)) {
        const struct type *type = find(&types, vector.name);
        for (int round = 0; round < 300 && vector.len > 0; round++) {
            uint8_t bytes[BYTES_MAX];
            size_t len = qn_rng_below(&rng, 4) == 0 ? qn_rng_below(&rng, vector.len) : vector.len;
            memcpy(bytes, vector.bytes, len);
            for (uint64_t n = qn_rng_below(&rng, 4); n > 0 && len > 0; n--)
                bytes[qn_rng_below(&rng, len)] = (uint8_t)qn_rng_u64(&rng);
            ProtobufCMessage *message = qn_wire_unpack(type->descriptor, &arena, bytes, len);
            if (message != NULL)
                n_accepted++;
            else
                n_refused++;
            if (message == NULL) continue;
            uint8_t packed[2 * BYTES_MAX + 64]; /* Numbers may come back longer: a negative enum takes ten bytes. */
            if (protobuf_c_message_get_packed_size(message) <= sizeof packed) protobuf_c_message_pack(message, packed);
        }
    }
    cr_assert(n_accepted > 1000 && n_refused > 1000);
    fclose(file);
    qn_arena_release(&arena);
}

/* ---- attacks ---- */

static bool unpacks(const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t len) {
    struct qn_arena arena;
    cr_assert_eq(qn_arena_init(&arena, QN_ARENA_SIZE), 0);
    bool is_unpacked = qn_wire_unpack(type, &arena, bytes, len) != NULL;
    cr_assert_leq(arena.used, arena.size);
    qn_arena_release(&arena);
    return is_unpacked;
}

/* A full frame of two-byte submessages would take megabytes outside the arena. */
Test(messages, an_arena_bomb_is_refused) {
    static uint8_t bomb[65000];
    for (size_t i = 0; i < sizeof bomb; i += 2) bomb[i] = 0x22; /* Ship.members, or GateRequest.steps below: empty. */
    cr_assert_not(unpacks(&qnet__v1__ship__descriptor, bomb, sizeof bomb));
    for (size_t i = 0; i < sizeof bomb; i += 2) bomb[i] = 0x0a;
    cr_assert_not(unpacks(&qnet__v1__gate_request__descriptor, bomb, sizeof bomb));
    cr_assert_not(unpacks(&qnet__v1__gate_request__descriptor, bomb, 30000)); /* Few enough fields, too much memory. */
    cr_assert(unpacks(&qnet__v1__gate_request__descriptor, bomb, 200));
    for (size_t i = 0; i < sizeof bomb; i += 2) bomb[i] = 0x78; /* Unknown varints. */
    cr_assert_not(unpacks(&qnet__v1__gate_request__descriptor, bomb, sizeof bomb));
    memcpy(bomb, "\x12\xe5\xfb\x03",
           4); /* CircuitSetup.path: 65 thousand packed numbers, a byte each, four in memory. */
    memset(bomb + 4, 1, sizeof bomb - 4);
    bomb[1] = (uint8_t)((sizeof bomb - 4) & 0x7f) | 0x80;
    bomb[2] = (uint8_t)((sizeof bomb - 4) >> 7 & 0x7f) | 0x80;
    bomb[3] = (uint8_t)((sizeof bomb - 4) >> 14);
    unpacks(&qnet__v1__circuit_setup__descriptor, bomb, sizeof bomb); /* 260 kB: fits or not, the arena holds. */
}

Test(messages, a_level_ends_within_the_one_above) {
    const ProtobufCMessageDescriptor *type = &qnet__v1__gate_request__descriptor;
    cr_assert_eq(qn_wire_check(type, (const uint8_t *)"\x0a\2\x08\1", 4, 100), 0);
    cr_assert_eq(qn_wire_check(type, (const uint8_t *)"\x0a\3\x08\1", 4, 100), -QN_EPROTOCOL);
    cr_assert_eq(qn_wire_check(type, (const uint8_t *)"\x0a\xff\xff\xff\x7f", 5, 100), -QN_EPROTOCOL);
    cr_assert_eq(qn_wire_check(type, (const uint8_t *)"\x0a\1\x08\1", 4, 100), -QN_EPROTOCOL);
    cr_assert_eq(qn_wire_check(type, (const uint8_t *)"\xfa\7\3hi", 5, 100), -QN_EPROTOCOL);
}

Test(messages, fields_are_counted_across_levels) {
    static const uint8_t bytes[] = {0x0a, 2, 8, 1, 0x0a, 2, 8, 1}; /* Two steps of one field each: four fields. */
    const ProtobufCMessageDescriptor *type = &qnet__v1__gate_request__descriptor;
    cr_assert_eq(qn_wire_check(type, bytes, sizeof bytes, 4), 0);
    cr_assert_eq(qn_wire_check(type, bytes, sizeof bytes, 3), -QN_EPROTOCOL);
}

/* No real type nests without end, so this is one made by hand: message Nested { Nested inner = 1; }. */
static const ProtobufCMessageDescriptor nested;
static const ProtobufCFieldDescriptor nested_fields[] = {{.name = "inner",
                                                          .id = 1,
                                                          .label = PROTOBUF_C_LABEL_OPTIONAL,
                                                          .type = PROTOBUF_C_TYPE_MESSAGE,
                                                          .descriptor = &nested}};
static const ProtobufCIntRange nested_ranges[] = {{1, 0}, {0, 1}};
static const ProtobufCMessageDescriptor nested = {.magic = PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC,
                                                  .name = "Nested",
                                                  .n_fields = 1,
                                                  .fields = nested_fields,
                                                  .n_field_ranges = 1,
                                                  .field_ranges = nested_ranges};

Test(messages, deep_nesting_is_refused_before_it_is_unpacked) {
    uint8_t bytes[40];
    for (size_t levels = 1; levels <= 20; levels++) { /* Each level but the last holds the next: 2 bytes a level. */
        size_t len = 2 * (levels - 1);
        for (size_t i = 0; i < len; i += 2) {
            bytes[i] = 0x0a;
            bytes[i + 1] = (uint8_t)(len - i - 2);
        }
        cr_assert_eq(qn_wire_check(&nested, bytes, len, 100), levels <= DEPTH_MAX ? 0 : -QN_EPROTOCOL, "%zu", levels);
    }
}

Test(messages, malformed_bytes_are_refused) {
    static const struct {
        const char *bytes;
        size_t len;
        bool fine;
    } cases[] = {
        {"", 0, true},
        {"\x08", 1, false},                                              /* No value. */
        {"\x08\xff", 2, false},                                          /* Half a number. */
        {"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, true},      /* The longest number. */
        {"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12, false}, /* Longer. */
        {"\x19\1\2\3\4\5\6\7", 8, false},                                /* Seven of eight bytes. */
        {"\x32\5hello", 7, false},                                       /* text in a number's field. */
        {"\x82\1\5hell", 7, false},                                      /* Length beyond the end. */
        {"\x82\1\xff\xff\xff\xff\x0f", 7, false},                        /* Far beyond. */
        {"\x00\1", 2, false},                                            /* Field 0. */
        {"\xf8\xff\xff\xff\x7f\1", 6, false},                            /* Field above 2^29. */
        {"\x0b\x0c", 2, false},                                          /* A group. */
        {"\x0e", 1, false},                                              /* Wire types that do not exist. */
        {"\x0f", 1, false},
        {"\xfa\7\2hi", 5, true},    /* Field 127, of a later version. */
        {"\x3d\1\2\3\4", 5, false}, /* trace as four bytes. */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        cr_assert_eq(unpacks(&qnet__v1__envelope__descriptor, (const uint8_t *)cases[i].bytes, cases[i].len),
                     cases[i].fine, "case %zu", i);
    cr_assert(unpacks(&qnet__v1__envelope__descriptor, NULL, 0));
}

Test(messages, an_arena_is_emptied_for_each_message) {
    struct qn_arena arena;
    cr_assert_eq(qn_arena_init(&arena, 4096), 0);
    for (int i = 0; i < 1000; i++) {
        const Qnet__V1__Close *close =
            qn_wire_unpack(&qnet__v1__close__descriptor, &arena, (const uint8_t *)"\x08\x01\x12\x02hi", 6);
        cr_assert(close != NULL && close->reason == QNET__V1__CLOSE_REASON__CLOSE_REASON_SHUTDOWN);
        cr_assert_str_eq(close->detail, "hi");
    }
    qn_arena_release(&arena);
    cr_assert_null(arena.block);
}

static ProtobufCBinaryData only(const char *bytes, size_t len) { return qn_wire_only((const uint8_t *)bytes, len, 5); }

Test(messages, the_only_field_is_found_as_it_was_sent) {
#define ONLY(text) only(text, sizeof text - 1)
    const char *around = "\x08\x96\x01\x2a\x03xyz\x31"
                         "12345678\x3d"
                         "1234"; /* Fields 1, 5, 6, 7. */
    ProtobufCBinaryData found = only(around, 22);
    cr_assert_eq(found.len, 3);
    cr_assert_eq((const char *)found.data, around + 5);
    cr_assert_eq(ONLY("").len, 0);
    cr_assert_eq(ONLY("\x08\x01").len, 0, "there is none");
    cr_assert_eq(ONLY("\x2a\x01x\x2a\x01y").len, 0, "two are merged when they are unpacked");
    cr_assert_eq(ONLY("\x28\x01").len, 0, "a number");
    cr_assert_eq(ONLY("\x2a\x05xyz").len, 0, "too long");
    cr_assert_eq(ONLY("\x2a\x03xyz\x0b").len, 0, "an unknown wire type");
#undef ONLY
}
