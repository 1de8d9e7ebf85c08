/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_NODE_BB84_WORK_H
#define QN_NODE_BB84_WORK_H

/* The numbers of one BB84 block at one end, and the long steps on them: what the thread pool does. A step touches only
 * its block's data; bb84.c moves them into the job and back. */

#include "base/buf.h"
#include "base/csprng.h"
#include "link/pulse.h"
#include "node/node.h"
#include "qkd/bits.h"
#include "qkd/cascade.h"
#include "qkd/hash.h"
#include "qkd/sift.h"

struct bb84_data {
    /* Transmission. */
    uint8_t stream_key[32];
    struct qn_pulse_channel channel;
    uint64_t pulses;
    struct qn_rng rng;
    /* Detector: what clicked. Source: what it was told. */
    struct qn_click *found;
    size_t n_found;
    struct qn_bits bits, bases;
    uint64_t *positions;
    struct qn_clicks clicks;
    size_t *part_first; /* Click that begins each part; n_parts + 1 of them. */
    size_t n_parts;
    struct qn_bits matches; /* Source. */
    struct qn_bits key, sample;
    uint8_t sample_seed[32], shuffle_seed[32], amplify_seed[32];
    double sample_fraction;
    uint64_t sifted, sampled, errors;
    /* Reconciliation. */
    struct qn_cascade *cascade;
    struct qn_cascade_source *source;
    struct qn_buf in, out; /* Of one step: the message to work on; messages to send, one after the other. */
    uint32_t in_count;
    struct qn_buf lengths; /* Of the messages in out: (size_t length, uint32_t count) pairs, as struct bb84_piece. */
    bool reconciled;
    uint64_t disclosed, corrected;
    uint8_t hash_seed[QN_HASH_SEED_BYTES], tag[QN_HASH_BYTES];
    /* Amplification. */
    uint64_t secret_bits;
    double epsilon, tagged;
    struct qn_bits secret;
    int error; /* Of the last step. */
};

struct bb84_piece {
    size_t len;
    uint32_t count;
};

void bb84_data_free(struct bb84_data *data); /* Wipes. NULL is fine. */

/* Steps; each sets data->error. */
void bb84_detect(struct bb84_data *data);          /* Detector: clicks of a train, cut into parts. */
void bb84_match(struct bb84_data *data);           /* Source: matches and its key. */
void bb84_take_sample(struct bb84_data *data);     /* Both: moves the sample out of the key. */
void bb84_start_asking(struct bb84_data *data);    /* Detector: first questions. */
void bb84_go_on_asking(struct bb84_data *data);    /* Detector: answers in, questions out. */
void bb84_start_answering(struct bb84_data *data); /* Source. */
void bb84_go_on_answering(struct bb84_data *data); /* Source: questions in, answers out. */
void bb84_hash_key(struct bb84_data *data);        /* Both: tag of the key under hash_seed. */
void bb84_amplify(struct bb84_data *data);         /* Both: secret from key. */
uint64_t bb84_secret_length(const struct bb84_data *data, uint64_t disclosed);

#endif
