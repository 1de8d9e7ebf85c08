/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "sim/internal.h"

double state_round(double p) { return floor(p * 0x1.0p40 + 0.5) * 0x1.0p-40; }

_Static_assert((2 << QN_STATE_MAX) <= (1 << (2 * QN_STATE_TENSOR)), "room for both forms");

struct qn_state *state_alloc(size_t n, bool trajectory) {
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
    struct qn_state *state = state_alloc(n, n > QN_STATE_TENSOR);
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
    if (!(square <= 1 + 1e-9)) return -QN_EINVAL;
    struct qn_state *state = state_alloc(1, false);
    if (state == NULL) return -QN_ENOMEM;
    state->data[0] = 1;
    memcpy(state->data + 1, bloch, 3 * sizeof bloch[0]);
    *ret_state = state;
    return 0;
}

int qn_state_new_pair(const double tensor[16], struct qn_state **ret_state) {
    struct qn_state *state = state_alloc(2, false);
    if (state == NULL) return -QN_ENOMEM;
    memcpy(state->data, tensor, 16 * sizeof tensor[0]);
    *ret_state = state;
    return 0;
}

int qn_state_new_bell_diagonal(const double p[4], struct qn_state **ret_state) {
    double tensor[16] = {1};
    tensor[5] = p[0] - p[1] + p[2] - p[3];   /* XX of Phi+, Phi-, Psi+, Psi- */
    tensor[10] = -p[0] + p[1] + p[2] - p[3]; /* YY */
    tensor[15] = p[0] + p[1] - p[2] - p[3];  /* ZZ */
    return qn_state_new_pair(tensor, ret_state);
}

static size_t data_len(const struct qn_state *state) {
    return state->trajectory ? (size_t)2 << state->n : tensor_size(state->n);
}

int qn_state_copy(const struct qn_state *state, struct qn_state **ret_state) {
    struct qn_state *copy = state_alloc(state->n, state->trajectory);
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

int qn_state_from_data(size_t n, bool trajectory, const double *data, size_t len, struct qn_state **ret_state) {
    if (n == 0 || n > QN_STATE_MAX || trajectory != (n > QN_STATE_TENSOR)) return -QN_EPROTOCOL;
    if (len != (trajectory ? (size_t)2 << n : tensor_size(n))) return -QN_EPROTOCOL;
    double norm = 0;
    for (size_t i = 0; i < len; i++) {
        if (!(fabs(data[i]) <= 1 + 1e-9)) return -QN_EPROTOCOL; /* NaN too. */
        norm += data[i] * data[i];
    }
    if (fabs((trajectory ? norm : data[0]) - 1) > 1e-6) return -QN_EPROTOCOL;
    struct qn_state *state = state_alloc(n, trajectory);
    if (state == NULL) return -QN_ENOMEM;
    memcpy(state->data, data, len * sizeof data[0]);
    *ret_state = state;
    return 0;
}

/* ---- merging ---- */

static int merge_tensors(const struct qn_state *a, const struct qn_state *b, struct qn_state **ret_state) {
    struct qn_state *product = state_alloc(a->n + b->n, false);
    if (product == NULL) return -QN_ENOMEM;
    size_t na = tensor_size(a->n), nb = tensor_size(b->n);
    for (size_t i = 0; i < na; i++)
        for (size_t j = 0; j < nb; j++) product->data[i * nb + j] = a->data[i] * b->data[j];
    *ret_state = product;
    return 0;
}

static int pure_of(const struct qn_state *state, struct qn_rng *rng, double complex *ret) {
    if (!state->trajectory) return tensor_sample_pure(state, rng, ret);
    memcpy(ret, state->data, amplitude_count(state) * sizeof ret[0]);
    return 0;
}

static int merge_pure(const struct qn_state *a, const struct qn_state *b, struct qn_rng *rng, struct qn_state **ret_state) {
    size_t na = amplitude_count(a), nb = amplitude_count(b);
    struct qn_state *product = state_alloc(a->n + b->n, true);
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
    static const double axes[3][3] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}};
    for (size_t i = 0; i < 3; i++)
        ret_bloch[i] = state->trajectory ? trajectory_expect(state, qubit, axes[i])
                                         : state->data[(i + 1) * tensor_stride(state, qubit)];
}

void qn_state_pair_tensor(const struct qn_state *state, size_t a, size_t b, double ret_tensor[16]) {
    if (state->trajectory) {
        trajectory_pair(state, a, b, ret_tensor);
        return;
    }
    size_t sa = tensor_stride(state, a), sb = tensor_stride(state, b);
    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < 4; j++) ret_tensor[4 * i + j] = state->data[i * sa + j * sb];
}

double qn_state_fidelity(const struct qn_state *state, size_t a, size_t b, int bell) {
    double t[16];
    static const double sign[4][3] = {{1, -1, 1}, {-1, 1, 1}, {1, 1, -1}, {-1, -1, -1}};
    qn_state_pair_tensor(state, a, b, t);
    return (1 + sign[bell][0] * t[5] + sign[bell][1] * t[10] + sign[bell][2] * t[15]) / 4;
}
