/* SPDX-License-Identifier: Apache-2.0 */
#include "qkd/cascade_published.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "qkd/pack.h"

/* At most so many questions of a strip at once: their records fit one message. Other candidates wait. */
enum { MOST_ASKED = 4096, RECORD_HEAD = 3 + 2 + 3 + 3 };

/* An odd part of a pass, or of a check (numbered after the passes), or what may be one by now. The question is for the
 * parity up to its middle. */
struct part {
    uint32_t low, high;
    uint16_t pass;
    bool told_low; /* Of a check: the parity up to low. */
};

struct queue {
    struct part *parts; /* Owned. */
    uint32_t at, len, cap;
};

struct strip {
    struct queue asked, candidates;
    unsigned opened; /* Passes, and then pairs of checks. */
    unsigned streak; /* Pairs of checks in a row that agreed. */
    uint32_t rounds; /* Sets of answers it has had. */
    bool opening, done;
};

struct published {
    const struct plan *plan; /* Borrowed. */
    size_t words;            /* Of one of the three for one pass of one strip. */
    uint64_t *bits;          /* Our key in the order of each pass, as corrected so far. */
    uint64_t *known, *told;  /* Positions whose prefix parity the source told; that parity. */
    uint64_t *flipped;       /* Bits corrected, in the strip's order. */
    struct strip *strips;
    uint64_t corrected;
};

static uint64_t *of(const struct published *p, uint64_t *words, uint32_t s, unsigned pass) {
    return words + ((size_t)s * p->plan->n_passes + pass) * p->words;
}

static bool get(const uint64_t *words, uint32_t i) { return words[i / 64] >> (i % 64) & 1; }

static uint32_t middle_of(const struct part *part) { return part->low + (part->high - part->low) / 2; }

static int push(struct queue *queue, struct part part) {
    if (queue->len == queue->cap) {
        uint32_t cap = queue->cap == 0 ? 64 : queue->cap * 2;
        struct part *parts = reallocarray(queue->parts, cap, sizeof *parts);
        if (parts == NULL) return -QN_ENOMEM;
        queue->parts = parts;
        queue->cap = cap;
    }
    queue->parts[queue->len++] = part;
    return 0;
}

/* Of the bits from low to high, of those in the mask if there is one. */
static bool own_parity(const uint64_t *bits, const uint64_t *mask, uint32_t low, uint32_t high) {
    uint64_t sum = 0;
    for (uint32_t w = low / 64; w * 64 < high; w++) {
        uint64_t word = mask != NULL ? bits[w] & mask[w] : bits[w];
        if (w == low / 64) word &= ~0ull << (low % 64);
        if (w == high / 64) word &= ~(~0ull << (high % 64));
        sum ^= word;
    }
    return __builtin_parityll(sum);
}

static bool is_odd(const struct published *p, uint32_t s, unsigned pass, uint32_t low, uint32_t high) {
    const uint64_t *told = of(p, p->told, s, pass);
    return own_parity(of(p, p->bits, s, pass), NULL, low, high) ^ get(told, low) ^ get(told, high);
}

static int add_candidate(struct published *p, uint32_t s, unsigned pass, uint32_t block) {
    uint32_t len = p->plan->pass[pass].block, low = block * len, left = p->plan->strip - low;
    return push(&p->strips[s].candidates, (struct part){low, low + (left < len ? left : len), (uint16_t)pass, false});
}

/* Corrects bit `i` in the order of `pass`. With honest answers no bit is wrong twice. */
static int flip(struct published *p, uint32_t s, unsigned pass, uint32_t i) {
    const struct plan *plan = p->plan;
    const struct strip *strip = &p->strips[s];
    uint32_t x = pass < plan->n_passes && plan->pass[pass].from != NULL ? plan->pass[pass].from[i] : i;
    uint64_t *flipped = p->flipped + s * plan->words;
    if (get(flipped, x)) return -QN_EPROTOCOL;
    flipped[x / 64] |= 1ull << (x % 64);
    p->corrected++;
    for (unsigned other = 0; other < plan->n_passes; other++) {
        uint32_t y = plan->pass[other].to != NULL ? plan->pass[other].to[x] : x;
        of(p, p->bits, s, other)[y / 64] ^= 1ull << (y % 64);
        if (pass >= plan->n_passes || other == pass || other >= strip->opened) continue;
        int rc = add_candidate(p, s, other, y / plan->pass[other].block);
        if (rc < 0) return rc;
    }
    return 0;
}

