/* SPDX-License-Identifier: Apache-2.0 */
#include "qkd/ldpc_code.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

/* Degrees by rate: found by tools/ldpc-design, but for the first two, where fewer edges leave fewer cycles of length 4
 * among so few rows. In thousandths: rows per column and columns of each degree, the first of
 * which is 2. */
enum { DEGREES = 5 };
static const struct design {
    uint16_t rows;
    uint8_t channel, slope; /* As in struct ldpc_code. */
    uint16_t first;         /* Thousandths of Shannon's limit to disclose at first: less, and too many frames need
                               another round; more, and all disclose more. */
    struct {
        uint8_t degree;
        uint16_t columns;
    } part[DEGREES];
} designs[] = {
    {40, 9, 24, 1380, {{2, 25}, {3, 600}, {6, 275}, {10, 100}, {0, 0}}},
    {55, 9, 24, 1255, {{2, 36}, {3, 589}, {6, 146}, {12, 162}, {16, 67}}},
    {90, 9, 28, 1185, {{2, 81}, {3, 567}, {6, 124}, {15, 228}, {0, 0}}},
    {120, 9, 26, 1170, {{2, 108}, {3, 545}, {7, 213}, {22, 134}, {0, 0}}},
    {160, 9, 26, 1165, {{2, 144}, {3, 568}, {8, 147}, {19, 104}, {18, 37}}},
    {220, 9, 24, 1145, {{2, 198}, {3, 524}, {7, 115}, {14, 101}, {24, 62}}},
    {300, 9, 22, 1135, {{2, 270}, {3, 470}, {7, 149}, {17, 111}, {0, 0}}},
    {500, 9, 21, 1115, {{2, 389}, {3, 364}, {5, 102}, {20, 88}, {9, 57}}},
    {600, 9, 18, 1105, {{2, 401}, {3, 373}, {4, 88}, {10, 99}, {23, 39}}},
};
enum { DESIGNS = sizeof designs / sizeof designs[0] };

static const struct design *nearest_design(uint32_t columns, uint32_t rows) {
    const struct design *best = &designs[0];
    uint64_t rate = 1000ull * rows / columns;
    for (size_t i = 1; i < DESIGNS; i++) /* Nearer than the one before: the geometric mean is between. */
        if (rate * rate > (uint64_t)designs[i].rows * designs[i - 1].rows) best = &designs[i];
    return best;
}

/* ---- Construction. */

struct builder {
    uint32_t columns, rows;
    uint64_t random;  /* SplitMix64 (Steele et al., OOPSLA 2014). */
    uint32_t *degree; /* Of rows. */
    struct {
        uint32_t row;
        uint8_t shift;
    } * edges; /* Column after column. */
    uint32_t *column_start, n_edges, cap;
    uint64_t *differences; /* For each pair of rows, which differences of shifts are taken: a bit each. */
    uint64_t *near;        /* The same for pairs of zones of the chain, for columns of low degree. */
    uint32_t zones;
};

