/* SPDX-License-Identifier: Apache-2.0 */
/* In the order of each pass a strip is cut into segments at the positions whose prefix parity the source has told: the
 * block ends first, later every place where a search asked. A segment whose parity differs from the source's holds an
 * error for sure, so all that was ever asked is used again and nothing that follows from it in that pass is asked
 * twice. Searches halve odd segments of one pass side by side; an error found flips its bit in all passes, which makes
 * segments odd there, and the pass with the smallest blocks is always searched first. When no segment is odd the next
 * pass opens; after the last, random subsets are compared (BICONF) until all agree. */
#include "qkd/cascade_strip.h"

#include <sodium.h>
#include <stdlib.h>

#include "base/err.h"

/* The inner loops, compiled for what every CPU has and once more for shifts and counts in one instruction. */
struct strip_kernels {
    void (*halve_all)(struct strips *strips, uint32_t s, const uint8_t *answers, uint32_t at);
    uint32_t (*open_blocks)(struct strips *strips, struct strip *strip, const uint8_t *answers, uint32_t at);
    void (*search_odd)(struct strips *strips, uint32_t s);
    int (*flip_all)(struct strips *strips);
};

#define INLINE static inline __attribute__((always_inline))

/* ---- segments ---- */

static uint64_t *pass_touched(const struct strips *strips, const struct strip *strip, unsigned pass) {
    return strip->touched + pass * strips->touched_words;
}

INLINE uint64_t from_bit(uint32_t i) { return ~0ull << (i % 64); }
INLINE bool answer_at(const uint8_t *answers, uint32_t i) { return answers[i / 8] >> (i % 8) & 1; }

/* The first whole word without a branch: whether there is one is a coin toss in small blocks. */
INLINE bool own_parity(const struct cell *cells, uint32_t low, uint32_t high) {
    uint32_t w = low / 64, end = high / 64;
    uint64_t sum = (cells[w].bits & ~from_bit(low)) ^ (cells[end].bits & ~from_bit(high));
    sum ^= cells[w].bits & -(uint64_t)(w < end);
    while (++w < end) sum ^= cells[w].bits;
    return __builtin_parityll(sum);
}

INLINE bool told_at(const struct cell *cells, uint32_t i) { return cells[i / 64].told >> (i % 64) & 1; }

INLINE uint32_t segment_start(const struct cell *cells, uint32_t i) {
    uint32_t w = i / 64;
    uint64_t known = cells[w].known & ~0ull >> (63 - i % 64);
    while (known == 0) known = cells[--w].known; /* Position 0 is always known. */
    return w * 64 + 63 - (uint32_t)__builtin_clzll(known);
}

INLINE uint32_t segment_end(const struct cell *cells, uint32_t start) {
    uint32_t i = start + 1, w = i / 64;
    uint64_t known = cells[w].known & from_bit(i);
    while (known == 0) known = cells[++w].known; /* So is the end of an opened pass. */
    return w * 64 + (uint32_t)__builtin_ctzll(known);
}

/* ---- errors found ---- */

/* Room for so many more; without it nothing is changed. */
static int reserve_flips(struct strips *strips, size_t more) {
    if (strips->flips_cap - strips->n_flips >= more) return 0;
    size_t cap = strips->n_flips + more + strips->flips_cap;
    struct flip *flips = reallocarray(strips->flips, cap, sizeof *flips);
    if (flips == NULL) return -QN_ENOMEM;
    strips->flips = flips;
    strips->flips_cap = cap;
    return 0;
}

INLINE void note_flip(struct strips *strips, uint32_t s, uint32_t at) {
    strips->flips[strips->n_flips++] = (struct flip){.strip = s, .at = at};
}

/* In a pass that was opened, other than the one that found it: that has no odd segment on the way of a search. */
INLINE void flip_in_pass(const struct strips *strips, struct strip *strip, unsigned p, uint32_t x) {
    struct cell *cells = pass_cells(strips, strip, p);
    const uint16_t *to = strips->plan.pass[p].to;
    uint32_t i = to != NULL ? to[x] : x;
    cells[i / 64].bits ^= 1ull << (i % 64);
    uint32_t start = segment_start(cells, i), was = cells[start / 64].odd >> (start % 64) & 1;
    cells[start / 64].odd ^= 1ull << (start % 64);
    pass_touched(strips, strip, p)[start / 4096] |= 1ull << (start / 64 % 64);
    strip->n_odd[p] += 1 - 2 * was;
}

