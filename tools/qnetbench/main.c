/* SPDX-License-Identifier: Apache-2.0 */
/* qnetbench measures the hot paths and prints a row each.
 *
 * Happy path: this process, the keeper, makes a folder and forks the worker; the worker measures and prints; the keeper
 * waits for it, takes down whatever lab is left and removes the folder.
 *
 * Failure modes: a benchmark that fails says why, the others run, the status is 1. A worker that crashes, or a signal
 * to the keeper: the worker and the tools it runs are ended, then labs and folder go as always. Daemons whose starter
 * has ended become the keeper's children, so that none is a zombie when it is looked for. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

static const struct {
    const char *name;
    int (*run)(struct bench *bench);
    const char *what;
} benches[] = {
    {"echo", bench_echo, "libuv TCP echo between two processes: the yardstick"},
    {"start", bench_start, "two daemons from nothing to ready; memory of an idle one"},
    {"pairs", bench_pairs, "pairs of one link, measured at both ends: in bulk, and one at a time"},
    {"chain", bench_chain, "pairs over 1 and 3 repeaters"},
    {"teleport", bench_teleport, "teleportations in bulk, and one at a time"},
    {"remote", bench_remote, "measuring a qubit whose state another node keeps"},
    {"bb84", bench_bb84, "secret keys from single photons"},
    {"qkd", bench_qkd, "keys of published links at 0 to 100 km, as a multiple of real time"},
    {"qkd-links", bench_qkd_links, "memory and rate of a node with 1 to 8 links, and with blocks of 10^6 to 10^8 bits"},
    {"store", bench_store, "keys made durable"},
    {"sim", bench_sim, "qnetsim: three nodes in this process"},
    {"engine", bench_engine, "arithmetic of quantum states"},
    {"photons", bench_photons, "clicks of published links, and lookups of what was sent"},
    {"reconcile", bench_reconcile, "reconciliation: Cascade and LDPC at error rates from 0.5 to 8 %"},
    {"amplify", bench_amplify, "privacy amplification of 10^6 to 10^8 bits"},
    {"mac", bench_mac, "authentication of transcripts"},
    {"noise", bench_noise, "encryption of frames"},
};
enum { N_BENCHES = sizeof benches / sizeof benches[0] };

static void print_help(void) {
    printf("usage: qnetbench [--seconds S] [--json] [NAME...]\n"
           "Measures the hot paths of qnetd and prints a row each.\n"
           "  --seconds S      about how long each row is measured (default 2)\n"
           "  --json           a JSON object a line\n"
           "  --qnetctl PATH   default: beside this program, or where the build puts it\n"
           "  --help, --version\n"
           "NAME is one of (default: all):\n");
    for (int i = 0; i < N_BENCHES; i++) printf("  %-10s %s\n", benches[i].name, benches[i].what);
}

/* ---- worker ---- */

static bool is_wanted(const char *name, char *const *names) {
    if (*names == NULL) return true;
    for (; *names != NULL; names++)
        if (strcmp(*names, name) == 0) return true;
    return false;
}

static _Noreturn void work(struct bench *bench, char *const *names) {
    int status = 0;
    for (int i = 0; i < N_BENCHES; i++) {
        if (!is_wanted(benches[i].name, names) || benches[i].run(bench) == 0) continue;
        fprintf(stderr, "qnetbench: error: %s: %s\n", benches[i].name, bench->error);
        status = 1;
    }
    exit(status);
}

/* ---- keeper ---- */

static volatile sig_atomic_t caught;
static volatile pid_t worker_group;

static void on_signal(int number) {
    caught = number;
    if (worker_group > 0) kill(-worker_group, SIGTERM); /* qnetctl takes down what it is starting. */
}

static void catch_signals(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

/* Until the worker and all that it ran have ended; the worker's status. */
static int await_worker(pid_t worker) {
    int how, status = 1;
    for (;;) {
        pid_t pid = waitpid(-1, &how, 0); /* Daemons that ended are among them. */
        if (pid < 0 && errno == EINTR) continue;
        if (pid == worker || pid < 0) break;
    }
    if (WIFEXITED(how))
        status = WEXITSTATUS(how);
    else if (caught == 0)
        fprintf(stderr, "qnetbench: error: the worker was ended by signal %d\n", WTERMSIG(how));
    kill(-worker, SIGTERM);
    while (waitpid(-worker, NULL, 0) > 0 || errno == EINTR) continue;
    return status;
}

static void take_labs_down(const struct bench *bench) {
    char labs[PATH_MAX];
    snprintf(labs, sizeof labs, "%s/qnetd-%u/labs", bench->directory, (unsigned)geteuid());
    if (access(labs, F_OK) < 0) return;
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);
        if (null >= 0) dup2(null, 1);
        setpgid(0, 0); /* Signals from the terminal do not reach it. */
        execl(bench->qnetctl, "qnetctl", "lab", "down", "--all", NULL);
        _exit(127);
    }
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR) continue;
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *walk) {
    (void)info, (void)type, (void)walk;
    return remove(path);
}

