#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares the protocol with every version in proto/released: what running nodes send must still mean the same.

compatible.py [OLD NEW]   two folders of .proto files; without them, each released one with the present one

Kept: every message, enum, field number, name, type, cardinality and oneof; every enumerator. A field or enumerator may
only go if its number and its name are reserved from then on."""
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import protolite  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2] / "proto"


def fields_of(data):
    """{number: [raw values]} of any message."""
    fields, at = {}, 0
    while at < len(data):
        tag, at = protolite.read_varint(data, at)
        raw, at = protolite.read_raw(data, at, tag & 7)
        fields.setdefault(tag >> 3, []).append(raw)
    return fields


def text(message, number):
    return message.get(number, [b""])[0].decode()


def reserved(message, ranges, names, inclusive):
    """(set of numbers, set of names) that may not be used again. Numbers of descriptor.proto's fields."""
    numbers = set()
    for item in map(fields_of, message.get(ranges, [])):
        low, high = item.get(1, [0])[0], item.get(2, [0])[0]
        numbers.update(range(low, min(high, low + 100000) + inclusive))
    return numbers, {name.decode() for name in message.get(names, [])}


def load(folder):
    """{message or enum: ({number: (name, what it is)}, reserved numbers, reserved names)}, from protoc's descriptors."""
    with tempfile.NamedTemporaryFile() as out:
        files = sorted(str(path) for path in pathlib.Path(folder).glob("qnet/v1/*.proto"))
        subprocess.run(["protoc", f"--proto_path={folder}", f"--descriptor_set_out={out.name}", *files], check=True)
        descriptors = fields_of(pathlib.Path(out.name).read_bytes())
    types = {}
    for file in map(fields_of, descriptors[1]):
        for message in map(fields_of, file.get(4, [])):
            oneofs = [text(fields_of(oneof), 1) for oneof in message.get(8, [])]
            members = {}
            for field in map(fields_of, message.get(2, [])):
                oneof = oneofs[field[9][0]] if 9 in field else None
                members[field[3][0]] = (text(field, 1), (field[4][0], field[5][0], text(field, 6), oneof))
            types["message " + text(message, 1)] = (members, *reserved(message, 9, 10, 0))
        for enum in map(fields_of, file.get(5, [])):
            members = {value.get(2, [0])[0]: (text(value, 1), None) for value in map(fields_of, enum.get(2, []))}
            types["enum " + text(enum, 1)] = (members, *reserved(enum, 4, 5, 1))
    return types


def breaks(old, new):
    """One line for each promise of `old` that `new` does not keep."""
    for name, (old_members, old_numbers, old_names) in old.items():
        if name not in new:
            yield f"{name}: is gone"
            continue
        members, numbers, names = new[name]
        for number, (field, what) in old_members.items():
            if number in members:
                if members[number] != (field, what):
                    yield f"{name}: {number} was {field} {what}, is {members[number][0]} {members[number][1]}"
            elif number not in numbers or field not in names:
                yield f"{name}: {field} = {number} is gone, and not reserved by number and name"
        for number, (field, _) in members.items():
            if number in old_numbers or field in old_names:
                yield f"{name}: {field} = {number} was reserved"
        if not old_numbers <= numbers or not old_names <= names:
            yield f"{name}: what was reserved is not any more"


def main():
    pairs = [sys.argv[1:3]] if len(sys.argv) == 3 else [(path, ROOT) for path in sorted((ROOT / "released").iterdir())]
    found = [f"{old}: {line}" for old, new in pairs for line in breaks(load(old), load(new))]
    print("\n".join(found) if found else f"compatible with {len(pairs)} released versions")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
