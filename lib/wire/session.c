/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of a connection, in the order they are sent (all lengths u16, big endian):
 *
 *   initiator:  preface (24 bytes)   len, Noise 1              len, Noise 3 {Hello}    frames ...
 *   responder:                                 len, Noise 2 {Hello}                    frames ...
 *
 * The preface goes into the prologue, so a changed byte fails the handshake. A frame is one sealed block: a kind byte, then
 * either a SessionControl or envelopes, each behind its length. Input keeps at most one frame; whatever is wrong closes the
 * session, and a stranger is answered with nothing at all. */
#include "wire/session.h"

#include <assert.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "qnet/v1/session.pb-c.h"
#include "wire/arena.h"
#include "wire/noise.h"

#define PREFACE_LEN 24
#define PREFACE_HEAD 8
#define KIND_CONTROL 1
#define KIND_ENVELOPES 2
#define REKEY_FRAMES 65536
#define CONTROL_ARENA 4096

enum state { AWAIT_PREFACE, AWAIT_1, AWAIT_2, AWAIT_3, OPEN, CLOSED };

struct qn_session {
    struct qn_session_config config;
    char network[64], software[48], detail[128];
    enum state state;
    struct qn_noise noise;
    struct qn_noise_cipher sending, receiving;
    uint64_t sent_frames, received_frames;
    uint8_t preface[PREFACE_LEN];
    struct qn_buf input, output;
    size_t input_at;           /* Bytes of the input already dealt with. */
    uint8_t *frame;            /* Frame being filled, or one being read out. */
    size_t frame_len;
    uint8_t *opened;           /* Plaintext of the frame being read out. */
    size_t opened_len, opened_at;
    struct qn_session_event pending[4];
    size_t n_pending;
    struct qn_arena arena;
};

static void put16(uint8_t *to, size_t value) {
    to[0] = (uint8_t)(value >> 8);
    to[1] = (uint8_t)value;
}
static size_t get16(const uint8_t *from) { return (size_t)from[0] << 8 | from[1]; }

static void tell(struct qn_session *session, struct qn_session_event event) {
    if (session->n_pending < sizeof session->pending / sizeof session->pending[0]) session->pending[session->n_pending++] = event;
}

static void set_detail(struct qn_session *session, const char *detail) {
    size_t len = strlen(detail);
    if (len >= sizeof session->detail) len = sizeof session->detail - 1;
    memcpy(session->detail, detail, len);
    session->detail[len] = '\0';
}

static void die(struct qn_session *session, int error, uint32_t reason, const char *detail) {
    if (session->state == CLOSED) return;
    session->state = CLOSED;
    session->opened_len = session->opened_at = 0;
    session->input.len = session->input_at = 0;
    set_detail(session, detail);
    tell(session, (struct qn_session_event){.type = QN_SESSION_CLOSED, .error = error, .reason = reason, .detail = session->detail});
}

/* ---- preface ---- */

/* Proves that the caller knows whom it calls: scanners are dropped before any curve is computed (as WireGuard's mac1). */
static void preface_mac(const struct qn_session *session, const uint8_t responder[32], uint8_t mac[16]) {
    uint8_t key[32];
    crypto_generichash(key, sizeof key, responder, 32, (const uint8_t *)session->network, strlen(session->network));
    crypto_generichash(mac, 16, session->preface, PREFACE_HEAD, key, sizeof key);
}

static void start_noise(struct qn_session *session) {
    uint8_t prologue[8 + 1 + 64 + PREFACE_LEN];
    size_t len = 0, name = strlen(session->network);
    memcpy(prologue, "qnetd/1", 8);
    len = 8;
    prologue[len++] = (uint8_t)name;
    memcpy(prologue + len, session->network, name);
    len += name;
    memcpy(prologue + len, session->preface, PREFACE_HEAD);
    len += PREFACE_HEAD;
    struct qn_noise_config config = {.initiator = session->config.initiator, .prologue = prologue, .prologue_len = len};
    memcpy(config.static_private, session->config.private_key, 32);
    memcpy(config.remote_static, session->config.remote_key, 32);
    struct qn_csprng random;
    qn_csprng_init(&random, session->config.random_key);
    qn_csprng_bytes(&random, config.ephemeral_private, 32);
    qn_csprng_release(&random);
    qn_noise_init(&session->noise, &config);
    sodium_memzero(&config, sizeof config);
}

