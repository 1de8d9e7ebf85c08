/* SPDX-License-Identifier: Apache-2.0 */
/* A StatefulSet a node, whose headless Service also answers for a pod that is not ready: peers must find each other
 * first to become so. A NetworkPolicy lets in neighbours only, as a fibre would. Secrets and the topology are made by
 * kustomize from the files beside it, so that no private key is in a manifest. */
#include "export.h"

static void put_service(struct export_plan *plan, const char *name) {
    export_put(plan,
               "---\n"
               "apiVersion: v1\n"
               "kind: Service\n"
               "metadata:\n"
               "  name: qnetd-%s\n"
               "  labels: {app.kubernetes.io/name: qnetd, app.kubernetes.io/part-of: \"%s\", qnetd/node: \"%s\"}\n"
               "spec:\n"
               "  clusterIP: None\n"
               "  publishNotReadyAddresses: true\n"
               "  selector: {app.kubernetes.io/part-of: \"%s\", qnetd/node: \"%s\"}\n"
               "  ports:\n"
               "    - {name: classical, port: %d}\n"
               "    - {name: quantum, port: %d}\n"
               "    - {name: operations, port: %d}\n",
               name, plan->topology->name, name, plan->topology->name, name, EXPORT_PORT_CLASSICAL, EXPORT_PORT_QUANTUM,
               EXPORT_PORT_OPERATIONS);
}

static void put_mounts(struct export_plan *plan, uint16_t node) {
    export_put(plan, "          volumeMounts:\n"
                     "            - {name: topology, mountPath: /etc/qnetd, readOnly: true}\n"
                     "            - {name: secrets, mountPath: /run/secrets/qnetd, readOnly: true}\n"
                     "            - {name: state, mountPath: /var/lib/qnetd}\n");
    for (size_t i = 0; i < plan->secrets.len; i++) {
        uint16_t other = export_secret_peer(&plan->secrets.list[i], node);
        if (other == QN_NO_NODE) continue;
        const char *peer = export_name(plan, other);
        export_put(plan,
                   "            - {name: secrets, mountPath: \"/var/lib/qnetd/initial/%s\", subPath: \"initial.%s\", "
                   "readOnly: "
                   "true}\n",
                   peer, peer);
    }
}

static void put_container(struct export_plan *plan, const char *name) {
    export_put(
        plan,
        "        - name: qnetd\n"
        "          image: %s\n"
        "          args: [--topology, /etc/qnetd/topology.yaml, --node, \"%s\", --state, /var/lib/qnetd, --identity,\n"
        "                 /run/secrets/qnetd/identity.key, --bind, 0.0.0.0, --log-format, json]\n"
        "          ports:\n"
        "            - {name: classical, containerPort: %d}\n"
        "            - {name: quantum, containerPort: %d}\n"
        "            - {name: operations, containerPort: %d}\n"
        "          startupProbe: {httpGet: {path: /livez, port: operations}, periodSeconds: 1, failureThreshold: 30}\n"
        "          livenessProbe: {httpGet: {path: /livez, port: operations}, periodSeconds: 10}\n"
        "          readinessProbe: {httpGet: {path: /readyz, port: operations}, periodSeconds: 2}\n"
        "          securityContext:\n"
        "            allowPrivilegeEscalation: false\n"
        "            readOnlyRootFilesystem: true\n"
        "            capabilities: {drop: [ALL]}\n"
        "          resources:\n"
        "            requests: {cpu: 50m, memory: 32Mi}\n"
        "            limits: {memory: 512Mi}\n",
        plan->image, name, EXPORT_PORT_CLASSICAL, EXPORT_PORT_QUANTUM, EXPORT_PORT_OPERATIONS);
}

