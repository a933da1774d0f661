"""Which light-sheet strips the watcher takes, on a clock of the test's own and real folders."""

import logging
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import yaml

from opticstream_smk.config import load_config
from opticstream_smk.config.lsm import LsmSection
from opticstream_smk.errors import ServiceError
from opticstream_smk.io.atomic import write_error
from opticstream_smk.naming.lsm import LsmStrip
from opticstream_smk.plan import project_layout
from opticstream_smk.state import locks, nodes
from opticstream_smk.state.events import read_events
from opticstream_smk.state.flags import read_flag
from opticstream_smk.state.lsm import LsmState, strip_place
from opticstream_smk.trigger import lsm as lsm_module
from opticstream_smk.trigger.lsm import LsmStrips
from opticstream_smk.trigger.settle import Intake, Settler
from opticstream_smk.trigger.strip_ready import enter_strip, record_problem
from opticstream_smk.trigger.strips import check_spool, has_files, look_into
from tests.conftest import small_values
from tests.state.test_flags import flag

KEY = LsmStrip(slice=1, channel=1, strip=1)
FIVE = tuple(f"{number}.dat" for number in range(5))


class Bench:
    """An intake whose clock moves only when it is told to."""

    def __init__(self, config, poll=5.0, force=False):
        self.config = config
        self.poll = poll
        self.force = force
        self.now = 0.0
        self.layout = project_layout(config)
        self.state = LsmState(self.layout)
        self.raw = config.acquisition.sources[0].dir
        self.start()

    def start(self):
        self.domain = LsmStrips(self.config, force=self.force, clock=lambda: self.now)
        self.intake = Intake(self.domain, Settler(clock=lambda: self.now))

    def look(self):
        ready = self.intake.look()
        self.now += self.poll
        return ready

    def until(self, end):
        """Look every poll until `end`; gives (time, strips) of each look that entered any."""
        entered = []
        while self.now <= end:
            at = self.now
            if ready := self.look():
                entered.append((at, ready))
        return entered

    def more(self, seconds=60):
        """Strips that are entered within so many seconds from now."""
        return [key for _, ready in self.until(self.now + seconds) for key in ready]

    def flag(self, state, key=KEY):
        return read_flag(self.layout.strip_flag(*key, state))

    def mark(self, *states, key=KEY):
        with self.state.open_strip(*key) as node:
            for state in states:
                node.add(state, flag(flag=f"strip-{key.strip:04d}.{state}"))

    def waits_for(self, key=KEY):
        return self.intake.last.sights[key].note


@pytest.fixture
def bench(make_config):
    def make(poll=5.0, force=False, **overrides):
        values = {
            "project__pipeline": "lsm",
            "watch__stability_s": 15,
            "lsm__min_files": 5,
            **overrides,
        }
        return Bench(make_config(**values), poll, force)

    return make


@pytest.fixture
def messages(caplog):
    caplog.set_level(logging.INFO, "opticstream_smk")

    def matching(text, level=None):
        return [
            record.message
            for record in caplog.records
            if text in record.message and level in (None, record.levelno)
        ]

    return matching


def fill(folder, names=FIVE, content="frames"):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


@pytest.fixture
def walks(monkeypatch):
    """Folders that were walked."""
    seen = []

    def look(folder, **options):
        seen.append(folder.name)
        return look_into(folder, **options)

    monkeypatch.setattr(lsm_module, "look_into", look)
    return seen


# -------------------------------------------------------------------------------- L1: candidates
@pytest.mark.parametrize(("count", "taken"), [(100, []), (101, [KEY])])
def test_l1_a_strip_has_more_than_100_files(bench, count, taken):
    it = bench(lsm__min_files=LsmSection().min_files)
    fill(it.raw / "Run1", [f"{number}.dat" for number in range(count)])
    assert it.more() == taken


def test_l1_files_in_inner_folders_count(bench):
    it = bench()
    fill(it.raw / "Run1", ["a.dat", "one/b.dat", "one/c.dat", "one/two/d.dat", "three/e.dat"])
    assert it.more() == [KEY]
    assert it.flag("ready").numbers["files"] == 5


@pytest.mark.parametrize("name", ["processed", "Processed_Run1", "PROCESSED"])
def test_l1_what_a_clean_up_has_moved_is_no_strip(bench, messages, name):
    it = bench(lsm__folder_prefix="P")
    fill(it.raw / name / "Run1")
    fill(it.raw / name)
    assert it.more() == []
    assert messages(name) == []


