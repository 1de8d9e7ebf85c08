# SPDX-License-Identifier: Apache-2.0
"""The container image and a lab of containers: built and run with an engine of this test's own, whose data, socket and
networks go with it. Takes minutes (a base image is made with debootstrap, as none can be assumed to be there), so it
runs with ./tests/run --containers only. QNETD_CONTAINER_BASE may name a tar file of a base image, to save that time."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.environ.get("QNETD_BUILD", os.path.join(ROOT, "build"))
QNETCTL = os.path.join(BUILD, "tools", "qnetctl", "qnetctl")
CHECK = os.path.join(ROOT, "deploy", "labs", "check.py")
IMAGE_BYTES_MAX = 16e6


def why_not():
    """Why no engine can be started here, or None."""
    if os.environ.get("QNETD_CONTAINERS") != "1":
        return "containers are tested with ./tests/run --containers (about 6 minutes)"
    if os.geteuid() != 0:
        return "an engine of our own needs root"
    missing = [program for program in ("dockerd", "docker", "docker-compose", "runc", "ip") if shutil.which(program) is None]
    if "QNETD_CONTAINER_BASE" not in os.environ and shutil.which("debootstrap") is None:
        missing.append("debootstrap")
    return f"not installed: {', '.join(missing)}" if missing else None


REASON = why_not()


def run(*command, timeout=600, check=True, **options):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False, **options)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {done.returncode}\n{done.stdout[-4000:]}")
    return done


class Engine:
    """A dockerd on a socket in a folder of its own. It runs in namespaces of its own for networks and mounts, so that its
    bridges, packet filters and mounts are nobody else's, and gone when it is."""

    def __init__(self, folder):
        self.folder = folder
        self.socket = f"unix://{folder}/docker.sock"
        self.environment = {**os.environ, "DOCKER_HOST": self.socket, "DOCKER_BUILDKIT": "0", "COMPOSE_PROJECT_NAME": f"qnetd{os.getpid()}"}
        self.namespace = f"qnetd-engine-{os.getpid()}"
        run("ip", "netns", "add", self.namespace)
        run("ip", "-n", self.namespace, "link", "set", "dev", "lo", "up")
        self.log = open(os.path.join(folder, "dockerd.log"), "wb")  # pylint: disable=consider-using-with
        # Some kernels and containers refuse to raise the limits of their own accord.
        self.process = subprocess.Popen(["nsenter", f"--net=/run/netns/{self.namespace}", "unshare", "--mount", "dockerd", "--data-root", f"{folder}/data", "--exec-root",
                                         f"{folder}/exec", "--pidfile", f"{folder}/pid", "--host", self.socket, "--default-ulimit",
                                         "nofile=4096:4096", "--default-ulimit", "nproc=4096:4096"],
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def wait(self):
        """None when it answers, else why it does not."""
        for _ in range(300):
            if self.process.poll() is not None:
                break
            if self.docker("version", check=False).returncode == 0:
                return None
            time.sleep(0.1)
        with open(os.path.join(self.folder, "dockerd.log"), encoding="utf-8", errors="replace") as log:
            return "dockerd does not start: " + (log.read().strip().splitlines() or ["no word"])[-1]

    def docker(self, *words, **options):
        return run("docker", *words, env=self.environment, **options)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        run("ip", "netns", "delete", self.namespace)


def packages():
    """What tools/setup installs, without the tests."""
    with open(os.path.join(ROOT, "tools", "setup"), encoding="utf-8") as file:
        return re.search(r'packages="([^"]*)"', file.read())[1].split()


@unittest.skipIf(REASON, REASON)
class Containers(unittest.TestCase):
    limit_s = 1700

    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="qnetd-compose-")
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.folder = cls.temporary.name
        cls.engine = Engine(cls.folder)
        cls.addClassCleanup(cls.engine.stop)
        reason = cls.engine.wait()
        if reason:
            raise unittest.SkipTest(reason)
        started = time.monotonic()
        base = os.environ.get("QNETD_CONTAINER_BASE")
        if base is None:
            base = os.path.join(cls.folder, "base.tar")
            run("debootstrap", "--variant=minbase", f"--include={','.join(packages())}", "bookworm", f"{cls.folder}/base", timeout=1200)
            run("tar", "-C", f"{cls.folder}/base", "-cf", base, ".")
            shutil.rmtree(f"{cls.folder}/base")
        cls.engine.docker("import", base, "qnetd-base")
        made = time.monotonic()
        cls.engine.docker("build", "--network", "host", "--build-arg", "BASE=qnetd-base", "--file", f"{ROOT}/deploy/docker/Dockerfile", "--tag", "qnetd:latest",
                          ROOT, timeout=1200)
        print(f"# base image {made - started:.0f} s, image {time.monotonic() - made:.0f} s", flush=True)

    def test_the_image_is_small_and_unprivileged(self):
        image = json.loads(self.engine.docker("image", "inspect", "qnetd:latest").stdout)[0]
        print(f"# image: {image['Size'] / 1e6:.1f} MB", flush=True)
        self.assertLess(image["Size"], IMAGE_BYTES_MAX)
        config = image["Config"]
        self.assertEqual(config["User"], "65532:65532")
        self.assertEqual(config["Healthcheck"]["Test"], ["CMD", "/usr/bin/qnetctl", "health", "--quiet"])
        for label in ("title", "licenses", "version", "revision"):
            self.assertIn(f"org.opencontainers.image.{label}", config["Labels"])
        confined = ("run", "--rm", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "none")
        self.assertIn("qnetd 0.", self.engine.docker(*confined, "qnetd:latest", "--version").stdout)
        self.assertEqual(len(self.engine.docker(*confined, "qnetd:latest", "genkey").stdout.strip()), 44)
        self.assertNotEqual(self.engine.docker(*confined, "--entrypoint", "/bin/sh", "qnetd:latest", "-c", "true", check=False).returncode, 0, "no shell")

    def compose(self, *words, **options):
        return run("docker-compose", "--file", f"{self.lab}/compose.yaml", *words, env=self.engine.environment, **options)

    def ctl(self, node, *words):
        return self.compose("exec", "-T", node, "qnetctl", *words)

    def check(self):
        done = run(sys.executable, CHECK, "demo", "--compose", self.lab, env=self.engine.environment)
        self.assertEqual(done.stdout.count("ok  "), 4, done.stdout)

    def wait_ready(self):
        for node in self.nodes:
            self.ctl(node, "wait", "--for", "ready", "--timeout", "60s")

    def test_a_lab_survives_its_containers_and_networks(self):
        self.lab = os.path.join(self.folder, "lab")
        run(QNETCTL, "topology", "export", f"{ROOT}/deploy/networks/demo.yaml", "--format", "compose", "--output", self.lab)
        self.nodes = sorted(os.listdir(f"{self.lab}/nodes"))
        project = self.engine.environment["COMPOSE_PROJECT_NAME"]
        started = time.monotonic()
        self.addCleanup(self.compose, "down", "--volumes", "--timeout", "5", check=False)
        self.compose("up", "--detach")
        self.wait_ready()
        print(f"# {len(self.nodes)} containers ready {time.monotonic() - started:.1f} s after `up`", flush=True)
        self.assertIn("seccomp", self.ctl("alice", "status").stdout)
        self.check()

        inspected = json.loads(self.engine.docker("inspect", f"{project}_alice_1").stdout)[0]
        self.assertEqual(inspected["Config"]["User"], "65532:65532")
        self.assertTrue(inspected["HostConfig"]["ReadonlyRootfs"])
        self.assertEqual(len(inspected["NetworkSettings"]["Networks"]), 3, "charlie, r1, laser")

        self.engine.docker("kill", f"{project}_receiver_1")
        self.ctl("laser", "wait", "--for", "peer=receiver:down", "--timeout", "30s")
        started = time.monotonic()
        self.compose("up", "--detach")
        self.wait_ready()
        print(f"# ready {time.monotonic() - started:.1f} s after a killed container is started again", flush=True)
        self.check()

        network = f"{project}_laser.receiver"
        started = time.monotonic()
        self.engine.docker("network", "disconnect", network, f"{project}_receiver_1")
        self.ctl("laser", "wait", "--for", "peer=receiver:down", "--timeout", "60s")
        print(f"# a disconnected network is noticed after {time.monotonic() - started:.1f} s", flush=True)
        failed = self.compose("exec", "-T", "laser", "qnetctl", "bb84", "receiver", "--timeout", "1s", check=False)
        self.assertIn("the peer is down", failed.stdout)
        started = time.monotonic()
        self.engine.docker("network", "connect", "--alias", "receiver", network, f"{project}_receiver_1")
        self.wait_ready()
        print(f"# ready {time.monotonic() - started:.1f} s after it is connected again", flush=True)
        self.check()


if __name__ == "__main__":
    unittest.main(verbosity=2)
