/* SPDX-License-Identifier: Apache-2.0 */
/* The owner's side: operations wait in the queue of each of their qubits; one at the head of all its queues is under
 * way, and step() is run from scratch whenever something it waits for has happened. */
#include <stdlib.h>

#include "plane/internal.h"

struct pending *pending_find(const struct qn_plane *plane, uint64_t op_id) {
    return qn_map_get(&plane->pending, op_id);
}

struct pending *pending_of(const struct qubit *q, enum pending_state state) {
    return q->first != NULL && q->first->state == state ? q->first : NULL;
}

/* ---- queues ---- */

static size_t place_of(const struct pending *pending, const struct qubit *q) {
    return pending->records[0] == q ? 0 : 1;
}

static bool is_first(const struct pending *pending) {
    for (size_t i = 0; i < pending->op.n_qubits; i++)
        if (pending->records[i]->first != pending) return false;
    return true;
}

static void enqueue(struct pending *pending, struct qubit *q) {
    if (q->first == NULL)
        q->first = pending;
    else
        q->last->next[place_of(q->last, q)] = pending;
    q->last = pending;
}

static void dequeue(struct qn_plane *plane, struct pending *pending) {
    for (size_t i = 0; i < pending->op.n_qubits; i++) {
        struct qubit *q = pending->records[i];
        q->first = pending->next[i];
        if (q->first == NULL)
            q->last = NULL;
        else if (is_first(q->first))
            op_ready(plane, q->first);
        qubit_untidy(plane, q);
    }
}

void op_ready(struct qn_plane *plane, struct pending *pending) {
    if (pending->ready) return;
    pending->ready = true;
    pending->next_ready = NULL;
    if (plane->ready_first == NULL)
        plane->ready_first = pending;
    else
        plane->ready_last->next_ready = pending;
    plane->ready_last = pending;
}

static struct pending *pending_new(struct qn_plane *plane, const struct qn_plane_op *wanted) {
    struct pending *pending = calloc(1, sizeof *pending);
    if (pending == NULL) return NULL;
    struct op *op = &pending->op;
    op->id = (uint64_t)plane->config.self << 48 | plane->next_op;
    op->kind = wanted->kind;
    op->requester = plane->config.self;
    op->n_qubits = wanted->n_qubits;
    op->n_args = wanted->n_args;
    for (size_t i = 0; i < wanted->n_qubits; i++) op->qubits[i] = wanted->qubits[i];
    for (size_t i = 0; i < wanted->n_qubits; i++) op->times_ns[i] = wanted->time_ns;
    for (size_t i = 0; i < wanted->n_args; i++) op->args[i] = wanted->args[i];
    op->depolarise = wanted->depolarise;
    op->readout_error = wanted->readout_error;
    op->secret = wanted->secret;
    pending->tag = wanted->tag;
    return pending;
}

static int submit(struct qn_plane *plane, const struct qn_plane_op *wanted, bool silent) {
    struct qubit *records[2];
    for (size_t i = 0; i < wanted->n_qubits; i++) {
        records[i] = qubit_find(plane, wanted->qubits[i]);
        if (records[i] == NULL || !records[i]->owned || records[i]->doomed) return -QN_ENOT_FOUND;
    }
    if (plane->pending.len >= PLANE_PENDING_MAX || plane->n_out >= PLANE_OUT_MAX) return -QN_ELIMIT;
    struct pending *pending = pending_new(plane, wanted);
    if (pending == NULL) return -QN_ENOMEM;
    pending->silent = silent;
    int rc = op_is_valid(plane, &pending->op) ? qn_map_put(&plane->pending, pending->op.id, pending) : -QN_EINVAL;
    if (rc < 0) {
        free(pending);
        return rc;
    }
    plane->next_op++;
    for (size_t i = 0; i < wanted->n_qubits; i++) {
        pending->records[i] = records[i];
        enqueue(pending, records[i]);
        if (op_destroys(wanted->kind)) records[i]->doomed = true;
    }
    if (is_first(pending)) op_ready(plane, pending);
    return 0;
}

int qn_plane_submit(struct qn_plane *plane, const struct qn_plane_op *op) {
    if (op->n_qubits < 1 || op->n_qubits > 2 || op->n_args > 4) return -QN_EINVAL;
    if (op->kind == OP(IDLE) && op->n_args > 0) return -QN_EINVAL; /* That form is qn_plane_claim's. */
    int rc = submit(plane, op, false);
    settle(plane);
    return rc;
}

