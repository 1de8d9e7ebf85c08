/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/rng.h"
#include "topology/topology.h"

#define HEAD "version: 1\nnetwork: t\nnodes:\n"
#define PAIR HEAD "  a: {role: memory}\n  b: {role: memory}\n"
#define LAB                                                                                                            \
    PAIR "  s: {role: source}\n  d: {role: detector}\n  p: {role: source, source: pairs}\nlinks:\n"                    \
         "  w: {between: [a, s], kind: classical}\n  v: {between: [a, d], kind: classical}\n"                          \
         "  u: {between: [a, p], kind: classical}\n  ab: {between: [a, b]}\n"

/* ---- Helpers ---- */

static const char *text_of(struct qn_buf *buf) {
    cr_assert_eq(qn_buf_append(buf, "", 1), 0);
    buf->len--;
    return (const char *)buf->data;
}

static struct qn_topology parse_good(const char *text) {
    struct qn_topology topology;
    struct qn_buf diagnostics = {0};
    int rc = qn_topology_parse("net.yaml", text, strlen(text), &topology, &diagnostics);
    cr_assert_eq(rc, 0, "%s\n%s", text_of(&diagnostics), text);
    cr_assert_eq(diagnostics.len, 0, "%s", text_of(&diagnostics));
    qn_buf_release(&diagnostics);
    return topology;
}

static char *file_read(const char *name) {
    char path[512];
    snprintf(path, sizeof(path), QN_TEST_DATA "/../../../deploy/networks/%s", name);
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file, "%s", path);
    char *text = calloc(1, 1 << 16);
    cr_assert_gt(fread(text, 1, (1 << 16) - 1, file), 0u);
    fclose(file);
    return text;
}

static bool same_number(double a, double b) { return memcmp(&a, &b, sizeof(a)) == 0 || (isnan(a) && isnan(b)); }

static bool same_address(const struct qn_address *a, const struct qn_address *b) {
    return a->port == b->port && strcmp(a->host, b->host) == 0;
}

#define SAME(member) (a->member == b->member)
#define SAME_NUMBER(member) same_number(a->member, b->member)

static bool same_node(const struct qn_topo_node *a, const struct qn_topo_node *b) {
    return strcmp(a->name, b->name) == 0 && SAME(role) && same_address(&a->classical, &b->classical) &&
           same_address(&a->quantum, &b->quantum) && same_address(&a->operations, &b->operations) && SAME(has_key) &&
           memcmp(a->public_key, b->public_key, 32) == 0 && SAME(memories) && SAME_NUMBER(t1_s) && SAME_NUMBER(t2_s) &&
           SAME_NUMBER(gate1_error) && SAME_NUMBER(gate2_error) && SAME_NUMBER(readout_error) && SAME_NUMBER(gate_s) &&
           SAME_NUMBER(readout_s) && SAME(bsm) && SAME_NUMBER(bsm_efficiency) && SAME_NUMBER(detector_efficiency) &&
           SAME_NUMBER(dark_rate_hz) && SAME_NUMBER(gate_window_s) && SAME(source) && SAME_NUMBER(clock_hz) &&
           SAME_NUMBER(mismatch) && SAME_NUMBER(dead_s) && SAME(dead_scope) && SAME_NUMBER(afterpulse) &&
           SAME_NUMBER(jitter_s) && SAME(pixels) && SAME_NUMBER(herald_efficiency) && SAME_NUMBER(mean_photons) &&
           SAME(cutoff_ns) && SAME_NUMBER(x) && SAME_NUMBER(y);
}

static bool same_list(const struct qn_topo_list *a, const struct qn_topo_list *b) {
    return SAME(n) && memcmp(a->value, b->value, a->n * sizeof *a->value) == 0;
}

static bool same_link(const struct qn_topo_link *a, const struct qn_topo_link *b) {
    return strcmp(a->name, b->name) == 0 && SAME(kind) && SAME(a) && SAME(b) && SAME(via) && SAME(model) &&
           SAME(placement) && SAME_NUMBER(length_km) && SAME_NUMBER(loss_db_km) && SAME_NUMBER(insertion_loss_db) &&
           SAME_NUMBER(light_speed_km_s) && SAME(classical_delay_ns) && SAME_NUMBER(fidelity) &&
           SAME_NUMBER(probability) && SAME_NUMBER(attempt_s) && SAME_NUMBER(visibility) && SAME_NUMBER(alpha) &&
           SAME_NUMBER(emission_efficiency) && SAME_NUMBER(misalignment) && SAME_NUMBER(aperture_km) &&
           SAME_NUMBER(beam_waist_km) && SAME_NUMBER(divergence_rad) && SAME(protocol) &&
           same_list(&a->intensities, &b->intensities) && same_list(&a->probabilities, &b->probabilities) &&
           SAME_NUMBER(key_basis) && SAME_NUMBER(block_size) && SAME_NUMBER(eps_sec) && SAME_NUMBER(eps_cor);
}

static bool same_topology(const struct qn_topology *a, const struct qn_topology *b) {
    if (strcmp(a->name, b->name) != 0 || !SAME(seed) || !SAME_NUMBER(time_scale) || !SAME(n_nodes) || !SAME(n_links))
        return false;
    for (size_t i = 0; i < a->n_nodes; i++)
        if (!same_node(&a->nodes[i], &b->nodes[i])) return false;
    for (size_t i = 0; i < a->n_links; i++)
        if (!same_link(&a->links[i], &b->links[i])) return false;
    return true;
}

/* emit(parse(x)) reads as the same network, quietly, and is written the same way again. */
static void expect_round_trip(const struct qn_topology *topology) {
    struct qn_buf yaml = {0}, again = {0}, diagnostics = {0};
    struct qn_topology copy;
    cr_assert_eq(qn_topology_emit_yaml(topology, &yaml), 0);
    int rc = qn_topology_parse("canonical", (const char *)yaml.data, yaml.len, &copy, &diagnostics);
    cr_assert_eq(rc, 0, "%s\n%s", text_of(&diagnostics), text_of(&yaml));
    cr_assert_null(strstr(text_of(&diagnostics), "no effect"), "%s\n%s", text_of(&diagnostics), text_of(&yaml));
    cr_assert(same_topology(topology, &copy), "%s", text_of(&yaml));
    cr_assert_eq(memcmp(topology->digest, copy.digest, 32), 0);
    cr_assert_eq(qn_topology_emit_yaml(&copy, &again), 0);
    cr_assert_str_eq(text_of(&yaml), text_of(&again));
    qn_topology_release(&copy);
    qn_buf_release(&yaml);
    qn_buf_release(&again);
    qn_buf_release(&diagnostics);
}

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

