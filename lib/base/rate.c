/* SPDX-License-Identifier: Apache-2.0 */
/* The generic cell rate algorithm (ITU-T I.371, annex A): instead of tokens a bucket keeps the time at which it will be
 * full, which each token taken moves on by the time it takes to come back. */
#include "base/rate.h"

#include <assert.h>
#include <sodium.h>
#include <string.h>

void qn_rate_init(struct qn_rate *rate, double per_second, unsigned burst, const uint8_t key[16]) {
    assert(per_second >= 0);
    memset(rate, 0, sizeof *rate);
    memcpy(rate->key, key, sizeof rate->key);
    if (per_second > 0) rate->cost_ns = (uint64_t)(1e9 / per_second);
    rate->room_ns = rate->cost_ns * (burst > 0 ? burst : 1);
}

static struct qn_rate_slot *find(struct qn_rate *rate, uint64_t source) {
    uint8_t bytes[8];
    uint64_t hash;
    memcpy(bytes, &source, sizeof bytes);
    crypto_shorthash((uint8_t *)&hash, bytes, sizeof bytes, rate->key);
    if (hash == 0) hash = 1;
    struct qn_rate_slot *set = rate->slots[hash % QN_RATE_SETS], *slot = set;
    for (int way = 0; way < QN_RATE_WAYS; way++) {
        if (set[way].hash == hash) return &set[way];
        if (set[way].full_ns < slot->full_ns) slot = &set[way]; /* A free one is the fullest of all. */
    }
    *slot = (struct qn_rate_slot){.hash = hash};
    return slot;
}

bool qn_rate_take(struct qn_rate *rate, uint64_t source, uint64_t now_ns) {
    if (rate->cost_ns == 0) return true;
    struct qn_rate_slot *slot = find(rate, source);
    uint64_t full_ns = slot->full_ns > now_ns ? slot->full_ns : now_ns;
    if (full_ns + rate->cost_ns - now_ns > rate->room_ns) return false;
    slot->full_ns = full_ns + rate->cost_ns;
    return true;
}
