/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QNETCTL_TARGET_H
#define QNETCTL_TARGET_H

#include "client.h"
#include "ctl.h"
#include "lab.h"

/* Which nodes a command speaks to: the socket given; else a node, or all nodes, of a lab; else the daemons of this
 * machine's service manager or user. */

struct target {
    char node[QN_NAME_MAX + 1]; /* "" if only the socket is known. */
    char socket[LAB_PATH_MAX];
};

struct targets {
    struct target *list; /* Owned. At least one. */
    size_t len;
    bool is_many;                /* Nobody named one: the whole lab or machine is meant. */
    struct lab lab;              /* Name "" if there is none. */
    struct qn_topology topology; /* Of the lab. */
    bool has_topology;
};

int targets_find(const struct ctl *ctl, struct targets *ret_targets); /* An exit status. */
/* For what one node must do: a usage error that lists the nodes when there are several. */
int targets_find_one(const struct ctl *ctl, struct targets *ret_targets);
void targets_release(struct targets *targets);
const char *target_name(const struct target *target); /* The node's name, or its socket. */

/* What came of asking. */
struct failure {
    int status; /* STATUS_OK: nothing failed. */
    char code[32];
    unsigned number; /* A qn_err. */
    char message[600];
};

/* How long to wait for answers: those a node gives at once; those it works for, for as long as the request allows (in
 * emulated time, which the node's clock scale turns into ours); no limit. */
enum patience { PATIENCE_SHORT, PATIENCE_REQUEST, PATIENCE_ENDLESS };

/* Sends one request to one node; `on_response` is called for each response with a body and may return an exit status
 * other than 0 to end early. On failure says what to print, and prints nothing. Returns failure->status. */
typedef int (*response_fn)(void *context, const struct target *target, const Qnet__V1__ControlResponse *response);
int target_ask(const struct ctl *ctl, const struct target *target, Qnet__V1__ControlRequest *request,
               enum patience patience, response_fn on_response, void *context, struct failure *ret_failure);
/* The same, and complains. Returns the exit status. */
int target_call(const struct ctl *ctl, const struct target *target, Qnet__V1__ControlRequest *request,
                enum patience patience, response_fn on_response, void *context);
int failure_report(const struct ctl *ctl, const struct target *target, const struct failure *failure);
/* Asks all targets, one after the other; of those that fail the first failure's status is returned. Complains about
 * each as a warning; if `failed` is not NULL a JSON description is added to that array. */
int targets_ask_all(const struct ctl *ctl, const struct targets *targets, Qnet__V1__ControlRequest *request,
                    enum patience patience, response_fn on_response, void *context, json_t *failed);

json_t *failure_to_json(const struct target *target, const struct failure *failure);

/* The timeout of a request in nanoseconds of emulated time, for its field: --timeout, or 0 for the node's own default.
 */
uint64_t request_timeout_ns(const struct ctl *ctl);
#define REQUEST_TIMEOUT_DEFAULT_S 30.0

/* JSON of a response's body, with the node's name in it. */
json_t *body_to_json(const struct target *target, const ProtobufCMessage *body);

#endif
