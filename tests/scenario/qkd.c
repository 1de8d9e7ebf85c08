/* SPDX-License-Identifier: Apache-2.0 */
/* Keys with decoys over published links: what is counted, and the key that comes of it, agree with the closed forms;
 * who speaks is proved, and paid for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "link/observe.h"
#include "network.h"
#include "node/bb84.h"
#include "qkd/finite.h"
#include "qkd/reconcile.h"
#include "qnet/v1/envelope.pb-c.h"
#include "randomness.h"

static void describe(char *yaml, size_t size, const char *preset, double km) {
    snprintf(yaml, size,
             "version: 1\nnetwork: keys\nnodes:\n  laser: {role: source}\n  bob: {role: detector}\n"
             "links:\n  qkd: {between: [laser, bob], kind: bb84, length: %gkm, preset: %s}\n",
             km, preset);
}

/* ---- presets ---- */

/* How much `length` moves by chance: each count is Poisson (binomial, of rare clicks). */
static double length_of(const struct qn_decoy *source, const struct qn_decoy_means *means,
                        const struct qn_finite_terms *terms, double leak) {
    struct qn_finite finite;
    qn_finite_decoy_expected(source, means, terms, leak, &finite);
    return finite.exact;
}

static double sigma_of(const struct qn_decoy *source, const struct qn_decoy_means *means,
                       const struct qn_finite_terms *terms, double leak) {
    double base = length_of(source, means, terms, leak), square = 0;
    for (unsigned k = 0; k < source->n; k++) {
        struct qn_decoy_means moved = *means;
        double *counts[] = {&moved.key_n[k], &moved.key_m[k], &moved.test_n[k], &moved.test_m[k]};
        for (int i = 0; i < 4; i++) {
            double was = *counts[i];
            *counts[i] += sqrt(was);
            double shift = length_of(source, &moved, terms, leak) - base;
            square += shift * shift;
            *counts[i] = was;
        }
    }
    return sqrt(square);
}

static void near(const char *preset, const char *what, unsigned k, double count, double trials, double p,
                 double spread) {
    double sigma = sqrt(trials * p * (1 - p)) * spread + 1;
    cr_assert(fabs(count - trials * p) < 5 * sigma, "%s: %s of intensity %u: %.0f, expected %.0f +- %.0f", preset, what,
              k + 1, count, trials * p, sigma);
}

