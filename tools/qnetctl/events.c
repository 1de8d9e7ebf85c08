/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: every node is asked for its events; they are printed in the order of their times, one line each.
 * Processes of one machine share a clock, so the order is right to within the time an event takes to get here; events
 * that come within MERGE_NS of each other are sorted before they are printed.
 *
 * Failure modes: a node that does not answer is named once and left out; when the last one is gone the command ends. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "command.h"
#include "message_json.h"
#include "target.h"

#define MERGE_NS UINT64_C(50000000)
#define ANSWER_NS UINT64_C(10000000000)
#define LANES_MAX 24

struct source {
    struct client client;
    bool open;
    uint64_t request; /* Its id. */
};

struct line {
    uint64_t t_ns;
    size_t source;
    uint64_t number; /* Of arrival: keeps the order of equal times. */
    char *text;      /* Owned. */
};

struct stream {
    const struct ctl *ctl;
    const struct targets *targets;
    struct source *sources; /* Owned; one a target. */
    size_t n_open;
    struct line *lines; /* Owned; not printed yet. */
    size_t n_lines, cap;
    uint64_t n_seen, oldest_ns; /* When the first line not printed yet came. */
    bool follow, failed;
    int status;
};

static const struct {
    char mark;
    enum colour colour;
} levels[] = {{'.', COLOUR_DIM}, {'o', COLOUR_NONE}, {'!', COLOUR_YELLOW}, {'X', COLOUR_RED}};

/* ---- one line ---- */

static char *format_human(const struct stream *stream, size_t source, const Qnet__V1__EventInfo *event) {
    unsigned level = event->level > 3 ? 3 : event->level;
    char lanes[LANES_MAX + 3] = "", *text = NULL;
    size_t n = stream->targets->len;
    if (n > 1 && n <= LANES_MAX) { /* A column a node: who is busy shows at a glance. */
        memset(lanes, '|', n);
        lanes[source] = levels[level].mark;
        memcpy(lanes + n, "  ", 3);
    }
    bool colour = stream->ctl->out_colour;
    text_clean(event->node), text_clean(event->code), text_clean(event->subject), text_clean(event->text);
    int len = asprintf(&text, "%s%14.6f  %s%-12s %c %-16s %-16s %s%s\n", colour_start(colour, levels[level].colour),
                       (double)event->t_ns * 1e-9, lanes, event->node, levels[level].mark, event->code,
                       event->subject[0] != '\0' ? event->subject : "-", event->text,
                       colour_end(colour, levels[level].colour));
    return len < 0 ? NULL : text;
}

static char *format_json(const struct target *target, const Qnet__V1__EventInfo *event) {
    char *text = NULL, *with_newline = NULL;
    json_t *object = body_to_json(target, &event->base);
    if (object != NULL) text = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(object);
    if (text != NULL && asprintf(&with_newline, "%s\n", text) < 0) with_newline = NULL;
    free(text);
    return with_newline;
}

static void add_line(struct stream *stream, size_t source, const Qnet__V1__EventInfo *event) {
    if (stream->n_lines == stream->cap) {
        size_t cap = stream->cap == 0 ? 256 : stream->cap * 2;
        struct line *lines = realloc(stream->lines, cap * sizeof *lines);
        if (lines == NULL) {
            stream->failed = true;
            return;
        }
        stream->lines = lines;
        stream->cap = cap;
    }
    char *text =
        stream->ctl->json ? format_json(&stream->targets->list[source], event) : format_human(stream, source, event);
    if (text == NULL) {
        stream->failed = true;
        return;
    }
    if (stream->n_lines == 0) stream->oldest_ns = client_now_ns();
    stream->lines[stream->n_lines++] = (struct line){event->t_ns, source, stream->n_seen++, text};
}

static int compare_lines(const void *left, const void *right) {
    const struct line *a = left, *b = right;
    if (a->t_ns != b->t_ns) return a->t_ns < b->t_ns ? -1 : 1;
    if (a->source != b->source) return a->source < b->source ? -1 : 1;
    return a->number < b->number ? -1 : 1;
}

static void flush_lines(struct stream *stream) {
    if (stream->targets->len > 1 && stream->n_lines > 1)
        qsort(stream->lines, stream->n_lines, sizeof *stream->lines, compare_lines);
    for (size_t i = 0; i < stream->n_lines; i++) {
        fputs(stream->lines[i].text, stdout);
        free(stream->lines[i].text);
    }
    stream->n_lines = 0;
    if (fflush(stdout) != 0) stream->failed = true; /* Nobody reads any more. */
}

/* ---- sources ---- */

static void drop(struct stream *stream, size_t i, int error) {
    struct source *source = &stream->sources[i];
    if (error < 0) {
        const char *todo = source->client.is_remote ? "" : "; see its log";
        ctl_warn(stream->ctl, "%s: %s%s", target_name(&stream->targets->list[i]), source->client.error, todo);
        if (stream->status == STATUS_OK)
            stream->status = source->client.is_remote            ? STATUS_RUNTIME
                             : error == -QN_ETIMEOUT             ? STATUS_TIMEOUT
                             : source->client.os_error == EACCES ? STATUS_DENIED
                                                                 : STATUS_UNREACHABLE;
    }
    if (source->open) stream->n_open--;
    source->open = false;
    client_close(&source->client);
}

