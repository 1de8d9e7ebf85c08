/* SPDX-License-Identifier: Apache-2.0 */
/* Delivery of one key kept by two stores: A made it and offers it, B takes it. Either may crash at any point, messages
 * are lost and repeated; what is on disk stays, what is in memory goes.
 *
 *   A: stored --STORE--> B: stored (durable) --ACK--> A: ready --take--> consumed (committed), then the reply
 *   B: stored --take--> consumed (committed), then the reply
 *
 * B's key is ready as soon as it is stored: the STORE says that A has it. Consumed keys stay as tombstones until the
 * peer has confirmed that it has consumed its own (USED, DONE). After a reconnect B asks for what it holds (SYNC) and A
 * answers GONE for what it does not know.
 *
 * Properties: neither end serves a key twice; a key is served at one end only when it is durable at the other; once A
 * is ready, nothing but serving it removes the key at either end; without crashes or losses left, both have the key or
 * neither has.
 *
 * Abstracted: one key (keys do not act on each other); a commit is one step, that is the store's own promise; time to
 * live (an expired key is refused by name, and its tombstone outlives every message); at most MAXC crashes and MAXL
 * losses.
 *
 * Broken on purpose: -DEARLY serves before the ACK; -DNO_TOMB_A forgets what was delivered; -DNO_TOMB_B the same at B;
 * -DREPLY_FIRST replies before the commit; -DACK_FIRST acknowledges before the commit. */
#ifndef MAXC
#define MAXC 4
#endif
#ifndef MAXL
#define MAXL 6
#endif

mtype = { STORE, ACK, NACK, SYNC, GONE, USED, DONE };
mtype = { NONE, STORED, READY, CONSUMED };

chan a2b = [2] of { mtype };
chan b2a = [2] of { mtype };

mtype a = NONE, b = NONE; /* On disk. */
bit raw_a = 1, raw_b = 1; /* In memory: the key as it came out of post-processing. */
bit reply_a, reply_b;     /* A reply is about to go out. */
bit used_a, used_b;       /* At the other end's tombstone: this end has confirmed. */
byte crashes, losses;
bit stored_b, ready, taken_a, taken_b; /* What once was true. */
byte served_a, served_b;

#define SEND(c, m) if :: nfull(c) -> c!m :: full(c) fi /* A full channel loses it. */
#define QUIET (empty(a2b) && empty(b2a))               /* Long enough to send again. */

inline serve_a() {
    served_a++;
    assert(served_a == 1);
    assert(stored_b && (b != NONE || taken_b))
}

inline serve_b() {
    served_b++;
    assert(served_b == 1);
    assert(a != NONE || taken_a)
}

active proctype A() {
end:
    do
    :: atomic { raw_a && a == NONE -> a = STORED; raw_a = 0 }
    :: atomic { a == STORED && QUIET -> a2b!STORE }
    :: atomic { b2a?ACK -> if :: a == STORED -> a = READY; ready = 1 :: else fi }
    :: atomic { b2a?NACK -> if :: a == STORED -> a = NONE :: else fi }
    :: atomic { b2a?SYNC ->
           if :: a == NONE && !raw_a -> SEND(a2b, GONE)
              :: a == STORED -> SEND(a2b, STORE)
              :: else fi }
    :: atomic { b2a?USED ->
           if :: a == STORED -> a = READY; ready = 1 /* B could not have taken what it does not have. */
              :: a == CONSUMED -> used_b = 1; SEND(a2b, DONE)
              :: a == NONE -> SEND(a2b, DONE)
              :: else fi }
    :: atomic { b2a?DONE -> if :: a == CONSUMED -> used_b = 1 :: else fi }
    :: atomic { a == CONSUMED && !used_b && QUIET -> a2b!USED }
    :: atomic { a == CONSUMED && used_b && !reply_a && QUIET -> a = NONE } /* Its tombstone is too old. */
#ifdef REPLY_FIRST
    :: atomic { a == READY && !reply_a -> reply_a = 1; serve_a() }
    :: atomic { a == READY && reply_a -> a = CONSUMED; taken_a = 1; reply_a = 0 }
#else
    :: atomic { a == READY -> a = CONSUMED; taken_a = 1; reply_a = 1 }
    :: atomic { reply_a -> reply_a = 0; serve_a() }
#endif
#ifdef EARLY
    :: atomic { a == STORED -> a = CONSUMED; taken_a = 1; reply_a = 1 }
#endif
#ifdef NO_TOMB_A
    :: atomic { a == CONSUMED && !reply_a -> a = NONE }
#endif
    :: atomic { crashes < MAXC -> crashes++; raw_a = 0; reply_a = 0 }
    od
}

active proctype B() {
    bit late = 0;
end:
    do
    :: atomic { a2b?STORE ->
           if :: b != NONE -> SEND(b2a, ACK)
              :: b == NONE && raw_b ->
#ifdef ACK_FIRST
                  SEND(b2a, ACK); late = 1
#else
                  b = STORED; stored_b = 1; raw_b = 0; SEND(b2a, ACK)
#endif
              :: b == NONE && !raw_b -> SEND(b2a, NACK)
           fi }
#ifdef ACK_FIRST
    :: atomic { late && raw_b -> late = 0; b = STORED; stored_b = 1; raw_b = 0 }
#endif
    :: atomic { a2b?GONE -> if :: b == STORED -> b = NONE :: else fi }
    :: atomic { a2b?USED ->
           if :: b == CONSUMED -> used_a = 1; SEND(b2a, DONE)
              :: b == NONE -> SEND(b2a, DONE)
              :: else fi }
    :: atomic { a2b?DONE -> if :: b == CONSUMED -> used_a = 1 :: else fi }
    :: atomic { b == STORED && QUIET -> b2a!SYNC }
    :: atomic { b == CONSUMED && !used_a && QUIET -> b2a!USED }
    :: atomic { b == CONSUMED && used_a && !reply_b && QUIET -> b = NONE }
    :: atomic { b == STORED -> b = CONSUMED; taken_b = 1; reply_b = 1 }
    :: atomic { reply_b -> reply_b = 0; serve_b() }
#ifdef NO_TOMB_B
    :: atomic { b == CONSUMED && !reply_b -> b = NONE }
#endif
    :: atomic { crashes < MAXC -> crashes++; raw_b = 0; reply_b = 0; late = 0 }
    od
}

active proctype Network() {
    mtype m;
end:
    do
    :: atomic { losses < MAXL && nempty(a2b) -> a2b?_; losses++ }
    :: atomic { losses < MAXL && nempty(b2a) -> b2a?_; losses++ }
    :: atomic { losses < MAXL && len(a2b) == 1 -> a2b?<m>; a2b!m; losses++ } /* Repeated. */
    :: atomic { losses < MAXL && len(b2a) == 1 -> b2a?<m>; b2a!m; losses++ }
    od
}

#define HAS_A (a != NONE || taken_a)
#define HAS_B (b != NONE || taken_b)

/* What was acknowledged or taken is not lost; in the end both have it or neither has, and nobody waits. */
ltl safe { [] ((ready -> HAS_A && HAS_B) && (taken_a -> HAS_B) && (taken_b -> HAS_A)) }
ltl settled { <> [] (HAS_A == HAS_B && a != STORED || raw_a) }
