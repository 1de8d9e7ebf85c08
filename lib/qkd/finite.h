/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QKD_FINITE_H
#define QN_QKD_FINITE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

/* The length of a secret key from the counts of one block, composable, with every bound on the way, so that a user can
 * be shown in numbers why a block gave no key. Pure; all epsilons in (0, 1).
 *
 *   two decoys   three intensities a > b > c >= 0 with a > b + c: Lim, Curty, Walenta, Xu and Zbinden, PRA 89, 022307
 *                (2014); eps_sec is split in 21.
 *   one decoy    two intensities a > b > 0: Rusca, Boaron, Gruenenfelder, Martin and Zbinden, APL 112, 171104 (2018);
 *                eps_sec is split in 19.
 *   pairs, single photons: Tomamichel, Lim, Gisin and Renner, Nat. Commun. 3, 634 (2012); a random sample compared.
 *   pairs, device-independent: Acin, Brunner, Gisin, Massar, Pironio and Scarani, PRL 98, 230501 (2007), against
 *                collective attacks; finite by the asymptotic equipartition property.
 *
 * But for that last one they hold against general attacks. The key comes from one basis, from all intensities; the
 * other basis is the test, all of whose errors are disclosed. The result is (eps_cor + eps_sec)-secure; over a session
 * the blocks' epsilons add. */

enum { QN_DECOYS_MAX = 3 };

struct qn_decoy {                      /* What the source does. */
    unsigned n;                        /* Intensities: 2 (one decoy) or 3 (two decoys), strongest first. */
    double mean[QN_DECOYS_MAX];        /* Mean photon number of a pulse. */
    double probability[QN_DECOYS_MAX]; /* Of choosing it, the same in both bases; they sum to 1. */
};

struct qn_decoy_counts {           /* Of one block, sifted: both ends chose the same basis. In the order of qn_decoy. */
    uint64_t key_n[QN_DECOYS_MAX]; /* Detections in the key basis. Their sum is the length of the sifted key. */
    uint64_t key_m[QN_DECOYS_MAX]; /* Errors among them, known once reconciled. One decoy uses them for its bound of
                                    * the vacuum; two decoys only to report the error rate. */
    uint64_t test_n[QN_DECOYS_MAX]; /* Detections in the test basis. */
    uint64_t test_m[QN_DECOYS_MAX]; /* Errors among them. */
};

struct qn_finite_terms { /* What a key has to pay. */
    double eps_sec;      /* Secrecy. */
    double eps_cor;      /* Correctness: bought with a verification tag of ceil(log2(1/eps_cor)) bits, whose
                          * disclosure the formulas already contain. */
    double phase_limit;  /* No key above this phase error rate; 0 or 1/2: only where there is none anyhow. */
    uint64_t disclosed;  /* lambda_EC: bits told in error correction. */
    uint64_t extra;      /* Further bits told, e.g. of a tag longer than ceil(log2(1/eps_cor)). */
};

enum qn_finite_verdict {
    QN_FINITE_KEY,         /* `length` bits of key, at least 1. */
    QN_FINITE_INVALID,     /* The source's settings or the epsilons are outside what the proof covers. */
    QN_FINITE_NO_COUNTS,   /* Nothing was detected in the key basis. */
    QN_FINITE_NO_TEST,     /* s1 of the test basis <= 0: too few detections in it to say anything. */
    QN_FINITE_NO_SINGLES,  /* s1 of the key basis <= 0: no detection provably came from one photon. */
    QN_FINITE_ERRORS,      /* v1/s1 >= 1/2, or phi >= 1/2: single photons may have been at random. */
    QN_FINITE_PHASE_LIMIT, /* phi above phase_limit. */
    QN_FINITE_TOO_SHORT,   /* Errors and epsilons cost more than the singles are worth. */
    QN_FINITE_NO_BELL,     /* S may be 2 or less: the outcomes may have been written down before. */
};

/* Names as in the papers; "key" and "test" stand for X and Z of Lim, and for Z and X of Rusca. A bound that could not
 * be computed because one before it failed is 0. Lower bounds are clamped at 0. */
struct qn_finite {
    enum qn_finite_verdict verdict;
    uint64_t length; /* ell; 0 unless the verdict is QN_FINITE_KEY. */
    double exact;    /* ell before rounding down; may be negative. 0 if it was not reached. */

