# SPDX-License-Identifier: Apache-2.0
"""Writes a text file as a C string, without the comment it begins with. usage: embed.py INPUT OUTPUT"""
import os
import sys

text = open(sys.argv[1], encoding="utf-8").read().partition("\n\n")[2]
name = os.path.basename(sys.argv[1]).replace(".", "_").replace("-", "_")
lines = [line.replace("\\", "\\\\").replace('"', '\\"') for line in text.splitlines()]
with open(sys.argv[2], "w", encoding="utf-8") as out:
    out.write(f"static const char {name}[] =\n" + "\n".join(f'    "{line}\\n"' for line in lines) + ";\n")
