# SPDX-License-Identifier: Apache-2.0
"""qnetctl in talks with a node that answers by a script."""
import json
import os
import pty
import signal
import subprocess
import time
import unittest

from qnetctl_case import DENIED, QNETCTL, RUNTIME, TIMEOUT, UNHEALTHY, UNREACHABLE, USAGE, Case
from fake_node import CONTROL, FakeNode, HangUp  # In tests/support, which qnetctl_case has put on the path.

STATUS = {"node": "alice", "network": "net", "role": "memory", "software": "qnetd test", "ready": True, "time_scale": 1.0,
          "now_ns": 5_000_000_000, "incarnation": 0xABCDEF0123456789, "memories_used": 1, "memories_total": 4, "keys": 2,
          "key_bits": 512, "uptime_ns": 2_000_000_000,
          "peers": [{"name": "bob", "role": "memory", "classical_up": True, "quantum_up": False, "rtt_ns": 120_000, "neighbour": True}]}


class Talking(Case):
    """With a node that answers by a script."""

    def node(self, script, name="node.sock"):
        def with_status(kind, body):
            return [{"status": STATUS}] if kind == "status" and script.__name__ != "on_status" else script(kind, body)
        fake = FakeNode(os.path.join(self.directory, name), with_status)
        self.addCleanup(fake.close)
        self.environment["QNETCTL_SOCKET"] = fake.path
        return fake

    def asked(self, fake, kind):
        return [body for name, body in fake.asked if name == kind][-1]

    def test_status(self):
        self.node(lambda kind, body: [])
        out, _ = self.run_it()
        self.assertIn("alice is a memory of network net: ready", out)
        self.assertRegex(out, r"bob +memory +up +down")
        answer = self.json("status")
        self.assertEqual(answer["node"], "alice")
        self.assertEqual(answer["incarnation"], "0xabcdef0123456789")  # Too large for JSON's numbers.
        self.assertEqual(answer["peers"][0]["name"], "bob")
        for field in CONTROL.messages["StatusInfo"]:  # All, even when zero: programs need not guess.
            self.assertIn(field, answer)

    def test_request_pair(self):
        def script(kind, body):
            for i in range(body["number"]):
                yield {"pair": {"qubit": 0x2A + i, "peer": "bob", "fidelity": 0.9, "state": "usable"}}
            yield {"pair_summary": {"delivered": body["number"], "goodness": 0.9, "predicted": 0.91, "elapsed_ns": 10**9, "hops": 2}}
        fake = self.node(script)
        out, _ = self.run_it("request-pair", "bob", "--number", "2", "--min-fidelity", "80%", "--timeout", "10s", "--cutoff", "5ms",
                             "--tag", "7")
        self.assertIn("0x2a", out)
        self.assertIn("2 pairs over 2 link(s)", out)
        request = self.asked(fake, "pair")
        self.assertEqual(request, {"peer": "bob", "number": 2, "min_fidelity": 0.8, "timeout_ns": 10**10, "cutoff_ns": 5_000_000, "tag": 7})
        out, _ = self.run_it("request-pair", "bob", "--json")
        lines = [json.loads(line) for line in out.splitlines()]
        self.assertEqual([line["type"] for line in lines], ["pair", "summary"])
        self.assertEqual(lines[0]["qubit"], "0x2a")

    def test_measured_pairs(self):
        def sums(values):
            return [{"axis": a, "peer_axis": b, "trials": 100, "sum": s} for (a, b), s in values.items()]
        script_sums = {"xyz": {(0, 0): 90, (1, 1): -80, (2, 2): 100, (0, 1): 2},
                       "chsh": {(2, 3): 70, (2, 4): 70, (0, 3): 70, (0, 4): -70}}
        numbers = {value: key for key, value in {"z": 1, "xz": 2, "xyz": 3, "chsh": 4}.items()}

        def script(kind, body):
            yield {"pair_summary": {"delivered": 300, "sums": sums(script_sums[numbers[body["axes"]]]), "elapsed_ns": 1, "hops": 1}}
        fake = self.node(script)
        estimates = self.json("request-pair", "bob", "--number", "300", "--measure", "xyz", "--quiet")["estimates"]
        self.assertAlmostEqual(estimates["measured_fidelity"]["value"], (1 + 0.9 + 0.8 + 1) / 4)
        self.assertAlmostEqual(estimates["qber_x"]["value"], 0.05)
        self.assertEqual(estimates["qber_z"]["value"], 0)
        self.assertGreater(estimates["qber_z"]["standard_error"], 0)
        self.assertTrue(self.asked(fake, "pair")["measure"] and self.asked(fake, "pair")["quiet"])
        estimates = self.json("request-pair", "bob", "--measure", "chsh")["estimates"]
        self.assertAlmostEqual(estimates["chsh"]["value"], 2.8)
        self.assertIn("CHSH value S: 2.8", self.run_it("request-pair", "bob", "--measure", "chsh")[0])

    def test_teleport(self):
        fake = self.node(lambda kind, body: [{"teleport_summary": {
            "done": 30, "trials": [10, 10, 10], "sums": [10, 0, -2], "fidelity": 0.97, "standard_error": 0.01, "predicted": 0.96}}])
        pi = 3.141592653589793
        for state, theta, phi in (("z+", 0, 0), ("z-", pi, 0), ("x+", pi / 2, 0), ("x-", pi / 2, pi), ("y+", pi / 2, pi / 2),
                                  ("y-", pi / 2, 3 * pi / 2), ("1.5,0.25", 1.5, 0.25), ("pi/2,-90deg", pi / 2, -pi / 2), ("0.5pi,2pi/3", pi / 2, 2 * pi / 3)):
            self.run_it("teleport", "bob", f"--state={state}")
            request = self.asked(fake, "teleport")
            self.assertAlmostEqual(request.get("theta", 0), theta, msg=state)
            self.assertAlmostEqual(request.get("phi", 0), phi, msg=state)
        out, _ = self.run_it("teleport", "bob", "--state", "x+", "--number", "30", "--tomography")
        self.assertIn("measured fidelity: 0.9700 +- 0.0100", out)
        self.assertEqual(self.asked(fake, "teleport")["number"], 30)
        self.assertEqual(self.json("teleport", "bob")["sums"], [10, 0, -2])

    def test_bb84(self):
        def script(kind, body):
            yield {"bb84_block": {"block": 1, "pulses": 1000, "sifted": 400, "qber": 0.02, "secret": 256, "key_id": bytes(range(16))}}
            yield {"bb84_block": {"block": 2, "pulses": 1000, "sifted": 400, "qber": 0.12, "failed": "qber"}}
            yield {"bb84_summary": {"blocks": 2, "secret": 256, "sifted": 800, "qber": 0.07, "aborted": 1, "elapsed_ns": 10**9}}
        fake = self.node(script)
        out, _ = self.run_it("bb84", "bob", "--bits", "256", "--blocks", "2", "--qber-limit", "9%", "--block-pulses", "1000", "--method", "ldpc")
        self.assertIn("000102030405060708090a0b0c0d0e0f", out)
        self.assertIn("(1 without a key)", out)
        self.assertEqual(self.asked(fake, "bb84"), {"peer": "bob", "secret_bits": 256, "blocks": 2, "block_pulses": 1000, "qber_limit": 0.09,
                                                    "method": 10})
        lines = [json.loads(line) for line in self.run_it("bb84", "bob", "-j")[0].splitlines()]
        self.assertEqual([line["type"] for line in lines], ["block", "block", "summary"])
        self.assertEqual(self.asked(fake, "bb84")["blocks"], 1)

    def test_gate(self):
        fake = self.node(lambda kind, body: [{"gate": {"outcomes": [1, 2], "qubits": [0x77]}}])
        steps = [{"kind": 4, "qubits": [1]}, {"kind": 11, "qubits": [1, 2]}, {"kind": 20, "qubits": [1], "args": [1, 0, 0]},
                 {"kind": 21, "qubits": [3, 4]}, {}]
        for words in (["h 1", "cnot 1 2", "measure 1 x", "bell 3 4", "prepare"], ["h", "1,", "cnot", "1", "0x2,", "measure", "1", "x", ",", "bell", "3", "4,", "prepare"],
                      ["h 1, cnot 1 2, measure 1 x, bell 3 4, prepare"]):
            out, _ = self.run_it("gate", *words)
            self.assertEqual(self.asked(fake, "gate")["steps"], steps, words)
            self.assertEqual(out, "measure 0x1: 1 (against the axis)\nbell 0x3 0x4: 2 (Psi+)\nprepare: qubit 0x77\n")
        answer = self.json("gate", "measure 1", "prepare", "bell 3 4")
        self.assertEqual([step.get("outcome", step.get("qubit")) for step in answer["steps"]], [1, "0x77", 2])
        self.run_it("gate", "rz 1 90deg", "rot 1 -y 0.5", "project 1")
        rz, rot, project = self.asked(fake, "gate")["steps"]
        self.assertEqual((rz["kind"], rz["args"][:3], rot["args"], project["args"]), (10, [0, 0, 1], [0, -1, 0, 0.5], [0, 0, 1]))
        self.assertAlmostEqual(rz["args"][3], 1.5707963267948966)

    def test_lists(self):
        rows = {1: {"peer": {"name": "bob", "role": "memory", "neighbour": True}}, 3: {"pair": {"qubit": 2**63 + 1, "peer": "bob", "link": "l"}},
                2: {"link": {"name": "l", "kind": "entanglement", "a": "alice", "b": "bob", "up": True, "qber": -1.0, "cut_quantum": True, "extra_delay_ns": 2_000_000}},
                4: {"key": {"id": b"\xab" * 16, "peer": "bob", "bits": 256, "check": b"\x01" * 8}}}
        self.node(lambda kind, body: [rows[body["kind"]], {}])
        self.assertIn("bob", self.run_it("nodes")[0])
        self.assertIn("0x8000000000000001", self.run_it("pairs")[0])
        self.assertRegex(self.run_it("links")[0], r"l +entanglement +alice-bob +up .* quantum cut, \+2.00 ms")
        self.assertIn("ab" * 16, self.run_it("keys")[0])
        self.assertEqual(self.json("pairs")["pairs"][0]["qubit"], "0x8000000000000001")
        self.assertEqual(self.json("keys")["keys"][0]["id"], "ab" * 16)
        self.assertEqual(self.json("links")["links"][0]["qber"], -1.0)

    def test_empty_lists(self):
        self.node(lambda kind, body: [{}])
        self.assertIn("no pairs", self.run_it("pairs")[0])
        self.assertEqual(self.json("keys"), {"keys": []})

    def test_take_key(self):
        fake = self.node(lambda kind, body: [{"key": {"id": body["key_id"], "material": b"\xde\xad"}}])
        self.assertEqual(self.run_it("keys", "take", "AB-cd")[0], "dead\n")
        self.assertEqual(self.asked(fake, "key_take")["key_id"], b"\xab\xcd")

    def test_faults(self):
        fake = self.node(lambda kind, body: [{}])
        kinds = CONTROL.enums
        for arguments, expected in ((["cut", "l"], [("CUT_QUANTUM", 0), ("CUT_CLASSICAL", 0)]), (["cut", "l", "--plane", "quantum"], [("CUT_QUANTUM", 0)]),
                                    (["restore", "l", "--plane", "classical"], [("RESTORE_CLASSICAL", 0)]), (["delay", "l", "200ms"], [("DELAY", 2e8)]),
                                    (["eve", "l", "50%"], [("EVE", 0.5)]), (["clear", "l"], [("CLEAR", 0)])):
            fake.asked.clear()
            self.run_it("fault", *arguments)
            self.assertEqual([(body["link"], body["kind"], body.get("value", 0)) for _, body in fake.asked],
                             [("l", kinds["FAULT_KIND_" + name], value) for name, value in expected])

    def test_wait(self):
        fake = self.node(lambda kind, body: [{}])
        for given, sent in (("ready", "ready"), ("peer=bob", "peer bob up"), ("peer=bob:down", "peer bob down"), ("pairs=3", "pairs 3"), ("keys=10", "keys 10")):
            self.run_it("wait", "--for", given, "--timeout", "2s")
            self.assertEqual(self.asked(fake, "wait"), {"condition": sent, "timeout_ns": 2 * 10**9})

    def test_discard(self):
        fake = self.node(lambda kind, body: [{}])
        self.run_it("discard", "0x10", "17")
        self.assertEqual([body for name, body in fake.asked if name == "discard"], [{"pair": 16}, {"pair": 17}])
        self.run_it("discard", "--all")
        self.assertEqual(self.asked(fake, "discard"), {"all": True})

    def test_inspect(self):
        bell = [1.0] + [0.0] * 15
        bell[5], bell[10], bell[15] = 1.0, -1.0, 1.0
        self.node(lambda kind, body: [{"inspect": {"tensor": bell if "other" in body else [1.0, 0.0, 0.0, 1.0], "host": 1}}])
        self.assertIn("Phi+ 1.000000", self.run_it("inspect", "1", "2")[0])
        self.assertEqual(self.json("inspect", "1", "2")["fidelity"]["phi+"], 1.0)
        self.assertIn("+1.000000), length 1.000000", self.run_it("inspect", "1")[0])

    def test_health(self):
        status = dict(STATUS)

        def on_status(kind, body):
            return [{"status": status}]
        self.node(on_status)
        self.assertEqual(self.run_it("health", "--quiet"), ("", ""))
        self.assertTrue(self.json("health")["healthy"])
        status.update(ready=False, not_ready_because="bob is down")
        self.assertIn("bob is down", self.run_it("health", expect=UNHEALTHY)[0])
        self.assertEqual(self.run_it("health", "-q", expect=UNHEALTHY), ("", ""))
        self.assertEqual(self.json("health", expect=UNHEALTHY)["nodes"][0]["because"], "bob is down")

    def test_events(self):
        fake = self.node(lambda kind, body: [{"event": {"t_ns": 1_500_000_000 + i, "node": "alice", "code": "herald", "subject": "l", "text": "pair", "level": 1}}
                                             for i in range(3)] + [{}])
        lines = self.run_it("events", "--backlog", "3")[0].splitlines()
        self.assertEqual(len(lines), 3)
        self.assertRegex(lines[0], r"^ +1\.500000  alice +o herald +l +pair$")
        self.assertEqual(self.asked(fake, "events"), {"backlog": 3})
        out = self.run_it("events", "--json")[0].splitlines()
        self.assertEqual(json.loads(out[2])["t_ns"], 1_500_000_002)

    def test_following_events(self):
        def script(kind, body):
            for i in range(1000):
                yield {"event": {"t_ns": i, "node": "alice", "code": "tick"}}
                time.sleep(0.05)
        self.node(script)
        process = subprocess.Popen([QNETCTL, "events", "--follow", "--json"], stdout=subprocess.PIPE, env=self.environment)
        self.assertEqual([json.loads(process.stdout.readline())["t_ns"] for _ in range(5)], list(range(5)))
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(timeout=5), -signal.SIGINT)  # What a shell calls 130.
        process.stdout.close()
        self.run_it("events", "--follow", "--timeout", "300ms")

    def test_version_of_a_node(self):
        fake = self.node(lambda kind, body: [{"version": {"software": "qnetd 9", "build": "abc", "protocol_min": 1, "protocol_max": 2}}])
        self.assertIn("qnetd 9 (abc), protocol 1 to 2", self.run_it("version", "--socket", fake.path)[0])

    def test_error_answers_have_their_exit_status(self):
        codes = {"no_route": (11, RUNTIME), "timeout": (14, TIMEOUT), "auth": (6, DENIED), "unknown_node": (9, USAGE), "inval": (2, USAGE),
                 "unknown_link": (10, USAGE), "qber": (20, UNHEALTHY), "peer_down": (12, RUNTIME), "brand_new": (4000, RUNTIME)}
        for code, (number, status) in codes.items():
            with self.subTest(code):
                self.environment.pop("QNETCTL_SOCKET", None)
                fake = self.node(lambda kind, body: [{"error": {"code": code, "number": number, "message": f"what {code}; do this"}}], f"{code}.sock")
                self.assertIn(f"what {code}; do this", self.refused("teleport", "bob", expect=status))
                error = self.json("teleport", "bob", expect=status)["error"]
                self.assertEqual((error["code"], error["number"], error["exit_status"]), (code, number, status))
                fake.close()

    def test_hostile_text_does_not_reach_the_terminal(self):
        self.node(lambda kind, body: [{"error": {"code": "x", "number": 3, "message": "\033[2Jgone\r\n; run"}}])
        self.assertNotIn("\033", self.refused("teleport", "bob", expect=RUNTIME))
        self.node(lambda kind, body: [{"event": {"node": "a\033[2J", "text": "b\nc\rd", "code": "\007"}}, {}], "other.sock")
        out = self.run_it("events")[0]
        self.assertNotRegex(out, r"[\x00-\x09\x0b-\x1f]")
        self.assertEqual(out.count("\n"), 1)

    def test_silence_and_hanging_up(self):
        def silent(kind, body):
            time.sleep(30)
            return []

        def hang_up(kind, body):
            raise HangUp
        self.node(silent)
        started = time.monotonic()
        self.assertIn("no answer in time", self.refused("links", "--timeout", "200ms", expect=TIMEOUT))
        self.assertLess(time.monotonic() - started, 5)
        self.node(hang_up, "second.sock")
        self.assertIn("closed the connection", self.refused("links", expect=UNREACHABLE))
        self.assertIn("closed the connection", self.refused("teleport", "bob", expect=UNREACHABLE))

    def test_hanging_up_in_the_middle(self):
        def script(kind, body):
            yield {"pair": {"qubit": 1, "peer": "bob"}}
            yield {"pair": {"qubit": 2, "peer": "bob"}}
            raise HangUp
        self.node(script)
        _, err = self.run_it("request-pair", "bob", "--number", "9", expect=UNREACHABLE)
        self.assertIn("closed the connection", err)

    def test_answers_of_strangers(self):
        for rubbish in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff\xff\xff\xff", b"\x00\x00\x00\x03\xff\xff\xff", b"\x00\x00\x00\x02\x08"):
            with self.subTest(rubbish):
                def script(kind, body):
                    yield rubbish
                    yield b""
                    raise HangUp
                fake = self.node(script, f"{rubbish.hex()[:8]}.sock")
                self.run_it("links", expect=UNREACHABLE if rubbish[-1:] == b"\x08" else RUNTIME)
                fake.close()

    def test_sockets_nobody_answers(self):
        self.refused("status", "--socket", os.path.join(self.directory, "absent.sock"), expect=UNREACHABLE)
        self.refused("status", "--socket", self.file("plain", ""), expect=UNREACHABLE)
        self.refused("status", "--socket", "/" + "x" * 200, expect=UNREACHABLE)
        if os.geteuid() != 0:
            fake = self.node(lambda kind, body: [])
            os.chmod(fake.path, 0)
            self.refused("status", expect=DENIED)

    def test_large_answers(self):
        def script(kind, body):
            for i in range(20000):
                yield {"pair": {"qubit": i + 1, "peer": "bob", "link": "x" * 50}}
            yield {}
        self.node(script)
        self.assertEqual(len(self.json("pairs")["pairs"]), 20000)

    def test_colours_and_progress_only_on_a_terminal(self):
        def script(kind, body):
            time.sleep(0.2)
            yield {"pair_summary": {"delivered": 1}}
        self.node(script)
        out, err = self.run_it("status")
        self.assertNotIn("\033", out + err)
        for environment, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
            text = self.on_terminal("status", **environment)
            self.assertEqual("\033[32m" in text, coloured, environment)
        self.assertIn("waiting for 1 pairs", self.on_terminal("request-pair", "bob"))

    def on_terminal(self, *arguments, **environment):
        try:
            master, slave = pty.openpty()
        except OSError as error:
            self.skipTest(f"no pseudo-terminal to be had here: {error}")
        process = subprocess.Popen([QNETCTL, *arguments], stdin=slave, stdout=slave, stderr=slave,
                                   env={**self.environment, "TERM": "xterm", **environment})
        os.close(slave)
        text = b""
        while True:
            try:
                more = os.read(master, 4096)
            except OSError:
                break
            if not more:
                break
            text += more
        os.close(master)
        process.wait(timeout=10)
        return text.decode()


if __name__ == "__main__":
    unittest.main()
