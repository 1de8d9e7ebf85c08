/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QKD_AUTH_H
#define QN_QKD_AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Authentication without assumptions on computing power (Wegman and Carter, JCSS 22, 265, 1981): a tag is a
 * polynomial hash of all that was sent so far in one direction, hidden by a one-time pad of fresh secret bits. The hash
 * key is secret, too, but is used again and again; only the pad is used up (Portmann, IEEE Trans. Inf. Theory 60, 4383,
 * 2014: composable, and errors add up over rounds).
 *
 * The hash is a polynomial over GF(2^128), x^128 + x^7 + x^2 + x + 1, evaluated at the hash key: the transcript's
 * 16-byte blocks, the last padded with zeros, then one block of its length in bytes and the number of messages (64 bits
 * each, little-endian); every message in the transcript is preceded by an 8-byte header, its length and kind. So
 * transcripts that differ in any way differ in a block. An opponent who sees tags but neither key nor pads makes the
 * other end accept anything else with probability at most (blocks + 1) / 2^128 per tag, or (blocks + 1) / 2^(8 t) with
 * tags cut to t bytes: qn_auth_bound.
 *
 * Keep one state for each direction and a hash key for each; never use a pad twice, not even after a failure. */
enum { QN_AUTH_KEY_BYTES = 16, QN_AUTH_TAG_BYTES = 16, QN_AUTH_MIN_TAG_BYTES = 8 };

struct qn_auth {
    uint64_t point[2], value[2]; /* Secret. */
    uint8_t block[16];           /* The block that is not full yet. */
    uint64_t bytes, messages;
};

void qn_auth_init(struct qn_auth *auth, const uint8_t key[QN_AUTH_KEY_BYTES]);
void qn_auth_release(struct qn_auth *auth); /* Wipes. */
/* Adds a message to the transcript; `kind` says what it is (its type, say). */
void qn_auth_add(struct qn_auth *auth, uint8_t kind, const void *message, size_t len);
/* The tag of the transcript so far, which goes on. `pad` is `len` secret bytes used for nothing else; 8 <= len <= 16.
 */
void qn_auth_tag(const struct qn_auth *auth, const uint8_t *pad, uint8_t *ret_tag, size_t len);
/* Whether `tag` is that tag, in constant time. The pad is used up either way. */
bool qn_auth_check(const struct qn_auth *auth, const uint8_t *pad, const uint8_t *tag, size_t len);
/* Probability of a forgery against the next tag of `len` bytes, an upper bound. */
double qn_auth_bound(const struct qn_auth *auth, size_t len);

#endif
