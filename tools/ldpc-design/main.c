/* SPDX-License-Identifier: Apache-2.0 */
/* Finds degrees of columns for lib/qkd/ldpc_code.c: usage: ldpc-design ROWS [TRIALS [SEED]], ROWS in thousandths of the
 * columns. Prints, whenever it finds something better, the line for the table there and the error rate up to which the
 * decoder of lib/qkd/ldpc_decode.c would decode endlessly long codes of it.
 *
 * That is density evolution (Richardson and Urbanke, IEEE Trans. Inf. Theory 47, 599, 2001) of the very 8-bit messages
 * the decoder passes, but for the order (all rows at once instead of one after the other) and without what is taken off
 * for two least bits alike, which only helps row by row: exact distributions, no sampling. The search is a random walk.
 * A thousand trials take five minutes. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "qkd/estimate.h"

enum { PARTS = 5, MOST = 127, CLIP = 31, SUMS = 255, MAX_DEGREE = 40, ITERATIONS = 200 };

static const double CHAIN = 1.45; /* Columns of degree 2 per row: more would close short cycles. */

struct ensemble {
    int degree[PARTS];           /* The first is 2. */
    double columns[PARTS], rows; /* Parts of all columns; rows per column. */
    int channel, slope;
};

/* Probabilities of values -MOST .. MOST, and of sums before they are clipped. */
struct density {
    double at[2 * MOST + 1];
};
struct sums {
    double at[2 * SUMS + 1];
    int low, high; /* Where they are not zero. */
};

static double edges_of(const struct ensemble *e) {
    double sum = 0;
    for (int i = 0; i < PARTS; i++) sum += e->columns[i] * e->degree[i];
    return sum;
}

/* What checks say: the least worth of the other bits, scaled. Rows have two degrees, as even as can be. */
static void checks(const struct ensemble *e, const struct density *in, struct density *out) {
    double width = edges_of(e) / e->rows, whole = floor(width), more = width - whole;
    double few = (1 - more) * whole / width, many = more * (whole + 1) / width; /* Of edges. */
    double bias = 0;
    for (int t = 1; t <= MOST; t++) bias += in->at[MOST + t] - in->at[MOST - t];
    double failing = (1 - pow(bias, width)) / 2;
    int scale = (int)(32 - 2 * e->slope * failing + 0.5);
    if (scale < 6) scale = 6;

    double any = 0, sign = 0, plus_before = 0, minus_before = 0, total = 0;
    memset(out, 0, sizeof *out);
    for (int t = MOST; t >= 1; t--) {
        any += in->at[MOST + t] + in->at[MOST - t];
        sign += in->at[MOST + t] - in->at[MOST - t];
        double all = few * pow(any, whole - 1) + many * pow(any, whole);
        double even = few * pow(sign, whole - 1) + many * pow(sign, whole);
        double plus = (all + even) / 2, minus = (all - even) / 2;
        int said = ((t < CLIP ? t : CLIP) * scale + 16) / 32;
        out->at[MOST + said] += plus - plus_before;
        out->at[MOST - said] += minus - minus_before;
        total += plus - plus_before + minus - minus_before;
        plus_before = plus;
        minus_before = minus;
    }
    out->at[MOST] += 1 - total;
}

static void add_message(struct sums *sums, const struct density *message) {
    struct sums next = {.low = sums->low - CLIP, .high = sums->high + CLIP};
    if (next.low < 0) next.low = 0;
    if (next.high > 2 * SUMS) next.high = 2 * SUMS;
    for (int v = sums->low; v <= sums->high; v++) {
        for (int m = -CLIP; m <= CLIP; m++) {
            int to = v + m < 0 ? 0 : v + m > 2 * SUMS ? 2 * SUMS : v + m;
            next.at[to] += sums->at[v] * message->at[MOST + m];
        }
    }
    *sums = next;
}

/* What bits say to checks. */
static void bits(const struct ensemble *e, double qber, const struct density *message, struct density *out) {
    struct sums sums = {.low = SUMS - e->channel, .high = SUMS + e->channel};
    sums.at[SUMS + e->channel] = 1 - qber;
    sums.at[SUMS - e->channel] = qber;
    memset(out, 0, sizeof *out);
    double edges = edges_of(e);
    for (int degree = 1; degree <= MAX_DEGREE; degree++) {
        for (int i = 0; i < PARTS; i++) {
            double part = e->degree[i] == degree ? e->columns[i] * degree / edges : 0;
            for (int v = sums.low; v <= sums.high && part > 0; v++) {
                int value = v - SUMS < -MOST ? -MOST : v - SUMS > MOST ? MOST : v - SUMS;
                out->at[MOST + value] += part * sums.at[v];
            }
        }
        add_message(&sums, message);
    }
}

