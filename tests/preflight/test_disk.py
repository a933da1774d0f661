import errno
import fcntl
import os
import tempfile
from pathlib import Path

import pytest

from opticstream_smk.errors import ServiceError
from opticstream_smk.preflight import disk


def test_nothing_stays_behind(tmp_path):
    assert disk.probe(tmp_path / "not" / "there", links=True) is None
    assert list(tmp_path.iterdir()) == []
    assert disk.probe(tmp_path, links=False, speed_bytes=3_000_000) > 0
    assert list(tmp_path.iterdir()) == []


def test_locks_that_exclude_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    with pytest.raises(ServiceError, match="two at a time"):
        disk.probe(tmp_path, links=False)
    assert list(tmp_path.iterdir()) == []


def test_no_locks(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(ServiceError, match="has no file locks"):
        disk.probe(tmp_path, links=False)
    assert list(tmp_path.iterdir()) == []


def test_links_only_where_they_are_needed(tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refuse)
    disk.probe(tmp_path, links=False)
    with pytest.raises(ServiceError, match="no symbolic links"):
        disk.probe(tmp_path, links=True)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk(tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ServiceError, match="the disk is full"):
        disk.probe(tmp_path, links=False, speed_bytes=1)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def closed_folder():
    """A folder of somebody else's, for a user that is not root."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        if os.geteuid() != 0:
            Path(name).chmod(0o555)
            yield Path(name)
            return
        os.seteuid(65534)
        yield Path(name)
        os.seteuid(0)


def test_a_folder_that_is_not_writable(closed_folder):
    with pytest.raises(ServiceError, match="check the owner and the mode"):
        disk.probe(closed_folder / "project", links=False)


def test_space_and_kind(tmp_path):
    here = disk.space(tmp_path / "not there yet")
    assert here.free_bytes > 0
    assert disk.filesystem(Path("/proc")) == "proc"
    assert disk.filesystem(tmp_path / "not there yet") != ""


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "smb3", "fuse.sshfs", "beegfs", "9p"])
def test_network_file_systems(kind):
    assert disk.is_network(kind)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "fuseblk", ""])
def test_local_file_systems(kind):
    assert not disk.is_network(kind)
