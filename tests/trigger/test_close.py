import os
from contextlib import nullcontext

import pytest

from opticstream_smk.cli.close import _images
from opticstream_smk.doctor import examine
from opticstream_smk.errors import ConfigError, IncompleteInputError
from opticstream_smk.plan import Plan, project_layout, project_state
from opticstream_smk.state import locks
from opticstream_smk.state.events import read_events
from opticstream_smk.state.flags import read_flag
from opticstream_smk.state.places import Place
from opticstream_smk.trigger.close import close_mosaic, reopen_mosaic
from opticstream_smk.trigger.discover import discover
from opticstream_smk.trigger.ready import enter_batch, scan
from tests.state.test_flags import flag


class Project:
    """A project of one mosaic: 3 batches of 2 tiles."""

    def __init__(self, config, write_raw):
        self.config = config
        self.layout = project_layout(config)
        self._write_raw = write_raw

    def acquire(self, *images):
        self._write_raw(self.config, 1, images)
        scan(self.config, assume_stable=True)
        return self

    @property
    def plan(self):
        return Plan(self.config, self.layout)

    def add(self, place, state, **content):
        with project_state(self.config).open(place) as node:
            node.add(state, flag(flag=state, stage="made for a test", **content))

    def stitch(self, *missing):
        for batch in self.plan.ready_batches(1):
            self.add(Place("batch", 1, 1, batch), "processed")
        for state in ("coordinates", "stitched"):
            self.add(Place("mosaic", 1, 1), state, tiles={"missing": missing})
        self.add(Place("slice", 1), "registered")

    def present(self):
        return sorted(path.name for path in self.layout.root.glob("**/state/*.*") if path.is_file())


@pytest.fixture
def project(make_config, write_raw):
    return Project(make_config(acquisition__grid_size_x_normal=3), write_raw)


# -------------------------------------------------------------------------------------- closing
def test_close_takes_what_is_missing_now(project):
    project.acquire(1, 2, 3)
    closed = close_mosaic(project.config, 1, reason="the stage hung")
    assert closed.missing == (4, 5, 6)
    assert closed.entered == (2,)
    written = read_flag(project.layout.mosaic_flag(1, "closed"))
    assert written.extra["missing"] == [4, 5, 6]
    assert written.extra["reason"] == "the stage hung"
    assert "@" in written.extra["by"]
    assert (written.tiles.done, written.tiles.missing) == ((1, 2, 3), (4, 5, 6))
    ready = read_flag(project.layout.batch_flag(1, 2, "ready"))
    assert (ready.tiles.done, ready.tiles.missing) == ((3,), (4,))
    assert project.plan.counted_batches(1) == [1, 2]
    assert project.plan.is_accepted(1)
    assert "linc.oct.mosaic.closed" in {e["event"] for e in read_events(project.layout)}


def test_close_takes_exactly_what_was_said_or_nothing(project):
    project.acquire(1, 2, 3, 5, 6)
    before = project.present()
    with pytest.raises(ConfigError, match=r"1 of 6 tiles are: 4.*--missing 4$"):
        close_mosaic(project.config, 1, missing=[4, 5])
    assert project.present() == before
    assert close_mosaic(project.config, 1, missing=[4]).missing == (4,)


def test_a_mosaic_that_lacks_nothing_cannot_be_closed(project):
    project.acquire(1, 2, 3, 4, 5, 6)
    with pytest.raises(
        ConfigError, match="lacks none of its 6 tiles, so there is nothing to close"
    ):
        close_mosaic(project.config, 1)


def test_a_mosaic_that_nobody_has_seen_cannot_be_closed(project):
    project.acquire(1, 2, 3)
    with pytest.raises(IncompleteInputError, match=r"no raw tile of mosaic 009.*disk mounted"):
        close_mosaic(project.config, 9)
    source = project.config.acquisition.sources[0].dir
    source.rename(source.with_name("elsewhere"))
    with pytest.raises(IncompleteInputError, match=r"cannot be listed.*disk mounted"):
        close_mosaic(project.config, 1)
    source.mkdir()  # the mount point of a disk that is away
    with pytest.raises(IncompleteInputError, match="no raw tile of mosaic 001"):
        close_mosaic(project.config, 1)


def test_a_tile_that_is_there_and_wrong_is_not_missing(project, write_raw):
    project.acquire(1, 2, 3)
    wrong = write_raw(project.config, 1, [4], size=5000)[0]
    with pytest.raises(IncompleteInputError, match=f"{wrong} has 5000 bytes.*is not missing"):
        close_mosaic(project.config, 1)
    wrong.unlink()
    assert close_mosaic(project.config, 1).missing == (4, 5, 6)


def test_a_bad_tile_that_was_moved_away_before_it_was_processed_is_missing(project):
    project.acquire(1, 2, 3, 4, 5, 6)
    next(project.config.acquisition.sources[0].dir.glob("*image_0004*")).unlink()
    assert close_mosaic(project.config, 1, missing=[4]).entered == (2,)
    ready = read_flag(project.layout.batch_flag(1, 2, "ready"))
    assert (ready.tiles.done, ready.tiles.missing) == ((3,), (4,))


