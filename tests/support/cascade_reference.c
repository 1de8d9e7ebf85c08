/* SPDX-License-Identifier: Apache-2.0 */
#include "cascade_reference.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NONE = 0, MAX_ITERATIONS = 1024, STREAK = 10 };

/* Blocks are numbered from 1; halves of a block are made when they are wanted. */
struct block {
    uint32_t iteration, start, len;
    uint32_t parent, left, right;
    bool known, pending; /* The correct parity; asked and not yet answered. */
};

struct iteration {
    uint64_t *errors;          /* In the order of the iteration. */
    uint32_t *from, *to;       /* Bit i of the iteration is bit from[i] of the key; to is the inverse. */
    uint32_t block_len, first; /* Number of the first block. */
};

struct item {
    uint32_t block;
    bool then_right; /* If it proves even, its right sibling is searched. */
};

struct queue {
    struct item *items;
    size_t at, len, cap;
};

struct state {
    uint32_t bits;
    uint64_t *errors;
    struct iteration iterations[MAX_ITERATIONS];
    uint32_t n_iterations;
    struct block *blocks;
    uint32_t n_blocks, cap;
    struct queue ask, try;
    uint32_t corrected;
    bool cascades;
    struct cascade_reference result;
};

/* Number of iterations that cut the key into blocks. */
static uint32_t iteration_count(enum qn_cascade_variant variant) {
    switch (variant) {
    case QN_CASCADE_ORIGINAL:
        return 4;
    case QN_CASCADE_BICONF:
        return 2;
    case QN_CASCADE_YANETAL:
        return 10;
    case QN_CASCADE_OPTION3:
        return 16;
    case QN_CASCADE_OPTION4:
        return 16;
    default:
        return 14;
    }
}

static double block_len(enum qn_cascade_variant variant, uint32_t n, double qber, uint32_t bits) {
    double alpha = log2(1 / qber) - 0.5, half = bits / 2;
    switch (variant) {
    case QN_CASCADE_ORIGINAL:
        return ceil(0.73 / qber) * pow(2, n);
    case QN_CASCADE_BICONF:
        return ceil(0.92 / qber) * pow(3, n);
    case QN_CASCADE_YANETAL:
        return n == 0 ? ceil(0.80 / qber) : n == 1 ? 5 * ceil(0.80 / qber) : half;
    case QN_CASCADE_OPTION7:
        return n == 0 ? pow(2, ceil(log2(1 / qber))) : n == 1 ? 4 * pow(2, ceil(log2(1 / qber))) : half;
    case QN_CASCADE_OPTION8:
        return n == 0 ? pow(2, ceil(alpha)) : n == 1 ? pow(2, ceil((alpha + 12) / 2)) : n == 2 ? 4096 : half;
    default:
        return n == 0 ? ceil(1 / qber) : n == 1 ? 2 * ceil(1 / qber) : half;
    }
}

static void push(struct queue *queue, struct item item) {
    if (queue->len == queue->cap) {
        queue->cap = queue->cap == 0 ? 1024 : 2 * queue->cap;
        queue->items = realloc(queue->items, queue->cap * sizeof *queue->items);
        assert(queue->items != NULL);
    }
    queue->items[queue->len++] = item;
}

static uint32_t new_block(struct state *s, uint32_t iteration, uint32_t start, uint32_t len, uint32_t parent) {
    if (s->n_blocks + 1 >= s->cap) {
        s->cap = s->cap == 0 ? 4096 : 2 * s->cap;
        s->blocks = realloc(s->blocks, s->cap * sizeof *s->blocks);
        assert(s->blocks != NULL);
    }
    s->blocks[++s->n_blocks] = (struct block){.iteration = iteration, .start = start, .len = len, .parent = parent};
    return s->n_blocks;
}

static bool is_odd(const struct state *s, const struct block *block) {
    const uint64_t *errors = s->iterations[block->iteration].errors;
    uint32_t i = block->start, end = block->start + block->len;
    uint64_t sum = 0;
    for (; i < end && i % 64 != 0; i++) sum ^= errors[i / 64] >> i % 64 & 1;
    for (; i + 64 <= end; i += 64) sum ^= errors[i / 64];
    for (; i < end; i++) sum ^= errors[i / 64] >> i % 64 & 1;
    return __builtin_parityll(sum);
}

/* Known, or follows from the parent and the other half. */
static bool is_known(struct state *s, uint32_t b) {
    struct block *block = &s->blocks[b];
    if (!block->known && block->parent != NONE) {
        const struct block *parent = &s->blocks[block->parent];
        uint32_t sibling = parent->left == b ? parent->right : parent->left;
        block->known = parent->known && sibling != NONE && s->blocks[sibling].known;
    }
    return block->known;
}

static void ask(struct state *s, uint32_t b, bool then_right) {
    s->result.asked++;
    s->result.again += s->blocks[b].pending;
    s->blocks[b].pending = true;
    push(&s->ask, (struct item){b, then_right});
}

