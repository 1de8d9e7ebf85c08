/* SPDX-License-Identifier: Apache-2.0 */
/* From verified trains to a stored key. When all trains of a block are verified the source decides, from the statistics
 * of the whole block, how long the key is, and says so with a tag over all it said; the detector checks the tag, comes
 * to the same length, and answers with its own. Only then does either end keep a key. The store makes it durable at
 * both ends before anyone may use it. */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/bb84.h"
#include "node/keys.h"

#define KEY_BYTES ((size_t)QN_STORE_KEY_MAX) /* A longer key is stored as several. */
#define POOL_LOW_BYTES 1024                  /* Of this end's pads: then some of the next key goes to the pool,... */
#define POOL_BITS 32768                      /* ...this much, */
#define POOL_SHARE 4                         /* ...but no more than a fourth of it, */
#define POOL_BITS_LEAST 1024                 /* ...and nothing if that is less than this. */

/* ---- life ---- */

struct block *bb84_block_new(struct session *session, uint32_t number) {
    struct block *block = calloc(1, sizeof *block);
    uint64_t trains = bb84_trains_of_block(session);
    struct bb84_key *key = bb84_key_new((uint32_t)trains);
    uint32_t *wrong = calloc((size_t)trains, 2 * sizeof *wrong);
    if (block == NULL || key == NULL || wrong == NULL) {
        free(block);
        free(wrong);
        bb84_key_free(key);
        return NULL;
    }
    *block = (struct block){.session = session,
                            .number = number,
                            .n_trains = (uint32_t)trains,
                            .key = key,
                            .wrong = wrong,
                            .wrong_pieces = wrong + trains,
                            .begun_ns = session->node->now_ns};
    list_init(&block->trains);
    list_append(&session->blocks, &block->link);
    session->n_blocks++;
    bb84_transcripts_begin(session, block);
    return block;
}

static void name_key(const struct block *block, uint32_t i, uint8_t ret_id[16]) {
    uint8_t text[20];
    memcpy(text, block->key_id, 16);
    memcpy(text + 16, &i, 4);
    if (i == 0)
        memcpy(ret_id, block->key_id, 16);
    else
        crypto_generichash(ret_id, 16, text, sizeof text, NULL, 0);
}

/* The other end may hold, or be about to hold, what this end will never have. */
static void refuse_keys(const struct block *block, int error) {
    uint64_t n = block->secret / 8 / KEY_BYTES + 2; /* A part more, and one for the pool. */
    for (uint32_t i = 0; i < n; i++) {
        uint8_t id[16];
        name_key(block, i, id);
        keys_refuse(block->session->node, block->session->peer, id, error);
    }
}

void bb84_block_free(struct block *block) {
    if (block->step == BLOCK_CLOSING && block->secret > 0)
        refuse_keys(block, block->verdict != 0 ? block->verdict : -QN_ECANCELLED);
    while (!list_is_empty(&block->trains)) bb84_train_free(CONTAINER_OF(block->trains.next, struct train, link));
    bb84_key_free(block->key);
    free(block->wrong);
    qn_auth_release(&block->said);
    qn_auth_release(&block->heard);
    block->session->n_blocks--;
    list_remove(&block->link);
    free(block);
}

void bb84_block_fail(struct block *block, int error, const char *text) {
    struct session *session = block->session;
    char copy[sizeof block->detail + 32];
    if (text != block->detail) snprintf(block->detail, sizeof block->detail, "%s", text);
    snprintf(copy, sizeof copy, "block %u%s%s", block->number, block->detail[0] != '\0' ? ": " : "", block->detail);
    block->verdict = error;
    bb84_say_abort(session, block->number, error, bb84_test_qber(block), block->detail);
    bb84_tell_block(session, block);
    bb84_session_fail(session, error, copy);
}

/* ---- the end of a block ---- */

