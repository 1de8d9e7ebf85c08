/* SPDX-License-Identifier: Apache-2.0 */
/* The correcting end of Cascade: which strips have questions, and messages of them. What answers do to a strip is in
 * cascade_strip.c, of the published variants in cascade_published.c. A strip waits for the answers to one set of
 * questions; strips do not wait for each other. */
#include "qkd/cascade.h"

#include <stdlib.h>

#include "base/err.h"
#include "qkd/cascade_published.h"
#include "qkd/cascade_strip.h"
#include "qkd/cascade_with.h"
#include "qkd/pack.h"

struct message {
    uint32_t strips, count;
};

struct qn_cascade {
    struct strips strips;        /* Of a published variant the plan only, ... */
    struct published *published; /* ... and this; else NULL. */
    uint32_t *ready, *asked;     /* Rings of strips: with questions to ask, and waiting for answers. */
    uint32_t ready_at, n_ready, asked_at, n_asked;
    struct message *messages; /* A ring, too. */
    uint32_t message_at, n_messages, n_done;
    uint64_t disclosed;
};

/* ---- rings of as many entries as there are strips ---- */

static uint32_t ring_slot(const struct qn_cascade *c, uint32_t at, uint32_t n) {
    uint32_t slot = at + n, strips = c->strips.plan.strips;
    return slot >= strips ? slot - strips : slot;
}

static void push_ready(struct qn_cascade *c, uint32_t s) { c->ready[ring_slot(c, c->ready_at, c->n_ready++)] = s; }

/* ---- answers ---- */

enum { PREFETCH_AHEAD = 1 }; /* Strips. */

static int tell_published(struct qn_cascade *c, const struct message *message, const uint8_t *parities) {
    uint32_t at = 0;
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < message->strips; i++) {
        uint32_t s = c->asked[ring_slot(c, c->asked_at, i)], asked = published_count(c->published, s);
        rc = published_tell(c->published, s, parities, at);
        at += asked;
    }
    return rc;
}

static int tell_all(struct qn_cascade *c, const struct message *message, const uint8_t *parities) {
    if (c->published != NULL) return tell_published(c, message, parities);
    uint32_t at = 0;
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < message->strips; i++) {
        uint32_t s = c->asked[ring_slot(c, c->asked_at, i)];
        uint32_t asked = strip_questions(&c->strips, &c->strips.strip[s]);
        if (i + PREFETCH_AHEAD < message->strips)
            strip_prefetch(&c->strips, c->asked[ring_slot(c, c->asked_at, i + PREFETCH_AHEAD)]);
        rc = strip_tell(&c->strips, s, parities, at);
        at += asked;
    }
    return rc == 0 ? strips_flip(&c->strips) : rc;
}

/* Finds what to ask next. */
static int advance(struct qn_cascade *c, uint32_t s, bool *ret_done) {
    int rc = c->published != NULL ? 0 : strip_advance(&c->strips, s);
    *ret_done = c->published != NULL ? published_is_done(c->published, s) : c->strips.strip[s].done;
    return rc;
}

int qn_cascade_tell(struct qn_cascade *c, const uint8_t *parities, size_t len, uint32_t count) {
    if (c->n_messages == 0) return -QN_EPROTOCOL;
    struct message message = c->messages[c->message_at];
    if (count != message.count || len != qn_bits_bytes(count)) return -QN_EPROTOCOL;
    if (count % 8 != 0 && parities[len - 1] >> (count % 8) != 0) return -QN_EPROTOCOL;
    c->message_at = ring_slot(c, c->message_at, 1);
    c->n_messages--;
    c->disclosed += count;

    int rc = tell_all(c, &message, parities);
    for (uint32_t i = 0; rc == 0 && i < message.strips; i++) {
        uint32_t s = c->asked[c->asked_at];
        bool done;
        rc = advance(c, s, &done);
        if (rc < 0) break;
        c->asked_at = ring_slot(c, c->asked_at, 1);
        c->n_asked--;
        if (done)
            c->n_done++;
        else
            push_ready(c, s);
    }
    return rc;
}

/* ---- questions as bytes ---- */

enum { RECORD_HEAD = 3 + 2 + 3 + 3 };

/* LEB128 of a distance. Half of them take two bytes, so without a branch; there is room. */
static inline size_t write_step(uint8_t *out, uint32_t step) {
    if (step >= 1u << 14) return leb_write(out, step);
    uint32_t more = step >= 1u << 7;
    out[0] = (uint8_t)(step | more << 7);
    out[1] = (uint8_t)(step >> 7);
    return 1 + more;
}

static uint32_t question_count(const struct qn_cascade *c, uint32_t s) {
    if (c->published != NULL) return published_count(c->published, s);
    return strip_questions(&c->strips, &c->strips.strip[s]);
}

/* What write_record needs at most. A step takes up to three bytes, but those of many searches sum up to a strip. */
static size_t record_bytes(const struct qn_cascade *c, uint32_t s) {
    if (c->published != NULL) return published_bytes(c->published, s);
    const struct strip *strip = &c->strips.strip[s];
    if (strip->opening) return RECORD_HEAD;
    if (strip->pass >= c->strips.plan.n_passes) return RECORD_HEAD + 3;
    if (strip->parts == PLAN_SEGMENTS) return RECORD_HEAD + 6 * (size_t)strip->n_searches;
    return RECORD_HEAD + qn_bits_bytes(strip->n_choices);
}

