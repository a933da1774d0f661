"""Which goals go to which drivers, and what the end of a driver means."""

import json
import logging
import os
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
import yaml

from opticstream_smk.archive.folder import MARKER, archive_folder
from opticstream_smk.config import load_config
from opticstream_smk.estimate import batch_archive_bytes, batch_product_bytes
from opticstream_smk.plan import Plan, project_layout
from opticstream_smk.state.flags import now, read_flag
from opticstream_smk.state.host import host_name
from opticstream_smk.state.places import Place, batch_place
from opticstream_smk.state.psoct import OctState
from opticstream_smk.trigger import dispatch as dispatch_module
from opticstream_smk.trigger.control import pause, resume
from opticstream_smk.trigger.dispatch import Dispatcher, share_out
from opticstream_smk.trigger.drivers import Ended
from opticstream_smk.trigger.goals import Goals
from tests.history import History, write_config


class FakeDrivers:
    """Drivers that end when they are told to."""

    def __init__(self, folder):
        self.folder = folder
        self.living = []
        self.ended = []

    def start(self, kind, goals, _cores):
        driver = SimpleNamespace(
            id=f"d{len(self.living)}",
            kind=kind,
            goals=tuple(goals),
            pid=1,
            since=0.0,
            is_adopted=False,
            log=self.folder / "driver.log",
        )
        self.living.append(driver)
        return driver

    def end(self, driver, code):
        self.living.remove(driver)
        self.ended.append(Ended(driver, code))

    def reap(self):
        ended, self.ended = self.ended, []
        return ended


class Bench:
    def __init__(self, folder, **run):
        path = write_config(folder, grid_size_x_normal=4, grid_size_x_tilted=4, grid_size_y=2)
        values = yaml.safe_load(path.read_text())
        values["run"] |= {"reserve_free_mb": 0, **run}
        path.write_text(yaml.safe_dump(values))
        self.config = load_config(path)
        self.history = History(self.config)
        self.layout = project_layout(self.config)
        self.layout.root.mkdir(exist_ok=True)
        self.now = 1000.0
        self.drivers = FakeDrivers(folder)
        self.start()

    def start(self):
        goals = Goals(self.config, clock=lambda: self.now)
        self.it = Dispatcher(self.config, self.drivers, goals, clock=lambda: self.now)

    def dispatch(self):
        self.it.reap()
        return [(driver.kind, driver.goals) for driver in self.it.dispatch()]

    def fail(self, mosaic, batch, kind="data", attempts=1, wait_s=60.0, flag="processed"):
        next_try = None if wait_s is None else (now() + timedelta(seconds=wait_s)).isoformat()
        self.history.write(
            self.history.place(mosaic, batch),
            "failed",
            extra={
                "flag": f"batch-{batch:03d}.{flag}",
                "kind": kind,
                "error": "it broke",
                "attempts": attempts,
                "next_try": next_try,
            },
        )
        # One record is told from the next by its time.
        path = self.layout.batch_flag(mosaic, batch, "failed")
        record = json.loads(path.read_text())
        record["finished"] = now().isoformat()
        path.write_text(json.dumps(record))


def processed(mosaic, *batches):
    return tuple(f"mosaic-{mosaic:02d}/state/batch-{b:03d}.processed" for b in batches)


@pytest.fixture(autouse=True)
def free_bytes(monkeypatch):
    """Free space, whatever the disk of the tests has; a test may change it."""
    free = [10**15]

    def space(_path):
        return SimpleNamespace(f_bavail=free[0], f_frsize=1)

    monkeypatch.setattr(dispatch_module.os, "statvfs", space)
    return free


@pytest.fixture
def bench(tmp_path):
    return lambda **run: Bench(tmp_path, **run)


@pytest.fixture
def messages(caplog):
    caplog.set_level(logging.INFO, "opticstream_smk")
    return caplog


# ---------------------------------------------------------------------------------------- sharing
def test_one_driver_each_while_there_are_enough(bench):
    it = bench(max_drivers=4)
    it.history.enter(1, 1, 2)
    assert it.dispatch() == [("compute", processed(1, 1)), ("compute", processed(1, 2))]
    assert it.dispatch() == []  # they have an owner
    it.history.enter(1, 3)
    assert it.dispatch() == [("compute", processed(1, 3))]


