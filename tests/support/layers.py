# SPDX-License-Identifier: Apache-2.0
"""Who may include whom: reads the #include lines of lib/, and compiles every header alone.
usage: layers.py ROOT PROTO_INCLUDE_DIR"""
import os
import re
import subprocess
import sys

ALLOWED = {
    "base": set(), "sim": {"base"}, "http": {"base"}, "topology": {"base"}, "link": {"base", "topology"}, "qkd": {"base"},
    "wire": {"base", "qnet"}, "plane": {"base", "sim", "wire", "qnet"},
    "node": {"base", "sim", "topology", "link", "qkd", "wire", "plane", "qnet"},
}
FORBIDDEN = re.compile(r"#include\s*<(uv\.h|time\.h|sys/.*|unistd\.h|fcntl\.h)>")

EXCEPTIONS = {("base/pages.c", "sys/mman.h")}  # A hint about memory of its own.


def main(root, proto):
    problems, headers = [], []
    for folder, allowed in ALLOWED.items():
        for name in sorted(os.listdir(os.path.join(root, "lib", folder))):
            if not name.endswith((".c", ".h")):
                continue
            path = os.path.join(root, "lib", folder, name)
            if name.endswith(".h"):
                headers.append(path)
            with open(path, encoding="utf-8") as file:
                for number, line in enumerate(file, 1):
                    found = FORBIDDEN.search(line)
                    if found and (f"{folder}/{name}", found[1]) not in EXCEPTIONS:
                        problems.append(f"{folder}/{name}:{number}: lib/ is pure: {line.strip()}")
                    match = re.match(r'#include "([^/"]+)/', line)
                    if match and match[1] != folder and match[1] not in allowed:
                        problems.append(f"{folder}/{name}:{number}: {folder} may not include {match[1]}")
    print(f"1..{1 + len(headers)}")
    print("not ok 1 - layers" if problems else "ok 1 - layers")
    for problem in problems:
        print("#", problem)
    for n, path in enumerate(headers, 2):
        done = subprocess.run(["cc", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-fsyntax-only", "-x", "c", "-I", os.path.join(root, "lib"), "-I", proto,
                               path], stderr=subprocess.PIPE, text=True)
        bad = done.returncode != 0
        print(f"{'not ok' if bad else 'ok'} {n} - {os.path.relpath(path, root)} compiles alone")
        for line in done.stderr.splitlines() if bad else []:
            print("#", line)
        problems += [path] if bad else []
    return 1 if problems else 0


sys.exit(main(*sys.argv[1:]))
