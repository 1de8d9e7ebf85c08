/* SPDX-License-Identifier: Apache-2.0 */
/* Two sessions back to back, every way a handshake or a frame can be wrong, and a peer written a second time from
 * proto/README.md on the bare Noise functions, which can break the rules where a session would not. */
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

static int find_peer(void *context, const uint8_t public_key[32]) {
    const struct pair *pair = context;
    return memcmp(pair->ends[CALLER].config.public_key, public_key, 32) == 0 ? 7 : -1;
}

static void make_keys(struct qn_session_config *config, uint8_t seed) {
    memset(config->private_key, seed, 32);
    crypto_scalarmult_curve25519_base(config->public_key, config->private_key);
    memset(config->random_key, seed + 100, 32);
}

static void configure(struct pair *pair, uint64_t seed) {
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

static void start(struct pair *pair) {
    for (int i = 0; i < 2; i++) cr_assert_eq(qn_session_new(&pair->ends[i].config, &pair->ends[i].session), 0);
}

static void finish(struct pair *pair) {
    for (int i = 0; i < 2; i++) qn_session_free(pair->ends[i].session);
}

static void take_events(struct end *end) {
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

static void feed(struct end *end, const void *bytes, size_t len) {
    int rc = qn_session_input(end->session, bytes, len);
    cr_assert(rc == 0 || (rc == -QN_ECLOSED && end->closed.type == QN_SESSION_CLOSED));
    if (rc == 0) take_events(end);
}

/* Moves up to `max` bytes, in chunks of random size; true if any moved. */
static bool move_bytes(struct pair *pair, int from, size_t max) {
    struct qn_buf *output = qn_session_output(pair->ends[from].session);
    if (output->len == 0) return false;
    size_t len = 1 + qn_rng_below(&pair->rng, output->len < max ? output->len : max);
    feed(&pair->ends[1 - from], output->data, len);
    qn_buf_consume(output, len);
    return true;
}

static void run(struct pair *pair, size_t max) {
    for (;;) {
        bool any = move_bytes(pair, CALLER, max);
        any = move_bytes(pair, CALLED, max) || any;
        if (!any) return;
    }
}

static void open_pair(struct pair *pair, uint64_t seed) {
    configure(pair, seed);
    start(pair);
    run(pair, SIZE_MAX);
    cr_assert(qn_session_is_open(pair->ends[0].session) && qn_session_is_open(pair->ends[1].session));
}

static void send_one(struct end *end, uint32_t number) {
    cr_assert_eq(qn_session_send(end->session, &number, sizeof number), 0);
    cr_assert_eq(qn_session_flush(end->session), 0);
}

/* ---- the good case ---- */

Test(session, opens_however_the_bytes_are_cut) {
    for (uint64_t seed = 0; seed < 30; seed++) {
        struct pair pair;
        configure(&pair, seed);
        start(&pair);
        run(&pair, seed % 3 == 0 ? 1 : 60);
        struct qn_session_event *caller = &pair.ends[CALLER].open, *called = &pair.ends[CALLED].open;
        cr_assert(caller->type == QN_SESSION_OPEN && called->type == QN_SESSION_OPEN, "seed %lu", seed);
        cr_assert(caller->peer == 9 && called->peer == 7);
        cr_assert(caller->incarnation == 0x2222 && called->incarnation == 0x1111);
        cr_assert(caller->version == QN_PROTOCOL_MAX && called->version == QN_PROTOCOL_MAX);
        cr_assert_str_eq(caller->software, "qnetd 0.2.0");
        cr_assert_str_eq(called->software, "qnetd 0.1.0");
        finish(&pair);
    }
}

/* Both directions at once, envelopes of every size, keys renewed every few frames. */
Test(session, carries_envelopes_in_order_and_renews_its_keys) {
    static uint8_t envelope[QN_ENVELOPE_MAX];
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct pair pair;
        configure(&pair, seed);
        for (int i = 0; i < 2; i++) pair.ends[i].config.rekey_frames = 1 + seed % 4;
        start(&pair);
        run(&pair, SIZE_MAX);
        uint32_t sent[2] = {0};
        for (int step = 0; step < 300; step++) {
            int from = (int)qn_rng_below(&pair.rng, 2);
            if (qn_rng_below(&pair.rng, 3) != 0) {
                size_t len = qn_rng_below(&pair.rng, 20) == 0 ? QN_ENVELOPE_MAX : 4 + qn_rng_below(&pair.rng, 500);
                memcpy(envelope, &sent[from], 4);
                cr_assert_eq(qn_session_send(pair.ends[from].session, envelope, len), 0);
                sent[from]++;
            } else if (qn_rng_below(&pair.rng, 2) == 0) {
                cr_assert_eq(qn_session_flush(pair.ends[from].session), 0);
            } else {
                move_bytes(&pair, from, 40000);
            }
        }
        for (int i = 0; i < 2; i++) cr_assert_eq(qn_session_flush(pair.ends[i].session), 0);
        run(&pair, SIZE_MAX);
        for (int i = 0; i < 2; i++) {
            cr_assert_eq(pair.ends[i].n_envelopes, sent[1 - i], "seed %lu", seed);
            cr_assert_eq(pair.ends[i].closed.type, QN_SESSION_NONE, "seed %lu: %s", seed, pair.ends[i].detail);
        }
        finish(&pair);
    }
}

Test(session, keeps_its_limits_on_sending) {
    static const uint8_t envelope[QN_ENVELOPE_MAX + 1];
    struct pair pair;
    configure(&pair, 0);
    start(&pair);
    struct qn_session *session = pair.ends[CALLER].session;
    cr_assert_eq(qn_session_send(session, envelope, 1), -QN_ECLOSED);
    cr_assert_eq(qn_session_keep_alive(session, 1), -QN_ECLOSED);
    run(&pair, SIZE_MAX);
    cr_assert_eq(qn_session_send(session, envelope, 0), -QN_ELIMIT);
    cr_assert_eq(qn_session_send(session, envelope, QN_ENVELOPE_MAX + 1), -QN_ELIMIT);
    cr_assert_eq(qn_session_send(session, envelope, QN_ENVELOPE_MAX), 0);
    cr_assert_eq(qn_session_output(session)->len, 0, "nothing is sealed before the flush");
    cr_assert_eq(qn_session_flush(session), 0);
    cr_assert_eq(qn_session_output(session)->len, 2 + QN_FRAME_MAX);
    run(&pair, SIZE_MAX);
    cr_assert_eq(pair.ends[CALLED].n_envelopes, 1);
    cr_assert_eq(pair.ends[CALLED].last_len, QN_ENVELOPE_MAX);
    finish(&pair);
}

Test(session, fills_frames_to_the_last_byte) {
    static const uint8_t envelope[QN_ENVELOPE_MAX];
    for (size_t more = 0; more < 3; more++) {
        struct pair pair;
        open_pair(&pair, 0);
        struct qn_session *session = pair.ends[CALLER].session;
        cr_assert_eq(qn_session_send(session, envelope, 3), 0);
        cr_assert_eq(qn_session_send(session, envelope, QN_FRAME_PAYLOAD_MAX - 5 - 2 + more), 0);
        cr_assert_eq(qn_session_output(session)->len > 0, more > 0, "%zu", more);
        cr_assert_eq(qn_session_flush(session), 0);
        run(&pair, SIZE_MAX);
        cr_assert_eq(pair.ends[CALLED].n_envelopes, 2);
        cr_assert_eq(pair.ends[CALLED].closed.type, QN_SESSION_NONE);
        finish(&pair);
    }
}

Test(session, answers_keep_alive_after_what_was_sent_before) {
    struct pair pair;
    open_pair(&pair, 0);
    uint32_t number = 0;
    cr_assert_eq(qn_session_send(pair.ends[CALLER].session, &number, 4), 0);
    cr_assert_eq(qn_session_keep_alive(pair.ends[CALLER].session, 0x123456789abcdef0), 0);
    run(&pair, 10);
    cr_assert_eq(pair.ends[CALLED].n_envelopes, 1);
    cr_assert_eq(pair.ends[CALLED].alive.type, QN_SESSION_NONE);
    cr_assert_eq(pair.ends[CALLER].alive.token, 0x123456789abcdef0);
    finish(&pair);
}

Test(session, ends_with_a_reason_after_what_was_sent_before) {
    struct pair pair;
    open_pair(&pair, 0);
    char detail[300];
    memset(detail, 'x', sizeof detail);
    memcpy(detail, "\033[2J\n", 5);
    detail[sizeof detail - 1] = '\0';
    uint32_t number = 0;
    cr_assert_eq(qn_session_send(pair.ends[CALLED].session, &number, 4), 0);
    cr_assert_eq(qn_session_close(pair.ends[CALLED].session, REASON(SHUTDOWN), detail), 0);
    cr_assert_eq(qn_session_send(pair.ends[CALLED].session, &number, 4), -QN_ECLOSED);
    cr_assert_eq(qn_session_input(pair.ends[CALLED].session, "x", 1), -QN_ECLOSED);
    cr_assert_eq(qn_session_close(pair.ends[CALLED].session, REASON(SHUTDOWN), ""), 0, "twice is fine");
    run(&pair, 10);
    struct end *end = &pair.ends[CALLER];
    cr_assert_eq(end->n_envelopes, 1);
    cr_assert(end->closed.type == QN_SESSION_CLOSED && end->closed.error == 0);
    cr_assert_eq(end->closed.reason, REASON(SHUTDOWN));
    cr_assert_eq(strncmp(end->detail, "?[2J?xxx", 8), 0, "%s", end->detail);
    cr_assert_not(qn_session_is_open(end->session));
    cr_assert_eq(qn_session_send(end->session, &number, 4), -QN_ECLOSED);
    cr_assert_eq(qn_session_output(end->session)->len, 0);
    finish(&pair);
}

Test(session, refuses_a_configuration_that_cannot_be) {
    struct qn_session *session = NULL;
    struct pair pair;
    configure(&pair, 0);
    struct qn_session_config good = pair.ends[CALLED].config, bad = good;
    bad.network = "a name of sixty-four characters, which is one too many for its pl";
    cr_assert_eq(qn_session_new(&bad, &session), -QN_EINVAL);
    bad = good;
    bad.incarnation = 0;
    cr_assert_eq(qn_session_new(&bad, &session), -QN_EINVAL);
    bad = good;
    bad.protocol_min = 3;
    bad.protocol_max = 2;
    cr_assert_eq(qn_session_new(&bad, &session), -QN_EINVAL);
    bad.protocol_max = 256;
    cr_assert_eq(qn_session_new(&bad, &session), -QN_EINVAL);
    cr_assert_null(session);
    qn_session_free(NULL);
}

/* ---- handshakes that must fail ---- */

/* Runs the handshake and checks how each end closed; -1 for an end that heard nothing of it. */
static void expect_ends(struct pair *pair, int caller_error, int called_error) {
    int errors[2] = {caller_error, called_error};
    start(pair);
    run(pair, 20);
    for (int i = 0; i < 2; i++) {
        struct end *end = &pair->ends[i];
        cr_assert_eq(end->closed.type, errors[i] == -1 ? QN_SESSION_NONE : QN_SESSION_CLOSED, "end %d: %s", i,
                     end->detail);
        if (errors[i] != -1) cr_assert_eq(end->closed.error, errors[i], "end %d: %s", i, end->detail);
        if (i == CALLED) cr_assert_eq(end->open.type, QN_SESSION_NONE);
    }
}

Test(session, refuses_a_caller_with_another_key_for_it) {
    struct pair pair;
    configure(&pair, 0);
    pair.ends[CALLER].config.remote_key[3] ^= 1;
    expect_ends(&pair, -1, -QN_EAUTH);
    cr_assert_eq(qn_session_output(pair.ends[CALLED].session)->len, 0);
    cr_assert_eq(pair.ends[CALLER].open.type, QN_SESSION_NONE);
    finish(&pair);
}

/* It knows whom it calls, so it gets the second message, but no word after its own key is seen to be unknown. */
Test(session, refuses_an_unknown_key_without_a_word) {
    struct pair pair;
    configure(&pair, 0);
    struct qn_session_config *config = &pair.ends[CALLER].config;
    uint8_t listed[32];
    memcpy(listed, config->public_key, 32);
    make_keys(config, 66);
    memcpy(config->public_key, listed, 32);
    expect_ends(&pair, -1, -QN_EAUTH);
    cr_assert_str_eq(pair.ends[CALLED].detail, "unknown key");
    finish(&pair);
}

Test(session, refuses_another_network) {
    struct pair pair;
    configure(&pair, 0);
    pair.ends[CALLER].config.network = "backbonf";
    expect_ends(&pair, -1, -QN_EAUTH);
    cr_assert_eq(pair.ends[CALLER].open.type, QN_SESSION_NONE);
    finish(&pair);
}

Test(session, refuses_the_other_plane) {
    struct pair pair;
    configure(&pair, 0);
    pair.ends[CALLER].config.plane = QN_CLASSICAL;
    expect_ends(&pair, -1, -QN_EPROTOCOL);
    cr_assert_eq(pair.ends[CALLER].open.type, QN_SESSION_NONE);
    finish(&pair);
}

Test(session, refuses_another_topology_at_both_ends) {
    struct pair pair;
    configure(&pair, 0);
    pair.ends[CALLER].config.topology_digest[31] = 1;
    expect_ends(&pair, -QN_ETOPOLOGY, -QN_ETOPOLOGY);
    cr_assert_eq(pair.ends[CALLER].open.type, QN_SESSION_NONE);
    finish(&pair);
}

Test(session, refuses_a_key_of_another_node_than_it_claims) {
    struct pair pair;
    configure(&pair, 0);
    pair.ends[CALLER].config.self = 8;
    expect_ends(&pair, 0, -QN_EAUTH);
    cr_assert_eq(pair.ends[CALLER].closed.reason, REASON(PROTOCOL));
    finish(&pair);
    configure(&pair, 0);
    pair.ends[CALLED].config.self = 8;
    start(&pair);
    run(&pair, SIZE_MAX);
    cr_assert_eq(pair.ends[CALLER].closed.error, -QN_EAUTH);
    cr_assert_eq(pair.ends[CALLER].open.type, QN_SESSION_NONE);
    cr_assert_eq(pair.ends[CALLED].closed.reason, REASON(PROTOCOL), "it is told, after it had opened");
    finish(&pair);
}

Test(session, speaks_the_highest_version_in_common) {
    static const struct {
        uint32_t min[2], max[2], version;
    } cases[] = {
        {{1, 1}, {3, 2}, 2}, {{1, 2}, {3, 9}, 3}, {{4, 1}, {4, 255}, 4}, {{1, 4}, {3, 9}, 0}, {{5, 1}, {9, 4}, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pair pair;
        configure(&pair, i);
        for (int end = 0; end < 2; end++) {
            pair.ends[end].config.protocol_min = cases[i].min[end];
            pair.ends[end].config.protocol_max = cases[i].max[end];
        }
        if (cases[i].version == 0) {
            expect_ends(&pair, -QN_EVERSION, -QN_EVERSION);
            cr_assert_eq(pair.ends[CALLER].open.type, QN_SESSION_NONE);
        } else {
            start(&pair);
            run(&pair, SIZE_MAX);
            for (int end = 0; end < 2; end++) cr_assert_eq(pair.ends[end].open.version, cases[i].version);
        }
        finish(&pair);
    }
}

Test(session, drops_scanners_at_their_first_wrong_byte) {
    static const char *const words[] = {"GET / HTTP/1.1\r\n", "\x16\x03\x01", "QNES", "Q\r\n", "SSH-2.0", "\0\0\0\0"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        struct pair pair;
        configure(&pair, 0);
        start(&pair);
        feed(&pair.ends[CALLED], words[i], 4);
        cr_assert_eq(pair.ends[CALLED].closed.error, -QN_EAUTH);
        cr_assert_eq(qn_session_output(pair.ends[CALLED].session)->len, 0);
        finish(&pair);
    }
}

/* ---- bytes changed on the way ---- */

/* Passes everything on, but changes one bit of the byte number `at` that `from` sends. False if it sent fewer. */
static bool run_with_flip(struct pair *pair, int from, size_t at, unsigned bit) {
    size_t passed[2] = {0};
    for (bool any = true; any;) {
        any = false;
        for (int i = 0; i < 2; i++) {
            struct qn_buf *output = qn_session_output(pair->ends[i].session);
            if (output->len == 0) continue;
            any = true;
            if (i == from && at >= passed[i] && at < passed[i] + output->len)
                output->data[at - passed[i]] ^= (uint8_t)(1 << bit);
            passed[i] += output->len;
            feed(&pair->ends[1 - i], output->data, output->len);
            output->len = 0;
        }
    }
    return at < passed[from];
}

/* A length that was raised leaves the reader waiting: any more bytes must end it. */
static void feed_junk(struct end *end) {
    static const uint8_t junk[QN_FRAME_MAX + 2];
    if (end->closed.type == QN_SESSION_NONE) feed(end, junk, sizeof junk);
}

Test(session, never_opens_on_a_handshake_changed_anywhere) {
    for (int from = 0; from < 2; from++) {
        size_t n_positions = 0;
        for (size_t at = 0;; at++, n_positions++) {
            struct pair pair;
            configure(&pair, at);
            start(&pair);
            bool hit = run_with_flip(&pair, from, at, (unsigned)qn_rng_below(&pair.rng, 8));
            struct end *reader = &pair.ends[1 - from];
            if (hit) {
                feed_junk(reader);
                cr_assert_eq(reader->open.type, QN_SESSION_NONE, "end %d, byte %zu", from, at);
                cr_assert_eq(reader->closed.type, QN_SESSION_CLOSED, "end %d, byte %zu", from, at);
                cr_assert_lt(reader->closed.error, 0);
            }
            finish(&pair);
            if (!hit) break;
        }
        cr_assert_gt(n_positions, 100); /* Preface, 1 and 3; or 2. */
    }
}

Test(session, never_accepts_a_frame_changed_anywhere) {
    for (unsigned bit = 0; bit < 8; bit++) {
        for (size_t at = 0;; at++) {
            struct pair pair;
            open_pair(&pair, at);
            send_one(&pair.ends[CALLER], 0);
            bool hit = run_with_flip(&pair, CALLER, at, bit);
            struct end *reader = &pair.ends[CALLED];
            if (hit) {
                feed_junk(reader);
                cr_assert_eq(reader->n_envelopes, 0, "byte %zu", at);
                cr_assert_eq(reader->closed.type, QN_SESSION_CLOSED, "byte %zu", at);
                cr_assert(reader->closed.error == -QN_EAUTH || (at < 2 && reader->closed.error == -QN_EPROTOCOL));
            } else {
                cr_assert_eq(reader->n_envelopes, 1);
            }
            finish(&pair);
            if (!hit) break;
        }
    }
}

/* The frames of three envelopes, in another order or number than they were sent. */
Test(session, never_accepts_frames_repeated_reordered_or_left_out) {
    static const struct {
        const char *order;
        unsigned accepted;
    } cases[] = {{"012", 3}, {"00", 1}, {"0120", 3}, {"10", 0}, {"021", 1}, {"12", 0}, {"02", 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pair pair;
        open_pair(&pair, i);
        uint8_t frames[3][64];
        size_t len = 0;
        for (uint32_t n = 0; n < 3; n++) {
            struct qn_buf *output = qn_session_output(pair.ends[CALLER].session);
            send_one(&pair.ends[CALLER], n);
            len = output->len;
            memcpy(frames[n], output->data, len);
            qn_buf_consume(output, len);
        }
        for (const char *at = cases[i].order; *at != '\0'; at++) feed(&pair.ends[CALLED], frames[*at - '0'], len);
        struct end *end = &pair.ends[CALLED];
        cr_assert_eq(end->n_envelopes, cases[i].accepted, "%s", cases[i].order);
        cr_assert_eq(end->closed.type, i == 0 ? QN_SESSION_NONE : QN_SESSION_CLOSED, "%s", cases[i].order);
        if (i > 0) {
            cr_assert_eq(end->closed.error, -QN_EAUTH);
            run(&pair, SIZE_MAX); /* The sender, whose direction is sound, is told. */
            cr_assert_eq(pair.ends[CALLER].closed.reason, REASON(PROTOCOL));
        }
        finish(&pair);
    }
}

/* What one end sent comes back to it: the directions have different keys. */
Test(session, never_accepts_its_own_frames) {
    struct pair pair;
    open_pair(&pair, 0);
    send_one(&pair.ends[CALLER], 0);
    struct qn_buf *output = qn_session_output(pair.ends[CALLER].session);
    uint8_t frame[64];
    size_t len = output->len;
    memcpy(frame, output->data, len);
    feed(&pair.ends[CALLER], frame, len);
    cr_assert_eq(pair.ends[CALLER].n_envelopes, 0);
    cr_assert_eq(pair.ends[CALLER].closed.error, -QN_EAUTH);
    finish(&pair);
}

Test(session, refuses_impossible_lengths) {
    for (size_t len = 0; len < 17; len++) {
        struct pair pair;
        open_pair(&pair, 0);
        feed(&pair.ends[CALLED], (uint8_t[]){0, (uint8_t)len}, 2);
        cr_assert_eq(pair.ends[CALLED].closed.error, -QN_EPROTOCOL, "%zu", len);
        finish(&pair);
    }
    static const uint16_t lengths[] = {0, 15, HANDSHAKE_MAX + 1, 65535};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct pair pair;
        configure(&pair, 0);
        start(&pair);
        feed(&pair.ends[CALLED], qn_session_output(pair.ends[CALLER].session)->data, PREFACE_LEN);
        feed(&pair.ends[CALLED], (uint8_t[]){(uint8_t)(lengths[i] >> 8), (uint8_t)lengths[i]}, 2);
        cr_assert_eq(pair.ends[CALLED].closed.error, -QN_EPROTOCOL, "%u", lengths[i]);
        cr_assert_eq(qn_session_output(pair.ends[CALLED].session)->len, 0);
        finish(&pair);
    }
}

/* ---- a caller of its own ---- */

struct raw {
    struct pair pair; /* Only its called end is a session. */
    struct qn_noise noise;
    struct qn_noise_cipher send, receive;
    uint8_t preface[PREFACE_LEN];
};

static void make_mac(const struct pair *pair, const char *network, uint8_t preface[PREFACE_LEN]) {
    uint8_t input[8 + 32];
    memcpy(input, preface, 8);
    crypto_generichash(input + 8, 32, (const uint8_t *)network, strlen(network), NULL, 0);
    crypto_generichash(preface + 8, 16, input, sizeof input, pair->ends[CALLED].config.public_key, 32);
}

static void raw_feed(struct raw *raw, const uint8_t *message, size_t len) {
    uint8_t head[2] = {(uint8_t)(len >> 8), (uint8_t)len};
    feed(&raw->pair.ends[CALLED], head, 2);
    feed(&raw->pair.ends[CALLED], message, len);
}

/* Up to the point where the called end waits for message 3. */
static void raw_start(struct raw *raw, uint64_t rekey_frames) {
    configure(&raw->pair, 0);
    struct end *called = &raw->pair.ends[CALLED];
    called->config.rekey_frames = rekey_frames;
    cr_assert_eq(qn_session_new(&called->config, &called->session), 0);
    memcpy(raw->preface, (uint8_t[]){'Q', 'N', 'E', 'T', 1, 1, QN_QUANTUM, 0}, 8);
    make_mac(&raw->pair, "backbone", raw->preface);

    uint8_t prologue[8 + 1 + 8 + 8], message[512], payload[512];
    memcpy(prologue, "qnetd/1\0\10backbone", 17);
    memcpy(prologue + 17, raw->preface, 8);
    struct qn_noise_config config = {.initiator = true, .prologue = prologue, .prologue_len = sizeof prologue};
    memcpy(config.static_private, raw->pair.ends[CALLER].config.private_key, 32);
    memset(config.ephemeral_private, 5, 32);
    memcpy(config.remote_static, called->config.public_key, 32);
    qn_noise_init(&raw->noise, &config);

    size_t len;
    cr_assert_eq(qn_noise_write(&raw->noise, NULL, 0, message, &len), 0);
    feed(called, raw->preface, PREFACE_LEN);
    raw_feed(raw, message, len);
    struct qn_buf *output = qn_session_output(called->session);
    cr_assert_eq((size_t)(output->data[0] << 8 | output->data[1]) + 2, output->len);
    cr_assert_eq(qn_noise_read(&raw->noise, output->data + 2, output->len - 2, payload, &len), 0);
    qn_buf_consume(output, output->len);
    Qnet__V1__Hello *hello = qnet__v1__hello__unpack(NULL, len, payload);
    cr_assert(hello != NULL && hello->node == 9 && hello->incarnation == 0x2222);
    qnet__v1__hello__free_unpacked(hello, NULL);
}

static void raw_hello(struct raw *raw, const uint8_t *payload, size_t len) {
    uint8_t message[1024];
    cr_assert_eq(qn_noise_write(&raw->noise, payload, len, message, &len), 0);
    raw_feed(raw, message, len);
    qn_noise_split(&raw->noise, &raw->send, &raw->receive);
}

static void raw_open(struct raw *raw, uint64_t rekey_frames) {
    static uint8_t digest[32] = {1, 2, 3};
    uint8_t payload[256];
    Qnet__V1__Hello hello = QNET__V1__HELLO__INIT;
    hello.protocol_min = hello.protocol_max = 1;
    hello.incarnation = 3;
    hello.node = 7;
    hello.topology_digest = (ProtobufCBinaryData){32, digest};
    raw_start(raw, rekey_frames);
    raw_hello(raw, payload, qnet__v1__hello__pack(&hello, payload));
    cr_assert_eq(raw->pair.ends[CALLED].open.type, QN_SESSION_OPEN);
}

static void raw_send(struct raw *raw, const char *plain, size_t len) {
    uint8_t frame[256];
    qn_noise_seal(&raw->send, NULL, 0, (const uint8_t *)plain, len, frame);
    raw_feed(raw, frame, len + QN_NOISE_TAG);
}

/* The Close of the called end, as the caller reads it. */
static void expect_close(struct raw *raw, uint32_t reason) {
    struct qn_buf *output = qn_session_output(raw->pair.ends[CALLED].session);
    uint8_t plain[512];
    cr_assert_gt(output->len, 2);
    cr_assert_eq(qn_noise_open(&raw->receive, NULL, 0, output->data + 2, output->len - 2, plain), 0);
    cr_assert_eq(plain[0], 1);
    Qnet__V1__SessionControl *control =
        qnet__v1__session_control__unpack(NULL, output->len - 2 - QN_NOISE_TAG - 1, plain + 1);
    cr_assert(control != NULL && control->body_case == QNET__V1__SESSION_CONTROL__BODY_CLOSE);
    cr_assert_eq(control->close->reason, reason);
    cr_assert_str_eq(control->close->detail, raw->pair.ends[CALLED].detail);
    qnet__v1__session_control__free_unpacked(control, NULL);
}

Test(session, names_what_an_authenticated_peer_did_wrong) {
    static const struct {
        const char *plain;
        size_t len;
        unsigned envelopes;
        bool fine;
    } cases[] = {
        {"\2\0\1x", 4, 1, true},       /* One envelope. */
        {"\2\0\1x\0\2yy", 8, 2, true}, /* Two. */
        {"\2", 1, 0, false},           /* None. */
        {"\2\0\0", 3, 0, false},       /* An empty one. */
        {"\2\0\1x\0", 5, 1, false},    /* Half a length behind the first. */
        {"\2\0\1x\0\2y", 7, 1, false}, /* Longer than its frame. */
        {"\2\xff\xff", 3, 0, false},   /* Far longer. */
        {"\0\0\1x", 4, 0, false},      /* Unknown kinds. */
        {"\3\0\1x", 4, 0, false},
        {"\1", 1, 0, true}, /* A control message without a body, or with an unknown one: later versions. */
        {"\1\x7a\1x", 4, 0, true},
        {"\1\x0a\5\x08", 4, 0, false}, /* Cut short. */
        {"\1\xff", 2, 0, false},       /* Not protobuf. */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct raw raw;
        raw_open(&raw, 0);
        raw_send(&raw, cases[i].plain, cases[i].len);
        struct end *end = &raw.pair.ends[CALLED];
        cr_assert_eq(end->n_envelopes, cases[i].envelopes, "case %zu", i);
        cr_assert_eq(end->closed.type, cases[i].fine ? QN_SESSION_NONE : QN_SESSION_CLOSED, "case %zu", i);
        if (!cases[i].fine) {
            cr_assert_eq(end->closed.error, -QN_EPROTOCOL);
            expect_close(&raw, REASON(PROTOCOL));
        }
        finish(&raw.pair);
    }
}

Test(session, renews_keys_exactly_when_agreed) {
    for (int honest = 0; honest < 2; honest++) {
        struct raw raw;
        raw_open(&raw, 2);
        raw_send(&raw, "\2\0\1x", 4);
        raw_send(&raw, "\2\0\1x", 4);
        if (honest) qn_noise_rekey(&raw.send);
        raw_send(&raw, "\2\0\1x", 4);
        cr_assert_eq(raw.pair.ends[CALLED].n_envelopes, honest ? 3 : 2);
        cr_assert_eq(raw.pair.ends[CALLED].closed.type, honest ? QN_SESSION_NONE : QN_SESSION_CLOSED);
        finish(&raw.pair);
    }
}

/* By the clock, in the middle of what is sent, any number of times; and nothing at all with a peer of version 1. */
Test(session, renews_keys_when_told_to) {
    for (uint32_t version = 1; version <= 2; version++) {
        struct pair pair;
        configure(&pair, version);
        for (int i = 0; i < 2; i++) pair.ends[i].config.rekey_frames = 5;
        for (int i = 0; i < 2; i++) pair.ends[i].config.protocol_min = 1;
        pair.ends[CALLER].config.protocol_max = 2;
        pair.ends[CALLED].config.protocol_max = version;
        start(&pair);
        cr_assert_eq(qn_session_rekey(pair.ends[CALLER].session), -QN_ECLOSED);
        run(&pair, SIZE_MAX);
        for (uint32_t n = 0; n < 50; n++) {
            for (int i = 0; i < 2; i++) {
                size_t before = qn_session_output(pair.ends[i].session)->len;
                cr_assert_eq(qn_session_send(pair.ends[i].session, &n, sizeof n), 0);
                if (n % 3 == 0) cr_assert_eq(qn_session_rekey(pair.ends[i].session), 0);
                if (n % 3 == 0 && version == 1) cr_assert_eq(qn_session_output(pair.ends[i].session)->len, before);
                if (n % 6 == 0) cr_assert_eq(qn_session_rekey(pair.ends[i].session), 0);
                cr_assert_eq(qn_session_flush(pair.ends[i].session), 0);
            }
            run(&pair, 30);
        }
        for (int i = 0; i < 2; i++) {
            cr_assert_eq(pair.ends[i].n_envelopes, 50);
            cr_assert_eq(pair.ends[i].closed.type, QN_SESSION_NONE, "%s", pair.ends[i].detail);
        }
        finish(&pair);
    }
}

Test(session, refuses_a_renewal_its_version_does_not_have) {
    struct raw raw;
    raw_open(&raw, 0);
    raw_send(&raw, "\1\xd2\5\0", 4); /* SessionControl {rekey {}} in a session of version 1. */
    cr_assert_eq(raw.pair.ends[CALLED].closed.error, -QN_EPROTOCOL);
    expect_close(&raw, REASON(PROTOCOL));
    finish(&raw.pair);
}

Test(session, tells_callers_from_scanners) {
    struct pair pair;
    configure(&pair, 0);
    start(&pair);
    struct qn_session *called = pair.ends[CALLED].session;
    struct qn_buf *output = qn_session_output(pair.ends[CALLER].session);
    cr_assert(qn_session_is_called(pair.ends[CALLER].session));
    feed(&pair.ends[CALLED], output->data, PREFACE_LEN - 1);
    cr_assert_not(qn_session_is_called(called));
    feed(&pair.ends[CALLED], output->data + PREFACE_LEN - 1, 1);
    cr_assert(qn_session_is_called(called));
    cr_assert_eq(qn_session_received(called), 0, "a handshake message is no frame");
    feed(&pair.ends[CALLED], "\xff\xff", 2);
    cr_assert_not(qn_session_is_called(called));
    finish(&pair);
}

Test(session, refuses_a_malformed_hello) {
    static uint8_t digest[33] = {1, 2, 3};
    for (int i = 0; i < 5; i++) {
        struct raw raw;
        uint8_t payload[256];
        Qnet__V1__Hello hello = QNET__V1__HELLO__INIT;
        hello.protocol_min = hello.protocol_max = 1;
        hello.incarnation = 3;
        hello.node = 7;
        hello.topology_digest = (ProtobufCBinaryData){32, digest};
        if (i == 1) hello.incarnation = 0;
        if (i == 2) hello.topology_digest.len = 31;
        if (i == 3) hello.topology_digest.len = 33;
        if (i == 4) hello.protocol_max = 2; /* Not what the preface said. */
        size_t len = qnet__v1__hello__pack(&hello, payload);
        if (i == 0) memset(payload, 0xff, len);
        raw_start(&raw, 0);
        raw_hello(&raw, payload, len);
        cr_assert_eq(raw.pair.ends[CALLED].open.type, QN_SESSION_NONE, "case %d", i);
        cr_assert_eq(raw.pair.ends[CALLED].closed.error, -QN_EPROTOCOL, "case %d", i);
        expect_close(&raw, REASON(PROTOCOL));
        finish(&raw.pair);
    }
}

/* Someone between the two offers an older version (or the other plane) in the caller's name. The MAC is no secret to
 * who knows the network; the prologue is what gives it away. */
Test(session, notices_a_downgrade_of_the_preface) {
    for (size_t at = 4; at < 8; at++) {
        struct pair pair;
        configure(&pair, 0);
        pair.ends[CALLER].config.protocol_min = 1;
        pair.ends[CALLER].config.protocol_max = 3;
        start(&pair);
        struct qn_buf *output = qn_session_output(pair.ends[CALLER].session);
        output->data[at] ^= 1;
        make_mac(&pair, "backbone", output->data);
        run(&pair, SIZE_MAX);
        cr_assert_eq(pair.ends[CALLED].closed.error, at < 6 ? -QN_EAUTH : -QN_EPROTOCOL, "byte %zu", at);
        cr_assert_eq(qn_session_output(pair.ends[CALLED].session)->len, 0);
        cr_assert_eq(pair.ends[CALLER].open.type, QN_SESSION_NONE);
        finish(&pair);
    }
}
