/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_PLANE_INTERNAL_H
#define QN_PLANE_INTERNAL_H

#include "base/err.h"
#include "base/map.h"
#include "plane/plane.h"

/* What the files of this folder share. The rules R1 to R13 are those of README.md; the function that carries one out is
 * named after it. Handlers never wait: work that becomes possible later hangs on the record of the qubit it waits for.
 *
 * Memory: what a caller asks for fails with -QN_ENOMEM. Inside a handler there is nobody to tell and no way to refuse
 * custody, so must() ends the process; to the others that is the crash the protocol is made for (R10). */

enum {
    PLANE_HISTORY_MAX = 65536,    /* Records kept only as tombstones or results of destroyed qubits. */
    PLANE_DEFERRED_MAX = 1 << 18, /* Messages put off. */
    PLANE_RECORDS_MAX = 1 << 21,  /* Records of qubits, of any kind. */
    PLANE_PENDING_MAX = 1 << 20,  /* Operations submitted and not finished. */
    PLANE_OUT_MAX = 1 << 18,      /* Packed messages waiting; replies may go over, new work may not. */
};

typedef Qnet__V1__OpKind op_kind;
#define OP(name) QNET__V1__OP_KIND__OP_KIND_##name

struct op {      /* One operation, checked. */
    uint64_t id; /* requester << 48 | counter. */
    op_kind kind;
    uint16_t requester;
    size_t n_qubits;
    qn_qubit qubits[2];
    uint64_t times_ns[2];
    size_t n_args;
    double args[4];
    double depolarise, readout_error;
    bool secret;
};

struct hint {
    qn_qubit qubit;
    uint64_t group;
    uint16_t host;
    uint32_t version;
    uint32_t life; /* Of the host. */
    bool has_will;
    double will[3];
    uint64_t outcome_of; /* See wills.c; 0: no acknowledgement is asked for. */
};

struct answer { /* What the requester of an operation is told. */
    uint64_t op_id;
    uint16_t requester;
    uint32_t outcome;
    int error;
    size_t n_hints;
    struct hint hints[2];
};

/* ---- tables ---- */

struct member {
    qn_qubit qubit;
    struct qubit *record; /* NULL while the group is in a shipment that is not installed. */
    uint16_t owner;
    uint32_t owner_life;
    uint32_t version; /* Rises with every change of custody. */
    uint32_t last_outcome;
    uint64_t last_op;
    uint64_t touched_ns;
    struct qn_memory memory;
};

enum { OUTCOME_LIMIT = 4 }; /* In place of the outcome 0..3: refused with -QN_ELIMIT. */

enum group_status { GROUP_ACTIVE, GROUP_PROBATION, GROUP_FROZEN };

struct group { /* One joint state; member i is qubit i of `state`. */
    uint64_t id;
    enum group_status status;
    size_t n;
    struct member *members; /* Owned. */
    struct qn_state *state; /* Owned; NULL if n is 0. */
    uint64_t transfer;      /* Probation: the shipment it came by. */
    uint16_t peer;          /* Probation: its sender. Frozen: the receiver. */
};

struct frozen { /* A shipment sent and not yet acknowledged. */
    uint64_t transfer;
    uint16_t to;
    uint32_t to_life;
    Qnet__V1__ShipKind kind;
    bool quiet;          /* The owners were told the destination by Born. */
    struct group *group; /* Owned. */
    struct op op;        /* PUSH: carried, */
    qn_qubit target;     /* to where this one is. */
    bool has_answer;     /* MOVE: held until the state has arrived (R8). */
    struct answer answer;
};

enum pending_state {
    PENDING_QUEUED,  /* Behind another operation on a qubit of it. */
    PENDING_FROZEN,  /* A qubit's group is frozen or on probation here. */
    PENDING_ASKED,   /* OP sent. */
    PENDING_FETCH,   /* JREQ sent, or custody of a new qubit is on its way here. */
    PENDING_PUSH,    /* Carried by a shipment. */
    PENDING_HELD,    /* Executed here; the answer waits for a hand-over. */
    PENDING_RECOVER, /* Where a qubit of it is, is being found out (R11). */
};

