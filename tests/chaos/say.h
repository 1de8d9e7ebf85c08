/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_TESTS_CHAOS_SAY_H
#define QN_TESTS_CHAOS_SAY_H

#include <stddef.h>
#include <stdint.h>

struct qn_plane;
void say_envelope(const uint8_t *bytes,
                  size_t len);                /* On one line of standard output, unless it is for somebody else. */
void say_plane(const struct qn_plane *plane); /* To standard error: for whoever looks for the cause of a failure. */

#endif
