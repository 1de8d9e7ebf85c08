/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_NODE_BB84_PLAN_H
#define QN_NODE_BB84_PLAN_H

#include "link/receiver.h"
#include "qkd/plan.h"

/* What a bb84 link of the topology runs with, and the secret key that this promises. Intensities, probabilities and the
 * bias of the bases are chosen where the file leaves them open and asks for decoys: those that give most key for blocks
 * of `block_size` (the file's, if it gives one), rounded to hundredths so that two machines choose alike. Takes about a
 * millisecond when it has to choose. ret_plan is all-zero but for the settings without decoys. -QN_ENO_KEY: no settings
 * give key over this link; ret_plan has the reason. */
int bb84_plan(const struct qn_topology *topology, const struct qn_topo_link *link, double block_size,
              struct qn_source *ret_source, struct qn_receiver *ret_receiver, struct qn_plan *ret_plan);

#endif
