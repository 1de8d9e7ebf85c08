/* SPDX-License-Identifier: Apache-2.0 */
/* In this process, one processor: what keys cost after the photons, and what every frame costs. Keys are counted by
 * processor time, which others on the machine do not use up. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "bench.h"
#include "qkd/amplify.h"
#include "qkd/auth.h"
#include "qkd/reconcile.h"
#include "wire/noise.h"

static void must(int rc) {
    if (rc < 0) abort(); /* Out of memory. */
}

static void random_key(struct qn_bits *key, struct qn_rng *rng, size_t bits) {
    must(qn_bits_reserve(key, bits));
    for (size_t i = 0; i < bits; i += 64)
        must(qn_bits_append_word(key, qn_rng_u64(rng), bits - i < 64 ? (unsigned)(bits - i) : 64));
}

/* ---- reconciliation ---- */

enum { RECONCILE_BITS = 1000000, MESSAGES_MAX = 64 };

struct ends {
    struct qn_reconcile *detector;
    struct qn_reconcile_source *source;
    double detector_s, source_s; /* Processor time so far. */
    bool failed;
};

/* All questions there are, then all answers. */
static void play_round(struct ends *ends) {
    struct qn_buf asks[MESSAGES_MAX] = {0}, tell = {0};
    uint32_t counts[MESSAGES_MAX];
    size_t n = 0;
    double start = bench_processor_s();
    for (; n < MESSAGES_MAX; n++) {
        must(qn_reconcile_ask(ends->detector, &asks[n], &counts[n]));
        if (counts[n] == 0) break;
    }
    ends->detector_s += bench_processor_s() - start;
    if (n == 0) ends->failed = true;
    for (size_t i = 0; i < n && !ends->failed; i++) {
        tell.len = 0;
        start = bench_processor_s();
        if (qn_reconcile_answer(ends->source, asks[i].data, asks[i].len, counts[i], &tell) < 0) ends->failed = true;
        double told = bench_processor_s();
        if (qn_reconcile_tell(ends->detector, tell.data, tell.len, counts[i]) < 0) ends->failed = true;
        ends->source_s += told - start;
        ends->detector_s += bench_processor_s() - told;
    }
    for (size_t i = 0; i < MESSAGES_MAX; i++) qn_buf_release(&asks[i]);
    qn_buf_release(&tell);
}

/* Sums over the keys of a row. */
struct sums {
    double best_s, source_s, detector_s; /* Of the key that took least. */
    struct qn_reconcile_report report;
    unsigned keys, wrong;
};

/* -1 if the protocol broke. */
static int reconcile(const struct qn_reconcile_config *config, struct qn_rng *rng, struct sums *sums) {
    struct qn_bits source_key = {0}, detector_key = {0};
    struct ends ends = {0};
    random_key(&source_key, rng, RECONCILE_BITS);
    must(qn_bits_copy(&detector_key, &source_key));
    for (size_t i = 0; i < RECONCILE_BITS; i++)
        if (qn_rng_double(rng) < config->qber) qn_bits_flip(&detector_key, i);
    double start = bench_processor_s();
    must(qn_reconcile_new(config, &detector_key, &ends.detector));
    ends.detector_s = bench_processor_s() - start;
    must(qn_reconcile_source_new(config, &source_key, &ends.source));
    ends.source_s = bench_processor_s() - start - ends.detector_s;
    while (!qn_reconcile_is_done(ends.detector) && !ends.failed) play_round(&ends);
    start = bench_processor_s();
    must(qn_reconcile_key(ends.detector, &detector_key));
    ends.detector_s += bench_processor_s() - start;

    struct qn_reconcile_report report;
    qn_reconcile_get_report(ends.detector, &report);
    sums->report.bits += report.bits;
    sums->report.disclosed += report.disclosed;
    sums->report.corrected += report.corrected;
    sums->report.frames += report.frames;
    sums->report.failed += report.failed;
    if (report.rounds > sums->report.rounds) sums->report.rounds = report.rounds;
    sums->wrong += !qn_bits_equal(&detector_key, &source_key);
    sums->keys++;
    if (sums->best_s == 0 || ends.source_s + ends.detector_s < sums->best_s) {
        sums->best_s = ends.source_s + ends.detector_s;
        sums->source_s = ends.source_s;
        sums->detector_s = ends.detector_s;
    }
    qn_reconcile_free(ends.detector);
    qn_reconcile_source_free(ends.source);
    qn_bits_release(&source_key);
    qn_bits_release(&detector_key);
    return ends.failed ? -1 : 0;
}

