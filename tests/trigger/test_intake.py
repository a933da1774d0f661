"""What the watcher takes in, on a clock of the test's own and a real file system."""

import gc
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from opticstream_smk.config import load_config
from opticstream_smk.config.watch import WatchSection
from opticstream_smk.plan import project_layout
from opticstream_smk.state.events import read_events
from opticstream_smk.state.flags import read_flag
from opticstream_smk.state.psoct import OctState
from opticstream_smk.trigger import discover as discover_module
from opticstream_smk.trigger.psoct import PsoctBatches
from opticstream_smk.trigger.settle import Intake, Settler, Sight
from tests.conftest import small_values
from tests.state.test_flags import flag


class Bench:
    """An intake whose clock moves only when it is told to."""

    def __init__(self, config, poll=5.0, **options):
        self.config = config
        self.poll = poll
        self.options = options
        self.now = 0.0
        self.layout = project_layout(config)
        self.start()

    def start(self):
        domain = PsoctBatches(self.config, clock=lambda: self.now, **self.options)
        self.intake = Intake(domain, Settler(clock=lambda: self.now))

    def look(self):
        return self.intake.look()

    def until(self, end):
        """Look every poll until `end`; gives (time, batches) of each look that entered any."""
        entered = []
        while self.now <= end:
            ready = self.look()
            if ready:
                entered.append((self.now, ready))
            self.now += self.poll
        return entered

    def flag(self, mosaic, batch, state):
        return read_flag(self.layout.batch_flag(mosaic, batch, state))

    def mark(self, mosaic, batch, state="processed"):
        with OctState(self.layout).open_batch(mosaic, batch) as node:
            node.add(state, flag())


@pytest.fixture
def bench(make_config):
    def make(poll=5.0, force=False, replace_results=False, allow_missing=None, **overrides):
        overrides = {"watch__stability_s": 15, **overrides}
        return Bench(
            make_config(**overrides),
            poll,
            force=force,
            replace_results=replace_results,
            allow_missing=allow_missing,
        )

    return make


@pytest.fixture
def messages(caplog):
    caplog.set_level(logging.INFO, "opticstream_smk")
    return caplog


# ------------------------------------------------------------------------------- W1, W2: settling
@pytest.mark.parametrize(
    ("poll", "stability", "expected"), [(5, 15, 20), (1, 15, 16), (10, 15, 30), (5, 0, 5)]
)
def test_w1_a_quiet_batch_is_entered_after_poll_and_stability(
    bench, write_raw, poll, stability, expected
):
    it = bench(poll=poll, watch__stability_s=stability)
    write_raw(it.config, 1, [1, 2])
    assert it.until(60) == [(expected, [(1, 1)])]


def test_w1_a_change_starts_the_wait_anew(bench, write_raw):
    it = bench()
    path = write_raw(it.config, 1, [1, 2])[0]
    assert it.until(15) == []
    os.utime(path, (1, 1))  # made at 18, seen at 20
    assert it.until(60) == [(40, [(1, 1)])]


@pytest.mark.parametrize("change", ["time", "size", "replaced", "set"])
def test_w2_any_change_resets_only_its_batch(bench, write_raw, change):
    it = bench()
    path, _ = write_raw(it.config, 1, [1, 2])
    write_raw(it.config, 2, [1, 2])
    it.until(10)
    if change == "time":
        os.utime(path, (1, 1))
    elif change == "size":
        size = path.stat().st_size
        os.truncate(path, size - 2)
        it.look()
        os.truncate(path, size)
    elif change == "replaced":
        # Equal size and time: only the inode tells.
        other = path.with_name("other.tmp")
        shutil.copy2(path, other)
        other.replace(path)
    else:
        path.rename(path.with_suffix(".tmp"))
        it.look()
        path.with_suffix(".tmp").rename(path)
    assert it.until(60) == [(20, [(2, 1)]), (35, [(1, 1)])]


def test_activity_elsewhere_resets_nothing(bench, write_raw):
    it = bench(poll=5)
    write_raw(it.config, 1, [1, 2])
    entered = []
    for n in range(6):
        (it.config.acquisition.sources[0].dir / f"notes-{n}.txt").write_text("x")
        write_raw(it.config, 1, [3], size=4000 + n)
        entered += [(it.now, keys)] if (keys := it.look()) else []
        it.now += 5
    assert entered == [(20, [(1, 1)])]


