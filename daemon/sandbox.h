/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_DAEMON_SANDBOX_H
#define QN_DAEMON_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What the process gives up once everything is open, so that whoever takes it over gets little: the user root, all
 * capabilities, files but its own, new listening ports, other programs, other system calls. A child of nothing: no
 * thread may have been started before (Landlock binds the calling thread and those it starts). */

enum sandbox_mode {
    SANDBOX_ON, /* As much as the kernel has. */
    SANDBOX_OFF,
    SANDBOX_REQUIRE, /* All of it, or the daemon does not start. */
};

struct sandbox_user {
    bool given;
    uid_t uid;
    gid_t gid;
};

/* What the process still needs. Paths may be NULL or "". */
struct sandbox_plan {
    enum sandbox_mode mode;
    const struct sandbox_user *user;
    const char *state_path;    /* Everything below may be read, written and removed. */
    const char *control_path;  /* The socket: given to the user, and may be removed from its folder. */
    const char *topology_path; /* May be read again. */
    const uint16_t *ports;     /* TCP ports that may be dialled, besides that of name servers. */
    size_t n_ports;
};

struct sandbox_report {
    bool no_new_privs, seccomp;
    int landlock;   /* Version of its interface; 0: none. */
    char text[160]; /* For people: "no new privileges, landlock 7, seccomp", "off: --sandbox off". */
};

/* "on", "off", "require": the mode, or -1. */
int sandbox_mode_parse(const char *name);

/* "NAME" or "NAME:GROUP", or numbers. 0, or -1 with an error on standard error. */
int sandbox_user_parse(const char *text, struct sandbox_user *ret_user);

/* Enters it. There is no way back. 0; else -QN_ESYSTEM, with what is missing in ret_report->text: the user cannot be
 * changed, or something is missing that SANDBOX_REQUIRE asks for. */
int sandbox_enter(const struct sandbox_plan *plan, struct sandbox_report *ret_report);

/* The parts, each 0 or -1 with errno. landlock_enter returns the version of the interface; -1 with ENOSYS or EOPNOTSUPP
 * if the kernel has none. */
int landlock_enter(const struct sandbox_plan *plan);
int seccomp_enter(void);

#endif
