# SPDX-License-Identifier: Apache-2.0
"""Every command in the README's code blocks, in order. A comment "# fails: code, ..." names the errors it must end with."""
import os
import re
import subprocess
import tempfile
import unittest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.environ.get("QNETD_BUILD", os.path.join(ROOT, "build"))
LONG = ("./tools/demo", "./tests/run")  # The suite runs itself, and the demonstration in a test of its own.


def commands():
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        for block in re.findall(r"```sh\n(.*?)```", file.read(), re.S):
            for line in block.splitlines():
                command, _, comment = line.partition("#")
                if command.strip() and not command.startswith("export "):
                    yield command.strip(), re.findall(r"\w+", comment.split("fails:")[1]) if "fails:" in comment else None


class Readme(unittest.TestCase):
    def test_commands(self):
        with tempfile.TemporaryDirectory(prefix="qnetd-readme-") as directory:
            path = ":".join(os.path.join(BUILD, *place) for place in (("tools", "qnetctl"), ("tools", "qnetsim"), ("daemon",)))
            environment = {**os.environ, "XDG_RUNTIME_DIR": directory, "PATH": path + ":" + os.environ["PATH"]}
            done = 0
            try:
                for command, fails in commands():
                    if command in LONG:
                        continue
                    with self.subTest(command=command):
                        run = subprocess.run(command, shell=True, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                             stderr=subprocess.PIPE, text=True, timeout=60)
                        if fails is None:
                            self.assertEqual(run.returncode, 0, run.stderr + run.stdout)
                        else:
                            self.assertNotEqual(run.returncode, 0)
                            self.assertTrue(any(word.replace("_", " ") in run.stderr or word in run.stderr or "error rate" in run.stderr
                                                or "deadline" in run.stderr for word in fails), run.stderr)
                        done += 1
            finally:
                subprocess.run(["qnetctl", "lab", "down"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
            self.assertGreater(done, 20)


if __name__ == "__main__":
    unittest.main(verbosity=2)
