/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_TESTS_FAILING_HEAP_H
#define QN_TESTS_FAILING_HEAP_H

#include <stdbool.h>
#include <stddef.h>

/* A heap one allocation of which fails, once. It stands before the C library's for all code that is linked into the
 * program (linker option --wrap; the test's meson.build has it), not for shared libraries. One thread only. */

void failing_heap_arm(unsigned long n); /* The n-th allocation from now fails, from 1; 0: none. */
bool failing_heap_disarm(void);         /* Has one failed since? */
long failing_heap_live(void);           /* Blocks allocated and not freed. */
unsigned long failing_heap_count(void); /* Allocations so far. */

#endif
