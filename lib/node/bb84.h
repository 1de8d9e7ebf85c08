/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_NODE_BB84_H
#define QN_NODE_BB84_H

/* What the files of the QKD protocol share; proto/README.md has its messages and states.
 *
 *   bb84.c             sessions: what there are, how they end; which message goes where
 *   bb84_start.c       how sessions begin, at the end that starts and at the one that is asked
 *   bb84_parameters.c  what the two ends agree on, and how large blocks and trains are
 *   bb84_send.c        messages out: transcripts, tags, and a queue for when the channel is full
 *   bb84_pairs.c       trains of entangled pairs (BBM92) in the place of pulses
 *   bb84_train.c       transmission and sifting, a train of pulses at a time
 *   bb84_reconcile.c   error correction and verification of a train's key bits
 *   bb84_wrong.c       trains that reconciliation has left different
 *   bb84_block.c       from verified trains to a stored key
 *   bb84_account.c     decoy statistics, secret length, where every bit went
 *   bb84_alarm.c       observables against what the hardware should give
 *   bb84_attack.c      attacks that users switch on
 *   bb84_report.c      what users are told
 *   bb84_job.c, bb84_work.c  the long steps, which run on the thread pool
 *
 * A session makes blocks: one key each. A block is sent as trains, each sifted, reconciled and verified on its own, so
 * that no message and no step is large, while the statistics and the key are those of the whole block. Trains of
 * several blocks are under way at once; a train's data are with the loop or with one job, never with both. */

#include "link/observe.h"
#include "node/bb84_work.h"
#include "node/internal.h"
#include "node/keys.h"
#include "qkd/auth.h"
#include "qkd/finite.h"

#define BLOCKS_MAX 1000000
#define BLOCK_PULSES_MAX UINT64_C(1000000000000000)
#define TRAIN_PULSES_MAX (UINT64_C(1) << 32)
#define TRAIN_PAIRS_MAX 131072
#define BELL_SHARE_MAX 0.25
#define TRAINS_MAX 65536       /* Of a block. */
#define TRAIN_CLICKS 1048576.0 /* Wanted of a train: memory, and the length of a job, follow. */
#define TRAINS_AT_ONCE 48      /* Sent and not yet verified. */
#define BLOCKS_AT_ONCE 4
#define SMALL_BLOCKS_AT_ONCE 16 /* That have few trains. */
#define TRAINS_OF_NODE 64       /* Of all sessions that begin to run together: each gets its share,... */
#define TRAINS_AT_ONCE_LEAST 2  /* ...but so many. */
#define RECONCILE_AT_ONCE 24    /* Trains; more would only wait for each other... */
#define RECONCILE_PER_S 20000.0 /* ...unless the light is long on its way: as many more as this by the round trip. */
#define ALARMS_MAX 8
#define WRONG_PIECES 32 /* Of a train. */

enum bb84_bound {
    BB84_BOUND_SINGLE = 1, /* Single photons: Tomamichel et al. 2012. */
    BB84_BOUND_TAGGED,     /* Weak pulses without decoys: GLLP. */
    BB84_BOUND_ONE_DECOY,  /* Rusca et al. 2018. */
    BB84_BOUND_TWO_DECOYS, /* Lim et al. 2014. */
    BB84_BOUND_PAIRS,      /* Entangled pairs (BBM92): as single photons. */
    BB84_BOUND_BELL,       /* The same by the violation of Bell's inequality alone: Acin et al. 2007. */
};

struct bb84_parameters {
    enum bb84_bound bound;
    struct qn_decoy decoy; /* n is 0 without intensities to tell apart. */
    double mean;           /* BB84_BOUND_TAGGED */
    double test_basis;     /* Chance of it, at each end. */
    double bell_share;     /* BB84_BOUND_PAIRS: chance that the far end's axis is for Bell's inequality. */
    bool open;             /* The file leaves intensities or bases to be chosen: whoever starts does. */
    double clock_hz;
    double epsilon_secret, epsilon_correct;
    enum qn_reconcile_method method;
    bool authenticated;
};

