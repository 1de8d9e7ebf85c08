/* SPDX-License-Identifier: Apache-2.0 */
/* Reconciliation by any method, LDPC above all (Cascade has a target of its own). Honest ends get equal keys; questions
 * and answers that were changed or made up are refused as a whole, or lead to a wrong key, but never to questions
 * without end. */
#include "qkd/reconcile.h"

#include "base/err.h"
#include "fuzz.h"

enum { BITS_MAX = 3000, ROUNDS_MAX = 5000 };

struct game {
    struct fuzz_input in;
    struct qn_reconcile *corrector;
    struct qn_reconcile_source *source;
    bool lied;
};

static void fill(struct qn_bits *bits, size_t n, uint64_t seed) {
    for (size_t i = 0; i < n; i += 64) {
        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
        FUZZ_CHECK(qn_bits_append_word(bits, seed ^ seed >> 29, n - i < 64 ? (unsigned)(n - i) : 64) == 0);
    }
}

static void made_up_question(struct game *game) {
    const uint8_t *bytes;
    uint32_t count = (uint32_t)fuzz_below(&game->in, 4096);
    size_t len = fuzz_take(&game->in, 255, &bytes);
    struct qn_buf answer = {0};
    uint64_t before = qn_reconcile_source_disclosed(game->source);
    int rc = qn_reconcile_answer(game->source, bytes, len, count, &answer);
    FUZZ_CHECK(rc == 0 || rc == -QN_EPROTOCOL);
    FUZZ_CHECK(qn_reconcile_source_disclosed(game->source) == before + (rc == 0 ? count : 0));
    FUZZ_CHECK(answer.len == (rc == 0 ? qn_bits_bytes(count) : 0));
    game->lied = game->lied || rc == 0;
    qn_buf_release(&answer);
}

/* The source's answer to a question that may have been changed on the way. False: it gives none. */
static bool ask_source(struct game *game, struct qn_buf *question, uint32_t count, uint8_t what,
                       struct qn_buf *answer) {
    if (what >= 0xf0 && question->len > 0) {
        size_t at = fuzz_below(&game->in, question->len);
        uint8_t was = question->data[at];
        question->data[at] ^= (uint8_t)((what & 7) << 4 | 1);
        int rc = qn_reconcile_answer(game->source, question->data, question->len, count, answer);
        FUZZ_CHECK(rc == 0 || (rc == -QN_EPROTOCOL && answer->len == 0));
        question->data[at] = was;
        game->lied = game->lied || rc == 0;
    }
    if (answer->len > 0) return true;
    int rc = qn_reconcile_answer(game->source, question->data, question->len, count, answer);
    FUZZ_CHECK(rc == 0 || (game->lied && rc == -QN_EPROTOCOL));
    return rc == 0;
}

/* False when there is nothing more to ask, or it came to an end. */
static bool round_trip(struct game *game) {
    struct qn_buf question = {0}, answer = {0};
    uint32_t count;
    bool going = false;
    FUZZ_CHECK(qn_reconcile_ask(game->corrector, &question, &count) == 0);
    FUZZ_CHECK(question.len <= QN_RECONCILE_MESSAGE_BYTES + 64);
    uint8_t what = count > 0 ? fuzz_byte(&game->in) : 0;
    if (count > 0 && ask_source(game, &question, count, what, &answer)) {
        FUZZ_CHECK(answer.len == qn_bits_bytes(count));
        if (what < 0x10) {
            answer.data[fuzz_below(&game->in, answer.len)] ^= (uint8_t)(1 << (what & 7));
            if (count % 8 != 0) answer.data[answer.len - 1] &= (uint8_t)((1 << (count % 8)) - 1);
            game->lied = true;
        }
        if (what >= 0x10 && what < 0x18) /* A wrong number changes nothing. */
            FUZZ_CHECK(qn_reconcile_tell(game->corrector, answer.data, answer.len, count + 8) == -QN_EPROTOCOL);
        int rc = qn_reconcile_tell(game->corrector, answer.data, answer.len, count);
        FUZZ_CHECK(rc == 0 || (game->lied && rc == -QN_EPROTOCOL));
        going = rc == 0;
    }
    qn_buf_release(&question);
    qn_buf_release(&answer);
    return going;
}

static void play(struct game *game, const struct qn_reconcile_config *config, const struct qn_bits *key,
                 const struct qn_bits *noisy, bool hostile) {
    struct qn_bits corrected = {0};
    struct qn_reconcile_report report;
    unsigned rounds = 0;
    FUZZ_CHECK(qn_reconcile_new(config, noisy, &game->corrector) == 0);
    FUZZ_CHECK(qn_reconcile_source_new(config, key, &game->source) == 0);
    for (unsigned n = 0; hostile && n < 8 && !fuzz_done(&game->in); n++) made_up_question(game);
    while (!qn_reconcile_is_done(game->corrector) && round_trip(game)) FUZZ_CHECK(++rounds < ROUNDS_MAX);
    FUZZ_CHECK(game->lied || qn_reconcile_is_done(game->corrector));
    FUZZ_CHECK(qn_reconcile_key(game->corrector, &corrected) == 0 && corrected.len == key->len);
    qn_reconcile_get_report(game->corrector, &report);
    FUZZ_CHECK(report.bits == key->len);
    if (!game->lied) FUZZ_CHECK(report.disclosed <= qn_reconcile_source_disclosed(game->source));
    qn_reconcile_free(game->corrector);
    qn_reconcile_source_free(game->source);
    qn_bits_release(&corrected);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct game game = {.in = {data, size}};
    uint8_t how = fuzz_byte(&game.in);
    size_t n = fuzz_below(&game.in, BITS_MAX), errors = n == 0 ? 0 : fuzz_byte(&game.in) % (n / 10 + 1);
    struct qn_reconcile_config config = {.method = QN_RECONCILE_LDPC, .qber = (how >> 4) / 100.0};
    if ((how & 3) == 3)
        config.method = (enum qn_reconcile_method)(1 + fuzz_byte(&game.in) % (QN_RECONCILE_METHODS - 1));
    memset(config.seed, how, sizeof config.seed);
    struct qn_bits key = {0}, noisy = {0};
    fill(&key, n, fuzz_byte(&game.in));
    FUZZ_CHECK(qn_bits_copy(&noisy, &key) == 0);
    for (size_t i = 0; i < errors; i++) qn_bits_flip(&noisy, fuzz_below(&game.in, n));
    play(&game, &config, &key, &noisy, how & 4);
    qn_bits_release(&key);
    qn_bits_release(&noisy);
    return 0;
}
