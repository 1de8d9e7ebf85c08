/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_WIRE_SESSION_H
#define QN_WIRE_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/csprng.h"

/* One connection of one plane between two neighbours, without I/O: bytes from the socket go in, frames and bytes for
 * the socket come out. Preface, Noise XK handshake, Hello, frames, keep-alive, re-keying, Close: proto/README.md.
 *
 *   connecting -> (preface, Noise 1, 2, 3) -> open -> closed
 *
 * Whatever the peer does, the worst is a closed session with a reason. */

#define QN_FRAME_MAX 65535                           /* Bytes on the wire after the length, tag included. */
#define QN_FRAME_PAYLOAD_MAX (QN_FRAME_MAX - 16 - 1) /* Envelopes with their lengths, in one frame. */
#define QN_ENVELOPE_MAX (QN_FRAME_PAYLOAD_MAX - 2)
#define QN_PROTOCOL_MIN 1
#ifndef QN_PROTOCOL_MAX /* The tests also build a daemon of the version before. */
#define QN_PROTOCOL_MAX 2
#endif
#define QN_PROTOCOL_REKEY 2 /* First version with Rekey. */

enum qn_plane_id { QN_CLASSICAL = 0, QN_QUANTUM = 1 };

struct qn_session;

struct qn_session_config {
    bool initiator;
    enum qn_plane_id plane;
    const char *network; /* Name; part of the prologue. */
    uint8_t private_key[32], public_key[32];
    uint8_t remote_key[32]; /* Initiator only. */
    /* Responder: finds the node of a public key, or -1. Initiator may leave it NULL. */
    int (*find_peer)(void *context, const uint8_t public_key[32]);
    void *context;
    uint16_t self; /* Node index. */
    uint16_t peer; /* Initiator: who is expected. */
    uint64_t incarnation;
    uint8_t topology_digest[32];
    const char *software;
    uint8_t random_key[32]; /* For ephemeral keys: 32 fresh secret bytes. */
    uint32_t protocol_min, protocol_max;
    uint64_t rekey_frames; /* 0: 65536. Both ends must have the same. */
};

enum qn_session_event_type {
    QN_SESSION_NONE,
    QN_SESSION_OPEN,     /* Handshake done; peer, incarnation, version and software are set. */
    QN_SESSION_ENVELOPE, /* bytes, len: one envelope; borrowed until the next call. */
    QN_SESSION_ALIVE,    /* An answer to our keep-alive came; token is set. */
    QN_SESSION_CLOSED,   /* error and detail say why; nothing follows. */
};

struct qn_session_event {
    enum qn_session_event_type type;
    uint16_t peer;
    uint64_t incarnation;
    uint32_t version;
    const char *software; /* Borrowed from the session. */
    const uint8_t *bytes;
    size_t len;
    uint64_t token;
    int error;          /* -QN_E*; 0 for an orderly end by the peer. */
    uint32_t reason;    /* CloseReason the peer gave, or 0. */
    const char *detail; /* Borrowed from the session. */
};

int qn_session_new(const struct qn_session_config *config, struct qn_session **ret_session); /* Copies what it needs. */
void qn_session_free(struct qn_session *session); /* Wipes its keys. NULL is fine. */

/* Gives bytes from the socket; then call qn_session_next until QN_SESSION_NONE. -QN_ENOMEM, -QN_ECLOSED. */
int qn_session_input(struct qn_session *session, const void *bytes, size_t len);
struct qn_session_event qn_session_next(struct qn_session *session);

/* Bytes for the socket; the driver consumes them. Owned by the session. */
struct qn_buf *qn_session_output(struct qn_session *session);

bool qn_session_is_open(const struct qn_session *session);
/* True once the caller has shown that it knows this node's key and network: no scanner. True for an initiator. */
bool qn_session_is_called(const struct qn_session *session);
int qn_session_peer(const struct qn_session *session); /* Node whose key the other end has proved to have, or -1. */
uint64_t qn_session_received(const struct qn_session *session); /* Whole frames that opened, ever. */
/* Adds an envelope to the frame being filled (a full frame is sealed at once). -QN_ELIMIT if too long, -QN_ECLOSED. */
int qn_session_send(struct qn_session *session, const void *envelope, size_t len);
int qn_session_flush(struct qn_session *session); /* Seals the frame being filled, if any. Call once a loop turn. */
int qn_session_keep_alive(struct qn_session *session, uint64_t token);
/* Renews the key of what is sent from here on; the driver calls it by the clock. Nothing happens in a session of a
 * version without it, whose keys are renewed by count alone. -QN_ECLOSED, -QN_ENOMEM. */
int qn_session_rekey(struct qn_session *session);
/* Says Close (if open) and refuses everything after. Flush, write the output, then end the connection. */
int qn_session_close(struct qn_session *session, uint32_t reason, const char *detail);

#endif
