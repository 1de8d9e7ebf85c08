/* SPDX-License-Identifier: Apache-2.0 */
/* The stream of choices of a source of pulses, the same by every instruction set. */
#include "pulses_support.h"

/* ---- AES ---- */

/* NIST SP 800-38A, F.1.1, and the last round key of FIPS 197, A.1. */
Test(aes, matches_the_standard) {
    static const uint8_t secret[16] = {0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6,
                                       0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf, 0x4f, 0x3c};
    static const uint8_t last[16] = {0xd0, 0x14, 0xf9, 0xa8, 0xc9, 0xee, 0x25, 0x89,
                                     0xe1, 0x3f, 0x0c, 0xc8, 0xb6, 0x63, 0x0c, 0xa6};
    static const struct {
        uint64_t low, high;
        uint32_t words[4];
    } vectors[] = {
        {0x11e45ca3461cc830, 0xef520a1a19c1fbe5, {0x7fcdb143, 0x23ce8e59, 0xe3001b88, 0x880603ed}},
        {0x179b4fdf45249ff6, 0x10376ce67b412bad, {0x5e780c7b, 0x3fade827, 0x71202382, 0xd45d7204}},
    };
    struct qn_aes aes;
    qn_aes_init(&aes, secret);
    cr_assert_eq(memcmp(aes.round_key[10], last, 16), 0);
    for (size_t i = 0; qn_aes_set_at(i) != NULL; i++)
        for (size_t v = 0; v < 2; v++) {
            static const uint32_t offset[4] = {0, 1, 2, 3};
            uint32_t words[4];
            qn_aes_set_at(i)->words(&aes, vectors[v].high, vectors[v].low * 4, offset, 4, words);
            cr_assert_eq(memcmp(words, vectors[v].words, sizeof words), 0, "%s", qn_aes_set_at(i)->name);
        }
}

Test(aes, is_the_same_by_every_instruction_set) {
    struct qn_aes aes;
    struct qn_rng rng;
    qn_rng_init(&rng, SEED, "aes", 0);
    for (size_t n = 0; n < 80; n++) {
        uint64_t first = qn_rng_u64(&rng) >> (1 + qn_rng_below(&rng, 60)), nonce = qn_rng_u64(&rng);
        uint32_t offset[80], words[80], other[81];
        uint8_t secret[16];
        if (n % 5 == 0) first = (UINT64_C(7) << 34) + (UINT32_MAX - (UINT64_C(1) << 30) + n / 5 % 2) * 4 + n / 10 % 4;
        for (size_t i = 0; i < 16; i++) secret[i] = (uint8_t)qn_rng_u64(&rng);
        for (size_t i = 0; i < n; i++)
            offset[i] =
                i % 7 == 0 ? UINT32_MAX - (uint32_t)i % 4 : (uint32_t)(qn_rng_u64(&rng) >> qn_rng_below(&rng, 60));
        qn_aes_init(&aes, secret);
        qn_aes_set_at(0)->words(&aes, nonce, first, offset, n, words);
        for (size_t s = 1; qn_aes_set_at(s) != NULL; s++) {
            other[n] = 0xdeadbeef;
            qn_aes_set_at(s)->words(&aes, nonce, first, offset, n, other);
            cr_assert_eq(memcmp(words, other, n * sizeof *words), 0, "%s, %zu words", qn_aes_set_at(s)->name, n);
            cr_assert_eq(other[n], 0xdeadbeef);
        }
    }
}

/* ---- Choices ---- */

