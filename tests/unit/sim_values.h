/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_TESTS_UNIT_SIM_VALUES_H
#define QN_TESTS_UNIT_SIM_VALUES_H

#include <jansson.h>

#include "sim_support.h"

/* What check-values.json (group bell) says about states, done with gates and measurements. Closed forms are compared
 * with the same file in bell.c. */

static json_t *values; /* Of the whole file; Criterion runs each test in a process of its own. */

static inline void load_values(void) {
    json_error_t error;
    values = json_load_file(QN_TEST_DATA "/check-values.json", 0, &error);
    cr_assert_not_null(values, "%s:%d: %s", error.source, error.line, error.text);
}

static inline void free_values(void) { json_decref(values); }

/* Calls `check` for each entry of group bell whose name begins so, which must be `count` in number. */
static inline void for_values(const char *prefix, size_t count, void (*check)(json_t *params, json_t *expected)) {
    size_t i, found = 0;
    json_t *entry;
    json_array_foreach(values, i, entry) {
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (strcmp(json_string_value(json_object_get(entry, "group")), "bell") != 0) continue;
        if (strncmp(name, prefix, strlen(prefix)) != 0) continue;
        found++;
        check(json_object_get(entry, "params"), json_object_get(entry, "expected"));
    }
    cr_assert_eq(found, count, "%zu entries named %s..., expected %zu", found, prefix, count);
}

static inline double number(const json_t *object, const char *key) {
    json_t *value = json_object_get(object, key);
    cr_assert(json_is_number(value), "no number %s", key);
    return json_number_value(value);
}

/* The file gives weights of I, X, Y, Z on one half of Phi+: Bell indices 0, 2, 3, 1. */
static const int pauli_to_bell[4] = {0, 2, 3, 1};

static inline struct qn_state *bell_diagonal(const json_t *ixyz) {
    double p[4];
    for (size_t i = 0; i < 4; i++) p[pauli_to_bell[i]] = json_number_value(json_array_get(ixyz, i));
    struct qn_state *state;
    cr_assert_eq(qn_state_new_bell_diagonal(p, &state), 0);
    return state;
}

static inline struct qn_state *werner(double f) {
    double rest = (1 - f) / 3;
    struct qn_state *state;
    cr_assert_eq(qn_state_new_bell_diagonal((const double[4]){f, rest, rest, rest}, &state), 0);
    return state;
}

static inline void assert_ixyz(const struct qn_state *state, size_t a, size_t b, const json_t *ixyz) {
    for (size_t i = 0; i < 4; i++)
        cr_assert_float_eq(qn_state_fidelity(state, a, b, pauli_to_bell[i]), json_number_value(json_array_get(ixyz, i)),
                           1e-9, "weight of %c", "IXYZ"[i]);
}

static inline void correct(struct qn_state *state, size_t qubit, int frame) {
    if ((frame & 1) != 0) qn_state_gate(state, QN_GATE_Z, &qubit, NULL);
    if ((frame & 2) != 0) qn_state_gate(state, QN_GATE_X, &qubit, NULL);
}

static inline struct qn_state *swap_and_correct(struct qn_state *a, struct qn_state *b, double u) {
    struct qn_state *state;
    int bell = qn_state_swap_kernel(a, 1, b, 0, u, &state);
    cr_assert_geq(bell, 0);
    correct(state, 1, bell);
    return state;
}

static inline void check_swap_chain(json_t *params, json_t *expected) {
    double f = number(params, "F_link");
    struct qn_state *state = werner(f);
    for (size_t i = 0; i < json_array_size(expected); i++) {
        state = swap_and_correct(state, werner(f), ((double)i + 0.5) / 8);
        cr_assert_float_eq(qn_state_fidelity(state, 0, 1, 0), json_number_value(json_array_get(expected, i)), 1e-9);
    }
    qn_state_free(state);
}

static inline void check_swap_bell_diagonal(json_t *params, json_t *expected) {
    for (int bell = 0; bell < 4; bell++) {
        struct qn_state *a = bell_diagonal(json_object_get(params, "a_IXYZ"));
        struct qn_state *state =
            swap_and_correct(a, bell_diagonal(json_object_get(params, "b_IXYZ")), (bell + 0.5) / 4);
        assert_ixyz(state, 0, 1, json_object_get(expected, "out_IXYZ"));
        qn_state_free(state);
    }
}

