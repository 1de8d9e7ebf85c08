/* SPDX-License-Identifier: Apache-2.0 */
/* The key store at both ends of a link: crashes between any two steps, cut sessions, full disks. A key is served only
 * when it is durable at both ends and at most once at each; what an end has called ready is not lost. */
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "disk.h"
#include "network.h"
#include "node/keys.h"

#define KEYS 24
#define KEY_LEN 64
#define MS UINT64_C(1000000)

static const char yaml[] =
    "version: 1\nnetwork: keys\nnodes:\n  a: {role: source, source: single-photon, clock: 1MHz}\n"
    "  b: {role: detector}\nlinks:\n  ab: {between: [a, b], length: 1km}\n";

struct world {
    struct qn_topology topology;
    struct cluster *cluster;
    struct qn_rng rng;
    uint64_t seed;
    size_t n;
    struct made {
        uint8_t id[16], bytes[KEY_LEN];
        uint64_t incarnation[2]; /* For which of either it was made. */
        uint64_t due_ns[2];      /* When each end has it; 0: done, or never. */
        bool was_ready[2], asked[2];
        unsigned served[2];
    } made[KEYS];
    uint8_t secret[16 + 4096];
    bool has_secret;
};

static const struct disk_record *on_disk(const struct world *world, uint16_t node, const uint8_t *id) {
    const struct disk *disk = cluster_disk(world->cluster, node);
    for (size_t i = 0; i < disk->len; i++)
        if (memcmp(disk->records[i].record.id, id, 16) == 0) return &disk->records[i];
    return NULL;
}

static const struct key *key_at(const struct world *world, uint16_t node, const uint8_t *id) {
    struct qn_node *life = cluster_node(world->cluster, node);
    return life == NULL ? NULL : keys_find(life, id, 16);
}

static void on_reply(void *context, uint16_t node, uint64_t client, const Qnet__V1__ControlResponse *response) {
    struct world *world = context;
    (void)client;
    if (response->body_case != QNET__V1__CONTROL_RESPONSE__BODY_KEY || response->key->material.len == 0) return;
    for (size_t i = 0; i < world->n; i++) {
        struct made *made = &world->made[i];
        if (memcmp(made->id, response->key->id.data, 16) != 0) continue;
        made->served[node]++;
        cr_assert_eq(made->served[node], 1, "seed %lu: served twice", (unsigned long)world->seed);
        cr_assert_not_null(on_disk(world, node == 0 ? 1 : 0, made->id),
                           "seed %lu: served, but not durable at the other end", (unsigned long)world->seed);
        cr_assert_eq(response->key->material.len, KEY_LEN);
        cr_assert_arr_eq(response->key->material.data, made->bytes, KEY_LEN);
    }
}

static void on_step(void *context, uint16_t node, const struct qn_event *event) {
    struct world *world = context;
    (void)event;
    for (size_t i = 0; world->cluster != NULL && i < world->n; i++) {
        const struct key *key = key_at(world, node, world->made[i].id);
        if (key == NULL || key->state != KEY_READY) continue;
        cr_assert_not_null(on_disk(world, 0, world->made[i].id));
        cr_assert_not_null(on_disk(world, 1, world->made[i].id));
        world->made[i].was_ready[node] = true;
    }
}

static const struct qn_initial_secret *secrets(void *context, uint16_t node, size_t *ret_len) {
    static struct qn_initial_secret secret;
    struct world *world = context;
    secret = (struct qn_initial_secret){.peer = node == 0 ? 1 : 0, .bytes = world->secret, .len = sizeof world->secret};
    *ret_len = world->has_secret ? 1 : 0;
    return &secret;
}

