import logging
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

import psutil
import pytest

from opticstream_smk.errors import ConfigError
from opticstream_smk.host.priority import (
    PriorityError,
    PriorityKeeper,
    name_matches,
    parse_nice,
    system_priority,
)


@pytest.mark.parametrize(
    ("found", "wanted", "matches"),
    [
        ("Foo.exe", "foo", True),
        ("foo.exe", "Foo", True),
        ("notepad.exe", "notepad.exe", True),
        ("python3", "python3", True),
        ("python", "python.exe", True),
        ("AndorSolis.EXE", "andorsolis", True),
        ("other.exe", "foo", False),
        ("foobar", "foo", False),
        (None, "foo", False),
        ("", "foo", False),
        ("foo", "", False),
    ],
)
def test_names(found, wanted, matches):
    assert name_matches(found, wanted) is matches


@pytest.mark.parametrize(
    ("text", "nice"),
    [
        ("0", 0), (" 5 ", 5), ("-10", -10), ("19", 19), ("-20", -20),
        ("idle", 10), ("below_normal", 5), ("NORMAL", 0), ("above_normal", -2), (" High ", -5),
        ("realtime", -15),
    ],
)  # fmt: skip
def test_priorities(text, nice):
    assert parse_nice(text) == nice
    assert system_priority(text) == nice


@pytest.mark.parametrize("text", ["not_an_int", "20", "-21", "", "5.0", "very high"])
def test_no_priorities(text):
    with pytest.raises(PriorityError, match=r"above_normal.*nice value from -20 to 19"):
        parse_nice(text)
    with pytest.raises(ValueError, match="expected"):
        system_priority(text)
    with pytest.raises(ConfigError):
        system_priority(text)


@dataclass
class FakeProcess:
    name_: str
    pid: int = 4_000_000  # beyond what Linux gives
    started: float = 1.0
    priority: int = 0
    error: type[psutil.Error] | None = None
    set_to: list[int] = field(default_factory=list)

    def name(self):
        return self.name_

    def create_time(self):
        return self.started

    def nice(self, value=None):
        if value is None:
            return self.priority
        if self.error is not None:
            raise self.error(self.pid)
        self.set_to.append(value)
        self.priority = value
        return None

    def threads(self):
        return []


def keeper(*processes, priority=-5, name="AndorSolis"):
    return PriorityKeeper(name, priority, processes=lambda: list(processes))


def test_a_round_sets_what_is_meant_and_nothing_else(caplog):
    caplog.set_level(logging.INFO)
    andor, other = FakeProcess("AndorSolis.exe"), FakeProcess("AndorSolisUpdater.exe")
    found = keeper(andor, other)
    assert found.apply() == (1, 1)
    assert found.apply() == (1, 1)
    assert (andor.set_to, other.set_to) == ([-5], [])
    assert caplog.messages == ["priority of AndorSolis (process 4000000) set to -5, was 0"]


def test_a_priority_that_is_changed_comes_back():
    andor = FakeProcess("AndorSolis")
    found = keeper(andor)
    found.apply()
    andor.priority = 10
    found.apply()
    assert andor.set_to == [-5, -5]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (psutil.AccessDenied, "no permission to raise its priority"),
        (psutil.NoSuchProcess, "it ended before"),
    ],
)
def test_what_cannot_be_set_is_told_once_for_each_process(caplog, error, message):
    processes = [FakeProcess("AndorSolis", error=error), FakeProcess("AndorSolis", pid=4_000_001)]
    found = PriorityKeeper("AndorSolis", -5, processes=lambda: processes)
    assert [found.apply() for _ in range(3)] == [(2, 1)] * 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert message in caplog.text
    # Its number is given to another one: that is told again.
    processes[0] = FakeProcess("AndorSolis", started=2.0, error=error)
    found.apply()
    found.apply()
    assert len(caplog.records) == 2


def test_processes_that_end_while_they_are_listed():
    class Gone(FakeProcess):
        def name(self):
            raise psutil.NoSuchProcess(self.pid)

    assert keeper(Gone("x"), FakeProcess("AndorSolis")).apply() == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("", 0, 60), "no process is named"), (("x", 0, 0), "interval of 0 s"),
     (("x", 0, float("nan")), "interval of nan s")],
)  # fmt: skip
def test_arguments_that_cannot_be(arguments, message):
    name, priority, interval_s = arguments
    with pytest.raises(ConfigError, match=message):
        PriorityKeeper(name, priority, interval_s=interval_s)


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_thread_goes_on_and_ends(caplog):
    threads = threading.active_count()
    rounds = []

    def processes():
        rounds.append(len(rounds))
        if len(rounds) == 2:
            raise RuntimeError("a defect")
        return []

    found = PriorityKeeper("AndorSolis", 0, interval_s=0.01, processes=processes)
    found.start()
    found.start()
    assert threading.active_count() == threads + 1
    wait_until(lambda: len(rounds) >= 4)
    found.stop()
    found.stop()
    assert threading.active_count() == threads
    assert caplog.text.count("no process called AndorSolis runs") == 1
    assert caplog.text.count("internal error") == 1
    seen = len(rounds)
    found.start()
    wait_until(lambda: len(rounds) > seen)
    found.stop()
    assert threading.active_count() == threads


def test_stopping_does_not_wait_for_the_next_round():
    found = PriorityKeeper("AndorSolis", 0, interval_s=3600, processes=list)
    found.start()
    started = time.monotonic()
    found.stop()
    assert time.monotonic() - started < 5


def test_all_threads_of_a_real_process(tmp_path):
    # A name that nothing else on this host has.
    program = tmp_path / f"andor{os.getpid()}"
    program.symlink_to(os.path.realpath(sys.executable))
    code = (
        "import threading, sys\n"
        "for _ in range(2): threading.Thread(target=sys.stdin.read, daemon=True).start()\n"
        "print('running', flush=True)\n"
        "threading.Event().wait(60)"
    )
    process = subprocess.Popen(
        [program, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "running\n"
        wanted = min(os.getpriority(os.PRIO_PROCESS, 0) + 4, 19)
        assert PriorityKeeper(program.name, wanted).apply() == (1, 1)
        threads = [thread.id for thread in psutil.Process(process.pid).threads()]
        assert len(threads) == 3
        assert {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads} == {wanted}
    finally:
        process.kill()
        process.communicate()
