/* SPDX-License-Identifier: Apache-2.0 */
/* The substrate (R0; lib/node/transport.c, lives.c, lib/wire/channel.c): a channel from A to B and one back, over the
 * relay R, which keeps nothing. Sessions A-R and R-B break and come back, and swallow what is on its way. B dies and
 * starts anew; or R cannot reach it for too long and declares its life over, and B, which still runs, learns that when
 * the session comes up (it is fenced) and starts anew.
 *
 * A channel joins two lives and carries sequence numbers and acknowledgements; what is not acknowledged is sent again.
 * Whoever finds a life over tells its neighbours on every session before anything else, and again when a session comes
 * up.
 *
 * Properties: a life of B gets each payload at most once, in order, and none that was meant for another life; so does
 * A from each life of B; nothing from a life that is over is believed; a life is declared over only when it is. At rest:
 * all has arrived, and A talks to the present life of B. And it always comes to rest.
 *
 * Abstracted: one relay; A does not die; lives are numbered in order (a random number tells as much, as only equality is
 * asked); payloads are numbers; a session's handshake is one step; resending into a session that is down; verdicts that
 * contradict each other after a partition.
 *
 * Broken on purpose: -DNO_RESEND: what a break swallowed stays lost; -DNO_DEDUP: what comes again is delivered again;
 * -DNO_VERDICT: A believes whichever life it hears; -DNO_FENCE: a life that was declared over is not told so;
 * -DNO_FLOOD: R keeps what it knows to itself; -DONE_COUNT: numbers go on from one life of B to the next;
 * -DANY_LIFE: an envelope is taken whichever life it is for. */
#define LIVES 3
#ifndef CUTS
#define CUTS 2
#endif
#define SENDS 2 /* Payloads: of A in all, and of each life of B one. */

mtype = { DATA, DOWN };

/* Kind; the life of B it is from or for (or that is over), 0: not known; seq; ack; payload. */
chan ar = [3] of { mtype, byte, byte, byte, byte };
chan ra = [3] of { mtype, byte, byte, byte, byte };
chan rb = [3] of { mtype, byte, byte, byte, byte };
chan br = [3] of { mtype, byte, byte, byte, byte };
bit up_a = 1, up_b = 1; /* Sessions A-R and R-B. */
byte cuts, life = 1;
bit over[LIVES + 1];     /* The truth: dead, or declared so. */

typedef Channel { byte next, acked, unsent, most, received; byte payload[3]; bit owes };
Channel a, b; /* Of A towards B, and of B's present life. */
byte sent, last_b, last_a; /* Payloads: pushed by A; the last delivered at B's life, at A from this life. */
byte known;                /* A: the life of B it talks to. */
bit gone[LIVES + 1];       /* A: over. */
byte met;                  /* R. */
bit ended[LIVES + 1];      /* R: over. */
bit b_sent;                /* B's life has said its payload. */

#define ROOM_A (nfull(ar))
#define ROOM_B (nfull(br))
#define QUIET (empty(ar) && empty(ra) && empty(rb) && empty(br) && !a.owes && !b.owes)

inline reset(c) { c.next = 1; c.acked = 0; c.unsent = 1; c.most = 0; c.received = 0; c.owes = 0; c.payload[0] = 0; c.payload[1] = 0; c.payload[2] = 0 }

inline on_ack(c, n) {
    if
    :: n > c.acked && n <= c.most -> c.acked = n; if :: c.unsent <= n -> c.unsent = n + 1 :: else fi
    :: else
    fi
}

inline clear_a() { do :: nempty(ar) -> ar?_, _, _, _, _ :: nempty(ra) -> ra?_, _, _, _, _ :: empty(ar) && empty(ra) -> break od }
inline clear_b() { do :: nempty(br) -> br?_, _, _, _, _ :: nempty(rb) -> rb?_, _, _, _, _ :: empty(br) && empty(rb) -> break od }

inline end_life_at_a(l) {
    assert(over[l]);
    gone[l] = 1;
    if
    :: known == l ->
        known = 0;
#ifdef ONE_COUNT
        a.acked = a.next - 1; a.unsent = a.next; last_a = 0
#else
        reset(a); last_a = 0
#endif
    :: else
    fi
}

/* A life of B is heard of at A; believed or not. */
inline meet_at_a(l) {
    if
    :: known != 0 && known != l && !gone[l] -> end_life_at_a(known)
    :: else
    fi;
    if :: !gone[l] -> known = l :: else fi
}

proctype A() {
    mtype kind; byte l, seq, ack, payload;
endless:
    do
    :: d_step { sent < SENDS && a.next <= 3 -> sent++; a.payload[a.next - 1] = sent; a.next++ }
    :: d_step { up_a && a.unsent < a.next && ROOM_A -> /* pump */
           ar!DATA, known, a.unsent, a.received, a.payload[a.unsent - 1];
           if :: a.unsent > a.most -> a.most = a.unsent :: else fi;
           a.unsent++; a.owes = 0 }
    :: d_step { up_a && a.owes && known != 0 && ROOM_A -> ar!DATA, known, 0, a.received, 0; a.owes = 0 }
#ifndef NO_RESEND
    :: d_step { up_a && up_b && a.acked < a.most && a.unsent > a.acked + 1 && QUIET -> a.unsent = a.acked + 1 } /* Resend time. */
#endif
    :: d_step { up_a && nempty(ra) -> ra?kind, l, seq, ack, payload;
           if
           :: kind == DOWN -> if :: !gone[l] -> end_life_at_a(l) :: else fi
           :: else ->
#ifdef NO_VERDICT
               if :: known != l -> known = l; reset(a); last_a = 0 :: else fi;
#else
               meet_at_a(l);
#endif
               if
               :: known == l ->
                   on_ack(a, ack);
                   if
                   :: seq == a.received + 1 ->
                       a.received = seq; a.owes = 1;
                       assert(!over[l] || !gone[l]);
                       assert(payload == 10 * l + last_a + 1); /* That life's, in order, once. */
                       last_a++
                   :: seq != 0 && seq != a.received + 1 -> a.owes = 1
                   :: else
                   fi
               :: else
               fi
           fi;
           kind = 0; l = 0; seq = 0; ack = 0; payload = 0 }
    od
}

