/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: the topology is read, keys and ports are filled in, everything is written to the lab's folder, one
 * process a node is started, and each is asked over its control socket to say when it is ready.
 *
 * Failure modes: a lab of that name exists (nothing is touched); a file that is wrong (its errors, status 2); a node
 * that ends or is not ready in time (the end of its log); Ctrl-C. In all but the first two everything is taken down
 * again. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "client.h"
#include "command.h"
#include "lab.h"
#include "secret_pairs.h"
#include "topology_file.h"

#define READY_TIMEOUT_S 20.0
#define SLICE_NS UINT64_C(50000000) /* How often deaths and signals are looked for. */
#define STOP_MS 5000

static volatile sig_atomic_t caught;

static void on_signal(int number) { caught = number; }

static void catch_signals(void) {
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

struct start {
    const struct ctl *ctl;
    struct lab lab;
    struct qn_topology topology;
    char qnetd[LAB_PATH_MAX];
    pid_t *pids; /* Owned; one a node, 0 before it is started. */
    uint64_t deadline_ns;
    double timeout_s;
};

/* ---- before anything runs ---- */

static int make_key(const struct start *start, struct qn_topo_node *node) {
    uint8_t private_key[crypto_box_SECRETKEYBYTES];
    char path[LAB_PATH_MAX], text[sodium_base64_ENCODED_LEN(32, sodium_base64_VARIANT_ORIGINAL)];
    int status = lab_path(start->ctl, &start->lab, node->name, ".key", path);
    if (status != STATUS_OK) return status;
    crypto_box_keypair(node->public_key, private_key);
    node->has_key = true;
    sodium_bin2base64(text, sizeof text, private_key, sizeof private_key, sodium_base64_VARIANT_ORIGINAL);
    text[strlen(text)] = '\n'; /* The file needs no NUL. */
    status = lab_write_file(start->ctl, path, text, sizeof text);
    sodium_memzero(private_key, sizeof private_key);
    sodium_memzero(text, sizeof text);
    return status;
}

static int share_secrets(const struct start *start) {
    struct secret_pairs pairs;
    int status = secret_pairs_find(start->ctl, &start->topology, &pairs);
    if (status != STATUS_OK) return status;
    for (size_t i = 0; i < pairs.len && status == STATUS_OK; i++) {
        const struct qn_topo_node *nodes = start->topology.nodes;
        const struct secret_pair *pair = &pairs.list[i];
        status = lab_share_secret(start->ctl, &start->lab, nodes[pair->a].name, nodes[pair->b].name, pair->len);
    }
    secret_pairs_release(&pairs);
    return status;
}

static int make_state(const struct start *start, const struct qn_topo_node *node) {
    char state[LAB_PATH_MAX], initial[LAB_PATH_MAX + 16];
    int status = lab_path(start->ctl, &start->lab, node->name, ".state", state);
    snprintf(initial, sizeof initial, "%s/initial", state);
    if (status == STATUS_OK && (mkdir(state, 0700) < 0 || mkdir(initial, 0700) < 0))
        status = ctl_fail(start->ctl, STATUS_RUNTIME, "system", QN_ESYSTEM, "%s: %s; remove it by hand", state,
                          strerror(errno));
    return status;
}

static int write_topology(const struct start *start) {
    char path[LAB_PATH_MAX];
    struct qn_buf text = {0};
    int status = lab_path(start->ctl, &start->lab, "topology", ".yaml", path);
    if (status == STATUS_OK && qn_topology_emit_yaml(&start->topology, &text) < 0) status = ctl_no_memory(start->ctl);
    if (status == STATUS_OK) status = lab_write_file(start->ctl, path, text.data, text.len);
    qn_buf_release(&text);
    return status;
}

static int check_socket_paths(const struct start *start) {
    struct sockaddr_un address;
    for (size_t i = 0; i < start->topology.n_nodes; i++) {
        size_t len = strlen(start->lab.directory) + 1 + strlen(start->topology.nodes[i].name) + strlen(".sock");
        if (len >= sizeof address.sun_path)
            return ctl_usage(start->ctl,
                             "the socket of node %s would have a path of %zu bytes, and %zu are possible; choose a "
                             "shorter name with --name",
                             start->topology.nodes[i].name, len, sizeof address.sun_path - 1);
    }
    return STATUS_OK;
}

static int refuse_existing(const struct start *start) {
    struct qn_topology topology;
    const char *name = start->lab.name;
    int status = lab_read_topology(start->ctl, &start->lab, &topology);
    if (status != STATUS_OK) return status;
    size_t n = lab_n_running(start->ctl, &start->lab, &topology);
    qn_topology_release(&topology);
    if (n == 0)
        return ctl_usage(start->ctl, "lab %s has crashed or was killed; clean up first: qnetctl lab down %s", name,
                         name);
    return ctl_usage(
        start->ctl, "lab %s is running (%zu nodes); stop it first (qnetctl lab down %s) or choose another name: --name",
        name, n, name);
}

static int make_folder(struct start *start) {
    char base[LAB_PATH_MAX];
    int status = lab_base(start->ctl, true, base);
    if (status != STATUS_OK) return status;
    if (mkdir(start->lab.directory, 0700) == 0) return STATUS_OK;
    if (errno == EEXIST) return refuse_existing(start);
    return ctl_fail(start->ctl, STATUS_RUNTIME, "system", QN_ESYSTEM,
                    "%s: %s; set XDG_RUNTIME_DIR to a folder of yours", start->lab.directory, strerror(errno));
}

static int fill_folder(struct start *start) {
    int status = lab_assign_ports(start->ctl, &start->topology);
    for (size_t i = 0; i < start->topology.n_nodes && status == STATUS_OK; i++)
        status = make_key(start, &start->topology.nodes[i]);
    for (size_t i = 0; i < start->topology.n_nodes && status == STATUS_OK; i++)
        status = make_state(start, &start->topology.nodes[i]);
    if (status == STATUS_OK) status = share_secrets(start);
    return status == STATUS_OK ? write_topology(start) : status;
}

/* ---- waiting ---- */

static int report_death(const struct start *start, size_t i, int how) {
    const char *name = start->topology.nodes[i].name;
    int status =
        WIFSIGNALED(how)
            ? ctl_fail(start->ctl, STATUS_RUNTIME, "closed", QN_ECLOSED,
                       "node %s was ended by signal %d while starting; see its log below", name, WTERMSIG(how))
            : ctl_fail(start->ctl, STATUS_RUNTIME, "closed", QN_ECLOSED,
                       "node %s ended with status %d while starting; see its log below", name, WEXITSTATUS(how));
    lab_print_log_tail(start->ctl, &start->lab, name);
    return status;
}

/* Signals, deaths, the deadline. */
static int check_all(const struct start *start, size_t waiting_for) {
    int how;
    if (caught != 0) {
        ctl_fail(start->ctl, STATUS_RUNTIME, "cancelled", QN_ECANCELLED, "interrupted; the lab is taken down");
        return 128 + caught;
    }
    for (size_t i = 0; i < start->topology.n_nodes; i++)
        if (start->pids[i] > 0 && waitpid(start->pids[i], &how, WNOHANG) == start->pids[i])
            return report_death(start, i, how);
    if (client_now_ns() < start->deadline_ns) return STATUS_OK;
    const char *name = start->topology.nodes[waiting_for].name;
    ctl_fail(start->ctl, STATUS_TIMEOUT, "timeout", QN_ETIMEOUT,
             "node %s is not ready after %s; see its log below, or allow more with --timeout", name,
             text_duration(start->timeout_s));
    lab_print_log_tail(start->ctl, &start->lab, name);
    return STATUS_TIMEOUT;
}

static int connect_node(const struct start *start, size_t i, struct client *client) {
    char path[LAB_PATH_MAX];
    int status = lab_path(start->ctl, &start->lab, start->topology.nodes[i].name, ".sock", path);
    while (status == STATUS_OK && client_open(client, path) < 0) {
        usleep(5000);
        status = check_all(start, i);
    }
    return status;
}

static int ask_ready(struct client *client, double emulated_s) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__WaitRequest wait = QNET__V1__WAIT_REQUEST__INIT;
    wait.condition = (char *)(uintptr_t) "ready";
    wait.timeout_ns = (uint64_t)(emulated_s < 1e9 ? emulated_s * 1e9 : 1e18) + 1;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_WAIT;
    request.wait = &wait;
    return client_send(client, &request);
}

