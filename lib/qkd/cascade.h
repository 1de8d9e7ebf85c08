/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QKD_CASCADE_H
#define QN_QKD_CASCADE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "qkd/bits.h"

/* Reconciliation by Cascade (Brassard and Salvail, EUROCRYPT 93; variants: Martinez-Mateo et al., Quantum Inf. Comput.
 * 15, 453, 2015; Yan et al. 2008). The detector corrects its key by asking the source for parities:
 *
 *   detector: struct qn_cascade         source: struct qn_cascade_source
 *   qn_cascade_ask -> ranges   ------>  qn_cascade_answer -> parities
 *   qn_cascade_tell            <------
 *   ... until qn_cascade_is_done
 *
 * The key is cut into strips of equal length, reconciled side by side: one message carries the pending questions of
 * many strips, so the number of round trips does not grow with the key. Ask until a call returns no question (each
 * gives a message of bounded size), send all, and tell the answers in the order asked; after each tell there may be
 * more to ask, before the other answers are in. Each parity asked is one bit disclosed, counted at both ends: use the
 * source's count.
 *
 * Both ends make the same plan from the config: the same seed, length and error rate, bit for bit (send counts and
 * divide, rather than decimals). */
enum qn_cascade_variant {
    /* The one to use: 0.6/Q, then 3/Q, then 26 random subsets; strips of 16384. Above Shannon by 6 % at Q = 2 %, by 8 %
     * at 5 %, by 10 % at 11 %. About 160 round trips; about one strip in 2^26 stays wrong. */
    QN_CASCADE_TUNED,
    /* 0.6/Q, then 1.5/Q: a third fewer round trips for 2 % more disclosed. */
    QN_CASCADE_FAST,
    /* The published ones, strips of 10000, as cascade-cpp has them; k1 is the first block, then the ratio of later
     * ones, then how many passes. They are for comparison: in their order of asking, which cascade_published.h has,
     * they disclose 1 to 16 % more than those above would with the same blocks. */
    QN_CASCADE_ORIGINAL, /* 0.73/Q, 2; 4. */
    QN_CASCADE_BICONF,   /* 0.92/Q, 3; 2, then random halves and what they leave, until ten pairs in a row agree. */
    QN_CASCADE_YANETAL,  /* 0.80/Q, 5, then halves; 10. */
    QN_CASCADE_OPTION3,  /* 1/Q, 2, then halves; 16. */
    QN_CASCADE_OPTION4,  /* The same: cascade-cpp does not use smaller blocks again, either. */
    QN_CASCADE_OPTION7,  /* The power of two at or above 1/Q, 4, then halves; 14. */
    QN_CASCADE_OPTION8   /* With a = log2(1/Q) - 1/2: 2^ceil(a), 2^ceil((a + 12)/2), 4096, then halves; 14. */
};

struct qn_cascade_config {
    enum qn_cascade_variant variant;
    double qber; /* Estimate; 0 .. 0.25 is sensible, outside is clamped. Wrong costs efficiency, not correctness. */
    size_t strip_bits; /* Longest strip, at most 65536; 0: the variant's own. Longer ones disclose less, slower. */
    uint8_t seed[32];  /* Of the shuffles; public, drawn after the key is fixed. */
};

enum { QN_CASCADE_MAX_BITS = 1 << 27, QN_CASCADE_ASK_BYTES = 48 * 1024 };

/* Packing of `ranges`: records, each the questions of one strip; all numbers LEB128.
 *   strip    its index
 *   what     2 * pass + 1 opens the pass: asks the prefix parities at the ends of its blocks, in order; that of the
 *            last block in pass 0 only, for it is the strip's (but always in the published variants). One pass after
 *            the last: the parities of all checks; of BICONF, one after the other, those of two.
 *            2 * pass: positions follow, as below
 *            2 * (passes + checks) + 2 + 3 * pass + kind: about parts of the pass, the positions in the middle of them:
 *              0  blocks: a bit for each block of the pass, 1 if it is one
 *              1  segments: how many, then of each its distance from the end of the one before, and its length
 *              2  halves, of the parts of the question before: a bit for each, 0 the lower (the smaller) half, 1 the
 *                 upper one; one that has a single bit left is a part no more
 *            Parts have at least two bits. Bits are packed lowest first, unused ones of the last byte are zero.
 *   count    of positions, at least 1
 *   first    position; then count - 1 differences of at least 1
 * A question at position x of a pass is for the parity of the first x bits of the strip in the order of that pass,
 * 0 < x < strip length. Pass numbers from the number of passes on are checks: random subsets, in the strip's own
 * order. `parities`: the answers in that order, one bit each, least significant first. */

struct qn_cascade;        /* Corrects. */
struct qn_cascade_source; /* Answers. */

/* Copies the key. -QN_EINVAL for more than QN_CASCADE_MAX_BITS bits, -QN_ENOMEM. */
int qn_cascade_new(const struct qn_cascade_config *config, const struct qn_bits *key, struct qn_cascade **ret_cascade);
void qn_cascade_free(struct qn_cascade *cascade); /* Wipes. NULL is fine. */

/* Appends one message of questions, at most about QN_CASCADE_ASK_BYTES (answers never exceed it either); *ret_count = 0
 * when nothing can be asked before more answers come, or all is done. -QN_ENOMEM, -QN_ELIMIT: call again or give up. */
int qn_cascade_ask(struct qn_cascade *cascade, struct qn_buf *ranges, uint32_t *ret_count);
/* Applies the answers to the oldest message not yet answered. -QN_EPROTOCOL if none is open or the number or length is
 * wrong (nothing changes), or if the answers contradict each other: a bit that would have to be wrong twice (give up;
 * the key is of no use). False answers that do not contradict lead to a wrong key, which verification shows; none keeps
 * it asking for ever. -QN_ENOMEM: give up. */
int qn_cascade_tell(struct qn_cascade *cascade, const uint8_t *parities, size_t len, uint32_t count);
bool qn_cascade_is_done(const struct qn_cascade *cascade);

uint64_t qn_cascade_disclosed(const struct qn_cascade *cascade); /* Parities answered so far. */
uint64_t qn_cascade_corrected(const struct qn_cascade *cascade); /* Bits flipped so far. */
uint32_t qn_cascade_strips(const struct qn_cascade *cascade);
uint32_t qn_cascade_rounds(const struct qn_cascade *cascade); /* Sets of answers the strip that took most has had. */
int qn_cascade_key(const struct qn_cascade *cascade, struct qn_bits *ret_key); /* A copy of the key as it stands. */

int qn_cascade_source_new(const struct qn_cascade_config *config, const struct qn_bits *key,
                          struct qn_cascade_source **ret_source);
void qn_cascade_source_free(struct qn_cascade_source *source);
/* Answers a message: appends qn_bits_bytes(count) bytes. -QN_EPROTOCOL, nothing appended or counted, if it is
 * malformed, leaves the key, or does not hold exactly `count` questions; also when it would disclose more than a bit
 * per bit of every pass, which no honest corrector asks. Give up then: of parts it may remember half of that
 * message. */
int qn_cascade_answer(struct qn_cascade_source *source, const uint8_t *ranges, size_t len, uint32_t count,
                      struct qn_buf *parities);
uint64_t qn_cascade_source_disclosed(const struct qn_cascade_source *source);

#endif
