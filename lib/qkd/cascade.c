/* SPDX-License-Identifier: Apache-2.0 */
/* The correcting end of Cascade.
 *
 * In the order of each pass a strip is cut into segments at the positions whose prefix parity the source has told: the
 * block ends first, later every place where a search asked. A segment whose parity differs from the source's holds an
 * error for sure, so all that was ever asked is used again and nothing that follows from it in that pass is asked
 * twice. Searches halve odd segments of one pass side by side; an error found flips its bit in all passes, which makes
 * segments odd there, and the pass with the smallest blocks is always searched first. When no segment is odd the next
 * pass opens; after the last, random subsets are compared (BICONF) until all agree.
 *
 * A strip waits for the answers to one set of questions; strips do not wait for each other. */
#include "qkd/cascade.h"

#include <assert.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "qkd/cascade_plan.h"
#include "qkd/pack.h"

/* 64 positions of a pass. */
struct cell {
    uint64_t bits;  /* Our key in the order of the pass, as corrected so far. */
    uint64_t known; /* A segment starts here: the source told the parity of the bits before. */
    uint64_t told;  /* That parity. */
    uint64_t odd;   /* The segment that starts here differs from the source's. */
};

struct search {
    uint32_t low, high, middle; /* The error is in [low, high); the question is for the parity up to middle. */
};

struct strip {
    struct cell *cells;      /* Borrowed; cells_per_pass for each pass. */
    uint64_t *touched;       /* Borrowed; touched_words for each pass: words in which something may be odd. */
    uint64_t *flipped;       /* Borrowed; bits corrected, in the strip's order. */
    struct search *searches; /* Owned; low rises. */
    uint32_t n_searches, cap;
    uint32_t n_odd[PLAN_MAX_PASSES];
    uint32_t odd_checks; /* A bit a check. */
    unsigned opened;     /* Passes opened; n_passes + 1 when the checks are, too, or one more for each. */
    unsigned streak;     /* Checks in a row that agreed, where that counts. */
    unsigned pass;       /* What is asked: a pass, or n_passes + check. */
    uint32_t rounds;     /* Sets of answers it has had. */
    bool opening, done;
    bool total, told_low; /* Source's parity of the strip; of a check up to the search's low. */
};

struct message {
    uint32_t strips, count;
};

struct qn_cascade {
    struct plan plan;
    size_t cells_per_pass, touched_words;
    struct strip *strips;
    struct cell *cells;
    uint64_t *flipped, *touched;
    uint32_t *ready, *asked; /* Rings of strips: with questions to ask, and waiting for answers. */
    uint32_t ready_at, n_ready, asked_at, n_asked;
    struct message *messages; /* A ring, too. */
    uint32_t message_at, n_messages, n_done;
    uint64_t disclosed, corrected;
};

/* ---- Rings of plan.strips entries. */

static uint32_t ring_slot(const struct qn_cascade *c, uint32_t at, uint32_t n) { return (at + n) % c->plan.strips; }
static void push_ready(struct qn_cascade *c, uint32_t s) { c->ready[ring_slot(c, c->ready_at, c->n_ready++)] = s; }

/* ---- Segments. */

static struct cell *pass_cells(const struct qn_cascade *c, const struct strip *strip, unsigned pass) {
    return strip->cells + pass * c->cells_per_pass;
}

static uint64_t *pass_touched(const struct qn_cascade *c, const struct strip *strip, unsigned pass) {
    return strip->touched + pass * c->touched_words;
}

static inline uint64_t from_bit(uint32_t i) { return ~0ull << (i % 64); }

/* The first whole word without a branch: whether there is one is a coin toss in small blocks. */
static inline bool own_parity(const struct cell *cells, uint32_t low, uint32_t high) {
    uint32_t w = low / 64, end = high / 64;
    uint64_t sum = (cells[w].bits & ~from_bit(low)) ^ (cells[end].bits & ~from_bit(high));
    sum ^= cells[w].bits & -(uint64_t)(w < end);
    while (++w < end) sum ^= cells[w].bits;
    return __builtin_parityll(sum);
}

