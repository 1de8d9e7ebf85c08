/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_LINK_CHOICES_H
#define QN_LINK_CHOICES_H

#include "link/source.h"

enum { CHOICE_BASIS_STEPS = 32768 };

/* The 32 bits of one pulse: intensity in the upper 16, basis in the next 15, bit in the lowest. Private to lib/link. */
static inline uint8_t choice_basis(const struct qn_source *source, uint32_t word) {
    return (uint8_t)((word & 0xffff) >> 1 < source->test_below);
}

static inline unsigned choice_intensity(const struct qn_source *source, uint32_t word) {
    unsigned k = 0;
    for (unsigned i = 1; i < source->n; i++) k += word >> 16 >= source->above[i];
    return k;
}

#endif