static const char *const samples[] = {"bb84-pair.yaml", "two-repeater-chain.yaml", "triangle.yaml", "demo.yaml"};
#define N_SAMPLES (sizeof(samples) / sizeof(samples[0]))

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

/* ---- Bad files: one error each, at the place marked ^ (which is taken out before reading) ---- */

static const struct {
    const char *text, *message;
} bad[] = {
    /* YAML itself */
    {"^", "the file is empty"},
    {"^# only a comment\n", "the file is empty"},
    {"^hello", "the file is a text; valid: a mapping"},
    {"^[1, 2]", "the file is a list; valid: a mapping"},
    {HEAD "  a: {role: memory\n^",
     "not valid YAML: did not find expected ',' or '}' while parsing a flow mapping that starts at line 4"},
    {HEAD "  a: {role: memory}\n ^b: {role: memory}\n", "not valid YAML"},
    {HEAD "  a: {role: \"mem^\xFFory\"}\n", "valid: UTF-8 text"},
    {HEAD "^\ta: {role: memory}\n", "not valid YAML: found character that cannot start any token"},
    {HEAD "  a: ^&m {role: memory}\n", "anchor \"m\": anchors and aliases are not supported"},
    {HEAD "  a: {role: memory}\n  b: ^*a\n", "alias \"a\": anchors and aliases are not supported"},
    {HEAD "  a: {role: ^!!str memory}\n", "tag \"tag:yaml.org,2002:str\": tags are not supported"},
    {HEAD "  a: {role: memory}\n^---\nversion: 1\n", "second document: a file describes one network"},
    {HEAD "  a: [[[[[[^[1]]]]]]]\n", "nested too deeply: at most 8 levels"},
    {HEAD "  a: {role: ^\"mem\\nory\"}\n", "text with a line break or control character"},
    {HEAD "  a: {role: ^\"mem\\0ory\"}\n", "text with a line break or control character"},

    /* The top */
    {"^network: t\nnodes: {a: {role: memory}}\n", "the file has no key \"version\""},
    {"^version: 1\nnodes: {a: {role: memory}}\n", "the file has no key \"network\"; valid: Name of the network."},
    {"^version: 1\nnetwork: t\n", "the file has no key \"nodes\""},
    {"version: ^2\nwhatever: 3\n", "version \"2\" is not known; valid: 1"},
    {"version: ^1.0\nnodes: 7\n", "version \"1.0\" is not known; valid: 1"},
    {"version: 1\nnetwork: ^My_Net\nnodes: {a: {role: memory}}\n",
     "network name \"My_Net\" is not valid; valid: a-z, 0-9"},
    {"version: 1\nnetwork: t\n^nodes:\nlinks:\n", "no nodes; valid: at least one"},
    {"^nods: {}\n" PAIR, "unknown key \"nods\" in the file: did you mean \"nodes\"? valid: version, network, seed"},
    {PAIR "seed: 1\n^seed: 2\n", "duplicate key \"seed\" in the file: first given at line 6"},
    {PAIR "seed: ^-1\n", "seed \"-1\" is not a whole number from 0 to 18446744073709551615"},
    {PAIR "seed: ^18446744073709551616\n", "is not a whole number"},
    {PAIR "seed: ^007\n", "is not a whole number"},
    {PAIR "seed: ^[1]\n", "seed is a list; valid: one value"},
    {PAIR "time_scale: ^0\n", "time_scale \"0\" is out of range; valid: 1e-6 to 1000000"},
    {PAIR "time_scale: ^1s\n", "time_scale \"1s\" has an unknown unit; valid: a number without unit"},
    {PAIR "time_scale: ^.inf\n", "time_scale \".inf\" is not a number"},
    {PAIR "links: ^[a, b]\n", "links is a list; valid: a mapping"},
    {PAIR "defaults: {^nodes: {}}\n", "unknown key \"nodes\" in defaults: did you mean \"node\"? valid: node, link"},
    {PAIR "defaults: {node: {^key: x}}\n", "key \"key\" has no place in defaults of node: give it to each node"},
    {PAIR "defaults: {node: {t1: ^5}}\n", "t1 \"5\" has no unit; valid: a time in s, ms, us or ns"},
    {PAIR "defaults: {link: {^lenght: 5km}}\n", "unknown key \"lenght\" in defaults of link: did you mean \"length\"?"},

    /* Nodes */
    {HEAD "  ^alice:\n", "node \"alice\" has no key \"role\"; valid: source, repeater, detector, memory"},
    {HEAD "  alice: ^memory\n", "node \"alice\" is a text; valid: a mapping"},
    {HEAD "  bob: {role: ^detecter}\n",
     "unknown role \"detecter\": did you mean \"detector\"? valid: source, repeater, detector, memory"},
    {HEAD "  bob: {role: ^}\n", "key \"role\" has no value"},
    {HEAD "  ^Bob: {role: memory}\n",
     "node name \"Bob\" is not valid; valid: a-z, 0-9 and - (not at either end), at most 63"},
    {HEAD "  ^bob-: {role: memory}\n", "node name \"bob-\" is not valid"},
    {HEAD "  ^x123456789012345678901234567890123456789012345678901234567890123: {role: memory}\n", "is not valid"},
    {HEAD "  bob: {role: memory}\n  ^bob: {role: memory}\n", "duplicate node \"bob\": first given at line 4"},
    {HEAD "  bob: {role: memory, ^role: memory}\n", "duplicate key \"role\" in node \"bob\": first given at line 4"},
    {HEAD "  bob: {role: memory, ^memorys: 4}\n",
     "unknown key \"memorys\" in node \"bob\": did you mean \"memories\"?"},
    {HEAD "  bob: {role: memory, ^zzzzzz: 4}\n", "unknown key \"zzzzzz\" in node \"bob\"; valid: role, profile"},
    {HEAD "  bob: {role: memory, ^[a]: 4}\n", "a key of node \"bob\" is a collection"},
    {HEAD "  bob: {role: memory, profile: ^vn}\n", "unknown profile \"vn\": did you mean \"nv\"? valid: ideal, nv"},
    {HEAD "  bob: {role: memory, memories: ^4.5}\n", "memories \"4.5\" is not a whole number from 0 to 65536"},
    {HEAD "  bob: {role: memory, memories: ^65537}\n", "memories \"65537\" is not a whole number from 0 to 65536"},
    {HEAD "  bob: {role: memory, t1: ^-1s}\n", "t1 \"-1s\" is negative"},
    {HEAD "  bob: {role: memory, t1: ^-0s}\n", "t1 \"-0s\" is a negative zero"},
    {HEAD "  bob: {role: memory, t1: ^1e30s}\n", "t1 \"1e30s\" is too large"},
    {HEAD "  bob: {role: memory, t1: ^1e-40s}\n", "t1 \"1e-40s\" is too small to tell from 0"},
    {HEAD "  bob: {role: memory, t1: ^1e99999s}\n", "is not a number"},
    {HEAD "  bob: {role: memory, t1: ^2e9s}\n", "t1 \"2e9s\" is out of range; valid: 0s to 1000000000s"},
    {HEAD "  bob: {role: memory, t1: ^NaN}\n", "t1 \"NaN\" is not a number"},
    {HEAD "  bob: {role: memory, t1: ^1 S econd}\n",
     "unknown unit \"S econd\" in t1 \"1 S econd\"; valid: s, ms, us, ns"},
    {HEAD "  bob: {role: memory, t1: ^20mS2}\n",
     "unknown unit \"mS2\" in t1 \"20mS2\": did you mean \"ms\"? valid: s, ms, us, ns"},
    {HEAD "  bob: {role: memory, t1: 1s, t2: ^2.1s}\n",
     "has t2 2.1s with t1 1s, which no memory can; valid: t2 up to 2 t1, 2s"},
    {HEAD "  bob: {role: memory, t1: 1s, t2: ^0}\n", "has t2 0 (no decay) with t1 1s"},
    {HEAD "  bob: {role: memory, t1: ^1s}\ndefaults: {node: {t2: 3s}}\n", "has t2 3s with t1 1s"},
    {HEAD "  bob: {role: memory, gate_error: ^1.5}\n",
     "gate_error \"1.5\" is too large; valid: a fraction from 0 to 1, such as 0.01 or 1%"},
    {HEAD "  bob: {role: memory, readout_error: ^101%}\n", "readout_error \"101%\" is too large"},
    {HEAD "  bob: {role: memory, cutoff: ^1.5ns}\n",
     "cutoff \"1.5ns\" is finer than the clock; valid: whole nanoseconds"},
    {HEAD "  bob: {role: memory, bsm: ^linear}\n",
     "unknown bsm \"linear\": did you mean \"linear-optics\"? valid: deterministic, linear-optics"},
    {HEAD "  bob: {role: detector, efficiency: ^0}\n", "efficiency \"0\" is out of range; valid: 1e-6 to 1"},
    {HEAD "  bob: {role: detector, dark_rate: ^10}\n",
     "dark_rate \"10\" has no unit; valid: a frequency in Hz, kHz, MHz or GHz"},
    {HEAD "  bob: {role: source, clock: ^0}\n", "clock \"0\" is out of range; valid: 0.001Hz to 1000GHz"},
    {HEAD "  bob: {role: source, clock: ^5Mhzz}\n", "did you mean \"MHz\"? valid: GHz, MHz, kHz, Hz"},
    {HEAD "  bob: {role: source, source: ^pair}\n", "unknown source \"pair\": did you mean \"pairs\"?"},
    {HEAD "  bob: {role: source, ^x: 1}\n", "node \"bob\" has x without y"},
    {HEAD "  bob: {role: source, classical: ^localhost}\n",
     "classical address \"localhost\" is not valid; valid: \"host:port\""},
    {HEAD "  bob: {role: source, classical: ^localhost:0}\n", "is not valid"},
    {HEAD "  bob: {role: source, classical: ^localhost:65536}\n", "is not valid"},
    {HEAD "  bob: {role: source, classical: ^256.0.0.1:80}\n", "is not valid"},
    {HEAD "  bob: {role: source, classical: ^\"[::g]:80\"}\n", "is not valid"},
    {HEAD "  bob: {role: source, classical: ^\"::1:80\"}\n", "is not valid"},
    {HEAD "  bob: {role: source, classical: \"H:1\", quantum: ^\"h:1\"}\n",
     "quantum of node \"bob\" is already taken by classical of node \"bob\" at line 4; valid: another port or host"},
    {HEAD "  a: {role: memory, operations: \"h:1\"}\n  b: {role: memory, quantum: ^\"h:1\"}\n",
     "quantum of node \"b\" is already taken by operations of node \"a\" at line 4"},
    {HEAD "  bob: {role: source, key: ^abcd}\n",
     "key is not 32 bytes; valid: 44 characters of base64 or 64 hexadecimal"},
    {HEAD "  bob: {role: source, key: ^AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=}\n", "key is all zeros"},
    {HEAD "  a: {role: source, key: ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v8=}\n"
          "  b: {role: source, key: ^00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff}\n",
     "key of node \"b\" is already taken by key of node \"a\" at line 4; valid: a key of its own for each node"},

    /* Links */
    {PAIR "links:\n  ^ab: {length: 1km}\n", "link \"ab\" has no key \"between\""},
    {PAIR "links:\n  ab: {between: ^[a]}\n", "link \"ab\" needs two ends; valid: between: [node, node]"},
    {PAIR "links:\n  ab: {between: ^a}\n", "link \"ab\" needs two ends"},
    {PAIR "links:\n  ab: {between: [a, ^[b]]}\n", "an end of link \"ab\" is a collection"},
    {PAIR "links:\n  ab: {between: [a, ^c]}\n", "unknown node \"c\"; valid: a, b"},
    {PAIR "links:\n  ab: {between: [a, ^a]}\n", "link \"ab\" ends where it starts, at \"a\""},
    {PAIR "links:\n  ab: {between: [a, b]}\n  ^ab: {between: [a, b]}\n",
     "duplicate link \"ab\": first given at line 7"},
    {PAIR "links:\n  ^a_b: {between: [a, b]}\n", "link name \"a_b\" is not valid"},
    {PAIR "links:\n  ab: {between: [a, b], length: ^20}\n",
     "length \"20\" has no unit; valid: a length in km or m, such as 20km"},
    {PAIR "links:\n  ab: {between: [a, b], length: ^20kn}\n",
     "unknown unit \"kn\" in length \"20kn\": did you mean \"km\"? valid: km, m"},
    {PAIR "links:\n  ab: {between: [a, b], length: ^}\n", "key \"length\" has no value"},
    {PAIR "links:\n  ab: {between: [a, b], loss: ^0.2dB}\n",
     "unknown unit \"dB\" in loss \"0.2dB\": did you mean \"dB/km\"?"},
    {PAIR "links:\n  ab: {between: [a, b], light_speed: ^300000km/s}\n",
     "is out of range; valid: 1km/s to 299792.458km/s"},
    {PAIR "links:\n  ab: {between: [a, b], model: ^doubleclick}\n",
     "unknown model \"doubleclick\": did you mean \"double-click\"?"},
    {PAIR "links:\n  ab: {between: [a, b], probability: ^0}\n", "probability \"0\" is out of range"},
    {PAIR "links:\n  ab: {between: [a, b], kind: ^bb48}\n", "unknown kind \"bb48\": did you mean \"bb84\"?"},
    {LAB "  x: {between: ^[a, s]}\n", "link \"x\" joins a memory and a source, from which its kind does not follow"},
    {LAB "  x: {between: [a, ^d], kind: entanglement}\n",
     "node \"d\" (detector) has no memories, and link \"x\" needs them"},
    {LAB "  x: {between: ^[a, d], kind: bb84}\n",
     "link \"x\" is bb84, and neither \"a\" nor \"d\" sends single pulses"},
    {LAB "  x: {between: [s, ^p], kind: bb84}\n", "node \"p\" (source) has no detectors, and link \"x\" needs them"},
    {LAB "  x: {between: ^[p, d]}\n", "link \"x\" is bb84, and neither \"p\" nor \"d\" sends single pulses"},
    {LAB "  x: {between: [a, b], via: ^a}\n", "link \"x\" goes via its own end \"a\"; valid: a third node"},
    {LAB "  x: {between: [a, b], via: ^e}\n", "unknown node \"e\""},
    {LAB "  x: {between: [a, b], via: ^s}\n", "node \"s\" (source without pairs) cannot be the station of link \"x\""},
    {LAB "  x: {between: [s, d], via: ^p}\n", "link \"x\" is bb84 and has no station"},
    {HEAD "  a: {role: memory}\n  b: {role: memory}\n  c: {role: repeater}\nlinks:\n  ab: {between: [a, b], via: ^c}\n "
          " bc: {between: [b, c]}\n",
     "node \"c\" (repeater) cannot be the station of link \"ab\"; valid: a detector, or a source with source: pairs"},
    {HEAD
     "  a: {role: memory}\n  s: {role: source, memories: 2}\nlinks:\n  as: {between: [a, ^s], model: double-click}\n",
     "node \"s\" has no detectors for the photons of link \"as\""},
};

