/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of a connection, in the order they are sent (all lengths u16, big endian; proto/README.md has the whole story):
 *
 *   initiator:  preface (24 bytes)  len, Noise 1             len, Noise 3 {Hello}     frames ...
 *   responder:                                  len, Noise 2 {Hello}                  frames ...
 *
 * The preface goes into the prologue, so a changed byte fails the handshake. A frame is one sealed block: a kind byte,
 * then either a SessionControl or envelopes, each behind its length. It is sealed straight into the output and opened
 * in place in the input, which keeps less than one frame between calls. Whatever is wrong closes the session: a peer
 * that has proved who it is is told why, a stranger is told nothing at all. */
#include "wire/session.h"

#include <assert.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "qnet/v1/session.pb-c.h"
#include "wire/arena.h"
#include "wire/noise.h"

#define PREFACE_LEN 24
#define PREFACE_HEAD 8 /* The rest is the MAC. */
#define PREFACE_MIN 4
#define PREFACE_MAX 5
#define PREFACE_PLANE 6
#define PREFACE_RESERVED 7
#define KIND_CONTROL 1
#define KIND_ENVELOPES 2
#define FRAME_MIN (QN_NOISE_TAG + 1)
#define HELLO_MAX 256
#define HANDSHAKE_MAX (HELLO_MAX + QN_NOISE_OVERHEAD)
#define CONTROL_MAX 256
#define CONTROL_ARENA 4096
#define REKEY_FRAMES 65536

#define REASON(name) QNET__V1__CLOSE_REASON__CLOSE_REASON_##name

enum state { AWAIT_PREFACE, AWAIT_1, AWAIT_2, AWAIT_3, OPEN, CLOSED };

struct qn_session {
    struct qn_session_config config; /* Its strings are the two below. */
    char network[64], software[64];
    char peer_software[64], detail[128]; /* As the peer or we said; printable. */
    enum state state;
    uint32_t version; /* Agreed on; 0 until open. */
    bool is_proved;   /* The peer has the key of node config.peer. */
    uint8_t preface[PREFACE_LEN];
    struct qn_noise noise;
    struct qn_noise_cipher sending, receiving;
    uint64_t sent_frames, received_frames;
    struct qn_buf input, output;
    size_t input_at;                    /* Start of what has not been looked at. */
    size_t envelopes_at, envelopes_end; /* Of the opened frame, in the input: envelopes not given out yet. */
    uint8_t *frame;                     /* Plaintext of the frame being filled. */
    size_t frame_len;
    struct qn_session_event event; /* For the next qn_session_next, if it has a type. */
    struct qn_arena arena;
};

static void put16(uint8_t *to, size_t value) {
    to[0] = (uint8_t)(value >> 8);
    to[1] = (uint8_t)value;
}

static size_t get16(const uint8_t *from) { return (size_t)from[0] << 8 | from[1]; }

/* What a peer says of itself ends up in logs and terminals: nothing but printable ASCII gets so far. */
static void copy_text(char *to, size_t size, const char *from) {
    size_t len = 0;
    for (; from[len] != '\0' && len < size - 1; len++)
        to[len] = from[len] >= 0x20 && from[len] < 0x7f ? from[len] : '?';
    to[len] = '\0';
}

static void tell(struct qn_session *session, struct qn_session_event event) {
    assert(session->event.type == QN_SESSION_NONE); /* Each step of the input makes at most one. */
    session->event = event;
}

static void end(struct qn_session *session) {
    session->state = CLOSED;
    session->envelopes_at = session->envelopes_end = 0;
    session->input.len = session->input_at = 0;
    session->frame_len = 0;
}

static void die(struct qn_session *session, int error, uint32_t reason, const char *detail) {
    end(session);
    copy_text(session->detail, sizeof session->detail, detail);
    tell(session, (struct qn_session_event){
                      .type = QN_SESSION_CLOSED, .error = error, .reason = reason, .detail = session->detail});
}

/* ---- sealing ---- */

static void count_frame(const struct qn_session *session, struct qn_noise_cipher *cipher, uint64_t *frames) {
    if (++*frames % session->config.rekey_frames == 0) qn_noise_rekey(cipher);
}

