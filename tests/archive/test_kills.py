"""Killed at any moment, a stage loses nothing and leaves nothing that looks like an archive."""

import gzip
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from opticstream_smk.archive.records import Selection
from opticstream_smk.archive.verify import verify_archive
from opticstream_smk.doctor import examine
from opticstream_smk.io.gzip_file import read_gzip

KILLS = 15


@pytest.fixture
def large(make_bench):
    """Tiles that take long enough to be hit: 5 MB each."""
    return make_bench(
        acquisition__tile_size_x_normal=64,
        acquisition__tile_size_y=60,
        acquisition__samples_per_aline=320,
    )


def start(bench):
    config = bench.layout.root.parent / "project.yaml"
    stage = Path(sys.executable).with_name("optic-stage")
    command = [stage, "archive_batch", "--config", config, "--mosaic", "1", "--batch", "1"]
    return subprocess.Popen([*map(str, command), "--force"], stderr=subprocess.DEVNULL)


def test_kills_at_any_moment(large):
    bench, chance = large, random.Random(3)
    process = start(bench)
    begun = time.monotonic()
    assert process.wait() == 0
    whole_s = time.monotonic() - begun
    right = {image: bench.file(image).read_bytes() for image in (1, 2)}
    moments = set()
    for _ in range(KILLS):
        for path in bench.folder.glob("*chunk*"):
            path.unlink()
        bench.manifest().unlink(missing_ok=True)
        bench.layout.batch_flag(1, 1, "archived").unlink(missing_ok=True)
        process = start(bench)
        time.sleep(chance.uniform(0.3, 1.0) * whole_s)
        process.kill()
        process.wait()
        # What has the name of an archive is one, whatever else is missing.
        named = sorted(bench.folder.glob("test block*.nii.gz"))
        for path in named:
            assert read_gzip(path).content.size == bench.raw_file(1).stat().st_size
        left = bool(list(bench.folder.glob(".tmp-*")))
        moments.add((len(named), left, bench.flag() is not None))
        if bench.flag() is not None:
            assert len(named) == 2
    assert len(moments) > 2  # before, amid and after
    assert start(bench).wait() == 0
    assert {image: bench.file(image).read_bytes() for image in (1, 2)} == right
    assert gzip.decompress(right[1]) == bench.raw_file(1).read_bytes()
    found = verify_archive(bench.config, Selection())
    assert (found.files, found.faults) == (2, [])
    assert [finding for finding in examine(bench.config) if not finding.advisory] == []
