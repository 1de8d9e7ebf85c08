/* SPDX-License-Identifier: Apache-2.0 */
/* Lives of nodes that are over (R0). A life ends, for everybody and for ever, when a newer incarnation of the node is
 * met, when it says farewell as it stops, when an operator says so, or when the node is missed and was unreachable for
 * too long (reach.c). Whoever finds that out tells its neighbours before anything else, they tell theirs, and each is
 * told again when a session comes up: so nobody goes on with a life that another has given up.
 *
 * A node whose own life was declared over may still be running (it was stopped, or cut off). It is told so by the first
 * that it speaks to, drops every quantum state, fails what its users asked for with -QN_EFENCED, and goes on as a new
 * incarnation: it is fenced.
 *
 * Parts of a network that are cut off from each other may declare each other dead. When they meet, such verdicts
 * contradict each other; the one of the part that could reach more nodes stands (of equal ones, that of the node with
 * the lower index). The other is void; that is told, too, and whoever has obeyed it starts anew, once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/canary.h"
#include "node/internal.h"
#include "node/keys.h"

#define DOWNS_AT_ONCE 1000

typedef Qnet__V1__DownCause cause_type;
#define CAUSE(name) QNET__V1__DOWN_CAUSE__DOWN_CAUSE_##name

/* Of an incarnation that was never met only these bits are known, from what is said of its qubits; an incarnation whose
 * bits are those of an earlier one is fenced, so they tell incarnations apart. */
static bool same_life(uint64_t one, uint64_t other) { return ((one ^ other) & 0x7fff) == 0; }

static struct verdict *find(struct remote *remote, uint64_t incarnation) {
    for (size_t i = 0; i < LIVES_MAX; i++)
        if (remote->gone[i].incarnation != 0 && remote->gone[i].cause != CAUSE(VOID) &&
            same_life(remote->gone[i].incarnation, incarnation))
            return &remote->gone[i];
    return NULL;
}

bool lives_is_over(const struct remote *remote, uint64_t incarnation) {
    return incarnation != 0 && find((struct remote *)(uintptr_t)remote, incarnation) != NULL;
}

bool lives_is_over_for(const struct qn_node *node, uint16_t id, uint32_t epoch) {
    if (id == node->self) return !same_life(node->incarnation, epoch);
    for (size_t i = 0; i < LIVES_MAX; i++) {
        const struct verdict *gone = &node->remotes[id].gone[i];
        if (gone->incarnation != 0 && gone->cause != CAUSE(VOID) && same_life(gone->incarnation, epoch)) return true;
    }
    return false;
}

bool qn_node_gave_up(const struct qn_node *node, uint16_t peer, uint64_t incarnation) {
    return peer == node->self ? !same_life(incarnation, node->incarnation)
                              : lives_is_over(&node->remotes[peer], incarnation);
}

static bool same_verdict(const struct verdict *one, const struct verdict *other) {
    return one->by == other->by && same_life(one->by_incarnation, other->by_incarnation) && one->incarnation != 0 &&
           same_life(one->incarnation, other->incarnation);
}

static bool is_void(const struct remote *remote, const struct verdict *verdict) {
    for (size_t i = 0; i < LIVES_MAX; i++)
        if (remote->gone[i].cause == CAUSE(VOID) && same_verdict(&remote->gone[i], verdict)) return true;
    return false;
}

/* ---- telling ---- */

void lives_tell_plane(struct qn_node *node) {
    for (size_t i = 0; i < node->topology->n_nodes * LIVES_MAX; i++) {
        const struct verdict *gone = &node->remotes[i / LIVES_MAX].gone[i % LIVES_MAX];
        if (gone->incarnation != 0 && gone->cause != CAUSE(VOID))
            qn_plane_on_down(node->plane, (uint16_t)(i / LIVES_MAX), (uint32_t)(gone->incarnation & 0x7fff));
    }
}

static void fill(Qnet__V1__Down *down, uint16_t node, const struct verdict *verdict) {
    qnet__v1__down__init(down);
    down->node = node;
    down->incarnation = verdict->incarnation;
    down->cause = verdict->cause;
    down->by = verdict->by;
    down->by_incarnation = verdict->by_incarnation;
    down->weight = verdict->weight;
}

static Qnet__V1__Envelope wrap(Qnet__V1__Downs *m, Qnet__V1__Down **list, size_t n) {
    Qnet__V1__Envelope envelope = QNET__V1__ENVELOPE__INIT;
    qnet__v1__downs__init(m);
    m->downs = list;
    m->n_downs = n;
    envelope.body_case = QNET__V1__ENVELOPE__BODY_DOWNS;
    envelope.downs = m;
    return envelope;
}

