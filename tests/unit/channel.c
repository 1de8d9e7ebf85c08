/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <string.h>

#include "base/err.h"
#include "base/rng.h"
#include "wire/channel.h"

#define PATH_MAX_LEN 64

/* A path that loses everything on it from time to time, single messages now and then, and repeats some;
 * acknowledgements arrive late, in any order, or never. What is sent still arrives in order and once. */
struct path {
    struct message {
        uint64_t seq;
        uint32_t value;
    } messages[PATH_MAX_LEN];
    size_t n;
    uint64_t acks[8]; /* The last few, any of which may arrive now. */
};

static void put(struct path *path, const struct qn_channel_item *item) {
    struct message *message = &path->messages[path->n++];
    message->seq = item->seq;
    memcpy(&message->value, item->bytes, sizeof message->value);
}

static void take(struct path *path) {
    memmove(path->messages, path->messages + 1, --path->n * sizeof path->messages[0]);
}

Test(channel, delivers_in_order_and_once_over_a_path_that_breaks) {
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct qn_rng rng;
        qn_rng_init(&rng, seed, "channel", 0);
        struct qn_channel a = {0}, b = {0};
        struct path path = {0};
        uint32_t sent = 0, got = 0;
        for (int step = 0; step < 3000 || got < sent; step++) {
            cr_assert_lt(step, 100000, "seed %lu: stuck", seed);
            uint64_t what = qn_rng_below(&rng, 100);
            if (what < 30 && step < 2500 && sent - got < 50) {
                cr_assert_eq(qn_channel_push(&a, (uint8_t *)&sent, sizeof sent), 0);
                sent++;
            } else if (what < 60 && path.n + 1 < PATH_MAX_LEN) {
                const struct qn_channel_item *item = qn_channel_next(&a);
                if (item == NULL) continue;
                put(&path, item);
                if (qn_rng_below(&rng, 10) == 0) put(&path, item);
            } else if (what < 85 && path.n > 0) {
                if (qn_rng_below(&rng, 20) != 0 && qn_channel_on_seq(&b, path.messages[0].seq))
                    cr_assert_eq(path.messages[0].value, got++, "seed %lu", seed);
                take(&path);
                path.acks[step % 8] = b.received;
            } else if (what < 95) {
                qn_channel_on_ack(&a, path.acks[qn_rng_below(&rng, 8)]);
                cr_assert(a.first == NULL || a.first->seq <= b.received + 1, "seed %lu: freed before it arrived", seed);
            } else if (qn_rng_below(&rng, 3) == 0) {
                path.n = 0;
                qn_channel_rewind(&a);
            }
        }
        qn_channel_on_ack(&a, b.received);
        cr_assert_null(a.first);
        cr_assert_eq(a.queued_bytes, 0);
        cr_assert_eq(b.received, sent);
        qn_channel_release(&a);
        qn_channel_release(&b);
    }
}

Test(channel, numbers_from_one_and_resends_what_is_unacknowledged) {
    struct qn_channel channel = {0};
    for (uint8_t i = 1; i <= 3; i++) cr_assert_eq(qn_channel_push(&channel, &i, 1), 0);
    for (uint64_t seq = 1; seq <= 3; seq++) cr_assert_eq(qn_channel_next(&channel)->seq, seq);
    cr_assert_null(qn_channel_next(&channel));
    qn_channel_on_ack(&channel, 1);
    qn_channel_rewind(&channel);
    cr_assert_eq(qn_channel_next(&channel)->seq, 2);
    qn_channel_on_ack(&channel, 3); /* Late, from the path that broke; 3 is not sent again. */
    cr_assert_null(qn_channel_next(&channel));
    uint8_t four = 4;
    cr_assert_eq(qn_channel_push(&channel, &four, 1), 0);
    cr_assert_eq(qn_channel_next(&channel)->seq, 4);
    qn_channel_release(&channel);
}

