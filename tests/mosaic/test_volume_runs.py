"""Runs that end early, volumes that are there already, disks that refuse."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from opticstream_smk.errors import ConfigError, CorruptInputError, ServiceError
from opticstream_smk.io.ome_zarr import ZarrOptions
from opticstream_smk.mosaic.volume_blocks import ArrayVolume
from tests.mosaic.volume_phantom import expected, make_plane, make_tiles, read, stitch

REPO = Path(__file__).parents[2]


class FailingVolume(ArrayVolume):
    """Can be read so many times."""

    left = 0

    def read_rows(self, planes, rows, buffer):
        type(self).left -= 1
        if self.left < 0:
            raise CorruptInputError("/raw/tile cannot be read; restore it")
        super().read_rows(planes, rows, buffer)


def temporary(out):
    return out.with_name(f".tmp-{out.name}")


def receipts(out):
    return sorted(p.name for p in (temporary(out) / ".receipts").glob("*-*.json"))


def tree(folder):
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def fail_after(reads, out, tiles, **options):
    FailingVolume.left = reads
    with pytest.raises(CorruptInputError, match="/raw/tile"):
        stitch([FailingVolume(tile) for tile in tiles], out, threads=1, **options)


def test_a_run_that_failed_is_continued(tmp_path):
    tiles, plane = make_tiles(), make_plane()
    out = tmp_path / "a.ome.zarr"
    fail_after(120, out, tiles, focus_plane=plane)
    assert not out.exists()
    assert not (temporary(out) / "zarr.json").exists()
    proved = receipts(out)
    assert 1 <= len(proved) < 9
    report = stitch(tiles, out, focus_plane=plane)
    assert (report.footprints, report.resumed_footprints) == (9, len(proved))
    whole = stitch(tiles, tmp_path / "b.ome.zarr", focus_plane=plane)
    assert report.read_bytes < whole.read_bytes
    # What receipts prove is counted all the same.
    assert report.wanted_voxels == whole.wanted_voxels
    assert report.out_of_range_voxels == whole.out_of_range_voxels > 0
    for level in range(report.levels):
        assert np.array_equal(read(out, level), read(tmp_path / "b.ome.zarr", level))
    assert not temporary(out).exists()
    assert not (out / ".receipts").exists()


def test_a_killed_run_is_continued(tmp_path):
    script = """
import os, signal, sys
from pathlib import Path
from opticstream_smk.mosaic.volume_blocks import ArrayVolume
from tests.mosaic.volume_phantom import make_tiles, stitch
class Killing(ArrayVolume):
    left = 120
    def read_rows(self, *where):
        Killing.left -= 1
        if Killing.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        super().read_rows(*where)
stitch([Killing(tile) for tile in make_tiles()], Path(sys.argv[1]), threads=1)
"""
    out = tmp_path / "a.ome.zarr"
    done = subprocess.run([sys.executable, "-c", script, out], cwd=REPO)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    proved = receipts(out)
    assert 1 <= len(proved) < 9
    report = stitch(make_tiles(), out)
    assert report.resumed_footprints == len(proved)
    assert np.array_equal(read(out), expected(make_tiles()))


@pytest.mark.parametrize(
    "change",
    [
        {"offset_px": 4},
        {"focus_plane": make_plane()},
        {"mask": np.ones((88, 73), bool)},
        {"options": ZarrOptions(chunk=(8,), shard=(32,), compressor_opt={"clevel": 1})},
        {"tiles": make_tiles(seed=1)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_run_with_other_input_starts_anew(tmp_path, change):
    out = tmp_path / "a.ome.zarr"
    fail_after(120, out, make_tiles())
    assert receipts(out)
    tiles = change.pop("tiles", make_tiles())
    report = stitch(tiles, out, **change)
    assert report.resumed_footprints == 0
    values = {k: v for k, v in change.items() if k == "mask"}
    wanted = expected(
        tiles, plane=change.get("focus_plane"), offset=change.get("offset_px", 3), **values
    )
    assert np.array_equal(read(out), wanted)


@pytest.mark.parametrize("damage", ["shorter", "absent", "receipt"])
def test_a_damaged_part_is_made_again(tmp_path, damage):
    out = tmp_path / "a.ome.zarr"
    fail_after(160, out, make_tiles())
    proved = receipts(out)
    assert len(proved) >= 2
    receipt = temporary(out) / ".receipts" / proved[0]
    shard = temporary(out) / next(iter(json.loads(receipt.read_text())["files"]))
    if damage == "absent":
        shard.unlink()
    elif damage == "shorter":
        os.truncate(shard, shard.stat().st_size - 1)
    else:
        receipt.write_text("{")
    report = stitch(make_tiles(), out)
    assert report.resumed_footprints == len(proved) - 1
    assert np.array_equal(read(out), expected(make_tiles()))


def test_what_is_there_is_not_replaced_unless_asked(tmp_path):
    out = tmp_path / "a.ome.zarr"
    stitch(make_tiles(), out)
    before = tree(out)
    with pytest.raises(ConfigError, match=r"a\.ome\.zarr exists; remove it, or set overwrite"):
        stitch(make_tiles(seed=1), out)
    assert tree(out) == before


def test_the_previous_volume_stays_until_the_new_one_is_complete(tmp_path):
    out = tmp_path / "a.ome.zarr"
    replacing = ZarrOptions(chunk=(8,), shard=(32,), overwrite=True)
    stitch(make_tiles(), out)
    before = tree(out)
    fail_after(120, out, make_tiles(seed=1), options=replacing)
    assert tree(out) == before
    # Fewer levels: none of the previous volume survives.
    fewer = ZarrOptions(chunk=(8,), shard=(32,), overwrite=True, levels=1)
    stitch(make_tiles(seed=1), out, options=fewer)
    assert np.array_equal(read(out), expected(make_tiles(seed=1)))
    assert sorted(p.name for p in out.iterdir()) == ["0", "1", "zarr.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["a.ome.zarr"]


def test_a_full_disk_is_said_and_what_is_done_is_kept(tmp_path, monkeypatch):
    out = tmp_path / "a.ome.zarr"
    write, left = os.pwrite, [300]

    def pwrite(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(*arguments)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(ServiceError, match=r"cannot write .*\.tmp-a\.ome\.zarr.*the disk is full"):
        stitch(make_tiles(), out)
    monkeypatch.undo()
    assert not out.exists()
    report = stitch(make_tiles(), out)
    assert report.resumed_footprints >= 1
    assert np.array_equal(read(out), expected(make_tiles()))


def test_a_disk_that_fails_while_it_is_synced_is_noticed(tmp_path, monkeypatch):
    def fsync(_file):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(ServiceError, match="Input/output error"):
        stitch(make_tiles(), tmp_path / "a.ome.zarr")
    assert not (tmp_path / "a.ome.zarr").exists()


def test_no_file_stays_open(tmp_path):
    def opened():
        return len(list(Path("/proc/self/fd").iterdir()))

    stitch(make_tiles(), tmp_path / "a.ome.zarr")
    count = opened()
    stitch(make_tiles(), tmp_path / "b.ome.zarr")
    fail_after(120, tmp_path / "c.ome.zarr", make_tiles())
    assert opened() == count


def test_a_folder_that_cannot_be_written(tmp_path):
    # Not even root can make something there.
    with pytest.raises(ServiceError, match=r"cannot write /proc/\.tmp-a\.ome\.zarr"):
        stitch(make_tiles(), Path("/proc/a.ome.zarr"))
