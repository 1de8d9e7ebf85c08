/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QKD_ESTIMATE_H
#define QN_QKD_ESTIMATE_H

#include <stddef.h>
#include <stdint.h>

/* From error counts to the length of a secret key. All epsilons are probabilities in (0, 1). */

double qn_binary_entropy(double x); /* h(x), bits; 0 outside (0, 1). */

/* Upper bound, wrong with probability at most epsilon, on the probability of independent errors (Clopper and Pearson,
 * Biometrika 26, 404, 1934). 1 if nothing was sampled. For reports and the first guess of reconciliation. */
double qn_qber_upper(uint64_t sampled, uint64_t errors, double epsilon);
/* Upper bound on the error rate of the `remaining` bits that were not compared, when the sample was drawn at random
 * among both; no independence assumed: Q + sqrt((n + k)(k + 1) ln(1/epsilon) / (n k k)) for k sampled and n remaining
 * bits, at most 1 (Serfling, Ann. Stat. 2, 39, 1974, as used by Tomamichel, Lim, Gisin and Renner, Nat. Commun. 3, 634,
 * 2012). Wrong with probability at most epsilon squared, which makes epsilon the smoothing parameter of their theorem.
 * This is the one a secret length needs. */
double qn_qber_upper_rest(uint64_t sampled, uint64_t errors, uint64_t remaining, double epsilon);

struct qn_secret {
    uint64_t bits;      /* n: reconciled bits, the sample already taken out. */
    double error_upper; /* e: bound on the error rate of those bits; qn_qber_upper_rest. */
    uint64_t disclosed; /* Parities told during reconciliation. */
    uint64_t tag_bits;  /* Verification tag sent in the clear. */
    double epsilon;     /* Distance from a perfect key that amplification may leave. */
    /* Fraction of the detected bits whose pulse may have held two photons or more: P(n >= 2) / gain. 0 for
     * a true single-photon source. */
    double tagged;
};

/* Secret bits after amplification, 0 if none:
 *     floor( n (1-t) [1 - h(e/(1-t))] - disclosed - tag_bits - 2 log2(1/epsilon) )
 * With t = 0 this is Shor and Preskill (PRL 85, 441, 2000) with finite-size terms: phase errors bounded by those of
 * a random sample over both bases (Tomamichel et al. 2012), and the leftover hash lemma (Renner, Int. J. Quantum Inf.
 * 6, 1, 2008) for the last term. With t > 0 the tagged bits are given up entirely and all errors are put on the others
 * (Gottesman, Lo, Luetkenhaus and Preskill, Quantum Inf. Comput. 4, 325, 2004; GLLP). For a weak coherent source, t = 0
 * ignores photon-number splitting: the result is then no security claim. GLLP is sound but wasteful; decoy states,
 * which bound t from data, are not here. `tagged` is taken as exact: no statistics on it. */
uint64_t qn_secret_length(const struct qn_secret *secret);

#endif
