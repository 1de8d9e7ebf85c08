/* SPDX-License-Identifier: Apache-2.0 */
/* Section numbers are those of the Noise specification, revision 34. */
#include "wire/noise.h"

#include <assert.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

enum token { END, E, S, EE, ES, SE, SS, PSK };

/* Section 7.5 and 9.4. First letter of a pair: the initiator's key; second: the responder's. */
static const struct pattern {
    const char *name;
    bool knows_initiator, knows_responder, has_psk; /* Static keys known before the first message. */
    unsigned n_messages;
    enum token tokens[3][5];
} patterns[] = {
    [QN_NOISE_XK] = {"XK", false, true, false, 3, {{E, ES}, {E, EE}, {S, SE}}},
    [QN_NOISE_XKPSK3] = {"XKpsk3", false, true, true, 3, {{E, ES}, {E, EE}, {S, SE, PSK}}},
    [QN_NOISE_KK] = {"KK", true, true, false, 2, {{E, ES, SS}, {E, EE, SE}}},
    [QN_NOISE_IK] = {"IK", false, true, false, 2, {{E, ES, S, SS}, {E, EE, SE}}},
    [QN_NOISE_IKPSK2] = {"IKpsk2", false, true, true, 2, {{E, ES, S, SS}, {E, EE, SE, PSK}}},
    [QN_NOISE_XX] = {"XX", false, false, false, 3, {{E}, {E, EE, S, ES}, {S, SE}}},
};

/* ---- hash, HMAC, HKDF (section 4.3) ---- */

struct hasher {
    enum qn_noise_hash function;
    union {
        crypto_hash_sha256_state sha256;
        crypto_generichash_state blake2b;
    } state;
};

static size_t hash_len(enum qn_noise_hash function) { return function == QN_NOISE_SHA256 ? 32 : 64; }

static void hash_begin(struct hasher *hasher, enum qn_noise_hash function) {
    hasher->function = function;
    if (function == QN_NOISE_SHA256) {
        crypto_hash_sha256_init(&hasher->state.sha256);
    } else {
        crypto_generichash_init(&hasher->state.blake2b, NULL, 0, 64);
    }
}

static void hash_add(struct hasher *hasher, const uint8_t *data, size_t len) {
    if (hasher->function == QN_NOISE_SHA256) {
        crypto_hash_sha256_update(&hasher->state.sha256, data, len);
    } else {
        crypto_generichash_update(&hasher->state.blake2b, data, len);
    }
}

static void hash_end(struct hasher *hasher, uint8_t *out) {
    if (hasher->function == QN_NOISE_SHA256) {
        crypto_hash_sha256_final(&hasher->state.sha256, out);
    } else {
        crypto_generichash_final(&hasher->state.blake2b, out, 64);
    }
    sodium_memzero(hasher, sizeof *hasher);
}

/* HMAC (RFC 2104) of a followed by b. Keys are as long as the hash, so never longer than its block. */
static void hmac(enum qn_noise_hash function, const uint8_t *key, const uint8_t *a, size_t a_len, const uint8_t *b,
                 size_t b_len, uint8_t *out) {
    struct hasher hasher;
    uint8_t pad[128] = {0};
    size_t block = function == QN_NOISE_SHA256 ? 64 : 128, len = hash_len(function);
    memcpy(pad, key, len);
    for (size_t i = 0; i < block; i++) pad[i] ^= 0x36;
    hash_begin(&hasher, function);
    hash_add(&hasher, pad, block);
    hash_add(&hasher, a, a_len);
    hash_add(&hasher, b, b_len);
    hash_end(&hasher, out);
    for (size_t i = 0; i < block; i++) pad[i] ^= 0x36 ^ 0x5c;
    hash_begin(&hasher, function);
    hash_add(&hasher, pad, block);
    hash_add(&hasher, out, len);
    hash_end(&hasher, out);
    sodium_memzero(pad, sizeof pad);
}

struct derived {
    uint8_t key[3][QN_NOISE_HASH_MAX];
};

static void derive(const struct qn_noise *noise, const uint8_t *input, size_t len, unsigned n,
                   struct derived *derived) {
    uint8_t secret[QN_NOISE_HASH_MAX];
    size_t size = hash_len(noise->hash_function);
    hmac(noise->hash_function, noise->chaining_key, input, len, NULL, 0, secret);
    for (uint8_t i = 0; i < n; i++) {
        uint8_t number = (uint8_t)(i + 1);
        hmac(noise->hash_function, secret, i == 0 ? NULL : derived->key[i - 1], i == 0 ? 0 : size, &number, 1,
             derived->key[i]);
    }
    sodium_memzero(secret, sizeof secret);
}

/* ---- CipherState (section 5.1) ---- */

static void set_key(struct qn_noise_cipher *cipher, const uint8_t key[QN_NOISE_KEY]) {
    memcpy(cipher->key, key, sizeof cipher->key);
    cipher->nonce = 0;
    cipher->has_key = true;
}

