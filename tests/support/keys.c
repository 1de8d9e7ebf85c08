/* SPDX-License-Identifier: Apache-2.0 */
#include "keys.h"

#include <criterion/criterion.h>

struct qn_bits random_key(struct qn_rng *rng, size_t len) {
    struct qn_bits key = {0};
    for (size_t i = 0; i < len; i += 64)
        cr_assert_eq(qn_bits_append_word(&key, qn_rng_u64(rng), len - i < 64 ? (unsigned)(len - i) : 64), 0);
    return key;
}

void key_pair_make(struct key_pair *pair, const char *purpose, size_t len, double qber, uint64_t seed) {
    struct qn_rng rng;
    qn_rng_init(&rng, seed, purpose, len);
    *pair = (struct key_pair){.source = random_key(&rng, len)};
    cr_assert_eq(qn_bits_copy(&pair->detector, &pair->source), 0);
    for (size_t i = 0; i < len && qber > 0; i++)
        if (qn_rng_double(&rng) < qber) qn_bits_flip(&pair->detector, i);
    pair->errors = qn_bits_distance(&pair->source, &pair->detector);
}

void key_pair_release(struct key_pair *pair) {
    qn_bits_release(&pair->source);
    qn_bits_release(&pair->detector);
}

void play_round(const struct reconciling *ends) {
    struct qn_buf questions[64] = {0};
    uint32_t counts[64];
    size_t n = 0;
    for (;; n++) {
        cr_assert_lt(n, 64);
        cr_assert_eq(ends->ask(ends->corrector, &questions[n], &counts[n]), 0);
        if (counts[n] == 0) break;
        cr_assert_leq(questions[n].len, ends->most_bytes);
        cr_assert_leq(qn_bits_bytes(counts[n]), ends->most_bytes);
    }
    cr_assert_gt(n, 0);
    for (size_t i = 0; i < n; i++) {
        struct qn_buf answer = {0};
        cr_assert_eq(ends->answer(ends->source, questions[i].data, questions[i].len, counts[i], &answer), 0);
        cr_assert_leq(answer.len, ends->most_bytes);
        cr_assert_eq(ends->tell(ends->corrector, answer.data, answer.len, counts[i]), 0);
        qn_buf_release(&answer);
    }
    for (size_t i = 0; i < n; i++) qn_buf_release(&questions[i]);
}
