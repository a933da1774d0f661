"""What a watcher shows: events and counts in, lines or a table out."""

import io
import json
import logging
import os
import re
import subprocess
import sys
from contextlib import closing
from types import SimpleNamespace

import pytest
from rich.console import Console

from opticstream_smk.layout import ProjectLayout
from opticstream_smk.plan import project_layout
from opticstream_smk.state.events import append_event
from opticstream_smk.state.host import host_name
from opticstream_smk.trigger.counts import Bar, Counts, StateCounter, Total
from opticstream_smk.trigger.event_tail import EventTail
from opticstream_smk.trigger.progress import PlainProgress, describe, open_progress
from opticstream_smk.trigger.progress_table import TableProgress
from opticstream_smk.trigger.snapshot import RunningDriver, Tracked, WaitingGoal, new_snapshot
from tests.conftest import REPO

IDLE = new_snapshot("2026-01-01T00:00:00+00:00")
RUN = "20260101T120000-7-1"


def counts(done=2, stitched=1):
    return Counts(
        (Total("slices registered", 0, 1), Total("mosaics stitched", stitched, 2)),
        (Bar("mosaic 002 tilted", done, 3, 3, "processed"),),
    )


class Project:
    """A project folder whose event log is written as snakemake and the stages do."""

    def __init__(self, root):
        self.layout = ProjectLayout(root)
        self.log = self.layout.events / f"{host_name()}.jsonl"

    def event(self, name, *, ids=None, **payload):
        level, _, state = name.partition(".")
        append_event(
            self.layout, level, state, project="block", ids=ids or {}, payload=payload
        )  # fmt: skip

    def job(self, state, rule="process_tiles", jobid=3, run=RUN, **payload):
        ids = payload.pop("ids", {"mosaic": 2, "batch": 1})
        self.event(f"job.{state}", ids=ids, rule=rule, jobid=jobid, driver=run, **payload)


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def running(*drivers, **parts):
    drivers = tuple(
        RunningDriver(id=name, pid=1, goals=("mosaic-02/state/batch-001.processed",), since=100.0)
        for name in drivers
    )
    return IDLE.model_copy(update={"drivers": drivers, **parts})


# ------------------------------------------------------------------------------------- the tail
@pytest.fixture
def tail(project):
    tails = []

    def follow():
        tails.append(EventTail(project.layout))
        return SimpleNamespace(
            poll=lambda: [event["rule"] for event in tails[-1].poll()], tail=tails[-1]
        )

    yield follow
    for made in tails:
        made.close()


def test_the_tail_starts_at_the_end_and_gives_each_event_once(project, tail):
    project.job("started", "before")
    follow = tail()
    assert follow.poll() == []
    project.job("started", "a")
    project.job("started", "b")
    assert follow.poll() == ["a", "b"]
    assert follow.poll() == []


def test_the_tail_waits_for_a_log_and_its_folder(project, tail):
    follow = tail()
    assert follow.poll() == []
    project.job("started", "first")
    assert follow.poll() == ["first"]


def test_torn_lines(project, tail):
    project.job("started", "before")
    with project.log.open("ab") as log:
        log.write(b'{"event": "linc.oct.job.st')  # its writer has died
    follow = tail()
    project.job("started", "after")  # mends the end of the log before it writes
    assert follow.poll() == ["after"]
    line = (json.dumps({"event": "linc.oct.job.started", "rule": "slow"}) + "\n").encode()
    with project.log.open("ab", buffering=0) as log:
        log.write(line[:20])
        assert follow.poll() == []
        log.write(line[20:])
        assert follow.poll() == ["slow"]
        log.write(b'no json\n[1]\n{"event": 3}\n\xff\xfe\n')
        assert follow.poll() == []


def test_a_log_that_is_moved_away_is_read_to_its_end(project, tail):
    project.job("started", "before")
    follow = tail()
    project.job("started", "a")
    project.log.rename(project.log.with_suffix(".1"))
    project.job("started", "b")
    assert follow.poll() == ["a", "b"]
    project.job("started", "c")
    assert follow.poll() == ["c"]


def test_a_log_that_is_cut_is_read_from_its_beginning(project, tail):
    for _ in range(5):
        project.job("started", "before")
    follow = tail()
    os.truncate(project.log, 0)
    assert follow.poll() == []
    project.job("started", "again")
    assert follow.poll() == ["again"]


