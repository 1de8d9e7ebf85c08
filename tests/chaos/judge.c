/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold: a request is answered once, by a cause that is possible; without noise and deaths correlations are
 * perfect; in the end nothing is left over anywhere. What holds after every step is qn_node_check and the cluster's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chaos.h"
#include "disk.h"
#include "node/bb84.h"
#include "node/keys.h"
#include "say.h"

#define DEFAULT_TIMEOUT_NS UINT64_C(30000000000)

/* ---- requests ---- */

struct ask *judge_ask(struct chaos *chaos, enum ask_kind kind, uint16_t node, uint64_t timeout_ns, uint64_t *ret_id) {
    if (cluster_node(chaos->cluster, node) == NULL) return NULL;
    if (chaos->n_asks == 0) chaos->n_asks = 1;
    chaos->asks = grow(chaos->asks, &chaos->cap_asks, chaos->n_asks + 1, sizeof *chaos->asks);
    *ret_id = chaos->n_asks++;
    struct ask *ask = &chaos->asks[*ret_id];
    *ask = (struct ask){.kind = kind,
                        .node = node,
                        .peer = QN_NO_NODE,
                        .client = *ret_id,
                        .life = chaos->lives[node],
                        .started_ns = cluster_now(chaos->cluster),
                        .timeout_ns = timeout_ns != 0 ? timeout_ns : DEFAULT_TIMEOUT_NS};
    chaos->n_open++;
    chaos->stats->asked[kind]++;
    chaos_log(chaos, "ask %llu: kind %d of n%u", (unsigned long long)*ret_id, (int)kind, node);
    return ask;
}

/* ---- lives ---- */

static void note_end(struct chaos *chaos, uint16_t node) {
    chaos->ends = grow(chaos->ends, &chaos->cap_ends, chaos->n_ends, sizeof *chaos->ends);
    chaos->ends[chaos->n_ends++] = (struct end){node, cluster_now(chaos->cluster)};
}

void judge_crash(struct chaos *chaos, uint16_t node) {
    note_end(chaos, node);
    chaos->crashed[node] = true;
    chaos->lives[node]++;
    for (size_t i = 1; i < chaos->n_asks; i++) {
        struct ask *ask = &chaos->asks[i];
        if (ask->node != node || ask->state != OPEN) continue;
        ask->state = DIED;
        chaos->n_open--;
        chaos->stats->unanswered++;
    }
}

void judge_trouble(struct chaos *chaos) {
    if (chaos->trouble_ns == UINT64_MAX) chaos->trouble_ns = cluster_now(chaos->cluster);
}

/* A life ends when a node crashes, when an operator says so, or when it was away for longer than node_dead_after. */
static bool may_have_ended(const struct chaos *chaos, uint16_t node) {
    double away =
        chaos->trouble_ns == UINT64_MAX ? 0 : (double)(cluster_now(chaos->cluster) - chaos->trouble_ns) * 1e-9;
    return chaos->crashed[node] || chaos->declared[node] || away >= chaos->topology.node_dead_after_s;
}

void judge_event(void *context, const Qnet__V1__EventInfo *info) {
    struct chaos *chaos = context;
    chaos_log(chaos, "%s: %s %s: %s", info->node, info->code, info->subject, info->text);
    bool fenced = strcmp(info->code, "fenced") == 0;
    if (!fenced && strcmp(info->code, "peer_gone") != 0) return;
    int node = qn_topology_find_node(&chaos->topology, fenced ? info->node : info->subject);
    if (node < 0) chaos_fail(chaos, "%s is no node", info->subject);
    if (!may_have_ended(chaos, (uint16_t)node))
        chaos_fail(chaos, "without reason: %s: %s n%d: %s", info->node, info->code, node, info->text);
    note_end(chaos, (uint16_t)node);
    chaos->last_gone_ns = cluster_now(chaos->cluster);
    chaos->crashed[node] = true; /* Others hear of it later. */
    if (!fenced) return;
    chaos->fenced_ns = cluster_now(chaos->cluster);
    chaos->fenced = (uint16_t)node;
    chaos->stats->fenced++;
}

/* ---- causes ---- */

static bool has_ended(const struct chaos *chaos, const char *name) {
    int node = qn_topology_find_node(&chaos->topology, name);
    for (size_t i = 0; i < chaos->n_ends; i++)
        if (chaos->ends[i].node == node) return true;
    return false;
}

