/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_DAEMON_PEER_H
#define QN_DAEMON_PEER_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "conn.h"

/* The neighbours of this node: two lanes each, one a plane, with at most one live session on a lane. */

struct daemon;
struct peer;

#define PEER_OVER_MAX 4

enum lane_failure { /* Why a session could not be set up, or ended. Names in lane_failure_names. */
                    FAIL_UNREACHABLE,
                    FAIL_TIMEOUT,
                    FAIL_AUTH,
                    FAIL_VERSION,
                    FAIL_TOPOLOGY,
                    FAIL_PROTOCOL,
                    FAIL_OVERLOAD,
                    FAIL_OTHER,
                    FAIL_N
};
extern const char *const lane_failure_names[FAIL_N];
enum lane_failure lane_failure_of(int error);

struct lane {
    struct peer *peer;
    enum qn_plane_id plane;
    struct conn *conn;    /* Live: the node has been told of it. NULL: down. */
    struct conn *dialing; /* On its way to become live; only where we dial. */
    uv_getaddrinfo_t resolve;
    bool resolving;
    bool cut; /* By an operator: no session until it is restored. */
    uv_timer_t retry;
    unsigned attempts;   /* In vain, since the last session that lasted. */
    uint64_t n_sessions; /* Ever live. */
    uint64_t n_dropped;  /* Envelopes the node sent while the lane was down. */
    uint64_t n_failures[FAIL_N];
    uint64_t sent_before, received_before, rekeys_before; /* Over earlier sessions. */
};

struct peer {
    struct daemon *daemon;
    uint16_t node;    /* Index in the topology. */
    const char *name; /* Borrowed from the topology. */
    bool dials_us;    /* Its index is lower; else we dial it. */
    bool is_known;    /* `incarnation` is valid. */
    uint64_t incarnation;
    uint64_t over[PEER_OVER_MAX]; /* Incarnations that have ended: never taken again. */
    unsigned n_over;
    struct lane lanes[2];
};

struct peers {
    struct peer *list; /* Owned, by rising index. */
    size_t len;
    unsigned n_dialers; /* How many of them dial us. */
    bool stopping;
};

int peers_init(struct daemon *daemon);   /* Finds the neighbours. -QN_ENOMEM. */
void peers_dial(struct daemon *daemon);  /* Begins to dial those that do not dial us. */
void peers_renew(struct daemon *daemon); /* Ends every session, to begin them anew with daemon->incarnation. */
void peers_stop(struct daemon *daemon);  /* Says Close SHUTDOWN on every session and dials no more. */
void peers_release(struct daemon *daemon);

bool peers_are_congested(const struct peers *peers); /* A queue is still above half of CONN_QUEUE_SOFT. */

struct peer *peers_find(const struct peers *peers, uint16_t node);                      /* NULL if no neighbour. */
struct peer *peers_find_key(const struct daemon *daemon, const uint8_t public_key[32]); /* Only one that dials us. */

void lane_send(struct lane *lane, const uint8_t *bytes, size_t len); /* Dropped if the lane is down. */
void lane_cut(struct lane *lane, bool on);
/* A conn the listener has accepted is open; the lane takes it, or closes it with the reason. */
void lane_take(struct lane *lane, struct conn *conn);

/* What every session of this node starts with; the caller sets initiator, plane, peer and remote key, and wipes it. */
void peers_session_config(const struct daemon *daemon, struct qn_session_config *ret_config);

#endif
