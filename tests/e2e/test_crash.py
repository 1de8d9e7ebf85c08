# SPDX-License-Identifier: Apache-2.0
"""Real processes that die: after the n-th message they send, at random moments, and by being stopped for too long.

Each time whoever lives is answered, by the right cause, and when the dead one is back everything works again. How long
that took (noticed, answered, full service) is printed. QNETD_KILLS and QNETD_CYCLES make the runs longer."""
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import harness
from harness import eventually

BUILD = os.environ.get("QNETD_BUILD", "build")
QNETCTL = os.path.join(BUILD, "tools", "qnetctl", "qnetctl")
KILLS = int(os.environ.get("QNETD_KILLS", "40"))  # 300 is about two minutes.
CYCLES = int(os.environ.get("QNETD_CYCLES", "6"))
SLOW = 4 if harness.SANITIZED else 1
LINK = "model: ideal, fidelity: 1.0, probability: 50%, length: 1km, attempt_time: 10us"
CAUSES = {"peer_down", "unreachable", "fenced"}


def show(what, seconds):
    if seconds:
        print(f"# {what}: median {statistics.median(seconds) * 1e3:.0f} ms, longest {max(seconds) * 1e3:.0f} ms of {len(seconds)}", file=sys.stderr)


class Network(harness.Lab):
    """A chain with a BB84 link beside it, as bare processes: nothing stands between a kill and its effect."""

    def __init__(self, repeaters=1, dead_after="1s", scale=20, keys=False):
        self.dead_after, self.extra = dead_after, ["laser", "receiver"] if keys else []
        names = ["n0"] + [f"n{i + 1}" for i in range(repeaters)] + [f"n{repeaters + 1}"]
        self.ends = (names[0], names[-1])
        roles = {name: "repeater" for name in names[1:-1]}
        super().__init__(*names, *self.extra, time_scale=scale, roles=roles, link=LINK)

    def text(self, time_scale=1, roles=None):
        lines = ["version: 1", "network: crash", f"time_scale: {time_scale}", f"node_dead_after: {self.dead_after}", "nodes:"]
        special = {"laser": "role: source, source: single-photon, clock: 10MHz", "receiver": "role: detector, efficiency: 80%"}
        for node in self.nodes.values():
            hardware = special.get(node.name, f"role: {(roles or {}).get(node.name, 'memory')}, memories: 64")
            addresses = ", ".join(f"{key}: \"127.0.0.1:{port}\"" for key, port in zip(("classical", "quantum", "operations"), node.ports))
            lines.append(f"  {node.name}: {{{hardware}, {addresses}, key: \"{self.keys[node.name]}\"}}")
        names = [name for name in self.nodes if name not in self.extra]
        lines += ["links:"] + [f"  l{i}: {{between: [{a}, {b}], {self.link}}}" for i, (a, b) in enumerate(zip(names, names[1:]))]
        if self.extra:
            lines += ["  key: {between: [laser, receiver], kind: bb84, length: 1km}", "  line: {between: [n0, laser], kind: classical}"]
        return "\n".join(lines) + "\n"

    def up(self):
        for node in self.nodes.values():
            node.start()
        for node in self.nodes.values():
            node.wait_ready(20 * SLOW)
        return self

    def ctl(self, node, *words, timeout=120):
        """(error code or None, lines of JSON); the code is "gone" if the node asked went away."""
        done = subprocess.run([QNETCTL, "--socket", self[node].control_path, *map(str, words), "--json"], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout)
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode == 0:
            return None, lines
        errors = [line["error"] for line in lines if "error" in line]
        error = errors[-1] if errors and isinstance(errors[-1], dict) else {"code": "?", "message": done.stderr}
        return ("gone" if done.returncode == 3 else error["code"]), [error]

    def pairs(self, number=20, timeout="60s"):
        return self.ctl(self.ends[0], "request-pair", self.ends[1], "--number", number, "--measure", "xyz", "--quiet", "--timeout", timeout)

    def teleport(self, number=8, timeout="60s"):
        return self.ctl(self.ends[1], "teleport", self.ends[0], "--state", "x+", "--tomography", "--number", number, "--timeout", timeout)

    def key(self, timeout="60s"):
        time.sleep(0.1)  # The key stores would be full in a few minutes.
        return self.ctl("laser", "bb84", "receiver", "--blocks", 1, "--block-pulses", 20000, "--timeout", timeout)

    def life(self, node):
        return self.ctl(node, "status")[1][0]["incarnation"]

    def events(self, node, code):
        return [line for line in self.ctl(node, "events", "--backlog", 1000)[1] if line.get("code") == code]

    def service(self, work, seconds=30):
        """Until the work succeeds: how long that took. What fails on the way names the dead as the cause."""
        begin = time.monotonic()
        while True:
            code, lines = work()
            if code is None:
                return time.monotonic() - begin
            assert code in CAUSES | {"gone", "timeout", "shutdown"}, lines
            assert time.monotonic() - begin < seconds * SLOW, lines