def test_beyond_that_goals_share_and_one_driver_is_kept_back(bench):
    it = bench(max_drivers=3)
    it.history.enter(1, 1, 2, 3, 4)
    assert it.dispatch() == [("compute", processed(1, 1, 3)), ("compute", processed(1, 2, 4))]
    it.history.enter(2, 1)
    assert it.dispatch() == [("compute", processed(2, 1))]
    it.history.enter(2, 2, 3)
    assert it.dispatch() == []
    assert it.it.queued == processed(2, 2, 3)
    it.drivers.end(it.drivers.living[0], 0)
    for batch in (1, 3):
        it.history.write(it.history.place(1, batch), "processed")
    assert ("compute", processed(2, 2, 3)) in it.dispatch()


@pytest.mark.parametrize(
    ("goals", "free", "sizes"),
    [(0, 3, []), (5, 0, []), (1, 1, [1]), (3, 3, [1, 1, 1]), (5, 1, [5]), (5, 3, [3, 2])],
)
def test_sharing(goals, free, sizes):
    shares = share_out(list(range(goals)), free)
    assert [len(share) for share in shares] == sizes
    if free:
        assert sorted(goal for share in shares for goal in share) == list(range(goals))


def test_pictures_have_a_driver_of_their_own(bench):
    it = bench(max_drivers=1)
    it.history.enter(1, 1, 2, 3)
    for batch in (1, 2):
        it.history.write(it.history.place(1, batch), "processed")
    assert it.dispatch() == [
        ("compute", processed(1, 3)),
        ("qc", ("mosaic-01/state/batch-001.qc", "mosaic-01/state/batch-002.qc")),
    ]


def test_goals_of_the_configuration(bench):
    it = bench(goals=["batch"])
    it.history.process(1)
    it.history.enter(2, 1)
    for path in it.layout.mosaic_state(1).glob("*.qc"):
        path.unlink()
    assert it.dispatch() == [("compute", processed(2, 1))]


def test_mosaics_and_slices_are_asked_for_when_their_inputs_are_there(bench):
    it = bench()
    for mosaic in (1, 2, 3):
        it.history.process(mosaic)
    it.layout.batch_flag(3, 4, "processed").unlink()
    asked = {goal for kind, goals in it.dispatch() for goal in goals if kind == "compute"}
    assert asked == {
        "mosaic-01/state/mosaic-01.stitched",
        "mosaic-02/state/mosaic-02.stitched",
        *processed(3, 4),
    }
    for driver in list(it.drivers.living):
        it.drivers.end(driver, 0)
    for mosaic in (1, 2):
        it.history.solve(mosaic)
        it.history.write(it.history.place(mosaic), "stitched")
    it.history.write(it.history.place(3, 4), "processed")
    asked = {goal for kind, goals in it.dispatch() for goal in goals if kind == "compute"}
    assert asked == {"mosaic-03/state/mosaic-03.stitched", "state/slice-01.registered"}


def volumes(mosaic, *modalities):
    folder = f"mosaic-{mosaic:02d}/state/mosaic-{mosaic:02d}"
    return tuple(f"{folder}.volume_{modality}" for modality in modalities)


def stitched(it, *mosaics):
    """Stitched mosaics, whose pictures are drawn."""
    for mosaic in mosaics:
        it.history.process(mosaic)
        it.history.write(it.history.place(mosaic), "stitched")
        picture = it.layout.mosaic_picture(mosaic)
        picture.parent.mkdir(exist_ok=True)
        picture.touch()


