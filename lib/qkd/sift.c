/* SPDX-License-Identifier: Apache-2.0 */
#include "qkd/sift.h"

#include <assert.h>

#include "base/err.h"
#include "qkd/pack.h"

/* ---- positions ---- */

enum { GROUP = 64, LEB32_MAX = 5 }; /* 5: a 32-bit number at its longest. */

/* The gaps of a group whose first click has one before it. False, nothing written, unless each takes one byte: the
 * common case where clicks are dense, in a form that compilers turn into vector instructions. */
static bool encode_short(const uint32_t *offset, uint8_t *out) {
    uint32_t gaps[GROUP], all = 0;
    for (size_t i = 0; i < GROUP; i++) gaps[i] = offset[i] - *(offset + i - 1);
    for (size_t i = 0; i < GROUP; i++) all |= gaps[i];
    if (all >= 0x80) return false;
    for (size_t i = 0; i < GROUP; i++) out[i] = (uint8_t)gaps[i];
    return true;
}

int qn_sift_encode(const uint32_t *offset, size_t first, size_t n, struct qn_buf *ret_positions, size_t *ret_count) {
    assert(first <= n);
    size_t room = n - first < QN_SIFT_PIECE_CLICKS ? n - first : QN_SIFT_PIECE_CLICKS, count = 0;
    int rc = qn_buf_reserve(ret_positions, QN_SIFT_PIECE_BYTES);
    if (rc < 0) return rc;
    uint8_t *begin = ret_positions->data + ret_positions->len, *at = begin;
    while (count < room && (size_t)(at - begin) + GROUP * LEB32_MAX <= QN_SIFT_PIECE_BYTES) { /* A group at a time. */
        size_t end = room - count < GROUP ? room : count + GROUP;
        if (end - count == GROUP && count > 0 && encode_short(offset + first + count, at)) {
            at += GROUP;
            count = end;
            continue;
        }
        for (; count < end; count++) {
            uint32_t last = count == 0 ? 0 : offset[first + count - 1];
            at += leb_write(at, offset[first + count] - last);
        }
    }
    ret_positions->len += (size_t)(at - begin);
    *ret_count = count;
    return 0;
}

int qn_sift_decode(const uint8_t *positions, size_t len, size_t count, uint64_t least, uint64_t pulses,
                   uint32_t *ret_offset) {
    uint64_t value, last;
    assert(pulses <= UINT64_C(1) << 32);
    if (count == 0 || len == 0) return count == 0 && len == 0 ? 0 : -QN_EPROTOCOL; /* Then there may be no bytes. */
    struct leb_reader reader = {positions, positions + len};
    if (leb_read(&reader, &value) < 0 || value < least || value >= pulses) return -QN_EPROTOCOL;
    ret_offset[0] = (uint32_t)(last = value);
    size_t i = 1;
    while (i < count) {
        /* Eight gaps of a byte each, none of them 0, are the common case where clicks are dense. */
        while (i + 8 <= count && reader.end - reader.at >= 8) {
            uint64_t eight = load_le64(reader.at);
            if (((eight | (eight - UINT64_C(0x0101010101010101))) & UINT64_C(0x8080808080808080)) != 0) break;
            for (unsigned k = 0; k < 8; k++, eight >>= 8) ret_offset[i + k] = (uint32_t)(last += eight & 0x7f);
            if (last >= pulses) return -QN_EPROTOCOL;
            reader.at += 8;
            i += 8;
        }
        if (i == count) break;
        if (leb_read(&reader, &value) < 0 || value == 0 || value >= pulses || last >= pulses - value)
            return -QN_EPROTOCOL;
        ret_offset[i++] = (uint32_t)(last += value);
    }
    return reader.at == reader.end ? 0 : -QN_EPROTOCOL;
}

/* ---- bases and intensities ---- */

void qn_sifted_release(struct qn_sifted *sifted) {
    qn_bits_release(&sifted->key);
    qn_bits_release(&sifted->test);
    for (unsigned i = 0; i < QN_SIFT_PLANES; i++) {
        qn_bits_release(&sifted->key_plane[i]);
        qn_bits_release(&sifted->test_plane[i]);
    }
}

