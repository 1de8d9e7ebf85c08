/* SPDX-License-Identifier: Apache-2.0 */
/* BB84 from pulses to equal keys, and an eavesdropper caught at the predicted error rate. */
#include <string.h>

#include "network.h"
#include "qnet/v1/envelope.pb-c.h"

static const char yaml[] =
    "version: 1\nnetwork: keys\nnodes:\n  laser: {role: source, source: single-photon, clock: 100MHz}\n"
    "  bob: {role: detector, efficiency: 80%, dark_rate: 100Hz, gate_window: 1ns}\n"
    "links:\n  qkd: {between: [laser, bob], length: 10km, loss: 0.2dB/km, misalignment: 1%}\n";

static const Qnet__V1__KeyInfo *take_key(struct network *network, const char *node, ProtobufCBinaryData id) {
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__KeyTakeRequest take = QNET__V1__KEY_TAKE_REQUEST__INIT;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_KEY_TAKE;
    request.key_take = &take;
    take.key_id = id;
    const Qnet__V1__ControlResponse *response = network_wait(network, network_ask(network, node, &request), 1);
    cr_assert_eq(response->body_case, QNET__V1__CONTROL_RESPONSE__BODY_KEY, "%s has no such key", node);
    return response->key;
}

Test(bb84, gives_equal_keys_at_both_ends_whoever_asks) {
    for (int i = 0; i < 4; i++) { /* With and without an initial secret. */
        struct network *network = network_new_with_secret(yaml, 200 + (uint64_t)i, 20000, i < 2 ? 0 : 4096);
        uint64_t client =
            network_ask_bb84_pulses(network, i % 2 == 0 ? "laser" : "bob", i % 2 == 0 ? "bob" : "laser", 2, 400000);
        const Qnet__V1__ControlResponse *response = network_wait(network, client, 60);
        cr_assert_eq(response->body_case, QNET__V1__CONTROL_RESPONSE__BODY_BB84_SUMMARY, "%s",
                     response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_ERROR ? response->error->message : "?");
        cr_assert_gt(response->bb84_summary->secret, 50000);
        const Qnet__V1__Bb84Block *block = network_block(network, client, 0);
        double expected = response->bb84_summary->expected_qber,
               error = sqrt(expected * (1 - expected) / (double)block->sampled);
        cr_assert(fabs(block->qber - expected) < 5 * error, "seed %d: QBER %.4f, expected %.4f", 200 + i, block->qber,
                  expected);
        cr_assert(block->efficiency > 1 && block->efficiency < 1.5, "f = %g", block->efficiency);
        cluster_run_until(network->cluster, cluster_now(network->cluster) + 1000000000);
        const Qnet__V1__KeyInfo *a = take_key(network, "laser", block->key_id),
                                *b = take_key(network, "bob", block->key_id);
        cr_assert_eq(a->material.len, (block->secret - block->account->pool_bits) / 8);
        cr_assert_eq(block->account->authenticated, i >= 2);
        cr_assert_eq(block->account->pad_bits, i < 2 ? 0 : 256);
        cr_assert_eq(block->account->net_bits, (int64_t)block->secret - (int64_t)block->account->pad_bits);
        cr_assert_eq(a->material.len, b->material.len);
        cr_assert_arr_eq(a->material.data, b->material.data, a->material.len);
        network_free(network);
    }
}

static uint32_t blocks_seen; /* The youngest. */

static void note_block(struct network *network, uint16_t node, const struct qn_event *event) {
    (void)network, (void)node;
    if (event->type != QN_EVENT_ENVELOPE || event->plane != QN_QUANTUM) return;
    Qnet__V1__Envelope *envelope = qnet__v1__envelope__unpack(NULL, event->len, event->bytes);
    if (envelope->body_case == QNET__V1__ENVELOPE__BODY_PHOTON &&
        envelope->photon->body_case == QNET__V1__PHOTON__BODY_TRAIN && envelope->photon->train->block > blocks_seen)
        blocks_seen = envelope->photon->train->block;
    qnet__v1__envelope__free_unpacked(envelope, NULL);
}

/* Small blocks go side by side, many of them; but once one is done, only as many are begun as are wanted. */
Test(bb84, makes_as_many_bits_as_are_wanted_and_not_many_more) {
    static const char fast[] = "version: 1\nnetwork: fast\nnodes:\n"
                               "  laser: {role: source, source: single-photon, clock: 2.5GHz}\n"
                               "  bob: {role: detector, efficiency: 80%, dark_rate: 100Hz, gate_window: 0.1ns}\n"
                               "links:\n  qkd: {between: [laser, bob], length: 10km, misalignment: 1%}\n";
    struct network *network = network_new(fast, 205, 20000, true);
    network->on_step = note_block;
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__Bb84Request m = QNET__V1__BB84_REQUEST__INIT;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_BB84;
    request.bb84 = &m;
    m.peer = (char *)(uintptr_t) "bob";
    m.block_pulses = 400000;
    m.timeout_ns = UINT64_C(10000000000000);
    for (uint64_t n = 1; n <= 12; n += 11) {
        m.secret_bits = n * 30000;
        blocks_seen = 0;
        const Qnet__V1__ControlResponse *response = network_wait(network, network_ask(network, "laser", &request), 600);
        cr_assert_eq(response->body_case, QNET__V1__CONTROL_RESPONSE__BODY_BB84_SUMMARY);
        const Qnet__V1__Bb84Summary *sum = response->bb84_summary;
        uint64_t block = sum->secret / sum->blocks;
        cr_assert_geq(sum->secret, m.secret_bits);
        cr_assert_leq(blocks_seen, m.secret_bits / block + 5, "%u blocks begun, %lu bits each, %lu wanted", blocks_seen,
                      (unsigned long)block, (unsigned long)m.secret_bits);
        cr_assert(n == 1 || blocks_seen > 4, "%u blocks", blocks_seen);
    }
    network_free(network);
}

