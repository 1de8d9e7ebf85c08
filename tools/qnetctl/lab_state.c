/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "client.h"
#include "lab.h"

#define TOPOLOGY_MAX (64u * 1024 * 1024)

static int fail_path(const struct ctl *ctl, const char *path, const char *todo) {
    return ctl_fail(ctl, STATUS_RUNTIME, "system", QN_ESYSTEM, "%s: %s; %s", path, strerror(errno), todo);
}

/* ---- folders ---- */

static int check_ours(const struct ctl *ctl, const char *path, bool create, bool *ret_exists) {
    struct stat info;
    if (create && mkdir(path, 0700) < 0 && errno != EEXIST)
        return fail_path(ctl, path, "set XDG_RUNTIME_DIR to a folder of yours");
    *ret_exists = lstat(path, &info) == 0;
    if (!*ret_exists && errno == ENOENT) return STATUS_OK;
    if (!*ret_exists) return fail_path(ctl, path, "set XDG_RUNTIME_DIR to a folder of yours");
    if (S_ISDIR(info.st_mode) && info.st_uid == geteuid() && (info.st_mode & 077) == 0) return STATUS_OK;
    return ctl_fail(ctl, STATUS_DENIED, "auth", QN_EAUTH,
                    "%s is not a folder that only you can use; remove it or set XDG_RUNTIME_DIR", path);
}

int lab_base(const struct ctl *ctl, bool create, char ret_path[LAB_PATH_MAX]) {
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    bool exists;
    if (runtime == NULL || runtime[0] != '/') runtime = "/tmp";
    int len = snprintf(ret_path, LAB_PATH_MAX, "%s/qnetd-%u", runtime, (unsigned)geteuid());
    if (len < 0 || len >= LAB_PATH_MAX - 80)
        return ctl_fail(ctl, STATUS_USAGE, "usage", 0, "XDG_RUNTIME_DIR is too long; set a shorter one");
    int status = check_ours(ctl, ret_path, create, &exists);
    if (status != STATUS_OK) return status;
    strcat(ret_path, "/labs");
    return exists ? check_ours(ctl, ret_path, create, &exists) : STATUS_OK;
}

static bool is_lab_name(const char *name) {
    size_t len = strlen(name);
    if (len == 0 || len > QN_NAME_MAX || name[0] == '.' || name[0] == '-') return false;
    return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == len;
}

int lab_open(const struct ctl *ctl, const char *name, struct lab *ret_lab) {
    char base[LAB_PATH_MAX];
    if (!is_lab_name(name))
        return ctl_usage(ctl, "\"%s\" is no name for a lab; valid: 1 to 63 letters, digits, and ._- inside", name);
    int status = lab_base(ctl, false, base);
    if (status != STATUS_OK) return status;
    snprintf(ret_lab->name, sizeof ret_lab->name, "%s", name);
    int len = snprintf(ret_lab->directory, sizeof ret_lab->directory, "%s/%s", base, name);
    if (len >= (int)sizeof ret_lab->directory)
        return ctl_usage(ctl, "the path of lab %s is too long; choose another: --name", name);
    return STATUS_OK;
}

bool lab_exists(const struct lab *lab) {
    struct stat info;
    return lstat(lab->directory, &info) == 0 && S_ISDIR(info.st_mode);
}

static int compare_names(const void *a, const void *b) { return strcmp(a, b); }

int lab_list(const struct ctl *ctl, struct lab_list *ret_list) {
    char base[LAB_PATH_MAX];
    struct lab_list list = {0};
    struct dirent *entry;
    int status = lab_base(ctl, false, base);
    if (status != STATUS_OK) return status;
    DIR *folder = opendir(base);
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        if (!is_lab_name(entry->d_name)) continue;
        void *names = realloc(list.names, (list.len + 1) * sizeof *list.names);
        if (names == NULL) {
            status = ctl_no_memory(ctl);
            break;
        }
        list.names = names;
        snprintf(list.names[list.len++], sizeof *list.names, "%.63s", entry->d_name);
    }
    if (folder != NULL) closedir(folder);
    if (status != STATUS_OK) {
        lab_list_release(&list);
        return status;
    }
    if (list.len > 0) qsort(list.names, list.len, sizeof *list.names, compare_names);
    *ret_list = list;
    return STATUS_OK;
}

void lab_list_release(struct lab_list *list) {
    free(list->names);
    *list = (struct lab_list){0};
}

