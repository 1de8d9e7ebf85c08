/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to the operations port: whatever comes, parsing takes part of it or says what is wrong; a request is the
 * same however its bytes are split, and a response has the length it says. */
#include "http/http.h"

#include "fuzz.h"

static void check(const struct qn_http_request *request, size_t took, size_t len) {
    FUZZ_CHECK(took <= len);
    if (took == 0) return;
    FUZZ_CHECK(request->status == 0 || (request->status >= 400 && request->status < 600));
    FUZZ_CHECK(strnlen(request->path, sizeof request->path) < sizeof request->path);
    FUZZ_CHECK(strnlen(request->query, sizeof request->query) < sizeof request->query);
    FUZZ_CHECK(request->status != 0 || request->path[0] == '/');
    struct qn_buf out = {0};
    int status = request->status != 0 ? request->status : 200;
    FUZZ_CHECK(qn_http_respond(&out, request, status, "text/plain", "body\n", 5) == 0);
    FUZZ_CHECK(out.len > 12 && memcmp(out.data, "HTTP/1.1 ", 9) == 0 && qn_http_reason(status) != NULL);
    qn_buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    for (size_t at = 0; at < size;) {
        uint8_t *exact = malloc(size - at); /* So that reading beyond shows. */
        FUZZ_CHECK(exact != NULL);
        memcpy(exact, data + at, size - at);
        struct qn_http_request request = {0}, again = {0};
        size_t took = qn_http_parse(exact, size - at, &request);
        check(&request, took, size - at);
        if (took > 0 && request.status == 0) { /* Only all of it is enough. */
            FUZZ_CHECK(qn_http_parse(exact, took, &again) == took && again.status == 0);
            FUZZ_CHECK(strcmp(again.path, request.path) == 0 && again.keep_alive == request.keep_alive);
            size_t less = qn_http_parse(exact, took - 1, &again);
            FUZZ_CHECK(less == 0 || again.status != 0 || less < took);
        }
        free(exact);
        if (took == 0 || request.status != 0) break;
        at += took;
    }
    return 0;
}
