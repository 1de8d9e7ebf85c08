/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QKD_BITS_H
#define QN_QKD_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* A string of bits that grows: bit i is bit i % 64 of word i / 64, and in bytes bit i is bit i % 8 of byte i / 8.
 * All-zero is valid and empty. The bits of the last word beyond `len` are always zero. Key material lives here: release
 * and every reallocation wipe. A range is (from, count) and must lie inside; that is asserted. Functions that return
 * int return 0 or -QN_ENOMEM, and leave the string as it was on failure, unless they say more. */
struct qn_bits {
    uint64_t *words; /* Owned. */
    size_t len;      /* Bits. */
    size_t cap;      /* Words. */
};

void qn_bits_release(struct qn_bits *bits); /* Wipes; all-zero again. */
int qn_bits_reserve(struct qn_bits *bits, size_t len);
int qn_bits_resize(struct qn_bits *bits, size_t len);             /* New bits are 0. */
int qn_bits_copy(struct qn_bits *to, const struct qn_bits *from); /* Replaces what was there. */

static inline size_t qn_bits_words(size_t len) { return len / 64 + (len % 64 != 0); }
static inline size_t qn_bits_bytes(size_t len) { return len / 8 + (len % 8 != 0); }
static inline bool qn_bits_get(const struct qn_bits *bits, size_t i) { return bits->words[i / 64] >> (i % 64) & 1; }
static inline void qn_bits_flip(struct qn_bits *bits, size_t i) { bits->words[i / 64] ^= 1ull << (i % 64); }
void qn_bits_set(struct qn_bits *bits, size_t i, bool value);
/* Bits from .. from + 63, the first lowest; zeros beyond the end. */
uint64_t qn_bits_word(const struct qn_bits *bits, size_t from);

int qn_bits_push(struct qn_bits *bits, bool value);
int qn_bits_append_word(struct qn_bits *bits, uint64_t value,
                        unsigned count); /* The low `count` <= 64 bits of value. */
int qn_bits_append(struct qn_bits *bits, const struct qn_bits *from, size_t start, size_t count);

/* From outside: `count` bits out of exactly qn_bits_bytes(count) bytes, the unused high bits of the last byte zero;
 * anything else is -QN_EPROTOCOL. */
int qn_bits_append_bytes(struct qn_bits *bits, const uint8_t *bytes, size_t len, size_t count);
int qn_bits_to_bytes(const struct qn_bits *bits, size_t from, size_t count,
                     struct qn_buf *bytes); /* Appends; -QN_ELIMIT. */

size_t qn_bits_count(const struct qn_bits *bits); /* How many are 1. */
/* In how many places equally long strings both have a 1; differ. */
size_t qn_bits_common(const struct qn_bits *a, const struct qn_bits *b);
size_t qn_bits_distance(const struct qn_bits *a, const struct qn_bits *b);
bool qn_bits_parity(const struct qn_bits *bits, size_t from, size_t count);
void qn_bits_xor(struct qn_bits *bits, const struct qn_bits *other); /* Equally long. */
void qn_bits_invert(struct qn_bits *bits);
bool qn_bits_equal(const struct qn_bits *a, const struct qn_bits *b);

#endif
