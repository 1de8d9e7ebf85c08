# SPDX-License-Identifier: Apache-2.0
"""The demonstration, on the programs that are being tested."""
import os
import subprocess
import sys
import unittest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))


class Demo(unittest.TestCase):
    def test_every_figure_is_within_its_bound(self):
        done = subprocess.run([sys.executable, os.path.join(ROOT, "tools", "demo.py")], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("every figure within its bound", done.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