def test_tiles_of_processed_batches_are_there_although_their_files_have_gone(project):
    project.acquire(1, 2, 3)
    project.add(Place("batch", 1, 1, 1), "processed")
    for path in project.config.acquisition.sources[0].dir.glob("*image_000[12]*"):
        path.unlink()
    assert close_mosaic(project.config, 1).missing == (4, 5, 6)


# --------------------------------------------------------------------------------- closing again
def test_a_late_tile_closes_anew_and_withdraws_what_it_changes(project, write_raw):
    project.acquire(1, 2, 3)
    close_mosaic(project.config, 1)
    project.stitch(4, 5, 6)
    write_raw(project.config, 1, [4])
    with pytest.raises(ConfigError, match="2 of 6 tiles are: 5,6"):
        close_mosaic(project.config, 1, missing=[4, 5, 6])
    closed = close_mosaic(project.config, 1)
    assert closed.missing == (5, 6)
    assert closed.entered == ()  # batch 2 is complete now: for scan
    assert project.present() == ["batch-001.processed", "batch-001.ready", "mosaic-01.closed"]
    assert scan(project.config, assume_stable=True).written == [(1, 2)]
    assert project.plan.is_accepted(1)


def test_the_same_list_again_changes_nothing_that_is_made(project):
    project.acquire(1, 2, 3)
    close_mosaic(project.config, 1)
    project.stitch(4, 5, 6)
    before = project.present()
    closed = close_mosaic(project.config, 1)
    assert (closed.missing, closed.withdrawn) == ((4, 5, 6), ())
    assert project.present() == before


def test_undo_withdraws_what_was_made_because_of_it(project):
    project.acquire(1, 2, 3)
    close_mosaic(project.config, 1)
    project.stitch(4, 5, 6)
    opened = reopen_mosaic(project.config, 1)
    assert {os.path.basename(path) for path in opened.withdrawn} == {  # noqa: PTH119
        "mosaic-01.closed", "mosaic-01.coordinates", "mosaic-01.stitched", "slice-01.registered",
        "batch-002.ready", "batch-002.processed",
    }  # fmt: skip
    assert project.present() == ["batch-001.processed", "batch-001.ready"]
    with pytest.raises(ConfigError, match="is not closed"):
        reopen_mosaic(project.config, 1)


def test_nothing_left_to_close_names_undo(project, write_raw):
    project.acquire(1, 2, 3)
    close_mosaic(project.config, 1)
    write_raw(project.config, 1, [4, 5, 6])
    with pytest.raises(ConfigError, match=r"nothing to close; --undo withdraws mosaic-01\.closed"):
        close_mosaic(project.config, 1)


@pytest.mark.parametrize(
    "busy",
    [
        "mosaic-01/state/mosaic-01.coordinates",
        "mosaic-01/state/mosaic-01.stitched",
        "state/slice-01.registered",
    ],
)
def test_what_is_being_made_is_waited_for(project, busy):
    project.acquire(1, 2, 3)
    close_mosaic(project.config, 1)
    project.stitch(4, 5, 6)
    before = project.present()
    name = busy.rpartition("/")[2]
    at_work = locks.hold(project.layout.lock(project.layout.root / busy))
    refused = pytest.raises(IncompleteInputError, match=rf"{name} .*is being made by process")
    with at_work, refused:
        reopen_mosaic(project.config, 1)
    assert project.present() == before


# ---------------------------------------------------------------------------------------- others
def test_redo_from_scan_starts_a_mosaic_over(project, run_trigger):
    project.acquire(1, 2, 3)
    close_mosaic(project.config, 1)
    assert run_trigger("redo", "--from", "scan", "--mosaic", "1") == 0
    assert project.present() == []


def test_redo_of_one_batch_leaves_the_mosaic_closed(project, run_trigger):
    project.acquire(1, 2, 3)
    close_mosaic(project.config, 1)
    assert run_trigger("redo", "--from", "scan", "--mosaic", "1", "--batch", "1") == 0
    assert project.present() == ["batch-002.ready", "mosaic-01.closed"]


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["--missing", "4-6"], 0, "mosaic 001 is closed without 3 tiles: 4, 5, 6"),
        (["--missing", "4"], 2, ""),
        (["--undo"], 2, ""),
        (["--format", "json"], 0, '"missing": [\n  4,\n  5,\n  6\n ]'),
    ],
)
def test_the_command(project, run_trigger, capsys, options, code, told):
    project.acquire(1, 2, 3)
    assert run_trigger("close", "--mosaic", "1", *options) == code
    assert told in capsys.readouterr().out


def test_close_then_undo_by_command(project, run_trigger, capsys):
    project.acquire(1, 2, 3)
    assert run_trigger("close", "--mosaic", "1") == 0
    assert run_trigger("close", "--mosaic", "1", "--undo") == 0
    assert "mosaic 001 is open again" in capsys.readouterr().out
    assert run_trigger("close", "--mosaic", "0") == 2
    assert run_trigger("state", "mark", "--mosaic", "1", "closed", "true") == 2