Test(qkd, counts_and_keys_of_published_links_are_as_the_formulas_say) {
    static const struct {
        const char *preset;
        double km;
        uint64_t pulses;
        double spread; /* Clicks that blind or follow each other are not independent. */
    } runs[] = {{"gys", 10, 800000000, 1},      {"lim2014", 50, 1500000000, 1.2}, {"rusca2018", 10, 800000000, 1},
                {"yuan2018", 10, 200000000, 1}, {"li2023", 10, 250000000, 1},     {"boaron2018", 100, 400000000, 1},
                {"yuan2018", 50, 1000000000, 1}};
    for (size_t r = 0; r < sizeof runs / sizeof runs[0]; r++) {
        char yaml[512];
        describe(yaml, sizeof yaml, runs[r].preset, runs[r].km);
        struct network *network = network_new_with_secret(yaml, 300 + r, 0, 4096);
        uint64_t client = network_ask_bb84_pulses(network, "bob", "laser", 1, runs[r].pulses);
        const Qnet__V1__Bb84Summary *summary = network_summary(network_wait(network, client, 10000));
        const Qnet__V1__Bb84Block *block = network_block(network, client, 0);
        const Qnet__V1__Bb84Account *account = block->account;
        struct qn_optics optics;
        struct qn_source settings;
        struct qn_receiver receiver;
        struct qn_expected expected;
        const struct qn_attack none = {0};
        const struct qn_topo_link *link = &network->topology.links[0];
        cr_assert(qn_source_from(&network->topology, link, &settings));
        qn_receiver_from(&network->topology, link, &receiver);
        cr_assert_eq(qn_optics_init(&optics, &settings, &receiver, &none), 0);
        qn_expect(&optics, &expected);
        struct qn_decoy source = {.n = settings.n};
        struct qn_decoy_means means = {0};
        double pulses = (double)block->pulses;
        cr_assert_eq(block->pulses, runs[r].pulses);
        near(runs[r].preset, "clicks", 0, (double)block->clicks, pulses, expected.click, runs[r].spread);
        for (unsigned k = 0; k < settings.n; k++) {
            const Qnet__V1__Bb84Intensity *seen = account->intensities[k];
            source.mean[k] = settings.mean[k];
            source.probability[k] = settings.probability[k];
            means.key_n[k] = pulses * expected.chosen[0][k] * expected.gain[0][k];
            means.key_m[k] = pulses * expected.chosen[0][k] * expected.error[0][k];
            means.test_n[k] = pulses * expected.chosen[1][k] * expected.gain[1][k];
            means.test_m[k] = pulses * expected.chosen[1][k] * expected.error[1][k];
            near(runs[r].preset, "key bits", k, (double)seen->key_clicks, pulses, means.key_n[k] / pulses,
                 runs[r].spread);
            near(runs[r].preset, "test bits", k, (double)seen->test_clicks, pulses, means.test_n[k] / pulses,
                 runs[r].spread);
            near(runs[r].preset, "key errors", k, (double)seen->key_errors, (double)seen->key_clicks,
                 means.key_m[k] / means.key_n[k], 1);
            near(runs[r].preset, "test errors", k, (double)seen->test_errors, (double)seen->test_clicks,
                 means.test_m[k] / means.test_n[k], 1);
        }
        const struct qn_finite_terms terms = {.eps_sec = link->eps_sec, .eps_cor = link->eps_cor};
        double leak = (double)block->disclosed + (double)account->tag_bits - ceil(log2(1 / link->eps_cor));
        double length = length_of(&source, &means, &terms, leak), sigma = sigma_of(&source, &means, &terms, leak);
        cr_assert(length > 5 * sigma, "%s: no key to compare, %.0f +- %.0f", runs[r].preset, length, sigma);
        cr_assert(fabs((double)block->secret - length) < 5 * sigma * runs[r].spread + 8,
                  "%s: %lu secret bits, expected %.0f +- %.0f", runs[r].preset, (unsigned long)block->secret, length,
                  sigma);
        cr_assert(block->efficiency > 1 && block->efficiency < 1.25, "%s: f = %g", runs[r].preset, block->efficiency);
        cr_assert_eq(account->n_alarms, 0, "%s: alarm: %s", runs[r].preset,
                     account->n_alarms > 0 ? account->alarms[0]->observable : "");
        cr_assert(account->epsilon_authentication > 0 && account->epsilon_authentication < 1e-28);
        cr_assert_eq(summary->net_bits, (int64_t)summary->secret - (int64_t)summary->pad_bits);
        network_free(network);
    }
}

Test(qkd, a_link_too_lossy_for_key_says_which_bound_failed) {
    char yaml[512];
    describe(yaml, sizeof yaml, "rusca2018", 150);
    struct network *network = network_new_with_secret(yaml, 320, 0, 4096);
    uint64_t client = network_ask_bb84_pulses(network, "laser", "bob", 1, 30000000);
    cr_assert_eq(network_summary(network_wait(network, client, 1000))->secret, 0);
    const Qnet__V1__Bb84Block *block = network_block(network, client, 0);
    cr_assert_str_eq(block->failed, "no_key");
    cr_assert_str_neq(block->account->verdict, "key");
    cr_assert_gt(strlen(block->account->detail), 20);
    network_free(network);
}

Test(qkd, what_the_file_leaves_open_is_chosen_for_the_link) {
    static const char yaml[] =
        "version: 1\nnetwork: keys\nnodes:\n  laser: {role: source, clock: 1GHz}\n"
        "  bob: {role: detector, efficiency: 50%, dark_rate: 10Hz, gate_window: 1ns}\n"
        "links:\n  qkd: {between: [laser, bob], kind: bb84, length: 25km, loss: 0.2dB/km, misalignment: 1%, "
        "protocol: two-decoy}\n";
    for (int i = 0; i < 2; i++) {
        struct network *network = network_new_with_secret(yaml, 330, 0, 4096);
        uint64_t client =
            network_ask_bb84_pulses(network, i == 0 ? "laser" : "bob", i == 0 ? "bob" : "laser", 1, 100000000);
        cr_assert_gt(network_summary(network_wait(network, client, 1000))->secret, 100000);
        const Qnet__V1__Bb84Account *account = network_block(network, client, 0)->account;
        cr_assert_eq(account->n_intensities, 3);
        cr_assert_gt(account->intensities[0]->mean, account->intensities[1]->mean);
        cr_assert_eq(account->n_alarms, 0);
        network_free(network);
    }
}

