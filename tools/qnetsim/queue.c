/* SPDX-License-Identifier: Apache-2.0 */
#include "queue.h"

#include <stdlib.h>

void item_free(struct item *item) {
    if (item->job != NULL) item->job->free(item->job);
    free(item->bytes);
}

static bool before(const struct item *a, const struct item *b) {
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->order < b->order;
}

void queue_push(struct queue *queue, struct item item) {
    if (queue->len == queue->cap) {
        queue->cap = queue->cap == 0 ? 1024 : queue->cap * 2;
        queue->heap = realloc(queue->heap, queue->cap * sizeof *queue->heap);
        if (queue->heap == NULL) abort(); /* A simulator without memory cannot go on. */
    }
    item.order = queue->next_order++;
    size_t i = queue->len++;
    while (i > 0 && before(&item, &queue->heap[(i - 1) / 2])) {
        queue->heap[i] = queue->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    queue->heap[i] = item;
}

struct item queue_pop(struct queue *queue) {
    struct item top = queue->heap[0], last = queue->heap[--queue->len];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= queue->len) break;
        if (child + 1 < queue->len && before(&queue->heap[child + 1], &queue->heap[child])) child++;
        if (!before(&queue->heap[child], &last)) break;
        queue->heap[i] = queue->heap[child];
        i = child;
    }
    queue->heap[i] = last;
    return top;
}

void queue_release(struct queue *queue) {
    for (size_t i = 0; i < queue->len; i++) item_free(&queue->heap[i]);
    free(queue->heap);
    *queue = (struct queue){0};
}
