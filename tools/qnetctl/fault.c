/* SPDX-License-Identifier: Apache-2.0 */
/* Faults on a link, sent to every process that has a part in it: both ends and the station between them. Without a lab
 * only the one node is known, and it cuts, delays or listens on its own side. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "command.h"
#include "target.h"

#define FAULTS_MAX 2

struct faults {
    Qnet__V1__FaultKind kinds[FAULTS_MAX];
    size_t n;
    double value;
    const char *attack; /* NULL: none of those. */
    double ratio, evenly;
    bool boost;
    bool at_one; /* Only at the node that is named, if one is. */
};

static bool takes_part(const struct qn_topology *topology, const struct qn_topo_link *link, const char *node) {
    const uint16_t parts[] = {link->a, link->b, link->via};
    for (size_t i = 0; i < 3; i++)
        if (parts[i] != QN_NO_NODE && strcmp(topology->nodes[parts[i]].name, node) == 0) return true;
    return false;
}

static int find_link(const struct ctl *ctl, const struct targets *targets, const char *name,
                     const struct qn_topo_link **ret_link) {
    *ret_link = NULL;
    if (!targets->has_topology) return STATUS_OK; /* The node knows whether there is such a link. */
    int index = qn_topology_find_link(&targets->topology, name);
    if (index >= 0) {
        *ret_link = &targets->topology.links[index];
        return STATUS_OK;
    }
    const char *near = qn_topology_suggest_link(&targets->topology, name);
    if (near != NULL) return ctl_usage(ctl, "unknown link \"%s\"; did you mean \"%s\"?", name, near);
    return ctl_usage(ctl, "unknown link \"%s\"; see: qnetctl links", name);
}

static int send_to(const struct ctl *ctl, const struct target *target, const char *link, const struct faults *faults,
                   json_t *asked) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__FaultRequest body = QNET__V1__FAULT_REQUEST__INIT;
    int status = STATUS_OK;
    body.link = (char *)(uintptr_t)link;
    body.value = faults->value;
    if (faults->attack != NULL) body.attack = (char *)(uintptr_t)faults->attack;
    body.ratio = faults->ratio;
    body.evenly = faults->evenly;
    body.boost = faults->boost;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_FAULT;
    request.fault = &body;
    for (size_t i = 0; i < faults->n && status == STATUS_OK; i++) {
        body.kind = faults->kinds[i];
        status = target_call(ctl, target, &request, PATIENCE_SHORT, NULL, NULL);
    }
    if (status == STATUS_OK) json_array_append_new(asked, json_string(target_name(target)));
    return status;
}

static int print_result(const struct ctl *ctl, const char *what, const char *link, json_t *asked) {
    if (ctl->json) return ctl_json(ctl, json_pack("{s:s,s:s,s:O}", "fault", what, "link", link, "nodes", asked));
    printf("link %s: %s, at", link, what);
    for (size_t i = 0; i < json_array_size(asked); i++) printf(" %s", json_string_value(json_array_get(asked, i)));
    putchar('\n');
    return STATUS_OK;
}

/* Every part is asked even when one fails: a fault on one side only would be a different fault. */
static int inject(const struct ctl *ctl, const char *link, const char *what, const struct faults *faults) {
    const struct qn_topo_link *known;
    struct targets targets;
    struct ctl whole = *ctl;
    int first = STATUS_OK;
    if (ctl->socket == NULL && !faults->at_one) whole.node = NULL; /* The nodes are those of the link... */
    int status = targets_find(&whole, &targets);
    if (status != STATUS_OK) return status;
    if (!targets.has_topology && targets.is_many) { /* ...unless no lab tells which. */
        targets_release(&targets);
        status = targets_find_one(ctl, &targets);
        if (status != STATUS_OK) return status;
    }
    status = find_link(ctl, &targets, link, &known);
    json_t *asked = json_array();
    for (size_t i = 0; i < targets.len && status == STATUS_OK; i++) {
        if (known != NULL && !takes_part(&targets.topology, known, targets.list[i].node)) continue;
        int rc = send_to(ctl, &targets.list[i], link, faults, asked);
        if (first == STATUS_OK) first = rc;
    }
    if (status == STATUS_OK) status = first;
    if (status == STATUS_OK) status = print_result(ctl, what, link, asked);
    json_decref(asked);
    targets_release(&targets);
    return status;
}