/* ---- the keys themselves ---- */

static ProtobufCBinaryData take(struct network *network, const char *node, ProtobufCBinaryData id) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__KeyTakeRequest body = QNET__V1__KEY_TAKE_REQUEST__INIT;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_KEY_TAKE;
    request.key_take = &body;
    body.key_id = id;
    const Qnet__V1__ControlResponse *response = network_wait(network, network_ask(network, node, &request), 10);
    cr_assert_eq(response->body_case, QNET__V1__CONTROL_RESPONSE__BODY_KEY, "%s does not have a key", node);
    return response->key->material;
}

static void expect_random(ProtobufCBinaryData key) {
    struct qn_bits bits = {0};
    char why[100];
    cr_assert_eq(qn_bits_append_bytes(&bits, key.data, key.len, 8 * key.len), 0);
    cr_assert(randomness_passes(&bits, 1e-9, why), "%s", why);
    qn_bits_release(&bits);
}

/* Takes all keys at both ends, which must be equal; returns their bits. */
static double take_all(struct network *network) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__ListRequest list = QNET__V1__LIST_REQUEST__INIT;
    double bits = 0;
    list.kind = QNET__V1__LIST_KIND__LIST_KIND_KEYS;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_LIST;
    request.list = &list;
    uint64_t client = network_ask(network, "laser", &request);
    network_wait(network, client, 10);
    for (size_t i = 0, n = network->n_answers; i < n; i++) {
        const Qnet__V1__ControlResponse *answer = network->answers[i].response;
        if (network->answers[i].client != client || answer->body_case != QNET__V1__CONTROL_RESPONSE__BODY_KEY) continue;
        ProtobufCBinaryData a = take(network, "laser", answer->key->id), b = take(network, "bob", answer->key->id);
        cr_assert_eq(a.len, b.len);
        cr_assert_eq(memcmp(a.data, b.data, a.len), 0, "keys differ");
        expect_random(a);
        bits += 8 * (double)a.len;
    }
    return bits;
}

/* A few million bits; with QNET_KEY_BITS=1e9 in the environment, that many. */
Test(qkd, keys_are_equal_at_both_ends_and_look_like_coins) {
    const char *wanted = getenv("QNET_KEY_BITS");
    double most = wanted != NULL ? atof(wanted) : 8e6, bits = 0;
    char yaml[512];
    describe(yaml, sizeof yaml, "yuan2018", 10);
    for (uint64_t seed = 350; bits < most; seed++) {
        struct network *network = network_new_with_secret(yaml, seed, 0, 4096);
        uint64_t pulses = most - bits > 2e7 ? 1600000000 : 700000000;
        uint64_t client = network_ask_bb84_pulses(network, "laser", "bob", 1, pulses);
        const Qnet__V1__Bb84Summary *summary = network_summary(network_wait(network, client, 10000));
        cr_assert_eq(summary->aborted, 0, "seed %lu", (unsigned long)seed);
        cluster_run_until(network->cluster, cluster_now(network->cluster) + 1000000000);
        double taken = take_all(network);
        cr_assert_eq(taken, (double)summary->secret, "seed %lu", (unsigned long)seed);
        bits += taken;
        network_free(network);
    }
}

static const char short_link[] =
    "version: 1\nnetwork: keys\nnodes:\n  laser: {role: source, source: single-photon, clock: 100MHz}\n"
    "  bob: {role: detector, efficiency: 80%, dark_rate: 100Hz, gate_window: 1ns}\n"
    "links:\n  qkd: {between: [laser, bob], length: 10km, loss: 0.2dB/km, misalignment: 1%}\n";

Test(qkd, every_method_of_reconciliation_gives_equal_keys) {
    for (uint32_t method = 1; method < QN_RECONCILE_METHODS; method++) {
        Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
        Qnet__V1__Bb84Request m = QNET__V1__BB84_REQUEST__INIT;
        const char *name = qn_reconcile_name((enum qn_reconcile_method)method);
        struct network *network = network_new_with_secret(short_link, 360 + method, 0, 4096);
        request.body_case = QNET__V1__CONTROL_REQUEST__BODY_BB84;
        request.bb84 = &m;
        m.peer = (char *)(uintptr_t) "bob";
        m.blocks = 1;
        m.block_pulses = 400000;
        m.method = method;
        uint64_t client = network_ask(network, "laser", &request);
        const Qnet__V1__Bb84Summary *summary = network_summary(network_wait(network, client, 1000));
        const Qnet__V1__Bb84Block *block = network_block(network, client, 0);
        cr_assert_str_eq(block->account->method, name);
        cr_assert_gt(summary->secret, 10000, "%s: %s", name, block->failed);
        cr_assert(block->efficiency > 1 && block->efficiency < 1.6, "%s: f = %g", name, block->efficiency);
        cluster_run_until(network->cluster, cluster_now(network->cluster) + 1000000000);
        cr_assert_eq(take_all(network), (double)summary->secret, "%s", name);
        network_free(network);
    }
}