/* Nothing is changed if there is no memory. */
static int seal(struct qn_session *session, const uint8_t *plain, size_t len) {
    struct qn_buf *output = &session->output;
    int rc = qn_buf_reserve(output, 2 + len + QN_NOISE_TAG);
    if (rc < 0) return rc;
    put16(output->data + output->len, len + QN_NOISE_TAG);
    qn_noise_seal(&session->sending, NULL, 0, plain, len, output->data + output->len + 2);
    output->len += 2 + len + QN_NOISE_TAG;
    count_frame(session, &session->sending, &session->sent_frames);
    return 0;
}

int qn_session_flush(struct qn_session *session) {
    if (session->frame_len == 0) return 0;
    int rc = seal(session, session->frame, session->frame_len);
    if (rc == 0) session->frame_len = 0;
    return rc;
}

int qn_session_send(struct qn_session *session, const void *envelope, size_t len) {
    if (session->state != OPEN) return -QN_ECLOSED;
    if (len > QN_ENVELOPE_MAX || len == 0) return -QN_ELIMIT;
    if (session->frame == NULL && (session->frame = malloc(1 + QN_FRAME_PAYLOAD_MAX)) == NULL) return -QN_ENOMEM;
    if (session->frame_len + 2 + len > 1 + QN_FRAME_PAYLOAD_MAX) {
        int rc = qn_session_flush(session);
        if (rc < 0) return rc;
    }
    if (session->frame_len == 0) session->frame[session->frame_len++] = KIND_ENVELOPES;
    put16(session->frame + session->frame_len, len);
    memcpy(session->frame + session->frame_len + 2, envelope, len);
    session->frame_len += 2 + len;
    return 0;
}

static int send_control(struct qn_session *session, const Qnet__V1__SessionControl *control) {
    uint8_t plain[1 + CONTROL_MAX] = {KIND_CONTROL};
    size_t len = qnet__v1__session_control__get_packed_size(control);
    assert(len <= CONTROL_MAX);
    int rc = qn_session_flush(session); /* What was said before stays before. */
    if (rc < 0) return rc;
    qnet__v1__session_control__pack(control, plain + 1);
    return seal(session, plain, 1 + len);
}

static int send_keep_alive(struct qn_session *session, uint64_t token, bool reply) {
    Qnet__V1__KeepAlive alive = QNET__V1__KEEP_ALIVE__INIT;
    Qnet__V1__SessionControl control = QNET__V1__SESSION_CONTROL__INIT;
    alive.token = token;
    alive.reply = reply;
    control.body_case = QNET__V1__SESSION_CONTROL__BODY_KEEP_ALIVE;
    control.keep_alive = &alive;
    return send_control(session, &control);
}

int qn_session_keep_alive(struct qn_session *session, uint64_t token) {
    return session->state == OPEN ? send_keep_alive(session, token, false) : -QN_ECLOSED;
}

int qn_session_rekey(struct qn_session *session) {
    if (session->state != OPEN) return -QN_ECLOSED;
    if (session->version < QN_PROTOCOL_REKEY) return 0;
    Qnet__V1__Rekey rekey = QNET__V1__REKEY__INIT;
    Qnet__V1__SessionControl control = QNET__V1__SESSION_CONTROL__INIT;
    control.body_case = QNET__V1__SESSION_CONTROL__BODY_REKEY;
    control.rekey = &rekey;
    int rc = send_control(session, &control);
    if (rc == 0) qn_noise_rekey(&session->sending);
    return rc;
}

static int send_close(struct qn_session *session, uint32_t reason, const char *detail) {
    Qnet__V1__Close close = QNET__V1__CLOSE__INIT;
    Qnet__V1__SessionControl control = QNET__V1__SESSION_CONTROL__INIT;
    char text[sizeof session->detail];
    copy_text(text, sizeof text, detail);
    close.reason = (Qnet__V1__CloseReason)reason;
    close.detail = text;
    control.body_case = QNET__V1__SESSION_CONTROL__BODY_CLOSE;
    control.close = &close;
    return send_control(session, &control);
}

