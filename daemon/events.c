/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: a ring of packed events, the oldest overwritten by the newest.
 *
 * Failure modes: without memory for an event the slot stays empty and readers get an event of no bytes, which is the
 * all-default event; the caller decides whether that matters. */
#include "events.h"

int events_add(struct events *events, const uint8_t *bytes, size_t len) {
    struct qn_buf *slot = &events->ring[events->n_seen++ % EVENTS_KEPT];
    slot->len = 0;
    return qn_buf_append(slot, bytes, len);
}

const struct qn_buf *events_get(const struct events *events, size_t age) {
    if (age >= EVENTS_KEPT || age >= events->n_seen) return NULL;
    return &events->ring[(events->n_seen - 1 - age) % EVENTS_KEPT];
}

void events_release(struct events *events) {
    for (size_t i = 0; i < EVENTS_KEPT; i++) qn_buf_release(&events->ring[i]);
    events->n_seen = 0;
}