/* ---- trains that cannot be made equal ---- */

static struct {
    uint32_t trains; /* A bit for each train of a block that is to go wrong. */
    uint32_t done;
    uint64_t bits; /* Of the piece that did. */
} spoil;

/* A bit of the source's changes when reconciliation has looked at it: as a strip that stays wrong does. */
static void spoil_trains(struct network *network, uint16_t node, const struct qn_event *event) {
    struct qn_node *source = cluster_node(network->cluster, node);
    (void)event;
    if (node != network_node(network, "laser") || source == NULL || list_is_empty(&source->bb84->sessions)) return;
    struct session *session = CONTAINER_OF(source->bb84->sessions.next, struct session, link);
    for (struct list *b = session->blocks.next; b != &session->blocks; b = b->next) {
        struct block *block = CONTAINER_OF(b, struct block, link);
        for (struct list *t = block->trains.next; t != &block->trains; t = t->next) {
            struct train *train = CONTAINER_OF(t, struct train, link);
            uint32_t bit = train->number < 32 ? UINT32_C(1) << train->number : 0;
            if (!(spoil.trains & ~spoil.done & bit) || train->step != TRAIN_RECONCILING) continue;
            if (train->data == NULL || train->data->answerer == NULL) continue;
            qn_bits_flip(&train->data->sifted.key, train->data->sifted.key.len / 2);
            size_t len = train->data->sifted.key.len;
            spoil.bits = len * 17 / WRONG_PIECES - len / 2; /* Of the piece that begins there. */
            spoil.done |= bit;
        }
    }
}

/* One block; the network, to look at and free. */
static struct network *block_with_spoilt_trains(uint64_t pulses, uint32_t trains, uint64_t *ret_client) {
    struct network *network = network_new_with_secret(short_link, 380, 0, 4096);
    memset(&spoil, 0, sizeof spoil);
    spoil.trains = trains;
    network->on_step = spoil_trains;
    *ret_client = network_ask_bb84_pulses(network, "bob", "laser", 1, pulses);
    network_summary(network_wait(network, *ret_client, 10000));
    cr_assert_eq(spoil.done, trains);
    return network;
}

Test(qkd, a_block_survives_a_train_that_stays_wrong_and_pays_for_the_bits_of_its_piece) {
    uint64_t client, secret[2];
    for (uint32_t spoilt = 0; spoilt < 2; spoilt++) {
        struct network *network = block_with_spoilt_trains(10000000, spoilt << 2, &client);
        const Qnet__V1__Bb84Block *block = network_block(network, client, 0);
        cr_assert_str_eq(block->failed, "");
        cr_assert_geq(block->account->trains, 4);
        cr_assert_eq(block->account->wrong_trains, spoilt);
        cr_assert_eq(block->account->dropped_bits, spoil.bits);
        cr_assert_eq(network_events(network, "laser", "train_wrong"), spoilt);
        secret[spoilt] = block->secret;
        cluster_run_until(network->cluster, cluster_now(network->cluster) + 1000000000);
        cr_assert_eq(take_all(network), (double)block->secret);
        struct qn_buf metrics = {0};
        cr_assert_eq(qn_node_metrics(cluster_node(network->cluster, network_node(network, "bob")), &metrics), 0);
        cr_assert_eq(qn_buf_append(&metrics, "", 1), 0);
        cr_assert_not_null(strstr((const char *)metrics.data, spoilt == 1
                                                                  ? "qnetd_trains_wrong_total{link=\"qkd\"} 1"
                                                                  : "qnetd_trains_wrong_total{link=\"qkd\"} 0"));
        qn_buf_release(&metrics);
        network_free(network);
    }
    /* All else is the same. Keys are whole bytes, so what is cut off may differ. */
    uint64_t cost = spoil.bits + 32 * (128 + 1); /* Hashes of the pieces, and which of them differ. */
    cr_assert_geq(secret[1], (secret[0] - cost) / 8 * 8);
    cr_assert_leq(secret[1], (secret[0] + 7 - cost) / 8 * 8);
}

