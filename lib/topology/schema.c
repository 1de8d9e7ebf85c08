/* SPDX-License-Identifier: Apache-2.0 */
#include "topology/internal.h"

/* Every key of the file, once. The parser, the canonical form and the JSON Schema all read these tables; the rows of a
 * table stand in the order of its enum in internal.h, which is also the order of the canonical form. */

const char *const role_words[] = {"source", "repeater", "detector", "memory", NULL};
const char *const profile_words[] = {"ideal", "nv", "trapped-ion", "atomic-ensemble", "photonic", NULL};
const char *const kind_words[] = {"entanglement", "bb84", "classical", NULL};
const char *const model_words[] = {"ideal", "double-click", "single-click", NULL};
const char *const source_words[] = {"single-photon", "weak-coherent", "pairs", "heralded", NULL};
const char *const preset_words[] = {"none", "gys", "lim2014", "rusca2018", "yuan2018", "li2023", "boaron2018", NULL};
const char *const protocol_words[] = {"plain", "one-decoy", "two-decoy", NULL};
const char *const dead_scope_words[] = {"pixel", "receiver", NULL};
const char *const bsm_words[] = {"deterministic", "linear-optics", NULL};

#define TIME_MAX_S 1e9
#define TIME_MAX_NS 1e18

#define ROOT(member) .offset = offsetof(struct root_draft, member)
#define NODE(member) .offset = offsetof(struct node_draft, member)
#define LINK(member) .offset = offsetof(struct link_draft, link.member)
#define LINK_OF(member) .offset = offsetof(struct link_draft, member)
#define NUMBER(dim, low, high) .type = FIELD_QUANTITY, .dimension = QN_DIM_##dim, .min = (low), .max = (high)
#define WORD(list) .type = FIELD_WORD, .words = (list)
#define TIME_NS .type = FIELD_TIME_NS, .dimension = QN_DIM_TIME_S, .min = 0, .max = TIME_MAX_NS

static const struct field root_fields[] = {
    [ROOT_VERSION] = {"version", FIELD_COUNT, ROOT(version), .flags = FIELD_REQUIRED, .min = 1, .max = 1,
                      .help = "Version of this format."},
    [ROOT_NETWORK] = {"network", FIELD_NAME, ROOT(topology.name), .flags = FIELD_REQUIRED,
                      .help = "Name of the network."},
    [ROOT_SEED] = {"seed", FIELD_SEED, ROOT(topology.seed), .fallback = "1",
                   .help = "Seed of all physics. The simulator repeats a run from it."},
    [ROOT_TIME_SCALE] = {"time_scale", NUMBER(NONE, 1e-6, 1e6), ROOT(topology.time_scale), .fallback = "1",
                         .help = "Emulated seconds per wall second."},
    [ROOT_DEAD_AFTER] = {"node_dead_after", NUMBER(TIME_S, 0.01, TIME_MAX_S), ROOT(topology.node_dead_after_s),
                         .flags = FIELD_PRIVATE, .fallback = "30s",
                         .help = "Wall time after which a node that nobody can reach is taken for dead."},
    [ROOT_KEY_TTL] = {"key_ttl", NUMBER(TIME_S, 0, TIME_MAX_S), ROOT(topology.key_ttl_s), .flags = FIELD_PRIVATE,
                      .fallback = "0s",
                      .help = "Secret keys not taken by then are given up, at both ends; 0 for never."},
    [ROOT_DEFAULTS] = {"defaults", FIELD_SECTION, .flags = FIELD_INPUT_ONLY,
                       .help = "Values for every node and link that has the hardware and does not give its own."},
    [ROOT_NODES] = {"nodes", FIELD_SECTION, .flags = FIELD_REQUIRED, .help = "The nodes by name."},
    [ROOT_LINKS] = {"links", FIELD_SECTION, .help = "The links by name."},
};

