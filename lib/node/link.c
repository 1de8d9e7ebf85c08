/* SPDX-License-Identifier: Apache-2.0 */
/* Link layer at the two ends of a link (after Dahlberg et al. 2019, arXiv:1903.09778).
 *
 * One end asks (LinkCreate), the other accepts; then both give the station credit for as many pairs as they have memory
 * for (LinkAttempt, on the quantum port: it stands for the photons). The station (station.c) answers each success with
 * Born on the quantum plane and LinkHerald on the classical channel; a pair exists for an end when both have come.
 * "Measure directly" takes no memory: the credit carries the axes, and Clicked brings the outcomes.
 *
 * States of a request: asked -> active -> closed. A request that is not active gives no credit; one that is closed is
 * gone, and whatever still arrives for it is discarded. */
#include <stdlib.h>
#include <string.h>

#include "base/canary.h"
#include "node/internal.h"

#define MEASURE_WINDOW 4096
#define MEASURE_MAX 10000000

uint16_t link_station(const struct qn_node *node, uint16_t index) {
    const struct qn_topo_link *link = &node->topology->links[index];
    return link->via != QN_NO_NODE ? link->via : link->b;
}

static bool is_end(const struct qn_node *node, uint16_t index, uint16_t id) {
    const struct qn_topo_link *link = &node->topology->links[index];
    return link->a == id || link->b == id;
}

static struct link_request *find(const struct qn_node *node, uint32_t link, uint32_t origin, uint32_t create_id) {
    for (struct list *item = node->link_requests.next; item != &node->link_requests; item = item->next) {
        struct link_request *request = CONTAINER_OF(item, struct link_request, link);
        if (request->link_index == link && request->origin == origin && request->create_id == create_id) return request;
    }
    return NULL;
}

static bool is_head(const struct link_request *request) { return request->origin == request->node->self; }

/* Axis of the next pair: the asking end measures along X, Y or Z, so that the frame only flips bits (see AxesSet). */
uint8_t axes_draw(struct qn_rng *rng, uint32_t set, bool head) {
    switch (set) {
    case QNET__V1__AXES_SET__AXES_SET_XZ:
        return qn_rng_below(rng, 2) == 0 ? 0 : 2;
    case QNET__V1__AXES_SET__AXES_SET_XYZ:
        return (uint8_t)qn_rng_below(rng, 3);
    case QNET__V1__AXES_SET__AXES_SET_CHSH:
        if (head) return qn_rng_below(rng, 2) == 0 ? 0 : 2;
        return (uint8_t)(3 + qn_rng_below(rng, 2));
    default:
        return 2;
    }
}

/* ---- credit ---- */

static void send_credit(struct qn_node *node, struct link_request *request) {
    Qnet__V1__LinkAttempt attempt = QNET__V1__LINK_ATTEMPT__INIT;
    Qnet__V1__Photon photon = QNET__V1__PHOTON__INIT;
    attempt.link = request->link_index;
    attempt.origin = request->origin;
    attempt.create_id = request->create_id;
    attempt.credit = request->granted;
    attempt.type = request->measure ? QNET__V1__LINK_TYPE__LINK_TYPE_MEASURE : QNET__V1__LINK_TYPE__LINK_TYPE_KEEP;
    attempt.start_ns = (int64_t)node->now_ns;
    if (request->measure) { /* All that the station may not have seen yet: a cut may have swallowed the last ones. */
        attempt.axes_from = request->heralded;
        attempt.axes.data = request->axes.data + request->heralded;
        attempt.axes.len = request->granted - request->heralded;
    }
    photon.body_case = QNET__V1__PHOTON__BODY_ATTEMPT;
    photon.attempt = &attempt;
    node_send_photon(node, link_station(node, request->link_index), &photon);
}

static uint64_t measure_target(const struct link_request *request) {
    uint64_t target = request->heralded + MEASURE_WINDOW;
    return target > request->number ? request->number : target;
}