static inline bool told_at(const struct cell *cells, uint32_t i) { return cells[i / 64].told >> (i % 64) & 1; }

static inline void learn(struct cell *cells, uint32_t i, bool told) {
    cells[i / 64].known |= 1ull << (i % 64);
    cells[i / 64].told |= (uint64_t)told << (i % 64);
}

static uint32_t segment_start(const struct cell *cells, uint32_t i) {
    uint32_t w = i / 64;
    uint64_t known = cells[w].known & ~0ull >> (63 - i % 64);
    while (known == 0) known = cells[--w].known; /* Position 0 is always known. */
    return w * 64 + 63 - (uint32_t)__builtin_clzll(known);
}

static uint32_t segment_end(const struct cell *cells, uint32_t start) {
    uint32_t i = start + 1, w = i / 64;
    uint64_t known = cells[w].known & from_bit(i);
    while (known == 0) known = cells[++w].known; /* So is the end of an opened pass. */
    return w * 64 + (uint32_t)__builtin_ctzll(known);
}

/* Where the part of the pass starts that a search of bit i would start with. */
static uint32_t part_start(const struct plan *plan, const struct cell *cells, unsigned pass, uint32_t i) {
    return plan->forgets ? i / plan->pass[pass].block * plan->pass[pass].block : segment_start(cells, i);
}

static uint32_t part_end(const struct plan *plan, const struct cell *cells, unsigned pass, uint32_t start) {
    if (!plan->forgets) return segment_end(cells, start);
    return plan->strip - start < plan->pass[pass].block ? plan->strip : start + plan->pass[pass].block;
}

static void toggle_segment(struct strip *strip, struct cell *cells, uint64_t *touched, unsigned pass, uint32_t start) {
    uint64_t bit = 1ull << (start % 64);
    cells[start / 64].odd ^= bit;
    touched[start / 4096] |= 1ull << (start / 64 % 64);
    if (cells[start / 64].odd & bit)
        strip->n_odd[pass]++;
    else
        strip->n_odd[pass]--;
}

/* Corrects bit `i` in the order of `pass`. With honest answers no bit is wrong twice. */
static int flip(struct qn_cascade *c, struct strip *strip, unsigned pass, uint32_t i) {
    const struct plan *plan = &c->plan;
    uint32_t x = pass < plan->n_passes && plan->pass[pass].from != NULL ? plan->pass[pass].from[i] : i;
    if (strip->flipped[x / 64] >> (x % 64) & 1) return -QN_EPROTOCOL;
    strip->flipped[x / 64] |= 1ull << (x % 64);
    for (unsigned p = 0; p < plan->n_passes; p++) {
        struct cell *cells = pass_cells(c, strip, p);
        uint32_t y = plan->pass[p].to != NULL ? plan->pass[p].to[x] : x;
        cells[y / 64].bits ^= 1ull << (y % 64);
        if (p < strip->opened)
            toggle_segment(strip, cells, pass_touched(c, strip, p), p, part_start(plan, cells, p, y));
    }
    if (strip->opened > plan->n_passes && plan->streak == 0)
        for (unsigned check = 0; check < plan->n_checks; check++)
            strip->odd_checks ^= (uint32_t)(plan_mask(plan, check)[x / 64] >> (x % 64) & 1) << check;
    c->corrected++;
    return 0;
}

/* ---- What to ask next. */

static int push_search(struct strip *strip, struct search search) {
    if (strip->n_searches == strip->cap) {
        uint32_t cap = strip->cap == 0 ? 64 : strip->cap * 2;
        struct search *searches = reallocarray(strip->searches, cap, sizeof *searches);
        if (searches == NULL) return -QN_ENOMEM;
        strip->searches = searches;
        strip->cap = cap;
    }
    strip->searches[strip->n_searches++] = search;
    return 0;
}

