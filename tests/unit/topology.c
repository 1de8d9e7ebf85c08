/* SPDX-License-Identifier: Apache-2.0 */
/* Network files that are read, and rubbish that is not. */
#include "topology_support.h"

/* ---- Good files ---- */

Test(topology, fills_in_what_a_small_file_leaves_out) {
    struct qn_topology t = parse_good(PAIR "links:\n  ab: {between: [a, b], length: 20km}\n");
    cr_assert_str_eq(t.name, "t");
    cr_assert_eq(t.seed, 1u);
    cr_assert_eq(t.time_scale, 1);
    cr_assert_eq(t.n_nodes, 2u);
    cr_assert_eq(t.nodes[0].memories, 4u);
    cr_assert_eq(t.nodes[0].t1_s, 0);
    cr_assert_eq(t.nodes[0].detector_efficiency, 1);
    cr_assert_eq(t.nodes[0].clock_hz, 0);
    cr_assert(isnan(t.nodes[0].x));
    cr_assert_eq(t.nodes[0].classical.port, 0);
    const struct qn_topo_link *link = &t.links[0];
    cr_assert_eq(link->kind, QN_LINK_ENTANGLEMENT);
    cr_assert_eq(link->model, QN_MODEL_IDEAL);
    cr_assert_eq(link->placement, QN_PLACE_SENDER_RECEIVER);
    cr_assert_eq(link->via, QN_NO_NODE);
    cr_assert_eq(link->length_km, 20);
    cr_assert_eq(link->loss_db_km, 0.2);
    cr_assert_eq(link->light_speed_km_s, 2e5);
    cr_assert_eq(link->classical_delay_ns, 100000u);
    cr_assert_eq(link->attempt_s, 1e-5);
    cr_assert_eq(link->misalignment, 0);
    qn_topology_release(&t);
}

Test(topology, takes_everything_from_the_file) {
    struct qn_topology t = parse_good(
        "\xEF\xBB\xBF# yaml-language-server: $schema=x\nversion: 1\nnetwork: demo\nseed: "
        "18446744073709551615\ntime_scale: 0.5\n"
        "links:\n"
        "  qkd: {between: [bob, laser], length: 10 km, misalignment: 1%, classical_delay: 0}\n"
        "  ab:\n    between: [alice, r1]\n    via: charlie\n    model: double-click\n    length: 500m\n    loss: "
        "3e-1dB/km\n"
        "    insertion_loss: 1.5dB\n    light_speed: 2.5e5km/s\n    classical_delay: 1.5us\n    fidelity: 0.9\n"
        "    probability: 0.5\n    attempt_time: 2us\n    visibility: 95%\n    alpha: 0.2\n    emission_efficiency: "
        "0.3\n"
        "  far: {between: [r1, alice], via: spdc, model: \"single-click\"}\n"
        "  line: {between: [bob, alice], kind: classical}\n"
        "nodes:\n"
        "  alice: {role: memory, profile: nv, memories: 7, t1: 10s, t2: 20s, gate_error: 0.001, gate2_error: 2%,\n"
        "          readout_error: 0.01, gate_time: 3us, readout_time: 4us, bsm: linear-optics, bsm_efficiency: 0.9,\n"
        "          cutoff: 20ms, efficiency: 0.7, dark_rate: 1kHz, gate_window: 2ns, source: single-photon, clock: "
        "1GHz,\n"
        "          x: -1.5, y: 2e3}\n"
        "  r1: {role: repeater}\n"
        "  charlie: {role: detector, classical: 127.0.0.1:7101, quantum: \"[::1]:7102\", operations: "
        "lab-1.example.org:7103,\n"
        "            key: 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f}\n"
        "  bob: {role: detector, key: ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v8=}\n"
        "  laser: {role: source, clock: 2.5MHz, mean_photons: 0.3}\n"
        "  spdc: {role: source, source: pairs}\n"
        "defaults:\n");
    cr_assert_eq(t.seed, UINT64_MAX);
    cr_assert_eq(t.time_scale, 0.5);
    const struct qn_topo_node alice = {.name = "alice",
                                       .role = QN_ROLE_MEMORY,
                                       .memories = 7,
                                       .t1_s = 10,
                                       .t2_s = 20,
                                       .gate1_error = 0.001,
                                       .gate2_error = 0.02,
                                       .readout_error = 0.01,
                                       .gate_s = 3e-6,
                                       .readout_s = 4e-6,
                                       .bsm = QN_BSM_LINEAR_OPTICS,
                                       .bsm_efficiency = 0.9,
                                       .detector_efficiency = 0.7,
                                       .dark_rate_hz = 1000,
                                       .gate_window_s = 2e-9,
                                       .pixels = 1,
                                       .source = QN_SOURCE_SINGLE_PHOTON,
                                       .clock_hz = 1e9,
                                       .cutoff_ns = 20000000,
                                       .x = -1.5,
                                       .y = 2000};
    cr_assert(same_node(&t.nodes[0], &alice));
    cr_assert_eq(t.nodes[1].memories, 8u);
    const struct qn_topo_node *charlie = &t.nodes[2], *bob = &t.nodes[3];
    cr_assert(same_address(&charlie->classical, &(struct qn_address){"127.0.0.1", 7101}));
    cr_assert(same_address(&charlie->quantum, &(struct qn_address){"::1", 7102}));
    cr_assert(same_address(&charlie->operations, &(struct qn_address){"lab-1.example.org", 7103}));
    cr_assert(charlie->has_key && charlie->public_key[31] == 0x1f);
    cr_assert(bob->has_key && bob->public_key[1] == 0x11 && bob->public_key[31] == 0xff);
    cr_assert_eq(t.nodes[4].clock_hz, 2.5e6);
    cr_assert_eq(t.nodes[5].mean_photons, 0.05);

    const struct qn_topo_link *qkd = &t.links[0];
    cr_assert_eq(qkd->kind, QN_LINK_BB84);
    cr_assert(qkd->a == 4 && qkd->b == 3, "the source comes first");
    cr_assert(qkd->length_km == 10 && qkd->misalignment == 0.01 && qkd->classical_delay_ns == 0);
    const struct qn_topo_link ab = {.name = "ab",
                                    .kind = QN_LINK_ENTANGLEMENT,
                                    .a = 0,
                                    .b = 1,
                                    .via = 2,
                                    .model = QN_MODEL_DOUBLE_CLICK,
                                    .placement = QN_PLACE_MIDPOINT,
                                    .length_km = 0.5,
                                    .loss_db_km = 0.3,
                                    .insertion_loss_db = 1.5,
                                    .light_speed_km_s = 2.5e5,
                                    .classical_delay_ns = 1500,
                                    .fidelity = 0.9,
                                    .probability = 0.5,
                                    .attempt_s = 2e-6,
                                    .visibility = 0.95,
                                    .alpha = 0.2,
                                    .emission_efficiency = 0.3,
                                    .eps_sec = 1e-9,
                                    .eps_cor = 1e-15};
    cr_assert(same_link(&t.links[1], &ab));
    cr_assert(t.links[2].placement == QN_PLACE_SOURCE && t.links[2].model == QN_MODEL_SINGLE_CLICK);
    expect_round_trip(&t);
    qn_topology_release(&t);
}

