/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_NODE_KEYS_H
#define QN_NODE_KEYS_H

/* Secret keys this node shares with others, and the pads that authenticate the making of more: keys.c (the life of a
 * key at this end), keys_sync.c (what the two ends tell each other), pads.c. The keys themselves are with the driver
 * (store.h); here is the index.
 *
 *   WRITING --durable here--> STORED --durable at both--> READY --taken--> TAKING --durable--> TAKEN --taken at both-->
 * gone
 *
 * A key is handed out only from READY, so the other end is sure to have it; and only after the record that says so is
 * durable, so never twice. A crash between the two burns the key: that is counted, and the other end's copy remains
 * until it is taken there or expires. */

#include "node/internal.h"
#include "node/store.h"

#define KEYS_PER_PEER 10000
#define KEY_BYTES_PER_PEER ((uint64_t)256 << 20) /* On disk. */

enum key_state { KEY_WRITING, KEY_STORED, KEY_READY, KEY_TAKING, KEY_TAKEN };

struct key {
    struct list link; /* Oldest first. */
    struct qn_store_record record;
    enum key_state state;
    uint64_t made_ns;
    uint64_t made_with; /* The peer's incarnation; 0: before this process. */
    bool peer_has;      /* Durable there. */
    bool peer_taken;    /* Handed out there, or given up. */
    bool doomed;        /* The peer gave it up while it was being written here. */
    bool seen;          /* In the digest that is being read. */
    bool initial;       /* A pad from an initial secret. */
    uint64_t taker;     /* Number of the request that waits for it; 0: none. */
    /* Pads. The lower-numbered node uses the first half of the material, the other the second. */
    uint8_t *pads;      /* record.len bytes, owned. */
    uint64_t next;      /* Bytes of this end's half handed out, at most record.used (which is durable). */
    uint64_t reserving; /* What record.used will be; 0: no change under way. */
    uint64_t floor;     /* Bytes of the other end's half that were seen used. */
};

#define KEYS_REFUSED 256

struct key_quota {
    uint32_t n;
    uint64_t bytes;
};

struct keys {
    struct list list, pending; /* pending: changes given to the driver, not yet durable; oldest first. */
    struct qn_map by_id;       /* First eight bytes of the id. */
    struct key_quota *of_peer; /* By node. */
    struct list outbox;        /* Changes not yet given to the driver. */
    uint64_t next_number, pending_bytes;
    struct qn_timer nag, expiry;
    uint64_t ttl_ns;                   /* 0: keys do not expire. */
    int fault;                         /* Of the store: nothing can be written. */
    uint8_t refused[KEYS_REFUSED][16]; /* The last ids that could not be taken on here. */
    size_t n_refused;
    size_t n_ready, bits_ready;
    uint64_t n_taken, n_burned, n_expired;
};

int keys_init(struct qn_node *node, const struct qn_node_config *config);
void keys_release(struct qn_node *node);

/* ---- for the protocols that make keys ---- */

/* A new key of at most QN_STORE_KEY_MAX bytes, copied; purpose QN_STORE_PAD gives it to the pool instead of users.
 * bb84_on_key(node, id, 0) follows when it may be used at this end; with an error if it never will. -QN_ELIMIT: the
 * store is full of keys of this peer (take some); -QN_ESTORE: it cannot be written; -QN_EINVAL: the id is not new. On
 * failure the other end drops the key, too. A protocol that gives up a key it has added calls keys_drop. */
int keys_add(struct qn_node *node, enum qn_store_purpose purpose, uint16_t peer, const uint8_t id[16],
             const uint8_t check[8], double qber, const uint8_t *bytes, size_t len);
/* This end will never have this key, though the other may: it gives it up. Nothing if it is here after all. */
void keys_refuse(struct qn_node *node, uint16_t peer, const uint8_t id[16], int error);
void keys_drop(struct qn_node *node, const uint8_t id[16], int error); /* At both ends, unless taken. */
struct key *keys_find(const struct qn_node *node, const uint8_t *id, size_t len);
const char *key_state_name(const struct key *key);

/* ---- for users ---- */

void keys_take(struct qn_node *node, uint64_t client, uint64_t id, const uint8_t *key_id, size_t len);

/* ---- for node.c and receive.c ---- */

void keys_on_stored(struct qn_node *node, const struct qn_event *event);
void keys_on_secret(struct qn_node *node, const struct qn_event *event);
void keys_on_fault(struct qn_node *node, int error); /* 0: the store can be written again. */
void keys_on_message(struct qn_node *node, uint16_t from, const Qnet__V1__KeyMessage *m);
void keys_on_incarnation(struct qn_node *node, uint16_t peer); /* A new one was heard of. */
void keys_flush(struct qn_node *node);                         /* Gives the driver what is to be made durable. */

/* ---- the pool of pads (pads.c): one-time, never used twice, not even after a crash ---- */

struct pad_ref { /* Names a pad to the other end. */
    uint8_t id[16];
    uint64_t offset; /* In the sender's half. */
};
/* Takes the next `len` bytes for messages to `peer`. -QN_EBUSY: being reserved or made safe, try again at
 * bb84_on_pads(node, peer); -QN_ENO_KEY: the pool is empty. */
int pads_take(struct qn_node *node, uint16_t peer, size_t len, uint8_t *ret_pad, struct pad_ref *ret_ref);
/* The pad that `peer` used. -QN_ENOT_FOUND: no such key; -QN_EPROTOCOL: used before, or beyond its end. */
int pads_open(struct qn_node *node, uint16_t peer, const struct pad_ref *ref, size_t len, uint8_t *ret_pad);
bool pads_exist(const struct qn_node *node, uint16_t peer);    /* Used up or not: what is said to it is to be tagged. */
uint64_t pads_left(const struct qn_node *node, uint16_t peer); /* Bytes this end can still take. */

/* ---- shared by keys.c, keys_sync.c and pads.c ---- */

void keys_change(struct qn_node *node, enum qn_store_kind kind, struct key *key, uint64_t used,
                 const uint8_t *material);
void key_advance(struct qn_node *node, struct key *key); /* To READY if both ends have it; away if both are done. */
void key_forget(struct qn_node *node, struct key *key, int error); /* Erases it here. Tells nobody. Frees it. */
bool keys_was_refused(const struct qn_node *node, const uint8_t id[16]);
void keys_deny(struct qn_node *node, uint16_t peer, const uint8_t id[16], int reason);
void keys_tell(struct qn_node *node, const struct key *key, Qnet__V1__KeyStage stage, bool question, int reason);
void pads_on_ready(struct qn_node *node, struct key *key);
void pads_on_used(struct qn_node *node, struct key *key);

#endif
