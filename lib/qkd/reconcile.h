/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QKD_RECONCILE_H
#define QN_QKD_RECONCILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "qkd/bits.h"

/* Reconciliation, the same calls for all methods. One end corrects its key, the other answers:
 *
 *   corrector: struct qn_reconcile     source: struct qn_reconcile_source
 *   qn_reconcile_ask -> question ----> qn_reconcile_answer -> answer
 *   qn_reconcile_tell            <----
 *   ... until qn_reconcile_is_done, then qn_reconcile_key
 *
 * Ask until a call returns no question, send all, and tell the answers in the order asked; after each tell there may be
 * more to ask, before the other answers are in. `count` travels with a question: the bits of its answer, each one bit
 * disclosed. Questions and answers are at most QN_RECONCILE_MESSAGE_BYTES, answers exactly qn_bits_bytes(count).
 * No call waits or sends; all but _ask and _report may take long enough to belong on the thread pool.
 *
 * Both ends need the same config, bit for bit (send counts and divide, rather than decimals). When it is done the keys
 * are equal but for undetected errors: compare hashes. */

/* The numbers travel and never change. */
enum qn_reconcile_method {
    QN_RECONCILE_AUTO = 0, /* Not a method: qn_reconcile_choose turns it into one. */
    /* Cascade, see cascade.h. */
    QN_RECONCILE_CASCADE = 1,          /* Our own parameters: the least disclosed. */
    QN_RECONCILE_CASCADE_FAST = 2,     /* A third fewer round trips. */
    QN_RECONCILE_CASCADE_ORIGINAL = 3, /* These as published, for comparison. */
    QN_RECONCILE_CASCADE_BICONF = 4,
    QN_RECONCILE_CASCADE_YANETAL = 5,
    QN_RECONCILE_CASCADE_OPTION3 = 6,
    QN_RECONCILE_CASCADE_OPTION4 = 7,
    QN_RECONCILE_CASCADE_OPTION7 = 8,
    QN_RECONCILE_CASCADE_OPTION8 = 9,
    /* See ldpc.h: one to four round trips instead of 100 to 200. */
    QN_RECONCILE_LDPC = 10,
    QN_RECONCILE_LDPC_FAST = 11 /* Discloses 5 % more, takes half the time. */
};
enum { QN_RECONCILE_METHODS = 12 };

const char *qn_reconcile_name(enum qn_reconcile_method method);                 /* "cascade-fast"; "unknown". */
int qn_reconcile_parse(const char *name, enum qn_reconcile_method *ret_method); /* -QN_EINVAL; "auto" is one, too. */

struct qn_reconcile_config {
    enum qn_reconcile_method method; /* Not AUTO. */
    double qber;                     /* Estimate. Clamped to what is sensible; wrong costs efficiency only. */
    uint8_t seed[32];                /* Public, drawn after the key is fixed. */
};

enum { QN_RECONCILE_MAX_BITS = 1 << 27, QN_RECONCILE_MESSAGE_BYTES = 48 * 1024 };

/* What AUTO goes by: Cascade takes least work, so it is used when its round trips (200 of them; 120 for FAST) take 50
 * ms or half as long as the work of all blocks side by side; else LDPC while a processor is free for it, LDPC_FAST
 * while work does not queue up; else FAST. */
struct qn_reconcile_situation {
    double qber;
    size_t bits;     /* Of the key. */
    uint64_t rtt_ns; /* Round trip between the ends. */
    unsigned blocks; /* Blocks in work side by side, which share the wait for round trips; 0 counts as 1. */
    double load;     /* Jobs under way or waiting for each thread that runs them, on average; 0: idle, or unknown. */
};
enum qn_reconcile_method qn_reconcile_choose(const struct qn_reconcile_situation *situation);

struct qn_reconcile_report {
    uint64_t bits;      /* Of the key. */
    uint64_t disclosed; /* So far; subtract it, or better the source's, from the key. */
    uint64_t corrected; /* Bits flipped. */
    uint32_t frames;    /* Strips of Cascade, frames of LDPC. */
    uint32_t failed;    /* Frames the method could not correct and disclosed in full, to have equal keys all the same;
                           always 0 for Cascade, whose rare failures only the hash finds. */
    uint32_t rounds;    /* Of the frame that took most: about how many round trips there were. */
};
/* disclosed / (bits h(corrected / bits)): 1 at Shannon's limit. NaN if nothing was corrected. */
double qn_reconcile_efficiency(const struct qn_reconcile_report *report);

struct qn_reconcile;        /* Corrects. */
struct qn_reconcile_source; /* Answers. */

/* Copies the key. -QN_EINVAL: too long, or not a method. -QN_ENOMEM. */
int qn_reconcile_new(const struct qn_reconcile_config *config, const struct qn_bits *key,
                     struct qn_reconcile **ret_reconcile);
void qn_reconcile_free(struct qn_reconcile *reconcile); /* Wipes. NULL is fine. */
/* Appends one question; *ret_count = 0 and nothing appended when nothing can be asked before more answers come, or all
 * is done. -QN_ENOMEM, -QN_ELIMIT (of the buffer): call again or give up. */
int qn_reconcile_ask(struct qn_reconcile *reconcile, struct qn_buf *question, uint32_t *ret_count);
/* Applies the answer to the oldest question not yet answered. -QN_EPROTOCOL if none is open or the length is wrong
 * (nothing changes), or if answers contradict each other (give up; the key is of no use). False answers that do not
 * contradict lead to a wrong key; none keeps it asking for ever. -QN_ENOMEM: give up. */
int qn_reconcile_tell(struct qn_reconcile *reconcile, const uint8_t *answer, size_t len, uint32_t count);
bool qn_reconcile_is_done(const struct qn_reconcile *reconcile);
void qn_reconcile_get_report(const struct qn_reconcile *reconcile, struct qn_reconcile_report *ret_report);
int qn_reconcile_key(const struct qn_reconcile *reconcile, struct qn_bits *ret_key); /* A copy, as it stands. */

int qn_reconcile_source_new(const struct qn_reconcile_config *config, const struct qn_bits *key,
                            struct qn_reconcile_source **ret_source);
void qn_reconcile_source_free(struct qn_reconcile_source *source);
/* Appends the answer. -QN_EPROTOCOL, nothing appended or counted, if the question is malformed, leaves the key, does
 * not ask for exactly `count` bits, or would disclose more than any honest corrector asks. */
int qn_reconcile_answer(struct qn_reconcile_source *source, const uint8_t *question, size_t len, uint32_t count,
                        struct qn_buf *answer);
uint64_t qn_reconcile_source_disclosed(const struct qn_reconcile_source *source);

#endif
