"""Projects with an archive, by snakemake and by the watcher; nothing else changes."""

import gzip
import hashlib
import json
import shutil

import pytest

from tests.e2e.conftest import Project
from tests.e2e.watching import Watch, flags, products
from tests.preflight.conftest import SMALL

# Two mosaics of 2 x 2 small tiles.
FAST = ("--stability-seconds", 0, "--poll-interval", 0.3)


@pytest.fixture(scope="module")
def small_raw(tmp_path_factory):
    root = tmp_path_factory.mktemp("small")
    project = Project(root, root / "raw", SMALL)
    project.trigger("simulate psoct", "--out", project.raw)
    return project.raw


@pytest.fixture(scope="module")
def plain(small_raw, tmp_path_factory):
    """The same project without an archive."""
    project = Project(tmp_path_factory.mktemp("plain"), small_raw, SMALL)
    project.trigger("scan", "--assume-stable")
    project.snakemake()
    return project


def with_archive(root, raw, **overrides):
    return Project(root, raw, {**SMALL, "archive__dir": "archive", **overrides})


def archived(project):
    folder = project.root / "archive"
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.nii.gz"))}


def assert_whole(project, plain):
    batches = ((mosaic, batch) for mosaic in (1, 2) for batch in (1, 2))
    more = {f"mosaic-{m:02d}/state/batch-{b:03d}.archived" for m, b in batches}
    assert flags(project.dir) == flags(plain.dir) | more
    made = products(project.dir)
    assert {name: made[name] for name in made if "/archived/" not in name} == products(plain.dir)
    packed = archived(project).values()
    contents = [hashlib.sha256(gzip.decompress(data)).digest() for data in packed]
    raw = [hashlib.sha256(path.read_bytes()).digest() for path in project.raw.glob("mosaic_*")]
    assert (sorted(contents), len(raw)) == (sorted(raw), 8)


def test_snakemake_archives_every_batch(plain, small_raw, tmp_path):
    assert "safe to delete raw: no (keep raw: no archive)" in plain.trigger("status").stdout
    project = with_archive(tmp_path, small_raw)
    project.trigger("scan", "--assume-stable")
    # The archive alone: nothing is computed for it, and nothing is safe to delete yet.
    goals = [f"mosaic-01/state/batch-00{batch}.archived" for batch in (1, 2)]
    project.snakemake("--", *goals)
    assert len(archived(project)) == 4
    assert not (project.dir / "mosaic-01/processed").exists()
    told = project.trigger("status").stdout
    assert "safe to delete raw: no (keep raw: 0 of 2 batches processed)" in told
    assert "safe to delete raw: no (keep raw: 0 of 2 batches archived)" in told
    project.snakemake()
    assert_whole(project, plain)
    told = project.trigger("status").stdout
    assert told.count("safe to delete raw: yes (all 2 batches archived and processed)") == 2
    project.trigger("doctor")
    verified = project.trigger("verify-archive", "--against-raw").stdout
    assert verified.startswith("8 archived files verified")
    assert "8 raw files compared; 0 faults" in verified


def test_redo_verifies_and_keeps_what_is_there(small_raw, tmp_path):
    project = with_archive(tmp_path, small_raw)
    project.trigger("scan", "--assume-stable")
    goals = [f"mosaic-01/state/batch-00{batch}.archived" for batch in (1, 2)]
    project.snakemake("--", *goals)
    before = archived(project)
    done = project.trigger("redo --from archive_batch --mosaic 1")
    assert done.stdout.count("withdrawn  ") == 2
    assert flags(project.dir).isdisjoint(goals)
    project.snakemake("--", *goals)
    assert archived(project) == before
    # A damaged one is found by it.
    path = next((project.root / "archive").glob("*chunk-0001*normal*.gz"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    project.trigger("redo --from archive_batch --mosaic 1 --batch 1")
    assert project.snakemake("--", *goals, check=False).returncode != 0
    status = project.trigger("status", check=False)
    assert status.returncode == 3
    assert "FAILED   mosaic 001 batch 001 in archive_batch (data)" in status.stdout
    assert "has changed since it was verified" in status.stdout
    log = project.dir / "logs/archive_batch/mosaic-01_batch-001.log"
    assert str(path) in log.read_text()
    assert str(log) in status.stdout
    assert project.trigger("verify-archive", check=False).returncode == 3


def test_the_watcher_goes_on_while_the_archive_is_away(plain, small_raw, tmp_path):
    """The disk of the archive is gone before the first batch; it comes back later."""
    project = with_archive(tmp_path, small_raw)
    folder = project.root / "archive"
    project.trigger("scan", "--assume-stable")
    project.stage("archive_batch", "--mosaic", 2, "--batch", 2)
    folder.rename(project.root / "unmounted")
    folder.mkdir()
    with Watch(project, *FAST) as watch:
        watch.until(lambda: (project.dir / "state/slice-01.registered").exists(), timeout_s=240)
        assert "is the right disk mounted?" in watch.text
        assert list(folder.iterdir()) == []
        folder.rmdir()
        (project.root / "unmounted").rename(folder)
        goal = project.dir / "mosaic-01/state/batch-001.archived"
        watch.until(lambda: goal.exists() and len(archived(project)) == 8, timeout_s=120)
        watch.until(lambda: len([f for f in flags(project.dir) if f.endswith(".archived")]) == 4)
        watch.until((project.dir / "report/slice-01.jpg").exists)
        watch.stop()
    assert_whole(project, plain)


def test_computation_that_fails_leaves_the_archive_alone(small_raw, tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(small_raw, raw)
    project = with_archive(tmp_path, raw)
    (raw / "wave-pixel.mat").unlink()
    project.trigger("scan", "--assume-stable")
    assert project.snakemake(check=False).returncode != 0
    assert len(archived(project)) == 8
    failed = json.loads((project.dir / "mosaic-01/state/batch-001.failed").read_text())
    assert failed["extra"]["flag"] != "batch-001.archived"
    told = project.trigger("status", check=False).stdout
    assert told.count("keep raw: 0 of 2 batches processed") == 2


def test_a_dandiset_is_filled_with_links(small_raw, tmp_path):
    project = with_archive(tmp_path, small_raw, project__name="e2e")
    values = project.config.read_text().replace(
        "dir: project", "dir: project\n  dandiset_dir: dandi"
    )
    project.config.write_text(values)
    project.trigger("scan", "--assume-stable")
    project.snakemake("--", "mosaic-02/state/batch-001.archived")
    shown = tmp_path / "dandi/rawdata/sub-e2e/sample-slice-001_chunk-0001_acq-tilted_OCT.nii.gz"
    assert shown.is_symlink()
    assert (
        gzip.decompress(shown.read_bytes())
        == next(small_raw.glob("mosaic_002_image_0001*")).read_bytes()
    )
    link = next((project.dir / "mosaic-02/archived").glob("*chunk-0001*"))
    assert link.is_symlink()
    assert shown.parent.name in str(link.readlink())
    project.trigger("doctor")
