/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/rng.h"
#include "keys.h"
#include "qkd/cascade.h"
#include "qkd/cascade_plan.h"
#include "qkd/cascade_with.h"
#include "qkd/estimate.h"
#include "qkd/pack.h"

/* Two keys that differ at random places, and what it took to make them equal. */
struct run {
    struct key_pair keys;
    size_t left; /* Places that differ afterwards. */
    uint64_t disclosed;
    unsigned rounds;
};

static void run_keys(struct run *run, size_t len, double qber, uint64_t seed) {
    *run = (struct run){0};
    key_pair_make(&run->keys, "cascade", len, qber, seed);
}

static int ask(void *corrector, struct qn_buf *question, uint32_t *ret_count) {
    return qn_cascade_ask(corrector, question, ret_count);
}

static int answer(void *source, const uint8_t *question, size_t len, uint32_t count, struct qn_buf *answer) {
    return qn_cascade_answer(source, question, len, count, answer);
}

static int tell(void *corrector, const uint8_t *answer, size_t len, uint32_t count) {
    return qn_cascade_tell(corrector, answer, len, count);
}

static struct reconciling ends_of(struct qn_cascade *corrector, struct qn_cascade_source *source) {
    return (struct reconciling){ask, answer, tell, QN_CASCADE_ASK_BYTES, corrector, source};
}

static void run_cascade(struct run *run, const struct qn_cascade_config *config) {
    struct qn_cascade *cascade = NULL;
    struct qn_cascade_source *source = NULL;
    struct qn_bits key = {0};
    cr_assert_eq(qn_cascade_new(config, &run->keys.detector, &cascade), 0);
    cr_assert_eq(qn_cascade_source_new(config, &run->keys.source, &source), 0);
    struct reconciling ends = ends_of(cascade, source);
    for (; !qn_cascade_is_done(cascade); run->rounds++) play_round(&ends);
    uint32_t count;
    struct qn_buf nothing = {0};
    cr_assert_eq(qn_cascade_ask(cascade, &nothing, &count), 0);
    cr_assert_eq(count, 0);
    cr_assert_eq(qn_cascade_key(cascade, &key), 0);
    cr_assert_eq(key.len, run->keys.source.len);
    run->left = qn_bits_distance(&key, &run->keys.source);
    run->disclosed = qn_cascade_disclosed(cascade);
    cr_assert_eq(run->disclosed, qn_cascade_source_disclosed(source));
    cr_assert_eq(qn_cascade_corrected(cascade), qn_bits_distance(&key, &run->keys.detector));
    qn_bits_release(&key);
    qn_cascade_free(cascade);
    qn_cascade_source_free(source);
}

static double efficiency(const struct run *run) {
    double len = (double)run->keys.source.len;
    return (double)run->disclosed / (len * qn_binary_entropy((double)run->keys.errors / len));
}

Test(cascade, tuned_equalises_keys_and_discloses_little) {
    static const struct {
        double qber, most;
    } points[] = {{0, 0},       {0.005, 1.09}, {0.01, 1.075}, {0.02, 1.07}, {0.03, 1.08},
                  {0.05, 1.09}, {0.08, 1.09},  {0.11, 1.11},  {0.15, 1.13}};
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        struct run run;
        struct qn_cascade_config config = {.variant = QN_CASCADE_TUNED, .qber = points[i].qber};
        run_keys(&run, 3000000, points[i].qber, 200 + i);
        run_cascade(&run, &config);
        cr_assert_eq(run.left, 0, "Q %.3f", points[i].qber);
        if (points[i].qber > 0) {
            printf("# tuned, Q %4.1f %%: f %.4f, %u rounds\n", 100 * points[i].qber, efficiency(&run), run.rounds);
            cr_assert_leq(efficiency(&run), points[i].most);
        } else {
            cr_assert_leq(run.disclosed, 184 * 27); /* The strips' parities and 26 checks each. */
        }
        key_pair_release(&run.keys);
    }
    struct run run; /* The size the literature compares. */
    run_keys(&run, 3000000, 0.02, 300);
    run_cascade(&run, &(struct qn_cascade_config){.variant = QN_CASCADE_TUNED, .qber = 0.02, .strip_bits = 10000});
    printf("# tuned, Q 2 %%, n 10000: f %.4f, %u rounds\n", efficiency(&run), run.rounds);
    cr_assert_eq(run.left, 0);
    cr_assert_leq(efficiency(&run), 1.10);
    key_pair_release(&run.keys);
}

