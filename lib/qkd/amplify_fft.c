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
 * at each such 2^j, j < k. That does no harm outside the middle: p is nearly 2^k / 2 for k = 16.
 *
 * The sums of products are, at each point, a Toeplitz product of parts: rows[q] = sum of key[a] diagonal[q - a]. It is
 * made by transforms, too, across the parts (fft_steps). With the key's parts turned round it is the transpose of the
 * product of polynomials with rows + key - 1 coefficients, for which as many points do: with F the evaluation at all
 * points, rows = F^T (F key . F^-T diagonal). Some points of all parts at a time fit the first caches.
 *
 * Memory costs more time than arithmetic. So the key goes through in groups of parts, and of the diagonal's spectra
 * only those are kept that a group needs. */
#include <assert.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/pages.h"
#include "qkd/amplify_with.h"
#include "qkd/fft.h"
#include "qkd/keystream.h"

enum { CHUNK = 8 * FFT_LANES /* Bytes. */ };

struct shape {
    unsigned log2, across_log2;               /* Points of a part; points across parts. */
    size_t part, key_parts, row_parts, group; /* group: key parts at a time. */
};

/* Lengths of transform and the longest parts that leave the middle clean; other lengths waste more. */
static const struct {
    unsigned log2;
    size_t part;
} lengths[] = {{10, 384}, {12, 1920}, {14, 6144}, {16, 32752}, {18, 98304}, {20, 491520}};
enum { LENGTHS = sizeof lengths / sizeof lengths[0] };

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

static size_t across(const struct shape *shape) { return (size_t)1 << shape->across_log2; }
static size_t ring(const struct shape *shape) { return shape->group + shape->row_parts - 1; }

/* In nanoseconds, as measured with GFNI: what matters is the ratios. Beyond the second-level cache a layer costs more
 * and more. */
static double cost(const struct shape *shape) {
    double points = (double)((size_t)1 << shape->log2), layer = 0.25;
    if (shape->log2 > 16) layer += 0.045 * (shape->log2 - 16);
    double forward = points * shape->log2 * layer, keys = (double)shape->key_parts, rows = (double)shape->row_parts;
    double groups = (double)((shape->key_parts + shape->group - 1) / shape->group);
    double product = (double)across(shape) * (0.6 + 0.2 * shape->across_log2);
    double memory = 2 * (double)(shape->group + ring(shape) + shape->row_parts);
    return (2 * keys + rows - 1) * forward + rows * forward * 1.35 + points * (groups * product + memory);
}

static struct shape choose_shape(size_t key, size_t rows) {
    struct shape best = {0};
    double least = 0;
    for (size_t i = 0; i < LENGTHS; i++) {
        struct shape shape = {.log2 = lengths[i].log2, .part = lengths[i].part};
        shape.key_parts = (key + shape.part - 1) / shape.part;
        shape.row_parts = (rows + shape.part - 1) / shape.part;
        for (; shape.across_log2 <= FFT_STEPS_MAX_LOG2; shape.across_log2++) {
            if (across(&shape) < shape.row_parts) continue;
            shape.group = across(&shape) - shape.row_parts + 1;
            if (shape.group > shape.key_parts) shape.group = shape.key_parts;
            if (best.part != 0 && cost(&shape) >= least) continue;
            best = shape;
            least = cost(&shape);
        }
    }
    assert(middle_is_clean(best.log2, best.part));
    return best;
}

/* What one transform across parts does. */
struct steps {
    struct fft_step step[FFT_STEPS_MAX];
    size_t count;
};

/* Numbers of one product. */
struct work {
    const struct fft_kernels *fft;
    struct fft_plan plan;
    struct shape shape;
    struct steps of_key, of_diagonal, of_rows;
    const struct qn_bits *key;
    const uint8_t *seed;
    size_t first;                      /* Word of the keystream. */
    size_t stride;                     /* Bytes from spectrum to spectrum; not a power of two, for the caches' sake. */
    uint8_t *keys, *rows, *diagonals;  /* Spectra; the last ones a ring. */
    uint8_t *key_chunk, *result_chunk; /* Some points of all of them. */
    uint64_t *sums;                    /* 2^log2 coefficients. */
    uint64_t *words, *stream;          /* Of a part of the key, of the diagonal. */
    uint32_t *pieces;                  /* Of one transform. */
};

/* ---- Spectra. */

/* The first `count` pieces are `words`, the others zero. */
static void transform(struct work *work, const uint64_t *words, size_t count, uint8_t *to) {
    size_t points = (size_t)1 << work->shape.log2;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    memcpy(work->pieces, words, count * sizeof *work->pieces);
#else
    for (size_t w = 0; w < count / 2; w++) {
        work->pieces[2 * w] = (uint32_t)words[w];
        work->pieces[2 * w + 1] = (uint32_t)(words[w] >> 32);
    }
#endif
    size_t used = count <= points / 2 ? points / 2 : points;
    memset(work->pieces + count, 0, (used - count) * sizeof *work->pieces);
    work->fft->forward(&work->plan, work->pieces, work->shape.log2, used < points, to);
}

