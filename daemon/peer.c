/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: of two neighbours the one with the lower index dials, on each plane; nodes may start in any order, so it
 * dials until it succeeds, with pauses that double from BACKOFF_MIN_MS to BACKOFF_MAX_MS and are jittered. An open
 * session becomes the lane's live one and the node is told; envelopes flow; when it ends the node is told and dialling
 * begins again.
 *
 * Failure modes. A session that comes up while another is live replaces it: the peer knows better that the old one is
 * dead. A session of a new incarnation ends the old one on both lanes first: SESSION_DOWN, PEER_GONE, then SESSION_UP;
 * so, but for the last, does a Close that says the process stops;
 * sessions of an incarnation that has ended are refused from then on. A session that ends at once counts as a failed
 * attempt, so two nodes that cannot agree do not spin. A queue above CONN_QUEUE_SOFT stops the clients of this node,
 * who are where work comes from (stopping the other peers' sessions instead could lock up a ring of nodes that wait for
 * each other); above CONN_QUEUE_HARD the session is dropped, and the node's channel sends again what was lost. */
#include "peer.h"

#include <assert.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "daemon.h"
#include "qnet/v1/session.pb-c.h"

#define BACKOFF_MIN_MS 50u
#define BACKOFF_MAX_MS 2000u
#define LASTED_MS 2000       /* A session that lived so long was a success. */
#define PATIENCE_ATTEMPTS 8u /* After so many attempts in vain, say so. */

static const char *const plane_names[] = {"classical", "quantum"};

const char *const lane_failure_names[FAIL_N] = {
    [FAIL_UNREACHABLE] = "unreachable", [FAIL_TIMEOUT] = "timeout",   [FAIL_AUTH] = "auth",
    [FAIL_VERSION] = "version",         [FAIL_TOPOLOGY] = "topology", [FAIL_PROTOCOL] = "protocol",
    [FAIL_OVERLOAD] = "overload",       [FAIL_OTHER] = "other",
};

enum lane_failure lane_failure_of(int error) {
    switch (error) {
    case -QN_EPEER_DOWN:
        return FAIL_UNREACHABLE;
    case -QN_ETIMEOUT:
        return FAIL_TIMEOUT;
    case -QN_EAUTH:
        return FAIL_AUTH;
    case -QN_EVERSION:
        return FAIL_VERSION;
    case -QN_ETOPOLOGY:
        return FAIL_TOPOLOGY;
    case -QN_EPROTOCOL:
    case -QN_EPARSE:
        return FAIL_PROTOCOL;
    case -QN_EBUSY:
        return FAIL_OVERLOAD;
    default:
        return FAIL_OTHER;
    }
}

/* What a peer's Close means for us. */
static int error_of(const struct conn_end *end) {
    if (end->error != 0) return end->error;
    switch (end->reason) {
    case QNET__V1__CLOSE_REASON__CLOSE_REASON_SHUTDOWN:
        return -QN_ESHUTDOWN;
    case QNET__V1__CLOSE_REASON__CLOSE_REASON_CUT:
        return -QN_ECUT;
    case QNET__V1__CLOSE_REASON__CLOSE_REASON_PROTOCOL:
        return -QN_EPROTOCOL;
    case QNET__V1__CLOSE_REASON__CLOSE_REASON_OVERLOAD:
        return -QN_EBUSY;
    case QNET__V1__CLOSE_REASON__CLOSE_REASON_VERSION:
        return -QN_EVERSION;
    case QNET__V1__CLOSE_REASON__CLOSE_REASON_TOPOLOGY:
        return -QN_ETOPOLOGY;
    default:
        return -QN_ECLOSED;
    }
}

static void lane_dial(struct lane *lane);
static void lane_detach(struct lane *lane, int error);
static void end_incarnation(struct peer *peer, int error);
static const struct conn_ops live_ops, dialing_ops;

static bool lane_wants_dial(const struct lane *lane) {
    return !lane->peer->dials_us && !lane->peer->daemon->peers.stopping && !lane->cut && lane->conn == NULL &&
           lane->dialing == NULL && !lane->resolving;
}

