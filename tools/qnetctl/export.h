/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QNETCTL_EXPORT_H
#define QNETCTL_EXPORT_H

#include "command.h"
#include "secret_pairs.h"

/* A topology as something that runs on other machinery: one container, pod or network namespace a node, one network a
 * pair of neighbours. The exporters write text only; export_files.c adds what it refers to. */

#define EXPORT_USER 65532 /* Who the image's processes are: nobody's user, as in distroless images. */
#define EXPORT_PORT_CLASSICAL 7001
#define EXPORT_PORT_QUANTUM 7002
#define EXPORT_PORT_OPERATIONS 7003

/* A classical channel between two neighbours, with a network of its own: 2^3 addresses, of which the first node has the
 * third and the second node the fourth. */
struct export_wire {
    uint16_t a, b; /* Indices of nodes, a < b. */
    uint32_t network;
};

struct export_plan {
    const struct qn_topology *topology;
    struct export_wire *wires; /* Owned; in the order of their nodes. */
    size_t n_wires;
    struct secret_pairs secrets; /* Owned. */
    const char *image;
    unsigned user, group; /* Who owns the nodes' files. */
    int rc;               /* First failure of export_put(). */
    struct qn_buf *out;
};

struct export_format {
    const char *name, *file; /* What --format says; where the text belongs in the folder. */
    bool is_script;
    bool has_hosts;          /* Each node's folder has a file of its neighbours' addresses. */
    const char *host_prefix; /* Before a node's name, in addresses. */
    void (*write)(struct export_plan *plan);
    const char *how; /* What to do with it, for people; %s is the folder. */
};

extern const struct export_format export_formats[];
extern const size_t n_export_formats;

/* Fills in wires: those of the topology's neighbours, numbered upwards from `subnet` ("10.213.0.0/16"). An exit status.
 */
int export_plan_wires(const struct ctl *ctl, struct export_plan *plan, const char *subnet);

void export_put(struct export_plan *plan, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *export_name(const struct export_plan *plan, uint16_t node); /* Borrowed. */
uint16_t export_peer(const struct export_wire *wire, uint16_t node);
bool export_touches(const struct export_wire *wire, uint16_t node);
/* "10.213.0.2": of a node on a wire. */
void export_address(const struct export_wire *wire, uint16_t node, char ret_text[16]);
/* Which of a node's wires, from 1. */
unsigned export_interface(const struct export_plan *plan, uint16_t node, const struct export_wire *wire);
/* The other of the two, if the node is one of them; else QN_NO_NODE. */
uint16_t export_secret_peer(const struct secret_pair *pair, uint16_t node);

void export_compose(struct export_plan *plan);
void export_containerlab(struct export_plan *plan);
void export_netns(struct export_plan *plan);
void export_kubernetes(struct export_plan *plan);
void export_kustomization(struct export_plan *plan);
void export_hosts(struct export_plan *plan, uint16_t node); /* /etc/hosts of a node. */

/* Writes the folder: the text, topology.yaml, and of each node that has none yet an identity and its initial secrets.
 * An exit status. */
int export_write_folder(const struct ctl *ctl, const char *folder, const struct export_format *format,
                        struct export_plan *plan, struct qn_topology *topology);

#endif
