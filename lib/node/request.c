/* SPDX-License-Identifier: Apache-2.0 */
/* What users ask for and what they are told. Every request has a deadline and ends with exactly one final answer: a
 * summary, or an error that names the cause and what to do. A client that goes away cancels what it asked for. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/canary.h"
#include "node/internal.h"

#define REQUESTS_MAX 256
#define PAIRS_MAX 10000000
#define DEFAULT_TIMEOUT_NS UINT64_C(30000000000)

/* ---- answers ---- */

void node_reply(struct qn_node *node, uint64_t client, uint64_t id, bool more, Qnet__V1__ControlResponse *response) {
    response->id = id;
    response->more = more;
    size_t len = qnet__v1__control_response__get_packed_size(response);
    struct qn_buf *buf = &node->scratch;
    buf->len = 0;
    if (qn_buf_reserve(buf, len) < 0) return;
    qnet__v1__control_response__pack(response, buf->data);
    node_act(node, (struct qn_action){.type = QN_ACTION_REPLY, .client = client}, buf->data, len);
}

static void reply_error(struct qn_node *node, uint64_t client, uint64_t id, int error, const char *text) {
    char message[512];
    snprintf(message, sizeof message, "%s%s%s; %s", qn_err_what(error), text[0] != '\0' ? ": " : "", text,
             qn_err_todo(error));
    Qnet__V1__Error body = QNET__V1__ERROR__INIT;
    Qnet__V1__ControlResponse response = QNET__V1__CONTROL_RESPONSE__INIT;
    body.code = (char *)(uintptr_t)qn_err_name(error);
    body.number = (uint32_t)-error;
    body.message = message;
    response.body_case = QNET__V1__CONTROL_RESPONSE__BODY_ERROR;
    response.error = &body;
    node_reply(node, client, id, false, &response);
}

void node_reply_error(struct qn_node *node, uint64_t client, uint64_t id, int error, const char *format, ...) {
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    reply_error(node, client, id, error, text);
}

int node_name_to_peer(struct qn_node *node, uint64_t client, uint64_t id, const char *name) {
    int peer = qn_topology_find_node(node->topology, name);
    if (peer < 0) {
        const char *near = qn_topology_suggest_node(node->topology, name);
        node_reply_error(node, client, id, -QN_EUNKNOWN_NODE, "\"%.64s\"%s%s%s", name,
                         near != NULL ? "; did you mean \"" : "", near != NULL ? near : "", near != NULL ? "\"?" : "");
        return -QN_EUNKNOWN_NODE;
    }
    if (peer == node->self) {
        node_reply_error(node, client, id, -QN_EINVAL, "\"%s\" is this node itself", name);
        return -QN_EINVAL;
    }
    return peer;
}

/* ---- life ---- */

static void on_deadline(void *context, struct qn_timer *timer) {
    (void)context;
    struct request *request = CONTAINER_OF(timer, struct request, deadline);
    request->on_timeout(request);
}

/* A node that something on the quantum plane waits for and no way leads to; NULL: there is none. */
static const char *lost_host(const struct qn_node *node) {
    size_t n = node->topology->n_nodes, i = 0;
    bool *marks = calloc(n, sizeof *marks);
    if (marks == NULL) return NULL;
    qn_plane_mark_awaited(node->plane, marks);
    while (i < n && !(marks[i] && node->remotes[i].lost)) i++;
    free(marks);
    return i < n ? node_name(node, (uint16_t)i) : NULL;
}

static void timeout_generic(struct request *request) {
    struct qn_node *node = request->node;
    int error = -QN_ETIMEOUT;
    const char *why = "nothing came back", *lost = NULL;
    if (request->circuit != NULL)
        why = circuit_obstacle(node, request->circuit, &error);
    else if (request->direct != NULL && !request->direct->active)
        why = "the other end of the link did not answer";
    else if (request->direct != NULL)
        why = "pairs come too slowly, or the quantum channel is down";
    if (error == -QN_ETIMEOUT && request->delivered >= request->wanted)
        why = "what the other end has to tell of them has not come: the classical channel to it is slow or was down";
    if (error == -QN_ETIMEOUT) lost = lost_host(node);
    if (lost != NULL) error = -QN_EUNREACHABLE;
    int away = error == -QN_ETIMEOUT && request->circuit != NULL ? circuit_lost_node(node, request->circuit) : -1;
    if (lost != NULL)
        request_fail(request, error, "substrate unreachable: %s; %u of %u done when the deadline passed", lost,
                     request->delivered, request->wanted);
    else if (away >= 0)
        request_fail(request, -QN_EPEER_DOWN, "%u of %u done when the deadline passed; %s cannot be reached",
                     request->delivered, request->wanted, node_name(node, (uint16_t)away));
    else
        request_fail(request, error, "%u of %u done when the deadline passed; %s", request->delivered, request->wanted,
                     why);
}

