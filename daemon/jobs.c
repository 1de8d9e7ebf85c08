/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: a thread takes the job of the lowest rank and runs it; then QN_EVENT_JOB on the loop's thread. In the
 * order they came, the first steps of everything under way would be done before the second step of anything, and all of
 * it would then wait for the loop at once.
 *
 * Not on libuv's pool: there the loop, once woken, waits in a busy loop for the thread that woke it to return from
 * doing so (uv_async_send of 1.44), which takes long where both share a processor; and a thread is called while the
 * caller holds the lock that it needs.
 *
 * Failure modes: when the daemon stops, jobs that have not begun are freed; one that runs is waited for and freed
 * after. Without a single thread the process ends, as without memory. */
#include "jobs.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon.h"

#define NICE 10

/* ---- lists; `put` by rank ---- */

static void append(struct job_list *list, struct qn_job *job) {
    job->next = NULL;
    if (list->last != NULL)
        list->last->next = job;
    else
        list->first = job;
    list->last = job;
}

static void put(struct job_list *list, struct qn_job *job) {
    struct qn_job **at = &list->first;
    if (list->last == NULL || list->last->rank <= job->rank) {
        append(list, job);
        return;
    }
    while ((*at)->rank <= job->rank) at = &(*at)->next;
    job->next = *at;
    *at = job;
}

static struct qn_job *take(struct job_list *list) {
    struct qn_job *job = list->first;
    if (job == NULL) return NULL;
    list->first = job->next;
    if (list->first == NULL) list->last = NULL;
    return job;
}

/* ---- the threads ---- */

/* The loop first: what it sends keeps the other nodes busy, while a job just takes what is left of the processors. It
 * is no harm where that is refused. (The kernel's struct sched_attr, which not every C library has.) */
static void step_back(void) {
    int nice = getpriority(PRIO_PROCESS, 0) + NICE;
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attributes = {.size = sizeof attributes, .nice = nice < 19 ? nice : 19};
    syscall(__NR_sched_setattr, 0, &attributes, 0);
}

static struct qn_job *wait_for_job(struct jobs *jobs) { /* With the lock. NULL: the end. */
    jobs->n_idle++;
    while (!jobs->ending && jobs->waiting.first == NULL) uv_cond_wait(&jobs->called, &jobs->lock);
    jobs->n_idle--;
    return jobs->ending ? NULL : take(&jobs->waiting);
}

static void work(void *context) {
    struct jobs *jobs = context;
    static const uint64_t one = 1;
    struct qn_job *job;
    step_back();
    uv_mutex_lock(&jobs->lock);
    while ((job = wait_for_job(jobs)) != NULL) {
        uv_mutex_unlock(&jobs->lock);
        job->run(job);
        uv_mutex_lock(&jobs->lock);
        bool is_first = jobs->done.first == NULL;
        append(&jobs->done, job);
        uv_mutex_unlock(&jobs->lock);
        if (is_first && write(jobs->wake_fd, &one, sizeof one) < 0) abort(); /* It cannot: the counter is small. */
        uv_mutex_lock(&jobs->lock);
    }
    uv_mutex_unlock(&jobs->lock);
}

static void begin_threads(struct daemon *daemon) { /* After the sandbox, which no thread may have preceded. */
    struct jobs *jobs = &daemon->jobs;
    while (jobs->n_threads < jobs->threads_wanted && uv_thread_create(&jobs->threads[jobs->n_threads], work, jobs) == 0)
        jobs->n_threads++;
    if (jobs->n_threads == 0) daemon_fatal(daemon, "no thread can be started");
}

/* ---- the loop's side ---- */

static void close_when_done(struct daemon *daemon) {
    uv_handle_t *wake = (uv_handle_t *)&daemon->jobs.wake;
    if (daemon->jobs.ending && daemon->jobs.n_running == 0 && !uv_is_closing(wake)) uv_close(wake, NULL);
}

static void give_back(struct daemon *daemon, struct qn_job *job) {
    daemon->jobs.n_running--;
    if (daemon->state == DAEMON_CLOSING)
        job->free(job);
    else
        daemon_event(daemon, &(struct qn_event){.type = QN_EVENT_JOB, .job = job});
}

static void on_wake(uv_poll_t *poll, int status, int events) {
    struct daemon *daemon = poll->data;
    struct jobs *jobs = &daemon->jobs;
    uint64_t n;
    (void)status;
    (void)events;
    if (read(jobs->wake_fd, &n, sizeof n) != sizeof n) return;
    uv_mutex_lock(&jobs->lock);
    struct job_list done = jobs->done;
    jobs->done = (struct job_list){0};
    uv_mutex_unlock(&jobs->lock);
    for (struct qn_job *job; (job = take(&done)) != NULL;) give_back(daemon, job);
    close_when_done(daemon);
}

int jobs_init(struct daemon *daemon) {
    struct jobs *jobs = &daemon->jobs;
    const char *text = getenv("UV_THREADPOOL_SIZE");
    long wanted = text != NULL ? strtol(text, NULL, 10) : 4;
    *jobs = (struct jobs){.threads_wanted = (unsigned)(wanted < 1                  ? 1
                                                       : wanted > JOBS_THREADS_MAX ? JOBS_THREADS_MAX
                                                                                   : wanted)};
    jobs->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (jobs->wake_fd < 0 || uv_mutex_init(&jobs->lock) < 0 || uv_cond_init(&jobs->called) < 0) return -1;
    uv_poll_init(&daemon->loop, &jobs->wake, jobs->wake_fd);
    jobs->wake.data = daemon;
    uv_poll_start(&jobs->wake, UV_READABLE, on_wake);
    return 0;
}

void jobs_start(struct daemon *daemon, struct qn_job *job) {
    struct jobs *jobs = &daemon->jobs;
    if (jobs->n_threads == 0) begin_threads(daemon);
    jobs->n_running++;
    uv_mutex_lock(&jobs->lock);
    put(&jobs->waiting, job);
    bool call = jobs->n_idle > 0;
    uv_mutex_unlock(&jobs->lock);
    if (call) uv_cond_signal(&jobs->called);
}

void jobs_close(struct daemon *daemon) {
    struct jobs *jobs = &daemon->jobs;
    uv_mutex_lock(&jobs->lock);
    struct job_list waiting = jobs->waiting;
    jobs->waiting = (struct job_list){0};
    jobs->ending = true;
    uv_mutex_unlock(&jobs->lock);
    uv_cond_broadcast(&jobs->called);
    for (struct qn_job *job; (job = take(&waiting)) != NULL; jobs->n_running--) job->free(job);
    close_when_done(daemon);
}

void jobs_release(struct jobs *jobs) {
    assert(jobs->ending && jobs->n_running == 0);
    for (unsigned i = 0; i < jobs->n_threads; i++) uv_thread_join(&jobs->threads[i]);
    uv_cond_destroy(&jobs->called);
    uv_mutex_destroy(&jobs->lock);
    close(jobs->wake_fd);
}