static inline void check_swap_imperfect(json_t *params, json_t *expected) {
    double f = number(params, "F_link"), flip = number(params, "readout_flip_per_bit");
    struct qn_state *state = werner(f);
    cr_assert_eq(qn_state_merge(&state, werner(f), NULL), 0);
    qn_state_depolarise2(state, 1, 2, 1 - number(params, "two_qubit_depol_p"), NULL);
    correct(state, 3, qn_state_bell_measure(state, 1, 2, 0.6));
    /* A flipped bit of the outcome is a wrong Pauli correction. */
    const double wrong[4] = {(1 - flip) * (1 - flip), flip * (1 - flip), flip * flip, flip * (1 - flip)};
    qn_state_pauli_channel(state, 3, wrong, NULL);
    assert_ixyz(state, 0, 3, json_object_get(expected, "bell_diag_IXYZ"));
    qn_state_free(state);
}

/* Projects on the outcome; returns its probability. */
static inline double force(struct qn_state *state, size_t qubit, const double axis[3], int outcome) {
    double p = qn_state_probability(state, qubit, axis);
    cr_assert_eq(qn_state_measure(state, qubit, axis, outcome == 0 ? 0 : almost_one), outcome);
    return outcome == 0 ? p : 1 - p;
}

/* DEJMPS on two pairs, which are taken; each side misreads its bit with probability `flip`. Returns the probability to
 * keep; the pair kept is the mixture over the outcomes that read equal. */
static inline double distil(struct qn_state *keep, struct qn_state *spend, double flip, struct qn_state **ret_state) {
    double same = (1 - flip) * (1 - flip) + flip * flip, total = 0, mixture[16] = {0}, t[16];
    cr_assert_eq(qn_state_merge(&keep, spend, NULL), 0); /* a1 b1 a2 b2 */
    for (size_t q = 0; q < 4; q++)
        qn_state_gate(keep, QN_GATE_ROT, &q, (const double[4]){1, 0, 0, q % 2 == 0 ? M_PI / 2 : -M_PI / 2});
    qn_state_gate(keep, QN_GATE_CNOT, (const size_t[2]){0, 2}, NULL);
    qn_state_gate(keep, QN_GATE_CNOT, (const size_t[2]){1, 3}, NULL);
    for (int outcomes = 0; outcomes < 4; outcomes++) {
        bool equal = outcomes == 0 || outcomes == 3;
        if (flip == 0 && !equal) continue;
        struct qn_state *branch;
        cr_assert_eq(qn_state_copy(keep, &branch), 0);
        double p = force(branch, 2, z_axis, outcomes >> 1) * force(branch, 3, z_axis, outcomes & 1);
        p *= equal ? same : 1 - same;
        qn_state_pair_tensor(branch, 0, 1, t);
        for (int i = 0; i < 16; i++) mixture[i] += p * t[i];
        total += p;
        qn_state_free(branch);
    }
    qn_state_free(keep);
    for (int i = 0; i < 16; i++) mixture[i] /= total;
    cr_assert_eq(qn_state_new_pair(mixture, ret_state), 0);
    return total;
}

static inline void check_distillation_rounds(json_t *params, json_t *expected) {
    bool twirl = json_object_get(params, "twirl") != NULL; /* BBPSSW */
    struct qn_state *state = werner(number(params, "F0")), *copy;
    size_t i;
    json_t *round;
    json_array_foreach(expected, i, round) {
        cr_assert_eq(qn_state_copy(state, &copy), 0);
        double p = distil(state, copy, 0, &state); /* Not inside an assertion: they evaluate twice. */
        cr_assert_float_eq(p, number(round, "p_success"), 1e-9);
        double f = qn_state_fidelity(state, 0, 1, 0);
        cr_assert_float_eq(f, number(round, "F"), 1e-9);
        if (!twirl) {
            assert_ixyz(state, 0, 1, json_object_get(round, "out_IXYZ"));
            continue;
        }
        qn_state_free(state);
        state = werner(f);
    }
    qn_state_free(state);
}

