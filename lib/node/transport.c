/* SPDX-License-Identifier: Apache-2.0 */
/* Envelopes between nodes. Each pair of incarnations has a channel a plane (wire/channel.h): what is sent arrives in
 * order and exactly once as long as both live, however often sessions break. Neighbours relay for others and keep no
 * state. fibre.c has the way to a neighbour.
 *
 * Classical envelopes wait here for the light time of each link; the quantum plane's do not, as they are the
 * simulator's own. Hosting messages use the quantum session, or the classical one while that is down, and go round
 * what is down altogether (reach.c); photons use only the quantum one; protocol messages only the classical one. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/canary.h"
#include "node/internal.h"
#include "node/keys.h"

#define MAX_HOPS 64
#define ACK_EVERY 64
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

static uint64_t resend_after(const struct qn_node *node, const struct way *way) {
    const struct neighbour *hop = node_neighbour(node, way->remote->next_hop);
    uint64_t delay =
        way->plane == QN_CLASSICAL ? way->remote->path_delay_ns + (hop != NULL ? hop->extra_delay_ns : 0) : 0;
    return (node->resend_ns + 4 * delay) << (way->tries > 4 ? 4 : way->tries);
}

static uint16_t hop_of(const struct way *way) {
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
    if (!fibre_is_up(node, hop_of(way), way->plane)) return;
    for (struct qn_channel_item *item; (item = qn_channel_next(&way->channel)) != NULL;) {
        struct parcel parcel;
        if (address(node, way, item, &parcel) < 0) break;
        fibre_send(node, hop_of(way), way->plane, &parcel);
        way->channel.acknowledged = way->channel.received;
        qn_timers_clear(&node->timers, &way->acknowledge);
    }
    if (way->channel.first != NULL && way->resend.slot == 0)
        node_timer(node, &way->resend, node->now_ns + resend_after(node, way));
}

static void acknowledge(struct qn_node *node, struct way *way) {
    uint8_t header[HEADER_MAX];
    size_t n = put_header(node, header, way, 0);
    qn_timers_clear(&node->timers, &way->acknowledge);
    if (send_hop(node, hop_of(way), way->plane, header, n)) way->channel.acknowledged = way->channel.received;
}

static void on_acknowledge_due(void *context, struct qn_timer *timer) {
    struct way *way = CONTAINER_OF(timer, struct way, acknowledge);
    if (qn_channel_owes_ack(&way->channel)) acknowledge(context, way);
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

/* ---- receiving ---- */

static int violation(struct qn_node *node, const char *what) {
    node->violation = what;
    return -QN_EPROTOCOL;
}

static int deliver_photon(struct qn_node *node, uint16_t from, const Qnet__V1__Photon *photon) {
    switch (photon->body_case) {
    case QNET__V1__PHOTON__BODY_ATTEMPT:
        station_on_attempt(node, from, photon->attempt);
        return 0;
    case QNET__V1__PHOTON__BODY_TRAIN:
        bb84_on_train(node, from, photon->train);
        return 0;
    default:
        return violation(node, "a photon of an unknown kind");
    }
}

static int deliver_plane(struct qn_node *node, uint16_t from, const Qnet__V1__PlaneMessage *message) {
    if (message->body_case == QNET__V1__PLANE_MESSAGE__BODY_CLICKED) {
        link_on_clicked(node, from, message->clicked);
        return 0;
    }
    int rc = qn_plane_on_message(node->plane, from, message);
    return rc == -QN_EPROTOCOL ? violation(node, "a hosting message that contradicts itself or the rules") : rc;
}

