#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes proto/golden.txt from proto/golden.textproto with protoc: another implementation than the one in the daemon.

golden.py          appends what is new; refuses to change or drop a line that is there
golden.py --check  only says whether the two files agree
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2] / "proto"
HEADER = """\
# SPDX-License-Identifier: Apache-2.0
# Messages and their bytes, from golden.textproto by tests/support/golden.py. These bytes are a promise to nodes that
# already run: lines are added, never changed.
"""


def entries(text):
    """(message, comment, fields) of each entry."""
    found = []
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        if line[0].isspace():
            found[-1][2].append(line.strip())
        else:
            name, _, comment = line.partition("#")
            found.append((name.strip(), comment.strip(), []))
    return found


def main():
    files = sorted(ROOT.glob("qnet/v1/*.proto"))
    home = {m: f for f in files for m in re.findall(r"^message (\w+)", f.read_text(), re.M)}
    lines = []
    for name, comment, fields in entries((ROOT / "golden.textproto").read_text()):
        command = ["protoc", f"--proto_path={ROOT}", f"--encode=qnet.v1.{name}", str(home[name])]
        done = subprocess.run(command, input="\n".join(fields).encode(), stdout=subprocess.PIPE)
        if done.returncode != 0:
            sys.exit(f"golden.py: {name} # {comment}")
        lines.append(f"{name} {done.stdout.hex() or '-'}" + (f"  # {comment}" if comment else ""))
    target = ROOT / "golden.txt"
    old = target.read_text() if target.exists() else ""
    new = HEADER + "\n".join(lines) + "\n"
    if new == old:
        return
    if "--check" in sys.argv:
        sys.exit("golden.py: golden.txt is not what golden.textproto says")
    changed = [line for line in old.splitlines() if line not in new.splitlines()]
    if changed:
        sys.exit("golden.py: these would change:\n" + "\n".join(changed))
    target.write_text(new)


main()
