/* SPDX-License-Identifier: Apache-2.0 */
/* Thinning: candidates come with the chance of the choice that clicks most often, and each is kept with the ratio of
 * its own chance to that one (Lewis and Shedler, Nav. Res. Logist. Q. 26, 403, 1979, in discrete time). What it is kept
 * as comes from the same draw, by the alias method (Walker, ACM Trans. Math. Softw. 3, 253, 1977). Dead pixels and
 * afterpulses need the order of events: they thin and add to the candidates that were kept, one by one. */
#include "link/detect.h"

#include <assert.h>
#include <math.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "link/choices.h"
#include "link/fast.h"

#define OUTCOMES FAST_COLUMNS /* 0: none; 1 + 3 b + (0, 1, 2): detector's basis b; 0, 1, both. Last: never. */

struct pixels {
    double afterpulse;
    uint64_t dead;
    uint32_t n;
    bool shared;                      /* One dead time for all. */
    uint64_t ready[2][QN_PIXELS_MAX]; /* First gate in which it sees. */
    struct fast_rng rng;
    uint64_t draws[256]; /* The last `left` of which are new. */
    unsigned left;
    /* Afterpulses to come, in order: as the dead time is the same for all, first in is first out. A pixel has at most
     * one. */
    struct {
        uint64_t gate;
        uint8_t detector, pixel;
    } coming[2 * QN_PIXELS_MAX];
    unsigned first, count;
};

struct qn_detector {
    struct qn_source source;
    struct qn_stream stream;
    double candidate, test_basis; /* Chance of a candidate in a pulse; see receiver. */
    const struct fast_set *set;
    struct fast_rng rng;
    struct fast_gaps gaps;
    struct fast_outcomes outcomes;
    bool is_sequential, is_fresh;
    struct pixels pixels;
    /* Candidates kept of the last batch, the first `at` of which are dealt with; offsets count from `base`. */
    uint64_t drawn, base; /* First pulse not drawn yet. */
    size_t kept, at;
    uint32_t offset[QN_DETECT_BATCH];
    uint8_t code[QN_DETECT_BATCH + 64];
    uint64_t draws[2 * QN_DETECT_BATCH], position[QN_DETECT_BATCH];
    uint32_t words[QN_DETECT_BATCH];
    /* Sequential: clicks whose offsets are in the caller's array, but whose bits are not yet. */
    uint8_t click[QN_DETECT_BATCH + 64];
    size_t clicks;
};

struct qn_detector *qn_detector_new(void) {
    return calloc(1, sizeof(struct qn_detector));
}

void qn_detector_free(struct qn_detector *detector) {
    if (detector == NULL) return;
    sodium_memzero(detector, sizeof *detector);
    free(detector);
}

/* ---- Tables ---- */

/* Vose's form of the alias method (IEEE Trans. Softw. Eng. 17, 972, 1991). A draw has 61 bits besides the column; the
 * lowest 8 of its bound are the two outcomes. */
static void alias_make(const double chance[OUTCOMES], uint64_t entry[OUTCOMES]) {
    static const uint8_t codes[OUTCOMES] = {
        0,
        CLICK,
        CLICK | CLICK_BIT,
        CLICK | CLICK_BOTH,
        CLICK | CLICK_BASIS,
        CLICK | CLICK_BASIS | CLICK_BIT,
        CLICK | CLICK_BASIS | CLICK_BOTH,
        0,
    };
    double share[OUTCOMES];
    unsigned small[OUTCOMES], large[OUTCOMES], n_small = 0, n_large = 0;
    for (unsigned i = 0; i < OUTCOMES; i++) {
        share[i] = chance[i] * OUTCOMES;
        entry[i] = (UINT64_MAX & ~UINT64_C(0xff)) | (uint64_t)codes[i] << 4 | codes[i];
        if (share[i] < 1)
            small[n_small++] = i;
        else
            large[n_large++] = i;
    }
    while (n_small > 0 && n_large > 0) {
        unsigned s = small[--n_small], l = large[--n_large];
        entry[s] = (uint64_t)(share[s] * 0x1p56) << 8 | (uint64_t)codes[l] << 4 | codes[s];
        share[l] -= 1 - share[s];
        if (share[l] < 1)
            small[n_small++] = l;
        else
            large[n_large++] = l;
    }
}

