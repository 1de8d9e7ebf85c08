/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/rng.h"
#include "keys.h"
#include "qkd/estimate.h"
#include "qkd/ldpc_decode.h"
#include "qkd/ldpc_frames.h"
#include "qkd/pack.h"
#include "qkd/reconcile.h"

struct result {
    double efficiency;
    struct qn_reconcile_report report;
    bool equal;
};

static struct result reconcile(size_t len, double qber, double estimate, uint64_t seed) {
    struct key_pair keys;
    struct qn_bits corrected = {0};
    key_pair_make(&keys, "ldpc", len, qber, seed);
    struct qn_reconcile_config config = {.method = QN_RECONCILE_LDPC, .qber = estimate};
    struct qn_reconcile *reconcile = NULL;
    struct qn_reconcile_source *source = NULL;
    cr_assert_eq(qn_reconcile_new(&config, &keys.detector, &reconcile), 0);
    cr_assert_eq(qn_reconcile_source_new(&config, &keys.source, &source), 0);
    while (!qn_reconcile_is_done(reconcile)) {
        struct qn_buf question = {0}, answer = {0};
        uint32_t count;
        cr_assert_eq(qn_reconcile_ask(reconcile, &question, &count), 0);
        cr_assert_gt(count, 0);
        cr_assert_leq(question.len, QN_RECONCILE_MESSAGE_BYTES);
        cr_assert_eq(qn_reconcile_answer(source, question.data, question.len, count, &answer), 0);
        cr_assert_leq(answer.len, QN_RECONCILE_MESSAGE_BYTES);
        cr_assert_eq(qn_reconcile_tell(reconcile, answer.data, answer.len, count), 0);
        qn_buf_release(&question);
        qn_buf_release(&answer);
    }
    struct result result = {0};
    qn_reconcile_get_report(reconcile, &result.report);
    result.efficiency = qn_reconcile_efficiency(&result.report);
    cr_assert_eq(result.report.disclosed, qn_reconcile_source_disclosed(source));
    cr_assert_eq(qn_reconcile_key(reconcile, &corrected), 0);
    result.equal = qn_bits_equal(&corrected, &keys.source);
    cr_assert_eq(result.report.corrected, qn_bits_distance(&corrected, &keys.detector));
    qn_reconcile_free(reconcile);
    qn_reconcile_source_free(source);
    key_pair_release(&keys);
    qn_bits_release(&corrected);
    return result;
}

/* Limits 3 % above what long runs give; asymptotic thresholds of Elkouss et al. are 2 to 15 % above Shannon. */
Test(ldpc, discloses_little_in_few_rounds) {
    static const struct {
        double qber, most;
    } points[] = {{0.005, 1.31}, {0.01, 1.25}, {0.02, 1.21}, {0.03, 1.195}, {0.05, 1.18}, {0.08, 1.16}, {0.11, 1.155}};
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        struct result result = reconcile(4 * LDPC_FRAME_BITS, points[i].qber, points[i].qber, 10 + i);
        printf("# Q %4.1f %%: f %.4f, %u rounds\n", 100 * points[i].qber, result.efficiency, result.report.rounds);
        cr_expect(result.equal, "Q %g", points[i].qber);
        cr_expect_leq(result.efficiency, points[i].most, "Q %g: %g", points[i].qber, result.efficiency);
        cr_expect_leq(result.report.rounds, 6);
        cr_expect_eq(result.report.failed, 0);
        cr_expect_eq(result.report.frames, 4);
    }
}

Test(ldpc, takes_any_length_and_a_bad_estimate) {
    static const size_t lens[] = {1, 2, 63, 64, 65, 1000, 1023, 5000, 20000, 65535, 65536, 65537, 140001};
    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        struct result result = reconcile(lens[i], 0.03, 0.03, i);
        if (lens[i] >= 1000) cr_assert(result.equal, "%zu bits", lens[i]); /* Tiny codes have near neighbours. */
        if (lens[i] >= 20000) cr_assert_lt(result.efficiency, 1.4, "%zu bits: %g", lens[i], result.efficiency);
        printf("# %zu bits: f %.3f, %u rounds\n", lens[i], result.efficiency, result.report.rounds);
    }
    static const double estimates[] = {0, 1e-4, 0.01, 0.25, 0.5, 7, -1, NAN};
    for (size_t i = 0; i < sizeof estimates / sizeof estimates[0]; i++)
        cr_assert(reconcile(70000, 0.03, estimates[i], i).equal, "estimate %g", estimates[i]);
    cr_assert(reconcile(70000, 0, 0.01, 1).equal);
    cr_assert(reconcile(70000, 0.5, 0.25, 1).equal); /* Everything is disclosed in the end. */
}

