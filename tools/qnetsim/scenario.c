/* SPDX-License-Identifier: Apache-2.0 */
#include "scenario.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX 10

struct command {
    uint64_t at_ns;
    uint16_t node;
    Qnet__V1__ControlRequest request;
    union {
        Qnet__V1__PairRequest pair;
        Qnet__V1__TeleportRequest teleport;
        Qnet__V1__Bb84Request bb84;
        Qnet__V1__FaultRequest fault;
        Qnet__V1__ListRequest list;
        Qnet__V1__DiscardRequest discard;
    } body;
    char name[QN_NAME_MAX + 1]; /* Of the peer or link the body points to. */
};

struct scenario {
    const struct qn_topology *topology;
    struct command *commands; /* In order of time. */
    size_t n;
    uint64_t end_ns;
};

/* ---- reading ---- */

struct reader {
    const char *name;
    int line;
    FILE *errors;
    bool failed;
    const struct qn_topology *topology;
};

static bool complain(struct reader *reader, const char *what, const char *word) {
    fprintf(reader->errors, "%s:%d: error: %s%s%s%s\n", reader->name, reader->line, what, word != NULL ? ": \"" : "",
            word != NULL ? word : "", word != NULL ? "\"" : "");
    reader->failed = true;
    return false;
}

static bool time_of(struct reader *reader, const char *word, uint64_t *ret_ns) {
    double seconds;
    const char *why;
    if (qn_quantity_parse(word, QN_DIM_TIME_S, &seconds, &why) < 0 || !(seconds >= 0 && seconds < 1e9))
        return complain(reader, "not a time such as 1.5ms", word);
    *ret_ns = (uint64_t)(seconds * 1e9 + 0.5);
    return true;
}

static bool number_of(struct reader *reader, const char *word, double *ret_value) {
    char *end;
    *ret_value = word == NULL ? 0 : strtod(word, &end);
    return word == NULL || *end == '\0' ? true : complain(reader, "not a number", word);
}

static bool count_of(struct reader *reader, const char *word, uint32_t *ret_value) {
    double value;
    if (!number_of(reader, word, &value)) return false;
    if (!(value >= 0 && value < 4e9) || value != (double)(uint32_t)value) return complain(reader, "not a count", word);
    *ret_value = (uint32_t)value;
    return true;
}

static bool axes_of(struct reader *reader, const char *word, uint32_t *ret_axes) {
    static const char *const names[] = {"z", "xz", "xyz", "chsh"};
    for (uint32_t i = 0; i < 4; i++)
        if (strcmp(word, names[i]) == 0) {
            *ret_axes = i + 1;
            return true;
        }
    return complain(reader, "unknown axes (valid: z, xz, xyz, chsh)", word);
}

static bool peer_of(struct reader *reader, struct command *command, const char *word) {
    if (word == NULL) return complain(reader, "a peer is missing", NULL);
    if (qn_topology_find_node(reader->topology, word) < 0) return complain(reader, "unknown node", word);
    snprintf(command->name, sizeof command->name, "%s", word);
    return true;
}

static bool read_pairs(struct reader *reader, struct command *command, char **words, size_t n) {
    Qnet__V1__PairRequest *pair = &command->body.pair;
    qnet__v1__pair_request__init(pair);
    command->request.body_case = QNET__V1__CONTROL_REQUEST__BODY_PAIR;
    command->request.pair = pair;
    pair->quiet = strcmp(words[0], "pairs") == 0;
    pair->measure = pair->quiet;
    pair->number = 1;
    if (!peer_of(reader, command, n > 1 ? words[1] : NULL) || (n > 2 && !count_of(reader, words[2], &pair->number)))
        return false;
    for (size_t i = 3; i < n; i++) {
        if (strncmp(words[i], "fidelity=", 9) == 0) {
            if (!number_of(reader, words[i] + 9, &pair->min_fidelity)) return false;
        } else if (strncmp(words[i], "cutoff=", 7) == 0) {
            if (!time_of(reader, words[i] + 7, &pair->cutoff_ns)) return false;
        } else if (strncmp(words[i], "timeout=", 8) == 0) {
            if (!time_of(reader, words[i] + 8, &pair->timeout_ns)) return false;
        } else if (!axes_of(reader, words[i], &pair->axes)) {
            return false;
        }
    }
    return true;
}