class Worker(threading.Thread):
    """Asks for the same again and again, and keeps what came of it."""

    def __init__(self, work):
        super().__init__(daemon=True)
        self.work, self.stopping, self.done, self.failure = work, False, [], None

    def run(self):
        try:
            while not self.stopping:
                begin = time.monotonic()
                code, lines = self.work()
                self.done.append((begin, time.monotonic(), code, lines))
        except Exception as error:  # Whatever it is, the main thread must hear of it.
            self.failure = error

    def succeeded_after(self, moment):
        if self.failure is not None:
            raise self.failure
        return next((end for begin, end, code, _ in reversed(self.done) if code is None and begin > moment), None)


    def wait_success(self, moment, seconds, victim):
        try:
            return eventually(lambda: self.succeeded_after(moment), seconds, f"service after {victim} was killed")
        except AssertionError as error:
            last = [(round(end - begin, 2), code, lines[-1:]) for begin, end, code, lines in self.done[-4:]]
            raise AssertionError(f"{error}; {self.work.__name__}: {last}") from None


class Crash(unittest.TestCase):
    limit_s = (200 + 2 * KILLS) * SLOW

    def test_after_the_nth_message(self):
        """A sample of the crash matrix of tests/scenario/crash_matrix.c."""
        answered, service = [], []
        with Network().up() as network:
            for victim, n in (("n1", 3), ("n1", 14), ("n1", 29), ("n1", 60), ("n2", 2), ("n2", 9), ("n2", 21), ("n2", 47)):
                with self.subTest(victim=victim, n=n):
                    network[victim].kill()
                    network[victim].start(env={**os.environ, "QNETD_CRASH_AFTER_SENT": str(n)})
                    codes = []

                    def ask(network=network, codes=codes):
                        codes.append((network.pairs(200, "200s"), time.monotonic()))

                    thread = threading.Thread(target=ask)
                    thread.start()
                    self.assertEqual(network[victim].wait(20 * SLOW), 128 + signal.SIGKILL)
                    died = time.monotonic()
                    thread.join(40 * SLOW)
                    self.assertTrue(codes, "no answer")
                    (code, lines), when = codes[0]
                    self.assertIn(code, CAUSES | {None}, lines)
                    answered.append(max(0.0, when - died))
                    network[victim].start()
                    service.append(network.service(network.pairs))
        show("answered after the crash", answered)
        show("full service after the start", service)

    def test_random_kills(self):
        """Pairs, teleportation and keys go on while processes are killed at random."""
        seed = int(os.environ.get("QNETD_SEED", "1"))
        chance, ready, service = random.Random(seed), [], []
        print(f"# seed {seed}, {KILLS} kills", file=sys.stderr)
        with Network(2, keys=True, scale=50).up() as network:
            workers = [Worker(network.pairs), Worker(network.teleport), Worker(network.key)]
            for worker in workers:
                worker.start()
            begin = time.monotonic()
            for _ in range(KILLS):
                victim = network[chance.choice(list(network.nodes))]
                time.sleep(chance.uniform(0, 0.1))
                victim.kill()
                if chance.random() < 0.3:
                    time.sleep(chance.uniform(0, 0.2))
                started = time.monotonic()
                victim.start()
                for node in network.nodes.values():
                    node.wait_ready(20 * SLOW)
                ready.append(time.monotonic() - started)
                ends = [worker.wait_success(started, 40 * SLOW, victim.name) for worker in workers]
                service.append(max(ends) - started)
            took = time.monotonic() - begin
            for worker in workers:
                worker.stopping = True
            for worker in workers:
                worker.join(60 * SLOW)
                self.assertFalse(worker.is_alive(), "a request is never answered")
                for _, _, code, lines in worker.done:
                    self.assertIn(code, CAUSES | {None, "gone", "timeout"}, lines)
            for node in network.nodes.values():
                self.assertEqual(network.ctl(node.name, "status")[1][0]["requests"], 0)
                self.assertIsNone(node.process.poll(), f"{node.name} has ended:\n{node.log()[-2000:]}")
        codes = [code for worker in workers for _, _, code, _ in worker.done]
        print(f"# {took:.1f} s; {len(codes)} requests: " + ", ".join(f"{codes.count(code)} {code or 'done'}" for code in sorted(set(codes), key=str)), file=sys.stderr)
        show("all sessions up after the start", ready)
        show("full service after the start", service)

    def held_pair(self, network):
        code, lines = network.ctl(network.ends[0], "request-pair", network.ends[1], "--number", 1)
        self.assertIsNone(code, lines)
        mine = next(line for line in lines if line.get("type") == "pair")

        def partner():
            listed = network.ctl(network.ends[1], "pairs")[1][0]["pairs"]
            return next((pair["qubit"] for pair in listed if (pair["circuit"], pair["sequence"]) == (mine["circuit"], mine["sequence"])), None)

        return mine["qubit"], eventually(partner, 10, "the far half")

    def measure(self, network, node, qubit):
        code, lines = network.ctl(node, "gate", f"measure {qubit} x", "--timeout", "400s")
        self.assertIsNone(code, lines)
        return lines[-1]["outcomes"][0]

    def test_stopped_and_continued(self):
        """Stopped for less than node_dead_after a node goes on as it was; for longer it is fenced. Never both."""
        with Network(dead_after="2s").up() as network:
            head, tail = network.ends
            for _ in range(3):
                mine, theirs = self.held_pair(network)
                before = network.life(tail)
                network[tail].signal(signal.SIGSTOP)
                time.sleep(0.3)
                network[tail].signal(signal.SIGCONT)
                self.assertEqual(self.measure(network, head, mine), self.measure(network, tail, theirs), "a pair that was kept")
                self.assertEqual(network.life(tail), before)
            self.held_pair(network)
            lives = {node: network.life(node) for node in network.nodes}
            network[tail].signal(signal.SIGSTOP)
            stopped = time.monotonic()
            eventually(lambda: network.events(head, "peer_gone"), 15 * SLOW, "the stopped node is declared dead")
            noticed = time.monotonic() - stopped
            network[tail].signal(signal.SIGCONT)
            continued = time.monotonic()
            eventually(lambda: network.life(tail) != lives[tail], 15 * SLOW, "the node starts anew")
            fenced = time.monotonic() - continued
            self.assertEqual(len(network.events(tail, "fenced")), 1)
            self.assertEqual(network.ctl(tail, "pairs")[1][0]["pairs"], [])
            for node in (head, "n1"):
                self.assertEqual(network.life(node), lives[node])
            network.service(network.pairs)
            print(f"# noticed {noticed:.2f} s after the stop, fenced {fenced:.2f} s and full service {time.monotonic() - continued:.2f} s after it went on",
                  file=sys.stderr)

    def test_declared_dead_by_hand(self):
        with Network(dead_after="1000s").up() as network:
            mine, _ = self.held_pair(network)
            network[network.ends[1]].kill()
            code, lines = network.ctl(network.ends[0], "gate", f"measure {mine} x", "--timeout", "10s")  # Half a second.
            if code is not None:
                self.assertEqual(code, "unreachable", lines)
                self.assertIn(f"substrate unreachable: {network.ends[1]}", lines[0]["message"])
            code, lines = network.ctl("n1", "declare-dead", network.ends[1])
            self.assertIsNone(code, lines)
            eventually(lambda: network.events(network.ends[0], "peer_gone"), 5, "the word spreads")
            network[network.ends[1]].start()
            network.service(network.pairs)