/* ---- codes */

Test(ldpc, codes_have_no_short_cycles_and_even_rows) {
    for (uint32_t rows = 56; rows <= 600; rows += 136) {
        struct ldpc_code code;
        cr_assert_eq(ldpc_code_make(1024, rows, &code), 0);
        uint64_t *seen = calloc((size_t)rows * rows, sizeof *seen);
        uint32_t least = UINT32_MAX, most = 0, cycles = 0, degree[1024] = {0};
        struct {
            uint32_t row, shift;
        }(*column)[32] = calloc(1024, sizeof *column);
        for (uint32_t r = 0; r < rows; r++) {
            uint32_t width = code.row_start[r + 1] - code.row_start[r];
            if (width < least) least = width;
            if (width > most) most = width;
            for (uint32_t e = code.row_start[r]; e < code.row_start[r + 1]; e++) {
                uint32_t c = code.edges[e].column;
                for (uint32_t i = 0; i < degree[c]; i++) {
                    cr_assert_neq(column[c][i].row, r, "one edge between a column and a row");
                    uint64_t *pair = &seen[(size_t)column[c][i].row * rows + r];
                    uint64_t bit = 1ull << ((code.edges[e].shift - column[c][i].shift) & 63);
                    cycles += (*pair & bit) != 0;
                    *pair |= bit;
                }
                column[c][degree[c]].row = r;
                column[c][degree[c]++].shift = code.edges[e].shift;
            }
        }
        for (uint32_t c = 0; c < 1024; c++) cr_assert_geq(degree[c], 2);
        printf("# %u rows: %u edges, rows of %u to %u, %u cycles of length 4\n", rows, code.n_edges, least, most,
               cycles);
        cr_assert_leq(most - least, 2 + most / 4);
        cr_assert_leq(cycles, code.n_edges / 50);
        free(seen);
        free(column);
        ldpc_code_release(&code);
    }
}

/* Both ends may run different builds: numbers of columns and rows must mean the same code for ever. */
Test(ldpc, code_of_a_size_never_changes) {
    struct ldpc_code code;
    uint64_t digest = 0;
    for (uint32_t columns = 50; columns <= 1024; columns += 487) {
        cr_assert_eq(ldpc_code_make(columns, columns / 6, &code), 0);
        for (uint32_t e = 0; e < code.n_edges; e++)
            digest = (digest ^ code.edges[e].column ^ (uint64_t)code.edges[e].shift << 32) * 0x100000001b3ull;
        for (uint32_t r = 0; r <= code.rows; r++) digest = (digest ^ code.row_start[r]) * 0x100000001b3ull;
        ldpc_code_release(&code);
    }
    cr_assert_eq(digest, 0x2946bc99d826685dull, "0x%llx", (unsigned long long)digest);
    cr_assert_eq(ldpc_rows_for(1024, 0.02), 169);
    cr_assert_eq(ldpc_rows_for(1024, 0.11), 566);
    cr_assert_eq(ldpc_rows_for(100, 0.05), 33);
}

