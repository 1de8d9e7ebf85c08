/* SPDX-License-Identifier: Apache-2.0 */
/* A network of real nodes in one process, so that conversations get far: the input says what users ask for, which
 * message arrives next, when time passes, what is cut, who restarts; and it changes, repeats or replaces messages on
 * their way. A node must keep its own invariants whatever it is told, refuse what breaks the protocol, and leak
 * nothing. (What holds between nodes that tell the truth is for tests/chaos and the hosting target.) */
#include <sodium.h>

#include "base/err.h"
#include "fuzz.h"
#include "node/node.h"
#include "node/store.h"
#include "qnet/v1/control.pb-c.h"
#include "qnet/v1/envelope.pb-c.h"

static const char text[] = "version: 1\n"
                           "network: fuzz\n"
                           "defaults:\n"
                           "  node: {cutoff: 5ms}\n"
                           "  link: {length: 1km, loss: 0dB/km}\n"
                           "nodes:\n"
                           "  alice: {role: memory, memories: 4}\n"
                           "  r1: {role: repeater, memories: 4}\n"
                           "  bob: {role: memory, memories: 4}\n"
                           "  spdc: {role: source, source: pairs, clock: 1MHz}\n"
                           "  laser: {role: source, source: single-photon, clock: 1MHz}\n"
                           "links:\n"
                           "  alice-r1: {between: [alice, r1], model: ideal, fidelity: 0.95, probability: 50%}\n"
                           "  r1-bob: {between: [r1, bob], via: spdc, fidelity: 0.95, probability: 50%}\n"
                           "  laser-rx: {between: [laser, rx], kind: bb84}\n"
                           "  laser-alice: {between: [laser, alice], kind: classical}\n";
static const char receiver[] = "  rx: {role: detector, efficiency: 100%, dark_rate: 0Hz, gate_window: 1ns}\n";

enum { NODES = 6, QUEUE = 64, JOBS = 8, OPS = 64 };
static struct qn_topology topology;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    struct qn_buf diagnostics = {0}, yaml = {0};
    const char *links = strstr(text, "links:");
    FUZZ_CHECK(sodium_init() >= 0);
    FUZZ_CHECK(qn_buf_append(&yaml, text, (size_t)(links - text)) == 0 &&
               qn_buf_append(&yaml, receiver, strlen(receiver)) == 0 &&
               qn_buf_append(&yaml, links, strlen(links)) == 0);
    int rc = qn_topology_parse("fuzz.yaml", (const char *)yaml.data, yaml.len, &topology, &diagnostics);
    if (rc < 0) fprintf(stderr, "%.*s", (int)diagnostics.len, (const char *)diagnostics.data);
    FUZZ_CHECK(rc == 0 && topology.n_nodes == NODES);
    qn_buf_release(&diagnostics);
    qn_buf_release(&yaml);
    return 0;
}

struct message {
    uint8_t *bytes; /* Owned. */
    size_t len;
};

struct way { /* One direction of a session. */
    uint16_t from, to;
    enum qn_plane_id plane;
    bool up;
    struct message queue[QUEUE];
    size_t n;
};

struct world {
    struct fuzz_input in;
    struct fuzz_pool pool;
    struct qn_node *nodes[NODES];
    uint64_t lives[NODES], now_ns, clients;
    struct way ways[NODES * NODES * 2];
    size_t n_ways;
    struct qn_job *jobs[NODES][JOBS];
    size_t n_jobs[NODES];
    struct qn_store_op *ops[NODES][OPS];
    size_t n_ops[NODES];
};

static struct way *way_of(struct world *world, uint16_t from, uint16_t to, enum qn_plane_id plane) {
    for (size_t i = 0; i < world->n_ways; i++)
        if (world->ways[i].from == from && world->ways[i].to == to && world->ways[i].plane == plane)
            return &world->ways[i];
    return NULL;
}

static void clear(struct way *way) {
    for (size_t i = 0; i < way->n; i++) free(way->queue[i].bytes);
    way->n = 0;
}

static struct message first(struct way *way) {
    struct message message = way->queue[0];
    memmove(&way->queue[0], &way->queue[1], --way->n * sizeof way->queue[0]);
    return message;
}

static void add(struct way *way, const uint8_t *bytes, size_t len) {
    if (!way->up || way->n == QUEUE) return; /* Too slow a reader: what a channel carries comes again. */
    struct message message = {malloc(len + 1), len};
    FUZZ_CHECK(message.bytes != NULL);
    memcpy(message.bytes, bytes, len);
    way->queue[way->n++] = message;
}