static struct world *world_with(uint64_t seed, bool has_secret, double ttl_s) {
    struct world *world = calloc(1, sizeof *world);
    struct qn_buf diagnostics = {0};
    cr_assert_geq(sodium_init(), 0);
    cr_assert_eq(qn_topology_parse("test.yaml", yaml, strlen(yaml), &world->topology, &diagnostics), 0);
    qn_buf_release(&diagnostics);
    world->topology.key_ttl_s = ttl_s;
    world->seed = seed;
    world->has_secret = has_secret;
    qn_rng_init(&world->rng, seed, "test", 0);
    for (size_t i = 0; i < sizeof world->secret; i++) world->secret[i] = (uint8_t)qn_rng_u64(&world->rng);
    struct cluster_config config = {.topology = &world->topology,
                                    .seed = seed,
                                    .latency_ns = 1000,
                                    .jitter_ns = 2 * MS,
                                    .store_ns = 5 * MS,
                                    .notice_ns = 20 * MS,
                                    .context = world,
                                    .on_reply = on_reply,
                                    .on_step = on_step,
                                    .secrets = secrets};
    cr_assert_eq(cluster_new(&config, &world->cluster), 0);
    cluster_run_until(world->cluster, 100 * MS);
    return world;
}

static struct world *world_new(uint64_t seed, bool has_secret) { return world_with(seed, has_secret, 0); }

static void world_free(struct world *world) {
    cluster_free(world->cluster);
    qn_topology_release(&world->topology);
    free(world);
}

static void poke(struct world *world, uint16_t node) { /* A step, so that what was called from outside goes out. */
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__VersionRequest m = QNET__V1__VERSION_REQUEST__INIT;
    request.id = 1;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_VERSION;
    request.version = &m;
    cluster_request(world->cluster, node, 9, &request);
}

static void take(struct world *world, uint16_t node, const uint8_t *id) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__KeyTakeRequest m = QNET__V1__KEY_TAKE_REQUEST__INIT;
    request.id = 1;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_KEY_TAKE;
    request.key_take = &m;
    m.key_id = (ProtobufCBinaryData){16, (uint8_t *)(uintptr_t)id};
    static uint64_t client = 100;
    cluster_request(world->cluster, node, ++client, &request);
}

static uint64_t below(struct world *world, uint64_t n) { return qn_rng_below(&world->rng, n); }

/* A protocol has made a key: the two ends finish up to 30 ms apart, if they live. */
static struct made *make(struct world *world, uint64_t skew_ns) {
    struct made *made = &world->made[world->n++];
    for (size_t i = 0; i < sizeof made->id; i++) made->id[i] = (uint8_t)qn_rng_u64(&world->rng);
    for (size_t i = 0; i < sizeof made->bytes; i++) made->bytes[i] = (uint8_t)qn_rng_u64(&world->rng);
    for (uint16_t end = 0; end < 2; end++) {
        made->incarnation[end] = cluster_incarnation(world->cluster, end);
        made->due_ns[end] = cluster_now(world->cluster) + 1 + (skew_ns > 0 ? below(world, skew_ns) : 0);
    }
    return made;
}

static void finish_due(struct world *world) {
    for (size_t i = 0; i < world->n; i++)
        for (uint16_t end = 0; end < 2; end++) {
            struct made *made = &world->made[i];
            struct qn_node *node = cluster_node(world->cluster, end);
            if (made->due_ns[end] == 0 || made->due_ns[end] > cluster_now(world->cluster)) continue;
            made->due_ns[end] = 0;
            /* A protocol's session with an earlier life of either end is over. */
            bool lives = node != NULL && made->incarnation[end] == cluster_incarnation(world->cluster, end) &&
                         node->remotes[end == 0 ? 1 : 0].incarnation == made->incarnation[end == 0 ? 1 : 0];
            if (!lives) continue;
            uint8_t check[8];
            memcpy(check, made->bytes, sizeof check);
            keys_add(node, QN_STORE_KEY, end == 0 ? 1 : 0, made->id, check, 0.01, made->bytes, KEY_LEN);
            poke(world, end);
        }
}

static void run(struct world *world, uint64_t ns) {
    uint64_t end_ns = cluster_now(world->cluster) + ns;
    while (cluster_now(world->cluster) < end_ns) {
        cluster_run_until(world->cluster, cluster_now(world->cluster) + MS);
        finish_due(world);
    }
}

