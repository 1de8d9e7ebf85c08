/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_TEST_VALUES_H
#define QN_TEST_VALUES_H

#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* The figures of data/check-values.json, a group at a time. Every number expected of an entry must be compared: what
 * has been is deleted from a copy, and nothing but standard errors and remarks may be left in the end. */
struct value {
    const char *name;
    json_t *params, *left;
};
struct value_case {
    const char *prefix; /* Of the names it covers. */
    void (*check)(struct value *value);
};

static inline double number_of(const json_t *number, const char *name, const char *key) {
    cr_assert(json_is_number(number), "%s: no number %s", name, key);
    return json_number_value(number);
}

static inline double param(const struct value *value, const char *key) {
    return number_of(json_object_get(value->params, key), value->name, key);
}

static inline double stated(const struct value *value, const char *key) {
    return number_of(json_object_get(value->left, key), value->name, key);
}

/* Closed forms agree to rounding, whatever looser tolerance the entry allows to sampling. */
static inline void same(const char *name, const char *key, double actual, double expected) {
    cr_assert(fabs(actual - expected) <= 1e-9 * fabs(expected) + 1e-12, "%s: %s is %.15g, not %.15g", name, key, actual,
              expected);
}

static inline void near(const char *name, const char *key, double actual, double expected, double margin) {
    cr_assert(fabs(actual - expected) <= margin, "%s: %s is %.15g, not within %g of %.15g", name, key, actual, margin,
              expected);
}

static inline void expect(struct value *value, const char *key, double actual) {
    same(value->name, key, actual, stated(value, key));
    json_object_del(value->left, key);
}

static inline void expect_near(struct value *value, const char *key, double actual, double margin) {
    near(value->name, key, actual, stated(value, key), margin);
    json_object_del(value->left, key);
}

static inline void numbers(const struct value *value, const json_t *array, double *ret, size_t n) {
    cr_assert_eq(json_array_size(array), n, "%s", value->name);
    for (size_t i = 0; i < n; i++) ret[i] = number_of(json_array_get(array, i), value->name, "array");
}

static inline void expect_array(struct value *value, const char *key, const double *actual, size_t n) {
    double expected[16];
    cr_assert(n <= 16);
    numbers(value, json_object_get(value->left, key), expected, n);
    for (size_t i = 0; i < n; i++) same(value->name, key, actual[i], expected[i]);
    json_object_del(value->left, key);
}

static inline void values_all_compared(const struct value *value) {
    const char *key;
    json_t *left;
    if (json_is_array(value->left)) cr_assert_eq(json_array_size(value->left), 0, "%s", value->name);
    json_object_foreach(value->left, key, left) {
        bool is_remark = json_is_string(left) || strcmp(key, "se") == 0 || strncmp(key, "se_", 3) == 0;
        cr_assert(is_remark, "%s: %s was not compared", value->name, key);
    }
}

/* Fails unless `least` entries of the group are covered. */
static inline void values_check(const char *group, const struct value_case *cases, size_t n_cases, size_t least) {
    json_t *root = json_load_file(QN_TEST_DATA "/check-values.json", 0, NULL), *entry;
    cr_assert_not_null(root);
    size_t i, covered = 0, total = 0;
    json_array_foreach(root, i, entry) {
        if (strcmp(json_string_value(json_object_get(entry, "group")), group) != 0) continue;
        total++;
        struct value value = {.name = json_string_value(json_object_get(entry, "name")),
                              .params = json_object_get(entry, "params")};
        for (size_t c = 0; c < n_cases; c++) {
            if (strncmp(value.name, cases[c].prefix, strlen(cases[c].prefix)) != 0) continue;
            value.left = json_deep_copy(json_object_get(entry, "expected"));
            cases[c].check(&value);
            values_all_compared(&value);
            json_decref(value.left);
            covered++;
            break;
        }
    }
    fprintf(stderr, "# %s: %zu of %zu entries of check-values.json\n", group, covered, total);
    cr_assert_geq(covered, least, "%s: only %zu entries are covered", group, covered);
    json_decref(root);
}

#endif
