/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_WIRE_CHANNEL_H
#define QN_WIRE_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In order, exactly once, between two incarnations, over sessions that break (rule R0): the sending and the receiving
 * half of one direction pair. Payloads are opaque. It does not pack envelopes: the node writes (seq, ack) into them. */
struct qn_channel_item {
    uint64_t seq;
    uint8_t *bytes; /* QN_CHANNEL_HEADROOM bytes before them are for whoever sends the item, to put a header there. */
    size_t len;
    unsigned n_users; /* The channel, until it is acknowledged, and whoever keeps it. */
    struct qn_channel_item *next;
};
#define QN_CHANNEL_HEADROOM 64

struct qn_channel {
    uint64_t next_seq;                    /* Of the next payload sent; starts at 1 (0 counts as 1). */
    struct qn_channel_item *first, *last; /* Unacknowledged, oldest first. */
    struct qn_channel_item *unsent;       /* First not yet put on the present path; NULL if all are. */
    size_t queued_bytes, limit_bytes;     /* Limit 0: 4 MiB. */
    uint64_t sent;                        /* Highest seq ever transmitted: what an ack can speak of. */
    uint64_t received;                    /* Highest seq delivered. */
    uint64_t acknowledged;                /* Highest we have told the peer. */
};

/* Copies. -QN_EBUSY at the limit, -QN_ENOMEM. */
int qn_channel_push(struct qn_channel *channel, const uint8_t *bytes, size_t len);
/* The same with a payload of two parts, one after the other. */
int qn_channel_push_parts(struct qn_channel *channel, const uint8_t *first, size_t first_len, const uint8_t *second,
                          size_t second_len);
/* The same for a payload that is still to be written: room for `len` bytes, which then is the last of the channel. NULL
 * at the limit or without memory. */
struct qn_channel_item *qn_channel_room(const struct qn_channel *channel, size_t len);
void qn_channel_fill(struct qn_channel *channel, struct qn_channel_item *item); /* Before anything else is pushed. */
/* Next to transmit, marked as sent; NULL if none. */
struct qn_channel_item *qn_channel_next(struct qn_channel *channel);
/* Bytes of an item that is being sent stay, whatever becomes of it in the channel, until they are dropped. */
void qn_channel_keep(struct qn_channel_item *item);
void qn_channel_drop(struct qn_channel_item *item);
/* All unacknowledged become unsent: after a break or a time-out. */
void qn_channel_rewind(struct qn_channel *channel);
/* Frees what has arrived; ignores nonsense. */
void qn_channel_on_ack(struct qn_channel *channel, uint64_t ack);
/* True: deliver it. False: duplicate or gap (dropped, will be resent). */
bool qn_channel_on_seq(struct qn_channel *channel, uint64_t seq);
bool qn_channel_owes_ack(const struct qn_channel *channel);
void qn_channel_check(const struct qn_channel *channel); /* Asserts its limit and its order. */
void qn_channel_release(struct qn_channel *channel);     /* All-zero again, but the limit. */

#endif
