/* SPDX-License-Identifier: Apache-2.0 */
/* Two sessions back to back: what they carry, and the handshakes that must fail. */
#include "session_support.h"

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
