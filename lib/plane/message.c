/* SPDX-License-Identifier: Apache-2.0 */
/* Messages out: packed and queued. What is addressed to the dead is dropped; R10 has dealt with what it was about. */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "plane/internal.h"

#define BODY(name) QNET__V1__PLANE_MESSAGE__BODY_##name

static uint32_t told(uint32_t life) { return life == QN_LIFE_UNKNOWN ? 0 : life + 1; }

static void append(struct qn_plane *plane, struct out *out) {
    out->next = NULL;
    if (plane->out_first == NULL)
        plane->out_first = out;
    else
        plane->out_last->next = out;
    plane->out_last = out;
    plane->n_out++;
}

/* A life that has not been met: what is for it waits, as the channel may lead to another one, and would be dropped when
 * that one is over. The driver makes contact (qn_plane_mark_unmet). */
static bool is_early(const struct qn_plane *plane, uint16_t to, uint32_t life) {
    return life != QN_LIFE_UNKNOWN && (life != life_at(plane, to) || plane->down[to]);
}

static void out_push(struct qn_plane *plane, uint16_t to, uint32_t life, Qnet__V1__PlaneMessage *message) {
    if (is_gone(plane, to, life)) return;
    message->to_life = told(life);
    size_t len = qnet__v1__plane_message__get_packed_size(message);
    struct out *out = must(malloc(sizeof *out + len));
    *out = (struct out){.to = to, .life = life, .len = len};
    qnet__v1__plane_message__pack(message, out->bytes);
    if (!is_early(plane, to, life)) {
        append(plane, out);
        return;
    }
    struct out **last = &plane->early;
    while (*last != NULL) last = &(*last)->next;
    *last = out;
}

void release_early(struct qn_plane *plane, uint16_t to) {
    struct out **at = &plane->early;
    while (*at != NULL) {
        struct out *out = *at;
        bool gone = is_gone(plane, to, out->life);
        if (out->to != to || (!gone && is_early(plane, to, out->life))) {
            at = &out->next;
            continue;
        }
        *at = out->next;
        if (gone)
            free(out);
        else
            append(plane, out);
    }
}

bool qn_plane_mark_unmet(const struct qn_plane *plane, bool *marks) {
    for (const struct out *out = plane->early; out != NULL && marks != NULL; out = out->next) marks[out->to] = true;
    return plane->early != NULL;
}

bool qn_plane_next_out(struct qn_plane *plane, struct qn_plane_out *ret_out) {
    free(plane->out_taken);
    plane->out_taken = plane->out_first;
    if (plane->out_first == NULL) return false;
    plane->out_first = plane->out_taken->next;
    plane->n_out--;
    *ret_out = (struct qn_plane_out){plane->out_taken->to, plane->out_taken->bytes, plane->out_taken->len};
    return true;
}

/* ---- parts ---- */

struct packed_op { /* An Operation and what it points to. */
    Qnet__V1__Operation message;
    uint64_t qubits[2];
    int64_t times_ns[2];
    double args[4];
};

static Qnet__V1__Operation *pack_op(const struct op *op, struct packed_op *packed) {
    packed->message = (Qnet__V1__Operation)QNET__V1__OPERATION__INIT;
    for (size_t i = 0; i < op->n_qubits; i++) {
        packed->qubits[i] = op->qubits[i];
        packed->times_ns[i] = (int64_t)op->times_ns[i];
    }
    memcpy(packed->args, op->args, sizeof packed->args);
    Qnet__V1__Operation *m = &packed->message;
    m->id = op->id;
    m->kind = op->kind;
    m->n_qubits = m->n_times_ns = op->n_qubits;
    m->qubits = packed->qubits;
    m->times_ns = packed->times_ns;
    m->n_args = op->n_args;
    m->args = packed->args;
    m->depolarise = op->depolarise;
    m->readout_error = op->readout_error;
    m->requester = op->requester;
    m->secret = op->secret;
    return m;
}

