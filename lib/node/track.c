/* SPDX-License-Identifier: Apache-2.0 */
/* Pairs of a circuit: what its ends and inner nodes do with each, and the tracks that join them (see circuit.c). */
#include <stdlib.h>
#include <string.h>

#include "base/canary.h"
#include "link/bell.h"
#include "node/circuit.h"

#define RECORDS_MAX 65536

static void send_track(struct qn_node *node, struct circuit *circuit, int towards,
                       const Qnet__V1__CircuitTrack *track) {
    Qnet__V1__Envelope envelope = body(QNET__V1__ENVELOPE__BODY_CIRCUIT_TRACK);
    envelope.circuit_track = (Qnet__V1__CircuitTrack *)(uintptr_t)track;
    node_send(node, circuit->sides[towards].node, &envelope);
}

static void send_expire(struct qn_node *node, struct circuit *circuit, int towards, uint64_t origin_sequence) {
    Qnet__V1__CircuitExpire expire = QNET__V1__CIRCUIT_EXPIRE__INIT;
    Qnet__V1__Envelope envelope = body(QNET__V1__ENVELOPE__BODY_CIRCUIT_EXPIRE);
    expire.circuit = circuit->id;
    expire.to_head = towards == 0;
    expire.origin_sequence = origin_sequence;
    envelope.circuit_expire = &expire;
    node_send(node, circuit->sides[towards].node, &envelope);
}

static void copy_track(Qnet__V1__CircuitTrack *to, const Qnet__V1__CircuitTrack *from) {
    qnet__v1__circuit_track__init(to); /* Only numbers: nothing of the message stays borrowed. */
    to->circuit = from->circuit;
    to->from_head = from->from_head;
    to->origin_sequence = from->origin_sequence;
    to->link_sequence = from->link_sequence;
    to->frame = from->frame;
    to->epoch = from->epoch;
    to->fidelity = from->fidelity;
}

static struct record *record_of(struct circuit *circuit, int side, uint64_t sequence) {
    struct record *record = qn_map_get(&circuit->sides[side].records, sequence);
    if (record != NULL) return record;
    if (circuit->sides[side].records.len >= RECORDS_MAX) return NULL;
    record = calloc(1, sizeof *record);
    if (record == NULL) return NULL;
    record->sequence[side] = sequence;
    record->has[side] = true;
    if (qn_map_put(&circuit->sides[side].records, sequence, record) < 0) {
        free(record);
        return NULL;
    }
    return record;
}

static void forget(struct circuit *circuit, struct record *record) {
    for (int side = 0; side < 2; side++)
        if (record->has[side]) qn_map_remove(&circuit->sides[side].records, record->sequence[side]);
    free(record);
}

/* Moves on whatever tracks wait at this record. A track that came from side s leaves by the other. */
static void advance(struct qn_node *node, struct circuit *circuit, struct record *record) {
    for (int from = 0; from < 2; from++) {
        if (!record->parked[from]) continue;
        Qnet__V1__CircuitTrack *track = &record->track[from];
        if (record->expired && record->has[from]) {
            send_expire(node, circuit, from, track->origin_sequence);
            record->parked[from] = false;
            record->passed[from] = true;
            node->n_expired++;
        } else if (record->swapped) {
            int to = 1 - from;
            track->link_sequence = record->sequence[to];
            track->frame ^= (QN_CANARY(12) ? 0 : record->outcome) ^ record->bell[to];
            track->fidelity *= record->w[to];
            send_track(node, circuit, to, track);
            record->parked[from] = false;
            record->passed[from] = true;
        }
    }
    bool done = record->swapped ? record->passed[0] && record->passed[1]
                                : record->expired && (record->passed[0] || record->passed[1]);
    if (done) forget(circuit, record);
}

struct swap { /* A Bell measurement under way. */
    uint64_t circuit;
    uint64_t sequence[2];
    uint32_t bell[2];
    double w[2];
};

