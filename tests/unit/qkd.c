/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <math.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/rng.h"
#include "keys.h"
#include "qkd/amplify_with.h"
#include "qkd/bits.h"
#include "qkd/estimate.h"
#include "qkd/hash.h"
#include "qkd/keystream.h"
#include "qkd/pack.h"

/* ---- bits */

Test(bits, behave_as_an_array_would) {
    struct qn_rng rng;
    qn_rng_init(&rng, 11, "bits", 0);
    for (size_t len = 0; len < 300; len += 1 + len / 7) {
        struct qn_bits a = random_key(&rng, len), mask = random_key(&rng, len), part = {0};
        size_t from = qn_rng_below(&rng, len + 1), count = qn_rng_below(&rng, len - from + 1), ones = 0, both = 0,
               common = 0;
        bool parity = false;
        for (size_t i = 0; i < len; i++) {
            ones += qn_bits_get(&a, i);
            both += qn_bits_get(&a, i) != qn_bits_get(&mask, i);
            common += qn_bits_get(&a, i) && qn_bits_get(&mask, i);
            if (i >= from && i < from + count) parity ^= qn_bits_get(&a, i);
        }
        cr_assert_eq(qn_bits_count(&a), ones);
        cr_assert_eq(qn_bits_distance(&a, &mask), both);
        cr_assert_eq(qn_bits_common(&a, &mask), common);
        cr_assert_eq(qn_bits_parity(&a, from, count), parity, "len %zu from %zu count %zu", len, from, count);
        cr_assert_eq(qn_bits_push(&part, true), 0); /* So that the copy is not aligned. */
        cr_assert_eq(qn_bits_append(&part, &a, from, count), 0);
        cr_assert_eq(part.len, count + 1);
        for (size_t i = 0; i < count; i++) cr_assert_eq(qn_bits_get(&part, i + 1), qn_bits_get(&a, from + i));
        qn_bits_xor(&mask, &a);
        cr_assert_eq(qn_bits_count(&mask), both);
        qn_bits_release(&a);
        qn_bits_release(&mask);
        qn_bits_release(&part);
    }
}

Test(bits, leave_nothing_behind_when_cut) {
    struct qn_bits bits = {0};
    cr_assert_eq(qn_bits_append_word(&bits, ~0ull, 64), 0);
    cr_assert_eq(qn_bits_append_word(&bits, ~0ull, 64), 0);
    cr_assert_eq(qn_bits_resize(&bits, 3), 0);
    cr_assert_eq(qn_bits_resize(&bits, 128), 0);
    cr_assert_eq(qn_bits_count(&bits), 3);
    cr_assert_eq(qn_bits_word(&bits, 2), 1);
    qn_bits_release(&bits);
}

Test(bits, bytes_round_trip_and_stray_bits_are_refused) {
    struct qn_rng rng;
    qn_rng_init(&rng, 12, "bits", 0);
    for (size_t len = 0; len < 150; len++) {
        struct qn_bits a = random_key(&rng, len + 9), back = {0};
        struct qn_buf bytes = {0};
        cr_assert_eq(qn_bits_to_bytes(&a, 9, len, &bytes), 0);
        cr_assert_eq(bytes.len, qn_bits_bytes(len));
        cr_assert_eq(qn_bits_append_bytes(&back, bytes.data, bytes.len, len), 0);
        for (size_t i = 0; i < len; i++) cr_assert_eq(qn_bits_get(&back, i), qn_bits_get(&a, i + 9));
        cr_assert_eq(qn_bits_append_bytes(&back, bytes.data, bytes.len, len + 8), -QN_EPROTOCOL);
        if (len % 8 != 0) {
            bytes.data[bytes.len - 1] |= 0x80;
            cr_assert_eq(qn_bits_append_bytes(&back, bytes.data, bytes.len, len), -QN_EPROTOCOL);
        }
        cr_assert_eq(back.len, len);
        qn_bits_release(&a);
        qn_bits_release(&back);
        qn_buf_release(&bytes);
    }
}

/* ---- estimates */

