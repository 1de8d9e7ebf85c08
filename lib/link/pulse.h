/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_LINK_PULSE_H
#define QN_LINK_PULSE_H

#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"
#include "topology/topology.h"

/* BB84 pulses. The source's choices are a keyed stream with random access (ChaCha20 under the train's key): nothing is
 * stored for pulses nobody detects, and a train's cost is that of its clicks. Call sodium_init first, as everywhere: it
 * makes the stream fast. */
struct qn_pulse {
    uint8_t bit, basis; /* Basis 0 is Z, 1 is X. */
};
struct qn_pulse qn_pulse_at(const uint8_t key[32], uint64_t index);

struct qn_click {
    uint64_t position;
    uint8_t bit, basis;
};

struct qn_pulse_channel {
    double transmittance; /* Fibre x receiver x detector. */
    double mean_photons;  /* Weak coherent; 0: exactly one photon. */
    double dark;          /* Per gate and detector. */
    double misalignment;  /* Share of the light, or chance of the photon, that goes to the wrong detector. */
    double eve;           /* Fraction of pulses intercepted and resent, as strong as before, in a random basis. */
};
void qn_pulse_channel_from(const struct qn_topology *topology, const struct qn_topo_link *link, double eve,
                           struct qn_pulse_channel *ret);
/* Chance that a pulse gives at least one click, and the error rate of sifted bits (equal bases): exact for the same
 * model. */
double qn_pulse_gain(const struct qn_pulse_channel *channel);
double qn_pulse_qber(const struct qn_pulse_channel *channel);

/* Samples the clicks of pulses [from, pulses): up to `max` into `clicks`, in order. The detector's basis is random per
 * click; double clicks give a random bit. Returns how many; *ret_next is the first pulse not yet looked at (== pulses
 * when done): going on from there, with the same `rng`, gives the clicks of one call with a larger `max`. */
size_t qn_pulse_detect(const struct qn_pulse_channel *channel, const uint8_t key[32], uint64_t from, uint64_t pulses,
                       struct qn_rng *rng, struct qn_click *clicks, size_t max, uint64_t *ret_next);

#endif