static void on_retry(uv_timer_t *timer) { lane_dial(timer->data); }

static void lane_retry(struct lane *lane) {
    if (!lane_wants_dial(lane)) return;
    unsigned shift = lane->attempts < 6 ? lane->attempts : 6;
    unsigned pause_ms = BACKOFF_MIN_MS << shift;
    if (pause_ms > BACKOFF_MAX_MS) pause_ms = BACKOFF_MAX_MS;
    uv_timer_start(&lane->retry, on_retry, pause_ms / 2 + randombytes_uniform(pause_ms / 2 + 1), 0);
}

/* An attempt came to nothing. */
static void lane_failed(struct lane *lane, int error, const char *detail) {
    struct log *log = &lane->peer->daemon->log;
    enum lane_failure failure = lane_failure_of(error);
    lane->n_failures[failure]++;
    lane->attempts++;
    bool is_waiting = failure == FAIL_UNREACHABLE || failure == FAIL_OTHER; /* Not started yet, or stopping. */
    enum log_level level = !is_waiting ? LOG_WARNING : lane->attempts == PATIENCE_ATTEMPTS ? LOG_INFO : LOG_DEBUG;
    const char *todo = is_waiting ? "trying on" : qn_err_todo(error);
    log_write(log, level, "dial_failed", lane->peer->name, "no %s session: %s (%s)", plane_names[lane->plane], detail,
              todo);
    lane_retry(lane);
}

static void on_dialing_closed(struct conn *conn, const struct conn_end *end) {
    struct lane *lane = conn->owner;
    lane->dialing = NULL;
    lane_failed(lane, error_of(end), end->detail);
}

static void on_dialing_open(struct conn *conn) {
    struct lane *lane = conn->owner;
    lane->dialing = NULL;
    lane_take(lane, conn);
}

static void on_early_envelope(struct conn *conn, const uint8_t *bytes, size_t len) {
    (void)conn; /* on_open comes before the first envelope and puts live_ops in place, or closes the conn. */
    (void)bytes;
    (void)len;
}

static const struct conn_ops dialing_ops = {on_dialing_open, on_early_envelope, on_dialing_closed};

void peers_session_config(const struct daemon *daemon, struct qn_session_config *ret_config) {
    const struct config *config = daemon->config;
    *ret_config = (struct qn_session_config){
        .network = config->topology.name,
        .self = config->self,
        .incarnation = daemon->incarnation,
        .software = DAEMON_SOFTWARE,
        .protocol_min = QN_PROTOCOL_MIN,
        .protocol_max = QN_PROTOCOL_MAX,
    };
    memcpy(ret_config->private_key, config->private_key, 32);
    memcpy(ret_config->public_key, config->public_key, 32);
    memcpy(ret_config->topology_digest, config->topology.digest, 32);
    randombytes_buf(ret_config->random_key, 32);
}

static void dial_address(struct lane *lane, const struct sockaddr *address) {
    struct daemon *daemon = lane->peer->daemon;
    struct qn_session_config config;
    peers_session_config(daemon, &config);
    config.initiator = true;
    config.plane = lane->plane;
    config.peer = lane->peer->node;
    memcpy(config.remote_key, daemon->config->topology.nodes[lane->peer->node].public_key, 32);
    int rc = conn_dial(&daemon->turn, address, &config, &dialing_ops, lane, &lane->dialing);
    sodium_memzero(&config, sizeof config);
    if (rc < 0) lane_failed(lane, rc, qn_err_what(rc));
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *list) {
    struct lane *lane = request->data;
    lane->resolving = false;
    unsigned n = 0;
    for (struct addrinfo *info = list; info != NULL; info = info->ai_next) n++;
    if (lane_wants_dial(lane) && (status < 0 || n == 0)) {
        lane_failed(lane, -QN_EPEER_DOWN, status < 0 ? uv_strerror(status) : "the name has no address");
    } else if (lane_wants_dial(lane)) {
        struct addrinfo *info = list; /* Each attempt takes the next: a name may have addresses nobody listens on. */
        for (unsigned skip = lane->attempts % n; skip > 0; skip--) info = info->ai_next;
        dial_address(lane, info->ai_addr);
    }
    uv_freeaddrinfo(list);
}

