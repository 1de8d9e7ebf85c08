/* SPDX-License-Identifier: Apache-2.0 */
/* Row j of the Toeplitz product is coefficient n + j of key(z) d(z). The key is shifted up to end on a word, so the
 * wanted coefficients start on a word; key and diagonal are cut into square tiles, and each tile is a "middle product",
 * which splits three ways as Karatsuba's does. */
#include "qkd/amplify.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "qkd/amplify_with.h"
#include "qkd/pack.h"

/* to = words s .. 2s - 1 of x t (x of s words, t of 2s). With t = (a, b, c, d) and x = (x0, x1) in halves, M the same
 * product of half the size:
 *     low  half = M(bc, x0) + M(ab, x1) = M(bc, x0 + x1) + M(ab + bc, x1)
 *     high half = M(cd, x0) + M(bc, x1) = M(bc, x0 + x1) + M(bc + cd, x0)
 * `scratch` has 4 s words. */
static void middle_product(const struct qn_gf2 *gf2, uint64_t *to, const uint64_t *t, const uint64_t *x, size_t s,
                           uint64_t *scratch) {
    if (s <= QN_GF2_BLOCK) {
        gf2->middle(to, t, x, s);
        return;
    }
    size_t h = s / 2;
    uint64_t *sums = scratch, *both = scratch + 3 * h, *shared = scratch; /* shared: once sums is used up. */
    gf2->add(sums, t, t + h, 3 * h);                                      /* a + b, b + c, c + d */
    middle_product(gf2, to, sums, x + h, h, scratch + 4 * h);
    middle_product(gf2, to + h, sums + h, x, h, scratch + 4 * h);
    gf2->add(both, x, x + h, h);
    middle_product(gf2, shared, t + h, both, h, scratch + 4 * h);
    gf2->add(to, to, shared, h);
    gf2->add(to + h, to + h, shared, h);
}

struct tiling {
    size_t side;          /* Words of a tile: a multiple of QN_GF2_GRAIN, at most QN_GF2_BLOCK, times a power of two. */
    size_t rows, columns; /* Tiles over the output and over the key. */
};

static struct tiling tiling_of(size_t out_words, size_t key_words, size_t least_side, double *ret_cost) {
    size_t unit = 1;
    while ((least_side + unit - 1) / unit > QN_GF2_BLOCK) unit *= 2;
    size_t block = (least_side + unit - 1) / unit;
    block = (block + QN_GF2_GRAIN - 1) / QN_GF2_GRAIN * QN_GF2_GRAIN;
    struct tiling tiling = {.side = block * unit};
    tiling.rows = (out_words + tiling.side - 1) / tiling.side;
    tiling.columns = (key_words + tiling.side - 1) / tiling.side;
    double cost = (double)(block * block) * (double)(tiling.rows * tiling.columns);
    for (; unit > 1; unit /= 2) cost *= 3;
    *ret_cost = cost;
    return tiling;
}

/* The cheapest of those that cut the shorter side or the longer one into few equal parts. */
static struct tiling best_tiling(size_t out_words, size_t key_words) {
    struct tiling best = {0};
    double best_cost = 0;
    for (size_t parts = 1; parts <= 8; parts++) {
        for (int side = 0; side < 2; side++) {
            double cost;
            size_t words = side == 0 ? out_words : key_words;
            struct tiling tiling = tiling_of(out_words, key_words, (words + parts - 1) / parts, &cost);
            if (best.side != 0 && cost >= best_cost) continue;
            best = tiling;
            best_cost = cost;
        }
    }
    return best;
}

/* The keystream as words, into the middle of a cleared array. */
static void expand(const uint8_t seed[QN_AMPLIFY_SEED_BYTES], uint64_t *words, size_t count) {
    static const uint8_t nonce[crypto_stream_chacha20_NONCEBYTES];
    crypto_stream_chacha20((unsigned char *)words, count * sizeof *words, nonce, seed);
    for (size_t i = 0; i < count; i++) {
        uint8_t bytes[8];
        memcpy(bytes, &words[i], sizeof bytes);
        words[i] = load_le64(bytes);
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

static int multiply(const struct qn_gf2 *gf2, const struct qn_bits *key, const uint8_t seed[QN_AMPLIFY_SEED_BYTES],
                    uint64_t *out, size_t out_words) {
    size_t key_words = qn_bits_words(key->len);
    struct tiling tiling = best_tiling(out_words, key_words);
    size_t side = tiling.side, x_words = tiling.columns * side, y_words = tiling.rows * side;
    size_t total = x_words + (x_words + y_words) + side + 4 * side;
    uint64_t *memory = calloc(total, sizeof *memory);
    if (memory == NULL) return -QN_ENOMEM;

    /* The key is padded above to whole tiles, so the diagonal is padded below by as much. */
    uint64_t *x = memory, *d = x + x_words, *y = d + x_words + y_words, *scratch = y + side;
    shift_up(x, key);
    expand(seed, d + (x_words - key_words), key_words + out_words);
    for (size_t row = 0; row < tiling.rows; row++) {
        size_t first = row * side, count = out_words - first < side ? out_words - first : side;
        for (size_t column = 0; column < tiling.columns; column++) {
            middle_product(gf2, y, d + x_words + first - (column + 1) * side, x + column * side, side, scratch);
            gf2->add(out + first, out + first, y, count);
        }
    }
    sodium_memzero(memory, total * sizeof *memory);
    free(memory);
    return 0;
}

int qn_amplify(const struct qn_bits *key, const uint8_t seed[QN_AMPLIFY_SEED_BYTES], size_t bits,
               struct qn_bits *ret_key) {
    return qn_amplify_with(qn_gf2_best(), key, seed, bits, ret_key);
}

int qn_amplify_with(const struct qn_gf2 *gf2, const struct qn_bits *key, const uint8_t seed[QN_AMPLIFY_SEED_BYTES],
                    size_t bits, struct qn_bits *ret_key) {
    if (bits > key->len || key->len > QN_AMPLIFY_MAX_BITS) return -QN_EINVAL;
    struct qn_bits out = {0};
    int rc = qn_bits_resize(&out, qn_bits_words(bits) * 64);
    if (rc == 0 && bits > 0) rc = multiply(gf2, key, seed, out.words, qn_bits_words(bits));
    if (rc == 0) rc = qn_bits_resize(&out, bits);
    if (rc < 0) {
        qn_bits_release(&out);
        return rc;
    }
    qn_bits_release(ret_key);
    *ret_key = out;
    return 0;
}
