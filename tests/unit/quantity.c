/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers with units. */
#include "topology_support.h"

/* ---- Quantities ---- */

Test(quantity, reads_units_exactly) {
    static const struct {
        const char *text;
        enum qn_dimension dimension;
        double value;
    } good[] = {
        {"20km", QN_DIM_LENGTH_KM, 20},
        {"20 km", QN_DIM_LENGTH_KM, 20},
        {"100m", QN_DIM_LENGTH_KM, 0.1},
        {"0", QN_DIM_LENGTH_KM, 0},
        {"0.00", QN_DIM_TIME_S, 0},
        {"0km", QN_DIM_LENGTH_KM, 0},
        {"100ns", QN_DIM_TIME_S, 1e-7},
        {"3us", QN_DIM_TIME_S, 3e-6},
        {"7ms", QN_DIM_TIME_S, 7e-3},
        {"1.5e3s", QN_DIM_TIME_S, 1500},
        {"1E-3s", QN_DIM_TIME_S, 1e-3},
        {"1e+3ns", QN_DIM_TIME_S, 1e-6},
        {"2.5GHz", QN_DIM_FREQUENCY_HZ, 2.5e9},
        {"1kHz", QN_DIM_FREQUENCY_HZ, 1000},
        {"10Hz", QN_DIM_FREQUENCY_HZ, 10},
        {"100MHz", QN_DIM_FREQUENCY_HZ, 1e8},
        {"3dB", QN_DIM_LOSS_DB, 3},
        {"0.2dB/km", QN_DIM_LOSS_DB_KM, 0.2},
        {"200000km/s", QN_DIM_SPEED_KM_S, 2e5},
        {"1%", QN_DIM_FRACTION, 0.01},
        {"7%", QN_DIM_FRACTION, 0.07},
        {"0.25", QN_DIM_FRACTION, 0.25},
        {"100%", QN_DIM_FRACTION, 1},
        {"-2.5", QN_DIM_NONE, -2.5},
        {"3", QN_DIM_NONE, 3},
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        double value = -1;
        const char *why = NULL;
        cr_expect_eq(qn_quantity_parse(good[i].text, good[i].dimension, &value, &why), 0, "%s: %s", good[i].text, why);
        cr_expect(same_number(value, good[i].value), "%s: %.17g", good[i].text, value);
    }
}

Test(quantity, says_why_not) {
    static const struct {
        const char *text;
        enum qn_dimension dimension;
        const char *why;
    } wrong[] = {
        {"20", QN_DIM_LENGTH_KM, "has no unit; valid: a length in km or m, such as 20km"},
        {"20s", QN_DIM_LENGTH_KM, "has an unknown unit; valid: a length in km or m, such as 20km"},
        {"", QN_DIM_TIME_S, "is not a number; valid: a time in s, ms, us or ns, such as 10ms"},
        {"km", QN_DIM_LENGTH_KM, "is not a number"},
        {".5km", QN_DIM_LENGTH_KM, "is not a number"},
        {"5.km", QN_DIM_LENGTH_KM, "is not a number"},
        {"+5km", QN_DIM_LENGTH_KM, "is not a number"},
        {"0x10km", QN_DIM_LENGTH_KM, "has an unknown unit"},
        {"1,5km", QN_DIM_LENGTH_KM, "has an unknown unit"},
        {"nan", QN_DIM_NONE, "is not a number"},
        {"inf", QN_DIM_NONE, "is not a number"},
        {"-0", QN_DIM_NONE, "is a negative zero"},
        {"-0.0e5km", QN_DIM_LENGTH_KM, "is a negative zero"},
        {"-1km", QN_DIM_LENGTH_KM, "is negative"},
        {"1e19", QN_DIM_NONE, "is too large"},
        {"1e400", QN_DIM_NONE, "is too large"},
        {"-1e400", QN_DIM_NONE, "is too large"},
        {"1e-31", QN_DIM_NONE, "is too small"},
        {"1e-400km", QN_DIM_LENGTH_KM, "is too small"},
        {"101%", QN_DIM_FRACTION, "is too large; valid: a fraction from 0 to 1"},
        {"1.0001", QN_DIM_FRACTION, "is too large"},
        {"5dB", QN_DIM_LOSS_DB_KM, "has an unknown unit; valid: a loss in dB/km"},
        {"11111111111111111111111111111111111111111km", QN_DIM_LENGTH_KM, "is not a number"},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        double value = -1;
        const char *why = NULL;
        cr_expect_eq(qn_quantity_parse(wrong[i].text, wrong[i].dimension, &value, &why), -QN_EPARSE, "%s",
                     wrong[i].text);
        cr_expect(why != NULL && strncmp(why, wrong[i].why, strlen(wrong[i].why)) == 0, "%s: %s", wrong[i].text, why);
        cr_expect_eq(value, -1);
    }
}
