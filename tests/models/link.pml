/* SPDX-License-Identifier: Apache-2.0 */
/* One request for pairs of a link (lib/node/link.c, station.c): end A asks, end B accepts, both give the station S
 * credit, and S makes pairs. Messages of one channel stay in order; those of different channels overtake each other.
 * A credit (a photon) may be lost; either end may reject, or give up at any moment; S or B may die and come back.
 *
 * A and B are neighbours of S and hear of its death, and S of theirs, from their sessions. A hears of B's
 * death in time, as it knew B's old life before it asked. What still comes from an old life, or is for one, is dropped.
 *
 * Properties, at rest: both ends hold all pairs, or the request is over at both; what is over holds no memory; the
 * station has no request that is over; without a fault or giving up, it is not over. And it always comes to rest.
 *
 * Abstracted: one request of kind KEEP for PAIRS pairs, and memory for all of them; a pair handed on to its circuit is
 * still the link's (circuit.pml goes on from there); a station's entry without LinkCreate is no leak, as it goes when
 * room is needed; A itself does not die (all its peers then do what they do for B).
 *
 * Broken on purpose: -DNO_RESEND_CREDIT: a lost credit is not sent again; -DCANCEL_ONE: LinkCancel goes to the other end
 * only; -DKEEP_PROMISED: memory promised to pairs that will not come is not given back; -DNO_LATE_DISCARD: what comes
 * for a closed request is kept; -DSILENT_DEATH: an end that closes its request over a death does not tell the other;
 * -DSTATION_SILENT: nor does the station; -DHEAD_SILENT: the head leaves it to the other end to tell the station;
 * -DUNKNOWN_LIFE: A asks whichever life of B comes by, and sends the next again what the last did not acknowledge. */
#ifndef PAIRS
#define PAIRS 2
#endif
#define LOSSES 1
#ifdef UNKNOWN_LIFE
#define FIRST 0
#else
#define FIRST 1
#endif

mtype = { CREATE, ACCEPT, REJECT, CANCEL, HERALD, BORN };
mtype = { IDLE, ASKED, ACTIVE, CLOSED };

chan ab = [2] of { mtype, byte };           /* Kind, the life of B it is for (0: not known). */
chan ba = [3] of { mtype, byte };           /* Kind, the life of B it is from. */
chan as = [3] of { mtype, byte };           /* Kind, the life of S it is for. */
chan bs = [2] of { mtype, byte };
chan sc[2] = [PAIRS + 1] of { mtype, byte, byte }; /* Classical, to A and B: kind, pair, the life of S it is from. */
chan sp[2] = [PAIRS] of { mtype, byte, byte };     /* Hosting. */
chan light[2] = [1] of { byte, byte };             /* Credit, the life of the sender. */

mtype state[2] = IDLE; /* Of the request at A (0) and B (1). */
byte granted[2], promised[2], memory[2], pairs[2]; /* Sets of pairs are bits. */
typedef Halves { byte h[2] };
Halves came[2]; /* Of each end: Born (0) and heralds (1) that have come. */
byte knows_s[2] = 1, knows_b = FIRST, s_knows_b = 1, life_b = 1, life_s = 1;
bit crashed, gave_up, rejected, cut;
byte patience; /* Whose deadline passes: 0 A's, 1 B's, 2 nobody's. */
byte losses;

bit created; /* At the station. */
byte has[2], issued;

#define BIT(n) (1 << (n))
#define ALL ((1 << PAIRS) - 1)
#define LIFE(e) (e == 0 -> 1 : life_b)

inline grant(e) {
    granted[e] = PAIRS; promised[e] = PAIRS; memory[e] = memory[e] + PAIRS;
    if :: empty(light[e]) -> light[e]!PAIRS, LIFE(e) :: nempty(light[e]) fi
}

inline close(e) { /* destroy() */
    if
    :: state[e] == ASKED || state[e] == ACTIVE ->
#ifdef KEEP_PROMISED
        memory[e] = memory[e] - (granted[e] - promised[e]);
#else
        memory[e] = memory[e] - granted[e];
#endif
        pairs[e] = 0; came[e].h[0] = 0; came[e].h[1] = 0; granted[e] = 0; promised[e] = 0
    :: else
    fi;
    state[e] = CLOSED
}

inline tell_other(e) {
    if :: e == 0 -> ab!CANCEL, knows_b :: else -> ba!CANCEL, life_b fi
}

