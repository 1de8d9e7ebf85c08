/* SPDX-License-Identifier: Apache-2.0 */
/* Every allocation of every module fails once: the call says so and leaves its outputs as they were, nothing is lost,
 * and the same call succeeds afterwards. A node may end the process on purpose (lib/plane/README.md), but never badly.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/map.h"
#include "base/rng.h"
#include "base/timer.h"
#include "cluster.h"
#include "failing_heap.h"
#include "http/http.h"
#include "plane/plane.h"
#include "qkd/amplify.h"
#include "qkd/reconcile.h"
#include "qkd/sift.h"
#include "sim/state.h"
#include "topology/topology.h"
#include "wire/arena.h"
#include "wire/channel.h"
#include "wire/session.h"

/* Calls `attempt` with the 1st, 2nd, ... allocation failing, until none does. It arms the heap around what is tested,
 * gives back all it has made, and returns what the call said. */
static unsigned long each(const char *what, int (*attempt)(unsigned long n)) {
    for (unsigned long n = 1;; n++) {
        long before = failing_heap_live();
        int rc = attempt(n);
        bool failed = failing_heap_disarm();
        cr_assert_eq(failing_heap_live(), before, "%s: %ld blocks lost when allocation %lu fails", what,
                     failing_heap_live() - before, n);
        if (!failed) {
            cr_assert_eq(rc, 0, "%s: %d although none failed", what, rc);
            cr_log_info("%s: %lu allocations", what, n - 1);
            return n - 1;
        }
        cr_assert_eq(rc, -QN_ENOMEM, "%s: %d when allocation %lu fails", what, rc, n);
        cr_assert_lt(n, 1000000);
    }
}

/* ---- base, http ---- */

static int try_buf(unsigned long n) {
    struct qn_buf buf = {0};
    cr_assert_eq(qn_buf_append(&buf, "before", 6), 0);
    char long_text[2000];
    memset(long_text, 'x', sizeof long_text);
    failing_heap_arm(n);
    int rc = qn_buf_append(&buf, long_text, sizeof long_text);
    failing_heap_arm(0);
    if (rc < 0) {
        cr_assert(buf.len == 6 && memcmp(buf.data, "before", 6) == 0);
        cr_assert_eq(qn_buf_printf(&buf, "%.*s", 2000, long_text), 0);
    }
    qn_buf_release(&buf);
    return rc;
}

static int try_map(unsigned long n) {
    struct qn_map map = {0};
    uint64_t key = 1;
    int rc = 0;
    failing_heap_arm(n);
    for (; key <= 100 && rc == 0; key++) rc = qn_map_put(&map, key, &map);
    failing_heap_disarm();
    if (rc < 0) {
        cr_assert_eq(map.len, key - 2);
        for (uint64_t k = 1; k < key - 1; k++) cr_assert_eq(qn_map_get(&map, k), &map);
        cr_assert_null(qn_map_get(&map, key - 1));
        cr_assert_eq(qn_map_put(&map, key - 1, &map), 0);
    }
    qn_map_release(&map);
    return rc;
}

static int try_timers(unsigned long n) {
    struct qn_timers timers = {0};
    static struct qn_timer many[200];
    int rc = 0;
    size_t set = 0;
    memset(many, 0, sizeof many);
    failing_heap_arm(n);
    for (; set < 200 && rc == 0; set++) rc = qn_timers_set(&timers, &many[set], 1000 - set);
    if (rc < 0) {
        cr_assert_eq(many[set - 1].slot, 0);
        cr_assert_eq(timers.len, set - 1);
        cr_assert_eq(qn_timers_set(&timers, &many[set - 1], 5), 0);
        cr_assert_eq(qn_timers_pop(&timers, 5), &many[set - 1]);
    }
    qn_timers_release(&timers);
    return rc;
}

static int try_http(unsigned long n) {
    struct qn_buf out = {0};
    struct qn_http_request request = {.keep_alive = true};
    failing_heap_arm(n);
    int rc = qn_http_respond(&out, &request, 200, "text/plain", "body", 4);
    if (rc < 0) cr_assert_eq(qn_http_respond(&out, &request, 200, "text/plain", "body", 4), 0);
    qn_buf_release(&out);
    return rc;
}

Test(allocation, base_and_http) {
    cr_assert_gt(each("buffer", try_buf), 0);
    cr_assert_gt(each("map", try_map), 2);
    cr_assert_gt(each("timers", try_timers), 1);
    cr_assert_gt(each("http", try_http), 0);
}

