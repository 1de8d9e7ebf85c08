/* SPDX-License-Identifier: Apache-2.0 */
#include "base/csprng.h"

#include <sodium.h>
#include <string.h>

void qn_csprng_init(struct qn_csprng *rng, const uint8_t key[32]) {
    *rng = (struct qn_csprng){.used = sizeof rng->block};
    memcpy(rng->key, key, sizeof rng->key);
}

static void next_block(struct qn_csprng *rng) {
    static const uint8_t nonce[crypto_stream_chacha20_NONCEBYTES];
    memset(rng->block, 0, sizeof rng->block);
    crypto_stream_chacha20_xor_ic(rng->block, rng->block, sizeof rng->block, nonce, rng->counter++, rng->key);
    rng->used = 0;
}

void qn_csprng_bytes(struct qn_csprng *rng, void *out, size_t len) {
    uint8_t *to = out;
    while (len > 0) {
        if (rng->used == sizeof rng->block) next_block(rng);
        size_t take = sizeof rng->block - rng->used;
        if (take > len) take = len;
        memcpy(to, rng->block + rng->used, take);
        sodium_memzero(rng->block + rng->used, take); /* What was given out is not kept. */
        rng->used += take;
        to += take;
        len -= take;
    }
}

uint64_t qn_csprng_u64(struct qn_csprng *rng) {
    uint8_t bytes[8];
    qn_csprng_bytes(rng, bytes, sizeof bytes);
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--) value = value << 8 | bytes[i];
    return value;
}

void qn_csprng_release(struct qn_csprng *rng) {
    sodium_memzero(rng, sizeof *rng);
    rng->used = sizeof rng->block;
}
