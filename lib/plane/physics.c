/* SPDX-License-Identifier: Apache-2.0 */
/* R1: operations on hosted groups. Noise is lazy and clocked by the owner: a qubit decays from the time it was last
 * touched up to the time of the operation, then the gate acts, then gate noise. Noise on one qubit commutes with
 * everything done to others, so no two clocks are ever compared.
 * Every draw is keyed by the operation, so it does not depend on what else the host is doing. Draws follow the file's
 * seed, but those of a key's bits this process's secret. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/csprng.h"
#include "plane/internal.h"

/* ---- what an operation may look like ---- */

static size_t op_n_qubits(op_kind kind) {
    if (kind < OP(MEASURE)) return qn_gate_qubits((enum qn_gate)kind);
    return kind == OP(BELL) ? 2 : kind <= OP(IDLE) ? 1 : 0;
}

bool op_destroys(op_kind kind) { return kind == OP(MEASURE) || kind == OP(BELL) || kind == OP(DISCARD); }

static bool op_has_axis(op_kind kind) { return kind == OP(MEASURE) || kind == OP(PROJECT); }

static bool args_are_valid(struct op *op) {
    for (size_t i = 0; i < op->n_args; i++)
        if (!isfinite(op->args[i])) return false;
    if (op->kind == OP(IDLE) && op->n_args == 2) return memory_is_valid(&(struct qn_memory){op->args[0], op->args[1]});
    if (op_has_axis(op->kind) || op->kind == OP(ROT)) {
        double length = hypot(hypot(op->args[0], op->args[1]), op->args[2]);
        if (op->n_args != (op->kind == OP(ROT) ? 4 : 3) || !(length > 1e-6 && length < 1e6)) return false;
        for (size_t i = 0; i < 3 && op_has_axis(op->kind); i++) op->args[i] /= length;
        return true;
    }
    return op->n_args == (op->kind < OP(MEASURE) ? qn_gate_args((enum qn_gate)op->kind) : 0);
}

bool op_is_valid(const struct qn_plane *plane, struct op *op) {
    if (op->kind < OP(X) || op->kind > OP(IDLE)) return false;
    if (op->n_qubits == 0 || op->n_qubits != op_n_qubits(op->kind)) return false;
    if (op->qubits[0] == 0 || (op->n_qubits == 2 && (op->qubits[1] == 0 || op->qubits[0] == op->qubits[1])))
        return false;
    if (op->requester >= plane->config.n_nodes || op->id >> 48 != op->requester) return false;
    if (!(op->depolarise >= 0 && op->depolarise <= 1)) return false;
    if (!(op->readout_error >= 0 && op->readout_error <= 1)) return false;
    return args_are_valid(op);
}

bool memory_is_valid(const struct qn_memory *memory) {
    double t1 = memory->t1_s, t2 = memory->t2_s;
    if (!(t1 >= 0 && t2 >= 0)) return false;
    return t1 == 0 || t2 <= 2 * t1 * (1 + 1e-9);
}

/* ---- one group ---- */

void group_decay(struct group *group, size_t at, uint64_t now_ns, struct qn_rng *rng) {
    struct member *m = &group->members[at];
    if (now_ns <= m->touched_ns) return;
    double t1 = m->memory.t1_s, t2 = m->memory.t2_s;
    if (t2 == 0 && t1 > 0) t2 = 2 * t1; /* No dephasing of its own: what relaxation alone leaves. */
    if (t1 > 0 || t2 > 0) qn_state_t1t2(group->state, at, (double)(now_ns - m->touched_ns) * 1e-9, t1, t2, rng);
    m->touched_ns = now_ns;
}

static void member_remove(struct qn_plane *plane, struct group *group, size_t at) {
    struct qubit *q = group->members[at].record;
    group->n--;
    memmove(&group->members[at], &group->members[at + 1], (group->n - at) * sizeof *group->members);
    if (q == NULL) return;
    q->group = NULL;
    qubit_thaw(plane, q);
    qubit_untidy(plane, q);
}

static void group_remove(struct qn_plane *plane, struct group *group, size_t at, struct qn_rng *rng) {
    if (group->n > 1)
        qn_state_remove(group->state, at, rng);
    else {
        qn_state_free(group->state);
        group->state = NULL;
    }
    member_remove(plane, group, at);
}

void group_trace(struct qn_plane *plane, struct group *group, size_t at) {
    struct qn_rng rng;
    qn_rng_init(&rng, plane->config.seed, "trace", group->members[at].qubit);
    group_remove(plane, group, at, &rng);
}

void group_trace_gone(struct qn_plane *plane, struct group *group) {
    for (size_t i = group->n; i-- > 0;)
        if (is_gone(plane, group->members[i].owner, group->members[i].owner_life)) group_trace(plane, group, i);
}

static void adopt(struct group *low, struct group *high, size_t keep) { /* high's first `keep` members, after low's. */
    size_t n = low->n + keep;
    if (n > 0) low->members = must(realloc(low->members, n * sizeof *low->members));
    for (size_t i = 0; i < keep; i++) {
        low->members[low->n + i] = high->members[i];
        low->members[low->n + i].record->group = low;
    }
    low->n = n;
    high->n = 0;
}

