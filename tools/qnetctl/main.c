/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: the command line is checked against the table of commands, one command runs, its exit status is ours.
 *
 * Failure modes: a wrong command line is status 2 with the nearest valid word; output that cannot be written (a full
 * disk) is status 1. Signals keep their default effect, so that a shell sees 130 or 143: a request whose client is gone
 * is cancelled by the node. Only `lab up` catches them, to take down what it has started. */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"

static bool wants_colour(int fd) {
    const char *no_colour = getenv("NO_COLOR"), *term = getenv("TERM");
    if (no_colour != NULL && no_colour[0] != '\0') return false;
    return isatty(fd) && term != NULL && strcmp(term, "dumb") != 0;
}

/* Errors of the command line itself are JSON, too. */
static bool wants_json(int argc, char **argv) {
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--json") == 0 || strcmp(argv[i], "-j") == 0) return true;
    return false;
}

static const char *environment(const char *name) {
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

int main(int argc, char **argv) {
    static struct args args;
    struct ctl ctl = {
        .json = wants_json(argc, argv),
        .out_colour = wants_colour(STDOUT_FILENO),
        .err_colour = wants_colour(STDERR_FILENO),
        .has_progress = isatty(STDERR_FILENO),
    };
    if (sodium_init() < 0)
        return ctl_fail(&ctl, STATUS_RUNTIME, "system", 0, "no source of random numbers; check /dev/urandom");
    int status = args_parse(&ctl, argc, argv, &args);
    if (status != STATUS_OK) return status;
    if (ctl.socket == NULL && ctl.node == NULL && ctl.lab == NULL) ctl.socket = environment("QNETCTL_SOCKET");
    if (ctl.socket == NULL && ctl.lab == NULL) ctl.lab = environment("QNETCTL_LAB");
    if (ctl.socket == NULL && ctl.node == NULL) ctl.node = environment("QNETCTL_NODE");
    if (args.command != NULL) status = args.command->run(&ctl, &args);
    ctl_progress_end(&ctl);
    if (fflush(stdout) != 0 || ferror(stdout))
        return status != STATUS_OK
                   ? status
                   : ctl_fail(&ctl, STATUS_RUNTIME, "system", 0, "the output cannot be written; check the disk");
    return status;
}
