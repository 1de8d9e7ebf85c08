/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QNETCTL_CLIENT_H
#define QNETCTL_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "qnet/v1/control.pb-c.h"
#include "wire/arena.h"

/* One connection to a node's control socket, for programs that may wait: requests out, responses in, each with a
 * deadline. Requests may be sent before earlier ones are answered; responses carry the id of their request. */

#define CLIENT_NEVER UINT64_MAX
#define CLIENT_FRAME_MAX (16u * 1024 * 1024)

struct client {
    int fd;
    uint64_t next_id;
    struct qn_buf in, out;
    size_t taken;          /* Bytes of `in` already handed over. */
    struct qn_arena arena; /* Holds the response handed over last. */
    int os_error;          /* errno of the last -QN_ESYSTEM. */
    char error[512];       /* What the last failure was, for people; of an error response: the node's own words. */
    char error_code[32];
    bool is_remote; /* The node answered with an error (as opposed to: no answer). */
};

uint64_t client_now_ns(void); /* Deadlines are on this clock. */

/* 0; -QN_EINVAL (path too long), -QN_ESYSTEM (see os_error: ENOENT, ECONNREFUSED, EACCES, ...), -QN_ENOMEM. A client
 * that failed to open needs no close. */
int client_open(struct client *client, const char *path);
void client_close(struct client *client); /* The node cancels what is not yet answered. Again is harmless. */

/* Sets request->id and queues the request. -QN_ECLOSED, -QN_ENOMEM, -QN_ESYSTEM. */
int client_send(struct client *client, Qnet__V1__ControlRequest *request);

/* The next response, borrowed until the next call. -QN_ETIMEOUT, -QN_ECLOSED, -QN_EPROTOCOL, -QN_ENOMEM, -QN_ESYSTEM.
 */
int client_next(struct client *client, uint64_t deadline_ns, const Qnet__V1__ControlResponse **ret_response);

/* Sends one request and hands over each response to it that has a body, until the last; responses to other requests are
 * dropped. `on_response` may be NULL; a return value other than 0 ends the call with it. An error response ends it with
 * its negative qn_err number, its words in client->error. */
typedef int (*client_response_fn)(void *context, const Qnet__V1__ControlResponse *response);
int client_call(struct client *client, Qnet__V1__ControlRequest *request, uint64_t deadline_ns,
                client_response_fn on_response, void *context);

#endif
