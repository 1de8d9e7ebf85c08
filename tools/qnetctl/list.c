/* SPDX-License-Identifier: Apache-2.0 */
/* nodes, links, pairs, keys: what the nodes list. With several nodes their lists are shown as one. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "table.h"
#include "target.h"

struct listing {
    const struct ctl *ctl;
    const struct targets *targets;
    struct table table;
    json_t *rows;
    void (*add)(struct listing *listing, const struct target *target, const Qnet__V1__ControlResponse *response);
    void (*finish)(struct listing *listing); /* NULL: rows are added as they come. */
    struct link_view *links;                 /* Owned. */
    size_t n_links;
};

static const ProtobufCMessage *body_of(const Qnet__V1__ControlResponse *response) {
    return response->body_case == QNET__V1__CONTROL_RESPONSE__BODY__NOT_SET
               ? NULL
               : &response->status->base; /* Any member: all are messages. */
}

static int take_row(void *context, const struct target *target, const Qnet__V1__ControlResponse *response) {
    struct listing *listing = context;
    const ProtobufCMessage *body = body_of(response);
    if (body == NULL) return 0;
    if (listing->ctl->json)
        json_array_append_new(listing->rows, body_to_json(target, body));
    else
        listing->add(listing, target, response);
    return 0;
}

static int run_list(struct ctl *ctl, Qnet__V1__ListKind kind, const char *const *titles, const char *name,
                    const char *if_empty, struct listing *listing) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__ListRequest body = QNET__V1__LIST_REQUEST__INIT;
    struct targets targets;
    int status = targets_find(ctl, &targets);
    if (status != STATUS_OK) return status;
    body.kind = kind;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_LIST;
    request.list = &body;
    listing->ctl = ctl;
    listing->targets = &targets;
    listing->rows = json_array();
    table_init(&listing->table, titles);
    json_t *failed = json_array();
    status = targets_ask_all(ctl, &targets, &request, PATIENCE_SHORT, take_row, listing, failed);
    if (listing->finish != NULL && !ctl->json) listing->finish(listing);
    int printed = STATUS_OK;
    if (!ctl->json && (status == STATUS_OK || listing->table.n_cells > 0))
        printed = table_print(&listing->table, ctl, if_empty);
    else if (ctl->json && (status == STATUS_OK || targets.is_many)) {
        json_t *object = json_pack("{s:O}", name, listing->rows);
        if (json_array_size(failed) > 0) json_object_set(object, "failed", failed);
        printed = ctl_json(ctl, object);
    }
    json_decref(failed);
    json_decref(listing->rows);
    table_release(&listing->table);
    free(listing->links);
    targets_release(&targets);
    return status != STATUS_OK ? status : printed;
}

static void add_up(struct table *table, bool up) {
    table_add(table, "%s", up ? "up" : "down");
    table_paint(table, up ? COLOUR_GREEN : COLOUR_RED);
}

/* ---- nodes ---- */

/* Of many nodes each shows its neighbours; one node shows all it knows. */
static void add_node(struct listing *listing, const struct target *target, const Qnet__V1__ControlResponse *response) {
    struct table *table = &listing->table;
    if (response->body_case != QNET__V1__CONTROL_RESPONSE__BODY_PEER) return;
    const Qnet__V1__PeerInfo *peer = response->peer;
    if (listing->targets->is_many && !peer->neighbour) return;
    table_add(table, "%s", target->node[0] != '\0' ? target->node : "-");
    table_add(table, "%s", peer->name);
    table_add(table, "%s", peer->role);
    if (peer->neighbour) {
        add_up(table, peer->classical_up);
        add_up(table, peer->quantum_up);
    } else {
        table_add(table, "-");
        table_add(table, "-");
    }
    table_add(table, "%s", peer->rtt_ns > 0 ? text_duration((double)peer->rtt_ns * 1e-9) : "-");
    table_add(table, "%" PRIu64, peer->sent_frames);
    table_add(table, "%" PRIu64, peer->received_frames);
    table_add(table, peer->protocol > 0 ? "%" PRIu32 : "-", peer->protocol);
}

int run_nodes(struct ctl *ctl, const struct args *args) {
    static const char *const titles[] = {"SEEN BY", "NODE",  "ROLE",      "CLASSICAL", "QUANTUM",
                                         ">RTT",    ">SENT", ">RECEIVED", ">PROTOCOL", NULL};
    struct listing listing = {.add = add_node};
    (void)args;
    return run_list(ctl, QNET__V1__LIST_KIND__LIST_KIND_NODES, titles, "nodes", "no nodes", &listing);
}

/* ---- links ---- */

struct link_view { /* One link, as all that know it see it. */
    char name[64], kind[32], ends[192];
    bool up, cut_classical, cut_quantum;
    double length_km, probability, cycle_s, fidelity, qber, eve;
    uint64_t pairs, secret_bits, delay_ns;
};