static void on_swapped(struct qn_node *node, struct node_op *op, uint32_t outcome, int error) {
    struct swap *swap = op->owner;
    struct circuit *circuit = circuit_find(node, swap->circuit);
    struct record *records[2] = {NULL, NULL};
    for (int side = 0; circuit != NULL && side < 2; side++)
        records[side] = record_of(circuit, side, swap->sequence[side]);
    if (records[0] != NULL && records[1] != NULL && error < 0) {
        for (int side = 0; side < 2; side++) {
            records[side]->expired = true;
            advance(node, circuit, records[side]);
        }
    } else if (records[0] != NULL && records[1] != NULL) {
        struct record *one = records[0], *other = records[1]; /* From now on one record, known by both sides. */
        one->sequence[1] = swap->sequence[1];
        one->has[1] = true;
        one->parked[1] = other->parked[1] && !QN_CANARY(13);
        one->track[1] = other->track[1];
        qn_map_put(&circuit->sides[1].records, swap->sequence[1], one);
        free(other);
        one->swapped = true;
        one->outcome = outcome;
        for (int side = 0; side < 2; side++) {
            one->bell[side] = swap->bell[side];
            one->w[side] = swap->w[side];
        }
        node->n_swaps++;
        advance(node, circuit, one);
    }
    free(swap);
}

static void swap_if_possible(struct qn_node *node, struct circuit *circuit) {
    while (!list_is_empty(&circuit->sides[0].waiting) && !list_is_empty(&circuit->sides[1].waiting)) {
        struct pair *pairs[2];
        struct swap *swap = malloc(sizeof *swap);
        if (swap == NULL) return;
        swap->circuit = circuit->id;
        struct qn_plane_op op = {.kind = QNET__V1__OP_KIND__OP_KIND_BELL, .n_qubits = 2};
        for (int side = 0; side < 2; side++) {
            struct pair *pair = pairs[side] = CONTAINER_OF(circuit->sides[side].waiting.next, struct pair, queue);
            swap->sequence[side] = pair->sequence;
            swap->bell[side] = pair->bell;
            swap->w[side] = qn_werner_parameter(pair_fidelity_now(node, pair));
            op.qubits[side] = pair->qubit;
        }
        bool optics = node->hardware->bsm == QN_BSM_LINEAR_OPTICS;
        double success = 0.5 * node->hardware->bsm_efficiency * node->hardware->bsm_efficiency;
        bool fails = optics && qn_rng_double(&node->physics) >= success; /* Calsamiglia and Luetkenhaus 2001. */
        uint64_t sequences[2] = {swap->sequence[0], swap->sequence[1]};
        if (fails || node_operate(node, &op, swap, 0, on_swapped) < 0) {
            free(swap);
            fails = true;
        }
        for (int side = 0; side < 2; side++) { /* The memories are free as soon as the photons are out. */
            if (!fails)
                pair_free(node, pairs[side], false);
            else
                pair_free(node, pairs[side], true);
        }
        for (int side = 0; fails && side < 2; side++) {
            struct record *record = record_of(circuit, side, sequences[side]);
            if (record == NULL) continue;
            record->expired = true;
            advance(node, circuit, record);
        }
    }
}

static void on_cutoff(void *context, struct qn_timer *timer) {
    struct qn_node *node = context;
    struct pair *pair = CONTAINER_OF(timer, struct pair, cutoff);
    struct circuit *circuit = pair->circuit;
    int side = circuit->sides[0].link == pair->link ? 0 : 1;
    struct record *record = record_of(circuit, side, pair->sequence);
    pair_free(node, pair, true);
    node->n_expired++;
    if (record == NULL) return;
    record->expired = true;
    advance(node, circuit, record);
}

static void deliver(struct qn_node *node, struct circuit *circuit, struct pair *pair);
static void end_track(struct qn_node *node, struct circuit *circuit, const Qnet__V1__CircuitTrack *m);

static void on_end_measured(struct qn_node *node, struct node_op *op, uint32_t outcome, int error) {
    struct pair *pair = pair_find(node, (uint16_t)(op->number >> 48), op->number & UINT64_C(0xffffffffffff));
    if (pair == NULL || error < 0) return;
    pair->measured = true;
    pair->outcome = (uint8_t)outcome;
    pair_give_memory(node, pair);
    if (pair->circuit != NULL && pair->peer != QN_NO_NODE) deliver(node, pair->circuit, pair);
}

