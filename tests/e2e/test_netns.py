# SPDX-License-Identifier: Apache-2.0
"""Labs of network namespaces: the script that `qnetctl topology export --format netns` writes, with real interfaces that
are cut and slowed down, and daemons that are killed. Everything is inside namespaces this test makes and removes."""
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.environ.get("QNETD_BUILD", os.path.join(ROOT, "build"))
QNETCTL = os.path.join(BUILD, "tools", "qnetctl", "qnetctl")
QNETD = os.environ.get("QNETD", os.path.join(BUILD, "daemon", "qnetd"))
CHECK = os.path.join(ROOT, "deploy", "labs", "check.py")


def why_not():
    """Why namespaces cannot be had here, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    name = f"qnetd-probe-{os.getpid()}"
    try:
        for command in (f"ip netns add {name}", f"ip link add probe0 netns {name} type veth peer name probe1 netns {name}",
                        f"tc -n {name} qdisc replace dev probe0 root tbf rate 1mbit burst 16kb latency 400ms", f"ip netns exec {name} true"):
            done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
            if done.returncode != 0:
                return f"{command.split()[0]} is refused: {done.stderr.strip()}"
    except FileNotFoundError as missing:
        return f"{missing.filename} is not installed (iproute2)"
    finally:
        subprocess.run(["ip", "netns", "delete", name], stderr=subprocess.DEVNULL, check=False)
    return None


REASON = why_not()


def interfaces():
    return [link["ifname"] for link in json.loads(subprocess.run(["ip", "-json", "link", "show"], capture_output=True, text=True, check=True).stdout)]


class Lab:
    """A network of deploy/networks under a name of its own, so that it does not meet a user's lab."""

    def __init__(self, network):
        self.network = network
        self.temporary = tempfile.TemporaryDirectory(prefix="qnetd-netns-")
        self.folder = os.path.join(self.temporary.name, "lab")
        self.prefix = f"t{os.getpid()}"
        with open(os.path.join(ROOT, "deploy", "networks", f"{network}.yaml"), encoding="utf-8") as file:
            text = re.sub(r"^network: .*$", f"network: {self.prefix}", file.read(), flags=re.M)
        subprocess.run([QNETCTL, "topology", "export", "-", "--format", "netns", "--output", self.folder], input=text, text=True, check=True,
                       stdout=subprocess.DEVNULL)
        self.environment = {**os.environ, "QNETD": QNETD, "QNETCTL": QNETCTL}

    def sh(self, *words, check=True, timeout=60):
        done = subprocess.run([os.path.join(self.folder, "lab.sh"), *words], env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=timeout, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"lab.sh {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def ctl(self, node, *words, **options):
        done = self.sh("ctl", node, *words, "--json", **options)
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def check(self):
        done = subprocess.run([sys.executable, CHECK, self.network, "--netns", self.folder], env=self.environment, capture_output=True, text=True, timeout=120,
                              check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def __enter__(self):
        try:
            self.sh("up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        try:
            self.sh("down")
        finally:
            self.temporary.cleanup()

    def leftovers(self):
        namespaces = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
        return [line for line in namespaces.split() if self.prefix in line] + [
            path for path in (f"/run/qnetd-{self.prefix}", *(f"/etc/netns/qnetd-{self.prefix}-{n}" for n in ("alice", "laser"))) if os.path.exists(path)]


@unittest.skipIf(REASON, REASON)
class Namespaces(unittest.TestCase):
    def test_a_cut_fibre_is_named_and_mended(self):
        before = interfaces()
        with Lab("bb84-pair") as lab:
            self.assertEqual(interfaces(), before, "nothing outside the namespaces")
            lab.check()
            lab.sh("cut", "laser", "bob")
            self.assertIn("DOWN", lab.sh("status").stdout)
            status, lines = lab.ctl("laser", "bb84", "bob", "--timeout", "1s", check=False)
            self.assertEqual((status, lines[-1]["error"]["code"]), (5, "timeout"))
            started = time.monotonic()
            lab.ctl("laser", "wait", "--for", "peer=bob:down", "--timeout", "30s")
            lab.ctl("bob", "wait", "--for", "peer=laser:down", "--timeout", "30s")
            print(f"# silence noticed {time.monotonic() - started:.1f} s after the failed request", flush=True)
            status, lines = lab.ctl("laser", "bb84", "bob", "--timeout", "1s", check=False)
            self.assertEqual((status, lines[-1]["error"]["code"]), (1, "peer_down"))
            self.assertEqual(lab.ctl("laser", "health", check=False)[0], 4)
            lab.sh("mend", "laser", "bob")
            started = time.monotonic()
            for node in ("laser", "bob"):
                lab.ctl(node, "wait", "--for", "ready", "--timeout", "30s")
            print(f"# sessions back {time.monotonic() - started:.1f} s after the repair", flush=True)
            lab.check()
        self.assertEqual(lab.leftovers(), [])

    def test_slow_links_and_a_killed_repeater(self):
        with Lab("two-repeater-chain") as lab:
            lab.check()
            fast = self.pairs(lab)
            lab.sh("slow", "alice", "r1", "256kbit")
            slow = self.pairs(lab)
            shaped = lab.sh("exec", "alice", "tc", "-s", "-json", "qdisc", "show", "dev", "to-r1").stdout
            least = (json.loads(shaped)[0]["bytes"] - 8192) * 8 / 256e3  # The first 8 kB are free.
            self.assertGreater(least, 1, shaped)
            self.assertGreater(slow, 0.9 * least)
            self.assertLess(fast, slow / 3)
            print(f"# 200 pairs in {fast:.2f} s, over 256 kbit/s in {slow:.2f} s", flush=True)
            lab.sh("slow", "alice", "r1", "off")
            lab.sh("kill", "r1")
            lab.ctl("alice", "wait", "--for", "peer=r1:down", "--timeout", "10s")
            status, lines = lab.ctl("alice", "request-pair", "bob", "--timeout", "500ms", check=False)
            self.assertEqual((status, lines[-1]["error"]["code"]), (1, "peer_down"))
            lab.sh("start", "r1")
            for node in ("alice", "charlie", "r2", "bob"):
                lab.ctl(node, "wait", "--for", "ready", "--timeout", "20s")
            self.pairs(lab)  # The first request after a crash, by ends that may have heard of it in different ways.
            lab.check()
        self.assertEqual(lab.leftovers(), [])

    def pairs(self, lab):
        """How long two hundred take, in seconds."""
        summary = lab.ctl("alice", "request-pair", "bob", "--number", "200", "--measure", "xyz", "--quiet")[1][-1]
        self.assertEqual(summary["delivered"], 200)
        return summary["elapsed_ns"] / 1e9

    def test_the_script_refuses_nonsense(self):
        with Lab("bb84-pair") as lab:
            self.assertIn("no neighbours", lab.sh("cut", "laser", "nobody", check=False).stderr)
            self.assertIn("it is up", lab.sh("up", check=False).stderr)
            self.assertIn("is running", lab.sh("start", "bob", check=False).stderr)
            self.assertEqual(lab.sh("dance", check=False).returncode, 2)
            self.assertNotEqual(lab.sh("exec", "laser", "ip", "link", "show", "dev", "eth0", check=False).returncode, 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
