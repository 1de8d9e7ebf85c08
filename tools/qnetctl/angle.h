/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QNETCTL_ANGLE_H
#define QNETCTL_ANGLE_H

#include <stdbool.h>

/* "90deg", "1.5708", "pi/2", "-0.25pi", "2pi/3": radians unless it says deg. False if it is none of these. */
bool angle_parse(const char *text, double *ret_radians);
#define ANGLE_VALID "radians (1.57), degrees (90deg) or parts of pi (pi/2, 0.25pi)"

/* "x", "y", "z", with a sign in front. False if it is no axis. */
bool axis_parse(const char *text, double ret_axis[3]);

#endif
