/* SPDX-License-Identifier: Apache-2.0 */
#include "command.h"

/* Initialisers, whose braces the formatter takes for blocks. */
/* clang-format off */
#define FLAG(name_, letter_, help_) {.name = name_, .letter = letter_, .help = help_}
#define TEXT(name_, value_, help_) {.name = name_, .kind = VALUE_TEXT, .value = value_, .help = help_}
#define CHOICE(name_, choices_, help_) {.name = name_, .kind = VALUE_CHOICE, .choices = choices_, .help = help_}
#define NAMED(name_, letter_, kind_, value_, help_) \
    {.name = name_, .letter = letter_, .kind = kind_, .value = value_, .help = help_}
#define OPERAND(name_, kind_) {.name = name_, .kind = kind_}
#define OPTIONAL(name_, kind_) {.name = name_, .kind = kind_, .optional = true}
#define WORD(name_, choices_) {.name = name_, .kind = VALUE_CHOICE, .choices = choices_}
#define END {.name = NULL}
/* clang-format on */

const struct option global_options[] = {
    NAMED("node", 'n', VALUE_NODE, "NAME", "Speak to this node."),
    NAMED("lab", 'l', VALUE_LAB, "NAME", "Of this lab (needed only when several are running)."),
    NAMED("socket", 's', VALUE_FILE, "PATH", "Speak to the node with this control socket."),
    FLAG("json", 'j', "Print JSON: one object, or one a line for streams."),
    NAMED("timeout", 't', VALUE_TEXT, "TIME",
          "Give up after this long, such as 10s or 500ms. For what a node works on it is emulated time (30s)."),
    FLAG("help", 'h', "Show help and exit."),
    FLAG("version", 'V', "Show the version and exit."),
    END,
};

/* ---- operands ---- */

static const struct operand peer[] = {OPERAND("PEER", VALUE_NODE), END};
static const struct operand node[] = {OPERAND("NODE", VALUE_NODE), END};
static const struct operand two_nodes[] = {OPERAND("NODE", VALUE_NODE), OPERAND("NODE", VALUE_NODE), END};
static const struct operand file[] = {OPERAND("FILE", VALUE_FILE), END};
static const struct operand optional_file[] = {OPTIONAL("FILE", VALUE_FILE), END};
static const struct operand optional_lab[] = {OPTIONAL("NAME", VALUE_LAB), END};
static const struct operand key_id[] = {OPERAND("ID", VALUE_TEXT), END};
static const struct operand error_code[] = {OPERAND("CODE", VALUE_TEXT), END};
static const struct operand link_only[] = {OPERAND("LINK", VALUE_LINK), END};
static const struct operand link_and_time[] = {OPERAND("LINK", VALUE_LINK), OPERAND("TIME", VALUE_TEXT), END};
static const struct operand link_and_fraction[] = {OPERAND("LINK", VALUE_LINK), OPERAND("FRACTION", VALUE_TEXT), END};
static const struct operand link_and_attack[] = {
    OPERAND("LINK", VALUE_LINK),
    WORD("ATTACK", "intercept|intercept-key|photon-number-splitting|blinding|time-shift|beam-splitting|cut|mitm|replay|"
                   "drift"),
    END};
static const struct operand one_or_two_qubits[] = {OPERAND("QUBIT", VALUE_TEXT), OPTIONAL("QUBIT", VALUE_TEXT), END};
static const struct operand steps[] = {{.name = "STEP", .kind = VALUE_TEXT, .many = true}, END};
static const struct operand qubits[] = {{.name = "QUBIT", .kind = VALUE_TEXT, .optional = true, .many = true}, END};
static const struct operand words[] = {{.name = "COMMAND", .kind = VALUE_TEXT, .optional = true, .many = true}, END};
static const struct operand shell[] = {WORD("SHELL", "bash|zsh|fish"), END};
static const struct operand what_names[] = {WORD("WHAT", "nodes|links|labs"), END};

/* ---- options ---- */

#define MIN_FIDELITY TEXT("min-fidelity", "F", "Fails unless the path can reach this fidelity.")
#define QNETD                                                                                                          \
    NAMED("qnetd", 0, VALUE_FILE, "PATH", "The daemon's program (beside qnetctl, in the build tree, or on the PATH).")

