/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QKD_CASCADE_PUBLISHED_H
#define QN_QKD_CASCADE_PUBLISHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "qkd/bits.h"
#include "qkd/cascade_plan.h"

/* Strips of the published variants, corrected in the order of cascade-cpp (Rijsman, 2020), whose figures they are
 * compared with; private to lib/qkd. It discloses 1 to 16 % more than searching the smallest blocks first, because
 *
 * - an error found makes the blocks around it in all other passes candidates at once, and they are searched side by
 *   side, though two may hold the same error and one search then ends with nothing (1 to 4 %; 10 % where there are many
 *   small blocks and the rest are halves of the strip);
 * - a block that is found odd again while it is searched is searched once more, with the same questions (0.3 to 1 %; to
 *   11 % in option 8);
 * - searches start from whole blocks, not from what earlier ones left of them.
 *
 * BICONF asks both a random half and the rest. What it corrects has no effect on passes. */
struct published;

int published_new(const struct plan *plan, const struct qn_bits *key, struct published **ret_published);
void published_free(struct published *published); /* Wipes. NULL is fine. */

/* What `strip` wants to know: questions; bytes that they take at most; their record (see cascade.h). None if done. */
uint32_t published_count(const struct published *published, uint32_t strip);
size_t published_bytes(const struct published *published, uint32_t strip);
size_t published_write(const struct published *published, uint32_t strip, uint8_t *out);
/* The answers to these, bits from `at` on. -QN_EPROTOCOL if they contradict others, -QN_ENOMEM: give up. */
int published_tell(struct published *published, uint32_t strip, const uint8_t *answers, uint32_t at);

bool published_is_done(const struct published *published, uint32_t strip);
uint64_t published_corrected(const struct published *published);
uint32_t published_rounds(const struct published *published, uint32_t strip);  /* Sets of answers it has had. */
int published_key(const struct published *published, struct qn_bits *ret_key); /* A copy as it stands. -QN_ENOMEM. */

#endif
