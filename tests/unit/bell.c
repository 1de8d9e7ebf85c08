/* SPDX-License-Identifier: Apache-2.0 */
/* The closed forms against the figures of data/check-values.json; those that describe something easily done are
 * compared with samples of it as well, at five standard deviations, or with the exact simulator. */
#include "values.h"

#include "base/rng.h"
#include "link/application.h"
#include "link/bell.h"
#include "link/detect.h"
#include "link/detector.h"
#include "link/link.h"
#include "link/observe.h"
#include "link/spdc.h"
#include "link/wcp.h"
#include "sim/state.h"

#define SEED 1
#define CASES(table) (table), sizeof(table) / sizeof *(table)
static const size_t first_qubit = 0;

static struct qn_rng rng_for(const struct value *value) {
    struct qn_rng rng;
    qn_rng_init(&rng, SEED, value->name, 0);
    return rng;
}

struct tally {
    double n, sum, squares;
};

static void tally_add(struct tally *tally, double x) {
    tally->n++;
    tally->sum += x;
    tally->squares += x * x;
}

/* The mean of what was sampled lies within five of its standard errors. */
static void tally_expect(const struct value *value, const char *what, const struct tally *tally, double expected) {
    double mean = tally->sum / tally->n, variance = tally->squares / tally->n - mean * mean;
    near(value->name, what, mean, expected, 5 * sqrt(fmax(variance, 1 / tally->n) / tally->n));
}

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

/* ---- wait ---- */

static uint64_t largest_of(unsigned n, double p, struct qn_rng *rng) {
    uint64_t largest = 0;
    for (unsigned i = 0; i < n; i++) {
        uint64_t wait = qn_rng_geometric(rng, p);
        if (wait > largest) largest = wait;
    }
    return largest;
}

static void wait_largest(struct value *value) {
    unsigned n = (unsigned)param(value, "n");
    double p = param(value, "p"), mean = qn_wait_max_geometric(n, p), harmonic = 0, moment = 0;
    expect(value, "mean", mean);
    for (unsigned k = 1; k <= n; k++) harmonic += 1.0 / k;
    expect(value, "harmonic_approx", harmonic / p);
    for (unsigned k = 0; k < 40 / p; k++) moment += (2 * k + 1) * (1 - pow(qn_wait_within(p, k), n));
    double sd = sqrt(moment - mean * mean);
    expect(value, "sd", sd);
    struct qn_rng rng = rng_for(value);
    struct tally tally = {0};
    while (tally.n < 10000) tally_add(&tally, (double)largest_of(n, p, &rng));
    tally_expect(value, "sampled", &tally, mean);
}

static void wait_three_halves(struct value *value) {
    double p = param(value, "p"), ratio = qn_wait_max_geometric(2, p) / qn_wait_max_geometric(1, p);
    same(value->name, "exact", ratio, (3 - 2 * p) / (2 - p));
    expect(value, "ratio_E_max2_over_E1", ratio);
}

static void wait_restart(struct value *value) {
    double p = param(value, "p"), swap = param(value, "p_swap"), mean = qn_wait_max_geometric(2, p) / swap;
    expect(value, "mean_attempts", mean);
    struct qn_rng rng = rng_for(value);
    struct tally tally = {0};
    while (tally.n < 10000) {
        uint64_t attempts = 0;
        do attempts += largest_of(2, p, &rng);
        while (qn_rng_double(&rng) >= swap);
        tally_add(&tally, (double)attempts);
    }
    tally_expect(value, "sampled", &tally, mean);
}

