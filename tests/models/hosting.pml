/* SPDX-License-Identifier: Apache-2.0 */
/* The hosting of joint states (lib/plane, rules R1 to R12) on the substrate: nodes 0, 1, 2 in a row; a pair of 0 and 1
 * (qubits 0 and 1), a pair of 1 and 2 (qubits 2 and 3). Node 1 swaps (a Bell measurement of qubits 1 and 2) while 0 and 2
 * measure theirs, in any order, whoever hosts the pairs at first. One of the nodes may die, or be declared dead while it
 * runs (fenced), and comes back as a new life.
 *
 * The rules are in C, in the form of lib/plane: one function a rule. Promela only chooses what happens next: an operation
 * begins, the first message of a channel arrives, a node dies, the news reaches another node.
 *
 * The substrate is what substrate.pml shows: a channel is in order and exactly once while both lives last, however often
 * sessions break, so a break is a delay and nothing more. Of what a life sent before it was over, each other node gets a
 * beginning of its own, and then the news; after that nothing. A fenced node goes on until it is told, with whoever has
 * not heard yet. References to a host say which life is meant, so none leads to the new one.
 *
 * Properties, after every step: a living qubit is in custody of one process at most, of those its owner has not given up
 * (I1; what is on probation from a sender that has given up its receiver is never used); groups merge downwards (I3); no operation is carried out twice in a lineage (I4); once the swap's outcome was
 * released, no death of node 1 makes a living half of the end-to-end pair anew from its will (I5, P1). At rest: every operation of the living has its
 * result; nothing is frozen, on probation, put off or searched for; each living qubit is hosted, by a process that owns
 * one of its group (I2). And it always comes to rest.
 *
 * Abstracted: states are sets of operations carried out; every operation destroys its qubits, so R1's memory of results
 * is that of destroyed ones; creation (the qubits are there at first), the contents of wills, departure (R13). Versions of
 * hints (R9) are there, but decide nothing among so few moves.
 *
 * Broken on purpose: -DNO_PROBATION: custody is certain at once (R7); -DNO_HOLD: a result is released before the group it
 * conditions has arrived (R8); -DEARLY_ANSWER: WhoHas is answered by who does not
 * know of the death (R11); -DNO_ROLL_BACK: shipments to the dead are not taken back (R10); -DFORGET_WAITING: nor does it
 * begin its waiting operations anew; -DNO_RESEND: a break loses what was on its way; -DNO_DEDUP: or repeats it;
 * -DBELIEVE_DEAD: what a life sends is taken after the news that it is over; -DNO_LIVES: references do not say which life. */

c_decl {
enum { NODES = 3, QUBITS = 4, GROUPS = 6, OPS = 3, NOBODY = 7, QUEUE = 7 };
enum { OP = 1, JOINT, RESULT, REDIRECT, LOST, SHIP, SHIP_ACK, SHIP_NACK, SHIP_DONE, HINT, WHO_HAS, HAS, DOWN };
enum { ABSENT, ACTIVE, PROBATION, FROZEN };             /* A group at a process. */
enum { PUSH = 1, FETCH, MOVE };                         /* Why it was shipped. */
enum { NEW, ASKED, FETCHING, PUSHED, WAITS, SEARCHING, HELD, DONE }; /* An operation at its requester. */
enum { HAVE = 1, TOMB, NO };

typedef unsigned char u8;
typedef struct { u8 kind, a, b, c, d, e, from, version[QUBITS]; } Message; /* from: of one that is put off. */
typedef struct { u8 status, members, done, peer, kind, op, held, transfer; } Copy; /* held: 1 + op whose result waits. */
typedef struct {
    Copy copy[NODES][GROUPS];
    u8 version[NODES][QUBITS], next[NODES][QUBITS], next_version[NODES][QUBITS]; /* Of custody; of tombstones. */
    u8 destroyed[NODES];
    u8 hint_group[QUBITS], hint_host[QUBITS], hint_version[QUBITS], alive; /* Of owners. */
    u8 search[QUBITS], answered[QUBITS], best_version[QUBITS], best_host[QUBITS], best_group[QUBITS], best_have[QUBITS];
    u8 op[OPS];
    u8 down, met, cut;              /* Sets of nodes that know of the death, the new life; that hear no more of the old. */
    u8 mortal, dead;                /* Who dies (or NOBODY); it has. */
    u8 released;                    /* Qubits that were there when the swap's outcome got out. */
    u8 wrong;                       /* Which property failed; 0: none. */
    u8 n[NODES][NODES], n_off[NODES];
    Message queue[NODES][NODES][QUEUE], off[NODES][QUEUE]; /* Channels; put off. */
    Message last[NODES][NODES];     /* Only for NO_DEDUP. */
} World;
}
c_state "World w" "Global"

