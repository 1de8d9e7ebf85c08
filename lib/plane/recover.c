/* SPDX-License-Identifier: Apache-2.0 */
/* R10, the end of another process, and R11, finding out where a qubit is when it may have gone down with one. */
#include <stdlib.h>

#include "base/canary.h"
#include "plane/internal.h"

enum { HAS_NO, HAS_TOMBSTONE, HAS_IT };
enum { NOT_YET, ANSWERED, NEWCOMER }; /* Of each node: it has (not) answered; or was asked later, and has not. */

/* ---- R11: who has it? ---- */

void inquiry_free(struct qubit *q) {
    if (q->inquiry == NULL) return;
    free(q->inquiry->answered);
    free(q->inquiry);
    q->inquiry = NULL;
}

/* A shipment received and put off counts: its members are in our custody. */
static bool has_in_deferred(const struct qn_plane *plane, qn_qubit qubit, Qnet__V1__Has *ret_has) {
    size_t i = 0;
    for (void *value; qn_map_next(&plane->qubits, &i, NULL, &value);) {
        const struct qubit *waited = value;
        for (const struct deferred *d = waited->deferred.first; d != NULL; d = d->next) {
            if (d->kind != DEFERRED_SHIPMENT) continue;
            const struct group *group = d->shipment.group;
            size_t at = group_find(group, qubit);
            if (at == group->n) continue;
            ret_has->status = HAS_IT;
            ret_has->version = group->members[at].version + 1;
            ret_has->group = group->id;
            return true;
        }
    }
    return false;
}

static Qnet__V1__Has look(const struct qn_plane *plane, qn_qubit qubit, uint64_t inquiry) {
    Qnet__V1__Has has = QNET__V1__HAS__INIT;
    const struct qubit *q = qubit_find(plane, qubit);
    has.qubit = qubit;
    has.inquiry = inquiry;
    has.host = plane->config.self;
    has.host_life = life_at(plane, plane->config.self) + 1;
    if (q != NULL && q->group != NULL) {
        has.status = HAS_IT;
        has.version = q->group->members[group_find(q->group, qubit)].version;
        has.group = q->group->id;
    } else if (has_in_deferred(plane, qubit, &has))
        return has;
    else if (q != NULL && q->destroyed) { /* Nobody knows better: the result is here. */
        has.status = HAS_IT;
        has.version = UINT32_MAX;
    } else if (q != NULL && q->moved) {
        has.status = HAS_TOMBSTONE;
        has.version = q->next_version;
        has.host = q->next_host;
        has.host_life = q->next_life == QN_LIFE_UNKNOWN ? 0 : q->next_life + 1;
    }
    return has;
}

/* R11, last resort: the qubit is what its owner would have found, its marginal. */
static void resurrect(struct qn_plane *plane, struct qubit *q) {
    struct group *group = must(group_new(group_new_id(plane), 1));
    if (qn_state_new_bloch(q->will, &group->state) < 0) abort(); /* Memory: wills are checked when they come. */
    q->hint_version++;
    group->members[0] = (struct member){.qubit = q->id,
                                        .record = q,
                                        .owner = plane->config.self,
                                        .owner_life = life_at(plane, plane->config.self),
                                        .version = q->hint_version,
                                        .touched_ns = q->touched_ns,
                                        .memory = q->memory};
    must_put(&plane->groups, group->id, group);
    q->group = group;
    q->moved = false;
    q->hint_group = group->id;
    q->hint_host = plane->config.self;
    q->hint_life = life_at(plane, plane->config.self);
    qubit_thaw(plane, q);
}

static void follow(struct qubit *q, const struct inquiry *inquiry) {
    q->hint_host = inquiry->host;
    q->hint_life = inquiry->life;
    if (inquiry->version != UINT32_MAX && inquiry->version > q->hint_version) q->hint_version = inquiry->version;
    if (inquiry->group != 0) q->hint_group = inquiry->group;
}

static void conclude(struct qn_plane *plane, struct qubit *q) {
    struct inquiry *inquiry = q->inquiry;
    if (inquiry->id == 0 || inquiry->n_missing > 0) return;
    bool found = inquiry->status != HAS_NO;
    bool overtaken =
        found && q->hint_version > inquiry->version && !is_gone(plane, q->hint_host, q->hint_life); /* By a hint. */
    bool known = q->group != NULL || overtaken;
    if (!known && found && !is_gone(plane, inquiry->host, inquiry->life))
        follow(q, inquiry);
    else if (!known)
        resurrect(plane, q);
    inquiry_free(q);
    struct pending *pending = pending_of(q, PENDING_RECOVER);
    if (pending != NULL) op_ready(plane, pending);
}

