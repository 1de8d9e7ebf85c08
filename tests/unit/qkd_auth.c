/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "qkd/auth.h"
#include "qkd/gf128.h"

static const uint8_t key[QN_AUTH_KEY_BYTES] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
static const uint8_t pad[QN_AUTH_TAG_BYTES] = {0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7,
                                               0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe, 0xff};

static void expect(const struct qn_auth *auth, const char *hex) {
    uint8_t tag[QN_AUTH_TAG_BYTES];
    char text[2 * sizeof tag + 1];
    qn_auth_tag(auth, pad, tag, sizeof tag);
    for (size_t i = 0; i < sizeof tag; i++) snprintf(text + 2 * i, 3, "%02x", tag[i]);
    cr_assert_str_eq(text, hex);
    cr_assert(qn_auth_check(auth, pad, tag, sizeof tag));
}

/* Computed by a few lines of Python from the definition in the header. */
Test(auth, golden_vectors) {
    struct qn_auth auth;
    qn_auth_init(&auth, key);
    expect(&auth, "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff");
    qn_auth_add(&auth, 0, NULL, 0);
    expect(&auth, "47d35ef279e964c0b9aba19f918b8177");
    qn_auth_init(&auth, key);
    qn_auth_add(&auth, 7, "abc", 3);
    expect(&auth, "96d9c2a98fff778224f55981fc8cd5f3");
    qn_auth_add(&auth, 8, NULL, 0);
    expect(&auth, "6fc53e78d29596066d19f2c06c0982d1");
    uint8_t bytes[256];
    for (unsigned i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)i;
    qn_auth_init(&auth, key);
    qn_auth_add(&auth, 1, bytes, sizeof bytes);
    qn_auth_add(&auth, 2, "xxxxxxxxxxxxxxxxxxxxxxxx", 24);
    qn_auth_add(&auth, 255, "sifting", 7);
    expect(&auth, "80d5aeb4df52d330e61bf6c8a70aec56");
    cr_assert_lt(fabs(qn_auth_bound(&auth, 16) / ldexp(20 + 1, -128) - 1), 1e-12); /* 311 bytes. */
    cr_assert_lt(fabs(qn_auth_bound(&auth, 8) / ldexp(20 + 1, -64) - 1), 1e-12);
    qn_auth_release(&auth);
}

/* Bit by bit: value times point modulo x^128 + x^7 + x^2 + x + 1. */
static void slow_multiply(uint64_t value[2], const uint64_t point[2]) {
    uint64_t product[2] = {0};
    for (int i = 127; i >= 0; i--) {
        uint64_t top = product[1] >> 63;
        product[1] = product[1] << 1 | product[0] >> 63;
        product[0] = product[0] << 1 ^ (top ? 0x87 : 0);
        if (point[i / 64] >> (i % 64) & 1) {
            product[0] ^= value[0];
            product[1] ^= value[1];
        }
    }
    memcpy(value, product, sizeof product);
}

static void slow_block(uint64_t value[2], const uint8_t *block, size_t len, const uint64_t point[2]) {
    for (size_t i = 0; i < len; i++) value[i / 8] ^= (uint64_t)block[i] << (8 * (i % 8));
    slow_multiply(value, point);
}

Test(auth, is_the_polynomial_of_the_transcript) {
    enum { LEN = 2000 };
    struct qn_rng rng;
    qn_rng_init(&rng, 51, "auth", 0);
    for (int run = 0; run < 60; run++) {
        uint8_t transcript[LEN + 16], random_key[QN_AUTH_KEY_BYTES];
        size_t len = 0, messages = 0;
        for (size_t i = 0; i < sizeof random_key; i++) random_key[i] = (uint8_t)qn_rng_u64(&rng);
        struct qn_auth auth;
        qn_auth_init(&auth, random_key);
        for (;;) {
            size_t take = qn_rng_below(&rng, run < 30 ? 20 : 200);
            if (len + 8 + take > LEN) break;
            uint8_t kind = (uint8_t)qn_rng_u64(&rng), *message = transcript + len + 8;
            for (size_t i = 0; i < take; i++) message[i] = (uint8_t)qn_rng_u64(&rng);
            uint64_t head = (uint64_t)take << 8 | kind;
            for (size_t i = 0; i < 8; i++) transcript[len + i] = (uint8_t)(head >> (8 * i));
            qn_auth_add(&auth, kind, message, take);
            len += 8 + take;
            messages++;
        }
        uint64_t point[2] = {0}, value[2] = {0};
        for (size_t i = 0; i < sizeof random_key; i++) point[i / 8] |= (uint64_t)random_key[i] << (8 * (i % 8));
        for (size_t at = 0; at < len; at += 16)
            slow_block(value, transcript + at, len - at < 16 ? len - at : 16, point);
        value[0] ^= len;
        value[1] ^= messages;
        slow_multiply(value, point);
        uint8_t tag[QN_AUTH_TAG_BYTES];
        qn_auth_tag(&auth, pad, tag, sizeof tag);
        for (size_t i = 0; i < sizeof tag; i++)
            cr_assert_eq(tag[i], (uint8_t)(value[i / 8] >> (8 * (i % 8))) ^ pad[i], "run %d byte %zu", run, i);
        uint8_t cut[QN_AUTH_MIN_TAG_BYTES];
        qn_auth_tag(&auth, pad, cut, sizeof cut);
        cr_assert_eq(memcmp(cut, tag, sizeof cut), 0, "a short tag begins as the long one");
    }
}