enum train_step {
    TRAIN_SENT,        /* Source: in the fibre, or its detections are coming. */
    TRAIN_DETECTING,   /* Detector. */
    TRAIN_SIFTING,     /* Source: matching. Detector: waits for the bases, then keeps. */
    TRAIN_TESTING,     /* Source: waits for the test bits. Detector: waits to be told to begin. */
    TRAIN_READY,       /* Source: tested; waits until fewer are being reconciled. */
    TRAIN_RECONCILING, /* Both. */
    TRAIN_VERIFYING,   /* Source. */
    TRAIN_SPLITTING,   /* Source: the hashes differ; waits for those of pieces. */
    TRAIN_DONE,
};

struct input { /* A message of reconciliation that waits for the train's data. */
    struct input *next;
    uint32_t count;
    size_t len;
    uint8_t bytes[];
};

struct session;
struct block;

struct train {
    struct list link;
    struct block *block;
    uint32_t number;
    uint64_t rank; /* Of its jobs: trains begun by this node so far. */
    enum train_step step;
    struct bb84_data *data; /* NULL while a job has it. */
    uint32_t pieces_seen;
    bool all_told; /* Source: what the detector has measured of pairs. */
    struct input *first, *last;
    size_t n_inputs;
    struct { /* Source: the detector's hash, until its questions are answered. */
        bool is_here;
        uint8_t seed[QN_HASH_SEED_BYTES], tag[QN_HASH_BYTES];
    } verify;
    bool split;              /* Detector: has told the hashes of its pieces. */
    struct qn_timer arrival; /* Source: the last pulse is at the detector. */
};

enum block_step {
    BLOCK_TRAINS,  /* Its trains are under way. */
    BLOCK_TELLING, /* The closing message of this end waits for a pad. */
    BLOCK_CLOSING, /* Source: the verdict waits to be confirmed. Both: the key is being made. */
    BLOCK_STORING, /* Its keys are with the store, not yet ready. */
};

struct block {
    struct list link;
    struct session *session;
    uint32_t number;
    uint64_t rank; /* Of its newest train. */
    enum block_step step;
    uint32_t n_trains, begun, done; /* begun: source, sent so far; done: verified. */
    struct list trains;
    struct bb84_key *key; /* NULL while a job has it. */
    bool amplified, confirmed;
    int verdict;      /* 0, or -QN_E*: why there is no key. */
    char detail[400]; /* In words. */
    struct qn_auth said, heard;
    uint8_t key_id[16]; /* Of the first; each next one is derived. */
    uint32_t n_keys, keys_ready;
    /* What the report says. */
    struct qn_decoy_counts counts; /* Without decoys everything is in the first place. */
    struct qn_observed observed;
    uint64_t pulses, clicks;
    uint64_t bell_trials[2][2]; /* As in struct bb84_data. */
    int64_t bell_sums[2][2];
    uint64_t disclosed, tag_bits, corrected, failed_frames;
    uint32_t *wrong, *wrong_pieces, n_wrong; /* Trains whose hashes differed, rising; room for bb84_wrong_most. */
    uint64_t dropped_bits;                   /* Of their pieces that are no part of the key. */
    uint64_t secret, pool_bits, pad_bits;    /* pad_bits: used for tags, both directions. */
    double forgery;                          /* Bound on the chance that a tag was forged. */
    struct qn_finite bounds;
    enum qn_reconcile_method method;
    struct qn_deviation alarms[ALARMS_MAX];
    char alarm_names[ALARMS_MAX][16];
    size_t n_alarms;
    uint64_t begun_ns;
};

struct bb84_choice { /* What is open, being chosen. */
    const struct qn_topology *topology;
    const struct qn_topo_link *link;
    struct qn_source source;
};