c_code {
#define W (now.w)
#define BIT(n) (1 << (n))
#define CHECK(number, condition) do { if (!(condition) && W.wrong == 0) W.wrong = (number); } while (0)
static const u8 owner[QUBITS] = {0, 1, 1, 2}, owns[NODES] = {BIT(0), BIT(1) | BIT(2), BIT(3)};
static const u8 needs[OPS] = {BIT(0), BIT(1) | BIT(2), BIT(3)}; /* Operation n is node n's. */

static void handle(int p, int from, Message m);
static void step(int p, int o);
static void recover(int p, int q, int o);

static int knows(int p) { return (W.down & BIT(p)) != 0; } /* That the old life of the mortal is over. */
static int is_down(int p, int node) {
#ifdef NO_LIVES
    if (W.met & BIT(p)) return 0;
#endif
    return node == W.mortal && knows(p);
}
static int first(int set) { int n = 0; while (!(set & BIT(n))) n++; return n; }

static Copy *find(int p, int q) {
    for (int g = 0; g < GROUPS; g++)
        if (W.copy[p][g].status != ABSENT && (W.copy[p][g].members & BIT(q))) return &W.copy[p][g];
    return 0;
}
static int id_of(int p, const Copy *c) { return (int)(c - W.copy[p]); }
static int is_hosted(int p, int q) { Copy *c = find(p, q); return c && c->status != FROZEN; }
static int is_busy(int p, int q) { Copy *c = find(p, q); return c && c->status != ACTIVE; }
static void clear(Copy *c) { memset(c, 0, sizeof *c); }

static void push(Message *queue, u8 *n, Message m) { if (*n == QUEUE) { W.wrong = 90; return; } queue[(*n)++] = m; }
static Message pop(Message *queue, u8 *n) {
    Message m = queue[0];
    (*n)--;
    memmove(&queue[0], &queue[1], *n * sizeof m);
    memset(&queue[*n], 0, sizeof m);
    return m;
}

static void send(int p, int to, Message m) {
    if (to == p) { handle(p, p, m); return; }
    if (is_down(p, to)) { /* Nobody is there: whoever asked must look elsewhere. */
        if (m.kind == OP || m.kind == JOINT) send(p, m.a, (Message){LOST, m.a});
        return;
    }
    if (to == W.mortal && W.dead) return;                 /* For a life that is over: refused. NO_LIVES: parked for good. */
#ifndef BELIEVE_DEAD
    if (p == W.mortal && (W.cut & BIT(to))) return;       /* Nothing of it is heard any more. */
#endif
    push(W.queue[p][to], &W.n[p][to], m);
}
static void put_off(int p, int from, Message m) { m.from = (u8)from; push(W.off[p], &W.n_off[p], m); }

/* ---- owners ---- */

static void learn(int p, int q, int group, int host, int version) { /* R9 */
    if (version < W.hint_version[q] || is_hosted(p, q)) return;
    W.hint_group[q] = (u8)group; W.hint_host[q] = (u8)host; W.hint_version[q] = (u8)version;
}
static void finish(int p, int o) {
    if (W.op[o] == DONE || W.op[o] == NEW) return;
    W.op[o] = DONE;
    W.alive &= (u8)~needs[o];
    if (o != 1 || W.cut != 0) return;
    W.released = 15;
    for (int k = 0; k < NODES; k++) W.released &= (u8)~W.destroyed[k];
}
static void release(int p, int held) {
    if (held == 0) return;
    if (held - 1 == p) finish(p, held - 1);
    else send(p, held - 1, (Message){RESULT, (u8)(held - 1)});
}

/* ---- custody ---- */

static void ship(int p, Copy *c, int to, int kind, int op, int held) {
    Message m = {SHIP, (u8)id_of(p, c), c->members, c->done, (u8)kind, (u8)op};
    c->status = FROZEN; c->peer = (u8)to; c->kind = (u8)kind; c->op = (u8)op; c->held = (u8)held;
    for (int q = 0; q < QUBITS; q++) if (c->members & BIT(q)) m.version[q] = W.version[p][q];
    send(p, to, m);
}
static void hand_over(int p, Copy *c, int held) { /* R8 */
    if (c == 0 || c->members == 0) { if (c) clear(c); release(p, held); return; }
    if (c->members & owns[p]) { release(p, held); return; }
    int heir = NOBODY;
    for (int q = QUBITS - 1; q >= 0; q--) if ((c->members & BIT(q)) && !is_down(p, owner[q])) heir = owner[q];
    if (heir == NOBODY) { release(p, held); return; }
#ifdef NO_HOLD
    ship(p, c, heir, MOVE, 0, 0);
    release(p, held);
#else
    if (held != 0 && held - 1 == p) W.op[p] = HELD;
    ship(p, c, heir, MOVE, 0, held);
#endif
}
static void take(int p, Copy *c, int more) { /* Custody begins, or comes back. */
    c->status = ACTIVE; c->peer = c->kind = c->op = c->held = c->transfer = 0;
    for (int q = 0; q < QUBITS; q++) {
        if (!(c->members & BIT(q))) continue;
        W.version[p][q] = (u8)(W.version[p][q] + more);
        W.next[p][q] = NOBODY; W.next_version[p][q] = 0;
        if (owner[q] == p) { W.hint_group[q] = (u8)id_of(p, c); W.hint_host[q] = (u8)p; W.hint_version[q] = W.version[p][q]; }
    }
}
static void trace_out(int p, Copy *c) {
    if (knows(p)) c->members &= (u8)~owns[W.mortal];
    if (c->members == 0 && c->status != FROZEN) clear(c);
}
static Copy *install(int p, const Message *m) {
    Copy *c = &W.copy[p][m->a];
    CHECK(20, c->status == ABSENT);
    clear(c);
    c->members = m->b; c->done = m->c;
    for (int q = 0; q < QUBITS; q++) if (m->b & BIT(q)) W.version[p][q] = m->version[q];
    take(p, c, 1);
    trace_out(p, c);
    return c->status == ABSENT ? 0 : c;
}
static Copy *merge(int p, Copy *one, Copy *other) {
    Copy *low = one < other ? one : other, *high = one < other ? other : one;
    CHECK(21, (low->done & high->done) == 0);
    low->members |= high->members; low->done |= high->done;
    clear(high);
    for (int q = 0; q < QUBITS; q++)
        if ((low->members & owns[p] & BIT(q))) W.hint_group[q] = (u8)id_of(p, low);
    return low;
}
static Copy *execute(int p, int o) { /* R1 */
    Copy *c = find(p, first(needs[o])), *other = o == 1 ? find(p, 2) : c;
    if (c != other) c = merge(p, c, other);
    CHECK(22, !(c->done & BIT(o)));
    c->done |= BIT(o);
    c->members &= (u8)~needs[o];
    W.destroyed[p] |= needs[o];
    return c;
}

/* ---- R3, R4 ---- */

static int locate(int p, int q, int o) { /* False: the operation waits for a search. */
    if (W.hint_host[q] == p) {
        if (W.next[p][q] == NOBODY) { recover(p, q, o); return 0; }
        W.hint_host[q] = W.next[p][q];
        if (W.next_version[p][q] > W.hint_version[q]) W.hint_version[q] = W.next_version[p][q];
    }
    if (is_down(p, W.hint_host[q])) { recover(p, q, o); return 0; }
    return 1;
}
static void execute_own(int p, int o) {
    Copy *c = execute(p, o);
    W.op[o] = HELD;
    hand_over(p, c, 1 + o);
}
static void step(int p, int o) {
    if (W.op[o] == NEW || W.op[o] == DONE || W.op[o] == HELD || W.op[o] == PUSHED) return;
    for (int q = 0; q < QUBITS; q++) if ((needs[o] & BIT(q)) && W.search[q]) { W.op[o] = SEARCHING; return; }
    for (int q = 0; q < QUBITS; q++) if ((needs[o] & BIT(q)) && is_busy(p, q)) { W.op[o] = WAITS; return; }
    if (o != 1) {
        int q = first(needs[o]);
        if (is_hosted(p, q)) { execute_own(p, o); return; }
        if (!locate(p, q, o)) return;
        W.op[o] = ASKED;
        send(p, W.hint_host[q], (Message){OP, (u8)o, (u8)q});
        return;
    }
    int a = is_hosted(p, 1), b = is_hosted(p, 2);
    if (a && b) { execute_own(p, o); return; }
    if (a || b) {
        int here = a ? 1 : 2, there = 3 - here;
        if (!locate(p, there, o)) return;
        Copy *c = find(p, here);
        if (id_of(p, c) > W.hint_group[there]) { W.op[o] = PUSHED; ship(p, c, W.hint_host[there], PUSH, there, 0); return; }
        W.op[o] = FETCHING;
        send(p, W.hint_host[there], (Message){JOINT, (u8)o, (u8)there, (u8)id_of(p, c)});
        return;
    }
    int high = W.hint_group[1] >= W.hint_group[2] ? 1 : 2;
    if (!locate(p, high, o)) return;
    W.op[o] = FETCHING;
    send(p, W.hint_host[high], (Message){JOINT, (u8)o, (u8)high, W.hint_group[3 - high]});
}

/* ---- hosts ---- */

static int is_held(int p, int o) {
    for (int g = 0; g < GROUPS; g++) if (W.copy[p][g].status == FROZEN && W.copy[p][g].held == 1 + o) return 1;
    return 0;
}
static void on_request(int p, int from, Message m) { /* R2, R5 */
    int o = m.a, q = m.b;
    if (is_down(p, o) || (p == o && W.op[o] == DONE)) return;
    if (is_busy(p, q)) { put_off(p, from, m); return; }
    if (!is_hosted(p, q)) {
        if (W.destroyed[p] & BIT(q)) { if (!is_held(p, o)) release(p, 1 + o); }
        else if (W.next[p][q] != NOBODY && !is_down(p, W.next[p][q])) send(p, W.next[p][q], m);
        else send(p, o, (Message){LOST, (u8)o});
        return;
    }
    if (p == o && m.kind == JOINT) { step(p, o); return; }
    if (m.kind == OP) { hand_over(p, execute(p, o), 1 + o); return; }
    int other = 3 - q;
    Copy *c = find(p, q);
    if (is_busy(p, other)) put_off(p, from, m);
    else if (is_hosted(p, other)) hand_over(p, execute(p, o), 1 + o);
    else if (id_of(p, c) > m.c) ship(p, c, o, FETCH, 0, 0);
    else send(p, o, (Message){REDIRECT, (u8)o, (u8)q, (u8)id_of(p, c), (u8)p, W.version[p][q]});
}
static void retry(int p) {
    Message off[QUEUE];
    int n = W.n_off[p];
    memcpy(off, W.off[p], sizeof off);
    memset(W.off[p], 0, sizeof off);
    W.n_off[p] = 0;
    for (int pass = 0; pass < 2; pass++) /* Custody first, questions after. */
        for (int i = 0; i < n; i++) if ((off[i].kind == SHIP) == (pass == 0)) handle(p, off[i].from, off[i]);
    if (W.op[p] == WAITS) step(p, p);
}
static void confirm(int p, Copy *c) { /* R7 */
    int members = c->members;
    c->status = ACTIVE; c->peer = c->transfer = 0;
    if (!(c->members & owns[p])) hand_over(p, c, 0);
    if (W.op[p] == FETCHING && (members & needs[p])) step(p, p);
    retry(p);
}
static void on_ship(int p, int from, Message m) { /* R6 */
    int orphan = is_down(p, from);
    Copy *c;
    if (m.d != PUSH) {
        c = install(p, &m);
        if (!orphan) send(p, from, (Message){SHIP_ACK, m.a, m.a});
        if (c == 0) return;
        if (orphan) { confirm(p, c); return; }
    } else {
        int target = m.e;
        if (is_busy(p, target)) { put_off(p, from, m); return; }
        if (orphan) { c = install(p, &m); if (c) confirm(p, c); return; }
        if (!is_hosted(p, target) || id_of(p, find(p, target)) >= m.a) {
            send(p, from, (Message){SHIP_NACK, m.a, (u8)target, W.next[p][target], W.next_version[p][target]});
            for (int q = 0; q < QUBITS; q++) if (m.b & BIT(q)) { W.next[p][q] = (u8)from; W.next_version[p][q] = (u8)(m.version[q] + 2); }
            retry(p);
            return;
        }
        c = install(p, &m);
        CHECK(23, c != 0);
        c = execute(p, from);
        send(p, from, (Message){SHIP_ACK, m.a, (u8)id_of(p, c), 1});
        if (c->members == 0) { clear(c); return; }
    }
#ifdef NO_PROBATION
    confirm(p, c);
#else
    c->status = PROBATION; c->peer = (u8)from; c->transfer = m.a;
#endif
}
static void on_ship_ack(int p, int from, Message m) {
    Copy *c = &W.copy[p][m.a], was = *c;
    if (c->status != FROZEN || c->peer != from) return;
    clear(c);
    send(p, from, (Message){SHIP_DONE, m.a});
    for (int q = 0; q < QUBITS; q++) {
        if (!(was.members & BIT(q))) continue;
        W.next[p][q] = (u8)from; W.next_version[p][q] = (u8)(W.version[p][q] + 1);
        if (owner[q] == p) learn(p, q, m.b, from, W.version[p][q] + 1);
        else if (owner[q] != from) send(p, owner[q], (Message){HINT, (u8)q, m.b, (u8)from, (u8)(W.version[p][q] + 1)});
    }
    if (was.kind == PUSH) finish(p, p);
    release(p, was.held);
    retry(p);
}
static void on_ship_nack(int p, int from, Message m) {
    Copy *c = &W.copy[p][m.a];
    int q = m.b;
    if (c->status != FROZEN || c->peer != from) return;
    take(p, c, 2);
    W.op[p] = ASKED;
    if (m.c == NOBODY || is_down(p, m.c)) recover(p, q, p);
    else {
        if (m.d >= W.hint_version[q]) { W.hint_host[q] = m.c; W.hint_version[q] = m.d; }
        step(p, p);
    }
    retry(p);
}

/* ---- R10, R11 ---- */

static void answer_from(int q, int node, int status, int version, int host, int group) {
    W.answered[q] |= BIT(node);
    if (status == NO) return;
    int have = status == HAVE;
    if (W.best_host[q] != NOBODY && (version < W.best_version[q] || (version == W.best_version[q] && have <= W.best_have[q]))) return;
    W.best_version[q] = (u8)version; W.best_host[q] = (u8)host; W.best_have[q] = (u8)have; W.best_group[q] = (u8)group;
}
static Message answer(int p, int q) {
    Copy *c = find(p, q);
    if (c) return (Message){HAS, (u8)q, HAVE, W.version[p][q], (u8)p, (u8)id_of(p, c)};
    for (int i = 0; i < W.n_off[p]; i++) {
        const Message *m = &W.off[p][i];
        if (m->kind == SHIP && (m->b & BIT(q)))
            return (Message){HAS, (u8)q, HAVE, (u8)(m->version[q] + 1), (u8)p, m->a};
    }
    if (W.destroyed[p] & BIT(q)) return (Message){HAS, (u8)q, HAVE, 200, (u8)p, NOBODY};
    if (W.next[p][q] != NOBODY) return (Message){HAS, (u8)q, TOMB, W.next_version[p][q], W.next[p][q], NOBODY};
    return (Message){HAS, (u8)q, NO};
}
static void conclude(int p, int q) {
    int all = BIT(NODES) - 1;
    if ((W.answered[q] | BIT(W.mortal)) != all) return;
    int host = W.best_host[q], version = W.best_version[q];
    W.search[q] = W.answered[q] = W.best_version[q] = W.best_have[q] = 0;
    W.best_host[q] = NOBODY;
    int group = W.best_group[q];
    W.best_group[q] = 0;
    if (is_hosted(p, q) || is_busy(p, q)) {
        ;
    } else if (W.hint_version[q] > version && host != NOBODY && !is_down(p, W.hint_host[q])) {
        ; /* A fresher hint came meanwhile. */
    } else if (host != NOBODY && !is_down(p, host)) {
        W.hint_host[q] = (u8)host;
        if (version < 200 && version > W.hint_version[q]) W.hint_version[q] = (u8)version;
        if (group != NOBODY) W.hint_group[q] = (u8)group;
    } else { /* Made anew from its will. */
        Copy *c = &W.copy[p][2 + q];
        CHECK(24, c->status == ABSENT);
        CHECK(25, !(W.released & BIT(q)) || W.mortal != 1);
        clear(c);
        c->members = (u8)BIT(q);
        W.version[p][q] = W.hint_version[q];
        take(p, c, 1);
    }
    if (W.op[p] == SEARCHING && (needs[p] & BIT(q))) { W.op[p] = ASKED; step(p, p); }
}
static void recover(int p, int q, int o) {
    if (o < OPS) W.op[o] = SEARCHING;
    if (!knows(p)) { W.search[q] = 1; return; } /* The news is on its way; then it begins. */
    W.search[q] = 2;
    W.answered[q] = W.best_version[q] = W.best_have[q] = W.best_group[q] = 0;
    W.best_host[q] = NOBODY;
    Message own = answer(p, q);
    answer_from(q, p, own.b, own.c, own.d, own.e);
    for (int k = 0; k < NODES; k++) if (k != p && k != W.mortal) send(p, k, (Message){WHO_HAS, (u8)q});
    conclude(p, q);
}
static void recover_op(int p, int o) {
    int wait = 0;
    if (W.op[o] == NEW || W.op[o] == DONE || W.op[o] == HELD || W.op[o] == PUSHED) return;
    W.op[o] = ASKED;
    for (int q = 0; q < QUBITS; q++) {
        if (!(needs[o] & BIT(q))) continue;
        if (!is_hosted(p, q) && !is_busy(p, q) && W.search[q] < 2) recover(p, q, o);
        wait = wait || W.search[q];
    }
    if (W.op[o] == DONE) return;
    if (wait) W.op[o] = SEARCHING; else step(p, o);
}
static void on_down(int p) {
    int z = W.mortal;
    W.down |= BIT(p);
    for (int g = 0; g < GROUPS; g++) {
        Copy *c = &W.copy[p][g];
        if (c->status == FROZEN && c->peer == z) {
#ifndef NO_ROLL_BACK
            int kind = c->kind, held = c->held, target = c->op;
            take(p, c, 2);
            trace_out(p, c);
            if (c->status == ABSENT) c = 0;
            if (kind == MOVE) { hand_over(p, c, held); continue; }
            if (kind == PUSH && W.op[p] == PUSHED) { W.op[p] = ASKED; recover(p, target, p); }
            if (c && !(c->members & owns[p])) hand_over(p, c, 0);
#endif
        }
    }
    for (int g = 0; g < GROUPS; g++) if (W.copy[p][g].status != ABSENT) trace_out(p, &W.copy[p][g]);
    for (int g = 0; g < GROUPS; g++) {
        Copy *c = &W.copy[p][g];
        if (c->status == PROBATION && c->peer == z) confirm(p, c);
        else if (c->status == ACTIVE && !(c->members & owns[p])) hand_over(p, c, 0);
    }
    retry(p);
#ifndef FORGET_WAITING
    if (W.op[p] == ASKED || W.op[p] == FETCHING || W.op[p] == SEARCHING) {
        for (int q = 0; q < QUBITS; q++) if (needs[p] & BIT(q)) W.search[q] = 0;
        recover_op(p, p);
    }
#endif
    for (int q = 0; q < QUBITS; q++) {
        if (owner[q] != p || !(W.alive & BIT(q))) continue;
        if (W.search[q] == 1 || (W.hint_host[q] == z && !W.search[q] && !is_hosted(p, q) && !is_busy(p, q)))
            recover(p, q, OPS);
    }
}

static void handle(int p, int from, Message m) {
    switch (m.kind) {
    case OP: case JOINT: on_request(p, from, m); break;
    case RESULT: finish(p, m.a); break;
    case REDIRECT:
        if (W.op[p] == DONE || W.op[p] == NEW) break;
        learn(p, m.b, m.c, m.d, m.e);
        step(p, p);
        break;
    case LOST: recover_op(p, p); break;
    case SHIP: on_ship(p, from, m); break;
    case SHIP_ACK: on_ship_ack(p, from, m); break;
    case SHIP_NACK: on_ship_nack(p, from, m); break;
    case SHIP_DONE:
        for (int g = 0; g < GROUPS; g++) {
            Copy *c = &W.copy[p][g];
            if (c->status == PROBATION && c->peer == from && c->transfer == m.a) confirm(p, c);
        }
        break;
    case HINT:
        if (!(W.alive & BIT(m.a)) || is_hosted(p, m.a) || is_busy(p, m.a)) break;
        learn(p, m.a, m.b, m.c, m.d);
        if (is_down(p, W.hint_host[m.a]) && !W.search[m.a]) recover(p, m.a, (W.op[p] == ASKED || W.op[p] == FETCHING) && (needs[p] & BIT(m.a)) ? p : OPS);
        break;
    case WHO_HAS:
#ifndef EARLY_ANSWER
        if (!knows(p)) { put_off(p, from, m); break; }
#endif
        send(p, from, answer(p, m.a));
        break;
    case HAS:
        if (W.search[m.a] != 2) break;
        answer_from(m.a, from, m.b, m.c, m.d, m.e);
        conclude(p, m.a);
        break;
    case DOWN: on_down(p); break;
    }
}

/* ---- what Promela asks for ---- */

static void check(void) {
    for (int q = 0; q < QUBITS; q++) {
        int o = owner[q], custody = 0;
        if (!(W.alive & BIT(q)) || o == W.mortal) continue;
        for (int p = 0; p < NODES; p++) {
            if (p == W.mortal && (W.dead || (W.down & BIT(o)))) continue;
            if (!is_hosted(p, q)) continue;
            if (p == W.mortal && find(p, q)->status == PROBATION && knows(find(p, q)->peer)) continue; /* For good. */
            custody++;
        }
        CHECK(1, custody <= 1);
    }
}
static void deliver(int from, int to) {
    Message m = pop(W.queue[from][to], &W.n[from][to]);
#ifdef NO_DEDUP
    W.last[from][to] = m;
#endif
    handle(to, from, m);
    check();
}
static void at_rest(void) {
    for (int p = 0; p < NODES; p++) {
        if (p == W.mortal) continue;
        CHECK(10, W.op[p] == DONE);
        CHECK(11, W.n_off[p] == 0);
        for (int g = 0; g < GROUPS; g++) {
            const Copy *c = &W.copy[p][g];
            CHECK(12, c->status == ABSENT || c->status == ACTIVE);
            CHECK(13, c->status == ABSENT || (c->members & owns[p]));
            CHECK(14, c->status == ABSENT || W.mortal == NOBODY || !(c->members & owns[W.mortal]));
        }
    }
    for (int q = 0; q < QUBITS; q++) CHECK(15, !(W.alive & BIT(q)) || owner[q] == W.mortal);
}
static void die(void) { /* Its life ends: it crashes, or is told that it was declared dead. */
    int z = W.mortal;
    W.dead = 1;
    memset(W.copy[z], 0, sizeof W.copy[z]);
    memset(W.version[z], 0, QUBITS); memset(W.next[z], 0, QUBITS); memset(W.next_version[z], 0, QUBITS);
    memset(W.off[z], 0, sizeof W.off[z]);
    W.destroyed[z] = W.n_off[z] = W.op[z] = 0;
    for (int p = 0; p < NODES; p++) { memset(W.queue[p][z], 0, sizeof W.queue[p][z]); W.n[p][z] = 0; }
    for (int q = 0; q < QUBITS; q++)
        if (owner[q] == z) {
            W.alive &= (u8)~BIT(q);
            W.hint_group[q] = W.hint_host[q] = W.hint_version[q] = W.search[q] = W.answered[q] = W.best_version[q] = 0;
            W.best_host[q] = NOBODY; W.best_group[q] = W.best_have[q] = 0;
        }
}
static void begin(int host_left, int host_right, int mortal) {
    memset(&W, 0, sizeof W);
    W.alive = 15;
    W.mortal = (u8)mortal;
    for (int p = 0; p < NODES; p++) for (int q = 0; q < QUBITS; q++) W.next[p][q] = NOBODY;
    for (int q = 0; q < QUBITS; q++) {
        int g = q / 2, host = g == 0 ? host_left : host_right;
        W.best_host[q] = NOBODY;
        W.copy[host][g].status = ACTIVE;
        W.copy[host][g].members |= BIT(q);
        W.hint_group[q] = (u8)g; W.hint_host[q] = (u8)host;
    }
}
}