/* `bytes`: what it was unpacked from. */
static int deliver(struct qn_node *node, uint16_t from, const Qnet__V1__Envelope *e, const uint8_t *bytes, size_t len) {
    ProtobufCBinaryData packed;
    switch (e->body_case) {
    case QNET__V1__ENVELOPE__BODY_PLANE:
        return deliver_plane(node, from, e->plane);
    case QNET__V1__ENVELOPE__BODY_PHOTON:
        return deliver_photon(node, from, e->photon);
    case QNET__V1__ENVELOPE__BODY_LINK_CREATE:
        link_on_create(node, from, e->link_create);
        break;
    case QNET__V1__ENVELOPE__BODY_LINK_ACCEPT:
        link_on_accept(node, from, e->link_accept);
        break;
    case QNET__V1__ENVELOPE__BODY_LINK_REJECT:
        link_on_reject(node, from, e->link_reject);
        break;
    case QNET__V1__ENVELOPE__BODY_LINK_HERALD:
        link_on_herald(node, from, e->link_herald);
        break;
    case QNET__V1__ENVELOPE__BODY_LINK_CANCEL:
        link_on_cancel(node, from, e->link_cancel);
        break;
    case QNET__V1__ENVELOPE__BODY_LINK_EXPIRE:
        link_on_expire(node, from, e->link_expire);
        break;
    case QNET__V1__ENVELOPE__BODY_CIRCUIT_SETUP:
        circuit_on_setup(node, from, e->circuit_setup);
        break;
    case QNET__V1__ENVELOPE__BODY_CIRCUIT_READY:
        circuit_on_ready(node, from, e->circuit_ready);
        break;
    case QNET__V1__ENVELOPE__BODY_CIRCUIT_REFUSE:
        circuit_on_refuse(node, from, e->circuit_refuse);
        break;
    case QNET__V1__ENVELOPE__BODY_CIRCUIT_TEAR:
        circuit_on_tear(node, from, e->circuit_tear);
        break;
    case QNET__V1__ENVELOPE__BODY_CIRCUIT_TRACK:
        circuit_on_track(node, from, e->circuit_track);
        break;
    case QNET__V1__ENVELOPE__BODY_CIRCUIT_EXPIRE:
        circuit_on_expire(node, from, e->circuit_expire);
        break;
    case QNET__V1__ENVELOPE__BODY_TELEPORT_OFFER:
        teleport_on_offer(node, from, e->teleport_offer);
        break;
    case QNET__V1__ENVELOPE__BODY_TELEPORT_CORRECTION:
        teleport_on_correction(node, from, e->teleport_correction);
        break;
    case QNET__V1__ENVELOPE__BODY_TELEPORT_REPORT:
        teleport_on_report(node, from, e->teleport_report);
        break;
    case QNET__V1__ENVELOPE__BODY_MEASURE_REPORT:
        request_on_report(node, e->measure_report);
        break;
    case QNET__V1__ENVELOPE__BODY_KEY:
        keys_on_message(node, from, e->key);
        break;
    case QNET__V1__ENVELOPE__BODY_BB84:
        bb84_on_old_message(node, from, e->bb84);
        break;
    case QNET__V1__ENVELOPE__BODY_QKD:
        packed = qn_wire_only(bytes, len, QNET__V1__ENVELOPE__BODY_QKD);
        bb84_on_message(node, from, e->qkd, &packed);
        break;
    default:
        return violation(node, "a message of an unknown kind");
    }
    return 0;
}

/* As it is, or, if this node attacks, as it has become. */
static int pass_on(struct qn_node *node, uint16_t before, uint16_t after, Qnet__V1__Envelope *envelope,
                   const uint8_t *bytes, size_t len) {
    struct qn_buf *scratch = &node->scratch;
    scratch->len = 0;
    if (bb84_tamper_relayed(node, before, after, envelope)) {
        envelope->hops++;
        size_t packed = qnet__v1__envelope__get_packed_size(envelope);
        if (qn_buf_reserve(scratch, packed) < 0) return -QN_ENOMEM;
        scratch->len = qnet__v1__envelope__pack(envelope, scratch->data);
        return 0;
    }
    uint8_t hops[2] = {0x40, (uint8_t)(envelope->hops + 1)}; /* Field 8 again: the later value counts. */
    int rc = qn_buf_append(scratch, bytes, len);
    return rc < 0 ? rc : qn_buf_append(scratch, hops, sizeof hops);
}

static int relay(struct qn_node *node, uint16_t before, Qnet__V1__Envelope *envelope, const uint8_t *bytes,
                 size_t len) {
    if (envelope->to >= node->topology->n_nodes) return violation(node, "an envelope to no node of the topology");
    if (envelope->hops >= MAX_HOPS) return violation(node, "an envelope that has gone in circles");
    enum qn_plane_id plane = envelope->channel == 0 ? QN_CLASSICAL : QN_QUANTUM;
    uint16_t hop = hop_of(&node->remotes[envelope->to].ways[plane]);
    if (pass_on(node, before, hop, envelope, bytes, len) < 0) return 0;
    const struct qn_buf *scratch = &node->scratch;
    if (scratch->len > QN_ENVELOPE_MAX || !send_hop(node, hop, plane, scratch->data, scratch->len))
        node->n_dropped++;
    else
        node->n_relayed++;
    return 0;
}

static bool is_substrate(Qnet__V1__Envelope__BodyCase body) { /* On channel 1. */
    return body == QNET__V1__ENVELOPE__BODY_PLANE || body == QNET__V1__ENVELOPE__BODY_DOWNS ||
           body == QNET__V1__ENVELOPE__BODY_REACH;
}

