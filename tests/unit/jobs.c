/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs on the thread pool: the lowest rank first, in the order they came within one, none twice, none lost at the end.
 * There is one thread, so that the order can be told; the node is a stand-in. */
#include "jobs.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "daemon.h"

#define N 40

static struct daemon daemon_;
static struct job {
    struct qn_job base;
    int priority; /* As it ran. */
    int ran, came_back, freed;
} jobs[N];
static uint64_t order[N];
static size_t n_ran, n_back;
static uv_sem_t gate; /* The first job waits for it, so that the others wait for a thread. */

void daemon_fatal(struct daemon *daemon, const char *why) {
    (void)daemon;
    cr_assert_fail("%s", why);
    abort();
}

int daemon_event(struct daemon *daemon, const struct qn_event *event) {
    (void)daemon;
    cr_assert_eq(event->type, QN_EVENT_JOB);
    ((struct job *)event->job)->came_back++;
    n_back++;
    return 0;
}

static void run(struct qn_job *base) {
    struct job *job = (struct job *)base;
    if (n_ran == 0) uv_sem_wait(&gate);
    job->priority = getpriority(PRIO_PROCESS, 0);
    job->ran++;
    order[n_ran++] = base->id;
}

static void free_job(struct qn_job *base) { ((struct job *)base)->freed++; }

static void begin(const uint64_t *ranks) {
    setenv("UV_THREADPOOL_SIZE", "1", 1);
    uv_loop_init(&daemon_.loop);
    uv_sem_init(&gate, 0);
    cr_assert_eq(jobs_init(&daemon_), 0);
    for (size_t i = 0; i < N; i++) {
        jobs[i] = (struct job){.base = {.run = run, .free = free_job, .id = i, .rank = ranks[i]}};
        jobs_start(&daemon_, &jobs[i].base);
        if (i > 0) continue;
        for (bool is_taken = false; !is_taken;) { /* By the one thread. */
            uv_mutex_lock(&daemon_.jobs.lock);
            is_taken = daemon_.jobs.waiting.first == NULL;
            uv_mutex_unlock(&daemon_.jobs.lock);
        }
    }
    cr_assert_eq(daemon_.jobs.n_running, N);
}

static bool are_back(void) { return n_back == N; }

static void end(bool wait) {
    while (wait && !are_back()) uv_run(&daemon_.loop, UV_RUN_ONCE);
    daemon_.state = DAEMON_CLOSING;
    jobs_close(&daemon_);
    if (!wait) uv_sem_post(&gate);
    uv_run(&daemon_.loop, UV_RUN_DEFAULT);
    cr_assert_eq(daemon_.jobs.n_running, 0);
    jobs_release(&daemon_.jobs);
    cr_assert_eq(uv_loop_close(&daemon_.loop), 0);
    uv_sem_destroy(&gate);
}

Test(jobs, lowest_rank_goes_next) {
    uint64_t ranks[N];
    for (size_t i = 0; i < N; i++) ranks[i] = i == 0 ? 99 : i * 7 % 10; /* Each four times. */
    int priority = getpriority(PRIO_PROCESS, 0);
    begin(ranks);
    uv_sem_post(&gate);
    end(true);
    cr_assert_eq(n_ran, N);
    cr_assert_eq(n_back, N);
    cr_assert_eq(order[0], 0, "the only one there was");
    for (size_t i = 2; i < N; i++) {
        uint64_t before = order[i - 1], after = order[i];
        cr_assert(ranks[before] < ranks[after] || (ranks[before] == ranks[after] && before < after),
                  "%zu: %zu (rank %zu) ran before %zu (rank %zu)", i, (size_t)before, (size_t)ranks[before],
                  (size_t)after, (size_t)ranks[after]);
    }
    for (size_t i = 0; i < N; i++) {
        cr_assert(jobs[i].ran == 1 && jobs[i].came_back == 1 && jobs[i].freed == 0);
        cr_assert_geq(jobs[i].priority, priority + 10 < 19 ? priority + 10 : 19, "it yields to the loop");
    }
    cr_assert_eq(getpriority(PRIO_PROCESS, 0), priority, "which does not step back itself");
}

Test(jobs, what_has_not_begun_is_freed_at_the_end) {
    uint64_t ranks[N];
    for (size_t i = 0; i < N; i++) ranks[i] = N - i;
    begin(ranks);
    end(false);
    cr_assert_eq(n_ran, 1);
    cr_assert_eq(n_back, 0);
    for (size_t i = 0; i < N; i++) cr_assert(jobs[i].freed == 1 && jobs[i].ran == (i == 0));
}