static struct link_view *find_link(struct listing *listing, const Qnet__V1__LinkInfo *info) {
    for (size_t i = 0; i < listing->n_links; i++)
        if (strcmp(listing->links[i].name, info->name) == 0) return &listing->links[i];
    struct link_view *links = realloc(listing->links, (listing->n_links + 1) * sizeof *links);
    if (links == NULL) return NULL;
    listing->links = links;
    struct link_view *view = &links[listing->n_links++];
    *view = (struct link_view){.up = true,
                               .length_km = info->length_km,
                               .probability = info->success_probability,
                               .cycle_s = info->cycle_s,
                               .fidelity = info->fidelity,
                               .qber = -1};
    snprintf(view->name, sizeof view->name, "%s", info->name);
    snprintf(view->kind, sizeof view->kind, "%s", info->kind);
    snprintf(view->ends, sizeof view->ends, "%s%s%s-%s", info->a, info->via[0] != '\0' ? "-" : "", info->via, info->b);
    return view;
}

static void add_link(struct listing *listing, const struct target *target, const Qnet__V1__ControlResponse *response) {
    (void)target;
    if (response->body_case != QNET__V1__CONTROL_RESPONSE__BODY_LINK) return;
    const Qnet__V1__LinkInfo *info = response->link;
    struct link_view *view = find_link(listing, info);
    if (view == NULL) {
        listing->table.failed = true;
        return;
    }
    view->up = view->up && info->up; /* Up is what all call up. */
    view->cut_classical = view->cut_classical || info->cut_classical;
    view->cut_quantum = view->cut_quantum || info->cut_quantum;
    if (info->pairs > view->pairs) view->pairs = info->pairs;
    if (info->secret_bits > view->secret_bits) view->secret_bits = info->secret_bits;
    if (info->qber > view->qber) view->qber = info->qber;
    if (info->eve > view->eve) view->eve = info->eve;
    if (info->extra_delay_ns > view->delay_ns) view->delay_ns = info->extra_delay_ns;
}

static void describe_faults(const struct link_view *view, char *text, size_t size) {
    char delay[64] = "", eve[32] = "";
    const char *cut = view->cut_classical && view->cut_quantum ? "cut"
                      : view->cut_classical                    ? "classical cut"
                      : view->cut_quantum                      ? "quantum cut"
                                                               : "";
    if (view->delay_ns > 0)
        snprintf(delay, sizeof delay, "%s+%s", *cut ? ", " : "", text_duration((double)view->delay_ns * 1e-9));
    if (view->eve > 0) snprintf(eve, sizeof eve, "%seve %g", *cut || delay[0] ? ", " : "", view->eve);
    snprintf(text, size, "%s%s%s", cut, delay, eve);
    if (text[0] == '\0') snprintf(text, size, "-");
}

static void finish_links(struct listing *listing) {
    struct table *table = &listing->table;
    char faults[128];
    for (size_t i = 0; i < listing->n_links; i++) {
        const struct link_view *view = &listing->links[i];
        double rate = view->cycle_s > 0 ? view->probability / view->cycle_s : 0;
        table_add(table, "%s", view->name);
        table_add(table, "%s", view->kind);
        table_add(table, "%s", view->ends);
        add_up(table, view->up);
        table_add(table, "%g km", view->length_km);
        if (rate > 0)
            table_add(table, "%.4g/s", rate);
        else
            table_add(table, "-");
        if (view->fidelity > 0)
            table_add(table, "%.4f", view->fidelity);
        else
            table_add(table, "-");
        table_add(table, "%" PRIu64, view->pairs);
        if (view->qber >= 0)
            table_add(table, "%.2f%%", view->qber * 100);
        else
            table_add(table, "-");
        table_add(table, "%" PRIu64, view->secret_bits);
        describe_faults(view, faults, sizeof faults);
        table_add(table, "%s", faults);
        if (faults[0] != '-') table_paint(table, COLOUR_YELLOW);
    }
}

int run_links(struct ctl *ctl, const struct args *args) {
    static const char *const titles[] = {"LINK",      "KIND",   "ENDS",  "STATE",        ">LENGTH", ">RATE",
                                         ">FIDELITY", ">PAIRS", ">QBER", ">SECRET BITS", "FAULTS",  NULL};
    struct listing listing = {.add = add_link, .finish = finish_links};
    (void)args;
    return run_list(ctl, QNET__V1__LIST_KIND__LIST_KIND_LINKS, titles, "links", "no links", &listing);
}

/* ---- pairs ---- */

