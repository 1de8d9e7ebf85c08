/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_DAEMON_JOBS_H
#define QN_DAEMON_JOBS_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "node/node.h"

#define JOBS_THREADS_MAX 64

struct daemon;
struct job_list {
    struct qn_job *first, *last;
};

/* The node's long computations, on threads of their own; of those that wait, the one of the lowest rank next. */
struct jobs {
    uv_mutex_t lock; /* Of the next four. */
    uv_cond_t called;
    struct job_list waiting, done; /* By rank, then as they came; as they were finished. */
    bool ending;
    unsigned n_idle;
    uv_thread_t threads[JOBS_THREADS_MAX];
    unsigned n_threads, threads_wanted; /* Begun with the first job. */
    uv_poll_t wake;                     /* Of wake_fd: something is done. */
    int wake_fd;
    size_t n_running; /* Not yet given back. */
};

int jobs_init(struct daemon *daemon);                       /* -1: no descriptor. */
void jobs_start(struct daemon *daemon, struct qn_job *job); /* Takes it; it comes back to the node as QN_EVENT_JOB. */
void jobs_close(struct daemon *daemon); /* Those no thread has begun are freed, the others when they are done. */
void jobs_release(struct jobs *jobs);   /* Once the loop is closed. */

#endif
