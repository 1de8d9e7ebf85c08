/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QNETCTL_TABLE_H
#define QNETCTL_TABLE_H

#include "ctl.h"

/* A table for people: columns as wide as their widest cell. All-zero is empty. */

#define TABLE_COLUMNS_MAX 16

struct cell {
    char *text;
    enum colour colour;
};

struct table {
    const char *const *titles; /* Borrowed; NULL-terminated. A title that starts with '>' is set to the right. */
    size_t n_columns;
    struct cell *cells; /* Row by row. */
    size_t n_cells, cap;
    bool failed; /* Out of memory. */
};

void table_init(struct table *table, const char *const *titles);
void table_add(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3))); /* The next cell. */
void table_paint(struct table *table, enum colour colour); /* The cell just added. */
/* Prints the rows, or `if_empty` when there are none. Releases the table. Returns an exit status. */
int table_print(struct table *table, const struct ctl *ctl, const char *if_empty);
void table_release(struct table *table);

#endif
