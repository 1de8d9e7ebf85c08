/* SPDX-License-Identifier: Apache-2.0 */
/* One node, and an input that plays everything around it: neighbours that come, go, restart and send any envelope of
 * any kind (well-formed, with the numbers the node itself has used, in any order), users that ask for anything, a disk,
 * a pool of threads, time. The node must keep its invariants, refuse what breaks the protocol, and leak nothing. */
#include <sodium.h>

#include "base/err.h"
#include "fuzz.h"
#include "node/node.h"
#include "node/store.h"
#include "qnet/v1/control.pb-c.h"
#include "qnet/v1/envelope.pb-c.h"

static const char network[] =
    "version: 1\n"
    "network: fuzz\n"
    "defaults:\n"
    "  node: {t1: 100s, t2: 10s, gate_error: 0.1%, readout_error: 0.1%, cutoff: 500ms}\n"
    "  link: {length: 5km, loss: 0.2dB/km, attempt_time: 1us}\n"
    "nodes:\n"
    "  alice: {role: memory, memories: 4}\n"
    "  charlie: {role: detector, efficiency: 95%, dark_rate: 10Hz, gate_window: 10ns}\n"
    "  r1: {role: repeater, memories: 8}\n"
    "  bob: {role: memory, memories: 4}\n"
    "  laser: {role: source, source: weak-coherent, clock: 5MHz, mean_photons: 0.1}\n"
    "  receiver: {role: detector, efficiency: 90%, dark_rate: 10Hz, gate_window: 1ns}\n"
    "links:\n"
    "  alice-r1: {between: [alice, r1], via: charlie, model: double-click, visibility: 98%, emission_efficiency: 90%}\n"
    "  r1-bob: {between: [r1, bob], model: ideal, fidelity: 0.98, probability: 50%}\n"
    "  laser-receiver: {between: [laser, receiver], kind: bb84, length: 10km, misalignment: 1%}\n"
    "  laser-alice: {between: [laser, alice], kind: classical, length: 1km}\n";

static struct qn_topology topology;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    struct qn_buf diagnostics = {0};
    FUZZ_CHECK(sodium_init() >= 0);
    int rc = qn_topology_parse("fuzz.yaml", network, sizeof network - 1, &topology, &diagnostics);
    if (rc < 0) fprintf(stderr, "%.*s", (int)diagnostics.len, (const char *)diagnostics.data);
    FUZZ_CHECK(rc == 0);
    qn_buf_release(&diagnostics);
    return 0;
}

enum { NODES = 6, JOBS = 16, OPS = 64 };

struct world {
    struct fuzz_input in;
    struct fuzz_pool pool;
    struct qn_node *node;
    uint16_t self;
    uint64_t now_ns;
    bool up[NODES][2];
    uint64_t lives[NODES];
    uint64_t seq[NODES][2]; /* Of what each peer has sent in its present life. */
    uint64_t heard[NODES][2];
    uint64_t incarnation;
    struct qn_job *jobs[JOBS];
    size_t n_jobs;
    struct qn_store_op *ops[OPS];
    size_t n_ops;
    bool disk_full;
};

static bool is_neighbour(const struct world *world, uint16_t peer) {
    return qn_topology_is_neighbour(&topology, world->self, peer);
}

/* ---- what the node does ---- */

static void watch(struct world *world, const uint8_t *bytes, size_t len) { /* What it sends, others may answer. */
    Qnet__V1__Envelope *envelope = qnet__v1__envelope__unpack(NULL, len, bytes);
    FUZZ_CHECK(envelope != NULL);
    if (envelope->from == world->self && envelope->to < NODES && envelope->channel < 2 && envelope->seq != 0)
        world->heard[envelope->to][envelope->channel] = envelope->seq;
    qnet__v1__envelope__free_unpacked(envelope, NULL);
    fuzz_pool_learn(&world->pool, &qnet__v1__envelope__descriptor, bytes, len);
}