    double key_total, test_total, error_total; /* n_key, n_test, errors in the test basis. */
    double tau0, tau1;                         /* Chance that a pulse has no photon, one photon. */
    double delta_key, delta_test, delta_error; /* Hoeffding: sqrt(n/2 ln(split/eps_sec)). */
    double key_s0, test_s0;                    /* Detections of vacuum, at least. */
    double key_s0_most, test_s0_most;          /* At most; one decoy only. */
    double key_s1, test_s1;                    /* Detections of single photons, at least. */
    double test_v1;                            /* Errors of single photons in the test basis, at most. */
    double ratio;                              /* test_v1 / test_s1; pairs: errors / sample. */
    double gamma;                              /* Random sampling without replacement; pairs: mu. */
    double phi;                                /* Phase error rate of key_s1: ratio + gamma. */
    double bell_s, bell_delta;                 /* Device-independent: S as observed, and its fluctuation. */
    double key_error;                          /* Observed error rate of the key basis; for reports. */
    double single_bits;                        /* key_s1 (1 - h(phi)). */
    double leak;                               /* disclosed + extra. */
    double secrecy_bits;                       /* 6 log2(split/eps_sec); pairs: 2 log2(1/eps_sec). */
    double correctness_bits;                   /* log2(2/eps_cor). */
};

/* One or two decoys by `source->n`. */
void qn_finite_decoy(const struct qn_decoy *source, const struct qn_decoy_counts *counts,
                     const struct qn_finite_terms *terms, struct qn_finite *ret);
/* As one decoy, when only the total of the errors in the key basis is known, not by intensity: s0 at most is then
 * 2 (m + delta) (A14), a little looser. key_m[0] is that total. */
void qn_finite_decoy_total(const struct qn_decoy *source, const struct qn_decoy_counts *counts,
                           const struct qn_finite_terms *terms, struct qn_finite *ret);

/* True single photons or entangled pairs, perfect and active choice of basis at the measurement. `key` bits remain
 * after `sampled` bits were compared, `errors` of which differed:
 *   ell = floor( key [1 - h(errors/sampled + mu)] - disclosed - extra - log2(2 / (eps_sec^2 eps_cor)) )
 *   mu  = sqrt( (key + sampled)(sampled + 1) ln(4/eps_sec) / (key sampled^2) )
 * with the smoothing eps_sec/4, the safe side of the several ways in which this theorem is written. The sample may be
 * all of the test basis (bases symmetric), or drawn at random over both. */
struct qn_pair_counts {
    uint64_t key, sampled, errors;
};
void qn_finite_pairs(const struct qn_pair_counts *counts, const struct qn_finite_terms *terms, struct qn_finite *ret);

/* Device-independent: nothing is assumed of what the devices do, only that they do the same to each pair, without
 * memory, and that nothing leaks (collective attacks). Chance of a pair to be a test of Bell's inequality (CHSH) is the
 * user's; correlation i of `trials` pairs summed to `sums`, and S = E0 + E1 + E2 - E3. The key is what the end whose
 * two settings are those of the test measured with the first of them: ell = floor( key [1 - chi(S - delta)] - 4 log2(2
 * + sqrt 2) sqrt(key log2(2/e^2)) - disclosed - extra
 *                - 2 log2(1/(2 e)) - log2(2/eps_cor) ),   e = eps_sec/4
 *   chi(S) = h( [1 + sqrt((S/2)^2 - 1)] / 2 )            Acin et al. (2007); Pironio et al., New J. Phys. 11, 045021
 *   delta  = sqrt( 2 ln(1/e) sum_i 1/trials_i )          Hoeffding, J. Am. Stat. Assoc. 58, 13 (1963)
 * The second term: Tomamichel, Colbeck and Renner, IEEE Trans. Inf. Theory 55, 5840 (2009), with smoothing e, and
 * key >= 8/5 log2(2/e^2). eps_sec = e (S) + 2 e (smoothing) + e (hashing). Key from some 50,000 pairs on; general
 * attacks (entropy accumulation) would need several times more, and are not here. `phi` is the number whose h is chi.
 */
struct qn_bell_counts {
    uint64_t key, errors, trials[4]; /* errors: of the test basis, for reports. */
    int64_t sums[4];                 /* Outcomes that agree less those that do not. */
};
void qn_finite_device_independent(const struct qn_bell_counts *counts, const struct qn_finite_terms *terms,
                                  struct qn_finite *ret);
double qn_bell_chi(double s); /* What Eve may know of an outcome, bits; 1 for S of 2 or less, 0 from 2 sqrt 2 on. */

const char *qn_finite_verdict_name(enum qn_finite_verdict verdict); /* "key", "no_singles", ... */
/* One sentence with the numbers: which bound failed, or what the key is made of. Appends; -QN_ENOMEM. */
int qn_finite_explain(const struct qn_finite *result, struct qn_buf *out);

/* The same bounds for expected counts, which need not be whole numbers (plan.c, tests). */
struct qn_decoy_means {
    double key_n[QN_DECOYS_MAX], key_m[QN_DECOYS_MAX], test_n[QN_DECOYS_MAX], test_m[QN_DECOYS_MAX];
};
/* `leak` in bits stands for disclosed + extra. */
void qn_finite_decoy_expected(const struct qn_decoy *source, const struct qn_decoy_means *counts,
                              const struct qn_finite_terms *terms, double leak, struct qn_finite *ret);

#endif
