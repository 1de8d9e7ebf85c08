/* SPDX-License-Identifier: Apache-2.0 */
#include "qkd/sift.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/csprng.h"
#include "base/err.h"
#include "qkd/pack.h"

size_t qn_sift_fit(const uint64_t *positions, size_t first, size_t count) {
    size_t bytes = LEB_MAX, n = 0; /* The first position is absolute: room for its longest form. */
    while (first + n < count) {
        if (n > 0) bytes += leb_size(positions[first + n] - positions[first + n - 1]);
        if (bytes + qn_bits_bytes(n + 1) > QN_SIFT_PART_BYTES) break;
        n++;
    }
    return n;
}

int qn_sift_encode(const uint64_t *positions, const struct qn_bits *bases, size_t first, size_t count,
                   struct qn_buf *ret_positions, struct qn_buf *ret_bases) {
    assert(first <= bases->len && count <= bases->len - first);
    size_t old_positions = ret_positions->len, old_bases = ret_bases->len;
    int rc = 0;
    for (size_t i = first; rc == 0 && i < first + count; i++) {
        assert(i == first || positions[i] > positions[i - 1]);
        uint8_t leb[LEB_MAX];
        size_t len = leb_write(leb, i == first ? positions[i] : positions[i] - positions[i - 1]);
        rc = qn_buf_append(ret_positions, leb, len);
    }
    if (rc == 0) rc = qn_bits_to_bytes(bases, first, count, ret_bases);
    if (rc < 0) {
        ret_positions->len = old_positions;
        ret_bases->len = old_bases;
    }
    return rc;
}

static int clicks_reserve(struct qn_clicks *clicks, size_t more) {
    if (more <= clicks->cap - clicks->len) return 0;
    size_t cap = clicks->cap == 0 ? 1024 : clicks->cap;
    while (cap < clicks->len + more) cap *= 2;
    uint64_t *positions = reallocarray(clicks->positions, cap, sizeof *positions);
    if (positions == NULL) return -QN_ENOMEM;
    clicks->positions = positions;
    clicks->cap = cap;
    return 0;
}

/* Writes behind clicks->len, which the caller moves only when everything was right. */
static int decode_positions(struct qn_clicks *clicks, const uint8_t *bytes, size_t len, size_t count, uint64_t pulses) {
    struct leb_reader reader = {bytes, bytes + len};
    uint64_t next_free = clicks->len == 0 ? 0 : clicks->positions[clicks->len - 1] + 1;
    for (size_t i = 0; i < count; i++) {
        uint64_t value;
        int rc = leb_read(&reader, &value);
        if (rc < 0) return rc;
        uint64_t base = i == 0 ? 0 : clicks->positions[clicks->len + i - 1];
        if (value >= pulses || base >= pulses - value || base + value < next_free) return -QN_EPROTOCOL;
        clicks->positions[clicks->len + i] = base + value;
        next_free = base + value + 1;
    }
    return reader.at == reader.end ? 0 : -QN_EPROTOCOL;
}

int qn_sift_decode(struct qn_clicks *clicks, const uint8_t *positions, size_t positions_len, const uint8_t *bases,
                   size_t bases_len, size_t count, uint64_t pulses) {
    if (count > positions_len) return -QN_EPROTOCOL; /* Before memory is asked for: a byte a click at least. */
    int rc = clicks_reserve(clicks, count);
    if (rc == 0) rc = decode_positions(clicks, positions, positions_len, count, pulses);
    if (rc == 0) rc = qn_bits_append_bytes(&clicks->bases, bases, bases_len, count);
    if (rc == 0) clicks->len += count;
    return rc;
}

void qn_clicks_release(struct qn_clicks *clicks) {
    free(clicks->positions);
    qn_bits_release(&clicks->bases);
    *clicks = (struct qn_clicks){0};
}

int qn_sift_match(const struct qn_clicks *clicks, size_t first, size_t count, qn_sift_choice *choice,
                  const void *context, struct qn_bits *matches, struct qn_bits *key) {
    assert(first <= clicks->len && count <= clicks->len - first);
    int rc = 0;
    for (size_t i = first; rc == 0 && i < first + count; i++) {
        unsigned pulse = choice(context, clicks->positions[i]);
        bool match = (pulse >> 1 & 1) == qn_bits_get(&clicks->bases, i);
        rc = qn_bits_push(matches, match);
        if (rc == 0 && match) rc = qn_bits_push(key, pulse & 1);
    }
    return rc;
}

int qn_sift_keep(const struct qn_bits *bits, size_t first, size_t count, const uint8_t *matches, size_t matches_len,
                 struct qn_bits *key) {
    assert(first <= bits->len && count <= bits->len - first);
    struct qn_bits mask = {0}, part = {0};
    int rc = qn_bits_append_bytes(&mask, matches, matches_len, count);
    if (rc == 0) rc = qn_bits_append(&part, bits, first, count);
    if (rc == 0) rc = qn_bits_append_where(key, &part, &mask, true);
    qn_bits_release(&mask);
    qn_bits_release(&part);
    return rc;
}

/* Below `bound`, without bias: what would favour the low numbers is drawn again. */
static uint64_t uniform_below(struct qn_csprng *rng, uint64_t bound) {
    uint64_t least = -bound % bound; /* 2^64 mod bound */
    uint64_t value;
    do {
        value = qn_csprng_u64(rng);
    } while (value < least);
    return value % bound;
}

int qn_sample_select(const uint8_t seed[32], size_t len, size_t count, struct qn_bits *ret_mask) {
    assert(count <= len);
    struct qn_bits mask = {0};
    int rc = qn_bits_resize(&mask, len);
    if (rc < 0) return rc;
    struct qn_csprng rng;
    qn_csprng_init(&rng, seed);
    for (size_t last = len - count; last < len; last++) {
        size_t place = (size_t)uniform_below(&rng, last + 1);
        qn_bits_set(&mask, qn_bits_get(&mask, place) ? last : place, true);
    }
    qn_csprng_release(&rng);
    qn_bits_release(ret_mask);
    *ret_mask = mask;
    return 0;
}

size_t qn_sample_size(size_t len, double fraction) {
    if (!(fraction > 0)) return 0;
    if (fraction >= 1) return len;
    return (size_t)((double)len * fraction + 0.5);
}

int qn_sample_split(struct qn_bits *key, const struct qn_bits *mask, struct qn_bits *sample) {
    struct qn_bits rest = {0};
    int rc = qn_bits_append_where(&rest, key, mask, false);
    if (rc == 0) rc = qn_bits_append_where(sample, key, mask, true);
    if (rc < 0) {
        qn_bits_release(&rest);
        return rc;
    }
    qn_bits_release(key);
    *key = rest;
    return 0;
}