static void flip_in_checks(const struct plan *plan, struct strip *strip, uint32_t x) {
    for (unsigned check = 0; check < plan->n_checks; check++)
        strip->odd_checks ^= (uint32_t)(plan_mask(plan, check)[x / 64] >> (x % 64) & 1) << check;
}

INLINE unsigned opened_passes(const struct plan *plan, const struct strip *strip) {
    return strip->opened < plan->n_passes ? strip->opened : plan->n_passes;
}

INLINE void prefetch_flips(struct strips *strips) {
    const struct plan *plan = &strips->plan;
    for (size_t k = 0; k < strips->n_flips; k++) {
        struct flip *flip = &strips->flips[k];
        const struct strip *strip = &strips->strip[flip->strip];
        const uint16_t *from = strip->pass < plan->n_passes ? plan->pass[strip->pass].from : NULL;
        flip->x = from != NULL ? from[flip->at] : flip->at;
        __builtin_prefetch(&strip->flipped[flip->x / 64], 1);
        for (unsigned p = 0; p < opened_passes(plan, strip); p++) {
            if (p == strip->pass) continue;
            uint32_t i = plan->pass[p].to != NULL ? plan->pass[p].to[flip->x] : flip->x;
            __builtin_prefetch(&pass_cells(strips, strip, p)[i / 64], 1);
        }
    }
}

INLINE int flip_all_with(struct strips *strips) {
    const struct plan *plan = &strips->plan;
    prefetch_flips(strips);
    for (size_t k = 0; k < strips->n_flips; k++) {
        const struct flip *flip = &strips->flips[k];
        struct strip *strip = &strips->strip[flip->strip];
        uint64_t bit = 1ull << (flip->x % 64);
        if (strip->flipped[flip->x / 64] & bit) return -QN_EPROTOCOL; /* With honest answers no bit is wrong twice. */
        strip->flipped[flip->x / 64] |= bit;
        for (unsigned p = 0; p < opened_passes(plan, strip); p++) {
            if (p == strip->pass)
                pass_cells(strips, strip, p)[flip->at / 64].bits ^= 1ull << (flip->at % 64);
            else
                flip_in_pass(strips, strip, p, flip->x);
        }
        if (strip->opened > plan->n_passes) flip_in_checks(plan, strip, flip->x);
    }
    strips->corrected += strips->n_flips;
    strips->n_flips = 0;
    return 0;
}

int strips_flip(struct strips *strips) { return strips->n_flips == 0 ? 0 : strips->kernels->flip_all(strips); }

/* ---- searches ---- */

static int reserve_searches(struct strip *strip, uint32_t more) {
    if (strip->cap - strip->n_searches >= more) return 0;
    uint32_t cap = (strip->n_searches + more + 7) / 8 * 8;
    struct search *searches = reallocarray(strip->searches, cap, sizeof *searches);
    if (searches == NULL) return -QN_ENOMEM;
    strip->searches = searches;
    strip->cap = cap;
    return 0;
}

/* Takes the answer to a search: which half is odd. Without branches: it is a coin toss, and a wrong guess would cost
 * more than all of this; with masks, for compilers make slow vectors of pairs of choices. */
INLINE struct search halve(struct cell *cells, struct search search, uint32_t told) {
    uint32_t low = search_low(search), middle = search_middle(search);
    uint32_t upper = (told ^ 1u ^ search.low_told ^ own_parity(cells, low, middle)) & 1, mask = -upper;
    cells[middle / 64].known |= 1ull << (middle % 64);
    cells[middle / 64].told |= (uint64_t)told << (middle % 64);
    return (struct search){.low_told = search.low_told ^ ((search.low_told ^ (2 * middle + told)) & mask),
                           .high = search.high ^ ((search.high ^ middle) & ~mask)};
}

INLINE bool is_found(struct search search) { return search.high - search_low(search) == 1; }

/* The odd half, from the source's parity up to the middle and our own of the lower half. */
INLINE struct search half(struct search search, bool told, bool own) {
    uint32_t middle = search_middle(search);
    if (told ^ (search.low_told & 1) ^ own)
        search.high = middle;
    else
        search.low_told = 2 * middle + told;
    return search;
}

