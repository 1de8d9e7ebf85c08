/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "command.h"
#include "table.h"

static const int numbers[] = {
#define X(name, number, what, todo) number,
    QN_ERRORS(X)
#undef X
};
#define N_ERRORS (sizeof numbers / sizeof numbers[0])

static json_t *to_json(int number) {
    return json_pack("{s:i,s:s,s:s,s:s}", "number", number, "code", qn_err_name(number), "what", qn_err_what(number),
                     "todo", qn_err_todo(number));
}

int run_errors(struct ctl *ctl, const struct args *args) {
    static const char *const titles[] = {">NUMBER", "CODE", "WHAT", "WHAT TO DO", NULL};
    struct table table;
    (void)args;
    if (ctl->json) {
        json_t *list = json_array();
        for (size_t i = 0; i < N_ERRORS; i++) json_array_append_new(list, to_json(numbers[i]));
        return ctl_json(ctl, json_pack("{s:o}", "errors", list));
    }
    table_init(&table, titles);
    for (size_t i = 0; i < N_ERRORS; i++) {
        table_add(&table, "%d", numbers[i]);
        table_add(&table, "%s", qn_err_name(numbers[i]));
        table_add(&table, "%s", qn_err_what(numbers[i]));
        table_add(&table, "%s", qn_err_todo(numbers[i]));
    }
    return table_print(&table, ctl, "");
}

/* A name ("no_route"), a number, or the constant of the source ("QN_ENO_ROUTE"). 0 if unknown. */
static int find(const char *text) {
    char *end;
    long number = strtol(text, &end, 10);
    if (strncasecmp(text, "QN_E", 4) == 0) text += 4;
    for (size_t i = 0; i < N_ERRORS; i++)
        if ((*end == '\0' && labs(number) == numbers[i]) || strcasecmp(text, qn_err_name(numbers[i])) == 0)
            return numbers[i];
    return 0;
}

int run_errors_lookup(struct ctl *ctl, const struct args *args) {
    const char *names[N_ERRORS];
    int number = find(args->operands[0]);
    if (number == 0) {
        for (size_t i = 0; i < N_ERRORS; i++) names[i] = qn_err_name(numbers[i]);
        const char *near = suggest_word(args->operands[0], names, N_ERRORS);
        if (near != NULL) return ctl_usage(ctl, "unknown error \"%s\"; did you mean \"%s\"?", args->operands[0], near);
        return ctl_usage(ctl, "unknown error \"%s\"; see them all: qnetctl errors", args->operands[0]);
    }
    if (ctl->json) return ctl_json(ctl, to_json(number));
    printf("%s (%d)\n  what: %s\n  do:   %s\n", qn_err_name(number), number, qn_err_what(number), qn_err_todo(number));
    return STATUS_OK;
}
