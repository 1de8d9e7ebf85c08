/* SPDX-License-Identifier: Apache-2.0 */
/* Dead time and afterpulses: a pixel that counted is blind for T gates and then waits W gates on average for its next
 * count, the first of which may be an afterpulse: W = (1 - a (1 - c)) / c, for a chance c of light in a gate. So it
 * counts in r = 1 / (T + W) of the gates and sees in W r of them (renewal theory; detector.h has the special cases).
 * The two detectors are taken as independent given the light of the gate, which is exact but for terms of second order
 * in the chance of a click; everything else is exact. */
#include "link/observe.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

/* What a detector does, given light on it or not. */
struct readiness {
    double live, lit, dark; /* Share of gates it sees in; chance to fire with light, and without (afterpulses). */
    double again;           /* Receiver scope: chance of an afterpulse of this detector in a gate. */
};

static double waiting(double c, double a) { return (1 - a * (1 - c)) / c; }

static void ready_pixels(const struct qn_receiver *receiver, const double light[2], struct readiness ret[2]) {
    double n = receiver->pixels, a = receiver->afterpulse, dead = receiver->dead_pulses;
    for (unsigned d = 0; d < 2; d++) {
        double c = light[d] / n;
        ret[d] = (struct readiness){.live = 1, .lit = 1};
        if (!(c > 0)) continue;
        double wait = waiting(c, a), rate = 1 / (dead + wait), again = a * rate;
        ret[d].live = wait * rate;
        ret[d].dark = n * again;
        ret[d].lit = ret[d].live + again * (n - 1) * (1 - ret[d].live);
    }
}

/* Chances of outcomes after dead time, from those of light. `both_again`: of both detectors repeating in one gate. */
static void settle(const struct qn_receiver *receiver, const struct readiness ready[2], double both_again,
                   const double light[4], double ret[4]) {
    if (receiver->dead_scope == QN_DEAD_RECEIVER) {
        double live = ready[0].live, again0 = ready[0].again, again1 = ready[1].again;
        double no = light[QN_OUTCOME_NONE], o0 = light[QN_OUTCOME_0], o1 = light[QN_OUTCOME_1];
        ret[QN_OUTCOME_BOTH] = light[QN_OUTCOME_BOTH] * live + o0 * again1 + o1 * again0 + no * both_again;
        ret[QN_OUTCOME_0] = o0 * (live - again1) + no * (again0 - both_again);
        ret[QN_OUTCOME_1] = o1 * (live - again0) + no * (again1 - both_again);
    } else {
        double fire[4][2] = {{ready[0].dark, ready[1].dark},
                             {ready[0].lit, ready[1].dark},
                             {ready[0].dark, ready[1].lit},
                             {ready[0].lit, ready[1].lit}};
        ret[QN_OUTCOME_0] = ret[QN_OUTCOME_1] = ret[QN_OUTCOME_BOTH] = 0;
        for (unsigned o = 0; o < 4; o++) {
            double both = o == QN_OUTCOME_NONE ? both_again : fire[o][0] * fire[o][1];
            ret[QN_OUTCOME_0] += light[o] * (fire[o][0] - both);
            ret[QN_OUTCOME_1] += light[o] * (fire[o][1] - both);
            ret[QN_OUTCOME_BOTH] += light[o] * both;
        }
    }
    ret[QN_OUTCOME_NONE] = 1 - ret[QN_OUTCOME_0] - ret[QN_OUTCOME_1] - ret[QN_OUTCOME_BOTH];
}

/* Sets what of readiness depends on itself: afterpulses of clicks of afterpulses. Returns both_again. */
static double ready_settle(const struct qn_receiver *receiver, const double mean[4], struct readiness ready[2]) {
    double a = receiver->afterpulse, any = 1 - mean[QN_OUTCOME_NONE], again = a, both_again = 0, chance[4];
    for (unsigned i = 0; i < 30; i++) {
        if (receiver->dead_scope == QN_DEAD_RECEIVER && any > 0) {
            double wait = waiting(any, again);
            ready[0].live = ready[1].live = wait / (receiver->dead_pulses + wait);
        }
        settle(receiver, ready, both_again, mean, chance);
        double both = chance[QN_OUTCOME_BOTH], click = 1 - chance[QN_OUTCOME_NONE];
        ready[0].again = a * (chance[QN_OUTCOME_0] + both);
        ready[1].again = a * (chance[QN_OUTCOME_1] + both);
        both_again = a * a * both; /* Both repeat in one gate if they had counted in one. */
        if (click > 0) again = (ready[0].again + ready[1].again - both_again) / click;
    }
    return both_again;
}

/* One choice of the source and one of the detector, and how often it is made. */
struct cell {
    unsigned intensity, basis, bit, measured;
    double chance;
};
#define CELLS (QN_INTENSITIES_MAX * 8)
#define VACUUM 1e-3 /* Photons: what a modulator leaves of a pulse it blocks. */

