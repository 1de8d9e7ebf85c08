/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_DAEMON_CONFIG_H
#define QN_DAEMON_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "log.h"
#include "node/node.h"
#include "sandbox.h"
#include "topology/topology.h"

/* What a daemon is started with: the options of its command line, and what they lead to. */

struct options {
    const char *topology_path, *node, *identity_path, *state_path, *control_path, *bind_host;
    enum log_format log_format;
    enum log_level log_level;
    double connection_rate; /* Of one address on the node ports, in a second; 0: no limit. */
    enum sandbox_mode sandbox;
    struct sandbox_user user;
};

struct config {
    struct options options; /* Borrowed strings. */
    struct qn_topology topology;
    uint8_t file_digest[32]; /* BLAKE2b of the file's bytes: tells at SIGHUP whether it has changed. */
    uint16_t self;
    uint8_t private_key[32], public_key[32]; /* All zero if the node has no neighbours and no identity. */
    char control_path[108];                  /* "" for no control socket. */
    struct qn_initial_secret *secrets;       /* Owned. */
    size_t n_secrets;
};

/* Where the node keeps what outlives it: --state, or what the service manager gives. NULL: nowhere. */
const char *config_state_directory(const struct options *options);

/* Reads and checks everything. Errors are written to standard error, every one that can be found; then -QN_EPARSE and
 * the like. Success leaves a config to be released. */
int config_load(const struct options *options, struct config *ret_config);
void config_release(struct config *config); /* Wipes the private key. */

/* Reads and parses a topology file; errors and warnings of the file go to standard error. `ret_digest` may be NULL. */
int config_read_topology(const char *path, struct qn_topology *ret_topology, uint8_t *ret_digest);

/* 32 bytes in base64 or hexadecimal, as `qnetd genkey` writes them; surrounding white space is ignored. 0 or
 * -QN_EPARSE. */
int config_parse_key(const char *text, size_t len, uint8_t ret_key[32]);

/* True if no other user can read or change the file. One of root's may be readable by our group: so orchestrators hand
 * out secrets. */
bool config_is_private(const struct stat *file);

#endif
