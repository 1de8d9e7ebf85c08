/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_BASE_PAGES_H
#define QN_BASE_PAGES_H

#include <stddef.h>

/* Memory for megabytes that are used once: in large pages where the system gives them on request (Linux: madvise), for
 * small new ones cost as much time as what is done with them. Aligned to 64 bytes at least, not set to anything; free()
 * it. NULL: no memory. */
void *qn_pages_new(size_t bytes);

#endif
