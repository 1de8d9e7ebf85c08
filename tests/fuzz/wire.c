/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of a peer taken for a message of each type there is: what our check lets through, protobuf-c unpacks within the
 * arena, or the message is refused; a message that was unpacked packs again to the same. */
#include "wire/arena.h"

#include "fuzz.h"
#include "qnet/v1/control.pb-c.h"
#include "qnet/v1/envelope.pb-c.h"
#include "qnet/v1/session.pb-c.h"

static const ProtobufCMessageDescriptor *const types[] = {
    &qnet__v1__envelope__descriptor, &qnet__v1__control_request__descriptor, &qnet__v1__control_response__descriptor,
    &qnet__v1__hello__descriptor,    &qnet__v1__session_control__descriptor, &qnet__v1__event_info__descriptor};
enum { FIELDS_MAX = 20000 };

static struct qn_arena arena, small;

static void again(const ProtobufCMessage *message) {
    size_t len = protobuf_c_message_get_packed_size(message), len2;
    uint8_t *bytes = malloc(len + 1), *bytes2;
    FUZZ_CHECK(bytes != NULL);
    FUZZ_CHECK(protobuf_c_message_pack(message, bytes) == len);
    ProtobufCMessage *copy = protobuf_c_message_unpack(message->descriptor, NULL, len, bytes);
    FUZZ_CHECK(copy != NULL);
    len2 = protobuf_c_message_get_packed_size(copy);
    bytes2 = malloc(len2 + 1);
    FUZZ_CHECK(bytes2 != NULL && len2 == len && protobuf_c_message_pack(copy, bytes2) == len);
    FUZZ_CHECK(memcmp(bytes, bytes2, len) == 0);
    protobuf_c_message_free_unpacked(copy, NULL);
    free(bytes);
    free(bytes2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_input in = {data, size};
    if (arena.block == NULL) FUZZ_CHECK(qn_arena_init(&arena, QN_ARENA_SIZE) == 0 && qn_arena_init(&small, 1024) == 0);
    uint8_t how = fuzz_byte(&in);
    const ProtobufCMessageDescriptor *type = types[(how & 0x3f) % (sizeof types / sizeof types[0])];
    struct qn_buf bytes = {0};
    if (how & 0x40) {
        fuzz_message(&in, NULL, type, &bytes);
        if ((how & 0x80) && bytes.len > 0) bytes.data[fuzz_below(&in, bytes.len)] ^= fuzz_byte(&in);
    } else
        FUZZ_CHECK(qn_buf_append(&bytes, in.at, in.left) == 0);
    uint8_t *exact = malloc(bytes.len + (bytes.len == 0)); /* So that reading beyond shows. */
    FUZZ_CHECK(exact != NULL);
    if (bytes.len > 0) memcpy(exact, bytes.data, bytes.len);
    int rc = qn_wire_check(type, exact, bytes.len, FIELDS_MAX);
    ProtobufCMessage *message = qn_wire_unpack(type, &arena, exact, bytes.len);
    FUZZ_CHECK(rc == 0 || message == NULL);
    FUZZ_CHECK(arena.used <= arena.size);
    if (message != NULL) {
        FUZZ_CHECK(protobuf_c_message_check(message));
        again(message);
    }
    message = qn_wire_unpack(type, &small, exact, bytes.len); /* Memory runs out somewhere on the way. */
    FUZZ_CHECK(rc == 0 || message == NULL);
    FUZZ_CHECK(small.used <= small.size);
    free(exact);
    qn_buf_release(&bytes);
    return 0;
}
