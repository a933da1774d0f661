import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from opticstream_smk.cli import process_priority
from opticstream_smk.errors import ConfigError, IncompleteInputError, ServiceError
from opticstream_smk.host import priority

BIN = Path(sys.executable).parent


def parse(*words):
    parser = argparse.ArgumentParser()
    process_priority.add_arguments(parser)
    return parser.parse_args(words)


@pytest.fixture
def target(tmp_path):
    """A process of a name that nothing else on this host has."""
    program = tmp_path / f"andor{os.getpid()}"
    program.symlink_to(os.path.realpath("/bin/sleep"))
    process = subprocess.Popen([program, "60"])
    yield program.name, psutil.Process(process.pid)
    process.kill()
    process.wait()


def test_the_classes_are_those_of_the_module():
    assert tuple(priority.NICE_OF_CLASS) == process_priority.CLASSES


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ((), "normal"),
        (("-w", "idle"), "idle"),
        (("-n", "-5"), "-5"),
        (("-n", "3", "-w", "high"), "3"),
        (("--nice", "3"), "3"),
        (("--windows-priority", "realtime"), "realtime"),
    ],
)
def test_class_or_nice_value(words, wanted):
    arguments = parse("AndorSolis", *words)
    assert process_priority._wanted(arguments) == wanted
    assert (arguments.name, arguments.interval_s) == ("AndorSolis", 60)


def test_on_windows_only_the_class_counts(monkeypatch, caplog):
    monkeypatch.setattr(process_priority.sys, "platform", "win32")
    assert process_priority._wanted(parse("x", "-n", "3", "-w", "high")) == "high"
    assert "--nice means nothing on Windows" in caplog.text


def test_once(target, capsys):
    name, process = target
    wanted = min(os.getpriority(os.PRIO_PROCESS, 0) + 6, 19)
    assert process_priority.run(parse(f"{name.upper()}.exe", "-n", str(wanted), "--once")) == 0
    assert process.nice() == wanted
    assert f"have priority {wanted}" in capsys.readouterr().out


def test_once_without_the_process():
    with pytest.raises(IncompleteInputError, match="no process called nosuchsoftware runs"):
        process_priority.run(parse("nosuchsoftware", "--once"))


def test_once_without_permission(target, monkeypatch):
    def denied(process, _priority):
        raise psutil.AccessDenied(process.pid)

    monkeypatch.setattr(priority, "_set_priority", denied)
    with pytest.raises(ServiceError, match="0 of 1 processes"):
        process_priority.run(parse(target[0], "--once"))


@pytest.mark.parametrize("words", [("x", "-i", "0"), ("x", "-n", "20"), ("x", "-i", "-3"), ("  ",)])
def test_wrong_options(words):
    with pytest.raises(ConfigError):
        process_priority.run(parse(*words))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_runs_until_it_is_interrupted(target, number):
    name, process = target
    wanted = min(os.getpriority(os.PRIO_PROCESS, 0) + 2, 19)
    command = [BIN / "optic-trigger", "process-priority", name, "-i", "0.05", "-n", str(wanted)]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert f"set to {wanted}" in running.stderr.readline()
        assert process.nice() == wanted
        process.nice(min(wanted + 1, 19))
        assert f"set to {wanted}" in running.stderr.readline() or wanted == 19
        running.send_signal(number)
        assert running.wait(20) == 0
    finally:
        running.kill()
        running.communicate()