static bool read_teleport(struct reader *reader, struct command *command, char **words, size_t n) {
    Qnet__V1__TeleportRequest *teleport = &command->body.teleport;
    qnet__v1__teleport_request__init(teleport);
    command->request.body_case = QNET__V1__CONTROL_REQUEST__BODY_TELEPORT;
    command->request.teleport = teleport;
    teleport->tomography = true;
    teleport->number = 1;
    return peer_of(reader, command, n > 1 ? words[1] : NULL) &&
           (n < 3 || number_of(reader, words[2], &teleport->theta)) &&
           (n < 4 || number_of(reader, words[3], &teleport->phi)) &&
           (n < 5 || count_of(reader, words[4], &teleport->number));
}

static bool read_bb84(struct reader *reader, struct command *command, char **words, size_t n) {
    Qnet__V1__Bb84Request *bb84 = &command->body.bb84;
    qnet__v1__bb84_request__init(bb84);
    command->request.body_case = QNET__V1__CONTROL_REQUEST__BODY_BB84;
    command->request.bb84 = bb84;
    uint32_t pulses = 0;
    bb84->blocks = 1;
    if (!peer_of(reader, command, n > 1 ? words[1] : NULL) || (n > 2 && !count_of(reader, words[2], &bb84->blocks)) ||
        (n > 3 && !count_of(reader, words[3], &pulses)) || (n > 4 && !number_of(reader, words[4], &bb84->qber_limit)))
        return false;
    bb84->block_pulses = pulses;
    return true;
}

static bool read_fault(struct reader *reader, struct command *command, char **words, size_t n) {
    static const struct {
        const char *word;
        Qnet__V1__FaultKind kind;
    } kinds[] = {{"cut-quantum", QNET__V1__FAULT_KIND__FAULT_KIND_CUT_QUANTUM},
                 {"cut-classical", QNET__V1__FAULT_KIND__FAULT_KIND_CUT_CLASSICAL},
                 {"restore-quantum", QNET__V1__FAULT_KIND__FAULT_KIND_RESTORE_QUANTUM},
                 {"restore-classical", QNET__V1__FAULT_KIND__FAULT_KIND_RESTORE_CLASSICAL},
                 {"delay", QNET__V1__FAULT_KIND__FAULT_KIND_DELAY},
                 {"eve", QNET__V1__FAULT_KIND__FAULT_KIND_EVE},
                 {"clear", QNET__V1__FAULT_KIND__FAULT_KIND_CLEAR}};
    Qnet__V1__FaultRequest *fault = &command->body.fault;
    qnet__v1__fault_request__init(fault);
    command->request.body_case = QNET__V1__CONTROL_REQUEST__BODY_FAULT;
    command->request.fault = fault;
    if (n < 3) return complain(reader, "fault LINK KIND [VALUE]", NULL);
    if (qn_topology_find_link(reader->topology, words[1]) < 0) return complain(reader, "unknown link", words[1]);
    snprintf(command->name, sizeof command->name, "%s", words[1]);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(words[2], kinds[i].word) == 0) fault->kind = kinds[i].kind;
    if (fault->kind == 0)
        return complain(
            reader,
            "unknown fault (valid: cut-quantum, cut-classical, restore-quantum, restore-classical, delay, eve, clear)",
            words[2]);
    uint64_t delay = 0;
    if (fault->kind == QNET__V1__FAULT_KIND__FAULT_KIND_DELAY) {
        if (n < 4 || !time_of(reader, words[3], &delay))
            return n < 4 ? complain(reader, "delay needs a time", NULL) : false;
        fault->value = (double)delay;
        return true;
    }
    return n < 4 || number_of(reader, words[3], &fault->value);
}

static bool read_action(struct reader *reader, struct command *command, char **words, size_t n) {
    qnet__v1__control_request__init(&command->request);
    if (strcmp(words[0], "pairs") == 0 || strcmp(words[0], "keep") == 0) return read_pairs(reader, command, words, n);
    if (strcmp(words[0], "teleport") == 0) return read_teleport(reader, command, words, n);
    if (strcmp(words[0], "bb84") == 0) return read_bb84(reader, command, words, n);
    if (strcmp(words[0], "fault") == 0) return read_fault(reader, command, words, n);
    if (strcmp(words[0], "discard") == 0) {
        qnet__v1__discard_request__init(&command->body.discard);
        command->body.discard.all = true;
        command->request.body_case = QNET__V1__CONTROL_REQUEST__BODY_DISCARD;
        command->request.discard = &command->body.discard;
        return true;
    }
    return complain(reader, "unknown command (valid: pairs, keep, teleport, bb84, fault, discard)", words[0]);
}

