/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QKD_PLAN_H
#define QN_QKD_PLAN_H

#include "qkd/finite.h"

/* What a link of weak pulses with decoys can give, before it runs: expected counts of a block, their bounds, and the
 * settings of the source that give most. Closed forms; nothing random. Results agree between machines to rounding, not
 * to the bit: one end chooses and tells the other. */

struct qn_plan_link {
    double transmittance; /* Of a photon, detection included. */
    double vacuum_yield;  /* Chance of a click without light, both detectors. */
    double misalignment;
    double afterpulse;   /* As the papers do: more clicks of the same pulse, half of them wrong. */
    double background;   /* More yield in every pulse, half of it wrong, as a share of the mean gain: afterpulses that
                          * come at random. A link has one of the two. */
    double dead_pulses;  /* For which a click blinds the receiver. */
    double dead_share;   /* Of the clicks that blind the detector which the next would reach: 1 the receiver, 1/2 one
                          * of two detectors, 1/(2 n) with n pixels each. 0 is taken as 1. */
    bool dead_by_key;    /* Only clicks of the sifted key blind, as in the figures of Rusca et al.; to compare with. */
    double inefficiency; /* Of error correction, at least 1. */
};

struct qn_plan {
    struct qn_decoy source;
    double key_basis;            /* Chance at each end. */
    double block_size;           /* n of the key basis. */
    double pulses;               /* Sent for such a block. */
    double click;                /* Chance per pulse, dead time included. */
    struct qn_decoy_means means; /* Of the block. */
    struct qn_finite finite;     /* Its bounds; leak is inefficiency h(e) n. */
    double rate;                 /* Secret bits a pulse; 0 if none. */
};

/* For the source, key_basis and block_size that *plan has: fills in the rest. */
void qn_plan_evaluate(const struct qn_plan_link *link, const struct qn_finite_terms *terms, struct qn_plan *plan);

/* The settings for plan->block_size that give the highest rate: plan->source.n is 2 (one decoy) or 3 (two decoys, the
 * weakest being `weakest`). -QN_ENO_KEY if none gives key; the plan is then the best that was tried. Some ten
 * milliseconds: not on the loop. */
int qn_plan_optimise(const struct qn_plan_link *link, const struct qn_finite_terms *terms, double weakest,
                     struct qn_plan *plan);

#endif