def test_a_log_that_goes_and_comes_back(project, tail):
    project.job("started", "before")
    follow = tail()
    project.log.unlink()
    assert follow.poll() == []
    project.job("started", "new")
    assert follow.poll() == ["new"]


def test_a_look_at_a_log_that_has_not_grown_is_one_stat(project, tail, monkeypatch):
    project.job("started")
    follow = tail()
    calls = []
    log_type = type(project.log)
    real_stat, real_open = log_type.stat, log_type.open
    monkeypatch.setattr(log_type, "stat", lambda *a, **_: calls.append("stat") or real_stat(*a))
    monkeypatch.setattr(log_type, "open", lambda *a, **_: calls.append("open") or real_open(*a))
    follow.tail.poll()
    assert calls == ["stat"]


# ------------------------------------------------------------------------------------ the lines
DESCRIBED = {
    "batch.ready": ({"ids": {"mosaic": 2, "batch": 1}, "tiles": {"done": [1, 2], "missing": [3]}},
                    "mosaic 002 batch 001 ready: 2 tiles, missing 3"),
    "strip.ready": ({"ids": {"slice": 1, "channel": 2, "strip": 7}},
                    "slice 01 channel 02 strip 0007 ready"),
    "tilemap.solved": ({"acq": "normal"}, "normal tilemap solved"),
    "mosaic.stitched": ({"ids": {"slice": 1, "mosaic": 2}}, "mosaic 002 stitched"),
    "slice.registered": ({"ids": {"slice": 1}}, "slice 01 registered"),
    "channel.mip_stitched": ({"ids": {"slice": 1, "channel": 2}},
                             "slice 01 channel 02 mip stitched"),
    "batch.processed": ({"ids": {"mosaic": 2, "batch": 1}}, None),  # its job has said so
    "batch.failed": ({"ids": {"mosaic": 2, "batch": 1}, "error": "x"}, None),
    "mosaic.started": ({"ids": {"mosaic": 2}}, None),
    "driver.started": ({"driver": "d", "jobs": {"process_tiles": 2, "qc_tiles": 1, "all": 1}},
                       "snakemake run d started: 2 process_tiles, 1 qc_tiles"),
    "driver.failed": ({"driver": "d", "error": "MissingRuleException:\nNo rule for x\nand so on"},
                      "snakemake run d could not begin: MissingRuleException: No rule for x"),
    "job.started": ({"rule": "process_tiles", "ids": {"mosaic": 2, "batch": 1}}, None),
    "job.finished": (
        {"rule": "process_tiles", "ids": {"mosaic": 2, "batch": 1}, "duration_s": 12.34,
         "progress": {"done": 1, "total": 3}},
        "mosaic 002 batch 001: process_tiles done in 12.3 s, 1 of 3 jobs of its run"),
}  # fmt: skip


@pytest.mark.parametrize("name", DESCRIBED)
def test_events_in_one_line(project, tail, name):
    payload, text = DESCRIBED[name]
    follow = tail()
    project.event(name, **payload)
    (event,) = follow.tail.poll()
    message = describe(event)
    assert (message and message.text) == text


def test_how_runs_and_jobs_end(project, tail):
    follow = tail()
    project.event("driver.finished", driver="d", failed_jobs=0, progress={"done": 3, "total": 3})
    project.event("driver.finished", driver="d", failed_jobs=1, progress={"done": 1, "total": 3})
    project.event("driver.finished", driver="d", failed_jobs=0, progress={"done": 1, "total": 3})
    project.job("finished", rule="all", ids={})
    project.job("failed", duration_s=3.0, log="logs/process_tiles/a.log")
    told = [message for event in follow.tail.poll() if (message := describe(event))]
    assert [message.text for message in told] == [
        "snakemake run d ended early, 1 of 3 jobs done",
        "mosaic 002 batch 001: process_tiles failed after 3.0 s, see "
        f"{project.layout.root}/logs/process_tiles/a.log",
    ]
    assert [message.level for message in told] == [logging.WARNING, logging.WARNING]