static struct search search_of(uint32_t low, uint32_t high) {
    return (struct search){low, high, low + (high - low) / 2};
}

/* Goes on as far as what was told before leads: only whole blocks have any of that inside. */
static struct search follow(const struct cell *cells, struct search search) {
    while (search.high - search.low > 1 && cells[search.middle / 64].known >> (search.middle % 64) & 1) {
        bool odd = told_at(cells, search.low) ^ told_at(cells, search.middle);
        if (odd != own_parity(cells, search.low, search.middle))
            search = search_of(search.low, search.middle);
        else
            search = search_of(search.middle, search.high);
    }
    return search;
}

static int search_word(struct qn_cascade *c, struct strip *strip, unsigned pass, const struct cell *cells, uint32_t w) {
    for (uint64_t odd = cells[w].odd; odd != 0; odd &= odd - 1) {
        uint32_t low = w * 64 + (uint32_t)__builtin_ctzll(odd);
        struct search search = search_of(low, part_end(&c->plan, cells, pass, low));
        if (c->plan.forgets) search = follow(cells, search);
        int rc = search.high - search.low == 1 ? flip(c, strip, pass, search.low) : push_search(strip, search);
        if (rc < 0) return rc;
    }
    return 0;
}

/* Starts a search in each odd segment of a pass; those of one bit are corrected at once. */
static int search_odd(struct qn_cascade *c, struct strip *strip, unsigned pass) {
    struct cell *cells = pass_cells(c, strip, pass);
    uint64_t *touched = pass_touched(c, strip, pass);
    for (uint32_t t = 0; t < c->touched_words; t++) {
        uint64_t words = touched[t];
        touched[t] = 0; /* All that is odd now is even when these searches end. */
        for (; words != 0; words &= words - 1) {
            int rc = search_word(c, strip, pass, cells, t * 64 + (uint32_t)__builtin_ctzll(words));
            if (rc < 0) return rc;
        }
    }
    return 0;
}

static int open_pass(struct qn_cascade *c, struct strip *strip, const uint8_t *answers, uint32_t at);

static bool check_has(const struct qn_cascade *c, unsigned check, uint32_t low, uint32_t high) {
    const uint64_t *mask = plan_mask(&c->plan, check);
    for (uint32_t w = low / 64; w * 64 < high; w++) {
        uint64_t wanted = mask[w];
        if (w == low / 64) wanted &= from_bit(low);
        if (w == high / 64) wanted &= ~from_bit(high);
        if (wanted != 0) return true;
    }
    return false;
}

/* Halves a search as long as the check has bits in one half only. */
static struct search narrow(const struct qn_cascade *c, unsigned check, struct search search) {
    while (search.high - search.low > 1) {
        if (!check_has(c, check, search.low, search.middle))
            search = search_of(search.middle, search.high);
        else if (!check_has(c, check, search.middle, search.high))
            search = search_of(search.low, search.middle);
        else
            break;
    }
    return search;
}

static int search_check(struct qn_cascade *c, struct strip *strip, unsigned check) {
    strip->pass = c->plan.n_passes + check;
    strip->told_low = false;
    struct search search = narrow(c, check, search_of(0, c->plan.strip));
    if (search.high - search.low > 1) return push_search(strip, search);
    return flip(c, strip, strip->pass, search.low);
}

/* Of the passes to look at, the first with an odd part; n_passes if there is none. */
static unsigned first_odd_pass(const struct plan *plan, const struct strip *strip) {
    unsigned opened = strip->opened, n_passes = plan->n_passes;
    if (opened > n_passes && plan->streak > 0) return n_passes;
    for (unsigned p = 0; p < opened && p < n_passes; p++)
        if (strip->n_odd[p] > 0) return p;
    return n_passes;
}

