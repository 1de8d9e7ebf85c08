/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_DAEMON_LISTENER_H
#define QN_DAEMON_LISTENER_H

#include <uv.h>

#include "acceptor.h"
#include "conn.h"

struct daemon;

#define LISTENER_PENDING_MAX 64         /* Handshakes under way, both planes together. */
#define LISTENER_PENDING_ADDRESS_MAX 16 /* Of one address. */

/* Connections of one address in a second, and at once. */
#define LISTENER_RATE 20
#define LISTENER_BURST 5
/* The other nodes of a testbed may all share one address, and come at the same time: each neighbour that dials us adds
 * so much to the burst and to both limits of pending handshakes. */
#define LISTENER_PER_PEER 2

enum refusal { REFUSED_RATE, REFUSED_FULL, REFUSED_N }; /* Names in refusal_names. */
extern const char *const refusal_names[REFUSED_N];

/* Accepts the sessions other nodes dial, on one port a plane. */
struct listener {
    struct daemon *daemon;
    enum qn_plane_id plane;
    struct acceptor acceptor;
    struct conn *pending; /* Accepted, handshake not finished. */
    unsigned n_pending;
    uint64_t n_accepted, n_refused[REFUSED_N];
    uint64_t n_failures[8]; /* Handshakes with strangers that failed; enum lane_failure. */
};

/* After descriptors_init. Both ports, or an error in the log and -QN_ESYSTEM. */
int listeners_init(struct daemon *daemon);
void listeners_close(struct daemon *daemon); /* Accepts no more, and drops what is pending. */

/* The first address a host and port resolve to, for binding; "" is every address. 0 or a libuv error. */
int listener_resolve(uv_loop_t *loop, const char *host, uint16_t port, struct sockaddr_storage *ret_address);
socklen_t listener_address_len(const struct sockaddr_storage *address);

#endif
