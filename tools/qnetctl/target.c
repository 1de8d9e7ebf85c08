/* SPDX-License-Identifier: Apache-2.0 */
#include "target.h"

#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "message_json.h"

#define ANSWER_TIMEOUT_S 10.0 /* For what a node answers at once. */

/* ---- who ---- */

static int add(const struct ctl *ctl, struct targets *targets, const char *node, const char *socket) {
    struct target *list = realloc(targets->list, (targets->len + 1) * sizeof *list);
    if (list == NULL) return ctl_no_memory(ctl);
    targets->list = list;
    struct target *target = &list[targets->len++];
    snprintf(target->node, sizeof target->node, "%s", node);
    snprintf(target->socket, sizeof target->socket, "%s", socket);
    return STATUS_OK;
}

static int add_lab(const struct ctl *ctl, struct targets *targets) {
    char path[LAB_PATH_MAX];
    int status = lab_read_topology(ctl, &targets->lab, &targets->topology);
    if (status != STATUS_OK) return status;
    targets->has_topology = true;
    size_t only = 0;
    if (ctl->node != NULL) status = lab_find_node(ctl, &targets->lab, &targets->topology, ctl->node, &only);
    for (size_t i = 0; i < targets->topology.n_nodes && status == STATUS_OK; i++) {
        const char *name = targets->topology.nodes[i].name;
        if (ctl->node != NULL && i != only) continue;
        status = lab_path(ctl, &targets->lab, name, ".sock", path);
        if (status == STATUS_OK) status = add(ctl, targets, name, path);
    }
    return status;
}

/* "/run/qnetd/alice.sock" and "/run/user/0/qnetd-alice.sock" are alice's. */
static int add_pattern(const struct ctl *ctl, struct targets *targets, const char *pattern, const char *prefix) {
    glob_t found;
    int status = STATUS_OK;
    if (glob(pattern, 0, NULL, &found) != 0) return STATUS_OK;
    for (size_t i = 0; i < found.gl_pathc && status == STATUS_OK; i++) {
        char name[LAB_PATH_MAX];
        const char *file = strrchr(found.gl_pathv[i], '/') + 1 + strlen(prefix);
        snprintf(name, sizeof name, "%.*s", (int)(strlen(file) - strlen(".sock")), file);
        if (strlen(name) > QN_NAME_MAX || (ctl->node != NULL && strcmp(ctl->node, name) != 0)) continue;
        status = add(ctl, targets, name, found.gl_pathv[i]);
    }
    globfree(&found);
    return status;
}

/* Where daemons put their sockets when nobody tells them otherwise (daemon/README.md). */
static int add_services(const struct ctl *ctl, struct targets *targets) {
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    char pattern[LAB_PATH_MAX];
    int status = add_pattern(ctl, targets, "/run/qnetd/*.sock", "");
    if (status == STATUS_OK) status = add_pattern(ctl, targets, "/run/qnetd/*/*.sock", ""); /* Of systemd's units. */
    if (status != STATUS_OK || runtime == NULL || runtime[0] != '/') return status;
    snprintf(pattern, sizeof pattern, "%s/qnetd-*.sock", runtime);
    return add_pattern(ctl, targets, pattern, "qnetd-");
}

static int find(const struct ctl *ctl, struct targets *targets) {
    if (ctl->socket != NULL && (ctl->node != NULL || ctl->lab != NULL))
        return ctl_usage(ctl, "--socket names one node already; leave out --node and --lab");
    if (ctl->socket != NULL) return add(ctl, targets, "", ctl->socket);
    if (ctl->lab == NULL) { /* A container has its one daemon and no lab. */
        struct lab_list labs;
        int status = lab_list(ctl, &labs);
        if (status != STATUS_OK) return status;
        bool none = labs.len == 0;
        lab_list_release(&labs);
        if (none) status = add_services(ctl, targets);
        if (status != STATUS_OK || targets->len > 0) return status;
        if (none && ctl->node != NULL)
            return ctl_fail(ctl, STATUS_UNREACHABLE, "unreachable", 0,
                            "no lab is running and no qnetd named \"%s\" has its socket in the usual places; start a "
                            "lab (qnetctl lab up FILE) or name the socket: --socket PATH",
                            ctl->node);
        if (none)
            return ctl_fail(ctl, STATUS_UNREACHABLE, "unreachable", 0,
                            "no lab is running and no qnetd has its socket in the usual places; start a lab (qnetctl "
                            "lab up FILE) or name a socket: --socket PATH");
    }
    int status = lab_current(ctl, ctl->lab, false, &targets->lab);
    return status == STATUS_OK ? add_lab(ctl, targets) : status;
}

