/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: everything is opened, the service manager is told READY, and the loop runs. Each message, request,
 * session or finished job becomes one step of the node; its actions are carried out before the next step. Once a turn
 * the node's due timers run, what was caused is written, and the timerfd is set to the node's next deadline. SIGTERM or
 * SIGINT asks the node for an orderly end; when it is done (or after DAEMON_STOP_MS) sessions say Close, all handles
 * are closed, and the loop runs dry.
 *
 * What is open stays open; the rest is given up before the first byte of a stranger is read (sandbox.h).
 *
 * Failure modes: a port or socket that cannot be opened ends the start with status 1 and the reason in the log. An
 * action may itself cause an event (a full queue takes a session down): it waits until the actions at hand are done. A
 * second signal ends the process at once. Memory that runs out ends it too: peers see broken sessions and recover,
 * which is better than a node that has forgotten half a step. SIGHUP takes new initial secrets; it reads the topology
 * file again and says what is in it, which only a restart applies. */
#include "daemon.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/err.h"
#include "qnet/v1/control.pb-c.h"
#include "secrets.h"

#define TIMEOUT_STEPS_MAX 64        /* Steps for time in one turn, before the sockets have theirs. */
#define RESEND_WALL_NS 1000000000.0 /* A message unacknowledged for a second is sent again. */
#define CLOSE_MS 1500               /* For the last bytes, at the end. */

void daemon_fatal(struct daemon *daemon, const char *why) {
    log_write(&daemon->log, LOG_ERROR, "fatal", NULL, "%s", why);
    _exit(1);
}

/* --- Stepping the node --- */

static void log_event(struct daemon *daemon, const uint8_t *bytes, size_t len) {
    Qnet__V1__EventInfo *event = qn_wire_unpack(&qnet__v1__event_info__descriptor, &daemon->arena, bytes, len);
    if (event == NULL) return;
    enum log_level level = event->level > LOG_ERROR ? LOG_ERROR : (enum log_level)event->level;
    log_write(&daemon->log, level, event->code, *event->subject != '\0' ? event->subject : NULL, "%s", event->text);
}

static void on_stopped(struct daemon *daemon);

/* For tests (QNETD_CRASH_AFTER_SENT): what was sent so far arrives, and nothing after it. */
static void crash(struct lane *lane) {
    if (lane->conn != NULL) outlet_flush(&lane->conn->outlet);
    _exit(128 + SIGKILL); /* To peers the same as being killed, which the sandbox would not allow. */
}

static void carry_out(struct daemon *daemon, const struct qn_actions *actions) {
    for (size_t i = 0; i < actions->len; i++) {
        const struct qn_action *action = &actions->list[i];
        const uint8_t *bytes = qn_action_bytes(actions, action);
        struct peer *peer;
        switch (action->type) {
        case QN_ACTION_SEND:
            peer = peers_find(&daemon->peers, action->peer);
            assert(peer != NULL); /* The node sends to neighbours only. */
            lane_send(&peer->lanes[action->plane], bytes, action->len);
            if (daemon->crash_after > 0 && --daemon->crash_after == 0) crash(&peer->lanes[action->plane]);
            break;
        case QN_ACTION_REPLY:
            control_reply(daemon, action->client, bytes, action->len);
            break;
        case QN_ACTION_EVENT:
            log_event(daemon, bytes, action->len);
            control_event(daemon, bytes, action->len);
            break;
        case QN_ACTION_JOB:
            jobs_start(daemon, action->job);
            break;
        case QN_ACTION_CUT:
            peer = peers_find(&daemon->peers, action->peer);
            if (peer != NULL) lane_cut(&peer->lanes[action->plane], action->on);
            break;
        case QN_ACTION_STORE:
            store_submit(&daemon->store, action->store);
            break;
        case QN_ACTION_INCARNATION:
            daemon->incarnation = action->incarnation;
            peers_renew(daemon);
            break;
        case QN_ACTION_STOPPED:
            on_stopped(daemon);
            break;
        }
    }
}