struct pending { /* An operation of ours. */
    struct op op;
    uint64_t tag;
    bool silent; /* Nobody wants its result. */
    enum pending_state state;
    struct qubit *records[2];
    struct pending *next[2]; /* In the queue of each qubit. */
    bool ready, finished;
    struct pending *next_ready;
};

struct inquiry { /* R11: who has the qubit? */
    uint64_t id; /* 0: no crash is known yet that could explain the loss. */
    uint64_t round;
    size_t n_missing;
    uint8_t *answered; /* Owned; one a node. */
    uint32_t status, version;
    uint16_t host;
    uint32_t life; /* Of the host. */
    uint64_t group;
};

struct request { /* OP or JREQ. */
    struct op op;
    bool joint;
    qn_qubit want; /* The qubit to be found: op.qubits[0] of an OP. */
    uint64_t bound;
};

struct shipment {
    uint64_t transfer;
    uint16_t from;
    bool orphan; /* The sender is gone: nobody to acknowledge to. */
    Qnet__V1__ShipKind kind;
    struct group *group; /* Owned until installed. */
    struct op op;
    qn_qubit target;
};

struct who_has {
    qn_qubit qubit;
    uint64_t inquiry;
    uint16_t asker;
    size_t n_causes;
    uint16_t *causes; /* Owned; then as many lives. */
    uint32_t *lives;
};

enum deferred_kind { DEFERRED_REQUEST, DEFERRED_SHIPMENT, DEFERRED_WHO_HAS };

struct deferred {
    struct deferred *next;
    enum deferred_kind kind;
    union {
        struct request request;
        struct shipment shipment;
        struct who_has who_has;
    };
};

struct deferred_list {
    struct deferred *first, **last; /* `last` is set by the first append. */
};

struct qubit { /* All this process knows of one qubit. */
    qn_qubit id;
    struct group *group; /* Hosted or frozen here. */

    bool moved; /* Tombstone: custody went to next_host. */
    uint16_t next_host;
    uint32_t next_version, next_life;
    bool destroyed; /* By another owner's operation executed here. */
    uint64_t last_op;
    uint32_t last_outcome;

    bool owned;     /* Ours and alive. */
    bool announced; /* Born was seen. */
    bool doomed;    /* An operation that destroys it is under way. */
    uint64_t hint_group;
    uint16_t hint_host;
    uint32_t hint_version, hint_life;
    double will[3]; /* Marginal at touched_ns, while it is hosted elsewhere (R12). */
    uint64_t touched_ns;
    struct qn_memory memory;
    struct pending *first, *last; /* Operations in order; the first is under way. */
    struct inquiry *inquiry;

    struct deferred_list deferred; /* Messages that wait for it. */
    bool thawing, untidy, in_history;
    struct qubit *next_thawing, *next_untidy, *older, *younger;
};

struct out {
    struct out *next;
    uint16_t to;
    uint32_t life; /* Of the receiver, that it is for. */
    size_t len;
    uint8_t bytes[];
};

struct results {
    struct qn_plane_result *items;
    size_t first, len, cap;
};

struct arrivals {
    struct qn_plane_arrival *items;
    size_t first, len, cap;
};

enum { LIVES_KEPT = 32, LIFE_SHIFT = 33, LIFE_MASK = 0x7fff };
struct awaited { /* A will that its owner has not acknowledged yet. */
    struct awaited *next;
    uint64_t op_id;
    uint16_t owner;
    uint32_t life;
};
struct withheld { /* An outcome that waits for that. */
    struct withheld *next;
    struct answer answer;
    bool in_ack; /* To be told with the acknowledgement of this shipment. */
    struct shipment shipment;
    uint64_t group;
};

struct lives {
    uint32_t present; /* Or the last one; QN_LIFE_UNKNOWN. */
    uint32_t gone[LIVES_KEPT];
    unsigned n_gone; /* Ever; the last is at (n_gone - 1) % LIVES_KEPT. */
};

struct qn_plane {
    struct qn_plane_config config;
    uint64_t now_ns;
    uint64_t next_qubit, next_op, next_transfer, next_inquiry, last_birth, round;
    bool *down; /* The node's last life met is over, */
    bool *died; /* and one has ever been. */
    bool any_down;
    struct lives *lives; /* By node. */
    uint64_t *last_born; /* Highest qubit id each node has announced to us, in this incarnation. */

