/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_DAEMON_ACCEPTOR_H
#define QN_DAEMON_ACCEPTOR_H

#include <stdbool.h>
#include <sys/socket.h>
#include <uv.h>

/* A listening socket: on TCP, or a Unix socket. Unlike uv_listen it takes a few connections a turn of the loop, however
 * many wait, and rests when the process has no descriptor for another. */

#define ACCEPTOR_TURN_MAX 16
#define ACCEPTOR_REST_MS 200

struct acceptor {
    uv_poll_t poll;
    uv_timer_t rest;
    bool open;
    int fd; /* Owned while open. */
    /* Takes the descriptor, which does not block and is close-on-exec. */
    void (*on_accept)(struct acceptor *acceptor, int fd, const struct sockaddr *from);
    void (*on_shortage)(struct acceptor *acceptor, int status); /* A libuv error; it rests now. May be NULL. */
    void *owner;
};

/* 0 or a libuv error; then nothing is left over. Set the callbacks and `owner` before. A Unix socket's file gets the
 * rights the umask leaves; the caller removes it. */
int acceptor_open(struct acceptor *acceptor, uv_loop_t *loop, const struct sockaddr *address, socklen_t len,
                  int backlog);
void acceptor_close(struct acceptor *acceptor); /* No harm if it is not open. Its memory stays until the loop ends. */

#endif