Test(topology, blames_the_exact_place) {
    size_t n = 0;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char text[4096], place[64];
        const char *mark = strchr(bad[i].text, '^');
        cr_assert_not_null(mark, "%s", bad[i].text);
        size_t before = (size_t)(mark - bad[i].text);
        snprintf(text, sizeof(text), "%.*s%s", (int)before, bad[i].text, mark + 1);
        unsigned line = 1, column = 1;
        for (size_t c = 0; c < before; c++) {
            column = text[c] == '\n' ? 1 : column + 1;
            line += text[c] == '\n';
        }
        struct qn_topology untouched = {.n_nodes = 77};
        struct qn_buf diagnostics = {0};
        int rc = qn_topology_parse("net.yaml", text, strlen(text), &untouched, &diagnostics);
        const char *said = text_of(&diagnostics);
        cr_expect_eq(rc, -QN_EPARSE, "%s", text);
        cr_assert_eq(untouched.n_nodes, 77u);
        snprintf(place, sizeof(place), "net.yaml:%u:%u: error: ", line, column);
        cr_expect(strncmp(said, place, strlen(place)) == 0, "expected at %u:%u\n%s%s", line, column, said, text);
        cr_expect(strstr(said, bad[i].message) != NULL, "expected: %s\n%s%s", bad[i].message, said, text);
        cr_expect(strchr(said, '\n') == said + strlen(said) - 1, "one error expected\n%s%s", said, text);
        qn_buf_release(&diagnostics);
        n++;
    }
    cr_assert_geq(n, 50u);
}

