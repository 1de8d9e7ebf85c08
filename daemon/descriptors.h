/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_DAEMON_DESCRIPTORS_H
#define QN_DAEMON_DESCRIPTORS_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct daemon;

/* How many connections of each kind this process may have, so that files and sessions never lack a descriptor. */
struct descriptors {
    struct daemon *daemon;
    unsigned handshakes, control, operations; /* At most so many connections of each. */
    uv_timer_t timer;
    bool none_left;       /* At the last look. */
    uint64_t n_exhausted; /* Looks that found none left. */
};

void descriptors_init(struct daemon *daemon); /* After peers_init. */
void descriptors_close(struct daemon *daemon);

#endif