void link_grant(struct qn_node *node, struct link_request *request) {
    if (!request->active || request->closed) return;
    uint64_t before = request->granted;
    if (request->measure) {
        uint64_t target = measure_target(request);
        /* Half a window at a time: not a message for every pair. */
        if (target < request->granted + MEASURE_WINDOW / 2 && target < request->number) return;
        while (request->granted < target) {
            uint8_t axis = request->qkd.is_set ? bb84_draw_axis(node, &request->qkd)
                                               : axes_draw(&request->axes_rng, request->axes_set, is_head(request));
            if (qn_buf_append(&request->axes, &axis, 1) < 0) break;
            request->granted++;
        }
    } else {
        uint64_t wanted = request->circuit != NULL ? circuit_wants(request->circuit, request) : request->number;
        while (request->granted < wanted && (request->holding < request->budget || QN_CANARY(6))) {
            if (!request->prepaid && !memory_take(node)) break;
            request->granted++;
            request->holding++;
        }
    }
    if (request->granted != before) send_credit(node, request);
}

void link_wake_all(struct qn_node *node) {
    for (struct list *item = node->link_requests.next; item != &node->link_requests; item = item->next)
        link_grant(node, CONTAINER_OF(item, struct link_request, link));
}

void link_on_quantum_up(struct qn_node *node, uint16_t peer) { /* Photons sent while it was down are lost. */
    for (struct list *item = node->link_requests.next; item != &node->link_requests; item = item->next) {
        struct link_request *request = CONTAINER_OF(item, struct link_request, link);
        if (request->active && link_station(node, request->link_index) == peer) send_credit(node, request);
    }
}

/* ---- life of a request ---- */

static void request_free(struct link_request *request) {
    list_remove(&request->link);
    qn_buf_release(&request->axes);
    qn_buf_release(&request->bells);
    qn_buf_release(&request->bits);
    free(request);
}

static void destroy(struct qn_node *node, struct link_request *request) {
    request->closed = true;
    while (!list_is_empty(&request->pairs)) {
        struct pair *pair = CONTAINER_OF(request->pairs.next, struct pair, of_request);
        if (request->circuit != NULL) circuit_on_pair_lost(node, request->circuit, pair);
        pair_free(node, pair, true);
    }
    if (!request->prepaid && !QN_CANARY(2))
        memory_give(node, request->holding); /* Promised to pairs that will not come. */
    request_free(request);
}

void link_send_cancel(struct qn_node *node, uint16_t to, const struct link_name *name, int error, const char *detail) {
    Qnet__V1__LinkCancel cancel = QNET__V1__LINK_CANCEL__INIT;
    Qnet__V1__Envelope envelope = QNET__V1__ENVELOPE__INIT;
    cancel.link = name->link;
    cancel.origin = name->origin;
    cancel.create_id = name->create_id;
    cancel.error = (uint32_t)-error;
    cancel.detail = (char *)(uintptr_t)detail;
    envelope.body_case = QNET__V1__ENVELOPE__BODY_LINK_CANCEL;
    envelope.link_cancel = &cancel;
    node_send(node, to, &envelope);
}

enum { TELL_OTHER = 1, TELL_STATION = 2 };

static void tell(struct qn_node *node, const struct link_request *request, unsigned whom, int error,
                 const char *detail) {
    const struct link_name name = {request->link_index, request->origin, request->create_id};
    uint16_t station = link_station(node, request->link_index);
    if ((whom & TELL_OTHER) != 0) link_send_cancel(node, request->other, &name, error, detail);
    if ((whom & TELL_STATION) != 0 && ((whom & TELL_OTHER) == 0 || station != request->other))
        link_send_cancel(node, station, &name, error, detail);
}

void link_cancel(struct qn_node *node, struct link_request *request, int error, const char *detail, bool tell_all) {
    if (tell_all) tell(node, request, TELL_OTHER | TELL_STATION, error, detail);
    destroy(node, request);
}

