/* SPDX-License-Identifier: Apache-2.0 */
#include "link/attack.h"

#include <math.h>
#include <string.h>

#include "base/err.h"

static const char *const names[] = {
    [QN_ATTACK_NONE] = "none",
    [QN_ATTACK_INTERCEPT] = "intercept",
    [QN_ATTACK_INTERCEPT_KEY] = "intercept-key",
    [QN_ATTACK_SPLIT] = "photon-number-splitting",
    [QN_ATTACK_BLIND] = "blinding",
    [QN_ATTACK_TIME_SHIFT] = "time-shift",
    [QN_ATTACK_BEAM_SPLIT] = "beam-splitting",
    [QN_ATTACK_CUT] = "cut",
};
enum { N_NAMES = sizeof names / sizeof *names };

const char *qn_attack_name(enum qn_attack_kind kind) { return (unsigned)kind < N_NAMES ? names[kind] : "?"; }

int qn_attack_find(const char *name) {
    for (int i = 0; i < N_NAMES; i++)
        if (strcmp(name, names[i]) == 0) return i;
    return -QN_EINVAL;
}

double qn_misalignment_after(double misalignment, double turn, double t_s) {
    double s = sin(asin(sqrt(misalignment)) + turn * t_s);
    return s * s;
}
