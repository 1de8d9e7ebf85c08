/* SPDX-License-Identifier: Apache-2.0 */
#include "secrets.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

#define SECRET_MIN (QN_STORE_ID_BYTES + 32)
#define SECRET_MAX (QN_STORE_ID_BYTES + QN_STORE_KEY_MAX)

static int complain(const char *path, const char *what) {
    fprintf(stderr, "qnetd: initial secret %s: %s\n", path, what);
    return -QN_EINVAL;
}

static int add(struct config *config, uint16_t peer, uint8_t *bytes, size_t len) { /* Takes the bytes. */
    struct qn_initial_secret *list = realloc(config->secrets, (config->n_secrets + 1) * sizeof *list);
    if (list == NULL) {
        sodium_memzero(bytes, len);
        free(bytes);
        return -QN_ENOMEM;
    }
    config->secrets = list;
    list[config->n_secrets++] = (struct qn_initial_secret){.peer = peer, .bytes = bytes, .len = len};
    return 0;
}

static int load_one(struct config *config, const char *directory, const char *name) {
    char path[4600];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int peer = qn_topology_find_node(&config->topology, name);
    if (peer < 0 || peer == config->self)
        return complain(path, "the topology has no other node of this name; name the file after the peer");
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    uint8_t *bytes = NULL;
    int rc;
    if (fd < 0 || fstat(fd, &info) < 0)
        rc = complain(path, strerror(errno));
    else if (!config_is_private(&info))
        rc = complain(path, "others may use it; chmod 600");
    else if (info.st_size < (off_t)SECRET_MIN || info.st_size > (off_t)SECRET_MAX)
        rc = complain(path, "it must have 48 bytes to 256 KiB; make one: (umask 077; qnetctl gensecret > FILE)");
    else if ((bytes = malloc((size_t)info.st_size)) == NULL)
        rc = -QN_ENOMEM;
    else if (read(fd, bytes, (size_t)info.st_size) != (ssize_t)info.st_size)
        rc = complain(path, "it cannot be read");
    else {
        rc = add(config, (uint16_t)peer, bytes, (size_t)info.st_size);
        bytes = NULL;
    }
    free(bytes);
    if (fd >= 0) close(fd);
    return rc;
}

int secrets_load(struct config *config) {
    const char *state = config_state_directory(&config->options);
    if (state == NULL) return 0;
    char path[4200];
    snprintf(path, sizeof path, "%s/initial", state);
    DIR *directory = opendir(path);
    if (directory == NULL) return 0; /* There need not be any. */
    int rc = 0;
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        if (entry->d_name[0] == '.') continue;
        int rc_one = load_one(config, path, entry->d_name);
        if (rc == 0) rc = rc_one;
    }
    closedir(directory);
    return rc;
}

void secrets_release(struct config *config) {
    for (size_t i = 0; i < config->n_secrets; i++) {
        uint8_t *bytes = (uint8_t *)(uintptr_t)config->secrets[i].bytes;
        sodium_memzero(bytes, config->secrets[i].len);
        free(bytes);
    }
    free(config->secrets);
    config->secrets = NULL;
    config->n_secrets = 0;
}
