/* SPDX-License-Identifier: Apache-2.0 */
/* Thinning: candidates come with the chance of the choice that clicks most often, or a little more, and each is kept
 * with the ratio of its own chance to that one (Lewis and Shedler, Nav. Res. Logist. Q. 26, 403, 1979, in discrete
 * time). What it is kept as comes from the same draw, by the alias method (Walker, ACM Trans. Math. Softw. 3, 253,
 * 1977). Where candidates are dense, pulses are drawn 64 at a time as bits of a word; else the gaps between candidates
 * are. Dead pixels and afterpulses need the order of events: they thin and add to the candidates that were kept, one by
 * one. */
#include "link/detect.h"

#include <assert.h>
#include <math.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "link/choices.h"
#include "link/fast.h"

#define OUTCOMES FAST_COLUMNS /* enum qn_outcome + 4 x detector's basis; of the two that are none, the first only. */
#define DENSE (1.0 / 32)      /* Chance of a candidate from which on all pulses are drawn. */

/* What a click is. */
enum { CLICK_BASIS = 1, CLICK_BIT = 2, CLICK_BOTH = 4 };

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
    struct qn_rng ties;
    struct fast_gaps gaps;
    bool is_dense;
    struct fast_chance chance; /* Dense: of a candidate. */
    uint64_t masks[64];        /* Of pulses to come: which are candidates. The first `masked` are used up. */
    size_t masked;
    struct fast_outcomes outcomes;
    bool is_sequential, is_fresh;
    struct pixels pixels;
    /* Candidates kept of the last batch, the first `at` of which are dealt with; offsets count from `base`. */
    uint64_t drawn, base; /* First pulse not drawn yet. */
    size_t at;
    struct fast_clicks kept;
    uint32_t offset[FAST_BATCH + FAST_SLACK], position[FAST_BATCH + FAST_SLACK], words[FAST_BATCH + FAST_SLACK];
    uint64_t draws[FAST_BATCH];
    /* Sequential: clicks whose offsets are in the caller's array, but whose bits are not yet. */
    struct fast_clicks clicks;
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

/* Vose's form of the alias method (IEEE Trans. Softw. Eng. 17, 972, 1991). */
static void alias_make(const double chance[OUTCOMES], uint16_t entry[OUTCOMES], uint64_t rest[OUTCOMES]) {
    double share[OUTCOMES];
    unsigned small[OUTCOMES], large[OUTCOMES], n_small = 0, n_large = 0;
    for (unsigned i = 0; i < OUTCOMES; i++) {
        share[i] = chance[i] * OUTCOMES;
        entry[i] = (uint16_t)i; /* Whatever is drawn. */
        rest[i] = 0;
        if (share[i] < 1)
            small[n_small++] = i;
        else
            large[n_large++] = i;
    }
    while (n_small > 0 && n_large > 0) {
        unsigned s = small[--n_small], l = large[--n_large];
        double steps = share[s] * (1 << FAST_COLUMN_BITS), whole = floor(steps);
        entry[s] = (uint16_t)((unsigned)whole * FAST_COLUMNS + l);
        rest[s] = (uint64_t)((steps - whole) * 0x1p64);
        share[l] -= 1 - share[s];
        if (share[l] < 1)
            small[n_small++] = l;
        else
            large[n_large++] = l;
    }
}

/* The chance of a candidate: at least that of the click of any choice. */
static void candidate_make(struct qn_detector *detector, double most) {
    detector->candidate = most < 1 ? most : 1; /* More by rounding. */
    detector->is_dense = most >= DENSE;
    detector->masked = sizeof detector->masks / sizeof *detector->masks;
    if (!(most > 0)) return;
    if (detector->is_dense) {
        fast_chance_init(&detector->chance, detector->candidate);
        detector->candidate = detector->chance.numerator / (double)(1u << detector->chance.bits);
    } else {
        fast_gaps_init(&detector->gaps, -1 / log1p(-detector->candidate));
    }
}

