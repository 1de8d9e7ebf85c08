/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: TCP connects or is accepted, the session does its handshake over it within CONN_HANDSHAKE_MS, the owner
 * is told, envelopes flow both ways. While the peer is silent it is asked every turn->idle_ms whether it is alive; the
 * answer measures the round trip. At the end Close is written, our half of the connection is shut, and the handles are
 * closed when the peer has hung up too or after CONN_LINGER_MS: closing at once could turn our Close into a reset.
 *
 * Failure modes: refused, reset, end of file without Close, silence, a handshake that fails or stalls, bytes that are
 * no session, a peer that does not read. Each ends in fail(), which tells the owner once and lets the conn die. Only
 * whole frames are signs of life: a peer that sends one byte now and then is silent. If this process itself was stopped
 * for a while (SIGSTOP, a suspended machine), silence proves nothing: what has arrived meanwhile is read before the
 * peer is given up, and it gets another idle_ms to be heard. */
#include "conn.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"

#define STALL_MS 2000  /* A timer this late: we were not running. */
#define TURN_FRAMES 64 /* Of one connection, whatever time they take. */

static void handle_closed(uv_handle_t *handle) {
    struct conn *conn = handle->data;
    if (--conn->n_open > 0) return;
    outlet_release(&conn->outlet);
    qn_session_free(conn->session);
    free(conn);
}

static void close_handles(struct conn *conn) {
    if (conn->state == CONN_CLOSED) return;
    conn->state = CONN_CLOSED;
    backlog_remove(conn->turn, &conn->backlog);
    outlet_cancel(&conn->outlet);
    uv_close((uv_handle_t *)&conn->timer, handle_closed);
    uv_close((uv_handle_t *)&conn->tcp, handle_closed);
}

static void on_timer(uv_timer_t *timer);

static void arm(struct conn *conn, uint64_t after_ms) {
    conn->due_ms = uv_now(conn->turn->loop) + after_ms;
    uv_timer_start(&conn->timer, on_timer, after_ms, 0);
}

static void shutdown_done(uv_shutdown_t *request, int status) {
    (void)request; /* The end of file from the peer, or the timer, closes the handles. */
    (void)status;
}

/* Nobody owns the conn: write what is left, then wait for the peer to hang up. */
static void end(struct conn *conn) {
    assert(conn->ops == NULL);
    if (conn->state >= CONN_ENDING) return;
    bool has_word = qn_session_output(conn->session)->len > 0 || conn->outlet.writing;
    if (conn->state == CONN_CONNECTING || !has_word) { /* A stranger is told nothing. */
        close_handles(conn);
        return;
    }
    conn->state = CONN_ENDING;
    arm(conn, CONN_LINGER_MS);
    outlet_mark(&conn->outlet);
}

/* `is_over`: nothing more can or need be written. */
static void fail(struct conn *conn, int error, uint32_t reason, const char *detail, bool is_over) {
    const struct conn_ops *ops = conn->ops;
    conn->ops = NULL;
    if (ops != NULL) ops->on_closed(conn, &(struct conn_end){.error = error, .reason = reason, .detail = detail});
    if (is_over) {
        close_handles(conn);
    } else {
        end(conn);
    }
}

void conn_close(struct conn *conn, uint32_t reason, const char *detail) {
    assert(conn->ops != NULL);
    conn->ops = NULL;
    qn_session_close(conn->session, reason, detail);
    end(conn);
}

void conn_drop(struct conn *conn) {
    assert(conn->ops != NULL);
    conn->ops = NULL;
    close_handles(conn);
}

static void on_written(struct outlet *outlet, int status) {
    struct conn *conn = outlet->stream->data;
    if (status < 0) {
        fail(conn, -QN_ECLOSED, 0, uv_strerror(status), true);
    } else if (conn->state == CONN_ENDING && !conn->shutting) {
        conn->shutting = true;
        if (uv_shutdown(&conn->shutdown, outlet->stream, shutdown_done) < 0) close_handles(conn);
    }
}

