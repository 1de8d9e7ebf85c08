/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_NODE_STORE_H
#define QN_NODE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a node keeps beyond its process: secret keys, and pads for authentication. The node says what is to change; the
 * driver makes it durable, in order, and says when. A change that cannot be made (the disk is full) is tried again by
 * the driver until it can, and the node meanwhile acknowledges nothing that rests on it. */

enum { QN_STORE_ID_BYTES = 16, QN_STORE_CHECK_BYTES = 8, QN_STORE_KEY_MAX = 1 << 18 /* Bytes of one record's key. */ };

enum qn_store_purpose { QN_STORE_KEY = 1, QN_STORE_PAD = 2 };
enum qn_store_state {
    QN_STORE_HELD = 1,
    QN_STORE_TAKEN = 2 /* Handed out or used up: the record remembers it, the key is erased. */
};

struct qn_store_record {
    uint8_t id[QN_STORE_ID_BYTES];
    uint8_t check[QN_STORE_CHECK_BYTES];
    uint16_t peer; /* Drivers keep its name: numbers change with the topology. */
    enum qn_store_purpose purpose;
    enum qn_store_state state;
    uint64_t used;   /* Pads: bytes of this end's share that may have been used. */
    uint64_t age_ns; /* Since it was made, emulated; filled in by the driver when it restores. */
    double qber;
    size_t len;              /* Of the key in bytes, also when it is erased. */
    const uint8_t *material; /* len bytes; restored records: pads only, else NULL. */
};

enum qn_store_kind {
    QN_STORE_PUT,  /* A new record. Its id is not in the store, unless from an attempt that was not confirmed. */
    QN_STORE_TAKE, /* HELD to TAKEN in one step with erasing the material, which comes back with the event. */
    QN_STORE_USE,  /* Pads: `used` of the record becomes this op's. */
    QN_STORE_ERASE /* The record goes. What is not there is erased already. */
};

/* Owned by whoever has it; qn_store_op_free wipes. */
struct qn_store_op {
    enum qn_store_kind kind;
    uint64_t number;               /* Counts from 1 in each process; QN_EVENT_STORED names it. */
    struct qn_store_record record; /* All of it for PUT; else id, and `used` for USE. `material` points behind it. */
    uint8_t bytes[];
};

/* material: record->len bytes for PUT, copied; else NULL. NULL if out of memory. */
struct qn_store_op *qn_store_op_new(enum qn_store_kind kind, const struct qn_store_record *record,
                                    const uint8_t *material);
void qn_store_op_free(struct qn_store_op *op); /* NULL is fine. */

#endif