/* Goes on with a part of a pass as far as is known: to a question, to an error, or to nothing, if another search has
 * found the error meanwhile. */
static int search(struct published *p, uint32_t s, struct part part) {
    while (part.high - part.low > 1) {
        uint32_t middle = middle_of(&part);
        if (!get(of(p, p->known, s, part.pass), middle)) return push(&p->strips[s].asked, part);
        if (is_odd(p, s, part.pass, part.low, middle))
            part.high = middle;
        else if (is_odd(p, s, part.pass, middle, part.high))
            part.low = middle;
        else
            return 0;
    }
    return flip(p, s, part.pass, part.low);
}

static int search_candidates(struct published *p, uint32_t s) {
    struct queue *candidates = &p->strips[s].candidates;
    while (candidates->at < candidates->len && p->strips[s].asked.len < MOST_ASKED) {
        struct part part = candidates->parts[candidates->at++];
        if (!is_odd(p, s, part.pass, part.low, part.high)) continue;
        int rc = search(p, s, part);
        if (rc < 0) return rc;
    }
    if (candidates->at == candidates->len) candidates->at = candidates->len = 0;
    return 0;
}

static void learn(struct published *p, uint32_t s, unsigned pass, uint32_t i, bool told) {
    of(p, p->known, s, pass)[i / 64] |= 1ull << (i % 64);
    of(p, p->told, s, pass)[i / 64] |= (uint64_t)told << (i % 64);
}

/* ---- Checks. */

static bool has_bits(const uint64_t *mask, uint32_t low, uint32_t high) {
    while (low < high && !get(mask, low)) low++;
    return low < high;
}

/* Goes on with an odd part of a check: to a question, if both halves have bits of it, or to an error. */
static int search_check(struct published *p, uint32_t s, struct part part) {
    const uint64_t *mask = plan_mask(p->plan, part.pass - p->plan->n_passes);
    while (part.high - part.low > 1) {
        uint32_t middle = middle_of(&part);
        bool below = has_bits(mask, part.low, middle), above = has_bits(mask, middle, part.high);
        if (below && above) return push(&p->strips[s].asked, part);
        *(below ? &part.high : &part.low) = middle;
    }
    return flip(p, s, part.pass, part.low);
}

static int tell_check(struct published *p, uint32_t s, struct part part, bool told) {
    const uint64_t *mask = plan_mask(p->plan, part.pass - p->plan->n_passes);
    uint32_t middle = middle_of(&part);
    if (told ^ part.told_low ^ own_parity(of(p, p->bits, s, 0), mask, part.low, middle)) {
        part.high = middle;
    } else {
        part.low = middle;
        part.told_low = told;
    }
    return search_check(p, s, part);
}

static int open_checks(struct published *p, uint32_t s, unsigned first, const bool told[2]) {
    bool odd[2];
    for (unsigned i = 0; i < 2; i++)
        odd[i] = told[i] ^ own_parity(of(p, p->bits, s, 0), plan_mask(p->plan, first + i), 0, p->plan->strip);
    struct strip *strip = &p->strips[s];
    strip->streak = odd[0] || odd[1] ? 0 : strip->streak + 1;
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < 2; i++) {
        uint16_t pass = (uint16_t)(p->plan->n_passes + first + i);
        if (odd[i]) rc = search_check(p, s, (struct part){0, p->plan->strip, pass, false});
    }
    return rc;
}

/* ---- Answers. */

static bool answer_at(const uint8_t *answers, uint32_t i) { return answers[i / 8] >> (i % 8) & 1; }

