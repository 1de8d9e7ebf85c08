/* SPDX-License-Identifier: Apache-2.0 */
/* Teleportation (Bennett et al., PRL 70, 1895, 1993) of a state given by its Bloch angles, over end-to-end pairs.
 *
 * The sender announces the request (TeleportOffer), asks for pairs, and for each one prepares the state, Bell-measures
 * it with its half, and sends the outcome together with the pair's frame (TeleportCorrection). The receiver waits for
 * both its half and the correction, in either order, turns its half, and either keeps the state or measures it along X,
 * Y and Z in turn; TeleportReport brings the sums back. A sender that gives up says so by an offer of nothing. Until
 * its correction has come, a half is not the user's. The qubit being sent is the sender's communication qubit: it takes
 * none of the memories that hold pairs. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "link/bell.h"
#include "node/internal.h"

#define OFFERS_MAX 256
#define STATES_MAX 1000000
#define TIMES_MAX 1024 /* Of the states sent last: the median is theirs. */

struct sending { /* request->extra */
    double theta, phi;
    bool tomography, offered; /* offered: the receiver must be told when it is over. */
    uint32_t started;
    double factor_sum; /* Of what each pair promised. */
    uint64_t last_ns;  /* When the one before was sent. */
    uint64_t took_ns[TIMES_MAX];
    uint32_t n_took;
};

struct offer { /* A request of another node to send states here. */
    struct list link;
    uint64_t request;
    uint16_t from;
    uint32_t number, received;
    bool measure;
    uint32_t trials[3];
    int32_t sums[3];
    struct qn_map waiting;     /* Pair id -> pair whose correction has not come. */
    struct qn_map corrections; /* Pair id -> correction whose pair has not come. */
};

struct correction {
    uint32_t outcome, index;
};

struct teleports {
    struct list offers;
    size_t n_offers;
};

/* ---- sender ---- */

static int send_offer(struct qn_node *node, const struct request *request, uint32_t number, bool measure) {
    Qnet__V1__TeleportOffer offer = QNET__V1__TELEPORT_OFFER__INIT;
    Qnet__V1__Envelope envelope = QNET__V1__ENVELOPE__INIT;
    offer.request = request->number;
    offer.number = number;
    offer.measure = measure;
    envelope.body_case = QNET__V1__ENVELOPE__BODY_TELEPORT_OFFER;
    envelope.teleport_offer = &offer;
    return node_send(node, request->peer, &envelope);
}

static void free_sending(struct request *request) {
    const struct sending *sending = request->extra;
    if (sending->offered) send_offer(request->node, request, 0, false);
    free(request->extra);
}

void teleport_start(struct qn_node *node, uint64_t client, uint64_t id, const Qnet__V1__TeleportRequest *m) {
    int peer = node_name_to_peer(node, client, id, m->peer);
    if (peer < 0) return;
    uint32_t number = m->number == 0 ? 1 : m->number;
    if (number > STATES_MAX || !isfinite(m->theta) || !isfinite(m->phi) ||
        !(m->min_fidelity >= 0 && m->min_fidelity <= 1)) {
        node_reply_error(node, client, id, -QN_EINVAL, "number is 1 to %d, the angles finite, min_fidelity 0 to 1",
                         STATES_MAX);
        return;
    }
    struct request *request = request_new(node, client, id, REQUEST_TELEPORT, m->timeout_ns);
    if (request == NULL) return;
    struct sending *sending = calloc(1, sizeof *sending);
    if (sending == NULL) {
        request_fail(request, -QN_ENOMEM, "%s", "");
        return;
    }
    *sending = (struct sending){.theta = m->theta, .phi = m->phi, .tomography = m->tomography};
    request->extra = sending;
    request->free_extra = free_sending;
    request->peer = (uint16_t)peer;
    request->wanted = number;
    request->min_fidelity = m->min_fidelity;

    int rc = circuit_open(node, (uint16_t)peer, request, &request->circuit);
    if (rc == 0) rc = send_offer(node, request, number, m->tomography);
    sending->offered = rc == 0;
    if (rc == -QN_EFIDELITY)
        request_fail(request, rc, "%.4f asked for, %.4f is what the path to %s gives", m->min_fidelity,
                     request->predicted, m->peer);
    else if (rc < 0)
        request_fail(request, rc, "to %s", m->peer);
}