/* An end holds a new link pair: it tells the other end, which then knows the partner of one of its own. */
static void end_pair(struct qn_node *node, struct circuit *circuit, struct pair *pair) {
    Qnet__V1__CircuitTrack track = QNET__V1__CIRCUIT_TRACK__INIT;
    track.circuit = circuit->id;
    track.from_head = circuit->role == HEAD;
    track.origin_sequence = track.link_sequence = pair->sequence;
    track.frame = pair->bell;
    track.fidelity = qn_werner_parameter(pair->goodness);
    pair->is_head = circuit->role == HEAD;
    int side = circuit->role == HEAD ? 1 : 0;
    send_track(node, circuit, side, &track);
    if (circuit->measure) {
        pair->axis = circuit->qkd.is_set ? bb84_draw_axis(node, &circuit->qkd)
                                         : axes_draw(&circuit->axes_rng, circuit->axes_set, pair->is_head);
        struct qn_plane_op op = {
            .kind = QNET__V1__OP_KIND__OP_KIND_MEASURE, .qubits = {pair->qubit}, .n_qubits = 1, .n_args = 3};
        op.secret = circuit->qkd.is_set;
        memcpy(op.args, node_axes[pair->axis], sizeof node_axes[0]);
        node_operate(node, &op, NULL, pair_key(pair->link, pair->sequence), on_end_measured);
    }
    struct record *record = qn_map_get(&circuit->sides[side].records, pair->sequence);
    if (record == NULL) return;
    Qnet__V1__CircuitTrack early = record->track[0];
    forget(circuit, record);
    end_track(node, circuit, &early);
}

void circuit_on_pair(struct qn_node *node, struct circuit *circuit, struct pair *pair) {
    if (circuit->role != INNER) {
        end_pair(node, circuit, pair);
        return;
    }
    int side = circuit->sides[0].link == pair->link ? 0 : 1;
    list_append(&circuit->sides[side].waiting, &pair->queue);
    if (circuit->cutoff_ns != 0) {
        pair->cutoff.fire = on_cutoff;
        uint64_t due = pair->since_ns + circuit->cutoff_ns;
        node_timer(node, &pair->cutoff, due > node->now_ns ? due : node->now_ns);
    }
    swap_if_possible(node, circuit);
}

void circuit_on_pair_lost(struct qn_node *node, struct circuit *circuit, struct pair *pair) {
    if (circuit->closing) return;
    if (circuit->role != INNER) {
        circuit->expired++;
        return;
    }
    struct record *record = record_of(circuit, circuit->sides[0].link == pair->link ? 0 : 1, pair->sequence);
    if (record == NULL) return;
    record->expired = true;
    advance(node, circuit, record);
}

/* ---- tracks at the ends ---- */

static void send_measured(struct qn_node *node, const struct circuit *circuit, const struct pair *pair) {
    Qnet__V1__MeasureReport report = QNET__V1__MEASURE_REPORT__INIT;
    Qnet__V1__Envelope envelope = body(QNET__V1__ENVELOPE__BODY_MEASURE_REPORT);
    uint64_t id = pair->id;
    uint8_t axis = pair->axis, outcome = pair->outcome;
    report.request = circuit->user_request;
    report.count = 1;
    report.axes = (ProtobufCBinaryData){1, &axis};
    report.outcomes = (ProtobufCBinaryData){1, &outcome};
    report.pairs = &id;
    report.n_pairs = 1;
    envelope.measure_report = &report;
    envelope.body_case = QNET__V1__ENVELOPE__BODY_MEASURE_REPORT;
    node_send(node, circuit->path[0], &envelope);
}

/* The pair is complete at this end: partner, frame and (if measured) outcome are known. */
static void deliver(struct qn_node *node, struct circuit *circuit, struct pair *pair) {
    circuit->delivered++;
    node->n_pairs_delivered++;
    if (circuit->measure) {
        if (circuit->role == HEAD) {
            struct request *request = circuit->request;
            uint64_t id = pair->id;
            uint8_t axis = pair->axis, outcome = pair->outcome ^ (uint8_t)frame_flips(pair->bell, pair->axis);
            double goodness = pair->goodness;
            pair->circuit = NULL;
            pair_free(node, pair, false);
            if (request != NULL) request_on_measured(node, request, id, axis, outcome, goodness);
        } else {
            uint64_t id = pair->id;
            uint8_t axis = pair->axis, outcome = pair->outcome;
            if (!circuit->qkd.is_set) send_measured(node, circuit, pair);
            pair->circuit = NULL;
            pair_free(node, pair, false);
            if (circuit->qkd.is_set) bb84_on_far_pair(node, circuit->path[0], &circuit->qkd, id, axis, outcome);
        }
        return;
    }
    pair_detach(node, pair);
    pair->state = PAIR_USABLE;
    pair->circuit = NULL;
    list_append(&node->delivered, &pair->queue);
    node->n_delivered++;
    if (circuit->role == HEAD && circuit->request != NULL)
        request_on_pair(node, circuit->request, pair);
    else if (circuit->role == TAIL)
        teleport_on_tail_pair(node, pair);
}