static void wait_repeaters(struct value *value) {
    double length = param(value, "L_km"), loss = param(value, "alpha_dB_km"), detector = param(value, "eta_d");
    for (unsigned repeaters = 0; repeaters <= 7; repeaters = 2 * repeaters + 1) {
        unsigned links = repeaters + 1;
        double span = length / links, eta = detector * qn_fibre_transmittance(span / 2, loss, 0), harmonic = 0;
        double p = qn_double_click(eta, eta, 1, 0).probability, attempts_hz = 2e5 / span;
        double rate = attempts_hz / qn_wait_max_geometric(links, p);
        for (unsigned k = 1; k <= links; k++) harmonic += 1.0 / k;
        char key[64];
        if (repeaters == 0) {
            expect(value, "direct_Hz", rate);
            continue;
        }
        snprintf(key, sizeof key, "%u_repeaters_Hz_parallel_then_swap", repeaters);
        expect(value, key, rate);
        snprintf(key, sizeof key, "%u_repeaters_harmonic_approx_Hz", repeaters);
        expect(value, key, attempts_hz * p / harmonic);
    }
}

static void wait_dephasing(struct value *value) {
    double p = param(value, "p"), x = exp(-2 * param(value, "T_attempt_s") / param(value, "T2_s")), pair[4];
    double coherence = qn_wait_coherence(p, x);
    qn_bell_werner(param(value, "F_link"), pair);
    qn_bell_swap(pair, pair, pair);
    qn_bell_swap(pair, (const double[4]){(1 + coherence) / 2, 0, 0, (1 - coherence) / 2}, pair);
    expect(value, "E_coherence_factor", coherence);
    expect(value, "F_end_mean", pair[0]);
    expect_array(value, "out_IXYZ_mean", pair, 4);
    expect(value, "N", 10000);
    struct qn_rng rng = rng_for(value);
    struct tally tally = {0};
    while (tally.n < 10000) {
        double a = (double)qn_rng_geometric(&rng, p), b = (double)qn_rng_geometric(&rng, p);
        tally_add(&tally, pow(x, fabs(a - b)));
    }
    tally_expect(value, "sampled", &tally, coherence);
}

static void wait_within(struct value *value) {
    expect(value, "P_second_within_cutoff",
           qn_wait_within(param(value, "p"), (unsigned)param(value, "cutoff_attempts")));
}

static void wait_cutoff(struct value *value) {
    double p = param(value, "p");
    unsigned cutoff = (unsigned)param(value, "cutoff_attempts");
    double mean = qn_wait_cutoff(p, cutoff);
    expect(value, "mean_attempts", mean);
    struct qn_rng rng = rng_for(value);
    struct tally tally = {0};
    while (tally.n < 10000) {
        uint64_t attempts = 0, first, second;
        for (;;) {
            uint64_t a = qn_rng_geometric(&rng, p), b = qn_rng_geometric(&rng, p);
            first = a < b ? a : b;
            second = a < b ? b : a;
            if (second - first <= cutoff) break;
            attempts += first + cutoff;
        }
        tally_add(&tally, (double)(attempts + second));
    }
    tally_expect(value, "sampled", &tally, mean);
}

static void wait_one(struct value *value) {
    double p = param(value, "p"), mean = qn_wait_max_geometric(1, p);
    expect(value, "mean", mean);
    expect(value, "sd", sqrt(1 - p) / p);
    struct qn_rng rng = rng_for(value);
    struct tally tally = {0};
    while (tally.n < 10000) tally_add(&tally, (double)qn_rng_geometric(&rng, p));
    tally_expect(value, "sampled", &tally, mean);
}

Test(wait, closed_forms_match_the_figures) {
    static const struct value_case cases[] = {
        {"wait_max_geom_", wait_largest},
        {"wait_three_halves", wait_three_halves},
        {"repeater1_prob_swap_", wait_restart},
        {"repeater_vs_direct_", wait_repeaters},
        {"repeater1_wait_dephasing_", wait_dephasing},
        {"cutoff_success_prob", wait_within},
        {"repeater1_cutoff_mean_time", wait_cutoff},
        {"geometric_skip", wait_one},
    };
    values_check("wait", CASES(cases), 16);
}

