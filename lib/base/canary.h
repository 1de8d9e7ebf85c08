/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_BASE_CANARY_H
#define QN_BASE_CANARY_H

#include <stdbool.h>

/* Bugs put in on purpose. In an ordinary build QN_CANARY is the constant false, and nothing of them is left; a build with
 * QN_CANARIES has the one that `qn_canary` names, and the tests must find it (tests/chaos/README.md lists them). */
#ifdef QN_CANARIES
extern int qn_canary; /* 0: none. */
#define QN_CANARY(number) (qn_canary == (number))
#else
#define QN_CANARY(number) false
#endif

#endif
