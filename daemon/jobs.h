/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_DAEMON_JOBS_H
#define QN_DAEMON_JOBS_H

#include <stddef.h>
#include <uv.h>

#include "node/node.h"

struct daemon;

/* The node's long computations, on libuv's thread pool; of those that wait, the one of the lowest rank next. */
struct jobs {
    uv_mutex_t lock;               /* Of `waiting`, which the pool's threads take from. */
    struct qn_job *waiting, *last; /* By rank, then as they came. */
    struct job_run *first;         /* As many as jobs; each runs one, whichever is first when a thread is free. */
    size_t n_running;
};

void jobs_init(struct jobs *jobs);
void jobs_start(struct daemon *daemon, struct qn_job *job); /* Takes it; it comes back to the node as QN_EVENT_JOB. */
void jobs_cancel(struct daemon *daemon); /* Those no thread has begun are freed; the others end in their time. */
void jobs_release(struct jobs *jobs);    /* Once none is left. */

#endif
