/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_BASE_TIMER_H
#define QN_BASE_TIMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QN_NEVER UINT64_MAX

/* Timers of a state machine: a binary heap of timers that live in their owners. Equal times fire in the order they
 * were set, so that runs repeat. */
struct qn_timer {
    uint64_t due_ns;
    uint64_t order;
    size_t slot; /* Place in the heap + 1; 0 when not set. */
    void (*fire)(void *context, struct qn_timer *timer);
};

struct qn_timers {
    struct qn_timer **heap; /* Borrowed pointers. */
    size_t len, cap;
    uint64_t next_order;
};

int qn_timers_reserve(struct qn_timers *timers, size_t n); /* So many can be set without fail. -QN_ENOMEM. */
int qn_timers_set(struct qn_timers *timers, struct qn_timer *timer,
                  uint64_t due_ns); /* Moves one that is set. -QN_ENOMEM leaves it as it was. */
void qn_timers_clear(struct qn_timers *timers, struct qn_timer *timer); /* No harm if not set. */
uint64_t qn_timers_next(const struct qn_timers *timers);                /* QN_NEVER if none. */
/* Takes the first timer due at or before `now_ns` out of the heap; NULL if none. */
struct qn_timer *qn_timers_pop(struct qn_timers *timers, uint64_t now_ns);
void qn_timers_release(struct qn_timers *timers); /* Touches no timer: their owners may be gone. */

#endif
