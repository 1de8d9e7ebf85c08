/* SPDX-License-Identifier: Apache-2.0 */
/* Records of qubits, groups, and messages put off. A record lives while the qubit is hosted, frozen, owned or waited
 * for here; after that it is history (a tombstone, or the result of a destroyed qubit) until PLANE_HISTORY_MAX younger
 * ones push it out. */
#include <stdlib.h>

#include "plane/internal.h"

void *must(void *allocated) {
    if (allocated == NULL) abort();
    return allocated;
}

void must_put(struct qn_map *map, uint64_t key, void *value) {
    if (qn_map_put(map, key, value) < 0) abort();
}

/* ---- lives ---- */

uint32_t life_of(uint64_t id) { return (uint32_t)(id >> LIFE_SHIFT) & LIFE_MASK; }

uint32_t life_at(const struct qn_plane *plane, uint16_t node) { return plane->lives[node].present; }

bool is_gone(const struct qn_plane *plane, uint16_t node, uint32_t life) {
    const struct lives *lives = &plane->lives[node];
    if (node == plane->config.self) return life != lives->present && life != QN_LIFE_UNKNOWN;
    for (unsigned i = 0; i < lives->n_gone && i < LIVES_KEPT; i++)
        if (lives->gone[i] == life) return true;
    return plane->down[node] && (life == QN_LIFE_UNKNOWN || life == lives->present);
}

/* ---- qubits ---- */

struct qubit *qubit_find(const struct qn_plane *plane, qn_qubit id) {
    return qn_map_get(&plane->qubits, id);
}

struct qubit *qubit_make(struct qn_plane *plane, qn_qubit id) {
    struct qubit *q = qubit_find(plane, id);
    if (q != NULL) return q;
    q = must(calloc(1, sizeof *q));
    q->id = id;
    must_put(&plane->qubits, id, q);
    return q;
}

bool qubit_is_hosted(const struct qubit *q) {
    return q != NULL && q->group != NULL && q->group->status != GROUP_FROZEN;
}

bool qubit_is_busy(const struct qubit *q) { return q != NULL && q->group != NULL && q->group->status != GROUP_ACTIVE; }

bool qubit_may_come(const struct qn_plane *plane, qn_qubit id, const struct qubit *q) {
    uint16_t origin = (uint16_t)(id >> 48);
    bool seen = q != NULL && (q->group != NULL || q->moved || q->destroyed);
    return !seen && origin != plane->config.self && origin < plane->config.n_nodes &&
           !is_gone(plane, origin, life_of(id));
}

void qubit_own(struct qn_plane *plane, struct qubit *q) {
    if (q->owned) return;
    q->owned = true;
    plane->n_owned++;
}

void qubit_disown(struct qn_plane *plane, struct qubit *q) {
    if (!q->owned) return;
    inquiry_free(q);
    q->owned = q->announced = q->doomed = false;
    q->moved = q->destroyed = false; /* Only we would ever ask, and we know. */
    plane->n_owned--;
    qubit_thaw(plane, q);
    qubit_untidy(plane, q);
}

void qubit_thaw(struct qn_plane *plane, struct qubit *q) {
    if (q->thawing || (q->deferred.first == NULL && pending_of(q, PENDING_FROZEN) == NULL)) return;
    q->thawing = true;
    q->next_thawing = NULL;
    if (plane->thawing_first == NULL)
        plane->thawing_first = q;
    else
        plane->thawing_last->next_thawing = q;
    plane->thawing_last = q;
}

void qubit_untidy(struct qn_plane *plane, struct qubit *q) {
    if (q->untidy) return;
    q->untidy = true;
    q->next_untidy = plane->untidy;
    plane->untidy = q;
}

static void history_remove(struct qn_plane *plane, struct qubit *q) {
    if (!q->in_history) return;
    if (q->older != NULL)
        q->older->younger = q->younger;
    else
        plane->oldest = q->younger;
    if (q->younger != NULL)
        q->younger->older = q->older;
    else
        plane->youngest = q->older;
    q->older = q->younger = NULL;
    q->in_history = false;
    plane->n_history--;
}

static void history_append(struct qn_plane *plane, struct qubit *q) {
    if (q->in_history) return;
    q->older = plane->youngest;
    if (plane->youngest != NULL)
        plane->youngest->younger = q;
    else
        plane->oldest = q;
    plane->youngest = q;
    q->in_history = true;
    plane->n_history++;
}

static void forget(struct qn_plane *plane, struct qubit *q) {
    history_remove(plane, q);
    qn_map_remove(&plane->qubits, q->id);
    free(q);
}

void tidy(struct qn_plane *plane) {
    while (plane->untidy != NULL) {
        struct qubit *q = plane->untidy;
        plane->untidy = q->next_untidy;
        q->untidy = false;
        if (q->group != NULL || q->owned || q->first != NULL || q->deferred.first != NULL)
            history_remove(plane, q);
        else if (q->moved || q->destroyed)
            history_append(plane, q);
        else
            forget(plane, q);
    }
    while (plane->n_history > PLANE_HISTORY_MAX) forget(plane, plane->oldest);
}

/* ---- messages put off ---- */

void deferred_append(struct deferred_list *list, struct deferred *message) {
    message->next = NULL;
    if (list->first == NULL) list->last = &list->first;
    *list->last = message;
    list->last = &message->next;
}

void defer(struct qn_plane *plane, struct qubit *q, const struct deferred *message) {
    struct deferred *copy = must(malloc(sizeof *copy));
    *copy = *message;
    deferred_append(q != NULL ? &q->deferred : &plane->inquiries, copy);
    plane->n_deferred++;
    if (q != NULL) qubit_untidy(plane, q);
}

void deferred_free(struct deferred *message) {
    if (message->kind == DEFERRED_SHIPMENT) group_free(message->shipment.group);
    if (message->kind == DEFERRED_WHO_HAS) who_has_free(&message->who_has);
    free(message);
}

/* ---- groups ---- */

struct group *group_new(uint64_t id, size_t n) {
    struct group *group = calloc(1, sizeof *group);
    struct member *members = calloc(n, sizeof *members);
    if (group == NULL || members == NULL) {
        free(group);
        free(members);
        return NULL;
    }
    *group = (struct group){.id = id, .n = n, .members = members};
    return group;
}

void group_free(struct group *group) {
    if (group == NULL) return;
    qn_state_free(group->state);
    free(group->members);
    free(group);
}

uint64_t group_new_id(struct qn_plane *plane) {
    uint64_t clock = plane->now_ns >> 10;
    uint64_t birth = clock > plane->last_birth ? clock : plane->last_birth + 1;
    plane->last_birth = birth;
    return (uint64_t)plane->config.rank << 60 | (birth & ((UINT64_C(1) << 44) - 1)) << 16 | plane->config.self;
}

size_t group_find(const struct group *group, qn_qubit qubit) {
    size_t i = 0;
    while (i < group->n && group->members[i].qubit != qubit) i++;
    return i;
}

bool group_has_owner(const struct group *group, uint16_t owner) {
    for (size_t i = 0; i < group->n; i++)
        if (group->members[i].owner == owner) return true;
    return false;
}

void group_drop(struct qn_plane *plane, struct group *group) {
    if (group->status == GROUP_PROBATION) qn_map_remove(&plane->probation, group->transfer);
    if (group->status != GROUP_FROZEN) qn_map_remove(&plane->groups, group->id);
    group_free(group);
}
