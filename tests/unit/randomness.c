/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../support/randomness.h"
#include "base/rng.h"
#include "qkd/amplify.h"

static struct qn_bits from_text(const char *text) {
    struct qn_bits bits = {0};
    for (; *text != '\0'; text++) cr_assert_eq(qn_bits_push(&bits, *text == '1'), 0);
    return bits;
}

static void expect_near(double value, double expected) {
    cr_assert_lt(fabs(value - expected), 1e-6, "%.7f is not %.7f", value, expected);
}

/* The examples of NIST SP 800-22: ten bits, and a hundred of pi. */
Test(randomness, gives_the_published_values) {
    struct qn_bits bits = from_text("1011010101");
    expect_near(randomness_monobit(&bits), 0.527089);
    qn_bits_release(&bits);
    bits = from_text("1001101011");
    expect_near(randomness_runs(&bits), 0.147232);
    qn_bits_release(&bits);
    bits = from_text("11001001000011111101101010100010001000010110100011"
                     "00001000110100110001001100011001100010100010111000");
    expect_near(randomness_monobit(&bits), 0.109599);
    expect_near(randomness_runs(&bits), 0.500798);
    qn_bits_release(&bits);
    /* Handbook of Applied Cryptography, example 5.31: 160 bits, X5 = 3.8933 at lag 8. */
    bits = from_text("1110001100010001010011101111001001001001"
                     "1110001100010001010011101111001001001001"
                     "1110001100010001010011101111001001001001"
                     "1110001100010001010011101111001001001001");
    expect_near(randomness_autocorrelation(&bits, 8), erfc(3.8933 / sqrt(2)));
    qn_bits_release(&bits);
}

/* What comes out of amplification passes, though little of what went in was random. */
Test(randomness, keys_pass_and_bad_ones_do_not) {
    struct qn_rng rng;
    qn_rng_init(&rng, 71, "randomness", 0);
    char why[100] = "";
    struct qn_bits raw = {0}, key = {0};
    for (size_t i = 0; i < 1600000; i += 64)
        cr_assert_eq(qn_bits_append_word(&raw, qn_rng_u64(&rng) & qn_rng_u64(&rng) & qn_rng_u64(&rng), 64), 0);
    cr_assert_not(randomness_passes(&raw, 1e-9, why));
    cr_assert_eq(strncmp(why, "monobit", 7), 0, "%s", why);
    const uint8_t seed[QN_AMPLIFY_SEED_BYTES] = {9};
    cr_assert_eq(qn_amplify(&raw, seed, 700000, &key), 0);
    cr_assert(randomness_passes(&key, 1e-9, why), "%s", why);

    for (size_t i = 0; i < key.len; i += 250) qn_bits_set(&key, i, true); /* One bit in 500 is not what it was. */
    cr_assert(randomness_passes(&key, 1e-9, why), "too little to see: %s", why);
    cr_assert_eq(qn_amplify(&raw, seed, 700000, &key), 0);
    for (size_t i = 0; i + 37 < key.len; i += 50) qn_bits_set(&key, i + 37, qn_bits_get(&key, i));
    cr_assert_not(randomness_passes(&key, 1e-9, why));
    cr_assert_eq(strncmp(why, "autocorrelation (37)", 20), 0, "%s", why);
    for (size_t i = 0; i < key.len; i++) qn_bits_set(&key, i, i % 2);
    cr_assert_not(randomness_passes(&key, 1e-9, why));
    cr_assert_eq(strncmp(why, "runs", 4), 0, "%s", why);
    cr_assert_eq(qn_bits_resize(&key, 999), 0);
    cr_assert_not(randomness_passes(&key, 1e-9, why));
    qn_bits_release(&raw);
    qn_bits_release(&key);
}