static void carry_out(struct world *world, const struct qn_action *action, const uint8_t *bytes) {
    switch (action->type) {
    case QN_ACTION_SEND:
        FUZZ_CHECK(is_neighbour(world, action->peer));
        FUZZ_CHECK(action->len <= QN_ENVELOPE_MAX);
        watch(world, bytes, action->len);
        break;
    case QN_ACTION_REPLY:
        fuzz_pool_learn(&world->pool, &qnet__v1__control_response__descriptor, bytes, action->len);
        break;
    case QN_ACTION_JOB:
        if (world->n_jobs == JOBS) { /* A driver that stops early. */
            action->job->free(action->job);
            break;
        }
        world->jobs[world->n_jobs++] = action->job;
        break;
    case QN_ACTION_STORE:
        FUZZ_CHECK(world->n_ops < OPS);
        world->ops[world->n_ops++] = action->store;
        break;
    case QN_ACTION_INCARNATION:
        world->incarnation = action->incarnation;
        fuzz_pool_add(&world->pool, action->incarnation);
        memset(world->up, 0, sizeof world->up);
        memset(world->seq, 0, sizeof world->seq);
        memset(world->heard, 0, sizeof world->heard);
        break;
    default:
        break;
    }
}

static int step(struct world *world, struct qn_event event) {
    const struct qn_actions *actions;
    event.now_ns = world->now_ns;
    int rc = qn_node_step(world->node, &event, &actions);
    FUZZ_CHECK(rc == 0 || rc == -QN_EPROTOCOL);
    for (size_t i = 0; i < actions->len; i++)
        carry_out(world, &actions->list[i], qn_action_bytes(actions, &actions->list[i]));
    qn_node_check(world->node);
    return rc;
}

/* ---- what happens to it ---- */

static void set_session(struct world *world, uint16_t peer, enum qn_plane_id plane, bool up) {
    if (!is_neighbour(world, peer) || world->up[peer][plane] == up) return;
    world->up[peer][plane] = up;
    step(world, (struct qn_event){.type = up ? QN_EVENT_SESSION_UP : QN_EVENT_SESSION_DOWN,
                                  .plane = plane,
                                  .peer = peer,
                                  .incarnation = world->lives[peer],
                                  .error = up ? 0 : -QN_ECLOSED});
}

static void new_life(struct world *world, uint16_t peer) {
    uint64_t old = world->lives[peer];
    set_session(world, peer, QN_CLASSICAL, false);
    set_session(world, peer, QN_QUANTUM, false);
    world->lives[peer] = (old + ((uint64_t)1 << 32)) | 1;
    memset(world->seq[peer], 0, sizeof world->seq[peer]);
    memset(world->heard[peer], 0, sizeof world->heard[peer]);
    fuzz_pool_add(&world->pool, world->lives[peer]);
    if (is_neighbour(world, peer))
        step(world, (struct qn_event){.type = QN_EVENT_PEER_GONE, .peer = peer, .incarnation = old});
}

/* The neighbour by which an envelope of `from` comes. */
static uint16_t way_in(const struct world *world, uint16_t from, enum qn_plane_id plane) {
    if (is_neighbour(world, from) && world->up[from][plane]) return from;
    for (uint16_t i = 0; i < NODES; i++)
        if (is_neighbour(world, i) && world->up[i][plane]) return i;
    return QN_NO_NODE;
}