/* In the name of a neighbour, but of another life than the one we have a session with. */
static bool is_impostor(const struct qn_node *node, const Qnet__V1__Envelope *e) {
    const struct neighbour *neighbour = node_neighbour(node, (uint16_t)e->from);
    bool is_open = false;
    for (int plane = 0; neighbour != NULL && plane < 2; plane++) {
        if (neighbour->open[plane] && neighbour->life[plane] == e->from_incarnation) return false;
        is_open = is_open || neighbour->open[plane];
    }
    return is_open;
}

int transport_on_envelope(struct qn_node *node, enum qn_plane_id session, uint16_t peer, const uint8_t *bytes,
                          size_t len) {
    Qnet__V1__Envelope *e = qn_wire_unpack(&qnet__v1__envelope__descriptor, &node->arena, bytes, len);
    if (e == NULL) return violation(node, "an envelope that is malformed, or too large when unpacked");
    if (e->from >= node->topology->n_nodes) return violation(node, "an envelope from no node of the topology");
    if (e->from == node->self) return violation(node, "an envelope in this node's own name");
    if (e->channel > 1) return violation(node, "an envelope on an unknown channel");
    bool photon = e->body_case == QNET__V1__ENVELOPE__BODY_PHOTON;
    if (photon && (session != QN_QUANTUM || e->from != peer || e->to != node->self))
        return violation(node, "a photon that did not come from the neighbour itself, by its fibre");
    if (!photon && e->channel == 0 && session != QN_CLASSICAL)
        return violation(node, "a classical envelope on the quantum plane");
    if (!photon && e->body_case != QNET__V1__ENVELOPE__BODY__NOT_SET && (e->channel == 1) != is_substrate(e->body_case))
        return violation(node, "a message on the other plane's channel");
    if (e->to != node->self) return relay(node, peer, e, bytes, len);

    struct remote *remote = &node->remotes[e->from];
    if (e->from_incarnation == 0) return 0;
    if (is_impostor(node, e)) { /* Relayed, it may also be early: its session comes, and the channel sends it again. */
        if (e->from == peer) return violation(node, "an envelope of another life than its session's");
        node->n_dropped++;
        return 0;
    }
    bool dead = !lives_meet(node, remote, e->from_incarnation);
    if (e->body_case == QNET__V1__ENVELOPE__BODY_DOWNS) {
        lives_on_message(node, remote->id, dead, e->downs);
        return 0;
    }
    if (dead) { /* A message from the dead. */
        lives_tell_fenced(node, remote, e->from_incarnation);
        return 0;
    }
    if (e->body_case == QNET__V1__ENVELOPE__BODY_REACH) {
        if (remote->id == peer) reach_on_message(node, peer, e->reach);
        return 0;
    }
    if (e->to_incarnation != 0 &&
        e->to_incarnation != node->incarnation) { /* For who we were before: tell who we are now. */
        if (!photon) acknowledge(node, &remote->ways[e->channel]);
        return 0;
    }
    if (photon) return deliver_photon(node, remote->id, e->photon);

    struct way *way = &remote->ways[e->channel];
    qn_channel_on_ack(&way->channel, e->ack);
    if (way->channel.first == NULL) {
        way->tries = 0;
        qn_timers_clear(&node->timers, &way->resend);
    } else if (e->ack != 0) {
        node_timer(node, &way->resend, node->now_ns + resend_after(node, way));
    }
    if (way->plane == QN_CLASSICAL && e->ack != 0) bb84_on_room(node, remote->id);
    if (e->seq == 0) return 0;
    int rc = 0;
    bool fresh = qn_channel_on_seq(&way->channel, e->seq);
    if (fresh && e->body_case != QNET__V1__ENVELOPE__BODY__NOT_SET) rc = deliver(node, remote->id, e, bytes, len);
    if (!fresh || way->channel.received - way->channel.acknowledged >= ACK_EVERY)
        acknowledge(node, way);
    else if (qn_channel_owes_ack(&way->channel) && way->acknowledge.slot == 0)
        node_timer(node, &way->acknowledge, node->now_ns + node->resend_ns / 4);
    return rc;
}

void transport_deliver_local(struct qn_node *node) {
    while (node->local_first != NULL) {
        struct held *held = node->local_first;
        node->local_first = held->next;
        if (node->local_first == NULL) node->local_last = NULL;
        Qnet__V1__Envelope *e = qn_wire_unpack(&qnet__v1__envelope__descriptor, &node->arena, held->bytes, held->len);
        if (e != NULL) deliver(node, node->self, e, held->bytes, held->len);
        free(held);
    }
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
