/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_DAEMON_EVENTS_H
#define QN_DAEMON_EVENTS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* The last events of the node, for those who ask later. */

#define EVENTS_KEPT 1024
#define EVENTS_SUBSCRIBERS_MAX 32

struct events {
    struct qn_buf ring[EVENTS_KEPT]; /* Packed EventInfo; each buffer is used again. */
    uint64_t n_seen;                 /* The newest is in ring[(n_seen - 1) % EVENTS_KEPT]. */
};

int events_add(struct events *events, const uint8_t *bytes, size_t len); /* -QN_ENOMEM. */
/* The `age`-th newest (0: the newest), or NULL if there is none so old. Borrowed until the next add. */
const struct qn_buf *events_get(const struct events *events, size_t age);
void events_release(struct events *events);

#endif