Test(source, rounds_to_what_32_bits_can_say) {
    struct qn_source source = {.n = 3, .mean = {0.5, 0.1, 0}, .probability = {0.7, 0.29999, 1e-9}, .test_basis = 0.1};
    cr_assert_eq(qn_source_settle(&source), 0);
    double sum = 0;
    for (unsigned k = 0; k < 3; k++) sum += source.probability[k];
    cr_assert_eq(sum, 1);
    cr_assert_eq(source.probability[2], 1.0 / 65536);
    near("probability", source.probability[1], 0.29999, 1.0 / 65536);
    near("basis", source.test_basis, 0.1, 1.0 / 32768);
    struct qn_source again = source;
    cr_assert_eq(qn_source_settle(&again), 0);
    cr_assert_eq(memcmp(&again, &source, sizeof source), 0);
}

Test(source, refuses_what_makes_no_sense) {
    const struct qn_source good = {.n = 2, .mean = {0.5, 0.1}, .probability = {0.5, 0.5}, .test_basis = 0.5};
    struct qn_source bad[9];
    for (size_t i = 0; i < 9; i++) bad[i] = good;
    bad[0].n = 0;
    bad[1].n = 9;
    bad[2].probability[0] = 0.6;
    bad[3].probability[1] = 0;
    bad[4].mean[0] = -1;
    bad[5].mean[1] = NAN;
    bad[6].test_basis = 1.1;
    bad[7].emission = QN_EMIT_SINGLE;
    bad[7].mean[0] = 2;
    bad[8].emission = QN_EMIT_HERALDED; /* Without a herald. */
    for (size_t i = 0; i < 9; i++) {
        struct qn_source before = bad[i];
        cr_assert_eq(qn_source_settle(&bad[i]), -QN_EINVAL, "%zu", i);
        cr_assert_eq(memcmp(&before, &bad[i], sizeof before), 0);
    }
}

Test(source, planes_are_the_choices) {
    enum { N = 1100 };
    struct qn_stream stream;
    qn_stream_init(&stream, key);
    struct qn_rng rng;
    qn_rng_init(&rng, SEED, "planes", 0);
    uint32_t offset[N];
    for (size_t i = 0; i < N; i++) offset[i] = (uint32_t)qn_rng_u64(&rng); /* In any order. */
    for (unsigned n = 1; n <= QN_INTENSITIES_MAX; n++) {
        struct qn_source source = source_of(n);
        size_t len = n == 1 ? 0 : n == 2 ? 64 : n == 3 ? N : 1 + qn_rng_below(&rng, N);
        uint64_t first = UINT64_C(1) << 40, plane[5][N / 64 + 2];
        memset(plane, 0xa5, sizeof plane);
        const struct qn_choice_planes planes = {plane[0], plane[1], {plane[2], plane[3], plane[4]}};
        qn_choices_at(&stream, &source, first, offset, len, &planes);
        for (size_t i = 0; i < len; i++) {
            struct qn_choice choice = qn_choice_at(&stream, &source, first + offset[i]);
            unsigned intensity = 0;
            for (unsigned b = 0; b < 3 && n > 1u << b; b++) intensity |= (plane[2 + b][i / 64] >> (i % 64) & 1) << b;
            cr_assert_eq(plane[0][i / 64] >> (i % 64) & 1, choice.bit);
            cr_assert_eq(plane[1][i / 64] >> (i % 64) & 1, choice.basis);
            cr_assert_eq(intensity, choice.intensity);
            cr_assert_lt(choice.intensity, n);
        }
        size_t words = (len + 63) / 64;
        for (unsigned p = 0; p < 2; p++) {
            if (len % 64 != 0) cr_assert_eq(plane[p][words - 1] >> (len % 64), 0u);
            cr_assert_eq(plane[p][words], 0xa5a5a5a5a5a5a5a5u);
        }
    }
}

