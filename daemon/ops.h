/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_DAEMON_OPS_H
#define QN_DAEMON_OPS_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "acceptor.h"
#include "base/buf.h"

struct daemon;
struct ops_client;

#define OPS_CLIENTS_MAX 64
#define OPS_IDLE_MS 10000 /* For a request to arrive, and between two. */

/* The operations port, plain HTTP for probes and scrapers: /livez /readyz /healthz /metrics /version. Read only. */
struct ops {
    struct daemon *daemon;
    struct acceptor acceptor;
    struct ops_client *clients; /* Newest first. */
    unsigned n_clients;
    uint64_t n_requests, n_refused; /* n_refused: clients that made way for newer ones. */
};

int ops_init(struct daemon *daemon); /* No port in the topology: nothing to do. -QN_ESYSTEM and a line in the log. */
void ops_close(struct daemon *daemon);

/* Everything the process and its node count, in Prometheus's text format (metrics.c). */
int metrics_write(const struct daemon *daemon, struct qn_buf *out);

#endif
