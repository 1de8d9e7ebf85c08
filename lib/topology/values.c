/* SPDX-License-Identifier: Apache-2.0 */
#include "topology/values.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool word_read(struct diags *diags, struct place at, const struct field *field, const char *text, void *ret_enum) {
    unsigned n = 0; /* The enums have no negative value, so their type is unsigned. */
    for (; field->words[n] != NULL; n++) {
        if (strcmp(field->words[n], text) != 0) continue;
        memcpy(ret_enum, &n, sizeof(n));
        return true;
    }
    diag_unknown(diags, at, field->key, text, "", field->words, n);
    return false;
}

/* Decimal digits only, no sign, no leading zero (which YAML 1.1 takes for octal). */
static bool whole_number(const char *text, uint64_t *ret_value) {
    if (!isdigit((unsigned char)text[0]) || (text[0] == '0' && text[1] != '\0')) return false;
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (*end != '\0' || errno != 0) return false;
    *ret_value = value;
    return true;
}

bool count_read(struct diags *diags, struct place at, const struct field *field, const char *text, void *ret_u32) {
    uint64_t value = 0;
    uint64_t min = (uint64_t)field->min, max = (uint64_t)field->max;
    if (!whole_number(text, &value) || value < min || value > max) {
        if (min == max)
            diag_error(diags, at, "%s %s is not known; valid: %ju", field->key, quote(text).s, (uintmax_t)min);
        else
            diag_error(diags, at, "%s %s is not a whole number from %ju to %ju", field->key, quote(text).s,
                       (uintmax_t)min, (uintmax_t)max);
        return false;
    }
    uint32_t count = (uint32_t)value;
    memcpy(ret_u32, &count, sizeof(count));
    return true;
}

bool seed_read(struct diags *diags, struct place at, const struct field *field, const char *text, void *ret_u64) {
    uint64_t value = 0;
    if (!whole_number(text, &value)) {
        diag_error(diags, at, "%s %s is not a whole number from 0 to 18446744073709551615", field->key, quote(text).s);
        return false;
    }
    memcpy(ret_u64, &value, sizeof(value));
    return true;
}

static void report_quantity(struct diags *diags, struct place at, const struct field *field, const char *text,
                            enum quantity_fault fault, const char *unit) {
    const char *names[8];
    size_t n = 0;
    const struct dimension *dimension = dimension_of(field->dimension);
    for (const struct unit *u = dimension->units; u->name != NULL; u++)
        if (u->name[0] != '\0') names[n++] = u->name;
    if (fault == QUANTITY_UNKNOWN_UNIT && n > 0) {
        char where[128];
        snprintf(where, sizeof(where), " in %s %s", field->key, quote(text).s);
        diag_unknown(diags, at, "unit", unit, where, names, n);
    } else {
        diag_error(diags, at, "%s %s %s", field->key, quote(text).s, quantity_why(fault, field->dimension));
    }
}

static bool quantity_in_range(struct diags *diags, struct place at, const struct field *field, const char *text,
                              int shift, double *ret_value) {
    const char *unit = NULL;
    enum quantity_fault fault = quantity_read(text, field->dimension, shift, ret_value, &unit);
    if (fault != QUANTITY_OK) {
        report_quantity(diags, at, field, text, fault, unit);
        return false;
    }
    if (*ret_value >= field->min && *ret_value <= field->max) return true;
    diag_error(diags, at, "%s %s is out of range; valid: %s to %s", field->key, quote(text).s,
               quantity_write(field->min, field->dimension, shift).s,
               quantity_write(field->max, field->dimension, shift).s);
    return false;
}

bool number_read(struct diags *diags, struct place at, const struct field *field, const char *text, void *ret_double) {
    double value = 0;
    if (!quantity_in_range(diags, at, field, text, 0, &value)) return false;
    memcpy(ret_double, &value, sizeof(value));
    return true;
}

bool list_item_read(struct diags *diags, struct place at, const struct field *field, const char *text,
                    struct qn_topo_list *list) {
    if (list->n == QN_TOPO_LIST_MAX) {
        diag_error(diags, at, "%s has more than %d values", field->key, QN_TOPO_LIST_MAX);
        return false;
    }
    return quantity_in_range(diags, at, field, text, 0, &list->value[list->n]) && (list->n++, true);
}

