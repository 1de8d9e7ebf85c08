/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_TEST_PLANE_SUPPORT_H
#define QN_TEST_PLANE_SUPPORT_H

/* Operations on the quantum plane, for its tests. */

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../support/plane_cluster.h"
#include "base/err.h"
#include "link/link.h"

#define OP(name) QNET__V1__OP_KIND__OP_KIND_##name
#define HALF_PI 1.57079632679489661923

static inline void werner(double fidelity, double ret_tensor[16]) {
    double w = (4 * fidelity - 1) / 3;
    for (size_t i = 0; i < 16; i++) ret_tensor[i] = 0;
    ret_tensor[0] = 1;
    ret_tensor[5] = ret_tensor[15] = w;
    ret_tensor[10] = -w;
}

/* Fidelity with (I x X^(bell >> 1) Z^(bell & 1)) Phi+. */
static inline double fidelity(const double t[16], uint32_t bell) {
    double x = (bell & 1) != 0 ? -1 : 1, z = (bell & 2) != 0 ? -1 : 1;
    return (1 + x * t[5] - x * z * t[10] + z * t[15]) / 4;
}

static inline struct qn_plane_op single(enum _Qnet__V1__OpKind kind, qn_qubit q, uint64_t tag) {
    return (struct qn_plane_op){.kind = kind, .qubits = {q}, .n_qubits = 1, .tag = tag};
}

static inline struct qn_plane_op joint(enum _Qnet__V1__OpKind kind, qn_qubit a, qn_qubit b, uint64_t tag) {
    return (struct qn_plane_op){.kind = kind, .qubits = {a, b}, .n_qubits = 2, .tag = tag};
}

static inline struct qn_plane_op measure(qn_qubit q, double x, double y, double z, uint64_t tag) {
    return (struct qn_plane_op){
        .kind = OP(MEASURE), .qubits = {q}, .n_qubits = 1, .args = {x, y, z}, .n_args = 3, .tag = tag};
}

static inline uint64_t pick(struct plane_cluster *c, uint64_t n) { return qn_rng_below(&c->rng, n); }

#endif
