/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: options are read, the configuration is loaded and checked, the daemon runs in the foreground until it is
 * told to stop; status 0. The other uses are filters and checks that need no network.
 *
 * Failure modes: a wrong option or configuration is status 2, with what is wrong and what is valid; what fails while
 * running is status 1; a second signal while stopping is 128 plus its number. */
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "build.h"
#include "config.h"
#include "daemon.h"

#define STATUS_RUNTIME 1
#define STATUS_USAGE 2
#define KEY_TEXT_BYTES sodium_base64_ENCODED_LEN(32, sodium_base64_VARIANT_ORIGINAL)

static const char help[] =
    "qnetd - one node of an emulated quantum network\n"
    "\n"
    "  qnetd --topology FILE --node NAME [options]   run a node in the foreground\n"
    "  qnetd --check FILE                            check a topology file\n"
    "  qnetd genkey                                  write a new private key\n"
    "  qnetd pubkey                                  read a private key, write its public key\n"
    "\n"
    "Options\n"
    "  -t, --topology FILE    the network, in YAML; the same file for every node\n"
    "  -n, --node NAME        which of its nodes this is\n"
    "  -i, --identity FILE    private key of the node (default: identity.key in the state directory)\n"
    "  -s, --state DIR        directory for what belongs to this node\n"
    "  -c, --control SOCKET   control socket (default: control.sock in the state directory, else\n"
    "                         $RUNTIME_DIRECTORY/NAME.sock, else $XDG_RUNTIME_DIR/qnetd-NAME.sock)\n"
    "  -b, --bind HOST        listen on this address instead of the topology's (0.0.0.0 in a container)\n"
    "      --connection-rate N    connections an address may make in a second, 0 for any number (20)\n"
    "      --user NAME[:GROUP] once all is open, go on as this user (only root can)\n"
    "      --sandbox S        on: as much as the kernel has; require: all or nothing; off (on)\n"
    "      --log-format F     auto, human or json (auto: human on a terminal)\n"
    "      --log-level L      debug, info, warning or error (info)\n"
    "      --check FILE       check the file and exit\n"
    "  -V, --version          show the version and exit\n"
    "  -h, --help             show this and exit\n"
    "\n"
    "Signals: SIGTERM and SIGINT stop the node in an orderly way, a second one at once; SIGHUP takes\n"
    "new initial secrets and checks the topology file again. Exit status: 0 ok, 1 runtime error, 2 usage or\n"
    "configuration.\n";

static int genkey(void) {
    uint8_t key[32];
    char text[KEY_TEXT_BYTES];
    struct stat out;
    if (fstat(STDOUT_FILENO, &out) == 0 && S_ISREG(out.st_mode) && (out.st_mode & 077) != 0)
        fputs("qnetd: warning: others can read this file; use (umask 077; qnetd genkey > FILE)\n", stderr);
    randombytes_buf(key, sizeof key);
    key[0] &= 248; /* Clamped, as Curve25519 does itself: two files that differ are two keys. */
    key[31] = (uint8_t)((key[31] & 127) | 64);
    sodium_bin2base64(text, sizeof text, key, sizeof key, sodium_base64_VARIANT_ORIGINAL);
    int rc = puts(text) < 0 || fflush(stdout) != 0;
    sodium_memzero(key, sizeof key);
    sodium_memzero(text, sizeof text);
    return rc ? STATUS_RUNTIME : 0;
}

static int pubkey(void) {
    uint8_t private_key[32], public_key[32];
    char text[256];
    size_t n = fread(text, 1, sizeof text, stdin);
    int rc = config_parse_key(text, n, private_key);
    sodium_memzero(text, sizeof text);
    if (rc < 0) {
        fputs("qnetd: not a private key (32 bytes in base64 or hexadecimal, as `qnetd genkey` writes)\n", stderr);
        return STATUS_USAGE;
    }
    crypto_scalarmult_base(public_key, private_key);
    sodium_memzero(private_key, sizeof private_key);
    sodium_bin2base64(text, sizeof text, public_key, sizeof public_key, sodium_base64_VARIANT_ORIGINAL);
    return puts(text) < 0 || fflush(stdout) != 0 ? STATUS_RUNTIME : 0;
}

static int check(const char *path) {
    struct qn_topology topology = {0};
    if (config_read_topology(path, &topology, NULL) < 0) return STATUS_USAGE;
    printf("%s: ok: network %s, %zu nodes, %zu links\n", path, topology.name, topology.n_nodes, topology.n_links);
    qn_topology_release(&topology);
    return 0;
}

static int usage_error(const char *what, const char *argument) {
    fprintf(stderr, "qnetd: %s%s\nTry 'qnetd --help'.\n", what, argument);
    return STATUS_USAGE;
}

enum {
    OPTION_CHECK = 256,
    OPTION_LOG_FORMAT,
    OPTION_LOG_LEVEL,
    OPTION_CONNECTION_RATE,
    OPTION_SANDBOX,
    OPTION_USER,
};

