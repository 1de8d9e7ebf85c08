/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_TEST_RANDOMNESS_H
#define QN_TEST_RANDOMNESS_H

#include <stdbool.h>
#include <stddef.h>

#include "qkd/bits.h"

/* Does a key look random? A smoke test, no more: it finds a constant, a repetition, a forgotten step. Each gives the
 * p-value: the probability of something at least as odd from a perfect source. */
double randomness_monobit(const struct qn_bits *bits); /* NIST SP 800-22, 2.1 */
double randomness_runs(const struct qn_bits *bits);    /* 2.3; NaN when ones and zeros differ by over 4 sigma */
/* Menezes, van Oorschot, Vanstone, Handbook of Applied Cryptography, 5.4.4 (v); 0 < lag < length. */
double randomness_autocorrelation(const struct qn_bits *bits, size_t lag);

/* All of them, lags 1 to 64 and some longer ones, against p < threshold (1e-9 lets one honest key in ten million fail).
 * False: `why` says which, and p. Needs at least 1000 bits. */
bool randomness_passes(const struct qn_bits *bits, double threshold, char why[100]);

#endif
