/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "command.h"
#include "topology_file.h"

#define FILE_MAX (64u * 1024 * 1024)

static int slurp(const struct ctl *ctl, const char *path, struct qn_buf *text) {
    bool is_stdin = strcmp(path, "-") == 0;
    FILE *file = is_stdin ? stdin : fopen(path, "re");
    int rc = 0;
    size_t n = 1;
    text->limit = FILE_MAX;
    while (file != NULL && rc == 0 && n > 0) {
        rc = qn_buf_reserve(text, 65536);
        if (rc < 0) break;
        n = fread(text->data + text->len, 1, text->cap - text->len, file);
        text->len += n;
    }
    bool failed = file == NULL || ferror(file);
    int error = errno;
    if (file != NULL && !is_stdin) fclose(file);
    if (failed)
        return ctl_fail(ctl, STATUS_USAGE, "system", QN_ESYSTEM, "%s: %s; name a topology file that can be read", path,
                        strerror(error));
    if (rc < 0)
        return ctl_fail(ctl, STATUS_USAGE, qn_err_name(rc), (unsigned)-rc, "%s: %s; a topology has at most 64 MiB",
                        path, qn_err_what(rc));
    return STATUS_OK;
}

static json_t *lines_to_json(const struct qn_buf *text) {
    json_t *lines = json_array();
    for (size_t at = 0; at < text->len;) {
        const char *line = (const char *)text->data + at;
        const char *end = memchr(line, '\n', text->len - at);
        size_t len = end == NULL ? text->len - at : (size_t)(end - line);
        json_array_append_new(lines, json_stringn(line, len));
        at += len + 1;
    }
    return lines;
}

int topology_file_read(const struct ctl *ctl, const char *path, struct qn_topology *ret_topology,
                       json_t **ret_diagnostics) {
    struct qn_buf text = {0}, diagnostics = {0};
    int status = slurp(ctl, path, &text);
    if (status == STATUS_OK) {
        int rc = qn_topology_parse(strcmp(path, "-") == 0 ? "<stdin>" : path, (const char *)text.data, text.len,
                                   ret_topology, &diagnostics);
        if (diagnostics.len > 0) fwrite(diagnostics.data, 1, diagnostics.len, stderr);
        if (ret_diagnostics != NULL) *ret_diagnostics = lines_to_json(&diagnostics);
        if (rc == -QN_EPARSE && ret_diagnostics != NULL)
            status = STATUS_USAGE; /* The caller says so. */
        else if (rc == -QN_EPARSE)
            status = ctl_usage(ctl, "%s is not valid; correct the lines above", path);
        else if (rc < 0)
            status = ctl_fail(ctl, STATUS_RUNTIME, qn_err_name(rc), (unsigned)-rc, "%s: %s; %s", path, qn_err_what(rc),
                              qn_err_todo(rc));
    }
    qn_buf_release(&text);
    qn_buf_release(&diagnostics);
    return status;
}

int run_topology_check(struct ctl *ctl, const struct args *args) {
    struct qn_topology topology = {0};
    json_t *diagnostics = NULL;
    const char *path = args->operands[0];
    int status = topology_file_read(ctl, path, &topology, &diagnostics);
    if (diagnostics == NULL) return status; /* It could not even be read. */
    if (ctl->json) {
        json_t *object =
            json_pack("{s:s,s:b,s:o}", "file", path, "ok", status == STATUS_OK, "diagnostics", diagnostics);
        diagnostics = NULL;
        if (status == STATUS_OK) {
            json_object_set_new(object, "network", json_string(topology.name));
            json_object_set_new(object, "nodes", json_integer((json_int_t)topology.n_nodes));
            json_object_set_new(object, "links", json_integer((json_int_t)topology.n_links));
        }
        ctl_json(ctl, object);
    } else if (status == STATUS_OK) {
        printf("%s: ok: network %s, %zu nodes, %zu links\n", path, topology.name, topology.n_nodes, topology.n_links);
    } else {
        fprintf(stderr, "qnetctl: error: %s is not valid; correct the lines above\n", path);
    }
    json_decref(diagnostics);
    if (status == STATUS_OK) qn_topology_release(&topology);
    return status;
}
