/* SPDX-License-Identifier: Apache-2.0 */
#include "angle.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool angle_parse(const char *text, double *ret_radians) {
    const char *at;
    char *end;
    double sign = 1, value;
    if (*text == '-' || *text == '+') sign = *text++ == '-' ? -1 : 1;
    if (strncmp(text, "pi", 2) == 0) {
        value = 1;
        at = text;
    } else {
        if (!(*text >= '0' && *text <= '9') && *text != '.') return false; /* strtod would take "inf" and "0x". */
        if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) return false;
        value = strtod(text, &end);
        at = end;
    }
    if (strcmp(at, "deg") == 0) {
        value *= M_PI / 180;
        at += 3;
    } else if (strncmp(at, "pi", 2) == 0) {
        value *= M_PI;
        at += 2;
        if (*at == '/' && at[1] >= '1' && at[1] <= '9') {
            value /= strtod(at + 1, &end);
            at = end;
        }
    }
    if (*at != '\0' || !isfinite(value)) return false;
    *ret_radians = sign * value;
    return true;
}

bool axis_parse(const char *text, double ret_axis[3]) {
    double sign = 1;
    if (*text == '-' || *text == '+') sign = *text++ == '-' ? -1 : 1;
    if (*text < 'x' || *text > 'z' || text[1] != '\0') return false;
    ret_axis[0] = ret_axis[1] = ret_axis[2] = 0;
    ret_axis[*text - 'x'] = sign;
    return true;
}
