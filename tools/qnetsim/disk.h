/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QNETSIM_DISK_H
#define QN_QNETSIM_DISK_H

#include <stdbool.h>

#include "base/buf.h"
#include "node/store.h"

/* A simulated node's key store: what survives its crashes. */

struct disk {
    struct disk_record {
        struct qn_store_record record;
        uint64_t made_ns;
        uint8_t *material; /* Owned; NULL once erased. */
    } * records;           /* In the order made. */
    size_t len, cap;
    struct qn_store_op **waiting; /* Not yet durable, in order. */
    size_t n_waiting, cap_waiting;
    bool full; /* Nothing can be written. */
};

void disk_push(struct disk *disk, struct qn_store_op *op); /* Takes it. Ends the process without memory. */
/* Makes the oldest change durable and returns it, to be freed; a TAKE's material is appended to `taken`. */
struct qn_store_op *disk_commit(struct disk *disk, uint64_t now_ns, struct qn_buf *taken);
void disk_forget_waiting(struct disk *disk); /* A crash. */
/* For qn_node_config.restored: an array to be freed, whose materials are borrowed. */
struct qn_store_record *disk_restore(const struct disk *disk, uint64_t now_ns);
void disk_release(struct disk *disk);

#endif