/* ---- sim ---- */

static const double phi[16] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1};

static int try_states(unsigned long n) {
    struct qn_state *a = NULL, *b = NULL, *joint = NULL;
    struct qn_rng rng;
    qn_rng_init(&rng, 1, "states", 0);
    cr_assert_eq(qn_state_new_pair(phi, &a), 0);
    cr_assert_eq(qn_state_new_pair(phi, &b), 0);
    failing_heap_arm(n);
    int rc = qn_state_swap_kernel(a, 1, b, 0, 0.5, &joint);
    if (rc < 0) {
        cr_assert(joint == NULL && qn_state_size(a) == 2 && qn_state_size(b) == 2);
        cr_assert(fabs(qn_state_fidelity(a, 0, 1, 0) - 1) < 1e-12);
        qn_state_free(a);
        qn_state_free(b);
        return rc;
    }
    qn_state_free(joint);
    return 0;
}

static int try_merge(unsigned long n) { /* Six qubits to a trajectory of eight. */
    struct qn_state *a = NULL, *b = NULL, *copy = NULL;
    struct qn_rng rng;
    qn_rng_init(&rng, 1, "merge", 0);
    cr_assert_eq(qn_state_new_zero(6, &a), 0);
    failing_heap_arm(n);
    int rc = qn_state_new_pair(phi, &b);
    if (rc == 0) rc = qn_state_merge(&a, b, &rng);
    if (rc == 0) {
        b = NULL;
        rc = qn_state_copy(a, &copy);
    } else {
        cr_assert_eq(qn_state_size(a), 6);
        if (b != NULL) cr_assert_eq(qn_state_size(b), 2);
    }
    if (rc < 0) cr_assert_null(copy);
    qn_state_free(a);
    qn_state_free(b);
    qn_state_free(copy);
    return rc;
}

Test(allocation, states) {
    cr_assert_gt(each("swap", try_states), 0);
    cr_assert_gt(each("merge", try_merge), 2);
}

/* ---- qkd ---- */

static struct qn_bits random_bits(size_t len, uint64_t seed) {
    struct qn_bits bits = {0};
    struct qn_rng rng;
    qn_rng_init(&rng, seed, "bits", 0);
    for (size_t i = 0; i < len; i += 64) cr_assert_eq(qn_bits_append_word(&bits, qn_rng_u64(&rng), 64), 0);
    return bits;
}

static int reconcile(enum qn_reconcile_method method, const struct qn_bits *mine, const struct qn_bits *theirs,
                     struct qn_bits *ret_key) {
    struct qn_reconcile_config config = {.method = method, .qber = 0.03, .seed = {1}};
    struct qn_reconcile *reconcile = NULL;
    struct qn_reconcile_source *source = NULL;
    struct qn_buf question = {0}, answer = {0};
    int rc = qn_reconcile_new(&config, mine, &reconcile);
    if (rc == 0) rc = qn_reconcile_source_new(&config, theirs, &source);
    while (rc == 0 && !qn_reconcile_is_done(reconcile)) {
        uint32_t count = 0;
        question.len = answer.len = 0;
        rc = qn_reconcile_ask(reconcile, &question, &count);
        if (rc == 0) rc = qn_reconcile_answer(source, question.data, question.len, count, &answer);
        if (rc == 0) rc = qn_reconcile_tell(reconcile, answer.data, answer.len, count);
    }
    if (rc == 0) rc = qn_reconcile_key(reconcile, ret_key);
    qn_reconcile_free(reconcile);
    qn_reconcile_source_free(source);
    qn_buf_release(&question);
    qn_buf_release(&answer);
    return rc;
}

static int try_reconcile(enum qn_reconcile_method method, unsigned long n) {
    struct qn_bits theirs = random_bits(4096, 3), mine = {0}, key = {0};
    cr_assert_eq(qn_bits_copy(&mine, &theirs), 0);
    for (size_t i = 10; i < 4096; i += 40) qn_bits_flip(&mine, i);
    failing_heap_arm(n);
    int rc = reconcile(method, &mine, &theirs, &key);
    if (rc < 0)
        cr_assert_eq(key.len, 0);
    else
        cr_assert(qn_bits_equal(&key, &theirs));
    qn_bits_release(&theirs);
    qn_bits_release(&mine);
    qn_bits_release(&key);
    return rc;
}

static int try_cascade(unsigned long n) { return try_reconcile(QN_RECONCILE_CASCADE, n); }
static int try_ldpc(unsigned long n) { return try_reconcile(QN_RECONCILE_LDPC, n); }