int qn_plane_claim(struct qn_plane *plane, qn_qubit qubit, uint64_t now_ns, struct qn_memory memory) {
    struct qn_plane_op op = {.kind = OP(IDLE),
                             .qubits = {qubit},
                             .n_qubits = 1,
                             .time_ns = now_ns,
                             .args = {memory.t1_s, memory.t2_s},
                             .n_args = 2};
    int rc = submit(plane, &op, true);
    if (rc == 0) qubit_find(plane, qubit)->memory = memory;
    settle(plane);
    return rc;
}

int plane_discard(struct qn_plane *plane, qn_qubit qubit) {
    struct qn_plane_op op = {.kind = OP(DISCARD), .qubits = {qubit}, .n_qubits = 1};
    return submit(plane, &op, true);
}

static void result_push(struct results *r, const struct qn_plane_result *result) {
    if (r->first + r->len == r->cap) {
        size_t cap = r->cap == 0 ? 64 : r->len * 2 < r->cap ? r->cap : 2 * r->cap; /* Half used up: only move down. */
        struct qn_plane_result *items = must(calloc(cap, sizeof *items));
        for (size_t i = 0; i < r->len; i++) items[i] = r->items[r->first + i];
        free(r->items);
        *r = (struct results){items, 0, r->len, cap};
    }
    r->items[r->first + r->len++] = *result;
}

bool qn_plane_next_result(struct qn_plane *plane, struct qn_plane_result *ret_result) {
    struct results *results = &plane->results;
    if (results->len == 0) {
        results->first = 0;
        return false;
    }
    *ret_result = results->items[results->first++];
    results->len--;
    return true;
}

void finish(struct qn_plane *plane, const struct answer *answer) {
    struct pending *pending = pending_find(plane, answer->op_id);
    if (pending == NULL) return; /* Answered before: it was sent twice after a crash. */
    const struct op *op = &pending->op;
    for (size_t i = 0; i < op->n_qubits; i++) {
        struct qubit *q = pending->records[i];
        q->touched_ns = op->times_ns[i];
        if (answer->error < 0)
            q->doomed = false;
        else if (op_destroys(op->kind))
            qubit_disown(plane, q);
    }
    for (size_t i = 0; i < answer->n_hints; i++) {
        struct qubit *q = qubit_find(plane, answer->hints[i].qubit);
        if (q != NULL && q->owned) r9_learn(q, &answer->hints[i]);
    }
    dequeue(plane, pending);
    qn_map_remove(&plane->pending, op->id);
    if (!pending->silent)
        result_push(&plane->results, &(struct qn_plane_result){pending->tag, answer->outcome, answer->error});
    if (pending->ready)
        pending->finished = true; /* The list of ready operations frees it. */
    else
        free(pending);
}

/* R9: hints carry versions; an owner never goes back to an older one. */
void r9_learn(struct qubit *q, const struct hint *hint) {
    if (qubit_is_hosted(q) || hint->version < q->hint_version) return;
    q->hint_group = hint->group;
    q->hint_host = hint->host;
    q->hint_life = hint->life;
    q->hint_version = hint->version;
    for (size_t i = 0; i < 3 && hint->has_will; i++) q->will[i] = hint->will[i];
}

/* Its maker has not told us of it yet; Born come in the order of ids. */
bool qubit_is_unborn(const struct qn_plane *plane, qn_qubit qubit) {
    uint16_t origin = (uint16_t)(qubit >> 48);
    return origin < plane->config.n_nodes && origin != plane->config.self && !is_gone(plane, origin, life_of(qubit)) &&
           qubit > plane->last_born[origin];
}

void r9_hint(struct qn_plane *plane, const struct hint *hint) {
    struct qubit *q = qubit_find(plane, hint->qubit);
    if ((q == NULL || !q->owned) && qubit_is_unborn(plane, hint->qubit)) {
        q = qubit_make(plane, hint->qubit);
        qubit_own(plane, q);
        qubit_untidy(plane, q);
    }
    if (q == NULL || !q->owned || q->group != NULL || hint->version < q->hint_version) return;
    r9_learn(q, hint);
    if (!is_gone(plane, hint->host, hint->life) || q->inquiry != NULL || !q->announced) return;
    r11_recover(plane, q, NULL);
    if (q->first != NULL) step(plane, q->first);
}

/* ---- the state machine of one operation ---- */

