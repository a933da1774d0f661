"""Real file systems: full, read-only, away."""

import gzip
import subprocess

import pytest

from opticstream_smk.errors import ServiceError
from opticstream_smk.io import atomic
from tests.archive.conftest import tree


@pytest.fixture
def mount():
    """Mount something; it is unmounted at the end."""
    mounted = []

    def mount_(folder, *options):
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["mount", *options, str(folder)], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("needs the right to mount")
        mounted.append(folder)

    yield mount_
    for folder in reversed(mounted):
        subprocess.run(["umount", str(folder)], check=False, capture_output=True)


def test_a_disk_that_fills_up_while_a_file_is_written(bench, mount, monkeypatch):
    """Others write to it too: the look before is no promise."""
    mount(bench.folder, "-t", "tmpfs", "-o", "size=148k", "tmpfs")
    monkeypatch.setattr("opticstream_smk.archive.files.check_space", lambda *_: None)
    with pytest.raises(ServiceError, match="the disk is full; free some space and run again"):
        bench.archive()
    # The first file fitted, the second did not: it left nothing.
    assert gzip.decompress(bench.file(1).read_bytes()) == bench.raw_file(1).read_bytes()
    assert not bench.file(2).exists()
    assert not list(bench.folder.glob(".tmp-*"))
    assert bench.flag() is None
    assert bench.flag(state="failed").extra["kind"] == "service"
    subprocess.run(["mount", "-o", "remount,size=10m", str(bench.folder)], check=True)
    before = bench.file(1).stat().st_ino
    bench.archive()
    assert bench.file(1).stat().st_ino == before


def test_a_small_disk_is_refused_before(bench, mount):
    mount(bench.folder, "-t", "tmpfs", "-o", "size=148k", "tmpfs")
    with pytest.raises(ServiceError, match=f"on the file system of {bench.folder}"):
        bench.archive()
    assert not list(bench.folder.glob("*.gz"))


def test_an_archive_that_is_read_only(bench, mount):
    bench.archive()
    before = tree(bench.folder)
    mount(bench.folder, "--bind", str(bench.folder))
    subprocess.run(["mount", "-o", "remount,ro,bind", str(bench.folder)], check=True)
    with pytest.raises(ServiceError, match="the file system is read-only; remount it"):
        bench.archive(1, 2)
    assert tree(bench.folder) == before
    # What is there can be verified all the same.
    assert bench.archive(force=True).flag == "batch-001.archived"


def test_a_disk_that_is_unmounted_between_batches(bench, mount):
    mount(bench.folder, "-t", "tmpfs", "-o", "size=10m", "tmpfs")
    bench.archive()
    subprocess.run(["umount", str(bench.folder)], check=True)
    with pytest.raises(ServiceError, match="is the right disk mounted"):
        bench.archive(1, 2)
    assert list(bench.folder.iterdir()) == []


def test_names_are_synced_too(bench, monkeypatch):
    synced = []
    monkeypatch.setattr(atomic, "sync_folder", lambda folder: synced.append(folder))
    bench.archive()
    # Marker, two files with their checksums, manifest.
    assert synced.count(bench.folder) == 6
