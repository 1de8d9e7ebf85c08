# SPDX-License-Identifier: Apache-2.0
"""Keys with decoys and authentication between two real processes: accounts, attacks switched on meanwhile, crashes."""
import os
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from test_network import Failed, Lab  # noqa: E402

LINK = """version: 1
network: keys
time_scale: {scale}
nodes:
  laser: {{role: source}}
  bob: {{role: detector}}
links:
  qkd: {{between: [laser, bob], kind: bb84, length: 10km, preset: {preset}, block_size: {size}}}
"""


PAIRS = """version: 1
network: pairs
defaults: {link: {model: ideal, fidelity: 0.995, probability: 50%, length: 1km, attempt_time: 10us}}
nodes:
  alice: {role: memory, memories: 64}
  middle: {role: repeater, memories: 64}
  bob: {role: memory, memories: 64}
links:
  left: {between: [alice, middle]}
  right: {between: [middle, bob]}
"""


def blocks(lines):
    return [line for line in lines if line.get("type") == "block"]


class Qkd(unittest.TestCase):
    def test_accounts_and_attacks(self):
        with Lab(LINK.format(scale=1, preset="yuan2018", size=20000000)) as lab:
            lines = lab.ctl("bb84", "bob", "--node", "laser", "--blocks", 2)
            for block in blocks(lines):
                account = block["account"]
                self.assertTrue(account["authenticated"])
                self.assertEqual((account["bound"], account["verdict"], account["pad_bits"]), ("one decoy", "key", 256))
                self.assertEqual(account["net_bits"], block["secret"] - 256)
                self.assertLess(account["epsilon_authentication"], 1e-28)
                self.assertEqual(account["alarms"], [])
                self.assertGreater(block["efficiency"], 1)
                self.assertLess(block["efficiency"], 1.2)
                a, b = (lab.ctl("keys", "take", block["key_id"], "--node", node)[-1]["material"] for node in ("laser", "bob"))
                self.assertEqual(a, b)
            self.assertEqual(lines[-1]["net_bits"], lines[-1]["secret"] - lines[-1]["pad_bits"])

            before = lab.ctl("keys")[-1]["keys"]
            lab.fails("unsupported", "bb84", "bob", "--node", "laser", "--pairs")  # There are none between these.
            lab.ctl("fault", "attack", "qkd", "mitm")
            lab.fails("auth", "bb84", "bob", "--node", "laser", "--blocks", 1)
            self.assertEqual(len(lab.ctl("keys")[-1]["keys"]), len(before))
            lab.ctl("fault", "attack", "qkd", "blinding")
            block = blocks(lab.ctl("bb84", "laser", "--node", "bob", "--blocks", 1))[0]
            self.assertIn("doubles", [alarm["observable"] for alarm in block["account"]["alarms"]])
            self.assertIn("alarm", {event["code"] for event in lab.ctl("events", "--backlog", 50)})
            lab.ctl("fault", "attack", "qkd", "intercept-key")
            lab.fails("qber", "bb84", "bob", "--node", "laser", "--blocks", 1)
            lab.ctl("fault", "clear", "qkd")
            self.assertGreater(lab.ctl("bb84", "bob", "--node", "laser", "--blocks", 1)[-1]["secret"], 0)

    def test_a_key_from_pairs_over_a_repeater(self):
        with Lab(PAIRS) as lab:
            block = blocks(lab.ctl("bb84", "bob", "--node", "alice", "--block-pulses", 10000))[0]
            self.assertEqual((block["account"]["bound"], block["account"]["verdict"]), ("pairs", "key"))
            self.assertEqual((block["pulses"], block["clicks"]), (10000, 10000))
            account = block["account"]
            self.assertTrue(account["authenticated"])
            self.assertFalse(account["public_seed"])
            self.assertEqual(account["net_bits"], block["secret"] - account["pad_bits"])
            self.assertGreater(account["net_bits"], 0)
            self.assertLess(block["qber"], 0.03)
            a, b = (lab.ctl("keys", "take", block["key_id"], "--node", node)[-1]["material"] for node in ("alice", "bob"))
            self.assertEqual(a, b)
            lab.ctl("lab", "share", "alice", "bob")  # Both take it while they run.
            deadline = time.monotonic() + 10
            while sum(event["code"] == "secret_added" for event in lab.ctl("events", "--backlog", 200)) < 2:
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.05)
            left = account["pool_left"]
            account = blocks(lab.ctl("bb84", "bob", "--node", "alice", "--block-pulses", 2000))[0]["account"]
            self.assertGreater(account["pool_left"], left + 8 * 8192 - 4096)
            lab.fails("usage", "lab", "share", "alice", "alice")
            lab.ctl("fault", "attack", "right", "mitm", "--node", "middle")  # It changes what it passes on.
            failed = lab.fails("auth", "bb84", "bob", "--node", "alice", "--block-pulses", 2000)
            self.assertIn("middle", failed.error["message"])
            alarms = [event["text"] for event in lab.ctl("events", "--backlog", 100) if event["code"] == "alarm"]
            self.assertTrue(any("middle" in text for text in alarms), alarms)
            lab.ctl("fault", "clear", "right")
            block = blocks(lab.ctl("bb84", "middle", "--node", "bob", "--block-pulses", 30000, "--bell", "20%"))[0]
            self.assertGreater(block["bell_s"], 2.6)
            self.assertTrue(block["account"]["authenticated"])
            self.assertGreater(block["secret"], 3000)
            for status in lab.ctl("status")[0]["nodes"]:
                self.assertEqual((status["memories_used"], status["requests"]), (0, 0), status["node"])

    def test_the_same_file_gives_other_keys_each_time(self):
        keys = []
        for _ in range(2):
            with Lab(PAIRS) as lab:
                block = blocks(lab.ctl("bb84", "bob", "--node", "alice", "--block-pulses", 8000))[0]
                keys.append(lab.ctl("keys", "take", block["key_id"], "--node", "bob")[-1]["material"])
        self.assertGreater(len(keys[0]), 20)
        self.assertNotEqual(keys[0][:20], keys[1][:20])

    def test_a_session_ends_when_an_end_dies_and_others_follow(self):
        with Lab(LINK.format(scale=1, preset="gys", size=1000000)) as lab:
            with self.assertRaises(Failed) as failed:  # Hours of laser.
                lab.ctl("bb84", "bob", "--node", "laser", "--blocks", 1, "--timeout", "2s")
            self.assertEqual(failed.exception.error["code"], "timeout")
            lab.ctl("lab", "kill", "bob")
            lab.ctl("lab", "start", "bob")
            lab.ctl("wait", "--for", "ready", "--node", "laser")
            block = blocks(lab.ctl("bb84", "bob", "--node", "laser", "--blocks", 1, "--block-pulses", 200000))[0]
            self.assertEqual(block["failed"], "no_key")
            self.assertNotEqual(block["account"]["detail"], "")


if __name__ == "__main__":
    unittest.main()
