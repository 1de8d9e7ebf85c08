# SPDX-License-Identifier: Apache-2.0
"""Every limit of daemon/README.md, from the outside, line by line: strangers, neighbours that break the rules, slow readers
and slow writers. The hostile end is tests/support/noise_peer.py; it takes the part of alice, who dials bob. bob's session
with carol is the honest one, and must not notice."""
import os
import random
import socket
import struct
import sys
import threading
import time
import unittest

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support")]
from harness import MEMORY, Lab, eventually  # noqa: E402
from noise_peer import CLASSICAL, CONTROL, ENVELOPE, ENVELOPES, QUANTUM, Closed, Peer, field, golden_bodies, with_length  # noqa: E402

REASON_PROTOCOL, REASON_OVERLOAD, REASON_VERSION, REASON_TOPOLOGY = 3, 4, 6, 7


class Network(unittest.TestCase):
    """bob and carol run; alice is ours to play."""
    options = ()

    @classmethod
    def setUpClass(cls):
        cls.lab = Lab("alice", "bob", "carol")
        cls.addClassCleanup(cls.lab.close)
        cls.bob, cls.carol = cls.lab["bob"].start(*cls.options), cls.lab["carol"].start()
        for plane in ("classical", "quantum"):
            eventually(lambda: cls.bob.get("/livez")[0] == 200 and cls.bob.metric(f'qnetd_session_up{{peer="carol",plane="{plane}"}}'),
                       what="bob and carol")
        with open(os.path.join(cls.lab["alice"].state, "identity.key"), encoding="utf-8") as file:
            cls.private = file.read()
        cls.addClassCleanup(cls.ends_well)

    @classmethod
    def ends_well(cls):
        """In order, and, in a build that looks, without a leak."""
        status = cls.bob.stop()
        assert status == 0, f"status {status}:\n{cls.bob.log()[-3000:]}"

    def run(self, result=None):
        """What bob said belongs to a failure, too."""
        n = len(result.failures) + len(result.errors)
        super().run(result)
        if len(result.failures) + len(result.errors) > n:
            print("".join(f"# bob: {line}\n" for line in self.bob.log().splitlines()[-30:]), flush=True)

    def tearDown(self):
        """Whatever happened: bob lives, and carol has noticed nothing."""
        self.assertIsNone(self.bob.process.poll(), self.bob.log()[-3000:])
        for plane in ("classical", "quantum"):
            labels = f'{{peer="carol",plane="{plane}"}}'
            self.assertEqual(self.bob.metric("qnetd_session_up" + labels), 1)
            self.assertEqual(self.bob.metric("qnetd_sessions_total" + labels), 1)

    def peer(self, plane=CLASSICAL, **options):
        options = {"private": self.private, "remote": self.lab.keys["bob"], "source": self.address(), **options}
        peer = Peer(self.bob.ports[plane], plane=plane, **options)
        self.addCleanup(peer.close)
        return peer

    def connect(self, port=0, source=None):
        s = socket.create_connection(("127.0.0.1", self.bob.ports[port]), timeout=10, source_address=(source or self.address(), 0))
        self.addCleanup(s.close)
        return s

    n_addresses = 0

    @classmethod
    def address(cls):
        """Another stranger each time."""
        Network.n_addresses += 1
        return f"127.{1 + Network.n_addresses // 62500}.{Network.n_addresses // 250 % 250}.{2 + Network.n_addresses % 250}"

    def failures(self, reason, plane="classical"):
        return self.bob.metric(f'qnetd_handshake_failures_total{{plane="{plane}",reason="{reason}"}}')

    def refused(self, reason, plane="classical"):
        return self.bob.metric(f'qnetd_connections_refused_total{{plane="{plane}",reason="{reason}"}}')

    def assertLogged(self, detail):
        """In the log, or one of those like it that were left out."""
        type(self).n_logged = getattr(self, "n_logged", 0) + 1
        if self.n_logged <= 5:
            self.assertRegex(self.bob.log(), f'"subject":"alice","msg":"[^"]*{detail}')

    def assertHungUp(self, s, told=b""):
        """The end, and not a byte before it but `told`."""
        try:
            data = b""
            while more := s.recv(10000):
                data += more
        except ConnectionResetError:
            pass
        self.assertEqual(data, told)