static void note(struct inquiry *inquiry,
                 const Qnet__V1__Has *has) { /* The highest version wins, custody before tombstones. */
    if (has->status == HAS_NO) return;
    if (inquiry->status != HAS_NO &&
        (has->version < inquiry->version || (has->version == inquiry->version && has->status <= inquiry->status)))
        return;
    inquiry->status = has->status;
    inquiry->version = has->version;
    inquiry->host = (uint16_t)has->host;
    inquiry->life = has->host_life >= 1 && has->host_life <= LIFE_MASK + 1 ? has->host_life - 1 : QN_LIFE_UNKNOWN;
    inquiry->group = has->status == HAS_IT ? has->group : 0;
}

/* R11: asks everybody alive where q is. Without a known crash the news of one must be on its way: wait for it. */
void r11_recover(struct qn_plane *plane, struct qubit *q, struct pending *pending) {
    if (pending != NULL) pending->state = PENDING_RECOVER;
    inquiry_free(q);
    struct inquiry *inquiry = q->inquiry = must(calloc(1, sizeof *inquiry));
    inquiry->round = plane->round;
    if (!plane->any_down) return;
    inquiry->id = ++plane->next_inquiry;
    inquiry->answered = must(calloc(plane->config.n_nodes, 1));
    Qnet__V1__Has own = look(plane, q->id, inquiry->id);
    note(inquiry, &own);
    for (uint16_t node = 0; node < plane->config.n_nodes; node++) {
        if (node == plane->config.self || plane->down[node]) continue;
        inquiry->n_missing++;
        send_who_has(plane, node, life_at(plane, node), q->id, inquiry->id);
    }
    conclude(plane, q);
}

void who_has_free(struct who_has *who_has) {
    free(who_has->causes);
    free(who_has->lives);
}

static bool knows(const struct qn_plane *plane, uint16_t node, uint32_t life) {
    if (life == QN_LIFE_UNKNOWN) return plane->died[node];
    return node == plane->config.self || is_gone(plane, node, life);
}

/* R11, asked: answered only when all the crashes it is about have been dealt with here. */
void r11_who_has(struct qn_plane *plane, struct who_has *who_has) {
    for (size_t i = 0; i < who_has->n_causes; i++)
        if (!knows(plane, who_has->causes[i], who_has->lives[i])) {
            defer(plane, NULL, &(struct deferred){.kind = DEFERRED_WHO_HAS, .who_has = *who_has});
            return;
        }
    Qnet__V1__Has has = look(plane, who_has->qubit, who_has->inquiry);
    send_has(plane, who_has->asker, &has);
    who_has_free(who_has);
}

/* Whoever answered has met lives that we took for dead nodes: they may have it. */
static void ask_newcomers(struct qn_plane *plane, struct qubit *q, const Qnet__V1__Has *has) {
    for (size_t i = 0; i < has->n_nodes; i++) {
        uint16_t node = (uint16_t)has->nodes[i];
        uint32_t life = has->lives[i] - 1;
        if (node == plane->config.self || !plane->down[node] || life > LIFE_MASK || is_gone(plane, node, life))
            continue;
        if (q->inquiry->answered[node] == NEWCOMER) continue;
        q->inquiry->answered[node] = NEWCOMER;
        q->inquiry->n_missing++;
        send_who_has(plane, node, life, q->id, q->inquiry->id);
    }
}

void r11_has(struct qn_plane *plane, uint16_t from, const Qnet__V1__Has *has) {
    struct qubit *q = qubit_find(plane, has->qubit);
    struct inquiry *inquiry = q == NULL ? NULL : q->inquiry;
    if (inquiry == NULL || inquiry->id == 0 || inquiry->id != has->inquiry || inquiry->answered[from] == ANSWERED)
        return;
    inquiry->answered[from] = ANSWERED;
    inquiry->n_missing--;
    ask_newcomers(plane, q, has);
    note(inquiry, has);
    conclude(plane, q);
}

/* ---- R10: the end of a process ---- */

