/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_DAEMON_STORE_H
#define QN_DAEMON_STORE_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "node/store.h"
#include "topology/topology.h"

/* The key store on disk: one SQLite file a node, keys.db in its state directory, written by one thread of its own.
 * Without a state directory it is in memory and ends with the process. */

struct daemon;
struct store_change;
struct store_change_list {
    struct store_change *first, *last;
};

struct store {
    struct daemon *daemon;
    char path[4096]; /* "" in memory. */
    sqlite3 *db;     /* The writer thread's, once it runs. */
    sqlite3_stmt *statements[6];
    uv_thread_t writer;
    uv_mutex_t mutex; /* For what follows, up to async. */
    uv_cond_t wake;
    struct store_change_list queued, done;
    bool stopping, runs;
    char fault[160];          /* Why nothing can be written; "": it can. */
    _Atomic uint64_t commits; /* Transactions so far. */
    uv_async_t async;         /* The writer has something to say. */
    bool was_fault;           /* What the node has been told. */
};

/* Opens and checks the file; on success reads what it has, to be freed with store_free_restored. Errors are in the log:
 * a file that is corrupt, in use, not ours or of another node is refused and left as it is. */
int store_open(struct store *store, struct daemon *daemon, struct qn_store_record **ret_records, size_t *ret_n);
void store_free_restored(struct qn_store_record *records, size_t n); /* Wipes. */
int store_start(struct store *store);                                /* The writer; after uv_loop_init. */

void store_submit(struct store *store, struct qn_store_op *op); /* Takes it. QN_EVENT_STORED follows, in order. */
/* Waits until what was submitted is durable, if it can be; ends the writer. */
void store_close(struct store *store);

#endif
