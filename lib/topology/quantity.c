/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "topology/internal.h"

#define DIGITS_MAX 40  /* Of a number before its exponent. */
#define VALUE_MAX 1e18 /* Beyond these no number here means anything, and none in between is denormal. */
#define VALUE_MIN 1e-30

static const struct dimension dimensions[] = {
    [QN_DIM_NONE] = {{{"", 0}, {NULL, 0}}, false},
    [QN_DIM_LENGTH_KM] = {{{"km", 0}, {"m", -3}, {NULL, 0}}, true},
    [QN_DIM_TIME_S] = {{{"s", 0}, {"ms", -3}, {"us", -6}, {"ns", -9}, {NULL, 0}}, true},
    [QN_DIM_FREQUENCY_HZ] = {{{"GHz", 9}, {"MHz", 6}, {"kHz", 3}, {"Hz", 0}, {NULL, 0}}, true},
    [QN_DIM_LOSS_DB] = {{{"dB", 0}, {NULL, 0}}, true},
    [QN_DIM_LOSS_DB_KM] = {{{"dB/km", 0}, {NULL, 0}}, true},
    [QN_DIM_SPEED_KM_S] = {{{"km/s", 0}, {NULL, 0}}, true},
    [QN_DIM_FRACTION] = {{{"", 0}, {"%", -2}, {NULL, 0}}, false},
    [QN_DIM_ANGLE_RAD] = {{{"rad", 0}, {"mrad", -3}, {"urad", -6}, {NULL, 0}}, true},
};

const struct dimension *dimension_of(enum qn_dimension dimension) { return &dimensions[dimension]; }

#define WHYS(form)                                                                                                     \
    {                                                                                                                  \
        [QUANTITY_NOT_A_NUMBER] = "is not a number; valid: " form,                                                     \
        [QUANTITY_NEGATIVE_ZERO] = "is a negative zero; valid: " form,                                                 \
        [QUANTITY_NEGATIVE] = "is negative; valid: " form, [QUANTITY_TOO_LARGE] = "is too large; valid: " form,        \
        [QUANTITY_TOO_SMALL] = "is too small to tell from 0; valid: " form,                                            \
        [QUANTITY_NO_UNIT] = "has no unit; valid: " form,                                                              \
        [QUANTITY_UNKNOWN_UNIT] = "has an unknown unit; valid: " form,                                                 \
    }

static const char *const whys[][QUANTITY_UNKNOWN_UNIT + 1] = {
    [QN_DIM_NONE] = WHYS("a number without unit"),
    [QN_DIM_LENGTH_KM] = WHYS("a length in km or m, such as 20km"),
    [QN_DIM_TIME_S] = WHYS("a time in s, ms, us or ns, such as 10ms"),
    [QN_DIM_FREQUENCY_HZ] = WHYS("a frequency in Hz, kHz, MHz or GHz, such as 1MHz"),
    [QN_DIM_LOSS_DB] = WHYS("a loss in dB, such as 3dB"),
    [QN_DIM_LOSS_DB_KM] = WHYS("a loss in dB/km, such as 0.2dB/km"),
    [QN_DIM_SPEED_KM_S] = WHYS("a speed in km/s, such as 200000km/s"),
    [QN_DIM_FRACTION] = WHYS("a fraction from 0 to 1, such as 0.01 or 1%"),
    [QN_DIM_ANGLE_RAD] = WHYS("an angle in rad, mrad or urad, such as 10urad"),
};

const char *quantity_why(enum quantity_fault fault, enum qn_dimension dimension) { return whys[dimension][fault]; }

/* Numbers have a point in every country: the process's locale must not decide how a file reads. */
static locale_t plain_locale(void) { return newlocale(LC_ALL_MASK, "C", (locale_t)0); }

static double text_to_double(const char *text) {
    locale_t locale = plain_locale();
    double value = locale == (locale_t)0 ? strtod(text, NULL) : strtod_l(text, NULL, locale);
    if (locale != (locale_t)0) freelocale(locale);
    return value;
}

static const char *skip_digits(const char *at) {
    while (isdigit((unsigned char)*at)) at++;
    return at;
}

/* Splits "-1.5e3 km" into mantissa, exponent and unit. False if it does not start with a number. */
static bool number_split(const char *text, size_t *ret_mantissa, long *ret_exponent, const char **ret_unit) {
    const char *digits = text + (*text == '-');
    const char *at = skip_digits(digits);
    if (at == digits) return false;
    if (*at == '.') {
        const char *decimals = at + 1;
        at = skip_digits(decimals);
        if (at == decimals) return false;
    }
    *ret_mantissa = (size_t)(at - text);
    *ret_exponent = 0;
    if (*at == 'e' || *at == 'E') {
        const char *sign = at + 1, *power = sign + (*sign == '-' || *sign == '+');
        const char *end = skip_digits(power);
        if (end == power || end - power > 4) return false;
        *ret_exponent = strtol(sign, NULL, 10);
        at = end;
    }
    while (*at == ' ') at++;
    *ret_unit = at;
    return true;
}

