/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QNETBENCH_NETWORK_H
#define QNETBENCH_NETWORK_H

#include <sys/types.h>

#include "bench.h"
#include "client.h"

/* A lab of real daemons, started by qnetctl in a runtime folder of our own, and a connection to each control socket. */

enum { NETWORK_NODES_MAX = 9 };

struct network_node {
    char name[64];
    pid_t pid;
    struct client client;
    double cpu_s; /* Used until network_cpu_start. */
};

struct network {
    struct bench *bench;
    size_t n_nodes;
    struct network_node nodes[NETWORK_NODES_MAX];
    double up_s; /* Wall time of `qnetctl lab up`: first process to last node ready. */
    double cpu_since_s;
};

/* Writes the topology, brings it up and connects. 0, or -1 with bench->error and nothing left running. */
int network_up(struct network *network, struct bench *bench, const char *yaml);
void network_down(struct network *network); /* All-zero is fine. */

/* n nodes n0 - n1 - ... in a row, repeaters inside, ideal links that take no emulated time. */
int network_chain_up(struct network *network, struct bench *bench, size_t n);
void network_chain_yaml(char *out, size_t size, size_t n);

/* client_call on a node, with a deadline. 0, or -1 with bench->error. */
int network_call(struct network *network, size_t node, Qnet__V1__ControlRequest *request,
                 client_response_fn on_response, void *context);

void network_cpu_start(struct network *network);
void network_cpu_text(const struct network *network, char *out, size_t size); /* "n0 98% n1 75%" since the start. */
double network_node_rss_mib(const struct network *network, size_t node);      /* 0 if unknown. */
double network_node_peak_mib(const struct network *network, size_t node);     /* The most it ever was. */

#endif