# ------------------------------------------------------------------- W3, W4: what is a candidate
def test_w3_files_below_the_minimum_are_no_tiles(bench, write_raw):
    # Raw tiles of 12 x 8 x 2 x 512 samples have 196960 bytes.
    it = bench(watch__min_file_bytes=102400, acquisition__samples_per_aline=512)
    write_raw(it.config, 1, [1])
    tile = write_raw(it.config, 1, [2], size=102399)[0]
    it.look()
    batch = it.intake.domain._seen[1, 1]
    assert batch.missing == (2,)
    os.truncate(tile, 102400)
    it.look()
    batch = it.intake.domain._seen[1, 1]
    assert batch.missing == ()  # a tile now, if one of the wrong size
    assert "102400 bytes, expected" in batch.problems[0]


def test_w3_an_unreadable_file_holds_its_batch_back_until_it_is_readable(
    as_somebody_else, write_raw, messages
):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "raw").mkdir()
        path = folder / "project.yaml"
        path.write_text(yaml.safe_dump(small_values(watch__stability_s=15)))
        it = Bench(load_config(path))
        tile = write_raw(it.config, 1, [1, 2])[0]
        tile.chmod(0)
        assert it.until(40) == []
        assert "not readable" in it.flag(1, 1, "failed").extra["error"]
        tile.chmod(0o644)
        assert it.until(80) == [(65, [(1, 1)])]
        assert it.flag(1, 1, "failed") is None


def test_a_closed_source_folder_is_reported_and_stops_no_look(
    as_somebody_else, write_raw, messages
):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "raw").mkdir(mode=0)
        path = folder / "project.yaml"
        # Tiles may also lie in a folder inside this one, which cannot even be asked for.
        path.write_text(
            yaml.safe_dump(
                small_values(
                    acquisition__mosaics_per_slice=3, acquisition__filename_preset="macaque"
                )
            )
        )
        it = Bench(load_config(path))
        it.until(10)
        assert "Permission denied" in messages.text
        (folder / "raw").chmod(0o777)
        for image in (1, 2):
            with (folder / "raw" / f"spectral_{image:04d}.nii").open("wb") as file:
                os.truncate(file.fileno(), it.config.acquisition.raw_tile_bytes("normal"))
        start = it.now
        assert it.until(start + 10) == [(start + 5, [(1, 1), (2, 1), (3, 1)])]


def test_w4_an_incomplete_batch_waits_and_is_told_once_per_change(bench, write_raw, messages):
    it = bench()
    write_raw(it.config, 1, [1])
    assert it.until(100) == []
    assert messages.text.count("mosaic 001 batch 001: 1 of 2 tiles, missing 2") == 1
    write_raw(it.config, 1, [2])
    assert it.until(140) == [(125, [(1, 1)])]


def test_the_log_does_not_grow_while_idle(bench, write_raw, messages):
    it = bench()
    write_raw(it.config, 1, [1, 2, 3])
    write_raw(it.config, 1, [4], size=4242)
    it.until(60)
    before = len(messages.records)
    it.until(2000)
    # At 900 s nothing new is due here: the wrong file was told when it had settled.
    assert len(messages.records) == before


def test_a_damaged_ready_stops_no_other_batch(bench, write_raw, messages):
    it = bench()
    write_raw(it.config, 1, [1, 2, 3])
    it.until(20)
    it.layout.batch_flag(1, 1, "ready").write_text("{")
    it.start()
    write_raw(it.config, 1, [4])
    start = it.now
    assert it.until(start + 60) == [(start + 20, [(1, 2)])]
    assert messages.text.count("cannot be read") == 1


# --------------------------------------------------------------------------------- W5, W6: gates
def test_w5_a_known_batch_is_skipped(bench, write_raw):
    it = bench()
    write_raw(it.config, 1, [1, 2])
    it.until(20)
    before = it.layout.batch_flag(1, 1, "ready").stat().st_mtime_ns
    it.start()  # a new watcher
    assert it.until(60) == []
    assert it.layout.batch_flag(1, 1, "ready").stat().st_mtime_ns == before