static bool is_down_now(const struct chaos *chaos) {
    for (uint16_t a = 0; a < chaos->topology.n_nodes; a++)
        for (uint16_t b = 0; b < a; b++)
            for (int plane = 0; plane < 2; plane++)
                if (qn_topology_is_neighbour(&chaos->topology, a, b) &&
                    !cluster_session_is_up(chaos->cluster, a, b, (enum qn_plane_id)plane))
                    return true;
    for (uint16_t i = 0; i < chaos->topology.n_nodes; i++)
        if (cluster_is_paused(chaos->cluster, i)) return true;
    return false;
}

/* The name of a node in "... link: NAME; ...", "...: NAME; ..." or "... NAME went down": who is said to have ended. */
static bool names_a_death(const struct chaos *chaos, const char *message, char name[QN_NAME_MAX + 1]) {
    const char *at = strstr(message, " went down");
    for (size_t i = 0; i < chaos->topology.n_nodes; i++) {
        const char *candidate = chaos->topology.nodes[i].name;
        size_t len = strlen(candidate);
        char end[QN_NAME_MAX + 8];
        snprintf(end, sizeof end, ": %s; ", candidate);
        snprintf(name, QN_NAME_MAX + 1, "%s", candidate);
        if (at != NULL && at - message >= (long)len && memcmp(at - len, candidate, len) == 0) return true;
        if (at == NULL && strstr(message, end) != NULL) return true;
    }
    return false;
}

static bool peer_down_is_possible(const struct chaos *chaos, const struct ask *ask, const char *message) {
    char name[QN_NAME_MAX + 1];
    if (names_a_death(chaos, message, name)) return has_ended(chaos, name);
    return is_down_now(chaos) || chaos->last_up_ns >= ask->started_ns || chaos->n_ends > 0;
}

static bool memory_full_is_possible(const struct chaos *chaos, const struct ask *ask) {
    for (uint16_t i = 0; i < chaos->topology.n_nodes; i++) {
        const struct qn_node *node = cluster_node(chaos->cluster, i);
        if (chaos->full_ns[i] > ask->started_ns) return true;
        if (node != NULL && chaos->topology.nodes[i].memories > 0 &&
            qn_node_memories_used(node) + 1 >= chaos->topology.nodes[i].memories)
            return true;
    }
    return (ask->kind == ASK_KEEP && ask->number > chaos->topology.nodes[ask->node].memories);
}

static bool is_unsupported(const struct chaos *chaos, const struct ask *ask) {
    for (size_t i = 0; i < chaos->topology.n_links; i++) {
        const struct qn_topo_link *link = &chaos->topology.links[i];
        if (link->kind == QN_LINK_BB84 &&
            ((link->a == ask->node && link->b == ask->peer) || (link->b == ask->node && link->a == ask->peer)))
            return false;
    }
    return ask->kind == ASK_BB84 || (ask->kind == ASK_GATE && chaos->topology.nodes[ask->node].memories == 0);
}

static bool cause_is_possible(const struct chaos *chaos, const struct ask *ask, const Qnet__V1__Error *error) {
    struct route route;
    uint64_t took = cluster_now(chaos->cluster) - ask->started_ns;
    switch ((enum qn_err)error->number) {
    case QN_ETIMEOUT:
        return took >= ask->timeout_ns;
    case QN_EPEER_DOWN:
        return peer_down_is_possible(chaos, ask, error->message);
    case QN_EMEMORY_FULL:
        return memory_full_is_possible(chaos, ask);
    case QN_ENO_ROUTE:
        return route_entanglement(cluster_node(chaos->cluster, ask->node), ask->peer, &route) == -QN_ENO_ROUTE;
    case QN_EUNSUPPORTED:
        return is_unsupported(chaos, ask);
    case QN_EFIDELITY:
        return ask->min_fidelity > 0;
    case QN_ECANCELLED:
        return ask->cancelled;
    case QN_ENOT_FOUND: /* Gone meanwhile. */
        return ask->kind == ASK_GATE || ask->kind == ASK_KEY || ask->kind == ASK_FAULT;
    case QN_ELIMIT: /* States of more than eleven qubits. */
        return ask->kind == ASK_GATE && ask->two_qubits;
    case QN_EQBER:
        return ask->kind == ASK_BB84 && (chaos->eve || !chaos->ideal);
    case QN_EUNREACHABLE:
        return took >= ask->timeout_ns && (is_down_now(chaos) || chaos->last_up_ns >= ask->started_ns);
    case QN_EFENCED: /* judge_event has seen that there was a reason. */
        return chaos->fenced_ns == cluster_now(chaos->cluster) && chaos->fenced == ask->node;
    case QN_ESTORE:
        return chaos->disk_full && (ask->kind == ASK_BB84 || ask->kind == ASK_KEY);
    default:
        return false;
    }
}

