/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QNETCTL_SECRET_PAIRS_H
#define QNETCTL_SECRET_PAIRS_H

#include "ctl.h"
#include "topology/topology.h"

/* Which nodes of a topology get an initial secret to share, so that the keys they make are authenticated: the two ends
 * of each link, and any two nodes that make keys from pairs over repeaters (ends of entanglement links that are no
 * repeaters themselves, with only repeaters between them). These grow with the square of the nodes: beyond
 * SECRET_PAIRS_MAX none of them gets one, which is said, and `qnetctl lab share` or `gensecret` makes those wanted. */

#define SECRET_PAIRS_MAX 1000
#define SECRET_BYTES_MAX (16 + 16384) /* Its name, and 512 tags of 128 bits for either direction. */
#define SECRET_BYTES_FAR (16 + 4096)  /* Of two that no link joins: 128 tags. */

struct secret_pair {
    uint16_t a, b; /* a < b */
    size_t len;    /* Bytes of the secret. */
};

struct secret_pairs {
    struct secret_pair *list; /* Owned; sorted, each once. */
    size_t len;
    size_t left_out; /* Pairs over repeaters that would be too many. */
};

int secret_pairs_find(const struct ctl *ctl, const struct qn_topology *topology,
                      struct secret_pairs *ret_pairs); /* An exit status. Warns of those left out. */
void secret_pairs_release(struct secret_pairs *pairs);

#endif
