/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "plane/internal.h"

/* ---- life ---- */

int qn_plane_new(const struct qn_plane_config *config, struct qn_plane **ret_plane) {
    if (config->n_nodes == 0 || config->self >= config->n_nodes || config->rank > 15) return -QN_EINVAL;
    struct qn_plane *plane = calloc(1, sizeof *plane);
    if (plane == NULL) return -QN_ENOMEM;
    plane->config = *config;
    plane->now_ns = config->now_ns;
    plane->down = calloc(config->n_nodes, sizeof *plane->down);
    plane->died = calloc(config->n_nodes, sizeof *plane->died);
    plane->last_born = calloc(config->n_nodes, sizeof *plane->last_born);
    plane->lives = calloc(config->n_nodes, sizeof *plane->lives);
    if (plane->down == NULL || plane->died == NULL || plane->last_born == NULL || plane->lives == NULL) {
        qn_plane_free(plane);
        return -QN_ENOMEM;
    }
    uint64_t first = config->first_sequence & ((UINT64_C(1) << 48) - 1);
    if (first == 0) first = 1; /* 0 is no qubit, and no operation. */
    plane->next_qubit = plane->next_op = plane->next_transfer = plane->next_inquiry = first;
    for (uint16_t node = 0; node < config->n_nodes; node++) plane->lives[node].present = QN_LIFE_UNKNOWN;
    plane->lives[config->self].present = life_of(first);
    *ret_plane = plane;
    return 0;
}

static void free_deferred(struct deferred_list *list) {
    for (struct deferred *d = list->first, *next; d != NULL; d = next) {
        next = d->next;
        deferred_free(d);
    }
}

static void free_tables(struct qn_plane *plane) {
    void *value;
    for (size_t i = 0; qn_map_next(&plane->groups, &i, NULL, &value);) group_free(value);
    for (size_t i = 0; qn_map_next(&plane->frozen, &i, NULL, &value); free(value))
        group_free(((struct frozen *)value)->group);
    for (size_t i = 0; qn_map_next(&plane->pending, &i, NULL, &value);) free(value);
    for (size_t i = 0; qn_map_next(&plane->qubits, &i, NULL, &value); free(value)) {
        inquiry_free(value);
        free_deferred(&((struct qubit *)value)->deferred);
    }
    struct qn_map *const maps[] = {&plane->qubits, &plane->groups, &plane->probation, &plane->frozen, &plane->pending};
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) qn_map_release(maps[i]);
}

void qn_plane_free(struct qn_plane *plane) {
    if (plane == NULL) return;
    free_tables(plane);
    free_deferred(&plane->inquiries);
    struct qn_plane_out out;
    while (qn_plane_next_out(plane, &out)) continue;
    wills_free(plane);
    while (plane->early != NULL) {
        struct out *next = plane->early->next;
        free(plane->early);
        plane->early = next;
    }
    free(plane->results.items);
    free(plane->arrivals.items);
    free(plane->down);
    free(plane->died);
    free(plane->last_born);
    free(plane->lives);
    explicit_bzero(plane->config.secret, sizeof plane->config.secret);
    free(plane);
}

void qn_plane_set_time(struct qn_plane *plane, uint64_t now_ns) { plane->now_ns = now_ns; }

/* ---- new qubits ---- */

static bool births_are_valid(const struct qn_plane *plane, const struct qn_birth *births, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (births[i].owner >= plane->config.n_nodes || plane->down[births[i].owner] ||
            !memory_is_valid(&births[i].memory))
            return false;
    return n >= 1 && n <= QN_STATE_MAX;
}

/* Fills the group and the records; nothing to undo but what is in the tables already. */
static int place(struct qn_plane *plane, struct group *group, const struct qn_birth *births) {
    for (size_t i = 0; i < group->n; i++) {
        struct member *m = &group->members[i];
        m->qubit = (uint64_t)plane->config.self << 48 | plane->next_qubit;
        m->owner = births[i].owner;
        m->owner_life = life_at(plane, m->owner);
        m->touched_ns = births[i].touched_ns;
        m->memory = births[i].memory;
        struct qubit *q = m->record = calloc(1, sizeof *q);
        int rc = q == NULL ? -QN_ENOMEM : qn_map_put(&plane->qubits, m->qubit, q);
        if (rc < 0) {
            free(q);
            group->n = i;
            return rc;
        }
        plane->next_qubit++;
        q->id = m->qubit;
        q->group = group;
    }
    return qn_map_put(&plane->groups, group->id, group);
}