def test_w5_force_applies_once_for_each_state_of_the_files(bench, write_raw):
    it = bench()
    path = write_raw(it.config, 1, [1, 2])[0]
    it.until(20)
    it.mark(1, 1)
    receipt = it.layout.receipt(1, 1, "processed")
    receipt.parent.mkdir(parents=True)
    receipt.write_text("{}")
    it.options["force"] = True
    it.start()
    start = it.now
    assert it.until(start + 200) == [(start + 20, [(1, 1)])]
    ready = it.flag(1, 1, "ready")
    assert ready.extra["force_rerun"] is True
    assert it.flag(1, 1, "processed") is None
    assert not receipt.exists()
    other = path.with_name("new.tmp")
    shutil.copy(path, other)
    os.utime(other, (5, 5))
    other.replace(path)
    start = it.now
    assert it.until(start + 200) == [(start + 20, [(1, 1)])]


def test_w6_an_error_about_one_batch_stops_no_other(bench, write_raw, messages, monkeypatch):
    it = bench()
    write_raw(it.config, 1, [1, 2, 3, 4])
    domain = it.intake.domain
    real = domain.settled

    def settled(key):
        if key == (1, 1) and it.now < 30:
            raise RuntimeError("defect")
        return real(key)

    monkeypatch.setattr(domain, "settled", settled)
    assert it.until(60) == [(20, [(1, 2)]), (45, [(1, 1)])]
    assert "internal error about (1, 1)" in messages.text


# ------------------------------------------------------------------------------- W7: what vanishes
def test_w7_a_batch_that_vanishes_starts_afresh(bench, write_raw):
    it = bench()
    paths = write_raw(it.config, 1, [1, 2])
    it.until(15)
    for path in paths:
        path.rename(path.with_suffix(".gone"))
    write_raw(it.config, 2, [1])  # the folder is not empty: the files are really gone
    it.until(25)
    for path in paths:
        path.with_suffix(".gone").rename(path)
    assert it.until(80) == [(50, [(1, 1)])]


def test_an_unmounted_folder_suspends_and_resumes(bench, write_raw, messages):
    it = bench()
    write_raw(it.config, 1, [1, 2])
    write_raw(it.config, 1, [3])
    it.until(15)
    folder = it.config.acquisition.sources[0].dir
    away = folder.with_name("elsewhere")
    folder.rename(away)
    assert it.until(100) == []
    assert messages.text.count("cannot be listed") == 1
    assert len(it.intake.settler) == 2  # neither forgotten nor taken for deleted
    away.rename(folder)
    # The time away does not count: the wait begins with the first look that finds it unchanged.
    assert it.until(160) == [(120, [(1, 1)])]


def test_an_empty_mount_point_is_not_all_gone(bench, write_raw, messages):
    it = bench()
    write_raw(it.config, 1, [1, 2])
    it.until(15)
    folder = it.config.acquisition.sources[0].dir
    folder.rename(folder.with_name("disk"))
    folder.mkdir()
    it.until(40)
    assert len(it.intake.settler) == 1
    assert messages.text.count("is empty, and it was not") == 1
    folder.rmdir()
    folder.with_name("disk").rename(folder)
    assert it.until(80) == [(60, [(1, 1)])]


# ------------------------------------------------------------------------ W10-W12, duplicates
@pytest.mark.parametrize("values", [{"poll_interval_s": 0}, {"stability_s": -1}])
def test_w10_impossible_times_are_refused(values):
    with pytest.raises(ValidationError):
        WatchSection(**values)


def test_w11_duplicates_are_an_error_and_not_guessed(bench, write_raw, messages):
    it = bench()
    path = write_raw(it.config, 1, [1, 2])[0]
    twin = path.with_name("mosaic_001_image_0001_spectral_0777.nii")
    shutil.copy2(path, twin)
    assert it.until(60) == []
    failed = it.flag(1, 1, "failed")
    assert "image 0001 of mosaic 001 is there twice" in failed.extra["error"]
    assert (failed.extra["kind"], failed.extra["next_try"]) == ("data", None)
    assert messages.text.count("Move the wrong one out") <= 2  # seen, then settled
    twin.unlink()
    assert it.until(100) == [(85, [(1, 1)])]
    assert it.flag(1, 1, "failed") is None


def test_a_problem_that_is_mended_while_no_watcher_runs_is_forgotten(bench, write_raw):
    it = bench()
    path = write_raw(it.config, 1, [1])[0]
    twin = path.with_name("mosaic_001_image_0001_spectral_0777.nii")
    shutil.copy2(path, twin)
    it.until(60)
    assert it.flag(1, 1, "failed") is not None
    twin.unlink()
    it.start()
    it.look()
    assert it.flag(1, 1, "failed") is None  # incomplete, and nothing is wrong with it