static int send_handshake(struct qn_session *session, const uint8_t *payload, size_t len) {
    uint8_t message[2 + 512];
    size_t written;
    if (len > 384) return -QN_EINVAL;
    int rc = qn_noise_write(&session->noise, payload, len, message + 2, &written);
    if (rc < 0) return rc;
    put16(message, written);
    return qn_buf_append(&session->output, message, written + 2);
}

static int begin(struct qn_session *session) { /* Initiator: preface and the first message. */
    memcpy(session->preface, "QNET", 4);
    session->preface[4] = (uint8_t)session->config.protocol_min;
    session->preface[5] = (uint8_t)session->config.protocol_max;
    session->preface[6] = (uint8_t)session->config.plane;
    session->preface[7] = 0;
    preface_mac(session, session->config.remote_key, session->preface + PREFACE_HEAD);
    start_noise(session);
    int rc = qn_buf_append(&session->output, session->preface, PREFACE_LEN);
    if (rc == 0) rc = send_handshake(session, NULL, 0);
    session->state = AWAIT_2;
    return rc;
}

int qn_session_new(const struct qn_session_config *config, struct qn_session **ret_session) {
    if (strlen(config->network) >= sizeof ((struct qn_session *)0)->network) return -QN_EINVAL;
    struct qn_session *session = calloc(1, sizeof *session);
    if (session == NULL) return -QN_ENOMEM;
    session->config = *config;
    if (session->config.protocol_max == 0) {
        session->config.protocol_min = QN_PROTOCOL_MIN;
        session->config.protocol_max = QN_PROTOCOL_MAX;
    }
    if (session->config.rekey_frames == 0) session->config.rekey_frames = REKEY_FRAMES;
    strcpy(session->network, config->network);
    session->config.network = session->network;
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
    qn_noise_release(&session->noise);
    if (session->opened != NULL) sodium_memzero(session->opened, QN_FRAME_MAX);
    if (session->frame != NULL) sodium_memzero(session->frame, 2 + QN_FRAME_MAX);
    free(session->opened);
    free(session->frame);
    qn_arena_release(&session->arena);
    qn_buf_release(&session->input);
    qn_buf_release(&session->output);
    sodium_memzero(session, sizeof *session);
    free(session);
}

struct qn_buf *qn_session_output(struct qn_session *session) { return &session->output; }
bool qn_session_is_open(const struct qn_session *session) { return session->state == OPEN; }

/* ---- hello ---- */

static int pack_hello(const struct qn_session *session, uint8_t *out, size_t *ret_len) {
    Qnet__V1__Hello hello = QNET__V1__HELLO__INIT;
    hello.protocol_min = session->config.protocol_min;
    hello.protocol_max = session->config.protocol_max;
    hello.incarnation = session->config.incarnation;
    hello.node = session->config.self;
    hello.topology_digest.data = (uint8_t *)(uintptr_t)session->config.topology_digest;
    hello.topology_digest.len = 32;
    hello.software = (char *)(uintptr_t)session->config.software;
    *ret_len = qnet__v1__hello__get_packed_size(&hello);
    if (*ret_len > 256) return -QN_EINVAL;
    qnet__v1__hello__pack(&hello, out);
    return 0;
}

static int send_hello(struct qn_session *session) {
    uint8_t payload[256];
    size_t len;
    int rc = pack_hello(session, payload, &len);
    return rc < 0 ? rc : send_handshake(session, payload, len);
}

static void split(struct qn_session *session) {
    qn_noise_split(&session->noise, &session->sending, &session->receiving);
    qn_noise_release(&session->noise);
}