static bool has_digit_but_zero(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++)
        if (text[i] >= '1' && text[i] <= '9') return true;
    return false;
}

enum quantity_fault quantity_read(const char *text, enum qn_dimension dimension, int shift, double *ret_value,
                                  const char **ret_unit) {
    const struct dimension *dim = &dimensions[dimension];
    size_t len = 0;
    long exponent = 0;
    const char *unit_text = NULL;
    if (!number_split(text, &len, &exponent, &unit_text) || len > DIGITS_MAX) return QUANTITY_NOT_A_NUMBER;

    bool is_zero = !has_digit_but_zero(text, len);
    if (is_zero && *text == '-') return QUANTITY_NEGATIVE_ZERO;
    const struct unit *unit = dim->units;
    while (unit->name != NULL && strcmp(unit->name, unit_text) != 0) unit++;
    if (unit->name == NULL) {
        if (*unit_text != '\0') {
            *ret_unit = unit_text;
            return QUANTITY_UNKNOWN_UNIT;
        }
        if (!is_zero) return QUANTITY_NO_UNIT;
        unit = dim->units; /* 0 is the same in every unit. */
    }
    if (*text == '-' && dimension != QN_DIM_NONE) return QUANTITY_NEGATIVE;
    if (is_zero) {
        *ret_value = 0;
        return QUANTITY_OK;
    }
    char exact[DIGITS_MAX + 32];
    snprintf(exact, sizeof(exact), "%.*se%ld", (int)len, text, exponent + unit->exponent + shift);
    double value = text_to_double(exact);
    if (!(fabs(value) <= VALUE_MAX)) return QUANTITY_TOO_LARGE;
    if (fabs(value) < VALUE_MIN) return QUANTITY_TOO_SMALL;
    if (dimension == QN_DIM_FRACTION && value > 1) return QUANTITY_TOO_LARGE;
    *ret_value = value;
    return QUANTITY_OK;
}

int qn_quantity_parse(const char *text, enum qn_dimension dimension, double *ret_value, const char **ret_why) {
    double value = 0;
    const char *unit = NULL;
    enum quantity_fault fault = quantity_read(text, dimension, 0, &value, &unit);
    if (fault != QUANTITY_OK) {
        *ret_why = quantity_why(fault, dimension);
        return -QN_EPARSE;
    }
    *ret_value = value;
    return 0;
}

/* The fewest digits that read back as `value`: d.ddd x 10^exponent. Returns how many. */
static int shortest_digits(double value, char digits[DBL_DECIMAL_DIG + 1], int *ret_exponent) {
    char text[40];
    locale_t locale = plain_locale(), old = (locale_t)0;
    if (locale != (locale_t)0) old = uselocale(locale);
    for (int n = 1; n <= DBL_DECIMAL_DIG; n++) {
        snprintf(text, sizeof(text), "%.*e", n - 1, value);
        if (text_to_double(text) == value) break; /* True at 17 digits at the latest. */
    }
    if (locale != (locale_t)0) {
        uselocale(old);
        freelocale(locale);
    }
    int len = 0;
    const char *at = text;
    for (; *at != 'e'; at++)
        if (isdigit((unsigned char)*at)) digits[len++] = *at;
    digits[len] = '\0';
    *ret_exponent = atoi(at + 1);
    return len;
}

struct quantity_text quantity_write(double value, enum qn_dimension dimension, int shift) {
    const struct unit *unit = dimensions[dimension].units;
    struct quantity_text text;
    if (value == 0) {
        while (unit->exponent != 0) unit++;
        snprintf(text.s, sizeof(text.s), "0%s", unit->name);
        return text;
    }
    char digits[DBL_DECIMAL_DIG + 1];
    int exponent = 0;
    int len = shortest_digits(fabs(value), digits, &exponent);
    exponent -= shift;
    /* The largest unit in which the number is at least 1. A fraction is not written in per cent. */
    while (exponent < unit->exponent && unit[1].name != NULL && dimension != QN_DIM_FRACTION) unit++;
    exponent -= unit->exponent;
    const char *sign = value < 0 ? "-" : "";
    if (exponent >= 0 && exponent < 16) { /* 1234.5 or 12000 */
        int whole = exponent + 1 < len ? exponent + 1 : len;
        snprintf(text.s, sizeof(text.s), "%s%.*s%.*s%s%s%s", sign, whole, digits, exponent + 1 - whole,
                 "0000000000000000", whole < len ? "." : "", digits + whole, unit->name);
    } else if (exponent < 0 && exponent >= -4) { /* 0.012 */
        snprintf(text.s, sizeof(text.s), "%s0.%.*s%s%s", sign, -exponent - 1, "000", digits, unit->name);
    } else {
        snprintf(text.s, sizeof(text.s), "%s%c%s%se%d%s", sign, digits[0], len > 1 ? "." : "", digits + 1, exponent,
                 unit->name);
    }
    return text;
}
