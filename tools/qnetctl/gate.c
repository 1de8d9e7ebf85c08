/* SPDX-License-Identifier: Apache-2.0 */
/* gate, discard, inspect: single qubits and pairs. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "angle.h"
#include "command.h"
#include "qnet/v1/plane.pb-c.h"
#include "table.h"
#include "target.h"

#define STEPS_MAX 256
#define WORDS_MAX 5

enum operation_args { ARGS_NONE, ARGS_AXIS, ARGS_ANGLE, ARGS_AXIS_ANGLE };

static const struct operation {
    const char *name;
    uint32_t kind;
    unsigned n_qubits;
    enum operation_args args;
    double axis[3]; /* Of rx, ry, rz. */
    bool has_outcome;
} operations[] = {
    {.name = "prepare"},
    {.name = "x", .kind = QNET__V1__OP_KIND__OP_KIND_X, .n_qubits = 1},
    {.name = "y", .kind = QNET__V1__OP_KIND__OP_KIND_Y, .n_qubits = 1},
    {.name = "z", .kind = QNET__V1__OP_KIND__OP_KIND_Z, .n_qubits = 1},
    {.name = "h", .kind = QNET__V1__OP_KIND__OP_KIND_H, .n_qubits = 1},
    {.name = "s", .kind = QNET__V1__OP_KIND__OP_KIND_S, .n_qubits = 1},
    {.name = "sdg", .kind = QNET__V1__OP_KIND__OP_KIND_SDG, .n_qubits = 1},
    {.name = "t", .kind = QNET__V1__OP_KIND__OP_KIND_T, .n_qubits = 1},
    {.name = "tdg", .kind = QNET__V1__OP_KIND__OP_KIND_TDG, .n_qubits = 1},
    {.name = "sx", .kind = QNET__V1__OP_KIND__OP_KIND_SX, .n_qubits = 1},
    {.name = "rot", .kind = QNET__V1__OP_KIND__OP_KIND_ROT, .n_qubits = 1, .args = ARGS_AXIS_ANGLE},
    {.name = "rx", .kind = QNET__V1__OP_KIND__OP_KIND_ROT, .n_qubits = 1, .args = ARGS_ANGLE, .axis = {1, 0, 0}},
    {.name = "ry", .kind = QNET__V1__OP_KIND__OP_KIND_ROT, .n_qubits = 1, .args = ARGS_ANGLE, .axis = {0, 1, 0}},
    {.name = "rz", .kind = QNET__V1__OP_KIND__OP_KIND_ROT, .n_qubits = 1, .args = ARGS_ANGLE, .axis = {0, 0, 1}},
    {.name = "cnot", .kind = QNET__V1__OP_KIND__OP_KIND_CNOT, .n_qubits = 2},
    {.name = "cz", .kind = QNET__V1__OP_KIND__OP_KIND_CZ, .n_qubits = 2},
    {.name = "cy", .kind = QNET__V1__OP_KIND__OP_KIND_CY, .n_qubits = 2},
    {.name = "swap", .kind = QNET__V1__OP_KIND__OP_KIND_SWAP, .n_qubits = 2},
    {.name = "iswap", .kind = QNET__V1__OP_KIND__OP_KIND_ISWAP, .n_qubits = 2},
    {.name = "cphase", .kind = QNET__V1__OP_KIND__OP_KIND_CPHASE, .n_qubits = 2, .args = ARGS_ANGLE},
    {.name = "measure",
     .kind = QNET__V1__OP_KIND__OP_KIND_MEASURE,
     .n_qubits = 1,
     .args = ARGS_AXIS,
     .has_outcome = true},
    {.name = "project",
     .kind = QNET__V1__OP_KIND__OP_KIND_PROJECT,
     .n_qubits = 1,
     .args = ARGS_AXIS,
     .has_outcome = true},
    {.name = "bell", .kind = QNET__V1__OP_KIND__OP_KIND_BELL, .n_qubits = 2, .has_outcome = true},
    {.name = "reset", .kind = QNET__V1__OP_KIND__OP_KIND_RESET, .n_qubits = 1},
    {.name = "discard", .kind = QNET__V1__OP_KIND__OP_KIND_DISCARD, .n_qubits = 1},
    {.name = "idle", .kind = QNET__V1__OP_KIND__OP_KIND_IDLE, .n_qubits = 1},
};
#define N_OPERATIONS (sizeof operations / sizeof operations[0])

