/* SPDX-License-Identifier: Apache-2.0 */
/* The station of an entanglement link: where photons meet or pairs come from, and who heralds. It is a detector or a
 * source between the ends, or the end `b` itself.
 *
 * Attempts that fail leave nothing behind, so they are not simulated one by one: the number of attempts to the next
 * success is geometric, one draw and one timer (physics.md A.4, burst mode). A draw is thrown away whenever something
 * ends the waiting (credit used up, a cut); that is exact, as geometric waiting has no memory. */
#include <stdlib.h>
#include <string.h>

#include "node/internal.h"

#define BATCH 256
#define AXES_AHEAD 16384
#define REQUESTS_MAX 1024

struct station_request {
    struct list link;
    uint16_t origin;
    uint32_t create_id;
    bool created, measure; /* created: LinkCreate has come. */
    bool secret;           /* Measured for a key. */
    uint32_t number;
    uint64_t credit[2]; /* Of a and b. */
    uint64_t issued;
    struct qn_buf axes[2]; /* Measure directly: from pair `issued` on. */
};

struct station {
    uint16_t index;
    struct list requests; /* The first that can be served is; then it goes last. */
    struct qn_timer timer;
    uint64_t click_ns; /* Time of the success being waited for. */
    uint64_t attempts; /* That it takes. */
    uint64_t next_sequence;
    uint32_t created[2]; /* create_id of the last LinkCreate of a and of b. */
    uint64_t rest_ns;    /* From a success until its heralds have arrived: the attempt's cycle ends then. */
};

static bool is_reachable(const struct qn_node *node, uint16_t id) {
    const struct neighbour *neighbour = node_neighbour(node, id);
    return id == node->self || (neighbour != NULL && neighbour->up[QN_QUANTUM]);
}

static uint64_t servable(const struct station_request *request) {
    if (!request->created) return 0;
    uint64_t limit = request->credit[0] < request->credit[1] ? request->credit[0] : request->credit[1];
    if (request->number != 0 && limit > request->number) limit = request->number;
    if (request->measure) {
        for (int end = 0; end < 2; end++)
            if (limit > request->issued + request->axes[end].len) limit = request->issued + request->axes[end].len;
    }
    return limit > request->issued ? limit - request->issued : 0;
}

static struct station_request *choose(const struct station *station) {
    for (struct list *item = station->requests.next; item != &station->requests; item = item->next) {
        struct station_request *request = CONTAINER_OF(item, struct station_request, link);
        if (servable(request) > 0) return request;
    }
    return NULL;
}

static void draw(struct qn_node *node, struct station *station, uint64_t from_ns) {
    const struct qn_link_plan *plan = &node->links[station->index].plan;
    station->attempts = qn_rng_geometric(&node->physics, plan->probability);
    uint64_t wait =
        station->attempts > (UINT64_MAX >> 2) / plan->cycle_ns ? UINT64_MAX >> 2 : station->attempts * plan->cycle_ns;
    station->click_ns = from_ns + wait - station->rest_ns;
    if (station->click_ns < from_ns) station->click_ns = from_ns;
}

static void arm(struct qn_node *node, struct station *station) {
    const struct qn_topo_link *link = &node->topology->links[station->index];
    bool works = is_reachable(node, link->a) && is_reachable(node, link->b) && choose(station) != NULL &&
                 node->links[station->index].plan.probability > 0;
    if (!works) {
        qn_timers_clear(&node->timers, &station->timer);
        return;
    }
    if (station->timer.slot != 0) return;
    draw(node, station, node->now_ns);
    node_timer(node, &station->timer, station->click_ns);
}

static void drop(struct station_request *request) {
    list_remove(&request->link);
    qn_buf_release(&request->axes[0]);
    qn_buf_release(&request->axes[1]);
    free(request);
}

/* ---- success ---- */

struct batch { /* Successes told together. */
    struct station_request *request;
    uint64_t first_sequence, first_index, attempts;
    uint32_t count;
    uint8_t bell[BATCH], bits[2][BATCH / 8];
};

