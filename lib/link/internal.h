/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_LINK_INTERNAL_H
#define QN_LINK_INTERNAL_H

#include <math.h>

/* -x log2 x, continued to x = 0 (and below, where rounding leaves a weight just under it). */
static inline double entropy_term(double x) { return x > 0 ? -x * log2(x) : 0; }
static inline double entropy_of_bit(double x) { return entropy_term(x) + entropy_term(1 - x); }

#endif