struct step {
    const struct operation *operation;
    uint64_t qubits[2];
    double args[4];
    size_t n_args;
};

struct program {
    const struct ctl *ctl;
    struct step steps[STEPS_MAX];
    size_t n_steps;
};

static int parse_qubit(const struct ctl *ctl, const char *text, uint64_t *ret_qubit) {
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 0);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value == 0)
        return ctl_usage(ctl, "\"%s\" is no qubit; valid: a number as qnetctl pairs shows it, such as 0x2a", text);
    *ret_qubit = value;
    return STATUS_OK;
}

static const struct operation *find_operation(const struct ctl *ctl, const char *name) {
    const char *names[N_OPERATIONS];
    for (size_t i = 0; i < N_OPERATIONS; i++) {
        if (strcmp(operations[i].name, name) == 0) return &operations[i];
        names[i] = operations[i].name;
    }
    const char *near = suggest_word(name, names, N_OPERATIONS);
    if (near != NULL)
        ctl_usage(ctl, "unknown gate \"%s\"; did you mean \"%s\"?", name, near);
    else
        ctl_usage(ctl, "unknown gate \"%s\"; see: qnetctl help gate", name);
    return NULL;
}

static int parse_arguments(const struct ctl *ctl, struct step *step, char **words, size_t n) {
    const struct operation *op = step->operation;
    bool takes_axis = op->args == ARGS_AXIS || op->args == ARGS_AXIS_ANGLE,
         takes_angle = op->args == ARGS_ANGLE || op->args == ARGS_AXIS_ANGLE;
    double axis[3] = {0, 0, 1}; /* Measured along z unless it says otherwise. */
    if (op->kind == QNET__V1__OP_KIND__OP_KIND_ROT) memcpy(axis, op->axis, sizeof axis);
    size_t most = (size_t)takes_axis + (size_t)takes_angle, least = op->args == ARGS_AXIS ? 0 : most;
    if (n < least || n > most)
        return ctl_usage(ctl, "%s takes %u qubit(s)%s%s; see: qnetctl help gate", op->name, op->n_qubits,
                         takes_axis ? ", an axis" : "", takes_angle ? ", an angle" : "");
    if (takes_axis && n > 0 && !axis_parse(words[0], axis))
        return ctl_usage(ctl, "\"%s\" is no axis; valid: x, y, z, -x, -y, -z", words[0]);
    if (takes_axis || op->kind == QNET__V1__OP_KIND__OP_KIND_ROT) {
        memcpy(step->args, axis, sizeof axis);
        step->n_args = 3;
    }
    if (takes_angle && !angle_parse(words[n - 1], &step->args[step->n_args++]))
        return ctl_usage(ctl, "\"%s\" is no angle; valid: " ANGLE_VALID, words[n - 1]);
    return STATUS_OK;
}

static int parse_step(struct program *program, char **words, size_t n) {
    const struct ctl *ctl = program->ctl;
    if (program->n_steps == STEPS_MAX) return ctl_usage(ctl, "too many steps; at most %d at once", STEPS_MAX);
    struct step *step = &program->steps[program->n_steps];
    *step = (struct step){.operation = find_operation(ctl, words[0])};
    if (step->operation == NULL) return STATUS_USAGE;
    unsigned n_qubits = step->operation->n_qubits;
    if (n < 1 + n_qubits) return ctl_usage(ctl, "%s takes %u qubit(s); see: qnetctl help gate", words[0], n_qubits);
    for (unsigned i = 0; i < n_qubits; i++) {
        int status = parse_qubit(ctl, words[1 + i], &step->qubits[i]);
        if (status != STATUS_OK) return status;
    }
    program->n_steps++;
    return parse_arguments(ctl, step, words + 1 + n_qubits, n - 1 - n_qubits);
}