int bench_reconcile(struct bench *bench) {
    static const enum qn_reconcile_method methods[] = {QN_RECONCILE_CASCADE, QN_RECONCILE_CASCADE_FAST,
                                                       QN_RECONCILE_CASCADE_ORIGINAL, QN_RECONCILE_LDPC,
                                                       QN_RECONCILE_LDPC_FAST};
    static const double qbers[] = {0.005, 0.01, 0.02, 0.03, 0.05, 0.08};
    struct qn_rng rng;
    qn_rng_init(&rng, 2, "bench", 0);
    for (size_t m = 0; m < sizeof methods / sizeof methods[0]; m++) {
        for (size_t q = 0; q < sizeof qbers / sizeof qbers[0]; q++) {
            struct sums sums = {0};
            double end = bench_now_s() + bench->seconds / 4; /* There are many rows. */
            do {
                struct qn_reconcile_config config = {.method = methods[m], .qber = qbers[q]};
                config.seed[0] = (uint8_t)sums.keys;
                if (reconcile(&config, &rng, &sums) < 0) return bench_fail(bench, "an end refused a message");
            } while (bench_now_s() < end);
            char name[40], note[160];
            double mega = RECONCILE_BITS / 1e6;
            snprintf(name, sizeof name, "%s-%g%%", qn_reconcile_name(methods[m]), 100 * qbers[q]);
            snprintf(note, sizeof note,
                     "f %.3f, %u round trips, %u of %u frames failed, %u of %u keys wrong; "
                     "detector alone %.0f, source %.0f",
                     qn_reconcile_efficiency(&sums.report), sums.report.rounds, sums.report.failed, sums.report.frames,
                     sums.wrong, sums.keys, mega / sums.detector_s, mega / sums.source_s);
            bench_row(bench, name, mega / sums.best_s, "Mbit/s", "", note);
        }
    }
    return 0;
}

/* ---- amplification ---- */

int bench_amplify(struct bench *bench) {
    static const struct {
        const char *name;
        size_t bits;
        double ratio;
    } sizes[] = {{"amplify-1e6-0.3", 1000000, 0.3},
                 {"amplify-1e6-0.5", 1000000, 0.5},
                 {"amplify-1e7-0.3", 10000000, 0.3},
                 {"amplify-1e7-0.5", 10000000, 0.5},
                 {"amplify-1e8-0.13", 100000000, 0.13},
                 {"amplify-1e8-0.3", 100000000, 0.3},
                 {"amplify-1e8-0.5", 100000000, 0.5}};
    static const uint8_t seed[QN_AMPLIFY_SEED_BYTES] = {1};
    struct qn_rng rng;
    qn_rng_init(&rng, 1, "bench", 0);
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        struct qn_bits key = {0}, out = {0};
        random_key(&key, &rng, sizes[s].bits);
        double best = INFINITY, end = bench_now_s() + bench->seconds;
        do {
            double start = bench_processor_s();
            must(qn_amplify(&key, seed, (size_t)((double)sizes[s].bits * sizes[s].ratio), &out));
            best = fmin(best, bench_processor_s() - start);
        } while (bench_now_s() < end);
        qn_bits_release(&key);
        qn_bits_release(&out);
        bench_row(bench, sizes[s].name, (double)sizes[s].bits / best / 1e6, "Mbit/s", "",
                  "one processor; bits of input and what part of them comes out");
    }
    return 0;
}

/* ---- authentication ---- */

int bench_mac(struct bench *bench) {
    static uint8_t message[1 << 16];
    static const uint8_t key[QN_AUTH_KEY_BYTES] = {3}, pad[QN_AUTH_TAG_BYTES] = {4};
    static const size_t lens[] = {256, sizeof message};
    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        struct qn_auth auth;
        uint8_t tag[QN_AUTH_TAG_BYTES];
        char name[40];
        qn_auth_init(&auth, key);
        double done = 0, start = bench_processor_s(), end = bench_now_s() + bench->seconds / 2;
        do {
            for (int n = 0; n < 64; n++) {
                qn_auth_add(&auth, 1, message, lens[i]);
                qn_auth_tag(&auth, pad, tag, sizeof tag);
            }
            done += 64;
        } while (bench_now_s() < end);
        snprintf(name, sizeof name, "mac-%zu", lens[i]);
        bench_row(bench, name, done * (double)lens[i] * 8 / (bench_processor_s() - start) / 1e6, "Mbit/s", "",
                  "one processor; messages of so many bytes, a tag each");
    }
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