int targets_find(const struct ctl *ctl, struct targets *ret_targets) {
    struct targets targets = {0};
    int status = find(ctl, &targets);
    if (status != STATUS_OK) {
        targets_release(&targets);
        return status;
    }
    targets.is_many = targets.len > 1;
    *ret_targets = targets;
    return STATUS_OK;
}

int targets_find_one(const struct ctl *ctl, struct targets *ret_targets) {
    int status = targets_find(ctl, ret_targets);
    if (status != STATUS_OK || ret_targets->len == 1) return status;
    char names[512];
    size_t used = 0;
    for (size_t i = 0; i < ret_targets->len && used < sizeof names; i++)
        used +=
            (size_t)snprintf(names + used, sizeof names - used, "%s%s", i == 0 ? "" : ", ", ret_targets->list[i].node);
    targets_release(ret_targets);
    return ctl_usage(ctl, "which node? choose with --node: %s", names);
}

void targets_release(struct targets *targets) {
    free(targets->list);
    if (targets->has_topology) qn_topology_release(&targets->topology);
    *targets = (struct targets){0};
}

const char *target_name(const struct target *target) { return target->node[0] != '\0' ? target->node : target->socket; }

/* ---- asking ---- */

uint64_t request_timeout_ns(const struct ctl *ctl) { return ctl->has_timeout ? (uint64_t)(ctl->timeout_s * 1e9) : 0; }

static uint64_t deadline_in(double seconds) {
    return seconds > 1e9 ? CLIENT_NEVER : client_now_ns() + (uint64_t)(seconds * 1e9);
}

static int status_of(int error, const struct client *client) {
    switch (-error) {
    case QN_ETIMEOUT:
        return STATUS_TIMEOUT;
    case QN_EAUTH:
        return STATUS_DENIED;
    case QN_EQBER:
    case QN_EBELL:
        return STATUS_UNHEALTHY;
    case QN_EINVAL:
    case QN_EUNKNOWN_NODE:
    case QN_EUNKNOWN_LINK:
        return client->is_remote ? STATUS_USAGE : STATUS_UNREACHABLE;
    case QN_ECLOSED:
        return client->is_remote ? STATUS_RUNTIME : STATUS_UNREACHABLE;
    case QN_ESYSTEM:
        if (client->is_remote) return STATUS_RUNTIME;
        return client->os_error == EACCES || client->os_error == EPERM ? STATUS_DENIED : STATUS_UNREACHABLE;
    default:
        return STATUS_RUNTIME;
    }
}

static const char *advice(int error, const struct client *client) {
    switch (-error) {
    case QN_ETIMEOUT:
        return "the node may be stuck; see its log, or allow more with --timeout";
    case QN_ECLOSED:
        return "it may have stopped; see its log";
    case QN_EINVAL:
        return "use a shorter path";
    case QN_EPROTOCOL:
        return "check that the socket is a qnetd's, of the same release";
    case QN_ENOMEM:
        return "free memory on this machine";
    default:
        break;
    }
    if (client->os_error == EACCES || client->os_error == EPERM) return "run as the user of the node";
    if (client->os_error == ENOENT || client->os_error == ECONNREFUSED) return "the node is not running; start it";
    return "see the node's log";
}

static int describe(const struct client *client, int error, struct failure *failure) {
    failure->status = status_of(error, client);
    failure->number = (unsigned)-error;
    snprintf(failure->code, sizeof failure->code, "%s", client->error_code);
    if (client->is_remote)
        snprintf(failure->message, sizeof failure->message, "%s", client->error);
    else
        snprintf(failure->message, sizeof failure->message, "%s; %s", client->error, advice(error, client));
    return failure->status;
}

