/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

int qn_buf_reserve(struct qn_buf *buf, size_t more) {
    if (more > SIZE_MAX / 2 - buf->len) return -QN_ELIMIT;
    size_t need = buf->len + more;
    if (buf->limit != 0 && need > buf->limit) return -QN_ELIMIT;
    if (need <= buf->cap) return 0;
    size_t cap = buf->cap == 0 ? 256 : buf->cap;
    while (cap < need) cap *= 2;
    uint8_t *data = realloc(buf->data, cap);
    if (data == NULL) return -QN_ENOMEM;
    buf->data = data;
    buf->cap = cap;
    return 0;
}

int qn_buf_append(struct qn_buf *buf, const void *data, size_t len) {
    if (len == 0) return 0;
    int rc = qn_buf_reserve(buf, len);
    if (rc < 0) return rc;
    memcpy(buf->data + buf->len, data, len);
    buf->len += len;
    return 0;
}

int qn_buf_vprintf(struct qn_buf *buf, const char *format, va_list args) {
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (len < 0) return -QN_EINVAL;
    int rc = qn_buf_reserve(buf, (size_t)len + 1); /* vsnprintf writes a NUL, which is not counted. */
    if (rc < 0) return rc;
    vsnprintf((char *)buf->data + buf->len, (size_t)len + 1, format, args);
    buf->len += (size_t)len;
    return 0;
}

int qn_buf_printf(struct qn_buf *buf, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int rc = qn_buf_vprintf(buf, format, args);
    va_end(args);
    return rc;
}

void qn_buf_consume(struct qn_buf *buf, size_t len) {
    if (len >= buf->len) {
        buf->len = 0;
        return;
    }
    memmove(buf->data, buf->data + len, buf->len - len);
    buf->len -= len;
}

void qn_buf_release(struct qn_buf *buf) {
    free(buf->data);
    buf->data = NULL;
    buf->len = buf->cap = 0;
}
