"""Where on the disks of this host a path lies, or will lie, and what it takes there."""

import os
import stat
from pathlib import Path

# Written last of all: with one of these, a Zarr folder is complete.
_ZARR_MARKERS = ("zarr.json", ".zgroup")


def exists(path: Path) -> bool:
    """Whether a path is there and can be seen: what lies in a closed folder cannot."""
    try:
        path.stat()
    except OSError:
        return False
    return True


def size_on_disk(path: Path) -> int | None:
    """Bytes of a file, or of all files of a Zarr; None when it cannot be seen or is not complete.

    A folder counts only with the metadata that make it a Zarr: they are written last.
    """
    try:
        found = path.stat()
        if not stat.S_ISDIR(found.st_mode):
            return found.st_size
        if not any((path / name).is_file() for name in _ZARR_MARKERS):
            return None
        return _bytes_below(path)
    except OSError:
        return None


def _bytes_below(folder: Path | str) -> int:
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                total += _bytes_below(entry.path)
            else:
                total += entry.stat(follow_symlinks=False).st_size
    return total


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that can be seen."""
    while not exists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder


def mount_point(folder: Path) -> Path:
    """Where the file system of a folder is mounted; the folder need not be there yet."""
    path = existing(folder).resolve()
    while not path.is_mount():
        path = path.parent
    return path
