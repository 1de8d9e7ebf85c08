/* SPDX-License-Identifier: Apache-2.0 */
/* Keys from entangled pairs: Bennett, Brassard and Mermin, PRL 68, 557 (1992). Each end measures its half of a pair in
 * the key basis (Z) or the test basis (X), as its own secret random numbers say; the head of the path turns its outcome
 * by the pair's Bell frame, so that those of one basis are equal but for errors. From there on a train of pairs is a
 * train of pulses: the head is the source, the far end the detector, and a pair's number is its position.
 *
 * A train's pairs are one request of the link layer (one link) or one circuit (over repeaters), named by session, block
 * and train so that the far end knows what its outcomes are for. The head's user's request owns it: whatever ends that
 * ends the circuit, and what ends the circuit ends the request. No MeasureReport is sent: outcomes are secret. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "link/bell.h"
#include "node/bb84.h"

#define AXIS_X 0 /* Of node_axes. */
#define AXIS_Z 2
#define AXIS_SUM 3 /* (Z+X)/sqrt 2; the next is (Z-X)/sqrt 2. */
/* Of a block, when the user says nothing. */
#define BLOCK_PAIRS 20000.0       /* Enough for a key at all, if fidelity is good; over repeaters always this. */
#define BLOCK_PAIRS_MOST 200000.0 /* On one link, and device-independent; between the two as many as... */
#define BLOCK_PAIRS_SECONDS 4.0   /* ...come in this time. */
#define BLOCK_PAIRS_LIMIT 100000000
#define INEFFICIENCY 1.2 /* Of reconciliation, on short blocks. */

bool bb84_is_of_pairs(const struct session *session) {
    return session->parameters.bound == BB84_BOUND_PAIRS || session->parameters.bound == BB84_BOUND_BELL;
}

int bb84_pairs_link(const struct qn_node *node, uint16_t peer) {
    struct route route;
    int rc = route_entanglement(node, peer, &route);
    return rc < 0 ? rc : route.links[0];
}

void bb84_pairs_way(const struct session *session, char *ret_text, size_t size) {
    const struct qn_node *node = session->node;
    struct route route;
    size_t len = 0;
    ret_text[0] = '\0';
    if (!bb84_is_of_pairs(session) || route_entanglement(node, session->peer, &route) < 0) return;
    for (size_t i = 1; i < route.n_links && len < size; i++)
        len += (size_t)snprintf(ret_text + len, size - len, "%s%s", i == 1 ? " over " : ", ",
                                node_name(node, route.nodes[i]));
}

/* ---- choosing ---- */

/* What so many pairs, with such a chance of the test basis, are worth in bits; negative: nothing. */
static double worth(const struct bb84_parameters *parameters, double pairs, double qber, double test) {
    double bell = pairs * parameters->bell_share, rest = pairs - bell;
    double key_bits = rest * (1 - test) * (1 - test), test_bits = rest * test * test;
    double h = qber > 0 ? -qber * log2(qber) - (1 - qber) * log2(1 - qber) : 0;
    struct qn_finite_terms terms = {.eps_sec = parameters->epsilon_secret,
                                    .eps_cor = parameters->epsilon_correct,
                                    .disclosed = (uint64_t)(INEFFICIENCY * h * key_bits)};
    struct qn_finite finite;
    if (parameters->bound == BB84_BOUND_BELL) {
        struct qn_bell_counts counts = {.key = (uint64_t)key_bits};
        for (int i = 0; i < 4; i++) { /* Of Werner pairs each correlation is as large. */
            counts.trials[i] = (uint64_t)(bell * (i < 2 ? 1 - test : test) / 2);
            counts.sums[i] = (int64_t)((double)counts.trials[i] * (1 - 2 * qber) * M_SQRT1_2) * (i == 3 ? -1 : 1);
        }
        qn_finite_device_independent(&counts, &terms, &finite);
    } else {
        struct qn_pair_counts counts = {(uint64_t)key_bits, (uint64_t)test_bits, (uint64_t)ceil(test_bits * qber)};
        qn_finite_pairs(&counts, &terms, &finite);
    }
    return finite.exact;
}

/* The chance of the test basis that leaves the longest key of so many pairs: few tests bound the phase errors loosely,
 * many leave few bits. */
static double choose_basis(const struct bb84_parameters *parameters, double pairs, double qber) {
    double best = 0.5, most = 0;
    if (!(qber < 0.5)) return best;
    for (int percent = 5; percent <= 50; percent += 5) {
        double bits = worth(parameters, pairs, qber, percent / 100.0);
        if (bits > most) most = bits, best = percent / 100.0;
    }
    return best;
}

/* Error rate of the test basis: of one link by its state, over several as Werner pairs of the path's fidelity. */
static double predict_qber(const struct qn_node *node, const struct route *route) {
    double weights[4], zxy[3];
    qn_bell_werner(route->fidelity, weights);
    qn_bell_qber(weights, zxy);
    if (route->n_links != 1) return zxy[1];
    const struct qn_link_plan *plan = &node->links[route->links[0]].plan;
    double xx = 0;
    for (unsigned bell = 0; bell < 4; bell++)
        xx += plan->bell_weight[bell] * plan->tensor[bell][5] * ((bell & 1) != 0 ? -1 : 1);
    return (1 - xx) / 2;
}