/* "h 0x1, cnot 0x1 0x2" or 'h 0x1' 'cnot 0x1 0x2': a comma ends a step, and so do both ends of an argument with spaces.
 */
static int parse_program(struct program *program, const struct args *args) {
    char *words[WORDS_MAX], text[4096];
    size_t n = 0, used = 0;
    int status = STATUS_OK;
    for (size_t i = 0; i < args->n_operands && status == STATUS_OK; i++) {
        const char *at = args->operands[i];
        bool is_whole = strchr(at, ' ') != NULL;
        if (is_whole && n > 0) {
            status = parse_step(program, words, n);
            n = used = 0;
        }
        while (*at != '\0' && status == STATUS_OK) {
            size_t len = strcspn(at, " ,");
            if (used + len + 1 > sizeof text || (len > 0 && n == WORDS_MAX))
                return ctl_usage(program->ctl, "a step is too long; separate steps with commas");
            if (len > 0) {
                words[n++] = memcpy(text + used, at, len);
                text[used + len] = '\0';
                used += len + 1;
            }
            at += len;
            bool ends = *at == ',' || (*at == '\0' && is_whole);
            at += *at != '\0';
            if (!ends || n == 0) continue;
            status = parse_step(program, words, n);
            n = used = 0;
        }
    }
    if (status == STATUS_OK && n > 0) status = parse_step(program, words, n);
    if (status == STATUS_OK && program->n_steps == 0)
        status = ctl_usage(program->ctl, "there is no step; see: qnetctl help gate");
    return status;
}

static json_t *result_to_json(const struct program *program, const struct target *target,
                              const Qnet__V1__GateResult *result) {
    json_t *object = body_to_json(target, &result->base), *steps = json_array();
    size_t outcome = 0, made = 0;
    for (size_t i = 0; i < program->n_steps; i++) {
        const struct operation *op = program->steps[i].operation;
        json_t *step = json_pack("{s:s}", "step", op->name);
        char qubit[24];
        if (op->has_outcome && outcome < result->n_outcomes)
            json_object_set_new(step, "outcome", json_integer(result->outcomes[outcome++]));
        if (op->kind == 0 && made < result->n_qubits) {
            snprintf(qubit, sizeof qubit, "0x%" PRIx64, result->qubits[made++]);
            json_object_set_new(step, "qubit", json_string(qubit));
        }
        json_array_append_new(steps, step);
    }
    json_object_set_new(object, "steps", steps);
    return object;
}

static void print_result(const struct program *program, const Qnet__V1__GateResult *result) {
    static const char *const bell[] = {"Phi+", "Phi-", "Psi+", "Psi-"};
    size_t outcome = 0, made = 0;
    for (size_t i = 0; i < program->n_steps; i++) {
        const struct step *step = &program->steps[i];
        const struct operation *op = step->operation;
        if (op->kind == 0 && made < result->n_qubits) printf("prepare: qubit 0x%" PRIx64 "\n", result->qubits[made++]);
        if (!op->has_outcome || outcome == result->n_outcomes) continue;
        uint32_t bits = result->outcomes[outcome++];
        if (op->n_qubits == 2)
            printf("%s 0x%" PRIx64 " 0x%" PRIx64 ": %" PRIu32 " (%s)\n", op->name, step->qubits[0], step->qubits[1],
                   bits, bell[bits & 3]);
        else
            printf("%s 0x%" PRIx64 ": %" PRIu32 " (%s)\n", op->name, step->qubits[0], bits,
                   bits == 0 ? "along the axis" : "against the axis");
    }
    if (outcome == 0 && made == 0) printf("done: %zu step(s)\n", program->n_steps);
}

