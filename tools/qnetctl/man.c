/* SPDX-License-Identifier: Apache-2.0 */
/* The manual page, from the table of commands. */
#include <ctype.h>
#include <string.h>

#include "help.h"

/* Text as roff: backslashes and dashes as they are, no line that begins with a control character. */
static void roff(FILE *out, const char *text) {
    if (*text == '.' || *text == '\'') fputs("\\&", out);
    for (; *text != '\0'; text++) {
        if (*text == '\\')
            fputs("\\e", out);
        else if (*text == '-')
            fputs("\\-", out);
        else
            fputc(*text, out);
        if (*text == '\n' && (text[1] == '.' || text[1] == '\'')) fputs("\\&", out);
    }
}

static void roff_paragraphs(FILE *out, const char *text) {
    for (const char *at = text; *at != '\0';) {
        char line[2048];
        size_t len = strcspn(at, "\n");
        snprintf(line, sizeof line, "%.*s", (int)len, at);
        if (line[0] != '\0') {
            fputs(at == text ? "" : ".PP\n", out);
            roff(out, line);
            fputc('\n', out);
        }
        at += len + (at[len] == '\n');
    }
}

static void roff_options(FILE *out, const struct option *options) {
    for (const struct option *option = options; option != NULL && option->name != NULL; option++) {
        const char *value = option->kind == VALUE_CHOICE ? option->choices : option->value;
        fputs(".TP\n", out);
        if (option->letter != 0) fprintf(out, "\\fB\\-%c\\fR, ", option->letter);
        fputs("\\fB\\-\\-", out);
        roff(out, option->name);
        fputs("\\fR", out);
        if (value != NULL) {
            fputs(" \\fI", out);
            roff(out, value);
            fputs("\\fR", out);
        }
        fputc('\n', out);
        roff(out, option->help);
        fputc('\n', out);
    }
}

static void roff_command(FILE *out, const struct command *command) {
    char text[96];
    fprintf(out, ".SS \"%s\"\n\\fBqnetctl %s\\fR", command->name, command->name);
    for (const struct operand *operand = command->operands; operand != NULL && operand->name != NULL; operand++) {
        help_operand_text(text, sizeof text, operand);
        fprintf(out, " \\fI%s\\fR", text);
    }
    fputs(" [\\fIoptions\\fR]\n.PP\n", out);
    fputc(toupper((unsigned char)command->summary[0]), out);
    roff(out, command->summary + 1);
    fputs(".\n", out);
    if (command->details != NULL) {
        fputs(".PP\n", out);
        roff_paragraphs(out, command->details);
    }
    roff_options(out, command->options);
    if (command->examples == NULL) return;
    fputs(".PP\n.nf\n.RS\n", out);
    roff(out, command->examples);
    fputs("\n.RE\n.fi\n", out);
}

int run_man(struct ctl *ctl, const struct args *args) {
    FILE *out = stdout;
    (void)ctl;
    (void)args;
    fprintf(out, ".TH QNETCTL 1 \"\" \"qnetd %s\" \"qnetd manual\"\n", QN_VERSION);
    fputs(".SH NAME\nqnetctl \\- show and steer the nodes of an emulated quantum network\n.SH SYNOPSIS\n"
          "\\fBqnetctl\\fR [\\fIoptions\\fR] \\fICOMMAND\\fR [\\fIarguments\\fR] [\\fIoptions\\fR]\n.SH DESCRIPTION\n",
          out);
    roff(out, help_about);
    fputs("\n.PP\n", out);
    roff(out, help_targets);
    fputs("\n.SH OPTIONS\nThese may be given to every command, before or after its name.\n", out);
    roff_options(out, global_options);
    fputs(".SH COMMANDS\n", out);
    for (size_t i = 0; i < n_commands; i++)
        if (!commands[i].hidden) roff_command(out, &commands[i]);
    fputs(".SH EXIT STATUS\n", out);
    for (const struct help_status *s = help_statuses; s->text != NULL; s++)
        fprintf(out, ".TP\n\\fB%d\\fR\n%s\n", s->status, s->text);
    fputs(".SH ENVIRONMENT\n", out);
    for (const struct help_variable *v = help_environment; v->text != NULL; v++) {
        fprintf(out, ".TP\n\\fB%s\\fR\n", v->name);
        roff(out, v->text);
        fputc('\n', out);
    }
    return STATUS_OK;
}
