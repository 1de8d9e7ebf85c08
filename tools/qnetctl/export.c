/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: the topology gets the addresses its nodes will have, neighbours are paired up, and the exporter of the
 * format writes what runs it.
 *
 * Failure modes: a file that is wrong; more wires than the subnet has room for; names too long for Kubernetes. Private
 * keys are made only with --output, into files only their owner can read, and never printed. */
#include "export.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "topology_file.h"

#define WIRE_BITS 3
#define KUBERNETES_NAME_MAX 46 /* Its StatefulSets add a revision to ours within 63. */

const struct export_format export_formats[] = {
    {.name = "compose",
     .file = "compose.yaml",
     .host_prefix = "",
     .write = export_compose,
     .how = "cd %s && docker-compose -f compose.yaml up -d"},
    {.name = "containerlab",
     .file = "lab.clab.yml",
     .host_prefix = "",
     .has_hosts = true,
     .write = export_containerlab,
     .how = "cd %s && containerlab deploy --topo lab.clab.yml"},
    {.name = "netns",
     .file = "lab.sh",
     .host_prefix = "",
     .is_script = true,
     .write = export_netns,
     .how = "%s/lab.sh up"},
    {.name = "kubernetes",
     .file = "nodes.yaml",
     .host_prefix = "qnetd-",
     .write = export_kubernetes,
     .how = "kubectl apply -k %s"},
};
const size_t n_export_formats = sizeof export_formats / sizeof export_formats[0];

void export_put(struct export_plan *plan, const char *format, ...) {
    if (plan->rc < 0) return;
    va_list args;
    va_start(args, format);
    plan->rc = qn_buf_vprintf(plan->out, format, args);
    va_end(args);
}

const char *export_name(const struct export_plan *plan, uint16_t node) { return plan->topology->nodes[node].name; }
uint16_t export_peer(const struct export_wire *wire, uint16_t node) { return wire->a == node ? wire->b : wire->a; }
bool export_touches(const struct export_wire *wire, uint16_t node) { return wire->a == node || wire->b == node; }

void export_address(const struct export_wire *wire, uint16_t node, char ret_text[16]) {
    struct in_addr address = {.s_addr = htonl(wire->network + 2 + (node == wire->b))};
    inet_ntop(AF_INET, &address, ret_text, 16);
}

unsigned export_interface(const struct export_plan *plan, uint16_t node, const struct export_wire *wire) {
    unsigned n = 1;
    for (const struct export_wire *other = plan->wires; other < wire; other++) n += export_touches(other, node);
    return n;
}

uint16_t export_secret_peer(const struct secret_pair *pair, uint16_t node) {
    return pair->a == node ? pair->b : pair->b == node ? pair->a : QN_NO_NODE;
}

void export_hosts(struct export_plan *plan, uint16_t node) {
    char address[16];
    export_put(plan, "127.0.0.1 localhost %s\n", export_name(plan, node));
    for (const struct export_wire *wire = plan->wires; wire < plan->wires + plan->n_wires; wire++) {
        if (!export_touches(wire, node)) continue;
        uint16_t peer = export_peer(wire, node);
        export_address(wire, peer, address);
        export_put(plan, "%s %s\n", address, export_name(plan, peer));
    }
}

/* --- Wires --- */

static int compare_wires(const void *left, const void *right) {
    const struct export_wire *a = left, *b = right;
    return a->a != b->a ? (a->a < b->a ? -1 : 1) : a->b != b->b ? (a->b < b->b ? -1 : 1) : 0;
}

static void add_wire(struct export_plan *plan, uint16_t a, uint16_t b) {
    if (a == QN_NO_NODE || b == QN_NO_NODE || a == b) return;
    plan->wires[plan->n_wires++] = (struct export_wire){.a = a < b ? a : b, .b = a < b ? b : a};
}

