/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: a connection is accepted, its session does the handshake as responder, the public key it shows is that of
 * a neighbour that dials us, and the neighbour's lane takes the conn.
 *
 * Failure modes: an address in use or not ours (the daemon does not start, and the log says which). Strangers, scanners
 * and half-open connections cost a place among LISTENER_PENDING_MAX for CONN_HANDSHAKE_MS at most, one address no more
 * than LISTENER_PENDING_ADDRESS_MAX of them; above that connections are accepted and dropped at once, which leaves the
 * kernel's queue free for those we want. They learn nothing: the reasons are counted, not told. */
#include "listener.h"

#include <assert.h>
#include <netdb.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "daemon.h"
#include "qnet/v1/session.pb-c.h"

#define BACKLOG 256

_Static_assert(sizeof((struct listener *)0)->n_failures / sizeof(uint64_t) == FAIL_N, "one count a reason");

static void unlink_pending(struct listener *listener, struct conn *conn) {
    if (conn->previous != NULL) {
        conn->previous->next = conn->next;
    } else {
        listener->pending = conn->next;
    }
    if (conn->next != NULL) conn->next->previous = conn->previous;
    conn->previous = conn->next = NULL;
    listener->n_pending--;
}

static void on_open(struct conn *conn) {
    struct listener *listener = conn->owner;
    struct peer *peer = peers_find(&listener->daemon->peers, conn->peer);
    assert(peer != NULL); /* find_peer named it. */
    unlink_pending(listener, conn);
    lane_take(&peer->lanes[listener->plane], conn);
}

static void on_envelope(struct conn *conn, const uint8_t *bytes, size_t len) {
    (void)conn; /* on_open comes first, and another's ops are in place after it. */
    (void)bytes;
    (void)len;
}

static void on_closed(struct conn *conn, const struct conn_end *end) {
    struct listener *listener = conn->owner;
    unlink_pending(listener, conn);
    listener->n_failures[lane_failure_of(end->error)]++;
    log_write(&listener->daemon->log, LOG_DEBUG, "handshake_failed", conn->address, "%s: %s", qn_err_what(end->error),
              end->detail);
}

static const struct conn_ops pending_ops = {on_open, on_envelope, on_closed};

static int find_peer(void *context, const uint8_t public_key[32]) {
    struct daemon *daemon = context;
    struct peer *peer = peers_find_key(daemon, public_key);
    return peer != NULL ? peer->node : -1;
}

static unsigned count_address(const struct daemon *daemon, const struct conn *conn) {
    unsigned n = 0;
    for (int plane = 0; plane < 2; plane++)
        for (const struct conn *other = daemon->listeners[plane].pending; other != NULL; other = other->next)
            if (strcmp(other->address, conn->address) == 0) n++;
    return n;
}

static void link_pending(struct listener *listener, struct conn *conn) {
    conn->next = listener->pending;
    if (conn->next != NULL) conn->next->previous = conn;
    listener->pending = conn;
    listener->n_pending++;
}

static void on_connection(uv_stream_t *stream, int status) {
    struct listener *listener = stream->data;
    struct daemon *daemon = listener->daemon;
    if (status < 0) { /* Out of descriptors, most likely: libuv tries again with the next connection. */
        log_write(&daemon->log, LOG_WARNING, "accept_failed", NULL, "%s", uv_strerror(status));
        return;
    }
    struct qn_session_config config;
    peers_session_config(daemon, &config);
    config.plane = listener->plane;
    config.find_peer = find_peer;
    config.context = daemon;
    struct conn *conn;
    int rc = conn_accept(&daemon->turn, stream, &config, &pending_ops, listener, &conn);
    sodium_memzero(&config, sizeof config);
    if (rc == -QN_ENOMEM) daemon_fatal(daemon, "out of memory"); /* Not accepted, it would block the queue for good. */
    if (rc < 0) {
        log_write(&daemon->log, LOG_WARNING, "accept_failed", NULL, "%s", qn_err_what(rc));
        return;
    }
    listener->n_accepted++;
    link_pending(listener, conn);
    unsigned n_pending = daemon->listeners[0].n_pending + daemon->listeners[1].n_pending;
    if (n_pending <= LISTENER_PENDING_MAX && count_address(daemon, conn) <= LISTENER_PENDING_ADDRESS_MAX) return;
    listener->n_refused++;
    unlink_pending(listener, conn);
    conn_drop(conn);
    log_write(&daemon->log, LOG_WARNING, "handshakes_full", conn->address,
              "too many handshakes under way: connection dropped");
}

