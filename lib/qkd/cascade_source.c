/* SPDX-License-Identifier: Apache-2.0 */
/* The answering end of Cascade. Each pass is kept as prefix parities of the shuffled key, so that an answer is one bit
 * looked up; checks are rare and summed on demand. */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "qkd/cascade.h"
#include "qkd/cascade_plan.h"
#include "qkd/pack.h"

/* The parts of a pass that a strip was last asked about. */
struct part {
    uint16_t low, more; /* Its length less one. */
};

struct parts {
    struct part *parts; /* Borrowed; most_parts. */
    uint32_t n;
    unsigned pass;
};

struct qn_cascade_source {
    struct plan plan;
    uint64_t *strips;                  /* In their own order. */
    uint64_t *prefix[PLAN_MAX_PASSES]; /* Bit x of a strip: the parity of its first x bits; strip_words each. */
    size_t strip_words;
    struct parts *parts; /* Of each strip. */
    struct part *all_parts;
    uint32_t most_parts;
    uint64_t disclosed, limit;
};

void qn_cascade_source_free(struct qn_cascade_source *source) {
    if (source == NULL) return;
    if (source->strips != NULL) sodium_memzero(source->strips, source->plan.strips * source->plan.words * 8);
    free(source->strips);
    free(source->parts);
    free(source->all_parts);
    for (unsigned p = 0; p < PLAN_MAX_PASSES; p++) {
        if (source->prefix[p] != NULL) sodium_memzero(source->prefix[p], source->plan.strips * source->strip_words * 8);
        free(source->prefix[p]);
    }
    plan_release(&source->plan);
    free(source);
}

/* Parity of all bits up to and including each one. */
static uint64_t running_parity(uint64_t word) {
    for (unsigned shift = 1; shift < 64; shift *= 2) word ^= word << shift;
    return word;
}

static void sum_up(const struct plan *plan, const uint64_t *in, uint64_t *out, size_t out_words) {
    for (size_t s = 0; s < plan->strips; s++, in += plan->words, out += out_words) {
        uint64_t carry = 0;
        for (size_t w = 0; w < plan->words; w++) {
            uint64_t sums = running_parity(in[w]) ^ -carry;
            out[w] = sums << 1 | carry;
            carry = sums >> 63;
        }
        if (out_words > plan->words) out[plan->words] = carry;
    }
}

static int prepare(struct qn_cascade_source *source, const struct qn_bits *key) {
    const struct plan *plan = &source->plan;
    source->strip_words = plan->strip / 64 + 1;
    source->most_parts = plan_most_parts(plan);
    source->parts = calloc((size_t)plan->strips + 1, sizeof *source->parts);
    source->all_parts = malloc(((size_t)plan->strips * source->most_parts + 1) * sizeof *source->all_parts);
    if (source->parts == NULL || source->all_parts == NULL) return -QN_ENOMEM;
    for (size_t s = 0; s < plan->strips; s++) source->parts[s].parts = source->all_parts + s * source->most_parts;
    int rc = plan_strips(plan, key, &source->strips);
    if (rc < 0) return rc;
    size_t total = plan->strips * plan->words;
    uint64_t *shuffled = malloc((total + 1) * sizeof *shuffled);
    if (shuffled == NULL) return -QN_ENOMEM;
    for (unsigned p = 0; rc == 0 && p < plan->n_passes; p++) {
        source->prefix[p] = malloc(plan->strips * source->strip_words * sizeof *source->prefix[p]);
        rc = source->prefix[p] == NULL ? -QN_ENOMEM : plan_shuffle(plan, p, source->strips, shuffled);
        if (rc == 0) sum_up(plan, shuffled, source->prefix[p], source->strip_words);
    }
    sodium_memzero(shuffled, total * sizeof *shuffled);
    free(shuffled);
    return rc;
}

