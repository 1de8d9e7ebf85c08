/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: libuv calls the reads of one turn; each may put bytes into several outlets. The check handle, which runs
 * after all of them, flushes the dirty outlets: one sealed frame and one write(2) a connection, however many messages
 * the turn carried. The prepare handle does the same for what timers caused, then lets the loop sleep.
 *
 * Failure modes: a full socket leaves the rest to uv_write, whose buffer is swapped with the collecting one, so nothing
 * is copied and nothing moves under the kernel's feet. A broken stream is reported once through on_written. A peer that
 * sends more than its share is stopped after TURN_BUDGET_NS and taken up again in its order, by the idle handle. */
#include "turn.h"

#include <assert.h>

#define KEEP_BYTES (256 * 1024) /* An idle buffer above this is given back. */

void turn_alloc(struct turn *turn, uv_buf_t *ret_buf) { *ret_buf = uv_buf_init(turn->read_buffer, TURN_READ_BYTES); }

void outlet_init(struct outlet *outlet, struct turn *turn, uv_stream_t *stream, struct qn_buf *collect) {
    *outlet = (struct outlet){.stream = stream, .turn = turn, .collect = collect};
    if (collect == NULL) outlet->collect = &outlet->own;
}

void outlet_mark(struct outlet *outlet) {
    if (outlet->dirty) return;
    struct turn *turn = outlet->turn;
    outlet->dirty = true;
    outlet->previous = NULL;
    outlet->next = turn->dirty;
    if (turn->dirty != NULL) turn->dirty->previous = outlet;
    turn->dirty = outlet;
}

void outlet_cancel(struct outlet *outlet) {
    if (!outlet->dirty) return;
    outlet->dirty = false;
    if (outlet->next != NULL) outlet->next->previous = outlet->previous;
    if (outlet->previous != NULL) {
        outlet->previous->next = outlet->next;
    } else {
        outlet->turn->dirty = outlet->next;
    }
}

size_t outlet_queued(const struct outlet *outlet) {
    return outlet->collect->len + (outlet->writing ? outlet->stream->write_queue_size : 0);
}

static void empty(struct qn_buf *buf) {
    buf->len = 0;
    if (buf->cap > KEEP_BYTES) qn_buf_release(buf);
}

static void write_done(uv_write_t *write, int status) {
    struct outlet *outlet = write->data;
    outlet->writing = false;
    empty(&outlet->busy);
    if (status < 0) {
        if (status != UV_ECANCELED) outlet->on_written(outlet, status);
        return;
    }
    outlet_flush(outlet);
}

/* Moves the collected bytes out of the way of the collector and gives what is left of them to libuv. */
static int write_rest(struct outlet *outlet, size_t written) {
    struct qn_buf swap = outlet->busy;
    outlet->busy = *outlet->collect;
    outlet->busy.limit = 0;
    swap.limit = outlet->collect->limit;
    *outlet->collect = swap;
    uv_buf_t rest = uv_buf_init((char *)outlet->busy.data + written, (unsigned)(outlet->busy.len - written));
    outlet->write.data = outlet;
    int rc = uv_write(&outlet->write, outlet->stream, &rest, 1, write_done);
    outlet->writing = rc == 0;
    return rc;
}

void outlet_flush(struct outlet *outlet) {
    outlet_cancel(outlet);
    if (outlet->before_flush != NULL) outlet->before_flush(outlet);
    if (outlet->writing) return; /* write_done comes back here. */
    int rc = 0;
    if (outlet->collect->len > 0) {
        uv_buf_t all = uv_buf_init((char *)outlet->collect->data, (unsigned)outlet->collect->len);
        rc = uv_try_write(outlet->stream, &all, 1);
        if (rc == UV_EAGAIN) rc = 0;
        if (rc >= 0 && (size_t)rc < outlet->collect->len) {
            rc = write_rest(outlet, (size_t)rc);
            if (rc == 0) return;
        } else if (rc >= 0) {
            empty(outlet->collect);
        }
    }
    outlet->on_written(outlet, rc < 0 ? rc : 0);
}