/* Of agreeing clicks: those of basis 1 are the test. */
static int split(const struct qn_bits *bits, const struct qn_bits *bases, const struct qn_bits *plane,
                 unsigned n_planes, struct qn_sifted *sifted) {
    int rc = qn_bits_append_where(&sifted->key, bits, bases, false);
    if (rc == 0) rc = qn_bits_append_where(&sifted->test, bits, bases, true);
    for (unsigned i = 0; rc == 0 && i < n_planes; i++) {
        rc = qn_bits_append_where(&sifted->key_plane[i], &plane[i], bases, false);
        if (rc == 0) rc = qn_bits_append_where(&sifted->test_plane[i], &plane[i], bases, true);
    }
    return rc;
}

int qn_sift_match(const struct qn_bits *bases, const struct qn_bits *basis, const struct qn_bits *bit,
                  const struct qn_bits *plane, unsigned n_planes, struct qn_buf *ret_answer,
                  struct qn_sifted *ret_sifted) {
    assert(basis->len == bases->len && bit->len == bases->len && n_planes <= QN_SIFT_PLANES);
    struct qn_bits differ = {0}, same_bits = {0}, same_bases = {0}, rows[QN_SIFT_PLANES] = {0};
    int rc = qn_bits_copy(&differ, bases);
    if (rc == 0) {
        qn_bits_xor(&differ, basis);
        rc = qn_bits_append_where(&same_bits, bit, &differ, false);
    }
    if (rc == 0) rc = qn_bits_append_where(&same_bases, bases, &differ, false);
    for (unsigned i = 0; rc == 0 && i < n_planes; i++) rc = qn_bits_append_where(&rows[i], &plane[i], &differ, false);
    if (rc == 0) rc = split(&same_bits, &same_bases, rows, n_planes, ret_sifted);
    if (rc == 0) {
        qn_bits_invert(&differ);
        rc = qn_bits_to_bytes(&differ, 0, differ.len, ret_answer);
    }
    for (unsigned i = 0; rc == 0 && i < n_planes; i++) rc = qn_bits_to_bytes(&rows[i], 0, rows[i].len, ret_answer);
    qn_bits_release(&differ);
    qn_bits_release(&same_bits);
    qn_bits_release(&same_bases);
    for (unsigned i = 0; i < QN_SIFT_PLANES; i++) qn_bits_release(&rows[i]);
    return rc;
}

int qn_sift_read(const struct qn_bits *bases, const struct qn_bits *bits, unsigned n_planes, const uint8_t *answer,
                 size_t len, struct qn_sifted *ret_sifted) {
    static const uint8_t none[1];
    assert(bases->len == bits->len && n_planes <= QN_SIFT_PLANES);
    if (len == 0) answer = none; /* May be NULL, which one must not even add nothing to. */
    struct qn_bits same = {0}, same_bits = {0}, same_bases = {0}, rows[QN_SIFT_PLANES] = {0};
    size_t first = qn_bits_bytes(bases->len);
    int rc = len < first ? -QN_EPROTOCOL : qn_bits_append_bytes(&same, answer, first, bases->len);
    size_t count = rc == 0 ? qn_bits_count(&same) : 0, row = qn_bits_bytes(count);
    if (rc == 0 && len != first + n_planes * row) rc = -QN_EPROTOCOL;
    for (unsigned i = 0; rc == 0 && i < n_planes; i++)
        rc = qn_bits_append_bytes(&rows[i], answer + first + i * row, row, count);
    if (rc == 0) rc = qn_bits_append_where(&same_bits, bits, &same, true);
    if (rc == 0) rc = qn_bits_append_where(&same_bases, bases, &same, true);
    if (rc == 0) rc = split(&same_bits, &same_bases, rows, n_planes, ret_sifted);
    qn_bits_release(&same);
    qn_bits_release(&same_bits);
    qn_bits_release(&same_bases);
    for (unsigned i = 0; i < QN_SIFT_PLANES; i++) qn_bits_release(&rows[i]);
    return rc;
}

uint64_t qn_sift_count(const struct qn_bits plane[QN_SIFT_PLANES], unsigned n_planes, size_t len, unsigned k,
                       const struct qn_bits *where) {
    uint64_t count = 0;
    for (size_t w = 0; w < qn_bits_words(len); w++) {
        uint64_t is_k = where != NULL ? where->words[w] : ~UINT64_C(0);
        for (unsigned i = 0; i < n_planes; i++) is_k &= k >> i & 1 ? plane[i].words[w] : ~plane[i].words[w];
        if (w == len / 64) is_k &= (UINT64_C(1) << (len % 64)) - 1;
        count += (uint64_t)__builtin_popcountll(is_k);
    }
    return count;
}
