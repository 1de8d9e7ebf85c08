/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_NODE_INTERNAL_H
#define QN_NODE_INTERNAL_H

/* What the files of lib/node share. node.c turns events into calls of the protocols; transport.c and receive.c carry
 * envelopes; pair.c keeps memories and pairs; station.c and link.c are the link layer; circuit.c the network layer;
 * request.c, teleport.c and bb84.c are what users ask for; control.c answers everything else they ask. */

#include "base/csprng.h"
#include "base/err.h"
#include "base/map.h"
#include "base/rng.h"
#include "base/timer.h"
#include "link/attack.h"
#include "link/link.h"
#include "node/node.h"
#include "plane/plane.h"
#include "qnet/v1/control.pb-c.h"
#include "qnet/v1/envelope.pb-c.h"
#include "qnet/v1/keys.pb-c.h"
#include "wire/arena.h"
#include "wire/channel.h"

#define CONTAINER_OF(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* Doubly linked list through the elements; the head is an element of its own. All-zero is not valid: list_init. */
struct list {
    struct list *prev, *next;
};
static inline void list_init(struct list *l) { l->prev = l->next = l; }
static inline bool list_is_empty(const struct list *l) { return l->next == l; }
static inline void list_append(struct list *l, struct list *item) {
    item->prev = l->prev;
    item->next = l;
    l->prev->next = item;
    l->prev = item;
}
static inline void list_remove(struct list *item) { /* A removed item may be removed again. */
    item->prev->next = item->next;
    item->next->prev = item->prev;
    list_init(item);
}

/* ---- transport.c ---- */

struct held { /* An envelope on its way through the fibre: given to the driver when its light time is over. */
    struct held *next;
    uint64_t due_ns;
    struct qn_channel_item *item; /* Whose bytes they are, kept; NULL: they are in `own`. */
    const uint8_t *bytes;
    size_t len;
    uint8_t own[];
};

struct neighbour { /* A node we have sessions with. */
    uint16_t id;
    bool open[2];     /* There is a session, by plane, */
    bool up[2];       /* with a life of the node that is not over. */
    uint64_t life[2]; /* Incarnation at the other end of the session: certain, by the node's key. */
    bool was_up;
    bool cut[2];
    uint64_t delay_ns;       /* Of the classical channel, one way. */
    uint64_t extra_delay_ns; /* Added by an operator. */
    struct held *first, *last;
    struct qn_timer timer;
    uint64_t held_bytes;
};

struct remote;
struct way { /* The channel of one plane to one remote node. */
    struct remote *remote;
    enum qn_plane_id plane;
    struct qn_channel channel;
    struct qn_timer resend, acknowledge;
    unsigned tries;
};

struct verdict { /* A life that is over; see lives.c. */
    uint64_t incarnation, by_incarnation;
    uint32_t weight;
    uint16_t by;
    Qnet__V1__DownCause cause;
};
enum { LIVES_MAX = 32 }; /* Remembered of each node. */

struct reach { /* What a node says of its own sessions; version 0: nothing, so all are taken to be up. */
    uint64_t incarnation, version;
    uint16_t *lost; /* Owned: neighbours it has no session with. */
    size_t n;
};

struct remote { /* Any other node. */
    uint16_t id;
    uint16_t next_hop; /* Of protocol messages. QN_NO_NODE: no route. */
    uint16_t host_hop; /* Of hosting messages, at present. */
    uint16_t hops;
    uint64_t path_delay_ns;
    uint64_t incarnation;           /* Present life; 0: not known. */
    struct verdict gone[LIVES_MAX]; /* Lives that are over: nothing from them is believed. */
    size_t n_gone;
    struct reach reach;
    bool lost; /* No way leads to it, since lost_ns. */
    uint64_t lost_ns, check_ns;
    uint64_t told_ns;   /* When a dead life of it was last told so. */
    unsigned asked;     /* How often the others were asked who it is. */
    struct way ways[2]; /* By plane. */
};

struct qn_node;
/* Sends a message to any node: in order, exactly once, as long as both live. Only the body of the envelope counts.
 * -QN_EBUSY when too much is waiting, -QN_ENO_ROUTE. */