static struct link_request *request_of(struct qn_node *node, const struct link_request *wanted) {
    struct link_request *request = malloc(sizeof *request);
    if (request == NULL) return NULL;
    *request = *wanted;
    request->node = node;
    list_init(&request->pairs);
    list_append(&node->link_requests, &request->link);
    return request;
}

int link_create(struct qn_node *node, uint16_t index, const struct link_request *wanted,
                struct link_request **ret_request) {
    const struct qn_topo_link *link = &node->topology->links[index];
    if (wanted->measure && wanted->number > MEASURE_MAX) return -QN_ELIMIT;
    struct link_request *request = request_of(node, wanted);
    if (request == NULL) return -QN_ENOMEM;
    request->link_index = index;
    request->origin = node->self;
    request->other = link->a == node->self ? link->b : link->a;
    request->create_id = ++node->next_create;
    qn_rng_init(&request->axes_rng, qn_rng_u64(&node->choices), "axes", 0);

    Qnet__V1__LinkCreate create = QNET__V1__LINK_CREATE__INIT;
    Qnet__V1__Envelope envelope = QNET__V1__ENVELOPE__INIT;
    create.link = index;
    create.origin = node->self;
    create.create_id = request->create_id;
    create.type = request->measure ? QNET__V1__LINK_TYPE__LINK_TYPE_MEASURE : QNET__V1__LINK_TYPE__LINK_TYPE_KEEP;
    create.number = request->number;
    create.min_fidelity = request->min_fidelity;
    create.circuit = request->circuit_id;
    create.request = request->user_request;
    create.axes_seed = qn_rng_u64(&node->choices);
    create.axes_set = request->axes_set;
    Qnet__V1__QkdPairs qkd = QNET__V1__QKD_PAIRS__INIT;
    qkd.session = request->qkd.session;
    qkd.block = request->qkd.block;
    qkd.train = request->qkd.train;
    if (request->qkd.is_set) create.qkd = &qkd;
    envelope.body_case = QNET__V1__ENVELOPE__BODY_LINK_CREATE;
    envelope.link_create = &create;
    uint16_t station = link_station(node, index);
    int rc = node_send(node, request->other, &envelope);
    if (rc == 0 && station != request->other) rc = node_send(node, station, &envelope);
    if (rc < 0) {
        destroy(node, request);
        return rc;
    }
    *ret_request = request;
    return 0;
}

/* ---- messages ---- */

static void reject(struct qn_node *node, uint16_t to, const Qnet__V1__LinkCreate *m, int error, const char *detail) {
    Qnet__V1__LinkReject reject = QNET__V1__LINK_REJECT__INIT;
    Qnet__V1__Envelope envelope = QNET__V1__ENVELOPE__INIT;
    reject.link = m->link;
    reject.origin = m->origin;
    reject.create_id = m->create_id;
    reject.error = (uint32_t)-error;
    reject.detail = (char *)(uintptr_t)detail;
    envelope.body_case = QNET__V1__ENVELOPE__BODY_LINK_REJECT;
    envelope.link_reject = &reject;
    node_send(node, to, &envelope);
}

