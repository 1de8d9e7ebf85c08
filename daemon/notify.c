/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: a connected datagram socket, one send a message. Without NOTIFY_SOCKET nothing happens.
 *
 * Failure modes: a manager that does not read, or is gone, costs a message, never a wait. */
#include "notify.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void notify_init(struct notify *notify) {
    *notify = (struct notify){.fd = -1};
    const char *path = getenv("NOTIFY_SOCKET"), *watchdog_us = getenv("WATCHDOG_USEC");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = path != NULL ? strlen(path) : 0;
    if (len < 2 || len >= sizeof address.sun_path || (path[0] != '/' && path[0] != '@')) return;
    memcpy(address.sun_path, path, len);
    if (path[0] == '@') address.sun_path[0] = '\0'; /* The abstract name space. */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return;
    if (connect(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0) {
        close(fd);
        return;
    }
    notify->fd = fd;
    if (watchdog_us != NULL)
        notify->watchdog_ms = strtoull(watchdog_us, NULL, 10) / 2000; /* Twice as often as asked. */
}

void notify_send(const struct notify *notify, const char *message) {
    if (notify->fd >= 0) (void)!send(notify->fd, message, strlen(message), MSG_NOSIGNAL);
}

void notify_release(struct notify *notify) {
    if (notify->fd >= 0) close(notify->fd);
    notify->fd = -1;
}
