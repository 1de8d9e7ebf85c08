/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: a ruleset that forbids every way to use files the kernel knows, but for a table of places and the paths
 * of the plan; binding TCP ports, and dialling any but the neighbours'; signals and abstract sockets of others.
 *
 * Failure modes: a kernel without Landlock; an older one, which is asked for what it has. A place of the table that
 * does not exist is left out; one of the plan must exist.
 *
 * Interface: Documentation/userspace-api/landlock.rst of Linux. Numbers newer than the headers of Debian 12 are written
 * out here. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox.h"

#define CREATE_RULESET_VERSION 1u
#define RULE_PATH 1
#define RULE_PORT 2

#define FS_EXECUTE (UINT64_C(1) << 0)
#define FS_WRITE_FILE (UINT64_C(1) << 1)
#define FS_READ_FILE (UINT64_C(1) << 2)
#define FS_READ_DIR (UINT64_C(1) << 3)
#define FS_REMOVE_DIR (UINT64_C(1) << 4)
#define FS_REMOVE_FILE (UINT64_C(1) << 5)
#define FS_MAKE_DIR (UINT64_C(1) << 7)
#define FS_MAKE_REG (UINT64_C(1) << 8)
#define FS_REFER (UINT64_C(1) << 13)    /* Version 2. */
#define FS_TRUNCATE (UINT64_C(1) << 14) /* Version 3. */
#define FS_UP_TO_1 ((UINT64_C(1) << 13) - 1)
#define FS_UP_TO_2 ((UINT64_C(1) << 14) - 1)
#define FS_UP_TO_3 ((UINT64_C(1) << 15) - 1)
#define FS_UP_TO_5 ((UINT64_C(1) << 16) - 1) /* Control of devices. */
#define NET_BIND_TCP UINT64_C(1)             /* Version 4. */
#define NET_CONNECT_TCP UINT64_C(2)
#define SCOPE_ABSTRACT_SOCKET UINT64_C(1) /* Version 6. */
#define SCOPE_SIGNAL UINT64_C(2)

#define FS_READ (FS_READ_FILE | FS_READ_DIR)
#define FS_OF_FILES (FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE)
#define FS_ALL                                                                                                         \
    (FS_READ | FS_WRITE_FILE | FS_TRUNCATE | FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_DIR | FS_MAKE_REG | FS_REFER)

struct ruleset_attr {
    uint64_t fs, net, scope;
};
struct path_rule {
    uint64_t allowed;
    int32_t fd;
} __attribute__((packed));
struct port_rule {
    uint64_t allowed, port;
};

/* What the C library reads while the daemon runs: names of hosts, time zones, processors; and our own /proc/self. Of
 * other processes Landlock hides what a debugger could see. */
static const struct {
    const char *path;
    uint64_t access;
} places[] = {
    {"/", FS_READ_DIR}, /* libuv holds it open in reserve, and again after a shortage of descriptors. Names only. */
    {"/etc/resolv.conf", FS_READ},
    {"/etc/hosts", FS_READ},
    {"/etc/nsswitch.conf", FS_READ},
    {"/etc/host.conf", FS_READ},
    {"/etc/gai.conf", FS_READ},
    {"/etc/services", FS_READ},
    {"/etc/localtime", FS_READ},
    {"/etc/ld.so.cache", FS_READ},
    {"/run/systemd/resolve", FS_READ},
    {"/run/NetworkManager", FS_READ},
    {"/run/resolvconf", FS_READ},
    {"/lib", FS_READ}, /* Modules of name services. */
    {"/lib64", FS_READ},
    {"/usr/lib", FS_READ},
    {"/usr/share/zoneinfo", FS_READ},
    {"/proc", FS_READ},
    {"/sys/devices/system/cpu", FS_READ},
    {"/dev/urandom", FS_READ},
    {"/dev/random", FS_READ},
    {"/dev/null", FS_READ | FS_WRITE_FILE},
};

struct ruleset {
    int fd;
    uint64_t fs; /* What it handles. */
};

static int add_path(const struct ruleset *ruleset, const char *path, uint64_t access) {
    struct stat info;
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0) return -1;
    int rc = fstat(fd, &info);
    if (rc == 0) {
        if (!S_ISDIR(info.st_mode)) access &= FS_OF_FILES;
        struct path_rule rule = {.allowed = access & ruleset->fs, .fd = fd};
        rc = (int)syscall(SYS_landlock_add_rule, ruleset->fd, RULE_PATH, &rule, 0);
    }
    int error = errno;
    close(fd);
    errno = error;
    return rc;
}

static bool is_given(const char *path) { return path != NULL && *path != '\0'; }

static int add_paths(const struct ruleset *ruleset, const struct sandbox_plan *plan) {
    char folder[4096];
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        if (add_path(ruleset, places[i].path, places[i].access) < 0 && errno != ENOENT && errno != EACCES) return -1;
    /* Files of /etc may be replaced while we run (a laptop that changes networks). The modes keep secrets from
     * everybody but root. */
    if (geteuid() != 0 && add_path(ruleset, "/etc", FS_READ) < 0 && errno != ENOENT && errno != EACCES) return -1;
    if (is_given(plan->state_path) && add_path(ruleset, plan->state_path, FS_ALL) < 0) return -1;
    if (is_given(plan->topology_path) && add_path(ruleset, plan->topology_path, FS_READ) < 0 && errno != EACCES)
        return -1;
    if (!is_given(plan->control_path)) return 0;
    const char *slash = strrchr(plan->control_path, '/');
    snprintf(folder, sizeof folder, "%.*s", slash == NULL ? 1 : (int)(slash - plan->control_path) + 1,
             slash == NULL ? "." : plan->control_path);
    return add_path(ruleset, folder, FS_REMOVE_FILE) < 0 && errno != EACCES ? -1 : 0;
}

static int add_ports(const struct ruleset *ruleset, const struct sandbox_plan *plan) {
    int rc = 0;
    for (size_t i = 0; rc == 0 && i <= plan->n_ports; i++) {
        struct port_rule rule = {.allowed = NET_CONNECT_TCP, .port = i < plan->n_ports ? plan->ports[i] : 53};
        rc = (int)syscall(SYS_landlock_add_rule, ruleset->fd, RULE_PORT, &rule, 0);
    }
    return rc;
}

int landlock_enter(const struct sandbox_plan *plan) {
    int version = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_RULESET_VERSION);
    if (version <= 0) return -1;
    struct ruleset_attr attr = {
        .fs = version >= 5   ? FS_UP_TO_5
              : version >= 3 ? FS_UP_TO_3
              : version >= 2 ? FS_UP_TO_2
                             : FS_UP_TO_1,
        .net = version >= 4 ? NET_BIND_TCP | NET_CONNECT_TCP : 0,
        .scope = version >= 6 ? SCOPE_ABSTRACT_SOCKET | SCOPE_SIGNAL : 0,
    };
    size_t size = version >= 6 ? sizeof attr : version >= 4 ? 16 : 8; /* As large as that kernel knows it. */
    struct ruleset ruleset = {.fd = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0), .fs = attr.fs};
    if (ruleset.fd < 0) return -1;
    int rc = add_paths(&ruleset, plan);
    if (rc == 0 && attr.net != 0) rc = add_ports(&ruleset, plan);
    if (rc == 0) rc = (int)syscall(SYS_landlock_restrict_self, ruleset.fd, 0);
    int error = errno;
    close(ruleset.fd);
    errno = error;
    return rc == 0 ? version : -1;
}
