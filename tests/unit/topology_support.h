/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_TEST_TOPOLOGY_SUPPORT_H
#define QN_TEST_TOPOLOGY_SUPPORT_H

/* Network files as text, read and compared. */

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

static inline const char *text_of(struct qn_buf *buf) {
    cr_assert_eq(qn_buf_append(buf, "", 1), 0);
    buf->len--;
    return (const char *)buf->data;
}

static inline struct qn_topology parse_good(const char *text) {
    struct qn_topology topology;
    struct qn_buf diagnostics = {0};
    int rc = qn_topology_parse("net.yaml", text, strlen(text), &topology, &diagnostics);
    cr_assert_eq(rc, 0, "%s\n%s", text_of(&diagnostics), text);
    cr_assert_eq(diagnostics.len, 0, "%s", text_of(&diagnostics));
    qn_buf_release(&diagnostics);
    return topology;
}

static inline char *file_read(const char *name) {
    char path[512];
    snprintf(path, sizeof(path), QN_TEST_DATA "/../../../deploy/networks/%s", name);
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file, "%s", path);
    char *text = calloc(1, 1 << 16);
    cr_assert_gt(fread(text, 1, (1 << 16) - 1, file), 0u);
    fclose(file);
    return text;
}

static inline bool same_number(double a, double b) { return memcmp(&a, &b, sizeof(a)) == 0 || (isnan(a) && isnan(b)); }

static inline bool same_address(const struct qn_address *a, const struct qn_address *b) {
    return a->port == b->port && strcmp(a->host, b->host) == 0;
}

#define SAME(member) (a->member == b->member)
#define SAME_NUMBER(member) same_number(a->member, b->member)

static inline bool same_node(const struct qn_topo_node *a, const struct qn_topo_node *b) {
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

static inline bool same_list(const struct qn_topo_list *a, const struct qn_topo_list *b) {
    return SAME(n) && memcmp(a->value, b->value, a->n * sizeof *a->value) == 0;
}

static inline bool same_link(const struct qn_topo_link *a, const struct qn_topo_link *b) {
    return strcmp(a->name, b->name) == 0 && SAME(kind) && SAME(a) && SAME(b) && SAME(via) && SAME(model) &&
           SAME(placement) && SAME_NUMBER(length_km) && SAME_NUMBER(loss_db_km) && SAME_NUMBER(insertion_loss_db) &&
           SAME_NUMBER(light_speed_km_s) && SAME(classical_delay_ns) && SAME_NUMBER(fidelity) &&
           SAME_NUMBER(probability) && SAME_NUMBER(attempt_s) && SAME_NUMBER(visibility) && SAME_NUMBER(alpha) &&
           SAME_NUMBER(emission_efficiency) && SAME_NUMBER(misalignment) && SAME_NUMBER(aperture_km) &&
           SAME_NUMBER(beam_waist_km) && SAME_NUMBER(divergence_rad) && SAME(protocol) &&
           same_list(&a->intensities, &b->intensities) && same_list(&a->probabilities, &b->probabilities) &&
           SAME_NUMBER(key_basis) && SAME_NUMBER(block_size) && SAME_NUMBER(eps_sec) && SAME_NUMBER(eps_cor);
}

static inline bool same_topology(const struct qn_topology *a, const struct qn_topology *b) {
    if (strcmp(a->name, b->name) != 0 || !SAME(seed) || !SAME_NUMBER(time_scale) || !SAME(n_nodes) || !SAME(n_links))
        return false;
    for (size_t i = 0; i < a->n_nodes; i++)
        if (!same_node(&a->nodes[i], &b->nodes[i])) return false;
    for (size_t i = 0; i < a->n_links; i++)
        if (!same_link(&a->links[i], &b->links[i])) return false;
    return true;
}

/* emit(parse(x)) reads as the same network, quietly, and is written the same way again. */
static inline void expect_round_trip(const struct qn_topology *topology) {
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

static const char *const samples[] = {"bb84-pair.yaml", "two-repeater-chain.yaml", "triangle.yaml", "demo.yaml"};
#define N_SAMPLES (sizeof(samples) / sizeof(samples[0]))

#endif