class Rates(Network):
    """Connections of one address: 5 and 2 for alice at once, then 20 a second."""

    def test_an_address_that_comes_too_often(self):
        before = self.refused("rate")
        source = self.address()
        start = time.monotonic()
        crowd = [self.connect(source=source) for _ in range(60)]
        served = 7 + 20 * (time.monotonic() - start) + 1
        eventually(lambda: self.refused("rate") - before >= 60 - served, what="refused")
        self.assertIn('"code":"connection_refused"', self.bob.log())
        self.peer().open()  # Another address is served at once.
        for s in crowd:
            s.close()
        eventually(lambda: self.connect_and_is_kept(source), what="tokens come back")

    def connect_and_is_kept(self, source):
        before = self.refused("rate")
        s = self.connect(source=source)
        self.peer().open().close()  # Whatever was to be done with the first has been done.
        s.close()
        return self.refused("rate") == before

    def test_both_ports_count_together(self):
        before = self.refused("rate", "quantum")
        source = self.address()
        for port in (0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1):
            self.connect(port, source)
        eventually(lambda: self.refused("rate", "quantum") > before, what="refused")


class Strangers(Network):
    options = ("--connection-rate", "0")

    def test_half_open_connections_of_one_address(self):
        before, source = self.refused("full"), self.address()
        silent = [self.connect(source=source) for _ in range(20)]
        eventually(lambda: self.refused("full") - before == 2, what="2 over the limit of 16, and 2 for alice")
        for s in silent[:2]:  # The oldest have made way.
            self.assertHungUp(s)
        self.peer(source=source).open()  # And would for alice.
        for s in silent[3:]:
            s.close()

    def test_half_open_connections_of_many_addresses_keep_nobody_out(self):
        before = self.refused("full")
        silent = [self.connect() for _ in range(100)]
        eventually(lambda: self.refused("full") - before == 34, what="34 over the limit of 64, and 2 for alice")
        for _ in range(5):
            self.peer().open().close()
        # Who knows bob's key and has shown it keeps its place for a while.
        known = self.peer()
        known.socket.sendall(known.preface())
        silent += [self.connect() for _ in range(100)]
        known.socket.sendall(known.message_1())
        known.read_2()
        known.socket.sendall(known.message_3())
        known.split()
        known.ping()
        for s in silent:
            s.close()

    def test_every_stranger_gets_the_same_answer(self):
        """Nothing at all; the reason is in a counter."""
        wrong_network, wrong_key = self.peer(network="other"), self.peer(remote=os.urandom(32))
        wrong_plane, wrong_port = self.peer(), self.peer(QUANTUM)
        wrong_plane.plane = QUANTUM
        wrong_port.plane = CLASSICAL
        low_order = self.peer()
        first = low_order.message_1()
        changed = bytearray(self.peer().preface())
        changed[4] ^= 2  # A downgrade, which the MAC covers.
        for data, reason, plane in (
                (b"GET / HTTP/1.1\r\n\r\n", "auth", 0), (b"\x16\x03\x01\x02\x00", "auth", 0), (os.urandom(70000), "auth", 0),
                (b"QNET" + os.urandom(20), "auth", 0), (bytes(changed), "auth", 0),
                (wrong_network.preface() + wrong_network.message_1(), "auth", 0),
                (wrong_key.preface() + wrong_key.message_1(), "auth", 0),
                (wrong_plane.preface(), "protocol", 0), (wrong_port.preface(), "protocol", 1),
                (low_order.preface() + with_length(bytes(32) + first[34:]), "auth", 0),
                (low_order.preface() + struct.pack(">H", 353), "protocol", 0),
                (low_order.preface() + struct.pack(">H", 15), "protocol", 0)):
            name = ("classical", "quantum")[plane]
            before = self.failures(reason, name)
            s = self.connect(plane)
            try:
                s.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                pass
            self.assertHungUp(s)
            eventually(lambda: self.failures(reason, name) == before + 1, what=f"{data[:40]}: counted as {reason}")

    def test_a_key_nobody_knows_is_told_no_more(self):
        before = self.failures("auth")
        peer = self.peer(private=os.urandom(32))
        with self.assertRaises(Closed) as closed:
            peer.open()  # Up to message 2, as it knows bob's key.
        self.assertIsNone(closed.exception.reason)
        self.assertEqual(self.failures("auth"), before + 1)
        self.assertIn("unknown key", self.bob.log())
        for name in ("bob", "carol"):  # Keys of the network, but not of one who dials bob.
            with open(os.path.join(self.lab[name].state, "identity.key"), encoding="utf-8") as file:
                peer = self.peer(private=file.read())
            with self.assertRaises(Closed):
                peer.open()

    def test_a_recorded_handshake_opens_nothing(self):
        peer = self.peer()
        recorded = [peer.preface(), peer.message_1()]
        peer.socket.sendall(b"".join(recorded))
        peer.read_2()
        recorded.append(peer.message_3())
        peer.socket.sendall(recorded[2])
        peer.split()
        peer.ping()
        before = self.failures("auth")
        s = self.connect()
        s.sendall(b"".join(recorded))
        s.settimeout(10)
        answer = s.recv(2)
        s.recv(struct.unpack(">H", answer)[0])  # Message 2, with an ephemeral key of its own.
        self.assertHungUp(s)
        self.assertEqual(self.failures("auth"), before + 1)

    def test_strangers_do_not_flood_the_log(self):
        size = os.path.getsize(self.bob.log_path)
        for _ in range(300):
            s = self.connect()
            s.sendall(b"hello")
            self.assertHungUp(s)
        with open(self.bob.log_path, encoding="utf-8") as log:
            log.seek(size)
            lines = [line for line in log if "handshake_failed" in line]
        self.assertLessEqual(len(lines), 20)


