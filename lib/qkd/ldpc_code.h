/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QKD_LDPC_CODE_H
#define QN_QKD_LDPC_CODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The low-density parity-check codes, private to lib/qkd: quasi-cyclic, of circulants of 64 x 64, so that a word of key
 * is a column and a rotation of it what a check adds. Longer codes have up to four planes of the same, which rotate,
 * too. Codes are made at run time, from the number of columns, rows and planes alone, by integer arithmetic: every rate
 * there can be, the same everywhere.
 *
 * Column degrees come from a table found by density evolution of the decoder in ldpc_decode.h (irregular codes for the
 * binary symmetric channel: Elkouss et al., ISIT 2009). Columns of degree 2 make a chain of all rows and, as thresholds
 * are much better with more of them than there are rows, chords of it; these are set so that cycles are long, by
 * progressive edge growth (Hu, Eleftheriou and Arnold, IEEE Trans. Inf. Theory 51, 386, 2005). The others go to the
 * rows with fewest edges, with rotations that leave no cycle of length 4. */
enum { LDPC_LIFT = 64, LDPC_MAX_PLANES = 4, LDPC_MAX_COLUMNS = 1024, LDPC_MIN_ROWS = 4 };

struct ldpc_edge {
    uint16_t column;
    uint8_t shift, plane; /* Bit i of plane p of the check adds bit (i + shift) % 64 of plane (p + plane) % planes. */
};

struct ldpc_code {
    uint32_t columns, rows, planes, n_edges;
    uint32_t words, checks;  /* columns and rows, times planes. Plane p of column c is word c planes + p. */
    uint32_t *row_start;     /* rows + 1 of them, into edges. */
    struct ldpc_edge *edges; /* By row. */
    uint8_t channel;         /* The decoder's unit: the worth of a bit at the error rate the code is for. */
    uint8_t slope;           /* And how much it trusts checks; see ldpc_decode.h. */
};

/* rows < columns <= LDPC_MAX_COLUMNS; planes 1, 2 or 4. -QN_ENOMEM. */
int ldpc_code_make(uint32_t columns, uint32_t rows, uint32_t planes, struct ldpc_code *ret_code);
void ldpc_code_release(struct ldpc_code *code);
/* How many rows of `columns` are right for an error rate, or are decoded fast: what is disclosed first. */
uint32_t ldpc_rows_for(uint32_t columns, uint32_t planes, double qber, bool fast);
/* Parities of all checks of `words`: `checks` words. */
void ldpc_syndrome(const struct ldpc_code *code, const uint64_t *words, uint64_t *ret_syndrome);

static inline uint64_t ldpc_rotate(uint64_t word, unsigned shift) {
    return word >> (shift & 63) | word << (-shift & 63); /* Bit i of the result is bit i + shift. */
}

#endif
