# SPDX-License-Identifier: Apache-2.0
"""The units for systemd: their score, their syntax, and the daemon started as the unit starts it. (How it speaks to the
service manager is tested in test_daemon.py.)"""
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(__file__))
from harness import QNETD, Lab  # noqa: E402

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
UNIT = os.path.join(ROOT, "deploy", "systemd", "qnetd@.service")
TARGET = os.path.join(ROOT, "deploy", "systemd", "qnetd.target")
SCORE_MAX = 1.5


def settings(path):
    with open(path, encoding="utf-8") as file:
        return [line.strip().partition("=")[::2] for line in file if "=" in line and not line.startswith("#")]


class Units(unittest.TestCase):
    def test_score(self):
        if shutil.which("systemd-analyze") is None:
            self.skipTest("systemd-analyze is not installed (package systemd)")
        done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", UNIT], capture_output=True, text=True, check=False)
        score = float(re.search(r"Overall exposure level for \S+ ([0-9.]+)", done.stdout)[1])
        print(f"# systemd-analyze security: {score}", flush=True)
        self.assertLessEqual(score, SCORE_MAX, done.stdout)

    def test_syntax(self):
        if shutil.which("systemd-analyze") is None:
            self.skipTest("systemd-analyze is not installed (package systemd)")
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", UNIT, TARGET], capture_output=True, text=True, check=False)
        complaints = [line for line in done.stderr.splitlines() if "/usr/bin/qnetd is not executable" not in line]  # Not installed here.
        self.assertEqual(complaints, [])

    def test_the_command_of_the_unit_works_in_what_systemd_gives(self):
        unit = settings(UNIT)
        command = dict(unit)["ExecStart"].split()
        self.assertEqual(command[0], "/usr/bin/qnetd")
        with Lab("alice", "bob") as lab:
            given = {name: os.path.join(lab.directory, name.lower()) for name in ("STATE_DIRECTORY", "RUNTIME_DIRECTORY", "CREDENTIALS_DIRECTORY")}
            for path in given.values():
                os.mkdir(path, 0o700)
            key = os.path.join(given["CREDENTIALS_DIRECTORY"], "identity.key")
            shutil.copy(os.path.join(lab["alice"].state, "identity.key"), key)
            os.chmod(key, 0o440)  # As systemd hands it over.
            notify = os.path.join(lab.directory, "notify")
            lab["bob"].start()
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                manager.bind(notify)
                manager.settimeout(10)
                words = [word.replace("%i", "alice").replace("/etc/qnetd/topology.yaml", lab.topology) for word in command[1:]]
                with open(lab["alice"].log_path, "wb") as log:
                    lab["alice"].process = subprocess.Popen([QNETD, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                                                            env={**given, "NOTIFY_SOCKET": notify, "WATCHDOG_USEC": "30000000", "PATH": "/usr/bin"})
                self.assertEqual(manager.recv(100), b"READY=1", lab["alice"].log())
            lab["alice"].wait_ready()
            control = os.path.join(given["RUNTIME_DIRECTORY"], "alice.sock")
            self.assertTrue(stat.S_ISSOCK(os.stat(control).st_mode))
            self.assertTrue(os.path.exists(os.path.join(given["STATE_DIRECTORY"], "keys.db")), os.listdir(given["STATE_DIRECTORY"]))
            self.assertEqual(lab["alice"].stop(), 0)
            self.assertFalse(os.path.exists(control))

    def test_reload_checks_the_file_first(self):
        reload = [value for name, value in settings(UNIT) if name == "ExecReload"]
        self.assertEqual([reload[0].split()[0], "kill" in reload[1]], ["/usr/bin/qnetd", True])
        with Lab("alice", "bob") as lab:
            check = [QNETD, *(word.replace("/etc/qnetd/topology.yaml", lab.topology) for word in reload[0].split()[1:])]
            self.assertEqual(subprocess.run(check, capture_output=True, check=False).returncode, 0)
            with open(lab.topology, "a", encoding="utf-8") as file:
                file.write("nonsense: 1\n")
            self.assertEqual(subprocess.run(check, capture_output=True, check=False).returncode, 2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