/* All that is known, on a session that has just come up. */
void lives_tell(struct qn_node *node, uint16_t peer, enum qn_plane_id plane) {
    Qnet__V1__Down *downs = calloc(DOWNS_AT_ONCE, sizeof *downs);
    Qnet__V1__Down **list = calloc(DOWNS_AT_ONCE, sizeof *list);
    Qnet__V1__Downs m;
    size_t n = 0, n_nodes = node->topology->n_nodes;
    for (size_t i = 0; downs != NULL && list != NULL && i < n_nodes * LIVES_MAX; i++) {
        const struct verdict *verdict = &node->remotes[i / LIVES_MAX].gone[i % LIVES_MAX];
        if (verdict->incarnation == 0) continue;
        fill(&downs[n], (uint16_t)(i / LIVES_MAX), verdict);
        list[n] = &downs[n];
        if (++n < DOWNS_AT_ONCE) continue;
        Qnet__V1__Envelope envelope = wrap(&m, list, n);
        transport_send_now(node, peer, plane, &envelope);
        n = 0;
    }
    if (n > 0) {
        Qnet__V1__Envelope envelope = wrap(&m, list, n);
        transport_send_now(node, peer, plane, &envelope);
    }
    free(downs);
    free(list);
}

static void flood(struct qn_node *node, uint16_t id, const struct verdict *verdict) { /* On every session: before */
    Qnet__V1__Downs m;                                                                /* all that comes after. */
    Qnet__V1__Down down, *list = &down;
    fill(&down, id, verdict);
    for (size_t i = 0; i < node->n_neighbours; i++)
        for (int plane = 0; plane < 2; plane++) {
            Qnet__V1__Envelope envelope = wrap(&m, &list, 1);
            if (node->neighbours[i].open[plane])
                transport_send_now(node, node->neighbours[i].id, (enum qn_plane_id)plane, &envelope);
        }
}

/* To one that still lives the life: by the session it has come on, or by whatever way leads there. */
void lives_tell_fenced(struct qn_node *node, struct remote *remote, uint64_t incarnation) {
    const struct verdict *verdict = find(remote, incarnation);
    if (verdict == NULL || (remote->told_ns != 0 && node->now_ns - remote->told_ns < node->resend_ns)) return;
    remote->told_ns = node->now_ns + 1;
    Qnet__V1__Downs m;
    Qnet__V1__Down down, *list = &down;
    fill(&down, remote->id, verdict);
    Qnet__V1__Envelope envelope = wrap(&m, &list, 1);
    transport_send_away(node, remote->id, &envelope);
}

static void tell_about(struct qn_node *node, uint16_t to, const struct remote *remote) {
    for (size_t i = 0; i < LIVES_MAX; i++) {
        if (remote->gone[i].incarnation == 0) continue;
        Qnet__V1__Downs m;
        Qnet__V1__Down down, *list = &down;
        fill(&down, remote->id, &remote->gone[i]);
        Qnet__V1__Envelope envelope = wrap(&m, &list, 1);
        transport_send_away(node, to, &envelope);
    }
}

/* Somebody must know what incarnation it is that nobody can reach: ask all. */
static void ask_who_it_is(struct qn_node *node, uint16_t id) {
    const struct verdict unknown = {
        .by = node->self, .by_incarnation = node->incarnation, .weight = node->n_reached, .cause = CAUSE(UNREACHABLE)};
    Qnet__V1__Downs m;
    Qnet__V1__Down down, *list = &down;
    fill(&down, id, &unknown);
    for (size_t i = 0; i < node->topology->n_nodes; i++) {
        if (i == node->self || i == id || node->remotes[i].lost) continue;
        Qnet__V1__Envelope envelope = wrap(&m, &list, 1);
        transport_send_away(node, (uint16_t)i, &envelope);
    }
}

/* ---- the end of a life ---- */

static void say(struct qn_node *node, uint16_t id, const struct verdict *verdict) {
    const char *by = node_name(node, verdict->by);
    unsigned long long life = verdict->incarnation;
    if (verdict->cause == CAUSE(UNREACHABLE))
        node_event(node, LEVEL_WARNING, "peer_gone", node_name(node, id),
                   "its life %016llx is over: %s could not reach it for %g s; should it come back, it starts anew",
                   life, by, node->topology->node_dead_after_s);
    else if (verdict->cause == CAUSE(DECLARED))
        node_event(node, LEVEL_WARNING, "peer_gone", node_name(node, id),
                   "its life %016llx is over: an operator said so at %s", life, by);
    else
        node_event(node, verdict->cause == CAUSE(LEFT) ? LEVEL_INFO : LEVEL_WARNING, "peer_gone", node_name(node, id),
                   "its life %016llx is over: it %s", life,
                   verdict->cause == CAUSE(LEFT) ? "has stopped" : "started anew");
}

