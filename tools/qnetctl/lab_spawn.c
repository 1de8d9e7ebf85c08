/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "lab.h"

#define TAIL_BYTES 4096
#define TAIL_LINES 15

extern char **environ;

static bool take_if_program(const char *directory, size_t len, const char *name, char ret_path[LAB_PATH_MAX]) {
    char path[LAB_PATH_MAX];
    int n = snprintf(path, sizeof path, "%.*s%s", (int)len, directory, name);
    char *full =
        n < (int)sizeof path && access(path, X_OK) == 0 ? realpath(path, NULL) : NULL; /* It runs in another folder. */
    bool ok = full != NULL && strlen(full) < LAB_PATH_MAX;
    if (ok) strcpy(ret_path, full);
    free(full);
    return ok;
}

static bool find_in_path(char ret_path[LAB_PATH_MAX]) {
    const char *path = getenv("PATH");
    for (const char *at = path; at != NULL && *at != '\0';) {
        size_t len = strcspn(at, ":");
        if (len > 0 && take_if_program(at, len, "/qnetd", ret_path)) return true;
        at += len + (at[len] == ':');
    }
    return false;
}

/* As given; beside this program; where the build puts it; on the PATH. */
int lab_find_qnetd(const struct ctl *ctl, const char *given, char ret_path[LAB_PATH_MAX]) {
    char self[PATH_MAX];
    if (given != NULL) {
        if (take_if_program("", 0, given, ret_path)) return STATUS_OK;
        return ctl_usage(ctl, "%s is no program; give --qnetd the path of the daemon", given);
    }
    ssize_t len = readlink("/proc/self/exe", self, sizeof self);
    while (len > 0 && self[len - 1] != '/') len--;
    if (len > 0 && (take_if_program(self, (size_t)len, "qnetd", ret_path) ||
                    take_if_program(self, (size_t)len, "../../daemon/qnetd", ret_path)))
        return STATUS_OK;
    if (find_in_path(ret_path)) return STATUS_OK;
    return ctl_fail(ctl, STATUS_RUNTIME, "not_found", QN_ENOT_FOUND,
                    "the program qnetd is not found; install it or name it: --qnetd PATH");
}

static int spawn(const char *qnetd, char *const *arguments, const char *log_path, pid_t *ret_pid) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    if (posix_spawn_file_actions_init(&actions) != 0) return ENOMEM;
    if (posix_spawnattr_init(&attributes) != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return ENOMEM;
    }
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setsigmask(&attributes, &none);
    int rc = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    if (rc == 0) rc = posix_spawn_file_actions_addopen(&actions, 1, log_path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (rc == 0) rc = posix_spawn_file_actions_adddup2(&actions, 1, 2);
    if (rc == 0) rc = posix_spawn_file_actions_addchdir_np(&actions, "/"); /* Keeps no folder from being unmounted. */
    if (rc == 0) rc = posix_spawn(ret_pid, qnetd, &actions, &attributes, arguments, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return rc;
}

int lab_spawn(const struct ctl *ctl, const struct lab *lab, const char *qnetd, const char *node, pid_t *ret_pid) {
    char topology[LAB_PATH_MAX], identity[LAB_PATH_MAX], control[LAB_PATH_MAX], log[LAB_PATH_MAX];
    char program[LAB_PATH_MAX], state[LAB_PATH_MAX], name[QN_NAME_MAX + 1];
    int status = lab_path(ctl, lab, "topology", ".yaml", topology);
    if (status == STATUS_OK) status = lab_path(ctl, lab, node, ".key", identity);
    if (status == STATUS_OK) status = lab_path(ctl, lab, node, ".sock", control);
    if (status == STATUS_OK) status = lab_path(ctl, lab, node, ".log", log);
    if (status == STATUS_OK) status = lab_path(ctl, lab, node, ".state", state);
    if (status != STATUS_OK) return status;
    snprintf(program, sizeof program, "%s", qnetd);
    snprintf(name, sizeof name, "%s", node);
    char *const arguments[] = {program,     "--topology", topology,  "--node", name,           "--identity", identity,
                               "--control", control,      "--state", state,    "--log-format", "json",       NULL};
    unsetenv("NOTIFY_SOCKET"); /* A service manager that watches us is not the nodes' business. */
    unsetenv("WATCHDOG_USEC");
    int rc = spawn(qnetd, arguments, log, ret_pid);
    if (rc != 0)
        return ctl_fail(ctl, STATUS_RUNTIME, "system", QN_ESYSTEM,
                        "%s cannot be started: %s; check that it runs: %s --version", qnetd, strerror(rc), qnetd);
    return lab_process_note(ctl, lab, node, *ret_pid);
}

void lab_print_log_tail(const struct ctl *ctl, const struct lab *lab, const char *node) {
    char path[LAB_PATH_MAX], text[TAIL_BYTES + 1];
    if (lab_path(ctl, lab, node, ".log", path) != STATUS_OK) return;
    FILE *file = fopen(path, "re");
    if (file == NULL) return;
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    fseek(file, size > TAIL_BYTES ? size - TAIL_BYTES : 0, SEEK_SET);
    size_t n = fread(text, 1, TAIL_BYTES, file);
    fclose(file);
    if (n > 0 && text[n - 1] == '\n') n--;
    text[n] = '\0';
    char *start = text + n;
    for (int lines = 0; start > text; start--)
        if (start[-1] == '\n' && ++lines == TAIL_LINES) break;
    for (char *c = start; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 && *c != '\n') *c = '?';
    fprintf(stderr, "--- the end of %s's log ---\n%s\n---\n", node, start);
}
