/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: the soft limit is raised to what the node can need at most (the hard limit allowing), and the kinds of
 * connections get their usual limits.
 *
 * Failure modes: a hard limit below that. Then connections of strangers, clients and probes are bounded to shares of
 * what is left after files and sessions with neighbours, and the log says so. Should all descriptors be taken
 * nonetheless (the limit was lowered while running, the whole machine has none left), the ports rest (acceptor.h) and
 * dialling is tried again; sessions go on as they are. A look every LOOK_MS tells the log. */
#include "descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon.h"

#define LOOK_MS 2000
#define FILES 48   /* Loop, signals, listeners, standard streams, key store, and some to spare. */
#define PER_PEER 4 /* Two planes; a session and the one that takes its place. */
#define SHARES_MIN 4

static unsigned share(uint64_t free, unsigned part, unsigned most) {
    uint64_t n = free / part;
    return n > most ? most : n < SHARES_MIN ? SHARES_MIN : (unsigned)n;
}

/* Looks whether a descriptor could be had. */
static void on_look(uv_timer_t *timer) {
    struct descriptors *descriptors = timer->data;
    struct log *log = &descriptors->daemon->log;
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    bool is_none_left = fd < 0 && (errno == EMFILE || errno == ENFILE);
    if (fd >= 0) close(fd);
    if (is_none_left) {
        descriptors->n_exhausted++;
        log_write(log, LOG_ERROR, "descriptors_exhausted", NULL,
                  "no file descriptor is left: new connections are dropped and dialling fails, sessions go on");
    } else if (descriptors->none_left) {
        log_write(log, LOG_INFO, "descriptors_back", NULL, "there are file descriptors again");
    }
    descriptors->none_left = is_none_left;
}

void descriptors_init(struct daemon *daemon) {
    struct descriptors *descriptors = &daemon->descriptors;
    struct rlimit limit = {0};
    uint64_t fixed = FILES + PER_PEER * (uint64_t)daemon->peers.len;
    uint64_t need = fixed + LISTENER_PENDING_MAX + CONTROL_CLIENTS_MAX + OPS_CLIENTS_MAX;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < need && limit.rlim_cur < limit.rlim_max) {
        struct rlimit raised = {.rlim_cur = limit.rlim_max < need ? limit.rlim_max : need, .rlim_max = limit.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
    }
    uint64_t free = limit.rlim_cur > fixed ? limit.rlim_cur - fixed : 0;
    *descriptors = (struct descriptors){.daemon = daemon,
                                        .handshakes = share(free, 4, LISTENER_PENDING_MAX),
                                        .control = share(free, 2, CONTROL_CLIENTS_MAX),
                                        .operations = share(free, 4, OPS_CLIENTS_MAX)};
    if (limit.rlim_cur < need)
        log_write(&daemon->log, LOG_WARNING, "descriptors_few", NULL,
                  "the limit of %llu file descriptors is below the %llu that may be needed: at most %u handshakes, %u "
                  "control clients and %u probes at a time",
                  (unsigned long long)limit.rlim_cur, (unsigned long long)need, descriptors->handshakes,
                  descriptors->control, descriptors->operations);
    uv_timer_init(&daemon->loop, &descriptors->timer);
    descriptors->timer.data = descriptors;
    uv_timer_start(&descriptors->timer, on_look, LOOK_MS, LOOK_MS);
    uv_unref((uv_handle_t *)&descriptors->timer);
}

void descriptors_close(struct daemon *daemon) {
    if (daemon->descriptors.daemon != NULL) uv_close((uv_handle_t *)&daemon->descriptors.timer, NULL);
    daemon->descriptors.daemon = NULL;
}
