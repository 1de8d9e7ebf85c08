# SPDX-License-Identifier: Apache-2.0
"""The demonstration behind tools/demo: a lab of real daemons, a few commands a user could type, and a check of every figure."""
import json
import math
import os
import subprocess
import sys
import tempfile
import time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
QNETCTL = os.path.join(os.environ.get("QNETD_BUILD", os.path.join(ROOT, "build")), "tools", "qnetctl", "qnetctl")
NETWORK = os.path.join(ROOT, "deploy", "networks", "demo.yaml")
SIGMAS = 5
TTY = sys.stdout.isatty()
BOLD, GREEN, RED, DIM, END = ("\033[1m", "\033[32m", "\033[31m", "\033[2m", "\033[0m") if TTY and "NO_COLOR" not in os.environ else ("",) * 5

failures = []


def say(text=""):
    print(text, flush=True)


def check(what, good, figures):
    say(f"   {GREEN + 'ok  ' if good else RED + 'FAIL'}{END} {what}: {figures}")
    if not good:
        failures.append(what)


def ctl(*words, fails=None):
    """JSON lines of a command, its progress shown as it would be to a user; `fails` names the error it must end with."""
    command = [QNETCTL, *map(str, words)]
    say(f"   {DIM}$ qnetctl {' '.join(map(str, words))}{END}")
    done = subprocess.run([*command, "--json"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=None if TTY else subprocess.PIPE, text=True,
                          timeout=60)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    error = next((line["error"] for line in lines if "error" in line), None)
    if (error["code"] if error else None) != fails:
        raise SystemExit(f"qnetctl {' '.join(map(str, words))}: {error['message'] if error else 'did not fail'}")
    return lines


def within(value, expected, error):
    return abs(value - expected) <= SIGMAS * error


def correlation(summary, axis, peer_axis):
    for entry in summary["sums"]:
        if (entry["axis"], entry["peer_axis"]) == (axis, peer_axis):
            return entry["sum"] / entry["trials"], entry["trials"]
    raise SystemExit("no such correlation")


def key():
    say(f"\n{BOLD}1. A secret key by BB84{END}, from the laser to the receiver over 10 km of fibre")
    lines = ctl("bb84", "receiver", "--node", "laser", "--blocks", 1)
    block = next(line for line in lines if line.get("type") == "block")
    expected = lines[-1]["expected_qber"]
    error = math.sqrt(expected * (1 - expected) / block["sampled"])
    check("error rate", within(block["qber"], expected, error), f"{block['qber']:.2%} of {block['sampled']} compared bits; {expected:.2%} +- {error:.2%} predicted")
    ends = [ctl("keys", "take", block["key_id"], "--node", node)[-1]["material"] for node in ("laser", "receiver")]
    check("both ends hold the same secret", ends[0] == ends[1] and len(ends[0]) * 4 == block["secret"] > 0, f"{block['secret']} bits out of {block['sifted']} sifted ones")


def eve():
    say(f"\n{BOLD}2. An eavesdropper{END} intercepts every pulse and sends on what she saw")
    ctl("fault", "eve", "laser-receiver", 1)
    lines = ctl("bb84", "receiver", "--node", "laser", "--blocks", 1, fails="qber")
    block = next(line for line in lines if line.get("type") == "block")
    expected = 0.01 + (0.25 - 0.01 / 2)
    error = math.sqrt(expected * (1 - expected) / block["sampled"])
    check("caught: no key", block["secret"] == 0, next(line["error"]["message"] for line in lines if "error" in line))
    check("error rate", within(block["qber"], expected, error), f"{block['qber']:.2%}; {expected:.2%} +- {error:.2%} predicted")
    ctl("fault", "clear", "laser-receiver")


def entanglement():
    say(f"\n{BOLD}3. Entanglement{END} from alice to bob, swapped by two repeaters that never see each other's outcomes in time")
    summary = ctl("request-pair", "bob", "--node", "alice", "--number", 6000, "--measure", "xyz", "--quiet")[-1]
    f, variance = 1, 0
    for axis, sign in ((0, 1), (1, -1), (2, 1)):
        mean, n = correlation(summary, axis, axis)
        f, variance = f + sign * mean, variance + (1 - mean ** 2 + 1 / n) / n
    f, error, expected = f / 4, math.sqrt(variance) / 4, summary["predicted"]
    check("fidelity", within(f, expected, error), f"{f:.4f} +- {error:.4f} measured on {summary['delivered']} pairs; {expected:.4f} predicted")
    summary = ctl("request-pair", "bob", "--node", "alice", "--number", 6000, "--measure", "chsh", "--quiet")[-1]
    s, variance = 0, 0
    for a, b, sign in ((2, 3, 1), (2, 4, 1), (0, 3, 1), (0, 4, -1)):
        mean, n = correlation(summary, a, b)
        s, variance = s + sign * mean, variance + (1 - mean ** 2) / n
    error, expected = math.sqrt(variance), 2 * math.sqrt(2) * (4 * summary["predicted"] - 1) / 3
    check("CHSH value", within(s, expected, error), f"S = {s:.3f} +- {error:.3f}; {expected:.3f} predicted")
    check("no local theory explains it", s - 2 > SIGMAS * error, f"S exceeds 2 by {(s - 2) / error:.0f} standard errors")


def teleport():
    say(f"\n{BOLD}4. Teleportation{END} of a state from alice to bob, which bob examines along X, Y and Z")
    for state in ("x+", "1.1,0.7"):
        summary = ctl("teleport", "bob", "--node", "alice", "--state", state, "--number", 1500, "--tomography")[-1]
        formula = (2 * summary["pair_fidelity"] + 1) / 3
        check(f"state {state}", within(summary["fidelity"], summary["predicted"], summary["standard_error"]),
              f"fidelity {summary['fidelity']:.4f} +- {summary['standard_error']:.4f}; (2F+1)/3 = {formula:.4f} for pairs of F = {summary['pair_fidelity']:.4f}"
              f", {summary['predicted']:.4f} with the nodes' gates")
        check("better than any measurement could copy it", summary["fidelity"] - 2 / 3 > SIGMAS * summary["standard_error"], f"{summary['fidelity']:.4f} > 0.6667")


def main():
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="qnetd-demo-") as directory:
        os.environ["XDG_RUNTIME_DIR"] = directory  # A lab of its own, whatever else is running.
        say(f"{BOLD}qnetd{END}: each node below is a process of its own; they speak over encrypted TCP on loopback")
        ctl("lab", "up", os.path.relpath(NETWORK))
        try:
            nodes = ctl("status")[-1]["nodes"]
            check("all nodes are ready", all(node["ready"] for node in nodes) and len(nodes) >= 6,
                  ", ".join(f"{node['node']} ({node['role']})" for node in nodes))
            for part in (key, eve, entanglement, teleport):
                part()
        finally:
            say()
            ctl("lab", "down")
    say(f"\n{len(failures)} figure(s) out of bounds" if failures else f"\n{GREEN}every figure within its bound{END}", )
    say(f"{time.monotonic() - started:.0f} s; next: README.md, or qnetctl lab up deploy/networks/demo.yaml")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
