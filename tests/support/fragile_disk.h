/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_TESTS_FRAGILE_DISK_H
#define QN_TESTS_FRAGILE_DISK_H

#include <stdbool.h>
#include <stdint.h>

/* A SQLite file system in memory, for tests of what survives. What has not been synced may be lost at a loss of power:
 * of the writes since, any may have reached the disk or not, in any order, in pieces of 512 bytes. Any operation can be
 * made to fail. One disk a process; names are whole paths. Made the default file system. */

void fragile_disk_install(uint64_t seed); /* Empty. Again: emptied. */
void fragile_disk_lose_power(void);       /* Connections must have been closed, or never be used again. */
void fragile_disk_fail_at(uint64_t n);    /* The n-th write, sync, truncation or deletion from now fails, and so on for
                                             ever; 0: none does. */
bool fragile_disk_has_failed(void);       /* Since fail_at. */
uint64_t fragile_disk_operations(void);   /* Writes, syncs, truncations and deletions so far. */
const char *fragile_disk_find(const char *needle, unsigned long len); /* A file that holds these bytes; NULL if none. */

#endif
