/* SPDX-License-Identifier: Apache-2.0 */
/* Noise handshakes of every pattern: messages cut, changed or made up are refused and end it; unchanged ones lead both
 * ends to the same keys. */
#include "wire/noise.h"

#include <sodium.h>

#include "base/err.h"
#include "fuzz.h"

enum { MESSAGE_MAX = 512 };

static void init(struct qn_noise *noise, const struct qn_noise_config *wanted, bool initiator, const uint8_t *prologue,
                 size_t len) {
    struct qn_noise_config config = *wanted;
    uint8_t other[32];
    config.initiator = initiator;
    config.prologue = prologue;
    config.prologue_len = len;
    memset(config.static_private, initiator ? 3 : 4, 32);
    memset(config.ephemeral_private, initiator ? 5 : 6, 32);
    memset(other, initiator ? 4 : 3, 32);
    FUZZ_CHECK(crypto_scalarmult_base(config.remote_static, other) == 0);
    qn_noise_init(noise, &config);
}

static void transport(struct fuzz_input *in, struct qn_noise *noises) {
    struct qn_noise_cipher ends[2][2];
    for (int i = 0; i < 2; i++) qn_noise_split(&noises[i], &ends[i][0], &ends[i][1]);
    while (!fuzz_done(in)) {
        uint8_t what = fuzz_byte(in), plain[256], sealed[256 + QN_NOISE_TAG], opened[256];
        const uint8_t *bytes;
        size_t len = fuzz_take(in, 255, &bytes);
        memcpy(plain, bytes, len);
        struct qn_noise_cipher *from = &ends[what & 1][0], *to = &ends[1 - (what & 1)][1];
        qn_noise_seal(from, NULL, 0, plain, len, sealed);
        if (what & 2) {
            sealed[what % (len + QN_NOISE_TAG)] ^= (uint8_t)(what | 1);
            FUZZ_CHECK(qn_noise_open(to, NULL, 0, sealed, len + QN_NOISE_TAG, opened) == -QN_EAUTH);
            return;
        }
        FUZZ_CHECK(qn_noise_open(to, NULL, 0, sealed, len + QN_NOISE_TAG, opened) == 0);
        FUZZ_CHECK(memcmp(opened, plain, len) == 0);
        if (what & 4) {
            qn_noise_rekey(from);
            qn_noise_rekey(to);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_input in = {data, size};
    FUZZ_CHECK(sodium_init() >= 0);
    uint8_t how = fuzz_byte(&in);
    const uint8_t *prologue;
    size_t prologue_len = fuzz_take(&in, 64, &prologue);
    struct qn_noise_config config = {.pattern = (enum qn_noise_pattern)(how % (QN_NOISE_XX + 1)),
                                     .hash = how & 0x80 ? QN_NOISE_BLAKE2B : QN_NOISE_SHA256};
    struct qn_noise noises[2];
    init(&noises[0], &config, true, prologue, prologue_len);
    init(&noises[1], &config, false, prologue, prologue_len);
    bool refused = false;
    for (int turn = 0; !refused && !(noises[0].done && noises[1].done); turn++) {
        struct qn_noise *from = &noises[turn & 1], *to = &noises[1 - (turn & 1)];
        uint8_t *message = malloc(MESSAGE_MAX + QN_NOISE_OVERHEAD), *payload = malloc(MESSAGE_MAX + QN_NOISE_OVERHEAD);
        FUZZ_CHECK(message != NULL && payload != NULL && turn < 4);
        const uint8_t *said, *made_up;
        size_t len, got, said_len = fuzz_take(&in, 255, &said);
        FUZZ_CHECK(qn_noise_write(from, said, said_len, message, &len) == 0);
        uint8_t what = fuzz_byte(&in);
        bool changed = false;
        if (what >= 0xc0) { /* Made up. */
            len = fuzz_take(&in, MESSAGE_MAX - 1, &made_up);
            memcpy(message, made_up, len);
            changed = true;
        } else if (what >= 0x80) {
            message[fuzz_below(&in, len)] ^= (uint8_t)(what | 1);
            changed = true;
        } else if (what >= 0x60) {
            len = fuzz_below(&in, len);
            changed = true;
        }
        message = realloc(message, len + (len == 0)); /* Reading beyond shows. */
        int rc = qn_noise_read(to, message, len, payload, &got);
        FUZZ_CHECK(rc == 0 || (changed && rc == -QN_EAUTH));
        if (rc == 0 && !changed) FUZZ_CHECK(got == said_len && memcmp(payload, said, got) == 0);
        refused =
            rc < 0 || changed; /* A changed public key may pass for one message, if that has no payload key yet. */
        free(message);
        free(payload);
    }
    if (!refused) transport(&in, noises);
    qn_noise_release(&noises[0]);
    qn_noise_release(&noises[1]);
    return 0;
}
