/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <string.h>

#include "base/err.h"
#include "base/rng.h"
#include "wire/channel.h"

/* A path that loses everything from time to time: what is sent still arrives in order and once. */
Test(channel, delivers_in_order_and_once_over_a_path_that_breaks) {
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct qn_rng rng;
        qn_rng_init(&rng, seed, "channel", 0);
        struct qn_channel a = {0}, b = {0};
        struct { uint64_t seq; uint32_t value; } path[64];
        size_t n = 0;
        uint32_t sent = 0, got = 0;
        for (int step = 0; step < 4000 || got < sent; step++) {
            cr_assert_lt(step, 100000, "seed %lu: stuck", seed);
            uint64_t what = qn_rng_below(&rng, 10);
            if (what < 3 && step < 3000 && sent - got < 50) {
                cr_assert_eq(qn_channel_push(&a, (uint8_t *)&sent, sizeof sent), 0);
                sent++;
            } else if (what < 6 && n < 64) {
                const struct qn_channel_item *item = qn_channel_next(&a);
                if (item == NULL) continue;
                path[n].seq = item->seq;
                memcpy(&path[n++].value, item->bytes, 4);
            } else if (what < 8 && n > 0) {
                if (qn_channel_on_seq(&b, path[0].seq)) cr_assert_eq(path[0].value, got++, "seed %lu", seed);
                memmove(path, path + 1, --n * sizeof path[0]);
            } else if (what == 8) {
                qn_channel_on_ack(&a, b.received);
            } else if (qn_rng_below(&rng, 5) == 0) {
                n = 0;
                qn_channel_rewind(&a);
            }
        }
        qn_channel_on_ack(&a, b.received);
        cr_assert_null(a.first);
        qn_channel_release(&a);
    }
}

Test(channel, has_a_limit_and_ignores_nonsense) {
    struct qn_channel channel = {.limit_bytes = 10};
    cr_assert_eq(qn_channel_push(&channel, (const uint8_t *)"12345678", 8), 0);
    cr_assert_eq(qn_channel_push(&channel, (const uint8_t *)"123", 3), -QN_EBUSY);
    qn_channel_on_ack(&channel, 99);
    cr_assert_not_null(channel.first);
    cr_assert_not(qn_channel_on_seq(&channel, 2));
    qn_channel_on_ack(&channel, 1);
    cr_assert_eq(channel.queued_bytes, 0);
    qn_channel_release(&channel);
}