struct packed_hint {
    Qnet__V1__Hint message;
    double will[3];
};

static Qnet__V1__Hint *pack_hint(const struct hint *hint, struct packed_hint *packed) {
    packed->message = (Qnet__V1__Hint)QNET__V1__HINT__INIT;
    Qnet__V1__Hint *m = &packed->message;
    memcpy(packed->will, hint->will, sizeof packed->will);
    m->qubit = hint->qubit;
    m->group = hint->group;
    m->host = hint->host;
    m->host_life = told(hint->life);
    m->outcome_of = hint->outcome_of;
    m->version = hint->version;
    m->n_will = hint->has_will ? 3 : 0;
    m->will = packed->will;
    return m;
}

struct packed_answer {
    Qnet__V1__OpResult message;
    struct packed_hint hints[2];
    Qnet__V1__Hint *list[2];
};

static Qnet__V1__OpResult *pack_answer(const struct answer *answer, struct packed_answer *packed) {
    packed->message = (Qnet__V1__OpResult)QNET__V1__OP_RESULT__INIT;
    Qnet__V1__OpResult *m = &packed->message;
    m->id = answer->op_id;
    m->outcome = answer->outcome;
    m->failed = answer->error < 0;
    m->reason = answer->error < 0 ? (uint32_t)-answer->error : 0;
    for (size_t i = 0; i < answer->n_hints; i++) packed->list[i] = pack_hint(&answer->hints[i], &packed->hints[i]);
    m->n_hints = answer->n_hints;
    m->hints = packed->list;
    return m;
}

/* ---- messages ---- */

void send_request(struct qn_plane *plane, uint16_t to, uint32_t life, const struct request *request) {
    struct packed_op packed;
    Qnet__V1__PlaneMessage message = QNET__V1__PLANE_MESSAGE__INIT;
    Qnet__V1__OpRequest single = QNET__V1__OP_REQUEST__INIT;
    Qnet__V1__JointRequest joint = QNET__V1__JOINT_REQUEST__INIT;
    if (request->joint) {
        joint.op = pack_op(&request->op, &packed);
        joint.want = request->want;
        joint.bound = request->bound;
        message.body_case = BODY(JOINT);
        message.joint = &joint;
    } else {
        single.op = pack_op(&request->op, &packed);
        message.body_case = BODY(OP);
        message.op = &single;
    }
    out_push(plane, to, life, &message);
}

void send_result(struct qn_plane *plane, const struct answer *answer) {
    struct packed_answer packed;
    Qnet__V1__PlaneMessage message = QNET__V1__PLANE_MESSAGE__INIT;
    message.body_case = BODY(RESULT);
    message.result = pack_answer(answer, &packed);
    out_push(plane, answer->requester, life_of(answer->op_id), &message);
}

void send_redirect(struct qn_plane *plane, const struct op *op, const struct hint *hint) {
    Qnet__V1__PlaneMessage message = QNET__V1__PLANE_MESSAGE__INIT;
    Qnet__V1__Redirect redirect = QNET__V1__REDIRECT__INIT;
    redirect.id = op->id;
    redirect.qubit = hint->qubit;
    redirect.group = hint->group;
    redirect.host = hint->host;
    redirect.host_life = told(hint->life);
    redirect.version = hint->version;
    message.body_case = BODY(REDIRECT);
    message.redirect = &redirect;
    out_push(plane, op->requester, life_of(op->id), &message);
}

void send_lost(struct qn_plane *plane, const struct op *op) {
    if (op->requester == plane->config.self) {
        struct pending *pending = pending_find(plane, op->id);
        if (pending != NULL) recover_op(plane, pending);
        return;
    }
    Qnet__V1__PlaneMessage message = QNET__V1__PLANE_MESSAGE__INIT;
    Qnet__V1__Lost lost = QNET__V1__LOST__INIT;
    lost.id = op->id;
    message.body_case = BODY(LOST);
    message.lost = &lost;
    out_push(plane, op->requester, life_of(op->id), &message);
}

