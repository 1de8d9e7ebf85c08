/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QNETCTL_LAB_H
#define QNETCTL_LAB_H

#include <sys/types.h>

#include "ctl.h"
#include "topology/topology.h"

/* A lab: every node of a topology as a local process. All there is to know about one is in its folder,
 * ${XDG_RUNTIME_DIR:-/tmp}/qnetd-UID/labs/NAME/ (0700):
 *   topology.yaml           resolved: loopback ports and fresh keys filled in
 *   NODE.key NODE.sock NODE.log NODE.pid    identity (0600), control socket, output, process id and start time
 *   NODE.state/             key store, and in initial/ the secrets it shares (secret_pairs.h) */

#define LAB_PATH_MAX 1024

struct lab {
    char name[QN_NAME_MAX + 1];
    char directory[LAB_PATH_MAX];
};

/* ---- lab_state.c: folders and processes ---- */

/* The folder of all labs; made when `create`. Refused unless it is ours alone: /tmp is everybody's. An exit status. */
int lab_base(const struct ctl *ctl, bool create, char ret_path[LAB_PATH_MAX]);
int lab_open(const struct ctl *ctl, const char *name, struct lab *ret_lab); /* Need not exist. Checks the name. */
bool lab_exists(const struct lab *lab);

struct lab_list {
    char (*names)[QN_NAME_MAX + 1]; /* Owned; sorted. */
    size_t len;
};
int lab_list(const struct ctl *ctl, struct lab_list *ret_list);
void lab_list_release(struct lab_list *list);

/* The lab named, or the only one there is. With `optional`, none at all is STATUS_OK with an empty name. */
int lab_current(const struct ctl *ctl, const char *name, bool optional, struct lab *ret_lab);

int lab_path(const struct ctl *ctl, const struct lab *lab, const char *node, const char *suffix,
             char ret_path[LAB_PATH_MAX]);
int lab_read_topology(const struct ctl *ctl, const struct lab *lab, struct qn_topology *ret_topology);
/* STATUS_USAGE with the nearest name if there is none. */
int lab_find_node(const struct ctl *ctl, const struct lab *lab, const struct qn_topology *topology, const char *name,
                  size_t *ret_index);
int lab_remove_files(const struct ctl *ctl, const struct lab *lab);

/* A process of the lab by its pid file: a descriptor that becomes readable when it ends (pidfd), or -1 if it runs no
 * more. A process that got the same number later is told apart by its start time. */
int lab_process_open(const struct ctl *ctl, const struct lab *lab, const char *node, pid_t *ret_pid);
int lab_process_note(const struct ctl *ctl, const struct lab *lab, const char *node,
                     pid_t pid); /* Writes the pid file. */
bool lab_process_ended(int pid_fd, int wait_ms);
size_t lab_n_running(const struct ctl *ctl, const struct lab *lab, const struct qn_topology *topology);
/* Asks all, then insists after `patience_ms`. */
int lab_stop_all(const struct ctl *ctl, const struct lab *lab, const struct qn_topology *topology, int patience_ms);

/* Writes a file of ours alone (0600); it must not exist. */
int lab_write_file(const struct ctl *ctl, const char *path, const void *data, size_t len);
/* Writes the same new secret into both nodes' state folders, in the place of an older one. */
int lab_share_secret(const struct ctl *ctl, const struct lab *lab, const char *one, const char *other, size_t len);

/* ---- lab_ports.c ---- */

/* Gives every node a free loopback port wherever its address is none or not of this machine's loopback. */
int lab_assign_ports(const struct ctl *ctl, struct qn_topology *topology);

/* ---- lab_spawn.c ---- */

int lab_find_qnetd(const struct ctl *ctl, const char *given, char ret_path[LAB_PATH_MAX]);
/* Starts the node's process and writes its pid file. */
int lab_spawn(const struct ctl *ctl, const struct lab *lab, const char *qnetd, const char *node, pid_t *ret_pid);
/* The last lines of a node's log, to standard error. */
void lab_print_log_tail(const struct ctl *ctl, const struct lab *lab, const char *node);

/* ---- lab_status.c ---- */

int lab_print(const struct ctl *ctl, const struct lab *labs, size_t n_labs);

#endif
