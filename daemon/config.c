/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: the topology file is read and parsed, this node and its neighbours are found in it, the identity file
 * gives the private key that belongs to the public key the topology pins for this node.
 *
 * Failure modes, each named with what to do: unreadable or wrong file (every error with line and column), unknown node
 * (the nearest name is suggested), a neighbour or this node without addresses or key, an identity that is missing, that
 * others could read, or that is another node's. All end in exit status 2 before a socket is opened. */
#include "config.h"
#include "secrets.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

#define IDENTITY_FILE_MAX 256

/* Reads a whole open file. Closes it. */
static int slurp(int fd, size_t limit, struct qn_buf *out) {
    int rc = 0;
    for (;;) {
        rc = qn_buf_reserve(out, 16384);
        if (rc < 0) break;
        ssize_t n = read(fd, out->data + out->len, out->cap - out->len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) rc = -QN_ESYSTEM;
        if (n <= 0) break;
        out->len += (size_t)n;
        if (out->len > limit) {
            errno = EFBIG;
            rc = -QN_ESYSTEM;
            break;
        }
    }
    close(fd);
    return rc;
}

int config_read_topology(const char *path, struct qn_topology *ret_topology, uint8_t *ret_digest) {
    struct qn_buf text = {0}, diagnostics = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int rc = fd < 0 ? -QN_ESYSTEM : slurp(fd, QN_TOPOLOGY_BYTES_MAX, &text);
    if (rc < 0) {
        fprintf(stderr, "qnetd: %s: %s\n", path, rc == -QN_ESYSTEM ? strerror(errno) : qn_err_what(rc));
        goto out;
    }
    rc = qn_topology_parse(path, (const char *)text.data, text.len, ret_topology, &diagnostics);
    if (diagnostics.len > 0) fwrite(diagnostics.data, 1, diagnostics.len, stderr);
    if (rc < 0 && diagnostics.len == 0) fprintf(stderr, "qnetd: %s: %s\n", path, qn_err_what(rc));
    if (rc == 0 && ret_digest != NULL) crypto_generichash(ret_digest, 32, text.data, text.len, NULL, 0);
out:
    qn_buf_release(&text);
    qn_buf_release(&diagnostics);
    return rc;
}

int config_parse_key(const char *text, size_t len, uint8_t ret_key[32]) {
    static const char space[] = " \t\r\n";
    uint8_t key[32];
    size_t n = 0;
    while (len > 0 && strchr(space, text[0]) != NULL) text++, len--;
    while (len > 0 && strchr(space, text[len - 1]) != NULL) len--;
    int rc = -1;
    if (len == 64) rc = sodium_hex2bin(key, sizeof key, text, len, NULL, &n, NULL);
    if (len == 44) rc = sodium_base642bin(key, sizeof key, text, len, NULL, &n, NULL, sodium_base64_VARIANT_ORIGINAL);
    if (rc == 0 && n == sizeof key) memcpy(ret_key, key, sizeof key);
    sodium_memzero(key, sizeof key);
    return rc == 0 && n == sizeof key ? 0 : -QN_EPARSE;
}

/* systemd hands credentials over in a directory only the service can enter, with modes widened by an access list. */
static bool is_credential(const char *path) {
    const char *directory = getenv("CREDENTIALS_DIRECTORY");
    size_t len = directory != NULL ? strlen(directory) : 0;
    return len > 0 && strncmp(path, directory, len) == 0 && (path[len] == '/' || directory[len - 1] == '/');
}

bool config_is_private(const struct stat *file) {
    return (file->st_mode & (file->st_uid == 0 && geteuid() != 0 ? 037 : 077)) == 0;
}

