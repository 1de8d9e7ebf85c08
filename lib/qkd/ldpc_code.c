/* SPDX-License-Identifier: Apache-2.0 */
#include "qkd/ldpc_code.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

/* Degrees by rate: found by tools/ldpc-design, but for the first one, where fewer edges leave fewer cycles of length 4
 * among so few rows. In thousandths: rows per column and columns of each degree, the first of which is 2. */
enum { DEGREES = 5, MAX_DEGREE = 48, FAST_MORE = 70 };
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
    {30, 9, 24, 1300, {{2, 25}, {3, 600}, {6, 275}, {10, 100}, {0, 0}}},
    {50, 12, 29, 1150, {{2, 72}, {3, 486}, {7, 304}, {18, 88}, {37, 49}}},
    {90, 12, 26, 1112, {{2, 130}, {3, 479}, {7, 241}, {17, 101}, {30, 48}}},
    {155, 10, 25, 1092, {{2, 225}, {3, 405}, {7, 244}, {21, 95}, {39, 32}}},
    {215, 10, 25, 1094, {{2, 227}, {3, 428}, {6, 195}, {20, 131}, {39, 19}}},
    {320, 10, 22, 1099, {{2, 199}, {3, 506}, {6, 178}, {19, 85}, {31, 32}}},
    {500, 9, 18, 1079, {{2, 389}, {3, 364}, {5, 102}, {20, 88}, {9, 57}}},
    {600, 9, 15, 1098, {{2, 401}, {3, 373}, {4, 88}, {10, 99}, {23, 39}}},
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

enum { TAKEN_LOG2 = 21 };

struct chord {
    uint32_t other;
    uint8_t shift, plane; /* A check of the row at 0 meets one of the other row at minus these. */
    bool is_set;
};

struct builder {
    uint32_t columns, rows, planes;
    uint64_t random;  /* SplitMix64 (Steele et al., OOPSLA 2014). */
    uint32_t *degree; /* Of rows. */
    struct {
        uint32_t row;
        uint8_t shift, plane;
    } * edges; /* Column after column. */
    uint32_t *column_start, n_edges;
    /* Which differences of shifts are taken, of pairs of rows and, for columns of low degree, of zones of the chain: a
     * set of hashes, which says yes a few times too often. */
    uint64_t *taken;
    uint32_t *order, n_picked; /* Of rows. */
    struct chord *chords;      /* Of each row. */
    uint32_t *queue;           /* Of checks, for a search; which search has been at a check last. */
    uint16_t *seen, search;
};

