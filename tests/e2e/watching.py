"""A watcher as a process of its own, and what it left on disk."""

import hashlib
import json
import os
import signal
import subprocess
import time

import psutil

from tests.e2e.conftest import BIN, REPO

# Files whose bytes hold a time or a duration. Everything else must be the same from run to run.
TIMED = (".log", ".tsv", ".started", ".failed", ".jsonl", ".json")


class Watch:
    """``optic-trigger watch`` in the background."""

    def __init__(self, project, *options):
        self.project = project
        self.options = options
        self.log = project.root / "watch.log"
        self.start()

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    str(BIN / "optic-trigger"),
                    "watch",
                    "--config",
                    str(self.project.config),
                    *map(str, self.options),
                ],
                cwd=REPO,
                stdout=log,
                stderr=log,
                env={**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        """End the watcher and everything that it started."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pid in self.drivers():
            for process in session(pid):
                kill(process)

    @property
    def text(self):
        return self.log.read_text(errors="replace")

    def stop(self, number=signal.SIGTERM):
        """Signal it; gives exit code and seconds."""
        start = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(timeout=60)
        return code, time.monotonic() - start

    def until(self, condition, timeout_s=60.0, poll_s=0.02):
        """Wait until a condition holds; fails with the log when it never does."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            found = condition()
            if found:
                return found
            if self.process.poll() not in (None, 0):
                raise AssertionError(f"the watcher ended:\n{self.text}")
            time.sleep(poll_s)
        raise AssertionError(f"not within {timeout_s} s; the watcher said:\n{self.text}")

    def until_it_looks(self):
        """Wait until it has looked at the source folders once."""

        def has_looked():
            try:
                snapshot = json.loads((self.project.dir / "state/control/watcher.json").read_text())
            except (OSError, ValueError):
                return False
            return snapshot["pid"] == self.process.pid

        self.until(has_looked)

    def drivers(self):
        """Process ids of drivers on record that live."""
        folder = self.project.dir / "state/control/drivers"
        found = []
        for record in sorted(folder.glob("*.json")) if folder.is_dir() else []:
            lock = self.project.dir / f"state/.locks/driver-{record.stem}.lock"
            try:
                pid = json.loads(lock.read_text() or "{}").get("pid")
            except (OSError, ValueError):
                continue
            if pid and psutil.pid_exists(pid):
                found.append(pid)
        return found


def session(leader):
    """Processes of a session."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader:
                found.append(process)
        except (OSError, psutil.Error):
            continue
    return found


def kill(process):
    try:
        process.kill()
    except psutil.Error:
        return False
    return True


def products(folder):
    """Hash of every product: all files but flags, logs and records that hold times."""
    found = {}
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        if not path.is_file() or inner.parts[0] in ("state", "logs", "benchmarks", ".snakemake"):
            continue
        if "state" in inner.parts or ".receipts" in inner.parts or path.suffix in TIMED:
            continue
        content = path.read_bytes()
        if path.suffix == ".mat":
            content = content[128:]  # the header of a MATLAB file holds the time
        found[str(inner)] = hashlib.sha256(content).hexdigest()
    return found


def flags(folder):
    """Names of the flags that are there, without records."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("state/*")
        if path.is_file() and path.suffix not in (".started", ".failed")
    }


def events(folder, name):
    """Events of a kind, all hosts."""
    lines = [
        json.loads(line)
        for path in sorted((folder / "state/events").glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    return [event for event in lines if event["event"] == name]