static void open_source(struct stream *stream, size_t i, uint32_t backlog) {
    struct source *source = &stream->sources[i];
    Qnet__V1__ControlRequest request = QNET__V1__CONTROL_REQUEST__INIT;
    Qnet__V1__EventsRequest body = QNET__V1__EVENTS_REQUEST__INIT;
    body.follow = stream->follow;
    body.backlog = backlog;
    request.body_case = QNET__V1__CONTROL_REQUEST__BODY_EVENTS;
    request.events = &body;
    int rc = client_open(&source->client, stream->targets->list[i].socket);
    if (rc == 0) {
        source->open = true;
        stream->n_open++;
        rc = client_send(&source->client, &request);
    }
    source->request = request.id;
    if (rc < 0) drop(stream, i, rc);
}

/* Takes what has come; never waits. */
static void drain(struct stream *stream, size_t i) {
    struct source *source = &stream->sources[i];
    const Qnet__V1__ControlResponse *response;
    while (source->open) {
        int rc = client_next(&source->client, 0, &response);
        if (rc == -QN_ETIMEOUT) return;
        if (rc < 0) {
            drop(stream, i, rc);
            return;
        }
        if (response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_ERROR) {
            snprintf(source->client.error, sizeof source->client.error, "%s", response->error->message);
            source->client.is_remote = true;
            drop(stream, i, -QN_EPROTOCOL);
            return;
        }
        if (response->body_case == QNET__V1__CONTROL_RESPONSE__BODY_EVENT) add_line(stream, i, response->event);
        if (!response->more) drop(stream, i, 0);
    }
}

/* False after a while without anything. */
static bool wait_input(struct stream *stream, struct pollfd *polls, int timeout_ms) {
    for (size_t i = 0; i < stream->targets->len; i++)
        polls[i] = (struct pollfd){.fd = stream->sources[i].open ? stream->sources[i].client.fd : -1, .events = POLLIN};
    int n = poll(polls, (nfds_t)stream->targets->len, timeout_ms);
    return n > 0 || (n < 0 && errno == EINTR);
}

static void run_stream(struct stream *stream, struct pollfd *polls) {
    uint64_t deadline_ns = client_now_ns() + ANSWER_NS, until_ns = UINT64_MAX;
    if (stream->follow && stream->ctl->has_timeout)
        until_ns = client_now_ns() + (uint64_t)(stream->ctl->timeout_s * 1e9);
    while (stream->n_open > 0 && !stream->failed && client_now_ns() < until_ns) {
        bool is_single = stream->targets->len == 1;
        int patience_ms = stream->n_lines > 0 ? (int)(MERGE_NS / 1000000) : until_ns != UINT64_MAX ? 50 : 1000;
        bool came = wait_input(stream, polls, patience_ms);
        for (size_t i = 0; i < stream->targets->len; i++) drain(stream, i);
        bool is_late = stream->n_lines > 0 && client_now_ns() - stream->oldest_ns > 2 * MERGE_NS;
        if (stream->n_lines > 0 && stream->follow && (is_single || !came || is_late)) flush_lines(stream);
        if (stream->follow || client_now_ns() < deadline_ns) continue;
        for (size_t i = 0; i < stream->targets->len; i++)
            if (stream->sources[i].open) {
                snprintf(stream->sources[i].client.error, sizeof stream->sources[i].client.error, "no answer in time");
                drop(stream, i, -QN_ETIMEOUT);
            }
    }
    flush_lines(stream);
}

int run_events(struct ctl *ctl, const struct args *args) {
    struct targets targets;
    struct stream stream = {.ctl = ctl, .follow = args_has(args, "follow")};
    uint64_t backlog = stream.follow ? 10 : 100;
    int status = args_u64(ctl, args, "backlog", 0, 1024, &backlog);
    if (status == STATUS_OK) status = targets_find(ctl, &targets);
    if (status != STATUS_OK) return status;
    stream.targets = &targets;
    stream.sources = calloc(targets.len, sizeof *stream.sources);
    struct pollfd *polls = calloc(targets.len, sizeof *polls);
    if (stream.sources == NULL || polls == NULL) {
        status = ctl_no_memory(ctl);
    } else {
        for (size_t i = 0; i < targets.len; i++) open_source(&stream, i, (uint32_t)backlog);
        run_stream(&stream, polls);
        for (size_t i = 0; i < targets.len; i++) drop(&stream, i, 0);
        status = stream.failed && stream.status == STATUS_OK ? STATUS_RUNTIME : stream.status;
    }
    free(stream.lines);
    free(stream.sources);
    free(polls);
    targets_release(&targets);
    return status;
}
