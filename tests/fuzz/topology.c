/* SPDX-License-Identifier: Apache-2.0 */
/* A topology file: any text is read or refused with lines that name their place; what is read is written in a form that
 * is read again to the same network. */
#include "topology/topology.h"

#include <sodium.h>

#include "base/err.h"
#include "fuzz.h"

static void emit(const struct qn_topology *topology) {
    struct qn_buf out = {0}, diagnostics = {0}, again = {0};
    struct qn_topology copy;
    FUZZ_CHECK(qn_topology_emit_yaml(topology, &out) == 0);
    int rc = qn_topology_parse("again.yaml", (const char *)out.data, out.len, &copy, &diagnostics);
    if (rc < 0)
        fprintf(stderr, "%.*s\n%.*s", (int)out.len, (const char *)out.data, (int)diagnostics.len,
                (const char *)diagnostics.data);
    FUZZ_CHECK(rc == 0);
    FUZZ_CHECK(memcmp(copy.digest, topology->digest, sizeof copy.digest) == 0);
    FUZZ_CHECK(qn_topology_emit_yaml(&copy, &again) == 0);
    FUZZ_CHECK(again.len == out.len && memcmp(again.data, out.data, out.len) == 0);
    out.len = 0;
    FUZZ_CHECK(qn_topology_emit_dot(topology, &out) == 0 && qn_topology_emit_mermaid(topology, &out) == 0);
    qn_topology_release(&copy);
    qn_buf_release(&out);
    qn_buf_release(&again);
    qn_buf_release(&diagnostics);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct qn_topology topology;
    struct qn_buf diagnostics = {0};
    FUZZ_CHECK(sodium_init() >= 0);
    int rc = qn_topology_parse("input.yaml", (const char *)data, size, &topology, &diagnostics);
    FUZZ_CHECK(rc == 0 || rc == -QN_EPARSE);
    if (rc == 0) {
        emit(&topology);
        for (size_t i = 0; i < topology.n_nodes; i++)
            FUZZ_CHECK(qn_topology_find_node(&topology, topology.nodes[i].name) == (int)i);
        qn_topology_release(&topology);
    } else {
        FUZZ_CHECK(diagnostics.len > 11 && memcmp(diagnostics.data, "input.yaml:", 11) == 0);
    }
    qn_buf_release(&diagnostics);
    return 0;
}
