/* SPDX-License-Identifier: Apache-2.0 */
/* Messages in: everything a peer says is checked here, before anything changes. */
#include <endian.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plane/internal.h"

static bool is_node(const struct qn_plane *plane, uint32_t node) { return node < plane->config.n_nodes; }
static bool is_time(int64_t t) { return t >= 0; }
static uint32_t read_life(uint32_t told) { return told >= 1 && told <= LIFE_MASK + 1 ? told - 1 : QN_LIFE_UNKNOWN; }

/* A life that others know already: what is sent to it must not be dropped because the one before it is over. */
static uint32_t hear_of(struct qn_plane *plane, uint32_t node, uint32_t told) {
    uint32_t life = read_life(told);
    bool known = !plane->down[node] && life_at(plane, (uint16_t)node) != QN_LIFE_UNKNOWN;
    if (life != QN_LIFE_UNKNOWN && !known && !is_gone(plane, (uint16_t)node, life))
        qn_plane_meet(plane, (uint16_t)node, life);
    return life;
}

static bool is_bloch(const double *r, size_t n) {
    if (n != 3) return false;
    double length2 = r[0] * r[0] + r[1] * r[1] + r[2] * r[2];
    return isfinite(length2) && length2 <= 1 + 1e-6;
}

static void shorten(double r[3]) { /* Rounding may leave a unit vector a hair too long. */
    double length = sqrt(r[0] * r[0] + r[1] * r[1] + r[2] * r[2]);
    for (size_t i = 0; i < 3 && length > 1; i++) r[i] /= length;
}

/* ---- parts ---- */

static bool read_op(const struct qn_plane *plane, const Qnet__V1__Operation *m, struct op *ret_op) {
    if (m == NULL || m->n_qubits < 1 || m->n_qubits > 2 || m->n_times_ns != m->n_qubits || m->n_args > 4) return false;
    if (!is_node(plane, m->requester)) return false;
    struct op op = {.id = m->id,
                    .kind = m->kind,
                    .requester = (uint16_t)m->requester,
                    .n_qubits = m->n_qubits,
                    .n_args = m->n_args,
                    .depolarise = m->depolarise,
                    .readout_error = m->readout_error,
                    .secret = m->secret};
    for (size_t i = 0; i < m->n_qubits; i++) {
        if (!is_time(m->times_ns[i])) return false;
        op.qubits[i] = m->qubits[i];
        op.times_ns[i] = (uint64_t)m->times_ns[i];
    }
    for (size_t i = 0; i < m->n_args; i++) op.args[i] = m->args[i];
    if (!op_is_valid(plane, &op)) return false;
    *ret_op = op;
    return true;
}

static bool op_names(const struct op *op, qn_qubit qubit) {
    return op->qubits[0] == qubit || (op->n_qubits == 2 && op->qubits[1] == qubit);
}

static bool read_hint(struct qn_plane *plane, const Qnet__V1__Hint *m, struct hint *ret_hint) {
    if (!is_node(plane, m->host) || (m->n_will > 0 && !is_bloch(m->will, m->n_will))) return false;
    struct hint hint = {m->qubit,
                        m->group,
                        (uint16_t)m->host,
                        m->version,
                        .life = hear_of(plane, m->host, m->host_life),
                        .has_will = m->n_will > 0};
    for (size_t i = 0; i < m->n_will; i++) hint.will[i] = m->will[i];
    shorten(hint.will);
    *ret_hint = hint;
    return true;
}

static bool read_answer(struct qn_plane *plane, const Qnet__V1__OpResult *m, struct answer *ret_answer) {
    if (m->n_hints > 2 || m->outcome > 3 || m->failed != (m->reason != 0) || m->reason > 1000) return false;
    struct answer answer = {.op_id = m->id, .requester = plane->config.self, .outcome = m->outcome};
    answer.error = -(int)m->reason;
    for (; answer.n_hints < m->n_hints; answer.n_hints++)
        if (!read_hint(plane, m->hints[answer.n_hints], &answer.hints[answer.n_hints])) return false;
    *ret_answer = answer;
    return true;
}

static bool read_member(struct qn_plane *plane, const Qnet__V1__Member *m, struct member *ret_member) {
    struct member member = {.qubit = m->qubit,
                            .owner = (uint16_t)m->owner,
                            .version = m->version,
                            .last_op = m->last_op,
                            .last_outcome = m->last_outcome,
                            .touched_ns = (uint64_t)m->touched_ns,
                            .memory = {m->t1_s, m->t2_s}};
    if (m->qubit == 0 || !is_node(plane, m->owner) || !is_time(m->touched_ns) || m->version > UINT32_MAX / 2)
        return false;
    if (!memory_is_valid(&member.memory) || m->last_outcome > OUTCOME_LIMIT) return false;
    member.owner_life = hear_of(plane, m->owner, m->owner_life);
    *ret_member = member;
    return true;
}

