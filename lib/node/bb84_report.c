/* SPDX-License-Identifier: Apache-2.0 */
/* What users are told of blocks and sessions. */
#include <stdlib.h>
#include <string.h>

#include "node/bb84.h"
#include "node/keys.h"
#include "qkd/estimate.h"

static char *borrow(const char *text) { return (char *)(uintptr_t)text; } /* protobuf-c's strings are not const. */

static size_t fill_intensities(const struct block *block, Qnet__V1__Bb84Intensity *list,
                               Qnet__V1__Bb84Intensity **pointers) {
    const struct bb84_parameters *parameters = &block->session->parameters;
    size_t n = bb84_classes(parameters);
    for (size_t k = 0; k < n; k++) {
        qnet__v1__bb84_intensity__init(&list[k]);
        list[k].mean = parameters->decoy.n > 0 ? parameters->decoy.mean[k] : parameters->mean;
        list[k].probability = parameters->decoy.n > 0 ? parameters->decoy.probability[k] : 1;
        list[k].key_clicks = block->counts.key_n[k];
        list[k].key_errors = block->counts.key_m[k];
        list[k].test_clicks = block->counts.test_n[k];
        list[k].test_errors = block->counts.test_m[k];
        pointers[k] = &list[k];
    }
    return n;
}

static void fill_account(const struct block *block, Qnet__V1__Bb84Account *account) {
    const struct session *session = block->session;
    const struct bb84_parameters *parameters = &session->parameters;
    account->bound = borrow(bb84_bound_name(parameters->bound));
    account->verdict =
        borrow(block->verdict == 0 || block->verdict == -QN_ENO_KEY ? qn_finite_verdict_name(block->bounds.verdict)
                                                                    : qn_err_name(block->verdict));
    account->detail = borrow(block->detail);
    account->vacuum_clicks = block->bounds.key_s0;
    account->single_clicks = block->bounds.key_s1;
    account->test_singles = block->bounds.test_s1;
    account->test_single_errors = block->bounds.test_v1;
    account->phase_error = block->bounds.phi;
    account->secrecy_bits = block->bounds.secrecy_bits;
    account->correctness_bits = block->bounds.correctness_bits;
    account->epsilon_secret = parameters->epsilon_secret;
    account->epsilon_correct = parameters->epsilon_correct;
    account->epsilon_authentication = block->forgery;
    account->tag_bits = block->tag_bits;
    account->authenticated = parameters->authenticated;
    account->pad_bits = block->pad_bits;
    account->pool_bits = block->pool_bits;
    account->net_bits = (int64_t)block->secret - (int64_t)block->pad_bits;
    account->pool_left = parameters->authenticated ? 8 * pads_left(session->node, session->peer) : 0;
    account->method = borrow(block->method == QN_RECONCILE_AUTO ? "" : qn_reconcile_name(block->method));
    account->corrected = bb84_sum(block->counts.key_m);
    account->failed_frames = block->failed_frames;
    account->key_qber = bb84_key_qber(block);
    account->trains = block->n_trains;
    account->wrong_trains = block->n_wrong;
    account->dropped_bits = block->dropped_bits;
    account->keys = block->n_keys;
    account->elapsed_ns = session->node->now_ns - block->begun_ns;
    account->public_seed = session->node->public_seed;
}

void bb84_tell_block(struct session *session, const struct block *block) {
    struct request *request = session->request != 0 ? request_find(session->node, session->request) : NULL;
    if (request == NULL) return;
    Qnet__V1__Bb84Block info = QNET__V1__BB84_BLOCK__INIT;
    Qnet__V1__Bb84Account account = QNET__V1__BB84_ACCOUNT__INIT;
    Qnet__V1__ControlResponse response = QNET__V1__CONTROL_RESPONSE__INIT;
    Qnet__V1__Bb84Intensity intensities[QN_DECOYS_MAX], *intensity_pointers[QN_DECOYS_MAX];
    Qnet__V1__QkdAlarm alarms[ALARMS_MAX], *alarm_pointers[ALARMS_MAX];
    uint64_t key = bb84_sum(block->counts.key_n);
    double shannon = qn_binary_entropy(bb84_key_qber(block)) * (double)key;
    info.block = block->number;
    info.pulses = block->pulses;
    info.clicks = block->clicks;
    info.sampled = bb84_sum(block->counts.test_n);
    info.sifted = key + info.sampled;
    info.qber = bb84_test_qber(block);
    info.disclosed = block->disclosed;
    info.efficiency = shannon > 0 ? (double)block->disclosed / shannon : 0;
    info.secret = block->secret;
    if (block->secret > 0)
        info.key_id = (ProtobufCBinaryData){sizeof block->key_id, (uint8_t *)(uintptr_t)block->key_id};
    info.failed = borrow(block->verdict == 0 ? "" : qn_err_name(block->verdict));
    info.bell_pairs = bb84_bell(block, &info.bell_s, &info.bell_error);
    info.account = &account;
    fill_account(block, &account);
    account.intensities = intensity_pointers;
    account.n_intensities = fill_intensities(block, intensities, intensity_pointers);
    account.alarms = alarm_pointers;
    account.n_alarms = block->n_alarms;
    bb84_pack_alarms(block, alarms, alarm_pointers);
    response.body_case = QNET__V1__CONTROL_RESPONSE__BODY_BB84_BLOCK;
    response.bb84_block = &info;
    node_reply(session->node, request->client, request->id, true, &response);
}

static double expected_qber(const struct session *session) { /* Of the test basis, with whatever is done to the link. */
    if (bb84_is_of_pairs(session)) return session->expected_qber;
    struct qn_optics *optics = malloc(sizeof *optics);
    struct qn_expected *expected = malloc(sizeof *expected);
    double clicks = 0, errors = 0;
    if (optics != NULL && expected != NULL) {
        bb84_optics(session, optics);
        qn_expect(optics, expected);
        for (unsigned k = 0; k < optics->source.n; k++) {
            clicks += expected->chosen[1][k] * expected->gain[1][k];
            errors += expected->chosen[1][k] * expected->error[1][k];
        }
    }
    free(optics);
    free(expected);
    return clicks > 0 ? errors / clicks : 0;
}

void bb84_tell_summary(struct session *session, struct request *request) {
    Qnet__V1__Bb84Summary summary = QNET__V1__BB84_SUMMARY__INIT;
    Qnet__V1__ControlResponse response = QNET__V1__CONTROL_RESPONSE__INIT;
    summary.blocks = session->blocks_done;
    summary.aborted = session->aborted;
    summary.sifted = session->sifted;
    summary.secret = session->secret;
    summary.sampled = session->test;
    summary.errors = session->test_errors;
    summary.qber = session->test > 0 ? (double)session->test_errors / (double)session->test : 0;
    summary.expected_qber = expected_qber(session);
    summary.elapsed_ns = session->node->now_ns - request->started_ns;
    summary.pad_bits = session->pad_bits;
    summary.net_bits = (int64_t)session->secret - (int64_t)session->pad_bits;
    summary.authenticated = session->parameters.authenticated;
    response.body_case = QNET__V1__CONTROL_RESPONSE__BODY_BB84_SUMMARY;
    response.bb84_summary = &summary;
    node_reply(session->node, request->client, request->id, false, &response);
}