static int take_scale(void *context, const Qnet__V1__ControlResponse *response) {
    if (response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_STATUS)
        *(double *)context = response->status->time_scale;
    return 0;
}

/* The node ends its requests itself when their time is over; we wait somewhat longer, in case it is stuck. */
static int request_deadline(const struct ctl *ctl, struct client *client, uint64_t *ret_deadline_ns) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__StatusRequest status = QNET__V1__STATUS_REQUEST__INIT;
    double scale = 1;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_STATUS;
    request.status = &status;
    int rc = client_call(client, &request, deadline_in(ANSWER_TIMEOUT_S), take_scale, &scale);
    if (rc < 0) return rc;
    double timeout_s = ctl->has_timeout ? ctl->timeout_s : REQUEST_TIMEOUT_DEFAULT_S;
    *ret_deadline_ns = deadline_in((scale > 0 ? timeout_s / scale : timeout_s) + ANSWER_TIMEOUT_S);
    return 0;
}

struct relay {
    response_fn on_response;
    void *context;
    const struct target *target;
};

static int relay(void *context, const Qnet__V1__ControlResponse *response) {
    const struct relay *relay = context;
    return relay->on_response == NULL ? 0 : relay->on_response(relay->context, relay->target, response);
}

int target_ask(const struct ctl *ctl, const struct target *target, Qnet__V1__ControlRequest *request,
               enum patience patience, response_fn on_response, void *context, struct failure *ret_failure) {
    struct client client;
    struct relay to = {on_response, context, target};
    uint64_t deadline_ns = CLIENT_NEVER;
    *ret_failure = (struct failure){.status = STATUS_OK};
    int rc = client_open(&client, target->socket);
    if (rc == 0 && patience == PATIENCE_REQUEST) rc = request_deadline(ctl, &client, &deadline_ns);
    if (rc == 0 && patience == PATIENCE_SHORT)
        deadline_ns = deadline_in(ctl->has_timeout ? ctl->timeout_s : ANSWER_TIMEOUT_S);
    if (rc == 0) rc = client_call(&client, request, deadline_ns, relay, &to);
    if (rc < 0) describe(&client, rc, ret_failure);
    client_close(&client);
    return rc < 0 ? ret_failure->status : rc;
}

int failure_report(const struct ctl *ctl, const struct target *target, const struct failure *failure) {
    return ctl_fail(ctl, failure->status, failure->code, failure->number, "%s%s%s", target->node,
                    target->node[0] != '\0' ? ": " : "", failure->message);
}

int target_call(const struct ctl *ctl, const struct target *target, Qnet__V1__ControlRequest *request,
                enum patience patience, response_fn on_response, void *context) {
    struct failure failure;
    int status = target_ask(ctl, target, request, patience, on_response, context, &failure);
    return failure.status == STATUS_OK ? status : failure_report(ctl, target, &failure);
}

json_t *failure_to_json(const struct target *target, const struct failure *failure) {
    return json_pack("{s:s,s:{s:s,s:i,s:s,s:i}}", "node", target_name(target), "error", "code", failure->code, "number",
                     (int)failure->number, "message", failure->message, "exit_status", failure->status);
}

int targets_ask_all(const struct ctl *ctl, const struct targets *targets, Qnet__V1__ControlRequest *request,
                    enum patience patience, response_fn on_response, void *context, json_t *failed) {
    int first = STATUS_OK;
    struct failure failure;
    for (size_t i = 0; i < targets->len; i++) {
        const struct target *target = &targets->list[i];
        int status = target_ask(ctl, target, request, patience, on_response, context, &failure);
        if (failure.status != STATUS_OK && targets->is_many) {
            ctl_warn(ctl, "%s: %s", target_name(target), failure.message);
            if (failed != NULL) json_array_append_new(failed, failure_to_json(target, &failure));
        } else if (failure.status != STATUS_OK) {
            failure_report(ctl, target, &failure);
        }
        if (first == STATUS_OK) first = status;
    }
    return first;
}

json_t *body_to_json(const struct target *target, const ProtobufCMessage *body) {
    json_t *object = message_to_json(body);
    if (object != NULL && json_object_get(object, "node") == NULL && target->node[0] != '\0')
        json_object_set_new(object, "node", json_string(target->node));
    return object;
}