/* Chances of outcomes of a candidate, by choice. */
static void tables_make(struct qn_detector *detector, const struct qn_optics *optics) {
    double chance[FAST_CHOICES][OUTCOMES] = {{0}}, most = 0;
    double measured[2] = {1 - optics->receiver.test_basis, optics->receiver.test_basis};
    for (unsigned i = 0; i < 4 * optics->source.n; i++) {
        double click = 0;
        for (unsigned b = 0; b < 2; b++)
            for (unsigned o = QN_OUTCOME_0; o <= QN_OUTCOME_BOTH; o++) {
                double p = measured[b] * optics->chance[i >> 2][i >> 1 & 1][i & 1][b][o];
                chance[i][4 * b + o] = p;
                click += p;
            }
        if (click > most) most = click;
    }
    candidate_make(detector, most);
    if (!(detector->candidate > 0)) return;
    for (unsigned i = 0; i < 4 * optics->source.n; i++) {
        double rest = 1;
        for (unsigned o = 1; o < OUTCOMES; o++) {
            chance[i][o] /= detector->candidate;
            rest -= chance[i][o];
        }
        chance[i][0] = rest > 0 ? rest : 0;
        alias_make(chance[i], detector->outcomes.entry[i], detector->outcomes.rest[i]);
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
    qn_rng_init(&detector->ties, seed, "ties", index);
    detector->kept.n = detector->at = 0;
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

static size_t lanes(size_t words) { return (words + FAST_LANES - 1) / FAST_LANES * FAST_LANES; }

/* How many gaps to draw at once: not many more than the stretch will need. */
static size_t batch_size(const struct qn_detector *d, uint64_t left) {
    double expected = (double)left * d->candidate * 1.125 + 8;
    return expected < FAST_BATCH ? lanes((size_t)expected) : FAST_BATCH;
}

static size_t batch_sparse(struct qn_detector *d, uint64_t first, uint64_t *next, uint64_t end) {
    size_t n = batch_size(d, end - *next);
    d->set->fill(&d->rng, d->draws, n);
    return d->set->positions(&d->gaps, d->draws, n, first, next, end, d->position);
}

static size_t batch_dense(struct qn_detector *d, uint64_t first, uint64_t *next, uint64_t end) {
    enum { MASKS = sizeof d->masks / sizeof *d->masks };
    size_t n = 0;
    while (*next < end && n + 64 <= FAST_BATCH) {
        if (d->masked == MASKS) {
            d->set->masks(&d->rng, &d->chance, d->masks, MASKS);
            d->masked = 0;
        }
        uint64_t *mask = d->masks + d->masked, left = end - *next;
        size_t words = MASKS - d->masked;
        if (left / 64 < words) words = left / 64;
        if (left < 64) {
            *mask &= ~(~UINT64_C(0) << left);
            words = 1;
        }
        n += d->set->ones(mask, &words, (uint32_t)(*next - first), FAST_BATCH - n, d->position + n);
        d->masked += words;
        *next = left < 64 ? end : *next + 64 * words;
    }
    return n;
}

/* Draws candidates of pulses [*next, end); those that click go to `position`, less `first`, and `kept`. */
static void batch_draw(struct qn_detector *d, uint64_t first, uint64_t *next, uint64_t end, uint32_t *position,
                       struct fast_clicks *kept) {
    kept->n = 0;
    if (!(d->candidate > 0)) {
        *next = end;
        return;
    }
    size_t n = d->is_dense ? batch_dense(d, first, next, end) : batch_sparse(d, first, next, end);
    const uint64_t *coins = d->draws + lanes((n + 3) / 4);
    qn_aes_words(&d->stream.aes, d->stream.nonce, first, d->position, n, d->words);
    d->set->fill(&d->rng, d->draws, lanes((n + 3) / 4) + lanes((n + 63) / 64));
    d->set->keep(&d->source, &d->outcomes, d->position, d->words, d->draws, coins, n, &d->ties, position, kept);
}

/* ---- Into the arrays ---- */

static void bits_append(uint64_t *to, size_t len, const uint64_t *from, size_t n) {
    size_t shift = len % 64;
    to += len / 64;
    for (size_t i = 0; i * 64 < n; i++) {
        to[i] = shift == 0 ? from[i] : to[i] | from[i] << shift;
        if (shift + (n - i * 64) > 64 && shift > 0) to[i + 1] = from[i] >> (64 - shift);
    }
}

static void clicks_append(struct qn_detections *out, const struct fast_clicks *clicks) {
    bits_append(out->basis, out->len, clicks->basis, clicks->n);
    bits_append(out->bit, out->len, clicks->bit, clicks->n);
    for (unsigned basis = 0; basis < 2; basis++) out->doubles[basis] += clicks->doubles[basis];
    out->len += clicks->n;
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

static unsigned click_code(const struct fast_clicks *clicks, size_t i) {
    size_t word = i / 64, place = i % 64;
    return (unsigned)(clicks->basis[word] >> place & 1) * CLICK_BASIS +
           (unsigned)(clicks->bit[word] >> place & 1) * CLICK_BIT +
           (unsigned)(clicks->both[word] >> place & 1) * CLICK_BOTH;
}

static void click_add(struct qn_detector *d, unsigned code, uint64_t offset, struct qn_detections *out) {
    struct fast_clicks *clicks = &d->clicks;
    size_t word = clicks->n / 64, place = clicks->n % 64;
    out->offset[out->len + clicks->n++] = (uint32_t)offset;
    if (place == 0) clicks->basis[word] = clicks->bit[word] = 0;
    clicks->basis[word] |= (uint64_t)(code % 2) << place;
    clicks->bit[word] |= (uint64_t)(code / 2 % 2) << place;
    clicks->doubles[code % 2] += code / 4;
}

static void click_append(struct qn_detector *d, const struct gate *gate, uint64_t at, unsigned basis, uint64_t first,
                         struct qn_detections *out) {
    struct pixels *p = &d->pixels;
    bool counts[2] = {gate->pixel[0] != p->n, gate->pixel[1] != p->n};
    if (!counts[0] && !counts[1]) return;
    for (unsigned i = 0; i < 2; i++)
        if (counts[i]) pixel_count(d, i, gate->pixel[i], at);
    unsigned code = basis | (counts[1] ? CLICK_BIT : 0);
    if (counts[0] && counts[1]) code = basis | CLICK_BOTH | (pixels_draw(d) >> 63 ? CLICK_BIT : 0);
    click_add(d, code, at - first, out);
}

/* The common case, without branches on what nobody can predict: light on one detector, and no afterpulse due. */
static void gate_of_one(struct qn_detector *d, unsigned code, uint64_t at, uint64_t first, struct qn_detections *out) {
    struct pixels *p = &d->pixels;
    unsigned detector = code >> 1 & 1;
    uint32_t pixel = p->n > 1 ? (uint32_t)((pixels_draw(d) >> 32) * p->n >> 32) : 0;
    if (p->ready[detector][pixel] > at) return;
    click_add(d, code, at - first, out);
    pixel_count(d, detector, pixel, at);
}

/* Deals with the next gate before `end` in which anything may happen; false if there is none. */
static bool gate_next(struct qn_detector *d, uint64_t end, uint64_t first, struct qn_detections *out) {
    struct pixels *p = &d->pixels;
    bool lit = d->at < d->kept.n;
    unsigned code = lit ? click_code(&d->kept, d->at) : 0;
    uint64_t at = lit ? d->base + d->offset[d->at] : end;
    if (p->count > 0 && p->coming[p->first].gate < at) {
        at = p->coming[p->first].gate;
        lit = false;
    }
    if (at >= end) return false;
    if (lit) d->at++;
    if (lit && !(code & CLICK_BOTH) && (p->count == 0 || p->coming[p->first].gate != at)) {
        gate_of_one(d, code, at, first, out);
        return true;
    }
    struct gate gate = {{p->n, p->n}};
    unsigned basis;
    if (lit) {
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
        batch_draw(d, first, next, end, out->offset + out->len, &d->kept);
        clicks_append(out, &d->kept);
    }
    if (!d->is_sequential) return;
    if (d->is_fresh) d->drawn = *next;
    d->is_fresh = false;
    while (*next < end) {
        size_t room = out->cap - out->len < FAST_BATCH ? out->cap - out->len : FAST_BATCH;
        d->clicks.n = d->clicks.doubles[0] = d->clicks.doubles[1] = 0;
        while (d->clicks.n < room && gate_next(d, d->drawn, first, out)) continue;
        bool is_full = d->clicks.n == room;
        clicks_append(out, &d->clicks);
        if (is_full && out->len == out->cap) return;
        if (is_full) continue;
        *next = d->base = d->drawn;
        d->at = d->kept.n = 0;
        if (d->drawn < end) batch_draw(d, d->base, &d->drawn, end, d->offset, &d->kept);
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