/* Handlers below change the tables: what to visit is listed first, by key, and looked up again. */
struct keys {
    uint64_t *items;
    size_t n;
};

static struct keys keys_of(const struct qn_map *map) {
    struct keys keys = {must(malloc((map->len + 1) * sizeof *keys.items)), 0};
    size_t i = 0;
    for (uint64_t key; qn_map_next(map, &i, &key, NULL);) keys.items[keys.n++] = key;
    return keys;
}

static void take_back(struct qn_plane *plane, struct frozen *frozen) {
    struct group *group = roll_back(plane, frozen);
    if (group != NULL) {
        group_trace_gone(plane, group);
        if (group->n == 0) {
            group_drop(plane, group);
            group = NULL;
        }
    }
    if (frozen->kind == QNET__V1__SHIP_KIND__SHIP_KIND_PUSH) {
        struct pending *pending = pending_find(plane, frozen->op.id);
        struct qubit *target = qubit_find(plane, frozen->target);
        if (pending != NULL && target != NULL && target->owned) {
            pending->state = PENDING_QUEUED;
            if (target->group == NULL)
                r11_recover(plane, target, pending);
            else
                op_ready(plane, pending);
        }
    }
    r8_hand_over(plane, group, frozen->has_answer ? &frozen->answer : NULL);
    free(frozen);
}

static void take_back_all(struct qn_plane *plane, uint16_t dead) {
    struct keys keys = keys_of(&plane->frozen);
    for (size_t i = 0; i < keys.n; i++) {
        struct frozen *frozen = qn_map_get(&plane->frozen, keys.items[i]);
        if (frozen != NULL && frozen->to == dead && is_gone(plane, dead, frozen->to_life) && !QN_CANARY(3))
            take_back(plane, frozen);
        else if (frozen != NULL)
            group_trace_gone(plane, frozen->group); /* As its receiver does. */
    }
    free(keys.items);
}

static void trace_out(struct qn_plane *plane) {
    struct keys keys = keys_of(&plane->groups);
    for (size_t i = 0; i < keys.n; i++) {
        struct group *group = qn_map_get(&plane->groups, keys.items[i]);
        if (group == NULL) continue;
        group_trace_gone(plane, group);
        if (group->n == 0) group_drop(plane, group);
    }
    free(keys.items);
}

static void end_probation(struct qn_plane *plane, uint16_t dead) {
    struct keys keys = keys_of(&plane->probation);
    for (size_t i = 0; i < keys.n; i++) {
        struct group *group = qn_map_get(&plane->probation, keys.items[i]);
        if (group != NULL && group->peer == dead && is_gone(plane, dead, life_of(group->transfer)))
            r7_confirm(plane, group);
    }
    free(keys.items);
}

static void sort_deferred(struct qn_plane *plane, struct deferred_list *list, struct deferred_list *ret_shipments,
                          struct deferred_list *ret_others) {
    struct deferred *next = list->first;
    *list = (struct deferred_list){0};
    for (struct deferred *d = next; d != NULL; d = next) {
        next = d->next;
        if (d->kind == DEFERRED_SHIPMENT && is_gone(plane, d->shipment.from, life_of(d->shipment.transfer)))
            d->shipment.orphan = true;
        bool gone =
            (d->kind == DEFERRED_REQUEST && is_gone(plane, d->request.op.requester, life_of(d->request.op.id))) ||
            (d->kind == DEFERRED_WHO_HAS && is_gone(plane, d->who_has.asker, life_of(d->who_has.inquiry)));
        if (gone) {
            plane->n_deferred--;
            deferred_free(d);
        } else
            deferred_append(d->kind == DEFERRED_SHIPMENT ? ret_shipments : ret_others, d);
    }
}

static void retry_list(struct qn_plane *plane, struct deferred_list *list) {
    while (list->first != NULL) {
        struct deferred *d = list->first;
        list->first = d->next;
        retry(plane, d);
    }
}

/* Custody first, queries after. */
static void retry_all(struct qn_plane *plane) {
    struct deferred_list shipments = {0}, others = {0};
    struct keys keys = keys_of(&plane->qubits);
    for (size_t i = 0; i < keys.n; i++) {
        struct qubit *q = qubit_find(plane, keys.items[i]);
        if (q->deferred.first == NULL) continue;
        sort_deferred(plane, &q->deferred, &shipments, &others);
        qubit_untidy(plane, q);
    }
    free(keys.items);
    sort_deferred(plane, &plane->inquiries, &shipments, &others);
    retry_list(plane, &shipments);
    retry_list(plane, &others);
}