int qn_session_close(struct qn_session *session, uint32_t reason, const char *detail) {
    int rc = session->state == OPEN ? send_close(session, reason, detail) : 0;
    end(session);
    session->event = (struct qn_session_event){.type = QN_SESSION_NONE};
    return rc;
}

/* For a peer that has proved who it is: it is told what was wrong. */
static void refuse(struct qn_session *session, int error, uint32_t reason, const char *detail) {
    send_close(session, reason, detail); /* Without memory for it the connection just ends. */
    die(session, error, 0, detail);
}

static void refuse_protocol(struct qn_session *session, const char *detail) {
    refuse(session, -QN_EPROTOCOL, REASON(PROTOCOL), detail);
}

/* ---- preface ---- */

/* Proves that the caller knows whom it calls and in which network: scanners are dropped before any curve is computed
 * (as WireGuard's mac1; Donenfeld, NDSS 2017, section 5.3). */
static void preface_mac(const struct qn_session *session, const uint8_t responder[32], uint8_t mac[16]) {
    uint8_t input[PREFACE_HEAD + 32];
    memcpy(input, session->preface, PREFACE_HEAD);
    crypto_generichash(input + PREFACE_HEAD, 32, (const uint8_t *)session->network, strlen(session->network), NULL, 0);
    crypto_generichash(mac, 16, input, sizeof input, responder, 32);
}

static void start_noise(struct qn_session *session) {
    uint8_t prologue[8 + 1 + sizeof session->network + PREFACE_HEAD];
    size_t name = strlen(session->network), len = 0;
    memcpy(prologue, "qnetd/1", 8); /* With its NUL. */
    len += 8;
    prologue[len++] = (uint8_t)name;
    memcpy(prologue + len, session->network, name);
    len += name;
    memcpy(prologue + len, session->preface, PREFACE_HEAD);
    len += PREFACE_HEAD;

    struct qn_noise_config config = {.pattern = QN_NOISE_XK,
                                     .hash = QN_NOISE_SHA256,
                                     .initiator = session->config.initiator,
                                     .prologue = prologue,
                                     .prologue_len = len};
    memcpy(config.static_private, session->config.private_key, 32);
    memcpy(config.remote_static, session->config.remote_key, 32);
    struct qn_csprng random;
    qn_csprng_init(&random, session->config.random_key);
    qn_csprng_bytes(&random, config.ephemeral_private, 32);
    qn_csprng_release(&random);
    sodium_memzero(session->config.random_key, 32);
    qn_noise_init(&session->noise, &config);
    sodium_memzero(&config, sizeof config);
}

static int send_handshake(struct qn_session *session, const uint8_t *payload, size_t len) {
    uint8_t message[2 + HANDSHAKE_MAX];
    size_t written;
    int rc = qn_noise_write(&session->noise, payload, len, message + 2, &written);
    if (rc < 0) return rc;
    put16(message, written);
    return qn_buf_append(&session->output, message, 2 + written);
}

static int begin(struct qn_session *session) { /* Initiator: preface and the first message. */
    memcpy(session->preface, "QNET", 4);
    session->preface[PREFACE_MIN] = (uint8_t)session->config.protocol_min;
    session->preface[PREFACE_MAX] = (uint8_t)session->config.protocol_max;
    session->preface[PREFACE_PLANE] = (uint8_t)session->config.plane;
    preface_mac(session, session->config.remote_key, session->preface + PREFACE_HEAD);
    start_noise(session);
    session->state = AWAIT_2;
    int rc = qn_buf_append(&session->output, session->preface, PREFACE_LEN);
    return rc < 0 ? rc : send_handshake(session, NULL, 0);
}