static void set_session(struct world *world, uint16_t a, uint16_t b, enum qn_plane_id plane, bool up);

static int step(struct world *world, uint16_t node, struct qn_event event) {
    const struct qn_actions *actions;
    event.now_ns = world->now_ns;
    int rc = qn_node_step(world->nodes[node], &event, &actions);
    FUZZ_CHECK(rc == 0 || rc == -QN_EPROTOCOL);
    uint64_t cut[NODES];
    size_t n_cut = 0;
    for (size_t i = 0; i < actions->len; i++) {
        const struct qn_action *action = &actions->list[i];
        const uint8_t *bytes = qn_action_bytes(actions, action);
        switch (action->type) {
        case QN_ACTION_SEND:
            add(way_of(world, node, action->peer, action->plane), bytes, action->len);
            break;
        case QN_ACTION_REPLY:
            fuzz_pool_learn(&world->pool, &qnet__v1__control_response__descriptor, bytes, action->len);
            break;
        case QN_ACTION_JOB:
            if (world->n_jobs[node] == JOBS)
                action->job->free(action->job);
            else
                world->jobs[node][world->n_jobs[node]++] = action->job;
            break;
        case QN_ACTION_STORE:
            FUZZ_CHECK(world->n_ops[node] < OPS);
            world->ops[node][world->n_ops[node]++] = action->store;
            break;
        case QN_ACTION_CUT:
            if (action->on && n_cut < NODES) cut[n_cut++] = (uint64_t)action->plane << 16 | action->peer;
            break;
        case QN_ACTION_INCARNATION:
            world->lives[node] = action->incarnation;
            for (size_t k = 0; k < world->n_ways; k++)
                if ((world->ways[k].from == node || world->ways[k].to == node) && world->ways[k].up) {
                    world->ways[k].up = false;
                    clear(&world->ways[k]);
                }
            break;
        default:
            break;
        }
    }
    qn_node_check(world->nodes[node]);
    for (size_t i = 0; i < n_cut; i++)
        set_session(world, node, (uint16_t)cut[i], (enum qn_plane_id)(cut[i] >> 16), false);
    return rc;
}

static void set_session(struct world *world, uint16_t a, uint16_t b, enum qn_plane_id plane, bool up) {
    struct way *there = way_of(world, a, b, plane), *back = way_of(world, b, a, plane);
    const uint16_t ends[2] = {a, b};
    if (there == NULL || (there->up == up && back->up == up)) return;
    clear(there);
    clear(back);
    there->up = back->up = up;
    for (int i = 0; i < 2; i++)
        step(world, ends[i],
             (struct qn_event){.type = up ? QN_EVENT_SESSION_UP : QN_EVENT_SESSION_DOWN,
                               .plane = plane,
                               .peer = ends[1 - i],
                               .incarnation = world->lives[ends[1 - i]],
                               .error = up ? 0 : -QN_ECLOSED});
}

static void arrive(struct world *world, struct way *way) {
    if (way->n == 0) return;
    struct message message = first(way);
    uint16_t from = way->from, to = way->to;
    int rc = step(
        world, to,
        (struct qn_event){
            .type = QN_EVENT_ENVELOPE, .plane = way->plane, .peer = from, .bytes = message.bytes, .len = message.len});
    free(message.bytes);
    if (rc == 0) return;
    set_session(world, from, to, way->plane, false); /* And again at once. */
    set_session(world, from, to, way->plane, true);
}

static struct way *choose(struct world *world, uint8_t which) { /* Of those with something on them. */
    size_t n = 0;
    for (size_t i = 0; i < world->n_ways; i++) n += world->ways[i].n > 0 ? 1 : 0;
    if (n == 0) return NULL;
    size_t chosen = which % n;
    for (size_t i = 0; i < world->n_ways; i++)
        if (world->ways[i].n > 0 && chosen-- == 0) return &world->ways[i];
    return NULL;
}

/* ---- what the input does ---- */

