/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_LINK_OBSERVE_H
#define QN_LINK_OBSERVE_H

#include <stdbool.h>
#include <stddef.h>

#include "link/receiver.h"

/* What a link should show, from its model, and by how much what it shows differs: closed forms, dead time and
 * afterpulses included. */

struct qn_expected { /* Chances per pulse. Basis: both ends' where they agree; the detector's for the last five. */
    double gain[2][QN_INTENSITIES_MAX];    /* [basis][intensity]: of a click, given basis (of both) and intensity. */
    double error[2][QN_INTENSITIES_MAX];   /* Of a click with the wrong bit, likewise. */
    double chosen[2][QN_INTENSITIES_MAX];  /* That both ends choose this basis, and the source this intensity. */
    bool vacuum[QN_INTENSITIES_MAX];       /* Intensities so weak that darks decide: their gain is called "vacuum". */
    double click;                          /* Of any click. */
    double clicks[2], ones[2], doubles[2]; /* Of a click in this detector basis; of one that reads 1 (a double click
                                            * reads 1 in half of the cases); of a double click. */
    double live;                           /* Share of the gates in which a pixel can see (mean of the detectors). */
};
void qn_expect(const struct qn_optics *optics, struct qn_expected *ret);

struct qn_observed { /* Counts of some pulses, as the two ends know them together after sifting. */
    double pulses;
    uint64_t n[2][QN_INTENSITIES_MAX], m[2][QN_INTENSITIES_MAX]; /* Detections and errors in equal bases. */
    uint64_t clicks[2], ones[2], doubles[2];                     /* At the detector, by its basis. */
};

struct qn_deviation {
    const char *name;                 /* "gain", "qber", "doubles", "balance", "vacuum" */
    unsigned basis, intensity;        /* intensity: QN_INTENSITIES_MAX if it is over all. */
    double observed, expected, sigma; /* Rates, and the standard error of the observed one under the expectation. */
    double z;                         /* (observed - expected) / sigma */
};
enum { QN_DEVIATIONS_MAX = 2 * (2 * QN_INTENSITIES_MAX + 2) };
/* All that can be told from the counts, the largest |z| first. Returns how many. Errors are only told where m is known:
 * set `errors_known` [basis]. Standard errors are binomial; `slack` is a relative uncertainty of the expectation itself
 * (calibration), added in squares: 0 in tests, some 0.02 in operation. */
size_t qn_deviations(const struct qn_expected *expected, const struct qn_observed *observed, const bool errors_known[2],
                     double slack, struct qn_deviation ret[QN_DEVIATIONS_MAX]);

#endif