int bb84_pairs_choose(struct session *session) {
    const struct qn_node *node = session->node;
    struct route route;
    int rc = route_entanglement(node, session->peer, &route);
    if (rc < 0) return -QN_ENO_ROUTE;
    const struct qn_link_plan *plan = &node->links[route.links[0]].plan;
    double wanted = session->parameters.bound == BB84_BOUND_BELL ? BLOCK_PAIRS_MOST : BLOCK_PAIRS;
    if (route.n_links == 1 && wanted < BLOCK_PAIRS_MOST)
        wanted = fmin(fmax(BLOCK_PAIRS_SECONDS * 1e9 * plan->probability / (double)plan->cycle_ns, BLOCK_PAIRS),
                      BLOCK_PAIRS_MOST);
    session->block_pulses = session->block_pulses_asked != 0 ? session->block_pulses_asked : (uint64_t)wanted;
    if (session->block_pulses > BLOCK_PAIRS_LIMIT) return -QN_ELIMIT;
    uint64_t trains = (session->block_pulses + TRAIN_PAIRS_MAX - 1) / TRAIN_PAIRS_MAX;
    session->train_pulses = (session->block_pulses + trains - 1) / trains;
    session->expected_qber = predict_qber(node, &route);
    session->parameters.test_basis =
        choose_basis(&session->parameters, (double)session->block_pulses, session->expected_qber);
    return 0;
}

/* ---- asking ---- */

void bb84_pairs_ask(struct train *train) {
    struct session *session = train->block->session;
    struct qn_node *node = session->node;
    struct request *request = request_find(node, session->request);
    struct route route;
    int rc = route_entanglement(node, session->peer, &route);
    if (request == NULL) return; /* It ends the session when it goes. */
    session->asks_pairs = true;
    request->wanted = (uint32_t)train->data->pulses;
    request->measured = true;
    request->qkd =
        (struct qkd_ref){true, session->id, train->block->number, train->number, session->parameters.test_basis, 0};
    request->cutoff_ns = 0;
    for (size_t i = 1; rc == 0 && i < route.n_links; i++) {
        uint64_t cutoff = node->topology->nodes[route.nodes[i]].cutoff_ns;
        if (cutoff != 0 && (request->cutoff_ns == 0 || cutoff < request->cutoff_ns)) request->cutoff_ns = cutoff;
    }
    if (rc == 0 && route.n_links == 1)
        rc = request_start_direct(node, request, route.links[0]);
    else if (rc == 0)
        rc = circuit_open(node, session->peer, request, &request->circuit);
    if (rc < 0) request_fail(request, rc, "no pairs can be asked for"); /* The session with it. */
}

const char *bb84_pairs_obstacle(const struct session *session, const struct request *request, int *ret_error) {
    if (request->circuit != NULL) return circuit_obstacle(session->node, request->circuit, ret_error);
    return "pairs come too slowly for blocks of this size, or the quantum channel is down";
}

static struct train *find_train(const struct qn_node *node, uint16_t peer, const struct qkd_ref *qkd) {
    const struct session *session = bb84_find_session(node, peer, qkd->session);
    const struct block *block = session != NULL ? bb84_find_block(session, qkd->block) : NULL;
    return block != NULL ? bb84_find_train(block, qkd->train) : NULL;
}

int bb84_pairs_begin(struct qn_node *node, uint16_t head, const Qnet__V1__QkdPairs *m, uint32_t number,
                     struct qkd_ref *ret) {
    struct session *session = bb84_find_session(node, head, m->session);
    if (session == NULL || !session->accepted || !bb84_is_of_pairs(session)) return -QN_EREJECTED;
    struct train *train = find_train(node, head, &(struct qkd_ref){true, m->session, m->block, m->train, 0, 0});
    /* The head sets its path up again when a repeater died before it knew that it was ready: of that no pair came. */
    bool again = train != NULL && train->step == TRAIN_DETECTING && train->data != NULL && train->data->own.len == 0;
    if (!again) train = bb84_train_heard_of(session, m->block, m->train);
    if (train == NULL || train->data->pulses != number) return -QN_EREJECTED;
    *ret = (struct qkd_ref){
        true, m->session, m->block, m->train, session->parameters.test_basis, session->parameters.bell_share};
    return 0;
}

uint8_t bb84_draw_axis(struct qn_node *node, const struct qkd_ref *qkd) {
    double u = (double)(qn_csprng_u64(&node->secret) >> 11) * 0x1p-53, bell = qkd->bell_share;
    if (u < bell) return u < bell / 2 ? AXIS_SUM : AXIS_SUM + 1;
    u = (u - bell) / (1 - bell);
    return u < qkd->test_basis ? AXIS_X : AXIS_Z;
}

/* ---- outcomes ---- */

