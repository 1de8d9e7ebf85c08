/* SPDX-License-Identifier: Apache-2.0 */
/* Framing and sessions. Four scripts, by the first byte:
 *   stranger   any bytes at a responder, perhaps behind a right preface: it may only hang up
 *   hello      a peer with a right key that says anything in its handshake
 *   insider    an open session whose peer seals any plaintext: frames, control messages, envelopes
 *   pair       two real sessions, their bytes cut, delayed and changed on the way: unchanged, all envelopes arrive once
 * and in order; changed, the session closes and gives out nothing that was not sent */
#include "wire/session.c"

#include "fuzz.h"

static uint8_t private_key[2][32], public_key[2][32];

static int find_peer(void *context, const uint8_t key[32]) {
    (void)context;
    return memcmp(key, public_key[0], 32) == 0 ? 0 : -1;
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    FUZZ_CHECK(sodium_init() >= 0);
    for (int i = 0; i < 2; i++) {
        memset(private_key[i], 7 + i, 32);
        FUZZ_CHECK(crypto_scalarmult_base(public_key[i], private_key[i]) == 0);
    }
    return 0;
}

static struct qn_session *make(bool initiator, uint64_t rekey) {
    struct qn_session_config config = {.initiator = initiator,
                                       .plane = QN_CLASSICAL,
                                       .network = "fuzz",
                                       .find_peer = find_peer,
                                       .self = initiator ? 0 : 1,
                                       .peer = initiator ? 1 : 0,
                                       .incarnation = initiator ? 5 : 6,
                                       .software = "fuzz",
                                       .protocol_min = QN_PROTOCOL_MIN,
                                       .protocol_max = QN_PROTOCOL_MAX,
                                       .rekey_frames = rekey};
    int self = initiator ? 0 : 1;
    memcpy(config.private_key, private_key[self], 32);
    memcpy(config.public_key, public_key[self], 32);
    memcpy(config.remote_key, public_key[1 - self], 32);
    struct qn_session *session;
    FUZZ_CHECK(qn_session_new(&config, &session) == 0);
    return session;
}

/* Envelopes carry their number and length: a receiver knows whether it is what was sent. */
struct party {
    struct qn_session *session;
    uint32_t sent, got;
    bool closed, opened;
};

static void drain(struct party *party, bool honest) {
    for (;;) {
        struct qn_session_event event = qn_session_next(party->session);
        switch (event.type) {
        case QN_SESSION_NONE:
            FUZZ_CHECK(party->closed || !qn_session_is_open(party->session) || party->opened);
            return;
        case QN_SESSION_OPEN:
            FUZZ_CHECK(!party->opened && !party->closed && event.incarnation != 0 && event.software != NULL);
            FUZZ_CHECK(event.version >= QN_PROTOCOL_MIN && event.version <= QN_PROTOCOL_MAX);
            party->opened = true;
            break;
        case QN_SESSION_ENVELOPE:
            FUZZ_CHECK(party->opened && !party->closed && event.len > 0 && event.len <= QN_ENVELOPE_MAX);
            if (honest) {
                uint32_t number;
                FUZZ_CHECK(event.len >= sizeof number);
                memcpy(&number, event.bytes, sizeof number);
                FUZZ_CHECK(number == party->got + 1);
                party->got++;
                for (size_t i = sizeof number; i < event.len; i++) FUZZ_CHECK(event.bytes[i] == (uint8_t)number);
            }
            break;
        case QN_SESSION_ALIVE:
            FUZZ_CHECK(party->opened && !party->closed);
            break;
        case QN_SESSION_CLOSED:
            FUZZ_CHECK(!party->closed && event.detail != NULL);
            for (const char *c = event.detail; *c != '\0'; c++) FUZZ_CHECK(*c >= 0x20 && *c < 0x7f);
            party->closed = true;
            break;
        }
    }
}

static void give(struct party *party, const uint8_t *bytes, size_t len, bool honest) {
    int rc = qn_session_input(party->session, bytes, len);
    FUZZ_CHECK(rc == 0 || rc == -QN_ECLOSED);
    drain(party, honest);
}

