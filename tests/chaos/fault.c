/* SPDX-License-Identifier: Apache-2.0 */
/* What goes wrong, and when it is mended. Which kinds of fault a run has, and how many, is drawn for each run: runs
 * with few kinds find what runs with all of them hide (Groce et al., "Swarm testing", ISSTA 2012). */
#include <stdlib.h>

#include "chaos.h"

const char *const fault_names[FAULT_KINDS] = {"break", "slow",    "delay", "cut",     "eve",
                                              "crash", "restart", "pause", "declare", "disk"};

#define MS UINT64_C(1000000)

void fault_init(struct chaos *chaos) {
    static const double rates[4] = {0, 0.3, 1.5, 6};
    int intensity = chaos->options.intensity;
    uint64_t drawn = qn_rng_below(&chaos->fault, 8); /* One run in eight is without faults. */
    if (intensity < 0) intensity = drawn == 0 ? 0 : drawn < 3 ? 1 : drawn < 6 ? 2 : 3;
    chaos->fault_rate = rates[intensity & 3];
    for (unsigned kind = 0; kind < FAULT_KINDS; kind++)
        if (chance(&chaos->fault, 0.5)) chaos->allowed |= 1u << kind;
    chaos->allowed &= ~chaos->options.without;
    if (chaos->allowed == 0) chaos->fault_rate = 0;
}

static void plan(struct chaos *chaos, struct plan plan) {
    chaos->plans = grow(chaos->plans, &chaos->cap_plans, chaos->n_plans, sizeof *chaos->plans);
    chaos->plans[chaos->n_plans++] = plan;
}

static void operate(struct chaos *chaos, uint16_t node, uint16_t link, Qnet__V1__FaultKind kind, double value) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__FaultRequest m = QNET__V1__FAULT_REQUEST__INIT;
    if (judge_ask(chaos, ASK_FAULT, node, 0, &request.id) == NULL) return;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_FAULT;
    request.fault = &m;
    m.link = chaos->topology.links[link].name;
    m.kind = kind;
    m.value = value;
    cluster_request(chaos->cluster, node, request.id, &request);
}

/* A link, one of its neighbouring pairs of nodes. False if the network has none. */
static bool any_neighbours(struct chaos *chaos, uint16_t *ret_a, uint16_t *ret_b, uint16_t *ret_link) {
    if (chaos->topology.n_links == 0) return false;
    *ret_link = (uint16_t)qn_rng_below(&chaos->fault, chaos->topology.n_links);
    const struct qn_topo_link *link = &chaos->topology.links[*ret_link];
    bool swap = chance(&chaos->fault, 0.5);
    *ret_a = swap ? link->b : link->a;
    *ret_b = link->via != QN_NO_NODE ? link->via : swap ? link->a : link->b;
    return true;
}

/* Stops sessions one by one and starts them again in another order. */
static void break_sessions(struct chaos *chaos) {
    uint64_t now = cluster_now(chaos->cluster), n = between(&chaos->fault, 1, 4),
             down = spread(&chaos->fault, 1, 4000) * MS, apart = spread(&chaos->fault, 1, 300) * MS;
    for (uint64_t i = 0; i < n; i++) {
        struct plan one = {.what = STOP_SESSION, .plane = chance(&chaos->fault, 0.5) ? QN_QUANTUM : QN_CLASSICAL};
        if (!any_neighbours(chaos, &one.a, &one.b, &one.link)) return;
        one.at_ns = now + qn_rng_below(&chaos->fault, apart);
        plan(chaos, one);
        one.what = START_SESSION;
        one.at_ns = now + apart + down + qn_rng_below(&chaos->fault, apart);
        plan(chaos, one);
    }
}

static void by_operator(struct chaos *chaos, enum fault_kind kind) {
    uint16_t a, b, link;
    if (!any_neighbours(chaos, &a, &b, &link)) return;
    if (kind == FAULT_EVE) {
        if (chaos->topology.links[link].kind != QN_LINK_BB84) return;
        chaos->eve = true;
        operate(chaos, a, link, QNET__V1__FAULT_KIND__FAULT_KIND_EVE, chance(&chaos->fault, 0.5) ? 1 : 0.2);
    } else if (kind == FAULT_DELAY) {
        operate(chaos, a, link, QNET__V1__FAULT_KIND__FAULT_KIND_DELAY, (double)(spread(&chaos->fault, 1, 1000) * MS));
    } else {
        operate(chaos, a, link,
                chance(&chaos->fault, 0.5) ? QNET__V1__FAULT_KIND__FAULT_KIND_CUT_QUANTUM
                                           : QNET__V1__FAULT_KIND__FAULT_KIND_CUT_CLASSICAL,
                0);
    }
    plan(chaos, (struct plan){.at_ns = cluster_now(chaos->cluster) + spread(&chaos->fault, 5, 5000) * MS,
                              .what = CLEAR_LINK,
                              .a = a,
                              .link = link});
}

static void end_life(struct chaos *chaos, uint16_t node) {
    if (cluster_node(chaos->cluster, node) == NULL) return;
    judge_trouble(chaos);
    cluster_crash(chaos->cluster, node);
    judge_crash(chaos, node);
}

static void declare_dead(struct chaos *chaos, uint16_t at, uint16_t node) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__DeclareDeadRequest m = QNET__V1__DECLARE_DEAD_REQUEST__INIT;
    if (at == node || judge_ask(chaos, ASK_FAULT, at, 0, &request.id) == NULL) return;
    chaos_log(chaos, "declare n%u dead at n%u", node, at);
    chaos->declared[node] = true;
    m.node = chaos->topology.nodes[node].name;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_DECLARE_DEAD;
    request.declare_dead = &m;
    cluster_request(chaos->cluster, at, request.id, &request);
}

