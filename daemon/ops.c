/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: a probe connects, asks, is answered at the end of the turn, and asks again over the same connection or
 * hangs up.
 *
 * Failure modes: a request that is not ours to serve gets its 4xx or 5xx and the connection is closed; one that does
 * not arrive within OPS_IDLE_MS loses its connection, and so does a client that does not take its response in that
 * time; when there are OPS_CLIENTS_MAX of them, the oldest makes way, so that whoever keeps connections open keeps no
 * probe out. A probe can read nothing secret and change nothing. */
#include "ops.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "build.h"
#include "daemon.h"
#include "http/http.h"

#define OPS_QUEUE_MAX (1024 * 1024) /* A client that asks and does not read. */

struct ops_client {
    uv_tcp_t tcp;
    uv_timer_t timer;
    unsigned n_open; /* Handles whose close callback has not run yet. */
    struct ops *ops;
    struct outlet outlet;
    struct qn_buf input;
    bool closing, ending; /* Ending: close when all is written. */
    struct ops_client *previous, *next;
};

static void handle_closed(uv_handle_t *handle) {
    struct ops_client *client = handle->data;
    if (--client->n_open > 0) return;
    outlet_release(&client->outlet);
    qn_buf_release(&client->input);
    free(client);
}

static void client_close(struct ops_client *client) {
    if (client->closing) return;
    client->closing = true;
    outlet_cancel(&client->outlet);
    if (client->previous != NULL)
        client->previous->next = client->next;
    else
        client->ops->clients = client->next;
    if (client->next != NULL) client->next->previous = client->previous;
    client->ops->n_clients--;
    uv_close((uv_handle_t *)&client->timer, handle_closed);
    uv_close((uv_handle_t *)&client->tcp, handle_closed);
}

static void on_timer(uv_timer_t *timer) { client_close(timer->data); }

static void on_written(struct outlet *outlet, int status) {
    struct ops_client *client = outlet->stream->data;
    if (status < 0 || client->ending) client_close(client);
}

static int respond_text(struct ops_client *client, const struct qn_http_request *request, int status,
                        const char *text) {
    return qn_http_respond(client->outlet.collect, request, status, "text/plain; charset=utf-8", text, strlen(text));
}

static int respond_ready(struct ops_client *client, const struct qn_http_request *request) {
    const struct daemon *daemon = client->ops->daemon;
    const char *why = "the node is stopping";
    struct qn_buf body = {0};
    bool is_ready = daemon->state == DAEMON_RUNNING && qn_node_is_ready(daemon->node, &why);
    if (is_ready) return respond_text(client, request, 200, "ready\n");
    int rc = qn_buf_printf(&body, "not ready: %s\n", why != NULL ? why : "starting");
    if (rc == 0)
        rc = qn_http_respond(client->outlet.collect, request, 503, "text/plain; charset=utf-8", body.data, body.len);
    qn_buf_release(&body);
    return rc;
}

static int respond_metrics(struct ops_client *client, const struct qn_http_request *request) {
    struct qn_buf body = {0};
    int rc = metrics_write(client->ops->daemon, &body);
    if (rc == 0)
        rc = qn_http_respond(client->outlet.collect, request, 200, "text/plain; version=0.0.4; charset=utf-8",
                             body.data, body.len);
    qn_buf_release(&body);
    return rc;
}

static int respond_version(struct ops_client *client, const struct qn_http_request *request) {
    static const char version[] = "{\"software\":\"" DAEMON_SOFTWARE "\",\"build\":\"" QN_BUILD "\"}\n";
    return qn_http_respond(client->outlet.collect, request, 200, "application/json", version, sizeof version - 1);
}

static int respond(struct ops_client *client, const struct qn_http_request *request) {
    if (request->status != 0)
        return respond_text(client, request, request->status, "this port serves GET and HEAD only\n");
    if (strcmp(request->path, "/livez") == 0) return respond_text(client, request, 200, "alive\n");
    if (strcmp(request->path, "/readyz") == 0 || strcmp(request->path, "/healthz") == 0)
        return respond_ready(client, request);
    if (strcmp(request->path, "/metrics") == 0) return respond_metrics(client, request);
    if (strcmp(request->path, "/version") == 0) return respond_version(client, request);
    return respond_text(client, request, 404, "try /livez /readyz /metrics /version\n");
}

