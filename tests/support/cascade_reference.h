/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_TEST_CASCADE_REFERENCE_H
#define QN_TEST_CASCADE_REFERENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/rng.h"
#include "qkd/cascade.h"

/* Cascade as cascade-cpp (Rijsman, 2020, https://github.com/brunorijsman/cascade-cpp) has it, whose study published f
 * and frame error rates of the variants with its names. Slow, plain and written apart from lib/qkd, from which it takes
 * the names of the variants only. Both keys are in it: it works on their difference.
 *
 * - An iteration shuffles the key (the first does not), cuts it into blocks, and asks the parities of all of them, the
 *   last, too. A block of odd parity is halved, the left part the smaller; if the left part is even the right one is
 *   odd, which need not be asked.
 * - What can be asked without an answer is asked in one message. An error found makes the blocks around it in all other
 *   iterations candidates, at once: they are searched with whatever else is, though they may hold the same error.
 * - A search starts from a whole block, in option 4, too, and follows parities that are known. Each block asked counts,
 *   even if the same message has it twice.
 * - BICONF, as the published figures have it: a random half of the key and the rest are blocks, both are asked and
 *   searched. What is corrected there has no effect on earlier iterations. Ends when ten in a row corrected nothing. */
struct cascade_reference {
    uint64_t asked, again; /* Parities; those of them that were asked before and not yet answered. */
    uint64_t messages;     /* Round trips. */
    uint64_t iterations;   /* All that were begun. */
    uint32_t left;         /* Errors that stay. */
};

/* A key of `bits`, at least 2, with `n_errors` different errors at places errors[]; `qber` is the estimate that block
 * sizes are made of. Bit i of iteration n is bit orders[n][i] of the key; orders that are not given are drawn. */
void cascade_reference_run(enum qn_cascade_variant variant, uint32_t bits, const uint32_t *errors, uint32_t n_errors,
                           double qber, const uint16_t *const orders[16], struct qn_rng *rng,
                           struct cascade_reference *ret_result);

#endif