Test(cascade, takes_any_length) {
    for (size_t len = 0; len < 400; len += 1 + len / 40) {
        for (int variant = QN_CASCADE_TUNED; variant <= QN_CASCADE_OPTION8; variant++) {
            for (size_t strip = 0; strip < 90; strip += 1 + strip * 2) {
                struct run run;
                struct qn_cascade_config config = {
                    .variant = (enum qn_cascade_variant)variant, .qber = 0.1, .strip_bits = strip};
                run_keys(&run, len, 0.1, len * 100 + strip);
                run_cascade(&run, &config);
                if (variant <= QN_CASCADE_FAST && (strip == 0 || strip > 20) && len > 60)
                    cr_assert_eq(run.left, 0, "len %zu strip %zu", len, strip);
                cr_assert_leq(run.left, run.keys.errors + 1);
                key_pair_release(&run.keys);
            }
        }
    }
    static const size_t lens[] = {16384, 16385, 65536, 65537, 131071, 1000000};
    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        struct run run;
        run_keys(&run, lens[i], 0.03, i);
        run_cascade(&run,
                    &(struct qn_cascade_config){.variant = QN_CASCADE_TUNED, .qber = 0.03, .strip_bits = 1000000});
        cr_assert_eq(run.left, 0);
        key_pair_release(&run.keys);
    }
}

/* The estimate may be off, and errors may come in bursts: only efficiency suffers. */
Test(cascade, corrects_even_with_a_bad_estimate) {
    static const double estimates[] = {0, 1e-4, 0.01, 0.25, 0.5, 7, -1, NAN};
    for (size_t i = 0; i < sizeof estimates / sizeof estimates[0]; i++) {
        struct run run;
        run_keys(&run, 50000, 0.03, i);
        for (size_t burst = 20000; burst < 20300; burst++) qn_bits_flip(&run.keys.detector, burst);
        run_cascade(&run, &(struct qn_cascade_config){.variant = QN_CASCADE_TUNED, .qber = estimates[i]});
        cr_assert_eq(run.left, 0, "estimate %g", estimates[i]);
        key_pair_release(&run.keys);
    }
}

/* ---- The answering end against its definition. */

static bool slow_answer(const struct plan *plan, const struct qn_bits *key, size_t strip, uint64_t pass, size_t count) {
    bool sum = false;
    for (size_t i = 0; i < count; i++) {
        size_t x = i;
        if (pass < plan->n_passes && plan->pass[pass].from != NULL) x = plan->pass[pass].from[i];
        if (pass >= plan->n_passes && !(plan_mask(plan, (unsigned)pass - plan->n_passes)[x / 64] >> (x % 64) & 1))
            continue;
        if (strip * plan->strip + x < key->len) sum ^= qn_bits_get(key, strip * plan->strip + x);
    }
    return sum;
}

Test(cascade, answers_are_the_parities_asked) {
    for (int variant = QN_CASCADE_TUNED; variant <= QN_CASCADE_OPTION8; variant++) {
        struct run run;
        run_keys(&run, 5003, 0, 5);
        struct qn_cascade_config config = {
            .variant = (enum qn_cascade_variant)variant, .qber = 0.05, .strip_bits = 700};
        struct qn_cascade_source *source = NULL;
        struct plan plan;
        cr_assert_eq(plan_init(&plan, &config, run.keys.source.len), 0);
        cr_assert_eq(qn_cascade_source_new(&config, &run.keys.source, &source), 0);
        struct qn_rng rng;
        qn_rng_init(&rng, 6, "positions", 0);
        for (int i = 0; i < 3000; i++) {
            uint64_t strip = qn_rng_below(&rng, plan.strips), pass = qn_rng_below(&rng, plan.n_passes + plan.n_checks);
            uint64_t x = 1 + qn_rng_below(&rng, plan.strip - 1);
            uint8_t ask[4 * LEB_MAX];
            size_t len = leb_write(ask, strip);
            len += leb_write(ask + len, 2 * pass);
            len += leb_write(ask + len, 1);
            len += leb_write(ask + len, x);
            struct qn_buf answer = {0};
            cr_assert_eq(qn_cascade_answer(source, ask, len, 1, &answer), 0);
            cr_assert_eq(answer.len, 1);
            cr_assert_eq(answer.data[0], slow_answer(&plan, &run.keys.source, strip, pass, x));
            qn_buf_release(&answer);
        }
        qn_cascade_source_free(source);
        plan_release(&plan);
        key_pair_release(&run.keys);
    }
}

