/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_DAEMON_DAEMON_H
#define QN_DAEMON_DAEMON_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/rate.h"
#include "clock.h"
#include "config.h"
#include "control.h"
#include "descriptors.h"
#include "jobs.h"
#include "listener.h"
#include "log.h"
#include "node/node.h"
#include "notify.h"
#include "ops.h"
#include "peer.h"
#include "sandbox.h"
#include "store.h"
#include "turn.h"
#include "wire/arena.h"

/* One process, one node: owns the node core, steps it with what the sockets, timers and clients bring, and carries out
 * its actions. Everything runs on one loop and one thread, but for the node's jobs. */

#define DAEMON_SOFTWARE "qnetd " QN_VERSION
#define DAEMON_STOP_MS 5000

enum daemon_state { DAEMON_RUNNING, DAEMON_STOPPING, DAEMON_CLOSING };

struct daemon {
    uv_loop_t loop;
    const struct config *config;
    struct log log;
    struct qn_clock clock;
    struct turn turn;
    enum daemon_state state;
    uint64_t started_ns; /* Monotonic. */
    uint64_t incarnation;
    struct qn_node *node;
    struct qn_arena arena;    /* For events on their way to the log. */
    bool stepping;            /* Within qn_node_step's actions: new events wait in `pending`. */
    struct qn_event *pending; /* Owned; none of them has bytes. */
    size_t n_pending, cap_pending;
    uint64_t n_steps;
    uint64_t crash_after; /* Messages still to be sent before the process kills itself, for tests; 0: never. */
    uv_poll_t wake; /* Of wake_fd, a timerfd: libuv's timers are too coarse. */
    int wake_fd;
    uint64_t wake_at_ns; /* Monotonic; what wake_fd is set to. */
    uint64_t lag_ns;     /* How late the last wake-up of the node was. */
    uv_signal_t signals[3];
    uv_timer_t stop_timer, watchdog;
    struct peers peers;
    struct descriptors descriptors;
    struct listener listeners[2];
    struct qn_rate arrivals; /* Of connections on both ports, by origin. */
    struct control control;
    struct jobs jobs;
    struct store store;
    struct ops ops;
    struct notify notify;
    struct sandbox_report sandbox;
};

/* Runs until told to stop. The exit status: 0, or 1 after an error that is in the log. */
int daemon_run(const struct config *config);

/* Steps the node, now or, when called from within an action, right after it. Fills in now_ns. An event with bytes must
 * not come from within an action. Returns what the step returned (0 if it waits). */
int daemon_event(struct daemon *daemon, const struct qn_event *event);

void daemon_stop(struct daemon *daemon, const char *why); /* Begins an orderly end. */
/* For what leaves no way to go on (no memory): logs, exits with status 1. Peers see a broken session and recover. */
void daemon_fatal(struct daemon *daemon, const char *why) __attribute__((noreturn));

#endif
