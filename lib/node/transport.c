/* SPDX-License-Identifier: Apache-2.0 */
/* Envelopes between nodes. Each pair of incarnations has a channel a plane (wire/channel.h): what is sent arrives in
 * order and exactly once as long as both live, however often sessions break. receive.c has what arrives, fibre.c the
 * way to a neighbour.
 *
 * Classical envelopes wait here for the light time of each link; the quantum plane's do not, as they are the
 * simulator's own. Hosting messages use the quantum session, or the classical one while that is down, and go round
 * what is down altogether (reach.c); photons use only the quantum one; protocol messages only the classical one. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/canary.h"
#include "node/internal.h"

#define NOBODY 1 /* An incarnation that no process has, but by a chance of 2^-63. */

struct neighbour *node_neighbour(const struct qn_node *node, uint16_t id) {
    return id < node->topology->n_nodes ? node->neighbour_of[id] : NULL;
}

bool node_can_reach(const struct qn_node *node, uint16_t id) {
    if (id == node->self) return true;
    const struct neighbour *hop = node_neighbour(node, node->remotes[id].next_hop);
    return hop != NULL && hop->up[QN_CLASSICAL];
}

/* ---- packing ---- */

static size_t put_varint(uint8_t *to, uint64_t value) {
    size_t n = 0;
    for (; value >= 0x80; value >>= 7) to[n++] = (uint8_t)(value | 0x80);
    to[n++] = (uint8_t)value;
    return n;
}

static size_t put_fixed64(uint8_t *to, uint64_t value) {
    for (int i = 0; i < 8; i++) to[i] = (uint8_t)(value >> (8 * i));
    return 8;
}

enum {
    TAG_FROM = 0x08,
    TAG_TO = 0x10,
    TAG_FROM_INC = 0x19,
    TAG_TO_INC = 0x21,
    TAG_SEQ = 0x28,
    TAG_ACK = 0x30,
    TAG_CHANNEL = 0x48
};

/* The routing fields, in front of a packed body: two protobuf messages one after the other are their union. */
static size_t put_header(const struct qn_node *node, uint8_t *to, const struct way *way, uint64_t seq) {
    const struct remote *remote = way->remote;
    size_t n = 0;
    to[n++] = TAG_FROM;
    n += put_varint(to + n, node->self);
    to[n++] = TAG_TO;
    n += put_varint(to + n, remote->id);
    to[n++] = TAG_FROM_INC;
    n += put_fixed64(to + n, node->incarnation);
    if (remote->incarnation != 0) {
        to[n++] = TAG_TO_INC;
        n += put_fixed64(to + n, remote->incarnation);
    }
    if (seq != 0) {
        to[n++] = TAG_SEQ;
        n += put_varint(to + n, seq);
    }
    if (way->channel.received != 0) {
        to[n++] = TAG_ACK;
        n += put_varint(to + n, way->channel.received);
    }
    if (way->plane != QN_CLASSICAL) {
        to[n++] = TAG_CHANNEL;
        n += put_varint(to + n, (uint64_t)way->plane);
    }
    return n;
}
#define HEADER_MAX QN_CHANNEL_HEADROOM
#define KEEP_LEAST 1024 /* Bytes from which it is cheaper to keep a message than to copy it. */

/* ---- channels ---- */

static bool send_hop(struct qn_node *node, uint16_t hop, enum qn_plane_id plane, const uint8_t *bytes, size_t len) {
    return fibre_send(node, hop, plane, &(struct parcel){.bytes = bytes, .len = len});
}

uint64_t transport_resend_after(const struct qn_node *node, const struct way *way) {
    const struct neighbour *hop = node_neighbour(node, way->remote->next_hop);
    uint64_t delay =
        way->plane == QN_CLASSICAL ? way->remote->path_delay_ns + (hop != NULL ? hop->extra_delay_ns : 0) : 0;
    return (node->resend_ns + 4 * delay) << (way->tries > 4 ? 4 : way->tries);
}

uint16_t transport_hop(const struct way *way) {
    return way->plane == QN_QUANTUM ? way->remote->host_hop : way->remote->next_hop;
}