static void block_done(struct block *block) {
    struct session *session = block->session;
    struct link_state *link = &session->node->links[session->link_index];
    session->blocks_done++;
    if (block->verdict != 0) session->aborted++;
    session->sifted += bb84_sum(block->counts.key_n) + bb84_sum(block->counts.test_n);
    session->secret += block->secret;
    session->pad_bits += block->pad_bits;
    session->test += bb84_sum(block->counts.test_n);
    session->test_errors += bb84_sum(block->counts.test_m);
    link->sifted_bits += bb84_sum(block->counts.key_n) + bb84_sum(block->counts.test_n);
    link->secret_bits += block->secret;
    link->wrong_trains += block->n_wrong;
    link->qber = bb84_test_qber(block);
    bb84_tell_block(session, block);
    bb84_block_free(block);
    bb84_session_done(session);
}

static int add_key(struct block *block, enum qn_store_purpose purpose, const uint8_t *bytes, size_t len) {
    struct session *session = block->session;
    uint8_t id[16], digest[32];
    name_key(block, block->n_keys, id);
    crypto_generichash(digest, sizeof digest, bytes, len, id, sizeof id);
    block->n_keys++;
    return keys_add(session->node, purpose, session->peer, id, digest, bb84_key_qber(block), bytes, len);
}

static void store(struct block *block) {
    const struct qn_buf *secret = &block->key->secret;
    size_t pool = block->pool_bits / 8, at = pool;
    int rc = 0;
    block->step = BLOCK_STORING;
    while (rc == 0 && at < secret->len) {
        size_t len = secret->len - at < KEY_BYTES ? secret->len - at : KEY_BYTES;
        rc = add_key(block, QN_STORE_KEY, secret->data + at, len);
        at += len;
    }
    if (rc == 0 && pool > 0) rc = add_key(block, QN_STORE_PAD, secret->data, pool);
    bb84_key_free(block->key);
    block->key = NULL;
    if (rc < 0) refuse_keys(block, rc);
    if (rc == -QN_ELIMIT)
        bb84_block_fail(block, rc, "the key store is full; take keys first");
    else if (rc < 0)
        bb84_block_fail(block, rc, "the key could not be stored");
    /* bb84_on_key goes on when the keys are safe at both ends. */
}

static struct block *block_of_key(const struct qn_node *node, uint16_t peer, const uint8_t id[16]) {
    for (struct list *s = node->bb84->sessions.next; s != &node->bb84->sessions; s = s->next) {
        struct session *session = CONTAINER_OF(s, struct session, link);
        if (session->peer != peer) continue;
        for (struct list *b = session->blocks.next; b != &session->blocks; b = b->next) {
            struct block *block = CONTAINER_OF(b, struct block, link);
            for (uint32_t i = 0; block->step == BLOCK_STORING && i < block->n_keys; i++) {
                uint8_t name[16];
                name_key(block, i, name);
                if (memcmp(name, id, sizeof name) == 0) return block;
            }
        }
    }
    return NULL;
}

void bb84_on_key(struct qn_node *node, uint16_t peer, const uint8_t id[16], int error) {
    struct block *block = block_of_key(node, peer, id);
    if (block == NULL) return;
    if (error < 0) {
        bb84_block_fail(block, error, "the key could not be kept at both ends");
        return;
    }
    block->keys_ready++;
    if (block->keys_ready == block->n_keys) block_done(block);
}

static void go_on(struct block *block) { /* Confirmed, amplified, or known to give nothing. */
    if (!block->confirmed || (block->secret > 0 && !block->amplified)) return;
    if (block->secret > 0)
        store(block);
    else
        block_done(block);
}

static void amplified(struct block *block) {
    block->amplified = true;
    go_on(block);
}

static void amplify(struct block *block) {
    struct bb84_key *key = block->key;
    uint8_t name[32 + 12];
    uint32_t link = block->session->asked_link;
    memcpy(name, key->seed, 32);
    memcpy(name + 32, &block->session->id, 4);
    memcpy(name + 36, &block->number, 4);
    memcpy(name + 40, &link, 4);
    crypto_generichash(block->key_id, sizeof block->key_id, name, sizeof name, NULL, 0);
    key->secret_bits = block->secret;
    bb84_work_block(block, bb84_amplify, amplified);
}

