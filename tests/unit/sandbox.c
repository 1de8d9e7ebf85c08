/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's sandbox: a child enters it and tries what it must not be able to do, and what it needs. */
#include "sandbox.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netdb.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

/* Where a child works: a folder of its own with everything a daemon has. */
static struct place {
    char folder[64], state[80], control[96], topology[96], beside[96];
    int listener, other; /* Sockets of the parent. */
    uint16_t port, other_port;
    pid_t parent;
} place;

static uint16_t listen_somewhere(int *ret_fd) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    *ret_fd = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert(bind(*ret_fd, (struct sockaddr *)&address, len) == 0 && listen(*ret_fd, 4) == 0);
    getsockname(*ret_fd, (struct sockaddr *)&address, &len);
    return ntohs(address.sin_port);
}

static void write_text(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    cr_assert(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

static void set_up(void) {
    strcpy(place.folder, "/tmp/qnetd-sandbox-XXXXXX");
    cr_assert_not_null(mkdtemp(place.folder));
    chmod(place.folder, 0755);
    snprintf(place.state, sizeof place.state, "%s/state", place.folder);
    snprintf(place.control, sizeof place.control, "%s/control", place.folder);
    snprintf(place.topology, sizeof place.topology, "%s/net.yaml", place.folder);
    snprintf(place.beside, sizeof place.beside, "%s/secret", place.folder);
    mkdir(place.state, 0777);
    chmod(place.state, 0777);
    write_text(place.control, "");
    write_text(place.topology, "version: 1\n");
    write_text(place.beside, "nobody's business\n");
    place.port = listen_somewhere(&place.listener);
    place.other_port = listen_somewhere(&place.other);
    place.parent = getpid();
}

static void tear_down(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", place.folder);
    cr_assert_eq(system(command), 0);
}

/* --- Attempts: 0 if it worked, else errno. --- */

static int done(long rc) { return rc < 0 ? errno : 0; }
static int open_as(const char *path, int flags) {
    int fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd >= 0) close(fd);
    return done(fd);
}
static int read_secret(void) { return open_as(place.beside, O_RDONLY); }
static int read_shadow(void) { return open_as("/etc/shadow", O_RDONLY); }
static int write_topology(void) { return open_as(place.topology, O_WRONLY); }
static int write_beside(void) {
    char path[128];
    snprintf(path, sizeof path, "%s/new", place.folder);
    return open_as(path, O_WRONLY | O_CREAT);
}
static int write_tmp(void) { return open_as("/tmp/qnetd-sandbox-escape", O_WRONLY | O_CREAT); }
static int remove_state_folder(void) { return done(rmdir(place.state)); }
static int link_secret(void) {
    char path[128];
    snprintf(path, sizeof path, "%s/link", place.state);
    return done(symlink(place.beside, path));
}
static int read_parent_memory(void) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", (int)place.parent);
    return open_as(path, O_RDONLY);
}
static int read_parent_environment(void) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/environ", (int)place.parent);
    return open_as(path, O_RDONLY);
}
static int run_program(void) {
    char *arguments[] = {(char *)"true", NULL};
    return done(execv("/bin/true", arguments));
}
static int run_program_at(void) {
    char *arguments[] = {(char *)"true", NULL};
    return done(syscall(SYS_execveat, AT_FDCWD, "/bin/true", arguments, NULL, 0));
}
static int have_child(void) {
    long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) _exit(0);
    return done(pid);
}
static int have_child_by_clone3(void) {
    uint64_t arguments[8] = {[4] = SIGCHLD};
    long pid = syscall(SYS_clone3, arguments, sizeof arguments);
    if (pid == 0) _exit(0);
    return done(pid);
}
static int trace_parent(void) { return done(ptrace(PTRACE_SEIZE, place.parent, NULL, NULL)); }
static int trace_me(void) { return done(ptrace(PTRACE_TRACEME, 0, NULL, NULL)); }
static int signal_parent(void) { return done(kill(place.parent, 0)); }
static int signal_parent_thread(void) { return done(syscall(SYS_tgkill, place.parent, place.parent, 0)); }
static int open_socket(int domain, int type) {
    int fd = socket(domain, type, 0);
    if (fd >= 0) close(fd);
    return done(fd);
}
static int local_socket(void) { return open_socket(AF_UNIX, SOCK_STREAM); }
static int netlink_socket(void) { return open_socket(AF_NETLINK, SOCK_RAW); }
static int packet_socket(void) { return open_socket(AF_PACKET, SOCK_RAW); }
static int vsock_socket(void) { return open_socket(AF_VSOCK, SOCK_STREAM); }
static int socket_pair(void) {
    int pair[2];
    return done(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
}
static int new_listener(void) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return done(bind(fd, (struct sockaddr *)&address, sizeof address));
}
static int listen_unbound(void) { return done(listen(socket(AF_INET, SOCK_STREAM, 0), 1)); }
static int dial(uint16_t port) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), rc = done(connect(fd, (struct sockaddr *)&address, sizeof address));
    close(fd);
    return rc;
}
static int dial_other(void) { return dial(place.other_port); }
static int mount_something(void) { return done(mount("none", "/mnt", "tmpfs", 0, NULL)); }
static int unshare_user(void) { return done(unshare(CLONE_NEWUSER)); }
static int change_root(void) { return done(chroot("/")); }
static int become_root(void) { return done(setuid(0)); }
static int change_mode(void) { return done(chmod(place.topology, 04777)); }
static int writable_code(void) {
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return page == MAP_FAILED ? errno : 0;
}
static int data_to_code(void) {
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return done(mprotect(page, 4096, PROT_READ | PROT_EXEC));
}
static int memory_file(void) { return done(memfd_create("escape", 0)); }
static int load_bpf(void) { return done(syscall(SYS_bpf, 0, NULL, 0)); }
static int watch_performance(void) { return done(syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0)); }
static int use_keyring(void) { return done(syscall(SYS_keyctl, 0, 0, 0, 0, 0)); }
static int load_module(void) { return done(syscall(SYS_init_module, NULL, 0, "")); }
static int use_io_uring(void) { return done(syscall(SYS_io_uring_setup, 1, NULL)); }
static int handle_faults(void) { return done(syscall(SYS_userfaultfd, 0)); }
static int raise_limit(void) {
    struct rlimit limit = {1, 1};
    return done(setrlimit(RLIMIT_NOFILE, &limit));
}
struct scheduling { /* The kernel's struct sched_attr. */
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t times[3];
};
static int schedule(pid_t thread, uint32_t policy, uint32_t priority, int32_t nice) {
    struct scheduling how = {.size = sizeof how, .policy = policy, .priority = priority, .nice = nice};
    return done(syscall(SYS_sched_setattr, thread, &how, 0));
}
static int slow_parent(void) { return schedule(place.parent, SCHED_OTHER, 0, 10); }
static int run_in_real_time(void) { return schedule(0, SCHED_FIFO, 1, 0); }
static int step_forward(void) { return schedule(0, SCHED_OTHER, 0, -10); }
static int allow_core(void) { return done(prctl(PR_SET_DUMPABLE, 1)); }
static int set_personality(void) { return done(syscall(SYS_personality, 0xffffffff)); }
static int newest_call(void) { return done(syscall(499)); }

