/* SPDX-License-Identifier: Apache-2.0 */
/* The public vectors, byte for byte, in both roles; and what must be refused. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "wire/noise.h"

#define N_VECTORS 12

static const char *const pattern_names[] = {[QN_NOISE_XK] = "XK", [QN_NOISE_XKPSK3] = "XKpsk3", [QN_NOISE_KK] = "KK",
                                            [QN_NOISE_IK] = "IK", [QN_NOISE_IKPSK2] = "IKpsk2", [QN_NOISE_XX] = "XX"};

static size_t from_hex(const json_t *value, uint8_t *out, size_t max) {
    const char *text = json_string_value(value);
    size_t len = 0;
    if (text == NULL) return 0;
    cr_assert_eq(sodium_hex2bin(out, max, text, strlen(text), NULL, &len, NULL), 0);
    return len;
}

static size_t hex(const json_t *object, const char *role, const char *key, uint8_t *out, size_t max) {
    char name[64];
    snprintf(name, sizeof name, "%s%s", role, key);
    return from_hex(json_object_get(object, name), out, max);
}

static void name_to_config(const char *name, struct qn_noise_config *config) {
    char expected[64];
    for (int pattern = QN_NOISE_XK; pattern <= QN_NOISE_XX; pattern++) {
        for (int hash = QN_NOISE_SHA256; hash <= QN_NOISE_BLAKE2B; hash++) {
            snprintf(expected, sizeof expected, "Noise_%s_25519_ChaChaPoly_%s", pattern_names[pattern],
                     hash == QN_NOISE_SHA256 ? "SHA256" : "BLAKE2b");
            if (strcmp(name, expected) != 0) continue;
            config->pattern = (enum qn_noise_pattern)pattern;
            config->hash = (enum qn_noise_hash)hash;
            return;
        }
    }
    cr_assert_fail("a vector of an unknown protocol: %s", name);
}

static void begin(const json_t *vector, struct qn_noise noise[2]) {
    uint8_t prologue[64];
    for (int side = 0; side < 2; side++) {
        const char *role = side == 0 ? "init_" : "resp_";
        struct qn_noise_config config = {.initiator = side == 0, .prologue = prologue};
        name_to_config(json_string_value(json_object_get(vector, "protocol_name")), &config);
        config.prologue_len = hex(vector, role, "prologue", prologue, sizeof prologue);
        hex(vector, role, "static", config.static_private, 32);
        hex(vector, role, "ephemeral", config.ephemeral_private, 32);
        hex(vector, role, "remote_static", config.remote_static, 32);
        from_hex(json_array_get(json_object_get(vector, side == 0 ? "init_psks" : "resp_psks"), 0), config.psk, 32);
        qn_noise_init(&noise[side], &config);
    }
}

static void run(const json_t *vector) {
    const char *name = json_string_value(json_object_get(vector, "protocol_name"));
    const json_t *messages = json_object_get(vector, "messages");
    struct qn_noise noise[2];
    struct qn_noise_cipher send[2] = {0}, receive[2] = {0};
    uint8_t payload[256], expected[512], out[512], back[512];
    begin(vector, noise);
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *message = json_array_get(messages, i);
        size_t payload_len = hex(message, "", "payload", payload, sizeof payload), len, back_len;
        size_t expected_len = hex(message, "", "ciphertext", expected, sizeof expected);
        size_t from = i % 2, to = 1 - from;
        if (!noise[0].done) {
            cr_assert_eq(qn_noise_write(&noise[from], payload, payload_len, out, &len), 0);
            cr_assert_leq(len, payload_len + QN_NOISE_OVERHEAD);
            cr_assert_eq(qn_noise_read(&noise[to], out, len, back, &back_len), 0, "%s, message %zu", name, i);
        } else {
            if (!send[0].has_key)
                for (int side = 0; side < 2; side++) qn_noise_split(&noise[side], &send[side], &receive[side]);
            len = payload_len + QN_NOISE_TAG;
            back_len = payload_len;
            qn_noise_seal(&send[from], NULL, 0, payload, payload_len, out);
            cr_assert_eq(qn_noise_open(&receive[to], NULL, 0, out, len, back), 0, "%s, message %zu", name, i);
        }
        cr_assert_eq(len, expected_len, "%s, message %zu", name, i);
        cr_assert_arr_eq(out, expected, len, "%s, message %zu", name, i);
        cr_assert_eq(back_len, payload_len);
        cr_assert_arr_eq(back, payload, back_len);
    }
    size_t hash_len = hex(vector, "", "handshake_hash", expected, sizeof expected);
    for (int side = 0; side < 2; side++) cr_assert_arr_eq(noise[side].hash, expected, hash_len, "%s", name);
}

Test(noise, public_vectors) {
    json_t *root = json_load_file(QN_TEST_DATA "/noise-vectors.json", 0, NULL), *vector;
    cr_assert_not_null(root);
    size_t i;
    json_array_foreach(json_object_get(root, "vectors"), i, vector) run(vector);
    cr_assert_eq(i, N_VECTORS);
    json_decref(root);
}

static void make_pair(struct qn_noise noise[2]) {
    struct qn_noise_config config[2] = {{.initiator = true, .static_private = {1}, .ephemeral_private = {2}},
                                        {.static_private = {3}, .ephemeral_private = {4}}};
    crypto_scalarmult_curve25519_base(config[0].remote_static, config[1].static_private);
    for (int side = 0; side < 2; side++) qn_noise_init(&noise[side], &config[side]);
}

/* The points of small order of RFC 7748's curve: a shared secret with them is zero whatever the private key. */
Test(noise, refuses_points_of_low_order) {
    static const char *const points[] = {
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    };
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        struct qn_noise noise[2];
        uint8_t message[48] = {0}, out[48];
        size_t len;
        make_pair(noise);
        cr_assert_eq(sodium_hex2bin(message, 32, points[i], 64, NULL, NULL, NULL), 0);
        cr_assert_eq(qn_noise_read(&noise[1], message, sizeof message, out, &len), -QN_EAUTH);
    }
}