/* Halves every search of the strip; those down to one bit are errors and leave. There is room for as many flips. */
INLINE void halve_all_with(struct strips *strips, uint32_t s, const uint8_t *answers, uint32_t at) {
    struct strip *strip = &strips->strip[s];
    struct cell *cells = pass_cells(strips, strip, strip->pass);
    struct search *searches = strip->searches;
    struct flip *flips = strips->flips + strips->n_flips;
    uint32_t kept = 0, found = 0, count = strip->n_searches;
    uint64_t choices = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct search search = halve(cells, searches[i], answer_at(answers, at + i));
        choices |= (uint64_t)(search.low_told != searches[i].low_told) << (i % 64);
        if (i % 64 == 63 || i + 1 == count) {
            strip->choices[i / 64] = choices;
            choices = 0;
        }
        uint32_t ends = is_found(search);
        searches[kept] = search; /* Either is written over when it is not wanted. */
        flips[found] = (struct flip){.strip = s, .at = search_low(search)};
        kept += !ends;
        found += ends;
    }
    strip->parts = PLAN_HALVES;
    strip->n_choices = count;
    strip->n_searches = kept;
    strips->n_flips += found;
}

/* Starts a search in each odd segment of strip->pass; one of a single bit is an error. There is room for both. */
INLINE void search_odd_with(struct strips *strips, uint32_t s) {
    struct strip *strip = &strips->strip[s];
    unsigned pass = strip->pass;
    struct cell *cells = pass_cells(strips, strip, pass);
    uint64_t *touched = pass_touched(strips, strip, pass);
    for (uint32_t t = 0; t < strips->touched_words; t++) {
        for (uint64_t words = touched[t]; words != 0; words &= words - 1) {
            uint32_t w = t * 64 + (uint32_t)__builtin_ctzll(words);
            for (uint64_t odd = cells[w].odd; odd != 0; odd &= odd - 1) {
                uint32_t low = w * 64 + (uint32_t)__builtin_ctzll(odd);
                struct search search = {2 * low + told_at(cells, low), segment_end(cells, low)};
                if (is_found(search))
                    note_flip(strips, s, search_low(search));
                else
                    strip->searches[strip->n_searches++] = search;
            }
            cells[w].odd = 0; /* All that is odd now is even when these searches end. */
        }
        touched[t] = 0;
    }
    strip->n_odd[pass] = 0;
}

static int search_odd(struct strips *strips, uint32_t s) {
    struct strip *strip = &strips->strip[s];
    uint32_t n_odd = strip->n_odd[strip->pass];
    int rc = reserve_searches(strip, n_odd);
    if (rc == 0) rc = reserve_flips(strips, n_odd);
    if (rc < 0) return rc;
    strips->kernels->search_odd(strips, s);
    strip->parts = PLAN_SEGMENTS;
    return strips_flip(strips);
}

/* ---- opening a pass ---- */

/* What was corrected before, in the order of the pass. */
static void catch_up(const struct strips *strips, const struct strip *strip, unsigned pass) {
    const uint16_t *to = strips->plan.pass[pass].to;
    struct cell *cells = pass_cells(strips, strip, pass);
    for (size_t w = 0; w < strips->plan.words; w++) {
        for (uint64_t flipped = strip->flipped[w]; flipped != 0; flipped &= flipped - 1) {
            size_t x = w * 64 + (size_t)__builtin_ctzll(flipped);
            uint32_t i = to != NULL ? to[x] : (uint32_t)x;
            cells[i / 64].bits ^= 1ull << (i % 64);
        }
    }
}

/* Where our prefix parity differs from the source's, errors before are odd in number; a block with a difference at one
 * end only is odd. Returns how many are, each a search in strips->opened. No branches, as in halve. */
INLINE uint32_t open_blocks_with(struct strips *strips, struct strip *strip, const uint8_t *answers, uint32_t at) {
    const struct plan *plan = &strips->plan;
    unsigned pass = strip->pass;
    struct cell *cells = pass_cells(strips, strip, pass);
    uint8_t own[PLAN_MAX_STRIP / 64 + 1]; /* Parity of the words before. */
    own[0] = 0;
    for (size_t w = 0; w < plan->words; w++) own[w + 1] = own[w] ^ (uint8_t)__builtin_parityll(cells[w].bits);

    uint32_t blocks = plan->pass[pass].blocks, block = plan->pass[pass].block, low = 0, n_odd = 0;
    uint32_t before = 0, told_before = 0;
    uint64_t choices = 0;
    cells[0].known |= 1;
    for (uint32_t b = 0; b < blocks; b++) {
        bool last = b + 1 == blocks;
        uint32_t high = last ? plan->strip : low + block;
        uint32_t told = last && pass > 0 ? strip->total : answer_at(answers, at + b);
        struct cell *cell = &cells[high / 64];
        uint32_t differs = told ^ own[high / 64] ^ (uint32_t)__builtin_parityll(cell->bits & ~from_bit(high));
        cell->known |= 1ull << (high % 64);
        cell->told |= (uint64_t)told << (high % 64);
        strips->opened[n_odd] = (struct search){2 * low + told_before, high};
        n_odd += differs ^ before;
        choices |= (uint64_t)(differs ^ before) << (b % 64);
        if (b % 64 == 63 || last) {
            strip->choices[b / 64] = choices;
            choices = 0;
        }
        before = differs;
        told_before = told;
        low = high;
    }
    return n_odd;
}

