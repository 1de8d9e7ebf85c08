/* SPDX-License-Identifier: Apache-2.0 */
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "bench.h"

int bench_fail(struct bench *bench, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(bench->error, sizeof bench->error, format, args);
    va_end(args);
    return -1;
}

/* Four digits, thousands apart from each other: 1234567 is 1 235 000. */
static void print_value(char *out, size_t size, double value) {
    if (!(fabs(value) >= 1000)) {
        snprintf(out, size, "%.4g", value);
        return;
    }
    double grain = pow(10, floor(log10(fabs(value))) - 3);
    char digits[48];
    int len = snprintf(digits, sizeof digits, "%.0f", round(value / grain) * grain);
    size_t to = 0;
    for (int i = 0; i < len && to + 2 < size; i++) {
        if (i > 0 && (len - i) % 3 == 0) out[to++] = ' ';
        out[to++] = digits[i];
    }
    out[to] = '\0';
}

void bench_row(const struct bench *bench, const char *name, double value, const char *unit, const char *cpu,
               const char *note) {
    static bool has_head;
    char text[64];
    if (bench->json) {
        json_t *row =
            json_pack("{s:s,s:f,s:s,s:s,s:s}", "name", name, "value", value, "unit", unit, "cpu", cpu, "note", note);
        if (row == NULL) abort();
        json_dumpf(row, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(row);
    } else {
        if (!has_head) printf("%-24s %14s %-10s %-36s %s\n", "NAME", "VALUE", "UNIT", "PROCESSOR TIME", "BOUND BY");
        has_head = true;
        print_value(text, sizeof text, value);
        printf("%-24s %14s %-10s %-36s %s\n", name, text, unit, cpu, note);
    }
    fflush(stdout);
}

double bench_now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void samples_add(struct samples *samples, double value) {
    if (samples->n == samples->cap) {
        samples->cap = samples->cap == 0 ? 1024 : samples->cap * 2;
        samples->at = realloc(samples->at, samples->cap * sizeof *samples->at);
        if (samples->at == NULL) abort();
    }
    samples->at[samples->n++] = value;
}

static int compare(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

double samples_quantile(struct samples *samples, double q) {
    if (samples->n == 0) return (double)NAN;
    qsort(samples->at, samples->n, sizeof *samples->at, compare);
    return samples->at[(size_t)(q * (double)(samples->n - 1) + 0.5)];
}

void samples_release(struct samples *samples) {
    free(samples->at);
    *samples = (struct samples){0};
}

double bench_processor_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

double bench_rate(const struct bench *bench, void (*once)(void *context), void *context, unsigned step) {
    uint64_t calls = 0;
    double start = bench_processor_s(), took;
    do {
        for (unsigned i = 0; i < step; i++) once(context);
        calls += step;
        took = bench_processor_s() - start;
    } while (took < bench->seconds);
    return (double)calls / took;
}