static int fail_choose(const struct ctl *ctl, const struct lab_list *list, const char *name) {
    char names[512];
    const char *pointers[256];
    size_t used = 0, n = 0;
    names[0] = '\0';
    for (size_t i = 0; i < list->len && i < 256; i++) {
        pointers[n++] = list->names[i];
        if (used < sizeof names)
            used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i == 0 ? "" : ", ", list->names[i]);
    }
    if (name == NULL) return ctl_usage(ctl, "there are several labs; choose one with --lab: %s", names);
    const char *near = suggest_word(name, pointers, n);
    if (near != NULL) return ctl_usage(ctl, "there is no lab \"%s\"; did you mean \"%s\"?", name, near);
    if (n == 0) return ctl_usage(ctl, "there is no lab \"%s\"; start one: qnetctl lab up FILE", name);
    return ctl_usage(ctl, "there is no lab \"%s\"; there is: %s", name, names);
}

int lab_current(const struct ctl *ctl, const char *name, bool optional, struct lab *ret_lab) {
    struct lab_list list;
    *ret_lab = (struct lab){0};
    int status = lab_list(ctl, &list);
    if (status != STATUS_OK) return status;
    if (name == NULL && list.len == 1) name = list.names[0];
    bool found = false;
    for (size_t i = 0; i < list.len && name != NULL; i++) found = found || strcmp(list.names[i], name) == 0;
    if (found)
        status = lab_open(ctl, name, ret_lab);
    else if (name == NULL && list.len == 0 && optional)
        status = STATUS_OK;
    else if (name == NULL && list.len == 0)
        status = ctl_usage(ctl, "no lab is running; start one: qnetctl lab up FILE");
    else
        status = fail_choose(ctl, &list, name);
    lab_list_release(&list);
    return status;
}

int lab_path(const struct ctl *ctl, const struct lab *lab, const char *node, const char *suffix,
             char ret_path[LAB_PATH_MAX]) {
    int len = snprintf(ret_path, LAB_PATH_MAX, "%s/%s%s", lab->directory, node, suffix);
    if (len < LAB_PATH_MAX) return STATUS_OK;
    return ctl_usage(ctl, "the paths of lab %s are too long; choose a shorter name: lab up --name", lab->name);
}

int lab_read_topology(const struct ctl *ctl, const struct lab *lab, struct qn_topology *ret_topology) {
    char path[LAB_PATH_MAX];
    struct qn_buf text = {.limit = TOPOLOGY_MAX}, diagnostics = {0};
    ssize_t n = 0;
    int status = lab_path(ctl, lab, "topology", ".yaml", path);
    if (status != STATUS_OK) return status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int rc = fd < 0 ? -QN_ESYSTEM : 0;
    while (rc == 0) {
        rc = qn_buf_reserve(&text, 65536);
        if (rc == 0) n = read(fd, text.data + text.len, text.cap - text.len);
        if (rc == 0 && n <= 0) break;
        if (rc == 0) text.len += (size_t)n;
    }
    if (rc == 0) rc = qn_topology_parse(path, (const char *)text.data, text.len, ret_topology, &diagnostics);
    if (rc < 0)
        status =
            ctl_fail(ctl, STATUS_RUNTIME, "parse", QN_EPARSE,
                     "lab %s has no usable topology (%s); remove it: qnetctl lab down %s", lab->name, path, lab->name);
    if (fd >= 0) close(fd);
    qn_buf_release(&text);
    qn_buf_release(&diagnostics);
    return status;
}

int lab_find_node(const struct ctl *ctl, const struct lab *lab, const struct qn_topology *topology, const char *name,
                  size_t *ret_index) {
    int index = qn_topology_find_node(topology, name);
    if (index >= 0) {
        *ret_index = (size_t)index;
        return STATUS_OK;
    }
    const char *near = qn_topology_suggest_node(topology, name);
    if (near != NULL) return ctl_usage(ctl, "lab %s has no node \"%s\"; did you mean \"%s\"?", lab->name, name, near);
    return ctl_usage(ctl, "lab %s has no node \"%s\"; see: qnetctl lab status %s", lab->name, name, lab->name);
}

/* Everything in a folder of the lab, and in the nodes' state folders below it. Follows no link. */
static void remove_inside(int parent, const char *name) {
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (unlinkat(fd, entry->d_name, 0) == 0 || errno != EISDIR) continue;
        remove_inside(fd, entry->d_name);
        unlinkat(fd, entry->d_name, AT_REMOVEDIR);
    }
    if (folder != NULL)
        closedir(folder);
    else if (fd >= 0)
        close(fd);
}

int lab_remove_files(const struct ctl *ctl, const struct lab *lab) {
    remove_inside(AT_FDCWD, lab->directory);
    if (rmdir(lab->directory) < 0 && errno != ENOENT) return fail_path(ctl, lab->directory, "remove it by hand");
    return STATUS_OK;
}

/* ---- processes ---- */

