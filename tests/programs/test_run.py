"""A command is run to its end: its output comes as it is written, and nothing outlives it."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from opticstream_smk.programs import supervise
from opticstream_smk.programs.run import run_program

LONG_S = 60


def python(code):
    return [sys.executable, "-c", code]


def wait_until(condition, limit_s=20.0):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_lines_of_both_streams_come_in_order_and_once():
    code = (
        "import sys\n"
        "for n in range(3):\n"
        "    print('out', n, flush=True)\n"
        "    print('err', n, file=sys.stderr, flush=True)\n"
        "sys.stdout.buffer.write(b'gr\\xc3\\xb6\\xc3\\x9fe \\xff\\r\\n\\nno end')"
    )
    shown = []
    done = run_program(python(code), limit_s=LONG_S, name="x", show=shown.append)
    assert done.code == 0
    assert shown == ["out 0", "err 0", "out 1", "err 1", "out 2", "err 2", "größe �", "", "no end"]
    assert done.lines == tuple(shown)


def test_lines_come_while_the_command_runs(tmp_path):
    seen = tmp_path / "seen"
    code = (
        "import pathlib, time\n"
        "print('first', flush=True)\n"
        f"while not pathlib.Path({str(seen)!r}).exists(): time.sleep(0.01)\n"
        "print('second')"
    )
    shown = []

    def show(line):
        shown.append(line)
        seen.touch()

    assert run_program(python(code), limit_s=LONG_S, name="x", show=show).code == 0
    assert shown == ["first", "second"]


def test_the_log_gets_the_lines(caplog):
    caplog.set_level("INFO")
    run_program(python("print('said')"), limit_s=LONG_S, name="x")
    assert "x: said" in caplog.messages


def test_only_the_end_of_a_long_output_is_kept():
    shown = []
    done = run_program(
        python("for n in range(30000): print('x' * 100, n)"),
        limit_s=LONG_S,
        name="x",
        show=shown.append,
    )
    assert len(shown) == 30000
    assert len(done.lines) == 2000
    assert done.lines[-1] == shown[-1]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import sys; sys.exit(3)", 3),
        ("import os; os.kill(os.getpid(), 9)", 128 + signal.SIGKILL),
        ("import os; os.kill(os.getpid(), 15)", 128 + signal.SIGTERM),
    ],
)
def test_how_it_ended(code, expected):
    assert run_program(python(code), limit_s=LONG_S, name="x").code == expected


def test_an_argument_is_handed_over_as_it_is():
    text = "f('it''s', \"$HOME `id` ; & | \\ ü %s\")"
    shown = []
    run_program(
        [*python("import sys; print(sys.argv[1])"), text],
        limit_s=LONG_S,
        name="x",
        show=shown.append,
    )
    assert shown == [text]


def test_no_such_program():
    done = run_program(["/no/such/program", "x"], limit_s=LONG_S, name="x")
    assert done.code == 127
    assert done.lines == ("/no/such/program cannot be started: No such file or directory",)


_TREE = (
    "import os, subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "open({path!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
)


def test_it_is_ended_with_its_children_when_it_takes_too_long(tmp_path):
    path = tmp_path / "pids"
    code = _TREE.format(path=str(path)) + "time.sleep(600)"
    assert run_program(python(code), limit_s=1.5, name="x").code is None
    pids = list(map(int, path.read_text().split()))
    assert len(pids) == 2
    wait_until(lambda: not any(map(is_alive, pids)))  # a killed grandchild is not waited for


def test_what_it_left_running_does_not_keep_the_run_open(tmp_path):
    """MATLAB starts services that hold on to its output."""
    path = tmp_path / "pids"
    shown = []
    started = time.monotonic()
    done = run_program(
        python(_TREE.format(path=str(path)) + "print('end')"),
        limit_s=LONG_S,
        name="x",
        show=shown.append,
    )
    assert (done.code, shown) == (0, ["end"])
    assert time.monotonic() - started < LONG_S / 2
    wait_until(lambda: not any(map(is_alive, map(int, path.read_text().split()))))


def test_a_service_in_a_session_of_its_own_does_not_keep_the_run_open(tmp_path):
    path = tmp_path / "pid"
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(30)'],\n"
        "                         start_new_session=True)\n"
        f"open({str(path)!r}, 'w').write(str(child.pid))\n"
        "print('end')"
    )
    shown = []
    try:
        assert run_program(python(code), limit_s=20, name="x", show=shown.append).code == 0
        assert shown == ["end"]
    finally:
        os.kill(int(path.read_text()), signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_it_ends_with_the_process_that_runs_it(tmp_path, number):
    path = tmp_path / "pids"
    inner = _TREE.format(path=str(path)) + "time.sleep(600)"
    code = (
        "from opticstream_smk.programs.run import run_program\n"
        f"run_program({python(inner)!r}, limit_s=600, name='x')"
    )
    process = subprocess.Popen(
        python(code),
        stderr=subprocess.DEVNULL,
        # Where the tests run in the background of a script, SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_until(lambda: path.exists() and len(path.read_text().split()) == 2)
    pids = list(map(int, path.read_text().split()))
    assert all(map(is_alive, pids))
    process.send_signal(number)
    process.wait(20)
    wait_until(lambda: not any(map(is_alive, pids)))


def test_a_command_that_ignores_the_signal_is_killed(tmp_path, monkeypatch):
    script = tmp_path / "supervise.py"
    content = Path(supervise.__file__).read_text()
    assert "_GRACE_S = 10" in content
    script.write_text(content.replace("_GRACE_S = 10", "_GRACE_S = 0.3"))
    monkeypatch.setattr(supervise, "__file__", str(script))
    path = tmp_path / "pids"
    code = (
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        + _TREE.format(path=str(path))
        + "time.sleep(600)"
    )
    assert run_program(python(code), limit_s=1.5, name="x").code is None
    wait_until(lambda: not any(map(is_alive, map(int, path.read_text().split()))))


def test_two_at_a_time_do_not_end_each_other(tmp_path):
    """The pipe by which one is ended must not be held by the other."""
    path = tmp_path / "pid"
    code = f"import os, time; open({str(path)!r}, 'w').write(str(os.getpid())); time.sleep(2)"
    codes = []
    thread = threading.Thread(
        target=lambda: codes.append(run_program(python(code), limit_s=LONG_S, name="x").code)
    )
    thread.start()
    wait_until(lambda: path.exists() and path.read_text())
    assert run_program(python("import time; time.sleep(600)"), limit_s=0.5, name="x").code is None
    thread.join(30)
    assert codes == [0]
