/* SPDX-License-Identifier: Apache-2.0 */
/* In this process: what keys cost after the photons, and what every frame costs. */
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "bench.h"
#include "qkd/amplify.h"
#include "qkd/cascade.h"
#include "wire/noise.h"

enum { KEY_BITS = 1000000, SECRET_BITS = 700000, MESSAGES_MAX = 64 };
#define QBER 0.02

static void must(int rc) {
    if (rc < 0) abort(); /* Out of memory. */
}

static void random_key(struct qn_bits *key) {
    struct qn_rng rng;
    qn_rng_init(&rng, 1, "bench", 0);
    for (size_t i = 0; i < KEY_BITS; i += 64) must(qn_bits_append_word(key, qn_rng_u64(&rng), 64));
}

/* ---- Cascade ---- */

struct reconciliation {
    struct qn_bits source_key, detector_key;
    bool failed;
};

/* All questions there are, then all answers. */
static void play_round(struct qn_cascade *cascade, struct qn_cascade_source *source, bool *failed) {
    struct qn_buf asks[MESSAGES_MAX] = {0}, tell = {0};
    uint32_t counts[MESSAGES_MAX];
    size_t n = 0;
    for (; n < MESSAGES_MAX; n++) {
        must(qn_cascade_ask(cascade, &asks[n], &counts[n]));
        if (counts[n] == 0) break;
    }
    if (n == 0) *failed = true;
    for (size_t i = 0; i < n; i++) {
        tell.len = 0;
        if (qn_cascade_answer(source, asks[i].data, asks[i].len, counts[i], &tell) < 0 ||
            qn_cascade_tell(cascade, tell.data, tell.len, counts[i]) < 0)
            *failed = true;
    }
    for (size_t i = 0; i < MESSAGES_MAX; i++) qn_buf_release(&asks[i]);
    qn_buf_release(&tell);
}

static void reconcile(void *context) {
    struct reconciliation *keys = context;
    struct qn_cascade_config config = {.variant = QN_CASCADE_TUNED, .qber = QBER};
    struct qn_cascade *cascade;
    struct qn_cascade_source *source;
    struct qn_bits corrected = {0};
    must(qn_cascade_new(&config, &keys->detector_key, &cascade));
    must(qn_cascade_source_new(&config, &keys->source_key, &source));
    while (!qn_cascade_is_done(cascade) && !keys->failed) play_round(cascade, source, &keys->failed);
    must(qn_cascade_key(cascade, &corrected));
    if (!qn_bits_equal(&corrected, &keys->source_key)) keys->failed = true;
    qn_bits_release(&corrected);
    qn_cascade_free(cascade);
    qn_cascade_source_free(source);
}

int bench_cascade(struct bench *bench) {
    struct reconciliation keys = {0};
    struct qn_rng rng;
    qn_rng_init(&rng, 2, "bench", 0);
    random_key(&keys.source_key);
    must(qn_bits_copy(&keys.detector_key, &keys.source_key));
    for (size_t i = 0; i < KEY_BITS; i++)
        if (qn_rng_double(&rng) < QBER) qn_bits_flip(&keys.detector_key, i);
    double rate = bench_rate(bench, reconcile, &keys, 1);
    qn_bits_release(&keys.source_key);
    qn_bits_release(&keys.detector_key);
    if (keys.failed) return bench_fail(bench, "the keys still differ");
    bench_row(bench, "cascade", rate * KEY_BITS / 1e6, "Mbit/s", "",
              "one processor for both ends; 10^6 bits, 2% errors");
    return 0;
}

/* ---- amplification ---- */

static void amplify(void *context) {
    static const uint8_t seed[QN_AMPLIFY_SEED_BYTES] = {1};
    struct qn_bits out = {0};
    must(qn_amplify(context, seed, SECRET_BITS, &out));
    qn_bits_release(&out);
}

int bench_amplify(struct bench *bench) {
    struct qn_bits key = {0};
    random_key(&key);
    double rate = bench_rate(bench, amplify, &key, 1);
    qn_bits_release(&key);
    bench_row(bench, "amplify", rate * KEY_BITS / 1e6, "Mbit/s", "", "one processor; 10^6 bits to 7 x 10^5");
    return 0;
}

/* ---- frames ---- */

struct frames {
    struct qn_noise_cipher seal, open;
    size_t len;
    bool failed;
};

static void seal_and_open(void *context) {
    static uint8_t plain[16384], sealed[sizeof plain + QN_NOISE_TAG];
    struct frames *frames = context;
    qn_noise_seal(&frames->seal, NULL, 0, plain, frames->len, sealed);
    if (qn_noise_open(&frames->open, NULL, 0, sealed, frames->len + QN_NOISE_TAG, plain) < 0) frames->failed = true;
}

int bench_noise(struct bench *bench) {
    static const struct {
        const char *name, *note;
        size_t len;
    } sizes[] = {{"noise-small", "one processor: ChaCha20-Poly1305; sealed and opened, 128 bytes", 128},
                 {"noise-large", "the same, 16 KiB", 16384}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct frames frames = {.seal = {.has_key = true}, .open = {.has_key = true}, .len = sizes[i].len};
        double rate = bench_rate(bench, seal_and_open, &frames, 64);
        if (frames.failed) return bench_fail(bench, "a frame did not open");
        bench_row(bench, sizes[i].name, rate, "frames/s", "", sizes[i].note);
    }
    return 0;
}