static void on_preface(struct qn_session *session, const uint8_t *bytes) {
    uint8_t mac[16];
    memcpy(session->preface, bytes, PREFACE_LEN);
    preface_mac(session, session->config.public_key, mac);
    if (sodium_memcmp(mac, bytes + PREFACE_HEAD, sizeof mac) != 0) {
        die(session, -QN_EAUTH, 0, "the caller does not know this node's key and network");
    } else if (bytes[PREFACE_PLANE] != (uint8_t)session->config.plane || bytes[PREFACE_RESERVED] != 0) {
        die(session, -QN_EPROTOCOL, 0, "the caller wants the other plane's port");
    } else {
        session->state = AWAIT_1;
        start_noise(session);
    }
}

/* ---- making and ending ---- */

static bool config_is_valid(const struct qn_session_config *config) {
    return strlen(config->network) < sizeof((struct qn_session *)0)->network && config->incarnation != 0 &&
           config->protocol_min <= config->protocol_max && config->protocol_max <= UINT8_MAX;
}

int qn_session_new(const struct qn_session_config *config, struct qn_session **ret_session) {
    if (!config_is_valid(config)) return -QN_EINVAL;
    if (sodium_init() < 0) return -QN_ENOMEM; /* Nothing, but for the first time. */
    /* On pages of its own that are kept out of swap and core files, as far as the system lets us. */
    struct qn_session *session = sodium_malloc((sizeof *session + 63) / 64 * 64); /* Aligned only if the size is. */
    if (session == NULL) return -QN_ENOMEM;
    memset(session, 0, sizeof *session);
    session->config = *config;
    if (session->config.protocol_max == 0) {
        session->config.protocol_min = QN_PROTOCOL_MIN;
        session->config.protocol_max = QN_PROTOCOL_MAX;
    }
    if (session->config.rekey_frames == 0) session->config.rekey_frames = REKEY_FRAMES;
    memcpy(session->network, config->network, strlen(config->network) + 1);
    copy_text(session->software, sizeof session->software, config->software != NULL ? config->software : "");
    session->config.network = session->network;
    session->config.software = session->software;
    int rc = qn_arena_init(&session->arena, CONTROL_ARENA);
    if (rc == 0 && config->initiator) rc = begin(session);
    if (rc < 0) {
        qn_session_free(session);
        return rc;
    }
    *ret_session = session;
    return 0;
}

void qn_session_free(struct qn_session *session) {
    if (session == NULL) return;
    free(session->frame);
    qn_arena_release(&session->arena);
    qn_buf_release(&session->input);
    qn_buf_release(&session->output);
    sodium_memzero(session, sizeof *session);
    sodium_free(session);
}

struct qn_buf *qn_session_output(struct qn_session *session) {
    return &session->output;
}

bool qn_session_is_open(const struct qn_session *session) { return session->state == OPEN; }

bool qn_session_is_called(const struct qn_session *session) {
    return session->state != AWAIT_PREFACE && session->state != CLOSED;
}

int qn_session_peer(const struct qn_session *session) { return session->is_proved ? session->config.peer : -1; }

uint64_t qn_session_received(const struct qn_session *session) { return session->received_frames; }

/* ---- Hello ---- */

static int send_hello(struct qn_session *session) {
    uint8_t payload[HELLO_MAX];
    Qnet__V1__Hello hello = QNET__V1__HELLO__INIT;
    hello.protocol_min = session->config.protocol_min;
    hello.protocol_max = session->config.protocol_max;
    hello.incarnation = session->config.incarnation;
    hello.node = session->config.self;
    hello.topology_digest.data = session->config.topology_digest;
    hello.topology_digest.len = sizeof session->config.topology_digest;
    hello.software = session->software;
    assert(qnet__v1__hello__get_packed_size(&hello) <= sizeof payload);
    return send_handshake(session, payload, qnet__v1__hello__pack(&hello, payload));
}

/* True if the preface, which only its sender could choose, says the same as the initiator's Hello. */
static bool agrees_with_preface(const struct qn_session *session, const Qnet__V1__Hello *hello) {
    return session->config.initiator || (hello->protocol_min == session->preface[PREFACE_MIN] &&
                                         hello->protocol_max == session->preface[PREFACE_MAX]);
}