static inline void check_distillation_once(json_t *params, json_t *expected) {
    bool unequal = json_object_get(params, "F_keep") != NULL;
    double keep = number(params, unequal ? "F_keep" : "F0"), spend = number(params, unequal ? "F_meas" : "F0");
    double flip = unequal ? 0 : number(params, "readout_flip_each_side");
    struct qn_state *state;
    double p = distil(werner(keep), werner(spend), flip, &state);
    cr_assert_float_eq(p, number(expected, "p_success"), 1e-9);
    assert_ixyz(state, 0, 1, json_object_get(expected, "out_IXYZ"));
    qn_state_free(state);
}

static inline void check_memory(json_t *params, json_t *expected) {
    double t = number(params, "t_s"), t1 = number(params, "T1_s"), t2 = number(params, "T2_s"), rows[4][3];
    struct qn_state *state;
    if (json_object_get(expected, "exact_PTM_row_z") != NULL) { /* Where 0, x, y and z of the Bloch ball go. */
        for (int i = 0; i < 4; i++) {
            cr_assert_eq(qn_state_new_bloch((const double[3]){i == 1, i == 2, i == 3}, &state), 0);
            qn_state_t1t2(state, 0, t, t1, t2, NULL);
            qn_state_bloch(state, 0, rows[i]);
            qn_state_free(state);
            double entry = i == 0 ? rows[0][2] : rows[i][2] - rows[0][2];
            json_t *row = json_object_get(expected, "exact_PTM_row_z");
            cr_assert_float_eq(entry, json_number_value(json_array_get(row, (size_t)i)), 1e-9);
        }
        return;
    }
    static const char *const names[3] = {"F_PhiPlus_both_memories", "F_PsiPlus_both_memories", "F_PhiPlus_one_memory"};
    for (int i = 0; i < 3; i++) {
        int bell = i == 1 ? 2 : 0;
        cr_assert_eq(qn_state_new_bell_diagonal((const double[4]){bell == 0, 0, bell == 2, 0}, &state), 0);
        qn_state_t1t2(state, 0, t, t1, t2, NULL);
        if (i < 2) qn_state_t1t2(state, 1, t, t1, t2, NULL);
        cr_assert_float_eq(qn_state_fidelity(state, 0, 1, bell), number(expected, names[i]), 1e-9, "%s", names[i]);
        if (i == 0) assert_ixyz(state, 0, 1, json_object_get(expected, "PhiPlus_diag_IXYZ"));
        qn_state_free(state);
    }
}

static inline void check_teleport(json_t *params, json_t *expected) {
    json_t *fidelities = json_object_get(expected, "per_state");
    if (fidelities == NULL) fidelities = expected;
    static const char *const names[6] = {"X+", "X-", "Y+", "Y-", "Z+", "Z-"};
    for (int input = 0; input < 6; input++)
        for (int bell = 0; bell < 4; bell++) {
            double axis[3] = {0};
            axis[input / 2] = input % 2 == 0 ? 1 : -1;
            struct qn_state *state, *pair;
            json_t *ixyz = json_object_get(params, "IXYZ");
            pair = ixyz != NULL ? bell_diagonal(ixyz) : werner(number(params, "F"));
            cr_assert_eq(qn_state_new_bloch(axis, &state), 0);
            cr_assert_eq(qn_state_merge(&state, pair, NULL), 0);
            int outcome = qn_state_bell_measure(state, 0, 1, (bell + 0.5) / 4);
            cr_assert_eq(outcome, bell); /* The four are equally likely whatever is sent. */
            correct(state, 2, outcome);
            cr_assert_float_eq(qn_state_probability(state, 2, axis), number(fidelities, names[input]), 1e-9);
            qn_state_free(state);
        }
}

