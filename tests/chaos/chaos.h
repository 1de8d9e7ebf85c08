/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_TESTS_CHAOS_H
#define QN_TESTS_CHAOS_H

#include "base/rng.h"
#include "cluster.h"
#include "node/internal.h"

/* A random network under random work and random faults, from one seed. network.c makes the network, load.c asks its
 * nodes, fault.c breaks it and mends it, judge.c says what must not happen; run.c is the order of events. */

enum { STEPS_MAX = 2000000 }; /* Of nodes, in one run. */

enum fault_kind {
    FAULT_BREAK,   /* Sessions stop one by one and come back in another order. */
    FAULT_SLOW,    /* A session takes longer. */
    FAULT_DELAY,   /* An operator makes a classical channel slow, */
    FAULT_CUT,     /* cuts a channel, */
    FAULT_EVE,     /* listens on a BB84 link. */
    FAULT_CRASH,   /* kill -9; a new incarnation comes after a while, */
    FAULT_RESTART, /* or at once. */
    FAULT_PAUSE,   /* SIGSTOP, and SIGCONT after a while. */
    FAULT_DECLARE, /* An operator declares a node dead, whether it is or not. */
    FAULT_DISK,    /* Nothing can be written for a while. */
    FAULT_KINDS
};
extern const char *const fault_names[FAULT_KINDS];

enum ask_kind {
    ASK_KEEP,
    ASK_MEASURE,
    ASK_TELEPORT,
    ASK_BB84,
    ASK_GATE,
    ASK_DISCARD,
    ASK_LIST,
    ASK_WAIT,
    ASK_KEY,
    ASK_FAULT,
    ASK_CANCEL,
    ASK_KINDS
};

enum ask_state { OPEN, ANSWERED, LEFT /* The client has gone. */, DIED /* The node has. */ };

struct ask { /* One request of one client. */
    enum ask_kind kind;
    enum ask_state state;
    uint16_t node, peer;
    uint64_t client; /* A cancellation comes from the client of the other request. */
    uint64_t life, started_ns, answered_ns, timeout_ns;
    uint32_t number;
    bool cancelled, must_succeed, failed;
    bool two_qubits; /* ASK_GATE: a state may have grown too large. */
    double min_fidelity;
    size_t partner; /* ASK_GATE: measures the other half; 0 if none. */
    uint32_t outcome;
    uint64_t born_ns; /* ASK_GATE with a partner: of the pair. */
    double theta;     /* ASK_TELEPORT */
};

struct plan { /* Something that fault.c does later. */
    uint64_t at_ns;
    enum { STOP_SESSION, START_SESSION, NORMAL_SPEED, START_NODE, RESUME_NODE, EMPTY_DISK, CLEAR_LINK } what;
    uint16_t a, b, link;
    enum qn_plane_id plane;
};

struct user_qubit {
    uint16_t node;
    uint64_t incarnation, qubit;
}; /* A qubit that a user has prepared. */

struct end {
    uint16_t node;
    uint64_t at_ns;
}; /* Of an incarnation. */

struct stats { /* Over all runs. */
    uint64_t runs, steps, faults[FAULT_KINDS], asked[ASK_KINDS], failed[ASK_KINDS], unanswered, emulated_s, keys, pairs,
        states, fenced, late;
};

struct chaos_options {
    uint64_t seed;
    int intensity;    /* 0 to 3; -1: drawn. */
    unsigned without; /* Kinds of fault that do not happen, as bits. */
    bool trace;       /* Print what happens. */
};

struct chaos {
    struct chaos_options options;
    struct stats *stats;
    struct qn_topology topology;
    bool ideal; /* No noise anywhere: correlations are certain. */
    char *yaml;
    struct cluster *cluster;
    struct qn_rng load, fault;

    struct ask *asks; /* asks[0] is unused: the index is the request's id, and its client. */
    size_t n_asks, cap_asks, n_open;
    bool calm; /* All faults are over. */

    unsigned allowed;  /* Kinds of fault in this run, as bits. */
    double fault_rate; /* A second. */
    struct plan *plans;
    size_t n_plans, cap_plans;

