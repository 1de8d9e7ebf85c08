/* SPDX-License-Identifier: Apache-2.0 */
#include "base/timer.h"

#include <stdlib.h>

#include "base/err.h"

static bool before(const struct qn_timer *a, const struct qn_timer *b) {
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->order < b->order;
}

static void place(struct qn_timers *timers, size_t i, struct qn_timer *timer) {
    timers->heap[i] = timer;
    timer->slot = i + 1;
}

static void sift_up(struct qn_timers *timers, size_t i) {
    struct qn_timer *timer = timers->heap[i];
    while (i > 0 && before(timer, timers->heap[(i - 1) / 2])) {
        place(timers, i, timers->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    place(timers, i, timer);
}

static void sift_down(struct qn_timers *timers, size_t i) {
    struct qn_timer *timer = timers->heap[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= timers->len) break;
        if (child + 1 < timers->len && before(timers->heap[child + 1], timers->heap[child])) child++;
        if (!before(timers->heap[child], timer)) break;
        place(timers, i, timers->heap[child]);
        i = child;
    }
    place(timers, i, timer);
}

int qn_timers_reserve(struct qn_timers *timers, size_t n) {
    if (n <= timers->cap) return 0;
    size_t cap = timers->cap == 0 ? 16 : timers->cap * 2;
    if (cap < n) cap = n;
    struct qn_timer **heap = realloc(timers->heap, cap * sizeof *heap);
    if (heap == NULL) return -QN_ENOMEM;
    timers->heap = heap;
    timers->cap = cap;
    return 0;
}

int qn_timers_set(struct qn_timers *timers, struct qn_timer *timer, uint64_t due_ns) {
    if (timer->slot == 0) {
        int rc = qn_timers_reserve(timers, timers->len + 1);
        if (rc < 0) return rc;
        place(timers, timers->len++, timer);
    }
    timer->due_ns = due_ns;
    timer->order = timers->next_order++;
    size_t i = timer->slot - 1;
    sift_up(timers, i);
    sift_down(timers, timer->slot - 1);
    return 0;
}

void qn_timers_clear(struct qn_timers *timers, struct qn_timer *timer) {
    if (timer->slot == 0) return;
    size_t i = timer->slot - 1;
    timer->slot = 0;
    struct qn_timer *last = timers->heap[--timers->len];
    if (last == timer) return;
    place(timers, i, last);
    sift_up(timers, i);
    sift_down(timers, last->slot - 1);
}

uint64_t qn_timers_next(const struct qn_timers *timers) {
    return timers->len == 0 ? QN_NEVER : timers->heap[0]->due_ns;
}

struct qn_timer *qn_timers_pop(struct qn_timers *timers, uint64_t now_ns) {
    if (timers->len == 0 || timers->heap[0]->due_ns > now_ns) return NULL;
    struct qn_timer *timer = timers->heap[0];
    qn_timers_clear(timers, timer);
    return timer;
}

void qn_timers_release(struct qn_timers *timers) {
    free(timers->heap);
    *timers = (struct qn_timers){0};
}
