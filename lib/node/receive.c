/* SPDX-License-Identifier: Apache-2.0 */
/* What arrives from other nodes: whether it is believed, what it says of its channel, and who its body is for. What is
 * for another node is relayed without keeping state. */
#include <stdlib.h>

#include "node/internal.h"
#include "node/keys.h"

#define MAX_HOPS 64
#define ACK_EVERY 64

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
    uint16_t hop = transport_hop(&node->remotes[envelope->to].ways[plane]);
    if (pass_on(node, before, hop, envelope, bytes, len) < 0) return 0;
    const struct qn_buf *scratch = &node->scratch;
    if (scratch->len > QN_ENVELOPE_MAX ||
        !fibre_send(node, hop, plane, &(struct parcel){.bytes = scratch->data, .len = scratch->len}))
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
        if (!photon) transport_acknowledge(node, &remote->ways[e->channel]);
        return 0;
    }
    if (photon) return deliver_photon(node, remote->id, e->photon);

    struct way *way = &remote->ways[e->channel];
    qn_channel_on_ack(&way->channel, e->ack);
    if (way->channel.first == NULL) {
        way->tries = 0;
        qn_timers_clear(&node->timers, &way->resend);
    } else if (e->ack != 0) {
        node_timer(node, &way->resend, node->now_ns + transport_resend_after(node, way));
    }
    if (way->plane == QN_CLASSICAL && e->ack != 0) bb84_on_room(node, remote->id);
    if (e->seq == 0) return 0;
    int rc = 0;
    bool fresh = qn_channel_on_seq(&way->channel, e->seq);
    if (fresh && e->body_case != QNET__V1__ENVELOPE__BODY__NOT_SET) rc = deliver(node, remote->id, e, bytes, len);
    if (!fresh || way->channel.received - way->channel.acknowledged >= ACK_EVERY)
        transport_acknowledge(node, way);
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
