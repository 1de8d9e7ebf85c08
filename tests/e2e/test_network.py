# SPDX-License-Identifier: Apache-2.0
"""Whole networks of separate processes over real sockets, driven by qnetctl as a user would.

Statistics are compared at 5 sigma; a failure prints the figures. Every wait has a deadline."""
import json
import math
import os
import random
import subprocess
import tempfile
import unittest

BUILD = os.environ.get("QNETD_BUILD", "build")
QNETCTL = os.path.join(BUILD, "tools", "qnetctl", "qnetctl")
HERE = os.path.dirname(os.path.abspath(__file__))
IDEAL = "model: ideal, fidelity: 0.95, probability: 50%, length: 1km, attempt_time: 10us"


class Failed(Exception):
    def __init__(self, code, error, lines):
        super().__init__(f"exit {code}: {error}")
        self.code, self.error, self.lines = code, error, lines


class Lab:
    def __init__(self, text):
        self.directory = tempfile.TemporaryDirectory(prefix="qnetd-e2e-")
        self.environment = {**os.environ, "XDG_RUNTIME_DIR": self.directory.name}
        self.file = os.path.join(self.directory.name, "net.yaml")
        with open(self.file, "w", encoding="utf-8") as file:
            file.write(text)

    def __enter__(self):
        self.ctl("lab", "up", self.file)
        return self

    def __exit__(self, *_):
        try:
            self.ctl("lab", "down")
        finally:
            self.directory.cleanup()

    def ctl(self, *words, timeout=120):
        """The JSON objects a command prints; Failed if it exits other than 0."""
        done = subprocess.run([QNETCTL, *map(str, words), "--json"], env=self.environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout)
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode != 0:
            errors = [line["error"] for line in lines if "error" in line]
            raise Failed(done.returncode, errors[-1] if errors else done.stderr, lines)
        return lines

    def fails(self, code, *words, **options):
        try:
            self.ctl(*words, **options)
        except Failed as failed:
            assert isinstance(failed.error, dict), failed
            assert failed.error["code"] == code, failed
            return failed
        raise AssertionError(f"{words} did not fail with {code}")

    def summary(self, *words, **options):
        return self.ctl(*words, **options)[-1]

    def keep(self, node, peer, number=1):
        return [line for line in self.ctl("request-pair", peer, "--node", node, "--number", number) if line.get("type") == "pair"]

    def partner(self, node, pair):
        for _ in range(200):
            for other in self.ctl("pairs", "--node", node)[0]["pairs"]:
                if (other["circuit"], other["sequence"]) == (pair["circuit"], pair["sequence"]):
                    return other["qubit"]
        raise AssertionError(f"{node} never got its half of {pair}")

    def gate(self, node, *steps):
        return self.ctl("gate", ", ".join(steps), "--node", node)[-1]["outcomes"]


def chain(repeaters, link=IDEAL, node=""):
    names = [f"n{i}" for i in range(repeaters + 2)]
    roles = ["memory"] + ["repeater"] * repeaters + ["memory"]
    return ("version: 1\nnetwork: chain\n" f"defaults: {{node: {{{node}}}, link: {{{link}}}}}\nnodes:\n"
            + "".join(f"  {n}: {{role: {r}, memories: 64}}\n" for n, r in zip(names, roles)) + "links:\n"
            + "".join(f"  l{i}: {{between: [n{i}, n{i + 1}]}}\n" for i in range(repeaters + 1)))


def werner(fidelity, links):
    return (1 + 3 * ((4 * fidelity - 1) / 3) ** links) / 4


def correlation(summary, axis, peer_axis):
    for entry in summary["sums"]:
        if (entry["axis"], entry["peer_axis"]) == (axis, peer_axis):
            return entry["sum"] / entry["trials"], entry["trials"]
    return 0, 0