Test(ldpc, all_instructions_decode_alike) {
    struct qn_rng rng;
    qn_rng_init(&rng, 61, "ldpc", 0);
    enum { COLUMNS = 300 };
    for (uint32_t rows = 40; rows <= 160; rows += 60) {
        struct ldpc_code code;
        struct ldpc_decoder *decoder;
        cr_assert_eq(ldpc_code_make(COLUMNS, rows, &code), 0);
        cr_assert_eq(ldpc_decoder_new(&code, &decoder), 0);
        unsigned solved = 0;
        for (int run = 0; run < 12; run++) {
            uint64_t sent[COLUMNS], words[COLUMNS], first_words[COLUMNS], known[COLUMNS] = {0}, syndrome[160];
            static uint8_t certainty[64 * COLUMNS], first_certainty[64 * COLUMNS];
            double qber = 0.3, efficiency = 1.02 + 0.04 * run;
            while (qn_binary_entropy(qber) * efficiency * COLUMNS > rows) qber *= 0.995;
            for (int c = 0; c < COLUMNS; c++) {
                sent[c] = first_words[c] = qn_rng_u64(&rng);
                for (int i = 0; i < 64; i++)
                    if (qn_rng_double(&rng) < qber) first_words[c] ^= 1ull << i;
                if (c % 50 == 0) {
                    known[c] = ~0ull;
                    first_words[c] = sent[c];
                }
            }
            memcpy(words, first_words, sizeof words);
            ldpc_syndrome(&code, sent, syndrome);
            unsigned sweeps =
                ldpc_decode(ldpc_kernels_at(0), &code, decoder, syndrome, known, first_words, first_certainty);
            solved += sweeps > 0;
            if (sweeps > 0) cr_assert_eq(memcmp(first_words, sent, sizeof sent), 0);
            for (size_t k = 1; ldpc_kernels_at(k) != NULL; k++) {
                uint64_t again[COLUMNS];
                memcpy(again, words, sizeof again);
                cr_assert_eq(ldpc_decode(ldpc_kernels_at(k), &code, decoder, syndrome, known, again, certainty), sweeps,
                             "%s", ldpc_kernels_at(k)->name);
                cr_assert_eq(memcmp(again, first_words, sizeof again), 0);
                if (sweeps == 0) cr_assert_eq(memcmp(certainty, first_certainty, sizeof certainty), 0);
            }
        }
        cr_assert(solved > 2 && solved < 12, "%u of 12 at %u rows", solved, rows); /* Both ways are compared. */
        ldpc_decoder_free(decoder);
        ldpc_code_release(&code);
    }
}

/* ---- peers that misbehave */

static int ask_raw(struct ldpc_source *source, const char *bytes, size_t len, uint32_t count) {
    struct qn_buf answer = {0};
    int rc = ldpc_answer(source, (const uint8_t *)bytes, len, count, &answer);
    cr_assert_eq(answer.len, rc < 0 ? 0 : qn_bits_bytes(count));
    qn_buf_release(&answer);
    return rc;
}

Test(ldpc, source_refuses_malformed_questions) {
    struct qn_rng rng;
    qn_rng_init(&rng, 62, "ldpc", 0);
    struct qn_bits key = random_key(&rng, 100000); /* Two frames of 50000 bits. */
    struct ldpc_config config = {.qber = 0.02};
    struct ldpc_frames frames;
    struct ldpc_source *source;
    cr_assert_eq(ldpc_frames_init(&frames, &config, key.len), 0);
    uint32_t syndrome = ldpc_syndrome_bits(&frames);
    cr_assert_eq(ldpc_source_new(&config, &key, &source), 0);
    cr_assert_eq(ask_raw(source, "\x00\x00", 2, syndrome), 0);
    cr_assert_eq(ask_raw(source, "\x00\x00", 2, syndrome), -QN_EPROTOCOL, "a syndrome twice");
    cr_assert_eq(ask_raw(source, "\x01\x00", 2, syndrome - 1), -QN_EPROTOCOL, "another count");
    cr_assert_eq(ask_raw(source, "\x01\x00\x01\x02\x01\x05", 6, syndrome + 1), -QN_EPROTOCOL, "a frame twice");
    cr_assert_eq(ask_raw(source, "\x02\x00", 2, syndrome), -QN_EPROTOCOL, "no such frame");
    cr_assert_eq(ask_raw(source, "\x01\x03", 2, 1), -QN_EPROTOCOL, "no such question");
    cr_assert_eq(ask_raw(source, "\x01\x02\x00", 3, 0), -QN_EPROTOCOL, "no position");
    cr_assert_eq(ask_raw(source, "\x01\x02\x02\x05\x00", 5, 2), -QN_EPROTOCOL, "a position twice");
    cr_assert_eq(ask_raw(source, "\x01\x02\x01\xd0\x86\x03", 6, 1), -QN_EPROTOCOL, "position 50000 of 50000");
    cr_assert_eq(ask_raw(source, "\x01\x02\x01\xcf\x86\x03", 6, 1), 0);
    cr_assert_eq(ask_raw(source, "\x01\x02\x01\xcf\x86\x03", 6, 1), -QN_EPROTOCOL, "a position again");
    cr_assert_eq(ask_raw(source, "\x01\x02\x02\x05", 4, 2), -QN_EPROTOCOL, "cut off");
    cr_assert_eq(ask_raw(source, "", 0, 1), -QN_EPROTOCOL);
    cr_assert_eq(ask_raw(source, "\x01", 1, 1), -QN_EPROTOCOL);
    cr_assert_eq(ask_raw(source, "\x01\x01", 2, UINT32_MAX), -QN_EPROTOCOL);
    cr_assert_eq(ldpc_source_disclosed(source), syndrome + 1);
    cr_assert_eq(ask_raw(source, "\x01\x01", 2, 49999), 0, "the rest");
    cr_assert_eq(ask_raw(source, "\x01\x01", 2, 0), -QN_EPROTOCOL, "nothing is left");
    cr_assert_eq(ldpc_source_disclosed(source), syndrome + 50000);
    for (int i = 0; i < 20000; i++) {
        char bytes[12];
        for (size_t k = 0; k < sizeof bytes; k++)
            bytes[k] = (char)(qn_rng_below(&rng, 8) ? qn_rng_below(&rng, 4) : qn_rng_u64(&rng));
        int rc = ask_raw(source, bytes, qn_rng_below(&rng, 13), (uint32_t)qn_rng_below(&rng, 4));
        cr_assert(rc == 0 || rc == -QN_EPROTOCOL);
    }
    ldpc_source_free(source);
    ldpc_frames_release(&frames);
    qn_bits_release(&key);
}