static void put_nonce(uint64_t number, uint8_t nonce[12]) {
    memset(nonce, 0, 4);
    for (int i = 0; i < 8; i++) nonce[4 + i] = (uint8_t)(number >> (8 * i));
}

void qn_noise_seal(struct qn_noise_cipher *cipher, const uint8_t *ad, size_t ad_len, const uint8_t *in, size_t len,
                   uint8_t *out) {
    uint8_t nonce[12];
    put_nonce(cipher->nonce++, nonce);
    crypto_aead_chacha20poly1305_ietf_encrypt(out, NULL, in, len, ad, ad_len, NULL, nonce, cipher->key);
}

int qn_noise_open(struct qn_noise_cipher *cipher, const uint8_t *ad, size_t ad_len, const uint8_t *in, size_t len,
                  uint8_t *out) {
    uint8_t nonce[12];
    put_nonce(cipher->nonce, nonce);
    if (len < QN_NOISE_TAG) return -QN_EAUTH;
    if (crypto_aead_chacha20poly1305_ietf_decrypt(out, NULL, NULL, in, len, ad, ad_len, nonce, cipher->key) != 0)
        return -QN_EAUTH;
    cipher->nonce++;
    return 0;
}

void qn_noise_rekey(struct qn_noise_cipher *cipher) { /* Section 4.2: of zeros, under the last nonce; no tag. */
    static const uint8_t zeros[QN_NOISE_KEY];
    uint8_t out[QN_NOISE_KEY + QN_NOISE_TAG], nonce[12];
    put_nonce(UINT64_MAX, nonce);
    crypto_aead_chacha20poly1305_ietf_encrypt(out, NULL, zeros, sizeof zeros, NULL, 0, NULL, nonce, cipher->key);
    memcpy(cipher->key, out, sizeof cipher->key);
    sodium_memzero(out, sizeof out);
}

/* ---- SymmetricState (section 5.2) ---- */

static void mix_hash(struct qn_noise *noise, const uint8_t *data, size_t len) {
    struct hasher hasher;
    hash_begin(&hasher, noise->hash_function);
    hash_add(&hasher, noise->hash, hash_len(noise->hash_function));
    hash_add(&hasher, data, len);
    hash_end(&hasher, noise->hash);
}

static void mix_key(struct qn_noise *noise, const uint8_t input[QN_NOISE_KEY]) {
    struct derived derived;
    derive(noise, input, QN_NOISE_KEY, 2, &derived);
    memcpy(noise->chaining_key, derived.key[0], sizeof noise->chaining_key);
    set_key(&noise->cipher, derived.key[1]);
    sodium_memzero(&derived, sizeof derived);
}

static void mix_psk(struct qn_noise *noise) {
    struct derived derived;
    derive(noise, noise->psk, sizeof noise->psk, 3, &derived);
    memcpy(noise->chaining_key, derived.key[0], sizeof noise->chaining_key);
    mix_hash(noise, derived.key[1], hash_len(noise->hash_function));
    set_key(&noise->cipher, derived.key[2]);
    sodium_memzero(&derived, sizeof derived);
}

static int mix_dh(struct qn_noise *noise, const uint8_t private_key[32], const uint8_t public_key[32]) {
    uint8_t shared[QN_NOISE_KEY];
    if (crypto_scalarmult_curve25519(shared, private_key, public_key) != 0) return -QN_EAUTH; /* A low-order point. */
    mix_key(noise, shared);
    sodium_memzero(shared, sizeof shared);
    return 0;
}

static size_t encrypt_and_hash(struct qn_noise *noise, const uint8_t *in, size_t len, uint8_t *out) {
    size_t written = len;
    if (noise->cipher.has_key) {
        qn_noise_seal(&noise->cipher, noise->hash, hash_len(noise->hash_function), in, len, out);
        written += QN_NOISE_TAG;
    } else if (len > 0) {
        memcpy(out, in, len);
    }
    mix_hash(noise, out, written);
    return written;
}

static int decrypt_and_hash(struct qn_noise *noise, const uint8_t *in, size_t len, uint8_t *out) {
    if (noise->cipher.has_key) {
        uint8_t before[QN_NOISE_HASH_MAX];
        memcpy(before, noise->hash, sizeof before);
        mix_hash(noise, in, len); /* First, as `out` may be `in`. */
        return qn_noise_open(&noise->cipher, before, hash_len(noise->hash_function), in, len, out);
    }
    mix_hash(noise, in, len);
    if (len > 0) memcpy(out, in, len);
    return 0;
}

/* ---- HandshakeState (section 5.3) ---- */