static int keep(struct bench *bench, char *const *names) {
    char directory[] = "/tmp/qnetbench-XXXXXX"; /* Short: sockets' paths have little room. */
    if (mkdtemp(directory) == NULL) {
        fprintf(stderr, "qnetbench: error: %s: %s\n", directory, strerror(errno));
        return 1;
    }
    bench->directory = directory;
    setenv("XDG_RUNTIME_DIR", directory, 1);
    catch_signals();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    fflush(NULL);
    pid_t worker = fork();
    if (worker == 0) {
        setpgid(0, 0);
        signal(SIGINT, SIG_DFL);
        signal(SIGTERM, SIG_DFL);
        signal(SIGHUP, SIG_DFL);
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        work(bench, names);
    }
    int status = 1;
    if (worker > 0) {
        setpgid(worker, worker); /* Whoever is first. */
        worker_group = worker;
        if (caught != 0) kill(-worker, SIGTERM);
        status = await_worker(worker);
        worker_group = 0;
    }
    take_labs_down(bench);
    nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return caught != 0 ? 128 + caught : status;
}

/* ---- arguments ---- */

static bool find_qnetctl(const char *given, char ret_path[PATH_MAX]) {
    char self[PATH_MAX], path[PATH_MAX + 32];
    static const char *const places[] = {"qnetctl", "../qnetctl/qnetctl"};
    if (given != NULL) return realpath(given, ret_path) != NULL && access(ret_path, X_OK) == 0;
    ssize_t len = readlink("/proc/self/exe", self, sizeof self);
    while (len > 0 && self[len - 1] != '/') len--;
    for (size_t i = 0; i < sizeof places / sizeof places[0] && len > 0; i++) {
        struct stat info;
        snprintf(path, sizeof path, "%.*s%s", (int)len, self, places[i]);
        if (stat(path, &info) == 0 && S_ISREG(info.st_mode) && realpath(path, ret_path) != NULL) return true;
    }
    return false;
}

static bool are_names(char *const *names) {
    for (; *names != NULL; names++) {
        bool known = false;
        for (int i = 0; i < N_BENCHES; i++) known |= strcmp(*names, benches[i].name) == 0;
        if (known) continue;
        fprintf(stderr, "qnetbench: error: there is no benchmark \"%s\"; see --help\n", *names);
        return false;
    }
    return true;
}

int main(int argc, char **argv) {
    static const struct option options[] = {{"seconds", required_argument, NULL, 's'}, {"json", no_argument, NULL, 'j'},
                                            {"qnetctl", required_argument, NULL, 'q'}, {"help", no_argument, NULL, 'h'},
                                            {"version", no_argument, NULL, 'v'},       {0}};
    struct bench bench = {.seconds = 2};
    char qnetctl[PATH_MAX], *end;
    const char *given = NULL;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 's':
            bench.seconds = strtod(optarg, &end);
            if (end != optarg && *end == '\0' && bench.seconds >= 0.01 && bench.seconds <= 3600) break;
            fprintf(stderr, "qnetbench: error: --seconds is 0.01 to 3600\n");
            return 2;
        case 'j':
            bench.json = true;
            break;
        case 'q':
            given = optarg;
            break;
        case 'h':
            print_help();
            return 0;
        case 'v':
            printf("qnetbench %s\n", QN_VERSION);
            return 0;
        default:
            return 2;
        }
    }
    if (!are_names(argv + optind)) return 2;
    if (!find_qnetctl(given, qnetctl)) {
        fprintf(stderr, "qnetbench: error: the program qnetctl is not found; name it: --qnetctl PATH\n");
        return 2;
    }
    if (sodium_init() < 0) return 1;
    bench.qnetctl = qnetctl;
    return keep(&bench, argv + optind);
}