    struct user_qubit *prepared;
    size_t n_prepared, cap_prepared;
    struct end *ends;
    size_t n_ends, cap_ends;
    uint64_t *full_ns;      /* By node: when it last had hardly a free memory, + 1. */
    uint64_t *lives;        /* By node: how often it was started. */
    uint64_t *incarnations; /* By node: the last seen. */
    bool *declared;         /* By node: dead, by an operator. */
    bool *crashed;
    uint64_t trouble_ns;   /* Since when not all sessions have been up and all nodes running; UINT64_MAX: they are. */
    uint64_t last_up_ns;   /* When a session last came up: until then it was down. */
    struct qn_map touched; /* Qubits of pairs that users have changed. */
    uint64_t last_gone_ns; /* When a node last heard that another's life is over. */
    uint64_t fenced_ns;    /* The last time a node was, */
    uint16_t fenced;       /* and which. */
    bool eve;              /* Somebody has listened. */
    bool disk_full;        /* Some disk has been. */
    struct taken {         /* Keys handed out to users. */
        uint16_t node;
        uint8_t id[16], start[16];
        size_t len;
    } * taken;
    size_t n_taken, cap_taken;
    size_t n_steps;
};

/* run.c */
void chaos_run(const struct chaos_options *options, struct stats *stats, uint64_t *ret_trace);
/* Prints, with the line that repeats the run, and ends the process. */
void chaos_fail(const struct chaos *chaos, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));
void chaos_log(const struct chaos *chaos, const char *format, ...) __attribute__((format(printf, 2, 3)));
uint64_t between(struct qn_rng *rng, uint64_t low, uint64_t high); /* Uniform, both included. */
uint64_t spread(struct qn_rng *rng, uint64_t low, uint64_t high);  /* As often in each decade. */
bool chance(struct qn_rng *rng, double p);
void *grow(void *items, size_t *cap, size_t n, size_t size); /* Room for one more. */

/* network.c */
char *network_random(uint64_t seed, bool *ret_ideal); /* YAML; the caller frees it. */

/* load.c */
void load_one(struct chaos *chaos);     /* A random request, or a change of mind about one. */
void load_release(struct chaos *chaos); /* Gives up all pairs and qubits that users hold. */
/* The i-th of the new requests of every kind, which must succeed, one after the other; false after the last. */
void load_meet(struct chaos *chaos); /* Makes nodes talk to each other. */
bool load_service(struct chaos *chaos, size_t i);

/* fault.c */
void fault_init(struct chaos *chaos);
void fault_one(struct chaos *chaos);
void fault_due(struct chaos *chaos); /* What is planned for now. */
uint64_t fault_next_ns(const struct chaos *chaos);
void fault_mend(struct chaos *chaos); /* Everything. */

/* judge.c */
struct ask *judge_ask(struct chaos *chaos, enum ask_kind kind, uint16_t node, uint64_t timeout_ns, uint64_t *ret_id);
void judge_reply(void *context, uint16_t node, uint64_t client, const Qnet__V1__ControlResponse *response);
void judge_step(void *context, uint16_t node, const struct qn_event *event);
void judge_event(void *context, const Qnet__V1__EventInfo *info);
void judge_crash(struct chaos *chaos, uint16_t node); /* Its requests die with it. */
void judge_trouble(struct chaos *chaos);              /* Begins now, if it has not yet. */
bool judge_is_quiet(void *context);                   /* Every node idle, every session up. */
void judge_quiet(struct chaos *chaos);                /* Fails unless it is quiet, and names what is not. */
void judge_empty(struct chaos *chaos);                /* Nothing is held, hosted or taken anywhere. */
void judge_keys(struct chaos *chaos);
void judge_both(struct chaos *chaos, const struct ask *ask); /* Both halves of a pair, once both are measured. */
bool judge_certain(const struct chaos *chaos, uint16_t a, uint16_t b,
                   uint64_t since_ns); /* Correlations must be perfect. */

#endif