/* The sum below p = 0.01 is an expansion: it must meet the alternating sum, which is exact while n is small. */
Test(wait, largest_is_the_same_by_both_sums) {
    static const double chances[] = {1e-6, 1e-3, 0.00999, 0.01001, 0.3, 0.999, 1};
    for (size_t i = 0; i < sizeof chances / sizeof *chances; i++)
        for (unsigned n = 1; n <= 8; n++) {
            double p = chances[i], sum = 0, choose = 1;
            for (unsigned k = 1; k <= n; k++) {
                choose = choose * (n - k + 1) / k;
                sum += (k % 2 != 0 ? choose : -choose) / qn_wait_within(p, k);
            }
            near("largest", "mean", qn_wait_max_geometric(n, p), sum, 1e-9 * sum);
        }
}

/* ---- qkd ---- */

static struct qn_expected pulses_expected(enum qn_emission emission, double mean, struct qn_receiver receiver,
                                          struct qn_attack attack) {
    struct qn_source source = {.emission = emission, .n = 1, .mean = {mean}, .probability = {1}, .test_basis = 0.5};
    struct qn_optics optics;
    struct qn_expected expected;
    cr_assert_eq(qn_source_settle(&source), 0);
    cr_assert_eq(qn_optics_init(&optics, &source, &receiver, &attack), 0);
    qn_expect(&optics, &expected);
    return expected;
}

static void intercept_resend(struct value *value) {
    double fraction = param(value, "fraction");
    struct qn_receiver receiver = {
        .transmittance = 0.1, .efficiency = {1, 1}, .kept = 1, .test_basis = 0.5, .pixels = 1};
    if (json_object_get(value->params, "e_d") != NULL) receiver.misalignment = param(value, "e_d");
    struct qn_expected expected =
        pulses_expected(QN_EMIT_SINGLE, 1, receiver, (struct qn_attack){QN_ATTACK_INTERCEPT, .fraction = fraction});
    for (int basis = 0; basis < 2; basis++)
        same(value->name, "QBER", expected.error[basis][0] / expected.gain[basis][0], stated(value, "QBER"));
    json_object_del(value->left, "QBER");
    if (json_object_get(value->left, "eve_knows_bit_prob") == NULL) return;
    struct qn_rng rng = rng_for(value);
    struct tally knows = {0};
    while (knows.n < 20000) { /* What she measures, or a guess: right if her basis is. */
        bool knows_bit = qn_rng_double(&rng) < fraction && qn_rng_below(&rng, 2) == 0;
        tally_add(&knows, knows_bit || qn_rng_below(&rng, 2) == 0);
    }
    tally_expect(value, "eve_knows_bit_prob", &knows, stated(value, "eve_knows_bit_prob"));
    json_object_del(value->left, "eve_knows_bit_prob");
}

static void breidbart(struct value *value) {
    struct qn_state *state;
    cr_assert_eq(qn_state_new_zero(1, &state), 0);
    double right = qn_state_probability(state, 0, (const double[3]){M_SQRT1_2, 0, M_SQRT1_2});
    qn_state_free(state);
    expect(value, "eve_correct_prob", right);
    expect(value, "QBER",
           2 * right * (1 - right)); /* She sends on along her axis; the detector reads that as well as she. */
}

static void sift_ratio(struct value *value) {
    enum { CLICKS = 100000, ROOM = CLICKS + 4 * QN_DETECT_BATCH };
    static uint32_t offset[ROOM];
    static uint64_t basis[ROOM / 64 + 1], bit[ROOM / 64 + 1], sent[ROOM / 64 + 1];
    static const uint8_t key[32] = {1};
    struct qn_source source = {.emission = QN_EMIT_SINGLE, .n = 1, .mean = {1}, .probability = {1}, .test_basis = 0.5};
    struct qn_receiver receiver = {
        .transmittance = 0.5, .efficiency = {1, 1}, .kept = 1, .test_basis = 0.5, .pixels = 1};
    struct qn_optics optics;
    struct qn_detections found = {.offset = offset, .basis = basis, .bit = bit, .cap = ROOM / 64 * 64};
    struct qn_detector *detector = qn_detector_new();
    struct qn_stream stream;
    struct tally sifted = {0};
    uint64_t next = 0;
    cr_assert_eq(qn_source_settle(&source), 0);
    cr_assert_eq(qn_optics_init(&optics, &source, &receiver, &(struct qn_attack){0}), 0);
    qn_detector_start(detector, &optics, key, 1, 0);
    qn_detector_run(detector, 0, &next, 2 * CLICKS + 4000, &found);
    qn_detector_free(detector);
    cr_assert_geq(found.len, CLICKS);
    qn_stream_init(&stream, key);
    qn_choices_at(&stream, &source, 0, offset, CLICKS, &(struct qn_choice_planes){.basis = sent});
    for (size_t i = 0; i < CLICKS; i++) tally_add(&sifted, !((basis[i / 64] ^ sent[i / 64]) >> (i % 64) & 1));
    tally_expect(value, "sifted_fraction", &sifted, stated(value, "sifted_fraction"));
    json_object_del(value->left, "sifted_fraction");
}

