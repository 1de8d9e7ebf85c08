/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QKD_LDPC_CODE_H
#define QN_QKD_LDPC_CODE_H

#include <stddef.h>
#include <stdint.h>

/* The low-density parity-check codes, private to lib/qkd: quasi-cyclic, of circulants of 64 x 64, so that a word of key
 * is a column and a rotation of it what a check adds. Codes are made at run time, from the number of columns and rows
 * alone, by integer arithmetic: every rate there can be, the same everywhere.
 *
 * Column degrees come from a table found by density evolution of the decoder in ldpc_decode.h (irregular codes for the
 * binary symmetric channel: Elkouss et al., ISIT 2009). Columns of degree 2 form a chain, which has no cycles; the
 * others go to the rows with fewest edges, with rotations that leave no cycle of length 4. */
enum { LDPC_LIFT = 64, LDPC_MAX_COLUMNS = 1024, LDPC_MIN_ROWS = 4 };

struct ldpc_edge {
    uint16_t column;
    uint8_t shift; /* Bit i of the check adds bit (i + shift) % 64 of the column. */
};

struct ldpc_code {
    uint32_t columns, rows, n_edges;
    uint32_t *row_start;     /* rows + 1 of them, into edges. */
    struct ldpc_edge *edges; /* By row. */
    uint8_t channel;         /* The decoder's unit: the worth of a bit at the error rate the code is for. */
    uint8_t slope;           /* And how much it trusts checks; see ldpc_decode.h. */
};

/* rows < columns <= LDPC_MAX_COLUMNS. -QN_ENOMEM. */
int ldpc_code_make(uint32_t columns, uint32_t rows, struct ldpc_code *ret_code);
void ldpc_code_release(struct ldpc_code *code);
/* How many rows of `columns` are right for an error rate: what is disclosed first, per 64 bits. */
uint32_t ldpc_rows_for(uint32_t columns, double qber);
/* Parities of all checks of `words`: rows words. */
void ldpc_syndrome(const struct ldpc_code *code, const uint64_t *words, uint64_t *ret_syndrome);

static inline uint64_t ldpc_rotate(uint64_t word, unsigned shift) {
    return word >> (shift & 63) | word << (-shift & 63); /* Bit i of the result is bit i + shift. */
}

#endif