struct sent { /* A Bell measurement under way. */
    uint64_t request, circuit, pair;
    uint32_t frame, index;
    uint16_t peer;
};

static void on_bell(struct qn_node *node, struct node_op *op, uint32_t outcome, int error) {
    struct sent sent = *(struct sent *)op->owner;
    free(op->owner);
    struct request *request = request_find(node, sent.request);
    if (request == NULL) return;
    if (error < 0) {
        request_fail(request, error, "state %u of %u", sent.index + 1, request->wanted);
        return;
    }
    Qnet__V1__TeleportCorrection correction = QNET__V1__TELEPORT_CORRECTION__INIT;
    Qnet__V1__Envelope envelope = QNET__V1__ENVELOPE__INIT;
    correction.request = sent.request;
    correction.circuit = sent.circuit;
    correction.pair = sent.pair;
    correction.outcome = outcome ^ sent.frame;
    correction.index = sent.index;
    envelope.body_case = QNET__V1__ENVELOPE__BODY_TELEPORT_CORRECTION;
    envelope.teleport_correction = &correction;
    node_send(node, sent.peer, &envelope);
    struct sending *sending = request->extra;
    uint64_t before_ns = sending->last_ns != 0 ? sending->last_ns : request->started_ns;
    sending->took_ns[sending->n_took++ % TIMES_MAX] = node->now_ns - before_ns;
    sending->last_ns = node->now_ns;
    request->delivered++;
    node->n_teleports++;
}

/* What preparation, Bell measurement, correction and readout leave of the Bloch vector, besides the pair itself. */
static double hardware_factor(const struct qn_node *node, const struct request *request) {
    const struct qn_topo_node *here = node->hardware, *there = &node->topology->nodes[request->peer];
    double eta = 1 - here->readout_error;
    double corrected = 0.25 + 0.75 * (1 - there->gate1_error); /* Three of four outcomes need a gate. */
    return (1 - here->gate1_error) * (1 - here->gate2_error) * (4 * eta * eta - 1) / 3 * corrected *
           (1 - 2 * there->readout_error);
}

void teleport_on_pair(struct qn_node *node, struct request *request, struct pair *pair) {
    struct sending *sending = request->extra;
    struct sent *sent = malloc(sizeof *sent);
    qn_qubit state;
    struct qn_memory memory = {node->hardware->t1_s, node->hardware->t2_s};
    if (sent == NULL || qn_plane_prepare(node->plane, node->now_ns, memory, &state) < 0) {
        free(sent);
        request_fail(request, -QN_ENOMEM, "%s", "");
        return;
    }
    *sent = (struct sent){request->number, pair->circuit_id, pair->id, pair->bell, sending->started++, request->peer};
    double fidelity = pair_fidelity_now(node, pair);
    request->goodness_sum += fidelity;
    sending->factor_sum += qn_werner_parameter(fidelity) * hardware_factor(node, request);
    struct qn_plane_op turn = {.kind = QNET__V1__OP_KIND__OP_KIND_ROT,
                               .qubits = {state},
                               .n_qubits = 1,
                               .args = {-sin(sending->phi), cos(sending->phi), 0, sending->theta},
                               .n_args = 4};
    struct qn_plane_op bell = {.kind = QNET__V1__OP_KIND__OP_KIND_BELL, .qubits = {state, pair->qubit}, .n_qubits = 2};
    int rc = sending->theta == 0 ? 0 : node_operate(node, &turn, NULL, 0, NULL);
    if (rc == 0) rc = node_operate(node, &bell, sent, 0, on_bell);
    pair_free(node, pair, false);
    if (rc == 0) return;
    free(sent);
    request_fail(request, rc, "cannot measure");
}

