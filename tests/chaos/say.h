/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_TESTS_CHAOS_SAY_H
#define QN_TESTS_CHAOS_SAY_H

struct qn_plane;
void say_plane(const struct qn_plane *plane); /* To standard error: for whoever looks for the cause of a failure. */

#endif
