/* SPDX-License-Identifier: Apache-2.0 */
/* Help for people, and for programs as JSON, from the table of commands. */
#include "help.h"

#include <string.h>

const char help_about[] = "qnetctl shows and steers the nodes of an emulated quantum network (qnetd), and runs whole "
                          "networks as labs on this machine.";

const char help_targets[] =
    "Without --node or --socket a command speaks to the lab that is running: lists and status then show all its nodes, "
    "and what one node must do asks for --node. Without a lab it speaks to the qnetd whose socket is in /run/qnetd or "
    "$XDG_RUNTIME_DIR.";

const struct help_variable help_environment[] = {
    {"QNETCTL_NODE", "Node to use when --node is not given."},
    {"QNETCTL_LAB", "Lab to use when --lab is not given."},
    {"QNETCTL_SOCKET", "Control socket to use when none of --socket, --node and --lab is given."},
    {"XDG_RUNTIME_DIR", "Where labs live: in the folder qnetd-UID/labs. /tmp if it is not set."},
    {"NO_COLOR", "If not empty, no colours."},
    {NULL, NULL},
};

const struct help_status help_statuses[] = {
    {0, "done"},
    {1, "it failed while running"},
    {2, "wrong usage or configuration"},
    {3, "a node cannot be reached"},
    {4, "a node is not healthy, or an error rate is above its limit"},
    {5, "time ran out"},
    {6, "denied"},
    {130, "interrupted (SIGINT); 143: terminated (SIGTERM)"},
    {0, NULL},
};

static void wrap(FILE *out, const char *text, int indent) {
    const int width = 78;
    int column = 0;
    while (*text != '\0') {
        size_t len = strcspn(text, " \n");
        if (column > 0 && column + 1 + (int)len > width - indent) {
            fputc('\n', out);
            column = 0;
        }
        if (len > 0)
            column +=
                fprintf(out, "%*s%.*s", column == 0 ? indent : 1, "", (int)len, text) - (column == 0 ? indent : 0);
        text += len;
        if (*text == '\n') {
            fputc('\n', out);
            column = 0;
        }
        if (*text != '\0') text++;
    }
    if (column > 0) fputc('\n', out);
}

static void heading(FILE *out, const char *text, bool colour) {
    fprintf(out, "\n%s%s%s\n", colour_start(colour, COLOUR_BOLD), text, colour_end(colour, COLOUR_BOLD));
}

void help_operand_text(char *text, size_t size, const struct operand *operand) {
    snprintf(text, size, "%s%s%s%s", operand->optional ? "[" : "", operand->name, operand->many ? "..." : "",
             operand->optional ? "]" : "");
}

void usage_line(FILE *out, const struct command *command) {
    char text[96];
    fprintf(out, "qnetctl %s", command->name);
    for (const struct operand *operand = command->operands; operand != NULL && operand->name != NULL; operand++) {
        help_operand_text(text, sizeof text, operand);
        fprintf(out, " %s", text);
    }
    fputs(" [options]", out);
}

static void option_text(char *text, size_t size, const struct option *option) {
    char letter[8] = "    ";
    if (option->letter != 0) snprintf(letter, sizeof letter, "-%c, ", option->letter);
    const char *value = option->kind == VALUE_CHOICE ? option->choices : option->value;
    snprintf(text, size, "%s--%s%s%s", letter, option->name, value != NULL ? " " : "", value != NULL ? value : "");
}

static void print_options(FILE *out, const struct option *options) {
    char text[128];
    for (const struct option *option = options; option != NULL && option->name != NULL; option++) {
        option_text(text, sizeof text, option);
        fprintf(out, "  %s\n", text);
        wrap(out, option->help, 10);
    }
}

void help_print_overview(FILE *out, bool colour) {
    wrap(out, help_about, 0);
    heading(out, "USAGE", colour);
    fputs("  qnetctl [options] COMMAND [arguments] [options]\n", out);
    heading(out, "COMMANDS", colour);
    for (size_t i = 0; i < n_commands; i++)
        if (!commands[i].hidden) fprintf(out, "  %-16s %s\n", commands[i].name, commands[i].summary);
    heading(out, "OPTIONS OF EVERY COMMAND", colour);
    print_options(out, global_options);
    fputc('\n', out);
    wrap(out, help_targets, 0);
    heading(out, "EXIT STATUS", colour);
    for (const struct help_status *s = help_statuses; s->text != NULL; s++)
        fprintf(out, "  %-3d  %s\n", s->status, s->text);
    fputs("\nMore: qnetctl help COMMAND\n", out);
}