/* The handshake is complete, so whatever is wrong with the peer's Hello can be told to it. */
static void on_hello(struct qn_session *session, const uint8_t *payload, size_t len) {
    const struct qn_session_config *own = &session->config;
    Qnet__V1__Hello *hello = qn_wire_unpack(&qnet__v1__hello__descriptor, &session->arena, payload, len);
    session->state = OPEN;
    session->is_proved = true;
    if (hello == NULL || hello->incarnation == 0 || hello->topology_digest.len != sizeof own->topology_digest ||
        !agrees_with_preface(session, hello)) {
        refuse_protocol(session, "malformed Hello");
        return;
    }
    uint32_t low = hello->protocol_min > own->protocol_min ? hello->protocol_min : own->protocol_min;
    uint32_t high = hello->protocol_max < own->protocol_max ? hello->protocol_max : own->protocol_max;
    if (low > high) {
        char detail[96];
        snprintf(detail, sizeof detail, "no protocol version in common: %u to %u here, %u to %u there",
                 own->protocol_min, own->protocol_max, hello->protocol_min, hello->protocol_max);
        refuse(session, -QN_EVERSION, REASON(VERSION), detail);
    } else if (memcmp(hello->topology_digest.data, own->topology_digest, sizeof own->topology_digest) != 0) {
        refuse(session, -QN_ETOPOLOGY, REASON(TOPOLOGY), "the two ends read different topologies");
    } else if (hello->node != own->peer) {
        refuse(session, -QN_EAUTH, REASON(PROTOCOL), "the key belongs to another node");
    } else {
        copy_text(session->peer_software, sizeof session->peer_software, hello->software);
        session->version = high;
        tell(session, (struct qn_session_event){.type = QN_SESSION_OPEN,
                                                .peer = own->peer,
                                                .incarnation = hello->incarnation,
                                                .version = high,
                                                .software = session->peer_software});
    }
}

/* ---- handshake messages ---- */

static void split(struct qn_session *session) {
    qn_noise_split(&session->noise, &session->sending, &session->receiving);
    qn_noise_release(&session->noise);
    sodium_memzero(session->config.private_key, sizeof session->config.private_key);
}

static void on_handshake(struct qn_session *session, const uint8_t *message, size_t len) {
    uint8_t payload[HANDSHAKE_MAX];
    int rc = qn_noise_read(&session->noise, message, len, payload, &len);
    if (rc == 0 && session->state != AWAIT_3) rc = send_hello(session); /* Before a look at theirs: see on_hello. */
    if (rc < 0) {
        die(session, rc, 0, rc == -QN_EAUTH ? "the handshake failed: another key or network, or changed bytes" : "");
    } else if (session->state == AWAIT_1) {
        session->state = AWAIT_3;
    } else if (session->state == AWAIT_2) {
        split(session);
        on_hello(session, payload, len);
    } else { /* AWAIT_3: now we know who calls. */
        const struct qn_session_config *own = &session->config;
        int peer = own->find_peer != NULL ? own->find_peer(own->context, session->noise.rs) : -1;
        if (peer < 0) {
            die(session, -QN_EAUTH, 0, "unknown key");
            return;
        }
        session->config.peer = (uint16_t)peer;
        split(session);
        on_hello(session, payload, len);
    }
}

/* ---- frames ---- */

static void on_control(struct qn_session *session, const uint8_t *bytes, size_t len) {
    Qnet__V1__SessionControl *control =
        qn_wire_unpack(&qnet__v1__session_control__descriptor, &session->arena, bytes, len);
    if (control == NULL) {
        refuse_protocol(session, "malformed session control");
        return;
    }
    switch (control->body_case) {
    case QNET__V1__SESSION_CONTROL__BODY_CLOSE:
        die(session, 0, (uint32_t)control->close->reason, control->close->detail);
        break;
    case QNET__V1__SESSION_CONTROL__BODY_KEEP_ALIVE:
        if (control->keep_alive->reply) {
            tell(session, (struct qn_session_event){.type = QN_SESSION_ALIVE, .token = control->keep_alive->token});
        } else if (send_keep_alive(session, control->keep_alive->token, true) < 0) {
            die(session, -QN_ENOMEM, 0, qn_err_what(-QN_ENOMEM));
        }
        break;
    case QNET__V1__SESSION_CONTROL__BODY_REKEY:
        if (session->version >= QN_PROTOCOL_REKEY)
            qn_noise_rekey(&session->receiving);
        else
            refuse_protocol(session, "a renewal of keys the agreed version does not have");
        break;
    default:
        break; /* Of a later version: ignored. */
    }
}