/* Whatever is wrong with the peer's Hello is told to it, as it has proved who it is. */
static void on_hello(struct qn_session *session, const uint8_t *payload, size_t len) {
    Qnet__V1__Hello *hello = qn_wire_unpack(&qnet__v1__hello__descriptor, &session->arena, payload, len);
    session->state = OPEN;
    if (hello == NULL || hello->incarnation == 0) {
        qn_session_close(session, QNET__V1__CLOSE_REASON__CLOSE_REASON_PROTOCOL, "malformed Hello");
        die(session, -QN_EPROTOCOL, 0, "malformed Hello");
        return;
    }
    uint32_t low = hello->protocol_min > session->config.protocol_min ? hello->protocol_min : session->config.protocol_min;
    uint32_t high = hello->protocol_max < session->config.protocol_max ? hello->protocol_max : session->config.protocol_max;
    int error = 0;
    uint32_t reason = 0;
    const char *detail = "";
    if (low > high) {
        error = -QN_EVERSION;
        reason = QNET__V1__CLOSE_REASON__CLOSE_REASON_VERSION;
        detail = "no protocol version in common";
    } else if (hello->node != session->config.peer) {
        error = -QN_EAUTH;
        reason = QNET__V1__CLOSE_REASON__CLOSE_REASON_PROTOCOL;
        detail = "the key belongs to another node";
    } else if (hello->topology_digest.len != 32 || memcmp(hello->topology_digest.data, session->config.topology_digest, 32) != 0) {
        error = -QN_ETOPOLOGY;
        reason = QNET__V1__CLOSE_REASON__CLOSE_REASON_TOPOLOGY;
        detail = "the two ends read different topologies";
    }
    if (error < 0) {
        qn_session_close(session, reason, detail);
        session->state = OPEN; /* So that the end is told once, with its own error. */
        die(session, error, 0, detail);
        return;
    }
    size_t n = strlen(hello->software);
    if (n >= sizeof session->software) n = sizeof session->software - 1;
    memcpy(session->software, hello->software, n);
    tell(session, (struct qn_session_event){.type = QN_SESSION_OPEN, .peer = session->config.peer, .incarnation = hello->incarnation,
                                            .version = high, .software = session->software});
}

/* ---- handshake messages ---- */

static void on_preface(struct qn_session *session, const uint8_t *bytes) {
    uint8_t mac[16];
    memcpy(session->preface, bytes, PREFACE_LEN);
    preface_mac(session, session->config.public_key, mac);
    if (memcmp(bytes, "QNET", 4) != 0 || sodium_memcmp(mac, bytes + PREFACE_HEAD, sizeof mac) != 0) {
        die(session, -QN_EAUTH, 0, "not a caller who knows this node and network");
        return;
    }
    if (bytes[6] != (uint8_t)session->config.plane || bytes[7] != 0) {
        die(session, -QN_EPROTOCOL, 0, "the other plane's port");
        return;
    }
    session->state = AWAIT_1;
    start_noise(session);
}

static void on_handshake(struct qn_session *session, const uint8_t *message, size_t len) {
    uint8_t payload[512];
    size_t n;
    if (len > sizeof payload || qn_noise_read(&session->noise, message, len, payload, &n) < 0) {
        die(session, -QN_EAUTH, 0, "the handshake failed: wrong key, or the bytes were changed");
        return;
    }
    switch (session->state) {
    case AWAIT_1:
        session->state = AWAIT_3;
        if (send_hello(session) < 0) die(session, -QN_EAUTH, 0, "the handshake failed");
        break;
    case AWAIT_2:
        if (send_hello(session) < 0) {
            die(session, -QN_EAUTH, 0, "the handshake failed");
            break;
        }
        split(session);
        on_hello(session, payload, n);
        break;
    default: { /* AWAIT_3: now we know who calls. */
        int peer = session->config.find_peer != NULL ? session->config.find_peer(session->config.context, session->noise.rs) : -1;
        split(session);
        if (peer < 0) {
            die(session, -QN_EAUTH, 0, "unknown key");
            break;
        }
        session->config.peer = (uint16_t)peer;
        on_hello(session, payload, n);
    }
    }
}

/* ---- frames ---- */