static int read_state(const Qnet__V1__Ship *m, struct qn_state **ret_state) {
    size_t n = m->n_members;
    if (!m->trajectory && n > QN_STATE_TENSOR) return -QN_EPROTOCOL;
    size_t len = m->trajectory ? (size_t)2 << n : (size_t)1 << (2 * n);
    if (m->state.len != 8 * len) return -QN_EPROTOCOL;
    double *numbers = malloc(8 * len);
    if (numbers == NULL) return -QN_ENOMEM;
    for (size_t i = 0; i < len; i++) {
        uint64_t bits;
        memcpy(&bits, m->state.data + 8 * i, sizeof bits);
        bits = le64toh(bits);
        memcpy(&numbers[i], &bits, sizeof bits);
    }
    int rc = qn_state_from_data(n, m->trajectory, numbers, len, ret_state);
    free(numbers);
    return rc == 0 || rc == -QN_ENOMEM ? rc : -QN_EPROTOCOL;
}

static int read_group(struct qn_plane *plane, const Qnet__V1__Ship *m, struct group **ret_group) {
    if (m->n_members < 1 || m->n_members > QN_STATE_MAX) return -QN_EPROTOCOL;
    if (plane->qubits.len + m->n_members > PLANE_RECORDS_MAX) return -QN_ELIMIT;
    struct group *group = group_new(m->group, m->n_members);
    if (group == NULL) return -QN_ENOMEM;
    int rc = 0;
    for (size_t i = 0; i < group->n && rc == 0; i++) {
        if (!read_member(plane, m->members[i], &group->members[i])) rc = -QN_EPROTOCOL;
        for (size_t k = 0; k < i && rc == 0; k++)
            if (group->members[k].qubit == group->members[i].qubit) rc = -QN_EPROTOCOL;
    }
    if (rc == 0) rc = read_state(m, &group->state);
    if (rc < 0)
        group_free(group);
    else
        *ret_group = group;
    return rc;
}

/* ---- one handler a message ---- */

static int on_request(struct qn_plane *plane, const Qnet__V1__Operation *op, bool joint, qn_qubit want,
                      uint64_t bound) {
    struct request request = {.joint = joint, .want = want, .bound = bound};
    if (!read_op(plane, op, &request.op)) return -QN_EPROTOCOL;
    if (!joint) request.want = request.op.qubits[0];
    if (request.op.n_qubits != (joint ? 2 : 1) || !op_names(&request.op, request.want)) return -QN_EPROTOCOL;
    r2_route(plane, &request);
    return 0;
}

static int on_result(struct qn_plane *plane, const Qnet__V1__OpResult *m) {
    struct answer answer;
    if (!read_answer(plane, m, &answer) || answer.op_id >> 48 != plane->config.self) return -QN_EPROTOCOL;
    finish(plane, &answer);
    return 0;
}

static int on_redirect(struct qn_plane *plane, const Qnet__V1__Redirect *m) {
    struct pending *pending = pending_find(plane, m->id);
    if (!is_node(plane, m->host) || (pending != NULL && !op_names(&pending->op, m->qubit))) return -QN_EPROTOCOL;
    if (pending == NULL) return 0;
    struct qubit *q = qubit_find(plane, m->qubit);
    const struct hint hint = {m->qubit, m->group, (uint16_t)m->host, m->version,
                              .life = hear_of(plane, m->host, m->host_life)};
    r9_learn(q, &hint);
    if (pending->state == PENDING_FETCH) step(plane, pending);
    return 0;
}

static int on_lost(struct qn_plane *plane, const Qnet__V1__Lost *m) {
    struct pending *pending = pending_find(plane, m->id);
    if (pending != NULL) recover_op(plane, pending);
    return 0;
}

static int on_ship(struct qn_plane *plane, uint16_t from, const Qnet__V1__Ship *m) {
    struct shipment shipment = {.transfer = m->transfer, .from = from, .kind = m->kind, .target = m->target};
    bool push = m->kind == QNET__V1__SHIP_KIND__SHIP_KIND_PUSH;
    if (m->kind < QNET__V1__SHIP_KIND__SHIP_KIND_PUSH || m->kind > QNET__V1__SHIP_KIND__SHIP_KIND_MOVE)
        return -QN_EPROTOCOL;
    if (m->transfer >> 48 != from || qn_map_get(&plane->probation, m->transfer) != NULL) return -QN_EPROTOCOL;
    if (push != (m->op != NULL)) return -QN_EPROTOCOL;
    if (push && (!read_op(plane, m->op, &shipment.op) || shipment.op.n_qubits != 2 || shipment.op.requester != from ||
                 !op_names(&shipment.op, m->target)))
        return -QN_EPROTOCOL;
    int rc = read_group(plane, m, &shipment.group);
    if (rc < 0) return rc;
    size_t mine = shipment.op.qubits[0] == m->target ? 1 : 0;
    if (push && group_find(shipment.group, shipment.op.qubits[mine]) == shipment.group->n) {
        group_free(shipment.group);
        return -QN_EPROTOCOL;
    }
    r6_ship(plane, &shipment);
    return 0;
}

