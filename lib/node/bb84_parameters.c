/* SPDX-License-Identifier: Apache-2.0 */
/* What the two ends agree on. Both derive it from their topology and from what they hold; whoever is asked sends its
 * own, the other end compares, and names what differs. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "node/bb84.h"
#include "node/bb84_plan.h"
#include "node/keys.h"

/* Of a block, when the user says nothing: the key grows with it, and so does the wait. */
#define BLOCK_KEY_BITS 1e7
#define BLOCK_SECONDS 4.0         /* ...unless that takes longer than this,... */
#define BLOCK_KEY_BITS_LEAST 1e5  /* ...but this much at least,... */
#define BLOCK_KEY_BITS_MOST 1.3e8 /* Amplification takes no more at once. */
#define BLOCK_SECONDS_MOST 20.0   /* ...if it takes no longer than that. */

static const struct {
    enum bb84_bound bound;
    const char *name;
} bounds[] = {{BB84_BOUND_SINGLE, "single photons"}, {BB84_BOUND_TAGGED, "no decoys"},
              {BB84_BOUND_ONE_DECOY, "one decoy"},   {BB84_BOUND_TWO_DECOYS, "two decoys"},
              {BB84_BOUND_PAIRS, "pairs"},           {BB84_BOUND_BELL, "device-independent"}};

const char *bb84_bound_name(enum bb84_bound bound) {
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++)
        if (bounds[i].bound == bound) return bounds[i].name;
    return "unknown";
}

void bb84_parameters_from(const struct qn_node *node, uint16_t link, struct bb84_parameters *ret) {
    const struct qn_topo_link *l = &node->topology->links[link];
    struct qn_source source;
    bool given = qn_source_from(node->topology, l, &source);
    *ret = (struct bb84_parameters){.bound = BB84_BOUND_SINGLE,
                                    .mean = source.mean[0],
                                    .test_basis = source.test_basis,
                                    .clock_hz = node->topology->nodes[l->a].clock_hz,
                                    .epsilon_secret = l->eps_sec,
                                    .epsilon_correct = l->eps_cor,
                                    .method = QN_RECONCILE_AUTO,
                                    .open = !given};
    ret->authenticated = pads_exist(node, l->a == node->self ? l->b : l->a);
    if (l->protocol == QN_PROTOCOL_PLAIN) {
        if (source.emission != QN_EMIT_SINGLE) ret->bound = BB84_BOUND_TAGGED;
        return;
    }
    ret->bound = l->protocol == QN_PROTOCOL_ONE_DECOY ? BB84_BOUND_ONE_DECOY : BB84_BOUND_TWO_DECOYS;
    ret->decoy.n = l->protocol == QN_PROTOCOL_ONE_DECOY ? 2 : 3;
    for (unsigned k = 0; k < ret->decoy.n && l->intensities.n > 0; k++) {
        ret->decoy.mean[k] = source.mean[k];
        ret->decoy.probability[k] = source.probability[k];
    }
}

void bb84_parameters_of_pairs(const struct qn_node *node, uint16_t peer, struct bb84_parameters *ret) {
    struct route route = {0};
    *ret = (struct bb84_parameters){.bound = BB84_BOUND_PAIRS,
                                    .test_basis = 0.5,
                                    .epsilon_secret = 1,
                                    .epsilon_correct = 1,
                                    .method = QN_RECONCILE_AUTO,
                                    .authenticated = pads_exist(node, peer),
                                    .open = true};
    (void)route_entanglement(node, peer, &route); /* There is one: bb84_pairs_link was asked. */
    for (size_t i = 0; i < route.n_links; i++) {
        const struct qn_topo_link *link = &node->topology->links[route.links[i]];
        ret->epsilon_secret = fmin(ret->epsilon_secret, link->eps_sec);
        ret->epsilon_correct = fmin(ret->epsilon_correct, link->eps_cor);
    }
}

void bb84_source(const struct session *session, struct qn_source *ret) {
    const struct bb84_parameters *parameters = &session->parameters;
    qn_source_from(session->node->topology, &session->node->topology->links[session->link_index], ret);
    if (!parameters->open) return;
    ret->n = bb84_classes(parameters);
    for (unsigned k = 0; k < parameters->decoy.n; k++) {
        ret->mean[k] = parameters->decoy.mean[k];
        ret->probability[k] = parameters->decoy.probability[k];
    }
    ret->test_basis = parameters->test_basis;
    (void)qn_source_settle(ret); /* bb84_parameters_take, and the plan, have seen to it. */
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
    ret->test_basis = parameters->test_basis;
    ret->clock_hz = parameters->clock_hz;
    ret->epsilon_secret = parameters->epsilon_secret;
    ret->epsilon_correct = parameters->epsilon_correct;
    ret->method = parameters->method;
    ret->authenticated = parameters->authenticated;
    ret->bell_share = parameters->bell_share;
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
    char name[48];
    ret_text[0] = '\0';
    compare_words(&difference, "bound", bb84_bound_name(ours->bound), bb84_bound_name((enum bb84_bound)theirs->bound));
    compare(&difference, "intensities", ours->decoy.n, (double)theirs->n_intensities);
    compare(&difference, "probabilities", ours->decoy.n, (double)theirs->n_probabilities);
    for (unsigned k = 0; k < ours->decoy.n && k < theirs->n_intensities && !ours->open; k++) {
        snprintf(name, sizeof name, "intensity %u", k + 1);
        compare(&difference, name, ours->decoy.mean[k], theirs->intensities[k]);
    }
    for (unsigned k = 0; k < ours->decoy.n && !ours->open; k++) {
        snprintf(name, sizeof name, "probability of intensity %u", k + 1);
        compare(&difference, name, ours->decoy.probability[k],
                k < theirs->n_probabilities ? theirs->probabilities[k] : 0);
    }
    if (!ours->open) compare(&difference, "mean photon number", ours->mean, theirs->mean);
    if (!ours->open) compare(&difference, "chance of the test basis", ours->test_basis, theirs->test_basis);
    compare(&difference, "clock", ours->clock_hz, theirs->clock_hz);
    compare(&difference, "epsilon of secrecy", ours->epsilon_secret, theirs->epsilon_secret);
    compare(&difference, "epsilon of correctness", ours->epsilon_correct, theirs->epsilon_correct);
    compare_words(&difference, "initial secret", ours->authenticated ? "present" : "missing",
                  theirs->authenticated ? "present" : "missing");
    return difference.len == 0;
}