struct attempt {
    const char *name;
    int (*run)(void);
    int expected; /* 0: it must work; else that error, or any (-1). */
};

static const struct attempt forbidden[] = {
    {"read a file beside its own", read_secret, EACCES},
    {"read /etc/shadow", read_shadow, EACCES},
    {"write the topology", write_topology, EACCES},
    {"make a file beside its own", write_beside, EACCES},
    {"make a file in /tmp", write_tmp, EACCES},
    {"remove its state directory", remove_state_folder, EACCES},
    {"make a symbolic link", link_secret, EPERM},
    {"read the parent's memory", read_parent_memory, EACCES},
    {"read the parent's environment", read_parent_environment, EACCES},
    {"execve", run_program, EPERM},
    {"execveat", run_program_at, EPERM},
    {"fork", have_child, EPERM},
    {"fork by clone3", have_child_by_clone3, ENOSYS},
    {"trace its parent", trace_parent, EPERM},
    {"ask to be traced", trace_me, EPERM},
    {"signal its parent", signal_parent, EPERM},
    {"signal its parent's thread", signal_parent_thread, EPERM},
    {"a local socket", local_socket, EPERM},
    {"a netlink socket", netlink_socket, EPERM},
    {"a packet socket", packet_socket, EPERM},
    {"a socket of virtual machines", vsock_socket, EPERM},
    {"a pair of sockets", socket_pair, EPERM},
    {"bind another port", new_listener, EPERM},
    {"listen", listen_unbound, EPERM},
    {"mount", mount_something, EPERM},
    {"a user namespace", unshare_user, EPERM},
    {"chroot", change_root, EPERM},
    {"setuid", become_root, EPERM},
    {"chmod", change_mode, EPERM},
    {"writable code", writable_code, EPERM},
    {"data to code", data_to_code, EPERM},
    {"a file in memory", memory_file, EPERM},
    {"bpf", load_bpf, EPERM},
    {"performance counters", watch_performance, EPERM},
    {"keyrings", use_keyring, EPERM},
    {"a kernel module", load_module, EPERM},
    {"io_uring", use_io_uring, ENOSYS},
    {"userfaultfd", handle_faults, EPERM},
    {"a resource limit", raise_limit, EPERM},
    {"the priority of another", slow_parent, EPERM},
    {"real time", run_in_real_time, EPERM},
    {"a higher priority", step_forward, EPERM},
    {"core files", allow_core, EPERM},
    {"another personality", set_personality, EPERM},
    {"a call of the future", newest_call, ENOSYS},
};

