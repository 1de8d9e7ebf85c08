/* SPDX-License-Identifier: Apache-2.0 */
#include "randomness.h"

#include <math.h>
#include <stdio.h>

double randomness_monobit(const struct qn_bits *bits) {
    double n = (double)bits->len, sum = 2 * (double)qn_bits_count(bits) - n;
    return erfc(fabs(sum) / sqrt(2 * n));
}

/* How many of the first `count` bits differ from the one `lag` later. */
static size_t changes(const struct qn_bits *bits, size_t lag, size_t count) {
    size_t sum = 0;
    for (size_t i = 0; i < count; i += 64) {
        uint64_t word = qn_bits_word(bits, i) ^ qn_bits_word(bits, i + lag);
        if (count - i < 64) word &= (1ull << (count - i)) - 1;
        sum += (size_t)__builtin_popcountll(word);
    }
    return sum;
}

double randomness_runs(const struct qn_bits *bits) {
    double n = (double)bits->len, ones = (double)qn_bits_count(bits) / n;
    if (fabs(ones - 0.5) >= 2 / sqrt(n)) return NAN;
    double runs = 1 + (double)changes(bits, 1, bits->len - 1), expected = 2 * n * ones * (1 - ones);
    return erfc(fabs(runs - expected) / (2 * sqrt(2 * n) * ones * (1 - ones)));
}

double randomness_autocorrelation(const struct qn_bits *bits, size_t lag) {
    size_t count = bits->len - lag;
    double z = 2 * ((double)changes(bits, lag, count) - (double)count / 2) / sqrt((double)count);
    return erfc(fabs(z) / sqrt(2));
}

static bool report(const char *test, size_t lag, double p, double threshold, char why[100]) {
    if (p >= threshold) return true;
    snprintf(why, 100, "%s (%zu): p = %g", test, lag, p);
    return false;
}

bool randomness_passes(const struct qn_bits *bits, double threshold, char why[100]) {
    static const size_t lags[] = {100, 127, 128, 255, 256, 512};
    if (bits->len < 1000) return report("length", bits->len, 0, threshold, why);
    if (!report("monobit", 1, randomness_monobit(bits), threshold, why)) return false;
    double runs = randomness_runs(bits);
    if (!isnan(runs) && !report("runs", 1, runs, threshold, why)) return false;
    for (size_t lag = 1; lag <= 64; lag++)
        if (!report("autocorrelation", lag, randomness_autocorrelation(bits, lag), threshold, why)) return false;
    for (size_t i = 0; i < sizeof lags / sizeof lags[0]; i++)
        if (!report("autocorrelation", lags[i], randomness_autocorrelation(bits, lags[i]), threshold, why))
            return false;
    return true;
}
