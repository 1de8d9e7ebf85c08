/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "ctl.h"

#define LONGEST 63

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* Letters to insert, delete or replace, or neighbours to swap, on the way from a to b. Both are at most LONGEST long.
 */
static size_t distance(const char *a, const char *b) {
    size_t rows[3][LONGEST + 1], n_b = strlen(b);
    size_t *before = rows[0], *above = rows[1], *row = rows[2];
    for (size_t j = 0; j <= n_b; j++) above[j] = j;
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        row[0] = i;
        for (size_t j = 1; j <= n_b; j++) {
            row[j] = least(least(above[j], row[j - 1]) + 1, above[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = least(row[j], before[j - 2] + 1);
        }
        size_t *oldest = before;
        before = above;
        above = row;
        row = oldest;
    }
    return above[n_b];
}

const char *suggest_word(const char *text, const char *const *names, size_t n_names) {
    size_t len = strlen(text);
    if (len == 0 || len > LONGEST) return NULL;
    const char *nearest = NULL;
    size_t best = len < 3 ? 2 : len / 3 + 2; /* About a third of the letters may be wrong. */
    for (size_t i = 0; i < n_names; i++) {
        size_t n = strlen(names[i]);
        if (n > LONGEST) continue;
        size_t steps = distance(text, names[i]);
        if (len >= 3 && n > len && strncmp(text, names[i], len) == 0) steps = 1; /* Not finished typing. */
        if (steps >= best) continue;
        best = steps;
        nearest = names[i];
    }
    return nearest;
}
