/* SPDX-License-Identifier: Apache-2.0 */
/* BB84 with two threshold detectors: Bennett and Brassard, Proc. IEEE Int. Conf. Computers, Systems and Signal
 * Processing, Bangalore, 175 (1984). Channel as in Ma, Qi, Zhao and Lo, PRA 72, 012326 (2005), but exact in the
 * coincidences of the two detectors. Double clicks give a random bit: Luetkenhaus, PRA 61, 052304 (2000). */
#include "link/receiver.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "link/detector.h"
#include "link/link.h"

/* Light that may hold any number of photons: an intensity of the source, or a distribution that Eve made of it. */
#define PHOTONS_MAX 64
struct light {
    const struct qn_source *source;
    unsigned intensity;
    const double *photons; /* [PHOTONS_MAX], or NULL: as the source has it. */
};

/* Chance that of the photons, each seen with chance y, at least one is. Accurate for small y. */
static double seen(const struct light *light, double y) {
    const struct qn_source *source = light->source;
    double mean = source->mean[light->intensity];
    if (light->photons != NULL) {
        double sum = 0, unseen = log1p(-y);
        for (unsigned n = 1; n < PHOTONS_MAX; n++) sum -= light->photons[n] * (y < 1 ? expm1(n * unseen) : -1);
        return sum;
    }
    switch (source->emission) {
    case QN_EMIT_COHERENT:
        return -expm1(-mean * y);
    case QN_EMIT_SINGLE:
        return mean * y;
    case QN_EMIT_HERALDED:
        break;
    }
    return 1 - qn_source_generating(source, light->intensity, 1 - y);
}

/* `y`: chance that a photon is seen by detector 0, 1. */
static void detect(const struct light *light, const double y[2], const double dark[2], double ret[4]) {
    double s0 = seen(light, y[0]), s1 = seen(light, y[1]), any = seen(light, y[0] + y[1]);
    double both = s0 + s1 - any;
    if (light->photons == NULL && light->source->emission == QN_EMIT_COHERENT) both = s0 * s1;
    if (both < 0 || (light->photons == NULL && light->source->emission == QN_EMIT_SINGLE)) both = 0;
    double only0 = any - s1, only1 = any - s0, d0 = dark[0], d1 = dark[1];
    ret[QN_OUTCOME_0] = (1 - d1) * (only0 + d0 * (1 - any));
    ret[QN_OUTCOME_1] = (1 - d0) * (only1 + d1 * (1 - any));
    ret[QN_OUTCOME_BOTH] = both + d0 * only1 + d1 * only0 + d0 * d1 * (1 - any);
    ret[QN_OUTCOME_NONE] = (1 - d0) * (1 - d1) * (1 - any);
}

/* Photons prepared in a basis with a bit, measured in a basis: which detector they go to. */
struct route {
    double share[2];
};
static struct route route_of(const struct qn_receiver *receiver, unsigned basis, unsigned bit, unsigned measured) {
    double right = basis == measured ? 1 - receiver->misalignment : 0.5;
    return (struct route){{bit == 0 ? right : 1 - right, bit == 0 ? 1 - right : right}};
}

static void add(double to[4], double weight, const double from[4]) {
    for (unsigned i = 0; i < 4; i++) to[i] += weight * from[i];
}

/* One choice of the source, measured in one basis. */
struct pulse {
    const struct qn_optics *optics;
    const double *photons; /* See struct light. */
    double transmittance;  /* Of the link, as Eve left it. */
    double weaker[2];      /* Eve's factor on each detector's efficiency. */
    unsigned intensity, basis, bit, measured;
};

static void honest(const struct pulse *pulse, double ret[4]) {
    const struct qn_receiver *receiver = &pulse->optics->receiver;
    struct light light = {&pulse->optics->source, pulse->intensity, pulse->photons};
    struct route route = route_of(receiver, pulse->basis, pulse->bit, pulse->measured);
    double y[2];
    for (unsigned d = 0; d < 2; d++)
        y[d] = pulse->transmittance * receiver->kept * receiver->efficiency[d] * pulse->weaker[d] * route.share[d];
    detect(&light, y, receiver->dark, ret);
}

static void intercepted(const struct pulse *pulse, unsigned eve_basis, double weight, double to[4]) {
    struct pulse resent = *pulse;
    double chance[4];
    resent.basis = eve_basis;
    if (eve_basis == pulse->basis) {
        honest(&resent, chance);
        add(to, weight, chance);
        return;
    }
    for (resent.bit = 0; resent.bit < 2; resent.bit++) {
        honest(&resent, chance);
        add(to, weight / 2, chance);
    }
}

