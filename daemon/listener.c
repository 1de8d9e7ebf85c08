/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: a connection is accepted, its session does the handshake as responder, the public key it shows is that of
 * a neighbour that dials us, and the neighbour's lane takes the conn.
 *
 * Failure modes: an address in use or not ours (the daemon does not start, and the log says which). Strangers, scanners
 * and half-open connections. An address that comes too often is dropped at once, which leaves the kernel's queue free
 * for those we want. The others get a place among LISTENER_PENDING_MAX for CONN_HANDSHAKE_MS at most, one address no
 * more than LISTENER_PENDING_ADDRESS_MAX of them. When all are taken, the oldest that has not even shown a preface
 * gives way: a neighbour shows its own with the first bytes, so who merely holds places cannot keep it out. A flood
 * gets ACCEPTOR_TURN_MAX connections a turn; in between, sessions go on. Strangers learn nothing: reasons are counted
 * and logged (all of them under one subject, so that many addresses make no more lines than one), not told. A neighbour
 * that has proved its key and is refused nonetheless is told why, and has log lines under its own name. */
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

#define BACKLOG 1024
#define PATIENCE_MS 1000 /* A caller that has shown its preface keeps its place for so long, come who may. */

static const char *const plane_names[] = {"classical", "quantum"};

_Static_assert(sizeof((struct listener *)0)->n_failures / sizeof(uint64_t) == FAIL_N, "one count a reason");

const char *const refusal_names[REFUSED_N] = {[REFUSED_RATE] = "rate", [REFUSED_FULL] = "full"};

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
    int node = qn_session_peer(conn->session);
    const char *name = node >= 0 ? listener->daemon->config->topology.nodes[node].name : NULL;
    log_write(&listener->daemon->log, name != NULL ? LOG_WARNING : LOG_INFO, "handshake_failed", name,
              "%s on the %s port: %s%s%s", conn->address, plane_names[listener->plane], qn_err_what(end->error),
              *end->detail != '\0' ? ": " : "", end->detail);
}

static const struct conn_ops pending_ops = {on_open, on_envelope, on_closed};

static int find_peer(void *context, const uint8_t public_key[32]) {
    struct daemon *daemon = context;
    struct peer *peer = peers_find_key(daemon, public_key);
    return peer != NULL ? peer->node : -1;
}

static void link_pending(struct listener *listener, struct conn *conn) {
    conn->next = listener->pending;
    if (conn->next != NULL) conn->next->previous = conn;
    listener->pending = conn;
    listener->n_pending++;
}

/* Who loses its place so that `newcomer` has one: the oldest that has not shown a preface, else the oldest that has
 * been at it for long, else the newcomer. With `origin`, only those of the newcomer's count. */
static struct conn *find_victim(struct daemon *daemon, struct conn *newcomer, bool of_origin) {
    struct conn *victim = newcomer;
    bool has_called = true;
    uint64_t now_ms = uv_now(&daemon->loop), oldest_ms = now_ms >= PATIENCE_MS ? now_ms - PATIENCE_MS : 0;
    for (int plane = 0; plane < 2; plane++) {
        for (struct conn *other = daemon->listeners[plane].pending; other != NULL; other = other->next) {
            if (other == newcomer || (of_origin && other->origin != newcomer->origin)) continue;
            bool is_called = qn_session_is_called(other->session);
            if (is_called > has_called) continue;
            if (is_called == has_called && other->created_ms > oldest_ms) continue;
            victim = other;
            has_called = is_called;
            oldest_ms = other->created_ms;
        }
    }
    return victim;
}

static unsigned count_origin(const struct daemon *daemon, uint64_t origin) {
    unsigned n = 0;
    for (int plane = 0; plane < 2; plane++)
        for (const struct conn *other = daemon->listeners[plane].pending; other != NULL; other = other->next)
            n += other->origin == origin;
    return n;
}

static void count_refusal(struct listener *listener, enum refusal refusal, const char *address, const char *why) {
    listener->n_refused[refusal]++;
    log_write(&listener->daemon->log, LOG_WARNING, "connection_refused", NULL, "%s on the %s port: %s", address,
              plane_names[listener->plane], why);
}

static void refuse(struct conn *conn, enum refusal refusal, const char *why) {
    struct listener *listener = conn->owner;
    count_refusal(listener, refusal, conn->address, why);
    unlink_pending(listener, conn);
    conn_drop(conn);
}