int qn_cascade_source_new(const struct qn_cascade_config *config, const struct qn_bits *key,
                          struct qn_cascade_source **ret_source) {
    struct qn_cascade_source *source = calloc(1, sizeof *source);
    if (source == NULL) return -QN_ENOMEM;
    int rc = plan_init(&source->plan, config, key->len);
    if (rc == 0) rc = prepare(source, key);
    if (rc < 0) {
        qn_cascade_source_free(source);
        return rc;
    }
    uint64_t bits = (uint64_t)source->plan.strips * source->plan.strip;
    source->limit = bits * (source->plan.n_passes + source->plan.n_checks);
    *ret_source = source;
    return 0;
}

/* Answers as they are made, up to `count`. */
struct answers {
    uint8_t *bytes;
    uint32_t len, count;
};

/* There is room. */
static void put_bits(struct answers *answers, uint64_t bits, unsigned count) {
    uint32_t at = answers->len / 8, shift = answers->len % 8;
    answers->len += count;
    answers->bytes[at++] |= (uint8_t)(bits << shift);
    for (bits >>= 8 - shift; 8 * at < answers->len; bits >>= 8) answers->bytes[at++] = (uint8_t)bits;
}

static bool check_parity(const struct qn_cascade_source *source, size_t strip, unsigned check, size_t count) {
    const uint64_t *bits = source->strips + strip * source->plan.words, *mask = plan_mask(&source->plan, check);
    bool sum = source->plan.sum(bits, mask, count / 64);
    if (count % 64 != 0) sum ^= __builtin_parityll(bits[count / 64] & mask[count / 64] & ((1ull << count % 64) - 1));
    return sum;
}

static int answer_opening(const struct qn_cascade_source *source, size_t strip, unsigned pass,
                          struct answers *answers) {
    const struct plan *plan = &source->plan;
    uint32_t count = plan_opening(plan, pass);
    if (count > answers->count - answers->len) return -QN_EPROTOCOL;
    if (pass >= plan->n_passes) {
        unsigned first = plan->streak > 0 ? 2 * (pass - plan->n_passes) : 0;
        for (unsigned check = first; check < first + count; check++)
            put_bits(answers, check_parity(source, strip, check, plan->strip), 1);
        return 0;
    }
    const uint64_t *prefix = source->prefix[pass] + strip * source->strip_words;
    uint64_t bits = 0;
    for (uint32_t b = 0, x = 0; b < count; b++) {
        x = b + 1 == plan->pass[pass].blocks ? plan->strip : x + plan->pass[pass].block;
        bits |= (prefix[x / 64] >> x % 64 & 1) << b % 64;
        if (b % 64 != 63 && b + 1 != count) continue;
        put_bits(answers, bits, b % 64 + 1);
        bits = 0;
    }
    return 0;
}

/* The next difference, of which half take one byte and half two: those without a branch. */
static inline int read_step(struct leb_reader *reader, uint64_t *ret_step) {
    if (reader->end - reader->at < 2) return leb_read(reader, ret_step);
    uint32_t low = reader->at[0], high = reader->at[1], more = low >> 7;
    if (more & ((high >> 7) | (high == 0))) return leb_read(reader, ret_step); /* Three, or padded. */
    *ret_step = (low & 0x7f) | (high & -more) << 7;
    reader->at += 1 + more;
    return 0;
}

static int answer_positions(const struct qn_cascade_source *source, size_t strip, unsigned pass,
                            struct leb_reader *reader, struct answers *answers) {
    const struct plan *plan = &source->plan;
    const uint64_t *prefix = pass < plan->n_passes ? source->prefix[pass] + strip * source->strip_words : NULL;
    uint64_t count, x = 0, bits = 0;
    int rc = leb_read(reader, &count);
    if (rc == 0 && (count == 0 || count > answers->count - answers->len)) rc = -QN_EPROTOCOL;
    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        uint64_t step;
        rc = read_step(reader, &step);
        if (rc < 0) break;
        if (step == 0 || step >= plan->strip - x) return -QN_EPROTOCOL;
        x += step;
        uint64_t bit =
            prefix != NULL ? prefix[x / 64] >> x % 64 & 1 : check_parity(source, strip, pass - plan->n_passes, x);
        bits |= bit << i % 64;
        if (i % 64 != 63 && i + 1 != count) continue;
        put_bits(answers, bits, i % 64 + 1);
        bits = 0;
    }
    return rc;
}

