# SPDX-License-Identifier: Apache-2.0
"""Builds every configuration, runs its tests, and counts: one line a failure, the total last.

A configuration is a build folder with its own compiler and options. Meson runs the programs; what is counted are the test
cases inside them, read from the JUnit file it writes."""
import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as xml

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
CONFIGURATIONS = [
    # build folder, compiler, meson options, suites (None: all)
    ("build-clang", "clang", ["--buildtype=debug", "--optimization=0"], ["unit", "scenario", "chaos"]),
    ("build-asan", "clang", ["--buildtype=debugoptimized", "-Db_sanitize=address,undefined", "-Db_lundef=false"],
     ["unit", "scenario", "chaos", "sanitized"]),  # The last: real daemons under attack.
    ("build", "gcc", ["--buildtype=release"], None),  # Last: its tests compare traces with the other builds.
]
FUZZ = ("build-fuzz", "clang", ["--buildtype=debugoptimized", "--optimization=1", "-Db_sanitize=address,undefined", "-Db_lundef=false", "-Dfuzz=true"],
        ["fuzz"])  # Only the fuzz targets.
CONFIGURATIONS.insert(0, FUZZ)
THREAD = ("build-tsan", "clang", ["--buildtype=debugoptimized", "-Db_sanitize=thread", "-Db_lundef=false"],
          ["unit", "scenario", "chaos", "sanitized"])


def run(command, **options):
    return subprocess.run(command, cwd=ROOT, **options)


def build(folder, compiler, options):
    # A folder the demonstration made may have been set up before Criterion was installed: then its tests are added now.
    exists = os.path.exists(os.path.join(ROOT, folder, "build.ninja"))
    if not exists or not any(os.path.exists(os.path.join(ROOT, folder, "tests", name)) for name in ("unit", "fuzz")):
        again = ["--reconfigure"] if exists else []
        done = run(["meson", "setup", folder, *again, "-Dwerror=true", "-Dtests=enabled", *options], env={**os.environ, "CC": compiler},
                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            print(done.stdout)
            return False
    done = run(["ninja", "-C", folder], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        print("\n".join(done.stdout.splitlines()[-60:]))
    return done.returncode == 0


def cases(folder):
    """(name, outcome) of every test case of the last run."""
    for suite in xml.parse(os.path.join(ROOT, folder, "meson-logs", "testlog.junit.xml")).getroot().iter("testsuite"):
        for case in suite.iter("testcase"):
            bad = [c for c in case if c.tag in ("failure", "error")]
            skipped = case.find("skipped") is not None
            yield f"{suite.get('name')}: {case.get('name')}", "failed" if bad else "skipped" if skipped else "passed", case


def ended_badly(folder):
    """What the programs that failed said last: where a long log is cut in the middle, its end still tells why."""
    with open(os.path.join(ROOT, folder, "meson-logs", "testlog.json"), encoding="utf-8") as file:
        for program in map(json.loads, file):
            if program["result"] in ("OK", "EXPECTEDFAIL", "SKIP"):
                continue
            print(f"-- {folder}: {program['name']}: {program['result']} after {program['duration']:.0f} s")
            for line in said((program.get("stdout") or "").splitlines()) + (program.get("stderr") or "").splitlines()[-20:]:
                print("   " + line[:300])


def said(lines, n_max=40):
    """Of each case of a TAP stream that failed, it and what follows it; of a program that was stopped, also the end."""
    found, inside = [], 0
    for line in lines:
        if line.startswith(("ok ", "not ok ")):
            inside = n_max if line.startswith("not ok") else 0
        if inside > 0:
            found.append(line)
            inside -= 1
    return found[:5 * n_max] or lines[-n_max:]


def fuzz(minutes, targets):
    """Only the fuzz targets, for longer: what is found stays in build-fuzz/found."""
    if not build(*FUZZ[:3]):
        return 1
    return run([sys.executable, "tests/fuzz/run.py", "build-fuzz/tests/fuzz", "--minutes", minutes, *targets]).returncode


def main():
    if "--fuzz" in sys.argv:
        at = sys.argv.index("--fuzz")
        return fuzz(sys.argv[at + 1], sys.argv[at + 2:])
    arguments = [a for a in sys.argv[1:] if not a.startswith("--")]
    configurations = CONFIGURATIONS[-1:] if "--quick" in sys.argv else list(CONFIGURATIONS)
    if "--thread" in sys.argv:
        configurations.append(THREAD)
    total = {"passed": 0, "failed": 0, "skipped": 0}
    for folder, compiler, options, suites in configurations:
        started = time.monotonic()
        print(f"== {folder}: {compiler} {' '.join(options)}", flush=True)
        if not build(folder, compiler, options):
            print(f"FAILED {folder}: does not build")
            total["failed"] += 1
            continue
        built = time.monotonic()
        command = ["meson", "test", "-C", folder, "--no-rebuild", "--print-errorlogs"]
        for suite in suites or []:
            command += ["--suite", "e2e" if suite == "sanitized" and "--sanitized" in sys.argv else suite]
        if arguments:
            listed = run(["meson", "test", "-C", folder, "--list"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
            names = [line.rpartition(" / ")[2] for line in listed.splitlines() if " / " in line]
            chosen = [name for name in names if any(a in name for a in arguments)]
            if not chosen:
                print(f"tests/run: error: no test's name contains {' or '.join(arguments)}; there are: {' '.join(names)}")
                return 2
            command += chosen
        environment = {**os.environ, "QNETD_CONTAINERS": "1" if "--containers" in sys.argv else "0", "QNETD_BUILD": os.path.join(ROOT, folder), "ASAN_OPTIONS": "detect_leaks=1",
                       "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1"}
        junit = os.path.join(ROOT, folder, "meson-logs", "testlog.junit.xml")
        if os.path.exists(junit):
            os.remove(junit)
        done = run(command, env=environment)
        count = {"passed": 0, "failed": 0, "skipped": 0}
        if os.path.exists(junit):
            for name, outcome, case in cases(folder):
                count[outcome] += 1
                if outcome == "failed":
                    print(f"FAILED {folder}: {name}")
                if outcome == "skipped":
                    print(f"SKIPPED {folder}: {name}")
        if done.returncode != 0 and count["failed"] == 0:
            print(f"FAILED {folder}: a test program ended badly; see above")
            count["failed"] += 1
        if done.returncode != 0:
            ended_badly(folder)
        for outcome in total:
            total[outcome] += count[outcome]
        print(f"== {folder}: {count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped; "
              f"build {built - started:.0f} s, tests {time.monotonic() - built:.0f} s", flush=True)
    print(f"{total['passed']} passed, {total['failed']} failed" + (f", {total['skipped']} skipped" if total["skipped"] else ""))
    return 1 if total["failed"] else 0


sys.exit(main())
