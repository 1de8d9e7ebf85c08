/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <stddef.h>

static const struct {
    int number;
    const char *name, *what, *todo;
} errors[] = {
#define X(name, number, what, todo) {number, #name, what, todo},
    QN_ERRORS(X)
#undef X
};

/* Lower-case spellings, so that qn_err_name needs no buffer. */
static const char *const names[] = {
    "nomem",       "inval",        "limit",        "parse",     "version",     "auth",     "protocol",
    "closed",      "unknown_node", "unknown_link", "no_route",  "peer_down",   "fidelity", "timeout",
    "memory_full", "unsupported",  "rejected",     "expired",   "lost",        "qber",     "verify",
    "busy",        "cancelled",    "shutdown",     "not_found", "unreachable", "topology", "cut",
    "system",      "no_key",       "store",        "fenced",    "pads",        "bell",
};

static size_t find(int err) {
    int number = err < 0 ? -err : err;
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        if (errors[i].number == number) return i;
    return sizeof errors / sizeof errors[0];
}

_Static_assert(sizeof names / sizeof names[0] == sizeof errors / sizeof errors[0], "one name an error");

const char *qn_err_name(int err) {
    size_t i = find(err);
    return i < sizeof names / sizeof names[0] ? names[i] : "error";
}

const char *qn_err_what(int err) {
    size_t i = find(err);
    return i < sizeof errors / sizeof errors[0] ? errors[i].what : "unknown error";
}

const char *qn_err_todo(int err) {
    size_t i = find(err);
    return i < sizeof errors / sizeof errors[0] ? errors[i].todo : "report it";
}
