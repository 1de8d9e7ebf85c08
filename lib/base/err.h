/* SPDX-License-Identifier: Apache-2.0 */
#ifndef QN_BASE_ERR_H
#define QN_BASE_ERR_H

/* One table of every error: name, number, what it means, what to do. Functions return 0 or -QN_E<NAME>. The number and
 * the lower-case name are stable: they travel in messages, logs and JSON. */
#define QN_ERRORS(X)                                                                                                   \
    X(NOMEM, 1, "out of memory", "free memory on this machine")                                                        \
    X(INVAL, 2, "invalid argument", "correct the argument")                                                            \
    X(LIMIT, 3, "a limit was reached", "ask for less, or raise the limit in the topology")                             \
    X(PARSE, 4, "malformed input", "correct the input")                                                                \
    X(VERSION, 5, "no protocol version in common", "run the same release at both ends")                                \
    X(AUTH, 6, "authentication failed", "check the keys in the topology file")                                         \
    X(PROTOCOL, 7, "the peer broke the protocol", "see the log of both nodes; report it with them")                    \
    X(CLOSED, 8, "the session was closed", "wait until the peer is back")                                              \
    X(UNKNOWN_NODE, 9, "unknown node", "name a node of the topology: qnetctl nodes")                                   \
    X(UNKNOWN_LINK, 10, "unknown link", "name a link of the topology: qnetctl links")                                  \
    X(NO_ROUTE, 11, "no route", "add a link between the parts of the network, or restore a cut one")                   \
    X(PEER_DOWN, 12, "the peer is down", "start the node or restore its links")                                        \
    X(FIDELITY, 13, "the path cannot reach the fidelity asked for", "ask for a lower fidelity or improve the links")   \
    X(TIMEOUT, 14, "the deadline passed", "allow more time, or find out what is slow: qnetctl links")                  \
    X(MEMORY_FULL, 15, "no free quantum memory", "discard held pairs or give the node more memories")                  \
    X(UNSUPPORTED, 16, "not supported by this node's hardware", "use a node or link with that hardware")               \
    X(REJECTED, 17, "the other end refused", "see its log")                                                            \
    X(EXPIRED, 18, "the pair expired", "request new pairs")                                                            \
    X(LOST, 19, "the qubit's state was lost", "request new pairs")                                                     \
    X(QBER, 20, "the error rate is above the limit", "check the link for an eavesdropper or misalignment")             \
    X(VERIFY, 21, "the keys differ after reconciliation", "repeat; if it persists report it")                          \
    X(BUSY, 22, "too much work at once", "try again later")                                                            \
    X(CANCELLED, 23, "cancelled", "nothing: it was asked for")                                                         \
    X(SHUTDOWN, 24, "the node is stopping", "start it again")                                                          \
    X(NOT_FOUND, 25, "not found", "list what there is")                                                                \
    X(UNREACHABLE, 26, "the quantum plane cannot reach the host of the qubit", "restore a path to that node")          \
    X(TOPOLOGY, 27, "the peers read different topologies", "give both the same file")                                  \
    X(CUT, 28, "cut by an operator", "qnetctl fault clear")                                                            \
    X(SYSTEM, 29, "the operating system refused", "see the message")                                                   \
    X(NO_KEY, 30, "too few bits for a key", "ask for more pulses, or a better link")                                   \
    X(STORE, 40, "the key store cannot be written", "make room on its disk; the node goes on by itself")               \
    X(FENCED, 60, "this node was declared dead while it was away", "ask again: it has started anew")                   \
    X(PADS, 70, "the pool of authentication is used up", "give both ends a new initial secret")                        \
    X(BELL, 110, "Bell's inequality is not violated", "check the pairs' fidelity, and who makes them")

enum qn_err {
#define X(name, number, what, todo) QN_E##name = number,
    QN_ERRORS(X)
#undef X
};

const char *qn_err_name(int err); /* "no_route"; takes the number or its negative; "error" if unknown. */
const char *qn_err_what(int err);
const char *qn_err_todo(int err);

#endif