static void near(double value, double expected, double tolerance) {
    cr_assert_lt(fabs(value - expected), tolerance, "%.12g is not %.12g", value, expected);
}

Test(estimate, entropy) {
    near(qn_binary_entropy(0.5), 1, 1e-15);
    near(qn_binary_entropy(0.11), 0.499915958164528, 1e-12);
    near(qn_binary_entropy(1e-9), 3.134004789e-8, 1e-16);
    cr_assert_eq(qn_binary_entropy(0), 0);
    cr_assert_eq(qn_binary_entropy(1), 0);
}

/* 95 % two-sided intervals from the tables; no error in n: 1 - epsilon^(1/n). */
Test(estimate, clopper_pearson) {
    near(qn_qber_upper(100, 5, 0.025), 0.11283491, 1e-7);
    near(qn_qber_upper(100, 10, 0.025), 0.17622260, 1e-7);
    near(qn_qber_upper(10, 0, 0.025), 0.30849710, 1e-7);
    near(qn_qber_upper(1000, 0, 1e-10), 1 - pow(1e-10, 1e-3), 1e-12);
    cr_assert_eq(qn_qber_upper(0, 0, 0.1), 1);
    cr_assert_eq(qn_qber_upper(10, 10, 0.1), 1);
    /* Many trials: the normal approximation, z = 3.0902 for 0.001. */
    near(qn_qber_upper(100000000, 2000000, 0.001), 0.02 + 3.0902 * sqrt(0.02 * 0.98 / 1e8), 1e-7);
}

Test(estimate, rest_of_a_sample) {
    near(qn_qber_upper_rest(1000, 20, 1000, 1e-10), 0.02 + sqrt(2000.0 * 1001 * log(1e10) / 1e9), 1e-12);
    cr_assert_eq(qn_qber_upper_rest(0, 0, 1000, 1e-10), 1);
    cr_assert_eq(qn_qber_upper_rest(3, 1, 1000, 1e-10), 1);
    cr_assert_lt(qn_qber_upper_rest(1000000, 20000, 1000000, 1e-10), 0.03);
}

Test(estimate, secret_length) {
    struct qn_secret secret = {
        .bits = 1000000, .error_upper = 0.03, .disclosed = 150000, .tag_bits = 128, .epsilon = 1e-10};
    /* 1e6 (1 - h(.03)) - 150000 - 128 - 66.44 */
    near((double)qn_secret_length(&secret), floor(1e6 * (1 - 0.194391857831576) - 150128 - 2 * log2(1e10)), 0.5);
    secret.disclosed = 900000;
    cr_assert_eq(qn_secret_length(&secret), 0);

    /* One-way limit with ideal reconciliation: 1 = 2 h(e) at 11.0028 %. */
    for (int i = 0; i < 2; i++) {
        double e = i == 0 ? 0.1100 : 0.1101;
        struct qn_secret limit = {.bits = 1000000000, .error_upper = e, .epsilon = 1e-10};
        limit.disclosed = (uint64_t)(1e9 * qn_binary_entropy(e));
        cr_assert_eq(qn_secret_length(&limit) > 0, i == 0);
        cr_assert_lt(qn_secret_length(&limit), 1000000);
    }

    struct qn_secret tagged = {.bits = 1000000, .error_upper = 0.02, .epsilon = 0.5, .tagged = 0.5};
    near((double)qn_secret_length(&tagged), 5e5 * (1 - 0.242292189082415) - 2, 1);
    tagged.tagged = 1;
    cr_assert_eq(qn_secret_length(&tagged), 0);
    tagged.tagged = 0.97; /* All errors on 3 % of the bits. */
    cr_assert_eq(qn_secret_length(&tagged), 0);
    tagged.tagged = NAN;
    cr_assert_eq(qn_secret_length(&tagged), 0);
}

/* ---- hash */