static int take_result(void *context, const struct target *target, const Qnet__V1__ControlResponse *response) {
    const struct program *program = context;
    if (response->body_case != QNET__V1__CONTROL_RESPONSE__BODY_GATE) return 0;
    if (program->ctl->json) return ctl_json(program->ctl, result_to_json(program, target, response->gate));
    print_result(program, response->gate);
    return 0;
}

int run_gate(struct ctl *ctl, const struct args *args) {
    static struct program program;
    static Qnet__V1__GateStep steps[STEPS_MAX], *pointers[STEPS_MAX];
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__GateRequest body = QNET__V1__GATE_REQUEST__INIT;
    struct targets targets;
    program.ctl = ctl;
    int status = parse_program(&program, args);
    if (status == STATUS_OK) status = targets_find_one(ctl, &targets);
    if (status != STATUS_OK) return status;
    for (size_t i = 0; i < program.n_steps; i++) {
        struct step *step = &program.steps[i];
        qnet__v1__gate_step__init(&steps[i]);
        steps[i].kind = step->operation->kind;
        steps[i].n_qubits = step->operation->n_qubits;
        steps[i].qubits = step->qubits;
        steps[i].n_args = step->n_args;
        steps[i].args = step->args;
        pointers[i] = &steps[i];
    }
    body.steps = pointers;
    body.n_steps = program.n_steps;
    body.timeout_ns = request_timeout_ns(ctl);
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_GATE;
    request.gate = &body;
    status = target_call(ctl, &targets.list[0], &request, PATIENCE_REQUEST, take_result, &program);
    targets_release(&targets);
    return status;
}

/* ---- discard ---- */

int run_discard(struct ctl *ctl, const struct args *args) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__DiscardRequest body = QNET__V1__DISCARD_REQUEST__INIT;
    struct targets targets;
    bool all = args_has(args, "all");
    int status = STATUS_OK;
    if (all == (args->n_operands > 0)) return ctl_usage(ctl, "name one or more qubits, or --all; see: qnetctl pairs");
    for (size_t i = 0; i < args->n_operands && status == STATUS_OK; i++)
        status = parse_qubit(ctl, args->operands[i], &body.pair);
    if (status == STATUS_OK) status = targets_find_one(ctl, &targets);
    if (status != STATUS_OK) return status;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_DISCARD;
    request.discard = &body;
    body.all = all;
    if (all) body.pair = 0;
    size_t n = 0;
    for (size_t i = 0; (all ? i == 0 : i < args->n_operands) && status == STATUS_OK; i++) {
        if (!all) parse_qubit(ctl, args->operands[i], &body.pair);
        status = target_call(ctl, &targets.list[0], &request, PATIENCE_SHORT, NULL, NULL);
        n += status == STATUS_OK;
    }
    if (status == STATUS_OK && ctl->json)
        status = ctl_json(ctl, json_pack("{s:b,s:i}", "all", all, "discarded", all ? 0 : (int)n));
    else if (status == STATUS_OK && all)
        puts("discarded all pairs");
    else if (status == STATUS_OK)
        printf("discarded %zu pair(s)\n", n);
    targets_release(&targets);
    return status;
}

/* ---- inspect ---- */

struct inspection {
    const struct ctl *ctl;
    const char *qubits[2];
};

/* Of rho with the Pauli tensor t, <B|rho|B> for the four Bell states. */
static void bell_fidelities(const double t[16], double ret_fidelities[4]) {
    static const int signs[4][3] = {{1, -1, 1}, {-1, 1, 1}, {1, 1, -1}, {-1, -1, -1}}; /* Of XX, YY, ZZ. */
    for (int i = 0; i < 4; i++)
        ret_fidelities[i] = (1 + signs[i][0] * t[5] + signs[i][1] * t[10] + signs[i][2] * t[15]) / 4;
}