/* "10.213.0.0/16" in numbers. */
static bool parse_subnet(const char *text, uint32_t *ret_network, unsigned *ret_bits) {
    char address[16], *end;
    struct in_addr number;
    size_t len = strcspn(text, "/");
    if (text[len] != '/' || len >= sizeof address || text[len + 1] < '0' || text[len + 1] > '9') return false;
    snprintf(address, sizeof address, "%.*s", (int)len, text);
    unsigned long bits = strtoul(text + len + 1, &end, 10);
    if (inet_pton(AF_INET, address, &number) != 1 || *end != '\0' || bits < 8 || bits > 32 - WIRE_BITS) return false;
    *ret_bits = (unsigned)bits;
    *ret_network = ntohl(number.s_addr);
    return (*ret_network & (UINT32_MAX >> bits)) == 0;
}

int export_plan_wires(const struct ctl *ctl, struct export_plan *plan, const char *subnet) {
    const struct qn_topology *topology = plan->topology;
    uint32_t network;
    unsigned bits;
    if (!parse_subnet(subnet, &network, &bits))
        return ctl_usage(ctl, "--subnet: \"%s\" is no network of 8 to 29 bits; write one like 10.213.0.0/16", subnet);
    plan->wires = calloc(topology->n_links * 3 + 1, sizeof *plan->wires);
    if (plan->wires == NULL) return ctl_no_memory(ctl);
    for (size_t i = 0; i < topology->n_links; i++) {
        const struct qn_topo_link *link = &topology->links[i];
        add_wire(plan, link->a, link->b);
        add_wire(plan, link->a, link->via);
        add_wire(plan, link->b, link->via);
    }
    qsort(plan->wires, plan->n_wires, sizeof *plan->wires, compare_wires);
    size_t n = 0;
    for (size_t i = 0; i < plan->n_wires; i++)
        if (i == 0 || compare_wires(&plan->wires[i], &plan->wires[n - 1]) != 0) plan->wires[n++] = plan->wires[i];
    plan->n_wires = n;
    if (n > (UINT32_MAX >> bits >> WIRE_BITS) + (size_t)1)
        return ctl_usage(ctl, "--subnet: %s has no room for %zu networks of 8 addresses; take a larger one", subnet, n);
    for (size_t i = 0; i < n; i++) plan->wires[i].network = network + (uint32_t)(i << WIRE_BITS);
    return STATUS_OK;
}

/* --- The command --- */

static int set_addresses(const struct ctl *ctl, const struct export_format *format, struct qn_topology *topology) {
    for (size_t i = 0; i < topology->n_nodes; i++) {
        struct qn_topo_node *node = &topology->nodes[i];
        char host[sizeof node->classical.host];
        int len = snprintf(host, sizeof host, "%s%s", format->host_prefix, node->name);
        bool is_long = *format->host_prefix != '\0' && strlen(node->name) > KUBERNETES_NAME_MAX;
        if (len >= (int)sizeof host || is_long)
            return ctl_usage(ctl, "node %s: its name is too long for Kubernetes; take at most %d characters",
                             node->name, KUBERNETES_NAME_MAX);
        memcpy(node->classical.host, host, sizeof host);
        memcpy(node->quantum.host, host, sizeof host);
        memcpy(node->operations.host, host, sizeof host);
        node->classical.port = EXPORT_PORT_CLASSICAL;
        node->quantum.port = EXPORT_PORT_QUANTUM;
        node->operations.port = EXPORT_PORT_OPERATIONS;
    }
    return STATUS_OK;
}

static int print(const struct ctl *ctl, const struct export_format *format, const struct qn_buf *text) {
    if (ctl->json) return ctl_json(ctl, json_pack("{s:s,s:s%}", "format", format->name, "text", text->data, text->len));
    fwrite(text->data, 1, text->len, stdout);
    fprintf(stderr, "This needs topology.yaml and the nodes' keys beside it; to get all: --output FOLDER\n");
    return STATUS_OK;
}