static void disturb(struct world *world) {
    uint16_t end = (uint16_t)below(world, 2);
    switch (below(world, 9)) {
    case 0:
    case 1:
        if (world->n < KEYS) make(world, 30 * MS);
        break;
    case 2:
        cluster_crash(world->cluster, end);
        break;
    case 3:
    case 4:
        cluster_start(world->cluster, end);
        break;
    case 5:
        cluster_cut(world->cluster, 0, 1, QN_CLASSICAL, below(world, 2) == 0);
        break;
    case 6:
        cluster_fill_disk(world->cluster, end, below(world, 2) == 0);
        break;
    default:
        if (world->n == 0) break;
        struct made *made = &world->made[below(world, world->n)];
        if (cluster_node(world->cluster, end) == NULL) break;
        made->asked[end] = true;
        take(world, end, made->id);
    }
    run(world, below(world, 40 * MS));
}

static void heal(struct world *world) {
    for (uint16_t end = 0; end < 2; end++) {
        cluster_fill_disk(world->cluster, end, false);
        cluster_start(world->cluster, end);
    }
    cluster_cut(world->cluster, 0, 1, QN_CLASSICAL, false);
    run(world, 30000 * MS);
}

static void check_at_rest(const struct world *world) {
    for (size_t i = 0; i < world->n; i++) {
        const struct made *made = &world->made[i];
        const struct key *keys[2] = {key_at(world, 0, made->id), key_at(world, 1, made->id)};
        for (int end = 0; end < 2; end++) {
            cr_assert(keys[end] == NULL || keys[end]->state == KEY_READY || keys[end]->state == KEY_TAKEN,
                      "seed %lu: key %zu is left %s at end %d", (unsigned long)world->seed, i,
                      key_state_name(keys[end]), end);
            if (made->was_ready[end] && !made->asked[end])
                cr_assert(keys[end] != NULL && keys[end]->state == KEY_READY,
                          "seed %lu: key %zu was ready at end %d and is lost", (unsigned long)world->seed, i, end);
            if (keys[end] != NULL && keys[end]->state == KEY_READY)
                cr_assert_not_null(keys[1 - end], "seed %lu: key %zu is only at end %d", (unsigned long)world->seed, i,
                                   end);
        }
    }
}

/* Whatever happens, in any order. QNETD_KEY_SEEDS: how many. */
Test(keys, survive_any_order_of_faults, .timeout = 300) {
    const char *wanted = getenv("QNETD_KEY_SEEDS");
    uint64_t seeds = wanted != NULL ? strtoull(wanted, NULL, 10) : 300;
    size_t ready = 0, served = 0;
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        struct world *world = world_new(seed, seed % 2 == 0);
        for (int i = 0; i < 60; i++) disturb(world);
        heal(world);
        check_at_rest(world);
        for (size_t i = 0; i < world->n; i++)
            for (int end = 0; end < 2; end++) {
                ready += world->made[i].was_ready[end];
                served += world->made[i].served[end];
            }
        world_free(world);
    }
    fprintf(stderr, "%lu seeds, %zu times ready, %zu served\n", (unsigned long)seeds, ready, served);
    cr_assert_gt(ready, seeds);
    cr_assert_gt(served, seeds / 2);
}

Test(keys, are_ready_only_when_durable_at_both_ends) {
    struct world *world = world_new(7, false);
    cluster_fill_disk(world->cluster, 1, true);
    const struct made *made = make(world, 0);
    run(world, 1000 * MS);
    cr_assert_eq(key_at(world, 0, made->id)->state, KEY_STORED);
    cr_assert_eq(key_at(world, 1, made->id)->state, KEY_WRITING);
    const char *why;
    cr_assert(qn_node_is_ready(cluster_node(world->cluster, 0), &why));
    cr_assert_not(qn_node_is_ready(cluster_node(world->cluster, 1), &why));
    cr_assert_str_eq(why, "the key store cannot be written");
    cr_assert_eq(
        keys_add(cluster_node(world->cluster, 1), QN_STORE_KEY, 0, world->secret, world->secret, 0, world->secret, 32),
        -QN_ESTORE, "nothing new is taken on while the disk is full");
    cluster_fill_disk(world->cluster, 1, false);
    run(world, 1000 * MS);
    cr_assert_eq(key_at(world, 0, made->id)->state, KEY_READY);
    cr_assert_eq(key_at(world, 1, made->id)->state, KEY_READY);
    cr_assert(qn_node_is_ready(cluster_node(world->cluster, 1), &why), "%s", why);
    world_free(world);
}

