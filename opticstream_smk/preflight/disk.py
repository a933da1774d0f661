"""What the disk below a folder is and can: file system, locks, renames, links, speed."""

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from opticstream_smk.errors import ServiceError
from opticstream_smk.io.atomic import write_error
from opticstream_smk.io.disk import existing

# File systems of other hosts. Their changes reach us by looking only: they send no events.
_NETWORK = ("nfs", "cifs", "smb", "9p", "lustre", "beegfs", "gpfs", "ceph", "afs", "glusterfs")
_NETWORK_FUSE = ("fuse.sshfs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.ceph")
_PROBE_BYTES = 256 * 10**6  # longer than the caches of a disk's own controller
_BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class Space:
    """Room on a disk.

    Attributes
    ----------
    free_bytes
        What an ordinary user may still write.
    free_files
        Files that can still be made; None where the file system does not count them.
    """

    free_bytes: int
    free_files: int | None


def space(folder: Path) -> Space:
    """Room on the disk of a folder, which need not exist yet."""
    found = os.statvfs(existing(folder))
    # Btrfs and some network file systems count no inodes and say 0 of 0.
    files = found.f_favail if found.f_files else None
    return Space(found.f_bavail * found.f_frsize, files)


def filesystem(folder: Path) -> str:
    """Type of the file system of a folder, such as ``ext4``; empty where it cannot be told."""
    import psutil

    path = existing(folder).resolve()
    best, kind = -1, ""
    for mount in psutil.disk_partitions(all=True):
        point = Path(mount.mountpoint)
        # The last of several mounts on one point is the one that is seen.
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), mount.fstype
    return kind


def is_network(kind: str) -> bool:
    """Whether a file system lies on another host."""
    return kind.startswith(_NETWORK) or kind in _NETWORK_FUSE


def probe(folder: Path, *, links: bool, speed_bytes: int = 0) -> float | None:
    """Try in a folder what stages do; nothing stays behind.

    Parameters
    ----------
    folder
        It, or the nearest folder above it that exists, is tried.
    links
        Whether symbolic links are needed.
    speed_bytes
        Bytes of a test file (at most 256 MB); 0 for none.

    Returns
    -------
    float or None
        Bytes per second of the test file, synced.

    Raises
    ------
    ServiceError
        It cannot be written, or lacks locks, renames or links.
    """
    place = existing(folder)
    try:
        scratch = Path(tempfile.mkdtemp(prefix=".optic-preflight-", dir=place))
    except OSError as error:
        raise write_error(folder, error) from error
    try:
        first = scratch / "first"
        first.write_bytes(b"first")
        _probe_locks(first)
        _probe_rename(first, scratch / "second")
        if links:
            _probe_link(scratch / "link", scratch / "second")
        return _write_speed(scratch / "speed", speed_bytes) if speed_bytes else None
    except OSError as error:
        raise write_error(folder, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _probe_locks(path: Path) -> None:
    holder, other = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    try:
        try:
            fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ServiceError(
                f"{path.parent.parent} has no file locks (flock: {error.strerror}), by which "
                "stages exclude each other. Mount it with locks (NFS: without nolock), or choose "
                "another project.dir."
            ) from error
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            raise ServiceError(
                f"{path.parent.parent} gives a lock (flock) to two at a time, so that stages "
                "cannot exclude each other. Choose another project.dir, or mount it with locks."
            )
    finally:
        os.close(holder)
        os.close(other)


def _probe_rename(source: Path, target: Path) -> None:
    target.write_bytes(b"old")
    source.replace(target)
    if target.read_bytes() != b"first" or source.exists():
        raise ServiceError(
            f"{target.parent.parent} does not replace a file by renaming another, as every "
            "product is written; choose another project.dir"
        )


def _probe_link(link: Path, target: Path) -> None:
    try:
        link.symlink_to(target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
            raise
        raise ServiceError(
            f"{link.parent.parent} has no symbolic links ({error.strerror}); the tiles that the "
            "acquisition host saves are linked, not copied. Choose another project.dir."
        ) from error


def _write_speed(path: Path, n_bytes: int) -> float:
    block = os.urandom(_BLOCK_BYTES)  # zeros cost nothing on a disk that compresses
    blocks = max(1, min(n_bytes, _PROBE_BYTES) // _BLOCK_BYTES)
    started = time.perf_counter()
    with path.open("wb") as file:
        for _ in range(blocks):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return blocks * _BLOCK_BYTES / (time.perf_counter() - started)