Test(qkd, a_block_that_loses_more_than_a_quarter_of_its_trains_is_given_up) {
    static const struct {
        uint64_t pulses;
        uint32_t trains;
    } runs[] = {{10000000, 5}, {2000000, 1}};
    for (size_t i = 0; i < 2; i++) {
        uint64_t client;
        struct network *network = block_with_spoilt_trains(runs[i].pulses, runs[i].trains, &client);
        const Qnet__V1__Bb84Block *block = network_block(network, client, 0);
        cr_assert_str_eq(block->failed, "verify");
        cr_assert_eq(block->secret, 0);
        cr_assert_not_null(strstr(block->account->detail, "hashes"), "%s", block->account->detail);
        network_free(network);
    }
}

/* 250 km: round trips of 2.5 ms are too long for Cascade, if a processor is free for LDPC. As methods that take less
 * work lower the load, they take turns when there is much. */
Test(qkd, auto_goes_by_load) {
    enum { BLOCKS = 40 };
    static const char long_link[] =
        "version: 1\nnetwork: keys\nnodes:\n  laser: {role: source, source: single-photon, clock: 100MHz}\n"
        "  bob: {role: detector, efficiency: 80%, dark_rate: 100Hz, gate_window: 1ns}\n"
        "links:\n  qkd: {between: [laser, bob], length: 250km, loss: 0.004dB/km, misalignment: 1%}\n";
    static const struct {
        unsigned threads, most_ms; /* A job takes up to so long. */
        const char *most;          /* The method that is used most. */
    } cases[] = {{0, 500, "ldpc"}, {64, 500, "ldpc"}, {6, 500, "ldpc-fast"}, {1, 500, "cascade-fast"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct network *network =
            network_new_with_threads(long_link, 370, cases[i].threads, cases[i].most_ms * UINT64_C(1000000));
        uint64_t client = network_ask_bb84_pulses(network, "laser", "bob", BLOCKS, 100000);
        const Qnet__V1__Bb84Summary *summary = network_summary(network_wait(network, client, 10000));
        unsigned ldpc = 0, fast = 0, most = 0;
        cr_assert_eq(summary->aborted, 0);
        for (unsigned b = 0; b < BLOCKS; b++) {
            const char *method = network_block(network, client, b)->account->method;
            ldpc += strcmp(method, "ldpc") == 0;
            fast += strcmp(method, "ldpc-fast") == 0;
            most += strcmp(method, cases[i].most) == 0;
        }
        printf("# %u threads: ldpc %u times, ldpc-fast %u, %s %u\n", cases[i].threads, ldpc, fast, cases[i].most, most);
        cr_expect(i < 2 ? most == BLOCKS : most > BLOCKS / 2);
        network_free(network);
    }
}

/* ---- authentication ---- */

static uint64_t n_keys(struct network *network, const char *node) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__ListRequest list = QNET__V1__LIST_REQUEST__INIT;
    list.kind = QNET__V1__LIST_KIND__LIST_KIND_KEYS;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_LIST;
    request.list = &list;
    uint64_t client = network_ask(network, node, &request), n = 0;
    network_wait(network, client, 1);
    for (size_t i = 0; i < network->n_answers; i++)
        n += network->answers[i].client == client &&
             network->answers[i].response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_KEY;
    return n;
}

/* 16 bytes that name it, and in each direction a hash key and two tags. */
Test(qkd, stops_when_nothing_is_left_to_authenticate_with) {
    struct network *network = network_new_with_secret(short_link, 340, 0, 16 + 2 * 3 * 16);
    uint64_t client = network_ask_bb84_pulses(network, "laser", "bob", 3, 2000); /* Too short to refill the pool. */
    expect_error(network_wait(network, client, 1000), "pads");
    cr_assert_eq(network_block(network, client, 1)->account->pool_left, 0);
    client = network_ask_bb84_pulses(network, "bob", "laser", 1, 2000);
    expect_error(network_wait(network, client, 1000), "pads");
    network_free(network);
}