static void displace(struct qn_plane *plane, struct group *group) {
    for (size_t i = 0; i < group->n; i++) free(qn_map_remove(&plane->qubits, group->members[i].qubit));
    group->state = NULL; /* Still the caller's. */
    group_free(group);
}

static void own_births(struct qn_plane *plane, const struct group *group) {
    for (size_t i = 0; i < group->n; i++) {
        struct member *m = &group->members[i];
        if (m->owner != plane->config.self) continue;
        qubit_own(plane, m->record);
        m->record->hint_group = group->id;
        m->record->hint_host = plane->config.self;
        m->record->hint_life = m->owner_life;
        m->record->touched_ns = m->touched_ns;
        m->record->memory = m->memory;
    }
}

int qn_plane_create(struct qn_plane *plane, const struct qn_birth *births, size_t n, struct qn_state *state,
                    qn_qubit *ret_qubits, uint64_t *ret_group) {
    if (!births_are_valid(plane, births, n) || n != qn_state_size(state)) return -QN_EINVAL;
    if (plane->qubits.len + n > PLANE_RECORDS_MAX || plane->n_out >= PLANE_OUT_MAX) return -QN_ELIMIT;
    struct group *group = group_new(group_new_id(plane), n);
    if (group == NULL) return -QN_ENOMEM;
    group->state = state;
    int rc = place(plane, group, births);
    if (rc < 0) {
        displace(plane, group);
        return rc;
    }
    own_births(plane, group);
    for (size_t i = 0; i < n; i++) ret_qubits[i] = group->members[i].qubit;
    *ret_group = group->id;
    r8_hand_over(plane, group, NULL);
    if (group->status == GROUP_FROZEN) { /* Born names the destination: no other hint is needed. */
        struct frozen *frozen =
            qn_map_get(&plane->frozen, (uint64_t)plane->config.self << 48 | (plane->next_transfer - 1));
        frozen->quiet = true;
    }
    settle(plane);
    return 0;
}

int qn_plane_prepare(struct qn_plane *plane, uint64_t now_ns, struct qn_memory memory, qn_qubit *ret_qubit) {
    struct qn_birth birth = {plane->config.self, now_ns, memory};
    struct qn_state *state;
    qn_qubit qubit;
    uint64_t group;
    int rc = qn_state_new_zero(1, &state);
    if (rc < 0) return rc;
    rc = qn_plane_create(plane, &birth, 1, state, &qubit, &group);
    if (rc < 0) {
        qn_state_free(state);
        return rc;
    }
    qubit_find(plane, qubit)->announced = true;
    *ret_qubit = qubit;
    return 0;
}

/* ---- arrivals ---- */

void arrival_push(struct qn_plane *plane, const struct qn_plane_arrival *arrival) {
    struct arrivals *a = &plane->arrivals;
    if (a->first + a->len == a->cap) {
        size_t cap = a->cap == 0 ? 64 : a->len * 2 < a->cap ? a->cap : 2 * a->cap;
        struct qn_plane_arrival *items = must(calloc(cap, sizeof *items));
        for (size_t i = 0; i < a->len; i++) items[i] = a->items[a->first + i];
        free(a->items);
        *a = (struct arrivals){items, 0, a->len, cap};
    }
    a->items[a->first + a->len++] = *arrival;
}

bool qn_plane_next_birth(struct qn_plane *plane, struct qn_plane_arrival *ret_arrival) {
    struct arrivals *a = &plane->arrivals;
    while (a->len > 0) {
        *ret_arrival = a->items[a->first++];
        a->len--;
        if (qn_plane_is_owned(plane, ret_arrival->qubit)) return true;
    }
    a->first = 0;
    return false;
}

