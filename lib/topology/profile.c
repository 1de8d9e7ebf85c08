/* SPDX-License-Identifier: Apache-2.0 */
#include "topology/internal.h"

/* Numbers of real hardware, one published experiment or simulation each, rounded: a start, not a data sheet. Figures
 * without a source named are of the size usual for that hardware. */
struct hardware {
    double t1_s, t2_s, gate1_error, gate2_error, readout_error, gate_s, readout_s;
    enum qn_bsm bsm;
    double bsm_efficiency;
    double detector_efficiency, dark_rate_hz, gate_window_s;
};

static const struct hardware profiles[] = {
    [PROFILE_IDEAL] = {.bsm = QN_BSM_DETERMINISTIC,
                       .bsm_efficiency = 1,
                       .detector_efficiency = 1,
                       .gate_window_s = 1e-9},

    /* Nitrogen-vacancy centres in diamond. T1 above an hour, T2 1.58 s: Abobeih et al., Nat. Commun. 9, 2552 (2018).
     * Gates between electron and carbon 500 us with 2 % error, readout 3.7 us with errors 5 % and 0.5 %: Coopmans et
     * al. (NetSquid), Commun. Phys. 4, 164 (2021), after the experiments of Humphreys et al., Nature 558, 268 (2018).
     */
    [PROFILE_NV] = {.t1_s = 3600,
                    .t2_s = 1.58,
                    .gate1_error = 0.001,
                    .gate2_error = 0.02,
                    .readout_error = 0.0275,
                    .gate_s = 500e-6,
                    .readout_s = 3.7e-6,
                    .bsm = QN_BSM_DETERMINISTIC,
                    .bsm_efficiency = 1,
                    .detector_efficiency = 0.8,
                    .dark_rate_hz = 10,
                    .gate_window_s = 30e-9},

    /* Trapped ions, hyperfine qubits: T1 endless, T2 50 s, single-qubit gates 1e-6, readout 7e-4: Harty et al., PRL
     * 113, 220501 (2014). Two-qubit gates 1e-3 in 100 us: Ballance et al., PRL 117, 060504 (2016). Readout 145 us:
     * Myerson et al., PRL 100, 200502 (2008). Detectors 87 %, 1 Hz: Krutyanskiy et al., npj Quantum Inf. 5, 72 (2019).
     */
    [PROFILE_TRAPPED_ION] = {.t1_s = 0,
                             .t2_s = 50,
                             .gate1_error = 1e-6,
                             .gate2_error = 0.001,
                             .readout_error = 0.0007,
                             .gate_s = 100e-6,
                             .readout_s = 145e-6,
                             .bsm = QN_BSM_DETERMINISTIC,
                             .bsm_efficiency = 1,
                             .detector_efficiency = 0.87,
                             .dark_rate_hz = 1,
                             .gate_window_s = 10e-6},

    /* Cold atomic ensembles with linear optics: Sangouard et al., Rev. Mod. Phys. 83, 33 (2011). Lifetime 0.22 s,
     * retrieval 76 %: Yang et al., Nat. Photonics 10, 381 (2016), here with detectors of 90 % in the Bell-state
     * measurement. */
    [PROFILE_ATOMIC_ENSEMBLE] = {.t1_s = 0.22,
                                 .t2_s = 0.22,
                                 .gate1_error = 0.001,
                                 .gate2_error = 0.01,
                                 .readout_error = 0.01,
                                 .gate_s = 1e-6,
                                 .readout_s = 1e-6,
                                 .bsm = QN_BSM_LINEAR_OPTICS,
                                 .bsm_efficiency = 0.68,
                                 .detector_efficiency = 0.9,
                                 .dark_rate_hz = 100,
                                 .gate_window_s = 100e-9},

    /* All-photonic: qubits wait in fibre, 1/e after 21.7 km at 0.2 dB/km, about 100 us (the scheme: Azuma, Tamaki and
     * Lo, Nat. Commun. 6, 6787 (2015)). Nanowire detectors 93 %: Marsili et al., Nat. Photonics 7, 210 (2013). */
    [PROFILE_PHOTONIC] = {.t1_s = 100e-6,
                          .t2_s = 100e-6,
                          .gate1_error = 0.0001,
                          .gate2_error = 0.001,
                          .readout_error = 0.001,
                          .gate_s = 1e-9,
                          .readout_s = 1e-9,
                          .bsm = QN_BSM_LINEAR_OPTICS,
                          .bsm_efficiency = 0.93,
                          .detector_efficiency = 0.93,
                          .dark_rate_hz = 10,
                          .gate_window_s = 1e-9},
};

/* Memories and repeaters have detectors too: those of the analyser at the receiving end of a link. */
unsigned role_parts(enum qn_role role) {
    switch (role) {
    case QN_ROLE_SOURCE:
        return NODE_SOURCE;
    case QN_ROLE_DETECTOR:
        return NODE_DETECTOR;
    case QN_ROLE_REPEATER:
    case QN_ROLE_MEMORY:
        return NODE_MEMORY | NODE_DETECTOR;
    }
    return 0;
}

unsigned node_parts(const struct qn_topo_node *node) {
    unsigned parts = 0;
    if (node->memories > 0) parts |= NODE_MEMORY;
    if (node->detector_efficiency > 0) parts |= NODE_DETECTOR;
    if (node->clock_hz > 0) {
        parts |= NODE_SOURCE;
        if (node->source != QN_SOURCE_SINGLE_PHOTON) parts |= NODE_MEAN;
        if (node->source == QN_SOURCE_HERALDED) parts |= NODE_HERALD;
    }
    return parts;
}

void profile_fill(struct qn_topo_node *node, enum profile profile, unsigned parts) {
    const struct hardware *hardware = &profiles[profile];
    if (parts & NODE_MEMORY) {
        node->memories = node->role == QN_ROLE_REPEATER ? 8 : 4;
        node->t1_s = hardware->t1_s;
        node->t2_s = hardware->t2_s;
        node->gate1_error = hardware->gate1_error;
        node->gate2_error = hardware->gate2_error;
        node->readout_error = hardware->readout_error;
        node->gate_s = hardware->gate_s;
        node->readout_s = hardware->readout_s;
        node->bsm = hardware->bsm;
        node->bsm_efficiency = hardware->bsm_efficiency;
    }
    if (parts & NODE_DETECTOR) {
        node->detector_efficiency = hardware->detector_efficiency;
        node->dark_rate_hz = hardware->dark_rate_hz;
        node->gate_window_s = hardware->gate_window_s;
        node->pixels = 1;
    }
    if (parts & NODE_SOURCE) {
        node->source = QN_SOURCE_WEAK_COHERENT;
        node->clock_hz = 100e6;
        node->herald_efficiency = 0.5;
    }
}

void profile_settle(struct qn_topo_node *node) {
    if (node_parts(node) & NODE_MEAN && node->mean_photons == 0)
        node->mean_photons = node->source == QN_SOURCE_WEAK_COHERENT ? 0.1 : 0.05;
}
