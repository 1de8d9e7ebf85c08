/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of any type, from bytes: a walk over protobuf-c's description of the type. */
#include "fuzz.h"

#define DEPTH_MAX 7
#define LEN_MAX ((size_t)60 * 1024)

void fuzz_pool_add(struct fuzz_pool *pool, uint64_t value) {
    if (value < 8) return; /* Those are guessed anyway. */
    size_t size = sizeof pool->values / sizeof pool->values[0];
    for (size_t i = 0; i < pool->n; i++)
        if (pool->values[i] == value) return;
    pool->values[pool->next++ % size] = value;
    if (pool->n < size) pool->n++;
}

static void append(struct qn_buf *out, const void *bytes, size_t len) {
    int rc = qn_buf_append(out, bytes, len);
    FUZZ_CHECK(rc == 0);
}

void fuzz_put_varint(struct qn_buf *out, uint64_t value) {
    uint8_t bytes[10];
    size_t n = 0;
    for (; value >= 0x80; value >>= 7) bytes[n++] = (uint8_t)(value | 0x80);
    bytes[n++] = (uint8_t)value;
    append(out, bytes, n);
}

static void put_fixed(struct qn_buf *out, uint64_t value, unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        uint8_t byte = (uint8_t)(value >> (8 * i));
        append(out, &byte, 1);
    }
}

void fuzz_put_number(struct qn_buf *out, unsigned field, uint64_t value) {
    fuzz_put_varint(out, (uint64_t)field << 3);
    fuzz_put_varint(out, value);
}

void fuzz_put_fixed64(struct qn_buf *out, unsigned field, uint64_t value) {
    fuzz_put_varint(out, (uint64_t)field << 3 | 1);
    put_fixed(out, value, 8);
}

void fuzz_put_bytes(struct qn_buf *out, unsigned field, const void *bytes, size_t len) {
    fuzz_put_varint(out, (uint64_t)field << 3 | 2);
    fuzz_put_varint(out, len);
    append(out, bytes, len);
}

/* ---- numbers ---- */

static uint64_t number(struct fuzz_input *in, const struct fuzz_pool *pool) {
    uint8_t how = fuzz_byte(in);
    if (how < 0x80) return how & 0xf; /* Nodes, links, kinds, counts. */
    if (how < 0xe0 && pool != NULL && pool->n > 0)
        return pool->values[(pool->next + pool->n - 1 - (how & 0x1f) % pool->n) % pool->n] + ((how & 0x60) == 0x40);
    switch (how & 7) {
    case 0:
        return fuzz_byte(in);
    case 1:
        return fuzz_bits(in, 2);
    case 2:
        return fuzz_bits(in, 4);
    case 3:
        return UINT64_MAX >> (fuzz_byte(in) & 63);
    case 4:
        return (uint64_t)1 << (fuzz_byte(in) & 63);
    default:
        return fuzz_bits(in, 8);
    }
}

static uint64_t real(struct fuzz_input *in) { /* The bits of a double. */
    static const double some[] = {0, 1, 0.5, -1, 1e-3, 0.25, 1e9, 1e-300, 1e300, 0.9999, 3.14159, 2};
    uint8_t how = fuzz_byte(in);
    double value = how < 0xc0 ? some[how % (sizeof some / sizeof some[0])] : (double)(int16_t)fuzz_bits(in, 2) / 256;
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return how < 0xf0 ? bits : fuzz_bits(in, 8); /* Also infinite and not a number. */
}

static void scalar(struct fuzz_input *in, const struct fuzz_pool *pool, ProtobufCType type, struct qn_buf *out) {
    switch (type) {
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        put_fixed(out, number(in, pool), 4);
        break;
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
        put_fixed(out, number(in, pool), 8);
        break;
    case PROTOBUF_C_TYPE_DOUBLE:
        put_fixed(out, real(in), 8);
        break;
    default:
        fuzz_put_varint(out, number(in, pool));
    }
}

static unsigned wire_type(ProtobufCType type) {
    switch (type) {
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return 5;
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 1;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return 2;
    default:
        return 0;
    }
}

/* ---- messages ---- */

static void message(struct fuzz_input *in, const struct fuzz_pool *pool, const ProtobufCMessageDescriptor *type,
                    unsigned depth, struct qn_buf *out);

static void text(struct fuzz_input *in, const ProtobufCFieldDescriptor *field, struct qn_buf *out) {
    static const char *const names[] = {"alice", "bob",      "charlie",        "r1",       "r2",    "spdc",
                                        "laser", "receiver", "laser-receiver", "alice-r1", "r1-r2", "r2-bob",
                                        "x+",    ""};
    uint8_t how = fuzz_byte(in);
    if (field->type == PROTOBUF_C_TYPE_STRING && how < 0xc0) {
        const char *name = names[how % (sizeof names / sizeof names[0])];
        fuzz_put_bytes(out, field->id, name, strlen(name));
        return;
    }
    uint8_t fill[512];
    const uint8_t *bytes;
    size_t len = how & 0x20 ? fuzz_take(in, 255, &bytes) : how & 0x1f;
    if ((how & 0x20) == 0) { /* Short and even. */
        memset(fill, fuzz_byte(in), sizeof fill);
        if (how & 0x40) len *= 16;
        bytes = fill;
    }
    fuzz_put_bytes(out, field->id, bytes, len);
}