static uint16_t host_of(const struct qn_plane *plane, const struct qubit *q) {
    if (q->group == NULL) return q->moved ? q->next_host : plane->config.self;
    return q->group->status == GROUP_FROZEN ? q->group->peer : plane->config.self;
}

int qn_plane_announce(struct qn_plane *plane, qn_qubit qubit, uint16_t owner, uint64_t group, uint64_t touched_ns,
                      const double will[3], uint32_t link, uint32_t origin, uint32_t create_id, uint64_t sequence) {
    struct qubit *q = qubit_find(plane, qubit);
    if (q == NULL || owner >= plane->config.n_nodes || touched_ns > INT64_MAX) return -QN_EINVAL;
    if (owner == plane->config.self) {
        if (!q->owned || q->announced) return -QN_EINVAL;
        for (size_t i = 0; i < 3; i++) q->will[i] = will[i];
        q->announced = true;
        arrival_push(plane, &(struct qn_plane_arrival){qubit, link, origin, create_id, sequence, touched_ns});
        return 0;
    }
    Qnet__V1__Born born = QNET__V1__BORN__INIT;
    born.qubit = qubit;
    born.group = group;
    born.host = host_of(plane, q);
    uint32_t life = q->group == NULL && q->moved ? q->next_life : life_at(plane, (uint16_t)born.host);
    born.host_life = life == QN_LIFE_UNKNOWN ? 0 : life + 1;
    born.touched_ns = (int64_t)touched_ns;
    born.link = link;
    born.origin = origin;
    born.create_id = create_id;
    born.sequence = sequence;
    send_born(plane, owner, &born, will);
    return 0;
}

/* ---- R13 ---- */

static bool has_remote_member(const struct qn_plane *plane, const struct group *group, uint16_t *ret_heir,
                              uint32_t *ret_life) {
    uint16_t heir = UINT16_MAX;
    for (size_t i = 0; i < group->n; i++) {
        uint16_t owner = group->members[i].owner;
        bool gone = is_gone(plane, owner, group->members[i].owner_life);
        if (owner == plane->config.self || gone || owner >= heir) continue;
        heir = owner;
        *ret_life = group->members[i].owner_life;
    }
    *ret_heir = heir;
    return heir != UINT16_MAX;
}

static void r13_leave(struct qn_plane *plane) {
    struct group **groups = must(malloc((plane->groups.len + 1) * sizeof(struct group *)));
    size_t n = 0, i = 0;
    for (void *value; qn_map_next(&plane->groups, &i, NULL, &value);) groups[n++] = value;
    for (i = 0; i < n; i++) {
        uint16_t heir;
        uint32_t life;
        if (groups[i]->status == GROUP_ACTIVE && has_remote_member(plane, groups[i], &heir, &life))
            send_ship(plane, ship(plane, groups[i], heir, life, QNET__V1__SHIP_KIND__SHIP_KIND_MOVE));
    }
    free(groups);
}

bool qn_plane_leave(struct qn_plane *plane) {
    r13_leave(plane);
    settle(plane);
    bool empty = plane->frozen.len == 0;
    size_t i = 0;
    uint16_t heir;
    uint32_t life;
    for (void *value; empty && qn_map_next(&plane->groups, &i, NULL, &value);)
        empty = !has_remote_member(plane, value, &heir, &life);
    return empty;
}

/* ---- numbers ---- */

size_t qn_plane_n_groups(const struct qn_plane *plane) { return plane->groups.len + plane->frozen.len; }
size_t qn_plane_n_owned(const struct qn_plane *plane) { return plane->n_owned; }
size_t qn_plane_n_pending(const struct qn_plane *plane) { return plane->pending.len; }

bool qn_plane_is_idle(const struct qn_plane *plane) {
    return plane->pending.len + plane->frozen.len + plane->probation.len + plane->n_deferred + plane->n_out +
                   plane->results.len + plane->arrivals.len ==
               0 &&
           plane->withheld == NULL && plane->awaited == NULL;
}

bool qn_plane_is_owned(const struct qn_plane *plane, qn_qubit qubit) {
    const struct qubit *q = qubit_find(plane, qubit);
    return q != NULL && q->owned && q->announced && !q->doomed;
}