/* ---- parts of a pass ---- */

static int begin_parts(struct qn_cascade_source *source, size_t strip, unsigned pass, uint64_t count) {
    struct parts *parts = &source->parts[strip];
    if (count == 0 || count > source->most_parts) return -QN_EPROTOCOL;
    parts->n = 0;
    parts->pass = pass;
    return 0;
}

/* The next `count` bits, as bytes; unused ones zero. */
static int read_choices(struct leb_reader *reader, uint32_t count, const uint8_t **ret_choices) {
    size_t bytes = qn_bits_bytes(count);
    if ((size_t)(reader->end - reader->at) < bytes) return -QN_EPROTOCOL;
    *ret_choices = reader->at;
    reader->at += bytes;
    return count % 8 != 0 && (*ret_choices)[bytes - 1] >> count % 8 != 0 ? -QN_EPROTOCOL : 0;
}

static int begin_blocks(struct qn_cascade_source *source, size_t strip, unsigned pass, struct leb_reader *reader) {
    const struct plan_pass *of = &source->plan.pass[pass];
    struct parts *parts = &source->parts[strip];
    const uint8_t *choices;
    uint32_t count = 0;
    int rc = read_choices(reader, of->blocks, &choices);
    for (size_t i = 0; rc == 0 && i < qn_bits_bytes(of->blocks); i++) count += (uint32_t)__builtin_popcount(choices[i]);
    if (rc == 0) rc = begin_parts(source, strip, pass, count);
    for (uint32_t i = 0; rc == 0 && i < of->blocks; i += 8) {
        for (uint32_t bits = choices[i / 8]; bits != 0; bits &= bits - 1) {
            uint32_t low = (i + (uint32_t)__builtin_ctz(bits)) * of->block, rest = source->plan.strip - low;
            uint32_t len = rest < of->block ? rest : of->block;
            if (len < 2) return -QN_EPROTOCOL;
            parts->parts[parts->n++] = (struct part){(uint16_t)low, (uint16_t)(len - 1)};
        }
    }
    return rc;
}

static int begin_segments(struct qn_cascade_source *source, size_t strip, unsigned pass, struct leb_reader *reader) {
    struct parts *parts = &source->parts[strip];
    uint64_t count, end = 0;
    int rc = leb_read(reader, &count);
    if (rc == 0) rc = begin_parts(source, strip, pass, count);
    for (uint64_t i = 0; rc == 0 && i < count; i++) {
        uint64_t distance, len;
        rc = read_step(reader, &distance);
        if (rc == 0) rc = read_step(reader, &len);
        if (rc < 0) break;
        uint64_t rest = source->plan.strip - end;
        if (distance > rest || len < 2 || len > rest - distance) return -QN_EPROTOCOL;
        parts->parts[parts->n++] = (struct part){(uint16_t)(end + distance), (uint16_t)(len - 1)};
        end += distance + len;
    }
    return rc;
}

/* Without branches: which half it is is a coin toss. */
static int go_on_in_halves(struct qn_cascade_source *source, size_t strip, unsigned pass, struct leb_reader *reader) {
    struct parts *parts = &source->parts[strip];
    const uint8_t *choices;
    uint32_t kept = 0;
    if (parts->n == 0 || parts->pass != pass) return -QN_EPROTOCOL;
    int rc = read_choices(reader, parts->n, &choices);
    if (rc < 0) return rc;
    struct part *list = parts->parts;
    for (uint32_t i = 0, n = parts->n; i < n; i++) {
        uint32_t len = list[i].more + 1u, half = len / 2, mask = -(uint32_t)(choices[i / 8] >> i % 8 & 1);
        uint32_t left = half ^ ((half ^ (len - half)) & mask);
        list[kept] = (struct part){(uint16_t)(list[i].low + (half & mask)), (uint16_t)(left - 1)};
        kept += left > 1;
    }
    parts->n = kept;
    return kept > 0 ? 0 : -QN_EPROTOCOL;
}

