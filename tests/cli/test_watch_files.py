import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest

from opticstream_smk.errors import ConfigError
from opticstream_smk.trigger.command import FileCommand

COMMAND = [str(Path(sys.executable).parent / "optic-trigger"), "watch-files"]
QUICK = ["--debounce", "0.1", "--until-idle", "0.4"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def run(*arguments, **options):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=60,
        **options,
    )


@pytest.fixture
def start():
    """Start the command in the background; yields it when it watches."""
    started = []

    def begin(*arguments):
        child = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(child)
        assert "watching" in child.stderr.readline()
        return child

    yield begin
    for child in started:
        child.kill()
        child.communicate()


def wait_until(condition, timeout_s=20):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def code(*lines):
    """A command that runs Python code, quoted for the option."""
    return f"{sys.executable} -c '{'; '.join(lines)}'"


# ------------------------------------------------------------------------------ what it does
def test_files_are_printed(folder):
    for name in ("b.fits", "a.FIT", "c.txt"):
        (folder / name).write_bytes(b"x" * 1536)
    done = run(folder, "--ext", ".fits,.fit", "--existing", *QUICK)
    assert done.returncode == 0
    assert done.stdout == f"{folder}/a.FIT  1.5 KB\n{folder}/b.fits  1.5 KB\n"
    assert "stopped: 2 files, 0 commands failed" in done.stderr


def test_extensions_may_be_given_again(folder):
    for name in ("a.one", "b.TWO", "c.three", "d.four"):
        (folder / name).touch()
    done = run(folder, "--ext", ".one, .two", "--ext", ".three", "--existing", *QUICK)
    assert [Path(line.split()[0]).name for line in done.stdout.splitlines()] == [
        "a.one", "b.TWO", "c.three",
    ]  # fmt: skip


def test_one_json_line_for_each_file(folder):
    image = nibabel.Nifti1Image(np.zeros((2, 2), np.float32), np.eye(4))
    image.header["scl_slope"] = np.nan
    nibabel.save(image, folder / "a.nii")
    (folder / "b.raw").touch()
    command = code("print(42)", "raise SystemExit(5)")
    done = run(folder, "--format", "json", "--existing", "--run", command, *QUICK)

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    lines = [json.loads(line, parse_constant=refuse) for line in done.stdout.splitlines()]
    assert [line["path"] for line in lines] == [f"{folder}/a.nii", f"{folder}/b.raw"]
    assert lines[0]["header"]["dim"][:3] == [2, 2, 2]
    assert lines[0]["header"]["scl_slope"] is None
    assert lines[1] == {"path": f"{folder}/b.raw", "header": {}, "size_kb": 0.0, "exit_code": 5}
    assert "42" in done.stderr


@pytest.mark.parametrize("observer", ["auto", "native", "poll"])
def test_a_new_file_is_handed_to_the_command(folder, tmp_path, start, observer):
    watching = start(
        folder, "--observer", observer, "--debounce", 0.1,
        "--run", f"cp {{path}} {tmp_path}/copy-of-{{name}}",
    )  # fmt: skip
    (folder / "a.fits").write_bytes(b"image")
    wait_until((tmp_path / "copy-of-a.fits").exists)
    assert watching.stdout.readline() == f"{folder}/a.fits  0.0 KB\n"
    watching.send_signal(signal.SIGTERM)
    assert watching.wait(10) == 0


NASTY = [
    "two words.fits",
    'it\'s "quoted".fits',
    "a;touch pwned;.fits",
    "$(touch pwned)`touch pwned`.fits",
    "{name} {0} %s \\ *.fits",
    "-rf.fits",
    "line\nbreak.fits",
    "ümläut 🔬.fits",
    os.fsdecode(b"latin-\xe9.fits"),
]


