/* SPDX-License-Identifier: Apache-2.0 */
/* What the two ends agree on. Both derive it from their topology and from what they hold; whoever is asked sends its
 * own, the other end compares, and names what differs. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "node/bb84.h"
#include "node/keys.h"

#define EPSILON_SECRET 1e-10
#define EPSILON_CORRECT 1e-15
/* Of a block, when the user says nothing: the key grows with it, and so does the wait. */
#define BLOCK_KEY_BITS 1e7
#define BLOCK_SECONDS 4.0        /* ...unless that takes longer than this,... */
#define BLOCK_KEY_BITS_LEAST 1e5 /* ...but this much at least,... */
#define BLOCK_SECONDS_MOST 20.0  /* ...if it takes no longer than that. */

static const struct {
    enum bb84_bound bound;
    const char *name;
} bounds[] = {{BB84_BOUND_SINGLE, "single photons"},
              {BB84_BOUND_TAGGED, "no decoys"},
              {BB84_BOUND_ONE_DECOY, "one decoy"},
              {BB84_BOUND_TWO_DECOYS, "two decoys"},
              {BB84_BOUND_PAIRS, "pairs"}};

const char *bb84_bound_name(enum bb84_bound bound) {
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++)
        if (bounds[i].bound == bound) return bounds[i].name;
    return "unknown";
}

void bb84_parameters_from(const struct qn_node *node, uint16_t link, struct bb84_parameters *ret) {
    const struct qn_topo_link *l = &node->topology->links[link];
    struct qn_source source;
    struct qn_receiver receiver;
    qn_source_from(node->topology, l, &source);
    qn_receiver_from(node->topology, l, &receiver);
    *ret = (struct bb84_parameters){.bound = BB84_BOUND_SINGLE,
                                    .source_test_basis = source.test_basis,
                                    .detector_test_basis = receiver.test_basis,
                                    .clock_hz = node->topology->nodes[l->a].clock_hz,
                                    .epsilon_secret = EPSILON_SECRET,
                                    .epsilon_correct = EPSILON_CORRECT,
                                    .method = QN_RECONCILE_AUTO};
    ret->authenticated = pads_exist(node, l->a == node->self ? l->b : l->a);
    if (source.emission == QN_EMIT_SINGLE) return;
    ret->bound = source.n == 1 ? BB84_BOUND_TAGGED : source.n == 2 ? BB84_BOUND_ONE_DECOY : BB84_BOUND_TWO_DECOYS;
    ret->mean = source.mean[0];
    if (source.n == 1) return;
    ret->decoy.n = source.n < QN_DECOYS_MAX ? source.n : QN_DECOYS_MAX;
    for (unsigned k = 0; k < ret->decoy.n; k++) {
        ret->decoy.mean[k] = source.mean[k];
        ret->decoy.probability[k] = source.probability[k];
    }
}

unsigned bb84_classes(const struct bb84_parameters *parameters) {
    return parameters->decoy.n > 0 ? parameters->decoy.n : 1;
}

/* `ret` borrows from `parameters`. */
void bb84_parameters_pack(const struct bb84_parameters *parameters, Qnet__V1__QkdParameters *ret) {
    qnet__v1__qkd_parameters__init(ret);
    ret->bound = parameters->bound;
    ret->n_intensities = ret->n_probabilities = parameters->decoy.n;
    ret->intensities = (double *)(uintptr_t)parameters->decoy.mean;
    ret->probabilities = (double *)(uintptr_t)parameters->decoy.probability;
    ret->mean = parameters->mean;
    ret->source_test_basis = parameters->source_test_basis;
    ret->detector_test_basis = parameters->detector_test_basis;
    ret->clock_hz = parameters->clock_hz;
    ret->epsilon_secret = parameters->epsilon_secret;
    ret->epsilon_correct = parameters->epsilon_correct;
    ret->method = parameters->method;
    ret->authenticated = parameters->authenticated;
}

/* ---- comparing ---- */

struct difference {
    char *text;
    size_t size, len;
};

__attribute__((format(printf, 2, 3))) static void differ(struct difference *difference, const char *format, ...) {
    if (difference->len >= difference->size) return;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(difference->text + difference->len, difference->size - difference->len, format, args);
    va_end(args);
    if (n > 0) difference->len += (size_t)n;
}

static void compare(struct difference *difference, const char *name, double ours, double theirs) {
    if (ours == theirs) return;
    differ(difference, "%s%s: %.9g here, %.9g there", difference->len > 0 ? "; " : "", name, ours, theirs);
}

static void compare_words(struct difference *difference, const char *name, const char *ours, const char *theirs) {
    if (strcmp(ours, theirs) == 0) return;
    differ(difference, "%s%s: %s here, %s there", difference->len > 0 ? "; " : "", name, ours, theirs);
}

