/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: a client connects, sends requests, and gets responses that carry the id of the request, in whatever order
 * the node answers. The node gets the bytes as they are; only what concerns the process (version, stop, events) is
 * answered here, and what the process knows about sessions is added to the node's list of peers.
 *
 * Failure modes: another daemon's socket at our path (the daemon does not start); a stale one (removed). Bytes that are
 * no request, or half a request for CONTROL_REQUEST_MS, or a client too many: an error response, and the client is
 * closed. A client that goes away: QN_EVENT_CLIENT_GONE, and the node
 * cancels what it had asked for. A client that reads slowly is read slowly, and dropped above CONTROL_QUEUE_HARD; a
 * subscriber to events that reads slowly loses its subscription, and is told so. */
#include "control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "build.h"
#include "daemon.h"
#include "qnet/v1/control.pb-c.h"

#define ENRICH_MAX 8 /* Requests of one client whose responses need the sessions' numbers. */

struct client {
    struct control *control;
    uv_pipe_t pipe;
    uv_timer_t timer; /* Runs while a request has come in part. */
    unsigned n_open;  /* Handles whose close callback has not run yet. */
    struct outlet outlet;
    struct backlog backlog;
    struct qn_buf input;
    size_t taken; /* Bytes of input already handled. */
    uint64_t id;
    bool closing;
    bool subscribed;
    uint64_t subscription; /* Id of its EventsRequest. */
    uint64_t enrich[ENRICH_MAX];
    unsigned n_enrich;
    struct client *previous, *next;
};

static void client_pump(struct client *client);

static void handle_closed(uv_handle_t *handle) {
    struct client *client = handle->data;
    if (--client->n_open > 0) return;
    outlet_release(&client->outlet);
    qn_buf_release(&client->input);
    free(client);
}

static void unsubscribe(struct client *client) {
    if (!client->subscribed) return;
    client->subscribed = false;
    client->control->n_subscribers--;
}

static void client_close(struct client *client) {
    struct control *control = client->control;
    if (client->closing) return;
    client->closing = true;
    unsubscribe(client);
    outlet_cancel(&client->outlet);
    backlog_remove(client->outlet.turn, &client->backlog);
    qn_map_remove(&control->by_id, client->id);
    if (client->previous != NULL)
        client->previous->next = client->next;
    else
        control->clients = client->next;
    if (client->next != NULL) client->next->previous = client->previous;
    control->n_clients--;
    uv_close((uv_handle_t *)&client->timer, handle_closed);
    uv_close((uv_handle_t *)&client->pipe, handle_closed);
    daemon_event(control->daemon, &(struct qn_event){.type = QN_EVENT_CLIENT_GONE, .client = client->id});
}

