/* SPDX-License-Identifier: Apache-2.0 */
#include "base/map.h"

#include <assert.h>
#include <stdlib.h>

#include "base/err.h"

static size_t home(const struct qn_map *map, uint64_t key) {
    key ^= key >> 32; /* Ids carry the node in their high bits. */
    return (size_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> 20) & (map->cap - 1);
}

static size_t find(const struct qn_map *map, uint64_t key) { /* Its slot, or the free one where it would go. */
    size_t i = home(map, key);
    while (map->slots[i].value != NULL && map->slots[i].key != key) i = (i + 1) & (map->cap - 1);
    return i;
}

static int grow(struct qn_map *map) {
    struct qn_map larger = {.cap = map->cap == 0 ? 16 : map->cap * 2};
    larger.slots = calloc(larger.cap, sizeof *larger.slots);
    if (larger.slots == NULL) return -QN_ENOMEM;
    for (size_t i = 0; i < map->cap; i++)
        if (map->slots[i].value != NULL) larger.slots[find(&larger, map->slots[i].key)] = map->slots[i];
    larger.len = map->len;
    free(map->slots);
    *map = larger;
    return 0;
}

int qn_map_put(struct qn_map *map, uint64_t key, void *value) {
    assert(value != NULL);
    if ((map->len + 1) * 4 > map->cap * 3) {
        int rc = grow(map);
        if (rc < 0) return rc;
    }
    size_t i = find(map, key);
    if (map->slots[i].value == NULL) map->len++;
    map->slots[i] = (struct qn_map_slot){key, value};
    return 0;
}

void *qn_map_get(const struct qn_map *map, uint64_t key) {
    return map->len == 0 ? NULL : map->slots[find(map, key)].value;
}

void *qn_map_remove(struct qn_map *map, uint64_t key) {
    if (map->len == 0) return NULL;
    size_t hole = find(map, key);
    void *value = map->slots[hole].value;
    if (value == NULL) return NULL;
    for (size_t i = (hole + 1) & (map->cap - 1); map->slots[i].value != NULL; i = (i + 1) & (map->cap - 1)) {
        size_t from_home = (i - home(map, map->slots[i].key)) & (map->cap - 1);
        if (from_home >= ((i - hole) & (map->cap - 1))) { /* It may move back to the hole without passing its home. */
            map->slots[hole] = map->slots[i];
            hole = i;
        }
    }
    map->slots[hole].value = NULL;
    map->len--;
    return value;
}

void qn_map_release(struct qn_map *map) {
    free(map->slots);
    *map = (struct qn_map){0};
}

bool qn_map_next(const struct qn_map *map, size_t *index, uint64_t *ret_key, void **ret_value) {
    for (; *index < map->cap; (*index)++) {
        const struct qn_map_slot *slot = &map->slots[*index];
        if (slot->value == NULL) continue;
        if (ret_key != NULL) *ret_key = slot->key;
        if (ret_value != NULL) *ret_value = slot->value;
        (*index)++;
        return true;
    }
    return false;
}
