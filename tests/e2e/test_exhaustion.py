# SPDX-License-Identifier: Apache-2.0
"""What is not the network's doing: no file descriptors, nobody who reads the log, a full disk, a clock that jumps."""
import fcntl
import glob
import json
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "support")]
from harness import SANITIZED, Lab, eventually  # noqa: E402

BUILD = os.environ.get("QNETD_BUILD", "build")
QNETCTL = os.path.join(BUILD, "tools", "qnetctl", "qnetctl")
SHIM = os.environ.get("CLOCK_SHIM_LIBRARY", os.path.join(BUILD, "tests", "e2e", "clock_shim.so"))
IDEAL = "model: ideal, fidelity: 0.95, probability: 50%, length: 1km, attempt_time: 10us"


def cpu_seconds(node):
    return node.metric("process_cpu_seconds_total")


class Case(unittest.TestCase):
    def setUp(self):
        self.lab = Lab("alice", "bob", link=IDEAL)
        self.addCleanup(self.lab.close)
        self.alice, self.bob = self.lab["alice"], self.lab["bob"]

    def pairs(self, *options):
        """Whether alice and bob can do what they are for."""
        done = subprocess.run([QNETCTL, "--socket", self.alice.control_path, "request-pair", "bob", "--number", "50", "--measure", "chsh",
                               "--quiet", *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout)

    def both_ready(self):
        self.alice.wait_ready()
        self.bob.wait_ready()

    def assertUndisturbed(self):
        for plane in ("classical", "quantum"):
            self.assertEqual(self.alice.metric(f'qnetd_sessions_total{{peer="bob",plane="{plane}"}}'), 1)
            self.assertEqual(self.alice.metric(f'qnetd_session_up{{peer="bob",plane="{plane}"}}'), 1)


class Descriptors(Case):
    def silent(self, n, port=0):
        sockets = []
        for i in range(n):
            s = socket.socket()
            s.bind((f"127.9.{i // 200}.{i % 200 + 1}", 0))
            s.settimeout(1)
            try:
                s.connect(("127.0.0.1", self.bob.ports[port]))
                sockets.append(s)
            except OSError:
                s.close()
        self.addCleanup(lambda: [s.close() for s in sockets])
        return sockets

    def test_a_low_limit_means_fewer_strangers(self):
        """80 descriptors: 24 beyond what files and neighbours need, and that is what strangers get a share of."""
        self.alice.start()
        self.bob.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80)))
        self.both_ready()
        self.assertIn('"code":"descriptors_few"', self.bob.log())
        for port in (0, 1, 2):
            self.silent(100, port)
        clients = []
        for _ in range(40):
            clients.append(socket.socket(socket.AF_UNIX))
            clients[-1].connect(self.bob.control_path)
        self.addCleanup(lambda: [client.close() for client in clients])
        self.assertLess(self.bob.metric("process_open_fds"), 78)
        self.assertNotIn("descriptors_exhausted", self.bob.log())
        self.alice.kill()
        self.alice.start()
        self.both_ready()  # Among all the strangers.
        for client in clients:
            client.close()
        self.pairs()

    def test_the_soft_limit_is_raised(self):
        self.bob.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 1000)))
        eventually(lambda: self.bob.get("/livez")[0] == 200, what="alive")
        self.assertGreater(resource.prlimit(self.bob.process.pid, resource.RLIMIT_NOFILE)[0], 250)
        self.assertNotIn("descriptors_few", self.bob.log())

    def test_none_left_at_all(self):
        """Taken away while running: sessions live, no loop spins, the log says it, and all is well when they are back."""
        self.alice.start()
        self.bob.start()
        self.both_ready()
        hard = resource.prlimit(self.bob.process.pid, resource.RLIMIT_NOFILE)[1]
        with self.bob.control() as control:
            control.ask({"id": 1, "status": {}})  # Connected is not accepted yet.
            resource.prlimit(self.bob.process.pid, resource.RLIMIT_NOFILE, (3, hard))
            self.silent(50)
            self.silent(20, 2)
            before = self.cpu_ticks(self.bob)
            start = time.monotonic()
            eventually(lambda: '"code":"descriptors_exhausted"' in self.bob.log(), what="said")
            while time.monotonic() - start < 2:
                time.sleep(0.1)
            self.assertLess(self.cpu_ticks(self.bob) - before, 0.15 * os.sysconf("SC_CLK_TCK"), "no loop spins")
            self.assertNotIn("error", control.ask({"id": 1, "status": {}}))
            self.pairs()
            resource.prlimit(self.bob.process.pid, resource.RLIMIT_NOFILE, (1000, hard))
            eventually(lambda: '"code":"descriptors_back"' in self.bob.log(), what="said")
        self.bob.wait_ready()
        self.assertUndisturbed()
        self.alice.kill()
        self.alice.start()
        self.both_ready()

    def cpu_ticks(self, node):
        with open(f"/proc/{node.process.pid}/stat", encoding="utf-8") as file:
            fields = file.read().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def test_a_neighbour_that_cannot_be_dialled_for_lack_of_descriptors(self):
        self.alice.start()
        eventually(lambda: self.alice.get("/livez")[0] == 200, what="alive")
        hard = resource.prlimit(self.alice.process.pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(self.alice.process.pid, resource.RLIMIT_NOFILE, (3, hard))
        self.bob.start()
        eventually(lambda: "no classical session: the operating system refused" in self.alice.log(), what="said")
        resource.prlimit(self.alice.process.pid, resource.RLIMIT_NOFILE, (1000, hard))
        self.both_ready()


class Streams(Case):
    """Standard error is where the log goes. Whatever is at its other end, the node goes on."""

    def make_noise(self):
        for i in range(30):
            with socket.create_connection(("127.0.0.1", self.bob.ports[0]), source_address=(f"127.0.0.{i + 2}", 0)) as s:
                try:
                    s.sendall(b"hello")
                    s.recv(10)
                except ConnectionResetError:
                    pass
            for number in (1, 1, 1, 1, 1, 1):
                self.bob.signal(signal.SIGHUP)

    def fill(self):
        """Lines until one is lost; each needs a subject of its own, or it would be left out as a repetition."""
        def lost():
            with self.bob.control() as control:
                for link in range(200):
                    control.send({"id": 1, "fault": {"link": "alice-bob", "kind": 1 + 2 * (link % 2)}})  # Cut, restored.
                    control.receive()
            return self.bob.metric("qnetd_log_lost_total") > 0
        eventually(lost, seconds=30, what="lines lost")

    def test_a_pipe_nobody_reads(self):
        read_end, write_end = os.pipe()
        os.set_blocking(read_end, False)
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
        self.alice.start()
        self.bob.start(stderr=write_end, stdout=write_end)
        os.close(write_end)
        self.both_ready()
        self.make_noise()
        self.fill()
        self.pairs()
        text = os.read(read_end, 1 << 20)
        for line in text.splitlines():
            json.loads(line)  # Whole lines, all of them.

        def read_again():
            self.make_noise()
            try:
                return os.read(read_end, 1 << 16)
            except BlockingIOError:
                return b""

        eventually(read_again, seconds=15, what="lines again")
        os.close(read_end)  # And now whoever it was has gone: EPIPE.
        self.make_noise()
        self.pairs()
        self.assertEqual(self.bob.stop(), 0)

    def test_a_full_disk(self):
        with open("/dev/full", "wb") as full:
            self.alice.start()
            self.bob.start(stderr=full, stdout=full)
        self.both_ready()
        self.assertGreater(self.bob.metric("qnetd_log_lost_total"), 0)
        self.pairs()
        self.assertEqual(self.bob.stop(), 0)

    def test_closed_streams_are_not_taken_for_sockets(self):
        self.alice.start()
        self.bob.start(preexec_fn=lambda: [os.close(fd) for fd in (0, 1, 2)])
        self.both_ready()
        for fd in (0, 1, 2):
            self.assertEqual(os.readlink(f"/proc/{self.bob.process.pid}/fd/{fd}"), "/dev/null")
        self.pairs()
        self.assertEqual(self.bob.stop(), 0)

    def test_a_control_socket_that_cannot_be_made(self):
        for path in ("/proc/qnetd.sock", "/sys/qnetd.sock", "/nonexistent/qnetd.sock"):
            self.bob.start("--control", path)
            self.assertIn(self.bob.wait(), (1, 2))
        self.assertRegex(self.bob.log(), r'"code":"control_failed","subject":"/proc/qnetd.sock","msg":"[^"]*(denied|permitted|no such file|read-only)')


class Clocks(Case):
    def set(self, wall=0, monotonic=0):
        with open(self.offsets, "r+b") as file:
            file.write(struct.pack("=qq", int(wall), int(monotonic)))

    def setUp(self):
        super().setUp()
        if not os.path.exists(SHIM):
            self.skipTest(f"{SHIM} is not built")
        if SANITIZED:
            self.skipTest("the sanitizer's runtime wants to be the first library")
        self.offsets = os.path.join(self.lab.directory, "offsets")
        with open(self.offsets, "wb") as file:
            file.write(bytes(16))
        for node in (self.alice, self.bob):
            node.start(env={**os.environ, "LD_PRELOAD": SHIM, "CLOCK_SHIM": self.offsets})
        self.both_ready()

    def test_a_wall_clock_set_forth_and_back(self):
        hour, year = 3600, 365 * 86400
        for wall in (hour, -hour, 10 * year, -20 * year, 0, 1):
            self.set(wall)
            self.pairs("--timeout", "5s")
        self.assertUndisturbed()
        years = set(re.findall(r'"ts":"(\d{4})', self.alice.log()))
        self.pairs()
        self.set(10 * year)
        self.alice.signal(signal.SIGHUP)
        eventually(lambda: set(re.findall(r'"ts":"(\d{4})', self.alice.log())) != years, what="the shim works")

    def test_two_minutes_asleep(self):
        """As if the machine had been suspended: nobody is given up, and the keys, which are old now, are renewed."""
        self.set(monotonic=130)
        for node, peer in ((self.alice, "bob"), (self.bob, "alice")):
            for plane in ("classical", "quantum"):
                eventually(lambda: node.metric(f'qnetd_rekeys_total{{peer="{peer}",plane="{plane}"}}') == 1, what="new keys")
        self.pairs()
        self.assertUndisturbed()
        self.assertEqual(self.alice.metric('qnetd_rekeys_total{peer="bob",plane="classical"}'), 1)
        self.set(monotonic=260)
        eventually(lambda: self.alice.metric('qnetd_rekeys_total{peer="bob",plane="classical"}') == 2, what="new keys")
        self.pairs()
        self.assertUndisturbed()

    def test_only_stamps_come_from_the_wall_clock(self):
        allowed = {"daemon/log.c", "daemon/metrics.c", "daemon/store.c"}
        root = os.path.join(HERE, "..", "..")
        users = set()
        for path in glob.glob(os.path.join(root, "daemon", "*.[ch]")) + glob.glob(os.path.join(root, "lib", "*", "*.[ch]")):
            with open(path, encoding="utf-8") as file:
                if re.search(r"CLOCK_REALTIME|gettimeofday\(|[^a-z_]time\(NULL", file.read()):
                    users.add(os.path.relpath(path, root))
        self.assertLessEqual(users, allowed)


class Stopped(Case):
    def test_what_came_meanwhile_is_read_before_the_peer_is_given_up(self):
        """bob is stopped for nearly as long as alice is patient. What she said meanwhile is in his sockets, and he must not give
        her up for his own absence. (Longer, and she gives him up: see test_daemon.py.)"""
        self.alice.start()
        self.bob.start()
        self.both_ready()
        self.bob.signal(signal.SIGSTOP)
        time.sleep(9)
        self.bob.signal(signal.SIGCONT)
        self.bob.wait_ready()
        self.pairs()
        self.assertUndisturbed()
        self.assertNotIn("silent", self.bob.log())


if __name__ == "__main__":
    unittest.main()
