/* SPDX-License-Identifier: Apache-2.0 */
#include "failing_heap.h"

#include <errno.h>
#include <stdint.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void __real_free(void *memory);
void *__wrap_reallocarray(void *old, size_t n, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void __wrap_free(void *memory);

static unsigned long fail_at, count;
static bool fired;
static long live;

void failing_heap_arm(unsigned long n) {
    fail_at = n != 0 ? count + n : 0;
    if (n != 0) fired = false;
}

bool failing_heap_disarm(void) {
    fail_at = 0;
    return fired;
}

long failing_heap_live(void) { return live; }
unsigned long failing_heap_count(void) { return count; }

static bool fails(void) {
    if (++count != fail_at) return false;
    fired = true;
    errno = ENOMEM;
    return true;
}

static void *counted(void *memory) {
    if (memory != NULL) live++;
    return memory;
}

void *__wrap_malloc(size_t size) { return fails() ? NULL : counted(__real_malloc(size)); }
void *__wrap_calloc(size_t n, size_t size) { return fails() ? NULL : counted(__real_calloc(n, size)); }
void *__wrap_aligned_alloc(size_t alignment, size_t size) {
    return fails() ? NULL : counted(__real_aligned_alloc(alignment, size));
}

void *__wrap_realloc(void *old, size_t size) {
    if (fails()) return NULL;
    void *memory = __real_realloc(old, size);
    if (old == NULL && memory != NULL) live++;
    return memory;
}

void *__wrap_reallocarray(void *old, size_t n, size_t size) {
    return size != 0 && n > SIZE_MAX / size ? NULL : __wrap_realloc(old, n * size);
}

void __wrap_free(void *memory) {
    if (memory != NULL) live--;
    __real_free(memory);
}
