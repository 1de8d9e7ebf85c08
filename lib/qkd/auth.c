/* SPDX-License-Identifier: Apache-2.0 */
#include "qkd/auth.h"

#include <assert.h>
#include <math.h>
#include <sodium.h>
#include <string.h>

#include "qkd/gf128.h"
#include "qkd/pack.h"

void qn_auth_init(struct qn_auth *auth, const uint8_t key[QN_AUTH_KEY_BYTES]) {
    *auth = (struct qn_auth){.point = {load_le64(key), load_le64(key + 8)}};
}

void qn_auth_release(struct qn_auth *auth) { sodium_memzero(auth, sizeof *auth); }

static void absorb(const struct qn_gf2 *gf2, struct qn_auth *auth, const uint8_t block[16]) {
    auth->value[0] ^= load_le64(block);
    auth->value[1] ^= load_le64(block + 8);
    gf128_multiply_by(gf2, auth->value, auth->point);
}

static void update(const struct qn_gf2 *gf2, struct qn_auth *auth, const uint8_t *bytes, size_t len) {
    size_t held = auth->bytes % 16;
    auth->bytes += len;
    if (held > 0) {
        size_t take = len < 16 - held ? len : 16 - held;
        memcpy(auth->block + held, bytes, take);
        if (held + take < 16) return;
        absorb(gf2, auth, auth->block);
        bytes += take;
        len -= take;
    }
    gf128_horner(gf2, auth->value, auth->point, bytes, len / 16);
    bytes += len / 16 * 16;
    len %= 16;
    if (len > 0) memcpy(auth->block, bytes, len);
}

void qn_auth_add(struct qn_auth *auth, uint8_t kind, const void *message, size_t len) {
    const struct qn_gf2 *gf2 = qn_gf2_best();
    uint8_t head[8];
    assert((uint64_t)len < 1ull << 56);
    store_le64(head, (uint64_t)len << 8 | kind);
    update(gf2, auth, head, sizeof head);
    if (len > 0) update(gf2, auth, message, len);
    auth->messages++;
}

void qn_auth_tag(const struct qn_auth *auth, const uint8_t *pad, uint8_t *ret_tag, size_t len) {
    assert(len >= QN_AUTH_MIN_TAG_BYTES && len <= QN_AUTH_TAG_BYTES);
    const struct qn_gf2 *gf2 = qn_gf2_best();
    struct qn_auth end = *auth;
    size_t held = end.bytes % 16;
    if (held > 0) {
        memset(end.block + held, 0, 16 - held);
        absorb(gf2, &end, end.block);
    }
    uint8_t block[16];
    store_le64(block, end.bytes);
    store_le64(block + 8, end.messages);
    absorb(gf2, &end, block);
    store_le64(block, end.value[0]);
    store_le64(block + 8, end.value[1]);
    for (size_t i = 0; i < len; i++) ret_tag[i] = block[i] ^ pad[i];
    sodium_memzero(block, sizeof block);
    qn_auth_release(&end);
}

bool qn_auth_check(const struct qn_auth *auth, const uint8_t *pad, const uint8_t *tag, size_t len) {
    uint8_t expected[QN_AUTH_TAG_BYTES];
    qn_auth_tag(auth, pad, expected, len);
    bool same = sodium_memcmp(expected, tag, len) == 0;
    sodium_memzero(expected, sizeof expected);
    return same;
}

/* Two transcripts differ by a polynomial without constant term of degree at most blocks + 1. */
double qn_auth_bound(const struct qn_auth *auth, size_t len) {
    return ldexp((double)(auth->bytes / 16 + (auth->bytes % 16 != 0)) + 1, -8 * (int)len);
}
