/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's key store on a disk that loses power, fills up and fails: what was confirmed is there, what is there was
 * asked for, what was erased cannot be found. The writer thread is the real one; loop and log are stand-ins. */
#include "store.h"

#include <criterion/criterion.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon.h"
#include "fragile_disk.h"

#define RECORDS 48

/* ---- the rest of a daemon ---- */

static struct daemon daemon_;
static struct config config;
static char last_log[512];

void log_write(struct log *log, enum log_level level, const char *code, const char *subject, const char *format, ...) {
    va_list args;
    (void)log, (void)level, (void)subject;
    int n = snprintf(last_log, sizeof last_log, "%s: ", code);
    va_start(args, format);
    vsnprintf(last_log + n, sizeof last_log - (size_t)n, format, args);
    va_end(args);
}

void daemon_fatal(struct daemon *daemon, const char *why) {
    (void)daemon;
    cr_assert_fail("%s", why);
    abort();
}

const char *config_state_directory(const struct options *options) {
    (void)options;
    return "/state";
}

static struct {
    uint64_t confirmed; /* Highest number. */
    int fault;
    uint8_t taken[RECORDS][40];
    size_t n_taken;
} heard;

int daemon_event(struct daemon *daemon, const struct qn_event *event) {
    (void)daemon;
    if (event->type == QN_EVENT_STORE_FAULT) heard.fault = event->error;
    if (event->type != QN_EVENT_STORED) return 0;
    cr_assert_eq(event->number, heard.confirmed + 1, "in order");
    heard.confirmed = event->number;
    if (event->bytes != NULL) {
        cr_assert_eq(event->len, 40);
        memcpy(heard.taken[heard.n_taken++], event->bytes, 40);
    }
    return 0;
}

/* ---- a life of the store ---- */

struct life {
    struct store store;
    struct qn_store_record *records;
    size_t n;
    uint64_t next;
};

static int begin(struct life *life) {
    static struct qn_topo_node nodes[2] = {{.name = "alice"}, {.name = "bob"}};
    *life = (struct life){.next = 1};
    config.topology.nodes = nodes;
    config.topology.n_nodes = 2;
    snprintf(config.topology.name, sizeof config.topology.name, "test");
    daemon_.config = &config;
    daemon_.clock.scale = 1;
    memset(&heard, 0, sizeof heard);
    cr_assert_eq(uv_loop_init(&daemon_.loop), 0);
    int rc = store_open(&life->store, &daemon_, &life->records, &life->n);
    if (rc == 0) cr_assert_eq(store_start(&life->store), 0);
    return rc;
}

static void end(struct life *life) {
    store_close(&life->store);
    uv_run(&daemon_.loop, UV_RUN_DEFAULT);
    uv_loop_close(&daemon_.loop);
    store_free_restored(life->records, life->n);
}

static struct qn_store_record record_of(uint32_t i) {
    struct qn_store_record record = {
        .peer = 1, .purpose = QN_STORE_KEY, .state = QN_STORE_HELD, .len = 40, .qber = 0.01};
    memcpy(record.id, &i, sizeof i);
    memcpy(record.check, &i, sizeof i);
    return record;
}

static void key_of(uint32_t i, uint8_t ret[40]) {
    memset(ret, 0, 40);
    snprintf((char *)ret, 40, "the secret key number %u, forty bytes", i);
}

static void submit(struct life *life, enum qn_store_kind kind, uint32_t i, uint64_t used) {
    struct qn_store_record record = record_of(i);
    uint8_t key[40];
    key_of(i, key);
    record.used = used;
    struct qn_store_op *op = qn_store_op_new(kind, &record, kind == QN_STORE_PUT ? key : NULL);
    op->number = life->next++;
    store_submit(&life->store, op);
}

static void wait_for(const struct life *life) { /* Until all is confirmed, or the store says it cannot. */
    while (heard.confirmed + 1 < life->next && heard.fault == 0) uv_run(&daemon_.loop, UV_RUN_ONCE);
}

static const struct qn_store_record *restored(const struct life *life, uint32_t i) {
    for (size_t k = 0; k < life->n; k++)
        if (memcmp(life->records[k].id, &i, sizeof i) == 0) return &life->records[k];
    return NULL;
}

static void set_up(void) { cr_assert_geq(sodium_init(), 0); }
TestSuite(store, .init = set_up, .timeout = 120);

