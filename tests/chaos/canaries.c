/* SPDX-License-Identifier: Apache-2.0 */
/* The seeded bugs of a build with QN_CANARIES: each must be found, by a run that passes without it. */
#include "canaries.h"

#include "base/canary.h"

#ifdef QN_CANARIES
int qn_canary;

void canary_choose(int number) { qn_canary = number; }
#else
void canary_choose(int number) { (void)number; }
#endif
