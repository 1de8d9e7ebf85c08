/* SPDX-License-Identifier: Apache-2.0 */
/* Initial secrets of a lab's nodes: the same file in both state folders. Happy path of `lab share`: both files are
 * written under other names and put in their places, then both processes are told by SIGHUP, and take it while they
 * run.
 *
 * Failure modes: no such node; a folder that cannot be written; a node that does not run takes it when it starts. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "base/err.h"
#include "command.h"
#include "lab.h"
#include "secret_pairs.h"

int lab_write_file(const struct ctl *ctl, const char *path, const void *data, size_t len) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    size_t done = 0;
    while (fd >= 0 && done < len) {
        ssize_t n = write(fd, (const char *)data + done, len - done);
        if (n < 0 && errno != EINTR) break;
        if (n > 0) done += (size_t)n;
    }
    if (fd >= 0 && (close(fd) == 0) && done == len) return STATUS_OK;
    return ctl_fail(ctl, STATUS_RUNTIME, "system", QN_ESYSTEM,
                    "%s: %s; free space or choose another place with XDG_RUNTIME_DIR", path, strerror(errno));
}

int lab_share_secret(const struct ctl *ctl, const struct lab *lab, const char *one, const char *other, size_t len) {
    uint8_t secret[SECRET_BYTES_MAX];
    const char *ends[2] = {one, other};
    int status = STATUS_OK;
    randombytes_buf(secret, len);
    for (int i = 0; i < 2 && status == STATUS_OK; i++) {
        char state[LAB_PATH_MAX], path[LAB_PATH_MAX + QN_NAME_MAX + 16], fresh[LAB_PATH_MAX + QN_NAME_MAX + 16];
        status = lab_path(ctl, lab, ends[i], ".state", state);
        snprintf(path, sizeof path, "%s/initial/%s", state, ends[1 - i]);
        snprintf(fresh, sizeof fresh, "%s/initial/.%s", state, ends[1 - i]); /* The daemon looks at no such names. */
        unlink(fresh);
        if (status == STATUS_OK) status = lab_write_file(ctl, fresh, secret, len);
        if (status == STATUS_OK && rename(fresh, path) < 0)
            status = ctl_fail(ctl, STATUS_RUNTIME, "system", QN_ESYSTEM, "%s: %s", path, strerror(errno));
    }
    sodium_memzero(secret, sizeof secret);
    return status;
}

static int check_ends(const struct ctl *ctl, const struct lab *lab, const char *const *names) {
    struct qn_topology topology;
    size_t indices[2] = {0, 0};
    int status = lab_read_topology(ctl, lab, &topology);
    if (status != STATUS_OK) return status;
    for (int i = 0; i < 2 && status == STATUS_OK; i++)
        status = lab_find_node(ctl, lab, &topology, names[i], &indices[i]);
    qn_topology_release(&topology);
    if (status == STATUS_OK && indices[0] == indices[1]) status = ctl_usage(ctl, "name two different nodes");
    return status;
}

int run_lab_share(struct ctl *ctl, const struct args *args) {
    struct lab lab;
    int status = lab_current(ctl, ctl->lab, false, &lab);
    if (status == STATUS_OK) status = check_ends(ctl, &lab, args->operands);
    if (status == STATUS_OK)
        status = lab_share_secret(ctl, &lab, args->operands[0], args->operands[1], SECRET_BYTES_MAX);
    for (int i = 0; i < 2 && status == STATUS_OK; i++) {
        int fd = lab_process_open(ctl, &lab, args->operands[i], NULL);
        if (fd >= 0) {
            pidfd_send_signal(fd, SIGHUP, NULL, 0);
            close(fd);
        }
    }
    if (status != STATUS_OK) return status;
    if (ctl->json)
        return ctl_json(ctl,
                        json_pack("{s:s,s:[s,s]}", "lab", lab.name, "share", args->operands[0], args->operands[1]));
    printf("%s and %s share a new initial secret\n", args->operands[0], args->operands[1]);
    return STATUS_OK;
}
