/* SPDX-License-Identifier: Apache-2.0 */
/* XK (Noise specification, section 7.5):   <- s ... -> e, es   <- e, ee   -> s, se   [psk at the end of message 3] */
#include "wire/noise.h"

#include <assert.h>
#include <sodium.h>
#include <string.h>

#include "base/err.h"

/* ---- hashing and keys ---- */

static void mix_hash(struct qn_noise *noise, const uint8_t *data, size_t len) {
    crypto_hash_sha256_state state;
    crypto_hash_sha256_init(&state);
    crypto_hash_sha256_update(&state, noise->hash, sizeof noise->hash);
    crypto_hash_sha256_update(&state, data, len);
    crypto_hash_sha256_final(&state, noise->hash);
}

static void hmac(const uint8_t key[32], const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len, uint8_t out[32]) {
    crypto_auth_hmacsha256_state state;
    crypto_auth_hmacsha256_init(&state, key, 32);
    crypto_auth_hmacsha256_update(&state, a, a_len);
    crypto_auth_hmacsha256_update(&state, b, b_len);
    crypto_auth_hmacsha256_final(&state, out);
    sodium_memzero(&state, sizeof state);
}

/* HKDF with `n` outputs of 32 bytes, as the specification defines it. */
static void hkdf(const uint8_t chaining_key[32], const uint8_t *input, size_t len, uint8_t out[][32], int n) {
    uint8_t temporary[32];
    hmac(chaining_key, input, len, NULL, 0, temporary);
    for (uint8_t i = 1; i <= n; i++) {
        if (i == 1) hmac(temporary, &i, 1, NULL, 0, out[0]);
        else hmac(temporary, out[i - 2], 32, &i, 1, out[i - 1]);
    }
    sodium_memzero(temporary, sizeof temporary);
}

static void set_key(struct qn_noise_cipher *cipher, const uint8_t key[32]) {
    memcpy(cipher->key, key, sizeof cipher->key);
    cipher->nonce = 0;
    cipher->has_key = true;
}

static void mix_key(struct qn_noise *noise, const uint8_t *input, size_t len) {
    uint8_t out[2][32];
    hkdf(noise->chaining_key, input, len, out, 2);
    memcpy(noise->chaining_key, out[0], 32);
    set_key(&noise->cipher, out[1]);
    sodium_memzero(out, sizeof out);
}

static void mix_psk(struct qn_noise *noise) {
    uint8_t out[3][32];
    hkdf(noise->chaining_key, noise->psk, sizeof noise->psk, out, 3);
    memcpy(noise->chaining_key, out[0], 32);
    mix_hash(noise, out[1], 32);
    set_key(&noise->cipher, out[2]);
    sodium_memzero(out, sizeof out);
}

static int mix_dh(struct qn_noise *noise, const uint8_t private_key[32], const uint8_t public_key[32]) {
    uint8_t shared[32];
    if (crypto_scalarmult_curve25519(shared, private_key, public_key) != 0) return -QN_EAUTH; /* A low-order point. */
    mix_key(noise, shared, sizeof shared);
    sodium_memzero(shared, sizeof shared);
    return 0;
}

/* ---- ciphers ---- */

static void nonce_of(const struct qn_noise_cipher *cipher, uint8_t nonce[12]) {
    memset(nonce, 0, 4);
    for (int i = 0; i < 8; i++) nonce[4 + i] = (uint8_t)(cipher->nonce >> (8 * i));
}

void qn_noise_seal(struct qn_noise_cipher *cipher, const uint8_t *ad, size_t ad_len, const uint8_t *in, size_t len, uint8_t *out) {
    uint8_t nonce[12];
    nonce_of(cipher, nonce);
    crypto_aead_chacha20poly1305_ietf_encrypt(out, NULL, in, len, ad, ad_len, NULL, nonce, cipher->key);
    cipher->nonce++;
}

int qn_noise_open(struct qn_noise_cipher *cipher, const uint8_t *ad, size_t ad_len, const uint8_t *in, size_t len, uint8_t *out) {
    uint8_t nonce[12];
    nonce_of(cipher, nonce);
    if (len < QN_NOISE_TAG || crypto_aead_chacha20poly1305_ietf_decrypt(out, NULL, NULL, in, len, ad, ad_len, nonce, cipher->key) != 0)
        return -QN_EAUTH;
    cipher->nonce++;
    return 0;
}

void qn_noise_rekey(struct qn_noise_cipher *cipher) { /* ENCRYPT(k, 2^64 - 1, "", zeros), the tag dropped. */
    uint8_t out[32 + QN_NOISE_TAG], nonce[12];
    static const uint8_t zeros[32];
    memset(nonce, 0, 4);
    memset(nonce + 4, 0xff, 8);
    crypto_aead_chacha20poly1305_ietf_encrypt(out, NULL, zeros, sizeof zeros, NULL, 0, NULL, nonce, cipher->key);
    memcpy(cipher->key, out, sizeof cipher->key);
    sodium_memzero(out, sizeof out);
}