static const struct option long_options[] = {
    {"topology", required_argument, NULL, 't'},
    {"node", required_argument, NULL, 'n'},
    {"identity", required_argument, NULL, 'i'},
    {"state", required_argument, NULL, 's'},
    {"control", required_argument, NULL, 'c'},
    {"bind", required_argument, NULL, 'b'},
    {"version", no_argument, NULL, 'V'},
    {"help", no_argument, NULL, 'h'},
    {"check", required_argument, NULL, OPTION_CHECK},
    {"log-format", required_argument, NULL, OPTION_LOG_FORMAT},
    {"log-level", required_argument, NULL, OPTION_LOG_LEVEL},
    {"connection-rate", required_argument, NULL, OPTION_CONNECTION_RATE},
    {"sandbox", required_argument, NULL, OPTION_SANDBOX},
    {"user", required_argument, NULL, OPTION_USER},
    {NULL, 0, NULL, 0},
};

static bool parse_rate(const char *text, double *ret_rate) {
    char *end;
    double rate = strtod(text, &end);
    if (end == text || *end != '\0' || !(rate >= 0 && rate <= 1e6)) return false;
    *ret_rate = rate;
    return true;
}

/* -1: run the node with `options`; else the exit status. */
static int parse_options(int argc, char **argv, struct options *options) {
    int option, value;
    while ((option = getopt_long(argc, argv, "t:n:i:s:c:b:Vh", long_options, NULL)) != -1) {
        switch (option) {
        case 't':
            options->topology_path = optarg;
            break;
        case 'n':
            options->node = optarg;
            break;
        case 'i':
            options->identity_path = optarg;
            break;
        case 's':
            options->state_path = optarg;
            break;
        case 'c':
            options->control_path = optarg;
            break;
        case 'b':
            options->bind_host = optarg;
            break;
        case OPTION_CHECK:
            return check(optarg);
        case OPTION_LOG_FORMAT:
            value = log_format_parse(optarg);
            if (value < 0) return usage_error("--log-format is auto, human or json, not ", optarg);
            options->log_format = (enum log_format)value;
            break;
        case OPTION_LOG_LEVEL:
            value = log_level_parse(optarg);
            if (value < 0) return usage_error("--log-level is debug, info, warning or error, not ", optarg);
            options->log_level = (enum log_level)value;
            break;
        case OPTION_CONNECTION_RATE:
            if (!parse_rate(optarg, &options->connection_rate))
                return usage_error("--connection-rate is a number from 0 to 1000000, not ", optarg);
            break;
        case OPTION_SANDBOX:
            value = sandbox_mode_parse(optarg);
            if (value < 0) return usage_error("--sandbox is on, off or require, not ", optarg);
            options->sandbox = (enum sandbox_mode)value;
            break;
        case OPTION_USER:
            if (sandbox_user_parse(optarg, &options->user) < 0) return STATUS_USAGE;
            break;
        case 'V':
            puts(DAEMON_SOFTWARE " (" QN_BUILD ")");
            return 0;
        case 'h':
            fputs(help, stdout);
            return 0;
        default:
            return usage_error("that is not how it is called", "");
        }
    }
    if (optind < argc) return usage_error("unexpected argument ", argv[optind]);
    if (options->topology_path == NULL) return usage_error("--topology FILE is missing", "");
    if (options->node == NULL) return usage_error("--node NAME is missing", "");
    return -1;
}

/* No core file, and no debugger of another process, may hold our keys. */
static void protect_process(void) {
    struct rlimit none = {0};
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0);
    signal(SIGPIPE, SIG_IGN);
}

/* A standard stream that was closed would be the first file or socket opened here, and what is written to it with it.
 */
static void fill_standard_streams(void) {
    int fd;
    do fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0) close(fd);
}

/* Blocks of keys work on buffers of megabytes, again and again: keep them, rather than ask the kernel for new pages
 * each time. An idle daemon has none. */
static void keep_memory(void) {
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 64 << 20);
}

/* As many threads for computations as there are processors: more would only take turns on them. */
static void size_thread_pool(void) {
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    char text[16];
    snprintf(text, sizeof text, "%ld", n < 2 ? 2 : n > 64 ? 64 : n);
    setenv("UV_THREADPOOL_SIZE", text, 0);
}

int main(int argc, char **argv) {
    struct options options = {.log_level = LOG_INFO, .connection_rate = LISTENER_RATE};
    static struct config config; /* Holds the private key: on a page of its own, as far as it can be had. */
    fill_standard_streams();
    if (sodium_init() < 0) {
        fputs("qnetd: no source of random numbers\n", stderr);
        return STATUS_RUNTIME;
    }
    if (argc == 2 && strcmp(argv[1], "genkey") == 0) return genkey();
    if (argc == 2 && strcmp(argv[1], "pubkey") == 0) return pubkey();
    int status = parse_options(argc, argv, &options);
    if (status >= 0) return status;
    protect_process();
    keep_memory();
    size_thread_pool();
    sodium_mlock(&config, sizeof config); /* Never on a disk; where the limit forbids it, as before. */
    if (config_load(&options, &config) < 0) return STATUS_USAGE;
    status = daemon_run(&config);
    config_release(&config);
    return status;
}