struct request *request_new(struct qn_node *node, uint64_t client, uint64_t id, enum request_kind kind,
                            uint64_t timeout_ns) {
    if (node->stopping || node->request_of.len >= REQUESTS_MAX) {
        node_reply_error(node, client, id, node->stopping ? -QN_ESHUTDOWN : -QN_EBUSY, "%s",
                         node->stopping ? "" : "256 requests are open");
        return NULL;
    }
    struct request *request = calloc(1, sizeof *request);
    if (request == NULL || qn_map_put(&node->request_of, node->next_request, request) < 0) {
        free(request);
        node_reply_error(node, client, id, -QN_ENOMEM, "%s", "");
        return NULL;
    }
    request->node = node;
    request->number = node->next_request++;
    request->client = client;
    request->id = id;
    request->kind = kind;
    request->started_ns = node->now_ns;
    request->timeout_ns = timeout_ns != 0 ? timeout_ns : DEFAULT_TIMEOUT_NS;
    if (request->timeout_ns > UINT64_MAX / 8) request->timeout_ns = UINT64_MAX / 8;
    request->on_timeout = timeout_generic;
    request->deadline.fire = on_deadline;
    list_append(&node->requests, &request->link);
    node_timer(node, &request->deadline, node->now_ns + request->timeout_ns);
    return request;
}

struct request *request_find(const struct qn_node *node, uint64_t number) {
    return qn_map_get(&node->request_of, number);
}

static void let_go(struct request *request, int error) { /* Nothing stays allocated, here or along the path. */
    struct qn_node *node = request->node;
    request->error = error;
    if (request->circuit != NULL) circuit_close(node, request->circuit, error, qn_err_name(error), true);
    if (request->direct != NULL) {
        struct link_request *direct = request->direct;
        request->direct = NULL;
        link_cancel(node, direct, error, qn_err_name(error), true);
    }
    if (request->free_extra != NULL) request->free_extra(request);
    qn_timers_clear(&node->timers, &request->deadline);
    qn_map_release(&request->measure.mine);
    qn_map_release(&request->measure.theirs);
    qn_map_remove(&node->request_of, request->number);
    list_remove(&request->link);
    free(request);
}

void request_finish(struct request *request) { let_go(request, 0); }

void request_fail(struct request *request, int error, const char *format, ...) {
    char text[300];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    node_event(request->node, LEVEL_WARNING, "request_failed", qn_err_name(error), "%s", text);
    reply_error(request->node, request->client, request->id, error, text);
    let_go(request, error);
}

void request_client_gone(struct qn_node *node, uint64_t client) {
    for (struct list *item = node->requests.next, *next; item != &node->requests; item = next) {
        next = item->next;
        struct request *request = CONTAINER_OF(item, struct request, link);
        if (request->client != client) continue;
        if (QN_CANARY(15)) reply_error(node, client, request->id, -QN_ECANCELLED, "");
        let_go(request, -QN_ECANCELLED);
    }
}

void request_cancel(struct qn_node *node, uint64_t client, uint64_t id) {
    for (struct list *item = node->requests.next, *next; item != &node->requests; item = next) {
        next = item->next;
        struct request *request = CONTAINER_OF(item, struct request, link);
        if (request->client == client && request->id == id) request_fail(request, -QN_ECANCELLED, "by its client");
    }
}

void request_check(const struct qn_node *node) {
    size_t n = 0;
    for (const struct list *item = node->requests.next; item != &node->requests; item = item->next, n++) {
        const struct request *request = CONTAINER_OF(item, struct request, link);
        assert(request->deadline.slot != 0); /* It will be answered. */
        assert(request_find(node, request->number) == request);
    }
    assert(n == node->request_of.len && n <= REQUESTS_MAX);
}

void request_mark_peers(const struct qn_node *node, bool *marks) {
    for (const struct list *item = node->requests.next; item != &node->requests; item = item->next) {
        const struct request *request = CONTAINER_OF(item, struct request, link);
        if (request->kind == REQUEST_PAIRS || request->kind == REQUEST_TELEPORT) marks[request->peer] = true;
    }
}

/* What goes through a link or a circuit ends with those. Outcomes that the far end has not told are lost with it. */
void request_on_peer_gone(struct qn_node *node, uint16_t peer) {
    for (struct list *item = node->requests.next, *next; item != &node->requests; item = next) {
        next = item->next;
        struct request *request = CONTAINER_OF(item, struct request, link);
        if (request->kind != REQUEST_PAIRS || request->peer != peer || request->delivered < request->wanted) continue;
        request_fail(request, -QN_EPEER_DOWN, "%s went down before it had told all its outcomes: %u of %u",
                     node_name(node, peer), request->reported, request->wanted);
        next = node->requests.next; /* Failing one may have ended others. */
    }
}