/* Containers often have no IPv6 at all. */
static bool has_ipv6(void) {
    struct sockaddr_in6 any = {.sin6_family = AF_INET6};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool has = fd >= 0 && bind(fd, (struct sockaddr *)&any, sizeof any) == 0;
    if (fd >= 0) close(fd);
    return has;
}

int listener_resolve(uv_loop_t *loop, const char *host, uint16_t port, struct sockaddr_storage *ret_address) {
    if (*host == '\0') host = has_ipv6() ? "::" : "0.0.0.0"; /* The first takes both families. */
    if (uv_ip4_addr(host, port, (struct sockaddr_in *)ret_address) == 0) return 0;
    if (uv_ip6_addr(host, port, (struct sockaddr_in6 *)ret_address) == 0) return 0;
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    uv_getaddrinfo_t request;
    int rc = uv_getaddrinfo(loop, &request, NULL, host, service, &hints); /* At start-up only, so it may block. */
    if (rc < 0) return rc;
    memcpy(ret_address, request.addrinfo->ai_addr, request.addrinfo->ai_addrlen);
    uv_freeaddrinfo(request.addrinfo);
    return 0;
}

static int listen_on(struct listener *listener, const char *host, uint16_t port) {
    struct daemon *daemon = listener->daemon;
    struct sockaddr_storage address = {0};
    int rc = listener_resolve(&daemon->loop, host, port, &address);
    if (rc == 0) {
        uv_tcp_init(&daemon->loop, &listener->tcp);
        listener->tcp.data = listener;
        listener->open = true;
        rc = uv_tcp_bind(&listener->tcp, (struct sockaddr *)&address, 0);
    }
    if (rc == 0) rc = uv_listen((uv_stream_t *)&listener->tcp, BACKLOG, on_connection);
    if (rc < 0)
        log_write(&daemon->log, LOG_ERROR, "listen_failed", NULL, "cannot listen on %s port %u for the %s plane: %s",
                  *host != '\0' ? host : "every address", port,
                  listener->plane == QN_CLASSICAL ? "classical" : "quantum", uv_strerror(rc));
    return rc < 0 ? -QN_ESYSTEM : 0;
}

int listeners_init(struct daemon *daemon) {
    const struct qn_topo_node *self = &daemon->config->topology.nodes[daemon->config->self];
    const struct qn_address *addresses[2] = {&self->classical, &self->quantum};
    const char *bind_host = daemon->config->options.bind_host;
    int rc = 0;
    for (int plane = 0; plane < 2; plane++) {
        struct listener *listener = &daemon->listeners[plane];
        listener->daemon = daemon;
        listener->plane = (enum qn_plane_id)plane;
        if (daemon->peers.len == 0) continue; /* A node on its own. */
        if (listen_on(listener, bind_host != NULL ? bind_host : addresses[plane]->host, addresses[plane]->port) < 0)
            rc = -QN_ESYSTEM;
    }
    return rc;
}

void listeners_close(struct daemon *daemon) {
    for (int plane = 0; plane < 2; plane++) {
        struct listener *listener = &daemon->listeners[plane];
        if (listener->open) uv_close((uv_handle_t *)&listener->tcp, NULL);
        listener->open = false;
        while (listener->pending != NULL) {
            struct conn *conn = listener->pending;
            unlink_pending(listener, conn);
            conn_drop(conn);
        }
    }
}