static void end_life(struct qn_node *node, struct remote *remote, const struct verdict *verdict) {
    uint16_t id = remote->id;
    struct neighbour *neighbour = node_neighbour(node, id);
    /* What waits for a life not met yet waits on, in the same channel: the next one may have had some of it already. */
    bool unmet = remote->incarnation == 0;
    bool present = !unmet && same_life(remote->incarnation, verdict->incarnation);
    remote->gone[remote->n_gone++ % LIVES_MAX] = *verdict;
    if (!QN_CANARY(7)) flood(node, id, verdict);
    say(node, id, verdict);
    if (present) {
        if (neighbour != NULL) neighbour->up[QN_CLASSICAL] = neighbour->up[QN_QUANTUM] = false;
        transport_forget(node, id);
        reach_on_life_over(node, remote);
    } else if (remote->reach.incarnation == verdict->incarnation) {
        reach_on_life_over(node, remote);
    }
    qn_plane_on_down(node->plane, id, (uint32_t)(verdict->incarnation & 0x7fff));
    node_flush_plane(node);
    if (!present && !unmet) return;
    station_on_peer_gone(node, id);
    station_on_session(node);
    circuit_on_peer_gone(node, id);
    link_on_peer_gone(node, id);
    teleport_on_peer_gone(node, id);
    request_on_peer_gone(node, id);
    pair_on_peer_gone(node, id);
    bb84_on_peer_gone(node, id);
}

/* A life of a node is heard of. False: it is over, and is told so. */
bool lives_meet(struct qn_node *node, struct remote *remote, uint64_t incarnation) {
    if (remote->incarnation == incarnation) return true;
    if (lives_is_over(remote, incarnation)) return false;
    if (remote->incarnation != 0) {
        struct verdict verdict = {.incarnation = remote->incarnation,
                                  .by = node->self,
                                  .by_incarnation = node->incarnation,
                                  .weight = UINT32_MAX,
                                  .cause = CAUSE(RESTARTED)};
        end_life(node, remote, &verdict);
        if (lives_is_over(remote, incarnation)) return false; /* It looks like the one before it. */
    }
    remote->incarnation = incarnation;
    remote->told_ns = 0;
    remote->asked = 0;
    qn_plane_meet(node->plane, remote->id, (uint32_t)(incarnation & 0x7fff));
    keys_on_incarnation(node, remote->id);
    return true;
}

/* As the driver has found out: by a newer incarnation, or by the farewell of one that stops (`left`). */
void lives_replaced(struct qn_node *node, uint16_t id, uint64_t incarnation, bool left) {
    struct remote *remote = &node->remotes[id];
    struct verdict verdict = {.incarnation = incarnation,
                              .by = node->self,
                              .by_incarnation = node->incarnation,
                              .weight = UINT32_MAX,
                              .cause = left ? CAUSE(LEFT) : CAUSE(RESTARTED)};
    if (incarnation != 0 && !lives_is_over(remote, incarnation)) end_life(node, remote, &verdict);
}

/* Where everybody stops at once, whoever is last has nobody left to hand anything over to. One that is only away may
 * come back. */
bool lives_alone(const struct qn_node *node) {
    for (size_t i = 0; i < node->n_neighbours; i++) {
        const struct neighbour *neighbour = &node->neighbours[i];
        if (node->remotes[neighbour->id].incarnation != 0 || neighbour->open[0] || neighbour->open[1]) return false;
    }
    return true;
}

int lives_declare(struct qn_node *node, uint16_t id, cause_type cause) {
    struct remote *remote = &node->remotes[id];
    struct verdict verdict = {.incarnation = remote->incarnation,
                              .by = node->self,
                              .by_incarnation = node->incarnation,
                              .weight = cause == CAUSE(UNREACHABLE) ? node->n_reached : UINT32_MAX,
                              .cause = cause};
    uint32_t heard_of = remote->incarnation == 0 ? qn_plane_heard_of(node->plane, id) : QN_LIFE_UNKNOWN;
    if (heard_of != QN_LIFE_UNKNOWN) verdict.incarnation = heard_of;
    if (verdict.incarnation != 0) {
        end_life(node, remote, &verdict);
        return 0;
    }
    if (cause == CAUSE(DECLARED)) return -QN_ENOT_FOUND;
    if (remote->asked < 2) {
        remote->asked++;
        ask_who_it_is(node, id);
        return 0;
    }
    if (remote->asked++ > 2) return 0; /* It has been said. */
    /* Nobody ever met it: it keeps nothing of ours. */
    node_event(node, LEVEL_WARNING, "peer_gone", node_name(node, id), "nobody has ever met it; waiting no longer");
    qn_plane_on_down(node->plane, id, QN_LIFE_UNKNOWN);
    node_flush_plane(node);
    return 0;
}