void request_release_all(struct qn_node *node) {
    while (!list_is_empty(&node->requests))
        let_go(CONTAINER_OF(node->requests.next, struct request, link), -QN_ESHUTDOWN);
}

void request_on_circuit_closed(struct qn_node *node, struct request *request, int error, const char *detail) {
    (void)node;
    request->circuit = NULL;
    request_fail(request, error < 0 ? error : -QN_EREJECTED, "%s", detail);
}

/* ---- pairs ---- */

void pair_describe(const struct qn_node *node, const struct pair *pair, Qnet__V1__PairInfo *info) {
    qnet__v1__pair_info__init(info);
    info->qubit = pair->qubit;
    info->peer = (char *)(uintptr_t)(pair->peer == QN_NO_NODE ? "" : node_name(node, pair->peer));
    info->link = (char *)(uintptr_t)link_name(node, pair->link);
    info->sequence = pair->state == PAIR_USABLE ? pair->id : pair->sequence;
    info->circuit = pair->circuit_id;
    bool usable = pair->state == PAIR_USABLE && pair->teleport == 0;
    info->state = (char *)(uintptr_t)(pair->lost ? "lost" : usable ? "usable" : "pending");
    info->fidelity = pair_fidelity_now(node, pair);
    info->age_ns = node->now_ns > pair->since_ns ? node->now_ns - pair->since_ns : 0;
    info->outcome = pair->outcome;
    info->axis = pair->axis;
    info->request = pair->user_request;
}

static void summarise(struct request *request) {
    Qnet__V1__PairSummary summary = QNET__V1__PAIR_SUMMARY__INIT;
    Qnet__V1__ControlResponse response = QNET__V1__CONTROL_RESPONSE__INIT;
    Qnet__V1__AxisSum sums[25], *pointers[25];
    for (uint32_t i = 0; i < 25; i++) {
        if (request->measure.trials[i / 5][i % 5] == 0) continue;
        Qnet__V1__AxisSum *sum = &sums[summary.n_sums];
        qnet__v1__axis_sum__init(sum);
        sum->axis = i / 5;
        sum->peer_axis = i % 5;
        sum->trials = request->measure.trials[i / 5][i % 5];
        sum->sum = request->measure.sums[i / 5][i % 5];
        pointers[summary.n_sums++] = sum;
    }
    summary.sums = pointers;
    summary.delivered = request->delivered;
    summary.expired = request->expired;
    summary.goodness = request->delivered > 0 ? request->goodness_sum / request->delivered : 0;
    summary.predicted = request->predicted;
    summary.elapsed_ns = request->node->now_ns - request->started_ns;
    summary.hops = request->hops;
    response.body_case = QNET__V1__CONTROL_RESPONSE__BODY_PAIR_SUMMARY;
    response.pair_summary = &summary;
    node_reply(request->node, request->client, request->id, false, &response);
    request_finish(request);
}

void request_on_pair(struct qn_node *node, struct request *request, struct pair *pair) {
    if (request->kind == REQUEST_TELEPORT) {
        teleport_on_pair(node, request, pair);
        return;
    }
    request->delivered++;
    request->goodness_sum += pair->goodness;
    pair->user_request = request->tag != 0 ? request->tag : pair->user_request;
    if (!request->quiet) {
        Qnet__V1__PairInfo info;
        Qnet__V1__ControlResponse response = QNET__V1__CONTROL_RESPONSE__INIT;
        pair_describe(node, pair, &info);
        response.body_case = QNET__V1__CONTROL_RESPONSE__BODY_PAIR;
        response.pair = &info;
        node_reply(node, request->client, request->id, true, &response);
    }
    if (request->delivered == request->wanted) summarise(request);
}

static void correlate(struct request *request, uintptr_t mine, uintptr_t theirs) {
    unsigned a = (unsigned)((mine - 1) >> 1), b = (unsigned)((theirs - 1) >> 1);
    if (a > 4 || b > 4) return;
    request->measure.trials[a][b]++;
    request->measure.sums[a][b] += ((mine - 1) & 1) == ((theirs - 1) & 1) ? 1 : -1;
    request->reported++;
}

static void note(struct request *request, struct qn_map *here, struct qn_map *there, bool ours, uint64_t pair,
                 uint8_t axis, uint8_t outcome) {
    uintptr_t value = ((uintptr_t)axis << 1 | (outcome & 1)) + 1;
    void *other = qn_map_remove(there, pair);
    if (other != NULL)
        correlate(request, ours ? value : (uintptr_t)other, ours ? (uintptr_t)other : value);
    else if (here->len < PAIRS_MAX)
        qn_map_put(here, pair, (void *)value);
}