static int step(struct daemon *daemon, struct qn_event *event) {
    const struct qn_actions *actions;
    event->now_ns = clock_now_ns(&daemon->clock);
    daemon->stepping = true;
    daemon->n_steps++;
    int rc = qn_node_step(daemon->node, event, &actions);
    if (rc == -QN_ENOMEM) daemon_fatal(daemon, "out of memory");
    carry_out(daemon, actions);
    daemon->stepping = false;
    return rc;
}

static void postpone(struct daemon *daemon, const struct qn_event *event) {
    assert(event->bytes == NULL); /* They would be gone by then. */
    if (daemon->n_pending == daemon->cap_pending) {
        size_t cap = daemon->cap_pending == 0 ? 16 : daemon->cap_pending * 2;
        struct qn_event *list = realloc(daemon->pending, cap * sizeof *list);
        if (list == NULL) daemon_fatal(daemon, "out of memory");
        daemon->pending = list;
        daemon->cap_pending = cap;
    }
    daemon->pending[daemon->n_pending++] = *event;
}

int daemon_event(struct daemon *daemon, const struct qn_event *event) {
    if (daemon->stepping) {
        postpone(daemon, event);
        return 0;
    }
    if (daemon->state == DAEMON_CLOSING) return 0; /* The node has said its last word. */
    struct qn_event first = *event;
    int rc = step(daemon, &first);
    for (size_t i = 0; i < daemon->n_pending; i++) { /* Steps may add more. */
        struct qn_event next = daemon->pending[i];
        step(daemon, &next);
    }
    daemon->n_pending = 0;
    return rc;
}

/* --- Time --- */

static void on_wake(uv_poll_t *poll, int status, int events) {
    struct daemon *daemon = poll->data;
    uint64_t n_expired;
    (void)status;
    (void)events;
    if (read(daemon->wake_fd, &n_expired, sizeof n_expired) != sizeof n_expired) return;
    daemon->wake_at_ns = UINT64_MAX; /* It has fired: not set any more. The prepare handle steps the node. */
}

/* Once a turn, before the loop waits for input. */
static void before_wait(void *context) {
    struct daemon *daemon = context;
    for (int i = 0; i < TIMEOUT_STEPS_MAX && daemon->state != DAEMON_CLOSING; i++) {
        uint64_t now_ns = clock_now_ns(&daemon->clock), due_ns = qn_node_deadline_ns(daemon->node);
        if (due_ns > now_ns) break;
        daemon->lag_ns = (uint64_t)((double)(now_ns - due_ns) / daemon->clock.scale);
        daemon_event(daemon, &(struct qn_event){.type = QN_EVENT_TIME});
    }
    if (daemon->control.held && !peers_are_congested(&daemon->peers)) control_resume(&daemon->control);
}

/* Sets the timerfd, if the node's deadline has changed. */
static void before_sleep(void *context) {
    struct daemon *daemon = context;
    uint64_t due_ns = daemon->state == DAEMON_CLOSING ? QN_NEVER : qn_node_deadline_ns(daemon->node);
    uint64_t at_ns = due_ns == QN_NEVER ? UINT64_MAX : clock_to_monotonic_ns(&daemon->clock, due_ns);
    if (at_ns == daemon->wake_at_ns) return;
    daemon->wake_at_ns = at_ns;
    struct itimerspec at = {0}; /* All zero: not set. */
    if (at_ns != UINT64_MAX) {
        at.it_value.tv_sec = (time_t)(at_ns / 1000000000u);
        at.it_value.tv_nsec = (long)(at_ns % 1000000000u);
    }
    if (timerfd_settime(daemon->wake_fd, TFD_TIMER_ABSTIME, &at, NULL) < 0)
        daemon_fatal(daemon, "the node's timer cannot be set");
}

/* --- The end --- */

static void on_watchdog(uv_timer_t *timer) {
    struct daemon *daemon = timer->data;
    notify_send(&daemon->notify, "WATCHDOG=1");
}

/* The last connections did not end in time: nothing is lost by leaving them. */
static void on_close_timeout(uv_timer_t *timer) { uv_stop(timer->loop); }

