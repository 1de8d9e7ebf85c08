/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QNETBENCH_BENCH_H
#define QNETBENCH_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What every benchmark gets: how long a measurement may take, and where its rows go. */
struct bench {
    double seconds; /* About how long one row measures. */
    bool json;
    const char *directory; /* Ours alone, removed at the end; also the XDG_RUNTIME_DIR of the labs. */
    const char *qnetctl;   /* Its path. */
    char error[600];       /* Why the last call failed. */
};

/* 0, or -1 with bench->error. */
int bench_fail(struct bench *bench, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Prints one row at once. `cpu`: who used how much of a processor meanwhile, or "". `note`: what bounds the value. */
void bench_row(const struct bench *bench, const char *name, double value, const char *unit, const char *cpu,
               const char *note);

double bench_now_s(void);       /* Monotonic. */
double bench_processor_s(void); /* Of this process. */

struct samples {
    double *at; /* Owned. */
    size_t n, cap;
};
void samples_add(struct samples *samples, double value);    /* Aborts without memory. */
double samples_quantile(struct samples *samples, double q); /* Sorts; NaN if there are none. */
void samples_release(struct samples *samples);

/* Runs `once` until bench->seconds of this process have passed; calls a second of processor time. `step` calls are made
 * between two looks at the clock. */
double bench_rate(const struct bench *bench, void (*once)(void *context), void *context, unsigned step);

/* Each prints its rows. 0, or -1 with bench->error. */
int bench_echo(struct bench *bench);
int bench_start(struct bench *bench);
int bench_pairs(struct bench *bench);
int bench_chain(struct bench *bench);
int bench_teleport(struct bench *bench);
int bench_remote(struct bench *bench);
int bench_bb84(struct bench *bench);
int bench_qkd(struct bench *bench);
int bench_qkd_links(struct bench *bench);
int bench_store(struct bench *bench);
int bench_sim(struct bench *bench);
int bench_engine(struct bench *bench);
int bench_photons(struct bench *bench);
int bench_reconcile(struct bench *bench);
int bench_amplify(struct bench *bench);
int bench_mac(struct bench *bench);
int bench_noise(struct bench *bench);

#endif