/* An item with its header. One whose bytes are still in somebody's hands, with an earlier header, is copied. */
static int address(struct qn_node *node, const struct way *way, struct qn_channel_item *item,
                   struct parcel *ret_parcel) {
    uint8_t header[HEADER_MAX];
    size_t n = put_header(node, header, way, item->seq);
    if (item->n_users > 1) {
        struct qn_buf *scratch = &node->scratch;
        scratch->len = 0;
        if (qn_buf_append(scratch, header, n) < 0 || qn_buf_append(scratch, item->bytes, item->len) < 0)
            return -QN_ENOMEM;
        *ret_parcel = (struct parcel){.bytes = scratch->data, .len = scratch->len};
        return 0;
    }
    memcpy(item->bytes - n, header, n);
    *ret_parcel = (struct parcel){.bytes = item->bytes - n, .len = n + item->len};
    if (ret_parcel->len >= KEEP_LEAST) ret_parcel->item = item;
    return 0;
}

static void pump(struct qn_node *node, struct way *way) { /* Puts what is unsent on its way, while there is one. */
    if (!fibre_is_up(node, transport_hop(way), way->plane)) return;
    for (struct qn_channel_item *item; (item = qn_channel_next(&way->channel)) != NULL;) {
        struct parcel parcel;
        if (address(node, way, item, &parcel) < 0) break;
        fibre_send(node, transport_hop(way), way->plane, &parcel);
        way->channel.acknowledged = way->channel.received;
        qn_timers_clear(&node->timers, &way->acknowledge);
    }
    if (way->channel.first != NULL && way->resend.slot == 0)
        node_timer(node, &way->resend, node->now_ns + transport_resend_after(node, way));
}

void transport_acknowledge(struct qn_node *node, struct way *way) {
    uint8_t header[HEADER_MAX];
    size_t n = put_header(node, header, way, 0);
    qn_timers_clear(&node->timers, &way->acknowledge);
    if (send_hop(node, transport_hop(way), way->plane, header, n)) way->channel.acknowledged = way->channel.received;
}

static void on_acknowledge_due(void *context, struct qn_timer *timer) {
    struct way *way = CONTAINER_OF(timer, struct way, acknowledge);
    if (qn_channel_owes_ack(&way->channel)) transport_acknowledge(context, way);
}

static void on_resend_due(void *context, struct qn_timer *timer) {
    struct qn_node *node = context;
    struct way *way = CONTAINER_OF(timer, struct way, resend);
    if (way->channel.first == NULL) return;
    way->tries++;
    node->n_resent++;
    if (!QN_CANARY(10)) qn_channel_rewind(&way->channel);
    pump(node, way);
}

/* Whatever the break swallowed goes again. */
void transport_repeat(struct qn_node *node, struct way *way) {
    way->tries = 0;
    qn_channel_rewind(&way->channel);
    qn_timers_clear(&node->timers, &way->resend);
    pump(node, way);
}

struct parts { /* A packed envelope; or the body of one, with its field's tag and length before it. */
    uint8_t tag[2 * 10];
    size_t tag_len;
    const uint8_t *body;
    size_t len;
};

static struct parts parts_of(uint32_t field, const uint8_t *body, size_t len) {
    struct parts parts = {.body = body, .len = len};
    parts.tag_len = put_varint(parts.tag, field << 3 | 2);
    parts.tag_len += put_varint(parts.tag + parts.tag_len, len);
    return parts;
}

static int push(struct qn_node *node, struct way *way, const struct parts *parts) {
    if (way->remote->next_hop == QN_NO_NODE) return -QN_ENO_ROUTE;
    int rc = qn_channel_push_parts(&way->channel, parts->tag, parts->tag_len, parts->body, parts->len);
    if (rc < 0) {
        node->n_dropped++;
        return rc;
    }
    pump(node, way);
    return 0;
}

/* ---- sending ---- */

static int pack(struct qn_node *node, const Qnet__V1__Envelope *envelope, uint8_t **ret_bytes, size_t *ret_len) {
    size_t len = qnet__v1__envelope__get_packed_size(envelope);
    if (len > QN_ENVELOPE_MAX - HEADER_MAX) return -QN_ELIMIT;
    struct qn_buf *buf = &node->packed;
    buf->len = 0;
    int rc = qn_buf_reserve(buf, len);
    if (rc < 0) return rc;
    qnet__v1__envelope__pack(envelope, buf->data);
    *ret_bytes = buf->data;
    *ret_len = len;
    return 0;
}

