/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_TEST_BELL_SUPPORT_H
#define QN_TEST_BELL_SUPPORT_H

/* Closed forms against figures and samples. */

#include "values.h"

#include "base/rng.h"
#include "link/application.h"
#include "link/bell.h"
#include "link/detect.h"
#include "link/detector.h"
#include "link/link.h"
#include "link/observe.h"
#include "link/spdc.h"
#include "link/wcp.h"
#include "sim/state.h"

#define SEED 1
#define CASES(table) (table), sizeof(table) / sizeof *(table)

static inline struct qn_rng rng_for(const struct value *value) {
    struct qn_rng rng;
    qn_rng_init(&rng, SEED, value->name, 0);
    return rng;
}

struct tally {
    double n, sum, squares;
};

static inline void tally_add(struct tally *tally, double x) {
    tally->n++;
    tally->sum += x;
    tally->squares += x * x;
}

/* The mean of what was sampled lies within five of its standard errors. */
static inline void tally_expect(const struct value *value, const char *what, const struct tally *tally,
                                double expected) {
    double mean = tally->sum / tally->n, variance = tally->squares / tally->n - mean * mean;
    near(value->name, what, mean, expected, 5 * sqrt(fmax(variance, 1 / tally->n) / tally->n));
}

#endif
