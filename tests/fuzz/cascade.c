/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of Cascade, both ways. Honest ends correct every key, whatever the order of messages; questions and answers
 * that were changed or made up are refused as a whole, or lead to a wrong key, but never to questions without end. */
#include "qkd/cascade.h"

#include "base/err.h"
#include "fuzz.h"

enum { BITS_MAX = 600, MESSAGES = 64 };

struct game {
    struct fuzz_input in;
    struct qn_cascade *corrector;
    struct qn_cascade_source *source;
    bool lied;
};

static void fill(struct qn_bits *bits, size_t n, uint64_t seed) {
    for (size_t i = 0; i < n; i += 64) {
        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
        FUZZ_CHECK(qn_bits_append_word(bits, seed ^ seed >> 29, n - i < 64 ? (unsigned)(n - i) : 64) == 0);
    }
}

static void made_up_questions(struct game *game) {
    const uint8_t *bytes;
    size_t len = fuzz_take(&game->in, 255, &bytes);
    uint32_t count = (uint32_t)fuzz_below(&game->in, 300);
    struct qn_buf parities = {0};
    uint64_t before = qn_cascade_source_disclosed(game->source);
    int rc = qn_cascade_answer(game->source, bytes, len, count, &parities);
    FUZZ_CHECK(rc == 0 || rc == -QN_EPROTOCOL);
    FUZZ_CHECK(qn_cascade_source_disclosed(game->source) == before + (rc == 0 ? count : 0));
    FUZZ_CHECK(parities.len == (rc == 0 ? qn_bits_bytes(count) : 0));
    game->lied = true; /* What the corrector asks about parts may no longer fit. */
    qn_buf_release(&parities);
}

/* One round; false when there is nothing more to ask, or it came to an end. */
static bool round_trip(struct game *game) {
    struct qn_buf ranges = {0}, parities = {0};
    uint32_t count;
    bool going = false;
    FUZZ_CHECK(qn_cascade_ask(game->corrector, &ranges, &count) == 0);
    if (count > 0) {
        uint8_t what = fuzz_byte(&game->in);
        FUZZ_CHECK(ranges.len <= QN_CASCADE_ASK_BYTES + 64);
        if (what >= 0xf8 && ranges.len > 0) { /* Changed on the way there: refused, or answered as what it says. */
            size_t at = fuzz_below(&game->in, ranges.len);
            uint8_t was = ranges.data[at];
            ranges.data[at] ^= (uint8_t)(what & 7) << 4 | 1;
            int rc = qn_cascade_answer(game->source, ranges.data, ranges.len, count, &parities);
            FUZZ_CHECK(rc == 0 || (rc == -QN_EPROTOCOL && parities.len == 0));
            ranges.data[at] = was;
            game->lied = true;
        }
        if (parities.len == 0) {
            int rc = qn_cascade_answer(game->source, ranges.data, ranges.len, count, &parities);
            FUZZ_CHECK(rc == 0 || (game->lied && rc == -QN_EPROTOCOL));
            if (rc < 0) goto out;
        }
        if (what < 0x08 && parities.len > 0) {
            parities.data[fuzz_below(&game->in, parities.len)] ^= (uint8_t)(1 << (what & 7));
            if (count % 8 != 0) parities.data[parities.len - 1] &= (uint8_t)((1 << (count % 8)) - 1);
            game->lied = true;
        }
        if (what >= 0x08 && what < 0x0c) /* A wrong number changes nothing. */
            FUZZ_CHECK(qn_cascade_tell(game->corrector, parities.data, parities.len, count + 1 + what) ==
                       -QN_EPROTOCOL);
        int rc = qn_cascade_tell(game->corrector, parities.data, parities.len, count);
        FUZZ_CHECK(rc == 0 || (game->lied && rc == -QN_EPROTOCOL));
        going = rc == 0;
    }
out:
    qn_buf_release(&ranges);
    qn_buf_release(&parities);
    return going;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct game game = {.in = {data, size}};
    uint8_t how = fuzz_byte(&game.in);
    size_t n = fuzz_below(&game.in, BITS_MAX), errors = n == 0 ? 0 : fuzz_byte(&game.in) % (n / 10 + 1);
    struct qn_cascade_config config = {.variant =
                                           (enum qn_cascade_variant)(fuzz_byte(&game.in) % (QN_CASCADE_OPTION8 + 1)),
                                       .qber = how & 2 ? 0.03 : (how >> 4) / 60.0,
                                       .strip_bits = how & 4 ? 256 : 0};
    memset(config.seed, how, sizeof config.seed);
    struct qn_bits key = {0}, noisy = {0}, corrected = {0};
    fill(&key, n, fuzz_byte(&game.in));
    FUZZ_CHECK(qn_bits_copy(&noisy, &key) == 0);
    for (size_t i = 0; i < errors; i++) qn_bits_flip(&noisy, fuzz_below(&game.in, n));
    FUZZ_CHECK(qn_cascade_new(&config, &noisy, &game.corrector) == 0);
    FUZZ_CHECK(qn_cascade_source_new(&config, &key, &game.source) == 0);
    if (how & 8)
        while (!fuzz_done(&game.in)) made_up_questions(&game);
    unsigned rounds = 0;
    while (!qn_cascade_is_done(game.corrector) && round_trip(&game)) FUZZ_CHECK(++rounds < 5000);
    FUZZ_CHECK(game.lied || qn_cascade_is_done(game.corrector));
    FUZZ_CHECK(qn_cascade_key(game.corrector, &corrected) == 0 && corrected.len == n);
    qn_cascade_free(game.corrector);
    qn_cascade_source_free(game.source);
    qn_bits_release(&key);
    qn_bits_release(&noisy);
    qn_bits_release(&corrected);
    return 0;
}