@pytest.mark.parametrize("name", ["Other1", "data", ".Run1", "._Run1"])
def test_only_folders_with_the_prefix_are_looked_at(bench, messages, walks, name):
    it = bench()
    fill(it.raw / name)
    assert it.more() == []
    assert (messages(name), walks) == ([], [])


@pytest.mark.parametrize("name", ["Run1", "run1", "RUN1"])
def test_the_prefix_is_of_any_case(bench, name):
    it = bench()
    fill(it.raw / name)
    assert it.more() == [KEY]


def test_files_beside_the_folders_are_no_strips(bench, messages):
    it = bench()
    (it.raw / "Run1").write_text("x")
    (it.raw / "Run2.ini").write_text("x")
    assert it.more() == []
    assert messages("Run") == []


def test_hidden_files_do_not_count_and_change_nothing(bench):
    it = bench()
    fill(it.raw / "Run1", FIVE[:4])
    fill(it.raw / "Run1", ["._0.dat", ".DS_Store", ".trash/x.dat", ".trash/y.dat"])
    assert it.more() == []
    fill(it.raw / "Run1", FIVE[4:])
    at = it.now
    it.look()
    it.look()
    (it.raw / "Run1/.DS_Store").write_text("longer than before")
    assert it.until(at + 60) == [(at + 20, [KEY])]


def test_links_never_loop(bench):
    it = bench()
    folder = fill(it.raw / "Run1", FIVE[:4])
    (folder / "again").symlink_to(folder)
    (folder / "up").symlink_to(it.raw)
    (folder / "itself").symlink_to("itself")
    (folder / "nowhere").symlink_to("gone.dat")
    (it.raw / "Run2").symlink_to("Run2")
    assert it.more() == []
    (folder / "4.dat").symlink_to(folder / "3.dat")
    assert it.more() == [KEY]
    assert it.flag("ready").numbers["files"] == 5


def test_awkward_file_names(bench):
    it = bench()
    fill(it.raw / "Run1", ["ünï côde.dat", 'it\'s "quoted".dat', " lead.dat", "new\nline.dat"])
    with (it.raw / "Run1" / os.fsdecode(b"not-utf8-\xff.dat")).open("w") as file:
        file.write("x")
    assert it.more() == [KEY]


# ------------------------------------------------------------------ L1: what may not be read
@pytest.fixture
def open_bench(as_somebody_else):
    """A bench in a folder that this user may write."""
    with tempfile.TemporaryDirectory() as name:
        values = small_values(project__pipeline="lsm", watch__stability_s=15, lsm__min_files=5)
        path = Path(name) / "project.yaml"
        path.write_text(yaml.safe_dump(values))
        (Path(name) / "raw").mkdir()
        yield Bench(load_config(path))
        for folder in Path(name).rglob("*"):
            if folder.is_dir():
                folder.chmod(0o755)


@pytest.mark.parametrize("inner", ["3.dat", "inner"])
def test_l1_what_cannot_be_read_holds_a_strip_back(open_bench, messages, inner):
    it = open_bench
    fill(it.raw / "Run1")
    fill(it.raw / "Run1/inner")
    closed = it.raw / "Run1" / inner
    closed.chmod(0)
    assert it.more(120) == []
    message = f"slice 01 channel 01 strip 0001: {closed} is not readable"
    assert len(messages(message, logging.ERROR)) == 1
    assert it.waits_for().startswith(message)
    assert it.flag("failed").extra["error"].startswith(message)
    assert it.flag("failed").extra["flag"] == "strip-0001.ready"
    closed.chmod(0o755)
    assert it.more() == [KEY]
    assert it.flag("failed") is None


def test_a_strip_folder_that_cannot_be_read_is_held_back(open_bench, messages):
    it = open_bench
    fill(it.raw / "Run1").chmod(0)
    assert it.more() == []
    assert len(messages(f"{it.raw / 'Run1'} is not readable", logging.ERROR)) == 1
    (it.raw / "Run1").chmod(0o755)
    assert it.more() == [KEY]


def test_a_folder_that_cannot_be_read_may_have_files(open_bench):
    it = open_bench
    folder = fill(it.raw / "Run1/inner").parent
    assert has_files(folder)
    (folder / "inner").chmod(0)
    assert has_files(folder)
    assert not has_files(it.raw / "Run2")


