/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "base/err.h"
#include "qkd/sift_with.h"

#define INLINE static inline __attribute__((always_inline))

void qn_sifted_release(struct qn_sifted *sifted) {
    qn_bits_release(&sifted->key);
    qn_bits_release(&sifted->test);
    for (unsigned i = 0; i < QN_SIFT_PLANES; i++) {
        qn_bits_release(&sifted->key_plane[i]);
        qn_bits_release(&sifted->test_plane[i]);
    }
}

/* ---- a word of clicks at a time, into all strings at once ---- */

/* The bits of `value` where `mask` is 1, moved together at the low end, with what every CPU has (Warren, Hacker's
 * Delight, 2nd ed., section 7-4), and with the instruction for it. */
typedef uint64_t compress_word(uint64_t value, uint64_t mask);

INLINE uint64_t compress_portable(uint64_t value, uint64_t mask) {
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

struct sides { /* Clicks of a train. `same`: bases agree. */
    const struct qn_bits *bases, *basis, *bit, *plane;
    unsigned n_planes;
    struct qn_bits same, rows[QN_SIFT_PLANES]; /* Rows: planes of agreeing clicks. */
};

/* Room for put(). */
static int room(struct qn_bits *bits, size_t len) { return qn_bits_reserve(bits, len + 128); }

static int room_for(struct qn_sifted *sifted, unsigned n_planes, size_t keys, size_t tests) {
    int rc = room(&sifted->key, keys);
    if (rc == 0) rc = room(&sifted->test, tests);
    for (unsigned i = 0; rc == 0 && i < n_planes; i++) {
        rc = room(&sifted->key_plane[i], keys);
        if (rc == 0) rc = room(&sifted->test_plane[i], tests);
    }
    return rc;
}

/* What is there beyond bit `at` is 0. */
INLINE void put(struct qn_bits *to, size_t at, uint64_t bits) {
    to->words[at / 64] |= bits << (at % 64);
    to->words[at / 64 + 1] = bits >> 1 >> (63 - at % 64);
}

INLINE uint64_t used(size_t word, size_t len) {
    return word == len / 64 ? (UINT64_C(1) << (len % 64)) - 1 : ~UINT64_C(0);
}

INLINE void set_lengths(struct qn_sifted *sifted, unsigned n_planes, size_t keys, size_t tests) {
    sifted->key.len = keys;
    sifted->test.len = tests;
    for (unsigned i = 0; i < n_planes; i++) {
        sifted->key_plane[i].len = keys;
        sifted->test_plane[i].len = tests;
    }
}

INLINE void match_words(struct sides *s, struct qn_sifted *sifted, compress_word compress) {
    size_t keys = 0, tests = 0, len = s->bases->len;
    for (size_t w = 0; w < qn_bits_words(len); w++) {
        uint64_t bases = s->bases->words[w], same = s->same.words[w], key = same & ~bases, test = same & bases;
        put(&sifted->key, keys, compress(s->bit->words[w], key));
        put(&sifted->test, tests, compress(s->bit->words[w], test));
        for (unsigned i = 0; i < s->n_planes; i++) {
            uint64_t plane = s->plane[i].words[w];
            put(&sifted->key_plane[i], keys, compress(plane, key));
            put(&sifted->test_plane[i], tests, compress(plane, test));
            put(&s->rows[i], keys + tests, compress(plane, same));
        }
        keys += (size_t)__builtin_popcountll(key);
        tests += (size_t)__builtin_popcountll(test);
    }
    for (unsigned i = 0; i < s->n_planes; i++) s->rows[i].len = keys + tests;
    set_lengths(sifted, s->n_planes, keys, tests);
}

/* The detector has the planes of agreeing clicks only. */
INLINE void read_words(const struct sides *s, struct qn_sifted *sifted, compress_word compress) {
    size_t keys = 0, tests = 0, len = s->bases->len;
    for (size_t w = 0; w < qn_bits_words(len); w++) {
        uint64_t bases = s->bases->words[w], same = s->same.words[w], key = same & ~bases, test = same & bases;
        size_t n_keys = (size_t)__builtin_popcountll(key), n_tests = (size_t)__builtin_popcountll(test);
        put(&sifted->key, keys, compress(s->bit->words[w], key));
        put(&sifted->test, tests, compress(s->bit->words[w], test));
        uint64_t tested = compress(bases, same), all = n_keys + n_tests < 64 ? used(0, n_keys + n_tests) : ~UINT64_C(0);
        for (unsigned i = 0; i < s->n_planes; i++) {
            uint64_t row = qn_bits_word(&s->rows[i], keys + tests);
            put(&sifted->key_plane[i], keys, compress(row, all & ~tested));
            put(&sifted->test_plane[i], tests, compress(row, tested));
        }
        keys += n_keys;
        tests += n_tests;
    }
    set_lengths(sifted, s->n_planes, keys, tests);
}

/* Each compiled twice: for every processor, and with instructions most have. */
static void match_portable(struct sides *s, struct qn_sifted *sifted) { match_words(s, sifted, compress_portable); }
static void read_portable(const struct sides *s, struct qn_sifted *sifted) { read_words(s, sifted, compress_portable); }

INLINE uint64_t count_words(const struct qn_bits *plane, unsigned n_planes, size_t len, unsigned k,
                            const struct qn_bits *where) {
    uint64_t count = 0;
    for (size_t w = 0; w < qn_bits_words(len); w++) {
        uint64_t is_k = (where != NULL ? where->words[w] : ~UINT64_C(0)) & used(w, len);
        for (unsigned i = 0; i < n_planes; i++) is_k &= k >> i & 1 ? plane[i].words[w] : ~plane[i].words[w];
        count += (uint64_t)__builtin_popcountll(is_k);
    }
    return count;
}

#ifdef __x86_64__
#define FAST __attribute__((target("bmi2,popcnt")))

static inline FAST uint64_t compress_fast(uint64_t value, uint64_t mask) { return __builtin_ia32_pext_di(value, mask); }
static FAST void match_fast(struct sides *s, struct qn_sifted *sifted) { match_words(s, sifted, compress_fast); }
static FAST void read_fast(const struct sides *s, struct qn_sifted *sifted) { read_words(s, sifted, compress_fast); }
static FAST uint64_t count_fast(const struct qn_bits *plane, unsigned n_planes, size_t len, unsigned k,
                                const struct qn_bits *where) {
    return count_words(plane, n_planes, len, k, where);
}

static bool has_fast(void) { return __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt"); }
#else
#define match_fast match_portable
#define read_fast read_portable
#define count_fast count_words
static bool has_fast(void) { return false; }
#endif

/* ---- both ends ---- */

static void sides_release(struct sides *sides) {
    qn_bits_release(&sides->same);
    for (unsigned i = 0; i < QN_SIFT_PLANES; i++) qn_bits_release(&sides->rows[i]);
}

/* Room for what is left of clicks whose bases are the same. */
static int room_after(const struct sides *s, struct qn_sifted *sifted) {
    size_t tests = qn_bits_common(&s->same, s->bases);
    return room_for(sifted, s->n_planes, qn_bits_count(&s->same) - tests, tests);
}

int qn_sift_match_with(const struct qn_bits *bases, const struct qn_bits *basis, const struct qn_bits *bit,
                       const struct qn_bits *plane, unsigned n_planes, struct qn_buf *ret_answer,
                       struct qn_sifted *ret_sifted, bool portable) {
    assert(basis->len == bases->len && bit->len == bases->len && n_planes <= QN_SIFT_PLANES);
    struct sides s = {.bases = bases, .basis = basis, .bit = bit, .plane = plane, .n_planes = n_planes};
    int rc = qn_bits_copy(&s.same, bases);
    if (rc == 0) {
        qn_bits_xor(&s.same, basis);
        qn_bits_invert(&s.same);
        rc = room_after(&s, ret_sifted);
    }
    for (unsigned i = 0; rc == 0 && i < n_planes; i++) rc = room(&s.rows[i], bases->len);
    if (rc == 0) {
        (!portable && has_fast() ? match_fast : match_portable)(&s, ret_sifted);
        rc = qn_bits_to_bytes(&s.same, 0, s.same.len, ret_answer);
    }
    for (unsigned i = 0; rc == 0 && i < n_planes; i++) rc = qn_bits_to_bytes(&s.rows[i], 0, s.rows[i].len, ret_answer);
    sides_release(&s);
    return rc;
}

int qn_sift_match(const struct qn_bits *bases, const struct qn_bits *basis, const struct qn_bits *bit,
                  const struct qn_bits *plane, unsigned n_planes, struct qn_buf *ret_answer,
                  struct qn_sifted *ret_sifted) {
    return qn_sift_match_with(bases, basis, bit, plane, n_planes, ret_answer, ret_sifted, false);
}

int qn_sift_read_with(const struct qn_bits *bases, const struct qn_bits *bits, unsigned n_planes, const uint8_t *answer,
                      size_t len, struct qn_sifted *ret_sifted, bool portable) {
    static const uint8_t none[1];
    assert(bases->len == bits->len && n_planes <= QN_SIFT_PLANES);
    if (len == 0) answer = none; /* May be NULL, which one must not even add nothing to. */
    struct sides s = {.bases = bases, .bit = bits, .n_planes = n_planes};
    size_t first = qn_bits_bytes(bases->len);
    int rc = len < first ? -QN_EPROTOCOL : qn_bits_append_bytes(&s.same, answer, first, bases->len);
    size_t count = rc == 0 ? qn_bits_count(&s.same) : 0, row = qn_bits_bytes(count);
    if (rc == 0 && len != first + n_planes * row) rc = -QN_EPROTOCOL;
    for (unsigned i = 0; rc == 0 && i < n_planes; i++)
        rc = qn_bits_append_bytes(&s.rows[i], answer + first + i * row, row, count);
    if (rc == 0) rc = room_after(&s, ret_sifted);
    if (rc == 0) (!portable && has_fast() ? read_fast : read_portable)(&s, ret_sifted);
    sides_release(&s);
    return rc;
}

int qn_sift_read(const struct qn_bits *bases, const struct qn_bits *bits, unsigned n_planes, const uint8_t *answer,
                 size_t len, struct qn_sifted *ret_sifted) {
    return qn_sift_read_with(bases, bits, n_planes, answer, len, ret_sifted, false);
}

uint64_t qn_sift_count(const struct qn_bits plane[QN_SIFT_PLANES], unsigned n_planes, size_t len, unsigned k,
                       const struct qn_bits *where) {
    return (has_fast() ? count_fast : count_words)(plane, n_planes, len, k, where);
}