static void before_flush(struct outlet *outlet) {
    struct conn *conn = outlet->stream->data;
    if (conn->state == CONN_OPEN || conn->state == CONN_ENDING) qn_session_flush(conn->session);
}

static void on_read(uv_stream_t *stream, ssize_t n_read, const uv_buf_t *buf);

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf) {
    (void)suggested;
    struct conn *conn = handle->data;
    turn_alloc(conn->turn, ret_buf);
}

static void keep_alive(struct conn *conn) {
    if (qn_session_keep_alive(conn->session, uv_hrtime()) == 0) outlet_mark(&conn->outlet);
}

static void rekey(struct conn *conn) {
    conn->rekeyed_ms = uv_now(conn->turn->loop);
    if (conn->version < QN_PROTOCOL_REKEY || qn_session_rekey(conn->session) < 0) return;
    conn->n_rekeys++;
    outlet_mark(&conn->outlet);
}

/* The first sign of life over an open session. The one who dialled speaks last in the handshake, so it knows only from
 * an answer that the other side has accepted it. */
static void confirm(struct conn *conn) {
    if (conn->confirmed) return;
    conn->confirmed = true;
    conn->opened_ms = uv_now(conn->turn->loop);
    arm(conn, conn->turn->idle_ms);
    if (conn->ops != NULL) conn->ops->on_open(conn);
}

static void on_session_open(struct conn *conn, const struct qn_session_event *event) {
    conn->state = CONN_OPEN;
    conn->peer = event->peer;
    conn->incarnation = event->incarnation;
    conn->version = event->version;
    conn->rekeyed_ms = uv_now(conn->turn->loop);
    snprintf(conn->software, sizeof conn->software, "%s", event->software != NULL ? event->software : "");
    keep_alive(conn);
    if (!conn->initiator) confirm(conn);
}

static void on_session_event(struct conn *conn, const struct qn_session_event *event) {
    switch (event->type) {
    case QN_SESSION_OPEN:
        on_session_open(conn, event);
        break;
    case QN_SESSION_ENVELOPE:
        conn->n_received++;
        confirm(conn);
        if (conn->ops != NULL) conn->ops->on_envelope(conn, event->bytes, event->len);
        break;
    case QN_SESSION_ALIVE:
        /* Our token is the time we asked; one we cannot have sent is ignored. */
        if (event->token != 0 && event->token <= uv_hrtime()) conn->rtt_ns = uv_hrtime() - event->token;
        confirm(conn);
        break;
    case QN_SESSION_CLOSED: {
        /* After the peer's Close there is nothing left to say; after our own complaint there is. */
        bool is_over = event->error == 0 || event->reason != 0;
        fail(conn, event->error, event->reason, event->detail != NULL ? event->detail : "", is_over);
        break;
    }
    case QN_SESSION_NONE:
        break;
    }
}

static void check_queue(struct conn *conn) {
    if (outlet_queued(&conn->outlet) <= CONN_QUEUE_HARD) return;
    outlet_flush(&conn->outlet); /* Much for one turn is no proof of a slow reader; what the kernel does not take is. */
    if (conn->state == CONN_CLOSED || outlet_queued(&conn->outlet) <= CONN_QUEUE_HARD) return;
    fail(conn, -QN_EBUSY, 0, "the peer reads too slowly", true);
}

static bool is_alive(const struct conn *conn) { return conn->state == CONN_HANDSHAKE || conn->state == CONN_OPEN; }

static void note_life(struct conn *conn) {
    uint64_t n_frames = qn_session_received(conn->session);
    if (n_frames == conn->n_heard) return;
    conn->n_heard = n_frames;
    conn->heard_ms = uv_now(conn->turn->loop);
    conn->looked = false;
}

