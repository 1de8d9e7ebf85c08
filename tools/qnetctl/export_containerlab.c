/* SPDX-License-Identifier: Apache-2.0 */
/* For containerlab 0.59 and later. The image has no `ip`, so the host gives the links' ends their addresses; names come
 * from a hosts file a node, so that they lead over the links and not over the management network. */
#include "export.h"

static void put_addresses(struct export_plan *plan, uint16_t node) {
    const char *head = "      stages:\n        create-links:\n          exec:\n";
    char address[16];
    for (const struct export_wire *wire = plan->wires; wire < plan->wires + plan->n_wires; wire++) {
        if (!export_touches(wire, node)) continue;
        export_address(wire, node, address);
        export_put(
            plan,
            "%s            - {target: host, phase: on-exit, command: ip -n clab-%s-%s address add %s/29 dev eth%u}\n",
            head, plan->topology->name, export_name(plan, node), address, export_interface(plan, node, wire));
        head = "";
    }
}

static void put_node(struct export_plan *plan, uint16_t node) {
    const char *name = export_name(plan, node);
    export_put(plan,
               "    \"%s\":\n"
               "      cmd: --topology /etc/qnetd/topology.yaml --node %s --state /var/lib/qnetd --bind 0.0.0.0\n"
               "      binds:\n"
               "        - topology.yaml:/etc/qnetd/topology.yaml:ro\n"
               "        - nodes/%s:/var/lib/qnetd\n"
               "        - nodes/%s.hosts:/etc/hosts:ro\n",
               name, name, name, name);
    put_addresses(plan, node);
}

void export_containerlab(struct export_plan *plan) {
    export_put(plan,
               "# yaml-language-server: $schema=https://raw.githubusercontent.com/srl-labs/containerlab/main/schemas/"
               "clab.schema.json\n"
               "# Network %s: a container a node, a link a pair of neighbours. Made by `qnetctl topology export`.\n"
               "#   containerlab deploy --topo lab.clab.yml && docker exec clab-%s-%s qnetctl status\n"
               "# The files in nodes/ belong to the user below.\n"
               "name: \"%s\"\n"
               "topology:\n"
               "  defaults:\n"
               "    kind: linux\n"
               "    image: %s\n"
               "    user: \"%u:%u\"\n"
               "    restart-policy: always\n"
               "    healthcheck: {test: [CMD, qnetctl, health, --quiet], interval: 2, timeout: 5, retries: 10}\n"
               "  nodes:\n",
               plan->topology->name, plan->topology->name, export_name(plan, 0), plan->topology->name, plan->image,
               plan->user, plan->group);
    for (size_t i = 0; i < plan->topology->n_nodes; i++) put_node(plan, (uint16_t)i);
    if (plan->n_wires > 0) export_put(plan, "  links:\n");
    for (const struct export_wire *wire = plan->wires; wire < plan->wires + plan->n_wires; wire++)
        export_put(plan, "    - endpoints: [\"%s:eth%u\", \"%s:eth%u\"]\n", export_name(plan, wire->a),
                   export_interface(plan, wire->a, wire), export_name(plan, wire->b),
                   export_interface(plan, wire->b, wire));
}