static int keep_local(struct qn_node *node, const struct parts *parts) {
    struct held *held = malloc(sizeof *held + parts->tag_len + parts->len);
    if (held == NULL) return -QN_ENOMEM;
    *held = (struct held){.bytes = held->own, .len = parts->tag_len + parts->len};
    memcpy(held->own, parts->tag, parts->tag_len);
    memcpy(held->own + parts->tag_len, parts->body, parts->len);
    if (node->local_last != NULL)
        node->local_last->next = held;
    else
        node->local_first = held;
    node->local_last = held;
    return 0;
}

static int send_parts(struct qn_node *node, uint16_t to, enum qn_plane_id plane, const struct parts *parts) {
    return to == node->self ? keep_local(node, parts) : push(node, &node->remotes[to].ways[plane], parts);
}

int node_send(struct qn_node *node, uint16_t to, Qnet__V1__Envelope *envelope) {
    uint8_t *bytes;
    size_t len;
    int rc = pack(node, envelope, &bytes, &len);
    return rc < 0 ? rc : send_parts(node, to, QN_CLASSICAL, &(struct parts){.body = bytes, .len = len});
}

int node_send_packed(struct qn_node *node, uint16_t to, uint32_t field, const uint8_t *bytes, size_t len) {
    struct parts parts = parts_of(field, bytes, len);
    if (parts.tag_len + len > QN_ENVELOPE_MAX - HEADER_MAX) return -QN_ELIMIT;
    return send_parts(node, to, QN_CLASSICAL, &parts);
}

uint8_t *node_send_room(struct qn_node *node, uint16_t to, uint32_t field, size_t len,
                        struct qn_channel_item **ret_item) {
    struct way *way = &node->remotes[to].ways[QN_CLASSICAL];
    struct parts parts = parts_of(field, NULL, len);
    if (to == node->self || way->remote->next_hop == QN_NO_NODE || parts.tag_len + len > QN_ENVELOPE_MAX - HEADER_MAX)
        return NULL;
    struct qn_channel_item *item = qn_channel_room(&way->channel, parts.tag_len + len);
    if (item == NULL) return NULL;
    memcpy(item->bytes, parts.tag, parts.tag_len);
    *ret_item = item;
    return item->bytes + parts.tag_len;
}

void node_send_filled(struct qn_node *node, uint16_t to, struct qn_channel_item *item) {
    struct way *way = &node->remotes[to].ways[QN_CLASSICAL];
    qn_channel_fill(&way->channel, item);
    pump(node, way);
}

int node_send_photon(struct qn_node *node, uint16_t to, Qnet__V1__Photon *photon) {
    Qnet__V1__Envelope envelope = QNET__V1__ENVELOPE__INIT;
    envelope.body_case = QNET__V1__ENVELOPE__BODY_PHOTON;
    envelope.photon = photon;
    envelope.from = node->self;
    envelope.to = to;
    envelope.from_incarnation = node->incarnation;
    envelope.to_incarnation = node->remotes[to].incarnation; /* 0 if not met. */
    uint8_t *bytes;
    size_t len;
    int rc = pack(node, &envelope, &bytes, &len);
    if (rc < 0) return rc;
    if (to == node->self) return keep_local(node, &(struct parts){.body = bytes, .len = len});
    const struct neighbour *neighbour = node_neighbour(node, to);
    if (neighbour == NULL) return -QN_ENO_ROUTE;
    if (!neighbour->up[QN_QUANTUM]) return -QN_EPEER_DOWN;
    node_act(node, (struct qn_action){.type = QN_ACTION_SEND, .plane = QN_QUANTUM, .peer = to}, bytes, len);
    return 0;
}

/* Outside the channels: on this session, or not at all. False: it is not open. */
bool transport_send_now(struct qn_node *node, uint16_t peer, enum qn_plane_id plane, Qnet__V1__Envelope *envelope) {
    const struct neighbour *neighbour = node_neighbour(node, peer);
    uint8_t *bytes;
    size_t len;
    if (neighbour == NULL || !neighbour->open[plane]) return false;
    envelope->from = node->self;
    envelope->to = peer;
    envelope->from_incarnation = node->incarnation;
    envelope->channel = 1;
    if (pack(node, envelope, &bytes, &len) < 0) return false;
    node_act(node, (struct qn_action){.type = QN_ACTION_SEND, .plane = plane, .peer = peer}, bytes, len);
    return true;
}

