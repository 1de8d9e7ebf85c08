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

static struct result reconcile_by(enum qn_reconcile_method method, size_t len, double qber, double estimate,
                                  uint64_t seed) {
    struct key_pair keys;
    struct qn_bits corrected = {0};
    key_pair_make(&keys, "ldpc", len, qber, seed);
    struct qn_reconcile_config config = {.method = method, .qber = estimate};
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

static struct result reconcile(size_t len, double qber, double estimate, uint64_t seed) {
    return reconcile_by(QN_RECONCILE_LDPC, len, qber, estimate, seed);
}

/* Limits 2 % above what long runs give; asymptotic thresholds of Elkouss et al. are 2 to 15 % above Shannon. */
Test(ldpc, discloses_little_in_few_rounds) {
    static const struct {
        double qber, most, most_fast;
    } points[] = {{0.005, 1.20, 1.27}, {0.01, 1.145, 1.21}, {0.02, 1.12, 1.19}, {0.03, 1.12, 1.19},
                  {0.05, 1.13, 1.20},  {0.08, 1.11, 1.18},  {0.11, 1.13, 1.20}};
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        for (unsigned fast = 0; fast < 2; fast++) {
            enum qn_reconcile_method method = fast ? QN_RECONCILE_LDPC_FAST : QN_RECONCILE_LDPC;
            size_t len = 2 * LDPC_FRAME_BITS;
            struct result result = reconcile_by(method, len, points[i].qber, points[i].qber, 10 + i);
            double most = fast ? points[i].most_fast : points[i].most;
            printf("# Q %4.1f %%, %s: f %.4f, %u rounds\n", 100 * points[i].qber, qn_reconcile_name(method),
                   result.efficiency, result.report.rounds);
            cr_expect(result.equal, "Q %g", points[i].qber);
            cr_expect_leq(result.efficiency, most, "Q %g: %g", points[i].qber, result.efficiency);
            cr_expect_leq(result.report.rounds, 6);
            cr_expect_eq(result.report.failed, 0);
            cr_expect_eq(result.report.frames, 2);
        }
    }
}

