/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_FUZZ_FUZZ_H
#define QN_FUZZ_FUZZ_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

/* What the targets share. A target reads its input as a script: each choice takes a byte or a few, and an input that is
 * used up gives zeros, so every input is valid and a longer one goes further. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What must hold; a failure is a finding, as a crash is. */
#define FUZZ_CHECK(condition)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);                             \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

struct fuzz_input {
    const uint8_t *at;
    size_t left;
};

static inline bool fuzz_done(const struct fuzz_input *in) { return in->left == 0; }

static inline uint8_t fuzz_byte(struct fuzz_input *in) {
    if (in->left == 0) return 0;
    in->left--;
    return *in->at++;
}

static inline uint64_t fuzz_bits(struct fuzz_input *in, unsigned bytes) {
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++) value = value << 8 | fuzz_byte(in);
    return value;
}

static inline size_t fuzz_below(struct fuzz_input *in, size_t n) { /* n <= 65536 */
    return (n <= 256 ? fuzz_byte(in) : fuzz_bits(in, 2)) % n;
}

/* Up to `max` bytes of the input itself; the length comes first. */
static inline size_t fuzz_take(struct fuzz_input *in, size_t max, const uint8_t **ret_bytes) {
    size_t len = fuzz_below(in, max + 1);
    if (len > in->left) len = in->left;
    *ret_bytes = in->at;
    in->at += len;
    in->left -= len;
    return len;
}

/* ---- messages from bytes (message.c) ---- */

/* Numbers that the code under test has shown to know: ids of requests, pairs, qubits, operations. Without them, no
 * made-up message would ever get past the first look-up. */
struct fuzz_pool {
    uint64_t values[64];
    size_t n, next;
};
void fuzz_pool_add(struct fuzz_pool *pool, uint64_t value);
/* Every number of a packed message of that type. */
void fuzz_pool_learn(struct fuzz_pool *pool, const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t len);

/* Appends the wire format of a message of that type, as the input says: fields present or not, with small numbers,
 * known ones or any, texts and bytes, at any depth. Mostly well-formed in the eyes of the code under test. */
void fuzz_message(struct fuzz_input *in, const struct fuzz_pool *pool, const ProtobufCMessageDescriptor *type,
                  struct qn_buf *out);
/* One field of it. */
void fuzz_field(struct fuzz_input *in, const struct fuzz_pool *pool, const ProtobufCFieldDescriptor *field,
                unsigned depth, struct qn_buf *out);
void fuzz_put_varint(struct qn_buf *out, uint64_t value);
void fuzz_put_number(struct qn_buf *out, unsigned field, uint64_t value);  /* A varint field. */
void fuzz_put_fixed64(struct qn_buf *out, unsigned field, uint64_t value); /* A fixed64 field. */
void fuzz_put_bytes(struct qn_buf *out, unsigned field, const void *bytes, size_t len);

#endif