static struct qn_wcp wcp_of(const struct value *value, double length_km) {
    return (struct qn_wcp){
        .transmittance = param(value, "eta_Bob") * qn_fibre_transmittance(length_km, param(value, "alpha_dB_km"), 0),
        .vacuum_yield = param(value, "Y0"),
        .misalignment = param(value, "e_d"),
    };
}

static void gys(struct value *value) {
    double mean = param(value, "mu");
    struct qn_wcp wcp = wcp_of(value, param(value, "L_km"));
    struct qn_receiver receiver = {.transmittance = wcp.transmittance,
                                   .misalignment = wcp.misalignment,
                                   .efficiency = {1, 1},
                                   .dark = {wcp.vacuum_yield / 2, wcp.vacuum_yield / 2},
                                   .kept = 1,
                                   .test_basis = 0.5,
                                   .pixels = 1};
    struct qn_expected expected = pulses_expected(QN_EMIT_COHERENT, mean, receiver, (struct qn_attack){0});
    expect(value, "Q_MQZL", qn_wcp_gain(&wcp, mean));
    expect(value, "E_MQZL", qn_wcp_qber(&wcp, mean));
    expect(value, "Q_exact_two_detector", expected.gain[0][0]);
    expect(value, "E_exact_two_detector", expected.error[1][0] / expected.gain[1][0]);
}

static void gys_published(struct value *value) {
    struct qn_wcp wcp = wcp_of(value, param(value, "L_km"));
    double qber = qn_wcp_qber(&wcp, param(value, "mu"));
    expect(value, "QBER_model", qber);
    expect_near(value, "QBER_published", qber, 0.002);
}

static void decoy_best_mean(struct value *value) {
    double mean = qn_wcp_best_mean(param(value, "e_d"), param(value, "f_EC"));
    expect(value, "mu_opt", mean);
    expect_near(value, "published", mean, 0.01);
}

struct decoy {
    double gain, qber, single_yield, single_qber, rate;
};

static struct decoy decoy_of(const struct value *value, double length_km, double decoy) {
    struct qn_wcp wcp = wcp_of(value, length_km);
    double mean = param(value, "mu"), signal = qn_wcp_gain(&wcp, mean);
    struct decoy out = {.gain = qn_wcp_gain(&wcp, decoy), .qber = qn_wcp_qber(&wcp, decoy)};
    qn_wcp_decoy_bounds(mean, signal, decoy, out.gain, out.qber, wcp.vacuum_yield, &out.single_yield, &out.single_qber);
    out.rate =
        qn_wcp_key_rate(mean, signal, qn_wcp_qber(&wcp, mean), out.single_yield, out.single_qber, param(value, "f_EC"));
    return out;
}

