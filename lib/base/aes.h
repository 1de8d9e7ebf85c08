/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_BASE_AES_H
#define QN_BASE_AES_H

#include <stddef.h>
#include <stdint.h>

/* AES-128 (FIPS 197) as a random function of a counter: the source of choices that must not be guessable and are looked
 * up at random places, a block a place. Encryption only. With VAES or AES-NI where the processor has them, chosen at
 * run time; the portable code is bit for bit the same, some thirty times slower, and looks its tables up by key and
 * counter: not for keys that someone on the same machine must not learn. */
struct qn_aes {
    uint8_t round_key[11][16];
    const struct qn_aes_set *set; /* What this machine does fastest. */
};

void qn_aes_init(struct qn_aes *aes, const uint8_t key[16]);
void qn_aes_release(struct qn_aes *aes); /* Wipes. */

/* out[i] = a 32-bit word of the encryption of the block (index / 4, nonce), both 64-bit little-endian: word index % 4,
 * little-endian, where index = first + offset[i] < 2^64. */
void qn_aes_words(const struct qn_aes *aes, uint64_t nonce, uint64_t first, const uint32_t *offset, size_t n,
                  uint32_t *out);

/* The instruction sets this machine can run; the portable one first. NULL past the end. */
struct qn_aes_set {
    const char *name;
    void (*words)(const struct qn_aes *aes, uint64_t nonce, uint64_t first, const uint32_t *offset, size_t n,
                  uint32_t *out);
};
const struct qn_aes_set *qn_aes_set_at(size_t i);

#endif
