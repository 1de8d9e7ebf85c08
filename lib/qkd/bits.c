/* SPDX-License-Identifier: Apache-2.0 */
#include "qkd/bits.h"

#include <assert.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "qkd/bits_with.h"
#include "qkd/pack.h"

static uint64_t low_mask(unsigned count) { return count >= 64 ? ~0ull : (1ull << count) - 1; }

void qn_bits_release(struct qn_bits *bits) {
    if (bits->words != NULL) sodium_memzero(bits->words, bits->cap * sizeof *bits->words);
    free(bits->words);
    *bits = (struct qn_bits){0};
}

/* Not realloc: what it leaves behind would still hold the key. Words beyond the end are kept zero, so growing `len`
 * within the capacity needs no clearing. */
int qn_bits_reserve(struct qn_bits *bits, size_t len) {
    size_t need = qn_bits_words(len);
    if (need <= bits->cap) return 0;
    size_t cap = bits->cap == 0 ? 4 : bits->cap;
    while (cap < need) cap *= 2;
    uint64_t *words = calloc(cap, sizeof *words);
    if (words == NULL) return -QN_ENOMEM;
    if (bits->words != NULL) memcpy(words, bits->words, qn_bits_words(bits->len) * sizeof *words);
    struct qn_bits grown = {.words = words, .len = bits->len, .cap = cap};
    qn_bits_release(bits);
    *bits = grown;
    return 0;
}

int qn_bits_resize(struct qn_bits *bits, size_t len) {
    int rc = qn_bits_reserve(bits, len);
    if (rc < 0) return rc;
    if (len < bits->len) {
        size_t first = qn_bits_words(len), end = qn_bits_words(bits->len);
        if (end > first) sodium_memzero(bits->words + first, (end - first) * sizeof *bits->words);
        if (len % 64 != 0) bits->words[len / 64] &= low_mask(len % 64);
    }
    bits->len = len;
    return 0;
}

int qn_bits_copy(struct qn_bits *to, const struct qn_bits *from) {
    int rc = qn_bits_reserve(to, from->len);
    if (rc < 0) return rc;
    rc = qn_bits_resize(to, 0);
    assert(rc == 0);
    if (from->len > 0) memcpy(to->words, from->words, qn_bits_words(from->len) * sizeof *to->words);
    to->len = from->len;
    return 0;
}

void qn_bits_set(struct qn_bits *bits, size_t i, bool value) {
    assert(i < bits->len);
    if (qn_bits_get(bits, i) != value) qn_bits_flip(bits, i);
}

uint64_t qn_bits_word(const struct qn_bits *bits, size_t from) {
    if (from >= bits->len) return 0;
    size_t w = from / 64, shift = from % 64;
    uint64_t value = bits->words[w] >> shift;
    if (shift != 0 && w + 1 < qn_bits_words(bits->len)) value |= bits->words[w + 1] << (64 - shift);
    return value;
}

int qn_bits_push(struct qn_bits *bits, bool value) { return qn_bits_append_word(bits, value, 1); }

int qn_bits_append_word(struct qn_bits *bits, uint64_t value, unsigned count) {
    assert(count <= 64);
    int rc = qn_bits_reserve(bits, bits->len + count);
    if (rc < 0 || count == 0) return rc;
    value &= low_mask(count);
    size_t w = bits->len / 64, shift = bits->len % 64;
    bits->words[w] |= value << shift;
    if (shift + count > 64) bits->words[w + 1] |= value >> (64 - shift);
    bits->len += count;
    return 0;
}

int qn_bits_append(struct qn_bits *bits, const struct qn_bits *from, size_t start, size_t count) {
    assert(bits != from && start <= from->len && count <= from->len - start);
    int rc = qn_bits_reserve(bits, bits->len + count);
    for (size_t done = 0; rc == 0 && done < count; done += 64) {
        unsigned take = count - done < 64 ? (unsigned)(count - done) : 64;
        rc = qn_bits_append_word(bits, qn_bits_word(from, start + done), take);
    }
    return rc;
}

/* The bits of `value` where `mask` is 1, moved together at the low end, with what every CPU has (Warren, Hacker's
 * Delight, 2nd ed., section 7-4), and with the instruction for it. */
static inline uint64_t compress_portable(uint64_t value, uint64_t mask) {
    uint64_t zeros = ~mask << 1; /* Counts, by parity, the zeros to the right of each bit. */
    value &= mask;
    for (unsigned i = 0; i < 6; i++) {
        uint64_t parity = zeros;
        for (unsigned shift = 1; shift < 64; shift *= 2) parity ^= parity << shift;
        uint64_t moving = parity & mask, moved = value & moving;
        mask = (mask ^ moving) | moving >> (1u << i);
        value = (value ^ moved) | moved >> (1u << i);
        zeros &= ~parity;
    }
    return value;
}

/* Words of `from` where `mask ^ flip` is 1, written from bit `at` of `to` on; `to` is large enough and zero there. */
#define COMPRESS_ALL(COMPRESS)                                                                                         \
    size_t at = bits->len;                                                                                             \
    for (size_t w = 0; w < qn_bits_words(from->len); w++) {                                                            \
        uint64_t wanted = mask->words[w] ^ flip;                                                                       \
        if (w == from->len / 64) wanted &= low_mask(from->len % 64);                                                   \
        uint64_t packed = COMPRESS(from->words[w], wanted);                                                            \
        unsigned count = (unsigned)__builtin_popcountll(wanted);                                                       \
        size_t to = at / 64, shift = at % 64;                                                                          \
        if (count == 0) continue;                                                                                      \
        bits->words[to] |= packed << shift;                                                                            \
        if (shift + count > 64) bits->words[to + 1] |= packed >> (64 - shift);                                         \
        at += count;                                                                                                   \
    }                                                                                                                  \
    bits->len = at