static uint32_t half(struct state *s, uint32_t b, bool right) {
    struct block block = s->blocks[b];
    uint32_t cut = block.len / 2, found = right ? block.right : block.left;
    if (found != NONE) return found;
    found = new_block(s, block.iteration, block.start + (right ? cut : 0), right ? block.len - cut : cut, b);
    *(right ? &s->blocks[b].right : &s->blocks[b].left) = found;
    return found;
}

static void correct(struct state *s, const struct block *where) {
    uint32_t x = s->iterations[where->iteration].from[where->start];
    s->errors[x / 64] ^= 1ull << x % 64;
    s->corrected++;
    for (uint32_t n = 0; n < s->n_iterations; n++) {
        struct iteration *iteration = &s->iterations[n];
        uint32_t y = iteration->to[x];
        iteration->errors[y / 64] ^= 1ull << y % 64;
        if (s->cascades && n != where->iteration)
            push(&s->try, (struct item){iteration->first + y / iteration->block_len, false});
    }
}

static void try_correct(struct state *s, uint32_t b, bool then_right) {
    for (;;) {
        if (!is_known(s, b)) {
            ask(s, b, then_right);
            return;
        }
        struct block block = s->blocks[b];
        if (is_odd(s, &block)) {
            if (block.len == 1) {
                correct(s, &block);
                return;
            }
            b = half(s, b, false);
            then_right = true;
        } else {
            if (!then_right) return;
            b = half(s, block.parent, true);
            then_right = false;
        }
    }
}

static void serve(struct state *s) {
    for (;;) {
        while (s->try.at < s->try.len) {
            struct item item = s->try.items[s->try.at++];
            try_correct(s, item.block, item.then_right);
        }
        s->try.at = s->try.len = 0;
        if (s->ask.len == 0) return;
        s->result.messages++;
        for (size_t i = 0; i < s->ask.len; i++) {
            s->blocks[s->ask.items[i].block].known = true;
            s->blocks[s->ask.items[i].block].pending = false;
            push(&s->try, s->ask.items[i]);
        }
        s->ask.len = 0;
    }
}

static void begin(struct state *s, uint32_t len, const uint16_t *order, struct qn_rng *rng) {
    assert(s->n_iterations < MAX_ITERATIONS);
    uint32_t n = s->n_iterations++, count = (s->bits + len - 1) / len;
    struct iteration *iteration = &s->iterations[n];
    *iteration = (struct iteration){.block_len = len, .first = s->n_blocks + 1};
    iteration->errors = calloc(s->bits / 64 + 1, sizeof *iteration->errors);
    iteration->from = malloc(s->bits * sizeof *iteration->from);
    iteration->to = malloc(s->bits * sizeof *iteration->to);
    assert(iteration->errors != NULL && iteration->from != NULL && iteration->to != NULL);
    for (uint32_t i = 0; i < s->bits; i++) {
        uint32_t j = n == 0 || order != NULL ? i : (uint32_t)qn_rng_below(rng, i + 1);
        iteration->from[i] = iteration->from[j];
        iteration->from[j] = order != NULL ? order[i] : i;
    }
    for (uint32_t i = 0; i < s->bits; i++) {
        uint32_t x = iteration->from[i];
        iteration->to[x] = i;
        iteration->errors[i / 64] |= (s->errors[x / 64] >> x % 64 & 1) << i % 64;
    }
    for (uint32_t b = 0; b < count; b++) {
        uint32_t start = b * len;
        new_block(s, n, start, s->bits - start < len ? s->bits - start : len, NONE);
        ask(s, s->n_blocks, false);
    }
    s->result.iterations++;
}

void cascade_reference_run(enum qn_cascade_variant variant, uint32_t bits, const uint32_t *errors, uint32_t n_errors,
                           double qber, const uint16_t *const orders[16], struct qn_rng *rng,
                           struct cascade_reference *ret_result) {
    struct state *s = calloc(1, sizeof *s);
    assert(s != NULL && bits > 1);
    s->bits = bits;
    s->errors = calloc(bits / 64 + 1, sizeof *s->errors);
    assert(s->errors != NULL);
    for (uint32_t i = 0; i < n_errors; i++) s->errors[errors[i] / 64] |= 1ull << errors[i] % 64;

    s->cascades = true;
    for (uint32_t n = 0; n < iteration_count(variant); n++) {
        double wanted = block_len(variant, n, qber, bits);
        begin(s, wanted < bits ? (uint32_t)wanted : bits, orders[n], rng);
        serve(s);
    }
    s->cascades = false;
    for (unsigned streak = variant == QN_CASCADE_BICONF ? 0 : STREAK; streak < STREAK;) {
        uint32_t before = s->corrected;
        begin(s, (bits + 1) / 2, NULL, rng);
        serve(s);
        streak = s->corrected > before ? 0 : streak + 1;
    }

    for (uint32_t w = 0; w <= bits / 64; w++) s->result.left += (uint32_t)__builtin_popcountll(s->errors[w]);
    *ret_result = s->result;
    for (uint32_t n = 0; n < s->n_iterations; n++) {
        free(s->iterations[n].errors);
        free(s->iterations[n].from);
        free(s->iterations[n].to);
    }
    free(s->errors);
    free(s->blocks);
    free(s->ask.items);
    free(s->try.items);
    free(s);
}