/* What the file leaves open is chosen by whoever starts. */
int bb84_parameters_take(struct session *session, const Qnet__V1__QkdParameters *theirs) {
    struct bb84_parameters *ours = &session->parameters;
    struct qn_source source;
    if (!ours->open) return 0;
    double sum = 0;
    for (unsigned k = 0; k < ours->decoy.n; k++) {
        ours->decoy.mean[k] = theirs->intensities[k];
        ours->decoy.probability[k] = theirs->probabilities[k];
        if (!(theirs->probabilities[k] > 0 && theirs->intensities[k] >= 0 && theirs->intensities[k] <= 100))
            return -QN_EINVAL;
        sum += theirs->probabilities[k];
    }
    if (ours->decoy.n > 0 && !(fabs(sum - 1) < 1e-3)) return -QN_EINVAL;
    if (!(theirs->test_basis > 0 && theirs->test_basis < 1)) return -QN_EINVAL;
    ours->test_basis = theirs->test_basis;
    if (ours->bound == BB84_BOUND_PAIRS || ours->bound == BB84_BOUND_BELL) {
        ours->bell_share = theirs->bell_share;
        return theirs->bell_share >= 0 && theirs->bell_share <= BELL_SHARE_MAX &&
                       (theirs->bell_share > 0 || ours->bound == BB84_BOUND_PAIRS)
                   ? 0
                   : -QN_EINVAL;
    }
    bb84_source(session, &source);
    struct qn_source again = source;
    return qn_source_settle(&again);
}

/* ---- choosing what is open ---- */

void bb84_choice_run(struct bb84_choice *choice) {
    struct qn_receiver receiver;
    struct qn_plan plan;
    /* Without a key: the best that was tried. */
    (void)bb84_plan(choice->topology, choice->link, BLOCK_KEY_BITS, &choice->source, &receiver, &plan);
}

void bb84_choice_use(struct session *session, const struct bb84_choice *choice) {
    struct bb84_parameters *parameters = &session->parameters;
    for (unsigned k = 0; k < parameters->decoy.n; k++) {
        parameters->decoy.mean[k] = choice->source.mean[k];
        parameters->decoy.probability[k] = choice->source.probability[k];
    }
    parameters->mean = choice->source.mean[0];
    parameters->test_basis = choice->source.test_basis;
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

/* -QN_ELIMIT: more trains, or a longer key, than one block may have. */
int bb84_choose_sizes(struct session *session, uint64_t block_pulses) {
    double wanted = session->node->topology->links[session->link_index].block_size;
    double click, rate = key_bits_per_pulse(session, &click), clock = session->parameters.clock_hz;
    double pulses = (wanted > 0 ? wanted : BLOCK_KEY_BITS) / rate;
    if (!(wanted > 0)) {
        if (!(pulses <= BLOCK_SECONDS * clock)) pulses = BLOCK_SECONDS * clock;
        if (!(pulses * rate >= BLOCK_KEY_BITS_LEAST))
            pulses = fmin(BLOCK_KEY_BITS_LEAST / rate, BLOCK_SECONDS_MOST * clock);
    }
    session->block_pulses = block_pulses != 0 ? block_pulses : whole(pulses, 1000, BLOCK_PULSES_MAX);
    session->train_pulses = whole(TRAIN_CLICKS / click, 1000, TRAIN_PULSES_MAX);
    uint64_t trains = (session->block_pulses + session->train_pulses - 1) / session->train_pulses;
    session->train_pulses = (session->block_pulses + trains - 1) / trains; /* All of about the same size. */
    return trains > TRAINS_MAX || (double)session->block_pulses * rate > BLOCK_KEY_BITS_MOST ? -QN_ELIMIT : 0;
}

/* ---- the link as it is now ---- */

void bb84_optics_honest(const struct session *session, struct qn_optics *ret) {
    const struct qn_node *node = session->node;
    struct qn_source source;
    struct qn_receiver receiver;
    bb84_source(session, &source);
    qn_receiver_from(node->topology, &node->topology->links[session->link_index], &receiver);
    receiver.test_basis = session->parameters.test_basis;
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
