import os
from types import SimpleNamespace

import pytest

from opticstream_smk import estimate
from opticstream_smk.plan import project_layout
from opticstream_smk.preflight import disk
from opticstream_smk.preflight.pace import TileTime, acquisition_interval_s, check_pace
from opticstream_smk.preflight.raw_files import look
from opticstream_smk.preflight.room import check_room
from opticstream_smk.state.psoct import OctState
from tests.state.test_flags import flag


def acquire(paths, interval_s, start=1e9):
    for number, path in enumerate(paths):
        os.utime(path, (start + number * interval_s,) * 2)


def pace(config, *, compute_s=1.0, write_s=0.5, slices=1, label="normal", is_warm=True):
    took = TileTime(label, compute_s, compute_s, write_s, is_warm)
    return check_pace(config, look(config), took, slices=slices)


def test_the_interval_is_that_of_consecutive_tiles(make_config, write_raw):
    config = make_config()
    acquire(write_raw(config, 1, [1, 2, 3, 4]), 3.0)
    acquire(write_raw(config, 2, [1, 2, 4]), 7.0, start=1e9 + 5000)
    raw = look(config)
    assert acquisition_interval_s(raw, "normal") == 3.0
    assert acquisition_interval_s(raw, "tilted") == 7.0  # image 3 is missing: 7 s once


def test_copies_tell_nothing(make_config, write_raw):
    config = make_config()
    acquire(write_raw(config, 1, [1, 2, 3]), 1e-6)
    assert acquisition_interval_s(look(config), "normal") is None
    assert acquisition_interval_s(look(config), "tilted") is None
    assert pace(config)[1].verdict == "note"


def test_keeping_up(make_config, write_raw):
    config = make_config(run__cores=8)
    acquire(write_raw(config, 1, [1, 2, 3]), 0.5)
    took, kept = pace(config, slices=2)
    # 8 normal tiles of 12 A-lines and 8 tilted ones of 10, 1.5 s each 12 A-lines, on 8 cores.
    assert took.numbers["run_s"] == pytest.approx(1.5 * (8 + 8 * 10 / 12) / 8, abs=0.05)
    assert took.numbers["tiles"] == 16
    assert kept.verdict == "ok"
    assert kept.numbers["cores_needed"] == 3.0
    assert "needs 3.0 of 8 cores and keeps up" in kept.found
    acquire(write_raw(config, 1, [1, 2, 3]), 0.1)
    _, late = pace(config)
    assert late.verdict == "warning"
    assert "needs 15.0 of 8 cores and does not keep up" in late.found


def test_limited_jobs_use_fewer_cores(make_config, write_raw):
    config = make_config(run__cores=8, run__max_tile_jobs=2, run__tile_threads=2)
    acquire(write_raw(config, 1, [1, 2, 3]), 1.0)
    took, kept = pace(config)
    assert "8 tiles on 4 of 8 cores" in took.found
    assert kept.numbers["cores_needed"] == 3.0


def test_what_could_not_be_measured_is_said(make_config):
    took, _ = pace(make_config(), write_s=None, is_warm=False)
    assert "compiling included, writing not measured" in took.found


def test_a_tile_that_waited(make_config):
    config = make_config()
    slow = TileTime("normal", compute_s=74.0, cpu_s=11.0, write_s=1.0, is_warm=True)
    took = check_pace(config, look(config), slow, slices=1)[0]
    assert "74 s to compute (11 s of CPU: it waited for the disk" in took.found


def test_three_illuminations_come_at_once(make_config):
    config = make_config(
        acquisition__mosaics_per_slice=3, acquisition__filename_preset="macaque", run__cores=8
    )
    folder = config.acquisition.sources[0].dir
    paths = [folder / f"spectral_{image:04d}.nii" for image in (1, 2)]
    for path in paths:
        path.write_bytes(bytes(config.acquisition.raw_tile_bytes("normal")))
    acquire(paths, 1.0)
    _, kept = pace(config, label="tiltPos")
    assert kept.numbers["cores_needed"] == 4.5


# ------------------------------------------------------------------------------------- room
@pytest.fixture
def free(monkeypatch):
    """Disks with so much room."""

    def set_free(n_bytes, n_files=10**6, all_files=10**7):
        monkeypatch.setattr(
            os,
            "statvfs",
            lambda _path: SimpleNamespace(
                f_bavail=n_bytes // 512, f_frsize=512, f_favail=n_files, f_files=all_files
            ),
        )

    return set_free


def elsewhere(monkeypatch):
    monkeypatch.setattr("opticstream_smk.preflight.room._raw_to_come", lambda *_: (0, ""))


def room(config, slices=3):
    return check_room(config, look(config), slices=slices, assumption="as --slices says")


def test_a_disk_that_is_too_small(make_config, free, monkeypatch):
    elsewhere(monkeypatch)
    config = make_config(run__reserve_free_mb=0)
    needed = estimate.run_product_bytes(config, 3)
    free(needed - 1000)
    (small,) = room(config)
    assert small.exit_code == 4
    assert "products of 3 slices (as --slices says) take" in small.found
    assert "project.dir" in small.remedy
    free(needed + 1000)
    assert room(config)[0].verdict == "ok"
    reserved = make_config(run__reserve_free_mb=1)
    assert room(reserved)[0].verdict == "FAILED"


def test_what_is_made_needs_no_more_room(make_config, free, monkeypatch):
    elsewhere(monkeypatch)
    config = make_config(run__reserve_free_mb=0)
    state = OctState(project_layout(config))
    with state.open_batch(1, 1) as node:
        node.add("ready", flag())
        node.add("processed", flag())
    free(10**9)
    (check,) = room(config)
    batch = estimate.batch_product_bytes(config, "normal")
    assert check.numbers["needed_bytes"] == estimate.run_product_bytes(config, 3) - batch


def test_raw_tiles_that_come_to_the_same_disk(make_config, write_raw, free):
    config = make_config(run__reserve_free_mb=0)
    write_raw(config, 1, [1])
    free(10**9)
    (check,) = room(config)
    raw = 3 * estimate.raw_slice_bytes(config) - config.acquisition.raw_tile_bytes("normal")
    assert check.numbers["needed_bytes"] == estimate.run_product_bytes(config, 3) + raw
    assert "raw tiles are to come to the same disk" in check.found


def test_too_few_inodes(make_config, free, monkeypatch):
    elsewhere(monkeypatch)
    config = make_config()
    free(10**12, n_files=20)
    space, inodes = room(config)
    assert (space.verdict, inodes.verdict) == ("ok", "warning")
    free(10**12, n_files=0, all_files=0)  # btrfs counts none
    assert disk.space(config.project.dir).free_files is None
    assert len(room(config)) == 1