/* ---- physics ---- */

bool judge_certain(const struct chaos *chaos, uint16_t a, uint16_t b, uint64_t since_ns) {
    (void)a;
    (void)b;
    if (!chaos->ideal) return false;
    for (size_t i = 0; i < chaos->n_ends; i++)
        if (chaos->ends[i].at_ns >= since_ns) return false;
    return true;
}

void judge_both(struct chaos *chaos, const struct ask *ask) {
    const struct ask *other = &chaos->asks[ask->partner];
    if (ask->partner == 0 || ask->partner >= chaos->n_asks || ask->failed || other->failed || ask->state != ANSWERED ||
        other->state != ANSWERED)
        return;
    if (other->partner == 0 || !judge_certain(chaos, ask->node, other->node, ask->born_ns)) return;
    if (ask->outcome != other->outcome)
        chaos_fail(chaos, "n%u and n%u measured %u and %u on the halves of one Phi+", ask->node, other->node,
                   ask->outcome, other->outcome);
}

static void judge_sums(const struct chaos *chaos, const struct ask *ask, const Qnet__V1__PairSummary *m) {
    static const int sign[3] = {1, -1, 1};
    uint64_t trials = 0;
    for (size_t i = 0; i < m->n_sums; i++) {
        const Qnet__V1__AxisSum *sum = m->sums[i];
        trials += sum->trials;
        if (!judge_certain(chaos, ask->node, ask->peer, ask->started_ns) || sum->axis != sum->peer_axis ||
            sum->axis > 2)
            continue;
        if (sum->sum != sign[sum->axis] * (int64_t)sum->trials)
            chaos_fail(chaos, "request %llu: %lld of %llu along axis %u without noise",
                       (unsigned long long)(ask - chaos->asks), (long long)sum->sum, (unsigned long long)sum->trials,
                       sum->axis);
    }
    if (ask->kind == ASK_MEASURE && trials != ask->number)
        chaos_fail(chaos, "request %llu: %llu outcomes of %u pairs", (unsigned long long)(ask - chaos->asks),
                   (unsigned long long)trials, ask->number);
    chaos->stats->pairs += m->delivered;
    if (m->delivered != ask->number) chaos_fail(chaos, "%u pairs of %u delivered", m->delivered, ask->number);
}

static void judge_states(const struct chaos *chaos, const struct ask *ask, const Qnet__V1__TeleportSummary *m) {
    chaos->stats->states += m->done;
    if (m->done != ask->number) chaos_fail(chaos, "%u states of %u arrived", m->done, ask->number);
    if (ask->theta != 0 || m->n_trials != 3 || !judge_certain(chaos, ask->node, ask->peer, ask->started_ns)) return;
    if (m->sums[2] != (int32_t)m->trials[2])
        chaos_fail(chaos, "|0> arrived as %d of %u along Z", m->sums[2], m->trials[2]);
}

/* ---- keys ---- */

static struct key *key_at(const struct chaos *chaos, uint16_t node, const uint8_t id[16]) {
    const struct qn_node *at = cluster_node(chaos->cluster, node);
    return at != NULL ? keys_find(at, id, 16) : NULL;
}

static const struct disk_record *on_disk(const struct chaos *chaos, uint16_t node, const uint8_t id[16]) {
    const struct disk *disk = cluster_disk(chaos->cluster, node);
    for (size_t i = 0; i < disk->len; i++)
        if (memcmp(disk->records[i].record.id, id, 16) == 0) return &disk->records[i];
    return NULL;
}

/* At rest: what one end could hand out the other has, or has handed out, and it is the same. */
void judge_keys(struct chaos *chaos) {
    for (uint16_t i = 0; i < chaos->topology.n_nodes; i++) {
        const struct qn_node *node = cluster_node(chaos->cluster, i);
        for (const struct list *item = node->keys->list.next; item != &node->keys->list; item = item->next) {
            const struct key *mine = CONTAINER_OF(item, struct key, link);
            uint16_t peer = mine->record.peer;
            if (key_at(chaos, peer, mine->record.id) == NULL)
                chaos_fail(chaos, "only n%u has a key it shares with n%u", i, peer);
            const struct disk_record *here = on_disk(chaos, i, mine->record.id),
                                     *there = on_disk(chaos, peer, mine->record.id);
            if (here == NULL || there == NULL) chaos_fail(chaos, "a key of n%u and n%u is not on disk", i, peer);
            if (here->material == NULL || there->material == NULL) continue;
            if (here->record.len != there->record.len || memcmp(here->material, there->material, here->record.len) != 0)
                chaos_fail(chaos, "n%u and n%u hold different keys of the same name", i, peer);
        }
    }
}

