/* SPDX-License-Identifier: Apache-2.0 */
/* For docker-compose 1.27 and later, docker compose and podman-compose. The engine's name server answers with the
 * address of a node on the network both have; a node that comes back has another one, so names are resolved anew. */
#include <arpa/inet.h>

#include "export.h"

static void put_node(struct export_plan *plan, uint16_t node) {
    const char *name = export_name(plan, node);
    export_put(plan,
               "  \"%s\":\n"
               "    <<: *node\n"
               "    hostname: \"%s\"\n"
               "    command: [--topology, /etc/qnetd/topology.yaml, --node, \"%s\", --state, /var/lib/qnetd, --bind, "
               "0.0.0.0]\n"
               "    volumes:\n"
               "      - ./topology.yaml:/etc/qnetd/topology.yaml:ro\n"
               "      - ./nodes/%s:/var/lib/qnetd\n",
               name, name, name, name);
    const char *head = "    networks:\n";
    for (const struct export_wire *wire = plan->wires; wire < plan->wires + plan->n_wires; wire++) {
        if (!export_touches(wire, node)) continue;
        export_put(plan, "%s      - \"%s.%s\"\n", head, export_name(plan, wire->a), export_name(plan, wire->b));
        head = "";
    }
    if (*head != '\0') export_put(plan, "    network_mode: none\n"); /* No neighbours. */
}

void export_compose(struct export_plan *plan) {
    export_put(plan,
               "# Network %s: a container a node, a network a pair of neighbours. Made by `qnetctl topology export`.\n"
               "#   docker-compose -f compose.yaml up -d && docker-compose -f compose.yaml exec %s qnetctl status\n"
               "# The files in nodes/ belong to the user below; with a rootless engine set QNETD_USER=0:0.\n"
               "x-node: &node\n"
               "  image: ${QNETD_IMAGE:-%s}\n"
               "  user: ${QNETD_USER:-%u:%u}\n"
               "  read_only: true\n"
               "  cap_drop: [ALL]\n"
               "  security_opt: [\"no-new-privileges:true\"]\n"
               "  pids_limit: 64\n"
               "  restart: unless-stopped\n"
               "  stop_grace_period: 10s\n"
               "  healthcheck:\n"
               "    test: [CMD, qnetctl, health, --quiet]\n"
               "    interval: 2s\n"
               "    timeout: 5s\n"
               "    retries: 10\n"
               "\n"
               "services:\n",
               plan->topology->name, export_name(plan, 0), plan->image, plan->user, plan->group);
    for (size_t i = 0; i < plan->topology->n_nodes; i++) put_node(plan, (uint16_t)i);
    if (plan->n_wires > 0) export_put(plan, "\nnetworks:\n");
    for (const struct export_wire *wire = plan->wires; wire < plan->wires + plan->n_wires; wire++) {
        struct in_addr network = {.s_addr = htonl(wire->network)};
        char text[INET_ADDRSTRLEN];
        inet_ntop(AF_INET, &network, text, sizeof text);
        export_put(plan, "  \"%s.%s\": {internal: true, ipam: {config: [{subnet: %s/29}]}}\n",
                   export_name(plan, wire->a), export_name(plan, wire->b), text);
    }
}
