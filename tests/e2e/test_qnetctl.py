# SPDX-License-Identifier: Apache-2.0
"""qnetctl from the outside, without a node: command lines, what one table makes, offline commands."""
import base64
import json
import os
import shutil
import subprocess
import unittest

from qnetctl_case import QNETCTL, RUNTIME, THREE, UNREACHABLE, USAGE, Case


class CommandLine(Case):
    def test_wrong_words_get_the_nearest_valid_one(self):
        for arguments, near in ((["stauts"], "status"), (["lab", "upp"], "lab up"), (["lab", "dwon"], "lab down"),
                                (["telport", "bob"], "teleport"), (["fault", "cutt", "x"], "fault cut"),
                                (["help", "teleprot"], "teleport"), (["keys", "tkae", "1"], "keys take"),
                                (["teleport", "bob", "--nubmer", "3"], "--number"), (["--jsno"], "--json"),
                                (["errors", "lookup", "no_rout"], "no_route"), (["gate", "cnto 1 2"], "cnot")):
            self.assertIn(f"did you mean \"{near}\"?", self.refused(*arguments))

    def test_nothing_near_is_no_guess(self):
        line = self.refused("xylophone")
        self.assertNotIn("did you mean", line)
        self.assertIn("qnetctl help", line)

    def test_families_list_their_members(self):
        self.assertIn("up, down, status", self.refused("lab"))
        self.assertIn("cut, restore, delay, eve, attack, clear", self.refused("fault"))

    def test_usage_errors(self):
        for arguments in (["request-pair"], ["request-pair", "a", "b"], ["lab", "up"], ["status", "extra"], ["wait"],
                          ["wait", "--for", "rain"], ["wait", "--for", "pairs=x"], ["wait", "--for", "peer=a:sideways"],
                          ["events", "--backlog", "many"], ["request-pair", "b", "--number", "0"],
                          ["request-pair", "b", "--number", "-1"], ["request-pair", "b", "--number", "1e3"],
                          ["request-pair", "b", "--measure", "w"], ["request-pair", "b", "--timeout", "10"],
                          ["request-pair", "b", "--timeout", "0s"], ["request-pair", "b", "--min-fidelity", "1.5"],
                          ["teleport", "b", "--state", "up"], ["teleport", "b", "--state", ""],
                          ["teleport", "b", "--state", "0x1,2"], ["bb84", "b", "--qber-limit", "110%"],
                          ["gate"], ["gate", "h"], ["gate", "h 0"], ["gate", "h bob"], ["gate", "cnot 1"], ["gate", "measure 1 w"],
                          ["gate", "h 1 2"], ["gate", "rx 1"], ["gate", "rx 1 round"], ["discard"], ["discard", "1", "--all"],
                          ["inspect", "x"], ["keys", "take", "xyz"], ["keys", "take", "abc"], ["fault", "delay", "l"],
                          ["fault", "delay", "l", "soon"], ["fault", "eve", "l", "2"], ["fault", "cut", "l", "--plane", "left"],
                          ["topology", "export", "--format", "png"], ["completion", "tcsh"], ["errors", "lookup", "999"],
                          ["status", "--json=yes"], ["status", "--node"], ["topology", "export"], ["lab", "up", "f", "--name"]):
            self.refused(*arguments)

    def test_values_say_what_is_valid(self):
        self.assertIn("such as 10ms", self.refused("request-pair", "b", "--timeout", "10"))
        self.assertIn("z|xz|xyz|chsh", self.refused("request-pair", "b", "--measure", "zz"))
        self.assertIn("from 1 to 10000000", self.refused("request-pair", "b", "--number", "x"))

    def test_errors_are_json_too(self):
        for arguments in (["stauts", "--json"], ["-j", "stauts"]):
            out, _ = self.run_it(*arguments, expect=USAGE)
            error = json.loads(out)["error"]
            self.assertEqual(error["code"], "usage")
            self.assertEqual(error["exit_status"], USAGE)
            self.assertIn("status", error["message"])

    def test_options_may_stand_anywhere(self):
        for arguments in (["--node", "n", "--socket", "s", "status"], ["status", "-n", "n", "-s", "s"], ["-nn", "status", "--socket=s"]):
            self.assertIn("--socket names one node", self.refused(*arguments))

    def test_after_two_dashes_all_are_operands(self):
        self.assertIn("unknown error \"--json\"", self.refused("errors", "lookup", "--", "--json"))

    def test_output_that_cannot_be_written(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            result = subprocess.run([QNETCTL, "errors"], stdout=full, stderr=subprocess.PIPE, env=self.environment, timeout=10)
        self.assertEqual(result.returncode, RUNTIME)

    def test_no_node_anywhere(self):
        for arguments in ([], ["status"], ["links"], ["-n", "alice", "status"], ["request-pair", "bob"], ["health"]):
            if os.path.isdir("/run/qnetd"):
                self.skipTest("this machine runs qnetd as a service")
            line = self.refused(*arguments, expect=UNREACHABLE)
            self.assertIn("lab up", line)


class Generated(Case):
    """Help, manual page and completions, which one table makes."""

    def commands(self):
        lines = self.run_it("help")[0].split("COMMANDS\n")[1].split("\n\n")[0].splitlines()
        return [line[2:19].strip() for line in lines]

    def test_help_of_every_command(self):
        names = self.commands()
        self.assertGreaterEqual(len(names), 30)
        for name in names:
            text = self.run_it("help", *name.split())[0]
            self.assertIn(f"qnetctl {name}", text)
            self.assertEqual(text, self.run_it(*name.split(), "--help")[0] if name not in ("keys", "errors") else text)
            self.assertNotIn("\033", text)
            self.assertLessEqual(max(map(len, text.splitlines()[1:])), 100, name)

    def test_help_for_programs(self):
        everything = self.json("help")
        self.assertEqual([command["name"] for command in everything["commands"]], self.commands())
        self.assertEqual([command["name"] for command in self.json("help", "fault")["commands"]],
                         ["fault cut", "fault restore", "fault delay", "fault eve", "fault attack", "fault clear"])
        (pair,) = self.json("help", "request-pair")["commands"]
        self.assertEqual(pair["operands"][0]["kind"], "node")
        self.assertIn({"name": "measure", "kind": "choice", "value": None, "choices": "z|xz|xyz|chsh",
                       "help": "Measure at both ends instead of keeping."}, pair["options"])

    def test_man_has_every_command_and_no_roff_errors(self):
        page = self.run_it("man")[0]
        for name in self.commands():
            self.assertIn(f".SS \"{name}\"", page)
        if shutil.which("groff"):
            result = subprocess.run(["groff", "-man", "-ww", "-Tutf8"], input=page.encode(), capture_output=True, check=True)
            self.assertEqual(result.stderr, b"")

    def test_shells_can_read_the_completions(self):
        for shell, check in (("bash", ["bash", "-n"]), ("zsh", ["zsh", "-n"]), ("fish", ["fish", "--no-execute"])):
            text = self.run_it("completion", shell)[0]
            for word in ("teleport", "min-fidelity", "chsh", "topology"):
                self.assertIn(word, text, shell)
            if shutil.which(check[0]):
                path = self.file(f"completion.{shell}", text)
                result = subprocess.run(check + [path], capture_output=True)
                self.assertEqual((result.returncode, result.stderr), (0, b""), shell)

    def complete(self, *words):
        """What bash offers for the last of the words."""
        path = self.file("completion.bash", self.run_it("completion", "bash")[0])
        quoted = " ".join(f"'{word}'" for word in words)
        script = f"source {path}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _qnetctl; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        environment = {**self.environment, "PATH": os.path.dirname(QNETCTL) + ":" + os.environ["PATH"]}
        result = subprocess.run(["bash", "-c", script], capture_output=True, env=environment, timeout=20)
        self.assertEqual(result.stderr, b"")
        return result.stdout.decode().split()

    def test_bash_completes(self):
        self.assertEqual(self.complete("qnetctl", "tele"), ["teleport"])
        self.assertEqual(self.complete("qnetctl", "lab", "s"), ["status", "start", "share"])
        self.assertEqual(self.complete("qnetctl", "--json", "lab", "u"), ["up"])
        self.assertEqual(self.complete("qnetctl", "request-pair", "bob", "--measure", "x"), ["xz", "xyz"])
        self.assertEqual(self.complete("qnetctl", "request-pair", "bob", "--cu"), ["--cutoff"])
        self.assertEqual(self.complete("qnetctl", "fault", "cut", "l", "--plane", "q"), ["quantum"])
        self.assertEqual(self.complete("qnetctl", "completion", "z"), ["zsh"])
        self.assertNotIn("complete", self.complete("qnetctl", "compl"))


class Offline(Case):
    def test_version(self):
        self.assertRegex(self.run_it("version")[0], r"^qnetctl \d")
        self.assertEqual(self.run_it("--version")[0], self.run_it("version")[0])
        self.assertEqual(self.json("version")["json_version"], 1)

    def test_errors(self):
        errors = self.json("errors")["errors"]
        self.assertEqual(len({error["number"] for error in errors}), len(errors))
        for error in errors:
            for name in (error["code"], str(error["number"]), "QN_E" + error["code"].upper()):
                self.assertEqual(self.json("errors", "lookup", name), error)
            self.assertIn(error["todo"], self.run_it("errors", "lookup", error["code"])[0])

    def test_keys(self):
        private = self.run_it("genkey")[0]
        self.assertEqual(len(base64.b64decode(private)), 32)
        self.assertNotEqual(private, self.run_it("genkey")[0])
        both = self.json("genkey")
        self.assertEqual(self.run_it("pubkey", stdin=both["private_key"].encode())[0].strip(), both["public_key"])
        self.assertEqual(self.json("pubkey", stdin=base64.b64decode(private).hex().encode())["public_key"] + "\n",
                         self.run_it("pubkey", stdin=private.encode())[0])
        nine = b"09" + 31 * b"00"  # RFC 7748, section 5.2.
        self.assertEqual(base64.b64decode(self.run_it("pubkey", stdin=nine)[0]).hex(),
                         "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079")
        for rubbish in (b"", b"rubbish", b"A" * 300, b"A" * 43):
            self.refused("pubkey", stdin=rubbish)

    def test_topology_check(self):
        good = self.file("good.yaml", THREE)
        self.assertIn("3 nodes, 2 links", self.run_it("topology", "check", good)[0])
        answer = self.json("topology", "check", good)
        self.assertEqual((answer["ok"], answer["network"], answer["nodes"], answer["links"]), (True, "three", 3, 2))
        self.assertIn("3 nodes", self.run_it("topology", "check", "-", stdin=THREE.encode())[0])

    def test_topology_errors_have_their_place(self):
        bad = self.file("bad.yaml", THREE.replace("role: repeater", "role: repeeter"))
        _, err = self.run_it("topology", "check", bad, expect=USAGE)
        self.assertRegex(err, rf"{bad}:6:\d+: error: .*repeater")
        answer = self.json("topology", "check", bad, expect=USAGE)
        self.assertFalse(answer["ok"])
        self.assertIn(":6:", answer["diagnostics"][0])
        self.assertEqual(self.json("topology", "export", bad, expect=USAGE)["error"]["code"], "usage")
        self.refused("topology", "check", os.path.join(self.directory, "absent.yaml"))
        self.refused("topology", "check", self.directory)

    def test_topology_export(self):
        path = self.file("net.yaml", THREE)
        canonical = self.run_it("topology", "export", path)[0]
        self.assertEqual(self.run_it("topology", "export", "-", "--format", "yaml", stdin=canonical.encode())[0], canonical)
        self.assertIn("alice", self.run_it("topology", "export", path, "--format", "dot")[0])
        self.assertIn("graph", self.run_it("topology", "export", path, "--format", "mermaid")[0])
        self.assertIn("properties", json.loads(self.run_it("topology", "export", "--format", "schema")[0]))
        self.assertEqual(self.json("topology", "export", path), {"format": "yaml", "text": canonical})


if __name__ == "__main__":
    unittest.main()