static int accept(struct qn_node *node, uint16_t from, const Qnet__V1__LinkCreate *m, const char **ret_detail) {
    *ret_detail = "";
    if (m->min_fidelity > node->links[m->link].plan.fidelity) {
        *ret_detail = "the link's fidelity is lower";
        return -QN_EFIDELITY;
    }
    if (find(node, m->link, m->origin, m->create_id) != NULL) return 0; /* Heard before. */
    struct link_request wanted = {
        .link_index = (uint16_t)m->link,
        .origin = from,
        .other = from,
        .create_id = m->create_id,
        .measure = m->type == QNET__V1__LINK_TYPE__LINK_TYPE_MEASURE,
        .number = m->number,
        .min_fidelity = m->min_fidelity,
        .circuit_id = m->circuit,
        .user_request = m->request,
        .axes_set = m->axes_set,
        .budget = UINT32_MAX,
        .active = true,
    };
    qn_rng_init(&wanted.axes_rng, m->axes_seed, "axes", 1);
    if (wanted.measure && (wanted.number == 0 || wanted.number > MEASURE_MAX)) return -QN_ELIMIT;
    if (wanted.measure && m->qkd != NULL) {
        int rc = bb84_pairs_begin(node, from, m->qkd, m->number, &wanted.qkd);
        *ret_detail = "no keys are being made from these pairs";
        if (rc < 0) return rc;
    }
    struct circuit *circuit = circuit_find(node, m->circuit);
    if (!wanted.measure && circuit == NULL) {
        *ret_detail = "the circuit is not known here";
        return -QN_ENOT_FOUND;
    }
    struct link_request *request = request_of(node, &wanted);
    if (request == NULL) return -QN_ENOMEM;
    if (!wanted.measure) {
        int rc = circuit_accept_link(node, circuit, (uint16_t)m->link, request);
        if (rc < 0) {
            destroy(node, request);
            return rc;
        }
    }
    Qnet__V1__LinkAccept reply = QNET__V1__LINK_ACCEPT__INIT;
    Qnet__V1__Envelope envelope = QNET__V1__ENVELOPE__INIT;
    reply.link = m->link;
    reply.origin = m->origin;
    reply.create_id = m->create_id;
    envelope.body_case = QNET__V1__ENVELOPE__BODY_LINK_ACCEPT;
    envelope.link_accept = &reply;
    node_send(node, from, &envelope);
    link_grant(node, request);
    return 0;
}

void link_on_create(struct qn_node *node, uint16_t from, const Qnet__V1__LinkCreate *m) {
    if (m->link >= node->topology->n_links || !node->links[m->link].planned || m->origin != from ||
        !is_end(node, (uint16_t)m->link, from))
        return;
    if (link_station(node, (uint16_t)m->link) == node->self) station_on_create(node, m);
    if (from == node->self || !is_end(node, (uint16_t)m->link, node->self)) return;
    const char *detail;
    int rc = accept(node, from, m, &detail);
    if (rc < 0) reject(node, from, m, rc, detail);
}

void link_on_accept(struct qn_node *node, uint16_t from, const Qnet__V1__LinkAccept *m) {
    struct link_request *request = find(node, m->link, m->origin, m->create_id);
    if (request == NULL || !is_head(request) || request->other != from || request->active) return;
    request->active = true;
    link_grant(node, request);
}

/* `whom` is told besides. The end that asked always tells the station, whose LinkCreate only it can keep in order: the
 * other end's LinkCancel may have come there first (tests/models/link.pml). */
static void end_request(struct qn_node *node, struct link_request *request, unsigned whom, int error,
                        const char *detail) {
    struct circuit *circuit = request->circuit;
    struct request *user = request->user;
    if (user != NULL) user->direct = NULL;
    tell(node, request, whom, error, detail);
    link_cancel(node, request, error, detail, false);
    if (circuit != NULL)
        circuit_on_link_closed(node, circuit, error, detail);
    else if (user != NULL)
        request_fail(user, error, "link: %s", detail);
}

void link_on_reject(struct qn_node *node, uint16_t from, const Qnet__V1__LinkReject *m) {
    struct link_request *request = find(node, m->link, m->origin, m->create_id);
    if (request == NULL || !is_head(request) || request->other != from) return;
    end_request(node, request, TELL_STATION, -(int)m->error, m->detail);
}

/* From the other end, or from the station, which has lost it. */
void link_on_cancel(struct qn_node *node, uint16_t from, const Qnet__V1__LinkCancel *m) {
    if (m->link >= node->topology->n_links) return;
    uint16_t station = link_station(node, (uint16_t)m->link);
    if (station == node->self && is_end(node, (uint16_t)m->link, from)) station_on_cancel(node, m);
    struct link_request *request = find(node, m->link, m->origin, m->create_id);
    if (request == NULL || (request->other != from && station != from)) return;
    unsigned whom = request->other != from ? TELL_OTHER : is_head(request) ? TELL_STATION : 0;
    end_request(node, request, whom, -(int)m->error, m->detail);
}