static void send_herald(struct qn_node *node, struct station *station, const struct batch *batch) {
    const struct qn_topo_link *link = &node->topology->links[station->index];
    Qnet__V1__LinkHerald herald = QNET__V1__LINK_HERALD__INIT;
    Qnet__V1__Envelope envelope = QNET__V1__ENVELOPE__INIT;
    herald.link = station->index;
    herald.origin = batch->request->origin;
    herald.create_id = batch->request->create_id;
    herald.first_sequence = batch->first_sequence;
    herald.first_index = batch->first_index;
    herald.count = batch->count;
    herald.bell.data = (uint8_t *)(uintptr_t)batch->bell;
    herald.bell.len = batch->count;
    herald.goodness = node->links[station->index].plan.goodness;
    herald.attempts = batch->attempts;
    envelope.body_case = QNET__V1__ENVELOPE__BODY_LINK_HERALD;
    envelope.link_herald = &herald;
    node_send(node, link->a, &envelope);
    node_send(node, link->b, &envelope);
}

static void send_clicked(struct qn_node *node, struct station *station, const struct batch *batch) {
    const struct qn_topo_link *link = &node->topology->links[station->index];
    for (int end = 0; end < 2; end++) {
        Qnet__V1__Clicked clicked = QNET__V1__CLICKED__INIT;
        Qnet__V1__PlaneMessage message = QNET__V1__PLANE_MESSAGE__INIT;
        clicked.link = station->index;
        clicked.origin = batch->request->origin;
        clicked.create_id = batch->request->create_id;
        clicked.first_sequence = batch->first_sequence;
        clicked.count = batch->count;
        clicked.outcomes.data = (uint8_t *)(uintptr_t)batch->bits[end];
        clicked.outcomes.len = (batch->count + 7) / 8;
        message.body_case = QNET__V1__PLANE_MESSAGE__BODY_CLICKED;
        message.clicked = &clicked;
        node_send_plane(node, end == 0 ? link->a : link->b, &message);
    }
}

static uint8_t draw_bell(struct qn_node *node, const struct qn_link_plan *plan) {
    double u = qn_rng_double(&node->physics);
    uint8_t bell = 0;
    while (bell < 3 && u >= plan->bell_weight[bell]) u -= plan->bell_weight[bell++];
    return bell;
}

/* Both halves measured on emission: outcomes from the joint distribution, as both axes are fixed before. */
static void measure_both(struct qn_node *node, struct station *station, struct batch *batch, uint8_t bell) {
    const struct qn_topo_link *link = &node->topology->links[station->index];
    const double *t = node->links[station->index].plan.tensor[bell];
    const double *na = node_axes[batch->request->axes[0].data[batch->count]],
                 *nb = node_axes[batch->request->axes[1].data[batch->count]];
    double a = 0, b = 0, ab = 0;
    for (int i = 0; i < 3; i++) {
        a += na[i] * t[4 * (i + 1)];
        b += nb[i] * t[i + 1];
        for (int j = 0; j < 3; j++) ab += na[i] * t[4 * (i + 1) + j + 1] * nb[j];
    }
    /* Of a key even who knows the file's seed must not know the outcomes. */
    double chance =
        batch->request->secret ? (double)(qn_csprng_u64(&node->secret) >> 11) * 0x1p-53 : qn_rng_double(&node->physics);
    double u = chance * 4;
    int bits[2] = {0, 0};
    if (u < 1 + a + b + ab)
        bits[0] = 0;
    else if (u < 2 + 2 * a)
        bits[1] = 1;
    else if (u < 3 + a + b - ab)
        bits[0] = 1;
    else
        bits[0] = bits[1] = 1;
    const uint16_t ends[2] = {link->a, link->b};
    for (int end = 0; end < 2; end++) {
        double flip = node->topology->nodes[ends[end]].readout_error;
        if (flip > 0 && qn_rng_double(&node->physics) < flip) bits[end] ^= 1;
        if (bits[end] != 0) batch->bits[end][batch->count / 8] |= (uint8_t)(1 << (batch->count % 8));
    }
}

