/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QNETCTL_CTL_H
#define QNETCTL_CTL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* What every command has at hand: the global options, and how to speak to the user. */

enum status {
    STATUS_OK = 0,
    STATUS_RUNTIME = 1,
    STATUS_USAGE = 2,
    STATUS_UNREACHABLE = 3,
    STATUS_UNHEALTHY = 4,
    STATUS_TIMEOUT = 5,
    STATUS_DENIED = 6,
};

struct ctl {
    const char *node, *lab, *socket; /* NULL: not given. Borrowed. */
    bool json;
    bool has_timeout;
    double timeout_s;
    bool out_colour, err_colour; /* Standard output, standard error are terminals that may be coloured. */
    bool has_progress;           /* Standard error is a terminal, so a line there may be rewritten. */
};

/* "qnetctl: error: ..." on standard error; with --json also {"error": ...} on standard output. Returns `status`. The
 * text says what is wrong and, after a semicolon, what to do. `code` is a stable word, `number` a qn_err or 0. */
int ctl_fail(const struct ctl *ctl, int status, const char *code, unsigned number, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
int ctl_usage(const struct ctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3))); /* STATUS_USAGE */
void ctl_warn(const struct ctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3)));
int ctl_no_memory(const struct ctl *ctl);

/* Prints one JSON object on a line and drops the reference. */
int ctl_json(const struct ctl *ctl, json_t *object);

/* A line on standard error that the next one, or ctl_progress_end, takes away. Nothing unless that is a terminal. */
void ctl_progress(const struct ctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3)));
void ctl_progress_end(const struct ctl *ctl);

enum colour { COLOUR_NONE, COLOUR_BOLD, COLOUR_DIM, COLOUR_RED, COLOUR_GREEN, COLOUR_YELLOW };
const char *colour_start(bool on, enum colour colour); /* "" when off or none. */
const char *colour_end(bool on, enum colour colour);

/* Control characters of text from elsewhere become '?': they could repaint the terminal. In place. */
char *text_clean(char *text);

/* A duration for people, "12.3 ms". Borrowed until the fourth call after. */
const char *text_duration(double seconds);

/* The nearest of the names, or NULL if none is near. */
const char *suggest_word(const char *text, const char *const *names, size_t n_names);

#endif
