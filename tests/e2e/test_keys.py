# SPDX-License-Identifier: Apache-2.0
"""The key store of real processes: kill -9 at any time, files that are not ours, a full disk.

QNETD_KEY_KILLS says how often a process is killed."""
import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import threading
import time
import unittest

from harness import CONTROL, QNETD, Lab, eventually, free_ports


class Pair(Lab):
    """A laser and a detector."""

    def __init__(self):
        super().__init__("laser", "bob")
        self["laser"].start()
        self["bob"].start()

    def text(self, time_scale=1, roles=None):
        text = super().text(time_scale, {"laser": "source", "bob": "detector"})
        text = text.replace("role: source", "role: source\n    source: single-photon\n    clock: 100MHz")
        return text.replace("role: detector", "role: detector\n    efficiency: 80%").replace(
            "length: 1km", "length: 1km, misalignment: 1%")


def ask(node, request, timeout=10):
    """All answers to one request."""
    with node.control(timeout) as control:
        control.send({"id": 1, **request})
        while True:
            answer = control.receive()
            yield answer
            if not answer.get("more"):
                return


def keys_of(node):
    """id -> state of the keys that users may have."""
    found = {}
    for answer in ask(node, {"list": {"kind": CONTROL.enums["LIST_KIND_KEYS"]}}):
        if "key" in answer:
            found[answer["key"]["id"]] = answer["key"]["state"]
    return found


def make_keys(node, blocks, pulses=300000):
    """Yields ids as they are reported."""
    for answer in ask(node, {"bb84": {"peer": "bob", "blocks": blocks, "block_pulses": pulses}}, timeout=30):
        block = answer.get("bb84_block", {})
        if block.get("key_id") and not block.get("failed"):
            yield block["key_id"]


def take(node, key):
    """The material; raises KeyError if it is refused."""
    for answer in ask(node, {"key_take": {"key_id": key}}):
        if "key" in answer:
            return answer["key"]["material"]
        raise KeyError(answer["error"]["code"])