Test(ldpc, takes_any_length_and_a_bad_estimate) {
    static const size_t lens[] = {1, 2, 63, 64, 65, 1000, 1023, 5000, 20000, 65535, 65536, 65537, 131073, 262145};
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

/* A column's rows, each with a rotation; and one of the cycles of two columns. */
struct column {
    uint32_t degree;
    struct ldpc_edge at[64]; /* .column: the row. */
};

static struct column *columns_of(const struct ldpc_code *code) {
    struct column *columns = calloc(code->columns, sizeof *columns);
    for (uint32_t r = 0; r < code->rows; r++) {
        for (uint32_t e = code->row_start[r]; e < code->row_start[r + 1]; e++) {
            struct column *column = &columns[code->edges[e].column];
            for (uint32_t i = 0; i < column->degree; i++)
                cr_assert_neq(column->at[i].column, r, "one edge between a column and a row");
            cr_assert_lt(column->degree, 64);
            column->at[column->degree] = code->edges[e];
            column->at[column->degree++].column = (uint16_t)r;
        }
    }
    return columns;
}

static uint32_t count_cycles(const struct ldpc_code *code, const struct column *columns) {
    size_t differences = (size_t)code->planes * 64;
    uint8_t *seen = calloc((size_t)code->rows * code->rows * differences, 1);
    uint32_t cycles = 0;
    for (uint32_t c = 0; c < code->columns; c++) {
        if (columns[c].degree > 12) continue; /* Those of higher degree may have some. */
        for (uint32_t i = 0; i < columns[c].degree; i++) {
            for (uint32_t j = i + 1; j < columns[c].degree; j++) {
                const struct ldpc_edge *a = &columns[c].at[i], *b = &columns[c].at[j];
                uint32_t plane = (uint32_t)(b->plane - a->plane) & (code->planes - 1);
                uint8_t *at = &seen[((size_t)a->column * code->rows + b->column) * differences + plane * 64 +
                                    ((b->shift - a->shift) & 63)];
                cycles += *at;
                *at = 1;
            }
        }
    }
    free(seen);
    return cycles;
}

Test(ldpc, codes_have_no_short_cycles_and_even_rows) {
    for (uint32_t planes = 1; planes <= 4; planes *= 2) {
        for (uint32_t rows = 56; rows <= 600; rows += 136) {
            struct ldpc_code code;
            cr_assert_eq(ldpc_code_make(1024, rows, planes, &code), 0);
            struct column *columns = columns_of(&code);
            uint32_t least = UINT32_MAX, most = 0, cycles = count_cycles(&code, columns);
            for (uint32_t r = 0; r < rows; r++) {
                uint32_t width = code.row_start[r + 1] - code.row_start[r];
                if (width < least) least = width;
                if (width > most) most = width;
            }
            for (uint32_t c = 0; c < 1024; c++) cr_assert_geq(columns[c].degree, 2);
            printf("# %u rows, %u planes: %u edges, rows of %u to %u, %u cycles of length 4\n", rows, planes,
                   code.n_edges, least, most, cycles);
            cr_assert_leq(most - least, 2 + most / 4);
            if (rows > 150) cr_assert_leq(cycles, code.n_edges / 50);
            free(columns);
            ldpc_code_release(&code);
        }
    }
}

/* Columns of degree 2 join checks as lines join points; a cycle of them is a word of the code. So the error pattern of
 * half a short one would be taken for the other half. Looks for all of up to LONGEST from every kind of check. */
Test(ldpc, columns_of_degree_2_close_no_short_cycle) {
    enum { LONGEST = 10 };
    for (uint32_t planes = 1; planes <= 4; planes *= 2) {
        for (uint32_t rows = 45; rows <= 330; rows += 95) {
            struct ldpc_code code;
            cr_assert_eq(ldpc_code_make(1024, rows, planes, &code), 0);
            struct column *columns = columns_of(&code);
            uint32_t n_checks = code.checks * 64, n_pairs = 0, *queue = malloc(n_checks * sizeof *queue);
            uint32_t(*next)[8] = calloc(n_checks, sizeof *next), *degree = calloc(n_checks, sizeof *degree);
            for (uint32_t c = 0; c < 1024; c++) {
                if (columns[c].degree != 2) continue;
                n_pairs++;
                for (uint32_t bit = 0; bit < 64 * planes; bit++) {
                    uint32_t ends[2];
                    for (int i = 0; i < 2; i++) {
                        const struct ldpc_edge *edge = &columns[c].at[i];
                        uint32_t plane = (bit / 64 - edge->plane) & (planes - 1);
                        ends[i] = (edge->column * planes + plane) * 64 + ((bit - edge->shift) & 63);
                    }
                    for (int i = 0; i < 2; i++) {
                        cr_assert_lt(degree[ends[i]], 8);
                        next[ends[i]][degree[ends[i]]++] = ends[1 - i];
                    }
                }
            }
            uint32_t *distance = malloc(n_checks * sizeof *distance), *from = malloc(n_checks * sizeof *from);
            for (uint32_t row = 0; row < rows; row++) {
                memset(distance, 0xff, n_checks * sizeof *distance);
                uint32_t n_queue = 0, start = row * planes * 64;
                queue[n_queue++] = start;
                distance[start] = 0;
                from[start] = UINT32_MAX;
                for (uint32_t at = 0; at < n_queue && distance[queue[at]] < LONGEST / 2; at++) {
                    for (uint32_t i = 0; i < degree[queue[at]]; i++) {
                        uint32_t to = next[queue[at]][i];
                        if (to == from[queue[at]]) continue;
                        cr_assert_eq(distance[to], UINT32_MAX, "%u rows, %u planes: %u and %u", rows, planes,
                                     distance[to], distance[queue[at]]);
                        distance[to] = distance[queue[at]] + 1;
                        from[to] = queue[at];
                        queue[n_queue++] = to;
                    }
                }
            }
            printf("# %u rows, %u planes: %u columns of degree 2\n", rows, planes, n_pairs);
            free(queue);
            free(next);
            free(degree);
            free(distance);
            free(from);
            free(columns);
            ldpc_code_release(&code);
        }
    }
}

/* Both ends may run different builds: numbers of columns and rows must mean the same code for ever. */
Test(ldpc, code_of_a_size_never_changes) {
    struct ldpc_code code;
    uint64_t digest = 0;
    for (uint32_t columns = 50; columns <= 1024; columns += 487) {
        cr_assert_eq(ldpc_code_make(columns, columns / 6, columns == 537 ? 4 : 2, &code), 0);
        for (uint32_t e = 0; e < code.n_edges; e++)
            digest = (digest ^ code.edges[e].column ^ (uint64_t)code.edges[e].shift << 32 ^
                      (uint64_t)code.edges[e].plane << 40) *
                     0x100000001b3ull;
        for (uint32_t r = 0; r <= code.rows; r++) digest = (digest ^ code.row_start[r]) * 0x100000001b3ull;
        ldpc_code_release(&code);
    }
    cr_assert_eq(digest, 0x74a2e5ddd97a3007ull, "0x%llx", (unsigned long long)digest);
    cr_assert_eq(ldpc_rows_for(1024, 4, 0.02, false), 158);
    cr_assert_eq(ldpc_rows_for(1024, 4, 0.11, false), 562);
    cr_assert_eq(ldpc_rows_for(100, 1, 0.05, true), 35);
}

Test(ldpc, all_instructions_decode_alike) {
    struct qn_rng rng;
    qn_rng_init(&rng, 61, "ldpc", 0);
    enum { COLUMNS = 300, WORDS = COLUMNS * LDPC_MAX_PLANES };
    for (uint32_t rows = 40, planes = 1; rows <= 160; rows += 60, planes *= 2) {
        struct ldpc_code code;
        struct ldpc_decoder *decoder;
        cr_assert_eq(ldpc_code_make(COLUMNS, rows, planes, &code), 0);
        cr_assert_eq(ldpc_decoder_new(&code, &decoder), 0);
        unsigned solved = 0;
        for (int run = 0; run < 12; run++) {
            static uint64_t sent[WORDS], words[WORDS], first_words[WORDS], known[WORDS],
                syndrome[160 * LDPC_MAX_PLANES];
            memset(known, 0, sizeof known);
            static uint8_t certainty[64 * WORDS], first_certainty[64 * WORDS];
            double qber = 0.3, efficiency = 1.02 + 0.03 * run;
            while (qn_binary_entropy(qber) * efficiency * COLUMNS > rows) qber *= 0.995;
            for (uint32_t c = 0; c < code.words; c++) {
                sent[c] = first_words[c] = qn_rng_u64(&rng);
                for (unsigned i = 0; i < 64; i++)
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
                static uint64_t again[WORDS];
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
    struct qn_bits key = random_key(&rng, 400000); /* Two frames of 200000 bits. */
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
    cr_assert_eq(ask_raw(source, "\x01\x02\x01\xc0\x9a\x0c", 6, 1), -QN_EPROTOCOL, "position 200000 of 200000");
    cr_assert_eq(ask_raw(source, "\x01\x02\x01\xbf\x9a\x0c", 6, 1), 0);
    cr_assert_eq(ask_raw(source, "\x01\x02\x01\xbf\x9a\x0c", 6, 1), -QN_EPROTOCOL, "a position again");
    cr_assert_eq(ask_raw(source, "\x01\x02\x02\x05", 4, 2), -QN_EPROTOCOL, "cut off");
    cr_assert_eq(ask_raw(source, "", 0, 1), -QN_EPROTOCOL);
    cr_assert_eq(ask_raw(source, "\x01", 1, 1), -QN_EPROTOCOL);
    cr_assert_eq(ask_raw(source, "\x01\x01", 2, UINT32_MAX), -QN_EPROTOCOL);
    cr_assert_eq(ldpc_source_disclosed(source), syndrome + 1);
    cr_assert_eq(ask_raw(source, "\x01\x01", 2, 199999), 0, "the rest");
    cr_assert_eq(ask_raw(source, "\x01\x01", 2, 0), -QN_EPROTOCOL, "nothing is left");
    cr_assert_eq(ldpc_source_disclosed(source), syndrome + 200000);
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

/* A frame whose words have the right syndrome but not the right sum is asked for in full. */
Test(ldpc, a_wrong_word_of_the_right_syndrome_is_noticed) {
    struct qn_rng rng;
    qn_rng_init(&rng, 64, "ldpc", 0);
    struct qn_bits key = random_key(&rng, 30000), own = {0}, corrected = {0};
    cr_assert_eq(qn_bits_copy(&own, &key), 0);
    for (size_t i = 0; i < key.len; i += 100) qn_bits_flip(&own, i);
    for (unsigned wrong = 0; wrong < 2; wrong++) {
        struct qn_reconcile_config config = {.method = QN_RECONCILE_LDPC, .qber = 0.02};
        struct qn_reconcile *reconcile = NULL;
        struct qn_reconcile_source *source = NULL;
        struct qn_reconcile_report report;
        cr_assert_eq(qn_reconcile_new(&config, &own, &reconcile), 0);
        cr_assert_eq(qn_reconcile_source_new(&config, &key, &source), 0);
        for (unsigned round = 0; !qn_reconcile_is_done(reconcile); round++) {
            struct qn_buf question = {0}, answer = {0};
            uint32_t count;
            cr_assert_lt(round, 2);
            cr_assert_eq(qn_reconcile_ask(reconcile, &question, &count), 0);
            cr_assert_eq(qn_reconcile_answer(source, question.data, question.len, count, &answer), 0);
            if (round == 0 && wrong) answer.data[answer.len - 1] ^= 1;
            cr_assert_eq(qn_reconcile_tell(reconcile, answer.data, answer.len, count), 0);
            qn_buf_release(&question);
            qn_buf_release(&answer);
        }
        qn_reconcile_get_report(reconcile, &report);
        cr_assert_eq(report.failed, wrong);
        cr_assert_eq(report.disclosed > key.len, wrong);
        cr_assert_eq(qn_reconcile_key(reconcile, &corrected), 0);
        cr_assert(qn_bits_equal(&corrected, &key));
        qn_reconcile_free(reconcile);
        qn_reconcile_source_free(source);
    }
    qn_bits_release(&key);
    qn_bits_release(&own);
    qn_bits_release(&corrected);
}

Test(ldpc, refuses_too_much) {
    struct qn_bits key = {.len = (size_t)QN_RECONCILE_MAX_BITS + 1}; /* Never looked at. */
    struct qn_reconcile_config config = {.method = QN_RECONCILE_LDPC};
    struct qn_reconcile *reconcile = NULL;
    struct qn_reconcile_source *source = NULL;
    cr_assert_eq(qn_reconcile_new(&config, &key, &reconcile), -QN_EINVAL);
    cr_assert_eq(qn_reconcile_source_new(&config, &key, &source), -QN_EINVAL);
}