Test(keys, taken_at_both_ends_leave_nothing_behind) {
    struct world *world = world_new(8, false);
    const struct made *made = make(world, 0);
    run(world, 100 * MS);
    take(world, 0, made->id);
    take(world, 0, made->id); /* Refused: it is on its way. */
    run(world, 100 * MS);
    cr_assert_eq(made->served[0], 1);
    cr_assert_eq(on_disk(world, 0, made->id)->record.state, QN_STORE_TAKEN, "remembered until the other end took it");
    cr_assert_null(on_disk(world, 0, made->id)->material, "erased");
    take(world, 1, made->id);
    run(world, 100 * MS);
    cr_assert_eq(made->served[1], 1);
    cr_assert_null(on_disk(world, 0, made->id));
    cr_assert_null(on_disk(world, 1, made->id));
    world_free(world);
}

Test(keys, expire_at_both_ends_and_so_does_the_memory_of_taken_ones) {
    struct world *world = world_with(11, false, 10);
    const struct made *one = make(world, 0), *other = make(world, 0);
    run(world, 1000 * MS);
    take(world, 0, other->id);
    run(world, 8000 * MS);
    cr_assert_eq(key_at(world, 0, one->id)->state, KEY_READY);
    cr_assert_eq(key_at(world, 0, other->id)->state, KEY_TAKEN);
    cluster_crash(world->cluster, 1);
    cluster_start(world->cluster, 1); /* Time goes on across lives. */
    run(world, 2000 * MS);
    for (uint16_t end = 0; end < 2; end++) cr_assert_null(key_at(world, end, one->id));
    cr_assert_null(key_at(world, 1, other->id), "not taken here in its time");
    cr_assert_null(key_at(world, 0, other->id), "and nobody can take it any more");
    run(world, 20000 * MS);
    cr_assert_eq(cluster_disk(world->cluster, 0)->len + cluster_disk(world->cluster, 1)->len, 0);
    world_free(world);
}

Test(keys, that_differ_are_dropped_at_both_ends) {
    struct world *world = world_new(9, false);
    uint8_t id[16] = {1}, checks[2][8] = {{1}, {2}};
    for (uint16_t end = 0; end < 2; end++) {
        struct qn_node *node = cluster_node(world->cluster, end);
        cr_assert_eq(keys_add(node, QN_STORE_KEY, end == 0 ? 1 : 0, id, checks[end], 0, world->secret, 32), 0);
        poke(world, end);
    }
    run(world, 1000 * MS);
    for (uint16_t end = 0; end < 2; end++) {
        cr_assert_null(key_at(world, end, id));
        cr_assert_null(on_disk(world, end, id));
    }
    world_free(world);
}

Test(keys, limits_hold) {
    struct world *world = world_new(10, false);
    struct qn_node *node = cluster_node(world->cluster, 0);
    uint8_t *big = calloc(1, QN_STORE_KEY_MAX + 1), id[16] = {0};
    cr_assert_eq(keys_add(node, QN_STORE_KEY, 1, id, id, 0, big, QN_STORE_KEY_MAX + 1), -QN_EINVAL);
    cr_assert_eq(keys_add(node, QN_STORE_KEY, 1, id, id, 0, big, 0), -QN_EINVAL);
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i <= KEYS_PER_PEER; i++) {
        memcpy(id, &i, sizeof i);
        rc = keys_add(node, QN_STORE_KEY, 1, id, id, 0, big, 8);
        if (i % 256 == 0) run(world, 20 * MS);
        cr_assert(rc == 0 || i == KEYS_PER_PEER, "%u: %d", i, rc);
    }
    cr_assert_eq(rc, -QN_ELIMIT);
    cr_assert_eq(keys_add(node, QN_STORE_KEY, 1, (uint8_t[16]){0}, id, 0, big, 8), -QN_EINVAL, "the id is not new");
    free(big);
    world_free(world);
}

/* ---- pads ---- */

