/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_LINK_RECEIVER_H
#define QN_LINK_RECEIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "link/attack.h"
#include "link/source.h"
#include "topology/topology.h"

/* What happens to BB84 pulses on the way and at the detectors. Two threshold detectors, 0 and 1, behind a basis chosen
 * anew for each pulse. The model, for which sampling (detect.h) and closed forms are exact:
 *
 *   - Each photon arrives with `transmittance`, goes to the detector of its bit (wrong with `misalignment`) if the
 *     bases agree and to either evenly if not, falls inside the gate with `kept`, and is seen with that detector's
 *     `efficiency`. Dark counts are independent, one chance a gate.
 *   - A pixel that counted is blind for the next `dead_pulses` gates. A count brings another in the first gate in which
 *     its pixel sees again, with chance `afterpulse`, on top of light.
 *   - Pixels share a detector's light evenly; a detector's click in one gate is that of one pixel, chosen evenly.
 *   - Both detectors clicking is a double click, and gives a random bit. */

enum qn_dead_scope {
    QN_DEAD_PIXEL,    /* Each pixel for itself. */
    QN_DEAD_RECEIVER, /* Any click blinds all. Pixels make no difference then. */
};

struct qn_receiver {
    double transmittance; /* Of the link, to the receiver's detectors. */
    double misalignment;
    double efficiency[2], dark[2]; /* Of detectors 0 and 1; dark counts: chance in a gate. */
    double kept;                   /* Share of the light inside the gate, after jitter. */
    double test_basis;             /* Chance that the detector chooses basis 1. */
    double afterpulse;
    uint32_t dead_pulses;
    uint32_t pixels; /* Of each detector, 1 to QN_PIXELS_MAX. */
    enum qn_dead_scope dead_scope;
};
enum { QN_PIXELS_MAX = 64 };

/* As the topology has them; the source settled. `link` is a bb84 link. False if the file leaves the intensities or the
 * basis to be chosen for the link: the source then has one intensity, and qkd/plan.h chooses. */
bool qn_source_from(const struct qn_topology *topology, const struct qn_topo_link *link, struct qn_source *ret);
void qn_receiver_from(const struct qn_topology *topology, const struct qn_topo_link *link, struct qn_receiver *ret);

enum qn_outcome { QN_OUTCOME_NONE, QN_OUTCOME_0, QN_OUTCOME_1, QN_OUTCOME_BOTH };

/* The chances of each outcome, were all pixels ready: [intensity][basis][bit] of the pulse, then the detector's basis.
 * Attacks included. */
struct qn_optics {
    struct qn_source source;
    struct qn_receiver receiver;
    struct qn_attack attack;
    double chance[QN_INTENSITIES_MAX][2][2][2][4];
};
/* -QN_EINVAL: a number is outside its range; nothing set. */
int qn_optics_init(struct qn_optics *optics, const struct qn_source *source, const struct qn_receiver *receiver,
                   const struct qn_attack *attack);

#endif