bool time_ns_read(struct diags *diags, struct place at, const struct field *field, const char *text, void *ret_u64) {
    double value = 0;
    if (!quantity_in_range(diags, at, field, text, 9, &value)) return false;
    if (value != floor(value)) {
        diag_error(diags, at, "%s %s is finer than the clock; valid: whole nanoseconds", field->key, quote(text).s);
        return false;
    }
    uint64_t ns = (uint64_t)value;
    memcpy(ret_u64, &ns, sizeof(ns));
    return true;
}

bool name_read(struct diags *diags, struct place at, const char *what, const char *text,
               char ret_name[QN_NAME_MAX + 1]) {
    size_t len = strlen(text);
    bool is_valid = len > 0 && len <= QN_NAME_MAX && text[0] != '-' && text[len - 1] != '-';
    for (size_t i = 0; i < len && is_valid; i++)
        is_valid = (text[i] >= 'a' && text[i] <= 'z') || (text[i] >= '0' && text[i] <= '9') || text[i] == '-';
    if (!is_valid) {
        diag_error(diags, at, "%s name %s is not valid; valid: a-z, 0-9 and - (not at either end), at most %d", what,
                   quote(text).s, QN_NAME_MAX);
        return false;
    }
    memcpy(ret_name, text, len + 1);
    return true;
}

/* A number of IPv4 or IPv6, or a name. */
static bool host_is_valid(const char *host, bool in_brackets) {
    struct in6_addr v6;
    struct in_addr v4;
    if (in_brackets) return inet_pton(AF_INET6, host, &v6) == 1;
    size_t len = strlen(host);
    if (len == 0 || host[0] == '.' || host[0] == '-' || host[len - 1] == '-') return false;
    if (strspn(host, "0123456789.") == len) return inet_pton(AF_INET, host, &v4) == 1;
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)host[i]) && strchr(".-_", host[i]) == NULL) return false;
    return true;
}

static bool address_split(const char *text, struct qn_address *address) {
    const char *colon = strrchr(text, ':');
    uint64_t port = 0;
    if (colon == NULL || !whole_number(colon + 1, &port) || port == 0 || port > UINT16_MAX) return false;
    size_t len = (size_t)(colon - text);
    bool in_brackets = len >= 2 && text[0] == '[' && text[len - 1] == ']';
    if (in_brackets) {
        text++;
        len -= 2;
    }
    if (len >= sizeof(address->host)) return false;
    memcpy(address->host, text, len);
    address->host[len] = '\0';
    address->port = (uint16_t)port;
    return host_is_valid(address->host, in_brackets);
}

bool address_read(struct diags *diags, struct place at, const struct field *field, const char *text,
                  struct qn_address *ret_address) {
    struct qn_address address = {0};
    if (!address_split(text, &address)) {
        diag_error(diags, at,
                   "%s address %s is not valid; valid: \"host:port\", \"192.0.2.1:7101\" or \"[2001:db8::1]:7101\", "
                   "port 1 to 65535",
                   field->key, quote(text).s);
        return false;
    }
    *ret_address = address;
    return true;
}

bool key_read(struct diags *diags, struct place at, const struct field *field, const char *text, uint8_t ret_key[32]) {
    uint8_t key[32];
    size_t len = strlen(text), n = 0;
    bool is_valid =
        len == 64 ? sodium_hex2bin(key, sizeof(key), text, len, NULL, &n, NULL) == 0
                  : sodium_base642bin(key, sizeof(key), text, len, NULL, &n, NULL, sodium_base64_VARIANT_ORIGINAL) == 0;
    if (!is_valid || n != sizeof(key)) {
        /* Not quoted: it could be the private key by mistake. */
        diag_error(diags, at, "%s is not 32 bytes; valid: 44 characters of base64 or 64 hexadecimal digits",
                   field->key);
        return false;
    }
    if (sodium_is_zero(key, sizeof(key))) {
        diag_error(diags, at, "%s is all zeros; valid: the public key that belongs to the node's private key",
                   field->key);
        return false;
    }
    memcpy(ret_key, key, sizeof(key));
    return true;
}