static void envelope(struct world *world) {
    struct fuzz_input *in = &world->in;
    uint8_t how = fuzz_byte(in);
    uint16_t from = (uint16_t)(how % NODES);
    if (from == world->self) from = (uint16_t)((from + 1) % NODES);
    const ProtobufCMessageDescriptor *type = &qnet__v1__envelope__descriptor;
    const ProtobufCFieldDescriptor *bodies[64];
    size_t n = 0;
    for (unsigned i = 0; i < type->n_fields && n < 64; i++)
        if (type->fields[i].flags & PROTOBUF_C_FIELD_FLAG_ONEOF) bodies[n++] = &type->fields[i];
    const ProtobufCFieldDescriptor *body = bodies[fuzz_below(in, n)];
    bool photon = strcmp(body->name, "photon") == 0;
    bool substrate = body->id >= 60 && body->id < 70; /* Outside the channels. */
    bool hosting = substrate || strcmp(body->name, "plane") == 0;
    enum qn_plane_id plane = photon || hosting ? QN_QUANTUM : QN_CLASSICAL;
    uint16_t peer = way_in(world, from, plane);
    if (peer == QN_NO_NODE) return;
    if (photon) from = peer;

    struct qn_buf bytes = {0};
    bool odd = how >= 0xf0; /* The routing fields, too, are made up. */
    fuzz_put_number(&bytes, 1, odd ? fuzz_byte(in) : from);
    fuzz_put_number(&bytes, 2, odd ? fuzz_byte(in) & 7 : world->self);
    fuzz_put_fixed64(&bytes, 3, world->lives[odd ? fuzz_below(in, NODES) : from]);
    fuzz_put_fixed64(&bytes, 4, odd && (fuzz_byte(in) & 1) ? 0 : world->incarnation);
    uint64_t seq = photon || substrate ? 0 : ++world->seq[from][plane];
    if (odd && (fuzz_byte(in) & 3) == 0) seq = fuzz_bits(in, 2);
    if (seq != 0) fuzz_put_number(&bytes, 5, seq);
    if ((how & 0x10) == 0 || odd) fuzz_put_number(&bytes, 6, odd ? fuzz_byte(in) : world->heard[from][plane]);
    if (plane == QN_QUANTUM && !photon) fuzz_put_number(&bytes, 9, 1);
    fuzz_field(in, &world->pool, body, 0, &bytes);
    if (bytes.len <= QN_ENVELOPE_MAX) {
        int rc = step(
            world, (struct qn_event){
                       .type = QN_EVENT_ENVELOPE, .plane = plane, .peer = peer, .bytes = bytes.data, .len = bytes.len});
        if (rc == -QN_EPROTOCOL) { /* The driver ends the session. */
            set_session(world, peer, plane, false);
            if (!odd && seq != 0) world->seq[from][plane] = 0;
            if (!odd && seq != 0) new_life(world, from);
        }
    }
    qn_buf_release(&bytes);
}

static void raw(struct world *world) { /* Bytes as they are, from a neighbour or a user. */
    const uint8_t *bytes;
    uint8_t how = fuzz_byte(&world->in);
    size_t len = fuzz_take(&world->in, 255, &bytes);
    uint16_t peer = way_in(world, how % NODES, how & 0x40 ? QN_QUANTUM : QN_CLASSICAL);
    if ((how & 0x80) != 0)
        step(world, (struct qn_event){.type = QN_EVENT_REQUEST, .client = how & 3, .bytes = bytes, .len = len});
    else if (peer != QN_NO_NODE)
        step(world, (struct qn_event){.type = QN_EVENT_ENVELOPE,
                                      .plane = how & 0x40 ? QN_QUANTUM : QN_CLASSICAL,
                                      .peer = peer,
                                      .bytes = bytes,
                                      .len = len});
}

static void request(struct world *world) {
    struct qn_buf bytes = {0};
    uint64_t client = fuzz_byte(&world->in) & 3;
    fuzz_message(&world->in, &world->pool, &qnet__v1__control_request__descriptor, &bytes);
    step(world, (struct qn_event){.type = QN_EVENT_REQUEST, .client = client, .bytes = bytes.data, .len = bytes.len});
    qn_buf_release(&bytes);
}

static void pass_time(struct world *world) {
    static const uint64_t steps[] = {0, 1, 1000, 25000, 1000000, 50000000, 1000000000, 20000000000};
    uint8_t how = fuzz_byte(&world->in);
    uint64_t deadline = qn_node_deadline_ns(world->node), wanted = world->now_ns + steps[how & 7];
    /* To its next deadline, or for a while; then it may be late. */
    if ((how & 0x80) == 0 && deadline != QN_NEVER && deadline > world->now_ns &&
        deadline - world->now_ns < UINT64_C(1000000000000))
        wanted = deadline;
    world->now_ns = wanted;
    step(world, (struct qn_event){.type = QN_EVENT_TIME});
}