/* Closes everything; the loop ends when the last handle has. */
static void close_all(struct daemon *daemon) {
    if (daemon->state == DAEMON_CLOSING) return;
    daemon->state = DAEMON_CLOSING;
    listeners_close(daemon);
    descriptors_close(daemon);
    ops_close(daemon);
    control_close(daemon);
    peers_stop(daemon);
    jobs_close(daemon);
    store_close(&daemon->store);
    for (int i = 0; i < 3; i++) uv_close((uv_handle_t *)&daemon->signals[i], NULL);
    uv_close((uv_handle_t *)&daemon->wake, NULL);
    uv_close((uv_handle_t *)&daemon->watchdog, NULL);
    uv_timer_start(&daemon->stop_timer, on_close_timeout, CLOSE_MS, 0);
    uv_unref((uv_handle_t *)&daemon->stop_timer);
}

static void on_stopped_soon(uv_timer_t *timer) { close_all(timer->data); }

/* From within an action: the rest of the actions, replies among them, come first. */
static void on_stopped(struct daemon *daemon) {
    if (daemon->state != DAEMON_CLOSING) uv_timer_start(&daemon->stop_timer, on_stopped_soon, 0, 0);
}

static void on_stop_timeout(uv_timer_t *timer) {
    struct daemon *daemon = timer->data;
    log_write(&daemon->log, LOG_WARNING, "stop_timeout", NULL, "not everything could be handed over in %d ms",
              DAEMON_STOP_MS);
    close_all(daemon);
}

static void on_stop_begin(uv_timer_t *timer) {
    struct daemon *daemon = timer->data;
    uv_timer_start(&daemon->stop_timer, on_stop_timeout, DAEMON_STOP_MS, 0);
    daemon_event(daemon, &(struct qn_event){.type = QN_EVENT_STOP});
}

void daemon_stop(struct daemon *daemon, const char *why) {
    if (daemon->state != DAEMON_RUNNING) return;
    daemon->state = DAEMON_STOPPING;
    log_write(&daemon->log, LOG_INFO, "stopping", NULL, "%s", why);
    notify_send(&daemon->notify, "STOPPING=1");
    uv_timer_start(&daemon->stop_timer, on_stop_begin, 0, 0); /* Not in the middle of a client's request. */
}

/* --- Signals --- */

/* Landlock knows the file we started with; one that has been put in its place is another. */
static bool is_hidden(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) close(fd);
    return fd < 0 && errno == EACCES && access(path, R_OK) == 0;
}

static void check_topology(struct daemon *daemon) {
    const char *path = daemon->config->options.topology_path;
    struct qn_topology topology = {0};
    uint8_t digest[32];
    if (is_hidden(path)) {
        log_write(&daemon->log, LOG_WARNING, "reload_hidden", path,
                  "another file is in its place, which the sandbox hides; check it with qnetd --check; a restart "
                  "applies it");
        return;
    }
    int rc = config_read_topology(path, &topology, digest);
    if (rc < 0) {
        log_write(&daemon->log, LOG_ERROR, "reload_refused", path,
                  "the file has errors (above); the configuration in use stays");
    } else if (memcmp(digest, daemon->config->file_digest, sizeof digest) == 0) {
        log_write(&daemon->log, LOG_INFO, "reload_unchanged", path, "the file is the one in use");
    } else {
        log_write(&daemon->log, LOG_WARNING, "reload_needs_restart", path,
                  "the file is valid but not the one in use; changes take effect only when the node is restarted");
    }
    if (rc == 0) qn_topology_release(&topology);
}

/* Those that have come since the start; bad ones are named, as at the start, and change nothing. */
static void take_secrets(struct daemon *daemon) {
    struct config fresh = *daemon->config;
    fresh.secrets = NULL;
    fresh.n_secrets = 0;
    (void)secrets_load(&fresh);
    for (size_t i = 0; i < fresh.n_secrets; i++)
        daemon_event(daemon, &(struct qn_event){.type = QN_EVENT_SECRET,
                                                .peer = fresh.secrets[i].peer,
                                                .bytes = fresh.secrets[i].bytes,
                                                .len = fresh.secrets[i].len});
    secrets_release(&fresh);
}

static void on_signal(uv_signal_t *handle, int number) {
    struct daemon *daemon = handle->data;
    if (number == SIGHUP) {
        check_topology(daemon);
        take_secrets(daemon);
    } else if (daemon->state == DAEMON_RUNNING) {
        daemon_stop(daemon, number == SIGTERM ? "SIGTERM" : "SIGINT");
    } else {
        _exit(128 + number);
    }
}

