/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_DAEMON_SECRETS_H
#define QN_DAEMON_SECRETS_H

#include "config.h"

/* Initial secrets: what two nodes were given, by hand, to authenticate their first keys. In the state directory, one
 * file a peer, initial/PEER, the same bytes at both: 16 that name the secret and 32 or more of pads, as `qnetctl
 * gensecret` writes them. Fills config->secrets; errors are written to standard error. */
int secrets_load(struct config *config);
void secrets_release(struct config *config); /* Wipes. */

#endif