Test(topology, reports_all_errors_in_one_run_in_order) {
    const char *text = "version: 1\nnetwork: t\nseed: x\nlinks:\n  l: {between: [a, z], length: 5}\n  m: {between: [a, "
                       "b], length: 1km}\n"
                       "nodes:\n  a: {role: memry, t1: 1, t2: x}\n  b: {role: detector, colour: red}\n";
    struct qn_topology t;
    struct qn_buf diagnostics = {0};
    cr_assert_eq(qn_topology_parse("f", text, strlen(text), &t, &diagnostics), -QN_EPARSE);
    const char *said = text_of(&diagnostics), *at = said;
    const char *const expected[] = {"f:3:7: error: seed",        "f:5:20: error: unknown node \"z\"",
                                    "f:5:32: error: length",     "f:8:13: error: unknown role \"memry\"",
                                    "f:8:24: error: t1",         "f:8:31: error: t2",
                                    "f:9:23: error: unknown key"};
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        cr_assert_eq(strncmp(at, expected[i], strlen(expected[i])), 0, "%s\n%s", expected[i], said);
        at = strchr(at, '\n') + 1;
    }
    cr_assert_eq(*at, '\0', "%s", said);
    qn_buf_release(&diagnostics);
}

static size_t count_lines(struct qn_buf *buf) {
    size_t n = 0;
    for (const char *at = text_of(buf); (at = strchr(at, '\n')) != NULL; at++) n++;
    return n;
}

