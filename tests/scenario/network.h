/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_TESTS_NETWORK_H
#define QN_TESTS_NETWORK_H

#include <criterion/criterion.h>
#include <math.h>

#include "cluster.h"

/* A network from YAML, and what its nodes answer. Every wait has a limit; a failed check prints the seed. */
struct network {
    struct qn_topology topology;
    struct cluster *cluster;
    uint64_t next_client;
    Qnet__V1__ControlResponse *last; /* Final answer to the request being waited for. */
    uint64_t waiting_for;
    struct answer {
        uint64_t client;
        Qnet__V1__ControlResponse *response;
    } * answers; /* Everything answered, in order. */
    size_t n_answers;
    struct event {
        uint64_t t_ns;
        char node[64], code[32], subject[64], text[256];
    } * events; /* Everything that happened, in order. */
    size_t n_events, cap_events;
    size_t secret_len;  /* Of what authenticates the first keys; 0: none. */
    uint16_t secret_of; /* Only this node has it; QN_NO_NODE: all. */
    struct qn_initial_secret *secrets;
    void (*on_step)(struct network *network, uint16_t node, const struct qn_event *event); /* NULL: none. */
    uint64_t trace; /* Hash of everything that was said. */
};

struct network *network_new(const char *yaml, uint64_t seed, uint64_t jitter_ns, bool check);
/* With `secret_len` bytes of initial secret between any two nodes; 0: none. */
struct network *network_new_with_secret(const char *yaml, uint64_t seed, uint64_t jitter_ns, size_t secret_len);
struct network *network_new_unchecked(const char *yaml, uint64_t seed, uint64_t jitter_ns,
                                      size_t secret_len); /* The same, without checking nodes after every step. */
struct network *network_new_with_half_a_secret(const char *yaml, uint64_t seed); /* Only the first node has one. */
/* With nodes that run so many jobs at a time, each up to so long. */
struct network *network_new_with_threads(const char *yaml, uint64_t seed, unsigned threads, uint64_t job_ns);
struct network *network_chain(unsigned repeaters, const char *link, const char *node, uint64_t seed,
                              uint64_t jitter_ns); /* n0 .. n<repeaters+1> */
void network_free(struct network *network);
uint16_t network_node(const struct network *network, const char *name);

unsigned network_events(const struct network *network, const char *node, const char *code); /* NULL: at any node. */

/* Asks; the answers come while the network runs. Returns the client number. */
uint64_t network_ask(struct network *network, const char *node, Qnet__V1__ControlRequest *request);
/* Runs until the final answer, at most `seconds` of emulated time; fails the test otherwise. Borrowed. */
const Qnet__V1__ControlResponse *network_wait(struct network *network, uint64_t client, double seconds);
/* Of a request for keys: the answer of that index that tells of a block, and the last one. */
const Qnet__V1__Bb84Block *network_block(const struct network *network, uint64_t client, size_t index);
const Qnet__V1__Bb84Summary *network_summary(const Qnet__V1__ControlResponse *response);

uint64_t network_ask_pairs(struct network *network, const char *node, const char *peer, uint32_t number, uint32_t axes,
                           double min_fidelity, double timeout_s);
uint64_t network_ask_keep(struct network *network, const char *node, const char *peer, uint32_t number,
                          double timeout_s);
uint64_t network_ask_teleport(struct network *network, const char *node, const char *peer, double theta, double phi,
                              uint32_t number);
uint64_t network_ask_bb84(struct network *network, const char *node, const char *peer, uint32_t blocks,
                          double qber_limit);
uint64_t network_ask_bb84_pulses(struct network *network, const char *node, const char *peer, uint32_t blocks,
                                 uint64_t pulses); /* Of a block. */
void network_attack(struct network *network, const char *node, const char *link, const char *attack, double fraction,
                    double ratio); /* At one end. */
void network_fault(struct network *network, const char *node, const char *link, Qnet__V1__FaultKind kind, double value);
uint32_t network_gate(struct network *network, const char *node, uint32_t kind, const uint64_t *qubits, size_t n,
                      const double *args, size_t n_args); /* First outcome, or 0. */
const Qnet__V1__PairInfo *network_pair(const struct network *network, uint64_t client,
                                       size_t i); /* The i-th pair answered. */
/* At the other end: the qubit of the same pair. */
uint64_t network_partner(struct network *network, const char *node, const Qnet__V1__PairInfo *pair);

void expect_pairs(const Qnet__V1__ControlResponse *response, uint32_t number, double fidelity,
                  const char *what); /* XYZ sums within 5 sigma of a Werner pair. */
void expect_error(const Qnet__V1__ControlResponse *response, const char *code);
double fidelity_of(const Qnet__V1__PairSummary *summary, double *ret_error);
double chsh_of(const Qnet__V1__PairSummary *summary, double *ret_error);

#endif
