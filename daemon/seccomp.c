/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: a filter made from the table below lets through the system calls a running daemon makes; all others fail
 * with EPERM, and those that did not exist when the table was written with ENOSYS, so that a newer C library takes the
 * older way. Nothing is killed: a library that tries something gets an error it can handle.
 *
 * Failure modes: a kernel without filters, a machine the table is not written for (x86-64 and 64-bit ARM it is).
 *
 * Interface: Documentation/userspace-api/seccomp_filter.rst of Linux. */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox.h"

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__) && defined(__AARCH64EL__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#define ARCHITECTURE 0
#endif

#define FIRST_UNKNOWN 451 /* Linux 6.5 and later. */

/* One call, allowed if (argument & mask) == value. With mask 0 always; several rows of one call are alternatives. */
struct rule {
    int number;
    unsigned argument;
    uint32_t mask, value;
    bool wide; /* The argument's upper half must be zero. */
};

#define ANY(name)                                                                                                      \
    { .number = __NR_##name }
#define IF(name, i, bits, is)                                                                                          \
    { .number = __NR_##name, .argument = i, .mask = (bits), .value = (is) }
#define NULL_ARGUMENT(name, i)                                                                                         \
    { .number = __NR_##name, .argument = i, .mask = UINT32_MAX, .wide = true }

static const struct rule rules[] = {
    /* In and out. */
    ANY(read),
    ANY(write),
    ANY(readv),
    ANY(writev),
    ANY(pread64),
    ANY(pwrite64),
    ANY(preadv),
    ANY(pwritev),
    ANY(preadv2),
    ANY(pwritev2),
    ANY(close),
    ANY(close_range),
    ANY(lseek),
    ANY(dup),
    ANY(dup3),
    ANY(fcntl),
    ANY(pipe2),
    IF(ioctl, 1, UINT32_MAX, FIONBIO),
    IF(ioctl, 1, UINT32_MAX, FIONREAD),
    IF(ioctl, 1, UINT32_MAX, FIOCLEX),
    IF(ioctl, 1, UINT32_MAX, TCGETS),
    IF(ioctl, 1, UINT32_MAX, TIOCGWINSZ),
    /* Files: Landlock says which. */
    ANY(openat),
    ANY(fstat),
    ANY(newfstatat),
    ANY(statx),
    ANY(statfs),
    ANY(fstatfs),
    ANY(faccessat),
    ANY(faccessat2),
    ANY(getdents64),
    ANY(readlinkat),
    ANY(getcwd),
    ANY(ftruncate),
    ANY(truncate),
    ANY(fallocate),
    ANY(fadvise64),
    ANY(fsync),
    ANY(fdatasync),
    ANY(sync_file_range),
    ANY(unlinkat),
    ANY(renameat),
    ANY(renameat2),
    ANY(mkdirat),
    ANY(fchmod),
    ANY(fchown),
    ANY(utimensat),
    ANY(flock),
    ANY(umask),
    /* Waiting. */
    ANY(epoll_create1),
    ANY(epoll_ctl),
    ANY(epoll_pwait),
    ANY(eventfd2),
    ANY(timerfd_create),
    ANY(timerfd_settime),
    ANY(timerfd_gettime),
    ANY(signalfd4),
    ANY(ppoll),
    ANY(pselect6),
    ANY(nanosleep),
    ANY(clock_nanosleep),
    ANY(clock_gettime),
    ANY(clock_getres),
    ANY(gettimeofday),
    /* Sockets: connections, and questions to name servers; no new listeners, nothing of the machine's inside. */
    IF(socket, 0, UINT32_MAX, AF_INET),
    IF(socket, 0, UINT32_MAX, AF_INET6),
    ANY(connect),
    ANY(accept),
    ANY(accept4),
    ANY(getsockname),
    ANY(getpeername),
    ANY(getsockopt),
    ANY(setsockopt),
    ANY(shutdown),
    ANY(sendto),
    ANY(recvfrom),
    ANY(sendmsg),
    ANY(recvmsg),
    ANY(sendmmsg),
    ANY(recvmmsg),
    /* Memory: no page becomes code. What is mapped as code at once is a library, for a module of name services. */
    ANY(brk),
    IF(mmap, 2, PROT_EXEC, 0),
    IF(mmap, 2, PROT_EXEC | PROT_WRITE, PROT_EXEC),
    IF(mprotect, 2, PROT_EXEC, 0),
    ANY(munmap),
    ANY(mremap),
    ANY(madvise),
    ANY(msync),
    ANY(mincore),
    ANY(mlock),
    ANY(mlock2),
    ANY(munlock),
    /* Threads, not processes. (clone3 hides its flags: the C library takes clone instead.) */
    IF(clone, 0, CLONE_THREAD | CLONE_VM, CLONE_THREAD | CLONE_VM),
    ANY(futex),
    ANY(set_robust_list),
    ANY(get_robust_list),
    ANY(rseq),
    ANY(set_tid_address),
    ANY(exit),
    ANY(exit_group),
    ANY(sched_yield),
    ANY(sched_getaffinity),
    ANY(sched_getparam),
    ANY(sched_getscheduler),
    ANY(getpriority),
    IF(sched_setattr, 0, UINT32_MAX, 0), /* Its own; jobs.c. What needs a privilege is refused as ever. */
    ANY(getcpu),
    ANY(membarrier),
    IF(prctl, 0, UINT32_MAX, PR_SET_NAME),
    IF(prctl, 0, UINT32_MAX, PR_GET_NAME),
    IF(prctl, 0, UINT32_MAX, PR_GET_DUMPABLE),
    IF(prctl, 0, UINT32_MAX, PR_GET_NO_NEW_PRIVS),
    IF(prctl, 0, UINT32_MAX, PR_GET_SECCOMP),
    ANY(rt_sigaction),
    ANY(rt_sigprocmask),
    ANY(rt_sigreturn),
    ANY(rt_sigtimedwait),
    ANY(sigaltstack),
    ANY(restart_syscall),
    /* What it knows of itself. */
    ANY(getpid),
    ANY(getppid),
    ANY(gettid),
    ANY(getuid),
    ANY(geteuid),
    ANY(getgid),
    ANY(getegid),
    ANY(getgroups),
    ANY(getresuid),
    ANY(getresgid),
    ANY(getrusage),
    ANY(sysinfo),
    ANY(uname),
    ANY(times),
    ANY(getrandom),
    NULL_ARGUMENT(prlimit64, 2),
#if defined(__x86_64__) /* The older names of some of the above. */
    ANY(open),
    ANY(stat),
    ANY(lstat),
    ANY(access),
    ANY(readlink),
    ANY(unlink),
    ANY(rename),
    ANY(mkdir),
    ANY(rmdir),
    ANY(poll),
    ANY(select),
    ANY(epoll_create),
    ANY(epoll_wait),
    ANY(eventfd),
    ANY(pipe),
    ANY(dup2),
    ANY(getdents),
    ANY(getrlimit),
    ANY(time),
    ANY(utimes),
    ANY(arch_prctl),
#endif
};

/* Calls with an older way to do the same, which the C library and libuv take when told that they do not exist. */
static const int absent[] = {__NR_clone3, __NR_openat2, __NR_epoll_pwait2, __NR_io_uring_setup, __NR_process_madvise};

#define WORD(field) ((uint32_t)offsetof(struct seccomp_data, field))
#define LOW(i) ((uint32_t)(offsetof(struct seccomp_data, args) + 8 * (i))) /* Both machines are little-endian. */
#define INSTRUCTIONS_MAX 2048                                              /* The kernel takes 4096. */

struct program {
    struct sock_filter list[INSTRUCTIONS_MAX];
    unsigned short len;
};

static void add(struct program *program, unsigned code, uint8_t jump_true, uint8_t jump_false, uint32_t k) {
    program->list[program->len++] = (struct sock_filter){(uint16_t)code, jump_true, jump_false, k};
}

static void load(struct program *program, uint32_t offset) { add(program, BPF_LD | BPF_W | BPF_ABS, 0, 0, offset); }

static void give(struct program *program, uint32_t verdict) { add(program, BPF_RET | BPF_K, 0, 0, verdict); }

/* `skip`: how many instructions to leave out if the accumulator is not `k`. */
static void unless_equal(struct program *program, uint32_t k, uint8_t skip) {
    add(program, BPF_JMP | BPF_JEQ | BPF_K, 0, skip, k);
}

static void add_rule(struct program *program, const struct rule *rule) {
    if (rule->mask == 0) {
        unless_equal(program, (uint32_t)rule->number, 1);
        give(program, SECCOMP_RET_ALLOW);
        return;
    }
    unless_equal(program, (uint32_t)rule->number, rule->wide ? 7 : 5);
    if (rule->wide) {
        load(program, LOW(rule->argument) + 4);
        unless_equal(program, 0, 4);
    }
    load(program, LOW(rule->argument));
    add(program, BPF_ALU | BPF_AND | BPF_K, 0, 0, rule->mask);
    unless_equal(program, rule->value, 1);
    give(program, SECCOMP_RET_ALLOW);
    load(program, WORD(nr));
}

static void add_own_signals(struct program *program) { /* abort() */
    struct rule rule = {.number = __NR_tgkill, .argument = 0, .mask = UINT32_MAX, .value = (uint32_t)getpid()};
    add_rule(program, &rule);
}

int seccomp_enter(void) {
    static struct program program; /* Once a process; too large for a comfortable stack. */
    program.len = 0;
    if (ARCHITECTURE == 0) {
        errno = ENOTSUP;
        return -1;
    }
    load(&program, WORD(arch));
    add(&program, BPF_JMP | BPF_JEQ | BPF_K, 1, 0, ARCHITECTURE);
    give(&program, SECCOMP_RET_ERRNO | EPERM);
    load(&program, WORD(nr));
#if defined(__x86_64__)
    add(&program, BPF_JMP | BPF_JGE | BPF_K, 0, 1, 0x40000000); /* The x32 interface. */
    give(&program, SECCOMP_RET_ERRNO | EPERM);
#endif
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) add_rule(&program, &rules[i]);
    add_own_signals(&program);
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++) {
        unless_equal(&program, (uint32_t)absent[i], 1);
        give(&program, SECCOMP_RET_ERRNO | ENOSYS);
    }
    add(&program, BPF_JMP | BPF_JGE | BPF_K, 0, 1, FIRST_UNKNOWN);
    give(&program, SECCOMP_RET_ERRNO | ENOSYS);
    give(&program, SECCOMP_RET_ERRNO | EPERM);
    struct sock_fprog filter = {.len = program.len, .filter = program.list};
    return (int)syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter);
}
_Static_assert((sizeof rules / sizeof rules[0] + 1) * 8 + sizeof absent / sizeof absent[0] * 2 + 16 < INSTRUCTIONS_MAX,
               "a rule is at most eight instructions");