static void recover_ops(struct qn_plane *plane) {
    struct keys keys = keys_of(&plane->pending);
    for (size_t i = 0; i < keys.n; i++) {
        struct pending *pending = pending_find(plane, keys.items[i]);
        if (pending == NULL) continue;
        if (pending->state == PENDING_FROZEN) op_ready(plane, pending);
        if (pending->state != PENDING_ASKED && pending->state != PENDING_FETCH && pending->state != PENDING_RECOVER)
            continue;
        recover_op(plane, pending);
    }
    free(keys.items);
}

static void recover_qubits(struct qn_plane *plane) {
    struct keys keys = keys_of(&plane->qubits);
    for (size_t i = 0; i < keys.n; i++) {
        struct qubit *q = qubit_find(plane, keys.items[i]);
        if (q == NULL || !q->owned) continue;
        uint16_t maker = (uint16_t)(q->id >> 48);
        bool orphan = maker != plane->config.self && is_gone(plane, maker, life_of(q->id));
        if (!q->announced && orphan && !q->doomed) plane_discard(plane, q->id); /* Its Born went down, too. */
        if (!q->announced && !q->doomed) continue;                              /* Born comes, with the will. */
        if (q->inquiry != NULL) {
            if (q->inquiry->round != plane->round) r11_recover(plane, q, NULL);
        } else if (q->group == NULL && (is_gone(plane, q->hint_host, q->hint_life) || (orphan && q->hint_version == 0)))
            r11_recover(plane, q, q->first != NULL && q->first->state == PENDING_RECOVER ? q->first : NULL);
    }
    free(keys.items);
}

/* R10: frozen shipments to the dead come back, its qubits are traced out, what waited for it is decided, and where our
 * own qubits are is found out again. */
static void r10_down(struct qn_plane *plane, uint16_t dead) {
    plane->died[dead] = plane->any_down = true;
    plane->round++;
    take_back_all(plane, dead);
    trace_out(plane);
    end_probation(plane, dead);
    retry_all(plane);
    recover_ops(plane);
    recover_qubits(plane);
    r12_down(plane);
    settle(plane);
}

void qn_plane_on_down(struct qn_plane *plane, uint16_t node, uint32_t life) {
    if (node >= plane->config.n_nodes || node == plane->config.self) return;
    struct lives *lives = &plane->lives[node];
    bool present = life == QN_LIFE_UNKNOWN || lives->present == QN_LIFE_UNKNOWN || lives->present == life;
    if (is_gone(plane, node, life) && (life == QN_LIFE_UNKNOWN || lives->n_gone > 0)) return;
    if (life != QN_LIFE_UNKNOWN) lives->gone[lives->n_gone++ % LIVES_KEPT] = life;
    if (present) {
        plane->down[node] = true;
        lives->present = life;
        plane->last_born[node] = 0;
    }
    release_early(plane, node);
    r10_down(plane, node);
}

void qn_plane_meet(struct qn_plane *plane, uint16_t node, uint32_t life) {
    if (node >= plane->config.n_nodes || node == plane->config.self) return;
    struct lives *lives = &plane->lives[node];
    if (lives->present != QN_LIFE_UNKNOWN && lives->present != life && !plane->down[node])
        qn_plane_on_down(plane, node, lives->present);
    lives->present = life;
    plane->down[node] = false;
    release_early(plane, node);
}

/* ---- who is needed ---- */

static uint32_t heard_in(const struct qn_plane *plane, const struct group *group, uint16_t node) {
    for (size_t i = 0; i < group->n; i++) {
        const struct member *m = &group->members[i];
        if (m->owner == node && m->owner_life != QN_LIFE_UNKNOWN && !is_gone(plane, node, m->owner_life))
            return m->owner_life;
    }
    return QN_LIFE_UNKNOWN;
}

