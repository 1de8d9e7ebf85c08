# SPDX-License-Identifier: Apache-2.0
"""Messages of the .proto files as Python dictionaries, with the standard library only: enough of proto3 for our own files
(no maps, no imports, no nested types). Missing fields are absent from what is decoded."""
import os
import re
import struct

PROTO_DIR = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "proto", "qnet", "v1")
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
PACKABLE = {"uint32", "int32", "sint32", "uint64", "int64", "sint64", "bool", "fixed64", "sfixed64", "double"}
WIDE = {"fixed64": "<Q", "sfixed64": "<q", "double": "<d"}


class Schema:
    """The messages of some files: {message: {field name: (number, type, repeated)}}; enumerators in `enums`."""

    def __init__(self, *names, folder=PROTO_DIR):
        self.messages, self.enums, self.enum_names = {}, {}, set()
        self.unknown = set()  # (message, number) of what was decoded and is not in the files.
        text = ""
        for name in names:
            with open(os.path.join(folder, name + ".proto"), encoding="utf-8") as file:
                text += re.sub(r"//[^\n]*", "", file.read())
        text = re.sub(r"oneof\s+\w+\s*{([^}]*)}", r"\1", text)
        for kind, title, body in re.findall(r"(message|enum)\s+(\w+)\s*{([^}]*)}", text):
            if kind == "enum":
                self.enum_names.add(title)
                self.enums.update({key: int(value) for key, value in re.findall(r"(\w+)\s*=\s*(\d+)", body)})
                continue
            self.messages[title] = {
                field: (int(number), kind_, bool(repeated))
                for repeated, kind_, field, number in re.findall(r"(repeated\s+)?(\w+)\s+(\w+)\s*=\s*(\d+)\s*;", body)}

    def encode(self, message, values):
        fields, out = self.messages[message], b""
        for name, value in values.items():
            number, kind, repeated = fields[name]
            for item in value if repeated else [value]:
                out += self._encode_one(number, kind, item)
        return out

    def _encode_one(self, number, kind, value):
        if kind in WIDE:
            return varint(number << 3 | FIXED64) + struct.pack(WIDE[kind], value)
        if kind in ("string", "bytes") or kind in self.messages:
            body = self.encode(kind, value) if kind in self.messages else value.encode() if isinstance(value, str) else value
            return varint(number << 3 | BYTES) + varint(len(body)) + body
        if kind in ("sint32", "sint64"):
            value = value << 1 ^ value >> 63
        return varint(number << 3 | VARINT) + varint(int(value) & 0xFFFFFFFFFFFFFFFF)

    def decode(self, message, data):
        by_number = {number: (name, kind, repeated) for name, (number, kind, repeated) in self.messages[message].items()}
        values, at = {}, 0
        while at < len(data):
            tag, at = read_varint(data, at)
            raw, at = read_raw(data, at, tag & 7)
            if tag >> 3 not in by_number:
                self.unknown.add((message, tag >> 3))
                continue  # Of a later version.
            name, kind, repeated = by_number[tag >> 3]
            if repeated:
                packed = tag & 7 == BYTES and kind in PACKABLE
                values.setdefault(name, []).extend(self._unpack(kind, raw) if packed else [self._decode_one(kind, raw)])
            else:
                values[name] = self._decode_one(kind, raw)
        return values

    def _unpack(self, kind, data):
        at = 0
        while at < len(data):
            raw, at = read_raw(data, at, FIXED64 if kind in WIDE else VARINT)
            yield self._decode_one(kind, raw)

    def _decode_one(self, kind, raw):
        if kind in WIDE:
            return struct.unpack(WIDE[kind], raw)[0]
        if kind == "string":
            return raw.decode()
        if kind == "bool":
            return bool(raw)
        if kind in ("sint32", "sint64"):
            return raw >> 1 ^ -(raw & 1)
        if kind in ("int32", "int64"):
            return raw - (1 << 64) if raw >> 63 else raw
        return self.decode(kind, raw) if kind in self.messages else raw


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def read_raw(data, at, wire):
    if wire == VARINT:
        return read_varint(data, at)
    if wire == BYTES:
        size, at = read_varint(data, at)
    else:
        size = 8 if wire == FIXED64 else 4
    return data[at:at + size], at + size
