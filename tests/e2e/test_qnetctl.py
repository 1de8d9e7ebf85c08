# SPDX-License-Identifier: Apache-2.0
"""qnetctl from the outside: command lines, offline commands, talks with a node that answers by a script, labs of such nodes,
and labs of real ones. QNETD_BUILD names the build directory."""
import base64
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SUPPORT = os.path.join(ROOT, "tests", "support")
sys.path.insert(0, SUPPORT)
from fake_node import CONTROL, FakeNode, HangUp  # noqa: E402

BUILD = os.path.join(ROOT, os.environ.get("QNETD_BUILD", "build"))
QNETCTL = os.path.join(BUILD, "tools", "qnetctl", "qnetctl")
QNETD = os.path.join(BUILD, "daemon", "qnetd")
FAKE_QNETD = os.path.join(SUPPORT, "fake_node.py")

OK, RUNTIME, USAGE, UNREACHABLE, UNHEALTHY, TIMEOUT, DENIED = range(7)

THREE = """
version: 1
network: three
nodes:
  alice: {role: memory}
  rep: {role: repeater}
  bob: {role: memory}
links:
  ar: {between: [alice, rep], length: 5km}
  rb: {between: [rep, bob], length: 5km}
"""
KEYS = """
version: 1
network: keys
nodes:
  src: {role: source}
  det: {role: detector}
links:
  fibre: {between: [src, det], length: 5km}
"""