class Hellos(Network):
    """The peer has alice's key; what it says of itself is wrong. It is told why."""
    options = ("--connection-rate", "0")

    def expect(self, reason, detail, counter, **options):
        before = self.failures(counter)
        with self.assertRaises(Closed) as closed:
            self.peer(**options).open()
        self.assertEqual(closed.exception.reason, reason, detail)
        self.assertIn(detail, closed.exception.detail)
        self.assertEqual(self.failures(counter), before + 1)
        self.assertLogged(detail)

    def test_versions(self):
        for versions, agreed in (((1, 1), 1), ((2, 2), 2), ((1, 2), 2), ((2, 255), 2), ((0, 9), 2), ((0, 1), 1)):
            with self.peer(versions=versions) as peer:
                peer.open()
                self.assertEqual(self.bob.metric('qnetd_protocol_version{peer="alice",plane="classical"}'), agreed)
        self.expect(REASON_VERSION, "no protocol version in common", "version", versions=(3, 9))
        self.expect(REASON_VERSION, "no protocol version in common", "version", versions=(0, 0))
        self.expect(REASON_VERSION, "no protocol version in common", "version", versions=(2, 1))

    def test_other_versions_than_in_the_preface(self):
        self.expect(REASON_PROTOCOL, "malformed Hello", "protocol", hello={"protocol_max": 1})
        self.expect(REASON_PROTOCOL, "malformed Hello", "protocol", hello={"protocol_min": 2})

    def test_topology_incarnation_name(self):
        self.expect(REASON_TOPOLOGY, "different topologies", "topology", hello={"topology_digest": os.urandom(32)})
        self.expect(REASON_PROTOCOL, "malformed Hello", "protocol", hello={"topology_digest": bytes(31)})
        self.expect(REASON_PROTOCOL, "malformed Hello", "protocol", hello={"incarnation": 0})
        self.expect(REASON_PROTOCOL, "the key belongs to another node", "auth", hello={"node": 2})
        self.expect(REASON_PROTOCOL, "the key belongs to another node", "auth", hello={"node": 2**32 - 1})


def tree(depth, width):
    """A submessage in a submessage ..., `width` in each, all empty but for that, of an unknown number. Cut at 20,000 bytes."""
    body = b""
    for _ in range(depth):
        body = field(99, body) * width if len(body) * width < 20000 else field(99, body)
    return body


