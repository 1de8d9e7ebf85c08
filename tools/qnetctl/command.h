/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QNETCTL_COMMAND_H
#define QNETCTL_COMMAND_H

#include "ctl.h"
#include "topology/topology.h"

/* One table of every command (commands.c). Parsing, help, the man page and the shells' completions are made from it. */

enum value_kind { VALUE_NONE, VALUE_TEXT, VALUE_CHOICE, VALUE_NODE, VALUE_LINK, VALUE_LAB, VALUE_FILE };

struct option {
    const char *name; /* Without dashes. NULL ends a list. */
    char letter;      /* 0: none. */
    enum value_kind kind;
    const char *value;   /* What help calls it, "NAME"; NULL with VALUE_NONE. */
    const char *choices; /* VALUE_CHOICE: "z|xz|xyz". */
    const char *help;
};

struct operand {
    const char *name; /* NULL ends a list. */
    enum value_kind kind;
    const char *choices;
    bool optional, many; /* `many` only on the last. */
};

struct args;

struct command {
    const char *name;               /* One word, or two: "lab up". */
    const char *summary;            /* One line, no full stop. */
    const char *details;            /* Paragraphs of help; may be NULL. */
    const char *examples;           /* Lines; may be NULL. */
    const struct operand *operands; /* NULL: none. */
    const struct option *options;   /* NULL: only the global ones. */
    bool hidden;
    int (*run)(struct ctl *ctl, const struct args *args); /* Returns an exit status. */
};

extern const struct command commands[];
extern const size_t n_commands;
extern const struct option global_options[];

#define OPERANDS_MAX 512
#define GIVEN_MAX 32

struct args {
    const struct command *command;
    const char *operands[OPERANDS_MAX];
    size_t n_operands;
    struct {
        const struct option *option;
        const char *value;
    } given[GIVEN_MAX];
    size_t n_given;
};

/* Finds the command and checks the rest of the line against it; global options end up in `ctl`. An exit status; with
 * STATUS_OK either ret_args->command is set or it is NULL and what was asked for (help, version) is done. */
int args_parse(struct ctl *ctl, int argc, char **argv, struct args *ret_args);

bool args_has(const struct args *args, const char *option);
const char *args_text(const struct args *args, const char *option, const char *fallback);
/* These leave *ret_value alone when the option is not given, and complain about values that are none. Exit statuses. */
int args_u64(const struct ctl *ctl, const struct args *args, const char *option, uint64_t least, uint64_t most,
             uint64_t *ret_value);
int args_quantity(const struct ctl *ctl, const struct args *args, const char *option, enum qn_dimension dimension,
                  double *ret_value);
int parse_quantity(const struct ctl *ctl, const char *what, const char *text, enum qn_dimension dimension,
                   double *ret_value);

/* Splits "a|b|c". Calls `each` for each part until it returns true, and returns whether it did. */
bool choices_each(const char *choices, bool (*each)(void *context, const char *choice, size_t len), void *context);

void help_print_overview(FILE *out, bool colour);
void help_print_command(FILE *out, const struct command *command, bool colour);
void usage_line(FILE *out, const struct command *command); /* "qnetctl teleport PEER --state STATE [options]" */

/* The run functions, each in the file of its command or family. */
int run_status(struct ctl *ctl, const struct args *args);
int run_health(struct ctl *ctl, const struct args *args);
int run_version(struct ctl *ctl, const struct args *args);
int run_nodes(struct ctl *ctl, const struct args *args);
int run_links(struct ctl *ctl, const struct args *args);
int run_pairs(struct ctl *ctl, const struct args *args);
int run_keys(struct ctl *ctl, const struct args *args);
int run_keys_take(struct ctl *ctl, const struct args *args);
int run_request_pair(struct ctl *ctl, const struct args *args);
int run_teleport(struct ctl *ctl, const struct args *args);
int run_bb84(struct ctl *ctl, const struct args *args);
int run_gate(struct ctl *ctl, const struct args *args);
int run_discard(struct ctl *ctl, const struct args *args);
int run_inspect(struct ctl *ctl, const struct args *args);
int run_fault_cut(struct ctl *ctl, const struct args *args);
int run_fault_restore(struct ctl *ctl, const struct args *args);
int run_fault_delay(struct ctl *ctl, const struct args *args);
int run_fault_eve(struct ctl *ctl, const struct args *args);
int run_fault_attack(struct ctl *ctl, const struct args *args);
int run_fault_clear(struct ctl *ctl, const struct args *args);
int run_declare_dead(struct ctl *ctl, const struct args *args);
int run_wait(struct ctl *ctl, const struct args *args);
int run_events(struct ctl *ctl, const struct args *args);
int run_topology_check(struct ctl *ctl, const struct args *args);
int run_topology_export(struct ctl *ctl, const struct args *args);
int run_lab_up(struct ctl *ctl, const struct args *args);
int run_lab_down(struct ctl *ctl, const struct args *args);
int run_lab_status(struct ctl *ctl, const struct args *args);
int run_lab_kill(struct ctl *ctl, const struct args *args);
int run_lab_share(struct ctl *ctl, const struct args *args);
int run_lab_start(struct ctl *ctl, const struct args *args);
int run_genkey(struct ctl *ctl, const struct args *args);
int run_pubkey(struct ctl *ctl, const struct args *args);
int run_gensecret(struct ctl *ctl, const struct args *args);
int run_errors(struct ctl *ctl, const struct args *args);
int run_errors_lookup(struct ctl *ctl, const struct args *args);
int run_completion(struct ctl *ctl, const struct args *args);
int run_complete(struct ctl *ctl, const struct args *args);
int run_man(struct ctl *ctl, const struct args *args);
int run_help(struct ctl *ctl, const struct args *args);

#endif