Test(qkd, refills_its_pool_from_what_it_makes) {
    struct network *network = network_new_with_secret(short_link, 341, 0, 16 + 2 * 4 * 16);
    uint64_t client = network_ask_bb84_pulses(network, "laser", "bob", 12, 400000);
    const Qnet__V1__Bb84Summary *summary = network_summary(network_wait(network, client, 1000));
    cr_assert_eq(summary->aborted, 0);
    cr_assert_eq(summary->pad_bits, 12 * 256 + 128);
    cr_assert_gt(network_block(network, client, 0)->account->pool_bits, 1024);
    cr_assert_gt(network_block(network, client, 11)->account->pool_left, 1000);
    network_free(network);
}

Test(qkd, ends_that_do_not_agree_are_told_in_what) {
    for (int i = 0; i < 2; i++) {
        struct network *network = network_new_with_half_a_secret(short_link, 342 + (uint64_t)i);
        uint64_t client =
            network_ask_bb84_pulses(network, i == 0 ? "laser" : "bob", i == 0 ? "bob" : "laser", 1, 400000);
        const Qnet__V1__ControlResponse *response = network_wait(network, client, 1000);
        expect_error(response, "rejected");
        cr_assert_not_null(strstr(response->error->message, "initial secret"), "%s", response->error->message);
        cr_assert_eq(n_keys(network, "laser"), 0);
        cr_assert_eq(n_keys(network, "bob"), 0);
        network_free(network);
    }
}

/* ---- several links on a node ---- */

/* What a far neighbour has no room for must not hold up the others: each has its own queue. */
Test(qkd, links_of_a_node_do_not_wait_for_each_other) {
    static const char yaml[] =
        "version: 1\nnetwork: keys\nnodes:\n  hub: {role: detector}\n  a: {role: source}\n  b: {role: source}\n"
        "  c: {role: source}\ndefaults: {link: {length: 10km, preset: yuan2018}}\nlinks:\n"
        "  la: {between: [a, hub], classical_delay: 500ms}\n  lb: {between: [b, hub]}\n  lc: {between: [c, hub]}\n";
    static const char *const sources[] = {"a", "b", "c"};
    struct network *network = network_new_unchecked(yaml, 350, 0, 4096);
    uint64_t clients[3];
    for (int i = 0; i < 3; i++) {
        clients[i] = network_ask_bb84_pulses(network, sources[i], "hub", 1, i == 0 ? 300000000 : 4000000);
        if (i == 0) cluster_run_until(network->cluster, 2000000000); /* What it says is under way for half a second. */
    }
    for (int i = 2; i >= 0; i--) network_summary(network_wait(network, clients[i], i == 0 ? 3000 : 20));
    network_free(network);
}

static unsigned trains_seen;
static uint32_t session_seen; /* The youngest. */

static void count_trains(struct network *network, uint16_t node, const struct qn_event *event) {
    (void)network, (void)node;
    if (event->type != QN_EVENT_ENVELOPE || event->plane != QN_QUANTUM) return;
    Qnet__V1__Envelope *envelope = qnet__v1__envelope__unpack(NULL, event->len, event->bytes);
    if (envelope->body_case == QNET__V1__ENVELOPE__BODY_PHOTON &&
        envelope->photon->body_case == QNET__V1__PHOTON__BODY_TRAIN) {
        if (envelope->photon->train->session > session_seen) trains_seen = 0;
        if (envelope->photon->train->session > session_seen) session_seen = envelope->photon->train->session;
        if (envelope->photon->train->session == session_seen) trains_seen++;
    }
    qnet__v1__envelope__free_unpacked(envelope, NULL);
}

/* A node with many sessions has room for few trains of each, and the source keeps to that. */
Test(qkd, sessions_share_the_memory_of_a_node) {
    static const char yaml[] =
        "version: 1\nnetwork: keys\nnodes:\n  laser: {role: source}\n  bob: {role: detector}\nlinks:\n"
        "  qkd: {between: [laser, bob], length: 10km, preset: yuan2018, classical_delay: 500ms}\n";
    for (int i = 0; i < 2; i++) {
        struct network *network = network_new_unchecked(yaml, 360, 0, 0);
        trains_seen = session_seen = 0;
        network->on_step = count_trains;
        for (int k = 0; k < (i == 0 ? 0 : 40); k++) network_ask_bb84_pulses(network, "laser", "bob", 1, 1000);
        network_ask_bb84_pulses(network, "laser", "bob", 1, 200000000);
        cluster_run_until(network->cluster, cluster_now(network->cluster) + 1480000000); /* Before any answer. */
        cr_assert(i == 0 ? trains_seen > 4 : trains_seen == 2, "%u trains", trains_seen);
        network_free(network);
    }
}