static void pair_complete(struct qn_node *node, struct pair *pair) {
    if (!pair->born || !pair->heralded) return;
    node->links[pair->link].pairs++;
    if (pair->circuit != NULL)
        circuit_on_pair(node, pair->circuit, pair);
    else
        pair_free(node, pair, true);
}

static struct pair *pair_for(struct qn_node *node, struct link_request *request, uint64_t sequence) {
    struct pair *pair = pair_find_or_new(node, request->link_index, sequence);
    if (pair == NULL || pair->request != NULL) return pair;
    pair->request = request;
    pair->circuit = request->circuit;
    pair->circuit_id = request->circuit_id;
    pair->user_request = request->user_request;
    pair->takes_memory = !request->prepaid;
    list_append(&request->pairs, &pair->of_request);
    return pair;
}

void link_on_birth(struct qn_node *node, const struct qn_plane_arrival *arrival) {
    struct link_request *request = find(node, arrival->link, arrival->origin, arrival->create_id);
    struct pair *pair = request == NULL || request->measure ? NULL : pair_for(node, request, arrival->sequence);
    if (pair == NULL || pair->born) { /* Too late: nobody wants it any more. */
        node_discard_qubit(node, arrival->qubit);
        return;
    }
    pair->born = true;
    pair->since_ns = arrival->touched_ns;
    pair_bind(node, pair, arrival->qubit);
    pair_complete(node, pair);
}

/* ---- measure directly ---- */

static void report(struct qn_node *node, struct link_request *request, uint64_t first, size_t count) {
    uint8_t packed[MEASURE_WINDOW / 8 + 1] = {0};
    for (size_t i = 0; i < count; i++)
        if (request->bits.data[first + i] != 0) packed[i / 8] |= (uint8_t)(1 << (i % 8));
    Qnet__V1__MeasureReport m = QNET__V1__MEASURE_REPORT__INIT;
    Qnet__V1__Envelope envelope = QNET__V1__ENVELOPE__INIT;
    m.request = request->user_request;
    m.first = first;
    m.count = (uint32_t)count;
    m.axes.data = request->axes.data + first;
    m.axes.len = count;
    m.outcomes.data = packed;
    m.outcomes.len = (count + 7) / 8;
    envelope.body_case = QNET__V1__ENVELOPE__BODY_MEASURE_REPORT;
    envelope.measure_report = &m;
    node_send(node, request->other, &envelope);
}

/* Heralds and outcomes come by different ways, each in order: a pair is done when both are here. */
static void measure_advance(struct qn_node *node, struct link_request *request) {
    uint64_t ready = request->bells.len < request->bits.len ? request->bells.len : request->bits.len;
    if (ready > request->axes.len) ready = request->axes.len;
    uint64_t first = request->done;
    if (ready <= first) return;
    node->links[request->link_index].pairs += ready - first;
    request->done = ready;
    if (!is_head(request) && !request->qkd.is_set) {
        for (uint64_t at = first; at < ready; at += MEASURE_WINDOW)
            report(node, request, at, ready - at > MEASURE_WINDOW ? MEASURE_WINDOW : (size_t)(ready - at));
    }
    for (uint64_t i = first; i < ready && !is_head(request) && request->qkd.is_set; i++)
        bb84_on_far_pair(node, request->origin, &request->qkd, i, request->axes.data[i], request->bits.data[i]);
    bool finished = request->done == request->number;
    struct request *user = request->user;
    if (user != NULL) {
        double goodness = node->links[request->link_index].plan.goodness;
        if (finished) user->direct = NULL;
        for (uint64_t i = first; i < ready; i++) {
            uint8_t axis = request->axes.data[i];
            uint8_t bit = request->bits.data[i] ^ (uint8_t)frame_flips(request->bells.data[i], axis);
            request_on_measured(node, user, i, axis, bit, goodness);
        }
    }
    if (finished)
        link_cancel(node, request, 0, "", false);
    else
        link_grant(node, request);
}

