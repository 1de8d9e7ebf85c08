/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: changes queue up; the writer thread takes all there are and makes them one transaction, which is durable
 * when it commits (WAL, synchronous=FULL); then the loop tells the node of each. What is erased is overwritten
 * (secure_delete), in the write-ahead log, too, as it is then emptied.
 *
 * Failure modes: a transaction that cannot be made (no space, an I/O error) is rolled back and tried again every
 * second; the node is told at the first failure and at the first success. A change that was committed although the
 * commit reported an error is made again without harm: every statement allows for that, and a key that was read out is
 * kept until its transaction is confirmed. At the end the writer makes what is queued durable, but does not wait for
 * space. A file that is not ours, newer than us, corrupt, or of another node stops the start; nothing is written to it.
 */
#include "store.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "daemon.h"

#define APPLICATION 0x514e4b53 /* "QNKS" */
#define SCHEMA 1
#define RETRY_NS ((uint64_t)1000000000)
#define BATCH 1024

struct store_change {
    struct store_change *next;
    struct qn_store_op *op;
    uint8_t *taken; /* Key read out by a TAKE, record.len bytes of it. */
    size_t taken_len;
};

enum { PUT, READ, TAKE, USE, ERASE, LIST };
static const char *const sql[] = {
    [PUT] = "INSERT INTO record(id,digest,peer,purpose,state,used,qber,made_ms,len,material) "
            "VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10) ON CONFLICT(id) DO NOTHING",
    [READ] = "SELECT material FROM record WHERE id=?1 AND state=1",
    [TAKE] = "UPDATE record SET state=2, material=NULL WHERE id=?1",
    [USE] = "UPDATE record SET used=max(used,?2) WHERE id=?1",
    [ERASE] = "DELETE FROM record WHERE id=?1",
    [LIST] = "SELECT id,digest,peer,purpose,state,used,qber,made_ms,len,CASE purpose WHEN 2 THEN material END "
             "FROM record ORDER BY seq",
};

static const char schema[] =
    "BEGIN;"
    "CREATE TABLE meta(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE record(seq INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, digest BLOB NOT NULL, peer TEXT NOT NULL,"
    " purpose INTEGER NOT NULL, state INTEGER NOT NULL, used INTEGER NOT NULL, qber REAL NOT NULL,"
    " made_ms INTEGER NOT NULL, len INTEGER NOT NULL, material BLOB);"
    "PRAGMA user_version=1;"
    "PRAGMA application_id=1364085587;"; /* Committed with whose it is: a file without that would be nobody's. */

static int64_t wall_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- opening ---- */

static int refuse(const struct store *store, const char *what, const char *todo) {
    log_write(&store->daemon->log, LOG_ERROR, "store_refused", store->path, "%s; %s", what, todo);
    return -QN_ESYSTEM;
}

static int64_t pragma(sqlite3 *db, const char *text) { /* Its number; negative if it fails. */
    sqlite3_stmt *statement = NULL;
    int64_t value = -1;
    if (sqlite3_prepare_v2(db, text, -1, &statement, NULL) == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW)
        value = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return value;
}

static bool is_sound(sqlite3 *db) {
    sqlite3_stmt *statement = NULL;
    bool sound = sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &statement, NULL) == SQLITE_OK &&
                 sqlite3_step(statement) == SQLITE_ROW &&
                 strcmp((const char *)sqlite3_column_text(statement, 0), "ok") == 0;
    sqlite3_finalize(statement);
    return sound;
}