class Insiders(Network):
    """A neighbour whose key is right breaks a rule: it is told which, it is counted, its session ends; it may come again."""
    options = ("--connection-rate", "0")

    def expect(self, detail, act, plane=CLASSICAL, versions=(1, 2), counter="protocol", reason=REASON_PROTOCOL):
        name = ("classical", "quantum")[plane]
        before = self.failures(counter, name)
        peer = self.peer(plane, versions=versions).open()
        try:
            act(peer)
        except (BrokenPipeError, ConnectionResetError):
            pass
        closed = peer.expect_close()
        self.assertEqual(closed.reason, reason, f"{detail}: {closed}")
        self.assertIn(detail, closed.detail)
        self.assertEqual(self.failures(counter, name), before + 1)
        self.assertLogged(detail)
        peer.close()

    def test_frames(self):
        def changed(peer):
            frame = bytearray(peer.frame(b"\2\0\1x"))
            frame[-1] ^= 1
            peer.socket.sendall(frame)

        def repeated(peer):
            frame = peer.frame(peer.control({"keep_alive": {"token": 1}}))
            peer.socket.sendall(frame + frame)

        def left_out(peer):
            peer.frame(peer.control({}))
            peer.send_frame(peer.control({}))

        def old_key(peer):
            peer.send_frame(peer.control({"rekey": {}}))
            peer.send_frame(peer.control({}))

        for act in (changed, repeated, left_out, old_key):
            self.expect("a frame was changed, lost or repeated on the way", act, counter="auth")
        for size in (0, 1, 16):
            self.expect("a frame of an impossible length", lambda peer: peer.socket.sendall(with_length(bytes(size))))
        for kind in (0, 3, 255):
            self.expect("unknown kind of frame", lambda peer: peer.send_frame(bytes([kind]) + b"\0\1x"))
        self.expect("unknown kind of frame", lambda peer: peer.send_frame(bytes([ENVELOPES])))
        for body in (b"\0\0", b"\0\5xxxx", b"\xff\xffx"):
            self.expect("an envelope longer than its frame", lambda peer: peer.send_frame(bytes([ENVELOPES]) + body))
        for body in (b"\xff", b"\x0a\5\x08", b"\x0a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"):
            self.expect("malformed session control", lambda peer: peer.send_frame(bytes([CONTROL]) + body))
        self.expect("a renewal of keys the agreed version does not have", lambda peer: peer.rekey(), versions=(1, 1))

    def test_envelopes(self):
        malformed, kind = "an envelope that is malformed, or too large when unpacked", "a message on the other plane's channel"
        photon = {"attempt": {}}
        for detail, plane, fields in (
                ("from no node of the topology", CLASSICAL, {"from": 3}), ("from no node of the topology", CLASSICAL, {"from": 2**32 - 1}),
                ("in this node's own name", CLASSICAL, {"from": 1}), ("an unknown channel", CLASSICAL, {"channel": 2, "seq": 1}),
                ("to no node of the topology", CLASSICAL, {"to": 77}), ("gone in circles", CLASSICAL, {"to": 2, "hops": 64}),
                ("another life than its session's", CLASSICAL, {"from_incarnation": 4711}),
                ("a photon that did not come", CLASSICAL, {"photon": photon}),
                ("a photon that did not come", QUANTUM, {"photon": photon, "from": 2}),
                ("a photon that did not come", QUANTUM, {"photon": photon, "to": 2}),
                ("a photon of an unknown kind", QUANTUM, {"photon": {}}),
                ("a classical envelope on the quantum plane", QUANTUM, {"link_create": {}}),
                (kind, CLASSICAL, {"plane": {}}), (kind, CLASSICAL, {"link_create": {}, "channel": 1, "seq": 1}),
                ("a hosting message that contradicts itself", CLASSICAL, {"plane": {}, "channel": 1}),
                ("a hosting message that contradicts itself", QUANTUM, {"plane": {"ship": {}}, "channel": 1})):
            self.expect(detail, lambda peer: peer.send_envelope(fields), plane)
        for raw in (b"\xff\xff", b"\x08", b"\x82\x01\x05x", b"\x07", b"\0\0"):
            self.expect(malformed, lambda peer: peer.send_envelope(raw=raw))

    def test_bombs(self):
        """Small on the wire, large when unpacked, or deep, or slow."""
        malformed = "an envelope that is malformed, or too large when unpacked"
        hints = field(16, field(3, b"\x1a\0" * 15000))  # OpResult with 15,000 empty hints: a megabyte of structs.
        members = field(16, field(6, b"\x22\0" * 15000))  # Ship.
        fields = field(16, field(3, b"\x08\1" * 30000))  # One field of OpResult, again and again.
        unknown = b"\xf8\x3e\1" * 20001  # Fields nobody knows.
        bodies = b"\x82\x01\0" * 21000  # An empty PlaneMessage, again and again: each takes the place of the last.
        for raw in (hints, members, fields, unknown, bodies):
            self.assertLess(len(raw), 65400)
            self.expect(malformed, lambda peer: peer.send_envelope({"channel": 1}, raw=raw))
        before = self.bob.metric("process_resident_memory_bytes")
        peer = self.peer().open()
        for _ in range(100):
            peer.send_envelope(raw=field(16, tree(9, 4)) + field(900, bytes(30000)), seq=0, channel=1)
        peer.ping()  # What is unknown is not unpacked, however deep.
        self.assertLess(self.bob.metric("process_resident_memory_bytes") - before, 4e6 * MEMORY)

    def test_what_later_versions_may_send_is_no_offence(self):
        peer = self.peer().open()
        peer.send_envelope(raw=field(500, b"news") + b"\xf8\x3e\x07")  # Unknown fields, no body.
        peer.send_frame(bytes([CONTROL]) + field(77, b"\x08\1"))  # An unknown body.
        peer.send_frame(peer.control({"keep_alive": {"token": 5, "reply": True}}))  # The answer to no question.
        peer.send_frame(peer.control({"keep_alive": {"token": 2**64 - 1, "reply": True}}))
        for _ in range(1000):
            peer.rekey()
        peer.ping()
        peer.send_frame(peer.control({"close": {"reason": 4000000, "detail": "\x1b[2J" + "x" * 200}}))
        self.assertIsNone(peer.expect_close().reason)
        self.assertNotIn("\\u001b", self.bob.log())

    def test_numbers_of_a_channel(self):
        """Duplicates, gaps, acknowledgements of what was never sent: dropped, and answered with what has arrived."""
        peer = self.peer().open()
        for seq in (1, 1, 3, 2**63, 2**64 - 1, 2, 2, 1):
            peer.send_envelope({"seq": seq, "ack": 2**64 - 1})
        peer.send_envelope({"seq": 0, "ack": 12345})
        peer.send_envelope({"seq": 3, "to_incarnation": 4711})  # To somebody bob never was.
        peer.receive_until(lambda: len(peer.acks) >= 7, "the acknowledgements of what was repeated or came too early")
        self.assertEqual(max(peer.acks), 2)
        peer.ping()

    def send_golden(self, name, packed, peers, sender=0):
        number = ENVELOPE.messages["Envelope"][name][0]
        plane = QUANTUM if name == "photon" else CLASSICAL
        if peers[plane] is None:
            peers[plane] = self.peer(plane)
            peers[plane].incarnation = peers[1 - plane].incarnation if peers[1 - plane] else peers[plane].incarnation
            peers[plane].open()
        peer = peers[plane]
        channel = {"channel": 1} if name == "plane" else {"seq": 0} if name == "photon" else {}
        try:
            peer.send_envelope(raw=field(number, packed), **channel, **({"from": sender} if sender else {}))
            peer.ping()
            return True
        except (Closed, OSError):
            peer.close()
            peers[plane] = None
            return False

    def test_every_message_out_of_the_blue_twice_and_in_any_order(self):
        """Replies to nothing, requests in the middle of nothing, everything at the wrong time. bob answers, ignores, refuses
        or ends the session; he does not fall."""
        seed = random.randrange(2**32)
        print(f"# seed {seed}")
        rng = random.Random(seed)
        messages = list(golden_bodies())
        self.assertGreater(len(messages), 80)
        peers, n_taken = [None, None], 0
        for name, packed in messages:
            for _ in range(2):
                n_taken += self.send_golden(name, packed, peers)
        for name, packed in rng.sample(messages * 3, len(messages) * 3):
            if rng.random() < 0.3 and packed:  # Other numbers and enumerators.
                at = rng.randrange(len(packed))
                packed = packed[:at] + bytes([packed[at] ^ 1 << rng.randrange(8)]) + packed[at + 1:]
            n_taken += self.send_golden(name, packed, peers)
        print(f"# {n_taken} of {5 * len(messages)} messages left the session up")
        self.assertGreater(n_taken, len(messages))
        with self.bob.control() as control:
            self.assertNotIn("error", control.ask({"id": 1, "version": {}}))

    def test_in_the_name_of_others(self):
        """A neighbour may relay, so `from` may be any node. In the name of carol, who is bob's neighbour too, nothing is taken
        that is not of the life bob has a session with; she notices nothing (see tearDown)."""
        peers = [None, None]
        for name, packed in golden_bodies():
            self.send_golden(name, packed, peers, sender=2)


