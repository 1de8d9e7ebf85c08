/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_DAEMON_LOG_H
#define QN_DAEMON_LOG_H

#include <stdbool.h>
#include <stdint.h>

/* The daemon's log, on standard error: one line a message, for people on a terminal, JSON otherwise. */

/* The same numbers as EventInfo.level. */
enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };
enum log_format { LOG_FORMAT_AUTO, LOG_FORMAT_HUMAN, LOG_FORMAT_JSON };

#define LOG_REPEAT_SLOTS 64

struct log {
    enum log_level level;
    bool json, colour;
    char node[64];
    uint64_t lost; /* Lines not written because the reader of our standard error was too slow. */
    struct log_repeat {
        uint64_t key; /* Hash of code and subject. */
        uint64_t since_ns;
        unsigned written, suppressed;
    } repeats[LOG_REPEAT_SLOTS];
};

void log_init(struct log *log, enum log_format format, enum log_level level, const char *node);

/* `code` is a stable lower-case name ("session_up"); `subject` is the peer, link or file it is about, or NULL. A pair
 * of both is written at most five times in ten seconds; the next line after that says how many were left out. */
void log_write(struct log *log, enum log_level level, const char *code, const char *subject, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

int log_level_parse(const char *name);  /* An enum log_level, or -1. */
int log_format_parse(const char *name); /* An enum log_format, or -1. */

#endif