static void judge_taken(struct chaos *chaos, const struct ask *ask, const Qnet__V1__KeyInfo *m) {
    for (size_t i = 0; i < chaos->n_taken; i++) {
        const struct taken *other = &chaos->taken[i];
        if (memcmp(other->id, m->id.data, sizeof other->id) != 0) continue;
        if (other->node == ask->node) chaos_fail(chaos, "n%u handed a key out twice", ask->node);
        if (other->len != m->material.len ||
            memcmp(other->start, m->material.data, m->material.len < 16 ? m->material.len : 16) != 0)
            chaos_fail(chaos, "n%u and n%u handed out different keys of the same name", ask->node, other->node);
    }
    chaos->taken = grow(chaos->taken, &chaos->cap_taken, chaos->n_taken, sizeof *chaos->taken);
    struct taken *taken = &chaos->taken[chaos->n_taken++];
    *taken = (struct taken){.node = ask->node, .len = m->material.len};
    memcpy(taken->id, m->id.data, sizeof taken->id);
    memcpy(taken->start, m->material.data, m->material.len < 16 ? m->material.len : 16);
}

/* A key that a user was told of is at both ends. */
static void judge_block(const struct chaos *chaos, const struct ask *ask, const Qnet__V1__Bb84Block *m) {
    if (m->key_id.len != 16 || m->failed[0] != '\0') return;
    chaos->stats->keys++;
    if (chaos->n_taken > 0) return;
    const uint16_t nodes[2] = {ask->node, ask->peer};
    for (size_t i = 0; i < 2; i++)
        if (on_disk(chaos, nodes[i], m->key_id.data) == NULL)
            chaos_fail(chaos, "n%u has no key that request %llu was told of", nodes[i],
                       (unsigned long long)(ask - chaos->asks));
}

/* ---- answers ---- */

static void on_gate(struct chaos *chaos, struct ask *ask, const Qnet__V1__GateResult *m) {
    for (size_t i = 0; i < m->n_qubits; i++) {
        chaos->prepared = grow(chaos->prepared, &chaos->cap_prepared, chaos->n_prepared, sizeof *chaos->prepared);
        chaos->prepared[chaos->n_prepared++] =
            (struct user_qubit){ask->node, cluster_incarnation(chaos->cluster, ask->node), m->qubits[i]};
    }
    if (m->n_outcomes > 0) ask->outcome = m->outcomes[0];
}

static void on_error(struct chaos *chaos, struct ask *ask, const Qnet__V1__Error *error) {
    ask->failed = true;
    chaos->stats->failed[ask->kind]++;
    /* A node may learn of a death only when it speaks to the next life, and then it is the cause. */
    bool late = error->number == QN_EPEER_DOWN && chaos->last_gone_ns >= ask->started_ns;
    if (ask->must_succeed && late) chaos->stats->late++;
    if (ask->must_succeed && !late)
        chaos_fail(chaos, "without faults request %llu of n%u failed: %s", (unsigned long long)(ask - chaos->asks),
                   ask->node, error->message);
    if (!cause_is_possible(chaos, ask, error))
        chaos_fail(chaos, "request %llu of n%u: a cause that cannot be: %s: %s",
                   (unsigned long long)(ask - chaos->asks), ask->node, error->code, error->message);
}