Test(auth, notices_every_change) {
    struct qn_rng rng;
    qn_rng_init(&rng, 52, "auth", 0);
    uint8_t message[333], tag[QN_AUTH_TAG_BYTES];
    for (size_t i = 0; i < sizeof message; i++) message[i] = (uint8_t)qn_rng_u64(&rng);
    struct qn_auth auth, other;
    qn_auth_init(&auth, key);
    qn_auth_add(&auth, 3, message, sizeof message);
    qn_auth_tag(&auth, pad, tag, sizeof tag);
    for (size_t bit = 0; bit < sizeof message * 8; bit++) {
        message[bit / 8] ^= (uint8_t)(1 << bit % 8);
        qn_auth_init(&other, key);
        qn_auth_add(&other, 3, message, sizeof message);
        cr_assert_not(qn_auth_check(&other, pad, tag, sizeof tag), "bit %zu", bit);
        message[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    qn_auth_init(&other, key);
    qn_auth_add(&other, 4, message, sizeof message);
    cr_assert_not(qn_auth_check(&other, pad, tag, sizeof tag), "another kind");
    qn_auth_init(&other, key);
    qn_auth_add(&other, 3, message, 100);
    qn_auth_add(&other, 3, message + 100, sizeof message - 100);
    cr_assert_not(qn_auth_check(&other, pad, tag, sizeof tag), "the same bytes, cut elsewhere");
    qn_auth_init(&other, key);
    qn_auth_add(&other, 3, message, sizeof message);
    cr_assert(qn_auth_check(&other, pad, tag, sizeof tag));
    uint8_t other_pad[sizeof pad];
    memcpy(other_pad, pad, sizeof pad);
    other_pad[15] ^= 1;
    cr_assert_not(qn_auth_check(&other, other_pad, tag, sizeof tag), "another pad");
    uint8_t other_key[sizeof key];
    memcpy(other_key, key, sizeof key);
    other_key[0] ^= 1;
    qn_auth_init(&other, other_key);
    qn_auth_add(&other, 3, message, sizeof message);
    cr_assert_not(qn_auth_check(&other, pad, tag, sizeof tag), "another key");
}

Test(gf128, is_the_same_by_every_set_and_in_any_portions) {
    enum { BLOCKS = 600 };
    static uint8_t bytes[16 * BLOCKS + 1];
    struct qn_rng rng;
    qn_rng_init(&rng, 7, "gf128", 0);
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)qn_rng_u64(&rng);
    for (size_t blocks = 0; blocks <= BLOCKS; blocks += 1 + blocks / 16) {
        const uint64_t point[2] = {qn_rng_u64(&rng), qn_rng_u64(&rng)}, start[2] = {qn_rng_u64(&rng), blocks};
        uint64_t expected[2];
        memcpy(expected, start, sizeof start);
        for (size_t i = 0; i < blocks; i++) gf128_horner(qn_gf2_at(0), expected, point, bytes + 1 + 16 * i, 1);
        for (size_t s = 0; qn_gf2_at(s) != NULL; s++) {
            uint64_t value[2];
            memcpy(value, start, sizeof start);
            gf128_horner(qn_gf2_at(s), value, point, bytes + 1, blocks);
            cr_assert_eq(memcmp(value, expected, sizeof value), 0, "%s, %zu blocks", qn_gf2_at(s)->name, blocks);
        }
    }
}
