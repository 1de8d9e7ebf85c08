/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/csprng.h"
#include "base/err.h"
#include "base/map.h"
#include "base/rate.h"
#include "base/rng.h"
#include "base/timer.h"

Test(err, names_match_their_numbers) {
    cr_assert_str_eq(qn_err_name(-QN_ENO_ROUTE), "no_route");
    cr_assert_str_eq(qn_err_name(QN_ENO_KEY), "no_key");
    cr_assert_str_eq(qn_err_name(12345), "error");
#define X(name, number, what, todo) cr_assert_eq(strcasecmp(qn_err_name(number), #name), 0, "%s", #name);
    QN_ERRORS(X)
#undef X
}

Test(buf, refuses_more_than_its_limit) {
    struct qn_buf buf = {.limit = 8};
    cr_assert_eq(qn_buf_append(&buf, "12345678", 8), 0);
    cr_assert_eq(qn_buf_append(&buf, "9", 1), -QN_ELIMIT);
    qn_buf_consume(&buf, 6);
    cr_assert_eq(buf.len, 2);
    cr_assert_eq(buf.data[0], '7');
    qn_buf_release(&buf);
}

Test(map, behaves_as_an_array_would) {
    struct qn_map map = {0};
    static void *expected[512];
    struct qn_rng rng;
    qn_rng_init(&rng, 7, "map", 0);
    for (int step = 0; step < 200000; step++) {
        uint64_t key = qn_rng_below(&rng, 512);
        if (qn_rng_below(&rng, 2) == 0) {
            void *value = &expected[qn_rng_below(&rng, 512)];
            cr_assert_eq(qn_map_put(&map, key, value), 0);
            expected[key] = value;
        } else {
            cr_assert_eq(qn_map_remove(&map, key), expected[key]);
            expected[key] = NULL;
        }
    }
    size_t count = 0, i = 0;
    for (uint64_t key = 0; key < 512; key++) cr_assert_eq(qn_map_get(&map, key), expected[key]);
    for (uint64_t key; qn_map_next(&map, &i, &key, NULL);) count += expected[key] != NULL;
    cr_assert_eq(count, map.len);
    qn_map_release(&map);
}

Test(timer, fires_in_order_of_time_then_of_setting) {
    struct qn_timers timers = {0};
    struct qn_timer t[100] = {0};
    struct qn_rng rng;
    qn_rng_init(&rng, 3, "timer", 0);
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < 100; i++) cr_assert_eq(qn_timers_set(&timers, &t[i], qn_rng_below(&rng, 20)), 0);
    qn_timers_clear(&timers, &t[5]);
    cr_assert_null(qn_timers_pop(&timers, 0) == &t[5] ? &t[5] : NULL);
    uint64_t last = 0, order = 0;
    int n = 1;
    for (struct qn_timer *timer; (timer = qn_timers_pop(&timers, 100)) != NULL; n++) {
        cr_assert(timer->due_ns > last || (timer->due_ns == last && timer->order >= order));
        last = timer->due_ns;
        order = timer->order;
    }
    cr_assert_geq(n, 98);
    cr_assert_eq(qn_timers_next(&timers), QN_NEVER);
    qn_timers_release(&timers);
}

static void expect_moments(const char *what, double mean, double var, double want_mean, double want_var, double n) {
    cr_assert(fabs(mean - want_mean) < 5 * sqrt(want_var / n), "%s (seed 11): mean %g, expected %g", what, mean,
              want_mean);
    cr_assert(fabs(var / want_var - 1) < 0.05, "%s (seed 11): variance %g, expected %g", what, var, want_var);
}

#define MOMENTS(what, draw, want_mean, want_var)                                                                       \
    do {                                                                                                               \
        double sum = 0, square = 0;                                                                                    \
        const int n = 200000;                                                                                          \
        for (int i = 0; i < n; i++) {                                                                                  \
            double x = (double)(draw);                                                                                 \
            sum += x;                                                                                                  \
            square += x * x;                                                                                           \
        }                                                                                                              \
        expect_moments(what, sum / n, square / n - sum / n * (sum / n), want_mean, want_var, n);                       \
    } while (0)