/* Keys of 300 bits in strips of 100: a pass of 8 blocks of 13 (the last of 9), and one of 62 and 38 bits. */
static struct qn_cascade_source *source_of_strips(struct run *run, struct plan *plan) {
    struct qn_cascade_config config = {.variant = QN_CASCADE_TUNED, .qber = 0.049, .strip_bits = 100};
    struct qn_cascade_source *source = NULL;
    run_keys(run, 300, 0, 1);
    cr_assert_eq(plan_init(plan, &config, run->keys.source.len), 0);
    cr_assert_eq(plan->pass[0].block, 13);
    cr_assert_eq(plan->pass[1].block, 62);
    cr_assert_eq(plan_first_part(plan), 0x3a);
    cr_assert_eq(qn_cascade_source_new(&config, &run->keys.source, &source), 0);
    return source;
}

static void expect_answers(struct qn_cascade_source *source, const struct run *run, const struct plan *plan,
                           const char *bytes, size_t len, unsigned pass, const size_t *positions, uint32_t count) {
    struct qn_buf answers = {0};
    cr_assert_eq(qn_cascade_answer(source, (const uint8_t *)bytes, len, count, &answers), 0);
    for (uint32_t i = 0; i < count; i++)
        cr_assert_eq(answers.data[i / 8] >> i % 8 & 1, slow_answer(plan, &run->keys.source, 1, pass, positions[i]));
    qn_buf_release(&answers);
}

Test(cascade, parts_are_asked_about_in_their_middle) {
    struct run run;
    struct plan plan;
    struct qn_cascade_source *source = source_of_strips(&run, &plan);
    /* Blocks 0, 2 and 7, the last, of 9 bits; then their halves: [6, 13), [26, 32), [91, 95). */
    expect_answers(source, &run, &plan, "\x01\x3a\x85", 3, 0, (const size_t[]){6, 32, 95}, 3);
    expect_answers(source, &run, &plan, "\x01\x3c\x01", 3, 0, (const size_t[]){9, 29, 93}, 3);
    expect_answers(source, &run, &plan, "\x01\x3c\x02", 3, 0, (const size_t[]){7, 30, 92}, 3);
    expect_answers(source, &run, &plan, "\x01\x3c\x02", 3, 0, (const size_t[]){31}, 1); /* 6, 91: a bit left. */
    /* Of pass 1 segments [5, 7) and [40, 100), and of the second the upper half, while the first ends. */
    expect_answers(source, &run, &plan, "\x01\x3e\x02\x05\x02\x21\x3c", 7, 1, (const size_t[]){6, 70}, 2);
    expect_answers(source, &run, &plan, "\x01\x3f\x02", 3, 1, (const size_t[]){85}, 1);
    qn_cascade_source_free(source);
    plan_release(&plan);
    key_pair_release(&run.keys);
}

Test(cascade, shuffles_are_permutations_and_differ) {
    struct plan plan;
    struct qn_cascade_config config = {.variant = QN_CASCADE_ORIGINAL, .qber = 0.02, .strip_bits = 1000};
    cr_assert_eq(plan_init(&plan, &config, 1000), 0);
    cr_assert_eq(plan.n_passes, 4);
    for (unsigned p = 1; p < plan.n_passes; p++) {
        size_t fixed = 0, same = 0;
        for (size_t i = 0; i < 1000; i++) {
            cr_assert_lt(plan.pass[p].from[i], 1000);
            cr_assert_eq(plan.pass[p].to[plan.pass[p].from[i]], i);
            fixed += plan.pass[p].from[i] == i;
            same += p > 1 && plan.pass[p].from[i] == plan.pass[1].from[i];
        }
        cr_assert_lt(fixed, 10);
        cr_assert_lt(same, 10);
    }
    plan_release(&plan);
}

