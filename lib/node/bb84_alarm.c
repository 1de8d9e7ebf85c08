/* SPDX-License-Identifier: Apache-2.0 */
/* What a block showed against what the hardware should show. An alarm is a hint to people, not part of any proof: the
 * key is short or absent by the bounds alone. So it forgives what real links do by themselves: a misalignment that
 * drifts slowly is followed from block to block, and is no alarm; a jump is. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/bb84.h"

#define SIGMAS 6.0       /* By chance once in 5e8 looks. */
#define SLACK 0.03       /* Relative uncertainty of what is known of the hardware. */
#define ERROR_SLACK 0.01 /* Of error rates, absolute, between two blocks. */

/* ---- observables ---- */

static bool is_alarm(const struct block *block, const struct qn_deviation *deviation) {
    bool of_detector = strcmp(deviation->name, "balance") == 0 || strcmp(deviation->name, "doubles") == 0;
    if (!(fabs(deviation->z) > SIGMAS) || (block->session->is_source && of_detector)) return false;
    return strcmp(deviation->name, "qber") != 0 || fabs(deviation->observed - deviation->expected) > ERROR_SLACK;
}

/* The misalignment that makes the expected error rate of the key basis the observed one, followed smoothly. */
static void follow(struct block *block, const struct qn_optics *optics, const struct qn_expected *expected) {
    struct link_state *link = &block->session->node->links[block->session->link_index];
    double clicks = 0, errors = 0;
    for (unsigned k = 0; k < optics->source.n; k++) {
        clicks += expected->chosen[0][k] * expected->gain[0][k];
        errors += expected->chosen[0][k] * expected->error[0][k];
    }
    if (!(clicks > 0)) return;
    double seen = bb84_key_qber(block) - errors / clicks, most = 0.2;
    double misalignment = optics->receiver.misalignment + seen;
    link->seen_misalignment = misalignment < 0 ? 0 : misalignment > most ? most : misalignment;
    link->has_seen = true;
}

static void expect(const struct block *block, struct qn_optics *optics, struct qn_expected *expected) {
    const struct link_state *link = &block->session->node->links[block->session->link_index];
    bb84_optics_honest(block->session, optics);
    if (link->has_seen) {
        struct qn_source source = optics->source;
        struct qn_receiver receiver = optics->receiver;
        const struct qn_attack none = {0};
        receiver.misalignment = link->seen_misalignment;
        qn_optics_init(optics, &source, &receiver, &none);
    }
    qn_expect(optics, expected);
}

void bb84_judge(struct block *block, bool key_errors_known) {
    if (bb84_is_of_pairs(block->session))
        return; /* Nothing of them is known but error rates, which the bounds judge. */
    struct qn_optics *optics = malloc(sizeof *optics);
    struct qn_expected *expected = malloc(sizeof *expected);
    struct qn_deviation *found = malloc(QN_DEVIATIONS_MAX * sizeof *found);
    if (optics != NULL && expected != NULL && found != NULL) {
        const bool known[2] = {key_errors_known, true};
        expect(block, optics, expected);
        block->observed.pulses = (double)block->pulses;
        size_t n = qn_deviations(expected, &block->observed, known, SLACK, found);
        block->n_alarms = 0;
        for (size_t i = 0; i < n && block->n_alarms < ALARMS_MAX; i++)
            if (is_alarm(block, &found[i])) block->alarms[block->n_alarms++] = found[i];
        if (key_errors_known && block->n_alarms == 0) follow(block, optics, expected);
    }
    free(optics);
    free(expected);
    free(found);
}

void bb84_raise(struct block *block) {
    const struct session *session = block->session;
    session->node->links[session->link_index].alarms += block->n_alarms;
    for (size_t i = 0; i < block->n_alarms; i++) {
        const struct qn_deviation *alarm = &block->alarms[i];
        char where[32] = "";
        if (alarm->intensity < bb84_classes(&session->parameters) && session->parameters.decoy.n > 0)
            snprintf(where, sizeof where, ", intensity %u", alarm->intensity + 1);
        node_event(session->node, LEVEL_WARNING, "alarm", link_name(session->node, session->link_index),
                   "block %u: %s in the %s basis%s is %.4g, expected %.4g: off by %.1f sigma", block->number,
                   alarm->name, alarm->basis == 0 ? "key" : "test", where, alarm->observed, alarm->expected, alarm->z);
    }
}

void bb84_pack_alarms(const struct block *block, Qnet__V1__QkdAlarm *list, Qnet__V1__QkdAlarm **pointers) {
    for (size_t i = 0; i < block->n_alarms; i++) {
        const struct qn_deviation *alarm = &block->alarms[i];
        qnet__v1__qkd_alarm__init(&list[i]);
        list[i].observable = (char *)(uintptr_t)alarm->name;
        list[i].basis = alarm->basis;
        list[i].intensity = alarm->intensity;
        list[i].observed = alarm->observed;
        list[i].expected = alarm->expected;
        list[i].sigma = alarm->sigma;
        pointers[i] = &list[i];
    }
}

void bb84_take_alarms(struct block *block, Qnet__V1__QkdAlarm *const *alarms, size_t n) {
    block->n_alarms = n < ALARMS_MAX ? n : ALARMS_MAX;
    for (size_t i = 0; i < block->n_alarms; i++) {
        const Qnet__V1__QkdAlarm *alarm = alarms[i];
        snprintf(block->alarm_names[i], sizeof block->alarm_names[i], "%s", alarm->observable);
        block->alarms[i] =
            (struct qn_deviation){.name = block->alarm_names[i],
                                  .basis = alarm->basis & 1,
                                  .intensity = alarm->intensity,
                                  .observed = alarm->observed,
                                  .expected = alarm->expected,
                                  .sigma = alarm->sigma,
                                  .z = alarm->sigma > 0 ? (alarm->observed - alarm->expected) / alarm->sigma : 0};
    }
}
