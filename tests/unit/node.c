/* SPDX-License-Identifier: Apache-2.0 */
/* One node and everything said to it by hand: what its link layer tells whom when a request ends. Each case is a
 * schedule that tests/models/link.pml found to leave something behind for ever. */
#include <criterion/criterion.h>
#include <sodium.h>
#include <string.h>

#include "base/err.h"
#include "node/node.h"
#include "qnet/v1/control.pb-c.h"
#include "qnet/v1/envelope.pb-c.h"

static const char yaml[] = "version: 1\n"
                           "network: n\n"
                           "nodes:\n"
                           "  alice: {role: memory, memories: 4}\n"
                           "  charlie: {role: detector, efficiency: 95%, dark_rate: 10Hz, gate_window: 10ns}\n"
                           "  bob: {role: memory, memories: 4}\n"
                           "links:\n"
                           "  l: {between: [alice, bob], via: charlie, model: double-click, visibility: 98%, "
                           "emission_efficiency: 90%, length: 1km}\n";
enum { ALICE, CHARLIE, BOB };

struct lone { /* A node, and the LinkCreate and LinkCancel it has sent. */
    struct qn_topology topology;
    struct qn_node *node;
    uint16_t self;
    uint64_t now_ns, seq[3];
    uint32_t create_id;
    uint64_t heard[3]; /* Highest number sent to each: what is sent again is not counted again. */
    unsigned creates[3], cancels[3];
};

static void note(struct lone *lone, const struct qn_action *action, const uint8_t *bytes) {
    if (action->type != QN_ACTION_SEND) return;
    Qnet__V1__Envelope *e = qnet__v1__envelope__unpack(NULL, action->len, bytes);
    cr_assert_not_null(e);
    bool again = e->channel != 0 || e->seq <= lone->heard[e->to];
    if (e->channel == 0 && !again) lone->heard[e->to] = e->seq;
    if (!again && e->body_case == QNET__V1__ENVELOPE__BODY_LINK_CREATE) {
        lone->creates[e->to]++;
        lone->create_id = e->link_create->create_id;
    }
    if (!again && e->body_case == QNET__V1__ENVELOPE__BODY_LINK_CANCEL) lone->cancels[e->to]++;
    qnet__v1__envelope__free_unpacked(e, NULL);
}

static void step(struct lone *lone, struct qn_event event) {
    const struct qn_actions *actions;
    event.now_ns = lone->now_ns;
    cr_assert_eq(qn_node_step(lone->node, &event, &actions), 0);
    for (size_t i = 0; i < actions->len; i++)
        note(lone, &actions->list[i], qn_action_bytes(actions, &actions->list[i]));
    qn_node_check(lone->node);
}

static void run(struct lone *lone, uint64_t ns) { /* Light time: what was said has left by then. */
    uint64_t end = lone->now_ns + ns;
    for (uint64_t due; (due = qn_node_deadline_ns(lone->node)) <= end;) {
        lone->now_ns = due > lone->now_ns ? due : lone->now_ns;
        step(lone, (struct qn_event){.type = QN_EVENT_TIME});
    }
    lone->now_ns = end;
}

static uint64_t life_of(uint16_t node, unsigned life) {
    return UINT64_C(101) + UINT64_C(10) * node + UINT64_C(2) * life;
}

static void session(struct lone *lone, uint16_t peer, unsigned life, bool up) {
    for (int plane = 0; plane < 2; plane++)
        step(lone, (struct qn_event){.type = up ? QN_EVENT_SESSION_UP : QN_EVENT_SESSION_DOWN,
                                     .plane = (enum qn_plane_id)plane,
                                     .peer = peer,
                                     .incarnation = life_of(peer, life),
                                     .error = up ? 0 : -QN_ECLOSED});
}

static struct lone *lone_new(uint16_t self) {
    struct lone *lone = calloc(1, sizeof *lone);
    struct qn_buf diagnostics = {0};
    cr_assert_geq(sodium_init(), 0);
    cr_assert_eq(qn_topology_parse("n.yaml", yaml, sizeof yaml - 1, &lone->topology, &diagnostics), 0, "%.*s",
                 (int)diagnostics.len, (const char *)diagnostics.data);
    qn_buf_release(&diagnostics);
    struct qn_node_config config = {.topology = &lone->topology,
                                    .self = self,
                                    .incarnation = life_of(self, 0),
                                    .resend_ns = 1000000000,
                                    .software = "test"};
    lone->self = self;
    cr_assert_eq(qn_node_new(&config, &lone->node), 0);
    if (self != CHARLIE) {
        session(lone, CHARLIE, 0, true);
    } else {
        session(lone, ALICE, 0, true);
        session(lone, BOB, 0, true);
    }
    return lone;
}