def test_a_share_that_lets_a_file_be_read_later_without_a_trace(bench, monkeypatch):
    it = bench()
    fill(it.raw / "Run1")
    real, closed = os.access, {"3.dat"}

    def access(path, mode, **options):
        return Path(path).name not in closed and real(path, mode, **options)

    monkeypatch.setattr(os, "access", access)
    assert it.more() == []
    assert "3.dat is not readable" in it.waits_for()
    closed.clear()
    assert it.more() == [KEY]


# ---------------------------------------------------------------------------------- L2: settling
@pytest.mark.parametrize(
    ("poll", "stability", "expected"), [(5, 15, 20), (1, 15, 16), (10, 15, 30), (5, 0, 5)]
)
def test_a_quiet_strip_is_entered_after_poll_and_stability(bench, poll, stability, expected):
    it = bench(poll=poll, watch__stability_s=stability)
    fill(it.raw / "Run1")
    assert it.until(60) == [(expected, [KEY])]


@pytest.mark.parametrize("change", ["added", "removed", "grown", "touched", "replaced", "renamed"])
@pytest.mark.parametrize("inner", [".", "one/two"])
def test_l2_any_change_starts_the_wait_anew(bench, change, inner):
    it = bench()
    fill(it.raw / "Run1", [f"{number}.dat" for number in range(6)])
    folder = fill(it.raw / "Run1" / inner)
    fill(it.raw / "Run2")
    it.until(15)
    path = folder / "3.dat"
    if change == "added":
        fill(folder, ["new.dat"])
    elif change == "removed":
        path.unlink()
    elif change == "grown":
        with path.open("a") as file:
            file.write("more")
    elif change == "touched":
        os.utime(path, (1, 1))
    elif change == "renamed":
        path.rename(path.with_name("x.dat"))
    else:
        # Equal size and time: only the inode tells.
        shutil.copy2(path, folder.parent / "twin")
        (folder.parent / "twin").replace(path)
    second = LsmStrip(2, 1, 1)
    assert it.until(60) == [(20, [second]), (40, [KEY])]


def test_a_change_at_the_very_end_is_not_missed(bench, monkeypatch):
    it = bench()
    folder = fill(it.raw / "Run1")
    calls = []

    def look(path, *, check_access=False):
        if check_access and not calls:
            calls.append(path)
            fill(folder, ["late.dat"])
        return look_into(path, check_access=check_access)

    monkeypatch.setattr(lsm_module, "look_into", look)
    assert it.until(80) == [(45, [KEY])]
    assert it.flag("ready").numbers["files"] == 6


def test_what_was_unsteady_for_a_moment_at_the_very_end_settles_again(bench, monkeypatch):
    it = bench()
    fill(it.raw / "Run1")
    calls = []

    def look(path, *, check_access=False):
        contents = look_into(path, check_access=check_access)
        if check_access and not calls:
            calls.append(path)
            return replace(contents, state="as seen through a share that stumbles")
        return contents

    monkeypatch.setattr(lsm_module, "look_into", look)
    assert it.until(80) == [(45, [KEY])]


def test_setting_the_clock_of_the_host_changes_nothing(bench, monkeypatch):
    it = bench()
    fill(it.raw / "Run1")
    it.until(10)
    monkeypatch.setattr("time.time", lambda: 1e12)
    assert it.until(60) == [(20, [KEY])]


def test_a_strip_that_vanishes_starts_afresh(bench):
    it = bench()
    fill(it.raw / "Run2")
    fill(it.raw / "Run1")
    it.until(10)
    (it.raw / "Run1").rename(it.raw / "away")
    it.until(40)
    (it.raw / "away").rename(it.raw / "Run1")
    assert it.until(100) == [(65, [KEY])]


def test_small_folders_are_told_once_and_in_the_end_reported(bench, messages):
    it = bench(watch__incomplete_timeout_s=100)
    fill(it.raw / "Run1", FIVE[:3])
    it.more(90)
    assert it.waits_for().endswith("Run1 has fewer than 5 files")
    assert len(messages("fewer than 5 files")) == 1
    assert messages("has 3 files, and nothing has changed for 100 s") == []
    it.more(60)
    assert len(messages("has 3 files, and nothing has changed for 100 s", logging.ERROR)) == 1
    fill(it.raw / "Run1")
    assert it.more() == [KEY]


def test_an_empty_folder_is_nothing_to_wait_for(bench):
    it = bench()
    (it.raw / "Run1" / "inner").mkdir(parents=True)
    it.more()
    assert not it.intake.last.sights


