/* SPDX-License-Identifier: Apache-2.0 */
#include "qkd/reconcile.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "qkd/cascade.h"
#include "qkd/estimate.h"
#include "qkd/ldpc.h"

static const char *const names[QN_RECONCILE_METHODS] = {
    [QN_RECONCILE_AUTO] = "auto",
    [QN_RECONCILE_CASCADE] = "cascade",
    [QN_RECONCILE_CASCADE_FAST] = "cascade-fast",
    [QN_RECONCILE_CASCADE_ORIGINAL] = "cascade-original",
    [QN_RECONCILE_CASCADE_BICONF] = "cascade-biconf",
    [QN_RECONCILE_CASCADE_YANETAL] = "cascade-yanetal",
    [QN_RECONCILE_CASCADE_OPTION3] = "cascade-option3",
    [QN_RECONCILE_CASCADE_OPTION4] = "cascade-option4",
    [QN_RECONCILE_CASCADE_OPTION7] = "cascade-option7",
    [QN_RECONCILE_CASCADE_OPTION8] = "cascade-option8",
    [QN_RECONCILE_LDPC] = "ldpc",
    [QN_RECONCILE_LDPC_FAST] = "ldpc-fast",
};

const char *qn_reconcile_name(enum qn_reconcile_method method) {
    return (unsigned)method < QN_RECONCILE_METHODS ? names[method] : "unknown";
}

int qn_reconcile_parse(const char *name, enum qn_reconcile_method *ret_method) {
    for (unsigned i = 0; i < QN_RECONCILE_METHODS; i++) {
        if (strcmp(names[i], name) != 0) continue;
        *ret_method = (enum qn_reconcile_method)i;
        return 0;
    }
    return -QN_EINVAL;
}

double qn_reconcile_efficiency(const struct qn_reconcile_report *report) {
    if (report->corrected == 0 || report->corrected >= report->bits) return NAN;
    double bits = (double)report->bits;
    return (double)report->disclosed / (bits * qn_binary_entropy((double)report->corrected / bits));
}

/* Whether the method is a kind of Cascade, and which. */
static int cascade_config(const struct qn_reconcile_config *config, struct qn_cascade_config *ret_cascade) {
    static const enum qn_cascade_variant variants[QN_RECONCILE_METHODS] = {
        [QN_RECONCILE_CASCADE] = QN_CASCADE_TUNED,
        [QN_RECONCILE_CASCADE_FAST] = QN_CASCADE_FAST,
        [QN_RECONCILE_CASCADE_ORIGINAL] = QN_CASCADE_ORIGINAL,
        [QN_RECONCILE_CASCADE_BICONF] = QN_CASCADE_BICONF,
        [QN_RECONCILE_CASCADE_YANETAL] = QN_CASCADE_YANETAL,
        [QN_RECONCILE_CASCADE_OPTION3] = QN_CASCADE_OPTION3,
        [QN_RECONCILE_CASCADE_OPTION4] = QN_CASCADE_OPTION4,
        [QN_RECONCILE_CASCADE_OPTION7] = QN_CASCADE_OPTION7,
        [QN_RECONCILE_CASCADE_OPTION8] = QN_CASCADE_OPTION8,
    };
    unsigned method = config->method;
    if (method < QN_RECONCILE_CASCADE || method > QN_RECONCILE_CASCADE_OPTION8) return -QN_EINVAL;
    *ret_cascade = (struct qn_cascade_config){.qber = config->qber};
    memcpy(ret_cascade->seed, config->seed, sizeof ret_cascade->seed);
    ret_cascade->variant = variants[config->method];
    return 0;
}

/* ---- The corrector: one of the two. */

struct qn_reconcile {
    struct qn_cascade *cascade;
    struct ldpc_corrector *ldpc;
    uint64_t bits;
};

int qn_reconcile_new(const struct qn_reconcile_config *config, const struct qn_bits *key,
                     struct qn_reconcile **ret_reconcile) {
    struct qn_cascade_config cascade;
    struct ldpc_config ldpc = {.qber = config->qber, .fast = config->method == QN_RECONCILE_LDPC_FAST};
    bool is_ldpc = config->method == QN_RECONCILE_LDPC || ldpc.fast;
    int rc = is_ldpc ? 0 : cascade_config(config, &cascade);
    if (rc < 0) return rc;
    struct qn_reconcile *reconcile = calloc(1, sizeof *reconcile);
    if (reconcile == NULL) return -QN_ENOMEM;
    reconcile->bits = key->len;
    rc =
        is_ldpc ? ldpc_corrector_new(&ldpc, key, &reconcile->ldpc) : qn_cascade_new(&cascade, key, &reconcile->cascade);
    if (rc < 0) {
        free(reconcile);
        return rc;
    }
    *ret_reconcile = reconcile;
    return 0;
}

void qn_reconcile_free(struct qn_reconcile *reconcile) {
    if (reconcile == NULL) return;
    qn_cascade_free(reconcile->cascade);
    ldpc_corrector_free(reconcile->ldpc);
    free(reconcile);
}

int qn_reconcile_ask(struct qn_reconcile *reconcile, struct qn_buf *question, uint32_t *ret_count) {
    if (reconcile->ldpc != NULL) return ldpc_ask(reconcile->ldpc, question, ret_count);
    return qn_cascade_ask(reconcile->cascade, question, ret_count);
}

