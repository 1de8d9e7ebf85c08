/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_NODE_BB84_H
#define QN_NODE_BB84_H

/* What bb84.c (sessions, users) and bb84_block.c (the steps of a block) share. */

#include "node/bb84_work.h"
#include "node/internal.h"

#define BLOCKS_MAX 100000
#define PULSES_MAX 1000000000

enum step {
    WAIT_TRAIN,
    DETECTING,
    WAIT_DETECTIONS,
    MATCHING,
    WAIT_SIFT,
    WAIT_SAMPLE,
    WAIT_ESTIMATE,
    RECONCILING,
    WAIT_AMPLIFY,
    AMPLIFYING,
    WAIT_STORED,
    DONE
};

struct input { /* A parity message that waits for the block's data. */
    struct input *next;
    uint32_t count;
    size_t len;
    uint8_t bytes[];
};

struct session;

struct block {
    struct list link;
    struct session *session;
    uint32_t number;
    enum step step;
    struct bb84_data *data; /* NULL while a job has it. */
    struct input *first, *last;
    size_t n_inputs;
    uint32_t parts_seen;
    uint32_t round, told; /* Detector: questions sent and answered. */
    bool stored_here, stored_there, verified;
    uint8_t key_id[16], check[8], peer_check[8];
    uint64_t sifted, sampled, errors, clicks, disclosed, secret, pulses;
    struct qn_timer train; /* Source: the last pulse has arrived. */
};

struct session {
    struct list link;
    struct qn_node *node;
    uint32_t id;
    uint64_t request; /* The number of the user's request, at the end that was asked; else 0. */
    uint64_t peer_request;
    uint16_t peer, link_index;
    bool is_source, accepted, asked_here;
    uint64_t secret_wanted, block_pulses;
    uint32_t blocks_wanted, blocks_begun, blocks_done;
    double qber_limit, sample_fraction, epsilon;
    struct list blocks;
    uint64_t busy_until_ns; /* The laser sends one train after the other. */
    uint64_t sifted, secret, sampled, errors;
    uint32_t aborted; /* Blocks that gave no key. */
};

struct bb84 {
    struct list sessions;
    size_t n_sessions;
    uint32_t next_session;
};

/* bb84.c */
struct session *bb84_find_session(const struct qn_node *node, uint16_t peer, uint32_t id);
struct block *bb84_find_block(const struct session *session, uint32_t number);
struct block *bb84_block_new(struct session *session, uint32_t number, enum step step);
void bb84_send_body(struct session *session, Qnet__V1__Bb84Message__BodyCase which, void *body);
void bb84_send_abort(struct session *session, uint32_t block, int error, double qber, const char *detail);
double bb84_qber_of(uint64_t errors, uint64_t sampled);
void bb84_session_fail(struct session *session, int error, const char *text);
void bb84_block_fail(struct block *block, int error, const char *text);
void bb84_block_done(struct block *block);

/* bb84_block.c */
void bb84_emit(struct session *session, struct block *block);
void bb84_begin_blocks(struct session *session);
void bb84_on_detections(struct qn_node *node, struct session *session, struct block *block,
                        const Qnet__V1__Bb84Detections *m);
void bb84_on_sift(struct qn_node *node, struct session *session, struct block *block, const Qnet__V1__Bb84Sift *m);
void bb84_on_sample(struct qn_node *node, struct session *session, struct block *block, const Qnet__V1__Bb84Sample *m);
void bb84_on_estimate(struct qn_node *node, struct session *session, struct block *block,
                      const Qnet__V1__Bb84Estimate *m);
void bb84_on_parity(struct block *block, const ProtobufCBinaryData *bytes, uint32_t count);
void bb84_on_stored(struct qn_node *node, struct session *session, struct block *block, const Qnet__V1__Bb84Stored *m);
void bb84_on_verify(struct qn_node *node, struct session *session, struct block *block, const Qnet__V1__Bb84Verify *m);
void bb84_on_amplify(struct qn_node *node, struct session *session, struct block *block,
                     const Qnet__V1__Bb84Amplify *m);

#endif
