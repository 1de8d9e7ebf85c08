/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_BASE_CSPRNG_H
#define QN_BASE_CSPRNG_H

#include <stddef.h>
#include <stdint.h>

/* Secret random numbers: ChaCha20 keystream (libsodium) under a 32-byte key the driver supplies, from the operating
 * system in the daemon and from the seed in the simulator. A different type from qn_rng, so the two cannot be mixed. */
struct qn_csprng {
    uint8_t key[32];
    uint64_t counter; /* Next unused 64-byte block. */
    uint8_t block[64];
    size_t used; /* Bytes of block given out; 64 when none is left. */
};

void qn_csprng_init(struct qn_csprng *rng, const uint8_t key[32]);
void qn_csprng_bytes(struct qn_csprng *rng, void *out, size_t len);
uint64_t qn_csprng_u64(struct qn_csprng *rng);
void qn_csprng_release(struct qn_csprng *rng); /* Wipes it. */

#endif