static int try_amplify_of(size_t len, unsigned long n) {
    static const uint8_t seed[QN_AMPLIFY_SEED_BYTES] = {7};
    struct qn_bits key = random_bits(len, 4), out = {0};
    failing_heap_arm(n);
    int rc = qn_amplify(&key, seed, len / 2, &out);
    if (rc == 0) cr_assert_eq(out.len, len / 2);
    qn_bits_release(&key);
    qn_bits_release(&out);
    return rc;
}

static int try_amplify(unsigned long n) { return try_amplify_of(5000, n); }
static int try_amplify_long(unsigned long n) { return try_amplify_of(200000, n); }

static int try_sift(unsigned long n) {
    struct qn_bits bases = random_bits(2048, 5), basis = random_bits(2048, 6), bit = random_bits(2048, 7);
    struct qn_buf answer = {0};
    struct qn_sifted here = {0}, there = {0};
    failing_heap_arm(n);
    int rc = qn_sift_match(&bases, &basis, &bit, NULL, 0, &answer, &here);
    if (rc == 0) rc = qn_sift_read(&bases, &bit, 0, answer.data, answer.len, &there);
    qn_bits_release(&bases);
    qn_bits_release(&basis);
    qn_bits_release(&bit);
    qn_buf_release(&answer);
    qn_sifted_release(&here);
    qn_sifted_release(&there);
    return rc;
}

Test(allocation, keys) {
    cr_assert_gt(each("Cascade", try_cascade), 5);
    cr_assert_gt(each("LDPC", try_ldpc), 5);
    cr_assert_gt(each("amplification", try_amplify), 0);
    cr_assert_gt(each("amplification of a long key", try_amplify_long), 0);
    cr_assert_gt(each("sifting", try_sift), 2);
}

/* ---- wire ---- */

static int find_peer(void *context, const uint8_t public_key[32]) {
    (void)context;
    (void)public_key;
    return 0;
}

static int pass(struct qn_session *from, struct qn_session *to) {
    struct qn_buf *out = qn_session_output(from);
    int rc = out->len > 0 ? qn_session_input(to, out->data, out->len) : 0;
    if (rc < 0) return rc;
    out->len = 0;
    for (struct qn_session_event event; (event = qn_session_next(to)).type != QN_SESSION_NONE;)
        if (event.type == QN_SESSION_CLOSED) return event.error < 0 ? event.error : -QN_ECLOSED;
    return 0;
}

static int try_session(unsigned long n) {
    struct qn_session *ends[2] = {NULL, NULL};
    uint8_t envelope[3000] = {1};
    int rc = 0;
    for (int i = 0; i < 2; i++) {
        struct qn_session_config config = {.initiator = i == 0,
                                           .network = "n",
                                           .find_peer = find_peer,
                                           .self = (uint16_t)i,
                                           .peer = (uint16_t)(1 - i),
                                           .incarnation = 5,
                                           .software = "test"};
        uint8_t other[32];
        memset(config.private_key, 1 + i, 32);
        memset(config.random_key, 10 + i, 32);
        memset(other, 2 - i, 32);
        crypto_scalarmult_curve25519_base(config.public_key, config.private_key);
        crypto_scalarmult_curve25519_base(config.remote_key, other);
        if (i == 0) failing_heap_arm(n);
        rc = qn_session_new(&config, &ends[i]);
        if (rc < 0) break;
    }
    for (int turn = 0; turn < 8 && rc == 0; turn++) rc = pass(ends[turn % 2], ends[1 - turn % 2]);
    for (int i = 0; i < 100 && rc == 0; i++) rc = qn_session_send(ends[0], envelope, sizeof envelope);
    if (rc == 0) rc = qn_session_flush(ends[0]);
    if (rc == 0) rc = pass(ends[0], ends[1]);
    qn_session_free(ends[0]);
    qn_session_free(ends[1]);
    return rc;
}

static int try_channel(unsigned long n) {
    struct qn_channel channel = {0};
    uint8_t bytes[100] = {0};
    int rc = 0;
    uint64_t sent = 0;
    failing_heap_arm(n);
    for (; sent < 20 && rc == 0; sent += rc == 0 ? 1 : 0) rc = qn_channel_push(&channel, bytes, sizeof bytes);
    qn_channel_check(&channel);
    if (rc < 0) {
        cr_assert_eq(channel.next_seq, sent + (sent > 0 ? 1 : channel.next_seq));
        cr_assert_eq(qn_channel_push(&channel, bytes, sizeof bytes), 0);
        qn_channel_check(&channel);
    }
    qn_channel_release(&channel);
    return rc;
}

