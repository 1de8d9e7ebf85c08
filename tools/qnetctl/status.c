/* SPDX-License-Identifier: Apache-2.0 */
/* status, health, version: how the nodes are. */
#include <inttypes.h>
#include <string.h>

#include "command.h"
#include "table.h"
#include "target.h"

static Qnet__V1__ControlRequest status_request(Qnet__V1__StatusRequest *body) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    qnet__v1__status_request__init(body);
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_STATUS;
    request.status = body;
    return request;
}

static double wall_s(const Qnet__V1__StatusInfo *info, uint64_t emulated_ns) {
    return (double)emulated_ns * 1e-9 / (info->time_scale > 0 ? info->time_scale : 1);
}

/* ---- one node ---- */

static int print_peers(const struct ctl *ctl, const Qnet__V1__StatusInfo *info) {
    static const char *const titles[] = {"PEER",    "ROLE",      "CLASSICAL", "QUANTUM", ">RTT",
                                         ">QUEUED", ">PROTOCOL", "SOFTWARE",  NULL};
    struct table table;
    table_init(&table, titles);
    for (size_t i = 0; i < info->n_peers; i++) {
        const Qnet__V1__PeerInfo *peer = info->peers[i];
        table_add(&table, "%s", peer->name);
        table_add(&table, "%s", peer->role);
        table_add(&table, "%s", peer->classical_up ? "up" : "down");
        table_paint(&table, peer->classical_up ? COLOUR_GREEN : COLOUR_RED);
        table_add(&table, "%s", peer->quantum_up ? "up" : "down");
        table_paint(&table, peer->quantum_up ? COLOUR_GREEN : COLOUR_RED);
        table_add(&table, "%s", peer->rtt_ns > 0 ? text_duration((double)peer->rtt_ns * 1e-9) : "-");
        table_add(&table, "%" PRIu64 " B", peer->queued_bytes);
        table_add(&table, peer->protocol > 0 ? "%" PRIu32 : "-", peer->protocol);
        table_add(&table, "%s", peer->software);
    }
    return table_print(&table, ctl, "no neighbours");
}

static int print_one(const struct ctl *ctl, const Qnet__V1__StatusInfo *info) {
    enum colour colour = info->ready ? COLOUR_GREEN : COLOUR_YELLOW;
    printf("%s%s%s is a %s of network %s: %s%s%s%s%s\n", colour_start(ctl->out_colour, COLOUR_BOLD),
           text_clean(info->node), colour_end(ctl->out_colour, COLOUR_BOLD), text_clean(info->role),
           text_clean(info->network), colour_start(ctl->out_colour, colour), info->ready ? "ready" : "not ready",
           colour_end(ctl->out_colour, colour), info->ready ? "" : ": ",
           info->ready ? "" : text_clean(info->not_ready_because));
    printf("  software  %s, up for %s\n", text_clean(info->software), text_duration(wall_s(info, info->uptime_ns)));
    if (*info->sandbox != '\0') printf("  sandbox   %s\n", text_clean(info->sandbox));
    printf("  time      %.6f s emulated, %g emulated seconds a second\n", (double)info->now_ns * 1e-9,
           info->time_scale);
    printf("  memories  %" PRIu32 " of %" PRIu32 " in use, %" PRIu32 " pairs, keeps %" PRIu32 " joint states\n",
           info->memories_used, info->memories_total, info->pairs, info->hosted_groups);
    printf("  keys      %" PRIu32 " (%" PRIu64 " bits)\n", info->keys, info->key_bits);
    printf("  requests  %" PRIu32 " open\n\n", info->requests);
    return print_peers(ctl, info);
}

/* ---- many ---- */

struct collect {
    const struct ctl *ctl;
    struct table table;
    json_t *nodes;
    bool is_many;
    bool ready;
    char why[160];
};

static void add_row(struct table *table, const Qnet__V1__StatusInfo *info) {
    size_t up = 0;
    for (size_t i = 0; i < info->n_peers; i++) up += info->peers[i]->classical_up && info->peers[i]->quantum_up;
    table_add(table, "%s", info->node);
    table_add(table, "%s", info->role);
    table_add(table, "%s%s%s", info->ready ? "ready" : "waiting", info->ready ? "" : ": ",
              info->ready ? "" : info->not_ready_because);
    table_paint(table, info->ready ? COLOUR_GREEN : COLOUR_YELLOW);
    table_add(table, "%zu/%zu", up, info->n_peers);
    table_add(table, "%" PRIu32 "/%" PRIu32, info->memories_used, info->memories_total);
    table_add(table, "%" PRIu32, info->pairs);
    table_add(table, "%" PRIu32, info->keys);
    table_add(table, "%" PRIu32, info->requests);
    table_add(table, "%s", text_duration(wall_s(info, info->uptime_ns)));
}

static void add_silent(struct table *table, const struct target *target) {
    table_add(table, "%s", target_name(target));
    table_add(table, "-");
    table_add(table, "no answer");
    table_paint(table, COLOUR_RED);
    for (int i = 0; i < 6; i++) table_add(table, "-");
}

static int take_status(void *context, const struct target *target, const Qnet__V1__ControlResponse *response) {
    struct collect *collect = context;
    if (response->body_case != QNET__V1__CONTROL_RESPONSE__BODY_STATUS) return 0;
    const Qnet__V1__StatusInfo *info = response->status;
    if (collect->ctl->json && !collect->is_many) return ctl_json(collect->ctl, body_to_json(target, &info->base));
    if (collect->ctl->json)
        json_array_append_new(collect->nodes, body_to_json(target, &info->base));
    else if (collect->is_many)
        add_row(&collect->table, info);
    else
        return print_one(collect->ctl, info);
    return 0;
}