static void finish_if_complete(struct request *request) {
    if (request->delivered >= request->wanted && request->reported >= request->wanted) summarise(request);
}

void request_on_measured(struct qn_node *node, struct request *request, uint64_t pair, uint8_t axis, uint8_t outcome,
                         double goodness) {
    if (request->kind == REQUEST_BB84) {
        bb84_on_pair(node, request, pair, axis, outcome);
        return;
    }
    request->delivered++;
    request->goodness_sum += goodness;
    note(request, &request->measure.mine, &request->measure.theirs, true, pair, axis, outcome);
    finish_if_complete(request);
}

void request_on_report(struct qn_node *node, const Qnet__V1__MeasureReport *m) {
    struct request *request = request_find(node, m->request);
    if (request == NULL || request->kind != REQUEST_PAIRS || !request->measured || m->axes.len != m->count ||
        m->outcomes.len * 8 < m->count)
        return;
    if (m->n_pairs != 0 && m->n_pairs != m->count) return;
    for (uint32_t i = 0; i < m->count; i++) {
        uint8_t outcome = (m->outcomes.data[i / 8] >> (i % 8)) & 1;
        uint64_t pair = m->n_pairs != 0 ? m->pairs[i] : m->first + i;
        note(request, &request->measure.theirs, &request->measure.mine, false, pair, m->axes.data[i], outcome);
    }
    finish_if_complete(request);
}

int request_start_direct(struct qn_node *node, struct request *request, uint16_t link) {
    const struct qn_link_plan *plan = &node->links[link].plan;
    request->hops = 1;
    request->predicted = plan->fidelity;
    if (request->min_fidelity > plan->fidelity) return -QN_EFIDELITY;
    struct link_request wanted = {.measure = true,
                                  .number = request->wanted,
                                  .axes_set = request->axes_set,
                                  .qkd = request->qkd,
                                  .budget = UINT32_MAX,
                                  .min_fidelity = request->min_fidelity,
                                  .user = request,
                                  .user_request = request->number};
    return link_create(node, link, &wanted, &request->direct);
}

void request_start_pairs(struct qn_node *node, uint64_t client, uint64_t id, const Qnet__V1__PairRequest *m) {
    int peer = node_name_to_peer(node, client, id, m->peer);
    if (peer < 0) return;
    if (m->number == 0 || m->number > PAIRS_MAX || !(m->min_fidelity >= 0 && m->min_fidelity <= 1) || m->axes > 4) {
        node_reply_error(node, client, id, -QN_EINVAL, "number is 1 to %d, min_fidelity 0 to 1, axes a known set",
                         PAIRS_MAX);
        return;
    }
    if (!m->measure && m->number > node->hardware->memories) {
        node_reply_error(node, client, id, -QN_EMEMORY_FULL, "%u pairs to keep, but this node has %u memories",
                         m->number, node->hardware->memories);
        return;
    }
    struct route route;
    int rc = route_entanglement(node, (uint16_t)peer, &route);
    if (rc < 0) {
        node_reply_error(node, client, id, rc, "from %s to %s over entanglement links", node_name(node, node->self),
                         m->peer);
        return;
    }
    struct request *request = request_new(node, client, id, REQUEST_PAIRS, m->timeout_ns);
    if (request == NULL) return;
    request->peer = (uint16_t)peer;
    request->wanted = m->number;
    request->min_fidelity = m->min_fidelity;
    request->measured = m->measure;
    request->quiet = m->quiet;
    request->tag = m->tag;
    request->axes_set = m->axes == 0 ? QNET__V1__AXES_SET__AXES_SET_XYZ : m->axes;
    request->cutoff_ns = m->cutoff_ns;
    if (request->cutoff_ns == 0)
        for (size_t i = 1; i < route.n_links; i++) {
            uint64_t cutoff = node->topology->nodes[route.nodes[i]].cutoff_ns;
            if (cutoff != 0 && (request->cutoff_ns == 0 || cutoff < request->cutoff_ns)) request->cutoff_ns = cutoff;
        }
    if (m->measure && route.n_links == 1)
        rc = request_start_direct(node, request, route.links[0]);
    else
        rc = circuit_open(node, (uint16_t)peer, request, &request->circuit);
    if (rc == -QN_EFIDELITY)
        request_fail(request, rc, "%.4f asked for, %.4f is what %u link(s) to %s give", m->min_fidelity, route.fidelity,
                     (unsigned)route.n_links, m->peer);
    else if (rc < 0)
        request_fail(request, rc, "to %s", m->peer);
}
