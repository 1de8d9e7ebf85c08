/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "sim/internal.h"

#define SLACK 1e-9 /* Callers compute their numbers too. */

const double qn_bell_sign[4][3] = {{1, -1, 1}, {-1, 1, 1}, {1, 1, -1}, {-1, -1, -1}};

_Static_assert((2 << QN_STATE_MAX) <= (1 << (2 * QN_STATE_TENSOR)), "room for both forms");

struct qn_state *qn_state_alloc(size_t n, bool trajectory) {
    /* A trajectory may become a tensor of QN_STATE_TENSOR qubits in place; 2 * 2^QN_STATE_MAX numbers are no more. */
    size_t len = tensor_size(trajectory ? QN_STATE_TENSOR : n);
    struct qn_state *state = malloc(sizeof *state + len * sizeof state->data[0]);
    if (state == NULL) return NULL;
    state->n = n;
    state->trajectory = trajectory;
    return state;
}

int qn_state_new_zero(size_t n, struct qn_state **ret_state) {
    if (n == 0 || n > QN_STATE_MAX) return -QN_EINVAL;
    struct qn_state *state = qn_state_alloc(n, n > QN_STATE_TENSOR);
    if (state == NULL) return -QN_ENOMEM;
    if (state->trajectory) {
        memset(state->data, 0, ((size_t)2 << n) * sizeof state->data[0]);
        state->data[0] = 1;
    } else {
        for (size_t i = 0; i < tensor_size(n); i++) { /* |0><0| = (I + Z)/2 on each: 1 where every digit is I or Z. */
            bool iz = true;
            for (size_t d = i; d != 0; d >>= 2) iz = iz && ((d & 3) == 0 || (d & 3) == 3);
            state->data[i] = iz ? 1 : 0;
        }
    }
    *ret_state = state;
    return 0;
}

int qn_state_new_bloch(const double bloch[3], struct qn_state **ret_state) {
    double square = bloch[0] * bloch[0] + bloch[1] * bloch[1] + bloch[2] * bloch[2];
    if (!(square <= 1 + SLACK)) return -QN_EINVAL;
    struct qn_state *state = qn_state_alloc(1, false);
    if (state == NULL) return -QN_ENOMEM;
    state->data[0] = 1;
    memcpy(state->data + 1, bloch, 3 * sizeof bloch[0]);
    *ret_state = state;
    return 0;
}

/* Necessary for a state, not sufficient: that would be the eigenvalues of rho, too dear for every message. */
static bool is_tensor(const double *t, size_t n) {
    double squares = 0;
    for (size_t i = 0; i < tensor_size(n); i++) {
        if (!(fabs(t[i]) <= 1 + SLACK)) return false; /* NaN too. */
        squares += t[i] * t[i];
    }
    double purity = squares / (double)((size_t)1 << n); /* Tr rho^2 */
    return fabs(t[0] - 1) <= SLACK && purity <= 1 + SLACK;
}

int qn_state_new_pair(const double tensor[16], struct qn_state **ret_state) {
    if (!is_tensor(tensor, 2)) return -QN_EINVAL;
    struct qn_state *state = qn_state_alloc(2, false);
    if (state == NULL) return -QN_ENOMEM;
    memcpy(state->data, tensor, 16 * sizeof tensor[0]);
    state->data[0] = 1;
    *ret_state = state;
    return 0;
}

int qn_state_new_bell_diagonal(const double p[4], struct qn_state **ret_state) {
    for (int i = 0; i < 4; i++)
        if (!(p[i] >= -SLACK)) return -QN_EINVAL;
    if (!(fabs(p[0] + p[1] + p[2] + p[3] - 1) <= SLACK)) return -QN_EINVAL;
    struct qn_state *state = qn_state_alloc(2, false);
    if (state == NULL) return -QN_ENOMEM;
    memset(state->data, 0, 16 * sizeof state->data[0]);
    state->data[0] = 1;
    for (size_t k = 0; k < 3; k++) /* XX, YY, ZZ are the diagonal of the 4 x 4. */
        state->data[5 * (k + 1)] = qn_bell_sign[0][k] * p[0] + qn_bell_sign[1][k] * p[1] + qn_bell_sign[2][k] * p[2] +
                                   qn_bell_sign[3][k] * p[3];
    *ret_state = state;
    return 0;
}

static size_t data_len(const struct qn_state *state) {
    return state->trajectory ? (size_t)2 << state->n : tensor_size(state->n);
}

int qn_state_copy(const struct qn_state *state, struct qn_state **ret_state) {
    struct qn_state *copy = qn_state_alloc(state->n, state->trajectory);
    if (copy == NULL) return -QN_ENOMEM;
    memcpy(copy->data, state->data, data_len(state) * sizeof state->data[0]);
    *ret_state = copy;
    return 0;
}