Test(topology, stops_at_its_limits) {
    struct qn_buf text = {0}, diagnostics = {0};
    struct qn_topology t;
    /* 150 errors: 100 lines and a count. */
    cr_assert_eq(qn_buf_printf(&text, HEAD), 0);
    for (int i = 0; i < 150; i++) cr_assert_eq(qn_buf_printf(&text, "  n%d: {role: x}\n", i), 0);
    cr_assert_eq(qn_topology_parse("f", (const char *)text.data, text.len, &t, &diagnostics), -QN_EPARSE);
    cr_assert_eq(count_lines(&diagnostics), 101u);
    cr_assert_not_null(strstr(text_of(&diagnostics), "f: 50 more errors are not shown\n"));
    /* The largest number of nodes and links, and one more. */
    for (size_t extra = 0; extra < 3; extra++) {
        text.len = diagnostics.len = 0;
        cr_assert_eq(qn_buf_printf(&text, HEAD), 0);
        for (size_t i = 0; i < QN_MAX_NODES + (extra == 1); i++)
            cr_assert_eq(qn_buf_printf(&text, "  n%zu: {role: memory}\n", i), 0);
        cr_assert_eq(qn_buf_printf(&text, "links:\n"), 0);
        for (size_t i = 0; i < QN_MAX_LINKS + (extra == 2); i++)
            cr_assert_eq(
                qn_buf_printf(&text, "  l%zu: {between: [n%zu, n%zu]}\n", i, i % QN_MAX_NODES, (i + 1) % QN_MAX_NODES),
                0);
        int rc = qn_topology_parse("f", (const char *)text.data, text.len, &t, &diagnostics);
        cr_assert_eq(rc, extra == 0 ? 0 : -QN_EPARSE, "%.300s", text_of(&diagnostics));
        if (extra == 0) {
            cr_assert_eq(t.n_links, (size_t)QN_MAX_LINKS);
            expect_round_trip(&t);
            qn_topology_release(&t);
        } else {
            cr_assert_not_null(strstr(text_of(&diagnostics), extra == 1 ? "f:4:3: error: 4097 nodes: at most 4096"
                                                                        : "error: 16385 links: at most 16384"));
        }
    }
    /* Too many bytes. */
    text.len = diagnostics.len = 0;
    cr_assert_eq(qn_buf_printf(&text, PAIR "#%*s", (int)QN_TOPOLOGY_BYTES_MAX, ""), 0);
    cr_assert_eq(qn_topology_parse("f", (const char *)text.data, text.len, &t, &diagnostics), -QN_EPARSE);
    cr_assert_not_null(strstr(text_of(&diagnostics), "bytes: at most 16777216"));
    qn_buf_release(&text);
    qn_buf_release(&diagnostics);
}

/* ---- Quantities ---- */

Test(quantity, reads_units_exactly) {
    static const struct {
        const char *text;
        enum qn_dimension dimension;
        double value;
    } good[] = {
        {"20km", QN_DIM_LENGTH_KM, 20},
        {"20 km", QN_DIM_LENGTH_KM, 20},
        {"100m", QN_DIM_LENGTH_KM, 0.1},
        {"0", QN_DIM_LENGTH_KM, 0},
        {"0.00", QN_DIM_TIME_S, 0},
        {"0km", QN_DIM_LENGTH_KM, 0},
        {"100ns", QN_DIM_TIME_S, 1e-7},
        {"3us", QN_DIM_TIME_S, 3e-6},
        {"7ms", QN_DIM_TIME_S, 7e-3},
        {"1.5e3s", QN_DIM_TIME_S, 1500},
        {"1E-3s", QN_DIM_TIME_S, 1e-3},
        {"1e+3ns", QN_DIM_TIME_S, 1e-6},
        {"2.5GHz", QN_DIM_FREQUENCY_HZ, 2.5e9},
        {"1kHz", QN_DIM_FREQUENCY_HZ, 1000},
        {"10Hz", QN_DIM_FREQUENCY_HZ, 10},
        {"100MHz", QN_DIM_FREQUENCY_HZ, 1e8},
        {"3dB", QN_DIM_LOSS_DB, 3},
        {"0.2dB/km", QN_DIM_LOSS_DB_KM, 0.2},
        {"200000km/s", QN_DIM_SPEED_KM_S, 2e5},
        {"1%", QN_DIM_FRACTION, 0.01},
        {"7%", QN_DIM_FRACTION, 0.07},
        {"0.25", QN_DIM_FRACTION, 0.25},
        {"100%", QN_DIM_FRACTION, 1},
        {"-2.5", QN_DIM_NONE, -2.5},
        {"3", QN_DIM_NONE, 3},
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        double value = -1;
        const char *why = NULL;
        cr_expect_eq(qn_quantity_parse(good[i].text, good[i].dimension, &value, &why), 0, "%s: %s", good[i].text, why);
        cr_expect(same_number(value, good[i].value), "%s: %.17g", good[i].text, value);
    }
}

