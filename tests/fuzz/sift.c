/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of sifting: what a detector tells a source and the source answers, changed on the way or made up. Positions
 * are taken or refused as a whole, and never lead out of the train; honest ends share bits, bases and intensities. */
#include "qkd/sift.h"

#include "base/err.h"
#include "fuzz.h"

enum { CLICKS_MAX = 400 };

static void must(int rc) { FUZZ_CHECK(rc == 0); }

static void check_offsets(const uint32_t *offset, size_t n, uint64_t least, uint64_t pulses) {
    for (size_t i = 0; i < n; i++)
        FUZZ_CHECK(offset[i] < pulses && offset[i] >= least && (i == 0 || offset[i] > offset[i - 1]));
}

static void made_up(struct fuzz_input *in) {
    const uint8_t *bytes;
    size_t count = fuzz_below(in, CLICKS_MAX);
    uint64_t pulses = fuzz_bits(in, 4) + 1, least = fuzz_below(in, 256);
    size_t len = fuzz_take(in, 65535, &bytes);
    uint8_t *exact = malloc(len + 1);
    uint32_t *offset = malloc(count * sizeof *offset + 1);
    FUZZ_CHECK(exact != NULL && offset != NULL);
    memcpy(exact, bytes, len);
    exact = realloc(exact, len + (len == 0)); /* So that reading beyond shows. */
    int rc = qn_sift_decode(exact, len, count, least, pulses, offset);
    FUZZ_CHECK(rc == 0 || rc == -QN_EPROTOCOL);
    if (rc == 0) check_offsets(offset, count, least, pulses);
    free(exact);
    free(offset);
}

static void random_bits(struct fuzz_input *in, size_t n, struct qn_bits *bits) {
    uint64_t seed = fuzz_bits(in, 2);
    for (size_t i = 0; i < n; i++) {
        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
        must(qn_bits_push(bits, seed >> 60 & 1));
    }
}

/* A detector that saw what was sent; what the two tell each other may be changed. */
static void honest(struct fuzz_input *in) {
    uint32_t offset[CLICKS_MAX], got[CLICKS_MAX];
    size_t n = fuzz_below(in, CLICKS_MAX), count = 0;
    uint64_t at = 0;
    for (size_t i = 0; i < n; i++) {
        uint8_t gap = fuzz_byte(in);
        at += gap < 0xf8 ? gap + 1u : (uint64_t)1 << (gap & 7) * 3;
        offset[i] = (uint32_t)at;
    }
    struct qn_buf positions = {0}, answer = {0};
    must(qn_sift_encode(offset, 0, n, &positions, &count));
    FUZZ_CHECK(count == n && positions.len <= QN_SIFT_PIECE_BYTES);
    uint8_t change = fuzz_byte(in);
    if ((change & 1) && positions.len > 0) positions.data[fuzz_below(in, positions.len)] ^= (uint8_t)(change | 1);
    int rc = qn_sift_decode(positions.data, positions.len, n, 0, at + 1, got);
    FUZZ_CHECK(rc == 0 || ((change & 1) && rc == -QN_EPROTOCOL));
    if (rc == 0) check_offsets(got, n, 0, at + 1);
    if (rc == 0 && !(change & 1)) FUZZ_CHECK(n == 0 || memcmp(got, offset, n * sizeof *got) == 0);

    unsigned n_planes = (change >> 1 & 3) % (QN_SIFT_PLANES + 1);
    struct qn_bits bases = {0}, basis = {0}, bit = {0}, plane[QN_SIFT_PLANES] = {0};
    struct qn_sifted source = {0}, detector = {0};
    random_bits(in, n, &bases);
    random_bits(in, n, &basis);
    random_bits(in, n, &bit);
    for (unsigned k = 0; k < n_planes; k++) random_bits(in, n, &plane[k]);
    must(qn_sift_match(&bases, &basis, &bit, plane, n_planes, &answer, &source));
    bool changed = false;
    if (change & 8) {
        changed = true;
        if (change & 16 && answer.len > 0)
            answer.len = fuzz_below(in, answer.len);
        else if (answer.len > 0)
            answer.data[fuzz_below(in, answer.len)] ^= (uint8_t)(change | 1);
    }
    rc = qn_sift_read(&bases, &bit, n_planes, answer.data, answer.len, &detector);
    FUZZ_CHECK(rc == 0 || (changed && rc == -QN_EPROTOCOL));
    if (rc == 0 && !changed) {
        FUZZ_CHECK(qn_bits_equal(&source.key, &detector.key) && qn_bits_equal(&source.test, &detector.test));
        uint64_t sum = 0;
        for (unsigned k = 0; k < 1u << n_planes; k++) {
            uint64_t here = qn_sift_count(source.key_plane, n_planes, source.key.len, k, NULL);
            FUZZ_CHECK(here == qn_sift_count(detector.key_plane, n_planes, detector.key.len, k, NULL));
            sum += here;
        }
        FUZZ_CHECK(sum == source.key.len && source.key.len + source.test.len <= n);
    }
    qn_sifted_release(&source);
    qn_sifted_release(&detector);
    qn_bits_release(&bases);
    qn_bits_release(&basis);
    qn_bits_release(&bit);
    for (unsigned k = 0; k < QN_SIFT_PLANES; k++) qn_bits_release(&plane[k]);
    qn_buf_release(&positions);
    qn_buf_release(&answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_input in = {data, size};
    if (fuzz_byte(&in) & 1)
        made_up(&in);
    else
        honest(&in);
    return 0;
}
