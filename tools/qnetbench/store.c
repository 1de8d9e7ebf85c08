/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's key store on this machine's disk, with stand-ins for the rest of the daemon. */
#include "store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "daemon.h"

#define KEY_BYTES 32

static struct daemon daemon_;
static const char *directory;
static uint64_t confirmed;

void log_write(struct log *log, enum log_level level, const char *code, const char *subject, const char *format, ...) {
    (void)log, (void)level, (void)subject, (void)format;
    fprintf(stderr, "qnetbench: %s\n", code);
}

void daemon_fatal(struct daemon *daemon, const char *why) {
    (void)daemon, (void)why;
    abort();
}

int daemon_event(struct daemon *daemon, const struct qn_event *event) {
    (void)daemon;
    confirmed = event->number;
    return 0;
}

const char *config_state_directory(const struct options *options) {
    (void)options;
    return directory;
}

/* Stores keys of 256 bits, `ahead` of them not yet confirmed at a time; keys a second. */
static double rate(struct store *store, double seconds, uint64_t ahead, uint64_t *number) {
    uint8_t key[KEY_BYTES] = {0};
    struct qn_store_record record = {
        .peer = 1, .purpose = QN_STORE_KEY, .state = QN_STORE_HELD, .len = KEY_BYTES, .qber = 0.01};
    uint64_t first = *number;
    double start_s = bench_now_s();
    while (bench_now_s() - start_s < seconds) {
        while (*number - confirmed < ahead) {
            memcpy(record.id, number, sizeof *number);
            struct qn_store_op *op = qn_store_op_new(QN_STORE_PUT, &record, key);
            if (op == NULL) abort();
            op->number = ++*number;
            store_submit(store, op);
        }
        uv_run(&daemon_.loop, UV_RUN_ONCE);
    }
    while (confirmed < *number) uv_run(&daemon_.loop, UV_RUN_ONCE);
    return (double)(*number - first) / (bench_now_s() - start_s);
}

int bench_store(struct bench *bench) {
    static struct qn_topo_node nodes[2] = {{.name = "n0"}, {.name = "n1"}};
    static struct config config;
    struct qn_store_record *records = NULL;
    struct store store = {0};
    size_t n = 0;
    uint64_t number = 0;
    snprintf(config.topology.name, sizeof config.topology.name, "bench");
    config.topology.nodes = nodes;
    config.topology.n_nodes = 2;
    daemon_.config = &config;
    daemon_.clock.scale = 1;
    directory = bench->directory;
    if (uv_loop_init(&daemon_.loop) < 0) return bench_fail(bench, "no loop");
    int rc = store_open(&store, &daemon_, &records, &n);
    if (rc == 0) rc = store_start(&store);
    if (rc == 0) {
        double single = rate(&store, bench->seconds, 1, &number), many = rate(&store, bench->seconds, 1024, &number);
        bench_row(bench, "store-commits", single, "/s", "", "fsync of this disk; one key a transaction");
        bench_row(bench, "store-keys", many, "/s", "", "SQLite; transactions of up to 1024 keys");
    }
    store_free_restored(records, n);
    store_close(&store);
    uv_run(&daemon_.loop, UV_RUN_DEFAULT);
    uv_loop_close(&daemon_.loop);
    return rc == 0 ? 0 : bench_fail(bench, "the store cannot be opened");
}