Test(quantity, says_why_not) {
    static const struct {
        const char *text;
        enum qn_dimension dimension;
        const char *why;
    } wrong[] = {
        {"20", QN_DIM_LENGTH_KM, "has no unit; valid: a length in km or m, such as 20km"},
        {"20s", QN_DIM_LENGTH_KM, "has an unknown unit; valid: a length in km or m, such as 20km"},
        {"", QN_DIM_TIME_S, "is not a number; valid: a time in s, ms, us or ns, such as 10ms"},
        {"km", QN_DIM_LENGTH_KM, "is not a number"},
        {".5km", QN_DIM_LENGTH_KM, "is not a number"},
        {"5.km", QN_DIM_LENGTH_KM, "is not a number"},
        {"+5km", QN_DIM_LENGTH_KM, "is not a number"},
        {"0x10km", QN_DIM_LENGTH_KM, "has an unknown unit"},
        {"1,5km", QN_DIM_LENGTH_KM, "has an unknown unit"},
        {"nan", QN_DIM_NONE, "is not a number"},
        {"inf", QN_DIM_NONE, "is not a number"},
        {"-0", QN_DIM_NONE, "is a negative zero"},
        {"-0.0e5km", QN_DIM_LENGTH_KM, "is a negative zero"},
        {"-1km", QN_DIM_LENGTH_KM, "is negative"},
        {"1e19", QN_DIM_NONE, "is too large"},
        {"1e400", QN_DIM_NONE, "is too large"},
        {"-1e400", QN_DIM_NONE, "is too large"},
        {"1e-31", QN_DIM_NONE, "is too small"},
        {"1e-400km", QN_DIM_LENGTH_KM, "is too small"},
        {"101%", QN_DIM_FRACTION, "is too large; valid: a fraction from 0 to 1"},
        {"1.0001", QN_DIM_FRACTION, "is too large"},
        {"5dB", QN_DIM_LOSS_DB_KM, "has an unknown unit; valid: a loss in dB/km"},
        {"11111111111111111111111111111111111111111km", QN_DIM_LENGTH_KM, "is not a number"},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        double value = -1;
        const char *why = NULL;
        cr_expect_eq(qn_quantity_parse(wrong[i].text, wrong[i].dimension, &value, &why), -QN_EPARSE, "%s",
                     wrong[i].text);
        cr_expect(why != NULL && strncmp(why, wrong[i].why, strlen(wrong[i].why)) == 0, "%s: %s", wrong[i].text, why);
        cr_expect_eq(value, -1);
    }
}

static double random_number(struct qn_rng *rng, double low, double high) {
    switch (qn_rng_below(rng, 4)) {
    case 0:
        return low;
    case 1:
        return high;
    case 2:
        return low + (high - low) * qn_rng_double(rng);
    default:
        return low + (high - low) * exp2(-50 * qn_rng_double(rng)); /* All sizes. */
    }
}

/* Whatever numbers a network has, its text gives them back to the last bit. */
Test(emit, keeps_every_bit_of_every_number) {
    const uint64_t seed = 5;
    struct qn_rng rng;
    qn_rng_init(&rng, seed, "topology", 0);
    struct qn_topology t = parse_good(HEAD "  a: {role: memory, source: weak-coherent, x: 1, y: 1}\n  b: {role: "
                                           "memory}\nlinks:\n  ab: {between: [a, b]}\n");
    for (int round = 0; round < 2000; round++) {
        struct qn_topo_node *n = &t.nodes[0];
        struct qn_topo_link *l = &t.links[0];
        struct qn_buf yaml = {0}, diagnostics = {0};
        struct qn_topology copy;
        t.seed = qn_rng_u64(&rng);
        t.time_scale = random_number(&rng, 1e-6, 1e6);
        n->t1_s = random_number(&rng, 1e-9, 1e9);
        n->t2_s = n->t1_s;
        n->gate1_error = random_number(&rng, 0, 1);
        n->dark_rate_hz = random_number(&rng, 0, 1e12);
        n->gate_window_s = random_number(&rng, 0, 1);
        n->clock_hz = random_number(&rng, 1e-3, 1e12);
        n->mean_photons = random_number(&rng, 1e-9, 100);
        n->cutoff_ns = (uint64_t)random_number(&rng, 0, 1e18);
        n->x = random_number(&rng, -1e6, 1e6);
        l->length_km = random_number(&rng, 0, 1e6);
        l->loss_db_km = random_number(&rng, 0, 1000);
        l->light_speed_km_s = random_number(&rng, 1, 299792.458);
        l->classical_delay_ns = (uint64_t)random_number(&rng, 0, 1e18);
        l->fidelity = random_number(&rng, 0, 1);
        l->probability = random_number(&rng, 1e-12, 1);
        cr_assert_eq(qn_topology_emit_yaml(&t, &yaml), 0);
        int rc = qn_topology_parse("canonical", (const char *)yaml.data, yaml.len, &copy, &diagnostics);
        cr_assert_eq(rc, 0, "seed %ju, round %d: %s\n%s", (uintmax_t)seed, round, text_of(&diagnostics),
                     text_of(&yaml));
        cr_assert(same_topology(&t, &copy), "seed %ju, round %d:\n%s", (uintmax_t)seed, round, text_of(&yaml));
        qn_topology_release(&copy);
        qn_buf_release(&yaml);
        qn_buf_release(&diagnostics);
    }
    qn_topology_release(&t);
}

/* ---- Protocols of BB84 links ---- */

/* Exactly these lines. */
static void expect_bad(const char *text, const char *lines) {
    struct qn_topology t;
    struct qn_buf diagnostics = {0};
    cr_assert_eq(qn_topology_parse("f", text, strlen(text), &t, &diagnostics), -QN_EPARSE);
    cr_assert_str_eq(text_of(&diagnostics), lines);
    qn_buf_release(&diagnostics);
}

#define PULSES HEAD "  s: {role: source}\n  d: {role: detector}\nlinks:\n"

