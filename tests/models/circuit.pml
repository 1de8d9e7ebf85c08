/* SPDX-License-Identifier: Apache-2.0 */
/* Pairs end to end over one repeater: head H, inner node M, tail T (lib/node/circuit.c, track.c). Each link makes pairs
 * as long as both its ends give credit; M swaps what it holds of either side, and drops a pair older than the cut-off
 * or when the swap fails. Each end sends a Track for each pair it holds; M hands it on with the outcome and the next
 * link's Bell state, or back as Expire. H tears the circuit down when it has what it wanted.
 *
 * Everything races: a pair is heralded at its two ends at different times; a Track may come before the pair it speaks
 * of, at M and at the other end; a swap takes time, and the cut-off may pass at any moment before it.
 *
 * Bell states are exclusive-ors, so they are told apart by letting each be a bit of its own: pair i of link H-M is bit
 * i, pair j of link M-T is bit PAIRS + j, the outcome of the swap of i with j is bit 2 PAIRS + i. A frame is right for
 * all Bell states if its set of bits is.
 *
 * Properties, at rest: pair i is delivered at H as partner of j if and only if j is delivered at T as partner of i; the
 * frames of both are right; no end holds a pair that will not come; M holds no memory and no record; if M dropped
 * nothing, H has what it wanted. And it always comes to rest.
 *
 * H may also give up at any moment. Then nothing is held or leaked either, but T may have taken a pair whose other half
 * H gave up before it heard of it: no protocol can prevent that, and the half is found useless when it is used.
 *
 * Abstracted: one inner node (a longer chain repeats M's rules); at most PAIRS pairs a link, of which WANTED are wanted;
 * deaths; set-up, which is one message a hop.
 *
 * Broken on purpose: -DNO_EXPIRE: a dropped pair is not told; -DLATE_CUTOFF: the cut-off is not stopped by the swap;
 * -DNO_PARK: M forgets a Track that comes before the swap; -DNO_EARLY: an end forgets a Track that comes before its own
 * pair; -DWRONG_FRAME: the next link's Bell state is left out; -DKEEP_RECORD: the record of a dropped pair is kept. */
#ifndef PAIRS
#define PAIRS 3
#endif
#ifndef WANTED
#define WANTED 2
#endif

mtype = { TRACK, EXPIRE, TEAR };
mtype = { NONE, HELD, DELIVERED, DROPPED };   /* A pair at an end. */
mtype = { WAITING, SWAPPING, SWAPPED, GONE }; /* At M. */

/* Kind, pair of the next link, pair of the sender, frame. */
chan up[2] = [PAIRS + 1] of { mtype, byte, byte, short };   /* End 0 (H) or 1 (T) to M. */
chan down[2] = [PAIRS + 1] of { mtype, byte, byte, short }; /* M to end. */

typedef End {
    mtype pair[PAIRS] = NONE;
    byte partner[PAIRS];
    short frame[PAIRS];
    bit early[PAIRS]; /* The other's Track is here, the pair is not. */
    byte held, expired, delivered;
    bit closed
}
End end[2];

typedef Side { /* Of M, towards H (0) and T (1): what became of each pair. */
    mtype pair[PAIRS] = NONE;
    byte partner[PAIRS];
    bit parked[PAIRS], passed[PAIRS], record[PAIRS];
    byte origin[PAIRS];
    short frame[PAIRS];
    byte seen, gone /* Came; do not take a memory any more. */
}
Side side[2];
byte made[2]; /* Of each link. */
byte memory;  /* Of M, in use. */
byte drops;
bit closed;   /* The circuit at M. */
bit impatient, gave_up;

#define SHARE 2 /* Pairs that M may hold of each side. */
#define DROPS 2
#define BELL(s, n) (1 << ((s) * PAIRS + (n)))
#define OUTCOME(i) (1 << (2 * PAIRS + (i)))

/* ---- ends ---- */

inline deliver(x, n, who, bits) {
    end[x].pair[n] = DELIVERED;
    end[x].partner[n] = who;
    end[x].frame[n] = bits;
    end[x].delivered++;
    if
    :: x == 0 && end[0].delivered == WANTED -> up[0]!TEAR, 0, 0, 0; close_end(0)
    :: else
    fi
}

inline close_end(x) {
    end[x].closed = 1;
    k = 0;
    do
    :: k < PAIRS ->
        if :: end[x].pair[k] == HELD -> end[x].pair[k] = DROPPED :: else fi;
        end[x].early[k] = 0;
        k++
    :: k == PAIRS -> break
    od
}