static bool has_more_to_open(const struct plan *plan, const struct strip *strip) {
    if (plan->streak > 0 && strip->streak >= plan->streak) return false;
    return strip->opened < plan_openings(plan);
}

/* With no question pending: finds the next ones, or sets done. */
static int advance(struct qn_cascade *c, struct strip *strip) {
    const struct plan *plan = &c->plan;
    strip->opening = false;
    while (strip->n_searches == 0) {
        int rc = 0;
        unsigned p = first_odd_pass(plan, strip);
        if (p < plan->n_passes) {
            strip->pass = p;
            rc = search_odd(c, strip, p);
        } else if (strip->odd_checks != 0) {
            rc = search_check(c, strip, (unsigned)__builtin_ctz(strip->odd_checks));
        } else if (has_more_to_open(plan, strip)) {
            strip->pass = strip->opened;
            strip->opening = true;
            if (plan_opening(plan, strip->pass) > 0) return 0;
            rc = open_pass(c, strip, NULL, 0);
            strip->opening = false;
        } else {
            strip->done = true;
            return 0;
        }
        if (rc < 0) return rc;
    }
    return 0;
}

/* ---- Answers. */

static inline bool answer_at(const uint8_t *answers, uint32_t i) { return answers[i / 8] >> (i % 8) & 1; }

static bool check_own_parity(const struct qn_cascade *c, const struct strip *strip, unsigned check, uint32_t low,
                             uint32_t high) {
    const struct cell *cells = pass_cells(c, strip, 0);
    const uint64_t *mask = plan_mask(&c->plan, check);
    uint64_t sum = 0;
    for (uint32_t w = low / 64; w * 64 < high; w++) {
        uint64_t wanted = mask[w];
        if (w == low / 64) wanted &= from_bit(low);
        if (w == high / 64) wanted &= ~from_bit(high);
        sum ^= cells[w].bits & wanted;
    }
    return __builtin_parityll(sum);
}

static void open_checks(struct qn_cascade *c, struct strip *strip, const uint8_t *answers, uint32_t at) {
    for (unsigned check = 0; check < c->plan.n_checks; check++) {
        bool own = check_own_parity(c, strip, check, 0, c->plan.strip);
        strip->odd_checks |= (uint32_t)(answer_at(answers, at + check) != own) << check;
    }
}

/* One check of those that count in a row; an odd one is searched at once. */
static int open_one_check(struct qn_cascade *c, struct strip *strip, bool told) {
    unsigned check = strip->pass - c->plan.n_passes;
    strip->opening = false;
    if (told == check_own_parity(c, strip, check, 0, c->plan.strip)) {
        strip->streak++;
        return 0;
    }
    strip->streak = 0;
    return search_check(c, strip, check);
}

/* Where our prefix parity differs from the source's, errors before are odd in number; a block with a difference at one
 * end only is odd. No branches, as in halve. */
static void open_blocks(const struct qn_cascade *c, struct strip *strip, unsigned pass, const uint8_t *answers,
                        uint32_t at, bool asked_last) {
    struct cell *cells = pass_cells(c, strip, pass);
    uint64_t *touched = pass_touched(c, strip, pass);
    uint8_t own[PLAN_MAX_STRIP / 64 + 1]; /* Parity of the words before. */
    own[0] = 0;
    for (size_t w = 0; w < c->plan.words; w++) own[w + 1] = own[w] ^ (uint8_t)__builtin_parityll(cells[w].bits);

    uint32_t end = c->plan.strip, blocks = c->plan.pass[pass].blocks, block = c->plan.pass[pass].block, low = 0;
    uint64_t before = 0;
    uint32_t n_odd = 0;
    learn(cells, 0, false);
    for (uint32_t b = 0; b < blocks; b++) {
        bool last = b + 1 == blocks;
        uint32_t high = last ? end : low + block;
        uint64_t told = last && !asked_last ? strip->total : answer_at(answers, at + b);
        struct cell *cell = &cells[high / 64];
        uint64_t differs = told ^ own[high / 64] ^ (uint64_t)__builtin_parityll(cell->bits & ~from_bit(high));
        uint64_t odd = differs ^ before;
        cell->known |= 1ull << (high % 64);
        cell->told |= told << (high % 64);
        cells[low / 64].odd |= odd << (low % 64);
        touched[low / 4096] |= odd << (low / 64 % 64);
        n_odd += (uint32_t)odd;
        before = differs;
        low = high;
    }
    strip->n_odd[pass] = n_odd;
}

