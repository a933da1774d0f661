import os
import shutil
from pathlib import Path

import pytest

from opticstream_smk.trigger.sources import SourceFolder


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "raw"
    path.mkdir()
    for name in ("b.nii", "a.nii"):
        (path / name).write_text(name)
    return path


@pytest.fixture
def on_device(monkeypatch):
    """Let folders lie on a disk with another device number."""
    real = Path.stat

    def use(path, device):
        def stat(self, **kwargs):
            status = real(self, **kwargs)
            return os.stat_result((*status[:2], device, *status[3:10])) if self == path else status

        monkeypatch.setattr(Path, "stat", stat)

    return use


def names(entries):
    return None if entries is None else [entry.name for entry in entries]


def test_a_folder_is_listed_in_order(folder):
    source = SourceFolder(folder)
    assert names(source.entries()) == ["a.nii", "b.nii"]
    assert source.message is None


def test_a_folder_that_is_not_there_is_away_until_it_comes(tmp_path):
    source = SourceFolder(tmp_path / "later")
    assert source.entries() is None
    assert "cannot be listed (No such file or directory)" in source.message
    assert "acquisition.sources" in source.message
    (tmp_path / "later").mkdir()
    assert source.entries() == []
    assert source.message is None


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "raw").write_text("x")
    source = SourceFolder(tmp_path / "raw")
    assert source.entries() is None
    assert "Not a directory" in source.message


def test_a_listing_that_fails_half_way_is_no_listing(folder, monkeypatch):
    class Broken:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def __iter__(self):
            yield from ()
            raise OSError(5, "Input/output error")

    source = SourceFolder(folder)
    monkeypatch.setattr(os, "scandir", lambda _path: Broken())
    assert source.entries() is None
    assert "Input/output error" in source.message


def test_an_empty_folder_in_its_place_is_away_only_when_something_was_there(folder):
    source = SourceFolder(folder)
    assert len(source.entries()) == 2
    disk = folder.rename(folder.with_name("disk"))
    folder.mkdir()  # the mount point
    assert source.entries(in_use=True) is None
    assert source.entries(in_use=True) is None
    assert "is empty" in source.message
    folder.rmdir()
    disk.rename(folder)
    assert names(source.entries(in_use=True)) == ["a.nii", "b.nii"]
    assert source.message is None
    folder.rename(folder.with_name("disk"))
    folder.mkdir()
    assert source.entries() == []
    assert source.message is None


def test_a_folder_that_somebody_has_emptied_is_empty(folder):
    source = SourceFolder(folder)
    source.entries()
    for path in folder.iterdir():
        path.unlink()
    assert source.entries(in_use=True) == []
    assert source.message is None
    (folder / "a.nii").write_text("again")
    assert names(source.entries(in_use=True)) == ["a.nii"]


def test_another_disk_with_other_files_is_away(folder, on_device):
    source = SourceFolder(folder)
    source.entries()
    on_device(folder, 991)
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "lost+found").mkdir()
    assert source.entries(in_use=True) is None
    assert "on another disk" in source.message
    (folder / "b.nii").write_text("back")
    assert names(source.entries(in_use=True)) == ["b.nii", "lost+found"]
    assert source.message is None


def test_another_disk_with_other_files_stays_away(folder, on_device):
    source = SourceFolder(folder)
    source.entries()
    on_device(folder, 991)
    for path in folder.iterdir():
        path.rename(path.with_suffix(".old"))
    assert source.entries(in_use=True) is None
    assert source.entries(in_use=True) is None


def test_a_share_that_is_mounted_again_may_have_another_device(folder, on_device):
    source = SourceFolder(folder)
    source.entries()
    on_device(folder, 991)
    (folder / "c.nii").write_text("new")
    assert names(source.entries(in_use=True)) == ["a.nii", "b.nii", "c.nii"]


def test_a_disk_that_is_mounted_late_is_taken(folder, on_device):
    source = SourceFolder(folder)
    for path in folder.iterdir():
        path.unlink()
    assert source.entries() == []
    on_device(folder, 991)
    (folder / "a.nii").write_text("x")
    assert names(source.entries()) == ["a.nii"]
