/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QKD_AMPLIFY_WITH_H
#define QN_QKD_AMPLIFY_WITH_H

#include "qkd/amplify.h"
#include "qkd/gf2.h"

/* qn_amplify with chosen inner loops, so that tests can compare them all. */
int qn_amplify_with(const struct qn_gf2 *gf2, const struct qn_bits *key, const uint8_t seed[QN_AMPLIFY_SEED_BYTES],
                    size_t bits, struct qn_bits *ret_key);

#endif
