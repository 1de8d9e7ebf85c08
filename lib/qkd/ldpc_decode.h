/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QKD_LDPC_DECODE_H
#define QN_QKD_LDPC_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "qkd/ldpc_code.h"

/* Decoding by min-sum with layers (Hocevar, SiPS 2004), 64 checks at a time, in 8-bit numbers; private to lib/qkd.
 *
 * What min-sum takes for the worth of a check is too much, the more so the noisier its bits still are. It is scaled by
 * 1 - slope u, where u is the fraction of checks that fail now: density evolution shows that this is nearly the true
 * likelihood ratio all the way, and thresholds come close to those of exact belief propagation (within 2 %), where a
 * fixed scale loses 10 to 15 %. (Thresholds and degrees: see ldpc_code.c.) Where two bits are least alike, the check is
 * worth one unit less again, which gains another percent. */
struct ldpc_decoder;

/* Work space for codes up to that size, some 600 kB for the largest. -QN_ENOMEM. */
int ldpc_decoder_new(const struct ldpc_code *code, struct ldpc_decoder **ret_decoder);
void ldpc_decoder_free(struct ldpc_decoder *decoder); /* Wipes. NULL is fine. */

struct ldpc_kernels {
    const char *name;
    /* Sets the bits to words, those in known for certain. */
    void (*start)(const struct ldpc_code *code, struct ldpc_decoder *decoder, const uint64_t *words,
                  const uint64_t *known);
    /* One sweep over all rows; returns how many checks failed by what their bits said without them. */
    uint32_t (*sweep)(const struct ldpc_code *code, struct ldpc_decoder *decoder, const uint64_t *syndrome);
    /* What the bits are now, for `hard` of the decoder. */
    void (*hard)(const struct ldpc_code *code, struct ldpc_decoder *decoder);
};
const struct ldpc_kernels *ldpc_kernels_best(void);
const struct ldpc_kernels *ldpc_kernels_at(size_t index); /* Portable first, all equal; NULL past the end. */

/* Looks for the words with that syndrome nearest to `words`, of which the bits in `known` are certain. Sets words and
 * returns the number of sweeps it took, or 0 when there is none in sight; then ret_certainty (one byte a bit) says how
 * certain each bit is, 0 least. */
unsigned ldpc_decode(const struct ldpc_kernels *kernels, const struct ldpc_code *code, struct ldpc_decoder *decoder,
                     const uint64_t *syndrome, const uint64_t *known, uint64_t *words, uint8_t *ret_certainty);

#endif
