/* SPDX-License-Identifier: Apache-2.0 */
#include "client.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"

#define CONNECT_TIMEOUT_S 5
#define READ_BYTES 65536
#define OUT_SOFT (1024 * 1024) /* Above this, sending waits until the node has read. */

uint64_t client_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int __attribute__((format(printf, 3, 4))) failed(struct client *client, int rc, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(client->error, sizeof client->error, format, args);
    va_end(args);
    snprintf(client->error_code, sizeof client->error_code, "%s", qn_err_name(rc));
    client->is_remote = false;
    return rc;
}

static int failed_system(struct client *client, const char *what) {
    client->os_error = errno;
    return failed(client, -QN_ESYSTEM, "%s: %s", what, strerror(client->os_error));
}

int client_open(struct client *client, const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval patience = {.tv_sec = CONNECT_TIMEOUT_S};
    *client = (struct client){.fd = -1};
    if (strlen(path) >= sizeof address.sun_path)
        return failed(client, -QN_EINVAL, "the path of the socket is longer than %zu bytes",
                      sizeof address.sun_path - 1);
    memcpy(address.sun_path, path, strlen(path));
    client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0) return failed_system(client, "socket");
    setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience); /* Bounds connect, too. */
    int rc = 0;
    if (connect(client->fd, (struct sockaddr *)&address, sizeof address) < 0)
        rc = failed_system(client, path);
    else if (qn_arena_init(&client->arena, CLIENT_FRAME_MAX) < 0)
        rc = failed(client, -QN_ENOMEM, "out of memory");
    if (rc < 0) {
        close(client->fd);
        client->fd = -1;
    }
    return rc;
}

void client_close(struct client *client) {
    if (client->fd < 0) return;
    close(client->fd);
    client->fd = -1;
    qn_buf_release(&client->in);
    qn_buf_release(&client->out);
    qn_arena_release(&client->arena);
}

/* Milliseconds from now, rounded up, for poll. */
static int left_ms(uint64_t deadline_ns) {
    uint64_t now_ns = client_now_ns();
    if (deadline_ns == CLIENT_NEVER) return -1;
    if (deadline_ns <= now_ns) return 0;
    uint64_t ms = (deadline_ns - now_ns + 999999) / 1000000;
    return ms > 1000000000 ? 1000000000 : (int)ms;
}

static int write_some(struct client *client) {
    while (client->out.len > 0) {
        ssize_t n = send(client->fd, client->out.data, client->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return 0;
        if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
            return failed(client, -QN_ECLOSED, "the node closed the connection");
        if (n < 0) return failed_system(client, "send");
        qn_buf_consume(&client->out, (size_t)n);
    }
    return 0;
}

static int read_some(struct client *client) {
    if (qn_buf_reserve(&client->in, READ_BYTES) < 0) return failed(client, -QN_ENOMEM, "out of memory");
    ssize_t n = recv(client->fd, client->in.data + client->in.len, client->in.cap - client->in.len, MSG_DONTWAIT);
    if (n < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK)) return 0;
    if (n == 0 || (n < 0 && errno == ECONNRESET)) return failed(client, -QN_ECLOSED, "the node closed the connection");
    if (n < 0) return failed_system(client, "recv");
    client->in.len += (size_t)n;
    return 0;
}

/* Waits until something can be read or written, and does it. */
static int pump(struct client *client, uint64_t deadline_ns) {
    struct pollfd poll_fd = {.fd = client->fd, .events = POLLIN};
    if (client->out.len > 0) poll_fd.events |= POLLOUT;
    int n = poll(&poll_fd, 1, left_ms(deadline_ns));
    if (n < 0 && errno != EINTR) return failed_system(client, "poll");
    if (n <= 0) {
        if (client_now_ns() < deadline_ns) return 0;
        return failed(client, -QN_ETIMEOUT, "no answer in time");
    }
    int rc = poll_fd.revents & POLLOUT ? write_some(client) : 0;
    /* An error while writing may have its reason in what the node said last. */
    if (poll_fd.revents & (POLLIN | POLLHUP | POLLERR)) rc = read_some(client);
    return rc;
}

int client_send(struct client *client, Qnet__V1__ControlRequest *request) {
    if (client->fd < 0) return failed(client, -QN_ECLOSED, "not connected");
    request->id = ++client->next_id;
    size_t len = qnet__v1__control_request__get_packed_size(request);
    const uint8_t head[4] = {(uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len};
    if (qn_buf_reserve(&client->out, sizeof head + len) < 0) return failed(client, -QN_ENOMEM, "out of memory");
    qn_buf_append(&client->out, head, sizeof head);
    qnet__v1__control_request__pack(request, client->out.data + client->out.len);
    client->out.len += len;
    int rc = write_some(client);
    while (rc == 0 && client->out.len > OUT_SOFT) rc = pump(client, CLIENT_NEVER);
    return rc;
}

/* 1 and the response if a whole one has been read, else 0. */
static int take_frame(struct client *client, const Qnet__V1__ControlResponse **ret_response) {
    size_t left = client->in.len - client->taken;
    if (left < 4) return 0;
    const uint8_t *head = client->in.data + client->taken;
    size_t len = (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];
    if (len > CLIENT_FRAME_MAX)
        return failed(client, -QN_EPROTOCOL, "the answer is not one of a qnetd (length %zu)", len);
    if (left < 4 + len) return 0;
    *ret_response = qn_wire_unpack(&qnet__v1__control_response__descriptor, &client->arena, head + 4, len);
    if (*ret_response == NULL) return failed(client, -QN_EPROTOCOL, "the answer is malformed");
    client->taken += 4 + len;
    return 1;
}

int client_next(struct client *client, uint64_t deadline_ns, const Qnet__V1__ControlResponse **ret_response) {
    if (client->fd < 0) return failed(client, -QN_ECLOSED, "not connected");
    for (;;) {
        int rc = take_frame(client, ret_response);
        if (rc != 0) return rc < 0 ? rc : 0;
        qn_buf_consume(&client->in, client->taken);
        client->taken = 0;
        rc = pump(client, deadline_ns);
        if (rc < 0) return rc;
    }
}

static int failed_remotely(struct client *client, const Qnet__V1__Error *error) {
    snprintf(client->error, sizeof client->error, "%s", error->message);
    snprintf(client->error_code, sizeof client->error_code, "%s", error->code);
    client->is_remote = true;
    return error->number > 0 && error->number < 10000 ? -(int)error->number : -QN_EPROTOCOL;
}

int client_call(struct client *client, Qnet__V1__ControlRequest *request, uint64_t deadline_ns,
                client_response_fn on_response, void *context) {
    const Qnet__V1__ControlResponse *response;
    int rc = client_send(client, request);
    while (rc == 0) {
        rc = client_next(client, deadline_ns, &response);
        if (rc < 0) return rc;
        bool is_complaint = response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_ERROR;
        if (response->id != request->id && !(is_complaint && response->id == 0))
            continue; /* 0: it could not read an id. */
        if (is_complaint) return failed_remotely(client, response->error);
        if (response->body_case != QNET__V1__CONTROL_RESPONSE__BODY__NOT_SET && on_response != NULL)
            rc = on_response(context, response);
        if (!response->more) break;
    }
    return rc;
}
