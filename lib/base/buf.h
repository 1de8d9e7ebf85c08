/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_BASE_BUF_H
#define QN_BASE_BUF_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* Growing bytes with a limit. All-zero is valid and empty (limit 0 means none). */
struct qn_buf {
    uint8_t *data; /* Owned. */
    size_t len, cap;
    size_t limit;
};

int qn_buf_reserve(struct qn_buf *buf, size_t more); /* Room for `more` bytes; -QN_ENOMEM, -QN_ELIMIT. */
int qn_buf_append(struct qn_buf *buf, const void *data, size_t len);
int qn_buf_printf(struct qn_buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
int qn_buf_vprintf(struct qn_buf *buf, const char *format, va_list args) __attribute__((format(printf, 2, 0)));
static inline uint8_t *qn_buf_at(const struct qn_buf *buf, size_t at) { /* `at` <= len; NULL is an empty buffer's. */
    return at > 0 ? buf->data + at : buf->data;
}
void qn_buf_consume(struct qn_buf *buf, size_t len); /* Drops the first `len` bytes. */
void qn_buf_release(struct qn_buf *buf);             /* All-zero again (the limit stays). */

#endif
