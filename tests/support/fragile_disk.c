/* SPDX-License-Identifier: Apache-2.0 */
#include "fragile_disk.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

#define FILES 8
#define SECTOR 512

struct content {
    uint8_t *bytes;
    size_t len, cap;
};

struct node { /* One file. */
    char name[256];
    bool exists, was_synced; /* was_synced: its name has reached the disk. */
    struct content now, safe;
};

struct handle {
    sqlite3_file base;
    struct node *node;
};

static struct {
    struct node nodes[FILES];
    struct qn_rng rng;
    uint64_t operations, fail_at;
    bool failed;
} disk;

static void *must(void *memory) {
    if (memory == NULL) abort();
    return memory;
}

static void resize(struct content *content, size_t len) {
    if (len > content->cap) {
        content->cap = len * 2;
        content->bytes = must(realloc(content->bytes, content->cap));
    }
    if (len > content->len) memset(content->bytes + content->len, 0, len - content->len);
    content->len = len;
}

static void copy(struct content *to, const struct content *from) {
    resize(to, from->len);
    if (from->len > 0) memcpy(to->bytes, from->bytes, from->len);
}

/* Counts an operation; false if it must fail. */
static bool allowed(void) {
    disk.operations++;
    if (disk.fail_at == 0 || disk.operations < disk.fail_at) return true;
    disk.failed = true;
    return false;
}

static struct node *find(const char *name) {
    for (size_t i = 0; i < FILES; i++)
        if (disk.nodes[i].name[0] != '\0' && strcmp(disk.nodes[i].name, name) == 0) return &disk.nodes[i];
    return NULL;
}

/* ---- files ---- */

static int on_close(sqlite3_file *file) {
    (void)file;
    return SQLITE_OK;
}

static int on_read(sqlite3_file *file, void *to, int n, sqlite3_int64 at) {
    const struct content *now = &((struct handle *)file)->node->now;
    size_t from = (size_t)at, len = (size_t)n, have = from >= now->len ? 0 : now->len - from;
    memset(to, 0, len);
    if (have > 0) memcpy(to, now->bytes + from, have < len ? have : len);
    return have < len ? SQLITE_IOERR_SHORT_READ : SQLITE_OK;
}

static int on_write(sqlite3_file *file, const void *from, int n, sqlite3_int64 at) {
    struct content *now = &((struct handle *)file)->node->now;
    size_t len = (size_t)n, to = (size_t)at;
    if (!allowed()) return SQLITE_FULL;
    if (to + len > now->len) resize(now, to + len);
    memcpy(now->bytes + to, from, len);
    return SQLITE_OK;
}

static int on_truncate(sqlite3_file *file, sqlite3_int64 len) {
    if (!allowed()) return SQLITE_IOERR_TRUNCATE;
    resize(&((struct handle *)file)->node->now, (size_t)len);
    return SQLITE_OK;
}

static int on_sync(sqlite3_file *file, int flags) {
    struct node *node = ((struct handle *)file)->node;
    (void)flags;
    if (!allowed()) return SQLITE_IOERR_FSYNC;
    copy(&node->safe, &node->now);
    node->was_synced = true;
    return SQLITE_OK;
}

static int on_size(sqlite3_file *file, sqlite3_int64 *ret) {
    *ret = (sqlite3_int64)((struct handle *)file)->node->now.len;
    return SQLITE_OK;
}

static int on_lock(sqlite3_file *file, int level) {
    (void)file;
    (void)level;
    return SQLITE_OK;
}

static int on_check_lock(sqlite3_file *file, int *ret) {
    (void)file;
    *ret = 0;
    return SQLITE_OK;
}

static int on_control(sqlite3_file *file, int what, void *argument) {
    (void)file;
    (void)what;
    (void)argument;
    return SQLITE_NOTFOUND;
}

static int on_sector(sqlite3_file *file) {
    (void)file;
    return SECTOR;
}

static int on_characteristics(sqlite3_file *file) {
    (void)file;
    return 0;
}

static const sqlite3_io_methods methods = {.iVersion = 1,
                                           .xClose = on_close,
                                           .xRead = on_read,
                                           .xWrite = on_write,
                                           .xTruncate = on_truncate,
                                           .xSync = on_sync,
                                           .xFileSize = on_size,
                                           .xLock = on_lock,
                                           .xUnlock = on_lock,
                                           .xCheckReservedLock = on_check_lock,
                                           .xFileControl = on_control,
                                           .xSectorSize = on_sector,
                                           .xDeviceCharacteristics = on_characteristics};

/* SQLite uses WAL without shared memory only if the file could have it; locks are exclusive, so it never asks. */
static int on_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **ret) {
    (void)file, (void)page, (void)size, (void)extend;
    *ret = NULL;
    return SQLITE_IOERR_SHMMAP;
}
static int on_shm_lock(sqlite3_file *file, int offset, int n, int flags) {
    (void)file, (void)offset, (void)n, (void)flags;
    return SQLITE_OK;
}
static void on_shm_barrier(sqlite3_file *file) { (void)file; }
static int on_shm_unmap(sqlite3_file *file, int flag) {
    (void)file, (void)flag;
    return SQLITE_OK;
}

static sqlite3_io_methods methods_with_shm;

