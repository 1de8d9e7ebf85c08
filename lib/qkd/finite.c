/* SPDX-License-Identifier: Apache-2.0 */
#include "qkd/finite.h"

#include <math.h>

#include "qkd/estimate.h"

/* Variables are named as in the papers: n and m are detections and errors, s0 and s1 those of vacuum and of single
 * photons, v1 the errors of single photons. */

static double total(const double *counts, unsigned n) {
    double sum = 0;
    for (unsigned k = 0; k < n; k++) sum += counts[k];
    return sum;
}

/* Hoeffding, Am. Stat. Assoc. J. 58, 13 (1963). The total stands in the root, not the count of one intensity. */
static double hoeffding(double n, double splits, double eps_sec) { return sqrt(n / 2 * log(splits / eps_sec)); }

/* Counts as if every pulse had intensity k: e^k / p_k (count + shift). */
static double scaled(const struct qn_decoy *source, unsigned k, double count, double shift) {
    return exp(source->mean[k]) / source->probability[k] * (count + shift);
}

/* Random sampling without replacement: how far the rate b among c may be from that among d. Lim eq. 5, after Fung, Ma
 * and Chau, PRA 81, 012318 (2010); Rusca takes it over with the 21 in it. At b = 0 the formula vanishes and proves
 * nothing: take b as one error at least. */
static double sampling(double eps_sec, double b, double c, double d) {
    if (b < 1 / c) b = 1 / c;
    if (b >= 0.5) return 0.5;
    double a = eps_sec / 21, spread = (c + d) / (c * d);
    return sqrt(spread * (1 - b) * b / M_LN2 * log2(spread / ((1 - b) * b * a * a)));
}

static bool is_source_valid(const struct qn_decoy *source) {
    const double *mean = source->mean, *p = source->probability;
    if (source->n != 2 && source->n != 3) return false;
    double sum = 0;
    for (unsigned k = 0; k < source->n; k++) {
        if (!(p[k] > 0 && p[k] <= 1) || !(mean[k] >= 0 && mean[k] <= 100)) return false;
        sum += p[k];
    }
    if (fabs(sum - 1) > 1e-6) return false;
    if (source->n == 2) return mean[0] > mean[1] && mean[1] > 0;
    return mean[0] > mean[1] + mean[2] && mean[1] > mean[2];
}

static bool are_terms_valid(const struct qn_finite_terms *terms) {
    return terms->eps_sec > 0 && terms->eps_sec < 1 && terms->eps_cor > 0 && terms->eps_cor < 1 &&
           terms->phase_limit >= 0;
}

struct singles {
    double s0, s0_most, s1;
};

/* Lim eq. 2 and 3. */
static struct singles two_decoys(const struct qn_decoy *source, const struct qn_finite *f, const double n[3],
                                 double delta) {
    const double *mean = source->mean, a = mean[0], b = mean[1], c = mean[2];
    struct singles ret = {0};
    double vacuum = f->tau0 / (b - c) * (b * scaled(source, 2, n[2], -delta) - c * scaled(source, 1, n[1], delta));
    ret.s0 = fmax(vacuum, 0);
    double lit = scaled(source, 1, n[1], -delta) - scaled(source, 2, n[2], delta) -
                 (b * b - c * c) / (a * a) * (scaled(source, 0, n[0], delta) - ret.s0 / f->tau0);
    ret.s1 = fmax(f->tau1 * a * lit / (a * (b - c) - b * b + c * c), 0);
    return ret;
}

/* Rusca eq. A19, A16 or A14, and A17. */
static struct singles one_decoy(const struct qn_decoy *source, const struct qn_finite *f, const double n[2],
                                const double m[2], bool by_intensity, double delta, double delta_error) {
    double a = source->mean[0], b = source->mean[1];
    struct singles ret = {0};
    double vacuum = f->tau0 / (a - b) * (a * scaled(source, 1, n[1], -delta) - b * scaled(source, 0, n[0], delta));
    ret.s0 = fmax(vacuum, 0);
    if (by_intensity) {
        double first = f->tau0 * scaled(source, 0, m[0], delta_error);
        double second = f->tau0 * scaled(source, 1, m[1], delta_error);
        ret.s0_most = 2 * (fmin(first, second) + delta);
    } else {
        ret.s0_most = 2 * (m[0] + m[1] + delta);
    }
    double ratio = b * b / (a * a);
    double lit =
        scaled(source, 1, n[1], -delta) - ratio * scaled(source, 0, n[0], delta) - (1 - ratio) * ret.s0_most / f->tau0;
    ret.s1 = fmax(f->tau1 * a / (b * (a - b)) * lit, 0);
    return ret;
}