static void send_bytes(struct client *client, const uint8_t *bytes, size_t len) {
    uint8_t head[4] = {(uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len};
    if (client->closing) return;
    int rc = qn_buf_append(client->outlet.collect, head, sizeof head);
    if (rc == 0) rc = qn_buf_append(client->outlet.collect, bytes, len);
    if (rc < 0 || outlet_queued(&client->outlet) > CONTROL_QUEUE_HARD) {
        client->control->n_slow++;
        client_close(client);
        return;
    }
    outlet_mark(&client->outlet);
}

static void send_response(struct client *client, const Qnet__V1__ControlResponse *response) {
    size_t len = qnet__v1__control_response__get_packed_size(response);
    uint8_t *bytes = malloc(len > 0 ? len : 1);
    if (bytes == NULL) daemon_fatal(client->control->daemon, "out of memory");
    qnet__v1__control_response__pack(response, bytes);
    send_bytes(client, bytes, len);
    free(bytes);
}

static void send_end(struct client *client, uint64_t id) {
    Qnet__V1__ControlResponse response = QNET__V1__CONTROL_RESPONSE__INIT;
    response.id = id;
    send_response(client, &response);
}

static void send_error(struct client *client, uint64_t id, int err, const char *detail) {
    char message[256];
    snprintf(message, sizeof message, "%s: %s (%s)", qn_err_what(err), detail, qn_err_todo(err));
    Qnet__V1__Error error = QNET__V1__ERROR__INIT;
    error.code = (char *)qn_err_name(err);
    error.number = (uint32_t)(err < 0 ? -err : err);
    error.message = message;
    Qnet__V1__ControlResponse response = QNET__V1__CONTROL_RESPONSE__INIT;
    response.id = id;
    response.body_case = QNET__V1__CONTROL_RESPONSE__BODY_ERROR;
    response.error = &error;
    send_response(client, &response);
}

static void send_version(struct client *client, uint64_t id) {
    Qnet__V1__VersionInfo version = QNET__V1__VERSION_INFO__INIT;
    version.software = DAEMON_SOFTWARE;
    version.build = QN_BUILD;
    version.protocol_min = QN_PROTOCOL_MIN;
    version.protocol_max = QN_PROTOCOL_MAX;
    Qnet__V1__ControlResponse response = QNET__V1__CONTROL_RESPONSE__INIT;
    response.id = id;
    response.body_case = QNET__V1__CONTROL_RESPONSE__BODY_VERSION;
    response.version = &version;
    send_response(client, &response);
}

/* --- Events --- */

static void send_event(struct client *client, uint64_t id, const uint8_t *bytes, size_t len) {
    struct control *control = client->control;
    Qnet__V1__EventInfo *event = qn_wire_unpack(&qnet__v1__event_info__descriptor, &control->arena, bytes, len);
    if (event == NULL) return;
    Qnet__V1__ControlResponse response = QNET__V1__CONTROL_RESPONSE__INIT;
    response.id = id;
    response.more = 1;
    response.body_case = QNET__V1__CONTROL_RESPONSE__BODY_EVENT;
    response.event = event;
    send_response(client, &response);
}

static void on_events_request(struct client *client, uint64_t id, bool follow, uint32_t backlog) {
    struct control *control = client->control;
    if (follow && !client->subscribed && control->n_subscribers >= EVENTS_SUBSCRIBERS_MAX) {
        send_error(client, id, -QN_ELIMIT, "32 clients follow the events already");
        return;
    }
    for (size_t age = backlog < EVENTS_KEPT ? backlog : EVENTS_KEPT; age-- > 0 && !client->closing;) {
        const struct qn_buf *event = events_get(&control->events, age);
        if (event != NULL) send_event(client, id, event->data, event->len);
    }
    if (!follow || client->closing) {
        send_end(client, id);
        return;
    }
    if (client->subscribed)
        send_end(client, client->subscription); /* The new one takes its place. */
    else
        control->n_subscribers++;
    client->subscribed = true;
    client->subscription = id;
}

void control_event(struct daemon *daemon, const uint8_t *bytes, size_t len) {
    struct control *control = &daemon->control;
    if (events_add(&control->events, bytes, len) < 0) daemon_fatal(daemon, "out of memory");
    for (struct client *client = control->clients, *next; control->n_subscribers > 0 && client != NULL; client = next) {
        next = client->next;
        if (!client->subscribed) continue;
        if (outlet_queued(&client->outlet) <= CONTROL_QUEUE_SOFT) {
            send_event(client, client->subscription, bytes, len);
        } else {
            control->n_slow++;
            unsubscribe(client);
            send_error(client, client->subscription, -QN_ELIMIT, "events come faster than you read them");
        }
    }
}

/* --- Requests --- */

/* True if the request concerns the process, not the node, and is answered. */
static bool answer_here(struct client *client, const Qnet__V1__ControlRequest *request) {
    uint64_t id = request->id;
    switch (request->body_case) {
    case QNET__V1__CONTROL_REQUEST__BODY_VERSION:
        send_version(client, id);
        return true;
    case QNET__V1__CONTROL_REQUEST__BODY_STOP:
        send_end(client, id);
        daemon_stop(client->control->daemon, "a client asked for it");
        return true;
    case QNET__V1__CONTROL_REQUEST__BODY_EVENTS:
        on_events_request(client, id, request->events->follow, request->events->backlog);
        return true;
    case QNET__V1__CONTROL_REQUEST__BODY_CANCEL:
        if (!client->subscribed || request->cancel->id != client->subscription) return false;
        unsubscribe(client);
        send_end(client, client->subscription);
        send_end(client, id);
        return true;
    default:
        return false;
    }
}

static bool lists_peers(const Qnet__V1__ControlRequest *request) {
    return request->body_case == QNET__V1__CONTROL_REQUEST__BODY_STATUS ||
           (request->body_case == QNET__V1__CONTROL_REQUEST__BODY_LIST &&
            request->list->kind == QNET__V1__LIST_KIND__LIST_KIND_NODES);
}

/* The last word to a client: why it is closed. */
static void refuse(struct client *client, int err, const char *detail) {
    send_error(client, 0, err, detail);
    if (!client->closing) outlet_flush(&client->outlet);
    client_close(client);
}

static void on_half_a_request(uv_timer_t *timer) {
    refuse(timer->data, -QN_ETIMEOUT, "half a request came, and no more");
}

static void on_frame(struct client *client, const uint8_t *bytes, size_t len) {
    struct control *control = client->control;
    control->n_requests++;
    Qnet__V1__ControlRequest *request =
        qn_wire_unpack(&qnet__v1__control_request__descriptor, &control->arena, bytes, len);
    if (request == NULL) {
        refuse(client, -QN_EPARSE, "not a ControlRequest");
        return;
    }
    uint64_t id = request->id;
    if (answer_here(client, request)) return;
    if (lists_peers(request) && client->n_enrich < ENRICH_MAX) client->enrich[client->n_enrich++] = id;
    struct qn_event event = {.type = QN_EVENT_REQUEST, .client = client->id, .bytes = bytes, .len = len};
    int rc = daemon_event(control->daemon, &event);
    if (rc < 0) send_error(client, id, rc, "the request could not be taken");
}

static bool is_stopped(const struct client *client) {
    return client->control->held || outlet_queued(&client->outlet) > CONTROL_QUEUE_SOFT;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf) {
    (void)suggested;
    struct client *client = handle->data;
    turn_alloc(client->outlet.turn, ret_buf);
}

static void on_read(uv_stream_t *stream, ssize_t n_read, const uv_buf_t *buf) {
    struct client *client = stream->data;
    if (n_read < 0 || (n_read > 0 && qn_buf_append(&client->input, buf->base, (size_t)n_read) < 0)) {
        client_close(client);
    } else if (n_read > 0) {
        client_pump(client);
    }
}

/* The next whole frame of the input; false if there is none yet. */
static bool next_frame(struct client *client, const uint8_t **ret_bytes, size_t *ret_len) {
    size_t left = client->input.len - client->taken;
    if (left < 4) return false;
    const uint8_t *head = client->input.data + client->taken;
    size_t len = (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];
    if (len > CONTROL_FRAME_MAX) {
        refuse(client, -QN_ELIMIT, "a request is at most 1 MiB");
        return false;
    }
    if (left < 4 + len) return false;
    *ret_bytes = head + 4;
    *ret_len = len;
    client->taken += 4 + len;
    return true;
}

static void client_pump(struct client *client) {
    uint64_t until_ns = uv_hrtime() + TURN_BUDGET_NS;
    const uint8_t *bytes;
    size_t len;
    while (!client->closing && !is_stopped(client) && !client->backlog.waiting) {
        if (!next_frame(client, &bytes, &len)) {
            if (client->closing) return;
            if (client->input.len == client->taken)
                uv_timer_stop(&client->timer);
            else if (client->taken > 0 || !uv_is_active((uv_handle_t *)&client->timer))
                uv_timer_start(&client->timer, on_half_a_request, CONTROL_REQUEST_MS, 0);
            qn_buf_consume(&client->input, client->taken);
            if (client->input.len == 0 && client->input.cap > TURN_READ_BYTES) qn_buf_release(&client->input);
            client->taken = 0;
            uv_read_start((uv_stream_t *)&client->pipe, on_alloc, on_read);
            return;
        }
        on_frame(client, bytes, len);
        if (!client->closing && uv_hrtime() > until_ns) backlog_add(client->outlet.turn, &client->backlog);
    }
    if (client->closing) return;
    uv_timer_stop(&client->timer); /* We keep it waiting, not it us. */
    uv_read_stop((uv_stream_t *)&client->pipe);
}

static void resume(struct backlog *backlog) {
    client_pump((struct client *)((char *)backlog - offsetof(struct client, backlog)));
}

void control_hold(struct control *control) { control->held = true; }

void control_resume(struct control *control) {
    control->held = false;
    for (struct client *client = control->clients; client != NULL; client = client->next)
        backlog_add(client->outlet.turn, &client->backlog);
}

/* --- Responses --- */

static void enrich_peer(const struct daemon *daemon, Qnet__V1__PeerInfo *info) {
    int node = qn_topology_find_node(&daemon->config->topology, info->name);
    const struct peer *peer = node >= 0 ? peers_find(&daemon->peers, (uint16_t)node) : NULL;
    for (int plane = 0; peer != NULL && plane < 2; plane++) {
        const struct lane *lane = &peer->lanes[plane];
        info->sent_frames += lane->sent_before;
        info->received_frames += lane->received_before;
        if (lane->conn == NULL) continue;
        info->sent_frames += lane->conn->n_sent;
        info->received_frames += lane->conn->n_received;
        info->queued_bytes += conn_queued(lane->conn);
        if (info->rtt_ns == 0) info->rtt_ns = lane->conn->rtt_ns; /* The classical one, if there is one. */
        info->software = lane->conn->software;
        info->protocol = lane->conn->version;
    }
}

/* Adds what only the process knows. False if the response is none of those that have peers in them. */
static bool enrich(struct client *client, const uint8_t *bytes, size_t len) {
    struct control *control = client->control;
    Qnet__V1__ControlResponse *response =
        qn_wire_unpack(&qnet__v1__control_response__descriptor, &control->arena, bytes, len);
    if (response == NULL) return false;
    unsigned i = 0;
    while (i < client->n_enrich && client->enrich[i] != response->id) i++;
    if (i == client->n_enrich) return false;
    if (!response->more) client->enrich[i] = client->enrich[--client->n_enrich];
    if (response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_STATUS) {
        response->status->sandbox = control->daemon->sandbox.text;
        for (size_t p = 0; p < response->status->n_peers; p++) enrich_peer(control->daemon, response->status->peers[p]);
    } else if (response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_PEER) {
        enrich_peer(control->daemon, response->peer);
    } else {
        return false;
    }
    send_response(client, response);
    return true;
}

void control_reply(struct daemon *daemon, uint64_t id, const uint8_t *bytes, size_t len) {
    struct client *client = qn_map_get(&daemon->control.by_id, id);
    if (client == NULL) return; /* It has gone meanwhile. */
    if (client->n_enrich > 0 && enrich(client, bytes, len)) return;
    send_bytes(client, bytes, len);
}

/* --- The socket --- */

static void on_written(struct outlet *outlet, int status) {
    struct client *client = outlet->stream->data;
    if (status < 0) {
        client_close(client);
    } else if (!client->closing && !uv_is_active((uv_handle_t *)&client->pipe)) {
        backlog_add(outlet->turn, &client->backlog); /* It may have been stopped for our sake. */
    }
}

static void on_accept(struct acceptor *acceptor, int fd, const struct sockaddr *from) {
    struct control *control = acceptor->owner;
    uv_loop_t *loop = &control->daemon->loop;
    (void)from;
    struct client *client = calloc(1, sizeof *client);
    if (client == NULL) daemon_fatal(control->daemon, "out of memory");
    uv_pipe_init(loop, &client->pipe, 0);
    uv_timer_init(loop, &client->timer);
    client->n_open = 2;
    client->pipe.data = client->timer.data = client;
    client->control = control;
    client->id = ++control->next_id;
    client->backlog.resume = resume;
    outlet_init(&client->outlet, &control->daemon->turn, (uv_stream_t *)&client->pipe, NULL);
    client->outlet.on_written = on_written;
    if (qn_map_put(&control->by_id, client->id, client) < 0) daemon_fatal(control->daemon, "out of memory");
    client->next = control->clients;
    if (client->next != NULL) client->next->previous = client;
    control->clients = client;
    control->n_clients++;
    if (uv_pipe_open(&client->pipe, fd) < 0) {
        close(fd);
        client_close(client);
    } else if (control->n_clients > control->daemon->descriptors.control) {
        control->n_refused++;
        refuse(client, -QN_ELIMIT, "as many clients as there may be are connected already");
    } else {
        client_pump(client);
    }
}

/* Makes way for our socket: removes one nobody listens on. */
static int clear_path(struct daemon *daemon, const char *path) {
    struct stat info;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (lstat(path, &info) < 0) return 0;
    if (!S_ISSOCK(info.st_mode)) {
        log_write(&daemon->log, LOG_ERROR, "control_failed", path,
                  "there is something else at the path of the control socket");
        return -QN_ESYSTEM;
    }
    memcpy(address.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int rc = fd < 0 ? -1 : connect(fd, (struct sockaddr *)&address, sizeof address);
    bool is_stale = rc < 0 && errno == ECONNREFUSED;
    if (fd >= 0) close(fd);
    if (is_stale && unlink(path) == 0) return 0;
    log_write(&daemon->log, LOG_ERROR, "control_failed", path, "another qnetd uses this control socket");
    return -QN_ESYSTEM;
}

int control_init(struct daemon *daemon) {
    struct control *control = &daemon->control;
    const char *path = daemon->config->control_path;
    control->daemon = daemon;
    control->acceptor.on_accept = on_accept;
    control->acceptor.owner = control;
    int rc = qn_arena_init(&control->arena, QN_ARENA_SIZE);
    if (rc < 0) return rc;
    if (*path == '\0') {
        log_write(&daemon->log, LOG_WARNING, "no_control", NULL,
                  "no control socket: give --control PATH or --state DIR");
        return 0;
    }
    rc = clear_path(daemon, path);
    if (rc < 0) return rc;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, path, strlen(path));
    mode_t mask = umask(0177); /* Never, not even for a moment, open to others. */
    int status = acceptor_open(&control->acceptor, &daemon->loop, (struct sockaddr *)&address, sizeof address,
                               CONTROL_CLIENTS_MAX);
    umask(mask);
    if (status == 0) return 0;
    log_write(&daemon->log, LOG_ERROR, "control_failed", path, "cannot open the control socket: %s",
              uv_strerror(status));
    return -QN_ESYSTEM;
}

void control_close(struct daemon *daemon) {
    struct control *control = &daemon->control;
    if (control->acceptor.open) unlink(daemon->config->control_path);
    acceptor_close(&control->acceptor);
    while (control->clients != NULL) {
        struct client *client = control->clients;
        outlet_flush(&client->outlet);
        client_close(client);
    }
}

void control_release(struct daemon *daemon) {
    struct control *control = &daemon->control;
    qn_map_release(&control->by_id);
    events_release(&control->events);
    if (control->arena.block != NULL) qn_arena_release(&control->arena);
}
