/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QNETCTL_HELP_H
#define QNETCTL_HELP_H

#include "command.h"

/* Texts that help and the manual page share. The lists end with a NULL text. */

struct help_variable {
    const char *name, *text;
};
struct help_status {
    int status;
    const char *text;
};

extern const char help_about[], help_targets[];
extern const struct help_variable help_environment[];
extern const struct help_status help_statuses[];

/* "[QUBIT...]" */
void help_operand_text(char *text, size_t size, const struct operand *operand);

#endif