def test_w12_other_kinds_of_files_never_enter_a_spectral_batch(bench, write_raw):
    it = bench()
    paths = write_raw(it.config, 1, [1, 2])
    for image in (1, 2):
        for kind in ("aip", "processed", "dBI"):
            other = paths[0].with_name(f"mosaic_001_image_{image:04d}_{kind}.nii")
            shutil.copy2(paths[0], other)
    it.until(20)
    assert [file.path for file in it.flag(1, 1, "ready").inputs] == [str(path) for path in paths]


def test_w13_batches_beyond_the_grid_are_one_warning(bench, write_raw, messages):
    it = bench()
    write_raw(it.config, 1, range(1, 9))
    entered = it.until(60)
    assert entered == [(20, [(1, 1), (1, 2)])]
    assert messages.text.count("4 tiles lie beyond the grid") == 1


def test_w14_ranges_filter_by_the_source_s_ids(bench, write_raw):
    it = bench(acquisition__sources=[{"dir": "raw", "slice_offset": 1, "mosaic_ranges": "1:1,1:1"}])
    write_raw(it.config, 1, [1, 2])
    write_raw(it.config, 2, [1, 2])
    assert it.until(60) == [(20, [(3, 1)])]


def test_w14_ranges_filter_three_illuminations_too(bench):
    it = bench(
        acquisition__mosaics_per_slice=3,
        acquisition__filename_preset="macaque",
        acquisition__sources=[{"dir": "raw", "mosaic_ranges": "1:2"}],
    )
    for image in (1, 2):
        path = it.config.acquisition.sources[0].dir / f"spectral_{image:04d}.nii"
        with path.open("wb") as file:
            os.truncate(file.fileno(), it.config.acquisition.raw_tile_bytes("normal"))
    assert it.until(60) == [(20, [(1, 1), (2, 1)])]


def test_w15_the_manifest_is_there_before_its_event(bench, write_raw, monkeypatch):
    it = bench()
    write_raw(it.config, 1, [1, 2])
    from opticstream_smk.state import nodes

    real, seen = nodes.append_event, []

    def append(layout, level, state, **rest):
        seen.append((state, it.layout.batch_flag(1, 1, "ready").exists()))
        real(layout, level, state, **rest)

    monkeypatch.setattr(nodes, "append_event", append)
    it.until(20)
    assert seen == [("ready", True)]
    assert [event["event"] for event in read_events(it.layout)] == ["linc.oct.batch.ready"]


# ------------------------------------------------------------------------- 4.4: failure modes
def test_a_partial_write_that_pauses_is_not_entered(bench, write_raw, messages):
    it = bench()
    write_raw(it.config, 1, [1])
    part = write_raw(it.config, 1, [2], size=4000)[0]
    assert it.until(100) == []
    assert "has 4000 bytes, expected" in it.flag(1, 1, "failed").extra["error"]
    os.truncate(part, it.config.acquisition.raw_tile_bytes("normal"))
    assert it.until(150) == [(125, [(1, 1)])]
    assert it.flag(1, 1, "failed") is None


def test_a_growing_file_fills_no_log(bench, write_raw, messages):
    it = bench(watch__min_file_bytes=3000)
    write_raw(it.config, 1, [1])
    for size in range(1000, 3000, 100):
        write_raw(it.config, 1, [2], size=size)
        it.look()
        it.now += 5
    assert messages.text.count("watch.min_file_bytes") == 0


def test_a_rename_counts_for_the_final_name_only(bench, write_raw):
    it = bench()
    paths = write_raw(it.config, 1, [1, 2])
    for name in ("mosaic_001_image_0002_spectral_0002.nii.tmp", "._" + paths[0].name):
        shutil.copy2(paths[0], paths[0].with_name(name))
    paths[1].rename(paths[1].with_name(paths[1].name + ".part"))
    assert it.until(30) == []
    paths[1].with_name(paths[1].name + ".part").rename(paths[1])
    assert it.until(80) == [(55, [(1, 1)])]


def test_a_copy_that_keeps_times_still_needs_two_looks(bench, write_raw):
    it = bench(watch__stability_s=0)
    for path in write_raw(it.config, 1, [1, 2]):
        os.utime(path, (1, 1))
    assert it.look() == []
    it.now += 5
    assert it.look() == [(1, 1)]