void qn_state_free(struct qn_state *state) { free(state); }
size_t qn_state_size(const struct qn_state *state) { return state->n; }
bool qn_state_is_trajectory(const struct qn_state *state) { return state->trajectory; }

const double *qn_state_data(const struct qn_state *state, size_t *ret_len) {
    *ret_len = data_len(state);
    return state->data;
}

static bool is_pure(const double *data, size_t len) {
    double norm = 0;
    for (size_t i = 0; i < len; i++) norm += data[i] * data[i];
    return fabs(norm - 1) <= SLACK; /* False for NaN. */
}

int qn_state_from_data(size_t n, bool trajectory, const double *data, size_t len, struct qn_state **ret_state) {
    if (n == 0 || n > QN_STATE_MAX || trajectory != (n > QN_STATE_TENSOR)) return -QN_EPROTOCOL;
    if (len != (trajectory ? (size_t)2 << n : tensor_size(n))) return -QN_EPROTOCOL;
    if (!(trajectory ? is_pure(data, len) : is_tensor(data, n))) return -QN_EPROTOCOL;
    struct qn_state *state = qn_state_alloc(n, trajectory);
    if (state == NULL) return -QN_ENOMEM;
    memcpy(state->data, data, len * sizeof data[0]);
    if (!trajectory) state->data[0] = 1;
    *ret_state = state;
    return 0;
}

/* ---- merging ---- */

static int merge_tensors(const struct qn_state *a, const struct qn_state *b, struct qn_state **ret_state) {
    struct qn_state *product = qn_state_alloc(a->n + b->n, false);
    if (product == NULL) return -QN_ENOMEM;
    size_t na = tensor_size(a->n), nb = tensor_size(b->n);
    for (size_t i = 0; i < na; i++)
        for (size_t j = 0; j < nb; j++) product->data[i * nb + j] = a->data[i] * b->data[j];
    *ret_state = product;
    return 0;
}

static int pure_of(const struct qn_state *state, struct qn_rng *rng, double complex *ret) {
    if (!state->trajectory) return qn_tensor_sample(state, rng, ret);
    memcpy(ret, state->data, amplitude_count(state) * sizeof ret[0]);
    return 0;
}

static int merge_pure(const struct qn_state *a, const struct qn_state *b, struct qn_rng *rng,
                      struct qn_state **ret_state) {
    size_t na = amplitude_count(a), nb = amplitude_count(b);
    struct qn_state *product = qn_state_alloc(a->n + b->n, true);
    double complex *factors = malloc((na + nb) * sizeof *factors);
    int rc = product == NULL || factors == NULL ? -QN_ENOMEM : pure_of(a, rng, factors);
    if (rc == 0) rc = pure_of(b, rng, factors + na);
    if (rc < 0) {
        free(product);
        free(factors);
        return rc;
    }
    double complex *to = amplitudes(product);
    for (size_t i = 0; i < na; i++)
        for (size_t j = 0; j < nb; j++) to[i * nb + j] = factors[i] * factors[na + j];
    free(factors);
    *ret_state = product;
    return 0;
}

int qn_state_merge(struct qn_state **state, struct qn_state *other, struct qn_rng *rng) {
    size_t n = (*state)->n + other->n;
    if (n > QN_STATE_MAX) return -QN_ELIMIT;
    assert(other != *state);
    struct qn_state *product;
    int rc = n <= QN_STATE_TENSOR ? merge_tensors(*state, other, &product) : merge_pure(*state, other, rng, &product);
    if (rc < 0) return rc;
    free(*state);
    free(other);
    *state = product;
    return 0;
}

/* ---- the simulator's view ---- */

void qn_state_bloch(const struct qn_state *state, size_t qubit, double ret_bloch[3]) {
    assert(qubit < state->n);
    static const double axes[3][3] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}};
    for (size_t i = 0; i < 3; i++)
        ret_bloch[i] = state->trajectory ? qn_trajectory_expect(state, qubit, axes[i])
                                         : state->data[(i + 1) * tensor_stride(state, qubit)];
}

void qn_state_pair_tensor(const struct qn_state *state, size_t a, size_t b, double ret_tensor[16]) {
    assert(a < state->n && b < state->n && a != b);
    if (state->trajectory) {
        qn_trajectory_pair(state, a, b, ret_tensor);
        return;
    }
    size_t sa = tensor_stride(state, a), sb = tensor_stride(state, b);
    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < 4; j++) ret_tensor[4 * i + j] = state->data[i * sa + j * sb];
}

double qn_state_fidelity(const struct qn_state *state, size_t a, size_t b, int bell) {
    assert(bell >= 0 && bell <= 3);
    const double *sign = qn_bell_sign[bell];
    double t[16];
    qn_state_pair_tensor(state, a, b, t);
    return (1 + sign[0] * t[5] + sign[1] * t[10] + sign[2] * t[15]) / 4;
}