void help_print_command(FILE *out, const struct command *command, bool colour) {
    fprintf(out, "qnetctl %s - %s\n", command->name, command->summary);
    heading(out, "USAGE", colour);
    fputs("  ", out);
    usage_line(out, command);
    fputc('\n', out);
    if (command->details != NULL) {
        fputc('\n', out);
        wrap(out, command->details, 0);
    }
    if (command->options != NULL) heading(out, "OPTIONS", colour);
    print_options(out, command->options);
    heading(out, "OPTIONS OF EVERY COMMAND", colour);
    print_options(out, global_options);
    if (command->examples == NULL) return;
    heading(out, "EXAMPLES", colour);
    for (const char *at = command->examples; *at != '\0';) {
        size_t len = strcspn(at, "\n");
        fprintf(out, "  %.*s\n", (int)len, at);
        at += len + (at[len] == '\n');
    }
}

/* ---- for programs ---- */

static const char *const kind_names[] = {"flag", "text", "choice", "node", "link", "lab", "file"};

static json_t *options_to_json(const struct option *options) {
    json_t *list = json_array();
    for (; options != NULL && options->name != NULL; options++)
        json_array_append_new(list, json_pack("{s:s,s:s,s:s?,s:s?,s:s}", "name", options->name, "kind",
                                              kind_names[options->kind], "value", options->value, "choices",
                                              options->choices, "help", options->help));
    return list;
}

static json_t *operands_to_json(const struct operand *operand) {
    json_t *list = json_array();
    for (; operand != NULL && operand->name != NULL; operand++)
        json_array_append_new(list, json_pack("{s:s,s:s,s:s?,s:b,s:b}", "name", operand->name, "kind",
                                              kind_names[operand->kind], "choices", operand->choices, "optional",
                                              operand->optional, "many", operand->many));
    return list;
}

static json_t *command_to_json(const struct command *command) {
    return json_pack("{s:s,s:s,s:s?,s:s?,s:o,s:o}", "name", command->name, "summary", command->summary, "details",
                     command->details, "examples", command->examples, "operands", operands_to_json(command->operands),
                     "options", options_to_json(command->options));
}

/* ---- the command ---- */

static bool is_in_family(const struct command *command, const char *name) {
    size_t len = strlen(name);
    return strncmp(command->name, name, len) == 0 && (command->name[len] == '\0' || command->name[len] == ' ');
}

/* "help", "help lab", "help lab up". */
int run_help(struct ctl *ctl, const struct args *args) {
    char name[192] = "";
    const char *names[128];
    size_t n_shown = 0, n = 0;
    json_t *list = json_array();
    for (size_t i = 0; i < args->n_operands && i < 2; i++)
        snprintf(name + strlen(name), sizeof name - strlen(name), "%s%.64s", i == 0 ? "" : " ", args->operands[i]);
    for (size_t i = 0; i < n_commands; i++) { /* The command, and those of its family. */
        const struct command *command = &commands[i];
        if (command->hidden) continue;
        if (n < 128) names[n++] = command->name;
        if (args->n_operands > 0 && !is_in_family(command, name)) continue;
        if (ctl->json)
            json_array_append_new(list, command_to_json(command));
        else if (args->n_operands > 0 && n_shown > 0)
            fputs("\n\n", stdout);
        if (!ctl->json && args->n_operands > 0) help_print_command(stdout, command, ctl->out_colour);
        n_shown++;
    }
    if (!ctl->json && args->n_operands == 0) help_print_overview(stdout, ctl->out_colour);
    if (ctl->json && n_shown > 0)
        ctl_json(ctl, json_pack("{s:O,s:o}", "commands", list, "options", options_to_json(global_options)));
    json_decref(list);
    if (n_shown > 0) return STATUS_OK;
    const char *near = suggest_word(name, names, n);
    if (near != NULL) return ctl_usage(ctl, "unknown command \"%s\"; did you mean \"%s\"?", name, near);
    return ctl_usage(ctl, "unknown command \"%s\"; see all with: qnetctl help", name);
}
