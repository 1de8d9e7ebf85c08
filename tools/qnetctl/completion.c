/* SPDX-License-Identifier: Apache-2.0 */
/* Completions for three shells from the table of commands. Names of nodes, links and labs are asked of `qnetctl
 * complete`, which reads the topology of the running lab. */
#include <string.h>

#include "command.h"
#include "lab.h"

static const char *live_names(enum value_kind kind) {
    return kind == VALUE_NODE ? "nodes" : kind == VALUE_LINK ? "links" : kind == VALUE_LAB ? "labs" : NULL;
}

struct spaced {
    bool first;
};

static bool print_choice(void *context, const char *choice, size_t len) {
    struct spaced *spaced = context;
    printf("%s%.*s", spaced->first ? "" : " ", (int)len, choice);
    spaced->first = false;
    return false;
}

static void print_choices(const char *choices) {
    struct spaced spaced = {true};
    choices_each(choices, print_choice, &spaced);
}

static bool begins_family(size_t i, size_t len) { /* The first command with this first word. */
    for (size_t k = 0; k < i; k++)
        if (strncmp(commands[k].name, commands[i].name, len) == 0 && strchr(" ", commands[k].name[len]) != NULL)
            return false;
    return true;
}

static void print_first_words(void) {
    bool first = true;
    for (size_t i = 0; i < n_commands; i++) {
        size_t len = strcspn(commands[i].name, " ");
        if (commands[i].hidden || !begins_family(i, len)) continue;
        printf("%s%.*s", first ? "" : " ", (int)len, commands[i].name);
        first = false;
    }
}

static void print_second_words(const char *word, size_t word_len) {
    bool first = true;
    for (size_t i = 0; i < n_commands; i++) {
        const char *name = commands[i].name;
        if (commands[i].hidden || strncmp(name, word, word_len) != 0 || name[word_len] != ' ') continue;
        printf("%s%s", first ? "" : " ", name + word_len + 1);
        first = false;
    }
}

static bool is_family(size_t i) {
    size_t len = strcspn(commands[i].name, " ");
    for (size_t k = 0; k < n_commands; k++)
        if (!commands[k].hidden && strncmp(commands[k].name, commands[i].name, len) == 0 &&
            commands[k].name[len] == ' ')
            return true;
    return false;
}

/* ---- bash ---- */

static void bash_words(enum value_kind kind, const char *choices) {
    if (kind == VALUE_CHOICE) {
        fputs("words='", stdout);
        print_choices(choices);
        fputs("'", stdout);
    } else if (live_names(kind) != NULL) {
        printf("words=$(qnetctl complete %s 2>/dev/null)", live_names(kind));
    } else {
        fputs(kind == VALUE_FILE ? "files=1" : ":", stdout);
    }
}

static void bash_values(const char *command, const struct option *options) {
    for (; options != NULL && options->name != NULL; options++) {
        if (options->kind == VALUE_NONE) continue;
        printf("    '%s --%s'", command, options->name);
        if (options->letter != 0) printf("|'%s -%c'", command, options->letter);
        fputs(") ", stdout);
        bash_words(options->kind, options->choices);
        fputs("; value=1 ;;\n", stdout);
    }
}

static void print_option_names(const struct option *options) {
    for (; options != NULL && options->name != NULL; options++) printf(" --%s", options->name);
}

/* What may follow a command: values of its first operand, or the second words of its family. */
static void bash_operands(void) {
    for (size_t i = 0; i < n_commands; i++) {
        const struct operand *operand = commands[i].operands;
        size_t len = strcspn(commands[i].name, " ");
        if (commands[i].hidden) continue;
        if (commands[i].name[len] == '\0' && is_family(i)) continue;
        if (operand == NULL || (operand->kind == VALUE_TEXT)) continue;
        printf("        '%s') ", commands[i].name);
        bash_words(operand->kind, operand->choices);
        fputs(" ;;\n", stdout);
    }
}