def test_symlinks_folders_and_odd_names_never_stop_the_looks(bench, write_raw):
    it = bench()
    write_raw(it.config, 1, [1, 2])
    folder = it.config.acquisition.sources[0].dir
    loop = folder / "mosaic_001_image_0003_spectral_0003.nii"
    loop.symlink_to(loop)
    (folder / "mosaic_001_image_0004_spectral_0004.nii").mkdir()
    (folder / "ünï 'x'\n.nii").write_text("")
    (folder / "mosaic_001_image_0000_spectral_0000.nii").write_text("")
    os.close(os.open(os.fsencode(folder) + b"/\xff\xfe.nii", os.O_CREAT))
    assert it.until(30) == [(20, [(1, 1)])]


def test_a_replaced_file_of_a_finished_batch_is_reported_once(bench, write_raw, messages):
    it = bench()
    path = write_raw(it.config, 1, [1, 2])[0]
    it.until(20)
    it.mark(1, 1)
    other = path.with_name("new.tmp")
    shutil.copy(path, other)
    os.utime(other, (5, 5))
    other.replace(path)  # another inode: noticed without a stat of every finished file
    it.until(200)
    assert it.flag(1, 1, "stale") is not None
    assert it.flag(1, 1, "processed") is not None
    assert messages.text.count("raw tiles have changed since") == 1
    assert "redo --from scan --mosaic 1 --batch 1" in messages.text


def test_a_tile_that_is_sent_again_before_its_batch_is_done_is_taken(bench, write_raw):
    it = bench()
    path = write_raw(it.config, 1, [1, 2])[0]
    it.until(20)
    it.mark(1, 1, "complex")
    path.write_bytes(path.read_bytes())  # in place: the inode stays
    start = it.now
    assert it.until(start + 60) == [(start + 20, [(1, 1)])]
    assert it.flag(1, 1, "complex") is None


@pytest.mark.parametrize("changed", [False, True])
def test_a_redo_from_the_raw_files_enters_the_batch_again(bench, write_raw, changed):
    it = bench(watch__recheck_s=600)
    path = write_raw(it.config, 1, [1, 2])[0]
    it.until(20)
    it.mark(1, 1)
    it.until(it.now + 20)
    if changed:  # in place, reported at the recheck, and then accepted by a person
        os.utime(path, (5, 5))
        it.until(700)
        assert it.flag(1, 1, "stale") is not None
    with OctState(it.layout).open_batch(1, 1) as node:
        node.withdraw("ready")
    start = it.now
    assert it.until(start + 60) == [(start + 20, [(1, 1)])]
    assert it.flag(1, 1, "ready").inputs[0].mtime_ns == path.stat().st_mtime_ns
    assert it.flag(1, 1, "stale") is None


def test_a_file_written_in_place_is_noticed_at_the_recheck(bench, write_raw):
    it = bench(watch__recheck_s=600)
    path = write_raw(it.config, 1, [1, 2])[0]
    it.until(20)
    it.mark(1, 1)
    os.utime(path, (5, 5))
    it.until(500)
    assert it.flag(1, 1, "stale") is None
    it.until(700)
    assert it.flag(1, 1, "stale") is not None
    os.utime(path, ns=(1, it.flag(1, 1, "ready").inputs[0].mtime_ns))
    it.until(1300)
    assert it.flag(1, 1, "stale") is None  # the old file is back


def test_changed_files_are_processed_on_request(bench, write_raw):
    it = bench(replace_results=True)
    path = write_raw(it.config, 1, [1, 2])[0]
    it.until(20)
    it.mark(1, 1)
    path.write_bytes(path.read_bytes())
    it.start()
    start = it.now
    assert it.until(start + 60) == [(start + 20, [(1, 1)])]
    assert it.flag(1, 1, "processed") is None
    assert list(it.layout.withdrawn.glob("*/mosaic-01.batch-001.processed"))


def test_a_missing_tile_is_reported_after_its_time(bench, write_raw, messages):
    it = bench(watch__incomplete_timeout_s=60)
    write_raw(it.config, 1, [1])
    assert it.until(300) == []
    text = messages.text
    assert text.count("nothing has changed for 60 s") == 1
    assert "mosaic.allow_missing_tiles: 1" in text
    assert "optic-trigger close --mosaic 1 --missing 2" in text