static bool make_pair(struct qn_node *node, struct station *station, const struct station_request *request,
                      uint64_t sequence, uint8_t bell) {
    const struct qn_topo_link *link = &node->topology->links[station->index];
    const struct qn_link_plan *plan = &node->links[station->index].plan;
    struct qn_state *state;
    if (qn_state_new_pair(plan->tensor[bell], &state) < 0) return false;
    const uint16_t ends[2] = {link->a, link->b};
    const uint64_t flight[2] = {plan->photon_a_ns, plan->photon_b_ns};
    struct qn_birth births[2];
    for (int i = 0; i < 2; i++) {
        const struct qn_topo_node *end = &node->topology->nodes[ends[i]];
        births[i] =
            (struct qn_birth){ends[i], node->now_ns > flight[i] ? node->now_ns - flight[i] : 0, {end->t1_s, end->t2_s}};
    }
    double will[2][3];
    for (size_t i = 0; i < 2; i++) qn_state_bloch(state, i, will[i]);
    qn_qubit qubits[2];
    uint64_t group;
    if (qn_plane_create(node->plane, births, 2, state, qubits, &group) < 0) {
        qn_state_free(state);
        return false;
    }
    for (int i = 0; i < 2; i++)
        qn_plane_announce(node->plane, qubits[i], ends[i], group, births[i].touched_ns, will[i], station->index,
                          request->origin, request->create_id, sequence);
    return true;
}

static void flush(struct qn_node *node, struct station *station, struct batch *batch) {
    if (batch->count == 0) return;
    if (batch->request->measure) {
        for (int end = 0; end < 2; end++) qn_buf_consume(&batch->request->axes[end], batch->count);
        send_clicked(node, station, batch);
    }
    node_flush_plane(node); /* Born before the herald, where both go to ourselves. */
    send_herald(node, station, batch);
    *batch = (struct batch){0};
}

/* Pairs measured directly are done with when the last is out: the ends say no more about them. */
static void drop_finished(struct station *station) {
    for (struct list *item = station->requests.next, *next; item != &station->requests; item = next) {
        next = item->next;
        struct station_request *request = CONTAINER_OF(item, struct station_request, link);
        if (request->created && request->measure && request->issued >= request->number) drop(request);
    }
}

static void on_success(void *context, struct qn_timer *timer) {
    struct qn_node *node = context;
    struct station *station = CONTAINER_OF(timer, struct station, timer);
    const struct qn_link_plan *plan = &node->links[station->index].plan;
    struct batch batch = {0};
    for (unsigned done = 0; done < 4 * BATCH && station->click_ns <= node->now_ns; done++) {
        struct station_request *request = choose(station);
        if (request == NULL) break;
        if (batch.request != request || batch.count == BATCH) flush(node, station, &batch);
        uint8_t bell = draw_bell(node, plan);
        if (batch.count == 0) {
            batch.request = request;
            batch.first_sequence = station->next_sequence;
            batch.first_index = request->issued;
        }
        if (request->measure)
            measure_both(node, station, &batch, bell);
        else if (!make_pair(node, station, request, station->next_sequence, bell))
            break;
        batch.bell[batch.count++] = bell;
        batch.attempts += station->attempts;
        node->links[station->index].attempts += station->attempts;
        station->next_sequence++;
        request->issued++;
        if (batch.request->measure && servable(request) <= batch.count) flush(node, station, &batch);
        draw(node, station, station->click_ns + station->rest_ns);
        if (!request->measure) { /* Others' turn. Direct measurement keeps its batch. */
            list_remove(&request->link);
            list_append(&station->requests, &request->link);
        }
    }
    flush(node, station, &batch);
    drop_finished(station);
    if (choose(station) != NULL) node_timer(node, &station->timer, station->click_ns);
}

