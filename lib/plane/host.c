/* SPDX-License-Identifier: Apache-2.0 */
/* The host's side: operations of all owners on the groups kept here, and custody on its way from process to process. */
#include <stdlib.h>

#include "base/canary.h"
#include "plane/internal.h"

/* ---- answers ---- */

static struct hint hint_of(const struct qn_plane *plane, const struct group *group, size_t at) {
    const struct member *m = &group->members[at];
    return (struct hint){m->qubit, group->id, plane->config.self, m->version,
                         .life = life_at(plane, plane->config.self)};
}

struct answer answer_of(const struct qn_plane *plane, const struct op *op, const struct group *group,
                        uint32_t outcome) {
    struct answer answer = {.op_id = op->id, .requester = op->requester, .outcome = outcome};
    for (size_t i = 0; i < op->n_qubits && group != NULL; i++) {
        size_t at = group_find(group, op->qubits[i]);
        if (at == group->n) continue;
        struct hint *hint = &answer.hints[answer.n_hints++];
        *hint = hint_of(plane, group, at);
        hint->has_will = true;
        qn_state_bloch(group->state, at, hint->will);
    }
    return answer;
}

void answer_release(struct qn_plane *plane, const struct answer *answer) {
    if (withhold(plane, answer, NULL, 0)) return;
    if (answer->requester == plane->config.self)
        finish(plane, answer);
    else
        send_result(plane, answer);
}

static bool answer_is_held(const struct qn_plane *plane, uint64_t op_id) {
    size_t i = 0;
    for (void *value; qn_map_next(&plane->frozen, &i, NULL, &value);) {
        const struct frozen *frozen = value;
        if (frozen->has_answer && frozen->answer.op_id == op_id) return true;
    }
    return false;
}

/* ---- custody ---- */

struct frozen *ship(struct qn_plane *plane, struct group *group, uint16_t to, uint32_t life, Qnet__V1__ShipKind kind) {
    struct frozen *frozen = must(calloc(1, sizeof *frozen));
    frozen->transfer = (uint64_t)plane->config.self << 48 | plane->next_transfer++;
    frozen->to = to;
    frozen->to_life = life;
    frozen->kind = kind;
    frozen->group = group;
    qn_map_remove(&plane->groups, group->id);
    group->status = GROUP_FROZEN;
    group->peer = to;
    must_put(&plane->frozen, frozen->transfer, frozen);
    return frozen;
}

static void take_custody(struct qn_plane *plane, struct group *group, uint32_t versions) {
    group->status = GROUP_ACTIVE;
    must_put(&plane->groups, group->id, group);
    for (size_t i = 0; i < group->n; i++) {
        struct member *m = &group->members[i];
        struct qubit *q = m->record = qubit_make(plane, m->qubit);
        m->version += versions;
        q->group = group;
        q->moved = q->destroyed = false;
        qubit_untidy(plane, q);
        if (m->owner != plane->config.self) continue;
        qubit_own(plane, q); /* A new one may be here before its Born. */
        q->hint_group = group->id;
        q->hint_host = plane->config.self;
        q->hint_life = life_at(plane, plane->config.self);
        q->hint_version = m->version;
    }
}

/* The group is ours now, without the qubits of the dead. NULL if nothing is left of it. */
static struct group *install(struct qn_plane *plane, struct group *group) {
    for (size_t i = group->n; i-- > 0;) { /* Ours, but destroyed since; or its Born went down with its maker. */
        const struct qubit *q = qubit_find(plane, group->members[i].qubit);
        bool ours = group->members[i].owner == plane->config.self, known = q != NULL && q->owned;
        if (ours && !known && !qubit_is_unborn(plane, group->members[i].qubit)) group_trace(plane, group, i);
    }
    take_custody(plane, group, 1);
    group_trace_gone(plane, group);
    if (group->n > 0) return group;
    group_drop(plane, group);
    return NULL;
}

/* A custody that came back outranks every hint the failed transfer may have left. */
struct group *roll_back(struct qn_plane *plane, struct frozen *frozen) {
    struct group *group = frozen->group;
    qn_map_remove(&plane->frozen, frozen->transfer);
    frozen->group = NULL;
    if (group->n == 0) {
        group_free(group);
        return NULL;
    }
    take_custody(plane, group, 2);
    for (size_t i = 0; i < group->n; i++) qubit_thaw(plane, group->members[i].record);
    return group;
}