def test_file_names_are_names_and_nothing_else(folder, tmp_path):
    for name in NASTY:
        (folder / name).touch()
    script = tmp_path / "record.py"
    script.write_text(
        "import json, sys\n"
        f"print(json.dumps(sys.argv[1:]), file=open({str(tmp_path / 'record')!r}, 'a'))\n"
    )
    template = (
        f"{sys.executable} {script} {{path}} --in={{name}} 'kept as {{size_kb:.0f}} {{{{}}}}'"
    )
    done = run(folder, "--existing", "--run", template, *QUICK, cwd=tmp_path)
    assert done.returncode == 0
    recorded = [json.loads(line) for line in (tmp_path / "record").read_text().splitlines()]
    expected = [[f"{folder}/{name}", f"--in={name}", "kept as 0 {}"] for name in sorted(NASTY)]
    assert recorded == expected
    assert {path.name for path in tmp_path.iterdir()} == {"in", "record", "record.py"}
    assert {path.name for path in folder.iterdir()} == set(NASTY)
    as_json = run(folder, "--existing", "--format", "json", *QUICK)
    paths = [json.loads(line)["path"] for line in as_json.stdout.splitlines()]
    assert paths == [f"{folder}/{name}" for name in sorted(NASTY)]


def test_a_plain_line_has_the_bytes_of_the_name(folder):
    name = b"latin-\xe9.fits"
    (folder / os.fsdecode(name)).touch()
    done = subprocess.run([*COMMAND, folder, "--existing", *QUICK], capture_output=True, timeout=60)
    assert done.stdout == os.fsencode(folder) + b"/" + name + b"  0.0 KB\n"


# -------------------------------------------------------------------------- failing commands
def test_a_failing_command_is_logged_and_the_next_file_is_told(folder, tmp_path):
    for name in ("a.fits", "b.fits", "c.fits"):
        (folder / name).touch()
    record = tmp_path / "record"
    command = code(
        "import sys, os",
        f'print(sys.argv[1], file=open("{record}", "a"))',
        'sys.exit(7) if "a.fits" in sys.argv[1] else None',
        'os.kill(os.getpid(), 9) if "b.fits" in sys.argv[1] else None',
    )
    done = run(folder, "--existing", "--run", f"{command} {{path}}", *QUICK)
    assert done.returncode == 0
    assert record.read_text().split() == [f"{folder}/{x}.fits" for x in "abc"]
    assert f"{folder}/a.fits: the command ended with exit code 7" in done.stderr
    assert f"{folder}/b.fits: the command ended with signal SIGKILL" in done.stderr
    assert [line.split("  ")[2:] for line in done.stdout.splitlines()] == [
        ["exit 7"], ["exit -9"], [],
    ]  # fmt: skip
    assert "3 files, 2 commands failed" in done.stderr


def test_a_command_that_goes_away(folder, tmp_path):
    script = tmp_path / "once"
    script.write_text(f"#!{sys.executable}\nimport os, sys\nos.unlink(sys.argv[0])\n")
    script.chmod(0o755)
    (folder / "a.fits").touch()
    (folder / "b.fits").touch()
    done = run(folder, "--existing", "--format", "json", "--run", f"{script} {{path}}", *QUICK)
    assert [json.loads(line)["exit_code"] for line in done.stdout.splitlines()] == [0, 127]
    assert f"{folder}/b.fits: the command cannot be started (No such file" in done.stderr


def test_commands_run_one_after_the_other(folder, tmp_path):
    for name in ("a.fits", "b.fits", "c.fits"):
        (folder / name).touch()
    lock = tmp_path / "lock"
    command = code(
        "import os, time", f'os.mkdir("{lock}")', "time.sleep(0.05)", f'os.rmdir("{lock}")'
    )
    done = run(folder, "--existing", "--run", command, *QUICK)
    assert "3 files, 0 commands failed" in done.stderr


# -------------------------------------------------------------------------------- stopping
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_at_once_when_idle(folder, start, number):
    watching = start(folder)
    begun = time.monotonic()
    watching.send_signal(number)
    assert watching.wait(10) == 0
    assert time.monotonic() - begun < 1
    assert "stopped: 0 files" in watching.stderr.read()