/* Bit by bit: value times point modulo x^128 + x^7 + x^2 + x + 1. */
static void slow_multiply(uint64_t value[2], const uint64_t point[2]) {
    uint64_t product[2] = {0};
    for (int i = 127; i >= 0; i--) {
        uint64_t top = product[1] >> 63;
        product[1] = product[1] << 1 | product[0] >> 63;
        product[0] = product[0] << 1 ^ (top ? 0x87 : 0);
        if (point[i / 64] >> (i % 64) & 1) {
            product[0] ^= value[0];
            product[1] ^= value[1];
        }
    }
    memcpy(value, product, sizeof product);
}

Test(hash, is_the_polynomial_it_says) {
    struct qn_rng rng;
    qn_rng_init(&rng, 31, "hash", 0);
    for (size_t len = 0; len < 3000; len += 13) {
        struct qn_bits key = random_key(&rng, len);
        uint64_t point[2] = {qn_rng_u64(&rng), qn_rng_u64(&rng)}, value[2] = {0};
        for (size_t i = 0; i < len; i += 128) {
            value[0] ^= qn_bits_word(&key, i);
            value[1] ^= qn_bits_word(&key, i + 64);
            slow_multiply(value, point);
        }
        value[0] ^= len;
        slow_multiply(value, point);
        uint8_t seed[16], tag[16], expected[16];
        for (unsigned i = 0; i < 16; i++) {
            seed[i] = (uint8_t)(point[i / 8] >> (8 * (i % 8)));
            expected[i] = (uint8_t)(value[i / 8] >> (8 * (i % 8)));
        }
        qn_hash(seed, &key, tag);
        cr_assert_eq(memcmp(tag, expected, sizeof tag), 0, "length %zu", len);
        qn_bits_release(&key);
    }
}

Test(hash, tells_keys_apart) {
    struct qn_rng rng;
    qn_rng_init(&rng, 32, "hash", 0);
    struct qn_bits key = random_key(&rng, 5000);
    const uint8_t seed[16] = {1, 2, 3, 200};
    uint8_t tag[16], other[16];
    qn_hash(seed, &key, tag);
    for (size_t i = 0; i < key.len; i++) {
        qn_bits_flip(&key, i);
        qn_hash(seed, &key, other);
        cr_assert_neq(memcmp(tag, other, sizeof tag), 0, "bit %zu", i);
        qn_bits_flip(&key, i);
    }
    cr_assert_eq(qn_bits_push(&key, false), 0); /* Same words, one more bit. */
    qn_hash(seed, &key, other);
    cr_assert_neq(memcmp(tag, other, sizeof tag), 0);
    qn_bits_release(&key);
}

/* ---- amplification */

/* Every way to multiply that this machine has: the transforms, then the splits. False past the end. */
static bool method_at(size_t index, const struct qn_gf2 **gf2, const struct fft_kernels **fft, const char **name) {
    size_t n = 0;
    while (n < index && fft_at(n) != NULL) n++;
    *fft = n == index ? fft_at(index) : NULL;
    *gf2 = *fft == NULL ? qn_gf2_at(index - n) : NULL;
    *name = *fft != NULL ? (*fft)->name : *gf2 != NULL ? (*gf2)->name : NULL;
    return *name != NULL;
}

static void check_against_definition(struct qn_rng *rng, size_t n, size_t first, size_t m) {
    struct qn_bits key = random_key(rng, n), expected = {0}, out = {0};
    uint8_t seed[32], nonce[crypto_stream_chacha20_NONCEBYTES] = {0};
    for (size_t i = 0; i < sizeof seed; i++) seed[i] = (uint8_t)qn_rng_u64(rng);
    size_t bytes = (n + first + m) / 8 + 1;
    uint8_t *d = malloc(bytes);
    crypto_stream_chacha20(d, bytes, nonce, seed);
    for (size_t j = 0; j < m; j++) {
        unsigned sum = 0;
        for (size_t i = 0; i < n; i++) {
            size_t at = first + j + n - i;
            sum ^= qn_bits_get(&key, i) & (unsigned)d[at / 8] >> (at % 8);
        }
        cr_assert_eq(qn_bits_push(&expected, sum & 1), 0);
    }
    const struct qn_gf2 *gf2;
    const struct fft_kernels *fft;
    const char *name;
    for (size_t g = 0; method_at(g, &gf2, &fft, &name); g++) {
        cr_assert_eq(qn_amplify_with(gf2, fft, &key, seed, first, m, &out), 0);
        cr_assert(qn_bits_equal(&out, &expected), "%s: %zu to %zu from %zu", name, n, m, first);
    }
    free(d);
    qn_bits_release(&key);
    qn_bits_release(&expected);
    qn_bits_release(&out);
}

