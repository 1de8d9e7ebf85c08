/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_TESTS_CHAOS_CANARIES_H
#define QN_TESTS_CHAOS_CANARIES_H

enum { CANARIES = 16 };
void canary_choose(int number); /* 0: none. Does nothing in a build without them. */

#endif
