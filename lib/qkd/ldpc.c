/* SPDX-License-Identifier: Apache-2.0 */
/* The correcting end of LDPC reconciliation. Frames wait in line, ask, and are decoded when the answer is told; a frame
 * that does not decode goes to the end of the line with another question. */
#include "qkd/ldpc.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "qkd/ldpc_decode.h"
#include "qkd/ldpc_frames.h"
#include "qkd/pack.h"
#include "qkd/reconcile.h"

struct frame {
    uint8_t what; /* To ask, or asked. */
    bool done;
    uint32_t rounds, asked; /* asked: bits of the answer. */
    uint32_t sum;
};

struct message {
    uint32_t frames, count;
};

struct ldpc_corrector {
    struct ldpc_frames frames;
    struct frame *frame;
    uint64_t *own, *words, *known, *asked; /* Words a frame each: the key as it was, as it is, what is certain, and
                                              what is asked for. */
    uint64_t *syndrome;                    /* Checks a frame. */
    uint32_t *ready, *open;                /* Rings of frames: to ask, and asked. */
    struct message *messages;              /* And of questions not answered. */
    uint32_t ready_at, n_ready, open_at, n_open, message_at, n_messages, n_done;
    const struct ldpc_kernels *kernels;
    struct ldpc_decoder *decoder;
    uint8_t *certainty; /* Of one frame. */
    struct ldpc_counts counts;
};

static uint32_t slot(const struct ldpc_corrector *c, uint32_t at, uint32_t n) { return (at + n) % c->frames.count; }

/* ---- Life. */

static void wipe(uint64_t *words, size_t count) {
    if (words != NULL) sodium_memzero(words, count * sizeof *words);
    free(words);
}

void ldpc_corrector_free(struct ldpc_corrector *c) {
    if (c == NULL) return;
    size_t columns = (size_t)c->frames.count * c->frames.code.words;
    wipe(c->own, columns);
    wipe(c->words, columns);
    free(c->known);
    free(c->asked);
    free(c->syndrome);
    free(c->frame);
    free(c->ready);
    free(c->open);
    free(c->messages);
    free(c->certainty);
    ldpc_decoder_free(c->decoder);
    ldpc_frames_release(&c->frames);
    free(c);
}

static int allocate(struct ldpc_corrector *c) {
    size_t count = c->frames.count, columns = count * c->frames.code.words;
    c->frame = calloc(count, sizeof *c->frame);
    c->own = calloc(columns, sizeof *c->own);
    c->words = calloc(columns, sizeof *c->words);
    c->known = calloc(columns, sizeof *c->known);
    c->asked = calloc(columns, sizeof *c->asked);
    c->syndrome = calloc(count * c->frames.code.checks, sizeof *c->syndrome);
    c->ready = calloc(count, sizeof *c->ready);
    c->open = calloc(count, sizeof *c->open);
    c->messages = calloc(count, sizeof *c->messages);
    c->certainty = malloc(64 * (size_t)c->frames.code.words);
    if (!c->frame || !c->own || !c->words || !c->known || !c->asked || !c->syndrome || !c->ready || !c->open ||
        !c->messages || !c->certainty)
        return -QN_ENOMEM;
    return ldpc_decoder_new(&c->frames.code, &c->decoder);
}

int ldpc_corrector_new(const struct ldpc_config *config, const struct qn_bits *key,
                       struct ldpc_corrector **ret_corrector) {
    struct ldpc_corrector *c = calloc(1, sizeof *c);
    if (c == NULL) return -QN_ENOMEM;
    c->kernels = ldpc_kernels_best();
    int rc = ldpc_frames_init(&c->frames, config, key->len);
    if (rc == 0 && key->len > 0) rc = allocate(c);
    if (rc < 0) {
        ldpc_corrector_free(c);
        return rc;
    }
    c->counts.frames = c->frames.count;
    for (uint32_t f = 0; f < c->frames.count; f++) {
        uint32_t columns = c->frames.code.words, bits = ldpc_frame_bits(&c->frames, f);
        uint64_t *known = c->known + (size_t)f * columns;
        ldpc_frame_words(&c->frames, key, f, c->own + (size_t)f * columns);
        for (uint32_t w = bits / 64; w < columns; w++) known[w] = ~0ull;
        if (bits % 64 != 0) known[bits / 64] = ~0ull << bits % 64;
        c->ready[c->n_ready++] = f;
        c->frame[f] = (struct frame){.what = LDPC_SYNDROME, .asked = ldpc_syndrome_bits(&c->frames)};
    }
    if (key->len > 0) memcpy(c->words, c->own, (size_t)c->frames.count * c->frames.code.words * sizeof *c->own);
    *ret_corrector = c;
    return 0;
}