/* --- Start --- */

static int new_node(struct daemon *daemon) {
    struct qn_store_record *restored = NULL;
    size_t n_restored = 0;
    int rc = store_open(&daemon->store, daemon, &restored, &n_restored);
    if (rc < 0) return rc;
    struct qn_node_config config = {
        .topology = &daemon->config->topology,
        .self = daemon->config->self,
        .incarnation = daemon->incarnation,
        .now_ns = clock_now_ns(&daemon->clock),
        .resend_ns = (uint64_t)(RESEND_WALL_NS * daemon->clock.scale),
        .threads = daemon->jobs.threads_wanted,
        .software = DAEMON_SOFTWARE,
        .restored = restored,
        .n_restored = n_restored,
        .secrets = daemon->config->secrets,
        .n_secrets = daemon->config->n_secrets,
    };
    randombytes_buf(config.secret, sizeof config.secret);
    rc = qn_node_new(&config, &daemon->node);
    sodium_memzero(config.secret, sizeof config.secret);
    store_free_restored(restored, n_restored);
    if (rc == 0) rc = store_start(&daemon->store);
    return rc;
}

static void init_handles(struct daemon *daemon) {
    static const int numbers[3] = {SIGTERM, SIGINT, SIGHUP};
    turn_init(&daemon->turn, &daemon->loop);
    if (jobs_init(daemon) < 0) daemon_fatal(daemon, "out of file descriptors");
    /* A peer that hangs must be noticed well before it counts as dead. */
    double patience_ms = daemon->config->topology.node_dead_after_s * 1000 / 2;
    daemon->turn.dead_ms = patience_ms < CONN_DEAD_MS ? (uint64_t)patience_ms + 1 : CONN_DEAD_MS;
    daemon->turn.idle_ms = daemon->turn.dead_ms / 3 < CONN_IDLE_MS ? daemon->turn.dead_ms / 3 : CONN_IDLE_MS;
    daemon->turn.before_wait = before_wait;
    daemon->turn.before_sleep = before_sleep;
    daemon->turn.context = daemon;
    for (int i = 0; i < 3; i++) {
        uv_signal_init(&daemon->loop, &daemon->signals[i]);
        daemon->signals[i].data = daemon;
        uv_signal_start(&daemon->signals[i], on_signal, numbers[i]);
    }
    uv_timer_init(&daemon->loop, &daemon->stop_timer);
    uv_timer_init(&daemon->loop, &daemon->watchdog);
    daemon->stop_timer.data = daemon->watchdog.data = daemon;
    uv_poll_init(&daemon->loop, &daemon->wake, daemon->wake_fd);
    daemon->wake.data = daemon;
    uv_poll_start(&daemon->wake, UV_READABLE, on_wake);
}

/* No thread may have been started before: they are, with the first name that is looked up or job that is done. */
static int enter_sandbox(struct daemon *daemon) {
    const struct config *config = daemon->config;
    const struct options *options = &config->options;
    struct sandbox_plan plan = {.mode = options->sandbox,
                                .user = &options->user,
                                .state_path = config_state_directory(options),
                                .control_path = config->control_path,
                                .topology_path = options->topology_path};
    uint16_t *ports = calloc(daemon->peers.len * 2 + 1, sizeof *ports);
    if (ports == NULL) daemon_fatal(daemon, "out of memory");
    for (size_t i = 0; i < daemon->peers.len; i++) {
        const struct qn_topo_node *peer = &config->topology.nodes[daemon->peers.list[i].node];
        ports[plan.n_ports++] = peer->classical.port;
        ports[plan.n_ports++] = peer->quantum.port;
    }
    plan.ports = ports;
    int rc = sandbox_enter(&plan, &daemon->sandbox);
    free(ports);
    if (rc < 0) {
        log_write(&daemon->log, LOG_ERROR, "sandbox_failed", NULL, "%s", daemon->sandbox.text);
    } else {
        bool is_less = options->sandbox != SANDBOX_OFF && (daemon->sandbox.landlock == 0 || !daemon->sandbox.seccomp);
        log_write(&daemon->log, is_less ? LOG_WARNING : LOG_INFO, "sandbox", NULL, "%s", daemon->sandbox.text);
    }
    return rc;
}

