/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "topology/internal.h"

#define ERRORS_MAX 100 /* Shown; the rest are counted. */
#define WARNINGS_MAX 20
#define VALID_MAX 32 /* Names listed after "valid:". */

struct diag {
    struct place at;
    size_t order;
    bool is_warning;
    char *text; /* Owned. */
};

static void diag_add(struct diags *diags, struct place at, bool is_warning, const char *format, va_list args) {
    size_t *count = is_warning ? &diags->warnings : &diags->errors;
    if ((*count)++ >= (is_warning ? WARNINGS_MAX : ERRORS_MAX)) return;
    if (diags->len == diags->cap) {
        size_t cap = diags->cap == 0 ? 16 : diags->cap * 2;
        struct diag *items = realloc(diags->items, cap * sizeof(*items));
        if (items == NULL) goto nomem;
        diags->items = items;
        diags->cap = cap;
    }
    struct qn_buf text = {0};
    if (qn_buf_vprintf(&text, format, args) < 0) goto nomem;
    diags->items[diags->len] = (struct diag){at, diags->len, is_warning, (char *)text.data};
    diags->len++;
    return;
nomem:
    diags->rc = -QN_ENOMEM;
}

void diag_error(struct diags *diags, struct place at, const char *format, ...) {
    va_list args;
    va_start(args, format);
    diag_add(diags, at, false, format, args);
    va_end(args);
}

void diag_warning(struct diags *diags, struct place at, const char *format, ...) {
    va_list args;
    va_start(args, format);
    diag_add(diags, at, true, format, args);
    va_end(args);
}

void diag_unknown(struct diags *diags, struct place at, const char *what, const char *text, const char *where,
                  const char *const *names, size_t n_names) {
    struct qn_buf valid = {0};
    int rc = 0;
    /* Looking for the nearest name is the only dear thing here, and nobody reads more messages than these. */
    const char *nearest = diags->errors < ERRORS_MAX ? suggest(text, names, n_names) : NULL;
    for (size_t i = 0; i < n_names && i < VALID_MAX && rc == 0; i++)
        rc = qn_buf_printf(&valid, "%s%s", i == 0 ? "" : ", ", names[i]);
    if (n_names > VALID_MAX && rc == 0) rc = qn_buf_printf(&valid, " and %zu more", n_names - VALID_MAX);
    if (rc < 0)
        diags->rc = rc;
    else if (nearest != NULL)
        diag_error(diags, at, "unknown %s %s%s: did you mean \"%s\"? valid: %.*s", what, quote(text).s, where, nearest,
                   (int)valid.len, (const char *)valid.data);
    else
        diag_error(diags, at, "unknown %s %s%s; valid: %.*s", what, quote(text).s, where,
                   valid.len == 0 ? 4 : (int)valid.len, valid.len == 0 ? "none" : (const char *)valid.data);
    qn_buf_release(&valid);
}

static int diag_compare(const void *left, const void *right) {
    const struct diag *a = left, *b = right;
    if (a->at.line != b->at.line) return a->at.line < b->at.line ? -1 : 1;
    if (a->at.column != b->at.column) return a->at.column < b->at.column ? -1 : 1;
    return a->order < b->order ? -1 : 1;
}

int diags_write(struct diags *diags, const char *file_name, struct qn_buf *out) {
    if (diags->rc < 0) return diags->rc;
    if (diags->len > 0) qsort(diags->items, diags->len, sizeof(*diags->items), diag_compare);
    int rc = 0;
    for (size_t i = 0; i < diags->len && rc == 0; i++) {
        const struct diag *diag = &diags->items[i];
        rc = qn_buf_printf(out, "%s:%u:%u: %s: %s\n", file_name, diag->at.line, diag->at.column,
                           diag->is_warning ? "warning" : "error", diag->text);
    }
    if (diags->errors > ERRORS_MAX && rc == 0)
        rc = qn_buf_printf(out, "%s: %zu more errors are not shown\n", file_name, diags->errors - ERRORS_MAX);
    if (diags->warnings > WARNINGS_MAX && rc == 0)
        rc = qn_buf_printf(out, "%s: %zu more warnings are not shown\n", file_name, diags->warnings - WARNINGS_MAX);
    return rc;
}

void diags_release(struct diags *diags) {
    for (size_t i = 0; i < diags->len; i++) free(diags->items[i].text);
    free(diags->items);
    *diags = (struct diags){0};
}

struct quoted quote(const char *text) {
    struct quoted quoted;
    const size_t max = QN_NAME_MAX + 1;
    size_t len = strlen(text), n = 0;
    bool is_cut = len > max;
    if (is_cut) {
        len = max;
        while (len > 0 && ((unsigned char)text[len] & 0xC0) == 0x80) len--; /* Not inside a UTF-8 character. */
    }
    quoted.s[n++] = '"';
    for (size_t i = 0; i < len; i++) quoted.s[n++] = (unsigned char)text[i] < 0x20 || text[i] == 0x7F ? '?' : text[i];
    snprintf(quoted.s + n, sizeof(quoted.s) - n, is_cut ? "...\"" : "\"");
    return quoted;
}