struct correction { /* Paulis under way at the head. */
    uint64_t circuit, key;
};

static void on_corrected(struct qn_node *node, struct node_op *op, uint32_t outcome, int error) {
    (void)outcome;
    struct correction *correction = op->owner;
    struct circuit *circuit = circuit_find(node, correction->circuit);
    struct pair *pair = qn_map_get(&node->pairs, correction->key);
    free(correction);
    if (circuit == NULL || pair == NULL || pair->circuit != circuit) return;
    if (error < 0) {
        circuit->expired++;
        pair_free(node, pair, false);
        return;
    }
    deliver(node, circuit, pair);
}

/* Turns the head's half so that the pair is Phi+: (Z^z X^x) on either half undoes the frame, up to a phase. */
static void correct(struct qn_node *node, struct circuit *circuit, struct pair *pair) {
    uint32_t frame = pair->bell;
    pair->bell = 0;
    struct correction *correction = malloc(sizeof *correction);
    if (correction == NULL) return;
    *correction = (struct correction){circuit->id, pair_key(pair->link, pair->sequence)};
    struct qn_plane_op op = {.qubits = {pair->qubit}, .n_qubits = 1};
    op.kind = frame == 1   ? QNET__V1__OP_KIND__OP_KIND_Z
              : frame == 2 ? QNET__V1__OP_KIND__OP_KIND_X
                           : QNET__V1__OP_KIND__OP_KIND_Y;
    if (node_operate(node, &op, correction, 0, on_corrected) < 0) free(correction);
}

static void end_track(struct qn_node *node, struct circuit *circuit, const Qnet__V1__CircuitTrack *m) {
    struct side *side = &circuit->sides[circuit->role == HEAD ? 1 : 0];
    struct pair *pair = pair_find(node, side->link, m->link_sequence);
    if (pair == NULL || !pair->born || !pair->heralded) { /* Ahead of its own pair: kept until end_pair. */
        struct record *record = record_of(circuit, circuit->role == HEAD ? 1 : 0, m->link_sequence);
        if (record == NULL) return;
        record->parked[0] = true;
        copy_track(&record->track[0], m);
        return;
    }
    if (pair->peer != QN_NO_NODE) return; /* Told before. */
    pair->peer = circuit->role == HEAD ? circuit->path[circuit->n_links] : circuit->path[0];
    pair->id = circuit->role == HEAD ? pair->sequence : m->origin_sequence;
    pair->goodness = qn_werner_fidelity(m->fidelity);
    pair->bell = m->frame & 3;
    if (circuit->measure) {
        if (pair->measured) deliver(node, circuit, pair);
    } else if (circuit->role == HEAD && pair->bell != 0 && !circuit->keep_frame) {
        correct(node, circuit, pair);
    } else {
        deliver(node, circuit, pair);
    }
}

void circuit_on_track(struct qn_node *node, uint16_t from, const Qnet__V1__CircuitTrack *m) {
    struct circuit *circuit = circuit_find(node, m->circuit);
    int side = m->from_head ? 0 : 1;
    if (circuit == NULL || circuit->sides[side].node != from) return;
    if (circuit->role != INNER) {
        end_track(node, circuit, m);
        return;
    }
    struct record *record = record_of(circuit, side, m->link_sequence);
    if (record == NULL || record->parked[side] || record->passed[side]) return;
    record->parked[side] = true;
    copy_track(&record->track[side], m);
    advance(node, circuit, record);
}

void circuit_on_expire(struct qn_node *node, uint16_t from, const Qnet__V1__CircuitExpire *m) {
    struct circuit *circuit = circuit_find(node, m->circuit);
    int towards = m->to_head ? 0 : 1;
    if (circuit == NULL || circuit->sides[1 - towards].node != from) return;
    if (circuit->sides[towards].node != QN_NO_NODE) {
        send_expire(node, circuit, towards, m->origin_sequence);
        return;
    }
    struct pair *pair = pair_find(node, circuit->sides[1 - towards].link, m->origin_sequence);
    if (pair == NULL || pair->circuit != circuit || pair->peer != QN_NO_NODE) return;
    circuit->expired++;
    node->n_expired++;
    if (circuit->request != NULL) circuit->request->expired++;
    pair_free(node, pair, true);
    node->wake_links = true;
}