inline tell_station(e) {
    if :: e == 0 -> as!CANCEL, knows_s[0] :: else -> bs!CANCEL, knows_s[1] fi
}

inline head_tells() { /* The other's LinkCancel may have overtaken our LinkCreate at the station; ours does not. */
#ifndef HEAD_SILENT
    tell_station(0)
#else
    skip
#endif
}

inline cancel(e) { /* link_cancel(tell) */
    tell_other(e);
#ifndef CANCEL_ONE
    tell_station(e);
#endif
    close(e)
}

inline half(e, which, n) { /* One of Born (0) and LinkHerald (1) is here; the pair is when both are. */
    if
    :: state[e] == ACTIVE ->
        if :: !((came[e].h[0] | came[e].h[1]) & BIT(n)) -> promised[e]-- :: else -> pairs[e] = pairs[e] | BIT(n) fi;
        came[e].h[which] = came[e].h[which] | BIT(n)
    :: else ->
#ifdef NO_LATE_DISCARD
        memory[e]++
#else
        skip
#endif
    fi
}

inline hear_s(e) { /* PEER_GONE of S */
    knows_s[e] = life_s;
    if
    :: state[e] == ASKED || state[e] == ACTIVE ->
#ifndef SILENT_DEATH
        tell_other(e);
#endif
        close(e)
    :: else
    fi
}

inline hear_b(life) {
    if
    :: knows_b != 0 && knows_b != life ->
        knows_b = life;
        if :: state[0] == ASKED || state[0] == ACTIVE -> head_tells(); close(0) :: else fi
    :: else -> knows_b = life
    fi
}

inline station_message(e, c) {
    c?kind, life;
    if
    :: life == life_s ->
        if
        :: kind == CREATE -> created = 1
        :: kind == CANCEL -> created = 0; has[0] = 0; has[1] = 0; issued = 0
        fi
    :: else
    fi
}

active proctype A() {
    mtype kind; byte n, life;
end:
    do
    :: d_step { state[0] == IDLE -> state[0] = ASKED; ab!CREATE, knows_b; as!CREATE, knows_s[0] }
    :: d_step { nempty(ba) -> ba?kind, life;
           if :: life >= knows_b ->
                  hear_b(life);
                  if
                  :: kind == ACCEPT && state[0] == ASKED -> state[0] = ACTIVE; grant(0)
                  :: kind == REJECT && state[0] != CLOSED -> head_tells(); close(0)
                  :: kind == CANCEL && state[0] != CLOSED -> head_tells(); close(0)
                  :: else
                  fi
              :: else
           fi }
    :: d_step { knows_b != 0 && knows_b < life_b -> hear_b(life_b) } /* From a neighbour, or its own resending. */
    :: d_step { state[0] != CLOSED && state[0] != IDLE && patience == 0 && !gave_up && (state[0] == ASKED || pairs[0] != ALL) && nfull(ab) ->
           gave_up = 1; cancel(0) }
    od
}

active proctype B() {
    mtype kind; byte life;
end:
    do
    :: d_step { nempty(ab) && len(ba) < 2 -> ab?kind, life;
           if :: life == 0 || life == life_b ->
                  if
                  :: kind == CREATE && state[1] == IDLE && !rejected -> ba!ACCEPT, life_b; state[1] = ACTIVE; grant(1)
                  :: kind == CREATE && state[1] == IDLE && rejected -> ba!REJECT, life_b
                  :: kind == CANCEL -> close(1)
                  :: else
                  fi
              :: else
           fi }
    :: d_step { state[1] == ACTIVE && patience == 1 && !gave_up && pairs[1] != ALL && nfull(ba) && nfull(bs) -> gave_up = 1; cancel(1) }
    :: atomic { !crashed -> crashed = 1; life_b = 2; knows_s[1] = life_s;
           state[1] = IDLE; granted[1] = 0; promised[1] = 0; memory[1] = 0; pairs[1] = 0;
           came[1].h[0] = 0; came[1].h[1] = 0;
           do :: nempty(sc[1]) -> sc[1]?_, _, _ :: nempty(sp[1]) -> sp[1]?_, _, _ :: empty(sc[1]) && empty(sp[1]) -> break od;
           if :: nempty(ba) && cut -> ba?_, _ :: !cut || empty(ba) fi; /* What it sent arrives, or does not. */
           if :: nempty(ba) && cut -> ba?_, _ :: !cut || empty(ba) fi;
           if
           :: knows_b == 0 && state[0] != IDLE && empty(ba) -> /* Nothing is acknowledged: all of it comes again. */
               do :: nempty(ab) -> ab?_, _ :: empty(ab) -> break od;
               ab!CREATE, 0;
               if :: state[0] == CLOSED -> ab!CANCEL, 0 :: state[0] != CLOSED fi
           :: knows_b != 0 || state[0] == IDLE || nempty(ba)
           fi }
    od
}