static void append_where_portable(struct qn_bits *bits, const struct qn_bits *from, const struct qn_bits *mask,
                                  uint64_t flip) {
    COMPRESS_ALL(compress_portable);
}

#ifdef __x86_64__
__attribute__((target("bmi2,popcnt"))) static void append_where_bmi2(struct qn_bits *bits, const struct qn_bits *from,
                                                                     const struct qn_bits *mask, uint64_t flip) {
    COMPRESS_ALL(__builtin_ia32_pext_di);
}
#endif

int qn_bits_append_where_with(struct qn_bits *bits, const struct qn_bits *from, const struct qn_bits *mask, bool value,
                              bool portable) {
    assert(bits != from && from->len == mask->len);
    size_t ones = qn_bits_count(mask);
    int rc = qn_bits_reserve(bits, bits->len + (value ? ones : mask->len - ones));
    if (rc < 0) return rc;
    uint64_t flip = value ? 0 : ~0ull;
#ifdef __x86_64__
    if (!portable && __builtin_cpu_supports("bmi2")) {
        append_where_bmi2(bits, from, mask, flip);
        return 0;
    }
#endif
    append_where_portable(bits, from, mask, flip);
    return 0;
}

int qn_bits_append_where(struct qn_bits *bits, const struct qn_bits *from, const struct qn_bits *mask, bool value) {
    return qn_bits_append_where_with(bits, from, mask, value, false);
}

int qn_bits_append_bytes(struct qn_bits *bits, const uint8_t *bytes, size_t len, size_t count) {
    if (len != qn_bits_bytes(count)) return -QN_EPROTOCOL;
    if (count % 8 != 0 && bytes[len - 1] >> (count % 8) != 0) return -QN_EPROTOCOL;
    int rc = qn_bits_reserve(bits, bits->len + count);
    if (rc < 0) return rc;
    size_t shift = bits->len % 64, to = bits->len / 64;
    for (size_t done = 0; done < len; done += 8, to++) {
        uint64_t value = 0;
        size_t take = len - done < 8 ? len - done : 8;
        if (take == 8)
            value = load_le64(bytes + done);
        else
            for (size_t b = 0; b < take; b++) value |= (uint64_t)bytes[done + b] << (8 * b);
        bits->words[to] |= value << shift;
        if (shift != 0 && value >> (64 - shift) != 0) bits->words[to + 1] |= value >> (64 - shift);
    }
    bits->len += count;
    return 0;
}

int qn_bits_to_bytes(const struct qn_bits *bits, size_t from, size_t count, struct qn_buf *bytes) {
    assert(from <= bits->len && count <= bits->len - from);
    size_t len = qn_bits_bytes(count);
    int rc = qn_buf_reserve(bytes, len);
    if (rc < 0 || len == 0) return rc; /* Of nothing, there may be no bytes. */
    uint8_t *out = bytes->data + bytes->len;
    for (size_t done = 0; done < count; done += 64) {
        unsigned take = count - done < 64 ? (unsigned)(count - done) : 64;
        uint64_t value = qn_bits_word(bits, from + done) & low_mask(take);
        if (take == 64)
            store_le64(out + done / 8, value);
        else
            for (unsigned b = 0; b * 8 < take; b++) out[done / 8 + b] = (uint8_t)(value >> (8 * b));
    }
    bytes->len += len;
    return 0;
}

size_t qn_bits_count(const struct qn_bits *bits) {
    size_t count = 0;
    for (size_t w = 0; w < qn_bits_words(bits->len); w++) count += (size_t)__builtin_popcountll(bits->words[w]);
    return count;
}

size_t qn_bits_distance(const struct qn_bits *a, const struct qn_bits *b) {
    assert(a->len == b->len);
    size_t count = 0;
    for (size_t w = 0; w < qn_bits_words(a->len); w++) count += (size_t)__builtin_popcountll(a->words[w] ^ b->words[w]);
    return count;
}

bool qn_bits_parity(const struct qn_bits *bits, size_t from, size_t count) {
    assert(from <= bits->len && count <= bits->len - from);
    if (count == 0) return false;
    size_t end = from + count, first = from / 64, last = (end - 1) / 64;
    uint64_t sum = bits->words[first] & ~low_mask(from % 64);
    for (size_t w = first + 1; w <= last; w++) sum ^= bits->words[w];
    if (end % 64 != 0) sum ^= bits->words[last] & ~low_mask(end % 64) & (first == last ? ~low_mask(from % 64) : ~0ull);
    return __builtin_parityll(sum);
}

void qn_bits_xor(struct qn_bits *bits, const struct qn_bits *other) {
    assert(bits->len == other->len);
    for (size_t w = 0; w < qn_bits_words(bits->len); w++) bits->words[w] ^= other->words[w];
}

void qn_bits_invert(struct qn_bits *bits) {
    for (size_t w = 0; w < qn_bits_words(bits->len); w++) bits->words[w] = ~bits->words[w];
    if (bits->len % 64 != 0) bits->words[bits->len / 64] &= low_mask(bits->len % 64);
}

bool qn_bits_equal(const struct qn_bits *a, const struct qn_bits *b) {
    if (a->len != b->len) return false;
    return a->len == 0 || sodium_memcmp(a->words, b->words, qn_bits_words(a->len) * sizeof *a->words) == 0;
}