class Pairs(unittest.TestCase):
    def expect_fidelity(self, summary, expected):
        f, variance = 1, 0
        for axis, sign in ((0, 1), (1, -1), (2, 1)):
            mean, n = correlation(summary, axis, axis)
            f, variance = f + sign * mean, variance + (1 - mean ** 2 + 1 / n) / n
        f, error = f / 4, math.sqrt(variance) / 4
        self.assertLess(abs(f - expected), 5 * error, f"fidelity {f:.4f} +- {error:.4f}, expected {expected:.4f}")

    def expect_chsh(self, summary, fidelity):
        s, variance = 0, 0
        for a, b, sign in ((2, 3, 1), (2, 4, 1), (0, 3, 1), (0, 4, -1)):
            mean, n = correlation(summary, a, b)
            s, variance = s + sign * mean, variance + (1 - mean ** 2) / n
        expected = 2 * math.sqrt(2) * (4 * fidelity - 1) / 3
        self.assertLess(abs(s - expected), 5 * math.sqrt(variance), f"S = {s:.4f} +- {math.sqrt(variance):.4f}, expected {expected:.4f}")

    def test_chains_of_one_to_four_repeaters(self):
        for repeaters in range(1, 5):
            with self.subTest(repeaters=repeaters), Lab(chain(repeaters)) as lab:
                summary = lab.summary("request-pair", f"n{repeaters + 1}", "--node", "n0", "--number", 3000, "--measure", "xyz", "--quiet")
                self.assertEqual(summary["delivered"], 3000)
                self.expect_fidelity(summary, werner(0.95, repeaters + 1))

    def test_chsh_on_a_link_and_over_a_repeater(self):
        with Lab(chain(1)) as lab:
            for peer, links in (("n1", 1), ("n2", 2)):
                summary = lab.summary("request-pair", peer, "--node", "n0", "--number", 6000, "--measure", "chsh", "--quiet")
                self.expect_chsh(summary, werner(0.95, links))

    def test_ghz_parities(self):
        link = "model: ideal, fidelity: 1.0, probability: 100%, length: 1km"
        with Lab(chain(0, link).replace("  l0: {between: [n0, n1]}\n", "  l0: {between: [n0, n1]}\n  l1: {between: [n1, n2]}\n")
                 .replace("links:\n", "  n2: {role: memory}\nlinks:\n", 1)) as lab:
            for run in range(12):
                bases = ("xxx", "xyy", "yxy", "yyx")[run % 4]
                left, right = lab.keep("n1", "n0")[0], lab.keep("n1", "n2")[0]
                a, c = lab.partner("n0", left), lab.partner("n2", right)
                (m,) = lab.gate("n1", f"cnot {left['qubit']} {right['qubit']}", f"measure {right['qubit']} z")
                if m:
                    lab.gate("n2", f"x {c}")
                outcomes = (lab.gate("n0", f"measure {a} {bases[0]}") + lab.gate("n1", f"measure {left['qubit']} {bases[1]}")
                            + lab.gate("n2", f"measure {c} {bases[2]}"))
                self.assertEqual(sum(outcomes) % 2, 0 if bases == "xxx" else 1, f"run {run}, bases {bases}: {outcomes}")

    def test_slow_classical_channel_costs_waiting_and_decoherence_only(self):
        with Lab(chain(0, "model: ideal, fidelity: 1.0, probability: 100%, length: 1km", "t1: 4s, t2: 2s")) as lab:
            lab.ctl("fault", "delay", "l0", "200ms")
            summary = lab.summary("request-pair", "n1", "--node", "n0", "--number", 60)
            took = summary["elapsed_ns"] * 1e-9
            self.assertTrue(1.0 <= took < 1.3, f"{took} s for five one-way trips of 200 ms")
            for pair in lab.ctl("pairs", "--node", "n0")[0]["pairs"][:1]:
                age = pair["age_ns"] * 1e-9
                expected = (1 + 3 * (math.exp(-2 * age / 4) + 2 * math.exp(-2 * age / 2)) / 3) / 4
                self.assertAlmostEqual(pair["fidelity"], expected, 6)
            lab.ctl("discard", "--all", "--node", "n0")
            lab.ctl("discard", "--all", "--node", "n1")

    def test_cut_quantum_port_stops_photons_and_leaves_held_pairs_usable(self):
        with Lab(chain(0, "model: ideal, fidelity: 1.0, probability: 100%, length: 1km")) as lab:
            pairs = lab.keep("n0", "n1", 4)
            theirs = [lab.partner("n1", pair) for pair in pairs]
            lab.ctl("fault", "cut", "l0", "--plane", "quantum")
            lab.fails("peer_down", "request-pair", "n1", "--node", "n0", "--timeout", "2s")
            for pair, other in zip(pairs, theirs):
                self.assertEqual(lab.gate("n0", f"measure {pair['qubit']} x"), lab.gate("n1", f"measure {other} x"))
            lab.ctl("fault", "clear", "l0")
            self.assertEqual(len(lab.keep("n0", "n1", 2)), 2)


