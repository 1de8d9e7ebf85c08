# SPDX-License-Identifier: Apache-2.0
"""A node that speaks the real protocol between nodes, and breaks any rule of it on request. Written from proto/README.md,
a third time beside the daemon's and the unit test's. The standard library, and libsodium by ctypes for the curve and the
cipher."""
import base64
import collections
import ctypes
import ctypes.util
import hashlib
import hmac
import itertools
import os
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import protolite  # noqa: E402

SESSION = protolite.Schema("session")
ENVELOPE_FILES = ("envelope", "plane", "link", "circuit", "app", "bb84")
ENVELOPE = protolite.Schema(*ENVELOPE_FILES)
CLASSICAL, QUANTUM = 0, 1
CONTROL, ENVELOPES = 1, 2  # Kinds of frames.
HANDSHAKE_NAME = b"Noise_XK_25519_ChaChaPoly_SHA256"
ROUTING = {"from", "to", "from_incarnation", "to_incarnation", "seq", "ack", "channel", "hops"}  # Of an envelope without a body.
TAG = 16

sodium = ctypes.CDLL(ctypes.util.find_library("sodium") or "libsodium.so.23")
sodium.sodium_init()
ULL = ctypes.c_ulonglong


def x25519(private, public=None):
    out = ctypes.create_string_buffer(32)
    if public is None:
        sodium.crypto_scalarmult_base(out, private)
    elif sodium.crypto_scalarmult(out, private, public) != 0:
        raise ValueError("a low-order point")
    return out.raw


def seal(key, number, plain, associated=b""):
    out = ctypes.create_string_buffer(len(plain) + TAG)
    nonce = struct.pack("<IQ", 0, number)
    sodium.crypto_aead_chacha20poly1305_ietf_encrypt(out, None, plain, ULL(len(plain)), associated, ULL(len(associated)), None,
                                                     nonce, key)
    return out.raw


def unseal(key, number, sealed, associated=b""):
    out = ctypes.create_string_buffer(max(len(sealed) - TAG, 1))
    nonce = struct.pack("<IQ", 0, number)
    if sodium.crypto_aead_chacha20poly1305_ietf_decrypt(out, None, None, sealed, ULL(len(sealed)), associated,
                                                        ULL(len(associated)), nonce, key) != 0:
        raise ValueError("does not open")
    return out.raw[:len(sealed) - TAG]


class Cipher:
    """One direction of a session."""

    def __init__(self, key):
        self.key, self.number = key, 0

    def seal(self, plain):
        sealed = seal(self.key, self.number, plain)
        self.count()
        return sealed

    def open(self, sealed):
        plain = unseal(self.key, self.number, sealed)
        self.count()
        return plain

    def count(self):
        self.number += 1
        if self.number % 65536 == 0:
            self.rekey()

    def rekey(self):
        self.key = seal(self.key, 2**64 - 1, bytes(32))[:32]


class Handshake:
    """Noise XK, the side that calls."""

    def __init__(self, private, remote, prologue, ephemeral=None):
        self.private, self.remote = private, remote
        self.ephemeral = ephemeral or os.urandom(32)
        self.hash = HANDSHAKE_NAME  # Exactly 32 bytes: taken as it is.
        self.chaining, self.key, self.number = self.hash, None, 0
        self.mix_hash(prologue)
        self.mix_hash(remote)

    def mix_hash(self, data):
        self.hash = hashlib.sha256(self.hash + data).digest()

    def mix_key(self, secret):
        temporary = hmac.digest(self.chaining, secret, "sha256")
        self.chaining = hmac.digest(temporary, b"\1", "sha256")
        self.key, self.number = hmac.digest(temporary, self.chaining + b"\2", "sha256"), 0

    def encrypt(self, plain):
        sealed = seal(self.key, self.number, plain, self.hash)
        self.number += 1
        self.mix_hash(sealed)
        return sealed

    def decrypt(self, sealed):
        plain = unseal(self.key, self.number, sealed, self.hash)
        self.number += 1
        self.mix_hash(sealed)
        return plain

    def write_1(self):
        public = x25519(self.ephemeral)
        self.mix_hash(public)
        self.mix_key(x25519(self.ephemeral, self.remote))
        return public + self.encrypt(b"")

    def read_2(self, message):
        self.remote_ephemeral = message[:32]
        self.mix_hash(self.remote_ephemeral)
        self.mix_key(x25519(self.ephemeral, self.remote_ephemeral))
        return self.decrypt(message[32:])

    def write_3(self, payload):
        message = self.encrypt(x25519(self.private))
        self.mix_key(x25519(self.private, self.remote_ephemeral))
        return message + self.encrypt(payload)

    def split(self):
        temporary = hmac.digest(self.chaining, b"", "sha256")
        first = hmac.digest(temporary, b"\1", "sha256")
        return Cipher(first), Cipher(hmac.digest(temporary, first + b"\2", "sha256"))


