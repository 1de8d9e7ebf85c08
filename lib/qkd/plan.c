/* SPDX-License-Identifier: Apache-2.0 */
/* Models of the links: Lim et al. (2014) and Rusca et al. (2018), which qkd/finite.h cites, in one. The search is that
 * of Nelder and Mead, Comput. J. 7, 308 (1965), from a few starts. */
#include "qkd/plan.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "qkd/estimate.h"

struct intensity { /* Chances in a pulse of this intensity, in equal bases. */
    double gain, error;
};

static struct intensity intensity_of(const struct qn_plan_link *link, double mean) {
    double lit = -expm1(-link->transmittance * mean), dark = link->vacuum_yield;
    double gain = dark + (1 - dark) * lit;
    return (struct intensity){gain * (1 + link->afterpulse),
                              dark / 2 + link->misalignment * lit + link->afterpulse * gain / 2};
}

/* The same for all, dead time and random afterpulses included; returns the mean gain. */
static double intensities_make(const struct qn_plan_link *link, const struct qn_decoy *source, double key_basis,
                               struct intensity ret[QN_DECOYS_MAX]) {
    double mean = 0, share = link->dead_share > 0 ? link->dead_share : 1;
    if (link->dead_by_key) share *= key_basis * key_basis;
    for (unsigned k = 0; k < source->n; k++) {
        ret[k] = intensity_of(link, source->mean[k]);
        mean += source->probability[k] * ret[k].gain;
    }
    double again = mean * link->background, all = mean + again;
    double live = 1 / (1 + all * link->dead_pulses * share);
    for (unsigned k = 0; k < source->n; k++) {
        ret[k].gain = live * (ret[k].gain + again);
        ret[k].error = live * (ret[k].error + again / 2);
    }
    return live * all;
}

void qn_plan_evaluate(const struct qn_plan_link *link, const struct qn_finite_terms *terms, struct qn_plan *plan) {
    const struct qn_decoy *source = &plan->source;
    struct intensity each[QN_DECOYS_MAX];
    memset(&plan->means, 0, sizeof plan->means);
    plan->click = intensities_make(link, source, plan->key_basis, each);
    double key = plan->key_basis * plan->key_basis, test = (1 - plan->key_basis) * (1 - plan->key_basis), errors = 0;
    plan->pulses = plan->block_size / (key * plan->click);
    for (unsigned k = 0; k < source->n; k++) {
        double sent = plan->pulses * source->probability[k];
        plan->means.key_n[k] = sent * key * each[k].gain;
        plan->means.key_m[k] = sent * key * each[k].error;
        plan->means.test_n[k] = sent * test * each[k].gain;
        plan->means.test_m[k] = sent * test * each[k].error;
        errors += plan->means.key_m[k];
    }
    double leak = link->inefficiency * plan->block_size * qn_binary_entropy(errors / plan->block_size);
    qn_finite_decoy_expected(source, &plan->means, terms, leak, &plan->finite);
    plan->rate = plan->finite.verdict == QN_FINITE_KEY ? plan->finite.exact / plan->pulses : 0;
}

/* ---- The search ---- */

enum { AXES_MAX = 5 };

struct search {
    const struct qn_plan_link *link;
    const struct qn_finite_terms *terms;
    struct qn_plan plan; /* Of the last point. */
    double weakest;
    unsigned axes;
};
struct point {
    double x[AXES_MAX], score; /* The lower the better. */
};

static double into(double x, double low, double high) { return low + (high - low) / (1 + exp(-x)); }
static double from(double value, double low, double high) { return log((value - low) / (high - value)); }

#define BASIS_LOW 0.02
#define BASIS_HIGH 0.9995
#define MEAN_HIGH 1.2

/* Any point is a source: the axes are stretched over what is allowed. */
static void settings_from(const struct search *search, const double *x, struct qn_plan *plan) {
    struct qn_decoy *source = &plan->source;
    plan->key_basis = into(x[0], BASIS_LOW, BASIS_HIGH);
    source->mean[0] = into(x[1], 0.01, MEAN_HIGH);
    if (source->n == 2) {
        source->mean[1] = into(x[2], 0.001, source->mean[0] * 0.95);
        source->probability[0] = into(x[3], 0.002, 0.998);
        source->probability[1] = 1 - source->probability[0];
        return;
    }
    source->mean[2] = search->weakest;
    source->mean[1] = into(x[2], 2 * search->weakest, source->mean[0] * 0.95 - search->weakest);
    source->probability[0] = into(x[3], 0.002, 0.996);
    source->probability[1] = into(x[4], 0.001, 1 - source->probability[0] - 0.001);
    source->probability[2] = 1 - source->probability[0] - source->probability[1];
}