    struct qn_map qubits;    /* struct qubit, by id. */
    struct qn_map groups;    /* struct group, active or on probation, by id. */
    struct qn_map probation; /* The same, by transfer. */
    struct qn_map frozen;    /* struct frozen, by transfer. */
    struct qn_map pending;   /* struct pending, by operation id. */
    struct awaited *awaited;
    struct withheld *withheld;
    size_t n_owned, n_deferred, n_history;
    struct deferred_list inquiries; /* WhoHas that wait for news of a crash. */

    struct pending *ready_first, *ready_last;
    struct qubit *thawing_first, *thawing_last, *untidy, *oldest, *youngest;

    struct out *out_first, *out_last, *out_taken;
    struct out *early; /* For lives that have not been met yet. */
    size_t n_out;
    struct results results;
    struct arrivals arrivals;
};

/* table.c */
void *must(void *allocated); /* Ends the process if NULL. */
void must_put(struct qn_map *map, uint64_t key, void *value);
struct qubit *qubit_find(const struct qn_plane *plane, qn_qubit id);
struct qubit *qubit_make(struct qn_plane *plane, qn_qubit id); /* Found or new. */
bool qubit_is_hosted(const struct qubit *q);                   /* Active or on probation. NULL is not. */
bool qubit_is_busy(const struct qubit *q);                     /* Frozen or on probation. NULL is not. */
bool qubit_may_come(const struct qn_plane *plane, qn_qubit id, const struct qubit *q); /* Custody not yet seen (R2). */
uint32_t life_of(uint64_t id);                                                         /* Of whoever made this id. */
uint32_t life_at(const struct qn_plane *plane, uint16_t node); /* Present life, as far as known. */
bool is_gone(const struct qn_plane *plane, uint16_t node, uint32_t life);
void qubit_own(struct qn_plane *plane, struct qubit *q);
void qubit_disown(struct qn_plane *plane, struct qubit *q);
void qubit_thaw(struct qn_plane *plane, struct qubit *q); /* Looks again at what waits for it, soon. */
void qubit_untidy(struct qn_plane *plane,
                  struct qubit *q); /* Frees or shelves the record, soon, if nothing needs it. */
void tidy(struct qn_plane *plane);
void defer(struct qn_plane *plane, struct qubit *q, const struct deferred *message); /* Takes what it holds. */
void deferred_append(struct deferred_list *list, struct deferred *message);
void deferred_free(struct deferred *message);
struct group *group_new(uint64_t id, size_t n); /* Members all-zero; NULL without memory. */
void group_free(struct group *group);
uint64_t group_new_id(struct qn_plane *plane);
size_t group_find(const struct group *group, qn_qubit qubit); /* Position; group->n if absent. */
bool group_has_owner(const struct group *group, uint16_t owner);
void group_drop(struct qn_plane *plane, struct group *group); /* Out of the tables, and freed; members must be gone. */

/* physics.c */
bool op_is_valid(const struct qn_plane *plane, struct op *op); /* Normalises measurement axes. */
bool op_destroys(op_kind kind);
bool memory_is_valid(const struct qn_memory *memory);
void group_decay(struct group *group, size_t at, uint64_t now_ns, struct qn_rng *rng);
void group_trace(struct qn_plane *plane, struct group *group, size_t at); /* Removes one member. */
void group_trace_gone(struct qn_plane *plane, struct group *group);       /* Removes those of the dead. */
/* R1, at most once an operation: merges what must be merged. *ret_group is NULL if nothing is left. -QN_ELIMIT. */
int r1_execute(struct qn_plane *plane, const struct op *op, struct group **ret_group, uint32_t *ret_outcome);