class Cycles(unittest.TestCase):
    limit_s = 200 + 2 * CYCLES

    def test_nothing_leaks(self):
        """Labs come up, work, lose a node and go down again: no process, file, socket or descriptor is left."""
        directory = tempfile.mkdtemp(prefix="qnetd-cycles-")
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        environment = {**os.environ, "XDG_RUNTIME_DIR": directory}
        path = os.path.join(directory, "net.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write("version: 1\nnetwork: cycles\ntime_scale: 20\nnodes:\n  a: {role: memory}\n  r: {role: repeater}\n  b: {role: memory}\n"
                       f"links:\n  ar: {{between: [a, r], {LINK}}}\n  rb: {{between: [r, b], {LINK}}}\n")

        def ctl(*words):
            done = subprocess.run([QNETCTL, *words, "--json"], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 0, f"{words}: {done.stdout}{done.stderr}")
            return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

        def left():
            return sorted(os.path.join(at, name) for at, _, names in os.walk(directory) for name in names if name != "net.yaml")

        def mine():
            found = []
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    with open(f"/proc/{pid}/environ", "rb") as file:
                        if f"XDG_RUNTIME_DIR={directory}".encode() in file.read().split(b"\0"):
                            found.append(pid)
                except OSError:
                    pass
            return found

        begin, descriptors, after_one = time.monotonic(), len(os.listdir("/proc/self/fd")), None
        for cycle in range(CYCLES):
            ctl("lab", "up", path)
            ctl("request-pair", "b", "--node", "a", "--number", "20", "--measure", "xyz", "--quiet")
            ctl("lab", "kill", ("a", "r", "b")[cycle % 3])
            ctl("lab", "down")
            after_one = after_one if after_one is not None else left()
            self.assertEqual(left(), after_one, f"cycle {cycle}")
            eventually(lambda: not mine(), 5, f"no process is left after cycle {cycle}")
            self.assertEqual(len(os.listdir("/proc/self/fd")), descriptors)
        self.assertEqual([name for name in after_one if not name.endswith((".key", ".state"))], [])
        print(f"# {CYCLES} cycles in {time.monotonic() - begin:.1f} s; left: {after_one}", file=sys.stderr)