static void finish_job(struct world *world) {
    if (world->n_jobs == 0) return;
    size_t i = fuzz_below(&world->in, world->n_jobs);
    struct qn_job *job = world->jobs[i];
    world->jobs[i] = world->jobs[--world->n_jobs];
    job->run(job);
    step(world, (struct qn_event){.type = QN_EVENT_JOB, .job = job});
}

static void commit(struct world *world, bool all) {
    uint8_t how = all ? 0 : fuzz_byte(&world->in);
    bool full = how >= 0xe0;
    if (full != world->disk_full) {
        world->disk_full = full;
        step(world, (struct qn_event){.type = QN_EVENT_STORE_FAULT, .error = full ? -QN_ESTORE : 0});
    }
    if (full || world->n_ops == 0) return;
    struct qn_store_op *op = world->ops[0];
    memmove(&world->ops[0], &world->ops[1], --world->n_ops * sizeof world->ops[0]);
    static const uint8_t zeros[1024];
    struct qn_event event = {.type = QN_EVENT_STORED, .number = op->number};
    if (op->kind == QN_STORE_TAKE) { /* Its key comes back. */
        event.bytes = zeros;
        event.len = op->record.len < sizeof zeros ? op->record.len : sizeof zeros;
    }
    step(world, event);
    qn_store_op_free(op);
}

static void happen(struct world *world) {
    struct fuzz_input *in = &world->in;
    uint8_t what = fuzz_byte(in);
    uint16_t peer = (uint16_t)(what % NODES);
    while (world->n_ops > OPS / 2) commit(world, true);
    switch (what >> 4) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
        envelope(world);
        break;
    case 6:
    case 7:
        request(world);
        break;
    case 8:
    case 9:
        pass_time(world);
        break;
    case 10:
        set_session(world, peer, what & 8 ? QN_QUANTUM : QN_CLASSICAL, fuzz_byte(in) & 1);
        break;
    case 11:
        if (what & 8)
            new_life(world, peer);
        else
            step(world, (struct qn_event){.type = QN_EVENT_CLIENT_GONE, .client = what & 3});
        break;
    case 12:
        raw(world);
        break;
    case 13:
        finish_job(world);
        break;
    case 14:
        commit(world, false);
        break;
    default:
        if (what == 0xff) step(world, (struct qn_event){.type = QN_EVENT_STOP});
        set_session(world, peer, QN_CLASSICAL, true);
        set_session(world, peer, QN_QUANTUM, true);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct world world = {.in = {data, size}};
    world.self = (uint16_t)fuzz_below(&world.in, NODES);
    world.incarnation = UINT64_C(0x1234567800000001);
    struct qn_node_config config = {.topology = &topology,
                                    .self = world.self,
                                    .incarnation = world.incarnation,
                                    .resend_ns = 1000000000,
                                    .software = "fuzz"};
    FUZZ_CHECK(qn_node_new(&config, &world.node) == 0);
    for (uint16_t i = 0; i < NODES; i++) {
        world.lives[i] = (uint64_t)(i + 1) << 48 | 1;
        fuzz_pool_add(&world.pool, world.lives[i]);
    }
    for (uint16_t i = 0; i < NODES; i++) {
        set_session(&world, i, QN_CLASSICAL, true);
        set_session(&world, i, QN_QUANTUM, true);
    }
    for (unsigned n = 0; n < 200 && !fuzz_done(&world.in); n++) happen(&world);
    while (world.n_jobs > 0) { /* Freed without having run, as a driver does that stops. */
        struct qn_job *job = world.jobs[--world.n_jobs];
        job->free(job);
    }
    while (world.n_ops > 0) qn_store_op_free(world.ops[--world.n_ops]);
    qn_node_free(world.node);
    return 0;
}