void link_on_clicked(struct qn_node *node, uint16_t from, const Qnet__V1__Clicked *m) {
    struct link_request *request = find(node, m->link, m->origin, m->create_id);
    if (request == NULL || !request->measure || from != link_station(node, request->link_index)) return;
    if (m->count > MEASURE_WINDOW || m->outcomes.len * 8 < m->count || request->bits.len + m->count > request->granted)
        return;
    for (uint32_t i = 0; i < m->count; i++) {
        uint8_t bit = (m->outcomes.data[i / 8] >> (i % 8)) & 1;
        if (qn_buf_append(&request->bits, &bit, 1) < 0) return;
    }
    measure_advance(node, request);
}

void link_on_herald(struct qn_node *node, uint16_t from, const Qnet__V1__LinkHerald *m) {
    if (m->link >= node->topology->n_links || from != link_station(node, (uint16_t)m->link)) return;
    struct link_request *request = find(node, m->link, m->origin, m->create_id);
    if (node->self != from) node->links[m->link].attempts += m->attempts;
    if (request == NULL || m->bell.len != m->count || m->first_index != request->heralded ||
        m->count > request->granted - request->heralded)
        return;
    request->heralded += m->count;
    if (request->measure) {
        if (qn_buf_append(&request->bells, m->bell.data, m->bell.len) == 0) measure_advance(node, request);
        return;
    }
    uint32_t create_id = m->create_id, origin = m->origin;
    for (uint32_t i = 0; i < m->count; i++) {
        if (i > 0) request = find(node, m->link, origin, create_id); /* Delivering one may have ended the request. */
        if (request == NULL) return;
        struct pair *pair = pair_for(node, request, m->first_sequence + i);
        if (pair == NULL || pair->heralded) continue;
        pair->heralded = true;
        pair->bell = m->bell.data[i] & 3;
        pair->goodness = m->goodness;
        pair_complete(node, pair);
    }
}

void link_on_expire(struct qn_node *node, uint16_t from, const Qnet__V1__LinkExpire *m) {
    if (m->link >= node->topology->n_links || m->count > 4096) return;
    if (from != link_station(node, (uint16_t)m->link) && !is_end(node, (uint16_t)m->link, from)) return;
    for (uint32_t i = 0; i < m->count; i++) {
        struct pair *pair = pair_find(node, (uint16_t)m->link, m->first_sequence + i);
        if (pair == NULL || pair->request == NULL) continue;
        if (pair->circuit != NULL) circuit_on_pair_lost(node, pair->circuit, pair);
        pair_free(node, pair, true);
        node->n_expired++;
    }
}

void link_mark_peers(const struct qn_node *node, bool *marks) {
    for (const struct list *item = node->link_requests.next; item != &node->link_requests; item = item->next) {
        const struct link_request *request = CONTAINER_OF(item, struct link_request, link);
        marks[request->other] = marks[link_station(node, request->link_index)] = true;
    }
}

void link_free_all(struct qn_node *node) {
    while (!list_is_empty(&node->link_requests))
        request_free(CONTAINER_OF(node->link_requests.next, struct link_request, link));
}

void link_release_all(struct qn_node *node) {
    while (!list_is_empty(&node->link_requests))
        destroy(node, CONTAINER_OF(node->link_requests.next, struct link_request, link));
}

void link_on_peer_gone(struct qn_node *node, uint16_t peer) {
    for (struct list *item = node->link_requests.next, *next; item != &node->link_requests; item = next) {
        next = item->next;
        struct link_request *request = CONTAINER_OF(item, struct link_request, link);
        uint16_t station = link_station(node, request->link_index);
        if (request->other != peer && station != peer) continue;
        /* The dead one, too: our LinkCreate may be on its way to the life after it. */
        unsigned whom = TELL_OTHER | (is_head(request) ? TELL_STATION : 0);
        end_request(node, request, whom, -QN_EPEER_DOWN, node_name(node, peer));
        next = node->link_requests.next; /* Ending one may have ended others. */
    }
}
