/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/rng.h"
#include "keys.h"
#include "qkd/bits.h"
#include "qkd/sift_with.h"

enum { TRAIN = 200000 };

struct both { /* What either end knows of a train. */
    uint32_t *offset;
    struct qn_bits bases, bits, basis, bit, plane[QN_SIFT_PLANES];
    uint64_t key[4], test[4]; /* By intensity, counted bit by bit. */
};

static void both_new(struct both *both, uint64_t seed, size_t n, double density, unsigned n_planes) {
    struct qn_rng rng;
    uint64_t at = 0;
    qn_rng_init(&rng, seed, "sift", 0);
    *both = (struct both){.offset = malloc((n + 1) * sizeof *both->offset)};
    for (size_t i = 0; i < n; i++, at += qn_rng_geometric(&rng, density)) {
        uint64_t coins = qn_rng_u64(&rng);
        bool basis = coins & 1, theirs = coins >> 1 & 1, bit = coins >> 2 & 1, noise = coins >> 3 & 1;
        unsigned k = n_planes == 0 ? 0 : (unsigned)(coins >> 4) & ((1u << n_planes) - 1);
        both->offset[i] = (uint32_t)at;
        cr_assert_eq(qn_bits_push(&both->basis, basis), 0);
        cr_assert_eq(qn_bits_push(&both->bases, theirs), 0);
        cr_assert_eq(qn_bits_push(&both->bit, bit), 0);
        cr_assert_eq(qn_bits_push(&both->bits, basis == theirs ? bit : noise), 0);
        for (unsigned p = 0; p < n_planes; p++) cr_assert_eq(qn_bits_push(&both->plane[p], k >> p & 1), 0);
        if (basis == theirs) ++*(basis ? &both->test[k] : &both->key[k]);
    }
}

static void both_free(struct both *both) {
    free(both->offset);
    qn_bits_release(&both->bases);
    qn_bits_release(&both->bits);
    qn_bits_release(&both->basis);
    qn_bits_release(&both->bit);
    for (unsigned p = 0; p < QN_SIFT_PLANES; p++) qn_bits_release(&both->plane[p]);
}

Test(sift, positions_survive_the_way_in_pieces) {
    static const double densities[] = {1, 0.3, 0.02, 0.0001};
    for (int d = 0; d < 4; d++) {
        struct both both;
        size_t n = d == 3 ? 20000 : TRAIN - 17, done = 0, pieces = 0;
        both_new(&both, 21 + (uint64_t)d, n, densities[d], 0);
        uint32_t *again = malloc((n + 1) * sizeof *again);
        uint64_t pulses = (uint64_t)both.offset[n - 1] + 1, least = 0;
        for (; done < n; pieces++) {
            struct qn_buf bytes = {0};
            size_t count;
            cr_assert_eq(qn_sift_encode(both.offset, done, n, &bytes, &count), 0);
            cr_assert(count > 0 && count <= QN_SIFT_PIECE_CLICKS && (count % 64 == 0 || done + count == n));
            cr_assert_leq(bytes.len, QN_SIFT_PIECE_BYTES);
            cr_assert_eq(qn_sift_decode(bytes.data, bytes.len, count, least, pulses, again + done), 0);
            done += count;
            least = (uint64_t)again[done - 1] + 1;
            static uint32_t scratch[QN_SIFT_PIECE_CLICKS];
            if (done == n)
                cr_assert_eq(qn_sift_decode(bytes.data, bytes.len, count, 0, pulses - 1, scratch), -QN_EPROTOCOL);
            qn_buf_release(&bytes);
        }
        cr_assert_gt(pieces, d == 3 ? 0 : 1);
        cr_assert_eq(memcmp(again, both.offset, n * sizeof *again), 0);
        free(again);
        both_free(&both);
    }
}

Test(sift, both_ends_end_with_the_same_bits_and_intensities) {
    for (unsigned n_planes = 0; n_planes <= QN_SIFT_PLANES; n_planes++) {
        struct both both;
        struct qn_buf answer = {0};
        struct qn_sifted source = {0}, detector = {0}, none = {0};
        both_new(&both, 30 + n_planes, TRAIN + n_planes, 1, n_planes);
        cr_assert_eq(qn_sift_match(&both.bases, &both.basis, &both.bit, both.plane, n_planes, &answer, &source), 0);
        cr_assert_eq(qn_sift_read(&both.bases, &both.bits, n_planes, answer.data, answer.len, &detector), 0);
        cr_assert(qn_bits_equal(&source.key, &detector.key) && qn_bits_equal(&source.test, &detector.test));
        for (unsigned k = 0; k < 1u << n_planes; k++) {
            const struct qn_sifted *ends[] = {&source, &detector};
            for (int e = 0; e < 2; e++) {
                cr_assert_eq(qn_sift_count(ends[e]->key_plane, n_planes, source.key.len, k, NULL), both.key[k]);
                cr_assert_eq(qn_sift_count(ends[e]->test_plane, n_planes, source.test.len, k, NULL), both.test[k]);
            }
        }
        struct qn_bits all = {0};
        cr_assert_eq(qn_bits_copy(&all, &source.key), 0);
        qn_bits_invert(&all);
        cr_assert_eq(qn_sift_count(source.key_plane, n_planes, all.len, 0, &all) +
                         qn_sift_count(source.key_plane, n_planes, all.len, 0, &source.key),
                     both.key[0]);
        cr_assert_eq(qn_sift_read(&both.bases, &both.bits, n_planes, answer.data, answer.len - 1, &none),
                     -QN_EPROTOCOL);
        answer.data[0] ^= 1; /* One agreeing click more or less: the rows no longer fit, or do by chance of padding. */
        int rc = qn_sift_read(&both.bases, &both.bits, n_planes, answer.data, answer.len, &none);
        cr_assert(rc == 0 || rc == -QN_EPROTOCOL);
        qn_sifted_release(&source);
        qn_sifted_release(&detector);
        qn_sifted_release(&none);
        qn_bits_release(&all);
        qn_buf_release(&answer);
        both_free(&both);
    }
}