/* ---- scripts ---- */

static void stranger(struct fuzz_input *in) {
    struct party us = {.session = make(false, 0)};
    if (fuzz_byte(in) & 1) { /* A preface that is right in all but what the input changes. */
        struct qn_session *caller = make(true, 0);
        struct qn_buf *bytes = qn_session_output(caller);
        uint8_t change = fuzz_byte(in);
        if (change & 0x80) bytes->data[change & 0x7f % bytes->len] ^= (uint8_t)(fuzz_byte(in) | 1);
        give(&us, bytes->data, change & 0x40 ? PREFACE_LEN : bytes->len, false);
        qn_session_free(caller);
    }
    while (!fuzz_done(in)) {
        const uint8_t *bytes;
        size_t len = fuzz_take(in, 255, &bytes);
        give(&us, bytes, len, false);
    }
    FUZZ_CHECK(!us.opened);
    qn_session_free(us.session);
}

static void hello(struct fuzz_input *in) { /* The initiator is ours; its payloads are the input's. */
    struct party us = {.session = make(false, 0)};
    struct qn_session *caller = make(true, 0);
    give(&us, caller->output.data, caller->output.len, false);
    uint8_t plain[HANDSHAKE_MAX], message[2 + HELLO_MAX + QN_NOISE_OVERHEAD];
    size_t len, written;
    struct qn_buf *reply = &us.session->output;
    FUZZ_CHECK(reply->len > 2);
    FUZZ_CHECK(qn_noise_read(&caller->noise, reply->data + 2, reply->len - 2, plain, &len) == 0);
    struct qn_buf payload = {0};
    if (fuzz_byte(in) & 1) {
        const uint8_t *bytes;
        len = fuzz_take(in, HELLO_MAX, &bytes);
        FUZZ_CHECK(qn_buf_append(&payload, bytes, len) == 0);
    } else {
        fuzz_message(in, NULL, &qnet__v1__hello__descriptor, &payload);
        if (payload.len > HELLO_MAX) payload.len = HELLO_MAX;
    }
    FUZZ_CHECK(qn_noise_write(&caller->noise, payload.data, payload.len, message + 2, &written) == 0);
    put16(message, written);
    give(&us, message, 2 + written, false);
    FUZZ_CHECK(us.opened || us.closed);
    qn_buf_release(&payload);
    qn_session_free(caller);
    qn_session_free(us.session);
}

static void insider(struct fuzz_input *in) {
    struct party us = {.session = make(false, 4), .opened = true};
    struct qn_session *session = us.session;
    struct qn_noise_cipher sealing = {.has_key = true};
    uint64_t sealed = 0;
    session->state = OPEN; /* As after a handshake. */
    session->version = QN_PROTOCOL_MAX;
    session->is_proved = true;
    session->sending = session->receiving = sealing;
    while (!fuzz_done(in) && !us.closed) {
        uint8_t what = fuzz_byte(in);
        struct qn_buf plain = {0};
        const uint8_t *bytes;
        uint8_t kind = what & 0x40 ? fuzz_byte(in) : what & 1 ? KIND_CONTROL : KIND_ENVELOPES;
        FUZZ_CHECK(qn_buf_append(&plain, &kind, 1) == 0);
        if (what & 2) {
            fuzz_message(in, NULL, &qnet__v1__session_control__descriptor, &plain);
        } else if (what & 4) { /* Envelopes with right lengths. */
            for (unsigned n = what >> 4; n > 0; n--) {
                size_t len = fuzz_take(in, 64, &bytes);
                uint8_t head[2];
                put16(head, len);
                FUZZ_CHECK(qn_buf_append(&plain, head, 2) == 0 && qn_buf_append(&plain, bytes, len) == 0);
            }
        } else {
            size_t len = fuzz_take(in, 600, &bytes);
            FUZZ_CHECK(qn_buf_append(&plain, bytes, len) == 0);
        }
        if (plain.len > QN_FRAME_PAYLOAD_MAX) plain.len = QN_FRAME_PAYLOAD_MAX;
        uint8_t *frame = malloc(2 + plain.len + QN_NOISE_TAG);
        FUZZ_CHECK(frame != NULL);
        put16(frame, plain.len + QN_NOISE_TAG);
        qn_noise_seal(&sealing, NULL, 0, plain.data, plain.len, frame + 2);
        if (++sealed % 4 == 0) qn_noise_rekey(&sealing);
        size_t total = 2 + plain.len + QN_NOISE_TAG, at = 0;
        while (at < total) { /* In pieces. */
            size_t piece = (what & 8) && at == 0 ? 1 + fuzz_below(in, total) : total - at;
            if (piece > total - at) piece = total - at;
            give(&us, frame + at, piece, false);
            at += piece;
        }
        free(frame);
        qn_buf_release(&plain);
        FUZZ_CHECK(session->output.len < (1u << 20));
    }
    qn_session_free(session);
}

