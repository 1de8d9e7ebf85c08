/* SPDX-License-Identifier: Apache-2.0 */
/* An operator's word that a node is dead. It spreads by itself, so one node that has met the dead one is enough. */
#include <string.h>

#include "base/err.h"
#include "command.h"
#include "target.h"

static int print_result(const struct ctl *ctl, const char *dead, const struct target *target) {
    if (ctl->json) return ctl_json(ctl, json_pack("{s:s,s:s}", "dead", dead, "told", target_name(target)));
    printf("%s: declared dead, at %s\n", dead, target_name(target));
    return STATUS_OK;
}

int run_declare_dead(struct ctl *ctl, const struct args *args) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__DeclareDeadRequest body = QNET__V1__DECLARE_DEAD_REQUEST__INIT;
    const char *dead = args->operands[0];
    struct targets targets;
    int status = targets_find(ctl, &targets);
    if (status != STATUS_OK) return status;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_DECLARE_DEAD;
    request.declare_dead = &body;
    body.node = (char *)(uintptr_t)dead;
    struct failure failure = {.status = STATUS_UNREACHABLE};
    const struct target *asked = &targets.list[0];
    for (size_t i = 0; i < targets.len && failure.status != STATUS_OK; i++) {
        if (targets.len > 1 && strcmp(targets.list[i].node, dead) == 0) continue;
        asked = &targets.list[i];
        target_ask(ctl, asked, &request, PATIENCE_SHORT, NULL, NULL, &failure);
    }
    status = failure.status == STATUS_OK ? print_result(ctl, dead, asked) : failure_report(ctl, asked, &failure);
    targets_release(&targets);
    return status;
}