/* Both ends may run different builds: a config must mean the same plan for ever. */
Test(cascade, plan_of_a_config_never_changes) {
    struct plan plan;
    struct qn_cascade_config config = {.variant = QN_CASCADE_TUNED, .qber = 0.023, .seed = {1, 2, 3}};
    cr_assert_eq(plan_init(&plan, &config, 100000), 0);
    cr_assert_eq(plan.strip, 14286);
    cr_assert_eq(plan.strips, 7);
    cr_assert_eq(plan.n_passes, 2);
    cr_assert_eq(plan.pass[0].block, 27);
    cr_assert_eq(plan.pass[1].block, 131);
    cr_assert_eq(plan.n_checks, 26);
    uint64_t digest = 0;
    for (uint32_t i = 0; i < plan.strip; i++) digest = (digest ^ plan.pass[1].from[i]) * 0x100000001b3ull;
    for (size_t w = 0; w < plan.n_checks * plan.words; w++) digest = (digest ^ plan.masks[w]) * 0x100000001b3ull;
    cr_assert_eq(digest, 0xbcc61e5ebb57765ull, "0x%llx", (unsigned long long)digest);
    plan_release(&plan);
}

/* ---- Any machine asks and answers the same. */

Test(cascade, sums_are_the_same_with_any_instructions) {
    struct qn_rng rng;
    qn_rng_init(&rng, 11, "sums", 0);
    uint64_t a[70], b[70];
    for (size_t words = 0; words <= 70; words++) {
        for (int i = 0; i < 20; i++) {
            uint64_t sum = 0;
            for (size_t w = 0; w < words; w++) {
                a[w] = qn_rng_u64(&rng);
                b[w] = qn_rng_u64(&rng);
                sum ^= a[w] & b[w];
            }
            cr_assert_eq(plan_best_sum(true)(a, b, words), __builtin_parityll(sum));
            cr_assert_eq(plan_best_sum(false)(a, b, words), __builtin_parityll(sum));
        }
    }
}

Test(cascade, questions_are_the_same_with_any_instructions) {
    for (int variant = QN_CASCADE_TUNED; variant <= QN_CASCADE_OPTION8; variant++) {
        struct run run;
        struct qn_cascade_config config = {.variant = (enum qn_cascade_variant)variant, .qber = 0.03};
        struct qn_cascade *best = NULL, *portable = NULL;
        struct qn_cascade_source *source = NULL;
        run_keys(&run, 100003, 0.03, 40 + (uint64_t)variant);
        cr_assert_eq(qn_cascade_new_with(&config, &run.keys.detector, false, &best), 0);
        cr_assert_eq(qn_cascade_new_with(&config, &run.keys.detector, true, &portable), 0);
        cr_assert_eq(qn_cascade_source_new(&config, &run.keys.source, &source), 0);
        while (!qn_cascade_is_done(best)) {
            struct qn_buf asks[2] = {0}, answers = {0};
            uint32_t counts[2];
            cr_assert_eq(qn_cascade_ask(best, &asks[0], &counts[0]), 0);
            cr_assert_eq(qn_cascade_ask(portable, &asks[1], &counts[1]), 0);
            cr_assert_eq(counts[0], counts[1]);
            cr_assert_eq(asks[0].len, asks[1].len);
            cr_assert_eq(memcmp(asks[0].data, asks[1].data, asks[0].len), 0);
            cr_assert_eq(qn_cascade_answer(source, asks[0].data, asks[0].len, counts[0], &answers), 0);
            cr_assert_eq(qn_cascade_tell(best, answers.data, answers.len, counts[0]), 0);
            cr_assert_eq(qn_cascade_tell(portable, answers.data, answers.len, counts[0]), 0);
            for (int i = 0; i < 2; i++) qn_buf_release(&asks[i]);
            qn_buf_release(&answers);
        }
        cr_assert(qn_cascade_is_done(portable));
        qn_cascade_free(best);
        qn_cascade_free(portable);
        qn_cascade_source_free(source);
        key_pair_release(&run.keys);
    }
}