class Teleportation(unittest.TestCase):
    def test_cardinal_and_random_states(self):
        rng = random.Random(7)
        states = ["z+", "z-", "x+", "x-", "y+", "y-"] + [f"{math.acos(2 * rng.random() - 1)},{2 * math.pi * rng.random()}" for _ in range(10)]
        with Lab(chain(1)) as lab:
            for state in states:
                summary = lab.summary("teleport", "n2", "--node", "n0", "--state", state, "--number", 300, "--tomography")
                expected = (2 * werner(0.95, 2) + 1) / 3
                self.assertEqual(summary["done"], 300)
                self.assertLess(abs(summary["fidelity"] - expected), 5 * summary["standard_error"], f"state {state}: {summary}, expected {expected:.4f}")


class Keys(unittest.TestCase):
    TOPOLOGY = ("version: 1\nnetwork: keys\nnodes:\n  laser: {role: source, source: single-photon, clock: 100MHz}\n"
                "  bob: {role: detector, efficiency: 80%, dark_rate: 100Hz, gate_window: 1ns}\n"
                "links:\n  qkd: {between: [laser, bob], length: 10km, loss: 0.2dB/km, misalignment: 1%}\n")

    def test_equal_keys_and_eve_as_predicted(self):
        with Lab(self.TOPOLOGY) as lab:
            lines = lab.ctl("bb84", "bob", "--node", "laser", "--blocks", 2, "--block-pulses", 4000000)
            ids = [line["key_id"] for line in lines if line.get("type") == "block"]
            self.assertEqual(len(ids), 2)
            for key in ids:
                a, b = lab.ctl("keys", "take", key, "--node", "laser")[-1], lab.ctl("keys", "take", key, "--node", "bob")[-1]
                self.assertEqual(len(a["material"]), a["bits"] // 4)
                self.assertEqual(a["material"], b["material"])
            for f in (0, 0.1, 0.5, 1):
                lab.ctl("fault", "eve", "qkd", f)
                try:
                    block = [line for line in lab.ctl("bb84", "bob", "--node", "laser", "--blocks", 1, "--block-pulses", 4000000) if line.get("type") == "block"][0]
                    self.assertLess(f, 0.44)
                except Failed as failed:
                    self.assertEqual(failed.error["code"], "qber")
                    block = [line for line in failed.lines if line.get("type") == "block"][0]
                    self.assertGreater(f, 0.4)
                expected = 0.01 + f * (0.25 - 0.01 / 2)
                error = math.sqrt(expected * (1 - expected) / block["sampled"])
                self.assertLess(abs(block["qber"] - expected), 5 * error, f"f = {f}: QBER {block['qber']:.4f}, expected {expected:.4f}")


class Faults(unittest.TestCase):
    def test_restart_and_errors(self):
        with Lab(chain(1)) as lab:
            lab.fails("unknown_node", "request-pair", "nobody", "--node", "n0")
            lab.fails("fidelity", "request-pair", "n2", "--node", "n0", "--min-fidelity", 0.99)
            lab.fails("memory_full", "request-pair", "n2", "--node", "n0", "--number", 65)
            lab.ctl("lab", "kill", "n1")
            failed = lab.fails("peer_down", "request-pair", "n2", "--node", "n0", "--timeout", "5s")
            self.assertIn("n1", failed.error["message"])
            lab.ctl("lab", "start", "n1")
            for node in ("n0", "n1", "n2"):
                lab.ctl("wait", "--for", "ready", "--node", node)
            summary = lab.summary("request-pair", "n2", "--node", "n0", "--number", 500, "--measure", "z", "--quiet")
            self.assertEqual(summary["delivered"], 500)
            for status in lab.ctl("status")[0]["nodes"]:
                self.assertEqual((status["memories_used"], status["requests"]), (0, 0), status["node"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