class Closed(Exception):
    """The other end has hung up. `reason` and `detail` of its Close, or None."""

    def __init__(self, reason=None, detail=""):
        super().__init__(f"{reason} {detail}")
        self.reason, self.detail = reason, detail


lives = itertools.count(int.from_bytes(os.urandom(2), "big") | 1, 2)


def new_incarnation():
    """The plane knows a life by 15 bits, and one that looks like an earlier one is fenced: so no two here look alike."""
    return int.from_bytes(os.urandom(6), "big") << 15 | next(lives) & 0x7FFF


class Peer:
    """A caller. Each step of the handshake is a method, so that a test may stop, repeat or change any; `open` does all of
    them. `hello` overrides fields of the Hello. `session_schema` and `schema` are the messages it knows."""
    session_schema, schema = SESSION, ENVELOPE

    def __init__(self, port, private, remote, network="test", plane=CLASSICAL, versions=(1, 2), source=None, timeout=10, node=0,
                 hello=None):
        self.private, self.remote = (base64.b64decode(key) if len(key) != 32 else key for key in (private, remote))
        self.network, self.plane, self.versions, self.node = network.encode(), plane, versions, node
        self.changes = hello or {}
        self.incarnation = new_incarnation()
        self.tokens = []  # Of keep-alives that were answered.
        self.timeout = timeout  # Of every wait for something particular, whatever else comes meanwhile.
        self.seen = collections.deque(maxlen=8)  # The last that came: for whoever waits in vain.
        self.sent_seq = {0: 0, 1: 0}
        self.acks = []  # Of envelopes without a body, in their order.
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout,
                                               source_address=(source, 0) if source else None)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    # ---- handshake ----

    def head(self):
        return b"QNET" + bytes([*self.versions, self.plane, 0])

    def preface(self):
        head = self.head()
        network = hashlib.blake2b(self.network, digest_size=32).digest()
        return head + hashlib.blake2b(head + network, digest_size=16, key=self.remote).digest()

    def message_1(self):
        prologue = b"qnetd/1\0" + bytes([len(self.network)]) + self.network + self.head()
        self.handshake = Handshake(self.private, self.remote, prologue)
        return with_length(self.handshake.write_1())

    def read_2(self):
        self.their_hello = self.session_schema.decode("Hello", self.handshake.read_2(self.read_block()))

    def hello(self):
        return self.session_schema.encode("Hello", {"protocol_min": self.versions[0], "protocol_max": self.versions[1],
                                        "incarnation": self.incarnation, "node": self.node,
                                        "topology_digest": self.their_hello["topology_digest"], "software": "a fake node",
                                        **self.changes})

    def message_3(self):
        return with_length(self.handshake.write_3(self.hello()))

    def split(self):
        self.sending, self.receiving = self.handshake.split()

    def open(self):
        """The session is open, and the daemon has been heard over it (else Closed is raised)."""
        self.socket.sendall(self.preface() + self.message_1())
        self.read_2()
        self.socket.sendall(self.message_3())
        self.split()
        self.ping(1)
        return self

    # ---- frames ----

    def read_block(self):
        (length,) = struct.unpack(">H", self.exactly(2))
        return self.exactly(length)

    def exactly(self, n):
        data = b""
        while len(data) < n:
            try:
                more = self.socket.recv(n - len(data))
            except ConnectionResetError:
                more = b""
            if not more:
                raise Closed()
            data += more
        return data

    def frame(self, plain):
        return with_length(self.sending.seal(plain))

    def send_frame(self, plain):
        self.socket.sendall(self.frame(plain))

    def control(self, body):
        return bytes([CONTROL]) + self.session_schema.encode("SessionControl", body)

    def send_envelope(self, fields=None, raw=b"", **more):
        """Numbered in its channel unless it says otherwise; `raw` is appended as it is."""
        fields = {"from": self.node, "to": 1, "from_incarnation": self.incarnation, **(fields or {}), **more}
        if "seq" not in fields and "photon" not in fields:
            channel = fields.get("channel", 0)
            self.sent_seq[channel] += 1
            fields["seq"] = self.sent_seq[channel]
        self.send_frame(bytes([ENVELOPES]) + with_length(self.schema.encode("Envelope", fields) + raw))

    def receive(self):
        """The next frame: ("keep_alive", fields) or ("envelopes", [fields]). Keep-alives are answered. Closed at the end."""
        plain = self.receiving.open(self.read_block())
        self.seen.append(plain[:100])
        if plain[0] == CONTROL:
            body = self.session_schema.decode("SessionControl", plain[1:])
            if "close" in body:
                raise Closed(body["close"].get("reason", 0), body["close"].get("detail", ""))
            if "rekey" in body:
                self.receiving.rekey()
                return "rekey", {}
            alive = body["keep_alive"]
            if alive.get("reply"):
                self.tokens.append(alive["token"])
            else:
                self.send_frame(self.control({"keep_alive": {"token": alive.get("token", 0), "reply": True}}))
            return "keep_alive", alive
        found, at = [], 1
        while at < len(plain):
            (length,) = struct.unpack_from(">H", plain, at)
            found.append(self.schema.decode("Envelope", plain[at + 2:at + 2 + length]))
            if found[-1].keys() <= ROUTING:
                self.acks.append(found[-1].get("ack", 0))
            at += 2 + length
        return "envelopes", found

    def receive_until(self, done, what):
        """Receives until `done()`: every wait has an end, though keep-alives come for ever."""
        deadline = time.monotonic() + self.timeout
        while not done():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {self.timeout} s; the last frames were {[bytes(s).hex() for s in self.seen]}")
            self.receive()

    def ping(self, token=99):
        """Returns when the daemon has answered, and so has dealt with all that was sent before; else raises Closed."""
        self.send_frame(self.control({"keep_alive": {"token": token}}))
        self.receive_until(lambda: token in self.tokens, "the answer to a keep-alive")
        self.tokens.remove(token)

    def rekey(self):
        self.send_frame(self.control({"rekey": {}}))
        self.sending.rekey()

    def expect_close(self):
        """What the daemon says last: the Closed."""
        try:
            self.receive_until(lambda: False, "the end of the session")
        except Closed as closed:
            return closed
        except (BrokenPipeError, ConnectionResetError):
            return Closed()

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def with_length(data):
    return struct.pack(">H", len(data)) + data


def field(number, body):
    """A field of bytes, or a message."""
    return protolite.varint(number << 3 | 2) + protolite.varint(len(body)) + body


def golden_bodies(schema=ENVELOPE):
    """Realistic bodies of every kind, from proto/golden.txt: (field of Envelope, packed body)."""
    by_type = {kind: name for name, (number, kind, _) in schema.messages["Envelope"].items() if number >= 16}
    inner = {}  # Messages that travel within another.
    for outer in ("PlaneMessage", "Photon", "Bb84Message"):
        for number, kind, _ in schema.messages[outer].values():
            inner.setdefault(kind, []).append((outer, number))
    with open(os.path.join(protolite.PROTO_DIR, "..", "..", "golden.txt"), encoding="utf-8") as file:
        for line in file:
            if line.startswith("#"):
                continue
            name, packed = line.split()[:2]
            packed = b"" if packed == "-" else bytes.fromhex(packed)
            if name in by_type:
                yield by_type[name], packed
            for outer, number in inner.get(name, []):
                yield by_type[outer], field(number, packed)
