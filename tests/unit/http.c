/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <string.h>

#include "base/buf.h"
#include "http/http.h"

static size_t parse(const char *text, struct qn_http_request *ret_request) {
    return qn_http_parse((const uint8_t *)text, strlen(text), ret_request);
}

static int status_of(const char *text) {
    struct qn_http_request request = {.status = -1};
    parse(text, &request);
    return request.status;
}

Test(http, takes_a_request_apart) {
    struct qn_http_request request;
    const char *text = "GET /readyz?verbose HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n";
    cr_assert_eq(parse(text, &request), strlen(text));
    cr_assert_eq(request.status, 0);
    cr_assert_str_eq(request.path, "/readyz");
    cr_assert_str_eq(request.query, "verbose");
    cr_assert(request.keep_alive);
    cr_assert(!request.is_head);
}

Test(http, waits_for_the_end_of_the_head) {
    const char *text = "HEAD /livez HTTP/1.0\r\nHost: x\r\n\r\n";
    struct qn_http_request request;
    for (size_t len = 0; len < strlen(text); len++)
        cr_assert_eq(qn_http_parse((const uint8_t *)text, len, &request), 0, "at %zu", len);
    cr_assert_eq(parse(text, &request), strlen(text));
    cr_assert(request.is_head);
    cr_assert(!request.keep_alive, "HTTP/1.0 closes unless asked not to");
}

Test(http, takes_pipelined_requests_one_by_one) {
    const char *text = "GET /a HTTP/1.1\n\nGET /b HTTP/1.1\r\nConnection: foo, Close\r\n\r\n";
    struct qn_http_request request;
    size_t first = parse(text, &request);
    cr_assert_eq(first, strlen("GET /a HTTP/1.1\n\n"));
    cr_assert_str_eq(request.path, "/a");
    cr_assert_eq(parse(text + first, &request), strlen(text) - first);
    cr_assert_str_eq(request.path, "/b");
    cr_assert(!request.keep_alive);
}

Test(http, refuses_what_it_does_not_serve) {
    cr_assert_eq(status_of("POST / HTTP/1.1\r\n\r\n"), 405);
    cr_assert_eq(status_of("GET / HTTP/2.0\r\n\r\n"), 505);
    cr_assert_eq(status_of("GET /\r\n\r\n"), 400);
    cr_assert_eq(status_of("GET http://x/ HTTP/1.1\r\n\r\n"), 400);
    cr_assert_eq(status_of("GET / HTTP/1.1\r\nno colon\r\n\r\n"), 400);
    cr_assert_eq(status_of("GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n"), 400);
    cr_assert_eq(status_of("GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"), 413);
    cr_assert_eq(status_of("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"), 411);
    cr_assert_eq(status_of("GET /\x01 HTTP/1.1\r\n\r\n"), 414);
    cr_assert_eq(status_of("\r\n\r\n"), 400);
    cr_assert_eq(status_of("GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"), 0);
}

Test(http, bounds_the_head_and_the_path) {
    static char text[QN_HTTP_HEAD_MAX + 64];
    struct qn_http_request request;
    memset(text, 'a', sizeof text - 1);
    cr_assert_eq(qn_http_parse((uint8_t *)text, QN_HTTP_HEAD_MAX, &request), 0, "it may still end");
    cr_assert_eq(qn_http_parse((uint8_t *)text, QN_HTTP_HEAD_MAX + 1, &request), QN_HTTP_HEAD_MAX + 1);
    cr_assert_eq(request.status, 431);
    memcpy(text, "GET /", 5);
    memcpy(text + 5 + QN_HTTP_PATH_MAX, " HTTP/1.1\r\n\r\n", 14);
    cr_assert_eq(status_of(text), 414);
    memcpy(text + 4 + QN_HTTP_PATH_MAX, " HTTP/1.1\r\n\r\n", 14);
    cr_assert_eq(status_of(text), 0);
}

Test(http, writes_responses) {
    struct qn_buf out = {0};
    struct qn_http_request request = {.keep_alive = true};
    cr_assert_eq(qn_http_respond(&out, &request, 200, "text/plain", "ok\n", 3), 0);
    cr_assert_eq(qn_buf_append(&out, "", 1), 0);
    const char *text = (const char *)out.data;
    cr_assert_eq(strncmp(text, "HTTP/1.1 200 OK\r\n", 17), 0);
    cr_assert(strstr(text, "\r\nContent-Length: 3\r\n") != NULL);
    cr_assert_str_eq(strstr(text, "\r\n\r\n"), "\r\n\r\nok\n");
    out.len = 0;
    request.is_head = true;
    cr_assert_eq(qn_http_respond(&out, &request, 404, "text/plain", "no\n", 3), 0);
    cr_assert_eq(qn_buf_append(&out, "", 1), 0);
    cr_assert_str_eq(strstr((const char *)out.data, "\r\n\r\n"), "\r\n\r\n", "no body for HEAD");
    qn_buf_release(&out);
}