/* ---- the source's verdict ---- */

static uint64_t share_of_pool(const struct block *block) {
    const struct session *session = block->session;
    if (!session->parameters.authenticated || pads_left(session->node, session->peer) >= POOL_LOW_BYTES) return 0;
    uint64_t bits = block->secret / POOL_SHARE < POOL_BITS ? block->secret / POOL_SHARE / 256 * 256 : POOL_BITS;
    return bits < POOL_BITS_LEAST ? 0 : bits;
}

static void no_pads(struct block *block) { bb84_block_fail(block, -QN_EPADS, "nothing is left to authenticate with"); }

static void tell_verdict(struct block *block) {
    struct session *session = block->session;
    Qnet__V1__QkdAmplify message = QNET__V1__QKD_AMPLIFY__INIT;
    message.session = session->id;
    message.block = block->number;
    message.error = (uint32_t)-block->verdict;
    message.detail = block->detail;
    message.secret_bits = block->secret;
    message.pool_bits = block->pool_bits;
    message.seed = (ProtobufCBinaryData){sizeof block->key->seed, block->key->seed};
    message.test_errors = block->counts.test_m;
    message.n_test_errors = bb84_classes(&session->parameters);
    message.disclosed = block->disclosed;
    message.wrong = block->wrong;
    message.wrong_pieces = block->wrong_pieces;
    message.n_wrong = message.n_wrong_pieces = block->n_wrong;
    if (session->parameters.bound == BB84_BOUND_BELL) {
        message.bell_trials = block->bell_trials[0];
        message.bell_sums = block->bell_sums[0];
        message.n_bell_trials = message.n_bell_sums = 4;
    }
    int rc = bb84_say_tagged(session, block, QNET__V1__QKD_MESSAGE__BODY_AMPLIFY, &message, &message.tag);
    if (rc == -QN_EBUSY) return; /* bb84_block_on_pads comes back. */
    if (rc < 0) {
        no_pads(block);
        return;
    }
    block->step = BLOCK_CLOSING;
    if (block->secret > 0) amplify(block);
}

static void close_block(struct block *block) { /* Source: all its trains are verified, or were found wrong. */
    struct session *session = block->session;
    block->step = BLOCK_TELLING;
    if (block->verdict == 0) block->secret = bb84_secret_bits(block, block->disclosed);
    block->pool_bits = share_of_pool(block);
    qn_csprng_bytes(&session->node->secret, block->key->seed, sizeof block->key->seed);
    tell_verdict(block);
}

void bb84_train_done(struct train *train) {
    struct block *block = train->block;
    struct session *session = block->session;
    block->key->parts[train->number] = train->data->sifted.key; /* Moved. */
    train->data->sifted.key = (struct qn_bits){0};
    block->corrected += train->data->corrected;
    block->done++;
    train->step = TRAIN_DONE;
    session->trains_at_once--;
    bb84_data_free(train->data);
    train->data = NULL;
    if (!session->is_source) return;
    if (block->done == (block->verdict == 0 ? block->n_trains : block->begun)) { /* A lost block sends no more. */
        uint32_t id = session->id;
        uint16_t peer = session->peer;
        struct qn_node *node = session->node;
        close_block(block);
        session = bb84_find_session(node, peer, id);
    }
    if (session != NULL) bb84_pump(session);
}

/* ---- the detector's answer ---- */

static void confirm(struct block *block) {
    struct session *session = block->session;
    Qnet__V1__QkdConfirm message = QNET__V1__QKD_CONFIRM__INIT;
    Qnet__V1__QkdAlarm alarms[ALARMS_MAX], *pointers[ALARMS_MAX];
    message.session = session->id;
    message.block = block->number;
    message.alarms = pointers;
    message.n_alarms = block->n_alarms;
    bb84_pack_alarms(block, alarms, pointers);
    int rc = bb84_say_tagged(session, block, QNET__V1__QKD_MESSAGE__BODY_CONFIRM, &message, &message.tag);
    if (rc == -QN_EBUSY) return;
    if (rc < 0) {
        no_pads(block);
        return;
    }
    block->step = BLOCK_CLOSING;
    block->confirmed = true;
    if (block->secret > 0)
        amplify(block);
    else
        go_on(block);
}

