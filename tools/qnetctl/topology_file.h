/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QNETCTL_TOPOLOGY_FILE_H
#define QNETCTL_TOPOLOGY_FILE_H

#include "ctl.h"
#include "topology/topology.h"

/* Reads a topology file ("-": standard input). What the parser has to say goes to standard error, each error and
 * warning a line with file, line and column; if `ret_diagnostics` is not NULL also to that new JSON array of lines, and
 * then the caller reports that the file is not valid. An exit status. */
int topology_file_read(const struct ctl *ctl, const char *path, struct qn_topology *ret_topology,
                       json_t **ret_diagnostics);

#endif