/* Chances of outcomes of a candidate, by choice. Sets the chance of a candidate. */
static void tables_make(struct qn_detector *detector, const struct qn_optics *optics) {
    double chance[FAST_CELLS][OUTCOMES] = {{0}};
    double measured[2] = {1 - optics->receiver.test_basis, optics->receiver.test_basis};
    detector->candidate = 0;
    for (unsigned cell = 0; cell < 4 * optics->source.n; cell++) {
        double click = 0;
        for (unsigned b = 0; b < 2; b++)
            for (unsigned o = QN_OUTCOME_0; o <= QN_OUTCOME_BOTH; o++) {
                double p = measured[b] * optics->chance[cell >> 2][cell >> 1 & 1][cell & 1][b][o];
                chance[cell][3 * b + o] = p;
                click += p;
            }
        if (click > detector->candidate) detector->candidate = click;
    }
    if (!(detector->candidate > 0)) return;
    if (detector->candidate > 1) detector->candidate = 1; /* By rounding. */
    for (unsigned cell = 0; cell < 4 * optics->source.n; cell++) {
        double rest = 1;
        for (unsigned o = 1; o < OUTCOMES; o++) {
            chance[cell][o] /= detector->candidate;
            rest -= chance[cell][o];
        }
        chance[cell][0] = rest > 0 ? rest : 0;
        alias_make(chance[cell], detector->outcomes.entry[cell]);
    }
}

void qn_detector_start(struct qn_detector *detector, const struct qn_optics *optics, const uint8_t key[32],
                       uint64_t seed, uint64_t index) {
    const struct qn_receiver *receiver = &optics->receiver;
    detector->source = optics->source;
    detector->test_basis = receiver->test_basis;
    qn_stream_init(&detector->stream, key);
    tables_make(detector, optics);
    detector->set = fast_set_best();
    fast_rng_init(&detector->rng, "clicks", seed, index);
    double chance = detector->candidate;
    fast_gaps_init(&detector->gaps, chance > 0 && chance < 1 ? -1 / log1p(-chance) : 0);
    detector->kept = detector->at = 0;
    detector->is_fresh = true;
    detector->is_sequential = receiver->dead_pulses > 0 || receiver->afterpulse > 0;
    detector->pixels = (struct pixels){.afterpulse = receiver->afterpulse,
                                       .dead = receiver->dead_pulses,
                                       .n = receiver->dead_scope == QN_DEAD_RECEIVER ? 1 : receiver->pixels,
                                       .shared = receiver->dead_scope == QN_DEAD_RECEIVER};
    fast_rng_init(&detector->pixels.rng, "pixels", seed, index);
}

void fast_detector_use(struct qn_detector *detector, const struct fast_set *set, const struct qn_aes_set *aes) {
    detector->set = set;
    detector->stream.aes.set = aes;
}

/* ---- A batch of candidates, kept or not ---- */

/* How many to draw at once: not many more than the stretch will need. */
static size_t batch_size(const struct qn_detector *detector, uint64_t left) {
    double expected = (double)left * detector->candidate * 1.125 + 8;
    return expected < QN_DETECT_BATCH ? ((size_t)expected + FAST_LANES - 1) / FAST_LANES * FAST_LANES : QN_DETECT_BATCH;
}

/* Draws candidates of pulses [*next, end); those that click go to `offset` and `code`. */
static size_t batch_draw(struct qn_detector *d, uint64_t *next, uint64_t end, uint64_t base, uint32_t *offset) {
    if (!(d->candidate > 0)) {
        *next = end;
        return 0;
    }
    size_t n = batch_size(d, end - *next);
    const uint64_t *gaps = d->draws, *which = d->draws + n;
    d->set->fill(&d->rng, d->draws, 2 * n);
    n = d->set->positions(&d->gaps, gaps, n, next, end, d->position);
    qn_aes_words(&d->stream.aes, d->stream.nonce, d->position, n, d->words);
    return d->set->keep(&d->source, &d->outcomes, d->position, d->words, which, gaps, n, base, offset, d->code);
}

/* ---- Into the arrays ---- */

