/* SPDX-License-Identifier: Apache-2.0 */
/* Every way a frame or a handshake can be changed on the way, and a peer written a second time from proto/README.md on
 * the bare Noise functions, which can break the rules where a session would not. */
#include "session_support.h"

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