static int print_many(const struct ctl *ctl, const struct targets *targets, struct collect *collect,
                      Qnet__V1__ControlRequest *request) {
    static const char *const titles[] = {"NODE",   "ROLE",  "STATE",     ">PEERS", ">MEMORIES",
                                         ">PAIRS", ">KEYS", ">REQUESTS", ">UP",    NULL};
    struct failure failure;
    int first = STATUS_OK;
    table_init(&collect->table, titles);
    collect->nodes = json_array();
    for (size_t i = 0; i < targets->len; i++) {
        int status = target_ask(ctl, &targets->list[i], request, PATIENCE_SHORT, take_status, collect, &failure);
        if (failure.status != STATUS_OK && ctl->json)
            json_array_append_new(collect->nodes, failure_to_json(&targets->list[i], &failure));
        else if (failure.status != STATUS_OK)
            add_silent(&collect->table, &targets->list[i]);
        if (first == STATUS_OK) first = status;
    }
    if (!ctl->json && targets->lab.name[0] != '\0')
        printf("lab %s, network %s\n\n", targets->lab.name, targets->topology.name);
    int status = ctl->json ? ctl_json(ctl, json_pack("{s:s,s:O}", "lab", targets->lab.name, "nodes", collect->nodes))
                           : table_print(&collect->table, ctl, "no nodes");
    table_release(&collect->table);
    json_decref(collect->nodes);
    return first != STATUS_OK ? first : status;
}

int run_status(struct ctl *ctl, const struct args *args) {
    Qnet__V1__StatusRequest body;
    Qnet__V1__ControlRequest request = status_request(&body);
    struct targets targets;
    (void)args;
    int status = targets_find(ctl, &targets);
    if (status != STATUS_OK) return status;
    struct collect collect = {.ctl = ctl, .is_many = targets.is_many};
    if (targets.is_many)
        status = print_many(ctl, &targets, &collect, &request);
    else
        status = target_call(ctl, &targets.list[0], &request, PATIENCE_SHORT, take_status, &collect);
    targets_release(&targets);
    return status;
}

/* ---- health ---- */

static int take_health(void *context, const struct target *target, const Qnet__V1__ControlResponse *response) {
    struct collect *collect = context;
    (void)target;
    if (response->body_case != QNET__V1__CONTROL_RESPONSE__BODY_STATUS) return 0;
    collect->ready = response->status->ready;
    snprintf(collect->why, sizeof collect->why, "%s", response->status->not_ready_because);
    return collect->ready ? STATUS_OK : STATUS_UNHEALTHY;
}

int run_health(struct ctl *ctl, const struct args *args) {
    Qnet__V1__StatusRequest body;
    Qnet__V1__ControlRequest request = status_request(&body);
    struct targets targets;
    struct failure failure;
    bool quiet = args_has(args, "quiet");
    int worst = STATUS_OK;
    int status = targets_find(ctl, &targets);
    if (status != STATUS_OK) return status;
    json_t *nodes = json_array();
    for (size_t i = 0; i < targets.len; i++) {
        struct collect collect = {.ctl = ctl};
        const char *name = target_name(&targets.list[i]);
        status = target_ask(ctl, &targets.list[i], &request, PATIENCE_SHORT, take_health, &collect, &failure);
        const char *why = failure.status != STATUS_OK ? failure.message : collect.why;
        if (ctl->json)
            json_array_append_new(
                nodes, json_pack("{s:s,s:b,s:s}", "node", name, "healthy", status == STATUS_OK, "because", why));
        else if (!quiet)
            printf("%s: %s%s%s\n", name, status == STATUS_OK ? "ready" : "not ready", status == STATUS_OK ? "" : ": ",
                   status == STATUS_OK ? "" : why);
        if (worst == STATUS_OK) worst = status;
    }
    if (ctl->json) ctl_json(ctl, json_pack("{s:b,s:O}", "healthy", worst == STATUS_OK, "nodes", nodes));
    json_decref(nodes);
    targets_release(&targets);
    return worst;
}

/* ---- version ---- */

static int take_version(void *context, const struct target *target, const Qnet__V1__ControlResponse *response) {
    struct collect *collect = context;
    if (response->body_case != QNET__V1__CONTROL_RESPONSE__BODY_VERSION) return 0;
    const Qnet__V1__VersionInfo *info = response->version;
    if (collect->ctl->json)
        json_array_append_new(collect->nodes, body_to_json(target, &info->base));
    else
        printf("%s: %s (%s), protocol %" PRIu32 " to %" PRIu32 "\n", target_name(target), text_clean(info->software),
               text_clean(info->build), info->protocol_min, info->protocol_max);
    return 0;
}

/* Our own; that of nodes only if some are named, since asking for a version must not fail for want of a daemon. */
int run_version(struct ctl *ctl, const struct args *args) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__VersionRequest body = QNET__V1__VERSION_REQUEST__INIT;
    struct collect collect = {.ctl = ctl};
    struct targets targets;
    int status = STATUS_OK;
    (void)args;
    if (!ctl->json) printf("qnetctl %s\n", QN_VERSION);
    collect.nodes = json_array();
    if (ctl->node != NULL || ctl->lab != NULL || ctl->socket != NULL) {
        status = targets_find(ctl, &targets);
        request.body_case = QNET__V1__CONTROL_REQUEST__BODY_VERSION;
        request.version = &body;
        if (status == STATUS_OK) {
            status = targets_ask_all(ctl, &targets, &request, PATIENCE_SHORT, take_version, &collect, NULL);
            targets_release(&targets);
        }
    }
    if (ctl->json)
        ctl_json(ctl, json_pack("{s:s,s:i,s:O}", "qnetctl", QN_VERSION, "json_version", 1, "nodes", collect.nodes));
    json_decref(collect.nodes);
    return status;
}
