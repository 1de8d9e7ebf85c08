/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"

/* ---- choices ---- */

bool choices_each(const char *choices, bool (*each)(void *context, const char *choice, size_t len), void *context) {
    for (const char *at = choices; at != NULL && *at != '\0';) {
        size_t len = strcspn(at, "|");
        if (each(context, at, len)) return true;
        at += len + (at[len] == '|');
    }
    return false;
}

static bool is_choice(void *context, const char *choice, size_t len) {
    const char *text = context;
    return strlen(text) == len && strncmp(text, choice, len) == 0;
}

static int check_choice(const struct ctl *ctl, const char *what, enum value_kind kind, const char *choices,
                        const char *text) {
    if (kind != VALUE_CHOICE || choices_each(choices, is_choice, (void *)(uintptr_t)text)) return STATUS_OK;
    return ctl_usage(ctl, "\"%s\" is no %s; valid: %s", text, what, choices);
}

/* ---- finding the command ---- */

static const struct command *find_command(const char *name) {
    for (size_t i = 0; i < n_commands; i++)
        if (strcmp(commands[i].name, name) == 0) return &commands[i];
    return NULL;
}

/* "lab" -> "up, down, status" */
static void list_family(const char *word, char *out, size_t size) {
    size_t len = strlen(word), used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < n_commands && used < size; i++) {
        const char *name = commands[i].name;
        if (commands[i].hidden || strncmp(name, word, len) != 0 || name[len] != ' ') continue;
        used += (size_t)snprintf(out + used, size - used, "%s%s", used == 0 ? "" : ", ", name + len + 1);
    }
}

static int unknown_command(const struct ctl *ctl, const char *first, const char *second) {
    char full[160], family[256];
    const char *names[128];
    size_t n = 0;
    for (size_t i = 0; i < n_commands && n < 128; i++)
        if (!commands[i].hidden) names[n++] = commands[i].name;
    list_family(first, family, sizeof family);
    if (family[0] != '\0' && second == NULL) return ctl_usage(ctl, "%s what? valid: %s", first, family);
    snprintf(full, sizeof full, "%.64s%s%.64s", first, family[0] != '\0' ? " " : "", family[0] != '\0' ? second : "");
    const char *near = suggest_word(full, names, n);
    if (near != NULL) return ctl_usage(ctl, "unknown command \"%s\"; did you mean \"%s\"?", full, near);
    if (family[0] != '\0') return ctl_usage(ctl, "unknown command \"%s\"; valid after %s: %s", full, first, family);
    return ctl_usage(ctl, "unknown command \"%s\"; see all with: qnetctl help", full);
}

/* ---- options ---- */

static const struct option *find_in(const struct option *options, const char *name, size_t len, char letter) {
    for (; options != NULL && options->name != NULL; options++)
        if (letter != 0 ? options->letter == letter
                        : strlen(options->name) == len && strncmp(options->name, name, len) == 0)
            return options;
    return NULL;
}

static const struct option *find_option(const struct command *command, const char *name, size_t len, char letter) {
    const struct option *option = command == NULL ? NULL : find_in(command->options, name, len, letter);
    return option != NULL ? option : find_in(global_options, name, len, letter);
}

static int unknown_option(const struct ctl *ctl, const struct command *command, const char *text) {
    const char *names[GIVEN_MAX * 2];
    char name[64];
    size_t n = 0;
    for (const struct option *o = command == NULL ? NULL : command->options; o != NULL && o->name != NULL; o++)
        names[n++] = o->name;
    for (const struct option *o = global_options; o->name != NULL; o++) names[n++] = o->name;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(text + 1 + (text[1] == '-'), "="), text + 1 + (text[1] == '-'));
    const char *near = text[1] == '-' ? suggest_word(name, names, n) : NULL;
    const char *of = command == NULL ? "" : " of ", *whose = command == NULL ? "" : command->name;
    if (near != NULL) return ctl_usage(ctl, "unknown option \"%s\"%s%s; did you mean \"--%s\"?", text, of, whose, near);
    return ctl_usage(ctl, "unknown option \"%s\"%s%s; see: qnetctl help%s%s", text, of, whose,
                     command == NULL ? "" : " ", whose);
}