static void blinded(const struct pulse *pulse, bool boost, double to[4]) {
    const struct qn_receiver *receiver = &pulse->optics->receiver;
    struct light light = {&pulse->optics->source, pulse->intensity, NULL};
    double eve = receiver->transmittance * receiver->kept * (receiver->efficiency[0] + receiver->efficiency[1]) / 2;
    if (boost) eve = fmin(2 * eve, 1);
    double click = seen(&light, eve) / 2; /* Half: her basis is the detector's. */
    bool knows = pulse->measured == pulse->basis;
    to[QN_OUTCOME_NONE] += 1 - click;
    to[QN_OUTCOME_0] += click * (knows ? pulse->bit == 0 : 0.5);
    to[QN_OUTCOME_1] += click * (knows ? pulse->bit == 1 : 0.5);
}

/* Photon numbers after splitting: a share `single` of lone photons passes, a share `multi` of the others less one. */
static void split(const struct qn_source *source, unsigned intensity, double single, double multi,
                  double ret[PHOTONS_MAX]) {
    memset(ret, 0, PHOTONS_MAX * sizeof *ret);
    ret[1] = single * qn_source_photons(source, intensity, 1);
    for (unsigned n = 2; n <= PHOTONS_MAX; n++) ret[n - 1] += multi * qn_source_photons(source, intensity, n);
}

static double click_of(const struct pulse *pulse) {
    double chance[4], click = 0;
    struct pulse either = *pulse;
    for (either.bit = 0; either.bit < 2; either.bit++) {
        honest(&either, chance);
        click += (1 - chance[QN_OUTCOME_NONE]) / 2;
    }
    return click;
}

/* Which shares to let pass, for the strongest intensity to click as often as before. */
struct shares {
    double single, multi;
};
static struct shares split_shares(const struct qn_optics *optics) {
    const struct qn_source *source = &optics->source;
    unsigned strongest = 0;
    for (unsigned k = 1; k < source->n; k++)
        if (source->mean[k] > source->mean[strongest]) strongest = k;
    double photons[PHOTONS_MAX] = {0};
    struct pulse pulse = {
        .optics = optics, .transmittance = optics->receiver.transmittance, .weaker = {1, 1}, .intensity = strongest};
    double wanted = click_of(&pulse);
    pulse.photons = photons;
    pulse.transmittance = 1;
    double dark = click_of(&pulse);
    split(source, strongest, 0, 1, photons);
    double multi = click_of(&pulse);
    if (multi >= wanted) return (struct shares){0, multi > dark ? (wanted - dark) / (multi - dark) : 0};
    split(source, strongest, 1, 1, photons);
    double all = click_of(&pulse);
    return (struct shares){fmin((wanted - multi) / (all - multi), 1), 1};
}

static void attacked(const struct pulse *pulse, const struct shares *shares, double to[4]) {
    const struct qn_attack *attack = &pulse->optics->attack;
    struct pulse changed = *pulse;
    double chance[4], photons[PHOTONS_MAX];
    switch (attack->kind) {
    case QN_ATTACK_INTERCEPT:
        intercepted(pulse, 0, attack->fraction / 2, to);
        intercepted(pulse, 1, attack->fraction / 2, to);
        return;
    case QN_ATTACK_INTERCEPT_KEY:
        intercepted(pulse, 0, attack->fraction, to);
        return;
    case QN_ATTACK_BLIND: {
        double blind[4] = {0};
        blinded(pulse, attack->boost, blind);
        add(to, attack->fraction, blind);
        return;
    }
    case QN_ATTACK_TIME_SHIFT:
        for (unsigned d = 0; d < 2; d++) {
            changed.weaker[d] = 1;
            changed.weaker[1 - d] = 1 / attack->ratio;
            honest(&changed, chance);
            add(to, attack->fraction * (d == 0 ? 1 - attack->evenly / 2 : attack->evenly / 2), chance);
        }
        return;
    case QN_ATTACK_SPLIT:
        split(&pulse->optics->source, pulse->intensity, shares->single, shares->multi, photons);
        changed.photons = photons;
        changed.transmittance = 1;
        break;
    case QN_ATTACK_CUT:
        changed.transmittance = 0;
        break;
    case QN_ATTACK_BEAM_SPLIT:
    case QN_ATTACK_NONE:
        break;
    }
    honest(&changed, chance);
    add(to, attack->fraction, chance);
}

static bool is_fraction(double x) { return x >= 0 && x <= 1; }

static bool is_valid(const struct qn_receiver *r, const struct qn_attack *attack) {
    for (unsigned d = 0; d < 2; d++)
        if (!is_fraction(r->efficiency[d]) || !(r->dark[d] >= 0 && r->dark[d] < 1)) return false;
    return is_fraction(r->transmittance) && is_fraction(r->misalignment) && is_fraction(r->kept) &&
           is_fraction(r->test_basis) && r->afterpulse >= 0 && r->afterpulse < 1 && r->pixels >= 1 &&
           r->pixels <= QN_PIXELS_MAX && is_fraction(attack->fraction) && is_fraction(attack->evenly) &&
           (attack->kind != QN_ATTACK_TIME_SHIFT || attack->ratio >= 1);
}