def test_volumes_wait_for_the_focus_plane_and_have_a_driver_of_their_own(bench):
    it = bench(max_drivers=1)
    stitched(it, 1, 3)
    tilemap = Place("tilemap", acquisition="normal")
    it.history.write(tilemap, "solved")
    assert it.dispatch() == [("compute", ("state/focus-normal.fitted",))]
    it.history.write(Place("focus", acquisition="normal"), "fitted")
    it.drivers.end(it.drivers.living[0], 0)
    it.layout.focus_picture("normal").touch()
    every = volumes(1, "dBI", "R3D", "O3D") + volumes(3, "dBI", "R3D", "O3D")
    assert it.dispatch() == [("volume", every)]
    # However long they take, a new batch starts at once, and a mosaic is stitched.
    it.history.enter(5, 1)
    assert it.dispatch() == [("compute", processed(5, 1))]
    for state in ("volume_dBI", "volume_R3D", "volume_O3D"):
        it.history.write(it.history.place(1), state)
    for driver in list(it.drivers.living):
        it.drivers.end(driver, 0)
    asked = dict(it.dispatch())
    # That all are there is soon said, and does not wait for the volumes of others.
    assert set(asked["compute"]) >= set(volumes(1, "stitched"))


def test_a_volume_that_failed_leaves_the_others_alone(bench, messages):
    it = bench()
    it.history.solve(1)
    stitched(it, 1)
    it.layout.focus_picture("normal").touch()
    record = {"flag": "mosaic-01.volume_R3D", "kind": "data", "error": "no", "attempts": 3}
    it.history.write(it.history.place(1), "failed", extra={**record, "next_try": None})
    for _ in range(3):
        asked = [goal for kind, goals in it.dispatch() for goal in goals if kind == "volume"]
        assert set(asked) <= set(volumes(1, "dBI", "O3D"))
        it.now += 1000
    assert [waiting.goal for waiting in it.it.waiting] == list(volumes(1, "R3D"))
    assert messages.text.count("failed in made for a test") == 1


def test_without_the_goal_no_volume_is_asked_for(bench):
    it = bench(goals=["batch", "mosaic", "qc"])
    it.history.solve(1)
    stitched(it, 1)
    it.layout.focus_flag("normal").unlink()
    assert it.dispatch() == []
    assert it.it.goals._finished  # and the mosaic is not looked at again


def test_a_finished_mosaic_with_its_volumes_is_not_looked_at_again(bench):
    it = bench()
    it.history.finish(1)
    for picture in (
        *map(it.layout.mosaic_picture, (1, 2)),
        *map(it.layout.focus_picture, ("normal", "tilted")),
        it.layout.slice_picture(1),
    ):
        picture.parent.mkdir(exist_ok=True)
        picture.touch()
    assert it.dispatch() == []
    assert len(it.it.goals._finished) == 3


def test_a_damaged_flag_stops_its_own_mosaic_only(bench, messages):
    it = bench()
    it.history.enter(1, 1, 2, 3, 4)
    for batch in (1, 2, 3, 4):
        it.history.write(it.history.place(1, batch), "processed")
    it.layout.batch_flag(1, 2, "ready").write_text("{")
    it.history.enter(2, 1)
    assert ("compute", processed(2, 1)) in it.dispatch()
    it.dispatch()
    assert messages.text.count("batch-002.ready cannot be read") == 1


# --------------------------------------------------------------------------------------- failures
def test_a_failure_waits_then_is_tried_again(bench, messages):
    it = bench()
    it.history.enter(1, 1, 2)
    it.fail(1, 1, wait_s=60)
    assert it.dispatch() == [("compute", processed(1, 2))]
    (waiting,) = it.it.waiting
    assert waiting.goal == processed(1, 1)[0]
    assert waiting.until == pytest.approx(it.now + 60, abs=2)
    it.now += 59
    assert it.dispatch() == []
    it.now += 2
    assert it.dispatch() == [("compute", processed(1, 1))]
    assert messages.text.count("mosaic 001 batch 001 failed") == 1


def test_after_its_attempts_it_is_set_aside_with_one_message(bench, messages):
    it = bench()
    it.history.enter(1, 1)
    it.fail(1, 1, attempts=3, wait_s=None)
    for _ in range(5):
        assert it.dispatch() == []
        it.now += 10_000
    assert messages.text.count("set aside: mend it, then `optic-trigger retry`") == 1
    it.layout.batch_flag(1, 1, "failed").unlink()  # what retry does
    assert it.dispatch() == [("compute", processed(1, 1))]