static int try_arena(unsigned long n) {
    struct qn_arena arena = {0};
    failing_heap_arm(n);
    int rc = qn_arena_init(&arena, QN_ARENA_SIZE);
    if (rc == 0) qn_arena_release(&arena);
    return rc;
}

Test(allocation, wire) {
    cr_assert_geq(sodium_init(), 0);
    cr_assert_gt(each("session", try_session), 2);
    cr_assert_eq(each("channel", try_channel), 20);
    cr_assert_eq(each("arena", try_arena), 1);
}

/* ---- topology ---- */

static const char yaml[] =
    "version: 1\nnetwork: small\nnode_dead_after: 2s\nnodes:\n  a: {role: memory, memories: 4, t1: 10s}\n"
    "  b: {role: memory, memories: 4, source: single-photon, clock: 100MHz}\n  m: {role: detector}\nlinks:\n"
    "  ab: {between: [a, b], via: m, fidelity: 0.97, probability: 50%, length: 1km}\n"
    "  bm: {between: [b, m], kind: bb84, length: 1km}\n";

static int try_topology(unsigned long n) {
    struct qn_topology topology = {0};
    struct qn_buf diagnostics = {0}, out = {0};
    failing_heap_arm(n);
    int rc = qn_topology_parse("t.yaml", yaml, sizeof yaml - 1, &topology, &diagnostics);
    if (rc < 0) cr_assert(topology.nodes == NULL && topology.n_nodes == 0, "outputs are touched");
    if (rc == 0) rc = qn_topology_emit_yaml(&topology, &out);
    if (rc == 0) rc = qn_topology_emit_dot(&topology, &out);
    if (rc == 0) rc = qn_topology_emit_mermaid(&topology, &out);
    if (rc == 0) rc = qn_topology_emit_schema(&out);
    qn_topology_release(&topology);
    qn_buf_release(&diagnostics);
    qn_buf_release(&out);
    return rc;
}

static int try_bad_topology(unsigned long n) { /* Diagnostics that cannot be written are no reason to lose anything. */
    static const char bad[] = "version: 1\nnetwork: small\nnodes: {a: {role: memry, t1: 4, t3: 5}}\nlinks: [x]\n";
    struct qn_topology topology = {0};
    struct qn_buf diagnostics = {0};
    failing_heap_arm(n);
    int rc = qn_topology_parse("t.yaml", bad, sizeof bad - 1, &topology, &diagnostics);
    cr_assert_lt(rc, 0);
    qn_buf_release(&diagnostics);
    return rc == -QN_EPARSE ? 0 : rc;
}

Test(allocation, topology) {
    cr_assert_gt(each("topology", try_topology), 10);
    for (unsigned long n = 1; n < 200; n++) {
        long before = failing_heap_live();
        int rc = try_bad_topology(n);
        cr_assert(rc == 0 || rc == -QN_ENOMEM, "%d", rc);
        cr_assert_eq(failing_heap_live(), before, "allocation %lu", n);
    }
}

/* ---- plane ---- */

static int try_plane(unsigned long n) { /* What a caller asks for; handlers may end the process. */
    struct qn_plane_config config = {.n_nodes = 3, .first_sequence = 1};
    struct qn_plane *plane = NULL;
    qn_qubit qubit = 0;
    failing_heap_arm(n);
    int rc = qn_plane_new(&config, &plane);
    if (rc == 0) rc = qn_plane_prepare(plane, 0, (struct qn_memory){0, 0}, &qubit);
    if (rc < 0) cr_assert_eq(qubit, 0);
    if (plane != NULL) qn_plane_check(plane);
    qn_plane_free(plane);
    return rc;
}

Test(allocation, plane) { cr_assert_gt(each("plane", try_plane), 5); }

/* ---- nodes ---- */

static struct qn_topology network;

static void parse_network(void) {
    struct qn_buf diagnostics = {0};
    cr_assert_eq(qn_topology_parse("t.yaml", yaml, sizeof yaml - 1, &network, &diagnostics), 0);
    qn_buf_release(&diagnostics);
    cr_assert_geq(sodium_init(), 0);
}

static int try_node(unsigned long n) {
    struct qn_node_config config = {
        .topology = &network, .self = 2, .incarnation = 77, .resend_ns = 1000000000, .software = "test"};
    struct qn_node *node = NULL;
    failing_heap_arm(n);
    int rc = qn_node_new(&config, &node);
    if (rc < 0) cr_assert_null(node);
    qn_node_free(node);
    return rc;
}