static void put_on_probation(struct qn_plane *plane, struct group *group, const struct shipment *shipment) {
    group->status = GROUP_PROBATION;
    group->transfer = shipment->transfer;
    group->peer = shipment->from;
    must_put(&plane->probation, group->transfer, group);
}

/* R8: a host owns a live qubit of every group; the answer is not seen before that holds again. */
void r8_hand_over(struct qn_plane *plane, struct group *group, const struct answer *answer) {
    uint16_t heir = UINT16_MAX;
    uint32_t life = QN_LIFE_UNKNOWN;
    for (size_t i = 0; group != NULL && i < group->n; i++) {
        uint16_t owner = group->members[i].owner;
        if (owner == plane->config.self)
            group = NULL; /* Nothing to hand over. */
        else if (owner < heir && !is_gone(plane, owner, group->members[i].owner_life)) {
            heir = owner;
            life = group->members[i].owner_life;
        }
    }
    if (group == NULL || heir == UINT16_MAX) {
        if (answer != NULL) answer_release(plane, answer);
        return;
    }
    struct frozen *frozen = ship(plane, group, heir, life, QNET__V1__SHIP_KIND__SHIP_KIND_MOVE);
    if (answer != NULL) {
        frozen->has_answer = true;
        frozen->answer = *answer;
    }
    send_ship(plane, frozen);
}

/* ---- requests ---- */

static bool owns_all(const struct op *op, const struct qn_plane *plane) {
    for (size_t i = 0; i < op->n_qubits; i++) {
        const struct qubit *q = qubit_find(plane, op->qubits[i]);
        if (!qubit_is_hosted(q) || q->group->members[group_find(q->group, q->id)].owner != op->requester) return false;
    }
    return true;
}

static void execute_for(struct qn_plane *plane, const struct op *op) {
    if (!owns_all(op, plane)) return; /* No honest node asks for that. */
    struct group *group;
    uint32_t outcome = 0;
    int rc = r1_execute(plane, op, &group, &outcome);
    struct answer answer = answer_of(plane, op, rc < 0 ? NULL : group, outcome);
    answer.error = rc;
    if (rc < 0)
        answer_release(plane, &answer);
    else
        r8_hand_over(plane, group, &answer);
}

static void put_off(struct qn_plane *plane, struct qubit *q, const struct request *request) {
    defer(plane, q, &(struct deferred){.kind = DEFERRED_REQUEST, .request = *request});
}

/* R5: the host of `want` is asked to bring both qubits together. */
static void r5_joint_request(struct qn_plane *plane, const struct request *request, struct qubit *want) {
    const struct op *op = &request->op;
    struct qubit *other = qubit_find(plane, op->qubits[0] == want->id ? op->qubits[1] : op->qubits[0]);
    struct group *group = want->group;
    if (qubit_is_busy(other))
        put_off(plane, other, request);
    else if (qubit_is_hosted(other))
        execute_for(plane, op);
    else if (group->id > request->bound)
        send_ship(plane, ship(plane, group, op->requester, life_of(op->id), QNET__V1__SHIP_KIND__SHIP_KIND_FETCH));
    else {
        struct hint hint = hint_of(plane, group, group_find(group, want->id));
        send_redirect(plane, op, &hint);
    }
}

static void not_here(struct qn_plane *plane, const struct request *request, struct qubit *q) {
    const struct op *op = &request->op;
    if (q != NULL && q->destroyed && q->last_op == op->id) {
        struct answer answer = {.op_id = op->id, .requester = op->requester, .outcome = q->last_outcome};
        if (!answer_is_held(plane, op->id)) answer_release(plane, &answer);
    } else if (q != NULL && q->moved && !is_gone(plane, q->next_host, q->next_life))
        send_request(plane, q->next_host, q->next_life, request);
    else if (qubit_may_come(plane, request->want, q))
        put_off(plane, qubit_make(plane, request->want), request);
    else
        send_lost(plane, op);
}

static bool is_stale(const struct op *op, const struct group *group) { /* Later operations were done since. */
    for (size_t i = 0; i < op->n_qubits; i++) {
        size_t at = group_find(group, op->qubits[i]);
        if (at < group->n && group->members[at].last_op > op->id) return true;
    }
    return false;
}