/* Field 22 of /proc/PID/stat, in clock ticks since boot; 0 if there is no such process. The second field is the
 * program's name in parentheses, which may itself hold spaces and parentheses. */
static uint64_t start_time(pid_t pid) {
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return 0;
    text[n] = '\0';
    char *at = strrchr(text, ')');
    for (int field = 2; at != NULL && field < 22; field++) {
        at = strchr(at, ' ');
        if (at != NULL) at++;
    }
    return at == NULL ? 0 : strtoull(at, NULL, 10);
}

int lab_process_note(const struct ctl *ctl, const struct lab *lab, const char *node, pid_t pid) {
    char path[LAB_PATH_MAX];
    int status = lab_path(ctl, lab, node, ".pid", path);
    if (status != STATUS_OK) return status;
    FILE *file = fopen(path, "we");
    if (file == NULL) return fail_path(ctl, path, "free space or check its permissions");
    fprintf(file, "%d %" PRIu64 "\n", (int)pid, start_time(pid));
    if (fclose(file) != 0) return fail_path(ctl, path, "free space or check its permissions");
    return STATUS_OK;
}

int lab_process_open(const struct ctl *ctl, const struct lab *lab, const char *node, pid_t *ret_pid) {
    char path[LAB_PATH_MAX];
    int pid = 0;
    uint64_t started = 0;
    if (lab_path(ctl, lab, node, ".pid", path) != STATUS_OK) return -1;
    FILE *file = fopen(path, "re");
    if (file == NULL) return -1;
    bool is_read = fscanf(file, "%d %" SCNu64, &pid, &started) == 2 && pid > 1 && started != 0;
    fclose(file);
    int fd = is_read ? pidfd_open(pid, 0) : -1;
    if (fd < 0) return -1;
    if (start_time(pid) != started ||
        lab_process_ended(fd, 0)) { /* Compared while we hold it: the number cannot move on. */
        close(fd);
        return -1;
    }
    if (ret_pid != NULL) *ret_pid = pid;
    return fd;
}

bool lab_process_ended(int pid_fd, int wait_ms) {
    struct pollfd poll_fd = {.fd = pid_fd, .events = POLLIN};
    return poll(&poll_fd, 1, wait_ms) > 0;
}

size_t lab_n_running(const struct ctl *ctl, const struct lab *lab, const struct qn_topology *topology) {
    size_t n = 0;
    for (size_t i = 0; i < topology->n_nodes; i++) {
        int fd = lab_process_open(ctl, lab, topology->nodes[i].name, NULL);
        if (fd < 0) continue;
        close(fd);
        n++;
    }
    return n;
}

/* Waits for all until the deadline; those that ended are closed and become -1. Returns how many are left. */
static size_t wait_ended(int *fds, size_t n, uint64_t deadline_ns) {
    size_t left = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t now_ns = client_now_ns();
        if (fds[i] < 0) continue;
        if (lab_process_ended(fds[i], now_ns < deadline_ns ? (int)((deadline_ns - now_ns) / 1000000) + 1 : 0)) {
            close(fds[i]);
            fds[i] = -1;
        } else {
            left++;
        }
    }
    return left;
}

static void signal_all(const int *fds, size_t n, int number) {
    for (size_t i = 0; i < n; i++)
        if (fds[i] >= 0) pidfd_send_signal(fds[i], number, NULL, 0);
}

int lab_stop_all(const struct ctl *ctl, const struct lab *lab, const struct qn_topology *topology, int patience_ms) {
    int *fds = malloc((topology->n_nodes + 1) * sizeof *fds);
    if (fds == NULL) return ctl_no_memory(ctl);
    for (size_t i = 0; i < topology->n_nodes; i++) fds[i] = lab_process_open(ctl, lab, topology->nodes[i].name, NULL);
    signal_all(fds, topology->n_nodes, SIGTERM);
    size_t left = wait_ended(fds, topology->n_nodes, client_now_ns() + (uint64_t)patience_ms * 1000000);
    if (left > 0) {
        ctl_warn(ctl, "%zu node(s) of lab %s did not stop within %d ms; killing them", left, lab->name, patience_ms);
        signal_all(fds, topology->n_nodes, SIGKILL);
        left = wait_ended(fds, topology->n_nodes, client_now_ns() + UINT64_C(5000000000));
    }
    for (size_t i = 0; i < topology->n_nodes; i++)
        if (fds[i] >= 0) close(fds[i]);
    free(fds);
    if (left == 0) return STATUS_OK;
    return ctl_fail(ctl, STATUS_RUNTIME, "system", QN_ESYSTEM,
                    "%zu node(s) of lab %s cannot be killed; see: ps -C qnetd", left, lab->name);
}
