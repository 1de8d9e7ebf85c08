/* SPDX-License-Identifier: Apache-2.0 */
/* Row j of the Toeplitz product is coefficient n + j of key(z) d(z). The key is shifted up to end on a word, so that
 * the wanted coefficients start on a word; a product of which only the middle is wanted splits three ways as
 * Karatsuba's does. */
#include "qkd/amplify.h"

#include <sodium.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "qkd/amplify_with.h"
#include "qkd/keystream.h"

/* to = words s .. 2s - 1 of x t, where x has s words and t has 2s: the first `need` > 0 of them at least, knowing that
 * x is zero from word `have` > 0 on. s is QN_GF2_BLOCK times a power of two; all of `to` may be written. With t = (a,
 * b, c, d) and x = (x0, x1) in halves, M the same product of half the size: low  half = M(bc, x0) + M(ab, x1) = M(bc,
 * x0 + x1) + M(ab + bc, x1) high half = M(cd, x0) + M(bc, x1) = M(bc, x0 + x1) + M(bc + cd, x0) `scratch` has 4 s
 * words. */
static void middle_product(const struct qn_gf2 *gf2, uint64_t *to, const uint64_t *t, const uint64_t *x, size_t s,
                           size_t need, size_t have, uint64_t *scratch) {
    if (s == QN_GF2_BLOCK) {
        gf2->middle(to, t, x, s);
        return;
    }
    size_t h = s / 2;
    uint64_t *deeper = scratch + 4 * h;
    if (have <= h) {
        middle_product(gf2, to, t + h, x, h, need < h ? need : h, have, deeper);
        if (need > h) middle_product(gf2, to + h, t + 2 * h, x, h, need - h, have, deeper);
    } else if (need <= h) {
        middle_product(gf2, to, t + h, x, h, need, h, deeper);
        middle_product(gf2, scratch, t, x + h, h, need, have - h, deeper);
        gf2->add(to, to, scratch, h);
    } else {
        uint64_t *sums = scratch, *both = scratch + 3 * h, *shared = scratch; /* shared: when sums is used up. */
        gf2->add(sums, t, t + h, 3 * h);                                      /* a + b, b + c, c + d */
        middle_product(gf2, to, sums, x + h, h, h, have - h, deeper);
        middle_product(gf2, to + h, sums + h, x, h, need - h, h, deeper);
        gf2->add(both, x, x + h, h);
        middle_product(gf2, shared, t + h, both, h, h, h, deeper);
        gf2->add(to, to, shared, h);
        gf2->add(to + h, to + h, shared, h);
    }
}

static void shift_up(uint64_t *to, const struct qn_bits *key) {
    size_t words = qn_bits_words(key->len);
    unsigned shift = (unsigned)(words * 64 - key->len);
    for (size_t w = 0; w < words; w++) {
        to[w] = key->words[w] << shift;
        if (shift > 0 && w > 0) to[w] |= key->words[w - 1] >> (64 - shift);
    }
}

static int multiply_split(const struct qn_gf2 *gf2, const struct qn_bits *key,
                          const uint8_t seed[QN_AMPLIFY_SEED_BYTES], size_t first, struct qn_bits *out) {
    size_t key_words = qn_bits_words(key->len), out_words = qn_bits_words(out->len), side = QN_GF2_BLOCK;
    while (side < key_words) side *= 2; /* There are never more rows than columns. */
    size_t total = side + 2 * side + side + 4 * side;
    uint64_t *memory = calloc(total, sizeof *memory);
    if (memory == NULL) return -QN_ENOMEM;

    /* The key is padded above to a full side, so the diagonal is padded below by as much. */
    uint64_t *x = memory, *d = x + side, *y = d + 2 * side, *scratch = y + side;
    shift_up(x, key);
    keystream(seed, first, d + (side - key_words), key_words + out_words);
    middle_product(gf2, y, d, x, side, out_words, key_words, scratch);
    memcpy(out->words, y, out_words * sizeof *y);
    sodium_memzero(memory, total * sizeof *memory);
    free(memory);
    return 0;
}

/* Where the transform takes less time: with fast instructions for both, and with none for either. */
enum { FFT_FROM_KEY = 400000, PORTABLE_FFT_FROM_KEY = 100000, FFT_FROM_ROWS = 10000 };

int qn_amplify_rows(const struct qn_bits *key, const uint8_t seed[QN_AMPLIFY_SEED_BYTES], size_t first, size_t bits,
                    struct qn_bits *ret_key) {
    const struct qn_gf2 *gf2 = qn_gf2_best();
    const struct fft_kernels *fft = fft_best();
    bool slow_split = gf2 == qn_gf2_at(0), slow_fft = fft == fft_at(0);
    size_t from = slow_split ? PORTABLE_FFT_FROM_KEY : slow_fft ? SIZE_MAX : FFT_FROM_KEY;
    if (key->len >= from && bits >= FFT_FROM_ROWS) return qn_amplify_with(NULL, fft, key, seed, first, bits, ret_key);
    return qn_amplify_with(gf2, NULL, key, seed, first, bits, ret_key);
}

int qn_amplify(const struct qn_bits *key, const uint8_t seed[QN_AMPLIFY_SEED_BYTES], size_t bits,
               struct qn_bits *ret_key) {
    return qn_amplify_rows(key, seed, 0, bits, ret_key);
}

int qn_amplify_with(const struct qn_gf2 *gf2, const struct fft_kernels *fft, const struct qn_bits *key,
                    const uint8_t seed[QN_AMPLIFY_SEED_BYTES], size_t first, size_t bits, struct qn_bits *ret_key) {
    if (key->len > QN_AMPLIFY_MAX_BITS || first > key->len || bits > key->len - first) return -QN_EINVAL;
    if (first % QN_AMPLIFY_ROWS_GRAIN != 0) return -QN_EINVAL;
    struct qn_bits out = {0};
    int rc = qn_bits_resize(&out, bits);
    if (rc == 0 && bits > 0)
        rc = fft != NULL ? toeplitz_fft(fft, key, seed, first / 64, out.words, qn_bits_words(bits))
                         : multiply_split(gf2, key, seed, first / 64, &out);
    if (rc < 0) {
        qn_bits_release(&out);
        return rc;
    }
    if (bits % 64 != 0) out.words[bits / 64] &= (1ull << bits % 64) - 1;
    qn_bits_release(ret_key);
    *ret_key = out;
    return 0;
}