proctype Ends(byte e) {
    byte n, who, k;
    short f;
    mtype kind;
endless:
    do
    :: atomic { !end[e].closed && end[e].held < made[e] -> /* The next of our link's pairs is complete here. */
           n = end[e].held; end[e].held++;
           end[e].pair[n] = HELD;
           up[e]!TRACK, n, n, BELL(e, n);
           if
           :: end[e].early[n] -> end[e].early[n] = 0; deliver(e, n, end[e].partner[n], end[e].frame[n])
           :: else
           fi }
    :: atomic { e == 0 && impatient && !end[0].closed -> gave_up = 1; up[0]!TEAR, 0, 0, 0; close_end(0); k = 0 }
    :: atomic { down[e]?kind, n, who, f ->
           if
           :: end[e].closed
           :: !end[e].closed && kind == TRACK ->
               if
               :: end[e].pair[n] == HELD -> deliver(e, n, who, f)
               :: end[e].pair[n] == NONE ->
#ifndef NO_EARLY
                   end[e].early[n] = 1; end[e].partner[n] = who; end[e].frame[n] = f
#else
                   skip
#endif
               :: else -> assert(false) /* Told twice, or after it was dropped. */
               fi
           :: !end[e].closed && kind == EXPIRE ->
               assert(end[e].pair[n] == HELD);
               end[e].pair[n] = DROPPED; end[e].expired++
           :: !end[e].closed && kind == TEAR -> close_end(e)
           fi;
           n = 0; who = 0; f = 0; k = 0 }
    od
}

/* ---- the inner node ---- */

inline forget(x, n) {
    side[x].record[n] = 0; side[x].parked[n] = 0; side[x].passed[n] = 0; side[x].origin[n] = 0; side[x].frame[n] = 0
}

inline pass(x, n) { /* advance(): whatever waits for this pair's fate. */
    if
    :: side[x].parked[n] && side[x].pair[n] == SWAPPED ->
        m = side[x].partner[n];
        f = side[x].frame[n] ^ (x == 0 -> OUTCOME(n) : OUTCOME(m));
#ifndef WRONG_FRAME
        f = f ^ BELL(1 - x, m);
#endif
        down[1 - x]!TRACK, m, side[x].origin[n], f;
        side[x].parked[n] = 0;
        side[x].passed[n] = 1;
        if :: side[1 - x].passed[m] -> forget(x, n); forget(1 - x, m) :: else fi
    :: side[x].parked[n] && side[x].pair[n] == GONE ->
#ifndef NO_EXPIRE
        down[x]!EXPIRE, side[x].origin[n], 0, 0;
#endif
#ifdef KEEP_RECORD
        side[x].parked[n] = 0; side[x].passed[n] = 1
#else
        forget(x, n)
#endif
    :: else
    fi;
    m = 0; f = 0
}

inline drop(x, n) {
    side[x].pair[n] = GONE; side[x].record[n] = 1; drops++;
    pass(x, n)
}

inline from_end(x) {
    if
    :: closed
    :: !closed && kind == TRACK ->
#ifdef NO_PARK
        if :: side[x].pair[n] == SWAPPED || side[x].pair[n] == GONE -> side[x].parked[n] = 1 :: else fi;
#else
        side[x].parked[n] = 1;
#endif
        side[x].record[n] = 1; side[x].origin[n] = who; side[x].frame[n] = f;
        f = 0;
        pass(x, n)
    :: !closed && kind == TEAR -> down[1]!TEAR, 0, 0, 0; close_inner()
    fi;
    n = 0; who = 0; f = 0; kind = 0
}

#ifdef LATE_CUTOFF
#define OLD(s) (FIRST(s, WAITING) < 3 -> FIRST(s, WAITING) : FIRST(s, SWAPPING))
#else
#define OLD(s) FIRST(s, WAITING)
#endif
#define MEMORY(s) (made[s] - side[s].gone)

inline close_inner() {
    closed = 1;
    memory = memory - (made[0] - side[0].seen) - (made[1] - side[1].seen); /* Promised. */
    n = 0;
    do
    :: n < PAIRS ->
        if :: side[0].pair[n] == WAITING -> memory-- :: else fi;
        if :: side[1].pair[n] == WAITING -> memory-- :: else fi;
        side[0].pair[n] = NONE; side[1].pair[n] = NONE;
        forget(0, n); forget(1, n);
        n++
    :: n == PAIRS -> break
    od;
    n = 0
}