/* The folder must be nobody else's to change, or the file could be exchanged for another. */
static int check_private(const char *path, const struct stat *file) {
    char folder[4096];
    struct stat info;
    const char *slash = strrchr(path, '/');
    if (!config_is_private(file)) {
        fprintf(stderr, "qnetd: identity %s: others may use it (mode %03o)\n  chmod 600 %s\n", path,
                (unsigned)file->st_mode & 0777u, path);
        return -QN_EAUTH;
    }
    snprintf(folder, sizeof folder, "%.*s", slash == NULL ? 1 : (int)(slash - path) + 1, slash == NULL ? "." : path);
    if (stat(folder, &info) < 0 || (info.st_mode & 022) == 0 || (info.st_mode & S_ISVTX) != 0) return 0;
    fprintf(stderr, "qnetd: identity %s: others may exchange it: its folder has mode %03o\n  chmod go-w %s\n", path,
            (unsigned)info.st_mode & 0777u, folder);
    return -QN_EAUTH;
}

static int read_identity(const char *path, struct config *config) {
    char text[IDENTITY_FILE_MAX];
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) < 0) {
        fprintf(stderr, "qnetd: identity %s: %s\n  make one: (umask 077; qnetd genkey > %s)\n", path, strerror(errno),
                path);
        if (fd >= 0) close(fd);
        return -QN_ESYSTEM;
    }
    if (!is_credential(path) && check_private(path, &info) < 0) {
        close(fd);
        return -QN_EAUTH;
    }
    ssize_t n = read(fd, text, sizeof text);
    close(fd);
    int rc = n < 0 ? -QN_ESYSTEM : config_parse_key(text, (size_t)n, config->private_key);
    sodium_memzero(text, sizeof text);
    if (rc < 0) {
        fprintf(stderr,
                "qnetd: identity %s: not a private key (32 bytes in base64 or hexadecimal, as `qnetd genkey` writes)\n",
                path);
        return rc;
    }
    crypto_scalarmult_base(config->public_key, config->private_key);
    return 0;
}

/* The identity file: as given, or where a service manager or the state directory keeps it. "" if nowhere. */
static void find_identity(const struct options *options, char *path, size_t size) {
    const char *credentials = getenv("CREDENTIALS_DIRECTORY");
    *path = '\0';
    if (options->identity_path != NULL) {
        snprintf(path, size, "%s", options->identity_path);
    } else if (options->state_path != NULL) {
        snprintf(path, size, "%s/identity.key", options->state_path);
    } else if (credentials != NULL && *credentials != '\0') {
        snprintf(path, size, "%s/identity.key", credentials);
    }
}

/* Where the control socket goes. 0 or -QN_EINVAL if the path is too long for the system. */
static int find_control_path(const struct options *options, const char *name, char *path, size_t size) {
    const char *service = getenv("RUNTIME_DIRECTORY"), *user = getenv("XDG_RUNTIME_DIR");
    int len = 0;
    *path = '\0';
    if (options->control_path != NULL) {
        len = snprintf(path, size, "%s", options->control_path);
    } else if (options->state_path != NULL) {
        len = snprintf(path, size, "%s/control.sock", options->state_path);
    } else if (service != NULL && *service == '/') {
        len = snprintf(path, size, "%s/%s.sock", service, name);
    } else if (user != NULL && *user == '/') {
        len = snprintf(path, size, "%s/qnetd-%s.sock", user, name);
    }
    if (len >= 0 && (size_t)len < size) return 0;
    fprintf(
        stderr,
        "qnetd: the path of the control socket is too long (%d bytes; at most %zu): choose another with --control\n",
        len, size - 1);
    return -QN_EINVAL;
}

const char *config_state_directory(const struct options *options) {
    const char *service = getenv("STATE_DIRECTORY");
    if (options->state_path != NULL) return options->state_path;
    return service != NULL && *service == '/' && strchr(service, ':') == NULL ? service : NULL;
}

static int complain(const struct qn_topo_node *node, const char *what) {
    fprintf(stderr, "qnetd: node %s has no %s in the topology\n", node->name, what);
    return -QN_EINVAL;
}