# ------------------------------------------------------------------------------------- L3, L4
@pytest.mark.parametrize("name", ["Run_1", "Run1_C3", "Runs", "Run1 copy"])
def test_l3_a_name_that_is_none_is_told_once(bench, messages, name):
    it = bench()
    fill(it.raw / name)
    assert it.more(300) == []
    assert len(messages("Folder name does not match LSM run pattern", logging.WARNING)) == 1
    assert len(messages(str(it.raw / name))) == 1


def test_l4_the_offset_is_added_to_the_slice(bench):
    it = bench(acquisition__sources=[{"dir": "raw", "slice_offset": 4}])
    fill(it.raw / "Run3_C2_1")
    key = LsmStrip(slice=7, channel=2, strip=2)
    assert it.more() == [key]
    ready = it.flag("ready", key)
    assert (ready.slice, ready.model_extra["channel"], ready.model_extra["strip"]) == (7, 2, 2)


def test_l4_a_slice_below_one_concerns_only_its_folder(bench, messages):
    it = bench(acquisition__sources=[{"dir": "raw", "slice_offset": -3}])
    fill(it.raw / "Run3")
    fill(it.raw / "Run4")
    assert it.more(300) == [KEY]
    assert len(messages("slice_offset -3 makes that slice 0, expected 1 or more")) == 1


def test_strips_beyond_those_of_a_slice_belong_to_the_next(bench):
    it = bench(lsm__strips_per_slice=5)
    for name in ("Run1", "Run1_3", "Run1_C2_4", "Run1_5"):
        fill(it.raw / name)
    assert it.more() == [(1, 1, 1), (1, 1, 4), (1, 2, 5), (2, 1, 1)]


# ------------------------------------------------------------------------------ L5: what is left
def test_l5_the_manifest_is_written_and_told(bench):
    it = bench()
    folder = fill(it.raw / "Run1_2")
    key = LsmStrip(1, 1, 3)
    assert it.more() == [key]
    ready = it.flag("ready", key)
    assert (ready.flag, ready.stage, ready.project) == ("strip-0003.ready", "watch", "test block")
    (entered,) = ready.inputs
    assert entered.path == str(folder)
    assert Path(entered.path).is_absolute()
    assert entered.size == sum(path.stat().st_size for path in folder.iterdir())
    assert entered.model_extra["files"] == 5
    assert ready.numbers == {"files": 5, "bytes": entered.size}
    assert ready.extra["fingerprint"] == look_into(folder).fingerprint
    (event,) = read_events(it.layout)
    assert event["event"] == "linc.opticstream.lsm.strip.ready"
    assert event["strip_path"] == str(folder)
    assert event["strip_ident"]["strip_id"] == 3
    assert "force_rerun" not in event


def test_w15_the_manifest_is_there_before_its_event(bench, monkeypatch):
    it = bench()
    fill(it.raw / "Run1")
    real, seen = nodes.append_event, []

    def append(*arguments, **options):
        seen.append(it.flag("ready").flag)
        real(*arguments, **options)

    monkeypatch.setattr(nodes, "append_event", append)
    it.more()
    assert seen == ["strip-0001.ready"]


def test_the_fingerprint_depends_on_names_sizes_and_times_only(bench):
    it = bench()
    folder = fill(it.raw / "Run1", ["a.dat", "inner/b.dat"])
    before = look_into(folder)
    shutil.copytree(folder, it.raw / "copy")
    after = look_into(it.raw / "copy")
    assert after.fingerprint == before.fingerprint
    assert after.state != before.state
    (folder / "inner/b.dat").rename(folder / "b.dat")
    assert look_into(folder).fingerprint != before.fingerprint


def test_a_strip_is_entered_once(bench):
    it = bench()
    fill(it.raw / "Run1")
    assert it.more(600) == [KEY]
    before = it.layout.strip_flag(*KEY, "ready").stat().st_mtime_ns
    it.start()
    assert it.more(600) == []
    assert it.layout.strip_flag(*KEY, "ready").stat().st_mtime_ns == before
    assert len(read_events(it.layout)) == 1


def test_the_failure_of_a_stage_is_not_the_watchers_to_forget(bench):
    it = bench()
    fill(it.raw / "Run1")
    it.more()
    with it.state.open_strip(*KEY) as node:
        node.add("failed", flag(extra={"flag": "strip-0001.compressed", "error": "disk full"}))
    for _ in range(2):
        it.more()
        assert it.flag("failed").extra["error"] == "disk full"
        it.start()