bool ldpc_is_done(const struct ldpc_corrector *c) { return c->n_done == c->frames.count; }
void ldpc_get_counts(const struct ldpc_corrector *c, struct ldpc_counts *ret_counts) { *ret_counts = c->counts; }

int ldpc_key(const struct ldpc_corrector *c, struct qn_bits *ret_key) {
    struct qn_bits key = {0};
    int rc = qn_bits_reserve(&key, c->frames.len);
    for (uint32_t f = 0; rc == 0 && f < c->frames.count; f++) {
        const uint64_t *words = c->words + (size_t)f * c->frames.code.words;
        uint32_t bits = ldpc_frame_bits(&c->frames, f);
        for (uint32_t done = 0; rc == 0 && done < bits; done += 64)
            rc = qn_bits_append_word(&key, words[done / 64], bits - done < 64 ? bits - done : 64);
    }
    if (rc < 0) {
        qn_bits_release(&key);
        return rc;
    }
    qn_bits_release(ret_key);
    *ret_key = key;
    return 0;
}

/* ---- Questions. */

enum { RECORD_HEAD = 3 + 1 + 3, POSITION = 3 };

static size_t write_record(const struct ldpc_corrector *c, uint32_t f, uint8_t *out) {
    size_t len = leb_write(out, f);
    len += leb_write(out + len, c->frame[f].what);
    if (c->frame[f].what != LDPC_POSITIONS) return len;
    len += leb_write(out + len, c->frame[f].asked);
    const uint64_t *asked = c->asked + (size_t)f * c->frames.code.words;
    uint32_t before = 0;
    for (uint32_t w = 0; w < c->frames.code.words; w++) {
        for (uint64_t bits = asked[w]; bits != 0; bits &= bits - 1) {
            uint32_t x = w * 64 + (uint32_t)__builtin_ctzll(bits);
            len += leb_write(out + len, x - before);
            before = x;
        }
    }
    return len;
}

int ldpc_ask(struct ldpc_corrector *c, struct qn_buf *question, uint32_t *ret_count) {
    struct message message = {0};
    size_t old_len = question->len;
    while (message.frames < c->n_ready) {
        uint32_t f = c->ready[slot(c, c->ready_at, message.frames)];
        const struct frame *frame = &c->frame[f];
        size_t need = RECORD_HEAD + (frame->what == LDPC_POSITIONS ? POSITION * (size_t)frame->asked : 0);
        if (message.frames > 0 && question->len - old_len + need > QN_RECONCILE_MESSAGE_BYTES) break;
        if (message.count + frame->asked > QN_RECONCILE_MESSAGE_BYTES * 8) break;
        int rc = qn_buf_reserve(question, need);
        if (rc < 0) {
            question->len = old_len;
            return rc;
        }
        question->len += write_record(c, f, question->data + question->len);
        message.count += frame->asked;
        message.frames++;
    }
    for (uint32_t i = 0; i < message.frames; i++) {
        c->open[slot(c, c->open_at, c->n_open++)] = c->ready[c->ready_at];
        c->ready_at = slot(c, c->ready_at, 1);
        c->n_ready--;
    }
    if (message.frames > 0) c->messages[slot(c, c->message_at, c->n_messages++)] = message;
    *ret_count = message.count;
    return 0;
}

/* ---- Decoding. */

enum { MORE_PART = 64 }; /* Of the syndrome. */

/* The `count` bits of which the decoder is least certain, but not the known ones. */
static void choose_bits(struct ldpc_corrector *c, uint32_t f, uint32_t count) {
    uint32_t columns = c->frames.code.words, histogram[256] = {0}, below = 0;
    const uint64_t *known = c->known + (size_t)f * columns;
    uint64_t *asked = c->asked + (size_t)f * columns;
    for (uint32_t x = 0; x < 64 * columns; x++)
        if (!(known[x / 64] >> (x % 64) & 1)) histogram[c->certainty[x]]++;
    unsigned limit = 0;
    while (limit < 255 && below + histogram[limit] < count) below += histogram[limit++];
    uint64_t at_limit = histogram[limit], take = count - below, seen = 0; /* Of those alike, an even choice. */
    memset(asked, 0, columns * sizeof *asked);
    for (uint32_t x = 0; x < 64 * columns; x++) {
        if (known[x / 64] >> (x % 64) & 1 || c->certainty[x] > limit) continue;
        if (c->certainty[x] == limit && (seen++ * take) % at_limit >= take) continue;
        asked[x / 64] |= 1ull << (x % 64);
    }
}

static void ask(struct ldpc_corrector *c, uint32_t f, uint8_t what, uint32_t count) {
    c->frame[f].what = what;
    c->frame[f].asked = count;
    c->ready[slot(c, c->ready_at, c->n_ready++)] = f;
}

