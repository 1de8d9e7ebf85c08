#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A node that only pretends: it speaks the control protocol and answers by a script.

As a module: FakeNode, for tests that play the daemon. As a program: takes qnetd's options, so that a lab can be made of
it; FAKE_NODE="bob=die charlie=never" makes bob end at once and charlie never ready, "dave=stubborn" ignores SIGTERM."""
import argparse
import os
import signal
import socket
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import protolite  # noqa: E402

CONTROL = protolite.Schema("control")
REQUESTS = [name for name in CONTROL.messages["ControlRequest"] if name != "id"]


class HangUp(Exception):
    """Raised by a script to close the connection."""


class FakeNode:
    """`script(name, body)` is given each request's kind and fields, and yields the bodies of the answers, {kind: fields};
    all but the last have `more` set, and {} is an answer without body. `asked` keeps the requests."""

    def __init__(self, path, script):
        self.path, self.script, self.asked, self.open = path, script, [], []
        self.listener = socket.socket(socket.AF_UNIX)
        if os.path.exists(path):
            os.unlink(path)  # Of one that was killed.
        self.listener.bind(path)
        self.listener.listen(16)
        self.accepting = threading.Thread(target=self._accept, daemon=True)
        self.accepting.start()

    def close(self):
        if self.listener.fileno() < 0:
            return  # Closed before.
        self.listener.shutdown(socket.SHUT_RDWR)  # Closing alone would not wake the thread; the next socket could be its.
        self.accepting.join()
        self.listener.close()
        for client in self.open:
            client.close()
        if os.path.exists(self.path):
            os.unlink(self.path)

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:  # Shut down.
                return
            self.open.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        try:
            while True:
                (length,) = struct.unpack(">I", exactly(client, 4))
                request = CONTROL.decode("ControlRequest", exactly(client, length))
                name = next(kind for kind in REQUESTS if kind in request)
                self.asked.append((name, request[name]))
                self._answer(client, request["id"], list_ahead(self.script(name, request[name])))
        except (EOFError, OSError, HangUp):
            client.close()

    def _answer(self, client, number, answers):
        for body, more in answers:
            if isinstance(body, bytes):  # As it is, for what no node should say.
                client.sendall(body)
                continue
            message = CONTROL.encode("ControlResponse", {"id": number, "more": more, **body})
            client.sendall(struct.pack(">I", len(message)) + message)


def list_ahead(items):
    """(item, is there one after it)"""
    items = iter(items)
    try:
        item = next(items)
    except StopIteration:
        return
    for after in items:
        yield item, True
        item = after
    yield item, False


def exactly(client, n):
    data = b""
    while len(data) < n:
        more = client.recv(n - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def main():
    parser = argparse.ArgumentParser()
    for option in ("topology", "node", "identity", "control", "log-format"):
        parser.add_argument("--" + option, required=True)
    options, _ = parser.parse_known_args()
    role = dict(item.split("=") for item in os.environ.get("FAKE_NODE", "").split()).get(options.node, "")
    started = time.monotonic_ns()
    print("{\"msg\":\"fake node " + options.node + " starts\"}", flush=True)
    if role == "die":
        print("{\"msg\":\"something is wrong here\"}", flush=True)
        sys.exit(1)
    if role == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def script(name, body):
        if name == "wait":
            if role == "never":
                time.sleep(60)
            yield {}
        elif name == "status":
            yield {"status": {"node": options.node, "network": "fake", "role": "memory", "software": "fake 1", "ready": role != "never",
                              "time_scale": 1.0, "now_ns": time.monotonic_ns(), "uptime_ns": time.monotonic_ns() - started,
                              "incarnation": os.getpid()}}
        elif name == "events":
            yield {"event": {"t_ns": started, "node": options.node, "code": "started", "text": "here I am", "level": 1}}
            yield {}
        else:
            yield {}

    FakeNode(options.control, script)
    signal.pause()


if __name__ == "__main__":
    main()