#define IS(s, n, what) (side[s].pair[n] == what)
#define FIRST(s, what) (IS(s, 0, what) -> 0 : (IS(s, 1, what) -> 1 : (IS(s, 2, what) -> 2 : 3)))

proctype Inner() {
    byte i, j, n, m, who;
    short f;
    mtype kind;
endless:
    do
    :: atomic { !closed && side[0].seen < made[0] -> side[0].pair[side[0].seen] = WAITING; side[0].seen++ }
    :: atomic { !closed && side[1].seen < made[1] -> side[1].pair[side[1].seen] = WAITING; side[1].seen++ }
    :: atomic { !closed && FIRST(0, WAITING) < 3 && FIRST(1, WAITING) < 3 -> /* The oldest of either side. */
           i = FIRST(0, WAITING); j = FIRST(1, WAITING);
           side[0].pair[i] = SWAPPING; side[1].pair[j] = SWAPPING;
           side[0].partner[i] = j; side[1].partner[j] = i;
           memory = memory - 2; side[0].gone++; side[1].gone++;
           i = 0; j = 0 }
    :: atomic { !closed && FIRST(0, SWAPPING) < 3 -> /* The Bell measurement is done. */
           i = FIRST(0, SWAPPING); j = side[0].partner[i];
           if
           :: side[0].pair[i] = SWAPPED; side[1].pair[j] = SWAPPED; side[0].record[i] = 1; side[1].record[j] = 1;
               pass(0, i); pass(1, j)
           :: drops < DROPS -> drop(0, i); drop(1, j) /* It failed: linear optics. */
           fi;
           i = 0; j = 0 }
    :: atomic { !closed && OLD(0) < 3 && drops < DROPS -> memory--; side[0].gone++; i = OLD(0); drop(0, i); i = 0 }
    :: atomic { !closed && OLD(1) < 3 && drops < DROPS -> memory--; side[1].gone++; i = OLD(1); drop(1, i); i = 0 }
    :: atomic { up[0]?kind, n, who, f -> from_end(0) }
    :: atomic { up[1]?kind, n, who, f -> from_end(1) }
    od
}

active proctype Link() { /* A pair is made when both ends of its link have given credit for it. */
endless:
    do
    :: atomic { made[0] < PAIRS && made[0] < WANTED + end[0].expired && !end[0].closed && MEMORY(0) < SHARE && !closed ->
           made[0]++; memory++ }
    :: atomic { made[1] < PAIRS && made[1] < WANTED + end[1].expired && !end[1].closed && MEMORY(1) < SHARE && !closed ->
           made[1]++; memory++ }
    od
}

#define AGREE(i) \
    assert((end[0].pair[i] != DELIVERED || end[1].pair[end[0].partner[i]] == DELIVERED && end[1].partner[end[0].partner[i]] == i && \
            end[0].frame[i] == FRAME(i, end[0].partner[i]) && end[1].frame[end[0].partner[i]] == FRAME(i, end[0].partner[i])) && \
           (end[1].pair[i] != DELIVERED || end[0].pair[end[1].partner[i]] == DELIVERED && end[0].partner[end[1].partner[i]] == i))
#define FRAME(i, j) (BELL(0, i) | BELL(1, j) | OUTCOME(i))
#define CLEAN(s, n) (!side[s].record[n] && !side[s].parked[n] || STUCK(s, n))
/* A pair that still waits at M for one of the other side, which cannot be made any more. */
#define STUCK(s, n) (side[s].pair[n] == WAITING)
#define QUIET(e, n) (end[e].pair[n] != HELD || STUCK(e, n)) && !end[e].early[n]

init {
    atomic { run Ends(0); run Ends(1); run Inner(); if :: impatient = 0 :: impatient = 1 fi }
    timeout;
    d_step {
        if :: !gave_up -> AGREE(0); AGREE(1); AGREE(2) :: else fi;
        assert(QUIET(0, 0) && QUIET(0, 1) && QUIET(0, 2) && QUIET(1, 0) && QUIET(1, 1) && QUIET(1, 2));
        assert(CLEAN(0, 0) && CLEAN(0, 1) && CLEAN(0, 2) && CLEAN(1, 0) && CLEAN(1, 1) && CLEAN(1, 2));
        assert(!closed || memory == 0);
        assert(drops > 0 || gave_up || closed && end[0].closed && end[1].closed && end[0].delivered == WANTED && end[1].delivered == WANTED)
    }
}