static void read_line(struct reader *reader, struct scenario *scenario, char *line) {
    char *words[WORDS_MAX], *rest = line;
    size_t n = 0;
    line[strcspn(line, "#\r\n")] = '\0';
    for (char *word; n < WORDS_MAX && (word = strtok_r(rest, " \t", &rest)) != NULL;) words[n++] = word;
    if (n == 0) return;
    if (n == 2 && strcmp(words[0], "end") == 0) {
        time_of(reader, words[1], &scenario->end_ns);
        return;
    }
    if (n < 5 || strcmp(words[0], "at") != 0 || strcmp(words[2], "on") != 0) {
        complain(reader, "expected: at TIME on NODE COMMAND ..., or: end TIME", NULL);
        return;
    }
    struct command *more = realloc(scenario->commands, (scenario->n + 1) * sizeof *more);
    if (more == NULL) abort();
    scenario->commands = more;
    struct command command = {0};
    int node = qn_topology_find_node(reader->topology, words[3]);
    if (node < 0) complain(reader, "unknown node", words[3]);
    if (!time_of(reader, words[1], &command.at_ns) || node < 0 || !read_action(reader, &command, words + 4, n - 4))
        return;
    command.node = (uint16_t)node;
    size_t at = scenario->n++;
    for (; at > 0 && scenario->commands[at - 1].at_ns > command.at_ns; at--)
        scenario->commands[at] = scenario->commands[at - 1];
    scenario->commands[at] = command;
}

/* Commands move while they are sorted in: the pointers into them are set at the end. */
static void bind(struct command *command) {
    switch (command->request.body_case) {
    case QNET__V1__CONTROL_REQUEST__BODY_PAIR:
        command->request.pair = &command->body.pair;
        command->body.pair.peer = command->name;
        break;
    case QNET__V1__CONTROL_REQUEST__BODY_TELEPORT:
        command->request.teleport = &command->body.teleport;
        command->body.teleport.peer = command->name;
        break;
    case QNET__V1__CONTROL_REQUEST__BODY_BB84:
        command->request.bb84 = &command->body.bb84;
        command->body.bb84.peer = command->name;
        break;
    case QNET__V1__CONTROL_REQUEST__BODY_FAULT:
        command->request.fault = &command->body.fault;
        command->body.fault.link = command->name;
        break;
    default:
        command->request.discard = &command->body.discard;
        break;
    }
}

int scenario_parse(const char *name, const char *text, size_t len, const struct qn_topology *topology, FILE *errors,
                   struct scenario **ret_scenario) {
    struct scenario *scenario = calloc(1, sizeof *scenario);
    if (scenario == NULL) abort();
    scenario->topology = topology;
    scenario->end_ns = UINT64_C(10000000000);
    struct reader reader = {.name = name, .errors = errors, .topology = topology};
    for (size_t at = 0; at < len;) {
        const char *newline = memchr(text + at, '\n', len - at);
        size_t n = newline != NULL ? (size_t)(newline - text) - at : len - at;
        char *line = strndup(text + at, n);
        if (line == NULL) abort();
        reader.line++;
        read_line(&reader, scenario, line);
        free(line);
        at += n + 1;
    }
    for (size_t i = 0; i < scenario->n; i++) bind(&scenario->commands[i]);
    if (reader.failed) {
        scenario_free(scenario);
        return 2;
    }
    *ret_scenario = scenario;
    return 0;
}

void scenario_free(struct scenario *scenario) {
    if (scenario == NULL) return;
    free(scenario->commands);
    free(scenario);
}

/* ---- running ---- */

struct run {
    struct cluster *cluster;
    const struct qn_topology *topology;
    FILE *out;
    size_t open;
    int failed;
};

static void stamp(struct run *run, const char *node) {
    uint64_t now = cluster_now(run->cluster);
    fprintf(run->out, "[%10" PRIu64 ".%06" PRIu64 " ms] %-12s ", now / 1000000, now % 1000000, node);
}

