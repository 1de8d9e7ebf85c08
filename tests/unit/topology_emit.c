/* SPDX-License-Identifier: Apache-2.0 */
/* Networks written: the canonical form, drawings, the schema. */
#include "topology_support.h"

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