/* The same to any node, by whatever way there is. */
bool transport_send_away(struct qn_node *node, uint16_t to, Qnet__V1__Envelope *envelope) {
    if (transport_send_now(node, to, QN_QUANTUM, envelope) || transport_send_now(node, to, QN_CLASSICAL, envelope))
        return true;
    uint8_t *bytes;
    size_t len;
    envelope->from = node->self;
    envelope->to = to;
    envelope->from_incarnation = node->incarnation;
    envelope->channel = 1;
    if (pack(node, envelope, &bytes, &len) < 0) return false;
    return send_hop(node, node->remotes[to].host_hop, QN_QUANTUM, bytes, len);
}

int node_send_plane(struct qn_node *node, uint16_t to, Qnet__V1__PlaneMessage *message) {
    Qnet__V1__Envelope envelope = QNET__V1__ENVELOPE__INIT;
    envelope.body_case = QNET__V1__ENVELOPE__BODY_PLANE;
    envelope.plane = message;
    uint8_t *bytes;
    size_t len;
    int rc = pack(node, &envelope, &bytes, &len);
    if (rc < 0) return rc;
    return send_parts(node, to, QN_QUANTUM, &(struct parts){.body = bytes, .len = len});
}

/* Somebody has heard of a life that this node has not met: a message for none of its lives makes it say who it is. */
static void make_contact(struct qn_node *node) {
    bool *marks = calloc(node->topology->n_nodes, sizeof *marks);
    if (marks == NULL) return;
    qn_plane_mark_unmet(node->plane, marks);
    for (size_t i = 0; i < node->topology->n_nodes; i++) {
        if (!marks[i]) continue;
        Qnet__V1__Envelope envelope = QNET__V1__ENVELOPE__INIT;
        envelope.to_incarnation = NOBODY;
        transport_send_away(node, (uint16_t)i, &envelope);
    }
    free(marks);
    node_timer(node, &node->contact, node->now_ns + node->resend_ns);
}

static void on_contact_due(void *context, struct qn_timer *timer) {
    struct qn_node *node = context;
    (void)timer;
    if (qn_plane_mark_unmet(node->plane, NULL)) make_contact(node);
}

void transport_send_plane(struct qn_node *node) {
    struct qn_plane_out out;
    while (qn_plane_next_out(node->plane, &out)) { /* Envelope field 16, without packing the message again. */
        struct parts parts = parts_of(16, out.bytes, out.len);
        push(node, &node->remotes[out.to].ways[QN_QUANTUM], &parts);
    }
    if (node->contact.slot == 0 && qn_plane_mark_unmet(node->plane, NULL)) make_contact(node);
}

/* ---- sessions and lives ---- */

void transport_on_session(struct qn_node *node, enum qn_plane_id plane, uint16_t peer, bool up, uint64_t incarnation) {
    struct neighbour *neighbour = node_neighbour(node, peer);
    if (neighbour == NULL) return;
    bool alive = !up || lives_meet(node, &node->remotes[peer], incarnation);
    neighbour->open[plane] = up;
    neighbour->life[plane] = up ? incarnation : 0;
    neighbour->up[plane] = up && alive;
    if (!alive) { /* It learns why nobody listens to it. */
        node_event(node, LEVEL_WARNING, "refused", node_name(node, peer),
                   "its life %016llx is over for this network; it is told to start anew",
                   (unsigned long long)incarnation);
        lives_tell(node, peer, plane);
        return;
    }
    node_event(node, up ? LEVEL_INFO : LEVEL_WARNING, up ? "session_up" : "session_down", node_name(node, peer), "%s",
               plane == QN_CLASSICAL ? "classical" : "quantum");
    reach_on_session(node, neighbour, plane, up);
    for (size_t i = 0; i < node->topology->n_nodes && up; i++)
        if (node->remotes[i].next_hop == peer) transport_repeat(node, &node->remotes[i].ways[QN_CLASSICAL]);
}