static void bash_families(void) {
    for (size_t i = 0; i < n_commands; i++) {
        size_t len = strcspn(commands[i].name, " ");
        if (commands[i].hidden || !is_family(i) || !begins_family(i, len)) continue;
        printf("        '%.*s') words='", (int)len, commands[i].name);
        print_second_words(commands[i].name, len);
        fputs("' ;;\n", stdout);
    }
}

static void completion_bash(void) {
    fputs(
        "# bash completion of qnetctl; made by: qnetctl completion bash\n"
        "_qnetctl() {\n"
        "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} first= second= words= files= value= i\n"
        "  COMPREPLY=()\n"
        "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
        "    case ${COMP_WORDS[i]} in\n"
        "      --node|-n|--lab|-l|--socket|-s|--timeout|-t) ((i++)) ;;\n"
        "      -*) ;;\n"
        "      *) if [[ -z $first ]]; then first=${COMP_WORDS[i]}; elif [[ -z $second ]]; then "
        "second=${COMP_WORDS[i]}; fi ;;\n"
        "    esac\n"
        "  done\n"
        "  local command=$first\n"
        "  case \"$first $second\" in\n   ",
        stdout);
    for (size_t i = 0; i < n_commands; i++)
        if (!commands[i].hidden && strchr(commands[i].name, ' ') != NULL)
            printf(" '%s') command=\"$first $second\" ;;\n   ", commands[i].name);
    fputs(" *) ;;\n  esac\n  case \" $prev\" in\n", stdout);
    bash_values("", global_options);
    fputs("  esac\n  [[ -n $value ]] || case \"$command $prev\" in\n", stdout);
    for (size_t i = 0; i < n_commands; i++) bash_values(commands[i].name, commands[i].options);
    fputs("    *) ;;\n  esac\n  if [[ -z $value ]]; then\n    if [[ $cur == -* ]]; then\n      words='", stdout);
    print_option_names(global_options);
    fputs("'\n      case $command in\n", stdout);
    for (size_t i = 0; i < n_commands; i++) {
        if (commands[i].options == NULL || commands[i].hidden) continue;
        printf("        '%s') words+='", commands[i].name);
        print_option_names(commands[i].options);
        fputs("' ;;\n", stdout);
    }
    fputs("      esac\n    elif [[ -z $first ]]; then\n      words='", stdout);
    print_first_words();
    fputs("'\n    else\n      case $command in\n", stdout);
    bash_operands();
    bash_families();
    fputs("        'help') words='", stdout);
    print_first_words();
    fputs("' ;;\n      esac\n    fi\n  fi\n"
          "  if [[ -n $files ]]; then COMPREPLY=($(compgen -f -- \"$cur\")); else COMPREPLY=($(compgen -W \"$words\" "
          "-- \"$cur\")); fi\n"
          "}\ncomplete -o filenames -F _qnetctl qnetctl\n",
          stdout);
}

/* ---- zsh ---- */

/* Inside single quotes, where _arguments and _describe give brackets and colons a meaning. */
static void zsh_quote(const char *text) {
    for (; *text != '\0'; text++) {
        if (*text == '\'')
            fputs("'\\''", stdout);
        else if (*text == ':' || *text == '[' || *text == ']')
            printf("\\%c", *text);
        else
            putchar(*text);
    }
}

static void zsh_action(const char *what, enum value_kind kind, const char *choices) {
    fputc(':', stdout);
    zsh_quote(what);
    fputc(':', stdout);
    if (kind == VALUE_CHOICE) {
        fputc('(', stdout);
        print_choices(choices);
        fputc(')', stdout);
    } else if (live_names(kind) != NULL) {
        printf("_qnetctl_%s", live_names(kind));
    } else if (kind == VALUE_FILE) {
        fputs("_files", stdout);
    }
}

static void zsh_options(const struct option *options) {
    for (; options != NULL && options->name != NULL; options++) {
        printf(" \\\n        '--%s[", options->name);
        zsh_quote(options->help);
        fputs("]", stdout);
        if (options->kind != VALUE_NONE)
            zsh_action(options->value != NULL ? options->value : options->name, options->kind, options->choices);
        fputc('\'', stdout);
    }
}