/* R2: execute here, wait, send on, or say that it is lost. */
void r2_route(struct qn_plane *plane, const struct request *request) {
    const struct op *op = &request->op;
    struct qubit *q = qubit_find(plane, request->want);
    struct pending *ours = op->requester == plane->config.self ? pending_find(plane, op->id) : NULL;
    if (op->requester == plane->config.self && ours == NULL) return; /* Done meanwhile. */
    if (is_gone(plane, op->requester, life_of(op->id)) && ours == NULL) return;
    if (qubit_is_busy(q))
        put_off(plane, q, request);
    else if (!qubit_is_hosted(q))
        not_here(plane, request, q);
    else if (ours != NULL && request->joint)
        step(plane, ours); /* Our own request came back: the qubit is here now. */
    else if (is_stale(op, q->group))
        return;
    else if (request->joint)
        r5_joint_request(plane, request, q);
    else
        execute_for(plane, op);
}

/* ---- shipments ---- */

static void shipment_free(struct shipment *shipment) {
    group_free(shipment->group);
    shipment->group = NULL;
}

/* Parts of a network that gave each other up may both have kept a qubit. What is here already stays as it is. */
static void resolve_clashes(struct qn_plane *plane, struct group *group) {
    for (size_t i = group->n; i-- > 0;) {
        const struct qubit *q = qubit_find(plane, group->members[i].qubit);
        if (q != NULL && q->group != NULL) group_trace(plane, group, i);
    }
    if (qn_map_get(&plane->groups, group->id) != NULL) group->id = group_new_id(plane);
}

static void accept(struct qn_plane *plane, struct shipment *shipment) {
    uint64_t id = shipment->group->id;
    struct group *group = install(plane, shipment->group);
    shipment->group = NULL;
    if (!shipment->orphan) send_ship_ack(plane, shipment, id, NULL);
    if (group == NULL) return;
    if (shipment->orphan)
        r7_confirm(plane, group);
    else
        put_on_probation(plane, group, shipment);
}

static void accept_push(struct qn_plane *plane, struct shipment *shipment) {
    const struct op *op = &shipment->op;
    struct group *group = install(plane, shipment->group), *merged = group;
    shipment->group = NULL;
    uint32_t outcome = 0;
    int rc = group != NULL && owns_all(op, plane) ? r1_execute(plane, op, &merged, &outcome) : -QN_ELOST;
    struct answer answer = answer_of(plane, op, rc < 0 ? NULL : merged, outcome);
    answer.error = rc;
    if (merged != NULL) put_on_probation(plane, merged, shipment);
    uint64_t id = merged != NULL ? merged->id : 0;
    if (!withhold(plane, &answer, shipment, id)) send_ship_ack(plane, shipment, id, &answer);
}

/* The sender rolls back. While the shipment waited here we may have said that we have its qubits (R11): whoever comes
 * for them is sent back. */
static void refuse(struct qn_plane *plane, struct shipment *shipment, const struct qubit *target) {
    send_ship_nack(plane, shipment, target);
    for (size_t i = 0; i < shipment->group->n; i++) {
        struct qubit *q = qubit_make(plane, shipment->group->members[i].qubit);
        q->moved = true;
        q->next_host = shipment->from;
        q->next_life = life_of(shipment->transfer);
        q->next_version = shipment->group->members[i].version + 2;
        qubit_thaw(plane, q);
        qubit_untidy(plane, q);
    }
    shipment_free(shipment);
}

/* R6: a shipment. Only PUSH can be refused or wait, and it waits for something with a lower id. */
void r6_ship(struct qn_plane *plane, struct shipment *shipment) {
    resolve_clashes(plane, shipment->group);
    if (shipment->kind != QNET__V1__SHIP_KIND__SHIP_KIND_PUSH) {
        accept(plane, shipment);
        return;
    }
    struct qubit *target = qubit_find(plane, shipment->target);
    bool coming = !shipment->orphan && qubit_may_come(plane, shipment->target, target);
    if (qubit_is_busy(target) || coming)
        defer(plane, qubit_make(plane, shipment->target),
              &(struct deferred){.kind = DEFERRED_SHIPMENT, .shipment = *shipment});
    else if (shipment->orphan)
        accept(plane, shipment); /* We are its only custodian. */
    else if (target == NULL || target->group == NULL || target->group->id >= shipment->group->id)
        refuse(plane, shipment, target);
    else
        accept_push(plane, shipment);
}