static const struct option pair_options[] = {
    TEXT("number", "N", "How many pairs (1)."),
    MIN_FIDELITY,
    CHOICE("measure", "z|xz|xyz|chsh", "Measure at both ends instead of keeping."),
    TEXT("cutoff", "TIME", "Repeaters discard older pairs (the topology's)."),
    FLAG("quiet", 'q', "No line a pair, only the summary."),
    TEXT("tag", "N", "A number returned with each pair, for programs."),
    END,
};
static const struct option teleport_options[] = {
    TEXT("state", "STATE", "The state to send (z+)."),
    TEXT("number", "N", "How many times (1)."),
    FLAG("tomography", 0, "The receiver measures along X, Y and Z in turn; the fidelity is reported."),
    MIN_FIDELITY,
    END,
};
static const struct option bb84_options[] = {
    TEXT("bits", "N", "Go on until there are this many secret bits."),
    TEXT("blocks", "N", "At most this many blocks (1, or as many as --bits needs)."),
    TEXT("block-pulses", "N", "Pulses, or pairs, in a block (chosen from the link)."),
    TEXT("bell", "F", "Share of the pairs that test Bell's inequality; no key unless it is violated (E91)."),
    FLAG("device-independent", 0,
         "From pairs, by the violation of Bell's inequality alone, trusting no device (E91; --bell 20%)."),
    FLAG("pairs", 0, "From entangled pairs (BBM92), even if a bb84 link joins the two."),
    TEXT("method", "M", "Error correction: auto, cascade, cascade-fast, ldpc, ldpc-fast, ... (auto)."),
    TEXT("qber-limit", "F", "Blocks with a higher error rate give no key (11%)."),
    END,
};
static const struct option discard_options[] = {FLAG("all", 0, "All the node holds."), END};
static const struct option plane_options[] = {
    CHOICE("plane", "quantum|classical|both", "Which of the two channels (both)."),
    END,
};
static const struct option attack_options[] = {
    TEXT("fraction", "F", "Of the pulses (100%)."),
    TEXT("ratio", "N", "Time shift: ratio of the detectors' efficiencies there (4)."),
    TEXT("evenly", "F", "Time shift: share shifted to either side at random (0%)."),
    FLAG("boost", 0, "Blinding: make up for the clicks lost."),
    TEXT("turn", "RADIANS", "Drift: in a second (0.001)."),
    END,
};
static const struct option wait_options[] = {
    TEXT("for", "CONDITION", "ready, peer=NAME, peer=NAME:down, pairs=N or keys=N."),
    END,
};
static const struct option events_options[] = {
    FLAG("follow", 'f', "Go on with new ones as they come."),
    TEXT("backlog", "N", "How many past events of each node, at most 1024 (100; with --follow 10)."),
    END,
};
static const struct option health_options[] = {FLAG("quiet", 'q', "Print nothing."), END};
static const struct option export_options[] = {
    CHOICE("format", "yaml|dot|mermaid|schema|compose|containerlab|netns|kubernetes", "The form (yaml)."),
    NAMED("output", 'o', VALUE_FILE, "FOLDER", "Write all that runs it into this folder, with keys for its nodes."),
    TEXT("image", "NAME", "The container image (qnetd:latest)."),
    TEXT("subnet", "NETWORK", "Where the networks' addresses come from (10.213.0.0/16)."),
    END,
};
static const struct option up_options[] = {TEXT("name", "NAME", "Name of the lab (the network's)."), QNETD, END};
static const struct option down_options[] = {FLAG("all", 0, "Every lab."), END};
static const struct option kill_options[] = {FLAG("term", 0, "Let it end in order (SIGTERM)."), END};
static const struct option start_options[] = {QNETD, END};

/* ---- commands ---- */