@pytest.mark.parametrize("text", ["", "a", "3-", "5-3", "1,,2"])
def test_lists_that_are_none(text):
    with pytest.raises(Exception, match="expected numbers and ranges"):
        _images(text)


def test_lists_of_images():
    assert _images("17, 18,33-35") == [17, 18, 33, 34, 35]


@pytest.fixture
def run_trigger(project, monkeypatch, tmp_path):
    """`optic-trigger` in this process; its exit code."""
    from opticstream_smk.cli import trigger

    def run(command, *words):
        action, rest = (words[:1], words[1:]) if command == "state" else ((), words)
        config = ["--config", str(tmp_path / "project.yaml")]
        monkeypatch.setattr("sys.argv", ["optic-trigger", command, *action, *config, *rest])
        monkeypatch.setattr(trigger, "set_up_logging", lambda **_: nullcontext())
        return trigger.main()

    return run


# ---------------------------------------------------------------------------------------- doctor
def findings(project):
    return {finding.where.rpartition("/")[2]: finding for finding in examine(project.config)}


def test_doctor_lets_a_closed_mosaic_be(project):
    project.acquire(1, 2, 3)
    close_mosaic(project.config, 1)
    assert findings(project) == {}


def test_doctor_withdraws_what_was_stitched_by_a_close_that_has_gone(project):
    project.acquire(1, 2, 3)
    close_mosaic(project.config, 1)
    project.add(Place("tilemap", acquisition="normal"), "solved")
    for batch in (1, 2):
        project.add(Place("batch", 1, 1, batch), "processed")
    project.add(Place("mosaic", 1, 1), "stitched", extra={"closed": True})
    assert "mosaic-01.stitched" not in findings(project)
    project.layout.mosaic_flag(1, "closed").unlink()
    found = findings(project)["mosaic-01.stitched"]
    assert "is missing" in found.problem
    assert found.withdraw == (Place("mosaic", 1, 1), "stitched")


def test_coordinates_without_other_tiles_are_withdrawn_though_nothing_is_stitched(project):
    project.acquire(1, 2, 3)
    close_mosaic(project.config, 1)
    project.add(Place("mosaic", 1, 1), "coordinates", tiles={"missing": (4, 5)})
    closed = close_mosaic(project.config, 1)
    assert [path.rpartition("/")[2] for path in closed.withdrawn] == ["mosaic-01.coordinates"]


def test_doctor_misses_the_coordinates_of_what_was_stitched_by_them(project):
    project.acquire(1, 2, 3)
    close_mosaic(project.config, 1)
    project.add(Place("tilemap", acquisition="normal"), "solved")
    for batch in (1, 2):
        project.add(Place("batch", 1, 1, batch), "processed")
    project.add(Place("mosaic", 1, 1), "stitched")
    # An earlier version stitched without them, and did not say by which template.
    assert "mosaic-01.stitched" not in findings(project)
    project.add(Place("mosaic", 1, 1), "stitched", extra={"template": "tilemap-normal.j2"})
    found = findings(project)["mosaic-01.stitched"]
    assert "mosaic-01.coordinates is missing" in found.problem
    assert found.withdraw == (Place("mosaic", 1, 1), "stitched")
    project.add(Place("mosaic", 1, 1), "coordinates")
    assert "mosaic-01.stitched" not in findings(project)


def test_tiles_that_came_after_all_are_reported_and_not_entered(project, write_raw):
    project.acquire(1, 2, 3)
    close_mosaic(project.config, 1)
    write_raw(project.config, 1, [5, 6])
    result = scan(project.config, assume_stable=True)
    assert result.written == []
    assert "images 5,6 have come after mosaic 001 was closed without them" in result.problems[0]
    # Closing again takes them out of the list; then they are entered.
    assert close_mosaic(project.config, 1).missing == (4,)
    assert scan(project.config, assume_stable=True).written == [(1, 3)]


def test_doctor_notes_tiles_that_are_ready_although_they_were_closed_away(project, write_raw):
    project.acquire(1, 2, 3)
    close_mosaic(project.config, 1)
    write_raw(project.config, 1, [5, 6])
    (late,) = [batch for batch in discover(project.config).batches if batch.key == (1, 3)]
    enter_batch(project.config, late)
    found = findings(project)["mosaic-01.closed"]
    assert "without images 5,6, which are ready by now" in found.problem
    assert found.advisory


def test_doctor_withdraws_a_damaged_close(project):
    project.acquire(1, 2, 3)
    close_mosaic(project.config, 1)
    project.stitch(4, 5, 6)
    project.layout.mosaic_flag(1, "closed").write_text("{")
    found = findings(project)["mosaic-01.closed"]
    assert "close --mosaic 1` closes again" in found.remedy
    examine(project.config, fix=True)
    assert not {"mosaic-01.closed", "mosaic-01.stitched"} & set(project.present())