Test(channel, has_a_limit_and_ignores_nonsense) {
    struct qn_channel channel = {.limit_bytes = 10};
    qn_channel_on_ack(&channel, 0);
    qn_channel_on_ack(&channel, 1);
    cr_assert_eq(qn_channel_push(&channel, (const uint8_t *)"12345678", 8), 0);
    cr_assert_eq(qn_channel_push(&channel, (const uint8_t *)"123", 3), -QN_EBUSY);
    cr_assert_eq(qn_channel_push(&channel, NULL, 0), 0);
    qn_channel_on_ack(&channel, 1);
    cr_assert_not_null(channel.first, "what was never on its way cannot have arrived");
    qn_channel_next(&channel);
    qn_channel_on_ack(&channel, 2);
    qn_channel_on_ack(&channel, UINT64_MAX);
    cr_assert_not_null(channel.first);
    qn_channel_on_ack(&channel, 1);
    cr_assert_eq(channel.queued_bytes, 0);
    qn_channel_release(&channel);
    cr_assert_eq(channel.limit_bytes, 10);
    cr_assert_eq(channel.next_seq, 0);
}

Test(channel, owes_an_ack_for_what_it_took) {
    struct qn_channel channel = {0};
    cr_assert_not(qn_channel_on_seq(&channel, 0));
    cr_assert_not(qn_channel_on_seq(&channel, 2));
    cr_assert_not(qn_channel_owes_ack(&channel));
    cr_assert(qn_channel_on_seq(&channel, 1));
    cr_assert(qn_channel_owes_ack(&channel));
    channel.acknowledged = 1;
    cr_assert_not(qn_channel_on_seq(&channel, 1));
    cr_assert_not(qn_channel_owes_ack(&channel));
    cr_assert(qn_channel_on_seq(&channel, 2));
    cr_assert_eq(channel.received, 2);
}

Test(channel, payloads_come_in_parts_or_are_written_in_place) {
    struct qn_channel channel = {.limit_bytes = 16};
    cr_assert_eq(qn_channel_push_parts(&channel, (const uint8_t *)"ab", 2, (const uint8_t *)"cde", 3), 0);
    cr_assert_eq(qn_channel_push_parts(&channel, (const uint8_t *)"0123456789", 10, (const uint8_t *)"x", 2),
                 -QN_EBUSY);
    cr_assert_null(qn_channel_room(&channel, 12));
    struct qn_channel_item *item = qn_channel_room(&channel, 11);
    cr_assert_not_null(item);
    cr_assert_eq(channel.queued_bytes, 5, "it is in no queue yet");
    memcpy(item->bytes, "in its place", 11);
    qn_channel_fill(&channel, item);
    qn_channel_check(&channel);
    struct qn_channel_item *first = qn_channel_next(&channel), *second = qn_channel_next(&channel);
    cr_assert(first->seq == 1 && first->len == 5 && memcmp(first->bytes, "abcde", 5) == 0);
    cr_assert(second == item && second->seq == 2 && memcmp(second->bytes, "in its plac", 11) == 0);
    qn_channel_release(&channel);
}

/* The sanitizer would see a byte that is gone. */
Test(channel, what_is_kept_outlives_its_place_in_the_channel) {
    struct qn_channel channel = {0};
    cr_assert_eq(qn_channel_push(&channel, (const uint8_t *)"kept", 4), 0);
    struct qn_channel_item *item = qn_channel_next(&channel);
    memset(item->bytes - QN_CHANNEL_HEADROOM, 7, QN_CHANNEL_HEADROOM); /* Whoever sends it may. */
    qn_channel_keep(item);
    qn_channel_on_ack(&channel, 1);
    cr_assert_null(channel.first);
    cr_assert_eq(channel.queued_bytes, 0);
    qn_channel_release(&channel);
    cr_assert(item->n_users == 1 && memcmp(item->bytes, "kept", 4) == 0 && item->bytes[-1] == 7);
    qn_channel_drop(item);
}