/* S of a pair at the angles of the file, in the Z-X plane. With `runs`, from that many measured pairs a setting. */
static inline double chsh(const struct qn_state *pair, int runs, struct qn_rng *rng) {
    static const double angle_a[2] = {0, M_PI / 2}, angle_b[2] = {M_PI / 4, -M_PI / 4};
    double s = 0;
    for (int setting = 0; setting < 4; setting++) {
        const double a[3] = {sin(angle_a[setting >> 1]), 0, cos(angle_a[setting >> 1])};
        const double b[3] = {sin(angle_b[setting & 1]), 0, cos(angle_b[setting & 1])};
        double e = 0;
        struct qn_state *state;
        for (int run = 0; run < runs; run++) {
            cr_assert_eq(qn_state_copy(pair, &state), 0);
            int x = qn_state_measure(state, 0, a, qn_rng_double(rng)),
                y = qn_state_measure(state, 1, b, qn_rng_double(rng));
            e += (x == y ? 1.0 : -1.0) / runs;
            qn_state_free(state);
        }
        for (int x = 0; runs == 0 && x < 2; x++) {
            cr_assert_eq(qn_state_copy(pair, &state), 0);
            double p = force(state, 0, a, x);
            e += p * (2 * qn_state_probability(state, 1, b) - 1) * (x == 0 ? 1 : -1);
            qn_state_free(state);
        }
        s += setting == 3 ? -e : e;
    }
    return s;
}

static inline void check_chsh(json_t *params, json_t *expected) {
    struct qn_rng rng;
    qn_rng_init(&rng, 50, "chsh", 0);
    struct qn_state *pair = werner(number(params, "F"));
    double s = number(expected, "S"), got = chsh(pair, 10000, &rng);
    cr_assert_float_eq(chsh(pair, 0, NULL), s, 1e-9);
    cr_assert(fabs(got - s) < 5 * number(expected, "se_S"), "seed 50: S %g, expected %g", got, s);
    qn_state_free(pair);
}

static inline void check_chsh_bell_diagonal(json_t *params, json_t *expected) {
    struct qn_state *pair = bell_diagonal(json_object_get(params, "IXYZ"));
    double t[16];
    qn_state_pair_tensor(pair, 0, 1, t);
    for (size_t i = 0; i < 3; i++)
        cr_assert_float_eq(t[5 * (i + 1)],
                           json_number_value(json_array_get(json_object_get(expected, "T_xx_yy_zz"), i)), 1e-9);
    cr_assert_float_eq(chsh(pair, 0, NULL), number(expected, "S_fixed_angles"), 1e-9);
    qn_state_free(pair);
}

static inline void check_qber(json_t *params, json_t *expected) {
    static const char *const names[3] = {"Q_X", "Q_Y", "Q_Z"};
    struct qn_state *pair = bell_diagonal(json_object_get(params, "IXYZ")), *state;
    for (int basis = 0; basis < 3; basis++) {
        const double axis[3] = {basis == 0, basis == 1, basis == 2};
        cr_assert_eq(qn_state_copy(pair, &state), 0);
        force(state, 0, axis, 0);
        double p = qn_state_probability(state, 1, axis); /* Y is anticorrelated in Phi+. */
        cr_assert_float_eq(basis == 1 ? p : 1 - p, number(expected, names[basis]), 1e-9, "%s", names[basis]);
        qn_state_free(state);
    }
    qn_state_free(pair);
}

static inline void check_superdense(json_t *params, json_t *expected) {
    double bit_errors = 0;
    for (int sent = 0; sent < 4; sent++) {
        struct qn_state *state = werner(number(params, "F"));
        correct(state, 1, sent);
        cr_assert_float_eq(qn_state_fidelity(state, 0, 1, sent), number(expected, "P_symbol_correct"), 1e-9);
        for (int got = 0; got < 4; got++)
            bit_errors += qn_state_fidelity(state, 0, 1, got) * (double)((sent ^ got) % 2 + (sent ^ got) / 2) / 8;
        qn_state_free(state);
    }
    cr_assert_float_eq(bit_errors, number(expected, "bit_error_rate"), 1e-9);
}

/* Fidelity with (|0..0> + |1..1>) / sqrt(2): the mean of its stabilisers, strings of I and an even number of Z, and of
 * X and an even number of Y with the sign (-1)^(number of Y / 2). */
static inline double ghz_fidelity(const struct qn_state *state) {
    size_t n = qn_state_size(state), len;
    const double *t = qn_state_data(state, &len);
    double sum = 0;
    for (size_t i = 0; i < len; i++) {
        size_t count[4] = {0};
        for (size_t q = 0; q < n; q++) count[i >> (2 * q) & 3]++;
        if (count[0] + count[3] == n && count[3] % 2 == 0) sum += t[i];
        if (count[1] + count[2] == n && count[2] % 2 == 0) sum += count[2] % 4 == 0 ? t[i] : -t[i];
    }
    return sum / (double)((size_t)1 << n);
}