/* As many as have room, before any answer to the first. */
Test(bb84, sixteen_small_blocks_are_under_way) {
    static const char slow[] = "version: 1\nnetwork: slow\nnodes:\n  laser: {role: source, source: single-photon}\n"
                               "  bob: {role: detector}\nlinks:\n"
                               "  qkd: {between: [laser, bob], length: 10km, classical_delay: 500ms}\n";
    struct network *network = network_new_unchecked(slow, 206, 0, 0);
    network->on_step = note_block;
    blocks_seen = 0;
    network_ask_bb84_pulses(network, "laser", "bob", 40, 100000);
    cluster_run_until(network->cluster, cluster_now(network->cluster) + 1480000000);
    cr_assert_eq(blocks_seen, 16, "%u blocks", blocks_seen);
    network_free(network);
}

Test(bb84, an_eavesdropper_shows_as_predicted) {
    static const double fractions[4] = {0, 0.1, 0.5, 1};
    for (int i = 0; i < 4; i++) {
        struct network *network = network_new(yaml, 210 + (uint64_t)i, 0, true);
        network_fault(network, "laser", "qkd", QNET__V1__FAULT_KIND__FAULT_KIND_EVE, fractions[i]);
        network_fault(network, "bob", "qkd", QNET__V1__FAULT_KIND__FAULT_KIND_EVE, fractions[i]);
        uint64_t client = network_ask_bb84(network, "laser", "bob", 1, 0);
        const Qnet__V1__ControlResponse *response = network_wait(network, client, 60);
        const Qnet__V1__Bb84Block *block = network_block(network, client, 0);
        double expected = 0.01 + fractions[i] * (0.25 - 0.01 / 2),
               error = sqrt(expected * (1 - expected) / (double)block->sampled);
        cr_assert(fabs(block->qber - expected) < 5 * error, "seed %d, f %g: QBER %.4f of %lu, expected %.4f", 210 + i,
                  fractions[i], block->qber, (unsigned long)block->sampled, expected);
        if (expected > 0.11) {
            expect_error(response, "qber");
            cr_assert_not_null(strstr(response->error->message, "QBER"));
        } else {
            cr_assert_eq(response->body_case, QNET__V1__CONTROL_RESPONSE__BODY_BB84_SUMMARY);
        }
        network_free(network);
    }
}

Test(bb84, without_secrecy_there_is_no_key_however_high_the_limit) {
    struct network *network = network_new(yaml, 215, 0, true);
    network_fault(network, "bob", "qkd", QNET__V1__FAULT_KIND__FAULT_KIND_EVE, 1);
    const Qnet__V1__ControlResponse *response =
        network_wait(network, network_ask_bb84(network, "laser", "bob", 1, 0.5), 60);
    cr_assert_eq(response->body_case, QNET__V1__CONTROL_RESPONSE__BODY_BB84_SUMMARY);
    cr_assert_eq(response->bb84_summary->secret, 0);
    cr_assert_eq(response->bb84_summary->aborted, 1);
    network_free(network);
}

Test(bb84, a_cut_fibre_stops_it_and_restoring_goes_on) {
    struct network *network = network_new(yaml, 220, 0, true);
    network_fault(network, "laser", "qkd", QNET__V1__FAULT_KIND__FAULT_KIND_CUT_QUANTUM, 0);
    uint64_t client = network_ask_bb84(network, "laser", "bob", 1, 0);
    cluster_run_until(network->cluster, cluster_now(network->cluster) + 5000000000);
    cr_assert_eq(network->n_answers, 1, "an answer without photons");
    network_fault(network, "laser", "qkd", QNET__V1__FAULT_KIND__FAULT_KIND_RESTORE_QUANTUM, 0);
    cr_assert_eq(network_wait(network, client, 60)->body_case, QNET__V1__CONTROL_RESPONSE__BODY_BB84_SUMMARY);
    network_fault(network, "laser", "qkd", QNET__V1__FAULT_KIND__FAULT_KIND_CUT_QUANTUM, 0);
    client = network_ask_bb84(network, "laser", "bob", 1, 0);
    expect_error(network_wait(network, client, 60), "peer_down");
    network_free(network);
}