static int print_tensor(const struct inspection *inspection, const struct target *target,
                        const Qnet__V1__InspectInfo *info) {
    static const char *const titles[] = {"", ">I", ">X", ">Y", ">Z", NULL};
    static const char *const names[] = {"I", "X", "Y", "Z"};
    const double *t = info->tensor;
    struct table table;
    double f[4];
    if (info->n_tensor == 4) {
        printf("qubit %s, kept by %s\n  Bloch vector (%+.6f, %+.6f, %+.6f), length %.6f\n", inspection->qubits[0],
               target_name(target), t[1], t[2], t[3], sqrt(t[1] * t[1] + t[2] * t[2] + t[3] * t[3]));
        return STATUS_OK;
    }
    if (info->n_tensor != 16)
        return ctl_fail(inspection->ctl, STATUS_RUNTIME, "protocol", 7,
                        "the node sent %zu numbers; use the same release", info->n_tensor);
    printf("qubits %s and %s, kept by %s\n\n", inspection->qubits[0], inspection->qubits[1], target_name(target));
    table_init(&table, titles);
    for (size_t i = 0; i < 4; i++) {
        table_add(&table, "%s", names[i]);
        for (size_t j = 0; j < 4; j++) table_add(&table, "%+.6f", t[4 * i + j]);
    }
    int status = table_print(&table, inspection->ctl, "");
    bell_fidelities(t, f);
    printf("\nfidelity: Phi+ %.6f, Phi- %.6f, Psi+ %.6f, Psi- %.6f\n", f[0], f[1], f[2], f[3]);
    return status;
}

static int take_tensor(void *context, const struct target *target, const Qnet__V1__ControlResponse *response) {
    const struct inspection *inspection = context;
    double f[4];
    if (response->body_case != QNET__V1__CONTROL_RESPONSE__BODY_INSPECT) return 0;
    const Qnet__V1__InspectInfo *info = response->inspect;
    if (!inspection->ctl->json) return print_tensor(inspection, target, info);
    json_t *object = body_to_json(target, &info->base);
    if (info->n_tensor == 16) {
        bell_fidelities(info->tensor, f);
        json_object_set_new(object, "fidelity",
                            json_pack("{s:f,s:f,s:f,s:f}", "phi+", f[0], "phi-", f[1], "psi+", f[2], "psi-", f[3]));
    }
    return ctl_json(inspection->ctl, object);
}

/* Only the process that keeps the state can show it; with a whole lab at hand it is looked for. */
int run_inspect(struct ctl *ctl, const struct args *args) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__InspectRequest body = QNET__V1__INSPECT_REQUEST__INIT;
    struct inspection inspection = {.ctl = ctl,
                                    .qubits = {args->operands[0], args->n_operands > 1 ? args->operands[1] : ""}};
    struct targets targets;
    struct failure failure = {0};
    int status = parse_qubit(ctl, args->operands[0], &body.qubit);
    if (status == STATUS_OK && args->n_operands > 1) status = parse_qubit(ctl, args->operands[1], &body.other);
    if (status == STATUS_OK) status = targets_find(ctl, &targets);
    if (status != STATUS_OK) return status;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_INSPECT;
    request.inspect = &body;
    size_t i = 0;
    do {
        status = target_ask(ctl, &targets.list[i], &request, PATIENCE_SHORT, take_tensor, &inspection, &failure);
    } while (failure.status != STATUS_OK && ++i < targets.len);
    if (failure.status != STATUS_OK && targets.is_many)
        status = ctl_fail(ctl, STATUS_RUNTIME, "not_found", 25,
                          "no node of the lab keeps the state of %s%s%s; see: qnetctl pairs", inspection.qubits[0],
                          args->n_operands > 1 ? " and " : "", inspection.qubits[1]);
    else if (failure.status != STATUS_OK)
        failure_report(ctl, &targets.list[0], &failure);
    targets_release(&targets);
    return status;
}
