/* SPDX-License-Identifier: Apache-2.0 */
/* Attacks, switched on and off while sessions run. Those on pulses are parameters of the channel (link/attack.h), and
 * act where the photons arrive. Those on the classical channel act where a message arrives, before anything is made of
 * it, as someone would who sits between the ends and has broken the encryption of the links; and at a node that passes
 * it on, from the attacked link or to it, which need not break anything. */
#include <math.h>
#include <string.h>

#include "node/bb84.h"

/* ---- switches ---- */

static const struct {
    const char *name;
    enum classical_attack classical;
} classical_attacks[] = {{"mitm", CLASSICAL_CHANGE}, {"replay", CLASSICAL_REPLAY}};

bool bb84_attack_is_classical(const char *name) {
    for (size_t i = 0; i < sizeof classical_attacks / sizeof classical_attacks[0]; i++)
        if (strcmp(name, classical_attacks[i].name) == 0) return true;
    return false;
}

void bb84_attack_end(struct qn_node *node, uint16_t link) {
    struct link_state *state = &node->links[link];
    state->eve = 0;
    state->attack = (struct qn_attack){0};
    state->classical_attack = CLASSICAL_HONEST;
    state->drift_turn = 0;
}

int bb84_attack(struct qn_node *node, uint16_t link, const Qnet__V1__FaultRequest *m) {
    struct link_state *state = &node->links[link];
    if (strcmp(m->attack, "drift") == 0) {
        if (!(fabs(m->ratio) <= 1)) return -QN_EINVAL;
        bb84_attack_end(node, link);
        state->drift_turn = m->ratio;
        state->drift_since_ns = node->now_ns;
        return 0;
    }
    for (size_t i = 0; i < sizeof classical_attacks / sizeof classical_attacks[0]; i++) {
        if (strcmp(m->attack, classical_attacks[i].name) != 0) continue;
        bb84_attack_end(node, link);
        state->classical_attack = (enum classical_attack)classical_attacks[i].classical;
        return 0;
    }
    int kind = qn_attack_find(m->attack);
    if (kind < 0) return -QN_EINVAL;
    struct qn_attack attack = {.kind = (enum qn_attack_kind)kind,
                               .fraction = m->value,
                               .ratio = m->ratio >= 1 ? m->ratio : 1,
                               .evenly = m->evenly,
                               .boost = m->boost};
    if (!(attack.fraction >= 0 && attack.fraction <= 1 && attack.evenly >= 0 && attack.evenly <= 1 &&
          attack.ratio <= 1e6))
        return -QN_EINVAL;
    bb84_attack_end(node, link);
    state->attack = attack;
    if (attack.kind == QN_ATTACK_INTERCEPT) state->eve = attack.fraction;
    return 0;
}

const char *bb84_attack_name(const struct link_state *link) {
    if (link->drift_turn != 0) return "drift";
    for (size_t i = 0; i < sizeof classical_attacks / sizeof classical_attacks[0]; i++)
        if (link->classical_attack == classical_attacks[i].classical) return classical_attacks[i].name;
    return link->attack.kind == QN_ATTACK_NONE ? "" : qn_attack_name(link->attack.kind);
}

/* ---- the classical channel ---- */

/* Another bit by each node, so that two that change the same message do not undo each other's work. Not in the last
 * byte, some bits of which may mean nothing. */
static void flip(const struct qn_node *node, ProtobufCBinaryData *bytes) {
    if (bytes->len > 1)
        bytes->data[(bytes->len / 2 + node->self / 8) % (bytes->len - 1)] ^= (uint8_t)(1 << node->self % 8);
}

/* Changes what a message says, so that it still makes sense. */
static void change(const struct qn_node *node, Qnet__V1__QkdMessage *message) {
    switch (message->body_case) {
    case QNET__V1__QKD_MESSAGE__BODY_TEST:
        flip(node, &message->test->bits);
        break;
    case QNET__V1__QKD_MESSAGE__BODY_TELL:
        flip(node, &message->tell->answers);
        break;
    case QNET__V1__QKD_MESSAGE__BODY_AMPLIFY:
        flip(node, &message->amplify->seed);
        break;
    default:
        break;
    }
}

/* Keeps the first verdict, and puts it in the place of each later one. */
static void replay(struct qn_node *node, struct qn_buf *kept, Qnet__V1__QkdMessage *message) {
    if (message->body_case != QNET__V1__QKD_MESSAGE__BODY_AMPLIFY) return;
    if (kept->len == 0) {
        size_t len = qnet__v1__qkd_message__get_packed_size(message);
        if (qn_buf_reserve(kept, len) == 0) kept->len = qnet__v1__qkd_message__pack(message, kept->data);
        return;
    }
    Qnet__V1__QkdMessage *old =
        qn_wire_unpack(&qnet__v1__qkd_message__descriptor, &node->request_arena, kept->data, kept->len);
    if (old == NULL) return;
    old->amplify->session = message->amplify->session;
    old->amplify->block = message->amplify->block;
    *message = *old;
}

static void tamper(struct qn_node *node, enum classical_attack attack, struct qn_buf *kept,
                   Qnet__V1__QkdMessage *message) {
    switch (attack) {
    case CLASSICAL_HONEST:
        break;
    case CLASSICAL_CHANGE:
        change(node, message);
        break;
    case CLASSICAL_REPLAY:
        replay(node, kept, message);
        break;
    }
}

bool bb84_tamper(struct session *session, Qnet__V1__QkdMessage *message) {
    struct qn_node *node = session->node;
    enum classical_attack attack = node->links[session->link_index].classical_attack;
    tamper(node, attack, &session->replayed, message);
    return attack != CLASSICAL_HONEST;
}

static bool joins(const struct qn_node *node, uint16_t link, uint16_t neighbour) {
    const struct qn_topo_link *l = &node->topology->links[link];
    return node->links[link].mine && (l->a == neighbour || l->b == neighbour || l->via == neighbour);
}

bool bb84_tamper_relayed(struct qn_node *node, uint16_t before, uint16_t after, const Qnet__V1__Envelope *envelope) {
    enum classical_attack attack = CLASSICAL_HONEST;
    if (envelope->body_case != QNET__V1__ENVELOPE__BODY_QKD) return false;
    for (uint16_t i = 0; i < node->topology->n_links && attack == CLASSICAL_HONEST; i++)
        if (node->links[i].classical_attack != CLASSICAL_HONEST && (joins(node, i, before) || joins(node, i, after)))
            attack = node->links[i].classical_attack;
    if (attack == CLASSICAL_HONEST) return false;
    struct relayed *relayed = &node->bb84->relayed;
    if (relayed->kept.len == 0)
        *relayed = (struct relayed){relayed->kept, (uint16_t)envelope->from, (uint16_t)envelope->to};
    bool theirs = relayed->from == envelope->from && relayed->to == envelope->to;
    if (attack == CLASSICAL_CHANGE || theirs) tamper(node, attack, &relayed->kept, envelope->qkd);
    return true;
}