struct session {
    struct list link;
    struct qn_node *node;
    uint32_t id;
    uint64_t request;          /* The number of the user's request, at the end that was asked; else 0. */
    uint16_t peer, link_index; /* link_index: this end's, of the pairs' path if it is one. */
    uint16_t asked_link;       /* What the end that was asked calls it: the same at both. */
    bool is_source, accepted, asked_here;
    bool asks_pairs; /* Source: a train's pairs are being made; one at a time, as memories are few. */
    uint64_t block_pulses_asked;
    bool wants_pad; /* Start or Accept waits for the hash key. */
    struct bb84_parameters parameters;
    uint64_t secret_wanted, block_pulses, train_pulses;
    uint32_t blocks_wanted, blocks_begun, blocks_done, aborted;
    double qber_limit;
    double expected_qber; /* Pairs: of the test basis. */
    struct list blocks;
    size_t n_blocks, trains_at_once;
    size_t trains_most;     /* What the memory of both ends has room for. */
    uint64_t busy_until_ns; /* The laser sends one train after the other. */
    /* Authentication: what began the session, and the hash keys. */
    struct qn_buf opening;
    uint8_t said_key[QN_AUTH_KEY_BYTES], heard_key[QN_AUTH_KEY_BYTES];
    struct qn_buf replayed; /* What an attacker kept. */
    /* Totals. */
    uint64_t sifted, secret, test, test_errors, key_errors, key_compared, pad_bits;
};

struct letter { /* A message the channel had no room for. */
    struct letter *next;
    size_t len;
    uint8_t bytes[];
};

struct letters { /* To one node. There is room again when it acknowledges something: then they follow. */
    struct letter *first, *last;
};

struct relayed { /* What this node, as an attacker, has kept of what it passed on: the first verdict, of one pair of
                    ends. */
    struct qn_buf kept;
    uint16_t from, to;
};

struct bb84 {
    struct list sessions;
    size_t n_sessions;
    uint32_t next_session;
    uint64_t n_trains;       /* Ever begun here. */
    struct letters *letters; /* Owned; by node. */
    struct qn_buf packed;
    struct relayed relayed;
};

/* bb84.c */
struct session *bb84_find_session(const struct qn_node *node, uint16_t peer, uint32_t id);
struct block *bb84_find_block(const struct session *session, uint32_t number);
struct train *bb84_find_train(const struct block *block, uint32_t number);
void bb84_session_fail(struct session *session, int error, const char *text); /* The peer is not told. Frees it. */
void bb84_session_done(struct session *session); /* If its user has all he wanted. May free it. */
void bb84_session_free(struct session *session); /* Nobody is told. */

/* bb84_start.c */
void bb84_send_start(struct session *session);  /* Or later, if pads must be asked for first. May end the session. */
void bb84_send_accept(struct session *session); /* The same at the other end. */
void bb84_on_start(struct qn_node *node, uint16_t from, const Qnet__V1__QkdMessage *message);
void bb84_on_accept(struct session *session, const Qnet__V1__QkdMessage *message);

/* bb84_pairs.c: the end that asks heads the pairs' path and is the source, the far end is the detector. */
bool bb84_is_of_pairs(const struct session *session);
int bb84_pairs_link(const struct qn_node *node, uint16_t peer); /* First of the path; or -QN_ENO_ROUTE. */
void bb84_pairs_way(const struct session *session, char *ret_text, size_t size); /* " over r1, r2"; "" if over none. */
int bb84_pairs_choose(struct session *session); /* Basis, block and train. -QN_ELIMIT, -QN_ENO_ROUTE. */
void bb84_pairs_ask(struct train *train);       /* May end the session. */
void bb84_say_bell(struct train *train);        /* Detector. */
void bb84_on_bell(struct train *train, const Qnet__V1__QkdBell *m);
uint64_t bb84_bell(const struct block *block, double *ret_s, double *ret_error); /* How many pairs tell it. */
void bb84_pairs_advance(struct train *train); /* Source: matches, when both ends' outcomes are here. */
const char *bb84_pairs_obstacle(const struct session *session, const struct request *request, int *ret_error);