static void merge(struct qn_plane *plane, struct group *low, struct group *high, struct qn_rng *rng) {
    if (qn_state_merge(&low->state, high->state, rng) < 0) abort(); /* The size was checked: memory. */
    high->state = NULL;
    adopt(low, high, high->n);
    group_drop(plane, high);
}

static void destroyed(struct qn_plane *plane, struct qubit *q, const struct op *op, uint32_t outcome) {
    q->moved = false;
    if (op->requester == plane->config.self) return; /* The owner itself needs no record. */
    q->destroyed = true;
    q->last_op = op->id;
    q->last_outcome = outcome;
}

/* ---- wills ---- */

struct marginals { /* Of other owners' qubits that stay behind when a result is drawn (R12). */
    size_t n;
    qn_qubit qubits[2 * QN_STATE_MAX];
    double bloch[2 * QN_STATE_MAX][3];
};

static void marginals_add(struct marginals *before, const struct qn_plane *plane, const struct op *op,
                          const struct group *group) {
    for (size_t i = 0; i < group->n; i++) {
        const struct member *m = &group->members[i];
        if (m->owner == plane->config.self || m->qubit == op->qubits[0]) continue;
        if (op->n_qubits == 2 && m->qubit == op->qubits[1]) continue;
        before->qubits[before->n] = m->qubit;
        qn_state_bloch(group->state, i, before->bloch[before->n++]);
    }
}

static bool is_heir(const struct qn_plane *plane, const struct group *group, uint16_t owner) {
    if (group_has_owner(group, plane->config.self)) return false;
    for (size_t i = 0; i < group->n; i++)
        if (group->members[i].owner < owner && !is_gone(plane, group->members[i].owner, group->members[i].owner_life))
            return false;
    return true; /* It gets the state itself. */
}

/* R12: an owner's will is the marginal given all released outcomes; told before the outcome is (wills.c). */
static void r12_refresh_wills(struct qn_plane *plane, const struct op *op, const struct marginals *before,
                              const struct group *group) {
    for (size_t k = 0; k < before->n; k++) {
        size_t at = group_find(group, before->qubits[k]);
        const struct member *m = &group->members[at];
        if (at == group->n || is_heir(plane, group, m->owner)) continue;
        struct hint hint = {
            m->qubit,        group->id, plane->config.self, m->version, .life = life_at(plane, plane->config.self),
            .has_will = true};
        qn_state_bloch(group->state, at, hint.will);
        double change = 0;
        for (size_t i = 0; i < 3; i++) change = fmax(change, fabs(hint.will[i] - before->bloch[k][i]));
        if (change <= 1e-9) continue;
        hint.outcome_of = op->id;
        await_note(plane, op->id, m->owner, m->owner_life);
        send_hint(plane, m->owner, m->owner_life, &hint);
    }
}

/* ---- execution ---- */

static uint32_t flip(uint32_t outcome, unsigned bits, double error, struct qn_rng *rng) {
    for (unsigned i = 0; i < bits && error > 0; i++)
        if (qn_rng_double(rng) < error) outcome ^= 1u << i;
    return outcome;
}

static void depolarise(struct group *group, const struct op *op, const size_t *at, struct qn_rng *rng) {
    if (op->depolarise == 0) return;
    if (op->n_qubits == 2)
        qn_state_depolarise2(group->state, at[0], at[1], 1 - op->depolarise, rng);
    else
        qn_state_depolarise1(group->state, at[0], 1 - op->depolarise, rng);
}

static void start_clock(struct group *group, size_t at, const struct op *op) {
    group->members[at].memory = (struct qn_memory){op->args[0], op->args[1]};
    group->members[at].touched_ns = op->times_ns[0];
}

static uint32_t act(struct group *group, const struct op *op, const size_t *at, double u, struct qn_rng *rng) {
    uint32_t outcome = 0;
    if (op->kind == OP(IDLE) && op->n_args == 2) {
        start_clock(group, at[0], op);
        return 0;
    }
    for (size_t i = 0; i < op->n_qubits; i++) group_decay(group, at[i], op->times_ns[i], rng);
    switch (op->kind) {
    case OP(MEASURE):
    case OP(PROJECT):
        depolarise(group, op, at, rng);
        outcome = (uint32_t)qn_state_measure(group->state, at[0], op->args, u);
        return flip(outcome, 1, op->readout_error, rng);
    case OP(BELL):
        depolarise(group, op, at, rng);
        outcome = (uint32_t)qn_state_bell_measure(group->state, at[0], at[1], u);
        return flip(outcome, 2, op->readout_error, rng);
    case OP(RESET):
        qn_state_reset(group->state, at[0], rng);
        break;
    case OP(DISCARD):
    case OP(IDLE):
        return 0;
    default:
        if (qn_state_gate(group->state, (enum qn_gate)op->kind, at, op->args) < 0) abort(); /* It was checked. */
    }
    depolarise(group, op, at, rng);
    return 0;
}

