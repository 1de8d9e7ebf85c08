/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_BASE_RATE_H
#define QN_BASE_RATE_H

#include <stdbool.h>
#include <stdint.h>

/* How often each of many sources may do something: a token bucket a source, in a table of fixed size. Sources are
 * numbers (addresses, say). A full bucket needs no place in the table; when all places of a source's set are taken, the
 * bucket nearest to full gives way, so whoever fills the table gains no more than the tokens that bucket lacked. */

#define QN_RATE_SETS 256
#define QN_RATE_WAYS 4

struct qn_rate {
    uint64_t cost_ns; /* Time in which one token comes back. 0: no limit. */
    uint64_t room_ns; /* Of a full bucket: its tokens times cost_ns. */
    uint8_t key[16];  /* Of the hash: nobody outside can choose sources that share a set. */
    struct qn_rate_slot {
        uint64_t hash;    /* 0: free. */
        uint64_t full_ns; /* When the bucket will be full again. */
    } slots[QN_RATE_SETS][QN_RATE_WAYS];
};

/* `per_second` 0: no limit. `burst` tokens at most, at least 1. `key`: 16 random bytes. */
void qn_rate_init(struct qn_rate *rate, double per_second, unsigned burst, const uint8_t key[16]);
/* Takes a token of the source; false if it has none. `now_ns` never decreases. */
bool qn_rate_take(struct qn_rate *rate, uint64_t source, uint64_t now_ns);

#endif