/* R7, sender: the other has it. */
void r7_ship_ack(struct qn_plane *plane, struct frozen *frozen, uint64_t group_id, const struct answer *answer) {
    struct group *group = frozen->group;
    qn_map_remove(&plane->frozen, frozen->transfer);
    if (!QN_CANARY(1)) send_ship_done(plane, frozen->to, frozen->to_life, frozen->transfer);
    for (size_t i = 0; i < group->n; i++) {
        struct member *m = &group->members[i];
        struct qubit *q = m->record;
        struct hint hint = {m->qubit, group_id, frozen->to, m->version + 1, .life = frozen->to_life};
        q->group = NULL;
        q->moved = !QN_CANARY(4);
        q->next_host = frozen->to;
        q->next_life = hint.life;
        q->next_version = hint.version;
        if (m->owner == plane->config.self) {
            hint.has_will = true;
            qn_state_bloch(group->state, i, hint.will);
            q->touched_ns = m->touched_ns;
            q->memory = m->memory;
            r9_learn(q, &hint);
        } else if (!is_gone(plane, m->owner, m->owner_life) && m->owner != frozen->to && !frozen->quiet)
            send_hint(plane, m->owner, m->owner_life, &hint);
        qubit_thaw(plane, q);
        qubit_untidy(plane, q);
    }
    if (frozen->kind == QNET__V1__SHIP_KIND__SHIP_KIND_PUSH) finish(plane, answer);
    if (frozen->has_answer && !QN_CANARY(5)) answer_release(plane, &frozen->answer);
    group_free(group);
    free(frozen);
}

void r7_ship_nack(struct qn_plane *plane, struct frozen *frozen, const struct hint *next) {
    struct pending *pending = pending_find(plane, frozen->op.id);
    struct qubit *target = qubit_find(plane, frozen->target);
    roll_back(plane, frozen);
    if (pending != NULL && target != NULL && target->owned) {
        pending->state = PENDING_QUEUED;
        if (next == NULL || is_gone(plane, next->host, next->life))
            r11_recover(plane, target, pending);
        else {
            if (next->version >= target->hint_version) {
                target->hint_host = next->host;
                target->hint_life = next->life;
                target->hint_version = next->version;
            }
            step(plane, pending);
        }
    }
    free(frozen);
}

/* R7, receiver: custody is certain. Our own waiting operations first, strangers' afterwards: this bounds relocations.
 */
void r7_confirm(struct qn_plane *plane, struct group *group) {
    if (group->status == GROUP_PROBATION) qn_map_remove(&plane->probation, group->transfer);
    group->status = GROUP_ACTIVE;
    struct qubit *records[QN_STATE_MAX];
    size_t n = group->n;
    for (size_t i = 0; i < n; i++) records[i] = group->members[i].record;
    if (!group_has_owner(group, plane->config.self)) r8_hand_over(plane, group, NULL);
    for (size_t i = 0; i < n; i++) {
        struct pending *pending = pending_of(records[i], PENDING_FETCH);
        if (pending != NULL)
            step(plane, pending); /* Even if the one before sent the group away: what it fetched is spent. */
    }
    for (size_t i = 0; i < n; i++) qubit_thaw(plane, records[i]);
}

/* ---- what became possible ---- */

void retry(struct qn_plane *plane, struct deferred *message) {
    plane->n_deferred--;
    switch (message->kind) {
    case DEFERRED_REQUEST:
        r2_route(plane, &message->request);
        break;
    case DEFERRED_SHIPMENT:
        r6_ship(plane, &message->shipment);
        break;
    case DEFERRED_WHO_HAS:
        r11_who_has(plane, &message->who_has);
        break;
    }
    free(message); /* What it held was taken. */
}

static void thaw_next(struct qn_plane *plane) {
    struct qubit *q = plane->thawing_first;
    plane->thawing_first = q->next_thawing;
    q->thawing = false;
    struct deferred *message = q->deferred.first;
    q->deferred = (struct deferred_list){0};
    while (message != NULL) {
        struct deferred *next = message->next;
        retry(plane, message);
        message = next;
    }
    struct pending *pending = pending_of(q, PENDING_FROZEN);
    if (pending != NULL) op_ready(plane, pending);
    qubit_untidy(plane, q);
}

static void step_next(struct qn_plane *plane) {
    struct pending *pending = plane->ready_first;
    plane->ready_first = pending->next_ready;
    pending->ready = false;
    if (pending->finished)
        free(pending);
    else if (pending->state == PENDING_QUEUED || pending->state == PENDING_FROZEN || pending->state == PENDING_RECOVER)
        step(plane, pending);
}

void settle(struct qn_plane *plane) {
    while (plane->thawing_first != NULL || plane->ready_first != NULL) {
        if (plane->thawing_first != NULL)
            thaw_next(plane);
        else
            step_next(plane);
    }
    tidy(plane);
}