static void zsh_command(const struct command *command) {
    printf("    '%s')\n      _arguments", command->name);
    zsh_options(global_options);
    zsh_options(command->options);
    for (const struct operand *operand = command->operands; operand != NULL && operand->name != NULL; operand++) {
        printf(" \\\n        '%s", operand->many ? "*" : operand->optional ? ":" : "");
        zsh_action(operand->name, operand->kind, operand->choices);
        fputc('\'', stdout);
    }
    fputs("\n      ;;\n", stdout);
}

static void zsh_family(size_t i, size_t len) {
    printf("    %.*s)\n      sub=(", (int)len, commands[i].name);
    for (size_t k = 0; k < n_commands; k++) {
        if (commands[k].hidden || strncmp(commands[k].name, commands[i].name, len) != 0 || commands[k].name[len] != ' ')
            continue;
        printf(" '%s:", commands[k].name + len + 1);
        zsh_quote(commands[k].summary);
        fputc('\'', stdout);
    }
    fputs(" )\n      if ((CURRENT == 2)); then _describe 'command' sub; return; fi\n"
          "      [[ -n ${(M)sub:#${words[2]}:*} ]] && { command=\"${words[1]} ${words[2]}\"; shift words; "
          "((CURRENT--)); }\n      ;;\n",
          stdout);
}

static void completion_zsh(void) {
    fputs(
        "#compdef qnetctl\n# zsh completion of qnetctl; made by: qnetctl completion zsh\n"
        "_qnetctl_nodes() { local -a names; names=(${(f)\"$(qnetctl complete nodes 2>/dev/null)\"}); compadd -a names "
        "}\n"
        "_qnetctl_links() { local -a names; names=(${(f)\"$(qnetctl complete links 2>/dev/null)\"}); compadd -a names "
        "}\n"
        "_qnetctl_labs() { local -a names; names=(${(f)\"$(qnetctl complete labs 2>/dev/null)\"}); compadd -a names }\n"
        "_qnetctl() {\n  local -a first sub\n  local curcontext=$curcontext state line command\n  typeset -A "
        "opt_args\n  first=(",
        stdout);
    for (size_t i = 0; i < n_commands; i++) {
        size_t len = strcspn(commands[i].name, " ");
        if (commands[i].hidden || !begins_family(i, len)) continue;
        printf("\n    '%.*s:", (int)len, commands[i].name);
        zsh_quote(commands[i].summary);
        fputc('\'', stdout);
    }
    fputs("\n  )\n  _arguments -C", stdout);
    zsh_options(global_options);
    fputs(" \\\n        '1: :->first' '*:: :->rest' && return\n"
          "  if [[ $state == first ]]; then _describe 'command' first; return; fi\n"
          "  command=${words[1]}\n  case $command in\n",
          stdout);
    for (size_t i = 0; i < n_commands; i++) {
        size_t len = strcspn(commands[i].name, " ");
        if (!commands[i].hidden && is_family(i) && begins_family(i, len)) zsh_family(i, len);
    }
    fputs("  esac\n  case $command in\n", stdout);
    for (size_t i = 0; i < n_commands; i++)
        if (!commands[i].hidden) zsh_command(&commands[i]);
    fputs("  esac\n}\nif [[ $funcstack[1] == _qnetctl ]]; then _qnetctl \"$@\"; else compdef _qnetctl qnetctl; fi\n",
          stdout);
}

/* ---- fish ---- */

static void fish_quote(const char *text) {
    for (; *text != '\0'; text++) {
        if (*text == '\'' || *text == '\\') putchar('\\');
        putchar(*text);
    }
}