/* Takes events from the session until there are none, the conn ends, or its slice of the turn is used up. */
static void pump(struct conn *conn) {
    uint64_t n_frames = qn_session_received(conn->session);
    bool is_used_up = false;
    while (is_alive(conn) && !is_used_up) {
        struct qn_session_event event = qn_session_next(conn->session);
        if (event.type == QN_SESSION_NONE) break;
        on_session_event(conn, &event);
        is_used_up = slice_is_used_up(&conn->slice) || qn_session_received(conn->session) - n_frames >= TURN_FRAMES;
    }
    slice_end(&conn->slice);
    if (is_alive(conn) && is_used_up) {
        uv_read_stop((uv_stream_t *)&conn->tcp);
        backlog_add(conn->turn, &conn->backlog);
    } else if (is_alive(conn)) {
        uv_read_start((uv_stream_t *)&conn->tcp, on_alloc, on_read);
    }
    if (conn->state != CONN_CLOSED) note_life(conn);
    if (conn->state == CONN_CLOSED || qn_session_output(conn->session)->len == 0) return;
    outlet_mark(&conn->outlet); /* The session may have answered by itself: handshake, keep-alive. */
    check_queue(conn);
}

static void resume(struct backlog *backlog) {
    struct conn *conn = (struct conn *)((char *)backlog - offsetof(struct conn, backlog));
    slice_begin_next(&conn->slice, conn->turn);
    pump(conn);
}

static void on_read(uv_stream_t *stream, ssize_t n_read, const uv_buf_t *buf) {
    struct conn *conn = stream->data;
    if (n_read == 0 || conn->state == CONN_CLOSED) return;
    if (n_read < 0) {
        fail(conn, -QN_ECLOSED, 0, n_read == UV_EOF ? "the peer hung up" : uv_strerror((int)n_read), true);
        return;
    }
    if (conn->state == CONN_ENDING) return; /* Only the end of file matters now. */
    slice_begin(&conn->slice, conn->turn);
    int rc = qn_session_input(conn->session, buf->base, (size_t)n_read);
    if (rc == -QN_ENOMEM) {
        fail(conn, rc, 0, qn_err_what(rc), true);
        return;
    }
    pump(conn);
}

static void on_timer(uv_timer_t *timer) {
    struct conn *conn = timer->data;
    uint64_t now_ms = uv_now(conn->turn->loop);
    if (conn->state == CONN_ENDING) {
        close_handles(conn);
        return;
    }
    if (!conn->confirmed) {
        fail(conn, -QN_ETIMEOUT, 0, "the handshake took too long", true);
        return;
    }
    uint64_t idle_ms = conn->turn->idle_ms, dead_ms = conn->turn->dead_ms;
    if (now_ms > conn->due_ms + STALL_MS && now_ms > conn->heard_ms + idle_ms) conn->heard_ms = now_ms - idle_ms;
    if (now_ms - conn->rekeyed_ms >= CONN_REKEY_MS) rekey(conn);
    uint64_t silent_ms = now_ms - conn->heard_ms;
    if (silent_ms >= dead_ms && !conn->looked) {
        conn->looked = true;
        arm(conn, 1); /* The loop reads the sockets before that. */
    } else if (silent_ms >= dead_ms) {
        fail(conn, -QN_ETIMEOUT, 0, "the peer is silent", true);
    } else if (silent_ms >= idle_ms) {
        keep_alive(conn);
        arm(conn, dead_ms - silent_ms < idle_ms ? dead_ms - silent_ms : idle_ms);
    } else {
        arm(conn, idle_ms - silent_ms);
    }
}

void conn_send(struct conn *conn, const uint8_t *bytes, size_t len) {
    if (conn->state != CONN_OPEN) return;
    int rc = qn_session_send(conn->session, bytes, len);
    if (rc == 0) {
        conn->n_sent++;
        outlet_mark(&conn->outlet);
        check_queue(conn);
    } else if (rc != -QN_ECLOSED) {
        fail(conn, rc, 0, qn_err_what(rc), true);
    }
}

size_t conn_queued(const struct conn *conn) { return outlet_queued(&conn->outlet); }