inline start_anew() {
    over[life] = 1; life++; reset(b); last_b = 0; b_sent = 0; up_b = 0; clear_b()
}

proctype B() {
    mtype kind; byte l, seq, ack, payload;
endless:
    do
    :: d_step { !b_sent && b.received > 0 -> b_sent = 1; b.payload[0] = 10 * life + 1; b.next = 2 }
    :: d_step { up_b && b.unsent < b.next && ROOM_B -> 
           br!DATA, life, b.unsent, b.received, b.payload[b.unsent - 1]; b.most = b.unsent; b.unsent++; b.owes = 0 }
    :: d_step { up_b && b.owes && ROOM_B -> br!DATA, life, 0, b.received, 0; b.owes = 0 }
#ifndef NO_RESEND
    :: d_step { up_a && up_b && b.acked < b.most && b.unsent > b.acked + 1 && QUIET -> b.unsent = b.acked + 1 }
#endif
    :: atomic { up_b && nempty(rb) -> rb?kind, l, seq, ack, payload;
           if
           :: kind == DOWN && l == life && life < LIVES -> start_anew() /* Fenced. */
           :: kind == DOWN && !(l == life && life < LIVES)
#ifdef ANY_LIFE
           :: kind == DATA ->
#else
           :: kind == DATA && l != 0 && l != life -> b.owes = 1 /* For who we were before: tell who we are now. */
           :: kind == DATA && (l == 0 || l == life) ->
#endif
               on_ack(b, ack);
               if
#ifdef NO_DEDUP
               :: seq != 0 && seq <= b.received + 1 ->
#else
               :: seq == b.received + 1 ->
#endif
                   b.received = seq; b.owes = 1;
                   assert(l == 0 || l == life);
                   assert(last_b == 0 || payload == last_b + 1);
                   last_b = payload
               :: seq != 0 && seq > b.received + 1 -> b.owes = 1
#ifndef NO_DEDUP
               :: seq != 0 && seq <= b.received -> b.owes = 1
#endif
               :: seq == 0
               fi
           fi;
           kind = 0; l = 0; seq = 0; ack = 0; payload = 0 }
    :: atomic { life < LIVES -> start_anew() } /* It dies. */
    od
}

inline flood(l) {
#ifndef NO_FLOOD
    if :: up_a -> ra!DOWN, l, 0, 0, 0 :: !up_a fi
#else
    skip
#endif
}

proctype R() {
    mtype kind; byte l, seq, ack, payload;
endless:
    do
    :: d_step { up_a && nempty(ar) && nfull(rb) -> ar?kind, l, seq, ack, payload;
           if :: up_b -> rb!kind, l, seq, ack, payload :: !up_b fi;
           kind = 0; l = 0; seq = 0; ack = 0; payload = 0 }
    :: d_step { up_b && nempty(br) && len(ra) < 2 -> br?kind, l, seq, ack, payload;
           if :: up_a -> ra!kind, l, seq, ack, payload :: !up_a fi;
           kind = 0; l = 0; seq = 0; ack = 0; payload = 0 }
    /* Sessions. */
    :: atomic { cuts < CUTS && up_a -> cuts++; up_a = 0; clear_a() }
    :: atomic { cuts < CUTS && up_b -> cuts++; up_b = 0; clear_b() }
    :: d_step { !up_a -> up_a = 1; a.unsent = a.acked + 1; /* It tells what it knows. */
#ifndef NO_FLOOD
           if :: ended[1] -> ra!DOWN, 1, 0, 0, 0 :: !ended[1] fi;
           if :: ended[2] -> ra!DOWN, 2, 0, 0, 0 :: !ended[2] fi
#endif
           }
    :: d_step { !up_b && len(ra) < 2 -> up_b = 1; b.unsent = b.acked + 1;
           if
           :: ended[life] ->
#ifndef NO_FENCE
               rb!DOWN, life, 0, 0, 0
#else
               skip
#endif
           :: !ended[life] && met != life ->
               if :: met != 0 -> assert(over[met]); ended[met] = 1; flood(met) :: met == 0 fi;
               met = life
           :: !ended[life] && met == life
           fi }
    :: d_step { !up_b && met != 0 && met == life && life < LIVES && len(ra) < 2 -> /* It was away for too long. */
           ended[met] = 1; over[met] = 1; flood(met); met = 0 }
    od
}

init {
    atomic { reset(a); reset(b); met = 1; run A(); run B(); run R() }
    timeout;
    assert(up_a && up_b);
    assert(known == 0 || known == life);
    assert(a.acked == a.next - 1 && b.acked == b.next - 1);
    assert(sent == SENDS);
    assert(!gone[life] && !ended[life]);
    assert(!over[life])
}
