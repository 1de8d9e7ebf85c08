/* SPDX-License-Identifier: Apache-2.0 */
/* The Toeplitz product by additive Fourier transforms.
 *
 * Key and rows are cut into parts of equal length p (in 32-bit pieces, as everything here). Rows of part q get from key
 * part a the middle third of the product with 2p pieces of the diagonal, which depend on q - a only. So each part of
 * the key, and each double part of the diagonal, is transformed once, products add up as spectra, and each part of the
 * rows is transformed back once.
 *
 * The product of a key part with its diagonal has 3p coefficients, but a transform of 2^k points need not hold them
 * all: it gives them modulo s_k(x) = sum of x^(2^j) over all j whose bits are among k's, so what is beyond 2^k is added
 * at each such 2^j, j < k. That does no harm outside the middle: p is nearly 2^k / 2 for k = 16. */
#include <sodium.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "qkd/amplify_with.h"
#include "qkd/fft.h"
#include "qkd/pack.h"

enum { PART_GRAIN = 16, SHAPE_MIN_LOG2 = 10, SHAPE_MAX_LOG2 = 20 };

struct shape {
    unsigned log2;
    size_t part, key_parts, row_parts;
};

/* Whether the middle of the product is right with 2^log2 points. */
static bool middle_is_clean(unsigned log2, size_t part) {
    size_t points = (size_t)1 << log2, coefficients = 3 * part - 1;
    if (coefficients <= points) return true;
    size_t beyond = coefficients - points;
    for (unsigned j = 0; j < log2; j++) {
        if ((log2 & j) != j) continue;
        size_t start = (size_t)1 << j, end = start + beyond;
        if (end > points) return false; /* Would wrap twice. */
        if (end > part - 1 && start < 2 * part) return false;
    }
    return true;
}

static size_t longest_part(unsigned log2) {
    size_t part = ((size_t)1 << log2) / 2 / PART_GRAIN * PART_GRAIN;
    while (!middle_is_clean(log2, part)) part -= PART_GRAIN;
    return part;
}

/* In nanoseconds, as measured with GFNI: what matters is the ratios. Beyond the second-level cache a layer costs more
 * and more. */
static double cost(const struct shape *shape) {
    double points = (double)((size_t)1 << shape->log2), layer = 0.25;
    if (shape->log2 > 16) layer += 0.045 * (shape->log2 - 16);
    double forward = points * shape->log2 * layer, product = points * (shape->log2 > 16 ? 1.0 : 0.6);
    double keys = (double)shape->key_parts, rows = (double)shape->row_parts;
    return (2 * keys + rows - 1) * forward + rows * forward * 1.35 + keys * rows * product;
}

static struct shape choose_shape(size_t key, size_t rows) {
    struct shape best = {0};
    double least = 0;
    for (unsigned log2 = SHAPE_MIN_LOG2; log2 <= SHAPE_MAX_LOG2; log2++) {
        struct shape shape = {.log2 = log2, .part = longest_part(log2)};
        shape.key_parts = (key + shape.part - 1) / shape.part;
        shape.row_parts = (rows + shape.part - 1) / shape.part;
        if (best.part == 0 || cost(&shape) < least) {
            best = shape;
            least = cost(&shape);
        }
    }
    return best;
}

/* Numbers of one product. */
struct work {
    const struct fft_kernels *fft;
    struct fft_plan plan;
    struct shape shape;
    size_t spectrum;          /* Bytes of one. */
    uint8_t *keys, *rows;     /* Spectra, one after the other. */
    uint8_t *diagonal, *sums; /* A spectrum; 2^log2 coefficients. */
    uint32_t *pieces;         /* Of one transform. */
};

/* Transforms `count` pieces from `from` on of `words` ones, which are as if preceded and followed by zeros; both even.
 */
