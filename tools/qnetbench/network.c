/* SPDX-License-Identifier: Apache-2.0 */
#include "network.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CALL_S 20 /* Besides several times what a row may take. */

/* Runs qnetctl; its standard output as JSON, owned by the caller. NULL with bench->error. */
static json_t *run_qnetctl(struct bench *bench, const char *const *arguments) {
    int fds[2], how = -1;
    if (pipe(fds) < 0) {
        bench_fail(bench, "pipe: %s", strerror(errno));
        return NULL;
    }
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fds[1], 1);
        close(fds[0]);
        close(fds[1]);
        execv(bench->qnetctl, (char *const *)(uintptr_t)arguments);
        _exit(127);
    }
    close(fds[1]);
    json_t *answer = json_loadfd(fds[0], JSON_DISABLE_EOF_CHECK, NULL);
    close(fds[0]);
    while (pid > 0 && waitpid(pid, &how, 0) < 0 && errno == EINTR) continue;
    if (how == 0 && answer != NULL) return answer;
    json_decref(answer);
    bench_fail(bench, "%s %s failed (status %d)", bench->qnetctl, arguments[2], WIFEXITED(how) ? WEXITSTATUS(how) : -1);
    return NULL;
}

static int connect_all(struct network *network, const json_t *answer) {
    const json_t *nodes = json_object_get(json_array_get(json_object_get(answer, "labs"), 0), "nodes");
    const json_t *item;
    size_t i;
    json_array_foreach(nodes, i, item) {
        const char *name = json_string_value(json_object_get(item, "name"));
        const char *path = json_string_value(json_object_get(item, "socket"));
        if (i == NETWORK_NODES_MAX || name == NULL || path == NULL) return bench_fail(network->bench, "unexpected lab");
        struct network_node *node = &network->nodes[i];
        snprintf(node->name, sizeof node->name, "%s", name);
        node->pid = (pid_t)json_integer_value(json_object_get(item, "pid"));
        if (client_open(&node->client, path) < 0) return bench_fail(network->bench, "%s: %s", name, node->client.error);
        network->n_nodes = i + 1;
    }
    return network->n_nodes > 0 ? 0 : bench_fail(network->bench, "an empty lab");
}

int network_up(struct network *network, struct bench *bench, const char *yaml) {
    char path[512];
    *network = (struct network){.bench = bench};
    snprintf(path, sizeof path, "%s/topology.yaml", bench->directory);
    FILE *file = fopen(path, "we");
    if (file == NULL) return bench_fail(bench, "%s: %s", path, strerror(errno));
    fputs(yaml, file);
    if (fclose(file) != 0) return bench_fail(bench, "%s: %s", path, strerror(errno));
    double start_s = bench_now_s();
    json_t *answer = run_qnetctl(bench, (const char *const[]){"qnetctl", "lab", "up", path, "--json", NULL});
    network->up_s = bench_now_s() - start_s;
    if (answer == NULL) return -1;
    int rc = connect_all(network, answer);
    json_decref(answer);
    if (rc < 0) network_down(network);
    return rc;
}

void network_down(struct network *network) {
    if (network->bench == NULL) return;
    struct bench quiet = *network->bench; /* Keeps the error that may be the reason for this. */
    for (size_t i = 0; i < network->n_nodes; i++) client_close(&network->nodes[i].client);
    json_decref(run_qnetctl(&quiet, (const char *const[]){"qnetctl", "lab", "down", "--all", "--json", NULL}));
    *network = (struct network){0};
}

void network_chain_yaml(char *out, size_t size, size_t n) {
    size_t len =
        (size_t)snprintf(out, size,
                         "version: 1\nnetwork: bench\ndefaults:\n  node: {memories: 256}\n"
                         "  link: {model: ideal, probability: 100%%, length: 0m, attempt_time: 1ns}\nnodes:\n");
    for (size_t i = 0; i < n && len < size; i++)
        len += (size_t)snprintf(out + len, size - len, "  n%zu: {role: %s}\n", i,
                                i == 0 || i == n - 1 ? "memory" : "repeater");
    if (len < size) len += (size_t)snprintf(out + len, size - len, "links:\n");
    for (size_t i = 0; i + 1 < n && len < size; i++)
        len += (size_t)snprintf(out + len, size - len, "  l%zu: {between: [n%zu, n%zu]}\n", i, i, i + 1);
}

int network_chain_up(struct network *network, struct bench *bench, size_t n) {
    char yaml[2048];
    network_chain_yaml(yaml, sizeof yaml, n);
    return network_up(network, bench, yaml);
}

int network_call(struct network *network, size_t node, Qnet__V1__ControlRequest *request,
                 client_response_fn on_response, void *context) {
    struct client *client = &network->nodes[node].client;
    uint64_t deadline_ns = client_now_ns() + (uint64_t)((CALL_S + 10 * network->bench->seconds) * 1e9);
    if (client_call(client, request, deadline_ns, on_response, context) == 0) return 0;
    return bench_fail(network->bench, "%s: %s", network->nodes[node].name, client->error);
}

/* ---- /proc ---- */

static double cpu_s(pid_t pid) {
    char path[64], text[1024];
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) return 0;
    size_t len = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[len] = '\0';
    const char *rest = strrchr(text, ')'); /* The name may hold anything. */
    if (rest == NULL || sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        return 0;
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

void network_cpu_start(struct network *network) {
    for (size_t i = 0; i < network->n_nodes; i++) network->nodes[i].cpu_s = cpu_s(network->nodes[i].pid);
    network->cpu_since_s = bench_now_s();
}

void network_cpu_text(const struct network *network, char *out, size_t size) {
    double wall_s = bench_now_s() - network->cpu_since_s;
    size_t len = 0;
    out[0] = '\0';
    for (size_t i = 0; i < network->n_nodes && len < size; i++)
        len += (size_t)snprintf(out + len, size - len, "%s%s %.0f%%", i > 0 ? " " : "", network->nodes[i].name,
                                100 * (cpu_s(network->nodes[i].pid) - network->nodes[i].cpu_s) / wall_s);
}

static double status_mib(const struct network *network, size_t node, const char *field) {
    char path[64], line[256], format[32];
    unsigned long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)network->nodes[node].pid);
    snprintf(format, sizeof format, "%s:", field);
    FILE *file = fopen(path, "re");
    if (file == NULL) return 0;
    while (fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, format, strlen(format)) == 0) kib = strtoul(line + strlen(format), NULL, 10);
    fclose(file);
    return (double)kib / 1024;
}

double network_node_rss_mib(const struct network *network, size_t node) { return status_mib(network, node, "VmRSS"); }
double network_node_peak_mib(const struct network *network, size_t node) { return status_mib(network, node, "VmHWM"); }