static int open_pass(struct qn_cascade *c, struct strip *strip, const uint8_t *answers, uint32_t at) {
    unsigned pass = strip->pass;
    strip->opened++;
    if (pass >= c->plan.n_passes && c->plan.streak > 0) return open_one_check(c, strip, answer_at(answers, at));
    if (pass >= c->plan.n_passes) {
        open_checks(c, strip, answers, at);
        return 0;
    }
    uint32_t blocks = c->plan.pass[pass].blocks;
    bool asked_last = pass == 0 || c->plan.asks_all;
    if (pass == 0) strip->total = answer_at(answers, at + blocks - 1);
    open_blocks(c, strip, pass, answers, at, asked_last);
    return 0;
}

static int tell_check(struct qn_cascade *c, struct strip *strip, bool told) {
    unsigned check = strip->pass - c->plan.n_passes;
    struct search *search = &strip->searches[0];
    if ((told ^ strip->told_low) != check_own_parity(c, strip, check, search->low, search->middle)) {
        *search = search_of(search->low, search->middle);
    } else {
        *search = search_of(search->middle, search->high);
        strip->told_low = told;
    }
    *search = narrow(c, check, *search);
    if (search->high - search->low > 1) return 0;
    strip->n_searches = 0;
    return flip(c, strip, strip->pass, search->low);
}

/* Takes the answer to a search: which half is odd. Without branches: it is a coin toss, and a wrong guess would cost
 * more than all of this; with masks, for compilers make slow vectors of pairs of choices. */
static inline struct search halve(struct cell *cells, struct search search, bool told, bool split) {
    struct cell *low = &cells[search.low / 64], *middle = &cells[search.middle / 64];
    uint64_t upper = (uint64_t)(told ^ 1u ^ told_at(cells, search.low) ^ own_parity(cells, search.low, search.middle));
    uint64_t bit = 1ull << (search.middle % 64);
    middle->known |= bit;
    middle->told |= (uint64_t)told << (search.middle % 64);
    if (split) {
        low->odd ^= upper << (search.low % 64);
        middle->odd ^= upper << (search.middle % 64);
    }
    uint32_t mask = -(uint32_t)upper;
    search.low ^= (search.low ^ search.middle) & mask;
    search.high ^= (search.high ^ search.middle) & ~mask;
    search.middle = search.low + (search.high - search.low) / 2;
    return search;
}

/* Halves every search of the strip; those down to one bit are corrected and leave. */
static int tell_searches(struct qn_cascade *c, struct strip *strip, const uint8_t *answers, uint32_t at) {
    struct cell *cells = pass_cells(c, strip, strip->pass);
    struct search *searches = strip->searches;
    uint32_t kept = 0, count = strip->n_searches;
    bool forgets = c->plan.forgets;
    for (uint32_t i = 0; i < count; i++) {
        struct search search = halve(cells, searches[i], answer_at(answers, at + i), !forgets);
        if (forgets) search = follow(cells, search);
        if (search.high - search.low == 1) {
            int rc = flip(c, strip, strip->pass, search.low);
            if (rc < 0) return rc;
        } else {
            searches[kept++] = search;
        }
    }
    strip->n_searches = kept;
    return 0;
}

static uint32_t question_count(const struct qn_cascade *c, const struct strip *strip) {
    return strip->opening ? plan_opening(&c->plan, strip->pass) : strip->n_searches;
}