class Floods(Network):
    options = ("--connection-rate", "0")

    def test_a_flood_leaves_the_others_their_turns(self):
        """The dearest frames there are, full of tiny envelopes, each a step of the node; as fast as they are taken."""
        stop, n_frames = threading.Event(), [0]
        flooder = self.peer().open()
        other = self.peer(QUANTUM)
        other.incarnation = flooder.incarnation
        other.open()
        tiny = with_length(ENVELOPE.encode("Envelope", {"from": 0, "to": 1, "from_incarnation": flooder.incarnation, "seq": 7}))
        body = bytes([ENVELOPES]) + tiny * (65000 // len(tiny))

        def repeat(act):
            try:
                while not stop.is_set():
                    act()
            except OSError:
                pass

        def flood():
            flooder.send_frame(body)
            n_frames[0] += 1

        threads = [threading.Thread(target=repeat, args=(act,)) for act in (flood, lambda: flooder.socket.recv(1 << 20))]
        for thread in threads:
            thread.start()
        asks = {"session": other.ping, "control": lambda: self.bob.control().ask({"id": 1, "version": {}})}
        waits, start = {name: [] for name in asks}, time.monotonic()
        try:
            while time.monotonic() - start < 2:
                for name, ask in asks.items():
                    asked = time.monotonic()
                    ask()
                    waits[name].append(time.monotonic() - asked)
        finally:
            stop.set()
            flooder.socket.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
        print(f"# {n_frames[0] * (65000 // len(tiny))} envelopes in 2 s; an answer takes " + "; ".join(
            f"{name}: {1e3 * sorted(times)[len(times) // 2]:.2f} ms (median), {1e3 * max(times):.2f} ms (longest of {len(times)})"
            for name, times in waits.items()))
        self.assertGreater(n_frames[0], 20)
        for times in waits.values():
            self.assertLess(sorted(times)[len(times) // 2], 0.05)

    def test_who_does_not_read_is_dropped(self):
        before, memory = self.failures("overload"), self.bob.metric("process_resident_memory_bytes")
        peer = self.peer().open()
        ask = peer.control({"keep_alive": {"token": 2**63}})
        peer.socket.settimeout(20)
        try:
            while True:
                peer.socket.sendall(b"".join(peer.frame(ask) for _ in range(1000)))
        except OSError:
            pass
        eventually(lambda: self.failures("overload") == before + 1, what="overload")
        self.assertLess(self.bob.metric("process_resident_memory_bytes") - memory, 24e6 * MEMORY)
        self.assertIn("the peer reads too slowly", self.bob.log())


class Slow(Network):
    """Bytes that come one by one, on all three kinds of ports at once, each for longer than its limit."""
    options = ("--connection-rate", "0")

    def drip(self, s, data, seconds, ends):
        start, s_at = time.monotonic(), 0
        s.settimeout(0.25)
        while time.monotonic() - start < seconds:
            try:
                s.sendall(data[s_at:s_at + 1])
                s_at += 1
                if s.recv(1000) == b"":
                    break
            except TimeoutError:
                pass
            except OSError:
                break
        ends.append(time.monotonic() - start)

    def test_drips(self):
        handshake, session = self.peer(), self.peer().open()
        control = socket.socket(socket.AF_UNIX)
        control.connect(self.bob.control_path)
        self.addCleanup(control.close)
        reader = self.connect(2)
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.sendall(b"GET /metrics HTTP/1.1\r\n\r\n" * 40)  # And does not read.
        whole = b"".join(session.frame(bytes([ENVELOPES]) + with_length(bytes(60000))) for _ in range(2))
        cases = {
            "handshake": (handshake.socket, handshake.preface() + handshake.message_1(), 5, 7.5),
            "operations": (self.connect(2), b"GET /livez HTTP/1.1\r\n" + b"X: y\r\n" * 100, 10, 12.5),
            "control": (control, struct.pack(">I", 1000) + b"x" * 999, 10, 12.5),
            "session": (session.socket, whole, 10, 21),
        }
        ends, threads = {name: [] for name in cases}, []
        for name, (s, data, _, longest) in cases.items():
            threads.append(threading.Thread(target=self.drip, args=(s, data, longest + 5, ends[name])))
            threads[-1].start()
        for thread in threads:
            thread.join()
        print("# ended after: " + ", ".join(f"{name} {ends[name][0]:.1f} s" for name in cases))
        for name, (_, _, shortest, longest) in cases.items():
            self.assertGreater(ends[name][0], shortest - 0.5, name)
            self.assertLess(ends[name][0], longest, name)
        self.assertIn("the handshake took too long", self.bob.log())
        self.assertIn("the peer is silent", self.bob.log())
        with self.assertRaises(OSError):  # The probe that did not read was dropped as well.
            for _ in range(100):
                reader.sendall(b"x" * 10000)
                time.sleep(0.01)

    def test_probes_that_stay_keep_no_probe_out(self):
        silent = [self.connect(2) for _ in range(80)]
        self.assertEqual(self.bob.get("/livez")[0], 200)
        self.assertHungUp(silent[0])

    def test_clients_too_many_are_told(self):
        clients = [self.bob.control() for _ in range(128)]
        for client in clients:
            self.addCleanup(client.close)
            self.assertNotIn("error", client.ask({"id": 1, "version": {}}))
        with self.bob.control() as client:
            self.assertIn("as many clients as there may be", client.receive()["error"]["message"])
            with self.assertRaises(EOFError):
                client.receive()
        clients[0].close()
        eventually(self.is_served, what="room for another")

    def is_served(self):
        """Whoever hung up has been noticed, and another may come."""
        try:
            with self.bob.control() as client:
                return "error" not in client.ask({"id": 1, "version": {}})
        except (OSError, EOFError):  # Turned away before it had asked.
            return False


class Revoked(unittest.TestCase):
    def test_a_key_taken_out_of_the_topology(self):
        """SIGHUP only checks the file; a restart applies it."""
        with Lab("alice", "bob") as lab:
            bob = lab["bob"].start()
            with open(os.path.join(lab["alice"].state, "identity.key"), encoding="utf-8") as file:
                old = file.read()
            lab.make_identity(lab["alice"])
            with open(lab.topology, "w", encoding="utf-8") as file:
                file.write(lab.text())
            eventually(lambda: bob.get("/livez")[0] == 200, what="alive")
            bob.process.send_signal(1)
            eventually(lambda: "reload_needs_restart" in bob.log(), what="read again")
            with Peer(bob.ports[0], old, lab.keys["bob"]) as peer:
                peer.open()
            bob.stop()
            bob.start()
            eventually(lambda: bob.get("/livez")[0] == 200, what="alive")
            with Peer(bob.ports[0], old, lab.keys["bob"]) as peer, self.assertRaises(Closed):
                peer.open()
            self.assertEqual(bob.metric('qnetd_handshake_failures_total{plane="classical",reason="auth"}'), 1)
            lab["alice"].start().wait_ready()


if __name__ == "__main__":
    unittest.main()
