/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: CLOCK_MONOTONIC counts from boot, so every process of a machine that multiplies it by the same scale
 * reads the same emulated time, whenever it was started. Processes on different machines do not agree, and need not: no
 * two nodes' clocks are ever compared.
 *
 * Failure modes: a large scale would overflow 64 bits after a long uptime. The epoch is therefore moved forward in
 * whole steps of 2^62 emulated nanoseconds (146 emulated years) before the daemon starts; it never moves while one
 * runs. A daemon that runs on for 400 emulated years has its time stand still. */
#include "clock.h"

#include <assert.h>
#include <math.h>
#include <time.h>

#define LAST_NS 0x1.fffffffffffp63L

uint64_t clock_monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void clock_init(struct qn_clock *clock, double scale) {
    assert(scale > 0 && isfinite(scale));
    *clock = (struct qn_clock){.scale = scale};
    double step = 0x1p62 / scale;
    if (step >= 0x1p63) return;
    uint64_t step_ns = step < 1 ? 1 : (uint64_t)step;
    clock->base_ns = clock_monotonic_ns() / step_ns * step_ns;
}

uint64_t clock_now_ns(const struct qn_clock *clock) {
    uint64_t elapsed_ns = clock_monotonic_ns() - clock->base_ns;
    if (clock->scale == 1.0) return elapsed_ns;
    long double emulated_ns = (long double)elapsed_ns * (long double)clock->scale;
    return emulated_ns >= LAST_NS ? (uint64_t)LAST_NS : (uint64_t)emulated_ns;
}

uint64_t clock_to_monotonic_ns(const struct qn_clock *clock, uint64_t emulated_ns) {
    if (clock->scale == 1.0)
        return emulated_ns > UINT64_MAX - clock->base_ns ? UINT64_MAX : clock->base_ns + emulated_ns;
    long double elapsed_ns = (long double)emulated_ns / (long double)clock->scale;
    if (elapsed_ns >= (long double)(UINT64_MAX - clock->base_ns - 1)) return UINT64_MAX;
    return clock->base_ns + (uint64_t)elapsed_ns + 1; /* Rounded up: waking early would mean waking twice. */
}
