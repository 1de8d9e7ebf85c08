/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "angle.h"
#include "command.h"
#include "table.h"
#include "target.h"

struct named_state {
    const char *name;
    double theta, phi;
};

/* Eigenstates of the Pauli matrices, and usual names of some. */
static const struct named_state states[] = {
    {"z+", 0, 0},
    {"z-", M_PI, 0},
    {"x+", M_PI / 2, 0},
    {"x-", M_PI / 2, M_PI},
    {"y+", M_PI / 2, M_PI / 2},
    {"y-", M_PI / 2, 3 * M_PI / 2},
    {"0", 0, 0},
    {"1", M_PI, 0},
    {"+", M_PI / 2, 0},
    {"-", M_PI / 2, M_PI},
};

static int parse_state(const struct ctl *ctl, const char *text, double *ret_theta, double *ret_phi) {
    char theta[32];
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++)
        if (strcmp(states[i].name, text) == 0) {
            *ret_theta = states[i].theta;
            *ret_phi = states[i].phi;
            return STATUS_OK;
        }
    const char *comma = strchr(text, ',');
    if (comma != NULL && comma - text < (int)sizeof theta) {
        snprintf(theta, sizeof theta, "%.*s", (int)(comma - text), text);
        if (angle_parse(theta, ret_theta) && angle_parse(comma + 1, ret_phi)) return STATUS_OK;
    }
    return ctl_usage(ctl, "--state: \"%s\" is no state; valid: z+ z- x+ x- y+ y-, or THETA,PHI in " ANGLE_VALID, text);
}

static int print_summary(const struct ctl *ctl, const Qnet__V1__TeleportSummary *summary) {
    static const char *const titles[] = {"AXIS", ">TRIALS", ">MEAN", NULL};
    static const char *const axes[] = {"X", "Y", "Z"};
    struct table table;
    ctl_progress_end(ctl);
    table_init(&table, titles);
    bool is_tomography = false;
    for (size_t i = 0; i < 3 && i < summary->n_trials && i < summary->n_sums; i++) {
        if (summary->trials[i] == 0) continue;
        table_add(&table, "%s", axes[i]);
        table_add(&table, "%" PRIu32, summary->trials[i]);
        table_add(&table, "%+.4f", (double)summary->sums[i] / summary->trials[i]);
        is_tomography = true;
    }
    if (is_tomography) table_print(&table, ctl, "");
    table_release(&table);
    double elapsed_s = (double)summary->elapsed_ns * 1e-9;
    printf("%" PRIu32 " states sent in %s of emulated time", summary->done, text_duration(elapsed_s));
    if (elapsed_s > 0 && summary->done > 1) printf(" (%.4g/s)", summary->done / elapsed_s);
    printf("\n  predicted fidelity: %.4f, from pairs of %.4f\n", summary->predicted, summary->pair_fidelity);
    if (is_tomography)
        printf("  measured fidelity: %.4f +- %.4f\n", summary->fidelity, summary->standard_error);
    else
        printf("  the last states are in the receiver's memories: qnetctl pairs\n");
    if (summary->median_ns > 0) printf("  median time of one: %s\n", text_duration((double)summary->median_ns * 1e-9));
    return STATUS_OK;
}

static int take_summary(void *context, const struct target *target, const Qnet__V1__ControlResponse *response) {
    const struct ctl *ctl = context;
    if (response->body_case != QNET__V1__CONTROL_RESPONSE__BODY_TELEPORT_SUMMARY) return 0;
    if (ctl->json) return ctl_json(ctl, body_to_json(target, &response->teleport_summary->base));
    return print_summary(ctl, response->teleport_summary);
}

int run_teleport(struct ctl *ctl, const struct args *args) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__TeleportRequest body = QNET__V1__TELEPORT_REQUEST__INIT;
    struct targets targets;
    uint64_t number = 1;
    int status = parse_state(ctl, args_text(args, "state", "z+"), &body.theta, &body.phi);
    if (status == STATUS_OK) status = args_u64(ctl, args, "number", 1, 1000000, &number);
    if (status == STATUS_OK) status = args_quantity(ctl, args, "min-fidelity", QN_DIM_FRACTION, &body.min_fidelity);
    if (status == STATUS_OK) status = targets_find_one(ctl, &targets);
    if (status != STATUS_OK) return status;
    body.peer = (char *)(uintptr_t)args->operands[0];
    body.number = (uint32_t)number;
    body.tomography = args_has(args, "tomography");
    body.timeout_ns = request_timeout_ns(ctl);
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_TELEPORT;
    request.teleport = &body;
    ctl_progress(ctl, "teleporting %" PRIu32 " states to %s", body.number, body.peer);
    status = target_call(ctl, &targets.list[0], &request, PATIENCE_REQUEST, take_summary, ctl);
    targets_release(&targets);
    return status;
}
