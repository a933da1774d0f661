"""Files that are either complete or absent."""

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opticstream_smk.errors import ServiceError

_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space and run again",
    errno.EDQUOT: "the quota is used up; free some space and run again",
    errno.EROFS: "the file system is read-only; remount it or choose another folder",
    errno.EACCES: "no permission; check the owner and the mode of the folder",
    errno.EPERM: "no permission; check the owner and the mode of the folder",
}


@contextmanager
def atomic_path(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is synced and becomes ``path``.

    The temporary name is hidden, keeps the suffix (writers choose the format by it) and is the
    same at every attempt, so that what a killed process left is overwritten by the next one.
    Two writers of one file must exclude each other: stages do, by the lock on their flag.

    Parameters
    ----------
    replace
        Whether a file that is there may be replaced.

    Raises
    ------
    ServiceError
        When the file system refuses; names the file and the remedy. Nothing is left behind.
    FileExistsError
        The file is there and must not be replaced; it was left alone.
    """
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not replace:
            # One who died while it gave the file its name left both, of one and the same file.
            temporary.unlink(missing_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            _publish_new(temporary, path)
        sync_folder(path.parent)
    except _NameTakenError:
        _discard(temporary)
        raise
    except OSError as error:
        # What was written so far is what fills the disk: look before it is removed.
        failure = write_error(path, error)
        _discard(temporary)
        raise failure from error
    except BaseException:
        _discard(temporary)
        raise


def _publish_new(temporary: Path, path: Path) -> None:
    """Give a file its name, unless another one has it."""
    taken = _NameTakenError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise taken from None
    except OSError:
        # No hard links here (exFAT, some network shares): the look and the rename are two steps.
        if path.exists():
            raise taken from None
        temporary.replace(path)
    else:
        temporary.unlink()


class _NameTakenError(FileExistsError):
    """The name that a new file was to have is taken; not any other that is in the way."""


def write_error(path: Path, error: OSError) -> ServiceError:
    """The error for a file that cannot be written, with the remedy for its cause."""
    # NumPy reports a short write without a number.
    code = error.errno or (errno.ENOSPC if _is_full(path.parent) else 0)
    remedy = _REMEDIES.get(code, "check the disk, then run again")
    return ServiceError(f"cannot write {path}: {error.strerror or error}; {remedy}")


def _is_full(folder: Path) -> bool:
    try:
        space = os.statvfs(folder)
    except OSError:
        return False
    return space.f_bavail * space.f_frsize < 2**16  # not even a small file more


def _discard(temporary: Path) -> None:
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems cannot sync a folder; the rename is done all the same.
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a small file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, readable for people."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def write_with(path: Path, writer: Callable[[Path], object]) -> None:
    """Let a library write a file atomically: ``writer`` gets the temporary path."""
    with atomic_path(path) as temporary:
        writer(temporary)


def link_file(source: Path, link: Path) -> None:
    """Make a symbolic link atomically, replacing what is there."""
    temporary = link.with_name(f".tmp-{link.name}")
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(source)
        temporary.replace(link)
    except OSError as error:
        _discard(temporary)
        raise write_error(link, error) from error
