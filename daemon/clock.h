/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_DAEMON_CLOCK_H
#define QN_DAEMON_CLOCK_H

#include <stdint.h>

/* Emulated time: the machine's monotonic clock times the network's time scale. All daemons of one machine share an
 * epoch. */
struct qn_clock {
    double scale;     /* Emulated seconds a wall second. */
    uint64_t base_ns; /* Monotonic time of the epoch. */
};

void clock_init(struct qn_clock *clock, double scale);
uint64_t clock_now_ns(const struct qn_clock *clock);
/* The monotonic time at which emulated time reaches `emulated_ns`; never earlier. UINT64_MAX stays UINT64_MAX. */
uint64_t clock_to_monotonic_ns(const struct qn_clock *clock, uint64_t emulated_ns);
uint64_t clock_monotonic_ns(void);

#endif
