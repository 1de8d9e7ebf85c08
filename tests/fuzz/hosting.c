/* SPDX-License-Identifier: Apache-2.0 */
/* The hosting of joint states, by planes of up to five nodes in one process: the input says what is made, operated on,
 * delivered, and who dies, in which order. The invariants hold after every step; at the end all is delivered, every
 * operation has its result and every living qubit is hosted once. Of a second kind of input, messages are changed on
 * their way: they are refused, or what they do is harmless to the one who gets them. */
#include "plane_cluster.h"

#include "base/err.h"
#include "fuzz.h"
#include "plane/internal.h"

static const double phi[16] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1};
enum { QUBITS = 24, OPS = CLUSTER_RESULTS - 1 };

struct game {
    struct plane_cluster *cluster;
    struct fuzz_input in;
    qn_qubit qubits[QUBITS];
    uint16_t owners[QUBITS];
    bool busy[QUBITS]; /* To be destroyed, or joined in something already under way. */
    size_t n, deaths;
    uint64_t n_ops;
    uint16_t requester[OPS + 1];
};

static bool alive(const struct game *game, uint16_t node) { return game->cluster->planes[node] != NULL; }

static void make(struct game *game, uint8_t what) {
    uint16_t n = game->cluster->n;
    uint16_t maker = (uint16_t)(what % n), a = (uint16_t)(fuzz_byte(&game->in) % n),
             b = (uint16_t)((a + 1 + what / n) % n);
    if (a == b) b = (uint16_t)((a + 1) % n);
    if (game->n + 2 > QUBITS || !alive(game, maker) || !alive(game, a) || !alive(game, b)) return;
    const struct qn_plane *plane = game->cluster->planes[maker];
    if (plane->down[a] || plane->down[b]) return; /* It has not met their new lives. */
    qn_qubit made[2];
    if ((what & 0x80) != 0)
        cluster_settled_pair(game->cluster, maker, a, b, phi, made);
    else
        cluster_pair(game->cluster, maker, a, b, phi, made);
    for (int i = 0; i < 2; i++) {
        game->qubits[game->n] = made[i];
        game->owners[game->n] = i == 0 ? a : b;
        game->busy[game->n++] = false;
    }
}

static void operate(struct game *game, uint8_t what) {
    static const uint32_t kinds[] = {QNET__V1__OP_KIND__OP_KIND_MEASURE, QNET__V1__OP_KIND__OP_KIND_H,
                                     QNET__V1__OP_KIND__OP_KIND_BELL, QNET__V1__OP_KIND__OP_KIND_CNOT,
                                     QNET__V1__OP_KIND__OP_KIND_DISCARD};
    if (game->n == 0 || game->n_ops >= OPS) return;
    struct qn_plane_op op = {.kind = kinds[what % 5], .n_qubits = 1, .args = {0, 0, 1}, .tag = game->n_ops};
    size_t a = fuzz_below(&game->in, game->n), b = game->n;
    if (op.kind == QNET__V1__OP_KIND__OP_KIND_MEASURE) op.n_args = 3;
    uint16_t owner = game->owners[a];
    if (game->busy[a] || !alive(game, owner)) return;
    /* Nobody knows of a qubit before its Born, even if its state came first. */
    if (!qn_plane_is_owned(game->cluster->planes[owner], game->qubits[a])) return;
    op.qubits[0] = game->qubits[a];
    if (op.kind == QNET__V1__OP_KIND__OP_KIND_BELL || op.kind == QNET__V1__OP_KIND__OP_KIND_CNOT) {
        b = fuzz_below(&game->in, game->n);
        if (b == a || game->busy[b] || game->owners[b] != owner) return;
        if (!qn_plane_is_owned(game->cluster->planes[owner], game->qubits[b])) return;
        op.qubits[1] = game->qubits[b];
        op.n_qubits = 2;
    }
    int rc = cluster_submit(game->cluster, owner, &op);
    FUZZ_CHECK(rc == 0);
    game->requester[game->n_ops++] = owner;
    if (op.kind == QNET__V1__OP_KIND__OP_KIND_H || op.kind == QNET__V1__OP_KIND__OP_KIND_CNOT) return;
    game->busy[a] = true;
    if (b < game->n) game->busy[b] = true;
}

static bool deliver(struct game *game, uint8_t which) {
    struct plane_cluster *cluster = game->cluster;
    size_t n = cluster_in_flight(cluster);
    if (n == 0) return false;
    size_t chosen = which % n;
    for (uint16_t i = 0; i < cluster->n; i++)
        for (uint16_t k = 0; k < cluster->n; k++)
            if (cluster->queues[i][k].n > 0 && chosen-- == 0) {
                cluster_deliver_from(cluster, i, k);
                return true;
            }
    return false;
}

static void end_game(struct game *game) {
    for (size_t steps = 0; deliver(game, fuzz_byte(&game->in)); steps++) {
        cluster_check(game->cluster);
        FUZZ_CHECK(steps < 20000);
    }
    cluster_check_final(game->cluster);
    for (size_t i = 0; i < game->n_ops; i++)
        FUZZ_CHECK(game->cluster->results[i].done || game->requester[i] == UINT16_MAX);
}

static void die(struct game *game, uint16_t node) { /* Or come back, as a new life. */
    if (alive(game, node) && game->deaths < 2) {
        game->deaths++;
        cluster_crash(game->cluster, node);
        for (size_t i = 0; i < game->n; i++)
            if (game->owners[i] == node) game->busy[i] = true; /* Gone. */
        for (size_t i = 0; i < game->n_ops; i++)
            if (game->requester[i] == node) game->requester[i] = UINT16_MAX;
    } else if (!alive(game, node)) {
        for (uint16_t i = 0; i < game->cluster->n; i++)
            if (game->cluster->queues[node][i].n > 0)
                return; /* Everybody must know; envelopes say which life they are for. */
        cluster_rejoin(game->cluster, node);
    }
}

static void hostile(struct game *game) {
    size_t refused = 0, harmless = 0;
    for (unsigned n = 0; n < 100 && !fuzz_done(&game->in); n++) {
        uint8_t what = fuzz_byte(&game->in);
        if (what < 0x40)
            make(game, what);
        else if (what < 0xa0)
            operate(game, what);
        else if (!cluster_deliver_mutated(game->cluster, &refused, &harmless))
            break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct game game = {.in = {data, size}};
    uint8_t how = fuzz_byte(&game.in);
    game.cluster = cluster_new((uint16_t)(2 + how % 4), how >> 4);
    if ((how & 0x0c) == 0x0c) {
        hostile(&game);
    } else {
        while (!fuzz_done(&game.in)) {
            uint8_t what = fuzz_byte(&game.in);
            if (what < 0x30)
                make(&game, what);
            else if (what < 0x70)
                operate(&game, what);
            else if (what < 0xf8)
                deliver(&game, what);
            else
                die(&game, (uint16_t)(what % game.cluster->n));
            cluster_check(game.cluster);
        }
        end_game(&game);
    }
    cluster_free(game.cluster);
    return 0;
}