static struct frozen *frozen_to(const struct qn_plane *plane, uint64_t transfer, uint16_t to) {
    struct frozen *frozen = qn_map_get(&plane->frozen, transfer);
    return frozen != NULL && frozen->to == to ? frozen : NULL;
}

static int on_ship_ack(struct qn_plane *plane, uint16_t from, const Qnet__V1__ShipAck *m) {
    struct frozen *frozen = frozen_to(plane, m->transfer, from);
    struct answer answer = {0};
    if (frozen == NULL) return -QN_EPROTOCOL;
    bool push = frozen->kind == QNET__V1__SHIP_KIND__SHIP_KIND_PUSH;
    if (push != (m->result != NULL)) return -QN_EPROTOCOL;
    if (push && (!read_answer(plane, m->result, &answer) || answer.op_id != frozen->op.id)) return -QN_EPROTOCOL;
    r7_ship_ack(plane, frozen, m->group, &answer);
    return 0;
}

static int on_ship_nack(struct qn_plane *plane, uint16_t from, const Qnet__V1__ShipNack *m) {
    struct frozen *frozen = frozen_to(plane, m->transfer, from);
    if (frozen == NULL || frozen->kind != QNET__V1__SHIP_KIND__SHIP_KIND_PUSH) return -QN_EPROTOCOL;
    if (m->qubit != frozen->target || !is_node(plane, m->next_host)) return -QN_EPROTOCOL;
    struct hint next = {.qubit = m->qubit,
                        .host = (uint16_t)m->next_host,
                        .version = m->version,
                        .life = hear_of(plane, m->next_host, m->next_life)};
    r7_ship_nack(plane, frozen, m->has_next ? &next : NULL);
    return 0;
}

static int on_ship_done(struct qn_plane *plane, uint16_t from, const Qnet__V1__ShipDone *m) {
    if (m->transfer >> 48 != from) return -QN_EPROTOCOL;
    struct group *group = qn_map_get(&plane->probation, m->transfer);
    if (group != NULL) r7_confirm(plane, group); /* Otherwise nothing was left of it. */
    return 0;
}

static int on_hint(struct qn_plane *plane, uint16_t from, const Qnet__V1__Hint *m) {
    struct hint hint;
    if (!read_hint(plane, m, &hint)) return -QN_EPROTOCOL;
    r9_hint(plane, &hint);
    if (m->outcome_of != 0) send_hint_ack(plane, from, m->outcome_of);
    return 0;
}

static int on_who_has(struct qn_plane *plane, uint16_t from, const Qnet__V1__WhoHas *m) {
    if (m->n_causes > plane->config.n_nodes || m->qubit == 0) return -QN_EPROTOCOL;
    for (size_t i = 0; i < m->n_causes; i++)
        if (!is_node(plane, m->causes[i]) || m->causes[i] == plane->config.self) return -QN_EPROTOCOL;
    if (m->n_lives != 0 && m->n_lives != m->n_causes) return -QN_EPROTOCOL;
    struct who_has who_has = {.qubit = m->qubit, .inquiry = m->inquiry, .asker = from, .n_causes = m->n_causes};
    who_has.causes = malloc((m->n_causes + 1) * sizeof *who_has.causes);
    who_has.lives = malloc((m->n_causes + 1) * sizeof *who_has.lives);
    if (who_has.causes == NULL || who_has.lives == NULL) {
        who_has_free(&who_has);
        return -QN_ENOMEM;
    }
    for (size_t i = 0; i < m->n_causes; i++) {
        who_has.causes[i] = (uint16_t)m->causes[i];
        who_has.lives[i] = m->n_lives != 0 ? read_life(m->lives[i]) : QN_LIFE_UNKNOWN;
    }
    for (size_t i = 0; i < who_has.n_causes; i++) { /* Of a life we never met the asker may be the only one to tell. */
        uint32_t present = life_at(plane, who_has.causes[i]);
        if (who_has.lives[i] != QN_LIFE_UNKNOWN && present != QN_LIFE_UNKNOWN && present != who_has.lives[i])
            qn_plane_on_down(plane, who_has.causes[i], who_has.lives[i]);
    }
    r11_who_has(plane, &who_has);
    return 0;
}