static void count_frame(struct qn_session *session, struct qn_noise_cipher *cipher, uint64_t *frames) {
    if (++*frames % session->config.rekey_frames == 0) qn_noise_rekey(cipher);
}

static int seal(struct qn_session *session, uint8_t *frame, size_t len) { /* frame: 2 bytes for the length, then the plaintext. */
    qn_noise_seal(&session->sending, NULL, 0, frame + 2, len, frame + 2);
    put16(frame, len + QN_NOISE_TAG);
    count_frame(session, &session->sending, &session->sent_frames);
    return qn_buf_append(&session->output, frame, len + QN_NOISE_TAG + 2);
}

int qn_session_flush(struct qn_session *session) {
    if (session->frame_len == 0 || session->state != OPEN) return 0;
    size_t len = session->frame_len;
    session->frame_len = 0;
    return seal(session, session->frame, len);
}

int qn_session_send(struct qn_session *session, const void *envelope, size_t len) {
    if (session->state != OPEN) return -QN_ECLOSED;
    if (len > QN_ENVELOPE_MAX || len == 0) return -QN_ELIMIT;
    if (session->frame == NULL && (session->frame = malloc(2 + QN_FRAME_MAX)) == NULL) return -QN_ENOMEM;
    if (session->frame_len > 0 && session->frame_len - 1 + 2 + len > QN_FRAME_PAYLOAD_MAX) {
        int rc = qn_session_flush(session);
        if (rc < 0) return rc;
    }
    uint8_t *plain = session->frame + 2;
    if (session->frame_len == 0) plain[session->frame_len++] = KIND_ENVELOPES;
    put16(plain + session->frame_len, len);
    memcpy(plain + session->frame_len + 2, envelope, len);
    session->frame_len += 2 + len;
    return 0;
}

static int send_control(struct qn_session *session, const Qnet__V1__SessionControl *control) {
    uint8_t frame[2 + 1 + 512 + QN_NOISE_TAG];
    size_t len = qnet__v1__session_control__get_packed_size(control);
    if (len > 512) return -QN_ELIMIT;
    int rc = qn_session_flush(session);
    if (rc < 0) return rc;
    frame[2] = KIND_CONTROL;
    qnet__v1__session_control__pack(control, frame + 3);
    return seal(session, frame, len + 1);
}

static int send_keep_alive(struct qn_session *session, uint64_t token, bool reply) {
    Qnet__V1__KeepAlive alive = QNET__V1__KEEP_ALIVE__INIT;
    Qnet__V1__SessionControl control = QNET__V1__SESSION_CONTROL__INIT;
    if (session->state != OPEN) return -QN_ECLOSED;
    alive.token = token;
    alive.reply = reply;
    control.body_case = QNET__V1__SESSION_CONTROL__BODY_KEEP_ALIVE;
    control.keep_alive = &alive;
    return send_control(session, &control);
}

int qn_session_keep_alive(struct qn_session *session, uint64_t token) { return send_keep_alive(session, token, false); }

int qn_session_close(struct qn_session *session, uint32_t reason, const char *detail) {
    int rc = 0;
    if (session->state == OPEN) {
        Qnet__V1__Close close = QNET__V1__CLOSE__INIT;
        Qnet__V1__SessionControl control = QNET__V1__SESSION_CONTROL__INIT;
        close.reason = (Qnet__V1__CloseReason)reason;
        close.detail = (char *)(uintptr_t)detail;
        control.body_case = QNET__V1__SESSION_CONTROL__BODY_CLOSE;
        control.close = &close;
        rc = send_control(session, &control);
    }
    session->state = CLOSED;
    session->n_pending = 0;
    session->opened_len = session->opened_at = 0;
    return rc;
}

static void on_control(struct qn_session *session, const uint8_t *bytes, size_t len) {
    Qnet__V1__SessionControl *control = qn_wire_unpack(&qnet__v1__session_control__descriptor, &session->arena, bytes, len);
    if (control == NULL) {
        die(session, -QN_EPROTOCOL, 0, "malformed session control");
    } else if (control->body_case == QNET__V1__SESSION_CONTROL__BODY_CLOSE) {
        die(session, 0, (uint32_t)control->close->reason, control->close->detail);
    } else if (control->body_case == QNET__V1__SESSION_CONTROL__BODY_KEEP_ALIVE) {
        if (!control->keep_alive->reply) send_keep_alive(session, control->keep_alive->token, true);
        else tell(session, (struct qn_session_event){.type = QN_SESSION_ALIVE, .token = control->keep_alive->token});
    } /* Anything else is of a later version: ignored. */
}

