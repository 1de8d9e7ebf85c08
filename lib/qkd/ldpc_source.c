/* SPDX-License-Identifier: Apache-2.0 */
/* The answering end of LDPC reconciliation. */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "qkd/ldpc_frames.h"
#include "qkd/pack.h"
#include "qkd/reconcile.h"

struct ldpc_source {
    struct ldpc_frames frames;
    struct qn_bits key;
    uint64_t *told; /* Bits disclosed, words a frame. */
    uint8_t *told_syndrome;
    uint32_t *question; /* In which a frame was asked last. */
    uint32_t questions;
    uint64_t *words, *syndrome; /* Of one frame, at work. */
    uint64_t disclosed;
};

void ldpc_source_free(struct ldpc_source *source) {
    if (source == NULL) return;
    qn_bits_release(&source->key);
    if (source->words != NULL) sodium_memzero(source->words, source->frames.code.words * sizeof *source->words);
    free(source->words);
    free(source->syndrome);
    free(source->told);
    free(source->told_syndrome);
    free(source->question);
    ldpc_frames_release(&source->frames);
    free(source);
}

int ldpc_source_new(const struct ldpc_config *config, const struct qn_bits *key, struct ldpc_source **ret_source) {
    struct ldpc_source *source = calloc(1, sizeof *source);
    if (source == NULL) return -QN_ENOMEM;
    int rc = ldpc_frames_init(&source->frames, config, key->len);
    if (rc == 0) rc = qn_bits_copy(&source->key, key);
    if (rc == 0) {
        size_t count = source->frames.count, words = source->frames.code.words;
        source->told = calloc(count * words + 1, sizeof *source->told);
        source->told_syndrome = calloc(count + 1, 1);
        source->question = calloc(count + 1, sizeof *source->question);
        source->words = malloc(words * sizeof *source->words + 1);
        source->syndrome = malloc(source->frames.code.checks * sizeof *source->syndrome + 1);
        if (!source->told || !source->told_syndrome || !source->question || !source->words || !source->syndrome)
            rc = -QN_ENOMEM;
    }
    if (rc < 0) {
        ldpc_source_free(source);
        return rc;
    }
    *ret_source = source;
    return 0;
}

/* Bits as they are appended; NULL bytes only count. */
struct answer {
    uint8_t *bytes;
    uint64_t len, count;
};

static void put(struct answer *answer, uint64_t word, uint32_t count) {
    if (answer->bytes != NULL && count == 64 && answer->len % 8 == 0) {
        store_le64(answer->bytes + answer->len / 8, word);
        answer->len += count;
        return;
    }
    for (uint32_t i = 0; answer->bytes != NULL && i < count; i++, word >>= 1)
        answer->bytes[(answer->len + i) / 8] |= (uint8_t)((word & 1) << (answer->len + i) % 8);
    answer->len += count;
}

static void answer_syndrome(struct ldpc_source *source, uint32_t frame, struct answer *answer) {
    uint32_t sum = 0;
    if (answer->bytes != NULL) {
        ldpc_frame_words(&source->frames, &source->key, frame, source->words);
        ldpc_syndrome(&source->frames.code, source->words, source->syndrome);
        source->told_syndrome[frame] = 1;
        sum = ldpc_frame_sum(&source->frames, source->words);
    }
    for (uint32_t r = 0; r < source->frames.code.checks; r++)
        put(answer, answer->bytes != NULL ? source->syndrome[r] : 0, 64);
    put(answer, sum, LDPC_SUM_BITS);
}

static void answer_bit(struct ldpc_source *source, uint32_t frame, uint32_t x, struct answer *answer) {
    uint64_t *told = source->told + (size_t)frame * source->frames.code.words;
    if (answer->bytes != NULL) told[x / 64] |= 1ull << (x % 64);
    put(answer, qn_bits_get(&source->key, (size_t)frame * source->frames.bits + x), 1);
}

static void answer_rest(struct ldpc_source *source, uint32_t frame, struct answer *answer) {
    const uint64_t *told = source->told + (size_t)frame * source->frames.code.words;
    uint32_t bits = ldpc_frame_bits(&source->frames, frame);
    for (uint32_t x = 0; x < bits; x++)
        if (!(told[x / 64] >> (x % 64) & 1)) answer_bit(source, frame, x, answer);
}

static int answer_positions(struct ldpc_source *source, uint32_t frame, struct leb_reader *reader,
                            struct answer *answer) {
    const uint64_t *told = source->told + (size_t)frame * source->frames.code.words;
    uint64_t count, step, x = 0;
    int rc = leb_read(reader, &count);
    if (rc < 0) return rc;
    if (count == 0 || count > LDPC_ASK_BITS) return -QN_EPROTOCOL;
    for (uint64_t i = 0; i < count; i++) {
        rc = leb_read(reader, &step);
        if (rc < 0) return rc;
        if ((i > 0 && step == 0) || step >= ldpc_frame_bits(&source->frames, frame) - x) return -QN_EPROTOCOL;
        x += step;
        if (answer->bytes == NULL && told[x / 64] >> (x % 64) & 1) return -QN_EPROTOCOL;
        answer_bit(source, frame, (uint32_t)x, answer);
    }
    return 0;
}

static int answer_record(struct ldpc_source *source, struct leb_reader *reader, struct answer *answer) {
    uint64_t frame, what;
    int rc = leb_read(reader, &frame);
    if (rc == 0) rc = leb_read(reader, &what);
    if (rc < 0) return rc;
    if (frame >= source->frames.count || what > LDPC_POSITIONS) return -QN_EPROTOCOL;
    if (answer->bytes == NULL) {
        if (source->question[frame] == source->questions) return -QN_EPROTOCOL; /* Twice in one question. */
        source->question[frame] = source->questions;
        if (what == LDPC_SYNDROME && source->told_syndrome[frame]) return -QN_EPROTOCOL;
    }
    uint64_t before = answer->len;
    if (what == LDPC_SYNDROME) answer_syndrome(source, (uint32_t)frame, answer);
    if (what == LDPC_REST) answer_rest(source, (uint32_t)frame, answer);
    if (what == LDPC_POSITIONS) rc = answer_positions(source, (uint32_t)frame, reader, answer);
    if (rc == 0 && (answer->len == before || answer->len > answer->count)) rc = -QN_EPROTOCOL;
    return rc;
}

/* Twice: first to see that all is well, then to do it. */
int ldpc_answer(struct ldpc_source *source, const uint8_t *question, size_t len, uint32_t count,
                struct qn_buf *answer) {
    if (count > QN_RECONCILE_MESSAGE_BYTES * 8) return -QN_EPROTOCOL;
    if (source->questions == UINT32_MAX) return -QN_EPROTOCOL; /* Each discloses a bit: no key has so many. */
    source->questions++;
    size_t bytes = qn_bits_bytes(count);
    int rc = qn_buf_reserve(answer, bytes);
    if (rc < 0) return rc;
    for (int turn = 0; turn < 2; turn++) {
        struct answer out = {.bytes = turn == 0 || bytes == 0 ? NULL : answer->data + answer->len, .count = count};
        if (out.bytes != NULL) memset(out.bytes, 0, bytes);
        struct leb_reader reader = {question, question + len};
        while (rc == 0 && reader.at < reader.end) rc = answer_record(source, &reader, &out);
        if (rc < 0) return rc;
        if (out.len != count) return -QN_EPROTOCOL;
        if (bytes == 0) return 0;
    }
    answer->len += bytes;
    source->disclosed += count;
    return 0;
}

uint64_t ldpc_source_disclosed(const struct ldpc_source *source) { return source->disclosed; }
