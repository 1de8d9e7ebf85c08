#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that a running lab does what its network is for, whatever it runs on: figures within 5 standard errors of what
the models predict, keys equal at both ends.

usage: check.py LAB [--netns FOLDER | --compose FOLDER]
LAB is bb84-pair, two-repeater-chain or demo. Without an option the lab is one of this machine's processes (`qnetctl lab
up`); FOLDER is what `qnetctl topology export --output FOLDER` wrote. QNETCTL and COMPOSE name the programs."""
import json
import math
import os
import shlex
import subprocess
import sys

SIGMAS = 5


class Lab:
    def __init__(self, way, folder):
        self.way, self.folder, self.failed = way, folder, 0

    def command(self, node, words):
        qnetctl = os.environ.get("QNETCTL", "qnetctl")
        if self.way == "netns":
            return [os.path.join(self.folder, "lab.sh"), "ctl", node, *words]
        if self.way == "compose":
            compose = shlex.split(os.environ.get("COMPOSE", "docker-compose"))
            return [*compose, "-f", os.path.join(self.folder, "compose.yaml"), "exec", "-T", node, "qnetctl", *words]
        return [qnetctl, "--node", node, *words]

    def ctl(self, node, *words):
        """The objects qnetctl prints at a node."""
        done = subprocess.run(self.command(node, [*map(str, words), "--json"]), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise SystemExit(f"{node}: {' '.join(map(str, words))}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def check(self, what, good, figures):
        print(f"{'ok  ' if good else 'FAIL'} {what}: {figures}", flush=True)
        self.failed += not good


def check_key(lab, source, detector):
    lines = lab.ctl(source, "bb84", detector, "--blocks", 1)
    block = next(line for line in lines if line.get("type") == "block")
    expected = lines[-1]["expected_qber"]
    error = math.sqrt(expected * (1 - expected) / block["sampled"])
    lab.check("error rate", abs(block["qber"] - expected) <= SIGMAS * error,
              f"{block['qber']:.2%} of {block['sampled']} compared bits; {expected:.2%} +- {error:.2%} predicted")
    ends = [next((key for key in lab.ctl(node, "keys")[0]["keys"] if key["id"] == block["key_id"]), None) for node in (source, detector)]
    same = all(ends) and ends[0]["check"] == ends[1]["check"] and ends[0]["bits"] == ends[1]["bits"] == block["secret"] > 0
    lab.check("both ends hold the same key", same, f"{block['secret']} bits, id {block['key_id']}, checks {[end and end['check'] for end in ends]}")


def correlation(summary, axis, peer_axis):
    for entry in summary["sums"]:
        if (entry["axis"], entry["peer_axis"]) == (axis, peer_axis):
            return entry["sum"] / entry["trials"], entry["trials"]
    raise SystemExit("no such correlation")


def check_fidelity(lab, node, peer, number=2000):
    summary = lab.ctl(node, "request-pair", peer, "--number", number, "--measure", "xyz", "--quiet")[-1]
    fidelity, variance = 1, 0
    for axis, sign in ((0, 1), (1, -1), (2, 1)):
        mean, n = correlation(summary, axis, axis)
        fidelity, variance = fidelity + sign * mean, variance + (1 - mean ** 2 + 1 / n) / n
    fidelity, error, expected = fidelity / 4, math.sqrt(variance) / 4, summary["predicted"]
    lab.check("fidelity end to end", abs(fidelity - expected) <= SIGMAS * error and summary["delivered"] == number,
              f"{fidelity:.4f} +- {error:.4f} measured on {summary['delivered']} pairs; {expected:.4f} predicted")
    lab.check("entangled", fidelity - 0.5 > SIGMAS * error, "no separable state has more than 0.5")


LABS = {
    "bb84-pair": lambda lab: check_key(lab, "laser", "bob"),
    "two-repeater-chain": lambda lab: check_fidelity(lab, "alice", "bob"),
    "demo": lambda lab: (check_key(lab, "laser", "receiver"), check_fidelity(lab, "alice", "bob")),
}


def main(arguments):
    ways = {"--netns": "netns", "--compose": "compose"}
    known = len(arguments) in (1, 3) and arguments[0] in LABS and (len(arguments) == 1 or arguments[1] in ways)
    if not known:
        print(__doc__.partition("usage: ")[2], file=sys.stderr)
        return 2
    lab = Lab(*(("processes", None) if len(arguments) == 1 else (ways[arguments[1]], arguments[2])))
    LABS[arguments[0]](lab)
    return 1 if lab.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
