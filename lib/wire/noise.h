/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_WIRE_NOISE_H
#define QN_WIRE_NOISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The Noise protocol framework (T. Perrin, revision 34, noiseprotocol.org/noise.html) with 25519 and ChaChaPoly, on
 * libsodium. Sessions use XK with SHA256; the other patterns are rows of a table, there so that public test vectors
 * reach every token. All state is wiped by qn_noise_release. */

#define QN_NOISE_TAG 16
#define QN_NOISE_KEY 32
#define QN_NOISE_HASH_MAX 64
#define QN_NOISE_OVERHEAD (2 * QN_NOISE_KEY + 2 * QN_NOISE_TAG) /* Most that a message adds to its payload. */

enum qn_noise_pattern { QN_NOISE_XK, QN_NOISE_XKPSK3, QN_NOISE_KK, QN_NOISE_IK, QN_NOISE_IKPSK2, QN_NOISE_XX };
enum qn_noise_hash { QN_NOISE_SHA256, QN_NOISE_BLAKE2B };

struct qn_noise_cipher { /* Noise's CipherState. */
    bool has_key;
    uint8_t key[QN_NOISE_KEY];
    uint64_t nonce;
};

struct qn_noise {
    enum qn_noise_pattern pattern;
    enum qn_noise_hash hash_function;
    bool initiator, done;
    unsigned message; /* Next of the pattern's. */
    uint8_t chaining_key[QN_NOISE_HASH_MAX], hash[QN_NOISE_HASH_MAX];
    struct qn_noise_cipher cipher;
    uint8_t s[QN_NOISE_KEY], s_public[QN_NOISE_KEY], e[QN_NOISE_KEY], e_public[QN_NOISE_KEY];
    uint8_t rs[QN_NOISE_KEY], re[QN_NOISE_KEY]; /* The peer's public keys, as far as known. */
    uint8_t psk[QN_NOISE_KEY];
};

struct qn_noise_config {
    enum qn_noise_pattern pattern;
    enum qn_noise_hash hash;
    bool initiator;
    const uint8_t *prologue;
    size_t prologue_len;
    uint8_t static_private[QN_NOISE_KEY], ephemeral_private[QN_NOISE_KEY];
    uint8_t remote_static[QN_NOISE_KEY]; /* If the pattern knows it before. */
    uint8_t psk[QN_NOISE_KEY];           /* If the pattern has one. */
};

void qn_noise_init(struct qn_noise *noise, const struct qn_noise_config *config);
/* Writes the next message with its payload; `out` has room for len + QN_NOISE_OVERHEAD bytes. -QN_EAUTH if a key of the
 * peer is a point of low order. */
int qn_noise_write(struct qn_noise *noise, const uint8_t *payload, size_t len, uint8_t *out, size_t *ret_len);
/* Reads the next message; `out` has room for len bytes. -QN_EAUTH if it is not what the peer must have sent; the
 * handshake is over then. */
int qn_noise_read(struct qn_noise *noise, const uint8_t *message, size_t len, uint8_t *out, size_t *ret_len);
/* Once done: what we send with, and what we receive with. */
void qn_noise_split(const struct qn_noise *noise, struct qn_noise_cipher *ret_send,
                    struct qn_noise_cipher *ret_receive);
void qn_noise_release(struct qn_noise *noise);

/* One message under a key; nonces count. In place is fine. `out` gets len + QN_NOISE_TAG bytes. */
void qn_noise_seal(struct qn_noise_cipher *cipher, const uint8_t *ad, size_t ad_len, const uint8_t *in, size_t len,
                   uint8_t *out);
/* `out` gets len - QN_NOISE_TAG bytes. -QN_EAUTH if the message was changed, or is not the next one. */
int qn_noise_open(struct qn_noise_cipher *cipher, const uint8_t *ad, size_t ad_len, const uint8_t *in, size_t len,
                  uint8_t *out);
void qn_noise_rekey(struct qn_noise_cipher *cipher); /* The nonce goes on. */

#endif