Test(amplify, is_the_toeplitz_product_bit_for_bit) {
    struct qn_rng rng;
    qn_rng_init(&rng, 41, "amplify", 0);
    static const size_t lens[] = {1,   2,    63,   64,   65,   127,  128,  129,  511,
                                  512, 1000, 2047, 2048, 2049, 4095, 4097, 6001, 8200};
    for (size_t l = 0; l < sizeof lens / sizeof lens[0]; l++) {
        check_against_definition(&rng, lens[l], 0, lens[l]);
        for (int run = 0; run < 4; run++) {
            size_t first = qn_rng_below(&rng, lens[l]) / QN_AMPLIFY_ROWS_GRAIN * QN_AMPLIFY_ROWS_GRAIN;
            check_against_definition(&rng, lens[l], first, 1 + qn_rng_below(&rng, lens[l] - first));
        }
    }
    /* One row more than whole blocks: where pruning could go wrong. */
    for (size_t m = 1; m < 8200; m += QN_GF2_BLOCK * 64) check_against_definition(&rng, 8200, 0, m);
}

/* Keys of many parts, whose transforms wrap around in every way. */
Test(amplify, is_the_same_by_all_methods_at_full_size) {
    struct qn_rng rng;
    qn_rng_init(&rng, 42, "amplify", 0);
    static const struct {
        size_t key, first, rows;
    } sizes[] = {{300007, 0, 190001}, {524289, 1024, 300000}, {1048000, 0, 524000}, {1500000, 0, 40001}};
    size_t n_sizes = qn_gf2_best() == qn_gf2_at(0) ? 1 : sizeof sizes / sizeof sizes[0];
    for (size_t s = 0; s < n_sizes; s++) {
        struct qn_bits key = random_key(&rng, sizes[s].key), expected = {0}, other = {0};
        const uint8_t seed[32] = {5, (uint8_t)s};
        cr_assert_eq(qn_amplify_with(qn_gf2_best(), NULL, &key, seed, sizes[s].first, sizes[s].rows, &expected), 0);
        const struct qn_gf2 *gf2;
        const struct fft_kernels *fft;
        const char *name;
        for (size_t g = 0; method_at(g, &gf2, &fft, &name); g++) {
            if (s > 0 && gf2 == qn_gf2_at(0)) continue; /* Too slow. */
            cr_assert_eq(qn_amplify_with(gf2, fft, &key, seed, sizes[s].first, sizes[s].rows, &other), 0);
            cr_assert(qn_bits_equal(&expected, &other), "%s: %zu to %zu", name, sizes[s].key, sizes[s].rows);
        }
        qn_bits_release(&key);
        qn_bits_release(&expected);
        qn_bits_release(&other);
    }
}

/* From every word of a block, and of lengths about those that are made side by side. */
Test(amplify, its_keystream_is_chacha20) {
    enum { WORDS = 600, FIRST = 40 };
    static const uint8_t seed[32] = {7, 1}, nonce[crypto_stream_chacha20_NONCEBYTES] = {0};
    static uint8_t bytes[8 * (WORDS + FIRST)];
    static const size_t counts[] = {0, 1, 7, 8, 9, 127, 128, 129, 135, 136, 255, 256, 257, WORDS};
    crypto_stream_chacha20(bytes, sizeof bytes, nonce, seed);
    for (size_t first = 0; first < FIRST; first++) {
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
            uint64_t words[WORDS + 1] = {0}, others[WORDS + 1] = {0};
            keystream(seed, first, words, counts[c]);
            keystream_portable(seed, first, others, counts[c]);
            cr_assert_eq(memcmp(words, others, sizeof words), 0, "%zu from %zu", counts[c], first);
            for (size_t i = 0; i < counts[c]; i++)
                cr_assert_eq(words[i], load_le64(bytes + 8 * (first + i)), "word %zu of %zu from %zu", i, counts[c],
                             first);
            cr_assert_eq(words[counts[c]], 0, "it writes too much");
        }
    }
}