@pytest.mark.parametrize(
    "event",
    [
        {"event": "job.finished"},
        {"event": "x"},
        {"event": ""},
        {"event": "linc.oct.batch.ready", "mosaic_id": "seven", "tiles": 3},
        {"event": "linc.oct.batch.ready", "mosaic_id": 1, "tiles": {"done": 3, "missing": None}},
        {"event": "linc.oct.driver.started", "jobs": [1]},
        {"event": "linc.oct.job.failed", "mosaic_id": 1, "duration_s": "long", "log": 4},
    ],
)
def test_no_line_of_the_log_stops_the_watcher(project, event, caplog):
    progress = PlainProgress(project.layout)
    project.job("started")
    with project.log.open("a") as log:
        log.write(json.dumps(event) + "\n")
    with closing(progress):
        progress.update(IDLE, Counts())


def test_plain_is_one_line_per_change_and_none_while_idle(project, caplog):
    caplog.set_level(logging.INFO)
    progress = PlainProgress(project.layout)
    assert progress.refresh_s is None
    progress.update(IDLE, Counts())
    assert caplog.messages == []
    project.event("driver.started", driver=RUN, jobs={"process_tiles": 1})
    project.job("started")
    progress.update(running(RUN), counts())
    assert caplog.messages == [
        f"snakemake run {RUN} started: 1 process_tiles",
        "0 of 1 slices registered, 1 of 2 mosaics stitched",
    ]
    caplog.clear()
    for _ in range(3):
        progress.update(running(RUN), counts())
    assert caplog.messages == []
    project.job("finished", duration_s=1.0, progress={"done": 1, "total": 1})
    project.event("mosaic.stitched", ids={"mosaic": 2})
    progress.update(IDLE, counts(3, 2))
    assert caplog.messages == [
        "mosaic 002 batch 001: process_tiles done in 1.0 s, 1 of 1 jobs of its run",
        "mosaic 002 stitched",
        "0 of 1 slices registered, 2 of 2 mosaics stitched",
    ]
    progress.close()


# ------------------------------------------------------------------------------------ the table
class Screen(io.StringIO):
    """What a terminal shows of what was written: cursor up, erase line, new line."""

    def isatty(self):
        return True

    @property
    def lines(self):
        shown, row = [""], 0
        for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", self.getvalue()):
            if part == "\n":
                row += 1
                shown += [""] * (row + 1 - len(shown))
            elif part == "\r":
                pass
            elif part.endswith("A") and part.startswith("\x1b"):
                row -= int(part[2:-1] or 1)
            elif part == "\x1b[2K":
                shown[row] = ""
            elif not part.startswith("\x1b"):
                shown[row] += part
        return [line.rstrip() for line in shown if line.strip()]


class Table:
    """A table on a screen, with a clock of its own."""

    def __init__(self, layout):
        self.now = 100.0
        self.screen = Screen()
        console = Console(file=self.screen, force_terminal=True, width=100, height=50)
        self.progress = TableProgress(layout, console=console, clock=lambda: self.now)

    def update(self, snapshot=IDLE, count=None):
        """Lines that the screen shows, or None when nothing was written."""
        before = self.screen.tell()
        self.progress.update(snapshot, count or counts())
        return self.screen.lines if self.screen.tell() > before else None


@pytest.fixture
def table(project):
    made = Table(project.layout)
    yield made
    made.progress.close()


def test_the_table_shows_bars_jobs_queue_and_messages(project, table):
    first = table.update()
    assert [line.split("  ")[0] for line in first[1:4]] == [
        "slices registered", "mosaics stitched", "mosaic 002 tilted",
    ]  # fmt: skip
    assert first[3].endswith("2 of 3 processed, 3 ready")
    assert first[4] == "0 goals queued, 0 snakemake runs, 0 settling"
    project.event("batch.ready", ids={"mosaic": 2, "batch": 1}, tiles={"done": [1], "missing": []})
    project.job("started")
    snapshot = running(
        RUN,
        queued=("a", "b"),
        holds=("paused: lunch",),
        tracked=(
            Tracked(where="mosaic 002 batch 002", unchanged_since=1.0, quiet_s=15),
            Tracked(where="x", unchanged_since=1.0, quiet_s=15, note="mosaic 002 batch 003: 2 of"),
        ),
        waiting=(WaitingGoal(goal="a.stitched", reason="failed 3 times"),),
    )
    lines = table.update(snapshot)
    assert re.fullmatch(r"process_tiles +mosaic 002 batch 001 +0:00", lines[4])
    assert lines[5:9] == [
        "2 goals queued, 1 snakemake runs, 1 settling",
        "paused: lunch",
        "mosaic 002 batch 003: 2 of",
        "a.stitched: failed 3 times",
    ]
    assert re.fullmatch(r"\d\d:\d\d:\d\d  mosaic 002 batch 001 ready: 1 tiles", lines[9])
    assert len(lines) == 10


