/* SPDX-License-Identifier: Apache-2.0 */
#include "qkd/bits.h"

#include <assert.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
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
    size_t cap = bits->cap; /* The first time what is wanted, as the length of what is large is known. */
    if (cap == 0) cap = need < 4 ? 4 : need;
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
    if (rc < 0 || count == 0) return rc;
    const uint64_t *word = from->words + start / 64;
    uint64_t *to = bits->words + bits->len / 64;
    size_t skip = start % 64, shift = bits->len % 64, whole = count / 64;
    for (size_t w = 0; w < whole; w++) { /* A whole word more is there for each that is written in two parts. */
        uint64_t value = skip == 0 ? word[w] : word[w] >> skip | word[w + 1] << (64 - skip);
        to[w] |= value << shift;
        if (shift != 0) to[w + 1] = value >> (64 - shift);
    }
    bits->len += whole * 64;
    return qn_bits_append_word(bits, qn_bits_word(from, start + whole * 64), count % 64);
}

int qn_bits_append_bytes(struct qn_bits *bits, const uint8_t *bytes, size_t len, size_t count) {
    if (len != qn_bits_bytes(count)) return -QN_EPROTOCOL;
    if (count % 8 != 0 && bytes[len - 1] >> (count % 8) != 0) return -QN_EPROTOCOL;
    int rc = qn_bits_reserve(bits, bits->len + count);
    if (rc < 0 || count == 0) return rc; /* Of nothing, there may be no bytes. */
    size_t shift = bits->len % 64, whole = count / 64;
    uint64_t *to = bits->words + bits->len / 64, rest = 0;
    for (size_t w = 0; w < whole; w++) {
        uint64_t value = load_le64(bytes + 8 * w);
        to[w] |= value << shift;
        if (shift != 0) to[w + 1] = value >> (64 - shift);
    }
    for (size_t b = 8 * whole; b < len; b++) rest |= (uint64_t)bytes[b] << (8 * (b % 8));
    bits->len += whole * 64;
    return qn_bits_append_word(bits, rest, count % 64);
}

int qn_bits_to_bytes(const struct qn_bits *bits, size_t from, size_t count, struct qn_buf *bytes) {
    assert(from <= bits->len && count <= bits->len - from);
    size_t len = qn_bits_bytes(count);
    int rc = qn_buf_reserve(bytes, len);
    if (rc < 0 || len == 0) return rc; /* Of nothing, there may be no bytes. */
    uint8_t *out = bytes->data + bytes->len;
    size_t whole = count / 64, skip = from % 64;
    const uint64_t *word = bits->words + from / 64;
    for (size_t w = 0; w < whole; w++)
        store_le64(out + 8 * w, skip == 0 ? word[w] : word[w] >> skip | word[w + 1] << (64 - skip));
    uint64_t rest = qn_bits_word(bits, from + whole * 64) & low_mask(count % 64);
    for (size_t b = 8 * whole; b < len; b++) out[b] = (uint8_t)(rest >> (8 * (b % 8)));
    bytes->len += len;
    return 0;
}

/* ---- counts ---- */

/* Ones of a ^ b or a & b, compiled twice: most processors have an instruction for it, but not all. */
static inline __attribute__((always_inline)) size_t count_words(const uint64_t *a, const uint64_t *b, size_t n,
                                                                bool differ) {
    size_t count = 0;
    for (size_t w = 0; w < n; w++) count += (size_t)__builtin_popcountll(differ ? a[w] ^ b[w] : a[w] & b[w]);
    return count;
}

#ifdef __x86_64__
__attribute__((target("popcnt"))) static size_t count_popcnt(const uint64_t *a, const uint64_t *b, size_t n,
                                                             bool differ) {
    return count_words(a, b, n, differ);
}
#endif

static size_t count_any(const uint64_t *a, const uint64_t *b, size_t n, bool differ) {
#ifdef __x86_64__
    if (__builtin_cpu_supports("popcnt")) return count_popcnt(a, b, n, differ);
#endif
    return count_words(a, b, n, differ);
}

size_t qn_bits_count(const struct qn_bits *bits) { return qn_bits_common(bits, bits); }

size_t qn_bits_common(const struct qn_bits *a, const struct qn_bits *b) {
    assert(a->len == b->len);
    return count_any(a->words, b->words, qn_bits_words(a->len), false);
}

size_t qn_bits_distance(const struct qn_bits *a, const struct qn_bits *b) {
    assert(a->len == b->len);
    return count_any(a->words, b->words, qn_bits_words(a->len), true);
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
