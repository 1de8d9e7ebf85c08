/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_BASE_MAP_H
#define QN_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* From a 64-bit key to a pointer: open addressing, linear probing, deletion by backward shift. All-zero is valid and
 * empty. Values are borrowed and never NULL. Iteration is in the order of the slots, which depends only on the history
 * of calls, so runs repeat. */
struct qn_map {
    struct qn_map_slot {
        uint64_t key;
        void *value; /* NULL: free. */
    } * slots;
    size_t len, cap; /* cap is 0 or a power of two. */
};

int qn_map_put(struct qn_map *map, uint64_t key, void *value); /* Replaces; -QN_ENOMEM. */
void *qn_map_get(const struct qn_map *map, uint64_t key);      /* NULL if absent. */
void *qn_map_remove(struct qn_map *map, uint64_t key);         /* The value, or NULL. */
void qn_map_release(struct qn_map *map);                       /* Frees the table, not the values. */
/* For (size_t i = 0; qn_map_next(&map, &i, &key, &value);) ... ; the map must not change meanwhile. */
bool qn_map_next(const struct qn_map *map, size_t *index, uint64_t *ret_key, void **ret_value);

#endif