int node_send(struct qn_node *node, uint16_t to, Qnet__V1__Envelope *envelope);
/* The same, of a body that is packed already: field `field` of the envelope. */
int node_send_packed(struct qn_node *node, uint16_t to, uint32_t field, const uint8_t *bytes, size_t len);
/* The same without a copy: where to pack `len` bytes, which must then be sent. NULL: not now, or not so. */
uint8_t *node_send_room(struct qn_node *node, uint16_t to, uint32_t field, size_t len,
                        struct qn_channel_item **ret_item);
void node_send_filled(struct qn_node *node, uint16_t to, struct qn_channel_item *item);
/* Sends photons to a neighbour (or to ourselves): lost if the quantum port is down. */
int node_send_photon(struct qn_node *node, uint16_t to, Qnet__V1__Photon *photon);
int node_send_plane(struct qn_node *node, uint16_t to, Qnet__V1__PlaneMessage *message);
void node_flush_plane(struct qn_node *node); /* Carries out what the quantum plane has produced. */
/* fibre.c */
#define FIBRE_HOLDS ((size_t)4 << 20) /* Bytes on their way to one neighbour. */
struct parcel {                       /* What is sent: borrowed bytes; or an item's, which are better kept. */
    const uint8_t *bytes;
    size_t len;
    struct qn_channel_item *item; /* Or NULL. */
};
/* True if it was given to a session. Messages of the quantum plane use the classical session if they must. */
bool fibre_send(struct qn_node *node, uint16_t hop, enum qn_plane_id plane, const struct parcel *parcel);
bool fibre_is_up(const struct qn_node *node, uint16_t hop, enum qn_plane_id plane);
void fibre_on_due(void *context, struct qn_timer *timer); /* A neighbour's: a message has arrived. */
void fibre_free(struct held *held);                       /* All of the list. */

void transport_send_plane(struct qn_node *node); /* Puts what the plane says on its channels. */
int transport_init(struct qn_node *node);
void transport_release(struct qn_node *node);
void transport_on_session(struct qn_node *node, enum qn_plane_id plane, uint16_t peer, bool up, uint64_t incarnation);
bool transport_send_now(struct qn_node *node, uint16_t peer, enum qn_plane_id plane, Qnet__V1__Envelope *envelope);
bool transport_send_away(struct qn_node *node, uint16_t to, Qnet__V1__Envelope *envelope);
void transport_repeat(struct qn_node *node, struct way *way);
void transport_start(struct qn_node *node);                                /* A new life of this node. */
void transport_forget(struct qn_node *node, uint16_t peer);                /* Its incarnation is over. */
struct neighbour *node_neighbour(const struct qn_node *node, uint16_t id); /* NULL if it is none. */
void transport_check(const struct qn_node *node);                          /* Asserts the limits of its queues. */
bool transport_is_idle(const struct qn_node *node);
bool node_can_reach(const struct qn_node *node, uint16_t id); /* The first hop of its classical channel is up. */
uint16_t transport_hop(const struct way *way);                /* The neighbour it goes by, at present. */
uint64_t transport_resend_after(const struct qn_node *node, const struct way *way); /* Without a word from there. */
void transport_acknowledge(struct qn_node *node, struct way *way); /* Now, in an envelope without a body. */
/* receive.c */
int transport_on_envelope(struct qn_node *node, enum qn_plane_id plane, uint16_t peer, const uint8_t *bytes,
                          size_t len);
void transport_deliver_local(struct qn_node *node); /* What the node sent to itself. */

/* ---- reach.c: who can be reached ---- */

void reach_start(struct qn_node *node);
void reach_forget(struct remote *remote); /* What it has said. */
void reach_on_session(struct qn_node *node, struct neighbour *neighbour, enum qn_plane_id plane, bool up);
void reach_on_message(struct qn_node *node, uint16_t from, const Qnet__V1__Reach *m);
void reach_on_life_over(struct qn_node *node, struct remote *remote);

