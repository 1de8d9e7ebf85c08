/* SPDX-License-Identifier: Apache-2.0 */
/* A shell script for root: a network namespace a node, a pair of virtual Ethernet interfaces a pair of neighbours, the
 * daemons inside. What it makes it removes again, and it touches nothing else. */
#include <string.h>

#include "export.h"
#include "lab_sh.h"

#define INTERFACE_MAX 15

/* "to-bob", or "to-17" where that would be too long. */
static void put_interface(struct export_plan *plan, uint16_t peer) {
    const char *name = export_name(plan, peer);
    if (strlen(name) + 3 <= INTERFACE_MAX)
        export_put(plan, "to-%s", name);
    else
        export_put(plan, "to-%u", peer);
}

static void put_wires(struct export_plan *plan) {
    char addresses[2][16];
    export_put(plan, "# node, node, their addresses, their interfaces\nwires() {\n    cat <<'END'\n");
    for (const struct export_wire *wire = plan->wires; wire < plan->wires + plan->n_wires; wire++) {
        export_address(wire, wire->a, addresses[0]);
        export_address(wire, wire->b, addresses[1]);
        export_put(plan, "%s %s %s %s ", export_name(plan, wire->a), export_name(plan, wire->b), addresses[0],
                   addresses[1]);
        put_interface(plan, wire->b);
        export_put(plan, " ");
        put_interface(plan, wire->a);
        export_put(plan, "\n");
    }
    export_put(plan, "END\n}\n\n");
}

void export_netns(struct export_plan *plan) {
    export_put(
        plan,
        "#!/bin/sh\n"
        "# SPDX-License-Identifier: Apache-2.0\n"
        "# Network %s in network namespaces, as root: a namespace a node, a veth a pair of neighbours.\n"
        "#   lab.sh up | down | status    start everything and wait until it is ready; stop and remove it; how it is\n"
        "#   lab.sh cut A B | mend A B    take the interfaces between two neighbours down, and up again\n"
        "#   lab.sh slow A B RATE         let at most RATE through (1mbit); RATE off: as much as there is\n"
        "#   lab.sh kill NODE | start NODE\n"
        "#   lab.sh ctl NODE COMMAND...   qnetctl COMMAND at the node\n"
        "#   lab.sh exec NODE COMMAND...  run a command in its namespace\n"
        "# Environment: QNETD, QNETCTL (programs), QNETD_USER (whom the daemons run as; nobody; empty: root)\n"
        "# Made by `qnetctl topology export`. Keys made while it is up go with it.\n"
        "set -eu\n"
        "here=$(cd \"$(dirname \"$0\")\" && pwd)\n"
        "qnetd=${QNETD:-qnetd} qnetctl=${QNETCTL:-qnetctl} user=${QNETD_USER-nobody}\n"
        "prefix=\"qnetd-%s\"\n"
        "run=\"/run/$prefix\"\n"
        "nodes=\"",
        plan->topology->name, plan->topology->name);
    for (size_t i = 0; i < plan->topology->n_nodes; i++)
        export_put(plan, "%s%s", i == 0 ? "" : " ", export_name(plan, (uint16_t)i));
    export_put(plan, "\"\n\n");
    put_wires(plan);
    export_put(plan, "%s", lab_sh); /* lab.sh without the comment on top. */
}
