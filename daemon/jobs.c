/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: a thread of the pool takes the job of the lowest rank and runs it; then QN_EVENT_JOB on the loop's
 * thread. In the order they came, the first steps of everything under way would be done before the second step of
 * anything, and all of it would then wait for the loop at once.
 *
 * Failure modes: when the daemon stops, jobs that have not begun are cancelled and freed; one that runs is waited for
 * and freed after. */
#include "jobs.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon.h"

#define NICE 10

struct job_run { /* A turn on the thread pool. */
    uv_work_t work;
    struct daemon *daemon;
    struct qn_job *job; /* NULL before it has begun. */
    struct job_run *previous, *next;
};

void jobs_init(struct jobs *jobs) {
    if (uv_mutex_init(&jobs->lock) < 0) abort(); /* It cannot, but for a broken system. */
}

void jobs_release(struct jobs *jobs) { uv_mutex_destroy(&jobs->lock); }

static void put(struct jobs *jobs, struct qn_job *job) {
    struct qn_job **at = &jobs->waiting;
    uv_mutex_lock(&jobs->lock);
    if (jobs->last != NULL && jobs->last->rank <= job->rank)
        at = &jobs->last->next;
    else
        while (*at != NULL && (*at)->rank <= job->rank) at = &(*at)->next;
    job->next = *at;
    *at = job;
    if (job->next == NULL) jobs->last = job;
    uv_mutex_unlock(&jobs->lock);
}

static struct qn_job *take(struct jobs *jobs) {
    uv_mutex_lock(&jobs->lock);
    struct qn_job *job = jobs->waiting;
    assert(job != NULL); /* As many as turns. */
    jobs->waiting = job->next;
    if (jobs->waiting == NULL) jobs->last = NULL;
    uv_mutex_unlock(&jobs->lock);
    return job;
}

/* The loop first: what it sends keeps the other nodes busy, while a job just takes what is left of the processors. It
 * is no harm where that is refused. (The kernel's struct sched_attr, which not every C library has.) */
static void step_back(void) {
    static _Thread_local bool is_done;
    int nice = getpriority(PRIO_PROCESS, 0) + NICE;
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attributes = {.size = sizeof attributes, .nice = nice < 19 ? nice : 19};
    if (!is_done) syscall(__NR_sched_setattr, 0, &attributes, 0);
    is_done = true;
}

static void run(uv_work_t *work) {
    struct job_run *job_run = work->data;
    step_back();
    job_run->job = take(&job_run->daemon->jobs);
    job_run->job->run(job_run->job);
}

static void done(uv_work_t *work, int status) {
    struct job_run *job_run = work->data;
    struct daemon *daemon = job_run->daemon;
    struct qn_job *job = status < 0 ? take(&daemon->jobs) : job_run->job; /* Cancelled: some job is one too many. */
    if (job_run->previous != NULL) {
        job_run->previous->next = job_run->next;
    } else {
        daemon->jobs.first = job_run->next;
    }
    if (job_run->next != NULL) job_run->next->previous = job_run->previous;
    daemon->jobs.n_running--;
    free(job_run);
    if (status < 0 || daemon->state == DAEMON_CLOSING) {
        job->free(job);
    } else {
        daemon_event(daemon, &(struct qn_event){.type = QN_EVENT_JOB, .job = job});
    }
}

void jobs_start(struct daemon *daemon, struct qn_job *job) {
    struct job_run *job_run = calloc(1, sizeof *job_run);
    if (job_run == NULL) daemon_fatal(daemon, "out of memory");
    *job_run = (struct job_run){.daemon = daemon, .next = daemon->jobs.first};
    job_run->work.data = job_run;
    put(&daemon->jobs, job);
    int rc = uv_queue_work(&daemon->loop, &job_run->work, run, done);
    assert(rc == 0); /* It fails only without a function to run. */
    (void)rc;
    if (job_run->next != NULL) job_run->next->previous = job_run;
    daemon->jobs.first = job_run;
    daemon->jobs.n_running++;
}

void jobs_cancel(struct daemon *daemon) {
    for (struct job_run *job_run = daemon->jobs.first; job_run != NULL; job_run = job_run->next)
        uv_cancel((uv_req_t *)&job_run->work); /* done() runs later, with UV_ECANCELED. */
}
