/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: the socket is readable, up to ACCEPTOR_TURN_MAX connections are accepted and given to the owner, and the
 * loop goes on; those that are left make the socket readable again in the next turn.
 *
 * Failure modes: connections that break before they are accepted (skipped; accept(2) lists what may be reported for
 * them). No descriptor or memory left: the owner is told, and the socket is not looked at for ACCEPTOR_REST_MS, so that
 * a connection that cannot be accepted does not keep the loop awake. libuv's own way out, a spare descriptor, turns
 * into a loop without end when that spare cannot be had back. */
#include "acceptor.h"

#include <errno.h>
#include <netinet/in.h>
#include <unistd.h>

static void on_readable(uv_poll_t *poll, int status, int events);

static void on_rested(uv_timer_t *timer) {
    struct acceptor *acceptor = timer->data;
    uv_poll_start(&acceptor->poll, UV_READABLE, on_readable);
}

static bool is_shortage(int error) { return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM; }

static void on_readable(uv_poll_t *poll, int status, int events) {
    struct acceptor *acceptor = poll->data;
    (void)status;
    (void)events;
    for (int n = 0; n < ACCEPTOR_TURN_MAX && acceptor->open; n++) {
        struct sockaddr_storage from = {0};
        socklen_t len = sizeof from;
        int fd = accept4(acceptor->fd, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            acceptor->on_accept(acceptor, fd, (struct sockaddr *)&from);
        } else if (errno == EAGAIN) {
            return;
        } else if (is_shortage(errno)) {
            int error = uv_translate_sys_error(errno);
            uv_poll_stop(&acceptor->poll);
            uv_timer_start(&acceptor->rest, on_rested, ACCEPTOR_REST_MS, 0);
            if (acceptor->on_shortage != NULL) acceptor->on_shortage(acceptor, error);
            return;
        }
    }
}

static int listen_at(const struct sockaddr *address, socklen_t len, int backlog) {
    static const int yes = 1;
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return uv_translate_sys_error(errno);
    if (address->sa_family != AF_UNIX) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, address, len) == 0 && listen(fd, backlog) == 0) return fd;
    int rc = uv_translate_sys_error(errno);
    close(fd);
    return rc;
}

int acceptor_open(struct acceptor *acceptor, uv_loop_t *loop, const struct sockaddr *address, socklen_t len,
                  int backlog) {
    int fd = listen_at(address, len, backlog);
    if (fd < 0) return fd;
    int rc = uv_poll_init(loop, &acceptor->poll, fd);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    acceptor->fd = fd;
    acceptor->open = true;
    uv_timer_init(loop, &acceptor->rest);
    acceptor->poll.data = acceptor->rest.data = acceptor;
    return uv_poll_start(&acceptor->poll, UV_READABLE, on_readable);
}

void acceptor_close(struct acceptor *acceptor) {
    if (!acceptor->open) return;
    acceptor->open = false;
    uv_close((uv_handle_t *)&acceptor->rest, NULL);
    uv_close((uv_handle_t *)&acceptor->poll, NULL);
    close(acceptor->fd);
}
