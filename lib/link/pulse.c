/* SPDX-License-Identifier: Apache-2.0 */
/* BB84 with two threshold detectors: Bennett and Brassard, Proc. IEEE Int. Conf. Computers, Systems and Signal
 * Processing, Bangalore, 175 (1984); channel as in Ma, Qi, Zhao and Lo, PRA 72, 012326 (2005), but exact in the
 * coincidences of two detectors. Double clicks give a random bit: Luetkenhaus, PRA 61, 052304 (2000).
 *
 * What makes clicks cheap: the chance of a click is the same for every bit and basis, sent or chosen by the detector,
 * since these only divide the light (or the photon) between two equal detectors. So clicks come at geometric gaps, and
 * bit and basis are looked up after. Eve measures and sends on, from beside the source, pulses of the same strength:
 * she changes no rate either, and whether a pulse that clicked was hers is independent of the click. */
#include "link/pulse.h"

#include <assert.h>
#include <math.h>
#include <sodium.h>
#include <string.h>

#include "link/detector.h"
#include "link/link.h"

/* Two bits a pulse, lowest first: the bit, the basis. */
#define BLOCK 64
#define PULSES_PER_BLOCK (4 * BLOCK)
#define WINDOW 16 /* Blocks made at once where clicks are dense. */

static struct qn_pulse pulse_of(const uint8_t *stream, uint64_t index) {
    unsigned pair = (unsigned)stream[index / 4] >> (2 * (index % 4));
    return (struct qn_pulse){.bit = pair & 1, .basis = pair >> 1 & 1};
}

static void stream_make(const uint8_t key[32], uint64_t block, uint8_t *out, size_t n_blocks) {
    /* Apart from any other use of the key, which counts its nonces from zero. */
    static const uint8_t nonce[crypto_stream_chacha20_NONCEBYTES] = {'p', 'u', 'l', 's', 'e', 's', 0, 1};
    memset(out, 0, n_blocks * BLOCK);
    crypto_stream_chacha20_xor_ic(out, out, n_blocks * BLOCK, nonce, block, key);
}

struct qn_pulse qn_pulse_at(const uint8_t key[32], uint64_t index) {
    uint8_t block[BLOCK];
    stream_make(key, index / PULSES_PER_BLOCK, block, 1);
    struct qn_pulse pulse = pulse_of(block, index % PULSES_PER_BLOCK);
    sodium_memzero(block, sizeof block);
    return pulse;
}

void qn_pulse_channel_from(const struct qn_topology *topology, const struct qn_topo_link *link, double eve,
                           struct qn_pulse_channel *ret) {
    const struct qn_topo_node *source = &topology->nodes[link->a], *detector = &topology->nodes[link->b];
    double fibre = qn_fibre_transmittance(link->length_km, link->loss_db_km, link->insertion_loss_db);
    *ret = (struct qn_pulse_channel){
        .transmittance = fibre * detector->detector_efficiency,
        .mean_photons = source->source == QN_SOURCE_WEAK_COHERENT ? source->mean_photons : 0,
        .dark = qn_dark_probability(detector->dark_rate_hz, detector->gate_window_s),
        .misalignment = link->misalignment,
        .eve = eve,
    };
}

/* Gain, and the chance of gain and wrong bit, when the detector's basis is the one the pulse was prepared in. */
static void matched(const struct qn_pulse_channel *channel, double *ret_gain, double *ret_wrong) {
    double eta = channel->transmittance, dark = channel->dark, quiet = 1 - dark, flip = channel->misalignment;
    if (channel->mean_photons > 0) {
        double light = eta * channel->mean_photons;
        /* Chances that the right, and the wrong, detector clicks: the light splits, the counts are independent. */
        double right = dark - quiet * expm1(-light * (1 - flip)), wrong = dark - quiet * expm1(-light * flip);
        *ret_gain = right + wrong - right * wrong;
        *ret_wrong = wrong * (1 - right) + right * wrong / 2;
    } else {
        double empty = 1 - eta;
        *ret_gain = eta + empty * (2 * dark - dark * dark);
        *ret_wrong = eta * (flip * quiet + dark / 2) + empty * (dark * quiet + dark * dark / 2);
    }
}

double qn_pulse_gain(const struct qn_pulse_channel *channel) {
    double gain, wrong;
    matched(channel, &gain, &wrong);
    return gain;
}

static double honest_qber(const struct qn_pulse_channel *channel) {
    double gain, wrong;
    matched(channel, &gain, &wrong);
    return gain > 0 ? wrong / gain : 0;
}

double qn_pulse_qber(const struct qn_pulse_channel *channel) {
    /* Half of Eve's pulses are in the other basis; the two detectors share those evenly. */
    return (1 - channel->eve / 2) * honest_qber(channel) + channel->eve / 4;
}

/* The source's choices around the click at hand. */
struct stream {
    const uint8_t *key;
    size_t n_blocks;
    uint64_t first; /* Block; the window is [first, end). */
    uint64_t end;
    uint8_t bytes[WINDOW * BLOCK];
};

static struct qn_pulse stream_at(struct stream *stream, uint64_t index) {
    uint64_t block = index / PULSES_PER_BLOCK;
    if (block >= stream->end) { /* Clicks come in order: never before the window. */
        stream_make(stream->key, block, stream->bytes, stream->n_blocks);
        stream->first = block;
        stream->end = block + stream->n_blocks;
    }
    return pulse_of(stream->bytes, index - stream->first * PULSES_PER_BLOCK);
}

/* What the detector reads of a pulse that made it click. */
static struct qn_click click_draw(uint64_t position, struct qn_pulse pulse, double eve, double qber,
                                  struct qn_rng *rng) {
    uint64_t coins = qn_rng_u64(rng) >> 60; /* Detector's basis; its bit by chance; Eve's basis; her bit by chance. */
    struct qn_click click = {.position = position, .basis = coins & 1, .bit = coins >> 1 & 1};
    if (eve > 0 && qn_rng_double(rng) < eve) {
        uint8_t basis = coins >> 2 & 1;
        if (basis != pulse.basis) pulse = (struct qn_pulse){.basis = basis, .bit = coins >> 3 & 1};
    }
    if (click.basis == pulse.basis) click.bit = pulse.bit ^ (qn_rng_double(rng) < qber);
    return click;
}

size_t qn_pulse_detect(const struct qn_pulse_channel *channel, const uint8_t key[32], uint64_t from, uint64_t pulses,
                       struct qn_rng *rng, struct qn_click *clicks, size_t max, uint64_t *ret_next) {
    assert(from <= pulses);
    double gain = qn_pulse_gain(channel), qber = honest_qber(channel), mean_gap = -1 / log1p(-gain);
    /* A window costs about as much as four single blocks. */
    struct stream stream = {.key = key, .n_blocks = gain * WINDOW * PULSES_PER_BLOCK > 4 ? WINDOW : 1};
    size_t count = 0;
    while (count < max && from < pulses) {
        double gap = floor(qn_rng_exponential(rng) * mean_gap); /* Pulses without a click. */
        if (!(gap < (double)(pulses - from)))
            from = pulses;
        else {
            from += (uint64_t)gap;
            clicks[count++] = click_draw(from, stream_at(&stream, from), channel->eve, qber, rng);
            from++;
        }
    }
    sodium_memzero(stream.bytes, sizeof stream.bytes);
    *ret_next = from;
    return count;
}
