/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_TOPOLOGY_H
#define QN_TOPOLOGY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* A network as its YAML file describes it: nodes, links and their hardware, all numbers in SI units (but km, dB/km). */

#define QN_NAME_MAX 63
#define QN_MAX_NODES 4096
#define QN_MAX_LINKS 16384
#define QN_NO_NODE UINT16_MAX
#define QN_TOPOLOGY_BYTES_MAX (16u << 20) /* Of a file: the canonical form of the largest network fits. */

enum qn_role { QN_ROLE_SOURCE, QN_ROLE_REPEATER, QN_ROLE_DETECTOR, QN_ROLE_MEMORY };
enum qn_link_kind {
    QN_LINK_ENTANGLEMENT, /* Heralded pairs between two nodes with memories. */
    QN_LINK_BB84,         /* Prepare and measure, `a` is the source, `b` the detector. */
    QN_LINK_CLASSICAL,    /* Only a classical channel. */
};
enum qn_link_model { QN_MODEL_IDEAL, QN_MODEL_DOUBLE_CLICK, QN_MODEL_SINGLE_CLICK };
enum qn_placement {
    QN_PLACE_SENDER_RECEIVER, /* Analyser at `b`. */
    QN_PLACE_MIDPOINT,        /* Analyser at `via`, a detector. */
    QN_PLACE_SOURCE,          /* Pair source at `via`. */
};
enum qn_source_kind {
    QN_SOURCE_SINGLE_PHOTON,
    QN_SOURCE_WEAK_COHERENT,
    QN_SOURCE_PAIRS,
    QN_SOURCE_HERALDED, /* Single photons out of pairs, of which the source detects the other half. */
};
enum qn_dead_time_scope { QN_DEAD_TIME_PIXEL, QN_DEAD_TIME_RECEIVER }; /* Whom a click blinds. */
enum qn_protocol {
    QN_PROTOCOL_PLAIN, /* No decoys: single photons, or weak pulses with the bound of GLLP. */
    QN_PROTOCOL_ONE_DECOY,
    QN_PROTOCOL_TWO_DECOY,
};
enum qn_bsm { QN_BSM_DETERMINISTIC, QN_BSM_LINEAR_OPTICS };

struct qn_address {
    char host[64]; /* Name or number; "" if the file gives none. */
    uint16_t port; /* 0: none. */
};

struct qn_topo_node {
    char name[QN_NAME_MAX + 1];
    enum qn_role role;
    struct qn_address classical, quantum, operations;
    bool has_key;
    uint8_t public_key[32];
    /* Memory hardware; memories is 0 on nodes without. */
    uint32_t memories;
    double t1_s, t2_s;               /* 0: no decay. */
    double gate1_error, gate2_error; /* Depolarising: probability of the maximally mixed state. */
    double readout_error;            /* Probability that a measured bit is flipped. */
    double gate_s, readout_s;        /* Durations. */
    enum qn_bsm bsm;
    double bsm_efficiency; /* Linear optics only: detector efficiency. */
    /* Detectors. */
    double detector_efficiency, dark_rate_hz, gate_window_s;
    double mismatch; /* By which share detector 1 is less efficient than detector 0. */
    double dead_s;   /* Blind for so long after a count. */
    enum qn_dead_time_scope dead_scope;
    double afterpulse; /* Chance that a count brings another. */
    double jitter_s;   /* Standard deviation of the time of a count. */
    uint32_t pixels;   /* Of each detector. */
    /* Source. */
    enum qn_source_kind source;
    double clock_hz, mean_photons; /* Weak coherent: mean number a pulse. Links may have intensities of their own. */
    double herald_efficiency;      /* Heralded: of the source's own detector. */
    uint64_t cutoff_ns;            /* Repeaters discard older pairs; 0: never. */
    double x, y;                   /* Place on a drawing; NaN if not given. */
};

#define QN_TOPO_LIST_MAX 8
struct qn_topo_list {
    uint32_t n; /* 0: none given. */
    double value[QN_TOPO_LIST_MAX];
};