static int open_blocks(struct strips *strips, uint32_t s, const uint8_t *answers, uint32_t at) {
    struct strip *strip = &strips->strip[s];
    if (strip->pass > 0) catch_up(strips, strip, strip->pass);
    uint32_t n_odd = strips->kernels->open_blocks(strips, strip, answers, at);
    int rc = reserve_searches(strip, n_odd);
    if (rc == 0) rc = reserve_flips(strips, n_odd);
    if (rc < 0) return rc;
    for (uint32_t i = 0; i < n_odd; i++) {
        struct search search = strips->opened[i];
        uint32_t block = search_low(search) / strips->plan.pass[strip->pass].block;
        if (is_found(search)) {
            note_flip(strips, s, search_low(search));
            strip->choices[block / 64] &= ~(1ull << (block % 64));
        } else {
            strip->searches[strip->n_searches++] = search;
        }
    }
    strip->parts = PLAN_BLOCKS;
    strip->n_choices = strips->plan.pass[strip->pass].blocks;
    return 0;
}

/* ---- checks ---- */

static bool check_has(const struct plan *plan, unsigned check, uint32_t low, uint32_t high) {
    const uint64_t *mask = plan_mask(plan, check);
    for (uint32_t w = low / 64; w * 64 < high; w++) {
        uint64_t wanted = mask[w];
        if (w == low / 64) wanted &= from_bit(low);
        if (w == high / 64) wanted &= ~from_bit(high);
        if (wanted != 0) return true;
    }
    return false;
}

/* Halves a search as long as the check has bits in one half only. */
static struct search narrow(const struct plan *plan, unsigned check, struct search search) {
    while (!is_found(search)) {
        uint32_t middle = search_middle(search);
        if (!check_has(plan, check, search_low(search), middle))
            search.low_told = 2 * middle + (search.low_told & 1);
        else if (!check_has(plan, check, middle, search.high))
            search.high = middle;
        else
            break;
    }
    return search;
}

static bool check_own_parity(const struct strips *strips, const struct strip *strip, unsigned check, uint32_t low,
                             uint32_t high) {
    const struct cell *cells = pass_cells(strips, strip, 0);
    const uint64_t *mask = plan_mask(&strips->plan, check);
    uint64_t sum = 0;
    for (uint32_t w = low / 64; w * 64 < high; w++) {
        uint64_t wanted = mask[w];
        if (w == low / 64) wanted &= from_bit(low);
        if (w == high / 64) wanted &= ~from_bit(high);
        sum ^= cells[w].bits & wanted;
    }
    return __builtin_parityll(sum);
}

static int go_on_in_check(struct strips *strips, uint32_t s, struct search search) {
    struct strip *strip = &strips->strip[s];
    search = narrow(&strips->plan, strip->pass - strips->plan.n_passes, search);
    bool ends = is_found(search);
    strip->n_searches = 0;
    int rc = ends ? reserve_flips(strips, 1) : reserve_searches(strip, 1);
    if (rc < 0) return rc;
    if (ends)
        note_flip(strips, s, search_low(search));
    else
        strip->searches[strip->n_searches++] = search;
    return 0;
}

static int search_check(struct strips *strips, uint32_t s, unsigned check) {
    strips->strip[s].pass = (uint16_t)(strips->plan.n_passes + check);
    return go_on_in_check(strips, s, (struct search){0, strips->plan.strip});
}

static int tell_check(struct strips *strips, uint32_t s, bool told) {
    struct strip *strip = &strips->strip[s];
    struct search search = strip->searches[0];
    unsigned check = strip->pass - strips->plan.n_passes;
    bool own = check_own_parity(strips, strip, check, search_low(search), search_middle(search));
    return go_on_in_check(strips, s, half(search, told, own));
}

static void open_checks(struct strips *strips, struct strip *strip, const uint8_t *answers, uint32_t at) {
    const struct plan *plan = &strips->plan;
    const struct cell *cells = pass_cells(strips, strip, 0);
    uint64_t own[PLAN_MAX_STRIP / 64];
    for (size_t w = 0; w < plan->words; w++) own[w] = cells[w].bits;
    for (unsigned check = 0; check < plan->n_checks; check++) {
        bool parity = plan->sum(own, plan_mask(plan, check), plan->words);
        strip->odd_checks |= (uint32_t)(answer_at(answers, at + check) != parity) << check;
    }
    sodium_memzero(own, plan->words * sizeof *own);
}

