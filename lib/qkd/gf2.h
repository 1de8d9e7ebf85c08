/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QKD_GF2_H
#define QN_QKD_GF2_H

#include <stddef.h>
#include <stdint.h>

/* Arithmetic of polynomials over GF(2), the inner loops of hashing and amplification; private to lib/qkd. Words are
 * least significant coefficient first. Every set gives the same results, and none branches on data. */
struct qn_gf2 {
    const char *name;
    void (*multiply)(uint64_t a, uint64_t b, uint64_t ret_product[2]);
    /* to[i] = a[i] ^ b[i]; `to` may be `a` or `b`. */
    void (*add)(uint64_t *to, const uint64_t *a, const uint64_t *b, size_t words);
    /* Words s .. 2s - 1 of the product x t, where x has s words and t has 2s; s is a multiple of 8, at most
     * QN_GF2_BLOCK. */
    void (*middle)(uint64_t *to, const uint64_t *t, const uint64_t *x, size_t s);
};

enum { QN_GF2_BLOCK = 32, QN_GF2_GRAIN = 8 };

const struct qn_gf2 *qn_gf2_best(void); /* What this machine does fastest. */
/* All sets this machine can run, for tests; the portable one first. NULL past the end. */
const struct qn_gf2 *qn_gf2_at(size_t index);

#endif