/* Whatever the counts claim, the parts are no more than the whole. */
static struct singles within(struct singles singles, double n) {
    singles.s0 = fmin(singles.s0, n);
    singles.s1 = fmin(singles.s1, n - singles.s0);
    return singles;
}

/* Errors of single photons: of the two weaker intensities for two decoys (Lim eq. 4), of the two there are for one
 * (Rusca eq. A22). */
static double single_errors(const struct qn_decoy *source, const struct qn_finite *f, const double *m, double delta) {
    unsigned strong = source->n - 2, weak = source->n - 1;
    double lit = scaled(source, strong, m[strong], delta) - scaled(source, weak, m[weak], -delta);
    return fmax(f->tau1 / (source->mean[strong] - source->mean[weak]) * lit, 0);
}

static void conclude(struct qn_finite *f, double phase_limit) {
    f->single_bits = f->key_s1 * (1 - qn_binary_entropy(f->phi));
    f->exact = f->key_s0 + f->single_bits - f->leak - f->secrecy_bits - f->correctness_bits;
    if (phase_limit > 0 && f->phi > phase_limit) {
        f->verdict = QN_FINITE_PHASE_LIMIT;
    } else if (f->exact < 1) {
        f->verdict = QN_FINITE_TOO_SHORT;
    } else {
        f->verdict = QN_FINITE_KEY;
        f->length = (uint64_t)f->exact;
    }
}

static void decoy(const struct qn_decoy *source, const struct qn_decoy_means *counts, bool by_intensity,
                  const struct qn_finite_terms *terms, double leak, struct qn_finite *f) {
    *f = (struct qn_finite){.verdict = QN_FINITE_INVALID, .leak = leak};
    if (!is_source_valid(source) || !are_terms_valid(terms)) return;
    unsigned n = source->n;
    double splits = n == 3 ? 21 : 19, eps = terms->eps_sec;
    f->key_total = total(counts->key_n, n);
    f->test_total = total(counts->test_n, n);
    f->error_total = total(counts->test_m, n);
    f->key_error = f->key_total > 0 ? total(counts->key_m, n) / f->key_total : 0;
    f->secrecy_bits = 6 * log2(splits / eps);
    f->correctness_bits = log2(2 / terms->eps_cor);
    for (unsigned k = 0; k < n; k++) {
        double none = exp(-source->mean[k]) * source->probability[k];
        f->tau0 += none;
        f->tau1 += none * source->mean[k];
    }
    f->delta_key = hoeffding(f->key_total, splits, eps);
    f->delta_test = hoeffding(f->test_total, splits, eps);
    f->delta_error = hoeffding(f->error_total, splits, eps);
    f->verdict = QN_FINITE_NO_COUNTS;
    if (!(f->key_total > 0)) return;

    struct singles key, test;
    if (n == 3) {
        key = two_decoys(source, f, counts->key_n, f->delta_key);
        test = two_decoys(source, f, counts->test_n, f->delta_test);
    } else {
        double key_errors = hoeffding(total(counts->key_m, n), splits, eps);
        key = one_decoy(source, f, counts->key_n, counts->key_m, by_intensity, f->delta_key, key_errors);
        test = one_decoy(source, f, counts->test_n, counts->test_m, true, f->delta_test, f->delta_error);
    }
    key = within(key, f->key_total);
    test = within(test, f->test_total);
    f->key_s0 = key.s0;
    f->key_s0_most = key.s0_most;
    f->key_s1 = key.s1;
    f->test_s0 = test.s0;
    f->test_s0_most = test.s0_most;
    f->test_s1 = test.s1;
    f->verdict = QN_FINITE_NO_SINGLES;
    if (!(f->key_s1 > 0)) return;
    f->verdict = QN_FINITE_NO_TEST;
    if (!(f->test_s1 > 0)) return;
    f->test_v1 = single_errors(source, f, counts->test_m, f->delta_error);
    f->ratio = f->test_v1 / f->test_s1;
    f->verdict = QN_FINITE_ERRORS;
    if (f->ratio >= 0.5) return;
    f->gamma = sampling(eps, f->ratio, f->test_s1, f->key_s1);
    f->phi = f->ratio + f->gamma;
    if (f->phi >= 0.5) return;
    conclude(f, terms->phase_limit);
}

static struct qn_decoy_means means_of(const struct qn_decoy_counts *counts) {
    struct qn_decoy_means means;
    for (unsigned k = 0; k < QN_DECOYS_MAX; k++) {
        means.key_n[k] = (double)counts->key_n[k];
        means.key_m[k] = (double)counts->key_m[k];
        means.test_n[k] = (double)counts->test_n[k];
        means.test_m[k] = (double)counts->test_m[k];
    }
    return means;
}