def test_what_another_process_has_entered_is_left_alone(bench):
    it = bench()
    folder = fill(it.raw / "Run1")
    contents = look_into(folder)
    assert enter_strip(it.config, KEY, folder, contents) == "written"
    before = it.flag("ready")
    record_problem(it.config, KEY, "not readable")
    assert enter_strip(it.config, KEY, folder, contents) == "unchanged"
    assert it.flag("ready") == before
    assert it.flag("failed") is None
    assert before.stage == "scan"


def test_a_lost_ready_comes_back_and_takes_nothing_with_it(bench):
    it = bench()
    fill(it.raw / "Run1")
    it.more()
    it.mark("compressed")
    it.layout.strip_flag(*KEY, "ready").unlink()
    assert it.more() == [KEY]
    assert it.flag("compressed") is not None


def test_new_files_of_a_strip_that_waits_replace_its_entry(bench):
    it = bench()
    folder = fill(it.raw / "Run1")
    it.more()
    it.mark("started", "failed")
    fill(folder, ["more.dat"])
    assert it.more() == [KEY]
    assert it.flag("ready").numbers["files"] == 6
    assert it.flag("failed") is None


def test_files_that_change_under_a_stage_are_taken_after_it(bench, messages):
    it = bench()
    folder = fill(it.raw / "Run1")
    it.more()
    before = it.flag("ready")
    fill(folder, ["more.dat"])
    with locks.hold(it.layout.lock(it.layout.strip_flag(*KEY, "compressed"))):
        assert it.more(120) == []
        assert "has changed while the strip is being processed" in it.waits_for()
        assert len(messages("has changed while the strip is being processed", logging.INFO)) == 1
        assert it.flag("ready") == before
    assert it.more() == [KEY]
    assert it.flag("ready").numbers["files"] == 6


def test_a_full_disk_is_told_once_and_tried_again(bench, monkeypatch, messages):
    it = bench()
    fill(it.raw / "Run1")
    real, full = nodes.write_flag, [True]

    def write(path, content):
        if full:
            raise write_error(path, OSError(28, "No space left on device"))
        real(path, content)

    monkeypatch.setattr(nodes, "write_flag", write)
    assert it.more(120) == []
    assert len(messages("the disk is full")) == 1
    full.clear()
    assert it.more() == [KEY]


def test_a_damaged_flag_is_a_problem_of_its_strip(bench, messages):
    it = bench()
    fill(it.raw / "Run1")
    fill(it.raw / "Run2")
    path = it.layout.strip_flag(*KEY, "ready")
    path.parent.mkdir(parents=True)
    path.write_text('{"schema": 1')
    assert it.more(120) == [LsmStrip(2, 1, 1)]
    assert len(messages(f"flag {path} cannot be read")) == 1
    path.unlink()
    assert it.more() == [KEY]


def test_a_record_is_kept_while_its_flags_cannot_be_read(cleaned):
    it = cleaned
    fill(it.raw / "Run1", content="other frames")
    it.more()
    path = it.layout.strip_flag(*KEY, "ready")
    path.write_text('{"schema": 1')
    it.more()
    it.start()
    it.more()
    assert it.flag("failed") is not None


# ------------------------------------------------------------------------------- L6: clean-up
@pytest.fixture
def cleaned(bench):
    """A strip that was processed and whose folder was moved away, an empty one in its place."""
    it = bench()
    folder = fill(it.raw / "Run1")
    it.more()
    it.mark("compressed", "archived", "cleaned")
    (it.raw / "processed").mkdir()
    folder.rename(it.raw / "processed" / "Run1")
    folder.mkdir()
    return it


def test_l6_the_empty_folder_after_a_clean_up_is_no_strip(cleaned, messages):
    assert cleaned.more(3600) == []
    assert not cleaned.intake.last.sights
    assert messages("Run1", logging.WARNING) + messages("Run1", logging.ERROR) == []
    cleaned.start()
    assert cleaned.more() == []
    assert not cleaned.intake.last.sights


@pytest.mark.parametrize("min_files", [2, 5])
def test_l6_what_a_clean_up_leaves_is_no_strip(bench, messages, min_files):
    it = bench(lsm__min_files=min_files)
    folder = fill(it.raw / "Run1", [*FIVE, "a.ini", "b.ini"])
    it.more()
    it.mark("compressed", "archived", "cleaned")
    for name in FIVE:
        (folder / name).unlink()
    for _ in range(2):
        assert it.more() == []
        assert not it.intake.last.sights
        it.start()
    assert messages("re-acquired") == []