static bool decodes(const struct ensemble *e, double qber) {
    struct density said = {{0}}, heard;
    said.at[MOST + e->channel] = 1 - qber;
    said.at[MOST - e->channel] = qber;
    double before = 1;
    int stuck = 0;
    for (int n = 0; n < ITERATIONS && stuck < 5; n++) {
        checks(e, &said, &heard);
        bits(e, qber, &heard, &said);
        double wrong = said.at[MOST] / 2;
        for (int v = 0; v < MOST; v++) wrong += said.at[v];
        if (wrong < 1e-6) return true;
        stuck = wrong > before * 0.9995 ? stuck + 1 : 0;
        before = wrong;
    }
    return false;
}

/* The error rate at which Shannon's limit is `rows`. */
static double limit_of(double rows) {
    double low = 1e-6, high = 0.5;
    while (high - low > 1e-8) *(qn_binary_entropy((low + high) / 2) < rows ? &low : &high) = (low + high) / 2;
    return low;
}

static double threshold(const struct ensemble *e, double low, double high) {
    if (!decodes(e, low)) return 0;
    while (high - low > 0.002 * low) *(decodes(e, (low + high) / 2) ? &low : &high) = (low + high) / 2;
    return low;
}

static int within(int value, int low, int high) { return value < low ? low : value > high ? high : value; }
static int step(struct qn_rng *rng, int most) { return (int)qn_rng_below(rng, 2 * (uint64_t)most + 1) - most; }

static struct ensemble vary(struct ensemble e, struct qn_rng *rng) {
    switch (qn_rng_below(rng, 4)) {
    case 0:
        e.channel = within(e.channel + step(rng, 1), 7, 12);
        break;
    case 1:
        e.slope = within(e.slope + step(rng, 2), 12, 40);
        break;
    case 2: {
        size_t i = 2 + qn_rng_below(rng, PARTS - 2);
        e.degree[i] = within(e.degree[i] + step(rng, 3), 4, MAX_DEGREE);
        break;
    }
    default:
        for (int i = 0; i < PARTS; i++) e.columns[i] *= exp(0.6 * (qn_rng_double(rng) - 0.5));
    }
    if (e.columns[0] > CHAIN * e.rows) e.columns[0] = CHAIN * e.rows; /* They are a chain of the rows, with chords. */
    double sum = 0;
    for (int i = 1; i < PARTS; i++) sum += e.columns[i];
    for (int i = 1; i < PARTS; i++) e.columns[i] *= (1 - e.columns[0]) / sum;
    return e;
}

static void print(const struct ensemble *e, double qber) {
    printf("{%.0f, %d, %d, ..., {", 1000 * e->rows, e->channel, e->slope);
    for (int i = 0; i < PARTS; i++) printf("%s{%d, %.0f}", i > 0 ? ", " : "", e->degree[i], 1000 * e->columns[i]);
    printf("}}  up to %.3f %%, f = %.4f, %.2f edges a column\n", 100 * qber, e->rows / qn_binary_entropy(qber),
           edges_of(e));
    fflush(stdout);
}

int main(int argc, char **argv) {
    double rows = argc > 1 ? strtod(argv[1], NULL) / 1000 : 0;
    if (!(rows >= 0.01 && rows <= 0.9)) {
        fprintf(stderr, "usage: ldpc-design ROWS [TRIALS [SEED]]   rows per thousand columns, 10 to 900\n");
        return 2;
    }
    unsigned long trials = argc > 2 ? strtoul(argv[2], NULL, 10) : 1000;
    struct qn_rng rng;
    qn_rng_init(&rng, argc > 3 ? strtoull(argv[3], NULL, 10) : 1, "ldpc-design", 0);
    struct ensemble best = {.degree = {2, 3, 7, 20, 30}, .columns = {CHAIN * rows, 0.5, 0.2, 0.13, 0.03}, .rows = rows};
    best.channel = 9;
    best.slope = 26;
    double reached = 0, limit = limit_of(rows);
    for (unsigned long n = 0; n <= trials; n++) {
        struct ensemble next = vary(best, &rng);
        double least = reached > 0 ? 1.0015 * reached : 0.3 * limit;
        double found = least < limit ? threshold(&next, least, limit) : 0;
        if (found <= reached) continue;
        best = next;
        reached = found;
        print(&best, reached);
    }
    return 0;
}
