/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_WIRE_ARENA_H
#define QN_WIRE_ARENA_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

/* Memory for one unpacked message: a fixed block, reset for the next. A message that needs more fails to unpack. */
#define QN_ARENA_SIZE (256 * 1024)

struct qn_arena {
    ProtobufCAllocator allocator; /* For *_unpack; its allocator_data points at the arena, so an arena is not moved. */
    uint8_t *block;               /* Owned. */
    size_t size, used;
};

int qn_arena_init(struct qn_arena *arena, size_t size);
void qn_arena_reset(struct qn_arena *arena);
void qn_arena_release(struct qn_arena *arena);

/* Checks bytes against a descriptor before unpacking: well-formed, at most `max_fields` fields in all, nesting of at
 * most 8. 0 or -QN_EPROTOCOL. */
int qn_wire_check(const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t len, unsigned max_fields);
/* The one length-delimited field of this number in a message that is well-formed: its bytes as they were sent. Length 0
 * if there is none, or more than one, which unpacking would merge. */
ProtobufCBinaryData qn_wire_only(const uint8_t *bytes, size_t len, uint32_t field);
/* Check, then unpack into the arena (reset first). NULL if refused. Borrowed until the arena is reset: never call
 * *_free_unpacked. */
void *qn_wire_unpack(const ProtobufCMessageDescriptor *type, struct qn_arena *arena, const uint8_t *bytes, size_t len);

#endif
