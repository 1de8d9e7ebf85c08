/* SPDX-License-Identifier: Apache-2.0 */
/* Gates on the qubits this node holds, one after the other, as a user asks for them; and the simulator's view of them.
 */
#include <math.h>
#include <stdlib.h>

#include "node/internal.h"

#define GATE_STEPS_MAX 256

struct gates { /* request->extra: a list of operations, one after the other. */
    struct qn_plane_op ops[GATE_STEPS_MAX];
    size_t n_ops, next;
    uint32_t outcomes[GATE_STEPS_MAX];
    size_t n_outcomes;
    uint64_t made[GATE_STEPS_MAX];
    size_t n_made;
};

static void free_gates(struct request *request) { /* What it has prepared goes with it, unless the user was told. */
    struct gates *gates = request->extra;
    struct qn_node *node = request->node;
    for (size_t i = 0; i < gates->n_made; i++) {
        if (!qn_plane_is_owned(node->plane, gates->made[i])) continue; /* An operation is about to destroy it. */
        node_discard_qubit(node, gates->made[i]);
        memory_give(node, 1);
    }
    free(gates);
}

static void run_gates(struct request *request);

static bool ends_qubits(enum _Qnet__V1__OpKind kind) {
    return kind == QNET__V1__OP_KIND__OP_KIND_MEASURE || kind == QNET__V1__OP_KIND__OP_KIND_BELL ||
           kind == QNET__V1__OP_KIND__OP_KIND_DISCARD;
}

static bool has_outcome(enum _Qnet__V1__OpKind kind) {
    return kind == QNET__V1__OP_KIND__OP_KIND_MEASURE || kind == QNET__V1__OP_KIND__OP_KIND_BELL ||
           kind == QNET__V1__OP_KIND__OP_KIND_PROJECT;
}

static void on_gate_done(struct qn_node *node, struct node_op *op, uint32_t outcome, int error) {
    struct request *request = request_find(node, (uint64_t)(uintptr_t)op->owner);
    if (request == NULL) return;
    struct gates *gates = request->extra;
    const struct qn_plane_op *done = &gates->ops[gates->next];
    if (error < 0) {
        for (size_t i = 0; ends_qubits(done->kind) && i < done->n_qubits; i++)
            node_discard_qubit(node, done->qubits[i]); /* Their memories are given back already. */
        request_fail(request, error, "step %zu", gates->next + 1);
        return;
    }
    if (has_outcome(done->kind)) gates->outcomes[gates->n_outcomes++] = outcome;
    gates->next++;
    run_gates(request);
}

static void run_gates(struct request *request) {
    struct qn_node *node = request->node;
    struct gates *gates = request->extra;
    if (gates->next == gates->n_ops) {
        Qnet__V1__GateResult result = QNET__V1__GATE_RESULT__INIT;
        result.outcomes = gates->outcomes;
        result.n_outcomes = gates->n_outcomes;
        result.qubits = gates->made;
        result.n_qubits = gates->n_made;
        control_send(node, request->client, request->id, false, QNET__V1__CONTROL_RESPONSE__BODY_GATE, &result);
        gates->n_made = 0;
        request_finish(request);
        return;
    }
    const struct qn_plane_op *op = &gates->ops[gates->next];
    int rc = node_operate(node, op, (void *)(uintptr_t)request->number, 0, on_gate_done);
    if (rc < 0) {
        request_fail(request, rc, "step %zu: the qubits must be held by this node", gates->next + 1);
        return;
    }
    for (size_t i = 0; ends_qubits(op->kind) && i < op->n_qubits; i++) {
        struct pair *pair = pair_of_qubit(node, op->qubits[i]);
        if (pair != NULL)
            pair_free(node, pair, false);
        else
            memory_give(node, 1); /* Prepared by the user. */
    }
}