static int tell_strip(struct qn_cascade *c, struct strip *strip, const uint8_t *answers, uint32_t at) {
    int rc;
    strip->rounds++;
    if (strip->opening)
        rc = open_pass(c, strip, answers, at);
    else if (strip->pass < c->plan.n_passes)
        rc = tell_searches(c, strip, answers, at);
    else
        rc = tell_check(c, strip, answer_at(answers, at));
    if (rc == 0 && strip->n_searches == 0)
        rc = advance(c, strip);
    else
        strip->opening = false;
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

    uint32_t at = 0;
    for (uint32_t i = 0; i < message.strips; i++) {
        uint32_t s = c->asked[c->asked_at];
        c->asked_at = ring_slot(c, c->asked_at, 1);
        c->n_asked--;
        uint32_t asked = question_count(c, &c->strips[s]);
        int rc = tell_strip(c, &c->strips[s], parities, at);
        if (rc < 0) return rc;
        at += asked;
        if (c->strips[s].done)
            c->n_done++;
        else
            push_ready(c, s);
    }
    return 0;
}

/* ---- Questions as bytes. */

enum { RECORD_HEAD = 3 + 2 + 3 + 3 };

static size_t write_record(const struct qn_cascade *c, uint32_t s, uint8_t *out) {
    const struct strip *strip = &c->strips[s];
    size_t len = leb_write(out, s);
    len += leb_write(out + len, 2 * strip->pass + strip->opening);
    if (strip->opening) return len;
    len += leb_write(out + len, strip->n_searches);
    uint32_t before = 0;
    for (uint32_t i = 0; i < strip->n_searches; i++) {
        len += leb_write(out + len, strip->searches[i].middle - before);
        before = strip->searches[i].middle;
    }
    return len;
}