Test(topology, warns_of_parts_and_still_succeeds) {
    const char *text =
        PAIR "  c: {role: memory, clock: 1MHz, mean_photons: 0.1, source: single-photon}\n"
             "  d: {role: detector, t1: 1s}\n  e: {role: memory}\n"
             "links:\n  ab: {between: [a, b], misalignment: 0.1}\n  de: {between: [d, e], kind: classical}\n";
    struct qn_topology t;
    struct qn_buf diagnostics = {0};
    cr_assert_eq(qn_topology_parse("f", text, strlen(text), &t, &diagnostics), 0);
    cr_assert_str_eq(text_of(&diagnostics),
                     "f:6:3: warning: node \"c\" has no link to the rest of the network\n"
                     "f:6:34: warning: mean_photons has no effect: node \"c\" has nothing it applies to\n"
                     "f:7:3: warning: node \"d\" and 1 more have no link to the rest of the network\n"
                     "f:7:23: warning: t1 has no effect: node \"d\" has nothing it applies to\n"
                     "f:10:25: warning: misalignment has no effect: link \"ab\" has nothing it applies to\n");
    cr_assert_eq(t.nodes[2].mean_photons, 0);
    cr_assert_eq(t.nodes[3].t1_s, 0);
    cr_assert_eq(t.links[0].misalignment, 0);
    expect_round_trip(&t);
    qn_topology_release(&t);
    qn_buf_release(&diagnostics);
}