/* ---- requests ---- */

/* Credit that is ahead of its LinkCreate, or whose LinkCreate went to an earlier life of ours, is not counted: it is
 * replaced when there is too much of it. */
size_t station_n_requests(const struct qn_node *node) {
    size_t n = 0;
    for (size_t i = 0; i < node->topology->n_links; i++) {
        const struct station *station = node->links[i].station;
        if (station == NULL) continue;
        for (const struct list *item = station->requests.next; item != &station->requests; item = item->next)
            if (CONTAINER_OF(item, const struct station_request, link)->created) n++;
    }
    return n;
}

static struct station *of_link(const struct qn_node *node, uint32_t link) {
    return link < node->topology->n_links ? node->links[link].station : NULL;
}

/* Over, or of a life that is. LinkCreates of one life come in order, so what is lower than the last and not here is
 * over. */
static bool is_over(const struct qn_node *node, const struct station *station, uint16_t origin, uint32_t create_id) {
    uint32_t last = station->created[origin == node->topology->links[station->index].a ? 0 : 1];
    return (last >> 17 == create_id >> 17 && create_id <= last) || lives_is_over_for(node, origin, create_id >> 17);
}

static struct station_request *find_or_new(const struct qn_node *node, struct station *station, uint16_t origin,
                                           uint32_t create_id) {
    size_t n = 0;
    for (struct list *item = station->requests.next; item != &station->requests; item = item->next, n++) {
        struct station_request *request = CONTAINER_OF(item, struct station_request, link);
        if (request->origin == origin && request->create_id == create_id) return request;
    }
    if (is_over(node, station, origin, create_id)) return NULL;
    /* Others come before their LinkCreate: those are the ones to give up when there are too many. */
    for (struct list *item = station->requests.next, *next; n >= REQUESTS_MAX && item != &station->requests;
         item = next) {
        next = item->next;
        struct station_request *stale = CONTAINER_OF(item, struct station_request, link);
        if (stale->created) continue;
        drop(stale);
        n--;
    }
    struct station_request *request = n >= REQUESTS_MAX ? NULL : calloc(1, sizeof *request);
    if (request == NULL) return NULL;
    request->origin = origin;
    request->create_id = create_id;
    list_append(&station->requests, &request->link);
    return request;
}

void station_on_create(struct qn_node *node, const Qnet__V1__LinkCreate *m) {
    struct station *station = of_link(node, m->link);
    if (station == NULL) return;
    int end = m->origin == node->topology->links[m->link].a ? 0 : 1;
    struct station_request *request = find_or_new(node, station, (uint16_t)m->origin, m->create_id);
    station->created[end] = m->create_id;
    if (request == NULL) return;
    request->created = true;
    request->measure = m->type == QNET__V1__LINK_TYPE__LINK_TYPE_MEASURE;
    request->secret = m->qkd != NULL;
    request->number = m->number;
    arm(node, station);
}

void station_on_attempt(struct qn_node *node, uint16_t from, const Qnet__V1__LinkAttempt *m) {
    struct station *station = of_link(node, m->link);
    if (station == NULL) return;
    const struct qn_topo_link *link = &node->topology->links[m->link];
    if ((from != link->a && from != link->b) || (m->origin != link->a && m->origin != link->b)) return;
    struct station_request *request = find_or_new(node, station, (uint16_t)m->origin, m->create_id);
    if (request == NULL) return;
    int end = from == link->a ? 0 : 1;
    if (m->type == QNET__V1__LINK_TYPE__LINK_TYPE_MEASURE) { /* Keep only axes not yet known. */
        uint64_t known = request->issued + request->axes[end].len, to = m->axes_from + m->axes.len;
        if (m->axes_from > known || to < m->axes_from || request->axes[end].len > AXES_AHEAD) return;
        for (size_t i = 0; i < m->axes.len; i++)
            if (m->axes.data[i] > 4) return;
        if (to > known && qn_buf_append(&request->axes[end], m->axes.data + (known - m->axes_from), to - known) < 0)
            return;
    }
    if (m->credit > request->credit[end]) request->credit[end] = m->credit;
    arm(node, station);
}