Test(bb84, protocol_follows_from_the_intensities) {
    static const struct {
        const char *link;
        enum qn_protocol protocol;
        uint32_t n;
    } rows[] = {
        {"", QN_PROTOCOL_PLAIN, 0},
        {", intensities: 0.3", QN_PROTOCOL_PLAIN, 1},
        {", intensities: [0.5, 0.1], probabilities: [80%, 0.2]", QN_PROTOCOL_ONE_DECOY, 2},
        {", intensities: [0.5, 0.1, 0], probabilities: [0.7, 0.2, 0.1]", QN_PROTOCOL_TWO_DECOY, 3},
        {", protocol: two-decoy", QN_PROTOCOL_TWO_DECOY, 0},
        {", preset: lim2014", QN_PROTOCOL_TWO_DECOY, 3},
        {", preset: lim2014, protocol: one-decoy", QN_PROTOCOL_ONE_DECOY, 0}, /* Its intensities are of two decoys. */
        {", preset: lim2014, intensities: [0.5, 0.1], probabilities: [0.8, 0.2]", QN_PROTOCOL_ONE_DECOY, 2},
        {", aperture: 0.3m, beam_waist: 1m, divergence: 0.1mrad", QN_PROTOCOL_PLAIN, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[512];
        snprintf(text, sizeof(text), PULSES "  l: {between: [s, d]%s}\n", rows[i].link);
        struct qn_topology t = parse_good(text);
        cr_assert_eq(t.links[0].protocol, rows[i].protocol, "%s", rows[i].link);
        cr_assert_eq(t.links[0].intensities.n, rows[i].n, "%s", rows[i].link);
        cr_assert_eq(t.links[0].probabilities.n, rows[i].n, "%s", rows[i].link);
        expect_round_trip(&t);
        qn_topology_release(&t);
    }
}

Test(bb84, says_what_is_wrong_with_its_decoys) {
    expect_bad(
        PULSES "  a: {between: [s, d], intensities: [0.1, 0.5], probabilities: [0.5, 0.5]}\n"
               "  b: {between: [s, d], protocol: two-decoy, intensities: [0.5, 0.1], probabilities: [0.5, 0.5]}\n"
               "  c: {between: [s, d], intensities: [0.5, 0.1]}\n"
               "  e: {between: [s, d], intensities: [0.5, 0.1], probabilities: [0.5, 0.4]}\n"
               "  f: {between: [s, d], intensities: [0.5, 0], probabilities: [0.5, 0.5]}\n"
               "  g: {between: [s, d], intensities: [0.5, 0.3, 0.2], probabilities: [0.5, 0.3, 0.2]}\n"
               "  h: {between: [s, d], intensities: [], probabilities: {a: b}}\n"
               "  i: {between: [s, d], intensities: [0.5, [0.1]], probabilities: [0.5, 2]}\n"
               "  j: {between: [s, d], aperture: 1m}\n"
               "  k: {between: [s, d], divergence: 1urad}\n"
               "  l: {between: [s, d], preset: lim}\n"
               "  m: {between: [s, d], intensities: [9, 8, 7, 6, 5, 4, 3, 2, 1]}\n",
        "f:7:37: error: intensity 0.5 of link \"a\" does not lie below 0.1; valid: strongest first\n"
        "f:8:58: error: link \"b\" has 2 intensities with protocol two-decoy; valid: 3, strongest first\n"
        "f:9:37: error: link \"c\" has 2 intensities and 0 probabilities; valid: as many\n"
        "f:10:64: error: the probabilities of link \"e\" sum to 0.9; valid: 1\n"
        "f:11:37: error: link \"f\" sends vacuum with protocol one-decoy; valid: above 0, or three intensities\n"
        "f:12:37: error: the strongest intensity of link \"g\" is not above the sum of the others; valid: above "
        "0.5\n"
        "f:13:37: error: intensities is empty; valid: a list, intensities: [value, value]\n"
        "f:13:56: error: probabilities is a mapping; valid: a list, probabilities: [value, value]\n"
        "f:14:43: error: a value of intensities is a collection; valid: a number\n"
        "f:14:72: error: probabilities \"2\" is too large; valid: a fraction from 0 to 1, such as 0.01 or 1%\n"
        "f:15:34: error: link \"j\" is in free space with a beam of no width; valid: beam_waist or divergence "
        "above 0\n"
        "f:16:36: error: link \"k\" has a beam but no telescope to catch it; valid: aperture above 0\n"
        "f:17:32: error: unknown preset \"lim\": did you mean \"lim2014\"? valid: none, gys, lim2014, rusca2018, "
        "yuan2018, li2023, boaron2018\n"
        "f:18:62: error: intensities has more than 8 values\n");
}

Test(bb84, a_preset_reaches_the_ends_but_not_what_they_give) {
    struct qn_topology t = parse_good(HEAD "  s: {role: source, clock: 10MHz}\n  d: {role: detector, dark_rate: 5Hz}\n"
                                           "links:\n  l: {between: [d, s], preset: rusca2018}\n");
    cr_assert_eq(t.nodes[0].clock_hz, 10e6);
    cr_assert_eq(t.nodes[1].dark_rate_hz, 5);
    cr_assert_eq(t.nodes[1].detector_efficiency, 0.5);
    cr_assert_eq(t.nodes[1].dead_s, 100e-9);
    cr_assert_eq(t.nodes[1].dead_scope, QN_DEAD_TIME_RECEIVER);
    cr_assert_eq(t.links[0].a, 0u);
    expect_round_trip(&t);
    qn_topology_release(&t);
    t = parse_good(HEAD "  s: {role: source}\n  d: {role: detector}\n  m: {role: memory}\ndefaults: {node: {clock: "
                        "1MHz}, link: {preset: li2023}}\nlinks:\n  l: {between: [d, s]}\n  w: {between: [s, m], kind: "
                        "classical}\n");
    cr_assert_eq(t.nodes[0].clock_hz, 1e6);
    cr_assert_eq(t.links[0].intensities.value[0], 0.707);
    cr_assert_eq(t.links[1].intensities.n, 0u);
    qn_topology_release(&t);
}

Test(bb84, a_node_has_the_hardware_of_one_preset) {
    expect_bad(HEAD "  s: {role: source, source: single-photon}\n  t: {role: source}\n  d: {role: detector}\nlinks:\n"
                    "  l: {between: [t, d], preset: gys}\n  m: {between: [s, d], preset: li2023}\n",
               "f:9:32: error: node \"d\" would have the hardware of li2023 by link \"m\", but has that of gys by link "
               "\"l\"; valid: one preset a node\n"
               "f:9:32: error: link \"m\" has intensities or decoys, and \"s\" is no laser (source: single-photon); "
               "valid: source: weak-coherent\n");
}

/* ---- Emitters ---- */

Test(emit, writes_the_canonical_form) {
    struct qn_topology t = parse_good(
        HEAD
        "  on: {role: source, classical: \"[::1]:80\", key: "
        "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff}\n"
        "  2nd: {role: detector, efficiency: 7%, x: 1, y: -2.5}\nlinks:\n  l: {between: [2nd, on], length: 1500m}\n");
    struct qn_buf yaml = {0};
    cr_assert_eq(qn_topology_emit_yaml(&t, &yaml), 0);
    cr_assert_str_eq(
        text_of(&yaml),
        "version: 1\nnetwork: t\nseed: 1\ntime_scale: 1\nnode_dead_after: 30s\nkey_ttl: 0s\nnodes:\n"
        "  \"on\": {role: source, classical: \"[::1]:80\", key: \"ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v8=\", "
        "memories: 0, source: weak-coherent, clock: 100MHz, mean_photons: 0.1}\n"
        "  \"2nd\": {role: detector, memories: 0, efficiency: 0.07, dark_rate: 0Hz, gate_window: 1ns, "
        "mismatch: 0, dead_time: 0s, dead_time_scope: pixel, afterpulse: 0, jitter: 0s, pixels: 1, x: 1, y: -2.5}\n"
        "links:\n"
        "  l: {between: [\"on\", \"2nd\"], kind: bb84, length: 1.5km, loss: 0.2dB/km, insertion_loss: 0dB, "
        "light_speed: 200000km/s, classical_delay: 7.5us, misalignment: 0, aperture: 0km, beam_waist: 0km, "
        "divergence: 0rad, protocol: plain, key_basis: 0, block_size: 0, eps_sec: 1e-9, eps_cor: 1e-15}\n");
    expect_round_trip(&t);
    qn_buf_release(&yaml);
    qn_topology_release(&t);
}

Test(emit, draws) {
    struct qn_topology t = parse_good(LAB "  x: {between: [a, b], via: d, length: 4km}\n  y: {between: [d, s]}\n");
    struct qn_buf dot = {0}, mermaid = {0};
    cr_assert_eq(qn_topology_emit_dot(&t, &dot), 0);
    cr_assert_not_null(strstr(text_of(&dot), "graph \"t\" {\n"));
    cr_assert_not_null(strstr(text_of(&dot), "  \"d\" [shape=hexagon, tooltip=\"detector\"];\n"));
    cr_assert_not_null(
        strstr(text_of(&dot),
               "  \"a\" -- \"d\" [style=solid, label=\"x\\n4km entanglement\"];\n  \"d\" -- \"b\" [style=solid];\n"));
    cr_assert_not_null(strstr(text_of(&dot), "  \"s\" -- \"d\" [style=solid, dir=forward, label=\"y\\n0km bb84\"];\n"));
    cr_assert_not_null(strstr(text_of(&dot), "  \"a\" -- \"s\" [style=dashed, label=\"w\\n0km classical\"];\n"));
    cr_assert_eq(qn_topology_emit_mermaid(&t, &mermaid), 0);
    cr_assert_not_null(
        strstr(text_of(&mermaid), "graph LR\n  n0((\"a\"))\n  n1((\"b\"))\n  n2([\"s\"])\n  n3{{\"d\"}}\n"));
    cr_assert_not_null(strstr(text_of(&mermaid), "  n0 ---|\"x<br/>4km entanglement\"| n3\n  n3 --- n1\n"));
    cr_assert_not_null(strstr(text_of(&mermaid), "  n2 -->|\"y<br/>0km bb84\"| n3\n"));
    cr_assert_not_null(strstr(text_of(&mermaid), "  n0 -.-|\"w<br/>0km classical\"| n2\n"));
    qn_buf_release(&dot);
    qn_buf_release(&mermaid);
    qn_topology_release(&t);
}

Test(emit, leaves_the_buffer_as_it_was_on_failure) {
    struct qn_topology t = parse_good(LAB);
    struct qn_buf out = {.limit = 100};
    cr_assert_eq(qn_buf_append(&out, "before", 6), 0);
    cr_assert_eq(qn_topology_emit_yaml(&t, &out), -QN_ELIMIT);
    cr_assert_eq(qn_topology_emit_dot(&t, &out), -QN_ELIMIT);
    cr_assert_eq(qn_topology_emit_mermaid(&t, &out), -QN_ELIMIT);
    cr_assert_eq(qn_topology_emit_schema(&out), -QN_ELIMIT);
    cr_assert_eq(out.len, 6u);
    qn_buf_release(&out);
    qn_topology_release(&t);
}

Test(emit, schema_is_json_and_names_every_key) {
    struct qn_buf schema = {0};
    json_error_t error;
    cr_assert_eq(qn_topology_emit_schema(&schema), 0);
    json_t *root = json_loadb((const char *)schema.data, schema.len, JSON_REJECT_DUPLICATES, &error);
    cr_assert_not_null(root, "%s at %d:%d", error.text, error.line, error.column);
    json_t *definitions = json_object_get(root, "definitions");
    json_t *node = json_object_get(json_object_get(definitions, "node"), "properties");
    json_t *link = json_object_get(json_object_get(definitions, "link"), "properties");
    cr_assert_eq(json_object_size(node), 33u);
    cr_assert_eq(json_object_size(link), 27u);
    cr_assert_eq(json_array_size(json_object_get(json_object_get(node, "role"), "enum")), 4u);
    json_t *defaults = json_object_get(json_object_get(definitions, "node-defaults"), "properties");
    cr_assert_not_null(json_object_get(defaults, "t1"));
    cr_assert_null(json_object_get(defaults, "key"));
    json_t *length = json_object_get(json_object_get(link, "length"), "anyOf");
    cr_assert_str_eq(json_string_value(json_object_get(json_array_get(length, 1), "pattern")),
                     "^(0+(\\.0+)?|[0-9]+(\\.[0-9]+)?([eE][-+]?[0-9]{1,4})? *(km|m))$");
    json_decref(root);
    qn_buf_release(&schema);
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