/* bb84_parameters.c */
void bb84_parameters_of_pairs(const struct qn_node *node, uint16_t peer, struct bb84_parameters *ret);
void bb84_parameters_from(const struct qn_node *node, uint16_t link, struct bb84_parameters *ret);
void bb84_source(const struct session *session, struct qn_source *ret);
int bb84_parameters_take(struct session *session, const Qnet__V1__QkdParameters *theirs); /* What is open. -QN_EINVAL */
void bb84_choice_run(struct bb84_choice *choice); /* Some ten milliseconds: a job. */
void bb84_choice_use(struct session *session, const struct bb84_choice *choice);
void bb84_parameters_pack(const struct bb84_parameters *parameters, Qnet__V1__QkdParameters *ret);
/* Names every parameter that differs, "name: ours here, theirs there"; false if any does. */
bool bb84_parameters_agree(const struct bb84_parameters *ours, const Qnet__V1__QkdParameters *theirs, char *ret_text,
                           size_t size);
int bb84_choose_sizes(struct session *session, uint64_t block_pulses);
void bb84_optics(const struct session *session, struct qn_optics *ret); /* Of the link, attacks and drift included. */
void bb84_optics_honest(const struct session *session, struct qn_optics *ret);
unsigned bb84_classes(const struct bb84_parameters *parameters);
const char *bb84_bound_name(enum bb84_bound bound);

/* bb84_send.c */
/* Sends; a message of a block goes into its transcript first. */
void bb84_say(struct session *session, struct block *block, Qnet__V1__QkdMessage__BodyCase which, void *body);
/* The same with a tag over all that was said in the block; `tag` is where the body has its pointer. 0, or what
 * pads_take says: then nothing is sent. */
int bb84_say_tagged(struct session *session, struct block *block, Qnet__V1__QkdMessage__BodyCase which, void *body,
                    Qnet__V1__QkdTag **tag);
/* `packed`: the bytes it came as; NULL, or none, if it has to be packed again. */
void bb84_heard(struct session *session, struct block *block, const Qnet__V1__QkdMessage *message,
                const ProtobufCBinaryData *packed);
/* Takes the message into the transcript, without its tag, and checks that. 0 or -QN_EAUTH. */
int bb84_heard_tagged(struct session *session, struct block *block, const Qnet__V1__QkdMessage *message,
                      Qnet__V1__QkdTag **tag);
void bb84_transcripts_begin(struct session *session, struct block *block);
int bb84_open_hash_key(struct session *session, const Qnet__V1__QkdPad *pad); /* The peer's. 0 or -QN_EAUTH. */
void bb84_say_abort(struct session *session, uint32_t block, int error, double qber, const char *detail);
void bb84_drop_letters(struct qn_node *node, uint16_t to);

/* bb84_train.c */
void bb84_pump(struct session *session); /* Source: begins what there is room for. May end the session. */
struct train *bb84_train_new(struct block *block, uint32_t number, enum train_step step); /* NULL: no memory. */
uint64_t bb84_trains_of_block(const struct session *session);                             /* At least 1. */
struct train *bb84_train_heard_of(struct session *session, uint32_t block,
                                  uint32_t train); /* Detector. NULL: not now. */
void bb84_send_detections(struct train *train);
void bb84_send_answer(struct train *train);
void bb84_train_free(struct train *train);
void bb84_send_again(struct session *session); /* Source: photons that were lost. */
void bb84_on_detections(struct train *train, const Qnet__V1__QkdDetections *m);
void bb84_on_sift(struct train *train, const Qnet__V1__QkdSift *m);
void bb84_on_test(struct train *train, const Qnet__V1__QkdTest *m);

