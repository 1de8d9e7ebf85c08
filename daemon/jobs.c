/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: run() on a thread of the pool, then QN_EVENT_JOB on the loop's thread.
 *
 * Failure modes: when the daemon stops, jobs that have not begun are cancelled and freed; one that runs is waited for
 * and freed after. */
#include "jobs.h"

#include <assert.h>
#include <stdlib.h>
#include <uv.h>

#include "daemon.h"

struct job_run {
    uv_work_t work;
    struct daemon *daemon;
    struct qn_job *job;
    struct job_run *previous, *next;
};

static void run(uv_work_t *work) {
    struct job_run *job_run = work->data;
    job_run->job->run(job_run->job);
}

static void done(uv_work_t *work, int status) {
    struct job_run *job_run = work->data;
    struct daemon *daemon = job_run->daemon;
    struct qn_job *job = job_run->job;
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
    *job_run = (struct job_run){.daemon = daemon, .job = job, .next = daemon->jobs.first};
    job_run->work.data = job_run;
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