bool bb84_parameters_agree(const struct bb84_parameters *ours, const Qnet__V1__QkdParameters *theirs, char *ret_text,
                           size_t size) {
    struct difference difference = {ret_text, size, 0};
    char name[32];
    ret_text[0] = '\0';
    compare_words(&difference, "bound", bb84_bound_name(ours->bound), bb84_bound_name((enum bb84_bound)theirs->bound));
    compare(&difference, "intensities", ours->decoy.n, (double)theirs->n_intensities);
    for (unsigned k = 0; k < ours->decoy.n && k < theirs->n_intensities; k++) {
        snprintf(name, sizeof name, "intensity %u", k + 1);
        compare(&difference, name, ours->decoy.mean[k], theirs->intensities[k]);
    }
    for (unsigned k = 0; k < ours->decoy.n; k++) {
        snprintf(name, sizeof name, "probability of intensity %u", k + 1);
        compare(&difference, name, ours->decoy.probability[k],
                k < theirs->n_probabilities ? theirs->probabilities[k] : 0);
    }
    compare(&difference, "mean photon number", ours->mean, theirs->mean);
    compare(&difference, "test basis of the source", ours->source_test_basis, theirs->source_test_basis);
    compare(&difference, "test basis of the detector", ours->detector_test_basis, theirs->detector_test_basis);
    compare(&difference, "clock", ours->clock_hz, theirs->clock_hz);
    compare(&difference, "epsilon of secrecy", ours->epsilon_secret, theirs->epsilon_secret);
    compare(&difference, "epsilon of correctness", ours->epsilon_correct, theirs->epsilon_correct);
    compare_words(&difference, "initial secret", ours->authenticated ? "present" : "missing",
                  theirs->authenticated ? "present" : "missing");
    return difference.len == 0;
}

/* ---- sizes ---- */

static double key_bits_per_pulse(const struct session *session, double *ret_click) {
    struct qn_optics optics;
    struct qn_expected expected;
    double sum = 0;
    bb84_optics_honest(session, &optics);
    qn_expect(&optics, &expected);
    for (unsigned k = 0; k < optics.source.n; k++) sum += expected.chosen[0][k] * expected.gain[0][k];
    *ret_click = expected.click;
    return sum;
}

static uint64_t whole(double pulses, uint64_t least, uint64_t most) {
    return !(pulses > (double)least) ? least : pulses >= (double)most ? most : (uint64_t)pulses;
}

void bb84_choose_sizes(struct session *session, uint64_t block_pulses) {
    double click, rate = key_bits_per_pulse(session, &click), clock = session->parameters.clock_hz;
    double pulses = BLOCK_KEY_BITS / rate;
    if (!(pulses <= BLOCK_SECONDS * clock)) pulses = BLOCK_SECONDS * clock;
    if (!(pulses * rate >= BLOCK_KEY_BITS_LEAST))
        pulses = fmin(BLOCK_KEY_BITS_LEAST / rate, BLOCK_SECONDS_MOST * clock);
    session->block_pulses = block_pulses != 0 ? block_pulses : whole(pulses, 1000, BLOCK_PULSES_MAX);
    session->train_pulses = whole(TRAIN_CLICKS / click, 1000, TRAIN_PULSES_MAX);
    uint64_t trains = (session->block_pulses + session->train_pulses - 1) / session->train_pulses;
    session->train_pulses = (session->block_pulses + trains - 1) / trains; /* All of about the same size. */
}

/* ---- the link as it is now ---- */

void bb84_optics_honest(const struct session *session, struct qn_optics *ret) {
    const struct qn_node *node = session->node;
    const struct qn_topo_link *link = &node->topology->links[session->link_index];
    struct qn_source source;
    struct qn_receiver receiver;
    qn_source_from(node->topology, link, &source);
    qn_receiver_from(node->topology, link, &receiver);
    const struct qn_attack none = {0};
    qn_optics_init(ret, &source, &receiver, &none); /* The topology keeps its numbers in range. */
}

void bb84_optics(const struct session *session, struct qn_optics *ret) {
    const struct qn_node *node = session->node;
    const struct link_state *state = &node->links[session->link_index];
    struct qn_receiver receiver;
    bb84_optics_honest(session, ret);
    receiver = ret->receiver;
    if (state->drift_turn != 0)
        receiver.misalignment = qn_misalignment_after(receiver.misalignment, state->drift_turn,
                                                      (double)(node->now_ns - state->drift_since_ns) * 1e-9);
    struct qn_source source = ret->source;
    qn_optics_init(ret, &source, &receiver, &state->attack);
}
