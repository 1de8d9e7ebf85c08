# SPDX-License-Identifier: Apache-2.0
"""Labs of qnetctl: of nodes that only pretend, and of real ones."""
import json
import os
import signal
import subprocess
import time
import unittest

from harness import eventually
from qnetctl_case import BUILD, DENIED, OK, QNETCTL, RUNTIME, SUPPORT, THREE, TIMEOUT, UNHEALTHY, UNREACHABLE, USAGE, Case

QNETD = os.path.join(BUILD, "daemon", "qnetd")
FAKE_QNETD = os.path.join(SUPPORT, "fake_node.py")

KEYS = """
version: 1
network: keys
nodes:
  src: {role: source}
  det: {role: detector}
links:
  fibre: {between: [src, det], length: 5km}
"""


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
        _, err = self.up("--timeout", "3s", expect=TIMEOUT, FAKE_NODE="bob=never")
        self.assertIn("node bob is not ready after 3.00 s", err)
        self.assertLess(time.monotonic() - started, 20)
        self.assertEqual(self.labs(), [])

    def test_interrupted_while_starting(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            process = subprocess.Popen([QNETCTL, "lab", "up", self.topology, *self.extra], env={**self.environment, "FAKE_NODE": "bob=never"},
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            eventually(self.labs, what="the lab")
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
        eventually(lambda: {node["state"] for node in self.nodes().values()} == {"stopped"}, what="all stopped")
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
