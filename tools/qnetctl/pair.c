/* SPDX-License-Identifier: Apache-2.0 */
/* request-pair: end-to-end pairs, kept or measured at both ends. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "command.h"
#include "qnet/v1/app.pb-c.h"
#include "table.h"
#include "target.h"

/* As in the protocol (AxisSum.axis). */
enum axis { AXIS_X, AXIS_Y, AXIS_Z, AXIS_PLUS, AXIS_MINUS }; /* The last two: (Z+X)/sqrt2, (Z-X)/sqrt2. */
static const char *const axis_names[] = {"X", "Y", "Z", "(Z+X)", "(Z-X)"};

struct pairs {
    const struct ctl *ctl;
    uint32_t wanted, delivered;
};

/* Mean of the product of signs along one pair of axes, and its standard error. */
static bool correlation(const Qnet__V1__PairSummary *summary, enum axis a, enum axis b, double *ret_mean,
                        double *ret_error) {
    for (size_t i = 0; i < summary->n_sums; i++) {
        const Qnet__V1__AxisSum *sum = summary->sums[i];
        if (sum->axis != a || sum->peer_axis != b || sum->trials == 0) continue;
        double n = (double)sum->trials, mean = (double)sum->sum / n;
        *ret_mean = mean;
        *ret_error = sqrt((1 - mean * mean + 1 / n) / n); /* 1 / n: not even n equal outcomes are certainty. */
        return true;
    }
    return false;
}

struct estimate {
    const char *name, *label;
    double value, error;
};

/* What the correlations of pairs meant to be in Phi+ say: F = (1 + XX - YY + ZZ) / 4; error rates (1 - ZZ) / 2 and
 * (1 - XX) / 2 (Bennett, Brassard, Mermin, PRL 68, 557, 1992); S of Clauser, Horne, Shimony, Holt (PRL 23, 880, 1969).
 */
static size_t estimate(const Qnet__V1__PairSummary *summary, struct estimate ret_estimates[4]) {
    double xx = 0, yy = 0, zz = 0, dx = 0, dy = 0, dz = 0, s[4], d[4];
    size_t n = 0;
    bool has_x = correlation(summary, AXIS_X, AXIS_X, &xx, &dx), has_y = correlation(summary, AXIS_Y, AXIS_Y, &yy, &dy);
    bool has_z = correlation(summary, AXIS_Z, AXIS_Z, &zz, &dz);
    if (has_x && has_y && has_z)
        ret_estimates[n++] = (struct estimate){"measured_fidelity", "measured fidelity", (1 + xx - yy + zz) / 4,
                                               sqrt(dx * dx + dy * dy + dz * dz) / 4};
    if (has_z) ret_estimates[n++] = (struct estimate){"qber_z", "error rate in Z", (1 - zz) / 2, dz / 2};
    if (has_x) ret_estimates[n++] = (struct estimate){"qber_x", "error rate in X", (1 - xx) / 2, dx / 2};
    if (correlation(summary, AXIS_Z, AXIS_PLUS, &s[0], &d[0]) &&
        correlation(summary, AXIS_Z, AXIS_MINUS, &s[1], &d[1]) &&
        correlation(summary, AXIS_X, AXIS_PLUS, &s[2], &d[2]) && correlation(summary, AXIS_X, AXIS_MINUS, &s[3], &d[3]))
        ret_estimates[n++] = (struct estimate){"chsh", "CHSH value S", s[0] + s[1] + s[2] - s[3],
                                               sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2] + d[3] * d[3])};
    return n;
}

static json_t *summary_to_json(const struct target *target, const Qnet__V1__PairSummary *summary) {
    struct estimate estimates[4];
    json_t *object = body_to_json(target, &summary->base), *derived = json_object();
    size_t n = estimate(summary, estimates);
    for (size_t i = 0; i < n; i++)
        json_object_set_new(derived, estimates[i].name,
                            json_pack("{s:f,s:f}", "value", estimates[i].value, "standard_error", estimates[i].error));
    json_object_set_new(object, "type", json_string("summary"));
    json_object_set_new(object, "estimates", derived);
    return object;
}

