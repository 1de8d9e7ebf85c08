/* SPDX-License-Identifier: Apache-2.0 */
#include "qkd/ldpc_frames.h"

#include "base/err.h"
#include "qkd/reconcile.h"

enum { LEAST_COLUMNS = 16 };

int ldpc_frames_init(struct ldpc_frames *frames, const struct ldpc_config *config, size_t len) {
    *frames = (struct ldpc_frames){.len = len};
    if (len > QN_RECONCILE_MAX_BITS) return -QN_EINVAL;
    if (len == 0) return 0;
    frames->count = (uint32_t)((len + LDPC_FRAME_BITS - 1) / LDPC_FRAME_BITS);
    frames->bits = (uint32_t)((len + frames->count - 1) / frames->count);
    uint32_t words = (frames->bits + LDPC_LIFT - 1) / LDPC_LIFT, planes = 1;
    while (words > LDPC_MAX_COLUMNS * planes) planes *= 2;
    uint32_t columns = (words + planes - 1) / planes;
    if (columns < LEAST_COLUMNS) columns = LEAST_COLUMNS;
    double qber = config->qber > 1e-4 ? config->qber : 1e-4; /* Not a number, too. */
    uint32_t rows = ldpc_rows_for(columns, planes, qber < 0.25 ? qber : 0.25, config->fast);
    return ldpc_code_make(columns, rows, planes, &frames->code);
}

void ldpc_frames_release(struct ldpc_frames *frames) {
    ldpc_code_release(&frames->code);
    *frames = (struct ldpc_frames){0};
}

void ldpc_frame_words(const struct ldpc_frames *frames, const struct qn_bits *key, uint32_t frame,
                      uint64_t *ret_words) {
    size_t start = (size_t)frame * frames->bits, bits = ldpc_frame_bits(frames, frame);
    for (uint32_t c = 0; c < frames->code.words; c++) {
        size_t at = 64 * (size_t)c;
        uint64_t word = at < bits ? qn_bits_word(key, start + at) : 0;
        if (at < bits && bits - at < 64) word &= (1ull << (bits - at)) - 1;
        ret_words[c] = word;
    }
}

uint32_t ldpc_frame_sum(const struct ldpc_frames *frames, const uint64_t *words) {
    uint64_t sum = 0;
    for (uint32_t w = 0; w < frames->code.words; w++) {
        sum = (sum ^ words[w]) * 0x9e3779b97f4a7c15ull;
        sum ^= sum >> 32;
    }
    return (uint32_t)sum;
}