def slow_command(tmp_path, *lines):
    script = tmp_path / "slow.py"
    script.write_text(
        "import signal, sys, time\n"
        f"open({str(tmp_path / 'begun')!r}, 'w').close()\n"
        + "\n".join(lines)
        + f"\nopen({str(tmp_path / 'ended')!r}, 'w').close()\n"
    )
    return f"{sys.executable} {script}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_command_that_runs(folder, tmp_path, start, number):
    (folder / "a.fits").touch()
    (folder / "b.fits").touch()
    command = slow_command(tmp_path, "time.sleep(0.7)")
    watching = start(folder, "--existing", "--debounce", 0, "--run", command)
    wait_until((tmp_path / "begun").exists)
    watching.send_signal(number)
    assert watching.wait(20) == 0
    assert (tmp_path / "ended").exists()
    assert watching.stdout.read() == f"{folder}/a.fits  0.0 KB\n"
    assert "a second signal ends it" in watching.stderr.read()


def test_the_terminal_does_not_interrupt_the_command(folder, tmp_path, start):
    """Ctrl-C goes to all processes of a group; the command is in another one."""
    (folder / "a.fits").touch()
    command = slow_command(tmp_path, f"import os; open({str(tmp_path / 'group')!r}, 'w').write("
                           "str(os.getpgrp()))", "time.sleep(0.3)")  # fmt: skip
    watching = start(folder, "--existing", "--debounce", 0, "--run", command)
    wait_until((tmp_path / "begun").exists)
    watching.send_signal(signal.SIGINT)
    assert watching.wait(20) == 0
    assert int((tmp_path / "group").read_text()) not in (os.getpgrp(), watching.pid)


def test_a_second_signal_ends_the_command(folder, tmp_path, start):
    (folder / "a.fits").touch()
    command = slow_command(tmp_path, "time.sleep(60)")
    watching = start(folder, "--existing", "--debounce", 0, "--run", command)
    wait_until((tmp_path / "begun").exists)
    watching.send_signal(signal.SIGINT)
    assert "a second signal" in watching.stderr.readline() + watching.stderr.readline()
    begun = time.monotonic()
    watching.send_signal(signal.SIGINT)
    assert watching.wait(20) == 0
    assert time.monotonic() - begun < 4
    assert not (tmp_path / "ended").exists()
    assert "the command ended with signal SIGTERM" in watching.stderr.read()