static void lone_free(struct lone *lone) {
    qn_node_free(lone->node);
    qn_topology_release(&lone->topology);
    free(lone);
}

static void hear(struct lone *lone, uint16_t from, Qnet__V1__Envelope *envelope) {
    uint8_t bytes[512];
    envelope->from = from;
    envelope->to = lone->self;
    envelope->from_incarnation = life_of(from, 0);
    envelope->to_incarnation = life_of(lone->self, 0);
    envelope->seq = ++lone->seq[from];
    size_t len = qnet__v1__envelope__pack(envelope, bytes);
    uint16_t peer = lone->self == CHARLIE ? from : CHARLIE;
    step(lone, (struct qn_event){.type = QN_EVENT_ENVELOPE, .peer = peer, .bytes = bytes, .len = len});
}

static void ask(struct lone *lone) { /* alice asks for pairs with bob, measured at once. */
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__PairRequest pair = QNET__V1__PAIR_REQUEST__INIT;
    uint8_t bytes[256];
    request.id = 1;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_PAIR;
    request.pair = &pair;
    pair.peer = (char *)(uintptr_t) "bob";
    pair.number = 10;
    pair.measure = true;
    pair.axes = QNET__V1__AXES_SET__AXES_SET_XYZ;
    size_t len = qnet__v1__control_request__pack(&request, bytes);
    step(lone, (struct qn_event){.type = QN_EVENT_REQUEST, .client = 1, .bytes = bytes, .len = len});
    run(lone, 100000000);
    cr_assert_eq(lone->creates[BOB], 1);
    cr_assert_eq(lone->creates[CHARLIE], 1);
}

Test(node, rejected_request_leaves_nothing_at_the_station) {
    struct lone *lone = lone_new(ALICE);
    ask(lone);
    Qnet__V1__Envelope envelope = QNET__V1__ENVELOPE__INIT;
    Qnet__V1__LinkReject reject = QNET__V1__LINK_REJECT__INIT;
    reject.create_id = lone->create_id;
    reject.error = QN_EFIDELITY;
    envelope.body_case = QNET__V1__ENVELOPE__BODY_LINK_REJECT;
    envelope.link_reject = &reject;
    hear(lone, BOB, &envelope);
    run(lone, 100000000);
    cr_assert_eq(lone->cancels[CHARLIE], 1);
    cr_assert_eq(lone->cancels[BOB], 0); /* It knows. */
    lone_free(lone);
}

Test(node, far_ends_cancel_is_passed_on_to_the_station) {
    struct lone *lone = lone_new(ALICE);
    ask(lone);
    Qnet__V1__Envelope envelope = QNET__V1__ENVELOPE__INIT;
    Qnet__V1__LinkCancel cancel = QNET__V1__LINK_CANCEL__INIT;
    cancel.create_id = lone->create_id;
    cancel.error = QN_ECANCELLED;
    envelope.body_case = QNET__V1__ENVELOPE__BODY_LINK_CANCEL;
    envelope.link_cancel = &cancel;
    hear(lone, BOB, &envelope);
    run(lone, 100000000);
    cr_assert_eq(lone->cancels[CHARLIE], 1);
    lone_free(lone);
}

Test(node, end_that_loses_its_station_tells_the_other) {
    struct lone *lone = lone_new(ALICE);
    ask(lone);
    session(lone, CHARLIE, 0, false);
    session(lone, CHARLIE, 1, true); /* Another life of it. */
    run(lone, 100000000);
    cr_assert_eq(lone->cancels[BOB], 1);
    cr_assert_eq(lone->cancels[CHARLIE], 0); /* The new life never heard of it. */
    lone_free(lone);
}

Test(node, station_tells_who_is_left_over_a_death) {
    struct lone *lone = lone_new(CHARLIE);
    Qnet__V1__Envelope envelope = QNET__V1__ENVELOPE__INIT;
    Qnet__V1__LinkCreate create = QNET__V1__LINK_CREATE__INIT;
    create.create_id = 7;
    create.type = QNET__V1__LINK_TYPE__LINK_TYPE_KEEP;
    envelope.body_case = QNET__V1__ENVELOPE__BODY_LINK_CREATE;
    envelope.link_create = &create;
    hear(lone, ALICE, &envelope);
    session(lone, BOB, 0, false);
    session(lone, BOB, 1, true);
    run(lone, 100000000);
    cr_assert_eq(lone->cancels[ALICE], 1);
    cr_assert_eq(lone->cancels[BOB], 0);
    lone_free(lone);
}