static void pack_members(const struct group *group, Qnet__V1__Member *members, Qnet__V1__Member **list) {
    for (size_t i = 0; i < group->n; i++) {
        const struct member *m = &group->members[i];
        members[i] = (Qnet__V1__Member)QNET__V1__MEMBER__INIT;
        members[i].qubit = m->qubit;
        members[i].owner = m->owner;
        members[i].owner_life = told(m->owner_life);
        members[i].last_op = m->last_op;
        members[i].last_outcome = m->last_outcome;
        members[i].version = m->version;
        members[i].touched_ns = (int64_t)m->touched_ns;
        members[i].t1_s = m->memory.t1_s;
        members[i].t2_s = m->memory.t2_s;
        list[i] = &members[i];
    }
}

static void to_little_endian(uint8_t *to, const double *from, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint64_t bits;
        memcpy(&bits, &from[i], sizeof bits);
        bits = htole64(bits);
        memcpy(to + 8 * i, &bits, sizeof bits);
    }
}

void send_ship(struct qn_plane *plane, const struct frozen *frozen) {
    const struct group *group = frozen->group;
    struct packed_op packed;
    Qnet__V1__Member members[QN_STATE_MAX], *list[QN_STATE_MAX];
    size_t n_numbers;
    const double *numbers = qn_state_data(group->state, &n_numbers);
    uint8_t *bytes = must(malloc(8 * n_numbers));
    to_little_endian(bytes, numbers, n_numbers);
    pack_members(group, members, list);
    Qnet__V1__Ship ship = QNET__V1__SHIP__INIT;
    ship.transfer = frozen->transfer;
    ship.group = group->id;
    ship.kind = frozen->kind;
    ship.n_members = group->n;
    ship.members = list;
    ship.state.data = bytes;
    ship.state.len = 8 * n_numbers;
    ship.trajectory = qn_state_is_trajectory(group->state);
    if (frozen->kind == QNET__V1__SHIP_KIND__SHIP_KIND_PUSH) {
        ship.op = pack_op(&frozen->op, &packed);
        ship.target = frozen->target;
    }
    Qnet__V1__PlaneMessage message = QNET__V1__PLANE_MESSAGE__INIT;
    message.body_case = BODY(SHIP);
    message.ship = &ship;
    out_push(plane, frozen->to, frozen->to_life, &message);
    free(bytes);
}

void send_ship_ack(struct qn_plane *plane, const struct shipment *shipment, uint64_t group,
                   const struct answer *answer) {
    struct packed_answer packed;
    Qnet__V1__PlaneMessage message = QNET__V1__PLANE_MESSAGE__INIT;
    Qnet__V1__ShipAck ack = QNET__V1__SHIP_ACK__INIT;
    ack.transfer = shipment->transfer;
    ack.group = group;
    if (answer != NULL) ack.result = pack_answer(answer, &packed);
    message.body_case = BODY(SHIP_ACK);
    message.ship_ack = &ack;
    out_push(plane, shipment->from, life_of(shipment->transfer), &message);
}

void send_ship_nack(struct qn_plane *plane, const struct shipment *shipment, const struct qubit *target) {
    Qnet__V1__PlaneMessage message = QNET__V1__PLANE_MESSAGE__INIT;
    Qnet__V1__ShipNack nack = QNET__V1__SHIP_NACK__INIT;
    nack.transfer = shipment->transfer;
    nack.qubit = shipment->target;
    nack.has_next = target != NULL && target->group == NULL && target->moved;
    nack.next_host = nack.has_next ? target->next_host : 0;
    nack.version = nack.has_next ? target->next_version : 0;
    nack.next_life = nack.has_next ? told(target->next_life) : 0;
    message.body_case = BODY(SHIP_NACK);
    message.ship_nack = &nack;
    out_push(plane, shipment->from, life_of(shipment->transfer), &message);
}