/* ---- lives.c: whose life is over ---- */

bool lives_is_over(const struct remote *remote, uint64_t incarnation);
bool lives_is_over_for(const struct qn_node *node, uint16_t id, uint32_t epoch); /* Of which these are the low bits. */
bool lives_meet(struct qn_node *node, struct remote *remote, uint64_t incarnation); /* False: that life is over. */
void lives_tell_plane(struct qn_node *node); /* A new one: of all lives that are over. */
void lives_tell(struct qn_node *node, uint16_t peer, enum qn_plane_id plane);
void lives_tell_fenced(struct qn_node *node, struct remote *remote, uint64_t incarnation);
int lives_declare(struct qn_node *node, uint16_t id, Qnet__V1__DownCause cause); /* -QN_ENOT_FOUND: never met. */
bool lives_alone(const struct qn_node *node); /* No neighbour lives, as far as is known. */
void lives_replaced(struct qn_node *node, uint16_t id, uint64_t incarnation, bool left);
void lives_on_message(struct qn_node *node, uint16_t from, bool from_the_dead, const Qnet__V1__Downs *m);

/* ---- operations on qubits ---- */

struct node_op { /* One operation on the quantum plane; `done` runs once and may start others. */
    struct list link;
    void (*done)(struct qn_node *node, struct node_op *op, uint32_t outcome, int error);
    void *owner;
    uint64_t number;
};
/* Fills a plane operation with the hardware's noise and time; submits it. On failure `done` is not called. */
int node_operate(struct qn_node *node, const struct qn_plane_op *op, void *owner, uint64_t number,
                 void (*done)(struct qn_node *, struct node_op *, uint32_t, int));
void node_discard_qubit(struct qn_node *node, qn_qubit qubit);
extern const double node_axes[5][3]; /* 0 X, 1 Y, 2 Z, 3 (Z+X)/sqrt 2, 4 (Z-X)/sqrt 2 */

/* ---- route.c ---- */

#define ROUTE_MAX_HOPS 32
struct route {
    uint16_t nodes[ROUTE_MAX_HOPS + 1];
    uint16_t links[ROUTE_MAX_HOPS];
    size_t n_links;
    double fidelity; /* Predicted end to end, without decay. */
};
/* Best chain of entanglement links: fewest hops, then highest fidelity; inner nodes are repeaters. -QN_ENO_ROUTE. */
int route_entanglement(const struct qn_node *node, uint16_t to, struct route *ret_route);
int route_hops(struct qn_node *node); /* Fills next_hop, hops and path_delay_ns of every remote. */
/* First hops of the shortest ways over what `is_open`; QN_NO_NODE where none leads. Returns how many nodes can be
 * reached, this one included. */
int route_open(struct qn_node *node, bool (*is_open)(void *context, uint16_t x, uint16_t y), void *context,
               uint16_t *ret_hops);
void route_release(struct qn_node *node);

/* ---- pair.c ---- */

enum pair_state { PAIR_PENDING, PAIR_USABLE };
struct circuit;
struct link_request;

struct pair {       /* This node's half of an entangled pair. */
    qn_qubit qubit; /* 0: measured on emission or already measured. */
    uint16_t link;
    uint64_t sequence; /* On the link. */
    uint32_t bell;     /* Frame of the link pair. */
    double goodness;   /* At `since_ns`. */
    uint64_t since_ns; /* Emission. */
    bool born, heralded;
    struct link_request *request; /* NULL once delivered to the user. */
    struct list of_request;
    struct circuit *circuit;
    bool takes_memory;
    /* End-to-end, at the ends. */
    enum pair_state state;
    uint16_t peer;
    uint64_t circuit_id, id; /* id: sequence of the head's half; (circuit_id, id) names the pair at both ends. */
    uint64_t user_request;
    uint64_t teleport; /* Waits for the correction of a state that this request sends; 0: it is the user's. */
    bool is_head;
    bool lost; /* The far half went down with its owner. */
    uint8_t axis, outcome;
    bool measured;
    struct list queue; /* In a circuit's list of waiting pairs, or the node's list of delivered ones. */
    struct qn_timer cutoff;
    struct qn_node *node;
};
uint64_t pair_key(uint16_t link, uint64_t sequence);
struct pair *pair_find(const struct qn_node *node, uint16_t link, uint64_t sequence);
struct pair *pair_find_or_new(struct qn_node *node, uint16_t link, uint64_t sequence); /* NULL: out of memory. */
struct pair *pair_of_qubit(const struct qn_node *node, qn_qubit qubit);
void pair_bind(struct qn_node *node, struct pair *pair, qn_qubit qubit);
void pair_give_memory(struct qn_node *node, struct pair *pair); /* Its qubit is gone. */
void pair_detach(struct qn_node *node, struct pair *pair);      /* From its link request: it is delivered. */
void pair_free(struct qn_node *node, struct pair *pair,
               bool discard_qubit); /* Gives its memory back and asks for more if wanted. */