/* A field of the body is set anew: the last one counts, so appending is enough. */
static void change(struct world *world, struct way *way) {
    struct message *message = &way->queue[0];
    uint8_t how = fuzz_byte(&world->in);
    if (how & 1) {
        if (message->len > 0) message->bytes[fuzz_below(&world->in, message->len)] ^= (uint8_t)(how | 1);
        return;
    }
    Qnet__V1__Envelope *envelope = qnet__v1__envelope__unpack(NULL, message->len, message->bytes);
    if (envelope == NULL) return;
    fuzz_pool_learn(&world->pool, &qnet__v1__envelope__descriptor, message->bytes, message->len);
    const ProtobufCFieldDescriptor *body =
        protobuf_c_message_descriptor_get_field(&qnet__v1__envelope__descriptor, (unsigned)envelope->body_case);
    qnet__v1__envelope__free_unpacked(envelope, NULL);
    if (body == NULL) return;
    struct qn_buf bytes = {0};
    FUZZ_CHECK(qn_buf_append(&bytes, message->bytes, message->len) == 0);
    fuzz_field(&world->in, &world->pool, body, 0, &bytes);
    if (bytes.len <= QN_ENVELOPE_MAX) {
        free(message->bytes);
        *message = (struct message){bytes.data, bytes.len};
    } else
        qn_buf_release(&bytes);
}

static void pass_time(struct world *world, uint64_t most_ns) {
    uint64_t next = world->now_ns + most_ns;
    for (uint16_t i = 0; i < NODES; i++) {
        uint64_t due = qn_node_deadline_ns(world->nodes[i]);
        if (due < next) next = due;
    }
    if (next > world->now_ns) world->now_ns = next;
    for (uint16_t i = 0; i < NODES; i++)
        if (qn_node_deadline_ns(world->nodes[i]) <= world->now_ns)
            step(world, i, (struct qn_event){.type = QN_EVENT_TIME});
}

static void finish(struct world *world, uint16_t node) {
    if (world->n_jobs[node] > 0) {
        struct qn_job *job = world->jobs[node][--world->n_jobs[node]];
        job->run(job);
        step(world, node, (struct qn_event){.type = QN_EVENT_JOB, .job = job});
    }
    if (world->n_ops[node] == 0) return;
    static const uint8_t zeros[1024];
    struct qn_store_op *op = world->ops[node][0];
    memmove(&world->ops[node][0], &world->ops[node][1], --world->n_ops[node] * sizeof world->ops[node][0]);
    struct qn_event event = {.type = QN_EVENT_STORED, .number = op->number};
    if (op->kind == QN_STORE_TAKE) {
        event.bytes = zeros;
        event.len = op->record.len < sizeof zeros ? op->record.len : sizeof zeros;
    }
    step(world, node, event);
    qn_store_op_free(op);
}

static void go_on(struct world *world, unsigned rounds) { /* As if nothing were wrong. */
    for (unsigned i = 0; i < rounds; i++) {
        for (size_t k = 0; k < world->n_ways; k++) arrive(world, &world->ways[k]);
        for (uint16_t k = 0; k < NODES; k++) finish(world, k);
        pass_time(world, 10000000);
    }
}

static void ask(struct world *world, uint16_t node, const Qnet__V1__ControlRequest *request) {
    uint8_t bytes[512];
    size_t len = qnet__v1__control_request__pack(request, bytes);
    step(world, node,
         (struct qn_event){.type = QN_EVENT_REQUEST, .client = ++world->clients & 7, .bytes = bytes, .len = len});
}

static char *name_of(uint16_t node) { return topology.nodes[node].name; }

static void request(struct world *world) { /* One that makes sense, or any. */
    uint8_t how = fuzz_byte(&world->in);
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__PairRequest pair = QNET__V1__PAIR_REQUEST__INIT;
    Qnet__V1__TeleportRequest teleport = QNET__V1__TELEPORT_REQUEST__INIT;
    Qnet__V1__Bb84Request bb84 = QNET__V1__BB84_REQUEST__INIT;
    uint16_t node = (uint16_t)(how % 3), peer = (uint16_t)(how / 3 % 3); /* alice, r1, bob */
    request.id = how;
    switch (how >> 5) {
    case 0:
    case 1:
    case 2:
        request.body_case = QNET__V1__CONTROL_REQUEST__BODY_PAIR;
        request.pair = &pair;
        pair.peer = name_of(peer);
        pair.number = 1 + (fuzz_byte(&world->in) & 3);
        pair.measure = how & 0x20;
        pair.axes = how >> 5 & 3;
        break;
    case 3:
        request.body_case = QNET__V1__CONTROL_REQUEST__BODY_TELEPORT;
        request.teleport = &teleport;
        teleport.peer = name_of(peer);
        teleport.number = 2;
        break;
    case 4:
        node = how & 1 ? 4 : 5;
        request.body_case = QNET__V1__CONTROL_REQUEST__BODY_BB84;
        request.bb84 = &bb84;
        bb84.peer = name_of((uint16_t)(9 - node));
        bb84.blocks = 1 + (how & 2);
        bb84.block_pulses = (uint64_t)fuzz_byte(&world->in) * 64;
        bb84.qber_limit = 0.2;
        break;
    default: {
        struct qn_buf bytes = {0};
        fuzz_message(&world->in, &world->pool, &qnet__v1__control_request__descriptor, &bytes);
        step(world, (uint16_t)(how % NODES),
             (struct qn_event){
                 .type = QN_EVENT_REQUEST, .client = ++world->clients & 7, .bytes = bytes.data, .len = bytes.len});
        qn_buf_release(&bytes);
        return;
    }
    }
    ask(world, node, &request);
}