void fault_one(struct chaos *chaos) {
    enum fault_kind kind;
    do kind = (enum fault_kind)qn_rng_below(&chaos->fault, FAULT_KINDS);
    while ((chaos->allowed & 1u << kind) == 0);
    uint64_t now = cluster_now(chaos->cluster);
    uint16_t node = (uint16_t)qn_rng_below(&chaos->fault, chaos->topology.n_nodes);
    struct plan one = {0};
    chaos->stats->faults[kind]++;
    chaos_log(chaos, "fault: %s", fault_names[kind]);
    switch (kind) {
    case FAULT_BREAK:
        break_sessions(chaos);
        break;
    case FAULT_SLOW:
        if (!any_neighbours(chaos, &one.a, &one.b, &one.link)) break;
        one.plane = chance(&chaos->fault, 0.5) ? QN_QUANTUM : QN_CLASSICAL;
        one.what = NORMAL_SPEED;
        one.at_ns = now + spread(&chaos->fault, 10, 5000) * MS;
        cluster_slow(chaos->cluster, one.a, one.b, one.plane, spread(&chaos->fault, 1, 2000) * MS);
        plan(chaos, one);
        break;
    case FAULT_CRASH:
        chaos_log(chaos, "crash n%u", node);
        end_life(chaos, node);
        plan(chaos, (struct plan){.at_ns = now + spread(&chaos->fault, 1, 8000) * MS, .what = START_NODE, .a = node});
        break;
    case FAULT_RESTART:
        chaos_log(chaos, "restart n%u", node);
        end_life(chaos, node);
        cluster_start(chaos->cluster, node);
        break;
    case FAULT_PAUSE:
        chaos_log(chaos, "pause n%u", node);
        judge_trouble(chaos);
        cluster_pause(chaos->cluster, node);
        plan(chaos, (struct plan){.at_ns = now + spread(&chaos->fault, 1, 6000) * MS, .what = RESUME_NODE, .a = node});
        break;
    case FAULT_DECLARE:
        declare_dead(chaos, node, (uint16_t)qn_rng_below(&chaos->fault, chaos->topology.n_nodes));
        break;
    case FAULT_DISK:
        chaos->disk_full = true;
        cluster_fill_disk(chaos->cluster, node, true);
        plan(chaos, (struct plan){.at_ns = now + spread(&chaos->fault, 1, 4000) * MS, .what = EMPTY_DISK, .a = node});
        break;
    default:
        by_operator(chaos, kind);
        break;
    }
}

static void carry_out(struct chaos *chaos, const struct plan *plan) {
    switch (plan->what) {
    case STOP_SESSION:
    case START_SESSION:
        chaos_log(chaos, "%s n%u-n%u %s", plan->what == STOP_SESSION ? "stop" : "start", plan->a, plan->b,
                  plan->plane == QN_QUANTUM ? "quantum" : "classical");
        cluster_cut(chaos->cluster, plan->a, plan->b, plan->plane, plan->what == STOP_SESSION);
        break;
    case NORMAL_SPEED:
        cluster_slow(chaos->cluster, plan->a, plan->b, plan->plane, 0);
        break;
    case START_NODE:
        chaos_log(chaos, "start n%u", plan->a);
        cluster_start(chaos->cluster, plan->a);
        break;
    case RESUME_NODE:
        chaos_log(chaos, "resume n%u", plan->a);
        cluster_resume(chaos->cluster, plan->a);
        break;
    case EMPTY_DISK:
        cluster_fill_disk(chaos->cluster, plan->a, false);
        break;
    case CLEAR_LINK:
        operate(chaos, plan->a, plan->link, QNET__V1__FAULT_KIND__FAULT_KIND_CLEAR, 0);
        break;
    }
}

uint64_t fault_next_ns(const struct chaos *chaos) {
    uint64_t next = UINT64_MAX;
    for (size_t i = 0; i < chaos->n_plans; i++)
        if (chaos->plans[i].at_ns < next) next = chaos->plans[i].at_ns;
    return next;
}

void fault_due(struct chaos *chaos) {
    for (size_t i = 0; i < chaos->n_plans;) {
        if (chaos->plans[i].at_ns > cluster_now(chaos->cluster)) {
            i++;
            continue;
        }
        struct plan due = chaos->plans[i];
        chaos->plans[i] = chaos->plans[--chaos->n_plans];
        carry_out(chaos, &due);
    }
}

void fault_mend(struct chaos *chaos) {
    chaos->n_plans = 0;
    for (uint16_t i = 0; i < chaos->topology.n_nodes; i++) {
        cluster_resume(chaos->cluster, i);
        cluster_start(chaos->cluster, i);
        cluster_fill_disk(chaos->cluster, i, false);
    }
    for (uint16_t i = 0; i < chaos->topology.n_links; i++) {
        const struct qn_topo_link *link = &chaos->topology.links[i];
        const uint16_t nodes[3] = {link->a, link->b, link->via};
        for (size_t k = 0; k < 3; k++)
            if (nodes[k] != QN_NO_NODE) operate(chaos, nodes[k], i, QNET__V1__FAULT_KIND__FAULT_KIND_CLEAR, 0);
    }
    for (uint16_t a = 0; a < chaos->topology.n_nodes; a++)
        for (uint16_t b = (uint16_t)(a + 1); b < chaos->topology.n_nodes; b++)
            for (int plane = 0; plane < 2; plane++) {
                cluster_slow(chaos->cluster, a, b, (enum qn_plane_id)plane, 0);
                cluster_cut(chaos->cluster, a, b, (enum qn_plane_id)plane, false);
            }
    chaos->calm = true;
}