void pair_on_peer_gone(struct qn_node *node, uint16_t peer);
double pair_fidelity_now(const struct qn_node *node, const struct pair *pair);
bool frame_flips(uint32_t frame, uint8_t axis); /* Does Z^(bit 0) X^(bit 1) turn this axis round? */
bool memory_take(struct qn_node *node);
void memory_give(struct qn_node *node, uint32_t n);

/* ---- link.c: the ends of a link ---- */

struct qkd_ref { /* The train of bb84.h that measured pairs are for. */
    bool is_set;
    uint32_t session, block, train;
    double test_basis; /* At the ends: chance of X. */
    double bell_share; /* At the far end: chance of an axis between. */
};

struct link_request { /* One create request, at one of its ends. */
    struct list link;
    struct qn_node *node;
    uint16_t link_index, origin, other;
    uint32_t create_id;
    bool measure, active, closed;
    bool prepaid;    /* Its memory was set aside by the circuit. */
    uint32_t budget; /* Most pairs (heralded or awaited) it may hold here; UINT32_MAX: no bound of its own. */
    uint32_t holding;
    uint32_t number; /* 0: until cancelled. */
    uint64_t granted, heralded;
    struct list pairs; /* Neither delivered nor dropped. */
    double min_fidelity;
    uint64_t circuit_id, user_request;
    struct circuit *circuit;
    struct request *user; /* Measure directly, at the asking end. */
    uint32_t axes_set;
    struct qkd_ref qkd;
    struct qn_rng axes_rng;
    /* Measure directly: one byte a pair, from pair 0. */
    struct qn_buf axes, bells, bits;
    uint64_t first_sequence, done;
};
int link_create(struct qn_node *node, uint16_t link, const struct link_request *wanted,
                struct link_request **ret_request);
void link_grant(struct qn_node *node, struct link_request *request); /* Sends credit if there is any to give. */
void link_cancel(struct qn_node *node, struct link_request *request, int error, const char *detail, bool tell_all);
struct link_name { /* Of a request, as its messages give it. */
    uint32_t link, origin, create_id;
};
void link_send_cancel(struct qn_node *node, uint16_t to, const struct link_name *name, int error, const char *detail);
void link_on_create(struct qn_node *node, uint16_t from, const Qnet__V1__LinkCreate *m);
void link_on_accept(struct qn_node *node, uint16_t from, const Qnet__V1__LinkAccept *m);
void link_on_reject(struct qn_node *node, uint16_t from, const Qnet__V1__LinkReject *m);
void link_on_herald(struct qn_node *node, uint16_t from, const Qnet__V1__LinkHerald *m);
void link_on_cancel(struct qn_node *node, uint16_t from, const Qnet__V1__LinkCancel *m);
void link_on_expire(struct qn_node *node, uint16_t from, const Qnet__V1__LinkExpire *m);
void link_on_birth(struct qn_node *node, const struct qn_plane_arrival *arrival);
void link_on_clicked(struct qn_node *node, uint16_t from, const Qnet__V1__Clicked *m);
void link_on_quantum_up(struct qn_node *node, uint16_t peer);
void link_on_peer_gone(struct qn_node *node, uint16_t peer);
void link_mark_peers(const struct qn_node *node, bool *marks); /* Whom a request here counts on. */
void link_release_all(struct qn_node *node);                   /* Their pairs and memories, too. */
void link_free_all(struct qn_node *node);                      /* When the node goes. */
void link_wake_all(struct qn_node *node);                      /* Memory has become free. */
uint16_t link_station(const struct qn_node *node, uint16_t link);
uint8_t axes_draw(struct qn_rng *rng, uint32_t set, bool is_head);

