/* SPDX-License-Identifier: Apache-2.0 */
/* What the strips of a key take of memory: made, filled with the key in the order of every pass, read, wiped. */
#include <assert.h>
#include <sodium.h>
#include <stdlib.h>

#include "base/err.h"
#include "qkd/cascade_strip.h"

void strips_release(struct strips *strips) {
    const struct plan *plan = &strips->plan;
    for (uint32_t s = 0; strips->strip != NULL && s < plan->strips; s++) free(strips->strip[s].searches);
    if (strips->cells != NULL)
        sodium_memzero(strips->cells, plan->strips * plan->n_passes * strips->cells_per_pass * sizeof *strips->cells);
    free(strips->cells);
    free(strips->strip);
    free(strips->flipped);
    free(strips->touched);
    free(strips->choices);
    free(strips->opened);
    free(strips->flips);
    plan_release(&strips->plan);
    *strips = (struct strips){0};
}

/* Our key into the cells of every pass. */
static int fill_cells(struct strips *strips, const struct qn_bits *key) {
    const struct plan *plan = &strips->plan;
    size_t words = plan->words, total = plan->strips * words;
    uint64_t *ours = NULL, *shuffled = malloc((total + 1) * sizeof *shuffled);
    int rc = shuffled == NULL ? -QN_ENOMEM : plan_strips(plan, key, &ours);
    for (unsigned p = 0; rc == 0 && p < plan->n_passes; p++) {
        rc = plan_shuffle(plan, p, ours, shuffled);
        if (rc < 0) break;
        for (uint32_t s = 0; s < plan->strips; s++) {
            struct cell *cells = pass_cells(strips, &strips->strip[s], p);
            for (size_t w = 0; w < words; w++) cells[w].bits = shuffled[s * words + w];
        }
    }
    if (ours != NULL) sodium_memzero(ours, total * sizeof *ours);
    if (shuffled != NULL) sodium_memzero(shuffled, total * sizeof *shuffled);
    free(ours);
    free(shuffled);
    return rc;
}

static int allocate(struct strips *strips) {
    const struct plan *plan = &strips->plan;
    uint32_t most = plan_most_parts(plan), choice_words = most / 64 + 1;
    strips->cells_per_pass = plan->strip / 64 + 1;
    strips->touched_words = strips->cells_per_pass / 64 + 1;
    size_t per_strip = plan->n_passes * strips->cells_per_pass;
    strips->strip = calloc(plan->strips + 1, sizeof *strips->strip);
    strips->cells = calloc(plan->strips * per_strip + 1, sizeof *strips->cells);
    strips->flipped = calloc(plan->strips * plan->words + 1, sizeof *strips->flipped);
    strips->touched = calloc(plan->strips * plan->n_passes * strips->touched_words + 1, sizeof *strips->touched);
    strips->opened = malloc((most + 1) * sizeof *strips->opened);
    strips->choices = calloc((size_t)plan->strips * choice_words + 1, sizeof *strips->choices);
    if (!strips->strip || !strips->cells || !strips->flipped || !strips->touched || !strips->opened || !strips->choices)
        return -QN_ENOMEM;
    for (uint32_t s = 0; s < plan->strips; s++) {
        strips->strip[s].cells = strips->cells + s * per_strip;
        strips->strip[s].choices = strips->choices + (size_t)s * choice_words;
        strips->strip[s].flipped = strips->flipped + s * plan->words;
        strips->strip[s].touched = strips->touched + s * plan->n_passes * strips->touched_words;
    }
    return 0;
}

int strips_init(struct strips *strips, const struct qn_cascade_config *config, const struct qn_bits *key,
                bool portable) {
    *strips = (struct strips){.kernels = strip_best_kernels(portable)};
    int rc = plan_init(&strips->plan, config, key->len);
    strips->plan.sum = plan_best_sum(portable);
    if (rc == 0) rc = allocate(strips);
    if (rc == 0) rc = fill_cells(strips, key);
    if (rc < 0) {
        strips_release(strips);
        return rc;
    }
    for (uint32_t s = 0; s < strips->plan.strips; s++) {
        rc = strip_advance(strips, s); /* Opens pass 0, which always has a question. */
        assert(rc == 0 && strips->strip[s].opening);
    }
    return 0;
}

int strips_key(const struct strips *strips, struct qn_bits *ret_key) {
    const struct plan *plan = &strips->plan;
    struct qn_bits key = {0};
    int rc = qn_bits_reserve(&key, plan->len);
    for (uint32_t s = 0; rc == 0 && s < plan->strips; s++) {
        const struct cell *cells = pass_cells(strips, &strips->strip[s], 0);
        size_t left = plan->len - key.len, count = left < plan->strip ? left : plan->strip;
        for (size_t done = 0; rc == 0 && done < count; done += 64)
            rc = qn_bits_append_word(&key, cells[done / 64].bits, count - done < 64 ? (unsigned)(count - done) : 64);
    }
    if (rc < 0) {
        qn_bits_release(&key);
        return rc;
    }
    qn_bits_release(ret_key);
    *ret_key = key;
    return 0;
}