static void bad_tag(struct block *block) {
    struct session *session = block->session;
    char way[200], text[280];
    bb84_pairs_way(session, way, sizeof way);
    session->node->links[session->link_index].alarms++;
    node_event(session->node, LEVEL_ERROR, "alarm", link_name(session->node, session->link_index),
               "block %u: what %s said was changed on the way%s; no key", block->number,
               node_name(session->node, session->peer), way);
    snprintf(text, sizeof text, "what the other end said was changed on the way%s", way);
    bb84_block_fail(block, -QN_EAUTH, text);
}

static bool copy_verdict(struct block *block, const Qnet__V1__QkdAmplify *m) {
    const struct session *session = block->session;
    if (m->n_test_errors != bb84_classes(&session->parameters)) return false;
    if (bb84_wrong_take(block, m) < 0) return false;
    for (size_t k = 0; k < m->n_test_errors; k++) {
        if (m->test_errors[k] > block->counts.test_n[k]) return false;
        block->counts.test_m[k] = block->observed.m[1][k] = m->test_errors[k];
    }
    bool bell = session->parameters.bound == BB84_BOUND_BELL;
    if (m->n_bell_trials != (bell ? 4 : 0) || m->n_bell_sums != m->n_bell_trials) return false;
    for (size_t i = 0; i < m->n_bell_trials; i++) { /* Their ranges are checked with the bound. */
        block->bell_trials[i / 2][i % 2] = m->bell_trials[i];
        block->bell_sums[i / 2][i % 2] = m->bell_sums[i];
    }
    block->verdict = -(int)m->error;
    snprintf(block->detail, sizeof block->detail, "%s", m->detail);
    block->disclosed = m->disclosed;
    return true;
}

void bb84_on_amplify(struct block *block, const Qnet__V1__QkdMessage *message) {
    const Qnet__V1__QkdAmplify *m = message->amplify;
    struct session *session = block->session;
    if (session->is_source || block->step != BLOCK_TRAINS || (block->done != block->n_trains && m->error == 0)) return;
    if (bb84_heard_tagged(session, block, message, &message->amplify->tag) < 0) {
        bad_tag(block);
        return;
    }
    if (m->seed.len != sizeof block->key->seed || m->secret_bits % 8 != 0 || m->pool_bits % 256 != 0 ||
        m->pool_bits > m->secret_bits || (m->error != 0 && m->secret_bits != 0) || !copy_verdict(block, m)) {
        bb84_block_fail(block, -QN_EPROTOCOL, "malformed verdict");
        return;
    }
    block->step = BLOCK_TELLING;
    if (m->error == 0) { /* The same counts must give the same length here. */
        block->secret = bb84_secret_bits(block, m->disclosed);
        if (block->secret != m->secret_bits) {
            bb84_block_fail(block, -QN_EPROTOCOL, "the ends come to different lengths of the key");
            return;
        }
    }
    block->pool_bits = m->pool_bits;
    memcpy(block->key->seed, m->seed.data, sizeof block->key->seed);
    bb84_judge(block, true);
    bb84_raise(block);
    confirm(block);
}

void bb84_on_confirm(struct block *block, const Qnet__V1__QkdMessage *message) {
    struct session *session = block->session;
    if (!session->is_source || block->step != BLOCK_CLOSING || block->confirmed) return;
    if (bb84_heard_tagged(session, block, message, &message->confirm->tag) < 0) {
        bad_tag(block);
        return;
    }
    bb84_take_alarms(block, message->confirm->alarms, message->confirm->n_alarms);
    bb84_raise(block);
    block->confirmed = true;
    go_on(block);
}

void bb84_block_on_pads(struct block *block) {
    if (block->step != BLOCK_TELLING) return;
    if (block->session->is_source)
        tell_verdict(block);
    else
        confirm(block);
}
