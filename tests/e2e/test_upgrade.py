# SPDX-License-Identifier: Apache-2.0
"""Two versions of the protocol in one network. QNETD_PREVIOUS names a daemon of the present code that speaks the version
before; the messages of that version themselves are in proto/released."""
import glob
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "support")]
import noise_peer  # noqa: E402
import protolite  # noqa: E402
from harness import Lab, eventually  # noqa: E402
from noise_peer import field, golden_bodies  # noqa: E402

BUILD = os.environ.get("QNETD_BUILD", "build")
QNETCTL = os.path.join(BUILD, "tools", "qnetctl", "qnetctl")
PREVIOUS = os.environ.get("QNETD_PREVIOUS", os.path.join(BUILD, "tests", "e2e", "qnetd-previous"))
RELEASED = os.path.join(HERE, "..", "..", "proto", "released")
IDEAL = "model: ideal, fidelity: 0.95, probability: 50%, length: 1km, attempt_time: 10us"


class Networks(unittest.TestCase):
    def lab(self, *old):
        lab = Lab("alice", "bob", "carol", roles={"bob": "repeater"}, link=IDEAL)
        self.addCleanup(lab.close)
        for node in lab.nodes.values():
            node.start(program=PREVIOUS if node.name in old else None)
        for node in lab.nodes.values():
            node.wait_ready()
        return lab

    def ctl(self, node, *words):
        done = subprocess.run([QNETCTL, "--socket", node.control_path, "--json", *words], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout)
        return json.loads(done.stdout.splitlines()[-1])

    def versions(self, node):
        """{peer: version}, as a user sees it."""
        nodes = self.ctl(node, "nodes")["nodes"]
        return {peer["name"]: peer["protocol"] for peer in nodes if peer.get("neighbour")}

    def works(self, lab):
        done = subprocess.run([QNETCTL, "--socket", lab["alice"].control_path, "--json", "request-pair", "carol", "--number", "200",
                               "--measure", "chsh", "--quiet", "--timeout", "5s"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_old_among_new_and_new_among_old(self):
        for old, middle in ((("bob",), {"alice": 1, "carol": 1}), (("alice", "carol"), {"alice": 1, "carol": 1}),
                            (("carol",), {"alice": 2, "carol": 1}), ((), {"alice": 2, "carol": 2})):
            with self.subTest(old=old):
                lab = self.lab(*old)
                self.assertEqual(self.versions(lab["bob"]), middle)
                self.works(lab)
                lab.close()

    def test_one_after_the_other(self):
        """The upgrade of a running network, and the way back."""
        lab = self.lab("alice", "bob", "carol")
        for program, version in ((None, 2), (PREVIOUS, 1)):
            for node in lab.nodes.values():
                self.assertEqual(node.stop(), 0)
                node.start(program=program)
                for other in lab.nodes.values():
                    other.wait_ready()
                self.works(lab)
            self.assertEqual(self.versions(lab["bob"]), {"alice": version, "carol": version})


class Messages(unittest.TestCase):
    """A peer that knows no messages but those of the version before."""
    # What it is sent nonetheless, and why that does no harm. An older node takes a body it does not know for none. It tells
    # the lives of a node apart by its ids alone: fields named so are left out here.
    IGNORED = {("Envelope", 60): "Downs: without a number in its channel; an older node finds out by itself who is gone",
               ("Envelope", 61): "Reach: likewise; an older node has its own routes",
               ("Envelope", 80): "KeyMessage: keys of a link to an older node stay without a partner, and expire"}

    def test_a_peer_of_the_version_before_is_sent_what_it_knows(self):
        version = max(int(name) for name in os.listdir(RELEASED))
        folder = os.path.join(RELEASED, str(version), "qnet", "v1")
        old = {"session_schema": protolite.Schema("session", folder=folder),
               "schema": protolite.Schema(*noise_peer.ENVELOPE_FILES, folder=folder)}

        said = protolite.Schema(*noise_peer.ENVELOPE_FILES, folder=folder)

        class OldPeer(noise_peer.Peer):
            session_schema, schema = old["session_schema"], old["schema"]

        with Lab("alice", "bob", "carol", link=IDEAL) as lab:
            bob = lab["bob"].start("--connection-rate", "0")
            lab["carol"].start()
            labels = '{peer="carol",plane="classical"}'
            eventually(lambda: bob.get("/livez")[0] == 200 and bob.metric("qnetd_session_up" + labels), what="bob and carol")
            with open(os.path.join(lab["alice"].state, "identity.key"), encoding="utf-8") as file:
                private = file.read()
            peer, n_heard, self.unknown = None, 0, set()
            for name, packed in golden_bodies(old["schema"]):
                said.unknown.clear()
                said.decode(said.messages["Envelope"][name][1], packed)
                if said.unknown:
                    continue  # It would not say so.
                if peer is None:
                    peer = OldPeer(bob.ports[0], private, lab.keys["bob"], versions=(version, version))
                    self.addCleanup(peer.close)
                    peer.open()
                channel = {"channel": 1} if name == "plane" else {}
                try:
                    peer.send_envelope(raw=field(old["schema"].messages["Envelope"][name][0], packed), **channel)
                    peer.ping()
                    n_heard += self.listen(peer, 0.01)
                except (noise_peer.Closed, OSError):
                    peer = None  # A new incarnation comes next, which is told what became of this one.
            peer = peer or OldPeer(bob.ports[0], private, lab.keys["bob"], versions=(version, version)).open()
            for i in range(10):  # And some that make sense.
                peer.send_envelope({"link_create": {"link": 0, "create_id": 100 + i, "type": 1 + i % 2, "number": 3, "request": 9}})
                peer.send_envelope({"circuit_setup": {"circuit": 1 + i, "path": [0, 1, 2], "links": [0, 1], "number": 2, "request": 8,
                                                      "lifetime_ns": 10**10, "measure": i % 2}})
                peer.send_envelope({"channel": 1, "plane": {"op": {"op": {"id": 7 + i, "kind": 1, "qubits": [1 << 48 | i], "times_ns": [1]}}}})
            n_heard += self.listen(peer, 2)  # Longer than it takes to be sent again.
            peer.close()
            print(f"# {n_heard} envelopes; of later versions: {sorted(self.unknown)}")
            self.assertGreater(n_heard, 20)
            names = {message: {n: name for name, (n, _, _) in fields.items()} for message, fields in noise_peer.ENVELOPE.messages.items()}
            self.unknown = {(message, n) for message, n in self.unknown if not names[message].get(n, "").endswith(("life", "lives"))}
            self.assertLessEqual(self.unknown, set(self.IGNORED), "what an older node is sent and does not know: is it harmless?")

    def listen(self, peer, seconds):
        n_heard, start = 0, time.monotonic()
        while (left := start + seconds - time.monotonic()) > 0 and select.select([peer.socket], [], [], left)[0]:
            kind, envelopes = peer.receive()
            self.unknown |= peer.schema.unknown | peer.session_schema.unknown
            n_heard += len(envelopes) if kind == "envelopes" else 0
        return n_heard


class Compatible(unittest.TestCase):
    """tests/support/compatible.py finds each kind of promise that is broken."""
    CHECK = os.path.join(HERE, "..", "support", "compatible.py")
    OLD = """
        syntax = "proto3"; package qnet.v1;
        message A { reserved 3; reserved "gone"; uint32 x = 1; repeated string y = 2; oneof z { B b = 4; bytes c = 5; } }
        message B { E e = 1; }
        enum E { E_UNSPECIFIED = 0; E_ONE = 1; E_TWO = 2; reserved 9; }"""

    def check(self, *changes):
        text = self.OLD
        for before, after in changes:
            self.assertIn(before, text)
            text = text.replace(before, after)
        with tempfile.TemporaryDirectory() as directory:
            for name, content in (("old", self.OLD), ("new", text)):
                os.makedirs(os.path.join(directory, name, "qnet", "v1"))
                with open(os.path.join(directory, name, "qnet", "v1", "x.proto"), "w", encoding="utf-8") as file:
                    file.write(content)
            return subprocess.run([sys.executable, self.CHECK, *(os.path.join(directory, name) for name in ("old", "new"))],
                                  stdout=subprocess.PIPE, text=True)

    def test_what_may_be_done(self):
        for changes in ([], [("uint32 x = 1;", "uint32 x = 1; fixed64 new = 77;")], [("bytes c = 5;", "bytes c = 5; B d = 6;")],
                        [("uint32 x = 1;", 'reserved 1; reserved "x";')], [("message B", "message N { } message B")],
                        [("E_TWO = 2;", "E_TWO = 2; E_NEW = 3;")], [("E_TWO = 2;", 'reserved 2; reserved "E_TWO";')]):
            done = self.check(*changes)
            self.assertEqual(done.returncode, 0, done.stdout)

    def test_what_may_not(self):
        for before, after in (("uint32 x", "uint64 x"), ("uint32 x", "uint32 renamed"), ("x = 1", "x = 7"), ("repeated string", "string"),
                              ("uint32 x = 1;", ""), ("uint32 x = 1;", "reserved 1;"), ("E_TWO = 2", "E_TWO = 5"), ("E_ONE", "E_EINS"),
                              ("bytes c = 5; }", "} bytes c = 5;"), ("B b = 4", "A b = 4"), ("reserved 3;", ""), ("reserved 9;", ""),
                              ("uint32 x", "string gone = 8; uint32 x") , ('reserved "gone";', ""), ("E_TWO = 2;", "")):
            changes = [(before, after)]
            if "gone = 8" in after:
                changes.insert(0, ('reserved "gone";', ""))
            done = self.check(*changes)
            self.assertEqual(done.returncode, 1, f"{before} -> {after}: {done.stdout}")

    def test_the_released_ones_are_complete(self):
        for folder in glob.glob(os.path.join(RELEASED, "*")):
            done = subprocess.run([sys.executable, self.CHECK, folder, folder], stdout=subprocess.PIPE, text=True)
            self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIsNotNone(shutil.which("protoc"))


if __name__ == "__main__":
    unittest.main()
