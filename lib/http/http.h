/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_HTTP_HTTP_H
#define QN_HTTP_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* The part of HTTP/1.1 (RFC 9112) that probes, scrapers and curl need of a server: requests without a body, persistent
 * connections, pipelining. Pure: bytes in, requests out; responses are written into a buffer. */

#define QN_HTTP_HEAD_MAX 8192 /* Request line and headers; more is 431. */
#define QN_HTTP_PATH_MAX 255

struct qn_http_request {
    bool is_head;                     /* HEAD, else GET. */
    bool keep_alive;                  /* What the client wants of the connection after the response. */
    char path[QN_HTTP_PATH_MAX + 1];  /* Without the query; starts with '/'. */
    char query[QN_HTTP_PATH_MAX + 1]; /* After the '?'; "" if there is none. Neither is percent-decoded. */
    int status;                       /* 0, or the 4xx or 5xx the request deserves: answer it and close. */
};

/* Looks for one request at the start of `bytes`. Returns how many bytes it takes; 0 if it is not complete yet. A bad
 * request has `status` set, takes everything, and ends the connection: what follows cannot be trusted. */
size_t qn_http_parse(const uint8_t *bytes, size_t len, struct qn_http_request *ret_request);

/* Appends a response with its body (left out for HEAD). -QN_ENOMEM, -QN_ELIMIT. */
int qn_http_respond(struct qn_buf *out, const struct qn_http_request *request, int status, const char *content_type,
                    const void *body, size_t len);

const char *qn_http_reason(int status); /* 404: "Not Found". */

#endif