static void on_frame(struct qn_session *session, const uint8_t *frame, size_t len) {
    if (session->opened == NULL && (session->opened = malloc(QN_FRAME_MAX)) == NULL) {
        die(session, -QN_ENOMEM, 0, "out of memory");
        return;
    }
    if (qn_noise_open(&session->receiving, NULL, 0, frame, len, session->opened) < 0) {
        die(session, -QN_EAUTH, 0, "a frame was changed, lost or repeated on the way");
        return;
    }
    count_frame(session, &session->receiving, &session->received_frames);
    size_t plain = len - QN_NOISE_TAG;
    if (plain == 0) die(session, -QN_EPROTOCOL, 0, "empty frame");
    else if (session->opened[0] == KIND_CONTROL) on_control(session, session->opened + 1, plain - 1);
    else if (session->opened[0] == KIND_ENVELOPES) {
        session->opened_len = plain;
        session->opened_at = 1;
    } else die(session, -QN_EPROTOCOL, 0, "unknown kind of frame");
}

/* Takes one message off the input, if it is whole; false if there is none. */
static bool take_input(struct qn_session *session) {
    if (session->state == CLOSED) return false;
    const uint8_t *at = session->input.data + session->input_at;
    size_t left = session->input.len - session->input_at;
    if (session->state == AWAIT_PREFACE) {
        if (left < PREFACE_LEN) { /* A scanner is known by its first bytes. */
            if (left == 0 || memcmp(at, "QNET", left < 4 ? left : 4) == 0) return false;
            die(session, -QN_EAUTH, 0, "not a caller who knows this protocol");
            return true;
        }
        session->input_at += PREFACE_LEN;
        on_preface(session, at);
        return true;
    }
    if (left < 2) return false;
    size_t len = get16(at);
    if (len < QN_NOISE_TAG || (session->state != OPEN && len > 512)) {
        die(session, -QN_EPROTOCOL, 0, "a length that cannot be");
        return true;
    }
    if (left < 2 + len) return false;
    session->input_at += 2 + len;
    if (session->state == OPEN) on_frame(session, at + 2, len);
    else on_handshake(session, at + 2, len);
    return true;
}

int qn_session_input(struct qn_session *session, const void *bytes, size_t len) {
    if (session->state == CLOSED) return -QN_ECLOSED;
    qn_buf_consume(&session->input, session->input_at); /* What is left is less than a frame. */
    session->input_at = 0;
    return qn_buf_append(&session->input, bytes, len);
}

static struct qn_session_event next_envelope(struct qn_session *session) {
    const uint8_t *at = session->opened + session->opened_at;
    size_t left = session->opened_len - session->opened_at;
    size_t len = left < 2 ? 0 : get16(at);
    if (len == 0 || len > left - 2) {
        die(session, -QN_EPROTOCOL, 0, "an envelope longer than its frame");
        return (struct qn_session_event){.type = QN_SESSION_NONE};
    }
    session->opened_at += 2 + len;
    return (struct qn_session_event){.type = QN_SESSION_ENVELOPE, .bytes = at + 2, .len = len};
}

struct qn_session_event qn_session_next(struct qn_session *session) {
    for (;;) {
        if (session->n_pending > 0) {
            struct qn_session_event event = session->pending[0];
            memmove(session->pending, session->pending + 1, --session->n_pending * sizeof event);
            return event;
        }
        if (session->opened_at < session->opened_len) {
            struct qn_session_event event = next_envelope(session);
            if (event.type != QN_SESSION_NONE) return event;
            continue;
        }
        if (!take_input(session) && session->n_pending == 0) return (struct qn_session_event){.type = QN_SESSION_NONE};
    }
}