static inline struct qn_state *ghz(size_t n) {
    struct qn_state *state;
    cr_assert_eq(qn_state_new_zero(n, &state), 0);
    qn_state_gate(state, QN_GATE_H, (const size_t[1]){0}, NULL);
    for (size_t q = 1; q < n; q++) qn_state_gate(state, QN_GATE_CNOT, (const size_t[2]){0, q}, NULL);
    return state;
}

/* The first qubit goes through a Werner pair and becomes the last. */
static inline void teleport_first(struct qn_state **state, double f, struct qn_rng *rng) {
    cr_assert_eq(qn_state_merge(state, werner(f), rng), 0);
    size_t n = qn_state_size(*state);
    correct(*state, n - 1, qn_state_bell_measure(*state, 0, n - 2, qn_rng_double(rng)));
    qn_state_remove(*state, n - 2, rng);
    qn_state_remove(*state, 0, rng);
}

static inline void check_ghz_teleported(json_t *params, json_t *expected) {
    size_t n = (size_t)number(params, "n"), len, all_x = 0;
    int runs = n + 2 <= QN_STATE_TENSOR ? 1 : 1000; /* Beyond six qubits by trajectories, one of many. */
    struct qn_rng rng;
    qn_rng_init(&rng, 51, "ghz", n);
    struct mean all = {0}, keep1 = {0}, parity = {0}, zz = {0};
    for (int run = 0; run < runs; run++) {
        struct qn_state *state = ghz(n);
        for (size_t q = 0; q < n; q++) {
            if (q + 1 == n) sample(&keep1, ghz_fidelity(state));
            teleport_first(&state, number(params, "F_pair"), &rng);
            all_x = all_x << 2 | 1;
        }
        double t[16];
        qn_state_pair_tensor(state, 0, 1, t);
        sample(&all, ghz_fidelity(state));
        sample(&parity, qn_state_data(state, &len)[all_x]);
        sample(&zz, t[15]);
        all_x = 0;
        qn_state_free(state);
    }
    assert_mean(&all, number(expected, "F_all"), "F_all", 51);
    assert_mean(&keep1, number(expected, "F_keep1"), "F_keep1", 51);
    assert_mean(&parity, number(expected, "X_parity_all"), "X_parity_all", 51);
    assert_mean(&zz, number(expected, "ZZ_adjacent"), "ZZ_adjacent", 51);
}

static inline void check_mermin(json_t *params, json_t *expected) {
    (void)params;
    static const struct {
        const char *name;
        size_t digits;
    } strings[4] = {{"XXX", 0x15}, {"XYY", 0x1a}, {"YXY", 0x26}, {"YYX", 0x29}};
    struct qn_state *state = ghz(3);
    size_t len;
    for (int i = 0; i < 4; i++)
        cr_assert_eq(qn_state_data(state, &len)[strings[i].digits], number(expected, strings[i].name), "%s",
                     strings[i].name);
    qn_state_free(state);
}

static inline void check_fusion(json_t *params, json_t *expected) {
    for (int outcome = 0; outcome < 2; outcome++) {
        struct qn_state *state = werner(number(params, "F")); /* a b1 b2 c */
        cr_assert_eq(qn_state_merge(&state, werner(number(params, "F")), NULL), 0);
        qn_state_gate(state, QN_GATE_CNOT, (const size_t[2]){1, 2}, NULL);
        force(state, 2, z_axis, outcome);
        correct(state, 3, outcome << 1);
        qn_state_remove(state, 2, NULL);
        cr_assert_float_eq(ghz_fidelity(state), number(expected, "F_GHZ"), 1e-9);
        qn_state_free(state);
    }
}

static inline void check_gate_noise(json_t *params, json_t *expected) {
    struct qn_state *state;
    cr_assert_eq(qn_state_new_zero(1, &state), 0);
    qn_state_depolarise1(state, 0, number(params, "lambda"), NULL);
    cr_assert_float_eq(qn_state_probability(state, 0, z_axis), number(expected, "P0"), 1e-9);
    qn_state_free(state);
}

#endif