@pytest.mark.parametrize("step_s", [-3600, 3600])
def test_a_step_of_the_clock_never_makes_a_retry_late(bench, step_s):
    """`next_try` is a time of day. A clock set back by an hour must not add an hour."""
    it = bench()
    it.history.enter(1, 1)
    it.fail(1, 1, wait_s=60 - step_s)  # written before the clock was set
    assert it.dispatch() == ([("compute", processed(1, 1))] if step_s > 0 else [])
    it.now += 61
    if step_s < 0:
        assert it.dispatch() == [("compute", processed(1, 1))]


def test_the_kind_decides_how_soon(bench):
    it = bench(retry={"service": {"first_s": 5, "longest_s": 9, "attempts": 9}})
    it.history.enter(1, 1)
    it.fail(1, 1, kind="service", attempts=2, wait_s=1000)
    it.dispatch()
    assert it.it.next_try == it.now + 9


def test_a_failed_picture_holds_no_work_back(bench):
    it = bench()
    it.history.enter(1, 1)
    it.history.write(it.history.place(1, 1), "processed")
    it.fail(1, 1, flag="qc", wait_s=60)
    it.layout.batch_flag(1, 1, "processed").unlink()
    assert it.dispatch() == [("compute", processed(1, 1))]


def test_a_corrected_configuration_releases_what_it_stopped(bench):
    it = bench()
    it.history.enter(1, 1, 2)
    it.fail(1, 1, kind="config", wait_s=None)
    it.fail(1, 2, kind="data", wait_s=None)
    assert it.dispatch() == []
    it.it.use(it.config)
    assert it.dispatch() == [("compute", processed(1, 1))]


def test_a_killed_driver_is_replaced_at_once(bench):
    it = bench()
    it.history.enter(1, 1)
    it.dispatch()
    for _ in range(3):
        it.drivers.end(it.drivers.living[0], None)
        assert it.dispatch() == [("compute", processed(1, 1))]
    it.drivers.end(it.drivers.living[0], None)
    assert it.dispatch() == []  # not for ever at once
    it.now += 61
    assert it.dispatch() == [("compute", processed(1, 1))]


def test_a_stage_that_died_is_recorded_with_its_attempts(bench):
    it = bench()
    it.history.enter(1, 1)
    it.dispatch()
    flag = it.layout.batch_flag(1, 1, "complex")
    for attempt in (1, 2):
        lock = it.layout.lock(flag)
        lock.parent.mkdir(exist_ok=True)
        lock.write_text(json.dumps({"host": host_name(), "pid": 4242}))
        it.drivers.end(it.drivers.living[0], 1)
        assert it.dispatch() == []
        failed = read_flag(it.layout.batch_flag(1, 1, "failed"))
        assert (failed.extra["kind"], failed.extra["attempts"]) == ("resource", attempt)
        assert "process 4242" in failed.extra["error"]
        assert lock.read_text() == ""
        it.now += 100
        assert it.dispatch() == [("compute", processed(1, 1))]


def test_snakemake_s_own_failure_backs_off_and_shows_its_log(bench, messages):
    it = bench()
    it.history.enter(1, 1)
    it.dispatch()
    (it.drivers.folder / "driver.log").write_text("Error in rule all\nsomething is wrong\n")
    it.drivers.end(it.drivers.living[0], 1)
    assert it.dispatch() == []
    assert "something is wrong" in messages.text
    (waiting,) = it.it.waiting
    assert "snakemake ended with 1" in waiting.reason
    it.now += 5.1
    assert it.dispatch() == [("compute", processed(1, 1))]
    it.drivers.end(it.drivers.living[0], 1)
    it.now += 5.1
    assert it.dispatch() == []  # twice as long
    assert messages.text.count("something is wrong") == 1


def test_a_picture_that_cannot_be_drawn_is_not_asked_for_without_end(bench):
    it = bench()
    for mosaic in (1, 2):
        it.history.process(mosaic)
        it.history.solve(mosaic)
        it.history.write(it.history.place(mosaic), "stitched")
    it.layout.report.mkdir()
    for mosaic in (1, 2):
        picture = it.layout.mosaic_picture(mosaic)
        picture.write_text("of an earlier mosaic")
        os.utime(picture, (1, 1))  # older than its flag, so it is drawn again
    goals = {goal for _, goals in it.dispatch() for goal in goals}
    assert "report/mosaic-01.jpg" in goals
    (driver,) = [driver for driver in it.drivers.living if driver.kind == "qc"]
    it.drivers.end(driver, 1)
    assert not [kind for kind, _ in it.dispatch() if kind == "qc"]