/* ---- the stages ---- */

void strip_prefetch(const struct strips *strips, uint32_t s) {
    const struct strip *strip = &strips->strip[s];
    if (strip->opening || strip->pass >= strips->plan.n_passes) return;
    const struct cell *cells = pass_cells(strips, strip, strip->pass);
    for (uint32_t i = 0; i < strip->n_searches; i++)
        __builtin_prefetch(&cells[search_middle(strip->searches[i]) / 64], 1);
}

static int open_pass(struct strips *strips, uint32_t s, const uint8_t *answers, uint32_t at) {
    const struct plan *plan = &strips->plan;
    struct strip *strip = &strips->strip[s];
    strip->opening = false;
    strip->opened++;
    if (strip->pass < plan->n_passes) {
        if (strip->pass == 0) strip->total = answer_at(answers, at + plan->pass[0].blocks - 1);
        return open_blocks(strips, s, answers, at);
    }
    open_checks(strips, strip, answers, at);
    return 0;
}

int strip_tell(struct strips *strips, uint32_t s, const uint8_t *answers, uint32_t at) {
    struct strip *strip = &strips->strip[s];
    strip->rounds++;
    if (strip->opening) return open_pass(strips, s, answers, at);
    if (strip->pass >= strips->plan.n_passes) return tell_check(strips, s, answer_at(answers, at));
    int rc = reserve_flips(strips, strip->n_searches + 1); /* One more is written and not counted. */
    if (rc == 0) strips->kernels->halve_all(strips, s, answers, at);
    return rc;
}

/* Of the passes to look at, the first with an odd segment; n_passes if there is none. */
static unsigned first_odd_pass(const struct plan *plan, const struct strip *strip) {
    for (unsigned p = 0; p < opened_passes(plan, strip); p++)
        if (strip->n_odd[p] > 0) return p;
    return plan->n_passes;
}

/* With no question pending: one more step towards the next. */
static int advance_once(struct strips *strips, uint32_t s) {
    const struct plan *plan = &strips->plan;
    struct strip *strip = &strips->strip[s];
    unsigned p = first_odd_pass(plan, strip);
    if (p < plan->n_passes) {
        strip->pass = (uint16_t)p;
        return search_odd(strips, s);
    }
    if (strip->odd_checks != 0) {
        int rc = search_check(strips, s, (unsigned)__builtin_ctz(strip->odd_checks));
        return rc < 0 ? rc : strips_flip(strips);
    }
    if (strip->opened == plan_openings(plan)) {
        strip->done = true;
        return 0;
    }
    strip->pass = strip->opened;
    strip->opening = true;
    if (plan_opening(plan, strip->pass) > 0) return 0;
    int rc = open_pass(strips, s, NULL, 0);
    return rc < 0 ? rc : strips_flip(strips);
}

int strip_advance(struct strips *strips, uint32_t s) {
    struct strip *strip = &strips->strip[s];
    int rc = 0;
    while (rc == 0 && strip->n_searches == 0 && !strip->opening && !strip->done) rc = advance_once(strips, s);
    return rc;
}

/* ---- which instructions ---- */

#define KERNELS(NAME, TARGET)                                                                                          \
    TARGET static void halve_all_##NAME(struct strips *strips, uint32_t s, const uint8_t *answers, uint32_t at) {      \
        halve_all_with(strips, s, answers, at);                                                                        \
    }                                                                                                                  \
    TARGET static uint32_t open_blocks_##NAME(struct strips *strips, struct strip *strip, const uint8_t *answers,      \
                                              uint32_t at) {                                                           \
        return open_blocks_with(strips, strip, answers, at);                                                           \
    }                                                                                                                  \
    TARGET static void search_odd_##NAME(struct strips *strips, uint32_t s) { search_odd_with(strips, s); }            \
    TARGET static int flip_all_##NAME(struct strips *strips) { return flip_all_with(strips); }                         \
    static const struct strip_kernels kernels_##NAME = {halve_all_##NAME, open_blocks_##NAME, search_odd_##NAME,       \
                                                        flip_all_##NAME}

KERNELS(portable, );
#ifdef __x86_64__
KERNELS(bmi2, __attribute__((target("popcnt,bmi,bmi2"))));
#endif

const struct strip_kernels *strip_best_kernels(bool portable) {
#ifdef __x86_64__
    if (!portable && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt")) return &kernels_bmi2;
#endif
    (void)portable;
    return &kernels_portable;
}