/* The two ways of saying how long: 10 is not a time, 10s is. */
int parse_quantity(const struct ctl *ctl, const char *what, const char *text, enum qn_dimension dimension,
                   double *ret_value) {
    const char *why;
    if (qn_quantity_parse(text, dimension, ret_value, &why) == 0) return STATUS_OK;
    return ctl_usage(ctl, "%s: \"%s\" %s", what, text, why);
}

static int take_global(struct ctl *ctl, const struct option *option, const char *value) {
    if (strcmp(option->name, "node") == 0) ctl->node = value;
    if (strcmp(option->name, "lab") == 0) ctl->lab = value;
    if (strcmp(option->name, "socket") == 0) ctl->socket = value;
    if (strcmp(option->name, "json") == 0) ctl->json = true;
    if (strcmp(option->name, "timeout") != 0) return STATUS_OK;
    ctl->has_timeout = true;
    int status = parse_quantity(ctl, "--timeout", value, QN_DIM_TIME_S, &ctl->timeout_s);
    if (status != STATUS_OK || (ctl->timeout_s > 0 && ctl->timeout_s <= 1e9)) return status;
    return ctl_usage(ctl, "--timeout: \"%s\" is out of range; valid: up to 1e9s, more than 0", value);
}

static bool is_global(const struct option *option) {
    for (const struct option *o = global_options; o->name != NULL; o++)
        if (o == option) return true;
    return false;
}

static int take_option(struct ctl *ctl, struct args *args, const struct option *option, const char *value) {
    char what[64];
    snprintf(what, sizeof what, "value of --%s", option->name);
    int status = check_choice(ctl, what, option->kind, option->choices, value);
    if (status != STATUS_OK) return status;
    if (is_global(option)) {
        status = take_global(ctl, option, value);
        if (status != STATUS_OK) return status;
    }
    if (args->n_given == GIVEN_MAX) return ctl_usage(ctl, "too many options; give each once");
    args->given[args->n_given].option = option;
    args->given[args->n_given++].value = value;
    return STATUS_OK;
}

/* The option at argv[*i], and its value, which may be the next argument. Moves *i to the last argument used. */
static int read_option(struct ctl *ctl, struct args *args, int argc, char **argv, int *i) {
    const char *text = argv[*i], *value = NULL;
    bool is_long = text[1] == '-';
    size_t len = is_long ? strcspn(text + 2, "=") : 0;
    const struct option *option = find_option(args->command, text + 2, len, is_long ? 0 : text[1]);
    if (option == NULL) return unknown_option(ctl, args->command, text);
    if (is_long && text[2 + len] == '=')
        value = text + 2 + len + 1;
    else if (!is_long && text[2] != '\0')
        value = text + 2;
    if (option->kind == VALUE_NONE && value != NULL)
        return ctl_usage(ctl, "--%s takes no value; leave out \"%s\"", option->name, value);
    if (option->kind != VALUE_NONE && value == NULL) {
        if (*i + 1 >= argc)
            return ctl_usage(ctl, "--%s needs a value; give --%s %s", option->name, option->name, option->value);
        value = argv[++*i];
    }
    return take_option(ctl, args, option, value);
}

/* ---- operands ---- */

static int check_operands(const struct ctl *ctl, const struct args *args) {
    const struct operand *operand = args->command->operands;
    const char *name = args->command->name;
    size_t i = 0;
    for (; operand != NULL && operand->name != NULL; operand++) {
        if (i >= args->n_operands && !operand->optional)
            return ctl_usage(ctl, "%s is missing; see: qnetctl help %s", operand->name, name);
        for (bool first = true; i < args->n_operands && (first || operand->many); i++, first = false) {
            int status = check_choice(ctl, operand->name, operand->kind, operand->choices, args->operands[i]);
            if (status != STATUS_OK) return status;
        }
    }
    if (i < args->n_operands)
        return ctl_usage(ctl, "unexpected argument \"%s\"; see: qnetctl help %s", args->operands[i], name);
    return STATUS_OK;
}

/* Options come before, between and after the words of a command, so its name is found first. A negative number is a
 * value, not an option. */
static bool is_option(const char *text) {
    return text[0] == '-' && text[1] != '\0' && !(text[1] >= '0' && text[1] <= '9') && text[1] != '.';
}

static bool takes_next(const char *text) {
    bool is_long = text[1] == '-';
    if (is_long && strchr(text, '=') != NULL) return false;
    if (!is_long && text[2] != '\0') return false;
    const struct option *option =
        find_in(global_options, text + 2, strlen(text) - 2 + (is_long ? 0 : 1), is_long ? 0 : text[1]);
    return option != NULL && option->kind != VALUE_NONE;
}