/* ---- station.c: whoever heralds a link ---- */

int station_init(struct qn_node *node);
void station_release(struct qn_node *node);
size_t station_n_requests(const struct qn_node *node);
void station_on_create(struct qn_node *node, const Qnet__V1__LinkCreate *m);
void station_on_attempt(struct qn_node *node, uint16_t from, const Qnet__V1__LinkAttempt *m);
void station_on_cancel(struct qn_node *node, const Qnet__V1__LinkCancel *m);
void station_on_session(struct qn_node *node); /* A quantum session came up or went down. */
void station_start(struct qn_node *node);      /* Begins a life: forgets all requests. */
void station_mark_peers(const struct qn_node *node, bool *marks);
void station_on_peer_gone(struct qn_node *node, uint16_t peer);

/* ---- circuit.c ---- */

struct request;
int circuit_open(struct qn_node *node, uint16_t peer, struct request *request, struct circuit **ret_circuit);
void circuit_close(struct qn_node *node, struct circuit *circuit, int error, const char *detail, bool tell);
void circuit_on_pair(struct qn_node *node, struct circuit *circuit, struct pair *pair); /* Born and heralded. */
void circuit_on_link_closed(struct qn_node *node, struct circuit *circuit, int error, const char *detail);
void circuit_on_pair_lost(struct qn_node *node, struct circuit *circuit, struct pair *pair);
struct circuit *circuit_find(const struct qn_node *node, uint64_t id);
int circuit_accept_link(struct qn_node *node, struct circuit *circuit, uint16_t link, struct link_request *request);
uint64_t circuit_wants(const struct circuit *circuit,
                       const struct link_request *request); /* Total grants allowed so far. */
const char *circuit_obstacle(const struct qn_node *node, const struct circuit *circuit,
                             int *ret_error);                                     /* Why it is not done. */
int circuit_lost_node(const struct qn_node *node, const struct circuit *circuit); /* On its path; -1: none. */
void circuit_on_setup(struct qn_node *node, uint16_t from, const Qnet__V1__CircuitSetup *m);
void circuit_on_ready(struct qn_node *node, uint16_t from, const Qnet__V1__CircuitReady *m);
void circuit_on_refuse(struct qn_node *node, uint16_t from, const Qnet__V1__CircuitRefuse *m);
void circuit_on_tear(struct qn_node *node, uint16_t from, const Qnet__V1__CircuitTear *m);
void circuit_on_track(struct qn_node *node, uint16_t from, const Qnet__V1__CircuitTrack *m);
void circuit_on_expire(struct qn_node *node, uint16_t from, const Qnet__V1__CircuitExpire *m);
void circuit_on_peer_gone(struct qn_node *node, uint16_t peer);
void circuit_mark_peers(const struct qn_node *node, bool *marks);
void circuit_check(const struct qn_node *node, uint32_t *ret_memories); /* Limits; memory set aside. */
void circuit_release_all(struct qn_node *node);

/* ---- request.c: what users ask for, and their answers ---- */

enum request_kind { REQUEST_PAIRS, REQUEST_TELEPORT, REQUEST_BB84, REQUEST_GATE, REQUEST_WAIT, REQUEST_KEY };

struct measure { /* Axes and outcomes of pairs measured at this end, and at the other once it has reported. */
    struct qn_map mine, theirs; /* Pair number + 1 -> axis << 1 | outcome, + 1 (as a small integer). */
    int64_t sums[5][5];
    uint64_t trials[5][5];
};

