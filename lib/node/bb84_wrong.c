/* SPDX-License-Identifier: Apache-2.0 */
/* A train whose hashes differ after reconciliation. The source asks for hashes of its pieces, and those that differ are
 * dropped from the key at both ends; what that costs and why it is sound is in README.md. The verdict on the block says
 * which they are. More than a quarter of a block's trains is no accident: then the block is given up. Whoever changes
 * what is said makes all of them wrong, which must not take as long as a block. */
#include <stdio.h>
#include <string.h>

#include "node/bb84.h"

uint32_t bb84_wrong_most(const struct block *block) { return block->n_trains / 4; }

/* ---- pieces ---- */

static size_t piece_start(const struct qn_bits *key, unsigned piece) { return key->len * piece / WRONG_PIECES; }

int bb84_hash_pieces(const struct qn_bits *key, const uint8_t seed[QN_HASH_SEED_BYTES],
                     uint8_t ret_tags[WRONG_PIECES * QN_HASH_BYTES]) {
    struct qn_bits piece = {0};
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < WRONG_PIECES; i++) {
        size_t start = piece_start(key, i);
        rc = qn_bits_resize(&piece, 0);
        if (rc == 0) rc = qn_bits_append(&piece, key, start, piece_start(key, i + 1) - start);
        if (rc == 0) qn_hash(seed, &piece, ret_tags + (size_t)i * QN_HASH_BYTES);
    }
    qn_bits_release(&piece);
    return rc;
}

int bb84_drop_pieces(struct qn_bits *key, uint32_t pieces, uint64_t *ret_dropped) {
    struct qn_bits kept = {0};
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < WRONG_PIECES; i++) {
        size_t start = piece_start(key, i);
        if (!(pieces >> i & 1)) rc = qn_bits_append(&kept, key, start, piece_start(key, i + 1) - start);
    }
    if (rc < 0) {
        qn_bits_release(&kept);
        return rc;
    }
    *ret_dropped = key->len - kept.len;
    qn_bits_release(key);
    *key = kept;
    return 0;
}

/* ---- which trains ---- */

bool bb84_wrong_add(struct block *block, uint32_t train, uint32_t pieces) {
    uint32_t at = block->n_wrong;
    if (at >= bb84_wrong_most(block)) return false;
    while (at > 0 && block->wrong[at - 1] > train) at--;
    if (at > 0 && block->wrong[at - 1] == train) return false;
    size_t after = (block->n_wrong - at) * sizeof *block->wrong;
    memmove(block->wrong + at + 1, block->wrong + at, after);
    memmove(block->wrong_pieces + at + 1, block->wrong_pieces + at, after);
    block->wrong[at] = train;
    block->wrong_pieces[at] = pieces;
    block->n_wrong++;
    return true;
}

static uint32_t *pieces_of(struct block *block, uint32_t train) {
    for (uint32_t i = 0; i < block->n_wrong; i++)
        if (block->wrong[i] == train) return &block->wrong_pieces[i];
    return NULL;
}

/* ---- source ---- */

bool bb84_wrong(struct train *train) {
    struct block *block = train->block;
    struct session *session = block->session;
    node_event(session->node, LEVEL_WARNING, "train_wrong", link_name(session->node, session->link_index),
               "block %u, train %u of %u: the hashes of the corrected keys differ", block->number, train->number,
               block->n_trains);
    if (block->verdict == 0 && bb84_wrong_add(block, train->number, 0)) {
        Qnet__V1__QkdSplit message = QNET__V1__QKD_SPLIT__INIT;
        message.session = session->id;
        message.block = block->number;
        message.train = train->number;
        train->step = TRAIN_SPLITTING;
        bb84_say(session, block, QNET__V1__QKD_MESSAGE__BODY_SPLIT, &message);
        return true;
    }
    block->verdict = -QN_EVERIFY;
    snprintf(block->detail, sizeof block->detail,
             "train %u: the hashes of the corrected keys differ; that may happen to %u trains of %u", train->number,
             bb84_wrong_most(block), block->n_trains);
    return false;
}

void bb84_on_pieces(struct train *train, const Qnet__V1__QkdPieces *m) {
    struct block *block = train->block;
    uint32_t *pieces = pieces_of(block, train->number);
    uint8_t tags[WRONG_PIECES * QN_HASH_BYTES];
    uint64_t dropped;
    if (!block->session->is_source || train->step != TRAIN_SPLITTING || pieces == NULL) return;
    if (m->seed.len != QN_HASH_SEED_BYTES || m->tags.len != sizeof tags) {
        bb84_block_fail(block, -QN_EPROTOCOL, "malformed hashes of pieces");
        return;
    }
    int rc = bb84_hash_pieces(&train->data->sifted.key, m->seed.data, tags);
    for (unsigned i = 0; i < WRONG_PIECES; i++)
        if (memcmp(tags + i * QN_HASH_BYTES, m->tags.data + i * QN_HASH_BYTES, QN_HASH_BYTES) != 0)
            *pieces |= UINT32_C(1) << i;
    if (*pieces == 0) *pieces = UINT32_MAX; /* The whole did differ. */
    if (rc == 0) rc = bb84_drop_pieces(&train->data->sifted.key, *pieces, &dropped);
    if (rc < 0) {
        bb84_block_fail(block, rc, "");
        return;
    }
    block->dropped_bits += dropped;
    bb84_train_done(train);
}

/* ---- detector ---- */

void bb84_on_split(struct train *train) {
    struct block *block = train->block;
    struct session *session = block->session;
    Qnet__V1__QkdPieces message = QNET__V1__QKD_PIECES__INIT;
    uint8_t seed[QN_HASH_SEED_BYTES], tags[WRONG_PIECES * QN_HASH_BYTES];
    if (session->is_source || train->step != TRAIN_DONE || train->split || block->step != BLOCK_TRAINS) return;
    train->split = true; /* Hashes are told, and paid for, once. */
    qn_csprng_bytes(&session->node->secret, seed, sizeof seed);
    int rc = bb84_hash_pieces(&block->key->parts[train->number], seed, tags);
    if (rc < 0) {
        bb84_block_fail(block, rc, "");
        return;
    }
    message.session = session->id;
    message.block = block->number;
    message.train = train->number;
    message.seed = (ProtobufCBinaryData){sizeof seed, seed};
    message.tags = (ProtobufCBinaryData){sizeof tags, tags};
    bb84_say(session, block, QNET__V1__QKD_MESSAGE__BODY_PIECES, &message);
}

int bb84_wrong_take(struct block *block, const Qnet__V1__QkdAmplify *m) {
    if (m->n_wrong != m->n_wrong_pieces) return -QN_EPROTOCOL;
    for (size_t i = 0; i < m->n_wrong; i++) {
        uint64_t dropped;
        if (m->wrong[i] >= block->n_trains || (i > 0 && m->wrong[i] <= m->wrong[i - 1])) return -QN_EPROTOCOL;
        if (!bb84_wrong_add(block, m->wrong[i], m->wrong_pieces[i])) return -QN_EPROTOCOL;
        int rc = bb84_drop_pieces(&block->key->parts[m->wrong[i]], m->wrong_pieces[i], &dropped);
        if (rc < 0) return rc;
        block->dropped_bits += dropped;
    }
    return 0;
}