static void on_frame(struct qn_session *session, uint8_t *frame, size_t len) {
    if (qn_noise_open(&session->receiving, NULL, 0, frame, len, frame) < 0) {
        refuse(session, -QN_EAUTH, REASON(PROTOCOL), "a frame was changed, lost or repeated on the way");
        return;
    }
    count_frame(session, &session->receiving, &session->received_frames);
    size_t plain = len - QN_NOISE_TAG;
    if (frame[0] == KIND_CONTROL) {
        on_control(session, frame + 1, plain - 1);
    } else if (frame[0] == KIND_ENVELOPES && plain > 1) {
        session->envelopes_at = (size_t)(frame - session->input.data) + 1;
        session->envelopes_end = session->envelopes_at + plain - 1;
    } else {
        refuse_protocol(session, "unknown kind of frame");
    }
}

static void next_envelope(struct qn_session *session) {
    const uint8_t *at = session->input.data + session->envelopes_at;
    size_t left = session->envelopes_end - session->envelopes_at;
    size_t len = left < 2 ? 0 : get16(at);
    if (len == 0 || len > left - 2) {
        refuse_protocol(session, "an envelope longer than its frame");
        return;
    }
    session->envelopes_at += 2 + len;
    tell(session, (struct qn_session_event){.type = QN_SESSION_ENVELOPE, .bytes = at + 2, .len = len});
}

/* ---- input ---- */

/* Drops what is no preface by its first bytes; true if there is more to look at. */
static bool take_preface(struct qn_session *session, const uint8_t *at, size_t left) {
    if (memcmp(at, "QNET", left < 4 ? left : 4) != 0) {
        die(session, -QN_EAUTH, 0, "the caller does not speak this protocol");
        return true;
    }
    if (left < PREFACE_LEN) return false;
    session->input_at += PREFACE_LEN;
    on_preface(session, at);
    return true;
}

/* Takes one preface, handshake message or frame off the input; false if none is complete. */
static bool take(struct qn_session *session) {
    size_t left = session->input.len - session->input_at;
    if (left == 0) return false;
    uint8_t *at = session->input.data + session->input_at;
    if (session->state == AWAIT_PREFACE) return take_preface(session, at, left);
    if (left < 2) return false;
    size_t len = get16(at);
    bool is_open = session->state == OPEN;
    if (len < (is_open ? FRAME_MIN : QN_NOISE_TAG) || (!is_open && len > HANDSHAKE_MAX)) {
        if (is_open)
            refuse_protocol(session, "a frame of an impossible length");
        else
            die(session, -QN_EPROTOCOL, 0, "a handshake message of an impossible length");
        return true;
    }
    if (left < 2 + len) return false;
    session->input_at += 2 + len;
    if (is_open)
        on_frame(session, at + 2, len);
    else
        on_handshake(session, at + 2, len);
    return true;
}

int qn_session_input(struct qn_session *session, const void *bytes, size_t len) {
    if (session->state == CLOSED) return -QN_ECLOSED;
    if (session->envelopes_at == session->envelopes_end)
        session->envelopes_at = session->envelopes_end = session->input_at; /* All given out. */
    size_t done = session->envelopes_at;
    qn_buf_consume(&session->input, done);
    session->envelopes_at = 0;
    session->envelopes_end -= done;
    session->input_at -= done;
    return qn_buf_append(&session->input, bytes, len);
}

struct qn_session_event qn_session_next(struct qn_session *session) {
    while (session->event.type == QN_SESSION_NONE) {
        if (session->envelopes_at < session->envelopes_end)
            next_envelope(session);
        else if (!take(session))
            break;
    }
    struct qn_session_event event = session->event;
    session->event = (struct qn_session_event){.type = QN_SESSION_NONE};
    return event;
}
