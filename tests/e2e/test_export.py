# SPDX-License-Identifier: Apache-2.0
"""What `qnetctl topology export` writes for other machinery: every network of deploy/networks in every form, as far as it can
be checked without that machinery. test_netns.py and test_compose.py run it."""
import base64
import json
import os
import shutil
import stat
import subprocess
import tempfile
import unittest

try:
    import yaml
except ImportError:
    yaml = None

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.environ.get("QNETD_BUILD", os.path.join(ROOT, "build"))
QNETCTL = os.path.join(BUILD, "tools", "qnetctl", "qnetctl")
QNETD = os.environ.get("QNETD", os.path.join(BUILD, "daemon", "qnetd"))
NETWORKS = sorted(name[:-5] for name in os.listdir(os.path.join(ROOT, "deploy", "networks")) if name.endswith(".yaml"))
FORMATS = {"compose": "compose.yaml", "containerlab": "lab.clab.yml", "netns": "lab.sh", "kubernetes": "nodes.yaml"}


def network(name):
    return os.path.join(ROOT, "deploy", "networks", f"{name}.yaml")


def qnetctl(*words, stdin=None):
    return subprocess.run([QNETCTL, *words], input=stdin, capture_output=True, text=True, timeout=30, check=False)


def neighbours(topology):
    """Pairs of nodes that have a session: ends of a link, and an end and its station."""
    pairs = set()
    for link in topology["links"].values():
        ends = [*link["between"], *([link["via"]] if "via" in link else [])]
        pairs |= {frozenset((a, b)) for a in ends for b in ends if a != b}
    return pairs