/* The key is shifted up to end on a word. */
static void transform_key(struct work *work, size_t part, uint8_t *to) {
    size_t words = work->shape.part / 2, first = part * words, have = qn_bits_words(work->key->len);
    unsigned shift = (unsigned)(have * 64 - work->key->len);
    const uint64_t *from = work->key->words + first;
    size_t count = have - first < words ? have - first : words;
    for (size_t w = 0; w < count; w++) work->words[w] = from[w] << shift;
    for (size_t w = 0; shift > 0 && w < count; w++)
        if (first + w > 0) work->words[w] |= from[(ptrdiff_t)w - 1] >> (64 - shift);
    memset(work->words + count, 0, (words - count) * sizeof *work->words);
    transform(work, work->words, work->shape.part, to);
}

/* Words from..from + count of the diagonal; what comes before the first meets no key. */
static void expand(const struct work *work, ptrdiff_t from, size_t count, uint64_t *to) {
    size_t before = from >= 0 ? 0 : (size_t)-from < count ? (size_t)-from : count;
    memset(to, 0, before * sizeof *to);
    if (before < count)
        keystream(work->seed, work->first + (size_t)(from + (ptrdiff_t)before), to + before, count - before);
}

/* Spectrum d of the diagonal is that of parts d - key_parts and the next, counted from where the key ends. One after
 * the other. */
static void transform_diagonal(struct work *work, size_t d) {
    size_t words = work->shape.part / 2;
    ptrdiff_t from =
        (ptrdiff_t)qn_bits_words(work->key->len) + ((ptrdiff_t)d - (ptrdiff_t)work->shape.key_parts) * (ptrdiff_t)words;
    if (d == 0) {
        expand(work, from, words, work->stream);
    } else {
        memcpy(work->stream, work->stream + words, words * sizeof *work->stream);
    }
    expand(work, from + (ptrdiff_t)words, words, work->stream + words);
    transform(work, work->stream, 2 * work->shape.part, work->diagonals + d % ring(&work->shape) * work->stride);
}

/* Piece i of the product is the lower half of coefficient i and the upper one of coefficient i - 1. */
static void take_rows(const struct work *work, size_t part, uint64_t *out, size_t out_words) {
    const uint64_t *sums = work->sums + work->shape.part;
    size_t first = part * work->shape.part / 2;
    for (size_t w = 0; w < work->shape.part / 2 && first + w < out_words; w++) {
        const uint64_t *at = sums + 2 * w;
        uint64_t low = (uint32_t)at[0] ^ at[-1] >> 32, high = (uint32_t)at[1] ^ at[0] >> 32;
        out[first + w] = low | high << 32;
    }
}

/* ---- Across parts. */

static void turn_round(struct steps *steps) {
    for (size_t i = 0; i < steps->count / 2; i++) {
        struct fft_step swap = steps->step[i];
        steps->step[i] = steps->step[steps->count - 1 - i];
        steps->step[steps->count - 1 - i] = swap;
    }
}

/* Leaves out what adds zeros when only the first `filled` rows are not zero. */
static void drop_zeros(struct steps *steps, size_t filled) {
    bool is_filled[1 << FFT_STEPS_MAX_LOG2] = {0};
    size_t count = 0;
    memset(is_filled, true, filled);
    for (size_t i = 0; i < steps->count; i++) {
        struct fft_step step = steps->step[i];
        if (!is_filled[step.from]) continue;
        is_filled[step.to] = true;
        steps->step[count++] = step;
    }
    steps->count = count;
}

/* Leaves out what does not matter for the first `wanted` rows; of steps in the reverse of their order. */
static void drop_unwanted(struct steps *reversed, size_t wanted) {
    bool is_wanted[1 << FFT_STEPS_MAX_LOG2] = {0};
    size_t count = 0;
    memset(is_wanted, true, wanted);
    for (size_t i = 0; i < reversed->count; i++) {
        struct fft_step step = reversed->step[i];
        if (!is_wanted[step.to]) continue;
        is_wanted[step.from] = true;
        reversed->step[count++] = step;
    }
    reversed->count = count;
}

static void make_steps(struct work *work) {
    work->of_key.count = fft_steps(work->shape.across_log2, work->of_key.step);
    work->of_diagonal.count = work->of_key.count;
    for (size_t i = 0; i < work->of_key.count; i++) {
        struct fft_step step = work->of_key.step[i];
        work->of_diagonal.step[i] = (struct fft_step){.to = step.from, .from = step.to, .times = step.times};
    }
    work->of_rows = work->of_diagonal; /* Reversed, it is what is to be done last first. */
    drop_unwanted(&work->of_rows, work->shape.row_parts);
    turn_round(&work->of_rows);
    drop_zeros(&work->of_key, work->shape.group);
    drop_zeros(&work->of_diagonal, ring(&work->shape));
}

