# SPDX-License-Identifier: Apache-2.0
"""Checks the SPIN models of this folder and tells the outcome of each run in TAP: what is right must have no error, and
each variant that is broken on purpose must have one.
usage: run.py [MODEL ...]   all models, or those named; states, depth and time of every run are printed"""
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

HERE = os.path.dirname(os.path.abspath(__file__))

# A run: its name, flags of the model, and how to search. "safety": assertions and deadlocks. "end": no cycle at all,
# so that every execution comes to rest. "ltl NAME": that property, with weak fairness if NAME is followed by "fair".
MODELS = {
    "hosting": (
        [("safety", "", "safety"), ("comes to rest", "", "end")],
        ["NO_PROBATION", "NO_HOLD", "EARLY_ANSWER", "NO_ROLL_BACK", "FORGET_WAITING", "NO_RESEND", "NO_DEDUP", "BELIEVE_DEAD", "NO_LIVES"],
        "safety"),
    "substrate": (
        [("safety", "", "safety"), ("comes to rest", "-DCUTS=1", "end")],
        ["NO_RESEND", "NO_DEDUP", "NO_VERDICT", "NO_FENCE", "NO_FLOOD", "ONE_COUNT", "ANY_LIFE"], "end"),
    "link": (
        [("safety", "", "safety"), ("comes to rest", "-DPAIRS=1", "end")],
        ["NO_RESEND_CREDIT", "CANCEL_ONE", "KEEP_PROMISED", "NO_LATE_DISCARD", "SILENT_DEATH", "STATION_SILENT", "HEAD_SILENT",
         "UNKNOWN_LIFE"], "safety"),
    "circuit": (
        [("safety and rest", "", "end")],
        ["NO_EXPIRE", "LATE_CUTOFF", "NO_PARK", "NO_EARLY", "WRONG_FRAME", "KEEP_RECORD"], "safety"),
    "key-delivery": (
        [("safe", "", "ltl safe"), ("settled", "", "ltl settled fair")],
        ["EARLY", "NO_TOMB_A", "NO_TOMB_B", "REPLY_FIRST", "ACK_FIRST"], "ltl safe"),
}
SEARCH = {"safety": (["-DSAFETY"], []), "end": (["-DNP"], ["-l"])}


def check(model, flags, search, optimise):
    """(number of errors, states, depth, seconds of the search) of one run."""
    compile_with, run_with = SEARCH.get(search, ([], []))
    if search.startswith("ltl"):
        run_with = ["-a", "-N", search.split()[1]] + (["-f"] if search.endswith("fair") else [])
    with tempfile.TemporaryDirectory() as folder:
        def run(*command):
            done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if done.returncode != 0:
                raise RuntimeError(f"{command[0]}: {done.stdout[-2000:]}")
            return done.stdout

        run("spin", "-a", *flags.split(), os.path.join(HERE, model + ".pml"))
        run("gcc", "-w", optimise, "-DCOLLAPSE", "-DMEMLIM=2000", "-DVECTORSZ=2048", *compile_with, "-o", "pan", "pan.c")
        started = time.monotonic()
        output = run("./pan", "-m1000000", "-w22", *run_with)
        seconds = time.monotonic() - started
    found = re.search(r"depth reached (\d+), errors: (\d+)", output)
    states = re.search(r"(\d\S*) states, stored", output)
    if found is None or "max search depth too small" in output or "reached memory limit" in output.lower():
        raise RuntimeError(output[-2000:])
    return int(found[2]), float(states[1]), int(found[1]), seconds


def main():
    runs = []
    for model, (right, broken, search) in MODELS.items():
        if len(sys.argv) > 1 and model not in sys.argv[1:]:
            continue
        runs += [(model, name, flags, how, False) for name, flags, how in right]
        runs += [(model, variant, "-D" + variant, search, True) for variant in broken]
    print(f"1..{len(runs)}", flush=True)

    def one(run):
        try:
            return check(run[0], run[2], run[3], "-O0" if run[4] else "-O2")
        except (OSError, RuntimeError) as error:
            return error

    bad = 0
    with ThreadPoolExecutor(max(1, min(2, os.cpu_count() or 1))) as pool:
        for n, ((model, name, _, _, broken), result) in enumerate(zip(runs, pool.map(one, runs)), 1):
            ok = not isinstance(result, Exception) and (result[0] > 0) == broken
            print(f"{'ok' if ok else 'not ok'} {n} - {model}: {name + ' fails' if broken else name}")
            if isinstance(result, Exception):
                print("\n".join("# " + line for line in str(result).splitlines()))
            else:
                print(f"# {result[1]:.0f} states, depth {result[2]}, {result[0]} errors, {result[3]:.2f} s", flush=True)
            bad += not ok
    return 1 if bad else 0


sys.exit(main())