void qn_noise_init(struct qn_noise *noise, const struct qn_noise_config *config) {
    const struct pattern *pattern = &patterns[config->pattern];
    *noise =
        (struct qn_noise){.pattern = config->pattern, .hash_function = config->hash, .initiator = config->initiator};
    memcpy(noise->s, config->static_private, sizeof noise->s);
    memcpy(noise->e, config->ephemeral_private, sizeof noise->e);
    memcpy(noise->rs, config->remote_static, sizeof noise->rs);
    memcpy(noise->psk, config->psk, sizeof noise->psk);
    crypto_scalarmult_curve25519_base(noise->s_public, noise->s);
    crypto_scalarmult_curve25519_base(noise->e_public, noise->e);

    char name[64];
    size_t len = (size_t)snprintf(name, sizeof name, "Noise_%s_25519_ChaChaPoly_%s", pattern->name,
                                  config->hash == QN_NOISE_SHA256 ? "SHA256" : "BLAKE2b");
    if (len <= hash_len(config->hash)) {
        memcpy(noise->hash, name, len);
    } else {
        struct hasher hasher;
        hash_begin(&hasher, config->hash);
        hash_add(&hasher, (const uint8_t *)name, len);
        hash_end(&hasher, noise->hash);
    }
    memcpy(noise->chaining_key, noise->hash, sizeof noise->hash);
    mix_hash(noise, config->prologue, config->prologue_len);
    if (pattern->knows_initiator) mix_hash(noise, noise->initiator ? noise->s_public : noise->rs, QN_NOISE_KEY);
    if (pattern->knows_responder) mix_hash(noise, noise->initiator ? noise->rs : noise->s_public, QN_NOISE_KEY);
}

static void mix_ephemeral(struct qn_noise *noise, const uint8_t public_key[QN_NOISE_KEY]) {
    mix_hash(noise, public_key, QN_NOISE_KEY);
    if (patterns[noise->pattern].has_psk) mix_key(noise, public_key);
}

/* The tokens that move no bytes: the same for who writes and who reads. */
static int mix_token(struct qn_noise *noise, enum token token) {
    bool initiator = noise->initiator;
    switch (token) {
    case EE:
        return mix_dh(noise, noise->e, noise->re);
    case SS:
        return mix_dh(noise, noise->s, noise->rs);
    case ES:
        return mix_dh(noise, initiator ? noise->e : noise->s, initiator ? noise->rs : noise->re);
    case SE:
        return mix_dh(noise, initiator ? noise->s : noise->e, initiator ? noise->re : noise->rs);
    case PSK:
        mix_psk(noise);
        return 0;
    default:
        assert(false);
        return -QN_EINVAL;
    }
}

static void advance(struct qn_noise *noise) { noise->done = ++noise->message == patterns[noise->pattern].n_messages; }

int qn_noise_write(struct qn_noise *noise, const uint8_t *payload, size_t len, uint8_t *out, size_t *ret_len) {
    assert(!noise->done && noise->initiator == (noise->message % 2 == 0));
    size_t at = 0;
    for (const enum token *token = patterns[noise->pattern].tokens[noise->message]; *token != END; token++) {
        if (*token == E) {
            memcpy(out + at, noise->e_public, QN_NOISE_KEY);
            mix_ephemeral(noise, noise->e_public);
            at += QN_NOISE_KEY;
        } else if (*token == S) {
            at += encrypt_and_hash(noise, noise->s_public, QN_NOISE_KEY, out + at);
        } else {
            int rc = mix_token(noise, *token);
            if (rc < 0) return rc;
        }
    }
    *ret_len = at + encrypt_and_hash(noise, payload, len, out + at);
    advance(noise);
    return 0;
}

int qn_noise_read(struct qn_noise *noise, const uint8_t *message, size_t len, uint8_t *out, size_t *ret_len) {
    assert(!noise->done && noise->initiator == (noise->message % 2 == 1));
    const uint8_t *end = message + len;
    int rc = 0;
    for (const enum token *token = patterns[noise->pattern].tokens[noise->message]; *token != END; token++) {
        size_t need = *token == E   ? QN_NOISE_KEY
                      : *token == S ? QN_NOISE_KEY + (noise->cipher.has_key ? QN_NOISE_TAG : 0)
                                    : 0;
        if ((size_t)(end - message) < need) return -QN_EAUTH;
        if (*token == E) {
            memcpy(noise->re, message, QN_NOISE_KEY);
            mix_ephemeral(noise, noise->re);
        } else if (*token == S) {
            rc = decrypt_and_hash(noise, message, need, noise->rs);
        } else {
            rc = mix_token(noise, *token);
        }
        if (rc < 0) return rc;
        message += need;
    }
    size_t left = (size_t)(end - message), tag = noise->cipher.has_key ? QN_NOISE_TAG : 0;
    rc = decrypt_and_hash(noise, message, left, out);
    if (rc < 0) return rc;
    *ret_len = left - tag;
    advance(noise);
    return 0;
}

void qn_noise_split(const struct qn_noise *noise, struct qn_noise_cipher *ret_send,
                    struct qn_noise_cipher *ret_receive) {
    assert(noise->done);
    struct derived derived;
    derive(noise, NULL, 0, 2, &derived);
    set_key(ret_send, derived.key[noise->initiator ? 0 : 1]);
    set_key(ret_receive, derived.key[noise->initiator ? 1 : 0]);
    sodium_memzero(&derived, sizeof derived);
}

void qn_noise_release(struct qn_noise *noise) { sodium_memzero(noise, sizeof *noise); }
