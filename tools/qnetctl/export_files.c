/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: FOLDER/topology.yaml and the format's file are written anew; FOLDER/nodes/NAME/ holds what belongs to one
 * node: identity.key and initial/PEER, made once and kept when the folder is written again.
 *
 * Failure modes: a folder that cannot be written; an identity there that is not the one the topology names; an identity
 * the topology names but that is not there (a warning: it must be brought). */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "export.h"

#define PATH_BYTES 1024
#define KEY_TEXT sodium_base64_ENCODED_LEN(32, sodium_base64_VARIANT_ORIGINAL)

struct folder {
    const struct ctl *ctl;
    const char *path;
    unsigned user, group;
    json_t *files; /* What was written, for --json. */
};

static int fail(const struct folder *folder, const char *path) {
    return ctl_fail(folder->ctl, STATUS_RUNTIME, "system", QN_ESYSTEM, "%s: %s; give another folder with --output",
                    path, strerror(errno));
}

static void give(const struct folder *folder, const char *path) {
    if (geteuid() == 0 && chown(path, folder->user, folder->group) < 0)
        ctl_warn(folder->ctl, "%s cannot be given to user %u: %s", path, folder->user, strerror(errno));
}

static int join(const struct folder *folder, char ret_path[PATH_BYTES], const char *format, const char *a,
                const char *b) {
    char rest[PATH_BYTES];
    snprintf(rest, sizeof rest, format, a, b);
    if (snprintf(ret_path, PATH_BYTES, "%s/%s", folder->path, rest) < PATH_BYTES) return STATUS_OK;
    return ctl_usage(folder->ctl, "--output: the path is too long; choose a shorter one");
}

static int make_folder(const struct folder *folder, const char *path, mode_t mode, bool is_node) {
    if (mkdir(path, mode) < 0 && errno != EEXIST) return fail(folder, path);
    if (is_node) give(folder, path);
    return STATUS_OK;
}

static int write_file(struct folder *folder, const char *path, const void *data, size_t len, mode_t mode) {
    unlink(path); /* With the mode we mean, not that of an older file. */
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    size_t done = 0;
    while (fd >= 0 && done < len) {
        ssize_t n = write(fd, (const char *)data + done, len - done);
        if (n < 0 && errno != EINTR) break;
        if (n > 0) done += (size_t)n;
    }
    if (fd < 0 || close(fd) < 0 || done < len) return fail(folder, path);
    if (folder->files != NULL) json_array_append_new(folder->files, json_string(path + strlen(folder->path) + 1));
    return STATUS_OK;
}

static int read_key(const struct folder *folder, const char *path, uint8_t ret_key[32]) {
    char text[KEY_TEXT + 1];
    size_t n = 0;
    FILE *file = fopen(path, "re");
    if (file == NULL) return fail(folder, path);
    size_t len = fread(text, 1, sizeof text, file);
    fclose(file);
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\0')) len--;
    int rc = sodium_base642bin(ret_key, 32, text, len, NULL, &n, NULL, sodium_base64_VARIANT_ORIGINAL);
    sodium_memzero(text, sizeof text);
    if (rc == 0 && n == 32) return STATUS_OK;
    return ctl_usage(folder->ctl, "%s is not a private key; remove it, and a new one is made", path);
}

static int make_key(struct folder *folder, const char *path, uint8_t private_key[32]) {
    char text[KEY_TEXT];
    randombytes_buf(private_key, 32);
    private_key[0] &= 248; /* Clamped, as Curve25519 does itself. */
    private_key[31] = (uint8_t)((private_key[31] & 127) | 64);
    sodium_bin2base64(text, sizeof text, private_key, 32, sodium_base64_VARIANT_ORIGINAL);
    text[strlen(text)] = '\n'; /* The file needs no NUL. */
    int status = write_file(folder, path, text, sizeof text, 0600);
    sodium_memzero(text, sizeof text);
    if (status == STATUS_OK) give(folder, path);
    return status;
}

static int ensure_identity(struct folder *folder, struct qn_topo_node *node) {
    uint8_t private_key[32], public_key[32];
    char path[PATH_BYTES];
    int status = join(folder, path, "nodes/%s/identity.key%s", node->name, "");
    if (status != STATUS_OK) return status;
    bool exists = access(path, F_OK) == 0;
    if (!exists && node->has_key) {
        ctl_warn(folder->ctl, "the topology gives the key of %s: put its private key into %s", node->name, path);
        return STATUS_OK;
    }
    status = exists ? read_key(folder, path, private_key) : make_key(folder, path, private_key);
    if (status != STATUS_OK) return status;
    crypto_scalarmult_base(public_key, private_key);
    sodium_memzero(private_key, sizeof private_key);
    if (node->has_key && memcmp(node->public_key, public_key, 32) != 0)
        return ctl_usage(folder->ctl, "%s is not the key the topology gives for %s; remove one of the two", path,
                         node->name);
    memcpy(node->public_key, public_key, 32);
    node->has_key = true;
    return STATUS_OK;
}