static void make_room(struct daemon *daemon, struct conn *newcomer) {
    unsigned n_pending = daemon->listeners[0].n_pending + daemon->listeners[1].n_pending;
    unsigned more = daemon->peers.n_dialers * LISTENER_PER_PEER;
    if (count_origin(daemon, newcomer->origin) > LISTENER_PENDING_ADDRESS_MAX + more)
        refuse(find_victim(daemon, newcomer, true), REFUSED_FULL, "too many handshakes of this address");
    else if (n_pending > daemon->descriptors.handshakes + more)
        refuse(find_victim(daemon, newcomer, false), REFUSED_FULL, "too many handshakes under way");
}

/* Before anything is spent on it. */
static void turn_away(struct listener *listener, int fd, const struct sockaddr *from) {
    char address[64];
    close(fd);
    conn_address(from, address, sizeof address);
    count_refusal(listener, REFUSED_RATE, address, "this address connects too often");
}

static void on_accept(struct acceptor *acceptor, int fd, const struct sockaddr *from) {
    struct listener *listener = acceptor->owner;
    struct daemon *daemon = listener->daemon;
    listener->n_accepted++;
    if (!qn_rate_take(&daemon->arrivals, conn_origin(from), clock_monotonic_ns())) {
        turn_away(listener, fd, from);
        return;
    }
    struct qn_session_config config;
    peers_session_config(daemon, &config);
    config.plane = listener->plane;
    config.find_peer = find_peer;
    config.context = daemon;
    struct conn *conn;
    int rc = conn_accept(&daemon->turn, fd, from, &config, &pending_ops, listener, &conn);
    sodium_memzero(&config, sizeof config);
    if (rc == -QN_ENOMEM) daemon_fatal(daemon, "out of memory");
    if (rc < 0) {
        log_write(&daemon->log, LOG_WARNING, "accept_failed", NULL, "%s", qn_err_what(rc));
        return;
    }
    link_pending(listener, conn);
    make_room(daemon, conn);
}

static void on_shortage(struct acceptor *acceptor, int status) {
    struct listener *listener = acceptor->owner;
    log_write(&listener->daemon->log, LOG_ERROR, "accept_failed", NULL, "the %s port rests: %s",
              plane_names[listener->plane], uv_strerror(status));
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

socklen_t listener_address_len(const struct sockaddr_storage *address) {
    return address->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

static int listen_on(struct listener *listener, const char *host, uint16_t port) {
    struct daemon *daemon = listener->daemon;
    struct sockaddr_storage address = {0};
    int rc = listener_resolve(&daemon->loop, host, port, &address);
    listener->acceptor.on_accept = on_accept;
    listener->acceptor.on_shortage = on_shortage;
    listener->acceptor.owner = listener;
    if (rc == 0)
        rc = acceptor_open(&listener->acceptor, &daemon->loop, (struct sockaddr *)&address,
                           listener_address_len(&address), BACKLOG);
    if (rc < 0)
        log_write(&daemon->log, LOG_ERROR, "listen_failed", NULL, "cannot listen on %s port %u for the %s plane: %s",
                  *host != '\0' ? host : "every address", port, plane_names[listener->plane], uv_strerror(rc));
    return rc < 0 ? -QN_ESYSTEM : 0;
}

static void init_arrivals(struct daemon *daemon) {
    double rate = daemon->config->options.connection_rate;
    unsigned burst = LISTENER_BURST + LISTENER_PER_PEER * daemon->peers.n_dialers;
    uint8_t key[16];
    randombytes_buf(key, sizeof key);
    qn_rate_init(&daemon->arrivals, rate, burst, key);
}

int listeners_init(struct daemon *daemon) {
    const struct qn_topo_node *self = &daemon->config->topology.nodes[daemon->config->self];
    const struct qn_address *addresses[2] = {&self->classical, &self->quantum};
    const char *bind_host = daemon->config->options.bind_host;
    int rc = 0;
    init_arrivals(daemon);
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
        acceptor_close(&listener->acceptor);
        while (listener->pending != NULL) {
            struct conn *conn = listener->pending;
            unlink_pending(listener, conn);
            conn_drop(conn);
        }
    }
}