/* bb84_reconcile.c */
void bb84_reconcile_begin(struct train *train); /* Source. */
void bb84_on_reconcile(struct train *train, const Qnet__V1__QkdReconcile *m);
void bb84_on_parity(struct train *train, const ProtobufCBinaryData *bytes, uint32_t count);
void bb84_on_verify(struct train *train, const Qnet__V1__QkdVerify *m);
void bb84_serve(struct train *train); /* Messages that wait, if its data are here. */

/* bb84_block.c */
struct block *bb84_block_new(struct session *session, uint32_t number); /* NULL: no memory. */
void bb84_block_free(struct block *block);
void bb84_block_fail(struct block *block, int error, const char *text); /* Ends the session at both ends. Frees both. */
void bb84_train_done(struct train *train); /* Verified: its bits are the block's. Closes the block if it is the last. */
void bb84_on_amplify(struct block *block, const Qnet__V1__QkdMessage *m);
void bb84_on_confirm(struct block *block, const Qnet__V1__QkdMessage *m);
void bb84_block_on_pads(struct block *block);

/* bb84_wrong.c: pieces are those of QkdPieces. */
uint32_t bb84_wrong_most(const struct block *block); /* Trains that may be wrong before a block is given up. */
int bb84_hash_pieces(const struct qn_bits *key, const uint8_t seed[QN_HASH_SEED_BYTES],
                     uint8_t ret_tags[WRONG_PIECES * QN_HASH_BYTES]);
int bb84_drop_pieces(struct qn_bits *key, uint32_t pieces, uint64_t *ret_dropped);
bool bb84_wrong_add(struct block *block, uint32_t train, uint32_t pieces); /* False: one too many, or twice. */
bool bb84_wrong(struct train *train); /* Source: asks which pieces; false: the block is lost. */
void bb84_on_pieces(struct train *train, const Qnet__V1__QkdPieces *m);
void bb84_on_split(struct train *train);                                 /* Detector. */
int bb84_wrong_take(struct block *block, const Qnet__V1__QkdAmplify *m); /* Detector: drops them. -QN_EPROTOCOL. */

/* bb84_account.c */
void bb84_count_sifted(struct block *block, const struct bb84_data *data); /* With the errors of the test, if known. */
void bb84_count_corrected(struct block *block, const uint64_t *errors, size_t n);
/* Bounds, and the secret bits they leave: whole bytes. 0 with block->verdict and block->detail set. */
uint64_t bb84_secret_bits(struct block *block, uint64_t disclosed);
double bb84_test_qber(const struct block *block);
double bb84_key_qber(const struct block *block);
uint64_t bb84_sum(const uint64_t counts[QN_DECOYS_MAX]);

/* bb84_alarm.c */
void bb84_judge(struct block *block, bool key_errors_known); /* Fills in its alarms. */
void bb84_raise(struct block *block);                        /* An event for each. */
void bb84_pack_alarms(const struct block *block, Qnet__V1__QkdAlarm *list, Qnet__V1__QkdAlarm **pointers);
void bb84_take_alarms(struct block *block, Qnet__V1__QkdAlarm *const *alarms, size_t n);

/* bb84_attack.c */
bool bb84_tamper(struct session *session, Qnet__V1__QkdMessage *message); /* True: there is a man in the middle. */

/* bb84_report.c */
void bb84_tell_block(struct session *session, const struct block *block);
void bb84_tell_summary(struct session *session, struct request *request);

/* bb84_job.c */
void bb84_work_train(struct train *train, void (*run)(struct bb84_data *), void (*then)(struct train *));
void bb84_work_choice(struct session *session, void (*then)(struct session *, const struct bb84_choice *));
uint32_t bb84_load_said(const struct qn_node *node); /* In thousandths, as QkdTest says it. */
void bb84_work_block(struct block *block, void (*run)(struct bb84_key *), void (*then)(struct block *));

#endif