/* owner.c */
void op_ready(struct qn_plane *plane, struct pending *pending);
void step(struct qn_plane *plane, struct pending *pending);
void finish(struct qn_plane *plane, const struct answer *answer);
void recover_op(struct qn_plane *plane, struct pending *pending);
void r9_learn(struct qubit *q, const struct hint *hint);
bool qubit_is_unborn(const struct qn_plane *plane, qn_qubit qubit);
void r9_hint(struct qn_plane *plane, const struct hint *hint);
struct pending *pending_find(const struct qn_plane *plane, uint64_t op_id);
struct pending *pending_of(const struct qubit *q, enum pending_state state); /* Under way on q, if in that state. */
int plane_discard(struct qn_plane *plane, qn_qubit qubit); /* Traces an own qubit out; nobody is told. */

/* host.c */
void settle(struct qn_plane *plane);
void answer_release(struct qn_plane *plane, const struct answer *answer);
struct answer answer_of(const struct qn_plane *plane, const struct op *op, const struct group *group, uint32_t outcome);
void r2_route(struct qn_plane *plane, const struct request *request);
void r6_ship(struct qn_plane *plane, struct shipment *shipment); /* Takes the group. */
void r7_ship_ack(struct qn_plane *plane, struct frozen *frozen, uint64_t group, const struct answer *answer);
void r7_ship_nack(struct qn_plane *plane, struct frozen *frozen, const struct hint *next); /* NULL: it leads nowhere. */
void r7_confirm(struct qn_plane *plane, struct group *group);
void r8_hand_over(struct qn_plane *plane, struct group *group, const struct answer *answer);
struct frozen *ship(struct qn_plane *plane, struct group *group, uint16_t to, uint32_t life, Qnet__V1__ShipKind kind);
struct group *roll_back(struct qn_plane *plane, struct frozen *frozen); /* The caller frees `frozen`. */
void retry(struct qn_plane *plane, struct deferred *message);           /* Takes it. */

/* recover.c */
void r11_recover(struct qn_plane *plane, struct qubit *q, struct pending *pending);
void r11_who_has(struct qn_plane *plane, struct who_has *who_has); /* Takes the causes. */
void who_has_free(struct who_has *who_has);
void r11_has(struct qn_plane *plane, uint16_t from, const Qnet__V1__Has *has);
void inquiry_free(struct qubit *q);

/* wills.c */
void await_note(struct qn_plane *plane, uint64_t op_id, uint16_t owner, uint32_t life);
/* True: the outcome is held back, and will be told by itself. `shipment`: with its acknowledgement; NULL: as a result.
 */
bool withhold(struct qn_plane *plane, const struct answer *answer, const struct shipment *shipment, uint64_t group);
void r12_noted(struct qn_plane *plane, uint16_t owner, uint64_t op_id);
void r12_down(struct qn_plane *plane);
void wills_free(struct qn_plane *plane);
void mark_noting(const struct qn_plane *plane, bool *marks, uint64_t op_id); /* 0: of all. */

/* plane.c */
void arrival_push(struct qn_plane *plane, const struct qn_plane_arrival *arrival);

/* message.c: `life` is the receiver's */
void release_early(struct qn_plane *plane, uint16_t to); /* One of its lives has been met, or is over. */
void send_request(struct qn_plane *plane, uint16_t to, uint32_t life, const struct request *request);
void send_result(struct qn_plane *plane, const struct answer *answer);
void send_redirect(struct qn_plane *plane, const struct op *op, const struct hint *hint);
void send_lost(struct qn_plane *plane, const struct op *op);
void send_ship(struct qn_plane *plane, const struct frozen *frozen);
void send_ship_ack(struct qn_plane *plane, const struct shipment *shipment, uint64_t group,
                   const struct answer *answer);
void send_ship_nack(struct qn_plane *plane, const struct shipment *shipment, const struct qubit *target);
void send_ship_done(struct qn_plane *plane, uint16_t to, uint32_t life, uint64_t transfer);
void send_hint(struct qn_plane *plane, uint16_t to, uint32_t life, const struct hint *hint);
void send_hint_ack(struct qn_plane *plane, uint16_t to, uint64_t op_id);
void send_who_has(struct qn_plane *plane, uint16_t to, uint32_t life, qn_qubit qubit, uint64_t inquiry);
void send_has(struct qn_plane *plane, uint16_t to, const Qnet__V1__Has *has);
void send_born(struct qn_plane *plane, uint16_t to, Qnet__V1__Born *born, const double will[3]);

#endif
