/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: the process's numbers, then the sessions', then what the node says of itself. Names are prefixed qnetd_
 * (process_ for what every exporter has), in base units; labels are bounded by the topology.
 *
 * Failure modes: no memory, and the scrape fails. What /proc does not tell is left out. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "build.h"
#include "daemon.h"
#include "ops.h"

static const char *const plane_names[] = {"classical", "quantum"};

static int head(struct qn_buf *out, const char *name, const char *type, const char *help) {
    return qn_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static int single(struct qn_buf *out, const char *name, const char *type, const char *help, double value) {
    int rc = head(out, name, type, help);
    return rc < 0 ? rc : qn_buf_printf(out, "%s %.17g\n", name, value);
}

static double resident_bytes(void) {
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL) return 0;
    if (fscanf(file, "%*u %lu", &pages) != 1) pages = 0;
    fclose(file);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static double count_fds(void) {
    DIR *directory = opendir("/proc/self/fd");
    if (directory == NULL) return 0;
    double n = -3; /* ".", ".." and the directory itself. */
    while (readdir(directory) != NULL) n++;
    closedir(directory);
    return n;
}

static int write_sandbox(const struct daemon *daemon, struct qn_buf *out) {
    const struct sandbox_report *sandbox = &daemon->sandbox;
    int rc = head(out, "qnetd_sandbox_info", "gauge", "Always 1; what confines the process is in the labels.");
    if (rc < 0) return rc;
    return qn_buf_printf(out, "qnetd_sandbox_info{uid=\"%u\",no_new_privs=\"%d\",landlock=\"%d\",seccomp=\"%d\"} 1\n",
                         (unsigned)geteuid(), sandbox->no_new_privs, sandbox->landlock, sandbox->seccomp);
}

static int write_process(const struct daemon *daemon, struct qn_buf *out) {
    struct rusage usage;
    struct timespec wall;
    getrusage(RUSAGE_SELF, &usage);
    clock_gettime(CLOCK_REALTIME, &wall);
    double cpu_s = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                   (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    double uptime_s = (double)(clock_monotonic_ns() - daemon->started_ns) / 1e9;
    int rc = head(out, "qnetd_build_info", "gauge", "Always 1; what runs is in the labels.");
    if (rc == 0) rc = qn_buf_printf(out, "qnetd_build_info{version=\"%s\",build=\"%s\"} 1\n", QN_VERSION, QN_BUILD);
    if (rc == 0) rc = write_sandbox(daemon, out);
    if (rc == 0) rc = single(out, "process_cpu_seconds_total", "counter", "User and system time spent.", cpu_s);
    if (rc == 0) rc = single(out, "process_resident_memory_bytes", "gauge", "Resident memory.", resident_bytes());
    if (rc == 0) rc = single(out, "process_open_fds", "gauge", "Open file descriptors.", count_fds());
    if (rc == 0)
        rc = single(out, "process_start_time_seconds", "gauge", "Start, in seconds since 1970.",
                    (double)wall.tv_sec + (double)wall.tv_nsec / 1e9 - uptime_s);
    if (rc == 0)
        rc = single(out, "qnetd_steps_total", "counter", "Events the node has been stepped with.",
                    (double)daemon->n_steps);
    if (rc == 0)
        rc = single(out, "qnetd_loop_lag_seconds", "gauge", "How late the node's last timer was.",
                    (double)daemon->lag_ns / 1e9);
    if (rc == 0)
        rc = single(out, "qnetd_jobs_running", "gauge", "Computations on threads, or waiting for one.",
                    (double)daemon->jobs.n_running);
    if (rc == 0)
        rc = single(out, "qnetd_descriptors_exhausted", "gauge", "1 while no file descriptor is left.",
                    daemon->descriptors.none_left);
    if (rc == 0)
        rc = single(out, "qnetd_store_commits_total", "counter", "Transactions of the key store.",
                    (double)daemon->store.commits);
    if (rc == 0)
        rc = single(out, "qnetd_log_lost_total", "counter", "Log lines nobody read in time.", (double)daemon->log.lost);
    return rc;
}

static int write_control(const struct daemon *daemon, struct qn_buf *out) {
    const struct control *control = &daemon->control;
    int rc = single(out, "qnetd_control_clients", "gauge", "Connected clients of the control socket.",
                    (double)control->n_clients);
    if (rc == 0)
        rc = single(out, "qnetd_control_requests_total", "counter", "Requests taken.", (double)control->n_requests);
    if (rc == 0)
        rc = single(out, "qnetd_control_refused_total", "counter", "Clients refused, being too many.",
                    (double)control->n_refused);
    if (rc == 0)
        rc = single(out, "qnetd_control_slow_total", "counter", "Clients dropped for reading too slowly.",
                    (double)control->n_slow);
    if (rc == 0)
        rc = single(out, "qnetd_event_subscribers", "gauge", "Clients that follow the events.",
                    (double)control->n_subscribers);
    return rc;
}

/* One number of every lane, under its own name. */
struct lane_metric {
    const char *name, *type, *help;
    double (*value)(const struct lane *lane);
};

static double lane_up(const struct lane *lane) { return lane->conn != NULL; }
static double lane_sessions(const struct lane *lane) { return (double)lane->n_sessions; }
static double lane_rtt(const struct lane *lane) { return lane->conn != NULL ? (double)lane->conn->rtt_ns / 1e9 : 0; }
static double lane_queue(const struct lane *lane) { return lane->conn != NULL ? (double)conn_queued(lane->conn) : 0; }
static double lane_dropped(const struct lane *lane) { return (double)lane->n_dropped; }
static double lane_sent(const struct lane *lane) {
    return (double)(lane->sent_before + (lane->conn != NULL ? lane->conn->n_sent : 0));
}
static double lane_rekeys(const struct lane *lane) {
    return (double)(lane->rekeys_before + (lane->conn != NULL ? lane->conn->n_rekeys : 0));
}
static double lane_version(const struct lane *lane) { return lane->conn != NULL ? lane->conn->version : 0; }
static double lane_received(const struct lane *lane) {
    return (double)(lane->received_before + (lane->conn != NULL ? lane->conn->n_received : 0));
}

static const struct lane_metric lane_metrics[] = {
    {"qnetd_session_up", "gauge", "1 while there is a live session.", lane_up},
    {"qnetd_sessions_total", "counter", "Sessions ever live.", lane_sessions},
    {"qnetd_peer_rtt_seconds", "gauge", "Round trip of the last keep-alive; 0: none yet.", lane_rtt},
    {"qnetd_queue_bytes", "gauge", "Bytes waiting to be sent.", lane_queue},
    {"qnetd_envelopes_sent_total", "counter", "Envelopes sent.", lane_sent},
    {"qnetd_envelopes_received_total", "counter", "Envelopes received.", lane_received},
    {"qnetd_rekeys_total", "counter", "Keys renewed by the clock.", lane_rekeys},
    {"qnetd_protocol_version", "gauge", "Version of the protocol agreed on; 0: no session.", lane_version},
    {"qnetd_envelopes_unsent_total", "counter", "Envelopes for a session that was down.", lane_dropped},
};

static int write_lanes(const struct daemon *daemon, struct qn_buf *out) {
    int rc = 0;
    for (size_t m = 0; rc == 0 && m < sizeof lane_metrics / sizeof lane_metrics[0]; m++) {
        const struct lane_metric *metric = &lane_metrics[m];
        rc = head(out, metric->name, metric->type, metric->help);
        for (size_t i = 0; rc == 0 && i < daemon->peers.len * 2; i++) {
            const struct lane *lane = &daemon->peers.list[i / 2].lanes[i % 2];
            rc = qn_buf_printf(out, "%s{peer=\"%s\",plane=\"%s\"} %.9g\n", metric->name, lane->peer->name,
                               plane_names[lane->plane], metric->value(lane));
        }
    }
    return rc;
}

static int write_failures(const struct daemon *daemon, struct qn_buf *out) {
    int rc = head(out, "qnetd_handshake_failures_total", "counter", "Sessions that failed, by plane and reason.");
    for (int plane = 0; plane < 2; plane++) {
        for (int failure = 0; rc == 0 && failure < FAIL_N; failure++) {
            uint64_t n = daemon->listeners[plane].n_failures[failure];
            for (size_t i = 0; i < daemon->peers.len; i++) n += daemon->peers.list[i].lanes[plane].n_failures[failure];
            rc = qn_buf_printf(out, "qnetd_handshake_failures_total{plane=\"%s\",reason=\"%s\"} %llu\n",
                               plane_names[plane], lane_failure_names[failure], (unsigned long long)n);
        }
    }
    if (rc == 0) rc = head(out, "qnetd_connections_accepted_total", "counter", "Connections of whomever, accepted.");
    for (int plane = 0; rc == 0 && plane < 2; plane++)
        rc = qn_buf_printf(out, "qnetd_connections_accepted_total{plane=\"%s\"} %llu\n", plane_names[plane],
                           (unsigned long long)daemon->listeners[plane].n_accepted);
    if (rc == 0)
        rc = head(out, "qnetd_connections_refused_total", "counter",
                  "Connections dropped for a limit: an address came too often, or all places were taken.");
    for (int plane = 0; plane < 2; plane++)
        for (int refusal = 0; rc == 0 && refusal < REFUSED_N; refusal++)
            rc = qn_buf_printf(out, "qnetd_connections_refused_total{plane=\"%s\",reason=\"%s\"} %llu\n",
                               plane_names[plane], refusal_names[refusal],
                               (unsigned long long)daemon->listeners[plane].n_refused[refusal]);
    return rc;
}

int metrics_write(const struct daemon *daemon, struct qn_buf *out) {
    int rc = write_process(daemon, out);
    if (rc == 0) rc = write_control(daemon, out);
    if (rc == 0 && daemon->peers.len > 0) rc = write_lanes(daemon, out);
    if (rc == 0) rc = write_failures(daemon, out);
    return rc < 0 ? rc : qn_node_metrics(daemon->node, out);
}