static void decoy_distance(struct value *value) {
    double low[3] = {0, 0, 0}, high[3] = {300, 300, 300};
    for (int step = 0; step < 60; step++) {
        double at[3];
        for (int i = 0; i < 3; i++) at[i] = (low[i] + high[i]) / 2;
        struct qn_wcp limit = wcp_of(value, at[0]), single = wcp_of(value, at[2]);
        bool is_alive[3] = {qn_wcp_key_rate_limit(&limit, param(value, "mu"), param(value, "f_EC")) > 0,
                            decoy_of(value, at[1], 0.05).rate > 0, qn_wcp_single_qber(&single) < 0.25};
        for (int i = 0; i < 3; i++) *(is_alive[i] ? &low[i] : &high[i]) = at[i];
    }
    expect(value, "L_max_km_infinite_decoy", low[0]);
    expect(value, "L_max_km_weak_vacuum_nu0.05", low[1]);
    expect(value, "L_where_e1_25pct", low[2]);
    expect_near(value, "published_infinite", low[0], 0.6);
    expect_near(value, "published_weak_vacuum", low[1], 0.6);
    expect_near(value, "published_upper_bound_km", low[2], 0.6);
}

static void decoy_weak_vacuum(struct value *value) {
    double length = param(value, "L_km"), mean = param(value, "mu");
    struct qn_wcp wcp = wcp_of(value, length);
    struct decoy decoy = decoy_of(value, length, param(value, "nu"));
    expect(value, "Q_mu", qn_wcp_gain(&wcp, mean));
    expect(value, "E_mu", qn_wcp_qber(&wcp, mean));
    expect(value, "Q_nu", decoy.gain);
    expect(value, "E_nu", decoy.qber);
    expect(value, "Y1_lower", decoy.single_yield);
    expect(value, "e1_upper", decoy.single_qber);
    expect(value, "Y1_true", qn_wcp_single_yield(&wcp));
    expect(value, "e1_true", qn_wcp_single_qber(&wcp));
    expect(value, "R_weak_vacuum_per_pulse", decoy.rate);
    expect(value, "R_infinite", qn_wcp_key_rate_limit(&wcp, mean, param(value, "f_EC")));
}

static void dead_time(struct value *value) {
    double rate = param(value, "rate_in_Hz"), dead = param(value, "dead_time_s"),
           counts = qn_dead_time_rate(rate, dead);
    double sd = sqrt(qn_dead_time_variance(rate, dead, 1));
    expect(value, "rate_out_Hz", counts);
    expect(value, "se_counts_1s", sd);
    struct qn_rng rng = rng_for(value);
    double sampled = -1; /* The one after the end. */
    for (double t = 0; t < 1; sampled++) t += (sampled >= 0 ? dead : 0) + qn_rng_exponential(&rng) / rate;
    near(value->name, "sampled", sampled, counts, 5 * sd);
}

static void jitter(struct value *value) {
    double sigma = param(value, "sigma_s"), gate = param(value, "gate_full_s"), kept = qn_jitter_kept(sigma, gate);
    expect(value, "fraction_in_gate", kept);
    struct qn_rng rng = rng_for(value);
    struct tally inside = {0};
    while (inside.n < 100000) tally_add(&inside, fabs(sigma * qn_rng_normal(&rng)) < gate / 2);
    tally_expect(value, "sampled", &inside, kept);
}

static void afterpulse(struct value *value) {
    double click = param(value, "p_click"), after = param(value, "p_afterpulse_next_gate");
    expect(value, "rate", qn_afterpulse_probability(click, after));
    /* Clearer where it is strong. */
    struct qn_rng rng = rng_for(value);
    struct tally clicks = {0};
    bool clicked = false;
    while (clicks.n < 1000000) {
        clicked = qn_rng_double(&rng) < 0.1 || (clicked && qn_rng_double(&rng) < 0.4);
        tally_add(&clicks, clicked);
    }
    /* Neighbours are correlated: the variance of the mean is (1 + r) / (1 - r) times larger, r = 0.4 * 0.9. */
    near(value->name, "sampled", clicks.sum / clicks.n, qn_afterpulse_probability(0.1, 0.4),
         5 * sqrt(0.13 * 2.2 / clicks.n));
}