# ------------------------------------------------------------------------------------------- holds
def test_nothing_is_started_while_paused(bench, messages):
    it = bench()
    it.history.enter(1, 1)
    pause(it.layout, "service of the laser")
    for _ in range(3):
        assert it.dispatch() == []
    assert messages.text.count("no work is started: paused") == 1
    assert "service of the laser" in it.it.holds[0]
    resume(it.layout)
    assert it.dispatch() == [("compute", processed(1, 1))]
    assert "work goes on" in messages.text


def test_space_is_counted_with_what_is_running(bench, messages, free_bytes):
    it = bench()
    it.history.enter(1, 1, 2, 3)
    one = batch_product_bytes(it.config, "normal")
    free_bytes[0] = int(2.5 * one)
    assert it.dispatch() == [("compute", processed(1, 1)), ("compute", processed(1, 2))]
    assert it.dispatch() == []
    assert messages.text.count("no work is started: disk space") == 1
    assert processed(1, 3)[0] in it.it.holds[0]
    free_bytes[0] = int(3.5 * one)
    assert it.dispatch() == [("compute", processed(1, 3))]
    assert it.it.holds == ()


# ------------------------------------------------------------------------------ day 1 and day 30
def test_a_redo_is_noticed_among_finished_mosaics(bench):
    it = bench(goals=["batch", "mosaic", "slice"])
    it.history.finish(3)
    assert it.dispatch() == []
    assert len(it.it.goals._finished) == 9
    with OctState(it.layout).open(batch_place(2, 3)) as node:
        node.withdraw("processed")
    assert it.dispatch() == [("compute", processed(2, 3))]


def test_finished_mosaics_cost_no_listing(bench, monkeypatch):
    it = bench(goals=["batch", "mosaic", "slice"])
    it.history.finish(3)
    it.history.enter(7, 1)
    it.dispatch()
    looked = []
    real = Plan.startable
    monkeypatch.setattr(Plan, "startable", lambda self, m: looked.append(m) or real(self, m))
    it.dispatch()
    assert looked == [7]


def test_times_are_those_of_a_clock_that_is_never_set(monkeypatch, bench):
    """Nothing in here asks for the time of day, but to shorten a wait."""
    it = bench()
    it.history.enter(1, 1)
    monkeypatch.setattr(time, "time", lambda: pytest.fail("asked for the time of day"))
    assert it.dispatch() == [("compute", processed(1, 1))]
    it.drivers.end(it.drivers.living[0], None)
    assert it.dispatch() == [("compute", processed(1, 1))]


# ---------------------------------------------------------------------------------- the archive
class Archiving(Bench):
    """A project with an archive on a disk of its own."""

    def __init__(self, folder, **run):
        super().__init__(folder, **run)
        path = folder / "project.yaml"
        values = yaml.safe_load(path.read_text())
        values["archive"] = {"dir": "archive"}
        path.write_text(yaml.safe_dump(values))
        self.config = load_config(path)
        self.history = History(self.config)
        self.start()


@pytest.fixture
def archiving(tmp_path, monkeypatch):
    devices = {"archive": 1}
    monkeypatch.setattr(dispatch_module, "_device", lambda folder: devices.get(folder.name, 0))
    return lambda **run: Archiving(tmp_path, **run)


def archived(mosaic, *batches):
    return tuple(f"mosaic-{mosaic:02d}/state/batch-{b:03d}.archived" for b in batches)


def test_a_batch_is_archived_while_it_is_processed(archiving):
    it = archiving(max_drivers=1)
    it.history.enter(1, 1)
    assert it.dispatch() == [("compute", processed(1, 1)), ("archive", archived(1, 1))]
    it.history.enter(1, 2)
    assert it.dispatch() == []
    # Whichever ends first makes place for its own kind only.
    (archive,) = [driver for driver in it.drivers.living if driver.kind == "archive"]
    it.history.write(it.history.place(1, 1), "archived")
    it.drivers.end(archive, 0)
    assert it.dispatch() == [("archive", archived(1, 2))]