/* Ready is when the node answers that it is. An error of its own ("in N s the condition was not met") comes with ours.
 */
static int wait_ready(const struct start *start, size_t i) {
    const Qnet__V1__ControlResponse *response;
    struct client client;
    int status = connect_node(start, i, &client);
    if (status != STATUS_OK) return status;
    int rc = ask_ready(&client, (start->timeout_s + 5) * start->topology.time_scale);
    for (;;) {
        if (rc == 0) rc = client_next(&client, client_now_ns() + SLICE_NS, &response);
        if (rc == 0) break;
        status = check_all(start, i);
        if (status == STATUS_OK && rc == -QN_ETIMEOUT)
            rc = 0;
        else if (status == STATUS_OK)
            usleep(10000); /* It hung up: its death will show. */
        if (status != STATUS_OK) break;
    }
    if (rc == 0 && status == STATUS_OK && response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_ERROR)
        status = ctl_fail(start->ctl, STATUS_RUNTIME, response->error->code, response->error->number, "%s: %s",
                          start->topology.nodes[i].name, response->error->message);
    client_close(&client);
    return status;
}

static int start_and_wait(struct start *start) {
    const struct qn_topology *topology = &start->topology;
    int status = STATUS_OK;
    start->deadline_ns = client_now_ns() + (uint64_t)(start->timeout_s * 1e9);
    for (size_t i = 0; i < topology->n_nodes && status == STATUS_OK; i++) {
        status = lab_spawn(start->ctl, &start->lab, start->qnetd, topology->nodes[i].name, &start->pids[i]);
        if (status == STATUS_OK && caught != 0) status = check_all(start, i);
    }
    for (size_t i = 0; i < topology->n_nodes && status == STATUS_OK; i++) {
        ctl_progress(start->ctl, "lab %s: %zu of %zu nodes ready", start->lab.name, i, topology->n_nodes);
        status = wait_ready(start, i);
    }
    ctl_progress_end(start->ctl);
    return status;
}

