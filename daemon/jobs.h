/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_DAEMON_JOBS_H
#define QN_DAEMON_JOBS_H

#include <stddef.h>

#include "node/node.h"

struct daemon;

/* The node's long computations, on libuv's thread pool. */
struct jobs {
    struct job_run *first; /* Under way or waiting for a thread. */
    size_t n_running;
};

void jobs_start(struct daemon *daemon, struct qn_job *job); /* Takes it; it comes back to the node as QN_EVENT_JOB. */
void jobs_cancel(struct daemon *daemon); /* Those no thread has begun are freed; the others end in their time. */

#endif