/* ---- Peers that misbehave. */

static int ask_raw(struct qn_cascade_source *source, const char *bytes, size_t len, uint32_t count) {
    struct qn_buf answers = {0};
    int rc = qn_cascade_answer(source, (const uint8_t *)bytes, len, count, &answers);
    if (rc < 0) cr_assert_eq(answers.len, 0);
    qn_buf_release(&answers);
    return rc;
}

Test(cascade, source_refuses_malformed_questions) {
    struct run run;
    run_keys(&run, 300, 0, 1);
    struct qn_cascade_config config = {.variant = QN_CASCADE_TUNED, .qber = 0.05, .strip_bits = 100}; /* 2 passes */
    struct qn_cascade_source *source = NULL;
    cr_assert_eq(qn_cascade_source_new(&config, &run.keys.source, &source), 0);
    cr_assert_eq(ask_raw(source, "\x00\x00\x01\x05", 4, 1), 0);
    cr_assert_eq(ask_raw(source, "\x02\x02\x02\x05\x5e", 5, 2), 0);
    cr_assert_eq(ask_raw(source, "\x02\x05", 2, 26), 0, "all checks");
    cr_assert_eq(qn_cascade_source_disclosed(source), 29);
    cr_assert_eq(ask_raw(source, "\x03\x00\x01\x05", 4, 1), -QN_EPROTOCOL, "no such strip");
    cr_assert_eq(ask_raw(source, "\x00\x38\x01\x05", 4, 1), -QN_EPROTOCOL, "no such check");
    cr_assert_eq(ask_raw(source, "\x00\x07", 2, 26), -QN_EPROTOCOL, "nothing after the checks");
    cr_assert_eq(ask_raw(source, "\x00\x00\x01\x64", 4, 1), -QN_EPROTOCOL, "position 100 of 100");
    cr_assert_eq(ask_raw(source, "\x00\x00\x01\x00", 4, 1), -QN_EPROTOCOL, "position 0");
    cr_assert_eq(ask_raw(source, "\x00\x00\x02\x05\x00", 5, 2), -QN_EPROTOCOL, "twice the same");
    cr_assert_eq(ask_raw(source, "\x00\x00\x02\x05\x5f", 5, 2), -QN_EPROTOCOL, "sum beyond");
    cr_assert_eq(ask_raw(source, "\x00\x00\x00", 3, 0), -QN_EPROTOCOL, "no position");
    cr_assert_eq(ask_raw(source, "\x00\x00\x02\x05", 4, 2), -QN_EPROTOCOL, "cut off");
    cr_assert_eq(ask_raw(source, "\x00", 1, 0), -QN_EPROTOCOL);
    cr_assert_eq(ask_raw(source, "\x00\x00\x01\x05", 4, 2), -QN_EPROTOCOL, "fewer than told");
    cr_assert_eq(ask_raw(source, "\x00\x00\x02\x05\x01", 5, 1), -QN_EPROTOCOL, "more than told");
    cr_assert_eq(ask_raw(source, "\x00\x01", 2, 1), -QN_EPROTOCOL, "opening has more");
    cr_assert_eq(ask_raw(source, "\x00\x00\x01\x85\x00", 5, 1), -QN_EPROTOCOL, "not shortest");
    cr_assert_eq(ask_raw(source, "", 0, UINT32_MAX), -QN_EPROTOCOL);
    cr_assert_eq(qn_cascade_source_disclosed(source), 29);
    int rc = 0;
    for (int i = 0; rc == 0 && i < 100000; i++) rc = ask_raw(source, "\x02\x05", 2, 26);
    cr_assert_eq(rc, -QN_EPROTOCOL, "must not disclose for ever");

    struct qn_rng rng;
    qn_rng_init(&rng, 7, "garbage", 0);
    for (int i = 0; i < 100000; i++) {
        char bytes[12];
        for (size_t k = 0; k < sizeof bytes; k++)
            bytes[k] = (char)(qn_rng_below(&rng, 8) ? qn_rng_below(&rng, 8) : qn_rng_u64(&rng));
        rc = ask_raw(source, bytes, qn_rng_below(&rng, 13), (uint32_t)qn_rng_below(&rng, 30));
        cr_assert(rc == 0 || rc == -QN_EPROTOCOL);
    }
    qn_cascade_source_free(source);
    key_pair_release(&run.keys);
}

