/* SPDX-License-Identifier: Apache-2.0 */
#include "table.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void table_init(struct table *table, const char *const *titles) {
    *table = (struct table){.titles = titles};
    while (titles[table->n_columns] != NULL) table->n_columns++;
    assert(table->n_columns > 0 && table->n_columns <= TABLE_COLUMNS_MAX);
}

void table_add(struct table *table, const char *format, ...) {
    va_list args;
    if (table->n_cells == table->cap) {
        size_t cap = table->cap == 0 ? 64 : table->cap * 2;
        struct cell *cells = realloc(table->cells, cap * sizeof *cells);
        if (cells == NULL) {
            table->failed = true;
            return;
        }
        table->cells = cells;
        table->cap = cap;
    }
    struct cell *cell = &table->cells[table->n_cells];
    *cell = (struct cell){0};
    va_start(args, format);
    int len = vasprintf(&cell->text, format, args);
    va_end(args);
    if (len < 0) {
        table->failed = true;
        return;
    }
    text_clean(cell->text);
    table->n_cells++;
}

void table_paint(struct table *table, enum colour colour) {
    if (table->n_cells > 0) table->cells[table->n_cells - 1].colour = colour;
}

/* The last column is not filled up: no line ends in spaces. */
static void print_cell(const char *text, int width, bool right, bool last, bool coloured, enum colour colour) {
    int fill = width - (int)strlen(text);
    if (right) printf("%*s", fill, "");
    printf("%s%s%s", colour_start(coloured, colour), text, colour_end(coloured, colour));
    if (!last) printf("%*s", right ? 2 : fill + 2, "");
}

static void print_rows(const struct table *table, bool coloured) {
    size_t n = table->n_columns;
    int widths[TABLE_COLUMNS_MAX] = {0};
    for (size_t i = 0; i < n; i++) widths[i] = (int)strlen(table->titles[i] + (table->titles[i][0] == '>'));
    for (size_t i = 0; i < table->n_cells; i++) {
        int len = (int)strlen(table->cells[i].text);
        if (len > widths[i % n]) widths[i % n] = len;
    }
    for (size_t i = 0; i < n; i++) {
        bool right = table->titles[i][0] == '>';
        print_cell(table->titles[i] + right, widths[i], right, i + 1 == n, coloured, COLOUR_BOLD);
    }
    putchar('\n');
    for (size_t i = 0; i < table->n_cells; i++) {
        size_t column = i % n;
        print_cell(table->cells[i].text, widths[column], table->titles[column][0] == '>', column + 1 == n, coloured,
                   table->cells[i].colour);
        if (column + 1 == n) putchar('\n');
    }
}

int table_print(struct table *table, const struct ctl *ctl, const char *if_empty) {
    bool failed = table->failed;
    ctl_progress_end(ctl);
    if (!failed && table->n_cells == 0)
        puts(if_empty);
    else if (!failed)
        print_rows(table, ctl->out_colour);
    table_release(table);
    return failed ? ctl_no_memory(ctl) : STATUS_OK;
}

void table_release(struct table *table) {
    for (size_t i = 0; i < table->n_cells; i++) free(table->cells[i].text);
    free(table->cells);
    table->cells = NULL;
    table->n_cells = table->cap = 0;
}