int qn_reconcile_tell(struct qn_reconcile *reconcile, const uint8_t *answer, size_t len, uint32_t count) {
    if (reconcile->ldpc != NULL) return ldpc_tell(reconcile->ldpc, answer, len, count);
    return qn_cascade_tell(reconcile->cascade, answer, len, count);
}

bool qn_reconcile_is_done(const struct qn_reconcile *reconcile) {
    return reconcile->ldpc != NULL ? ldpc_is_done(reconcile->ldpc) : qn_cascade_is_done(reconcile->cascade);
}

void qn_reconcile_get_report(const struct qn_reconcile *reconcile, struct qn_reconcile_report *ret_report) {
    struct ldpc_counts counts = {0};
    if (reconcile->ldpc != NULL) {
        ldpc_get_counts(reconcile->ldpc, &counts);
    } else {
        counts.disclosed = qn_cascade_disclosed(reconcile->cascade);
        counts.corrected = qn_cascade_corrected(reconcile->cascade);
        counts.frames = qn_cascade_strips(reconcile->cascade);
        counts.rounds = qn_cascade_rounds(reconcile->cascade);
    }
    *ret_report = (struct qn_reconcile_report){
        .bits = reconcile->bits,
        .disclosed = counts.disclosed,
        .corrected = counts.corrected,
        .frames = counts.frames,
        .failed = counts.failed,
        .rounds = counts.rounds,
    };
}

int qn_reconcile_key(const struct qn_reconcile *reconcile, struct qn_bits *ret_key) {
    return reconcile->ldpc != NULL ? ldpc_key(reconcile->ldpc, ret_key) : qn_cascade_key(reconcile->cascade, ret_key);
}

/* ---- The source. */

struct qn_reconcile_source {
    struct qn_cascade_source *cascade;
    struct ldpc_source *ldpc;
};

int qn_reconcile_source_new(const struct qn_reconcile_config *config, const struct qn_bits *key,
                            struct qn_reconcile_source **ret_source) {
    struct qn_cascade_config cascade;
    struct ldpc_config ldpc = {.qber = config->qber, .fast = config->method == QN_RECONCILE_LDPC_FAST};
    bool is_ldpc = config->method == QN_RECONCILE_LDPC || ldpc.fast;
    int rc = is_ldpc ? 0 : cascade_config(config, &cascade);
    if (rc < 0) return rc;
    struct qn_reconcile_source *source = calloc(1, sizeof *source);
    if (source == NULL) return -QN_ENOMEM;
    rc = is_ldpc ? ldpc_source_new(&ldpc, key, &source->ldpc) : qn_cascade_source_new(&cascade, key, &source->cascade);
    if (rc < 0) {
        free(source);
        return rc;
    }
    *ret_source = source;
    return 0;
}

void qn_reconcile_source_free(struct qn_reconcile_source *source) {
    if (source == NULL) return;
    qn_cascade_source_free(source->cascade);
    ldpc_source_free(source->ldpc);
    free(source);
}

int qn_reconcile_answer(struct qn_reconcile_source *source, const uint8_t *question, size_t len, uint32_t count,
                        struct qn_buf *answer) {
    if (source->ldpc != NULL) return ldpc_answer(source->ldpc, question, len, count, answer);
    return qn_cascade_answer(source->cascade, question, len, count, answer);
}

uint64_t qn_reconcile_source_disclosed(const struct qn_reconcile_source *source) {
    return source->ldpc != NULL ? ldpc_source_disclosed(source->ldpc) : qn_cascade_source_disclosed(source->cascade);
}

/* ---- Choice: the method that discloses least, unless round trips would take longer than work; then the one with
 * fewer, unless the processors cannot. */

/* As measured (README.md): nanoseconds of processor a bit at the detector, and round trips. */
static double cascade_ns(double qber) { return 1.8 + 70 * qber; }
static const double CASCADE_TRIPS = 200, FAST_TRIPS = 120;
/* Waiting for round trips may take this part of the time that work takes, for then blocks side by side hide it; or so
 * long, which only makes keys come a little later. */
static const double WAIT = 0.5, WAIT_NS = 50e6;
/* Up to how many jobs a thread there is time for LDPC, which takes four times as long as Cascade, or twice. */
static const double LDPC_LOAD = 1, LDPC_FAST_LOAD = 1.5;

enum qn_reconcile_method qn_reconcile_choose(const struct qn_reconcile_situation *situation) {
    double qber = situation->qber > 0 ? situation->qber < 0.25 ? situation->qber : 0.25 : 0; /* Not a number, too. */
    double blocks = situation->blocks > 0 ? situation->blocks : 1, rtt = (double)situation->rtt_ns;
    double work = (double)situation->bits * cascade_ns(qber) * blocks;
    double wait = WAIT * work > WAIT_NS ? WAIT * work : WAIT_NS;
    if (CASCADE_TRIPS * rtt <= wait) return QN_RECONCILE_CASCADE;
    if (FAST_TRIPS * rtt <= wait) return QN_RECONCILE_CASCADE_FAST;
    if (situation->load < LDPC_LOAD) return QN_RECONCILE_LDPC;
    if (situation->load < LDPC_FAST_LOAD) return QN_RECONCILE_LDPC_FAST;
    return QN_RECONCILE_CASCADE_FAST;
}