Test(keys, pads_of_either_end_are_the_same_and_never_used_twice, .timeout = 60) {
    struct world *world = world_new(20, true);
    run(world, 1000 * MS);
    uint8_t seen[2][2048] = {{0}};
    cr_assert_eq(pads_left(cluster_node(world->cluster, 0), 1), 2048);
    size_t taken[2] = {0, 0};
    for (int i = 0; i < 400; i++) {
        uint16_t from = (uint16_t)below(world, 2), to = from == 0 ? 1 : 0;
        struct qn_node *sender = cluster_node(world->cluster, from), *receiver = cluster_node(world->cluster, to);
        struct pad_ref ref;
        uint8_t pad[16], same[16];
        if (below(world, 20) == 0) { /* A crash of the sender loses what was reserved, and repeats nothing. */
            cluster_crash(world->cluster, from);
            run(world, 100 * MS);
            cluster_start(world->cluster, from);
            run(world, 1000 * MS);
            continue;
        }
        int rc = pads_take(sender, to, sizeof pad, pad, &ref);
        poke(world, from);
        run(world, 10 * MS);
        if (rc == -QN_EBUSY) continue;
        if (rc == -QN_ENO_KEY) break;
        cr_assert_eq(rc, 0);
        taken[from]++;
        for (size_t k = 0; k < sizeof pad; k++) {
            cr_assert_eq(seen[from][ref.offset + k], 0, "a pad is used twice");
            seen[from][ref.offset + k] = 1;
        }
        cr_assert_eq(pads_open(receiver, from, &ref, sizeof same, same), 0);
        cr_assert_arr_eq(pad, same, sizeof pad);
        cr_assert_eq(pads_open(receiver, from, &ref, sizeof same, same), -QN_EPROTOCOL, "a replay is refused");
        size_t at = 16 + (from == 0 ? 0u : 2048u) + ref.offset;
        cr_assert_arr_eq(pad, world->secret + at, sizeof pad, "each end has its own half");
    }
    cr_assert_gt(taken[0] + taken[1], 20);
    world_free(world);
}

Test(keys, pads_run_out_and_a_key_set_aside_renews_them) {
    struct world *world = world_new(21, true);
    run(world, 1000 * MS);
    struct qn_node *a = cluster_node(world->cluster, 0), *b = cluster_node(world->cluster, 1);
    struct pad_ref ref;
    uint8_t pad[1024], id[16] = {5}, check[8] = {6};
    cr_assert_eq(pads_take(a, 1, 1024, pad, &ref), 0);
    poke(world, 0);
    run(world, 100 * MS);
    cr_assert_eq(pads_take(a, 1, 1024, pad, &ref), 0);
    cr_assert_eq(pads_take(a, 1, 16, pad, &ref), -QN_ENO_KEY);
    cr_assert_eq(keys_add(a, QN_STORE_PAD, 1, id, check, 0, world->secret, 64), 0);
    cr_assert_eq(keys_add(b, QN_STORE_PAD, 0, id, check, 0, world->secret, 64), 0);
    poke(world, 0);
    poke(world, 1);
    cr_assert_eq(pads_take(a, 1, 16, pad, &ref), -QN_EBUSY, "not before it is durable at both ends");
    run(world, 1000 * MS);
    cr_assert_eq(pads_take(a, 1, 16, pad, &ref), 0);
    cr_assert_arr_eq(ref.id, id, sizeof id);
    cr_assert_eq(pads_open(b, 0, &ref, 16, pad), 0);
    cr_assert_eq(pads_open(b, 0, &(struct pad_ref){.id = {5}, .offset = 32}, 16, pad), -QN_EPROTOCOL);
    cr_assert_eq(pads_open(b, 0, &(struct pad_ref){.id = {4}}, 16, pad), -QN_ENOT_FOUND);
    world_free(world);
}

Test(keys, a_secret_that_only_one_end_has_is_of_no_use) {
    struct world *world = world_new(22, true);
    world->has_secret = false;
    cluster_crash(world->cluster, 1);
    cluster_start(world->cluster, 1); /* Its store still has it from before: that is enough. */
    run(world, 2000 * MS);
    cr_assert_eq(pads_left(cluster_node(world->cluster, 0), 1), 2048);
    world_free(world);
}