void judge_reply(void *context, uint16_t node, uint64_t client, const Qnet__V1__ControlResponse *m) {
    struct chaos *chaos = context;
    if (m->id == 0 || m->id >= chaos->n_asks) chaos_fail(chaos, "an answer to nobody's request");
    struct ask *ask = &chaos->asks[m->id];
    if (ask->client != client || ask->node != node || ask->life != chaos->lives[node])
        chaos_fail(chaos, "request %llu was answered to somebody else", (unsigned long long)m->id);
    if (ask->state != OPEN)
        chaos_fail(chaos, "request %llu was answered %s", (unsigned long long)m->id,
                   ask->state == LEFT ? "after its client had gone" : "twice");
    if (m->body_case == QNET__V1__CONTROL_RESPONSE__BODY_BB84_BLOCK) judge_block(chaos, ask, m->bb84_block);
    if (m->more) return;
    ask->state = ANSWERED;
    ask->answered_ns = cluster_now(chaos->cluster);
    chaos->n_open--;
    chaos_log(chaos, "answer %llu%s%s", (unsigned long long)m->id,
              m->body_case == QNET__V1__CONTROL_RESPONSE__BODY_ERROR ? ": " : "",
              m->body_case == QNET__V1__CONTROL_RESPONSE__BODY_ERROR ? m->error->message : "");
    switch (m->body_case) {
    case QNET__V1__CONTROL_RESPONSE__BODY_ERROR:
        on_error(chaos, ask, m->error);
        break;
    case QNET__V1__CONTROL_RESPONSE__BODY_GATE:
        on_gate(chaos, ask, m->gate);
        judge_both(chaos, ask);
        break;
    case QNET__V1__CONTROL_RESPONSE__BODY_PAIR_SUMMARY:
        judge_sums(chaos, ask, m->pair_summary);
        break;
    case QNET__V1__CONTROL_RESPONSE__BODY_TELEPORT_SUMMARY:
        judge_states(chaos, ask, m->teleport_summary);
        break;
    case QNET__V1__CONTROL_RESPONSE__BODY_KEY:
        judge_taken(chaos, ask, m->key);
        break;
    default:
        break;
    }
}

void judge_step(void *context, uint16_t id, const struct qn_event *event) {
    struct chaos *chaos = context;
    if (chaos->options.trace && event->type == QN_EVENT_ENVELOPE) {
        chaos_log(chaos, "n%u, %s:", id, event->plane == QN_QUANTUM ? "quantum" : "classical");
        say_envelope(event->bytes, event->len);
    }
    const struct qn_node *node = cluster_node(chaos->cluster, id);
    uint32_t memories = chaos->topology.nodes[id].memories;
    if (memories > 0 && qn_node_memories_used(node) + 1 >= memories)
        chaos->full_ns[id] = cluster_now(chaos->cluster) + 1;
    if (event->type == QN_EVENT_SESSION_UP || event->type == QN_EVENT_SESSION_DOWN)
        chaos->last_up_ns = cluster_now(chaos->cluster);
    if (++chaos->n_steps > STEPS_MAX) chaos_fail(chaos, "more than %d steps: it goes on for ever", STEPS_MAX);
}

/* ---- the end ---- */

static const char *not_quiet(const struct chaos *chaos, uint16_t *ret_node) {
    for (*ret_node = 0; *ret_node < chaos->topology.n_nodes; ++*ret_node) {
        const struct qn_node *node = cluster_node(chaos->cluster, *ret_node);
        const char *what;
        if (node == NULL) return "is not there";
        if (!qn_node_is_ready(node, &what) || !qn_node_is_idle(node, &what)) return what;
    }
    return NULL;
}

bool judge_is_quiet(void *context) {
    uint16_t node;
    return not_quiet(context, &node) == NULL;
}

void judge_quiet(struct chaos *chaos) {
    uint16_t node;
    const char *what = not_quiet(chaos, &node);
    for (uint16_t i = 0; what != NULL && i < chaos->topology.n_nodes; i++)
        if (cluster_node(chaos->cluster, i) != NULL) say_plane(qn_node_plane(cluster_node(chaos->cluster, i)));
    if (what != NULL) chaos_fail(chaos, "at rest, n%u is not: %s", node, what);
}

void judge_empty(struct chaos *chaos) {
    for (uint16_t i = 0; i < chaos->topology.n_nodes; i++) {
        const struct qn_node *node = cluster_node(chaos->cluster, i);
        const struct qn_plane *plane = qn_node_plane(node);
        if (qn_node_memories_used(node) > 0)
            chaos_fail(chaos, "n%u holds %u memories that nobody uses", i, qn_node_memories_used(node));
        if (qn_plane_n_owned(plane) > 0)
            chaos_fail(chaos, "n%u owns %zu qubits that nobody uses", i, qn_plane_n_owned(plane));
        if (qn_plane_n_groups(plane) > 0)
            chaos_fail(chaos, "n%u hosts %zu states that nobody uses", i, qn_plane_n_groups(plane));
    }
}