static void poisson_source(struct value *value) {
    double mean = param(value, "mu"), p[3] = {qn_wcp_photons(mean, 0), qn_wcp_photons(mean, 1)}, pairs = 0;
    p[2] = 1 - p[0] - p[1];
    for (unsigned n = 2; n < 40; n++) pairs += n * (n - 1) * qn_wcp_photons(mean, n);
    struct qn_rng rng = rng_for(value);
    struct tally seen[3] = {0};
    while (seen[0].n < 1000000) {
        uint64_t n = qn_rng_poisson(&rng, mean);
        for (uint64_t k = 0; k < 3; k++) tally_add(&seen[k], k < 2 ? n == k : n >= 2);
    }
    for (int k = 0; k < 3; k++) tally_expect(value, "sampled", &seen[k], p[k]);
    expect(value, "P0", p[0]);
    expect(value, "P1", p[1]);
    expect(value, "P_ge2", p[2]);
    expect(value, "g2", pairs / (mean * mean));
}

static void fibre(struct value *value) {
    struct qn_topo_node nodes[2] = {0};
    struct qn_topology topology = {.nodes = nodes, .n_nodes = 2};
    struct qn_topo_link link = {.b = 1,
                                .via = QN_NO_NODE,
                                .length_km = param(value, "L_km"),
                                .light_speed_km_s = 2e5,
                                .probability = 1,
                                .fidelity = 1};
    struct qn_link_plan plan;
    cr_assert_eq(qn_link_plan(&topology, &link, &plan), 0);
    expect(value, "delay_s_at_2e5km_s", (double)plan.photon_a_ns * 1e-9);
    expect(value, "eta", qn_fibre_transmittance(param(value, "L_km"), param(value, "alpha_dB_km"), 0));
}

static void spdc_polarised(struct value *value) {
    struct qn_spdc source = {.lambda = param(value, "lambda_half_mean_pairs"),
                             .eta_a = param(value, "eta_A"),
                             .eta_b = param(value, "eta_B"),
                             .vacuum_a = param(value, "Y0A"),
                             .vacuum_b = param(value, "Y0B"),
                             .misalignment = param(value, "e_d")};
    expect(value, "Q_coincidence", qn_spdc_gain(&source));
    expect(value, "E", qn_spdc_qber(&source));
    double gain = 0; /* Pair number by pair number. */
    for (unsigned n = 0; n < 100; n++)
        gain += qn_spdc_polarised(source.lambda, n) * (1 - (1 - source.vacuum_a) * pow(1 - source.eta_a, n)) *
                (1 - (1 - source.vacuum_b) * pow(1 - source.eta_b, n));
    same(value->name, "sum over pairs", gain, qn_spdc_gain(&source));
}

static void spdc_thermal(struct value *value) {
    double mean = param(value, "mean_pairs");
    expect(value, "P0", qn_spdc_thermal(mean, 0));
    expect(value, "P1", qn_spdc_thermal(mean, 1));
    expect(value, "P2", qn_spdc_thermal(mean, 2));
    expect(value, "CAR_no_dark_small_eta_limit", qn_spdc_car(mean));
}

Test(qkd, closed_forms_match_the_figures) {
    static const struct value_case cases[] = {
        {"bb84_intercept_resend_", intercept_resend},
        {"bb84_ir_plus_misalign_", intercept_resend},
        {"bb84_breidbart", breidbart},
        {"bb84_sift_ratio", sift_ratio},
        {"gys_gain_qber_", gys},
        {"gys_published_", gys_published},
        {"decoy_mu_opt_gys", decoy_best_mean},
        {"decoy_max_distance_gys", decoy_distance},
        {"decoy_weak_vacuum_", decoy_weak_vacuum},
        {"detector_dead_time", dead_time},
        {"detector_jitter_gate", jitter},
        {"detector_afterpulse_gated", afterpulse},
        {"poisson_source_", poisson_source},
        {"fibre_loss_", fibre},
        {"spdc_pol_", spdc_polarised},
        {"spdc_single_mode_thermal", spdc_thermal},
    };
    values_check("qkd", CASES(cases), 32);
}
