/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_TOPOLOGY_VALUES_H
#define QN_TOPOLOGY_VALUES_H

#include "topology/internal.h"

/* Reads one value from its text (values.c). False if it is wrong, which is reported; the target is untouched then. */
bool word_read(struct diags *diags, struct place at, const struct field *field, const char *text, void *ret_enum);
bool count_read(struct diags *diags, struct place at, const struct field *field, const char *text, void *ret_u32);
bool seed_read(struct diags *diags, struct place at, const struct field *field, const char *text, void *ret_u64);
bool number_read(struct diags *diags, struct place at, const struct field *field, const char *text, void *ret_double);
bool list_item_read(struct diags *diags, struct place at, const struct field *field, const char *text,
                    struct qn_topo_list *list); /* Appends. */
bool time_ns_read(struct diags *diags, struct place at, const struct field *field, const char *text, void *ret_u64);
bool name_read(struct diags *diags, struct place at, const char *what, const char *text,
               char ret_name[QN_NAME_MAX + 1]);
bool address_read(struct diags *diags, struct place at, const struct field *field, const char *text,
                  struct qn_address *ret_address);
bool key_read(struct diags *diags, struct place at, const struct field *field, const char *text, uint8_t ret_key[32]);

#endif