/* Whatever can fail; the neighbours are dialled only when nothing has. */
static int open_all(struct daemon *daemon) {
    int rc = peers_init(daemon);
    descriptors_init(daemon);
    int rc_listeners = listeners_init(daemon), rc_control = control_init(daemon), rc_ops = ops_init(daemon);
    if (rc == 0) rc = rc_listeners;
    if (rc == 0) rc = rc_control;
    if (rc == 0) rc = rc_ops;
    if (rc == 0) rc = enter_sandbox(daemon);
    if (rc < 0) return rc; /* The log has why. */
    rc = qn_arena_init(&daemon->arena, QN_ARENA_SIZE);
    if (rc == 0) rc = new_node(daemon); /* Its key store is the user's, and has a thread. */
    if (rc == 0)
        peers_dial(daemon);
    else
        log_write(&daemon->log, LOG_ERROR, "start_failed", NULL, "%s (%s)", qn_err_what(rc), qn_err_todo(rc));
    return rc;
}

static void announce(struct daemon *daemon) {
    const struct qn_topo_node *self = &daemon->config->topology.nodes[daemon->config->self];
    log_write(&daemon->log, LOG_INFO, "started", NULL,
              "%s: %s %s of network %s, %zu neighbours, incarnation %016llx, %.1f ms", DAEMON_SOFTWARE,
              qn_role_name(self->role), self->name, daemon->config->topology.name, daemon->peers.len,
              (unsigned long long)daemon->incarnation, (double)(clock_monotonic_ns() - daemon->started_ns) / 1e6);
    notify_send(&daemon->notify, "READY=1");
    if (daemon->notify.watchdog_ms > 0)
        uv_timer_start(&daemon->watchdog, on_watchdog, daemon->notify.watchdog_ms, daemon->notify.watchdog_ms);
}

static void release_all(struct daemon *daemon) {
    peers_release(daemon);
    control_release(daemon);
    jobs_release(&daemon->jobs);
    qn_node_free(daemon->node);
    if (daemon->arena.block != NULL) qn_arena_release(&daemon->arena);
    notify_release(&daemon->notify);
    close(daemon->wake_fd);
    free(daemon->pending);
}

int daemon_run(const struct config *config) {
    struct daemon *daemon = calloc(1, sizeof *daemon);
    if (daemon == NULL) return 1;
    daemon->config = config;
    daemon->started_ns = clock_monotonic_ns();
    log_init(&daemon->log, config->options.log_format, config->options.log_level,
             config->topology.nodes[config->self].name);
    clock_init(&daemon->clock, config->topology.time_scale);
    randombytes_buf(&daemon->incarnation, sizeof daemon->incarnation);
    daemon->incarnation |= 1; /* Zero means "not known". */
    daemon->wake_at_ns = UINT64_MAX;
    daemon->wake_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (daemon->wake_fd < 0 || uv_loop_init(&daemon->loop) < 0) daemon_fatal(daemon, "out of file descriptors");
    const char *crash_after = getenv("QNETD_CRASH_AFTER_SENT");
    daemon->crash_after = crash_after != NULL ? strtoull(crash_after, NULL, 10) : 0;
    notify_init(&daemon->notify);
    init_handles(daemon);
    int rc = open_all(daemon);
    if (rc == 0) {
        announce(daemon);
        uv_run(&daemon->loop, UV_RUN_DEFAULT);
    } else {
        close_all(daemon);
        uv_run(&daemon->loop, UV_RUN_DEFAULT);
    }
    turn_close(&daemon->turn);
    uv_close((uv_handle_t *)&daemon->stop_timer, NULL);
    uv_run(&daemon->loop, UV_RUN_NOWAIT);
    log_write(&daemon->log, LOG_INFO, "stopped", NULL, rc == 0 ? "stopped" : "could not start");
    /* Connections that did not end in time still hang on the loop: then their memory goes with the process. */
    if (uv_loop_close(&daemon->loop) == 0) {
        release_all(daemon);
        free(daemon);
    }
    return rc == 0 ? 0 : 1;
}
