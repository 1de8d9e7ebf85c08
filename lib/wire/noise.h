/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_WIRE_NOISE_H
#define QN_WIRE_NOISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The Noise protocol framework (revision 34), as far as we need it: 25519, ChaChaPoly, SHA256; patterns XK and XKpsk3.
 * On libsodium. All state is wiped by qn_noise_release. */

#define QN_NOISE_TAG 16
#define QN_NOISE_KEY 32

struct qn_noise_cipher { /* Noise's CipherState. */
    bool has_key;
    uint8_t key[QN_NOISE_KEY];
    uint64_t nonce;
};

struct qn_noise {
    bool initiator, done, psk_used;
    unsigned message; /* Next of the pattern's three. */
    uint8_t chaining_key[32], hash[32];
    struct qn_noise_cipher cipher;
    uint8_t s[32], s_public[32], e[32], e_public[32], rs[32], re[32], psk[32];
};

struct qn_noise_config {
    bool initiator;
    const uint8_t *prologue;
    size_t prologue_len;
    uint8_t static_private[32], ephemeral_private[32];
    uint8_t remote_static[32]; /* Initiator only: XK knows it before. */
    bool has_psk;
    uint8_t psk[32];
};

void qn_noise_init(struct qn_noise *noise, const struct qn_noise_config *config);
/* Writes the next message: payload encrypted as the pattern says. `out` has room for len + 96 bytes. 0 or -QN_EAUTH. */
int qn_noise_write(struct qn_noise *noise, const uint8_t *payload, size_t len, uint8_t *out, size_t *ret_len);
/* Reads the next message; `out` has room for len bytes. -QN_EAUTH if it is not what the peer must have sent. */
int qn_noise_read(struct qn_noise *noise, const uint8_t *message, size_t len, uint8_t *out, size_t *ret_len);
/* After the third message: what we send with, what we receive with. */
void qn_noise_split(const struct qn_noise *noise, struct qn_noise_cipher *ret_send, struct qn_noise_cipher *ret_receive);
void qn_noise_release(struct qn_noise *noise);

/* One message under a key; nonces count. In place is fine. -QN_EAUTH if it was tampered with. */
void qn_noise_seal(struct qn_noise_cipher *cipher, const uint8_t *ad, size_t ad_len, const uint8_t *in, size_t len, uint8_t *out); /* len + 16 */
int qn_noise_open(struct qn_noise_cipher *cipher, const uint8_t *ad, size_t ad_len, const uint8_t *in, size_t len, uint8_t *out); /* len - 16 */
void qn_noise_rekey(struct qn_noise_cipher *cipher);

#endif
