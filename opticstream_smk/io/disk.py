"""Where on the disks of this host a path lies, or will lie."""

from pathlib import Path


def exists(path: Path) -> bool:
    """Whether a path is there and can be seen: what lies in a closed folder cannot."""
    try:
        path.stat()
    except OSError:
        return False
    return True


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