static unsigned cells_list(const struct qn_optics *optics, struct cell ret[CELLS]) {
    unsigned n = 0;
    for (unsigned k = 0; k < optics->source.n; k++)
        for (unsigned i = 0; i < 8; i++) {
            struct cell cell = {k, i >> 2, i >> 1 & 1, i & 1, optics->source.probability[k] / 2};
            cell.chance *= cell.basis ? optics->source.test_basis : 1 - optics->source.test_basis;
            cell.chance *= cell.measured ? optics->receiver.test_basis : 1 - optics->receiver.test_basis;
            ret[n++] = cell;
        }
    return n;
}

static const double *light_of(const struct qn_optics *optics, const struct cell *cell) {
    return optics->chance[cell->intensity][cell->basis][cell->bit][cell->measured];
}

void qn_expect(const struct qn_optics *optics, struct qn_expected *ret) {
    struct cell cells[CELLS];
    unsigned n = cells_list(optics, cells);
    double lit[2], mean[4] = {0};
    for (unsigned i = 0; i < n; i++) {
        const double *light = light_of(optics, &cells[i]);
        for (unsigned o = 0; o < 4; o++) mean[o] += cells[i].chance * light[o];
    }
    lit[0] = mean[QN_OUTCOME_0] + mean[QN_OUTCOME_BOTH];
    lit[1] = mean[QN_OUTCOME_1] + mean[QN_OUTCOME_BOTH];
    struct readiness ready[2] = {{.live = 1}, {.live = 1}};
    if (optics->receiver.dead_scope != QN_DEAD_RECEIVER) ready_pixels(&optics->receiver, lit, ready);
    double both_again = ready_settle(&optics->receiver, mean, ready), chance[4];

    *ret = (struct qn_expected){.live = (ready[0].live + ready[1].live) / 2};
    for (unsigned k = 0; k < optics->source.n; k++) ret->vacuum[k] = optics->source.mean[k] < VACUUM;
    for (unsigned i = 0; i < n; i++) {
        const struct cell *cell = &cells[i];
        settle(&optics->receiver, ready, both_again, light_of(optics, cell), chance);
        double click = chance[QN_OUTCOME_0] + chance[QN_OUTCOME_1] + chance[QN_OUTCOME_BOTH];
        double one = chance[QN_OUTCOME_1] + chance[QN_OUTCOME_BOTH] / 2;
        ret->click += cell->chance * click;
        ret->clicks[cell->measured] += cell->chance * click;
        ret->ones[cell->measured] += cell->chance * one;
        ret->doubles[cell->measured] += cell->chance * chance[QN_OUTCOME_BOTH];
        if (cell->basis != cell->measured) continue;
        ret->chosen[cell->basis][cell->intensity] += cell->chance;
        ret->gain[cell->basis][cell->intensity] += click / 2; /* Both bits are equally likely. */
        ret->error[cell->basis][cell->intensity] += (cell->bit ? click - one : one) / 2;
    }
}

/* ---- Deviations ---- */

struct list {
    struct qn_deviation *items;
    size_t n;
    double slack;
};

/* `count` of `trials`, each expected with chance p. */
static void compare(struct list *list, const char *name, unsigned basis, unsigned intensity, double count,
                    double trials, double p) {
    if (!(trials > 0)) return;
    double sigma = sqrt(p * (1 - p) / trials + list->slack * list->slack * p * p);
    double floor = 1 / trials; /* Of what is never expected, one is no more than one event. */
    if (sigma < floor) sigma = floor;
    double observed = count / trials;
    list->items[list->n++] = (struct qn_deviation){name, basis, intensity, observed, p, sigma, (observed - p) / sigma};
}

static int by_size(const void *left, const void *right) {
    double a = fabs(((const struct qn_deviation *)left)->z), b = fabs(((const struct qn_deviation *)right)->z);
    return (a < b) - (a > b);
}

size_t qn_deviations(const struct qn_expected *expected, const struct qn_observed *observed, const bool errors_known[2],
                     double slack, struct qn_deviation ret[QN_DEVIATIONS_MAX]) {
    struct list list = {.items = ret, .slack = slack};
    for (unsigned b = 0; b < 2; b++) {
        for (unsigned k = 0; k < QN_INTENSITIES_MAX; k++) {
            double chosen = expected->chosen[b][k], gain = expected->gain[b][k];
            double n = (double)observed->n[b][k], pulses = observed->pulses;
            if (!(chosen > 0)) continue;
            compare(&list, expected->vacuum[k] ? "vacuum" : "gain", b, k, n, pulses, chosen * gain);
            if (errors_known[b] && gain > 0)
                compare(&list, "qber", b, k, (double)observed->m[b][k], n, expected->error[b][k] / gain);
        }
        double clicks = (double)observed->clicks[b];
        compare(&list, "doubles", b, QN_INTENSITIES_MAX, (double)observed->doubles[b], observed->pulses,
                expected->doubles[b]);
        if (expected->clicks[b] > 0)
            compare(&list, "balance", b, QN_INTENSITIES_MAX, (double)observed->ones[b], clicks,
                    expected->ones[b] / expected->clicks[b]);
    }
    qsort(ret, list.n, sizeof *ret, by_size);
    return list.n;
}