/* A source that answers by coin: everything is asked, then it ends. */
Test(ldpc, lies_do_not_keep_it_going) {
    struct qn_rng rng;
    qn_rng_init(&rng, 63, "ldpc", 0);
    for (size_t len = 1; len < 9000; len = len * 3 + 1) {
        struct qn_bits key = random_key(&rng, len);
        struct qn_reconcile_config config = {.method = QN_RECONCILE_LDPC, .qber = 0.03};
        struct qn_reconcile *reconcile = NULL;
        cr_assert_eq(qn_reconcile_new(&config, &key, &reconcile), 0);
        for (int round = 0; !qn_reconcile_is_done(reconcile); round++) {
            struct qn_buf question = {0};
            uint32_t count;
            cr_assert_lt(round, 30);
            cr_assert_eq(qn_reconcile_tell(reconcile, (const uint8_t *)"", 0, 0), -QN_EPROTOCOL, "nothing was asked");
            cr_assert_eq(qn_reconcile_ask(reconcile, &question, &count), 0);
            size_t bytes = qn_bits_bytes(count);
            uint8_t *answer = malloc(bytes);
            for (size_t k = 0; k < bytes; k++) answer[k] = (uint8_t)qn_rng_u64(&rng);
            if (count % 8 != 0) answer[bytes - 1] &= (uint8_t)((1u << count % 8) - 1);
            cr_assert_eq(qn_reconcile_tell(reconcile, answer, bytes, count + 1), -QN_EPROTOCOL);
            cr_assert_eq(qn_reconcile_tell(reconcile, answer, bytes, count), 0);
            free(answer);
            qn_buf_release(&question);
        }
        struct qn_reconcile_report report;
        qn_reconcile_get_report(reconcile, &report);
        cr_assert_leq(report.disclosed, len + 64 * 1024);
        qn_reconcile_free(reconcile);
        qn_bits_release(&key);
    }
}

Test(ldpc, refuses_too_much) {
    struct qn_bits key = {.len = (size_t)QN_RECONCILE_MAX_BITS + 1}; /* Never looked at. */
    struct qn_reconcile_config config = {.method = QN_RECONCILE_LDPC};
    struct qn_reconcile *reconcile = NULL;
    struct qn_reconcile_source *source = NULL;
    cr_assert_eq(qn_reconcile_new(&config, &key, &reconcile), -QN_EINVAL);
    cr_assert_eq(qn_reconcile_source_new(&config, &key, &source), -QN_EINVAL);
}
