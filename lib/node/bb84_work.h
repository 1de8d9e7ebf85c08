/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_NODE_BB84_WORK_H
#define QN_NODE_BB84_WORK_H

/* The numbers of one train and of one block's key at one end, and the long steps on them: what the thread pool does. A
 * step touches only its own data; the protocol moves them into a job and back. */

#include "base/buf.h"
#include "link/detect.h"
#include "qkd/bits.h"
#include "qkd/finite.h"
#include "qkd/hash.h"
#include "qkd/reconcile.h"
#include "qkd/sift.h"

enum { BB84_CHECK_BYTES = 8, BB84_PIECES_MAX = 128 };

struct bb84_piece { /* Of what a step has written to `out`: one message each. */
    size_t len, bases_len;
    uint32_t count;
};

struct bb84_outcome { /* Of one pair. */
    uint64_t pair;
    uint8_t basis, bit; /* basis: 0 Z, 1 X, 2 (Z+X)/sqrt 2, 3 (Z-X)/sqrt 2. */
};

struct bb84_data { /* One train. */
    uint8_t stream_key[32];
    uint64_t pulses;
    struct qn_optics optics;  /* Detector: all of it. Source: only what it chooses from. */
    uint64_t seed, index;     /* Of the physics. */
    unsigned classes, planes; /* Intensities told apart, at least 1, and the planes that takes. */
    uint64_t clicks, ones[2], basis_clicks[2], doubles[2];
    struct qn_bits bits, bases; /* Of the clicks: the detector's. */
    struct qn_buf own;          /* Of entangled pairs: struct bb84_outcome, what this end has measured. */
    uint64_t first_pair;        /* Their positions count from this number. */
    bool pairs;
    struct { /* Test of Bell's inequality: what the detector measured along axes between X and Z. */
        uint32_t count;
        struct qn_buf positions;
        struct qn_bits axes, bits;
        uint64_t trials[2][2]; /* Source: by its basis and the detector's axis. */
        int64_t sums[2][2];    /* Equal outcomes less different ones. */
    } bell;
    struct qn_buf in, out;   /* What came for the step; what it has to say. */
    struct qn_buf pieces;    /* struct bb84_piece, of `in` (source, while detections arrive) or `out`. */
    struct qn_sifted sifted; /* This end's bits. */
    struct qn_decoy_counts counts;
    /* Reconciliation. */
    enum qn_reconcile_method method;
    double peer_load; /* Source: the detector's. */
    uint64_t expected_errors, expected_of;
    uint8_t seed_bytes[32];
    struct qn_reconcile *corrector;
    struct qn_reconcile_source *answerer;
    uint32_t in_count;
    bool reconciled;
    uint64_t disclosed, corrected;
    uint32_t failed_frames;
    uint8_t hash_seed[QN_HASH_SEED_BYTES], tag[QN_HASH_BYTES];
    int error; /* Of the last step. */
};
void bb84_data_free(struct bb84_data *data); /* Wipes. NULL is fine. */

/* Steps; each sets data->error. */
void bb84_detect(struct bb84_data *data);          /* Detector: clicks of the train; pieces of detections. */
void bb84_collect(struct bb84_data *data);         /* Detector: the same, of pairs; from `own`. */
void bb84_match(struct bb84_data *data);           /* Source: from the pieces in `in`: answer in `out`, its bits. */
void bb84_keep(struct bb84_data *data);            /* Detector: from the answer in `in`: its bits. */
void bb84_compare(struct bb84_data *data);         /* Source: its test bits and those in `in`. */
void bb84_start_asking(struct bb84_data *data);    /* Detector: first questions. */
void bb84_go_on_asking(struct bb84_data *data);    /* Detector: answers in, questions out. */
void bb84_start_answering(struct bb84_data *data); /* Source. */
void bb84_go_on_answering(struct bb84_data *data); /* Source: questions in, answers out. */
void bb84_hash_key(struct bb84_data *data);        /* Source: tag of the key under hash_seed. */

struct bb84_key {          /* One block. */
    struct qn_bits *parts; /* The key bits of its trains, in order. */
    uint32_t n_parts;
    uint8_t seed[32], name[16]; /* Of the matrix; of the key. */
    uint64_t secret_bits;
    struct qn_buf secret; /* secret_bits / 8 bytes. */
    uint8_t check[BB84_CHECK_BYTES];
    int error;
};
struct bb84_key *bb84_key_new(uint32_t n_parts); /* NULL: no memory. */
void bb84_key_free(struct bb84_key *key);        /* Wipes. NULL is fine. */
void bb84_amplify(struct bb84_key *key);

#endif
