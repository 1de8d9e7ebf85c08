/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QKD_CASCADE_WITH_H
#define QN_QKD_CASCADE_WITH_H

#include "qkd/cascade.h"

/* For tests: qn_cascade_new, to do without the instructions this machine may have. */
int qn_cascade_new_with(const struct qn_cascade_config *config, const struct qn_bits *key, bool portable,
                        struct qn_cascade **ret_cascade);

#endif