static uint32_t count_unknown(const struct ldpc_corrector *c, uint32_t f) {
    const uint64_t *known = c->known + (size_t)f * c->frames.code.words;
    uint32_t left = 0;
    for (uint32_t w = 0; w < c->frames.code.words; w++) left += (uint32_t)__builtin_popcountll(~known[w]);
    return left;
}

/* What to ask next of a frame that did not decode: a part of what the syndrome was, then twice that, ... */
static void ask_more(struct ldpc_corrector *c, uint32_t f) {
    uint32_t left = count_unknown(c, f);
    unsigned doublings = c->frame[f].rounds - 1;
    uint64_t more = doublings > 16 ? left : (uint64_t)(ldpc_syndrome_bits(&c->frames) / MORE_PART + 1) << doublings;
    if (more > LDPC_ASK_BITS || more >= left) {
        ask(c, f, LDPC_REST, left);
        return;
    }
    choose_bits(c, f, (uint32_t)more);
    ask(c, f, LDPC_POSITIONS, (uint32_t)more);
}

static uint64_t take_bits(const uint8_t *answer, uint32_t *at, uint32_t count) {
    uint64_t word = 0;
    if (count == 64 && *at % 8 == 0) {
        word = load_le64(answer + *at / 8);
        *at += 64;
        return word;
    }
    for (uint32_t i = 0; i < count; i++, ++*at) word |= (uint64_t)(answer[*at / 8] >> (*at % 8) & 1) << i;
    return word;
}

static void take_answer(struct ldpc_corrector *c, uint32_t f, const uint8_t *answer, uint32_t *at) {
    uint32_t columns = c->frames.code.words, rows = c->frames.code.checks;
    uint64_t *words = c->words + (size_t)f * columns, *known = c->known + (size_t)f * columns;
    if (c->frame[f].what == LDPC_SYNDROME) {
        for (uint32_t r = 0; r < rows; r++) c->syndrome[(size_t)f * rows + r] = take_bits(answer, at, 64);
        c->frame[f].sum = (uint32_t)take_bits(answer, at, LDPC_SUM_BITS);
        return;
    }
    const uint64_t *asked = c->asked + (size_t)f * columns;
    for (uint32_t w = 0; w < columns; w++) {
        for (uint64_t bits = c->frame[f].what == LDPC_REST ? ~known[w] : asked[w]; bits != 0; bits &= bits - 1) {
            uint64_t bit = bits & -bits;
            words[w] = take_bits(answer, at, 1) ? words[w] | bit : words[w] & ~bit;
            known[w] |= bit;
        }
    }
}

static void finish(struct ldpc_corrector *c, uint32_t f) {
    uint32_t columns = c->frames.code.words;
    const uint64_t *own = c->own + (size_t)f * columns, *words = c->words + (size_t)f * columns;
    for (uint32_t w = 0; w < columns; w++) c->counts.corrected += (uint64_t)__builtin_popcountll(own[w] ^ words[w]);
    c->frame[f].done = true;
    c->n_done++;
}

static void tell_frame(struct ldpc_corrector *c, uint32_t f, const uint8_t *answer, uint32_t *at) {
    struct frame *frame = &c->frame[f];
    uint32_t columns = c->frames.code.words, rows = c->frames.code.checks;
    take_answer(c, f, answer, at);
    frame->rounds++;
    if (frame->rounds > c->counts.rounds) c->counts.rounds = frame->rounds;
    uint64_t *found = c->words + (size_t)f * columns;
    if (frame->what == LDPC_REST) {
        c->counts.failed++;
        finish(c, f);
    } else if (ldpc_decode(c->kernels, &c->frames.code, c->decoder, c->syndrome + (size_t)f * rows,
                           c->known + (size_t)f * columns, found, c->certainty) == 0) {
        ask_more(c, f);
    } else if (ldpc_frame_sum(&c->frames, found) != frame->sum && count_unknown(c, f) > 0) {
        ask(c, f, LDPC_REST, count_unknown(c, f));
    } else {
        finish(c, f);
    }
}

int ldpc_tell(struct ldpc_corrector *c, const uint8_t *answer, size_t len, uint32_t count) {
    if (c->n_messages == 0) return -QN_EPROTOCOL;
    struct message message = c->messages[c->message_at];
    if (count != message.count || len != qn_bits_bytes(count)) return -QN_EPROTOCOL;
    if (count % 8 != 0 && answer[len - 1] >> (count % 8) != 0) return -QN_EPROTOCOL;
    c->message_at = slot(c, c->message_at, 1);
    c->n_messages--;
    c->counts.disclosed += count;
    uint32_t at = 0;
    for (uint32_t i = 0; i < message.frames; i++) {
        uint32_t f = c->open[c->open_at];
        c->open_at = slot(c, c->open_at, 1);
        c->n_open--;
        tell_frame(c, f, answer, &at);
    }
    return 0;
}
