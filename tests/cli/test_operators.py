"""The operators' commands as they are typed, on projects of flags."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest

from opticstream_smk.cli.trigger import main
from opticstream_smk.layout import ProjectLayout
from opticstream_smk.state.events import append_event
from opticstream_smk.state.places import batch_place, flag_path, mosaic_place, slice_place
from opticstream_smk.trigger.control import paused
from tests.cli.test_commands import BIN, run
from tests.report.flags import failed, finished_slice, processed, ready, watched, working


@pytest.fixture
def config(make_config):
    return make_config()


@dataclass
class Done:
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def typed(config, tmp_path, monkeypatch, capsys, caplog):
    """Type a command; it runs in this process, which takes a tenth of the time."""

    def type_(*words):
        line = ["optic-trigger", *words, "--config", tmp_path / "project.yaml"]
        monkeypatch.setattr(sys, "argv", [str(word) for word in line])
        caplog.clear()
        code = main()
        told = capsys.readouterr()
        return Done(code, told.out, told.err + caplog.text)

    return type_


def is_failed(config, place):
    return flag_path(ProjectLayout(config.project.dir), place, "failed").exists()


@pytest.mark.parametrize("name", ["explain", "logs", "pause", "resume", "retry"])
def test_every_command_has_help(name):
    done = run("optic-trigger", name, "--help")
    assert done.returncode == 0
    assert "usage:" in done.stdout


# ----------------------------------------------------------------------------- status, explain
def test_status(config, typed):
    finished_slice(config)
    assert typed("status").returncode == 0
    failed(config, slice_place(2), state="registered", wait_s=None)
    done = typed("status", "--format", "json")
    assert done.returncode == 3
    report = json.loads(done.stdout)
    assert report["exit_code"] == 3
    assert report["slices"][0]["mosaics"][0]["batches"] == {"1": "done", "2": "done"}
    assert report["failures"][0]["command"] == "optic-trigger retry --slice 2"


def test_explain(config, typed):
    processed(config, 1, 1)
    done = typed("explain", "--mosaic", 1, "--batch", 1)
    assert done.returncode == 0
    assert "process_tiles" in done.stdout
    plain = json.loads(typed("explain", "--mosaic", 1, "--format", "json").stdout)
    assert plain["where"] == "mosaic 001"
    assert plain["next"]
    beyond = typed("explain", "--mosaic", 1, "--batch", 9)
    assert beyond.returncode == 2
    assert "its grid is 2 x 2 tiles" in beyond.stderr
    assert typed("explain", "--mosaic", 0).returncode == 2
    assert typed("explain").returncode == 2


# ------------------------------------------------------------------------------- pause, resume
def test_pause_and_resume(config, typed):
    layout = ProjectLayout(config.project.dir)
    done = typed("pause", "--reason", "moving the disk")
    assert done.stdout.startswith("paused since ")
    assert "no watcher is running" in done.stdout
    again = typed("pause", "--reason", "other")
    assert again.returncode == 0
    assert again.stdout.startswith("was paused before, since ")
    assert paused(layout).reason == "moving the disk"
    assert "moving the disk" in typed("status").stdout
    with watched(config):
        done = typed("resume")
    assert done.stdout.startswith("resumed; it was paused since ")
    assert "the watcher goes on within 5 s" in done.stdout
    done = typed("resume")
    assert (done.returncode, done.stdout.startswith("it is not paused\n")) == (0, True)


# --------------------------------------------------------------------------------------- retry
@pytest.fixture
def broken(config):
    """Failures at every level; two of them in mosaic 1."""
    places = [
        batch_place(1, 1),
        batch_place(1, 2),
        batch_place(2, 1),
        mosaic_place(3),
        slice_place(1),
    ]
    for place in places[:3]:
        ready(config, place.mosaic, place.batch)
        failed(config, place, attempts=3, wait_s=None)
    failed(config, places[3], flag="tilemap-normal.solved", stage="solve_coordinates", wait_s=None)
    failed(config, places[4], state="registered", stage="register_slice", wait_s=None)
    return places


@pytest.mark.parametrize(
    ("words", "released"),
    [
        (("--mosaic", 1, "--batch", 2), [1]),
        (("--mosaic", 1), [0, 1]),
        (("--slice", 1), [0, 1, 2, 4]),
        (("--mosaic", 3), [3]),
        (("--all",), [0, 1, 2, 3, 4]),
    ],
)
def test_retry_releases_what_is_asked(config, typed, broken, words, released):
    done = typed("retry", *words)
    assert done.returncode == 0
    assert done.stdout.count("released ") == len(released)
    assert [is_failed(config, place) for place in broken] == [
        number not in released for number in range(len(broken))
    ]
    assert "next: snakemake --profile zircon" in done.stdout
    assert typed("retry", *words).returncode == 3


def test_retry_of_what_scan_and_watch_recorded(config, typed):
    failed(config, batch_place(1, 1), flag="batch-001.ready", stage="scan", wait_s=None)
    done = typed("retry", "--mosaic", 1)
    assert "released mosaic 001 batch 001: scan, attempt 1" in done.stdout
    failed(config, batch_place(1, 1)).write_text("{damaged")
    assert typed("retry", "--mosaic", 1).returncode == 0
    assert not is_failed(config, batch_place(1, 1))


def test_retry_with_a_watcher_needs_no_other_command(config, typed, broken):
    with watched(config):
        done = typed("retry", "--mosaic", 1, "--batch", 1)
        assert "the watcher takes it within 5 s" in done.stdout
        typed("pause")
        done = typed("retry", "--mosaic", 1, "--batch", 2)
        assert "next: optic-trigger resume" in done.stdout


def test_what_runs_again_is_left_alone(config, typed, broken):
    with working(config, broken[0], "processed"):
        done = typed("retry", "--mosaic", 1)
    assert "running  mosaic 001 batch 001" in done.stdout
    assert [is_failed(config, place) for place in broken[:2]] == [True, False]


def test_retry_says_what_is_wrong(typed):
    nothing = typed("retry", "--mosaic", 7)
    assert nothing.returncode == 3
    assert "no failure is recorded for mosaic 7" in nothing.stderr
    for words in ((), ("--all", "--mosaic", 1), ("--batch", 1)):
        assert typed("retry", *words).returncode == 2


def test_light_sheet_projects_are_told_apart(make_config, typed):
    make_config(project__pipeline="lsm")
    assert typed("status").returncode == 0
    for words in (("explain", "--slice", 1), ("retry", "--all")):
        done = typed(*words)
        assert done.returncode == 2
        assert "light-sheet project" in done.stderr


# ---------------------------------------------------------------------------------------- logs
@pytest.fixture
def logs(config):
    """Logs of stages, from old to new."""
    folder = config.project.dir / "logs"
    names = ("convert_complex/mosaic-01_batch-002", "process_tiles/mosaic-01_batch-002",
             "process_tiles/mosaic-01_batch-001", "stitch_enface/mosaic-01",
             "stitch_enface/mosaic-010", "register_slice/slice-01", "drivers/run-1")  # fmt: skip
    for age, name in enumerate(names):
        path = folder / f"{name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name} line {n}\n" for n in range(100)))
        os.utime(path, (1000 + age, 1000 + age))
    return folder


def test_logs_of_a_place_newest_first(logs, typed):
    done = typed("logs", "--mosaic", 1, "--batch", 2)
    assert [line for line in done.stdout.splitlines() if line.startswith("==>")] == [
        f"==> {logs}/process_tiles/mosaic-01_batch-002.log <==",
        f"==> {logs}/convert_complex/mosaic-01_batch-002.log <==",
    ]
    assert done.stdout.count(" line ") == 20
    only = typed("logs", "--mosaic", 1, "--batch", 2, "--stage", "process_tiles", "-n", 3)
    assert only.stdout.splitlines() == [
        f"process_tiles/mosaic-01_batch-002 line {n}" for n in (97, 98, 99)
    ]
    mosaic = typed("logs", "--mosaic", 1).stdout
    assert mosaic.count("==>") == 4
    assert "mosaic-010" not in mosaic
    assert "run-1" not in typed("logs", "--stage", "process_tiles").stdout
    assert typed("logs", "--slice", 1, "-n", 1).stdout == "register_slice/slice-01 line 99\n"
    assert typed("logs", "--driver", "run-1", "-n", 1).stdout == "drivers/run-1 line 99\n"


def test_logs_say_what_is_wrong(config, logs, typed):
    for words, code, message in (
        (("--mosaic", 7), 3, "nothing has run there"),
        (("--driver", "x"), 3, "ended well are not kept"),
        (("--driver", "../x"), 2, "expected an id"),
        (("--watcher",), 3, "where it was started"),
        (("--stage", "stitch"), 2, "there are those of convert_complex"),
        (("--batch", 1), 2, "--batch needs --mosaic"),
        (("--mosaic", 0), 2, "mosaic 0"),
        (("--mosaic", 1, "--watcher"), 2, "not several"),
        (("-n", -1), 2, "expected 0 or more"),
        ((), 3, "nothing has happened"),
    ):
        done = typed("logs", *words)
        assert (words, done.returncode) == (words, code)
        assert message in done.stderr


def test_logs_without_ids_say_what_happened(config, typed):
    layout = ProjectLayout(config.project.dir)
    for batch in range(1, 51):
        append_event(layout, "batch", "processed", project="p", ids={"mosaic": 1, "batch": batch},
                     payload={"duration_s": 1.5})  # fmt: skip
    lines = typed("logs").stdout.splitlines()
    assert len(lines) == 40
    assert "batch processed" in lines[-1]
    assert "mosaic 001 batch 050" in lines[-1]
    assert len(typed("logs", "-n", 3).stdout.splitlines()) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_following_ends_cleanly(config, tmp_path, logs, number):
    path = logs / "process_tiles/mosaic-01_batch-002.log"
    process = subprocess.Popen(
        [BIN / "optic-trigger", "logs", "-f", "-n", "1", "--mosaic", "1", "--batch", "2",
         "--config", tmp_path / "project.yaml"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # Where the tests run in the background of a script, SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        seen = [process.stdout.readline() for _ in range(4)]
        assert seen[-1] == "process_tiles/mosaic-01_batch-002 line 99\n"
        path.write_text("a new attempt\n")
        assert process.stdout.readline() == "a new attempt\n"
        (logs / "qc_tiles").mkdir()
        (logs / "qc_tiles/mosaic-01_batch-002.log").write_text("a new stage\n")
        assert process.stdout.readline().startswith("==> ")
        assert process.stdout.readline() == "a new stage\n"
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, errors) == (0, "")


def test_following_what_happens_on_other_hosts(config, tmp_path):
    layout = ProjectLayout(config.project.dir)
    layout.events.mkdir(parents=True)
    process = subprocess.Popen(
        [BIN / "optic-trigger", "logs", "-f", "--config", tmp_path / "project.yaml"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    event = {"event": "linc.oct.batch.qc", "time": "2026-02-03T10:00:00+00:00", "mosaic_id": 1}
    try:
        for host in ("a", "b"):
            (layout.events / f"{host}.jsonl").write_text(json.dumps(event) + "\n")
            assert "mosaic 001" in process.stdout.readline()
        # Nobody reads any more.
        process.stdout.close()
        deadline = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < deadline:
            with (layout.events / "a.jsonl").open("a") as file:
                file.write(json.dumps(event) + "\n")
            time.sleep(0.1)
        assert process.wait(1) == 0
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