uint32_t qn_plane_heard_of(const struct qn_plane *plane, uint16_t node) {
    void *value;
    uint32_t life = plane->down[node] ? QN_LIFE_UNKNOWN : life_at(plane, node);
    for (size_t i = 0; life == QN_LIFE_UNKNOWN && qn_map_next(&plane->groups, &i, NULL, &value);)
        life = heard_in(plane, value, node);
    for (size_t i = 0; life == QN_LIFE_UNKNOWN && qn_map_next(&plane->frozen, &i, NULL, &value);)
        life = heard_in(plane, ((const struct frozen *)value)->group, node);
    for (size_t i = 0; life == QN_LIFE_UNKNOWN && qn_map_next(&plane->qubits, &i, NULL, &value);) {
        const struct qubit *q = value;
        if (q->owned && q->group == NULL && q->hint_host == node && !is_gone(plane, node, q->hint_life))
            life = q->hint_life;
    }
    for (const struct out *out = plane->early; life == QN_LIFE_UNKNOWN && out != NULL; out = out->next)
        if (out->to == node && !is_gone(plane, node, out->life)) life = out->life;
    return life;
}

static void mark(const struct qn_plane *plane, bool *marks, uint16_t node) {
    if (node < plane->config.n_nodes && node != plane->config.self) marks[node] = true;
}

static void mark_owners(const struct qn_plane *plane, bool *marks, const struct group *group) {
    for (size_t i = 0; i < group->n; i++) mark(plane, marks, group->members[i].owner);
    if (group->status != GROUP_ACTIVE) mark(plane, marks, group->peer);
}

static void mark_asked(const struct qn_plane *plane, bool *marks, const struct inquiry *inquiry) {
    for (uint16_t node = 0; inquiry->id != 0 && node < plane->config.n_nodes; node++)
        if (inquiry->answered[node] == NEWCOMER || (inquiry->answered[node] == NOT_YET && !plane->down[node]))
            mark(plane, marks, node);
}

static void mark_deferred(const struct qn_plane *plane, bool *marks, const struct qubit *q) {
    if (q->deferred.first != NULL && q->group == NULL) mark(plane, marks, (uint16_t)(q->id >> 48));
    for (const struct deferred *d = q->deferred.first; d != NULL; d = d->next)
        if (d->kind == DEFERRED_SHIPMENT) mark(plane, marks, d->shipment.from);
}

void qn_plane_mark_needed(const struct qn_plane *plane, bool *marks) {
    void *value;
    qn_plane_mark_unmet(plane, marks);
    mark_noting(plane, marks, 0);
    for (size_t i = 0; qn_map_next(&plane->groups, &i, NULL, &value);) mark_owners(plane, marks, value);
    for (size_t i = 0; qn_map_next(&plane->frozen, &i, NULL, &value);)
        mark_owners(plane, marks, ((const struct frozen *)value)->group);
    for (size_t i = 0; qn_map_next(&plane->qubits, &i, NULL, &value);) {
        const struct qubit *q = value;
        mark_deferred(plane, marks, q);
        if (!q->owned) continue;
        if (q->group == NULL) mark(plane, marks, q->hint_host);
        if (!q->announced) mark(plane, marks, (uint16_t)(q->id >> 48));
        if (q->inquiry != NULL) mark_asked(plane, marks, q->inquiry);
    }
}

static void mark_held(const struct qn_plane *plane, bool *marks, uint64_t op_id) {
    size_t i = 0;
    for (void *value; qn_map_next(&plane->frozen, &i, NULL, &value);) {
        const struct frozen *frozen = value;
        if (frozen->has_answer && frozen->answer.op_id == op_id) mark(plane, marks, frozen->to);
    }
}

void qn_plane_mark_awaited(const struct qn_plane *plane, bool *marks) {
    size_t i = 0;
    for (void *value; qn_map_next(&plane->pending, &i, NULL, &value);) {
        const struct pending *pending = value;
        if (pending->state == PENDING_HELD) mark_held(plane, marks, pending->op.id);
        mark_noting(plane, marks, pending->op.id);
        for (size_t k = 0; k < pending->op.n_qubits; k++) {
            const struct qubit *q = pending->records[k];
            if (q->inquiry != NULL)
                mark_asked(plane, marks, q->inquiry);
            else if (q->group != NULL && q->group->status != GROUP_ACTIVE)
                mark(plane, marks, q->group->peer);
            else if (q->group == NULL && (pending->state == PENDING_ASKED || pending->state == PENDING_FETCH))
                mark(plane, marks, q->hint_host);
        }
    }
}