/* ---- this node's own life ---- */

static struct request *first_quantum_request(struct qn_node *node) {
    for (struct list *item = node->requests.next; item != &node->requests; item = item->next) {
        struct request *request = CONTAINER_OF(item, struct request, link);
        if (request->kind != REQUEST_WAIT) return request;
    }
    return NULL;
}

static void fail_requests(struct qn_node *node, const char *by) { /* Failing one may end others. */
    for (struct request *request; (request = first_quantum_request(node)) != NULL;)
        request_fail(request, -QN_EFENCED, "by %s", by);
}

static void drop_pairs(struct qn_node *node) {
    size_t i = 0;
    for (void *pair; qn_map_next(&node->pairs, &i, NULL, &pair); i = 0) pair_free(node, pair, false);
}

/* Whom this life could not reach may well be alive: it was this node that was away. */
static void forget_unreachable(struct qn_node *node) {
    for (size_t i = 0; i < node->topology->n_nodes * LIVES_MAX; i++) {
        struct verdict *verdict = &node->remotes[i / LIVES_MAX].gone[i % LIVES_MAX];
        if (verdict->cause == CAUSE(UNREACHABLE)) *verdict = (struct verdict){0};
    }
}

/* Nothing quantum outlives a life. What is classical does: keys, counters, faults, whoever waits. */
static void start_anew(struct qn_node *node, const struct verdict *verdict) {
    uint64_t old = node->incarnation;
    const char *by = node_name(node, verdict->by);
    node_event(
        node, LEVEL_ERROR, "fenced", by,
        "this life, %016llx, was declared dead by %s (%s): all quantum states are dropped, and the node starts anew",
        (unsigned long long)old, by,
        verdict->cause == CAUSE(DECLARED)      ? "an operator said so"
        : verdict->cause == CAUSE(UNREACHABLE) ? "it could not be reached"
        : verdict->cause == CAUSE(VOID)        ? "it had given up nodes that live on"
                                               : "its number is like an earlier one's");
    node->n_fenced++;
    for (size_t i = 0; i < node->n_neighbours; i++) /* Nothing more is sent by this life. */
        for (int plane = 0; plane < 2; plane++) node->neighbours[i].up[plane] = node->neighbours[i].open[plane] = false;
    fail_requests(node, by);
    for (size_t i = 0; i < node->topology->n_nodes; i++) bb84_on_peer_gone(node, (uint16_t)i);
    teleport_release_all(node);
    circuit_release_all(node);
    link_release_all(node);
    if (!QN_CANARY(16)) drop_pairs(node);
    node_abandon_ops(node, -QN_EFENCED);
    node->memories_used = 0; /* Qubits that users prepared are gone, too. */
    node->wake_links = true;
    forget_unreachable(node);
    do node->incarnation = qn_csprng_u64(&node->secret) | 1;
    while (same_life(node->incarnation, old));
    if (node_begin_life(node) < 0) abort(); /* Without memory for an empty plane there is no going on. */
    node_act(node, (struct qn_action){.type = QN_ACTION_INCARNATION, .incarnation = node->incarnation}, NULL, 0);
}

/* ---- what others say ---- */

static bool is_stronger(const struct verdict *one, const struct verdict *other) {
    return one->weight != other->weight ? one->weight > other->weight : one->by < other->by;
}

/* Our verdict that contradicts this one: that its author was unreachable, while whom it is about is alive here. */
static struct verdict *opposed(struct qn_node *node, uint16_t id, const struct verdict *verdict) {
    const struct remote *remote = &node->remotes[id];
    bool alive = id == node->self ? same_life(verdict->incarnation, node->incarnation)
                                  : remote->incarnation != 0 && same_life(remote->incarnation, verdict->incarnation) &&
                                        !remote->lost;
    if (!alive || verdict->cause != CAUSE(UNREACHABLE) || verdict->by == node->self) return NULL;
    if (verdict->by_incarnation == 0) return NULL;
    struct verdict *ours = find(&node->remotes[verdict->by], verdict->by_incarnation);
    return ours != NULL && ours->cause == CAUSE(UNREACHABLE) ? ours : NULL;
}

