"""Stands for MATLAB's engine for Python in tests: the same calls, answered by GNU Octave."""

import io
import os
import subprocess
import threading


class EngineError(Exception):
    pass


class MatlabExecutionError(Exception):
    pass


class FutureResult:
    def __init__(self, process, threads, err):
        self._process, self._threads, self._err = process, threads, err

    def done(self):
        return self._process.poll() is not None and not any(t.is_alive() for t in self._threads)

    def result(self, timeout=None):
        if self._process.wait(timeout) != 0:
            said = [line for line in self._err.getvalue().splitlines() if line.startswith("error:")]
            raise MatlabExecutionError(said[0])


class MatlabEngine:
    """An Octave that waits for its one line of code."""

    def __init__(self):
        with open(os.environ["OPTIC_TEST_STARTS"], "a") as file:  # noqa: PTH123
            file.write("start\n")
        self._process = subprocess.Popen(
            ["octave-cli", "--quiet", "--norc", "--no-history"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def feature(self, name):
        assert name == "getpid"
        return float(self._process.pid)

    def eval(self, command, nargout=1, background=False, stdout=None, stderr=None):
        assert nargout == 0
        assert background
        assert type(stdout) is type(stderr) is io.StringIO  # nothing else is documented
        threads = [
            threading.Thread(target=lambda a=a, b=b: [b.write(line) for line in a])
            for a, b in ((self._process.stdout, stdout), (self._process.stderr, stderr))
        ]
        for thread in threads:
            thread.start()
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.close()
        return FutureResult(self._process, threads, stderr)

    def quit(self):
        assert self._process.poll() is not None


def start_matlab():
    if "OPTIC_TEST_NO_LICENCE" in os.environ:
        raise EngineError("Unable to launch MATLAB: License checkout failed.")
    return MatlabEngine()
