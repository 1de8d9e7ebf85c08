/* SPDX-License-Identifier: Apache-2.0 */
/* Random networks with random work and faults, one for each seed. The first line that fails says how to repeat it. */
#include <getopt.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "canaries.h"
#include "chaos.h"

static const char usage[] =
    "usage: chaos [options]\n"
    "  --seed N         the first seed (default 1)\n"
    "  --runs N         so many seeds (default 1)\n"
    "  --minutes M      or until so much time has passed\n"
    "  --intensity I    0: no faults, to 3: many (default: drawn from the seed)\n"
    "  --without KIND   no faults of this kind (may be repeated): break slow delay cut eve "
    "crash restart pause declare disk\n"
    "  --trace          print what happens\n"
    "  --twice          run each seed twice: the traces must be equal\n"
    "  --keep-going     each seed in a process of its own; count the failures\n"
    "  --canaries[=N]   for each seeded bug, look for a seed that finds it (in a build that has them)\n"
    "  --help\n";

static char repeat[256]; /* What to print when this process is about to end badly. */

static void on_abort(int signal_number) {
    if (write(STDERR_FILENO, repeat, strlen(repeat)) < 0) _exit(2);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static double seconds_since(const struct timespec *before) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - before->tv_sec) + 1e-9 * (double)(now.tv_nsec - before->tv_nsec);
}

static void one(const struct chaos_options *options, bool twice, struct stats *stats) {
    uint64_t trace, again;
    char intensity[32] = "", without[128] = "";
    for (int i = 0; i < FAULT_KINDS; i++)
        if ((options->without & 1u << i) != 0)
            snprintf(without + strlen(without), sizeof without - strlen(without), " --without %s", fault_names[i]);
    if (options->intensity >= 0) snprintf(intensity, sizeof intensity, " --intensity %d", options->intensity);
    snprintf(repeat, sizeof repeat, "chaos: FAILED; repeat with: chaos --seed %llu%s%s --trace\n",
             (unsigned long long)options->seed, intensity, without);
    chaos_run(options, stats, &trace);
    if (!twice) return;
    struct stats unused = {0};
    chaos_run(options, &unused, &again);
    if (again == trace) return;
    fprintf(stderr, "chaos: two runs of one seed differ\n");
    abort();
}

static bool in_child(const struct chaos_options *options, bool twice, struct stats *stats) {
    int ends[2];
    if (pipe(ends) < 0) abort();
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        one(options, twice, stats);
        if (write(ends[1], stats, sizeof *stats) < 0) _exit(2);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    bool done = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (done && read(ends[0], stats, sizeof *stats) != (ssize_t)sizeof *stats) abort();
    close(ends[0]);
    close(ends[1]);
    return done;
}

/* Without a word: only whether it fails. */
static bool fails(const struct chaos_options *options, int canary) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        struct stats stats = {0};
        uint64_t trace;
        if (freopen("/dev/null", "w", stderr) == NULL) _exit(0);
        signal(SIGABRT, SIG_DFL);
        signal(SIGSEGV, SIG_DFL);
        alarm(20); /* It may go on for ever. */
        canary_choose(canary);
        chaos_run(options, &stats, &trace);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

static int find_canaries(struct chaos_options options, unsigned long long runs, int only) {
    int missed = 0;
    uint64_t first = options.seed;
    printf("TAP version 13\n1..%d\n", only != 0 ? 1 : CANARIES);
    for (int canary = 1; canary <= CANARIES; canary++) {
        bool found = false;
        if (only != 0 && canary != only) continue;
        for (options.seed = first; !found && options.seed < first + runs; options.seed++)
            found = fails(&options, canary) && !fails(&options, 0);
        if (!found) missed++;
        printf("%s %d - seeded bug %d", found ? "ok" : "not ok", canary, canary);
        if (found)
            printf(" is found by seed %llu\n", (unsigned long long)(options.seed - 1));
        else
            printf(" is not found by %llu seeds\n", runs);
    }
    return missed > 0 ? 1 : 0;
}