/* Up to two words; ret_at gets where they are in argv. */
static size_t find_words(int argc, char **argv, int ret_at[2]) {
    size_t n = 0;
    for (int i = 1; i < argc && n < 2; i++) {
        if (strcmp(argv[i], "--") == 0) break;
        if (!is_option(argv[i]))
            ret_at[n++] = i;
        else if (n == 0 && takes_next(argv[i]))
            i++;
        else if (n == 1)
            break; /* The second word stands right after the first. */
    }
    return n;
}

static int find(struct ctl *ctl, int argc, char **argv, struct args *args, int words_at[2], size_t *ret_n_words) {
    char two[160];
    size_t n = find_words(argc, argv, words_at);
    *ret_n_words = 0;
    args->command = find_command("status");
    if (n == 0) return STATUS_OK;
    if (n == 2) {
        snprintf(two, sizeof two, "%.64s %.64s", argv[words_at[0]], argv[words_at[1]]);
        args->command = find_command(two);
        *ret_n_words = 2;
        if (args->command != NULL) return STATUS_OK;
    }
    args->command = find_command(argv[words_at[0]]);
    *ret_n_words = 1;
    if (args->command == NULL) return unknown_command(ctl, argv[words_at[0]], n == 2 ? argv[words_at[1]] : NULL);
    char family[256];
    list_family(argv[words_at[0]], family, sizeof family);
    if (n == 2 && family[0] != '\0' && args->command->operands == NULL)
        return unknown_command(ctl, argv[words_at[0]], argv[words_at[1]]);
    return STATUS_OK;
}

int args_parse(struct ctl *ctl, int argc, char **argv, struct args *ret_args) {
    struct args args = {0};
    int words_at[2] = {0, 0};
    size_t n_words;
    bool only_operands = false;
    int status = find(ctl, argc, argv, &args, words_at, &n_words);
    for (int i = 1; i < argc && status == STATUS_OK; i++) {
        if (n_words > 0 && i == words_at[0]) continue;
        if (n_words > 1 && i == words_at[1]) continue;
        if (!only_operands && strcmp(argv[i], "--") == 0)
            only_operands = true;
        else if (!only_operands && is_option(argv[i]))
            status = read_option(ctl, &args, argc, argv, &i);
        else if (args.n_operands == OPERANDS_MAX)
            status = ctl_usage(ctl, "too many arguments; at most %d", OPERANDS_MAX);
        else
            args.operands[args.n_operands++] = argv[i];
    }
    if (status != STATUS_OK) return status;
    if (args_has(&args, "help")) {
        if (n_words == 0)
            help_print_overview(stdout, ctl->out_colour);
        else
            help_print_command(stdout, args.command, ctl->out_colour);
        args.command = NULL;
    } else if (args_has(&args, "version")) {
        args.command = find_command("version");
    } else {
        status = check_operands(ctl, &args);
    }
    *ret_args = args;
    return status;
}

/* ---- values ---- */

const char *args_text(const struct args *args, const char *option, const char *fallback) {
    for (size_t i = args->n_given; i-- > 0;) /* The last one counts. */
        if (strcmp(args->given[i].option->name, option) == 0)
            return args->given[i].value != NULL ? args->given[i].value : "";
    return fallback;
}

bool args_has(const struct args *args, const char *option) { return args_text(args, option, NULL) != NULL; }

int args_u64(const struct ctl *ctl, const struct args *args, const char *option, uint64_t least, uint64_t most,
             uint64_t *ret_value) {
    const char *text = args_text(args, option, NULL);
    char *end;
    if (text == NULL) return STATUS_OK;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value < least || value > most)
        return ctl_usage(ctl, "--%s: \"%s\" is no valid number; valid: a whole number from %" PRIu64 " to %" PRIu64,
                         option, text, least, most);
    *ret_value = value;
    return STATUS_OK;
}

int args_quantity(const struct ctl *ctl, const struct args *args, const char *option, enum qn_dimension dimension,
                  double *ret_value) {
    const char *text = args_text(args, option, NULL);
    char what[64];
    if (text == NULL) return STATUS_OK;
    snprintf(what, sizeof what, "--%s", option);
    return parse_quantity(ctl, what, text, dimension, ret_value);
}