Test(rng, draws_have_the_right_mean_and_variance) {
    struct qn_rng rng;
    qn_rng_init(&rng, 11, "moments", 0);
    MOMENTS("uniform", qn_rng_double(&rng), 0.5, 1.0 / 12);
    MOMENTS("normal", qn_rng_normal(&rng), 0, 1);
    MOMENTS("exponential", qn_rng_exponential(&rng), 1, 1);
    MOMENTS("geometric", qn_rng_geometric(&rng, 0.02), 50, 0.98 / 0.0004);
    MOMENTS("poisson", qn_rng_poisson(&rng, 3.5), 3.5, 3.5);
    MOMENTS("binomial, few", qn_rng_binomial(&rng, 1000, 0.002), 2, 2 * 0.998);
    MOMENTS("binomial, many", qn_rng_binomial(&rng, 1000, 0.3), 300, 210);
    MOMENTS("binomial, most", qn_rng_binomial(&rng, 5000, 0.9), 4500, 450);
}

Test(rng, streams_differ_by_purpose_and_index) {
    struct qn_rng a, b, c, again;
    qn_rng_init(&a, 1, "x", 0);
    qn_rng_init(&b, 1, "y", 0);
    qn_rng_init(&c, 1, "x", 1);
    qn_rng_init(&again, 1, "x", 0);
    uint64_t first = qn_rng_u64(&a);
    cr_assert_neq(first, qn_rng_u64(&b));
    cr_assert_neq(first, qn_rng_u64(&c));
    cr_assert_eq(first, qn_rng_u64(&again));
}

Test(csprng, gives_the_same_bytes_whatever_the_pieces) {
    uint8_t key[32] = {1, 2, 3}, whole[300], pieces[300];
    struct qn_csprng rng;
    qn_csprng_init(&rng, key);
    qn_csprng_bytes(&rng, whole, sizeof whole);
    qn_csprng_init(&rng, key);
    for (size_t at = 0, n = 1; at<sizeof pieces; at += n, n = n * 2> sizeof pieces - at ? sizeof pieces - at : n * 2)
        qn_csprng_bytes(&rng, pieces + at, n > sizeof pieces - at ? sizeof pieces - at : n);
    cr_assert_arr_eq(whole, pieces, sizeof whole);
    qn_csprng_release(&rng);
}

/* ---- rate ---- */

#define SECOND_NS UINT64_C(1000000000)

static void make_rate(struct qn_rate *rate, double per_second, unsigned burst) {
    static const uint8_t key[16] = {1, 2, 3};
    qn_rate_init(rate, per_second, burst, key);
}

static unsigned take_all(struct qn_rate *rate, uint64_t source, uint64_t now_ns) {
    unsigned n = 0;
    while (n < 1000 && qn_rate_take(rate, source, now_ns)) n++;
    return n;
}

Test(rate, gives_a_burst_and_then_its_rate) {
    static struct qn_rate rate;
    make_rate(&rate, 20, 5);
    uint64_t now_ns = 7 * SECOND_NS;
    cr_assert_eq(take_all(&rate, 1, now_ns), 5);
    cr_assert_eq(take_all(&rate, 2, now_ns), 5, "another source has its own");
    cr_assert_eq(take_all(&rate, 1, now_ns + SECOND_NS / 20 - 1), 0);
    cr_assert_eq(take_all(&rate, 1, now_ns + SECOND_NS / 20), 1);
    unsigned n = 0;
    for (uint64_t t_ns = SECOND_NS; t_ns <= 11 * SECOND_NS; t_ns += SECOND_NS / 1000)
        n += qn_rate_take(&rate, 2, now_ns + t_ns);
    cr_assert_eq(n, 5 + 10 * 20);
    cr_assert_eq(take_all(&rate, 1, now_ns + 1000 * SECOND_NS), 5, "no more is saved than the bucket holds");
}

Test(rate, zero_is_no_limit) {
    static struct qn_rate rate;
    make_rate(&rate, 0, 5);
    cr_assert_eq(take_all(&rate, 1, 0), 1000);
}

/* A hundred thousand sources with a token each must not give the one that has used all its own a fresh bucket cheaply:
 * its bucket is the emptiest of its set. */
Test(rate, a_crowd_does_not_wash_an_empty_bucket_away) {
    static struct qn_rate rate;
    make_rate(&rate, 20, 5);
    cr_assert_eq(take_all(&rate, 0, SECOND_NS), 5);
    for (uint64_t source = 1; source < 100000; source++) cr_assert(qn_rate_take(&rate, source, SECOND_NS));
    cr_assert_eq(take_all(&rate, 0, SECOND_NS), 0);
}