/* A swap of two pairs without the state of four. Depolarising both qubits before a Bell measurement is the same as
 * depolarising one: a random Pauli on either only permutes the Bell states. */
static uint32_t swap(struct qn_plane *plane, const struct op *op, struct group *low, struct group *high, double u,
                     struct qn_rng *rng) {
    struct group *groups[2] = {low, high};
    size_t at[2];
    for (size_t i = 0; i < 2; i++) {
        size_t which = group_find(groups[i], op->qubits[0]) < groups[i]->n ? 0 : 1;
        at[i] = group_find(groups[i], op->qubits[which]);
        group_decay(groups[i], at[i], op->times_ns[which], rng);
    }
    if (op->depolarise > 0) qn_state_depolarise1(low->state, at[0], 1 - op->depolarise, rng);
    int outcome = qn_state_swap_kernel(low->state, at[0], high->state, at[1], u, &low->state);
    if (outcome < 0) abort(); /* Memory. */
    high->state = NULL;
    for (size_t i = 0; i < 2; i++) member_remove(plane, groups[i], at[i]);
    adopt(low, high, high->n);
    group_drop(plane, high);
    return flip((uint32_t)outcome, 2, op->readout_error, rng);
}

static bool is_pair(const struct group *group) { return group->n == 2 && !qn_state_is_trajectory(group->state); }

static void note(const struct qubit *q, const struct op *op, uint32_t outcome) {
    struct member *m = &q->group->members[group_find(q->group, q->id)];
    m->last_op = op->id;
    m->last_outcome = outcome;
}

static uint32_t act_and_note(struct qn_plane *plane, const struct op *op, struct group *group, double u,
                             struct qn_rng *rng) {
    size_t at[2];
    for (size_t i = 0; i < op->n_qubits; i++) at[i] = group_find(group, op->qubits[i]);
    uint32_t outcome = act(group, op, at, u, rng);
    for (size_t i = 0; i < op->n_qubits; i++) note(group->members[at[i]].record, op, outcome);
    for (size_t i = 0; i < op->n_qubits && op_destroys(op->kind); i++)
        group_remove(plane, group, group_find(group, op->qubits[i]), rng);
    return outcome;
}

/* The operation's own block of the secret stream: ids never come twice in a life, and each life has another secret. */
static void seed_draws(const struct qn_plane *plane, const struct op *op, struct qn_rng *ret_rng, double *ret_u) {
    qn_rng_init(ret_rng, plane->config.seed, "measure", op->id);
    *ret_u = qn_rng_double(ret_rng);
    if (!op->secret) return;
    struct qn_csprng secret;
    qn_csprng_init(&secret, plane->config.secret);
    secret.counter = op->id;
    *ret_u = (double)(qn_csprng_u64(&secret) >> 11) * 0x1p-53;
    qn_rng_init(ret_rng, qn_csprng_u64(&secret), "measure", op->id);
    qn_csprng_release(&secret);
}

int r1_execute(struct qn_plane *plane, const struct op *op, struct group **ret_group, uint32_t *ret_outcome) {
    struct qubit *q[2] = {qubit_find(plane, op->qubits[0]), NULL};
    struct group *low = q[0]->group, *high = NULL;
    const struct member *m = &low->members[group_find(low, op->qubits[0])];
    bool again = m->last_op == op->id; /* Sent again after a crash: done once, answered as often as asked. */
    uint32_t outcome = m->last_outcome;
    if (op->n_qubits == 2) {
        q[1] = qubit_find(plane, op->qubits[1]);
        if (q[1]->group != low) high = q[1]->group;
        if (high != NULL && high->id < low->id) {
            struct group *other = low;
            low = high;
            high = other;
        }
    }
    bool kernel = !again && high != NULL && op->kind == OP(BELL) && is_pair(low) && is_pair(high);
    if (again && outcome == OUTCOME_LIMIT) return -QN_ELIMIT;
    if (high != NULL && !kernel && low->n + high->n > QN_STATE_MAX) {
        for (size_t i = 0; i < 2; i++) note(q[i], op, OUTCOME_LIMIT); /* So that no copy of it is carried out later. */
        return -QN_ELIMIT;
    }
    struct qn_rng rng;
    double u;
    seed_draws(plane, op, &rng, &u);
    bool draws = !again && (op_has_axis(op->kind) || op->kind == OP(BELL));
    struct marginals before = {0};
    if (draws) marginals_add(&before, plane, op, low);
    if (draws && high != NULL) marginals_add(&before, plane, op, high);

    if (kernel)
        outcome = swap(plane, op, low, high, u, &rng);
    else {
        if (high != NULL) merge(plane, low, high, &rng);
        if (!again) outcome = act_and_note(plane, op, low, u, &rng);
    }
    for (size_t i = 0; i < op->n_qubits && op_destroys(op->kind); i++) destroyed(plane, q[i], op, outcome);
    if (draws) r12_refresh_wills(plane, op, &before, low);
    *ret_outcome = outcome;
    if (low->n == 0) {
        group_drop(plane, low);
        low = NULL;
    }
    *ret_group = low;
    return 0;
}
