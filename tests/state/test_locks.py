import json
import os
import subprocess
import sys
import threading
import time

import pytest

from opticstream_smk.state import locks

HOLDER = """
import sys, time
from pathlib import Path
from opticstream_smk.state import locks
with locks.hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    path = tmp_path / ".locks" / "x.lock"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield path, process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_lock_says_who_holds_it(holder):
    path, process = holder
    assert locks.is_held(path)
    assert json.loads(path.read_text())["pid"] == process.pid
    assert str(process.pid) in locks.describe_holder(path)


def test_a_killed_holder_frees_its_lock_at_once(holder):
    path, process = holder
    process.kill()
    process.wait()
    assert not locks.is_held(path)
    started = time.monotonic()
    with locks.hold(path):
        assert time.monotonic() - started < 5
    assert path.read_text() == ""


def test_a_second_one_waits(holder):
    path, process = holder
    waited = []
    thread = threading.Thread(target=lambda: waited.append(_hold(path)))
    thread.start()
    thread.join(0.5)
    assert thread.is_alive()
    process.kill()
    thread.join(20)
    assert waited == [True]


def _hold(path):
    with locks.hold(path) as waited:
        return waited


def test_a_free_lock_does_not_wait(tmp_path):
    assert _hold(tmp_path / "a.lock") is False
    assert not locks.is_held(tmp_path / "a.lock")
    assert not locks.is_held(tmp_path / "never.lock")


def test_the_heartbeat_of_another_host_decides(tmp_path, monkeypatch):
    path = tmp_path / "a.lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    assert locks.is_held(path)
    old = time.time() - 2 * locks.DEAD_AFTER_S
    os.utime(path, (old, old))
    assert not locks.is_held(path)
    assert _hold(path) is False


def test_waiting_for_another_host_ends_with_its_heartbeat(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "DEAD_AFTER_S", 0.6)
    path = tmp_path / "a.lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    started = time.monotonic()
    assert _hold(path) is True
    assert time.monotonic() - started > 0.3


def test_a_holder_beats(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "HEARTBEAT_S", 0.05)
    path = tmp_path / "a.lock"
    with locks.hold(path):
        os.utime(path, (1, 1))
        deadline = time.monotonic() + 10
        while path.stat().st_mtime < 1000 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert path.stat().st_mtime > 1000