/* No count of errors exceeds what they are errors of; a peer's counts may claim anything. */
static bool are_counts_valid(const struct qn_decoy *source, const struct qn_decoy_counts *counts, bool by_intensity) {
    uint64_t n = 0;
    for (unsigned k = 0; k < source->n && k < QN_DECOYS_MAX; k++) {
        if (counts->test_m[k] > counts->test_n[k] || (by_intensity && counts->key_m[k] > counts->key_n[k]))
            return false;
        if (counts->key_n[k] > UINT64_C(1) << 60 || counts->test_n[k] > UINT64_C(1) << 60) return false;
        n += counts->key_n[k];
    }
    return by_intensity || counts->key_m[0] <= n;
}

void qn_finite_decoy(const struct qn_decoy *source, const struct qn_decoy_counts *counts,
                     const struct qn_finite_terms *terms, struct qn_finite *ret) {
    *ret = (struct qn_finite){.verdict = QN_FINITE_INVALID};
    if (!are_counts_valid(source, counts, true)) return;
    struct qn_decoy_means means = means_of(counts);
    decoy(source, &means, true, terms, (double)terms->disclosed + (double)terms->extra, ret);
}

void qn_finite_decoy_total(const struct qn_decoy *source, const struct qn_decoy_counts *counts,
                           const struct qn_finite_terms *terms, struct qn_finite *ret) {
    *ret = (struct qn_finite){.verdict = QN_FINITE_INVALID};
    if (!are_counts_valid(source, counts, false)) return;
    struct qn_decoy_means means = means_of(counts);
    for (unsigned k = 1; k < QN_DECOYS_MAX; k++) means.key_m[k] = 0;
    decoy(source, &means, false, terms, (double)terms->disclosed + (double)terms->extra, ret);
}

void qn_finite_decoy_expected(const struct qn_decoy *source, const struct qn_decoy_means *counts,
                              const struct qn_finite_terms *terms, double leak, struct qn_finite *ret) {
    decoy(source, counts, true, terms, leak, ret);
}

void qn_finite_pairs(const struct qn_pair_counts *counts, const struct qn_finite_terms *terms, struct qn_finite *f) {
    *f = (struct qn_finite){.verdict = QN_FINITE_INVALID, .leak = (double)terms->disclosed + (double)terms->extra};
    if (!are_terms_valid(terms) || counts->errors > counts->sampled) return;
    double n = (double)counts->key, k = (double)counts->sampled;
    f->key_total = f->key_s1 = n;
    f->test_total = f->test_s1 = k;
    f->error_total = f->test_v1 = (double)counts->errors;
    f->secrecy_bits = 2 * log2(1 / terms->eps_sec);
    f->correctness_bits = log2(2 / terms->eps_cor);
    f->verdict = QN_FINITE_NO_COUNTS;
    if (counts->key == 0) return;
    f->verdict = QN_FINITE_NO_TEST;
    if (counts->sampled == 0) return;
    f->key_error = f->ratio = f->test_v1 / k;
    f->gamma = sqrt((n + k) * (k + 1) * log(4 / terms->eps_sec) / (n * k * k));
    f->phi = f->ratio + f->gamma;
    f->verdict = QN_FINITE_ERRORS;
    if (f->phi >= 0.5) return;
    conclude(f, terms->phase_limit);
}

/* ---- device-independent ---- */

static double bell_phi(double s) { /* chi = h(phi) */
    double square = s * s / 4 - 1;
    return !(square > 0) || s < 0 ? 0.5 : square >= 1 ? 0 : (1 - sqrt(square)) / 2;
}

double qn_bell_chi(double s) { return qn_binary_entropy(bell_phi(s)); }

static bool is_bell_valid(const struct qn_bell_counts *counts) {
    for (int i = 0; i < 4; i++)
        if (counts->trials[i] > UINT64_C(1) << 60 || counts->sums[i] > (int64_t)counts->trials[i] ||
            counts->sums[i] < -(int64_t)counts->trials[i])
            return false;
    return counts->key <= UINT64_C(1) << 60;
}

