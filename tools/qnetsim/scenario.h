/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QNETSIM_SCENARIO_H
#define QN_QNETSIM_SCENARIO_H

#include <stdio.h>

#include "cluster.h"

/* What users do in a simulated network, and when. */
struct scenario;

/* 0, or 2 with every error as "name:line: error: ..." lines. */
int scenario_parse(const char *name, const char *text, size_t len, const struct qn_topology *topology, FILE *errors,
                   struct scenario **ret_scenario);
/* 0 if every request was answered without an error; 1 if not. The trace goes to `out`. */
int scenario_run(const struct scenario *scenario, const struct cluster_config *config, FILE *out, uint64_t *ret_steps);
void scenario_free(struct scenario *scenario); /* NULL is fine. */

#endif