# ---------------------------------------------------------------------------- L7: acquired again
@pytest.mark.parametrize("made", ["compressed", "archived", "uploaded", "cleaned"])
def test_l7_a_folder_that_is_used_again_is_reported_once(bench, messages, made):
    it = bench()
    folder = fill(it.raw / "Run1")
    it.more()
    it.mark(made)
    before = it.layout.strip_flag(*KEY, "ready").read_bytes()
    shutil.rmtree(folder)
    fill(folder, content="other frames")
    assert it.more(7200) == []
    alerts = messages("was re-acquired", logging.ERROR)
    assert len(alerts) == 1
    assert made in alerts[0]
    assert str(folder) in alerts[0]
    assert it.layout.strip_flag(*KEY, "ready").read_bytes() == before
    assert it.flag(made) is not None
    assert it.flag("failed").extra["error"] == alerts[0]


def test_l7_a_restart_adds_no_second_event(cleaned):
    it = cleaned
    fill(it.raw / "Run1", content="other frames")
    for _ in range(3):
        assert it.more() == []
        it.start()
    failed = [e for e in read_events(it.layout) if e["event"].endswith("strip.failed")]
    assert len(failed) == 1


def test_l7_other_new_files_are_another_alert(cleaned, messages):
    it = cleaned
    fill(it.raw / "Run1", content="other frames")
    it.more()
    fill(it.raw / "Run1", content="still other frames")
    fill(it.raw / "Run1", ["6.dat"])
    it.more()
    assert len(messages("was re-acquired", logging.ERROR)) == 2


def test_l7_a_renamed_folder_is_taken_and_the_alert_forgotten(cleaned):
    it = cleaned
    fill(it.raw / "Run1", content="other frames")
    it.more()
    assert it.flag("failed") is not None
    (it.raw / "Run1").rename(it.raw / "Run9")
    assert it.more() == [LsmStrip(9, 1, 1)]
    assert it.flag("failed") is None
    assert it.flag("cleaned") is not None


def test_l7_a_folder_that_is_emptied_again_ends_the_alert(cleaned):
    it = cleaned
    fill(it.raw / "Run1", content="other frames")
    it.more()
    for path in (it.raw / "Run1").iterdir():
        path.unlink()
    it.more()
    assert it.flag("failed") is None


def test_a_project_that_cannot_be_written_stops_no_look(cleaned, monkeypatch, messages):
    it = cleaned
    fill(it.raw / "Run1", content="other frames")
    it.more()
    monkeypatch.setattr(lsm_module, "forget_problem", Mock(side_effect=ServiceError("read-only")))
    shutil.rmtree(it.raw / "Run1")
    fill(it.raw / "Run2", FIVE[:3])
    it.more()
    assert len(messages("read-only", logging.WARNING)) == 1
    assert it.waits_for(LsmStrip(2, 1, 1))
    monkeypatch.undo()
    it.more()
    assert it.flag("failed") is None


def test_l7_after_a_reset_the_new_files_are_taken(cleaned):
    it = cleaned
    fill(it.raw / "Run1", content="other frames")
    it.more()
    assert it.state.reset(strip_place(*KEY))
    assert it.more() == [KEY]
    assert it.flag("cleaned") is None


def test_the_first_files_in_their_place_again_end_the_alert(bench):
    it = bench()
    folder = fill(it.raw / "Run1")
    it.more()
    it.mark("compressed")
    kept = folder.rename(it.raw / "kept")
    fill(folder, content="other frames")
    it.more()
    assert it.flag("failed") is not None
    shutil.rmtree(folder)
    kept.rename(folder)
    assert it.more() == []
    assert it.flag("failed") is None


# ------------------------------------------------------------------------------------- duplicates
def test_one_strip_from_two_sources_is_not_guessed(bench, messages, tmp_path):
    it = bench(acquisition__sources=[{"dir": "raw"}, {"dir": "raw2"}])
    first, second = fill(it.raw / "Run1"), fill(tmp_path / "raw2" / "Run1")
    fill(it.raw / "Run2")
    assert it.more(300) == [LsmStrip(2, 1, 1)]
    (alert,) = messages("there twice", logging.ERROR)
    assert f"{first} and {second}" in alert
    assert it.flag("ready") is None
    assert "there twice" in it.flag("failed").extra["error"]
    shutil.rmtree(second)
    assert it.more() == [KEY]
    assert it.flag("failed") is None


def test_two_names_of_one_strip_are_not_guessed(bench, messages):
    it = bench()
    fill(it.raw / "Run1")
    fill(it.raw / "run1_0", ["only-one.dat"])
    assert it.more() == []
    assert len(messages("there twice", logging.ERROR)) == 1


