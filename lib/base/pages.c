/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pages.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { LINE = 64, PAGE = 1 << 21 };

void *qn_pages_new(size_t bytes) {
    size_t align = bytes < PAGE ? LINE : PAGE;
    if (bytes > SIZE_MAX - align) return NULL;
    bytes = (bytes + align - 1) / align * align;
    void *memory = aligned_alloc(align, bytes);
    if (memory != NULL && align == PAGE) (void)madvise(memory, bytes, MADV_HUGEPAGE); /* Without them it is slower. */
    return memory;
}