static int cut_or_restore(const struct ctl *ctl, const struct args *args, bool cut) {
    const char *plane = args_text(args, "plane", "both");
    struct faults faults = {0};
    char what[64];
    if (strcmp(plane, "classical") != 0)
        faults.kinds[faults.n++] =
            cut ? QNET__V1__FAULT_KIND__FAULT_KIND_CUT_QUANTUM : QNET__V1__FAULT_KIND__FAULT_KIND_RESTORE_QUANTUM;
    if (strcmp(plane, "quantum") != 0)
        faults.kinds[faults.n++] =
            cut ? QNET__V1__FAULT_KIND__FAULT_KIND_CUT_CLASSICAL : QNET__V1__FAULT_KIND__FAULT_KIND_RESTORE_CLASSICAL;
    snprintf(what, sizeof what, "%s (%s)", cut ? "cut" : "restored", plane);
    return inject(ctl, args->operands[0], what, &faults);
}

int run_fault_cut(struct ctl *ctl, const struct args *args) { return cut_or_restore(ctl, args, true); }
int run_fault_restore(struct ctl *ctl, const struct args *args) { return cut_or_restore(ctl, args, false); }

int run_fault_delay(struct ctl *ctl, const struct args *args) {
    struct faults faults = {.kinds = {QNET__V1__FAULT_KIND__FAULT_KIND_DELAY}, .n = 1};
    char what[64];
    double delay_s;
    int status = parse_quantity(ctl, "TIME", args->operands[1], QN_DIM_TIME_S, &delay_s);
    if (status != STATUS_OK) return status;
    faults.value = delay_s * 1e9;
    snprintf(what, sizeof what, "delayed by %s each way", text_duration(delay_s));
    return inject(ctl, args->operands[0], what, &faults);
}

int run_fault_eve(struct ctl *ctl, const struct args *args) {
    struct faults faults = {.kinds = {QNET__V1__FAULT_KIND__FAULT_KIND_EVE}, .n = 1};
    char what[64];
    int status = parse_quantity(ctl, "FRACTION", args->operands[1], QN_DIM_FRACTION, &faults.value);
    if (status != STATUS_OK) return status;
    snprintf(what, sizeof what, "%g of the pulses intercepted and resent", faults.value);
    return inject(ctl, args->operands[0], what, &faults);
}

static int read_number(const struct ctl *ctl, const struct args *args, const char *option, double least, double most,
                       double *value) {
    const char *text = args_text(args, option, NULL);
    char *end;
    if (text == NULL) return STATUS_OK;
    double number = strtod(text, &end);
    if (end == text || *end != '\0' || !(number >= least && number <= most))
        return ctl_usage(ctl, "--%s is a number from %g to %g, not \"%s\"", option, least, most, text);
    *value = number;
    return STATUS_OK;
}

int run_fault_attack(struct ctl *ctl, const struct args *args) {
    struct faults faults = {.kinds = {QNET__V1__FAULT_KIND__FAULT_KIND_ATTACK},
                            .n = 1,
                            .value = 1,
                            .attack = args->operands[1],
                            .ratio = 4,
                            .boost = args_has(args, "boost")};
    faults.at_one = strcmp(faults.attack, "mitm") == 0 || strcmp(faults.attack, "replay") == 0;
    bool drifts = strcmp(faults.attack, "drift") == 0;
    char what[96];
    if (drifts) faults.ratio = 0.001;
    int status = args_quantity(ctl, args, "fraction", QN_DIM_FRACTION, &faults.value);
    if (status == STATUS_OK) status = args_quantity(ctl, args, "evenly", QN_DIM_FRACTION, &faults.evenly);
    if (status == STATUS_OK && !drifts) status = read_number(ctl, args, "ratio", 1, 1e6, &faults.ratio);
    if (status == STATUS_OK && drifts) status = read_number(ctl, args, "turn", -1, 1, &faults.ratio);
    if (status != STATUS_OK) return status;
    snprintf(what, sizeof what, "%s%s", drifts ? "" : "attacked: ", faults.attack);
    return inject(ctl, args->operands[0], what, &faults);
}

int run_fault_clear(struct ctl *ctl, const struct args *args) {
    struct faults faults = {.kinds = {QNET__V1__FAULT_KIND__FAULT_KIND_CLEAR}, .n = 1};
    return inject(ctl, args->operands[0], "cleared", &faults);
}