/* The file's own idea of whose it is; sets it in a new file. */
static int check_meta(struct store *store, const char *name, const char *value, bool is_new) {
    sqlite3_stmt *statement = NULL;
    const char *text = is_new ? "INSERT INTO meta(name,value) VALUES(?1,?2)" : "SELECT value FROM meta WHERE name=?1";
    int rc = sqlite3_prepare_v2(store->db, text, -1, &statement, NULL);
    if (rc == SQLITE_OK) rc = sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
    if (rc == SQLITE_OK && is_new) rc = sqlite3_bind_text(statement, 2, value, -1, SQLITE_STATIC);
    if (rc == SQLITE_OK) rc = sqlite3_step(statement);
    char what[256] = "";
    if (is_new ? rc != SQLITE_DONE : rc != SQLITE_ROW)
        snprintf(what, sizeof what, "cannot be read: %s", sqlite3_errmsg(store->db));
    else if (!is_new && strcmp((const char *)sqlite3_column_text(statement, 0), value) != 0)
        snprintf(what, sizeof what, "it belongs to %s %.60s, not to %.60s", name, sqlite3_column_text(statement, 0),
                 value);
    sqlite3_finalize(statement);
    return *what == '\0' ? 0 : refuse(store, what, "move it away, or give each node a state directory of its own");
}