Test(amplify, rows_can_be_made_apart) {
    struct qn_rng rng;
    qn_rng_init(&rng, 43, "amplify", 0);
    struct qn_bits key = random_key(&rng, 700001), all = {0}, part = {0}, joined = {0};
    const uint8_t seed[32] = {6};
    cr_assert_eq(qn_amplify(&key, seed, 400003, &all), 0);
    for (size_t first = 0; first < all.len; first += 102400) {
        size_t count = all.len - first < 102400 ? all.len - first : 102400;
        cr_assert_eq(qn_amplify_rows(&key, seed, first, count, &part), 0);
        cr_assert_eq(qn_bits_append(&joined, &part, 0, part.len), 0);
    }
    cr_assert(qn_bits_equal(&all, &joined));
    cr_assert_eq(qn_amplify_rows(&key, seed, 100, 1, &part), -QN_EINVAL);
    cr_assert_eq(qn_amplify_rows(&key, seed, 512, key.len - 511, &part), -QN_EINVAL);
    cr_assert_eq(qn_amplify_rows(&key, seed, 699904, 97, &part), 0);
    cr_assert_eq(qn_amplify(&key, seed, 0, &part), 0);
    cr_assert_eq(part.len, 0);
    cr_assert_eq(qn_amplify(&key, seed, key.len + 1, &part), -QN_EINVAL);
    qn_bits_release(&key);
    qn_bits_release(&all);
    qn_bits_release(&part);
    qn_bits_release(&joined);
}

/* ---- the transform behind it */

Test(fft, basis_is_a_cantor_basis) {
    cr_assert_eq(fft_cantor(0), 1);
    for (unsigned i = 1; i < 32; i++) {
        uint64_t element = fft_cantor(i);
        cr_assert_eq(fft_field_multiply(element, element) ^ element, fft_cantor(i - 1), "element %u", i);
    }
}

Test(fft, multiplies_pieces) {
    struct qn_rng rng;
    qn_rng_init(&rng, 44, "fft", 0);
    struct fft_plan *plan = malloc(sizeof *plan);
    fft_plan_init(plan);
    for (unsigned log2 = FFT_MIN_LOG2; log2 <= 11; log2++) {
        size_t n = (size_t)1 << log2, half = n / 2;
        uint32_t *a = calloc(n, 4), *b = calloc(n, 4), *pieces = malloc(4 * n);
        uint64_t *expected = calloc(n, 8), *sums = malloc(8 * n);
        uint8_t *x = aligned_alloc(64, 8 * n), *y = aligned_alloc(64, 8 * n);
        for (size_t i = 0; i < half; i++) {
            a[i] = (uint32_t)qn_rng_u64(&rng);
            b[i] = (uint32_t)qn_rng_u64(&rng);
        }
        for (size_t i = 0; i < half; i++)
            for (unsigned bit = 0; bit < 32; bit++)
                for (size_t j = 0; j < half && (a[i] >> bit & 1); j++) expected[i + j] ^= (uint64_t)b[j] << bit;
        for (size_t k = 0; fft_at(k) != NULL; k++) {
            memcpy(pieces, a, 4 * n);
            fft_at(k)->forward(plan, pieces, log2, false, x);
            memcpy(pieces, b, 4 * n);
            fft_at(k)->forward(plan, pieces, log2, false, y);
            fft_at(k)->multiply(x, x, y, log2, true);
            fft_at(k)->inverse(plan, x, log2, sums);
            cr_assert_eq(memcmp(sums, expected, 8 * n), 0, "%s, 2^%u", fft_at(k)->name, log2);
        }
        free(a);
        free(b);
        free(pieces);
        free(expected);
        free(sums);
        free(x);
        free(y);
    }
    free(plan);
}
