/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_TOPOLOGY_INTERNAL_H
#define QN_TOPOLOGY_INTERNAL_H

#include "topology/topology.h"

/* Shared by the files of this folder only. The path of a file: tree.c makes a tree with places of the text, read.c
 * walks it along the tables of schema.c into structs, link.c and check.c ask whether it makes sense, emit.c writes it
 * again. */

/* ---- Diagnostics (diag.c) ---- */

struct place {
    uint32_t line, column; /* From 1. */
};

struct diags {
    struct diag *items; /* Owned. */
    size_t len, cap;
    size_t errors, warnings; /* All that were reported, also those beyond the limits. */
    int rc;                  /* -QN_ENOMEM once a message was lost. */
};

void diag_error(struct diags *diags, struct place at, const char *format, ...) __attribute__((format(printf, 3, 4)));
void diag_warning(struct diags *diags, struct place at, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* `unknown WHAT "TEXT"WHERE: did you mean "..."? valid: ...` */
void diag_unknown(struct diags *diags, struct place at, const char *what, const char *text, const char *where,
                  const char *const *names, size_t n_names);
int diags_write(struct diags *diags, const char *file_name, struct qn_buf *out); /* In the order of the file. */
void diags_release(struct diags *diags);

/* A user's text in quotes, shortened, safe to print: quote(text).s */
struct quoted {
    char s[96];
};
struct quoted quote(const char *text);

/* ---- The file as a tree (tree.c) ---- */

enum tree_kind {
    TREE_BAD, /* Already reported: pass over it in silence. */
    TREE_SCALAR,
    TREE_MAPPING, /* Children: key, value, key, value, ... */
    TREE_SEQUENCE,
};

struct tree_value {
    enum tree_kind kind;
    struct place at;
    bool is_plain;        /* A scalar without quotes. */
    size_t text;          /* Scalar: offset in the pool. */
    uint32_t first, next; /* First child, next sibling; 0 (the root) for none. */
    uint32_t n_children;
};

struct tree {
    struct tree_value *values; /* values[0] is the root. */
    size_t len, cap;
    struct qn_buf pool; /* NUL-terminated texts. */
};

/* Reads at most one document. 0 even when it reported errors, as long as there is a root to walk; -QN_EPARSE,
 * -QN_ENOMEM. */
int tree_read(struct tree *tree, const char *text, size_t len, struct diags *diags);
void tree_release(struct tree *tree);
static inline const char *tree_text(const struct tree *tree, uint32_t value) {
    return (const char *)tree->pool.data + tree->values[value].text;
}

/* ---- Numbers and units (quantity.c) ---- */

enum quantity_fault {
    QUANTITY_OK,
    QUANTITY_NOT_A_NUMBER,
    QUANTITY_NEGATIVE_ZERO,
    QUANTITY_NEGATIVE,
    QUANTITY_TOO_LARGE,
    QUANTITY_TOO_SMALL,
    QUANTITY_NO_UNIT,
    QUANTITY_UNKNOWN_UNIT,
};

struct unit {
    const char *name;
    int exponent; /* Power of ten to the unit of the struct. */
};
struct dimension {
    struct unit units[5]; /* Largest first; ends with a NULL name. */
    bool needs_unit;
};

const struct dimension *dimension_of(enum qn_dimension dimension);
/* Reads exactly: the unit moves the decimal exponent, so 100ns is the double nearest to 1e-7. `shift` more powers of
 * ten (9 reads seconds as nanoseconds). *ret_unit points at the unit in `text` if it is unknown. */
enum quantity_fault quantity_read(const char *text, enum qn_dimension dimension, int shift, double *ret_value,
                                  const char **ret_unit);
const char *quantity_why(enum quantity_fault fault, enum qn_dimension dimension); /* "has no unit; valid: km, m" */

/* The shortest text that reads as the same number, in the unit that suits it. */
struct quantity_text {
    char s[64];
};
struct quantity_text quantity_write(double value, enum qn_dimension dimension, int shift);

/* ---- Spelling (suggest.c) ---- */

const char *suggest(const char *text, const char *const *names, size_t n_names); /* NULL if none is near. */

/* ---- The schema (schema.c) ---- */

enum field_type {
    FIELD_WORD,     /* One of `words`, stored as unsigned. */
    FIELD_COUNT,    /* uint32_t in [min, max]. */
    FIELD_SEED,     /* uint64_t. */
    FIELD_QUANTITY, /* double in [min, max], with units. */
    FIELD_TIME_NS,  /* uint64_t nanoseconds; min and max in nanoseconds. */
    FIELD_NAME,     /* a-z 0-9 -. */
    FIELD_ADDRESS,
    FIELD_KEY,
    FIELD_ENDS,    /* [node, node] */
    FIELD_NODE,    /* A node's name. */
    FIELD_LIST,    /* struct qn_topo_list of quantities: [1, 2]. */
    FIELD_SECTION, /* A mapping with a reader of its own. */
};

enum field_flags {
    FIELD_REQUIRED = 1,
    FIELD_ENTRY_ONLY = 2, /* Not in defaults. */
    FIELD_INPUT_ONLY = 4, /* Fills in others; not in the canonical form. */
    FIELD_PRIVATE = 8,    /* Addresses, keys and patience: not in the digest. */
    FIELD_ALWAYS = 16,    /* In the canonical form even where its part is missing. */
};

/* Which hardware or kind of link a field belongs to; without it the field has no effect. 0 is all. */
enum node_part {
    NODE_MEMORY = 1,
    NODE_DETECTOR = 2,
    NODE_SOURCE = 4,
    NODE_MEAN = 8,   /* A source with a mean to set. */
    NODE_HERALD = 16 /* A heralded source. */
};
#define LINK_PART(kind) (1u << (unsigned)(kind))

struct field {
    const char *key;
    enum field_type type;
    size_t offset; /* In the draft below. */
    unsigned flags, part;
    enum qn_dimension dimension;
    double min, max;
    const char *const *words; /* Ends with NULL. */
    size_t also;              /* A second double that gets the same value; 0 for none. */
    const char *fallback;     /* The default, for people. */
    const char *help;
};

struct table {
    const char *what;
    const struct field *fields;
    size_t len;
};
#define TABLE_MAX 40 /* Fields in the largest table. */

enum preset {
    PRESET_NONE,
    PRESET_GYS,
    PRESET_LIM2014,
    PRESET_RUSCA2018,
    PRESET_YUAN2018,
    PRESET_LI2023,
    PRESET_BOARON2018,
};
enum profile { PROFILE_IDEAL, PROFILE_NV, PROFILE_TRAPPED_ION, PROFILE_ATOMIC_ENSEMBLE, PROFILE_PHOTONIC };

struct root_draft {
    struct qn_topology topology;
    uint32_t version;
};
struct node_draft {
    struct qn_topo_node node;
    enum profile profile;
};
struct link_draft {
    struct qn_topo_link link;
    enum preset preset;
};

/* Positions in the tables that the readers name. */
enum root_field {
    ROOT_VERSION,
    ROOT_NETWORK,
    ROOT_SEED,
    ROOT_TIME_SCALE,
    ROOT_DEAD_AFTER,
    ROOT_KEY_TTL,
    ROOT_DEFAULTS,
    ROOT_NODES,
    ROOT_LINKS
};
enum node_field {
    NODE_ROLE,
    NODE_PROFILE,
    NODE_CLASSICAL,
    NODE_QUANTUM,
    NODE_OPERATIONS,
    NODE_KEY,
    NODE_MEMORIES,
    NODE_T1,
    NODE_T2,
    NODE_GATE_ERROR,
    NODE_GATE1_ERROR,
    NODE_GATE2_ERROR,
    NODE_READOUT_ERROR,
    NODE_GATE_TIME,
    NODE_READOUT_TIME,
    NODE_BSM,
    NODE_BSM_EFFICIENCY,
    NODE_CUTOFF,
    NODE_EFFICIENCY,
    NODE_DARK_RATE,
    NODE_GATE_WINDOW,
    NODE_MISMATCH,
    NODE_DEAD_TIME,
    NODE_DEAD_TIME_SCOPE,
    NODE_AFTERPULSE,
    NODE_JITTER,
    NODE_PIXELS,
    NODE_SOURCE_KIND,
    NODE_CLOCK,
    NODE_MEAN_PHOTONS,
    NODE_HERALD_EFFICIENCY,
    NODE_X,
    NODE_Y,
};
enum link_field {
    LINK_BETWEEN,
    LINK_KIND,
    LINK_VIA,
    LINK_PRESET,
    LINK_MODEL,
    LINK_LENGTH,
    LINK_LOSS,
    LINK_INSERTION_LOSS,
    LINK_LIGHT_SPEED,
    LINK_CLASSICAL_DELAY,
    LINK_FIDELITY,
    LINK_PROBABILITY,
    LINK_ATTEMPT_TIME,
    LINK_VISIBILITY,
    LINK_ALPHA,
    LINK_EMISSION_EFFICIENCY,
    LINK_MISALIGNMENT,
    LINK_APERTURE,
    LINK_BEAM_WAIST,
    LINK_DIVERGENCE,
    LINK_PROTOCOL,
    LINK_INTENSITIES,
    LINK_PROBABILITIES,
    LINK_KEY_BASIS,
    LINK_BLOCK_SIZE,
    LINK_EPS_SEC,
    LINK_EPS_COR,
};

extern const struct table root_table, node_table, link_table;
extern const char *const role_words[], *const profile_words[], *const kind_words[], *const model_words[];
extern const char *const source_words[], *const bsm_words[], *const preset_words[], *const protocol_words[];
extern const char *const dead_scope_words[];

unsigned node_parts(const struct qn_topo_node *node); /* Which hardware it has: enum node_part. */

/* ---- Hardware (profile.c) ---- */

unsigned role_parts(enum qn_role role);
/* What a node of this role has before anything is overridden: `parts` of the profile's hardware. */
void profile_fill(struct qn_topo_node *node, enum profile profile, unsigned parts);
void preset_fill_link(struct qn_topo_link *link, enum preset preset); /* preset.c: published links. */
/* The hardware of a node that a preset's link has as its source (or detector), but for the fields in `given`. */
void preset_fill_node(struct qn_topo_node *node, enum preset preset, bool is_source, uint64_t given);
void profile_settle(struct qn_topo_node *node); /* When the kind of source is read: its mean, if not given. */

/* ---- Reading (read.c: any mapping; node.c, link.c, network.c: what is in it) ---- */

struct slots { /* Where the fields of one mapping are: 0 for absent. */
    uint32_t key[TABLE_MAX], value[TABLE_MAX];
};

struct named {        /* An entry of the nodes or links. */
    const char *name; /* Borrowed from the tree. */
    uint32_t key, value;
    uint32_t index;
};

struct section {
    struct named *list;   /* In the order of the file. */
    struct named *sorted; /* By name. */
    const char **names;   /* As in the file, for suggestions. */
    size_t len;
};

struct private {                      /* An address or key of a node, to find those used twice. All borrowed. */
    const struct qn_address *address; /* NULL: a key. */
    const uint8_t *key;
    const struct named *node;
    const struct field *field;
    uint32_t value; /* In the tree. */
};

struct node_origin { /* Where a node's numbers come from. */
    uint64_t given;     /* Fields that it, or the defaults, give. */
    enum preset preset; /* Of one of its links. */
    uint32_t link;      /* Which. */
};

struct reader {
    struct tree tree;
    struct diags *diags;
    struct root_draft root;
    struct slots root_slots, node_defaults, link_defaults; /* Of the defaults only those that are right. */
    struct section nodes, links;
    bool *is_broken; /* Nodes with errors: what depends on them is not judged. */
    struct node_origin *origins; /* Of each node. */
    struct private *privates;
    size_t n_privates;
};

struct place place_of(const struct reader *reader, uint32_t value);
/* A text for messages: "node" and "alice" give: node "alice". */
struct owner {
    char s[128];
};
struct owner owner_of(const char *what, const char *name);
/* Finds the fields of a mapping (or of nothing at all: an empty value); reports unknown and repeated keys. False if it
 * is something else, which is reported too. */
bool slots_fill(struct reader *reader, const struct table *table, const char *owner, uint32_t mapping, bool is_defaults,
                struct slots *slots);
/* Reads into the draft the values of fields that belong to one of `parts`, or to all. Returns a bit for each wrong one.
 */
uint64_t slots_apply(struct reader *reader, const struct table *table, const struct slots *slots, unsigned parts,
                     void *draft);
void slots_move(struct slots *from, struct slots *to, size_t slot); /* To read some fields before the others. */
void slots_require(struct reader *reader, const struct table *table, const struct slots *slots, const char *owner,
                   struct place at);
/* Fields that belong to none of `parts`: warns of those given, and zeroes them all in the draft. */
void slots_drop_idle(struct reader *reader, const struct table *table, const struct slots *slots, unsigned parts,
                     const char *owner, void *draft);
/* Lists the entries under a key of the root; reports bad and repeated names. */
int section_read(struct reader *reader, enum root_field field, const char *what, size_t max, struct section *section);
const struct named *section_find(const struct section *section, const char *name); /* NULL if absent. */
void section_release(struct section *section);

int nodes_read(struct reader *reader);
int links_read(struct reader *reader);
int network_check(struct reader *reader); /* What no single entry shows: addresses used twice, parts without a link. */

/* ---- Writing (emit.c) ---- */

struct writer { /* Goes on quietly after a failure; rc tells at the end. */
    struct qn_buf *out;
    size_t start;
    int rc;
};
struct writer writer_start(struct qn_buf *out);
void put(struct writer *writer, const char *format, ...) __attribute__((format(printf, 2, 3)));
int writer_end(struct writer *writer); /* On failure `out` is as it was. */
int emit_canonical(const struct qn_topology *topology, bool with_private, struct qn_buf *out);

#endif
