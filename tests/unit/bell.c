/* SPDX-License-Identifier: Apache-2.0 */
/* The closed forms against the figures of data/check-values.json; those that describe something easily done are
 * compared with samples of it as well, at five standard deviations, or with the exact simulator. */
#include "bell_support.h"

static const size_t first_qubit = 0;

static double root_of(double (*f)(double), double low, double high) { /* f falls through 0. */
    for (int i = 0; i < 60; i++) {
        double middle = (low + high) / 2;
        if (f(middle) > 0)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* ---- bell ---- */

static struct qn_state *pair_new(const double p[4]) {
    struct qn_state *state;
    const double by_index[4] = {p[0], p[3], p[1], p[2]};
    cr_assert_eq(qn_state_new_bell_diagonal(by_index, &state), 0);
    return state;
}

static void weights_of(const struct qn_state *state, double ret_p[4]) {
    static const int index[4] = {0, 2, 3, 1};
    for (int i = 0; i < 4; i++) ret_p[i] = qn_state_fidelity(state, 0, 1, index[i]);
}

static void swap_chain(struct value *value) {
    double fidelity = param(value, "F_link"), expected[8], link[4], pair[4];
    numbers(value, value->left, expected, 8);
    qn_bell_werner(fidelity, link);
    memcpy(pair, link, sizeof pair);
    for (unsigned n = 1; n <= 8; n++) {
        qn_bell_swap(pair, link, pair);
        same(value->name, "swapped", pair[0], expected[n - 1]);
        same(value->name, "chain", qn_chain_fidelity(fidelity, n), expected[n - 1]);
    }
    json_array_clear(value->left);
}

static void swap_imperfect(struct value *value) {
    double link[4], out[4];
    qn_bell_werner(param(value, "F_link"), link);
    qn_bell_swap_noisy(link, link, param(value, "two_qubit_depol_p"), param(value, "readout_flip_per_bit"), out);
    expect_array(value, "bell_diag_IXYZ", out, 4);
    expect(value, "F", out[0]);
}

static void swap_diagonal(struct value *value) {
    double a[4], b[4], out[4], simulated[4];
    numbers(value, json_object_get(value->params, "a_IXYZ"), a, 4);
    numbers(value, json_object_get(value->params, "b_IXYZ"), b, 4);
    qn_bell_swap(a, b, out);
    expect_array(value, "out_IXYZ", out, 4);
    struct qn_state *state;
    cr_assert_eq(qn_state_swap_kernel(pair_new(a), 1, pair_new(b), 0, 0, &state),
                 0); /* Outcome 0: nothing to correct. */
    weights_of(state, simulated);
    qn_state_free(state);
    for (int i = 0; i < 4; i++) same(value->name, "simulated", simulated[i], out[i]);
}

static void distil_rounds(struct value *value) {
    bool is_dejmps = strncmp(value->name, "dejmps", 6) == 0;
    double p[4], fidelity = param(value, "F0"), success;
    qn_bell_werner(fidelity, p);
    size_t i;
    json_t *round;
    json_array_foreach(value->left, i, round) {
        struct value one = {.name = value->name, .left = round};
        if (is_dejmps) {
            success = qn_dejmps(p, p, p);
            fidelity = p[0];
            expect_array(&one, "out_IXYZ", p, 4);
        } else {
            fidelity = qn_bbpssw(fidelity, &success);
        }
        expect(&one, "p_success", success);
        expect(&one, "F", fidelity);
    }
    json_array_clear(value->left);
}

static void dejmps_readout(struct value *value) {
    double p[4], out[4];
    qn_bell_werner(param(value, "F0"), p);
    expect(value, "p_success", qn_dejmps_noisy(p, p, param(value, "readout_flip_each_side"), out));
    expect_array(value, "out_IXYZ", out, 4);
}

static void dejmps_unequal(struct value *value) {
    double keep[4], spend[4], out[4];
    qn_bell_werner(param(value, "F_keep"), keep);
    qn_bell_werner(param(value, "F_meas"), spend);
    expect(value, "p_success", qn_dejmps(keep, spend, out));
    expect_array(value, "out_IXYZ", out, 4);
}

static void memory_twirl(struct value *value) {
    double p[4];
    qn_memory_twirl(param(value, "t_s"), param(value, "T1_s"), param(value, "T2_s"), p);
    expect_array(value, "pI_pX_pY_pZ", p, 4);
    struct qn_state *state;
    double kept = p[0] + p[3] - p[1] - p[2], bloch[3];
    cr_assert_eq(qn_state_new_bloch((const double[3]){0, 0, 0}, &state), 0);
    qn_state_t1t2(state, 0, param(value, "t_s"), param(value, "T1_s"), param(value, "T2_s"), NULL);
    qn_state_bloch(state, 0, bloch);
    qn_state_free(state);
    expect_array(value, "exact_PTM_row_z", (const double[4]){bloch[2], 0, 0, kept}, 4);
}

static void memory_decay(struct value *value) {
    double t = param(value, "t_s"), t1 = param(value, "T1_s"), t2 = param(value, "T2_s"), both, psi, one, p[4];
    qn_memory_fidelity(t, t1, t2, &both, &psi, &one);
    expect(value, "F_PhiPlus_both_memories", both);
    expect(value, "F_PsiPlus_both_memories", psi);
    expect(value, "F_PhiPlus_one_memory", one);
    struct qn_state *state = pair_new((const double[4]){1});
    qn_state_t1t2(state, 0, t, t1, t2, NULL);
    same(value->name, "one, simulated", qn_state_fidelity(state, 0, 1, 0), one);
    qn_state_t1t2(state, 1, t, t1, t2, NULL);
    weights_of(state, p);
    qn_state_free(state);
    same(value->name, "both, simulated", p[0], both);
    expect_array(value, "PhiPlus_diag_IXYZ", p, 4);
}

/* Fidelity of a state along `axis` teleported through the pair, by the circuit. */
static double teleported(const double p[4], const double axis[3]) {
    struct qn_state *state;
    cr_assert_eq(qn_state_new_bloch(axis, &state), 0);
    cr_assert_eq(qn_state_merge(&state, pair_new(p), NULL), 0);
    cr_assert_eq(qn_state_bell_measure(state, 0, 1, 0), 0);
    double fidelity = qn_state_probability(state, 2, axis);
    qn_state_free(state);
    return fidelity;
}

static void teleport_states(const struct value *value, const double p[4], json_t *expected) {
    static const char *const names[3][2] = {{"Z+", "Z-"}, {"X+", "X-"}, {"Y+", "Y-"}};
    static const double axes[3][3] = {{0, 0, 1}, {1, 0, 0}, {0, 1, 0}};
    double by_axis[3];
    qn_teleport_by_axis(p, by_axis);
    struct value states = {.name = value->name, .left = expected};
    for (int i = 0; i < 3; i++) {
        same(value->name, "circuit", teleported(p, axes[i]), by_axis[i]);
        for (int sign = 0; sign < 2; sign++) expect(&states, names[i][sign], by_axis[i]);
    }
}

static void teleport_werner(struct value *value) {
    double p[4], fidelity = param(value, "F");
    qn_bell_werner(fidelity, p);
    teleport_states(value, p, json_object_get(value->left, "per_state"));
    json_object_del(value->left, "per_state");
    expect(value, "mean", qn_teleport_fidelity(fidelity));
}

static void teleport_diagonal(struct value *value) {
    double p[4];
    numbers(value, json_object_get(value->params, "IXYZ"), p, 4);
    teleport_states(value, p, value->left);
}

static void chsh_werner(struct value *value) {
    double s = qn_chsh_werner(param(value, "F")), p[4];
    qn_bell_werner(param(value, "F"), p);
    same(value->name, "the best angles", qn_chsh_max(p), s);
    expect(value, "S", s);
    expect(value, "E_each_abs", s / 4);
}

static double chsh_excess(double infidelity) { return qn_chsh_werner(1 - infidelity) - 2; }

static void chsh_threshold(struct value *value) {
    double fidelity = 1 - root_of(chsh_excess, 0, 1);
    expect(value, "F_threshold_S_gt_2", fidelity);
    expect(value, "w_threshold", qn_werner_parameter(fidelity));
}

static void chsh_diagonal(struct value *value) {
    double p[4], t[3];
    numbers(value, json_object_get(value->params, "IXYZ"), p, 4);
    qn_bell_correlations(p, t);
    expect_array(value, "T_xx_yy_zz", t, 3);
    expect(value, "S_max", qn_chsh_max(p));
    expect(value, "S_fixed_angles", M_SQRT2 * (t[0] + t[2]));
}

static void bbm92(struct value *value) {
    double p[4], q[3];
    qn_bell_werner(param(value, "F"), p);
    qn_bell_qber(p, q);
    expect(value, "QBER", q[0]);
    expect(value, "key_fraction_1_minus_2h", qn_key_fraction(q[0], q[1]));
    expect(value, "six_state_1_minus_H", qn_key_fraction_six_state(p));
}

static void qber_diagonal(struct value *value) {
    double p[4], q[3];
    numbers(value, json_object_get(value->params, "IXYZ"), p, 4);
    qn_bell_qber(p, q);
    expect(value, "Q_Z", q[0]);
    expect(value, "Q_X", q[1]);
    expect(value, "Q_Y", q[2]);
}

static double bb84_margin(double q) { return qn_key_fraction(q, q); }
static double six_state_margin(double q) {
    double p[4];
    qn_bell_werner(1 - 1.5 * q, p);
    return qn_key_fraction_six_state(p);
}
static double device_independent_margin(double q) {
    return qn_key_fraction_device_independent(q, 2 * M_SQRT2 * (1 - 2 * q));
}

static void key_thresholds(struct value *value) {
    double q = root_of(bb84_margin, 0, 0.5);
    expect(value, "BB84_BBM92_Q", q);
    expect(value, "BB84_F_werner", 1 - 1.5 * q);
    expect(value, "six_state_Q", root_of(six_state_margin, 0, 0.5));
    expect(value, "DIQKD_Q", root_of(device_independent_margin, 0, 0.5));
}

/* Ekert's angles, all nine combinations: equal ones give key, the outer ones of both sides the CHSH test. */
static void e91(struct value *value) {
    double p[4], t[3], key = 0, chsh = 0, agreement = 0, s = 0;
    qn_bell_werner(0.95, p);
    qn_bell_correlations(p, t);
    for (int a = 0; a < 3; a++)
        for (int b = 1; b < 4; b++) {
            double alpha = a * M_PI_4, beta = b * M_PI_4;
            double correlation = t[2] * cos(alpha) * cos(beta) + t[0] * sin(alpha) * sin(beta);
            if (a == b) {
                key++;
                agreement += correlation / 2;
            } else if (a != 1 && b != 2) {
                chsh++;
                s += fabs(correlation);
            }
        }
    expect(value, "key_fraction", key / 9);
    expect(value, "chsh_fraction", chsh / 9);
    expect(value, "discard_fraction", (9 - key - chsh) / 9);
    expect(value, "QBER_key", (1 - agreement) / 2);
    expect(value, "S", s);
}

static void superdense(struct value *value) {
    double p[4];
    qn_bell_werner(param(value, "F"), p);
    expect(value, "P_symbol_correct", p[0]);
    expect(value, "bit_error_rate", qn_superdense_bit_error(p));
    expect(value, "mutual_information_bits", qn_superdense_information(p));
}

static void ghz_teleported(struct value *value) {
    unsigned n = (unsigned)param(value, "n");
    double w = qn_werner_parameter(param(value, "F_pair"));
    expect(value, "F_all", qn_ghz_fidelity(n, n, w));
    expect(value, "F_keep1", qn_ghz_fidelity(n, n - 1, w));
    expect(value, "X_parity_all", pow(w, n));
    expect(value, "ZZ_adjacent", w * w);
}

static void ghz_mermin(struct value *value) {
    struct qn_state *state;
    size_t len;
    cr_assert_eq(qn_state_new_zero(3, &state), 0);
    cr_assert_eq(qn_state_gate(state, QN_GATE_H, &first_qubit, NULL), 0);
    cr_assert_eq(qn_state_gate(state, QN_GATE_CNOT, (const size_t[2]){0, 1}, NULL), 0);
    cr_assert_eq(qn_state_gate(state, QN_GATE_CNOT, (const size_t[2]){0, 2}, NULL), 0);
    const double *t = qn_state_data(state, &len);
    enum { X = 1, Y = 2 };
    double xxx = t[16 * X + 4 * X + X], xyy = t[16 * X + 4 * Y + Y], yxy = t[16 * Y + 4 * X + Y],
           yyx = t[16 * Y + 4 * Y + X];
    expect(value, "XXX", xxx);
    expect(value, "XYY", xyy);
    expect(value, "YXY", yxy);
    expect(value, "YYX", yyx);
    expect(value, "Mermin", xxx - xyy - yxy - yyx);
    expect(value, "LHV_bound", 2); /* A statement, not a result. */
    qn_state_free(state);
}

static void ghz_fused(struct value *value) {
    double p[4];
    qn_bell_werner(param(value, "F"), p);
    expect(value, "F_GHZ", qn_ghz_fused(p, p));
}

static void depolarised_gate(struct value *value) {
    struct qn_state *state;
    cr_assert_eq(qn_state_new_zero(1, &state), 0);
    qn_state_depolarise1(state, 0, param(value, "lambda"), NULL);
    expect(value, "P0", qn_state_probability(state, 0, (const double[3]){0, 0, 1}));
    qn_state_free(state);
}

Test(bell, closed_forms_match_the_figures) {
    static const struct value_case cases[] = {
        {"swap_chain_werner_", swap_chain},
        {"swap_imperfect_bsm", swap_imperfect},
        {"swap_bell_diagonal", swap_diagonal},
        {"dejmps_iter_", distil_rounds},
        {"bbpssw_iter_", distil_rounds},
        {"dejmps_readout_error", dejmps_readout},
        {"dejmps_unequal", dejmps_unequal},
        {"memory_T1T2_pauli_twirl", memory_twirl},
        {"memory_T1T2_", memory_decay},
        {"teleport_werner_", teleport_werner},
        {"teleport_bell_diagonal", teleport_diagonal},
        {"chsh_werner_", chsh_werner},
        {"chsh_threshold", chsh_threshold},
        {"chsh_bd_max", chsh_diagonal},
        {"bbm92_qber_", bbm92},
        {"qber_bell_diagonal", qber_diagonal},
        {"qkd_thresholds", key_thresholds},
        {"e91_fractions", e91},
        {"superdense_", superdense},
        {"ghz3_mermin", ghz_mermin},
        {"ghz3_fusion_", ghz_fused},
        {"ghz", ghz_teleported},
        {"depolarising_gate_1q", depolarised_gate},
    };
    values_check("bell", CASES(cases), 45);
}

static const double skewed_p[4] = {0.7, 0.05, 0.1, 0.15}, skewed_q[4] = {0.62, 0.21, 0.14, 0.03};
static const double z_axis[3] = {0, 0, 1};

/* The circuit of Deutsch et al. on two uneven pairs; the spent one is measured equal, or not. */
static double distil_circuit(bool is_equal, double ret_p[4]) {
    static const double forth[4] = {1, 0, 0, M_PI_2}, back[4] = {1, 0, 0, -M_PI_2};
    struct qn_state *state = pair_new(skewed_p);
    cr_assert_eq(qn_state_merge(&state, pair_new(skewed_q), NULL), 0);
    for (size_t qubit = 0; qubit < 4; qubit++)
        cr_assert_eq(qn_state_gate(state, QN_GATE_ROT, &qubit, qubit % 2 == 0 ? forth : back), 0);
    for (size_t side = 0; side < 2; side++)
        cr_assert_eq(qn_state_gate(state, QN_GATE_CNOT, (const size_t[2]){side, 2 + side}, NULL), 0);
    cr_assert_eq(qn_state_measure(state, 2, z_axis, 0), 0);
    double equal = qn_state_probability(state, 3, z_axis);
    cr_assert_eq(qn_state_measure(state, 3, z_axis, is_equal ? 0 : 0.999999), is_equal ? 0 : 1);
    weights_of(state, ret_p);
    qn_state_free(state);
    return is_equal ? equal : 1 - equal;
}

Test(bell, distillation_is_what_the_circuit_does) {
    double equal[4], unequal[4], out[4];
    double success = distil_circuit(true, equal), failure = distil_circuit(false, unequal);
    same("dejmps", "success", qn_dejmps(skewed_p, skewed_q, out), success);
    for (int i = 0; i < 4; i++) same("dejmps", "weight", out[i], equal[i]);
    double right = 0.9 * 0.9 + 0.1 * 0.1, accepted = right * success + (1 - right) * failure;
    same("dejmps", "accepted", qn_dejmps_noisy(skewed_p, skewed_q, 0.1, out), accepted);
    for (int i = 0; i < 4; i++)
        same("dejmps", "accepted weight", out[i],
             (right * success * equal[i] + (1 - right) * failure * unequal[i]) / accepted);
}

Test(bell, fusion_is_what_the_circuit_does) {
    struct qn_state *state = pair_new(skewed_p);
    cr_assert_eq(qn_state_merge(&state, pair_new(skewed_q), NULL), 0);
    cr_assert_eq(qn_state_gate(state, QN_GATE_CNOT, (const size_t[2]){1, 2}, NULL), 0);
    cr_assert_eq(qn_state_measure(state, 2, z_axis, 0), 0);
    qn_state_remove(state, 2, NULL);
    size_t len;
    const double *t = qn_state_data(state, &len);
    cr_assert_eq(len, 64);
    enum { X = 1, Y = 2, Z = 3 };
    double stabilisers = t[0] + t[16 * X + 4 * X + X] - t[16 * X + 4 * Y + Y] - t[16 * Y + 4 * X + Y] -
                         t[16 * Y + 4 * Y + X] + t[16 * Z + 4 * Z] + t[4 * Z + Z] + t[16 * Z + Z];
    same("fusion", "fidelity", qn_ghz_fused(skewed_p, skewed_q), stabilisers / 8);
    qn_state_free(state);
}

/* Coding is a Pauli, so an error of X or Z misleads about one of two bits, and of Y about both. */
Test(bell, superdense_counts_bits) {
    static const double wrong[4] = {0, 0.5, 1, 0.5};
    for (int error = 0; error < 4; error++) {
        double p[4] = {0};
        p[error] = 1;
        same("superdense", "bit error", qn_superdense_bit_error(p), wrong[error]);
        same("superdense", "information", qn_superdense_information(p), 2);
    }
}