def test_a_project_may_not_ask_for_its_archive(archiving):
    it = archiving(goals=["batch"])
    it.history.enter(1, 1)
    assert it.dispatch() == [("compute", processed(1, 1))]


def test_a_full_archive_holds_no_work_back(archiving, monkeypatch, messages):
    it = archiving()
    it.history.enter(1, 1)
    one = batch_archive_bytes(it.config, "normal")
    (it.layout.root.parent / "archive").mkdir()

    def space(path):
        return SimpleNamespace(f_bavail=one - 1 if path.name == "archive" else 10**15, f_frsize=1)

    monkeypatch.setattr(dispatch_module.os, "statvfs", space)
    assert it.dispatch() == [("compute", processed(1, 1))]
    (hold,) = it.it.holds
    for part in (archived(1, 1)[0], f"on the disk of {it.config.archive.dir}", "running work)"):
        assert part in hold
    assert messages.text.count("no work is started: disk space") == 1
    one += 1
    assert it.dispatch() == [("archive", archived(1, 1))]


def test_a_full_project_disk_holds_no_archive_back(archiving, monkeypatch):
    it = archiving()
    it.history.enter(1, 1)

    def space(path):
        return SimpleNamespace(f_bavail=10**15 if path.name == "archive" else 0, f_frsize=1)

    (it.layout.root.parent / "archive").mkdir()
    monkeypatch.setattr(dispatch_module.os, "statvfs", space)
    assert it.dispatch() == [("archive", archived(1, 1))]
    assert "disk space" in it.it.holds[0]


def test_on_one_disk_they_are_counted_together(archiving, monkeypatch, free_bytes):
    it = archiving()
    monkeypatch.setattr(dispatch_module, "_device", lambda _folder: 0)
    it.history.enter(1, 1)
    compute, archive = (f(it.config, "normal") for f in (batch_product_bytes, batch_archive_bytes))
    free_bytes[0] = compute + archive - 1
    assert it.dispatch() == [("compute", processed(1, 1))]
    assert it.it.holds
    free_bytes[0] += 1
    assert it.dispatch() == [("archive", archived(1, 1))]


def test_an_archive_that_is_away_is_waited_for(archiving):
    it = archiving()
    it.history.enter(1, 1)
    folder = archive_folder(it.config, it.layout)
    folder.open("p")
    (folder.path / MARKER).unlink()
    assert it.dispatch() == [("compute", processed(1, 1))]
    assert "is the right disk mounted?" in it.it.holds[0]
    it.layout.archives.unlink()
    assert it.dispatch() == [("archive", archived(1, 1))]


def test_failures_of_archive_and_computation_wait_by_themselves(archiving):
    it = archiving()
    it.history.enter(1, 1)
    it.fail(1, 1, flag="archived", wait_s=60)
    assert it.dispatch() == [("compute", processed(1, 1))]
    it.drivers.end(it.drivers.living[0], 1)
    it.fail(1, 1, flag="processed", wait_s=300)
    # The record of the archive was replaced by a person's hand: it goes on.
    assert it.dispatch() == [("archive", archived(1, 1))]
    assert [held.goal for held in it.it.waiting] == list(processed(1, 1))


def test_a_dead_archive_stage_is_no_dead_computation(archiving):
    it = archiving()
    it.history.enter(1, 1)
    it.dispatch()
    lock = it.layout.lock(it.layout.batch_flag(1, 1, "archived"))
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text(json.dumps({"host": host_name(), "pid": 2**22 + 1}))
    compute, archive = it.drivers.living
    it.drivers.end(compute, 1)
    it.it.reap()
    assert not it.layout.batch_flag(1, 1, "failed").exists()
    it.drivers.end(archive, 1)
    it.it.reap()
    record = read_flag(it.layout.batch_flag(1, 1, "failed"))
    assert (record.extra["flag"], record.extra["kind"]) == ("batch-001.archived", "resource")