static void fish_value(enum value_kind kind, const char *choices) {
    if (kind == VALUE_CHOICE) {
        fputs(" -xa '", stdout);
        print_choices(choices);
        fputs("'", stdout);
    } else if (live_names(kind) != NULL) {
        printf(" -xa '(qnetctl complete %s 2>/dev/null)'", live_names(kind));
    } else {
        fputs(kind == VALUE_FILE ? " -rF" : " -x", stdout);
    }
}

static void fish_when(const char *name) {
    size_t len = strcspn(name, " ");
    printf(" -n '__fish_seen_subcommand_from %.*s", (int)len, name);
    if (name[len] == ' ') printf("; and __fish_seen_subcommand_from %s", name + len + 1);
    fputc('\'', stdout);
}

static void fish_options(const char *command, const struct option *options) {
    for (; options != NULL && options->name != NULL; options++) {
        fputs("complete -c qnetctl", stdout);
        if (command != NULL) fish_when(command);
        printf(" -l %s", options->name);
        if (options->letter != 0) printf(" -s %c", options->letter);
        if (options->kind != VALUE_NONE) fish_value(options->kind, options->choices);
        fputs(" -d '", stdout);
        fish_quote(options->help);
        fputs("'\n", stdout);
    }
}

static void completion_fish(void) {
    fputs("# fish completion of qnetctl; made by: qnetctl completion fish\ncomplete -c qnetctl -f\n", stdout);
    fish_options(NULL, global_options);
    for (size_t i = 0; i < n_commands; i++) {
        const char *name = commands[i].name;
        size_t len = strcspn(name, " ");
        const struct operand *operand = commands[i].operands;
        if (commands[i].hidden) continue;
        if (begins_family(i, len)) {
            printf("complete -c qnetctl -n __fish_use_subcommand -a %.*s -d '", (int)len, name);
            fish_quote(commands[i].summary);
            fputs("'\n", stdout);
        }
        if (name[len] == ' ') {
            printf("complete -c qnetctl -n '__fish_seen_subcommand_from %.*s; and not __fish_seen_subcommand_from ",
                   (int)len, name);
            print_second_words(name, len);
            printf("' -a %s -d '", name + len + 1);
            fish_quote(commands[i].summary);
            fputs("'\n", stdout);
        }
        fish_options(name, commands[i].options);
        if (operand == NULL || operand->kind == VALUE_TEXT) continue;
        fputs("complete -c qnetctl", stdout);
        fish_when(name);
        fish_value(operand->kind, operand->choices);
        fputc('\n', stdout);
    }
}

int run_completion(struct ctl *ctl, const struct args *args) {
    const char *shell = args->operands[0];
    (void)ctl;
    if (strcmp(shell, "bash") == 0)
        completion_bash();
    else if (strcmp(shell, "zsh") == 0)
        completion_zsh();
    else
        completion_fish();
    return STATUS_OK;
}

/* ---- names ---- */

static void print_topology_names(const struct qn_topology *topology, bool links) {
    for (size_t i = 0; links && i < topology->n_links; i++) puts(topology->links[i].name);
    for (size_t i = 0; !links && i < topology->n_nodes; i++) puts(topology->nodes[i].name);
}

/* Of all labs, unless one is chosen: better a name too many than none. */
int run_complete(struct ctl *ctl, const struct args *args) {
    const char *what = args->operands[0];
    struct qn_topology topology;
    struct lab_list list;
    struct lab lab;
    int status = lab_list(ctl, &list);
    if (status != STATUS_OK) return status;
    for (size_t i = 0; i < list.len; i++) {
        if (strcmp(what, "labs") == 0) {
            puts(list.names[i]);
            continue;
        }
        if (ctl->lab != NULL && strcmp(ctl->lab, list.names[i]) != 0) continue;
        if (lab_open(ctl, list.names[i], &lab) != STATUS_OK || lab_read_topology(ctl, &lab, &topology) != STATUS_OK)
            continue;
        print_topology_names(&topology, strcmp(what, "links") == 0);
        qn_topology_release(&topology);
    }
    lab_list_release(&list);
    return STATUS_OK;
}