/* What S sends to the ends, at both. */
proctype Ear(byte e) {
    mtype kind; byte n, life;
end:
    do
    :: d_step { nempty(sc[e]) && nfull(ab) && nfull(ba) && nfull(as) && nfull(bs) -> sc[e]?kind, n, life;
           if
           :: life < knows_s[e]
           :: life >= knows_s[e] ->
               if :: life > knows_s[e] -> hear_s(e) :: else fi;
               if
               :: kind == HERALD -> half(e, 1, n)
               :: kind == CANCEL && (state[e] == ASKED || state[e] == ACTIVE) -> tell_other(e); close(e)
               :: else
               fi
           fi }
    :: d_step { nempty(sp[e]) && nfull(ab) && nfull(ba) -> sp[e]?kind, n, life;
           if
           :: life < knows_s[e]
           :: life >= knows_s[e] ->
               if :: life > knows_s[e] -> hear_s(e) :: else fi;
               half(e, 0, n)
           fi }
    :: d_step { knows_s[e] < life_s && nfull(ab) && nfull(ba) -> hear_s(e) }
#ifndef NO_RESEND_CREDIT
    :: d_step { state[e] == ACTIVE && granted[e] > has[e] && empty(light[e]) && created && knows_s[e] == life_s ->
           light[e]!granted[e], LIFE(e) } /* The quantum session is back. */
#endif
    od
}

active proctype S() {
    mtype kind; byte n, life;
end:
    do
    :: d_step { nempty(as) -> station_message(0, as) }
    :: d_step { nempty(bs) -> station_message(1, bs) }
    :: d_step { nempty(light[0]) -> light[0]?n, life; if :: n > has[0] -> has[0] = n :: else fi }
    :: d_step { nempty(light[1]) -> light[1]?n, life; if :: life == life_b && n > has[1] -> has[1] = n :: else fi }
    :: d_step { losses < LOSSES && nempty(light[0]) -> light[0]?_, _; losses++ }
    :: d_step { losses < LOSSES && nempty(light[1]) -> light[1]?_, _; losses++ }
    :: d_step { created && issued < has[0] && issued < has[1] ->
           sp[0]!BORN, issued, life_s; sp[1]!BORN, issued, life_s;
           sc[0]!HERALD, issued, life_s; sc[1]!HERALD, issued, life_s;
           issued++ }
    :: d_step { s_knows_b < life_b -> s_knows_b = life_b; /* PEER_GONE: whoever else was in it is told. */
#ifndef STATION_SILENT
           if :: created -> sc[0]!CANCEL, 0, life_s :: else fi;
#endif
           created = 0; has[0] = 0; has[1] = 0; issued = 0 }
    :: atomic { !crashed -> crashed = 1; life_s = 2; created = 0; has[0] = 0; has[1] = 0; issued = 0;
           do :: cut && nempty(sc[0]) -> sc[0]?_, _, _ :: cut && nempty(sp[1]) -> sp[1]?_, _, _
              :: !cut || empty(sc[0]) && empty(sp[1]) -> break od;
           skip }
    od
}

init {
    atomic { run Ear(0); run Ear(1); if :: cut = 1 :: cut = 0 fi; if :: patience = 0 :: patience = 1 :: patience = 2 fi; if :: rejected = 1 :: rejected = 0 fi }
    timeout;
    assert(state[0] == CLOSED && state[1] != ACTIVE || pairs[0] == ALL && pairs[1] == ALL);
    assert(state[0] == CLOSED -> memory[0] == 0 : memory[0] == PAIRS);
    assert(state[1] == ACTIVE -> memory[1] == PAIRS : memory[1] == 0);
    assert(!created || state[0] == ACTIVE);
    assert(crashed || gave_up || rejected || pairs[0] == ALL)
}