static int decode(const char *positions, size_t len, size_t count, uint64_t least, uint64_t pulses) {
    uint32_t offset[16];
    return qn_sift_decode((const uint8_t *)positions, len, count, least, pulses, offset);
}

Test(sift, refuses_what_no_detector_sends) {
    cr_assert_eq(decode("\x00\x01\x02", 3, 3, 0, 4), 0);
    cr_assert_eq(decode("\x00\x01\x02", 3, 3, 0, 3), -QN_EPROTOCOL, "beyond the last pulse");
    cr_assert_eq(decode("\x00\x01\x02", 3, 3, 1, 4), -QN_EPROTOCOL, "before the piece before");
    cr_assert_eq(decode("\x00\x00", 2, 2, 0, 10), -QN_EPROTOCOL, "twice the same");
    cr_assert_eq(decode("\x00\x01\x02", 3, 2, 0, 10), -QN_EPROTOCOL, "more bytes than clicks");
    cr_assert_eq(decode("\x00\x01", 2, 3, 0, 10), -QN_EPROTOCOL, "more clicks than bytes");
    cr_assert_eq(decode("\x00\x81", 2, 2, 0, 1000), -QN_EPROTOCOL, "cut off");
    cr_assert_eq(decode("\x81\x00", 2, 1, 0, 1000), -QN_EPROTOCOL, "not the shortest form");
    cr_assert_eq(decode("\xff\xff\xff\xff\x10", 5, 1, 0, UINT64_C(1) << 32), -QN_EPROTOCOL, "33 bits");
    cr_assert_eq(decode("\xff\xff\xff\xff\x0f", 5, 1, 0, UINT64_C(1) << 32), 0);
    cr_assert_eq(decode("\xff\xff\xff\xff\x0f\x01", 6, 2, 0, UINT64_C(1) << 32), -QN_EPROTOCOL, "wraps");
    cr_assert_eq(decode("", 0, 0, 0, 0), 0);
    cr_assert_eq(decode("\x00", 1, 1, 0, 0), -QN_EPROTOCOL, "no pulses at all");
    cr_assert_eq(decode("\x01\x01\x01\x01\x01\x01\x01\x01\x01", 9, 9, 0, 10), 0, "eight at once");
    cr_assert_eq(decode("\x01\x01\x01\x01\x00\x01\x01\x01\x01", 9, 9, 0, 10), -QN_EPROTOCOL);
    cr_assert_eq(decode("\x01\x01\x01\x01\x01\x01\x01\x01\x01", 9, 9, 0, 9), -QN_EPROTOCOL);
}

Test(sift, survives_random_bytes) {
    struct qn_rng rng;
    qn_rng_init(&rng, 22, "sift", 0);
    for (int run = 0; run < 20000; run++) {
        uint8_t positions[40];
        uint32_t offset[41];
        for (size_t i = 0; i < sizeof positions; i++)
            positions[i] = (uint8_t)(qn_rng_u64(&rng) & (run % 2 == 0 ? 0x7f : 0xff));
        size_t len = qn_rng_below(&rng, 41), count = run % 2 == 0 ? len : qn_rng_below(&rng, 41);
        uint64_t pulses = qn_rng_u64(&rng) >> (32 + qn_rng_below(&rng, 32));
        int rc = qn_sift_decode(positions, len, count, 0, pulses, offset);
        cr_assert(rc == 0 || rc == -QN_EPROTOCOL);
        for (size_t i = 0; rc == 0 && i < count; i++)
            cr_assert(offset[i] < pulses && (i == 0 || offset[i - 1] < offset[i]));
    }
}