/* Both ends need the same, so a pair of which one has lost it gets a new one. */
static int ensure_secret(struct folder *folder, const struct export_plan *plan, const struct secret_pair *pair) {
    uint8_t secret[SECRET_BYTES_MAX];
    char paths[2][PATH_BYTES];
    const char *names[2] = {export_name(plan, pair->a), export_name(plan, pair->b)};
    int status = join(folder, paths[0], "nodes/%s/initial/%s", names[0], names[1]);
    if (status == STATUS_OK) status = join(folder, paths[1], "nodes/%s/initial/%s", names[1], names[0]);
    if (status != STATUS_OK || (access(paths[0], F_OK) == 0 && access(paths[1], F_OK) == 0)) return status;
    randombytes_buf(secret, pair->len);
    for (int i = 0; i < 2 && status == STATUS_OK; i++) {
        status = write_file(folder, paths[i], secret, pair->len, 0600);
        if (status == STATUS_OK) give(folder, paths[i]);
    }
    sodium_memzero(secret, sizeof secret);
    return status;
}

static int make_folders(struct folder *folder, const struct qn_topology *topology) {
    char path[PATH_BYTES];
    int status = make_folder(folder, folder->path, 0755, false);
    if (status == STATUS_OK) status = join(folder, path, "nodes%s%s", "", "");
    if (status == STATUS_OK) status = make_folder(folder, path, 0755, false);
    for (size_t i = 0; i < topology->n_nodes && status == STATUS_OK; i++) {
        status = join(folder, path, "nodes/%s%s", topology->nodes[i].name, "");
        if (status == STATUS_OK) status = make_folder(folder, path, 0700, true);
        if (status == STATUS_OK) status = join(folder, path, "nodes/%s/initial%s", topology->nodes[i].name, "");
        if (status == STATUS_OK) status = make_folder(folder, path, 0700, true);
    }
    return status;
}

static int write_text(struct folder *folder, const char *name, const struct qn_buf *text, mode_t mode) {
    char path[PATH_BYTES];
    int status = join(folder, path, "%s%s", name, "");
    if (status == STATUS_OK) status = write_file(folder, path, text->data, text->len, mode);
    return status;
}

/* Text of another exporter, to a file of its own. */
static int write_more(struct folder *folder, struct export_plan *plan, const char *name,
                      void (*write)(struct export_plan *)) {
    struct qn_buf text = {0}, *before = plan->out;
    plan->out = &text;
    write(plan);
    plan->out = before;
    int status = plan->rc < 0 ? ctl_no_memory(folder->ctl) : write_text(folder, name, &text, 0644);
    qn_buf_release(&text);
    return status;
}

static int write_hosts(struct folder *folder, struct export_plan *plan, uint16_t node) {
    char name[QN_NAME_MAX + 32];
    struct qn_buf text = {0}, *before = plan->out;
    snprintf(name, sizeof name, "nodes/%s.hosts", export_name(plan, node)); /* Names have no dots. */
    plan->out = &text;
    export_hosts(plan, node);
    plan->out = before;
    int status = plan->rc < 0 ? ctl_no_memory(folder->ctl) : write_text(folder, name, &text, 0644);
    qn_buf_release(&text);
    return status;
}

static void emit_topology(struct export_plan *plan) {
    int rc = qn_topology_emit_yaml(plan->topology, plan->out);
    if (rc < 0) plan->rc = rc;
}

static int write_all(struct folder *folder, const struct export_format *format, struct export_plan *plan,
                     struct qn_topology *topology) {
    int status = make_folders(folder, topology);
    for (size_t i = 0; i < topology->n_nodes && status == STATUS_OK; i++)
        status = ensure_identity(folder, &topology->nodes[i]);
    for (size_t i = 0; i < plan->secrets.len && status == STATUS_OK; i++)
        status = ensure_secret(folder, plan, &plan->secrets.list[i]);
    if (status == STATUS_OK) status = write_more(folder, plan, "topology.yaml", emit_topology);
    if (status == STATUS_OK) status = write_text(folder, format->file, plan->out, format->is_script ? 0755 : 0644);
    if (status == STATUS_OK && format->write == export_kubernetes)
        status = write_more(folder, plan, "kustomization.yaml", export_kustomization);
    for (size_t i = 0; i < topology->n_nodes && status == STATUS_OK && format->has_hosts; i++)
        status = write_hosts(folder, plan, (uint16_t)i);
    return status;
}

int export_write_folder(const struct ctl *ctl, const char *path, const struct export_format *format,
                        struct export_plan *plan, struct qn_topology *topology) {
    struct folder folder = {
        .ctl = ctl, .path = path, .user = plan->user, .group = plan->group, .files = ctl->json ? json_array() : NULL};
    int status = write_all(&folder, format, plan, topology);
    if (status == STATUS_OK && ctl->json)
        status =
            ctl_json(ctl, json_pack("{s:s,s:s,s:O}", "format", format->name, "folder", path, "files", folder.files));
    if (status == STATUS_OK && !ctl->json) {
        printf("%s: %zu nodes, %zu networks, private keys in nodes/; now\n  ", path, topology->n_nodes, plan->n_wires);
        const char *gap = strstr(format->how, "%s");
        printf("%.*s%s%s\n", (int)(gap - format->how), format->how, path, gap + 2);
    }
    json_decref(folder.files);
    return status;
}
