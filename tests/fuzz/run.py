# SPDX-License-Identifier: Apache-2.0
"""Runs the fuzz targets and tells the outcome of each in TAP: the kept corpus again, then new inputs for a while.
usage: run.py FOLDER [--seconds S | --minutes M] [--grow] [TARGET ...]
FOLDER has the fuzz-* programs (build-fuzz/tests/fuzz). --seconds: of each target (5). --minutes: of all together; what is
found stays under FOLDER's build folder. --grow: instead, adds what reaches something new to the kept corpus, minimised."""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

HERE = os.path.dirname(os.path.abspath(__file__))
CORPUS = os.path.join(HERE, "corpus")
ENVIRONMENT = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=1",
               "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1"}
CANARY = "canary"  # Has a bug planted, which must be found.
CANARY_SECONDS = 30
LIMITS = ["-timeout=10", "-rss_limit_mb=2000", "-max_len=4096"]
KEPT_BYTES = 160_000  # Most that a target's corpus may take.


class Fuzz:
    def __init__(self, folder):
        self.folder = os.path.abspath(folder)
        self.work = os.path.join(self.folder, "..", "..", "found")

    def targets(self):
        names = [n[5:] for n in sorted(os.listdir(self.folder)) if n.startswith("fuzz-") and os.access(os.path.join(self.folder, n), os.X_OK)
                 and os.path.isfile(os.path.join(self.folder, n))]
        return [n for n in names if n != CANARY] + [CANARY]

    def program(self, target):
        return os.path.join(self.folder, "fuzz-" + target)

    def run(self, target, *arguments):
        done = subprocess.run([self.program(target), *LIMITS, *arguments], env=ENVIRONMENT, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace")
        return done.returncode == 0, done.stdout

    def replay(self, target):
        kept = os.path.join(CORPUS, target)
        inputs = sorted(os.path.join(kept, n) for n in os.listdir(kept)) if os.path.isdir(kept) else []
        if not inputs:
            return True, "no corpus"
        ok, output = self.run(target, *inputs)
        return ok, f"{len(inputs)} inputs" if ok else output

    def fuzz(self, target, seconds):
        """A temporary corpus beside the kept one, so that a run starts from the same."""
        crashes = os.path.join(self.work, target, "")
        os.makedirs(crashes, exist_ok=True)
        with tempfile.TemporaryDirectory() as fresh:
            folders = [fresh] + ([os.path.join(CORPUS, target)] if os.path.isdir(os.path.join(CORPUS, target)) else [])
            ok, output = self.run(target, f"-max_total_time={seconds}", "-print_final_stats=1", "-len_control=20", "-entropic=0",
                                  f"-artifact_prefix={crashes}", *folders)
        return ok, output, self.figures(output)

    @staticmethod
    def figures(output):
        progress = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", output)
        speed = re.search(r"average_exec_per_sec:\s+(\d+)", output)
        runs = re.search(r"number_of_executed_units:\s+(\d+)", output)
        edges = re.search(r"\((\d+) inline 8-bit counters\)", output)
        cov, features, corpus = progress[-1] if progress else ("0", "0", "0")
        share = f" ({100 * int(cov) / int(edges[1]):.0f} % of the program's)" if edges else ""
        return (f"{runs[1] if runs else '?'} runs, {speed[1] if speed else '?'}/s, {cov} edges{share}, {features} features, "
                f"corpus of {corpus}")

    def keep(self, target, seconds):
        """Fuzzes, and puts the smallest inputs that reach all that was reached into the kept corpus, up to a size."""
        kept = os.path.join(CORPUS, target)
        os.makedirs(kept, exist_ok=True)
        regressions = {n for n in os.listdir(kept) if n.startswith("regression-")}
        with tempfile.TemporaryDirectory() as grown, tempfile.TemporaryDirectory() as merged:
            self.run(target, f"-max_total_time={seconds}", "-len_control=20", "-entropic=0", grown, kept)
            self.run(target, "-merge=1", "-use_counters=0", merged, kept, grown)  # One for each edge: hit counts would make it large.
            for name in set(os.listdir(kept)) - regressions:
                os.remove(os.path.join(kept, name))
            total = 0
            for name in sorted(os.listdir(merged), key=lambda n: os.path.getsize(os.path.join(merged, n))):
                total += os.path.getsize(os.path.join(merged, name))
                if total > KEPT_BYTES:
                    break
                shutil.copy(os.path.join(merged, name), os.path.join(kept, name[:16]))


def comment(text):
    print("\n".join("# " + line for line in text.splitlines()[-60:]), flush=True)


def main():
    arguments = sys.argv[1:]
    options = {}
    for name in ("--seconds", "--minutes"):
        if name in arguments:
            at = arguments.index(name)
            options[name] = float(arguments[at + 1])
            del arguments[at:at + 2]
    grow = "--grow" in arguments
    arguments = [a for a in arguments if a != "--grow"]
    fuzz = Fuzz(arguments[0])
    targets = arguments[1:] or [t for t in fuzz.targets() if t != CANARY or not grow]
    workers = max(1, min(2, os.cpu_count() or 1))
    seconds = int(options.get("--seconds", 5))
    if "--minutes" in options:
        seconds = max(1, int(options["--minutes"] * 60 * workers / max(1, len(targets))))
    print(f"1..{(1 if grow else 2) * len(targets) - (not grow and CANARY in targets)}", flush=True)

    def one(target):
        if target == CANARY:
            started = time.monotonic()
            ok, output, figures = fuzz.fuzz(target, CANARY_SECONDS)
            return [(not ok and "does not hold" in output, f"{target}: the planted bug is found",
                     f"after {time.monotonic() - started:.1f} s, {figures}" if not ok else output)]
        if grow:
            fuzz.keep(target, seconds)
        ok, output = fuzz.replay(target)
        lines = [(ok, f"{target}: corpus again", output)]
        if grow:
            return lines
        ok, output, figures = fuzz.fuzz(target, seconds)
        if not ok:
            found = re.search(r"Test unit written to (\S+)", output)
            if found:
                output += f"\nto see it again: {fuzz.program(target)} {os.path.relpath(found[1])}"
        return lines + [(ok, f"{target}: new inputs", figures if ok else output)]

    n = bad = 0
    with ThreadPoolExecutor(workers) as pool:
        for lines in pool.map(one, targets):
            for ok, name, text in lines:
                n += 1
                bad += not ok
                print(f"{'ok' if ok else 'not ok'} {n} - {name}", flush=True)
                comment(text)
    return 1 if bad else 0


sys.exit(main())
