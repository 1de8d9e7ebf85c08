/* SPDX-License-Identifier: Apache-2.0 */
/* The node's numbers as Prometheus text. */
#include <stdio.h>

#include "node/internal.h"
#include "node/keys.h"

static int metric(struct qn_buf *out, const char *name, const char *type, const char *help, const char *labels,
                  double value) {
    int rc = help == NULL ? 0 : qn_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
    return rc < 0 ? rc : qn_buf_printf(out, "%s%s %.17g\n", name, labels, value);
}

int qn_node_metrics(const struct qn_node *node, struct qn_buf *out) {
    const struct {
        const char *name, *type, *help;
        double value;
    } plain[] = {
        {"qnetd_pairs_delivered_total", "counter", "End-to-end pairs delivered at this node.",
         (double)node->n_pairs_delivered},
        {"qnetd_pairs_expired_total", "counter", "Pairs discarded before delivery.", (double)node->n_expired},
        {"qnetd_swaps_total", "counter", "Entanglement swaps performed.", (double)node->n_swaps},
        {"qnetd_teleports_total", "counter", "States sent by teleportation.", (double)node->n_teleports},
        {"qnetd_keys_available", "gauge", "Secret keys that may be taken.", (double)node->keys->n_ready},
        {"qnetd_key_bits_available", "gauge", "Bits of secret key that may be taken.", (double)node->keys->bits_ready},
        {"qnetd_keys_delivered_total", "counter", "Keys handed out.", (double)node->keys->n_taken},
        {"qnetd_keys_burned_total", "counter", "Keys given up: only one end had them, or nobody received them.",
         (double)node->keys->n_burned},
        {"qnetd_keys_expired_total", "counter", "Keys not taken in their time.", (double)node->keys->n_expired},
        {"qnetd_store_ok", "gauge", "1 while the key store can be written.", node->keys->fault == 0},
        {"qnetd_memories_used", "gauge", "Quantum memories in use.", node->memories_used},
        {"qnetd_memories", "gauge", "Quantum memories of this node.", node->hardware->memories},
        {"qnetd_hosted_groups", "gauge", "Joint states kept by this process.", (double)qn_plane_n_groups(node->plane)},
        {"qnetd_requests_open", "gauge", "User requests not yet answered.", (double)node->request_of.len},
        {"qnetd_envelopes_relayed_total", "counter", "Envelopes passed on for others.", (double)node->n_relayed},
        {"qnetd_envelopes_dropped_total", "counter", "Envelopes that could not be queued or sent.",
         (double)node->n_dropped},
        {"qnetd_channel_resends_total", "counter", "Times a channel sent its unacknowledged messages again.",
         (double)node->n_resent},
        {"qnetd_protocol_errors_total", "counter", "Messages refused because they break the protocol.",
         (double)node->n_protocol_errors},
    };
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        int rc = metric(out, plain[i].name, plain[i].type, plain[i].help, "", plain[i].value);
        if (rc < 0) return rc;
    }
    static const char *const per_link[] = {"qnetd_link_up",
                                           "qnetd_link_fidelity_ratio",
                                           "qnetd_link_qber_ratio",
                                           "qnetd_pairs_generated_total",
                                           "qnetd_sifted_bits_total",
                                           "qnetd_secret_bits_total",
                                           "qnetd_trains_wrong_total",
                                           "qnetd_alarms_total"};
    enum { N_PER_LINK = sizeof per_link / sizeof per_link[0] };
    static const char *const help[] = {"1 when both sessions of the link are up.",
                                       "Fidelity of a fresh pair, by the model.",
                                       "Quantum bit error rate last measured.",
                                       "Heralded pairs of the link.",
                                       "BB84 bits after sifting.",
                                       "Secret bits made.",
                                       "Trains of pulses that reconciliation has left different at both ends.",
                                       "Observables of key making that moved too far, and tags that were wrong."};
    for (size_t k = 0; k < N_PER_LINK; k++) {
        bool first = true;
        for (size_t i = 0; i < node->topology->n_links; i++) {
            const struct link_state *state = &node->links[i];
            const struct qn_topo_link *link = &node->topology->links[i];
            if (!state->mine || (k == 1 && !state->planned) || (k == 2 && state->qber < 0)) continue;
            double values[N_PER_LINK] = {node_session_with(node, link_neighbour(node, link)) ? 1 : 0,
                                         state->plan.fidelity,
                                         state->qber,
                                         (double)state->pairs,
                                         (double)state->sifted_bits,
                                         (double)state->secret_bits,
                                         (double)state->wrong_trains,
                                         (double)state->alarms};
            char labels[QN_NAME_MAX + 16];
            snprintf(labels, sizeof labels, "{link=\"%s\"}", link->name);
            int rc = metric(out, per_link[k], k < 3 ? "gauge" : "counter", first ? help[k] : NULL, labels, values[k]);
            if (rc < 0) return rc;
            first = false;
        }
    }
    return 0;
}