static void execute(struct qn_plane *plane, struct pending *pending) {
    struct group *group;
    uint32_t outcome = 0;
    int rc = r1_execute(plane, &pending->op, &group, &outcome);
    struct answer answer = answer_of(plane, &pending->op, NULL, outcome); /* No hints: we host it. */
    answer.error = rc;
    pending->state = PENDING_HELD;
    if (rc < 0)
        finish(plane, &answer);
    else
        r8_hand_over(plane, group, &answer);
}

/* Where to ask for q: its hint, or our own tombstone if the hint is ourselves. False: the operation waits. */
static bool locate(struct qn_plane *plane, struct pending *pending, struct qubit *q) {
    if (q->hint_host == plane->config.self) {
        if (!q->moved && qubit_may_come(plane, q->id, q)) {
            pending->state = PENDING_FETCH;
            return false;
        }
        if (!q->moved) {
            r11_recover(plane, q, pending);
            return false;
        }
        q->hint_host = q->next_host;
        q->hint_life = q->next_life;
        if (q->next_version > q->hint_version) q->hint_version = q->next_version;
    }
    if (is_gone(plane, q->hint_host, q->hint_life)) {
        r11_recover(plane, q, pending);
        return false;
    }
    return true;
}

static void r3_single(struct qn_plane *plane, struct pending *pending) {
    struct qubit *q = pending->records[0];
    if (qubit_is_hosted(q)) {
        execute(plane, pending);
        return;
    }
    if (!locate(plane, pending, q)) return;
    pending->state = PENDING_ASKED;
    send_request(plane, q->hint_host, q->hint_life, &(struct request){.op = pending->op, .want = q->id});
}

static void ask_for(struct qn_plane *plane, struct pending *pending, struct qubit *q, uint64_t bound) {
    pending->state = PENDING_FETCH;
    send_request(plane, q->hint_host, q->hint_life,
                 &(struct request){.op = pending->op, .joint = true, .want = q->id, .bound = bound});
}

/* One qubit is here, the other is not: the higher group goes to the lower. */
static void push_or_fetch(struct qn_plane *plane, struct pending *pending, struct qubit *here, struct qubit *there) {
    if (!locate(plane, pending, there)) return;
    uint64_t group = here->group->id;
    if (group < there->hint_group) {
        ask_for(plane, pending, there, group);
        return;
    }
    pending->state = PENDING_PUSH;
    struct frozen *frozen =
        ship(plane, here->group, there->hint_host, there->hint_life, QNET__V1__SHIP_KIND__SHIP_KIND_PUSH);
    frozen->op = pending->op;
    frozen->target = there->id;
    send_ship(plane, frozen);
}

static void r4_joint(struct qn_plane *plane, struct pending *pending) {
    struct qubit *a = pending->records[0], *b = pending->records[1];
    bool a_here = qubit_is_hosted(a), b_here = qubit_is_hosted(b);
    if (a_here && b_here)
        execute(plane, pending);
    else if (a_here)
        push_or_fetch(plane, pending, a, b);
    else if (b_here)
        push_or_fetch(plane, pending, b, a);
    else {
        struct qubit *high = a->hint_group >= b->hint_group ? a : b, *low = high == a ? b : a;
        if (locate(plane, pending, high)) ask_for(plane, pending, high, low->hint_group);
    }
}

void step(struct qn_plane *plane, struct pending *pending) {
    if (pending->state == PENDING_PUSH || pending->state == PENDING_HELD || !is_first(pending)) return;
    for (size_t i = 0; i < pending->op.n_qubits; i++)
        if (pending->records[i]->inquiry != NULL) {
            pending->state = PENDING_RECOVER;
            return;
        }
    for (size_t i = 0; i < pending->op.n_qubits; i++)
        if (qubit_is_busy(pending->records[i])) {
            pending->state = PENDING_FROZEN;
            return;
        }
    if (pending->op.n_qubits == 1)
        r3_single(plane, pending);
    else
        r4_joint(plane, pending);
}

/* Something the operation counted on is gone: finds out anew where its qubits are. */
void recover_op(struct qn_plane *plane, struct pending *pending) {
    if (pending->state == PENDING_HELD || pending->state == PENDING_PUSH) return;
    bool wait = false;
    for (size_t i = 0; i < pending->op.n_qubits; i++) {
        struct qubit *q = pending->records[i];
        bool asking = q->inquiry != NULL && q->inquiry->round == plane->round;
        if (q->group == NULL && !asking) r11_recover(plane, q, pending);
        wait = wait || q->inquiry != NULL;
    }
    if (wait)
        pending->state = PENDING_RECOVER;
    else {
        pending->state = PENDING_QUEUED;
        op_ready(plane, pending);
    }
}
