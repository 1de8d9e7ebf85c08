# SPDX-License-Identifier: Apache-2.0
"""What the tests of qnetctl share: a case that runs it in a folder of its own. QNETD_BUILD names the build directory."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SUPPORT = os.path.join(ROOT, "tests", "support")
sys.path.insert(0, SUPPORT)

BUILD = os.path.join(ROOT, os.environ.get("QNETD_BUILD", "build"))
QNETCTL = os.path.join(BUILD, "tools", "qnetctl", "qnetctl")

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
