/* SPDX-License-Identifier: Apache-2.0 */
/* The public vectors of cacophony and snow, for the patterns we use. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <sodium.h>
#include <string.h>

#include "wire/noise.h"

static size_t hex(const json_t *object, const char *key, uint8_t *out, size_t max) {
    const char *text = json_string_value(json_object_get(object, key));
    size_t len = 0;
    if (text == NULL) return 0;
    cr_assert_eq(sodium_hex2bin(out, max, text, strlen(text), NULL, &len, NULL), 0);
    return len;
}

static void run(const json_t *vector, bool psk) {
    uint8_t prologue[64], payload[256], expected[512], out[512], back[512];
    struct qn_noise_config config[2] = {{.initiator = true, .has_psk = psk}, {.has_psk = psk}};
    struct qn_noise noise[2];
    for (int side = 0; side < 2; side++) {
        const char *keys[2][3] = {{"init_prologue", "init_static", "init_ephemeral"}, {"resp_prologue", "resp_static", "resp_ephemeral"}};
        config[side].prologue_len = hex(vector, keys[side][0], prologue, sizeof prologue);
        config[side].prologue = prologue;
        hex(vector, keys[side][1], config[side].static_private, 32);
        hex(vector, keys[side][2], config[side].ephemeral_private, 32);
        if (side == 0) hex(vector, "init_remote_static", config[side].remote_static, 32);
        if (psk) {
            const char *text = json_string_value(json_array_get(json_object_get(vector, "init_psks"), 0));
            cr_assert_eq(sodium_hex2bin(config[side].psk, 32, text, 64, NULL, NULL, NULL), 0);
        }
        qn_noise_init(&noise[side], &config[side]);
    }
    struct qn_noise_cipher send[2], receive[2];
    const json_t *messages = json_object_get(vector, "messages");
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *message = json_array_get(messages, i);
        size_t payload_len = hex(message, "payload", payload, sizeof payload), len, back_len;
        size_t expected_len = hex(message, "ciphertext", expected, sizeof expected);
        int from = (int)(i % 2), to = 1 - from;
        if (i < 3) {
            cr_assert_eq(qn_noise_write(&noise[from], payload, payload_len, out, &len), 0);
            cr_assert_eq(qn_noise_read(&noise[to], out, len, back, &back_len), 0);
        } else {
            if (i == 3)
                for (int side = 0; side < 2; side++) qn_noise_split(&noise[side], &send[side], &receive[side]);
            len = payload_len + QN_NOISE_TAG;
            back_len = payload_len;
            qn_noise_seal(&send[from], NULL, 0, payload, payload_len, out);
            cr_assert_eq(qn_noise_open(&receive[to], NULL, 0, out, len, back), 0);
        }
        cr_assert_eq(len, expected_len, "message %zu", i);
        cr_assert_arr_eq(out, expected, len);
        cr_assert_eq(back_len, payload_len);
        cr_assert_arr_eq(back, payload, back_len);
    }
}

Test(noise, public_vectors) {
    json_t *root = json_load_file(QN_TEST_DATA "/noise-vectors.json", 0, NULL);
    cr_assert_not_null(root);
    size_t i, done = 0;
    json_t *vector;
    json_array_foreach(json_object_get(root, "vectors"), i, vector) {
        const char *name = json_string_value(json_object_get(vector, "protocol_name"));
        bool plain = strcmp(name, "Noise_XK_25519_ChaChaPoly_SHA256") == 0, psk = strcmp(name, "Noise_XKpsk3_25519_ChaChaPoly_SHA256") == 0;
        if (!plain && !psk) continue;
        run(vector, psk);
        done++;
    }
    cr_assert_eq(done, 2);
    json_decref(root);
}

Test(noise, refuses_a_low_order_point) {
    struct qn_noise_config config = {.static_private = {1}, .ephemeral_private = {2}};
    struct qn_noise noise;
    uint8_t message[48] = {0}, out[48];
    size_t len;
    qn_noise_init(&noise, &config);
    cr_assert_lt(qn_noise_read(&noise, message, sizeof message, out, &len), 0);
}