static void print_stats(const struct stats *stats, double took) {
    static const char *const asks[ASK_KINDS] = {"keep", "measure", "teleport", "bb84",  "gate",  "discard",
                                                "list", "wait",    "key",      "fault", "cancel"};
    printf("%llu networks in %.1f s: %.0f a minute, %llu node events, %llu s emulated\nfaults:",
           (unsigned long long)stats->runs, took, (double)stats->runs / took * 60, (unsigned long long)stats->steps,
           (unsigned long long)stats->emulated_s);
    for (int i = 0; i < FAULT_KINDS; i++) printf(" %s %llu", fault_names[i], (unsigned long long)stats->faults[i]);
    printf("\nrequests (of them failed):");
    for (int i = 0; i < ASK_KINDS; i++)
        printf(" %s %llu (%llu)", asks[i], (unsigned long long)stats->asked[i], (unsigned long long)stats->failed[i]);
    printf("; died with their node %llu\nfenced %llu, learnt of a death late %llu\nmade: %llu pairs, %llu states "
           "teleported, %llu keys\n",
           (unsigned long long)stats->unanswered, (unsigned long long)stats->fenced, (unsigned long long)stats->late,
           (unsigned long long)stats->pairs, (unsigned long long)stats->states, (unsigned long long)stats->keys);
}

static bool add_kind(unsigned *kinds, const char *name) {
    for (unsigned i = 0; i < FAULT_KINDS; i++)
        if (strcmp(name, fault_names[i]) == 0) {
            *kinds |= 1u << i;
            return true;
        }
    fprintf(stderr, "chaos: unknown kind of fault: %s\n", name);
    return false;
}

int main(int argc, char **argv) {
    static const struct option known[] = {{"seed", required_argument, NULL, 's'},
                                          {"runs", required_argument, NULL, 'r'},
                                          {"minutes", required_argument, NULL, 'm'},
                                          {"intensity", required_argument, NULL, 'i'},
                                          {"trace", no_argument, NULL, 't'},
                                          {"without", required_argument, NULL, 'w'},
                                          {"twice", no_argument, NULL, '2'},
                                          {"keep-going", no_argument, NULL, 'k'},
                                          {"canaries", optional_argument, NULL, 'c'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    struct chaos_options options = {.seed = 1, .intensity = -1};
    unsigned long long runs = 1;
    double minutes = 0;
    int canary = 0;
    bool twice = false, keep_going = false, canaries = false;
    for (int c; (c = getopt_long(argc, argv, "h", known, NULL)) != -1;) {
        switch (c) {
        case 's':
            options.seed = strtoull(optarg, NULL, 0);
            break;
        case 'r':
            runs = strtoull(optarg, NULL, 0);
            break;
        case 'm':
            minutes = strtod(optarg, NULL);
            runs = UINT64_MAX;
            break;
        case 'i':
            options.intensity = atoi(optarg);
            break;
        case 'w':
            if (!add_kind(&options.without, optarg)) return 2;
            break;
        case 't':
            options.trace = true;
            break;
        case '2':
            twice = true;
            break;
        case 'c':
            canaries = true;
            canary = optarg != NULL ? atoi(optarg) : 0;
            break;
        case 'k':
            keep_going = true;
            break;
        default:
            fputs(usage, c == 'h' ? stdout : stderr);
            return c == 'h' ? 0 : 2;
        }
    }
    if (sodium_init() < 0) return 2;
    if (canaries) return find_canaries(options, runs, canary);
    signal(SIGABRT, on_abort);
    signal(SIGSEGV, on_abort);
    struct stats stats = {0};
    struct timespec before;
    clock_gettime(CLOCK_MONOTONIC, &before);
    unsigned long long failed = 0;
    for (unsigned long long i = 0; i < runs && (minutes == 0 || seconds_since(&before) < minutes * 60);
         i++, options.seed++) {
        if (!keep_going)
            one(&options, twice, &stats);
        else if (!in_child(&options, twice, &stats))
            failed++;
    }
    print_stats(&stats, seconds_since(&before));
    if (failed > 0) printf("%llu seeds failed\n", failed);
    return failed > 0 ? 1 : 0;
}