static void put_set(struct export_plan *plan, uint16_t node) {
    const char *name = export_name(plan, node), *network = plan->topology->name;
    export_put(plan,
               "---\n"
               "apiVersion: apps/v1\n"
               "kind: StatefulSet\n"
               "metadata:\n"
               "  name: qnetd-%s\n"
               "  labels: {app.kubernetes.io/name: qnetd, app.kubernetes.io/part-of: \"%s\", qnetd/node: \"%s\"}\n"
               "spec:\n"
               "  serviceName: qnetd-%s\n"
               "  replicas: 1\n"
               "  podManagementPolicy: Parallel\n"
               "  selector: {matchLabels: {app.kubernetes.io/part-of: \"%s\", qnetd/node: \"%s\"}}\n"
               "  template:\n"
               "    metadata:\n"
               "      labels: {app.kubernetes.io/name: qnetd, app.kubernetes.io/part-of: \"%s\", qnetd/node: \"%s\"}\n"
               "      annotations: {prometheus.io/scrape: \"true\", prometheus.io/port: \"%d\"}\n"
               "    spec:\n"
               "      automountServiceAccountToken: false\n"
               "      enableServiceLinks: false\n"
               "      terminationGracePeriodSeconds: 15\n"
               "      securityContext:\n"
               "        runAsNonRoot: true\n"
               "        runAsUser: %d\n"
               "        runAsGroup: %d\n"
               "        fsGroup: %d\n"
               "        seccompProfile: {type: RuntimeDefault}\n"
               "      containers:\n",
               name, network, name, name, network, name, network, name, EXPORT_PORT_OPERATIONS, EXPORT_USER,
               EXPORT_USER, EXPORT_USER);
    put_container(plan, name);
    put_mounts(plan, node);
    export_put(plan,
               "      volumes:\n"
               "        - {name: topology, configMap: {name: qnetd-topology}}\n"
               "        - {name: secrets, secret: {secretName: qnetd-%s, defaultMode: 0400}}\n"
               "  volumeClaimTemplates:\n"
               "    - metadata: {name: state}\n"
               "      spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 256Mi}}}\n",
               name);
}

static void put_policy(struct export_plan *plan, uint16_t node) {
    const char *name = export_name(plan, node), *network = plan->topology->name, *head = "    - from:\n";
    export_put(plan,
               "---\n"
               "apiVersion: networking.k8s.io/v1\n"
               "kind: NetworkPolicy\n"
               "metadata: {name: qnetd-%s}\n"
               "spec:\n"
               "  podSelector: {matchLabels: {app.kubernetes.io/part-of: \"%s\", qnetd/node: \"%s\"}}\n"
               "  policyTypes: [Ingress]\n"
               "  ingress:\n"
               "    - ports: [{port: operations}]\n",
               name, network, name);
    for (const struct export_wire *wire = plan->wires; wire < plan->wires + plan->n_wires; wire++) {
        if (!export_touches(wire, node)) continue;
        export_put(plan,
                   "%s        - podSelector: {matchLabels: {app.kubernetes.io/part-of: \"%s\", qnetd/node: \"%s\"}}\n",
                   head, network, export_name(plan, export_peer(wire, node)));
        head = "";
    }
    if (*head == '\0') export_put(plan, "      ports: [{port: classical}, {port: quantum}]\n");
}

void export_kubernetes(struct export_plan *plan) {
    export_put(plan,
               "# Network %s: a StatefulSet, a Service and a NetworkPolicy a node. Made by `qnetctl topology export`.\n"
               "#   kubectl apply -k FOLDER && kubectl exec qnetd-%s-0 -- qnetctl status\n",
               plan->topology->name, export_name(plan, 0));
    for (size_t i = 0; i < plan->topology->n_nodes; i++) {
        put_service(plan, export_name(plan, (uint16_t)i));
        put_set(plan, (uint16_t)i);
        put_policy(plan, (uint16_t)i);
    }
}

void export_kustomization(struct export_plan *plan) {
    export_put(plan,
               "# Network %s. Made by `qnetctl topology export`; use it with kubectl apply -k.\n"
               "apiVersion: kustomize.config.k8s.io/v1beta1\n"
               "kind: Kustomization\n"
               "resources: [nodes.yaml]\n"
               "configMapGenerator:\n"
               "  - {name: qnetd-topology, files: [topology.yaml]}\n"
               "secretGenerator:\n",
               plan->topology->name);
    for (size_t i = 0; i < plan->topology->n_nodes; i++) {
        uint16_t node = (uint16_t)i;
        const char *name = export_name(plan, node);
        export_put(plan, "  - name: qnetd-%s\n    files:\n      - identity.key=nodes/%s/identity.key\n", name, name);
        for (size_t k = 0; k < plan->secrets.len; k++) {
            uint16_t other = export_secret_peer(&plan->secrets.list[k], node);
            if (other == QN_NO_NODE) continue;
            const char *peer = export_name(plan, other);
            export_put(plan, "      - initial.%s=nodes/%s/initial/%s\n", peer, name, peer);
        }
    }
}