void outlet_release(struct outlet *outlet) {
    assert(!outlet->writing);
    outlet_cancel(outlet);
    qn_buf_release(&outlet->own);
    qn_buf_release(&outlet->busy);
}

static void begin_slice(struct slice *slice, uint64_t turn) {
    if (slice->turn != turn) *slice = (struct slice){.turn = turn};
    slice->since_ns = uv_hrtime();
}

void slice_begin(struct slice *slice, const struct turn *turn) { begin_slice(slice, turn->n); }

void slice_begin_next(struct slice *slice, const struct turn *turn) { begin_slice(slice, turn->n + 1); }

bool slice_is_used_up(const struct slice *slice) {
    return slice->used_ns + (uv_hrtime() - slice->since_ns) > TURN_BUDGET_NS;
}

void slice_end(struct slice *slice) { slice->used_ns += uv_hrtime() - slice->since_ns; }

static void update_idle(struct turn *turn);

void backlog_add(struct turn *turn, struct backlog *backlog) {
    if (backlog->waiting) return;
    backlog->waiting = true;
    backlog->next = NULL;
    backlog->previous = turn->backlog_last;
    if (turn->backlog_last != NULL) {
        turn->backlog_last->next = backlog;
    } else {
        turn->backlog = backlog;
    }
    turn->backlog_last = backlog;
    update_idle(turn);
}

void backlog_remove(struct turn *turn, struct backlog *backlog) {
    if (!backlog->waiting) return;
    backlog->waiting = false;
    if (backlog->previous != NULL) {
        backlog->previous->next = backlog->next;
    } else {
        turn->backlog = backlog->next;
    }
    if (backlog->next != NULL) {
        backlog->next->previous = backlog->previous;
    } else {
        turn->backlog_last = backlog->previous;
    }
    update_idle(turn);
}

/* One backlog a turn, so that the others' sockets are looked at in between. */
static void on_idle(uv_idle_t *idle) {
    struct turn *turn = idle->data;
    struct backlog *first = turn->backlog;
    if (first == NULL) return;
    backlog_remove(turn, first);
    first->resume(first);
}

static void update_idle(struct turn *turn) {
    if (uv_is_closing((uv_handle_t *)&turn->idle)) return;
    if (turn->backlog != NULL) {
        uv_idle_start(&turn->idle, on_idle);
    } else {
        uv_idle_stop(&turn->idle);
    }
}

static void flush_all(struct turn *turn) {
    while (turn->dirty != NULL) outlet_flush(turn->dirty);
}

static void on_check(uv_check_t *check) { flush_all(check->data); }

static void on_prepare(uv_prepare_t *prepare) {
    struct turn *turn = prepare->data;
    turn->n++;
    if (turn->before_wait != NULL) turn->before_wait(turn->context);
    flush_all(turn);
    if (turn->before_sleep != NULL) turn->before_sleep(turn->context);
}

void turn_init(struct turn *turn, uv_loop_t *loop) {
    turn->loop = loop;
    turn->n = 1;
    turn->dirty = NULL;
    turn->backlog = turn->backlog_last = NULL;
    uv_prepare_init(loop, &turn->prepare);
    uv_check_init(loop, &turn->check);
    uv_idle_init(loop, &turn->idle);
    turn->prepare.data = turn->check.data = turn->idle.data = turn;
    uv_prepare_start(&turn->prepare, on_prepare);
    uv_check_start(&turn->check, on_check);
    uv_unref((uv_handle_t *)&turn->prepare); /* They serve the others; they do not keep the loop alive. */
    uv_unref((uv_handle_t *)&turn->check);
}

void turn_close(struct turn *turn) {
    uv_close((uv_handle_t *)&turn->prepare, NULL);
    uv_close((uv_handle_t *)&turn->check, NULL);
    uv_close((uv_handle_t *)&turn->idle, NULL);
}
