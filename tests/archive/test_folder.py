"""The right disk is mounted, and has room."""

import json
import subprocess

import pytest

from opticstream_smk.archive.folder import MARKER, archive_folder, check_space
from opticstream_smk.errors import ServiceError
from opticstream_smk.io.disk import mount_point
from opticstream_smk.plan import project_layout


@pytest.fixture
def folder(make_config):
    config = make_config(archive__dir="mnt/archive")
    return archive_folder(config, project_layout(config))


def test_without_a_folder_there_is_none(make_config):
    config = make_config()
    assert archive_folder(config, project_layout(config)) is None


def test_it_is_made_at_its_first_use_and_known_from_then_on(folder):
    assert folder.problem() == ""
    identity = folder.open("p")
    assert json.loads((folder.path / MARKER).read_text())["id"] == identity
    assert folder.open("p") == identity
    assert folder.problem() == ""


@pytest.mark.parametrize(
    ("happened", "told"),
    [
        ("unmounted", f"has no {MARKER}"),
        ("gone", "is not there"),
        ("another", "is another archive"),
    ],
)
def test_a_disk_that_is_away_is_not_filled_from_below(folder, happened, told):
    folder.open("p")
    if happened == "another":
        (folder.path / MARKER).write_text('{"id": "0123"}')
    else:
        folder.path.rename(folder.path.with_name("away"))
        if happened == "unmounted":
            folder.path.mkdir()
    before = list(folder.path.iterdir()) if folder.path.exists() else None
    with pytest.raises(ServiceError) as error:
        folder.open("p")
    assert str(error.value) == folder.problem()
    for part in (folder.path, told, "is the right disk mounted?", folder.layout.archives):
        assert str(part) in str(error.value)
    assert (list(folder.path.iterdir()) if folder.path.exists() else None) == before


def test_it_comes_back(folder):
    identity = folder.open("p")
    away = folder.path.rename(folder.path.with_name("away"))
    assert folder.problem()
    away.rename(folder.path)
    assert folder.open("p") == identity


def test_a_new_disk_is_taken_when_the_old_one_is_forgotten(folder):
    first = folder.open("p")
    folder.path.rename(folder.path.with_name("full"))
    folder.path.mkdir()
    folder.layout.archives.unlink()
    assert folder.open("p") != first


def test_an_archive_keeps_its_identity_elsewhere(make_config, folder):
    identity = folder.open("p")
    folder.path.rename(folder.path.with_name("moved"))
    config = make_config(archive__dir="mnt/moved")
    moved = archive_folder(config, project_layout(config))
    assert moved.open("p") == identity
    # The old place is still known as what it was.
    assert "is not there" in folder.problem()


def test_what_is_known_cannot_be_read(folder):
    folder.open("p")
    folder.layout.archives.write_text("{torn")
    assert "says which archives this project has used" in folder.problem()
    with pytest.raises(ServiceError, match="Restore it"):
        folder.open("p")


def test_a_place_that_cannot_be_written(folder, tmp_path):
    (tmp_path / "mnt").write_text("a file")
    with pytest.raises(ServiceError, match=r"cannot write .*mnt/archive: Not a directory"):
        folder.open("p")


def test_space_names_the_file_system(folder):
    folder.open("p")
    check_space(folder.path, 1000, "a file")
    with pytest.raises(ServiceError) as error:
        check_space(folder.path / "not/yet", 10**18, "a file")
    where = f"a file may take 1000 PB on the file system of {mount_point(folder.path)} (archive"
    assert str(error.value).startswith(where)


def test_a_mount_point_is_found(tmp_path):
    assert mount_point(tmp_path / "not/yet").is_mount()
    mounted = tmp_path / "disk"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mounted)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        assert mount_point(mounted / "a/b") == mounted
    finally:
        subprocess.run(["umount", str(mounted)], check=True)