int qn_optics_init(struct qn_optics *ret, const struct qn_source *source, const struct qn_receiver *receiver,
                   const struct qn_attack *attack) {
    if (!is_valid(receiver, attack) || source->n < 1 || source->n > QN_INTENSITIES_MAX) return -QN_EINVAL;
    *ret = (struct qn_optics){.source = *source, .receiver = *receiver, .attack = *attack};
    if (attack->kind == QN_ATTACK_NONE) ret->attack.fraction = 0;
    if (attack->kind == QN_ATTACK_CUT) ret->attack.fraction = 1;
    struct shares shares = {0};
    if (attack->kind == QN_ATTACK_SPLIT) shares = split_shares(ret);
    struct pulse pulse = {.optics = ret, .transmittance = receiver->transmittance, .weaker = {1, 1}};
    for (pulse.intensity = 0; pulse.intensity < source->n; pulse.intensity++)
        for (unsigned i = 0; i < 8; i++) {
            pulse.basis = i >> 2;
            pulse.bit = i >> 1 & 1;
            pulse.measured = i & 1;
            double *chance = ret->chance[pulse.intensity][pulse.basis][pulse.bit][pulse.measured], plain[4];
            honest(&pulse, plain);
            add(chance, 1 - ret->attack.fraction, plain);
            if (ret->attack.fraction > 0) attacked(&pulse, &shares, chance);
        }
    return 0;
}

bool qn_source_from(const struct qn_topology *topology, const struct qn_topo_link *link, struct qn_source *ret) {
    static const enum qn_emission emissions[] = {
        [QN_SOURCE_SINGLE_PHOTON] = QN_EMIT_SINGLE,
        [QN_SOURCE_WEAK_COHERENT] = QN_EMIT_COHERENT,
        [QN_SOURCE_PAIRS] = QN_EMIT_HERALDED, /* Not on bb84 links. */
        [QN_SOURCE_HERALDED] = QN_EMIT_HERALDED,
    };
    const struct qn_topo_node *node = &topology->nodes[link->a];
    bool chosen = link->intensities.n > 0 || link->protocol == QN_PROTOCOL_PLAIN;
    *ret = (struct qn_source){.emission = emissions[node->source],
                              .n = 1,
                              .mean = {node->source == QN_SOURCE_SINGLE_PHOTON ? 1 : node->mean_photons},
                              .probability = {1},
                              .test_basis = link->key_basis > 0 ? 1 - link->key_basis : 0.5,
                              .herald_efficiency = node->herald_efficiency};
    if (link->intensities.n > 0) {
        ret->n = link->intensities.n;
        memcpy(ret->mean, link->intensities.value, sizeof ret->mean);
        memcpy(ret->probability, link->probabilities.value, sizeof ret->probability);
    }
    (void)qn_source_settle(ret); /* The topology has checked the ranges. */
    return chosen && (link->key_basis > 0 || link->protocol == QN_PROTOCOL_PLAIN);
}

/* A Gaussian beam that widens by diffraction and pointing, and a round telescope around its middle; e.g. Pirandola,
 * Phys. Rev. Research 3, 013279 (2021). */
static double caught(const struct qn_topo_link *link) {
    if (!(link->aperture_km > 0)) return 1;
    double spread = link->divergence_rad * link->length_km, radius = link->aperture_km / 2;
    double square = link->beam_waist_km * link->beam_waist_km + spread * spread;
    return square > 0 ? -expm1(-2 * radius * radius / square) : 1;
}

void qn_receiver_from(const struct qn_topology *topology, const struct qn_topo_link *link, struct qn_receiver *ret) {
    const struct qn_topo_node *node = &topology->nodes[link->b], *source = &topology->nodes[link->a];
    double dark = qn_dark_probability(node->dark_rate_hz, node->gate_window_s);
    double dead = ceil(node->dead_s * source->clock_hz - 1e-9);
    *ret = (struct qn_receiver){
        .transmittance =
            qn_fibre_transmittance(link->length_km, link->loss_db_km, link->insertion_loss_db) * caught(link),
        .misalignment = link->misalignment,
        .efficiency = {node->detector_efficiency, node->detector_efficiency * (1 - node->mismatch)},
        .dark = {dark, dark},
        .kept = qn_jitter_kept(node->jitter_s, node->gate_window_s),
        .test_basis = link->key_basis > 0 ? 1 - link->key_basis : 0.5,
        .afterpulse = node->afterpulse,
        .dead_pulses = dead < UINT32_MAX ? (uint32_t)dead : UINT32_MAX,
        .pixels = node->pixels > 0 ? node->pixels : 1,
        .dead_scope = node->dead_scope == QN_DEAD_TIME_RECEIVER ? QN_DEAD_RECEIVER : QN_DEAD_PIXEL,
    };
}