static int by_size(const void *one, const void *other) {
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;
    return a < b ? -1 : a > b;
}

static uint64_t median(struct sending *sending) { /* Sorts the times. */
    size_t n = sending->n_took < TIMES_MAX ? sending->n_took : TIMES_MAX;
    qsort(sending->took_ns, n, sizeof *sending->took_ns, by_size);
    return n == 0       ? 0
           : n % 2 == 1 ? sending->took_ns[n / 2]
                        : sending->took_ns[n / 2 - 1] / 2 + sending->took_ns[n / 2] / 2;
}

void teleport_on_report(struct qn_node *node, uint16_t from, const Qnet__V1__TeleportReport *m) {
    struct request *request = request_find(node, m->request);
    if (request == NULL || request->kind != REQUEST_TELEPORT || request->peer != from) return;
    if (m->error != 0) {
        request_fail(request, -(int)m->error, "%s: %s", node_name(node, from), m->detail);
        return;
    }
    if (m->n_trials != 3 || m->n_sums != 3) return;
    struct sending *sending = request->extra;
    Qnet__V1__TeleportSummary summary = QNET__V1__TELEPORT_SUMMARY__INIT;
    Qnet__V1__ControlResponse response = QNET__V1__CONTROL_RESPONSE__INIT;
    const double n[3] = {sin(sending->theta) * cos(sending->phi), sin(sending->theta) * sin(sending->phi),
                         cos(sending->theta)};
    double dot = 0, variance = 0;
    for (int i = 0; i < 3; i++) {
        if (m->trials[i] == 0) continue;
        double r = (double)m->sums[i] / m->trials[i];
        dot += n[i] * r;
        variance += n[i] * n[i] * (1 - r * r + 1.0 / m->trials[i]) / m->trials[i];
    }
    double started = sending->started > 0 ? sending->started : 1;
    summary.done = m->received;
    summary.trials = m->trials;
    summary.n_trials = m->n_trials;
    summary.sums = m->sums;
    summary.n_sums = m->n_sums;
    summary.fidelity = sending->tomography ? (1 + dot) / 2 : 0;
    summary.standard_error = sqrt(variance) / 2;
    summary.predicted = (1 + sending->factor_sum / started) / 2;
    summary.pair_fidelity = request->goodness_sum / started;
    summary.elapsed_ns = node->now_ns - request->started_ns;
    summary.median_ns = median(sending);
    response.body_case = QNET__V1__CONTROL_RESPONSE__BODY_TELEPORT_SUMMARY;
    response.teleport_summary = &summary;
    node_reply(node, request->client, request->id, false, &response);
    sending->offered = false; /* The receiver is done with it. */
    request_finish(request);
}

/* ---- receiver ---- */

static struct offer *find_offer(const struct qn_node *node, uint64_t request) {
    if (node->teleports == NULL) return NULL;
    for (struct list *item = node->teleports->offers.next; item != &node->teleports->offers; item = item->next) {
        struct offer *offer = CONTAINER_OF(item, struct offer, link);
        if (offer->request == request) return offer;
    }
    return NULL;
}

static void free_offer(struct qn_node *node, struct offer *offer) {
    size_t i = 0;
    for (void *correction; qn_map_next(&offer->corrections, &i, NULL, &correction);) free(correction);
    qn_map_release(&offer->corrections);
    struct qn_map waiting = offer->waiting;
    list_remove(&offer->link);
    node->teleports->n_offers--;
    free(offer);
    void *value;
    for (i = 0;
         qn_map_next(&waiting, &i, NULL, &value);) { /* No correction will come: they are of no use to anybody. */
        struct pair *pair = value;
        pair->teleport = 0;
        pair_free(node, pair, true);
    }
    qn_map_release(&waiting);
}