static size_t encrypt_and_hash(struct qn_noise *noise, const uint8_t *in, size_t len, uint8_t *out) {
    size_t written = len;
    if (noise->cipher.has_key) {
        qn_noise_seal(&noise->cipher, noise->hash, sizeof noise->hash, in, len, out);
        written += QN_NOISE_TAG;
    } else if (len > 0) {
        memcpy(out, in, len);
    }
    mix_hash(noise, out, written);
    return written;
}

static int decrypt_and_hash(struct qn_noise *noise, const uint8_t *in, size_t len, uint8_t *out) {
    if (noise->cipher.has_key) {
        uint8_t before[32];
        memcpy(before, noise->hash, sizeof before);
        if (len < QN_NOISE_TAG) return -QN_EAUTH;
        mix_hash(noise, in, len);
        return qn_noise_open(&noise->cipher, before, sizeof before, in, len, out);
    }
    if (len > 0) memcpy(out, in, len);
    mix_hash(noise, in, len);
    return 0;
}

/* ---- the handshake ---- */

void qn_noise_init(struct qn_noise *noise, const struct qn_noise_config *config) {
    const char *name = config->has_psk ? "Noise_XKpsk3_25519_ChaChaPoly_SHA256" : "Noise_XK_25519_ChaChaPoly_SHA256";
    *noise = (struct qn_noise){.initiator = config->initiator, .psk_used = config->has_psk};
    size_t len = strlen(name);
    if (len <= 32) memcpy(noise->hash, name, len);
    else crypto_hash_sha256(noise->hash, (const uint8_t *)name, len);
    memcpy(noise->chaining_key, noise->hash, 32);
    mix_hash(noise, config->prologue, config->prologue_len);
    memcpy(noise->s, config->static_private, 32);
    crypto_scalarmult_curve25519_base(noise->s_public, noise->s);
    memcpy(noise->e, config->ephemeral_private, 32);
    crypto_scalarmult_curve25519_base(noise->e_public, noise->e);
    memcpy(noise->psk, config->psk, 32);
    if (noise->initiator) memcpy(noise->rs, config->remote_static, 32);
    mix_hash(noise, noise->initiator ? noise->rs : noise->s_public, 32); /* Pre-message: the responder's static key. */
}

static void mix_ephemeral(struct qn_noise *noise, const uint8_t public_key[32]) {
    mix_hash(noise, public_key, 32);
    if (noise->psk_used) mix_key(noise, public_key, 32);
}

int qn_noise_write(struct qn_noise *noise, const uint8_t *payload, size_t len, uint8_t *out, size_t *ret_len) {
    assert(!noise->done && noise->initiator == (noise->message % 2 == 0));
    size_t n = 0;
    int rc = 0;
    if (noise->message < 2) { /* e, then es or ee */
        memcpy(out, noise->e_public, 32);
        n = 32;
        mix_ephemeral(noise, noise->e_public);
        rc = mix_dh(noise, noise->e, noise->message == 0 ? noise->rs : noise->re);
    } else { /* s, se */
        n = encrypt_and_hash(noise, noise->s_public, 32, out);
        rc = mix_dh(noise, noise->s, noise->re);
        if (noise->psk_used) mix_psk(noise);
    }
    if (rc < 0) return rc;
    n += encrypt_and_hash(noise, payload, len, out + n);
    noise->done = ++noise->message == 3;
    *ret_len = n;
    return 0;
}

int qn_noise_read(struct qn_noise *noise, const uint8_t *message, size_t len, uint8_t *out, size_t *ret_len) {
    assert(!noise->done && noise->initiator == (noise->message % 2 == 1));
    int rc;
    size_t head = noise->message < 2 ? 32 : 32 + QN_NOISE_TAG;
    if (len < head + QN_NOISE_TAG) return -QN_EAUTH;
    if (noise->message < 2) {
        memcpy(noise->re, message, 32);
        mix_ephemeral(noise, noise->re);
        rc = mix_dh(noise, noise->message == 0 ? noise->s : noise->e, noise->re);
    } else {
        rc = decrypt_and_hash(noise, message, head, noise->rs);
        if (rc == 0) rc = mix_dh(noise, noise->e, noise->rs);
        if (rc == 0 && noise->psk_used) mix_psk(noise);
    }
    if (rc == 0) rc = decrypt_and_hash(noise, message + head, len - head, out);
    if (rc < 0) return rc;
    noise->done = ++noise->message == 3;
    *ret_len = len - head - QN_NOISE_TAG;
    return 0;
}

void qn_noise_split(const struct qn_noise *noise, struct qn_noise_cipher *ret_send, struct qn_noise_cipher *ret_receive) {
    assert(noise->done);
    uint8_t out[2][32];
    hkdf(noise->chaining_key, NULL, 0, out, 2);
    set_key(ret_send, out[noise->initiator ? 0 : 1]);
    set_key(ret_receive, out[noise->initiator ? 1 : 0]);
    sodium_memzero(out, sizeof out);
}

void qn_noise_release(struct qn_noise *noise) { sodium_memzero(noise, sizeof *noise); }