struct qn_topo_link {
    char name[QN_NAME_MAX + 1];
    enum qn_link_kind kind;
    uint16_t a, b, via; /* Indices of nodes; via is QN_NO_NODE without a station. */
    enum qn_link_model model;
    enum qn_placement placement;
    double length_km; /* Whole length a to b. */
    double loss_db_km, insertion_loss_db;
    double light_speed_km_s;     /* 2.0e5 in fibre. */
    uint64_t classical_delay_ns; /* One way, a to b; default length / c. Halved to a station in the middle. */
    double fidelity;             /* Of the ideal model, and of a pair source. Werner. */
    double probability;          /* Of the ideal model: success of one attempt. */
    double attempt_s;            /* Time of one attempt besides light time (preparation). */
    double visibility;           /* Two-photon interference |<a|b>|^2. */
    double alpha;                /* Single click: bright-state population. */
    double emission_efficiency;  /* Collection x conversion of the memories' photons. */
    double misalignment;         /* BB84: probability that a photon reaches the wrong detector. */
    /* BB84, free space: diameter of the receiver's telescope (0: fibre), radius of the beam at the sender, half angle.
     */
    double aperture_km, beam_waist_km, divergence_rad;
    /* BB84, protocol. */
    enum qn_protocol protocol;
    struct qn_topo_list intensities;   /* Strongest first: 2 with one decoy, 3 with two; none: to be chosen. */
    struct qn_topo_list probabilities; /* As many. */
    double key_basis;                  /* Chance of the key basis (Z) at each end; 0: to be chosen. */
    double block_size;                 /* Sifted bits of the key basis in a block; 0: to be chosen. */
    double eps_sec, eps_cor;           /* Secrecy and correctness of a block's key. */
};

struct qn_topology {
    char name[QN_NAME_MAX + 1];
    uint64_t seed;
    double time_scale;          /* Emulated seconds a wall second. */
    double node_dead_after_s;   /* Wall time that a node may be unreachable before it counts as dead. */
    double key_ttl_s;           /* Emulated; 0: keys do not expire. */
    struct qn_topo_node *nodes; /* Owned. */
    size_t n_nodes;
    struct qn_topo_link *links; /* Owned. */
    size_t n_links;
    uint8_t digest[32]; /* BLAKE2b of the canonical form without addresses and keys: peers compare it. */
};

/* Reads `text` (not NUL-terminated). On success 0. Otherwise -QN_EPARSE and every error as "name:line:column: error:
 * ..." lines in `diagnostics`, in the order of the file, at most 100 and then how many more; warnings ("...: warning:
 * ...") are written on success too. -QN_ENOMEM. */
int qn_topology_parse(const char *file_name, const char *text, size_t len, struct qn_topology *ret_topology,
                      struct qn_buf *diagnostics);
void qn_topology_release(struct qn_topology *topology);

/* Canonical YAML of everything, defaults filled in; parsing it gives the same topology. */
int qn_topology_emit_yaml(const struct qn_topology *topology, struct qn_buf *out);
int qn_topology_emit_dot(const struct qn_topology *topology, struct qn_buf *out);
int qn_topology_emit_mermaid(const struct qn_topology *topology, struct qn_buf *out);
int qn_topology_emit_schema(
    struct qn_buf *out); /* JSON Schema of the file, generated from the same table as the parser. */

/* Indices, or -QN_EUNKNOWN_NODE / -QN_EUNKNOWN_LINK. */
int qn_topology_find_node(const struct qn_topology *topology, const char *name);
int qn_topology_find_link(const struct qn_topology *topology, const char *name);
/* The valid name nearest to a misspelt one, or NULL if none is near. Borrowed. */
const char *qn_topology_suggest_node(const struct qn_topology *topology, const char *name);
const char *qn_topology_suggest_link(const struct qn_topology *topology, const char *name);
const char *qn_role_name(enum qn_role role);
const char *qn_link_kind_name(enum qn_link_kind kind);
/* True if the two nodes have a session: they are the ends of a link, or an end and its station. */
bool qn_topology_is_neighbour(const struct qn_topology *topology, uint16_t a, uint16_t b);

/* "20km" -> 20, "10us" -> 1e-5, "1%" -> 0.01. One quantity with its unit: 0, or -QN_EPARSE with why and what is valid
 * in `ret_why` (borrowed, static). */
enum qn_dimension {
    QN_DIM_NONE,
    QN_DIM_LENGTH_KM,
    QN_DIM_TIME_S,
    QN_DIM_FREQUENCY_HZ,
    QN_DIM_LOSS_DB,
    QN_DIM_LOSS_DB_KM,
    QN_DIM_SPEED_KM_S,
    QN_DIM_FRACTION,
    QN_DIM_ANGLE_RAD
};
int qn_quantity_parse(const char *text, enum qn_dimension dimension, double *ret_value, const char **ret_why);

#endif