static void send(struct party *party, struct fuzz_input *in) {
    uint8_t bytes[2048];
    uint32_t number = party->sent + 1;
    memset(bytes, (uint8_t)number, sizeof bytes);
    memcpy(bytes, &number, sizeof number);
    size_t len = sizeof number + fuzz_below(in, 2000);
    int rc = qn_session_send(party->session, bytes, len);
    FUZZ_CHECK(rc == 0 || rc == -QN_ECLOSED);
    if (rc == 0) party->sent++;
}

static void carry(struct party *from, struct party *to, size_t len, uint8_t change, bool *changed) {
    struct qn_buf *bytes = qn_session_output(from->session);
    if (len > bytes->len) len = bytes->len;
    uint8_t *copy = malloc(len + 1);
    FUZZ_CHECK(copy != NULL);
    if (len > 0) memcpy(copy, bytes->data, len);
    qn_buf_consume(bytes, len);
    if (change != 0 && len > 0) {
        copy[change % len] ^= change;
        *changed = true;
    }
    give(to, copy, len, true);
    free(copy);
}

static void pair(struct fuzz_input *in) {
    struct party parties[2] = {{.session = make(true, 3)}, {.session = make(false, 3)}};
    bool changed = false, asked_to_close = false;
    for (int i = 0; i < 4; i++) carry(&parties[i & 1], &parties[1 - (i & 1)], SIZE_MAX, 0, &changed);
    FUZZ_CHECK(parties[0].opened && parties[1].opened);
    while (!fuzz_done(in)) {
        uint8_t what = fuzz_byte(in);
        struct party *here = &parties[what & 1], *there = &parties[1 - (what & 1)];
        switch ((what >> 1) & 7) {
        case 0:
        case 1:
            send(here, in);
            break;
        case 2:
            qn_session_flush(here->session);
            break;
        case 3:
            qn_session_keep_alive(here->session, fuzz_byte(in));
            break;
        case 4:
        case 5:
            carry(here, there, fuzz_below(in, 3000), 0, &changed);
            break;
        case 6:
            carry(here, there, SIZE_MAX, what & 0x80 ? fuzz_byte(in) : 0, &changed);
            break;
        default:
            if ((what & 0xf0) != 0xf0) break;
            qn_session_close(here->session, REASON(SHUTDOWN), "fuzz");
            asked_to_close = true;
        }
    }
    for (int i = 0; i < 4; i++) {
        qn_session_flush(parties[i & 1].session);
        carry(&parties[i & 1], &parties[1 - (i & 1)], SIZE_MAX, 0, &changed);
    }
    for (int i = 0; i < 2; i++) {
        const struct party *here = &parties[i], *there = &parties[1 - i];
        FUZZ_CHECK(there->got <= here->sent);
        if (changed || asked_to_close) continue;
        FUZZ_CHECK(there->got == here->sent && !there->closed);
    }
    qn_session_free(parties[0].session);
    qn_session_free(parties[1].session);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_input in = {data, size};
    switch (fuzz_byte(&in) & 7) {
    case 0:
        stranger(&in);
        break;
    case 1:
        hello(&in);
        break;
    case 2:
    case 3:
        pair(&in);
        break;
    default:
        insider(&in);
    }
    return 0;
}