/* Appends the bits of `n` clicks; code[n ..] is writable up to the next 64. */
static void codes_append(const struct fast_set *set, struct qn_detections *out, const uint8_t *code, size_t n) {
    size_t from = out->len % 64, word = out->len / 64;
    for (size_t i = 0; i < n; word++) {
        uint8_t part[64] = {0};
        uint64_t bits[3];
        size_t some = 64 - from < n - i ? 64 - from : n - i;
        if (some == 64) {
            set->split(code + i, bits);
        } else {
            memcpy(part + from, code + i, some);
            set->split(part, bits);
        }
        out->basis[word] = from == 0 ? bits[0] : out->basis[word] | bits[0];
        out->bit[word] = from == 0 ? bits[1] : out->bit[word] | bits[1];
        out->doubles[0] += (unsigned)__builtin_popcountll(bits[2] & ~bits[0]);
        out->doubles[1] += (unsigned)__builtin_popcountll(bits[2] & bits[0]);
        i += some;
        from = 0;
    }
    out->len += n;
}

/* ---- Dead time and afterpulses ---- */

static uint64_t pixels_draw(struct qn_detector *d) {
    struct pixels *p = &d->pixels;
    enum { DRAWS = sizeof p->draws / sizeof *p->draws };
    if (p->left == 0) {
        d->set->fill(&p->rng, p->draws, DRAWS);
        p->left = DRAWS;
    }
    return p->draws[DRAWS - p->left--];
}

static bool pixels_chance(struct qn_detector *d, double chance) {
    return (double)(int64_t)(pixels_draw(d) >> 11) * 0x1p-53 < chance;
}

/* A pixel counts in this gate: it is blind for a while, and may count again after. */
static void pixel_count(struct qn_detector *d, unsigned detector, unsigned pixel, uint64_t gate) {
    struct pixels *p = &d->pixels;
    uint64_t ready = gate + p->dead + 1;
    p->ready[detector][pixel] = ready;
    if (p->shared) p->ready[1 - detector][pixel] = ready;
    if (p->afterpulse > 0 && pixels_chance(d, p->afterpulse)) {
        unsigned at = (p->first + p->count++) % (2 * QN_PIXELS_MAX);
        p->coming[at].gate = ready;
        p->coming[at].detector = (uint8_t)detector;
        p->coming[at].pixel = (uint8_t)pixel;
    }
}

/* The gate at hand: which pixel of each detector counts in it; `n` if none. */
struct gate {
    uint32_t pixel[2];
};

static void gate_light(struct qn_detector *d, struct gate *gate, unsigned detector, uint64_t at) {
    struct pixels *p = &d->pixels;
    uint32_t pixel = p->n > 1 ? (uint32_t)((pixels_draw(d) >> 32) * p->n >> 32) : 0; /* Even to 2^-26. */
    if (p->ready[detector][pixel] <= at) gate->pixel[detector] = pixel;
}

/* Afterpulses of this gate. A detector that counts twice, in two pixels or in one, gives one click; both pixels go
 * blind. */
static void gate_afterpulses(struct qn_detector *d, struct gate *gate, uint64_t at) {
    struct pixels *p = &d->pixels;
    while (p->count > 0 && p->coming[p->first].gate == at) {
        unsigned detector = p->coming[p->first].detector, pixel = p->coming[p->first].pixel;
        p->first = (p->first + 1) % (2 * QN_PIXELS_MAX);
        p->count--;
        if (gate->pixel[detector] != p->n && gate->pixel[detector] != pixel)
            pixel_count(d, detector, pixel, at);
        else
            gate->pixel[detector] = pixel;
    }
}

static void click_append(struct qn_detector *d, const struct gate *gate, uint64_t at, unsigned basis, uint64_t first,
                         struct qn_detections *out) {
    struct pixels *p = &d->pixels;
    bool counts[2] = {gate->pixel[0] != p->n, gate->pixel[1] != p->n};
    if (!counts[0] && !counts[1]) return;
    for (unsigned i = 0; i < 2; i++)
        if (counts[i]) pixel_count(d, i, gate->pixel[i], at);
    uint8_t code = (uint8_t)(basis | (counts[1] ? CLICK_BIT : 0));
    if (counts[0] && counts[1]) code = (uint8_t)(basis | CLICK_BOTH | (pixels_draw(d) >> 63 ? CLICK_BIT : 0));
    out->offset[out->len + d->clicks] = (uint32_t)(at - first);
    d->click[d->clicks++] = code;
}