def test_nothing_is_drawn_while_nothing_changes(project, table):
    assert table.update() is not None
    assert table.progress.refresh_s is None
    for _ in range(100):
        table.now += 1000.0
        assert table.update() is None
    # A file that is being written changes the snapshot, and nothing that is shown.
    changing = [
        IDLE.model_copy(
            update={"tracked": (Tracked(where="m", unchanged_since=since, quiet_s=15),)}
        )
        for since in (None, 4.0, None)
    ]
    assert table.update(changing[0]) is not None
    assert [table.update(snapshot) for snapshot in changing] == [None, None, None]


def test_times_of_jobs_change_once_a_second(project, table):
    project.job("started")
    table.update(running(RUN))
    assert table.progress.refresh_s == 1.0
    drawn = 0
    for _ in range(35):
        table.now += 0.1
        drawn += table.update(running(RUN)) is not None
    assert drawn == 3
    table.now = 100.0 + 3725
    assert re.search(r"process_tiles.* 1:02:05$", "\n".join(table.update(running(RUN))), re.M)
    project.job("finished", duration_s=1.0)
    lines = table.update(running(RUN))
    # The run still lives, and says how long it has been at work.
    assert re.search(r"^snakemake +1 goals +1:02:05$", "\n".join(lines), re.M)
    assert not any(line.startswith("process_tiles") for line in lines)
    table.update(IDLE)
    assert table.progress.refresh_s is None


def test_jobs_of_a_run_that_was_killed_or_is_not_ours_are_not_shown(project, table):
    project.job("started", run="somebody's")
    assert not any("process_tiles" in line for line in table.update(running(RUN)))
    project.job("started")
    assert any("process_tiles" in line for line in table.update(running(RUN)))
    assert not any("process_tiles" in line for line in table.update(IDLE))


def test_long_lists_are_shortened(project, table):
    bars = tuple(Bar(f"mosaic {n:03d} normal", 1, 2, 3, "processed") for n in range(1, 10))
    for job in range(12):
        project.job("started", jobid=job, ids={"mosaic": 1, "batch": job + 1})
    waiting = tuple(WaitingGoal(goal=f"g{n}", reason="failed") for n in range(7))
    lines = table.update(running(RUN, waiting=waiting), Counts((), bars))
    assert [line.split("  ")[0] for line in lines[1:7]] == [
        *(f"mosaic {n:03d} normal" for n in range(5, 10)), "and 4 before",
    ]  # fmt: skip
    assert "and 4 more" in lines
    assert "and 5 more that wait" in lines
    assert len(lines) < 24


def test_log_records_appear_above_the_table(project, table, monkeypatch):
    root = logging.getLogger()
    plain = logging.StreamHandler(table.screen)
    monkeypatch.setattr(root, "level", logging.INFO)
    root.addHandler(plain)
    try:
        table.update()
        assert plain not in root.handlers
        logging.getLogger("opticstream_smk.trigger").error("disk [full] %s", "now")
        lines = table.screen.lines
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ERROR +disk \[full\] now", lines[0])
        assert lines[-1] == "0 goals queued, 0 snakemake runs, 0 settling"
        assert sum(line.startswith("slices registered") for line in lines) == 1
        table.progress.close()
        assert plain in root.handlers
        logging.getLogger("opticstream_smk").info("after")
        assert table.screen.lines[-1] == "after"
    finally:
        root.removeHandler(plain)
    assert not any(type(handler).__name__ == "RichHandler" for handler in root.handlers)


def test_what_goes_to_a_pipe_stays_there(project, table, capsys):
    table.update()
    sys.stdout.write("for the pipe\n")
    assert capsys.readouterr().out == "for the pipe\n"
    assert not any("for the pipe" in line for line in table.screen.lines)


