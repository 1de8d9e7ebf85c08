/* SPDX-License-Identifier: Apache-2.0 */
/* The simulator's view, and the invariants of README.md as far as one process can see them. */
#include <assert.h>
#include <stdlib.h>

#include "plane/internal.h"

static int decayed_copy(const struct qn_plane *plane, const struct group *group, const size_t *at, size_t n,
                        uint64_t now_ns, struct qn_state **ret_state) {
    struct member members[QN_STATE_MAX];
    struct group copy = {.n = group->n, .members = members};
    struct qn_rng rng;
    int rc = qn_state_copy(group->state, &copy.state);
    if (rc < 0) return rc;
    for (size_t i = 0; i < group->n; i++) members[i] = group->members[i];
    qn_rng_init(&rng, plane->config.seed, "inspect", group->members[at[0]].qubit);
    for (size_t i = 0; i < n; i++) group_decay(&copy, at[i], now_ns, &rng);
    *ret_state = copy.state;
    return 0;
}

int qn_plane_inspect(const struct qn_plane *plane, const qn_qubit *qubits, size_t n, uint64_t now_ns,
                     double *ret_tensor) {
    if (n < 1 || n > 2 || (n == 2 && qubits[0] == qubits[1])) return -QN_EINVAL;
    const struct group *group = NULL;
    size_t at[2];
    for (size_t i = 0; i < n; i++) {
        const struct qubit *q = qubit_find(plane, qubits[i]);
        if (!qubit_is_hosted(q) || (group != NULL && q->group != group)) return -QN_ENOT_FOUND;
        group = q->group;
        at[i] = group_find(group, qubits[i]);
    }
    struct qn_state *state;
    int rc = decayed_copy(plane, group, at, n, now_ns, &state);
    if (rc < 0) return rc;
    if (n == 2)
        qn_state_pair_tensor(state, at[0], at[1], ret_tensor);
    else {
        ret_tensor[0] = 1;
        qn_state_bloch(state, at[0], ret_tensor + 1);
    }
    qn_state_free(state);
    return 0;
}

static void visit_group(const struct group *group, void (*visit)(void *, qn_qubit, uint16_t, uint64_t, bool),
                        void *context) {
    for (size_t i = 0; i < group->n; i++)
        visit(context, group->members[i].qubit, group->members[i].owner, group->id, group->status == GROUP_FROZEN);
}

void qn_plane_each_hosted(const struct qn_plane *plane,
                          void (*visit)(void *context, qn_qubit qubit, uint16_t owner, uint64_t group, bool frozen),
                          void *context) {
    void *value;
    for (size_t i = 0; qn_map_next(&plane->groups, &i, NULL, &value);) visit_group(value, visit, context);
    for (size_t i = 0; qn_map_next(&plane->frozen, &i, NULL, &value);)
        visit_group(((const struct frozen *)value)->group, visit, context);
}

/* ---- invariants ---- */

static void check_group(const struct qn_plane *plane, const struct group *group) {
    assert(group->n <= QN_STATE_MAX);
    assert(group->n == 0 || qn_state_size(group->state) == group->n);
    bool alive = false;
    for (size_t i = 0; i < group->n; i++) {
        const struct member *m = &group->members[i];
        assert(m->record == qubit_find(plane, m->qubit) && m->record->group == group); /* I1, here. */
        assert(group_find(group, m->qubit) == i);
        alive = alive || !is_gone(plane, m->owner, m->owner_life);
    }
    if (group->status == GROUP_ACTIVE && alive) assert(group_has_owner(group, plane->config.self)); /* I2 */
    if (group->status == GROUP_PROBATION) assert(qn_map_get(&plane->probation, group->transfer) == group);
}

static void check_queue(const struct qubit *q) {
    size_t n = 0;
    for (const struct pending *p = q->first; p != NULL; p = p->next[p->records[0] == q ? 0 : 1], n++) {
        assert(p->records[0] == q || (p->op.n_qubits == 2 && p->records[1] == q));
        if (n > 0) assert(p->state == PENDING_QUEUED); /* One at a time. */
    }
}

static void check_waiting(const struct qubit *q) { /* I6: what could go on, does. */
    const struct pending *p = q->first;
    if (p == NULL) return;
    if (p->state == PENDING_FROZEN) {
        bool busy = false;
        for (size_t i = 0; i < p->op.n_qubits; i++) busy = busy || qubit_is_busy(p->records[i]);
        assert(busy);
    }
    if (p->state == PENDING_RECOVER) {
        bool asking = false;
        for (size_t i = 0; i < p->op.n_qubits; i++) asking = asking || p->records[i]->inquiry != NULL;
        assert(asking);
    }
}

static size_t check_qubit(const struct qn_plane *plane, const struct qubit *q) {
    assert(!q->thawing && !q->untidy);
    assert(q->owned || (q->first == NULL && q->inquiry == NULL));
    assert(q->group != NULL || q->owned || q->deferred.first != NULL || q->in_history);
    if (q->in_history) assert(q->group == NULL && !q->owned && q->deferred.first == NULL);
    if (q->deferred.first != NULL) assert(qubit_is_busy(q) || qubit_may_come(plane, q->id, q)); /* I6 */
    check_queue(q);
    check_waiting(q);
    size_t n = 0;
    for (const struct deferred *d = q->deferred.first; d != NULL; d = d->next) n++;
    return n;
}

void qn_plane_check(const struct qn_plane *plane) {
    void *value;
    uint64_t key;
    size_t n_owned = 0, n_deferred = 0;
    assert(plane->thawing_first == NULL && plane->ready_first == NULL && plane->untidy == NULL);
    for (size_t i = 0; qn_map_next(&plane->groups, &i, &key, &value);) {
        assert(((struct group *)value)->id == key && ((struct group *)value)->n > 0);
        check_group(plane, value);
    }
    for (size_t i = 0; qn_map_next(&plane->frozen, &i, NULL, &value);) {
        const struct group *group = ((const struct frozen *)value)->group;
        assert(group->status == GROUP_FROZEN);
        check_group(plane, group);
    }
    for (size_t i = 0; qn_map_next(&plane->qubits, &i, NULL, &value);) {
        n_deferred += check_qubit(plane, value);
        n_owned += ((struct qubit *)value)->owned ? 1 : 0;
    }
    for (const struct deferred *d = plane->inquiries.first; d != NULL; d = d->next) n_deferred++;
    assert(n_owned == plane->n_owned && n_deferred == plane->n_deferred);
    assert(plane->n_history <= PLANE_HISTORY_MAX);
}