static int open_pass(struct published *p, uint32_t s, const uint8_t *answers, uint32_t at) {
    const struct plan *plan = p->plan;
    struct strip *strip = &p->strips[s];
    unsigned pass = strip->opened++;
    strip->opening = false;
    if (pass >= plan->n_passes) {
        bool told[2] = {answer_at(answers, at), answer_at(answers, at + 1)};
        return open_checks(p, s, 2 * (pass - plan->n_passes), told);
    }
    learn(p, s, pass, 0, false);
    for (uint32_t b = 0; b < plan->pass[pass].blocks; b++) {
        uint32_t end = b + 1 == plan->pass[pass].blocks ? plan->strip : (b + 1) * plan->pass[pass].block;
        learn(p, s, pass, end, answer_at(answers, at + b));
        int rc = add_candidate(p, s, pass, b);
        if (rc < 0) return rc;
    }
    return search_candidates(p, s);
}

/* All that was told is known before any search goes on. A search asks at most one thing, so its place in the queue is
 * read before it is written. */
static int tell_parts(struct published *p, uint32_t s, const uint8_t *answers, uint32_t at) {
    struct queue *asked = &p->strips[s].asked;
    uint32_t count = asked->len;
    asked->len = 0;
    for (uint32_t i = 0; i < count; i++)
        if (asked->parts[i].pass < p->plan->n_passes)
            learn(p, s, asked->parts[i].pass, middle_of(&asked->parts[i]), answer_at(answers, at + i));
    for (uint32_t i = 0; i < count; i++) {
        struct part part = asked->parts[i];
        int rc =
            part.pass < p->plan->n_passes ? search(p, s, part) : tell_check(p, s, part, answer_at(answers, at + i));
        if (rc < 0) return rc;
    }
    return search_candidates(p, s);
}

/* With nothing to ask: opens the next pass or is done. */
static void advance(const struct plan *plan, struct strip *strip) {
    if (strip->asked.len > 0) return;
    strip->done = strip->opened == plan_openings(plan) || (plan->streak > 0 && strip->streak == plan->streak);
    strip->opening = !strip->done;
}

int published_tell(struct published *p, uint32_t s, const uint8_t *answers, uint32_t at) {
    struct strip *strip = &p->strips[s];
    strip->rounds++;
    int rc = strip->opening ? open_pass(p, s, answers, at) : tell_parts(p, s, answers, at);
    if (rc == 0) advance(p->plan, strip);
    return rc;
}

/* ---- Questions. */

uint32_t published_count(const struct published *p, uint32_t s) {
    const struct strip *strip = &p->strips[s];
    return strip->opening ? plan_opening(p->plan, strip->opened) : strip->asked.len;
}

/* How many of the questions from the i-th on fit one record: of one pass, each position above the one before. */
static uint32_t run_len(const struct queue *asked, uint32_t i) {
    uint32_t len = 1;
    for (; i + len < asked->len; len++) {
        const struct part *before = &asked->parts[i + len - 1], *next = before + 1;
        if (next->pass != before->pass || middle_of(next) <= middle_of(before)) break;
    }
    return len;
}

size_t published_bytes(const struct published *p, uint32_t s) {
    const struct queue *asked = &p->strips[s].asked;
    size_t bytes = RECORD_HEAD;
    for (uint32_t i = 0, run; i < asked->len; i += run) {
        run = run_len(asked, i);
        bytes += RECORD_HEAD + 3 * (size_t)(run - 1);
    }
    return bytes;
}

static size_t write_run(const struct queue *asked, uint32_t s, uint32_t i, uint32_t run, uint8_t *out) {
    size_t len = leb_write(out, s);
    len += leb_write(out + len, 2u * asked->parts[i].pass);
    len += leb_write(out + len, run);
    uint32_t before = 0;
    for (uint32_t end = i + run; i < end; i++) {
        uint32_t middle = middle_of(&asked->parts[i]);
        len += leb_write(out + len, middle - before);
        before = middle;
    }
    return len;
}

size_t published_write(const struct published *p, uint32_t s, uint8_t *out) {
    const struct strip *strip = &p->strips[s];
    if (strip->opening) {
        size_t len = leb_write(out, s);
        return len + leb_write(out + len, 2 * strip->opened + 1);
    }
    size_t len = 0;
    for (uint32_t i = 0, run; i < strip->asked.len; i += run) {
        run = run_len(&strip->asked, i);
        len += write_run(&strip->asked, s, i, run, out + len);
    }
    return len;
}

