/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_DAEMON_CONN_H
#define QN_DAEMON_CONN_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "turn.h"
#include "wire/session.h"

/* One TCP connection with a session over it. Reconnecting makes a new conn: no handle is used twice.
 *
 *   CONNECTING -> HANDSHAKE -> OPEN -> ENDING -> CLOSED
 *
 * An owner gets a conn from conn_dial or conn_accept, and loses it when it calls conn_close or when on_closed is
 * called, whichever comes first; after that the conn says its Close, waits a moment for the peer to hang up, and frees
 * itself. */

#define CONN_HANDSHAKE_MS 5000
#define CONN_IDLE_MS 5000  /* Silent for so long: ask whether the peer is alive (turn.h: less with a short */
#define CONN_DEAD_MS 15000 /* node_dead_after). Silent for so long: it is not. */
#define CONN_LINGER_MS 1000
#define CONN_REKEY_MS 120000 /* A key seals for so long. */

#define CONN_QUEUE_SOFT (1024 * 1024)     /* Stop producing. */
#define CONN_QUEUE_HARD (4 * 1024 * 1024) /* Give the peer up. */

enum conn_state { CONN_CONNECTING, CONN_HANDSHAKE, CONN_OPEN, CONN_ENDING, CONN_CLOSED };

struct conn;

/* Why a session ended. The strings are borrowed for the call. */
struct conn_end {
    int error;          /* -QN_E*; 0 if the peer ended it in an orderly way. */
    uint32_t reason;    /* CloseReason of the peer, or 0. */
    const char *detail; /* For people; never NULL. */
};

struct conn_ops {
    /* The session is open, and the peer has been heard over it: a peer that refuses us after the handshake never gets
     * so far. */
    void (*on_open)(struct conn *conn);
    void (*on_envelope)(struct conn *conn, const uint8_t *bytes, size_t len);
    void (*on_closed)(struct conn *conn, const struct conn_end *end);
};

struct conn {
    uv_tcp_t tcp;
    uv_timer_t timer;
    uv_connect_t connect;
    uv_shutdown_t shutdown;
    unsigned n_open; /* Handles whose close callback has not run yet. */
    enum conn_state state;
    bool initiator, confirmed;
    bool shutting; /* uv_shutdown has been called. */
    uint16_t peer; /* Known from the start when we dial; else once open. */
    enum qn_plane_id plane;
    uint64_t our_incarnation; /* As we told it. */
    uint64_t incarnation;     /* Of the peer; set when open, as are version and software. */
    uint32_t version;         /* Of the protocol. */
    char software[48];
    uint64_t created_ms, opened_ms, heard_ms, due_ms, rekeyed_ms; /* Of the loop's clock. */
    uint64_t n_heard;                                             /* Whole frames, when last looked at. */
    bool looked; /* Once more at the socket, before silence is taken for death. */
    struct slice slice;
    uint64_t rtt_ns;             /* Last measured; 0: not yet. */
    uint64_t n_sent, n_received; /* Envelopes. */
    uint64_t n_rekeys;
    char address[64]; /* Of the other end, for people. */
    uint64_t origin;  /* The same for counting: an IPv4 address, or the network of an IPv6 one. */
    struct qn_session *session;
    struct outlet outlet;
    struct backlog backlog;
    struct turn *turn;
    const struct conn_ops *ops; /* NULL when nobody owns it any more. */
    void *owner;
    struct conn *previous, *next; /* For the owner's list. */
};

/* Both take `config` as it is (the session copies what it needs; the caller wipes its keys). On failure nothing is left
 * over and no callback runs: -QN_ENOMEM, -QN_ESYSTEM. */
int conn_dial(struct turn *turn, const struct sockaddr *address, const struct qn_session_config *config,
              const struct conn_ops *ops, void *owner, struct conn **ret_conn);
/* Takes `fd`, even on failure. */
int conn_accept(struct turn *turn, int fd, const struct sockaddr *from, const struct qn_session_config *config,
                const struct conn_ops *ops, void *owner, struct conn **ret_conn);

/* Adds an envelope to what this turn writes. May call on_closed (when the queue has reached its hard limit). */
void conn_send(struct conn *conn, const uint8_t *bytes, size_t len);
size_t conn_queued(const struct conn *conn);

/* The owner ends it: on_closed is not called. `reason` is a CloseReason. */
void conn_close(struct conn *conn, uint32_t reason, const char *detail);
/* The same without a word to the peer. */
void conn_drop(struct conn *conn);

/* IPv4 in the lower 32 bits under 0xffff; the upper 64 bits of IPv6, of which a host has all the lower ones. */
uint64_t conn_origin(const struct sockaddr *address);
void conn_address(const struct sockaddr *address, char *text, size_t size); /* Without the port; for people. */

#endif
