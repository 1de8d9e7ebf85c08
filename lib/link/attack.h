/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_LINK_ATTACK_H
#define QN_LINK_ATTACK_H

#include <stdbool.h>

/* Attacks on the quantum channel, as parameters of it. All-zero is none. What Eve does is the same for every pulse,
 * chosen at random where it says so; she knows the receiver and the source, not the choices. */
enum qn_attack_kind {
    QN_ATTACK_NONE,
    /* Measures `fraction` of the pulses beside the source and sends on what she read, as strong as before: gains stay.
     * In a random basis: errors e + f (1/4 - e/2) in both bases. Bennett and Brassard (1984). */
    QN_ATTACK_INTERCEPT,
    /* The same, always in the key basis (0): no error there, f (1/2 - e) more in the test basis. */
    QN_ATTACK_INTERCEPT_KEY,
    /* Photon-number splitting: keeps one photon of `fraction` of the pulses with two or more, sends the others on
     * without loss, and blocks single photons (then also a share of the rest) until the gain of the strongest intensity
     * is as before. Errors stay; the weaker intensities click too rarely. Luetkenhaus, PRA 61, 052304 (2000). */
    QN_ATTACK_SPLIT,
    /* Faked states into blinded detectors: measures with the link's whole efficiency, and triggers the detector only if
     * its basis is hers. No dark counts, no double clicks, no errors of Bob's; half the gain, unless `boost` (measuring
     * with twice the efficiency). Lydersen et al., Nat. Photonics 4, 686 (2010). */
    QN_ATTACK_BLIND,
    /* Shifts `fraction` of the pulses in time, to where detector 1 sees `ratio` times less than detector 0 (a share
     * `evenly` / 2 of them: the other way round). Qi, Fung, Lo and Ma, Quantum Inf. Comput. 7, 73 (2007). */
    QN_ATTACK_TIME_SHIFT,
    /* Takes what the fibre would lose and replaces it by a lossless one: nothing changes at the receiver. */
    QN_ATTACK_BEAM_SPLIT,
    /* No light. */
    QN_ATTACK_CUT,
};

struct qn_attack {
    enum qn_attack_kind kind;
    double fraction; /* Of the pulses, 0 to 1. */
    double ratio;    /* Time shift: at least 1. */
    double evenly;   /* Time shift: 0 always to detector 0's side, 1 to either side evenly. */
    bool boost;      /* Blinding. */
};

const char *qn_attack_name(enum qn_attack_kind kind); /* "intercept", ... */
int qn_attack_find(const char *name);                 /* The kind, or -QN_EINVAL. */

/* Misalignment that drifts: a rotation of `turn` radians a second from that which gives `misalignment`; the error of an
 * unattacked link, which must not be taken for an attack. */
double qn_misalignment_after(double misalignment, double turn, double t_s);

#endif