Test(sift, positions_are_the_same_with_any_instructions) {
    struct qn_rng rng;
    qn_rng_init(&rng, 25, "positions", 0);
    for (int run = 0; run < 3000; run++) {
        enum { MOST = 500 };
        uint32_t offset[MOST], again[2][MOST];
        size_t n = qn_rng_below(&rng, MOST), count[2];
        uint32_t least = (uint32_t)qn_rng_below(&rng, 4), rare = 1 + (uint32_t)qn_rng_below(&rng, 200);
        for (size_t i = 0; i < n; i++) { /* Around the longest gap of a byte, and now and then a long one. */
            uint64_t gap = 1 + qn_rng_below(&rng, least == 0 ? 129 : 100);
            if (least != 1 && qn_rng_below(&rng, rare) == 0) gap = 126 + qn_rng_below(&rng, 300);
            offset[i] = (i == 0 ? least : offset[i - 1]) + (uint32_t)gap;
        }
        struct qn_buf bytes[2] = {{0}, {0}};
        for (int p = 0; p < 2; p++) cr_assert_eq(qn_sift_encode_with(offset, 0, n, &bytes[p], &count[p], p == 1), 0);
        cr_assert(count[0] == n && count[1] == n && bytes[0].len == bytes[1].len);
        cr_assert(n == 0 || memcmp(bytes[0].data, bytes[1].data, bytes[0].len) == 0);
        uint64_t pulses = n == 0 ? 1 : (uint64_t)offset[n - 1] + qn_rng_below(&rng, 2); /* Just enough, or not. */
        if (n > 0 && run % 3 == 0) bytes[0].data[qn_rng_below(&rng, bytes[0].len)] = (uint8_t)(run % 2 ? 0 : 128);
        int rc[2];
        for (int p = 0; p < 2; p++)
            rc[p] = qn_sift_decode_with(bytes[0].data, bytes[0].len, n, 0, pulses, again[p], p == 1);
        cr_assert_eq(rc[0], rc[1]);
        cr_assert(rc[0] < 0 || n == 0 || memcmp(again[0], again[1], n * sizeof *offset) == 0);
        if (rc[0] == 0 && n > 0 && run % 3 != 0) cr_assert_eq(memcmp(again[0], offset, n * sizeof *offset), 0);
        for (int p = 0; p < 2; p++) qn_buf_release(&bytes[p]);
    }
}

static void assert_same_sifted(const struct qn_sifted *a, const struct qn_sifted *b, unsigned n_planes) {
    cr_assert(qn_bits_equal(&a->key, &b->key) && qn_bits_equal(&a->test, &b->test));
    for (unsigned i = 0; i < n_planes; i++)
        cr_assert(qn_bits_equal(&a->key_plane[i], &b->key_plane[i]) &&
                  qn_bits_equal(&a->test_plane[i], &b->test_plane[i]));
}

Test(sift, bits_are_the_same_with_any_instructions) {
    struct qn_rng rng;
    qn_rng_init(&rng, 24, "bits", 0);
    for (size_t len = 0; len < 1000; len += 1 + len / 20)
        for (unsigned n_planes = 0; n_planes <= QN_SIFT_PLANES; n_planes++) {
            struct qn_bits bases = random_key(&rng, len), basis = random_key(&rng, len);
            struct qn_bits bit = random_key(&rng, len), plane[QN_SIFT_PLANES], one_by_one[2] = {{0}, {0}};
            struct qn_sifted source[2] = {{.key = {0}}, {.key = {0}}}, detector[2] = {{.key = {0}}, {.key = {0}}};
            struct qn_buf answer[2] = {{0}, {0}};
            for (unsigned i = 0; i < QN_SIFT_PLANES; i++) plane[i] = random_key(&rng, len);
            for (int p = 0; p < 2; p++) {
                cr_assert_eq(qn_sift_match_with(&bases, &basis, &bit, plane, n_planes, &answer[p], &source[p], p == 1),
                             0);
                cr_assert_eq(
                    qn_sift_read_with(&bases, &bit, n_planes, answer[p].data, answer[p].len, &detector[p], p == 1), 0);
            }
            cr_assert_eq(answer[0].len, answer[1].len);
            cr_assert(answer[0].len == 0 || memcmp(answer[0].data, answer[1].data, answer[0].len) == 0);
            assert_same_sifted(&source[0], &source[1], n_planes);
            assert_same_sifted(&source[0], &detector[0], n_planes);
            assert_same_sifted(&source[0], &detector[1], n_planes);
            for (size_t i = 0; i < len; i++)
                if (qn_bits_get(&bases, i) == qn_bits_get(&basis, i))
                    cr_assert_eq(qn_bits_push(&one_by_one[qn_bits_get(&bases, i)], qn_bits_get(&bit, i)), 0);
            cr_assert(qn_bits_equal(&source[0].key, &one_by_one[0]) && qn_bits_equal(&source[0].test, &one_by_one[1]));
            for (int p = 0; p < 2; p++) {
                qn_sifted_release(&source[p]);
                qn_sifted_release(&detector[p]);
                qn_buf_release(&answer[p]);
                qn_bits_release(&one_by_one[p]);
            }
            for (unsigned i = 0; i < QN_SIFT_PLANES; i++) qn_bits_release(&plane[i]);
            qn_bits_release(&bases);
            qn_bits_release(&basis);
            qn_bits_release(&bit);
        }
}
