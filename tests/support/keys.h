/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_TEST_KEYS_H
#define QN_TEST_KEYS_H

#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"
#include "qkd/bits.h"

/* Keys for tests of reconciliation, and how its ends talk. Everything asserts. */

struct qn_bits random_key(struct qn_rng *rng, size_t len);

/* Two keys that differ at random places. */
struct key_pair {
    struct qn_bits source, detector;
    size_t errors; /* Places that differ. */
};
void key_pair_make(struct key_pair *pair, const char *purpose, size_t len, double qber, uint64_t seed);
void key_pair_release(struct key_pair *pair);

/* The calls of one method, and its two ends. */
struct reconciling {
    int (*ask)(void *corrector, struct qn_buf *question, uint32_t *ret_count);
    int (*answer)(void *source, const uint8_t *question, size_t len, uint32_t count, struct qn_buf *answer);
    int (*tell)(void *corrector, const uint8_t *answer, size_t len, uint32_t count);
    size_t most_bytes; /* Of a message. */
    void *corrector, *source;
};
/* Everything that can be asked is asked, then everything is answered. */
void play_round(const struct reconciling *ends);

#endif