static void one(struct fuzz_input *in, const struct fuzz_pool *pool, const ProtobufCFieldDescriptor *field,
                unsigned depth, struct qn_buf *out) {
    unsigned wire = wire_type(field->type);
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        struct qn_buf inner = {0};
        if (depth < DEPTH_MAX) message(in, pool, field->descriptor, depth + 1, &inner);
        fuzz_put_bytes(out, field->id, inner.data, inner.len);
        qn_buf_release(&inner);
    } else if (wire == 2) {
        text(in, field, out);
    } else {
        fuzz_put_varint(out, (uint64_t)field->id << 3 | wire);
        scalar(in, pool, field->type, out);
    }
}

void fuzz_field(struct fuzz_input *in, const struct fuzz_pool *pool, const ProtobufCFieldDescriptor *field,
                unsigned depth, struct qn_buf *out) {
    size_t n = 1;
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        uint8_t how = fuzz_byte(in);
        n = how < 0xf0 ? how & 3 : (size_t)(how & 0xf) * 8;
    }
    for (size_t i = 0; i < n && out->len < LEN_MAX; i++) one(in, pool, field, depth, out);
}

static void message(struct fuzz_input *in, const struct fuzz_pool *pool, const ProtobufCMessageDescriptor *type,
                    unsigned depth, struct qn_buf *out) {
    uint32_t chosen = 0; /* Of a oneof, a single member. */
    size_t n_alternatives = 0;
    for (unsigned i = 0; i < type->n_fields; i++)
        if (type->fields[i].flags & PROTOBUF_C_FIELD_FLAG_ONEOF) n_alternatives++;
    if (n_alternatives > 0) chosen = (uint32_t)fuzz_below(in, n_alternatives);
    uint8_t present = 0;
    uint32_t alternative = 0;
    for (unsigned i = 0, k = 0; i < type->n_fields && out->len < LEN_MAX; i++) {
        const ProtobufCFieldDescriptor *field = &type->fields[i];
        if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
            if (alternative++ == chosen) fuzz_field(in, pool, field, depth, out);
            continue;
        }
        if (k++ % 8 == 0) present = (uint8_t)~fuzz_byte(in); /* An input of zeros has all fields. */
        if ((present >> ((k - 1) % 8)) & 1) fuzz_field(in, pool, field, depth, out);
    }
}

void fuzz_message(struct fuzz_input *in, const struct fuzz_pool *pool, const ProtobufCMessageDescriptor *type,
                  struct qn_buf *out) {
    message(in, pool, type, 0, out);
}

/* ---- what a message tells ---- */

static uint64_t number_at(const uint8_t *at, ProtobufCType type) {
    if (wire_type(type) == 1 || type == PROTOBUF_C_TYPE_INT64 || type == PROTOBUF_C_TYPE_UINT64) {
        uint64_t value;
        memcpy(&value, at, sizeof value);
        return value;
    }
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static void learn(struct fuzz_pool *pool, const ProtobufCMessage *message) {
    const ProtobufCMessageDescriptor *type = message->descriptor;
    for (unsigned i = 0; i < type->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &type->fields[i];
        const uint8_t *base = (const uint8_t *)message, *at = base + field->offset;
        if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
            uint32_t present;
            memcpy(&present, base + field->quantifier_offset, sizeof present);
            if (present != field->id) continue;
        }
        bool repeated = field->label == PROTOBUF_C_LABEL_REPEATED;
        size_t n = 1, stride = wire_type(field->type) == 1 ? 8 : 4;
        if (field->type == PROTOBUF_C_TYPE_INT64 || field->type == PROTOBUF_C_TYPE_UINT64) stride = 8;
        if (repeated) {
            memcpy(&n, base + field->quantifier_offset, sizeof n);
            const uint8_t *first;
            memcpy(&first, at, sizeof first);
            at = first;
        }
        for (size_t k = 0; k < n && k < 8; k++) {
            if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
                const ProtobufCMessage *inner;
                memcpy(&inner, at + k * sizeof inner, sizeof inner);
                if (inner != NULL) learn(pool, inner);
            } else if (wire_type(field->type) != 2 && field->type != PROTOBUF_C_TYPE_DOUBLE &&
                       field->type != PROTOBUF_C_TYPE_BOOL) {
                fuzz_pool_add(pool, number_at(at + k * stride, field->type));
            }
        }
    }
}

void fuzz_pool_learn(struct fuzz_pool *pool, const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t len) {
    ProtobufCMessage *message = protobuf_c_message_unpack(type, NULL, len, bytes);
    FUZZ_CHECK(message != NULL); /* Our own messages are well-formed. */
    learn(pool, message);
    protobuf_c_message_free_unpacked(message, NULL);
}