/* --- What it needs --- */

static int keep_files(void) { /* As SQLite does, with a write-ahead log. */
    char path[128], moved[128];
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 120, .l_len = 8};
    snprintf(path, sizeof path, "%s/keys.db-wal", place.state);
    snprintf(moved, sizeof moved, "%s/keys.db", place.state);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || pwrite(fd, "key", 3, 0) != 3 || ftruncate(fd, 32768) < 0 || fsync(fd) < 0 || fdatasync(fd) < 0 ||
        fcntl(fd, F_SETLK, &lock) < 0 || fchmod(fd, 0600) < 0)
        return errno;
    void *shared = mmap(NULL, 32768, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared == MAP_FAILED) return errno;
    munmap(shared, 32768);
    close(fd);
    int folder = open(place.state, O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* To make a removal durable. */
    if (folder < 0 || fsync(folder) < 0) return errno;
    close(folder);
    struct stat info;
    return done(rename(path, moved) < 0 || stat(moved, &info) < 0 || lstat(place.folder, &info) < 0 ? -1
                                                                                                    : unlink(moved));
}
static int read_topology(void) { return open_as(place.topology, O_RDONLY); }
static int remove_control(void) { return done(unlink(place.control)); }
static int read_self(void) { return open_as("/proc/self/statm", O_RDONLY); }
static int list_descriptors(void) { return open_as("/proc/self/fd", O_RDONLY | O_DIRECTORY); }
static int dial_neighbour(void) { return dial(place.port); }
static int find_name(void) {
    struct addrinfo *list, hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    if (getaddrinfo("localhost", "80", &hints, &list) != 0) return EHOSTUNREACH;
    freeaddrinfo(list);
    return 0;
}
static int descriptors(void) {
    sigset_t none;
    sigemptyset(&none);
    int pair[2];
    int rc =
        timerfd_create(CLOCK_MONOTONIC, 0) < 0 || eventfd(0, 0) < 0 || signalfd(-1, &none, 0) < 0 || pipe(pair) < 0;
    return done(-rc);
}
static void *nothing(void *argument) { return argument; }
static int run_thread(void) {
    pthread_t thread;
    int rc = pthread_create(&thread, NULL, nothing, NULL);
    return rc != 0 ? rc : pthread_join(thread, NULL);
}
static int datagrams(void) { return open_socket(AF_INET, SOCK_DGRAM); }
static int lock_memory(void) {
    static char secret[64];
    int rc = mlock(secret, sizeof secret);
    return rc < 0 && errno != ENOMEM ? errno : 0;
}
static int step_back(void) { return schedule(0, SCHED_OTHER, 0, 10); }
static int see_limit(void) {
    struct rlimit limit;
    return done(getrlimit(RLIMIT_NOFILE, &limit));
}