class Maker(threading.Thread):
    """Asks for keys without end, whatever happens to the nodes; what is acknowledged counts."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self.node, self.acknowledged, self.stopping = node, [], False

    def run(self):
        while not self.stopping:
            try:
                for key in make_keys(self.node, 50):
                    self.acknowledged.append(key)
                    if self.stopping:
                        return
            except (OSError, EOFError):
                time.sleep(0.01)  # The node is down, or the session ended: another try, until it is not.


class Crashes(unittest.TestCase):
    limit_s = 600

    def test_no_kill_loses_a_key_or_serves_it_twice(self):
        kills, seed = int(os.environ.get("QNETD_KEY_KILLS", "300")), random.randrange(1 << 32)
        print(f"# seed {seed}, {kills} kills")
        rng = random.Random(seed)
        with Pair() as lab:
            nodes = [lab["laser"], lab["bob"]]
            for node in nodes:
                node.wait_ready()
            maker = Maker(nodes[0])
            maker.start()
            eventually(lambda: maker.acknowledged, 20, "a first key")
            asked, served = [set(), set()], [{}, {}]
            for _ in range(kills):
                end, before = rng.randrange(2), len(maker.acknowledged)
                if rng.random() < 0.7:  # Else it may hit while they find each other again.
                    eventually(lambda: len(maker.acknowledged) > before, 20, "another key")
                killer = threading.Timer(rng.random() * 0.1, nodes[end].kill)
                killer.start()
                known = maker.acknowledged[-20:]
                if known:
                    self.try_to_take(nodes, rng.randrange(2), rng.choice(known), asked, served)
                killer.join()
                nodes[end].start()
                eventually(lambda: os.path.exists(nodes[end].control_path), 10, "its control socket")
            for node in nodes:
                node.wait_ready()
            maker.stopping = True
            maker.join(40)
            self.assertFalse(maker.is_alive())
            self.check(nodes, maker.acknowledged, asked, served)
            print(f"# {len(maker.acknowledged)} keys acknowledged, {sum(map(len, served))} served, "
                  f"{len(asked[0]) + len(asked[1]) - sum(map(len, served))} asked for without an answer")

    def try_to_take(self, nodes, end, key, asked, served):
        asked[end].add(key)
        with contextlib.suppress(OSError, EOFError, KeyError):
            material = take(nodes[end], key)
            self.assertNotIn(key, served[end], "served twice")
            served[end][key] = material
            if key in served[1 - end]:
                self.assertEqual(material, served[1 - end][key])

    def check(self, nodes, acknowledged, asked, served):
        def settled():
            return all(state == "ready" for node in nodes for state in keys_of(node).values())

        eventually(settled, 20, "every key ready")
        held = [keys_of(node) for node in nodes]
        for key in acknowledged:
            for end in range(2):
                if key not in asked[end]:
                    self.assertIn(key, held[end], f"an acknowledged key is lost at {nodes[end].name}")
        for end in range(2):
            for key in held[end]:
                self.assertTrue(key in held[1 - end] or key in asked[1 - end], "a key is at one end only")
            for key in served[end]:
                with self.assertRaises(KeyError, msg="served twice"):
                    take(nodes[end], key)
        both = [key for key in acknowledged if key in held[0] and key in held[1]][:20]
        for key in both:
            self.assertEqual(take(nodes[0], key), take(nodes[1], key))
        for node in nodes:
            node.stop()
            with contextlib.closing(sqlite3.connect(os.path.join(node.state, "keys.db"))) as db:
                self.assertEqual(db.execute("PRAGMA integrity_check").fetchone()[0], "ok")


class Files(unittest.TestCase):
    def setUp(self):
        self.lab = Lab("alice", "bob")
        self.addCleanup(self.lab.close)
        self.alice = self.lab["alice"]
        self.path = os.path.join(self.alice.state, "keys.db")

    def refused(self, *words):
        before = self.content()
        self.alice.start()
        self.assertEqual(self.alice.wait(), 1)
        last = self.alice.log().splitlines()[-3:]
        self.assertTrue(any(all(word in line for word in ("store_refused", *words)) for line in last), last)
        self.assertEqual(self.content(), before, "it is left as it is")

    def content(self):
        with open(self.path, "rb") as file:
            return file.read()

    def test_a_file_that_is_no_database_is_refused(self):
        with open(self.path, "wb") as file:
            file.write(b"precious notes, not a database\n" * 100)
        self.refused("no SQLite file", "move it away")

    def test_a_database_of_something_else_is_refused(self):
        with contextlib.closing(sqlite3.connect(self.path)) as db:
            db.execute("CREATE TABLE addresses(name)")
            db.commit()
        self.refused("not a key store of qnetd")

    def test_the_store_of_another_node_is_refused(self):
        self.alice.start()
        eventually(lambda: os.path.exists(self.alice.control_path), 10, "started")
        self.alice.stop()
        bob = self.lab["bob"]
        shutil.move(self.path, os.path.join(bob.state, "keys.db"))
        bob.start()
        self.assertEqual(bob.wait(), 1)
        self.assertIn("it belongs to node alice, not to bob", bob.log())

    def test_a_newer_or_damaged_store_is_refused(self):
        self.alice.start()
        eventually(lambda: os.path.exists(self.alice.control_path), 10, "started")
        self.alice.stop()
        with contextlib.closing(sqlite3.connect(self.path)) as db:
            db.execute("PRAGMA user_version=99")
        self.refused("a newer qnetd wrote it")
        with contextlib.closing(sqlite3.connect(self.path)) as db:
            db.execute("PRAGMA user_version=1")
        with open(self.path, "r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * 4096)
        self.refused("store_refused")

    def test_two_processes_do_not_share_one(self):
        self.alice.start()
        eventually(lambda: os.path.exists(self.alice.control_path), 10, "started")
        other_ports = os.path.join(self.lab.directory, "other.yaml")
        with open(self.lab.topology, encoding="utf-8") as file, open(other_ports, "w", encoding="utf-8") as copy:
            text = file.read()
            for old, new in zip(self.alice.ports, free_ports(3)):
                text = text.replace(f":{old}\n", f":{new}\n")
            copy.write(text)
        other = subprocess.run([QNETD, "--topology", other_ports, "--node", "alice", "--state", self.alice.state,
                                "--control", os.path.join(self.lab.directory, "other.sock")],
                               capture_output=True, text=True, timeout=20, check=False)
        self.assertEqual(other.returncode, 1)
        self.assertIn("another process uses it", other.stderr + other.stdout)


class FullDisk(unittest.TestCase):
    def test_nothing_is_acknowledged_until_there_is_room_again(self):
        with Pair() as lab:
            bob = lab["bob"]
            for node in lab.nodes.values():
                node.wait_ready()
            self.assertEqual(len(list(make_keys(lab["laser"], 1))), 1)
            bob.stop()
            small = os.path.join(lab.directory, "small")
            os.mkdir(small)
            mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], capture_output=True, text=True, check=False)
            if mount.returncode != 0:
                self.skipTest(f"no file system can be mounted here: {mount.stderr.strip()}")
            try:
                shutil.copytree(bob.state, os.path.join(small, "state"), ignore=shutil.ignore_patterns("*.sock"))
                bob.state = os.path.join(small, "state")
                bob.control_path = os.path.join(bob.state, "control.sock")
                bob.start()
                bob.wait_ready()
                self.fill_and_free(lab, bob, os.path.join(small, "ballast"))
            finally:
                bob.kill()
                subprocess.run(["umount", small], check=True)

    def fill_and_free(self, lab, bob, ballast):
        with open(ballast, "wb", buffering=0) as file:
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
        before = keys_of(bob)
        made = list(make_keys(lab["laser"], 3))
        eventually(lambda: bob.get("/readyz")[0] == 503, 10, "bob not ready")
        self.assertIn("key store cannot be written", bob.get("/readyz?verbose")[1])
        self.assertEqual(made, [], "acknowledged, but not durable")
        with self.assertRaises(KeyError) as refused:
            take(bob, next(iter(before)))
        self.assertEqual(refused.exception.args[0], "store")
        os.unlink(ballast)
        bob.wait_ready()
        made = list(make_keys(lab["laser"], 1))
        self.assertEqual(len(made), 1)
        self.assertEqual(take(bob, made[0]), take(lab["laser"], made[0]))
        self.assertEqual(take(bob, next(iter(before))), take(lab["laser"], next(iter(before))), "nothing is lost")


class Secrets(unittest.TestCase):
    def setUp(self):
        self.lab = Lab("alice", "bob")
        self.addCleanup(self.lab.close)
        self.directory = os.path.join(self.lab["alice"].state, "initial")
        os.mkdir(self.directory, 0o700)

    def refused(self, name, data, mode, word):
        path = os.path.join(self.directory, name)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, mode), "wb") as file:
            file.write(data)
        alice = self.lab["alice"].start()
        self.assertEqual(alice.wait(), 2)
        self.assertIn(word, alice.log().splitlines()[-1])
        os.unlink(path)

    def test_bad_ones_are_refused(self):
        self.refused("bob", bytes(100), 0o644, "chmod 600")
        self.refused("bob", bytes(47), 0o600, "48 bytes")
        self.refused("bob", bytes(300000), 0o600, "256 KiB")
        self.refused("nobody", bytes(100), 0o600, "no other node of this name")
        self.refused("alice", bytes(100), 0o600, "no other node of this name")


if __name__ == "__main__":
    unittest.main(verbosity=2)