static int check_endpoint(const struct qn_topo_node *node, bool is_self) {
    int rc = 0;
    if (node->classical.port == 0 || (node->classical.host[0] == '\0' && !is_self))
        rc = complain(node, "`classical` address");
    if (node->quantum.port == 0 || (node->quantum.host[0] == '\0' && !is_self))
        rc = complain(node, "`quantum` address");
    if (!node->has_key) rc = complain(node, "`key` (make one: qnetd genkey | qnetd pubkey)");
    return rc;
}

/* This node and its neighbours must be reachable and known by key. A node without neighbours needs neither. */
static int check_neighbours(const struct config *config, bool *ret_has_neighbours) {
    const struct qn_topology *topology = &config->topology;
    int rc = 0;
    *ret_has_neighbours = false;
    for (size_t i = 0; i < topology->n_nodes; i++) {
        if (i == config->self || !qn_topology_is_neighbour(topology, config->self, (uint16_t)i)) continue;
        if (!*ret_has_neighbours && check_endpoint(&topology->nodes[config->self], true) < 0) rc = -QN_EINVAL;
        *ret_has_neighbours = true;
        if (check_endpoint(&topology->nodes[i], false) < 0) rc = -QN_EINVAL;
    }
    return rc;
}

static int load_identity(const struct options *options, struct config *config, bool is_needed) {
    const struct qn_topo_node *self = &config->topology.nodes[config->self];
    char path[4096];
    find_identity(options, path, sizeof path);
    if (*path == '\0') {
        if (!is_needed) return 0;
        fprintf(stderr, "qnetd: no identity: give --identity FILE, or --state DIR with identity.key in it\n");
        return -QN_EINVAL;
    }
    if (!is_needed && options->identity_path == NULL) return 0;
    int rc = read_identity(path, config);
    if (rc == 0 && self->has_key && memcmp(self->public_key, config->public_key, 32) != 0) {
        char text[sodium_base64_ENCODED_LEN(32, sodium_base64_VARIANT_ORIGINAL)];
        sodium_bin2base64(text, sizeof text, config->public_key, 32, sodium_base64_VARIANT_ORIGINAL);
        fprintf(stderr, "qnetd: identity %s is not the one the topology gives for %s: its public key is %s\n", path,
                self->name, text);
        rc = -QN_EAUTH;
    }
    return rc;
}

int config_load(const struct options *options, struct config *ret_config) {
    struct config config = {.options = *options};
    int rc = config_read_topology(options->topology_path, &config.topology, config.file_digest);
    if (rc < 0) return rc;
    int self = qn_topology_find_node(&config.topology, options->node);
    if (self < 0) {
        const char *near = qn_topology_suggest_node(&config.topology, options->node);
        fprintf(stderr, "qnetd: %s: no node named '%s'%s%s%s\n", options->topology_path, options->node,
                near != NULL ? "; did you mean '" : "", near != NULL ? near : "", near != NULL ? "'?" : "");
        rc = self;
        goto out;
    }
    config.self = (uint16_t)self;
    bool has_neighbours;
    int rc_neighbours = check_neighbours(&config, &has_neighbours);
    int rc_identity = load_identity(options, &config, has_neighbours);
    int rc_control =
        find_control_path(options, config.topology.nodes[self].name, config.control_path, sizeof config.control_path);
    int rc_secrets = secrets_load(&config);
    rc = rc_neighbours < 0 ? rc_neighbours : rc_identity < 0 ? rc_identity : rc_control < 0 ? rc_control : rc_secrets;
    if (rc < 0) goto out;
    *ret_config = config;
    config.topology = (struct qn_topology){0}; /* Moved. */
    config.secrets = NULL;
    config.n_secrets = 0;
out:
    config_release(&config);
    return rc;
}

void config_release(struct config *config) {
    qn_topology_release(&config->topology);
    secrets_release(config);
    sodium_memzero(config->private_key, sizeof config->private_key);
}