const struct command commands[] = {
    {
        .name = "status",
        .summary = "show how a node is, or all nodes of the lab (what qnetctl does without a command)",
        .run = run_status,
    },
    {
        .name = "nodes",
        .summary = "list nodes, and the sessions between neighbours",
        .run = run_nodes,
    },
    {
        .name = "links",
        .summary = "list links: rate and fidelity by the model, pairs made, error rate, faults",
        .run = run_links,
    },
    {
        .name = "pairs",
        .summary = "list the entangled pairs nodes hold",
        .run = run_pairs,
    },
    {
        .name = "keys",
        .summary = "list secret keys, without their material",
        .details = "The check is a digest of the key: two nodes that hold the same key show the same.",
        .run = run_keys,
    },
    {
        .name = "keys take",
        .summary = "hand out a key's material, once, and forget it",
        .examples = "qnetctl --node alice keys take 6f1c0a...",
        .operands = key_id,
        .run = run_keys_take,
    },
    {
        .name = "request-pair",
        .summary = "make entangled pairs with another node",
        .details = "Pairs are kept in both nodes' memories (see pairs), or with --measure measured at both ends at "
                   "once, which needs no memory and reports the correlations: along Z, along X or Z at random "
                   "(BBM92), along X, Y or Z at random (fidelity), or for the CHSH inequality.",
        .examples = "qnetctl --node alice request-pair bob\n"
                    "qnetctl --node alice request-pair bob --number 10000 --measure chsh --timeout 60s",
        .operands = peer,
        .options = pair_options,
        .run = run_request_pair,
    },
    {
        .name = "teleport",
        .summary = "teleport a qubit's state to another node",
        .details = "The state is given by name (z+ z- x+ x- y+ y-) or by its angles on the Bloch sphere, THETA,PHI "
                   "in radians, degrees (90deg) or parts of pi (pi/2).",
        .examples = "qnetctl --node alice teleport bob --state x+\n"
                    "qnetctl --node alice teleport bob --state pi/3,45deg --number 3000 --tomography",
        .operands = peer,
        .options = teleport_options,
        .run = run_teleport,
    },
    {
        .name = "bb84",
        .summary = "make secret keys over a bb84 link, or from entangled pairs",
        .details = "Pulses are sent in blocks; of each block that is not too noisy a key remains, in both nodes' key "
                   "stores (see keys). Where no bb84 link joins the two, pairs are made over entanglement links, "
                   "repeaters between them, and measured at both ends (BBM92). The exit status is 4 if the last block "
                   "was too noisy.",
        .examples = "qnetctl --node alice bb84 bob --bits 10000\n"
                    "qnetctl --node alice bb84 bob --blocks 3 --qber-limit 8%",
        .operands = peer,
        .options = bb84_options,
        .run = run_bb84,
    },
    {
        .name = "gate",
        .summary = "operate on qubits a node holds",
        .details = "Steps are separated by commas, or given as arguments of their own in quotes, and done in order:\n"
                   "prepare (a fresh qubit in |0>; prints its number; done before all other steps)\n"
                   "x y z h s sdg t tdg sx reset discard idle QUBIT\n"
                   "rx ry rz QUBIT ANGLE, rot QUBIT AXIS ANGLE\n"
                   "cnot cz cy swap iswap bell QUBIT QUBIT, cphase QUBIT QUBIT ANGLE\n"
                   "measure QUBIT [AXIS] ends the qubit, project QUBIT [AXIS] keeps it. The axis is x, y or z (z), or "
                   "one of them with a minus; outcome 0 is along it.\n"
                   "Angles are in radians, degrees (90deg) or parts of pi (pi/2).",
        .examples = "qnetctl --node alice gate prepare\n"
                    "qnetctl --node alice gate h 0x1000000000001, measure 0x1000000000001 x\n"
                    "qnetctl --node alice gate 'cnot 0x2a 0x2b' 'measure 0x2b'",
        .operands = steps,
        .run = run_gate,
    },
    {
        .name = "discard",
        .summary = "give up pairs and free their memories",
        .operands = qubits,
        .options = discard_options,
        .run = run_discard,
    },
    {
        .name = "inspect",
        .summary = "show the exact state of a qubit or a pair, as no experiment could (for tests)",
        .operands = one_or_two_qubits,
        .run = run_inspect,
    },
    {
        .name = "fault cut",
        .summary = "cut a link's channels",
        .details = "Sent to both ends of the link and to the station between them. Cutting the quantum channel is "
                   "cutting the fibre; protocol messages need the classical one.",
        .examples = "qnetctl fault cut alice-bob --plane quantum",
        .operands = link_only,
        .options = plane_options,
        .run = run_fault_cut,
    },
    {
        .name = "fault restore",
        .summary = "undo a cut",
        .operands = link_only,
        .options = plane_options,
        .run = run_fault_restore,
    },
    {
        .name = "fault delay",
        .summary = "hold each message of a link for longer, each way",
        .examples = "qnetctl fault delay alice-bob 200ms",
        .operands = link_and_time,
        .run = run_fault_delay,
    },
    {
        .name = "fault eve",
        .summary = "let an eavesdropper intercept and resend a fraction of a bb84 link's pulses",
        .examples = "qnetctl fault eve alice-bob 0.5",
        .operands = link_and_fraction,
        .run = run_fault_eve,
    },
    {
        .name = "fault attack",
        .summary = "attack a bb84 link, or what nodes say over any link",
        .details = "On pulses: intercept and intercept-key (measure and resend, in a random basis or the key basis), "
                   "photon-number-splitting, blinding, time-shift, beam-splitting, cut. On messages of key making, on "
                   "links of any "
                   "kind: mitm (changes them), replay; each node of the link changes what it is told over it and what "
                   "it passes "
                   "on for others, with --node only that one. drift turns the polarisation slowly, which is no attack. "
                   "Blocks report what they notice as "
                   "alarms; fault clear ends it.",
        .examples = "qnetctl fault attack alice-bob photon-number-splitting\n"
                    "qnetctl fault attack alice-bob time-shift --ratio 4 --fraction 50%\n"
                    "qnetctl fault attack r1-r2 mitm --node r1",
        .operands = link_and_attack,
        .options = attack_options,
        .run = run_fault_attack,
    },
    {
        .name = "fault clear",
        .summary = "end all faults of a link",
        .operands = link_only,
        .run = run_fault_clear,
    },
    {
        .name = "declare-dead",
        .summary = "say that a node will not come back as it was",
        .details =
            "All nodes go on without it at once, rather than after the topology's node_dead_after; its qubits are "
            "traced out. Should it still run, it drops its quantum states and starts anew. The word goes to the "
            "node named by --node, or to any node of the lab that has met it, and spreads from there.",
        .examples = "qnetctl declare-dead r1 --node alice",
        .operands = node,
        .run = run_declare_dead,
    },
    {
        .name = "wait",
        .summary = "wait until a condition is met",
        .details = "ready: all sessions with neighbours are up (of all nodes, if none is named). peer=NAME: those with "
                   "this neighbour are, or with peer=NAME:down are not. pairs=N, keys=N: the node holds at least so "
                   "many.",
        .examples = "qnetctl wait --for ready --timeout 30s\n"
                    "qnetctl --node alice wait --for pairs=2",
        .options = wait_options,
        .run = run_wait,
    },
    {
        .name = "events",
        .summary = "show what happens, one line an event",
        .details = "Of several nodes the events are merged by time, with a column a node. With --follow it goes on "
                   "until it is interrupted, or for --timeout.",
        .examples = "qnetctl events --follow\n"
                    "qnetctl --node alice events --backlog 20 --json",
        .options = events_options,
        .run = run_events,
    },
    {
        .name = "health",
        .summary = "say by the exit status whether nodes are ready: 0 yes, 4 no, 3 no answer",
        .details = "For health checks of containers and service managers.",
        .options = health_options,
        .run = run_health,
    },
    {
        .name = "topology check",
        .summary = "check a topology file",
        .details = "Prints every error with its line and column. The file - is the standard input.",
        .operands = file,
        .run = run_topology_check,
    },
    {
        .name = "topology export",
        .summary = "write a topology in another form",
        .details = "yaml is the canonical form with all defaults filled in; dot and mermaid are drawings; schema is "
                   "the JSON Schema of topology files, for editors, and needs no FILE.\n"
                   "compose, containerlab, netns and kubernetes run the network: a container (or network namespace) a "
                   "node, a network a pair of neighbours. With --output all they need is written into a folder: the "
                   "topology with the nodes' addresses there, and in nodes/NAME private keys and initial secrets, "
                   "which are kept when the folder is written again. Without, only the form itself is printed; "
                   "private keys never are.",
        .examples = "qnetctl topology export net.yaml --format dot | dot -Tsvg > net.svg\n"
                    "qnetctl topology export net.yaml --format compose --output net/",
        .operands = optional_file,
        .options = export_options,
        .run = run_topology_export,
    },
    {
        .name = "lab up",
        .summary = "start every node of a topology as a process of this machine",
        .details = "Keys are made and free ports chosen; addresses of the file are kept only if they are of the "
                   "loopback. Returns when all nodes are ready (20s; see --timeout), or takes everything down and "
                   "shows the log of the node that is to blame.",
        .examples = "qnetctl lab up net.yaml\n"
                    "qnetctl lab up net.yaml --name second",
        .operands = file,
        .options = up_options,
        .run = run_lab_up,
    },
    {
        .name = "lab down",
        .summary = "stop a lab and remove all it left",
        .operands = optional_lab,
        .options = down_options,
        .run = run_lab_down,
    },
    {
        .name = "lab status",
        .summary = "list labs and their processes",
        .operands = optional_lab,
        .run = run_lab_status,
    },
    {
        .name = "lab kill",
        .summary = "kill one node of a lab at once, as a power cut would",
        .operands = node,
        .options = kill_options,
        .run = run_lab_kill,
    },
    {
        .name = "lab start",
        .summary = "start a node of a lab that was killed, with the same identity",
        .operands = node,
        .options = start_options,
        .run = run_lab_start,
    },
    {
        .name = "lab share",
        .summary = "give two nodes of a lab a new initial secret, while they run",
        .details =
            "Keys the two make from then on are authenticated with it; also when an older one is used up. lab up "
            "has done this for the ends of links and for up to 1000 pairs of nodes with repeaters between them. "
            "Elsewhere: gensecret, the file at both ends, and SIGHUP.",
        .examples = "qnetctl lab share alice bob",
        .operands = two_nodes,
        .run = run_lab_share,
    },
    {
        .name = "genkey",
        .summary = "write a new private key of a node",
        .examples = "(umask 077; qnetctl genkey > identity.key)",
        .run = run_genkey,
    },
    {
        .name = "pubkey",
        .summary = "read a private key, write its public key (for the topology file)",
        .examples = "qnetctl pubkey < identity.key",
        .run = run_pubkey,
    },
    {
        .name = "gensecret",
        .summary = "write a new initial secret, for two nodes to authenticate their first keys with",
        .details = "Copy it, by a way you trust, to the state directories of both: initial/PEER at either end.",
        .examples = "(umask 077; qnetctl gensecret > secret)",
        .run = run_gensecret,
    },
    {
        .name = "errors",
        .summary = "list every error: number, code, what it means, what to do",
        .run = run_errors,
    },
    {
        .name = "errors lookup",
        .summary = "explain one error",
        .examples = "qnetctl errors lookup no_route",
        .operands = error_code,
        .run = run_errors_lookup,
    },
    {
        .name = "completion",
        .summary = "write the completions of a shell",
        .examples = "source <(qnetctl completion bash)\n"
                    "qnetctl completion fish > ~/.config/fish/completions/qnetctl.fish",
        .operands = shell,
        .run = run_completion,
    },
    {
        .name = "complete",
        .summary = "names for the completions: nodes, links, labs",
        .operands = what_names,
        .hidden = true,
        .run = run_complete,
    },
    {
        .name = "man",
        .summary = "write the manual page (roff)",
        .examples = "qnetctl man | man -l -",
        .run = run_man,
    },
    {
        .name = "version",
        .summary = "show the version; of nodes, too, if they are named",
        .run = run_version,
    },
    {
        .name = "help",
        .summary = "explain qnetctl or one of its commands",
        .operands = words,
        .run = run_help,
    },
};

const size_t n_commands = sizeof commands / sizeof commands[0];
