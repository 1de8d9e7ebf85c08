/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_DAEMON_CONTROL_H
#define QN_DAEMON_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "acceptor.h"
#include "base/map.h"
#include "events.h"
#include "wire/arena.h"

/* The control API: a Unix socket only its owner can open (mode 0600). A message is its length (u32, big endian) and a
 * packed ControlRequest or ControlResponse. */

struct daemon;
struct client;

#define CONTROL_FRAME_MAX (1024 * 1024)
#define CONTROL_CLIENTS_MAX 128
#define CONTROL_REQUEST_MS 10000             /* From its first byte to its last. */
#define CONTROL_QUEUE_SOFT (1024 * 1024)     /* A client that reads no faster is read no faster. */
#define CONTROL_QUEUE_HARD (4 * 1024 * 1024) /* It is dropped. */

struct control {
    struct daemon *daemon;
    struct acceptor acceptor;
    bool held;              /* A peer's queue is long: no new requests until it is shorter. */
    struct client *clients; /* Newest first. */
    struct qn_map by_id;
    uint64_t next_id;
    size_t n_clients, n_subscribers;
    struct events events;
    struct qn_arena arena;
    uint64_t n_requests, n_refused, n_slow; /* n_slow: clients and subscribers dropped for reading too slowly. */
};

/* Opens the socket named in the config, if any. -QN_ESYSTEM and a line in the log when that is impossible. */
int control_init(struct daemon *daemon);
void control_close(struct daemon *daemon); /* Writes what can be written at once, then closes everything. */
void control_release(struct daemon *daemon);

/* The first takes a packed ControlResponse, the second a packed EventInfo. */
void control_reply(struct daemon *daemon, uint64_t client, const uint8_t *bytes, size_t len);
void control_event(struct daemon *daemon, const uint8_t *bytes, size_t len);

void control_hold(struct control *control);   /* Reads no more requests... */
void control_resume(struct control *control); /* ...until now. */

#endif
