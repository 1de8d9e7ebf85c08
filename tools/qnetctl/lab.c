/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a lab, and of single nodes of it. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "base/err.h"
#include "client.h"
#include "command.h"
#include "lab.h"

#define STOP_MS 5000
#define ANSWER_TIMEOUT_S 10.0

/* A lab whose topology cannot be read may have left no process we could find; its folder goes. */
static int take_down(const struct ctl *ctl, const struct lab *lab) {
    struct qn_topology topology;
    struct ctl quiet = *ctl;
    size_t n = 0;
    quiet.json = false;
    int status = lab_read_topology(&quiet, lab, &topology);
    if (status == STATUS_OK) {
        n = lab_n_running(ctl, lab, &topology);
        ctl_progress(ctl, "lab %s: stopping %zu nodes", lab->name, n);
        status = lab_stop_all(ctl, lab, &topology, STOP_MS);
        size_t n_nodes = topology.n_nodes;
        qn_topology_release(&topology);
        if (status != STATUS_OK) return status;
        if (n < n_nodes)
            ctl_warn(ctl, "%zu of %zu nodes of lab %s were not running any more", n_nodes - n, n_nodes, lab->name);
    }
    status = lab_remove_files(ctl, lab);
    if (status != STATUS_OK) return status;
    if (ctl->json) return ctl_json(ctl, json_pack("{s:s,s:i}", "lab", lab->name, "stopped", (int)n));
    ctl_progress_end(ctl);
    printf("lab %s is down (%zu nodes stopped)\n", lab->name, n);
    return STATUS_OK;
}

static int take_all_down(const struct ctl *ctl) {
    struct lab_list list;
    struct lab lab;
    int first = STATUS_OK;
    int status = lab_list(ctl, &list);
    if (status != STATUS_OK) return status;
    for (size_t i = 0; i < list.len; i++) {
        status = lab_open(ctl, list.names[i], &lab);
        if (status == STATUS_OK) status = take_down(ctl, &lab);
        if (first == STATUS_OK) first = status;
    }
    lab_list_release(&list);
    return first;
}

int run_lab_down(struct ctl *ctl, const struct args *args) {
    struct lab lab;
    if (args_has(args, "all")) return take_all_down(ctl);
    int status = lab_current(ctl, args->n_operands > 0 ? args->operands[0] : ctl->lab, false, &lab);
    return status == STATUS_OK ? take_down(ctl, &lab) : status;
}

/* ---- single nodes ---- */

static int find_node(const struct ctl *ctl, const char *name, struct lab *ret_lab) {
    struct qn_topology topology;
    size_t index;
    int status = lab_current(ctl, ctl->lab, false, ret_lab);
    if (status == STATUS_OK) status = lab_read_topology(ctl, ret_lab, &topology);
    if (status != STATUS_OK) return status;
    status = lab_find_node(ctl, ret_lab, &topology, name, &index);
    qn_topology_release(&topology);
    return status;
}

static int done(const struct ctl *ctl, const struct lab *lab, const char *node, const char *what, pid_t pid) {
    if (ctl->json)
        return ctl_json(ctl,
                        json_pack("{s:s,s:s,s:s,s:i}", "lab", lab->name, "node", node, "done", what, "pid", (int)pid));
    printf("%s: %s (pid %d)\n", node, what, (int)pid);
    return STATUS_OK;
}

int run_lab_kill(struct ctl *ctl, const struct args *args) {
    const char *node = args->operands[0];
    struct lab lab;
    pid_t pid = 0;
    int status = find_node(ctl, node, &lab);
    if (status != STATUS_OK) return status;
    int fd = lab_process_open(ctl, &lab, node, &pid);
    if (fd < 0)
        return ctl_fail(ctl, STATUS_RUNTIME, "not_found", QN_ENOT_FOUND,
                        "node %s is not running; start it: qnetctl lab start %s", node, node);
    bool gently = args_has(args, "term");
    pidfd_send_signal(fd, gently ? SIGTERM : SIGKILL, NULL, 0);
    bool ended = lab_process_ended(fd, gently ? 2 * STOP_MS : STOP_MS);
    close(fd);
    if (!ended)
        return ctl_fail(ctl, STATUS_TIMEOUT, "timeout", QN_ETIMEOUT, "node %s has not ended yet; see: ps %d", node,
                        (int)pid);
    return done(ctl, &lab, node, gently ? "stopped" : "killed", pid);
}

static int wait_answer(const struct ctl *ctl, const struct lab *lab, const char *node) {
    char path[LAB_PATH_MAX];
    struct client client;
    double timeout_s = ctl->has_timeout ? ctl->timeout_s : ANSWER_TIMEOUT_S;
    uint64_t deadline_ns = client_now_ns() + (uint64_t)(timeout_s * 1e9);
    int status = lab_path(ctl, lab, node, ".sock", path);
    while (status == STATUS_OK && client_open(&client, path) < 0) {
        int fd = lab_process_open(ctl, lab, node, NULL);
        if (fd >= 0) close(fd);
        if (fd >= 0 && client_now_ns() < deadline_ns) {
            usleep(5000);
            continue;
        }
        status = ctl_fail(ctl, fd < 0 ? STATUS_RUNTIME : STATUS_TIMEOUT, "closed", QN_ECLOSED,
                          "node %s %s; see its log below", node,
                          fd < 0 ? "ended while starting" : "does not open its control socket");
        lab_print_log_tail(ctl, lab, node);
    }
    if (status == STATUS_OK) client_close(&client);
    return status;
}

int run_lab_start(struct ctl *ctl, const struct args *args) {
    const char *node = args->operands[0];
    char qnetd[LAB_PATH_MAX];
    struct lab lab;
    pid_t pid = 0;
    int status = find_node(ctl, node, &lab);
    if (status == STATUS_OK) status = lab_find_qnetd(ctl, args_text(args, "qnetd", NULL), qnetd);
    if (status != STATUS_OK) return status;
    int fd = lab_process_open(ctl, &lab, node, &pid);
    if (fd >= 0) {
        close(fd);
        return ctl_fail(ctl, STATUS_RUNTIME, "inval", QN_EINVAL,
                        "node %s is running (pid %d); kill it first: qnetctl lab kill %s", node, (int)pid, node);
    }
    status = lab_spawn(ctl, &lab, qnetd, node, &pid);
    if (status == STATUS_OK) status = wait_answer(ctl, &lab, node);
    return status == STATUS_OK ? done(ctl, &lab, node, "started", pid) : status;
}