static int on_has(struct qn_plane *plane, uint16_t from, const Qnet__V1__Has *m) {
    if (m->status > 2 || !is_node(plane, m->host) || m->n_nodes != m->n_lives) return -QN_EPROTOCOL;
    for (size_t i = 0; i < m->n_nodes; i++)
        if (!is_node(plane, m->nodes[i])) return -QN_EPROTOCOL;
    hear_of(plane, m->host, m->host_life);
    r11_has(plane, from, m);
    return 0;
}

static int on_born(struct qn_plane *plane, uint16_t from, const Qnet__V1__Born *m) {
    struct qubit *q = qubit_find(plane, m->qubit);
    if (m->qubit >> 48 != from || !is_node(plane, m->host) || !is_time(m->touched_ns)) return -QN_EPROTOCOL;
    if (!is_bloch(m->will, m->n_will) || (q != NULL && q->announced)) return -QN_EPROTOCOL;
    if (q == NULL && plane->qubits.len >= PLANE_RECORDS_MAX) return -QN_ELIMIT;
    q = qubit_make(plane, m->qubit);
    if (!q->owned) { /* Otherwise its state came first. */
        qubit_own(plane, q);
        q->hint_group = m->group;
        q->hint_host = (uint16_t)m->host;
        q->hint_life = hear_of(plane, m->host, m->host_life);
    }
    qubit_untidy(plane, q);
    q->announced = true;
    if (m->qubit > plane->last_born[from]) plane->last_born[from] = m->qubit;
    q->touched_ns = (uint64_t)m->touched_ns;
    for (size_t i = 0; i < 3; i++) q->will[i] = m->will[i];
    shorten(q->will);
    arrival_push(plane,
                 &(struct qn_plane_arrival){m->qubit, m->link, m->origin, m->create_id, m->sequence, q->touched_ns});
    if (is_gone(plane, q->hint_host, q->hint_life) && q->group == NULL) r11_recover(plane, q, NULL);
    return 0;
}

static int dispatch(struct qn_plane *plane, uint16_t from, const Qnet__V1__PlaneMessage *m) {
    switch (m->body_case) {
    case QNET__V1__PLANE_MESSAGE__BODY_OP:
        return on_request(plane, m->op->op, false, 0, 0);
    case QNET__V1__PLANE_MESSAGE__BODY_JOINT:
        return on_request(plane, m->joint->op, true, m->joint->want, m->joint->bound);
    case QNET__V1__PLANE_MESSAGE__BODY_RESULT:
        return on_result(plane, m->result);
    case QNET__V1__PLANE_MESSAGE__BODY_REDIRECT:
        return on_redirect(plane, m->redirect);
    case QNET__V1__PLANE_MESSAGE__BODY_LOST:
        return on_lost(plane, m->lost);
    case QNET__V1__PLANE_MESSAGE__BODY_SHIP:
        return on_ship(plane, from, m->ship);
    case QNET__V1__PLANE_MESSAGE__BODY_SHIP_ACK:
        return on_ship_ack(plane, from, m->ship_ack);
    case QNET__V1__PLANE_MESSAGE__BODY_SHIP_NACK:
        return on_ship_nack(plane, from, m->ship_nack);
    case QNET__V1__PLANE_MESSAGE__BODY_SHIP_DONE:
        return on_ship_done(plane, from, m->ship_done);
    case QNET__V1__PLANE_MESSAGE__BODY_HINT:
        return on_hint(plane, from, m->hint);
    case QNET__V1__PLANE_MESSAGE__BODY_HINT_ACK:
        r12_noted(plane, from, m->hint_ack->outcome_of);
        return 0;
    case QNET__V1__PLANE_MESSAGE__BODY_WHO_HAS:
        return on_who_has(plane, from, m->who_has);
    case QNET__V1__PLANE_MESSAGE__BODY_HAS:
        return on_has(plane, from, m->has);
    case QNET__V1__PLANE_MESSAGE__BODY_BORN:
        return on_born(plane, from, m->born);
    default:
        return -QN_EPROTOCOL; /* Clicked is for the link layer. */
    }
}

int qn_plane_on_message(struct qn_plane *plane, uint16_t from, const Qnet__V1__PlaneMessage *message) {
    if (from >= plane->config.n_nodes || from == plane->config.self || plane->down[from]) return -QN_EPROTOCOL;
    if (plane->n_deferred >= PLANE_DEFERRED_MAX) return -QN_ELIMIT;
    if (is_gone(plane, plane->config.self, read_life(message->to_life))) return 0; /* For who we were before. */
    int rc = dispatch(plane, from, message);
    settle(plane);
    return rc;
}
