/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_DAEMON_NOTIFY_H
#define QN_DAEMON_NOTIFY_H

#include <stdint.h>

/* The service manager's protocol, sd_notify(3): one datagram a message, to the socket named in NOTIFY_SOCKET. */
struct notify {
    int fd;               /* -1: nobody listens. */
    uint64_t watchdog_ms; /* How often "WATCHDOG=1" is due; 0: never. */
};

void notify_init(struct notify *notify);
void notify_send(const struct notify *notify, const char *message); /* "READY=1", "STOPPING=1", "STATUS=..." */
void notify_release(struct notify *notify);

#endif