@pytest.mark.parametrize("how", ["option", "configuration"])
def test_a_missing_tile_is_done_without_when_it_may_be(bench, write_raw, how):
    given = {"allow_missing": 1} if how == "option" else {"mosaic__allow_missing_tiles": 1}
    it = bench(watch__incomplete_timeout_s=60, **given)
    write_raw(it.config, 1, [1, 4])
    assert it.until(300) == [(65, [(1, 1)])]  # the second batch would make it two
    ready = it.flag(1, 1, "ready")
    assert (ready.tiles.done, ready.tiles.missing) == ((1,), (2,))


def test_tiles_and_batches_out_of_order(bench, write_raw):
    it = bench()
    write_raw(it.config, 2, [4])
    it.until(5)
    write_raw(it.config, 1, [2, 1])
    write_raw(it.config, 2, [3])
    assert it.until(60) == [(30, [(1, 1), (2, 2)])]


def test_finished_batches_cost_no_stat(bench, write_raw, monkeypatch):
    it = bench()
    write_raw(it.config, 1, [1, 2, 3, 4])
    it.until(30)
    it.mark(1, 1)
    it.mark(1, 2)

    def no_stat(*_):
        raise AssertionError("a finished file was looked at")

    monkeypatch.setattr(discover_module._Folder, "_stat", no_stat)
    assert it.until(200) == []


def test_memory_does_not_grow_over_ten_thousand_looks(bench, write_raw):
    it = bench()
    write_raw(it.config, 1, [1, 2, 3])
    it.until(5 * 500)
    gc.collect()
    before = sys.getallocatedblocks()
    it.until(it.now + 5 * 10000)
    gc.collect()
    assert sys.getallocatedblocks() - before < 500  # one block a look would be 10,000


# ------------------------------------------------------------------------ content and checksums
def test_a_checksum_beside_a_file_is_taken_along(bench, write_raw):
    import hashlib

    it = bench()
    path = write_raw(it.config, 1, [1, 2])[0]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(path.name + ".sha256").write_text(f"{digest}  {path.name}\n")
    it.until(20)
    assert [file.sha256 for file in it.flag(1, 1, "ready").inputs] == [digest, None]


def test_a_checksum_that_is_none_holds_the_batch_back(bench, write_raw, messages):
    it = bench()
    path = write_raw(it.config, 1, [1, 2])[0]
    sidecar = path.with_name(path.name + ".sha256")
    sidecar.write_text("")
    assert it.until(100) == []
    assert messages.text.count("holds no SHA-256") == 1
    assert "holds no SHA-256" in it.flag(1, 1, "failed").extra["error"]
    sidecar.unlink()
    assert [keys for _, keys in it.until(160)] == [[(1, 1)]]


def test_a_map_must_be_as_long_as_its_header_says(bench, tmp_path):
    import nibabel
    import numpy as np

    it = bench(
        acquisition__tile_saving_type="processed_with_spectral",
        processing__modalities=["aip", "ori", "ret", "biref", "mip"],
        mosaic__modalities=["aip"],
        registration__enabled=False,
    )
    folder = it.config.acquisition.sources[0].dir
    for image in (1, 2):
        for kind in ("aip", "mip", "ret", "ori", "biref", "surf", "dBI"):
            tile = nibabel.Nifti1Image(np.zeros((12, 8), np.float32), np.eye(4))
            nibabel.save(tile, folder / f"mosaic_001_image_{image:04d}_{kind}.nii")
    short = folder / "mosaic_001_image_0002_ret.nii"
    whole = short.stat().st_size
    os.truncate(short, whole - 4)
    assert it.until(60) == []
    assert f"its header asks for {whole}" in it.flag(1, 1, "failed").extra["error"]
    os.truncate(short, whole)
    assert [keys for _, keys in it.until(120)] == [[(1, 1)]]


# -------------------------------------------------------------------------------- the engine alone
def test_what_was_told_once_is_told_again_only_after_a_change():
    now = [0.0]
    settler = Settler(clock=lambda: now[0])
    told = []
    for fingerprint in (1, 1, 1, 2, 2, 2):
        told.append(settler.look({"a": Sight(fingerprint, 5)}))
        now[0] += 5
    assert told == [[], [], ["a"], [], [], ["a"]]


def test_forgetting_starts_afresh():
    settler = Settler(clock=lambda: 0.0)
    assert settler.look({"a": Sight(1, 0)}) == []
    assert settler.look({"a": Sight(1, 0)}) == ["a"]
    settler.forget("a")
    assert settler.look({"a": Sight(1, 0)}) == []
    assert settler.unchanged_since("a") is None
    assert settler.look({}) == []
    assert len(settler) == 0
