/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QKD_PACK_H
#define QN_QKD_PACK_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Numbers as bytes; private to lib/qkd. */

static inline uint64_t load_le64(const uint8_t bytes[8]) {
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--) value = value << 8 | bytes[i];
    return value;
}

static inline void store_le64(uint8_t bytes[8], uint64_t value) {
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(value >> (8 * i));
}

/* LEB128 in shortest form: seven bits a byte, lowest first, the high bit says more follow. */
enum { LEB_MAX = 10 };

static inline size_t leb_size(uint64_t value) {
    size_t len = 1;
    for (; value >= 0x80; value >>= 7) len++;
    return len;
}

static inline size_t leb_write(uint8_t out[LEB_MAX], uint64_t value) {
    size_t len = 0;
    for (; value >= 0x80; value >>= 7) out[len++] = (uint8_t)(value | 0x80);
    out[len++] = (uint8_t)value;
    return len;
}

struct leb_reader {
    const uint8_t *at, *end;
};

/* -QN_EPROTOCOL if it is cut off, padded, or does not fit 64 bits. */
static inline int leb_read(struct leb_reader *reader, uint64_t *ret_value) {
    uint64_t value = 0;
    for (unsigned shift = 0; reader->at < reader->end && shift < 64; shift += 7) {
        uint8_t byte = *reader->at++;
        if (shift == 63 && byte > 1) return -QN_EPROTOCOL;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte & 0x80) continue;
        if (byte == 0 && shift > 0) return -QN_EPROTOCOL;
        *ret_value = value;
        return 0;
    }
    return -QN_EPROTOCOL;
}

#endif
