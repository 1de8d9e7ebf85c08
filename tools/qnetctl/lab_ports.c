/* SPDX-License-Identifier: Apache-2.0 */
/* Free ports. They are looked for below the range from which the system gives ports to outgoing connections: the nodes
 * of a lab dial each other from the moment they start, and a port of that range could be taken by such a connection
 * before its node opens it. All are held open until every one is found, so that no two nodes get the same. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "lab.h"

#define LOWEST_PORT 10000

struct search {
    uint16_t next, end; /* Candidates, going round. */
    int *held;          /* Owned. */
    size_t n_held;
};

static uint16_t outgoing_range_start(void) {
    unsigned first = 32768;
    FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
    if (file == NULL) return (uint16_t)first;
    if (fscanf(file, "%u", &first) != 1 || first > 65535) first = 32768;
    fclose(file);
    return (uint16_t)first;
}

/* Holds the port, or any if 0. Returns it, or 0 if it is taken. */
static uint16_t hold(struct search *search, uint16_t port) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return 0;
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 1) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) < 0) {
        close(fd);
        return 0;
    }
    search->held[search->n_held++] = fd;
    return ntohs(address.sin_port);
}

static uint16_t find_port(struct search *search) {
    for (unsigned tries = 0; search->end > LOWEST_PORT && tries < (unsigned)search->end - LOWEST_PORT; tries++) {
        uint16_t port = search->next;
        search->next = (uint16_t)(port + 1 < search->end ? port + 1 : LOWEST_PORT);
        if (hold(search, port) != 0) return port;
    }
    return hold(search, 0);
}

static bool is_loopback(const char *host) {
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0 || strcmp(host, "localhost") == 0;
}

static bool assign(struct search *search, struct qn_address *address) {
    if (address->port != 0 && is_loopback(address->host)) return true; /* The file's own choice works here. */
    address->port = find_port(search);
    strcpy(address->host, "127.0.0.1");
    return address->port != 0;
}

int lab_assign_ports(const struct ctl *ctl, struct qn_topology *topology) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) { /* Three sockets a node are held at once. */
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    struct search search = {.end = outgoing_range_start(), .held = malloc((3 * topology->n_nodes + 1) * sizeof(int))};
    if (search.held == NULL) return ctl_no_memory(ctl);
    search.next = search.end > LOWEST_PORT
                      ? (uint16_t)(LOWEST_PORT + randombytes_uniform((uint32_t)search.end - LOWEST_PORT))
                      : 0;
    bool ok = true;
    for (size_t i = 0; i < topology->n_nodes && ok; i++) {
        struct qn_topo_node *node = &topology->nodes[i];
        ok = assign(&search, &node->classical) && assign(&search, &node->quantum) && assign(&search, &node->operations);
    }
    for (size_t i = 0; i < search.n_held; i++) close(search.held[i]);
    free(search.held);
    if (ok) return STATUS_OK;
    return ctl_fail(ctl, STATUS_RUNTIME, "limit", QN_ELIMIT,
                    "not enough free ports or open files for %zu nodes; raise ulimit -n", topology->n_nodes);
}
