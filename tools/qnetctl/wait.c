/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "target.h"

/* "ready", "peer=bob", "peer=bob:down", "pairs=3", "keys=1" in the words of the protocol. */
static int parse_condition(const struct ctl *ctl, const char *text, char *out, size_t size) {
    const char *value = strchr(text, '=');
    size_t len = value == NULL ? strlen(text) : (size_t)(value++ - text);
    char *end;
    if (strcmp(text, "ready") == 0) {
        snprintf(out, size, "ready");
        return STATUS_OK;
    }
    if (value != NULL && *value != '\0' && len == 4 && strncmp(text, "peer", len) == 0) {
        size_t name_len = strcspn(value, ":");
        const char *state = value[name_len] == ':' ? value + name_len + 1 : "up";
        if (name_len > 0 && name_len <= QN_NAME_MAX && (strcmp(state, "up") == 0 || strcmp(state, "down") == 0)) {
            snprintf(out, size, "peer %.*s %s", (int)name_len, value, state);
            return STATUS_OK;
        }
    }
    bool is_count = (len == 5 && strncmp(text, "pairs", len) == 0) || (len == 4 && strncmp(text, "keys", len) == 0);
    if (is_count && value != NULL && *value >= '0' && *value <= '9') {
        unsigned long n = strtoul(value, &end, 10);
        if (*end == '\0' && n <= UINT32_MAX) {
            snprintf(out, size, "%.*s %lu", (int)len, text, n);
            return STATUS_OK;
        }
    }
    return ctl_usage(ctl, "--for: \"%s\" is no condition; valid: ready, peer=NAME, peer=NAME:down, pairs=N, keys=N",
                     text);
}

/* "ready" makes sense for a whole lab, the others for one node. */
int run_wait(struct ctl *ctl, const struct args *args) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__WaitRequest body = QNET__V1__WAIT_REQUEST__INIT;
    struct targets targets;
    char condition[128];
    const char *what = args_text(args, "for", NULL);
    if (what == NULL)
        return ctl_usage(ctl, "--for is missing; valid: ready, peer=NAME, peer=NAME:down, pairs=N, keys=N");
    int status = parse_condition(ctl, what, condition, sizeof condition);
    if (status == STATUS_OK)
        status = strcmp(condition, "ready") == 0 ? targets_find(ctl, &targets) : targets_find_one(ctl, &targets);
    if (status != STATUS_OK) return status;
    body.condition = condition;
    body.timeout_ns = request_timeout_ns(ctl);
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_WAIT;
    request.wait = &body;
    for (size_t i = 0; i < targets.len && status == STATUS_OK; i++) {
        ctl_progress(ctl, "%s: waiting for %s", target_name(&targets.list[i]), what);
        status = target_call(ctl, &targets.list[i], &request, PATIENCE_REQUEST, NULL, NULL);
    }
    if (status == STATUS_OK && ctl->json) status = ctl_json(ctl, json_pack("{s:s,s:b}", "condition", what, "met", 1));
    targets_release(&targets);
    return status;
}
