# SPDX-License-Identifier: Apache-2.0
"""The simulator's output is a function of its input: the same bytes again, and from every compiler that built it."""
import os
import subprocess
import unittest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.environ.get("QNETD_BUILD", os.path.join(ROOT, "build"))
OTHERS = [os.path.join(ROOT, folder) for folder in ("build-clang", "build-asan")]


def trace(build, *options):
    program = os.path.join(build, "tools", "qnetsim", "qnetsim")
    networks = os.path.join(ROOT, "deploy", "networks")
    done = subprocess.run([program, *options, os.path.join(networks, "demo.yaml"), os.path.join(networks, "demo.scenario")], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return done.stdout


class Trace(unittest.TestCase):
    def test_same_seed_same_bytes(self):
        first = trace(BUILD, "--jitter", "20us")
        self.assertEqual(first, trace(BUILD, "--jitter", "20us"))
        self.assertNotEqual(first, trace(BUILD, "--jitter", "20us", "--seed", "7"))
        self.assertGreater(first.count(b"\n"), 40)

    def test_every_compiler_and_optimisation_gives_the_same_bytes(self):
        built = [folder for folder in OTHERS if os.path.exists(os.path.join(folder, "tools", "qnetsim", "qnetsim")) and folder != BUILD]
        if not built:
            self.skipTest("only one build here; the whole of tests/run makes the others")
        expected = trace(BUILD)
        for folder in built:
            self.assertEqual(expected, trace(folder), folder)


if __name__ == "__main__":
    unittest.main(verbosity=2)