static const struct field node_fields[] = {
    [NODE_ROLE] = {"role", WORD(role_words), NODE(node.role), .flags = FIELD_REQUIRED | FIELD_ENTRY_ONLY,
                   .help = "Preset of hardware."},
    [NODE_PROFILE] = {"profile", WORD(profile_words), NODE(profile), .flags = FIELD_INPUT_ONLY, .fallback = "ideal",
                      .help = "Hardware whose published numbers stand where none is given."},
    [NODE_CLASSICAL] = {"classical", FIELD_ADDRESS, NODE(node.classical), .flags = FIELD_ENTRY_ONLY | FIELD_PRIVATE,
                        .help = "Where the node listens for protocol messages, host:port."},
    [NODE_QUANTUM] = {"quantum", FIELD_ADDRESS, NODE(node.quantum), .flags = FIELD_ENTRY_ONLY | FIELD_PRIVATE,
                      .help = "Where the node listens for photons, host:port."},
    [NODE_OPERATIONS] = {"operations", FIELD_ADDRESS, NODE(node.operations), .flags = FIELD_ENTRY_ONLY | FIELD_PRIVATE,
                         .help = "Where the node serves health and metrics, host:port."},
    [NODE_KEY] = {"key", FIELD_KEY, NODE(node.public_key), .flags = FIELD_ENTRY_ONLY | FIELD_PRIVATE,
                  .help = "The node's public key (X25519), 32 bytes in base64 or hexadecimal."},
    [NODE_MEMORIES] = {"memories", FIELD_COUNT, NODE(node.memories), .flags = FIELD_ALWAYS, .part = NODE_MEMORY,
                       .min = 0, .max = 65536, .fallback = "4 (memory), 8 (repeater), 0", .help = "Memory qubits."},
    [NODE_T1] = {"t1", NUMBER(TIME_S, 0, TIME_MAX_S), NODE(node.t1_s), .part = NODE_MEMORY, .fallback = "profile",
                 .help = "Relaxation time of a memory; 0 for no decay."},
    [NODE_T2] = {"t2", NUMBER(TIME_S, 0, TIME_MAX_S), NODE(node.t2_s), .part = NODE_MEMORY,
                 .fallback = "profile, at most 2 t1",
                 .help = "Coherence time of a memory, at most 2 t1; 0 for no decay."},
    [NODE_GATE_ERROR] = {"gate_error", NUMBER(FRACTION, 0, 1), NODE(node.gate1_error),
                         .also = offsetof(struct node_draft, node.gate2_error), .flags = FIELD_INPUT_ONLY,
                         .part = NODE_MEMORY, .help = "Sets gate1_error and gate2_error."},
    [NODE_GATE1_ERROR] = {"gate1_error", NUMBER(FRACTION, 0, 1), NODE(node.gate1_error), .part = NODE_MEMORY,
                          .fallback = "profile", .help = "Depolarising probability of a gate on one qubit."},
    [NODE_GATE2_ERROR] = {"gate2_error", NUMBER(FRACTION, 0, 1), NODE(node.gate2_error), .part = NODE_MEMORY,
                          .fallback = "profile", .help = "Depolarising probability of a gate on two qubits."},
    [NODE_READOUT_ERROR] = {"readout_error", NUMBER(FRACTION, 0, 1), NODE(node.readout_error), .part = NODE_MEMORY,
                            .fallback = "profile", .help = "Probability that a measured bit is flipped."},
    [NODE_GATE_TIME] = {"gate_time", NUMBER(TIME_S, 0, TIME_MAX_S), NODE(node.gate_s), .part = NODE_MEMORY,
                        .fallback = "profile", .help = "Duration of a gate."},
    [NODE_READOUT_TIME] = {"readout_time", NUMBER(TIME_S, 0, TIME_MAX_S), NODE(node.readout_s), .part = NODE_MEMORY,
                           .fallback = "profile", .help = "Duration of a measurement."},
    [NODE_BSM] =
        {"bsm", WORD(bsm_words), NODE(node.bsm), .part = NODE_MEMORY, .fallback = "profile",
         .help = "Bell-state measurement between two memories: deterministic, or by linear optics (half succeed)."},
    [NODE_BSM_EFFICIENCY] = {"bsm_efficiency", NUMBER(FRACTION, 1e-6, 1), NODE(node.bsm_efficiency),
                             .part = NODE_MEMORY, .fallback = "profile",
                             .help = "Detector efficiency of a linear-optics Bell-state measurement."},
    [NODE_CUTOFF] = {"cutoff", TIME_NS, NODE(node.cutoff_ns), .part = NODE_MEMORY, .fallback = "0",
                     .help = "A repeater discards pairs older than this; 0 for never."},
    [NODE_EFFICIENCY] = {"efficiency", NUMBER(FRACTION, 1e-6, 1), NODE(node.detector_efficiency), .part = NODE_DETECTOR,
                         .fallback = "profile; none (source)", .help = "Efficiency of the single-photon detectors."},
    [NODE_DARK_RATE] = {"dark_rate", NUMBER(FREQUENCY_HZ, 0, 1e12), NODE(node.dark_rate_hz), .part = NODE_DETECTOR,
                        .fallback = "profile", .help = "Dark counts of one detector."},
    [NODE_GATE_WINDOW] = {"gate_window", NUMBER(TIME_S, 0, 1), NODE(node.gate_window_s), .part = NODE_DETECTOR,
                          .fallback = "profile",
                          .help = "Time for which a detector is open around an expected photon."},
    [NODE_MISMATCH] = {"mismatch", NUMBER(FRACTION, 0, 1), NODE(node.mismatch), .part = NODE_DETECTOR, .fallback = "0",
                       .help = "BB84: by which share detector 1 is less efficient than detector 0."},
    [NODE_DEAD_TIME] = {"dead_time", NUMBER(TIME_S, 0, 1), NODE(node.dead_s), .part = NODE_DETECTOR, .fallback = "0",
                        .help = "BB84: time for which a count blinds a detector."},
    [NODE_DEAD_TIME_SCOPE] = {"dead_time_scope", WORD(dead_scope_words), NODE(node.dead_scope), .part = NODE_DETECTOR,
                              .fallback = "pixel", .help = "BB84: whom a count blinds, its pixel or the receiver."},
    [NODE_AFTERPULSE] = {"afterpulse", NUMBER(FRACTION, 0, 0.5), NODE(node.afterpulse), .part = NODE_DETECTOR,
                         .fallback = "0", .help = "BB84: chance that a count brings another, after the dead time."},
    [NODE_JITTER] = {"jitter", NUMBER(TIME_S, 0, 1), NODE(node.jitter_s), .part = NODE_DETECTOR, .fallback = "0",
                     .help = "BB84: standard deviation of the time of a count; what falls outside the gate is lost."},
    [NODE_PIXELS] = {"pixels", FIELD_COUNT, NODE(node.pixels), .part = NODE_DETECTOR, .min = 1, .max = 64,
                     .fallback = "1", .help = "BB84: pixels of a detector, which share its light evenly."},
    [NODE_SOURCE_KIND] = {"source", WORD(source_words), NODE(node.source), .part = NODE_SOURCE,
                          .fallback = "weak-coherent (source); none", .help = "Kind of photon source."},
    [NODE_CLOCK] = {"clock", NUMBER(FREQUENCY_HZ, 1e-3, 1e12), NODE(node.clock_hz), .part = NODE_SOURCE,
                    .fallback = "100MHz", .help = "Pulses per second."},
    [NODE_MEAN_PHOTONS] = {"mean_photons", NUMBER(NONE, 1e-9, 100), NODE(node.mean_photons), .part = NODE_MEAN,
                           .fallback = "0.1 (weak-coherent), 0.05 (pairs)",
                           .help = "Mean number of photons, or of pairs, in a pulse."},
    [NODE_HERALD_EFFICIENCY] = {"herald_efficiency", NUMBER(FRACTION, 1e-6, 1), NODE(node.herald_efficiency),
                                .part = NODE_HERALD, .fallback = "0.5",
                                .help = "Heralded source: efficiency of its own detector."},
    [NODE_X] = {"x", NUMBER(NONE, -1e6, 1e6), NODE(node.x), .flags = FIELD_ENTRY_ONLY, .help = "Place on a drawing."},
    [NODE_Y] = {"y", NUMBER(NONE, -1e6, 1e6), NODE(node.y), .flags = FIELD_ENTRY_ONLY, .help = "Place on a drawing."},
};