class Case(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="qc")
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(("QNETCTL_", "FAKE_"))}
        self.environment.update(XDG_RUNTIME_DIR=self.directory, LC_ALL="C")
        self.environment.pop("NO_COLOR", None)

    def run_it(self, *arguments, expect=OK, stdin=b"", **environment):
        result = subprocess.run([QNETCTL, *arguments], input=stdin, capture_output=True, timeout=90,
                                env={**self.environment, **environment})
        out, err = result.stdout.decode(), result.stderr.decode()
        self.assertEqual(result.returncode, expect, f"{arguments}\n{out}\n{err}")
        return out, err

    def json(self, *arguments, expect=OK, **options):
        out, _ = self.run_it(*arguments, "--json", expect=expect, **options)
        lines = [json.loads(line) for line in out.splitlines()]
        self.assertEqual(len(lines), 1, out)
        return lines[0]

    def refused(self, *arguments, expect=USAGE, **options):
        """The error: one line, that says what to do after a semicolon."""
        out, err = self.run_it(*arguments, expect=expect, **options)
        line = err.splitlines()[-1]
        self.assertRegex(line, r"^qnetctl: error: .*[;?]")
        self.assertEqual(out, "")
        return line

    def file(self, name, text):
        path = os.path.join(self.directory, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path


class CommandLine(Case):
    def test_wrong_words_get_the_nearest_valid_one(self):
        for arguments, near in ((["stauts"], "status"), (["lab", "upp"], "lab up"), (["lab", "dwon"], "lab down"),
                                (["telport", "bob"], "teleport"), (["fault", "cutt", "x"], "fault cut"),
                                (["help", "teleprot"], "teleport"), (["keys", "tkae", "1"], "keys take"),
                                (["teleport", "bob", "--nubmer", "3"], "--number"), (["--jsno"], "--json"),
                                (["errors", "lookup", "no_rout"], "no_route"), (["gate", "cnto 1 2"], "cnot")):
            self.assertIn(f"did you mean \"{near}\"?", self.refused(*arguments))

    def test_nothing_near_is_no_guess(self):
        line = self.refused("xylophone")
        self.assertNotIn("did you mean", line)
        self.assertIn("qnetctl help", line)

    def test_families_list_their_members(self):
        self.assertIn("up, down, status", self.refused("lab"))
        self.assertIn("cut, restore, delay, eve, attack, clear", self.refused("fault"))

    def test_usage_errors(self):
        for arguments in (["request-pair"], ["request-pair", "a", "b"], ["lab", "up"], ["status", "extra"], ["wait"],
                          ["wait", "--for", "rain"], ["wait", "--for", "pairs=x"], ["wait", "--for", "peer=a:sideways"],
                          ["events", "--backlog", "many"], ["request-pair", "b", "--number", "0"],
                          ["request-pair", "b", "--number", "-1"], ["request-pair", "b", "--number", "1e3"],
                          ["request-pair", "b", "--measure", "w"], ["request-pair", "b", "--timeout", "10"],
                          ["request-pair", "b", "--timeout", "0s"], ["request-pair", "b", "--min-fidelity", "1.5"],
                          ["teleport", "b", "--state", "up"], ["teleport", "b", "--state", ""],
                          ["teleport", "b", "--state", "0x1,2"], ["bb84", "b", "--qber-limit", "110%"],
                          ["gate"], ["gate", "h"], ["gate", "h 0"], ["gate", "h bob"], ["gate", "cnot 1"], ["gate", "measure 1 w"],
                          ["gate", "h 1 2"], ["gate", "rx 1"], ["gate", "rx 1 round"], ["discard"], ["discard", "1", "--all"],
                          ["inspect", "x"], ["keys", "take", "xyz"], ["keys", "take", "abc"], ["fault", "delay", "l"],
                          ["fault", "delay", "l", "soon"], ["fault", "eve", "l", "2"], ["fault", "cut", "l", "--plane", "left"],
                          ["topology", "export", "--format", "png"], ["completion", "tcsh"], ["errors", "lookup", "999"],
                          ["status", "--json=yes"], ["status", "--node"], ["topology", "export"], ["lab", "up", "f", "--name"]):
            self.refused(*arguments)

    def test_values_say_what_is_valid(self):
        self.assertIn("such as 10ms", self.refused("request-pair", "b", "--timeout", "10"))
        self.assertIn("z|xz|xyz|chsh", self.refused("request-pair", "b", "--measure", "zz"))
        self.assertIn("from 1 to 10000000", self.refused("request-pair", "b", "--number", "x"))

    def test_errors_are_json_too(self):
        for arguments in (["stauts", "--json"], ["-j", "stauts"]):
            out, _ = self.run_it(*arguments, expect=USAGE)
            error = json.loads(out)["error"]
            self.assertEqual(error["code"], "usage")
            self.assertEqual(error["exit_status"], USAGE)
            self.assertIn("status", error["message"])

    def test_options_may_stand_anywhere(self):
        for arguments in (["--node", "n", "--socket", "s", "status"], ["status", "-n", "n", "-s", "s"], ["-nn", "status", "--socket=s"]):
            self.assertIn("--socket names one node", self.refused(*arguments))

    def test_after_two_dashes_all_are_operands(self):
        self.assertIn("unknown error \"--json\"", self.refused("errors", "lookup", "--", "--json"))

    def test_output_that_cannot_be_written(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            result = subprocess.run([QNETCTL, "errors"], stdout=full, stderr=subprocess.PIPE, env=self.environment, timeout=10)
        self.assertEqual(result.returncode, RUNTIME)

    def test_no_node_anywhere(self):
        for arguments in ([], ["status"], ["links"], ["-n", "alice", "status"], ["request-pair", "bob"], ["health"]):
            if os.path.isdir("/run/qnetd"):
                self.skipTest("this machine runs qnetd as a service")
            line = self.refused(*arguments, expect=UNREACHABLE)
            self.assertIn("lab up", line)


class Generated(Case):
    """Help, manual page and completions, which one table makes."""

    def commands(self):
        lines = self.run_it("help")[0].split("COMMANDS\n")[1].split("\n\n")[0].splitlines()
        return [line[2:19].strip() for line in lines]

    def test_help_of_every_command(self):
        names = self.commands()
        self.assertGreaterEqual(len(names), 30)
        for name in names:
            text = self.run_it("help", *name.split())[0]
            self.assertIn(f"qnetctl {name}", text)
            self.assertEqual(text, self.run_it(*name.split(), "--help")[0] if name not in ("keys", "errors") else text)
            self.assertNotIn("\033", text)
            self.assertLessEqual(max(map(len, text.splitlines()[1:])), 100, name)

    def test_help_for_programs(self):
        everything = self.json("help")
        self.assertEqual([command["name"] for command in everything["commands"]], self.commands())
        self.assertEqual([command["name"] for command in self.json("help", "fault")["commands"]],
                         ["fault cut", "fault restore", "fault delay", "fault eve", "fault attack", "fault clear"])
        (pair,) = self.json("help", "request-pair")["commands"]
        self.assertEqual(pair["operands"][0]["kind"], "node")
        self.assertIn({"name": "measure", "kind": "choice", "value": None, "choices": "z|xz|xyz|chsh",
                       "help": "Measure at both ends instead of keeping."}, pair["options"])

    def test_man_has_every_command_and_no_roff_errors(self):
        page = self.run_it("man")[0]
        for name in self.commands():
            self.assertIn(f".SS \"{name}\"", page)
        if shutil.which("groff"):
            result = subprocess.run(["groff", "-man", "-ww", "-Tutf8"], input=page.encode(), capture_output=True, check=True)
            self.assertEqual(result.stderr, b"")

    def test_shells_can_read_the_completions(self):
        for shell, check in (("bash", ["bash", "-n"]), ("zsh", ["zsh", "-n"]), ("fish", ["fish", "--no-execute"])):
            text = self.run_it("completion", shell)[0]
            for word in ("teleport", "min-fidelity", "chsh", "topology"):
                self.assertIn(word, text, shell)
            if shutil.which(check[0]):
                path = self.file(f"completion.{shell}", text)
                result = subprocess.run(check + [path], capture_output=True)
                self.assertEqual((result.returncode, result.stderr), (0, b""), shell)

    def complete(self, *words):
        """What bash offers for the last of the words."""
        path = self.file("completion.bash", self.run_it("completion", "bash")[0])
        quoted = " ".join(f"'{word}'" for word in words)
        script = f"source {path}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _qnetctl; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        environment = {**self.environment, "PATH": os.path.dirname(QNETCTL) + ":" + os.environ["PATH"]}
        result = subprocess.run(["bash", "-c", script], capture_output=True, env=environment, timeout=20)
        self.assertEqual(result.stderr, b"")
        return result.stdout.decode().split()

    def test_bash_completes(self):
        self.assertEqual(self.complete("qnetctl", "tele"), ["teleport"])
        self.assertEqual(self.complete("qnetctl", "lab", "s"), ["status", "start", "share"])
        self.assertEqual(self.complete("qnetctl", "--json", "lab", "u"), ["up"])
        self.assertEqual(self.complete("qnetctl", "request-pair", "bob", "--measure", "x"), ["xz", "xyz"])
        self.assertEqual(self.complete("qnetctl", "request-pair", "bob", "--cu"), ["--cutoff"])
        self.assertEqual(self.complete("qnetctl", "fault", "cut", "l", "--plane", "q"), ["quantum"])
        self.assertEqual(self.complete("qnetctl", "completion", "z"), ["zsh"])
        self.assertNotIn("complete", self.complete("qnetctl", "compl"))


class Offline(Case):
    def test_version(self):
        self.assertRegex(self.run_it("version")[0], r"^qnetctl \d")
        self.assertEqual(self.run_it("--version")[0], self.run_it("version")[0])
        self.assertEqual(self.json("version")["json_version"], 1)

    def test_errors(self):
        errors = self.json("errors")["errors"]
        self.assertEqual(len({error["number"] for error in errors}), len(errors))
        for error in errors:
            for name in (error["code"], str(error["number"]), "QN_E" + error["code"].upper()):
                self.assertEqual(self.json("errors", "lookup", name), error)
            self.assertIn(error["todo"], self.run_it("errors", "lookup", error["code"])[0])

    def test_keys(self):
        private = self.run_it("genkey")[0]
        self.assertEqual(len(base64.b64decode(private)), 32)
        self.assertNotEqual(private, self.run_it("genkey")[0])
        both = self.json("genkey")
        self.assertEqual(self.run_it("pubkey", stdin=both["private_key"].encode())[0].strip(), both["public_key"])
        self.assertEqual(self.json("pubkey", stdin=base64.b64decode(private).hex().encode())["public_key"] + "\n",
                         self.run_it("pubkey", stdin=private.encode())[0])
        nine = b"09" + 31 * b"00"  # RFC 7748, section 5.2.
        self.assertEqual(base64.b64decode(self.run_it("pubkey", stdin=nine)[0]).hex(),
                         "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079")
        for rubbish in (b"", b"rubbish", b"A" * 300, b"A" * 43):
            self.refused("pubkey", stdin=rubbish)

    def test_topology_check(self):
        good = self.file("good.yaml", THREE)
        self.assertIn("3 nodes, 2 links", self.run_it("topology", "check", good)[0])
        answer = self.json("topology", "check", good)
        self.assertEqual((answer["ok"], answer["network"], answer["nodes"], answer["links"]), (True, "three", 3, 2))
        self.assertIn("3 nodes", self.run_it("topology", "check", "-", stdin=THREE.encode())[0])

    def test_topology_errors_have_their_place(self):
        bad = self.file("bad.yaml", THREE.replace("role: repeater", "role: repeeter"))
        _, err = self.run_it("topology", "check", bad, expect=USAGE)
        self.assertRegex(err, rf"{bad}:6:\d+: error: .*repeater")
        answer = self.json("topology", "check", bad, expect=USAGE)
        self.assertFalse(answer["ok"])
        self.assertIn(":6:", answer["diagnostics"][0])
        self.assertEqual(self.json("topology", "export", bad, expect=USAGE)["error"]["code"], "usage")
        self.refused("topology", "check", os.path.join(self.directory, "absent.yaml"))
        self.refused("topology", "check", self.directory)

    def test_topology_export(self):
        path = self.file("net.yaml", THREE)
        canonical = self.run_it("topology", "export", path)[0]
        self.assertEqual(self.run_it("topology", "export", "-", "--format", "yaml", stdin=canonical.encode())[0], canonical)
        self.assertIn("alice", self.run_it("topology", "export", path, "--format", "dot")[0])
        self.assertIn("graph", self.run_it("topology", "export", path, "--format", "mermaid")[0])
        self.assertIn("properties", json.loads(self.run_it("topology", "export", "--format", "schema")[0]))
        self.assertEqual(self.json("topology", "export", path), {"format": "yaml", "text": canonical})


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


class LabCase(Case):
    """Labs live in a folder of the test's own, so others on this machine are not seen."""

    def setUp(self):
        super().setUp()
        self.addCleanup(self.take_down)
        self.topology = self.file("three.yaml", THREE)

    def take_down(self):
        subprocess.run([QNETCTL, "lab", "down", "--all"], capture_output=True, timeout=60, env=self.environment)

    def up(self, *options, expect=OK, **environment):
        return self.run_it("lab", "up", self.topology, *self.extra, *options, expect=expect, **environment)

    def labs(self):
        folder = os.path.join(self.directory, f"qnetd-{os.geteuid()}", "labs")
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []

    def nodes(self, *options):
        return {node["name"]: node for node in self.json("lab", "status", *options)["labs"][0]["nodes"]}

    def is_alive(self, pid):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
                return file.read().rsplit(")", 1)[1].split()[0] != "Z"
        except OSError:
            return False


class FakeLab(LabCase):
    """Of processes that only pretend: what the lab commands do, whatever the daemon's state."""
    extra = ["--qnetd", FAKE_QNETD]

    def test_up_and_down(self):
        out, _ = self.up()
        self.assertIn("alice", out)
        nodes = self.nodes()
        self.assertEqual(sorted(nodes), ["alice", "bob", "rep"])
        addresses = [node[port] for node in nodes.values() for port in ("classical", "quantum", "operations")]
        self.assertEqual(len(set(addresses)), 9)
        for node in nodes.values():
            self.assertTrue(self.is_alive(node["pid"]))
            self.assertEqual(os.getsid(node["pid"]), node["pid"])
            self.assertEqual(node["state"], "ready")
        directory = self.json("lab", "status")["labs"][0]["directory"]
        self.assertEqual(os.stat(directory).st_mode & 0o777, 0o700)
        self.assertEqual(os.stat(os.path.join(directory, "alice.key")).st_mode & 0o777, 0o600)
        with open(os.path.join(directory, "topology.yaml"), encoding="utf-8") as file:
            resolved = file.read()
        for name in nodes:
            with open(os.path.join(directory, name + ".key"), "rb") as file:
                self.assertIn(self.run_it("pubkey", stdin=file.read())[0].strip(), resolved)
        self.assertIn("3 nodes stopped", self.run_it("lab", "down")[0])
        self.assertEqual(self.labs(), [])
        for node in nodes.values():
            self.assertFalse(self.is_alive(node["pid"]))

    def test_a_running_lab_is_not_started_again(self):
        self.up()
        pids = {node["pid"] for node in self.nodes().values()}
        self.assertIn("lab three is running", self.up(expect=USAGE)[1])
        self.assertEqual({node["pid"] for node in self.nodes().values()}, pids)

    def test_two_labs_must_be_told_apart(self):
        self.up()
        self.up("--name", "second")
        self.assertEqual(self.labs(), ["second", "three"])
        self.assertIn("--lab: second, three", self.refused("status"))
        self.assertEqual(self.json("--lab", "second", "status")["lab"], "second")
        self.assertIn("did you mean \"second\"", self.refused("--lab", "secnd", "status"))
        self.run_it("lab", "down", "second")
        self.assertEqual(self.labs(), ["three"])

    def test_names_of_labs(self):
        for name in ("../x", ".", "a/b", "-x", "", "x" * 64):
            self.refused("lab", "up", self.topology, f"--name={name}", *self.extra)
        self.assertEqual(self.labs(), [])

    def test_a_wrong_topology_starts_nothing(self):
        self.topology = self.file("bad.yaml", "version: 1\n")
        self.assertIn("bad.yaml:", self.up(expect=USAGE)[1])
        self.assertEqual(self.labs(), [])

    def test_a_node_that_dies_while_starting(self):
        _, err = self.up(expect=RUNTIME, FAKE_NODE="rep=die")
        self.assertIn("node rep ended with status 1", err)
        self.assertIn("something is wrong here", err)
        self.assertEqual(self.labs(), [])

    def test_a_node_that_is_never_ready(self):
        started = time.monotonic()
        _, err = self.up("--timeout", "1s", expect=TIMEOUT, FAKE_NODE="bob=never")
        self.assertIn("node bob is not ready after 1.00 s", err)
        self.assertLess(time.monotonic() - started, 10)
        self.assertEqual(self.labs(), [])

    def test_interrupted_while_starting(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            process = subprocess.Popen([QNETCTL, "lab", "up", self.topology, *self.extra], env={**self.environment, "FAKE_NODE": "bob=never"},
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            time.sleep(0.7)
            process.send_signal(number)
            process.communicate(timeout=20)
            self.assertEqual(process.returncode, 128 + number)
            self.assertEqual(self.labs(), [])

    def test_a_stubborn_node_is_killed(self):
        self.up(FAKE_NODE="bob=stubborn")
        pid = self.nodes()["bob"]["pid"]
        _, err = self.run_it("lab", "down")
        self.assertIn("killing them", err)
        self.assertFalse(self.is_alive(pid))

    def test_a_crashed_lab(self):
        self.up()
        for node in self.nodes().values():
            os.kill(node["pid"], signal.SIGKILL)
        time.sleep(0.1)
        self.assertEqual({node["state"] for node in self.nodes().values()}, {"stopped"})
        self.assertIn("has crashed or was killed", self.up(expect=USAGE)[1])
        self.run_it("status", expect=UNREACHABLE)
        self.run_it("lab", "down")
        self.assertEqual(self.labs(), [])
        self.up()

    def test_the_pid_of_another_process_is_left_alone(self):
        self.up()
        directory = self.json("lab", "status")["labs"][0]["directory"]
        bystander = subprocess.Popen(["sleep", "60"])
        self.addCleanup(bystander.wait)
        self.addCleanup(bystander.kill)
        pid_file = os.path.join(directory, "bob.pid")
        with open(pid_file, encoding="utf-8") as file:
            pid, started = file.read().split()
        os.kill(int(pid), signal.SIGKILL)
        with open(pid_file, "w", encoding="utf-8") as file:
            file.write(f"{bystander.pid} {started}\n")  # As if its number had been given away.
        self.assertEqual(self.nodes()["bob"]["state"], "stopped")
        self.run_it("lab", "down")
        self.assertIsNone(bystander.poll())

    def test_kill_and_start(self):
        self.up()
        before = self.nodes()["bob"]
        self.run_it("lab", "kill", "bob")
        self.assertFalse(self.is_alive(before["pid"]))
        self.assertIn("not running", self.refused("lab", "kill", "bob", expect=RUNTIME))
        self.assertIn("did you mean \"bob\"", self.refused("lab", "kill", "bbo"))
        out, _ = self.run_it("status", expect=UNREACHABLE)
        self.assertRegex(out, r"bob +- +no answer")
        self.run_it("lab", "start", "bob", *self.extra)
        after = self.nodes()["bob"]
        self.assertNotEqual(before["pid"], after["pid"])
        self.assertEqual(before["classical"], after["classical"])
        self.assertIn("is running", self.refused("lab", "start", "bob", *self.extra, expect=RUNTIME))

    def test_commands_for_one_node_ask_which(self):
        self.up()
        for arguments in (["request-pair", "bob"], ["teleport", "bob"], ["bb84", "bob"], ["gate", "prepare"], ["discard", "--all"],
                          ["keys", "take", "ab"], ["wait", "--for", "pairs=1"]):
            self.assertIn("choose with --node: alice, rep, bob", self.refused(*arguments))
        self.assertIn("did you mean \"alice\"", self.refused("-n", "alcie", "status"))
        self.run_it("wait", "--for", "ready")
        self.run_it("health")

    def test_events_of_all_are_merged(self):
        self.up()
        lines = self.run_it("events")[0].splitlines()
        self.assertEqual(len(lines), 3)
        self.assertEqual(lines, sorted(lines, key=lambda line: float(line.split()[0])))
        self.assertEqual({line.split()[2] for line in lines}, {"alice", "rep", "bob"})
        self.assertEqual({line.split()[1] for line in lines}, {"o||", "|o|", "||o"})

    def test_faults_go_to_both_ends(self):
        self.up()
        self.assertEqual(self.json("fault", "cut", "rb")["nodes"], ["rep", "bob"])
        self.assertEqual(self.json("-n", "alice", "fault", "clear", "ar")["nodes"], ["alice", "rep"])
        self.assertIn("did you mean \"ar\"", self.refused("fault", "cut", "arr"))

    def test_the_word_that_a_node_is_dead_goes_to_another(self):
        self.up()
        self.assertEqual(self.json("declare-dead", "alice"), {"dead": "alice", "told": "rep"})
        self.assertEqual(self.json("-n", "bob", "declare-dead", "alice"), {"dead": "alice", "told": "bob"})
        self.assertIn("declared dead, at alice", self.run_it("declare-dead", "bob")[0])
        self.refused("declare-dead")

    def test_completions_know_the_lab(self):
        self.up()
        self.assertEqual(self.run_it("complete", "nodes")[0].split(), ["alice", "rep", "bob"])
        self.assertEqual(self.run_it("complete", "links")[0].split(), ["ar", "rb"])
        self.assertEqual(self.run_it("complete", "labs")[0].split(), ["three"])

    def test_a_folder_of_somebody_else_is_refused(self):
        os.mkdir(os.path.join(self.directory, f"qnetd-{os.geteuid()}"), 0o755)
        self.assertIn("only you", self.up(expect=DENIED)[1])

    def test_addresses_of_the_loopback_are_kept(self):
        self.topology = self.file("fixed.yaml", THREE.replace("alice: {role: memory}", "alice: {role: memory, operations: \"127.0.0.1:29871\", classical: \"alice:7000\"}"))
        self.up()
        alice = self.nodes()["alice"]
        self.assertEqual(alice["operations"], "127.0.0.1:29871")
        self.assertNotEqual(alice["classical"], "alice:7000")

    def test_sockets_with_too_long_a_path(self):
        deep = os.path.join(self.directory, "d" * 60)
        os.mkdir(deep)
        self.environment["XDG_RUNTIME_DIR"] = deep
        self.assertIn("shorter name", self.up("--name", "n" * 40, expect=USAGE)[1])


@unittest.skipUnless(os.access(QNETD, os.X_OK), f"{QNETD} is not built")
class RealLab(LabCase):
    extra = []

    def test_pairs_and_teleportation(self):
        self.up()
        self.assertEqual(self.json("health")["healthy"], True)
        out, _ = self.run_it("-n", "alice", "request-pair", "bob", "--number", "2", "--json")
        pairs = [json.loads(line) for line in out.splitlines()]
        self.assertEqual(pairs[-1]["delivered"], 2)
        held = [pair for pair in self.json("pairs")["pairs"] if pair["node"] == "alice"]
        self.assertEqual({pair["qubit"] for pair in held}, {pair["qubit"] for pair in pairs[:-1]})
        self.run_it("-n", "alice", "discard", "--all")
        self.assertEqual(self.json("-n", "alice", "pairs")["pairs"], [])
        summary = self.json("-n", "alice", "teleport", "bob", "--state", "y-", "--number", "300", "--tomography")
        self.assertEqual(summary["done"], 300)
        self.assertLess(abs(summary["fidelity"] - summary["predicted"]), 5 * summary["standard_error"] + 1e-6)

    def test_chsh(self):
        self.up()
        estimate = self.json("-n", "alice", "request-pair", "rep", "--number", "4000", "--measure", "chsh", "--quiet")["estimates"]["chsh"]
        self.assertLess(abs(estimate["value"] - 2 * 2 ** 0.5), 5 * estimate["standard_error"] + 0.05)

    def test_a_killed_node_comes_back(self):
        self.up()
        self.run_it("lab", "kill", "rep")
        self.run_it("wait", "--for", "peer=rep:down", "-n", "alice", "--timeout", "20s")
        self.run_it("health", "-n", "alice", expect=UNHEALTHY)
        self.run_it("lab", "start", "rep")
        self.run_it("wait", "--for", "ready", "--timeout", "20s")

    def test_a_cut_link(self):
        self.up()
        self.run_it("fault", "cut", "ar")
        self.run_it("wait", "--for", "peer=rep:down", "-n", "alice", "--timeout", "20s")
        self.run_it("-n", "alice", "request-pair", "bob", "--timeout", "300ms", expect=RUNTIME if self.fails_early() else TIMEOUT)
        self.run_it("fault", "restore", "ar")
        self.run_it("wait", "--for", "ready", "--timeout", "20s")
        self.run_it("-n", "alice", "request-pair", "bob")

    def fails_early(self):
        """A node may know at once that there is no way (no_route), or find out."""
        result = subprocess.run([QNETCTL, "-n", "alice", "request-pair", "bob", "--timeout", "300ms"], capture_output=True, env=self.environment, timeout=30)
        return result.returncode == RUNTIME

    def test_keys(self):
        self.topology = self.file("keys.yaml", KEYS)
        self.up()
        self.run_it("-n", "src", "bb84", "det", "--block-pulses", "2000000")
        self.run_it("-n", "det", "wait", "--for", "keys=1")
        keys = self.json("keys")["keys"]
        self.assertEqual(len(keys), 2)
        self.assertEqual(len({(key["id"], key["check"]) for key in keys}), 1)
        taken = [self.run_it("-n", node, "keys", "take", keys[0]["id"])[0] for node in ("src", "det")]
        self.assertEqual(taken[0], taken[1])
        self.assertEqual(len(taken[0].strip()) * 4, keys[0]["bits"])
        self.refused("-n", "src", "keys", "take", keys[0]["id"], expect=RUNTIME)

    def test_an_eavesdropper_leaves_no_key(self):
        self.topology = self.file("keys.yaml", KEYS)
        self.up()
        self.run_it("fault", "eve", "fibre", "1")
        self.run_it("-n", "src", "bb84", "det", expect=UNHEALTHY)
        self.assertEqual(self.json("keys")["keys"], [])
        self.run_it("fault", "clear", "fibre")
        self.run_it("-n", "src", "bb84", "det")


if __name__ == "__main__":
    unittest.main()
