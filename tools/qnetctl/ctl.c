/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 2048

const char *colour_start(bool on, enum colour colour) {
    static const char *const codes[] = {"", "\033[1m", "\033[2m", "\033[31m", "\033[32m", "\033[33m"};
    return on ? codes[colour] : "";
}

const char *colour_end(bool on, enum colour colour) { return on && colour != COLOUR_NONE ? "\033[0m" : ""; }

char *text_clean(char *text) {
    for (char *c = text; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
    return text;
}

static void print_line(const struct ctl *ctl, const char *label, enum colour colour, const char *text) {
    ctl_progress_end(ctl);
    fflush(stdout); /* What was found before comes before. */
    fprintf(stderr, "qnetctl: %s%s:%s %s\n", colour_start(ctl->err_colour, colour), label,
            colour_end(ctl->err_colour, colour), text);
}

static int fail(const struct ctl *ctl, int status, const char *code, unsigned number, const char *format,
                va_list args) {
    char text[TEXT_MAX];
    vsnprintf(text, sizeof text, format, args);
    text_clean(text);
    print_line(ctl, "error", COLOUR_RED, text);
    if (ctl->json)
        ctl_json(ctl, json_pack("{s:{s:s,s:i,s:s,s:i}}", "error", "code", code, "number", (int)number, "message", text,
                                "exit_status", status));
    return status;
}

int ctl_fail(const struct ctl *ctl, int status, const char *code, unsigned number, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fail(ctl, status, code, number, format, args);
    va_end(args);
    return status;
}

int ctl_usage(const struct ctl *ctl, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fail(ctl, STATUS_USAGE, "usage", 0, format, args);
    va_end(args);
    return STATUS_USAGE;
}

void ctl_warn(const struct ctl *ctl, const char *format, ...) {
    char text[TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    print_line(ctl, "warning", COLOUR_YELLOW, text_clean(text));
}

int ctl_no_memory(const struct ctl *ctl) {
    print_line(ctl, "error", COLOUR_RED, "out of memory; free memory on this machine");
    return STATUS_RUNTIME;
}

int ctl_json(const struct ctl *ctl, json_t *object) {
    if (object == NULL) return ctl_no_memory(ctl);
    ctl_progress_end(ctl);
    int rc = json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(object);
    putchar('\n');
    fflush(stdout); /* Readers of a stream want each line when it comes. */
    return rc == 0 ? STATUS_OK : STATUS_RUNTIME;
}

static bool progress_shown;

void ctl_progress(const struct ctl *ctl, const char *format, ...) {
    char text[TEXT_MAX];
    va_list args;
    if (!ctl->has_progress) return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fflush(stdout);
    fprintf(stderr, "\r\033[K%.78s", text_clean(text));
    fflush(stderr);
    progress_shown = true;
}

void ctl_progress_end(const struct ctl *ctl) {
    if (!ctl->has_progress || !progress_shown) return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    progress_shown = false;
}

const char *text_duration(double seconds) {
    static char texts[4][32];
    static unsigned next;
    char *text = texts[next++ % 4];
    if (seconds >= 86400)
        snprintf(text, sizeof texts[0], "%.1f d", seconds / 86400);
    else if (seconds >= 3600)
        snprintf(text, sizeof texts[0], "%.1f h", seconds / 3600);
    else if (seconds >= 60)
        snprintf(text, sizeof texts[0], "%.1f min", seconds / 60);
    else if (seconds >= 1)
        snprintf(text, sizeof texts[0], "%.2f s", seconds);
    else if (seconds >= 1e-3)
        snprintf(text, sizeof texts[0], "%.2f ms", seconds * 1e3);
    else if (seconds >= 1e-6)
        snprintf(text, sizeof texts[0], "%.2f us", seconds * 1e6);
    else
        snprintf(text, sizeof texts[0], "%.0f ns", seconds * 1e9);
    return text;
}