static size_t n_open;

static void on_reply(void *context, uint16_t node, uint64_t client, const Qnet__V1__ControlResponse *response) {
    (void)context;
    (void)node;
    (void)client;
    if (!response->more) n_open--;
}

static void ask(struct cluster *cluster, uint16_t node, Qnet__V1__ControlRequest__BodyCase which, void *body) {
    static uint64_t client;
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    request.id = 1;
    request.body_case = which;
    request.status = body; /* All members of the union are pointers. */
    n_open++;
    cluster_request(cluster, node, ++client, &request);
}

static bool is_answered(void *context) {
    (void)context;
    return n_open == 0;
}

static void ask_everything(struct cluster *cluster) {
    Qnet__V1__PairRequest keep = QNET__V1__PAIR_REQUEST__INIT, measure = QNET__V1__PAIR_REQUEST__INIT;
    Qnet__V1__TeleportRequest teleport = QNET__V1__TELEPORT_REQUEST__INIT;
    Qnet__V1__Bb84Request bb84 = QNET__V1__BB84_REQUEST__INIT;
    keep.peer = measure.peer = teleport.peer = network.nodes[1].name;
    bb84.peer = network.nodes[2].name;
    keep.number = 2;
    measure.number = 5;
    measure.measure = true;
    teleport.number = 2;
    teleport.tomography = true;
    bb84.blocks = 1;
    bb84.block_pulses = 20000;
    keep.timeout_ns = measure.timeout_ns = teleport.timeout_ns = bb84.timeout_ns = 5000000000;
    ask(cluster, 0, QNET__V1__CONTROL_REQUEST__BODY_PAIR, &keep);
    ask(cluster, 0, QNET__V1__CONTROL_REQUEST__BODY_PAIR, &measure);
    ask(cluster, 0, QNET__V1__CONTROL_REQUEST__BODY_TELEPORT, &teleport);
    ask(cluster, 1, QNET__V1__CONTROL_REQUEST__BODY_BB84, &bb84);
}

/* A whole run of three nodes; the invariants are checked after every step. Returns how many allocations it took. */
static unsigned long run_network(unsigned long n) {
    struct cluster_config config = {
        .topology = &network, .seed = 9, .latency_ns = 1000, .check = true, .on_reply = on_reply};
    struct cluster *cluster = NULL;
    n_open = 0;
    if (cluster_new(&config, &cluster) < 0) return 0;
    cluster_run_until(cluster, 1000000);
    unsigned long before = failing_heap_count();
    failing_heap_arm(n);
    ask_everything(cluster);
    bool answered = cluster_run_while(cluster, is_answered, NULL, 60000000000);
    failing_heap_disarm();
    if (!answered) fprintf(stderr, "Assertion: %zu requests are not answered\n", n_open);
    unsigned long after = failing_heap_count();
    cluster_free(cluster);
    return after - before;
}

/* In a process of its own: it may end at will (abort() without a word), or go on, but not break. */
static void check_run(unsigned long n) {
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        alarm(30);
        run_network(n);
        exit(0); /* The leak checker, if there is one, looks now. */
    }
    close(ends[1]);
    char text[400];
    ssize_t len = read(ends[0], text, sizeof text - 1);
    text[len > 0 ? len : 0] = '\0';
    while (len > 0 && read(ends[0], (char[256]){0}, 256) > 0) continue;
    close(ends[0]);
    int status;
    waitpid(child, &status, 0);
    /* The leak checker mentions a thread of the test framework, which is not in the child. */
    bool on_purpose = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && len <= 0;
    cr_assert(on_purpose || (WIFEXITED(status) && WEXITSTATUS(status) == 0 &&
                             (len <= 0 || strstr(text, "not suspended") != NULL)),
              "allocation %lu: status %x: %s", n, status, text);
}

Test(allocation, nodes, .timeout = 300) {
    parse_network();
    cr_assert_gt(each("node", try_node), 20);
    unsigned long total = run_network(0);
    cr_assert_gt(total, 300, "%lu", total);
    /* Each of the first, then ever fewer: later ones repeat what has been done before. */
    unsigned runs = 0;
    for (unsigned long n = 1; n <= total; n += 1 + n / QN_ALLOCATION_EVERY, runs++) check_run(n);
    cr_log_info("%u of %lu allocations of a run failed, one at a time", runs, total);
    qn_topology_release(&network);
}