static void print_sums(struct run *run, const Qnet__V1__PairSummary *s) {
    static const char *const axes[] = {"X", "Y", "Z", "+", "-"};
    for (size_t i = 0; i < s->n_sums; i++)
        if (s->sums[i]->axis < 5 && s->sums[i]->peer_axis < 5)
            fprintf(run->out, " %s%s=%.4f/%" PRIu64, axes[s->sums[i]->axis], axes[s->sums[i]->peer_axis],
                    (double)s->sums[i]->sum / (double)s->sums[i]->trials, s->sums[i]->trials);
}

static void on_reply(void *context, uint16_t node, uint64_t client, const Qnet__V1__ControlResponse *r) {
    struct run *run = context;
    stamp(run, run->topology->nodes[node].name);
    fprintf(run->out, "reply %" PRIu64 ": ", client);
    switch (r->body_case) {
    case QNET__V1__CONTROL_RESPONSE__BODY_ERROR:
        fprintf(run->out, "error %s: %s", r->error->code, r->error->message);
        run->failed = 1;
        break;
    case QNET__V1__CONTROL_RESPONSE__BODY_PAIR:
        fprintf(run->out, "pair %" PRIu64 " with %s, fidelity %.6f, age %" PRIu64 " ns", r->pair->sequence,
                r->pair->peer, r->pair->fidelity, r->pair->age_ns);
        break;
    case QNET__V1__CONTROL_RESPONSE__BODY_PAIR_SUMMARY:
        fprintf(run->out, "%u pairs over %u links, %u expired, fidelity %.6f, predicted %.6f",
                r->pair_summary->delivered, r->pair_summary->hops, r->pair_summary->expired, r->pair_summary->goodness,
                r->pair_summary->predicted);
        print_sums(run, r->pair_summary);
        break;
    case QNET__V1__CONTROL_RESPONSE__BODY_TELEPORT_SUMMARY:
        fprintf(run->out, "%u teleported, fidelity %.4f +- %.4f, predicted %.4f", r->teleport_summary->done,
                r->teleport_summary->fidelity, r->teleport_summary->standard_error, r->teleport_summary->predicted);
        break;
    case QNET__V1__CONTROL_RESPONSE__BODY_BB84_BLOCK:
        fprintf(run->out,
                "block %u: %" PRIu64 " clicks, %" PRIu64 " sifted, QBER %.4f, f %.3f, %" PRIu64 " secret bits%s%s",
                r->bb84_block->block, r->bb84_block->clicks, r->bb84_block->sifted, r->bb84_block->qber,
                r->bb84_block->efficiency, r->bb84_block->secret, r->bb84_block->failed[0] != '\0' ? " " : "",
                r->bb84_block->failed);
        break;
    case QNET__V1__CONTROL_RESPONSE__BODY_BB84_SUMMARY:
        fprintf(run->out, "%u blocks, QBER %.4f, expected %.4f, %" PRIu64 " secret bits", r->bb84_summary->blocks,
                r->bb84_summary->qber, r->bb84_summary->expected_qber, r->bb84_summary->secret);
        break;
    default:
        fprintf(run->out, "done");
        break;
    }
    fputc('\n', run->out);
    if (!r->more) run->open--;
}

static void on_event(void *context, const Qnet__V1__EventInfo *info) {
    struct run *run = context;
    stamp(run, info->node);
    fprintf(run->out, "%s %s: %s\n", info->code, info->subject, info->text);
}

static bool all_answered(void *context) { return ((struct run *)context)->open == 0; }

int scenario_run(const struct scenario *scenario, const struct cluster_config *config, FILE *out, uint64_t *ret_steps) {
    struct run run = {.topology = scenario->topology, .out = out};
    struct cluster_config with = *config;
    with.context = &run;
    with.on_reply = on_reply;
    with.on_event = on_event;
    if (cluster_new(&with, &run.cluster) < 0) return 1;
    for (size_t i = 0; i < scenario->n; i++) {
        const struct command *command = &scenario->commands[i];
        cluster_run_until(run.cluster, command->at_ns);
        Qnet__V1__ControlRequest request = command->request;
        request.id = i + 1;
        run.open++;
        cluster_request(run.cluster, command->node, i + 1, &request);
    }
    uint64_t now = cluster_now(run.cluster);
    if (now < scenario->end_ns) cluster_run_while(run.cluster, all_answered, &run, scenario->end_ns - now);
    if (run.open > 0) {
        stamp(&run, "-");
        fprintf(out, "%zu requests unanswered at the end\n", run.open);
        run.failed = 1;
    }
    *ret_steps = cluster_steps(run.cluster);
    cluster_free(run.cluster);
    return run.failed;
}