void send_ship_done(struct qn_plane *plane, uint16_t to, uint32_t life, uint64_t transfer) {
    Qnet__V1__PlaneMessage message = QNET__V1__PLANE_MESSAGE__INIT;
    Qnet__V1__ShipDone done = QNET__V1__SHIP_DONE__INIT;
    done.transfer = transfer;
    message.body_case = BODY(SHIP_DONE);
    message.ship_done = &done;
    out_push(plane, to, life, &message);
}

void send_hint(struct qn_plane *plane, uint16_t to, uint32_t life, const struct hint *hint) {
    struct packed_hint packed;
    Qnet__V1__PlaneMessage message = QNET__V1__PLANE_MESSAGE__INIT;
    message.body_case = BODY(HINT);
    message.hint = pack_hint(hint, &packed);
    out_push(plane, to, life, &message);
}

void send_hint_ack(struct qn_plane *plane, uint16_t to, uint64_t op_id) {
    Qnet__V1__PlaneMessage message = QNET__V1__PLANE_MESSAGE__INIT;
    Qnet__V1__HintAck ack = QNET__V1__HINT_ACK__INIT;
    ack.outcome_of = op_id;
    message.body_case = BODY(HINT_ACK);
    message.hint_ack = &ack;
    out_push(plane, to, life_at(plane, to), &message);
}

/* The causes are all deaths known here: an answer that does not reckon with them could be overtaken by what the dead
 * have sent. */
void send_who_has(struct qn_plane *plane, uint16_t to, uint32_t life, qn_qubit qubit, uint64_t inquiry) {
    uint32_t *causes = must(malloc(2 * plane->config.n_nodes * sizeof *causes)),
             *lives = causes + plane->config.n_nodes;
    Qnet__V1__PlaneMessage message = QNET__V1__PLANE_MESSAGE__INIT;
    Qnet__V1__WhoHas who_has = QNET__V1__WHO_HAS__INIT;
    who_has.qubit = qubit;
    who_has.inquiry = inquiry;
    who_has.causes = causes;
    who_has.lives = lives;
    for (uint32_t node = 0; node < plane->config.n_nodes; node++) {
        const struct lives *known = &plane->lives[node];
        if (known->n_gone == 0 || node == to) continue;
        lives[who_has.n_causes] = told(known->gone[(known->n_gone - 1) % LIVES_KEPT]);
        causes[who_has.n_causes++] = node;
    }
    who_has.n_lives = who_has.n_causes;
    message.body_case = BODY(WHO_HAS);
    message.who_has = &who_has;
    out_push(plane, to, life, &message);
    free(causes);
}

void send_has(struct qn_plane *plane, uint16_t to, const Qnet__V1__Has *has) {
    Qnet__V1__Has copy = *has;
    Qnet__V1__PlaneMessage message = QNET__V1__PLANE_MESSAGE__INIT;
    uint32_t *nodes = must(malloc(2 * plane->config.n_nodes * sizeof *nodes)), *lives = nodes + plane->config.n_nodes;
    for (uint16_t node = 0; node < plane->config.n_nodes; node++) {
        const struct lives *known = &plane->lives[node];
        if (known->n_gone == 0 || plane->down[node] || known->present == QN_LIFE_UNKNOWN) continue;
        nodes[copy.n_nodes++] = node;
        lives[copy.n_lives++] = told(known->present);
    }
    copy.nodes = nodes;
    copy.lives = lives;
    message.body_case = BODY(HAS);
    message.has = &copy;
    out_push(plane, to, life_of(has->inquiry), &message);
    free(nodes);
}

void send_born(struct qn_plane *plane, uint16_t to, Qnet__V1__Born *born, const double will[3]) {
    double copy[3] = {will[0], will[1], will[2]};
    Qnet__V1__PlaneMessage message = QNET__V1__PLANE_MESSAGE__INIT;
    born->n_will = 3;
    born->will = copy;
    message.body_case = BODY(BORN);
    message.born = born;
    out_push(plane, to, life_at(plane, to), &message);
}
