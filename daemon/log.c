/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: a message is formatted into one line on the stack and given to write(2) whole, so lines of several
 * processes on one terminal or journal do not mix.
 *
 * Failure modes: a message too long for the line is cut. A reader of our standard error that has stopped reading (a
 * full pipe) must not stop the node, so the line is dropped and counted (metric qnetd_log_lost_total). A message that
 * repeats is thinned out, with the number left out. Nothing secret is ever passed here. */
#include "log.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"

#define LINE_MAX_BYTES 2048 /* Below PIPE_BUF, so that a pipe takes a line whole or not at all. */
#define REPEAT_WINDOW_NS 10000000000u
#define REPEAT_BURST 5

static const char *const level_names[] = {"debug", "info", "warning", "error"};
static const char *const level_colours[] = {"\033[2m", "", "\033[33m", "\033[31m"};
static const char *const format_names[] = {"auto", "human", "json"};

static int find_name(const char *const *names, int n, const char *name) {
    for (int i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0) return i;
    return -1;
}

int log_level_parse(const char *name) { return find_name(level_names, 4, name); }
int log_format_parse(const char *name) { return find_name(format_names, 3, name); }

void log_init(struct log *log, enum log_format format, enum log_level level, const char *node) {
    bool tty = isatty(STDERR_FILENO) != 0;
    *log = (struct log){.level = level, .json = format == LOG_FORMAT_JSON || (format == LOG_FORMAT_AUTO && !tty)};
    log->colour = tty && !log->json;
    snprintf(log->node, sizeof log->node, "%s", node);
}

/* A line being built: what does not fit is left out. */
struct line {
    char text[LINE_MAX_BYTES];
    size_t len;
};

static void add_char(struct line *line, char c) {
    if (line->len < sizeof line->text) line->text[line->len++] = c;
}

static void add(struct line *line, const char *text) {
    for (; *text != '\0'; text++) add_char(line, *text);
}

/* Bytes outside ASCII are written as if Latin-1: a peer may send what is not UTF-8, and the line must stay valid JSON.
 */
static void add_json(struct line *line, const char *text) {
    add_char(line, '"');
    for (; *text != '\0' && line->len < sizeof line->text - 16; text++) { /* Room for the closing quote and brace. */
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') add_char(line, '\\');
        if (c >= 0x20 && c < 0x7f) {
            add_char(line, (char)c);
        } else {
            char escape[8];
            snprintf(escape, sizeof escape, "\\u%04x", c);
            add(line, escape);
        }
    }
    add_char(line, '"');
}

/* Control characters could repaint a terminal; what comes from the network may hold some. */
static void add_plain(struct line *line, const char *text) {
    for (; *text != '\0' && line->len < sizeof line->text - 16; text++)
        add_char(line, (unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text);
}

static void build_json(struct line *line, const struct log *log, enum log_level level, const char *code,
                       const char *subject, const char *message, unsigned suppressed) {
    struct timespec now;
    struct tm utc;
    char text[80];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    add(line, "{\"ts\":\"");
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
    add(line, text);
    snprintf(text, sizeof text, ".%06ldZ\",\"level\":\"%s\",\"node\":", now.tv_nsec / 1000, level_names[level]);
    add(line, text);
    add_json(line, log->node);
    add(line, ",\"code\":");
    add_json(line, code);
    if (subject != NULL) {
        add(line, ",\"subject\":");
        add_json(line, subject);
    }
    if (suppressed > 0) {
        snprintf(text, sizeof text, ",\"suppressed\":%u", suppressed);
        add(line, text);
    }
    add(line, ",\"msg\":");
    add_json(line, message);
    add(line, "}");
}

static void build_human(struct line *line, const struct log *log, enum log_level level, const char *code,
                        const char *subject, const char *message, unsigned suppressed) {
    struct timespec now;
    struct tm local;
    char text[160];
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &local);
    if (log->colour) add(line, level_colours[level]);
    strftime(text, sizeof text, "%H:%M:%S", &local);
    add(line, text);
    snprintf(text, sizeof text, ".%03ld %-7s %s %-16s ", now.tv_nsec / 1000000, level_names[level], log->node, code);
    add(line, text);
    if (subject != NULL) {
        add_plain(line, subject);
        add(line, ": ");
    }
    add_plain(line, message);
    if (suppressed > 0) {
        snprintf(text, sizeof text, " (%u like it left out)", suppressed);
        add(line, text);
    }
    if (log->colour && *level_colours[level] != '\0') add(line, "\033[0m");
}

/* False if this message is one too many; else how many were left out before it. */
static bool admit(struct log *log, const char *code, const char *subject, unsigned *ret_suppressed) {
    uint64_t key = 14695981039346656037u; /* FNV-1a. */
    for (const char *c = code; *c != '\0'; c++) key = (key ^ (unsigned char)*c) * 1099511628211u;
    for (const char *c = subject != NULL ? subject : ""; *c != '\0'; c++)
        key = (key ^ (unsigned char)*c) * 1099511628211u;
    struct log_repeat *slot = &log->repeats[key % LOG_REPEAT_SLOTS];
    uint64_t now_ns = clock_monotonic_ns();
    if (slot->key != key) *slot = (struct log_repeat){.key = key, .since_ns = now_ns};
    *ret_suppressed = 0;
    if (now_ns - slot->since_ns > REPEAT_WINDOW_NS) {
        *ret_suppressed = slot->suppressed;
        *slot = (struct log_repeat){.key = key, .since_ns = now_ns};
    }
    if (slot->written >= REPEAT_BURST) {
        slot->suppressed++;
        return false;
    }
    slot->written++;
    return true;
}

static void emit(struct log *log, struct line *line) {
    if (line->len == sizeof line->text) line->len--;
    line->text[line->len++] = '\n';
    struct pollfd room = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&room, 1, 0) != 1 || write(STDERR_FILENO, line->text, line->len) < 0) log->lost++;
}

void log_write(struct log *log, enum log_level level, const char *code, const char *subject, const char *format, ...) {
    unsigned suppressed;
    if (level < log->level || !admit(log, code, subject, &suppressed)) return;
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    struct line line = {.len = 0};
    if (log->json) {
        build_json(&line, log, level, code, subject, message, suppressed);
    } else {
        build_human(&line, log, level, code, subject, message, suppressed);
    }
    emit(log, &line);
}