static int print_summary(const struct ctl *ctl, const Qnet__V1__PairSummary *summary) {
    static const char *const titles[] = {"AXES", ">TRIALS", ">CORRELATION", ">ERROR", NULL};
    struct estimate estimates[4];
    struct table table;
    double mean, error;
    ctl_progress_end(ctl);
    table_init(&table, titles);
    for (size_t i = 0; i < summary->n_sums; i++) {
        const Qnet__V1__AxisSum *sum = summary->sums[i];
        if (sum->axis > AXIS_MINUS || sum->peer_axis > AXIS_MINUS) continue;
        if (!correlation(summary, sum->axis, sum->peer_axis, &mean, &error)) continue;
        table_add(&table, "%s %s", axis_names[sum->axis], axis_names[sum->peer_axis]);
        table_add(&table, "%" PRIu64, sum->trials);
        table_add(&table, "%+.4f", mean);
        table_add(&table, "%.4f", error);
    }
    int status = summary->n_sums > 0 ? table_print(&table, ctl, "") : STATUS_OK;
    double elapsed_s = (double)summary->elapsed_ns * 1e-9;
    printf("%" PRIu32 " pairs over %" PRIu32 " link(s) in %s of emulated time", summary->delivered, summary->hops,
           text_duration(elapsed_s));
    if (elapsed_s > 0) printf(" (%.4g/s)", summary->delivered / elapsed_s);
    printf("\n  fidelity: %.4f estimated by the nodes, %.4f predicted by the model\n", summary->goodness,
           summary->predicted);
    size_t n = estimate(summary, estimates);
    for (size_t i = 0; i < n; i++)
        printf("  %s: %.4f +- %.4f\n", estimates[i].label, estimates[i].value, estimates[i].error);
    if (summary->expired > 0) printf("  %" PRIu32 " more pairs were too old and discarded\n", summary->expired);
    table_release(&table);
    return status;
}

static int take_pair(void *context, const struct target *target, const Qnet__V1__ControlResponse *response) {
    struct pairs *pairs = context;
    const struct ctl *ctl = pairs->ctl;
    if (response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_PAIR_SUMMARY)
        return ctl->json ? ctl_json(ctl, summary_to_json(target, response->pair_summary))
                         : print_summary(ctl, response->pair_summary);
    if (response->body_case != QNET__V1__CONTROL_RESPONSE__BODY_PAIR) return 0;
    Qnet__V1__PairInfo *pair = response->pair;
    pairs->delivered++;
    if (ctl->json) {
        json_t *object = body_to_json(target, &pair->base);
        json_object_set_new(object, "type", json_string("pair"));
        return ctl_json(ctl, object);
    }
    ctl_progress_end(ctl);
    printf("qubit 0x%" PRIx64 "  with %s  fidelity %.4f\n", pair->qubit, text_clean(pair->peer), pair->fidelity);
    ctl_progress(ctl, "%" PRIu32 " of %" PRIu32 " pairs", pairs->delivered, pairs->wanted);
    return 0;
}

static uint32_t axes_set(const char *name) {
    static const struct {
        const char *name;
        uint32_t set;
    } sets[] = {{"z", QNET__V1__AXES_SET__AXES_SET_Z},
                {"xz", QNET__V1__AXES_SET__AXES_SET_XZ},
                {"xyz", QNET__V1__AXES_SET__AXES_SET_XYZ},
                {"chsh", QNET__V1__AXES_SET__AXES_SET_CHSH}};
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++)
        if (strcmp(sets[i].name, name) == 0) return sets[i].set;
    return QNET__V1__AXES_SET__AXES_SET_UNSPECIFIED;
}

static int read_options(const struct ctl *ctl, const struct args *args, Qnet__V1__PairRequest *body) {
    uint64_t number = 1, tag = 0;
    double cutoff_s = 0;
    const char *measure = args_text(args, "measure", NULL);
    int status = args_u64(ctl, args, "number", 1, 10000000, &number);
    if (status == STATUS_OK) status = args_u64(ctl, args, "tag", 0, UINT64_MAX, &tag);
    if (status == STATUS_OK) status = args_quantity(ctl, args, "min-fidelity", QN_DIM_FRACTION, &body->min_fidelity);
    if (status == STATUS_OK) status = args_quantity(ctl, args, "cutoff", QN_DIM_TIME_S, &cutoff_s);
    if (status != STATUS_OK) return status;
    body->peer = (char *)(uintptr_t)args->operands[0];
    body->number = (uint32_t)number;
    body->tag = tag;
    body->cutoff_ns = (uint64_t)(cutoff_s * 1e9);
    body->timeout_ns = request_timeout_ns(ctl);
    body->quiet = args_has(args, "quiet");
    body->measure = measure != NULL;
    if (measure != NULL) body->axes = axes_set(measure);
    return STATUS_OK;
}

int run_request_pair(struct ctl *ctl, const struct args *args) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__PairRequest body = QNET__V1__PAIR_REQUEST__INIT;
    struct targets targets;
    int status = read_options(ctl, args, &body);
    if (status == STATUS_OK) status = targets_find_one(ctl, &targets);
    if (status != STATUS_OK) return status;
    struct pairs pairs = {.ctl = ctl, .wanted = body.number};
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_PAIR;
    request.pair = &body;
    ctl_progress(ctl, "waiting for %" PRIu32 " pairs with %s", body.number, body.peer);
    status = target_call(ctl, &targets.list[0], &request, PATIENCE_REQUEST, take_pair, &pairs);
    targets_release(&targets);
    return status;
}