static void start(struct world *world, uint16_t node) {
    struct qn_node_config config = {.topology = &topology,
                                    .self = node,
                                    .incarnation = world->lives[node],
                                    .now_ns = world->now_ns,
                                    .resend_ns = 1000000000,
                                    .software = "fuzz"};
    config.secret[0] = (uint8_t)(node + 1);
    FUZZ_CHECK(qn_node_new(&config, &world->nodes[node]) == 0);
}

static void end(struct world *world, uint16_t node) {
    while (world->n_jobs[node] > 0) {
        struct qn_job *job = world->jobs[node][--world->n_jobs[node]];
        job->free(job);
    }
    while (world->n_ops[node] > 0) qn_store_op_free(world->ops[node][--world->n_ops[node]]);
    qn_node_free(world->nodes[node]);
}

static void connect_all(struct world *world, uint16_t node) {
    for (uint16_t peer = 0; peer < NODES; peer++)
        for (int plane = 0; plane < 2; plane++) set_session(world, node, peer, (enum qn_plane_id)plane, true);
}

static void restart(struct world *world, uint16_t node) {
    for (uint16_t peer = 0; peer < NODES; peer++)
        for (int plane = 0; plane < 2; plane++) set_session(world, node, peer, (enum qn_plane_id)plane, false);
    end(world, node);
    world->lives[node] += 2;
    start(world, node);
    connect_all(world, node);
}

static void happen(struct world *world) {
    uint8_t what = fuzz_byte(&world->in);
    uint16_t node = (uint16_t)(what % NODES);
    struct way *way = choose(world, what);
    for (uint16_t i = 0; i < NODES; i++)
        while (world->n_ops[i] > OPS / 2) finish(world, i);
    switch (what >> 4) {
    case 0:
    case 1:
        request(world);
        break;
    case 2:
    case 3:
    case 4:
        if (way != NULL) arrive(world, way);
        break;
    case 5:
    case 6:
        if (way == NULL) break;
        change(world, way);
        arrive(world, way);
        break;
    case 7:
        if (way != NULL && way->n < QUEUE) {
            add(way, way->queue[0].bytes, way->queue[0].len);
            arrive(world, way);
        }
        break;
    case 8:
    case 9:
        pass_time(world, (uint64_t)1 << (fuzz_byte(&world->in) % 38));
        break;
    case 10:
        finish(world, node);
        break;
    case 11:
        set_session(world, node, (uint16_t)(what / 4 % NODES), what & 8 ? QN_QUANTUM : QN_CLASSICAL, false);
        break;
    case 12:
        connect_all(world, node);
        break;
    case 13:
        if (what & 8) restart(world, node);
        break;
    default:
        go_on(world, 1 + (what & 31u));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct world *world = calloc(1, sizeof *world);
    FUZZ_CHECK(world != NULL);
    world->in = (struct fuzz_input){data, size};
    for (uint16_t a = 0; a < NODES; a++) {
        world->lives[a] = 1001 + 100u * a;
        start(world, a);
        for (uint16_t b = 0; b < NODES; b++)
            for (int plane = 0; plane < 2 && a != b && qn_topology_is_neighbour(&topology, a, b); plane++)
                world->ways[world->n_ways++] = (struct way){.from = a, .to = b, .plane = (enum qn_plane_id)plane};
    }
    for (uint16_t i = 0; i < NODES; i++) connect_all(world, i);
    for (unsigned n = 0; n < 100 && !fuzz_done(&world->in); n++) happen(world);
    for (size_t i = 0; i < world->n_ways; i++) clear(&world->ways[i]);
    for (uint16_t i = 0; i < NODES; i++) end(world, i);
    free(world);
    return 0;
}