def test_an_empty_folder_is_no_rival(bench):
    it = bench()
    fill(it.raw / "Run1")
    (it.raw / "run1_0").mkdir()
    assert it.more() == [KEY]


def test_one_folder_named_twice_is_no_duplicate(bench):
    it = bench(acquisition__sources=[{"dir": "raw"}, {"dir": "raw"}])
    fill(it.raw / "Run1")
    assert it.more() == [KEY]


# ------------------------------------------------------------------------------- folders away
def test_a_source_that_is_away_suspends_its_strips(bench, messages):
    it = bench()
    fill(it.raw / "Run1")
    fill(it.raw / "Run1_1")
    it.until(10)
    gone = it.raw.rename(it.raw.with_name("unmounted"))
    it.until(100)
    assert set(it.intake.last.suspended) == {KEY, LsmStrip(1, 1, 2)}
    assert len(messages(f"source folder {it.raw} cannot be listed", logging.WARNING)) == 1
    gone.rename(it.raw)
    # Seen again at 105 as they were: the time of rest counts from then on.
    assert it.until(200) == [(120, [KEY, LsmStrip(1, 1, 2)])]


def test_an_empty_mount_point_is_not_all_gone(bench, messages):
    it = bench()
    fill(it.raw / "Run1")
    it.until(10)
    gone = it.raw.rename(it.raw.with_name("unmounted"))
    it.raw.mkdir()
    it.until(100)
    assert set(it.intake.last.suspended) == {KEY}
    assert len(messages("is empty, and it was not", logging.WARNING)) == 1
    it.raw.rmdir()
    gone.rename(it.raw)
    assert it.until(200) == [(120, [KEY])]


def test_a_rival_in_a_source_that_is_away_is_not_forgotten(bench, tmp_path):
    it = bench(acquisition__sources=[{"dir": "raw"}, {"dir": "raw2"}])
    fill(it.raw / "Run1")
    fill(tmp_path / "raw2" / "Run1")
    it.until(10)
    (tmp_path / "raw2").rename(tmp_path / "unmounted")
    assert it.more(120) == []
    assert it.flag("ready") is None


def test_records_are_kept_while_a_source_is_away(cleaned):
    it = cleaned
    fill(it.raw / "Run1", content="other frames")
    it.more()
    gone = it.raw.rename(it.raw.with_name("unmounted"))
    it.start()
    it.more()
    assert it.flag("failed") is not None
    gone.rename(it.raw)
    (it.raw / "Run1").rename(it.raw / "elsewhere")
    it.more()
    assert it.flag("failed") is None


# ------------------------------------------------------------------------------------------ force
def test_force_takes_every_strip_again_once(bench):
    it = bench()
    folder = fill(it.raw / "Run1")
    it.more()
    it.mark("compressed", "archived")
    it.force = True
    it.start()
    assert it.more(7200) == [KEY]
    assert it.flag("ready").extra["force_rerun"] is True
    assert it.flag("compressed") is None
    assert it.flag("archived") is None
    assert read_events(it.layout)[-1]["force_rerun"] is True
    fill(folder, ["more.dat"])
    assert it.more(7200) == [KEY]


def test_force_takes_new_files_of_a_finished_strip(cleaned):
    it = cleaned
    fill(it.raw / "Run1", content="other frames")
    it.force = True
    it.start()
    assert it.more(7200) == [KEY]
    assert it.flag("cleaned") is None


# ------------------------------------------------------------------------------------------- cost
def test_finished_strips_are_not_walked(bench, walks):
    it = bench()
    for number in (1, 2, 3):
        fill(it.raw / f"Run{number}", ["top.dat", *(f"inner/{name}" for name in FIVE)])
    it.more()
    walks.clear()
    it.more(3000)
    assert walks == []
    # A watcher that starts knows them by their folders; then it compares one in each look.
    it.start()
    it.look()
    assert walks == []
    it.look()
    assert walks == ["Run1"]
    it.look()
    assert walks == ["Run1", "Run2"]
    it.more()
    assert walks == ["Run1", "Run2", "Run3"]


def test_what_changes_deep_inside_is_seen_at_the_next_recheck(bench, walks, messages):
    it = bench(watch__recheck_s=1000)
    folder = fill(it.raw / "Run1", [f"inner/{name}" for name in FIVE])
    it.more()
    it.mark("compressed")
    os.utime(folder / "inner/3.dat", (1, 1))
    it.more(800)
    assert messages("was re-acquired") == []
    it.more(400)
    assert len(messages("was re-acquired", logging.ERROR)) == 1


