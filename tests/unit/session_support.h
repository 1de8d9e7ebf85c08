/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_TEST_SESSION_SUPPORT_H
#define QN_TEST_SESSION_SUPPORT_H

/* Two sessions back to back. */

#include <criterion/criterion.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/rng.h"
#include "qnet/v1/session.pb-c.h"
#include "wire/noise.h"
#include "wire/session.h"

#define PREFACE_LEN 24
#define HANDSHAKE_MAX 352
#define REASON(name) QNET__V1__CLOSE_REASON__CLOSE_REASON_##name

enum { CALLER, CALLED };

/* ---- two ends ---- */

struct end {
    struct qn_session_config config;
    struct qn_session *session;
    struct qn_session_event open, closed, alive; /* The last of each type, NONE if there was none. */
    char detail[256];
    unsigned n_envelopes;
    uint32_t next; /* Envelopes of the tests count from 0 in their first four bytes. */
    size_t last_len;
};

struct pair {
    struct end ends[2];
    struct qn_rng rng;
};

static inline int find_peer(void *context, const uint8_t public_key[32]) {
    const struct pair *pair = context;
    return memcmp(pair->ends[CALLER].config.public_key, public_key, 32) == 0 ? 7 : -1;
}

static inline void make_keys(struct qn_session_config *config, uint8_t seed) {
    memset(config->private_key, seed, 32);
    crypto_scalarmult_curve25519_base(config->public_key, config->private_key);
    memset(config->random_key, seed + 100, 32);
}

static inline void configure(struct pair *pair, uint64_t seed) {
    *pair = (struct pair){0};
    qn_rng_init(&pair->rng, seed, "session", 0);
    for (int i = 0; i < 2; i++) {
        struct qn_session_config *config = &pair->ends[i].config;
        *config = (struct qn_session_config){.initiator = i == CALLER,
                                             .plane = QN_QUANTUM,
                                             .network = "backbone",
                                             .find_peer = find_peer,
                                             .context = pair,
                                             .self = i == CALLER ? 7 : 9,
                                             .peer = i == CALLER ? 9 : 0,
                                             .incarnation = i == CALLER ? 0x1111 : 0x2222,
                                             .topology_digest = {1, 2, 3},
                                             .software = i == CALLER ? "qnetd 0.1.0" : "qnetd 0.2.0"};
        make_keys(config, (uint8_t)(i + 1));
    }
    memcpy(pair->ends[CALLER].config.remote_key, pair->ends[CALLED].config.public_key, 32);
}

static inline void start(struct pair *pair) {
    for (int i = 0; i < 2; i++) cr_assert_eq(qn_session_new(&pair->ends[i].config, &pair->ends[i].session), 0);
}

static inline void finish(struct pair *pair) {
    for (int i = 0; i < 2; i++) qn_session_free(pair->ends[i].session);
}

static inline void take_events(struct end *end) {
    for (;;) {
        struct qn_session_event event = qn_session_next(end->session);
        cr_assert(event.type == QN_SESSION_NONE || end->closed.type == QN_SESSION_NONE, "an event after the end");
        switch (event.type) {
        case QN_SESSION_NONE:
            return;
        case QN_SESSION_OPEN:
            cr_assert_eq(end->open.type, QN_SESSION_NONE);
            end->open = event;
            break;
        case QN_SESSION_ALIVE:
            end->alive = event;
            break;
        case QN_SESSION_CLOSED:
            end->closed = event;
            snprintf(end->detail, sizeof end->detail, "%s", event.detail);
            break;
        case QN_SESSION_ENVELOPE: {
            uint32_t number = 0;
            memcpy(&number, event.bytes, event.len < 4 ? event.len : 4);
            if (event.len >= 4) cr_assert_eq(number, end->next++, "an envelope out of order");
            end->n_envelopes++;
            end->last_len = event.len;
            break;
        }
        }
    }
}

static inline void feed(struct end *end, const void *bytes, size_t len) {
    int rc = qn_session_input(end->session, bytes, len);
    cr_assert(rc == 0 || (rc == -QN_ECLOSED && end->closed.type == QN_SESSION_CLOSED));
    if (rc == 0) take_events(end);
}

/* Moves up to `max` bytes, in chunks of random size; true if any moved. */
static inline bool move_bytes(struct pair *pair, int from, size_t max) {
    struct qn_buf *output = qn_session_output(pair->ends[from].session);
    if (output->len == 0) return false;
    size_t len = 1 + qn_rng_below(&pair->rng, output->len < max ? output->len : max);
    feed(&pair->ends[1 - from], output->data, len);
    qn_buf_consume(output, len);
    return true;
}

static inline void run(struct pair *pair, size_t max) {
    for (;;) {
        bool any = move_bytes(pair, CALLER, max);
        any = move_bytes(pair, CALLED, max) || any;
        if (!any) return;
    }
}

static inline void open_pair(struct pair *pair, uint64_t seed) {
    configure(pair, seed);
    start(pair);
    run(pair, SIZE_MAX);
    cr_assert(qn_session_is_open(pair->ends[0].session) && qn_session_is_open(pair->ends[1].session));
}

static inline void send_one(struct end *end, uint32_t number) {
    cr_assert_eq(qn_session_send(end->session, &number, sizeof number), 0);
    cr_assert_eq(qn_session_flush(end->session), 0);
}

#endif