/* Names are resolved anew each time: a restarted container has another address. */
static void lane_dial(struct lane *lane) {
    if (!lane_wants_dial(lane)) return;
    struct daemon *daemon = lane->peer->daemon;
    const struct qn_topo_node *node = &daemon->config->topology.nodes[lane->peer->node];
    const struct qn_address *to = lane->plane == QN_CLASSICAL ? &node->classical : &node->quantum;
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address;
    if (uv_ip4_addr(to->host, to->port, &address.v4) == 0 || uv_ip6_addr(to->host, to->port, &address.v6) == 0) {
        dial_address(lane, &address.any);
        return;
    }
    char port[8];
    snprintf(port, sizeof port, "%u", to->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    lane->resolve.data = lane;
    int rc = uv_getaddrinfo(&daemon->loop, &lane->resolve, on_resolved, to->host, port, &hints);
    lane->resolving = rc == 0;
    if (rc < 0) lane_failed(lane, -QN_EPEER_DOWN, uv_strerror(rc));
}

static void on_live_envelope(struct conn *conn, const uint8_t *bytes, size_t len) {
    struct lane *lane = conn->owner;
    struct qn_event event = {
        .type = QN_EVENT_ENVELOPE, .plane = lane->plane, .peer = lane->peer->node, .bytes = bytes, .len = len};
    int rc = daemon_event(lane->peer->daemon, &event);
    if (rc != -QN_EPROTOCOL || lane->conn != conn) return;
    lane->n_failures[FAIL_PROTOCOL]++;
    const char *what = qn_node_violation(lane->peer->daemon->node);
    log_write(&lane->peer->daemon->log, LOG_WARNING, "protocol", lane->peer->name,
              "closing the %s session: %s: %s (%s)", plane_names[lane->plane], qn_err_what(rc), what, qn_err_todo(rc));
    conn_close(conn, QNET__V1__CLOSE_REASON__CLOSE_REASON_PROTOCOL, what);
    lane_detach(lane, rc);
}

static void on_live_closed(struct conn *conn, const struct conn_end *end) {
    struct lane *lane = conn->owner;
    int error = error_of(end);
    enum log_level level = error == -QN_ESHUTDOWN || error == -QN_ECUT ? LOG_INFO : LOG_WARNING;
    if (error != -QN_ESHUTDOWN && error != -QN_ECUT) lane->n_failures[lane_failure_of(error)]++;
    log_write(&lane->peer->daemon->log, level, "session_down", lane->peer->name, "%s session ended: %s%s%s",
              plane_names[lane->plane], qn_err_what(error), *end->detail != '\0' ? ": " : "", end->detail);
    lane_detach(lane, error);
    if (error == -QN_ESHUTDOWN && lane->peer->is_known) end_incarnation(lane->peer, error);
}

static void on_live_open(struct conn *conn) { (void)conn; /* Ops are changed after it has opened. */ }

static const struct conn_ops live_ops = {on_live_open, on_live_envelope, on_live_closed};

/* The lane has lost its live conn (which somebody has closed or will close): tell the node, dial again. */
static void lane_detach(struct lane *lane, int error) {
    struct conn *conn = lane->conn;
    lane->conn = NULL;
    lane->sent_before += conn->n_sent;
    lane->received_before += conn->n_received;
    lane->rekeys_before += conn->n_rekeys;
    lane->attempts = uv_now(&lane->peer->daemon->loop) - conn->opened_ms >= LASTED_MS ? 0 : lane->attempts + 1;
    struct qn_event event = {
        .type = QN_EVENT_SESSION_DOWN, .plane = lane->plane, .peer = lane->peer->node, .error = error};
    daemon_event(lane->peer->daemon, &event);
    lane_retry(lane);
}

static void lane_end(struct lane *lane, uint32_t reason, const char *detail, int error) {
    if (lane->conn == NULL) return;
    conn_close(lane->conn, reason, detail);
    lane_detach(lane, error);
}

static bool is_over(const struct peer *peer, uint64_t incarnation) {
    for (unsigned i = 0; i < peer->n_over && i < PEER_OVER_MAX; i++)
        if (peer->over[i] == incarnation) return true;
    return false;
}

/* The process that ran under the peer's name is over: another runs (0), or it has stopped (-QN_ESHUTDOWN). Whatever it
 * knew is gone, so nobody has to wait until it is missed. */
static void end_incarnation(struct peer *peer, int error) {
    const char *why = error == 0 ? "a newer incarnation is here" : "farewell was said on the other session";
    for (int plane = 0; plane < 2; plane++)
        lane_end(&peer->lanes[plane], QNET__V1__CLOSE_REASON__CLOSE_REASON_REPLACED, why, -QN_ECLOSED);
    peer->over[peer->n_over++ % PEER_OVER_MAX] = peer->incarnation;
    peer->is_known = false;
    log_write(&peer->daemon->log, LOG_INFO, "peer_gone", peer->name,
              error == 0 ? "it has been restarted" : "it has stopped");
    struct qn_event event = {
        .type = QN_EVENT_PEER_GONE, .peer = peer->node, .incarnation = peer->incarnation, .error = error};
    daemon_event(peer->daemon, &event);
}

void lane_take(struct lane *lane, struct conn *conn) {
    struct peer *peer = lane->peer;
    if (peer->daemon->peers.stopping) {
        conn_close(conn, QNET__V1__CLOSE_REASON__CLOSE_REASON_SHUTDOWN, "the node is stopping");
        return;
    }
    if (conn->our_incarnation != peer->daemon->incarnation) { /* Accepted before this node started anew. */
        conn_close(conn, QNET__V1__CLOSE_REASON__CLOSE_REASON_REPLACED, "the node has started anew");
        lane_retry(lane);
        return;
    }
    if (lane->cut) {
        conn_close(conn, QNET__V1__CLOSE_REASON__CLOSE_REASON_CUT, "cut by an operator");
        return;
    }
    if (is_over(peer, conn->incarnation)) {
        conn_close(conn, QNET__V1__CLOSE_REASON__CLOSE_REASON_REPLACED, "a newer incarnation was here");
        lane_retry(lane);
        return;
    }
    if (peer->is_known && peer->incarnation != conn->incarnation) end_incarnation(peer, 0);
    lane_end(lane, QNET__V1__CLOSE_REASON__CLOSE_REASON_REPLACED, "a newer session took over", -QN_ECLOSED);
    peer->is_known = true;
    peer->incarnation = conn->incarnation;
    lane->conn = conn;
    lane->n_sessions++;
    conn->ops = &live_ops;
    conn->owner = lane;
    uv_timer_stop(&lane->retry);
    log_write(&peer->daemon->log, LOG_INFO, "session_up", peer->name, "%s session with %s (%s, protocol %u)",
              plane_names[lane->plane], conn->address, conn->software, conn->version);
    struct qn_event event = {
        .type = QN_EVENT_SESSION_UP, .plane = lane->plane, .peer = peer->node, .incarnation = peer->incarnation};
    daemon_event(peer->daemon, &event);
}

void lane_send(struct lane *lane, const uint8_t *bytes, size_t len) {
    struct conn *conn = lane->conn;
    if (conn == NULL) {
        lane->n_dropped++;
        return;
    }
    conn_send(conn, bytes, len);
    if (lane->conn == conn && conn_queued(conn) > CONN_QUEUE_SOFT) control_hold(&lane->peer->daemon->control);
}

void lane_cut(struct lane *lane, bool on) {
    if (lane->cut == on) return;
    lane->cut = on;
    if (on) {
        uv_timer_stop(&lane->retry);
        if (lane->dialing != NULL) {
            conn_close(lane->dialing, QNET__V1__CLOSE_REASON__CLOSE_REASON_CUT, "cut by an operator");
            lane->dialing = NULL;
        }
        lane_end(lane, QNET__V1__CLOSE_REASON__CLOSE_REASON_CUT, "cut by an operator", -QN_ECUT);
    } else {
        lane->attempts = 0;
        lane_retry(lane);
    }
}

bool peers_are_congested(const struct peers *peers) {
    for (size_t i = 0; i < peers->len * 2; i++) {
        const struct conn *conn = peers->list[i / 2].lanes[i % 2].conn;
        if (conn != NULL && conn_queued(conn) > CONN_QUEUE_SOFT / 2) return true;
    }
    return false;
}

struct peer *peers_find(const struct peers *peers, uint16_t node) {
    size_t low = 0, high = peers->len;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (peers->list[middle].node == node) return &peers->list[middle];
        if (peers->list[middle].node < node)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

struct peer *peers_find_key(const struct daemon *daemon, const uint8_t public_key[32]) {
    for (size_t i = 0; i < daemon->peers.len; i++) {
        struct peer *peer = &daemon->peers.list[i];
        if (peer->dials_us && memcmp(daemon->config->topology.nodes[peer->node].public_key, public_key, 32) == 0)
            return peer;
    }
    return NULL;
}

static void peer_init(struct peer *peer, struct daemon *daemon, uint16_t node) {
    *peer = (struct peer){.daemon = daemon, .node = node, .name = daemon->config->topology.nodes[node].name};
    peer->dials_us = node < daemon->config->self;
    for (int plane = 0; plane < 2; plane++) {
        struct lane *lane = &peer->lanes[plane];
        lane->peer = peer;
        lane->plane = (enum qn_plane_id)plane;
        uv_timer_init(&daemon->loop, &lane->retry);
        lane->retry.data = lane;
    }
}

int peers_init(struct daemon *daemon) {
    const struct qn_topology *topology = &daemon->config->topology;
    uint16_t self = daemon->config->self;
    size_t n = 0;
    for (size_t i = 0; i < topology->n_nodes; i++)
        if (i != self && qn_topology_is_neighbour(topology, self, (uint16_t)i)) n++;
    daemon->peers.list = calloc(n > 0 ? n : 1, sizeof *daemon->peers.list);
    if (daemon->peers.list == NULL) return -QN_ENOMEM;
    for (size_t i = 0; i < topology->n_nodes; i++) {
        if (i == self || !qn_topology_is_neighbour(topology, self, (uint16_t)i)) continue;
        peer_init(&daemon->peers.list[daemon->peers.len++], daemon, (uint16_t)i);
        daemon->peers.n_dialers += i < self;
    }
    return 0;
}

void peers_dial(struct daemon *daemon) {
    for (size_t i = 0; i < daemon->peers.len * 2; i++) lane_dial(&daemon->peers.list[i / 2].lanes[i % 2]);
}

void peers_renew(struct daemon *daemon) {
    for (size_t i = 0; i < daemon->peers.len * 2; i++) {
        struct lane *lane = &daemon->peers.list[i / 2].lanes[i % 2];
        if (lane->dialing != NULL) {
            conn_drop(lane->dialing);
            lane->dialing = NULL;
        }
        lane_end(lane, QNET__V1__CLOSE_REASON__CLOSE_REASON_REPLACED, "the node starts anew", -QN_ECLOSED);
        lane->attempts = 0;
        lane_retry(lane);
    }
}

void peers_stop(struct daemon *daemon) {
    daemon->peers.stopping = true;
    for (size_t i = 0; i < daemon->peers.len * 2; i++) {
        struct lane *lane = &daemon->peers.list[i / 2].lanes[i % 2];
        uv_close((uv_handle_t *)&lane->retry, NULL);
        if (lane->resolving) uv_cancel((uv_req_t *)&lane->resolve);
        if (lane->dialing != NULL)
            conn_close(lane->dialing, QNET__V1__CLOSE_REASON__CLOSE_REASON_SHUTDOWN, "the node stops");
        lane->dialing = NULL;
        if (lane->conn != NULL) conn_close(lane->conn, QNET__V1__CLOSE_REASON__CLOSE_REASON_SHUTDOWN, "the node stops");
        lane->conn = NULL;
    }
}

void peers_release(struct daemon *daemon) {
    free(daemon->peers.list);
    daemon->peers = (struct peers){0};
}