int qn_cascade_ask(struct qn_cascade *c, struct qn_buf *ranges, uint32_t *ret_count) {
    struct message message = {0};
    size_t old_len = ranges->len;
    while (message.strips < c->n_ready) {
        uint32_t s = c->ready[ring_slot(c, c->ready_at, message.strips)];
        const struct strip *strip = &c->strips[s];
        /* A difference takes up to three bytes, but those of many searches sum up to a strip. */
        size_t need = RECORD_HEAD + 3 * (size_t)strip->n_searches;
        uint32_t count = question_count(c, strip);
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

/* ---- Life. */

void qn_cascade_free(struct qn_cascade *c) {
    if (c == NULL) return;
    for (uint32_t s = 0; c->strips != NULL && s < c->plan.strips; s++) free(c->strips[s].searches);
    if (c->cells != NULL)
        sodium_memzero(c->cells, c->plan.strips * c->plan.n_passes * c->cells_per_pass * sizeof *c->cells);
    free(c->cells);
    free(c->strips);
    free(c->flipped);
    free(c->touched);
    free(c->ready);
    free(c->asked);
    free(c->messages);
    plan_release(&c->plan);
    free(c);
}

/* Our key into the cells of every pass. */
static int fill_cells(struct qn_cascade *c, const struct qn_bits *key) {
    size_t words = c->plan.words, total = c->plan.strips * words;
    uint64_t *strips = NULL, *shuffled = malloc((total + 1) * sizeof *shuffled);
    int rc = shuffled == NULL ? -QN_ENOMEM : plan_strips(&c->plan, key, &strips);
    for (unsigned p = 0; rc == 0 && p < c->plan.n_passes; p++) {
        rc = plan_shuffle(&c->plan, p, strips, shuffled);
        if (rc < 0) break;
        for (uint32_t s = 0; s < c->plan.strips; s++) {
            struct cell *cells = pass_cells(c, &c->strips[s], p);
            for (size_t w = 0; w < words; w++) cells[w].bits = shuffled[s * words + w];
        }
    }
    if (strips != NULL) sodium_memzero(strips, total * sizeof *strips);
    if (shuffled != NULL) sodium_memzero(shuffled, total * sizeof *shuffled);
    free(strips);
    free(shuffled);
    return rc;
}

static int allocate(struct qn_cascade *c) {
    const struct plan *plan = &c->plan;
    c->cells_per_pass = plan->strip / 64 + 1;
    size_t per_strip = plan->n_passes * c->cells_per_pass;
    c->strips = calloc(plan->strips + 1, sizeof *c->strips);
    c->cells = calloc(plan->strips * per_strip + 1, sizeof *c->cells);
    c->flipped = calloc(plan->strips * plan->words + 1, sizeof *c->flipped);
    c->touched_words = c->cells_per_pass / 64 + 1;
    c->touched = calloc(plan->strips * plan->n_passes * c->touched_words + 1, sizeof *c->touched);
    c->ready = calloc(plan->strips + 1, sizeof *c->ready);
    c->asked = calloc(plan->strips + 1, sizeof *c->asked);
    c->messages = calloc(plan->strips + 1, sizeof *c->messages);
    if (!c->strips || !c->cells || !c->flipped || !c->touched || !c->ready || !c->asked || !c->messages)
        return -QN_ENOMEM;
    for (uint32_t s = 0; s < plan->strips; s++) {
        c->strips[s].cells = c->cells + s * per_strip;
        c->strips[s].flipped = c->flipped + s * plan->words;
        c->strips[s].touched = c->touched + s * plan->n_passes * c->touched_words;
    }
    return 0;
}

int qn_cascade_new(const struct qn_cascade_config *config, const struct qn_bits *key, struct qn_cascade **ret_cascade) {
    struct qn_cascade *c = calloc(1, sizeof *c);
    if (c == NULL) return -QN_ENOMEM;
    int rc = plan_init(&c->plan, config, key->len);
    if (rc == 0) rc = allocate(c);
    if (rc == 0) rc = fill_cells(c, key);
    if (rc < 0) {
        qn_cascade_free(c);
        return rc;
    }
    for (uint32_t s = 0; s < c->plan.strips; s++) {
        rc = advance(c, &c->strips[s]); /* Opens pass 0, which always has a question. */
        assert(rc == 0 && c->strips[s].opening);
        push_ready(c, s);
    }
    *ret_cascade = c;
    return 0;
}

bool qn_cascade_is_done(const struct qn_cascade *c) { return c->n_done == c->plan.strips; }
uint64_t qn_cascade_disclosed(const struct qn_cascade *c) { return c->disclosed; }
uint64_t qn_cascade_corrected(const struct qn_cascade *c) { return c->corrected; }
uint32_t qn_cascade_strips(const struct qn_cascade *c) { return c->plan.strips; }

uint32_t qn_cascade_rounds(const struct qn_cascade *c) {
    uint32_t most = 0;
    for (uint32_t s = 0; s < c->plan.strips; s++)
        if (c->strips[s].rounds > most) most = c->strips[s].rounds;
    return most;
}

int qn_cascade_key(const struct qn_cascade *c, struct qn_bits *ret_key) {
    struct qn_bits key = {0};
    int rc = qn_bits_reserve(&key, c->plan.len);
    for (uint32_t s = 0; rc == 0 && s < c->plan.strips; s++) {
        const struct cell *cells = pass_cells(c, &c->strips[s], 0);
        size_t left = c->plan.len - key.len, count = left < c->plan.strip ? left : c->plan.strip;
        for (size_t done = 0; rc == 0 && done < count; done += 64)
            rc = qn_bits_append_word(&key, cells[done / 64].bits, count - done < 64 ? (unsigned)(count - done) : 64);
    }
    if (rc < 0) {
        qn_bits_release(&key);
        return rc;
    }
    qn_bits_release(ret_key);
    *ret_key = key;
    return 0;
}