/* ---- Life. */

bool published_is_done(const struct published *p, uint32_t s) { return p->strips[s].done; }
uint64_t published_corrected(const struct published *p) { return p->corrected; }
uint32_t published_rounds(const struct published *p, uint32_t s) { return p->strips[s].rounds; }

int published_key(const struct published *p, struct qn_bits *ret_key) {
    const struct plan *plan = p->plan;
    struct qn_bits key = {0};
    int rc = qn_bits_reserve(&key, plan->len);
    for (uint32_t s = 0; rc == 0 && s < plan->strips; s++) {
        const uint64_t *bits = of(p, p->bits, s, 0);
        size_t left = plan->len - key.len, count = left < plan->strip ? left : plan->strip;
        for (size_t done = 0; rc == 0 && done < count; done += 64)
            rc = qn_bits_append_word(&key, bits[done / 64], count - done < 64 ? (unsigned)(count - done) : 64);
    }
    if (rc < 0) {
        qn_bits_release(&key);
        return rc;
    }
    qn_bits_release(ret_key);
    *ret_key = key;
    return 0;
}

void published_free(struct published *p) {
    if (p == NULL) return;
    size_t total = (size_t)p->plan->strips * p->plan->n_passes * p->words;
    if (p->bits != NULL) sodium_memzero(p->bits, total * sizeof *p->bits);
    if (p->told != NULL) sodium_memzero(p->told, total * sizeof *p->told);
    for (uint32_t s = 0; p->strips != NULL && s < p->plan->strips; s++) {
        free(p->strips[s].asked.parts);
        free(p->strips[s].candidates.parts);
    }
    free(p->bits);
    free(p->known);
    free(p->told);
    free(p->flipped);
    free(p->strips);
    free(p);
}

/* Our key into the order of every pass. */
static int fill(struct published *p, const struct qn_bits *key) {
    const struct plan *plan = p->plan;
    size_t total = plan->strips * plan->words;
    uint64_t *strips = NULL, *shuffled = malloc((total + 1) * sizeof *shuffled);
    int rc = shuffled == NULL ? -QN_ENOMEM : plan_strips(plan, key, &strips);
    for (unsigned pass = 0; rc == 0 && pass < plan->n_passes; pass++) {
        rc = plan_shuffle(plan, pass, strips, shuffled);
        for (uint32_t s = 0; rc == 0 && s < plan->strips; s++)
            memcpy(of(p, p->bits, s, pass), shuffled + s * plan->words, plan->words * sizeof *shuffled);
    }
    if (strips != NULL) sodium_memzero(strips, total * sizeof *strips);
    if (shuffled != NULL) sodium_memzero(shuffled, total * sizeof *shuffled);
    free(strips);
    free(shuffled);
    return rc;
}

int published_new(const struct plan *plan, const struct qn_bits *key, struct published **ret_published) {
    struct published *p = calloc(1, sizeof *p);
    if (p == NULL) return -QN_ENOMEM;
    p->plan = plan;
    p->words = plan->strip / 64 + 1;
    size_t total = (size_t)plan->strips * plan->n_passes * p->words + 1;
    p->bits = calloc(total, sizeof *p->bits);
    p->known = calloc(total, sizeof *p->known);
    p->told = calloc(total, sizeof *p->told);
    p->flipped = calloc(plan->strips * plan->words + 1, sizeof *p->flipped);
    p->strips = calloc(plan->strips + 1, sizeof *p->strips);
    int rc = p->bits == NULL || p->known == NULL || p->told == NULL || p->flipped == NULL || p->strips == NULL
                 ? -QN_ENOMEM
                 : fill(p, key);
    if (rc < 0) {
        published_free(p);
        return rc;
    }
    for (uint32_t s = 0; s < plan->strips; s++) advance(plan, &p->strips[s]);
    *ret_published = p;
    return 0;
}
