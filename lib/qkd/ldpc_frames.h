/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QKD_LDPC_FRAMES_H
#define QN_QKD_LDPC_FRAMES_H

#include "qkd/ldpc.h"
#include "qkd/ldpc_code.h"

/* How both ends cut a key into frames; private to lib/qkd. */
struct ldpc_frames {
    size_t len;            /* Of the key. */
    uint32_t count, bits;  /* Of each frame but the last, which may be shorter. */
    struct ldpc_code code; /* Of all frames; what a frame lacks is zero, known to both. */
};

enum { LDPC_SYNDROME, LDPC_REST, LDPC_POSITIONS };

/* -QN_EINVAL: too long; -QN_ENOMEM. */
int ldpc_frames_init(struct ldpc_frames *frames, const struct ldpc_config *config, size_t len);
void ldpc_frames_release(struct ldpc_frames *frames);

static inline uint32_t ldpc_frame_bits(const struct ldpc_frames *frames, uint32_t frame) {
    size_t left = frames->len - (size_t)frame * frames->bits;
    return left < frames->bits ? (uint32_t)left : frames->bits;
}
/* Of the answer: a syndrome and a sum. */
static inline uint32_t ldpc_syndrome_bits(const struct ldpc_frames *frames) {
    return frames->code.checks * LDPC_LIFT + LDPC_SUM_BITS;
}

/* The key's frame as columns. */
void ldpc_frame_words(const struct ldpc_frames *frames, const struct qn_bits *key, uint32_t frame, uint64_t *ret_words);
/* LDPC_SUM_BITS of them all, for the few frames whose decoder finds other words of the same syndrome. */
uint32_t ldpc_frame_sum(const struct ldpc_frames *frames, const uint64_t *words);

#endif