static void wait_for_correction(struct offer *offer, struct pair *pair) {
    if (qn_map_put(&offer->waiting, pair->id, pair) == 0) pair->teleport = offer->request;
}

void teleport_on_pair_gone(struct qn_node *node, struct pair *pair) {
    struct offer *offer = find_offer(node, pair->teleport);
    if (offer != NULL) qn_map_remove(&offer->waiting, pair->id);
}

void teleport_on_offer(struct qn_node *node, uint16_t from, const Qnet__V1__TeleportOffer *m) {
    struct offer *known = find_offer(node, m->request);
    if (m->number == 0 && known != NULL && known->from == from) free_offer(node, known);
    if (m->number == 0 || m->number > STATES_MAX || m->request >> 48 != from || known != NULL) return;
    if (node->teleports == NULL) {
        node->teleports = calloc(1, sizeof *node->teleports);
        if (node->teleports == NULL) return;
        list_init(&node->teleports->offers);
    }
    if (node->teleports->n_offers >= OFFERS_MAX) /* The oldest was given up by its sender. */
        free_offer(node, CONTAINER_OF(node->teleports->offers.next, struct offer, link));
    struct offer *offer = calloc(1, sizeof *offer);
    if (offer == NULL) return;
    offer->request = m->request;
    offer->from = from;
    offer->number = m->number;
    offer->measure = m->measure;
    list_append(&node->teleports->offers, &offer->link);
    node->teleports->n_offers++;
    for (struct list *item = node->delivered.next; item != &node->delivered; item = item->next) {
        struct pair *pair = CONTAINER_OF(item, struct pair, queue); /* One may have overtaken the offer. */
        if (pair->user_request == m->request && pair->peer == from && !pair->is_head && pair->teleport == 0)
            wait_for_correction(offer, pair);
    }
}

static void send_report(struct qn_node *node, struct offer *offer) {
    Qnet__V1__TeleportReport report = QNET__V1__TELEPORT_REPORT__INIT;
    Qnet__V1__Envelope envelope = QNET__V1__ENVELOPE__INIT;
    report.request = offer->request;
    report.received = offer->received;
    report.trials = offer->trials;
    report.sums = offer->sums;
    report.n_trials = report.n_sums = 3;
    envelope.body_case = QNET__V1__ENVELOPE__BODY_TELEPORT_REPORT;
    envelope.teleport_report = &report;
    node_send(node, offer->from, &envelope);
    free_offer(node, offer);
}

static void count(struct qn_node *node, struct offer *offer) {
    if (++offer->received == offer->number) send_report(node, offer);
}

static void on_received(struct qn_node *node, struct node_op *op, uint32_t outcome, int error) {
    struct offer *offer = find_offer(node, (uint64_t)(uintptr_t)op->owner);
    if (offer == NULL) return;
    if (error == 0) {
        offer->trials[op->number]++;
        offer->sums[op->number] += outcome == 0 ? 1 : -1;
    }
    count(node, offer);
}

static void complete(struct qn_node *node, struct offer *offer, struct pair *pair, uint32_t outcome, uint32_t index) {
    struct qn_plane_op turn = {.qubits = {pair->qubit}, .n_qubits = 1};
    turn.kind = outcome == 1   ? QNET__V1__OP_KIND__OP_KIND_Z
                : outcome == 2 ? QNET__V1__OP_KIND__OP_KIND_X
                               : QNET__V1__OP_KIND__OP_KIND_Y;
    if (outcome != 0) node_operate(node, &turn, NULL, 0, NULL);
    if (!offer->measure) { /* The state stays in the memory, for the user. */
        pair->bell = 0;
        count(node, offer);
        return;
    }
    unsigned axis = index % 3;
    struct qn_plane_op measure = {
        .kind = QNET__V1__OP_KIND__OP_KIND_MEASURE, .qubits = {pair->qubit}, .n_qubits = 1, .n_args = 3};
    memcpy(measure.args, node_axes[axis], sizeof node_axes[0]);
    node_operate(node, &measure, (void *)(uintptr_t)offer->request, axis, on_received);
    pair_free(node, pair, false);
}