static const struct attempt needed[] = {
    {"keep files in the state directory", keep_files, 0},
    {"read the topology", read_topology, 0},
    {"read its own numbers", read_self, 0},
    {"list its descriptors", list_descriptors, 0},
    {"dial a neighbour", dial_neighbour, 0},
    {"find a name", find_name, 0},
    {"timers, events, signals, pipes", descriptors, 0},
    {"run a thread", run_thread, 0},
    {"ask a name server", datagrams, 0},
    {"lock memory", lock_memory, 0},
    {"lower its own priority", step_back, 0},
    {"see a limit", see_limit, 0},
    {"remove its control socket", remove_control, 0},
};

/* --- The child --- */

#define RESULTS_MAX 64
struct results {
    int rc;
    struct sandbox_report report;
    int errors[RESULTS_MAX];
    uid_t uid;
    int n_groups, root_again;
};

static struct results *run_child(const struct sandbox_user *user, enum sandbox_mode mode,
                                 const struct attempt *attempts, size_t n) {
    struct results *results = mmap(NULL, sizeof *results, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    cr_assert(results != MAP_FAILED && n <= RESULTS_MAX);
    pid_t pid = fork();
    if (pid == 0) {
        struct sandbox_plan plan = {.mode = mode,
                                    .user = user,
                                    .state_path = place.state,
                                    .control_path = place.control,
                                    .topology_path = place.topology,
                                    .ports = &place.port,
                                    .n_ports = 1};
        results->rc = sandbox_enter(&plan, &results->report);
        for (size_t i = 0; results->rc == 0 && i < n; i++) results->errors[i] = attempts[i].run();
        results->uid = getuid();
        results->n_groups = getgroups(0, NULL);
        results->root_again = setresuid(0, 0, 0);
        _exit(0);
    }
    int status;
    cr_assert(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return results;
}

static void check(const struct results *results, const struct attempt *attempts, size_t n) {
    for (size_t i = 0; i < n; i++)
        cr_expect_eq(results->errors[i], attempts[i].expected, "%s: %s, not %s", attempts[i].name,
                     strerror(results->errors[i]), strerror(attempts[i].expected));
}

static bool has_all(void) {
#if defined(__SANITIZE_THREAD__)
    return false;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
    return false;
#endif
#endif
    return syscall(SYS_landlock_create_ruleset, NULL, 0, 1u) > 0;
}
#define N_OF(array) (sizeof(array) / sizeof(array)[0])

Test(sandbox, refuses_what_a_daemon_never_does) {
    if (!has_all()) cr_skip_test("this kernel has no Landlock, or the thread sanitizer runs");
    set_up();
    struct results *results = run_child(NULL, SANDBOX_REQUIRE, forbidden, N_OF(forbidden));
    cr_expect_eq(results->rc, 0, "%s", results->report.text);
    cr_expect(results->report.no_new_privs && results->report.seccomp && results->report.landlock > 0);
    check(results, forbidden, N_OF(forbidden));
    tear_down();
}

/* Each is a mistake of the test if the kernel refuses it anyway; some it does, to all but root. */
Test(sandbox, none_of_it_is_refused_outside_by_chance) {
    set_up();
    static const struct attempt open_ones[] = {
        {"read a file beside its own", read_secret, 0},
        {"make a file beside its own", write_beside, 0},
        {"a local socket", local_socket, 0},
        {"a netlink socket", netlink_socket, 0},
        {"bind another port", new_listener, 0},
        {"dial another port", dial_other, 0},
        {"fork", have_child, 0},
        {"signal its parent", signal_parent, 0},
        {"data to code", data_to_code, 0},
        {"a file in memory", memory_file, 0},
    };
    struct results *results = run_child(NULL, SANDBOX_OFF, open_ones, N_OF(open_ones));
    cr_expect_eq(results->rc, 0);
    check(results, open_ones, N_OF(open_ones));
    cr_expect_str_eq(results->report.text, "off: --sandbox off");
    tear_down();
}

Test(sandbox, leaves_what_a_daemon_needs) {
    if (!has_all()) cr_skip_test("this kernel has no Landlock, or the thread sanitizer runs");
    set_up();
    struct results *results = run_child(NULL, SANDBOX_REQUIRE, needed, N_OF(needed));
    cr_expect_eq(results->rc, 0, "%s", results->report.text);
    check(results, needed, N_OF(needed));
    tear_down();
}

Test(sandbox, dials_neighbours_only) {
    if (!has_all() || syscall(SYS_landlock_create_ruleset, NULL, 0, 1u) < 4) cr_skip_test("needs Landlock 4");
    set_up();
    static const struct attempt dials[] = {{"a neighbour", dial_neighbour, 0}, {"another", dial_other, EACCES}};
    check(run_child(NULL, SANDBOX_REQUIRE, dials, 2), dials, 2);
    tear_down();
}

Test(sandbox, changes_the_user_for_good) {
    if (geteuid() != 0) cr_skip_test("only root can change to another user");
    set_up();
    gid_t extra = 4;
    cr_assert_eq(setgroups(1, &extra), 0);
    struct sandbox_user user = {.given = true, .uid = 65534, .gid = 65534};
    static const struct attempt some[] = {{"keep files", keep_files, 0}, {"read /etc/shadow", read_shadow, EACCES}};
    struct results *results = run_child(&user, SANDBOX_OFF, some, 2);
    cr_expect_eq(results->rc, 0, "%s", results->report.text);
    check(results, some, 2);
    cr_expect_eq(results->uid, 65534u);
    cr_expect_eq(results->n_groups, 0);
    cr_expect_lt(results->root_again, 0);
    struct stat info;
    cr_expect(stat(place.control, &info) == 0 && info.st_uid == 65534);
    chmod(place.state, 0700); /* Root's: the user could keep nothing there. */
    results = run_child(&user, SANDBOX_OFF, NULL, 0);
    cr_expect_lt(results->rc, 0);
    cr_expect_not_null(strstr(results->report.text, "chown"), "%s", results->report.text);
    tear_down();
}

Test(sandbox, understands_users_and_modes) {
    struct sandbox_user user;
    cr_expect_eq(sandbox_mode_parse("require"), SANDBOX_REQUIRE);
    cr_expect_eq(sandbox_mode_parse("yes"), -1);
    cr_expect_eq(sandbox_user_parse("no-such-user", &user), -1);
    cr_expect_eq(sandbox_user_parse("0:no-such-group", &user), -1);
    cr_expect_eq(sandbox_user_parse("4294967295:1", &user), -1);
    cr_expect_eq(sandbox_user_parse("987654", &user), -1);
    if (geteuid() != 0) return;
    cr_expect(sandbox_user_parse("nobody", &user) == 0 && user.uid == 65534);
    cr_expect(sandbox_user_parse("987654:12", &user) == 0 && user.uid == 987654 && user.gid == 12);
}