static int check_file(struct store *store) {
    const struct config *config = store->daemon->config;
    int64_t application = pragma(store->db, "PRAGMA application_id");
    int64_t tables = pragma(store->db, "SELECT count(*) FROM sqlite_schema");
    if (application < 0 || tables < 0) {
        if (sqlite3_errcode(store->db) == SQLITE_BUSY)
            return refuse(store, "another process uses it", "end that one, or give this node another --state");
        return refuse(store, "it is damaged, or no SQLite file",
                      "restore it from a copy, or move it away to start anew");
    }
    bool is_new = application == 0 && tables == 0;
    if (!is_new && application != APPLICATION)
        return refuse(store, "it is not a key store of qnetd", "move it away, or give this node another --state");
    if (!is_new && pragma(store->db, "PRAGMA user_version") > SCHEMA)
        return refuse(store, "a newer qnetd wrote it", "run that release, or move the file away to start anew");
    if (!is_new && !is_sound(store->db))
        return refuse(store, "it is damaged", "restore it from a copy, or move it away to start anew");
    if (is_new && sqlite3_exec(store->db, schema, NULL, NULL, NULL) != SQLITE_OK)
        return refuse(store, sqlite3_errmsg(store->db), "make room, or give this node another --state");
    int rc = check_meta(store, "network", config->topology.name, is_new);
    if (rc == 0) rc = check_meta(store, "node", config->topology.nodes[config->self].name, is_new);
    if (!is_new) return rc;
    if (rc == 0 && sqlite3_exec(store->db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
        rc = refuse(store, sqlite3_errmsg(store->db), "make room, or give this node another --state");
    if (rc < 0) sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

static void free_list(struct qn_store_record *records, size_t n) {
    for (size_t i = 0; i < n; i++) {
        void *material = (void *)(uintptr_t)records[i].material;
        if (material != NULL) sodium_memzero(material, records[i].len);
        free(material);
    }
    free(records);
}

void store_free_restored(struct qn_store_record *records, size_t n) { free_list(records, n); }

/* 1: read; 0: to be left out; negative: malformed, or no memory. */
static int read_record(const struct store *store, sqlite3_stmt *row, struct qn_store_record *ret) {
    const char *peer = (const char *)sqlite3_column_text(row, 2);
    int index = peer == NULL ? -1 : qn_topology_find_node(&store->daemon->config->topology, peer);
    if (index < 0 || index == store->daemon->config->self) {
        log_write(&store->daemon->log, LOG_WARNING, "store_stranger", peer,
                  "the key store has keys of a node that the topology does not have; they stay, unused");
        return 0;
    }
    int64_t age_ms = wall_ms() - sqlite3_column_int64(row, 7);
    *ret = (struct qn_store_record){
        .peer = (uint16_t)index,
        .purpose = (enum qn_store_purpose)sqlite3_column_int(row, 3),
        .state = (enum qn_store_state)sqlite3_column_int(row, 4),
        .used = (uint64_t)sqlite3_column_int64(row, 5),
        .qber = sqlite3_column_double(row, 6),
        .age_ns = age_ms <= 0 ? 0 : (uint64_t)((double)age_ms * 1e6 * store->daemon->clock.scale),
        .len = (size_t)sqlite3_column_int64(row, 8),
    };
    if (sqlite3_column_bytes(row, 0) != QN_STORE_ID_BYTES || sqlite3_column_bytes(row, 1) != QN_STORE_CHECK_BYTES ||
        ret->len > QN_STORE_KEY_MAX)
        return -QN_EPARSE;
    memcpy(ret->id, sqlite3_column_blob(row, 0), QN_STORE_ID_BYTES);
    memcpy(ret->check, sqlite3_column_blob(row, 1), QN_STORE_CHECK_BYTES);
    if (sqlite3_column_type(row, 9) == SQLITE_NULL) return 1;
    uint8_t *material = (size_t)sqlite3_column_bytes(row, 9) == ret->len ? malloc(ret->len + 1) : NULL;
    if (material == NULL) return -QN_EPARSE;
    memcpy(material, sqlite3_column_blob(row, 9), ret->len);
    ret->material = material;
    return 1;
}

static int list_records(struct store *store, struct qn_store_record **ret_records, size_t *ret_n) {
    struct qn_store_record *records = NULL;
    size_t n = 0, cap = 0;
    int rc, sql_rc;
    while ((sql_rc = sqlite3_step(store->statements[LIST])) == SQLITE_ROW) {
        if (n == cap) {
            struct qn_store_record *more = realloc(records, (cap = cap == 0 ? 64 : 2 * cap) * sizeof *records);
            if (more == NULL) break;
            records = more;
        }
        rc = read_record(store, store->statements[LIST], &records[n]);
        if (rc < 0) break;
        n += (size_t)rc;
    }
    sqlite3_reset(store->statements[LIST]);
    if (sql_rc != SQLITE_DONE) {
        free_list(records, n);
        return refuse(store, "its records cannot be read", "restore it from a copy, or move it away to start anew");
    }
    *ret_records = records;
    *ret_n = n;
    return 0;
}

int store_open(struct store *store, struct daemon *daemon, struct qn_store_record **ret_records, size_t *ret_n) {
    static const char pragmas[] = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA secure_delete=ON;"
                                  "PRAGMA temp_store=MEMORY; PRAGMA cache_size=-256;";
    const char *directory = config_state_directory(&daemon->config->options);
    store->daemon = daemon;
    if (directory != NULL) snprintf(store->path, sizeof store->path, "%s/keys.db", directory);
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW;
    if (sqlite3_open_v2(directory != NULL ? store->path : ":memory:", &store->db, flags, NULL) != SQLITE_OK)
        return refuse(store, sqlite3_errmsg(store->db), "give this node a --state directory that it may write");
    sqlite3_exec(store->db, "PRAGMA locking_mode=EXCLUSIVE;", NULL, NULL, NULL);
    int rc = check_file(store);
    if (rc < 0) return rc;
    if (sqlite3_exec(store->db, pragmas, NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_exec(store->db, "BEGIN EXCLUSIVE; COMMIT;", NULL, NULL, NULL) != SQLITE_OK)
        return refuse(store, sqlite3_errmsg(store->db), "end whatever else uses it, or make room");
    for (size_t i = 0; i < sizeof sql / sizeof sql[0]; i++)
        if (sqlite3_prepare_v3(store->db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &store->statements[i], NULL) !=
            SQLITE_OK)
            return refuse(store, sqlite3_errmsg(store->db), "restore it from a copy, or move it away to start anew");
    return list_records(store, ret_records, ret_n);
}

/* ---- writing (on the writer thread) ---- */

static int run(sqlite3_stmt *statement) {
    int rc = sqlite3_step(statement);
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? SQLITE_OK : rc;
}

static int put(struct store *store, const struct qn_store_record *record) {
    sqlite3_stmt *s = store->statements[PUT];
    const char *peer = store->daemon->config->topology.nodes[record->peer].name;
    sqlite3_bind_blob(s, 1, record->id, sizeof record->id, SQLITE_STATIC);
    sqlite3_bind_blob(s, 2, record->check, sizeof record->check, SQLITE_STATIC);
    sqlite3_bind_text(s, 3, peer, -1, SQLITE_STATIC);
    sqlite3_bind_int(s, 4, (int)record->purpose);
    sqlite3_bind_int(s, 5, (int)record->state);
    sqlite3_bind_int64(s, 6, (int64_t)record->used);
    sqlite3_bind_double(s, 7, record->qber);
    sqlite3_bind_int64(s, 8, wall_ms());
    sqlite3_bind_int64(s, 9, (int64_t)record->len);
    sqlite3_bind_blob(s, 10, record->material, (int)record->len, SQLITE_STATIC);
    return run(s);
}

static int take(struct store *store, struct store_change *change) {
    sqlite3_stmt *s = store->statements[READ];
    const uint8_t *id = change->op->record.id;
    sqlite3_bind_blob(s, 1, id, QN_STORE_ID_BYTES, SQLITE_STATIC);
    int rc = sqlite3_step(s);
    if (rc == SQLITE_ROW && change->taken == NULL) {
        change->taken_len = (size_t)sqlite3_column_bytes(s, 0);
        change->taken = malloc(change->taken_len + 1);
        if (change->taken != NULL) memcpy(change->taken, sqlite3_column_blob(s, 0), change->taken_len);
    }
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE) return rc;
    if (rc == SQLITE_ROW && change->taken == NULL) return SQLITE_NOMEM;
    sqlite3_bind_blob(store->statements[TAKE], 1, id, QN_STORE_ID_BYTES, SQLITE_STATIC);
    return run(store->statements[TAKE]);
}

static int apply(struct store *store, struct store_change *change) {
    const struct qn_store_record *record = &change->op->record;
    sqlite3_stmt *s = store->statements[change->op->kind == QN_STORE_USE ? USE : ERASE];
    switch (change->op->kind) {
    case QN_STORE_PUT:
        return put(store, record);
    case QN_STORE_TAKE:
        return take(store, change);
    case QN_STORE_USE:
        sqlite3_bind_int64(s, 2, (int64_t)record->used);
        sqlite3_bind_blob(s, 1, record->id, sizeof record->id, SQLITE_STATIC);
        return run(s);
    case QN_STORE_ERASE:
        sqlite3_bind_blob(s, 1, record->id, sizeof record->id, SQLITE_STATIC);
        return run(s);
    }
    return SQLITE_MISUSE;
}

/* One transaction; on failure nothing has happened, or it may be made again. */
static int commit(struct store *store, const struct store_change_list *batch) {
    bool erased = false;
    int rc = sqlite3_exec(store->db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    for (struct store_change *change = batch->first; rc == SQLITE_OK && change != NULL; change = change->next) {
        rc = apply(store, change);
        erased |= change->op->kind == QN_STORE_TAKE || change->op->kind == QN_STORE_ERASE;
    }
    if (rc == SQLITE_OK) rc = sqlite3_exec(store->db, "COMMIT", NULL, NULL, NULL);
    if (rc != SQLITE_OK) {
        if (!sqlite3_get_autocommit(store->db)) sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
        return rc;
    }
    if (erased) sqlite3_exec(store->db, "PRAGMA wal_checkpoint(TRUNCATE)", NULL, NULL, NULL);
    return SQLITE_OK;
}

static void append(struct store_change_list *list, const struct store_change_list *more) {
    if (more->first == NULL) return;
    if (list->last != NULL)
        list->last->next = more->first;
    else
        list->first = more->first;
    list->last = more->last;
}

static struct store_change_list cut_batch(struct store_change_list *queue) {
    struct store_change_list batch = {queue->first, queue->first};
    for (size_t n = 1; n < BATCH && batch.last->next != NULL; n++) batch.last = batch.last->next;
    queue->first = batch.last->next;
    if (queue->first == NULL) queue->last = NULL;
    batch.last->next = NULL;
    return batch;
}

/* With the mutex held. False: it could not be made durable, and the daemon ends. */
static bool write_batch(struct store *store, const struct store_change_list *batch) {
    for (;;) {
        uv_mutex_unlock(&store->mutex);
        int rc = commit(store, batch);
        uv_mutex_lock(&store->mutex);
        if (rc == SQLITE_OK) break;
        bool is_news = *store->fault == '\0';
        snprintf(store->fault, sizeof store->fault, "%s", sqlite3_errstr(rc));
        if (is_news) uv_async_send(&store->async);
        if (store->stopping) {
            append(&store->done, batch); /* Only to be freed. */
            return false;
        }
        uv_cond_timedwait(&store->wake, &store->mutex, RETRY_NS);
    }
    *store->fault = '\0';
    store->commits++;
    append(&store->done, batch);
    uv_async_send(&store->async);
    return true;
}

static void writer(void *argument) {
    struct store *store = argument;
    uv_mutex_lock(&store->mutex);
    for (;;) {
        while (store->queued.first == NULL && !store->stopping) uv_cond_wait(&store->wake, &store->mutex);
        if (store->queued.first == NULL) break;
        struct store_change_list batch = cut_batch(&store->queued);
        if (!write_batch(store, &batch)) break;
    }
    uv_mutex_unlock(&store->mutex);
}

/* ---- on the loop ---- */

static void change_free(struct store_change *change) {
    if (change->taken != NULL) sodium_memzero(change->taken, change->taken_len);
    free(change->taken);
    qn_store_op_free(change->op);
    free(change);
}

static void free_changes(struct store_change_list *list) {
    while (list->first != NULL) {
        struct store_change *next = list->first->next;
        change_free(list->first);
        list->first = next;
    }
    list->last = NULL;
}

static void on_news(uv_async_t *async) {
    struct store *store = async->data;
    char fault[sizeof store->fault];
    uv_mutex_lock(&store->mutex);
    struct store_change_list done = store->done;
    store->done = (struct store_change_list){0};
    memcpy(fault, store->fault, sizeof fault);
    uv_mutex_unlock(&store->mutex);
    if ((*fault != '\0') != store->was_fault) {
        store->was_fault = *fault != '\0';
        if (store->was_fault)
            log_write(&store->daemon->log, LOG_ERROR, "store_fault", store->path, "%s; trying again every second",
                      fault);
        daemon_event(store->daemon,
                     &(struct qn_event){.type = QN_EVENT_STORE_FAULT, .error = store->was_fault ? -QN_ESTORE : 0});
    }
    for (struct store_change *change = done.first; change != NULL; change = change->next)
        daemon_event(store->daemon, &(struct qn_event){.type = QN_EVENT_STORED,
                                                       .number = change->op->number,
                                                       .bytes = change->taken,
                                                       .len = change->taken != NULL ? change->taken_len : 0});
    free_changes(&done);
}

int store_start(struct store *store) {
    if (uv_mutex_init(&store->mutex) < 0 || uv_cond_init(&store->wake) < 0) return -QN_ENOMEM;
    uv_async_init(&store->daemon->loop, &store->async, on_news);
    store->async.data = store;
    store->runs = uv_thread_create(&store->writer, writer, store) == 0;
    return store->runs ? 0 : -QN_ESYSTEM;
}

void store_submit(struct store *store, struct qn_store_op *op) {
    struct store_change *change = calloc(1, sizeof *change);
    if (change == NULL) daemon_fatal(store->daemon, "out of memory");
    change->op = op;
    uv_mutex_lock(&store->mutex);
    append(&store->queued, &(struct store_change_list){change, change});
    uv_cond_signal(&store->wake);
    uv_mutex_unlock(&store->mutex);
}

void store_close(struct store *store) {
    if (store->runs) {
        uv_mutex_lock(&store->mutex);
        store->stopping = true;
        uv_cond_signal(&store->wake);
        uv_mutex_unlock(&store->mutex);
        uv_thread_join(&store->writer);
        uv_mutex_destroy(&store->mutex);
        uv_cond_destroy(&store->wake);
        uv_close((uv_handle_t *)&store->async, NULL);
        store->runs = false;
    }
    free_changes(&store->queued);
    free_changes(&store->done);
    for (size_t i = 0; i < sizeof store->statements / sizeof store->statements[0]; i++) {
        sqlite3_finalize(store->statements[i]);
        store->statements[i] = NULL;
    }
    sqlite3_close(store->db);
    store->db = NULL;
}
