/* SPDX-License-Identifier: Apache-2.0 */
/* After RFC 9110 and RFC 9112. The parser looks for the end of the head (an empty line) and then reads it line by line;
 * it keeps no state between calls, which costs reading an incomplete head again and saves a state machine: heads of the
 * clients we serve arrive in one piece, and QN_HTTP_HEAD_MAX bounds the others. */
#include "http/http.h"

#include <string.h>
#include <strings.h>

/* A piece of the input. */
struct text {
    const char *at;
    size_t len;
};

static bool is_equal(struct text text, const char *word) {
    return text.len == strlen(word) && strncasecmp(text.at, word, text.len) == 0;
}

/* Splits off what comes before `separator`; the whole if there is none. */
static struct text split(struct text *rest, char separator) {
    const char *found = rest->len > 0 ? memchr(rest->at, separator, rest->len) : NULL;
    struct text part = *rest;
    if (found == NULL) {
        *rest = (struct text){rest->at + rest->len, 0};
        return part;
    }
    part.len = (size_t)(found - rest->at);
    *rest = (struct text){found + 1, rest->len - part.len - 1};
    return part;
}

static struct text trim(struct text text) {
    while (text.len > 0 && (text.at[0] == ' ' || text.at[0] == '\t')) text.at++, text.len--;
    while (text.len > 0 && strchr(" \t\r", text.at[text.len - 1]) != NULL) text.len--;
    return text;
}

/* The head's length, its empty line included, or 0 if that has not come yet. A line may end in a bare line feed. */
static size_t find_head(const char *bytes, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != '\n') continue;
        if (i + 1 < len && bytes[i + 1] == '\n') return i + 2;
        if (i + 2 < len && bytes[i + 1] == '\r' && bytes[i + 2] == '\n') return i + 3;
    }
    return 0;
}

/* Visible ASCII only: nothing that a log or a terminal could take for something else. */
static bool copy_target(struct text from, char *to) {
    if (from.len > QN_HTTP_PATH_MAX) return false;
    for (size_t i = 0; i < from.len; i++) {
        if (from.at[i] < '!' || from.at[i] > '~') return false;
        to[i] = from.at[i];
    }
    to[from.len] = '\0';
    return true;
}

/* "GET /metrics?x HTTP/1.1"; 0 or a status. */
static int parse_request_line(struct text line, struct qn_http_request *request) {
    struct text method = split(&line, ' '), target = split(&line, ' '), version = trim(line);
    struct text path = split(&target, '?');
    if (version.len != 8 || strncmp(version.at, "HTTP/", 5) != 0) return 400;
    if (strncmp(version.at, "HTTP/1.", 7) != 0) return 505;
    request->keep_alive = version.at[7] != '0';
    if (is_equal(method, "HEAD"))
        request->is_head = true;
    else if (!is_equal(method, "GET"))
        return 405;
    if (path.len == 0 || path.at[0] != '/') return 400;
    return copy_target(path, request->path) && copy_target(target, request->query) ? 0 : 414;
}

static int parse_header(struct text line, struct qn_http_request *request) {
    if (line.len > 0 && (line.at[0] == ' ' || line.at[0] == '\t')) return 400; /* Folded lines are obsolete. */
    if (memchr(line.at, ':', line.len) == NULL) return 400;
    struct text name = split(&line, ':'), value = trim(line);
    if (name.len == 0 || name.at[name.len - 1] == ' ') return 400;
    if (is_equal(name, "Transfer-Encoding")) return 411;
    if (is_equal(name, "Content-Length")) return is_equal(value, "0") ? 0 : 413;
    if (!is_equal(name, "Connection")) return 0;
    while (value.len > 0) {
        struct text option = trim(split(&value, ','));
        if (is_equal(option, "close")) request->keep_alive = false;
        if (is_equal(option, "keep-alive")) request->keep_alive = true;
    }
    return 0;
}

size_t qn_http_parse(const uint8_t *bytes, size_t len, struct qn_http_request *ret_request) {
    struct qn_http_request request = {0};
    size_t head_len = find_head((const char *)bytes, len);
    if (head_len == 0 && len <= QN_HTTP_HEAD_MAX) return 0;
    if (head_len == 0 || head_len > QN_HTTP_HEAD_MAX) {
        *ret_request = (struct qn_http_request){.status = 431};
        return len;
    }
    struct text head = {(const char *)bytes, head_len};
    request.status = parse_request_line(trim(split(&head, '\n')), &request);
    while (request.status == 0 && head.len > 0) {
        struct text line = split(&head, '\n');
        while (line.len > 0 && line.at[line.len - 1] == '\r') line.len--;
        if (line.len > 0) request.status = parse_header(line, &request);
    }
    if (request.status != 0) request.keep_alive = false;
    *ret_request = request;
    return request.status != 0 ? len : head_len;
}

const char *qn_http_reason(int status) {
    switch (status) {
    case 200:
        return "OK";
    case 400:
        return "Bad Request";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 411:
        return "Length Required";
    case 413:
        return "Content Too Large";
    case 414:
        return "URI Too Long";
    case 431:
        return "Request Header Fields Too Large";
    case 500:
        return "Internal Server Error";
    case 503:
        return "Service Unavailable";
    case 505:
        return "HTTP Version Not Supported";
    default:
        return "Status";
    }
}

int qn_http_respond(struct qn_buf *out, const struct qn_http_request *request, int status, const char *content_type,
                    const void *body, size_t len) {
    size_t before = out->len;
    int rc = qn_buf_printf(out,
                           "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nCache-Control: no-store\r\n"
                           "X-Content-Type-Options: nosniff\r\nConnection: %s\r\n%s\r\n",
                           status, qn_http_reason(status), content_type, len,
                           request->keep_alive ? "keep-alive" : "close", status == 405 ? "Allow: GET, HEAD\r\n" : "");
    if (rc == 0 && !request->is_head) rc = qn_buf_append(out, body, len);
    if (rc < 0) out->len = before; /* No half responses. */
    return rc;
}