Test(topology, applies_defaults_where_the_hardware_is) {
    struct qn_topology t = parse_good(
        HEAD "  a: {role: memory}\n  b: {role: memory, t1: 3s}\n  c: {role: memory, profile: ideal, memories: 0}\n"
             "  s: {role: source}\n  d: {role: detector, efficiency: 0.5}\n"
             "links:\n  ab: {between: [a, b]}\n  bc: {between: [b, c], kind: classical}\n"
             "  sd: {between: [s, d], loss: 0.5dB/km}\n  cd: {between: [c, d], kind: classical}\n"
             "defaults:\n  node: {profile: nv, memories: 6, t1: 1s, t2: 1s, efficiency: 0.9, clock: 7MHz}\n"
             "  link: {length: 3km, loss: 0.1dB/km, visibility: 0.8}\n");
    cr_assert(t.nodes[0].memories == 6 && t.nodes[0].t1_s == 1 && t.nodes[0].gate2_error == 0.02);
    cr_assert(t.nodes[0].detector_efficiency == 0.9 && t.nodes[0].dark_rate_hz == 10 && t.nodes[0].clock_hz == 0);
    cr_assert(t.nodes[1].t1_s == 3 && t.nodes[1].t2_s == 1);
    cr_assert(t.nodes[2].memories == 0 && t.nodes[2].t1_s == 0 && t.nodes[2].dark_rate_hz == 0);
    cr_assert(t.nodes[3].memories == 0 && t.nodes[3].clock_hz == 7e6 && t.nodes[3].detector_efficiency == 0);
    cr_assert(t.nodes[4].detector_efficiency == 0.5 && t.nodes[4].clock_hz == 0);
    cr_assert(t.links[0].length_km == 3 && t.links[0].loss_db_km == 0.1 && t.links[0].visibility == 0.8);
    cr_assert(t.links[1].length_km == 3 && t.links[1].loss_db_km == 0 && t.links[1].classical_delay_ns == 15000);
    cr_assert(t.links[2].loss_db_km == 0.5 && t.links[2].visibility == 0);
    expect_round_trip(&t);
    qn_topology_release(&t);
}

/* Relaxation alone gives T2 = 2 T1: a T2 nobody asked for gives way, one that was asked for is an error (see below). */
Test(topology, lowers_the_profiles_t2_to_twice_t1) {
    struct qn_topology t = parse_good(HEAD "  a: {role: memory, t1: 10s}\n");
    cr_assert_eq(t.nodes[0].t2_s, 20);
    qn_topology_release(&t);
    t = parse_good(HEAD "  a: {role: memory, profile: nv, t1: 100ms}\n");
    cr_assert_eq(t.nodes[0].t2_s, 0.2);
    qn_topology_release(&t);
    t = parse_good(HEAD "  a: {role: memory, profile: nv}\n");
    cr_assert_eq(t.nodes[0].t2_s, 1.58);
    qn_topology_release(&t);
}

Test(topology, knows_neighbours_and_names) {
    char *text = file_read("demo.yaml");
    struct qn_topology t = parse_good(text);
    uint16_t alice = (uint16_t)qn_topology_find_node(&t, "alice"), r1 = (uint16_t)qn_topology_find_node(&t, "r1");
    uint16_t charlie = (uint16_t)qn_topology_find_node(&t, "charlie"), bob = (uint16_t)qn_topology_find_node(&t, "bob");
    cr_assert(qn_topology_is_neighbour(&t, alice, r1) && qn_topology_is_neighbour(&t, r1, alice));
    cr_assert(qn_topology_is_neighbour(&t, alice, charlie) && qn_topology_is_neighbour(&t, charlie, r1));
    cr_assert(!qn_topology_is_neighbour(&t, alice, bob) && !qn_topology_is_neighbour(&t, alice, alice));
    cr_assert_eq(qn_topology_find_node(&t, "eve"), -QN_EUNKNOWN_NODE);
    cr_assert_eq(qn_topology_find_link(&t, "r2-bob"), 2);
    cr_assert_eq(qn_topology_find_link(&t, "bob"), -QN_EUNKNOWN_LINK);
    cr_assert_str_eq(qn_topology_suggest_node(&t, "recevier"), "receiver");
    cr_assert_str_eq(qn_topology_suggest_node(&t, "Alice"), "alice");
    cr_assert_str_eq(qn_topology_suggest_node(&t, "bo"), "bob");
    cr_assert_null(qn_topology_suggest_node(&t, "zzzzzz"));
    cr_assert_null(qn_topology_suggest_node(&t, ""));
    cr_assert_str_eq(qn_topology_suggest_link(&t, "r1_r2"), "r1-r2");
    cr_assert_str_eq(qn_role_name(QN_ROLE_MEMORY), "memory");
    cr_assert_str_eq(qn_link_kind_name(QN_LINK_BB84), "bb84");
    qn_topology_release(&t);
    free(text);
}

Test(topology, reads_the_sample_networks) {
    for (size_t i = 0; i < N_SAMPLES; i++) {
        char *text = file_read(samples[i]);
        struct qn_topology t = parse_good(text);
        expect_round_trip(&t);
        qn_topology_release(&t);
        free(text);
    }
}

