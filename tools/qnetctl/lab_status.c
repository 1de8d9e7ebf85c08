/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "command.h"
#include "lab.h"
#include "table.h"

#define ANSWER_NS UINT64_C(2000000000)

struct node_view {
    pid_t pid; /* 0: not running. */
    bool answered, ready;
    char why[128];
};

static int take_status(void *context, const Qnet__V1__ControlResponse *response) {
    struct node_view *view = context;
    if (response->body_case != QNET__V1__CONTROL_RESPONSE__BODY_STATUS) return 0;
    view->answered = true;
    view->ready = response->status->ready;
    snprintf(view->why, sizeof view->why, "%s", response->status->not_ready_because);
    return 0;
}

static struct node_view look(const struct ctl *ctl, const struct lab *lab, const char *node) {
    struct node_view view = {0};
    char path[LAB_PATH_MAX];
    struct client client;
    int fd = lab_process_open(ctl, lab, node, &view.pid);
    if (fd < 0 || lab_path(ctl, lab, node, ".sock", path) != STATUS_OK) return view;
    close(fd);
    if (client_open(&client, path) < 0) return view;
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__StatusRequest status = QNET__V1__STATUS_REQUEST__INIT;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_STATUS;
    request.status = &status;
    client_call(&client, &request, client_now_ns() + ANSWER_NS, take_status, &view);
    client_close(&client);
    return view;
}

static const char *state_of(const struct node_view *view) {
    if (view->pid == 0) return "stopped";
    if (!view->answered) return "silent";
    return view->ready ? "ready" : "waiting";
}

static enum colour colour_of(const struct node_view *view) {
    if (view->pid == 0 || !view->answered) return COLOUR_RED;
    return view->ready ? COLOUR_GREEN : COLOUR_YELLOW;
}

static void address_text(const struct qn_address *address, char *out, size_t size) {
    bool is_v6 = strchr(address->host, ':') != NULL;
    snprintf(out, size, "%s%s%s:%u", is_v6 ? "[" : "", address->host, is_v6 ? "]" : "", address->port);
}

static json_t *node_to_json(const struct ctl *ctl, const struct lab *lab, const struct qn_topo_node *node,
                            const struct node_view *view) {
    char classical[96], quantum[96], operations[96], socket[LAB_PATH_MAX], log[LAB_PATH_MAX];
    address_text(&node->classical, classical, sizeof classical);
    address_text(&node->quantum, quantum, sizeof quantum);
    address_text(&node->operations, operations, sizeof operations);
    if (lab_path(ctl, lab, node->name, ".sock", socket) != STATUS_OK ||
        lab_path(ctl, lab, node->name, ".log", log) != STATUS_OK)
        return NULL;
    return json_pack("{s:s,s:s,s:i,s:s,s:b,s:s,s:s,s:s,s:s,s:s,s:s}", "name", node->name, "role",
                     qn_role_name(node->role), "pid", (int)view->pid, "state", state_of(view), "ready", view->ready,
                     "not_ready_because", view->why, "classical", classical, "quantum", quantum, "operations",
                     operations, "socket", socket, "log", log);
}

static json_t *lab_to_json(const struct ctl *ctl, const struct lab *lab, const struct qn_topology *topology) {
    json_t *nodes = json_array();
    for (size_t i = 0; i < topology->n_nodes; i++) {
        struct node_view view = look(ctl, lab, topology->nodes[i].name);
        json_array_append_new(nodes, node_to_json(ctl, lab, &topology->nodes[i], &view));
    }
    return json_pack("{s:s,s:s,s:s,s:o}", "name", lab->name, "network", topology->name, "directory", lab->directory,
                     "nodes", nodes);
}

static void add_rows(const struct ctl *ctl, const struct lab *lab, const struct qn_topology *topology,
                     struct table *table) {
    char address[96];
    for (size_t i = 0; i < topology->n_nodes; i++) {
        const struct qn_topo_node *node = &topology->nodes[i];
        struct node_view view = look(ctl, lab, node->name);
        address_text(&node->operations, address, sizeof address);
        table_add(table, "%s", lab->name);
        table_add(table, "%s", node->name);
        table_add(table, "%s", qn_role_name(node->role));
        table_add(table, "%s%s%s", state_of(&view), view.why[0] != '\0' ? ": " : "", view.why);
        table_paint(table, colour_of(&view));
        if (view.pid != 0)
            table_add(table, "%d", (int)view.pid);
        else
            table_add(table, "-");
        table_add(table, "http://%s", address);
    }
}

int lab_print(const struct ctl *ctl, const struct lab *labs, size_t n_labs) {
    static const char *const titles[] = {"LAB", "NODE", "ROLE", "STATE", ">PID", "METRICS", NULL};
    struct table table;
    json_t *array = json_array();
    int status = STATUS_OK;
    table_init(&table, titles);
    for (size_t i = 0; i < n_labs; i++) {
        struct qn_topology topology;
        int rc = lab_read_topology(ctl, &labs[i], &topology);
        if (status == STATUS_OK) status = rc;
        if (rc != STATUS_OK) continue;
        if (ctl->json)
            json_array_append_new(array, lab_to_json(ctl, &labs[i], &topology));
        else
            add_rows(ctl, &labs[i], &topology, &table);
        qn_topology_release(&topology);
    }
    if (ctl->json) {
        table_release(&table);
        int rc = ctl_json(ctl, json_pack("{s:O}", "labs", array));
        if (status == STATUS_OK) status = rc;
    } else {
        table_print(&table, ctl, "no lab is running; start one: qnetctl lab up FILE");
    }
    json_decref(array);
    return status;
}

int run_lab_status(struct ctl *ctl, const struct args *args) {
    const char *name = args->n_operands > 0 ? args->operands[0] : ctl->lab;
    struct lab_list list;
    struct lab labs[256];
    size_t n = 0;
    int status;
    if (name != NULL) {
        status = lab_current(ctl, name, false, &labs[0]);
        return status == STATUS_OK ? lab_print(ctl, labs, 1) : status;
    }
    status = lab_list(ctl, &list);
    if (status != STATUS_OK) return status;
    for (size_t i = 0; i < list.len && n < 256 && status == STATUS_OK; i++)
        status = lab_open(ctl, list.names[i], &labs[n++]);
    lab_list_release(&list);
    return status == STATUS_OK ? lab_print(ctl, labs, n) : status;
}
