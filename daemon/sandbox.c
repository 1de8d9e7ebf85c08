/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: the control socket is given to the user, supplementary groups, group and user are changed, all
 * capabilities go, then no_new_privs, Landlock and seccomp, in this order: each makes the next irrevocable.
 *
 * Failure modes: a user that cannot be changed to, or that cannot write the state directory, ends the start. A kernel
 * without Landlock or seccomp is said so in the log, and ends the start only if all was required. */
#include "sandbox.h"

#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"

/* The sanitizers' runtimes look into the process and start helpers. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define IS_SANITIZED true
#endif
#endif
#ifndef IS_SANITIZED
#define IS_SANITIZED false
#endif

int sandbox_mode_parse(const char *name) {
    static const char *const names[] = {"on", "off", "require"};
    for (int i = 0; i < 3; i++)
        if (strcmp(name, names[i]) == 0) return i;
    return -1;
}

/* --- The user --- */

static bool parse_number(const char *text, unsigned *ret_value) {
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 || value >= UINT32_MAX) return false;
    *ret_value = (unsigned)value;
    return true;
}

int sandbox_user_parse(const char *text, struct sandbox_user *ret_user) {
    struct sandbox_user user = {.given = true};
    char name[64];
    size_t len = strcspn(text, ":");
    const char *group_name = text[len] == ':' ? text + len + 1 : NULL;
    unsigned number = 0;
    snprintf(name, sizeof name, "%.*s", (int)len, text);
    bool is_number = parse_number(name, &number);
    const struct passwd *passwd = is_number ? getpwuid(number) : getpwnam(name);
    if (passwd == NULL && (!is_number || group_name == NULL)) {
        fprintf(stderr,
                is_number ? "qnetd: --user: %s has no group of its own; give one: %s:GROUP\n"
                          : "qnetd: --user: there is no user %s; make one: useradd --system %s\n",
                name, name);
        return -1;
    }
    user.uid = passwd != NULL ? passwd->pw_uid : number;
    user.gid = passwd != NULL ? passwd->pw_gid : 0;
    if (group_name != NULL && parse_number(group_name, &number)) {
        user.gid = number;
    } else if (group_name != NULL) {
        const struct group *group = getgrnam(group_name);
        if (group == NULL) {
            fprintf(stderr, "qnetd: --user: there is no group %s\n", group_name);
            return -1;
        }
        user.gid = group->gr_gid;
    }
    if (geteuid() != 0 && (user.uid != geteuid() || user.gid != getegid())) {
        fputs("qnetd: --user: only root can change to another user\n", stderr);
        return -1;
    }
    *ret_user = user;
    return 0;
}

static int fail(struct sandbox_report *report, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(report->text, sizeof report->text, format, args);
    va_end(args);
    return -QN_ESYSTEM;
}

static int change_user(const struct sandbox_plan *plan, struct sandbox_report *report) {
    const struct sandbox_user *user = plan->user;
    if (user == NULL || !user->given || geteuid() != 0) return 0;
    if (plan->control_path != NULL && *plan->control_path != '\0' &&
        chown(plan->control_path, user->uid, user->gid) < 0)
        return fail(report, "the control socket cannot be given to user %u: %s", user->uid, strerror(errno));
    if (setgroups(0, NULL) < 0 || setresgid(user->gid, user->gid, user->gid) < 0 ||
        setresuid(user->uid, user->uid, user->uid) < 0)
        return fail(report, "cannot change to user %u: %s", user->uid, strerror(errno));
    if (user->uid != 0 && setuid(0) == 0) return fail(report, "the user root can be had back");
    prctl(PR_SET_DUMPABLE, 0); /* Another user: the kernel may have set it anew. */
    if (plan->state_path != NULL && access(plan->state_path, R_OK | W_OK | X_OK) < 0)
        return fail(report, "user %u cannot use the state directory %s; chown it", user->uid, plan->state_path);
    return 0;
}

/* Root keeps its files, but is no longer above the rules. */
static int drop_capabilities(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}}, have[2];
    for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; capability++)
        prctl(PR_CAPBSET_DROP, capability); /* Needs a capability itself; without one, there is nothing to drop. */
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (syscall(SYS_capget, &header, have) == 0 && memcmp(have, none, sizeof have) == 0) return 0;
    return (int)syscall(SYS_capset, &header, none);
}

/* --- All of it --- */

static int count_threads(void) {
    DIR *directory = opendir("/proc/self/task");
    int n = -2; /* "." and "..". */
    if (directory == NULL) return 1;
    while (readdir(directory) != NULL) n++;
    closedir(directory);
    return n;
}

static void say(struct sandbox_report *report, const char *format, ...) {
    size_t len = strlen(report->text);
    va_list args;
    va_start(args, format);
    vsnprintf(report->text + len, sizeof report->text - len, format, args);
    va_end(args);
}

int sandbox_enter(const struct sandbox_plan *plan, struct sandbox_report *ret_report) {
    struct sandbox_report *report = ret_report;
    *report = (struct sandbox_report){.landlock = 0};
    int rc = change_user(plan, report);
    if (rc < 0) return rc;
    if (plan->mode == SANDBOX_OFF || (plan->mode == SANDBOX_ON && IS_SANITIZED)) {
        say(report, "off: %s", plan->mode == SANDBOX_OFF ? "--sandbox off" : "built with a sanitizer");
        return 0;
    }
    if (drop_capabilities() < 0) return fail(report, "cannot give up capabilities: %s", strerror(errno));
    report->no_new_privs = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
    say(report, "%s", report->no_new_privs ? "no new privileges" : "cannot give up new privileges");
    int n_threads = count_threads(), version = n_threads == 1 ? landlock_enter(plan) : -1;
    report->landlock = version > 0 ? version : 0;
    if (version > 0)
        say(report, ", landlock %d", version);
    else
        say(report, ", no landlock (%s)", n_threads != 1 ? "threads run already" : strerror(errno));
    report->seccomp = seccomp_enter() == 0;
    if (report->seccomp)
        say(report, ", seccomp");
    else
        say(report, ", no seccomp (%s)", strerror(errno));
    bool is_whole = report->no_new_privs && report->landlock > 0 && report->seccomp;
    return plan->mode == SANDBOX_REQUIRE && !is_whole ? -QN_ESYSTEM : 0;
}
