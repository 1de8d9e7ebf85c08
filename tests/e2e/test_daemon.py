# SPDX-License-Identifier: Apache-2.0
"""The daemon from the outside: files it accepts and refuses, sessions that come, break and come back, strangers on its
ports, clients on its control socket, signals. QNETD names the binary."""
import base64
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(__file__))
from harness import CONTROL, MEMORY, QNETD, SANITIZED, Lab, eventually  # noqa: E402

CUT_QUANTUM, RESTORE_QUANTUM = (CONTROL.enums["FAULT_KIND_" + kind] for kind in ("CUT_QUANTUM", "RESTORE_QUANTUM"))


def qnetd(*arguments, stdin=b""):
    return subprocess.run([QNETD, *arguments], input=stdin, capture_output=True, timeout=10)


class CommandLine(unittest.TestCase):
    def test_version_and_help(self):
        self.assertIn(b"qnetd 0.", qnetd("--version").stdout)
        self.assertIn(b"--topology", qnetd("--help").stdout)

    def test_usage_errors_exit_2(self):
        for arguments in ([], ["--nonsense"], ["--topology", "x"], ["extra"], ["--log-level", "loud"]):
            result = qnetd(*arguments)
            self.assertEqual(result.returncode, 2, arguments)
            self.assertIn(b"--help", result.stderr)

    def test_keys_are_filters(self):
        private = qnetd("genkey").stdout
        self.assertEqual(len(private), 45)
        self.assertNotEqual(private, qnetd("genkey").stdout)
        public = qnetd("pubkey", stdin=private).stdout
        self.assertEqual(len(public), 45)
        self.assertEqual(qnetd("pubkey", stdin=b"rubbish").returncode, 2)
        nine = qnetd("pubkey", stdin=b"09" + 31 * b"00" + b"\n").stdout  # RFC 7748, section 5.2, one iteration.
        self.assertEqual(base64.b64decode(nine).hex(),
                         "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079")

    def test_check(self):
        with Lab("alice", "bob") as lab:
            good = qnetd("--check", lab.topology)
            self.assertEqual(good.returncode, 0, good.stderr)
            self.assertIn(b"2 nodes, 1 links", good.stdout)
            bad = os.path.join(lab.directory, "bad.yaml")
            with open(bad, "w", encoding="utf-8") as file:
                file.write(lab.text().replace("role: memory", "role: memry"))
            result = qnetd("--check", bad)
            self.assertEqual(result.returncode, 2)
            self.assertRegex(result.stderr.decode(), rf"{bad}:\d+:\d+: error: ")
            self.assertEqual(qnetd("--check", "/nonexistent").returncode, 2)