/* If it is ahead of the LinkCreate, so that there is nothing yet: the end that asked always tells us, too, behind it.
 */
void station_on_cancel(struct qn_node *node, const Qnet__V1__LinkCancel *m) {
    struct station *station = of_link(node, m->link);
    if (station == NULL) return;
    for (struct list *item = station->requests.next; item != &station->requests; item = item->next) {
        struct station_request *request = CONTAINER_OF(item, struct station_request, link);
        if (request->origin != m->origin || request->create_id != m->create_id) continue;
        drop(request);
        break;
    }
    arm(node, station);
}

void station_on_session(struct qn_node *node) {
    for (size_t i = 0; i < node->topology->n_links; i++)
        if (node->links[i].station != NULL) arm(node, node->links[i].station);
}

void station_mark_peers(const struct qn_node *node, bool *marks) {
    for (size_t i = 0; i < node->topology->n_links; i++) {
        const struct station *station = node->links[i].station;
        if (station == NULL || list_is_empty(&station->requests)) continue;
        marks[node->topology->links[i].a] = marks[node->topology->links[i].b] = true;
    }
}

void station_on_peer_gone(struct qn_node *node, uint16_t peer) {
    for (size_t i = 0; i < node->topology->n_links; i++) {
        struct station *station = node->links[i].station;
        const struct qn_topo_link *link = &node->topology->links[i];
        if (station == NULL || (link->a != peer && link->b != peer)) continue;
        uint16_t other = link->a == peer ? link->b : link->a;
        for (struct list *item = station->requests.next, *next; item != &station->requests; item = next) {
            next = item->next;
            struct station_request *request = CONTAINER_OF(item, struct station_request, link);
            if (request->origin == peer && !is_over(node, station, peer, request->create_id))
                continue; /* Of its next life, of which the other end has heard before. */
            /* Who was in it with the dead may not know that this life of it ever was. */
            const struct link_name name = {(uint32_t)i, request->origin, request->create_id};
            if (request->created && other != node->self)
                link_send_cancel(node, other, &name, -QN_EPEER_DOWN, node_name(node, peer));
            drop(request);
        }
        arm(node, station);
    }
}

int station_init(struct qn_node *node) {
    for (size_t i = 0; i < node->topology->n_links; i++) {
        struct link_state *state = &node->links[i];
        if (!state->planned || link_station(node, (uint16_t)i) != node->self) continue;
        struct station *station = calloc(1, sizeof *station);
        if (station == NULL) return -QN_ENOMEM;
        station->index = (uint16_t)i;
        station->timer.fire = on_success;
        const struct qn_link_plan *plan = &state->plan;
        station->rest_ns = plan->herald_a_ns > plan->herald_b_ns ? plan->herald_a_ns : plan->herald_b_ns;
        if (station->rest_ns > plan->cycle_ns) station->rest_ns = plan->cycle_ns;
        list_init(&station->requests);
        state->station = station;
    }
    return 0;
}

void station_start(struct qn_node *node) {
    for (size_t i = 0; i < node->topology->n_links; i++) {
        struct station *station = node->links[i].station;
        if (station == NULL) continue;
        while (!list_is_empty(&station->requests))
            drop(CONTAINER_OF(station->requests.next, struct station_request, link));
        qn_timers_clear(&node->timers, &station->timer);
        station->next_sequence = (node->incarnation & 0x7fff) << 32 | 1; /* Unlike those of an earlier life. */
    }
}

void station_release(struct qn_node *node) {
    for (size_t i = 0; node->links != NULL && i < node->topology->n_links; i++) {
        struct station *station = node->links[i].station;
        if (station == NULL) continue;
        while (!list_is_empty(&station->requests))
            drop(CONTAINER_OF(station->requests.next, struct station_request, link));
        free(station);
    }
}