static uint64_t mix(uint64_t z) {
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static uint64_t next_random(struct builder *b) { return mix(b->random += 0x9e3779b97f4a7c15ull); }

static uint32_t random_below(struct builder *b, uint32_t limit) {
    return (uint32_t)((next_random(b) >> 32) * limit >> 32);
}

/* The columns of degree 2 are a chain from row to row, without rotation. So a column with the same shift in two rows
 * closes a cycle with the chain between, of which one check alone may tell; and two columns with the same difference of
 * shifts close one through rows that are the same, or near on the chain. */
enum { ZONE = 8, ZONED_DEGREE = 5, KEPT_DEGREE = 12, ALL = 0, ZONES = 1, TRIES = 32 };

struct place {
    uint32_t row;
    unsigned shift, plane;
};

/* Difference of two places of a column, 0 if there is none; the same whichever comes first. */
static uint32_t difference(const struct builder *b, struct place from, struct place to) {
    if (from.row > to.row) {
        struct place swap = from;
        from = to;
        to = swap;
    }
    return (((from.plane - to.plane) & (b->planes - 1)) << 6) | ((from.shift - to.shift) & 63);
}

static uint32_t taken_at(const struct builder *b, unsigned kind, struct place from, struct place to) {
    uint64_t low = from.row < to.row ? from.row : to.row, high = from.row < to.row ? to.row : from.row;
    uint64_t zone = kind == ZONES ? ZONE : 1;
    uint64_t pair = (low / zone * LDPC_MAX_COLUMNS + high / zone) * 2 + kind;
    return (uint32_t)((pair << 8 | difference(b, from, to)) * 0x9e3779b97f4a7c15ull >> (64 - TAKEN_LOG2));
}

static bool is_taken(const struct builder *b, uint32_t at) { return b->taken[at / 64] >> (at % 64) & 1; }

static struct place edge_at(const struct builder *b, uint32_t e) {
    return (struct place){b->edges[e].row, b->edges[e].shift, b->edges[e].plane};
}

static bool closes_cycle(const struct builder *b, uint32_t first, struct place to, bool zoned) {
    for (uint32_t e = first; e < b->n_edges; e++) {
        struct place from = edge_at(b, e);
        if (difference(b, from, to) == 0 || is_taken(b, taken_at(b, ALL, from, to))) return true;
        if (zoned && is_taken(b, taken_at(b, ZONES, from, to))) return true;
    }
    return false;
}

static void take(struct builder *b, uint32_t at) { b->taken[at / 64] |= 1ull << (at % 64); }

/* What columns of high degree take is not kept: cycles among these do little harm, and are many. */
static void add_edge(struct builder *b, uint32_t first, struct place to, unsigned degree) {
    for (uint32_t e = first; e < b->n_edges && degree <= KEPT_DEGREE; e++) {
        take(b, taken_at(b, ALL, edge_at(b, e), to));
        if (degree > 2 && degree <= ZONED_DEGREE) take(b, taken_at(b, ZONES, edge_at(b, e), to));
    }
    b->edges[b->n_edges].row = to.row;
    b->edges[b->n_edges].shift = (uint8_t)to.shift;
    b->edges[b->n_edges].plane = (uint8_t)to.plane;
    b->n_edges++;
    b->degree[to.row]++;
}

static bool has_row(const struct builder *b, uint32_t first, uint32_t row) {
    for (uint32_t e = first; e < b->n_edges; e++)
        if (b->edges[e].row == row) return true;
    return false;
}

/* The next row in a random order, in which all come once and then again; not one that the column has. */
static uint32_t pick_row(struct builder *b, uint32_t first) {
    for (;;) {
        for (uint32_t at = b->n_picked; at < b->rows; at++) {
            uint32_t row = b->order[at];
            if (has_row(b, first, row)) continue;
            b->order[at] = b->order[b->n_picked];
            b->order[b->n_picked++] = row;
            return row;
        }
        for (uint32_t i = b->rows; i > 1; i--) {
            uint32_t at = random_below(b, i), swap = b->order[at];
            b->order[at] = b->order[i - 1];
            b->order[i - 1] = swap;
        }
        b->n_picked = 0;
    }
}

static void add_column(struct builder *b, uint32_t column, unsigned degree) {
    uint32_t first = b->n_edges;
    for (unsigned i = 0; i < degree && i < b->rows; i++) {
        struct place to = {.row = pick_row(b, first)};
        for (unsigned tries = 0; tries < TRIES; tries++) { /* Rarely none is free; it does little harm then. */
            uint64_t random = next_random(b);
            if (tries == TRIES / 2) to.row = pick_row(b, first);
            to.shift = (unsigned)(random >> 58);
            to.plane = (unsigned)random & (b->planes - 1);
            if (!closes_cycle(b, first, to, degree <= ZONED_DEGREE && tries < TRIES / 2)) break;
        }
        add_edge(b, first, to, degree);
    }
    b->column_start[column + 1] = b->n_edges;
}

/* ---- Columns of degree 2. Each joins checks two by two; a cycle of them is a word of the code, and a short one would
 * soon be mistaken for nothing. */

enum { REACH = 7, REACH_MOST = 2048, CHORD_TRIES = 12 };

static uint32_t check_at(const struct builder *b, struct place at) {
    return (at.row * b->planes + (at.plane & (b->planes - 1))) * LDPC_LIFT + (at.shift & 63);
}

/* Visits a check; true if the search before has been there. */
static bool visit(struct builder *b, struct place at, uint32_t *n_queue) {
    uint32_t check = check_at(b, at);
    bool met = b->seen[check] == b->search - 1;
    if (b->seen[check] == b->search || *n_queue >= REACH_MOST) return met;
    b->seen[check] = b->search;
    b->queue[(*n_queue)++] = check;
    return met;
}

/* Searches `reach` columns far, but not from check to check across one column, of which these are the ends; true if it
 * meets what the search before has seen. */
static bool search_from(struct builder *b, struct place start, struct place end_of, unsigned reach) {
    uint32_t n_queue = 0, at = 0;
    b->search++;
    bool met = visit(b, start, &n_queue);
    uint32_t begin = check_at(b, start), not_to = check_at(b, end_of);
    for (unsigned distance = 0; distance < reach && !met; distance++) {
        for (uint32_t end = n_queue; at < end && !met; at++) {
            uint32_t check = b->queue[at], row = check / LDPC_LIFT / b->planes;
            struct place from = {row, check & 63, check / LDPC_LIFT & (b->planes - 1)};
            if (row > 0) met |= visit(b, (struct place){row - 1, from.shift, from.plane}, &n_queue);
            if (row + 1 < b->rows) met |= visit(b, (struct place){row + 1, from.shift, from.plane}, &n_queue);
            const struct chord *chord = &b->chords[row];
            struct place across = {chord->other, from.shift - chord->shift, from.plane - chord->plane};
            if (chord->is_set && (check != begin || check_at(b, across) != not_to)) met |= visit(b, across, &n_queue);
        }
    }
    return met;
}

static uint32_t row_without_chord(struct builder *b, uint32_t but) {
    uint32_t row = random_below(b, b->rows);
    while (b->chords[row].is_set || row == but) row = row + 1 < b->rows ? row + 1 : 0;
    return row;
}

static void set_chord(struct builder *b, uint32_t row, uint32_t other, unsigned shift, unsigned plane) {
    b->chords[row] = (struct chord){other, (uint8_t)(shift & 63), (uint8_t)(plane & (b->planes - 1)), true};
    b->chords[other] = (struct chord){row, (uint8_t)(-shift & 63), (uint8_t)(-plane & (b->planes - 1)), true};
}

/* Whether the chord of a row closes no cycle of up to 2 `reach` + 1 columns: it is among those searched, as a cycle may
 * go through it more than once, in other rotations. */
static bool is_far(struct builder *b, uint32_t row, unsigned reach) {
    const struct chord *chord = &b->chords[row];
    struct place start = {.row = row}, end = {chord->other, 0u - chord->shift, 0u - chord->plane};
    if (b->search > UINT16_MAX - 4) {
        memset(b->seen, 0, (size_t)b->rows * b->planes * LDPC_LIFT * sizeof *b->seen);
        b->search = 1;
    }
    b->search++; /* What was seen before does not count. */
    search_from(b, start, end, reach);
    return !search_from(b, end, start, reach);
}

/* From a row to another one, with a rotation by which they are as far from each other as can easily be found. */
static void add_chord(struct builder *b, uint32_t column) {
    uint32_t first = b->n_edges, row = row_without_chord(b, b->rows), other;
    unsigned reach = b->planes < LDPC_MAX_PLANES ? REACH : REACH + 1, tries = 0;
    for (;;) {
        uint64_t random = next_random(b);
        other = row_without_chord(b, row);
        set_chord(b, row, other, (unsigned)(random >> 58), (unsigned)random & (b->planes - 1));
        if (reach == 0 || is_far(b, row, reach)) break;
        b->chords[row].is_set = b->chords[other].is_set = false;
        if (++tries % CHORD_TRIES == 0) reach--;
    }
    add_edge(b, first, (struct place){.row = row}, 2);
    add_edge(b, first, (struct place){other, b->chords[row].shift, b->chords[row].plane}, 2);
    b->column_start[column + 1] = b->n_edges;
}

static void add_link(struct builder *b, uint32_t column) {
    uint32_t first = b->n_edges;
    add_edge(b, first, (struct place){.row = column}, 2);
    add_edge(b, first, (struct place){.row = column + 1}, 2);
    b->column_start[column + 1] = b->n_edges;
}

static void add_columns(struct builder *b, const struct design *design) {
    uint32_t column = 0, left = b->columns, thousandths = 1000;
    for (unsigned part = 0; part < DEGREES && thousandths > 0; part++) {
        uint32_t count = (left * design->part[part].columns + thousandths / 2) / thousandths;
        left -= count > left ? left : count;
        thousandths -= design->part[part].columns;
        uint32_t end = column + count, links = b->rows - 1, most = links + (b->rows - 1) / 2;
        if (part == 0 && end > most) { /* The rest have degree 3. */
            left += end - most;
            end = most;
        }
        for (; column < end && column < b->columns; column++) {
            if (part > 0)
                add_column(b, column, design->part[part].degree);
            else if (column < links)
                add_link(b, column);
            else
                add_chord(b, column);
        }
    }
    for (; column < b->columns; column++) add_column(b, column, 3);
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
                (struct ldpc_edge){.column = (uint16_t)column, .shift = b->edges[e].shift, .plane = b->edges[e].plane};
    return 0;
}

static int allocate(struct builder *b) {
    size_t checks = (size_t)b->rows * b->planes * LDPC_LIFT;
    b->degree = calloc(b->rows, sizeof *b->degree);
    b->edges = malloc((size_t)b->columns * MAX_DEGREE * sizeof *b->edges);
    b->column_start = calloc(b->columns + 1, sizeof *b->column_start);
    b->taken = calloc((size_t)1 << (TAKEN_LOG2 - 6), sizeof *b->taken);
    b->chords = calloc(b->rows, sizeof *b->chords);
    b->queue = malloc(REACH_MOST * sizeof *b->queue);
    b->seen = calloc(checks, sizeof *b->seen);
    b->order = malloc(b->rows * sizeof *b->order);
    for (uint32_t row = 0; row < b->rows && b->order != NULL; row++) b->order[row] = row;
    b->n_picked = b->rows;
    b->search = 1;
    return b->order && b->degree && b->edges && b->column_start && b->taken && b->chords && b->queue && b->seen
               ? 0
               : -QN_ENOMEM;
}

int ldpc_code_make(uint32_t columns, uint32_t rows, uint32_t planes, struct ldpc_code *ret_code) {
    assert(columns <= LDPC_MAX_COLUMNS && rows >= LDPC_MIN_ROWS && rows < columns);
    assert(planes == 1 || planes == 2 || planes == 4);
    const struct design *design = nearest_design(columns, rows);
    struct ldpc_code code = {.columns = columns, .rows = rows, .planes = planes, .channel = design->channel};
    code.words = columns * planes;
    code.checks = rows * planes;
    code.slope = design->slope;
    struct builder b = {.columns = columns, .rows = rows, .planes = planes};
    b.random = (uint64_t)columns << 32 | rows << 3 | planes;
    int rc = allocate(&b);
    if (rc == 0) {
        add_columns(&b, design);
        rc = finish(&b, &code);
    }
    free(b.degree);
    free(b.edges);
    free(b.column_start);
    free(b.taken);
    free(b.chords);
    free(b.queue);
    free(b.order);
    free(b.seen);
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
    uint32_t planes = code->planes;
    for (uint32_t row = 0; row < code->rows; row++) {
        uint64_t sum[LDPC_MAX_PLANES] = {0};
        for (uint32_t e = code->row_start[row]; e < code->row_start[row + 1]; e++) {
            const struct ldpc_edge *edge = &code->edges[e];
            const uint64_t *column = words + (size_t)edge->column * planes;
            for (uint32_t p = 0; p < planes; p++)
                sum[p] ^= ldpc_rotate(column[(p + edge->plane) & (planes - 1)], edge->shift);
        }
        memcpy(ret_syndrome + (size_t)row * planes, sum, planes * sizeof *sum);
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

uint32_t ldpc_rows_for(uint32_t columns, uint32_t planes, double qber, bool fast) {
    uint64_t limit = (uint64_t)(entropy_part(qber) + entropy_part(1 - qber)) * columns;
    const struct design *design = nearest_design(columns, (uint32_t)((limit + limit / 10) >> 24));
    /* Short codes are worse: by a hundredth with a fourth of the columns, and so on. */
    uint64_t thousandths = design->first;
    if (fast) thousandths += FAST_MORE;
    for (uint32_t full = columns * planes; 2 * full <= LDPC_MAX_COLUMNS * LDPC_MAX_PLANES; full *= 4) thousandths += 15;
    uint64_t wanted = (limit / 1000 * thousandths + (1 << 23)) >> 24, most = columns - columns / 16 - 1;
    if (wanted < LDPC_MIN_ROWS) return LDPC_MIN_ROWS;
    return (uint32_t)(wanted > most ? most : wanted);
}