void transport_forget(struct qn_node *node, uint16_t peer) {
    struct remote *remote = &node->remotes[peer];
    remote->incarnation = 0;
    for (int plane = 0; plane < 2; plane++) {
        struct way *way = &remote->ways[plane];
        qn_channel_release(&way->channel);
        qn_timers_clear(&node->timers, &way->resend);
        qn_timers_clear(&node->timers, &way->acknowledge);
        way->tries = 0;
    }
}

/* A new life of this node: nothing is on its way, nobody has been met. */
void transport_start(struct qn_node *node) {
    for (size_t i = 0; i < node->topology->n_nodes; i++) transport_forget(node, (uint16_t)i);
    for (size_t i = 0; i < node->n_neighbours; i++) {
        struct neighbour *neighbour = &node->neighbours[i];
        fibre_free(neighbour->first);
        neighbour->first = neighbour->last = NULL;
        neighbour->held_bytes = 0;
        neighbour->was_up = false;
        qn_timers_clear(&node->timers, &neighbour->timer);
    }
    fibre_free(node->local_first);
    node->local_first = node->local_last = NULL;
    reach_start(node);
}

int transport_init(struct qn_node *node) {
    node->contact.fire = on_contact_due;
    size_t n = node->topology->n_nodes;
    node->remotes = calloc(n, sizeof *node->remotes);
    node->neighbour_of = calloc(n, sizeof(struct neighbour *));
    if (node->remotes == NULL || node->neighbour_of == NULL) return -QN_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        struct remote *remote = &node->remotes[i];
        remote->id = (uint16_t)i;
        for (int plane = 0; plane < 2; plane++)
            remote->ways[plane] = (struct way){.remote = remote,
                                               .plane = (enum qn_plane_id)plane,
                                               .resend.fire = on_resend_due,
                                               .acknowledge.fire = on_acknowledge_due};
        if (i != node->self && qn_topology_is_neighbour(node->topology, node->self, (uint16_t)i)) node->n_neighbours++;
    }
    node->neighbours = calloc(node->n_neighbours + 1, sizeof *node->neighbours);
    if (node->neighbours == NULL) return -QN_ENOMEM;
    size_t next = 0;
    for (size_t i = 0; i < n; i++) {
        if (i == node->self || !qn_topology_is_neighbour(node->topology, node->self, (uint16_t)i)) continue;
        struct neighbour *neighbour = &node->neighbours[next++];
        neighbour->id = (uint16_t)i;
        neighbour->timer.fire = fibre_on_due;
        node->neighbour_of[i] = neighbour;
    }
    return route_hops(node);
}

void transport_check(const struct qn_node *node) {
    for (size_t i = 0; i < node->n_neighbours; i++) {
        const struct neighbour *neighbour = &node->neighbours[i];
        assert(neighbour->held_bytes <= FIBRE_HOLDS && (neighbour->first == NULL) == (neighbour->held_bytes == 0));
    }
    for (size_t i = 0; i < node->topology->n_nodes; i++)
        for (int plane = 0; plane < 2; plane++) qn_channel_check(&node->remotes[i].ways[plane].channel);
}

bool transport_is_idle(const struct qn_node *node) {
    if (node->local_first != NULL) return false;
    for (size_t i = 0; i < node->n_neighbours; i++)
        if (node->neighbours[i].first != NULL) return false;
    for (size_t i = 0; i < node->topology->n_nodes; i++)
        for (int plane = 0; plane < 2; plane++)
            if (node->remotes[i].ways[plane].channel.first != NULL) return false;
    return true;
}

void transport_release(struct qn_node *node) {
    for (size_t i = 0; node->remotes != NULL && i < node->topology->n_nodes; i++)
        for (int plane = 0; plane < 2; plane++) qn_channel_release(&node->remotes[i].ways[plane].channel);
    for (size_t i = 0; node->remotes != NULL && i < node->topology->n_nodes; i++) reach_forget(&node->remotes[i]);
    for (size_t i = 0; node->neighbours != NULL && i < node->n_neighbours; i++) fibre_free(node->neighbours[i].first);
    fibre_free(node->local_first);
    route_release(node);
    free(node->remotes);
    free(node->neighbours);
    free(node->neighbour_of);
    qn_buf_release(&node->scratch);
    qn_buf_release(&node->packed);
}
