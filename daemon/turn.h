/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_DAEMON_TURN_H
#define QN_DAEMON_TURN_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "base/buf.h"

/* What happens once in a turn of the loop rather than once a message: writing out what the turn's messages caused, and
 * going on with input that was too much for one turn. */

#define TURN_READ_BYTES 65536
#define TURN_ACCEPTS 16       /* Connections accepted on one port in a turn. */
#define TURN_BUDGET_NS 400000 /* Time one connection may take in a turn before the others have theirs. */

/* Outgoing bytes of one stream. They collect in a buffer and are written at the end of the turn; at most one write is
 * under way, and its bytes stay put until it ends. */
struct outlet {
    uv_stream_t *stream;
    struct qn_buf own;      /* Owned. */
    struct qn_buf *collect; /* `own`, or a buffer somebody else fills (a session's output). */
    struct qn_buf busy;     /* Owned: being written. */
    uv_write_t write;
    bool writing, dirty;
    struct turn *turn;
    struct outlet *previous, *next;                        /* Of the dirty list. */
    void (*before_flush)(struct outlet *outlet);           /* May be NULL: seals what is half done. */
    void (*on_written)(struct outlet *outlet, int status); /* Everything is written, or a libuv error: it is broken. */
};

/* Input a stream's owner could not finish within its budget. */
struct backlog {
    bool waiting;
    struct backlog *previous, *next;
    void (*resume)(struct backlog *backlog);
};

/* What one connection has used up of its turn: libuv may call its read callback many times in one. */
struct slice {
    uint64_t turn; /* Which one `used_ns` counts in. */
    uint64_t used_ns, since_ns;
};

struct turn {
    uv_loop_t *loop;
    uint64_t n; /* Turns so far. */
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle;            /* Active while something cannot wait for the next input. */
    uint64_t idle_ms, dead_ms; /* After so much silence a connection is asked for a sign of life; is given up. */
    struct outlet *dirty;
    struct backlog *backlog, *backlog_last;
    void (*before_wait)(void *context);  /* Timers of the node; may send. */
    void (*before_sleep)(void *context); /* Last thing before the loop may sleep. */
    void *context;
    char read_buffer[TURN_READ_BYTES]; /* One for all: what is read is consumed before the next read. */
};

void turn_init(struct turn *turn, uv_loop_t *loop);
void turn_close(struct turn *turn);
void turn_alloc(struct turn *turn, uv_buf_t *ret_buf); /* For uv_alloc_cb. */

void outlet_init(struct outlet *outlet, struct turn *turn, uv_stream_t *stream, struct qn_buf *collect);
void outlet_mark(struct outlet *outlet);   /* There is, or may be, something to write at the end of this turn. */
void outlet_flush(struct outlet *outlet);  /* Now. May call on_written. */
void outlet_cancel(struct outlet *outlet); /* The stream is being closed: no more flushes. */
size_t outlet_queued(const struct outlet *outlet); /* Bytes not yet taken by the kernel. */
void outlet_release(struct outlet *outlet);        /* Once the stream is closed. */

void slice_begin(struct slice *slice, const struct turn *turn);      /* Work begins, */
void slice_begin_next(struct slice *slice, const struct turn *turn); /* (from a backlog: of the turn to come) */
bool slice_is_used_up(const struct slice *slice);                    /* goes on unless this is true, */
void slice_end(struct slice *slice);                                 /* and ends. */

void backlog_add(struct turn *turn, struct backlog *backlog);
void backlog_remove(struct turn *turn, struct backlog *backlog); /* No harm if it is not there. */

#endif