static void hmac(const uint8_t key[32], const uint8_t *data, size_t len, uint8_t out[32]) {
    crypto_auth_hmacsha256_state state;
    crypto_auth_hmacsha256_init(&state, key, 32);
    crypto_auth_hmacsha256_update(&state, data, len);
    crypto_auth_hmacsha256_final(&state, out);
}

/* A first message whose ephemeral key is zero, sealed under the secret it would give, zero: all else is in order. */
Test(noise, refuses_a_message_that_works_out_with_a_secret_of_zero) {
    struct qn_noise noise[2];
    struct qn_noise_cipher cipher = {.has_key = true};
    uint8_t message[48] = {0}, transcript[64] = {0}, temporary[32], first[33], out[48];
    size_t len;
    make_pair(noise);
    memcpy(transcript, noise[1].hash, 32); /* Then the ephemeral key: zeros. */
    crypto_hash_sha256(transcript, transcript, sizeof transcript);
    hmac(noise[1].chaining_key, message, 32, temporary);
    hmac(temporary, (const uint8_t *)"\1", 1, first);
    first[32] = 2;
    hmac(temporary, first, sizeof first, cipher.key);
    qn_noise_seal(&cipher, transcript, 32, NULL, 0, message + 32);
    cr_assert_eq(qn_noise_read(&noise[1], message, sizeof message, out, &len), -QN_EAUTH);
}

Test(noise, refuses_a_message_cut_short_anywhere) {
    uint8_t out[256], back[256];
    for (unsigned stop = 0; stop < 3; stop++) {
        for (size_t cut = 1;; cut++) {
            struct qn_noise noise[2];
            size_t len, back_len;
            make_pair(noise);
            for (unsigned i = 0; i < stop; i++) {
                cr_assert_eq(qn_noise_write(&noise[i % 2], (const uint8_t *)"hello", 5, out, &len), 0);
                cr_assert_eq(qn_noise_read(&noise[1 - i % 2], out, len, back, &back_len), 0);
            }
            cr_assert_eq(qn_noise_write(&noise[stop % 2], (const uint8_t *)"hello", 5, out, &len), 0);
            if (cut > len) break;
            cr_assert_eq(qn_noise_read(&noise[1 - stop % 2], out, len - cut, back, &back_len), -QN_EAUTH);
        }
    }
}

/* REKEY(k) is the first 32 bytes of ENCRYPT(k, 2^64 - 1, "", zeros): a ChaCha20 block, computed another way here. */
Test(noise, rekeys_as_specified) {
    struct qn_noise_cipher cipher = {.has_key = true, .key = {7, 8, 9}, .nonce = 5};
    static const uint8_t nonce[12] = {0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255}, zeros[32];
    uint8_t expected[32];
    crypto_stream_chacha20_ietf_xor_ic(expected, zeros, sizeof zeros, nonce, 1, cipher.key);
    qn_noise_rekey(&cipher);
    cr_assert_arr_eq(cipher.key, expected, sizeof expected);
    cr_assert_eq(cipher.nonce, 5);
}