Test(store, gives_back_what_it_was_given) {
    struct life life;
    uint8_t key[40];
    fragile_disk_install(1);
    cr_assert_eq(begin(&life), 0);
    cr_assert_eq(life.n, 0);
    for (uint32_t i = 0; i < 3; i++) submit(&life, QN_STORE_PUT, i, 0);
    submit(&life, QN_STORE_TAKE, 1, 0);
    submit(&life, QN_STORE_ERASE, 2, 0);
    submit(&life, QN_STORE_USE, 0, 17);
    submit(&life, QN_STORE_ERASE, 9, 0); /* Not there: erased already. */
    wait_for(&life);
    cr_assert_eq(heard.n_taken, 1);
    key_of(1, key);
    cr_assert_arr_eq(heard.taken[0], key, 40);
    end(&life);
    cr_assert_eq(begin(&life), 0);
    cr_assert_eq(life.n, 2);
    cr_assert_eq(restored(&life, 0)->used, 17);
    cr_assert_eq(restored(&life, 0)->state, QN_STORE_HELD);
    cr_assert_null(restored(&life, 0)->material, "keys stay on the disk");
    cr_assert_eq(restored(&life, 1)->state, QN_STORE_TAKEN);
    end(&life);
}

Test(store, erases_so_that_nothing_can_be_found) {
    struct life life;
    fragile_disk_install(2);
    cr_assert_eq(begin(&life), 0);
    submit(&life, QN_STORE_PUT, 1, 0);
    submit(&life, QN_STORE_PUT, 2, 0);
    wait_for(&life);
    cr_assert_not_null(fragile_disk_find("secret key number 1,", 20));
    submit(&life, QN_STORE_TAKE, 1, 0);
    submit(&life, QN_STORE_ERASE, 2, 0);
    wait_for(&life);
    store_close(&life.store); /* The last truncation may come after the confirmation. */
    cr_assert_null(fragile_disk_find("secret key number", 17), "left in %s",
                   fragile_disk_find("secret key number", 17));
    uv_run(&daemon_.loop, UV_RUN_DEFAULT);
    store_free_restored(life.records, life.n);
}

/* Power fails after any number of operations of the disk, and each time another part of what was not synced is lost. */
Test(store, keeps_what_it_confirmed_when_power_fails) {
    unsigned lost = 0, cuts = 0;
    for (uint64_t cut = 1;; cut++) {
        struct life life;
        uint64_t confirmed[6];
        fragile_disk_install(cut);
        cr_assert_eq(begin(&life), 0);
        fragile_disk_fail_at(cut);
        for (uint32_t round = 0; round < 6; round++) { /* Each round a transaction. */
            for (uint32_t i = 0; i < 4; i++) submit(&life, QN_STORE_PUT, 4 * round + i, 0);
            submit(&life, QN_STORE_TAKE, 4 * round, 0);
            submit(&life, QN_STORE_ERASE, 4 * round + 1, 0);
            wait_for(&life);
            confirmed[round] = heard.fault == 0;
        }
        bool failed = fragile_disk_has_failed();
        store_close(&life.store);
        uv_run(&daemon_.loop, UV_RUN_DEFAULT);
        uv_loop_close(&daemon_.loop);
        store_free_restored(life.records, life.n);
        fragile_disk_lose_power();

        cr_assert_eq(begin(&life), 0, "cut %lu: %s", (unsigned long)cut, last_log);
        for (uint32_t round = 0; round < 6; round++) {
            const struct qn_store_record *taken = restored(&life, 4 * round), *held = restored(&life, 4 * round + 2);
            if (!confirmed[round]) {
                lost += held == NULL;
                continue;
            }
            cr_assert(held != NULL && held->state == QN_STORE_HELD, "cut %lu: a confirmed key is lost",
                      (unsigned long)cut);
            cr_assert(taken != NULL && taken->state == QN_STORE_TAKEN, "cut %lu: a taken key is back",
                      (unsigned long)cut);
            cr_assert_null(restored(&life, 4 * round + 1), "cut %lu: an erased key is back", (unsigned long)cut);
        }
        end(&life);
        cuts++;
        if (!failed) break;
    }
    fprintf(stderr, "%u cuts, %u times a transaction was not there\n", cuts, lost);
    cr_assert_gt(cuts, 50);
    cr_assert_gt(lost, 10);
}

/* A disk that fails for a while: everything is confirmed in the end, once, with the right keys. */
Test(store, waits_for_a_full_disk) {
    for (uint64_t at = 1; at < 40; at += 6) {
        struct life life;
        uint8_t key[40];
        fragile_disk_install(at);
        cr_assert_eq(begin(&life), 0);
        fragile_disk_fail_at(at);
        for (uint32_t i = 0; i < 4; i++) submit(&life, QN_STORE_PUT, i, 0);
        submit(&life, QN_STORE_TAKE, 3, 0);
        wait_for(&life);
        bool failed = fragile_disk_has_failed();
        if (failed && heard.fault != 0) cr_assert_eq(heard.confirmed, 0, "nothing is confirmed that is not durable");
        fragile_disk_fail_at(0);
        heard.fault = 0;
        wait_for(&life);
        cr_assert_eq(heard.confirmed, 5);
        cr_assert_eq(heard.fault, 0);
        cr_assert_eq(heard.n_taken, 1);
        key_of(3, key);
        cr_assert_arr_eq(heard.taken[0], key, 40);
        end(&life);
        cr_assert_eq(begin(&life), 0);
        cr_assert_eq(life.n, 4);
        end(&life);
    }
}