/* The common case, without branches on what nobody can predict: light on one detector, and no afterpulse due. */
static void gate_of_one(struct qn_detector *d, uint8_t code, uint64_t at, uint64_t first, struct qn_detections *out) {
    struct pixels *p = &d->pixels;
    unsigned detector = code >> 1 & 1;
    uint32_t pixel = p->n > 1 ? (uint32_t)((pixels_draw(d) >> 32) * p->n >> 32) : 0;
    if (p->ready[detector][pixel] > at) return;
    out->offset[out->len + d->clicks] = (uint32_t)(at - first);
    d->click[d->clicks++] = code;
    pixel_count(d, detector, pixel, at);
}

/* Deals with the next gate before `end` in which anything may happen; false if there is none. */
static bool gate_next(struct qn_detector *d, uint64_t end, uint64_t first, struct qn_detections *out) {
    struct pixels *p = &d->pixels;
    bool lit = d->at < d->kept;
    uint64_t at = lit ? d->base + d->offset[d->at] : end;
    if (p->count > 0 && p->coming[p->first].gate < at) {
        at = p->coming[p->first].gate;
        lit = false;
    }
    if (at >= end) return false;
    if (lit && !(d->code[d->at] & CLICK_BOTH) && (p->count == 0 || p->coming[p->first].gate != at)) {
        gate_of_one(d, d->code[d->at++], at, first, out);
        return true;
    }
    struct gate gate = {{p->n, p->n}};
    unsigned basis;
    if (lit) {
        uint8_t code = d->code[d->at++];
        basis = code & CLICK_BASIS;
        for (unsigned i = 0; i < 2; i++)
            if (code & CLICK_BOTH || (code >> 1 & 1) == i) gate_light(d, &gate, i, at);
    } else {
        basis = pixels_chance(d, d->test_basis);
    }
    gate_afterpulses(d, &gate, at);
    click_append(d, &gate, at, basis, first, out);
    return true;
}

void qn_detector_run(struct qn_detector *d, uint64_t first, uint64_t *next, uint64_t end, struct qn_detections *out) {
    assert(first <= *next && *next <= end && end - first <= UINT64_C(1) << 32);
    while (!d->is_sequential && *next < end && out->cap - out->len >= QN_DETECT_BATCH) {
        size_t kept = batch_draw(d, next, end, first, out->offset + out->len);
        codes_append(d->set, out, d->code, kept);
    }
    if (!d->is_sequential) return;
    if (d->is_fresh) d->drawn = *next;
    d->is_fresh = false;
    while (*next < end) {
        size_t room = out->cap - out->len < QN_DETECT_BATCH ? out->cap - out->len : QN_DETECT_BATCH;
        while (d->clicks < room && gate_next(d, d->drawn, first, out)) continue;
        bool is_full = d->clicks == room;
        codes_append(d->set, out, d->click, d->clicks);
        d->clicks = 0;
        if (is_full && out->len == out->cap) return;
        if (is_full) continue;
        *next = d->base = d->drawn;
        d->at = d->kept = 0;
        if (d->drawn < end) d->kept = batch_draw(d, &d->drawn, end, d->base, d->offset);
    }
}

size_t qn_detections_bound(const struct qn_optics *optics, uint64_t pulses) {
    double click = 0;
    const struct qn_source *s = &optics->source;
    for (unsigned k = 0; k < s->n; k++)
        for (unsigned i = 0; i < 8; i++) {
            double basis = i >> 2 ? s->test_basis : 1 - s->test_basis;
            double measured = i & 1 ? optics->receiver.test_basis : 1 - optics->receiver.test_basis;
            click += s->probability[k] * basis * measured / 2 *
                     (1 - optics->chance[k][i >> 2][i >> 1 & 1][i & 1][QN_OUTCOME_NONE]);
        }
    double clicks = click * (double)pulses / (1 - optics->receiver.afterpulse);
    double bound = clicks + 10 * sqrt(clicks) + 64 + QN_DETECT_BATCH;
    if (bound > (double)pulses + QN_DETECT_BATCH) bound = (double)pulses + QN_DETECT_BATCH;
    return ((size_t)bound + 63) / 64 * 64;
}