struct request {
    struct list link;
    struct qn_node *node;
    uint64_t number;     /* The node's own number for it; travels in messages. */
    uint64_t client, id; /* Who asked; the client's id of it. */
    enum request_kind kind;
    uint16_t peer;
    struct qn_timer deadline;
    uint64_t started_ns;
    struct circuit *circuit;
    struct link_request *direct; /* Measure directly on one link. */
    uint32_t wanted, delivered, expired;
    double min_fidelity, goodness_sum, predicted;
    uint32_t hops;
    bool measured, quiet;
    uint32_t axes_set;
    struct qkd_ref qkd;
    int error; /* Why it ends; 0: it is done. */
    uint64_t tag, cutoff_ns, timeout_ns;
    struct measure measure;
    uint32_t reported; /* Outcomes that the far end has told. */
    void *extra;       /* teleport.c, bb84.c, control.c: their own part. */
    void (*free_extra)(struct request *request);
    void (*on_timeout)(struct request *request);
};

struct request *request_new(struct qn_node *node, uint64_t client, uint64_t id, enum request_kind kind,
                            uint64_t timeout_ns);
struct request *request_find(const struct qn_node *node, uint64_t number);
void request_fail(struct request *request, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
void request_finish(struct request *request); /* Answered: frees it. */
void request_on_pair(struct qn_node *node, struct request *request,
                     struct pair *pair); /* Delivered end to end at the head. */
void request_on_circuit_closed(struct qn_node *node, struct request *request, int error, const char *detail);
int request_start_direct(struct qn_node *node, struct request *request, uint16_t link); /* Measured, on one link. */
void request_on_measured(struct qn_node *node, struct request *request, uint64_t pair, uint8_t axis, uint8_t outcome,
                         double goodness);
void request_on_report(struct qn_node *node, const Qnet__V1__MeasureReport *m);
void request_start_pairs(struct qn_node *node, uint64_t client, uint64_t id, const Qnet__V1__PairRequest *m);
void request_client_gone(struct qn_node *node, uint64_t client);
void request_cancel(struct qn_node *node, uint64_t client, uint64_t id);
void request_check(const struct qn_node *node);
void request_mark_peers(const struct qn_node *node, bool *marks);
void request_on_peer_gone(struct qn_node *node, uint16_t peer);
void request_release_all(struct qn_node *node);
/* A reply is built by the caller; `id` and `more` are filled in. */
void node_reply(struct qn_node *node, uint64_t client, uint64_t id, bool more, Qnet__V1__ControlResponse *response);
void node_reply_error(struct qn_node *node, uint64_t client, uint64_t id, int error, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
int node_name_to_peer(struct qn_node *node, uint64_t client, uint64_t id,
                      const char *name); /* Index, or replies and negative. */
void pair_describe(const struct qn_node *node, const struct pair *pair, Qnet__V1__PairInfo *ret_info);

/* ---- teleport.c ---- */

void teleport_start(struct qn_node *node, uint64_t client, uint64_t id, const Qnet__V1__TeleportRequest *m);
void teleport_on_pair(struct qn_node *node, struct request *request, struct pair *pair);
void teleport_on_offer(struct qn_node *node, uint16_t from, const Qnet__V1__TeleportOffer *m);
void teleport_on_correction(struct qn_node *node, uint16_t from, const Qnet__V1__TeleportCorrection *m);
void teleport_on_report(struct qn_node *node, uint16_t from, const Qnet__V1__TeleportReport *m);
void teleport_on_pair_gone(struct qn_node *node, struct pair *pair); /* It waited for a correction. */
void teleport_on_tail_pair(struct qn_node *node, struct pair *pair); /* A pair was delivered at the tail. */
void teleport_on_peer_gone(struct qn_node *node, uint16_t peer);
void teleport_mark_peers(const struct qn_node *node, bool *marks);
size_t teleport_n_offers(const struct qn_node *node);
void teleport_release_all(struct qn_node *node);

/* ---- bb84.c ---- */

int bb84_init(struct qn_node *node);
void bb84_release(struct qn_node *node);
void bb84_start(struct qn_node *node, uint64_t client, uint64_t id, const Qnet__V1__Bb84Request *m); /* bb84_start.c */
/* `packed`: the bytes it came as, if there are any. */
void bb84_on_message(struct qn_node *node, uint16_t from, Qnet__V1__QkdMessage *m, const ProtobufCBinaryData *packed);
void bb84_on_old_message(struct qn_node *node, uint16_t from, const Qnet__V1__Bb84Message *m);
struct link_state;
int bb84_attack(struct qn_node *node, uint16_t link, const Qnet__V1__FaultRequest *m); /* -QN_EINVAL */
void bb84_attack_end(struct qn_node *node, uint16_t link);
/* Changes what this node passes on for others, from neighbour `before` to `after`, if it is to attack the link with
 * either. True: pack the envelope anew. */
bool bb84_tamper_relayed(struct qn_node *node, uint16_t before, uint16_t after, const Qnet__V1__Envelope *envelope);
bool bb84_attack_is_classical(const char *name);             /* On messages, not pulses. */
const char *bb84_attack_name(const struct link_state *link); /* "" if there is none. */
void bb84_on_room(struct qn_node *node, uint16_t peer);      /* The channel may have room again. */
/* bb84_pairs.c: pairs whose outcomes become key. */
int bb84_pairs_begin(struct qn_node *node, uint16_t head, const Qnet__V1__QkdPairs *m, uint32_t number,
                     struct qkd_ref *ret); /* At the far end. -QN_EREJECTED: no such train is wanted. */
uint8_t bb84_draw_axis(struct qn_node *node, const struct qkd_ref *qkd);
void bb84_on_pair(struct qn_node *node, const struct request *request, uint64_t pair, uint8_t axis, uint8_t outcome);
void bb84_on_far_pair(struct qn_node *node, uint16_t head, const struct qkd_ref *qkd, uint64_t pair, uint8_t axis,
                      uint8_t outcome);
void bb84_on_train(struct qn_node *node, uint16_t from, const Qnet__V1__PulseTrain *m);
void bb84_on_job(struct qn_node *node, struct qn_job *job); /* Takes it. */
void bb84_mark_peers(const struct qn_node *node, bool *marks);
bool bb84_is_with(const struct qn_node *node, uint16_t peer); /* Keys may be in the making. */
void bb84_on_peer_gone(struct qn_node *node, uint16_t peer);
void bb84_on_session(struct qn_node *node, uint16_t peer, enum qn_plane_id plane, bool up);

void bb84_on_key(struct qn_node *node, uint16_t peer, const uint8_t id[16],
                 int error); /* Of keys.h: it may be used, or never will. Must not change other keys. */
void bb84_on_pads(struct qn_node *node, uint16_t peer); /* What pads_take reserved is there. */

/* ---- control.c, gate.c ---- */

void control_send(struct qn_node *node, uint64_t client, uint64_t id, bool more,
                  Qnet__V1__ControlResponse__BodyCase which, void *body);
bool node_session_with(const struct qn_node *node, uint16_t other);                   /* Both planes. */
uint16_t link_neighbour(const struct qn_node *node, const struct qn_topo_link *link); /* Our neighbour on it. */
void gate_on_request(struct qn_node *node, uint64_t client, uint64_t id, const Qnet__V1__GateRequest *m);
void gate_on_inspect(struct qn_node *node, uint64_t client, uint64_t id, const Qnet__V1__InspectRequest *m);

struct key;
void control_fill_key(const struct qn_node *node, const struct key *key, Qnet__V1__KeyInfo *info);
void control_on_request(struct qn_node *node, uint64_t client, const uint8_t *bytes, size_t len);
void control_check_waits(struct qn_node *node);

/* ---- the node ---- */

struct link_state { /* Counters and faults of one link, at every node of it. */
    bool mine;      /* This node is an end or the station. */
    bool planned;   /* plan is set: an entanglement link. */
    struct qn_link_plan plan;
    double eve;              /* Fraction of the pulses intercepted: LinkInfo. */
    struct qn_attack attack; /* On the quantum channel. */
    enum classical_attack {
        CLASSICAL_HONEST,
        CLASSICAL_CHANGE,
        CLASSICAL_REPLAY
    } classical_attack; /* On QKD's messages. */
    double drift_turn;  /* Of the misalignment, radians a second; 0: none. */
    uint64_t drift_since_ns;
    double seen_misalignment; /* Followed from block to block, if has_seen. */
    bool has_seen;
    double qber; /* Last measured; negative: none. */
    uint64_t pairs, attempts, sifted_bits, secret_bits, wrong_trains;
    uint64_t alarms;         /* Observables that moved, and tags that were wrong. */
    struct station *station; /* If this node heralds it. */
};

struct qn_node {
    const struct qn_topology *topology;
    const struct qn_topo_node *hardware;
    uint16_t self;
    uint64_t incarnation, now_ns, started_ns, resend_ns;
    bool public_seed; /* Secret numbers are repeatable: of a simulation. */
    char software[48];
    struct qn_actions actions;
    struct qn_channel_item **kept; /* Owned, and each kept: whose bytes the actions have. */
    size_t n_kept, cap_kept;
    struct qn_timers timers;
    struct qn_arena arena, request_arena;
    struct qn_csprng secret;
    struct qn_rng physics; /* Heralds: time and Bell state. */
    struct qn_rng choices; /* Axes and the like: not secret. */
    struct qn_plane *plane;

    struct neighbour *neighbours;
    size_t n_neighbours;
    struct neighbour **neighbour_of; /* By node; NULL if it is none. */
    struct remote *remotes;          /* By node. */
    struct edges *edges;             /* route.c */
    uint64_t dead_after_ns;
    uint32_t n_reached; /* Nodes, this one included. */
    struct qn_timer watch, gathered, contact;
    struct qn_buf scratch, packed;
    struct held *local_first, *local_last;

    struct list ops;
    struct link_state *links; /* By link. */
    struct list link_requests;
    uint32_t next_create;
    uint64_t next_circuit, next_request;
    uint32_t memories_used;
    struct qn_map pairs;   /* pair_key -> pair */
    struct qn_map qubits;  /* qubit -> pair */
    struct list delivered; /* Pairs held for the user. */
    size_t n_delivered;
    struct list circuits;
    struct qn_map circuit_of; /* id -> circuit */
    struct list requests;
    struct qn_map request_of;    /* number -> request */
    struct teleports *teleports; /* teleport.c: the receiving side. */
    struct bb84 *bb84;
    uint64_t next_job;
    unsigned threads, n_jobs; /* n_jobs: with the driver. */
    double load;              /* Jobs with the driver for each thread, on average of the last few dozen. */
    struct keys *keys;        /* keys.h */
    bool wipe_actions;        /* They hold a secret key. */
    bool stopping, stopped;
    bool wake_links;
    size_t n_waits;

    uint64_t n_swaps, n_pairs_delivered, n_expired, n_teleports, n_dropped, n_relayed, n_resent, n_protocol_errors,
        n_fenced;
    const char *violation; /* The last rule a peer broke; constant text. */
};

int node_begin_life(struct qn_node *node); /* With node->incarnation: an empty plane, no message on its way. */
void node_abandon_ops(struct qn_node *node, int error);
void node_act(struct qn_node *node, struct qn_action action, const void *bytes, size_t len); /* Appends an action. */
/* The same without copying: the bytes, the item's with a header before them, stay as they are until the next step. */
void node_act_kept(struct qn_node *node, struct qn_action action, struct qn_channel_item *item, const uint8_t *bytes,
                   size_t len);
enum { LEVEL_DEBUG, LEVEL_INFO, LEVEL_WARNING, LEVEL_ERROR };
void node_event(struct qn_node *node, unsigned level, const char *code, const char *subject, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
void node_timer(struct qn_node *node, struct qn_timer *timer, uint64_t due_ns);
const char *node_name(const struct qn_node *node, uint16_t id);
const char *link_name(const struct qn_node *node, uint16_t link);
int64_t node_duration(double seconds); /* In nanoseconds, bounded. */

#endif