/* Without memory for it a pair is lost, and the train waits for its deadline. */
static bool keep(struct bb84_data *data, uint64_t pair, uint8_t axis, uint8_t outcome) {
    struct bb84_outcome own;
    memset(&own, 0, sizeof own);
    own.pair = pair;
    own.basis = axis >= AXIS_SUM ? (uint8_t)(axis - AXIS_SUM + 2) : axis == AXIS_X;
    own.bit = outcome & 1;
    if (data->own.len / sizeof own >= data->pulses || qn_buf_append(&data->own, &own, sizeof own) < 0) return false;
    return data->own.len / sizeof own == data->pulses;
}

void bb84_on_pair(struct qn_node *node, const struct request *request, uint64_t pair, uint8_t axis, uint8_t outcome) {
    struct train *train = find_train(node, request->peer, &request->qkd);
    if (train == NULL || train->step != TRAIN_SENT || train->data == NULL) return;
    if (keep(train->data, pair, axis, outcome)) bb84_pairs_advance(train);
}

void bb84_on_far_pair(struct qn_node *node, uint16_t head, const struct qkd_ref *qkd, uint64_t pair, uint8_t axis,
                      uint8_t outcome) {
    struct train *train = find_train(node, head, qkd);
    if (train == NULL || train->step != TRAIN_DETECTING || train->data == NULL) return;
    if (keep(train->data, pair, axis, outcome)) bb84_work_train(train, bb84_collect, bb84_send_detections);
}

void bb84_pairs_advance(struct train *train) {
    struct session *session = train->block->session;
    struct qn_node *node = session->node;
    const struct bb84_data *data = train->data;
    if (!train->all_told || data->own.len / sizeof(struct bb84_outcome) < data->pulses) return;
    struct request *request = request_find(node, session->request);
    if (request != NULL && request->circuit != NULL) circuit_close(node, request->circuit, 0, "complete", true);
    uint16_t peer = session->peer;
    uint32_t id = session->id;
    session->asks_pairs = false;
    train->step = TRAIN_SIFTING;
    bb84_work_train(train, bb84_match, bb84_send_answer);
    session = bb84_find_session(node, peer, id);
    if (session != NULL) bb84_pump(session);
}

/* ---- Bell's inequality ---- */

void bb84_say_bell(struct train *train) {
    struct session *session = train->block->session;
    const struct bb84_data *data = train->data;
    struct qn_buf axes = {0}, outcomes = {0};
    Qnet__V1__QkdBell message = QNET__V1__QKD_BELL__INIT;
    message.session = session->id;
    message.block = train->block->number;
    message.train = train->number;
    message.count = data->bell.count;
    message.first_pair = data->first_pair;
    if (qn_bits_to_bytes(&data->bell.axes, 0, data->bell.count, &axes) == 0 &&
        qn_bits_to_bytes(&data->bell.bits, 0, data->bell.count, &outcomes) == 0) {
        message.positions = (ProtobufCBinaryData){data->bell.positions.len, data->bell.positions.data};
        message.axes = (ProtobufCBinaryData){axes.len, axes.data};
        message.outcomes = (ProtobufCBinaryData){outcomes.len, outcomes.data};
        bb84_say(session, train->block, QNET__V1__QKD_MESSAGE__BODY_BELL, &message);
    }
    qn_buf_release(&axes);
    qn_buf_release(&outcomes);
}

void bb84_on_bell(struct train *train, const Qnet__V1__QkdBell *m) {
    struct bb84_data *data = train->data;
    if (!train->block->session->is_source || train->step != TRAIN_SENT || data == NULL || !data->pairs ||
        data->bell.count > 0 || train->pieces_seen > 0)
        return;
    if (m->count == 0 || m->count > data->pulses || m->count > m->positions.len ||
        qn_bits_append_bytes(&data->bell.axes, m->axes.data, m->axes.len, m->count) < 0 ||
        qn_bits_append_bytes(&data->bell.bits, m->outcomes.data, m->outcomes.len, m->count) < 0 ||
        qn_buf_append(&data->bell.positions, m->positions.data, m->positions.len) < 0) {
        bb84_block_fail(train->block, -QN_EPROTOCOL, "malformed outcomes of the test of Bell's inequality");
        return;
    }
    data->bell.count = m->count;
}

/* Clauser, Horne, Shimony and Holt, PRL 23, 880 (1969); Ekert, PRL 67, 661 (1991). */
uint64_t bb84_bell(const struct block *block, double *ret_s, double *ret_error) {
    uint64_t n = 0;
    double s = 0, square = 0;
    for (int basis = 0; basis < 2; basis++)
        for (int axis = 0; axis < 2; axis++) {
            uint64_t trials = block->bell_trials[basis][axis];
            if (trials == 0) continue;
            double mean = (double)block->bell_sums[basis][axis] / (double)trials;
            s += basis == 1 && axis == 1 ? -mean : mean;
            square += (1 - mean * mean) / (double)trials;
            n += trials;
        }
    *ret_s = s;
    *ret_error = sqrt(square);
    return n;
}