#define PAIRS LINK_PART(QN_LINK_ENTANGLEMENT)
#define PULSES LINK_PART(QN_LINK_BB84)

static const struct field link_fields[] = {
    [LINK_BETWEEN] = {"between", FIELD_ENDS, LINK(a), .flags = FIELD_REQUIRED | FIELD_ENTRY_ONLY,
                      .help = "The two ends."},
    [LINK_KIND] = {"kind", WORD(kind_words), LINK(kind), .flags = FIELD_ENTRY_ONLY, .fallback = "follows from the ends",
                   .help = "bb84 goes from a source to a detector, entanglement joins two nodes with memories."},
    [LINK_VIA] = {"via", FIELD_NODE, LINK(via), .flags = FIELD_ENTRY_ONLY, .part = PAIRS,
                  .help = "Station in the middle: a detector (photons meet there) or a source of pairs. "
                          "Without one the photon goes from the first end to the second."},
    [LINK_PRESET] = {"preset", WORD(preset_words), LINK_OF(preset), .flags = FIELD_INPUT_ONLY, .part = PULSES,
                     .fallback = "none",
                     .help = "BB84: a published link, whose numbers stand where the link and its ends give none."},
    [LINK_MODEL] =
        {"model", WORD(model_words), LINK(model), .part = PAIRS, .fallback = "ideal",
         .help = "How pairs are heralded: ideal (fidelity and probability as given), double-click, single-click."},
    [LINK_LENGTH] = {"length", NUMBER(LENGTH_KM, 0, 1e6), LINK(length_km), .fallback = "0",
                     .help = "Fibre from end to end, through the station if there is one."},
    [LINK_LOSS] = {"loss", NUMBER(LOSS_DB_KM, 0, 1000), LINK(loss_db_km), .part = PAIRS | PULSES,
                   .fallback = "0.2dB/km", .help = "Attenuation of the fibre."},
    [LINK_INSERTION_LOSS] = {"insertion_loss", NUMBER(LOSS_DB, 0, 1000), LINK(insertion_loss_db),
                             .part = PAIRS | PULSES, .fallback = "0",
                             .help = "Fixed loss of the link, or all of it in free space."},
    [LINK_LIGHT_SPEED] = {"light_speed", NUMBER(SPEED_KM_S, 1, 299792.458), LINK(light_speed_km_s),
                          .fallback = "200000km/s", .help = "Speed of light in the link."},
    [LINK_CLASSICAL_DELAY] = {"classical_delay", TIME_NS, LINK(classical_delay_ns), .fallback = "length / light_speed",
                              .help = "Emulated time of a classical message from end to end."},
    [LINK_FIDELITY] = {"fidelity", NUMBER(FRACTION, 0, 1), LINK(fidelity), .part = PAIRS, .fallback = "1",
                       .help = "Fidelity of a pair of the ideal model or of a pair source (Werner state)."},
    [LINK_PROBABILITY] = {"probability", NUMBER(FRACTION, 1e-12, 1), LINK(probability), .part = PAIRS, .fallback = "1",
                          .help = "Ideal model: success of one attempt."},
    [LINK_ATTEMPT_TIME] = {"attempt_time", NUMBER(TIME_S, 0, 1000), LINK(attempt_s), .part = PAIRS, .fallback = "10us",
                           .help = "Time of one attempt besides light's way."},
    [LINK_VISIBILITY] = {"visibility", NUMBER(FRACTION, 0, 1), LINK(visibility), .part = PAIRS, .fallback = "1",
                         .help = "Two-photon interference."},
    [LINK_ALPHA] = {"alpha", NUMBER(FRACTION, 1e-6, 1), LINK(alpha), .part = PAIRS, .fallback = "0.1",
                    .help = "Single click: population of the bright state."},
    [LINK_EMISSION_EFFICIENCY] = {"emission_efficiency", NUMBER(FRACTION, 1e-9, 1), LINK(emission_efficiency),
                                  .part = PAIRS, .fallback = "1",
                                  .help =
                                      "Chance that a memory's photon gets into the fibre: collection x conversion."},
    [LINK_MISALIGNMENT] = {"misalignment", NUMBER(FRACTION, 0, 1), LINK(misalignment), .part = PULSES, .fallback = "0",
                           .help = "BB84: probability that a photon reaches the wrong detector."},
    [LINK_APERTURE] = {"aperture", NUMBER(LENGTH_KM, 0, 0.1), LINK(aperture_km), .part = PULSES, .fallback = "0",
                       .help = "BB84 in free space: diameter of the receiver's telescope; 0 for fibre."},
    [LINK_BEAM_WAIST] = {"beam_waist", NUMBER(LENGTH_KM, 0, 0.1), LINK(beam_waist_km), .part = PULSES, .fallback = "0",
                         .help = "BB84 in free space: radius of the beam at the sender."},
    [LINK_DIVERGENCE] = {"divergence", NUMBER(ANGLE_RAD, 0, 1), LINK(divergence_rad), .part = PULSES, .fallback = "0",
                         .help = "BB84 in free space: half angle at which the beam widens."},
    [LINK_PROTOCOL] = {"protocol", WORD(protocol_words), LINK(protocol), .part = PULSES,
                       .fallback = "follows from the number of intensities",
                       .help = "BB84: what bounds the photons Eve may have split off."},
    [LINK_INTENSITIES] = {"intensities", FIELD_LIST, LINK(intensities), .part = PULSES, .dimension = QN_DIM_NONE,
                          .min = 0, .max = 100, .fallback = "chosen for the link, or mean_photons (plain)",
                          .help = "BB84: mean photon numbers of signal and decoys, strongest first."},
    [LINK_PROBABILITIES] = {"probabilities", FIELD_LIST, LINK(probabilities), .part = PULSES,
                            .dimension = QN_DIM_FRACTION, .min = 1e-4, .max = 1, .fallback = "chosen for the link",
                            .help = "BB84: how often each intensity is sent."},
    [LINK_KEY_BASIS] = {"key_basis", NUMBER(FRACTION, 0, 0.9999), LINK(key_basis), .part = PULSES,
                        .fallback = "0 (chosen for the link; 0.5 if plain)",
                        .help = "BB84: chance of the key basis at each end."},
    [LINK_BLOCK_SIZE] = {"block_size", NUMBER(NONE, 0, 1e10), LINK(block_size), .part = PULSES,
                         .fallback = "0 (chosen for the link)",
                         .help = "BB84: sifted bits of the key basis in a block."},
    [LINK_EPS_SEC] = {"eps_sec", NUMBER(NONE, 1e-30, 0.1), LINK(eps_sec), .part = PAIRS | PULSES, .fallback = "1e-9",
                      .help = "Chance that a block's key is not secret; over repeaters the least of the links'."},
    [LINK_EPS_COR] = {"eps_cor", NUMBER(NONE, 1e-30, 0.1), LINK(eps_cor), .part = PAIRS | PULSES, .fallback = "1e-15",
                      .help = "Chance that the two ends' keys differ; over repeaters the least of the links'."},
};

#define TABLE(name, list)                                                                                              \
    { name, list, sizeof(list) / sizeof((list)[0]) }
const struct table root_table = TABLE("network", root_fields);
const struct table node_table = TABLE("node", node_fields);
const struct table link_table = TABLE("link", link_fields);
_Static_assert(sizeof(node_fields) / sizeof(node_fields[0]) <= TABLE_MAX, "raise TABLE_MAX");
_Static_assert(sizeof(link_fields) / sizeof(link_fields[0]) <= TABLE_MAX, "raise TABLE_MAX");
/* Pointers to a draft and to what it drafts are the same. */
_Static_assert(offsetof(struct node_draft, node) == 0 && offsetof(struct link_draft, link) == 0, "keep them first");