def test_a_command_that_does_not_listen_is_killed(tmp_path, monkeypatch):
    """The grace period is shortened inside the process, the rest is real."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.fits").touch()
    script = tmp_path / "deaf.py"
    script.write_text(
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"open({str(tmp_path / 'begun')!r}, 'w').close()\ntime.sleep(60)\n"
    )
    starter = (
        "import sys\nfrom opticstream_smk.cli import trigger, watch_files\n"
        "watch_files.GRACE_S = 0.3\nsys.exit(trigger.main())\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", starter, "watch-files", str(tmp_path / "in"), "--existing",
         "--debounce", "0", "--run", f"{sys.executable} {script}"],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    wait_until((tmp_path / "begun").exists)
    child.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    child.send_signal(signal.SIGTERM)
    _, log = child.communicate(timeout=20)
    assert child.returncode == 0
    assert "the command ended with signal SIGKILL" in log


def test_until_idle_waits_for_the_command(folder, tmp_path):
    (folder / "a.fits").touch()
    command = slow_command(tmp_path, "time.sleep(0.8)")
    done = run(folder, "--existing", "--run", command, *QUICK)
    assert done.returncode == 0
    assert (tmp_path / "ended").exists()


def test_a_reader_that_goes_away_ends_it(folder):
    for name in ("a.fits", "b.fits", "c.fits"):
        (folder / name).touch()
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND, folder, "--existing", "--debounce", "0"],
        stdout=writer, stderr=subprocess.PIPE, text=True, timeout=30,
    )  # fmt: skip
    os.close(writer)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_standard_output(folder, tmp_path):
    for name in ("a.fits", "b.fits"):
        (folder / name).touch()
    command = f"touch {tmp_path}/did-{{name}}"
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [*COMMAND, folder, "--existing", "--run", command, *QUICK],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=30,
        )  # fmt: skip
    assert (tmp_path / "did-a.fits").exists()
    assert (tmp_path / "did-b.fits").exists()
    assert "standard output cannot be written (No space left on device)" in done.stderr
    assert "Traceback" not in done.stderr


# ------------------------------------------------------------------------------ bad usage
def test_a_missing_folder(tmp_path):
    done = run(tmp_path / "nowhere", "--until-idle", 0)
    assert done.returncode == 2
    assert f"cannot watch {tmp_path}/nowhere (No such file or directory)" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run", "process {file}"], "placeholder {file}"),
        (["--run", "process {}"], "placeholder {}"),
        (["--run", "process {path.name}"], "placeholder {path.name}"),
        (["--run", "process {path!z}"], "{path!z}"),
        (["--run", "process {path:d}"], "{path:d}"),
        (["--run", "process {path"], "'{path'"),
        (["--run", "process 'a"], "quotation"),
        (["--run", " "], "empty"),
        (["--run", "no-such-command {path}"], "no-such-command"),
        (["--ext", "fits"], "with its dot"),
        (["--ext", ","], "no extension"),
        (["--debounce", "-1"], "debounce delay"),
        (["--debounce", "nan"], "debounce delay"),
        (["--until-idle", "-1"], "--until-idle"),
        (["--until-idle", "nan"], "--until-idle"),
        (["--observer", "inotify"], "inotify"),
    ],
)
def test_bad_usage_exits_with_2(folder, capsys, monkeypatch, arguments, message):
    from opticstream_smk.cli import trigger

    monkeypatch.setattr(sys, "argv", ["optic-trigger", "watch-files", str(folder), *arguments])
    monkeypatch.setattr(trigger, "set_up_logging", lambda **_: None)
    told = []
    monkeypatch.setattr("opticstream_smk.cli.main.log.error", lambda *words: told.append(words))
    try:
        exit_code = trigger.main()
    except SystemExit as usage:
        exit_code = usage.code
    assert exit_code == 2
    assert message in (str(told[0][1]) if told else capsys.readouterr().err)


def test_help():
    done = run("--help")
    assert done.returncode == 0
    assert "{size_kb}" in done.stdout
    assert ".nii.gz" in done.stdout


def test_help_imports_nothing_heavy():
    script = (
        "import sys\n"
        "from opticstream_smk.cli import watch_files\n"
        "heavy = {'watchdog', 'numpy', 'pydantic', 'opticstream_smk.trigger.files'}\n"
        "assert not heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_default_extensions_in_the_help_are_those_of_the_watcher():
    from opticstream_smk.trigger import FileWatcher

    assert f"({','.join(FileWatcher.default_extensions)})" in "".join(run("--help").stdout.split())


# -------------------------------------------------------------------------------- the command
def test_nothing_starts_after_the_end(tmp_path):
    command = FileCommand(f"touch {tmp_path}/done")
    command.end()
    assert command.run({"path": "/a.fits", "size_kb": 1.0}) == -signal.SIGTERM
    assert not (tmp_path / "done").exists()


def test_a_program_may_be_a_placeholder(tmp_path, caplog):
    script = tmp_path / "a.fits"
    script.write_text("no program")
    assert FileCommand("{path}").run({"path": str(script), "size_kb": 0.0}) == 126
    assert "Permission denied" in caplog.text


def test_a_message_names_the_placeholders():
    with pytest.raises(ConfigError, match=r"\{path\}, \{name\}, \{size_kb\}"):
        FileCommand("ls {fil}")