static int write_or_print(const struct ctl *ctl, const char *folder, const struct export_format *format,
                          struct export_plan *plan, struct qn_topology *topology) {
    struct qn_buf text = {0};
    plan->out = &text;
    format->write(plan);
    int status = plan->rc < 0 ? ctl_no_memory(ctl) : STATUS_OK;
    if (status == STATUS_OK && folder == NULL) status = print(ctl, format, &text);
    if (status == STATUS_OK && folder != NULL) status = export_write_folder(ctl, folder, format, plan, topology);
    qn_buf_release(&text);
    return status;
}

static int run_deployment(struct ctl *ctl, const struct args *args, const struct export_format *format) {
    const char *folder = args_text(args, "output", NULL);
    struct qn_topology topology;
    if (args->n_operands == 0) return ctl_usage(ctl, "FILE is missing; only --format schema needs none");
    int status = topology_file_read(ctl, args->operands[0], &topology, NULL);
    if (status != STATUS_OK) return status;
    bool is_root = geteuid() == 0;
    struct export_plan plan = {.topology = &topology,
                               .image = args_text(args, "image", "qnetd:latest"),
                               .user = is_root ? EXPORT_USER : geteuid(),
                               .group = is_root ? EXPORT_USER : getegid()};
    if (strpbrk(plan.image, " \"'\\\n$") != NULL)
        status = ctl_usage(ctl, "--image: \"%s\" is no name of an image; write one like qnetd:latest", plan.image);
    if (status == STATUS_OK) status = set_addresses(ctl, format, &topology);
    if (status == STATUS_OK) status = export_plan_wires(ctl, &plan, args_text(args, "subnet", "10.213.0.0/16"));
    if (status == STATUS_OK) status = secret_pairs_find(ctl, &topology, &plan.secrets);
    if (status == STATUS_OK) status = write_or_print(ctl, folder, format, &plan, &topology);
    free(plan.wires);
    secret_pairs_release(&plan.secrets);
    qn_topology_release(&topology);
    return status;
}

static int run_drawing(struct ctl *ctl, const struct args *args, const char *format) {
    struct qn_topology topology = {0};
    struct qn_buf out = {0};
    int status = STATUS_OK, rc;
    if (strcmp(format, "schema") == 0) { /* Of any file. */
        rc = qn_topology_emit_schema(&out);
    } else {
        if (args->n_operands == 0) return ctl_usage(ctl, "FILE is missing; only --format schema needs none");
        status = topology_file_read(ctl, args->operands[0], &topology, NULL);
        if (status != STATUS_OK) return status;
        rc = strcmp(format, "dot") == 0       ? qn_topology_emit_dot(&topology, &out)
             : strcmp(format, "mermaid") == 0 ? qn_topology_emit_mermaid(&topology, &out)
                                              : qn_topology_emit_yaml(&topology, &out);
        qn_topology_release(&topology);
    }
    if (rc < 0)
        status =
            ctl_fail(ctl, STATUS_RUNTIME, qn_err_name(rc), (unsigned)-rc, "%s; %s", qn_err_what(rc), qn_err_todo(rc));
    else if (ctl->json)
        status = ctl_json(ctl, json_pack("{s:s,s:s%}", "format", format, "text", out.data, out.len));
    else
        fwrite(out.data, 1, out.len, stdout);
    qn_buf_release(&out);
    return status;
}

int run_topology_export(struct ctl *ctl, const struct args *args) {
    const char *format = args_text(args, "format", "yaml");
    for (size_t i = 0; i < n_export_formats; i++)
        if (strcmp(format, export_formats[i].name) == 0) return run_deployment(ctl, args, &export_formats[i]);
    if (args_has(args, "output"))
        return ctl_usage(ctl, "--output is for compose, containerlab, netns and kubernetes; send %s to a file with >",
                         format);
    return run_drawing(ctl, args, format);
}