static void transform(struct work *work, const uint64_t *words, size_t n_words, ptrdiff_t from, size_t count,
                      uint8_t *to) {
    size_t points = (size_t)1 << work->shape.log2;
    size_t before = from < 0 ? (size_t)-from / 2 : 0, first = from < 0 ? 0 : (size_t)from / 2, take = 0;
    if (before < count / 2 && first < n_words) {
        take = count / 2 - before;
        if (take > n_words - first) take = n_words - first;
    }
    memset(work->pieces, 0, 2 * (before < count / 2 ? before : count / 2) * sizeof *work->pieces);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (take > 0) memcpy(work->pieces + 2 * before, words + first, take * sizeof *words);
#else
    for (size_t w = 0; w < take; w++) {
        work->pieces[2 * (before + w)] = (uint32_t)words[first + w];
        work->pieces[2 * (before + w) + 1] = (uint32_t)(words[first + w] >> 32);
    }
#endif
    size_t used = take > 0 ? 2 * (before + take) : 0;
    memset(work->pieces + used, 0, (points - used) * sizeof *work->pieces);
    work->fft->forward(&work->plan, work->pieces, work->shape.log2, to);
}

/* Piece i of the product is the lower half of coefficient i and the upper one of coefficient i - 1. */
static void take_rows(const struct work *work, size_t part, uint64_t *out, size_t out_words) {
    const uint64_t *sums = (const uint64_t *)(const void *)work->sums + work->shape.part;
    size_t first = part * work->shape.part / 2;
    for (size_t w = 0; w < work->shape.part / 2 && first + w < out_words; w++) {
        const uint64_t *at = sums + 2 * w;
        uint64_t low = (uint32_t)at[0] ^ at[-1] >> 32, high = (uint32_t)at[1] ^ at[0] >> 32;
        out[first + w] = low | high << 32;
    }
}

static void run(struct work *work, const uint64_t *key, size_t key_words, const uint64_t *diagonal,
                size_t diagonal_words, uint64_t *out, size_t out_words) {
    size_t part = work->shape.part, key_parts = work->shape.key_parts, row_parts = work->shape.row_parts;
    for (size_t a = 0; a < key_parts; a++)
        transform(work, key, key_words, (ptrdiff_t)(a * part), part, work->keys + a * work->spectrum);
    for (size_t t = 0; t + 1 < key_parts + row_parts; t++) { /* t = q - a + key_parts - 1. */
        ptrdiff_t from = (ptrdiff_t)(2 * key_words) + (ptrdiff_t)part * ((ptrdiff_t)t - (ptrdiff_t)key_parts);
        transform(work, diagonal, diagonal_words, from, 2 * part, work->diagonal);
        for (size_t q = t + 1 < key_parts ? 0 : t + 1 - key_parts; q < row_parts && q <= t; q++) {
            size_t a = q + key_parts - 1 - t;
            work->fft->multiply(work->rows + q * work->spectrum, work->keys + a * work->spectrum, work->diagonal,
                                work->shape.log2, a + 1 == key_parts);
        }
    }
    for (size_t q = 0; q < row_parts; q++) {
        work->fft->inverse(&work->plan, work->rows + q * work->spectrum, work->shape.log2,
                           (uint64_t *)(void *)work->sums);
        take_rows(work, q, out, out_words);
    }
}

int toeplitz_fft(const struct fft_kernels *fft, const uint64_t *key, size_t key_words, const uint64_t *diagonal,
                 size_t diagonal_words, uint64_t *out, size_t out_words) {
    struct work *work = calloc(1, sizeof *work);
    if (work == NULL) return -QN_ENOMEM;
    work->fft = fft;
    work->shape = choose_shape(2 * key_words, 2 * out_words);
    work->spectrum = (size_t)8 << work->shape.log2;
    fft_plan_init(&work->plan);
    /* Vectors across cache lines would cost double. */
    size_t total = (work->shape.key_parts + work->shape.row_parts + 2) * work->spectrum + work->spectrum / 2;
    uint8_t *memory = aligned_alloc(FFT_LANES, total);
    if (memory == NULL) {
        free(work);
        return -QN_ENOMEM;
    }
    work->keys = memory;
    work->rows = work->keys + work->shape.key_parts * work->spectrum;
    work->diagonal = work->rows + work->shape.row_parts * work->spectrum;
    work->sums = work->diagonal + work->spectrum;
    work->pieces = (uint32_t *)(void *)(work->sums + work->spectrum);
    run(work, key, key_words, diagonal, diagonal_words, out, out_words);
    sodium_memzero(memory, total);
    free(memory);
    free(work);
    return 0;
}