static size_t write_segments(const struct strip *strip, uint8_t *out) {
    size_t len = leb_write(out, strip->n_searches);
    uint32_t before = 0;
    for (uint32_t i = 0; i < strip->n_searches; i++) {
        uint32_t low = search_low(strip->searches[i]), high = strip->searches[i].high;
        len += write_step(out + len, low - before);
        len += write_step(out + len, high - low);
        before = high;
    }
    return len;
}

static size_t write_record(const struct qn_cascade *c, uint32_t s, uint8_t *out) {
    if (c->published != NULL) return published_write(c->published, s, out);
    const struct plan *plan = &c->strips.plan;
    const struct strip *strip = &c->strips.strip[s];
    size_t len = leb_write(out, s);
    if (strip->opening) return len + leb_write(out + len, 2 * (uint64_t)strip->pass + 1);
    if (strip->pass >= plan->n_passes) { /* Of a check: there is one search. */
        len += leb_write(out + len, 2 * (uint64_t)strip->pass);
        len += leb_write(out + len, 1);
        return len + leb_write(out + len, search_middle(strip->searches[0]));
    }
    len += leb_write(out + len, plan_first_part(plan) + PLAN_PARTS * (uint64_t)strip->pass + strip->parts);
    if (strip->parts == PLAN_SEGMENTS) return len + write_segments(strip, out + len);
    for (uint32_t i = 0; i < strip->n_choices; i += 8) out[len++] = (uint8_t)(strip->choices[i / 64] >> (i % 64));
    return len;
}

int qn_cascade_ask(struct qn_cascade *c, struct qn_buf *ranges, uint32_t *ret_count) {
    struct message message = {0};
    size_t old_len = ranges->len;
    while (message.strips < c->n_ready) {
        uint32_t s = c->ready[ring_slot(c, c->ready_at, message.strips)];
        size_t need = record_bytes(c, s);
        uint32_t count = question_count(c, s);
        if (message.strips > 0 && ranges->len - old_len + need > QN_CASCADE_ASK_BYTES) break;
        if (message.count + count > QN_CASCADE_ASK_BYTES * 8) break; /* Opening takes few bytes, its answers many. */
        int rc = qn_buf_reserve(ranges, need);
        if (rc < 0) {
            ranges->len = old_len;
            return rc;
        }
        ranges->len += write_record(c, s, ranges->data + ranges->len);
        message.count += count;
        message.strips++;
    }
    for (uint32_t i = 0; i < message.strips; i++) {
        c->asked[ring_slot(c, c->asked_at, c->n_asked++)] = c->ready[c->ready_at];
        c->ready_at = ring_slot(c, c->ready_at, 1);
        c->n_ready--;
    }
    if (message.count > 0) c->messages[ring_slot(c, c->message_at, c->n_messages++)] = message;
    *ret_count = message.count;
    return 0;
}

/* ---- life ---- */

void qn_cascade_free(struct qn_cascade *c) {
    if (c == NULL) return;
    published_free(c->published);
    strips_release(&c->strips);
    free(c->ready);
    free(c->asked);
    free(c->messages);
    free(c);
}

static int start(struct qn_cascade *c, const struct qn_cascade_config *config, const struct qn_bits *key,
                 bool portable) {
    if (config->variant < QN_CASCADE_ORIGINAL) return strips_init(&c->strips, config, key, portable);
    int rc = plan_init(&c->strips.plan, config, key->len);
    return rc < 0 ? rc : published_new(&c->strips.plan, key, &c->published);
}

int qn_cascade_new(const struct qn_cascade_config *config, const struct qn_bits *key, struct qn_cascade **ret_cascade) {
    return qn_cascade_new_with(config, key, false, ret_cascade);
}

int qn_cascade_new_with(const struct qn_cascade_config *config, const struct qn_bits *key, bool portable,
                        struct qn_cascade **ret_cascade) {
    struct qn_cascade *c = calloc(1, sizeof *c);
    if (c == NULL) return -QN_ENOMEM;
    int rc = start(c, config, key, portable);
    size_t n = (size_t)c->strips.plan.strips + 1;
    if (rc == 0) {
        c->ready = calloc(n, sizeof *c->ready);
        c->asked = calloc(n, sizeof *c->asked);
        c->messages = calloc(n, sizeof *c->messages);
        if (!c->ready || !c->asked || !c->messages) rc = -QN_ENOMEM;
    }
    if (rc < 0) {
        qn_cascade_free(c);
        return rc;
    }
    for (uint32_t s = 0; s < c->strips.plan.strips; s++) push_ready(c, s);
    *ret_cascade = c;
    return 0;
}

bool qn_cascade_is_done(const struct qn_cascade *c) { return c->n_done == c->strips.plan.strips; }
uint64_t qn_cascade_disclosed(const struct qn_cascade *c) { return c->disclosed; }
uint32_t qn_cascade_strips(const struct qn_cascade *c) { return c->strips.plan.strips; }

uint64_t qn_cascade_corrected(const struct qn_cascade *c) {
    return c->published != NULL ? published_corrected(c->published) : c->strips.corrected;
}

uint32_t qn_cascade_rounds(const struct qn_cascade *c) {
    uint32_t most = 0;
    for (uint32_t s = 0; s < c->strips.plan.strips; s++) {
        uint32_t rounds = c->published != NULL ? published_rounds(c->published, s) : c->strips.strip[s].rounds;
        if (rounds > most) most = rounds;
    }
    return most;
}

int qn_cascade_key(const struct qn_cascade *c, struct qn_bits *ret_key) {
    return c->published != NULL ? published_key(c->published, ret_key) : strips_key(&c->strips, ret_key);
}
