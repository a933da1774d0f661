"""An operator's morning after: what failed, why, mended, tried again, by the commands alone."""

import json
import os
import shutil

import pytest

from tests.e2e.conftest import Project

RAW = "mosaic_001_image_0002_spectral_0002.nii"
FLAG = "mosaic-01/state/batch-001.processed"


@pytest.fixture
def project(raw, tmp_path):
    """One mosaic whose raw files may be damaged, processed without complex tiles."""
    folder = tmp_path / "raw"
    others = ("mosaic_002*", "mosaic_003*", "mosaic_004*")
    shutil.copytree(raw, folder, copy_function=os.link, ignore=shutil.ignore_patterns(*others))
    return Project(tmp_path / "p", folder, {"processing__complex": "discard"})


def status(project):
    return json.loads(project.trigger("status", "--format", "json", check=False).stdout)


def explained(project, *ids):
    """The explanation with single spaces."""
    return " ".join(project.trigger("explain", *ids).stdout.split())


def test_from_a_damaged_tile_to_the_result(project):
    project.trigger("scan", "--assume-stable")
    tile = project.raw / RAW
    content, times = tile.read_bytes(), tile.stat()
    tile.unlink()
    tile.write_bytes(content[:5000])
    for attempts in (1, 2, 3):
        if attempts == 3:
            project.snakemake("--", FLAG, check=False)
        else:
            project.stage("process_tiles", "--mosaic", 1, "--batch", 1, check=False)
        (failure,) = status(project)["failures"]
        assert failure["attempts"] == attempts
        assert (failure["next_try"] is None) == (attempts == 3)
    done = project.trigger("status", check=False)
    assert done.returncode == 3
    log = project.dir / "logs/process_tiles/mosaic-01_batch-001.log"
    for text in (
        "FAILED   mosaic 001 batch 001 in process_tiles (data), attempt 3 of 3, set aside",
        str(tile),
        f"log:  {log}",
        "type: optic-trigger scan ",
        "safe to delete raw: no (keep raw: no archive)",
        "watcher  not running",
    ):
        assert text in done.stdout
    told = explained(project, "--mosaic", 1, "--batch", 1)
    assert "process_tiles failed failed (data), attempt 3 of 3, set aside" in told
    assert str(tile) in told
    assert str(tile) in project.trigger("logs", "--mosaic", 1, "--batch", 1).stdout
    happened = project.trigger("logs").stdout.splitlines()
    assert any("batch failed" in line and "(attempt 3)" in line for line in happened)
    # Restored as it was, nothing has to be scanned again.
    tile.write_bytes(content)
    os.utime(tile, ns=(times.st_atime_ns, times.st_mtime_ns))
    done = project.trigger("retry", "--mosaic", 1, "--batch", 1)
    assert "next: snakemake --profile zircon" in done.stdout
    assert status(project)["failures"] == []
    project.snakemake("--", FLAG)
    told = explained(project, "--mosaic", 1, "--batch", 1)
    assert "process_tiles done 2" in told
    assert "mosaic 001 waits for batch 2, 3: 1 of 3 batches processed" in told
    assert status(project)["slices"][0]["mosaics"][0]["percent"] == 33
    assert project.trigger("retry", "--all", check=False).returncode == 3


def test_wrong_raw_files_are_explained(project):
    tile = project.raw / RAW
    twin = tile.with_name("mosaic_001_image_0002_spectral_0009.nii")
    shutil.copy(tile, twin)
    (project.raw / "mosaic_001_image_0005_spectral_0005.nii").unlink()
    project.trigger("scan", "--assume-stable", check=False)
    told = project.trigger("explain", "--mosaic", 1, "--batch", 1).stdout
    assert "is there twice" in told
    assert str(twin) in told
    told = project.trigger("explain", "--mosaic", 1, "--batch", 2).stdout
    assert "2 of 3 tiles, missing 5" in told
    assert told.splitlines()[-1] == "next: optic-trigger watch"
    project.trigger("pause", "--reason", "cutting")
    assert "cutting" in project.trigger("status").stdout
    project.trigger("resume")
    assert "PAUSED" not in project.trigger("status").stdout
