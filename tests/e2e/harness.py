# SPDX-License-Identifier: Apache-2.0
"""Real daemons for the end-to-end tests: temporary networks on free loopback ports, started, killed and asked.

Python's standard library only. Control messages are dictionaries, as of tests/support/protolite.py.
"""
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import protolite  # noqa: E402

CONTROL = protolite.Schema("control", "qkd")
QNETD = os.environ.get("QNETD", "qnetd")
SANITIZED = any(name in os.environ.get("QNETD_BUILD", "") for name in ("asan", "tsan"))
MEMORY = 20 if SANITIZED else 1  # Times as much is used then: what is freed is kept for a while.


def free_ports(n):
    """Ports nobody uses now. They are bound at once, so that they differ."""
    sockets = [socket.socket() for _ in range(n)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def eventually(condition, seconds=10, what="condition"):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"{what}: not within {seconds} s")


class Control:
    """A client of a node's control socket."""

    def __init__(self, path, timeout=10):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(path)
        except OSError:
            self.socket.close()
            raise

    def send(self, request):
        body = CONTROL.encode("ControlRequest", request)
        self.socket.sendall(struct.pack(">I", len(body)) + body)

    def receive(self):
        (length,) = struct.unpack(">I", self._exactly(4))
        return CONTROL.decode("ControlResponse", self._exactly(length))

    def ask(self, request):
        self.send(request)
        return self.receive()

    def _exactly(self, n):
        data = b""
        while len(data) < n:
            more = self.socket.recv(n - len(data))
            if not more:
                raise EOFError("the daemon hung up")
            data += more
        return data

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Node:
    """One daemon, alive or not."""

    def __init__(self, lab, name, ports):
        self.lab, self.name, self.ports = lab, name, ports
        self.state = os.path.join(lab.directory, name)
        self.control_path = os.path.join(self.state, "control.sock")
        self.log_path = os.path.join(self.state, "log")
        self.process = None

    def start(self, *options, topology=None, program=None, **popen):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [program or QNETD, "--topology", topology or self.lab.topology, "--node", self.name, "--state", self.state,
                 "--log-format", "json", "--log-level", "debug", *options],
                **{"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, **popen})
        return self

    def get(self, path, timeout=5):
        """(status, text) from the operations port; (0, reason) if it cannot be reached."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[2]}{path}", timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def is_ready(self):
        assert self.process.poll() is None, f"{self.name} has ended:\n{self.log()}"
        return self.get("/readyz")[0] == 200

    def wait_ready(self, seconds=10):
        eventually(self.is_ready, seconds, f"{self.name} ready")

    def metric(self, name):
        """The value of one sample, named with its labels."""
        for line in self.get("/metrics")[1].splitlines():
            if line.rpartition(" ")[0] == name:
                return float(line.rpartition(" ")[2])
        raise KeyError(name)

    def control(self, timeout=10):
        return Control(self.control_path, timeout)

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, seconds=10):
        return self.process.wait(seconds)

    def stop(self):
        """Asks it to end; its exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        if self.process is not None:
            self.process.wait()

    def log(self):
        with open(self.log_path, encoding="utf-8") as log:
            return log.read()


class Lab:
    """A line of nodes with keys and ports of their own: names in a row are neighbours."""

    def __init__(self, *names, time_scale=1, roles=None, link="length: 1km"):
        self.link = link
        self.temporary = tempfile.TemporaryDirectory(prefix="qnetd-test-")
        self.directory = self.temporary.name
        self.topology = os.path.join(self.directory, "net.yaml")
        ports = free_ports(3 * len(names))
        self.nodes = {name: Node(self, name, ports[3 * i:3 * i + 3]) for i, name in enumerate(names)}
        self.keys = {}
        for node in self.nodes.values():
            os.mkdir(node.state, 0o700)
            self.make_identity(node)
        with open(self.topology, "w", encoding="utf-8") as file:
            file.write(self.text(time_scale, roles or {}))

    def make_identity(self, node):
        private = subprocess.run([QNETD, "genkey"], check=True, capture_output=True).stdout
        public = subprocess.run([QNETD, "pubkey"], input=private, check=True, capture_output=True).stdout
        self.keys[node.name] = public.decode().strip()
        path = os.path.join(node.state, "identity.key")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(private)

    def text(self, time_scale=1, roles=None):
        lines = ["version: 1", "network: test", f"time_scale: {time_scale}", "nodes:"]
        for node in self.nodes.values():
            lines += [f"  {node.name}:", f"    role: {(roles or {}).get(node.name, 'memory')}"]
            for key, port in zip(("classical", "quantum", "operations"), node.ports):
                lines += [f"    {key}: 127.0.0.1:{port}"]
            lines += [f"    key: {self.keys[node.name]}"]
        names = list(self.nodes)
        lines += ["links:"]
        lines += [f"  {a}-{b}: {{between: [{a}, {b}], {self.link}}}" for a, b in zip(names, names[1:])]
        return "\n".join(lines) + "\n"

    def __getitem__(self, name):
        return self.nodes[name]

    def close(self):
        for node in self.nodes.values():
            node.kill()
        self.temporary.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