def test_an_alert_about_what_lies_deep_inside_outlives_a_restart(bench):
    it = bench(watch__recheck_s=100)
    folder = fill(it.raw / "Run1", [f"inner/{name}" for name in FIVE])
    it.more()
    it.mark("compressed")
    os.utime(folder / "inner/3.dat", (1, 1))
    it.more(200)
    before = it.flag("failed")
    it.start()
    it.look()
    assert it.flag("failed") == before
    it.more(200)
    assert it.flag("failed") == before


def test_what_is_added_to_a_finished_strip_is_seen_at_once(bench, messages):
    it = bench()
    folder = fill(it.raw / "Run1")
    it.more()
    it.mark("compressed")
    fill(folder, ["late.dat"])
    it.more(30)
    assert len(messages("was re-acquired", logging.ERROR)) == 1


def test_nothing_is_logged_while_nothing_happens(bench, caplog):
    it = bench()
    fill(it.raw / "Run1")
    it.more()
    caplog.clear()
    caplog.set_level(logging.INFO, "opticstream_smk")
    it.more(7200)
    assert caplog.records == []


# -------------------------------------------------------------------------------- partial writes
def spool(folder, sizes, frames=4, bom=True, frame_bytes=25):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Spooled files.sifx").write_text("Andor Technology Multi-Channel File\n")
    text = (
        f"[data]\r\nAOIHeight = 3\r\nImageSizeBytes = {frame_bytes}\r\n\r\n"
        f"[multiimage]\r\nImagesPerFile = {frames}\r\n"
    )
    mark = b"\xef\xbb\xbf" if bom else b""
    (folder / "acquisitionmetadata.ini").write_bytes(mark + text.encode())
    for number, size in enumerate(sizes):
        (folder / (f"{number:010d}"[::-1] + "spool.dat")).write_bytes(bytes(size))
    return folder


def test_a_spool_file_that_stays_short_holds_its_strip_back(bench, messages):
    it = bench()
    folder = spool(it.raw / "Run1", [100] * 11 + [60])
    short = folder / "1100000000spool.dat"
    assert it.more(300) == []
    (alert,) = messages(f"{short} has 60 bytes, other spool files have 100", logging.ERROR)
    assert "truncated or still being written" in alert
    assert it.waits_for() == alert
    assert it.flag("failed").extra["error"] == alert
    short.write_bytes(bytes(100))
    assert it.more() == [KEY]
    assert it.flag("failed") is None


@pytest.mark.parametrize("bom", [True, False])
def test_sizes_that_the_metadata_do_not_say_are_one_warning(bench, messages, bom):
    it = bench()
    spool(it.raw / "Run1", [100] * 5, frames=5, bom=bom)
    assert it.more(300) == [KEY]
    assert len(messages("have 100 bytes each, acquisitionmetadata.ini says 125")) == 1


@pytest.mark.parametrize(
    ("sizes", "problem"),
    [
        ([100, 100, 100], None),
        ([100, 100, 60], "2000000000spool.dat has 60 bytes, other spool files have 100"),
        ([60, 60, 100], "0000000000spool.dat has 60 bytes, other spool files have 100"),
        ([100, 160], "1000000000spool.dat has 160 bytes, other spool files have 100: too long"),
    ],
)
def test_which_spool_file_is_wrong(tmp_path, sizes, problem):
    folder = spool(tmp_path / "Run1", sizes)
    found, odd = check_spool(folder, look_into(folder))
    assert odd is None
    assert (found is None) == (problem is None)
    assert problem is None or problem in found


def test_spool_files_of_inner_folders_are_no_part_of_the_series(tmp_path):
    folder = spool(tmp_path / "Run1", [100, 100])
    fill(folder / "preview", ["0000000000spool.dat"])
    assert check_spool(folder, look_into(folder)) == (None, None)


@pytest.mark.parametrize(
    "metadata", [None, b"\xff\xfe", b"no section", b"[data]\nImageSizeBytes=x"]
)
def test_without_metadata_the_sizes_of_other_files_mean_nothing(tmp_path, metadata):
    folder = spool(tmp_path / "Run1", [100, 100])
    path = folder / "acquisitionmetadata.ini"
    path.unlink()
    if metadata is not None:
        path.write_bytes(metadata)
    assert check_spool(folder, look_into(folder)) == (None, None)


def test_strips_are_described_for_people(bench):
    assert bench().domain.describe(LsmStrip(1, 2, 3)) == "slice 01 channel 02 strip 0003"