Test(cascade, source_refuses_malformed_parts) {
    struct run run;
    struct plan plan;
    struct qn_cascade_source *source = source_of_strips(&run, &plan);
    static const struct {
        const char *why, *bytes;
        size_t len;
        uint32_t count;
    } wrong[] = {{"no parts to halve", "\x01\x3c\x00", 3, 1},
                 {"no block", "\x01\x3a\x00", 3, 0},
                 {"cut off", "\x01\x3a", 2, 1},
                 {"more than told", "\x01\x3a\x07", 3, 2},
                 {"beyond the last block", "\x01\x3d\x04", 3, 1},
                 {"no segment", "\x01\x3b\x00", 3, 0},
                 {"more segments than blocks", "\x01\x3b\x09", 3, 9},
                 {"one bit", "\x01\x3b\x01\x05\x01", 5, 1},
                 {"beyond the strip", "\x01\x3b\x01\x3c\x29", 5, 1},
                 {"starts beyond it", "\x01\x3b\x01\x65\x02", 5, 1},
                 {"the second does", "\x01\x3b\x02\x3c\x20\x07\x02", 7, 2},
                 {"no such pass", "\x01\x40\x01", 3, 1},
                 {"no such strip", "\x03\x3a\x01", 3, 1}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        cr_assert_eq(ask_raw(source, wrong[i].bytes, wrong[i].len, wrong[i].count), -QN_EPROTOCOL, "%s", wrong[i].why);
    cr_assert_eq(qn_cascade_source_disclosed(source), 0);
    cr_assert_eq(ask_raw(source, "\x01\x3a\x03", 3, 2), 0);
    cr_assert_eq(ask_raw(source, "\x01\x3f\x03", 3, 2), -QN_EPROTOCOL, "halves of another pass");
    cr_assert_eq(ask_raw(source, "\x02\x3c\x03", 3, 2), -QN_EPROTOCOL, "of another strip");
    cr_assert_eq(ask_raw(source, "\x01\x3c\x07", 3, 2), -QN_EPROTOCOL, "a bit too many");
    int rc = 0;
    for (int i = 0; rc == 0 && i < 10; i++) rc = ask_raw(source, "\x01\x3c\x00", 3, 2);
    cr_assert_eq(rc, -QN_EPROTOCOL, "halved to nothing");
    rc = 0;
    for (int i = 0; rc == 0 && i < 100000; i++) rc = ask_raw(source, "\x01\x3a\x01", 3, 1);
    cr_assert_eq(rc, -QN_EPROTOCOL, "must not disclose for ever");

    struct qn_rng rng;
    qn_rng_init(&rng, 9, "parts", 0);
    for (int i = 0; i < 200000; i++) {
        char bytes[16];
        for (size_t k = 0; k < sizeof bytes; k++)
            bytes[k] = (char)(qn_rng_below(&rng, 4) ? qn_rng_below(&rng, 70) : qn_rng_u64(&rng));
        bytes[0] = 1;
        bytes[1] = (char)(0x3a + qn_rng_below(&rng, 6));
        rc = ask_raw(source, bytes, 2 + qn_rng_below(&rng, 15), (uint32_t)qn_rng_below(&rng, 9));
        cr_assert(rc == 0 || rc == -QN_EPROTOCOL);
    }
    qn_cascade_source_free(source);
    plan_release(&plan);
    key_pair_release(&run.keys);
}

Test(cascade, corrector_refuses_answers_that_do_not_fit) {
    struct run run;
    run_keys(&run, 1000, 0.08, 1);
    struct qn_cascade *cascade = NULL;
    struct qn_cascade_config config = {.variant = QN_CASCADE_TUNED, .qber = 0.08, .strip_bits = 500};
    cr_assert_eq(qn_cascade_new(&config, &run.keys.detector, &cascade), 0);
    static const uint8_t zeros[100];
    struct qn_buf ask = {0};
    uint32_t count;
    cr_assert_eq(qn_cascade_tell(cascade, zeros, 0, 0), -QN_EPROTOCOL, "nothing was asked");
    cr_assert_eq(qn_cascade_ask(cascade, &ask, &count), 0);
    cr_assert_eq(count, 2 * 63); /* Blocks of 8. */
    cr_assert_eq(qn_cascade_tell(cascade, zeros, 16, 128), -QN_EPROTOCOL);
    cr_assert_eq(qn_cascade_tell(cascade, zeros, 15, 126), -QN_EPROTOCOL);
    cr_assert_eq(qn_cascade_tell(cascade, zeros, 0, 0), -QN_EPROTOCOL);
    uint8_t stray[16] = {0};
    stray[15] = 0x40;
    cr_assert_eq(qn_cascade_tell(cascade, stray, 16, 126), -QN_EPROTOCOL);
    cr_assert_eq(qn_cascade_disclosed(cascade), 0);
    cr_assert_eq(qn_cascade_tell(cascade, zeros, 16, 126), 0);
    cr_assert_eq(qn_cascade_tell(cascade, zeros, 16, 126), -QN_EPROTOCOL, "answered already");
    qn_buf_release(&ask);
    qn_cascade_free(cascade);
    key_pair_release(&run.keys);
}

/* A source that answers by coin: the corrector gives up or ends, it never goes on for ever. */
Test(cascade, lies_do_not_keep_it_going) {
    struct qn_rng rng;
    qn_rng_init(&rng, 8, "lies", 0);
    for (int i = 0; i < 300; i++) {
        struct run run;
        run_keys(&run, 1 + qn_rng_below(&rng, 3000), 0.05, (uint64_t)i);
        struct qn_cascade_config config = {
            .variant = (enum qn_cascade_variant)(i % 9), .qber = 0.05, .strip_bits = 600};
        struct qn_cascade *cascade = NULL;
        cr_assert_eq(qn_cascade_new(&config, &run.keys.detector, &cascade), 0);
        uint64_t limit = 6000 * 10 + 3000 * 24;
        int rc = 0;
        while (rc == 0 && !qn_cascade_is_done(cascade)) {
            struct qn_buf ask = {0};
            uint32_t count;
            cr_assert_eq(qn_cascade_ask(cascade, &ask, &count), 0);
            size_t len = qn_bits_bytes(count);
            uint8_t *answers = malloc(len);
            for (size_t k = 0; k < len; k++) answers[k] = (uint8_t)qn_rng_u64(&rng);
            if (count % 8 != 0) answers[len - 1] &= (uint8_t)((1u << count % 8) - 1);
            rc = qn_cascade_tell(cascade, answers, len, count);
            cr_assert(rc == 0 || rc == -QN_EPROTOCOL);
            cr_assert_lt(qn_cascade_disclosed(cascade), limit);
            free(answers);
            qn_buf_release(&ask);
        }
        qn_cascade_free(cascade);
        key_pair_release(&run.keys);
    }
}

Test(cascade, refuses_too_much) {
    struct qn_bits key = {.len = (size_t)QN_CASCADE_MAX_BITS + 1}; /* Never looked at. */
    struct qn_cascade *cascade = NULL;
    struct qn_cascade_source *source = NULL;
    struct qn_cascade_config config = {.variant = QN_CASCADE_TUNED};
    cr_assert_eq(qn_cascade_new(&config, &key, &cascade), -QN_EINVAL);
    cr_assert_eq(qn_cascade_source_new(&config, &key, &source), -QN_EINVAL);
    qn_cascade_free(NULL);
    qn_cascade_source_free(NULL);
}