static int answer_parts(struct qn_cascade_source *source, size_t strip, unsigned pass, enum plan_parts kind,
                        struct leb_reader *reader, struct answers *answers) {
    const struct parts *parts = &source->parts[strip];
    const uint64_t *prefix = source->prefix[pass] + strip * source->strip_words;
    int rc = kind == PLAN_BLOCKS     ? begin_blocks(source, strip, pass, reader)
             : kind == PLAN_SEGMENTS ? begin_segments(source, strip, pass, reader)
                                     : go_on_in_halves(source, strip, pass, reader);
    if (rc < 0) return rc;
    if (parts->n > answers->count - answers->len) return -QN_EPROTOCOL;
    const struct part *part = parts->parts;
    for (uint32_t left = parts->n; left > 0;) {
        uint32_t count = left < 64 ? left : 64;
        uint64_t bits = 0;
        for (uint32_t k = 0; k < count; k++, part++) {
            uint32_t x = part->low + (part->more + 1u) / 2;
            bits |= (prefix[x / 64] >> x % 64 & 1) << k;
        }
        put_bits(answers, bits, count);
        left -= count;
    }
    return 0;
}

static int answer_record(struct qn_cascade_source *source, struct leb_reader *reader, struct answers *answers) {
    const struct plan *plan = &source->plan;
    uint64_t strip, what;
    int rc = leb_read(reader, &strip);
    if (rc == 0) rc = leb_read(reader, &what);
    if (rc < 0) return rc;
    if (strip >= plan->strips) return -QN_EPROTOCOL;
    if (what >= plan_first_part(plan)) {
        what -= plan_first_part(plan);
        if (what >= PLAN_PARTS * (uint64_t)plan->n_passes) return -QN_EPROTOCOL;
        return answer_parts(source, strip, (unsigned)what / PLAN_PARTS, (enum plan_parts)(what % PLAN_PARTS), reader,
                            answers);
    }
    bool opening = what & 1;
    what /= 2;
    if (what > plan->n_passes + plan->n_checks) return -QN_EPROTOCOL;
    if (opening && what >= plan_openings(plan)) return -QN_EPROTOCOL;
    if (opening) return answer_opening(source, strip, (unsigned)what, answers);
    if (what == plan->n_passes + plan->n_checks) return -QN_EPROTOCOL;
    return answer_positions(source, strip, (unsigned)what, reader, answers);
}

int qn_cascade_answer(struct qn_cascade_source *source, const uint8_t *ranges, size_t len, uint32_t count,
                      struct qn_buf *parities) {
    if (count > source->limit - source->disclosed || count > QN_CASCADE_ASK_BYTES * 8) return -QN_EPROTOCOL;
    size_t bytes = qn_bits_bytes(count);
    int rc = qn_buf_reserve(parities, bytes);
    if (rc < 0) return rc;
    struct answers answers = {.bytes = bytes > 0 ? parities->data + parities->len : NULL, .count = count};
    if (bytes > 0) memset(answers.bytes, 0, bytes);
    struct leb_reader reader = {ranges, ranges + len};
    while (rc == 0 && reader.at < reader.end) rc = answer_record(source, &reader, &answers);
    if (rc < 0) return rc;
    if (answers.len != count) return -QN_EPROTOCOL;
    parities->len += bytes;
    source->disclosed += count;
    return 0;
}

uint64_t qn_cascade_source_disclosed(const struct qn_cascade_source *source) { return source->disclosed; }
