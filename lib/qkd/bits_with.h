/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QKD_BITS_WITH_H
#define QN_QKD_BITS_WITH_H

#include "qkd/bits.h"

/* For tests: qn_bits_append_where without the instructions this machine may have. */
int qn_bits_append_where_with(struct qn_bits *bits, const struct qn_bits *from, const struct qn_bits *mask, bool value,
                              bool portable);

#endif