c_code {
static void drop_last(int p) {
    int z = W.mortal;
    memset(&W.queue[z][p][--W.n[z][p]], 0, sizeof(Message));
}
static void tell(int p) {
    W.cut |= BIT(p);
    push(W.queue[W.mortal][p], &W.n[W.mortal][p], (Message){DOWN});
    check();
}
}

byte left, right, mortal;
bit broke;

#define ARRIVES(a, b) \
    :: d_step { c_expr { now.w.n[a][b] > 0 } -> c_code { deliver(a, b); } }
#define BEGINS(o) \
    :: d_step { c_expr { now.w.op[o] == NEW && !(now.w.dead && now.w.mortal == o) } -> c_code { now.w.op[o] = ASKED; step(o, o); check(); } }
#define LEARNS(p) /* That the life of the mortal is over: from now on, only a beginning of what it has sent arrives. */ \
    :: atomic { c_expr { now.w.mortal != NOBODY && now.w.mortal != p && !(now.w.cut & (1 << p)) } -> \
           do :: c_expr { now.w.n[now.w.mortal][p] > 0 } -> c_code { drop_last(p); } :: break od; \
           c_code { tell(p); } }

active proctype Schedule() {
    if :: left = 0 :: left = 1 fi;
    if :: right = 1 :: right = 2 fi;
    if :: mortal = 0 :: mortal = 1 :: mortal = 2 :: mortal = 7 fi;
    c_code { begin(now.left, now.right, now.mortal); };
    left = 0; right = 0; mortal = 0;
    do
    :: c_expr { now.w.wrong != 0 } -> assert(false)
    BEGINS(0) BEGINS(1) BEGINS(2)
    ARRIVES(0, 1) ARRIVES(0, 2) ARRIVES(1, 0) ARRIVES(1, 2) ARRIVES(2, 0) ARRIVES(2, 1)
    LEARNS(0) LEARNS(1) LEARNS(2)
    :: d_step { c_expr { now.w.mortal != NOBODY && !now.w.dead } -> c_code { die(); check(); } }
#ifdef NO_LIVES
    :: d_step { c_expr { now.w.dead && (now.w.down & ~now.w.met & 7) } -> c_code { now.w.met = now.w.down; } }
#endif
#ifdef NO_RESEND
    :: d_step { !broke && c_expr { now.w.n[0][1] > 0 } -> broke = 1; c_code { pop(now.w.queue[0][1], &now.w.n[0][1]); } }
    :: d_step { !broke && c_expr { now.w.n[1][2] > 0 } -> broke = 1; c_code { pop(now.w.queue[1][2], &now.w.n[1][2]); } }
#endif
#ifdef NO_DEDUP
    :: d_step { !broke && c_expr { now.w.last[0][1].kind != 0 } -> broke = 1; c_code { handle(1, 0, now.w.last[0][1]); check(); } }
    :: d_step { !broke && c_expr { now.w.last[1][2].kind != 0 } -> broke = 1; c_code { handle(2, 1, now.w.last[1][2]); check(); } }
#endif
    :: else -> break
    od;
    c_code { at_rest(); };
    assert(c_expr { now.w.wrong == 0 })
}
