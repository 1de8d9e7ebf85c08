/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QKD_LDPC_H
#define QN_QKD_LDPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "qkd/bits.h"

/* Reconciliation by low-density parity-check codes: the source tells the syndrome of each frame, the detector decodes
 * (Elkouss et al., ISIT 2009). There is a code for every rate (ldpc_code.h), so the rate follows the error rate
 * without puncturing or shortening. A frame that does not decode asks for the bits it is least sure of and tries again:
 * the symmetric form of blind reconciliation (Kiktenko et al., Phys. Rev. Applied 8, 044017, 2017; blind:
 * Martinez-Mateo et al., Quantum Inf. Comput. 12, 791, 2012). Each round asks for more; in the end for all, so that
 * the keys are equal whatever happens.
 *
 * The calls, and their errors, are those of reconcile.h. Frames are of equal length, up to 262144 bits; short keys are
 * reconciled less well (a single frame of 5000 bits discloses some 10 % more).
 *
 * A question is records, a frame each, at most one of a frame in a question; numbers LEB128:
 *   frame    its number
 *   what     0: the syndrome; 1: all bits not told yet; 2: the bits at these positions:
 *   count    at least 1, at most LDPC_ASK_BITS
 *   first    position; then count - 1 differences of at least 1
 * The answer holds the bits in that order: 64 for each word of a syndrome, then LDPC_SUM_BITS of a sum of the frame, by
 * which a wrong word of the same syndrome is noticed; such a frame is asked for in full. */
enum { LDPC_FRAME_BITS = 1 << 18, LDPC_ASK_BITS = 16000, LDPC_SUM_BITS = 32 };

struct ldpc_config {
    double qber; /* Both ends need the same: it says how many rows the code has. Clamped to 0.0001 .. 0.25. */
    bool fast;   /* Disclose some 5 % more at first, so that decoding takes half the time. */
};

struct ldpc_corrector;
struct ldpc_source;

int ldpc_corrector_new(const struct ldpc_config *config, const struct qn_bits *key,
                       struct ldpc_corrector **ret_corrector);
void ldpc_corrector_free(struct ldpc_corrector *corrector);
int ldpc_ask(struct ldpc_corrector *corrector, struct qn_buf *question, uint32_t *ret_count);
int ldpc_tell(struct ldpc_corrector *corrector, const uint8_t *answer, size_t len, uint32_t count);
bool ldpc_is_done(const struct ldpc_corrector *corrector);
int ldpc_key(const struct ldpc_corrector *corrector, struct qn_bits *ret_key);

struct ldpc_counts {
    uint64_t disclosed, corrected;
    uint32_t frames, failed, rounds;
};
void ldpc_get_counts(const struct ldpc_corrector *corrector, struct ldpc_counts *ret_counts);

int ldpc_source_new(const struct ldpc_config *config, const struct qn_bits *key, struct ldpc_source **ret_source);
void ldpc_source_free(struct ldpc_source *source);
int ldpc_answer(struct ldpc_source *source, const uint8_t *question, size_t len, uint32_t count, struct qn_buf *answer);
uint64_t ldpc_source_disclosed(const struct ldpc_source *source);

#endif