/* Axis names for people: 1 number is an axis index, 3 are a vector. */
static int fill_step(const Qnet__V1__GateStep *step, struct qn_plane_op *op) {
    *op = (struct qn_plane_op){
        .kind = (enum _Qnet__V1__OpKind)step->kind, .n_qubits = step->n_qubits, .n_args = step->n_args};
    size_t want = step->kind < QNET__V1__OP_KIND__OP_KIND_MEASURE ? qn_gate_qubits((enum qn_gate)step->kind)
                  : step->kind == QNET__V1__OP_KIND__OP_KIND_BELL ? 2
                                                                  : 1;
    if (want == 0 || step->n_qubits != want || step->n_args > 4 || step->kind > QNET__V1__OP_KIND__OP_KIND_IDLE)
        return -QN_EINVAL;
    for (size_t i = 0; i < want; i++) op->qubits[i] = step->qubits[i];
    for (size_t i = 0; i < step->n_args; i++) {
        if (!isfinite(step->args[i])) return -QN_EINVAL;
        op->args[i] = step->args[i];
    }
    if (step->kind < QNET__V1__OP_KIND__OP_KIND_MEASURE)
        return step->n_args == qn_gate_args((enum qn_gate)step->kind) ? 0 : -QN_EINVAL;
    if (step->kind != QNET__V1__OP_KIND__OP_KIND_MEASURE && step->kind != QNET__V1__OP_KIND__OP_KIND_PROJECT) return 0;
    double length = sqrt(op->args[0] * op->args[0] + op->args[1] * op->args[1] + op->args[2] * op->args[2]);
    if (step->n_args != 3 || !(length > 1e-9)) return -QN_EINVAL;
    for (int i = 0; i < 3; i++) op->args[i] /= length;
    return 0;
}

static bool is_mine_to_touch(const struct qn_node *node, qn_qubit qubit) { /* Not one that a protocol is still using. */
    const struct pair *pair = pair_of_qubit(node, qubit);
    return qn_plane_is_owned(node->plane, qubit) &&
           (pair == NULL || (pair->state == PAIR_USABLE && pair->teleport == 0));
}

void gate_on_request(struct qn_node *node, uint64_t client, uint64_t id, const Qnet__V1__GateRequest *m) {
    if (m->n_steps == 0 || m->n_steps > GATE_STEPS_MAX) {
        node_reply_error(node, client, id, -QN_EINVAL, "1 to %d steps", GATE_STEPS_MAX);
        return;
    }
    struct request *request = request_new(node, client, id, REQUEST_GATE, m->timeout_ns);
    struct gates *gates = request == NULL ? NULL : calloc(1, sizeof *gates);
    if (gates == NULL) {
        if (request != NULL) request_fail(request, -QN_ENOMEM, "%s", "");
        return;
    }
    request->extra = gates;
    request->free_extra = free_gates;
    for (size_t i = 0; i < m->n_steps; i++) { /* All are checked before any is done. */
        const Qnet__V1__GateStep *step = m->steps[i];
        if (step->kind == 0) continue;
        if (fill_step(step, &gates->ops[gates->n_ops++]) < 0) {
            request_fail(request, -QN_EINVAL, "step %zu: unknown gate, or the wrong number of qubits or arguments",
                         i + 1);
            return;
        }
        for (size_t k = 0; k < step->n_qubits; k++)
            if (!is_mine_to_touch(node, step->qubits[k])) {
                request_fail(request, -QN_ENOT_FOUND, "step %zu: this node holds no qubit 0x%llx", i + 1,
                             (unsigned long long)step->qubits[k]);
                return;
            }
    }
    for (size_t i = 0; i < m->n_steps; i++) {
        if (m->steps[i]->kind != 0) continue;
        struct qn_memory memory = {node->hardware->t1_s, node->hardware->t2_s};
        qn_qubit qubit;
        if (!memory_take(node)) {
            request_fail(request, node->hardware->memories > 0 ? -QN_EMEMORY_FULL : -QN_EUNSUPPORTED, "step %zu",
                         i + 1);
            return;
        }
        if (qn_plane_prepare(node->plane, node->now_ns, memory, &qubit) < 0) {
            memory_give(node, 1);
            request_fail(request, -QN_ENOMEM, "step %zu", i + 1);
            return;
        }
        gates->made[gates->n_made++] = qubit;
    }
    run_gates(request);
}

void gate_on_inspect(struct qn_node *node, uint64_t client, uint64_t id, const Qnet__V1__InspectRequest *m) {
    qn_qubit qubits[2] = {m->qubit, m->other};
    double tensor[16];
    size_t n = m->other != 0 ? 2 : 1;
    int rc = qn_plane_inspect(node->plane, qubits, n, node->now_ns, tensor);
    if (rc < 0) {
        node_reply_error(node, client, id, rc, "not hosted by this node (in one state); try the other holder");
        return;
    }
    Qnet__V1__InspectInfo info = QNET__V1__INSPECT_INFO__INIT;
    info.tensor = tensor;
    info.n_tensor = n == 2 ? 16 : 4;
    info.host = node->self;
    control_send(node, client, id, false, QNET__V1__CONTROL_RESPONSE__BODY_INSPECT, &info);
}