Test(source, chooses_as_often_as_it_says) {
    enum { N = 200000 };
    struct qn_source source = {.n = 3, .mean = {0.5, 0.1, 0}, .probability = {0.7, 0.25, 0.05}, .test_basis = 0.1};
    cr_assert_eq(qn_source_settle(&source), 0);
    struct qn_stream stream;
    qn_stream_init(&stream, key);
    double count[3][2][2] = {{{0}}};
    static uint32_t offset[N];
    static uint64_t plane[4][N / 64];
    for (uint32_t i = 0; i < N; i++) offset[i] = i;
    const struct qn_choice_planes planes = {plane[0], plane[1], {plane[2], plane[3], NULL}};
    qn_choices_at(&stream, &source, 0, offset, N, &planes);
    for (size_t i = 0; i < N; i++) {
        unsigned bit[4];
        for (unsigned p = 0; p < 4; p++) bit[p] = plane[p][i / 64] >> (i % 64) & 1;
        count[bit[2] | bit[3] << 1][bit[1]][bit[0]]++;
    }
    for (unsigned i = 0; i < 12; i++) {
        double basis = i >> 1 & 1 ? source.test_basis : 1 - source.test_basis;
        within("choice", count[i >> 2][i >> 1 & 1][i & 1], N, source.probability[i >> 2] * basis / 2);
    }
}

/* The bytes both ends agree on, in case they run different releases. */
Test(source, stream_is_a_format) {
    struct qn_source source = source_of(4);
    struct qn_stream stream;
    qn_stream_init(&stream, key);
    uint64_t sum = 0;
    for (uint64_t i = 0; i < 64; i++) {
        struct qn_choice choice = qn_choice_at(&stream, &source, i * i * i * 1000003);
        sum = sum * 31 + choice.intensity * 4u + choice.basis * 2u + choice.bit;
    }
    cr_assert_eq(sum, UINT64_C(0x51008e0caa334493), "%#lx", sum);
}

/* Photon numbers and their generating function are of one distribution. */
Test(source, photon_numbers_add_up) {
    struct qn_source sources[] = {
        {.emission = QN_EMIT_COHERENT, .n = 1, .mean = {0.6}, .probability = {1}},
        {.emission = QN_EMIT_SINGLE, .n = 1, .mean = {0.7}, .probability = {1}},
        {.emission = QN_EMIT_HERALDED,
         .n = 1,
         .mean = {0.4},
         .probability = {1},
         .herald_efficiency = 0.3,
         .herald_dark = 0.01},
    };
    for (size_t i = 0; i < 3; i++) {
        cr_assert_eq(qn_source_settle(&sources[i]), 0);
        for (double z = 0; z <= 1; z += 0.25) {
            double sum = 0;
            for (unsigned n = 0; n < 80; n++) sum += qn_source_photons(&sources[i], 0, n) * pow(z, n);
            near("generating function", qn_source_generating(&sources[i], 0, z), sum, 1e-12);
        }
    }
    near("multi", qn_source_multi(&sources[0], 0), 1 - exp(-0.6) * 1.6, 1e-14);
    cr_assert_eq(qn_source_multi(&sources[1], 0), 0);
    sources[0].mean[0] = 1e-8;
    near("multi", qn_source_multi(&sources[0], 0) / 0.5e-16, 1, 1e-7);
    struct qn_source pairs = {
        .emission = QN_EMIT_HERALDED, .n = 1, .mean = {0.05}, .probability = {1}, .herald_efficiency = 0.5};
    near("multi", qn_source_multi(&pairs, 0), 0.07029478458049887, 1e-14); /* Sixty times a laser's of that mean. */
    pairs.mean[0] = 0.100001;
    double above = qn_source_multi(&pairs, 0);
    pairs.mean[0] = 0.099999; /* Either way of adding up. */
    near("multi", qn_source_multi(&pairs, 0) / above, 1, 5e-5);
    /* A good herald leaves no vacuum; a faint pump leaves no pairs. */
    struct qn_source ideal = {
        .emission = QN_EMIT_HERALDED, .n = 1, .mean = {1e-4}, .probability = {1}, .herald_efficiency = 1};
    near("vacuum", qn_source_photons(&ideal, 0, 0), 0, 1e-12);
    near("single", qn_source_photons(&ideal, 0, 1), 1, 1.1e-4);
}