void teleport_on_tail_pair(struct qn_node *node, struct pair *pair) {
    struct offer *offer = find_offer(node, pair->user_request);
    if (offer == NULL) return;
    struct correction *correction = qn_map_remove(&offer->corrections, pair->id);
    if (correction == NULL) {
        wait_for_correction(offer, pair);
        return;
    }
    complete(node, offer, pair, correction->outcome, correction->index);
    free(correction);
}

void teleport_on_correction(struct qn_node *node, uint16_t from, const Qnet__V1__TeleportCorrection *m) {
    struct offer *offer = find_offer(node, m->request);
    if (offer == NULL || offer->from != from || m->outcome > 3) return;
    struct pair *pair = qn_map_remove(&offer->waiting, m->pair);
    if (pair != NULL) {
        pair->teleport = 0;
        complete(node, offer, pair, m->outcome, m->index);
        return;
    }
    struct correction *correction = offer->corrections.len >= offer->number ? NULL : malloc(sizeof *correction);
    if (correction == NULL) return;
    *correction = (struct correction){m->outcome, m->index};
    free(qn_map_remove(&offer->corrections, m->pair));
    if (qn_map_put(&offer->corrections, m->pair, correction) < 0) free(correction);
}

/* States that were sent are gone. If none was, the offer is made to the next life: the circuit waits for it, too. */
static void requests_on_peer_gone(struct qn_node *node, uint16_t peer) {
    for (struct list *item = node->requests.next, *next; item != &node->requests; item = next) {
        next = item->next;
        struct request *request = CONTAINER_OF(item, struct request, link);
        if (request->kind != REQUEST_TELEPORT || request->peer != peer) continue;
        const struct sending *sending = request->extra;
        bool fresh = sending->started == 0 && request->circuit != NULL;
        if (fresh && send_offer(node, request, request->wanted, sending->tomography) == 0) continue;
        request_fail(request, -QN_EPEER_DOWN, "%s went down", node_name(node, peer));
        next = node->requests.next; /* Failing one may have ended others. */
    }
}

static void drop_waiting(struct qn_node *node, struct offer *offer) { /* Their corrections will not come. */
    for (;;) {
        size_t i = 0;
        uint64_t id;
        void *pair;
        if (!qn_map_next(&offer->waiting, &i, &id, &pair)) return;
        qn_map_remove(&offer->waiting, id);
        pair_free(node, pair, true);
    }
}

void teleport_on_peer_gone(struct qn_node *node, uint16_t peer) {
    requests_on_peer_gone(node, peer);
    if (node->teleports == NULL) return;
    for (struct list *item = node->teleports->offers.next, *next; item != &node->teleports->offers; item = next) {
        next = item->next;
        struct offer *offer = CONTAINER_OF(item, struct offer, link);
        if (offer->from != peer) continue;
        drop_waiting(node, offer);
        free_offer(node, offer);
    }
}

void teleport_mark_peers(const struct qn_node *node, bool *marks) {
    if (node->teleports == NULL) return;
    for (const struct list *item = node->teleports->offers.next; item != &node->teleports->offers; item = item->next)
        marks[CONTAINER_OF(item, struct offer, link)->from] = true;
}

size_t teleport_n_offers(const struct qn_node *node) { return node->teleports != NULL ? node->teleports->n_offers : 0; }

void teleport_release_all(struct qn_node *node) {
    if (node->teleports == NULL) return;
    while (!list_is_empty(&node->teleports->offers))
        free_offer(node, CONTAINER_OF(node->teleports->offers.next, struct offer, link));
    free(node->teleports);
    node->teleports = NULL;
}