class Export(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="qnetd-export-")
        self.addCleanup(temporary.cleanup)
        self.directory = temporary.name

    def export(self, name, form, *options, stdin=None):
        folder = os.path.join(self.directory, f"{os.path.basename(name)}-{form}")
        done = qnetctl("topology", "export", network(name) if stdin is None else "-", "--format", form, "--output", folder, *options, stdin=stdin)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("now", done.stdout)
        return folder

    def read(self, *path):
        with open(os.path.join(*path), encoding="utf-8") as file:
            return file.read()

    def load(self, *path):
        if yaml is None:
            self.skipTest("python3-yaml is not installed")
        return list(yaml.safe_load_all(self.read(*path)))

    def test_the_folder_is_whole_and_its_keys_are_private_and_kept(self):
        for form in FORMATS:
            folder = self.export("demo", form)
            for node in ("alice", "receiver"):
                state = os.path.join(folder, "nodes", node)
                key = os.path.join(state, "identity.key")
                self.assertEqual(stat.S_IMODE(os.stat(state).st_mode), 0o700)
                self.assertEqual(stat.S_IMODE(os.stat(key).st_mode), 0o600)
                if os.geteuid() == 0:
                    self.assertEqual(os.stat(key).st_uid, 65532)
                public = subprocess.run([QNETD, "pubkey"], input=self.read(key), capture_output=True, text=True, check=True).stdout.strip()
                self.assertIn(public, self.read(folder, "topology.yaml"))
            secrets = [os.path.join(folder, "nodes", *path) for path in (("laser", "initial", "receiver"), ("receiver", "initial", "laser"))]
            with open(secrets[0], "rb") as one, open(secrets[1], "rb") as other:
                self.assertEqual(one.read(), other.read())
            self.assertEqual(subprocess.run([QNETD, "--check", os.path.join(folder, "topology.yaml")], capture_output=True, check=False).returncode, 0)
            before = self.read(folder, "nodes", "alice", "identity.key")
            self.export("demo", form)
            self.assertEqual(self.read(folder, "nodes", "alice", "identity.key"), before)
            for root, _, files in os.walk(folder):
                for file in files:
                    if "nodes" not in os.path.relpath(root, folder).split(os.sep):
                        self.assertNotIn(before.strip(), self.read(root, file), "a private key outside nodes/")

    def test_ends_over_repeaters_share_secrets_unless_they_are_too_many(self):
        for form in FORMATS:
            folder = self.export("two-repeater-chain", form)
            secrets = [os.path.join(folder, "nodes", *path) for path in (("alice", "initial", "bob"), ("bob", "initial", "alice"))]
            with open(secrets[0], "rb") as one, open(secrets[1], "rb") as other:
                self.assertEqual(one.read(), other.read())
            if form == "kubernetes":
                self.assertIn("initial.bob=nodes/alice/initial/bob", self.read(folder, "kustomization.yaml"))
                self.assertIn("subPath: \"initial.bob\"", self.read(folder, "nodes.yaml"))
        ends = [f"n{i}" for i in range(47)]
        star = "version: 1\nnetwork: star\nnodes:\n  hub: {role: repeater}\n" + "".join(f"  {end}: {{role: memory}}\n" for end in ends)
        star += "links:\n" + "".join(f"  l{end}: {{between: [{end}, hub]}}\n" for end in ends)
        done = qnetctl("topology", "export", "-", "--format", "kubernetes", stdin=star)
        self.assertEqual(done.returncode, 0)
        self.assertIn("1081 pairs of nodes make keys over repeaters", done.stderr)
        self.assertIn("lab share", done.stderr)
        self.assertEqual(done.stdout.count("subPath: \"initial."), 2 * 47, "those of neighbours only")

    def test_without_a_folder_nothing_is_made_and_no_key_is_printed(self):
        for form, file in FORMATS.items():
            folder = self.export("triangle", form)
            done = qnetctl("topology", "export", network("triangle"), "--format", form)
            self.assertEqual((done.returncode, done.stdout), (0, self.read(folder, file)))
            self.assertIn("--output", done.stderr)
            with_json = json.loads(qnetctl("topology", "export", network("triangle"), "--format", form, "--json").stdout)
            self.assertEqual(with_json["text"], done.stdout)

    def test_bad_input_is_named(self):
        def fails(what, *words, stdin=None):
            done = qnetctl("topology", "export", *words, stdin=stdin)
            self.assertEqual(done.returncode, 2, words)
            self.assertIn(what, done.stderr)

        demo = network("demo")
        fails("FILE is missing", "--format", "compose")
        fails("--subnet", demo, "--format", "netns", "--subnet", "10.0.0.1/16")
        fails("no room for 9 networks", demo, "--format", "netns", "--subnet", "10.0.0.0/27")
        fails("--image", demo, "--format", "compose", "--image", "a b")
        fails("--output is for", demo, "--format", "dot", "--output", self.directory)
        long_name = "version: 1\nnetwork: long\nnodes:\n  " + "a" * 60 + ": {role: memory}\n"
        fails("too long for Kubernetes", "-", "--format", "kubernetes", stdin=long_name)
        folder = self.export("bb84-pair", "compose")
        other = base64.b64encode(b"\x09" + bytes(31)).decode()
        clash = self.read(network("bb84-pair")).replace("bob: {role: detector,", f"bob: {{role: detector, key: {other},")
        fails("not the key the topology gives for bob", "-", "--format", "compose", "--output", folder, stdin=clash)
        fresh = qnetctl("topology", "export", "-", "--format", "compose", "--output", folder + "-2", stdin=clash)
        self.assertEqual(fresh.returncode, 0)
        self.assertIn("put its private key into", fresh.stderr)
        self.assertFalse(os.path.exists(os.path.join(folder + "-2", "nodes", "bob", "identity.key")))

    def test_compose(self):
        for name in NETWORKS:
            with self.subTest(network=name):
                folder = self.export(name, "compose", "--subnet", "10.99.0.0/24", "--image", "example.org/qnetd:1")
                (topology,), (compose,) = self.load(folder, "topology.yaml"), self.load(folder, "compose.yaml")
                self.assertEqual(set(compose["services"]), set(topology["nodes"]))
                members = {}
                for node, service in compose["services"].items():
                    self.assertTrue(service["read_only"])
                    self.assertEqual((service["cap_drop"], service["security_opt"]), (["ALL"], ["no-new-privileges:true"]))
                    self.assertEqual(service["healthcheck"]["test"], ["CMD", "qnetctl", "health", "--quiet"])
                    self.assertEqual(service["image"], "${QNETD_IMAGE:-example.org/qnetd:1}")
                    self.assertNotIn(":-0", service["user"])
                    for one in service.get("networks", []):
                        members.setdefault(one, set()).add(node)
                self.assertEqual({frozenset(m) for m in members.values()}, neighbours(topology))
                self.assertEqual(set(members), set(compose.get("networks", {})))
                subnets = [one["ipam"]["config"][0]["subnet"] for one in compose["networks"].values()]
                self.assertEqual(len(set(subnets)), len(subnets))
                if name == "demo" and shutil.which("docker-compose"):
                    done = subprocess.run(["docker-compose", "-f", os.path.join(folder, "compose.yaml"), "config", "-q"], capture_output=True, text=True, check=False)
                    self.assertEqual(done.returncode, 0, done.stderr)

    def test_containerlab(self):
        for name in NETWORKS:
            with self.subTest(network=name):
                folder = self.export(name, "containerlab")
                (topology,), (lab,) = self.load(folder, "topology.yaml"), self.load(folder, "lab.clab.yml")
                self.assertEqual(lab["name"], topology["network"])
                nodes, links = lab["topology"]["nodes"], lab["topology"]["links"]
                self.assertEqual(set(nodes), set(topology["nodes"]))
                ends = [end for link in links for end in link["endpoints"]]
                self.assertEqual(len(set(ends)), len(ends), "an interface has one link")
                self.assertEqual({frozenset(end.split(":")[0] for end in link["endpoints"]) for link in links}, neighbours(topology))
                addresses = {}
                for node, text in nodes.items():
                    commands = [step["command"].split() for step in text["stages"]["create-links"]["exec"]]
                    self.assertEqual({f"{node}:{command[-1]}" for command in commands}, {end for end in ends if end.startswith(node + ":")})
                    addresses.update({(node, command[-1]): command[5].split("/")[0] for command in commands})
                    for bind in text["binds"]:
                        self.assertTrue(os.path.exists(os.path.join(folder, bind.split(":")[0])), bind)
                for link in links:  # What a node calls its neighbour is the neighbour's end of their link.
                    a, b = (tuple(end.split(":")) for end in link["endpoints"])
                    self.assertIn(f"{addresses[b]} {b[0]}\n", self.read(folder, "nodes", f"{a[0]}.hosts"))
                    self.assertIn(f"{addresses[a]} {a[0]}\n", self.read(folder, "nodes", f"{b[0]}.hosts"))

    def test_kubernetes(self):
        for name in NETWORKS:
            with self.subTest(network=name):
                folder = self.export(name, "kubernetes")
                (topology,), objects = self.load(folder, "topology.yaml"), self.load(folder, "nodes.yaml")
                (kustomization,) = self.load(folder, "kustomization.yaml")
                by_kind = {}
                for one in objects:
                    by_kind.setdefault(one["kind"], {})[one["metadata"]["name"]] = one
                names = {f"qnetd-{node}" for node in topology["nodes"]}
                self.assertEqual({kind: set(found) for kind, found in by_kind.items()},
                                 {kind: names for kind in ("Service", "StatefulSet", "NetworkPolicy")})
                secrets = {one["name"]: [file.partition("=") for file in one["files"]] for one in kustomization["secretGenerator"]}
                for node in topology["nodes"]:
                    key = f"qnetd-{node}"
                    service, workload = by_kind["Service"][key]["spec"], by_kind["StatefulSet"][key]["spec"]
                    self.assertEqual((service["clusterIP"], service["publishNotReadyAddresses"]), ("None", True))
                    pod, labels = workload["template"]["spec"], workload["template"]["metadata"]["labels"]
                    self.assertEqual(workload["serviceName"], key)
                    for selector in (service["selector"], workload["selector"]["matchLabels"]):
                        self.assertLessEqual(selector.items(), labels.items())
                    self.assertTrue(pod["securityContext"]["runAsNonRoot"])
                    (container,) = pod["containers"]
                    self.assertEqual(container["securityContext"], {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                                                    "capabilities": {"drop": ["ALL"]}})
                    self.assertEqual({container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")},
                                     {"/livez", "/readyz"})
                    volumes = {volume["name"] for volume in pod["volumes"]} | {claim["metadata"]["name"] for claim in workload["volumeClaimTemplates"]}
                    self.assertEqual({mount["name"] for mount in container["volumeMounts"]}, volumes)
                    for mount in container["volumeMounts"]:
                        if "subPath" in mount:
                            self.assertIn(mount["subPath"], [file[0] for file in secrets[key]])
                    for file in secrets[key]:
                        self.assertTrue(os.path.exists(os.path.join(folder, file[2])), file)
                    allowed = {peer["podSelector"]["matchLabels"]["qnetd/node"] for rule in by_kind["NetworkPolicy"][key]["spec"]["ingress"]
                               for peer in rule.get("from", [])}
                    self.assertEqual(allowed, {peer for pair in neighbours(topology) if node in pair for peer in pair - {node}})
                    self.assertEqual(topology["nodes"][node]["classical"].split(":")[0], key)

    def test_script_is_clean(self):
        for name in NETWORKS:
            script = os.path.join(self.export(name, "netns"), "lab.sh")
            self.assertTrue(os.access(script, os.X_OK))
            self.assertEqual(subprocess.run(["sh", "-n", script], capture_output=True, check=False).returncode, 0)
        if not shutil.which("shellcheck"):
            self.skipTest("shellcheck is not installed")
        done = subprocess.run(["shellcheck", script], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)


class Labs(unittest.TestCase):
    """deploy/labs as processes of this machine; their checks in the other forms are in the tests of those."""

    def test_each_does_what_its_check_asserts(self):
        labs = os.path.join(ROOT, "deploy", "labs")
        names = [name for name in sorted(os.listdir(labs)) if os.path.isdir(os.path.join(labs, name)) and not name.startswith("_")]
        self.assertEqual(names, ["bb84-pair", "demo", "two-repeater-chain"])
        for name in names:
            with self.subTest(lab=name), tempfile.TemporaryDirectory(prefix="qnetd-labs-") as directory:
                environment = {**os.environ, "XDG_RUNTIME_DIR": directory, "QNETCTL": QNETCTL}
                self.assertTrue(os.path.exists(os.path.join(labs, name, "README.md")))
                subprocess.run([QNETCTL, "lab", "up", network(name)], env=environment, check=True, stdout=subprocess.DEVNULL, timeout=60)
                try:
                    done = subprocess.run([os.path.join(labs, name, "check")], env=environment, capture_output=True, text=True, timeout=120, check=False)
                finally:
                    subprocess.run([QNETCTL, "lab", "down"], env=environment, check=True, stdout=subprocess.DEVNULL, timeout=60)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                self.assertNotIn("FAIL", done.stdout)

    def test_a_check_can_fail(self):
        done = subprocess.run([os.path.join(ROOT, "deploy", "labs", "demo", "check"), "--compose"], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 2)
        with tempfile.TemporaryDirectory(prefix="qnetd-labs-") as directory:
            environment = {**os.environ, "XDG_RUNTIME_DIR": directory, "QNETCTL": QNETCTL}
            done = subprocess.run([os.path.join(ROOT, "deploy", "labs", "demo", "check")], env=environment, capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 1, "no lab is running")
            self.assertIn("no lab is running", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