/* Where there is no key, what the bounds lack leads the way: first singles, then a phase error below 1/2, then bits. */
static void rate_point(struct search *search, struct point *point) {
    struct qn_plan *plan = &search->plan;
    settings_from(search, point->x, plan);
    if (plan->source.n == 3 && !(plan->source.mean[0] > 2.2 * search->weakest / 0.95)) {
        point->score = 10;
        return;
    }
    qn_plan_evaluate(search->link, search->terms, plan);
    const struct qn_finite *f = &plan->finite;
    switch (f->verdict) {
    case QN_FINITE_KEY:
        point->score = -plan->rate;
        return;
    case QN_FINITE_TOO_SHORT:
    case QN_FINITE_PHASE_LIMIT:
        point->score = 1 - f->exact / plan->block_size;
        return;
    case QN_FINITE_ERRORS:
        point->score = 4 + (f->ratio < 10 ? f->ratio / 10 : 1);
        return;
    default:
        point->score =
            6 + (1 - f->key_s1 / plan->block_size) + (f->key_s1 > 0 ? 0 : 1) + f->delta_test / (1 + f->test_total);
    }
}

static void point_sort(struct point *points, unsigned n) {
    for (unsigned i = 1; i < n; i++)
        for (unsigned j = i; j > 0 && points[j].score < points[j - 1].score; j--) {
            struct point swap = points[j];
            points[j] = points[j - 1];
            points[j - 1] = swap;
        }
}

/* The worst point moved through the middle of the others, by `factor` of its distance. */
static struct point moved(struct search *search, const struct point *points, double factor) {
    unsigned n = search->axes;
    struct point ret = {{0}, 0};
    for (unsigned a = 0; a < n; a++) {
        double middle = 0;
        for (unsigned i = 0; i < n; i++) middle += points[i].x[a] / n;
        ret.x[a] = middle + factor * (points[n].x[a] - middle);
    }
    rate_point(search, &ret);
    return ret;
}

static struct point descend(struct search *search, const double *start, double size) {
    enum { STEPS = 400 };
    struct point points[AXES_MAX + 1];
    unsigned n = search->axes;
    assert(n <= AXES_MAX);
    for (unsigned i = 0; i <= n; i++) {
        memcpy(points[i].x, start, sizeof points[i].x);
        if (i > 0) points[i].x[i - 1] += size;
        rate_point(search, &points[i]);
    }
    for (int step = 0; step < STEPS; step++) {
        point_sort(points, n + 1);
        if (fabs(points[n].score - points[0].score) <= 1e-9 * fabs(points[0].score)) break;
        struct point next = moved(search, points, -1);
        if (next.score < points[0].score) {
            struct point further = moved(search, points, -2);
            points[n] = further.score < next.score ? further : next;
        } else if (next.score < points[n - 1].score) {
            points[n] = next;
        } else {
            struct point nearer = moved(search, points, next.score < points[n].score ? -0.5 : 0.5);
            if (nearer.score < points[n].score) {
                points[n] = nearer;
                continue;
            }
            for (unsigned i = 1; i <= n; i++) {
                for (unsigned a = 0; a < n; a++) points[i].x[a] = (points[i].x[a] + points[0].x[a]) / 2;
                rate_point(search, &points[i]);
            }
        }
    }
    point_sort(points, n + 1);
    return points[0];
}

/* Starts: key basis, strongest mean, second mean and first probability as shares of what is left. */
static const double starts[][AXES_MAX] = {
    {0.9, 0.45, 0.35, 0.7, 0.7},
    {0.75, 0.45, 0.4, 0.3, 0.7},
    {0.6, 0.4, 0.4, 0.12, 0.65},
    {0.95, 0.65, 0.25, 0.85, 0.6},
};

int qn_plan_optimise(const struct qn_plan_link *link, const struct qn_finite_terms *terms, double weakest,
                     struct qn_plan *plan) {
    struct search search = {.link = link, .terms = terms, .plan = *plan, .weakest = weakest};
    if (plan->source.n != 2 && plan->source.n != 3) return -QN_EINVAL;
    search.axes = plan->source.n == 3 ? 5 : 4;
    struct point best = {{0}, INFINITY};
    for (unsigned s = 0; s < sizeof starts / sizeof *starts; s++) {
        double x[AXES_MAX];
        for (unsigned a = 0; a < AXES_MAX; a++) x[a] = from(starts[s][a], 0, a == 1 ? MEAN_HIGH : 1);
        struct point found = descend(&search, x, 0.5);
        if (found.score < best.score) best = found;
    }
    for (int again = 0; again < 3; again++) { /* From where it ended: the simplex may have shrunk too early. */
        struct point found = descend(&search, best.x, again == 0 ? 0.3 : -0.1);
        if (found.score < best.score) best = found;
    }
    settings_from(&search, best.x, &search.plan);
    qn_plan_evaluate(link, terms, &search.plan);
    *plan = search.plan;
    return plan->rate > 0 ? 0 : -QN_ENO_KEY;
}