static uint64_t next_random(struct builder *b) {
    uint64_t z = b->random += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static uint32_t random_below(struct builder *b, uint32_t limit) {
    return (uint32_t)((next_random(b) >> 32) * limit >> 32);
}

static uint64_t *pair_of(uint64_t *table, uint32_t side, uint32_t a, uint32_t b) {
    return &table[(size_t)(a < b ? a : b) * side + (a < b ? b : a)];
}

/* The columns of degree 2 are a chain from row to row, without rotation. So a column with the same shift in two rows
 * closes a cycle with the chain between, of which one check alone may tell; and two columns with the same difference of
 * shifts close one through rows that are the same, or near on the chain. */
enum { ZONE = 8, ZONED_DEGREE = 5 };

static bool closes_cycle(struct builder *b, uint32_t first, uint32_t row, unsigned shift, bool zoned) {
    for (uint32_t e = first; e < b->n_edges; e++) {
        uint32_t other = b->edges[e].row;
        unsigned difference = (row < other ? shift - b->edges[e].shift : b->edges[e].shift - shift) & 63;
        if (difference == 0) return true;
        if (*pair_of(b->differences, b->rows, row, other) >> difference & 1) return true;
        if (zoned && *pair_of(b->near, b->zones, row / ZONE, other / ZONE) >> difference & 1) return true;
    }
    return false;
}

static void add_edge(struct builder *b, uint32_t first, uint32_t row, unsigned shift, bool zoned) {
    for (uint32_t e = first; e < b->n_edges; e++) {
        uint32_t other = b->edges[e].row;
        unsigned difference = (row < other ? shift - b->edges[e].shift : b->edges[e].shift - shift) & 63;
        *pair_of(b->differences, b->rows, row, other) |= 1ull << difference;
        if (zoned) *pair_of(b->near, b->zones, row / ZONE, other / ZONE) |= 1ull << difference;
    }
    b->edges[b->n_edges].row = row;
    b->edges[b->n_edges].shift = (uint8_t)shift;
    b->n_edges++;
    b->degree[row]++;
}

static bool has_row(const struct builder *b, uint32_t first, uint32_t row) {
    for (uint32_t e = first; e < b->n_edges; e++)
        if (b->edges[e].row == row) return true;
    return false;
}

/* Of a few random rows the one with fewest edges; all are tried now and then when there are few. */
static uint32_t pick_row(struct builder *b, uint32_t first) {
    uint32_t best = b->rows;
    for (unsigned n = 0; n < 12 || best == b->rows; n++) {
        uint32_t row = random_below(b, b->rows);
        if (has_row(b, first, row)) continue;
        if (best == b->rows || b->degree[row] < b->degree[best]) best = row;
    }
    return best;
}

static void add_column(struct builder *b, uint32_t column, unsigned degree, bool chained) {
    uint32_t first = b->n_edges;
    for (unsigned i = 0; i < degree && i < b->rows; i++) {
        uint32_t row = column + i;
        unsigned shift = 0;
        bool zoned = !chained && degree <= ZONED_DEGREE;
        for (unsigned tries = 0; tries < 64 && !chained; tries++) { /* Rarely none is free; it does little harm then. */
            row = pick_row(b, first);
            shift = (unsigned)(next_random(b) >> 58);
            if (!closes_cycle(b, first, row, shift, zoned && tries < 32)) break;
        }
        add_edge(b, first, row, shift, zoned);
    }
    b->column_start[column + 1] = b->n_edges;
}

static void add_columns(struct builder *b, const struct design *design) {
    uint32_t column = 0, left = b->columns, thousandths = 1000;
    for (unsigned part = 0; part < DEGREES && thousandths > 0; part++) {
        uint32_t count = (left * design->part[part].columns + thousandths / 2) / thousandths;
        left -= count > left ? left : count;
        thousandths -= design->part[part].columns;
        uint32_t end = column + count;
        if (part == 0 && end > b->rows - 1) end = b->rows - 1; /* The rest have degree 3. */
        if (part == 0) left += column + count - end;
        for (; column < end && column < b->columns; column++)
            add_column(b, column, design->part[part].degree, part == 0);
    }
    for (; column < b->columns; column++) add_column(b, column, 3, false);
}

/* From columns to rows. */
static int finish(struct builder *b, struct ldpc_code *code) {
    code->row_start = calloc(b->rows + 1, sizeof *code->row_start);
    code->edges = malloc(b->n_edges * sizeof *code->edges);
    if (code->row_start == NULL || code->edges == NULL) return -QN_ENOMEM;
    code->n_edges = b->n_edges;
    uint32_t sum = 0;
    for (uint32_t r = 0; r < b->rows; r++) {
        code->row_start[r] = sum;
        sum += b->degree[r];
        b->degree[r] = code->row_start[r];
    }
    code->row_start[b->rows] = sum;
    for (uint32_t column = 0; column < b->columns; column++)
        for (uint32_t e = b->column_start[column]; e < b->column_start[column + 1]; e++)
            code->edges[b->degree[b->edges[e].row]++] =
                (struct ldpc_edge){.column = (uint16_t)column, .shift = b->edges[e].shift};
    return 0;
}

int ldpc_code_make(uint32_t columns, uint32_t rows, struct ldpc_code *ret_code) {
    assert(columns <= LDPC_MAX_COLUMNS && rows >= LDPC_MIN_ROWS && rows < columns);
    const struct design *design = nearest_design(columns, rows);
    struct ldpc_code code = {.columns = columns, .rows = rows, .channel = design->channel, .slope = design->slope};
    struct builder b = {.columns = columns, .rows = rows, .random = (uint64_t)columns << 32 | rows};
    b.cap = columns * 32;
    b.degree = calloc(rows, sizeof *b.degree);
    b.edges = malloc(b.cap * sizeof *b.edges);
    b.column_start = calloc(columns + 1, sizeof *b.column_start);
    b.differences = calloc((size_t)rows * rows, sizeof *b.differences);
    b.zones = rows / ZONE + 1;
    b.near = calloc((size_t)b.zones * b.zones, sizeof *b.near);
    int rc = -QN_ENOMEM;
    if (b.degree != NULL && b.edges != NULL && b.column_start != NULL && b.differences != NULL && b.near != NULL) {
        add_columns(&b, design);
        rc = finish(&b, &code);
    }
    free(b.degree);
    free(b.edges);
    free(b.column_start);
    free(b.differences);
    free(b.near);
    if (rc < 0)
        ldpc_code_release(&code);
    else
        *ret_code = code;
    return rc;
}

void ldpc_code_release(struct ldpc_code *code) {
    free(code->row_start);
    free(code->edges);
    *code = (struct ldpc_code){0};
}

void ldpc_syndrome(const struct ldpc_code *code, const uint64_t *words, uint64_t *ret_syndrome) {
    for (uint32_t row = 0; row < code->rows; row++) {
        uint64_t sum = 0;
        for (uint32_t e = code->row_start[row]; e < code->row_start[row + 1]; e++)
            sum ^= ldpc_rotate(words[code->edges[e].column], code->edges[e].shift);
        ret_syndrome[row] = sum;
    }
}

/* -x log2 x for 0 < x < 1, in units of 2^-24: by squaring, without libm and without sums that a compiler could fuse, so
 * that both ends get the same. */
static uint32_t entropy_part(double x) {
    double power = x;
    uint32_t whole = 0, fraction = 0;
    for (; power < 1; power *= 2) whole++;
    for (int bit = 0; bit < 24; bit++) {
        power *= power;
        fraction <<= 1;
        if (power < 2) continue;
        power /= 2;
        fraction |= 1;
    }
    return (uint32_t)(x * (double)((whole << 24) - fraction));
}

uint32_t ldpc_rows_for(uint32_t columns, double qber) {
    uint64_t limit = (uint64_t)(entropy_part(qber) + entropy_part(1 - qber)) * columns;
    const struct design *design = nearest_design(columns, (uint32_t)((limit + limit / 7) >> 24));
    /* Short codes are worse: by a hundredth with a fourth of the columns, and so on. */
    uint64_t thousandths = design->first;
    for (uint32_t full = columns; full < LDPC_MAX_COLUMNS; full *= 4) thousandths += 12;
    uint64_t wanted = (limit / 1000 * thousandths + (1 << 23)) >> 24, most = columns - columns / 16 - 1;
    if (wanted < LDPC_MIN_ROWS) return LDPC_MIN_ROWS;
    return (uint32_t)(wanted > most ? most : wanted);
}