/* A conn whose handles are initialised and nothing more. */
static int create(struct turn *turn, const struct qn_session_config *config, const struct conn_ops *ops, void *owner,
                  struct conn **ret_conn) {
    struct conn *conn = calloc(1, sizeof *conn);
    if (conn == NULL) return -QN_ENOMEM;
    int rc = qn_session_new(config, &conn->session);
    if (rc < 0) {
        free(conn);
        return rc;
    }
    uv_tcp_init(turn->loop, &conn->tcp);
    uv_timer_init(turn->loop, &conn->timer);
    conn->n_open = 2;
    conn->tcp.data = conn->timer.data = conn;
    conn->turn = turn;
    conn->ops = ops;
    conn->owner = owner;
    conn->created_ms = uv_now(turn->loop);
    conn->initiator = config->initiator;
    conn->plane = config->plane;
    conn->our_incarnation = config->incarnation;
    conn->peer = config->peer;
    conn->backlog.resume = resume;
    outlet_init(&conn->outlet, turn, (uv_stream_t *)&conn->tcp, qn_session_output(conn->session));
    conn->outlet.before_flush = before_flush;
    conn->outlet.on_written = on_written;
    *ret_conn = conn;
    return 0;
}

/* Gives up a conn its owner has not seen yet. */
static int abandon(struct conn *conn, int rc) {
    conn->ops = NULL;
    close_handles(conn);
    return rc;
}

static void begin_session(struct conn *conn) {
    conn->state = CONN_HANDSHAKE;
    conn->heard_ms = uv_now(conn->turn->loop);
    uv_tcp_nodelay(&conn->tcp, 1);
    slice_begin(&conn->slice, conn->turn);
    pump(conn); /* The initiator's first bytes are waiting. */
}

static void on_connect(uv_connect_t *request, int status) {
    struct conn *conn = request->data;
    if (status == UV_ECANCELED || conn->state != CONN_CONNECTING) return;
    if (status < 0) {
        fail(conn, -QN_EPEER_DOWN, 0, uv_strerror(status), true);
        return;
    }
    begin_session(conn);
}

uint64_t conn_origin(const struct sockaddr *address) {
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
    const uint8_t *bytes = v6->sin6_addr.s6_addr;
    uint64_t origin = 0;
    if (address->sa_family == AF_INET) return UINT64_C(0xffff) << 32 | ntohl(v4->sin_addr.s_addr);
    if (address->sa_family != AF_INET6) return 0;
    bool is_v4 = IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr);
    for (int i = 0; i < 8; i++) origin = origin << 8 | bytes[is_v4 ? 8 + i : i];
    return origin;
}

void conn_address(const struct sockaddr *address, char *text, size_t size) {
    if (uv_ip_name(address, text, size) < 0) snprintf(text, size, "?");
}

int conn_dial(struct turn *turn, const struct sockaddr *address, const struct qn_session_config *config,
              const struct conn_ops *ops, void *owner, struct conn **ret_conn) {
    struct conn *conn;
    int rc = create(turn, config, ops, owner, &conn);
    if (rc < 0) return rc;
    conn->connect.data = conn;
    conn_address(address, conn->address, sizeof conn->address);
    if (uv_tcp_connect(&conn->connect, &conn->tcp, address, on_connect) < 0) return abandon(conn, -QN_ESYSTEM);
    arm(conn, CONN_HANDSHAKE_MS);
    *ret_conn = conn;
    return 0;
}

int conn_accept(struct turn *turn, int fd, const struct sockaddr *from, const struct qn_session_config *config,
                const struct conn_ops *ops, void *owner, struct conn **ret_conn) {
    struct conn *conn;
    int rc = create(turn, config, ops, owner, &conn);
    if (rc < 0 || uv_tcp_open(&conn->tcp, fd) < 0) {
        close(fd);
        return rc < 0 ? rc : abandon(conn, -QN_ESYSTEM);
    }
    conn_address(from, conn->address, sizeof conn->address);
    conn->origin = conn_origin(from);
    arm(conn, CONN_HANDSHAKE_MS);
    *ret_conn = conn;
    begin_session(conn);
    return 0;
}