static void take_requests(struct ops_client *client) {
    struct qn_http_request request;
    size_t taken;
    while (!client->ending && (taken = qn_http_parse(client->input.data, client->input.len, &request)) > 0) {
        client->ops->n_requests++;
        qn_buf_consume(&client->input, taken);
        if (respond(client, &request) < 0 || outlet_queued(&client->outlet) > OPS_QUEUE_MAX) {
            client_close(client);
            return;
        }
        uv_timer_start(&client->timer, on_timer, OPS_IDLE_MS, 0);
        if (!request.keep_alive) client->ending = true;
    }
    if (outlet_queued(&client->outlet) > 0) outlet_mark(&client->outlet);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf) {
    (void)suggested;
    struct ops_client *client = handle->data;
    turn_alloc(client->outlet.turn, ret_buf);
}

static void on_read(uv_stream_t *stream, ssize_t n_read, const uv_buf_t *buf) {
    struct ops_client *client = stream->data;
    if (n_read == 0 || client->closing) return;
    if (n_read > 0 && !client->ending && qn_buf_append(&client->input, buf->base, (size_t)n_read) == 0) {
        take_requests(client);
    } else {
        client_close(client);
    }
}

static void close_oldest(struct ops *ops) {
    struct ops_client *oldest = ops->clients;
    while (oldest->next != NULL) oldest = oldest->next;
    ops->n_refused++;
    client_close(oldest);
}

static void on_accept(struct acceptor *acceptor, int fd, const struct sockaddr *from) {
    struct ops *ops = acceptor->owner;
    uv_loop_t *loop = &ops->daemon->loop;
    (void)from;
    struct ops_client *client = calloc(1, sizeof *client);
    if (client == NULL) daemon_fatal(ops->daemon, "out of memory");
    client->ops = ops;
    client->n_open = 2;
    uv_tcp_init(loop, &client->tcp);
    uv_timer_init(loop, &client->timer);
    client->tcp.data = client->timer.data = client;
    outlet_init(&client->outlet, &ops->daemon->turn, (uv_stream_t *)&client->tcp, NULL);
    client->outlet.on_written = on_written;
    client->next = ops->clients;
    if (client->next != NULL) client->next->previous = client;
    ops->clients = client;
    ops->n_clients++;
    if (uv_tcp_open(&client->tcp, fd) < 0) {
        close(fd);
        client_close(client);
        return;
    }
    if (ops->n_clients > ops->daemon->descriptors.operations) close_oldest(ops);
    uv_timer_start(&client->timer, on_timer, OPS_IDLE_MS, 0);
    uv_read_start((uv_stream_t *)&client->tcp, on_alloc, on_read);
}

int ops_init(struct daemon *daemon) {
    struct ops *ops = &daemon->ops;
    const struct qn_address *at = &daemon->config->topology.nodes[daemon->config->self].operations;
    const char *host = daemon->config->options.bind_host != NULL ? daemon->config->options.bind_host : at->host;
    ops->daemon = daemon;
    ops->acceptor.on_accept = on_accept;
    ops->acceptor.owner = ops;
    if (at->port == 0) return 0;
    struct sockaddr_storage address = {0};
    int rc = listener_resolve(&daemon->loop, host, at->port, &address);
    if (rc == 0)
        rc = acceptor_open(&ops->acceptor, &daemon->loop, (struct sockaddr *)&address, listener_address_len(&address),
                           OPS_CLIENTS_MAX);
    if (rc == 0) return 0;
    log_write(&daemon->log, LOG_ERROR, "listen_failed", NULL, "cannot listen on %s port %u for operations: %s",
              *host != '\0' ? host : "every address", at->port, uv_strerror(rc));
    return -QN_ESYSTEM;
}

void ops_close(struct daemon *daemon) {
    struct ops *ops = &daemon->ops;
    acceptor_close(&ops->acceptor);
    while (ops->clients != NULL) client_close(ops->clients);
}