static void add_pair(struct listing *listing, const struct target *target, const Qnet__V1__ControlResponse *response) {
    struct table *table = &listing->table;
    if (response->body_case != QNET__V1__CONTROL_RESPONSE__BODY_PAIR) return;
    const Qnet__V1__PairInfo *pair = response->pair;
    table_add(table, "%s", target->node[0] != '\0' ? target->node : "-");
    table_add(table, "0x%" PRIx64, pair->qubit);
    table_add(table, "%s", pair->peer);
    table_add(table, "%s", pair->link[0] != '\0' ? pair->link : "-");
    table_add(table, "%" PRIu64, pair->sequence);
    table_add(table, "%s", pair->state);
    table_add(table, "%.4f", pair->fidelity);
    table_add(table, "%s", text_duration((double)pair->age_ns * 1e-9));
}

int run_pairs(struct ctl *ctl, const struct args *args) {
    static const char *const titles[] = {"NODE", "QUBIT", "PEER", "LINK", ">PAIR", "STATE", ">FIDELITY", ">AGE", NULL};
    struct listing listing = {.add = add_pair};
    (void)args;
    return run_list(ctl, QNET__V1__LIST_KIND__LIST_KIND_PAIRS, titles, "pairs",
                    "no pairs; make some: qnetctl request-pair PEER", &listing);
}

/* ---- keys ---- */

static void add_hex(struct table *table, const ProtobufCBinaryData *bytes) {
    char text[65] = "";
    for (size_t i = 0; i < bytes->len && i < 32; i++) snprintf(text + 2 * i, 3, "%02x", bytes->data[i]);
    table_add(table, "%s", text);
}

static void add_key(struct listing *listing, const struct target *target, const Qnet__V1__ControlResponse *response) {
    struct table *table = &listing->table;
    if (response->body_case != QNET__V1__CONTROL_RESPONSE__BODY_KEY) return;
    const Qnet__V1__KeyInfo *key = response->key;
    table_add(table, "%s", target->node[0] != '\0' ? target->node : "-");
    add_hex(table, &key->id);
    table_add(table, "%s", key->peer);
    table_add(table, "%s", key->state);
    table_add(table, "%" PRIu32, key->bits);
    table_add(table, "%.2f%%", key->qber * 100);
    table_add(table, "%.3f s", (double)key->made_ns * 1e-9);
    add_hex(table, &key->check);
}

int run_keys(struct ctl *ctl, const struct args *args) {
    static const char *const titles[] = {"NODE", "ID", "WITH", "STATE", ">BITS", ">QBER", ">MADE AT", "CHECK", NULL};
    struct listing listing = {.add = add_key};
    (void)args;
    return run_list(ctl, QNET__V1__LIST_KIND__LIST_KIND_KEYS, titles, "keys", "no keys; make some: qnetctl bb84 PEER",
                    &listing);
}

static int take_key(void *context, const struct target *target, const Qnet__V1__ControlResponse *response) {
    const struct ctl *ctl = context;
    if (response->body_case != QNET__V1__CONTROL_RESPONSE__BODY_KEY) return 0;
    if (ctl->json) return ctl_json(ctl, body_to_json(target, &response->key->base));
    const ProtobufCBinaryData *material = &response->key->material;
    for (size_t i = 0; i < material->len; i++) printf("%02x", material->data[i]);
    putchar('\n');
    return 0;
}

/* An id in hexadecimal, dashes allowed. */
static bool parse_id(const char *text, uint8_t *id, size_t size, size_t *ret_len) {
    size_t digits = 0;
    for (; *text != '\0'; text++) {
        char pair[2] = {*text, '\0'}, *end;
        if (*text == '-') continue;
        unsigned long digit = strtoul(pair, &end, 16);
        if (end == pair || digits / 2 == size) return false;
        if (digits % 2 == 0)
            id[digits / 2] = (uint8_t)(digit << 4);
        else
            id[digits / 2] = (uint8_t)(id[digits / 2] | digit);
        digits++;
    }
    *ret_len = digits / 2;
    return digits > 0 && digits % 2 == 0;
}

int run_keys_take(struct ctl *ctl, const struct args *args) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__KeyTakeRequest body = QNET__V1__KEY_TAKE_REQUEST__INIT;
    struct targets targets;
    uint8_t id[32];
    if (!parse_id(args->operands[0], id, sizeof id, &body.key_id.len))
        return ctl_usage(ctl, "\"%s\" is no key id; valid: hexadecimal digits, as qnetctl keys shows them",
                         args->operands[0]);
    body.key_id.data = id;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_KEY_TAKE;
    request.key_take = &body;
    int status = targets_find_one(ctl, &targets);
    if (status != STATUS_OK) return status;
    status = target_call(ctl, &targets.list[0], &request, PATIENCE_SHORT, take_key, ctl);
    targets_release(&targets);
    return status;
}
