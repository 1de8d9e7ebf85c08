/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_QKD_FFT_H
#define QN_QKD_FFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Multiplication of long polynomials over GF(2) by an additive fast Fourier transform; private to lib/qkd.
 *
 * A polynomial is cut into 32-bit pieces, the coefficients of a polynomial over GF(2^64), which holds products of two
 * pieces without reduction. That is evaluated at the 2^k points of the span of the first k elements of a Cantor basis
 * (D. Cantor, J. Comb. Theory A 50, 285, 1989) in the basis of Lin, Chung and Han (FOCS 2014), as by Chen et al.
 * (arXiv 1708.09746), multiplied point by point and interpolated: k 2^k / 2 multiplications by constants each way, and
 * as many additions to change the basis (S. Gao and T. Mateer, IEEE Trans. Inf. Theory 56, 6265, 2010).
 *
 * GF(2^64) is a tower of quadratic extensions over GF(2^8), in which all constants of the first layers lie in GF(2^8),
 * of the next ones in GF(2^16), and of very long transforms in GF(2^32). 64 elements lie side by side, byte by byte, so
 * that GFNI multiplies 64 bytes an instruction. Nothing branches on, or looks up, the data. */
enum { FFT_MIN_LOG2 = 7, FFT_MAX_LOG2 = 24, FFT_LANES = 64 };

/* Tables of constants, the same for all lengths; about 20 kB, made in some microseconds. */
struct fft_plan {
    uint8_t twiddle[3][256][16];        /* Of a byte of a block's number; they add up. */
    uint8_t embed[8][4][8];             /* Byte of a piece to byte of an element: image of each bit. */
    uint8_t extract[8][8][8];           /* And back, of products. */
    uint64_t embed_rows[8][4];          /* The same in the order of GF2P8AFFINEQB. */
    uint64_t extract_rows[8][8];        /* */
    uint8_t step_from[8][FFT_LANES];    /* Change of basis among 16 neighbours: lane i takes up lane from[i] ... */
    uint64_t step_mask[8];              /* ... where the mask has i. */
    uint8_t upper[6][FFT_LANES];        /* The butterfly's other lane, with distance 2^i. */
    uint8_t lower[6][FFT_LANES];        /* */
    uint64_t upper_mask[6];             /* Lanes that are the upper one of a butterfly. */
    uint8_t lane_twiddle[6][FFT_LANES]; /* What the lane adds to the block's twiddle; in GF(2^8). */
};
void fft_plan_init(struct fft_plan *plan);

/* Row `to` += times row `from`, times in GF(2^8). */
struct fft_step {
    uint8_t to, from, times;
};
/* A product of polynomials whose coefficients are spectra ("rows" here) is made the same way, with 2^log2 points of
 * GF(2^8): these steps, in their order, turn coefficients into values. Every linear map made of such steps is
 * transposed by swapping `to` and `from` and turning the order round, and inverted by turning the order round.
 * ret_steps has room for FFT_STEPS_MAX; returns how many there are. log2 <= FFT_STEPS_MAX_LOG2. */
enum { FFT_STEPS_MAX_LOG2 = 8, FFT_STEPS_MAX = 4096 };
size_t fft_steps(unsigned log2, struct fft_step *ret_steps);

/* The inner loops. A spectrum is FFT_LANES * 8 bytes a block of FFT_LANES elements. */
struct fft_kernels {
    const char *name;
    /* 2^log2 pieces (which are destroyed) to their spectrum; or 2^(log2 - 1) pieces, with zeros for the others. */
    void (*forward)(const struct fft_plan *plan, uint32_t *pieces, unsigned log2, bool half, uint8_t *ret_spectrum);
    /* to = to + a b; or a b if `first`. `to` may be `a` or `b`. */
    void (*multiply)(uint8_t *to, const uint8_t *a, const uint8_t *b, unsigned log2, bool first);
    /* Takes the steps with rows of FFT_LANES elements (512 bytes), one after the other. */
    void (*take)(const struct fft_step *steps, size_t count, uint8_t *rows);
    /* to = to + from, FFT_LANES elements; or from if `first`. */
    void (*add)(uint8_t *to, const uint8_t *from, bool first);
    /* The spectrum (destroyed) to 2^log2 coefficients of 64 bits. */
    void (*inverse)(const struct fft_plan *plan, uint8_t *spectrum, unsigned log2, uint64_t *ret_coefficients);
};

const struct fft_kernels *fft_best(void);
/* All this machine can run, the portable one first. NULL past the end. */
const struct fft_kernels *fft_at(size_t index);

/* GF(2^64) element by element, for tables and tests. */
uint64_t fft_field_multiply(uint64_t a, uint64_t b);
uint32_t fft_cantor(unsigned i); /* i < 32; element i squared, plus itself, is element i - 1. */

#endif