class Farewell(unittest.TestCase):
    """Whoever stops in order says so: nobody waits for it until it is missed."""
    NAMES = ("a", "r1", "r2", "r3", "c")

    def chain(self):
        lab = harness.Lab(*self.NAMES, link=LINK, roles={name: "repeater" for name in self.NAMES[1:-1]})
        self.addCleanup(lab.close)
        for node in lab.nodes.values():
            node.start()
        for node in lab.nodes.values():
            node.wait_ready()
        request = subprocess.Popen([QNETCTL, "--socket", lab["a"].control_path, "request-pair", "c", "--number", "9000000",
                                    "--measure", "xz", "--quiet", "--timeout", "1000s"], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.addCleanup(request.stderr.close)
        self.addCleanup(request.wait)
        self.addCleanup(request.kill)
        eventually(lambda: lab["c"].metric("qnetd_pairs_delivered_total") > 100, what="pairs")
        return lab, request

    def test_all_at_once(self):
        """States in the middle of five nodes, all asked to stop: the last have nobody to hand them to, and do not wait."""
        for _ in range(3):
            lab, request = self.chain()
            for node in lab.nodes.values():
                node.signal(signal.SIGTERM)
            for node in lab.nodes.values():
                self.assertEqual(node.wait(), 0)
                self.assertNotIn("stop_timeout", node.log())
            self.assertIn("stopping", request.communicate(timeout=10)[1])

    def test_one_end(self):
        """Its neighbour hears it, tells the others, and what was asked for with it is answered at once."""
        lab, request = self.chain()
        self.assertEqual(lab["c"].stop(), 0)
        eventually(lambda: "is over: it has stopped" in lab["a"].log(), what="the news, four nodes away")
        self.assertIn("c", request.communicate(timeout=10)[1])
        self.assertNotEqual(request.returncode, 0)


if __name__ == "__main__":
    unittest.main()