void qn_finite_device_independent(const struct qn_bell_counts *counts, const struct qn_finite_terms *terms,
                                  struct qn_finite *f) {
    *f = (struct qn_finite){.verdict = QN_FINITE_INVALID, .leak = (double)terms->disclosed + (double)terms->extra};
    if (!are_terms_valid(terms) || !is_bell_valid(counts)) return;
    double e = terms->eps_sec / 4, n = (double)counts->key, inverse = 0, smoothing = log2(2 / (e * e));
    f->key_total = f->key_s1 = n;
    f->error_total = (double)counts->errors;
    f->verdict = QN_FINITE_NO_COUNTS;
    if (n < 8.0 / 5 * smoothing) return;
    f->verdict = QN_FINITE_NO_TEST;
    for (int i = 0; i < 4; i++) {
        if (counts->trials[i] == 0) return;
        double trials = (double)counts->trials[i], mean = (double)counts->sums[i] / trials;
        f->test_total += trials;
        f->bell_s += i == 3 ? -mean : mean;
        inverse += 1 / trials;
    }
    f->test_s1 = f->test_total;
    f->bell_delta = sqrt(2 * log(1 / e) * inverse);
    f->secrecy_bits = 4 * log2(2 + sqrt(2)) * sqrt(n * smoothing) + 2 * log2(1 / (2 * e));
    f->correctness_bits = log2(2 / terms->eps_cor);
    f->verdict = QN_FINITE_NO_BELL;
    f->phi = bell_phi(f->bell_s - f->bell_delta);
    if (f->phi >= 0.5) return;
    conclude(f, terms->phase_limit);
}

const char *qn_finite_verdict_name(enum qn_finite_verdict verdict) {
    static const char *const names[] = {
        [QN_FINITE_KEY] = "key",
        [QN_FINITE_INVALID] = "invalid",
        [QN_FINITE_NO_COUNTS] = "no_counts",
        [QN_FINITE_NO_TEST] = "no_test",
        [QN_FINITE_NO_SINGLES] = "no_singles",
        [QN_FINITE_ERRORS] = "errors",
        [QN_FINITE_PHASE_LIMIT] = "phase_limit",
        [QN_FINITE_TOO_SHORT] = "too_short",
        [QN_FINITE_NO_BELL] = "no_bell",
    };
    return (unsigned)verdict < sizeof names / sizeof *names ? names[verdict] : "?";
}

int qn_finite_explain(const struct qn_finite *f, struct qn_buf *out) {
    switch (f->verdict) {
    case QN_FINITE_KEY:
        return qn_buf_printf(out,
                             "%.0f vacuum + %.0f single-photon detections x (1 - h(%.4f)) - %.0f disclosed - %.0f for "
                             "the epsilons = %llu bits",
                             f->key_s0, f->key_s1, f->phi, f->leak, f->secrecy_bits + f->correctness_bits,
                             (unsigned long long)f->length);
    case QN_FINITE_NO_BELL:
        return qn_buf_printf(out,
                             "S = %.4f of %.0f pairs, which may be too high by %.4f: it must exceed 2 without that",
                             f->bell_s, f->test_total, f->bell_delta);
    case QN_FINITE_INVALID:
        return qn_buf_printf(out,
                             "the intensities, probabilities, epsilons or counts are outside what the proof covers");
    case QN_FINITE_NO_COUNTS:
        return qn_buf_printf(out, "no detections in the key basis");
    case QN_FINITE_NO_SINGLES:
        return qn_buf_printf(out,
                             "none of the %.0f detections in the key basis provably came from a single photon: s1 <= 0 "
                             "with fluctuations of +-%.0f",
                             f->key_total, f->delta_key);
    case QN_FINITE_NO_TEST:
        return qn_buf_printf(
            out,
            "none of the %.0f detections in the test basis provably came from a single photon: s1 <= 0 "
            "with fluctuations of +-%.0f",
            f->test_total, f->delta_test);
    case QN_FINITE_ERRORS:
        return qn_buf_printf(out,
                             "single photons may be wrong in half of the cases: v1/s1 = %.0f/%.0f = %.4f, gamma %.4f, "
                             "from %.0f errors in %.0f tests",
                             f->test_v1, f->test_s1, f->ratio, f->gamma, f->error_total, f->test_total);
    case QN_FINITE_PHASE_LIMIT:
        return qn_buf_printf(
            out, "the phase error rate may be %.4f (%.4f observed and %.4f of fluctuations), above the limit", f->phi,
            f->ratio, f->gamma);
    case QN_FINITE_TOO_SHORT:
        return qn_buf_printf(
            out,
            "%.0f vacuum + %.0f single-photon detections x (1 - h(%.4f)) are worth %.0f bits, and %.0f "
            "disclosed + %.0f for the epsilons cost more",
            f->key_s0, f->key_s1, f->phi, f->key_s0 + f->single_bits, f->leak, f->secrecy_bits + f->correctness_bits);
    }
    return 0;
}