class Configuration(unittest.TestCase):
    """A node that cannot work does not start, and says why."""

    def setUp(self):
        self.lab = Lab("alice", "bob")
        self.addCleanup(self.lab.close)

    def refused(self, *options, name="alice", topology=None):
        result = qnetd("--topology", topology or self.lab.topology, "--node", name, *options)
        self.assertEqual(result.returncode, 2, result.stderr)
        return result.stderr.decode()

    def test_unknown_node_gets_a_suggestion(self):
        self.assertIn("alice", self.refused(name="alcie"))

    def test_identity(self):
        identity = os.path.join(self.lab["alice"].state, "identity.key")
        self.assertIn("--identity", self.refused())
        self.assertIn("genkey", self.refused("--identity", "/nonexistent"))
        self.assertIn("not the one", self.refused("--identity", os.path.join(self.lab["bob"].state, "identity.key")))
        os.chmod(identity, 0o640)
        self.assertIn("chmod 600", self.refused("--identity", identity))
        os.chmod(identity, 0o600)
        os.chmod(self.lab["alice"].state, 0o770)
        self.assertIn("chmod go-w", self.refused("--identity", identity))
        os.chmod(self.lab["alice"].state, 0o700)
        with open(identity, "w", encoding="utf-8") as file:
            file.write("not a key\n")
        self.assertIn("not a private key", self.refused("--identity", identity))

    def test_addresses_and_keys_are_needed(self):
        lines = [line for line in self.lab.text().splitlines(True) if " quantum:" not in line]
        path = os.path.join(self.lab.directory, "short.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(lines)
        text = self.refused("--state", self.lab["alice"].state, topology=path)
        self.assertIn("alice has no `quantum` address", text)
        self.assertIn("bob has no `quantum` address", text)

    def test_port_in_use_is_a_runtime_error(self):
        node = self.lab["alice"]
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", node.ports[1]))
            taken.listen()
            node.start()
            self.assertEqual(node.wait(), 1)
        self.assertIn("listen_failed", node.log())


class Sessions(unittest.TestCase):
    def setUp(self):
        self.lab = Lab("alice", "bob")
        self.addCleanup(self.lab.close)
        self.alice, self.bob = self.lab["alice"], self.lab["bob"]

    def start_both(self):
        self.alice.start()
        self.bob.start()
        self.alice.wait_ready()
        self.bob.wait_ready()

    def test_either_may_start_first(self):
        for first, second in ((self.alice, self.bob), (self.bob, self.alice)):
            first.start()
            eventually(lambda: first.get("/livez")[0] == 200, what="alive")
            self.assertEqual(first.get("/readyz")[0], 503)
            time.sleep(0.3)
            second.start()
            first.wait_ready()
            second.wait_ready()
            self.assertEqual(first.stop(), 0, first.log())
            self.assertEqual(second.stop(), 0, second.log())

    def test_reconnects_after_a_kill_or_a_stop(self):
        self.start_both()
        for victim, other in ((self.bob, self.alice), (self.alice, self.bob)):
            victim.kill()
            eventually(lambda: not other.is_ready(), what="not ready")
            victim.start()
            victim.wait_ready()
            other.wait_ready()
            self.assertIn('"code":"peer_gone"', other.log())
        self.assertEqual(self.bob.stop(), 0)
        eventually(lambda: not self.alice.is_ready(), what="not ready")
        self.assertIn("the node is stopping", self.alice.log())
        self.bob.start()
        self.alice.wait_ready()

    def test_a_stopped_process_is_not_given_up_at_once(self):
        self.start_both()
        sessions = 'qnetd_sessions_total{peer="bob",plane="classical"}'
        self.bob.signal(signal.SIGSTOP)
        time.sleep(1)
        self.bob.signal(signal.SIGCONT)
        self.bob.wait_ready()
        self.assertEqual(self.alice.metric(sessions), 1)

    def test_a_silent_peer_is_given_up_and_taken_back(self):
        self.start_both()
        self.bob.signal(signal.SIGSTOP)
        start = time.monotonic()
        eventually(lambda: "the peer is silent" in self.alice.log(), seconds=25, what="given up")
        self.assertGreater(time.monotonic() - start, 9, "silence for 15 s, of which up to 5 s had passed")
        self.bob.signal(signal.SIGCONT)
        self.alice.wait_ready()
        self.bob.wait_ready()
        self.assertNotIn("peer_gone", self.alice.log(), "it is the same incarnation")

    def test_different_topologies_refuse_each_other(self):
        other = os.path.join(self.lab.directory, "other.yaml")
        with open(other, "w", encoding="utf-8") as file:
            file.write(self.lab.text().replace("1km", "2km"))
        self.alice.start()
        self.bob.start(topology=other)
        for node in (self.alice, self.bob):
            eventually(lambda: "different topologies" in node.log(), what="refused")
        self.assertFalse(self.alice.is_ready())
        self.assertFalse(self.bob.is_ready())
        time.sleep(2)  # They do not spin: attempts are paused ever longer.
        self.assertLess(self.alice.metric('qnetd_handshake_failures_total{plane="classical",reason="topology"}'), 15)

    def test_wrong_key_is_refused(self):
        old = self.lab.keys["bob"]
        self.lab.make_identity(self.bob)
        with open(self.lab.topology, encoding="utf-8") as file:
            text = file.read()
        theirs = os.path.join(self.lab.directory, "theirs.yaml")
        with open(theirs, "w", encoding="utf-8") as file:
            file.write(text.replace(old, self.lab.keys["bob"]))
        self.alice.start()  # Pins bob's old key.
        self.bob.start(topology=theirs)
        eventually(lambda: self.bob.get("/livez")[0] == 200, what="alive")
        failures = 'qnetd_handshake_failures_total{plane="quantum",reason="auth"}'
        eventually(lambda: self.bob.metric(failures) > 0, what="refused")
        self.assertFalse(self.alice.is_ready())

    def test_a_cut_holds_from_either_end_without_flapping(self):
        self.start_both()
        for node in (self.alice, self.bob):
            other = self.bob if node is self.alice else self.alice
            sessions = f'qnetd_sessions_total{{peer="{node.name}",plane="quantum"}}'
            with node.control() as control:
                before = other.metric(sessions)
                self.assertNotIn("error", control.ask({"id": 1, "fault": {"link": "alice-bob", "kind": CUT_QUANTUM}}))
                eventually(lambda: not node.is_ready() and not other.is_ready(), what="not ready")
                time.sleep(1)
                self.assertEqual(other.metric(sessions), before)
                self.assertEqual(other.metric(f'qnetd_session_up{{peer="{node.name}",plane="classical"}}'), 1)
                self.assertNotIn("error", control.ask({"id": 2, "fault": {"link": "alice-bob", "kind": RESTORE_QUANTUM}}))
            node.wait_ready()
            other.wait_ready()

    def test_second_signal_ends_at_once_and_sigterm_in_order(self):
        self.start_both()
        self.alice.signal(signal.SIGINT)
        self.assertEqual(self.alice.wait(), 0)
        self.assertIn('"code":"stopped"', self.alice.log())
        self.assertFalse(os.path.exists(self.alice.control_path))
        self.assertEqual(self.bob.stop(), 0)

    def test_sighup_is_honest(self):
        self.start_both()
        self.alice.signal(signal.SIGHUP)
        eventually(lambda: "reload_unchanged" in self.alice.log(), what="unchanged")
        with open(self.lab.topology, "a", encoding="utf-8") as file:
            file.write("# A comment.\n")
        self.alice.signal(signal.SIGHUP)
        eventually(lambda: "reload_needs_restart" in self.alice.log(), what="changed")
        with open(self.lab.topology, "a", encoding="utf-8") as file:
            file.write("nonsense: 1\n")
        self.alice.signal(signal.SIGHUP)
        eventually(lambda: "reload_refused" in self.alice.log(), what="refused")
        os.rename(self.lab.topology, self.lab.topology + ".old")
        with open(self.lab.topology, "w", encoding="utf-8") as file:
            file.write(self.lab.text())
        if "landlock" in self.alice.log():
            self.alice.signal(signal.SIGHUP)
            eventually(lambda: "reload_hidden" in self.alice.log(), what="hidden")
        self.assertTrue(self.alice.is_ready())

    def test_log_is_json_lines_without_secrets(self):
        self.start_both()
        for line in self.alice.log().splitlines():
            entry = json.loads(line)
            self.assertEqual(entry["node"], "alice")
            self.assertRegex(entry["ts"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
        with open(os.path.join(self.alice.state, "identity.key"), encoding="utf-8") as file:
            self.assertNotIn(file.read().strip(), self.alice.log())

    def test_service_manager_is_told(self):
        path = os.path.join(self.lab.directory, "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(path)
            manager.settimeout(10)
            os.environ.update(NOTIFY_SOCKET=path, WATCHDOG_USEC="200000")
            try:
                self.alice.start()
            finally:
                del os.environ["NOTIFY_SOCKET"], os.environ["WATCHDOG_USEC"]
            self.assertEqual(manager.recv(100), b"READY=1")
            self.assertEqual(manager.recv(100), b"WATCHDOG=1")
            self.alice.signal(signal.SIGTERM)
            while (message := manager.recv(100)) == b"WATCHDOG=1":
                pass
            self.assertEqual(message, b"STOPPING=1")
            self.assertEqual(self.alice.wait(), 0)


class Sandbox(unittest.TestCase):
    """What it keeps out is in tests/unit/sandbox.c; every other test here runs inside it."""

    def setUp(self):
        with open(QNETD, "rb") as file:
            if re.search(b"__[at]san_init", file.read()):
                self.skipTest("a build with a sanitizer is not confined")
        self.lab = Lab("alice", "bob")
        self.addCleanup(self.lab.close)
        self.alice, self.bob = self.lab["alice"], self.lab["bob"]

    def status_line(self, node, name):
        with open(f"/proc/{node.process.pid}/status", encoding="utf-8") as file:
            return next(line.split()[1:] for line in file if line.startswith(name + ":"))

    @unittest.skipIf(SANITIZED, "off in this build")
    def test_on_by_default_and_says_so(self):
        self.alice.start()
        self.bob.start("--sandbox", "off")
        self.alice.wait_ready()
        self.bob.wait_ready()
        self.assertEqual([self.status_line(node, "Seccomp") for node in (self.alice, self.bob)], [["2"], ["0"]])
        self.assertEqual([self.status_line(node, "NoNewPrivs") for node in (self.alice, self.bob)], [["1"], ["0"]])
        self.assertEqual(self.status_line(self.alice, "CapPrm"), ["0000000000000000"])
        uid = os.geteuid()
        self.assertEqual(self.bob.metric(f'qnetd_sandbox_info{{uid="{uid}",no_new_privs="0",landlock="0",seccomp="0"}}'), 1)
        self.assertIn(f'qnetd_sandbox_info{{uid="{uid}",no_new_privs="1",landlock="', self.alice.get("/metrics")[1])
        with self.alice.control() as control:
            self.assertIn("seccomp", control.ask({"id": 7, "status": {}})["status"]["sandbox"])
        self.assertIn('"code":"sandbox"', self.alice.log())

    @unittest.skipIf(SANITIZED, "the leak detector may not look into another user's process")
    def test_goes_on_as_another_user(self):
        if os.geteuid() != 0:
            self.skipTest("only root can change to another user")
        self.alice.start("--user", "nobody", "--sandbox", "require")
        self.assertEqual(self.alice.wait(), 1)
        self.assertIn("cannot use the state directory", self.alice.log())
        os.chmod(self.lab.directory, 0o755)
        os.chown(self.alice.state, 65534, 65534)
        self.alice.start("--user", "nobody", "--sandbox", "require")
        self.bob.start()
        self.alice.wait_ready()
        self.assertEqual(self.status_line(self.alice, "Uid"), ["65534"] * 4)
        self.assertEqual(self.status_line(self.alice, "Groups"), [])
        self.assertGreater(self.alice.metric("process_open_fds"), 5)
        self.assertGreater(self.alice.metric("process_resident_memory_bytes"), 1e6)
        self.assertEqual(os.stat(self.alice.control_path).st_uid, 65534)
        self.assertEqual(self.alice.stop(), 0)
        self.assertFalse(os.path.exists(self.alice.control_path))


class Strangers(unittest.TestCase):
    """Whatever is thrown at the ports, the node goes on."""

    def setUp(self):
        self.lab = Lab("alice", "bob")
        self.addCleanup(self.lab.close)
        self.alice, self.bob = self.lab["alice"].start(), self.lab["bob"].start()
        self.alice.wait_ready()
        self.bob.wait_ready()

    def tearDown(self):
        self.assertTrue(self.alice.is_ready())
        self.assertTrue(self.bob.is_ready())
        self.assertEqual(self.bob.stop(), 0, self.bob.log())
        self.assertEqual(self.alice.stop(), 0, self.alice.log())

    def connect(self, port, source="127.0.0.2"):
        s = socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0))
        self.addCleanup(s.close)
        return s

    def test_garbage_is_cut_off(self):
        rubbish = [b"\0" * 100, b"GET / HTTP/1.1\r\n\r\n", os.urandom(100000), b"QNET", b"QNET" + os.urandom(5000),
                   b"\x16\x03\x01"]
        for port in self.bob.ports[:2]:
            for i, data in enumerate(rubbish):
                s = self.connect(port, f"127.0.0.{i + 2}")
                try:
                    s.sendall(data)
                    if data != b"QNET":
                        self.assertEqual(s.recv(1000), b"", "strangers are told nothing")
                except (ConnectionResetError, BrokenPipeError):
                    pass
                s.close()
        failures = self.bob.metric('qnetd_handshake_failures_total{plane="classical",reason="auth"}')
        self.assertGreaterEqual(failures, 4)

    def test_operations_port_takes_rubbish_and_pipelines(self):
        port = self.bob.ports[2]
        s = self.connect(port)
        s.sendall(b"GET /livez HTTP/1.1\r\n\r\nGET /version HTTP/1.1\r\nConnection: close\r\n\r\n")
        data = b""
        while more := s.recv(10000):
            data += more
        self.assertEqual(data.count(b"HTTP/1.1 200 OK"), 2)
        for request, status in ((b"POST /livez HTTP/1.1\r\n\r\n", b"405"), (b"\x00\x01\n\n", b"400"),
                                (b"x" * 9000, b"431"), (b"GET /other HTTP/1.1\r\n\r\n", b"404")):
            s = self.connect(port)
            s.sendall(request)
            self.assertIn(status, s.recv(1000).split(b"\r\n")[0])

    def test_metrics_are_well_formed(self):
        status, text = self.bob.get("/metrics")
        self.assertEqual(status, 200)
        seen = set()
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                name = line.split()[2]
                self.assertNotIn(name, seen, "a name is typed once")
                seen.add(name)
            elif not line.startswith("#"):
                float(line.rpartition(" ")[2])
        self.assertIn("qnetd_build_info", seen)


class ControlSocket(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.lab = Lab("alice", "bob")
        cls.alice, cls.bob = cls.lab["alice"].start(), cls.lab["bob"].start()
        cls.alice.wait_ready()
        cls.bob.wait_ready()

    @classmethod
    def tearDownClass(cls):
        cls.lab.close()

    def test_only_the_owner_may_use_it(self):
        self.assertEqual(os.stat(self.alice.control_path).st_mode & 0o777, 0o600)

    def test_version(self):
        with self.alice.control() as control:
            answer = control.ask({"id": 7, "version": {}})
            self.assertEqual(answer["id"], 7)
            self.assertIn("qnetd", answer["version"]["software"])

    def test_status_tells_of_the_sessions(self):
        with self.alice.control() as control:
            answer = control.ask({"id": 1, "status": {}})
            self.assertIn("status", answer)
            self.assertIn("qnetd 0.", answer["status"]["software"])

    def test_requests_may_be_pipelined_and_cut_anywhere(self):
        with self.alice.control() as control:
            data = b""
            for i in range(1, 101):
                body = bytes([8, i, 0x72, 0])  # ControlRequest{id: i, version: {}}
                data += struct.pack(">I", len(body)) + body
            for at in range(0, len(data), 7):
                control.socket.sendall(data[at:at + 7])
            self.assertEqual([control.receive()["id"] for _ in range(100)], list(range(1, 101)))

    def test_rubbish_is_answered_with_an_error_and_the_end(self):
        for data in (struct.pack(">I", 3) + b"\xff\xff\xff", struct.pack(">I", 0x7FFFFFFF)):
            with self.alice.control() as control:
                control.socket.sendall(data)
                self.assertIn("error", control.receive())
                with self.assertRaises(EOFError):
                    control.receive()

    def test_a_client_that_does_not_read_is_not_read(self):
        body = bytes([8, 1, 0x72, 0])
        before = self.alice.metric("process_resident_memory_bytes")
        requests = (struct.pack(">I", len(body)) + body) * 1000
        with self.alice.control() as slow:
            slow.socket.settimeout(1)
            n_bytes = 0
            with self.assertRaises(TimeoutError):
                while n_bytes < 50e6:
                    n_bytes += slow.socket.send(requests[n_bytes % 8:])
            with self.alice.control() as other:
                self.assertIn("version", other.ask({"id": 1, "version": {}}))
            self.assertLess(self.alice.metric("process_resident_memory_bytes") - before, 8e6 * MEMORY)
            slow.socket.settimeout(10)
            for _ in range(n_bytes // 8):
                slow.receive()

    def test_a_client_may_go_away_at_any_time(self):
        for _ in range(20):
            with self.alice.control() as control:
                control.send({"id": 1, "status": {}})
        self.assertTrue(self.alice.is_ready())

    def test_events_backlog_and_follow(self):
        with self.alice.control() as control:
            control.send({"id": 1, "events": {"backlog": 100}})
            n = 0
            while (answer := control.receive()).get("more"):
                self.assertIn("event", answer)
                n += 1
            self.assertGreater(n, 0)
            control.send({"id": 2, "events": {"follow": True}})
            control.ask({"id": 3, "version": {}})  # The subscription stands.
            self.lab["bob"].kill()
            self.assertEqual(control.receive()["id"], 2)
            self.lab["bob"].start().wait_ready()
            control.send({"id": 4, "cancel": {"id": 2}})
            while (answer := control.receive())["id"] != 4:
                self.assertEqual(answer["id"], 2)

    def test_subscribers_are_bounded(self):
        clients = [self.alice.control() for _ in range(33)]
        for client in clients:
            client.send({"id": 1, "events": {"follow": True}})
        self.assertIn("error", clients[-1].receive())
        for client in clients:
            client.close()

    def test_a_second_daemon_does_not_take_it(self):
        result = qnetd("--topology", self.lab.topology, "--node", "alice", "--state", self.alice.state)
        self.assertEqual(result.returncode, 1)
        with self.alice.control() as control:
            self.assertIn("version", control.ask({"id": 1, "version": {}}))


class Stop(unittest.TestCase):
    def test_by_request_and_a_stale_socket_is_no_obstacle(self):
        with Lab("alice", "bob") as lab:
            alice = lab["alice"].start()
            eventually(lambda: os.path.exists(alice.control_path), what="socket")
            alice.kill()
            self.assertTrue(os.path.exists(alice.control_path))
            alice.start()
            eventually(lambda: alice.get("/livez")[0] == 200, what="alive")
            with alice.control() as control:
                self.assertEqual(control.ask({"id": 9, "stop": {}}), {"id": 9})
            self.assertEqual(alice.wait(), 0)

    def test_killed_while_it_starts_for_the_first_time(self):
        """Whatever it had written of its state by then."""
        for i in range(25):
            with Lab("alice", "bob") as lab:
                alice = lab["alice"].start()
                eventually(lambda: os.path.exists(alice.control_path), what="socket")
                time.sleep(0.0005 * i)
                alice.kill()
                alice.start()
                eventually(lambda: alice.get("/livez")[0] == 200 or alice.process.poll() is not None, what="alive")
                self.assertIsNone(alice.process.poll(), alice.log())


if __name__ == "__main__":
    unittest.main()