static void declare_void(struct qn_node *node, uint16_t id, const struct verdict *verdict) {
    struct remote *remote = &node->remotes[id];
    struct verdict opposite = *verdict;
    opposite.cause = CAUSE(VOID);
    remote->gone[remote->n_gone++ % LIVES_MAX] = opposite;
    flood(node, id, &opposite);
}

static void tell_void(struct qn_node *node, uint16_t to, uint16_t id, const struct verdict *verdict) {
    struct verdict opposite = *verdict;
    opposite.cause = CAUSE(VOID);
    Qnet__V1__Downs m;
    Qnet__V1__Down down, *list = &down;
    fill(&down, id, &opposite);
    Qnet__V1__Envelope envelope = wrap(&m, &list, 1);
    transport_send_away(node, to, &envelope);
}

/* What was said of a life is void. True: this node had obeyed, and has started anew. */
static bool on_void(struct qn_node *node, uint16_t from, uint16_t id, const struct verdict *verdict) {
    struct remote *remote = &node->remotes[id];
    if (verdict->incarnation == 0 || is_void(remote, verdict)) return false;
    struct verdict *obeyed = NULL;
    for (size_t i = 0; i < LIVES_MAX; i++)
        if (remote->gone[i].cause == CAUSE(UNREACHABLE) && same_verdict(&remote->gone[i], verdict))
            obeyed = &remote->gone[i];
    if (obeyed != NULL) *obeyed = (struct verdict){0};
    declare_void(node, id, verdict);
    if (obeyed == NULL) return false;
    struct verdict why = *verdict;
    why.by = from;
    start_anew(node, &why);
    return true;
}

/* True: this node has started anew. */
static bool on_down(struct qn_node *node, uint16_t from, uint16_t id, const struct verdict *verdict) {
    struct remote *remote = &node->remotes[id];
    if (verdict->cause == CAUSE(VOID)) return on_void(node, from, id, verdict);
    if (is_void(remote, verdict)) { /* Whoever says so has not heard. */
        tell_void(node, from, id, verdict);
        return false;
    }
    if (verdict->incarnation == 0) { /* Who was it? */
        if (id != node->self && remote->incarnation != 0 && remote->lost &&
            node->now_ns - remote->lost_ns >= node->dead_after_ns)
            lives_declare(node, id, CAUSE(UNREACHABLE));
        else if (id != node->self)
            tell_about(node, from, remote);
        return false;
    }
    if (lives_is_over(remote, verdict->incarnation)) return false;
    /* So much is known of that node that this may have been known before: telling it again could go round for ever. */
    if (remote->n_gone >= LIVES_MAX && !same_life(verdict->incarnation, remote->incarnation) &&
        !same_life(verdict->incarnation, node->incarnation))
        return false;
    if (id == node->self &&
        !same_life(verdict->incarnation, node->incarnation)) { /* Somebody may hear of it only through us. */
        remote->gone[remote->n_gone++ % LIVES_MAX] = *verdict;
        flood(node, id, verdict);
        return false;
    }
    const struct verdict *ours = opposed(node, id, verdict);
    if (ours != NULL && is_stronger(ours, verdict)) { /* The other part of the network has to give way. */
        declare_void(node, id, verdict);
        tell_void(node, from, id, verdict);
        return false;
    }
    if (ours != NULL || id == node->self) {
        start_anew(node, verdict);
        return true;
    }
    end_life(node, remote, verdict);
    return false;
}

void lives_on_message(struct qn_node *node, uint16_t from, bool from_the_dead, const Qnet__V1__Downs *m) {
    for (size_t i = 0; i < m->n_downs; i++) {
        const Qnet__V1__Down *down = m->downs[i];
        if (down->node >= node->topology->n_nodes || down->by >= node->topology->n_nodes) return;
        /* The dead have no say but in what they hold of ourselves (they refuse us as we refuse them), and in whether
         * they are dead. */
        if (from_the_dead && down->node != node->self && down->cause != CAUSE(VOID)) continue;
        struct verdict verdict = {.incarnation = down->incarnation,
                                  .by_incarnation = down->by_incarnation,
                                  .by = (uint16_t)down->by,
                                  .weight = down->weight,
                                  .cause = down->cause};
        if (on_down(node, from, (uint16_t)down->node, &verdict)) return;
    }
}