/* Brings some points of a spectrum, and asks for the next ones, which the processor does not foresee. */
static void fetch(const struct work *work, const uint8_t *spectrum, uint8_t *chunk) {
    for (int line = 0; line < CHUNK; line += 64) __builtin_prefetch(spectrum + CHUNK + line, 0, 2);
    work->fft->add(chunk, spectrum, true);
}

/* One group: key part a of it with diagonal first + q - a + group - 1 of rows q. */
static void multiply_group(struct work *work, size_t first, bool is_first) {
    size_t group = work->shape.group, n_ring = ring(&work->shape), points = across(&work->shape);
    for (size_t at = 0; at < (size_t)8 << work->shape.log2; at += CHUNK) {
        for (size_t i = 0; i < group; i++) fetch(work, work->keys + at + i * work->stride, work->key_chunk + i * CHUNK);
        memset(work->key_chunk + group * CHUNK, 0, (points - group) * CHUNK);
        work->fft->take(work->of_key.step, work->of_key.count, work->key_chunk);
        for (size_t i = 0, slot = first % n_ring; i < n_ring; i++, slot = slot + 1 < n_ring ? slot + 1 : 0)
            fetch(work, work->diagonals + at + slot * work->stride, work->result_chunk + i * CHUNK);
        memset(work->result_chunk + n_ring * CHUNK, 0, (points - n_ring) * CHUNK);
        work->fft->take(work->of_diagonal.step, work->of_diagonal.count, work->result_chunk);
        work->fft->multiply(work->result_chunk, work->result_chunk, work->key_chunk, 6 + work->shape.across_log2, true);
        work->fft->take(work->of_rows.step, work->of_rows.count, work->result_chunk);
        for (size_t q = 0; q < work->shape.row_parts; q++)
            work->fft->add(work->rows + at + q * work->stride, work->result_chunk + q * CHUNK, is_first);
    }
}

/* ---- All together. */

static void run(struct work *work, uint64_t *out, size_t out_words) {
    size_t group = work->shape.group, key_parts = work->shape.key_parts, done = 0;
    size_t groups = (key_parts + group - 1) / group;
    /* From the last part to the first, as the diagonal comes; the last group may be short of parts: these are zero. */
    for (size_t g = 0; g < groups; g++) {
        for (size_t i = 0; i < group; i++) {
            uint8_t *to = work->keys + i * work->stride;
            if (g * group + i < key_parts)
                transform_key(work, key_parts - 1 - (g * group + i), to);
            else
                memset(to, 0, (size_t)8 << work->shape.log2);
        }
        for (; done < g * group + ring(&work->shape); done++) transform_diagonal(work, done);
        multiply_group(work, g * group, g == 0);
    }
    for (size_t q = 0; q < work->shape.row_parts; q++) {
        work->fft->inverse(&work->plan, work->rows + q * work->stride, work->shape.log2, work->sums);
        take_rows(work, q, out, out_words);
    }
}

/* Where everything is, from `memory` on, or how much there is (NULL): key and rows first, to be wiped. Vectors across
 * cache lines would cost double. */
static size_t lay_out(struct work *work, uint8_t *memory, size_t *ret_secret) {
    const struct shape *shape = &work->shape;
    size_t chunk = CHUNK * across(shape), words = (shape->part / 2 * 8 + 63) / 64 * 64,
           points = (size_t)1 << shape->log2;
    uintptr_t start = (uintptr_t)memory, at = start;
    work->keys = (uint8_t *)at;
    work->rows = (uint8_t *)(at += shape->group * work->stride);
    work->key_chunk = (uint8_t *)(at += shape->row_parts * work->stride);
    work->result_chunk = (uint8_t *)(at += chunk);
    work->sums = (uint64_t *)(at += chunk);
    work->words = (uint64_t *)(at += points * sizeof *work->sums);
    work->pieces = (uint32_t *)(at += words);
    work->stream = (uint64_t *)(at += points * sizeof *work->pieces);
    *ret_secret = at - start;
    work->diagonals = (uint8_t *)(at += 2 * words);
    return at + ring(shape) * work->stride - start;
}

int toeplitz_fft(const struct fft_kernels *fft, const struct qn_bits *key, const uint8_t seed[QN_AMPLIFY_SEED_BYTES],
                 size_t first, uint64_t *out, size_t out_words) {
    struct work *work = calloc(1, sizeof *work);
    if (work == NULL) return -QN_ENOMEM;
    work->fft = fft;
    work->key = key;
    work->seed = seed;
    work->first = first;
    work->shape = choose_shape(2 * qn_bits_words(key->len), 2 * out_words);
    work->stride = ((size_t)8 << work->shape.log2) + CHUNK;
    fft_plan_init(&work->plan);
    make_steps(work);
    size_t secret, total = lay_out(work, NULL, &secret);
    uint8_t *memory = qn_pages_new(total);
    if (memory == NULL) {
        free(work);
        return -QN_ENOMEM;
    }
    lay_out(work, memory, &secret);
    run(work, out, out_words);
    sodium_memzero(memory, secret);
    free(memory);
    free(work);
    return 0;
}