/* ---- the file system ---- */

static int on_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *ret_flags) {
    struct handle *handle = (struct handle *)file;
    struct node *node = name == NULL ? NULL : find(name);
    (void)vfs;
    handle->base.pMethods = NULL;
    for (size_t i = 0; node == NULL && i < FILES; i++)
        if (disk.nodes[i].name[0] == '\0') node = &disk.nodes[i];
    if (node == NULL || name == NULL) return SQLITE_CANTOPEN;
    if (!node->exists && !(flags & SQLITE_OPEN_CREATE)) return SQLITE_CANTOPEN;
    strncpy(node->name, name, sizeof node->name - 1);
    node->exists = true;
    handle->node = node;
    methods_with_shm = methods;
    methods_with_shm.iVersion = 2;
    methods_with_shm.xShmMap = on_shm_map;
    methods_with_shm.xShmLock = on_shm_lock;
    methods_with_shm.xShmBarrier = on_shm_barrier;
    methods_with_shm.xShmUnmap = on_shm_unmap;
    handle->base.pMethods = &methods_with_shm;
    if (ret_flags != NULL) *ret_flags = flags;
    return SQLITE_OK;
}

static int on_delete(sqlite3_vfs *vfs, const char *name, int sync) {
    struct node *node = find(name);
    (void)vfs;
    if (node == NULL || !node->exists) return SQLITE_IOERR_DELETE_NOENT;
    if (!allowed()) return SQLITE_IOERR_DELETE;
    node->exists = false;
    node->now.len = 0;
    if (sync) {
        node->was_synced = false;
        node->safe.len = 0;
    }
    return SQLITE_OK;
}

static int on_access(sqlite3_vfs *vfs, const char *name, int flags, int *ret) {
    const struct node *node = find(name);
    (void)vfs;
    (void)flags;
    *ret = node != NULL && node->exists;
    return SQLITE_OK;
}

static int on_full_path(sqlite3_vfs *vfs, const char *name, int size, char *ret) {
    (void)vfs;
    sqlite3_snprintf(size, ret, "%s", name);
    return SQLITE_OK;
}

static int on_random(sqlite3_vfs *vfs, int n, char *ret) {
    (void)vfs;
    for (int i = 0; i < n; i++) ret[i] = (char)qn_rng_u64(&disk.rng);
    return n;
}

static int on_sleep(sqlite3_vfs *vfs, int us) {
    (void)vfs;
    return us;
}

static int on_time(sqlite3_vfs *vfs, double *ret) {
    (void)vfs;
    *ret = 2460000.5;
    return SQLITE_OK;
}

static int on_error(sqlite3_vfs *vfs, int n, char *ret) {
    (void)vfs, (void)n, (void)ret;
    return 0;
}

void fragile_disk_install(uint64_t seed) {
    static sqlite3_vfs vfs = {.iVersion = 1,
                              .szOsFile = sizeof(struct handle),
                              .mxPathname = 255,
                              .zName = "fragile",
                              .xOpen = on_open,
                              .xDelete = on_delete,
                              .xAccess = on_access,
                              .xFullPathname = on_full_path,
                              .xRandomness = on_random,
                              .xSleep = on_sleep,
                              .xCurrentTime = on_time,
                              .xGetLastError = on_error};
    for (size_t i = 0; i < FILES; i++) {
        free(disk.nodes[i].now.bytes);
        free(disk.nodes[i].safe.bytes);
    }
    memset(&disk, 0, sizeof disk);
    qn_rng_init(&disk.rng, seed, "disk", 0);
    sqlite3_vfs_register(&vfs, 1);
}

void fragile_disk_lose_power(void) {
    for (size_t i = 0; i < FILES; i++) {
        struct node *node = &disk.nodes[i];
        struct content *now = &node->now, *safe = &node->safe;
        if (!node->exists && node->was_synced && qn_rng_below(&disk.rng, 2) == 0) { /* Its deletion is lost. */
            node->exists = true;
            copy(now, safe);
            continue;
        }
        if (!node->exists) continue;
        /* The length that either has; of the pieces that differ, any. */
        size_t len = qn_rng_below(&disk.rng, 2) == 0 ? now->len : safe->len;
        resize(safe, len);
        for (size_t at = 0; at < len; at += SECTOR) {
            size_t n = len - at < SECTOR ? len - at : SECTOR;
            if (at + n <= now->len && qn_rng_below(&disk.rng, 2) == 0) memcpy(safe->bytes + at, now->bytes + at, n);
        }
        copy(now, safe);
    }
    disk.fail_at = 0;
}

void fragile_disk_fail_at(uint64_t n) {
    disk.fail_at = n == 0 ? 0 : disk.operations + n;
    disk.failed = false;
}

bool fragile_disk_has_failed(void) { return disk.failed; }
uint64_t fragile_disk_operations(void) { return disk.operations; }

const char *fragile_disk_find(const char *needle, unsigned long len) {
    for (size_t i = 0; i < FILES; i++) {
        const struct node *node = &disk.nodes[i];
        for (size_t at = 0; node->exists && at + len <= node->now.len; at++)
            if (memcmp(node->now.bytes + at, needle, len) == 0) return node->name;
    }
    return NULL;
}
