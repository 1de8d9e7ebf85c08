/* SPDX-License-Identifier: Apache-2.0 */
#include "disk.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void *must(void *memory) {
    if (memory == NULL) abort();
    return memory;
}

void disk_push(struct disk *disk, struct qn_store_op *op) {
    if (disk->n_waiting == disk->cap_waiting) {
        disk->cap_waiting = disk->cap_waiting == 0 ? 16 : disk->cap_waiting * 2;
        disk->waiting = must(realloc(disk->waiting, disk->cap_waiting * sizeof *disk->waiting));
    }
    disk->waiting[disk->n_waiting++] = op;
}

static struct disk_record *find(const struct disk *disk, const uint8_t *id) {
    for (size_t i = 0; i < disk->len; i++)
        if (memcmp(disk->records[i].record.id, id, QN_STORE_ID_BYTES) == 0) return &disk->records[i];
    return NULL;
}

static void put(struct disk *disk, const struct qn_store_op *op, uint64_t now_ns) {
    assert(find(disk, op->record.id) == NULL);
    if (disk->len == disk->cap) {
        disk->cap = disk->cap == 0 ? 16 : disk->cap * 2;
        disk->records = must(realloc(disk->records, disk->cap * sizeof *disk->records));
    }
    struct disk_record *record = &disk->records[disk->len++];
    *record = (struct disk_record){.record = op->record, .made_ns = now_ns, .material = must(malloc(op->record.len))};
    record->record.material = NULL;
    memcpy(record->material, op->record.material, op->record.len);
}

struct qn_store_op *disk_commit(struct disk *disk, uint64_t now_ns, struct qn_buf *taken) {
    struct qn_store_op *op = disk->waiting[0];
    memmove(disk->waiting, disk->waiting + 1, --disk->n_waiting * sizeof *disk->waiting);
    struct disk_record *record = find(disk, op->record.id);
    switch (op->kind) {
    case QN_STORE_PUT:
        put(disk, op, now_ns);
        break;
    case QN_STORE_TAKE:
        assert(record != NULL && record->record.state == QN_STORE_HELD && "a key is taken twice");
        if (qn_buf_append(taken, record->material, record->record.len) < 0) abort();
        free(record->material);
        record->material = NULL;
        record->record.state = QN_STORE_TAKEN;
        break;
    case QN_STORE_USE:
        if (record == NULL) break;
        assert(op->record.used >= record->record.used && "pads are used twice");
        record->record.used = op->record.used;
        break;
    case QN_STORE_ERASE:
        if (record == NULL) break;
        free(record->material);
        memmove(record, record + 1, (size_t)(disk->records + --disk->len - record) * sizeof *record);
        break;
    }
    return op;
}

void disk_forget_waiting(struct disk *disk) {
    for (size_t i = 0; i < disk->n_waiting; i++) qn_store_op_free(disk->waiting[i]);
    disk->n_waiting = 0;
}

struct qn_store_record *disk_restore(const struct disk *disk, uint64_t now_ns) {
    struct qn_store_record *list = must(calloc(disk->len + 1, sizeof *list));
    for (size_t i = 0; i < disk->len; i++) {
        list[i] = disk->records[i].record;
        list[i].age_ns = now_ns - disk->records[i].made_ns;
        if (list[i].purpose == QN_STORE_PAD) list[i].material = disk->records[i].material;
    }
    return list;
}

void disk_release(struct disk *disk) {
    disk_forget_waiting(disk);
    for (size_t i = 0; i < disk->len; i++) free(disk->records[i].material);
    free(disk->records);
    free(disk->waiting);
    *disk = (struct disk){0};
}
