# SPDX-License-Identifier: Apache-2.0
"""Runs a file of unittest cases and tells the outcome of each in TAP, so that they are counted one by one."""
import importlib.util
import os
import signal
import sys
import traceback
import unittest


LIMIT_S = 200  # Of one case, if it names no `limit_s`: what waits for ever is told by its name and place, and the rest goes on.


def too_long(_number, _frame):
    raise TimeoutError("the case takes too long")


class Tap(unittest.TestResult):
    def __init__(self):
        super().__init__()
        self.n = 0
        signal.signal(signal.SIGALRM, too_long)

    def startTest(self, test):
        super().startTest(test)
        signal.alarm(getattr(test, "limit_s", LIMIT_S))

    def stopTest(self, test):
        signal.alarm(0)
        super().stopTest(test)

    def line(self, test, ok, note=""):
        self.n += 1
        print(f"{'ok' if ok else 'not ok'} {self.n} - {'.'.join(test.id().split('.')[-2:])}{note}", flush=True)

    def addSuccess(self, test):
        self.line(test, True)

    def addSkip(self, test, reason):
        self.line(test, True, f": {reason} # SKIP")  # In the name: Meson's report has no place for the reason.

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.line(test, False)
        print("\n".join("# " + line for line in "".join(traceback.format_exception(*err)).splitlines()), flush=True)

    addError = addFailure

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.addFailure(subtest, err)


path = sys.argv[1]
sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
spec = importlib.util.spec_from_file_location(os.path.splitext(os.path.basename(path))[0], path)
module = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = module
spec.loader.exec_module(module)
suite = unittest.defaultTestLoader.loadTestsFromModule(module)
print(f"1..{suite.countTestCases()}", flush=True)
result = Tap()
suite.run(result)
sys.exit(0 if result.wasSuccessful() else 1)