Test(topology, digests_the_physics_and_not_the_addresses) {
    struct qn_topology t[4] = {
        parse_good(PAIR "links: {ab: {between: [a, b]}}\n"),
        parse_good("network: t\nversion: 1\nnodes:\n  a: {role: memory, classical: \"h:1\", t1: 0s,\n   key: "
                   "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f}\n  b: {role: memory}\n"
                   "links: {ab: {between: [a, b], kind: entanglement, length: 0m}}\n"),
        parse_good(PAIR "links: {ab: {between: [a, b], length: 1m}}\n"),
        parse_good(PAIR "links: {ab: {between: [b, a]}}\n"),
    };
    cr_assert_eq(memcmp(t[0].digest, t[1].digest, 32), 0);
    cr_assert_neq(memcmp(t[0].digest, t[2].digest, 32), 0);
    cr_assert_neq(memcmp(t[0].digest, t[3].digest, 32), 0);
    for (int i = 0; i < 4; i++) qn_topology_release(&t[i]);
}

/* ---- Rubbish ---- */

static void parse_any(const char *text, size_t len, int *ret_good) {
    struct qn_topology t;
    struct qn_buf diagnostics = {0};
    int rc = qn_topology_parse("f", text, len, &t, &diagnostics);
    if (rc == 0) {
        expect_round_trip(&t);
        qn_topology_release(&t);
        ++*ret_good;
    } else {
        cr_assert_eq(rc, -QN_EPARSE);
        cr_assert(strstr(text_of(&diagnostics), ": error: ") != NULL, "an error without a word: %.*s", (int)len, text);
    }
    for (size_t i = 0; i < diagnostics.len; i++)
        cr_assert(diagnostics.data[i] >= 0x20 || diagnostics.data[i] == '\n', "control character in a message");
    qn_buf_release(&diagnostics);
}

/* Changes a few bytes, repeats or removes a piece, or puts in something YAML or a number could trip over. */
static size_t mutate(struct qn_rng *rng, char *text, size_t len, size_t cap) {
    static const char *const pieces[] = {
        "[", "{", "}", "]", ": ",   ", ", "\n", "  ", "- ",    "&a ", "*a", "!!int ",   "---\n", "\"", "'",
        "|", ">", "#", "%", "<<: ", "0",  "-",  "e9", "1e308", "NaN", "km", "\xC3\xA9", "\xFF",  "\t", "? "};
    for (uint64_t n = 1 + qn_rng_below(rng, 4); n > 0 && len > 2; n--) {
        size_t at = (size_t)qn_rng_below(rng, len), size = (size_t)qn_rng_below(rng, 12);
        if (size > len - at) size = len - at;
        switch (qn_rng_below(rng, 4)) {
        case 0:
            text[at] = (char)qn_rng_below(rng, 256);
            break;
        case 1:
            memmove(text + at, text + at + size, len - at - size);
            len -= size;
            break;
        case 2:
            if (len + size > cap) break;
            memmove(text + at + size, text + at, len - at);
            len += size;
            break;
        default: {
            const char *piece = pieces[qn_rng_below(rng, sizeof(pieces) / sizeof(pieces[0]))];
            size = strlen(piece);
            if (len + size > cap) break;
            memmove(text + at + size, text + at, len - at);
            memcpy(text + at, piece, size);
            len += size;
        }
        }
    }
    return len;
}

Test(topology, survives_rubbish) {
    const uint64_t seed = 11;
    struct qn_rng rng;
    int good = 0;
    qn_rng_init(&rng, seed, "topology", 1);
    for (size_t sample = 0; sample < N_SAMPLES; sample++) {
        char *text = file_read(samples[sample]), *mutant = malloc(1 << 16);
        size_t len = strlen(text);
        for (int round = 0; round < 2500; round++) {
            memcpy(mutant, text, len);
            size_t n = mutate(&rng, mutant, len, 1 << 16);
            char *exact = malloc(n + 1); /* So that reading too far is seen by the sanitizers. */
            memcpy(exact, mutant, n);
            parse_any(exact, n, &good);
            free(exact);
        }
        free(text);
        free(mutant);
    }
    cr_assert_gt(good, 100, "seed %ju: only %d mutants were still good", (uintmax_t)seed, good);
    for (int round = 0; round < 2000; round++) {
        char noise[200];
        size_t len = (size_t)qn_rng_below(&rng, sizeof(noise));
        for (size_t i = 0; i < len; i++) noise[i] = (char)qn_rng_below(&rng, 256);
        parse_any(noise, len, &good);
    }
}