/* ---- up ---- */

static int bring_up(struct start *start) {
    int status = check_socket_paths(start);
    if (status == STATUS_OK) status = make_folder(start);
    if (status != STATUS_OK) return status;
    catch_signals();
    status = fill_folder(start);
    if (status == STATUS_OK) status = start_and_wait(start);
    if (status == STATUS_OK) return lab_print(start->ctl, &start->lab, 1);
    lab_stop_all(start->ctl, &start->lab, &start->topology, STOP_MS);
    lab_remove_files(start->ctl, &start->lab);
    return status;
}

int run_lab_up(struct ctl *ctl, const struct args *args) {
    struct start start = {.ctl = ctl, .timeout_s = ctl->has_timeout ? ctl->timeout_s : READY_TIMEOUT_S};
    int status = lab_find_qnetd(ctl, args_text(args, "qnetd", NULL), start.qnetd);
    if (status == STATUS_OK) status = topology_file_read(ctl, args->operands[0], &start.topology, NULL);
    if (status != STATUS_OK) return status;
    status = lab_open(ctl, args_text(args, "name", ctl->lab != NULL ? ctl->lab : start.topology.name), &start.lab);
    start.pids = calloc(start.topology.n_nodes + 1, sizeof *start.pids);
    if (status == STATUS_OK && start.pids == NULL) status = ctl_no_memory(ctl);
    if (status == STATUS_OK) status = bring_up(&start);
    free(start.pids);
    qn_topology_release(&start.topology);
    return status;
}