def test_a_terminal_that_is_gone_does_not_end_the_watcher(project, table):
    table.update()

    def gone(_text):
        raise OSError(5, "Input/output error")

    table.screen.write = gone
    table.progress.update(IDLE, counts(done=3))
    table.progress.close()


def test_the_table_is_for_terminals(project, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for stream, kind in ((io.StringIO(), PlainProgress), (Screen(), TableProgress)):
        progress = open_progress(project.layout, stream)
        assert type(progress) is kind
        progress.close()
    monkeypatch.setenv("TERM", "dumb")
    dumb = open_progress(project.layout, Screen())
    assert type(dumb) is PlainProgress
    dumb.close()


def test_rich_is_imported_for_the_table_only():
    code = (
        "import io, sys\n"
        "from pathlib import Path\n"
        "from opticstream_smk.layout import ProjectLayout\n"
        "from opticstream_smk.trigger.progress import open_progress\n"
        "open_progress(ProjectLayout(Path('/nowhere')), io.StringIO()).close()\n"
        "sys.exit(','.join({'rich', 'numpy', 'scipy', 'snakemake'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(REPO)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


# ----------------------------------------------------------------------------------- the counts
def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_counts_of_a_psoct_project(make_config):
    config = make_config()
    layout = project_layout(config)
    counter = StateCounter(config)
    assert str(counter.count()) == "0 of 0 slices registered, 0 of 0 mosaics stitched"
    for mosaic in (1, 2):
        for batch in (1, 2):
            touch(layout.batch_flag(mosaic, batch, "ready"))
    for batch in (1, 2):
        touch(layout.batch_flag(1, batch, "processed"))
    touch(layout.batch_flag(2, 1, "processed"))
    touch(layout.batch_flag(2, 1, "failed"))
    touch(layout.mosaic_flag(1, "stitched"))
    found = counter.count()
    assert found.totals == (Total("slices registered", 0, 1), Total("mosaics stitched", 1, 2))
    assert found.bars == (Bar("mosaic 002 tilted", 1, 2, 2, "processed"),)
    layout.mosaic_flag(1, "stitched").unlink()
    assert [bar.where for bar in counter.count().bars] == ["mosaic 001 normal", "mosaic 002 tilted"]
    touch(layout.mosaic_flag(1, "stitched"))
    touch(layout.mosaic_flag(2, "stitched"))
    touch(layout.slice_flag(1, "registered"))
    assert str(counter.count()) == "1 of 1 slices registered, 2 of 2 mosaics stitched"
    without = StateCounter(make_config(registration__enabled=False))
    assert str(without.count()) == "2 of 2 mosaics stitched"


def test_counts_of_a_light_sheet_project(make_config):
    config = make_config(project__pipeline="lsm", lsm__strips_per_slice=3)
    layout = project_layout(config)
    for strip in (1, 2):
        touch(layout.strip_flag(1, 2, strip, "ready"))
    touch(layout.strip_flag(1, 2, 1, "compressed"))
    touch(layout.channel_flag(1, 1, "mip_stitched"))
    found = StateCounter(config).count()
    assert found.totals == (Total("channels stitched", 1, 2),)
    assert found.bars == (Bar("slice 01 channel 02", 1, 2, 3, "compressed"),)


def test_folders_that_have_not_changed_are_not_listed_again(make_config, monkeypatch):
    config = make_config()
    layout = project_layout(config)
    for mosaic in (1, 2, 3):
        touch(layout.batch_flag(mosaic, 1, "ready"))
    counter = StateCounter(config)
    counter.count()
    counter.count()
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or scandir(path))
    before = counter.count()
    assert listed == [str(layout.root)]
    touch(layout.batch_flag(2, 2, "ready"))
    assert counter.count() != before
    assert listed[2:] == [str(layout.mosaic_state(2))]


def test_a_folder_that_cannot_be_listed_keeps_its_counts(make_config, monkeypatch):
    config = make_config()
    layout = project_layout(config)
    touch(layout.mosaic_flag(1, "stitched"))
    counter = StateCounter(config)
    before = counter.count()
    touch(layout.mosaic_flag(1, "failed"))
    scandir = os.scandir

    def refuse(path):
        if str(path) == str(layout.mosaic_state(1)):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", refuse)
        assert counter.count() == before
    layout.mosaic_flag(1, "stitched").unlink()
    assert counter.count().totals[1].done == 0
